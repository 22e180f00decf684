// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! `wg set`

use crate::cli::Call;
use crate::error::Result;
use crate::model::Update;
use crate::parse::args;
use crate::resolve;

pub fn run(call: Call) -> Result<()> {
    let [interface, words @ ..] = call.args.as_slice() else {
        return Err(call.usage());
    };
    if words.is_empty() {
        return Err(call.usage());
    }
    let base = Update {
        interface: interface.to_string_lossy().into_owned(),
        ..Update::default()
    };
    let update = resolve::resolve(args::parse(words), base, &super::say_from_threads())?;
    super::apply(update)
}
