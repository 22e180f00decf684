// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Which device the UDP sockets on a port are bound to, as socket diagnosis tells it.

use std::cell::RefCell;

use neli::consts::socket::NlFamily;

use super::netlink::{Failure, Next, Socket};
use crate::model::{Family, UdpSocket};
use crate::wire::diag;

thread_local! {
    /// What a [`Snapshot`] keeps.
    static KEPT: RefCell<Kept> = const { RefCell::new(Kept::Nothing) };
}

enum Kept {
    Nothing,
    /// The sockets are read with the first look at a port.
    Wanted,
    /// By their ports.
    Sockets(Vec<UdpSocket>),
}

/// While it lives, this thread's looks at a port go to one dump of all sockets: for many ports, each
/// look of its own walks through all sockets again. A port that has none there is looked at, since
/// its sockets may be younger.
pub struct Snapshot(());

impl Snapshot {
    pub fn keep_sockets() -> Self {
        KEPT.set(Kept::Wanted);
        Snapshot(())
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        KEPT.set(Kept::Nothing);
    }
}

/// The sockets on a port in the snapshot; `None` without a snapshot, and where there are none.
fn find_kept(port: u16) -> Option<Vec<UdpSocket>> {
    if KEPT.with_borrow(|kept| matches!(kept, Kept::Wanted)) {
        let mut sockets = ask_kernel(0).unwrap_or_default();
        sockets.sort_by_key(|one| one.port);
        KEPT.set(Kept::Sockets(sockets));
    }
    KEPT.with_borrow(|kept| {
        let Kept::Sockets(sockets) = kept else {
            return None;
        };
        let first = sockets.partition_point(|one| one.port < port);
        let end = sockets.partition_point(|one| one.port <= port);
        (first < end).then(|| sockets[first..end].to_vec())
    })
}

/// The UDP sockets on a port of this thread's namespace, of both families; on port 0 all of them.
///
/// # Errors
/// The kernel cannot tell, for one without the udp_diag module.
pub fn udp_sockets(port: u16) -> Result<Vec<UdpSocket>, Failure> {
    match port {
        0 => ask_kernel(port),
        _ => find_kept(port).map_or_else(|| ask_kernel(port), Ok),
    }
}

fn ask_kernel(port: u16) -> Result<Vec<UdpSocket>, Failure> {
    let mut socket = Socket::open(NlFamily::SockOrInetDiag)?;
    let mut found = Vec::new();
    for family in Family::ALL {
        found.extend(socket.dump(
            &mut diag::get_udp(family, port),
            Vec::new,
            |sockets, payload| {
                sockets
                    .extend(diag::decode_udp(payload).filter(|one| port == 0 || one.port == port));
                Ok(Next::More)
            },
        )?);
    }
    Ok(found)
}

/// The sockets on a port that may be those of a device: a process's or the kernel's own.
///
/// # Errors
/// As [`udp_sockets`].
pub fn own_sockets(port: u16, process: bool) -> Result<Vec<UdpSocket>, Failure> {
    let mut sockets = udp_sockets(port)?;
    sockets.retain(|one| one.may_be_of(process));
    Ok(sockets)
}
