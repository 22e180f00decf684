// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Endpoints that policy rules do not hold. Pure.
//!
//! A packet to an IPv6 link-local or multicast address leaves by the interface behind the `%`. If
//! that is in a VRF, the kernel looks into that VRF's table before it asks any rule
//! (`l3mdev_link_scope_lookup()`). Else it asks the rules. The first one leads to the table `local`,
//! which has a route to all multicast addresses by each interface of the default VRF.

use std::net::{SocketAddr, SocketAddrV6};

use super::rules::{Flow, TABLE_LOCAL};
use crate::error::Error;
use crate::model::{Action, Rule};

/// What the index behind an address stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place<'a> {
    /// An interface that is in no VRF.
    Free { nic: &'a str },
    /// An interface of the VRF that has this table.
    Member {
        nic: &'a str,
        vrf: &'a str,
        table: u32,
    },
    /// A VRF, by which nothing can be sent to such an address.
    Vrf,
}

/// How packets to an endpoint leave elsewhere than by the table that rules lead to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Escape {
    /// `None`: by some interface of the default VRF.
    pub nic: Option<String>,
    /// The VRF of the interface.
    pub vrf: Option<String>,
}

/// Whether the kernel may look at more than the rules for this endpoint.
pub fn is_scoped(endpoint: SocketAddr) -> bool {
    find_scoped(endpoint).is_some()
}

fn find_scoped(endpoint: SocketAddr) -> Option<SocketAddrV6> {
    let SocketAddr::V6(v6) = endpoint else {
        // Of IPv4, only a sender that has chosen its address gets around the rules, and WireGuard
        // has chosen none for an address from which nothing can come.
        return None;
    };
    let link_local = v6.ip().is_unicast_link_local() && v6.scope_id() != 0;
    (link_local || v6.ip().is_multicast()).then_some(v6)
}

/// How packets to this endpoint leave elsewhere than by `table`, though rules lead there. `find_place`
/// says what an index stands for, and `local_first` whether the rule of the table `local` comes
/// before those of the binding.
pub fn find_escape<'a>(
    endpoint: SocketAddr,
    table: u32,
    local_first: bool,
    find_place: impl FnOnce(u32) -> Option<Place<'a>>,
) -> Option<Escape> {
    let v6 = find_scoped(endpoint)?;
    let by_local = v6.ip().is_multicast() && local_first;
    if v6.scope_id() == 0 {
        return by_local.then_some(Escape {
            nic: None,
            vrf: None,
        });
    }
    match find_place(v6.scope_id())? {
        Place::Vrf => None,
        Place::Member { table: its, .. } if its == table => None,
        Place::Member { nic, vrf, .. } => Some(Escape {
            nic: Some(nic.to_owned()),
            vrf: Some(vrf.to_owned()),
        }),
        Place::Free { nic } => by_local.then(|| Escape {
            nic: Some(nic.to_owned()),
            vrf: None,
        }),
    }
}

/// Whether the table `local` is asked before the rules that bind a device.
pub fn is_local_first(rules: &[Rule], flow: Flow) -> bool {
    let mut before = rules.iter().take_while(|rule| !rule.is_ours_for(flow));
    before.any(|rule| rule.action == Action::Table(TABLE_LOCAL))
}

impl Escape {
    /// Behind "leaves by".
    pub fn describe_way(&self) -> String {
        match (&self.nic, &self.vrf) {
            (Some(nic), Some(vrf)) => format!("{nic}, which is in {vrf}"),
            (Some(nic), None) => format!("{nic}, which is in no VRF"),
            (None, _) => "an interface of the default VRF".to_owned(),
        }
    }

    /// The way by which packets leave, in a word or a few.
    pub fn name_way(&self) -> String {
        match &self.nic {
            Some(nic) => nic.clone(),
            None => "the default VRF".to_owned(),
        }
    }

    /// The endpoint as it was written.
    pub fn write_endpoint(&self, endpoint: SocketAddr) -> String {
        match &self.nic {
            Some(nic) => format!("[{}%{nic}]:{}", endpoint.ip(), endpoint.port()),
            None => endpoint.to_string(),
        }
    }

    /// Why a device cannot have such an endpoint. `task` is what was asked for, and `place` the VRF.
    pub fn refuse(&self, task: &str, place: &str, endpoint: SocketAddr, key: &str) -> Error {
        let (endpoint, way) = (self.write_endpoint(endpoint), self.describe_way());
        Error::Unsupported(format!(
            "Cannot {task}: policy rules do not hold the endpoint {endpoint} of peer {key}: its packets \
             would leave by {way}; give the peer an endpoint in {place} in the same command"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAN: u32 = 3;
    const CORE: u32 = 4;
    const ALT: u32 = 6;
    const TABLE: u32 = 1023;

    fn place(index: u32) -> Option<Place<'static>> {
        let member = |nic, vrf, table| Place::Member { nic, vrf, table };
        match index {
            2 | 5 => Some(Place::Vrf),
            WAN => Some(member("wan0", "vrf_external", TABLE)),
            CORE => Some(Place::Free { nic: "core0" }),
            ALT => Some(member("alt0", "vrf_b", 2000)),
            _ => None,
        }
    }

    fn find(ip: &str, scope: u32) -> Option<Escape> {
        let v6 = SocketAddrV6::new(ip.parse().unwrap(), 51820, 0, scope);
        find_escape(v6.into(), TABLE, true, place)
    }

    fn escape(nic: &str, vrf: Option<&str>) -> Option<Escape> {
        Some(Escape {
            nic: Some(nic.to_owned()),
            vrf: vrf.map(str::to_owned),
        })
    }

    #[test]
    fn a_link_local_endpoint_of_another_vrf_escapes() {
        assert_eq!(find("fe80::1", ALT), escape("alt0", Some("vrf_b")));
        // The VRF's own; the rules are asked; nothing can be sent; no such device.
        for scope in [WAN, CORE, 0, 2, 5, 99] {
            assert_eq!(find("fe80::1", scope), None, "{scope}");
        }
        // The kernel asks the rules for all other addresses.
        assert_eq!(find("2001:db8::1", ALT), None);
        let v4 = "224.0.0.1:51820".parse().unwrap();
        assert_eq!(find_escape(v4, TABLE, true, place), None);
    }

    #[test]
    fn multicast_escapes_by_the_table_local_as_well() {
        assert_eq!(find("ff02::1", ALT), escape("alt0", Some("vrf_b")));
        assert_eq!(find("ff02::1", CORE), escape("core0", None));
        assert_eq!(find("ff05::1", 0).unwrap().nic, None);
        for scope in [WAN, 2, 99] {
            assert_eq!(find("ff02::1", scope), None, "{scope}");
        }
        // Behind the rules of the binding it does no harm.
        let held = |scope| {
            let v6 = SocketAddrV6::new("ff02::1".parse().unwrap(), 1, 0, scope);
            find_escape(v6.into(), TABLE, false, place).is_none()
        };
        assert!(held(0) && held(CORE) && !held(ALT));
    }

    /// With the table of the binding gone, no VRF is its own.
    #[test]
    fn without_a_table_every_vrf_is_another_one() {
        let v6 = SocketAddrV6::new("fe80::1".parse().unwrap(), 1, 0, WAN);
        assert!(find_escape(v6.into(), 0, true, place).is_some());
    }

    #[test]
    fn a_refusal_names_the_endpoint_the_interface_and_its_vrf() {
        let v6 = SocketAddrV6::new("fe80::1".parse().unwrap(), 51820, 0, ALT);
        let found = find_escape(v6.into(), TABLE, true, place).unwrap();
        let error = found.refuse("bind wg0", "vrf_external", v6.into(), "KEY");
        assert_eq!(
            error.to_string(),
            "Cannot bind wg0: policy rules do not hold the endpoint [fe80::1%alt0]:51820 of peer KEY: \
             its packets would leave by alt0, which is in vrf_b; give the peer an endpoint in \
             vrf_external in the same command"
        );
    }
}
