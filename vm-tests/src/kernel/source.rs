// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The source of a tree: Debian's linux-source package, fetched and unpacked, whole or in part.

use std::path::{Path, PathBuf};
use std::process::Command;

use kit::cache::Key;
use kit::debian::Closure;
use kit::{Cache, Debian, Result, process};

use crate::kernel::series;
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
        // Debian signs its images and headers some hours after it has published the source.
        let find = |package: &str| debian.find_candidate(package);
        let find_signed = |meta| find(&format!("{}={}", tree.source, find(meta).ok()?)).ok();
        let signed = tree.headers.as_deref().and_then(find_signed);
        let version = signed.map_or_else(|| find(&tree.source), Ok)?;
        if tree.version != "newest" && tree.version != version {
            let (source, wanted) = (&tree.source, &tree.version);
            bail!("kernel-patches/trees.toml wants {source} {wanted}, the mirror has {version}");
        }
        Ok(Self {
            tree,
            cache,
            debian,
            version,
        })
    }

    /// Refuses a source that is older than the one for which the series in `dir` is made. A series
    /// without a base is for any.
    pub fn check_age(&self, dir: &Path) -> Result<()> {
        let base = series::read_base(dir).unwrap_or_default();
        let found = format!("{} {}", self.tree.source, self.version);
        if is_older(&found, &base) {
            let dir = dir.display();
            bail!(
                "found {found}, and the series in {dir} is made for {base}\n\
                 add the source of Debian's security suite to the apt sources of this machine (the line \
                 of its own release, `RELEASE-security main'); if it is there, the mirror is behind: try later"
            );
        }
        Ok(())
    }

    /// The whole tree. Callers must not change it.
    pub fn get_whole(&self) -> Result<PathBuf> {
        let (name, extract) = (self.name_whole(), |dir: &Path| self.extract_files(dir, &[]));
        self.cache.keep_folder("source", &name, extract)
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
        let add = |key: Key, path: &&str| key.add_value("path", path);
        let key = paths.iter().fold(Key::new(), add);
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
        let named = [&*format!("{name}={}", self.version)];
        let files = self.debian.fetch_packages(&named, Closure::Named)?;
        let [package] = files.as_slice() else {
            bail!("{name} is not one package file");
        };
        self.cache
            .begin_step(&format!("unpack {name} {}", self.version));
        // Nothing is written between the package and the files; xz uses all processors.
        let mut command = Command::new("bash");
        command.args(["-c", SCRIPT, "bash"]).arg(package);
        command.arg(name).arg(dir);
        command.args(paths.iter().map(|path| format!("{name}/{path}")));
        process::run(&mut command)?;
        self.cache.end_step();
        Ok(())
    }
}

/// Whether a source, as `base` names it, is of an earlier kernel than another one of its package.
/// Rebuilds of one kernel, `6.1.192-1` and `6.1.192-2`, are equal.
fn is_older(found: &str, base: &str) -> bool {
    let read = |name: &str| {
        let (package, version) = name.split_once(' ')?;
        let kernel = version.split('-').next()?.split('.').map(str::parse);
        let numbers = kernel.collect::<std::result::Result<Vec<u32>, _>>().ok()?;
        Some((package.to_owned(), numbers))
    };
    matches!((read(found), read(base)), (Some(a), Some(b)) if a.0 == b.0 && a.1 < b.1)
}

/// Unpacks the package whole or in part; nothing is written between the package and the files.
const SCRIPT: &str = include_str!("unpack-source.sh");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_earlier_kernel_is_older_and_a_rebuild_is_not() {
        let base = "linux-source-6.1 6.1.192-2";
        for (found, older) in [
            ("linux-source-6.1 6.1.176-1", true),
            ("linux-source-6.1 6.1.99-1", true),
            ("linux-source-6.1 6.1.192-1~bpo12+1", false),
            ("linux-source-6.1 6.1.201-1", false),
            ("linux-source-6.0 6.0.9-1", false),
        ] {
            assert_eq!(is_older(found, base), older, "{found}");
        }
        assert!(!is_older(base, ""));
    }
}
