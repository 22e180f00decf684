// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Rules about the lines that a patch adds. checkpatch.pl knows many more; these it does not know.

use super::Set;
use crate::patches::finding::Finding;
use crate::patches::mail::{DiffLine, Hunk, Kind};

/// netdev wants declarations at the start of a function from the longest line to the shortest.
pub fn reverse_xmas_tree(set: &Set) -> Vec<Finding> {
    let mut found = Vec::new();
    for mail in &set.patches {
        for file in mail.files.iter().filter(|f| is_c(&f.path)) {
            for hunk in &file.hunks {
                for (line, longer) in out_of_order(hunk) {
                    let what = format!(
                        "{}: `{}' stands below the shorter `{longer}'",
                        file.path,
                        line.text.trim()
                    );
                    found.push(set.at(mail, line.no, what).repair(set.reword()));
                }
            }
        }
    }
    found
}

/// Added lines of declarations that are longer than the declaration above them.
fn out_of_order(hunk: &Hunk) -> Vec<(&DiffLine, String)> {
    let mut found = Vec::new();
    // Members of a struct are ordered by other considerations.
    let is_type = |text: &str| {
        ["struct", "enum", "union"]
            .iter()
            .any(|word| text.trim_start().starts_with(word))
            && !text.contains('(')
    };
    let mut in_type = is_type(&hunk.heading);
    // The declarations of the block so far, the last one's first line, and its variable.
    let mut block: Vec<&DiffLine> = Vec::new();
    let mut continued = false;
    for line in hunk.lines.iter().filter(|l| l.kind != Kind::Removed) {
        let text = line.text.as_str();
        if text.ends_with('{') {
            in_type = is_type(text);
        } else if text.starts_with('}') || text == "{" {
            in_type = false;
        }
        if continued {
            continued = !text.trim_end().ends_with(';');
            continue;
        }
        if in_type || !is_declaration(text) {
            block.clear();
            continue;
        }
        continued = !text.trim_end().ends_with(';');
        if let Some(above) = block.last() {
            let longer = width(text) > width(&above.text);
            let new = line.kind == Kind::Added || above.kind == Kind::Added;
            // An initializer that uses a variable above it cannot move over it.
            let tied = block.iter().any(|b| uses(text, variable(&b.text)));
            if longer && new && !tied {
                found.push((line, above.text.trim().to_owned()));
            }
        }
        block.push(line);
    }
    found
}

/// `\tstruct foo *bar = baz,` and the like: two words at least, the first of them a type's.
fn is_declaration(text: &str) -> bool {
    if !text.starts_with('\t') {
        return false;
    }
    let text = text.trim();
    if !(text.ends_with(';') || text.ends_with(['=', ',', '(', '|', '+', '?', ':', '&'])) {
        return false;
    }
    let head = text
        .split(['=', ';', '[', ',', '('])
        .next()
        .unwrap_or_default();
    // A call has its bracket before any `='.
    if text[head.len()..].starts_with('(') {
        return false;
    }
    let words: Vec<_> = head.split_whitespace().collect();
    let word = |w: &str| {
        !w.is_empty()
            && !w.starts_with(|c: char| c.is_ascii_digit())
            && w.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    let [first, .., last] = words.as_slice() else {
        return false;
    };
    const STATEMENTS: &[&str] = &["return", "goto", "case", "else", "do", "typedef", "break"];
    word(first)
        && !STATEMENTS.contains(first)
        && word(last.trim_start_matches('*'))
        && words[1..words.len() - 1]
            .iter()
            .all(|w| w.chars().all(|c| c == '*') || word(w))
}

/// The variable that a declaration declares (its last, where it declares several).
fn variable(text: &str) -> &str {
    let head = text.split(['=', ';', '[']).next().unwrap_or_default();
    head.trim()
        .rsplit(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .next()
        .unwrap_or_default()
}

fn uses(text: &str, name: &str) -> bool {
    let Some((_, value)) = text.split_once('=') else {
        return false;
    };
    !name.is_empty() && words(value).any(|w| w == name)
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
}

/// A tab is eight columns.
fn width(text: &str) -> usize {
    text.chars().map(|c| if c == '\t' { 8 } else { 1 }).sum()
}

/// The compiler decides, in a .c file.
pub fn inline(set: &Set) -> Vec<Finding> {
    added(set, "`inline' in a .c file", |path, code| {
        path.ends_with(".c") && words(code).any(|w| matches!(w, "inline" | "__inline"))
    })
}

/// Networking wants unwinding to be seen.
pub fn cleanup_helpers(set: &Set) -> Vec<Finding> {
    added(
        set,
        "__free() and scoped guards are not used in networking",
        |path, code| {
            is_c(path)
                && words(code)
                    .any(|w| matches!(w, "__free" | "DEFINE_FREE" | "no_free_ptr" | "scoped_guard"))
        },
    )
}

pub fn white_space(set: &Set) -> Vec<Finding> {
    let mut found = added_text(set, "white space at the end of an added line", |_, text| {
        text.ends_with([' ', '\t', '\r'])
    });
    for mail in set.mails() {
        for line in mail.body.iter().chain(&mail.notes) {
            if line.text.ends_with([' ', '\t', '\r']) {
                found.push(
                    set.at(
                        mail,
                        line.no,
                        "white space at the end of a line of the message",
                    )
                    .repair(set.reword()),
                );
            }
        }
    }
    found
}

fn is_c(path: &str) -> bool {
    path.ends_with(".c") || path.ends_with(".h")
}

/// Findings on added lines of which `check` is true for the part that is not a comment.
fn added(set: &Set, what: &str, check: impl Fn(&str, &str) -> bool) -> Vec<Finding> {
    added_text(set, what, |path, text| {
        let text = text.trim();
        if text.starts_with("* ") || text.starts_with("/*") || text.starts_with("//") {
            return false;
        }
        check(path, text.split("/*").next().unwrap_or_default())
    })
}

fn added_text(set: &Set, what: &str, check: impl Fn(&str, &str) -> bool) -> Vec<Finding> {
    let mut found = Vec::new();
    for mail in &set.patches {
        for (file, line) in mail.added() {
            if check(&file.path, &line.text) {
                found.push(
                    set.at(mail, line.no, format!("{}: {what}", file.path))
                        .repair(set.reword()),
                );
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::tests::{bad, fails};
    use crate::patches::rules::only;

    const TWO: &str = "+\tstruct pot *pot = first;\n+\tint n = 0;\n";

    #[test]
    fn reverse_xmas_tree() {
        let turned = "+\tint n = 0;\n+\tstruct pot *pot = first;\n";
        fails(
            "reverse-xmas-tree",
            &bad(TWO, turned),
            "stands below the shorter",
        );
        for fine in [
            // The order is forced.
            "+\tint n = lid;\n+\tstruct pot *pot = pot_of(n);\n",
            // Statements, not declarations.
            "+\tn = 0;\n+\treturn pot_of(n, lid);\n",
            "+\tfirst(a);\n+\tsecond_call(a, b);\n",
            // What a declaration goes on to say on a second line does not count.
            "+\tstruct pot *pot = pot_of(a,\n+\t\t\t\t\t b_which_is_long);\n",
        ] {
            let found = only("reverse-xmas-tree", &bad(TWO, fine));
            assert!(found.is_empty(), "{fine}: {found:?}");
        }
        // Members of a struct.
        let set = bad(
            "static int teapot(struct pot *first)\n {",
            "x\n struct pot {",
        );
        assert!(only("reverse-xmas-tree", &set).is_empty());
    }

    #[test]
    fn a_new_line_below_a_shorter_old_one_counts() {
        let set = bad(
            "-\tint n;\n+\tstruct pot *pot = first;\n+\tint n = 0;\n",
            " \tint n;\n+\tstruct pot *pot = first;\n",
        );
        fails("reverse-xmas-tree", &set, "`int n;'");
    }

    #[test]
    fn inline() {
        let set = bad(TWO, "+static inline int lid(void)\n+{\n");
        fails("inline", &set, "in a .c file");
        let comment = bad(TWO, "+\t/* inline would be wrong here */\n+\tint n = 0;\n");
        assert!(only("inline", &comment).is_empty());
    }

    #[test]
    fn cleanup_helpers() {
        let set = bad(TWO, "+\tstruct pot *p __free(kfree) = NULL;\n+\tint n;\n");
        fails("cleanup-helpers", &set, "not used in networking");
    }

    #[test]
    fn white_space() {
        fails(
            "white-space",
            &bad("+\tint n = 0;", "+\tint n = 0; "),
            "end of an added",
        );
        fails(
            "white-space",
            &bad("is lost.", "is lost. \n"),
            "of the message",
        );
    }
}
