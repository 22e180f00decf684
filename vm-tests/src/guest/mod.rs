// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The contents of guests: Debian's userland, the kernel's modules, the `wg` under test.

pub mod initramfs;
pub mod programs;
pub mod tools;
