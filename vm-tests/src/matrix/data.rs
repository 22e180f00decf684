// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The outcome of a run of the matrix, as values and as a JSON file: one cell a line, so that a
//! change of it can be read.

use std::path::Path;

use fs_err as fs;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::run::runner::Report;
use crate::run::verdict::{Kind, Outcome};
use kit::{Error, Result};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    pub run: Run,
    pub kernels: Vec<Heading>,
    pub tools: Vec<Heading>,
    pub scenarios: Vec<Heading>,
    /// The cells that were run.
    pub cells: Vec<Cell>,
    pub not_applicable: Vec<Obstacle>,
}

/// The time, the commit and the QEMU of a run.
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
    /// All that applies to a kernel has passed in each run since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
}

/// One scenario on one kernel with one tool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cell {
    pub kernel: String,
    pub tool: String,
    pub scenario: String,
    pub seen: Seen,
}

/// The reason not to run scenarios on one kernel with one tool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Obstacle {
    pub kernel: String,
    pub tool: String,
    pub reason: String,
    pub scenarios: Vec<String>,
}

/// The knowledge about a kernel, a tool and a scenario.
#[derive(Clone, Copy)]
pub enum Known<'a> {
    Seen(&'a Seen),
    NotApplicable(&'a str),
}

/// The observations of a cell that was run. Times are in milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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

/// Begins the note of a cell that did not pass at once.
pub const FIRST_TRY: &str = "the first try came to:";

impl Seen {
    pub fn from_report(report: &Report, commit: &str, inputs: Option<&str>) -> Self {
        let millis = |d: std::time::Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
        Self {
            took: millis(report.took),
            cpu: millis(report.cpu),
            boot: report.boot.map_or(0, millis),
            inputs: inputs.unwrap_or_default().to_owned(),
            values: report.results.clone(),
            notes: report.notes.clone(),
            ..Self::from_outcome(report.outcome.clone(), commit)
        }
    }

    /// Of a cell that could not even be started.
    pub fn from_outcome(outcome: Outcome, commit: &str) -> Self {
        Self {
            outcome,
            when: Timestamp::now(),
            commit: commit.to_owned(),
            ..Self::default()
        }
    }
}

impl Cell {
    pub fn get_ids(&self) -> [&str; 3] {
        [&self.kernel, &self.tool, &self.scenario]
    }
}

impl Obstacle {
    pub fn is_of(&self, kernel: &str, tool: &str) -> bool {
        self.kernel == kernel && self.tool == tool
    }
}

impl Data {
    pub fn find_known(&self, kernel: &str, tool: &str, scenario: &str) -> Option<Known<'_>> {
        let ids = [kernel, tool, scenario];
        if let Some(cell) = self.cells.iter().find(|c| c.get_ids() == ids) {
            return Some(Known::Seen(&cell.seen));
        }
        let here = |o: &&Obstacle| {
            o.is_of(kernel, tool) && o.scenarios.iter().any(|name| name == scenario)
        };
        let obstacle = self.not_applicable.iter().find(here)?;
        Some(Known::NotApplicable(&obstacle.reason))
    }

    /// Counts the cells without a result, on one kernel or on all. A whole matrix has none.
    pub fn count_missing(&self, kernel: Option<&Heading>) -> usize {
        let here = |name: &String| kernel.is_none_or(|kernel| kernel.name == *name);
        let kernels = self.kernels.iter().filter(|k| here(&k.name)).count();
        let cells = self.cells.iter().filter(|c| here(&c.kernel)).count();
        let none = self.not_applicable.iter().filter(|o| here(&o.kernel));
        let none: usize = none.map(|o| o.scenarios.len()).sum();
        (kernels * self.tools.len() * self.scenarios.len()).saturating_sub(cells + none)
    }

    /// Fills in since when each kernel works: as `earlier` has it, or since this run.
    pub fn find_since(&mut self, earlier: &Data) {
        let works = |kernel: &Heading| {
            let count = |kind| self.count_kind(kind, |c| c.kernel == kernel.name);
            let missing = self.count_missing(Some(kernel));
            count(Kind::Passed) > 0 && count(Kind::Failed) + missing == 0
        };
        let works: Vec<_> = self.kernels.iter().map(works).collect();
        for (kernel, works) in self.kernels.iter_mut().zip(works) {
            let before = earlier.kernels.iter().find(|k| k.name == kernel.name);
            let since = before.and_then(|k| k.since).unwrap_or(self.run.finished);
            kernel.since = works.then_some(since);
        }
    }

    /// Counts the cells of a kind among those that were run.
    pub fn count_kind(&self, kind: Kind, wanted: impl Fn(&Cell) -> bool) -> usize {
        let is_of_kind = |c: &&Cell| c.seen.outcome.get_kind() == kind && wanted(c);
        self.cells.iter().filter(is_of_kind).count()
    }

    pub fn to_json(&self) -> String {
        let parts = [
            ("run", to_line(&self.run)),
            ("kernels", to_lines(&self.kernels)),
            ("tools", to_lines(&self.tools)),
            ("scenarios", to_lines(&self.scenarios)),
            ("cells", to_lines(&self.cells)),
            ("not_applicable", to_lines(&self.not_applicable)),
        ];
        let parts = parts.map(|(name, text)| format!("\"{name}\": {text}"));
        format!("{{\n{}\n}}\n", parts.join(",\n"))
    }

    pub fn parse(file: &Path, text: &str) -> Result<Self> {
        let read = serde_json::from_str(text);
        read.map_err(|error| Error::in_data(file, error.line(), error.to_string()))
    }

    pub fn read(file: &Path) -> Result<Self> {
        Self::parse(file, &fs::read_to_string(file)?)
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

#[cfg(test)]
pub mod tests {
    use super::*;

    const SAMPLE: &str = include_str!("../../testdata/matrix.json");

    /// Two kernels, two tools, two scenarios, one cell of each kind.
    pub fn read_sample() -> Data {
        Data::parse(Path::new("matrix.json"), SAMPLE).unwrap()
    }

    #[test]
    fn what_is_written_is_read_again_or_its_line_named() {
        let data = read_sample();
        let text = data.to_json();
        assert_eq!(text, SAMPLE);
        assert_eq!(data.count_missing(None), 0);
        assert!(text.contains("{\"outcome\":{\"ending\":\"splat\",\"why\":\"WARNING"));
        let text = text.replace("\"splat\"", "\"perfect\"");
        let line = 1 + text.lines().position(|l| l.contains("perfect")).unwrap();
        let error = Data::parse(Path::new("x.json"), &text).unwrap_err();
        let expected = format!("x.json:{line}: unknown variant `perfect`");
        assert!(error.to_string().starts_with(&expected), "{error}");
    }

    #[test]
    fn a_kernel_works_since_the_first_of_the_runs_without_a_failure() {
        let (sample, none) = (read_sample(), Data::default());
        let mut data = sample.clone();
        data.run.finished = Timestamp::MAX;
        for (earlier, since) in [(&sample, sample.run.finished), (&none, Timestamp::MAX)] {
            data.find_since(earlier);
            let found: Vec<_> = data.kernels.iter().map(|k| k.since).collect();
            assert_eq!(found, [Some(since), None]);
        }
    }
}
