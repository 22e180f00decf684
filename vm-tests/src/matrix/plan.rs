// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Which cells (kernel, tool, scenario) there are, which of them apply, and which of those are
//! chosen. Pure: nothing is built or run here.

use std::collections::BTreeMap;

use crate::guest::tools::Candidate;
use crate::kernel::table::Kernel;
use crate::run::scenario::Cell;
use crate::run::scenario::Scenario;
use crate::run::scenario::Wg;
use kit::Result;

/// The kernels of a plain run: what Debian 12 has, as it is and patched, and with another feature
/// where ours is.
pub const USUAL: &[&str] = &["debian-6.1", "patched-6.1", "foreign-6.1"];

/// The other kernels of a plain run: the series is another one for each tree, so what tests the
/// series, and nothing else, runs on each.
pub const TREES: &[&str] = &["patched-6.12", "patched-7.3"];
const OF_THE_SERIES: &[&str] = &["kernel", "demo"];

/// The tool of a plain run.
pub const OURS: &str = "ours";

#[derive(Clone, Debug)]
pub struct Planned {
    pub kernel: Kernel,
    pub tool: Candidate,
    pub scenario: Scenario,
    pub cell: Cell,
}

impl Planned {
    /// `kernel/scenario`, and the tool when it is not ours.
    pub fn name(&self) -> String {
        name(&self.kernel.name, &self.tool.name, &self.scenario.name)
    }

    /// Whether a plain run takes it: nothing that takes minutes.
    pub fn is_usual(&self) -> bool {
        let kernel = &*self.kernel.name;
        let of_the_series = || OF_THE_SERIES.iter().any(|s| self.scenario.in_suite(s));
        !self.scenario.is_long()
            && (USUAL.contains(&kernel) || TREES.contains(&kernel) && of_the_series())
    }

    pub fn ids(&self) -> [&str; 3] {
        [&self.kernel.name, &self.tool.name, &self.scenario.name]
    }
}

pub fn name(kernel: &str, tool: &str, scenario: &str) -> String {
    match tool {
        OURS => format!("{kernel}/{scenario}"),
        tool => format!("{kernel}/{scenario} with {tool}"),
    }
}

/// Every cell of these kernels, tools and scenarios, in this order.
pub fn cells(kernels: &[Kernel], tools: &[Candidate], scenarios: &[Scenario]) -> Vec<Planned> {
    let mut cells = Vec::new();
    for tool in tools {
        for kernel in kernels {
            for scenario in scenarios {
                cells.push(Planned {
                    kernel: kernel.clone(),
                    tool: tool.clone(),
                    scenario: scenario.clone(),
                    cell: applies(scenario, kernel, tool),
                });
            }
        }
    }
    cells
}

fn applies(scenario: &Scenario, kernel: &Kernel, tool: &Candidate) -> Cell {
    let cell = scenario.with(kernel, tool.can);
    if cell == Cell::Run && scenario.in_suite("selftest") && tool.can != Wg::Ours {
        return Cell::NotApplicable("it tests the harness, and once is enough".into());
    }
    if cell == Cell::Run
        && let Some(why) = tool.lacks(&kernel.name, &scenario.name)
    {
        return Cell::NotApplicable(why.into());
    }
    // The short ones stay: they show that scenarios do not lean on what is ours.
    if cell == Cell::Run && scenario.is_long() && tool.can == Wg::Any && !kernel.attr {
        return Cell::NotApplicable(
            "a stock kernel with the C tool: nothing of this repository is tested".into(),
        );
    }
    cell
}

/// What a run that does not take everything leaves out: a line for each kernel and tool, with
/// the number of cells and the command for them.
pub fn left_out(all: &[Planned], taken: impl Fn(&Planned) -> bool) -> Vec<String> {
    let mut out: Vec<(&str, &str, usize)> = Vec::new();
    for planned in all.iter().filter(|p| p.cell == Cell::Run && !taken(p)) {
        let (kernel, tool) = (&*planned.kernel.name, &*planned.tool.name);
        match out.iter_mut().find(|(k, t, _)| (*k, *t) == (kernel, tool)) {
            Some((.., n)) => *n += 1,
            None => out.push((kernel, tool, 1)),
        }
    }
    out.into_iter()
        .map(|(kernel, tool, n)| {
            let with = match tool {
                OURS => String::new(),
                tool => format!(" --tool {tool}"),
            };
            let cells = if n == 1 { "cell" } else { "cells" };
            format!("{kernel} with {tool}: {n} {cells}: cargo xtask test --kernel {kernel}{with}")
        })
        .collect()
}

/// The cells that do not apply, gathered by reason: (kernel, tool, reason) and the scenarios.
pub fn not_applicable(cells: &[Planned]) -> Vec<String> {
    let mut reasons: BTreeMap<(&str, &str, &str), Vec<&str>> = BTreeMap::new();
    for planned in cells {
        if let Cell::NotApplicable(reason) = &planned.cell {
            reasons
                .entry((&planned.kernel.name, &planned.tool.name, reason))
                .or_default()
                .push(&planned.scenario.name);
        }
    }
    reasons
        .into_iter()
        .map(|((kernel, tool, reason), scenarios)| {
            let with = match tool {
                OURS => String::new(),
                tool => format!(" with {tool}"),
            };
            format!("{kernel}{with}: {reason}: {}", scenarios.join(" "))
        })
        .collect()
}

/// What a `wg` that somebody hands over can, by what is in it: the messages of ours name the
/// variable that only it reads, and a tool without the keyword does not hold the word.
pub fn abilities(program: &[u8]) -> Wg {
    let holds = |word: &str| {
        program
            .windows(word.len())
            .any(|bytes| bytes == word.as_bytes())
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
pub fn everything() -> Result<Vec<Planned>> {
    Ok(cells(
        &crate::kernel::table::all()?,
        &crate::guest::tools::all()?,
        &crate::run::scenario::all()?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of<'a>(all: &'a [Planned], kernel: &str, tool: &str, scenario: &str) -> &'a Cell {
        let found = all.iter().find(|p| p.ids() == [kernel, tool, scenario]);
        &found.expect("the matrix is whole").cell
    }

    #[test]
    fn every_cell_has_a_verdict_or_a_reason() {
        let all = everything().unwrap();
        let (kernels, tools, scenarios) = (
            crate::kernel::table::all().unwrap().len(),
            crate::guest::tools::all().unwrap().len(),
            crate::run::scenario::all().unwrap().len(),
        );
        assert_eq!(all.len(), kernels * tools * scenarios);
        let reason = |kernel, tool, scenario| match of(&all, kernel, tool, scenario) {
            Cell::NotApplicable(reason) => reason.as_str(),
            Cell::Run => "",
        };
        assert_eq!(reason("patched-6.1", "ours", "smoke"), "");
        assert_eq!(reason("patched-7.3", "c-sid", "smoke"), "");
        assert!(reason("debian-6.1", "ours", "k-guard-rules").contains("WGDEVICE_A_BIND_DEV"));
        assert!(reason("patched-6.1", "c-bookworm", "k-guard-rules").contains("no bind-dev"));
        assert!(reason("patched-6.1", "ours", "f-closed").contains("no fallback"));
        assert!(reason("debian-6.12", "ours", "self-fails").contains("only for debian-6.1"));
        assert!(reason("debian-6.1", "c-sid", "self-fails").contains("harness"));
        assert!(reason("debug-7.3", "c-bookworm", "k-netns").contains("allowed-ips"));
        assert!(reason("vanilla-7.3", "c-sid", "k-netns-stock").contains("nothing of this"));
        assert_eq!(reason("debian-6.1", "c-sid", "smoke"), "");
        assert_eq!(reason("foreign-6.1", "ours", "f-foreign"), "");
        for planned in &all {
            if let Cell::NotApplicable(reason) = &planned.cell {
                assert!(!reason.is_empty(), "{}", planned.name());
            }
        }
        // A scenario that never runs tests nothing.
        for scenario in crate::run::scenario::all().unwrap() {
            assert!(
                all.iter()
                    .any(|p| p.scenario.name == scenario.name && p.cell == Cell::Run),
                "{} applies nowhere",
                scenario.name
            );
        }
    }

    #[test]
    fn a_plain_run_takes_the_series_of_each_tree() {
        let all = everything().unwrap();
        let usual = |id: [&str; 3]| all.iter().find(|p| p.ids() == id).unwrap().is_usual();
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
        let all = everything().unwrap();
        let runs = all.iter().filter(|p| p.cell == Cell::Run);
        let (taken, others): (Vec<_>, Vec<_>) = runs.partition(|p| p.kernel.name == "debian-6.1");
        assert!(!taken.is_empty());
        let lines = left_out(&all, |p| p.kernel.name == "debian-6.1");
        let number = |line: &String| -> usize {
            let (_, rest) = line.split_once(": ").unwrap();
            rest.split(' ').next().unwrap().parse().unwrap()
        };
        assert_eq!(lines.iter().map(number).sum::<usize>(), others.len());
        assert!(
            lines
                .iter()
                .any(|l| l.ends_with("cargo xtask test --kernel debian-6.12 --tool c-sid")),
            "{lines:?}"
        );
        assert_eq!(left_out(&all, |_| true), [""; 0]);
        // What takes minutes is left out of its kernel's plain run too, and said.
        let usual = left_out(&all, Planned::is_usual);
        let left = |kernel| {
            usual
                .iter()
                .any(|l| l.starts_with(&format!("{kernel} with ours: ")))
        };
        assert!(left("debian-6.1") && left("patched-7.3") && left("debug-7.3"));
    }

    #[test]
    fn a_program_tells_what_it_can() {
        assert_eq!(abilities(b"\x7fELF bind-dev WG_BIND_DEV_MODE"), Wg::Ours);
        assert_eq!(abilities(b"\x7fELF bind-dev"), Wg::BindDev);
        assert_eq!(abilities(b"\x7fELF fwmark"), Wg::Any);
    }
}
