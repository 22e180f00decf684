// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The verbs: read, plan, apply, print. No bytes and no syntax here.

pub mod conf;
pub mod keys;
pub mod set;
pub mod show;
pub mod showconf;

use std::io::{self, Write};
use std::sync::Arc;

use crate::backend;
use crate::error::{Error, Result, shown, strerror};
use crate::model::{Device, IFNAME_MAX, Update};
use crate::resolve::{self, Say};

/// One line for the user on stderr.
fn say(line: &str) {
    // Nothing is left to be done about a stderr that cannot be written.
    let _ = writeln!(io::stderr(), "{line}");
}

fn say_from_threads() -> Say {
    Arc::new(say)
}

/// Sends `update` to its device and tells the user what that took.
fn apply(update: Update) -> Result<()> {
    let mode = resolve::bind_mode()?;
    let interface = update.interface.clone();
    backend::set(update, mode, &mut |line| say(line))
        .map_err(|error| refused("Unable to modify interface", &interface, error))
}

/// An error of the system in the reference's words, then the interface and what may help.
fn refused(what: &str, interface: &str, error: Error) -> Error {
    let (errno, extack) = match error {
        // What is about rules or links says so itself.
        Error::Os {
            what,
            errno,
            extack,
        } if what.starts_with("Unable to ") => (errno, extack),
        other => return other,
    };
    let more = extack.or_else(|| remedy(errno, interface));
    let more = more.map_or_else(String::new, |more| format!(" ({more})"));
    let (reason, interface) = (strerror(errno), shown(interface));
    Error::Invalid(format!("{what}: {reason}: `{interface}'{more}"))
}

/// An error of the system in other words.
fn worded(what: &str, error: Error) -> Error {
    match error {
        Error::Os { errno, extack, .. } => Error::Os {
            what: what.to_owned(),
            errno,
            extack,
        },
        other => other,
    }
}

fn remedy(errno: i32, interface: &str) -> Option<String> {
    match errno {
        libc::ENODEV => Some(format!(
            "no such WireGuard interface: ip link add {interface} type wireguard"
        )),
        libc::EPERM | libc::EACCES => Some("needs root, or CAP_NET_ADMIN".to_owned()),
        libc::EPROTONOSUPPORT | libc::ENOENT => {
            Some("is the wireguard module loaded? modprobe wireguard".to_owned())
        }
        libc::EOPNOTSUPP => Some("not a WireGuard interface".to_owned()),
        libc::ENAMETOOLONG => Some("interface names have at most 15 bytes".to_owned()),
        libc::EADDRINUSE => Some("another socket has this port; choose a listen port".to_owned()),
        _ => None,
    }
}

/// Reads one device.
fn access(interface: &str) -> Result<Device> {
    const WHAT: &str = "Unable to access interface";
    backend::get(interface).map_err(|error| match error {
        // What a name that no interface can have is answered with depends on the backend.
        Error::Os { .. } if interface.len() > IFNAME_MAX => {
            refused(WHAT, interface, Error::os(WHAT, libc::ENAMETOOLONG))
        }
        error => refused(WHAT, interface, error),
    })
}
