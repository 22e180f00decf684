// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The comparison that the scenario k-cost measures: its `result` lines as tables.
//!
//! Its keys are `MODE-vFAMILY-WHAT`: `bind-dev-v4-datagram-32-instructions`.

use crate::matrix::data::{Data, Known, Seen};
use crate::run::verdict::Kind;

const SCENARIO: &str = "k-cost";

/// The ways that are compared, in the order of the columns.
const MODES: [(&str, &str); 5] = [
    ("unbound", "unbound"),
    ("nic", "bound to a NIC"),
    ("fwmark", "VRF by fwmark"),
    ("bpf", "fwmark, socket bound"),
    ("bind-dev", "VRF by bind-dev"),
];

/// A table for each kernel on which it passed with our tool.
pub fn write_tables(data: &Data) -> String {
    let mut text = String::new();
    for kernel in &data.kernels {
        if let Some(Known::Seen(seen)) = data.find_known(&kernel.name, "ours", SCENARIO) {
            if seen.outcome.get_kind() == Kind::Passed {
                text += &format!("\n### {}\n\n{}", kernel.name, write_costs(seen));
            }
        }
    }
    text
}

/// A row for each measurement: its value in each mode, ± included, and the distance from unbound.
fn write_costs(seen: &Seen) -> String {
    let mut rows: Vec<(String, [_; 5])> = Vec::new();
    for (key, value) in &seen.values {
        let number = value.split(' ').next().map(str::parse::<i64>);
        let (Some((mode, what)), Some(Ok(number))) = (split_key(key), number) else {
            continue;
        };
        let known = rows.iter().position(|(w, _)| *w == what);
        let at = known.unwrap_or(rows.len());
        if known.is_none() {
            rows.push((what, [None; 5]));
        }
        rows[at].1[mode] = Some((number, value));
    }
    let measured = |mode: &usize| rows.iter().any(|(_, values)| values[*mode].is_some());
    let modes: Vec<_> = (0..MODES.len()).filter(measured).collect();
    let mut head = vec!["what".to_owned()];
    head.extend(modes.iter().map(|mode| MODES[*mode].1.to_owned()));
    let rows = rows.iter().map(|(what, values)| {
        let cells = modes.iter().map(|mode| match (values[*mode], values[0]) {
            (None, _) => "–".to_owned(),
            (Some((number, value)), Some((base, _))) if *mode > 0 && base > 0 => {
                let more = (number as f64 / base as f64 - 1.0) * 100.0;
                format!("{value} ({more:+.1} %)")
            }
            (Some((_, value)), _) => value.to_owned(),
        });
        std::iter::once(what.clone()).chain(cells).collect()
    });
    write_table(&head, "---:", rows.collect())
}

/// A table whose first column is text; `align` is the rule of the others.
pub fn write_table(head: &[String], align: &str, rows: Vec<Vec<String>>) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let rule = format!("|---{}|\n", format!("|{align}").repeat(head.len() - 1));
    let rows: String = rows.iter().map(|row| line(row)).collect();
    format!("{}{rule}{rows}", line(head))
}

/// `bind-dev-v4-ping-56` is (the fourth mode, `IPv4: ping 56`).
fn split_key(key: &str) -> Option<(usize, String)> {
    MODES.iter().enumerate().find_map(|(index, (mode, _))| {
        let rest = key.strip_prefix(mode)?.strip_prefix("-v")?;
        let (family, what) = rest.split_once('-')?;
        let units = ["-virtual-ns", "-instructions"];
        let unit = units.iter().find(|unit| what.ends_with(**unit));
        let (what, unit) = what.split_at(what.len() - unit.map_or(0, |unit| unit.len()));
        let what = format!("IPv{family}: {what}{}", unit.replacen('-', ", ", 1));
        Some((index, what.replace('-', " ")))
    })
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::matrix::data::Heading;
    use crate::matrix::data::tests::read_sample;

    /// The sample with the keys that k-cost writes.
    pub fn make_costs() -> Data {
        let mut data = read_sample();
        data.scenarios.push(Heading {
            name: SCENARIO.into(),
            ..Heading::default()
        });
        let mut cell = data.cells[3].clone();
        cell.scenario = SCENARIO.into();
        cell.seen.values = [
            ("unbound-v4-sent-32-instructions", "20000 ±12"),
            ("bind-dev-v4-sent-32-instructions", "20300 ±7"),
            ("fwmark-v4-sent-32-instructions", "10000 ±0"),
            ("bpf-v4-lookup-instructions", "-20 ±90"),
            ("fwmark-v6-ping-56-virtual-ns", "42000"),
        ]
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .into();
        data.cells.push(cell);
        data
    }

    #[test]
    fn values_become_a_table() {
        let table = write_tables(&make_costs());
        for line in [
            "### patched-6.1",
            "| what | unbound | VRF by fwmark | fwmark, socket bound | VRF by bind-dev |",
            "| IPv4: sent 32, instructions | 20000 ±12 | 10000 ±0 (-50.0 %) | – | 20300 ±7 (+1.5 %) |",
            "| IPv4: lookup, instructions | – | – | -20 ±90 | – |",
            "| IPv6: ping 56, virtual ns | – | 42000 | – | – |",
        ] {
            assert!(table.contains(line), "`{line}' is not in\n{table}");
        }
        assert_eq!(write_tables(&read_sample()), "");
    }
}
