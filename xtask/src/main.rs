// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! `cargo xtask`: the table of commands. Each command's work is in the module of its name.

#[macro_use(bail, println)]
extern crate kit;

mod demo;
mod host;
mod patches;
mod test;
mod vm;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use kit::progress::Screen;
use kit::setup::{self, For};
use kit::{Cache, Result, cargo, process, repo};
use vm_tests::guest::programs::{self, Program};
use vm_tests::kernel::series::Series;
use vm_tests::kernel::source::Source;
use vm_tests::kernel::trees::Trees;
use vm_tests::kernel::{image, module};
use vm_tests::matrix;

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
    /// Measure wg beside Debian's C tool, for docs/performance.md
    Bench,
    /// Scenarios and guests by hand
    #[command(subcommand)]
    Vm(vm::VmCommand),
    /// Fetch sources, build patched modules and kernels
    #[command(subcommand)]
    Kernel(KernelCommand),
    /// Debian packages of wg and of patched modules, in target/packages; `-- --help` has the options
    Package { arguments: Vec<String> },
    /// Check, refresh, export and post the series of kernel-patches
    #[command(subcommand)]
    Patches(patches::Command),
    /// Install (as root) or name the programs that the other commands need
    Setup,
}

#[derive(Subcommand)]
enum KernelCommand {
    /// Fetch and unpack a tree's source; prints where it is
    Fetch {
        #[arg(long)]
        tree: String,
    },
    /// Build the patched wireguard.ko, for Debian's kernel or your own; prints where it is
    Module {
        /// The tree of kernel-patches [default for your own kernel: the one that fits its source]
        #[arg(long, required_unless_present = "source")]
        tree: Option<String>,
        /// Another series than the tree's own, e.g. one with a line taken out
        #[arg(long, value_name = "DIR")]
        series: Option<PathBuf>,
        /// The source of your own kernel: VyOS, Ubuntu, OpenWrt, any other
        #[arg(long, value_name = "DIR")]
        source: Option<PathBuf>,
        /// Its headers, /lib/modules/RELEASE/build [default: the source, where it was built]
        #[arg(long, value_name = "DIR", requires = "source")]
        headers: Option<PathBuf>,
        /// Other headers of Debian than the tree's, and where from: linux-headers-amd64 trixie
        #[arg(conflicts_with = "source")]
        package: Vec<String>,
    },
    /// Build a whole kernel for guests, with the tree's series; prints where it is
    Build {
        #[arg(long)]
        tree: String,
        /// Another series than the tree's own, e.g. one with a line taken out
        #[arg(long, value_name = "DIR")]
        series: Option<PathBuf>,
        /// Without the series
        #[arg(long, conflicts_with = "series")]
        vanilla: bool,
        /// With one more fragment of vm-tests/kconfig: debug, no-ipv6
        #[arg(long, value_name = "FRAGMENT")]
        config: Option<String>,
    },
}

fn read_series(tree: &str, folder: Option<&Path>) -> Result<Series> {
    folder.map_or_else(|| Series::read_tree(tree), Series::read)
}

fn main() -> ExitCode {
    let args = Args::parse();
    let screen = Screen::default();
    match run_command(args.command, &screen) {
        Ok(code) => code,
        Err(error) => {
            drop(screen);
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run_command(command: Command, screen: &Screen) -> Result<ExitCode> {
    let cache = Cache::open(screen.make_progress())?;
    let progress = &cache.progress;
    match command {
        Command::Demo => return demo::run_demo(&cache, screen),
        Command::Test(options) => return test::run_tests(&options, &cache, screen),
        Command::Results(options) => return matrix::write_results(&options),
        Command::Vm(command) => return vm::run_vm(command, &cache, screen),
        Command::Patches(command) => return patches::run_patches(command, cache),
        Command::Kernel(command) => {
            let file = run_kernel(command, &cache)?;
            println!("{}", file.display());
        }
        Command::Package { arguments } => {
            setup::ensure_programs(&[For::Packages, For::Module, For::Packaging], progress)?;
            let script = repo::find_root().join("packaging/package");
            return run_program(std::process::Command::new(script).args(arguments));
        }
        Command::Bench => {
            setup::ensure_programs(&[For::Packages, For::Measuring], progress)?;
            let mut bench = cargo::prepare_cargo();
            if let Program::Rooted(root, _) = programs::find_wg(Some("debian:sid"), &cache)? {
                bench.env("WG_ROOT", root);
            }
            return run_program(bench.args("test --locked --test wg -- --measure".split(' ')));
        }
        Command::Setup => {
            use For::{Kernel, Module, Packages, Patches, Reading, Vm};
            setup::ensure_programs(&[Packages, Vm, Module, Kernel, Patches], progress)?;
            let _ = setup::ensure_programs(&[Reading], progress);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn run_program(command: &mut std::process::Command) -> Result<ExitCode> {
    let ended = process::run_to_end(command)?;
    Ok(ExitCode::from(u8::from(!ended.success())))
}

/// Makes what was asked for; says where it is.
fn run_kernel(command: KernelCommand, cache: &Cache) -> Result<PathBuf> {
    let (trees, progress) = (Trees::load()?, &cache.progress);
    match command {
        KernelCommand::Fetch { tree } => {
            setup::ensure_programs(&[For::Packages], progress)?;
            Source::find(trees.find_tree(&tree)?, cache)?.get_whole()
        }
        KernelCommand::Module {
            tree,
            series,
            source,
            headers,
            package,
        } => {
            if let Some(source) = source {
                setup::ensure_programs(&[For::Kernel], progress)?;
                let headers = headers.as_deref().unwrap_or(&source);
                return patches::build_own_module(&source, headers, (tree, series), cache);
            }
            setup::ensure_programs(&[For::Packages, For::Module], progress)?;
            let tree = tree.expect("clap wants a tree where there is no source");
            let series = read_series(&tree, series.as_deref())?;
            let mut tree = trees.find_tree(&tree)?.clone();
            if let Some((headers, suites)) = package.split_first() {
                (tree.headers, tree.suites) = (Some(headers.clone()), suites.to_vec());
            }
            let built = module::build_module(&tree, &series, &[], cache)?;
            println!("{} {}", built.release, built.version);
            Ok(built.file)
        }
        KernelCommand::Build {
            tree,
            series,
            vanilla,
            config,
        } => {
            setup::ensure_programs(&[For::Packages, For::Kernel], progress)?;
            let series = (!vanilla).then(|| read_series(&tree, series.as_deref()));
            let series = series.transpose()?;
            let (tree, config) = (trees.find_tree(&tree)?, config.as_deref());
            Ok(image::build_image(tree, series.as_ref(), config, cache)?.0)
        }
    }
}
