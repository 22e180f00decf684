// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What guests hold: Debian's userland, the kernel's modules, the `wg` under test.

pub mod initramfs;
pub mod programs;
pub mod tools;
