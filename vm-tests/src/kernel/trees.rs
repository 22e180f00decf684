// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! kernel-patches/trees.toml: the kernels that a series is kept for.

use fs_err as fs;
use kit::{Error, Result, repo};
use serde::Deserialize;

use crate::table::find_named;
use crate::table::parse_table;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trees {
    #[serde(default, rename = "recipient")]
    pub recipients: Vec<Recipient>,
    #[serde(rename = "tree")]
    pub trees: Vec<Tree>,
}

/// A person who gets the series beyond get_maintainer.pl's list.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipient {
    pub address: String,
    /// `patches export` shows it.
    pub reason: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tree {
    pub name: String,
    pub suites: Vec<String>,
    pub source: String,
    /// "newest" or an exact Debian version.
    pub version: String,
    /// The metapackage that names the headers of the day, where only wireguard.ko is built. A tree
    /// without it is built as a whole kernel.
    pub headers: Option<String>,
    /// The tree whose series goes upstream and that the others follow.
    #[serde(default)]
    pub reference: bool,
}

impl Trees {
    pub fn load() -> Result<Self> {
        const FILE: &str = "kernel-patches/trees.toml";
        let text = fs::read_to_string(repo::find_root().join(FILE))?;
        parse_table(FILE, &text)
    }

    pub fn find_tree(&self, name: &str) -> Result<&Tree> {
        find_named("tree", name, self.trees.iter().collect(), |t| &t.name)
    }

    pub fn list_names(&self) -> Vec<&str> {
        self.trees.iter().map(|t| t.name.as_str()).collect()
    }

    pub fn find_reference(&self) -> Result<&Tree> {
        let reference = self.trees.iter().find(|t| t.reference);
        reference
            .ok_or_else(|| Error::other("kernel-patches/trees.toml has no tree with reference"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_repositorys_own_table_is_sound() {
        let trees = Trees::load().unwrap();
        assert_eq!(trees.find_reference().unwrap().name, "7.3");
        assert!(trees.find_tree("6.1").unwrap().headers.is_some());
        let error = trees.find_tree("5.4").unwrap_err().to_string();
        assert!(error.contains("`5.4'") && error.contains("6.12"), "{error}");
    }
}
