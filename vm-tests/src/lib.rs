// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Boots kernels in QEMU and runs scenarios in them: one verdict for each (kernel, tool, scenario).
//!
//! `kernel` turns a tree and its series into something that boots, `guest` makes what the guest
//! holds, `run` boots it and reads the verdict, `matrix` plans many runs and keeps what was seen.

#[macro_use(bail, println)]
extern crate kit;

pub mod guest;
pub mod kernel;
pub mod matrix;
pub mod run;
mod table;
