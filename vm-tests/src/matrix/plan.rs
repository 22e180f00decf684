// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Which cells (kernel, tool, scenario) there are, which of them apply, and which of those are
//! chosen. Pure: nothing is built or run here.

use std::collections::BTreeMap;

use crate::guest::tools::{self, Tool, Wg};
use crate::kernel::table::{self, Kernel};
use crate::matrix::data::Obstacle;
use crate::run::scenario::{self, Scenario};
use kit::Result;

/// The kernels of a plain run: what Debian 12 has, as it is and patched, and with another feature
/// where ours is.
pub const USUAL: &[&str] = &["debian-6.1", "patched-6.1", "foreign-6.1"];

/// The other kernels of a plain run, and the suites that it takes there: the series is another one
/// for each tree.
pub const TREES: &[(&str, &[&str])] = &[
    ("patched-6.12", &["tree", "demo"]),
    ("patched-7.3", &["kernel", "demo"]),
];

/// The tool of a plain run.
pub const OURS: &str = "ours";

#[derive(Clone, Debug)]
pub struct Planned {
    pub kernel: Kernel,
    pub tool: Tool,
    pub scenario: Scenario,
    /// The reason not to run it; none if it is run.
    pub obstacle: Option<String>,
}

impl Planned {
    /// `kernel/scenario`, and the tool when it is not ours.
    pub fn get_name(&self) -> String {
        let [kernel, tool, scenario] = self.get_ids();
        format!("{kernel}/{scenario}{}", prefix_tool(" with ", tool))
    }

    pub fn is_run(&self) -> bool {
        self.obstacle.is_none()
    }

    /// Whether a plain run takes it: nothing that takes minutes, on stock or patched kernels only
    /// what is in the suite of that name, and all of the series on the reference only.
    pub fn is_usual(&self) -> bool {
        let kernel = &*self.kernel.name;
        let in_suite = |suite: &&str| self.scenario.in_suite(suite);
        let elsewhere = if self.kernel.attr { "stock" } else { "patched" };
        let in_tree =
            |(name, suites): &(&str, &[&str])| *name == kernel && suites.iter().any(in_suite);
        !in_suite(&"long")
            && !in_suite(&elsewhere)
            && (USUAL.contains(&kernel) && (in_suite(&"tree") || !in_suite(&"kernel"))
                || TREES.iter().any(in_tree))
    }

    pub fn get_ids(&self) -> [&str; 3] {
        [&self.kernel.name, &self.tool.name, &self.scenario.name]
    }
}

/// Text for another tool than ours.
pub fn prefix_tool(text: &str, tool: &str) -> String {
    match tool {
        OURS => String::new(),
        tool => format!("{text}{tool}"),
    }
}

/// Every cell of these kernels, tools and scenarios, in this order.
pub fn list_cells(kernels: &[Kernel], tools: &[Tool], scenarios: &[Scenario]) -> Vec<Planned> {
    let mut cells = Vec::new();
    for tool in tools {
        for kernel in kernels {
            cells.extend(scenarios.iter().map(|scenario| Planned {
                kernel: kernel.clone(),
                tool: tool.clone(),
                scenario: scenario.clone(),
                obstacle: find_obstacle(scenario, kernel, tool),
            }));
        }
    }
    cells
}

fn find_obstacle(scenario: &Scenario, kernel: &Kernel, tool: &Tool) -> Option<String> {
    if let Some(reason) = scenario.find_obstacle(kernel, tool.can) {
        return Some(reason);
    }
    if scenario.in_suite("selftest") && tool.can != Wg::Ours {
        return Some("it tests the harness, and once is enough".into());
    }
    if let Some(why) = tool.find_lack(&kernel.name, &scenario.name) {
        return Some(why.into());
    }
    // The short ones stay: they show that scenarios do not lean on what is ours.
    let nothing = scenario.in_suite("long") && tool.can == Wg::Any && !kernel.attr;
    nothing.then(|| "a stock kernel with the C tool: nothing of this repository is tested".into())
}

/// Lists the cells that a partial run leaves out: a line for each kernel and tool, with
/// the number of cells and the command for them.
pub fn list_left_out(all: &[Planned], taken: impl Fn(&Planned) -> bool) -> Vec<String> {
    let mut out: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for planned in all.iter().filter(|p| p.is_run() && !taken(p)) {
        *out.entry((&planned.kernel.name, &planned.tool.name))
            .or_default() += 1;
    }
    let lines = out.into_iter().map(|((kernel, tool), n)| {
        let cells = if n == 1 { "cell" } else { "cells" };
        let with = prefix_tool(" --tool ", tool);
        format!("{kernel} with {tool}: {n} {cells}: cargo xtask test --kernel {kernel}{with}")
    });
    lines.collect()
}

/// The cells that do not apply, gathered by kernel, tool and reason.
pub fn list_obstacles(cells: &[Planned]) -> Vec<Obstacle> {
    let mut found: BTreeMap<[&str; 3], Vec<String>> = BTreeMap::new();
    for planned in cells {
        if let Some(reason) = &planned.obstacle {
            let [kernel, tool, scenario] = planned.get_ids();
            let same = found.entry([kernel, tool, reason]).or_default();
            same.push(scenario.to_owned());
        }
    }
    let found = found.into_iter().map(|(names, scenarios)| {
        let [kernel, tool, reason] = names.map(str::to_owned);
        Obstacle {
            kernel,
            tool,
            reason,
            scenarios,
        }
    });
    found.collect()
}

/// Finds the abilities of a given `wg` by the words in it. The messages of ours name the
/// variable that only it reads, and a tool without the keyword does not hold the word.
pub fn find_abilities(program: &[u8]) -> Wg {
    let holds = |word: &str| {
        let mut places = program.windows(word.len());
        places.any(|bytes| bytes == word.as_bytes())
    };
    if holds("WG_BIND_DEV_MODE") {
        Wg::Ours
    } else if holds("bind-dev") {
        Wg::BindDev
    } else {
        Wg::Any
    }
}

/// The whole matrix.
pub fn list_everything() -> Result<Vec<Planned>> {
    let (kernels, tools) = (table::read_kernels()?, tools::read_tools()?);
    Ok(list_cells(&kernels, &tools, &scenario::read_scenarios()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find_cell<'a>(all: &'a [Planned], ids: [&str; 3]) -> &'a Planned {
        let mut all = all.iter();
        all.find(|p| p.get_ids() == ids)
            .expect("the matrix is whole")
    }

    #[test]
    fn every_cell_has_a_verdict_or_a_reason() {
        let all = list_everything().unwrap();
        for (ids, expected) in [
            (["patched-6.1", "ours", "smoke"], ""),
            (["patched-7.3", "c-sid", "smoke"], ""),
            (["debian-6.1", "c-sid", "smoke"], ""),
            (["foreign-6.1", "ours", "f-foreign"], ""),
            (["debian-6.1", "ours", "k-eperm"], "WGDEVICE_A_BIND_DEV"),
            (["patched-6.1", "c-bookworm", "k-eperm"], "no bind-dev"),
            (["patched-6.1", "ours", "f-closed"], "no fallback"),
            (["debian-6.12", "ours", "self-fails"], "only for debian-6.1"),
            (["debian-6.1", "c-sid", "self-fails"], "harness"),
            (["debug-7.3", "c-bookworm", "k-netns"], "allowed-ips"),
            (["vanilla-7.3", "c-sid", "k-netns-stock"], "nothing of this"),
        ] {
            let reason = find_cell(&all, ids).obstacle.as_deref().unwrap_or_default();
            let same = reason.contains(expected) && reason.is_empty() == expected.is_empty();
            assert!(same, "{ids:?}: {reason}");
        }
        // A scenario that never runs tests nothing.
        for Scenario { name, .. } in scenario::read_scenarios().unwrap() {
            let mut own = all.iter().filter(|p| p.scenario.name == name);
            assert!(own.any(Planned::is_run), "{name} applies nowhere");
        }
    }

    #[test]
    fn a_plain_run_takes_the_series_of_each_tree() {
        let all = list_everything().unwrap();
        let usual = |id: [&str; 3]| find_cell(&all, id).is_usual();
        for kernel in ["patched-6.1", "patched-6.12", "patched-7.3"] {
            assert!(usual([kernel, OURS, "k-rebind-live"]), "{kernel}");
            assert!(usual([kernel, OURS, "front-door-v6"]), "{kernel}");
            assert!(!usual([kernel, OURS, "k-netns"]), "{kernel}");
        }
        assert!(usual(["patched-6.1", OURS, "u-bird"]));
        assert!(!usual(["patched-7.3", OURS, "u-bird"]));
        assert!(!usual(["debug-7.3", OURS, "k-rebind-live"]));
    }

    #[test]
    fn what_is_left_out_is_counted() {
        let all = list_everything().unwrap();
        let taken = |p: &Planned| p.kernel.name == "debian-6.1";
        let lines = list_left_out(&all, taken);
        let number = |line: &String| -> usize {
            let (_, rest) = line.split_once(": ").unwrap();
            rest.split(' ').next().unwrap().parse().unwrap()
        };
        let others = all.iter().filter(|p| p.is_run() && !taken(p)).count();
        assert!(others > 0 && lines.iter().map(number).sum::<usize>() == others);
        let line = "cargo xtask test --kernel debian-6.12 --tool c-sid";
        assert!(lines.iter().any(|l| l.ends_with(line)), "{lines:?}");
        assert_eq!(list_left_out(&all, |_| true), [""; 0]);
        // What takes minutes is left out of its kernel's plain run too, and said.
        let usual = list_left_out(&all, Planned::is_usual);
        for kernel in ["debian-6.1", "patched-7.3", "debug-7.3"] {
            let begin = format!("{kernel} with ours: ");
            assert!(usual.iter().any(|l| l.starts_with(&begin)), "{kernel}");
        }
    }

    #[test]
    fn a_program_tells_what_it_can() {
        let ours = b"\x7fELF bind-dev WG_BIND_DEV_MODE";
        assert_eq!(find_abilities(ours), Wg::Ours);
        assert_eq!(find_abilities(b"\x7fELF bind-dev"), Wg::BindDev);
        assert_eq!(find_abilities(b"\x7fELF fwmark"), Wg::Any);
    }
}
