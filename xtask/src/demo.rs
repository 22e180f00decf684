// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! `demo`: the README's first command. Everything is set up, two sites talk through their
//! external VRFs on a stock and on a patched kernel, and a table says what was seen.

use std::process::ExitCode;
use std::thread;
use std::time::Instant;

use kit::progress::Screen;
use kit::setup::{self, For};
use kit::{Cache, Result};
use vm_tests::guest::initramfs::Initramfs;
use vm_tests::guest::programs;
use vm_tests::kernel::{self, table};
use vm_tests::matrix::pool;
use vm_tests::run::runner::{Report, RunEvent, Runner, find_results_folder};
use vm_tests::run::scenario;
use vm_tests::run::verdict::Kind;

/// Scenario and what the table calls its underlay.
const SCENARIOS: [(&str, &str); 2] = [("front-door-v4", "IPv4"), ("front-door-v6", "IPv6")];

/// `result` keys of the scenarios and the head of their column.
const COLUMNS: &[(&str, &str)] = &[
    ("handshake", "handshake"),
    ("ping4", "ping4"),
    ("ping6", "ping6"),
    ("linklocal", "link-local"),
    ("leakfree", "leak-free"),
    ("bound", "how bound"),
];

pub fn run_demo(cache: &Cache, screen: &Screen) -> Result<ExitCode> {
    let (begun, progress) = (Instant::now(), &cache.progress);
    setup::ensure_programs(&[For::Packages], progress)?;
    let stock = table::find_kernel("debian-6.1")?;
    let patched = table::find_kernel("patched-6.1")?;
    // What only waits for the network beside what only computes.
    let (wg, stock, patched) = thread::scope(|scope| {
        let wg = scope.spawn(|| programs::find_wg(None, cache));
        let patched = scope.spawn(|| {
            setup::ensure_programs(&[For::Vm, For::Module], progress)?;
            kernel::prepare_kernel(&patched, None, cache)
        });
        let stock = kernel::prepare_kernel(&stock, None, cache).and_then(|stock| {
            Initramfs::new(cache)?.find_archives(&stock, &[])?;
            Ok(stock)
        });
        let panicked = "a thread of the demo panicked";
        let (wg, patched) = (wg.join().expect(panicked), patched.join().expect(panicked));
        (wg, stock, patched)
    });
    let (wg, stock, patched) = (wg?, stock?, patched?);
    screen.say_line(&format!(
        "kernel    {} as it is, and with wireguard.ko from kernel-patches/6.1",
        stock.read_release().unwrap_or(&stock.version)
    ));
    let runner = Runner::new(wg, cache, find_results_folder());
    // Once, before the machines compete for the processors.
    runner.find_accelerator(&stock)?;
    let names = SCENARIOS.iter().map(|(name, _)| name);
    let scenarios = names.map(|name| scenario::find_scenario(name));
    let scenarios = scenarios.collect::<Result<Vec<_>>>()?;
    let kernels = [&stock, &patched].into_iter();
    let pairs = kernels.flat_map(|k| scenarios.iter().map(move |s| (k, s)));
    let pairs: Vec<_> = pairs.collect();
    let work = |index: usize| {
        let (kernel, scenario) = pairs[index];
        let (name, kernel_name) = (&scenario.name, &kernel.kernel.name);
        progress.begin_step(&format!("boot {kernel_name} for {name}"));
        let report = runner.run(kernel, scenario, &|event| match event {
            RunEvent::Booted => progress.begin_step(&format!("run {name} on {kernel_name}")),
            RunEvent::Line(_) => {}
        });
        progress.end_step();
        report
    };
    let reports = pool::run_jobs(&vec![0; pairs.len()], 2, 0, work);
    println!("\n{}", format_table(&reports).trim_end());
    let is_bad = |report: &&Report| report.outcome.get_kind() != Kind::Passed;
    let bad: Vec<_> = reports.iter().filter(is_bad).collect();
    for report in &bad {
        let (name, kernel, outcome) = (&report.scenario, &report.kernel, &report.outcome);
        let again = report.suggest_repeat();
        println!("\n{name} on {kernel}: {outcome}\n  again: {again}");
        println!("  logs:  {}", report.folder.display());
    }
    println!("\n{:.0} s in all", begun.elapsed().as_secs_f64());
    Ok(ExitCode::from(u8::from(!bad.is_empty())))
}

/// kernel × underlay × what was seen. A cell that said nothing shows a dash.
fn format_table(reports: &[Report]) -> String {
    let heads = COLUMNS.iter().map(|(_, head)| *head);
    let heads = ["kernel", "underlay"].into_iter().chain(heads);
    let mut rows = vec![heads.map(str::to_owned).collect::<Vec<_>>()];
    for report in reports {
        let underlay = SCENARIOS.iter().find(|(name, _)| *name == report.scenario);
        let underlay = underlay.map_or("", |u| u.1);
        let mut row = vec![report.kernel.clone(), underlay.to_owned()];
        row.extend(COLUMNS.iter().map(|(key, _)| {
            let value = report.find_result(key).unwrap_or("-");
            // `wg show` names the device and, in brackets, the way: the way is what differs.
            match *key {
                "bound" if ["-", "none"].contains(&value) => value.to_owned(),
                "bound" if value.contains("fwmark") => format!("policy rules: {value}"),
                "bound" => format!("attribute: {value}"),
                _ => value.to_owned(),
            }
        }));
        rows.push(row);
    }
    kit::screen::align_columns(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_that_said_nothing_shows_a_dash() {
        let bound = ("bound".to_owned(), "vrf_external (fwmark 0x3ff)".to_owned());
        let report = Report {
            kernel: "debian-6.1".into(),
            scenario: "front-door-v6".into(),
            results: vec![("handshake".into(), "1s".into()), bound],
            ..Report::default()
        };
        let text = format_table(&[report]);
        let cells: Vec<_> = text.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(cells[..7], ["debian-6.1", "IPv6", "1s", "-", "-", "-", "-"]);
        let way = "policy rules: vrf_external (fwmark 0x3ff)";
        assert!(text.contains(way), "{text}");
    }
}
