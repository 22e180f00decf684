// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The table of tools (tools.toml): every `wg` that scenarios are run with.
//!
//! Says what each can; where its program comes from is the caller's business.

use serde::Deserialize;

use crate::run::scenario::Wg;
use kit::error::{Error, Result};

const TABLE: &str = include_str!("../../tools.toml");

/// A line of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub name: String,
    pub title: String,
    /// The suite whose C tool it is; none for the one of this repository.
    pub debian: Option<String>,
    pub can: Wg,
    /// What asks more of a `wg` than this one can.
    pub without: Vec<Without>,
}

/// Scenarios that a tool cannot run on some kernels, and why.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Without {
    pub kernels: Vec<String>,
    pub scenarios: Vec<String>,
    pub why: String,
}

impl Candidate {
    /// Why this tool cannot run a scenario on a kernel, if it cannot.
    pub fn lacks(&self, kernel: &str, scenario: &str) -> Option<&str> {
        self.without
            .iter()
            .find(|w| {
                w.kernels.iter().any(|k| k == kernel) && w.scenarios.iter().any(|s| s == scenario)
            })
            .map(|w| w.why.as_str())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    name: String,
    title: String,
    debian: Option<String>,
    can: String,
    #[serde(default)]
    without: Vec<Without>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    tool: Vec<Row>,
}

/// All tools, in the order of tools.toml.
pub fn all() -> Result<Vec<Candidate>> {
    read(TABLE)
}

/// The tool of a name, or an error that lists the names.
pub fn find(name: &str) -> Result<Candidate> {
    let tools = all()?;
    let names: Vec<_> = tools.iter().map(|t| t.name.clone()).collect();
    tools
        .into_iter()
        .find(|t| t.name == name)
        .ok_or_else(|| Error::other(format!("no tool `{name}'; there are: {}", names.join(", "))))
}

fn read(text: &str) -> Result<Vec<Candidate>> {
    let wrong = |line: usize, text: String| Error::Data {
        file: "vm-tests/tools.toml".into(),
        line,
        text,
    };
    let table: Table = toml::from_str(text).map_err(|e| {
        let line = e
            .span()
            .map_or(1, |span| text[..span.start].lines().count().max(1));
        wrong(line, e.message().to_owned())
    })?;
    let mut tools: Vec<Candidate> = Vec::new();
    for row in table.tool {
        let can = match row.can.as_str() {
            "any" => Wg::Any,
            "bind-dev" => Wg::BindDev,
            "ours" => Wg::Ours,
            other => {
                let text = format!(
                    "tool `{}': `can = {other}' is none of any, bind-dev, ours",
                    row.name
                );
                return Err(wrong(1, text));
            }
        };
        if tools.iter().any(|t| t.name == row.name) {
            return Err(wrong(1, format!("tool `{}' is there twice", row.name)));
        }
        tools.push(Candidate {
            name: row.name,
            title: row.title,
            debian: row.debian,
            can,
            without: row.without,
        });
    }
    Ok(tools)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_read() {
        let tools = all().unwrap();
        let names: Vec<_> = tools.iter().map(|t| t.name.as_str()).collect();
        assert_eq!(names, ["ours", "c-bookworm", "c-sid"]);
        for tool in &tools {
            assert_eq!(tool.debian.is_none(), tool.can == Wg::Ours, "{}", tool.name);
            // A slip of the pen would leave nothing out, without a word.
            for without in &tool.without {
                for kernel in &without.kernels {
                    crate::kernel::table::find(kernel).unwrap();
                }
                let known = crate::run::scenario::all().unwrap();
                for name in &without.scenarios {
                    assert!(known.iter().any(|s| &s.name == name), "{name}");
                }
            }
        }
        let old = find("c-bookworm").unwrap();
        assert!(old.lacks("patched-7.3", "k-netns").is_some());
        assert_eq!(old.lacks("patched-6.1", "k-netns"), None);
        assert_eq!(old.lacks("patched-7.3", "smoke"), None);
    }

    #[test]
    fn errors_name_the_value() {
        let row = "[[tool]]\nname = 'x'\ntitle = 'y'\ncan = ";
        let error = read(&format!("{row}'fly'\n")).unwrap_err().to_string();
        assert!(error.contains("`can = fly'"), "{error}");
        let error = read(&format!("{row}'any'\n").repeat(2)).unwrap_err();
        assert!(error.to_string().contains("`x' is there twice"), "{error}");
        let error = find("wireguard-go").unwrap_err().to_string();
        assert!(error.contains("c-bookworm"), "{error}");
    }
}
