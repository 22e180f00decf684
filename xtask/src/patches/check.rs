// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! `patches check`: every rule over the series of a tree, first the text, then against its source.

use std::path::Path;
use std::process::Command;

use kit::cache::remove_path;
use kit::{Result, process};
use vm_tests::kernel::own::OwnKernel;
use vm_tests::kernel::series;
use vm_tests::kernel::trees::{Tree, Trees};

use super::builds::{self, Which};
use super::finding::{Finding, doc};
use super::folder::{self, CoverLetter, Set};
use super::git::{self, Refused};
use super::{Context, refresh, rules, scratch, tools};

/// The rules that need nothing but the repository.
pub fn check_text(set: &Set) -> Result<Vec<Finding>> {
    let mut found = rules::check_rules(set);
    for file in [folder::COVER, folder::COVER_OF_FIXES] {
        let letter = CoverLetter::load(file)?;
        found.extend(letter.iter().flat_map(|letter| check_cover(file, letter)));
    }
    Ok(found)
}

/// checkpatch.pl does not read a cover letter.
fn check_cover(file: &str, cover: &CoverLetter) -> Vec<Finding> {
    let is_long = |l: &&str| l.chars().count() > 75 && !l.contains("https://");
    let find = |line: &str| {
        let finding = Finding::new(file, format!("longer than 75 characters: `{line}'"));
        finding.set_rule("cover-letter", doc::SUBMITTING)
    };
    cover.body.lines().filter(is_long).map(find).collect()
}

/// Checks text, source and builds of a series; findings, and the source that was used.
pub fn check_all(set: &Set, which: Which, context: &Context) -> Result<(Vec<Finding>, String)> {
    let mut found = check_text(set)?;
    let name = &set.tree.name;
    let repo = scratch::find_folder(context, "check", name)?;
    let _lock = context.cache.hold_lock(&format!("patches-check-{name}"))?;
    let source = scratch::make_repo(&repo, set, context)?;
    let step = format!("{name}: apply and run the kernel's tools");
    context.cache.begin_step(&step);
    let refused = git::apply_each(&repo, &set.list_paths())?;
    for Refused { patch, what } in &refused {
        let finding = Finding::new(set.name_file(patch), what).set_rule("applies", doc::NETDEV);
        found.push(finding.set_repair(format!("cargo xtask patches refresh {name}")));
    }
    let root = scratch::find_tools(context)?;
    for mail in &set.mails {
        let (path, name) = (set.dir.join(&mail.file), set.name_file(&mail.file));
        let repair = set.suggest_reword();
        let ignore = tools::SPARED;
        found.extend(tools::run_checkpatch(&root, &path, &name, ignore, &repair)?);
    }
    let people = tools::list_maintainers(&root, &set.list_paths())?;
    found.extend(tools::check_people(&people, name));
    context.cache.end_step();
    let base = series::read_base(&set.dir)?;
    if base != source {
        // Each line number may differ, so more is not said.
        let what = format!("says {base}, the mirror has {source}");
        let finding = Finding::new(set.name_file("base"), what).set_rule("base", doc::OURS);
        found.push(finding.set_repair(set.suggest_refresh()));
    } else if refused.is_empty() {
        found.extend(check_refresh(set, &repo)?);
    }
    // Without its patches there is nothing to generate or to build.
    if refused.is_empty() {
        found.extend(check_generated(set, &repo, context)?);
    }
    // What is left out is said, never taken for a pass.
    if which == Which::None || !refused.is_empty() {
        return Ok((found, format!("builds skipped, against {source}")));
    }
    let (warnings, count) = builds::check_tree(set, &repo, which, context)?;
    found.extend(warnings);
    Ok((found, format!("{count} builds, against {source}")))
}

/// The folder is what `refresh --write` makes of it: names, numbers, tags, encoding, white space.
fn check_refresh(set: &Set, repo: &Path) -> Result<Vec<Finding>> {
    let fresh = repo.with_extension("written");
    folder::write_series(&fresh, repo)?;
    let mut diff = Command::new("diff");
    diff.args(["-r", "-U0", "-x", "base"]);
    let diff = process::capture_output(diff.args([&set.dir, &fresh]))?.join_streams();
    remove_path(&fresh)?;
    let is_change = |l: &&str| !l.starts_with("diff ") && !l.starts_with("@@");
    let find = |line: &str| {
        let what = format!("`refresh --write' changes: {line}");
        let finding = Finding::new(&set.tree.name, what).set_rule("refresh", doc::OURS);
        finding.set_repair(set.suggest_refresh())
    };
    Ok(diff.lines().filter(is_change).take(9).map(find).collect())
}

/// Generated code is what its specification generates, after each patch that may change it.
fn check_generated(set: &Set, repo: &Path, context: &Context) -> Result<Vec<Finding>> {
    let places = ["include/uapi", "drivers/net/wireguard/generated"];
    let commits = git::list_commits(repo, git::BASE, git::SERIES)?;
    let mut found = Vec::new();
    for (mail, commit) in set.mails.iter().zip(&commits) {
        let mut places = tools::NETLINK.iter().chain(&places);
        if Some(commit) == commits.last() || places.any(|p| mail.touches_path(p)) {
            git::run_git(repo, &["checkout", "-q", commit])?;
            let name = set.name_file(&mail.file);
            let progress = &context.cache.progress;
            found.extend(tools::regenerate_netlink(repo, &name, progress)?);
        }
    }
    git::run_git(repo, &["checkout", "-q", git::SERIES])?;
    Ok(found)
}

/// Reads a folder with a kernel's source: headers alone have nothing that a series changes.
pub fn read_source(folder: &Path, trees: &Trees) -> Result<OwnKernel> {
    let kernel = OwnKernel::read(folder)?;
    if !kernel.has_driver {
        let (place, version) = (kernel.path.display(), &kernel.version);
        let nearest = &refresh::find_nearest(&trees.trees, version)?.name;
        let release = kernel.release.as_ref().unwrap_or(version);
        bail!(
            "`{place}' has headers of Linux {release}, and no drivers/net/wireguard that a series changes; \
             nearest by its number is kernel-patches/{nearest}\n\
             give the source of that kernel: --source SOURCE (`kernel module' takes the headers beside \
             it: --headers {place})"
        );
    }
    Ok(kernel)
}

/// Finds the series with the fewest patches to mend on a source, the nearest of equal ones. Says
/// what has to be mended, and whether that is nothing.
pub fn find_fit<'a>(
    kernel: &OwnKernel,
    chosen: &[&'a Tree],
    context: &Context,
) -> Result<(&'a Tree, String, bool)> {
    let OwnKernel { path, version, .. } = kernel;
    let _lock = context.cache.hold_lock("patches-source")?;
    let mut fits = Vec::new();
    for &tree in chosen {
        let set = Set::read_tree(tree, &context.trees)?;
        let repo = scratch::find_folder(context, "source", &tree.name)?;
        scratch::make_repo_from(&repo, &set, path, version)?;
        fits.push((git::apply_each(&repo, &set.list_paths())?, tree));
        remove_path(&repo)?;
    }
    let measure = |tree: &Tree| refresh::measure_distance(&tree.name, version);
    let rank = |(refused, tree): &(Vec<Refused>, &Tree)| (refused.len(), measure(tree));
    let Some((refused, tree)) = fits.into_iter().min_by_key(rank) else {
        bail!("kernel-patches/trees.toml has no tree");
    };
    let (place, name) = (path.display(), &tree.name);
    let mut text = format!("{place}: Linux {version}: kernel-patches/{name} ");
    match refused.len() {
        0 => text += "applies without fuzz",
        n => text += &format!("is nearest; {n} patches need work:"),
    }
    text.extend(refused.iter().map(|patch| format!("\n  {patch}")));
    Ok((tree, text, refused.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::patches::finding::join_findings;
    use crate::patches::git::write_file;
    use crate::patches::refresh::tests::{COUNT, make_series};
    use fs_err as fs;

    /// The rules that git checks: each fixture differs from what `git format-patch` writes.
    #[test]
    fn what_refresh_would_change_is_found() {
        let temp = tempfile::tempdir().unwrap();
        let (repo, dir) = make_series(temp.path(), &COUNT);
        let trees = Trees::default();
        let tree = rules::tests::test_tree();
        let check = || {
            let set = Set::read(&dir, &tree, &trees).unwrap();
            git::run_git(&repo, &["reset", "-q", "--hard", git::BASE]).unwrap();
            assert_eq!(git::apply_each(&repo, &set.list_paths()).unwrap(), []);
            join_findings(&check_refresh(&set, &repo).unwrap())
        };
        assert_eq!(check(), "");
        let first = dir.join("0001-wireguard-socket-count-a.patch");
        let good = fs::read_to_string(&first).unwrap();
        for (from, to) in [
            // Numbers and tags, of one mail and of the series.
            ("1/3]", "2/3]"),
            ("1/3]", "1/4]"),
            ("[PATCH wireguard 1/3]", "[PATCH 1/3]"),
            ("[PATCH wireguard 1/3] ", ""),
            ("PATCH wireguard", "PATCH wireguard v2"),
            // White space at the end of a line of the message.
            ("Pots.", "Pots. "),
            // More than ASCII, and no header that says so.
            ("Pots.", "Töpfe."),
            ("\n\nPots.", "\n\n\nPots."),
        ] {
            assert!(good.contains(from), "{good}");
            write_file(&first, &good.replace(from, to)).unwrap();
            assert!(check().contains("9.9/0001-"), "{from} -> {to}");
        }
        write_file(&first, &good).unwrap();
        // Not in `series`, and in another order.
        write_file(&dir.join("0004-other.patch"), &good).unwrap();
        assert!(check().contains("9.9: 0004-other.patch"));
        fs::remove_file(dir.join("0004-other.patch")).unwrap();
        let series = fs::read_to_string(dir.join("series")).unwrap();
        let mut names: Vec<_> = series.lines().collect();
        names.swap(0, 2);
        write_file(&dir.join("series"), &names.join("\n")).unwrap();
        assert!(check().contains("9.9/series"));
    }

    #[test]
    fn a_long_line_of_the_cover_letter_is_found() {
        let text = format!("x\n\n{}\nhttps://{0}\n", "long ".repeat(16));
        let found = check_cover("x", &CoverLetter::parse(&text).unwrap());
        assert_eq!(found.len(), 1);
    }
}
