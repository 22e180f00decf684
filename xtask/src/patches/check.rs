// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! `patches check`: every rule over the series of a tree, first the text, then against its source.

use std::path::Path;

use kit::cache::remove;
use kit::{Cache, Error, Event, Progress, Result, repo};
use vm_tests::kernel::trees::{Tree, Trees};

use super::builds::{self, Which};
use super::finding::{Finding, doc};
use super::folder::{self, CoverLetter, Set, read_file};
use super::git::{self, Refused};
use super::{refresh, rules, scratch, tools};

/// What a check of one tree came to.
#[derive(Debug, Default)]
pub struct Report {
    pub findings: Vec<Finding>,
    /// What could not run on this machine, and why; counted, never taken for a pass.
    pub skipped: Vec<String>,
    /// What the series was applied to.
    pub source: Option<String>,
    /// The builds that were made or found in the cache.
    pub builds: usize,
}

impl Report {
    pub fn count_errors(&self) -> usize {
        self.findings.iter().filter(|f| !f.note).count()
    }

    /// One line that sums it up.
    pub fn sum_up(&self) -> String {
        let notes = self.findings.len() - self.count_errors();
        let mut text = format!("{} findings", self.count_errors());
        for (count, what) in [
            (notes, "notes"),
            (self.builds, "builds"),
            (self.skipped.len(), "skipped"),
        ] {
            if count > 0 {
                text.push_str(&format!(", {count} {what}"));
            }
        }
        if let Some(source) = &self.source {
            text.push_str(&format!(", against {source}"));
        }
        text
    }
}

/// The rules that need nothing but the repository.
pub fn check_text(tree: &Tree, trees: &Trees) -> Result<(Set, Report)> {
    let set = Set::read(&repo::kernel_patches().join(&tree.name), tree, trees)?;
    let mut findings = rules::check(&set);
    for file in [folder::COVER, folder::COVER_OF_FIXES] {
        let letter = CoverLetter::load(file)?;
        findings.extend(letter.iter().flat_map(|letter| check_cover(file, letter)));
    }
    let report = Report {
        findings,
        ..Report::default()
    };
    Ok((set, report))
}

/// checkpatch.pl does not read a cover letter.
fn check_cover(file: &str, cover: &CoverLetter) -> Vec<Finding> {
    let long = cover
        .body
        .lines()
        .filter(|l| l.chars().count() > 75 && !l.contains("https://"));
    long.map(|line| {
        Finding::new(file, format!("longer than 75 characters: `{line}'"))
            .by("cover-letter", doc::SUBMITTING)
    })
    .collect()
}

/// All of it.
pub fn check_all(
    set: &Set,
    report: &mut Report,
    trees: &Trees,
    which: Which,
    cache: &Cache,
    progress: &Progress,
) -> Result<()> {
    let name = &set.tree.name;
    let repo = scratch::find_folder(cache, "check", name)?;
    let _lock = cache.lock(&format!("patches-check-{name}"))?;
    let source = scratch::make(&repo, set, cache, progress)?;
    progress.step(&format!("{name}: apply and run the kernel's tools"));
    let refused = git::apply_each(&repo, &set.paths())?;
    for Refused { patch, what } in &refused {
        let finding = Finding::new(set.path(patch), what).by("applies", doc::NETDEV);
        let repair = format!("cargo xtask patches refresh {name}");
        report.findings.push(finding.repair(repair));
    }
    let root = scratch::find_tools(trees, cache, progress)?;
    for mail in &set.mails {
        let (path, name) = (set.dir.join(&mail.file), set.path(&mail.file));
        let found = tools::run_checkpatch(&root, &path, &name, tools::UNSIGNED, &set.reword())?;
        report.findings.extend(found);
    }
    let people = tools::list_maintainers(&root, &set.paths())?;
    report.findings.extend(tools::check_people(&people, name));
    progress.tell(Event::Done);
    report.source = Some(source.clone());
    let base = folder::read_base(&set.dir)?;
    if base != source {
        // Each line number may differ, so more is not said.
        let what = format!("says {base}, the mirror has {source}");
        let finding = Finding::new(set.path("base"), what).by("base", doc::OURS);
        report.findings.push(finding.repair(set.refresh()));
    } else if refused.is_empty() {
        report.findings.extend(check_refresh(set, &repo)?);
    }
    // Without its patches there is nothing to generate or to build.
    if refused.is_empty() {
        if repo.join(tools::GENERATOR).exists() {
            report
                .findings
                .extend(check_generated(set, &repo, progress)?);
        }
        if which == Which::None {
            report.skipped.push("builds (--builds none)".to_owned());
            return Ok(());
        }
        let (found, count) = builds::check_tree(set, &repo, which, cache, progress)?;
        report.findings.extend(found);
        report.builds = count;
    }
    Ok(())
}

/// The folder is what `refresh --write` makes of it: names, numbers, tags, encoding, white space.
fn check_refresh(set: &Set, repo: &Path) -> Result<Vec<Finding>> {
    let fresh = repo.with_extension("written");
    remove(&fresh)?;
    let mut names = folder::write_series(&fresh, repo, "HEAD")?;
    names.push("series".to_owned());
    names.extend(
        set.present
            .iter()
            .filter(|n| !set.listed.contains(n))
            .cloned(),
    );
    let mut found = Vec::new();
    for name in names {
        let (old, new) = (set.dir.join(&name), fresh.join(&name));
        let what = match (read_file(&old), read_file(&new)) {
            (Ok(old), Ok(new)) if old == new => continue,
            (Ok(old), Ok(new)) => {
                let same = old
                    .lines()
                    .zip(new.lines())
                    .take_while(|(a, b)| a == b)
                    .count();
                let line = new.lines().nth(same).unwrap_or("nothing");
                format!("line {} is not `{line}'", same + 1)
            }
            (Err(_), _) => "is not there".to_owned(),
            (_, Err(_)) => "is not of the series".to_owned(),
        };
        let finding = Finding::new(set.path(&name), what).by("refresh", doc::OURS);
        found.push(finding.repair(format!(
            "cargo xtask patches refresh {}, then --write",
            set.tree.name
        )));
    }
    remove(&fresh)?;
    Ok(found)
}

/// Generated code is what its specification generates, after each patch that may change it.
fn check_generated(set: &Set, repo: &Path, progress: &Progress) -> Result<Vec<Finding>> {
    progress.step(&format!("{}: regenerate netlink code", set.tree.name));
    let places = ["include/uapi", "drivers/net/wireguard/generated"];
    let places = tools::NETLINK.iter().chain(&places);
    let commits = git::list_commits(repo, git::BASE, git::SERIES)?;
    let mut found = Vec::new();
    for (mail, commit) in set.mails.iter().zip(&commits) {
        if Some(commit) == commits.last() || places.clone().any(|p| mail.touches(p)) {
            git::run(repo, &["checkout", "-q", commit])?;
            found.extend(tools::regenerate(repo, &set.path(&mail.file))?);
        }
    }
    git::run(repo, &["checkout", "-q", git::SERIES])?;
    progress.tell(Event::Done);
    Ok(found)
}

/// What a series came to on somebody's source.
#[derive(Debug)]
pub struct Fit {
    pub tree: String,
    /// The version of the source: `6.18`.
    pub version: String,
    pub refused: Vec<Refused>,
}

/// Finds the series with the fewest patches to mend on a source; the nearest of equal ones.
pub fn find_fit(source: &Path, chosen: &[&Tree], trees: &Trees, cache: &Cache) -> Result<Fit> {
    let version = read_version(source)?;
    let _lock = cache.lock("patches-source")?;
    let mut fits = Vec::new();
    for tree in chosen {
        let set = Set::read(&repo::kernel_patches().join(&tree.name), tree, trees)?;
        let repo = scratch::find_folder(cache, "source", &tree.name)?;
        scratch::make_from(&repo, &set, source, &version)?;
        fits.push(Fit {
            tree: tree.name.clone(),
            version: version.clone(),
            refused: git::apply_each(&repo, &set.paths())?,
        });
        remove(&repo)?;
    }
    let distance = |fit: &Fit| refresh::measure_distance(&fit.tree, &version);
    let best = fits
        .into_iter()
        .min_by_key(|fit| (fit.refused.len(), distance(fit)));
    best.ok_or_else(|| Error::other("kernel-patches/trees.toml has no tree"))
}

/// `VERSION` and `PATCHLEVEL` of a kernel's Makefile.
fn read_version(source: &Path) -> Result<String> {
    let file = source.join("Makefile");
    let text = read_file(&file)?;
    let value = |name: &str| {
        text.lines()
            .find_map(|l| l.strip_prefix(name)?.strip_prefix(" = "))
    };
    match (value("VERSION"), value("PATCHLEVEL")) {
        (Some(major), Some(minor)) => Ok(format!("{major}.{minor}")),
        _ => Err(Error::other(format!(
            "{}: no VERSION and PATCHLEVEL; --source wants a kernel's source",
            file.display()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::patches::folder::write_file;
    use crate::patches::git::tests::Temp;
    use crate::patches::refresh::tests::make_series;

    /// What is left to git: each fixture differs from what `git format-patch` writes.
    #[test]
    fn what_refresh_would_change_is_found() {
        let temp = Temp::new("refresh-check");
        let (repo, dir) = make_series(&temp);
        let trees = Trees {
            recipients: Vec::new(),
            trees: Vec::new(),
        };
        let tree = rules::tests::test_tree();
        let check = || {
            let set = Set::read(&dir, &tree, &trees).unwrap();
            git::run(&repo, &["reset", "-q", "--hard", git::BASE]).unwrap();
            assert_eq!(git::apply_each(&repo, &set.paths()).unwrap(), []);
            let found = check_refresh(&set, &repo).unwrap();
            found
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join("\n")
        };
        assert_eq!(check(), "");
        let first = dir.join("0001-wireguard-socket-count-a.patch");
        let good = read_file(&first).unwrap();
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
            assert!(check().contains("9.9/0001-"), "{from} -> {to}: {}", check());
        }
        write_file(&first, &good).unwrap();
        // Not in `series`, and in another order.
        write_file(&dir.join("0004-other.patch"), &good).unwrap();
        assert!(check().contains("0004-other.patch: refresh: is not of the series"));
        std::fs::remove_file(dir.join("0004-other.patch")).unwrap();
        let series = read_file(&dir.join("series")).unwrap();
        let mut names: Vec<_> = series.lines().collect();
        names.swap(0, 2);
        write_file(&dir.join("series"), &names.join("\n")).unwrap();
        assert!(check().contains("9.9/series: refresh"));
    }

    #[test]
    fn a_long_line_of_the_cover_letter_is_found() {
        let text = format!("x\n\n{}\nhttps://{0}\n", "long ".repeat(16));
        let found = check_cover("x", &CoverLetter::parse(&text).unwrap());
        assert_eq!(found.len(), 1);
    }

    #[test]
    fn a_source_says_its_version() {
        let temp = Temp::new("version");
        write_file(
            &temp.0.join("Makefile"),
            "# x\nVERSION = 6\nPATCHLEVEL = 18\n",
        )
        .unwrap();
        assert_eq!(read_version(&temp.0).unwrap(), "6.18");
        write_file(&temp.0.join("Makefile"), "all:\n").unwrap();
        assert!(read_version(&temp.0).is_err());
    }
}
