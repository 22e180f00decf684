// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Programs of this system: which one a name stands for, and which `wg` wg-quick runs.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use crate::doctor::facts::WgQuick;

/// Where programs of the administrator are, also for one whose PATH lacks them.
const MORE: [&str; 4] = ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin"];

fn read_path() -> Vec<PathBuf> {
    env::var_os("PATH")
        .map(|path| env::split_paths(&path).collect())
        .unwrap_or_default()
}

/// The file of a program.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let mut folders = read_path();
    folders.extend(MORE.map(PathBuf::from));
    find_in(&folders, name)
}

fn find_in(folders: &[PathBuf], name: &str) -> Option<PathBuf> {
    folders
        .iter()
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

/// The wg-quick of PATH with the wg that it runs; `None` where there is none of either.
pub fn find_wg_quick() -> Option<WgQuick> {
    let folders = read_path();
    let script = find_in(&folders, "wg-quick")?;
    // It puts its own folder in front of PATH.
    let mut its_folders = vec![script.parent()?.to_owned()];
    its_folders.extend(folders);
    let runs = find_in(&its_folders, "wg")?;
    let this = env::current_exe().ok()?;
    Some(WgQuick {
        same: is_same_file(&runs, &this),
        diverts: find_program("dpkg-divert").is_some(),
        script,
        runs,
        this,
    })
}

/// One file, or one with the same bytes: a program that was installed in two places is one program.
fn is_same_file(one: &Path, other: &Path) -> bool {
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) if one == other => true,
        (Ok(one), Ok(other)) => {
            let length = |file: &Path| fs::metadata(file).map(|metadata| metadata.len()).ok();
            length(&one) == length(&other)
                && matches!((fs::read(one), fs::read(other)), (Ok(one), Ok(other)) if one == other)
        }
        _ => false,
    }
}
