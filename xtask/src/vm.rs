// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! `vm`: one scenario by hand, a shell in a guest, the tables of both.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use kit::{Cache, Progress, Result};
use vm_tests::kernel::table;
use vm_tests::run::runner::RunEvent;
use vm_tests::run::scenario;
use vm_tests::run::scenario::Cell;
use vm_tests::run::verdict::Outcome;

use kit::screen::Screen;
use kit::setup::{self, For};
use vm_tests::kernel::series::Series;
use vm_tests::{guest, kernel};

#[derive(Subcommand)]
pub enum Vm {
    /// Run one scenario on one kernel and show what it says
    Run {
        #[arg(long)]
        kernel: String,
        #[arg(long)]
        scenario: String,
        /// Another wg than ours: a path, or debian:SUITE
        #[arg(long, value_name = "WG")]
        wg: Option<String>,
        /// Another series than the tree's own, e.g. one with a line taken out
        #[arg(long, value_name = "DIR")]
        series: Option<PathBuf>,
    },
    /// A shell in a booted guest; Ctrl-A X leaves
    Shell {
        #[arg(long)]
        kernel: String,
        /// With this scenario's packages and modules
        #[arg(long)]
        scenario: Option<String>,
        #[arg(long, value_name = "WG")]
        wg: Option<String>,
    },
    /// The kernels and scenarios there are, and which goes with which
    List {
        #[arg(long)]
        kernel: Option<String>,
    },
}

pub fn run(command: Vm, cache: &Cache, screen: &Screen) -> Result<ExitCode> {
    let progress = screen.progress();
    match command {
        Vm::Run {
            kernel,
            scenario,
            wg,
            series,
        } => {
            let series = series.as_deref().map(Series::read).transpose()?;
            one(&kernel, &scenario, wg.as_deref(), series, cache, screen)
        }
        Vm::Shell {
            kernel,
            scenario,
            wg,
        } => {
            let kernel = table::find(&kernel)?;
            let scenario = scenario.as_deref().map(scenario::find).transpose()?;
            prepare(&kernel, &progress)?;
            let boot = kernel::bootable(&kernel, cache, &progress)?;
            let tool = guest::wg(wg.as_deref(), cache, &progress)?;
            guest::runner(tool, cache, &progress).shell(&boot, scenario.as_ref())?;
            Ok(ExitCode::SUCCESS)
        }
        Vm::List { kernel } => {
            list(kernel.as_deref())?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn prepare(kernel: &table::Kernel, progress: &Progress) -> Result<()> {
    let mut needs = kernel::needs(std::slice::from_ref(kernel));
    needs.push(For::Vm);
    setup::ensure(&needs, progress)
}

fn one(
    kernel: &str,
    scenario: &str,
    wg: Option<&str>,
    series: Option<Series>,
    cache: &Cache,
    screen: &Screen,
) -> Result<ExitCode> {
    let progress = &screen.progress();
    let kernel = table::find(kernel)?;
    let scenario = scenario::find(scenario)?;
    prepare(&kernel, progress)?;
    let tool = guest::wg(wg, cache, progress)?;
    let boot = kernel::bootable_with(&kernel, series, cache, progress)?;
    if let Cell::NotApplicable(reason) = scenario.on(&kernel) {
        // Asked for by name: run it all the same, but say what to expect.
        screen.say(&format!("not meant for this kernel: {reason}"));
    }
    progress.step(&format!("boot {}", kernel.name));
    let report = guest::runner(tool, cache, progress).run(&boot, &scenario, &|event| match event {
        RunEvent::Booted { .. } => progress.tell(kit::Event::Done),
        RunEvent::Line { line, .. } => screen.say(&format!("          {line}")),
        RunEvent::Started { .. } | RunEvent::Finished(_) => {}
    });
    progress.tell(kit::Event::Done);
    for line in report.outcome.details() {
        screen.say(&format!("          {line}"));
    }
    println!(
        "{} on {}: {} ({:.1} s, {:.1} s of CPU), logs in {}",
        report.scenario,
        report.kernel,
        report.outcome.word(),
        report.took.as_secs_f64(),
        report.cpu.as_secs_f64(),
        report.folder.display()
    );
    Ok(match report.outcome {
        Outcome::Passed => ExitCode::SUCCESS,
        Outcome::Skipped(_) => ExitCode::from(77),
        _ => ExitCode::FAILURE,
    })
}

fn list(only: Option<&str>) -> Result<()> {
    let kernels = match only {
        Some(name) => vec![table::find(name)?],
        None => table::all()?,
    };
    for scenario in scenario::all()? {
        println!("{}  {}", scenario.name, scenario.title);
        for kernel in &kernels {
            match scenario.on(kernel) {
                Cell::Run => println!("    {}", kernel.name),
                Cell::NotApplicable(reason) => println!("    {}: not: {reason}", kernel.name),
            }
        }
    }
    Ok(())
}
