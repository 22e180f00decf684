// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Runs tests with libtest's options and words.

use std::process::ExitCode;

use libtest_mimic::{Arguments, Completion, Trial};

/// A test that says at run time why it cannot run here.
pub fn trial<F>(name: &str, run: F) -> Trial
where
    F: FnOnce() -> Result<(), String> + Send + 'static,
{
    Trial::ignorable_test(name, || {
        Ok(match run() {
            Ok(()) => Completion::Completed,
            Err(reason) => Completion::ignored_with(reason),
        })
    })
}

/// Runs the tests that the arguments ask for, so many at a time. A run in which most tests were
/// ignored looks like one that passed and has tested next to nothing, so it fails.
pub fn run_trials(trials: Vec<Trial>, threads: usize) -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(threads);
    let conclusion = libtest_mimic::run(&arguments, trials);
    let ran = conclusion.num_passed + conclusion.num_failed;
    if conclusion.num_ignored > ran {
        let all = conclusion.num_ignored + ran;
        eprintln!("error: only {ran} of {all} tests could run, see the reasons above");
        return ExitCode::from(101);
    }
    conclusion.exit_code()
}
