// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! `wg showconf`

use crate::backend;
use crate::cli::Call;
use crate::error::{Error, Result};
use crate::render;

pub fn run(call: Call) -> Result<()> {
    let [interface] = call.args.as_slice() else {
        return Err(call.usage());
    };
    let device = backend::get(&interface.to_string_lossy())?;
    render::conf::print(&device, &super::show::names(), call.out).map_err(Error::output)
}
