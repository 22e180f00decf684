// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The difference that `wg syncconf` applies. Pure.

use std::collections::HashMap;

use crate::key::Key;
use crate::model::{Change, Device, PeerUpdate, Update};

/// What makes `now` into `wanted` without touching the sessions of peers that stay.
///
/// Order and content are the reference's: first the peers that go, the greatest key first, then
/// those of the file in its order, each with what it no longer has turned off.
pub fn sync(now: &Device, wanted: Update) -> Update {
    // As the reference: a device without peers gets the whole, which is the same to it.
    if now.peers.is_empty() {
        return wanted;
    }
    // Of a peer that the file names twice, the first entry is compared.
    let mut first: HashMap<Key, usize> = HashMap::new();
    for (at, peer) in wanted.peers.iter().enumerate() {
        first.entry(peer.public_key.clone()).or_insert(at);
    }
    let mut update = Update {
        replace_peers: false,
        ..wanted
    };
    let mut gone = Vec::new();
    for peer in &now.peers {
        let Some(at) = first.get(&peer.public_key) else {
            gone.push(PeerUpdate {
                remove: true,
                ..PeerUpdate::new(peer.public_key.clone())
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
    gone.sort_by(|a, b| b.public_key.cmp(&a.public_key));
    gone.append(&mut update.peers);
    update.peers = gone;
    update
}
