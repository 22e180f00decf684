// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The verbs: read, plan, apply, print. No bytes and no syntax here.

pub mod conf;
pub mod doctor;
pub mod keys;
pub mod reresolve;
pub mod set;
pub mod show;
pub mod showconf;
pub mod version;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::sync::Arc;

use crate::backend;
use crate::error::{Result, printable};
use crate::model::Update;
use crate::resolve::{self, Say};
use crate::sys;

/// One call of the tool, as a verb sees it.
pub struct Call<'a> {
    /// argv[0], as the reference shows it in its messages.
    pub program: &'a str,
    /// The usage text of the verb.
    pub usage: &'a str,
    pub out: &'a mut Output,
}

/// Where verbs print. A type rather than a trait object: short writes to it are copies, not calls.
pub type Output = BufWriter<Stdout>;

/// Standard output. Where the caller ignores SIGPIPE, as services of systemd do, a reader that is gone
/// is nobody's affair: a C program goes on, and ends as if all had been read.
pub struct Stdout(pub File);

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.0.write(bytes) {
            Err(err) if err.kind() == io::ErrorKind::BrokenPipe && sys::ignores_sigpipe() => {
                Ok(bytes.len())
            }
            written => written,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// One line for the user on stderr.
fn print_note(line: &str) {
    // Nothing is left to be done about a stderr that cannot be written.
    let _ = writeln!(io::stderr(), "{}", printable(line));
}

fn say_from_threads() -> Say {
    Arc::new(print_note)
}

/// Sends `update` to its device and tells the user what that took.
fn apply_update(update: Update) -> Result<()> {
    backend::set(
        update,
        resolve::bind_mode()?,
        resolve::receive_mode()?,
        &mut print_note,
    )
}
