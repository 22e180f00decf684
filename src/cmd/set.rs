// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! `wg set`

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;

use super::Call;
use crate::error::Result;
use crate::ifname;
use crate::model::Update;
use crate::parse::args;
use crate::resolve;

pub fn set(_: Call, interface: &OsStr, words: &[OsString]) -> Result<()> {
    let base = Update {
        interface: ifname::from_bytes(interface.as_bytes()),
        ..Update::default()
    };
    let update = resolve::resolve(args::parse(words), base, &super::say_from_threads())?;
    super::apply_update(update)
}
