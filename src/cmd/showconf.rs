// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! `wg showconf`

use std::ffi::OsStr;

use super::Call;
use crate::backend;
use crate::error::{Error, Result};
use crate::model::Bind;
use crate::render;

pub fn showconf(call: Call, interface: &OsStr) -> Result<()> {
    let device = backend::get(&interface.to_string_lossy())?;
    // A file without BindDev would open the tunnel.
    if let Bind::Unknown { why } = &device.bind {
        let name = &device.name;
        return Err(Error::Unsupported(format!(
            "Whether {name} is bound is not known, and a file without BindDev would open the tunnel: {why}; \
             try again"
        )));
    }
    render::conf::print(&device, &super::show::interface_names(), call.out).map_err(Error::output)
}
