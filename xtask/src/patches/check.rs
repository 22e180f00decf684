// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! `patches check`: every rule over the series of a tree, first the text, then against its source.

use std::path::{Path, PathBuf};

use kit::{Cache, Progress, Result};

use super::builds::{self, Which};
use super::finding::{Finding, doc};
use super::rules::{self, Set};
use super::tools::{self, Tools};
use super::{folder, git, scratch};
use kit::process;
use kit::repo;
use vm_tests::kernel::source::Source;
use vm_tests::kernel::trees::{Tree, Trees};

/// What a check of one tree came to.
#[derive(Debug, Default)]
pub struct Report {
    pub findings: Vec<Finding>,
    /// What could not run on this machine, and why; counted, never taken for a pass.
    pub skipped: Vec<String>,
    /// What the series was applied to.
    pub source: Option<String>,
    /// The builds that were made or found in the cache: (patch, configuration).
    pub builds: usize,
}

impl Report {
    pub fn errors(&self) -> usize {
        self.findings.iter().filter(|f| !f.note).count()
    }

    pub fn notes(&self) -> usize {
        self.findings.len() - self.errors()
    }
}

/// The rules that need nothing but the repository.
pub fn text(tree: &Tree, trees: &Trees) -> Result<(Set, Report)> {
    let set = folder::read(&repo::kernel_patches().join(&tree.name), tree, trees)?;
    let report = Report {
        findings: rules::check(&set),
        ..Report::default()
    };
    Ok((set, report))
}

/// All of it.
pub fn all(
    tree: &Tree,
    trees: &Trees,
    which: Which,
    cache: &Cache,
    progress: &Progress,
) -> Result<Report> {
    let (set, mut report) = text(tree, trees)?;
    let dir = repo::kernel_patches().join(&tree.name);
    let repo = scratch::folder(cache, "check", &tree.name)?;
    let _lock = cache.lock(&format!("patches-check-{}", tree.name))?;
    let source = scratch::repository(&repo, tree, &set, cache, progress)?;
    report.findings.extend(behind(&set, &source));
    report.source = Some(source);
    progress.step(&format!("{}: apply and run the kernel's tools", tree.name));
    let applied = apply(&set, &dir, &repo)?;
    let complete = applied.is_empty();
    report.findings.extend(applied);
    let tools = scratch::tools(trees, cache, progress)?;
    report
        .findings
        .extend(machine(&set, &dir, &tools, tools::UNSIGNED)?);
    progress.tell(kit::Event::Done);
    // Without its patches there is nothing to generate or to build.
    if complete {
        if repo.join("tools/net/ynl/ynl-regen.sh").exists() {
            report.findings.extend(generated(&set, &repo, progress)?);
        }
        let built = builds::check(tree, &set, &dir, &repo, which, cache, progress)?;
        report.findings.extend(built.findings);
        report.skipped.extend(built.skipped);
        report.builds = built.count;
    }
    Ok(report)
}

/// Applies the series; a finding for the patch that is refused.
fn apply(set: &Set, dir: &Path, repo: &Path) -> Result<Vec<Finding>> {
    for mail in &set.patches {
        if let Some(refused) = git::am(repo, &dir.join(&mail.file), false)? {
            let repair = format!("cargo xtask patches refresh {}", set.name);
            return Ok(vec![
                set.at(mail, 0, refused.what())
                    .by("applies", doc::NETDEV)
                    .repair(repair),
            ]);
        }
    }
    Ok(Vec::new())
}

/// A newer point release than the one named in `base` to which the series applies all the same.
fn behind(set: &Set, source: &str) -> Option<Finding> {
    let (package, version) = rules::source_line(set.base.as_deref()?)?;
    let said = format!("{package} {version}");
    (said != source).then(|| {
        Finding::new(
            set.path("base"),
            0,
            format!("says {said}, the mirror has {source}"),
        )
        .by("base", doc::OURS)
        .repair(set.refresh())
        .note()
    })
}

/// checkpatch.pl over each patch, get_maintainer.pl over all of them.
pub fn machine(
    set: &Set,
    dir: &Path,
    tools: &Tools,
    ignore: &[(&str, &str)],
) -> Result<Vec<Finding>> {
    let mut found = Vec::new();
    for mail in set.mails() {
        // A cover letter is not signed off, and has no diff.
        if mail.is_cover() {
            continue;
        }
        let path = dir.join(&mail.file);
        found.extend(tools.checkpatch(&path, &set.path(&mail.file), ignore, &set.reword())?);
    }
    let people = tools.maintainers(&paths(set, dir))?;
    found.extend(tools::check_people(&people, &set.name));
    Ok(found)
}

pub fn paths(set: &Set, dir: &Path) -> Vec<PathBuf> {
    set.patches.iter().map(|m| dir.join(&m.file)).collect()
}

/// Generated code is what its specification generates: before the series, and after each patch.
fn generated(set: &Set, repo: &Path, progress: &Progress) -> Result<Vec<Finding>> {
    progress.step(&format!("{}: regenerate netlink code", set.name));
    let tip = git::head(repo)?;
    let mut found = Vec::new();
    let commits = git::commits(repo, git::BASE, &tip)?;
    for (mail, commit) in set.patches.iter().zip(&commits) {
        let affects = [
            "Documentation/netlink",
            "include/uapi",
            "tools/net/ynl",
            "drivers/net/wireguard/generated",
        ]
        .iter()
        .any(|path| mail.touches(path));
        if affects || *commit == tip {
            process::run(git::command(repo).args(["checkout", "-q", commit]))?;
            found.extend(tools::regenerate(repo, &set.path(&mail.file))?);
        }
    }
    process::run(git::command(repo).args(["checkout", "-q", git::SERIES]))?;
    progress.tell(kit::Event::Done);
    Ok(found)
}

/// The version of the source that the mirror has now, for `status`.
pub fn newest(tree: &Tree, cache: &Cache) -> Result<String> {
    let progress = Progress::silent();
    let source = Source::find(tree, cache, &progress)?;
    Ok(source.version)
}

/// One line that sums a report up.
pub fn summary(set_name: &str, patches: usize, report: &Report) -> String {
    let mut text = format!(
        "{set_name}: {patches} patches, {} findings",
        report.errors()
    );
    for (count, what) in [
        (report.notes(), "notes"),
        (report.builds, "builds"),
        (report.skipped.len(), "skipped"),
    ] {
        if count > 0 {
            text.push_str(&format!(", {count} {what}"));
        }
    }
    if let Some(source) = &report.source {
        text.push_str(&format!(", against {source}"));
    }
    text
}
