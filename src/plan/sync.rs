// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The difference between a device and a file, which `wg syncconf` applies. Pure.

use std::cmp::Reverse;

use crate::model::{Change, Device, PeerUpdate, Update};

/// What makes `now` into `wanted` without touching the sessions of peers that stay.
///
/// Order and content are the reference's: first the peers that go, the greatest key first, then
/// those of the file in its order, each with what it no longer has turned off.
pub fn sync_peers(now: &Device, wanted: Update) -> Update {
    // As the reference: a device without peers gets the whole, which is the same to it.
    if now.peers.is_empty() {
        return wanted;
    }
    // The entries of the file by their keys. Of a peer that it names twice, the first is compared.
    let mut order: Vec<usize> = (0..wanted.peers.len()).collect();
    order.sort_by_key(|at| wanted.peers[*at].public_key);
    let mut update = Update {
        replace_peers: false,
        ..wanted
    };
    let mut gone = Vec::new();
    for peer in &now.peers {
        let key = peer.public_key;
        let place = order.partition_point(|at| update.peers[*at].public_key < key);
        let at = order
            .get(place)
            .filter(|at| update.peers[**at].public_key == key);
        let Some(at) = at else {
            gone.push(PeerUpdate {
                remove: true,
                ..PeerUpdate::new(key)
            });
            continue;
        };
        let wanted = &mut update.peers[*at];
        if peer.preshared_key.is_some() && wanted.preshared_key.is_keep() {
            wanted.preshared_key = Change::Clear;
        }
        if peer.persistent_keepalive != 0 && wanted.persistent_keepalive.is_keep() {
            wanted.persistent_keepalive = Change::Clear;
        }
    }
    gone.sort_by_key(|peer| Reverse(peer.public_key));
    update.peers.splice(0..0, gone);
    update
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{Key, PublicKey};
    use crate::model::{Bind, Packed, Peer};

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
