// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Those who run `wg`: people (man page, completions) and programs that parse its output.
//!
//! All cases share one namespace in which they may serve userspace devices. The parsers
//! are restated from what the programs do; none of their code is here.

mod bench;
#[path = "../common/namespaces.rs"]
mod namespaces;
mod packages;
mod parsers;
#[path = "../common/run.rs"]
mod run;
mod uapi;
mod words;

use std::process::ExitCode;
use std::sync::Arc;

use bench::{Bench, Skip};
use run::{run_trials, trial};

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
    if std::env::args().nth(1).is_some_and(|arg| arg == "--fetch") {
        return packages::fetch(&bench::cache());
    }
    let bench = match Bench::enter() {
        Ok(bench) => Arc::new(bench),
        Err(status) => return status,
    };
    // One at a time: all cases share their devices and files.
    let trials = CASES.iter().map(|(name, case)| {
        let bench = Arc::clone(&bench);
        trial(name, move || case(&bench).map_err(|Skip(why)| why))
    });
    run_trials(trials.collect(), 1)
}
