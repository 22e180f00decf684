// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What a WireGuard device is, and what a change to one says.
//!
//! Values only: no bytes on the wire, no I/O and no clock. Text is at most a name or the words for one
//! value. A [`Device`] is what the
//! kernel reported; an [`Update`] is what it is asked to become. Three states (keep, set, clear)
//! have a type here, so that no number has to double as "unset".

use std::fmt;
use std::marker::PhantomData;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::ifname;
use crate::key::{Key, PublicKey};

/// Longest name of a network device, in bytes, without the NUL (`IFNAMSIZ - 1`, linux/if.h).
pub const IFNAME_MAX: usize = 15;

/// Whether a network device can have this name, by the kernel's rule (`dev_valid_name`).
pub fn is_interface_name(name: &str) -> bool {
    let blank = [' ', '\t', '\n', '\x0b', '\x0c', '\r'];
    !name.is_empty()
        && !ifname::is_too_long(name)
        && name != "."
        && name != ".."
        && !name.contains(['/', ':'])
        && !name.contains(blank)
}

/// A device as its backend reported it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    pub name: String,
    /// `None` where the device has no private key.
    pub private_key: Option<Key>,
    /// `None` where the device has no private key.
    pub public_key: Option<PublicKey>,
    /// UDP port in host order; 0 until a port was chosen.
    pub listen_port: u16,
    /// Mark on outgoing encrypted packets; 0 is off.
    pub fwmark: u32,
    pub bind: Bind,
    /// `None` where it is not bound by rules, or cannot be told.
    pub receives: Option<Receives>,
    /// In the order the backend reported them.
    pub peers: Vec<Peer>,
}

/// One peer of a [`Device`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    pub public_key: PublicKey,
    pub preshared_key: Option<Key>,
    pub endpoint: Option<SocketAddr>,
    /// Time since the epoch (CLOCK_REALTIME); `None` before the first handshake.
    pub last_handshake: Option<Duration>,
    pub rx_bytes: u64,
    pub tx_bytes: u64,
    /// Seconds; 0 is off.
    pub persistent_keepalive: u16,
    pub allowed_ips: Packed<AllowedIp>,
}

/// A prefix; host bits are kept as the backend reported them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AllowedIp {
    pub addr: IpAddr,
    pub cidr: u8,
}

/// Where a device's encrypted packets are sent and received: its front-door VRF.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Bind {
    /// Not bound to any device.
    #[default]
    Off,
    /// `WGDEVICE_A_BIND_DEV` names a device of the namespace where this one was created.
    Kernel { dev: String, presence: Presence },
    /// Our own policy rules steer what the device sends into a VRF's table. `dev` is `None` when
    /// the rules are there and the VRF is not.
    Rules {
        dev: Option<String>,
        by: Selector,
        /// 0 when no rule says which one any more.
        table: u32,
        /// Where the rules do not hold the packets.
        faults: Vec<(Family, Fault)>,
        /// Whether its sockets are in another network namespace, where these rules do nothing;
        /// `None` where fewer sockets are on its port than interfaces here have it.
        elsewhere: Option<bool>,
    },
    /// The policy rules, or the VRF that they lead to, cannot be read. The text says why.
    Unknown { why: String },
}

impl Bind {
    /// Whether no rule is left that steers or stops what the device sends: only its sockets are bound.
    pub fn is_open(&self) -> bool {
        let Bind::Rules { faults, .. } = self else {
            return false;
        };
        // Of these two, one that rules bind has one in a family at most.
        faults.contains(&(Family::V4, Fault::NotSteered))
            && faults.contains(&(Family::V4, Fault::NotClosed))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub const ALL: [Family; 2] = [Family::V4, Family::V6];
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        })
    }
}

/// What tells the packets of a device from all others of this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selector {
    Mark(u32),
    /// The source port: the port that the device listens on.
    Port(u16),
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Selector::Mark(mark) => write!(f, "fwmark {mark:#x}"),
            Selector::Port(port) => write!(f, "source port {port}"),
        }
    }
}

/// Why packets that should stay in a table do not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No rule takes them to the table, or the closing rule comes first.
    NotSteered,
    /// Nothing stops them where the table has no route.
    NotClosed,
    /// A foreign rule with this priority comes first.
    Overtaken { pref: u32 },
    /// No rule is asked for those of an endpoint, which leave by this interface.
    Escapes { by: String },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::NotSteered => f.write_str("not steered"),
            Fault::NotClosed => f.write_str("not closed"),
            Fault::Overtaken { pref } => write!(f, "overtaken by rule {pref}"),
            Fault::Escapes { by } => write!(f, "endpoint leaves by {by}"),
        }
    }
}

/// Whether the device that the kernel binds to is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    Present,
    Missing,
    /// It is, and the sockets are bound to no device: `ss -K` takes a binding away.
    Unbound,
    /// It is, and no socket is on it: another one had the port when it came back.
    Unused,
    /// It is one of another namespace.
    Unknown,
}

/// What the sockets of a device that policy rules bind receive: the rules steer what it sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Receives {
    /// What arrives in the VRF, and nothing else.
    Bound,
    /// What arrives anywhere, or anywhere but in a VRF (`net.ipv4.udp_l3mdev_accept`).
    Any,
    /// They are bound to a device that is not there, or will be.
    Nothing,
    /// What arrives at these devices, to which they are bound, or will be, in place of the VRF.
    Other(Vec<String>),
    /// Other sockets are on its port, and nothing tells which are its own.
    Unclear,
}

impl Bind {
    /// The name of the bound device, where it is known.
    pub fn dev(&self) -> Option<&str> {
        match self {
            Bind::Off | Bind::Unknown { .. } => None,
            Bind::Kernel { dev, .. } => Some(dev),
            Bind::Rules { dev, .. } => dev.as_deref(),
        }
    }
}

/// What stands before the number of a routing table where a device is expected. No interface
/// can have such a name: the kernel allows no colon in one.
const TABLE_WORD: &str = "table:";

/// A VRF by the number of its table, for one that is not there.
pub fn bind_by_table(table: u32) -> String {
    format!("{TABLE_WORD}{table}")
}

/// The table, where a VRF is named by its number.
pub fn bind_table(dev: &str) -> Option<u32> {
    let digits = dev.strip_prefix(TABLE_WORD)?;
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    digits.parse().ok().filter(|_| plain)
}

/// What a change says about one value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Change<T> {
    /// Not mentioned: leave it.
    #[default]
    Keep,
    Set(T),
    /// Mentioned as "off" or empty: remove it.
    Clear,
}

impl<T> Change<T> {
    pub fn is_keep(&self) -> bool {
        matches!(self, Change::Keep)
    }
}

/// A change to one device. Names and key files are already resolved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Update {
    pub interface: String,
    pub private_key: Change<Key>,
    /// `Clear` lets the kernel choose a port (sent as 0).
    pub listen_port: Change<u16>,
    /// `Clear` is sent as 0.
    pub fwmark: Change<u32>,
    /// `Set` holds a device name of 1 to [`IFNAME_MAX`] bytes, or [`bind_table`]'s form.
    pub bind_dev: Change<String>,
    /// `bind_dev` is `Clear` because a file that states all does not mention it.
    pub bind_dev_omitted: bool,
    /// Remove all peers that the update does not name (`WGDEVICE_F_REPLACE_PEERS`).
    pub replace_peers: bool,
    pub peers: Vec<PeerUpdate>,
}

/// A change to one peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerUpdate {
    pub public_key: PublicKey,
    /// `WGPEER_F_REMOVE_ME`
    pub remove: bool,
    /// `WGPEER_F_UPDATE_ONLY`: a peer that is not there is not made.
    pub update_only: bool,
    /// `WGPEER_F_REPLACE_ALLOWEDIPS`
    pub replace_allowed_ips: bool,
    /// `Clear` is sent as 32 zero bytes.
    pub preshared_key: Change<Key>,
    pub endpoint: Option<SocketAddr>,
    /// Seconds; `Clear` is sent as 0.
    pub persistent_keepalive: Change<u16>,
    pub allowed_ips: Packed<AllowedIpUpdate>,
}

impl PeerUpdate {
    /// A change that says nothing yet about the peer with this key.
    pub fn new(public_key: PublicKey) -> Self {
        PeerUpdate {
            public_key,
            remove: false,
            update_only: false,
            replace_allowed_ips: false,
            preshared_key: Change::Keep,
            endpoint: None,
            persistent_keepalive: Change::Keep,
            allowed_ips: Packed::default(),
        }
    }
}

/// A prefix to add to a peer, or with `remove` (`WGALLOWEDIP_F_REMOVE_ME`) to take from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllowedIpUpdate {
    pub prefix: AllowedIp,
    pub remove: bool,
}

/// The prefixes of a peer in as few bytes as they take: large devices have a million of them.
#[derive(Clone)]
pub struct Packed<T>(Bytes, PhantomData<T>);

/// As many as most peers have need no place of their own: a prefix takes 5 bytes, or 17.
const FEW: usize = 30;

#[derive(Clone)]
enum Bytes {
    Few { length: u8, bytes: [u8; FEW] },
    Many(Vec<u8>),
}

impl Bytes {
    fn as_slice(&self) -> &[u8] {
        match self {
            Bytes::Few { length, bytes } => &bytes[..usize::from(*length)],
            Bytes::Many(all) => all,
        }
    }

    fn add(&mut self, more: &[u8]) {
        match self {
            Bytes::Few { length, bytes } => {
                let start = usize::from(*length);
                match bytes.get_mut(start..start + more.len()) {
                    Some(room) => {
                        room.copy_from_slice(more);
                        *length += more.len() as u8;
                    }
                    None => *self = Bytes::Many([&bytes[..start], more].concat()),
                }
            }
            Bytes::Many(all) => all.extend_from_slice(more),
        }
    }
}

impl<T: Pack> Packed<T> {
    pub fn push(&mut self, one: &T) {
        one.pack(|bytes| self.0.add(bytes));
    }

    /// Adds those of another list.
    pub fn append(&mut self, more: &Packed<T>) {
        self.0.add(more.0.as_slice());
    }

    /// Gives back what was reserved for more.
    pub fn shrink_to_fit(&mut self) {
        if let Bytes::Many(all) = &mut self.0 {
            all.shrink_to_fit();
        }
    }

    pub fn iter(&self) -> Unpack<'_, T> {
        Unpack(self.0.as_slice(), PhantomData)
    }

    pub fn is_empty(&self) -> bool {
        self.0.as_slice().is_empty()
    }
}

impl<T> Packed<T> {
    /// Whether both say the same in the same order; nothing is removed.
    pub fn is_like<U>(&self, other: &Packed<U>) -> bool {
        self.0.as_slice() == other.0.as_slice()
    }
}

impl<T> PartialEq for Packed<T> {
    fn eq(&self, other: &Self) -> bool {
        self.is_like(other)
    }
}

impl<T> Eq for Packed<T> {}

impl<T> Default for Packed<T> {
    fn default() -> Self {
        let bytes = Bytes::Few {
            length: 0,
            bytes: [0; FEW],
        };
        Packed(bytes, PhantomData)
    }
}

impl<T: Pack> FromIterator<T> for Packed<T> {
    fn from_iter<I: IntoIterator<Item = T>>(all: I) -> Self {
        let mut packed = Packed::default();
        all.into_iter().for_each(|one| packed.push(&one));
        packed.shrink_to_fit();
        packed
    }
}

impl<'a, T: Pack> IntoIterator for &'a Packed<T> {
    type Item = T;
    type IntoIter = Unpack<'a, T>;

    fn into_iter(self) -> Unpack<'a, T> {
        self.iter()
    }
}

impl<T: Pack + fmt::Debug> fmt::Debug for Packed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self).finish()
    }
}

/// Gives what is in a [`Packed`].
pub struct Unpack<'a, T>(&'a [u8], PhantomData<T>);

impl<T> Default for Unpack<'_, T> {
    /// Nothing.
    fn default() -> Self {
        Unpack(&[], PhantomData)
    }
}

impl<T: Pack> Iterator for Unpack<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        T::unpack(&mut self.0)
    }
}

/// What can be in a [`Packed`].
pub trait Pack: Sized {
    /// Hands what it takes to `add`.
    fn pack(&self, add: impl FnMut(&[u8]));
    /// Takes the next one from the front; `None` at the end.
    fn unpack(bytes: &mut &[u8]) -> Option<Self>;
}

/// Added to the bits of an IPv4 prefix; those of IPv6 are 0 to 128.
const PACKED_V4: u8 = 129;
/// Stands before a prefix that is removed.
const PACKED_REMOVE: u8 = 255;

impl Pack for AllowedIp {
    fn pack(&self, mut add: impl FnMut(&[u8])) {
        match self.addr {
            IpAddr::V4(v4) => {
                let [a, b, c, d] = v4.octets();
                add(&[PACKED_V4 + self.cidr.min(32), a, b, c, d]);
            }
            IpAddr::V6(v6) => {
                let mut bytes = [self.cidr.min(128); 17];
                bytes[1..].copy_from_slice(&v6.octets());
                add(&bytes);
            }
        }
    }

    fn unpack(bytes: &mut &[u8]) -> Option<Self> {
        let (first, rest) = bytes.split_first()?;
        let (addr, cidr, rest) = match first.checked_sub(PACKED_V4) {
            Some(cidr) => {
                let (octets, rest) = rest.split_first_chunk::<4>()?;
                (IpAddr::from(*octets), cidr, rest)
            }
            None => {
                let (octets, rest) = rest.split_first_chunk::<16>()?;
                (IpAddr::from(*octets), *first, rest)
            }
        };
        *bytes = rest;
        Some(AllowedIp { addr, cidr })
    }
}

impl Pack for AllowedIpUpdate {
    fn pack(&self, mut add: impl FnMut(&[u8])) {
        if self.remove {
            add(&[PACKED_REMOVE]);
        }
        self.prefix.pack(add);
    }

    fn unpack(bytes: &mut &[u8]) -> Option<Self> {
        let after = bytes.strip_prefix(&[PACKED_REMOVE]);
        let remove = after.is_some();
        *bytes = after.unwrap_or(bytes);
        let prefix = AllowedIp::unpack(bytes)?;
        Some(AllowedIpUpdate { prefix, remove })
    }
}

/// What a policy rule does with what it matches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Action {
    Table(u32),
    Unreachable,
    /// Prohibit or blackhole: as unreachable to a packet, and never a rule of ours.
    Drop,
    Nop,
    Goto,
    /// It is not known.
    #[default]
    Other,
}

/// A policy rule, reduced to what decides whether it touches what this host sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    pub pref: u32,
    pub mark: u32,
    /// 0: the mark is not looked at.
    pub mask: u32,
    pub protocol: u8,
    pub action: Action,
    /// `not`
    pub invert: bool,
    /// Matches only packets that belong to a VRF already.
    pub l3mdev: bool,
    /// `iif lo`: what this host sends itself.
    pub local_output: bool,
    /// `iif` of another interface: never what this host sends itself.
    pub forwarded_only: bool,
    /// `ipproto`; 0 for any.
    pub ip_proto: u8,
    /// `sport`, the first and the last.
    pub source_ports: Option<(u16, u16)>,
    /// `suppress_prefixlength` or `suppress_ifgroup`
    pub suppress: bool,
    /// Looks at more than the members above.
    pub narrowed: bool,
}

/// A UDP socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UdpSocket {
    pub port: u16,
    pub v6: bool,
    pub inode: u32,
    /// Whether a process has it, or the wireguard module; `None` where it cannot be told.
    pub process: Option<bool>,
    /// It takes packets to every address, as WireGuard's sockets do.
    pub wildcard: bool,
    /// The index of the device that it is bound to; 0: none.
    pub device: u32,
    /// Its SO_MARK, which the module's sockets do not have: WireGuard marks each packet.
    pub mark: u32,
}

impl UdpSocket {
    /// Whether it may be that of a device: it takes packets to every address, and is a process's or
    /// the module's, as the device's are.
    pub fn may_be_of(&self, process: bool) -> bool {
        self.wildcard && self.process.is_none_or(|is| is == process)
    }
}

/// What the bind hooks do with the sockets on a port of a namespace, and for which device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HookEntry {
    /// The VRF's name. Empty: to no device at all, so that nothing is received until `wg` is
    /// asked which one.
    pub vrf: String,
    /// To no device, and so to everything: the device is being unbound.
    pub leaving: bool,
    /// The sockets are those of a process.
    pub process: bool,
    /// The index of the WireGuard device, to tell whether it is still there.
    pub owner: u32,
    /// The device's mark: known also while the device has another one for a moment.
    pub mark: u32,
    /// The device has it from another one, and nobody accepted for it that sockets of other programs
    /// are bound as well.
    pub inherited: bool,
}

impl HookEntry {
    /// Whether it was made for the device with this index, which is bound.
    pub fn was_accepted_for(&self, index: u32) -> bool {
        self.owner == index && !self.leaving && !self.inherited
    }
}
