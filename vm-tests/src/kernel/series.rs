// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! One folder of kernel-patches: the `series` file and the patches it names. What is good and bad
//! in them is `patches::check`'s business.

use std::collections::BTreeMap;
use std::path::{self, Path, PathBuf};
use std::process::Command;

use fs_err as fs;
use kit::cache::Key;
use kit::{Result, process, repo};

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

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Touched {
    pub path: String,
    /// The patch creates it: it is not in the tree before.
    pub new: bool,
}

impl Series {
    /// The series of a tree. One that is absent or empty is an error, never "no patches".
    pub fn read_tree(name: &str) -> Result<Self> {
        Self::read(&repo::find_patches().join(name))
    }

    pub fn read(dir: &Path) -> Result<Self> {
        // Patches are handed to programs that run in other folders.
        let dir = &path::absolute(dir)?;
        let file = dir.join("series");
        let list = fs::read_to_string(&file)?;
        let read = |name: &str| -> Result<Patch> {
            let path = dir.join(name);
            let text = fs::read_to_string(&path)?;
            let name = name.to_owned();
            Ok(Patch { name, path, text })
        };
        let patches = list_names(&list).into_iter().map(read);
        let patches = patches.collect::<Result<Vec<_>>>()?;
        if patches.is_empty() {
            bail!("`{}' names no patch", file.display());
        }
        let dir = dir.to_path_buf();
        Ok(Self { dir, patches })
    }

    /// Applies the patches in order: `git apply`, no fuzz, all or nothing. An error names the
    /// patch and the hunk. Where a build wants only some files and folders, hunks in others are
    /// left out: a module needs neither Documentation nor tools, and their files are not there.
    pub fn apply_to(&self, dir: &Path, only: &[&str]) -> Result<()> {
        let wanted = |file: &Touched| only.iter().any(|p| Path::new(&file.path).starts_with(p));
        if !only.is_empty() && !self.list_touched().iter().any(wanted) {
            let dir = self.dir.display();
            bail!("no patch of {dir} touches what is built");
        }
        for patch in &self.patches {
            let mut command = Command::new("git");
            command
                .args(["apply", "--whitespace=nowarn"])
                .current_dir(dir)
                // Inside some other repository git would take paths as relative to its top.
                .env("GIT_CEILING_DIRECTORIES", dir.parent().unwrap_or(dir));
            for path in only {
                command.args([format!("--include={path}"), format!("--include={path}/*")]);
            }
            let out = process::capture_output(command.arg(&patch.path))?;
            if !out.ok {
                let (path, said) = (patch.path.display(), out.join_streams());
                bail!("{path} does not apply:\n{}", said.trim_end());
            }
        }
        Ok(())
    }

    pub fn add_to_key(&self, key: Key) -> Key {
        let patches = self.patches.iter();
        patches.fold(key, |key, patch| key.add_value("patch", &patch.text))
    }

    pub fn list_touched(&self) -> Vec<Touched> {
        let mut all = BTreeMap::new();
        let patches = self.patches.iter();
        for file in patches.flat_map(|patch| read_touched(&patch.text)) {
            // Created by an earlier patch and changed by a later one: new to the tree.
            all.entry(file.path.clone()).or_insert(file);
        }
        all.into_values().collect()
    }
}

/// Reads the package and the version that a series was made for: `linux-source-6.1 6.1.192-2`.
pub fn read_base(dir: &Path) -> Result<String> {
    let file = dir.join("base");
    let text = fs::read_to_string(&file)?;
    let line = text.lines().find_map(|l| l.strip_prefix("source: "));
    let name = line.unwrap_or_default().trim();
    if name.split(' ').count() != 2 {
        bail!("{}: no line `source: PACKAGE VERSION'", file.display());
    }
    Ok(name.to_owned())
}

/// The patches that a `series` file names. Comments are `#`; the cover letter is no patch.
pub fn list_names(list: &str) -> Vec<&str> {
    list.lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim())
        .filter(|line| !line.is_empty() && *line != COVER)
        .collect()
}

/// The files that one patch touches, as `diff --git` and its header lines name them.
pub fn read_touched(patch: &str) -> Vec<Touched> {
    let mut files = Vec::new();
    for line in patch.lines() {
        if let Some(names) = line.strip_prefix("diff --git a/") {
            if let Some((_, path)) = names.split_once(" b/") {
                let path = path.to_owned();
                files.push(Touched { path, new: false });
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
        assert_eq!(list_names(list), ["0001-a.patch", "0002-b.patch"]);
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
        let files = read_touched(patch).into_iter().map(|f| (f.path, f.new));
        let expected = [("x/y.c".into(), false), ("new.h".into(), true)];
        assert_eq!(files.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_series_goes_in_whole_or_in_part() {
        let folder = tempfile::tempdir().unwrap();
        let (series, tree) = (folder.path().join("series"), folder.path());
        let hunk = "@@ -1 +1 @@\n-old\n+new\n";
        let patch = |f: &str| format!("diff --git a/{f} b/{f}\n--- a/{f}\n+++ b/{f}\n{hunk}");
        fs::write(&series, "a.patch\nb.patch\n").unwrap();
        for (name, file) in [("a.patch", "net/wg/x.c"), ("b.patch", "net/wg2/x.c")] {
            fs::write(tree.join(name), patch(file)).unwrap();
            fs::create_dir_all(tree.join(file).parent().unwrap()).unwrap();
            fs::write(tree.join(file), "old\n").unwrap();
        }
        let series = Series::read(tree).unwrap();
        let texts = || ["net/wg/x.c", "net/wg2/x.c"].map(|f| fs::read(tree.join(f)).unwrap());
        series.apply_to(tree, &["net/wg"]).unwrap();
        assert_eq!(texts(), [b"new\n", b"old\n"]);
        let error = series.apply_to(tree, &["net/w"]).unwrap_err().to_string();
        assert!(error.contains("no patch of"), "{error}");
        let error = series.apply_to(tree, &[]).unwrap_err().to_string();
        assert!(error.contains("a.patch does not apply:"), "{error}");
    }
}
