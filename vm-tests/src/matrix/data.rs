// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What a run of the matrix left behind, as values and as a JSON file: one cell a line, so that a
//! change of it can be read.

use std::collections::BTreeMap;
use std::path::Path;

use fs_err as fs;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::run::runner::Report;
use crate::run::verdict::{Ending, Outcome};
use kit::{Error, Result};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    pub run: Run,
    pub kernels: Vec<Heading>,
    pub tools: Vec<Heading>,
    pub scenarios: Vec<Heading>,
    pub cells: Vec<Cell>,
}

/// When, of which commit, on what.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Run {
    pub commit: String,
    pub finished: Timestamp,
    pub qemu: String,
    /// Not the whole matrix.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub part: bool,
}

/// A kernel, a tool or a scenario.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Heading {
    pub name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub title: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// A kernel has the attribute.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub attr: bool,
}

/// One scenario on one kernel with one tool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    pub kernel: String,
    pub tool: String,
    pub scenario: String,
    #[serde(flatten)]
    pub content: Content,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Content {
    Seen(Seen),
    /// Why it is not run.
    NotApplicable(String),
}

/// What was seen when it was run. Times are in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seen {
    pub outcome: Outcome,
    pub took: u64,
    pub cpu: u64,
    /// Until init; 0 if it was not reached.
    pub boot: u64,
    pub when: Timestamp,
    pub commit: String,
    /// The key of all that it depends on (`crate::run::inputs`); empty if that could not be told.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub inputs: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<(String, String)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
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
    pub fn of_report(report: &Report, commit: &str, inputs: Option<&str>) -> Self {
        let millis = |d: std::time::Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
        Self {
            took: millis(report.took),
            cpu: millis(report.cpu),
            boot: report.boot.map_or(0, millis),
            inputs: inputs.unwrap_or_default().to_owned(),
            values: report.results.clone(),
            notes: report.notes.clone(),
            ..Self::of_outcome(report.outcome.clone(), commit)
        }
    }

    /// Of a cell that could not even be started.
    pub fn of_outcome(outcome: Outcome, commit: &str) -> Self {
        Self {
            outcome,
            took: 0,
            cpu: 0,
            boot: 0,
            when: Timestamp::now(),
            commit: commit.to_owned(),
            inputs: String::new(),
            values: Vec::new(),
            notes: Vec::new(),
        }
    }

    pub fn kind(&self) -> Kind {
        match self.outcome.ending {
            Ending::Passed => Kind::Passed,
            Ending::Skipped => Kind::Skipped,
            _ => Kind::Failed,
        }
    }
}

impl Cell {
    pub fn kind(&self) -> Kind {
        self.seen().map_or(Kind::NotApplicable, Seen::kind)
    }

    pub fn seen(&self) -> Option<&Seen> {
        match &self.content {
            Content::Seen(seen) => Some(seen),
            Content::NotApplicable(_) => None,
        }
    }

    pub fn ids(&self) -> [&str; 3] {
        [&self.kernel, &self.tool, &self.scenario]
    }
}

impl Data {
    pub fn find(&self, kernel: &str, tool: &str, scenario: &str) -> Option<&Cell> {
        let ids = [kernel, tool, scenario];
        self.cells.iter().find(|c| c.ids() == ids)
    }

    /// How many cells nobody knows anything of. A matrix has none.
    pub fn count_missing(&self) -> usize {
        (self.kernels.len() * self.tools.len() * self.scenarios.len())
            .saturating_sub(self.cells.len())
    }

    /// How many cells of each kind there are, on one kernel with one tool.
    pub fn count(&self, kind: Kind, wanted: impl Fn(&Cell) -> bool) -> usize {
        let cells = self.cells.iter().filter(|c| c.kind() == kind);
        cells.filter(|c| wanted(c)).count()
    }

    pub fn to_json(&self) -> String {
        let Self {
            run,
            kernels,
            tools,
            scenarios,
            cells,
        } = self;
        format!(
            "{{\n\"run\": {},\n\"kernels\": {},\n\"tools\": {},\n\"scenarios\": {},\n\"cells\": {}\n}}\n",
            to_line(run),
            to_lines(kernels),
            to_lines(tools),
            to_lines(scenarios),
            to_lines(cells)
        )
    }

    pub fn parse(file: &Path, text: &str) -> Result<Self> {
        serde_json::from_str(text).map_err(|error| Error::Data {
            file: file.to_path_buf(),
            line: error.line(),
            text: error.to_string(),
        })
    }

    pub fn read(file: &Path) -> Result<Self> {
        Self::parse(file, &fs::read_to_string(file)?)
    }

    /// The verdicts as a table for a terminal: the scenarios that were run, by kernel, for each
    /// tool; `-` is not applicable.
    pub fn to_table(&self) -> String {
        let mut text = String::new();
        for tool in &self.tools {
            let kernels = self.kernels.iter().map(|k| &k.name);
            let mut rows: Vec<Vec<String>> = vec![vec![format!("with {}", tool.name)]];
            rows[0].extend(kernels.clone().cloned());
            for scenario in &self.scenarios {
                let cells = kernels
                    .clone()
                    .map(|k| self.find(k, &tool.name, &scenario.name));
                let kinds: Vec<_> = cells.map(|cell| cell.map(Cell::kind)).collect();
                if kinds.iter().flatten().all(|k| *k == Kind::NotApplicable) {
                    continue;
                }
                let words = kinds.iter().map(|kind| match kind {
                    Some(Kind::Passed) => "ok",
                    Some(Kind::Failed) => "FAILED",
                    Some(Kind::Skipped) => "skipped",
                    Some(Kind::NotApplicable) => "-",
                    None => "?",
                });
                let row = std::iter::once(&*scenario.name).chain(words);
                rows.push(row.map(str::to_owned).collect());
            }
            if rows.len() > 1 {
                text += &kit::screen::align(&rows);
                text += "\n";
            }
        }
        text
    }
}

fn to_line<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("our own values have JSON")
}

/// A list with one value a line.
fn to_lines<T: Serialize>(values: &[T]) -> String {
    let lines: Vec<_> = values.iter().map(to_line).collect();
    format!("[\n{}\n]", lines.join(",\n"))
}

/// How long cells took in earlier runs: what estimates are made from, and nothing else.
#[derive(Default)]
pub struct Times {
    cells: BTreeMap<[String; 3], f64>,
    /// Any kernel's.
    scenarios: BTreeMap<String, f64>,
}

impl Times {
    pub fn add(&mut self, data: &Data) {
        for cell in &data.cells {
            if let Some(seen) = cell.seen().filter(|s| s.took > 0) {
                let seconds = seen.took as f64 / 1000.0;
                self.cells.insert(cell.ids().map(str::to_owned), seconds);
                self.scenarios.insert(cell.scenario.clone(), seconds);
            }
        }
    }

    /// A guess where nothing is known: a scenario's limit is several times what it takes.
    pub fn estimate(&self, ids: [&str; 3], timeout: std::time::Duration) -> f64 {
        let known = self.cells.get(&ids.map(str::to_owned));
        let known = known.or_else(|| self.scenarios.get(ids[2])).copied();
        known.unwrap_or(10.0 + timeout.as_secs_f64() / 4.0)
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// Two kernels, two tools, two scenarios, one cell of each kind.
    pub fn sample() -> Data {
        let heading = |name: &str, title: &str, version: &str, attr| Heading {
            name: name.into(),
            title: title.into(),
            version: version.into(),
            attr,
        };
        let when: Timestamp = "2026-11-22T16:24:01Z".parse().unwrap();
        let cell = |ids: [&str; 3], content| {
            let [kernel, tool, scenario] = ids.map(str::to_owned);
            Cell {
                kernel,
                tool,
                scenario,
                content,
            }
        };
        let seen = |ids, ending, why: &str| {
            let seen = Seen {
                took: 12_345,
                cpu: 9_870,
                boot: 4_000,
                when,
                inputs: "key of all".into(),
                values: vec![("kernel".into(), "6.1.0".into())],
                notes: vec!["nobody\twatched".into()],
                ..Seen::of_outcome(Outcome::new(ending, why), "0123456789ab")
            };
            cell(ids, Content::Seen(seen))
        };
        let none = |ids, reason: &str| cell(ids, Content::NotApplicable(reason.into()));
        Data {
            run: Run {
                commit: "0123456789ab".into(),
                finished: "2026-11-22T16:25:00Z".parse().unwrap(),
                ..Run::default()
            },
            kernels: vec![
                heading("debian-6.1", "", "6.1.170-1", false),
                heading("patched-6.1", "", "6.1.170-1", true),
            ],
            tools: ["ours", "c-sid"]
                .map(|n| heading(n, &format!("the tool <{n}>"), "1.0", false))
                .into(),
            scenarios: ["k-one", "smoke"]
                .map(|n| heading(n, &format!("title | of {n}"), "", false))
                .into(),
            cells: vec![
                seen(["debian-6.1", "ours", "smoke"], Ending::Passed, ""),
                seen(
                    ["debian-6.1", "c-sid", "smoke"],
                    Ending::Skipped,
                    "no moon\\n tonight",
                ),
                seen(
                    ["patched-6.1", "ours", "smoke"],
                    Ending::Splat,
                    "WARNING: <a> & ]]>\nline 2\u{1b}[0m",
                ),
                seen(["patched-6.1", "ours", "k-one"], Ending::Passed, ""),
                seen(["patched-6.1", "c-sid", "smoke"], Ending::Passed, ""),
                none(["debian-6.1", "c-sid", "k-one"], "no attribute"),
                none(["patched-6.1", "c-sid", "k-one"], "no bind-dev"),
                none(["debian-6.1", "ours", "k-one"], "no attribute"),
            ],
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let data = sample();
        let read = Data::parse(Path::new("x.json"), &data.to_json()).unwrap();
        assert_eq!(read, data);
        assert_eq!(data.count_missing(), 0);
        assert!(
            data.to_json()
                .contains("{\"outcome\":{\"ending\":\"splat\",\"why\":\"WARNING")
        );
    }

    #[test]
    fn a_line_that_is_not_understood_is_named() {
        let text = sample().to_json().replace("\"splat\"", "\"perfect\"");
        let line = 1 + text.lines().position(|l| l.contains("perfect")).unwrap();
        let error = Data::parse(Path::new("x.json"), &text)
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with(&format!("x.json:{line}: unknown variant `perfect`")),
            "{error}"
        );
    }

    #[test]
    fn the_table_has_a_row_for_each_scenario_that_ran() {
        let expected = "with ours  debian-6.1  patched-6.1\n\
                        k-one      -           ok\n\
                        smoke      ok          FAILED\n\
                        \n\
                        with c-sid  debian-6.1  patched-6.1\n\
                        smoke       skipped     ok\n\
                        \n";
        assert_eq!(sample().to_table(), expected);
    }

    #[test]
    fn the_cell_then_the_scenario_then_the_limit() {
        let mut times = Times::default();
        times.add(&sample());
        let limit = std::time::Duration::from_secs(80);
        assert_eq!(
            times.estimate(["debian-6.1", "ours", "smoke"], limit),
            12.345
        );
        assert_eq!(
            times.estimate(["vanilla-7.3", "ours", "smoke"], limit),
            12.345
        );
        assert_eq!(times.estimate(["debian-6.1", "ours", "new"], limit), 30.0);
    }
}
