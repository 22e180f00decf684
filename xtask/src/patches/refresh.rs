// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! `patches refresh`, `new-tree`, `range-diff`: a series as a branch, and back into its folder.
//!
//! The branch is scratch. It is made from the newest source and the patch files, a person edits
//! it with git, `--write` turns it into patch files again. Unwritten work is never thrown away
//! unless that is asked for.

use std::fs;
use std::path::{Path, PathBuf};

use kit::cache::remove;
use kit::{Error, Result, process, repo};
use vm_tests::kernel::trees::{Tree, Trees};

use super::folder::{self, Set, read_file, write_file};
use super::git::{self, Refused};
use super::{Context, scratch};

/// The series as the patch files have it.
const WRITTEN: &str = "written";
/// That of an earlier branch, with its base: blobs for a three-way merge, and what a range-diff
/// compares with when the series had to be mended.
const EARLIER: &str = "refs/earlier/written";
const EARLIER_BASE: &str = "refs/earlier/base";

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

/// Makes the branch of `tree` with the series of a folder, or finds one with unwritten work.
pub fn open(series: &Path, tree: &Tree, fresh: bool, context: &Context) -> Result<Branch> {
    let repo = scratch::find_folder(context, "refresh", &tree.name)?;
    let _lock = context
        .cache
        .lock(&format!("patches-refresh-{}", tree.name))?;
    if !fresh && is_unwritten(&repo)? {
        return Ok(Branch {
            source: read_source(&repo)?,
            repo,
            refused: Vec::new(),
            unwritten: true,
        });
    }
    let set = Set::read(series, tree, &context.trees)?;
    let draft = repo.with_extension("new");
    let source = scratch::make(&draft, &set, context)?;
    if git::find_commit(&repo, WRITTEN).is_ok() {
        let from = repo.to_string_lossy();
        let written = format!("+refs/tags/{WRITTEN}:{EARLIER}");
        let base = format!("+refs/tags/{}:{EARLIER_BASE}", git::BASE);
        git::run(
            &draft,
            &["fetch", "-q", "--no-tags", &from, &written, &base],
        )?;
    }
    remove(&repo)?;
    fs::rename(&draft, &repo).map_err(Error::io("create", &repo))?;
    Ok(Branch {
        refused: apply_all(&repo, &set.paths())?,
        repo,
        source,
        unwritten: false,
    })
}

/// Applies the patches; those that are refused. Then git am waits in the first of them, so that
/// `git am --continue` goes on with the rest.
fn apply_all(repo: &Path, patches: &[PathBuf]) -> Result<Vec<Refused>> {
    let refused = git::apply_each(repo, patches)?;
    if !refused.is_empty() {
        git::run(repo, &["reset", "-q", "--hard", git::BASE])?;
        let am = ["am", "-q", "--3way", "--committer-date-is-author-date"];
        let out = process::output(git::command(repo).args(am).args(patches))?;
        if !out.ok && !is_unfinished(repo) {
            return Err(Error::other(format!("git am: {}", out.all().trim())));
        }
        if !out.ok {
            return Ok(refused);
        }
    }
    git::run(repo, &["tag", "-f", WRITTEN])?;
    Ok(Vec::new())
}

/// Work that `--write` has not seen: commits, changed files, an unfinished am or rebase.
fn is_unwritten(repo: &Path) -> Result<bool> {
    if !repo.join(".git").exists() {
        return Ok(false);
    }
    let written = git::find_commit(repo, WRITTEN).or_else(|_| git::find_commit(repo, git::BASE))?;
    Ok(is_unfinished(repo) || !is_clean(repo)? || git::find_commit(repo, "HEAD")? != written)
}

fn is_unfinished(repo: &Path) -> bool {
    let states = ["rebase-apply", "rebase-merge"];
    states.iter().any(|s| repo.join(".git").join(s).exists())
}

fn is_clean(repo: &Path) -> Result<bool> {
    Ok(git::run(repo, &["status", "--porcelain", "-uno"])?
        .trim()
        .is_empty())
}

fn read_source(repo: &Path) -> Result<String> {
    let subject = git::run(repo, &["log", "-1", "--format=%s", git::BASE])?;
    Ok(subject.trim().to_owned())
}

/// What `--write` did.
pub struct Written {
    pub count: usize,
    /// Against what the folder held before; none if that is not known.
    pub range_diff: Option<String>,
}

/// Writes the branch back into the folder of its tree.
pub fn write(tree: &Tree, context: &Context) -> Result<Written> {
    let name = &tree.name;
    let repo = scratch::find_folder(context, "refresh", name)?;
    let _lock = context.cache.lock(&format!("patches-refresh-{name}"))?;
    write_to(&repo::kernel_patches().join(name), &repo, name)
}

fn write_to(dir: &Path, repo: &Path, name: &str) -> Result<Written> {
    let place = repo.display();
    if !repo.join(".git").exists() {
        let open = format!("cargo xtask patches refresh {name}");
        return Err(Error::other(format!("no branch to write: {open}")));
    }
    if is_unfinished(repo) {
        return Err(Error::other(format!(
            "{place}: git am or rebase is not finished: git status says how to go on"
        )));
    }
    if !is_clean(repo)? {
        return Err(Error::other(format!(
            "{place}: changes that are not committed"
        )));
    }
    let now = (git::BASE, "HEAD");
    let range_diff = if git::find_commit(repo, WRITTEN).is_ok() {
        Some(compare(repo, (git::BASE, WRITTEN), now)?)
    } else if git::find_commit(repo, EARLIER).is_ok() {
        Some(compare(repo, (EARLIER_BASE, EARLIER), now)?)
    } else {
        None
    };
    let count = folder::write_series(dir, repo, "HEAD")?.len();
    folder::write_base(dir, &read_source(repo)?)?;
    git::run(repo, &["tag", "-f", WRITTEN])?;
    Ok(Written { count, range_diff })
}

fn compare(repo: &Path, old: (&str, &str), new: (&str, &str)) -> Result<String> {
    // Hunks far apart in two trees are still the same patch.
    let options = ["range-diff", "--no-color", "--creation-factor=90"];
    let ranges = [
        format!("{}..{}", old.0, old.1),
        format!("{}..{}", new.0, new.1),
    ];
    process::run(git::command(repo).args(options).args(ranges))
}

/// `7.4` as a number; a new major comes about every twenty minors.
fn read_version(name: &str) -> Option<i64> {
    let (major, minor) = name.split_once('.')?;
    Some(major.parse::<i64>().ok()? * 20 + minor.parse::<i64>().ok()?)
}

/// How far a tree is from a version. Of two at one distance the older one: a backport grows
/// upwards more easily.
pub fn measure_distance(tree: &str, version: &str) -> Option<(i64, i64)> {
    let (tree, version) = (read_version(tree)?, read_version(version)?);
    Some(((tree - version).abs(), tree))
}

/// `7.4` → the tree of trees.toml that is nearest to it.
fn find_nearest<'a>(trees: &'a [Tree], version: &str) -> Result<&'a Tree> {
    if read_version(version).is_none() {
        return Err(Error::other(format!("`{version}' is not like 7.4")));
    }
    let measured = |tree: &'a Tree| Some((measure_distance(&tree.name, version)?, tree));
    let nearest = trees.iter().filter_map(measured).min_by_key(|(d, _)| *d);
    nearest
        .map(|(_, tree)| tree)
        .ok_or_else(|| Error::other("kernel-patches/trees.toml has no tree to start from"))
}

/// The lines of trees.toml for another version: those of its neighbour, under another name.
fn derive_entry(text: &str, neighbour: &str, version: &str, suites: &[String]) -> String {
    let mark = format!("\nname = \"{neighbour}\"\n");
    let mut entry = format!("\n# Started from {neighbour}.\n[[tree]]");
    let block = text.split("[[tree]]").find(|b| b.starts_with(&mark));
    for line in block.unwrap_or_default().lines() {
        match line.split(' ').next().unwrap_or_default() {
            "#" | "reference" => continue,
            "version" => entry += "version = \"newest\"",
            "suites" if !suites.is_empty() => entry += &format!("suites = {suites:?}"),
            _ => entry += &line.replace(neighbour, version),
        }
        entry += "\n";
    }
    entry.trim_end().to_owned() + "\n"
}

/// Starts the tree of another kernel version from the nearest one.
pub fn start_tree(
    version: &str,
    suites: &[String],
    context: &Context,
) -> Result<(String, Branch, Option<Written>)> {
    let trees = &context.trees;
    if trees.names().contains(&version) {
        let refresh = format!("cargo xtask patches refresh {version}");
        return Err(Error::other(format!("tree {version} exists: {refresh}")));
    }
    let neighbour = &find_nearest(&trees.trees, version)?.name;
    let file = repo::kernel_patches().join("trees.toml");
    let text = read_file(&file)?;
    let entry = derive_entry(&text, neighbour, version, suites);
    let new: Trees = toml::from_str(&entry).map_err(|e| Error::other(format!("{entry}: {e}")))?;
    let (tree, series) = (&new.trees[0], repo::kernel_patches().join(neighbour));
    // Before anything is changed: is there such a source at all?
    let branch = open(&series, tree, false, context)?;
    write_file(&file, &(text + &entry))?;
    let whole = branch.refused.is_empty() && !branch.unwritten;
    let written = whole.then(|| write(tree, context)).transpose()?;
    Ok((neighbour.clone(), branch, written))
}

/// Makes one side of a range-diff, as the user names it.
fn make_side(spec: &str, side: &str, context: &Context) -> Result<PathBuf> {
    let trees = &context.trees;
    let place = scratch::find_folder(context, "range-diff", side)?;
    let (dir, tree) = if trees.names().contains(&spec) {
        (repo::kernel_patches().join(spec), trees.find(spec)?)
    } else if let Some((commit, name)) = spec.split_once(':') {
        let dir = place.with_extension("patches");
        remove(&dir)?;
        folder::extract_commit(commit, name, &dir)?;
        (dir, trees.find(name)?)
    } else {
        let dir = PathBuf::from(spec);
        let base = folder::read_base(&dir).map_err(|error| {
            let kinds = "neither a tree nor COMMIT:TREE nor a folder with a series";
            let names = trees.names().join(", ");
            Error::other(format!("`{spec}' is {kinds} (trees: {names}): {error}"))
        })?;
        let package = base.split(' ').next().unwrap_or_default();
        let tree = trees.trees.iter().find(|t| t.source == package);
        let tree = tree.ok_or_else(|| Error::other(format!("{spec}: {base} is of no tree")))?;
        (dir, tree)
    };
    let set = Set::read(&dir, tree, trees)?;
    scratch::make(&place, &set, context)?;
    match git::apply_each(&place, &set.paths())?.first() {
        None => Ok(place),
        Some(Refused { patch, what }) => Err(Error::other(format!("{spec}: {patch} {what}"))),
    }
}

pub fn compare_series(a: &str, b: &str, context: &Context) -> Result<String> {
    let _lock = context.cache.lock("patches-range-diff")?;
    let left = make_side(a, "1", context)?;
    let right = make_side(b, "2", context)?;
    let (base, series) = ("+refs/tags/base:refs/other/base", "+HEAD:refs/other/series");
    let right = right.to_string_lossy();
    git::run(&left, &["fetch", "-q", "--no-tags", &right, base, series])?;
    let other = ("refs/other/base", "refs/other/series");
    compare(&left, (git::BASE, git::SERIES), other)
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::patches::git::tests::Temp;
    use crate::patches::rules::tests::test_tree;

    #[test]
    fn the_nearest_tree_is_by_number() {
        let trees = ["7.3", "6.12", "6.1"].map(|name| Tree {
            name: name.to_owned(),
            ..test_tree()
        });
        for (version, near) in [
            ("7.4", "7.3"),
            ("6.6", "6.1"),
            ("6.18", "7.3"),
            ("6.13", "6.12"),
        ] {
            assert_eq!(
                find_nearest(&trees, version).unwrap().name,
                near,
                "{version}"
            );
        }
        assert!(find_nearest(&trees, "next").is_err());
    }

    #[test]
    fn a_new_trees_entry_is_read_back() {
        let file = read_file(&repo::kernel_patches().join("trees.toml")).unwrap();
        let text = derive_entry(&file, "7.3", "7.4", &["sid".to_owned()]);
        let tree = toml::from_str::<Trees>(&text).unwrap().trees.remove(0);
        assert_eq!((&*tree.name, &*tree.source), ("7.4", "linux-source-7.4"));
        assert_eq!(
            (tree.suites, tree.reference),
            (vec!["sid".to_owned()], false)
        );
    }

    /// A source of three files with a series of three patches, one a file; and its folder.
    pub fn make_series(temp: &Temp) -> (PathBuf, PathBuf) {
        let (repo, dir) = (temp.0.join("repo"), temp.0.join("9.9"));
        let text: String = (1..=9).map(|n| format!("line {n}\n")).collect();
        for name in ["a", "b", "c"] {
            write_file(&repo.join(name), &text).unwrap();
        }
        git::init(&repo, "linux-source-9.9 9.9.1-1").unwrap();
        for name in ["a", "b", "c"] {
            write_file(&repo.join(name), &text.replace("line 5", "five")).unwrap();
            let message = format!("wireguard: socket: count {name}\n\nPots.\n\nAssisted-by: LLM");
            git::run(&repo, &["commit", "-q", "-am", &message]).unwrap();
        }
        folder::write_series(&dir, &repo, "HEAD").unwrap();
        folder::write_base(&dir, "linux-source-9.9 9.9.1-1").unwrap();
        (repo, dir)
    }

    #[test]
    fn a_new_source_names_every_patch_that_needs_work() {
        let temp = Temp::new("survey");
        let (repo, dir) = make_series(&temp);
        let names = ["a", "b", "c"].iter().zip(1..);
        let names = names.map(|(n, at)| format!("000{at}-wireguard-socket-count-{n}.patch"));
        let names: Vec<_> = names.collect();
        let paths: Vec<_> = names.iter().map(|n| dir.join(n)).collect();
        git::run(&repo, &["reset", "-q", "--hard", git::BASE]).unwrap();
        for name in ["a", "c"] {
            let text = read_file(&repo.join(name)).unwrap();
            write_file(&repo.join(name), &text.replace("line 5", "FIVE")).unwrap();
        }
        git::run(&repo, &["commit", "-q", "-am", "linux-source-9.9 9.9.2-1"]).unwrap();
        git::run(&repo, &["tag", "-f", git::BASE]).unwrap();
        let refused = apply_all(&repo, &paths).unwrap();
        let found: Vec<_> = refused.iter().map(|r| r.patch.as_str()).collect();
        assert_eq!(found, [&names[0], &names[2]]);
        assert!(refused[1].what.contains("c:2"), "{}", refused[1].what);
        // The unfinished am is still there for the person, and is not thrown away.
        assert!(is_unfinished(&repo) && is_unwritten(&repo).unwrap());
        let error = write_to(&dir, &repo, "9.9").err().unwrap().to_string();
        assert!(error.contains("not finished"), "{error}");
    }

    #[test]
    fn work_is_seen_until_it_is_written() {
        let temp = Temp::new("unwritten");
        let (repo, dir) = make_series(&temp);
        assert!(is_unwritten(&repo).unwrap());
        let first = write_to(&dir, &repo, "9.9").unwrap();
        assert!(first.range_diff.is_none() && !is_unwritten(&repo).unwrap());
        let text = read_file(&repo.join("c")).unwrap();
        write_file(&repo.join("c"), &text.replace("five", "fife")).unwrap();
        assert!(is_unwritten(&repo).unwrap());
        let error = write_to(&dir, &repo, "9.9").err().unwrap().to_string();
        assert!(error.contains("not committed"), "{error}");
        git::run(&repo, &["commit", "-q", "-a", "--amend", "--no-edit"]).unwrap();
        assert!(is_unwritten(&repo).unwrap());
        let second = write_to(&dir, &repo, "9.9").unwrap();
        assert!(second.range_diff.unwrap().contains("fife"));
        assert!(!is_unwritten(&repo).unwrap());
        assert_eq!(second.count, first.count);
        let none = write_to(&dir, &temp.0.join("none"), "9.9").err().unwrap();
        assert!(none.to_string().contains("no branch to write"));
    }
}
