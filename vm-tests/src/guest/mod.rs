// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What the commands that boot guests share: the `wg` under test, kernels, the runner.

pub mod cpio;
pub mod initramfs;
pub mod programs;
pub mod tools;

use std::path::{Path, PathBuf};

use crate::run::runner::Runner;
use crate::run::runner::Tool;
use kit::{Cache, Error, Progress, Result};

use kit::cargo;
use kit::repo;

/// Where results are kept; ignored by git.
pub fn results() -> PathBuf {
    repo::root().join("target/vm-results")
}

/// The `wg` that guests get.
///
/// Ours; or a program that a person hands over; or `debian:SUITE`, the C tool of that suite.
pub fn wg(choice: Option<&str>, cache: &Cache, progress: &Progress) -> Result<Tool> {
    let Some(choice) = choice else {
        return Ok(Tool::Program(cargo::wg(progress)?));
    };
    if let Some(suite) = choice.strip_prefix("debian:") {
        return crate::guest::programs::c_tool(suite, cache, progress);
    }
    let path = Path::new(choice);
    match path.canonicalize() {
        Ok(path) if path.is_file() => Ok(Tool::Program(path)),
        _ => Err(Error::other(format!(
            "--wg: no program `{choice}'; give a path, or debian:sid for Debian's C tool"
        ))),
    }
}

pub fn runner(wg: Tool, cache: &Cache, progress: &Progress) -> Runner {
    Runner::new(cache, results(), progress).tool("wg", wg)
}
