// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Runs tests one after the other, with libtest's options and words.

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

/// Runs what the arguments ask for. A run in which every test was ignored has tested nothing, so
/// it fails.
pub fn run_trials(trials: Vec<Trial>) -> ExitCode {
    let mut arguments = Arguments::from_args();
    // All tests share their devices and files.
    arguments.test_threads = Some(1);
    let conclusion = libtest_mimic::run(&arguments, trials);
    if conclusion.num_ignored > 0 && conclusion.num_passed + conclusion.num_failed == 0 {
        eprintln!("error: nothing was tested, see the reasons above");
        return ExitCode::from(101);
    }
    conclusion.exit_code()
}
