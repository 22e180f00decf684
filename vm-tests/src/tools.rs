// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The table of tools (tools.toml): every `wg` that scenarios are run with.
//!
//! Says what each can; where its program comes from is the caller's business.

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::scenario::Wg;

const TABLE: &str = include_str!("../tools.toml");

/// A line of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub name: String,
    pub title: String,
    /// The suite whose C tool it is; none for the one of this repository.
    pub debian: Option<String>,
    pub can: Wg,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    name: String,
    title: String,
    debian: Option<String>,
    can: String,
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
        }
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
