// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! kernel-patches/status.toml: what was posted where. A person fills it in after sending.
//!
//! And `patches status`: trees and what they apply to.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use kit::{Result, repo};
use serde::Deserialize;
use vm_tests::kernel::series::{self, Series};
use vm_tests::kernel::source::Source;
use vm_tests::kernel::trees::Tree;

use super::Context;
use super::finding::{Finding, doc};

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
    pub date: Date,
    /// `wireguard`, `net-next`
    pub tree: String,
    /// Which of the two series; the feature where nothing is said.
    #[serde(default)]
    pub part: Part,
    /// The first mail of the thread.
    pub link: String,
    pub by: String,
    /// The outcome, in a line.
    #[serde(default)]
    pub outcome: String,
}

impl Status {
    pub fn load() -> Result<Self> {
        let path = repo::find_patches().join("status.toml");
        Self::parse(&fs_err::read_to_string(path)?)
    }

    pub fn parse(text: &str) -> Result<Self> {
        let status: Self = match toml::from_str(text) {
            Ok(status) => status,
            Err(error) => bail!("kernel-patches/status.toml: {error}"),
        };
        let lists = ["https://lore.kernel.org/", "https://lists.zx2c4.com/"];
        for Posted { link, version, .. } in &status.posted {
            if !lists.iter().any(|list| link.starts_with(list)) {
                bail!("kernel-patches/status.toml: link `{link}' is to no list's archive");
            }
            if *version == 0 {
                bail!("kernel-patches/status.toml: version 0");
            }
        }
        Ok(status)
    }

    /// netdev wants 24 hours between two versions; a date is as exact as this knows.
    pub fn check_pause(&self, today: Date) -> Option<Finding> {
        let last = self.posted.iter().find(|p| p.date == today)?;
        let version = last.version;
        let what = format!("v{version} was posted today; 24 hours between versions");
        let finding = Finding::new("status.toml", what).set_rule("24-hours", doc::NETDEV);
        Some(finding.set_repair("wait, and answer the reviews of that version first"))
    }
}

/// Two series are posted: the fixes alone first, then the feature, which is based on them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// The patches at the beginning with a Fixes line
    Fixes,
    /// All others
    #[default]
    Feature,
}

/// Prints the trees and the postings. With `mirror` the newest source is asked for.
pub fn print_status(mirror: bool, context: &Context) -> Result<()> {
    for tree in &context.trees.trees {
        println!("{}: {}", tree.name, describe_tree(tree, mirror, context)?);
    }
    let status = Status::load()?;
    if status.posted.is_empty() {
        println!("posted: nothing yet");
    }
    for p in &status.posted {
        let part = format!("{:?}", p.part).to_lowercase();
        let place = format!("v{} of the {part} to {} on {}", p.version, p.tree, p.date);
        println!("posted: {place} by {}: {}", p.by, p.outcome);
        println!("        {}", p.link);
    }
    Ok(())
}

fn describe_tree(tree: &Tree, mirror: bool, context: &Context) -> Result<String> {
    let dir = repo::find_patches().join(&tree.name);
    if !dir.join("series").exists() {
        return Ok("no series yet".to_owned());
    }
    let base = series::read_base(&dir)?;
    let count = Series::read(&dir)?.patches.len();
    let text = format!("{count} patches for {base}");
    if !mirror {
        return Ok(text);
    }
    let source = Source::find(tree, &context.cache)?;
    let newest = format!("{} {}", tree.source, source.version);
    Ok(match newest == base {
        true => format!("{text}, the newest"),
        false => format!("{text}, the mirror has {newest}"),
    })
}

/// The date of today in UTC.
pub fn read_date() -> Date {
    TimeZone::UTC.to_datetime(Timestamp::now()).date()
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use jiff::civil::date;

    pub const POSTED: &str = "[[posted]]\nversion = 1\ndate = \"2027-01-31\"\ntree = \"wireguard\"\n\
        link = \"https://lore.kernel.org/r/x\"\nby = \"Ada\"\n";

    #[test]
    fn the_repositorys_own_status_is_sound() {
        Status::load().unwrap();
    }

    #[test]
    fn a_wrong_entry_is_named() {
        let good = POSTED;
        let status = Status::parse(good).unwrap();
        let finding = status.check_pause(date(2027, 1, 31)).unwrap();
        assert!(finding.what.contains("v1 was posted"));
        assert!(status.check_pause(date(2027, 2, 1)).is_none());
        for (from, to, says) in [
            ("https://lore.kernel.org/r/x", "x", "no list's archive"),
            ("2027-01-31", "31.1.2027", "31.1.2027"),
            ("by = \"Ada\"", "", "missing field `by`"),
            ("version = 1", "version = 0", "version 0"),
            ("version = 1", "version = 1\nnumber = 2", "unknown field"),
        ] {
            let error = Status::parse(&good.replace(from, to)).unwrap_err();
            let error = error.to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
