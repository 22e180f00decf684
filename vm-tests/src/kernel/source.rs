// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The source of a tree: Debian's linux-source package, fetched and unpacked, whole or in part.

use std::path::{Path, PathBuf};
use std::process::Command;

use kit::cache::Key;
use kit::debian::Closure;
use kit::{Cache, Debian, Result, process};

use crate::kernel::trees::Tree;

/// The source package of a tree, as the mirror has it now.
pub struct Source<'a> {
    tree: &'a Tree,
    cache: &'a Cache,
    pub debian: Debian,
    /// Debian's version: `6.1.192-2`.
    pub version: String,
}

impl<'a> Source<'a> {
    pub fn find(tree: &'a Tree, cache: &'a Cache) -> Result<Self> {
        let suites: Vec<_> = tree.suites.iter().map(String::as_str).collect();
        let debian = Debian::new(cache, &suites)?;
        let version = debian.find_candidate(&tree.source)?;
        if tree.version != "newest" && tree.version != version {
            bail!(
                "kernel-patches/trees.toml wants {} {}, the mirror has {version}",
                tree.source,
                tree.version
            );
        }
        Ok(Self {
            tree,
            cache,
            debian,
            version,
        })
    }

    /// The whole tree. Callers must not change it.
    pub fn get_whole(&self) -> Result<PathBuf> {
        let extract = |dir: &Path| self.extract_files(dir, &[]);
        self.cache
            .keep_folder("source", &self.name_whole(), extract)
    }

    fn name_whole(&self) -> String {
        format!("{}_{}", self.tree.source, self.version)
    }

    /// Some files and folders of the tree, by their paths. Callers must not change them.
    ///
    /// Much faster than the whole: the archive is read once and only these reach the disk.
    pub fn get_part<S: AsRef<str>>(&self, paths: &[S]) -> Result<PathBuf> {
        let mut paths: Vec<_> = paths.iter().map(AsRef::as_ref).collect();
        paths.sort_unstable();
        paths.dedup();
        let key = paths
            .iter()
            .fold(Key::new(), |key, path| key.add_value("path", path));
        let key = format!("{}-part-{}", self.name_whole(), &key.finish()[..12]);
        self.cache.keep_folder("source", &key, |dir| {
            match self.cache.get("source", &self.name_whole()) {
                Some(whole) => {
                    let mut copy = Command::new("cp");
                    copy.current_dir(whole).args(["-a", "--parents", "-t"]);
                    process::run(copy.arg(dir).args(&paths)).map(drop)
                }
                None => self.extract_files(dir, &paths),
            }
        })
    }

    fn extract_files(&self, dir: &Path, paths: &[&str]) -> Result<()> {
        let name = &self.tree.source;
        let files = self
            .debian
            .fetch_packages(&[name.as_str()], Closure::Named)?;
        let [package] = files.as_slice() else {
            bail!("{name} is not one package file");
        };
        self.cache
            .progress
            .begin_step(&format!("unpack {name} {}", self.version));
        // Nothing is written between the package and the files; xz uses all processors.
        let mut command = Command::new("bash");
        command
            .args(["-c", SCRIPT, "bash"])
            .arg(package)
            .arg(name)
            .arg(dir);
        command.args(paths.iter().map(|path| format!("{name}/{path}")));
        process::run(&mut command)?;
        self.cache.progress.end_step();
        Ok(())
    }
}

/// Unpacks the package whole or in part; nothing is written between the package and the files.
const SCRIPT: &str = include_str!("unpack-source.sh");
