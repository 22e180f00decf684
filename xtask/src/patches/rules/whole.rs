// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Rules about a series as a whole: its files, its numbers, its cover letter, what belongs together.

use std::collections::BTreeSet;

use super::{Purpose, Set};
use crate::patches::finding::Finding;
use crate::patches::mail::{Mail, address};
use vm_tests::kernel::series::{self, COVER};

/// netdev takes at most 15; more than this of ours would not be reviewed.
const NETDEV_MOST: usize = 15;
const OUR_MOST: usize = 8;

const UAPI: &str = "include/uapi";
const SELFTESTS: &str = "tools/testing/selftests";
const SPECIFICATION: &str = "Documentation/netlink/specs";

/// The `series` file names each patch once, and each patch is there.
pub fn series_files(set: &Set) -> Vec<Finding> {
    let Some(list) = &set.series else {
        return Vec::new();
    };
    let file = set.path("series");
    let names = series::names(list);
    let mut found = Vec::new();
    if names.is_empty() {
        found.push(Finding::new(&file, 0, "names no patch").repair(set.refresh()));
    }
    let mut seen = BTreeSet::new();
    for name in &names {
        if !seen.insert(*name) {
            let what = format!("names {name} twice");
            found.push(Finding::new(&file, 0, what).repair(set.refresh()));
        }
        if !set.files.iter().any(|f| f == name) {
            let what = format!("names {name}, which is not there");
            let repair = format!("sed -i '/^{name}$/d' kernel-patches/{file}");
            found.push(Finding::new(&file, 0, what).repair(repair));
        }
    }
    for name in &set.files {
        if name != COVER && !seen.contains(name.as_str()) {
            let what = format!("does not name {name}");
            let repair = format!("echo {name} >> kernel-patches/{file}");
            found.push(Finding::new(&file, 0, what).repair(repair));
        }
    }
    if !names.is_sorted() {
        found.push(
            Finding::new(&file, 0, "is not in the order of the numbers").repair(set.refresh()),
        );
    }
    found
}

pub fn series_size(set: &Set) -> Vec<Finding> {
    let count = set.patches.len();
    let what = if count > NETDEV_MOST {
        format!("{count} patches; netdev takes at most {NETDEV_MOST}")
    } else if count > OUR_MOST {
        format!("{count} patches; this project keeps to {OUR_MOST}")
    } else {
        return Vec::new();
    };
    vec![Finding::new(&set.name, 0, what).repair("fold or post in parts")]
}

/// 0001-… is 1/N, and so on without a gap.
pub fn numbering(set: &Set) -> Vec<Finding> {
    let total = set.patches.len();
    let mut found = Vec::new();
    for (at, mail) in set.patches.iter().enumerate() {
        let want = at + 1;
        // An exported file is v2-0001-….
        let digits = mail
            .file
            .split('-')
            .find(|part| part.len() == 4)
            .and_then(|d| d.parse::<usize>().ok());
        if digits != Some(want) {
            let what = format!("is patch {want} of the series");
            found.push(set.at(mail, 0, what).repair(set.refresh()));
        }
        let number = mail.tag.as_ref().and_then(|t| t.number);
        let alone = total == 1 && number.is_none();
        if number != Some((want, total)) && !alone {
            let said = number.map_or("no number".to_owned(), |(x, y)| format!("{x}/{y}"));
            let what = format!("subject says {said}, want {want}/{total}");
            found.push(
                set.at(mail, mail.subject_line(), what)
                    .repair(set.refresh()),
            );
        }
    }
    if let Some(cover) = &set.cover {
        let number = cover.tag.as_ref().and_then(|t| t.number);
        if number != Some((0, total)) {
            let what = format!("subject does not say 0/{total}");
            found.push(
                set.at(cover, cover.subject_line(), what)
                    .repair(set.refresh()),
            );
        }
    }
    found
}

/// Tree and version are the same in every subject.
pub fn same_tag(set: &Set) -> Vec<Finding> {
    let Some(first) = set.mails().next() else {
        return Vec::new();
    };
    let key = |mail: &Mail| mail.tag.as_ref().map(|t| (t.words.clone(), t.version));
    set.mails()
        .filter(|mail| key(mail) != key(first))
        .map(|mail| {
            let what = format!("tag differs from that of {}", first.file);
            set.at(mail, mail.subject_line(), what)
                .repair(set.refresh())
        })
        .collect()
}

pub fn cover_letter(set: &Set) -> Vec<Finding> {
    match &set.cover {
        None if set.patches.len() >= 3 => {
            let what = format!("no cover letter with {} patches", set.patches.len());
            vec![
                Finding::new(&set.name, 0, what)
                    .repair(format!("write kernel-patches/{}/{COVER}", set.name)),
            ]
        }
        Some(cover) => {
            let left = cover.body.iter().find(|l| l.text.contains("*** "));
            let placeholder = cover.summary.contains("*** ").then(|| cover.subject_line());
            left.map(|l| l.no)
                .or(placeholder)
                .map(|no| set.at(cover, no, "a placeholder of git format-patch is left"))
                .into_iter()
                .collect()
        }
        None => Vec::new(),
    }
}

/// The cover letter lists the patches as they are now.
pub fn cover_list(set: &Set) -> Vec<Finding> {
    let Some(cover) = &set.cover else {
        return Vec::new();
    };
    // git wraps long subjects in the list.
    let squeeze = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let lines: Vec<_> = cover.body.iter().map(|l| l.text.as_str()).collect();
    let text = squeeze(&lines.join(" "));
    set.patches
        .iter()
        .filter(|mail| !text.contains(&squeeze(&mail.summary)))
        .map(|mail| {
            let what = format!("does not list `{}'", mail.summary);
            set.at(cover, 0, what).repair(set.refresh())
        })
        .collect()
}

/// From the second version on: what changed, and a link to every earlier one.
pub fn changelog(set: &Set) -> Vec<Finding> {
    let version = set.version();
    if version < 2 {
        return Vec::new();
    }
    let Some(mail) = set.cover.as_ref().or(set.patches.first()) else {
        return Vec::new();
    };
    let lines: Vec<&str> = match mail.is_cover() {
        true => mail.body.iter().map(|l| l.text.trim()).collect(),
        // Under `---`, so that it does not become part of the commit.
        false => mail.notes.iter().map(|l| l.text.trim()).collect(),
    };
    let place = match mail.is_cover() {
        true => "in the cover letter",
        false => "under `---'",
    };
    let mut found = Vec::new();
    let heading = |line: &&str| {
        let line = line.to_lowercase();
        let word = |w: &str| {
            line.split(|c: char| !c.is_alphanumeric())
                .any(|part| part == w)
        };
        let starts = line.starts_with("changes") || line.starts_with('v');
        starts && (word(&format!("v{version}")) || word(&format!("v{}", version - 1)))
    };
    if !lines.iter().any(heading) {
        let what = format!("v{version} without a changelog {place}");
        found.push(
            set.at(mail, 0, what)
                .repair(format!("add `Changes in v{version}:'")),
        );
    }
    for earlier in 1..version {
        let word = format!("v{earlier}");
        let named = |line: &str| {
            line.split(|c: char| !c.is_alphanumeric())
                .any(|part| part == word)
        };
        let link = |line: &str| line.contains("https://lore.kernel.org/");
        let linked = lines.iter().enumerate().any(|(at, line)| {
            named(line) && (link(line) || lines.get(at + 1).is_some_and(|next| link(next)))
        });
        if !linked {
            let what = format!("no link to v{earlier} {place}");
            let repair = format!(
                "add `v{earlier}: https://lore.kernel.org/…', also to kernel-patches/status.toml"
            );
            found.push(set.at(mail, 0, what).repair(repair));
        }
    }
    found
}

/// What the series applies to.
pub fn base(set: &Set) -> Vec<Finding> {
    match &set.purpose {
        Purpose::Kept => {
            let line = set.base.as_deref().and_then(source_line);
            match line {
                Some(_) => Vec::new(),
                None => vec![
                    Finding::new(set.path("base"), 0, "no line `source: PACKAGE VERSION'")
                        .repair(set.refresh()),
                ],
            }
        }
        Purpose::Posted { .. } => {
            let commit = set.mails().find_map(|m| m.base_commit.as_deref());
            let fine =
                commit.is_some_and(|c| c.len() >= 40 && c.chars().all(|c| c.is_ascii_hexdigit()));
            match fine {
                true => Vec::new(),
                false => vec![
                    Finding::new(&set.name, 0, "no base-commit")
                        .repair("git format-patch --base=COMMIT"),
                ],
            }
        }
    }
}

/// Package and version that `base` names.
pub fn source_line(base: &str) -> Option<(&str, &str)> {
    let rest = base.lines().find_map(|l| l.strip_prefix("source:"))?;
    let mut words = rest.split_whitespace();
    Some((words.next()?, words.next()?))
}

/// The list of people beyond get_maintainer.pl's.
pub fn recipients(set: &Set) -> Vec<Finding> {
    const FILE: &str = "trees.toml";
    let mut found = Vec::new();
    if set.recipients.is_empty() {
        found.push(Finding::new(FILE, 0, "no [[recipient]]"));
    }
    let mut seen = BTreeSet::new();
    for (who, reason) in &set.recipients {
        let mail = address(who);
        let valid = mail
            .split_once('@')
            .is_some_and(|(user, host)| !user.is_empty() && host.contains('.'))
            && !mail.contains(char::is_whitespace);
        if !valid {
            found.push(Finding::new(FILE, 0, format!("`{who}' is no address")));
        }
        if !seen.insert(mail.to_lowercase()) {
            found.push(Finding::new(FILE, 0, format!("`{who}' is there twice")));
        }
        if reason.trim().is_empty() {
            found.push(Finding::new(
                FILE,
                0,
                format!("no reason why `{who}' gets it"),
            ));
        }
    }
    found
        .into_iter()
        .map(|f| f.repair("edit kernel-patches/trees.toml"))
        .collect()
}

/// "Co-posting selftests": the tests of a new interface come with it.
pub fn selftest_with_series(set: &Set) -> Vec<Finding> {
    let adds = set.patches.iter().find(|m| m.touches(UAPI));
    match adds {
        Some(mail) if set.reference && !set.patches.iter().any(|m| m.touches(SELFTESTS)) => {
            let what = format!("changes {UAPI}, and no patch of the series touches {SELFTESTS}");
            vec![set.at(mail, 0, what).repair("add a selftest to the series")]
        }
        _ => Vec::new(),
    }
}

/// … in a commit of their own.
pub fn selftest_apart(set: &Set) -> Vec<Finding> {
    set.patches
        .iter()
        .filter(|m| m.touches(SELFTESTS) && m.files.iter().any(|f| !f.path.starts_with(SELFTESTS)))
        .map(|m| {
            set.at(m, 0, format!("touches {SELFTESTS} and other files"))
                .repair(format!("split it: {}", set.reword()))
        })
        .collect()
}

/// WireGuard's header is generated from the specification since 6.19.
pub fn specification(set: &Set) -> Vec<Finding> {
    set.patches
        .iter()
        .filter(|m| set.reference && m.touches("include/uapi/linux/wireguard.h"))
        .filter(|m| !m.touches(SPECIFICATION))
        .map(|m| {
            set.at(
                m,
                0,
                "changes the generated uapi header and not the specification",
            )
            .repair(format!(
                "edit {SPECIFICATION}/wireguard.yaml, tools/net/ynl/ynl-regen.sh -f"
            ))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{bad, fails, mail, set};
    use super::*;
    use crate::patches::mail::tests::GOOD;
    use crate::patches::rules::only;

    fn cover(text: &str) -> Mail {
        Mail::parse(COVER, text)
    }

    const COVER_TEXT: &str = "\
From 0000000000000000000000000000000000000000 Mon Sep 17 00:00:00 2001
From: wg-vrf <noreply@example.org>
Subject: [PATCH wireguard 0/1] count teapots

They are many.

wg-vrf (1):
  wireguard: socket: count the teapots of a
    device

 drivers/net/wireguard/teapot.c | 5 +++--
 1 file changed, 3 insertions(+), 2 deletions(-)

-- 
2.47.0
";

    #[test]
    fn series_files() {
        let with = |series: &str, files: &[&str]| {
            set(|s| {
                s.series = Some(series.to_owned());
                s.files = files.iter().map(|f| (*f).to_owned()).collect();
            })
        };
        fails("series-files", &with("", &[]), "names no patch");
        fails("series-files", &with("0001-a\n", &[]), "which is not there");
        fails(
            "series-files",
            &with("0001-a\n", &["0001-a", "0002-b"]),
            "does not name 0002-b",
        );
        fails(
            "series-files",
            &with("0001-a\n0001-a\n", &["0001-a"]),
            "twice",
        );
        let turned = with("0002-b\n0001-a\n", &["0001-a", "0002-b"]);
        fails("series-files", &turned, "order of the numbers");
    }

    #[test]
    fn series_size() {
        let many = |n| set(|s| s.patches = vec![mail(GOOD); n]);
        assert!(only("series-size", &many(8)).is_empty());
        fails("series-size", &many(9), "keeps to 8");
        fails("series-size", &many(16), "at most 15");
    }

    #[test]
    fn numbering() {
        fails("numbering", &bad("1/1]", "2/2]"), "says 2/2, want 1/1");
        let renamed = set(|s| s.patches[0].file = "0002-teapot.patch".to_owned());
        fails("numbering", &renamed, "is patch 1");
        let text = COVER_TEXT.replace("0/1]", "0/3]");
        let wrong = set(|s| s.cover = Some(cover(&text)));
        fails("numbering", &wrong, "does not say 0/1");
        let exported = set(|s| s.patches[0].file = "v2-0001-teapot.patch".to_owned());
        assert!(only("numbering", &exported).is_empty());
    }

    #[test]
    fn same_tag() {
        let text = COVER_TEXT.replace("PATCH wireguard 0", "PATCH wireguard v2 0");
        let set = set(|s| s.cover = Some(cover(&text)));
        fails("same-tag", &set, "differs from that of 0000");
    }

    #[test]
    fn cover_letter() {
        let three = set(|s| s.patches = vec![mail(GOOD); 3]);
        fails("cover-letter", &three, "no cover letter with 3");
        let text = COVER_TEXT.replace("They are many.", "*** BLURB HERE ***");
        let blank = set(|s| s.cover = Some(cover(&text)));
        fails("cover-letter", &blank, "placeholder");
    }

    #[test]
    fn cover_list() {
        let good = set(|s| s.cover = Some(cover(COVER_TEXT)));
        assert!(only("cover-list", &good).is_empty());
        let text = COVER_TEXT.replace("count the", "hide the");
        let stale = set(|s| s.cover = Some(cover(&text)));
        fails(
            "cover-list",
            &stale,
            "does not list `wireguard: socket: count",
        );
    }

    #[test]
    fn changelog() {
        let second = |notes: &str| {
            let text = GOOD
                .replace("PATCH wireguard 1", "PATCH wireguard v2 1")
                .replace("---\n drivers", &format!("---\n{notes}\n drivers"));
            set(|s| s.patches = vec![mail(&text)])
        };
        fails("changelog", &second(""), "without a changelog under `---'");
        fails(
            "changelog",
            &second("Changes in v2:\n - more"),
            "no link to v1",
        );
        let other = "Changes in v2:\n - more\nv1: https://example.test/x";
        fails("changelog", &second(other), "no link to v1");
        let good = "Changes in v2:\n - more\nv1: https://lore.kernel.org/r/x";
        assert!(only("changelog", &second(good)).is_empty());
        let text = COVER_TEXT.replace("wireguard 0", "wireguard v3 0").replace(
            "They are many.",
            "v2 -> v3: more\nv2: https://lore.kernel.org/r/y",
        );
        let third = set(|s| s.cover = Some(cover(&text)));
        fails("changelog", &third, "no link to v1 in the cover letter");
    }

    #[test]
    fn base() {
        fails("base", &set(|s| s.base = None), "no line `source:");
        fails(
            "base",
            &set(|s| s.base = Some("source: x\n".to_owned())),
            "no line",
        );
        let posted = |text: &str| {
            set(|s| {
                s.purpose = Purpose::Posted {
                    sender: "A <a@b.test>".to_owned(),
                };
                s.patches = vec![mail(text)];
            })
        };
        fails("base", &posted(GOOD), "no base-commit");
        let with = format!("{GOOD}\nbase-commit: {}\n", "0123456789".repeat(4));
        assert!(only("base", &posted(&with)).is_empty());
    }

    #[test]
    fn recipients() {
        let with = |list: &[(&str, &str)]| {
            set(|s| {
                s.recipients = list
                    .iter()
                    .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
                    .collect();
            })
        };
        fails("recipients", &with(&[]), "no [[recipient]]");
        fails("recipients", &with(&[("A <a>", "x")]), "no address");
        fails("recipients", &with(&[("A <a@b.c>", "")]), "no reason");
        fails(
            "recipients",
            &with(&[("a@b.c", "x"), ("A <A@b.c>", "x")]),
            "twice",
        );
    }

    fn touching(paths: &[&str]) -> Set {
        set(|s| {
            s.reference = true;
            s.patches = paths
                .iter()
                .map(|p| mail(&GOOD.replace("drivers/net/wireguard/teapot.c", p)))
                .collect();
        })
    }

    #[test]
    fn selftest_with_series() {
        let alone = touching(&["include/uapi/linux/teapot.h"]);
        fails(
            "selftest-with-series",
            &alone,
            "no patch of the series touches",
        );
        let both = touching(&[
            "include/uapi/linux/teapot.h",
            "tools/testing/selftests/x.sh",
        ]);
        assert!(only("selftest-with-series", &both).is_empty());
    }

    #[test]
    fn selftest_apart() {
        let mut mixed = touching(&["tools/testing/selftests/x.sh"]);
        let mut other = mixed.patches[0].files[0].clone();
        other.path = "drivers/net/wireguard/teapot.c".to_owned();
        mixed.patches[0].files.push(other);
        fails("selftest-apart", &mixed, "and other files");
    }

    #[test]
    fn specification() {
        let hand = touching(&["include/uapi/linux/wireguard.h"]);
        fails("specification", &hand, "not the specification");
    }
}
