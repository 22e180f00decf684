// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! docs/results.md from the data of a run. Pure: the same data gives the same bytes.

use std::collections::BTreeMap;

use crate::matrix::cost::{self, write_table};
use crate::matrix::data::{Cell, Data, FIRST_TRY, Heading, Known};
use crate::run::verdict::Kind;

/// The files of the page, by their names in docs/.
pub fn write_files(data: &Data) -> [(&'static str, String); 2] {
    let mut text = String::from("# Results of the matrix\n\n");
    write_kernels(data, &mut text);
    write_introduction(data, &mut text);
    write_summary(data, &mut text);
    let mut notes = Notes::default();
    for tool in &data.tools {
        write_matrix(data, tool, &mut notes, &mut text);
    }
    if !notes.0.is_empty() {
        text += "\n### Reasons\n\n";
        for (index, reason) in notes.0.iter().enumerate() {
            text += &format!("{}. {}\n", index + 1, escape_text(reason));
        }
    }
    text += "\n## What a packet costs\n\n";
    text += &match cost::write_tables(data) {
        none if none.is_empty() => {
            "Not measured in this run: the scenario k-cost did not pass on any kernel.\n".into()
        }
        tables => format!(
            "The scenario k-cost counts instructions (QEMU's `-icount`): one takes one virtual\n\
             nanosecond, on one processor that does all the work of both ends, so that the numbers\n\
             say nothing of the machine they were measured on. `lookup` is what a packet takes more without a cached\n\
             route. ± is how far one of three was from their median; in brackets: against unbound.\n{tables}"
        ),
    };
    text += "\n## The network that packets were looked for in\n\n\
             ![Two sites, each with its external VRF, the Internet, and decoys](results-topology.svg)\n";
    write_versions(data, &mut text);
    text += concat!("\n", include_str!("not-proven.md"));
    [("results.json", data.to_json()), ("results.md", text)]
}

/// The heads of a table: the first one, and the names of what stands beside it.
fn list_heads(first: &str, headings: &[Heading]) -> Vec<String> {
    let names = headings.iter().map(|heading| heading.name.clone());
    std::iter::once(first.to_owned()).chain(names).collect()
}

/// What somebody wants to know first.
fn write_kernels(data: &Data, text: &mut String) {
    let rows = data.kernels.iter().map(|kernel| {
        let count = |kind| data.count_kind(kind, |c| c.kernel == kernel.name);
        let (failed, missing) = (count(Kind::Failed), data.count_missing(Some(kernel)));
        let works = match (failed, missing) {
            (0, 0) if kernel.since.is_none() => "no cell passed".into(),
            (0, 0) => format!("yes, {} passed", count(Kind::Passed)),
            (0, _) => format!("not known, {missing} missing"),
            (_, _) => format!("**no, {failed} failed**"),
        };
        let day = kernel.since.map(|since| since.strftime("%F").to_string());
        let attr = if kernel.attr { "yes" } else { "no" };
        vec![
            kernel.name.clone(),
            escape_text(&kernel.version),
            attr.into(),
            works,
            day.unwrap_or("–".into()),
        ]
    });
    let head = ["kernel", "version", "attribute", "works", "since"].map(str::to_owned);
    *text += "A kernel works where all that applies to it has passed or was skipped, in each run since.\n\n";
    *text += &(write_table(&head, "---", rows.collect()) + "\n");
}

fn write_introduction(data: &Data, text: &mut String) {
    let run = &data.run;
    *text += &format!(
        "Every scenario of vm-tests/scenarios on every kernel of vm-tests/kernels.toml with every\n\
         `wg` of vm-tests/tools.toml. Run at commit {}, finished {}.\n\n",
        run.commit, run.finished
    );
    let seen = data.cells.iter().map(|cell| &cell.seen);
    let earlier = seen.filter(|seen| seen.commit != run.commit);
    let earlier: Vec<_> = earlier.map(|seen| seen.when).collect();
    if let (Some(first), Some(last)) = (earlier.iter().min(), earlier.iter().max()) {
        *text += &format!(
            "{} of {} cells were seen at an earlier commit, from {first} to {last}, with the same\n\
             kernel, tool, scenario and guest.\n\n",
            earlier.len(),
            data.cells.len()
        );
    }
    let missing = data.count_missing(None);
    if missing > 0 {
        *text +=
            &format!("**This was a part of the matrix; {missing} of its cells are missing.**\n\n");
    } else if run.part {
        *text += "**This was a part of the matrix.**\n\n";
    }
    *text += "    cargo xtask test --full --resume    # run it; goes on where an earlier run ended\n    \
              cargo xtask results                 # write this page and results.json\n\n\
              results.json also has how long each cell took, and the `result` lines of the scenarios.\n\n";
}

fn write_summary(data: &Data, text: &mut String) {
    let rows = data.kernels.iter().map(|kernel| {
        let cells = data.tools.iter().map(|tool| {
            let here = |c: &Cell| c.kernel == kernel.name && c.tool == tool.name;
            let [passed, failed, skipped] =
                [Kind::Passed, Kind::Failed, Kind::Skipped].map(|kind| data.count_kind(kind, here));
            let none = data.not_applicable.iter();
            let none = none.filter(|o| o.is_of(&kernel.name, &tool.name));
            let none: usize = none.map(|o| o.scenarios.len()).sum();
            let failed = match failed {
                0 => "0".to_owned(),
                n => format!("**{n} failed**"),
            };
            format!("{passed} / {failed} / {skipped} / {none}")
        });
        std::iter::once(kernel.name.clone()).chain(cells).collect()
    });
    *text += "## Passed, failed, skipped, not applicable\n\n";
    *text += &write_table(&list_heads("kernel", &data.tools), "---", rows.collect());
}

/// Reasons, numbered in the order in which they are met.
#[derive(Default)]
struct Notes(Vec<String>);

impl Notes {
    fn mark_reason(&mut self, reason: &str) -> String {
        let at = self.0.iter().position(|r| r == reason).unwrap_or_else(|| {
            self.0.push(reason.to_owned());
            self.0.len() - 1
        });
        format!("<sup>{}</sup>", at + 1)
    }
}

/// The scenarios that were run with a tool; the others in a sentence for each reason.
fn write_matrix(data: &Data, tool: &Heading, notes: &mut Notes, text: &mut String) {
    *text += &format!("\n## With {}: {}\n\n", tool.name, escape_text(&tool.title));
    let (mut rows, mut nowhere) = (Vec::new(), 0);
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    for Heading { name, .. } in &data.scenarios {
        let find = |k: &Heading| data.find_known(&k.name, &tool.name, name);
        let cells: Vec<_> = data.kernels.iter().map(find).collect();
        if cells.iter().any(|c| matches!(c, Some(Known::Seen(_)))) {
            let mut row = vec![name.clone()];
            row.extend(cells.into_iter().map(|cell| write_cell(name, cell, notes)));
            rows.push(row);
            continue;
        }
        nowhere += 1;
        for cell in cells.into_iter().flatten() {
            if let Known::NotApplicable(reason) = cell {
                *reasons.entry(reason).or_default() += 1;
            }
        }
    }
    if rows.is_empty() {
        *text += "None was run.\n";
    } else {
        *text += &write_table(&list_heads("scenario", &data.kernels), "---", rows);
    }
    if nowhere > 0 {
        *text += &format!("\n{nowhere} scenarios apply to no kernel with this tool:\n");
        for (reason, cells) in reasons {
            *text += &format!("- {} ({cells} cells)\n", escape_text(reason));
        }
    }
}

fn write_cell(scenario: &str, cell: Option<Known<'_>>, notes: &mut Notes) -> String {
    let seen = match cell {
        None => return "?".into(),
        Some(Known::NotApplicable(reason)) => return format!("–{}", notes.mark_reason(reason)),
        Some(Known::Seen(seen)) => seen,
    };
    let why = seen.outcome.get_reason();
    match seen.outcome.get_kind() {
        Kind::Passed => match seen.notes.iter().find(|note| note.starts_with(FIRST_TRY)) {
            None => "ok".into(),
            Some(note) => format!("ok{}", notes.mark_reason(&format!("{scenario}: {note}"))),
        },
        Kind::Skipped => format!("skipped{}", notes.mark_reason(why)),
        Kind::Failed => {
            let note = notes.mark_reason(&format!("{scenario}: {why}"));
            format!("**{}**{note}", seen.outcome.ending)
        }
    }
}

fn write_versions(data: &Data, text: &mut String) {
    let rows = data.tools.iter().map(|tool| {
        let name = format!("{}: {}", tool.name, escape_text(&tool.title));
        vec![name, escape_text(&tool.version)]
    });
    let head = ["tool", "version"].map(str::to_owned);
    let table = write_table(&head, "---", rows.collect());
    let qemu = escape_text(&data.run.qemu);
    *text += &format!("\n## Versions\n\n{table}\nGuests ran in {qemu}.\n");
}

/// Text that is no markup, and stays in its cell of a table.
fn escape_text(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '|' | '*' | '_' | '`' | '[' | ']' | '\\' => out.extend(['\\', c]),
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
    use crate::matrix::cost::tests::make_costs;
    use crate::matrix::data::tests::read_sample;

    #[test]
    fn every_cell_is_on_the_page() {
        let mut data = read_sample();
        data.cells[0].seen.notes = vec![format!("{FIRST_TRY} silence")];
        let [_, (_, page)] = write_files(&data);
        for line in [
            "| patched-6.1 | 1 / **1 failed** / 0 / 0 | 1 / 0 / 0 / 1 |",
            "| debian-6.1 | 1 / 0 / 0 / 1 | 0 / 0 / 1 / 1 |",
            "| k-one | –<sup>1</sup> | ok |",
            "| smoke | ok<sup>2</sup> | **splat**<sup>3</sup> |",
            "| smoke | skipped<sup>4</sup> | ok |",
            "1. no attribute",
            "2. smoke: the first try came to: silence",
            "3. smoke: WARNING: &lt;a&gt; &amp; \\]\\]&gt;",
            "no bind-dev (1 cells)",
            "Not measured in this run",
            "| debian-6.1 | 6.1.170-1 | no | yes, 1 passed | 2026-11-22 |",
            "| patched-6.1 | 6.1.170-1 | yes | **no, 1 failed** | – |",
            "finished 2026-11-22T16:25:00Z",
        ] {
            assert!(page.contains(line), "`{line}' is not in\n{page}");
        }
        assert!(!page.contains('\u{1b}') && !page.contains("a part of"));
        let [_, (_, page)] = write_files(&make_costs());
        assert!(!page.contains("Not measured") && page.contains("20300 ±7 (+1.5 %)"));
    }

    #[test]
    fn a_part_says_that_it_is_one() {
        let mut data = read_sample();
        data.not_applicable.pop();
        let [_, (_, page)] = write_files(&data);
        assert!(page.contains("; 1 of its cells are missing"), "{page}");
        assert!(page.contains("| k-one | ? | ok |"), "{page}");
    }

    /// The committed page is made from the committed data, and not written by hand.
    #[test]
    fn the_page_is_what_the_data_says() {
        let docs = kit::repo::find_root().join("docs");
        let data = Data::read(&docs.join("results.json")).unwrap();
        for (name, text) in write_files(&data) {
            let there = fs_err::read_to_string(docs.join(name)).unwrap_or_default();
            let same = there == text;
            assert!(same, "docs/{name}: cargo xtask results docs/results.json");
        }
    }
}
