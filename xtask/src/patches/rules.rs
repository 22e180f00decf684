// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The rules that no tool checks: text in, findings out.
//! `git format-patch` owns numbers, tags and file names, checkpatch.pl what it knows about
//! messages and code, `ynl-regen.sh` the generated files; see `check`. What is left is here.

use regex_lite::Regex;

use vm_tests::kernel::trees::Recipient;

use super::finding::{Finding, doc};
use super::folder::{Mail, Set};

/// Name, where it comes from, what finds it.
type Rule = (&'static str, &'static str, fn(&Set) -> Vec<Finding>);

const HELPERS: &str = "__free DEFINE_FREE no_free_ptr scoped_guard";

#[rustfmt::skip]
const RULES: &[Rule] = &[
    ("series-files", doc::OURS, check_files),
    ("series-size", doc::NETDEV, check_size),
    ("recipients", doc::SUBMITTING, check_recipients),
    ("selftests", doc::NETDEV, check_selftests),
    ("fixes", doc::NETDEV, check_fixes),
    ("subject", doc::OURS, check_subjects),
    ("message", doc::ASSISTANTS, check_messages),
    ("reverse-xmas-tree", doc::NETDEV, check_xmas_tree),
    // The compiler decides, in a .c file.
    ("inline", doc::STYLE, |set| find_added(set, ".c", "inline __inline")),
    // Networking wants unwinding to be seen.
    ("cleanup-helpers", doc::NETDEV, |set| find_added(set, "", HELPERS)),
];

/// Every rule over the series, in the order of the table.
pub fn check_rules(set: &Set) -> Vec<Finding> {
    let all = RULES.iter().flat_map(|(name, source, check)| {
        let found = check(set).into_iter();
        found.map(|f| f.set_rule(name, source))
    });
    all.collect()
}

/// `series` names what `git format-patch` wrote, in its order, and nothing else.
fn check_files(set: &Set) -> Vec<Finding> {
    let listed: Vec<_> = set.mails.iter().map(|m| m.file.as_str()).collect();
    if listed == set.present {
        return Vec::new();
    }
    let (listed, present) = (listed.join(" "), set.present.join(" "));
    let what = format!("names {listed}; the folder has {present}");
    vec![Finding::new(set.name_file("series"), what).set_repair(set.suggest_refresh())]
}

fn check_size(set: &Set) -> Vec<Finding> {
    let fixes = set.count_fixes();
    let what = match fixes.max(set.mails.len() - fixes) {
        0..=8 => return Vec::new(),
        n @ 9..=15 => format!("{n} patches; this project keeps to 8"),
        n => format!("{n} patches; netdev takes at most 15"),
    };
    vec![Finding::new(&set.tree.name, what).set_repair("fold, or post in parts")]
}

/// Checks the people of trees.toml, whom get_maintainer.pl does not know.
fn check_recipients(set: &Set) -> Vec<Finding> {
    let form = Regex::new(r"^(\S+|.+<\S+)@\S+\.[^\s>]+>?$").expect("a constant");
    let find = |Recipient {
                    address: who,
                    reason,
                }: &Recipient| {
        let what = match form.is_match(who) {
            false => format!("`{who}' is no address"),
            true if reason.trim().is_empty() => format!("no reason why `{who}' gets the series"),
            true => return None,
        };
        Some(Finding::new("trees.toml", what))
    };
    set.recipients.iter().filter_map(find).collect()
}

/// "Co-posting selftests": the tests of a new interface come with it, in a commit of their own.
fn check_selftests(set: &Set) -> Vec<Finding> {
    let tests = "tools/testing/selftests";
    let tested = set.mails.iter().any(|m| m.touches_path(tests));
    find_in_mails(set, |m| {
        let inside = m.touched.iter().filter(|f| f.path.starts_with(tests));
        if m.touches_path(tests) && inside.count() < m.touched.len() {
            Some(format!("touches {tests} and other files"))
        } else if set.tree.reference && m.touches_path("include/uapi") && !tested {
            Some(format!("no patch of the series touches {tests}"))
        } else {
            None
        }
    })
}

/// Fixes come first, because they are posted first, and a patch that adds user space API, or says
/// that it adds, is none. checkpatch.pl knows the form only of what looks like a hash.
fn check_fixes(set: &Set) -> Vec<Finding> {
    let first: Vec<_> = set.mails[..set.count_fixes()].iter().collect();
    find_in_mails(set, |m| {
        let fixing = |(key, value): &(&str, &str)| *key == "Fixes" || value.contains("stable@");
        let (key, value) = m.list_trailers().find(fixing)?;
        let adds = ["add", "support", "allow", "introduce", "implement"];
        let api = m.touches_path("include/uapi") || m.touches_path("Documentation/netlink/specs");
        if api || adds.contains(&read_first_word(m)) {
            return Some(format!("a feature carries `{key}: {value}'"));
        }
        let form = Regex::new(r#"^[0-9a-fA-F]{12,} \(".*"\)$"#).expect("a constant");
        if key == "Fixes" && !form.is_match(value) {
            return Some(format!("`{value}' is not `<12 digits> (\"subject\")'"));
        }
        let late = !first.iter().any(|f| f.file == m.file);
        late.then(|| "a fix behind a patch that is none: fixes are posted first".to_owned())
    })
}

/// The words between `wireguard:` and the summary: the driver's files and those that upstream used.
const AREAS: &str = "allowedips cookie device global main netlink noise peer peerlookup queueing \
                     ratelimiter receive selftests send socket timers uapi";
/// Verbs that do not look like the imperative and are.
const VERBS: &str = "bring bus embed exceed feed focus need ping proceed seed shed speed string \
                     succeed swing";

/// `wireguard: area: lower-case imperative`, once, and short enough.
fn check_subjects(set: &Set) -> Vec<Finding> {
    find_in_mails(set, |m| {
        let subject = &m.subject;
        let parts: Vec<_> = subject.splitn(3, ": ").collect();
        let ["wireguard", area, rest] = parts.as_slice() else {
            return Some(format!("`{subject}' is not `wireguard: <area>: <summary>'"));
        };
        let same = set.mails.iter().filter(|o| o.subject == *subject).count();
        let length = subject.chars().count();
        let word = read_first_word(m);
        let ends = |end: &str| word.ends_with(end) && !word.ends_with("ss");
        let noun = ["new", "the", "a", "an", "some", "this"].contains(&word);
        let other = noun || ends("s") || ends("ed") || ends("ing");
        Some(if !AREAS.split(' ').any(|a| a == *area) {
            format!("area `{area}' is none of {AREAS}")
        } else if !rest.starts_with(char::is_lowercase) || rest.ends_with('.') {
            format!("`{rest}' is not in lower case without a full stop")
        } else if length > 75 {
            format!("{length} characters, at most 75")
        } else if same > 1 {
            format!("`{subject}' is the subject of {same} patches")
        } else if other && !VERBS.split(' ').any(|v| v == word) {
            format!("`{word}' is not the imperative")
        } else {
            return None;
        })
    })
}

fn read_first_word(mail: &Mail) -> &str {
    let rest = mail.subject.splitn(3, ": ").nth(2).unwrap_or_default();
    rest.split(' ').next().unwrap_or_default()
}

/// A message has a text and says which tools helped. Tags that only the person they name can give
/// are added at export, or given on the list.
fn check_messages(set: &Set) -> Vec<Finding> {
    let given = "Signed-off-by Reviewed-by Acked-by Tested-by Co-developed-by";
    find_in_mails(set, |m| {
        let borrowed = m.list_trailers().find(|(key, _)| given.contains(key));
        let assisted = |(key, value): (&str, &str)| key == "Assisted-by" && !value.is_empty();
        let text = m.message.trim().contains("\n\n");
        match borrowed {
            _ if !text => Some("no message under the subject".to_owned()),
            Some((key, who)) => Some(format!("`{key}: {who}' cannot be given by this repository")),
            None if m.list_trailers().any(assisted) => None,
            None => Some("no Assisted-by".to_owned()),
        }
    })
}

/// One finding at the subject of each patch of which `check` says something.
fn find_in_mails(set: &Set, check: impl Fn(&Mail) -> Option<String>) -> Vec<Finding> {
    let find = |m: &Mail| {
        let finding = Finding::new(set.name_file(&m.file), check(m)?);
        let line = m.text.lines().position(|l| l.starts_with("Subject:"));
        let finding = finding.set_line(line.map_or(0, |at| at + 1));
        Some(finding.set_repair(set.suggest_reword()))
    };
    set.mails.iter().filter_map(find).collect()
}

/// One finding at each added line of C with one of these words; comments are left out.
fn find_added(set: &Set, kind: &str, words: &str) -> Vec<Finding> {
    let mut found = Vec::new();
    for mail in &set.mails {
        for (path, no, line) in mail.list_diff() {
            let code = line.split("/*").next().unwrap_or_default();
            let comment = code.trim_start_matches('+').trim().starts_with('*');
            let word = split_words(code).find(|w| words.split(' ').any(|word| word == *w));
            if line.starts_with('+') && !comment && is_c(path) && path.ends_with(kind) {
                let what = word.map(|word| format!("{path}: `{word}' is not used here"));
                found.extend(what.map(|w| Finding::new(set.name_file(&mail.file), w).set_line(no)));
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
        for (path, no, line) in mail.list_diff() {
            let (sign, text) = line.split_at(line.len().min(1));
            if sign == "-" || !is_c(path) {
                continue;
            }
            if sign == "@" || text.ends_with('{') || text.starts_with('}') {
                in_type = is_type(text.rsplit("@@ ").next().unwrap_or_default());
                open = false;
            }
            // The rest of a declaration over several lines does not count.
            let rest = open;
            open = (open || read_declared(text).is_some()) && !text.ends_with(';');
            if rest {
                continue;
            }
            if in_type || read_declared(text).is_none() {
                block.clear();
                continue;
            }
            let (above, new_above) = block.last().copied().unwrap_or((text, false));
            // An initializer that uses a variable above it cannot move over it.
            let value = text.split_once('=').map_or("", |(_, value)| value);
            let mut names = block.iter().filter_map(|(text, _)| read_declared(text));
            let tied = names.any(|name| split_words(value).any(|w| w == name));
            let longer = count_columns(text) > count_columns(above);
            if longer && (sign == "+" || new_above) && !tied {
                let (text, above) = (text.trim(), above.trim());
                let what = format!("{path}: `{text}' stands below the shorter `{above}'");
                found.push(Finding::new(set.name_file(&mail.file), what).set_line(no));
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
fn read_declared(text: &str) -> Option<&str> {
    let statements = ["return", "goto", "case", "else", "do", "typedef", "break"];
    let head = text.strip_prefix('\t')?.trim_start();
    let head = head.split(['=', ';', '[', ',']).next()?.trim_end();
    let (types, name) = head.rsplit_once([' ', '*'])?;
    let first = split_words(types).next().unwrap_or_default();
    let plain = |c: char| c.is_ascii_alphanumeric() || "_ *".contains(c);
    let whole = text.ends_with([';', '=', ',', '(', '|', '+', '?', ':', '&']);
    let declares = !first.is_empty() && !statements.contains(&first);
    (whole && declares && head.chars().all(plain) && !name.is_empty()).then_some(name)
}

/// A tab is eight columns.
fn count_columns(text: &str) -> usize {
    text.chars().map(|c| if c == '\t' { 8 } else { 1 }).sum()
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use vm_tests::kernel::series::Patch;
    use vm_tests::kernel::trees::Tree;

    use crate::patches::git::write_file;

    /// A patch that no rule finds fault with; an invented one.
    pub const GOOD: &str = include_str!("../../testdata/good.patch");
    const TWO: &str = "+\tstruct pot *pot = first;\n+\tint n = 0;\n";
    const PATH: &str = "drivers/net/wireguard/teapot.c";
    const FIX: &str = "Fixes: 0123456789ab (\"x: y\")\nAssisted-by";

    pub fn test_tree() -> Tree {
        let text = "name = '9.9'\nsource = 'linux-source-9.9'\nversion = 'newest'\n\
                    suites = []\nreference = true\n";
        toml::from_str(text).unwrap()
    }

    pub fn read_mail(text: &str) -> Mail {
        let temp = tempfile::tempdir().unwrap();
        let (name, path) = ("1".to_owned(), temp.path().join("1"));
        let text = text.to_owned();
        let patch = Patch { name, path, text };
        write_file(&patch.path, &patch.text).unwrap();
        Mail::read(&patch).unwrap()
    }

    /// A series of these patches.
    fn make_set(texts: &[String]) -> Set {
        let mails: Vec<_> = texts.iter().map(|t| read_mail(t)).collect();
        Set {
            tree: test_tree(),
            dir: "9.9".into(),
            present: mails.iter().map(|m| m.file.clone()).collect(),
            mails,
            recipients: Vec::new(),
        }
    }

    fn change_good(from: &str, to: &str) -> String {
        assert!(GOOD.contains(from), "the good patch does not say `{from}'");
        GOOD.replace(from, to)
    }

    fn find_by_rule(rule: &str, set: &Set) -> Vec<String> {
        let found = check_rules(set).into_iter().filter(|f| f.rule == rule);
        found.map(|f| f.to_string()).collect()
    }

    #[test]
    fn the_good_series_has_no_findings() {
        assert_eq!(check_rules(&make_set(&[GOOD.to_owned()])), []);
        let fix = change_good("Assisted-by", FIX);
        let both = make_set(&[fix, change_good("pots", "pans")]);
        assert_eq!(check_rules(&both), []);
    }

    /// A rule that has never failed may not work.
    #[test]
    #[rustfmt::skip]
    fn each_rule_finds_its_bad_fixture() {
        let good = || GOOD.to_owned();
        let fix = || change_good("Assisted-by", FIX);
        let uapi = || change_good(PATH, "include/uapi/linux/teapot.h");
        let tests = change_good(PATH, "tools/testing/selftests/x.c");
        let mixed = tests + &GOOD[GOOD.find("diff --git").unwrap()..];
        let stable = change_good("count the", "allow the").replace("Assisted", "Cc: stable@kernel.org\nAssisted");
        let tag = |tag| change_good("Assisted-by", &format!("{tag}: B <b@pots.test>\nAssisted-by"));
        let bad: Vec<(&str, &str, Vec<String>)> = vec![
            ("series-size", "keeps to 8", vec![good(); 9]),
            ("series-size", "at most 15", vec![good(); 16]),
            ("selftests", "no patch of the series", vec![uapi()]),
            ("selftests", "and other files", vec![mixed]),
            ("fixes", "behind a patch", vec![good(), fix().replace("pots", "pans")]),
            ("fixes", "12 digits", vec![fix().replace("0123456789ab", "teapot789abc")]),
            ("fixes", "12 digits", vec![fix().replace("0123456789ab", "0123456789a")]),
            ("fixes", "12 digits", vec![fix().replace("(\"x: y\")", "(x: y)")]),
            ("fixes", "carries `Fixes", vec![fix().replace("count the", "add the")]),
            ("fixes", "carries `Fixes", vec![uapi().replace("Assisted-by", FIX)]),
            ("fixes", "carries `Cc", vec![stable]),
            ("subject", "is not `wireguard: <area>", vec![change_good("socket: ", "")]),
            ("subject", "area `kettle'", vec![change_good("socket:", "kettle:")]),
            ("subject", "lower case", vec![change_good("count", "Count")]),
            ("subject", "full stop", vec![change_good("a\n device", "pot.")]),
            ("subject", "at most 75", vec![change_good("count", &"count long ".repeat(5))]),
            ("subject", "of 2 patches", vec![good(); 2]),
            ("subject", "`counts'", vec![change_good("count ", "counts ")]),
            ("subject", "`counted'", vec![change_good("count ", "counted ")]),
            ("subject", "`new'", vec![change_good("count ", "new ")]),
            ("message", "no message", vec![change_good("A teapot that nobody counts is lost.\n\n", "")]),
            ("message", "no Assisted-by", vec![change_good("Assisted-by: LLM", "Link: x")]),
            ("message", "no Assisted-by", vec![change_good("Assisted-by: LLM", "Assisted-by:")]),
            ("message", "cannot be given", vec![tag("Reviewed-by")]),
            ("message", "cannot be given", vec![tag("Signed-off-by")]),
            ("reverse-xmas-tree", "below the shorter", vec![change_good(TWO, "+\tint n = 0;\n+\tstruct pot *pot = first;\n")]),
            ("reverse-xmas-tree", "`int n;'", vec![change_good(&format!("-\tint n;\n{TWO}"), " \tint n;\n+\tstruct pot *pot = first;\n")]),
            ("inline", "`inline'", vec![change_good(TWO, "+static inline int lid(void)\n")]),
            ("cleanup-helpers", "`__free'", vec![change_good(TWO, "+\tint *p __free(kfree) = NULL;\n")]),
        ];
        let mut seen = vec!["series-files", "recipients"];
        for (rule, says, texts) in &bad {
            let found = find_by_rule(rule, &make_set(texts)).join("\n");
            assert!(found.contains(says), "{rule} does not say `{says}': {found}");
            seen.push(rule);
        }
        let mut set = make_set(&[good()]);
        set.present.push("2".to_owned());
        assert!(find_by_rule("series-files", &set)[0].contains("the folder has 1 2"));
        for (who, reason, says) in [("A <a>", "x", "no address"), ("a@b.c", "", "no reason")] {
            let (address, reason) = (who.to_owned(), reason.to_owned());
            set.recipients = vec![Recipient { address, reason }];
            assert!(find_by_rule("recipients", &set)[0].contains(says));
        }
        for (rule, ..) in RULES {
            assert!(seen.contains(rule), "nothing shows `{rule}' to fail");
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
            let set = make_set(&[change_good(TWO, fine)]);
            assert_eq!(check_rules(&set), [], "{fine}");
        }
        let function = "static int teapot(struct pot *first)\n {";
        let members = change_good(function, "x\n struct pot {");
        let found = find_by_rule("reverse-xmas-tree", &make_set(&[members]));
        assert_eq!(found, [""; 0]);
        for word in ["pass ", "bring ", "need ", "process "] {
            let set = make_set(&[change_good("count ", word)]);
            assert_eq!(find_by_rule("subject", &set), [""; 0]);
        }
    }
}
