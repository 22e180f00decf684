// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! List, read and change devices: the kernel's and userspace ones.
//!
//! Three functions are the whole surface. A userspace socket wins over a kernel device of the
//! same name, as in the reference.

use crate::error::{Error, Result};
use crate::model::{Device, Update};
use crate::plan::BindMode;

/// The names of all WireGuard interfaces: userspace sockets first, then kernel links.
pub fn list() -> Result<Vec<String>> {
    Err(Error::os("Unable to list interfaces", libc::ENOSYS))
}

/// One device as it is now, with how it is bound.
pub fn get(interface: &str) -> Result<Device> {
    Err(Error::os(
        format!("Unable to access interface: {interface}"),
        libc::ENOSYS,
    ))
}

/// Applies `update`. Each line that the user should read goes through `note`, without a newline.
pub fn set(update: &Update, mode: BindMode, note: &mut dyn FnMut(&str)) -> Result<()> {
    let _ = (update, mode, note);
    Err(Error::os("Unable to modify interface", libc::ENOSYS))
}
