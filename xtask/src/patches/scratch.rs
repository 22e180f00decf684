// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The part of a tree's source that a series is about, fetched now, as a scratch repository.

use std::path::{Path, PathBuf};

use kit::cache::remove;
use kit::{Cache, Error, Progress, Result};

use super::git;
use super::rules::Set;
use super::tools::Tools;
use vm_tests::kernel::source::Source;
use vm_tests::kernel::trees::{Tree, Trees};

/// What every tree has and a series of ours may touch.
const DRIVER: &[&str] = &[
    "drivers/net/wireguard",
    "include/uapi/linux/wireguard.h",
    "tools/testing/selftests/wireguard",
];

/// Netlink's specifications and what generates code from them; the generator looks for the top
/// of the tree by MAINTAINERS, and without end where there is none.
const NETLINK: &[&str] = &["Documentation/netlink", "tools/net/ynl", "MAINTAINERS"];

/// What checkpatch.pl and get_maintainer.pl need, and by what they know a kernel tree.
const TOOLS: &[&str] = &[
    "COPYING",
    "CREDITS",
    "Kbuild",
    "MAINTAINERS",
    "Makefile",
    "README",
    "init",
    "ipc",
    "scripts",
];

/// They only look whether these folders are there.
const EMPTY: &[&str] = &[
    "Documentation",
    "arch",
    "drivers",
    "fs",
    "include",
    "kernel",
    "lib",
];

/// The files of the tree that are at hand in a scratch repository.
fn parts(tree: &Tree, set: &Set) -> Vec<String> {
    let mut parts: Vec<String> = DRIVER.iter().map(|p| (*p).to_owned()).collect();
    if tree.reference {
        parts.extend(NETLINK.iter().map(|p| (*p).to_owned()));
    }
    let under = |path: &str, parts: &[String]| {
        parts.iter().any(|p| {
            path == p
                || path
                    .strip_prefix(p.as_str())
                    .is_some_and(|r| r.starts_with('/'))
        })
    };
    let mut new: Vec<&str> = Vec::new();
    for file in set.patches.iter().flat_map(|m| &m.files) {
        // Made by an earlier patch, so not in the source.
        if file.new {
            new.push(&file.path);
        } else if !new.contains(&file.path.as_str()) && !under(&file.path, &parts) {
            parts.push(file.path.clone());
        }
    }
    parts
}

/// A fresh repository in `dir` with the source of `tree` in it, as the mirror has it now.
///
/// Returns what `base` calls it: `linux-source-6.1 6.1.192-2`.
pub fn repository(
    dir: &Path,
    tree: &Tree,
    set: &Set,
    cache: &Cache,
    progress: &Progress,
) -> Result<String> {
    let source = Source::find(tree, cache, progress)?;
    let part = source.part(&parts(tree, set))?;
    remove(dir)?;
    git::copy_tree(&part, dir)?;
    let name = format!("{} {}", tree.source, source.version);
    git::init(dir, &name)?;
    Ok(name)
}

/// The tools of the reference tree.
pub fn tools(trees: &Trees, cache: &Cache, progress: &Progress) -> Result<Tools> {
    let source = Source::find(trees.reference()?, cache, progress)?;
    let part = source.part(TOOLS)?;
    let root = cache.dir("patch-tools", &source.version, |dir| {
        git::copy_tree(&part, dir)?;
        for folder in EMPTY {
            let path = dir.join(folder);
            std::fs::create_dir_all(&path).map_err(Error::io("create", &path))?;
        }
        Ok(())
    })?;
    Tools::at(&root)
}

/// Where scratch repositories live.
pub fn folder(cache: &Cache, kind: &str, tree: &str) -> Result<PathBuf> {
    Ok(cache.folder("patches")?.join(format!("{kind}-{tree}")))
}
