// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! docs/results.md from the data of a run. Pure: the same data gives the same bytes.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::matrix::cost;
use crate::matrix::data::{Cell, Data, Kind, Seen, Tool, Verdict, utc};
use crate::matrix::svg;

/// The files of the page, by their names in docs/.
pub fn files(data: &Data) -> BTreeMap<&'static str, String> {
    let mut files = BTreeMap::from([
        ("results.tsv", data.text()),
        ("results-topology.svg", svg::topology()),
    ]);
    let costs = cost::of(data);
    let picture = cost::picture(&costs);
    files.insert("results.md", page(data, &costs, picture.is_some()));
    if let Some((_, svg)) = picture {
        files.insert("results-cost.svg", svg);
    }
    files
}

fn page(data: &Data, costs: &[cost::Cost<'_>], picture: bool) -> String {
    let mut text = String::from("# Results of the matrix\n\n");
    introduction(data, &mut text);
    summary(data, &mut text);
    let mut notes = Notes::default();
    for tool in &data.tools {
        matrix(data, tool, &mut notes, &mut text);
    }
    notes.write(&mut text);
    text += "\n## What a packet costs\n\n";
    if picture {
        text += "![Throughput and latency of unbound, fwmark and bind-dev](results-cost.svg)\n\n\
                 The scenario k-cost counts instructions (QEMU's `-icount`): one takes one virtual\n\
                 nanosecond, on one processor that does all the work of both ends, so that the numbers\n\
                 repeat and say nothing of the machine they were measured on. In brackets: against\n\
                 unbound.\n";
        text += &cost::tables(costs);
    } else {
        text += "Not measured in this run: the scenario k-cost did not pass on any kernel.\n";
    }
    text += "\n## The network that packets were looked for in\n\n\
             ![Two sites, each with its external VRF, the Internet, and decoys](results-topology.svg)\n";
    times(data, &mut text);
    versions(data, &mut text);
    values(data, &mut text);
    text
}

fn introduction(data: &Data, text: &mut String) {
    let get = |key: &str| data.run.get(key).map_or("unknown", String::as_str);
    let finished = match get("finished").parse() {
        Ok(seconds) => utc(seconds),
        Err(_) => "unknown".into(),
    };
    let _ = writeln!(
        text,
        "Every scenario of vm-tests/scenarios on every kernel of vm-tests/kernels.toml with every\n\
         `wg` of vm-tests/tools.toml. Run at commit {}, finished {finished}.\n",
        get("commit")
    );
    let seen: Vec<_> = data.cells.iter().filter_map(Cell::seen).collect();
    let other = |seen: &&&Seen| seen.commit != get("commit");
    let earlier: Vec<_> = seen.iter().filter(other).collect();
    if let (Some(first), Some(last)) = (
        earlier.iter().map(|s| s.when).min(),
        earlier.iter().map(|s| s.when).max(),
    ) {
        let _ = writeln!(
            text,
            "{} of {} cells were seen at an earlier commit, from {} to {}, with the same kernel, tool,\n\
             scenario and guest.\n",
            earlier.len(),
            seen.len(),
            utc(first),
            utc(last)
        );
    }
    let missing = data.missing();
    if missing > 0 || get("part") == "yes" {
        *text += "**This was a part of the matrix";
        if missing > 0 {
            let _ = write!(text, "; {missing} of its cells are missing");
        }
        *text += ".**

";
    }
    *text += "    cargo xtask test --full --resume    # run it; goes on where an earlier run ended\n    \
              cargo xtask results                 # write this page, its pictures and results.tsv\n\n";
}

fn summary(data: &Data, text: &mut String) {
    *text += "## Passed, failed, skipped, not applicable\n\n| kernel";
    for tool in &data.tools {
        let _ = write!(text, " | {}", tool.name);
    }
    *text += " |\n|---";
    *text += &"|---".repeat(data.tools.len());
    *text += "|\n";
    for kernel in &data.kernels {
        let _ = write!(text, "| {}", kernel.name);
        for tool in &data.tools {
            let of = |kind| {
                data.cells
                    .iter()
                    .filter(|c| c.kernel == kernel.name && c.tool == tool.name)
                    .filter(|c| c.kind() == kind)
                    .count()
            };
            let failed = match of(Kind::Failed) {
                0 => "0".to_owned(),
                n => format!("**{n} failed**"),
            };
            let _ = write!(
                text,
                " | {} / {failed} / {} / {}",
                of(Kind::Passed),
                of(Kind::Skipped),
                of(Kind::NotApplicable)
            );
        }
        *text += " |\n";
    }
}

/// Reasons, numbered in the order in which they are met.
#[derive(Default)]
struct Notes(Vec<String>);

impl Notes {
    fn mark(&mut self, reason: &str) -> String {
        let at = self.0.iter().position(|r| r == reason).unwrap_or_else(|| {
            self.0.push(reason.to_owned());
            self.0.len() - 1
        });
        format!("<sup>{}</sup>", at + 1)
    }

    fn write(&self, text: &mut String) {
        if self.0.is_empty() {
            return;
        }
        *text += "\n### Reasons\n\n";
        for (index, reason) in self.0.iter().enumerate() {
            let _ = writeln!(text, "{}. {}", index + 1, plain(reason));
        }
    }
}

/// The scenarios that were run with a tool; the others in a sentence for each reason.
fn matrix(data: &Data, tool: &Tool, notes: &mut Notes, text: &mut String) {
    let _ = writeln!(text, "\n## With {}: {}\n", tool.name, plain(&tool.title));
    let mut rows = String::new();
    let mut nowhere = 0;
    for scenario in &data.scenarios {
        let cells: Vec<_> = data
            .kernels
            .iter()
            .map(|k| data.find(&k.name, &tool.name, &scenario.name))
            .collect();
        if cells
            .iter()
            .flatten()
            .all(|c| c.kind() == Kind::NotApplicable)
        {
            nowhere += 1;
            continue;
        }
        let _ = write!(rows, "| {}", scenario.name);
        for cell in cells {
            let _ = write!(rows, " | {}", short(cell, notes));
        }
        rows += " |\n";
    }
    if rows.is_empty() {
        *text += "None was run.\n";
    } else {
        *text += "| scenario";
        for kernel in &data.kernels {
            let _ = write!(text, " | {}", kernel.name);
        }
        *text += " |\n|---";
        *text += &"|---".repeat(data.kernels.len());
        *text += "|\n";
        *text += &rows;
    }
    if nowhere > 0 {
        let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
        for cell in data.cells.iter().filter(|c| c.tool == tool.name) {
            let applies = |c: &&Cell| {
                c.tool == tool.name && c.scenario == cell.scenario && c.seen().is_some()
            };
            if let (Verdict::NotApplicable(reason), false) =
                (&cell.verdict, data.cells.iter().any(|c| applies(&c)))
            {
                *reasons.entry(reason).or_default() += 1;
            }
        }
        let _ = writeln!(
            text,
            "\n{nowhere} scenarios apply to no kernel with this tool:"
        );
        for (reason, cells) in reasons {
            let _ = writeln!(text, "- {} ({cells} cells)", plain(reason));
        }
    }
}

fn short(cell: Option<&Cell>, notes: &mut Notes) -> String {
    let Some(cell) = cell else {
        return "?".into();
    };
    match &cell.verdict {
        Verdict::NotApplicable(reason) => format!("–{}", notes.mark(reason)),
        Verdict::Seen(seen) => match seen.kind() {
            Kind::Passed => "ok".into(),
            Kind::Skipped => format!("skipped{}", notes.mark(first_line(&seen.text))),
            _ => format!(
                "**{}**{}",
                seen.word,
                notes.mark(&format!("{}: {}", cell.scenario, first_line(&seen.text)))
            ),
        },
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or("no reason given")
}

fn times(data: &Data, text: &mut String) {
    *text += "\n## Times\n\n\
              Seconds of the clock say something of the machine, too; seconds of processor time less.\n\n\
              | kernel | cells run | until init (median) | a cell (median) | a cell, processor (median) | all, processor |\n\
              |---|---:|---:|---:|---:|---:|\n";
    for kernel in &data.kernels {
        let seen: Vec<_> = data
            .cells
            .iter()
            .filter(|c| c.kernel == kernel.name)
            .filter_map(Cell::seen)
            .collect();
        if seen.is_empty() {
            continue;
        }
        let middle = |of: &dyn Fn(&Seen) -> u64| {
            let mut all: Vec<_> = seen.iter().map(|s| of(s)).filter(|n| *n > 0).collect();
            all.sort_unstable();
            all.get(all.len() / 2).map_or("–".into(), |n| seconds(*n))
        };
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} |",
            kernel.name,
            seen.len(),
            middle(&|s| s.boot),
            middle(&|s| s.took),
            middle(&|s| s.cpu),
            seconds(seen.iter().map(|s| s.cpu).sum())
        );
    }
}

/// Milliseconds as seconds, without a float.
fn seconds(millis: u64) -> String {
    format!("{}.{} s", millis / 1000, millis % 1000 / 100)
}

fn versions(data: &Data, text: &mut String) {
    *text += "\n## Versions\n\n| kernel | attribute | version |\n|---|---|---|\n";
    for kernel in &data.kernels {
        let attr = if kernel.attr { "yes" } else { "no" };
        let _ = writeln!(
            text,
            "| {} | {attr} | {} |",
            kernel.name,
            plain(&kernel.version)
        );
    }
    *text += "\n| tool | version |\n|---|---|\n";
    for tool in &data.tools {
        let _ = writeln!(
            text,
            "| {}: {} | {} |",
            tool.name,
            plain(&tool.title),
            plain(&tool.version)
        );
    }
    if let Some(qemu) = data.run.get("qemu") {
        let _ = writeln!(text, "\nGuests ran in {}.", plain(qemu));
    }
}

/// What scenarios measured or found with our tool, where it is more than a word.
fn values(data: &Data, text: &mut String) {
    let mut rows: BTreeMap<(&str, &str), Vec<(&str, &str)>> = BTreeMap::new();
    for cell in data.cells.iter().filter(|c| c.tool == "ours") {
        let values = cell.seen().map_or(&[][..], |s| &s.values);
        for (key, value) in values {
            if cell.scenario != cost::SCENARIO {
                rows.entry((&cell.scenario, key))
                    .or_default()
                    .push((&cell.kernel, value));
            }
        }
    }
    if rows.is_empty() {
        return;
    }
    *text += "\n## What scenarios found\n\n<details><summary>The `result` lines, with our tool</summary>\n\n\
              | scenario | what | found |\n|---|---|---|\n";
    for ((scenario, key), found) in rows {
        // The kernels on which the same was found go together.
        let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
        for kernel in &data.kernels {
            for (at, value) in found.iter().filter(|(at, _)| *at == kernel.name) {
                match groups.iter_mut().find(|(v, _)| v == value) {
                    Some((_, kernels)) => kernels.push(at),
                    None => groups.push((value, vec![at])),
                }
            }
        }
        let groups: Vec<_> = groups
            .iter()
            .map(|(value, kernels)| format!("{} ({})", plain(value), kernels.join(", ")))
            .collect();
        let _ = writeln!(
            text,
            "| {scenario} | {} | {} |",
            plain(key),
            groups.join("; ")
        );
    }
    *text += "\n</details>\n";
}

/// Text that is no markup, and stays in its cell of a table.
fn plain(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '|' | '*' | '_' | '`' | '[' | ']' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '&' => out += "&amp;",
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::cost::tests::with_cost;
    use crate::matrix::data::tests::sample;
    use std::path::Path;

    #[test]
    fn the_same_data_gives_the_same_bytes() {
        let data = with_cost();
        let read = Data::parse(Path::new("x"), &data.text()).unwrap();
        assert_eq!(files(&data), files(&read));
        assert_eq!(files(&data).len(), 4);
    }

    #[test]
    fn every_cell_is_on_the_page() {
        let page = &files(&sample())["results.md"];
        for line in [
            "| patched-6.1 | 1 / **1 failed** / 0 / 0 | 1 / 0 / 0 / 1 |",
            "| debian-6.1 | 1 / 0 / 0 / 1 | 0 / 0 / 1 / 1 |",
            "| k-one | –<sup>1</sup> | ok |",
            "| smoke | ok | **splat**<sup>2</sup> |",
            "| smoke | skipped<sup>3</sup> | ok |",
            "1. no attribute",
            "2. smoke: WARNING: &lt;a&gt; &amp; \\]\\]&gt;",
            "no bind-dev (1 cells)",
            "Not measured in this run",
            "| patched-6.1 | yes | 6.1.170-1 |",
            "finished 2026-11-22 16:25 UTC",
        ] {
            assert!(page.contains(line), "`{line}' is not in\n{page}");
        }
        assert!(!page.contains('\u{1b}') && !page.contains("a part of"));
    }

    #[test]
    fn a_part_says_that_it_is_one() {
        let mut data = sample();
        data.cells.pop();
        let page = &files(&data)["results.md"];
        assert!(
            page.contains("matrix; 1 of its cells are missing"),
            "{page}"
        );
        assert!(page.contains("| k-one | ? | ok |"), "{page}");
    }

    /// What is committed is what the committed data says: nobody wrote into it by hand.
    #[test]
    fn the_page_is_what_the_data_says() {
        let docs = kit::repo::root().join("docs");
        if !docs.join("results.tsv").exists() {
            // Before the first whole run there is no data, and then there must be no page either.
            assert!(!docs.join("results.md").exists(), "a page of no data");
            return;
        }
        let data = Data::read(&docs.join("results.tsv")).unwrap();
        for (name, text) in files(&data) {
            let there = std::fs::read_to_string(docs.join(name)).unwrap_or_default();
            assert!(
                there == text,
                "docs/{name} is not what docs/results.tsv says: cargo xtask results docs/results.tsv"
            );
        }
    }
}
