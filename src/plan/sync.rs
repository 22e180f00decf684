// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The difference between a device and a file, which `wg syncconf` applies. Pure.

use std::collections::{BTreeSet, HashSet};

use super::changes::mask_prefix;
use crate::model::{Change, Device, Peer, PeerUpdate, Update};

/// What makes `now` into `wanted` without touching the sessions of peers that stay.
///
/// Order and content are the reference's: first the peers that go, the greatest key first, then
/// those of the file in its order, each with what it no longer has turned off. Peers that are as
/// the file has them are left out.
pub fn sync_peers(now: &Device, wanted: Update) -> Update {
    // As the reference: a device without peers gets the whole, which is the same to it.
    if now.peers.is_empty() {
        return wanted;
    }
    let mut update = Update {
        replace_peers: false,
        ..wanted
    };
    // Both by their keys. Of a peer that the file names twice, the first is compared.
    let mut order: Vec<usize> = (0..update.peers.len()).collect();
    order.sort_by_key(|at| update.peers[*at].public_key);
    let mut before: Vec<&Peer> = now.peers.iter().collect();
    before.sort_by_key(|peer| peer.public_key);
    let mut same = vec![false; order.len()];
    let mut gone = Vec::new();
    let mut rest = order.into_iter().peekable();
    for peer in before {
        let key = peer.public_key;
        while rest
            .next_if(|at| update.peers[*at].public_key < key)
            .is_some()
        {}
        let Some(at) = rest.next_if(|at| update.peers[*at].public_key == key) else {
            gone.push(PeerUpdate {
                remove: true,
                ..PeerUpdate::new(key)
            });
            continue;
        };
        let again = rest
            .peek()
            .is_some_and(|at| update.peers[*at].public_key == key);
        let wanted = &mut update.peers[at];
        turn_off(peer, wanted);
        same[at] = !again && is_same(peer, wanted);
    }
    leave_out(&mut update.peers, &same);
    gone.reverse();
    update.peers.splice(0..0, gone);
    update
}

/// The file states all: what it does not mention is off.
fn turn_off(now: &Peer, wanted: &mut PeerUpdate) {
    if now.preshared_key.is_some() && wanted.preshared_key.is_keep() {
        wanted.preshared_key = Change::Clear;
    }
    if now.persistent_keepalive != 0 && wanted.persistent_keepalive.is_keep() {
        wanted.persistent_keepalive = Change::Clear;
    }
}

/// Whether the peer is what the file makes of it. An endpoint that has roamed is not that of the
/// file; one that the file does not name is left as it is.
fn is_same(now: &Peer, wanted: &PeerUpdate) -> bool {
    let same_key = match &wanted.preshared_key {
        Change::Set(key) => now.preshared_key.as_ref() == Some(key),
        Change::Keep | Change::Clear => now.preshared_key.is_none(),
    };
    let same_keepalive = match wanted.persistent_keepalive {
        Change::Set(seconds) => now.persistent_keepalive == seconds,
        Change::Keep | Change::Clear => now.persistent_keepalive == 0,
    };
    let same_prefixes = || {
        let now: BTreeSet<_> = now.allowed_ips.iter().map(mask_prefix).collect();
        let wanted = wanted.allowed_ips.iter().map(|ip| mask_prefix(ip.prefix));
        now == wanted.collect()
    };
    same_key
        && same_keepalive
        && wanted
            .endpoint
            .is_none_or(|addr| now.endpoint == Some(addr))
        && wanted.replace_allowed_ips
        && (now.allowed_ips.is_like(&wanted.allowed_ips) || same_prefixes())
}

/// Takes out the peers that are the same already. But where one before it that is sent has one of
/// its prefixes, too, that would take it away: a prefix belongs to one peer.
fn leave_out(peers: &mut Vec<PeerUpdate>, same: &[bool]) {
    let mut taken = HashSet::new();
    let mut same = same.iter();
    peers.retain(|peer| {
        let mut prefixes = peer.allowed_ips.iter().map(|ip| mask_prefix(ip.prefix));
        let same = same.next() == Some(&true);
        if same && (taken.is_empty() || !prefixes.any(|ip| taken.contains(&ip))) {
            return false;
        }
        taken.extend(peer.allowed_ips.iter().map(|ip| mask_prefix(ip.prefix)));
        true
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{Key, PublicKey};
    use crate::model::{AllowedIp, AllowedIpUpdate, Bind, Packed, Peer};
    use crate::plan::Strategy;
    use crate::plan::changes::{Means, find_differences};

    fn key(byte: u8) -> PublicKey {
        PublicKey::from_bytes([byte; 32])
    }

    fn device(peers: &[(u8, bool, u16)]) -> Device {
        Device {
            name: "wg0".to_owned(),
            private_key: None,
            public_key: None,
            listen_port: 0,
            fwmark: 0,
            bind: Bind::Off,
            receives: None,
            peers: peers
                .iter()
                .map(|(byte, psk, persistent_keepalive)| Peer {
                    public_key: key(*byte),
                    preshared_key: psk.then(|| Key::from_bytes([9; 32])),
                    endpoint: None,
                    last_handshake: None,
                    rx_bytes: 0,
                    tx_bytes: 0,
                    persistent_keepalive: *persistent_keepalive,
                    allowed_ips: Packed::default(),
                })
                .collect(),
        }
    }

    #[test]
    fn removes_only_what_is_gone() {
        let now = device(&[(1, true, 25), (2, false, 0), (3, false, 0)]);
        let wanted = Update {
            bind_dev: Change::Clear,
            replace_peers: true,
            peers: vec![PeerUpdate::new(key(1)), PeerUpdate::new(key(4))],
            ..Update::default()
        };
        let update = sync_peers(&now, wanted);
        // Replacing all peers would end their sessions.
        assert!(!update.replace_peers);
        assert_eq!(update.bind_dev, Change::Clear);
        let keys: Vec<(u8, bool)> = update
            .peers
            .iter()
            .map(|peer| (peer.public_key.as_bytes()[0], peer.remove))
            .collect();
        assert_eq!(keys, [(3, true), (2, true), (1, false), (4, false)]);
        assert_eq!(update.peers[2].preshared_key, Change::Clear);
        assert_eq!(update.peers[2].persistent_keepalive, Change::Clear);
        assert_eq!(update.peers[3], PeerUpdate::new(key(4)));
    }

    /// To send what differs, and to send every peer of the file as the reference does, make one device:
    /// for files and devices of few keys, prefixes and values.
    #[test]
    fn what_is_left_out_makes_no_difference() {
        let means = Means {
            strategy: Strategy::Keep,
            binds_sockets: false,
            bound_elsewhere: None,
            mark: None,
        };
        let mut state = 1u64;
        let mut pick = |below: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) % below
        };
        let prefix = |number: u64| AllowedIp {
            addr: [10, number as u8, 0, 0].into(),
            cidr: 16,
        };
        let endpoint = |number: u64| match number {
            0 => None,
            number => Some(([192, 0, 2, number as u8], 1).into()),
        };
        let mut sent = 0;
        for _ in 0..1_000 {
            let mut now = device(&[]);
            let mut wanted = Update::default();
            for number in 1..=4 {
                let own = [number, number + 4].map(|number| prefix(number.into()));
                let mut peer = device(&[(number, pick(3) == 0, 25 * pick(2) as u16)])
                    .peers
                    .remove(0);
                peer.endpoint = endpoint(pick(3));
                peer.allowed_ips = own.into_iter().take(pick(3) as usize).collect();
                let mut update = PeerUpdate {
                    replace_allowed_ips: pick(9) > 0,
                    endpoint: peer.endpoint.filter(|_| pick(2) > 0),
                    ..PeerUpdate::new(peer.public_key)
                };
                if pick(5) > 0 {
                    update.preshared_key = peer
                        .preshared_key
                        .clone()
                        .map_or(Change::Clear, Change::Set);
                    update.persistent_keepalive = Change::Set(peer.persistent_keepalive);
                }
                let other = (pick(6) == 0).then(|| prefix(pick(9)));
                let ips = peer.allowed_ips.iter().chain(other);
                let ips = ips.map(|prefix| AllowedIpUpdate {
                    prefix,
                    remove: false,
                });
                update.allowed_ips = ips.collect();
                for _ in 0..[0, 1, 1, 1, 1, 2][pick(6) as usize] {
                    let place = pick(wanted.peers.len() as u64 + 1) as usize;
                    wanted.peers.insert(place, update.clone());
                }
                if pick(5) > 0 {
                    now.peers.push(peer);
                }
            }
            let mut whole = wanted.clone();
            for peer in &now.peers {
                let mut all = whole.peers.iter_mut();
                match all.find(|wanted| wanted.public_key == peer.public_key) {
                    None => whole.peers.insert(
                        0,
                        PeerUpdate {
                            remove: true,
                            ..PeerUpdate::new(peer.public_key)
                        },
                    ),
                    Some(wanted) => turn_off(peer, wanted),
                }
            }
            let update = sync_peers(&now, wanted);
            sent += update.peers.len();
            assert_eq!(
                find_differences(&now, &update, &means),
                find_differences(&now, &whole, &means),
                "{now:?} {whole:?}"
            );
        }
        assert!((2_000..3_600).contains(&sent), "{sent}");
    }

    #[test]
    fn many_peers_take_no_quadratic_time() {
        let peers: Vec<PeerUpdate> = (0..20_000u32)
            .map(|number| {
                let mut bytes = [1; 32];
                bytes[..4].copy_from_slice(&number.to_be_bytes());
                PeerUpdate::new(PublicKey::from_bytes(bytes))
            })
            .collect();
        let start = std::time::Instant::now();
        let wanted = Update {
            peers,
            ..Update::default()
        };
        assert_eq!(
            sync_peers(&device(&[(7, false, 0)]), wanted).peers.len(),
            20_001
        );
        assert!(start.elapsed().as_secs() < 60);
    }
}
