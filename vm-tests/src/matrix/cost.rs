// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The comparison that the scenario k-cost measures: its `result` lines as tables and as bars.
//!
//! Its keys are `MODE-vFAMILY-WHAT`: `bind-dev-v4-datagram-32-instructions`.

use std::collections::BTreeMap;

use crate::matrix::data::{Data, Kernel};
use crate::matrix::svg::{self, Panel, thousands};

pub const SCENARIO: &str = "k-cost";

/// The ways that are compared, in the order of tables and bars.
const MODES: &[(&str, &str)] = &[
    ("unbound", "unbound"),
    ("nic", "bound to a NIC"),
    ("fwmark", "VRF by fwmark"),
    ("bind-dev", "VRF by bind-dev"),
];

/// What was measured on one kernel: (what, mode) -> number.
pub struct Cost<'a> {
    pub kernel: &'a Kernel,
    values: BTreeMap<(String, &'static str), u64>,
    /// In the order of the scenario.
    whats: Vec<String>,
}

impl Cost<'_> {
    fn get(&self, what: &str, mode: &'static str) -> Option<u64> {
        self.values.get(&(what.to_owned(), mode)).copied()
    }
}

/// The kernels on which it passed, with our tool.
pub fn of(data: &Data) -> Vec<Cost<'_>> {
    let mut all = Vec::new();
    for kernel in &data.kernels {
        let Some(seen) = data
            .find(&kernel.name, "ours", SCENARIO)
            .and_then(|c| c.seen())
            .filter(|s| s.word == "passed")
        else {
            continue;
        };
        let mut cost = Cost {
            kernel,
            values: BTreeMap::new(),
            whats: Vec::new(),
        };
        for (key, value) in &seen.values {
            let Some((mode, what)) = split(key) else {
                continue;
            };
            let Ok(value) = value.parse() else { continue };
            if !cost.whats.contains(&what) {
                cost.whats.push(what.clone());
            }
            cost.values.insert((what, mode), value);
        }
        if !cost.values.is_empty() {
            all.push(cost);
        }
    }
    all
}

/// `bind-dev-v4-ping-56` is (`bind-dev`, `IPv4: ping-56`).
fn split(key: &str) -> Option<(&'static str, String)> {
    MODES.iter().find_map(|(mode, _)| {
        let rest = key.strip_prefix(mode)?.strip_prefix("-v")?;
        let (family, what) = rest.split_once('-')?;
        Some((*mode, format!("IPv{family}: {}", words(what))))
    })
}

fn words(what: &str) -> String {
    let what = what.replace("-per-virtual-second", ", per virtual second");
    let what = what.replace("-virtual-ns", ", virtual ns");
    let what = what.replace("-instructions", ", instructions");
    what.replace('-', " ")
}

/// A table for each kernel: what was measured, in each mode, and how far from unbound.
pub fn tables(costs: &[Cost<'_>]) -> String {
    let mut text = String::new();
    for cost in costs {
        let modes: Vec<_> = MODES
            .iter()
            .filter(|(mode, _)| cost.values.keys().any(|(_, m)| m == mode))
            .collect();
        text += &format!("\n### {}\n\n|", cost.kernel.name);
        for (_, name) in &modes {
            text += &format!(" | {name}");
        }
        text += " |\n|---";
        text += &"|---:".repeat(modes.len());
        text += "|\n";
        for what in &cost.whats {
            text += &format!("| {what}");
            let unbound = cost.get(what, "unbound");
            for (mode, _) in &modes {
                let cell = match (cost.get(what, mode), unbound) {
                    (None, _) => "–".to_owned(),
                    (Some(value), Some(base)) if *mode != "unbound" && base > 0 => {
                        format!("{} ({})", thousands(value), percent(value, base))
                    }
                    (Some(value), _) => thousands(value),
                };
                text += &format!(" | {cell}");
            }
            text += " |\n";
        }
    }
    text
}

/// `+1.5 %`, in whole tenths so that it is the same everywhere.
fn percent(value: u64, base: u64) -> String {
    let tenths = (i128::from(value) - i128::from(base)) * 1000;
    let base = i128::from(base);
    let half = if tenths < 0 { -base / 2 } else { base / 2 };
    let tenths = (tenths + half) / base;
    let sign = if tenths < 0 { "−" } else { "+" };
    let tenths = tenths.abs();
    format!("{sign}{}.{} %", tenths / 10, tenths % 10)
}

/// The picture of one kernel: the newest patched one that is no debug kernel.
pub fn picture(costs: &[Cost<'_>]) -> Option<(String, String)> {
    let plain = |c: &&Cost<'_>| !c.kernel.name.starts_with("debug");
    let best = costs.iter().filter(plain).rfind(|c| c.kernel.attr);
    let cost = best.or(costs.first())?;
    let series: Vec<_> = MODES.iter().map(|(_, name)| *name).collect();
    let panel = |title: &str, wanted: &dyn Fn(&str) -> bool| Panel {
        title: title.to_owned(),
        groups: cost
            .whats
            .iter()
            .filter(|what| wanted(what))
            .map(|what| {
                let values = MODES.iter().map(|(mode, _)| cost.get(what, mode)).collect();
                (what.split(',').next().unwrap_or(what).to_owned(), values)
            })
            .collect(),
    };
    let panels = [
        panel(
            "throughput: datagrams per virtual second (longer is better)",
            &|w| w.ends_with("per virtual second"),
        ),
        panel(
            "latency: a ping, virtual nanoseconds (shorter is better)",
            &|w| w.ends_with("virtual ns"),
        ),
        panel("one datagram: instructions (shorter is better)", &|w| {
            w.ends_with("instructions")
        }),
    ];
    let panels: Vec<_> = panels
        .into_iter()
        .filter(|p| !p.groups.is_empty())
        .collect();
    let title = format!("What a packet costs on {}", cost.kernel.name);
    Some((
        cost.kernel.name.clone(),
        svg::bars(&title, &series, &panels),
    ))
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::matrix::data::tests::sample;
    use crate::matrix::data::{Cell, Scenario, Seen, Verdict};

    /// The sample with the keys that k-cost writes.
    pub fn with_cost() -> Data {
        let mut data = sample();
        data.scenarios.insert(
            0,
            Scenario {
                name: SCENARIO.into(),
                title: "what a packet costs".into(),
            },
        );
        let values = [
            ("unbound-v4-datagram-32-instructions", "20000"),
            ("unbound-v4-datagram-32-per-virtual-second", "50000"),
            ("unbound-v4-ping-56-virtual-ns", "41000"),
            ("bind-dev-v4-datagram-32-instructions", "20300"),
            ("bind-dev-v4-datagram-32-per-virtual-second", "49261"),
            ("fwmark-v4-datagram-32-instructions", "21000"),
            ("fwmark-v6-ping-56-virtual-ns", "42000"),
        ]
        .map(|(k, v)| (k.to_owned(), v.to_owned()));
        data.cells.push(Cell {
            kernel: "patched-6.1".into(),
            tool: "ours".into(),
            scenario: SCENARIO.into(),
            verdict: Verdict::Seen(Seen {
                word: "passed".into(),
                values: values.into(),
                ..Seen::default()
            }),
        });
        data
    }

    #[test]
    fn values_become_a_table_and_a_picture() {
        let data = with_cost();
        let costs = of(&data);
        let table = tables(&costs);
        assert!(
            table.contains("| IPv4: datagram 32, instructions | 20\u{202f}000 | 21\u{202f}000 (+5.0 %) | 20\u{202f}300 (+1.5 %) |"),
            "{table}"
        );
        assert!(table.contains("49\u{202f}261 (−1.5 %)"), "{table}");
        let (kernel, svg) = picture(&costs).unwrap();
        assert_eq!(kernel, "patched-6.1");
        roxmltree::Document::parse(&svg).unwrap();
        assert!(
            svg.contains("not measured"),
            "no value is no bar of length nought"
        );
        assert!(of(&sample()).is_empty());
    }

    #[test]
    fn percents_are_rounded_both_ways() {
        assert_eq!(percent(100, 100), "+0.0 %");
        assert_eq!(percent(10_046, 10_000), "+0.5 %");
        assert_eq!(percent(9_954, 10_000), "−0.5 %");
        assert_eq!(percent(9_956, 10_000), "−0.4 %");
    }
}
