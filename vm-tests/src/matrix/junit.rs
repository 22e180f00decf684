// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! JUnit's XML, as CI servers read it: one suite for each kernel and tool, one case for each cell.
//!
//! A cell that does not apply is a skipped case whose message says so: none is left out.

use std::fmt::Write as _;

use crate::matrix::data::{Cell, Data, Kind, Verdict, utc};

/// A check that is no cell: its name, and what was wrong with it.
pub struct Check {
    pub name: String,
    pub failed: Option<String>,
}

pub fn text(data: &Data, checks: &[Check]) -> String {
    let mut body = String::new();
    let mut sum = [0; 3];
    let mut suite = |name: &str, cases: &[Case]| {
        let count = |kind| cases.iter().filter(|c| c.kind == kind).count();
        let (failed, skipped) = (count(Kind::Failed), count(Kind::Skipped));
        for (sum, n) in sum.iter_mut().zip([cases.len(), failed, skipped]) {
            *sum += n;
        }
        let time: f64 = cases.iter().map(|c| c.seconds).sum();
        let _ = writeln!(
            body,
            "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{failed}\" errors=\"0\" \
             skipped=\"{skipped}\" time=\"{time:.3}\">",
            escape(name),
            cases.len(),
        );
        for case in cases {
            case.write(&mut body);
        }
        body += "  </testsuite>\n";
    };
    if !checks.is_empty() {
        let cases: Vec<_> = checks.iter().map(Case::of_check).collect();
        suite("host", &cases);
    }
    for tool in &data.tools {
        for kernel in &data.kernels {
            let cases: Vec<_> = data
                .cells
                .iter()
                .filter(|c| c.kernel == kernel.name && c.tool == tool.name)
                .map(Case::of_cell)
                .collect();
            if !cases.is_empty() {
                suite(&format!("{} with {}", kernel.name, tool.name), &cases);
            }
        }
    }
    let [tests, failures, skipped] = sum;
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <testsuites name=\"wg-vrf\" tests=\"{tests}\" failures=\"{failures}\" errors=\"0\" \
         skipped=\"{skipped}\">\n{body}</testsuites>\n"
    )
}

struct Case {
    class: String,
    name: String,
    seconds: f64,
    kind: Kind,
    /// The type of a failure, and the first line of what is said about it.
    word: String,
    message: String,
    output: String,
}

impl Case {
    fn of_check(check: &Check) -> Self {
        let kind = match check.failed {
            Some(_) => Kind::Failed,
            None => Kind::Passed,
        };
        Self {
            class: "host".into(),
            name: check.name.clone(),
            seconds: 0.0,
            kind,
            word: "failed".into(),
            message: check.failed.clone().unwrap_or_default(),
            output: String::new(),
        }
    }

    fn of_cell(cell: &Cell) -> Self {
        let class = format!("{}.{}", cell.kernel, cell.tool);
        let name = cell.scenario.clone();
        match &cell.verdict {
            Verdict::NotApplicable(reason) => Self {
                class,
                name,
                seconds: 0.0,
                kind: Kind::Skipped,
                word: String::new(),
                message: format!("not applicable: {reason}"),
                output: String::new(),
            },
            Verdict::Seen(seen) => {
                let mut output = String::new();
                for (key, value) in &seen.values {
                    let _ = writeln!(output, "{key} {value}");
                }
                for note in &seen.notes {
                    let _ = writeln!(output, "note: {note}");
                }
                let _ = writeln!(output, "seen {} at {}", utc(seen.when), seen.commit);
                Self {
                    class,
                    name,
                    seconds: seen.took as f64 / 1000.0,
                    kind: seen.kind(),
                    word: seen.word.clone(),
                    message: seen.text.clone(),
                    output,
                }
            }
        }
    }

    fn write(&self, out: &mut String) {
        let _ = write!(
            out,
            "    <testcase classname=\"{}\" name=\"{}\" time=\"{:.3}\">",
            escape(&self.class),
            escape(&self.name),
            self.seconds
        );
        let first = self.message.lines().next().unwrap_or_default();
        match self.kind {
            Kind::Failed => {
                let _ = write!(
                    out,
                    "<failure type=\"{}\" message=\"{}\">{}</failure>",
                    escape(&self.word),
                    escape(first),
                    escape(&self.message)
                );
            }
            Kind::Skipped | Kind::NotApplicable => {
                let _ = write!(out, "<skipped message=\"{}\"/>", escape(first));
            }
            Kind::Passed => {}
        }
        if !self.output.is_empty() {
            let _ = write!(out, "<system-out>{}</system-out>", escape(&self.output));
        }
        *out += "</testcase>\n";
    }
}

/// Text for an element or for a value in double quotes. What XML has no way to say (a kernel's
/// log is full of it) is written as `\x1b`.
pub fn escape(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            // `]]>` may not stand in text either.
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            // A value's white space becomes blanks unless it is spelled out.
            '\n' => out += "&#10;",
            '\t' => out += "&#9;",
            c if c < ' '
                || ('\u{7f}'..='\u{9f}').contains(&c)
                || "\u{fffe}\u{ffff}".contains(c) =>
            {
                let _ = write!(out, "\\x{:02x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::data::tests::sample;

    #[test]
    fn a_parser_that_is_not_ours_reads_it() {
        let checks = [
            Check {
                name: "host/fmt".into(),
                failed: None,
            },
            Check {
                name: "host/tests".into(),
                failed: Some("2 failed \"so\"".into()),
            },
        ];
        let xml = text(&sample(), &checks);
        let document = roxmltree::Document::parse(&xml).unwrap();
        let root = document.root_element();
        assert_eq!(root.attribute("tests"), Some("10"));
        assert_eq!(root.attribute("failures"), Some("2"));
        assert_eq!(root.attribute("skipped"), Some("4"));
        let cases: Vec<_> = document
            .descendants()
            .filter(|n| n.has_tag_name("testcase"))
            .collect();
        assert_eq!(cases.len(), 10);
        let splat = document
            .descendants()
            .find(|n| n.attribute("type") == Some("splat"))
            .unwrap();
        assert_eq!(splat.attribute("message"), Some("WARNING: <a> & ]]>"));
        assert_eq!(splat.text(), Some("WARNING: <a> & ]]>\nline 2\\x1b[0m"));
        let reasons: Vec<_> = document
            .descendants()
            .filter_map(|n| n.has_tag_name("skipped").then(|| n.attribute("message"))?)
            .collect();
        assert!(
            reasons.contains(&"not applicable: no bind-dev"),
            "{reasons:?}"
        );
    }

    #[test]
    fn every_character_survives_or_is_spelled() {
        let all: String = (0..0x300)
            .chain(0xfff0..=0xffff)
            .filter_map(char::from_u32)
            .collect();
        let xml = format!("<a b=\"{0}\">{0} ]]&gt;</a>", escape(&all));
        let document = roxmltree::Document::parse(&xml).unwrap();
        let value = document.root_element().attribute("b").unwrap();
        assert!(value.contains("\\x00") && value.contains("\\x7f") && value.contains("\\xffff"));
        assert!(value.contains("\t\n"), "white space is kept");
        assert_eq!(escape("]]>"), "]]&gt;");
    }
}
