// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The integration tests of `wg`, in one binary.
//!
//! Most of them talk to scripted userspace devices under /var/run/wireguard. They run in mount and
//! network namespaces of their own, so that nothing of the machine is seen or touched; where
//! those cannot be had, the tests that need them say so and are counted as ignored.
//!
//! Besides libtest's options this binary knows
//!   --record            record tests/golden again from the reference
//!   --fuzz COUNT [SEED] compare both tools on COUNT mutations of the corpus
//!   --compare           compare both tools on the corpus as it is (with an older reference)
//! and for all of them WG_REFERENCE, the command of the reference (see tests/golden/README.md).

mod answers;
mod corpus;
mod dns;
mod fuzz;
mod golden;
mod names;
#[path = "../common/namespaces.rs"]
mod namespaces;
mod process;
mod props;
#[path = "../common/run.rs"]
mod run;
mod sandbox;
mod secrets;
mod streams;
mod tool;
mod uapi;

use std::process::ExitCode;

use crate::run::{run_trials, trial};

/// One test. `Err` is the reason why it could not run.
pub struct Test {
    pub name: &'static str,
    pub run: fn() -> Result<(), String>,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let Some(code) = sandbox::enter() {
        return code;
    }
    match args.first().map(String::as_str) {
        Some("--record") => return golden::record(),
        Some("--fuzz") => return fuzz::main(&args[1..]),
        Some("--compare") => return golden::compare_live(),
        _ => {}
    }
    let tests = [
        golden::tests(),
        process::tests(),
        props::tests(),
        names::tests(),
        answers::tests(),
        streams::tests(),
        secrets::tests(),
    ];
    run_trials(
        tests
            .into_iter()
            .flatten()
            .map(|Test { name, run }| trial(name, run))
            .collect(),
    )
}
