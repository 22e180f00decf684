// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! `wg showconf`

use std::ffi::OsStr;

use super::Call;
use crate::backend;
use crate::error::{Error, Result};
use crate::render;

pub fn showconf(call: Call, interface: &OsStr) -> Result<()> {
    let device = backend::get(&interface.to_string_lossy())?;
    render::conf::print(&device, &super::show::interface_names(), call.out).map_err(Error::output)
}
