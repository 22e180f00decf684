// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Rules about subject, message and trailers of each mail.

use std::collections::BTreeMap;

use super::{Purpose, Set};
use crate::patches::finding::Finding;
use crate::patches::mail::{Mail, Trailer, address};

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

/// The longest line of a message, and of a summary.
const WIDTH: usize = 75;

/// `[PATCH wireguard vN x/y] wireguard: area: lower-case …`
pub fn subject_form(set: &Set) -> Vec<Finding> {
    let mut found = Vec::new();
    for mail in set.mails() {
        let line = mail.subject_line();
        if mail.header("Subject").is_none() {
            found.push(set.at(mail, 1, "no Subject").repair(set.refresh()));
            continue;
        }
        let words = mail.tag.as_ref().map(|t| t.words.join(" "));
        if !matches!(
            words.as_deref(),
            Some(
                "PATCH wireguard"
                    | "PATCH net-next"
                    | "RFC wireguard"
                    | "RFC net-next"
                    | "PATCH RFC wireguard"
                    | "PATCH RFC net-next"
                    | "RFC PATCH wireguard"
                    | "RFC PATCH net-next"
            )
        ) {
            let what = format!(
                "tag is `[{}]', want `[PATCH wireguard vN x/y]'",
                words.unwrap_or_default()
            );
            found.push(set.at(mail, line, what).repair(set.refresh()));
        }
        // Of a cover letter only the tag is given.
        if mail.is_cover() {
            continue;
        }
        if let Err(what) = area_and_summary(&mail.summary) {
            found.push(set.at(mail, line, what).repair(set.reword()));
        }
    }
    found
}

fn area_and_summary(subject: &str) -> Result<&str, String> {
    let mut parts = subject.splitn(3, ": ");
    let (prefix, area, rest) = (parts.next(), parts.next(), parts.next());
    let (Some("wireguard"), Some(area), Some(rest)) = (prefix, area, rest) else {
        return Err(format!(
            "`{subject}' is not `wireguard: <area>: <lower-case imperative>'"
        ));
    };
    if !AREAS.contains(&area) {
        return Err(format!("area `{area}' is none of {}", AREAS.join(", ")));
    }
    if !rest.starts_with(|c: char| c.is_lowercase()) {
        return Err(format!("`{rest}' does not begin in lower case"));
    }
    if rest.ends_with('.') {
        return Err(format!("`{rest}' ends in a full stop"));
    }
    Ok(rest)
}

pub fn subject_length(set: &Set) -> Vec<Finding> {
    let long = |mail: &&Mail| mail.summary.chars().count() > WIDTH;
    set.mails()
        .filter(long)
        .map(|mail| {
            let length = mail.summary.chars().count();
            set.at(
                mail,
                mail.subject_line(),
                format!("summary has {length} characters, at most {WIDTH}"),
            )
            .repair(set.reword())
        })
        .collect()
}

pub fn subject_unique(set: &Set) -> Vec<Finding> {
    let mut seen = BTreeMap::new();
    let mut found = Vec::new();
    for mail in &set.patches {
        if let Some(first) = seen.insert(mail.summary.as_str(), &mail.file) {
            let what = format!("`{}' is also the summary of {first}", mail.summary);
            found.push(set.at(mail, mail.subject_line(), what).repair(set.reword()));
        }
    }
    found
}

/// "Describe your changes in imperative mood": guessed from the first word.
pub fn subject_imperative(set: &Set) -> Vec<Finding> {
    let mut found = Vec::new();
    for mail in &set.patches {
        let Ok(rest) = area_and_summary(&mail.summary) else {
            continue;
        };
        let word = rest.split_whitespace().next().unwrap_or_default();
        if !imperative(word) {
            let what = format!("`{word}' is not the imperative");
            found.push(set.at(mail, mail.subject_line(), what).repair(set.reword()));
        }
    }
    found
}

fn imperative(word: &str) -> bool {
    const SURE: &[&str] = &[
        "access", "address", "bring", "bus", "bypass", "cross", "discuss", "embed", "express",
        "feed", "focus", "need", "pass", "ping", "press", "process", "seed", "shed", "speed",
        "string", "suppress", "swing", "toss", "compress", "miss", "exceed", "proceed", "succeed",
    ];
    const NOUNS: &[&str] = &["new", "the", "a", "an", "some", "this"];
    if SURE.contains(&word) {
        return true;
    }
    if NOUNS.contains(&word) {
        return false;
    }
    !(word.ends_with("ed")
        || word.ends_with("ing")
        || (word.ends_with('s') && !word.ends_with("ss")))
}

pub fn body_present(set: &Set) -> Vec<Finding> {
    set.mails()
        .filter(|m| m.body.is_empty())
        .map(|m| {
            set.at(m, m.subject_line(), "no message under the subject")
                .repair(set.reword())
        })
        .collect()
}

pub fn body_wrap(set: &Set) -> Vec<Finding> {
    let mut found = Vec::new();
    for mail in set.mails() {
        for line in &mail.body {
            let length = line.text.chars().count();
            if length > WIDTH && !may_be_long(&line.text) {
                let what = format!("line has {length} characters, at most {WIDTH}");
                found.push(set.at(mail, line.no, what).repair(set.reword()));
            }
        }
    }
    found
}

/// Output, code and quotations are indented; links cannot be broken; tags must not be.
fn may_be_long(line: &str) -> bool {
    line.starts_with([' ', '\t', '>', '|'])
        || line.contains("https://")
        || line.starts_with("Fixes: ")
        || line.starts_with("base-commit: ")
}

/// A mail with more than ASCII in it must say that it is UTF-8.
pub fn encoding(set: &Set) -> Vec<Finding> {
    let mut found = Vec::new();
    for mail in set.mails() {
        let lines = mail
            .body
            .iter()
            .chain(&mail.notes)
            .map(|l| (l.no, l.text.as_str()))
            .chain(mail.trailers.iter().map(|t| (t.no, t.value.as_str())))
            .chain(
                mail.files
                    .iter()
                    .flat_map(|f| f.hunks.iter().flat_map(|h| &h.lines))
                    .map(|l| (l.no, l.text.as_str())),
            );
        let declared = mail
            .header("Content-Type")
            .is_some_and(|t| t.to_ascii_lowercase().contains("utf-8"));
        for (no, text) in lines {
            if text.contains('\u{fffd}') {
                found.push(set.at(mail, no, "bytes that are not UTF-8"));
            } else if !text.is_ascii() && !declared {
                found.push(
                    set.at(mail, no, "not ASCII, and no Content-Type header says UTF-8")
                        .repair(set.refresh()),
                );
                break;
            }
        }
    }
    found
}

/// `Fixes: 0123456789ab ("subject")`
pub fn fixes_form(set: &Set) -> Vec<Finding> {
    each_trailer(set, "Fixes", |trailer| {
        let (hash, rest) = trailer
            .value
            .split_once(' ')
            .unwrap_or((&trailer.value, ""));
        let hex = hash.len() >= 12 && hash.chars().all(|c| c.is_ascii_hexdigit());
        let subject = rest.starts_with("(\"") && rest.ends_with("\")") && rest.len() > 4;
        if hex && subject {
            return None;
        }
        let what = format!("`{}' is not `<12 digits> (\"subject\")'", trailer.value);
        let hash = if hex { hash } else { "COMMIT" };
        Some((
            what,
            format!("git log -1 --abbrev=12 --format='Fixes: %h (\"%s\")' {hash}"),
        ))
    })
}

pub fn fixes_on_feature(set: &Set) -> Vec<Finding> {
    each_of(
        set,
        is_feature,
        "Fixes",
        |_| true,
        "a feature carries Fixes",
    )
}

pub fn stable_on_feature(set: &Set) -> Vec<Finding> {
    each_of(
        set,
        is_feature,
        "Cc",
        |t| address(&t.value).starts_with("stable@"),
        "a feature is copied to stable",
    )
}

/// Adds user space API, a file, or says so.
fn is_feature(mail: &Mail) -> bool {
    let verb = area_and_summary(&mail.summary)
        .ok()
        .and_then(|rest| rest.split_whitespace().next());
    mail.touches("include/uapi")
        || mail.touches("Documentation/netlink/specs")
        || matches!(
            verb,
            Some("add" | "support" | "allow" | "introduce" | "implement")
        )
}

/// A person signs off, at the time of sending; nobody does here.
pub fn sign_off(set: &Set) -> Vec<Finding> {
    let mut found = Vec::new();
    for mail in &set.patches {
        let last = mail
            .trailers
            .iter()
            .rfind(|t| t.key.eq_ignore_ascii_case("Signed-off-by"));
        match (&set.purpose, last) {
            (Purpose::Kept, Some(trailer)) => found.push(
                set.at(
                    mail,
                    trailer.no,
                    "Signed-off-by is added by the person who sends, not kept",
                )
                .repair(set.reword()),
            ),
            (Purpose::Posted { sender }, None) => found.push(set.at(
                mail,
                mail.subject_line(),
                format!("no Signed-off-by of {sender}"),
            )),
            (Purpose::Posted { sender }, Some(trailer))
                if address(&trailer.value) != address(sender) =>
            {
                found.push(set.at(
                    mail,
                    trailer.no,
                    format!("the last Signed-off-by is not the sender's, {sender}"),
                ));
            }
            _ => {}
        }
    }
    found
}

pub fn assisted_by(set: &Set) -> Vec<Finding> {
    let mut found = Vec::new();
    for mail in &set.patches {
        let repair = format!(
            "{}: git commit --amend --trailer 'Assisted-by: LLM'",
            set.reword()
        );
        match mail.trailer("Assisted-by") {
            None => found.push(
                set.at(mail, mail.subject_line(), "no Assisted-by")
                    .repair(repair),
            ),
            Some(trailer) if trailer.value.is_empty() => {
                found.push(
                    set.at(mail, trailer.no, "Assisted-by is empty")
                        .repair(repair),
                );
            }
            Some(_) => {}
        }
    }
    found
}

/// Tags that only the person they name can give, and that were not given to this code.
pub fn borrowed_tag(set: &Set) -> Vec<Finding> {
    let mut found = Vec::new();
    for key in ["Reviewed-by", "Acked-by", "Tested-by", "Co-developed-by"] {
        found.extend(each_trailer(set, key, |trailer| {
            Some((
                format!(
                    "{key}: {} cannot be given by this repository",
                    trailer.value
                ),
                "take it out; the sender adds what was given on the list".to_owned(),
            ))
        }));
    }
    if matches!(set.purpose, Purpose::Posted { .. }) {
        found.clear();
    }
    found
}

fn each_trailer(
    set: &Set,
    key: &str,
    check: impl Fn(&Trailer) -> Option<(String, String)>,
) -> Vec<Finding> {
    let mut found = Vec::new();
    for mail in &set.patches {
        for trailer in mail
            .trailers
            .iter()
            .filter(|t| t.key.eq_ignore_ascii_case(key))
        {
            if let Some((what, repair)) = check(trailer) {
                found.push(set.at(mail, trailer.no, what).repair(repair));
            }
        }
    }
    found
}

fn each_of(
    set: &Set,
    mail: impl Fn(&Mail) -> bool,
    key: &str,
    which: impl Fn(&Trailer) -> bool,
    what: &str,
) -> Vec<Finding> {
    let mut found = Vec::new();
    for mail in set.patches.iter().filter(|m| mail(m)) {
        for trailer in &mail.trailers {
            if trailer.key.eq_ignore_ascii_case(key) && which(trailer) {
                let what = format!("{what}: `{}: {}'", trailer.key, trailer.value);
                found.push(set.at(mail, trailer.no, what).repair(set.reword()));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::tests::{bad, fails, mail, set};
    use super::*;
    use crate::patches::mail::tests::GOOD;
    use crate::patches::rules::only;

    const SUBJECT: &str = "wireguard: socket: count the teapots of a\n device";
    const TRAILER: &str = "Assisted-by: LLM";

    #[test]
    fn subject_form() {
        for (from, to, says) in [
            ("[PATCH wireguard 1/1]", "[PATCH 1/1]", "tag is `[PATCH]'"),
            ("[PATCH wireguard 1/1] ", "", "tag is `[]'"),
            (
                "wireguard: socket: ",
                "wireguard: ",
                "is not `wireguard: <area>",
            ),
            (
                "wireguard: socket: ",
                "wireguard: kettle: ",
                "area `kettle'",
            ),
            ("count the", "Count the", "lower case"),
            ("a\n device", "pot.", "full stop"),
        ] {
            fails("subject-form", &bad(from, to), says);
        }
        let net_next = bad("PATCH wireguard", "PATCH net-next");
        assert!(only("subject-form", &net_next).is_empty());
    }

    #[test]
    fn subject_length() {
        let long = format!("{SUBJECT} that came from a shelf in the kitchen");
        fails("subject-length", &bad(SUBJECT, &long), "at most 75");
    }

    #[test]
    fn subject_unique() {
        let twice = set(|s| s.patches.push(mail(GOOD)));
        fails("subject-unique", &twice, "is also the summary of");
    }

    #[test]
    fn subject_imperative() {
        for word in ["counts", "counted", "counting", "new"] {
            let set = bad("socket: count the", &format!("socket: {word} the"));
            fails("subject-imperative", &set, word);
        }
        for word in ["pass", "bring", "need", "add", "process", "address"] {
            assert!(imperative(word), "{word}");
        }
    }

    #[test]
    fn body() {
        let text = "A teapot that nobody counts is lost. So count them.\n\n";
        fails("body", &bad(text, ""), "no message");
    }

    #[test]
    fn body_wrap() {
        let text = "A teapot that nobody counts is lost.";
        let long = format!("{text} It is, and will be, and it has always been lost to us.");
        fails("body-wrap", &bad(text, &long), "at most 75");
        let output = format!("    {long}");
        assert!(only("body-wrap", &bad(text, &output)).is_empty());
        let link = format!("{text} https://lore.kernel.org/{}", "x".repeat(60));
        assert!(only("body-wrap", &bad(text, &link)).is_empty());
    }

    #[test]
    fn encoding() {
        fails("encoding", &bad("A teapot", "A téapot"), "no Content-Type");
        fails("encoding", &bad("A teapot", "A t\u{fffd}apot"), "not UTF-8");
        let declared = GOOD.replace("A teapot", "A téapot").replace(
            "Subject:",
            "Content-Type: text/plain; charset=UTF-8\nSubject:",
        );
        assert!(only("encoding", &set(|s| s.patches = vec![mail(&declared)])).is_empty());
    }

    #[test]
    fn fixes_form() {
        for value in [
            "0123456789a (\"x: y\")",
            "0123456789ab",
            "0123456789ab (x: y)",
            "teapot789abc (\"x: y\")",
        ] {
            let set = bad(TRAILER, &format!("Fixes: {value}\n{TRAILER}"));
            fails("fixes-form", &set, "12 digits");
        }
        let fine = bad(
            TRAILER,
            &format!("Fixes: 0123456789ab (\"x: y\")\n{TRAILER}"),
        );
        assert!(only("fixes-form", &fine).is_empty());
        assert!(only("fixes-on-feature", &fine).is_empty());
    }

    #[test]
    fn fixes_on_feature() {
        let text = GOOD
            .replace("count the", "add the")
            .replace(TRAILER, "Fixes: 0123456789ab (\"x: y\")\nAssisted-by: LLM");
        let feature = set(|s| s.patches = vec![mail(&text)]);
        fails("fixes-on-feature", &feature, "feature carries Fixes");
        let text = GOOD
            .replace(
                "drivers/net/wireguard/teapot.c",
                "include/uapi/linux/teapot.h",
            )
            .replace(TRAILER, "Fixes: 0123456789ab (\"x: y\")\nAssisted-by: LLM");
        let uapi = set(|s| s.patches = vec![mail(&text)]);
        fails("fixes-on-feature", &uapi, "feature carries Fixes");
    }

    #[test]
    fn stable_on_feature() {
        let text = GOOD
            .replace("count the", "add the")
            .replace(TRAILER, "Cc: stable@vger.kernel.org\nAssisted-by: LLM");
        let feature = set(|s| s.patches = vec![mail(&text)]);
        fails("stable-on-feature", &feature, "copied to stable");
    }

    #[test]
    fn sign_off() {
        let signed = format!("{TRAILER}\nSigned-off-by: Ada <ada@pots.test>");
        fails("sign-off", &bad(TRAILER, &signed), "not kept");
        let posted = |text: &str| {
            let mut set = bad(TRAILER, text);
            set.purpose = Purpose::Posted {
                sender: "Ada <ada@pots.test>".to_owned(),
            };
            set
        };
        fails("sign-off", &posted(TRAILER), "no Signed-off-by of Ada");
        let later = format!("{signed}\nSigned-off-by: Bob <bob@pots.test>");
        fails("sign-off", &posted(&later), "is not the sender's");
        assert!(only("sign-off", &posted(&signed)).is_empty());
    }

    #[test]
    fn assisted_by() {
        fails(
            "assisted-by",
            &bad(TRAILER, "Link: https://x.test"),
            "no Assisted-by",
        );
        fails("assisted-by", &bad(TRAILER, "Assisted-by:"), "is empty");
    }

    #[test]
    fn borrowed_tag() {
        let tagged = bad(TRAILER, &format!("Reviewed-by: B <b@pots.test>\n{TRAILER}"));
        fails("borrowed-tag", &tagged, "cannot be given");
    }
}
