// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! kernel-patches/status.toml: what was posted where. A person fills it in after sending.
//!
//! And `patches status`: trees, what they apply to, when they were last checked with what result.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use kit::{Cache, Error, Progress, Result};
use serde::{Deserialize, Serialize};

use super::check::{self, Report};
use super::finding::{Finding, doc};
use super::{folder, rules};
use kit::repo;
use vm_tests::kernel::trees::{Tree, Trees};

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
        Self::read(&repo::kernel_patches().join("status.toml"))
    }

    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).map_err(Error::io("read", path))?;
        let status: Self = toml::from_str(&text)
            .map_err(|error| Error::other(format!("{}: {error}", path.display())))?;
        for posted in &status.posted {
            let lists = ["https://lore.kernel.org/", "https://lists.zx2c4.com/"];
            let what = if !lists.iter().any(|l| posted.link.starts_with(l)) {
                format!("link `{}' is to no list's archive", posted.link)
            } else if !is_date(&posted.date) {
                format!("date `{}' is not like 2027-01-31", posted.date)
            } else if posted.version == 0 {
                "version 0".to_owned()
            } else {
                continue;
            };
            return Err(Error::other(format!("{}: {what}", path.display())));
        }
        Ok(status)
    }
}

impl Status {
    /// netdev wants 24 hours between two versions; a date is as exact as this knows.
    pub fn too_soon(&self, today: &str) -> Option<Finding> {
        let last = self.posted.iter().find(|p| p.date == today)?;
        Some(
            Finding::new(
                "status.toml",
                0,
                format!(
                    "v{} was posted today; 24 hours between versions",
                    last.version
                ),
            )
            .by("24-hours", doc::NETDEV)
            .repair("wait, and answer the reviews of that version first"),
        )
    }
}

fn is_date(text: &str) -> bool {
    let parts: Vec<_> = text.split('-').map(str::len).collect();
    parts == [4, 2, 2] && text.chars().all(|c| c.is_ascii_digit() || c == '-')
}

/// The last full check of a tree. Kept in the cache: it is about this machine's run.
#[derive(Debug, Serialize, Deserialize)]
pub struct Checked {
    pub digest: String,
    pub source: String,
    pub when: String,
    pub findings: usize,
    pub builds: usize,
    pub skipped: usize,
}

fn place(cache: &Cache, tree: &str) -> Result<PathBuf> {
    Ok(cache
        .folder("patches")?
        .join(format!("checked-{tree}.toml")))
}

/// Remembers what a full check came to.
pub fn record(tree: &Tree, report: &Report, cache: &Cache) -> Result<()> {
    let checked = Checked {
        digest: folder::digest(&repo::kernel_patches().join(&tree.name))?,
        source: report.source.clone().unwrap_or_default(),
        when: today(),
        findings: report.errors(),
        builds: report.builds,
        skipped: report.skipped.len(),
    };
    let path = place(cache, &tree.name)?;
    let text = format!(
        "digest = {:?}\nsource = {:?}\nwhen = {:?}\nfindings = {}\nbuilds = {}\nskipped = {}\n",
        checked.digest,
        checked.source,
        checked.when,
        checked.findings,
        checked.builds,
        checked.skipped
    );
    fs::write(&path, text).map_err(Error::io("write", &path))
}

/// The lines of `patches status`. With `mirror` the newest source is asked for.
pub fn lines(
    trees: &Trees,
    status: &Status,
    mirror: bool,
    cache: &Cache,
    progress: &Progress,
) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for tree in &trees.trees {
        lines.push(line(tree, mirror, cache, progress)?);
    }
    if status.posted.is_empty() {
        lines.push("posted: nothing yet".to_owned());
    }
    for posted in &status.posted {
        let outcome = match posted.outcome.as_str() {
            "" => "no outcome noted",
            text => text,
        };
        lines.push(format!(
            "posted: v{} to {} on {} by {}: {outcome}\n        {}",
            posted.version, posted.tree, posted.date, posted.by, posted.link
        ));
    }
    Ok(lines)
}

fn line(tree: &Tree, mirror: bool, cache: &Cache, progress: &Progress) -> Result<String> {
    let dir = repo::kernel_patches().join(&tree.name);
    if !dir.join("series").exists() {
        return Ok(format!("{}: no series yet", tree.name));
    }
    let list = fs::read_to_string(dir.join("series")).map_err(Error::io("read", &dir))?;
    let count = vm_tests::kernel::series::names(&list).len();
    let base = fs::read_to_string(dir.join("base")).unwrap_or_default();
    let base = rules::source_line(&base)
        .map_or_else(|| "nothing named".to_owned(), |(p, v)| format!("{p} {v}"));
    let mut text = format!("{}: {count} patches for {base}", tree.name);
    if mirror {
        progress.step(&format!("ask the mirror for {}", tree.source));
        let newest = format!("{} {}", tree.source, check::newest(tree, cache)?);
        progress.tell(kit::Event::Done);
        match newest == base {
            true => text.push_str(", the newest"),
            false => text.push_str(&format!(", the mirror has {newest}")),
        }
    }
    let path = place(cache, &tree.name)?;
    text.push_str(&match fs::read_to_string(&path) {
        Err(_) => format!(
            "; never checked here: cargo xtask patches check {}",
            tree.name
        ),
        Ok(found) => {
            let checked: Checked = toml::from_str(&found)
                .map_err(|error| Error::other(format!("{}: {error}", path.display())))?;
            let stale = match checked.digest == folder::digest(&dir)? {
                true => "",
                false => ", and changed since",
            };
            format!(
                "; checked {} on {}: {} findings, {} builds, {} skipped{stale}",
                checked.when, checked.source, checked.findings, checked.builds, checked.skipped
            )
        }
    });
    Ok(text)
}

/// The date of today in UTC.
pub fn today() -> String {
    let seconds = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_secs());
    date(seconds / 86400)
}

/// Days since 1970-01-01 as a date: years of 400-year cycles, counted from March.
fn date(days: u64) -> String {
    let days = days + 719_468;
    let era = days / 146_097;
    let day = days % 146_097;
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let of_month = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{of_month:02}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::patches::git::tests::Temp;

    #[test]
    fn days_are_dates() {
        for (days, text) in [
            (0, "1970-01-01"),
            (59, "1970-03-01"),
            (11_016, "2000-02-29"),
            (20_779, "2026-11-22"),
        ] {
            assert_eq!(date(days), text);
        }
    }

    #[test]
    fn the_repositorys_own_status_is_sound() {
        Status::load().unwrap();
    }

    #[test]
    fn a_wrong_entry_is_named() {
        let temp = Temp::new("status");
        let path = temp.0.join("status.toml");
        let good = "[[posted]]\nversion = 1\ndate = \"2027-01-31\"\ntree = \"wireguard\"\n\
                    link = \"https://lore.kernel.org/r/x\"\nby = \"Ada\"\n";
        fs::write(&path, good).unwrap();
        let status = Status::read(&path).unwrap();
        assert_eq!(status.posted[0].version, 1);
        assert!(
            status
                .too_soon("2027-01-31")
                .unwrap()
                .what
                .contains("v1 was posted")
        );
        assert!(status.too_soon("2027-02-01").is_none());
        for (from, to, says) in [
            ("https://lore.kernel.org/r/x", "x", "no list's archive"),
            ("2027-01-31", "31.1.2027", "date `31.1.2027'"),
            ("by = \"Ada\"", "", "missing field `by`"),
            ("version = 1", "version = 1\nnumber = 2", "unknown field"),
        ] {
            fs::write(&path, good.replace(from, to)).unwrap();
            let error = Status::read(&path).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
