// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! A `git format-patch` file taken apart: headers, message, trailers, notes under `---`, hunks.
//!
//! Text in, values out; every line keeps its number so that a finding can name it. What is good
//! and bad in a patch is `rules`' business.

/// One patch or cover letter.
#[derive(Clone, Debug, Default)]
pub struct Mail {
    /// The file's name without its folder.
    pub file: String,
    pub headers: Vec<Header>,
    /// The subject's `[…]`, if it has one.
    pub tag: Option<Tag>,
    /// The subject without its tag.
    pub summary: String,
    /// The commit message without its trailers; for a cover letter everything before `-- `.
    pub body: Vec<Line>,
    pub trailers: Vec<Trailer>,
    /// Between `---` and the first diff: changelog and diffstat.
    pub notes: Vec<Line>,
    pub files: Vec<FileDiff>,
    /// What `git format-patch --base` wrote.
    pub base_commit: Option<String>,
}

#[derive(Clone, Debug)]
pub struct Header {
    pub name: String,
    /// Unfolded and decoded.
    pub value: String,
    pub line: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub no: usize,
    pub text: String,
}

#[derive(Clone, Debug)]
pub struct Trailer {
    pub no: usize,
    pub key: String,
    pub value: String,
}

/// `[PATCH wireguard v2 3/6]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    /// What is neither version nor number: `PATCH`, `wireguard`.
    pub words: Vec<String>,
    /// 1 where none is said.
    pub version: u32,
    pub number: Option<(usize, usize)>,
}

#[derive(Clone, Debug, Default)]
pub struct FileDiff {
    pub path: String,
    pub new: bool,
    pub hunks: Vec<Hunk>,
}

#[derive(Clone, Debug, Default)]
pub struct Hunk {
    /// What git puts behind the second `@@`: the function or struct that the hunk is in.
    pub heading: String,
    pub lines: Vec<DiffLine>,
}

#[derive(Clone, Debug)]
pub struct DiffLine {
    pub no: usize,
    pub kind: Kind,
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Context,
    Added,
    Removed,
}

impl Mail {
    pub fn parse(file: &str, text: &str) -> Self {
        let mut mail = Self {
            file: file.to_owned(),
            ..Self::default()
        };
        let lines: Vec<Line> = text
            .split('\n')
            .enumerate()
            .map(|(at, text)| Line {
                no: at + 1,
                text: text.to_owned(),
            })
            .collect();
        let end = lines
            .iter()
            .position(|l| l.text.is_empty())
            .unwrap_or(lines.len());
        mail.headers = headers(&lines[..end]);
        if let Some(subject) = mail.header("Subject").map(str::to_owned) {
            let (tag, summary) = split_subject(&subject);
            mail.tag = tag;
            mail.summary = summary;
        }
        let rest = lines.get(end + 1..).unwrap_or_default();
        let cover = mail.is_cover();
        let diff = rest
            .iter()
            .position(|l| l.text.starts_with("diff --git ") || (cover && l.text == "-- "))
            .unwrap_or(rest.len());
        let (message, diff) = rest.split_at(diff);
        let rule = match cover {
            true => message.len(),
            false => message
                .iter()
                .position(|l| l.text == "---")
                .unwrap_or(message.len()),
        };
        let (message, notes) = message.split_at(rule);
        mail.notes = notes.iter().skip(1).cloned().collect();
        let message = trim(message);
        let at = match cover {
            true => message.len(),
            false => trailers_start(message),
        };
        mail.body = trim(&message[..at]).to_vec();
        mail.trailers = message[at..].iter().filter_map(trailer).collect();
        mail.files = diffs(diff);
        mail.base_commit = lines
            .iter()
            .find_map(|l| l.text.strip_prefix("base-commit: "))
            .map(|commit| commit.trim().to_owned());
        mail
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|h| h.name.eq_ignore_ascii_case(name))
            .map(|h| h.value.as_str())
    }

    /// The line of the subject, for findings about it.
    pub fn subject_line(&self) -> usize {
        self.headers
            .iter()
            .find(|h| h.name.eq_ignore_ascii_case("Subject"))
            .map_or(1, |h| h.line)
    }

    pub fn is_cover(&self) -> bool {
        self.tag
            .as_ref()
            .and_then(|t| t.number)
            .is_some_and(|(at, _)| at == 0)
    }

    pub fn trailer(&self, key: &str) -> Option<&Trailer> {
        self.trailers
            .iter()
            .find(|t| t.key.eq_ignore_ascii_case(key))
    }

    /// Whether any of the files touched is at or under `path`.
    pub fn touches(&self, path: &str) -> bool {
        self.files.iter().any(|f| {
            f.path == path
                || f.path
                    .strip_prefix(path)
                    .is_some_and(|rest| rest.starts_with('/') || path.ends_with('/'))
        })
    }

    /// The lines that the patch adds, with the file that they are added to.
    pub fn added(&self) -> impl Iterator<Item = (&FileDiff, &DiffLine)> {
        self.files.iter().flat_map(|f| {
            f.hunks
                .iter()
                .flat_map(|h| &h.lines)
                .filter(|l| l.kind == Kind::Added)
                .map(move |l| (f, l))
        })
    }
}

/// Reads headers: folded lines are joined, `=?UTF-8?q?…?=` is decoded.
fn headers(lines: &[Line]) -> Vec<Header> {
    let mut headers: Vec<Header> = Vec::new();
    for line in lines {
        if line.text.starts_with([' ', '\t']) {
            if let Some(last) = headers.last_mut() {
                last.value.push(' ');
                last.value.push_str(line.text.trim());
            }
        } else if let Some((name, value)) = line.text.split_once(':')
            // The first line of the file is mbox's `From hash date`.
            && !name.contains(' ')
        {
            headers.push(Header {
                name: name.to_owned(),
                value: value.trim().to_owned(),
                line: line.no,
            });
        }
    }
    for header in &mut headers {
        header.value = decode(&header.value);
    }
    headers
}

/// RFC 2047, as far as git writes it: UTF-8 in the Q encoding.
pub fn decode(value: &str) -> String {
    let mut out = String::new();
    let mut rest = value;
    let mut after_word = false;
    while let Some(start) = rest.find("=?") {
        let (before, tail) = rest.split_at(start);
        let Some((word, next)) = encoded_word(tail) else {
            out.push_str(before);
            out.push_str("=?");
            rest = &tail[2..];
            after_word = false;
            continue;
        };
        // White space between two encoded words is only there to fold the line.
        if !(after_word && before.trim().is_empty()) {
            out.push_str(before);
        }
        out.push_str(&word);
        rest = next;
        after_word = true;
    }
    out.push_str(rest);
    out
}

fn encoded_word(text: &str) -> Option<(String, &str)> {
    let inner = text.strip_prefix("=?")?;
    let (charset, inner) = inner.split_once('?')?;
    let (encoding, inner) = inner.split_once('?')?;
    let (data, rest) = inner.split_once("?=")?;
    if !charset.eq_ignore_ascii_case("utf-8") || !encoding.eq_ignore_ascii_case("q") {
        return None;
    }
    let mut bytes = Vec::new();
    let mut data = data.bytes();
    while let Some(byte) = data.next() {
        bytes.push(match byte {
            b'_' => b' ',
            b'=' => {
                let hex = [data.next()?, data.next()?];
                u8::from_str_radix(std::str::from_utf8(&hex).ok()?, 16).ok()?
            }
            other => other,
        });
    }
    Some((String::from_utf8(bytes).ok()?, rest))
}

pub fn split_subject(subject: &str) -> (Option<Tag>, String) {
    let Some((tag, summary)) = subject
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'))
    else {
        return (None, subject.trim().to_owned());
    };
    let mut parsed = Tag {
        words: Vec::new(),
        version: 1,
        number: None,
    };
    for word in tag.split_whitespace() {
        let version = word.strip_prefix('v').and_then(|v| v.parse().ok());
        let number = word
            .split_once('/')
            .and_then(|(at, of)| Some((at.parse().ok()?, of.parse().ok()?)));
        match (version, number) {
            (Some(version), _) => parsed.version = version,
            (_, Some(number)) => parsed.number = Some(number),
            _ => parsed.words.push(word.to_owned()),
        }
    }
    (Some(parsed), summary.trim().to_owned())
}

fn trim(lines: &[Line]) -> &[Line] {
    let blank = |l: &Line| l.text.trim().is_empty();
    let start = lines.iter().position(|l| !blank(l)).unwrap_or(lines.len());
    let end = lines
        .iter()
        .rposition(|l| !blank(l))
        .map_or(start, |e| e + 1);
    &lines[start..end]
}

/// The trailers are the last paragraph, if every line of it is `Key: value`.
fn trailers_start(message: &[Line]) -> usize {
    let start = message
        .iter()
        .rposition(|l| l.text.trim().is_empty())
        .map_or(0, |at| at + 1);
    if start < message.len() && message[start..].iter().all(|l| trailer(l).is_some()) {
        start
    } else {
        message.len()
    }
}

fn trailer(line: &Line) -> Option<Trailer> {
    let (key, value) = line.text.split_once(':')?;
    let word = |c: char| c.is_ascii_alphabetic() || c == '-';
    // `wireguard: netlink: …` in a list of subjects is no trailer: those begin in upper case.
    if !key.chars().all(word) || !key.starts_with(|c: char| c.is_ascii_uppercase()) {
        return None;
    }
    Some(Trailer {
        no: line.no,
        key: key.to_owned(),
        value: value.trim().to_owned(),
    })
}

fn diffs(lines: &[Line]) -> Vec<FileDiff> {
    let mut files: Vec<FileDiff> = Vec::new();
    // Lines of old and new text that the current hunk still has.
    let mut left = (0usize, 0usize);
    for line in lines {
        let text = line.text.as_str();
        if left == (0, 0) {
            if let Some(names) = text.strip_prefix("diff --git a/") {
                let path = names.split_once(" b/").map_or(names, |(_, path)| path);
                files.push(FileDiff {
                    path: path.to_owned(),
                    ..FileDiff::default()
                });
            } else if let Some(file) = files.last_mut() {
                if text.starts_with("new file mode ") {
                    file.new = true;
                } else if let Some((counts, heading)) = hunk(text) {
                    left = counts;
                    file.hunks.push(Hunk {
                        heading,
                        lines: Vec::new(),
                    });
                }
            }
            continue;
        }
        let Some(hunk) = files.last_mut().and_then(|f| f.hunks.last_mut()) else {
            continue;
        };
        let kind = match text.as_bytes().first() {
            Some(b'+') => Kind::Added,
            Some(b'-') => Kind::Removed,
            Some(b'\\') => continue,
            _ => Kind::Context,
        };
        if kind != Kind::Added {
            left.0 = left.0.saturating_sub(1);
        }
        if kind != Kind::Removed {
            left.1 = left.1.saturating_sub(1);
        }
        hunk.lines.push(DiffLine {
            no: line.no,
            kind,
            text: text.get(1..).unwrap_or_default().to_owned(),
        });
    }
    files
}

/// `@@ -15,8 +15,18 @@ heading` → lines of old and new text, heading.
fn hunk(text: &str) -> Option<((usize, usize), String)> {
    let (ranges, heading) = text.strip_prefix("@@ -")?.split_once(" @@")?;
    let (old, new) = ranges.split_once(" +")?;
    let count = |range: &str| match range.split_once(',') {
        Some((_, count)) => count.parse().ok(),
        None => Some(1),
    };
    Some(((count(old)?, count(new)?), heading.trim().to_owned()))
}

/// `Name <user@host>` → `user@host`.
pub fn address(text: &str) -> &str {
    match (text.rfind('<'), text.rfind('>')) {
        (Some(open), Some(close)) if open < close => &text[open + 1..close],
        _ => text.trim(),
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A patch that no rule finds fault with; an invented one.
    pub const GOOD: &str = "\
From 0000000000000000000000000000000000000000 Mon Sep 17 00:00:00 2001
From: wg-vrf <noreply@example.org>
Date: Sun, 22 Nov 2026 12:53:04 +0000
Subject: [PATCH wireguard 1/1] wireguard: socket: count the teapots of a
 device

A teapot that nobody counts is lost. So count them.

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

    #[test]
    fn a_patch_comes_apart() {
        let mail = Mail::parse("0001-x.patch", GOOD);
        assert_eq!(mail.header("From"), Some("wg-vrf <noreply@example.org>"));
        assert_eq!(
            mail.summary,
            "wireguard: socket: count the teapots of a device"
        );
        let tag = mail.tag.as_ref().unwrap();
        assert_eq!(tag.words, ["PATCH", "wireguard"]);
        assert_eq!((tag.version, tag.number), (1, Some((1, 1))));
        assert_eq!(mail.body.len(), 1);
        assert_eq!(mail.body[0].no, 7);
        assert_eq!(mail.trailers.len(), 1);
        assert_eq!(mail.notes.len(), 3);
        assert_eq!(mail.files.len(), 1);
        let lines = &mail.files[0].hunks[0].lines;
        assert_eq!(lines.len(), 7);
        assert_eq!(lines[3].text, "\tstruct pot *pot = first;");
        assert_eq!(mail.added().count(), 2);
        assert!(mail.touches("drivers/net/wireguard"));
        assert!(!mail.touches("drivers/net/wire"));
    }

    #[test]
    fn a_subject_without_a_tag_and_one_with_a_version() {
        assert_eq!(split_subject("x: y"), (None, "x: y".to_owned()));
        let (tag, summary) = split_subject("[PATCH net-next v12 03/10] a: b");
        let tag = tag.unwrap();
        assert_eq!(tag.words, ["PATCH", "net-next"]);
        assert_eq!((tag.version, tag.number), (12, Some((3, 10))));
        assert_eq!(summary, "a: b");
    }

    #[test]
    fn encoded_words_are_joined() {
        assert_eq!(
            decode("=?UTF-8?q?Daniel=20Gr=C3=B6?= =?UTF-8?q?ber?= <a@b>"),
            "Daniel Gröber <a@b>"
        );
        assert_eq!(
            decode("a =?b and =?UTF-8?q?=4?="),
            "a =?b and =?UTF-8?q?=4?="
        );
    }

    #[test]
    fn a_last_paragraph_of_prose_is_no_trailers() {
        let text = GOOD.replace("Assisted-by: LLM", "Note: this\nis prose.");
        let mail = Mail::parse("x", &text);
        assert!(mail.trailers.is_empty());
        assert_eq!(mail.body.len(), 4);
    }
}
