// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! A folder of kernel-patches as the rules see it, and how a git branch is written back into it.

use std::fs;
use std::path::Path;
use std::process::Command;

use kit::cache::Key;
use kit::{Error, Result};

use super::git;
use super::mail::Mail;
use super::rules::{Purpose, Set};
use kit::process;
use vm_tests::kernel::series::{self, COVER};
use vm_tests::kernel::trees::{Tree, Trees};

/// What stands for an author until a person takes the series over.
pub const AUTHOR: &str = "wg-vrf <noreply@example.org>";

/// Reads what is there, good or bad: what is wrong with it is the rules' business.
pub fn read(dir: &Path, tree: &Tree, trees: &Trees) -> Result<Set> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).map_err(Error::io("read", dir))? {
        let entry = entry.map_err(Error::io("read", dir))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(".patch") {
            files.push(name);
        }
    }
    files.sort();
    let list = read_if(&dir.join("series"))?;
    let cover = read_if(&dir.join(COVER))?;
    let mut patches = Vec::new();
    for name in series::names(list.as_deref().unwrap_or_default()) {
        if files.iter().any(|f| f == name) {
            let text = read_if(&dir.join(name))?.unwrap_or_default();
            patches.push(Mail::parse(name, &text));
        }
    }
    Ok(Set {
        name: tree.name.clone(),
        tree: tree.name.clone(),
        purpose: Purpose::Kept,
        reference: tree.reference,
        // A folder without `series` names nothing, which the rules report.
        series: Some(list.unwrap_or_default()),
        base: read_if(&dir.join("base"))?,
        files,
        cover: cover.map(|text| Mail::parse(COVER, &text)),
        patches,
        recipients: recipients(trees),
    })
}

pub fn recipients(trees: &Trees) -> Vec<(String, String)> {
    trees
        .recipients
        .iter()
        .map(|r| (r.address.clone(), r.reason.clone()))
        .collect()
}

/// A file's text, with bytes that are not UTF-8 replaced so that a rule can name them.
fn read_if(path: &Path) -> Result<Option<String>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("read", path)(error)),
    }
}

/// Names the contents of a series, so that a verdict on another one is known to be stale.
pub fn digest(dir: &Path) -> Result<String> {
    let list = read_if(&dir.join("series"))?.unwrap_or_default();
    let mut key = Key::new();
    for name in series::names(&list) {
        key = key.add_file(name, &dir.join(name))?;
    }
    if let Some(cover) = read_if(&dir.join(COVER))? {
        key = key.add(COVER, cover);
    }
    Ok(key.finish()[..16].to_owned())
}

/// Writes `base..tip` of `repo` into the folder: patches, `series`, cover letter, `base`.
///
/// The words of the cover letter are kept; its list and diffstat are made anew.
pub fn write(dir: &Path, repo: &Path, range: (&str, &str), source: &str) -> Result<Vec<String>> {
    let (base, tip) = range;
    fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
    let cover = read_if(&dir.join(COVER))?;
    let version = cover
        .as_deref()
        .and_then(|text| Mail::parse(COVER, text).tag)
        .map_or(1, |tag| tag.version);
    let prefix = match version {
        1 => "PATCH wireguard".to_owned(),
        n => format!("PATCH wireguard v{n}"),
    };
    for entry in fs::read_dir(dir).map_err(Error::io("read", dir))? {
        let path = entry.map_err(Error::io("read", dir))?.path();
        if path.extension().is_some_and(|e| e == "patch") {
            fs::remove_file(&path).map_err(Error::io("remove", &path))?;
        }
    }
    let made = process::run(
        git::command(repo)
            .args([
                "format-patch",
                "--zero-commit",
                "--no-signature",
                "--no-renames",
            ])
            // An invented hash in `index' would change with every refresh.
            .args([
                "--abbrev=9",
                "--numbered",
                "--no-base",
                "--no-thread",
                "--no-attach",
            ])
            .arg(format!("--subject-prefix={prefix}"))
            .arg("-o")
            .arg(dir)
            .arg(format!("{base}..{tip}")),
    )?;
    let mut names: Vec<String> = made
        .lines()
        .filter_map(|l| Path::new(l).file_name())
        .map(|n| n.to_string_lossy().into_owned())
        .collect();
    names.sort();
    if names.is_empty() {
        return Err(Error::other(format!(
            "{}: no commit between {base} and {tip}",
            repo.display()
        )));
    }
    write_file(&dir.join("series"), &(names.join("\n") + "\n"))?;
    let base_file = dir.join("base");
    write_file(
        &base_file,
        &base_text(read_if(&base_file)?.as_deref(), source),
    )?;
    let words = match cover.as_deref() {
        Some(text) => CoverWords::of(text),
        None => CoverWords::default(),
    };
    let list = process::run(git::command(repo).args([
        "shortlog",
        "--group=author",
        &format!("{base}..{tip}"),
    ]))?;
    // shortlog sorts within an author as the commits are; one author is the rule.
    let stat = process::run(git::command(repo).args([
        "diff",
        "--no-renames",
        "--stat=80",
        "--summary",
        base,
        tip,
    ]))?;
    let date = process::run(git::command(repo).args(["log", "-1", "--format=%aD", tip]))?;
    write_file(
        &dir.join(COVER),
        &format!(
            "From {zero} Mon Sep 17 00:00:00 2001\nFrom: {AUTHOR}\nDate: {date}\n{mime}Subject: [{prefix} 0/{count}] {subject}\n\n\
             {body}\n\n{list}\n{stat}\n",
            zero = "0".repeat(40),
            date = date.trim(),
            mime = if words.body.is_ascii() { "" } else { MIME },
            count = names.len(),
            subject = words.subject,
            body = words.body,
            // Not wrapped: each subject is one line here, as it is in the log.
            list = indent(&list),
            stat = stat.trim_end_matches('\n'),
        ),
    )?;
    Ok(names)
}

/// shortlog's list with the two columns of git's cover letters.
fn indent(list: &str) -> String {
    list.trim_end_matches('\n')
        .lines()
        .map(|line| match line.trim_start() {
            "" => "\n".to_owned(),
            subject if subject.len() < line.len() => format!("  {subject}\n"),
            author => format!("{author}\n"),
        })
        .collect()
}

const MIME: &str = "MIME-Version: 1.0\nContent-Type: text/plain; charset=UTF-8\n\
                    Content-Transfer-Encoding: 8bit\n";

/// What a person wrote in a cover letter, without what git made.
#[derive(Debug, PartialEq, Eq)]
pub struct CoverWords {
    pub subject: String,
    pub body: String,
}

impl Default for CoverWords {
    fn default() -> Self {
        Self {
            subject: "*** SUBJECT HERE ***".to_owned(),
            body: "*** BLURB HERE ***".to_owned(),
        }
    }
}

impl CoverWords {
    pub fn of(text: &str) -> Self {
        let mail = Mail::parse(COVER, text);
        let lines: Vec<&str> = mail.body.iter().map(|l| l.text.as_str()).collect();
        // `Name (6):` and the subjects under it, indented, are git's; so is the rest.
        let list = lines.iter().enumerate().position(|(at, line)| {
            is_author_count(line) && lines.get(at + 1).is_some_and(|next| next.starts_with("  "))
        });
        let end = list.unwrap_or(lines.len());
        Self {
            subject: mail.summary,
            body: lines[..end].join("\n").trim_end().to_owned(),
        }
    }
}

/// `wg-vrf (6):`
fn is_author_count(line: &str) -> bool {
    line.strip_suffix("):")
        .and_then(|l| l.rsplit_once(" ("))
        .is_some_and(|(name, count)| {
            !name.starts_with(' ') && !count.is_empty() && count.chars().all(|c| c.is_ascii_digit())
        })
}

/// `base` with its `source:` line made current; its comments are a person's.
fn base_text(old: Option<&str>, source: &str) -> String {
    let line = format!("source: {source}");
    let Some(old) = old else {
        return format!("# What the patches listed in `series` apply to without fuzz.\n{line}\n");
    };
    let mut lines: Vec<&str> = old.lines().collect();
    match lines.iter_mut().find(|l| l.starts_with("source:")) {
        Some(place) => *place = &line,
        None => lines.push(&line),
    }
    lines.join("\n") + "\n"
}

fn write_file(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(Error::io("write", path))
}

/// A file of kernel-patches as it was in a commit of this repository.
pub fn extract(commit: &str, tree: &str, to: &Path) -> Result<()> {
    let root = kit::repo::root();
    let prefix = format!("kernel-patches/{tree}/");
    let list = process::run(Command::new("git").arg("-C").arg(root).args([
        "ls-tree",
        "--name-only",
        commit,
        &prefix,
    ]))?;
    if list.trim().is_empty() {
        return Err(Error::other(format!("no {prefix} in `{commit}'")));
    }
    fs::create_dir_all(to).map_err(Error::io("create", to))?;
    for path in list.lines() {
        let text = process::run(
            Command::new("git")
                .arg("-C")
                .arg(root)
                .args(["show", &format!("{commit}:{path}")]),
        )?;
        let name = path.trim_start_matches(&prefix);
        write_file(&to.join(name), &text)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_a_cover_letter_survive_without_gits_part() {
        let text = "From 0 Mon Sep 17 00:00:00 2001\nFrom: a\nSubject: [PATCH wireguard 0/2] count\n pots\n\n\
            They are many:\n  one, two\n\nTested (2):\nnot a list.\n\nwg-vrf (2):\n  wireguard: a: b\n  wireguard: c: d\n\n \
            x.c | 2 +-\n 1 file changed\n\n-- \n2.47\n";
        let words = CoverWords::of(text);
        assert_eq!(words.subject, "count pots");
        assert_eq!(
            words.body,
            "They are many:\n  one, two\n\nTested (2):\nnot a list."
        );
    }

    #[test]
    fn the_base_keeps_its_comments() {
        let old = "# one\nsource: linux-source-6.1 6.1.1-1\n# two\n";
        assert_eq!(
            base_text(Some(old), "linux-source-6.1 6.1.2-1"),
            "# one\nsource: linux-source-6.1 6.1.2-1\n# two\n"
        );
        assert!(base_text(None, "a b").ends_with("source: a b\n"));
    }
}
