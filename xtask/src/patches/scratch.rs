// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The part of a source that a series is about, as a scratch repository.

use std::path::{Path, PathBuf};
use std::process::Command;

use fs_err as fs;
use kit::cache::remove_path;
use kit::{Result, process};
use vm_tests::kernel::source::Source;

use super::folder::Set;
use super::{Context, git, tools};

/// The paths that every tree has and a series of ours may touch.
const DRIVER: &[&str] = &[
    "drivers/net/wireguard",
    "include/uapi/linux/wireguard.h",
    "tools/testing/selftests/wireguard",
];

/// The files and folders of the tree that a scratch repository holds.
fn list_parts(set: &Set) -> Vec<String> {
    let netlink = tools::NETLINK.iter().filter(|_| set.tree.reference);
    let parts = DRIVER.iter().chain(netlink);
    let mut parts: Vec<String> = parts.map(|p| (*p).to_owned()).collect();
    // What an earlier patch makes is not in the source.
    let touched = || set.mails.iter().flat_map(|m| &m.touched);
    let new: Vec<_> = touched().filter(|f| f.new).map(|f| &f.path).collect();
    for path in touched().map(|f| &f.path) {
        let covered = parts.iter().any(|p| Path::new(path).starts_with(p));
        if !covered && !new.contains(&path) {
            parts.push(path.clone());
        }
    }
    parts
}

/// Makes a fresh repository in `dir` with the source of the tree, as the mirror has it now.
///
/// Returns what the file `base` calls it: `linux-source-6.1 6.1.192-2`.
pub fn make_repo(dir: &Path, set: &Set, context: &Context) -> Result<String> {
    let source = Source::find(&set.tree, &context.cache)?;
    source.check_age(&set.dir)?;
    let part = source.get_part(&list_parts(set))?;
    let name = format!("{} {}", set.tree.source, source.version);
    make_repo_from(dir, set, &part, &name)?;
    Ok(name)
}

/// Makes a fresh repository with the source in the folder `from`. Leaves out files that it lacks.
pub fn make_repo_from(dir: &Path, set: &Set, from: &Path, name: &str) -> Result<()> {
    remove_path(dir)?;
    fs::create_dir_all(dir)?;
    let mut parts = list_parts(set);
    parts.retain(|part| from.join(part).exists());
    let mut copy = Command::new("cp");
    copy.current_dir(from).args(["-a", "--parents", "-t"]);
    process::run(copy.arg(dir).args(parts))?;
    git::init_repo(dir, name)
}

/// The folder with the tools of the reference tree.
pub fn find_tools(context: &Context) -> Result<PathBuf> {
    let reference = context.trees.find_reference()?;
    let source = Source::find(reference, &context.cache)?;
    let part = source.get_part(tools::FILES)?;
    context
        .cache
        .keep_folder("patch-tools", &source.version, |dir| {
            process::run(Command::new("cp").arg("-a").arg(part.join(".")).arg(dir))?;
            tools::make_folders(dir)
        })
}

/// The folder of a scratch repository.
pub fn find_folder(context: &Context, kind: &str, name: &str) -> Result<PathBuf> {
    let folder = context.cache.open_folder("patches")?;
    Ok(folder.join(format!("{kind}-{name}")))
}
