// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The common ground of the support crates: a cache, other programs, errors, progress, Debian's
//! packages. Nothing here knows of kernels, guests or mails.

#[macro_use]
pub mod error;

pub mod cache;
pub mod cargo;
pub mod debian;
pub mod process;
pub mod progress;
pub mod repo;
pub mod screen;
pub mod setup;
pub mod sys;

pub use cache::Cache;
pub use debian::Debian;
pub use error::{Error, Result};
pub use progress::Progress;
