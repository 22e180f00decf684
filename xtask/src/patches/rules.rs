// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The rules that need nothing but the text of a series: text in, findings out.
//!
//! Each rule is one function and one line of the table, with the document that asks for it.
//! Rules that need the kernel's source, a compiler or a tool are in `tools` and `builds`.

mod code;
mod message;
mod whole;

pub use whole::source_line;

use super::finding::{Finding, doc};
use super::mail::Mail;

/// Why the rules are applied: a series that is kept, or one that is about to be posted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// In this repository: nobody has signed it off, `base` names a source package.
    Kept,
    /// Made for posting by this person: `Name <address>`.
    Posted { sender: String },
}

/// Everything that text rules may look at.
#[derive(Clone, Debug)]
pub struct Set {
    /// How findings name the folder: `7.3`.
    pub name: String,
    /// The tree that it is of: what commands are given.
    pub tree: String,
    pub purpose: Purpose,
    /// The tree whose series goes upstream, not a backport.
    pub reference: bool,
    /// The text of `series`; none for an exported one.
    pub series: Option<String>,
    /// The text of `base`.
    pub base: Option<String>,
    /// Every *.patch of the folder, whether `series` names it or not.
    pub files: Vec<String>,
    pub cover: Option<Mail>,
    /// In the order of `series`.
    pub patches: Vec<Mail>,
    /// People and lists beyond get_maintainer.pl: address, reason.
    pub recipients: Vec<(String, String)>,
}

impl Set {
    pub fn at(&self, mail: &Mail, line: usize, what: impl Into<String>) -> Finding {
        Finding::new(self.path(&mail.file), line, what)
    }

    pub fn path(&self, file: &str) -> String {
        format!("{}/{file}", self.name)
    }

    /// The command that rewrites numbering, cover letter and series file.
    pub fn refresh(&self) -> String {
        format!("cargo xtask patches refresh {} --write", self.tree)
    }

    /// The command that opens the series for editing.
    pub fn reword(&self) -> String {
        format!(
            "cargo xtask patches refresh {0}, reword there, refresh {0} --write",
            self.tree
        )
    }

    /// Cover letter and patches.
    pub fn mails(&self) -> impl Iterator<Item = &Mail> {
        self.cover.iter().chain(&self.patches)
    }

    /// The highest version that a subject names.
    pub fn version(&self) -> u32 {
        self.mails()
            .filter_map(|m| m.tag.as_ref())
            .map(|t| t.version)
            .max()
            .unwrap_or(1)
    }
}

pub struct Rule {
    pub name: &'static str,
    pub source: &'static str,
    pub check: fn(&Set) -> Vec<Finding>,
}

/// One line for each rule.
#[rustfmt::skip]
pub const RULES: &[Rule] = &[
    Rule { name: "series-files", source: doc::OURS, check: whole::series_files },
    Rule { name: "series-size", source: doc::NETDEV, check: whole::series_size },
    Rule { name: "numbering", source: doc::SUBMITTING, check: whole::numbering },
    Rule { name: "same-tag", source: doc::NETDEV, check: whole::same_tag },
    Rule { name: "cover-letter", source: doc::NETDEV, check: whole::cover_letter },
    Rule { name: "cover-list", source: doc::SUBMITTING, check: whole::cover_list },
    Rule { name: "changelog", source: doc::NETDEV, check: whole::changelog },
    Rule { name: "base", source: doc::SUBMITTING, check: whole::base },
    Rule { name: "recipients", source: doc::SUBMITTING, check: whole::recipients },
    Rule { name: "selftest-with-series", source: doc::NETDEV, check: whole::selftest_with_series },
    Rule { name: "selftest-apart", source: doc::NETDEV, check: whole::selftest_apart },
    Rule { name: "specification", source: doc::YNL, check: whole::specification },
    Rule { name: "subject-form", source: doc::PRACTICE, check: message::subject_form },
    Rule { name: "subject-length", source: doc::SUBMITTING, check: message::subject_length },
    Rule { name: "subject-unique", source: doc::SUBMITTING, check: message::subject_unique },
    Rule { name: "subject-imperative", source: doc::SUBMITTING, check: message::subject_imperative },
    Rule { name: "body", source: doc::SUBMITTING, check: message::body_present },
    Rule { name: "body-wrap", source: doc::SUBMITTING, check: message::body_wrap },
    Rule { name: "encoding", source: doc::SUBMITTING, check: message::encoding },
    Rule { name: "fixes-form", source: doc::SUBMITTING, check: message::fixes_form },
    Rule { name: "fixes-on-feature", source: doc::NETDEV, check: message::fixes_on_feature },
    Rule { name: "stable-on-feature", source: doc::NETDEV, check: message::stable_on_feature },
    Rule { name: "sign-off", source: doc::SUBMITTING, check: message::sign_off },
    Rule { name: "assisted-by", source: doc::ASSISTANTS, check: message::assisted_by },
    Rule { name: "borrowed-tag", source: doc::SUBMITTING, check: message::borrowed_tag },
    Rule { name: "reverse-xmas-tree", source: doc::NETDEV, check: code::reverse_xmas_tree },
    Rule { name: "inline", source: doc::STYLE, check: code::inline },
    Rule { name: "cleanup-helpers", source: doc::NETDEV, check: code::cleanup_helpers },
    Rule { name: "white-space", source: doc::STYLE, check: code::white_space },
];

/// Every rule over the series, in the order of the table.
pub fn check(set: &Set) -> Vec<Finding> {
    RULES
        .iter()
        .flat_map(|rule| {
            (rule.check)(set)
                .into_iter()
                .map(|f| f.by(rule.name, rule.source))
        })
        .collect()
}

/// A rule by its name, for tests.
#[cfg(test)]
pub fn only(name: &str, set: &Set) -> Vec<Finding> {
    let rule = RULES
        .iter()
        .find(|r| r.name == name)
        .unwrap_or_else(|| panic!("no rule `{name}'"));
    (rule.check)(set)
        .into_iter()
        .map(|f| f.by(rule.name, rule.source))
        .collect()
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::patches::mail::tests::GOOD;

    pub fn mail(text: &str) -> Mail {
        Mail::parse("0001-teapot.patch", text)
    }

    /// A series of one good patch, changed by `with`.
    pub fn set(with: impl FnOnce(&mut Set)) -> Set {
        let mut set = Set {
            name: "9.9".to_owned(),
            tree: "9.9".to_owned(),
            purpose: Purpose::Kept,
            reference: false,
            series: Some("0001-teapot.patch\n".to_owned()),
            base: Some("source: linux-source-9.9 9.9.1-1\n".to_owned()),
            files: vec!["0001-teapot.patch".to_owned()],
            cover: None,
            patches: vec![mail(GOOD)],
            recipients: vec![("A <a@kernel.org>".to_owned(), "knows pots".to_owned())],
        };
        with(&mut set);
        set
    }

    /// The good patch with `from` replaced: the shape of most bad fixtures.
    pub fn bad(from: &str, to: &str) -> Set {
        assert!(GOOD.contains(from), "the fixture does not say `{from}'");
        set(|s| s.patches = vec![mail(&GOOD.replace(from, to))])
    }

    /// Asserts that `rule` finds fault with `set`, and nothing with the good series.
    #[track_caller]
    pub fn fails(rule: &str, set: &Set, says: &str) {
        let found = only(rule, set);
        assert!(!found.is_empty(), "{rule} found nothing");
        let all: Vec<_> = found.iter().map(ToString::to_string).collect();
        assert!(
            all.iter().any(|f| f.contains(says)),
            "no finding says `{says}': {all:#?}"
        );
    }

    #[test]
    fn the_good_series_has_no_findings() {
        let found: Vec<_> = check(&set(|_| {}))
            .iter()
            .map(ToString::to_string)
            .collect();
        assert!(found.is_empty(), "{found:#?}");
    }

    #[test]
    fn rules_have_names_of_their_own_and_a_bad_fixture() {
        let mut names: Vec<_> = RULES.iter().map(|r| r.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), RULES.len());
        // A rule nobody has seen fail is a rule that may not work.
        let tests = [
            include_str!("rules/whole.rs"),
            include_str!("rules/message.rs"),
            include_str!("rules/code.rs"),
        ]
        .concat()
        .replace([' ', '\n'], "");
        for name in names {
            assert!(
                tests.contains(&format!("fails(\"{name}\"")),
                "no test shows rule `{name}' to fail"
            );
        }
    }
}
