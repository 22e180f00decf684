// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The integration tests of `wg`, in one binary.
//!
//! Most of them talk to scripted userspace devices under /var/run/wireguard. Each test is a process
//! in mount and network namespaces of its own. It sees and touches nothing of the machine or of
//! another test, so tests run at the same time. Where the system allows no namespaces, the tests
//! that need them say so and are counted as ignored.
//!
//! Besides libtest's options this binary knows
//!   --record            record tests/golden again from the reference
//!   --fuzz COUNT [SEED] compare both tools on COUNT mutations of the corpus
//!   --measure           write docs/performance.md from both tools side by side (cargo xtask bench)
//!   --compare           compare both tools on the corpus as it is (with an older reference)
//! and for all of them WG_REFERENCE, the command of the reference (see tests/golden/README.md).

mod answers;
mod corpus;
mod dns;
mod fuzz;
mod golden;
mod measure;
mod names;
#[path = "../common/namespaces.rs"]
mod namespaces;
mod process;
mod props;
mod rights;
#[path = "../common/run.rs"]
mod run;
mod sandbox;
mod secrets;
mod streams;
mod tool;
mod uapi;

use std::num::NonZero;
use std::process::ExitCode;
use std::thread;

use crate::run::{run_trials, trial};

/// One test. `Err` is the reason why it could not run.
pub struct Test {
    pub name: &'static str,
    pub run: fn() -> Result<(), String>,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let mode = args.first().map(String::as_str).unwrap_or_default();
    if ["--record", "--fuzz", "--measure", "--compare"].contains(&mode) {
        // Not inside, where the compiler has no linker.
        if mode == "--measure" && !sandbox::is_inside() {
            measure::build_ours();
        }
        if let Some(code) = sandbox::enter() {
            return code;
        }
        return match mode {
            "--record" => golden::record(),
            "--measure" => measure::main(),
            "--fuzz" => fuzz::main(&args[1..]),
            _ => golden::compare_live(),
        };
    }
    let tests = [
        // Names first: they wait for their retries while others compute.
        names::tests(),
        streams::tests(),
        golden::tests(),
        process::tests(),
        props::tests(),
        answers::tests(),
        rights::tests(),
        secrets::tests(),
    ];
    let mut tests = tests.into_iter().flatten();
    if sandbox::is_inside() {
        let test = tests.find(|test| test.name == mode);
        return sandbox::run_test(&test.expect("the name of a test"));
    }
    let trials = tests.map(|Test { name, .. }| trial(name, || sandbox::run_in_own(name)));
    // More than processors, because some wait.
    let threads = 2 * thread::available_parallelism().map_or(1, NonZero::get);
    run_trials(trials.collect(), threads)
}
