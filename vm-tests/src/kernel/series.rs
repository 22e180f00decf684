// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! One folder of kernel-patches: the `series` file and the patches it names. What is good and bad
//! in them is `patches::check`'s business.

use std::collections::BTreeSet;
use std::path::{self, Path, PathBuf};
use std::process::Command;

use fs_err as fs;
use kit::cache::Key;
use kit::{Error, Result, process, repo};

/// git format-patch's name for it.
pub const COVER: &str = "0000-cover-letter.patch";

#[derive(Clone, Debug)]
pub struct Series {
    pub dir: PathBuf,
    pub patches: Vec<Patch>,
}

#[derive(Clone, Debug)]
pub struct Patch {
    pub name: String,
    pub path: PathBuf,
    pub text: String,
}

/// What a build wants of a series: hunks in other files are left out. A module needs neither
/// Documentation nor tools, and their files are not there.
#[derive(Clone, Copy, Debug)]
pub enum Part<'a> {
    Whole,
    Under(&'a [&'a str]),
}

impl Part<'_> {
    fn takes(&self, path: &str) -> bool {
        match self {
            Self::Whole => true,
            Self::Under(paths) => paths.iter().any(|p| {
                path.strip_prefix(p)
                    .is_some_and(|r| r.is_empty() || r.starts_with('/'))
            }),
        }
    }
}

/// A file that a patch touches.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Touched {
    pub path: String,
    /// The patch creates it: it is not in the tree before.
    pub new: bool,
}

impl Series {
    /// The series of a tree. One that is absent or empty is an error, never "no patches".
    pub fn of_tree(name: &str) -> Result<Self> {
        Self::read(&repo::kernel_patches().join(name))
    }

    pub fn read(dir: &Path) -> Result<Self> {
        // Patches are handed to programs that run in other folders.
        let dir = &path::absolute(dir).map_err(Error::io("find", dir))?;
        let file = dir.join("series");
        let list = fs::read_to_string(&file)?;
        let mut patches = Vec::new();
        for name in names(&list) {
            let path = dir.join(name);
            patches.push(Patch {
                name: name.to_owned(),
                text: fs::read_to_string(&path)?,
                path,
            });
        }
        if patches.is_empty() {
            return Err(Error::other(format!("`{}' names no patch", file.display())));
        }
        let dir = dir.to_path_buf();
        Ok(Self { dir, patches })
    }

    /// Applies the patches in order: `git apply`, no fuzz, all or nothing. An error names the
    /// patch and the hunk.
    pub fn apply(&self, dir: &Path, part: Part<'_>) -> Result<()> {
        let mut applied = 0;
        for patch in &self.patches {
            let files = touched(&patch.text);
            let wanted = files.iter().filter(|f| part.takes(&f.path)).count();
            if wanted == 0 {
                continue;
            }
            applied += wanted;
            let mut command = Command::new("git");
            command
                .args(["apply", "--whitespace=nowarn"])
                .current_dir(dir)
                // Inside some other repository git would take paths as relative to its top.
                .env("GIT_CEILING_DIRECTORIES", dir.parent().unwrap_or(dir));
            if let Part::Under(paths) = part {
                for path in paths {
                    command.args([format!("--include={path}"), format!("--include={path}/*")]);
                }
            }
            let out = process::output(command.arg(&patch.path))?;
            if !out.ok {
                return Err(Error::other(format!(
                    "{}/{} does not apply:\n{}",
                    self.dir.display(),
                    patch.name,
                    out.all().trim_end()
                )));
            }
        }
        if applied == 0 {
            let dir = self.dir.display();
            return Err(Error::other(format!(
                "no patch of {dir} touches what is built"
            )));
        }
        Ok(())
    }

    /// Adds what makes a series what it is to a cache key.
    pub fn add_to_key(&self, key: Key) -> Key {
        let patches = self.patches.iter();
        patches.fold(key, |key, patch| key.add("patch", &patch.text))
    }

    /// Every file that the series touches.
    pub fn touched(&self) -> Vec<Touched> {
        let mut seen = BTreeSet::new();
        let mut all = Vec::new();
        for patch in &self.patches {
            for file in touched(&patch.text) {
                // Created by an earlier patch and changed by a later one: new to the tree.
                if seen.insert(file.path.clone()) {
                    all.push(file);
                }
            }
        }
        all.sort();
        all
    }
}

/// The patches that a `series` file names. Comments are `#`; the cover letter is no patch.
pub fn names(list: &str) -> Vec<&str> {
    list.lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim())
        .filter(|line| !line.is_empty() && *line != COVER)
        .collect()
}

/// The files that one patch touches, as `diff --git` and its header lines name them.
pub fn touched(patch: &str) -> Vec<Touched> {
    let mut files = Vec::new();
    for line in patch.lines() {
        if let Some(names) = line.strip_prefix("diff --git a/") {
            if let Some((_, path)) = names.split_once(" b/") {
                files.push(Touched {
                    path: path.to_owned(),
                    new: false,
                });
            }
        } else if line.starts_with("new file mode ") {
            if let Some(file) = files.last_mut() {
                file.new = true;
            }
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_file_has_comments_and_no_cover() {
        let list = "# 6.1\n0000-cover-letter.patch\n\n0001-a.patch # first\n0002-b.patch\n";
        assert_eq!(names(list), ["0001-a.patch", "0002-b.patch"]);
    }

    #[test]
    fn folders_are_taken_whole_and_by_name() {
        let part = Part::Under(&["drivers/net/wireguard", "include/uapi/linux/wireguard.h"]);
        assert!(part.takes("drivers/net/wireguard/selftest/x.c"));
        assert!(part.takes("include/uapi/linux/wireguard.h"));
        assert!(!part.takes("drivers/net/wireguard2/x.c"));
        assert!(!part.takes("tools/testing/selftests/wireguard/netns.sh"));
    }

    #[test]
    fn a_folder_named_from_here_is_found_from_elsewhere() {
        // Tests run in the package's folder.
        let series = Series::read(Path::new("../kernel-patches/6.1")).unwrap();
        assert!(series.patches.iter().all(|p| p.path.is_absolute()));
    }

    #[test]
    fn touched_files_know_the_new_ones() {
        let patch = "diff --git a/x/y.c b/x/y.c\nindex 1..2 100644\n--- a/x/y.c\n+++ b/x/y.c\n\
                     diff --git a/new.h b/new.h\nnew file mode 100644\n--- /dev/null\n+++ b/new.h\n";
        let files = touched(patch);
        assert_eq!(files.len(), 2);
        assert_eq!((files[0].path.as_str(), files[0].new), ("x/y.c", false));
        assert_eq!((files[1].path.as_str(), files[1].new), ("new.h", true));
    }
}
