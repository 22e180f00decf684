// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! One scenario on one kernel: QEMU, what the guest says, the verdict.

mod inputs;
pub mod qemu;
pub mod runner;
pub mod scenario;
pub mod verdict;
