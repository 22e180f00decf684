// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! `patches refresh`, `new-tree`, `range-diff`: a series as a branch, and back into its folder.
//! The branch is scratch. It is made from the newest source and the patch files, a person edits
//! it with git, `--write` turns it into patch files again. Unwritten work is never thrown away
//! unless that is asked for.

use std::path::{Path, PathBuf};

use fs_err as fs;
use kit::cache::remove_path;
use kit::{Result, process, repo};
use vm_tests::kernel::series;
use vm_tests::kernel::trees::{Tree, Trees};

use super::folder::{self, Set};
use super::git::{self, Refused, write_file};
use super::{Context, scratch};

/// The series as the patch files have it.
const WRITTEN: &str = "written";
/// The series of an earlier branch, with its base: blobs for a three-way merge, and the side that a
/// range-diff compares with when the series had to be mended.
const EARLIER: &str = "refs/earlier/written";
const EARLIER_BASE: &str = "refs/earlier/base";

/// A scratch branch.
pub struct Branch {
    repo: PathBuf,
    source: String,
    /// The patches that need work, in order; git am waits at the first one.
    pub refused: Vec<Refused>,
}

impl Branch {
    /// Prints the place of the branch and the next step.
    pub fn print_place(&self, name: &str) {
        let (place, source, count) = (self.repo.display(), &self.source, self.refused.len());
        let write = format!("cargo xtask patches refresh {name} --write");
        if count == 0 {
            println!("{name}: the series on {source} is in\n{place}");
            println!("edit it there (git rebase -i base), then: {write}");
            return;
        }
        println!("{name}: {count} patches need work on {source}:");
        self.refused.iter().for_each(|r| println!("  {r}"));
        println!("git am waits at the first of them in\n{place}");
        println!("mend it there, git add, git am --continue, then: {write}");
        println!("(git apply --reject .git/rebase-apply/patch leaves in *.rej what has no place)");
    }
}

/// Makes the branch of `tree` with the series of a folder; unwritten work is kept.
pub fn open_branch(series: &Path, tree: &Tree, fresh: bool, context: &Context) -> Result<Branch> {
    let name = &tree.name;
    let repo = scratch::find_folder(context, "refresh", name)?;
    let lock = format!("patches-refresh-{name}");
    let _lock = context.cache.hold_lock(&lock)?;
    if !fresh && is_unwritten(&repo)? {
        let (place, refresh) = (repo.display(), "cargo xtask patches refresh");
        let ways = format!("{refresh} {name} --write\nor throw it away: {refresh} {name} --fresh");
        bail!("{name}: {place} has work that was not written back\nwrite it: {ways}");
    }
    let set = Set::read(series, tree, &context.trees)?;
    let draft = repo.with_extension("new");
    let source = scratch::make_repo(&draft, &set, context)?;
    if git::find_commit(&repo, WRITTEN).is_ok() {
        let refs = [(WRITTEN, EARLIER), (git::BASE, EARLIER_BASE)];
        let refs = refs.map(|(tag, to)| format!("+refs/tags/{tag}:{to}"));
        let mut fetch = git::prepare_scratch(&draft);
        fetch.args(["fetch", "-q", "--no-tags"]).arg(&repo);
        process::run(fetch.args(refs))?;
    }
    remove_path(&repo)?;
    fs::rename(&draft, &repo)?;
    Ok(Branch {
        refused: apply_all(&repo, &set.list_paths())?,
        repo,
        source,
    })
}

/// Applies the patches; those that are refused. Then git am waits in the first of them, so that
/// `git am --continue` goes on with the rest.
fn apply_all(repo: &Path, patches: &[PathBuf]) -> Result<Vec<Refused>> {
    let refused = git::apply_each(repo, patches)?;
    if !refused.is_empty() {
        git::run_git(repo, &["reset", "-q", "--hard", git::BASE])?;
        let am = ["am", "-q", "--3way", "--committer-date-is-author-date"];
        let out = process::capture_output(git::prepare_scratch(repo).args(am).args(patches))?;
        if !out.ok && !is_unfinished(repo) {
            bail!("git am: {}", out.join_streams().trim());
        }
        if !out.ok {
            return Ok(refused);
        }
    }
    git::run_git(repo, &["tag", "-f", WRITTEN])?;
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
    let changes = git::run_git(repo, &["status", "--porcelain", "-uno"])?;
    Ok(changes.is_empty())
}

/// Writes the branch back into the folder of its tree; what that changed.
pub fn write_branch(tree: &Tree, context: &Context) -> Result<String> {
    let name = &tree.name;
    let repo = scratch::find_folder(context, "refresh", name)?;
    let lock = format!("patches-refresh-{name}");
    let _lock = context.cache.hold_lock(&lock)?;
    write_branch_to(&repo::find_patches().join(name), &repo, name)
}

fn write_branch_to(dir: &Path, repo: &Path, name: &str) -> Result<String> {
    let place = repo.display();
    if !repo.join(".git").exists() {
        bail!("no branch to write: cargo xtask patches refresh {name}");
    }
    if is_unfinished(repo) {
        bail!("{place}: git am or rebase is not finished: git status says how to go on");
    }
    if !is_clean(repo)? {
        bail!("{place}: changes that are not committed");
    }
    let now = (git::BASE, "HEAD");
    let range_diff = if git::find_commit(repo, WRITTEN).is_ok() {
        compare_ranges(repo, (git::BASE, WRITTEN), now)?
    } else if git::find_commit(repo, EARLIER).is_ok() {
        compare_ranges(repo, (EARLIER_BASE, EARLIER), now)?
    } else {
        "no range-diff: this is the first version written from here\n".to_owned()
    };
    let count = folder::write_series(dir, repo)?.len();
    let source = git::run_git(repo, &["log", "-1", "--format=%s", git::BASE])?;
    folder::write_base(dir, source.trim())?;
    git::run_git(repo, &["tag", "-f", WRITTEN])?;
    let next = format!("cargo xtask patches check {name}");
    let written = format!("{count} patches written to kernel-patches/{name}; next: {next}");
    Ok(format!("{range_diff}{name}: {written}\n"))
}

fn compare_ranges(repo: &Path, old: (&str, &str), new: (&str, &str)) -> Result<String> {
    // Hunks far apart in two trees are still the same patch.
    let options = ["range-diff", "--no-color", "--creation-factor=90"];
    let ranges = [old, new].map(|(base, tip)| format!("{base}..{tip}"));
    process::run(git::prepare_scratch(repo).args(options).args(ranges))
}

/// `7.4` as a number; a new major comes about every twenty minors.
fn read_version(name: &str) -> Option<i64> {
    let (major, minor) = name.split_once('.')?;
    Some(major.parse::<i64>().ok()? * 20 + minor.parse::<i64>().ok()?)
}

/// The distance of a tree from a version. Of two at one distance the older one: a backport grows
/// upwards more easily.
pub fn measure_distance(tree: &str, version: &str) -> Option<(i64, i64)> {
    let (tree, version) = (read_version(tree)?, read_version(version)?);
    Some(((tree - version).abs(), tree))
}

/// `7.4` → the tree of trees.toml that is nearest to it.
pub fn find_nearest<'a>(trees: &'a [Tree], version: &str) -> Result<&'a Tree> {
    if read_version(version).is_none() {
        bail!("`{version}' is not like 7.4");
    }
    let known = trees.iter().filter(|t| read_version(&t.name).is_some());
    match known.min_by_key(|t| measure_distance(&t.name, version)) {
        Some(tree) => Ok(tree),
        None => bail!("kernel-patches/trees.toml has no tree to start from"),
    }
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
pub fn start_tree(version: &str, suites: &[String], context: &Context) -> Result<Branch> {
    let trees = &context.trees;
    if trees.list_names().contains(&version) {
        bail!("tree {version} exists: cargo xtask patches refresh {version}");
    }
    let neighbour = &find_nearest(&trees.trees, version)?.name;
    let file = repo::find_patches().join("trees.toml");
    let text = fs::read_to_string(&file)?;
    let entry = derive_entry(&text, neighbour, version, suites);
    let new: Trees = match toml::from_str(&entry) {
        Ok(new) => new,
        Err(error) => bail!("{entry}: {error}"),
    };
    let (tree, series) = (&new.trees[0], repo::find_patches().join(neighbour));
    // Before anything is changed: is there such a source at all?
    let branch = open_branch(&series, tree, false, context)?;
    write_file(&file, &(text + &entry))?;
    let place = "its lines are at the end of kernel-patches/trees.toml";
    println!("{version}: started from {neighbour}; {place}");
    match branch.refused.is_empty() {
        true => println!("{}", write_branch(tree, context)?.trim_end()),
        false => branch.print_place(version),
    }
    Ok(branch)
}

/// Makes one side of a range-diff, as the user names it.
fn make_side(spec: &str, side: &str, context: &Context) -> Result<PathBuf> {
    let trees = &context.trees;
    let place = scratch::find_folder(context, "range-diff", side)?;
    let (dir, tree) = if trees.list_names().contains(&spec) {
        (repo::find_patches().join(spec), trees.find_tree(spec)?)
    } else if let Some((commit, name)) = spec.split_once(':') {
        let dir = place.with_extension("patches");
        remove_path(&dir)?;
        folder::extract_commit(commit, name, &dir)?;
        (dir, trees.find_tree(name)?)
    } else {
        let dir = PathBuf::from(spec);
        let base = series::read_base(&dir).unwrap_or_default();
        let package = base.split(' ').next().unwrap_or_default();
        let Some(tree) = trees.trees.iter().find(|t| t.source == package) else {
            let kinds = "neither a tree nor COMMIT:TREE nor a folder with a series and its base";
            let names = trees.list_names().join(", ");
            bail!("`{spec}' is {kinds} (trees: {names})");
        };
        (dir, tree)
    };
    let set = Set::read(&dir, tree, trees)?;
    scratch::make_repo(&place, &set, context)?;
    match git::apply_each(&place, &set.list_paths())?.first() {
        None => Ok(place),
        Some(refused) => bail!("{spec}: {refused}"),
    }
}

pub fn compare_series(a: &str, b: &str, context: &Context) -> Result<String> {
    let _lock = context.cache.hold_lock("patches-range-diff")?;
    let left = make_side(a, "1", context)?;
    let right = make_side(b, "2", context)?;
    let refs = ["+refs/tags/base:refs/other/base", "+HEAD:refs/other/series"];
    let mut fetch = git::prepare_scratch(&left);
    fetch.args(["fetch", "-q", "--no-tags"]).arg(right);
    process::run(fetch.args(refs))?;
    let other = ("refs/other/base", "refs/other/series");
    compare_ranges(&left, (git::BASE, git::SERIES), other)
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::patches::rules::tests::test_tree;

    #[test]
    fn the_nearest_tree_is_by_number() {
        let trees = ["7.3", "6.12", "6.1"].map(|name| Tree {
            name: name.to_owned(),
            ..test_tree()
        });
        let find = |version| find_nearest(&trees, version).unwrap().name.as_str();
        let near = ["7.4", "6.6", "6.18", "6.13"].map(find);
        assert_eq!(near, ["7.3", "6.1", "7.3", "6.12"]);
        assert!(find_nearest(&trees, "next").is_err());
    }

    #[test]
    fn a_new_trees_entry_is_read_back() {
        let file = fs::read_to_string(repo::find_patches().join("trees.toml")).unwrap();
        let text = derive_entry(&file, "7.3", "7.4", &["sid".to_owned()]);
        let tree = toml::from_str::<Trees>(&text).unwrap().trees.remove(0);
        assert_eq!((&*tree.name, &*tree.source), ("7.4", "linux-source-7.4"));
        assert_eq!(tree.suites, ["sid"]);
        assert!(!tree.reference);
    }

    pub const COUNT: [&str; 3] = ["count a\n\nPots.\n", "count b\n", "count c\n"];

    /// The source of an invented driver, a file for each patch, and a folder with the series.
    pub fn make_series(temp: &Path, messages: &[&str]) -> (PathBuf, PathBuf) {
        let (repo, dir) = (temp.join("repo"), temp.join("9.9"));
        let place = |n: usize| repo.join(format!("drivers/net/wireguard/pot{}.c", n + 1));
        let text: String = (1..=9).map(|n| format!("line {n}\n")).collect();
        for n in 0..messages.len() {
            write_file(&place(n), &text).unwrap();
        }
        git::init_repo(&repo, "linux-source-9.9 9.9.1-1").unwrap();
        for (n, message) in messages.iter().enumerate() {
            write_file(&place(n), &text.replace("line 5", "five")).unwrap();
            let message = format!("wireguard: socket: {message}\nAssisted-by: LLM");
            git::run_git(&repo, &["commit", "-q", "-am", &message]).unwrap();
        }
        folder::write_series(&dir, &repo).unwrap();
        folder::write_base(&dir, "linux-source-9.9 9.9.1-1").unwrap();
        (repo, dir)
    }

    /// Replaces words in a file of the driver.
    pub fn replace_words(repo: &Path, file: &str, from: &str, to: &str) {
        let path = repo.join("drivers/net/wireguard").join(file);
        let text = fs::read_to_string(&path).unwrap();
        write_file(&path, &text.replace(from, to)).unwrap();
    }

    #[test]
    fn a_new_source_names_every_patch_that_needs_work() {
        let temp = tempfile::tempdir().unwrap();
        let (repo, dir) = make_series(temp.path(), &COUNT);
        let names = ["a", "b", "c"].iter().zip(1..);
        let names = names.map(|(n, at)| format!("000{at}-wireguard-socket-count-{n}.patch"));
        let names: Vec<_> = names.collect();
        let paths: Vec<_> = names.iter().map(|n| dir.join(n)).collect();
        git::run_git(&repo, &["reset", "-q", "--hard", git::BASE]).unwrap();
        replace_words(&repo, "pot1.c", "line 5", "FIVE");
        replace_words(&repo, "pot3.c", "line 5", "FIVE");
        git::run_git(&repo, &["commit", "-q", "-am", "linux-source-9.9 9.9.2-1"]).unwrap();
        git::run_git(&repo, &["tag", "-f", git::BASE]).unwrap();
        let refused = apply_all(&repo, &paths).unwrap();
        let found: Vec<_> = refused.iter().map(|r| r.patch.as_str()).collect();
        assert_eq!(found, [&names[0], &names[2]]);
        assert!(refused[1].what.contains("pot3.c:2"), "{}", refused[1].what);
        // The unfinished am is still there for the person, and is not thrown away.
        assert!(is_unfinished(&repo) && is_unwritten(&repo).unwrap());
        let error = write_branch_to(&dir, &repo, "9.9").unwrap_err().to_string();
        assert!(error.contains("not finished"), "{error}");
    }

    #[test]
    fn work_is_seen_until_it_is_written() {
        let temp = tempfile::tempdir().unwrap();
        let (repo, dir) = make_series(temp.path(), &COUNT);
        assert!(is_unwritten(&repo).unwrap());
        let first = write_branch_to(&dir, &repo, "9.9").unwrap();
        assert!(first.contains("no range-diff") && !is_unwritten(&repo).unwrap());
        replace_words(&repo, "pot3.c", "five", "fife");
        assert!(is_unwritten(&repo).unwrap());
        let error = write_branch_to(&dir, &repo, "9.9").unwrap_err().to_string();
        assert!(error.contains("not committed"), "{error}");
        git::run_git(&repo, &["commit", "-q", "-a", "--amend", "--no-edit"]).unwrap();
        assert!(is_unwritten(&repo).unwrap());
        let second = write_branch_to(&dir, &repo, "9.9").unwrap();
        assert!(second.contains("fife") && second.contains("3 patches written"));
        assert!(!is_unwritten(&repo).unwrap());
        let none = write_branch_to(&dir, &temp.path().join("none"), "9.9").unwrap_err();
        assert!(none.to_string().contains("no branch to write"));
    }
}
