// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What a device bound by policy rules receives, and by which port its sockets are found.
//!
//! Rules steer what is sent. What is received depends on the device that the sockets are bound
//! to: a program at the kernel's bind hooks binds them to the VRF where it can (`wire::bpf`).

use crate::model::{Change, HookEntry, Receives, UdpSocket};

/// What is done about receiving (`WG_BIND_DEV_RECEIVE`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReceiveMode {
    /// Bind the sockets where the kernel's own can be told from others.
    #[default]
    Auto,
    /// Do not bind them.
    Any,
    /// Bind them, and other programs' sockets on the port with them where they cannot be told
    /// apart.
    Bound,
}

/// A mark whose only rule is `unreachable`: a device that has it sends nothing. It is
/// outside the marks that we choose, and no device is bound by it.
pub const CLOSED_MARK: u32 = 0x7800_0000;

/// What a device receives by the sockets on its port that may be its own. `vrf` is the index of its
/// VRF where that exists. `rivals` is how many others of its kind have the port and are up. `find_name`
/// knows the devices that exist. `None`: there are no sockets.
pub fn judge_sockets(
    sockets: &[UdpSocket],
    rivals: usize,
    vrf: Option<u32>,
    find_name: impl Fn(u32) -> Option<String>,
) -> Option<Receives> {
    let count = |v6: bool| sockets.iter().filter(|one| one.v6 == v6).count();
    // A device has one of each family.
    let most = count(false).max(count(true));
    let all = |is: &dyn Fn(u32) -> bool| sockets.iter().all(|one| is(one.device));
    let is_vrf = |device| Some(device) == vrf;
    let other = || {
        let names = sockets.iter().map(|one| find_name(one.device));
        let mut live: Vec<String> = names.clone().flatten().collect();
        live.sort();
        live.dedup();
        // Of several it is those that lost their device: the others are where their owners are.
        if live.is_empty() || most > 1 && names.into_iter().any(|name| name.is_none()) {
            return Receives::Nothing;
        }
        Receives::Other(live)
    };
    Some(match most {
        0 => return None,
        // Those of one of them are in another namespace.
        most if most <= rivals => Receives::Unclear,
        _ if all(&is_vrf) => Receives::Bound,
        _ if all(&|device| device != 0 && !is_vrf(device)) => other(),
        1 if all(&|device| device != 0) => other(),
        1 => Receives::Any,
        _ if all(&|device| device == 0) => Receives::Any,
        _ => Receives::Unclear,
    })
}

/// What tells who bound the sockets of a device to another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Binder {
    /// The kernel's attribute binds the device.
    pub attribute: bool,
    /// The device has an entry at the bind hooks for its port.
    pub entry: bool,
    /// The sockets are those of a process, which may have been started on a VRF: ip-vrf(8).
    pub process: bool,
    /// The change takes the binding away, or to another VRF.
    pub leaves: bool,
}

impl Binder {
    /// Whether the hooks bound them, so that they are ours to make again. Of the kernel's sockets
    /// without an entry an earlier command left the binding: only a change of it ends that.
    pub fn is_hooks(self) -> bool {
        !self.attribute && (self.entry || self.leaves && !self.process)
    }
}

/// The port after a change; `None`: any will do.
pub fn port_after(now: u16, wanted: &Change<u16>) -> Option<u16> {
    let port = match wanted {
        Change::Keep => now,
        Change::Set(port) => *port,
        Change::Clear => 0,
    };
    (port != 0).then_some(port)
}

/// The ports of entries that no device needs: its owner is not `alive` any more.
pub fn unused_ports(
    entries: &[(u16, HookEntry)],
    mut alive: impl FnMut(u16, &HookEntry) -> bool,
) -> Vec<u16> {
    entries
        .iter()
        .filter(|(port, binding)| !alive(*port, binding))
        .map(|(port, _)| *port)
        .collect()
}

/// A device, as far as its entries tell of it.
pub struct Owner {
    pub index: u32,
    pub mark: u32,
    pub port: u16,
    pub is_up: bool,
    /// The change takes its binding away.
    pub unbinds: bool,
}

/// The ports of a device's entries.
///
/// `is_others` tells whether the index and port of an entry are those of another device here.
/// `is_needed` tells whether somebody has sockets on a port, or may come to have some: a device that
/// was made here and is in another namespace now.
pub fn own_ports(
    entries: &[(u16, HookEntry)],
    device: &Owner,
    is_others: impl Fn(u32, u16) -> bool,
    mut is_needed: impl FnMut(u16, &HookEntry) -> bool,
) -> Vec<u16> {
    let own = entries.iter().filter(|(known, entry)| {
        let is_its_port = *known == device.port;
        if entry.owner == device.index {
            // Another tool gave it another port: nothing is to stay of the binding by this mark. One
            // that had the index and was moved inherits the entry by its rules.
            let is_left = device.unbinds && entry.mark != 0 && entry.mark == device.mark;
            // A command that did not get to its end left the device on another port.
            let is_interrupted = device.mark == CLOSED_MARK;
            is_its_port || is_left || is_interrupted || !is_needed(*known, entry)
        } else {
            // It came back with another index. While it is down, sockets on the port are others'.
            // That is asked last, and of its own port only: the answer takes a look at the sockets
            // of every namespace.
            is_its_port
                && !is_others(entry.owner, *known)
                && (device.is_up || !is_needed(*known, entry))
        }
    });
    own.map(|(port, _)| *port).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sockets(v4: &[u32], v6: &[u32]) -> Vec<UdpSocket> {
        let of = |v6: bool, devices: &[u32]| -> Vec<UdpSocket> {
            let socket = |device: &u32| UdpSocket {
                port: 51001,
                wildcard: true,
                device: *device,
                v6,
                ..UdpSocket::default()
            };
            devices.iter().map(socket).collect()
        };
        [of(false, v4), of(true, v6)].concat()
    }

    fn name(index: u32) -> Option<String> {
        match index {
            7 => Some("red".into()),
            9 => Some("blue".into()),
            _ => None,
        }
    }

    /// 7 is the VRF, 9 another one, 6 a device that is gone.
    #[test]
    fn one_unbound_socket_means_everywhere() {
        let (bound, any, nothing) = (Receives::Bound, Receives::Any, Receives::Nothing);
        let other = |names: &[&str]| Receives::Other(names.iter().map(|n| (*n).into()).collect());
        for (v4, v6, vrf, receives) in [
            (&[7][..], &[7][..], Some(7), bound.clone()),
            (&[7], &[], Some(7), bound.clone()),
            (&[7], &[0], Some(7), any.clone()),
            (&[0], &[0], Some(7), any.clone()),
            // The names of the VRFs were swapped.
            (&[9], &[9], Some(7), other(&["blue"])),
            (&[9], &[9], None, other(&["blue"])),
            (&[7], &[9], Some(7), other(&["blue", "red"])),
            (&[6], &[9], Some(7), other(&["blue"])),
            // The VRF was made again, with another index, or is gone.
            (&[6], &[6], Some(7), nothing.clone()),
            (&[6], &[6], None, nothing.clone()),
            // Another socket is on the port. Whatever is so of all of them is so of its own.
            (&[7, 7], &[7], Some(7), bound),
            (&[9, 9], &[9], Some(7), other(&["blue"])),
            (&[6, 9], &[6, 9], Some(7), nothing),
            (&[0, 0], &[0], Some(7), any),
            (&[7, 0], &[7], Some(7), Receives::Unclear),
            (&[7, 9], &[7, 9], Some(7), Receives::Unclear),
            (&[7, 6], &[7, 6], Some(7), Receives::Unclear),
            (&[0, 9], &[0, 9], Some(7), Receives::Unclear),
        ] {
            let sockets = sockets(v4, v6);
            assert_eq!(
                judge_sockets(&sockets, 0, vrf, name),
                Some(receives),
                "{sockets:?}"
            );
        }
        assert_eq!(judge_sockets(&[], 0, Some(7), name), None);
    }

    #[test]
    fn fewer_sockets_than_devices_prove_nothing() {
        for (v4, rivals, receives) in [
            (&[7][..], 1, Receives::Unclear),
            (&[7, 7], 1, Receives::Bound),
            (&[7, 7], 2, Receives::Unclear),
        ] {
            let sockets = sockets(v4, &[7]);
            assert_eq!(
                judge_sockets(&sockets, rivals, Some(7), name),
                Some(receives),
                "{v4:?}"
            );
        }
    }

    #[test]
    fn a_socket_of_the_other_kind_is_not_a_devices_own() {
        let mut socket = sockets(&[7], &[])[0];
        assert!(socket.may_be_of(false) && socket.may_be_of(true));
        socket.process = Some(true);
        assert!(!socket.may_be_of(false) && socket.may_be_of(true));
        socket.wildcard = false;
        assert!(!socket.may_be_of(true));
    }

    #[test]
    fn sockets_that_others_bound_are_not_ours() {
        let binder = |attribute, entry, process, leaves| Binder {
            attribute,
            entry,
            process,
            leaves,
        };
        for (binder, ours) in [
            (binder(false, true, false, false), true),
            (binder(false, true, true, true), true),
            (binder(false, false, false, true), true),
            // The command does not speak of the binding.
            (binder(false, false, false, false), false),
            // `ip vrf exec red wireguard-go`
            (binder(false, false, true, true), false),
            // The attribute binds, and an old entry is for the port.
            (binder(true, true, false, true), false),
            (binder(true, false, false, false), false),
        ] {
            assert_eq!(binder.is_hooks(), ours, "{binder:?}");
        }
    }

    #[test]
    fn a_port_that_nobody_states_is_open() {
        assert_eq!(port_after(5, &Change::Keep), Some(5));
        assert_eq!(port_after(0, &Change::Keep), None);
        assert_eq!(port_after(5, &Change::Set(6)), Some(6));
        assert_eq!(port_after(5, &Change::Set(0)), None);
        assert_eq!(port_after(5, &Change::Clear), None);
    }

    /// wg0 had index 7, port 51001 and an entry, and was moved. wg2 has index 7 now.
    #[test]
    fn an_index_alone_does_not_make_an_entry_a_devices_own() {
        let of = |owner| HookEntry {
            owner,
            ..HookEntry::default()
        };
        let entries = [(51001, of(7)), (51002, of(9))];
        let own = |index, mark, port, needed: &[u16]| {
            let device = Owner {
                index,
                mark,
                port,
                is_up: needed.contains(&port),
                unbinds: false,
            };
            own_ports(
                &entries,
                &device,
                |owner, port| (owner, port) == (9, 51002),
                |port, _| needed.contains(&port),
            )
        };
        // wg2 does not take what wg0 needs, and takes what nobody needs.
        assert_eq!(own(7, 1, 51007, &[51001]), [] as [u16; 0]);
        assert_eq!(own(7, 1, 51007, &[]), [51001]);
        // wg0 is back as index 12, and finds its own; that of another device it leaves.
        assert_eq!(own(12, 1, 51001, &[51001]), [51001]);
        assert_eq!(own(12, 1, 51002, &[51002]), [] as [u16; 0]);
        // Interrupted: on another port for a moment.
        assert_eq!(own(7, CLOSED_MARK, 40000, &[51001]), [51001]);
    }

    #[test]
    fn entries_of_devices_that_are_gone_are_found() {
        let of = |owner| HookEntry {
            owner,
            ..HookEntry::default()
        };
        let entries = [(1, of(10)), (2, of(11)), (3, of(12))];
        assert_eq!(
            unused_ports(&entries, |port, binding| binding.owner == 11 || port == 3),
            [1]
        );
    }
}
