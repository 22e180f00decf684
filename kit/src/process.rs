// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Starts other programs: output caught, or kept in a log whose end is shown on failure.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;

use crate::{Error, Result, sys};

/// The lines of a log that an error repeats.
const TAIL: usize = 25;

/// A command line as a person would type it.
pub fn format_command(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|a| quote_word(&a.to_string_lossy())));
    words.join(" ")
}

pub fn quote_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%^~".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// The result of a program that ran to its end.
pub struct Output {
    pub ok: bool,
    pub status: String,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    /// Both streams, for tools that report on either.
    pub fn join_streams(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

/// Runs to the end; a bad exit status is a value here.
pub fn capture_output(command: &mut Command) -> Result<Output> {
    sys::die_with_parent(command);
    let out = command.stdin(Stdio::null()).output();
    let out = out.map_err(|source| explain_start(command, source))?;
    Ok(Output {
        ok: out.status.success(),
        status: out.status.to_string(),
        stdout: String::from_utf8_lossy(&out.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&out.stderr).into_owned(),
    })
}

/// Runs to the end; stdout, or an error with the end of what was said.
pub fn run(command: &mut Command) -> Result<String> {
    let out = capture_output(command)?;
    if out.ok {
        return Ok(out.stdout);
    }
    let said = out.join_streams();
    Err(explain_failure(command, out.status, &said))
}

/// Runs to the end with the streams that the command has: our own, where it says nothing.
pub fn run_to_end(command: &mut Command) -> Result<ExitStatus> {
    let status = command.status();
    status.map_err(|source| explain_start(command, source))
}

/// Runs with both streams going to `log`.
pub fn run_into_log(command: &mut Command, log: &Path) -> Result<()> {
    let file = fs_err::File::create(log)?.into_file();
    let twin = file.try_clone()?;
    sys::die_with_parent(command);
    command.stdin(Stdio::null()).stdout(file).stderr(twin);
    let status = run_to_end(command)?;
    if status.success() {
        return Ok(());
    }
    let said = fs_err::read(log)?;
    let said = String::from_utf8_lossy(&said);
    Err(explain_failure(command, status.to_string(), &said))
}

/// The path of a program on PATH.
pub fn find_program(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        // Debian keeps some programs where only root's PATH looks.
        .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")])
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
}

/// The error of a program that did not start.
pub fn explain_start(command: &Command, source: std::io::Error) -> Error {
    Error::Start {
        program: command.get_program().to_string_lossy().into_owned(),
        source,
    }
}

fn explain_failure(command: &Command, status: String, said: &str) -> Error {
    let lines: Vec<_> = said.trim_end().lines().collect();
    Error::Failed {
        command: format_command(command),
        status,
        output: lines[lines.len().saturating_sub(TAIL)..].join("\n"),
    }
}

/// The number of jobs that a build starts.
pub fn count_jobs() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_when_a_shell_would_touch_them() {
        assert_eq!(quote_word("a-b/c=1"), "a-b/c=1");
        assert_eq!(quote_word("it's"), "'it'\\''s'");
        assert_eq!(quote_word(""), "''");
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
