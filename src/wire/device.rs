// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The `wireguard` family: an [`Update`] as messages that each fit, a dump as a [`Device`].
//!
//! An attribute's length is 16 bits wide, so one message carries a little less than 64 KiB of
//! peers. Larger updates are cut between peers, and within a peer between its allowed-ips. A
//! continuation says no more than it must: no device attributes, no keys but the peer's public
//! one, and no "replace" flag, which would undo the messages in front of it.
//!
//! netlink-packet-wireguard has the attributes of the device. Peers are written and read here, in
//! place: as its values they would be in memory a second time, with keys that are not wiped, and take
//! several times the instructions. The tests hold both against each other.

use std::iter::Peekable;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::time::Duration;

use netlink_packet_core::{DefaultNla, NLM_F_DUMP, Parseable};
use netlink_packet_generic::GenlMessage;
use netlink_packet_wireguard::{
    WireguardAllowedIpFlags, WireguardAttribute, WireguardCmd, WireguardDeviceFlags,
    WireguardMessage, WireguardPeerFlags,
};
use zeroize::Zeroize;

use super::nlmsg::{
    self, GENL_HEADER_LEN, Request, attributes_of, close_nest, iter_attributes, open_nest,
    put_attribute as put,
};
use crate::ifname;
use crate::key::{KEY_LEN, Key, PublicKey};
use crate::model::{
    AllowedIp, AllowedIpUpdate, Bind, Change, Device, Packed, Peer, PeerUpdate, Unpack, Update,
};

/// The name of the generic netlink family (linux/wireguard.h).
pub const FAMILY: &str = "wireguard";
/// The command that changes a device (linux/wireguard.h).
pub const WG_CMD_SET_DEVICE: u8 = 1;
/// The device that the sockets are bound to, as a name (our kernel patches).
pub const WGDEVICE_A_BIND_DEV: u16 = 9;

// linux/wireguard.h
const WGDEVICE_A_IFNAME: u16 = 2;
const WGDEVICE_A_PRIVATE_KEY: u16 = 3;
const WGDEVICE_A_PEERS: u16 = 8;
const WGPEER_A_PUBLIC_KEY: u16 = 1;
const WGPEER_A_PRESHARED_KEY: u16 = 2;
const WGPEER_A_FLAGS: u16 = 3;
const WGPEER_A_ENDPOINT: u16 = 4;
const WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL: u16 = 5;
const WGPEER_A_LAST_HANDSHAKE_TIME: u16 = 6;
const WGPEER_A_RX_BYTES: u16 = 7;
const WGPEER_A_TX_BYTES: u16 = 8;
const WGPEER_A_ALLOWEDIPS: u16 = 9;
const WGALLOWEDIP_A_FAMILY: u16 = 1;
const WGALLOWEDIP_A_IPADDR: u16 = 2;
const WGALLOWEDIP_A_CIDR_MASK: u16 = 3;
const WGALLOWEDIP_A_FLAGS: u16 = 4;

/// No message is longer than this: what stands in front of the peers, and the peers.
pub const LONGEST: usize = 512 + u16::MAX as usize;

/// What fits between the header of WGDEVICE_A_PEERS and the end that 16 bits can name.
const PEERS_MAX: usize = (u16::MAX as usize - 4) & !3;

fn pad_length(value: usize) -> usize {
    4 + value.next_multiple_of(4)
}

/// Asks for one device.
pub fn encode_get(family: u16, interface: &str) -> Request {
    let name = name_attribute(WGDEVICE_A_IFNAME, &ifname::name_bytes(interface));
    nlmsg::encode_request(
        &new_message(family, WireguardCmd::GetDevice, vec![name]),
        NLM_F_DUMP | nlmsg::ACK,
    )
}

fn new_message(
    family: u16,
    cmd: WireguardCmd,
    attributes: Vec<WireguardAttribute>,
) -> GenlMessage<WireguardMessage> {
    let mut message = GenlMessage::from_payload(WireguardMessage { cmd, attributes });
    message.set_resolved_family_id(family);
    message
}

/// The messages that make `update` happen, to be sent in this order.
pub fn encode_set(family: u16, update: &Update) -> Messages<'_> {
    Messages {
        family,
        update,
        peers: update.peers.iter(),
        open: None,
        first: true,
        longest: LONGEST,
    }
}

/// Encodes one message of an update at a time, so that a large one needs no second copy in memory.
pub struct Messages<'a> {
    family: u16,
    update: &'a Update,
    peers: std::slice::Iter<'a, PeerUpdate>,
    /// The peer that comes next, what is left of its prefixes, and whether nothing of it was sent.
    open: Option<(&'a PeerUpdate, Peekable<Unpack<'a, AllowedIpUpdate>>, bool)>,
    first: bool,
    /// What the socket takes.
    longest: usize,
}

impl Iterator for Messages<'_> {
    type Item = Request;

    fn next(&mut self) -> Option<Request> {
        self.take_peer();
        if !std::mem::take(&mut self.first) {
            self.open.as_ref()?;
            let name = ifname::name_bytes(&self.update.interface);
            let name = name_attribute(WGDEVICE_A_IFNAME, &name);
            return Some(self.encode_message(vec![name]));
        }
        Some(self.encode_message(device_attributes(self.update)))
    }
}

impl Messages<'_> {
    /// Messages of at most so many bytes. A socket takes some thousand, which is more than
    /// a device with the keys of one peer and a prefix.
    pub fn fit(mut self, longest: usize) -> Self {
        self.longest = longest;
        self
    }

    fn take_peer(&mut self) {
        if self.open.is_none() {
            let next = self.peers.next();
            self.open = next.map(|peer| (peer, sent_ips(peer).peekable(), true));
        }
    }

    /// A message of these attributes and as many peers as it takes.
    fn encode_message(&mut self, device: Vec<WireguardAttribute>) -> Request {
        let mut message = new_message(self.family, WireguardCmd::SetDevice, device);
        let head = nlmsg::encode_request(&message, nlmsg::ACK);
        wipe_key(&mut message.payload.attributes);
        if self.open.is_none() {
            return head;
        }
        // It never grows: what grows leaves keys behind.
        let room = self.longest.saturating_sub(head.len() + 4);
        let room = room.min(self.size_left()).min(PEERS_MAX);
        let mut bytes = Request::new(Vec::with_capacity(head.len() + 4 + room));
        bytes.extend_from_slice(&head);
        let list = open_nest(&mut bytes, WGDEVICE_A_PEERS);
        let end = bytes.len() + room;
        while let Some((peer, ips, head)) = &mut self.open {
            let base = pad_length(peer_len(peer, *head));
            let one = ips.peek().map_or(0, |ip| 4 + allowed_ip_len(ip));
            // An empty message takes any peer and at least one prefix.
            if bytes.len() + base + one > end {
                break;
            }
            let nest = open_nest(&mut bytes, 0);
            put_peer(&mut bytes, peer, std::mem::take(head));
            if one > 0 {
                put_allowed_ips(&mut bytes, ips, end);
            }
            close_nest(&mut bytes, nest);
            if ips.peek().is_some() {
                break;
            }
            self.open = None;
            self.take_peer();
        }
        close_nest(&mut bytes, list);
        nlmsg::set_length(&mut bytes);
        bytes
    }

    /// At least the bytes of the peers that are left, or [`PEERS_MAX`].
    fn size_left(&self) -> usize {
        let open = self.open.iter().map(|(peer, _, _)| *peer);
        let mut size = 0;
        for peer in open.chain(self.peers.clone()) {
            let prefixes = sent_ips(peer).map(|ip| allowed_ip_len(&ip));
            size += pad_length(peer_len(peer, true)) + 4;
            size += prefixes.take(PEERS_MAX / 4).sum::<usize>();
            if size >= PEERS_MAX {
                break;
            }
        }
        size
    }
}

fn device_attributes(update: &Update) -> Vec<WireguardAttribute> {
    // Taken apart so that a new field cannot be forgotten here.
    let Update {
        interface,
        private_key,
        listen_port,
        fwmark,
        bind_dev,
        bind_dev_omitted: _,
        replace_peers,
        peers: _,
    } = update;
    let mut attributes = Vec::with_capacity(8);
    attributes.push(name_attribute(
        WGDEVICE_A_IFNAME,
        &ifname::name_bytes(interface),
    ));
    match private_key {
        Change::Keep => {}
        Change::Set(key) => attributes.push(WireguardAttribute::PrivateKey(*key.as_bytes())),
        Change::Clear => attributes.push(WireguardAttribute::PrivateKey([0; KEY_LEN])),
    }
    if let Some(port) = number_to_send(listen_port) {
        attributes.push(WireguardAttribute::ListenPort(port));
    }
    if let Some(mark) = number_to_send(fwmark) {
        attributes.push(WireguardAttribute::Fwmark(mark));
    }
    let name = match bind_dev {
        Change::Keep => None,
        Change::Set(name) => Some(name.as_str()),
        Change::Clear => Some(""),
    };
    if let Some(name) = name {
        let bytes = ifname::to_bytes(name).unwrap_or_else(|| name.as_bytes().to_vec());
        attributes.push(name_attribute(WGDEVICE_A_BIND_DEV, &bytes));
    }
    if *replace_peers {
        attributes.push(WireguardAttribute::Flags(
            WireguardDeviceFlags::ReplacePeers,
        ));
    }
    attributes
}

/// The name of an interface, which may be bytes that are no text.
fn name_attribute(kind: u16, name: &[u8]) -> WireguardAttribute {
    WireguardAttribute::Other(DefaultNla::new(kind, [name, b"\0"].concat()))
}

/// What is sent for a number: 0 clears it.
fn number_to_send<T: Copy + Default>(change: &Change<T>) -> Option<T> {
    match change {
        Change::Keep => None,
        Change::Set(value) => Some(*value),
        Change::Clear => Some(T::default()),
    }
}

/// The prefixes that are sent. The kernel looks at no value of a peer that is to go, and prefixes that
/// take another message would make it again.
fn sent_ips(peer: &PeerUpdate) -> Unpack<'_, AllowedIpUpdate> {
    match peer.remove {
        true => Unpack::default(),
        false => peer.allowed_ips.iter(),
    }
}

/// Bytes of [`put_peer`].
fn peer_len(peer: &PeerUpdate, head: bool) -> usize {
    let key = pad_length(KEY_LEN);
    let mut len = key;
    if !peer_flags(peer, head).is_empty() {
        len += pad_length(4);
    }
    if head && !peer.remove {
        if !peer.preshared_key.is_keep() {
            len += key;
        }
        len += match peer.endpoint {
            None => 0,
            Some(addr) if addr.is_ipv4() => pad_length(16),
            Some(_) => pad_length(28),
        };
        if !peer.persistent_keepalive.is_keep() {
            len += pad_length(2);
        }
    }
    len
}

/// Bytes of one prefix, its own header included.
fn allowed_ip_len(ip: &AllowedIpUpdate) -> usize {
    let addr = if ip.prefix.addr.is_ipv4() { 4 } else { 16 };
    4 + pad_length(2) + pad_length(addr) + pad_length(1) + if ip.remove { pad_length(4) } else { 0 }
}

fn peer_flags(peer: &PeerUpdate, head: bool) -> WireguardPeerFlags {
    let mut flags = WireguardPeerFlags::empty();
    flags.set(WireguardPeerFlags::RemoveMe, head && peer.remove);
    // In each message of a peer that is split: it may go between them.
    flags.set(WireguardPeerFlags::UpdateOnly, peer.update_only);
    flags.set(
        WireguardPeerFlags::ReplaceAllowedIps,
        head && peer.replace_allowed_ips,
    );
    flags
}

fn put_peer(bytes: &mut Request, peer: &PeerUpdate, head: bool) {
    let PeerUpdate {
        public_key,
        remove,
        update_only: _,
        replace_allowed_ips: _,
        preshared_key,
        endpoint,
        persistent_keepalive,
        allowed_ips: _,
    } = peer;
    put(bytes, WGPEER_A_PUBLIC_KEY, public_key.as_bytes());
    if head && !remove {
        match preshared_key {
            Change::Keep => {}
            Change::Set(key) => put(bytes, WGPEER_A_PRESHARED_KEY, key.as_bytes()),
            Change::Clear => put(bytes, WGPEER_A_PRESHARED_KEY, &[0; KEY_LEN]),
        }
        match endpoint {
            None => {}
            Some(SocketAddr::V4(addr)) => put(bytes, WGPEER_A_ENDPOINT, &encode_v4(addr)),
            Some(SocketAddr::V6(addr)) => put(bytes, WGPEER_A_ENDPOINT, &encode_v6(addr)),
        }
        if let Some(seconds) = number_to_send(persistent_keepalive) {
            put(
                bytes,
                WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL,
                &seconds.to_ne_bytes(),
            );
        }
    }
    let flags = peer_flags(peer, head);
    if !flags.is_empty() {
        put(bytes, WGPEER_A_FLAGS, &flags.bits().to_ne_bytes());
    }
}

/// Takes prefixes as long as they end before `end`.
fn put_allowed_ips(
    bytes: &mut Request,
    ips: &mut Peekable<Unpack<'_, AllowedIpUpdate>>,
    end: usize,
) {
    let list = open_nest(bytes, WGPEER_A_ALLOWEDIPS);
    while let Some(ip) = ips.next_if(|ip| bytes.len() + allowed_ip_len(ip) <= end) {
        put_allowed_ip(bytes, &ip);
    }
    close_nest(bytes, list);
}

fn put_allowed_ip(bytes: &mut Request, ip: &AllowedIpUpdate) {
    let AllowedIpUpdate {
        prefix: AllowedIp { addr, cidr },
        remove,
    } = *ip;
    let nest = open_nest(bytes, 0);
    let mut put_address = |family: libc::c_int, octets: &[u8]| {
        put(bytes, WGALLOWEDIP_A_FAMILY, &(family as u16).to_ne_bytes());
        put(bytes, WGALLOWEDIP_A_IPADDR, octets);
    };
    match addr {
        IpAddr::V4(addr) => put_address(libc::AF_INET, &addr.octets()),
        IpAddr::V6(addr) => put_address(libc::AF_INET6, &addr.octets()),
    }
    put(bytes, WGALLOWEDIP_A_CIDR_MASK, &[cidr]);
    if remove {
        let flags = WireguardAllowedIpFlags::RemoveMe.bits();
        put(bytes, WGALLOWEDIP_A_FLAGS, &flags.to_ne_bytes());
    }
    close_nest(bytes, nest);
}

/// `struct sockaddr_in` (ip(7)).
fn encode_v4(addr: &SocketAddrV4) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
    bytes[2..4].copy_from_slice(&addr.port().to_be_bytes());
    bytes[4..8].copy_from_slice(&addr.ip().octets());
    bytes
}

/// `struct sockaddr_in6` (ipv6(7)).
fn encode_v6(addr: &SocketAddrV6) -> [u8; 28] {
    let mut bytes = [0; 28];
    bytes[..2].copy_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
    bytes[2..4].copy_from_slice(&addr.port().to_be_bytes());
    bytes[4..8].copy_from_slice(&addr.flowinfo().to_ne_bytes());
    bytes[8..24].copy_from_slice(&addr.ip().octets());
    bytes[24..].copy_from_slice(&addr.scope_id().to_ne_bytes());
    bytes
}

/// Overwrites the private key in attributes that were encoded.
fn wipe_key(attributes: &mut [WireguardAttribute]) {
    for attribute in attributes {
        if let WireguardAttribute::PrivateKey(key) = attribute {
            key.zeroize();
        }
    }
}

/// Puts the messages of one dump together.
#[derive(Debug)]
pub struct Decoder {
    device: Device,
    /// `WGDEVICE_A_BIND_DEV` as dumped: `None` where the kernel does not have it.
    bind_dev: Option<String>,
    /// Of the last peer, which gets them when they are all there.
    allowed_ips: Vec<AllowedIp>,
}

impl Decoder {
    pub fn new(interface: &str) -> Self {
        Decoder {
            device: Device {
                name: interface.to_owned(),
                private_key: None,
                public_key: None,
                listen_port: 0,
                fwmark: 0,
                bind: Bind::Off,
                receives: None,
                peers: Vec::new(),
            },
            bind_dev: None,
            allowed_ips: Vec::new(),
        }
    }

    /// Takes the next message.
    ///
    /// # Errors
    /// A text for the user, when an attribute does not hold what its type says.
    pub fn add_answer(&mut self, payload: &[u8]) -> Result<(), String> {
        let body = payload
            .get(GENL_HEADER_LEN..)
            .ok_or("a message shorter than its header")?;
        for nla in attributes_of(body) {
            match nla.kind() {
                WGDEVICE_A_PEERS => self.read_peers(nla.value())?,
                WGDEVICE_A_IFNAME => self.device.name = nlmsg::read_name(nla.value()),
                // From the buffer, which is wiped, to its place: as a value of the codec it would be
                // left on the stack.
                WGDEVICE_A_PRIVATE_KEY => {
                    self.device.private_key = read_key(nla.value(), WGDEVICE_A_PRIVATE_KEY)?;
                }
                WGDEVICE_A_BIND_DEV => self.bind_dev = Some(nlmsg::read_name(nla.value())),
                _ => {
                    self.read_attribute(WireguardAttribute::parse(&nla).map_err(|e| e.to_string())?)
                }
            }
        }
        Ok(())
    }

    /// The device, and the name it is bound to where the kernel knows the attribute.
    pub fn finish_device(mut self) -> (Device, Option<String>) {
        self.end_peer();
        (self.device, self.bind_dev)
    }

    fn read_attribute(&mut self, attribute: WireguardAttribute) {
        match attribute {
            // All zero where there is no private key.
            WireguardAttribute::PublicKey(bytes) => {
                let key = PublicKey::from_bytes(bytes);
                self.device.public_key = (bytes != [0; KEY_LEN]).then_some(key);
            }
            WireguardAttribute::ListenPort(port) => self.device.listen_port = port,
            WireguardAttribute::Fwmark(mark) => self.device.fwmark = mark,
            // The index is the name's; flags are never dumped; the rest is news from a newer
            // kernel.
            _ => {}
        }
    }

    /// Peers one attribute at a time: ten thousand of them need no second copy in memory.
    fn read_peers(&mut self, peers: &[u8]) -> Result<(), String> {
        for (_, peer) in iter_attributes(peers) {
            self.read_peer(peer)?;
        }
        Ok(())
    }

    fn read_peer(&mut self, attributes: &[u8]) -> Result<(), String> {
        let mut peer: Option<Peer> = None;
        let mut allowed_ips = Vec::new();
        for (kind, value) in iter_attributes(attributes) {
            let Some(peer) = &mut peer else {
                // The kernel says it first.
                if kind == WGPEER_A_PUBLIC_KEY {
                    peer = Some(empty_peer(PublicKey::from_bytes(read_array(value, kind)?)));
                }
                continue;
            };
            match kind {
                WGPEER_A_PRESHARED_KEY => {
                    peer.preshared_key = read_key(value, kind)?;
                }
                WGPEER_A_ENDPOINT => peer.endpoint = Some(decode_endpoint(value)?),
                WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL => {
                    peer.persistent_keepalive = u16::from_ne_bytes(read_array(value, kind)?);
                }
                WGPEER_A_LAST_HANDSHAKE_TIME => peer.last_handshake = decode_time(value)?,
                WGPEER_A_RX_BYTES => peer.rx_bytes = u64::from_ne_bytes(read_array(value, kind)?),
                WGPEER_A_TX_BYTES => peer.tx_bytes = u64::from_ne_bytes(read_array(value, kind)?),
                WGPEER_A_ALLOWEDIPS => decode_allowed_ips(value, &mut allowed_ips)?,
                // News from a newer kernel.
                _ => {}
            }
        }
        let Some(peer) = peer else {
            return Err("a peer without a public key".into());
        };
        // The kernel ends a message in the middle of a peer and goes on with its allowed-ips
        // under the same key in the next one.
        let last = self.device.peers.last();
        if last.is_none_or(|last| last.public_key != peer.public_key) {
            self.end_peer();
            self.device.peers.push(peer);
        }
        self.allowed_ips.append(&mut allowed_ips);
        Ok(())
    }

    fn end_peer(&mut self) {
        if let Some(peer) = self.device.peers.last_mut() {
            peer.allowed_ips = self.allowed_ips.drain(..).collect();
        }
    }
}

fn decode_allowed_ips(prefixes: &[u8], into: &mut Vec<AllowedIp>) -> Result<(), String> {
    for (_, prefix) in iter_attributes(prefixes) {
        let (mut addr, mut cidr) = (None, None);
        for (kind, value) in iter_attributes(prefix) {
            match kind {
                WGALLOWEDIP_A_IPADDR if value.len() == 4 => {
                    addr = Some(IpAddr::from(read_array::<4>(value, kind)?));
                }
                WGALLOWEDIP_A_IPADDR => {
                    addr = Some(IpAddr::from(read_array::<16>(value, kind)?));
                }
                WGALLOWEDIP_A_CIDR_MASK => cidr = Some(read_array::<1>(value, kind)?[0]),
                _ => {}
            }
        }
        match (addr, cidr) {
            (Some(addr), Some(cidr)) if cidr <= if addr.is_ipv4() { 32 } else { 128 } => {
                into.push(AllowedIp { addr, cidr });
            }
            _ => return Err("an allowed-ip without a whole prefix".into()),
        }
    }
    Ok(())
}

/// `struct sockaddr_in` or `struct sockaddr_in6`, whichever its family says.
fn decode_endpoint(value: &[u8]) -> Result<SocketAddr, String> {
    let family = value.first_chunk().map_or(0, |f| u16::from_ne_bytes(*f));
    let port = |bytes: &[u8]| u16::from_be_bytes([bytes[2], bytes[3]]);
    match libc::c_int::from(family) {
        libc::AF_INET => {
            let bytes: [u8; 16] = read_array(value, WGPEER_A_ENDPOINT)?;
            let ip = nlmsg::bytes_at::<4>(&bytes, 4);
            Ok(SocketAddr::from((ip, port(&bytes))))
        }
        libc::AF_INET6 => {
            let bytes: [u8; 28] = read_array(value, WGPEER_A_ENDPOINT)?;
            let ip = Ipv6Addr::from(nlmsg::bytes_at::<16>(&bytes, 8));
            let [flow, scope] = [4, 24].map(|at| nlmsg::u32_at(&bytes, at));
            Ok(SocketAddrV6::new(ip, port(&bytes), flow, scope).into())
        }
        _ => Err(format!("an endpoint of address family {family}")),
    }
}

/// `struct __kernel_timespec` (linux/time_types.h), all zero for never.
fn decode_time(value: &[u8]) -> Result<Option<Duration>, String> {
    let bytes: [u8; 16] = read_array(value, WGPEER_A_LAST_HANDSHAKE_TIME)?;
    let [seconds, nanoseconds] = [0, 8].map(|at| i64::from_ne_bytes(nlmsg::bytes_at(&bytes, at)));
    let at = Duration::new(
        u64::try_from(seconds).unwrap_or(0),
        u32::try_from(nanoseconds).unwrap_or(0),
    );
    Ok((!at.is_zero()).then_some(at))
}

fn read_array<const N: usize>(value: &[u8], kind: u16) -> Result<[u8; N], String> {
    value.try_into().map_err(|_| explain_length(value, kind, N))
}

fn explain_length(value: &[u8], kind: u16, wanted: usize) -> String {
    format!(
        "attribute {kind} with {} bytes instead of {wanted}",
        value.len()
    )
}

fn empty_peer(public_key: PublicKey) -> Peer {
    Peer {
        public_key,
        preshared_key: None,
        endpoint: None,
        last_handshake: None,
        rx_bytes: 0,
        tx_bytes: 0,
        persistent_keepalive: 0,
        allowed_ips: Packed::default(),
    }
}

/// All zero is the kernel's "none".
fn read_key(value: &[u8], kind: u16) -> Result<Option<Key>, String> {
    let key = Key::from_slice(value).ok_or_else(|| explain_length(value, kind, KEY_LEN))?;
    Ok((!key.is_zero()).then_some(key))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::Ipv4Addr;

    use netlink_packet_wireguard::{
        WireguardAddressFamily, WireguardAllowedIp, WireguardAllowedIpAttr, WireguardPeer,
        WireguardPeerAttribute,
    };

    use super::*;

    const FAMILY_ID: u16 = 31;

    fn k(n: u32) -> Key {
        Key::from_bytes(*p(n).as_bytes())
    }

    fn p(n: u32) -> PublicKey {
        let mut bytes = [7; KEY_LEN];
        bytes[..4].copy_from_slice(&n.to_be_bytes());
        PublicKey::from_bytes(bytes)
    }

    fn prefix(n: u32) -> AllowedIpUpdate {
        AllowedIpUpdate {
            prefix: AllowedIp {
                addr: IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + n)),
                cidr: 32,
            },
            remove: false,
        }
    }

    /// What a kernel would hold after the messages: written from drivers/net/wireguard/netlink.c,
    /// with nothing of the encoder in it.
    #[derive(Default, Debug, PartialEq)]
    struct FakeKernel {
        port: Option<u16>,
        mark: Option<u32>,
        private: Option<Vec<u8>>,
        bind: Option<Vec<u8>>,
        peers: BTreeMap<Vec<u8>, KernelPeer>,
    }

    #[derive(Default, Debug, PartialEq)]
    struct KernelPeer {
        psk: Vec<u8>,
        endpoint: Vec<u8>,
        keepalive: u16,
        ips: Vec<Vec<u8>>,
    }

    fn nlas(mut bytes: &[u8]) -> Vec<(u16, Vec<u8>)> {
        let mut out = Vec::new();
        while bytes.len() >= 4 {
            let len = nlmsg::u16_at(bytes, 0) as usize;
            assert!(len >= 4 && len <= bytes.len(), "nla_len {len}");
            out.push((nlmsg::u16_at(bytes, 2) & 0x3fff, bytes[4..len].to_vec()));
            bytes = &bytes[len.next_multiple_of(4).min(bytes.len())..];
        }
        assert!(bytes.is_empty());
        out
    }

    impl FakeKernel {
        fn set(&mut self, message: &[u8], name: &str) {
            assert_eq!(nlmsg::u32_at(message, 0) as usize, message.len());
            assert_eq!(nlmsg::u16_at(message, 4), FAMILY_ID);
            assert_eq!(nlmsg::u16_at(message, 6), 5, "REQUEST | ACK");
            assert_eq!(&message[16..20], [1, 1, 0, 0], "SET_DEVICE, version 1");
            let attributes = nlas(&message[20..]);
            let get = |kind| attributes.iter().find(|a| a.0 == kind).map(|a| a.1.clone());
            assert_eq!(get(2).unwrap(), [name.as_bytes(), b"\0"].concat());
            self.private = get(3).or(self.private.take());
            self.port = get(6).map(|v| nlmsg::u16_at(&v, 0)).or(self.port);
            self.mark = get(7).map(|v| nlmsg::u32_at(&v, 0)).or(self.mark);
            self.bind = get(9).or(self.bind.take());
            if get(5).is_some_and(|v| nlmsg::u32_at(&v, 0) & 1 != 0) {
                self.peers.clear();
            }
            for (_, peer) in nlas(&get(8).unwrap_or_default()) {
                self.peer(&nlas(&peer));
            }
        }

        fn peer(&mut self, attributes: &[(u16, Vec<u8>)]) {
            let get = |kind| attributes.iter().find(|a| a.0 == kind).map(|a| a.1.clone());
            let key = get(1).unwrap();
            let flags = get(3).map_or(0, |v| nlmsg::u32_at(&v, 0));
            if flags & 1 != 0 {
                self.peers.remove(&key);
                return;
            }
            assert_eq!(flags & !7, 0, "flags that the kernel has");
            if flags & 4 != 0 && !self.peers.contains_key(&key) {
                return;
            }
            let peer = self.peers.entry(key).or_default();
            if flags & 2 != 0 {
                peer.ips.clear();
            }
            peer.psk = get(2).unwrap_or(std::mem::take(&mut peer.psk));
            peer.endpoint = get(4).unwrap_or(std::mem::take(&mut peer.endpoint));
            peer.keepalive = get(5).map_or(peer.keepalive, |v| nlmsg::u16_at(&v, 0));
            for (_, ip) in nlas(&get(9).unwrap_or_default()) {
                let ip = nlas(&ip);
                let find = |kind| ip.iter().find(|a| a.0 == kind).map(|a| a.1.clone());
                let value = [find(2).unwrap(), find(3).unwrap()].concat();
                if find(4).is_some_and(|v| nlmsg::u32_at(&v, 0) & 1 != 0) {
                    peer.ips.retain(|known| *known != value);
                } else {
                    peer.ips.push(value);
                }
            }
        }
    }

    fn applied(update: &Update) -> (FakeKernel, Vec<Request>) {
        let messages: Vec<_> = encode_set(FAMILY_ID, update).collect();
        let mut kernel = FakeKernel::default();
        for message in &messages {
            kernel.set(message, &update.interface);
        }
        (kernel, messages)
    }

    fn update(peers: Vec<PeerUpdate>) -> Update {
        Update {
            interface: "wg0".into(),
            private_key: Change::Set(k(1)),
            listen_port: Change::Set(51001),
            fwmark: Change::Set(0x3ff),
            bind_dev: Change::Set("vrf_external".into()),
            bind_dev_omitted: false,
            replace_peers: true,
            peers,
        }
    }

    fn busy_peer(n: u32, ips: u32) -> PeerUpdate {
        PeerUpdate {
            replace_allowed_ips: true,
            preshared_key: Change::Set(k(n + 1_000_000)),
            endpoint: Some(if n & 1 == 0 {
                SocketAddr::from(([192, 0, 2, 1], 51820))
            } else {
                "[2001:db8::1]:51820".parse().unwrap()
            }),
            persistent_keepalive: Change::Set(25),
            allowed_ips: (0..ips).map(prefix).collect(),
            ..PeerUpdate::new(p(n))
        }
    }

    /// `WGPEER_F_UPDATE_ONLY` (linux/wireguard.h): a peer that was removed stays so.
    #[test]
    fn a_peer_that_is_gone_is_not_made_again() {
        let gone = PeerUpdate {
            update_only: true,
            ..busy_peer(7, 5000)
        };
        let (kernel, messages) = applied(&Update {
            replace_peers: false,
            ..update(vec![gone])
        });
        assert!(messages.len() > 1, "it is split");
        assert!(kernel.peers.is_empty());
    }

    /// What the reference (1.0.20260223) sends for this file, taken with strace from its
    /// `setconf`; the keys were made for it. Byte for byte the same request.
    #[test]
    fn a_file_is_sent_as_the_reference_sends_it() {
        let key = |hex: &str| Key::from_hex(hex.as_bytes()).unwrap();
        let public_key = |hex: &str| PublicKey::from_hex(hex.as_bytes()).unwrap();
        let ip = |text: &str| {
            let (addr, cidr) = text.split_once('/').unwrap();
            AllowedIpUpdate {
                prefix: AllowedIp {
                    addr: addr.parse().unwrap(),
                    cidr: cidr.parse().unwrap(),
                },
                remove: false,
            }
        };
        let update = Update {
            interface: "wg0".into(),
            private_key: Change::Set(key(
                "d0c1e5049c6586afeb97e53b0d3e232c60e2664897d5a1c15b3c3321ce22e860",
            )),
            listen_port: Change::Set(51001),
            fwmark: Change::Set(0x99),
            bind_dev: Change::Keep,
            bind_dev_omitted: false,
            replace_peers: true,
            peers: vec![
                PeerUpdate {
                    preshared_key: Change::Set(key(
                        "82ea2efe9c6ef906f44c592e671a6a0026101e1782378106a0e0f93974abb6db",
                    )),
                    endpoint: Some("192.0.2.1:5".parse().unwrap()),
                    persistent_keepalive: Change::Set(25),
                    replace_allowed_ips: true,
                    allowed_ips: [ip("10.0.0.0/8"), ip("fd00::/8")].into_iter().collect(),
                    ..PeerUpdate::new(public_key(
                        "3c4a2d8aa58940493d8c95d077b4619ba3cf01ce8deb0dba7116901e0cc5b600",
                    ))
                },
                PeerUpdate {
                    endpoint: Some("[fe80::1%4]:77".parse().unwrap()),
                    replace_allowed_ips: true,
                    allowed_ips: [ip("10.1.0.0/16")].into_iter().collect(),
                    ..PeerUpdate::new(public_key(
                        "8f1fb11c61fa9ac0594f360625a48ecc265523a28009b9c205655ccced6dfe0e",
                    ))
                },
            ],
        };
        let (_, messages) = applied(&update);
        let hex: Vec<_> = messages[0][16..]
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        let sent = hex.concat();
        assert_eq!(messages.len(), 1);
        if cfg!(target_endian = "little") {
            assert_eq!(sent, REFERENCE_REQUEST.replace(char::is_whitespace, ""));
        }
    }

    const REFERENCE_REQUEST: &str = "\
            01010000080002007767300024000300d0c1e5049c6586afeb97e53b0d3e232c60e2664897d5a1c1 \
            5b3c3321ce22e8600600060039c70000080007009900000008000500010000002c010880b8000080 \
            240001003c4a2d8aa58940493d8c95d077b4619ba3cf01ce8deb0dba7116901e0cc5b60024000200 \
            82ea2efe9c6ef906f44c592e671a6a0026101e1782378106a0e0f93974abb6db1400040002000005 \
            c0000201000000000000000006000500190000000800030002000000480009801c00008006000100 \
            02000000080002000a000000050003000800000028000080060001000a00000014000200fd000000 \
            000000000000000000000000050003000800000070000080240001008f1fb11c61fa9ac0594f3606 \
            25a48ecc265523a28009b9c205655ccced6dfe0e200004000a00004d00000000fe80000000000000 \
            0000000000000001040000000800030002000000200009801c000080060001000200000008000200 \
            0a0100000500030010000000";

    #[test]
    fn a_device_without_peers_is_one_message() {
        let (kernel, messages) = applied(&update(Vec::new()));
        assert_eq!(messages.len(), 1);
        assert_eq!(kernel.port, Some(51001));
        assert_eq!(kernel.mark, Some(0x3ff));
        assert_eq!(kernel.bind.as_deref(), Some(&b"vrf_external\0"[..]));
        assert_eq!(kernel.private.as_deref(), Some(&k(1).as_bytes()[..]));
    }

    #[test]
    fn clear_is_zero_and_keep_is_silence() {
        let cleared = Update {
            interface: "wg0".into(),
            private_key: Change::Clear,
            listen_port: Change::Clear,
            fwmark: Change::Clear,
            bind_dev: Change::Clear,
            ..Update::default()
        };
        let (kernel, _) = applied(&cleared);
        assert_eq!(kernel.private, Some(vec![0; 32]));
        assert_eq!((kernel.port, kernel.mark), (Some(0), Some(0)));
        assert_eq!(kernel.bind, Some(vec![0]));
        let kept = Update {
            interface: "wg0".into(),
            ..Update::default()
        };
        assert_eq!(applied(&kept).0, FakeKernel::default());
    }

    #[test]
    fn ten_thousand_peers_arrive_in_few_messages() {
        let peers: Vec<_> = (0..10_000).map(|n| busy_peer(n, n % 4)).collect();
        let (kernel, messages) = applied(&update(peers));
        assert_eq!(kernel.peers.len(), 10_000);
        for n in [0, 1, 2, 4_999, 9_998, 9_999] {
            let peer = &kernel.peers[&k(n).as_bytes()[..]];
            assert_eq!(peer.ips.len() as u32, n % 4, "peer {n}");
            assert_eq!(peer.keepalive, 25);
            assert_eq!(peer.psk, k(n + 1_000_000).as_bytes());
        }
        let total: usize = messages.iter().map(|m| m.len()).sum();
        // As few as 64 KiB of peers allow: every message but the last is full to one prefix.
        assert_eq!(messages.len(), total.div_ceil(65_532), "{total} bytes");
        for message in &messages {
            assert!(message.len() <= LONGEST);
        }
    }

    #[test]
    fn one_peer_with_twenty_thousand_prefixes_arrives_whole() {
        let (kernel, messages) = applied(&update(vec![busy_peer(1, 20_000), busy_peer(2, 1)]));
        let peer = &kernel.peers[&k(1).as_bytes()[..]];
        let expected: Vec<Vec<u8>> = (0..20_000u32)
            .map(|n| [&(0x0a00_0000 + n).to_be_bytes()[..], &[32]].concat())
            .collect();
        assert_eq!(peer.ips, expected);
        assert_eq!(peer.psk, k(1_000_001).as_bytes());
        assert_eq!(kernel.peers.len(), 2);
        assert!(messages.len() <= 10, "{}", messages.len());
        // Secrets travel once.
        for secret in [k(1), k(1_000_001)] {
            let found = messages
                .iter()
                .skip(1)
                .filter(|m| {
                    // The private key is k(1) too, which is also a public key here.
                    let attributes = nlas(&m[20..]);
                    attributes.iter().any(|a| a.0 == 3)
                        || (secret != k(1) && m.windows(32).any(|w| w == secret.as_bytes()))
                })
                .count();
            assert_eq!(found, 0);
        }
    }

    /// A system may give its sockets less than a message can have.
    #[test]
    fn a_message_is_no_longer_than_its_socket_takes() {
        let all = update((0..100).map(|n| busy_peer(n, n * 3)).collect());
        let whole = applied(&all).0;
        for longest in [1000, 4576, 65_504, LONGEST] {
            let mut kernel = FakeKernel::default();
            for message in encode_set(FAMILY_ID, &all).fit(longest) {
                assert!(message.len() <= longest, "{} of {longest}", message.len());
                kernel.set(&message, "wg0");
            }
            assert_eq!(kernel, whole, "{longest}");
        }
    }

    #[test]
    fn incremental_changes_keep_their_order() {
        let mut peer = PeerUpdate::new(p(1));
        let removed = AllowedIpUpdate {
            remove: true,
            ..prefix(1)
        };
        peer.allowed_ips = [prefix(1), removed, prefix(2)].into_iter().collect();
        let (kernel, _) = applied(&update(vec![peer]));
        assert_eq!(kernel.peers[&k(1).as_bytes()[..]].ips, [[10, 0, 0, 2, 32]]);
    }

    #[test]
    fn a_peer_is_removed_by_its_flag() {
        // More prefixes than a message takes, too: the second one must not make it again.
        for ips in [0, 1, 5000] {
            let gone = PeerUpdate {
                remove: true,
                ..busy_peer(1, ips)
            };
            let peers = vec![busy_peer(1, 1), busy_peer(2, 1), gone];
            let (kernel, messages) = applied(&update(peers));
            assert!(
                kernel.peers.keys().eq([k(2).as_bytes().as_slice()]),
                "{ips}"
            );
            assert_eq!(messages.len(), 1);
        }
    }

    /// The kernel allows nearly any byte in the name of an interface.
    #[test]
    fn a_name_is_bytes_on_the_way() {
        let name = ifname::from_bytes(b"gr\xfcn");
        let named = |message: &[u8]| {
            let attributes = nlas(&message[20..]);
            attributes.iter().find(|a| a.0 == 2).unwrap().1.clone()
        };
        assert_eq!(named(&encode_get(FAMILY_ID, &name)), b"gr\xfcn\0");
        let update = Update {
            interface: name.clone(),
            ..update((0..2).map(|n| busy_peer(n, 3000)).collect())
        };
        let messages: Vec<_> = encode_set(FAMILY_ID, &update).collect();
        assert!(messages.len() > 1);
        for message in &messages {
            assert_eq!(named(message), b"gr\xfcn\0");
        }
        let mut decoder = Decoder::new("wg0");
        decoder.add_answer(&messages[0][16..]).unwrap();
        assert_eq!(decoder.finish_device().0.name, name);
    }

    #[test]
    fn keys_are_wiped_on_their_way() {
        let mut sent = [WireguardAttribute::PrivateKey([1; KEY_LEN])];
        wipe_key(&mut sent);
        assert_eq!(sent, [WireguardAttribute::PrivateKey([0; KEY_LEN])]);
    }

    /// A key is in no memory of this process once the request is gone. It is looked for by its halves
    /// turned round, so that the search itself is no copy.
    #[test]
    fn a_request_leaves_no_key_in_memory() {
        const MASK: u8 = 0x5a;
        let masked: [u8; KEY_LEN] = std::array::from_fn(|at| (at as u8).wrapping_mul(37) ^ 0x91);
        let key = || Key::from_bytes(masked.map(|byte| byte ^ MASK));
        let count = || {
            let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
            let memory = std::fs::File::open("/proc/self/mem").unwrap();
            let mut found = 0;
            let mut page = zeroize::Zeroizing::new(vec![0; 1 << 20]);
            for line in maps.lines().filter(|line| line.contains("rw-p")) {
                let (first, rest) = line.split_once('-').unwrap();
                let end = rest.split(' ').next().unwrap();
                let [mut at, end] = [first, end].map(|n| u64::from_str_radix(n, 16).unwrap());
                while at < end {
                    let room = (end - at).min(1 << 20) as usize;
                    let read = std::os::unix::fs::FileExt::read_at(&memory, &mut page[..room], at);
                    let Ok(length @ 1..) = read else { break };
                    for bytes in page[..length].iter_mut() {
                        *bytes ^= MASK;
                    }
                    let own = page.as_ptr().addr() as u64;
                    let same = page[..length].windows(KEY_LEN).enumerate();
                    found += same
                        .filter(|(_, bytes)| *bytes == masked)
                        .filter(|(n, _)| !(own..own + (1 << 20)).contains(&(at + *n as u64)))
                        .count();
                    at += length as u64;
                }
            }
            found
        };
        let mut update = Update {
            interface: "wg0".to_owned(),
            private_key: Change::Set(key()),
            ..Update::default()
        };
        assert!(count() > 0, "the update has it");
        let request = encode_set(1, &update).next();
        assert!(count() > 1, "the request has it, too");
        // An answer with it leaves none either.
        let mut decoder = Decoder::new("wg0");
        decoder.add_answer(&request.unwrap()[16..]).unwrap();
        assert!(decoder.finish_device().0.private_key.is_some());
        update.private_key = Change::Keep;
        assert_eq!(count(), 0);
        // More than one message, and the last one is small.
        update.peers = (0..500).map(|n| busy_peer(n, 4)).collect();
        for peer in &mut update.peers {
            peer.preshared_key = Change::Set(key());
        }
        let before = count();
        assert!(before >= 500, "{before}");
        let mut capacity = 0;
        let messages = encode_set(1, &update).map(|message| {
            capacity = message.capacity();
            assert!(count() > before, "the message has it, too");
            // An answer with the same attributes leaves none either.
            let mut decoder = Decoder::new("wg0");
            decoder.add_answer(&message[16..]).unwrap();
        });
        assert!(messages.count() > 1);
        assert_eq!(count(), before);
        assert!(capacity < 60_000, "{capacity} bytes for the last one");
    }

    /// Left out, it would stay.
    #[test]
    fn what_is_turned_off_is_sent() {
        let peer = PeerUpdate {
            preshared_key: Change::Clear,
            ..PeerUpdate::new(p(2))
        };
        let update = Update {
            private_key: Change::Clear,
            listen_port: Change::Clear,
            fwmark: Change::Clear,
            bind_dev: Change::Clear,
            ..update(vec![peer])
        };
        let (kernel, _) = applied(&update);
        assert_eq!(kernel.private, Some(vec![0; KEY_LEN]));
        assert_eq!((kernel.port, kernel.mark), (Some(0), Some(0)));
        assert_eq!(kernel.bind, Some(vec![0]));
        let peers: Vec<_> = kernel.peers.values().map(|peer| &peer.psk).collect();
        assert_eq!(peers, [&[0; KEY_LEN]]);
    }

    #[test]
    fn a_prefix_longer_than_its_address_is_an_error() {
        for (cidr, good) in [(32, true), (33, false)] {
            let mut peer = dumped_peer(1, 0..0, true);
            let mut long = prefix(1);
            long.prefix.cidr = cidr;
            peer.0
                .push(WireguardPeerAttribute::AllowedIps(vec![codec_prefix(
                    &long,
                )]));
            let message = dump(vec![WireguardAttribute::Peers(vec![peer])]);
            assert_eq!(
                Decoder::new("wg0").add_answer(&message).is_ok(),
                good,
                "{cidr}"
            );
        }
    }

    /// A peer as the codec's values, which know nothing of the encoder.
    fn codec_peer(peer: &PeerUpdate, head: bool, ips: &[AllowedIpUpdate]) -> WireguardPeer {
        use WireguardPeerAttribute::*;
        let mut attributes = vec![PublicKey(*peer.public_key.as_bytes())];
        if head {
            if let Change::Set(key) = &peer.preshared_key {
                attributes.push(PresharedKey(*key.as_bytes()));
            }
            attributes.extend(peer.endpoint.map(Endpoint));
            if let Change::Set(seconds) = peer.persistent_keepalive {
                attributes.push(PersistentKeepalive(seconds));
            }
            if peer.replace_allowed_ips {
                attributes.push(Flags(WireguardPeerFlags::ReplaceAllowedIps));
            }
        }
        if !ips.is_empty() {
            attributes.push(AllowedIps(ips.iter().map(codec_prefix).collect()));
        }
        WireguardPeer(attributes)
    }

    fn codec_prefix(ip: &AllowedIpUpdate) -> WireguardAllowedIp {
        let AllowedIp { addr, cidr } = ip.prefix;
        let mut attributes = vec![
            WireguardAllowedIpAttr::Family(if addr.is_ipv4() {
                WireguardAddressFamily::Ipv4
            } else {
                WireguardAddressFamily::Ipv6
            }),
            WireguardAllowedIpAttr::IpAddr(addr),
            WireguardAllowedIpAttr::Cidr(cidr),
        ];
        if ip.remove {
            let flags = WireguardAllowedIpFlags::RemoveMe;
            attributes.push(WireguardAllowedIpAttr::Flags(flags));
        }
        WireguardAllowedIp(attributes)
    }

    #[test]
    fn peers_are_encoded_as_the_codec_encodes_them() {
        use netlink_packet_core::Emitable;
        let v6 = AllowedIpUpdate {
            prefix: AllowedIp {
                addr: "fd00::7".parse().unwrap(),
                cidr: 64,
            },
            remove: true,
        };
        for (n, ips) in [(0, 0), (0, 3), (1, 1)] {
            for head in [true, false] {
                let mut peer = busy_peer(n, 0);
                peer.allowed_ips = [v6]
                    .into_iter()
                    .chain((0..ips).map(prefix))
                    .take(ips as usize)
                    .collect();
                let prefixes: Vec<_> = peer.allowed_ips.iter().collect();
                let codec = codec_peer(&peer, head, &prefixes);
                let mut expected = vec![0; codec.buffer_len()];
                codec.emit(&mut expected);

                let mut bytes = Request::default();
                let nest = open_nest(&mut bytes, 0);
                put_peer(&mut bytes, &peer, head);
                if ips > 0 {
                    put_allowed_ips(&mut bytes, &mut peer.allowed_ips.iter().peekable(), 1000);
                }
                close_nest(&mut bytes, nest);
                assert_eq!(bytes[4..], expected[4..], "peer {n}, head {head}");

                let nest = if ips == 0 { 0 } else { 4 };
                let length: usize = prefixes.iter().map(allowed_ip_len).sum();
                assert_eq!(
                    bytes.len(),
                    pad_length(peer_len(&peer, head)) + nest + length
                );
            }
        }
    }

    #[test]
    fn peers_are_decoded_as_the_codec_encodes_them() {
        use WireguardPeerAttribute::*;
        let endpoints = ["192.0.2.1:5", "[fe80::1%4]:77", "[2001:db8::1]:65535"];
        let peers = endpoints.iter().zip(1..).map(|(endpoint, n)| {
            let mut peer = codec_peer(&PeerUpdate::new(p(n)), true, &[prefix(n)]);
            peer.0.extend([
                Endpoint(endpoint.parse().unwrap()),
                LastHandshake(netlink_packet_wireguard::WireguardTimeSpec {
                    seconds: i64::from(n),
                    nano_seconds: 5,
                }),
                RxBytes(1 << 40),
                TxBytes(u64::MAX),
                PersistentKeepalive(n as u16),
            ]);
            peer
        });
        let mut decoder = Decoder::new("wg0");
        let message = dump(vec![WireguardAttribute::Peers(peers.collect())]);
        decoder.add_answer(&message).unwrap();
        let (device, _) = decoder.finish_device();
        for ((peer, endpoint), n) in device.peers.iter().zip(endpoints).zip(1..) {
            assert_eq!(peer.endpoint, Some(endpoint.parse().unwrap()));
            assert_eq!(peer.last_handshake, Some(Duration::new(u64::from(n), 5)));
            assert_eq!((peer.rx_bytes, peer.tx_bytes), (1 << 40, u64::MAX));
            assert_eq!(u32::from(peer.persistent_keepalive), n);
            assert!(peer.allowed_ips.iter().eq([prefix(n).prefix]));
        }
        assert_eq!(device.peers.len(), 3);
    }

    fn dump(attributes: Vec<WireguardAttribute>) -> Vec<u8> {
        nlmsg::encode_request(
            &new_message(FAMILY_ID, WireguardCmd::GetDevice, attributes),
            0,
        )[16..]
            .to_vec()
    }

    fn dumped_peer(n: u32, ips: std::ops::Range<u32>, first: bool) -> WireguardPeer {
        let prefixes: Vec<_> = ips.map(prefix).collect();
        codec_peer(&busy_peer(n, 0), first, &prefixes)
    }

    #[test]
    fn peers_split_over_messages_are_merged() {
        let mut decoder = Decoder::new("wg0");
        let first = dump(vec![
            WireguardAttribute::IfName("wg0".into()),
            WireguardAttribute::ListenPort(51001),
            WireguardAttribute::Fwmark(7),
            WireguardAttribute::PrivateKey(*k(9).as_bytes()),
            WireguardAttribute::Other(DefaultNla::new(9, b"vrf_external\0".to_vec())),
            WireguardAttribute::Other(DefaultNla::new(77, b"news".to_vec())),
            WireguardAttribute::Peers(vec![
                dumped_peer(1, 0..2, true),
                dumped_peer(2, 0..1_000, true),
            ]),
        ]);
        let second = dump(vec![WireguardAttribute::Peers(vec![dumped_peer(
            2,
            1_000..1_900,
            false,
        )])]);
        let third = dump(vec![WireguardAttribute::Peers(vec![
            dumped_peer(2, 1_900..2_000, false),
            dumped_peer(3, 0..0, true),
        ])]);
        for message in [first, second, third] {
            decoder.add_answer(&message).unwrap();
        }
        let (device, bind) = decoder.finish_device();
        assert_eq!(bind.as_deref(), Some("vrf_external"));
        assert_eq!((device.listen_port, device.fwmark), (51001, 7));
        assert_eq!(device.private_key, Some(k(9)));
        let counts: Vec<_> = device
            .peers
            .iter()
            .map(|p| p.allowed_ips.iter().count())
            .collect();
        assert_eq!(counts, [2, 2_000, 0]);
        let expected = (0..2_000).map(|n| prefix(n).prefix).collect();
        assert_eq!(device.peers[1].allowed_ips, expected);
        assert_eq!(device.peers[1].preshared_key, Some(k(1_000_002)));
        assert_eq!(device.peers[1].persistent_keepalive, 25);
    }

    #[test]
    fn zero_keys_and_times_are_none() {
        let mut decoder = Decoder::new("wg0");
        let peer = WireguardPeer(vec![
            WireguardPeerAttribute::PublicKey([1; 32]),
            WireguardPeerAttribute::PresharedKey([0; 32]),
            WireguardPeerAttribute::LastHandshake(Default::default()),
        ]);
        decoder
            .add_answer(&dump(vec![WireguardAttribute::Peers(vec![peer])]))
            .unwrap();
        let (device, bind) = decoder.finish_device();
        assert_eq!(device.peers[0].preshared_key, None);
        assert_eq!(device.peers[0].last_handshake, None);
        assert_eq!((device.private_key, bind), (None, None));
    }

    #[test]
    fn broken_attributes_are_errors_not_panics() {
        let good = dump(vec![WireguardAttribute::Peers(vec![dumped_peer(
            1,
            0..3,
            true,
        )])]);
        for cut in 0..good.len() {
            let _ = Decoder::new("wg0").add_answer(&good[..cut]);
        }
        for at in 4..good.len() {
            for value in [0, 1, 3, 4, 0x7f, 0xff] {
                let mut bytes = good.clone();
                bytes[at] = value;
                let _ = Decoder::new("wg0").add_answer(&bytes);
            }
        }
    }
}
