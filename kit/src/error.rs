// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The reasons why a command fails. A scenario that fails is no error: it has an outcome.

use std::io;
use std::path::PathBuf;

pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file operation; the text names the file and the attempt (fs-err writes it).
    #[error(transparent)]
    File(#[from] io::Error),
    /// A program that could not be started.
    #[error("{}", describe_start(program, source))]
    Start { program: String, source: io::Error },
    /// A program that ended badly; `output` is the end of what it said.
    #[error("`{command}' failed ({status}){}{output}", if output.is_empty() { "" } else { ":\n" })]
    Failed {
        command: String,
        status: String,
        output: String,
    },
    /// A data file of ours is wrong.
    #[error("{}:{line}: {text}", file.display())]
    Data {
        file: PathBuf,
        line: usize,
        text: String,
    },
    /// Anything else: one sentence with the offending value and the remedy.
    #[error("{0}")]
    Other(String),
}

/// Returns an error of one sentence.
#[macro_export]
macro_rules! bail {
    ($($text:tt)*) => { return Err($crate::Error::other(format!($($text)*))) };
}

impl Error {
    pub fn in_data(file: impl Into<PathBuf>, line: usize, text: String) -> Self {
        let file = file.into();
        Self::Data { file, line, text }
    }

    pub fn other(text: impl Into<String>) -> Self {
        Self::Other(text.into())
    }
}

/// The message about a program that did not start; the remedy is the Debian package that carries
/// it.
fn describe_start(program: &str, source: &io::Error) -> String {
    if source.kind() != io::ErrorKind::NotFound {
        return format!("cannot start `{program}': {source}");
    }
    let package = match program {
        "qemu-system-x86_64" => "qemu-system-x86",
        "dpkg-deb" => "dpkg",
        "apt-get" | "apt-cache" | "apt-config" => "apt",
        _ => return format!("`{program}' is not installed"),
    };
    format!("`{program}' is not installed; install Debian's package `{package}'")
}
