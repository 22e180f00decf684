// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Boots kernels in QEMU and runs scenarios in them: one verdict for each (kernel, scenario).
//!
//! The crate owns the packages that guests are made of, the kernels' table, the initramfs, the
//! guest's init, QEMU and the verdict. It does not know how a kernel or a module is built, nor
//! the command line: that is `xtask`, which hands finished files in.

pub mod cache;
pub mod cpio;
pub mod debian;
pub mod error;
pub mod initramfs;
mod inputs;
pub mod kernels;
pub mod programs;
pub mod progress;
pub mod qemu;
pub mod runner;
pub mod scenario;
mod sys;
pub mod tools;
pub mod verdict;

pub use cache::Cache;
pub use debian::Debian;
pub use error::{Error, Result};
pub use kernels::{BootableKernel, Kernel, SourceFiles, SourceFolders};
pub use progress::{Event, Progress};
pub use runner::{Report, RunEvent, Runner, Tool};
pub use scenario::{Cell, Scenario, Wg};
pub use tools::Candidate;
pub use verdict::Outcome;
