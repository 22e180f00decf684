// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Routing netlink: links as far as this tool needs them, and policy rules.
//!
//! A dump must not fail for one rule or link that this code does not understand. A rule with a
//! selector that is unknown here comes out as "narrowed". Links are decoded here, because the
//! decoder of netlink-packet-route gives up a whole link for one attribute of another size; a
//! test shows it.

use netlink_packet_core::{DefaultNla, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, Nla, Parseable};
use netlink_packet_route::route::RouteProtocol;
use netlink_packet_route::rule::{
    RuleAction, RuleAttribute, RuleFlags, RuleHeader, RuleMessage, RulePortRange,
};
use netlink_packet_route::{AddressFamily, IpProtocol, RouteNetlinkMessage};

use super::nlmsg::{self, Request, attributes_of, u32_at};
use crate::model::{Action, Family, Rule};

// linux/rtnetlink.h
const RTM_GETLINK: u16 = 18;
const RTM_GETRULE: u16 = 34;
const IFINFOMSG_LEN: usize = 16;
// linux/if_link.h
const IFLA_IFNAME: u16 = 3;
const IFLA_LINKINFO: u16 = 18;
const IFLA_EXT_MASK: u16 = 29;
const IFLA_PROP_LIST: u16 = 52;
const IFLA_ALT_IFNAME: u16 = 53;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_VRF_TABLE: u16 = 1;
// linux/rtnetlink.h; kernels before 4.4 do not look at it.
const RTEXT_FILTER_SKIP_STATS: u32 = 1 << 3;
// linux/fib_rules.h
const RULE_HEADER_LEN: usize = 12;
const FRA_PRIORITY: u16 = 6;
const FRA_SPORT_MASK: u16 = 28;
const FR_ACT_GOTO: u8 = 2;
const FR_ACT_NOP: u8 = 3;
/// `RT_TABLE_COMPAT`: what the 8-bit field of the header says for tables above 255.
const TABLE_COMPAT: u8 = 252;

/// A network device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    pub name: String,
    /// Further names.
    pub altnames: Vec<String>,
    /// Empty for devices without a link kind, such as hardware.
    pub kind: String,
    /// The routing table of a VRF.
    pub vrf_table: Option<u32>,
    pub up: bool,
}

impl Link {
    /// Whether this is one of its names.
    pub fn is_called(&self, name: &str) -> bool {
        self.name == name || self.altnames.iter().any(|altname| altname == name)
    }
}

/// Asks for all links, without IPv6's counters: those are most of the work and of the answer.
pub fn get_links() -> Request {
    let mut payload = [0; IFINFOMSG_LEN + 8];
    // struct rtattr, then the mask.
    payload[IFINFOMSG_LEN..][..2].copy_from_slice(&8u16.to_ne_bytes());
    payload[IFINFOMSG_LEN + 2..][..2].copy_from_slice(&IFLA_EXT_MASK.to_ne_bytes());
    payload[IFINFOMSG_LEN + 4..].copy_from_slice(&RTEXT_FILTER_SKIP_STATS.to_ne_bytes());
    nlmsg::request_raw(RTM_GETLINK, NLM_F_DUMP, &payload)
}

/// A link out of an answer to [`get_links`].
pub fn decode_link(payload: &[u8]) -> Option<Link> {
    let attributes = payload.get(IFINFOMSG_LEN..)?;
    let mut link = Link {
        index: u32_at(payload, 4),
        name: String::new(),
        altnames: Vec::new(),
        kind: String::new(),
        vrf_table: None,
        up: u32_at(payload, 8) & libc::IFF_UP as u32 != 0,
    };
    for nla in attributes_of(attributes) {
        match nla.kind() {
            IFLA_IFNAME => link.name = nlmsg::read_name(nla.value()),
            // Nested, with or without the flag that says so.
            IFLA_PROP_LIST => link.altnames.extend(
                attributes_of(nla.value())
                    .filter(|nla| nla.kind() == IFLA_ALT_IFNAME)
                    .map(|nla| nlmsg::read_name(nla.value())),
            ),
            IFLA_LINKINFO => {
                let info = nla.value();
                if let Some(kind) = nlmsg::find_attribute(info, IFLA_INFO_KIND) {
                    link.kind = nlmsg::read_text(&kind);
                }
                if link.kind == "vrf" {
                    link.vrf_table = nlmsg::find_attribute(info, IFLA_INFO_DATA)
                        .and_then(|data| nlmsg::find_attribute(&data, IFLA_VRF_TABLE))
                        .filter(|table| table.len() == 4)
                        .map(|table| u32_at(&table, 0));
                }
            }
            _ => {}
        }
    }
    Some(link)
}

fn address_family(family: Family) -> AddressFamily {
    match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    }
}

/// Asks for the rules of a family.
pub fn get_rules(of: Family) -> Request {
    // struct fib_rule_hdr, all zero but the family.
    let mut header = [0; 12];
    header[0] = u8::from(address_family(of));
    nlmsg::request_raw(RTM_GETRULE, NLM_F_DUMP, &header)
}

/// A rule out of an answer to [`get_rules`].
pub fn decode_rule(payload: &[u8]) -> Rule {
    let Ok(message) = RuleMessage::parse(payload) else {
        // Something that the codec does not know: never ours, possibly in our way.
        // It is asked at its own place all the same, not before all others.
        let priority = payload
            .get(RULE_HEADER_LEN..)
            .and_then(|attributes| nlmsg::find_attribute(attributes, FRA_PRIORITY))
            .filter(|value| value.len() == 4);
        return Rule {
            pref: priority.map_or(0, |value| u32_at(&value, 0)),
            narrowed: true,
            action: Action::Other,
            ..Rule::default()
        };
    };
    let RuleHeader {
        dst_len,
        src_len,
        tos,
        table,
        action,
        flags,
        ..
    } = message.header;
    let mut rule = Rule {
        invert: flags.contains(RuleFlags::Invert),
        narrowed: dst_len != 0 || src_len != 0 || tos != 0,
        ..Rule::default()
    };
    let mut table = u32::from(table);
    let mut source_mask = u16::MAX;
    for attribute in message.attributes {
        match attribute {
            RuleAttribute::Priority(pref) => rule.pref = pref,
            RuleAttribute::FwMark(mark) => rule.mark = mark,
            RuleAttribute::FwMask(mask) => rule.mask = mask,
            RuleAttribute::Table(id) => table = id,
            RuleAttribute::Protocol(protocol) => rule.protocol = protocol.into(),
            RuleAttribute::L3MDev(on) => rule.l3mdev = on,
            // What a router sends itself comes in by "lo".
            RuleAttribute::Iifname(name) if name == "lo" => rule.local_output = true,
            RuleAttribute::Iifname(_) => rule.forwarded_only = true,
            RuleAttribute::SuppressPrefixLen(u32::MAX) => {}
            RuleAttribute::SuppressPrefixLen(_) | RuleAttribute::SuppressIfGroup(_) => {
                rule.suppress = true;
            }
            RuleAttribute::Destination(_) | RuleAttribute::Source(_) => rule.narrowed = true,
            RuleAttribute::IpProtocol(protocol) => rule.ip_proto = i32::from(protocol) as u8,
            RuleAttribute::SourcePortRange(RulePortRange { start, end }) => {
                rule.source_ports = Some((start, end));
            }
            RuleAttribute::Realm(_) => {}
            // Since 6.15 every exact port comes with its mask.
            RuleAttribute::Other(nla) if nla.kind() == FRA_SPORT_MASK => {
                source_mask = read_u16(&nla);
            }
            // Padding.
            RuleAttribute::Other(nla) if nla.value_len() == 0 => {}
            _ => rule.narrowed = true,
        }
    }
    if source_mask != u16::MAX {
        // Ports that are no range: whoever asks must reckon with each.
        rule.source_ports = None;
        rule.narrowed = true;
    }
    rule.action = match action {
        RuleAction::ToTable => Action::Table(table),
        RuleAction::Unreachable => Action::Unreachable,
        RuleAction::Prohibit | RuleAction::Blackhole => Action::Drop,
        other if u8::from(other) == FR_ACT_NOP => Action::Nop,
        other if u8::from(other) == FR_ACT_GOTO => Action::Goto,
        _ => Action::Other,
    };
    rule
}

/// 0 where it is no number of two bytes: a mask that every port passes.
fn read_u16(nla: &DefaultNla) -> u16 {
    let mut value = [0; 2];
    if nla.value_len() == value.len() {
        nla.emit_value(&mut value);
    }
    u16::from_ne_bytes(value)
}

/// A rule of ours: nothing but a mark or a source port decides, see `plan::rules`.
fn new_message(of: Family, rule: &Rule) -> RuleMessage {
    let (action, table) = match rule.action {
        Action::Table(table) => (RuleAction::ToTable, Some(table)),
        _ => (RuleAction::Unreachable, None),
    };
    let mut message = RuleMessage::default();
    message.header.family = address_family(of);
    message.header.action = action;
    message.header.table = match table {
        Some(table) => u8::try_from(table).unwrap_or(TABLE_COMPAT),
        None => 0,
    };
    message.attributes = vec![
        RuleAttribute::Priority(rule.pref),
        RuleAttribute::Protocol(RouteProtocol::from(rule.protocol)),
    ];
    if rule.mask != 0 {
        message.attributes.extend([
            RuleAttribute::FwMark(rule.mark),
            RuleAttribute::FwMask(rule.mask),
        ]);
    }
    if rule.local_output {
        message
            .attributes
            .push(RuleAttribute::Iifname("lo".to_owned()));
    }
    if let Some((start, end)) = rule.source_ports {
        message.attributes.extend([
            RuleAttribute::IpProtocol(IpProtocol::Udp),
            RuleAttribute::SourcePortRange(RulePortRange { start, end }),
        ]);
    }
    message.attributes.extend(table.map(RuleAttribute::Table));
    message
}

/// Adds a rule of ours. Unless it is to be a second one, it fails with EEXIST when it is there.
pub fn add_rule(of: Family, rule: &Rule, second: bool) -> Request {
    let exclusive = if second { 0 } else { NLM_F_EXCL };
    nlmsg::encode_request(
        &RouteNetlinkMessage::NewRule(new_message(of, rule)),
        nlmsg::ACK | NLM_F_CREATE | exclusive,
    )
}

/// Removes a rule of ours and no other: the kernel compares all that is said, the protocol too.
pub fn delete_rule(of: Family, rule: &Rule) -> Request {
    nlmsg::encode_request(
        &RouteNetlinkMessage::DelRule(new_message(of, rule)),
        nlmsg::ACK,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = ((4 + value.len()) as u16).to_ne_bytes().to_vec();
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn dumped(header: [u8; 12], attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut bytes = header.to_vec();
        for (kind, value) in attributes {
            bytes.extend(attribute(*kind, value));
        }
        bytes
    }

    const NO_SUPPRESS: (u16, &[u8]) = (14, &[0xff; 4]);

    #[test]
    fn rules_are_read_as_fib_nl_fill_rule_writes_them() {
        let table = 1023u32.to_ne_bytes();
        let mark = 0x1023u32.to_ne_bytes();
        let pref = 999u32.to_ne_bytes();
        let bytes = dumped(
            [2, 0, 0, 0, 252, 0, 0, 1, 0, 0, 0, 0],
            &[
                (15, &table),
                NO_SUPPRESS,
                (21, &[3]),
                (6, &pref),
                (10, &mark),
                (16, &[0xff; 4]),
            ],
        );
        assert_eq!(
            decode_rule(&bytes),
            Rule {
                pref: 999,
                mark: 0x1023,
                mask: u32::MAX,
                protocol: 3,
                action: Action::Table(1023),
                ..Rule::default()
            }
        );
    }

    /// FR_ACT_BLACKHOLE, FR_ACT_UNREACHABLE and FR_ACT_PROHIBIT of linux/fib_rules.h; 4 is
    /// reserved there.
    #[test]
    fn what_drops_is_told_from_what_is_not_known() {
        for (number, action) in [
            (6, Action::Drop),
            (7, Action::Unreachable),
            (8, Action::Drop),
            (4, Action::Other),
        ] {
            let header = [2, 0, 0, 0, 0, 0, 0, number, 0, 0, 0, 0];
            assert_eq!(decode_rule(&dumped(header, &[NO_SUPPRESS])).action, action);
        }
    }

    #[test]
    fn what_is_not_understood_is_never_taken_for_plain() {
        let plain = [2, 0, 0, 0, 254, 0, 0, 1, 0, 0, 0, 0];
        // FRA_DSCP (25), added in 6.13; FRA_SUPPRESS_PREFIXLEN 0, as wg-quick uses it.
        assert!(decode_rule(&dumped(plain, &[NO_SUPPRESS, (25, &[1])])).narrowed);
        assert!(decode_rule(&dumped(plain, &[(14, &[0; 4])])).suppress);
        assert!(decode_rule(&dumped(plain, &[NO_SUPPRESS, (6, &[1])])).narrowed);
        assert!(decode_rule(&plain[..3]).narrowed);
        // A table of two bytes is no table; the rule stays where it is.
        let pref = 40_000u32.to_ne_bytes();
        let odd = decode_rule(&dumped(plain, &[(6, &pref), (15, &[1, 0])]));
        assert!(odd.narrowed && odd.action == Action::Other, "{odd:?}");
        assert_eq!(odd.pref, 40_000);
        // FRA_SPORT_RANGE (23) with FRA_SPORT_MASK (28): of one port, and of 256.
        let range = [0x07, 0xc7, 0x07, 0xc7];
        let exact = decode_rule(&dumped(
            plain,
            &[NO_SUPPRESS, (28, &[0xff; 2]), (23, &range)],
        ));
        assert_eq!(exact.source_ports, Some((0xc707, 0xc707)));
        assert!(!exact.narrowed);
        let mask = 0xff00u16.to_ne_bytes();
        let masked = decode_rule(&dumped(plain, &[NO_SUPPRESS, (28, &mask), (23, &range)]));
        assert!(
            masked.narrowed && masked.source_ports.is_none(),
            "{masked:?}"
        );
        let inverted = dumped([2, 0, 0, 0, 254, 0, 0, 1, 2, 0, 0, 0], &[NO_SUPPRESS]);
        assert!(decode_rule(&inverted).invert);
        assert!(decode_rule(&dumped(plain, &[NO_SUPPRESS, (3, b"lo\0")])).local_output);
        assert!(decode_rule(&dumped(plain, &[NO_SUPPRESS, (3, b"eth0\0")])).forwarded_only);
        assert!(decode_rule(&dumped(plain, &[NO_SUPPRESS, (17, b"eth0\0")])).narrowed);
    }

    #[test]
    fn ours_are_written_as_iproute2_would() {
        // `ip rule add pref 97 fwmark 0x770000ff table 1023 protocol 119` under strace.
        let ours = Rule {
            pref: 97,
            mark: 0x7700_00ff,
            mask: u32::MAX,
            protocol: 119,
            action: Action::Table(1023),
            ..Rule::default()
        };
        let bytes = add_rule(Family::V4, &ours, false);
        assert_eq!(nlmsg::u16_at(&bytes, 4), 32, "RTM_NEWRULE");
        assert_eq!(nlmsg::u16_at(&bytes, 6), 0x605, "REQUEST|ACK|EXCL|CREATE");
        assert_eq!(&bytes[16..28], [2, 0, 0, 0, 252, 0, 0, 1, 0, 0, 0, 0]);
        assert_eq!(decode_rule(&bytes[16..]), ours);
        let closed = Rule {
            action: Action::Unreachable,
            ..ours
        };
        let bytes = delete_rule(Family::V6, &closed);
        assert_eq!(nlmsg::u16_at(&bytes, 4), 33, "RTM_DELRULE");
        assert_eq!(&bytes[16..28], [10, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0]);
        assert_eq!(decode_rule(&bytes[16..]), closed);
    }

    /// Why links are decoded here. When this fails, the crate's decoder may do.
    #[test]
    fn one_odd_attribute_does_not_hide_a_link() {
        use netlink_packet_route::link::LinkMessage;
        let mut bytes = vec![0; 16];
        bytes.extend(attribute(3, b"eth0\0"));
        assert!(LinkMessage::parse(&bytes[..]).is_ok());
        // IFLA_MTU of 8 bytes.
        bytes.extend(attribute(4, &[0; 8]));
        assert!(LinkMessage::parse(&bytes[..]).is_err());
        assert_eq!(decode_link(&bytes).expect("a link").name, "eth0");
    }

    #[test]
    fn a_vrf_shows_its_table() {
        let mut bytes = vec![0; 16];
        bytes[4..8].copy_from_slice(&7i32.to_ne_bytes());
        bytes[8..12].copy_from_slice(&1u32.to_ne_bytes());
        bytes.extend(attribute(3, b"vrf_external\0"));
        let data = attribute(1, &1023u32.to_ne_bytes());
        let info = [attribute(1, b"vrf\0"), attribute(2 | 0x8000, &data)].concat();
        bytes.extend(attribute(18 | 0x8000, &info));
        assert_eq!(
            decode_link(&bytes).unwrap(),
            Link {
                index: 7,
                name: "vrf_external".into(),
                altnames: Vec::new(),
                kind: "vrf".into(),
                vrf_table: Some(1023),
                up: true
            }
        );
        assert_eq!(decode_link(&bytes[..10]), None);
        // What this number means for a macvlan is its mode.
        let info = [attribute(1, b"macvlan\0"), attribute(2 | 0x8000, &data)].concat();
        let other = [vec![0; 16], attribute(18 | 0x8000, &info)].concat();
        assert_eq!(decode_link(&other).unwrap().vrf_table, None);
    }
}
