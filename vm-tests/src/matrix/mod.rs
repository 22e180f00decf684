// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Many runs: which cells (kernel, tool, scenario) there are, what came of them, and `results`,
//! the page of it.

mod cost;
pub mod data;
pub mod guests;
mod page;
pub mod plan;
pub mod pool;
pub mod store;

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use clap::Args;
use fs_err as fs;
use kit::{Result, process, repo};

use self::data::Data;
use crate::run::runner::find_results_folder;

/// The data of a whole run, and of one that took a part, beside the guests' logs.
const FULL: &str = "full.json";
const PART: &str = "part.json";

#[derive(Args)]
pub struct Options {
    /// Data to write the page of [default: the last whole run's, else docs/results.json]
    file: Option<PathBuf>,
}

/// Writes docs/results.md and its data.
pub fn write_results(options: &Options) -> Result<ExitCode> {
    let full = find_results_folder().join(FULL);
    let file = match &options.file {
        Some(file) => file.clone(),
        None if full.exists() => full,
        None => committed_file(),
    };
    let mut data = Data::read(&file)?;
    data.find_since(&read_committed()?);
    for (name, text) in page::write_files(&data) {
        let place = repo::find_root().join("docs").join(name);
        let same = fs::read_to_string(&place).is_ok_and(|there| there == text);
        fs::write(&place, text)?;
        let what = ["written", "as it was"][usize::from(same)];
        println!("{what:10}docs/{name}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Keeps the data of a run beside the guests' logs. A part does not replace the whole.
pub fn save_data(data: &Data) -> Result<PathBuf> {
    let file = find_results_folder().join(if data.run.part { PART } else { FULL });
    fs::create_dir_all(find_results_folder())?;
    fs::write(&file, data.to_json())?;
    Ok(file)
}

fn committed_file() -> PathBuf {
    repo::find_root().join("docs/results.json")
}

/// Reads docs/results.json; no data where there is no such file.
pub fn read_committed() -> Result<Data> {
    match committed_file() {
        file if file.exists() => Data::read(&file),
        _ => Ok(Data::default()),
    }
}

/// The commit that is checked out, with `-dirty` when there is more than it.
pub fn find_commit() -> String {
    let mut command = Command::new("git");
    let arguments = "describe --always --exclude=* --abbrev=12 --dirty";
    command.args(arguments.split(' '));
    command.current_dir(repo::find_root());
    // From an archive without its history there is none to name.
    process::run(&mut command).map_or_else(|_| "unknown".into(), |text| text.trim().to_owned())
}
