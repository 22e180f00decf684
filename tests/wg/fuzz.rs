// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! `--fuzz COUNT [SEED]`: mutations of the corpus, both tools, any difference printed.
//!
//! A difference that is meant is recognised by [`explained`], with its reason; the run counts
//! these. The same seed gives the same mutations.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::time::Instant;

use crate::corpus;
use crate::golden;
use crate::sandbox;
use crate::tool::{self, Case, DIR};

/// xorshift64*: small, and the same everywhere.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn pick_below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() >> 33).unwrap_or(0) % end.max(1)
    }

    fn pick_from<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.pick_below(from.len())]
    }
}

pub fn main(args: &[String]) -> ExitCode {
    let Some(reference) = tool::reference() else {
        eprintln!("--fuzz needs WG_REFERENCE, see tests/golden/README.md");
        return ExitCode::FAILURE;
    };
    if let Err(reason) = sandbox::check_needed() {
        eprintln!("{reason}");
        return ExitCode::FAILURE;
    }
    let number = |at: usize| args.get(at).and_then(|arg| arg.parse::<u64>().ok());
    let count = number(0).unwrap_or(1000);
    let seed = number(1).unwrap_or(1);
    let corpus: Vec<Case> = corpus::groups()
        .into_iter()
        .flat_map(|(_, cases)| cases)
        .filter(is_steady)
        .collect();
    let mut random = Random::new(seed);
    let mut explained_by: BTreeMap<&str, u64> = BTreeMap::new();
    let mut unexplained = 0;
    let start = Instant::now();
    for round in 0..count {
        let case = mutate_case(&corpus, &mut random);
        // Ages are told to the second; a difference that does not come back was the clock's.
        let compare = || golden::compare_tools(&reference, &case);
        if let Some(difference) = compare().and_then(|_| compare()).and_then(|_| compare()) {
            match explain_difference(&case, &difference) {
                Some(reason) => *explained_by.entry(reason).or_default() += 1,
                None => {
                    unexplained += 1;
                    println!(
                        "## seed {seed} round {round}: {difference}{}",
                        format_files(&case)
                    );
                }
            }
        }
        if (round + 1) % 1000 == 0 {
            eprintln!(
                "{} of {count} mutations, {unexplained} unexplained, {} s",
                round + 1,
                start.elapsed().as_secs()
            );
        }
    }
    for (reason, times) in &explained_by {
        println!("{times} times: {reason}");
    }
    println!("{count} mutations, seed {seed}: {unexplained} unexplained differences");
    if unexplained == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Cases whose outcome does not change with the clock or the order of a directory, and that do
/// not make random keys.
fn is_steady(case: &Case) -> bool {
    let random = matches!(
        case.args.first().map(String::as_str),
        Some("genkey" | "genpsk")
    );
    !random && case.devices.len() <= 1
}

fn format_files(case: &Case) -> String {
    let mut text = String::new();
    for (name, content) in &case.files {
        text += &format!("file {name} {:?}\n", String::from_utf8_lossy(content));
    }
    for (name, state, errno) in &case.devices {
        text += &format!("device {name} {errno} {state:?}\n");
    }
    if !case.stdin.is_empty() {
        text += &format!("stdin {:?}\n", case.stdin);
    }
    text
}

fn mutate_case(corpus: &[Case], random: &mut Random) -> Case {
    let mut case = random.pick_from(corpus).clone();
    for _ in 0..=random.pick_below(3) {
        let other = random.pick_from(corpus).clone();
        match random.pick_below(6) {
            // Argument lists: exchange, insert, remove, change the text of one.
            0 | 1 => mutate_args(&mut case, &other, random),
            // Files and states: splice two, drop or repeat a line, change bytes.
            2 | 3 => {
                let spare = other.files.first().map(|(_, content)| content.clone());
                if let Some((_, content)) = case.files.first_mut() {
                    mutate_bytes(content, &spare.unwrap_or_default(), random);
                } else {
                    mutate_args(&mut case, &other, random);
                }
            }
            4 => {
                let spare = other
                    .devices
                    .first()
                    .map_or_else(String::new, |(_, state, _)| state.clone());
                if let Some((_, state, _)) = case.devices.first_mut() {
                    let mut bytes = state.clone().into_bytes();
                    mutate_lines(&mut bytes, spare.as_bytes(), random);
                    // Only lines move here, so the text stays UTF-8.
                    *state = String::from_utf8(bytes).unwrap_or_default();
                }
            }
            _ => {
                let mut bytes = case.stdin.clone().into_bytes();
                mutate_bytes(&mut bytes, other.stdin.as_bytes(), random);
                case.stdin = String::from_utf8_lossy(&bytes).into_owned();
            }
        }
    }
    case.args.retain(|arg| !arg.contains('\0'));
    // Names that do not exist must not be tried for ever.
    case.env
        .retain(|(_, value)| !value.contains(|c: char| c.is_ascii_digit() && c != '0'));
    case
}

fn mutate_args(case: &mut Case, other: &Case, random: &mut Random) {
    // The verb and the interface mostly stay, or nearly every call is a usage error.
    let fixed = 2.min(case.args.len());
    let at = fixed + random.pick_below(case.args.len() - fixed + 1);
    match random.pick_below(5) {
        0 if at < case.args.len() => {
            case.args.remove(at);
        }
        1 => {
            let spare = other.args.get(2..).unwrap_or_default();
            if !spare.is_empty() {
                case.args.insert(at, random.pick_from(spare).clone());
            }
        }
        2 => case
            .args
            .extend(other.args.get(2..).unwrap_or_default().iter().cloned()),
        _ if at < case.args.len() && !case.args[at].starts_with(DIR) => {
            let mut bytes = case.args[at].clone().into_bytes();
            let spare = other.args.last().cloned().unwrap_or_default();
            mutate_bytes(&mut bytes, spare.as_bytes(), random);
            case.args[at] = String::from_utf8_lossy(&bytes).into_owned();
        }
        _ => {}
    }
}

fn mutate_bytes(bytes: &mut Vec<u8>, spare: &[u8], random: &mut Random) {
    const ODD: &[u8] = b"\0\n\r\t #=[],/:+-%0189axoAfF.\x80\xff";
    let at = random.pick_below(bytes.len() + 1);
    match random.pick_below(6) {
        0 => bytes.insert(at, *random.pick_from(ODD)),
        1 if at < bytes.len() => bytes[at] = *random.pick_from(ODD),
        2 if at < bytes.len() => {
            bytes.remove(at);
        }
        3 => {
            let from = random.pick_below(spare.len() + 1);
            let length = random.pick_below(spare.len() - from + 1);
            bytes.splice(at..at, spare[from..from + length].iter().copied());
        }
        4 if at < bytes.len() => bytes[at] = bytes[at].wrapping_add(1) & 0x7f,
        _ => mutate_lines(bytes, spare, random),
    }
}

fn mutate_lines(bytes: &mut Vec<u8>, spare: &[u8], random: &mut Random) {
    let mut lines: Vec<Vec<u8>> = bytes
        .split_inclusive(|b| *b == b'\n')
        .map(<[u8]>::to_vec)
        .collect();
    let spare: Vec<&[u8]> = spare.split_inclusive(|b| *b == b'\n').collect();
    let at = random.pick_below(lines.len() + 1);
    match random.pick_below(4) {
        0 if at < lines.len() => {
            lines.remove(at);
        }
        1 if at < lines.len() => {
            let line = lines[at].clone();
            let to = random.pick_below(lines.len() + 1);
            lines.insert(to, line);
        }
        2 if lines.len() > 1 => {
            let other = random.pick_below(lines.len());
            let last = lines.len() - 1;
            lines.swap(at.min(last), other);
        }
        _ if !spare.is_empty() => lines.insert(at, random.pick_from(&spare).to_vec()),
        _ => {}
    }
    *bytes = lines.concat();
}

/// Whether a state names a peer twice, or one value of a peer.
fn has_repeats(state: &str) -> bool {
    let mut peers = BTreeSet::new();
    let mut values = BTreeSet::new();
    state.lines().any(|line| {
        let (key, value) = line.split_once('=').unwrap_or((line, ""));
        match key {
            "public_key" => {
                values.clear();
                !peers.insert(value)
            }
            "allowed_ip" => false,
            key => !values.insert(key),
        }
    })
}

/// Whether both say the same in other bytes: the reference prints those that are no text, or control a
/// terminal, as they are, and ours as `%` and two digits, or as `?`.
fn differs_in_odd_bytes(difference: &str) -> bool {
    let read_errors = |part: &str| -> String {
        let lines = part.lines().filter_map(|line| line.strip_prefix("err \""));
        let plain = lines.map(|line| {
            let line = line.strip_suffix('"').unwrap_or(line);
            let line = line.strip_suffix("\\n").unwrap_or(line);
            line.split(" (did you mean ").next().unwrap_or_default()
        });
        plain.collect()
    };
    let drop_odd = |text: &str| -> String {
        let mut kept = String::new();
        let mut rest = text;
        while let Some(next) = rest.chars().next() {
            let escape = match rest.strip_prefix("\\u{") {
                Some(digits) => digits.find('}').map(|at| at + "\\u{}".len()),
                None => None,
            };
            let byte = rest.strip_prefix('%').and_then(|digits| digits.get(..2));
            let byte = byte.filter(|digits| u8::from_str_radix(digits, 16).is_ok_and(|b| b > 0x7f));
            let odd = escape
                .or(byte.map(|_| 3))
                .or(matches!(next, '?' | '\u{fffd}').then_some(next.len_utf8()));
            if odd.is_none() {
                kept.push(next);
            }
            rest = &rest[odd.unwrap_or(next.len_utf8())..];
        }
        kept
    };
    let Some((reference, ours)) = difference.split_once("ours:\n") else {
        return false;
    };
    let (reference, ours) = (read_errors(reference), read_errors(ours));
    !ours.is_empty() && drop_odd(&reference) == drop_odd(&ours)
}

/// The reason of a difference that is meant; each is in docs/differences.md.
fn explain_difference(case: &Case, difference: &str) -> Option<&'static str> {
    let ours = difference.split("ours:\n").nth(1).unwrap_or_default();
    if ours.contains("Port is not 0-65535") {
        return Some(corpus::TRUNCATED_PORT);
    }
    if ours.contains("(hidden)") {
        return Some(corpus::SECRET);
    }
    if ours.contains("(interface names have at most 15 bytes)") {
        return Some(corpus::LONG_NAME);
    }
    if differs_in_odd_bytes(difference) {
        return Some(
            "control characters, and bytes that are no text, are shown by other characters",
        );
    }
    if ours.contains("Unable to read configuration: ") {
        return Some(corpus::UNREAD_FILE);
    }
    if difference.contains("Unable to modify interface: Unknown error -") {
        return Some(corpus::NO_SETTLED_ERRNO);
    }
    if case.devices.iter().any(|(_, state, _)| has_repeats(state)) {
        return Some("a userspace device that says something twice breaks its protocol");
    }
    if case
        .args
        .iter()
        .any(|arg| arg == "bind-dev" || arg == "json")
    {
        return Some("bind-dev and json are ours");
    }
    None
}
