// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Those who run `wg`: people (man page, completions) and programs that parse its output.
//!
//! Runs without libtest, because a case that cannot run here has to be counted as skipped, and
//! because all cases share one namespace in which they may serve userspace devices. The parsers
//! are restated from what the programs do; none of their code is here.

mod bench;
#[path = "../common/namespaces.rs"]
mod namespaces;
mod packages;
mod parsers;
mod uapi;
mod words;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use bench::{Bench, Skip};

type Case = (&'static str, fn(&Bench) -> Result<(), Skip>);

const CASES: &[Case] = &[
    ("words::man_page", words::man_page),
    ("words::man_page_lint", words::man_page_lint),
    ("words::man_page_headings", words::man_page_headings),
    ("words::environment", words::environment),
    ("words::bash", words::bash),
    ("words::zsh", words::zsh),
    ("words::fish", words::fish),
    ("parsers::vyos", parsers::vyos),
    ("parsers::vyos_commands", parsers::vyos_commands),
    ("parsers::vyos_greps", parsers::vyos_greps),
    ("parsers::prometheus", parsers::prometheus),
    ("parsers::luci", parsers::luci),
    ("parsers::luci_keys", parsers::luci_keys),
    ("parsers::wg_easy", parsers::wg_easy),
    ("parsers::pivpn", parsers::pivpn),
    ("parsers::wg_json", parsers::wg_json),
    ("parsers::json_hides_keys", parsers::json_hides_keys),
    ("parsers::json_documented", parsers::json_documented),
    ("parsers::openwrt", parsers::openwrt),
    ("parsers::firewalla", parsers::firewalla),
    ("parsers::ifupdown2_keys", parsers::ifupdown2_keys),
    ("parsers::interfaces", parsers::interfaces),
    ("packages::wg_quick_strip", packages::wg_quick_strip),
    ("packages::wg_quick_save", packages::wg_quick_save),
    ("packages::wg_quick_reload", packages::wg_quick_reload),
    ("packages::jc", packages::jc),
    ("packages::jq", packages::jq),
];

fn main() -> ExitCode {
    // `--nocapture` and the like are libtest's; a bare word is a filter.
    let filter = std::env::args().skip(1).find(|arg| !arg.starts_with('-'));
    let cases: Vec<&Case> = CASES
        .iter()
        .filter(|(name, _)| {
            filter
                .as_ref()
                .is_none_or(|part| name.contains(part.as_str()))
        })
        .collect();
    if std::env::args().any(|arg| arg == "--list") {
        for (name, _) in cases {
            println!("{name}: test");
        }
        return ExitCode::SUCCESS;
    }
    let bench = match Bench::enter() {
        Ok(bench) => bench,
        Err(status) => return status,
    };

    println!("\nrunning {} tests", cases.len());
    let (mut passed, mut failed, mut skipped) = (0, Vec::new(), 0);
    for (name, case) in cases {
        match catch_unwind(AssertUnwindSafe(|| case(&bench))) {
            Ok(Ok(())) => {
                println!("test {name} ... ok");
                passed += 1;
            }
            Ok(Err(Skip(why))) => {
                println!("test {name} ... skipped: {why}");
                skipped += 1;
            }
            Err(_) => {
                println!("test {name} ... FAILED");
                failed.push(*name);
            }
        }
    }
    let verdict = if failed.is_empty() { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {verdict}. {passed} passed; {} failed; {skipped} skipped",
        failed.len()
    );
    for name in &failed {
        println!("  again: cargo test --test consumers -- {name}");
    }
    ExitCode::from(u8::from(!failed.is_empty()))
}
