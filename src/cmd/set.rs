// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! `wg set`

use std::ffi::{OsStr, OsString};

use super::Call;
use crate::error::Result;
use crate::model::Update;
use crate::parse::args;
use crate::resolve;

pub fn set(_: Call, interface: &OsStr, words: &[OsString]) -> Result<()> {
    let base = Update {
        interface: interface.to_string_lossy().into_owned(),
        ..Update::default()
    };
    let update = resolve::resolve(args::parse(words), base, &super::say_from_threads())?;
    super::apply_update(update)
}
