// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! `wg doctor`: what keeps a binding from holding, and the command that mends it.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;

use super::Call;
use crate::backend;
use crate::doctor;
use crate::error::{Error, Result};
use crate::ifname;
use crate::render;

/// What follows the verb in its usage text.
pub fn usage() -> String {
    "[<interface> | all] [json]".to_owned()
}

/// The exit code where nothing could be looked at.
const BLIND: u8 = 2;

pub fn doctor(call: Call, words: &[OsString]) -> Result<()> {
    let words: Vec<_> = words
        .iter()
        .map(|arg| ifname::from_bytes(arg.as_bytes()))
        .collect();
    let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
    let (interface, json) = match words.as_slice() {
        ["-h" | "--help" | "help"] => {
            super::print_note(call.usage);
            return Ok(());
        }
        [] | ["all"] => (None, false),
        // What keeps the interfaces from being listed is in the report.
        ["json"] if !backend::list().is_ok_and(|names| names.iter().any(|name| name == "json")) => {
            (None, true)
        }
        ["all", "json"] => (None, true),
        [interface] => (Some(*interface), false),
        [interface, "json"] => (Some(*interface), true),
        _ => return Err(Error::Invalid(call.usage.to_owned())),
    };
    let looked = backend::read_namespace(interface)
        .and_then(|facts| backend::Routes::open().map(|routes| (facts, routes)));
    let (facts, mut routes) = match looked {
        Ok(looked) => looked,
        Err(error) => {
            super::print_note(&error.to_string());
            return Err(Error::Ended(BLIND));
        }
    };
    let report = doctor::examine(&facts, interface, &mut |packet| routes.ask_route(packet));
    if json {
        render::doctor::print_json(&report, call.out)
    } else {
        render::doctor::print(&report, call.out)
    }
    .map_err(Error::output)?;
    match report.exit_code() {
        0 => Ok(()),
        code => Err(Error::Ended(code)),
    }
}
