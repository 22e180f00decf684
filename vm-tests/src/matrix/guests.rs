// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Runs cells in guests: makes kernels and tools, takes what an earlier run saw if that is
//! wanted, and turns every cell into a verdict.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use crate::guest::tools::Candidate;
use crate::kernel::table::BootableKernel;
use crate::kernel::table::Kernel;
use crate::run::runner::{self, Report, RunEvent, Runner, Tool};
use crate::run::scenario::Cell;
use crate::run::verdict::Outcome;
use kit::{Cache, Event, Progress, Result};

use crate::matrix::data::{self, Data, Kind, Seen, Verdict};
use crate::matrix::plan::{self, Planned};
use crate::matrix::pool::{self, Need};
use crate::matrix::store::Store;
use crate::matrix::{self, prior};
use crate::{guest, kernel};
use kit::process;
use kit::screen::Screen;
use kit::setup::{self, For};

pub struct Wanted {
    pub jobs: usize,
    /// MiB for all guests together; none means what is available.
    pub memory: Option<u64>,
    pub resume: bool,
    /// Start no guest: a cell that was not seen before is missing from the data.
    pub only_seen: bool,
    /// `--wg`: instead of the tool that the cells name.
    pub wg: Option<String>,
}

/// Beside a guest's own memory, what its QEMU takes (MiB).
const QEMU: u64 = 150;

struct Made {
    runner: Runner,
    version: String,
}

struct Job<'a> {
    planned: &'a Planned,
    boot: &'a BootableKernel,
    runner: &'a Runner,
    /// None if they could not be told; then nothing is kept either.
    inputs: Option<String>,
}

impl Job<'_> {
    fn seen(&self, report: &Report, when: u64, commit: &str) -> Seen {
        Seen {
            inputs: self.inputs.clone().unwrap_or_default(),
            ..Seen::of(report, when, commit)
        }
    }
}

/// Every cell of the plan with its verdict, and what it was run with.
pub fn run(
    cells: &[Planned],
    wanted: &Wanted,
    cache: &Cache,
    screen: &Screen,
    progress: &Progress,
) -> Result<(Data, Vec<String>)> {
    let runs: Vec<_> = cells.iter().filter(|p| p.cell == Cell::Run).collect();
    let kernels = distinct(&runs, |p| (&p.kernel.name, &p.kernel));
    let tools = distinct(&runs, |p| (&p.tool.name, &p.tool));
    let mut again = Vec::new();
    let mut boots = BTreeMap::new();
    let mut made = BTreeMap::new();
    // What is not there has no inputs, and nothing was seen with it.
    let as_it_is = cache.as_it_is();
    let cache = if wanted.only_seen { &as_it_is } else { cache };
    if !runs.is_empty() {
        let mut needs = kernel::needs(&kernels);
        needs.push(For::Vm);
        setup::ensure(&needs, progress)?;
        for tool in &tools {
            made.insert(tool.name.clone(), make(tool, wanted, cache, progress));
        }
        for kernel in &kernels {
            boots.insert(&*kernel.name, kernel::bootable(kernel, cache, progress));
            progress.tell(Event::Done);
        }
    }
    let store = Store::open(cache, matrix::committed()?)?;
    let (commit, known) = (matrix::commit(), prior::Times::load());
    let mut verdicts: BTreeMap<[&str; 3], Seen> = BTreeMap::new();
    let mut jobs = Vec::new();
    for planned in &runs {
        let (boot, tool) = (&boots[&*planned.kernel.name], &made[&planned.tool.name]);
        let (boot, tool) = match (boot, tool) {
            (Ok(boot), Ok(tool)) => (boot, tool),
            _ if wanted.only_seen => continue,
            (Err(error), _) | (_, Err(error)) => {
                let text = format!("not made: {error}");
                verdicts.insert(planned.ids(), Seen::broken(&text, matrix::now(), &commit));
                continue;
            }
        };
        let inputs = tool.runner.inputs(boot, &planned.scenario).ok();
        if let (true, Some(inputs)) = (wanted.resume || wanted.only_seen, &inputs)
            && let Some(seen) = store.get(planned.ids(), inputs)
        {
            verdicts.insert(planned.ids(), seen);
            continue;
        }
        if wanted.only_seen {
            continue;
        }
        jobs.push(Job {
            planned,
            boot,
            runner: &tool.runner,
            inputs,
        });
    }
    for kernel in kernels.iter().filter(|_| !wanted.only_seen) {
        if let Err(error) = &boots[&*kernel.name] {
            let lost = runs.iter().filter(|p| p.kernel.name == kernel.name).count();
            println!("FAILED          {}/* ({lost} cells): {error}", kernel.name);
            again.push(format!("cargo xtask test --kernel {}", kernel.name));
        }
    }
    for (tool, made) in made.iter().filter(|_| !wanted.only_seen) {
        if let Err(error) = made {
            let lost = runs.iter().filter(|p| p.tool.name == *tool).count();
            println!("FAILED          * with {tool} ({lost} cells): {error}");
        }
    }
    earlier(&verdicts, &runs);
    let seen = side_by_side(&jobs, wanted, &known, &store, &commit, screen, progress);
    for (job, seen) in jobs.iter().zip(seen) {
        if seen.kind() == Kind::Failed {
            again.push(repeat(job.planned, wanted));
        }
        verdicts.insert(job.planned.ids(), seen);
    }
    let version = |kernel: &Kernel| match boots.get(&*kernel.name) {
        Some(Ok(boot)) => boot.version.clone(),
        Some(Err(_)) if wanted.only_seen => "not in the cache".into(),
        Some(Err(_)) => "could not be made".into(),
        None => "not run".into(),
    };
    let all: Vec<_> = cells.iter().collect();
    let data = Data {
        run: BTreeMap::from([
            ("commit".to_owned(), commit),
            ("finished".to_owned(), matrix::now().to_string()),
            (
                "qemu".to_owned(),
                crate::run::qemu::version().unwrap_or_default(),
            ),
            ("jobs".to_owned(), wanted.jobs.to_string()),
            (
                "resumed".to_owned(),
                if wanted.resume || wanted.only_seen {
                    "yes"
                } else {
                    "no"
                }
                .to_owned(),
            ),
        ]),
        kernels: distinct(&all, |p| (&p.kernel.name, &p.kernel))
            .iter()
            .map(|kernel| data::Kernel {
                name: kernel.name.clone(),
                attr: kernel.attr,
                version: version(kernel),
            })
            .collect(),
        tools: distinct(&all, |p| (&p.tool.name, &p.tool))
            .iter()
            .map(|tool| data::Tool {
                name: tool.name.clone(),
                title: tool.title.clone(),
                version: match made.get(&tool.name) {
                    Some(Ok(made)) => made.version.clone(),
                    Some(Err(_)) => "could not be made".into(),
                    None => "not run".into(),
                },
            })
            .collect(),
        scenarios: distinct(&all, |p| (&p.scenario.name, &p.scenario))
            .iter()
            .map(|scenario| data::Scenario {
                name: scenario.name.clone(),
                title: scenario.title.clone(),
            })
            .collect(),
        cells: cells
            .iter()
            .filter_map(|planned| {
                let [kernel, tool, scenario] = planned.ids().map(str::to_owned);
                let verdict = match &planned.cell {
                    Cell::NotApplicable(reason) => Verdict::NotApplicable(reason.clone()),
                    Cell::Run => Verdict::Seen(match verdicts.remove(&planned.ids()) {
                        Some(seen) => seen,
                        None if wanted.only_seen => return None,
                        // A cell that nobody reports on is not a pass.
                        None => Seen::broken("no report of it", matrix::now(), ""),
                    }),
                };
                Some(data::Cell {
                    kernel,
                    tool,
                    scenario,
                    verdict,
                })
            })
            .collect(),
    };
    Ok((data, again))
}

/// Each value once, by name, in the order of the cells.
fn distinct<'a, T: Clone + 'a>(
    cells: &[&'a Planned],
    of: impl Fn(&'a Planned) -> (&'a String, &'a T),
) -> Vec<T> {
    let mut names: Vec<&str> = Vec::new();
    let mut values = Vec::new();
    for planned in cells {
        let (name, value) = of(planned);
        if !names.contains(&name.as_str()) {
            names.push(name);
            values.push(value.clone());
        }
    }
    values
}

/// Says what is taken from earlier runs, and how old it is.
fn earlier(verdicts: &BTreeMap<[&str; 3], Seen>, runs: &[&Planned]) {
    let times: Vec<_> = verdicts
        .values()
        .filter(|seen| seen.kind() != Kind::Failed)
        .map(|seen| seen.when)
        .collect();
    if let (Some(first), Some(last)) = (times.iter().min(), times.iter().max()) {
        println!(
            "earlier         {} of {} cells are as seen before with the same inputs, from {} to {}",
            times.len(),
            runs.len(),
            data::utc(*first),
            data::utc(*last)
        );
    }
}

/// Builds or fetches a tool, and the runner that puts it into guests.
fn make(tool: &Candidate, wanted: &Wanted, cache: &Cache, progress: &Progress) -> Result<Made> {
    let choice = choice(tool, wanted);
    let program = guest::wg(choice.as_deref(), cache, progress)?;
    let version = match (&program, &tool.debian) {
        (_, Some(suite)) => {
            let debian = kit::Debian::new(cache, &[suite], progress)?;
            format!("wireguard-tools {}", debian.candidate("wireguard-tools")?)
        }
        (Tool::Program(path), None) => {
            let said = process::output(std::process::Command::new(path).arg("--version"))?;
            said.stdout.lines().next().unwrap_or_default().to_owned()
        }
        (Tool::Rooted { program, .. }, None) => program.clone(),
    };
    let folder = match tool.name.as_str() {
        plan::OURS => guest::results(),
        other => guest::results().join(format!("with-{other}")),
    };
    Ok(Made {
        runner: Runner::new(cache, folder, progress).tool("wg", program),
        version,
    })
}

/// The `--wg` that chooses a tool.
fn choice(tool: &Candidate, wanted: &Wanted) -> Option<String> {
    let debian = tool.debian.as_ref().map(|suite| format!("debian:{suite}"));
    wanted.wg.clone().or(debian)
}

fn repeat(planned: &Planned, wanted: &Wanted) -> String {
    let wg = match choice(&planned.tool, wanted) {
        Some(wg) => format!(" --wg {}", process::quote(&wg)),
        None => String::new(),
    };
    format!(
        "cargo xtask vm run --kernel {} --scenario {}{wg}",
        planned.kernel.name, planned.scenario.name
    )
}

fn side_by_side(
    jobs: &[Job<'_>],
    wanted: &Wanted,
    known: &prior::Times,
    store: &Store,
    commit: &str,
    screen: &Screen,
    progress: &Progress,
) -> Vec<Seen> {
    let needs: Vec<_> = jobs
        .iter()
        .map(|job| Need {
            memory: QEMU + u64::from(runner::memory(job.boot, &job.planned.scenario)),
            weight: known.seconds(job.planned.ids(), job.planned.scenario.timeout),
        })
        .collect();
    let limits = pool::Limits {
        jobs: wanted.jobs,
        memory: wanted.memory.unwrap_or_else(pool::available),
    };
    let bad = std::sync::atomic::AtomicUsize::new(0);
    screen.head(&format!("0 of {}", jobs.len()));
    let mut reports = pool::run(
        &needs,
        limits,
        |index| {
            let job = &jobs[index];
            progress.step(&job.planned.name());
            let report = job
                .runner
                .run(job.boot, &job.planned.scenario, &|_: RunEvent<'_>| {});
            progress.drop_step();
            if report.outcome.is_bad() {
                bad.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
            keep(job, &report, store, commit, screen);
            show(job.planned, &report, wanted, screen);
            (report, matrix::now())
        },
        |state| {
            let bad = bad.load(std::sync::atomic::Ordering::Relaxed);
            let left = match state.remaining() {
                Some(left) => format!(", about {} min left", left.as_secs().div_ceil(60)),
                None => String::new(),
            };
            screen.head(&format!(
                "{} of {}, {bad} failed{left}",
                state.done, state.total
            ));
        },
    );
    screen.head("");
    for (job, (report, when)) in jobs.iter().zip(&mut reports) {
        if out_of_time(&report.outcome) {
            second_try(job, report, wanted, store, commit, screen, progress);
            *when = matrix::now();
        }
    }
    jobs.iter()
        .zip(&reports)
        .map(|(job, (report, when))| job.seen(report, *when, commit))
        .collect()
}

/// At once: a run that is ended half way has seen what it has seen.
fn keep(job: &Job<'_>, report: &Report, store: &Store, commit: &str, screen: &Screen) {
    let Some(inputs) = &job.inputs else { return };
    let [kernel, tool, scenario] = job.planned.ids().map(str::to_owned);
    let cell = data::Cell {
        kernel,
        tool,
        scenario,
        verdict: Verdict::Seen(job.seen(report, matrix::now(), commit)),
    };
    if let Err(error) = store.put(&cell, inputs) {
        screen.say(&format!("not kept for --resume: {error}"));
    }
}

fn show(planned: &Planned, report: &Report, wanted: &Wanted, screen: &Screen) {
    let name = planned.name();
    let seconds = report.took.as_secs_f64();
    screen.result(&match &report.outcome {
        Outcome::Passed => format!("passed          {name} ({seconds:.1} s)"),
        Outcome::Skipped(reason) => format!("skipped         {name}: {reason}"),
        bad => format!(
            "FAILED          {name} ({seconds:.1} s): {bad}\n  again: {}\n  logs:  {}",
            repeat(planned, wanted),
            report.folder.display()
        ),
    });
}

/// Repeats once, alone, what ran out of time: a busy host says nothing about the kernel. An
/// assertion that does not hold, a splat, a leak or a panic is not tried again: a packet that was
/// seen once was there. Both results are printed, and the first one's logs are kept.
fn second_try(
    job: &Job<'_>,
    report: &mut Report,
    wanted: &Wanted,
    store: &Store,
    commit: &str,
    screen: &Screen,
    progress: &Progress,
) {
    let kept: PathBuf = report.folder.with_extension("first-try");
    // Where they cannot be kept, the first result stands.
    let _ = fs::remove_dir_all(&kept);
    if fs::rename(&report.folder, &kept).is_err() {
        return;
    }
    let name = job.planned.name();
    progress.step(&format!("again {name}"));
    let again = job
        .runner
        .run(job.boot, &job.planned.scenario, &|_: RunEvent<'_>| {});
    progress.drop_step();
    println!(
        "second try      {name}: first {}, then {}; the first one's logs: {}",
        report.outcome,
        again.outcome,
        kept.display()
    );
    keep(job, &again, store, commit, screen);
    show(job.planned, &again, wanted, screen);
    let first = format!("the first try came to: {}", report.outcome);
    *report = again;
    report.notes.push(first);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_ran_out_of_time_is_tried_again() {
        let text = String::from;
        assert!(out_of_time(&Outcome::Silence(text("no verdict"))));
        assert!(out_of_time(&Outcome::Failed(text("waited 20 s in vain"))));
        assert!(!out_of_time(&Outcome::Failed(text("3 packets seen"))));
        assert!(!out_of_time(&Outcome::Splat(vec![text("WARNING:")])));
        assert!(!out_of_time(&Outcome::Passed));
    }
}
