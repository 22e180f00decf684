// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The arguments of `wg set`, after the interface.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use crate::error::{Error, Result, shown_value};
use crate::ifname;
use crate::parse::words::{self, KEYWORDS, Scope, Word};
use crate::parse::{Draft, KeySource, Step, value};

/// Reads until the end or the first argument that is wrong.
pub fn parse(args: &[OsString]) -> Draft {
    let mut draft = Draft::default();
    let mut scope = Scope::Interface;
    let mut rest = args;
    while let [first, after @ ..] = rest {
        let name = first.to_string_lossy();
        let known = words::find_argument(&name).filter(|keyword| {
            let in_place = keyword.word == Word::Peer || keyword.scope == scope;
            let complete = keyword.value.is_empty() || !after.is_empty();
            in_place && complete
        });
        let Some(keyword) = known else {
            draft.stopped = Some(Error::Invalid(format!(
                "Invalid argument: {}{}",
                shown_value(&name),
                explain_word(&name, scope)
            )));
            break;
        };
        let (value, after) = match after {
            [value, after @ ..] if !keyword.value.is_empty() => (value.clone(), after),
            after => (OsString::new(), after),
        };
        rest = after;
        scope = keyword.scope;
        if let Err(error) = parse_step(keyword.word, value, &mut draft.steps) {
            draft.stopped = Some(error);
            break;
        }
    }
    draft
}

/// What is wrong with a word that cannot stand here.
fn explain_word(name: &str, scope: Scope) -> String {
    let Some(keyword) = words::find_argument(name) else {
        return words::hint_at(name, KEYWORDS.iter().map(|keyword| keyword.argument));
    };
    match keyword.scope {
        _ if keyword.word == Word::Peer || keyword.scope == scope => {
            format!(
                " (it takes a value: {} {})",
                keyword.argument, keyword.value
            )
        }
        Scope::Interface => " (it stands before the first `peer')".to_owned(),
        Scope::Peer => " (it stands behind `peer' and its public key)".to_owned(),
    }
}

fn parse_step(word: Word, value: OsString, steps: &mut Vec<Step>) -> Result<()> {
    let text = value.to_string_lossy();
    let step = match word {
        Word::ListenPort => Step::ListenPort(text.into_owned()),
        Word::FwMark => Step::FwMark(value::parse_fwmark(&text)?),
        Word::PrivateKey => Step::PrivateKey(KeySource::File(PathBuf::from(value))),
        Word::BindDev => Step::BindDev(value::parse_bind_dev(&ifname::from_bytes(
            value.as_bytes(),
        ))?),
        Word::Peer => {
            let key = value::parse_public_key(&text)?;
            steps.push(Step::Peer);
            Step::PublicKey(key)
        }
        Word::Remove => Step::Remove,
        Word::PresharedKey => Step::PresharedKey(KeySource::File(PathBuf::from(value))),
        Word::Endpoint => Step::Endpoint(ifname::from_bytes(value.as_bytes())),
        Word::PersistentKeepalive => Step::PersistentKeepalive(value::parse_keepalive(&text)?),
        Word::AllowedIps => {
            let (list, result) = value::parse_allowed_ips(&text.replace(value::is_space, ""));
            steps.push(Step::AllowedIps(list));
            return result;
        }
    };
    steps.push(step);
    Ok(())
}
