// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! `patches refresh`, `new-tree`, `range-diff`: a series as a branch, and back into its folder.
//!
//! The branch is scratch. It is made from the newest source and the patch files, a person edits
//! it with git, `--write` turns it into patch files again. Unwritten work is never thrown away
//! unless that is asked for.

use std::fs;
use std::path::{Path, PathBuf};

use kit::cache::remove;
use kit::{Cache, Error, Progress, Result};

use super::git::{self, Refused};
use super::{folder, rules, scratch};
use kit::process;
use kit::repo;
use vm_tests::kernel::series::COVER;
use vm_tests::kernel::trees::{Build, Tree, Trees};

/// The series as the patch files have it, on the source that it was applied to then.
const WRITTEN: &str = "written";
const WRITTEN_BASE: &str = "written-base";

/// A scratch branch, or what stands in its way.
#[derive(Debug)]
pub struct Branch {
    pub repo: PathBuf,
    pub source: String,
    /// The patches that need work, in order; git am waits at the first one.
    pub refused: Vec<Refused>,
    /// There is work in it that was not written back.
    pub unwritten: bool,
}

/// Makes the branch of `tree`, or finds one with unwritten work.
pub fn open(
    tree: &Tree,
    trees: &Trees,
    fresh: bool,
    cache: &Cache,
    progress: &Progress,
) -> Result<Branch> {
    let dir = repo::kernel_patches().join(&tree.name);
    from(&dir, tree, trees, fresh, cache, progress)
}

/// The same with the series of another folder: how a new tree starts.
fn from(
    series: &Path,
    tree: &Tree,
    trees: &Trees,
    fresh: bool,
    cache: &Cache,
    progress: &Progress,
) -> Result<Branch> {
    let repo = scratch::folder(cache, "refresh", &tree.name)?;
    let _lock = cache.lock(&format!("patches-refresh-{}", tree.name))?;
    if !fresh && unwritten(&repo)? {
        return Ok(Branch {
            source: subject(&repo, git::BASE)?,
            repo,
            refused: Vec::new(),
            unwritten: true,
        });
    }
    let set = folder::read(series, tree, trees)?;
    let draft = repo.with_extension("new");
    let source = scratch::repository(&draft, tree, &set, cache, progress)?;
    keep_written(&repo, &draft, series)?;
    remove(&repo)?;
    fs::rename(&draft, &repo).map_err(Error::io("create", &repo))?;
    let patches: Vec<_> = set.patches.iter().map(|m| series.join(&m.file)).collect();
    if patches.is_empty() {
        return Err(Error::other(format!("{} has no patches", series.display())));
    }
    let refused = match apply(&repo, &patches)? {
        true => Vec::new(),
        false => survey(&repo, &patches)?,
    };
    if refused.is_empty() && git::rev(&repo, WRITTEN).is_err() {
        mark(&repo, series)?;
    }
    Ok(Branch {
        repo,
        source,
        refused,
        unwritten: false,
    })
}

/// All patches in one go, so that `git am --continue` goes on with the rest.
fn apply(repo: &Path, patches: &[PathBuf]) -> Result<bool> {
    let out = process::output(
        git::command(repo)
            .args(["am", "-q", "--3way", "--committer-date-is-author-date"])
            .args(patches),
    )?;
    if !out.ok && !repo.join(".git/rebase-apply").exists() {
        return Err(Error::other(format!("git am: {}", out.all().trim())));
    }
    Ok(out.ok)
}

/// Every patch that does not apply, each with what can be applied of those before it.
fn survey(repo: &Path, patches: &[PathBuf]) -> Result<Vec<Refused>> {
    let trial = repo.with_extension("survey");
    remove(&trial)?;
    process::run(
        git::command(repo)
            .args(["worktree", "add", "-q", "--detach"])
            .arg(&trial)
            .arg(git::BASE),
    )?;
    let mut refused = Vec::new();
    for patch in patches {
        if let Some(no) = git::am(&trial, patch, false)? {
            refused.push(no);
            process::run(git::command(&trial).args(["am", "--abort"]))?;
            // It reports what it rejects by its exit status; that is known already.
            process::output(
                git::command(&trial)
                    .args(["apply", "--reject", "--whitespace=nowarn"])
                    .arg(patch),
            )?;
            process::run(git::command(&trial).args(["add", "-A"]))?;
            process::run(git::command(&trial).args([
                "commit",
                "-q",
                "--no-verify",
                "--allow-empty",
                "-m",
                "what applies",
            ]))?;
        }
    }
    process::run(
        git::command(repo)
            .args(["worktree", "remove", "--force"])
            .arg(&trial),
    )?;
    Ok(refused)
}

/// Work that `--write` has not seen: commits, changed files, an unfinished am or rebase.
fn unwritten(repo: &Path) -> Result<bool> {
    if !repo.join(".git").exists() {
        return Ok(false);
    }
    if unfinished(repo) || !clean(repo)? {
        return Ok(true);
    }
    match git::rev(repo, WRITTEN) {
        Ok(written) => {
            // A series that was applied to a newer source differs from what was written.
            let patch_ids = |tip: &str, base: &str| -> Result<String> {
                process::run(git::command(repo).args([
                    "log",
                    "--reverse",
                    "-p",
                    "--format=%an%ae%B",
                    "--no-renames",
                    &format!("{base}..{tip}"),
                ]))
                .map(|text| {
                    text.lines()
                        .filter(|l| !l.starts_with("index ") && !l.starts_with("@@"))
                        .collect()
                })
            };
            Ok(git::head(repo)? != written
                && patch_ids("HEAD", git::BASE)? != patch_ids(WRITTEN, WRITTEN_BASE)?)
        }
        Err(_) => Ok(git::head(repo)? != git::rev(repo, git::BASE)?),
    }
}

fn unfinished(repo: &Path) -> bool {
    ["rebase-apply", "rebase-merge"]
        .iter()
        .any(|state| repo.join(".git").join(state).exists())
}

fn clean(repo: &Path) -> Result<bool> {
    let status = process::run(git::command(repo).args(["status", "--porcelain", "-uno"]))?;
    Ok(status.trim().is_empty())
}

fn subject(repo: &Path, commit: &str) -> Result<String> {
    let text = process::run(git::command(repo).args(["log", "-1", "--format=%s", commit]))?;
    Ok(text.trim().to_owned())
}

/// Remembers that HEAD is what the files say.
fn mark(repo: &Path, dir: &Path) -> Result<()> {
    process::run(git::command(repo).args(["tag", "-f", WRITTEN, "HEAD"]))?;
    process::run(git::command(repo).args(["tag", "-f", WRITTEN_BASE, git::BASE]))?;
    let file = repo.join(".git/wg-vrf-digest");
    fs::write(&file, folder::digest(dir)?).map_err(Error::io("write", &file))
}

/// Takes the last written state into the new repository: blobs for a three-way merge, and what a
/// range-diff compares with. Only if the files are still what was written.
fn keep_written(old: &Path, new: &Path, dir: &Path) -> Result<()> {
    let note = old.join(".git/wg-vrf-digest");
    let Ok(digest) = fs::read_to_string(&note) else {
        return Ok(());
    };
    if digest != folder::digest(dir)? {
        return Ok(());
    }
    process::run(
        git::command(new)
            .args(["fetch", "-q", "--no-tags"])
            .arg(old)
            .args([
                format!("+refs/tags/{WRITTEN}:refs/tags/{WRITTEN}"),
                format!("+refs/tags/{WRITTEN_BASE}:refs/tags/{WRITTEN_BASE}"),
            ]),
    )?;
    fs::copy(&note, new.join(".git/wg-vrf-digest")).map_err(Error::io("copy", &note))?;
    Ok(())
}

/// What `--write` did.
pub struct Written {
    pub names: Vec<String>,
    /// Against what the folder held before; none if that is not known.
    pub range_diff: Option<String>,
}

/// Writes the branch back into the folder of its tree.
pub fn write(tree: &Tree, cache: &Cache) -> Result<Written> {
    let repo = scratch::folder(cache, "refresh", &tree.name)?;
    let _lock = cache.lock(&format!("patches-refresh-{}", tree.name))?;
    if !repo.join(".git").exists() {
        return Err(Error::other(format!(
            "no branch to write: cargo xtask patches refresh {}",
            tree.name
        )));
    }
    if unfinished(&repo) {
        return Err(Error::other(format!(
            "{}: git am or rebase is not finished: git status says how to go on",
            repo.display()
        )));
    }
    if !clean(&repo)? {
        return Err(Error::other(format!(
            "{}: changes that are not committed",
            repo.display()
        )));
    }
    let source = subject(&repo, git::BASE)?;
    let dir = repo::kernel_patches().join(&tree.name);
    let range_diff = match git::rev(&repo, WRITTEN) {
        Ok(_) => Some(compare(
            &repo,
            (WRITTEN_BASE, WRITTEN),
            (git::BASE, "HEAD"),
        )?),
        Err(_) => None,
    };
    let names = folder::write(&dir, &repo, (git::BASE, "HEAD"), &source)?;
    mark(&repo, &dir)?;
    Ok(Written { names, range_diff })
}

fn compare(repo: &Path, old: (&str, &str), new: (&str, &str)) -> Result<String> {
    process::run(git::command(repo).args([
        "range-diff",
        "--no-color",
        // Hunks far apart in two trees are still the same patch.
        "--creation-factor=90",
        &format!("{}..{}", old.0, old.1),
        &format!("{}..{}", new.0, new.1),
    ]))
}

/// `7.4` → the tree of trees.toml that is nearest to it.
pub fn nearest<'a>(trees: &'a [Tree], version: &str) -> Result<&'a Tree> {
    let number = |name: &str| -> Option<i64> {
        let (major, minor) = name.split_once('.')?;
        // A new major comes about every twenty minors.
        Some(major.parse::<i64>().ok()? * 20 + minor.parse::<i64>().ok()?)
    };
    let wanted =
        number(version).ok_or_else(|| Error::other(format!("`{version}' is not like 7.4")))?;
    trees
        .iter()
        .filter(|t| t.name != version)
        .filter_map(|t| Some((t, number(&t.name)?)))
        // Of two at the same distance the older one: a backport grows upwards more easily.
        .min_by_key(|(_, n)| ((n - wanted).abs(), *n))
        .map(|(tree, _)| tree)
        .ok_or_else(|| Error::other("kernel-patches/trees.toml has no tree to start from"))
}

/// A tree like its neighbour, for another version.
pub fn like(neighbour: &Tree, version: &str, suites: &[String]) -> Tree {
    let mut tree = neighbour.clone();
    tree.source = neighbour.source.replace(&neighbour.name, version);
    version.clone_into(&mut tree.name);
    "newest".clone_into(&mut tree.version);
    tree.reference = false;
    if !suites.is_empty() {
        tree.suites = suites.to_vec();
    }
    tree
}

/// The lines of trees.toml that a tree is.
pub fn entry(tree: &Tree, neighbour: &str) -> String {
    let suites: Vec<_> = tree.suites.iter().map(|s| format!("\"{s}\"")).collect();
    let build = match tree.build {
        Build::Kernel => "kernel",
        Build::Module => "module",
    };
    let headers = match &tree.headers {
        Some(headers) => format!("headers = \"{headers}\"\n"),
        None => String::new(),
    };
    format!(
        "\n# Started from {neighbour}.\n[[tree]]\nname = \"{}\"\nsuites = [{}]\nsource = \"{}\"\nversion = \"{}\"\nbuild = \"{build}\"\n{headers}",
        tree.name,
        suites.join(", "),
        tree.source,
        tree.version,
    )
}

/// Starts the tree of another kernel version from the nearest one.
pub fn new_tree(
    version: &str,
    suites: &[String],
    cache: &Cache,
    progress: &Progress,
) -> Result<(Tree, String, Branch, Option<Written>)> {
    let trees = Trees::load()?;
    if trees.names().contains(&version) {
        return Err(Error::other(format!(
            "tree {version} exists: cargo xtask patches refresh {version}"
        )));
    }
    let neighbour = nearest(&trees.trees, version)?;
    let tree = like(neighbour, version, suites);
    let series = repo::kernel_patches().join(&neighbour.name);
    // Before anything is changed: is there such a source at all?
    let branch = from(&series, &tree, &trees, false, cache, progress)?;
    let file = repo::kernel_patches().join("trees.toml");
    let mut text = fs::read_to_string(&file).map_err(Error::io("read", &file))?;
    text.push_str(&entry(&tree, &neighbour.name));
    fs::write(&file, text).map_err(Error::io("write", &file))?;
    let dir = repo::kernel_patches().join(version);
    fs::create_dir_all(&dir).map_err(Error::io("create", &dir))?;
    let cover = series.join(COVER);
    if cover.exists() {
        fs::copy(&cover, dir.join(COVER)).map_err(Error::io("copy", &cover))?;
    }
    let written = match branch.refused.is_empty() && !branch.unwritten {
        true => Some(write(&tree, cache)?),
        false => None,
    };
    Ok((tree, neighbour.name.clone(), branch, written))
}

/// One side of a range-diff, as the user names it.
fn side(
    spec: &str,
    number: usize,
    trees: &Trees,
    cache: &Cache,
    progress: &Progress,
) -> Result<PathBuf> {
    let place = cache
        .folder("patches")?
        .join(format!("range-diff-{number}"));
    let (dir, tree) = if trees.names().contains(&spec) {
        (repo::kernel_patches().join(spec), trees.find(spec)?)
    } else if let Some((commit, name)) = spec.split_once(':') {
        let dir = place.with_extension("patches");
        remove(&dir)?;
        folder::extract(commit, name, &dir)?;
        (dir, trees.find(name)?)
    } else {
        let dir = PathBuf::from(spec);
        let base = dir.join("base");
        let text = fs::read_to_string(&base).map_err(|_| {
            Error::other(format!(
                "`{spec}' is neither a tree ({}) nor COMMIT:TREE nor a folder with a series",
                trees.names().join(", ")
            ))
        })?;
        let package = rules::source_line(&text).map(|(package, _)| package.to_owned());
        let tree = trees
            .trees
            .iter()
            .find(|t| Some(&t.source) == package.as_ref())
            .ok_or_else(|| Error::other(format!("{}: of no tree", base.display())))?;
        (dir, tree)
    };
    let set = folder::read(&dir, tree, trees)?;
    scratch::repository(&place, tree, &set, cache, progress)?;
    for mail in &set.patches {
        if let Some(refused) = git::am(&place, &dir.join(&mail.file), false)? {
            return Err(Error::other(format!(
                "{spec}: {} {}",
                mail.file,
                refused.what()
            )));
        }
    }
    Ok(place)
}

pub fn range_diff(a: &str, b: &str, cache: &Cache, progress: &Progress) -> Result<String> {
    let trees = Trees::load()?;
    let _lock = cache.lock("patches-range-diff")?;
    let left = side(a, 1, &trees, cache, progress)?;
    let right = side(b, 2, &trees, cache, progress)?;
    process::run(
        git::command(&left)
            .args(["fetch", "-q", "--no-tags"])
            .arg(&right)
            .args([
                "+refs/tags/base:refs/other/base",
                &format!("+refs/heads/{}:refs/other/series", git::SERIES),
            ]),
    )?;
    compare(
        &left,
        (git::BASE, git::SERIES),
        ("refs/other/base", "refs/other/series"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::patches::git::tests::Temp;

    fn tree(name: &str) -> Tree {
        Tree {
            name: name.to_owned(),
            suites: vec!["s".to_owned()],
            source: format!("linux-source-{name}"),
            version: "newest".to_owned(),
            build: Build::Module,
            headers: Some("h".to_owned()),
            reference: name == "7.3",
        }
    }

    #[test]
    fn the_nearest_tree_is_by_number() {
        let trees = ["7.3", "6.12", "6.1"].map(tree);
        for (version, near) in [
            ("7.4", "7.3"),
            ("6.6", "6.1"),
            ("6.18", "7.3"),
            ("6.13", "6.12"),
        ] {
            assert_eq!(nearest(&trees, version).unwrap().name, near, "{version}");
        }
        assert!(nearest(&trees, "next").is_err());
    }

    #[test]
    fn a_new_trees_entry_is_read_back() {
        let made = like(&tree("7.3"), "7.4", &["sid".to_owned()]);
        let text = entry(&made, "7.3");
        let trees: Trees = toml::from_str(&text).unwrap();
        let back = &trees.trees[0];
        assert_eq!(back.name, "7.4");
        assert_eq!(back.source, "linux-source-7.4");
        assert_eq!(back.suites, ["sid"]);
        assert_eq!(back.headers.as_deref(), Some("h"));
        assert!(!back.reference);
    }

    /// A source of three files, and a series of three patches, one a file.
    fn repository(temp: &Temp) -> (PathBuf, Vec<PathBuf>) {
        let repo = temp.0.join("repo");
        fs::create_dir(&repo).unwrap();
        let text: String = (1..=9).map(|n| format!("line {n}\n")).collect();
        for name in ["a", "b", "c"] {
            fs::write(repo.join(name), &text).unwrap();
        }
        git::init(&repo, "linux-source-9.9 9.9.1-1").unwrap();
        for name in ["a", "b", "c"] {
            fs::write(repo.join(name), text.replace("line 5", "five")).unwrap();
            process::run(git::command(&repo).args([
                "commit",
                "-q",
                "-am",
                &format!("wireguard: socket: count {name}"),
            ]))
            .unwrap();
        }
        let dir = temp.0.join("9.9");
        let names =
            folder::write(&dir, &repo, (git::BASE, "HEAD"), "linux-source-9.9 9.9.1-1").unwrap();
        (repo, names.iter().map(|n| dir.join(n)).collect())
    }

    #[test]
    fn a_written_series_applies_again_and_is_the_same_bytes() {
        let temp = Temp::new("write");
        let (repo, patches) = repository(&temp);
        let dir = temp.0.join("9.9");
        let before: Vec<_> = patches.iter().map(|p| fs::read(p).unwrap()).collect();
        let cover = fs::read_to_string(dir.join(COVER)).unwrap();
        assert!(
            cover.contains("[PATCH wireguard 0/3] *** SUBJECT HERE ***"),
            "{cover}"
        );
        assert!(
            cover.contains("wg-vrf (3):\n  wireguard: socket: count a\n"),
            "{cover}"
        );
        assert!(
            cover.contains(" 3 files changed, 3 insertions(+), 3 deletions(-)\n"),
            "{cover}"
        );
        // A person writes the cover letter.
        fs::write(
            dir.join(COVER),
            cover
                .replace("*** BLURB HERE ***", "Pots.\n\nMany.")
                .replace("*** SUBJECT HERE ***", "pots"),
        )
        .unwrap();
        process::run(git::command(&repo).args(["reset", "-q", "--hard", git::BASE])).unwrap();
        assert!(apply(&repo, &patches).unwrap());
        folder::write(&dir, &repo, (git::BASE, "HEAD"), "linux-source-9.9 9.9.2-1").unwrap();
        let after: Vec<_> = patches.iter().map(|p| fs::read(p).unwrap()).collect();
        assert_eq!(before, after);
        let cover = fs::read_to_string(dir.join(COVER)).unwrap();
        assert!(
            cover.contains("Subject: [PATCH wireguard 0/3] pots\n\nPots.\n\nMany.\n\nwg-vrf (3):"),
            "{cover}"
        );
        assert_eq!(
            fs::read_to_string(dir.join("base")).unwrap().lines().last(),
            Some("source: linux-source-9.9 9.9.2-1")
        );
    }

    #[test]
    fn a_new_source_names_every_patch_that_needs_work() {
        let temp = Temp::new("survey");
        let (repo, patches) = repository(&temp);
        process::run(git::command(&repo).args(["reset", "-q", "--hard", git::BASE])).unwrap();
        for name in ["a", "c"] {
            let text = fs::read_to_string(repo.join(name)).unwrap();
            fs::write(repo.join(name), text.replace("line 5", "FIVE")).unwrap();
        }
        process::run(git::command(&repo).args(["commit", "-q", "-am", "linux-source-9.9 9.9.2-1"]))
            .unwrap();
        process::run(git::command(&repo).args(["tag", "-f", git::BASE])).unwrap();
        assert!(!apply(&repo, &patches).unwrap());
        assert!(unfinished(&repo) && unwritten(&repo).unwrap());
        let refused = survey(&repo, &patches).unwrap();
        let names: Vec<_> = refused.iter().map(|r| r.patch.clone()).collect();
        assert_eq!(names, [patches[0].clone(), patches[2].clone()]);
        assert_eq!(refused[1].places, ["c:2"]);
        // The unfinished am is still there for the person.
        assert!(unfinished(&repo));
    }

    #[test]
    fn unwritten_work_is_seen() {
        let temp = Temp::new("unwritten");
        let (repo, _) = repository(&temp);
        mark(&repo, &temp.0.join("9.9")).unwrap();
        assert!(!unwritten(&repo).unwrap());
        fs::write(repo.join("a"), "other\n").unwrap();
        assert!(unwritten(&repo).unwrap());
        process::run(git::command(&repo).args(["commit", "-q", "-a", "--amend", "--no-edit"]))
            .unwrap();
        assert!(unwritten(&repo).unwrap());
        mark(&repo, &temp.0.join("9.9")).unwrap();
        assert!(!unwritten(&repo).unwrap());
    }
}
