// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! `test`: the README's second command. Everything that can be checked here, counted.
//!
//! Checks of the sources come first, then the cells (kernel/scenario). The last line is always
//! `N passed, N failed, N skipped`; a cell that does not apply is listed with its reason and is
//! neither.

use std::collections::BTreeMap;
use std::process::{Command, ExitCode};
use std::{fs, slice};

use clap::Args;
use vm_tests::{
    BootableKernel, Cache, Cell, Event, Kernel, Outcome, Progress, Report, Result, RunEvent,
    Runner, Scenario, kernels, scenario,
};

use crate::progress::Screen;
use crate::setup::{self, For};
use crate::{cargo, guest, kernel, sh};

/// The kernels of a plain run: what Debian 12 has, as it is and patched.
const USUAL: &[&str] = &["debian-6.1", "patched-6.1"];

#[derive(Args)]
pub struct Options {
    /// Only what contains this: `host/…` or kernel/scenario
    filter: Option<String>,
    /// Name what would run and end
    #[arg(long)]
    list: bool,
    /// Scenarios on this kernel; may be given several times
    #[arg(long, value_name = "NAME")]
    kernel: Vec<String>,
    /// Scenarios on all kernels
    #[arg(long, conflicts_with = "kernel")]
    full: bool,
    /// Another wg than ours in the guests: a path, or debian:SUITE
    #[arg(long, value_name = "WG")]
    wg: Option<String>,
    /// Guests at a time
    #[arg(long, default_value_t = 2)]
    jobs: usize,
}

/// A check of the sources: its name, what it is, how it is run.
struct Host {
    name: &'static str,
    title: &'static str,
    arguments: &'static [&'static str],
    /// Whether libtest's summaries are counted instead of the exit status alone.
    tests: bool,
}

const HOST: &[Host] = &[
    Host {
        name: "host/fmt",
        title: "the sources are formatted",
        arguments: &["fmt", "--all", "--check"],
        tests: false,
    },
    Host {
        name: "host/clippy",
        title: "clippy has no warning",
        arguments: &[
            "clippy",
            "--quiet",
            "--workspace",
            "--all-targets",
            "--",
            "--deny=warnings",
        ],
        tests: false,
    },
    Host {
        name: "host/tests",
        title: "unit and integration tests",
        arguments: &["test", "--workspace", "--no-fail-fast"],
        tests: true,
    },
];

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    passed: usize,
    failed: usize,
    skipped: usize,
}

impl Count {
    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

pub fn run(options: &Options, cache: &Cache, screen: &Screen) -> Result<ExitCode> {
    let progress = screen.progress();
    let wanted = |name: &str| options.filter.as_deref().is_none_or(|f| name.contains(f));
    let host: Vec<_> = HOST.iter().filter(|check| wanted(check.name)).collect();
    let kernels = chosen(options)?;
    let mut cells = Vec::new();
    for kernel in &kernels {
        for scenario in scenario::all()? {
            if wanted(&format!("{}/{}", kernel.name, scenario.name)) {
                cells.push((kernel, scenario));
            }
        }
    }
    if options.list {
        list(&host, &cells);
        return Ok(ExitCode::SUCCESS);
    }
    let mut count = Count::default();
    let mut again = Vec::new();
    if host.iter().any(|check| check.tests) {
        setup::ensure(&[For::Posting], &progress)?;
    }
    for check in &host {
        let (one, output) = source(check, &progress)?;
        if one.failed > 0 {
            eprintln!("{output}");
            again.extend(repeat(check, &output));
        }
        println!("{}", line(check.name, one));
        count.add(one);
    }
    let (apply, not): (Vec<_>, Vec<_>) = cells
        .iter()
        .partition(|(kernel, scenario)| scenario.on(kernel) == Cell::Run);
    if !apply.is_empty() {
        let one = guests(&apply, options, cache, screen, &progress, &mut again)?;
        count.add(one);
    }
    for (kernel, scenario) in not {
        if let Cell::NotApplicable(reason) = scenario.on(kernel) {
            println!(
                "not applicable  {}/{}: {reason}",
                kernel.name, scenario.name
            );
        }
    }
    if host.is_empty() && apply.is_empty() {
        // A filter with a slip of the pen must not look like success.
        eprintln!("nothing matches; cargo xtask test --list names everything");
        count.failed += 1;
    }
    if !again.is_empty() {
        println!("\nagain:");
        for command in &again {
            println!("  {command}");
        }
    }
    println!(
        "\n{} passed, {} failed, {} skipped",
        count.passed, count.failed, count.skipped
    );
    Ok(if count.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn chosen(options: &Options) -> Result<Vec<Kernel>> {
    if options.full {
        return kernels::all();
    }
    if !options.kernel.is_empty() {
        return options.kernel.iter().map(|k| kernels::find(k)).collect();
    }
    // A filter that names a kernel chooses it.
    let named: Vec<_> = kernels::all()?
        .into_iter()
        .filter(|k| {
            options
                .filter
                .as_deref()
                .is_some_and(|f| f.starts_with(&format!("{}/", k.name)) || f == k.name)
        })
        .collect();
    if !named.is_empty() {
        return Ok(named);
    }
    USUAL.iter().map(|name| kernels::find(name)).collect()
}

fn list(host: &[&Host], cells: &[(&Kernel, Scenario)]) {
    let mut rows: Vec<Vec<String>> = host
        .iter()
        .map(|check| vec![check.name.to_owned(), check.title.to_owned()])
        .collect();
    for (kernel, scenario) in cells {
        let name = format!("{}/{}", kernel.name, scenario.name);
        let text = match scenario.on(kernel) {
            Cell::Run => scenario.title.clone(),
            Cell::NotApplicable(reason) => format!("not applicable: {reason}"),
        };
        rows.push(vec![name, text]);
    }
    print!("{}", crate::demo::align(&rows));
}

fn line(name: &str, count: Count) -> String {
    let word = if count.failed > 0 { "FAILED" } else { "passed" };
    let Count {
        passed,
        failed,
        skipped,
    } = count;
    match passed + failed + skipped {
        1 => format!("{word:14}  {name}"),
        _ => format!("{word:14}  {name}: {passed} passed, {failed} failed, {skipped} skipped"),
    }
}

fn source(check: &Host, progress: &Progress) -> Result<(Count, String)> {
    progress.step(check.title);
    let mut command: Command = cargo::command();
    // The toolchain of this build may miss a component; that is a failure with a remedy.
    let out = sh::output(command.args(check.arguments))?;
    progress.tell(Event::Done);
    let mut count = if check.tests {
        summaries(&out.stdout)
    } else {
        Count::default()
    };
    if !check.tests {
        count.passed = usize::from(out.ok);
    }
    // A test binary that crashes or does not compile prints no summary.
    if !out.ok && count.failed == 0 {
        count.failed = 1;
    }
    Ok((count, out.all()))
}

/// What repeats a check that failed: the failed tests one by one, if it names them.
fn repeat(check: &Host, output: &str) -> Vec<String> {
    let whole = || vec![format!("cargo {}", check.arguments.join(" "))];
    if !check.tests {
        return whole();
    }
    let mut names: Vec<_> = output
        .lines()
        .filter_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... FAILED"))
        .map(|name| format!("cargo test --workspace {name}"))
        .collect();
    names.dedup();
    if names.is_empty() { whole() } else { names }
}

/// The sum of libtest's summary lines. Ignored tests were not run: skipped.
fn summaries(output: &str) -> Count {
    let mut count = Count::default();
    for line in output.lines() {
        let Some((_, numbers)) = line
            .strip_prefix("test result: ")
            .and_then(|rest| rest.split_once(". "))
        else {
            continue;
        };
        for part in numbers.split(';') {
            let mut words = part.split_whitespace();
            let (Some(number), Some(word)) = (words.next(), words.next()) else {
                continue;
            };
            let number = number.parse().unwrap_or(0);
            match word {
                "passed" => count.passed += number,
                "failed" => count.failed += number,
                "ignored" | "skipped" => count.skipped += number,
                _ => {}
            }
        }
    }
    count
}

/// Repeats once, alone, what ran out of time: a busy host says nothing about the kernel. An
/// assertion that does not hold, a splat, a leak or a panic is not tried again: a packet that was
/// seen once was there. Both results are printed, and the first one's logs are kept.
fn second_try(
    runner: &Runner,
    pairs: &[(BootableKernel, Scenario)],
    reports: &mut [Report],
    watch: &(dyn Fn(RunEvent<'_>) + Sync),
    progress: &Progress,
) {
    for report in reports.iter_mut().filter(|r| out_of_time(&r.outcome)) {
        let same = |(kernel, scenario): &&(BootableKernel, Scenario)| {
            kernel.kernel.name == report.kernel && scenario.name == report.scenario
        };
        let Some(pair) = pairs.iter().find(same) else {
            continue;
        };
        let kept = report.folder.with_extension("first-try");
        // Where they cannot be kept, the first result stands.
        let _ = fs::remove_dir_all(&kept);
        if fs::rename(&report.folder, &kept).is_err() {
            continue;
        }
        progress.step(&format!("again {}/{}", report.kernel, report.scenario));
        let again = runner.run_all(slice::from_ref(pair), watch).pop();
        progress.tell(Event::Done);
        let Some(again) = again else { continue };
        println!(
            "second try      {}/{}: first {}, then {}; the first one's logs: {}",
            report.kernel,
            report.scenario,
            report.outcome,
            again.outcome,
            kept.display()
        );
        *report = again;
    }
}

/// Whether the outcome is one of the clock, not of what was tested.
fn out_of_time(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::BootTimeout(_)
        | Outcome::Silence(_)
        | Outcome::ScenarioTimeout(_)
        | Outcome::ShutdownTimeout(_)
        | Outcome::HarnessError(_) => true,
        // The words of `wait_for` in the guest's library.
        Outcome::Failed(reason) => reason.starts_with("waited "),
        Outcome::Passed
        | Outcome::Skipped(_)
        | Outcome::Panic(_)
        | Outcome::Splat(_)
        | Outcome::Leak(_) => false,
    }
}

/// Runs the cells; a kernel that cannot be made fails all of its cells, the others still run.
fn guests(
    cells: &[&(&Kernel, Scenario)],
    options: &Options,
    cache: &Cache,
    screen: &Screen,
    progress: &Progress,
    again: &mut Vec<String>,
) -> Result<Count> {
    let mut count = Count::default();
    let mut needed: Vec<Kernel> = Vec::new();
    for (kernel, _) in cells {
        if !needed.iter().any(|k| k.name == kernel.name) {
            needed.push((*kernel).clone());
        }
    }
    let mut needs = kernel::needs(&needed);
    needs.push(For::Vm);
    setup::ensure(&needs, progress)?;
    let tool = guest::wg(options.wg.as_deref(), cache, progress)?;
    let mut boot: BTreeMap<&str, BootableKernel> = BTreeMap::new();
    for kernel in &needed {
        match kernel::bootable(kernel, cache, progress) {
            Ok(bootable) => {
                boot.insert(&kernel.name, bootable);
            }
            Err(error) => {
                progress.tell(Event::Done);
                let lost = cells.iter().filter(|(k, _)| k.name == kernel.name).count();
                println!(
                    "FAILED          {}/* ({lost} scenarios): {error}",
                    kernel.name
                );
                again.push(format!("cargo xtask test {}/", kernel.name));
                count.failed += lost;
            }
        }
    }
    let pairs: Vec<_> = cells
        .iter()
        .filter_map(|(kernel, scenario)| {
            Some((boot.get(kernel.name.as_str())?.clone(), scenario.clone()))
        })
        .collect();
    let total = pairs.len();
    let runner = guest::runner(tool, cache, progress).parallel(options.jobs);
    let wg = match &options.wg {
        Some(wg) => format!(" --wg {}", sh::quote(wg)),
        None => String::new(),
    };
    progress.step(&format!("{total} scenarios"));
    let watch = |event: RunEvent<'_>| {
        if let RunEvent::Finished(report) = event {
            let cell = format!("{}/{}", report.kernel, report.scenario);
            let seconds = report.took.as_secs_f64();
            let text = match &report.outcome {
                Outcome::Passed => format!("passed          {cell} ({seconds:.1} s)"),
                Outcome::Skipped(reason) => format!("skipped         {cell}: {reason}"),
                bad => format!(
                    "FAILED          {cell} ({seconds:.1} s): {bad}\n  again: {}{wg}\n  logs:  {}",
                    report.repeat(),
                    report.folder.display()
                ),
            };
            screen.result(&text);
        }
    };
    let mut reports = runner.run_all(&pairs, &watch);
    progress.tell(Event::Done);
    second_try(&runner, &pairs, &mut reports, &watch, progress);
    for report in &reports {
        match &report.outcome {
            Outcome::Passed => count.passed += 1,
            Outcome::Skipped(_) => count.skipped += 1,
            _ => {
                count.failed += 1;
                again.push(format!("{}{wg}", report.repeat()));
            }
        }
    }
    // A report that is missing is not a pass.
    count.failed += total.saturating_sub(reports.len());
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_are_added_up() {
        let output = "running 2 tests\n\
                      test result: ok. 12 passed; 0 failed; 3 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\
                      test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out\n";
        let want = Count {
            passed: 13,
            failed: 2,
            skipped: 3,
        };
        assert_eq!(summaries(output), want);
        assert_eq!(summaries("error: could not compile"), Count::default());
    }

    #[test]
    fn only_what_ran_out_of_time_is_tried_again() {
        let text = String::from;
        assert!(out_of_time(&Outcome::Silence(text("no verdict"))));
        assert!(out_of_time(&Outcome::Failed(text("waited 20 s in vain"))));
        assert!(!out_of_time(&Outcome::Failed(text("3 packets seen"))));
        assert!(!out_of_time(&Outcome::Splat(vec![text("WARNING:")])));
        assert!(!out_of_time(&Outcome::Passed));
    }

    #[test]
    fn a_failed_test_is_repeated_by_name() {
        let tests = HOST.iter().find(|check| check.tests).unwrap();
        let output = "test a::fine ... ok\ntest b::bad ... FAILED\n";
        assert_eq!(repeat(tests, output), ["cargo test --workspace b::bad"]);
        assert_eq!(
            repeat(tests, "error: could not compile"),
            ["cargo test --workspace --no-fail-fast"]
        );
    }

    #[test]
    fn a_filter_that_names_a_kernel_chooses_it() {
        let options = |filter: &str| Options {
            filter: Some(filter.into()),
            list: false,
            kernel: Vec::new(),
            full: false,
            wg: None,
            jobs: 1,
        };
        let names = |filter: &str| -> Vec<String> {
            let chosen = chosen(&options(filter)).unwrap();
            chosen.into_iter().map(|k| k.name).collect()
        };
        assert_eq!(names("patched-7.3/front"), ["patched-7.3"]);
        assert_eq!(names("front-door"), USUAL);
    }
}
