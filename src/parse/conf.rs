// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Configuration files.
//!
//! A line loses its comment and all its blanks before anything else is looked at; section names
//! and keys may be in any case.

use std::borrow::Cow;

use zeroize::Zeroizing;

use crate::bytes::split_text;
use crate::error::{Error, HIDDEN, Result, hide_keys, shown};
use crate::parse::words::{self, KEYWORDS, Scope, Word};
use crate::parse::{Draft, KeySource, Step, value};

/// Reads until the end or the first line that is wrong. The text holds keys: nothing of it is
/// kept outside of [`crate::key::Key`] and wiped strings.
pub fn parse(text: &str) -> Draft {
    let mut draft = Draft {
        whole_peers: true,
        ..Draft::default()
    };
    let mut parser = Parser::default();
    for line in text.split('\n') {
        let mut keep = |step| {
            draft.steps.push(step);
            Ok(())
        };
        if let Err(error) = parser.read_line(&strip_line(line), &mut keep) {
            draft.stopped = Some(error);
            break;
        }
    }
    draft
}

/// Reads a file line by line.
#[derive(Default)]
pub struct Parser {
    section: Option<Scope>,
}

impl Parser {
    /// Hands what a line says to `take`. It has no comment and no blanks.
    ///
    /// # Errors
    /// The line says nothing that is known, or `take` says so. A step may have been taken all the same.
    pub fn read_line(
        &mut self,
        line: &str,
        take: &mut impl FnMut(Step) -> Result<()>,
    ) -> Result<()> {
        if line.is_empty() {
        } else if line.eq_ignore_ascii_case("[interface]") {
            self.section = Some(Scope::Interface);
        } else if line.eq_ignore_ascii_case("[peer]") {
            self.section = Some(Scope::Peer);
            take(Step::Peer)?;
        } else {
            let (step, rest) = parse_setting(self.section, line).map_err(in_file)?;
            take(step)?;
            rest.map_err(in_file)?;
        }
        Ok(())
    }
}

fn in_file(error: Error) -> Error {
    Error::InFile(Box::new(error))
}

/// Without comment and blanks; a NUL ends the line, as it ends a C string.
fn strip_line(line: &str) -> Zeroizing<String> {
    let line = line.split('#').next().unwrap_or_default();
    // Reserved beforehand: growing would leave an unwiped copy behind.
    let mut text = Zeroizing::new(String::with_capacity(line.len()));
    text.extend(line.chars().filter(|c| !value::is_space(*c)));
    if let Some(end) = text.find('\0') {
        text.truncate(end);
    }
    text
}

/// One `Key=value` line, and what is wrong with the rest of a list.
fn parse_setting(section: Option<Scope>, line: &str) -> Result<(Step, Result<()>)> {
    let known = split_text(line, b'=')
        .filter(|(_, value)| !value.is_empty())
        .and_then(|(key, value)| {
            let keyword = KEYWORDS.iter().find(|keyword| {
                Some(keyword.scope) == section
                    && keyword.key.is_some_and(|k| k.eq_ignore_ascii_case(key))
            })?;
            Some((keyword.word, value))
        });
    let Some((word, value)) = known else {
        let line = hide_secret(line);
        return Err(Error::Invalid(format!(
            "Line unrecognized: `{}'{}",
            shown(&line),
            explain_line(section, &line)
        )));
    };
    let step = match word {
        Word::ListenPort => Step::ListenPort(value.to_owned()),
        Word::FwMark => Step::FwMark(value::parse_fwmark(value)?),
        Word::PrivateKey => Step::PrivateKey(KeySource::Given(value::parse_secret_key(value)?)),
        Word::BindDev => Step::BindDev(value::parse_bind_dev(value)?),
        // Only [Peer] opens a peer here; the key of that name is its public key.
        Word::Peer => Step::PublicKey(value::parse_public_key(value)?),
        Word::PresharedKey => Step::PresharedKey(KeySource::Given(value::parse_secret_key(value)?)),
        Word::Endpoint => Step::Endpoint(value.to_owned()),
        Word::PersistentKeepalive => Step::PersistentKeepalive(value::parse_keepalive(value)?),
        Word::AllowedIps => {
            let (list, rest) = value::parse_allowed_ips(value);
            return Ok((Step::AllowedIps(list), rest));
        }
        // Has no key, so it was not found above.
        Word::Remove => Step::Remove,
    };
    Ok((step, Ok(())))
}

/// What is wrong with a line that says nothing.
fn explain_line(section: Option<Scope>, line: &str) -> String {
    let Some((key, value)) = line.split_once('=') else {
        return words::hint_at(line, ["[Interface]", "[Peer]"].into_iter());
    };
    let known = KEYWORDS
        .iter()
        .find(|keyword| keyword.key.is_some_and(|k| k.eq_ignore_ascii_case(key)));
    match known.map(|keyword| keyword.scope) {
        None => words::hint_at(key, KEYWORDS.iter().filter_map(|keyword| keyword.key)),
        Some(_) if value.is_empty() => " (it takes a value)".to_owned(),
        Some(scope) if Some(scope) == section => String::new(),
        Some(Scope::Interface) => " (it stands under [Interface])".to_owned(),
        Some(Scope::Peer) => " (it stands under [Peer])".to_owned(),
    }
}

/// The line as an error may show it: a secret in the wrong section, or under a misspelled word, stays
/// one. Of an unknown line with a secret, the word in front of it is shown.
fn hide_secret(line: &str) -> Cow<'_, str> {
    const SECRETS: [&str; 2] = ["PrivateKey", "PresharedKey"];
    let (word, value) = match line.find(['=', ':']) {
        Some(at) => line.split_at(at + 1),
        None => (line, ""),
    };
    let name = word.trim_end_matches(['=', ':']);
    if name.eq_ignore_ascii_case("PublicKey") {
        return line.into();
    }
    if !value.is_empty() && words::find_nearest(name, SECRETS.into_iter()).is_some() {
        return format!("{word}{HIDDEN}").into();
    }
    // The word and the key, and nothing between them but blanks, which are gone.
    let behind = |secret: &str| {
        let (start, value) = line.split_at_checked(secret.len())?;
        let said = !value.trim_start_matches(['=', ':']).is_empty();
        (said && start.eq_ignore_ascii_case(secret)).then_some(start)
    };
    match SECRETS.into_iter().find_map(behind) {
        Some(word) => format!("{word}{HIDDEN}").into(),
        None => hide_keys(line),
    }
}
