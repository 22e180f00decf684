// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! `cargo xtask`: the table of commands. Each command's work is in the module of its name.

mod demo;
mod host;
mod patches;
mod test;
mod vm;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use kit::{Cache, Result};

use kit::screen::Screen;
use kit::setup::{self, For};
use vm_tests::kernel::series::Series;
use vm_tests::kernel::trees::Trees;
use vm_tests::{kernel, matrix};

/// Everything this repository does for its people.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Two sites talk through their external VRFs, on a stock and on a patched kernel
    Demo,
    /// Formatting, lints, unit and integration tests, scenarios in guests
    Test(test::Options),
    /// Write docs/results.md from the last whole run of the matrix
    Results(matrix::Options),
    /// Scenarios and guests by hand
    #[command(subcommand)]
    Vm(vm::Vm),
    /// Fetch sources, build patched modules and kernels
    #[command(subcommand)]
    Kernel(Kernel),
    /// Check, refresh, export and post the series of kernel-patches
    #[command(subcommand)]
    Patches(patches::Command),
    /// Install (as root) or name the programs that the other commands need
    Setup,
}

#[derive(Subcommand)]
enum Kernel {
    /// Fetch and unpack a tree's source; prints where it is
    Fetch {
        #[arg(long)]
        tree: String,
    },
    /// Build the patched wireguard.ko for Debian's kernel; prints where it is
    Module {
        #[arg(long)]
        tree: String,
        /// Another series than the tree's own, e.g. one with a line taken out
        #[arg(long, value_name = "DIR")]
        series: Option<PathBuf>,
    },
    /// Build a whole kernel for guests, with the tree's series; prints where it is
    Build {
        #[arg(long)]
        tree: String,
        /// Without the series
        #[arg(long, conflicts_with = "series")]
        vanilla: bool,
        /// With one more fragment of vm-tests/kconfig: debug, no-ipv6
        #[arg(long, value_name = "FRAGMENT")]
        config: Option<String>,
        /// Another series than the tree's own
        #[arg(long, value_name = "DIR")]
        series: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    let args = Args::parse();
    let screen = Screen::new();
    match run(args.command, &screen) {
        Ok(code) => code,
        Err(error) => {
            drop(screen);
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command, screen: &Screen) -> Result<ExitCode> {
    let progress = screen.progress();
    let cache = Cache::open()?;
    match command {
        Command::Demo => return demo::run(&cache, screen),
        Command::Test(options) => return test::run(&options, &cache, screen),
        Command::Results(options) => return matrix::run(&options),
        Command::Vm(command) => return vm::run(command, &cache, screen),
        Command::Setup => {
            setup::ensure(
                &[
                    For::Packages,
                    For::Vm,
                    For::Module,
                    For::Kernel,
                    For::Patches,
                ],
                &progress,
            )?;
            setup::offer(&[For::Reading], &progress);
        }
        Command::Patches(command) => return patches::run(command, screen),
        Command::Kernel(Kernel::Fetch { tree }) => {
            setup::ensure(&[For::Packages], &progress)?;
            let trees = Trees::load()?;
            let source = kernel::source::Source::find(trees.find(&tree)?, &cache, &progress)?;
            println!("{}", source.whole()?.display());
        }
        Command::Kernel(Kernel::Module { tree, series }) => {
            setup::ensure(&[For::Packages, For::Module], &progress)?;
            let trees = Trees::load()?;
            let tree = trees.find(&tree)?;
            let series = read_series(&tree.name, series)?;
            let module = kernel::module::build(tree, &series, &cache, &progress)?;
            println!("{}", module.file.display());
        }
        Command::Kernel(Kernel::Build {
            tree,
            vanilla,
            config,
            series,
        }) => {
            setup::ensure(&[For::Packages, For::Kernel], &progress)?;
            let trees = Trees::load()?;
            let tree = trees.find(&tree)?;
            let series = match vanilla {
                true => None,
                false => Some(read_series(&tree.name, series)?),
            };
            let kernel =
                kernel::image::build(tree, series.as_ref(), config.as_deref(), &cache, &progress)?;
            println!("{}", kernel.image.display());
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The series in `dir`, else the tree's own.
fn read_series(tree: &str, dir: Option<PathBuf>) -> Result<Series> {
    match dir {
        Some(dir) => Series::read(&dir),
        None => Series::of_tree(tree),
    }
}
