// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The comparison that the scenario k-cost measures: its `result` lines as tables and as bars.
//!
//! Its keys are `MODE-vFAMILY-WHAT`: `bind-dev-v4-datagram-32-instructions`.

use crate::matrix::data::{Data, Kind};
use crate::matrix::page::write_table;

pub const SCENARIO: &str = "k-cost";

/// The ways that are compared, in the order of tables and bars.
const MODES: [(&str, &str); 4] = [
    ("unbound", "unbound"),
    ("nic", "bound to a NIC"),
    ("fwmark", "VRF by fwmark"),
    ("bind-dev", "VRF by bind-dev"),
];

/// What was measured on one kernel.
pub struct Cost {
    pub kernel: String,
    attr: bool,
    /// (what, number for each mode), in the order of the scenario.
    rows: Vec<(String, [Option<u64>; 4])>,
}

/// The kernels on which it passed, with our tool.
pub fn read_costs(data: &Data) -> Vec<Cost> {
    let mut all = Vec::new();
    for kernel in &data.kernels {
        let cell = data.find(&kernel.name, "ours", SCENARIO);
        let Some(seen) = cell
            .and_then(|c| c.seen())
            .filter(|s| s.kind() == Kind::Passed)
        else {
            continue;
        };
        let mut rows: Vec<(String, [Option<u64>; 4])> = Vec::new();
        for (key, value) in &seen.values {
            let (Some((mode, what)), Ok(value)) = (split_key(key), value.parse()) else {
                continue;
            };
            let at = rows
                .iter()
                .position(|(w, _)| *w == what)
                .unwrap_or_else(|| {
                    rows.push((what, [None; 4]));
                    rows.len() - 1
                });
            rows[at].1[mode] = Some(value);
        }
        if !rows.is_empty() {
            let (kernel, attr) = (kernel.name.clone(), kernel.attr);
            all.push(Cost { kernel, attr, rows });
        }
    }
    all
}

/// `bind-dev-v4-ping-56` is (the fourth mode, `IPv4: ping 56`).
fn split_key(key: &str) -> Option<(usize, String)> {
    MODES.iter().enumerate().find_map(|(index, (mode, _))| {
        let rest = key.strip_prefix(mode)?.strip_prefix("-v")?;
        let (family, what) = rest.split_once('-')?;
        let units = ["-per-virtual-second", "-virtual-ns", "-instructions"];
        let unit = units.iter().find(|unit| what.ends_with(**unit));
        let (what, unit) = what.split_at(what.len() - unit.map_or(0, |unit| unit.len()));
        let what = format!("IPv{family}: {what}{}", unit.replacen('-', ", ", 1));
        Some((index, what.replace('-', " ")))
    })
}

/// A table for each kernel: what was measured, in each mode, and how far from unbound.
pub fn write_tables(costs: &[Cost]) -> String {
    let mut text = String::new();
    for cost in costs {
        let measured = |mode: &usize| cost.rows.iter().any(|(_, values)| values[*mode].is_some());
        let modes: Vec<_> = (0..MODES.len()).filter(measured).collect();
        let head = modes.iter().map(|mode| MODES[*mode].1);
        let head: Vec<_> = std::iter::once("what")
            .chain(head)
            .map(str::to_owned)
            .collect();
        let rows = cost.rows.iter().map(|(what, values)| {
            let cells = modes.iter().map(|mode| match (values[*mode], values[0]) {
                (None, _) => "–".to_owned(),
                (Some(value), Some(base)) if *mode > 0 && base > 0 => {
                    format!("{} ({})", group_digits(value), format_percent(value, base))
                }
                (Some(value), _) => group_digits(value),
            });
            std::iter::once(what.clone()).chain(cells).collect()
        });
        let table = write_table(&head, "---:", rows.collect());
        text += &format!("\n### {}\n\n{table}", cost.kernel);
    }
    text
}

/// `+1.5 %`, in whole tenths so that it is the same everywhere.
fn format_percent(value: u64, base: u64) -> String {
    let distance = u128::from(value.abs_diff(base)) * 1000;
    let tenths = (distance + u128::from(base) / 2) / u128::from(base);
    let sign = if value < base && tenths > 0 {
        "−"
    } else {
        "+"
    };
    format!("{sign}{}.{} %", tenths / 10, tenths % 10)
}

/// `12 345`, with a narrow blank.
fn group_digits(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// Colours follow the reader's light or dark.
const STYLE: &str = "\
  <style>
    text { fill: #1f2328; font: 13px system-ui, sans-serif }
    .small { font-size: 11px; fill: #59636e }
    .head { font-weight: 600 }
    .back { fill: #ffffff }
    .c0 { fill: #6e7781 } .c1 { fill: #1a7f37 } .c2 { fill: #bc4c00 } .c3 { fill: #0969da }
    @media (prefers-color-scheme: dark) {
      text { fill: #e6edf3 }
      .small { fill: #9198a1 }
      .back { fill: #0d1117 }
      .c0 { fill: #9198a1 } .c1 { fill: #3fb950 } .c2 { fill: #f0883e } .c3 { fill: #4493f8 }
    }
  </style>
";

/// What is drawn: the unit that rows end in, and its title.
const PANELS: [(&str, &str); 3] = [
    (
        "per virtual second",
        "throughput: datagrams per virtual second (longer is better)",
    ),
    (
        "virtual ns",
        "latency: a ping, virtual nanoseconds (shorter is better)",
    ),
    (
        "instructions",
        "one datagram: instructions (shorter is better)",
    ),
];

/// The picture of one kernel, the newest patched one that is no debug kernel: horizontal bars in
/// whole numbers, so that the same values give the same bytes.
pub fn draw(costs: &[Cost]) -> Option<String> {
    const LEFT: u64 = 190;
    const WIDTH: u64 = 520;
    const BAR: u64 = 14;
    let plain = |c: &&Cost| c.attr && !c.kernel.starts_with("debug");
    let cost = costs.iter().rfind(plain).or(costs.first())?;
    let title = format!("What a packet costs on {}", cost.kernel);
    let mut body = String::new();
    for (index, (_, name)) in MODES.iter().enumerate() {
        let x = 20 + index * 180;
        body += &format!(
            "  <rect class=\"c{index}\" x=\"{x}\" y=\"34\" width=\"12\" height=\"12\"/>\
             <text x=\"{}\" y=\"45\">{name}</text>\n",
            x + 18
        );
    }
    let mut y = 74;
    for (unit, title) in PANELS {
        let rows: Vec<_> = cost
            .rows
            .iter()
            .filter(|(what, _)| what.ends_with(unit))
            .collect();
        let values = rows.iter().flat_map(|(_, values)| values.iter().flatten());
        let Some(most) = values.max() else { continue };
        body += &format!("  <text class=\"head\" x=\"20\" y=\"{y}\">{title}</text>\n");
        y += 12;
        for (what, values) in rows {
            let name = what.split(',').next().unwrap_or(what);
            let (x, middle) = (LEFT - 10, y + 2 * BAR + 4);
            body +=
                &format!("  <text x=\"{x}\" y=\"{middle}\" text-anchor=\"end\">{name}</text>\n");
            for (index, value) in values.iter().enumerate() {
                let width = value.map_or(0, |value| value * WIDTH / most.max(&1));
                // No value is no bar of length nought.
                let text = value.map_or("not measured".to_owned(), group_digits);
                body += &format!(
                    "  <rect class=\"c{index}\" x=\"{LEFT}\" y=\"{y}\" width=\"{width}\" height=\"{}\"/>\
                     <text class=\"small\" x=\"{}\" y=\"{}\">{text}</text>\n",
                    BAR - 3,
                    LEFT + width + 6,
                    y + BAR - 4
                );
                y += BAR;
            }
            y += 10;
        }
        y += 22;
    }
    Some(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 820 {y}\" role=\"img\" \
         aria-label=\"{title}\">\n  \
         <!-- SPDX-License-Identifier: GPL-2.0-only OR MIT; written by cargo xtask results -->\n\
         {STYLE}  <rect class=\"back\" width=\"820\" height=\"{y}\"/>\n  \
         <text class=\"head\" x=\"20\" y=\"22\">{title}</text>\n{body}</svg>\n"
    ))
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::matrix::data::tests::sample;
    use crate::matrix::data::{Content, Heading};

    /// The sample with the keys that k-cost writes.
    pub fn with_cost() -> Data {
        let mut data = sample();
        data.scenarios.push(Heading {
            name: SCENARIO.into(),
            ..Heading::default()
        });
        let mut cell = data.find("patched-6.1", "ours", "k-one").unwrap().clone();
        cell.scenario = SCENARIO.into();
        if let Content::Seen(seen) = &mut cell.content {
            seen.values = [
                ("unbound-v4-datagram-32-instructions", "20000"),
                ("unbound-v4-datagram-32-per-virtual-second", "50000"),
                ("unbound-v4-ping-56-virtual-ns", "41000"),
                ("bind-dev-v4-datagram-32-instructions", "20300"),
                ("bind-dev-v4-datagram-32-per-virtual-second", "49261"),
                ("fwmark-v4-datagram-32-instructions", "10000"),
                ("fwmark-v6-ping-56-virtual-ns", "42000"),
            ]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into();
        }
        data.cells.push(cell);
        data
    }

    #[test]
    fn values_become_a_table_and_a_picture() {
        let costs = read_costs(&with_cost());
        let table = write_tables(&costs);
        for line in [
            "| what | unbound | VRF by fwmark | VRF by bind-dev |",
            "| IPv4: datagram 32, instructions | 20\u{202f}000 | 10\u{202f}000 (−50.0 %) | 20\u{202f}300 (+1.5 %) |",
            "49\u{202f}261 (−1.5 %)",
        ] {
            assert!(table.contains(line), "`{line}' is not in\n{table}");
        }
        let svg = draw(&costs).unwrap();
        assert!(svg.contains("costs on patched-6.1") && svg.contains("not measured"));
        // Bars are as long as their values: the greatest one is the whole width.
        for width in [
            "width=\"520\"",
            "width=\"512\"",
            "width=\"256\"",
            "width=\"0\"",
        ] {
            assert!(svg.contains(width), "{width}");
        }
        assert!(read_costs(&sample()).is_empty());
    }

    #[test]
    fn percents_are_rounded_both_ways_and_digits_grouped() {
        assert_eq!(format_percent(100, 100), "+0.0 %");
        assert_eq!(format_percent(99_999, 100_000), "+0.0 %");
        assert_eq!(format_percent(10_046, 10_000), "+0.5 %");
        assert_eq!(format_percent(9_954, 10_000), "−0.5 %");
        assert_eq!(format_percent(9_956, 10_000), "−0.4 %");
        assert_eq!(group_digits(5), "5");
        assert_eq!(group_digits(1_234_567), "1\u{202f}234\u{202f}567");
    }
}
