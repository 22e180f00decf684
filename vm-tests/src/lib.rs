// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Boots kernels in QEMU and runs scenarios in them: one verdict for each (kernel, scenario).
//!
//! The crate owns the packages that guests are made of, the kernels' table, the initramfs, the
//! guest's init, QEMU and the verdict. It does not know how a kernel or a module is built, nor
//! the command line: that is `xtask`, which hands finished files in.

pub mod cache;
pub mod debian;
pub mod error;
pub mod kernels;
pub mod progress;
mod sys;

pub use cache::Cache;
pub use debian::Debian;
pub use error::{Error, Result};
pub use kernels::{BootableKernel, Kernel};
pub use progress::{Event, Progress};
