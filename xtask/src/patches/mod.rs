// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! `cargo xtask patches`: a series from a folder of kernel-patches to a mail on a list.
//!
//! The patch files are the truth. Repositories with branches are scratch, made from them and
//! written back into them; what leaves is made from a person's clone and signed by that person.

mod builds;
mod check;
mod finding;
mod folder;
mod git;
mod mail;
mod rules;
mod scratch;
mod tools;

use std::process::ExitCode;

use clap::Subcommand;
use vm_tests::{Cache, Result};

use self::builds::Which;
use crate::progress::Screen;
use crate::setup::{self, For};
use crate::trees::Trees;

#[derive(Subcommand)]
pub enum Command {
    /// Check a series, or all of them, against every rule of the list and of this project
    Check {
        /// 7.3, 6.12, 6.1; all of trees.toml where none is given
        tree: Option<String>,
        /// Only the rules that need nothing but the patch files
        #[arg(long)]
        text: bool,
        /// In how many configurations each patch is compiled
        #[arg(long, value_enum, default_value = "some", conflicts_with = "text")]
        builds: Which,
    },
}

pub fn run(command: Command, screen: &Screen) -> Result<ExitCode> {
    match command {
        Command::Check { tree, text, builds } => run_check(tree.as_deref(), text, builds, screen),
    }
}

fn run_check(name: Option<&str>, text: bool, which: Which, screen: &Screen) -> Result<ExitCode> {
    let progress = screen.progress();
    let trees = Trees::load()?;
    let chosen = match name {
        Some(name) => vec![trees.find(name)?],
        None => trees.trees.iter().collect(),
    };
    if !text {
        let mut needs = vec![For::Packages, For::Patches];
        if which != Which::None {
            needs.extend([For::Module, For::Kernel]);
        }
        setup::ensure(&needs, &progress)?;
    }
    let mut errors = 0;
    for tree in chosen {
        let (set, mut report) = check::text(tree, &trees)?;
        if !text {
            report = check::all(tree, &trees, which, &Cache::open()?, &progress)?;
        }
        for finding in &report.findings {
            println!("{finding}");
        }
        for skipped in &report.skipped {
            println!("skipped: {skipped}");
        }
        println!("{}", check::summary(&set.name, set.patches.len(), &report));
        errors += report.errors();
    }
    Ok(match errors {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}
