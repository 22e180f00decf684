// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What runs of the matrix left behind: as data, for machines, and `results`, the page of it.

mod cost;
pub mod data;
pub mod guests;
pub mod junit;
mod page;
pub mod plan;
pub mod pool;
pub mod prior;
pub mod store;
mod svg;
pub mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use kit::{Error, Result};

use self::data::Data;
use crate::guest;
use kit::{process, repo};

/// The data of a whole run, and of one that took a part, beside the guests' logs.
pub const FULL: &str = "full.tsv";
pub const PART: &str = "part.tsv";

#[derive(Args)]
pub struct Options {
    /// Data to write the page of [default: the last whole run's, else docs/results.tsv]
    file: Option<PathBuf>,
    /// Write nothing; fail if the page is not what the data says
    #[arg(long)]
    check: bool,
}

/// Writes docs/results.md, its pictures and its data.
pub fn run(options: &Options) -> Result<ExitCode> {
    let docs = repo::root().join("docs");
    let committed = docs.join("results.tsv");
    let full = guest::results().join(FULL);
    let file = match &options.file {
        Some(file) => file.clone(),
        None if !options.check && full.exists() => full,
        None => committed,
    };
    let data = Data::read(&file)?;
    let mut differs = false;
    for (name, text) in page::files(&data) {
        let place = docs.join(name);
        let same = fs::read_to_string(&place).is_ok_and(|there| there == text);
        differs |= !same;
        let what = match (same, options.check) {
            (true, _) => "as it was",
            (false, true) => "DIFFERS",
            (false, false) => {
                fs::write(&place, text).map_err(Error::io("write", &place))?;
                "written"
            }
        };
        println!("{what:10}docs/{name}");
    }
    if options.check && differs {
        println!("again:    cargo xtask results {}", short(&file).display());
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

fn short(file: &Path) -> &Path {
    file.strip_prefix(repo::root()).unwrap_or(file)
}

/// Where data may be, the most telling last.
fn sources() -> [PathBuf; 3] {
    [
        repo::root().join("docs/results.tsv"),
        guest::results().join(FULL),
        guest::results().join(PART),
    ]
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_secs())
}

/// The commit that is checked out, with `-dirty` when there is more than it.
/// What docs/results.tsv says; nothing where there is none.
pub fn committed() -> Result<Data> {
    let file = repo::root().join("docs/results.tsv");
    if !file.exists() {
        return Ok(Data::default());
    }
    Data::read(&file)
}

pub fn commit() -> String {
    let mut command = Command::new("git");
    command.current_dir(repo::root()).args([
        "describe",
        "--always",
        "--exclude=*",
        "--abbrev=12",
        "--dirty",
    ]);
    // From an archive without its history there is none to name.
    process::run(&mut command).map_or_else(|_| "unknown".into(), |text| text.trim().to_owned())
}
