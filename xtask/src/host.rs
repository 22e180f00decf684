// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The checks of the sources: what is run, and what its output counts for.

use std::fmt;

use kit::{Progress, Result, cache::Cache, cargo, process};
use vm_tests::guest::programs::{self, Program};

/// The results of a run, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    pub passed: usize,
    pub failed: usize,
    pub skipped: usize,
}

impl Count {
    pub fn add_count(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (passed, failed, skipped) = (self.passed, self.failed, self.skipped);
        write!(f, "{passed} passed, {failed} failed, {skipped} skipped")
    }
}

/// A check of the sources: its name, what it is, cargo's arguments for it.
pub struct Check {
    pub name: &'static str,
    pub title: &'static str,
    arguments: &'static str,
}

impl Check {
    /// The summaries of test programs are counted instead of the exit status alone.
    pub fn is_tests(&self) -> bool {
        self.arguments.starts_with("test ")
    }
}

/// What only `--full` runs.
pub const LONG: &str = "host/long";

pub const CHECKS: [Check; 4] = [
    Check {
        name: "host/fmt",
        title: "the sources are formatted",
        arguments: "fmt --all --check",
    },
    Check {
        name: "host/clippy",
        title: "clippy has no warning",
        arguments: "clippy --locked --quiet --workspace --all-targets --test long -- --deny=warnings",
    },
    Check {
        name: "host/tests",
        title: "unit and integration tests",
        arguments: "test --locked --workspace --no-fail-fast",
    },
    Check {
        name: LONG,
        title: "fuzzing, both tools beside each other, dependencies",
        arguments: "test --locked --test long",
    },
];

#[derive(Default)]
pub struct Outcome {
    pub count: Count,
    pub output: String,
    /// The tests that were not run: `name: why`.
    pub skips: Vec<String>,
    pub again: Vec<String>,
}

pub fn run_check(check: &Check, progress: &Progress, cache: &Cache) -> Result<Outcome> {
    let mut cargo = cargo::prepare_cargo();
    if check.name == LONG {
        if let Ok(Program::Rooted(root, _)) = programs::find_wg(Some("debian:sid"), cache) {
            cargo.env("WG_ROOT", root);
        }
    }
    progress.begin_step(check.title);
    if check.is_tests() {
        // Tests touch no network. What cannot be fetched now is skipped by them, with the reason.
        let mut fetch = cargo::prepare_cargo();
        fetch.args("test --locked --quiet --test consumers -- --fetch".split(' '));
        let _ = process::capture_output(&mut fetch);
    }
    // The toolchain of this build may miss a component; that is a failure with a remedy.
    let out = process::capture_output(cargo.args(check.arguments.split(' ')))?;
    progress.end_step();
    let mut outcome = read_tests(if check.is_tests() { &out.stdout } else { "" });
    if !check.is_tests() {
        outcome.count.passed = usize::from(out.ok);
    }
    // A test program that crashes or does not compile prints no summary.
    if !out.ok && outcome.count.failed == 0 {
        outcome.count.failed = 1;
    }
    if outcome.count.failed > 0 && outcome.again.is_empty() {
        outcome.again.push(format!("cargo {}", check.arguments));
    }
    outcome.output = out.join_streams();
    Ok(outcome)
}

/// Reads libtest's lines, which have not changed in years: one for each test, and a summary.
fn read_tests(stdout: &str) -> Outcome {
    let mut read = Outcome::default();
    for line in stdout.lines() {
        if let Some(summary) = line.strip_prefix("test result: ") {
            for part in summary.split(['.', ';']) {
                let (number, word) = part.trim().split_once(' ').unwrap_or_default();
                let number: usize = number.parse().unwrap_or(0);
                match word {
                    "passed" => read.count.passed += number,
                    "failed" => read.count.failed += number,
                    // They were not run.
                    "ignored" => read.count.skipped += number,
                    _ => {}
                }
            }
        }
        let test = line.strip_prefix("test ");
        let Some((name, end)) = test.and_then(|rest| rest.split_once(" ... ")) else {
            continue;
        };
        // libtest's own words, and those of libtest-mimic, which pads the names.
        let name = name.trim_end();
        let mimic = end.strip_prefix("ignored (");
        let mimic = mimic.and_then(|why| why.strip_suffix(')'));
        if let Some(why) = mimic.or(end.strip_prefix("ignored, ")) {
            read.skips.push(format!("{name}: {why}"));
        } else if end == "FAILED" {
            let part = ["--workspace", "--test long"][usize::from(name.starts_with("long::"))];
            read.again.push(format!("cargo test {part} {name}"));
        }
    }
    read.again.dedup();
    read
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_programs_are_understood() {
        let read = read_tests(
            "running 2 tests\n\
             test a::fine ... ok\n\
             test b::bad ... FAILED\ntest long::c ... FAILED\n\
             test b::other ... ignored, needs `cpio'\n\
             test words::zsh   ... ignored (zsh is not installed)\n\
             test result: ok. 12 passed; 0 failed; 3 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\
             test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out\n",
        );
        assert_eq!(read.count.to_string(), "13 passed, 2 failed, 3 skipped");
        let skips = ["b::other: needs `cpio'", "words::zsh: zsh is not installed"];
        assert_eq!(read.skips, skips);
        assert_eq!(read.again[0], "cargo test --workspace b::bad");
        assert_eq!(read.again[1..], ["cargo test --test long long::c"]);
        assert_eq!(read_tests("error: broken").count, Count::default());
    }
}
