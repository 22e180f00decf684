// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The part of a source that a series is about, as a scratch repository.

use std::path::{Path, PathBuf};
use std::process::Command;

use kit::cache::remove;
use kit::{Cache, Error, Progress, Result, process};
use vm_tests::kernel::source::Source;
use vm_tests::kernel::trees::Trees;

use super::folder::{Set, is_under};
use super::{git, tools};

/// What every tree has and a series of ours may touch.
const DRIVER: &[&str] = &[
    "drivers/net/wireguard",
    "include/uapi/linux/wireguard.h",
    "tools/testing/selftests/wireguard",
];

/// The files and folders of the tree that a scratch repository holds.
fn list_parts(set: &Set) -> Vec<String> {
    let netlink = if set.tree.reference {
        tools::NETLINK
    } else {
        &[]
    };
    let parts = DRIVER.iter().chain(netlink);
    let mut parts: Vec<String> = parts.map(|p| (*p).to_owned()).collect();
    let mut new: Vec<&str> = Vec::new();
    for file in set.mails.iter().flat_map(|m| &m.touched) {
        // What an earlier patch makes is not in the source.
        if file.new {
            new.push(&file.path);
        } else if !new.contains(&file.path.as_str())
            && !parts.iter().any(|p| is_under(&file.path, p))
        {
            parts.push(file.path.clone());
        }
    }
    parts
}

/// Makes a fresh repository in `dir` with the source of the tree, as the mirror has it now.
///
/// Returns what the file `base` calls it: `linux-source-6.1 6.1.192-2`.
pub fn make(dir: &Path, set: &Set, cache: &Cache, progress: &Progress) -> Result<String> {
    let source = Source::find(&set.tree, cache, progress)?;
    let part = source.part(&list_parts(set))?;
    let name = format!("{} {}", set.tree.source, source.version);
    make_from(dir, set, &part, &name)?;
    Ok(name)
}

/// Makes one with the source in the folder `from`; what is not there is left out.
pub fn make_from(dir: &Path, set: &Set, from: &Path, name: &str) -> Result<()> {
    remove(dir)?;
    std::fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
    let parts = list_parts(set)
        .into_iter()
        .filter(|p| from.join(p).exists());
    process::run(
        Command::new("cp")
            .current_dir(from)
            .args(["-a", "--parents", "-t"])
            .arg(dir)
            .args(parts),
    )?;
    git::init(dir, name)
}

/// The folder with the tools of the reference tree.
pub fn find_tools(trees: &Trees, cache: &Cache, progress: &Progress) -> Result<PathBuf> {
    let source = Source::find(trees.reference()?, cache, progress)?;
    let part = source.part(tools::FILES)?;
    cache.dir("patch-tools", &source.version, |dir| {
        process::run(Command::new("cp").arg("-a").arg(part.join(".")).arg(dir))?;
        process::run(Command::new("mkdir").current_dir(dir).args(tools::FOLDERS))?;
        Ok(())
    })
}

/// Where scratch repositories live.
pub fn find_folder(cache: &Cache, kind: &str, name: &str) -> Result<PathBuf> {
    Ok(cache.folder("patches")?.join(format!("{kind}-{name}")))
}
