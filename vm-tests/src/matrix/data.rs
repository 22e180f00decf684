// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What a run of the matrix left behind, as a value and as lines of a text file.
//!
//! One record a line, fields between tabs: small enough to be committed, and a change of it can
//! be read. Owns the format; what pages and reports make of it is theirs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::run::runner::Report;
use crate::run::verdict::Outcome;
use kit::{Error, Result};

const HEAD: &str = "wg-vrf results 1";

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Data {
    /// When, of which commit, on what: `commit`, `finished`, `qemu`.
    pub run: BTreeMap<String, String>,
    pub kernels: Vec<Kernel>,
    pub tools: Vec<Tool>,
    pub scenarios: Vec<Scenario>,
    pub cells: Vec<Cell>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    pub name: String,
    pub attr: bool,
    pub version: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tool {
    pub name: String,
    pub title: String,
    pub version: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scenario {
    pub name: String,
    pub title: String,
}

/// One scenario on one kernel with one tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    pub kernel: String,
    pub tool: String,
    pub scenario: String,
    pub verdict: Verdict,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Seen(Seen),
    /// Why it is not run.
    NotApplicable(String),
}

/// What was seen when it was run. Times are in milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// As `Outcome::word` has it.
    pub word: String,
    pub text: String,
    pub took: u64,
    pub cpu: u64,
    /// Until init; 0 if it was not reached.
    pub boot: u64,
    /// Seconds since 1970.
    pub when: u64,
    pub commit: String,
    /// The key of all that it depends on (`crate::run::inputs`); empty if that could not be told.
    pub inputs: String,
    pub values: Vec<(String, String)>,
    pub notes: Vec<String>,
}

/// What a reader has to be told about a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Passed,
    Failed,
    Skipped,
    NotApplicable,
}

impl Seen {
    pub fn of(report: &Report, when: u64, commit: &str) -> Self {
        let millis = |d: std::time::Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
        Self {
            word: report.outcome.word().to_owned(),
            text: report.outcome.details().join("\n"),
            took: millis(report.took),
            cpu: millis(report.cpu),
            boot: report.boot.map_or(0, millis),
            when,
            commit: commit.to_owned(),
            inputs: String::new(),
            values: report.results.clone(),
            notes: report.notes.clone(),
        }
    }

    /// A cell that could not even be started.
    pub fn broken(text: &str, when: u64, commit: &str) -> Self {
        Self {
            word: Outcome::HarnessError(String::new()).word().to_owned(),
            text: text.to_owned(),
            when,
            commit: commit.to_owned(),
            ..Self::default()
        }
    }

    pub fn kind(&self) -> Kind {
        match self.word.as_str() {
            "passed" => Kind::Passed,
            "skipped" => Kind::Skipped,
            // Whatever else it is called.
            _ => Kind::Failed,
        }
    }
}

impl Cell {
    pub fn kind(&self) -> Kind {
        match &self.verdict {
            Verdict::Seen(seen) => seen.kind(),
            Verdict::NotApplicable(_) => Kind::NotApplicable,
        }
    }

    pub fn seen(&self) -> Option<&Seen> {
        match &self.verdict {
            Verdict::Seen(seen) => Some(seen),
            Verdict::NotApplicable(_) => None,
        }
    }
}

impl Data {
    pub fn find(&self, kernel: &str, tool: &str, scenario: &str) -> Option<&Cell> {
        self.cells
            .iter()
            .find(|c| c.kernel == kernel && c.tool == tool && c.scenario == scenario)
    }

    /// How many cells nobody knows anything of. A matrix has none.
    pub fn missing(&self) -> usize {
        (self.kernels.len() * self.tools.len() * self.scenarios.len())
            .saturating_sub(self.cells.len())
    }

    pub fn text(&self) -> String {
        let mut text = format!("{HEAD}\n");
        let mut line = |fields: &[&str]| push(&mut text, fields);
        for (key, value) in &self.run {
            line(&["run", key, value]);
        }
        for kernel in &self.kernels {
            let attr = if kernel.attr { "attr" } else { "no" };
            line(&["kernel", &kernel.name, attr, &kernel.version]);
        }
        for tool in &self.tools {
            line(&["tool", &tool.name, &tool.version, &tool.title]);
        }
        for scenario in &self.scenarios {
            line(&["scenario", &scenario.name, &scenario.title]);
        }
        // One line for all the kernels that a scenario does not apply to for the same reason.
        let mut none: BTreeMap<(&str, &str, &str), Vec<&str>> = BTreeMap::new();
        for cell in &self.cells {
            match &cell.verdict {
                Verdict::NotApplicable(reason) => none
                    .entry((&cell.tool, &cell.scenario, reason))
                    .or_default()
                    .push(&cell.kernel),
                Verdict::Seen(seen) => {
                    let id = [&*cell.kernel, &cell.tool, &cell.scenario];
                    text += &seen_text(id, seen);
                }
            }
        }
        for ((tool, scenario, reason), kernels) in none {
            push(
                &mut text,
                &["none", tool, scenario, reason, &kernels.join(" ")],
            );
        }
        text
    }

    pub fn parse(file: &Path, text: &str) -> Result<Self> {
        let mut data = Self::default();
        let mut lines = text.lines().enumerate();
        let wrong = |number: usize, text: &str| Error::Data {
            file: file.to_path_buf(),
            line: number + 1,
            text: text.to_owned(),
        };
        if lines.next().is_none_or(|(_, line)| line != HEAD) {
            return Err(wrong(0, &format!("the first line is not `{HEAD}'")));
        }
        for (number, line) in lines {
            let fields: Vec<_> = line.split('\t').map(unescape).collect();
            let fields: Vec<_> = fields.iter().map(String::as_str).collect();
            data.record(&fields)
                .ok_or_else(|| wrong(number, &format!("not understood: `{line}'")))?;
        }
        Ok(data)
    }

    pub fn read(file: &Path) -> Result<Self> {
        let text = fs::read_to_string(file).map_err(Error::io("read", file))?;
        Self::parse(file, &text)
    }

    fn record(&mut self, fields: &[&str]) -> Option<()> {
        let own = |text: &str| text.to_owned();
        match fields {
            ["run", key, value] => drop(self.run.insert(own(key), own(value))),
            ["kernel", name, attr, version] => self.kernels.push(Kernel {
                name: own(name),
                attr: *attr == "attr",
                version: own(version),
            }),
            ["tool", name, version, title] => self.tools.push(Tool {
                name: own(name),
                title: own(title),
                version: own(version),
            }),
            ["scenario", name, title] => self.scenarios.push(Scenario {
                name: own(name),
                title: own(title),
            }),
            ["none", tool, scenario, reason, kernels] => {
                for kernel in kernels.split(' ') {
                    self.cells.push(Cell {
                        kernel: own(kernel),
                        tool: own(tool),
                        scenario: own(scenario),
                        verdict: Verdict::NotApplicable(own(reason)),
                    });
                }
            }
            [
                "cell",
                kernel,
                tool,
                scenario,
                word,
                took,
                cpu,
                boot,
                when,
                commit,
                text,
            ] => {
                self.cells.push(Cell {
                    kernel: own(kernel),
                    tool: own(tool),
                    scenario: own(scenario),
                    verdict: Verdict::Seen(Seen {
                        word: Outcome::WORDS.contains(word).then(|| own(word))?,
                        text: own(text),
                        took: took.parse().ok()?,
                        cpu: cpu.parse().ok()?,
                        boot: boot.parse().ok()?,
                        when: when.parse().ok()?,
                        commit: own(commit),
                        inputs: String::new(),
                        values: Vec::new(),
                        notes: Vec::new(),
                    }),
                });
            }
            ["inputs", key] => self.last()?.inputs = own(key),
            ["value", key, value] => self.last()?.values.push((own(key), own(value))),
            ["note", text] => self.last()?.notes.push(own(text)),
            _ => return None,
        }
        Some(())
    }

    /// The cell that a following line belongs to.
    fn last(&mut self) -> Option<&mut Seen> {
        match &mut self.cells.last_mut()?.verdict {
            Verdict::Seen(seen) => Some(seen),
            Verdict::NotApplicable(_) => None,
        }
    }
}

/// The lines of one cell; `Data::parse` reads them behind a head.
fn seen_text([kernel, tool, scenario]: [&str; 3], seen: &Seen) -> String {
    let Seen {
        word,
        text,
        took,
        cpu,
        boot,
        when,
        commit,
        inputs,
        values,
        notes,
    } = seen;
    let [took, cpu, boot, when] = [took, cpu, boot, when].map(u64::to_string);
    let mut lines = String::new();
    push(
        &mut lines,
        &[
            "cell", kernel, tool, scenario, word, &took, &cpu, &boot, &when, commit, text,
        ],
    );
    if !inputs.is_empty() {
        push(&mut lines, &["inputs", inputs]);
    }
    for (key, value) in values {
        push(&mut lines, &["value", key, value]);
    }
    for note in notes {
        push(&mut lines, &["note", note]);
    }
    lines
}

fn push(text: &mut String, fields: &[&str]) {
    let fields: Vec<_> = fields.iter().map(|field| escape(field)).collect();
    // Writing to a string does not fail.
    let _ = writeln!(text, "{}", fields.join("\t"));
}

fn escape(field: &str) -> String {
    let mut text = String::new();
    for c in field.chars() {
        match c {
            '\\' => text += "\\\\",
            '\t' => text += "\\t",
            '\n' => text += "\\n",
            '\r' => text += "\\r",
            c => text.push(c),
        }
    }
    text
}

fn unescape(field: &str) -> String {
    let mut text = String::new();
    let mut chars = field.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('t') => text.push('\t'),
                Some('n') => text.push('\n'),
                Some('r') => text.push('\r'),
                Some(c) => text.push(c),
                None => {}
            },
            c => text.push(c),
        }
    }
    text
}

/// `2026-11-22 16:24 UTC`.
pub fn utc(seconds: u64) -> String {
    let (days, rest) = (seconds / 86400, seconds % 86400);
    // Gregorian years in eras of 400, counted from 1 March 0000, so that a leap day ends a year.
    let z = days + 719_468;
    let (era, day) = (z / 146_097, z % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02} UTC",
        rest / 3600,
        rest / 60 % 60
    )
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// Two kernels, two tools, two scenarios, one of each verdict.
    pub fn sample() -> Data {
        let cell = |kernel: &str, tool: &str, scenario: &str, verdict| Cell {
            kernel: kernel.into(),
            tool: tool.into(),
            scenario: scenario.into(),
            verdict,
        };
        let seen = |word: &str, text: &str| Seen {
            word: word.into(),
            text: text.into(),
            took: 12_345,
            cpu: 9_870,
            boot: 4_000,
            when: 1_795_364_641,
            commit: "0123456789ab".into(),
            inputs: "key of all".into(),
            values: vec![("kernel".into(), "6.1.0".into())],
            notes: vec!["nobody\twatched".into()],
        };
        let none = |reason: &str| Verdict::NotApplicable(reason.into());
        Data {
            run: [("commit", "0123456789ab"), ("finished", "1795364700")]
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .into(),
            kernels: [("debian-6.1", false), ("patched-6.1", true)]
                .map(|(name, attr)| Kernel {
                    name: name.into(),
                    attr,
                    version: "6.1.170-1".into(),
                })
                .into(),
            tools: ["ours", "c-sid"]
                .map(|name| Tool {
                    name: name.into(),
                    title: format!("the tool <{name}>"),
                    version: "1.0".into(),
                })
                .into(),
            scenarios: ["k-one", "smoke"]
                .map(|name| Scenario {
                    name: name.into(),
                    title: format!("title | of {name}"),
                })
                .into(),
            cells: vec![
                cell(
                    "debian-6.1",
                    "ours",
                    "smoke",
                    Verdict::Seen(seen("passed", "")),
                ),
                cell(
                    "debian-6.1",
                    "c-sid",
                    "smoke",
                    Verdict::Seen(seen("skipped", "no moon\\n tonight")),
                ),
                cell(
                    "patched-6.1",
                    "ours",
                    "smoke",
                    Verdict::Seen(seen("splat", "WARNING: <a> & ]]>\nline 2\u{1b}[0m")),
                ),
                cell(
                    "patched-6.1",
                    "ours",
                    "k-one",
                    Verdict::Seen(seen("passed", "")),
                ),
                cell(
                    "patched-6.1",
                    "c-sid",
                    "smoke",
                    Verdict::Seen(seen("passed", "")),
                ),
                cell("debian-6.1", "c-sid", "k-one", none("no attribute")),
                cell("patched-6.1", "c-sid", "k-one", none("no bind-dev")),
                cell("debian-6.1", "ours", "k-one", none("no attribute")),
            ],
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let data = sample();
        let read = Data::parse(Path::new("x.tsv"), &data.text()).unwrap();
        assert_eq!(read, data);
        assert_eq!(read.text(), data.text());
        assert_eq!(data.missing(), 0);
    }

    #[test]
    fn a_line_that_is_not_understood_is_named() {
        for line in [
            "cell\tk\tours\ts\tperfect\t1\t1\t1\t1\tc\t",
            "cell\tk\tours\ts\tpassed\tsoon\t1\t1\t1\tc\t",
            "value\tkey\tof no cell",
            "what",
        ] {
            let text = format!("{HEAD}\nrun\ta\tb\n{line}\n");
            let error = Data::parse(Path::new("x.tsv"), &text).unwrap_err();
            assert!(error.to_string().starts_with("x.tsv:3: "), "{error}");
        }
        assert!(Data::parse(Path::new("x.tsv"), "").is_err());
    }

    /// As `date -u -d @SECONDS` says.
    #[test]
    fn times_are_dates() {
        assert_eq!(utc(0), "1970-01-01 00:00 UTC");
        assert_eq!(utc(951_825_599), "2000-02-29 11:59 UTC");
        assert_eq!(utc(1_795_364_641), "2026-11-22 16:24 UTC");
        assert_eq!(utc(4_107_542_399), "2100-02-28 23:59 UTC");
        assert_eq!(utc(4_107_542_400), "2100-03-01 00:00 UTC");
        assert_eq!(utc(4_102_444_799), "2099-12-31 23:59 UTC");
    }
}
