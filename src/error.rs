// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Everything that can go wrong, as one enum; its Display is the message the user reads.

use std::fmt;
use std::io;

/// An error becomes text once, in `main`. Every variant makes `wg` exit with 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// Something the user wrote; the text names the value and says what to do.
    Invalid(String),
    /// The system said no. Shown as `what: strerror`, then the kernel's own words (extack).
    Os {
        what: String,
        /// A positive errno.
        errno: i32,
        extack: Option<String>,
    },
    /// The kernel or the device cannot do what was asked; the text says why and what can.
    Unsupported(String),
    /// Standard output could not be written.
    Output { errno: i32, broken_pipe: bool },
    /// Already said on stderr by the step that failed; only the exit code is left.
    Reported,
}

pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An operating system error with its context.
    pub fn os(what: impl Into<String>, errno: i32) -> Self {
        Error::Os {
            what: what.into(),
            errno,
            extack: None,
        }
    }

    /// A failed write to standard output.
    pub fn output(err: io::Error) -> Self {
        Error::Output {
            errno: err.raw_os_error().unwrap_or(libc::EIO),
            broken_pipe: err.kind() == io::ErrorKind::BrokenPipe,
        }
    }

    /// The same from an `io::Error`.
    pub fn io(what: impl Into<String>, err: &io::Error) -> Self {
        Error::os(what, err.raw_os_error().unwrap_or(libc::EIO))
    }
}

/// `strerror(3)` as the C library words it, without Rust's "(os error N)".
pub fn strerror(errno: i32) -> String {
    let text = io::Error::from_raw_os_error(errno).to_string();
    match text.rfind(" (os error") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

/// A value as an error of one line shows it.
pub fn shown(value: impl fmt::Display) -> String {
    let text = value.to_string();
    text.replace(|c: char| c.is_control(), "?")
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Invalid(text) | Error::Unsupported(text) => f.write_str(text),
            Error::Os {
                what,
                errno,
                extack,
            } => {
                write!(f, "{what}: {}", strerror(*errno))?;
                match extack {
                    Some(words) => write!(f, " ({words})"),
                    None => Ok(()),
                }
            }
            Error::Output { errno, .. } => {
                write!(
                    f,
                    "Unable to write to standard output: {}",
                    strerror(*errno)
                )
            }
            Error::Reported => Ok(()),
        }
    }
}

impl std::error::Error for Error {}
