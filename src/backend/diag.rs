// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Which device the UDP sockets on a port are bound to, as socket diagnosis tells it.

use neli::consts::socket::NlFamily;

use super::netlink::{Failure, Next, Socket};
use super::owners::Owners;
use crate::model::{Family, UdpSocket};
use crate::wire::diag;

/// The UDP sockets on a port of this thread's namespace, of both families; on port 0 all of them.
///
/// # Errors
/// The kernel cannot tell, for one without the udp_diag module.
pub fn udp_sockets(port: u16) -> Result<Vec<UdpSocket>, Failure> {
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
    name_owners(&mut sockets);
    sockets.retain(|one| one.may_be_of(process));
    Ok(sockets)
}

/// Notes which of the sockets are processes'.
pub fn name_owners(sockets: &mut [UdpSocket]) {
    if sockets.is_empty() {
        return;
    }
    let inodes: Vec<u32> = sockets.iter().map(|one| one.inode).collect();
    let owners = Owners::find_owners(&inodes);
    for one in sockets {
        one.process = owners.is_process(one.inode);
    }
}
