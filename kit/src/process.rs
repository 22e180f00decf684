// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Starts other programs: output caught, or kept in a log whose end is shown on failure.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{Error, Result};

/// The lines of a log that an error repeats.
const TAIL: usize = 25;

/// A command line as a person would type it.
pub fn text(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|a| quote(&a.to_string_lossy())));
    words.join(" ")
}

pub fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%^~".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// What a program that ran to its end left behind.
pub struct Output {
    pub ok: bool,
    pub status: String,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    /// Both streams, for tools that report on either.
    pub fn all(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

/// Runs to the end; a bad exit status is a value here.
pub fn output(command: &mut Command) -> Result<Output> {
    let out = command
        .stdin(Stdio::null())
        .output()
        .map_err(|source| start(command, source))?;
    Ok(Output {
        ok: out.status.success(),
        status: out.status.to_string(),
        stdout: String::from_utf8_lossy(&out.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&out.stderr).into_owned(),
    })
}

/// Runs to the end; stdout, or an error with the end of what was said.
pub fn run(command: &mut Command) -> Result<String> {
    let out = output(command)?;
    if out.ok {
        return Ok(out.stdout);
    }
    Err(Error::Failed {
        command: text(command),
        status: out.status.clone(),
        stderr: tail(&out.all()),
    })
}

/// Runs with both streams going to `log`.
pub fn logged(command: &mut Command, log: &Path) -> Result<()> {
    let file = File::create(log).map_err(Error::io("create", log))?;
    let twin = file.try_clone().map_err(Error::io("open", log))?;
    let status = command
        .stdin(Stdio::null())
        .stdout(file)
        .stderr(twin)
        .status()
        .map_err(|source| start(command, source))?;
    if status.success() {
        return Ok(());
    }
    let said = fs::read(log).map_err(Error::io("read", log))?;
    Err(Error::Failed {
        command: text(command),
        status: status.to_string(),
        stderr: tail(&String::from_utf8_lossy(&said)),
    })
}

/// Runs on our own terminal; whether it ended well.
pub fn passed(command: &mut Command) -> Result<bool> {
    let status = command.status().map_err(|source| start(command, source))?;
    Ok(status.success())
}

/// The path of a program on PATH.
pub fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        // Debian keeps some programs where only root's PATH looks.
        .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")])
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
}

fn start(command: &Command, source: std::io::Error) -> Error {
    Error::Start {
        program: command.get_program().to_string_lossy().into_owned(),
        source,
    }
}

fn tail(text: &str) -> String {
    let lines: Vec<_> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(TAIL)..].join("\n")
}

/// How many jobs a build starts.
pub fn jobs() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_when_a_shell_would_touch_them() {
        assert_eq!(quote("a-b/c=1"), "a-b/c=1");
        assert_eq!(quote("it's"), "'it'\\''s'");
        assert_eq!(quote(""), "''");
    }

    #[test]
    fn a_failure_keeps_the_end_of_the_output() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo why >&2; exit 3"]);
        let error = run(&mut command).unwrap_err().to_string();
        assert!(error.contains("exit status: 3"), "{error}");
        assert!(error.ends_with("why"), "{error}");
    }
}
