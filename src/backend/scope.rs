// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Endpoints that the rules of a binding do not hold: no device is given one, and those that a
//! device has all the same are told.

use std::net::SocketAddr;

use super::facts::read_nics;
use super::routing::Lock;
use super::{Reader, find_link, read_device, read_links};
use crate::doctor::facts::{Nic, find_place};
use crate::error::{Error, Result, Task};
use crate::key::PublicKey;
use crate::model::{Bind, Device, Family, Fault, PeerUpdate, Update, bind_by_table, bind_table};
use crate::plan::Strategy;
use crate::plan::rules::{Flow, Rules};
use crate::plan::scope::{find_escape, is_local_first, is_scoped};

/// As [`refuse_escapes`], where only peers are changed. While the lock is there, nobody binds the
/// device.
///
/// # Errors
/// Those of [`refuse_escapes`].
pub fn refuse_new_escapes(update: &Update) -> Result<Option<Lock>> {
    if !update.peers.iter().any(has_scoped) {
        return Ok(None);
    }
    let lock = Lock::take_lock()?;
    refuse_escapes(update, &Strategy::Keep)?;
    Ok(Some(lock))
}

/// Refuses an update after which the device would be bound by rules and have an endpoint that they do
/// not hold. What the device has already counts where it is to be bound.
///
/// # Errors
/// There is such an endpoint, or what decides that cannot be read.
pub fn refuse_escapes(update: &Update, strategy: &Strategy) -> Result<()> {
    let interface = update.interface.as_str();
    let mut endpoints: Vec<(PublicKey, SocketAddr)> = update
        .peers
        .iter()
        .filter(|peer| has_scoped(peer))
        .filter_map(|peer| Some((peer.public_key, peer.endpoint?)))
        .collect();
    let (task, place, table) = match strategy {
        Strategy::Unbind | Strategy::Attribute { .. } => return Ok(()),
        Strategy::Fallback { name, .. } => {
            let links = read_links(Task::modify(interface))?;
            let of_link = find_link(&links, name).and_then(|link| link.vrf_table);
            let Some(table) = of_link.or_else(|| bind_table(name)) else {
                // It is no VRF, and that is said.
                return Ok(());
            };
            if !update.replace_peers {
                endpoints.extend(list_kept(update)?);
            }
            let task = format!("bind {interface} to `{name}'");
            (task, name.clone(), table)
        }
        Strategy::Keep if endpoints.is_empty() => return Ok(()),
        Strategy::Keep => match Reader::default().get(interface).map(|device| device.bind) {
            Ok(Bind::Rules {
                dev,
                table,
                elsewhere: Some(false) | None,
                ..
            }) => {
                let place = dev.unwrap_or_else(|| bind_by_table(table));
                let task = format!("change {interface}, which is bound to `{place}'");
                (task, place, table)
            }
            // Whoever cannot read it cannot change it, and is told so.
            _ => return Ok(()),
        },
    };
    if endpoints.is_empty() {
        return Ok(());
    }
    let nics = read_nics().map_err(|failure| failure.with_task(Task::modify(interface)))?;
    for (key, endpoint) in endpoints {
        let escape = find_escape(endpoint, table, true, |index| find_place(&nics, index));
        if let Some(escape) = escape {
            return Err(escape.refuse(&task, &place, endpoint, &key.to_base64()));
        }
    }
    Ok(())
}

fn has_scoped(peer: &PeerUpdate) -> bool {
    !peer.remove && peer.endpoint.is_some_and(is_scoped)
}

/// The endpoints that the device has, and keeps.
fn list_kept(update: &Update) -> Result<Vec<(PublicKey, SocketAddr)>> {
    let (device, _) = read_device(&update.interface).map_err(|error| match error {
        Error::Os { errno, words, .. } => Error::Os {
            task: Task::modify(&update.interface),
            errno,
            words,
        },
        other => other,
    })?;
    let goes = |key: &PublicKey| {
        let mut peers = update.peers.iter();
        peers.any(|peer| peer.public_key == *key && (peer.remove || peer.endpoint.is_some()))
    };
    let kept = device.peers.into_iter().filter_map(|peer| {
        let endpoint = peer.endpoint.filter(|one| is_scoped(*one))?;
        (!goes(&peer.public_key)).then_some((peer.public_key, endpoint))
    });
    Ok(kept.collect())
}

/// Adds the endpoints of a device that its rules do not hold to what is wrong with its binding.
/// `read_nics` gives the network devices of this namespace, if they can be read.
pub fn add_faults<'a>(
    device: &mut Device,
    rules: Option<&Rules>,
    read_nics: impl FnOnce() -> Option<&'a [Nic]>,
) {
    let Bind::Rules {
        by,
        table,
        faults,
        elsewhere: Some(false) | None,
        ..
    } = &mut device.bind
    else {
        return;
    };
    let mut endpoints = device.peers.iter().filter_map(|peer| peer.endpoint);
    if !endpoints.any(is_scoped) {
        return;
    }
    let Some(nics) = read_nics() else {
        return;
    };
    let flow = Flow {
        by: *by,
        mark: device.fwmark,
        port: device.listen_port,
    };
    let rules = rules.and_then(|rules| rules.in_family(Family::V6));
    let local_first = rules.is_none_or(|rules| is_local_first(rules, flow));
    for endpoint in device.peers.iter().filter_map(|peer| peer.endpoint) {
        let escape = find_escape(endpoint, *table, local_first, |index| {
            find_place(nics, index)
        });
        let fault = escape.map(|escape| {
            let by = escape.name_way();
            (Family::V6, Fault::Escapes { by })
        });
        faults.extend(fault.filter(|fault| !faults.contains(fault)));
    }
}
