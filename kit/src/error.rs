// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Why the harness could not do its work. A scenario that fails is not an error: it is a verdict.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug)]
pub enum Error {
    /// A file operation: what was being done to which path.
    Io {
        doing: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    /// A program that could not be started.
    Start { program: String, source: io::Error },
    /// A program that ended badly; `stderr` is the tail of what it said.
    Failed {
        command: String,
        status: String,
        stderr: String,
    },
    /// A data file of ours is wrong: `file:line: text`.
    Data {
        file: PathBuf,
        line: usize,
        text: String,
    },
    /// Anything else: one sentence with the offending value and the remedy.
    Other(String),
}

impl Error {
    pub fn other(text: impl Into<String>) -> Self {
        Self::Other(text.into())
    }

    /// For `map_err`: `fs::read(p).map_err(Error::io("read", p))`.
    pub fn io(doing: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| Self::Io {
            doing,
            path,
            source,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io {
                doing,
                path,
                source,
            } => write!(f, "cannot {doing} `{}': {source}", path.display()),
            Self::Start { program, source } if source.kind() == io::ErrorKind::NotFound => {
                write!(f, "`{program}' is not installed")?;
                match package_of(program) {
                    Some(package) => write!(f, "; install Debian's package `{package}'"),
                    None => Ok(()),
                }
            }
            Self::Start { program, source } => write!(f, "cannot start `{program}': {source}"),
            Self::Failed {
                command,
                status,
                stderr,
            } => {
                write!(f, "`{command}' failed ({status})")?;
                let stderr = stderr.trim();
                if stderr.is_empty() {
                    Ok(())
                } else {
                    write!(f, ":\n{stderr}")
                }
            }
            Self::Data { file, line, text } => write!(f, "{}:{line}: {text}", file.display()),
            Self::Other(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } | Self::Start { source, .. } => Some(source),
            Self::Failed { .. } | Self::Data { .. } | Self::Other(_) => None,
        }
    }
}

/// The Debian package that carries a program we call, for the remedy in a message.
fn package_of(program: &str) -> Option<&'static str> {
    match program {
        "qemu-system-x86_64" => Some("qemu-system-x86"),
        "dpkg-deb" => Some("dpkg"),
        "apt-get" | "apt-cache" | "apt-config" => Some("apt"),
        _ => None,
    }
}
