// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Runs cargo from within cargo.
//!
//! `cargo run` lets go of its lock before it becomes us, so the same target folder is used and
//! nothing is built twice. What cargo told *us* by variables must not reach the inner one: build
//! scripts that watch them would run again each time.

use std::env;
use std::path::PathBuf;
use std::process::Command;

use crate::{Error, Progress, Result, process, repo};

/// A cargo command in this repository.
pub fn command() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(repo::root());
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        let ours = [
            "CARGO_PKG_",
            "CARGO_MANIFEST_",
            "CARGO_CRATE_",
            "CARGO_BIN_",
        ];
        if ours.iter().any(|prefix| text.starts_with(prefix)) {
            command.env_remove(&name);
        }
    }
    command
}

/// Builds our `wg` and says where it is.
pub fn wg(progress: &Progress) -> Result<PathBuf> {
    progress.step("build wg");
    let out = process::output(command().args([
        "build",
        "--quiet",
        "--package=wg-vrf",
        "--bin=wg",
        "--message-format=json-render-diagnostics",
    ]))?;
    if !out.ok {
        return Err(Error::Failed {
            command: "cargo build --package wg-vrf --bin wg".into(),
            status: out.status,
            output: out.stderr,
        });
    }
    progress.done();
    out.stdout
        .lines()
        .rev()
        .find_map(executable)
        .map(PathBuf::from)
        .ok_or_else(|| Error::other("cargo built no `wg'"))
}

/// The path in one of cargo's messages about a finished program.
fn executable(message: &str) -> Option<&str> {
    let (_, rest) = message.split_once("\"executable\":\"")?;
    rest.split('"').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_found_in_cargos_messages() {
        let message =
            r#"{"reason":"compiler-artifact","executable":"/x/target/debug/wg","fresh":true}"#;
        assert_eq!(executable(message), Some("/x/target/debug/wg"));
        assert_eq!(executable(r#"{"executable":null}"#), None);
    }
}
