// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Devices of the kernel, over generic netlink.

use neli::consts::socket::NlFamily;

use super::netlink::{Failure, Next, Socket};
use crate::error::{Error, Result, Task};
use crate::model::{Device, Update};
use crate::wire::ctrl::{self, Policy};
use crate::wire::device::{self, Decoder};
use crate::wire::nlmsg::Request;

/// A socket to the kernel's WireGuard.
pub struct Wireguard {
    socket: Socket,
    family: u16,
    /// Where heads are asked for, while no dump is left in the middle there.
    heads: Option<Box<Socket>>,
}

impl Wireguard {
    /// Opens a socket for `task`.
    ///
    /// # Errors
    /// There is no WireGuard in this kernel.
    pub fn open(task: Task) -> Result<Self> {
        let mut socket = match Socket::open(NlFamily::Generic) {
            Ok(socket) => socket,
            Err(err) => return Err(Error::io(task, &err)),
        };
        let mut family = None;
        let asked = socket.ask(&mut ctrl::get_family(device::FAMILY), |payload| {
            family = ctrl::family_id(payload).or(family);
        });
        match (asked, family) {
            (Ok(()), Some(family)) => Ok(Wireguard {
                socket,
                family,
                heads: None,
            }),
            // The kernel tried to load the module by the family's name.
            (Err(Failure { errno, .. }), _) if errno != libc::ENOENT => Err(Error::os(task, errno)),
            // As the reference says it.
            _ => Err(Error::os(task, libc::EPROTONOSUPPORT)),
        }
    }

    /// Whether the kernel takes `WGDEVICE_A_BIND_DEV`: it is asked, a version says nothing.
    ///
    /// # Errors
    /// It did not answer. That is not a "no": the fallback must not be used by mistake.
    pub fn takes_bind_dev(&mut self) -> Result<bool> {
        let command = device::WG_CMD_SET_DEVICE;
        let mut request = ctrl::get_policy(self.family, command);
        let policy = self
            .socket
            .dump(&mut request, Policy::default, |policy, payload| {
                policy.add_answer(payload, command);
                Ok(Next::More)
            });
        match policy {
            Ok(policy) => Ok(policy.is_string(device::WGDEVICE_A_BIND_DEV)),
            // Kernels before 5.10 cannot be asked; they are older than any with the attribute.
            Err(Failure {
                errno: libc::EOPNOTSUPP | libc::EINVAL | libc::ENOENT | libc::ENODATA,
                ..
            }) => Ok(false),
            Err(failure) => Err(failure.with_task(Task::AskKernel)),
        }
    }

    /// The device, and what its `WGDEVICE_A_BIND_DEV` says where there is one.
    pub fn get(&mut self, interface: &str) -> Result<(Device, Option<String>)> {
        let (device, bind_dev) = read_device(&mut self.socket, self.family, interface, Next::More)
            .map_err(|failure| failure.with_task(Task::access(interface)))?;
        // The number may be another feature's in this kernel, and its value look like a name. A
        // kernel that does not answer has shown the attribute all the same.
        let bind_dev = bind_dev.filter(|dev| !dev.is_empty());
        let bind_dev = bind_dev.filter(|_| self.takes_bind_dev().unwrap_or(true));
        Ok((device, bind_dev))
    }

    /// A device with the peers of the first message only: what the device itself says is in
    /// front of them. A dump that has more is left in the middle, and its socket given up.
    pub fn get_head(
        &mut self,
        interface: &str,
    ) -> std::result::Result<(Device, Option<String>), Failure> {
        let mut socket = match self.heads.take() {
            Some(socket) => socket,
            None => Box::new(Socket::open(NlFamily::Generic)?),
        };
        let head = read_device(&mut socket, self.family, interface, Next::Enough);
        self.heads = (!socket.is_busy()).then_some(socket);
        head
    }

    /// The messages for an update, ready for [`Wireguard::send`].
    pub fn encode_update<'a>(&self, update: &'a Update) -> device::Messages<'a> {
        let longest = self.socket.make_room(device::LONGEST);
        device::encode_set(self.family, update).fit(longest)
    }

    /// Sends one message and waits until it was acted upon.
    pub fn send_message(&mut self, message: &mut Request) -> std::result::Result<(), Failure> {
        self.socket.ask(message, |_| {})
    }
}

fn read_device(
    socket: &mut Socket,
    family: u16,
    interface: &str,
    after_first: Next,
) -> std::result::Result<(Device, Option<String>), Failure> {
    let decoder = socket.dump(
        &mut device::encode_get(family, interface),
        || Decoder::new(interface),
        |decoder, payload| decoder.add_answer(payload).map(|()| after_first),
    )?;
    Ok(decoder.finish_device())
}
