// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! `wg show … json`: the shape of upstream's contrib `wg-json`, plus how a device is bound.
//!
//! Values that are not set are left out, as there. `schema` counts incompatible changes of what
//! a device looks like; new members may appear without one.

use std::fmt::Display;
use std::io::{self, Write};

use serde::{Serialize, Serializer};
use serde_json::ser::PrettyFormatter;

use super::{CONTESTED, Options, masked};
use crate::address::{Endpoint, Prefix};
use crate::key::{Key, PublicKey};
use crate::model::{Bind, Device, Peer, Presence, Receives, Selector};

/// The version of the shape.
pub const SCHEMA: u32 = 1;

/// One object whose members are the devices.
pub fn print(devices: &[Device], options: &Options, out: &mut impl Write) -> io::Result<()> {
    let format = PrettyFormatter::with_indent(b"\t");
    let mut json = serde_json::Serializer::with_formatter(&mut *out, format);
    let devices = devices
        .iter()
        .map(|device| (device.name.as_str(), DeviceJson::new(device, options)));
    json.collect_map(devices)?;
    writeln!(out)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DeviceJson<'a> {
    schema: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    private_key: Option<Secret<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    public_key: Option<PublicText<'a>>,
    #[serde(skip_serializing_if = "is_zero")]
    listen_port: u64,
    #[serde(skip_serializing_if = "is_zero")]
    fwmark: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    bind_dev: Option<BindJson<'a>>,
    peers: PeersJson<'a>,
}

impl<'a> DeviceJson<'a> {
    fn new(device: &'a Device, options: &'a Options) -> Self {
        let Device {
            name: _,
            private_key,
            public_key,
            listen_port,
            fwmark,
            bind,
            receives,
            peers,
        } = device;
        DeviceJson {
            schema: SCHEMA,
            private_key: private_key.as_ref().map(|key| Secret(key, options)),
            public_key: public_key.as_ref().map(PublicText),
            listen_port: u64::from(*listen_port),
            fwmark: u64::from(*fwmark),
            bind_dev: BindJson::new(bind, receives.as_ref()),
            peers: PeersJson(peers, options),
        }
    }
}

/// How a device is bound.
#[derive(Serialize)]
struct BindJson<'a> {
    device: Option<&'a str>,
    method: &'static str,
    /// What its sockets receive, where it can be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    receives: Option<&'static str>,
    /// The devices that `other` stands for.
    #[serde(rename = "receivesFrom", skip_serializing_if = "<[_]>::is_empty")]
    receives_from: &'a [String],
    state: &'static str,
    /// What keeps the binding from holding.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    problems: Vec<String>,
}

impl<'a> BindJson<'a> {
    fn new(bind: &'a Bind, receives: Option<&'a Receives>) -> Option<Self> {
        match bind {
            Bind::Off => None,
            Bind::Unknown { why } => Some(BindJson {
                device: None,
                method: "unknown",
                receives: None,
                receives_from: &[],
                state: "unknown",
                problems: vec![why.clone()],
            }),
            Bind::Kernel { dev, presence } => Some(BindJson {
                device: Some(dev),
                method: "kernel",
                receives: match presence {
                    Presence::Present => Some("bound"),
                    Presence::Missing | Presence::Unbound | Presence::Unused => Some("nothing"),
                    Presence::Unknown => None,
                },
                receives_from: &[],
                state: match presence {
                    Presence::Present => "bound",
                    Presence::Missing => "missing",
                    Presence::Unbound | Presence::Unused => "faulty",
                    Presence::Unknown => "unknown",
                },
                problems: match presence {
                    Presence::Unbound => vec!["the sockets are not bound to it".to_owned()],
                    Presence::Unused => vec!["there are no sockets on it".to_owned()],
                    Presence::Present | Presence::Missing | Presence::Unknown => Vec::new(),
                },
            }),
            Bind::Rules {
                dev,
                by,
                table: _,
                faults,
                elsewhere,
            } => {
                let mut problems: Vec<String> = faults
                    .iter()
                    .map(|(family, fault)| format!("{family}: {fault}"))
                    .collect();
                match elsewhere {
                    Some(false) => {}
                    Some(true) => {
                        problems.push("its sockets are in another network namespace".to_owned());
                    }
                    None => problems.push(CONTESTED.to_owned()),
                }
                Some(BindJson {
                    device: dev.as_deref(),
                    method: match by {
                        Selector::Mark(_) => "fwmark",
                        Selector::Port(_) => "port",
                    },
                    receives: receives.map(|receives| match receives {
                        Receives::Bound => "bound",
                        Receives::Any => "any",
                        Receives::Nothing => "nothing",
                        Receives::Other(_) => "other",
                        Receives::Unclear => "unknown",
                    }),
                    receives_from: match receives {
                        Some(Receives::Other(devices)) => devices,
                        _ => &[],
                    },
                    state: match (elsewhere, dev) {
                        _ if !faults.is_empty() => "faulty",
                        (Some(true) | None, _) => "unknown",
                        (Some(false), Some(_)) => "bound",
                        (Some(false), None) => "missing",
                    },
                    problems,
                })
            }
        }
    }
}

/// An object with a member for each peer.
struct PeersJson<'a>(&'a [Peer], &'a Options);

impl Serialize for PeersJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let PeersJson(peers, options) = self;
        serializer.collect_map(
            peers
                .iter()
                .map(|peer| (PublicText(&peer.public_key), PeerJson::new(peer, options))),
        )
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PeerJson<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    preshared_key: Option<Secret<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<Text<Endpoint<'a>>>,
    #[serde(skip_serializing_if = "is_zero")]
    latest_handshake: u64,
    #[serde(skip_serializing_if = "is_zero")]
    transfer_rx: u64,
    #[serde(skip_serializing_if = "is_zero")]
    transfer_tx: u64,
    #[serde(skip_serializing_if = "is_zero")]
    persistent_keepalive: u64,
    allowed_ips: Vec<Text<Prefix>>,
}

impl<'a> PeerJson<'a> {
    fn new(peer: &'a Peer, options: &'a Options) -> Self {
        let Peer {
            public_key: _,
            preshared_key,
            endpoint,
            last_handshake,
            rx_bytes,
            tx_bytes,
            persistent_keepalive,
            allowed_ips,
        } = peer;
        PeerJson {
            preshared_key: preshared_key.as_ref().map(|key| Secret(key, options)),
            endpoint: endpoint.map(|addr| Text(Endpoint(addr, &options.names))),
            latest_handshake: last_handshake.unwrap_or_default().as_secs(),
            transfer_rx: *rx_bytes,
            transfer_tx: *tx_bytes,
            persistent_keepalive: u64::from(*persistent_keepalive),
            allowed_ips: allowed_ips.iter().map(|ip| Text(Prefix(ip))).collect(),
        }
    }
}

fn is_zero(value: &u64) -> bool {
    *value == 0
}

/// A private or preshared key, or `(hidden)`. Its text is wiped once it is written.
struct Secret<'a>(&'a Key, &'a Options);

impl Serialize for Secret<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&masked(self.0, self.1.hide_keys))
    }
}

struct PublicText<'a>(&'a PublicKey);

impl Serialize for PublicText<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.to_base64())
    }
}

/// A value that is text in JSON.
struct Text<T>(T);

impl<T: Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Family, Fault};
    use std::collections::BTreeSet;

    /// Every way in which a device can be bound.
    fn all_bindings() -> Vec<(Bind, Option<Receives>)> {
        let kernel = [
            Presence::Present,
            Presence::Missing,
            Presence::Unbound,
            Presence::Unused,
            Presence::Unknown,
        ]
        .map(|presence| Bind::Kernel {
            dev: "vrf_a".to_owned(),
            presence,
        })
        .map(|bind| (bind, None));
        let mut all = Vec::from(kernel);
        let why = "reasons".to_owned();
        all.push((Bind::Unknown { why }, None));
        for by in [Selector::Mark(0x77), Selector::Port(51820)] {
            for receives in [
                Receives::Bound,
                Receives::Any,
                Receives::Nothing,
                Receives::Other(vec!["vrf_b".to_owned()]),
                Receives::Unclear,
            ] {
                for (dev, fault, elsewhere) in [
                    (Some("vrf_a"), None, Some(false)),
                    (Some("vrf_a"), Some(Fault::NotClosed), Some(false)),
                    (None, None, Some(false)),
                    (Some("vrf_a"), None, Some(true)),
                    (Some("vrf_a"), Some(Fault::NotClosed), Some(true)),
                    (Some("vrf_a"), None, None),
                    (None, None, None),
                ] {
                    let bind = Bind::Rules {
                        dev: dev.map(str::to_owned),
                        by,
                        table: 1023,
                        faults: fault.map(|fault| (Family::V4, fault)).into_iter().collect(),
                        elsewhere,
                    };
                    all.push((bind, Some(receives.clone())));
                }
            }
        }
        all
    }

    #[test]
    fn another_device_is_named() {
        for (bind, receives) in all_bindings() {
            let json = BindJson::new(&bind, receives.as_ref()).expect("bound");
            let json = serde_json::to_value(json).expect("json");
            let from = json.get("receivesFrom").cloned();
            let other = matches!(receives, Some(Receives::Other(_)));
            assert_eq!(from, other.then(|| serde_json::json!(["vrf_b"])), "{json}");
        }
    }

    /// As docs/json.md has it, and in its order.
    #[test]
    fn one_state_for_each_binding() {
        for (bind, receives) in all_bindings() {
            let json = BindJson::new(&bind, receives.as_ref()).expect("bound");
            let json = serde_json::to_value(json).expect("json");
            let wanted = match &bind {
                Bind::Off | Bind::Unknown { .. } => "unknown",
                Bind::Kernel { presence, .. } => match presence {
                    Presence::Present => "bound",
                    Presence::Missing => "missing",
                    Presence::Unbound | Presence::Unused => "faulty",
                    Presence::Unknown => "unknown",
                },
                Bind::Rules { faults, .. } if !faults.is_empty() => "faulty",
                Bind::Rules {
                    elsewhere: Some(true) | None,
                    ..
                } => "unknown",
                Bind::Rules { dev: None, .. } => "missing",
                Bind::Rules { .. } => "bound",
            };
            assert_eq!(json["state"], wanted, "{bind:?}");
            let explained = json.get("problems").is_some();
            assert_eq!(
                explained,
                wanted == "faulty" || json["method"] != "kernel" && wanted == "unknown"
            );
        }
    }

    /// A monitor is built from docs/json.md: its table has each value that is printed, and no other.
    #[test]
    fn the_page_has_the_values_of_a_binding() {
        let page = include_str!("../../docs/json.md");
        let printed = |member: &str| -> BTreeSet<String> {
            let values = all_bindings().into_iter().filter_map(|(bind, receives)| {
                let json =
                    serde_json::to_value(BindJson::new(&bind, receives.as_ref())?).expect("json");
                Some(json.get(member)?.as_str()?.to_owned())
            });
            values.collect()
        };
        for member in ["method", "receives", "state"] {
            let row = page
                .lines()
                .find_map(|line| line.strip_prefix(&format!("| `{member}` | ")))
                .unwrap_or_else(|| panic!("{member} is not in the table"));
            let (types, _) = row.split_once(" | ").expect("a column");
            let documented: BTreeSet<String> = types
                .split('"')
                .skip(1)
                .step_by(2)
                .map(str::to_owned)
                .collect();
            assert_eq!(printed(member), documented, "{member}");
        }
    }
}
