// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Devices as text: for people, for scripts, as a configuration file and as JSON.
//!
//! Pure: the clock, the environment, the terminal and the names of interfaces come in as
//! [`Options`]. Printers take structs apart without `..`, so that a new field of the model does
//! not compile until each of them has dealt with it.

pub mod conf;
pub mod fields;
pub mod json;
pub mod pretty;

use std::time::Duration;

use zeroize::Zeroizing;

use crate::address::Names;
use crate::key::Key;

/// What the printers must not find out for themselves.
#[derive(Clone, Copy)]
pub struct Options {
    pub colour: bool,
    pub hide_keys: bool,
    /// Time since the epoch.
    pub now: Duration,
    pub names: Names,
}

/// The mark that the fwmark fallback chooses by itself for a VRF's table: it need not be
/// written down, because it follows from the name of the VRF.
pub fn is_derived_mark(mark: u32, table: u32) -> bool {
    mark == 0x7767_0000 | (table & 0xffff)
}

/// A secret as text, or `(hidden)`.
fn masked(key: &Key, hide: bool) -> Zeroizing<String> {
    if hide {
        Zeroizing::new("(hidden)".to_owned())
    } else {
        key.to_base64()
    }
}
