// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! `wg showconf`

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use super::Call;
use crate::backend;
use crate::error::{Error, Result};
use crate::ifname;
use crate::model::{Bind, Selector};
use crate::plan::receive::CLOSED_MARK;
use crate::render;

pub fn showconf(call: Call, interface: &OsStr) -> Result<()> {
    let device = backend::get(&ifname::from_bytes(interface.as_bytes()))?;
    check_known(&device.name, &device.bind)?;
    render::conf::print(&device, &super::show::interface_names(), call.out).map_err(Error::output)
}

/// A file with less than the device's own binding would open the tunnel.
fn check_known(name: &str, bind: &Bind) -> Result<()> {
    match bind {
        Bind::Unknown { why } => Err(Error::Unsupported(format!(
            "Whether {name} is bound is not known, and a file without BindDev would open the tunnel: {why}; \
             try again"
        ))),
        Bind::Rules { by, .. } if *by == Selector::Mark(CLOSED_MARK) => {
            Err(Error::Unsupported(format!(
                "A command that was to bind or unbind {name} ended half way and left it closed, so no file \
                 can say how it is to be bound; bind it again with `wg set {name} bind-dev VRF', or unbind it \
                 with `wg set {name} bind-dev off'"
            )))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_was_left_closed_has_no_file() {
        let by_mark = |mark| Bind::Rules {
            dev: None,
            by: Selector::Mark(mark),
            table: 0,
            faults: Vec::new(),
            elsewhere: Some(false),
        };
        assert!(check_known("wg0", &by_mark(0x7700_0064)).is_ok());
        let said = check_known("wg0", &by_mark(CLOSED_MARK));
        let said = said.unwrap_err().to_string();
        assert!(said.contains("wg set wg0 bind-dev"), "{said}");
    }
}
