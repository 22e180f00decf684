// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! `demo`: the README's first command. Everything is set up, two sites talk through their
//! external VRFs on a stock and on a patched kernel, and a table says what was seen.

use std::process::ExitCode;
use std::sync::Mutex;
use std::thread;

use kit::{Cache, Error, Event, Progress, Result};
use vm_tests::guest::initramfs::Initramfs;
use vm_tests::kernel::table;
use vm_tests::run::runner::Report;
use vm_tests::run::runner::RunEvent;
use vm_tests::run::runner::Runner;
use vm_tests::run::runner::Tool;
use vm_tests::run::scenario;

use kit::screen::Screen;
use kit::setup::{self, For};
use vm_tests::{guest, kernel};

const KERNELS: &[&str] = &["debian-6.1", "patched-6.1"];

/// Scenario and what the table calls its underlay.
const SCENARIOS: &[(&str, &str)] = &[("front-door-v4", "IPv4"), ("front-door-v6", "IPv6")];

/// `result` keys of the scenarios and the head of their column.
const COLUMNS: &[(&str, &str)] = &[
    ("handshake", "handshake"),
    ("ping4", "ping4"),
    ("ping6", "ping6"),
    ("linklocal", "link-local"),
    ("leakfree", "leak-free"),
    ("bound", "how bound"),
];

pub fn run(cache: &Cache, screen: &Screen) -> Result<ExitCode> {
    let progress = screen.progress();
    setup::ensure(&[For::Packages], &progress)?;
    let kernels = KERNELS
        .iter()
        .map(|name| table::find(name))
        .collect::<Result<Vec<_>>>()?;
    let (stock, patched) = (&kernels[0], &kernels[1]);
    // The first to come installs, the second finds nothing missing.
    let machine = Mutex::new(());
    let install = || {
        let _alone = machine.lock().expect("no holder panics");
        setup::ensure(&[For::Vm, For::Module], &progress)
    };
    // What only waits for the network beside what only computes.
    let (tool, stock, patched, userland) = thread::scope(|scope| {
        let tool = scope.spawn(|| guest::wg(None, cache, &progress));
        let patched = scope.spawn(|| {
            install()?;
            kernel::bootable(patched, cache, &progress)
        });
        let stock = kernel::bootable(stock, cache, &progress);
        let userland = stock
            .as_ref()
            .ok()
            .map(|stock| warm(stock, cache, &progress, &install));
        (join(tool.join()), stock, join(patched.join()), userland)
    });
    let (tool, stock, patched) = (tool?, stock?, patched?);
    userland.transpose()?;
    screen.say(&format!(
        "kernel    {} as it is, and with wireguard.ko from kernel-patches/6.1",
        stock.release().unwrap_or(&stock.version)
    ));
    let mut pairs = Vec::new();
    for kernel in [stock, patched] {
        for (name, _) in SCENARIOS {
            pairs.push((kernel.clone(), scenario::find(name)?));
        }
    }
    let reports = watch(&pairs, tool, cache, screen, &progress);
    println!();
    print!("{}", table(&reports));
    for report in &reports {
        if let Some(line) = without_sysctl(report) {
            println!("\n{line}");
            break;
        }
    }
    let bad: Vec<_> = reports.iter().filter(|r| !r.outcome.is_passed()).collect();
    for report in &bad {
        println!(
            "\n{} on {}: {}\n  again: {}\n  logs:  {}",
            report.scenario,
            report.kernel,
            report.outcome,
            report.repeat(),
            report.folder.display()
        );
    }
    println!("\n{:.0} s in all", screen.elapsed().as_secs_f64());
    Ok(if bad.is_empty() && reports.len() == pairs.len() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn join<T>(result: thread::Result<Result<T>>) -> Result<T> {
    result.unwrap_or_else(|_| Err(Error::other("a thread of the demo panicked")))
}

/// Makes the guests' userland, and tries KVM with it, while something else is going on.
fn warm(
    stock: &vm_tests::kernel::table::BootableKernel,
    cache: &Cache,
    progress: &Progress,
    install: &impl Fn() -> Result<()>,
) -> Result<()> {
    Initramfs::new(cache, progress)?.archives(stock, &[])?;
    install()?;
    Runner::new(cache, guest::results(), progress)
        .accelerator(stock)
        .map(drop)
}

fn watch(
    pairs: &[(
        vm_tests::kernel::table::BootableKernel,
        vm_tests::run::scenario::Scenario,
    )],
    tool: Tool,
    cache: &Cache,
    screen: &Screen,
    progress: &Progress,
) -> Vec<Report> {
    guest::runner(tool, cache, progress).run_all(pairs, &|event| match event {
        RunEvent::Started { kernel, scenario } => {
            progress.step(&format!("boot {kernel} for {scenario}"));
        }
        RunEvent::Booted {
            kernel, scenario, ..
        } => progress.step(&format!("run {scenario} on {kernel}")),
        RunEvent::Line { .. } => {}
        RunEvent::Finished(report) => {
            progress.tell(Event::Done);
            if !report.outcome.is_passed() {
                screen.say(&format!(
                    "          {} on {}: {}",
                    report.scenario, report.kernel, report.outcome
                ));
            }
        }
    })
}

/// kernel × underlay × what was seen. A cell that said nothing shows a dash.
fn table(reports: &[Report]) -> String {
    let mut rows = vec![vec!["kernel".to_owned(), "underlay".to_owned()]];
    rows[0].extend(COLUMNS.iter().map(|(_, head)| (*head).to_owned()));
    for report in reports {
        let underlay = SCENARIOS
            .iter()
            .find(|(name, _)| *name == report.scenario)
            .map_or(report.scenario.as_str(), |(_, underlay)| underlay);
        let mut row = vec![report.kernel.clone(), underlay.to_owned()];
        row.extend(COLUMNS.iter().map(|(key, _)| {
            let value = report.result(key).unwrap_or("-");
            if *key == "bound" {
                how(value)
            } else {
                value.to_owned()
            }
        }));
        rows.push(row);
    }
    kit::screen::align(&rows)
}

/// `wg show` names the device and, in brackets, the way: the way is what differs.
fn how(bound: &str) -> String {
    match bound {
        "-" | "none" => bound.to_owned(),
        _ if bound.contains("fwmark") => format!("policy rules: {bound}"),
        _ => format!("attribute: {bound}"),
    }
}

/// On a stock kernel the scenario first shows what the administrator's sysctl is for.
fn without_sysctl(report: &Report) -> Option<String> {
    (report.result("without-sysctl")? == "lost").then(|| {
        format!(
            "{}: before net.ipv4.udp_l3mdev_accept=1 was set, nothing that arrived in the VRF reached wg; \
             the patched kernel does not need it.",
            report.kernel
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use vm_tests::run::verdict::Outcome;

    #[test]
    fn a_cell_that_said_nothing_shows_a_dash() {
        let report = Report {
            kernel: "debian-6.1".into(),
            scenario: "front-door-v6".into(),
            title: String::new(),
            outcome: Outcome::Failed("ping".into()),
            results: vec![
                ("handshake".into(), "1s".into()),
                ("bound".into(), "vrf_external (fwmark 0x3ff)".into()),
            ],
            boot: None,
            took: Duration::ZERO,
            cpu: std::time::Duration::ZERO,
            folder: "x".into(),
            notes: Vec::new(),
        };
        let text = table(&[report]);
        let cells: Vec<_> = text.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(
            cells[..7],
            ["debian-6.1", "IPv6", "1s", "-", "-", "-", "-"],
            "{text}"
        );
        assert!(
            text.contains("policy rules: vrf_external (fwmark 0x3ff)"),
            "{text}"
        );
    }
}
