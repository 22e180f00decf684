// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Runs cargo from within cargo.
//! `cargo run` lets go of its lock before it becomes us, so the same target folder is used and
//! nothing is built twice. What cargo told *us* by variables must not reach the inner one: build
//! scripts that watch them would run again each time.

use std::env;
use std::path::PathBuf;
use std::process::Command;

use crate::{Error, Progress, Result, process, repo};

/// A cargo command in this repository.
pub fn prepare_cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(repo::find_root());
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        let ours = ["PKG_", "MANIFEST_", "CRATE_", "BIN_"];
        let rest = text.strip_prefix("CARGO_").unwrap_or_default();
        if ours.iter().any(|prefix| rest.starts_with(prefix)) {
            command.env_remove(&name);
        }
    }
    command
}

/// Builds our `wg` with a profile of Cargo.toml and says where it is.
pub fn build_wg(profile: &str, progress: &Progress) -> Result<PathBuf> {
    progress.begin_step("build wg");
    let what = format!("--package wg-vrf --bin wg --profile {profile}");
    let build = format!("build --locked --quiet {what} --message-format json-render-diagnostics");
    let messages = process::run(prepare_cargo().args(build.split(' ')))?;
    progress.end_step();
    let find_executable = |message: &str| -> Option<PathBuf> {
        let message: serde_json::Value = serde_json::from_str(message).ok()?;
        Some(message["executable"].as_str()?.into())
    };
    let program = messages.lines().rev().find_map(find_executable);
    program.ok_or_else(|| Error::other("cargo built no `wg'"))
}
