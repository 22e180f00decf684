// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Runs cells in guests: makes kernels and tools, takes what an earlier run saw if that is
//! wanted, and turns every cell into an outcome.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};

use fs_err as fs;
use jiff::Timestamp;

use crate::guest::programs::{self, Program};
use crate::guest::tools::Tool;
use crate::kernel::{self, BootableKernel};
use crate::run::qemu;
use crate::run::runner::{self, Report, Runner};
use crate::run::verdict::{Ending, Kind, Outcome};
use kit::{Cache, Debian, Progress, Result, cargo, process, progress::Screen, setup};

use crate::matrix::data::{Cell, Data, FIRST_TRY, Heading, Run, Seen};
use crate::matrix::plan::{self, OURS, Planned};
use crate::matrix::store::Store;
use crate::matrix::{self, pool};

/// How cells are run.
#[derive(clap::Args)]
pub struct Wanted {
    /// Take what an earlier run saw with the same kernel, tool, scenario and guest
    #[arg(long)]
    pub resume: bool,
    /// Start no guest and make no kernel: only what earlier runs saw; the rest is missing
    #[arg(long = "seen")]
    pub only_seen: bool,
    /// Another wg than ours in the guests: a path, or debian:SUITE
    #[arg(long, value_name = "WG", conflicts_with = "tool")]
    pub wg: Option<String>,
    /// Guests at a time: three for two processors, for they wait a quarter of the time
    #[arg(long, default_value_t = 3)]
    pub jobs: usize,
    /// MiB for all guests together [default: what is available]
    #[arg(long, value_name = "MIB")]
    pub memory: Option<u64>,
}

impl Wanted {
    /// The `--wg` that chooses a tool.
    fn find_choice(&self, tool: &Tool) -> Option<String> {
        let debian = tool.debian.as_ref().map(|suite| format!("debian:{suite}"));
        self.wg.clone().or(debian)
    }

    fn suggest_repeat(&self, planned: &Planned) -> String {
        let wg = self.find_choice(&planned.tool);
        let wg = wg.map(|wg| format!(" --wg {}", process::quote_word(&wg)));
        let wg = wg.unwrap_or_default();
        let [kernel, _, scenario] = planned.get_ids();
        format!("cargo xtask vm run --kernel {kernel} --scenario {scenario}{wg}")
    }
}

/// Beside a guest's own memory, what its QEMU takes (MiB).
const QEMU: u64 = 150;

struct Job<'a> {
    planned: &'a Planned,
    boot: &'a BootableKernel,
    runner: &'a Runner,
    /// None if they could not be told; then nothing is kept either.
    inputs: Option<String>,
}

/// The things that jobs share.
struct Session<'a> {
    wanted: &'a Wanted,
    store: Store,
    commit: String,
    screen: &'a Screen,
    progress: Progress,
}

/// Every cell of the plan with its outcome, and the commands that repeat what failed.
pub fn run_cells(
    cells: &[Planned],
    wanted: &Wanted,
    cache: &Cache,
    screen: &Screen,
) -> Result<(Data, Vec<String>)> {
    let progress = screen.make_progress();
    let runs: Vec<_> = cells.iter().filter(|p| p.is_run()).collect();
    let kernels = list_distinct(&runs, |p| (&p.kernel.name, &p.kernel));
    let mut again = Vec::new();
    let (mut boots, mut made) = (BTreeMap::new(), BTreeMap::new());
    // A missing tool or kernel has no inputs, and nothing was seen with it.
    let as_it_is = cache.forbid_making();
    let cache = if wanted.only_seen { &as_it_is } else { cache };
    if !runs.is_empty() {
        setup::ensure_programs(&kernel::find_needs(&kernels), &progress)?;
    }
    for tool in list_distinct(&runs, |p| (&p.tool.name, &p.tool)) {
        let result = make_tool(&tool, wanted, cache);
        if let (Err(error), false) = (&result, wanted.only_seen) {
            println!("FAILED          all with {}: {error}", tool.name);
        }
        made.insert(tool.name, result);
    }
    for kernel in kernels {
        let result = kernel::prepare_kernel(&kernel, None, cache);
        progress.end_step();
        if let (Err(error), false) = (&result, wanted.only_seen) {
            println!("FAILED          {}/*: {error}", kernel.name);
            again.push(format!("cargo xtask test --kernel {}", kernel.name));
        }
        boots.insert(kernel.name, result);
    }
    let session = Session {
        wanted,
        store: Store::open(cache, matrix::read_committed()?)?,
        commit: matrix::find_commit(),
        screen,
        progress,
    };
    let mut found: BTreeMap<[&str; 3], Seen> = BTreeMap::new();
    let mut jobs = Vec::new();
    for &planned in &runs {
        let (boot, runner) = match (&boots[&planned.kernel.name], &made[&planned.tool.name]) {
            (Ok(boot), Ok((runner, _))) => (boot, runner),
            _ if wanted.only_seen => continue,
            (Err(error), _) | (_, Err(error)) => {
                let outcome = Outcome::new(Ending::HarnessError, format!("not made: {error}"));
                let seen = Seen::from_outcome(outcome, &session.commit);
                found.insert(planned.get_ids(), seen);
                continue;
            }
        };
        let inputs = runner.find_inputs(boot, &planned.scenario).ok();
        let earlier = match &inputs {
            Some(inputs) if wanted.resume || wanted.only_seen => {
                session.store.find_seen(planned.get_ids(), inputs)
            }
            _ => None,
        };
        if let Some(seen) = earlier {
            found.insert(planned.get_ids(), seen);
        } else if !wanted.only_seen {
            jobs.push(Job {
                planned,
                boot,
                runner,
                inputs,
            });
        }
    }
    say_earlier(&found, runs.len());
    // Slow kernels and high limits first, so that the last one does not run alone for long.
    jobs.sort_by_key(|job| Reverse((job.planned.kernel.slow, job.planned.scenario.timeout)));
    for (job, seen) in jobs.iter().zip(session.run_side_by_side(&jobs)) {
        if seen.outcome.get_kind() == Kind::Failed {
            again.push(wanted.suggest_repeat(job.planned));
        }
        found.insert(job.planned.get_ids(), seen);
    }
    let seen = runs.iter().filter_map(|planned| {
        let seen = match found.remove(&planned.get_ids()) {
            None if wanted.only_seen => return None,
            // A cell without a report is not a pass.
            None => Seen::from_outcome(Outcome::new(Ending::HarnessError, "no report of it"), ""),
            Some(seen) => seen,
        };
        let [kernel, tool, scenario] = planned.get_ids().map(str::to_owned);
        Some(Cell {
            kernel,
            tool,
            scenario,
            seen,
        })
    });
    let seen = seen.collect();
    let kernels = list_headings(cells, |Planned { kernel, .. }| Heading {
        version: describe_version(boots.get(&kernel.name), |boot| &boot.version),
        name: kernel.name.clone(),
        attr: kernel.attr,
        ..Heading::default()
    });
    let tools = list_headings(cells, |Planned { tool, .. }| Heading {
        version: describe_version(made.get(&tool.name), |(_, version)| version),
        name: tool.name.clone(),
        title: tool.title.clone(),
        ..Heading::default()
    });
    let scenarios = list_headings(cells, |Planned { scenario, .. }| Heading {
        name: scenario.name.clone(),
        title: scenario.title.clone(),
        ..Heading::default()
    });
    let data = Data {
        kernels,
        tools,
        scenarios,
        cells: seen,
        not_applicable: plan::list_obstacles(cells),
        run: Run {
            commit: session.commit.clone(),
            finished: Timestamp::now(),
            qemu: kernel::read_version(qemu::PROGRAM).unwrap_or_default(),
            ..Run::default()
        },
    };
    Ok((data, again))
}

fn describe_version<T>(made: Option<&Result<T>>, read: impl Fn(&T) -> &String) -> String {
    match made {
        Some(Ok(made)) => read(made).clone(),
        Some(Err(_)) => "not made".into(),
        None => "not run".into(),
    }
}

fn list_headings(cells: &[Planned], of: impl Fn(&Planned) -> Heading) -> Vec<Heading> {
    let mut headings: Vec<Heading> = Vec::new();
    for heading in cells.iter().map(of) {
        if !headings.iter().any(|other| other.name == heading.name) {
            headings.push(heading);
        }
    }
    headings
}

/// Each value once, by name, in the order of the cells.
fn list_distinct<'a, T: Clone + 'a>(
    cells: &[&'a Planned],
    of: impl Fn(&'a Planned) -> (&'a String, &'a T),
) -> Vec<T> {
    let mut names = BTreeSet::new();
    let values = cells.iter().map(|planned| of(planned));
    let values = values.filter(|(name, _)| names.insert(*name));
    values.map(|(_, value)| value.clone()).collect()
}

/// Says what is taken from earlier runs, and how old it is.
fn say_earlier(found: &BTreeMap<[&str; 3], Seen>, runs: usize) {
    let is_good = |seen: &&Seen| seen.outcome.get_kind() != Kind::Failed;
    let times = found.values().filter(is_good).map(|seen| seen.when);
    let times: Vec<_> = times.collect();
    if let (Some(first), Some(last)) = (times.iter().min(), times.iter().max()) {
        let count = format!("{} of {runs} cells", times.len());
        let same = "are as seen before with the same inputs";
        println!("earlier         {count} {same}, from {first} to {last}");
    }
}

/// Builds or fetches a tool, and the runner that puts it into guests.
fn make_tool(tool: &Tool, wanted: &Wanted, cache: &Cache) -> Result<(Runner, String)> {
    let choice = wanted.find_choice(tool);
    // What is shipped; f-lifecycle takes a third less CPU time with it than with a debug build.
    let program = match &choice {
        None => Program::Local(cargo::build_wg("release", &cache.progress)?),
        Some(choice) => programs::find_wg(Some(choice), cache)?,
    };
    let version = match (&program, &tool.debian) {
        (_, Some(suite)) => {
            let debian = Debian::new(cache, &[suite])?;
            let version = debian.find_candidate("wireguard-tools")?;
            format!("wireguard-tools {version}")
        }
        (Program::Local(path), None) => {
            let said = process::capture_output(std::process::Command::new(path).arg("--version"))?;
            said.stdout.lines().next().unwrap_or_default().to_owned()
        }
        _ => choice.unwrap_or_default(),
    };
    let folder = match tool.name.as_str() {
        OURS => runner::find_results_folder(),
        other => runner::find_results_folder().join(format!("with-{other}")),
    };
    Ok((Runner::new(program, cache, folder), version))
}

impl Session<'_> {
    fn run_side_by_side(&self, jobs: &[Job<'_>]) -> Vec<Seen> {
        let sizes = jobs.iter().map(|job| {
            QEMU + u64::from(runner::find_memory(job.boot, Some(&job.planned.scenario)))
        });
        let sizes: Vec<_> = sizes.collect();
        let memory = self.wanted.memory;
        let memory = memory.unwrap_or_else(pool::read_available_memory);
        let (done, bad) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let total = jobs.len();
        self.screen.show_head(&format!("0 of {total}"));
        let reports = pool::run_jobs(&sizes, self.wanted.jobs, memory, |index| {
            let (report, seen) = self.run(&jobs[index]);
            let one = usize::from(report.outcome.get_kind() == Kind::Failed);
            let bad = bad.fetch_add(one, Ordering::Relaxed) + one;
            let done = done.fetch_add(1, Ordering::Relaxed) + 1;
            self.screen
                .show_head(&format!("{done} of {total}, {bad} failed"));
            (report, seen)
        });
        self.screen.show_head("");
        let reports = jobs.iter().zip(reports).map(|(job, (report, seen))| {
            match is_worth_retry(&report.outcome) {
                true => self.run_again(job, &report).unwrap_or(seen),
                false => seen,
            }
        });
        reports.collect()
    }

    /// Runs one, shows what came of it, and keeps it at once: a run that is ended half way has
    /// seen what it has seen.
    fn run(&self, job: &Job<'_>) -> (Report, Seen) {
        let planned = job.planned;
        let name = planned.get_name();
        self.progress.begin_step(&name);
        let report = job.runner.run(job.boot, &planned.scenario, &|_| {});
        self.progress.drop_step();
        let mut seen = Seen::from_report(&report, &self.commit, job.inputs.as_deref());
        if let Some(inputs) = &job.inputs {
            seen.notes
                .extend(self.store.describe_failure(planned.get_ids(), inputs));
            if let Err(error) = self.store.keep_seen(planned.get_ids(), &seen) {
                self.screen
                    .say_line(&format!("not kept for --resume: {error}"));
            }
        }
        let seconds = report.took.as_secs_f64();
        self.screen.print_result(&match report.outcome.ending {
            Ending::Passed => format!("passed          {name} ({seconds:.1} s)"),
            Ending::Skipped => format!("skipped         {name}: {}", report.outcome.get_reason()),
            _ => format!(
                "FAILED          {name} ({seconds:.1} s): {}\n  again: {}\n  logs:  {}",
                report.outcome,
                self.wanted.suggest_repeat(planned),
                report.folder.display()
            ),
        });
        (report, seen)
    }

    /// Repeats once, alone. Both results are printed, and the first one's logs are kept.
    fn run_again(&self, job: &Job<'_>, first: &Report) -> Option<Seen> {
        let kept = first.folder.with_extension("first-try");
        // Where they cannot be kept, the first result stands.
        let _ = fs::remove_dir_all(&kept);
        fs::rename(&first.folder, &kept).ok()?;
        let (report, mut seen) = self.run(job);
        if job.inputs.is_none() {
            // It was not kept, so that the second one could not know.
            seen.notes.push(format!("{FIRST_TRY} {}", first.outcome));
        }
        let (name, first, then) = (job.planned.get_name(), &first.outcome, &report.outcome);
        let logs = format!("the first one's logs: {}", kept.display());
        println!("second try      {name}: first {first}, then {then}; {logs}");
        Some(seen)
    }
}

/// Whether the outcome may be one of the clock or of the harness, and not of what was tested: a
/// busy host says nothing about the kernel. An assertion that does not hold, a splat, a leak or a
/// panic is not tried again: a packet that was seen once was there. A stray int3 is QEMU's
/// (kernel-patches/upstream.md): it executes breakpoints of static branches that are gone.
fn is_worth_retry(outcome: &Outcome) -> bool {
    match outcome.ending {
        Ending::BootTimeout
        | Ending::Silence
        | Ending::ScenarioTimeout
        | Ending::ShutdownTimeout
        | Ending::HarnessError => true,
        // The words of `wait_for` in the guest's library.
        Ending::Failed => outcome.why.starts_with("waited "),
        Ending::Panic => outcome.why.contains("Oops: int3"),
        Ending::Passed | Ending::Skipped | Ending::Splat | Ending::Leak => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_ran_out_of_time_is_tried_again() {
        for (ending, why, expected) in [
            (Ending::Silence, "no verdict", true),
            (Ending::Failed, "waited 20 s in vain", true),
            (Ending::Failed, "3 packets seen", false),
            (Ending::Splat, "WARNING:", false),
            (Ending::Panic, "[ 15.7] Oops: int3: 0000 [#1] PREEMPT", true),
            (Ending::Panic, "Kernel panic - not syncing", false),
            (Ending::Passed, "", false),
        ] {
            let outcome = Outcome::new(ending, why);
            assert_eq!(is_worth_retry(&outcome), expected, "{why}");
            let library = include_str!("../../guest/lib.sh");
            assert!(library.contains("die \"waited "), "wait_for says otherwise");
        }
    }
}
