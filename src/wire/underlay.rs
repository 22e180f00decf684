// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Routing netlink: what carries a tunnel. The state of links, their addresses, and the route that
//! the kernel would take for a packet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::NLM_F_DUMP;

use super::nlmsg::{self, Request, attributes_of, u32_at};

// linux/rtnetlink.h
const RTM_GETADDR: u16 = 22;
const RTM_GETROUTE: u16 = 26;
const RTA_DST: u16 = 1;
const RTA_SRC: u16 = 2;
const RTA_IIF: u16 = 3;
const RTA_OIF: u16 = 4;
const RTA_PREFSRC: u16 = 7;
const RTA_METRICS: u16 = 8;
const RTA_TABLE: u16 = 15;
const RTA_MARK: u16 = 16;
const RTA_IP_PROTO: u16 = 27;
const RTA_SPORT: u16 = 28;
const RTA_DPORT: u16 = 29;
const RTAX_MTU: u16 = 2;
/// The answer names the table.
const RTM_F_LOOKUP_TABLE: u32 = 0x1000;
/// Bytes of `struct rtmsg`.
const ROUTE_LEN: usize = 12;
/// `RTN_UNICAST`, `RTN_LOCAL`, `RTN_BROADCAST` and `RTN_MULTICAST`
const UNICAST: u8 = 1;
const LOCAL: u8 = 2;
const BROADCAST: u8 = 3;
const MULTICAST: u8 = 5;

// linux/if_link.h
const IFINFOMSG_LEN: usize = 16;
const IFLA_MTU: u16 = 4;
const IFLA_MASTER: u16 = 10;

// linux/if_addr.h
const IFADDRMSG_LEN: usize = 8;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
/// `RT_SCOPE_UNIVERSE`
const GLOBAL: u8 = 0;

/// What a link is able to carry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carrier {
    pub mtu: u32,
    /// The index of the VRF, bridge or bond that it belongs to.
    pub master: Option<u32>,
    /// It is up and has a carrier (`IFF_RUNNING`).
    pub running: bool,
    /// Its other end needs no address (`IFF_POINTOPOINT`), as with PPP.
    pub point_to_point: bool,
}

/// A link's carrier out of an answer to `wire::route::get_links`.
pub fn decode_carrier(payload: &[u8]) -> Option<Carrier> {
    let attributes = payload.get(IFINFOMSG_LEN..)?;
    let flags = u32_at(payload, 8);
    let mut carrier = Carrier {
        running: flags & libc::IFF_RUNNING as u32 != 0,
        point_to_point: flags & libc::IFF_POINTOPOINT as u32 != 0,
        ..Carrier::default()
    };
    for nla in attributes_of(attributes).filter(|nla| nla.value().len() == 4) {
        match nla.kind() {
            IFLA_MTU => carrier.mtu = u32_at(nla.value(), 0),
            IFLA_MASTER => carrier.master = Some(u32_at(nla.value(), 0)),
            _ => {}
        }
    }
    Some(carrier)
}

/// An address of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The index of the link.
    pub link: u32,
    pub ip: IpAddr,
    /// Not only good on the link.
    pub global: bool,
}

/// Asks for all addresses of both families.
pub fn get_addresses() -> Request {
    nlmsg::request_raw(RTM_GETADDR, NLM_F_DUMP, &[0; IFADDRMSG_LEN])
}

/// An address out of an answer to [`get_addresses`].
pub fn decode_address(payload: &[u8]) -> Option<Address> {
    let attributes = payload.get(IFADDRMSG_LEN..)?;
    // Of a point-to-point link, IFA_ADDRESS is the other end.
    let own = nlmsg::find_attribute(attributes, IFA_LOCAL);
    let value = own.or_else(|| nlmsg::find_attribute(attributes, IFA_ADDRESS))?;
    Some(Address {
        link: u32_at(payload, 4),
        ip: read_ip(&value)?,
        global: payload[3] == GLOBAL,
    })
}

/// A packet of UDP to ask a route for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    pub to: IpAddr,
    pub from: Option<IpAddr>,
    /// 0: not looked at.
    pub source_port: u16,
    pub destination_port: u16,
    pub mark: u32,
    pub way: Way,
}

/// Whether this host sends a packet or gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Out,
    /// By a socket that is bound to the device with this index.
    OutOf(u32),
    /// By the device with this index.
    In(u32),
}

/// Asks which route a packet takes.
pub fn get_route(packet: &Packet) -> Request {
    let Packet {
        to,
        from,
        source_port,
        destination_port,
        mark,
        way,
    } = packet;
    let mut payload = vec![0; ROUTE_LEN];
    let bits = |ip: &IpAddr| if ip.is_ipv4() { 32 } else { 128 };
    payload[0] = match to {
        IpAddr::V4(_) => libc::AF_INET as u8,
        IpAddr::V6(_) => libc::AF_INET6 as u8,
    };
    payload[1] = bits(to);
    payload[2] = from.as_ref().map_or(0, bits);
    payload[8..12].copy_from_slice(&RTM_F_LOOKUP_TABLE.to_ne_bytes());
    put_ip(&mut payload, RTA_DST, to);
    if let Some(from) = from {
        put_ip(&mut payload, RTA_SRC, from);
    }
    match way {
        Way::Out => {}
        Way::OutOf(index) => put_attribute(&mut payload, RTA_OIF, &index.to_ne_bytes()),
        Way::In(index) => put_attribute(&mut payload, RTA_IIF, &index.to_ne_bytes()),
    }
    if *mark != 0 {
        put_attribute(&mut payload, RTA_MARK, &mark.to_ne_bytes());
    }
    put_attribute(&mut payload, RTA_IP_PROTO, &[libc::IPPROTO_UDP as u8]);
    for (kind, port) in [(RTA_SPORT, source_port), (RTA_DPORT, destination_port)] {
        if *port != 0 {
            put_attribute(&mut payload, kind, &port.to_be_bytes());
        }
    }
    nlmsg::request_raw(RTM_GETROUTE, nlmsg::ACK, &payload)
}

/// The route that a packet takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    pub kind: RouteKind,
    pub table: u32,
    /// The index of the device that it leaves by.
    pub out: u32,
    /// The address that it leaves with, where the sender has chosen none.
    pub source: Option<IpAddr>,
    /// Where the route has one of its own.
    pub mtu: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteKind {
    /// It is sent on.
    Unicast,
    /// This host takes it.
    Local,
    /// It is sent to all receivers on a link, or to a group of them.
    Broadcast,
    /// Unreachable, prohibit, or another kind that carries nothing.
    Other,
}

/// A route out of the answer to [`get_route`].
pub fn decode_route(payload: &[u8]) -> Option<Route> {
    let attributes = payload.get(ROUTE_LEN..)?;
    let mut route = Route {
        kind: match payload[7] {
            UNICAST => RouteKind::Unicast,
            LOCAL => RouteKind::Local,
            BROADCAST | MULTICAST => RouteKind::Broadcast,
            _ => RouteKind::Other,
        },
        table: u32::from(payload[4]),
        out: 0,
        source: None,
        mtu: None,
    };
    for nla in attributes_of(attributes) {
        let value = nla.value();
        match (nla.kind(), value.len()) {
            (RTA_TABLE, 4) => route.table = u32_at(value, 0),
            (RTA_OIF, 4) => route.out = u32_at(value, 0),
            (RTA_PREFSRC, _) => route.source = read_ip(value),
            (RTA_METRICS, _) => {
                route.mtu = nlmsg::find_attribute(value, RTAX_MTU)
                    .filter(|mtu| mtu.len() == 4)
                    .map(|mtu| u32_at(&mtu, 0))
                    .filter(|mtu| *mtu != 0);
            }
            _ => {}
        }
    }
    Some(route)
}

fn read_ip(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(value).ok()?).into()),
        16 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(value).ok()?).into()),
        _ => None,
    }
}

fn put_ip(payload: &mut Vec<u8>, kind: u16, ip: &IpAddr) {
    match ip {
        IpAddr::V4(ip) => put_attribute(payload, kind, &ip.octets()),
        IpAddr::V6(ip) => put_attribute(payload, kind, &ip.octets()),
    }
}

fn put_attribute(payload: &mut Vec<u8>, kind: u16, value: &[u8]) {
    payload.extend_from_slice(&((4 + value.len()) as u16).to_ne_bytes());
    payload.extend_from_slice(&kind.to_ne_bytes());
    payload.extend_from_slice(value);
    payload.resize(payload.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        put_attribute(&mut bytes, kind, value);
        bytes
    }

    /// struct ifinfomsg and attributes, by hand from linux/rtnetlink.h and linux/if_link.h.
    #[test]
    fn a_link_shows_what_it_carries() {
        let mut bytes = vec![0; 16];
        // IFF_UP | IFF_RUNNING
        bytes[8..12].copy_from_slice(&0x41u32.to_ne_bytes());
        bytes.extend(attribute(4, &1492u32.to_ne_bytes()));
        bytes.extend(attribute(10, &7u32.to_ne_bytes()));
        let carrier = Carrier {
            mtu: 1492,
            master: Some(7),
            running: true,
            point_to_point: false,
        };
        assert_eq!(decode_carrier(&bytes), Some(carrier));
        // IFF_UP | IFF_POINTOPOINT
        bytes[8] = 0x11;
        let down = decode_carrier(&bytes).unwrap();
        assert!(!down.running && down.point_to_point);
        assert_eq!(decode_carrier(&bytes[..15]), None);
    }

    #[test]
    fn an_address_of_a_point_to_point_link_is_its_own_end() {
        // struct ifaddrmsg: AF_INET, /32, scope global, link 5.
        let mut bytes = vec![2, 32, 0, 0, 5, 0, 0, 0];
        bytes[4..8].copy_from_slice(&5u32.to_ne_bytes());
        bytes.extend(attribute(1, &[198, 51, 100, 1]));
        bytes.extend(attribute(2, &[198, 51, 100, 10]));
        let found = decode_address(&bytes).unwrap();
        assert_eq!(found.ip, "198.51.100.10".parse::<IpAddr>().unwrap());
        assert!(found.global);
        assert_eq!(found.link, 5);
        // Scope link, and no IFA_LOCAL, as for fe80::1.
        let mut bytes = vec![10, 64, 0, 253, 0, 0, 0, 0];
        let ip = "fe80::1".parse::<Ipv6Addr>().unwrap();
        bytes.extend(attribute(1, &ip.octets()));
        let found = decode_address(&bytes).unwrap();
        assert_eq!((found.ip, found.global), (ip.into(), false));
    }

    /// As `ip route get 203.0.113.10 mark 0x770000ff ipproto udp sport 51001 dport 51002` asks, by
    /// hand from linux/rtnetlink.h.
    #[test]
    fn a_packet_is_asked_for_by_all_that_rules_see() {
        let packet = Packet {
            to: "203.0.113.10".parse().unwrap(),
            from: None,
            source_port: 51001,
            destination_port: 51002,
            mark: 0x7700_00ff,
            way: Way::OutOf(7),
        };
        let bytes = get_route(&packet);
        assert_eq!(nlmsg::u16_at(&bytes, 4), 26, "RTM_GETROUTE");
        assert_eq!(nlmsg::u16_at(&bytes, 6), 5, "REQUEST|ACK");
        assert_eq!(bytes[16..19], [2, 32, 0]);
        assert_eq!(u32_at(&bytes, 24), 0x1000, "RTM_F_LOOKUP_TABLE");
        let mut wanted = attribute(1, &[203, 0, 113, 10]);
        wanted.extend(attribute(4, &7u32.to_ne_bytes()));
        wanted.extend(attribute(16, &0x7700_00ffu32.to_ne_bytes()));
        wanted.extend(attribute(27, &[17]));
        wanted.extend(attribute(28, &[0xc7, 0x39]));
        wanted.extend(attribute(29, &[0xc7, 0x3a]));
        assert_eq!(bytes[28..], wanted);
        let arriving = Packet {
            from: Some("198.51.100.1".parse().unwrap()),
            way: Way::In(9),
            mark: 0,
            ..packet
        };
        let bytes = get_route(&arriving);
        assert_eq!(bytes[16..19], [2, 32, 32]);
        assert_eq!(
            nlmsg::find_attribute(&bytes[28..], 3),
            Some(9u32.to_ne_bytes().to_vec())
        );
        assert_eq!(nlmsg::find_attribute(&bytes[28..], 16), None);
    }

    #[test]
    fn a_route_has_its_table_device_source_and_mtu() {
        // struct rtmsg: table 252 (RT_TABLE_COMPAT), RTN_UNICAST.
        let mut bytes = vec![2, 32, 0, 0, 252, 0, 0, 1, 0, 0, 0, 0];
        bytes.extend(attribute(15, &1023u32.to_ne_bytes()));
        bytes.extend(attribute(4, &3u32.to_ne_bytes()));
        bytes.extend(attribute(7, &[198, 51, 100, 10]));
        bytes.extend(attribute(8, &attribute(2, &1280u32.to_ne_bytes())));
        let route = Route {
            kind: RouteKind::Unicast,
            table: 1023,
            out: 3,
            source: Some("198.51.100.10".parse().unwrap()),
            mtu: Some(1280),
        };
        assert_eq!(decode_route(&bytes), Some(route));
        bytes[7] = 2;
        assert_eq!(decode_route(&bytes).unwrap().kind, RouteKind::Local);
        for many in [3, 5] {
            bytes[7] = many;
            assert_eq!(decode_route(&bytes).unwrap().kind, RouteKind::Broadcast);
        }
        bytes[7] = 7;
        assert_eq!(decode_route(&bytes).unwrap().kind, RouteKind::Other);
        assert_eq!(decode_route(&bytes[..11]), None);
    }
}
