// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! kernel-patches/status.toml: what was posted where. A person fills it in after sending.
//!
//! And `patches status`: trees, what they apply to, when they were last checked with what result.

use std::path::Path;
use std::process::Command;

use kit::{Cache, Error, Progress, Result, process, repo};
use serde::Deserialize;
use vm_tests::kernel::series::Series;
use vm_tests::kernel::source::Source;
use vm_tests::kernel::trees::{Tree, Trees};

use super::finding::{Finding, doc};
use super::folder::{self, read_file, write_file};

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Status {
    #[serde(default)]
    pub posted: Vec<Posted>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Posted {
    pub version: u32,
    /// 2027-01-31
    pub date: String,
    /// `wireguard`, `net-next`
    pub tree: String,
    /// Where the thread begins.
    pub link: String,
    pub by: String,
    /// What came of it, in a line.
    #[serde(default)]
    pub outcome: String,
}

impl Status {
    pub fn load() -> Result<Self> {
        let path = repo::kernel_patches().join("status.toml");
        Self::parse(&read_file(&path)?)
            .map_err(|what| Error::other(format!("{}: {what}", path.display())))
    }

    fn parse(text: &str) -> std::result::Result<Self, String> {
        let status: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        for Posted {
            date,
            link,
            version,
            ..
        } in &status.posted
        {
            let lists = ["https://lore.kernel.org/", "https://lists.zx2c4.com/"];
            let digits: Vec<_> = date.split('-').map(str::len).collect();
            if !lists.iter().any(|list| link.starts_with(list)) {
                return Err(format!("link `{link}' is to no list's archive"));
            } else if digits != [4, 2, 2]
                || date.contains(|c: char| c != '-' && !c.is_ascii_digit())
            {
                return Err(format!("date `{date}' is not like 2027-01-31"));
            } else if *version == 0 {
                return Err("version 0".to_owned());
            }
        }
        Ok(status)
    }

    /// netdev wants 24 hours between two versions; a date is as exact as this knows.
    pub fn check_pause(&self, today: &str) -> Option<Finding> {
        let last = self.posted.iter().find(|p| p.date == today)?;
        let what = format!(
            "v{} was posted today; 24 hours between versions",
            last.version
        );
        let finding = Finding::new("status.toml", what).by("24-hours", doc::NETDEV);
        Some(finding.repair("wait, and answer the reviews of that version first"))
    }
}

/// Remembers, in the cache, what a full check of this machine came to.
pub fn record_check(tree: &Tree, summary: &str, cache: &Cache) -> Result<()> {
    let digest = folder::digest_series(&repo::kernel_patches().join(&tree.name))?;
    let path = cache.path("patches", &format!("checked-{}", tree.name));
    write_file(
        &path,
        &format!("{digest}\nchecked on {}: {summary}\n", ask_date()?),
    )
}

/// Prints the trees and the postings. With `mirror` the newest source is asked for.
pub fn print(trees: &Trees, mirror: bool, cache: &Cache, progress: &Progress) -> Result<()> {
    let status = Status::load()?;
    for tree in &trees.trees {
        let dir = repo::kernel_patches().join(&tree.name);
        match dir.join("series").exists() {
            true => println!(
                "{}: {}",
                tree.name,
                describe(tree, &dir, mirror, cache, progress)?
            ),
            false => println!("{}: no series yet", tree.name),
        }
    }
    if status.posted.is_empty() {
        println!("posted: nothing yet");
    }
    for p in &status.posted {
        let outcome = if p.outcome.is_empty() {
            "no outcome noted"
        } else {
            &p.outcome
        };
        let Posted {
            version,
            tree,
            date,
            by,
            link,
            ..
        } = p;
        println!("posted: v{version} to {tree} on {date} by {by}: {outcome}\n        {link}");
    }
    Ok(())
}

fn describe(
    tree: &Tree,
    dir: &Path,
    mirror: bool,
    cache: &Cache,
    progress: &Progress,
) -> Result<String> {
    let base = folder::read_base(dir)?;
    let count = Series::read(dir)?.patches.len();
    let mut text = format!("{count} patches for {base}");
    if mirror {
        let source = Source::find(tree, cache, progress)?;
        match format!("{} {}", tree.source, source.version) {
            newest if newest == base => text.push_str(", the newest"),
            newest => text.push_str(&format!(", the mirror has {newest}")),
        }
    }
    let record = cache.path("patches", &format!("checked-{}", tree.name));
    Ok(
        match read_file(&record).unwrap_or_default().split_once('\n') {
            None => format!(
                "{text}; never checked here: cargo xtask patches check {}",
                tree.name
            ),
            Some((digest, checked)) => {
                let fresh = digest == folder::digest_series(dir)?;
                let stale = if fresh { "" } else { "; changed since" };
                format!("{text}; {}{stale}", checked.trim())
            }
        },
    )
}

/// The date of today in UTC.
pub fn ask_date() -> Result<String> {
    let date = process::run(Command::new("date").args(["-u", "+%F"]))?;
    Ok(date.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_repositorys_own_status_is_sound() {
        Status::load().unwrap();
    }

    #[test]
    fn a_wrong_entry_is_named() {
        let good = "[[posted]]\nversion = 1\ndate = \"2027-01-31\"\ntree = \"wireguard\"\n\
                    link = \"https://lore.kernel.org/r/x\"\nby = \"Ada\"\n";
        let status = Status::parse(good).unwrap();
        let finding = status.check_pause("2027-01-31").unwrap();
        assert!(finding.what.contains("v1 was posted"));
        assert!(status.check_pause("2027-02-01").is_none());
        for (from, to, says) in [
            ("https://lore.kernel.org/r/x", "x", "no list's archive"),
            ("2027-01-31", "31.1.2027", "date `31.1.2027'"),
            ("by = \"Ada\"", "", "missing field `by`"),
            ("version = 1", "version = 0", "version 0"),
            ("version = 1", "version = 1\nnumber = 2", "unknown field"),
        ] {
            let error = Status::parse(&good.replace(from, to)).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }
}
