// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The integration tests of `wg`, in one binary.
//!
//! Most of them talk to scripted userspace devices under /var/run/wireguard. They run in mount and
//! network namespaces of their own, so that nothing of the machine is seen or touched; where
//! those cannot be had, the tests that need them say so and are counted as ignored.
//!
//! Besides the usual filter this binary knows
//!   --record            record tests/golden again from the reference
//!   --fuzz COUNT [SEED] compare both tools on COUNT mutations of the corpus
//!   --compare           compare both tools on the corpus as it is (with an older reference)
//! and for all of them WG_REFERENCE, the command of the reference (see tests/golden/README.md).

mod corpus;
mod dns;
mod fuzz;
mod golden;
mod names;
#[path = "../common/namespaces.rs"]
mod namespaces;
mod process;
mod props;
mod sandbox;
mod tool;
mod uapi;

use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;

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
    let filters: Vec<&String> = args.iter().filter(|arg| !arg.starts_with('-')).collect();
    let tests: Vec<Test> = [
        golden::tests(),
        process::tests(),
        props::tests(),
        names::tests(),
    ]
    .into_iter()
    .flatten()
    .filter(|test| filters.is_empty() || filters.iter().any(|f| test.name.contains(f.as_str())))
    .collect();
    if args.iter().any(|arg| arg == "--list") {
        for test in &tests {
            println!("{}: test", test.name);
        }
        return ExitCode::SUCCESS;
    }
    // The words of the standard harness: other programs count by them.
    println!("\nrunning {} tests", tests.len());
    let (mut passed, mut failed, mut ignored) = (0, 0, 0);
    for test in &tests {
        match panic::catch_unwind(AssertUnwindSafe(test.run)) {
            Ok(Ok(())) => {
                passed += 1;
                println!("test {} ... ok", test.name);
            }
            Ok(Err(reason)) => {
                ignored += 1;
                println!("test {} ... ignored, {reason}", test.name);
            }
            Err(_) => {
                failed += 1;
                println!("test {} ... FAILED", test.name);
            }
        }
    }
    let verdict = if failed == 0 { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {verdict}. {passed} passed; {failed} failed; {ignored} ignored; 0 measured; 0 filtered out\n"
    );
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
