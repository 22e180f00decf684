// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! `wg version --all`: which wg this is, what this kernel offers it, and which wg wg-quick runs.

use std::env;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::backend;
use crate::error::{Error, Result};

/// `reference` is the line that `wg --version` prints.
pub fn print_all(reference: &str, out: &mut dyn Write) -> Result<()> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let binding = match backend::binds_by_attribute() {
        Ok(true) => "by the kernel, it has WGDEVICE_A_BIND_DEV".to_owned(),
        Ok(false) => "by fwmark and policy rules, the kernel lacks WGDEVICE_A_BIND_DEV".to_owned(),
        Err(error) => format!("unknown: {error}"),
    };
    let mut text = format!(
        "wg-vrf {}\nstands in for: {reference}\nkernel: {}\nbind-dev: {binding}\n",
        env!("CARGO_PKG_VERSION"),
        release.trim_end(),
    );
    if let Some(line) = find_wg_quick() {
        text += &format!("wg-quick: {line}\n");
    }
    out.write_all(text.as_bytes()).map_err(Error::output)
}

/// Which wg the wg-quick of PATH runs; `None` where there is no wg-quick.
fn find_wg_quick() -> Option<String> {
    let path = env::var_os("PATH")?;
    let folders: Vec<PathBuf> = env::split_paths(&path).collect();
    let wg_quick = find_program(&folders, "wg-quick")?;
    // It puts its own folder in front of PATH.
    let mut its_folders = vec![wg_quick.parent()?.to_owned()];
    its_folders.extend(folders);
    let wg = find_program(&its_folders, "wg")?;
    let this = env::current_exe().ok()?;
    let which = if same_file(&wg, &this) {
        "which is this program".to_owned()
    } else {
        format!("and not {}", this.display())
    };
    Some(format!(
        "{} runs {}, {which}",
        wg_quick.display(),
        wg.display()
    ))
}

fn find_program(folders: &[PathBuf], name: &str) -> Option<PathBuf> {
    folders
        .iter()
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

fn same_file(one: &Path, other: &Path) -> bool {
    matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}
