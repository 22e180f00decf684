// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Applies a series to a folder with source files: `git apply`, no fuzz, all or nothing.

use std::path::Path;
use std::process::Command;

use kit::cache::Key;
use kit::{Error, Result};

use crate::kernel::series::Series;
use kit::process;

/// What a build wants of a series: hunks in other files are left out.
///
/// A module needs neither Documentation nor tools, and their files are not there.
#[derive(Clone, Copy, Debug)]
pub enum Only<'a> {
    All,
    Under(&'a [&'a str]),
}

impl Only<'_> {
    pub fn takes(&self, path: &str) -> bool {
        match self {
            Only::All => true,
            Only::Under(paths) => paths
                .iter()
                .any(|p| path == *p || path.strip_prefix(p).is_some_and(|r| r.starts_with('/'))),
        }
    }
}

/// Applies the patches in order; an error names the patch and the hunk.
pub fn apply(series: &Series, dir: &Path, only: Only<'_>) -> Result<()> {
    let mut applied = 0;
    for patch in &series.patches {
        let files = crate::kernel::series::touched(&patch.text);
        let wanted = files.iter().filter(|f| only.takes(&f.path)).count();
        if wanted == 0 {
            continue;
        }
        applied += wanted;
        let mut command = Command::new("git");
        command
            .arg("apply")
            .arg("--whitespace=nowarn")
            .current_dir(dir)
            // Inside some other repository git would take paths as relative to its top.
            .env("GIT_CEILING_DIRECTORIES", dir.parent().unwrap_or(dir));
        if let Only::Under(paths) = only {
            for path in paths {
                command.arg(format!("--include={path}"));
                command.arg(format!("--include={path}/*"));
            }
        }
        let out = process::output(command.arg(&patch.path))?;
        if !out.ok {
            return Err(Error::other(format!(
                "{}/{} does not apply:\n{}",
                series.dir.display(),
                patch.name,
                out.all().trim_end()
            )));
        }
    }
    if applied == 0 {
        return Err(Error::other(format!(
            "no patch of {} touches what is built",
            series.dir.display()
        )));
    }
    Ok(())
}

/// Adds what makes a series what it is to a cache key.
pub fn add_to_key(mut key: Key, series: Option<&Series>) -> Key {
    for patch in series.iter().flat_map(|s| &s.patches) {
        key = key.add("patch", &patch.text);
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_taken_whole_and_by_name() {
        let only = Only::Under(&["drivers/net/wireguard", "include/uapi/linux/wireguard.h"]);
        assert!(only.takes("drivers/net/wireguard/selftest/x.c"));
        assert!(only.takes("include/uapi/linux/wireguard.h"));
        assert!(!only.takes("drivers/net/wireguard2/x.c"));
        assert!(!only.takes("tools/testing/selftests/wireguard/netns.sh"));
    }
}
