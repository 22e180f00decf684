// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What an update would change of a device, for people and for automation. Pure.
//!
//! The update is applied to a copy of what the device is now, as the kernel would, and both are
//! compared. Keys that are secret are named and never shown.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::{self, Display};
use std::net::{IpAddr, SocketAddr};

use crate::address::{Endpoint, Names, Prefix};
use crate::key::{Key, PublicKey};
use crate::model::{
    AllowedIp, Bind, Change, Device, Family, Fault, Peer, Presence, Receives, Selector, Update,
    bind_table,
};
use crate::plan::rules::is_our_mark;
use crate::plan::{Kind, Strategy};

/// What a command would do that its update does not say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Means {
    /// How it would bind, with the real name of the device.
    pub strategy: Strategy,
    /// The sockets of a device that rules bind would be bound to the VRF.
    pub binds_sockets: bool,
    /// By what rules of another network namespace bind it; that stays.
    pub bound_elsewhere: Option<Selector>,
    /// The mark that would carry the binding by rules, where the update states none.
    pub mark: Option<u32>,
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The public key of the peer; `None`: the device itself.
    pub peer: Option<PublicKey>,
    pub what: What,
}

/// What differs, with the value before and after where it is no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    PrivateKey,
    ListenPort(u16, Option<u16>),
    FwMark(u32, u32),
    BindDev(String, String),
    /// What the sockets of a device that rules bind receive would be what arrives in the VRF.
    Receives(Receives),
    PeerAdded,
    PeerRemoved,
    PresharedKey,
    Endpoint(Option<SocketAddr>, SocketAddr),
    PersistentKeepalive(u16, u16),
    AllowedIps {
        added: Vec<AllowedIp>,
        removed: Vec<AllowedIp>,
    },
}

/// What a peer is, as far as an update changes it.
#[derive(Clone, Default, PartialEq, Eq)]
struct State {
    preshared_key: Option<Key>,
    endpoint: Option<SocketAddr>,
    persistent_keepalive: u16,
    allowed_ips: BTreeSet<AllowedIp>,
}

/// The peers of a device, in the order of their keys.
type Peers = BTreeMap<PublicKey, State>;

/// What `update` would change of `now`, by these means.
pub fn find_differences(now: &Device, update: &Update, means: &Means) -> Vec<Difference> {
    let mut found = Vec::new();
    let mut add = |what| found.push(Difference { peer: None, what });
    let private_key = match &update.private_key {
        Change::Keep => now.private_key.as_ref(),
        Change::Set(key) => Some(key),
        Change::Clear => None,
    };
    let same_key = private_key == now.private_key.as_ref();
    if !same_key {
        add(What::PrivateKey);
    }
    match update.listen_port {
        Change::Set(port) if port != now.listen_port => {
            add(What::ListenPort(now.listen_port, Some(port)));
        }
        // Another one each time, but for a port whose sockets are bound.
        Change::Clear if !keeps_port(now, means) => add(What::ListenPort(now.listen_port, None)),
        Change::Set(_) | Change::Keep | Change::Clear => {}
    }
    let mark = mark_after(now, update, means);
    if mark != now.fwmark {
        add(What::FwMark(now.fwmark, mark));
    }
    if let Some((before, after)) = compare_binding(&now.bind, &means.strategy) {
        add(What::BindDev(before, after));
    }
    match (&now.bind, &now.receives, &means.strategy) {
        (
            Bind::Rules {
                elsewhere: Some(false),
                ..
            },
            Some(receives @ (Receives::Any | Receives::Nothing | Receives::Other(_))),
            Strategy::Fallback { .. },
        ) if means.binds_sockets => add(What::Receives(receives.clone())),
        _ => {}
    }
    let own = if same_key {
        now.public_key
    } else {
        private_key.map(Key::public)
    };
    let before: Peers = now
        .peers
        .iter()
        .map(|peer| (peer.public_key, State::of(peer)))
        .collect();
    let after = apply_update(&before, update, own);
    compare_peers(&before, &after, &mut found);
    found
}

/// Whether the port stays where the update lets the kernel choose one.
fn keeps_port(now: &Device, means: &Means) -> bool {
    let by_mark = matches!(
        (&now.bind, &means.strategy),
        (
            Bind::Rules {
                by: Selector::Mark(_),
                ..
            },
            Strategy::Fallback {
                kind: None | Some(Kind::Mark),
                ..
            },
        )
    );
    let has_entry = by_mark && means.binds_sockets && now.receives == Some(Receives::Bound);
    has_entry || matches!(means.bound_elsewhere, Some(Selector::Port(_)))
}

/// A mark carries a binding by rules, unless another one is given.
fn mark_after(now: &Device, update: &Update, means: &Means) -> u32 {
    let by_mark = match now.bind {
        Bind::Rules {
            by: Selector::Mark(mark),
            ..
        } => Some(mark),
        _ => None,
    };
    let stays = match means.strategy {
        Strategy::Keep => true,
        Strategy::Unbind | Strategy::Attribute { .. } => false,
        Strategy::Fallback { kind, .. } => kind != Some(Kind::Port),
    };
    match (&update.fwmark, by_mark) {
        (Change::Set(mark), _) if *mark != 0 => *mark,
        (_, Some(mark)) if stays => means.mark.unwrap_or(mark),
        (Change::Keep, Some(mark)) if is_our_mark(mark) => 0,
        (Change::Keep, _) => now.fwmark,
        _ if matches!(means.bound_elsewhere, Some(Selector::Mark(_))) => now.fwmark,
        (Change::Set(_) | Change::Clear, _) => 0,
    }
}

fn compare_binding(now: &Bind, wanted: &Strategy) -> Option<(String, String)> {
    let after = match wanted {
        Strategy::Keep => return None,
        Strategy::Unbind => "off",
        Strategy::Attribute { name } | Strategy::Fallback { name, .. } => name.as_str(),
    };
    let before = match now {
        Bind::Off => "off".to_owned(),
        Bind::Unknown { .. } => "unknown".to_owned(),
        Bind::Kernel { dev, .. } => dev.clone(),
        Bind::Rules { dev, table, .. } => dev
            .clone()
            .unwrap_or_else(|| crate::model::bind_by_table(*table)),
    };
    let faults: &[(Family, Fault)] = match now {
        Bind::Rules { faults, .. } => faults,
        _ => &[],
    };
    let same_table = match now {
        Bind::Rules { table, .. } => bind_table(after) == Some(*table),
        _ => false,
    };
    let same = before == after || same_table;
    let method = find_other_method(now, wanted);
    let mut words: Vec<String> = faults
        .iter()
        .map(|(family, fault)| format!("{family} {fault}"))
        .collect();
    if let Bind::Kernel {
        presence: Presence::Unbound | Presence::Unused,
        ..
    } = now
    {
        words.push("no sockets on it".to_owned());
    }
    if same && method.is_none() && (words.is_empty() || after == "off") {
        return None;
    }
    let mut after = after.to_owned();
    if let Some((old, new)) = method {
        words.insert(0, old);
        after = format!("{after} ({new})");
    }
    let before = if words.is_empty() {
        before
    } else {
        format!("{before} ({})", words.join(", "))
    };
    Some((before, after))
}

/// By what a device is bound, and by what it would be, where that is not the same.
fn find_other_method(now: &Bind, wanted: &Strategy) -> Option<(String, &'static str)> {
    let new = match (now, wanted) {
        (_, Strategy::Keep | Strategy::Unbind) | (Bind::Off | Bind::Unknown { .. }, _) => {
            return None;
        }
        (Bind::Kernel { .. }, Strategy::Attribute { .. }) => return None,
        (Bind::Rules { .. }, Strategy::Attribute { .. }) => "kernel",
        (
            Bind::Rules {
                by: Selector::Mark(_),
                ..
            },
            Strategy::Fallback {
                kind: Some(Kind::Port),
                ..
            },
        ) => "source port",
        (
            Bind::Rules {
                by: Selector::Port(_),
                ..
            },
            Strategy::Fallback {
                kind: Some(Kind::Mark),
                ..
            },
        ) => "fwmark",
        (Bind::Rules { .. }, Strategy::Fallback { .. }) => return None,
        (
            Bind::Kernel { .. },
            Strategy::Fallback {
                kind: Some(Kind::Port),
                ..
            },
        ) => "source port",
        (Bind::Kernel { .. }, Strategy::Fallback { .. }) => "fwmark",
    };
    let old = match now {
        Bind::Rules { by, .. } => by.to_string(),
        Bind::Kernel { .. } | Bind::Off | Bind::Unknown { .. } => "kernel".to_owned(),
    };
    Some((old, new))
}

impl State {
    fn of(peer: &Peer) -> Self {
        State {
            preshared_key: peer.preshared_key.clone(),
            endpoint: peer.endpoint,
            persistent_keepalive: peer.persistent_keepalive,
            allowed_ips: peer.allowed_ips.iter().map(mask_prefix).collect(),
        }
    }
}

/// A prefix without the bits of the host, as the kernel keeps it.
pub(super) fn mask_prefix(ip: AllowedIp) -> AllowedIp {
    let AllowedIp { addr, cidr } = ip;
    let addr = match addr {
        IpAddr::V4(v4) => {
            let keep = u32::MAX
                .checked_shl(32 - u32::from(cidr.min(32)))
                .unwrap_or(0);
            IpAddr::V4((u32::from(v4) & keep).into())
        }
        IpAddr::V6(v6) => {
            let keep = u128::MAX
                .checked_shl(128 - u32::from(cidr.min(128)))
                .unwrap_or(0);
            IpAddr::V6((u128::from(v6) & keep).into())
        }
    };
    AllowedIp { addr, cidr }
}

/// The peers after the update. The kernel has no peer with the device's own key: it ignores one
/// that is given (`set_peer`), and removes the one that a new private key makes so
/// (`wg_set_device`; both in drivers/net/wireguard/netlink.c).
fn apply_update(before: &Peers, update: &Update, own: Option<PublicKey>) -> Peers {
    let mut peers = if update.replace_peers {
        Peers::new()
    } else {
        before.clone()
    };
    if let Some(own) = &own {
        peers.remove(own);
    }
    // A prefix belongs to one peer.
    let mut owners = HashMap::new();
    for (key, peer) in &peers {
        owners.extend(peer.allowed_ips.iter().map(|ip| (*ip, *key)));
    }
    for change in &update.peers {
        let key = &change.public_key;
        if Some(*key) == own || change.update_only && !peers.contains_key(key) {
            continue;
        }
        if change.remove {
            peers.remove(key);
            continue;
        }
        let peer = peers.entry(*key).or_default();
        match &change.preshared_key {
            Change::Keep => {}
            Change::Set(psk) => peer.preshared_key = Some(psk.clone()),
            Change::Clear => peer.preshared_key = None,
        }
        peer.endpoint = change.endpoint.or(peer.endpoint);
        match change.persistent_keepalive {
            Change::Keep => {}
            Change::Set(seconds) => peer.persistent_keepalive = seconds,
            Change::Clear => peer.persistent_keepalive = 0,
        }
        if change.replace_allowed_ips {
            peer.allowed_ips.clear();
        }
        for ip in &change.allowed_ips {
            let prefix = mask_prefix(ip.prefix);
            if ip.remove {
                if let Some(peer) = peers.get_mut(key) {
                    peer.allowed_ips.remove(&prefix);
                }
                continue;
            }
            let owner = owners.insert(prefix, *key);
            if let Some(peer) = owner.and_then(|owner| peers.get_mut(&owner)) {
                peer.allowed_ips.remove(&prefix);
            }
            if let Some(peer) = peers.get_mut(key) {
                peer.allowed_ips.insert(prefix);
            }
        }
    }
    peers
}

fn compare_peers(before: &Peers, after: &Peers, found: &mut Vec<Difference>) {
    for key in before.keys().filter(|key| !after.contains_key(key)) {
        found.push(Difference {
            peer: Some(*key),
            what: What::PeerRemoved,
        });
    }
    for (key, new) in after {
        let mut add = |what| {
            found.push(Difference {
                peer: Some(*key),
                what,
            });
        };
        let none = State::default();
        let old = before.get(key).unwrap_or_else(|| {
            add(What::PeerAdded);
            &none
        });
        if new.preshared_key != old.preshared_key {
            add(What::PresharedKey);
        }
        match new.endpoint {
            Some(endpoint) if new.endpoint != old.endpoint => {
                add(What::Endpoint(old.endpoint, endpoint));
            }
            _ => {}
        }
        if new.persistent_keepalive != old.persistent_keepalive {
            add(What::PersistentKeepalive(
                old.persistent_keepalive,
                new.persistent_keepalive,
            ));
        }
        if new.allowed_ips != old.allowed_ips {
            add(What::AllowedIps {
                added: new
                    .allowed_ips
                    .difference(&old.allowed_ips)
                    .copied()
                    .collect(),
                removed: old
                    .allowed_ips
                    .difference(&new.allowed_ips)
                    .copied()
                    .collect(),
            });
        }
    }
}

/// A difference as one line without the name of the device.
pub struct Line<'a>(pub &'a Difference, pub &'a Names);

impl Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Line(Difference { peer, what }, names) = self;
        if let Some(key) = peer {
            write!(f, "peer {}: ", key.to_base64())?;
        }
        let port = |port: &u16| match port {
            0 => "none".to_owned(),
            port => port.to_string(),
        };
        let mark = |mark: &u32| match mark {
            0 => "off".to_owned(),
            mark => format!("{mark:#x}"),
        };
        let seconds = |seconds: &u16| match seconds {
            0 => "off".to_owned(),
            seconds => seconds.to_string(),
        };
        match what {
            What::PrivateKey => f.write_str("private key: changed (hidden)"),
            What::ListenPort(before, after) => {
                let after = after.map_or_else(|| "any".to_owned(), |after| after.to_string());
                write!(f, "listen port: {} -> {after}", port(before))
            }
            What::FwMark(before, after) => {
                write!(f, "fwmark: {} -> {}", mark(before), mark(after))
            }
            What::BindDev(before, after) => write!(f, "bind device: {before} -> {after}"),
            What::Receives(now) => {
                let before = match now {
                    Receives::Any => "any",
                    Receives::Nothing => "nothing",
                    Receives::Other(_) => "other",
                    Receives::Unclear => "unknown",
                    Receives::Bound => "bound",
                };
                write!(f, "receives: {before} -> bound")
            }
            What::PeerAdded => f.write_str("added"),
            What::PeerRemoved => f.write_str("removed"),
            What::PresharedKey => f.write_str("preshared key: changed (hidden)"),
            What::Endpoint(before, after) => {
                f.write_str("endpoint: ")?;
                match before {
                    Some(before) => write!(f, "{}", Endpoint(*before, names))?,
                    None => f.write_str("none")?,
                }
                write!(f, " -> {}", Endpoint(*after, names))
            }
            What::PersistentKeepalive(before, after) => write!(
                f,
                "persistent keepalive: {} -> {}",
                seconds(before),
                seconds(after)
            ),
            What::AllowedIps { added, removed } => {
                f.write_str("allowed ips:")?;
                added
                    .iter()
                    .try_for_each(|ip| write!(f, " +{}", Prefix(*ip)))?;
                removed
                    .iter()
                    .try_for_each(|ip| write!(f, " -{}", Prefix(*ip)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{AllowedIpUpdate, PeerUpdate};

    fn key(byte: u8) -> Key {
        Key::from_bytes([byte; 32])
    }

    fn public(byte: u8) -> PublicKey {
        PublicKey::from_bytes([byte; 32])
    }

    fn prefix(text: &str) -> AllowedIp {
        let (addr, cidr) = text.split_once('/').unwrap();
        AllowedIp {
            addr: addr.parse().unwrap(),
            cidr: cidr.parse().unwrap(),
        }
    }

    fn peer(byte: u8, ips: &[&str]) -> Peer {
        Peer {
            public_key: public(byte),
            preshared_key: Some(key(99)),
            endpoint: Some("192.0.2.1:1".parse().unwrap()),
            last_handshake: None,
            rx_bytes: 0,
            tx_bytes: 0,
            persistent_keepalive: 25,
            allowed_ips: ips.iter().map(|text| prefix(text)).collect(),
        }
    }

    fn device() -> Device {
        Device {
            name: "wg0".to_owned(),
            private_key: Some(key(9)),
            public_key: None,
            listen_port: 51820,
            fwmark: 0,
            bind: Bind::Off,
            receives: None,
            peers: vec![peer(1, &["10.0.0.0/8"]), peer(2, &["192.0.2.0/24"])],
        }
    }

    fn peer_update(byte: u8, ips: &[&str]) -> PeerUpdate {
        PeerUpdate {
            replace_allowed_ips: true,
            allowed_ips: ips
                .iter()
                .map(|text| AllowedIpUpdate {
                    prefix: prefix(text),
                    remove: false,
                })
                .collect(),
            ..PeerUpdate::new(public(byte))
        }
    }

    /// What a stock kernel without hooks does.
    fn lines(now: &Device, update: &Update) -> Vec<String> {
        let strategy = match &update.bind_dev {
            Change::Keep => Strategy::Keep,
            Change::Clear => Strategy::Unbind,
            Change::Set(name) => fallback(name, None),
        };
        lines_by(now, update, &means(strategy))
    }

    fn fallback(name: &str, kind: Option<Kind>) -> Strategy {
        Strategy::Fallback {
            name: name.to_owned(),
            kind,
            why: "",
        }
    }

    fn means(strategy: Strategy) -> Means {
        Means {
            strategy,
            binds_sockets: false,
            bound_elsewhere: None,
            mark: None,
        }
    }

    fn lines_by(now: &Device, update: &Update, means: &Means) -> Vec<String> {
        let names = Names {
            interface: |_| None,
        };
        let short = |text: String| {
            let text = text.replace(&public(1).to_base64(), "1");
            let text = text.replace(&public(2).to_base64(), "2");
            text.replace(&public(3).to_base64(), "3")
        };
        find_differences(now, update, means)
            .iter()
            .map(|one| short(Line(one, &names).to_string()))
            .collect()
    }

    #[test]
    fn the_same_is_no_difference() {
        let same = Update {
            private_key: Change::Set(key(9)),
            listen_port: Change::Set(51820),
            fwmark: Change::Clear,
            bind_dev: Change::Clear,
            // Bits of the host are not kept.
            peers: vec![peer_update(1, &["10.9.9.9/8"])],
            ..Update::default()
        };
        assert_eq!(lines(&device(), &same), [""; 0]);
    }

    #[test]
    fn each_value_is_told_and_no_secret() {
        let update = Update {
            private_key: Change::Set(key(8)),
            listen_port: Change::Clear,
            fwmark: Change::Set(7),
            bind_dev: Change::Set("red".to_owned()),
            replace_peers: true,
            peers: vec![
                PeerUpdate {
                    preshared_key: Change::Set(key(77)),
                    endpoint: Some("[2001:db8::1]:2".parse().unwrap()),
                    persistent_keepalive: Change::Set(5),
                    ..peer_update(1, &["10.0.0.0/8", "0.0.0.0/0"])
                },
                peer_update(3, &["192.0.2.0/24"]),
            ],
            ..Update::default()
        };
        let found = lines(&device(), &update);
        assert_eq!(
            found,
            [
                "private key: changed (hidden)",
                "listen port: 51820 -> any",
                "fwmark: off -> 0x7",
                "bind device: off -> red",
                "peer 2: removed",
                "peer 1: preshared key: changed (hidden)",
                "peer 1: endpoint: 192.0.2.1:1 -> [2001:db8::1]:2",
                "peer 1: persistent keepalive: 25 -> 5",
                "peer 1: allowed ips: +0.0.0.0/0",
                "peer 3: added",
                "peer 3: allowed ips: +192.0.2.0/24",
            ]
        );
        let text = found.join("\n");
        for secret in [key(8), key(77), key(9), key(99)] {
            assert!(!text.contains(secret.to_base64().as_str()));
        }
    }

    /// The kernel takes a prefix from the peer that had it.
    #[test]
    fn a_prefix_moves() {
        let update = Update {
            peers: vec![peer_update(1, &["10.0.0.0/8", "192.0.2.0/24"])],
            ..Update::default()
        };
        assert_eq!(
            lines(&device(), &update),
            [
                "peer 1: allowed ips: +192.0.2.0/24",
                "peer 2: allowed ips: -192.0.2.0/24"
            ]
        );
    }

    /// A file with BindDev and without FwMark leaves the mark of the fallback.
    #[test]
    fn a_binding_by_rules_is_the_same_binding() {
        let rules = |faults| Device {
            fwmark: 0x7700_00ff,
            bind: Bind::Rules {
                dev: Some("red".to_owned()),
                by: Selector::Mark(0x7700_00ff),
                table: 1023,
                faults,
                elsewhere: Some(false),
            },
            ..device()
        };
        let file = |dev: Change<String>| Update {
            fwmark: Change::Clear,
            bind_dev: dev,
            ..Update::default()
        };
        let red = || file(Change::Set("red".to_owned()));
        assert_eq!(lines(&rules(Vec::new()), &red()), [""; 0]);
        let table = file(Change::Set("table:1023".to_owned()));
        assert_eq!(lines(&rules(Vec::new()), &table), [""; 0]);
        assert_eq!(
            lines(&rules(vec![(Family::V6, Fault::NotClosed)]), &red()),
            ["bind device: red (IPv6 not closed) -> red"]
        );
        assert_eq!(
            lines(&rules(Vec::new()), &file(Change::Clear)),
            ["fwmark: 0x770000ff -> off", "bind device: red -> off"]
        );
    }

    #[test]
    fn a_file_without_a_mark_takes_the_one_of_the_plan() {
        let now = bound_by(Selector::Mark(0x1023), Receives::Any);
        let chosen = Means {
            mark: Some(0x7700_00ff),
            ..means(fallback("red", None))
        };
        assert_eq!(
            lines_by(&now, &red(Change::Keep), &chosen),
            ["fwmark: 0x1023 -> 0x770000ff"]
        );
        let stated = Update {
            fwmark: Change::Set(0x1023),
            ..red(Change::Keep)
        };
        assert_eq!(lines_by(&now, &stated, &chosen), [""; 0]);
    }

    #[test]
    fn sockets_that_are_not_on_their_device_are_a_difference() {
        let by_kernel = |presence| Device {
            bind: Bind::Kernel {
                dev: "red".to_owned(),
                presence,
            },
            ..device()
        };
        let attribute = means(Strategy::Attribute {
            name: "red".to_owned(),
        });
        let update = Update {
            fwmark: Change::Keep,
            ..red(Change::Keep)
        };
        let find = |presence| lines_by(&by_kernel(presence), &update, &attribute);
        for presence in [Presence::Present, Presence::Missing, Presence::Unknown] {
            assert_eq!(find(presence), [""; 0]);
        }
        for presence in [Presence::Unbound, Presence::Unused] {
            assert_eq!(
                find(presence),
                ["bind device: red (no sockets on it) -> red"]
            );
        }
    }

    /// A file that all routers of a mesh have names each of them as a peer.
    #[test]
    fn the_kernel_has_no_peer_with_the_devices_own_key() {
        let now = Device {
            public_key: Some(public(3)),
            ..device()
        };
        let mesh = |key: Key| Update {
            private_key: Change::Set(key),
            peers: vec![
                peer_update(1, &["10.0.0.0/8"]),
                peer_update(2, &["192.0.2.0/24"]),
                peer_update(3, &["192.0.2.0/24"]),
            ],
            ..Update::default()
        };
        assert_eq!(lines(&now, &mesh(key(9))), [""; 0]);
        // With another key of its own, that peer is one like others.
        assert_eq!(
            lines(&now, &mesh(key(8))),
            [
                "private key: changed (hidden)",
                "peer 2: allowed ips: -192.0.2.0/24",
                "peer 3: added",
                "peer 3: allowed ips: +192.0.2.0/24",
            ]
        );
        let own = key(8).public();
        let mut now = device();
        now.peers[0].public_key = own;
        let update = Update {
            private_key: Change::Set(key(8)),
            ..Update::default()
        };
        assert_eq!(
            lines(&now, &update),
            [
                "private key: changed (hidden)".to_owned(),
                format!("peer {}: removed", own.to_base64()),
            ]
        );
    }

    fn bound_by(by: Selector, receives: Receives) -> Device {
        Device {
            fwmark: match by {
                Selector::Mark(mark) => mark,
                Selector::Port(_) => 0,
            },
            bind: Bind::Rules {
                dev: Some("red".to_owned()),
                by,
                table: 1023,
                faults: Vec::new(),
                elsewhere: Some(false),
            },
            receives: Some(receives),
            ..device()
        }
    }

    fn red(listen_port: Change<u16>) -> Update {
        Update {
            listen_port,
            fwmark: Change::Clear,
            bind_dev: Change::Set("red".to_owned()),
            ..Update::default()
        }
    }

    #[test]
    fn another_method_is_a_difference() {
        let by_mark = bound_by(Selector::Mark(0x7700_00ff), Receives::Any);
        let by_port = bound_by(Selector::Port(51820), Receives::Any);
        let by_kernel = Device {
            bind: Bind::Kernel {
                dev: "red".to_owned(),
                presence: crate::model::Presence::Present,
            },
            ..device()
        };
        let attribute = || Strategy::Attribute {
            name: "red".to_owned(),
        };
        let port = || fallback("red", Some(Kind::Port));
        let mark = || fallback("red", Some(Kind::Mark));
        let auto = || fallback("red", None);
        let none: &[&str] = &[];
        let off = "fwmark: 0x770000ff -> off";
        for (now, strategy, expected) in [
            (&by_mark, auto(), none),
            (&by_mark, mark(), none),
            (
                &by_mark,
                attribute(),
                &[off, "bind device: red (fwmark 0x770000ff) -> red (kernel)"],
            ),
            (
                &by_mark,
                port(),
                &[
                    off,
                    "bind device: red (fwmark 0x770000ff) -> red (source port)",
                ],
            ),
            (&by_port, auto(), none),
            (&by_port, port(), none),
            (
                &by_port,
                mark(),
                &["bind device: red (source port 51820) -> red (fwmark)"],
            ),
            (&by_kernel, attribute(), none),
            (
                &by_kernel,
                auto(),
                &["bind device: red (kernel) -> red (fwmark)"],
            ),
            (
                &by_kernel,
                port(),
                &["bind device: red (kernel) -> red (source port)"],
            ),
        ] {
            let found = lines_by(now, &red(Change::Keep), &means(strategy.clone()));
            assert_eq!(found, expected, "{strategy:?}");
        }
    }

    #[test]
    fn sockets_that_are_made_again_are_a_difference() {
        let binds = Means {
            binds_sockets: true,
            ..means(fallback("red", None))
        };
        let by = Selector::Mark(0x7700_00ff);
        for (receives, expected) in [
            (Receives::Any, vec!["receives: any -> bound"]),
            (Receives::Nothing, vec!["receives: nothing -> bound"]),
            (Receives::Bound, vec![]),
        ] {
            let now = bound_by(by, receives);
            assert_eq!(lines_by(&now, &red(Change::Keep), &binds), expected);
            assert_eq!(lines(&now, &red(Change::Keep)), [""; 0]);
        }
    }

    /// The entry at the bind hooks is for a port, so that a device keeps its own.
    #[test]
    fn what_is_kept_is_no_difference() {
        let by = Selector::Mark(0x7700_00ff);
        let binds = Means {
            binds_sockets: true,
            ..means(fallback("red", None))
        };
        let now = bound_by(by, Receives::Bound);
        assert_eq!(lines_by(&now, &red(Change::Clear), &binds), [""; 0]);
        let another: &[&str] = &["listen port: 51820 -> any"];
        assert_eq!(lines(&now, &red(Change::Clear)), another);
        let now = bound_by(Selector::Port(51820), Receives::Bound);
        assert_eq!(lines_by(&now, &red(Change::Clear), &binds), another);

        // Rules where it was made hold it by its mark, whatever the file leaves out.
        let moved = Device {
            fwmark: 0x7700_00ff,
            ..device()
        };
        let elsewhere = Means {
            bound_elsewhere: Some(by),
            ..means(Strategy::Unbind)
        };
        let update = Update {
            fwmark: Change::Clear,
            bind_dev: Change::Clear,
            bind_dev_omitted: true,
            ..Update::default()
        };
        assert_eq!(lines_by(&moved, &update, &elsewhere), [""; 0]);
        assert_eq!(lines(&moved, &update), ["fwmark: 0x770000ff -> off"]);
    }
}
