// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! `wg reresolve`: endpoints of silent peers are looked up again, as `reresolve-dns` in the contrib
//! directory of wireguard-tools does.

use std::ffi::OsStr;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Call;
use crate::address::{Endpoint, Names};
use crate::backend;
use crate::error::{Error, Result, Task, shown};
use crate::ifname;
use crate::input;
use crate::model::{Device, PeerUpdate, Update};
use crate::parse::{Draft, Step, conf};
use crate::resolve;

/// A session that works shakes hands every 120 seconds; the contrib script waits as long.
const SILENCE: Duration = Duration::from_secs(135);

/// Lookups at the same time.
const LOOKUPS: usize = 256;

/// Looks up the endpoints that `file` names for peers without a handshake of late, and sets those
/// that have changed. Other settings of the file, those of wg-quick included, are not looked at.
pub fn reresolve(call: Call, interface: &OsStr, file: &OsStr) -> Result<()> {
    let interface = ifname::from_bytes(interface.as_bytes());
    let mut kept = Endpoints::default();
    let mut parser = conf::Parser::default();
    let mut steps = Vec::new();
    input::read_config(Path::new(file), |line| {
        if kept.take_line(line) {
            parser.read_line(line, &mut |step| {
                steps.push(step);
                Ok(())
            })
        } else {
            Ok(())
        }
    })?;
    let read_device = || {
        backend::get_unjudged(&interface).map_err(|error| {
            error.with_task(Task::Retrieve {
                interface: interface.clone(),
            })
        })
    };
    let device = read_device()?;
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let drafts = find_silent(split_peers(steps), &device, now);
    if drafts.is_empty() {
        return Ok(());
    }
    let mut failed = false;
    let names = super::show::interface_names();
    let all = look_up(drafts);
    // That may have taken minutes.
    let mut device = read_device()?;
    let served = backend::is_userspace(&interface);
    let mut lost = Ok(());
    for found in all {
        let changed = found.and_then(|peer| {
            // Not every program knows `update_only': a peer that was removed meanwhile would come back.
            if served && find_change(&device, peer.clone()).is_some() {
                device = read_device()?;
            }
            change_endpoint(&interface, &device, peer, &names)
        });
        match changed {
            Ok(None) => {}
            // A log that is full is no reason to leave the other peers where they were.
            Ok(Some(line)) => {
                if lost.is_ok() {
                    lost = writeln!(call.out, "{line}").map_err(Error::output);
                }
            }
            Err(error) => {
                super::print_note(&error.to_string());
                failed = true;
            }
        }
    }
    match failed {
        true => Err(Error::Reported),
        false => lost,
    }
}

/// Gives a peer its new endpoint, and says what that is; `None` where nothing changes.
fn change_endpoint(
    interface: &str,
    device: &Device,
    found: PeerUpdate,
    names: &Names,
) -> Result<Option<String>> {
    let Some((before, peer)) = find_change(device, found) else {
        return Ok(None);
    };
    let Some(endpoint) = peer.endpoint else {
        return Ok(None);
    };
    let key = peer.public_key;
    super::apply_update(Update {
        interface: interface.to_owned(),
        peers: vec![peer],
        ..Update::default()
    })?;
    let before = before.map_or_else(
        || "none".to_owned(),
        |before| Endpoint(before, names).to_string(),
    );
    let (interface, key) = (shown(interface), key.to_base64());
    let endpoint = Endpoint(endpoint, names);
    Ok(Some(format!(
        "{interface}: peer {key}: endpoint: {before} -> {endpoint}"
    )))
}

/// The endpoint that a peer has, and what sets the new one; `None` where the peer is gone or has it.
fn find_change(device: &Device, found: PeerUpdate) -> Option<(Option<SocketAddr>, PeerUpdate)> {
    let mut peers = device.peers.iter();
    let before = peers
        .find(|peer| peer.public_key == found.public_key)?
        .endpoint;
    let update = PeerUpdate {
        // It may be removed at any time, and comes back without its preshared key.
        update_only: true,
        ..found
    };
    (update.endpoint != before).then_some((before, update))
}

/// Picks the lines about keys and endpoints of peers.
#[derive(Default)]
struct Endpoints {
    in_peer: bool,
}

impl Endpoints {
    /// Whether a line, which has no comment and no blanks, is one of them.
    fn take_line(&mut self, line: &str) -> bool {
        if line.starts_with('[') {
            self.in_peer = line.eq_ignore_ascii_case("[peer]");
            return self.in_peer;
        }
        let key = line.split('=').next().unwrap_or_default();
        let mut wanted = ["publickey", "endpoint"].iter();
        self.in_peer && wanted.any(|wanted| key.eq_ignore_ascii_case(wanted))
    }
}

/// The steps of each peer.
fn split_peers(steps: Vec<Step>) -> Vec<Vec<Step>> {
    let mut peers: Vec<Vec<Step>> = Vec::new();
    for step in steps {
        if step == Step::Peer {
            peers.push(Vec::new());
        }
        if let Some(peer) = peers.last_mut() {
            peer.push(step);
        }
    }
    peers
}

/// Those with an endpoint whose peer is on the device and has been silent.
fn find_silent(peers: Vec<Vec<Step>>, device: &Device, now: Duration) -> Vec<Draft> {
    let is_silent = |steps: &Vec<Step>| {
        let endpoint = steps.iter().any(|step| matches!(step, Step::Endpoint(_)));
        let key = steps.iter().find_map(|step| match step {
            Step::PublicKey(key) => Some(key),
            _ => None,
        });
        let peer = device
            .peers
            .iter()
            .find(|peer| Some(&peer.public_key) == key);
        endpoint
            && peer.is_some_and(|peer| {
                let last = peer.last_handshake.unwrap_or_default();
                now.saturating_sub(last) > SILENCE
            })
    };
    peers
        .into_iter()
        .filter(is_silent)
        .map(|steps| Draft {
            steps,
            // Nothing of the peer but its endpoint is stated.
            whole_peers: false,
            stopped: None,
        })
        .collect()
}

/// Each by itself: a name that is not known holds nobody up.
fn look_up(drafts: Vec<Draft>) -> Vec<Result<PeerUpdate>> {
    let mut found = Vec::new();
    let mut waiting = drafts.into_iter();
    loop {
        let some: Vec<Draft> = waiting.by_ref().take(LOOKUPS).collect();
        if some.is_empty() {
            return found;
        }
        let say = super::say_from_threads();
        thread::scope(|scope| {
            let running: Vec<_> = some
                .into_iter()
                .map(|draft| {
                    let say = say.clone();
                    scope.spawn(move || resolve::resolve(draft, Update::default(), &say))
                })
                .collect();
            for one in running {
                let update = one.join().unwrap_or(Err(Error::Reported));
                found.extend(update.map(|mut update| update.peers.pop()).transpose());
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_wg_quick_is_read_as_well() {
        let mut kept = Endpoints::default();
        let lines = [
            ("[Interface]", false),
            ("PrivateKey=secret", false),
            ("Address=10.0.0.1/24", false),
            ("Endpoint=no", false),
            ("[Peer]", true),
            ("publickey=a", true),
            ("PresharedKey=secret", false),
            ("AllowedIPs=0.0.0.0/0", false),
            ("ENDPOINT=vpn.example:1", true),
            ("[interface]", false),
            ("PublicKey=a", false),
        ];
        for (line, wanted) in lines {
            assert_eq!(kept.take_line(line), wanted, "{line}");
        }
    }

    #[test]
    fn a_peer_that_was_removed_meanwhile_is_left_alone() {
        use crate::key::PublicKey;
        use crate::model::{Bind, Packed, Peer};

        let key = |byte| PublicKey::from_bytes([byte; 32]);
        let old: SocketAddr = "192.0.2.1:1".parse().unwrap();
        let new: SocketAddr = "192.0.2.2:1".parse().unwrap();
        let device = Device {
            name: "wg0".to_owned(),
            private_key: None,
            public_key: None,
            listen_port: 1,
            fwmark: 0,
            bind: Bind::Off,
            receives: None,
            peers: vec![Peer {
                public_key: key(1),
                preshared_key: None,
                endpoint: Some(old),
                last_handshake: None,
                rx_bytes: 0,
                tx_bytes: 0,
                persistent_keepalive: 0,
                allowed_ips: Packed::default(),
            }],
        };
        let found = |byte, endpoint| PeerUpdate {
            endpoint: Some(endpoint),
            ..PeerUpdate::new(key(byte))
        };
        assert_eq!(find_change(&device, found(2, new)), None);
        assert_eq!(find_change(&device, found(1, old)), None);
        let (before, update) = find_change(&device, found(1, new)).unwrap();
        assert_eq!(before, Some(old));
        assert!(update.update_only);
    }
}
