// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Golden files: what the reference did with each case of the corpus, replayed with our tool.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::Test;
use crate::corpus;
use crate::sandbox;
use crate::tool::{self, Case, Outcome};

pub fn tests() -> Vec<Test> {
    // One test per golden file, so that a filter finds it.
    macro_rules! group {
        ($($name:literal),* $(,)?) => {
            vec![$(Test { name: concat!("golden::", $name), run: || replay_group($name) }),*]
        };
    }
    let mut tests = group!(
        "top",
        "keys",
        "show",
        "set-values",
        "set-shapes",
        "key-files",
        "setconf",
        "addconf",
        "syncconf",
        "conf-sources",
    );
    tests.push(Test {
        name: "golden::every_group_is_tested",
        run: every_group_is_tested,
    });
    tests.push(Test {
        name: "golden::differences_are_documented",
        run: differences_are_documented,
    });
    tests.push(Test {
        name: "golden::stderr_rule",
        run: stderr_rule,
    });
    tests
}

fn every_group_is_tested() -> Result<(), String> {
    let tests = tests();
    for (name, _) in corpus::groups() {
        let wanted = format!("golden::{name}");
        assert!(
            tests.iter().any(|test| test.name == wanted),
            "no test {wanted}"
        );
    }
    Ok(())
}

fn differences_are_documented() -> Result<(), String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/differences.md");
    let text = fs::read_to_string(page).expect("docs/differences.md");
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    // There a reason begins a sentence.
    let text = text.to_lowercase();
    for (_, cases) in corpus::groups() {
        for reason in cases.iter().filter_map(|case| case.differs) {
            let wanted = format!("**{reason}.**");
            assert!(text.contains(&wanted), "docs/differences.md lacks {wanted}");
        }
    }
    Ok(())
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// Blocks of a golden file by the name of their case.
type Blocks = BTreeMap<String, String>;

fn load_blocks(name: &str) -> Blocks {
    let path = folder().join(format!("{name}.txt"));
    let text = fs::read_to_string(&path).unwrap_or_else(|err| panic!("{}: {err}", path.display()));
    text.split("\n## ")
        .skip(1)
        .map(|block| {
            let (name, body) = block.split_once('\n').expect("a block has a body");
            (
                name.to_owned(),
                format!("{}\n", body.trim_end_matches('\n')),
            )
        })
        .collect()
}

/// An outcome as a golden file has it. Lines are quoted, so that blanks and control characters
/// at their ends are seen.
fn format_block(case: &Case, outcome: &Outcome) -> String {
    let Outcome {
        code,
        stdout,
        stderr,
        sets,
    } = outcome;
    let mut text = format!("call {:?}\n", case.args);
    if let Some(reason) = case.differs {
        let _ = writeln!(text, "differs {reason}");
    }
    let code = code.map_or_else(|| "signal".to_owned(), |code| code.to_string());
    let _ = writeln!(text, "exit {code}");
    for (name, output) in [("out", stdout), ("err", stderr)] {
        for line in output.split_inclusive('\n') {
            let _ = writeln!(text, "{name} {line:?}");
        }
    }
    for set in sets {
        for line in set.split_inclusive('\n') {
            let _ = writeln!(text, "set {line:?}");
        }
    }
    text
}

/// The lines of a block that are of this kind, still quoted.
fn list_lines<'a>(block: &'a str, kind: &str) -> Vec<&'a str> {
    block
        .lines()
        .filter_map(|line| line.strip_prefix(kind)?.strip_prefix(' '))
        .collect()
}

fn replay_group(group: &str) -> Result<(), String> {
    sandbox::check_needed()?;
    let golden = load_blocks(group);
    let differences = load_blocks("differences");
    let (_, cases) = corpus::groups()
        .into_iter()
        .find(|(name, _)| *name == group)
        .expect("a group of the corpus");
    assert_eq!(
        golden.len(),
        cases.len(),
        "tests/golden/{group}.txt is not of this corpus; record it again"
    );
    let mut bad = 0;
    for case in &cases {
        let theirs = &golden[&case.name];
        let ours = format_block(case, &tool::run(&tool::ours(), case));
        let complaint = match case.differs {
            None => compare(theirs, &ours),
            Some(_) if theirs == &ours => Some("the difference is gone".to_owned()),
            Some(_) => {
                let expected = &differences[&case.name];
                (expected != &ours).then(|| "not the difference that was recorded".to_owned())
            }
        };
        if let Some(complaint) = complaint {
            bad += 1;
            eprintln!(
                "## {}: {complaint}\nexpected:\n{theirs}got:\n{ours}",
                case.name
            );
        }
    }
    assert_eq!(bad, 0, "{bad} of {} cases of {group} differ", cases.len());
    Ok(())
}

/// What is wrong with our block, if anything is.
pub fn compare(theirs: &str, ours: &str) -> Option<String> {
    let ours = &without_our_verbs(ours);
    for kind in ["call", "exit", "out", "set"] {
        if list_lines(theirs, kind) != list_lines(ours, kind) {
            return Some(format!("`{kind}' differs"));
        }
    }
    let (theirs, ours) = (list_lines(theirs, "err"), list_lines(ours, "err"));
    let same = theirs.len() == ours.len()
        && theirs
            .iter()
            .zip(&ours)
            .all(|(theirs, ours)| says_alike(theirs, ours));
    (!same).then(|| "`err' says something else".to_owned())
}

/// Without the lines of help about verbs that the reference does not have.
fn without_our_verbs(block: &str) -> String {
    let is_ours = |line: &&str| {
        let verbs = ["doctor", "reresolve"];
        let text = line.get(4..).unwrap_or_default();
        verbs
            .iter()
            .any(|verb| text.starts_with(&format!("\"  {verb}: ")))
    };
    let lines = block.split_inclusive('\n');
    lines.filter(|line| !is_ours(line)).collect()
}

/// Whether our line on stderr says what theirs says. Ours may go on after it, with the value and
/// the remedy, and its usage texts know more words.
fn says_alike(theirs: &str, ours: &str) -> bool {
    let ours = ours
        .replace(" [bind-dev <device>|off]", "")
        .replace(" [--dry-run] [--exit-code]", "")
        .replace(" | bind-dev | json]", "]");
    // Bytes that are not UTF-8 are shown as one replacement or as several.
    let mut ours = ours;
    let mut theirs = theirs
        .trim_end_matches('"')
        .trim_end_matches("\\n")
        .to_owned();
    for text in [&mut ours, &mut theirs] {
        while text.contains("\u{fffd}\u{fffd}") {
            *text = text.replace("\u{fffd}\u{fffd}", "\u{fffd}");
        }
    }
    for text in [&mut ours, &mut theirs] {
        *text = without_control(text);
    }
    match ours.strip_prefix(theirs.as_str()) {
        Some(more) => {
            matches!(more, "\"" | "\\n\"") || more.starts_with(": `") || more.starts_with(" (")
        }
        None => false,
    }
}

/// Control characters, which are escaped in a block, as our messages show them.
fn without_control(line: &str) -> String {
    let mut text = line
        .replace("\\0", "?")
        .replace("\\t", "?")
        .replace("\\r", "?");
    while let Some(start) = text.find("\\u{") {
        let Some(length) = text[start..].find('}') else {
            break;
        };
        text.replace_range(start..=start + length, "?");
    }
    text
}

fn stderr_rule() -> Result<(), String> {
    assert!(says_alike("\"fopen: No\\n\"", "\"fopen: No\\n\""));
    assert!(says_alike("\"fopen: No\\n\"", "\"fopen: No: `/x'\\n\""));
    assert!(says_alike("\"dump]\\n\"", "\"dump | bind-dev | json]\\n\""));
    assert!(says_alike("\"Key: `\\u{1b}\\0'\\n\"", "\"Key: `??'\\n\""));
    assert!(!says_alike("\"Key: `a'\\n\"", "\"Key: `?'\\n\""));
    assert!(!says_alike("\"fopen: No\\n\"", "\"fopen: Nothing\\n\""));
    assert!(!says_alike("\"fopen: No\\n\"", "\"open: No\\n\""));
    Ok(())
}

/// `--record`: writes tests/golden anew.
pub fn record() -> ExitCode {
    let Some(reference) = tool::reference() else {
        eprintln!("--record needs WG_REFERENCE, see tests/golden/README.md");
        return ExitCode::FAILURE;
    };
    if let Err(reason) = sandbox::check_needed() {
        eprintln!("{reason}");
        return ExitCode::FAILURE;
    }
    let version = tool::call(&reference, &["--version".to_owned()], "", &[]).stdout;
    let head = "# SPDX-License-Identifier: GPL-2.0-only OR MIT\n";
    let mut differences = format!("{head}# What our tool does where it is meant to differ.\n");
    let mut count = 0;
    for (name, cases) in corpus::groups() {
        let mut text = format!("{head}# Recorded from {version}");
        for case in &cases {
            let theirs = format_block(case, &tool::run(&reference, case));
            let _ = write!(text, "\n## {}\n{theirs}", case.name);
            if case.differs.is_some() {
                let ours = format_block(case, &tool::run(&tool::ours(), case));
                let _ = write!(differences, "\n## {}\n{ours}", case.name);
            }
            count += 1;
        }
        fs::write(folder().join(format!("{name}.txt")), text).expect("write a golden file");
    }
    fs::write(folder().join("differences.txt"), differences).expect("write a golden file");
    println!("recorded {count} cases from {}", version.trim());
    ExitCode::SUCCESS
}

/// One case with both tools, for the fuzz mode.
pub fn compare_tools(reference: &[String], case: &Case) -> Option<String> {
    let theirs = format_block(case, &tool::run(reference, case));
    let ours = format_block(case, &tool::run(&tool::ours(), case));
    compare(&theirs, &ours)
        .map(|complaint| format!("{complaint}\nreference:\n{theirs}ours:\n{ours}"))
}

/// `--compare`: the corpus with both tools, for a reference that was not recorded.
pub fn compare_live() -> ExitCode {
    let Some(reference) = tool::reference() else {
        eprintln!("--compare needs WG_REFERENCE, see tests/golden/README.md");
        return ExitCode::FAILURE;
    };
    if let Err(reason) = sandbox::check_needed() {
        eprintln!("{reason}");
        return ExitCode::FAILURE;
    }
    let (mut same, mut meant, mut different) = (0, 0, 0);
    for (_, cases) in corpus::groups() {
        for case in cases {
            match compare_tools(&reference, &case) {
                None => same += 1,
                Some(_) if case.differs.is_some() => meant += 1,
                Some(difference) => {
                    different += 1;
                    println!("## {}: {difference}", case.name);
                }
            }
        }
    }
    println!("{same} cases alike, {meant} meant to differ, {different} different");
    if different == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
