// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The table of tools (tools.toml): every `wg` that scenarios are run with.
//!
//! Says what each can; where its program comes from is the caller's business.

use serde::Deserialize;

use crate::table::{check_names, find_named, parse_table};

use kit::error::Result;

const TABLE: &str = include_str!("../../tools.toml");

#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Tool {
    pub name: String,
    pub title: String,
    /// The suite whose C tool it is; none for the one of this repository.
    pub debian: Option<String>,
    pub can: Wg,
    /// The scenarios that ask more of a `wg` than this one can.
    #[serde(default)]
    pub without: Vec<Without>,
}

/// The abilities of a `wg`, each more than the one before; and the need of a scenario for them.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, strum::EnumString, strum::VariantNames,
)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum Wg {
    #[default]
    Any,
    /// The keyword `bind-dev`, as kernel-patches/wireguard-tools.md has it for the C tool. On a
    /// kernel without the attribute that means the fallback, which only ours has.
    BindDev,
    /// Ours: its fallback, its own messages.
    Ours,
}

/// Scenarios that a tool cannot run on some kernels, and why.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Without {
    pub kernels: Vec<String>,
    pub scenarios: Vec<String>,
    pub why: String,
}

impl Tool {
    pub fn find_lack(&self, kernel: &str, scenario: &str) -> Option<&str> {
        let has = |names: &[String], name: &str| names.iter().any(|n| n == name);
        let mut lacks = self.without.iter();
        let lack = lacks.find(|w| has(&w.kernels, kernel) && has(&w.scenarios, scenario))?;
        Some(&lack.why)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    tool: Vec<Tool>,
}

pub fn read_tools() -> Result<Vec<Tool>> {
    const FILE: &str = "vm-tests/tools.toml";
    let tools = parse_table::<Table>(FILE, TABLE)?.tool;
    check_names(FILE, "tool", tools.iter().map(|t| t.name.as_str()))?;
    Ok(tools)
}

/// The tool of a name, or an error that lists the names.
pub fn find_tool(name: &str) -> Result<Tool> {
    find_named("tool", name, read_tools()?, |t| &t.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_read() {
        for tool in read_tools().unwrap() {
            assert_eq!(tool.debian.is_none(), tool.can == Wg::Ours, "{}", tool.name);
            // A slip of the pen would leave nothing out, without a word.
            for without in &tool.without {
                for kernel in &without.kernels {
                    crate::kernel::table::find_kernel(kernel).unwrap();
                }
                for name in &without.scenarios {
                    crate::run::scenario::find_scenario(name).unwrap();
                }
            }
        }
        let old = find_tool("c-bookworm").unwrap();
        assert!(old.find_lack("patched-7.3", "k-netns").is_some());
        assert_eq!(old.find_lack("patched-6.1", "k-netns"), None);
        assert_eq!(old.find_lack("patched-7.3", "smoke"), None);
    }
}
