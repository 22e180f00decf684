// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The finding of a check: one line with place, rule, source document and repair.

use std::fmt;

/// The documents that rules come from, as findings cite them.
pub mod doc {
    pub const NETDEV: &str = "Documentation/process/maintainer-netdev.rst";
    pub const SUBMITTING: &str = "Documentation/process/submitting-patches.rst";
    pub const ASSISTANTS: &str = "Documentation/process/coding-assistants.rst";
    pub const CHECKLIST: &str = "Documentation/process/submit-checklist.rst";
    pub const STYLE: &str = "Documentation/process/coding-style.rst";
    pub const YNL: &str = "Documentation/userspace-api/netlink/intro-specs.rst";
    pub const MAINTAINERS: &str = "MAINTAINERS";
    /// Decisions of this project, and the practice of wireguard and netdev with its sources.
    pub const OURS: &str = "kernel-patches/upstream.md";
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Finding {
    /// The patch, or the file of the series, that it is about.
    pub file: String,
    /// 0: the file as a whole.
    pub line: usize,
    pub rule: &'static str,
    pub what: String,
    pub source: &'static str,
    pub repair: Option<String>,
    /// Worth knowing, but nothing that has to be mended before posting.
    pub note: bool,
}

impl Finding {
    /// A finding about a file; `set_rule` adds the rule.
    pub fn new(file: impl Into<String>, what: impl Into<String>) -> Self {
        Self {
            file: file.into(),
            what: what.into(),
            ..Self::default()
        }
    }

    pub fn set_line(mut self, line: usize) -> Self {
        self.line = line;
        self
    }

    pub fn set_rule(mut self, rule: &'static str, source: &'static str) -> Self {
        (self.rule, self.source) = (rule, source);
        self
    }

    pub fn set_repair(mut self, command: impl Into<String>) -> Self {
        self.repair = Some(command.into());
        self
    }
}

#[cfg(test)]
pub fn join_findings(findings: &[Finding]) -> String {
    let lines: Vec<_> = findings.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

/// Counts the findings that have to be mended.
pub fn count_errors(findings: &[Finding]) -> usize {
    findings.iter().filter(|f| !f.note).count()
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        let note = if self.note { "note: " } else { "" };
        write!(f, ": {}: {note}{} ({})", self.rule, self.what, self.source)?;
        match &self.repair {
            Some(repair) => write!(f, " — repair: {repair}"),
            None => Ok(()),
        }
    }
}
