// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Text into what the user asked for: the arguments of `wg set` and configuration files.
//!
//! Pure: no DNS, no files, no environment, no stderr. Host names, service names and paths of
//! key files stay text here; [`crate::resolve`] looks them up.

pub mod args;
pub mod conf;
pub mod value;
pub mod words;

use std::path::PathBuf;

use crate::error::Error;
use crate::key::{Key, PublicKey};
use crate::model::{AllowedIpUpdate, Change, Packed};

/// One thing the user asked for.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    PrivateKey(KeySource),
    /// A number or the name of a service.
    ListenPort(String),
    FwMark(Change<u32>),
    BindDev(Change<String>),
    /// What follows is about another peer.
    Peer,
    PublicKey(PublicKey),
    Remove,
    PresharedKey(KeySource),
    /// `host:port`, not yet taken apart.
    Endpoint(String),
    PersistentKeepalive(Change<u16>),
    AllowedIps(AllowedIps),
}

/// Where a secret key comes from.
#[derive(Debug, PartialEq, Eq)]
pub enum KeySource {
    Given(Key),
    File(PathBuf),
}

/// One list of allowed IPs.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct AllowedIps {
    /// Replace what the peer had, rather than change it (`+` or `-` before a prefix).
    pub replace: bool,
    pub prefixes: Packed<AllowedIpUpdate>,
    /// What the user should hear although the list is good.
    pub warnings: Vec<String>,
}

/// What was read, in the order it was written, and what stopped the reading.
///
/// The reference looks names up while it parses, so that it reports a bad name on line 3 before
/// a bad word on line 5. To report the same error first, the steps before the bad one are kept.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Draft {
    pub steps: Vec<Step>,
    /// A peer starts with [`AllowedIps::replace`]: it states its whole list (files, not `set`).
    pub whole_peers: bool,
    pub stopped: Option<Error>,
}
