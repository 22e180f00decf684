// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The part of a source that a series is about, as a scratch repository.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use kit::cache::remove;
use kit::{Error, Result, process};
use vm_tests::kernel::source::Source;

use super::folder::{Set, is_under};
use super::{Context, git, tools};

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
pub fn make(dir: &Path, set: &Set, context: &Context) -> Result<String> {
    let source = Source::find(&set.tree, &context.cache, &context.progress)?;
    let part = source.part(&list_parts(set))?;
    let name = format!("{} {}", set.tree.source, source.version);
    make_from(dir, set, &part, &name)?;
    Ok(name)
}

/// Makes one with the source in the folder `from`; what is not there is left out.
pub fn make_from(dir: &Path, set: &Set, from: &Path, name: &str) -> Result<()> {
    remove(dir)?;
    fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
    let parts = list_parts(set)
        .into_iter()
        .filter(|p| from.join(p).exists());
    let mut copy = Command::new("cp");
    copy.current_dir(from).args(["-a", "--parents", "-t"]);
    process::run(copy.arg(dir).args(parts))?;
    git::init(dir, name)
}

/// The folder with the tools of the reference tree.
pub fn find_tools(
    Context {
        trees,
        cache,
        progress,
    }: &Context,
) -> Result<PathBuf> {
    let source = Source::find(trees.reference()?, cache, progress)?;
    let part = source.part(tools::FILES)?;
    cache.dir("patch-tools", &source.version, |dir| {
        process::run(Command::new("cp").arg("-a").arg(part.join(".")).arg(dir))?;
        tools::make_folders(dir)
    })
}

/// Where a scratch repository lives.
pub fn find_folder(context: &Context, kind: &str, name: &str) -> Result<PathBuf> {
    let folder = context.cache.folder("patches")?;
    Ok(folder.join(format!("{kind}-{name}")))
}
