// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The rules that no tool checks: text in, findings out.
//!
//! `git format-patch` owns numbers, tags and file names, checkpatch.pl what it knows about
//! messages and code, `ynl-regen.sh` the generated files; see `check`. What is left is here.

use super::finding::{Finding, doc};
use super::folder::{Mail, Set};

struct Rule {
    name: &'static str,
    source: &'static str,
    check: fn(&Set) -> Vec<Finding>,
}

#[rustfmt::skip]
const RULES: &[Rule] = &[
    Rule { name: "series-files", source: doc::OURS, check: check_files },
    Rule { name: "series-size", source: doc::NETDEV, check: check_size },
    Rule { name: "recipients", source: doc::SUBMITTING, check: check_recipients },
    Rule { name: "selftest-with-series", source: doc::NETDEV, check: check_selftest },
    Rule { name: "selftest-apart", source: doc::NETDEV, check: check_selftest_apart },
    Rule { name: "fixes", source: doc::SUBMITTING, check: check_fixes },
    Rule { name: "fix-on-feature", source: doc::NETDEV, check: check_feature_tags },
    Rule { name: "subject", source: doc::OURS, check: check_subjects },
    Rule { name: "subject-imperative", source: doc::SUBMITTING, check: check_imperative },
    Rule { name: "assisted-by", source: doc::ASSISTANTS, check: check_assisted_by },
    Rule { name: "borrowed-tag", source: doc::SUBMITTING, check: check_borrowed_tags },
    Rule { name: "reverse-xmas-tree", source: doc::NETDEV, check: check_xmas_tree },
    Rule { name: "inline", source: doc::STYLE, check: check_inline },
    Rule { name: "cleanup-helpers", source: doc::NETDEV, check: check_cleanup_helpers },
];

/// Every rule over the series, in the order of the table.
pub fn check(set: &Set) -> Vec<Finding> {
    let check = |rule: &Rule| -> Vec<Finding> {
        let found = (rule.check)(set).into_iter();
        found.map(|f| f.by(rule.name, rule.source)).collect()
    };
    RULES.iter().flat_map(check).collect()
}

/// `series` names what `git format-patch` wrote, in its order, and nothing else.
fn check_files(set: &Set) -> Vec<Finding> {
    let differs = set.listed != set.present;
    let what = format!(
        "names {}; the folder has {}",
        set.listed.join(" "),
        set.present.join(" ")
    );
    let finding = Finding::new(set.path("series"), what).repair(set.refresh());
    differs.then_some(finding).into_iter().collect()
}

fn check_size(set: &Set) -> Vec<Finding> {
    let feature = set.mails.len() - set.count_fixes();
    let what = match feature.max(set.count_fixes()) {
        0..=8 => return Vec::new(),
        n @ 9..=15 => format!("{n} patches; this project keeps to 8"),
        n => format!("{n} patches; netdev takes at most 15"),
    };
    vec![Finding::new(&set.tree.name, what).repair("fold, or post in parts")]
}

/// What trees.toml says of those whom get_maintainer.pl does not know.
fn check_recipients(set: &Set) -> Vec<Finding> {
    let check = |(who, reason): &(String, String)| {
        let host = who.trim_end_matches('>').split_once('@').map(|(_, h)| h);
        let what = if !host.is_some_and(|h| h.contains('.') && !h.contains(' ')) {
            format!("`{who}' is no address")
        } else if reason.trim().is_empty() {
            format!("no reason why `{who}' gets the series")
        } else {
            return None;
        };
        Some(Finding::new("trees.toml", what).repair("edit kernel-patches/trees.toml"))
    };
    set.recipients.iter().filter_map(check).collect()
}

const SELFTESTS: &str = "tools/testing/selftests";

/// "Co-posting selftests": the tests of a new interface come with it.
fn check_selftest(set: &Set) -> Vec<Finding> {
    let tested = set.mails.iter().any(|m| m.touches(SELFTESTS));
    let adds = |m: &&Mail| set.tree.reference && !tested && m.touches("include/uapi");
    let what = format!("changes include/uapi, and no patch of the series touches {SELFTESTS}");
    let found = set
        .mails
        .iter()
        .find(adds)
        .map(|m| Finding::new(set.path(&m.file), what).repair("add a selftest to the series"));
    found.into_iter().collect()
}

/// … in a commit of their own.
fn check_selftest_apart(set: &Set) -> Vec<Finding> {
    find_in_mails(set, |m| {
        let tests = m.touched.iter().filter(|f| f.path.starts_with(SELFTESTS));
        let mixed = m.touches(SELFTESTS) && tests.count() < m.touched.len();
        mixed.then(|| format!("touches {SELFTESTS} and other files"))
    })
}

/// Fixes come first, because they are posted first; checkpatch.pl knows the form only of what
/// looks like a hash.
fn check_fixes(set: &Set) -> Vec<Finding> {
    let fixes = set.count_fixes();
    let files: Vec<_> = set.mails.iter().map(|m| &m.file).collect();
    find_in_mails(set, |m| {
        let (_, value) = m.trailers().find(|(key, _)| *key == "Fixes")?;
        let (hash, subject) = value.split_once(' ').unwrap_or((value, ""));
        let hex = hash.len() >= 12 && hash.chars().all(|c| c.is_ascii_hexdigit());
        if !hex || !subject.starts_with("(\"") || !subject.ends_with("\")") {
            return Some(format!(
                "`Fixes: {value}' is not `<12 digits> (\"subject\")'"
            ));
        }
        let late = files.iter().position(|f| **f == m.file) >= Some(fixes);
        late.then(|| "a fix behind a patch that is none: fixes are posted first".to_owned())
    })
}

/// A patch that adds user space API, or says that it adds, is no fix.
fn check_feature_tags(set: &Set) -> Vec<Finding> {
    let verbs = ["add", "support", "allow", "introduce", "implement"];
    find_in_mails(set, |m| {
        let feature = m.touches("include/uapi")
            || m.touches("Documentation/netlink/specs")
            || verbs.contains(&first_word(m));
        let (key, value) = m
            .trailers()
            .find(|(key, value)| *key == "Fixes" || value.contains("stable@"))?;
        feature.then(|| format!("a feature carries `{key}: {value}'"))
    })
}

/// What may stand between `wireguard:` and the summary: the driver's files and what upstream used.
const AREAS: &[&str] = &[
    "allowedips",
    "cookie",
    "device",
    "global",
    "main",
    "netlink",
    "noise",
    "peer",
    "peerlookup",
    "queueing",
    "ratelimiter",
    "receive",
    "selftests",
    "send",
    "socket",
    "timers",
    "uapi",
];

/// `wireguard: area: lower-case …`, once, and short enough.
fn check_subjects(set: &Set) -> Vec<Finding> {
    find_in_mails(set, |m| {
        let subject = &m.subject;
        let parts: Vec<_> = subject.splitn(3, ": ").collect();
        let ["wireguard", area, rest] = parts.as_slice() else {
            return Some(format!("`{subject}' is not `wireguard: <area>: <summary>'"));
        };
        let same = set.mails.iter().filter(|o| o.subject == *subject).count();
        let length = subject.chars().count();
        Some(if !AREAS.contains(area) {
            format!("area `{area}' is none of {}", AREAS.join(", "))
        } else if !rest.starts_with(char::is_lowercase) {
            format!("`{rest}' does not begin in lower case")
        } else if rest.ends_with('.') {
            format!("`{rest}' ends in a full stop")
        } else if length > 75 {
            format!("subject has {length} characters, at most 75")
        } else if same > 1 {
            format!("`{subject}' is the subject of {same} patches")
        } else {
            return None;
        })
    })
}

fn first_word(mail: &Mail) -> &str {
    let rest = mail.subject.splitn(3, ": ").nth(2).unwrap_or_default();
    rest.split(' ').next().unwrap_or_default()
}

/// "Describe your changes in imperative mood": guessed from the first word.
fn check_imperative(set: &Set) -> Vec<Finding> {
    const SURE: &[&str] = &[
        "bring", "bus", "embed", "exceed", "feed", "focus", "need", "ping", "proceed", "seed",
        "shed", "speed", "string", "succeed", "swing",
    ];
    find_in_mails(set, |m| {
        let word = first_word(m);
        let noun = ["new", "the", "a", "an", "some", "this"].contains(&word);
        let plural = word.ends_with('s') && !word.ends_with("ss");
        let other = noun || plural || word.ends_with("ed") || word.ends_with("ing");
        (other && !SURE.contains(&word)).then(|| format!("`{word}' is not the imperative"))
    })
}

fn check_assisted_by(set: &Set) -> Vec<Finding> {
    find_in_mails(set, |m| {
        let named = m
            .trailers()
            .any(|(k, v)| k == "Assisted-by" && !v.is_empty());
        (!named)
            .then(|| "no Assisted-by; git commit --amend --trailer 'Assisted-by: LLM'".to_owned())
    })
}

/// Tags that only the person they name can give: at export, or on the list.
fn check_borrowed_tags(set: &Set) -> Vec<Finding> {
    let tags = [
        "Signed-off-by",
        "Reviewed-by",
        "Acked-by",
        "Tested-by",
        "Co-developed-by",
    ];
    find_in_mails(set, |m| {
        let (key, value) = m.trailers().find(|(key, _)| tags.contains(key))?;
        Some(format!(
            "`{key}: {value}' cannot be given by this repository"
        ))
    })
}

/// One finding at the subject of each patch of which `check` says something.
fn find_in_mails(set: &Set, check: impl Fn(&Mail) -> Option<String>) -> Vec<Finding> {
    let find = |m: &Mail| {
        let finding = Finding::new(set.path(&m.file), check(m)?);
        Some(finding.at(m.line_of("Subject:")).repair(set.reword()))
    };
    set.mails.iter().filter_map(find).collect()
}

/// The compiler decides, in a .c file.
fn check_inline(set: &Set) -> Vec<Finding> {
    find_added(set, |path, code| {
        let inline = split_words(code).any(|w| matches!(w, "inline" | "__inline"));
        (path.ends_with(".c") && inline).then(|| "`inline' in a .c file".to_owned())
    })
}

/// Networking wants unwinding to be seen.
fn check_cleanup_helpers(set: &Set) -> Vec<Finding> {
    let helpers = ["__free", "DEFINE_FREE", "no_free_ptr", "scoped_guard"];
    find_added(set, |_, code| {
        let helper = split_words(code).find(|w| helpers.contains(w))?;
        Some(format!("`{helper}' is not used in networking"))
    })
}

/// One finding at each added line of C of which `check` says something; comments are left out.
fn find_added(set: &Set, check: impl Fn(&str, &str) -> Option<String>) -> Vec<Finding> {
    let mut found = Vec::new();
    for mail in &set.mails {
        for (path, no, line) in mail.diff_lines() {
            let Some(text) = line.strip_prefix('+').filter(|_| is_c(path)) else {
                continue;
            };
            let code = text.split("/*").next().unwrap_or_default().trim();
            if let Some(what) = check(path, code).filter(|_| !code.starts_with("* ")) {
                let finding = Finding::new(set.path(&mail.file), format!("{path}: {what}"));
                found.push(finding.at(no).repair(set.reword()));
            }
        }
    }
    found
}

fn is_c(path: &str) -> bool {
    path.ends_with(".c") || path.ends_with(".h")
}

fn split_words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
}

/// netdev wants declarations at the start of a function from the longest line to the shortest.
fn check_xmas_tree(set: &Set) -> Vec<Finding> {
    let mut found = Vec::new();
    for mail in &set.mails {
        // The declarations above in this block; members of a type have an order of their own.
        let mut block: Vec<(&str, bool)> = Vec::new();
        let (mut in_type, mut open) = (false, false);
        for (path, no, line) in mail.diff_lines() {
            let (sign, text) = line.split_at(line.len().min(1));
            let text = text.trim_end();
            if sign == "-" || !is_c(path) {
                continue;
            }
            if sign == "@" {
                in_type = is_type(text.rsplit("@@ ").next().unwrap_or_default());
                (block, open) = (Vec::new(), false);
            } else if text.ends_with('{') {
                in_type = is_type(text);
            } else if text.starts_with('}') {
                in_type = false;
            }
            // The rest of a declaration over several lines does not count.
            if open {
                open = !text.ends_with(';');
                continue;
            }
            if in_type || declared_name(text).is_none() {
                block.clear();
                continue;
            }
            open = !text.ends_with(';');
            let (above, new_above) = block.last().copied().unwrap_or((text, false));
            let longer = count_columns(text) > count_columns(above);
            // An initializer that uses a variable above it cannot move over it.
            let value = text.split_once('=').map_or("", |(_, value)| value);
            let mut names = block.iter().filter_map(|(text, _)| declared_name(text));
            let tied = names.any(|name| split_words(value).any(|w| w == name));
            if longer && (sign == "+" || new_above) && !tied {
                let (text, above) = (text.trim(), above.trim());
                let what = format!("{path}: `{text}' stands below the shorter `{above}'");
                let finding = Finding::new(set.path(&mail.file), what);
                found.push(finding.at(no).repair(set.reword()));
            }
            block.push((text, sign == "+"));
        }
    }
    found
}

fn is_type(text: &str) -> bool {
    let first = text.split_whitespace().next().unwrap_or_default();
    ["struct", "enum", "union"].contains(&first) && !text.contains('(')
}

/// `\tstruct foo *bar = baz,` and the like: the variable, or its last where there are several.
fn declared_name(text: &str) -> Option<&str> {
    let statements = ["return", "goto", "case", "else", "do", "typedef", "break"];
    let whole = text.ends_with([';', '=', ',', '(', '|', '+', '?', ':', '&']);
    let head = text
        .strip_prefix('\t')?
        .trim_start()
        .split(['=', ';', '[', ','])
        .next()?;
    let (types, name) = head.trim_end().rsplit_once([' ', '*'])?;
    let first = types.split([' ', '*']).next().unwrap_or_default();
    let plain = |text: &str, more: &str| {
        text.chars()
            .all(|c| c.is_ascii_alphanumeric() || more.contains(c))
    };
    let declares = first.starts_with(|c: char| c.is_alphabetic() || c == '_')
        && plain(types, "_ *")
        && plain(name, "_")
        && !statements.contains(&first);
    (whole && declares && !name.is_empty()).then_some(name)
}

/// A tab is eight columns.
fn count_columns(text: &str) -> usize {
    text.chars().map(|c| if c == '\t' { 8 } else { 1 }).sum()
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use vm_tests::kernel::trees::{Build, Tree};

    /// A patch that no rule finds fault with; an invented one.
    pub const GOOD: &str = "\
From 0000000000000000000000000000000000000000 Mon Sep 17 00:00:00 2001
From: wg-vrf <noreply@example.org>
Date: Sun, 22 Nov 2026 12:53:04 +0000
Subject: [PATCH wireguard 1/1] wireguard: socket: count the teapots of a
 device

A teapot that nobody counts is lost.

Assisted-by: LLM
---
 drivers/net/wireguard/teapot.c | 5 +++--
 1 file changed, 3 insertions(+), 2 deletions(-)

diff --git a/drivers/net/wireguard/teapot.c b/drivers/net/wireguard/teapot.c
index 1111111..2222222 100644
--- a/drivers/net/wireguard/teapot.c
+++ b/drivers/net/wireguard/teapot.c
@@ -1,5 +1,6 @@ static int teapot(void)
 static int teapot(struct pot *first)
 {
-\tint n;
+\tstruct pot *pot = first;
+\tint n = 0;
 
 \treturn n;
";
    const TWO: &str = "+\tstruct pot *pot = first;\n+\tint n = 0;\n";
    const PATH: &str = "drivers/net/wireguard/teapot.c";
    const FIX: &str = "Fixes: 0123456789ab (\"x: y\")\nAssisted-by";

    pub fn test_tree() -> Tree {
        Tree {
            name: "9.9".to_owned(),
            suites: Vec::new(),
            source: "linux-source-9.9".to_owned(),
            version: "newest".to_owned(),
            build: Build::Module,
            headers: None,
            reference: true,
        }
    }

    /// A series of these patches.
    fn series(texts: &[String]) -> Set {
        let mails: Vec<_> = texts.iter().map(|t| Mail::read("1", t).unwrap()).collect();
        let files: Vec<_> = mails.iter().map(|m| m.file.clone()).collect();
        Set {
            tree: test_tree(),
            dir: "9.9".into(),
            listed: files.clone(),
            present: files,
            mails,
            recipients: vec![("A <a@kernel.org>".to_owned(), "knows pots".to_owned())],
        }
    }

    fn change(from: &str, to: &str) -> String {
        assert!(GOOD.contains(from), "the good patch does not say `{from}'");
        GOOD.replace(from, to)
    }

    fn find(rule: &str, set: &Set) -> Vec<String> {
        let found = check(set).into_iter().filter(|f| f.rule == rule);
        found.map(|f| f.to_string()).collect()
    }

    #[test]
    fn the_good_series_has_no_findings() {
        assert_eq!(check(&series(&[GOOD.to_owned()])), []);
        let fix = change("Assisted-by", FIX);
        assert_eq!(check(&series(&[fix, change("pots", "pans")])), []);
    }

    /// A rule that nobody has seen fail may not work.
    #[test]
    fn each_rule_finds_its_bad_fixture() {
        let fix = change("Assisted-by", FIX);
        let add = fix.replace("count the", "add the");
        let uapi = change(PATH, "include/uapi/linux/teapot.h");
        let mixed = uapi.clone() + &GOOD[GOOD.find("diff --git").unwrap()..];
        let mixed = mixed.replacen("include/uapi/linux", SELFTESTS, 9);
        let stable = change("count the", "allow the")
            .replace("Assisted-by", "Cc: stable@kernel.org\nAssisted-by");
        let long = format!("count {}", "long ".repeat(12));
        let turned = "+\tint n = 0;\n+\tstruct pot *pot = first;\n";
        let below_old = " \tint n;\n+\tstruct pot *pot = first;\n";
        let tag = |tag: &str| {
            change(
                "Assisted-by",
                &format!("{tag}: B <b@pots.test>\nAssisted-by"),
            )
        };
        let subject = |from, to| change(from, to);
        let bad: Vec<(&str, &str, Vec<String>)> = vec![
            ("series-size", "keeps to 8", vec![GOOD.to_owned(); 9]),
            ("series-size", "at most 15", vec![GOOD.to_owned(); 16]),
            (
                "selftest-with-series",
                "no patch of the series",
                vec![uapi.clone()],
            ),
            ("selftest-apart", "and other files", vec![mixed]),
            (
                "fixes",
                "behind a patch",
                vec![GOOD.to_owned(), fix.replace("pots", "pans")],
            ),
            (
                "fixes",
                "12 digits",
                vec![fix.replace("0123456789ab", "teapot789abc")],
            ),
            (
                "fixes",
                "12 digits",
                vec![fix.replace("0123456789ab", "0123456789a")],
            ),
            (
                "fixes",
                "12 digits",
                vec![fix.replace("(\"x: y\")", "(x: y)")],
            ),
            ("fix-on-feature", "carries `Fixes", vec![add]),
            (
                "fix-on-feature",
                "carries `Fixes",
                vec![uapi.replace("Assisted-by", FIX)],
            ),
            ("fix-on-feature", "carries `Cc", vec![stable]),
            (
                "subject",
                "is not `wireguard: <area>",
                vec![subject("socket: ", "")],
            ),
            (
                "subject",
                "area `kettle'",
                vec![subject("socket:", "kettle:")],
            ),
            ("subject", "lower case", vec![subject("count", "Count")]),
            ("subject", "full stop", vec![subject("a\n device", "pot.")]),
            ("subject", "at most 75", vec![subject("count", &long)]),
            ("subject", "of 2 patches", vec![GOOD.to_owned(); 2]),
            (
                "subject-imperative",
                "`counts'",
                vec![subject("count ", "counts ")],
            ),
            (
                "subject-imperative",
                "`counted'",
                vec![subject("count ", "counted ")],
            ),
            (
                "subject-imperative",
                "`new'",
                vec![subject("count ", "new ")],
            ),
            (
                "assisted-by",
                "no Assisted-by",
                vec![change("Assisted-by: LLM", "Link: x")],
            ),
            (
                "assisted-by",
                "no Assisted-by",
                vec![change("Assisted-by: LLM", "Assisted-by:")],
            ),
            ("borrowed-tag", "cannot be given", vec![tag("Reviewed-by")]),
            (
                "borrowed-tag",
                "cannot be given",
                vec![tag("Signed-off-by")],
            ),
            (
                "reverse-xmas-tree",
                "below the shorter",
                vec![change(TWO, turned)],
            ),
            (
                "reverse-xmas-tree",
                "`int n;'",
                vec![change(&format!("-\tint n;\n{TWO}"), below_old)],
            ),
            (
                "inline",
                "in a .c file",
                vec![change(TWO, "+static inline int lid(void)\n")],
            ),
            (
                "cleanup-helpers",
                "`__free'",
                vec![change(TWO, "+\tint *p __free(kfree) = NULL;\n")],
            ),
        ];
        let mut seen = vec!["series-files", "recipients"];
        for (rule, says, texts) in &bad {
            let found = find(rule, &series(texts)).join("\n");
            assert!(
                found.contains(says),
                "{rule} does not say `{says}': {found}"
            );
            seen.push(rule);
        }
        let mut set = series(&[GOOD.to_owned()]);
        set.present.push("2".to_owned());
        assert!(find("series-files", &set)[0].contains("the folder has 1 2"));
        for (who, reason, says) in [("A <a>", "x", "no address"), ("a@b.c", "", "no reason")] {
            set.recipients = vec![(who.to_owned(), reason.to_owned())];
            assert!(find("recipients", &set)[0].contains(says));
        }
        for rule in RULES {
            assert!(
                seen.contains(&rule.name),
                "nothing shows `{}' to fail",
                rule.name
            );
        }
    }

    #[test]
    fn what_only_looks_bad_is_not_found() {
        for fine in [
            // The order is forced.
            "+\tint n = lid;\n+\tstruct pot *pot = pot_of(n);\n",
            // Statements, not declarations.
            "+\tn = 0;\n+\treturn pot_of(n, lid);\n",
            "+\tfirst(a);\n+\tsecond_call(a, b);\n",
            "+\tstruct pot *pot = pot_of(a,\n+\t\t\t\t\t b_which_is_long);\n",
            "+\t/* inline and __free would be wrong here */\n",
        ] {
            assert_eq!(check(&series(&[change(TWO, fine)])), [], "{fine}");
        }
        let members = change(
            "static int teapot(struct pot *first)\n {",
            "x\n struct pot {",
        );
        assert_eq!(find("reverse-xmas-tree", &series(&[members])), [""; 0]);
        for word in ["pass ", "bring ", "need ", "process "] {
            let set = series(&[change("count ", word)]);
            assert_eq!(find("subject-imperative", &set), [""; 0]);
        }
    }
}
