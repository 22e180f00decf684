// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The one system call that has to be made between fork and exec; the only unsafe code of the
//! crate.
#![allow(unsafe_code)]

use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Signal, set_parent_process_death_signal};

/// The child is killed when the thread that starts it ends: no orphan survives a killed run.
pub fn die_with_parent(command: &mut Command) {
    // SAFETY: prctl is async-signal-safe and touches nothing of the parent's memory.
    unsafe {
        command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::KILL))?));
    }
}
