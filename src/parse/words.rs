// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The one table of words: what `wg set` and configuration files may say, what `wg show` can
//! show. Usage texts are made from it; the man page and the completions are checked against it.

use std::fmt::Write as _;

/// What a keyword of `wg set`, or a key of a configuration file, is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    ListenPort,
    FwMark,
    PrivateKey,
    BindDev,
    Peer,
    Remove,
    PresharedKey,
    Endpoint,
    PersistentKeepalive,
    AllowedIps,
}

/// Whether a word belongs to the interface or to one of its peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    Interface,
    Peer,
}

#[derive(Debug)]
pub struct Keyword {
    pub word: Word,
    pub scope: Scope,
    /// As an argument of `wg set`.
    pub argument: &'static str,
    /// Its value in the usage text; empty where it takes none.
    pub value: &'static str,
    /// As a key in a configuration file, where it can be one.
    pub key: Option<&'static str>,
}

/// In the order of the usage text of `wg set`. `peer` opens a peer, so it stands in both scopes.
pub const KEYWORDS: &[Keyword] = &[
    Keyword {
        word: Word::ListenPort,
        scope: Scope::Interface,
        argument: "listen-port",
        value: "<port>",
        key: Some("ListenPort"),
    },
    Keyword {
        word: Word::FwMark,
        scope: Scope::Interface,
        argument: "fwmark",
        value: "<mark>",
        key: Some("FwMark"),
    },
    Keyword {
        word: Word::PrivateKey,
        scope: Scope::Interface,
        argument: "private-key",
        value: "<file path>",
        key: Some("PrivateKey"),
    },
    Keyword {
        word: Word::BindDev,
        scope: Scope::Interface,
        argument: "bind-dev",
        value: "<device>|off",
        key: Some("BindDev"),
    },
    Keyword {
        word: Word::Peer,
        scope: Scope::Peer,
        argument: "peer",
        value: "<base64 public key>",
        key: Some("PublicKey"),
    },
    Keyword {
        word: Word::Remove,
        scope: Scope::Peer,
        argument: "remove",
        value: "",
        key: None,
    },
    Keyword {
        word: Word::PresharedKey,
        scope: Scope::Peer,
        argument: "preshared-key",
        value: "<file path>",
        key: Some("PresharedKey"),
    },
    Keyword {
        word: Word::Endpoint,
        scope: Scope::Peer,
        argument: "endpoint",
        value: "<ip>:<port>",
        key: Some("Endpoint"),
    },
    Keyword {
        word: Word::PersistentKeepalive,
        scope: Scope::Peer,
        argument: "persistent-keepalive",
        value: "<interval seconds>",
        key: Some("PersistentKeepalive"),
    },
    Keyword {
        word: Word::AllowedIps,
        scope: Scope::Peer,
        argument: "allowed-ips",
        value: "[+|-]<ip1>/<cidr1>[,[+|-]<ip2>/<cidr2>]...",
        key: Some("AllowedIPs"),
    },
];

/// What `wg show <interface>` can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    PublicKey,
    PrivateKey,
    ListenPort,
    FwMark,
    Peers,
    PresharedKeys,
    Endpoints,
    AllowedIps,
    LatestHandshakes,
    Transfer,
    PersistentKeepalive,
    Dump,
    BindDev,
    Json,
}

/// In the order of the usage text of `wg show`; ours stand behind the reference's.
pub const FIELDS: &[(&str, Field)] = &[
    ("public-key", Field::PublicKey),
    ("private-key", Field::PrivateKey),
    ("listen-port", Field::ListenPort),
    ("fwmark", Field::FwMark),
    ("peers", Field::Peers),
    ("preshared-keys", Field::PresharedKeys),
    ("endpoints", Field::Endpoints),
    ("allowed-ips", Field::AllowedIps),
    ("latest-handshakes", Field::LatestHandshakes),
    ("transfer", Field::Transfer),
    ("persistent-keepalive", Field::PersistentKeepalive),
    ("dump", Field::Dump),
    ("bind-dev", Field::BindDev),
    ("json", Field::Json),
];

/// The keyword of `wg set` that is spelled like this.
pub fn find_argument(text: &str) -> Option<&'static Keyword> {
    KEYWORDS.iter().find(|keyword| keyword.argument == text)
}

/// The field of `wg show` that is spelled like this.
pub fn find_field(text: &str) -> Option<Field> {
    FIELDS
        .iter()
        .find(|(name, _)| *name == text)
        .map(|(_, field)| *field)
}

/// What an error adds about an unknown word: the nearest of those that could stand there.
pub fn hint_at<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> String {
    match find_nearest(word, known) {
        Some(nearest) => format!(" (did you mean `{nearest}'?)"),
        None => String::new(),
    }
}

/// The word that is meant by a misspelled one.
pub fn find_nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |word: &str| word.to_ascii_lowercase().replace(['-', '_'], "");
    let likeness = |known: &str| strsim::jaro_winkler(&plain(word), &plain(known));
    let nearest = known.max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    nearest.filter(|nearest| likeness(nearest) >= LIKE)
}

/// From here on a word is a misspelled other one.
const LIKE: f64 = 0.85;

/// What follows `wg set` in its usage text.
pub fn set_usage() -> String {
    let mut text = "<interface>".to_owned();
    for keyword in KEYWORDS {
        let Keyword {
            word,
            argument,
            value,
            ..
        } = keyword;
        let space = if value.is_empty() { "" } else { " " };
        // A peer's own words stand inside its brackets.
        let close = if *word == Word::Peer { "" } else { "]" };
        // Writing to a String cannot fail.
        let _ = write!(text, " [{argument}{space}{value}{close}");
    }
    text + " ]..."
}

/// What follows `wg show` in its usage text.
pub fn show_usage() -> String {
    let fields: Vec<&str> = FIELDS.iter().map(|(name, _)| *name).collect();
    format!(
        "{{ <interface> | all | interfaces }} [{}]",
        fields.join(" | ")
    )
}
