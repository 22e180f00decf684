// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! `vm`: one scenario by hand, a shell in a guest, the tables of both.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use kit::progress::Screen;
use kit::setup;
use kit::{Cache, Result};
use vm_tests::guest::programs;
use vm_tests::guest::tools::Wg;
use vm_tests::kernel::series::Series;
use vm_tests::kernel::{self, BootableKernel, table};
use vm_tests::run::runner::{RunEvent, Runner, find_results_folder};
use vm_tests::run::scenario;
use vm_tests::run::verdict::Ending;

#[derive(Subcommand)]
pub enum VmCommand {
    /// Run one scenario on one kernel and show what it says
    Run {
        #[command(flatten)]
        guest: Guest,
        #[arg(long)]
        scenario: String,
    },
    /// A shell in a booted guest; Ctrl-A X leaves
    Shell {
        #[command(flatten)]
        guest: Guest,
        /// With this scenario's packages and modules
        #[arg(long)]
        scenario: Option<String>,
    },
    /// The kernels and scenarios there are, and which goes with which
    List {
        #[arg(long)]
        kernel: Option<String>,
    },
}

#[derive(Args)]
pub struct Guest {
    #[arg(long)]
    kernel: String,
    /// Another wg than ours: a path, or debian:SUITE
    #[arg(long, value_name = "WG")]
    wg: Option<String>,
    /// Another series than the tree's own, e.g. one with a line taken out
    #[arg(long, value_name = "DIR")]
    series: Option<PathBuf>,
}

impl Guest {
    fn prepare_guest(&self, cache: &Cache, screen: &Screen) -> Result<(BootableKernel, Runner)> {
        let progress = screen.make_progress();
        let kernel = table::find_kernel(&self.kernel)?;
        let needs = kernel::find_needs(std::slice::from_ref(&kernel));
        setup::ensure_programs(&needs, &progress)?;
        let series = self.series.as_deref().map(Series::read).transpose()?;
        let wg = programs::find_wg(self.wg.as_deref(), cache)?;
        let boot = kernel::prepare_kernel(&kernel, series, cache)?;
        Ok((boot, Runner::new(wg, cache, find_results_folder())))
    }
}

pub fn run_vm(command: VmCommand, cache: &Cache, screen: &Screen) -> Result<ExitCode> {
    match command {
        VmCommand::Run { guest, scenario } => run_one(&guest, &scenario, cache, screen),
        VmCommand::Shell { guest, scenario } => {
            let scenario = scenario.as_deref().map(scenario::find_scenario);
            let scenario = scenario.transpose()?;
            let (boot, runner) = guest.prepare_guest(cache, screen)?;
            runner.open_shell(&boot, scenario.as_ref())?;
            Ok(ExitCode::SUCCESS)
        }
        VmCommand::List { kernel } => {
            let kernels = match kernel {
                Some(name) => vec![table::find_kernel(&name)?],
                None => table::read_kernels()?,
            };
            for scenario in scenario::read_scenarios()? {
                println!("{}  {}", scenario.name, scenario.title);
                for kernel in &kernels {
                    match scenario.find_obstacle(kernel, Wg::Ours) {
                        None => println!("    {}", kernel.name),
                        Some(reason) => println!("    {}: not: {reason}", kernel.name),
                    }
                }
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn run_one(guest: &Guest, scenario: &str, cache: &Cache, screen: &Screen) -> Result<ExitCode> {
    let progress = screen.make_progress();
    let scenario = scenario::find_scenario(scenario)?;
    let (boot, runner) = guest.prepare_guest(cache, screen)?;
    if let Some(reason) = scenario.find_obstacle(&boot.kernel, Wg::Ours) {
        // Asked for by name: run it all the same, but say what to expect.
        screen.say_line(&format!("not meant for this kernel: {reason}"));
    }
    progress.begin_step(&format!("boot {}", boot.kernel.name));
    let report = runner.run(&boot, &scenario, &|event| match event {
        RunEvent::Booted => progress.end_step(),
        RunEvent::Line(line) => screen.say_line(&format!("          {line}")),
    });
    progress.end_step();
    for line in report.outcome.why.lines() {
        screen.say_line(&format!("          {line}"));
    }
    let (name, kernel, ending) = (&report.scenario, &report.kernel, &report.outcome.ending);
    let (took, cpu) = (report.took.as_secs_f64(), report.cpu.as_secs_f64());
    let times = format!("{took:.1} s, {cpu:.1} s of CPU");
    let logs = report.folder.display();
    println!("{name} on {kernel}: {ending} ({times}), logs in {logs}");
    Ok(match report.outcome.ending {
        Ending::Passed => ExitCode::SUCCESS,
        Ending::Skipped => ExitCode::from(77),
        _ => ExitCode::FAILURE,
    })
}
