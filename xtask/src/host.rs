// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The checks of the sources: what is run, and what its output counts for.

use std::process::Command;

use kit::{Event, Progress, Result};

use crate::test::Count;
use kit::{cargo, process, setup};

/// A check of the sources: its name, what it is, how it is run.
pub struct Host {
    pub name: &'static str,
    pub title: &'static str,
    arguments: &'static [&'static str],
    /// Whether libtest's summaries are counted instead of the exit status alone.
    pub tests: bool,
}

pub const HOST: &[Host] = &[
    Host {
        name: "host/fmt",
        title: "the sources are formatted",
        arguments: &["fmt", "--all", "--check"],
        tests: false,
    },
    Host {
        name: "host/clippy",
        title: "clippy has no warning",
        arguments: &[
            "clippy",
            "--quiet",
            "--workspace",
            "--all-targets",
            "--",
            "--deny=warnings",
        ],
        tests: false,
    },
    Host {
        name: "host/tests",
        title: "unit and integration tests",
        arguments: &["test", "--workspace", "--no-fail-fast"],
        tests: true,
    },
];

pub fn source(check: &Host, progress: &Progress) -> Result<(Count, String)> {
    progress.step(check.title);
    if check.tests {
        // Tests touch no network. What cannot be fetched now is skipped by them, with the reason.
        let mut fetch = cargo::command();
        fetch.args(["test", "--quiet", "--test", "consumers", "--", "--fetch"]);
        let _ = process::output(&mut fetch);
    }
    let mut command: Command = cargo::command();
    command.args(check.arguments);
    // What libtest leaves out needs it; libtest cannot find that out by itself.
    if check.tests && setup::has("cpio") {
        command.args(["--", "--include-ignored"]);
    }
    // The toolchain of this build may miss a component; that is a failure with a remedy.
    let out = process::output(&mut command)?;
    progress.tell(Event::Done);
    let mut count = if check.tests {
        summaries(&out.stdout)
    } else {
        Count::default()
    };
    if !check.tests {
        count.passed = usize::from(out.ok);
    }
    // A test binary that crashes or does not compile prints no summary.
    if !out.ok && count.failed == 0 {
        count.failed = 1;
    }
    Ok((count, out.all()))
}

/// What repeats a check that failed: the failed tests one by one, if it names them.
pub fn repeat(check: &Host, output: &str) -> Vec<String> {
    let whole = || vec![format!("cargo {}", check.arguments.join(" "))];
    if !check.tests {
        return whole();
    }
    let mut names: Vec<_> = output
        .lines()
        .filter_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... FAILED"))
        .map(|name| format!("cargo test --workspace {}", name.trim_end()))
        .collect();
    names.dedup();
    if names.is_empty() { whole() } else { names }
}

/// The tests that were not run: `name: why`.
pub fn skips(output: &str) -> Vec<String> {
    output
        .lines()
        .filter_map(|line| line.strip_prefix("test ")?.split_once(" ... "))
        .filter_map(|(name, end)| {
            // libtest's own words, and those of libtest-mimic, which pads the names.
            let why = end.strip_prefix("ignored, ").or_else(|| {
                let why = end.strip_prefix("ignored (")?;
                why.strip_suffix(')')
            })?;
            Some(format!("{}: {why}", name.trim_end()))
        })
        .collect()
}

/// The sum of libtest's summary lines. Ignored tests were not run: skipped.
fn summaries(output: &str) -> Count {
    let mut count = Count::default();
    for line in output.lines() {
        let Some((_, numbers)) = line
            .strip_prefix("test result: ")
            .and_then(|rest| rest.split_once(". "))
        else {
            continue;
        };
        for part in numbers.split(';') {
            let mut words = part.split_whitespace();
            let (Some(number), Some(word)) = (words.next(), words.next()) else {
                continue;
            };
            let number = number.parse().unwrap_or(0);
            match word {
                "passed" => count.passed += number,
                "failed" => count.failed += number,
                "ignored" => count.skipped += number,
                _ => {}
            }
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_are_added_up() {
        let output = "running 2 tests\n\
                      test result: ok. 12 passed; 0 failed; 3 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\
                      test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out\n";
        let want = Count {
            passed: 13,
            failed: 2,
            skipped: 3,
        };
        assert_eq!(summaries(output), want);
        assert_eq!(summaries("error: could not compile"), Count::default());
    }

    #[test]
    fn what_was_not_run_says_why() {
        let output = "test a::fine ... ok\n\
                      test b::other ... ignored, needs `cpio'\n\
                      test words::zsh   ... ignored (zsh is not installed)\n";
        assert_eq!(
            skips(output),
            ["b::other: needs `cpio'", "words::zsh: zsh is not installed"]
        );
    }

    #[test]
    fn a_failed_test_is_repeated_by_name() {
        let tests = HOST.iter().find(|check| check.tests).unwrap();
        let output = "test a::fine ... ok\ntest b::bad ... FAILED\n";
        assert_eq!(repeat(tests, output), ["cargo test --workspace b::bad"]);
        assert_eq!(
            repeat(tests, "error: could not compile"),
            ["cargo test --workspace --no-fail-fast"]
        );
    }
}
