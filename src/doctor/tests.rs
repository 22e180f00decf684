// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Each finding from facts as a kernel gives them, and none from those of a healthy router.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

use super::codes::Code;
use super::facts::{Answer, Facts, Filter, HookState, Modules, Nic, Tunnel, WgQuick};
use super::{Gets, Level, Remedy, Report, Sends, examine};
use crate::key::PublicKey;
use crate::model::{Action, Bind, Device, HookEntry, Packed, Peer, Rule, Selector, UdpSocket};
use crate::plan::receive::CLOSED_MARK;
use crate::plan::rules::{RULE_PROTOCOL, Rules};
use crate::wire::route::Link;
use crate::wire::underlay::{Address, Carrier, Packet, Route, RouteKind, Way};

const TABLE: u32 = 1023;
const MARK: u32 = 0x7700_00ff;
const PORT: u16 = 51001;
const VRF: u32 = 2;
const WAN: u32 = 3;
const CORE: u32 = 4;
const WG: u32 = 5;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn nic(index: u32, name: &str, kind: &str, master: Option<u32>) -> Nic {
    Nic {
        link: Link {
            index,
            name: name.to_owned(),
            altnames: Vec::new(),
            kind: kind.to_owned(),
            vrf_table: (kind == "vrf").then_some(TABLE),
            up: true,
        },
        carrier: Carrier {
            mtu: if kind == "wireguard" { 1420 } else { 1500 },
            master,
            running: true,
            point_to_point: false,
        },
        rp_filter: 0,
    }
}

fn rule(pref: u32, action: Action) -> Rule {
    Rule {
        pref,
        action,
        ..Rule::default()
    }
}

fn marked(pref: u32, action: Action) -> Rule {
    Rule {
        mark: MARK,
        mask: u32::MAX,
        protocol: RULE_PROTOCOL,
        ..rule(pref, action)
    }
}

fn l3mdev() -> Rule {
    Rule {
        l3mdev: true,
        ..rule(1000, Action::Table(0))
    }
}

/// `ip rule` of a router whose wg0 is bound by the fallback.
fn fallback_rules() -> Vec<Rule> {
    vec![
        rule(0, Action::Table(255)),
        marked(97, Action::Table(TABLE)),
        marked(98, Action::Unreachable),
        l3mdev(),
        rule(32766, Action::Table(254)),
    ]
}

fn socket(port: u16, device: u32) -> UdpSocket {
    UdpSocket {
        port,
        wildcard: true,
        device,
        ..UdpSocket::default()
    }
}

/// Those of a device, one of each family.
fn pair(port: u16, device: u32) -> [UdpSocket; 2] {
    [false, true].map(|v6| UdpSocket {
        v6,
        ..socket(port, device)
    })
}

fn peer(endpoint: &str) -> Peer {
    Peer {
        public_key: PublicKey::from_base64("k1Zf6J5kI4BhHwNnM3nUzEn6QyhYlcdFLn0jgSjcOFA=").unwrap(),
        preshared_key: None,
        endpoint: Some(endpoint.parse().unwrap()),
        last_handshake: None,
        rx_bytes: 0,
        tx_bytes: 0,
        persistent_keepalive: 0,
        allowed_ips: Packed::default(),
    }
}

/// A router on a stock kernel: wg0 is bound to vrf_external by mark, and its sockets by the hook.
fn stock() -> Facts {
    let address = |link, text| Address {
        link,
        ip: ip(text),
        global: true,
    };
    let entry = HookEntry {
        vrf: "vrf_external".to_owned(),
        owner: WG,
        mark: MARK,
        ..HookEntry::default()
    };
    Facts {
        attribute: Ok(false),
        nics: vec![
            nic(1, "lo", "", None),
            nic(VRF, "vrf_external", "vrf", None),
            nic(WAN, "wan0", "", Some(VRF)),
            nic(CORE, "core0", "", None),
            nic(WG, "wg0", "wireguard", None),
        ],
        addresses: Ok(vec![
            address(WAN, "198.51.100.10"),
            address(WAN, "2001:db8:a::10"),
            address(CORE, "100.64.0.2"),
        ]),
        rules: Ok(Rules {
            v4: Some(fallback_rules()),
            v6: Some(fallback_rules()),
        }),
        sockets: Ok([&pair(PORT, VRF)[..], &[socket(53, 0)]].concat()),
        hooks: HookState {
            entries: Ok(vec![(PORT, entry)]),
            stale: Vec::new(),
            unable: None,
            unable_again: None,
        },
        l3mdev_accept: Ok(false),
        rp_filter: Ok(0),
        free_port: Some(40001),
        filter: Ok(Filter::default()),
        devices: vec![Tunnel {
            device: Device {
                name: "wg0".to_owned(),
                private_key: None,
                public_key: None,
                listen_port: PORT,
                fwmark: MARK,
                bind: Bind::Off,
                receives: None,
                peers: vec![peer("203.0.113.10:51002"), peer("[2001:db8:b::10]:51002")],
            },
            attribute: String::new(),
            elsewhere: Some(false),
        }],
        unread: Vec::new(),
        modules: Modules {
            release: "6.1.0-56-cloud-amd64".to_owned(),
            files: vec![("6.1.0-56-cloud-amd64".to_owned(), false)],
        },
        wg_quick: None,
    }
}

/// A router on a kernel with the attribute.
fn patched() -> Facts {
    let plain = vec![
        rule(0, Action::Table(255)),
        l3mdev(),
        rule(32766, Action::Table(254)),
    ];
    let mut facts = stock();
    facts.attribute = Ok(true);
    facts.rules = Ok(Rules {
        v4: Some(plain.clone()),
        v6: Some(plain),
    });
    facts.hooks.entries = Ok(Vec::new());
    facts.devices[0].device.fwmark = 0;
    facts.devices[0].attribute = "vrf_external".to_owned();
    facts
}

fn route(table: u32, out: u32, to: IpAddr) -> Route {
    Route {
        kind: RouteKind::Unicast,
        table,
        out,
        source: Some(ip(if to.is_ipv4() {
            "198.51.100.10"
        } else {
            "2001:db8:a::10"
        })),
        mtu: None,
    }
}

/// `routes`, but a rule leads IPv4 to a table with a route into the tunnel.
fn routes_into_the_tunnel(packet: &Packet) -> Answer {
    match packet.way {
        Way::Out | Way::OutOf(_) if packet.to.is_ipv4() => Ok(route(51820, WG, packet.to)),
        _ => routes(packet),
    }
}

/// As `default dev vrf_external` of another table answers.
fn routes_by_the_vrf(packet: &Packet) -> Answer {
    match packet.way {
        Way::Out | Way::OutOf(_) if packet.to.is_ipv4() => Ok(route(100, VRF, packet.to)),
        _ => routes(packet),
    }
}

/// The VRF's table has a default route by wan0, and what arrives is for this host.
fn routes(packet: &Packet) -> Answer {
    match packet.way {
        Way::In(_) => Ok(Route {
            kind: RouteKind::Local,
            ..route(TABLE, 1, packet.to)
        }),
        _ => Ok(route(TABLE, WAN, packet.to)),
    }
}

/// `patched`, bound to core0, which is in no VRF.
fn at_core() -> Facts {
    changed(patched(), |facts| {
        facts.devices[0].attribute = "core0".to_owned();
        facts.sockets = Ok(pair(PORT, CORE).to_vec());
    })
}

/// As IPv4 answers where no table has a route and the sender is bound to core0.
fn by_core_without_route(packet: &Packet) -> Answer {
    let table = if packet.to.is_ipv4() { 0 } else { 254 };
    Ok(route(table, CORE, packet.to))
}

/// What leaves by alt0 leaves by the table of its VRF.
fn by_alt0(packet: &Packet) -> Answer {
    match packet.way {
        Way::OutOf(6) => Ok(route(2000, 6, packet.to)),
        _ => routes(packet),
    }
}

/// The table `local` answers for what is sent.
fn local(packet: &Packet, kind: RouteKind, out: u32) -> Answer {
    match packet.way {
        Way::In(_) => routes(packet),
        _ => Ok(Route {
            kind,
            ..route(255, out, packet.to)
        }),
    }
}

/// `stock`, with one peer that has this endpoint, and with alt0 (6) in vrf_b (7).
fn with_endpoint(endpoint: &str) -> Facts {
    changed(stock(), |facts| {
        let mut vrf = nic(7, "vrf_b", "vrf", None);
        vrf.link.vrf_table = Some(2000);
        facts.nics.extend([nic(6, "alt0", "", Some(7)), vrf]);
        facts.devices[0].device.peers = vec![peer(endpoint)];
    })
}

fn codes(report: &Report) -> Vec<Code> {
    let mut codes: Vec<Code> = report.findings.iter().map(|one| one.code).collect();
    codes.dedup();
    codes
}

#[test]
fn a_healthy_router_gives_none() {
    for facts in [stock(), patched()] {
        let report = examine(&facts, None, &mut routes);
        assert_eq!(report.findings, []);
        assert_eq!(report.exit_code(), 0);
        let [summary] = report.devices.as_slice() else {
            panic!("{report:?}");
        };
        assert_eq!(summary.closed, Some(true));
        let underlay = summary.underlay.as_ref().unwrap();
        assert_eq!(
            (underlay.name.as_str(), underlay.table, underlay.up),
            ("vrf_external", Some(TABLE), true)
        );
        assert_eq!(underlay.members, ["wan0"]);
        let reach: Vec<_> = summary
            .reach
            .iter()
            .map(|one| (one.endpoint, one.out.as_deref(), one.table))
            .collect();
        assert_eq!(
            reach,
            [
                (ip("203.0.113.10"), Some("wan0"), Some(TABLE)),
                (ip("2001:db8:b::10"), Some("wan0"), Some(TABLE)),
            ]
        );
    }
    let of = |facts: &Facts| {
        let report = examine(facts, None, &mut routes);
        (
            report.devices[0].sends.clone(),
            report.devices[0].gets.clone(),
        )
    };
    assert_eq!(
        of(&stock()),
        (
            Sends::Rules {
                by: Selector::Mark(MARK),
                table: Some(TABLE),
                ours: true
            },
            Some(Gets::BoundByHook)
        )
    );
    let dev = "vrf_external".to_owned();
    assert_eq!(
        of(&patched()),
        (Sends::Attribute { dev }, Some(Gets::BoundByKernel))
    );
}

/// Packets are asked for as WireGuard sends them.
#[test]
fn the_kernel_is_asked_as_wireguard_asks() {
    let mut asked = Vec::new();
    examine(&stock(), None, &mut |packet| {
        asked.push(*packet);
        routes(packet)
    });
    let out = Packet {
        to: ip("203.0.113.10"),
        from: None,
        source_port: PORT,
        destination_port: 51002,
        mark: MARK,
        way: Way::Out,
    };
    let back = Packet {
        to: ip("198.51.100.10"),
        from: Some(ip("203.0.113.10")),
        source_port: 51002,
        destination_port: PORT,
        mark: 0,
        way: Way::In(WAN),
    };
    assert_eq!(asked[..2], [out, back]);
    asked.clear();
    examine(&patched(), None, &mut |packet| {
        asked.push(*packet);
        routes(packet)
    });
    let bound = Packet {
        mark: 0,
        way: Way::OutOf(VRF),
        ..out
    };
    assert_eq!(asked[0], bound);
}

struct Case {
    code: Code,
    facts: Facts,
    ask: fn(&Packet) -> Answer,
    /// The first command, or the beginning of the advice.
    remedy: &'static str,
    level: Level,
}

fn case(code: Code, facts: Facts, remedy: &'static str) -> Case {
    Case {
        code,
        facts,
        ask: routes,
        remedy,
        level: Level::Problem,
    }
}

fn changed(mut facts: Facts, change: impl FnOnce(&mut Facts)) -> Facts {
    change(&mut facts);
    facts
}

fn v4(facts: &mut Facts) -> &mut Vec<Rule> {
    facts.rules.as_mut().unwrap().v4.as_mut().unwrap()
}

fn v6(facts: &mut Facts) -> &mut Vec<Rule> {
    facts.rules.as_mut().unwrap().v6.as_mut().unwrap()
}

fn find(facts: &mut Facts, index: u32) -> &mut Nic {
    facts
        .nics
        .iter_mut()
        .find(|nic| nic.link.index == index)
        .unwrap()
}

const AGAIN: &str = "wg set wg0 bind-dev vrf_external";

/// wg0 is bound by rules of the administrator, the second of which does this.
fn foreign_pair(action: Action) -> Facts {
    changed(stock(), |f| {
        for family in 0..2 {
            let rules = if family == 0 { v4(f) } else { v6(f) };
            rules[1].protocol = 3;
            (rules[2].protocol, rules[2].action) = (3, action);
        }
    })
}

/// An administrator's rules may know the packets by their port.
#[test]
fn foreign_rules_for_the_port_are_a_binding() {
    let by_port = |rule: &mut Rule| {
        if rule.mark != 0 {
            (rule.mark, rule.mask) = (0, 0);
            (rule.ip_proto, rule.source_ports) = (libc::IPPROTO_UDP as u8, Some((PORT, PORT)));
        }
    };
    let facts = changed(foreign_pair(Action::Unreachable), |facts| {
        facts.devices[0].device.fwmark = 0;
        v4(facts).iter_mut().for_each(by_port);
        v6(facts).iter_mut().for_each(by_port);
    });
    let report = examine(&facts, None, &mut routes);
    let bound = Sends::Rules {
        by: Selector::Port(PORT),
        table: Some(TABLE),
        ours: false,
    };
    assert_eq!(report.devices[0].sends, bound);
    assert_eq!(report.devices[0].closed, Some(true));
}

/// The kernel lets no socket be bound to nothing while one on another device has its port.
#[test]
fn a_socket_on_another_device_is_in_the_way_of_an_unbound_one() {
    for bound in [false, true] {
        let facts = changed(stock(), |facts| {
            find(facts, WG).link.up = false;
            facts.sockets = Ok(pair(PORT, CORE).to_vec());
            if !bound {
                unbind(facts);
            }
        });
        let report = examine(&facts, None, &mut routes);
        let found = codes(&report).contains(&Code::PortTaken);
        assert_eq!(found, !bound, "{report:?}");
    }
}

/// What one family lacks is a way out.
#[test]
fn a_device_that_one_family_leaves_is_not_closed() {
    let facts = changed(stock(), |facts| {
        v6(facts).retain(|rule| rule.action != Action::Unreachable);
    });
    let report = examine(&facts, None, &mut routes);
    assert_eq!(report.devices[0].closed, Some(false));
}

/// The hooks will bind a device that is down, where they can. Else it needs the sysctl.
#[test]
fn the_sysctl_is_needed_where_the_hooks_do_not_serve() {
    for unable in [None, Some("not permitted".to_owned())] {
        let facts = changed(stock(), |facts| {
            find(facts, WG).link.up = false;
            facts.sockets = Ok(Vec::new());
            facts.l3mdev_accept = Ok(true);
            facts.hooks.unable = unable.clone();
            facts.hooks.unable_again = unable.clone();
        });
        let report = examine(&facts, None, &mut routes);
        let found = codes(&report).contains(&Code::L3mdevAcceptOpen);
        assert_eq!(found, unable.is_none(), "{report:?}");
    }
}

/// It needs the sysctl as well where the hooks have no entry for its port.
#[test]
fn a_device_without_an_entry_on_its_port_needs_the_sysctl() {
    for entries in [Vec::new(), stock().hooks.entries.unwrap()] {
        let facts = changed(stock(), |f| {
            find(f, WG).link.up = false;
            (f.sockets, f.l3mdev_accept) = (Ok(Vec::new()), Ok(true));
            f.hooks.entries = Ok(entries.into_iter().map(|(_, e)| (51009, e)).collect());
        });
        assert_eq!(examine(&facts, None, &mut routes).findings, []);
    }
}

#[test]
fn the_attribute_binds_nothing_without_a_socket_on_the_device() {
    for sockets in [Vec::new(), pair(PORT, CORE).to_vec()] {
        let facts = changed(patched(), |facts| facts.sockets = Ok(sockets));
        let report = examine(&facts, None, &mut routes);
        assert_eq!(report.devices[0].gets, Some(Gets::Nothing));
        assert_eq!(report.devices[0].closed, Some(true));
        assert_eq!(codes(&report), [Code::ReceivesNothing]);
        assert_eq!(
            report.findings[0].text,
            "none of its sockets is bound to vrf_external, so nothing is received"
        );
    }
}

/// `ss -K` takes the binding of the kernel's sockets away, from both or from one.
#[test]
fn sockets_that_lost_their_device_are_silent() {
    let [v4, v6] = pair(PORT, 0);
    let [bound4, bound6] = pair(PORT, VRF);
    let cases = [[v4, v6], [v4, bound6], [bound4, v6]];
    for (sockets, accept) in cases.iter().flat_map(|one| [(one, false), (one, true)]) {
        let facts = changed(patched(), |f| {
            (f.sockets, f.l3mdev_accept) = (Ok(sockets.to_vec()), Ok(accept));
            // They have no part in it.
            f.hooks.unable = Some("no BTF".to_owned());
        });
        let report = examine(&facts, None, &mut routes);
        let summary = &report.devices[0];
        assert_eq!(
            (&summary.gets, summary.closed),
            (&Some(Gets::Lost), Some(true)),
            "{report:?}"
        );
        let expected = [Code::ReceivesNothing, Code::L3mdevAcceptOpen];
        assert_eq!(codes(&report), expected[..1 + usize::from(accept)]);
        let first = &report.findings[0];
        assert_eq!(first.level, Level::Problem);
        assert_eq!(first.remedy, Remedy::Run(vec![AGAIN.to_owned()]));
    }
}

/// Those of wg1, which is not bound, are no proof that wg0 has some.
#[test]
fn unbound_sockets_of_another_device_are_in_the_way() {
    let shared = |pairs: usize| {
        changed(patched(), |f| {
            let mut other = f.devices[0].clone();
            other.device.name = "wg1".to_owned();
            other.attribute.clear();
            f.devices.push(other);
            f.nics.push(nic(10, "wg1", "wireguard", None));
            f.sockets = Ok(pair(PORT, 0).repeat(pairs));
        })
    };
    let report = examine(&shared(1), Some("wg0"), &mut routes);
    let summary = &report.devices[0];
    assert_eq!(
        (&summary.gets, summary.closed),
        (&Some(Gets::Nothing), Some(true))
    );
    assert_eq!(codes(&report), [Code::PortTaken]);
    let report = examine(&shared(2), Some("wg0"), &mut routes);
    assert_eq!(report.devices[0].gets, Some(Gets::Lost));
    // One that has its own in another VRF has not those.
    let facts = changed(shared(1), |f| {
        f.devices[1].attribute = "core0".to_owned();
        f.sockets.as_mut().unwrap().extend(pair(PORT, CORE));
    });
    let report = examine(&facts, Some("wg0"), &mut routes);
    assert_eq!(report.devices[0].gets, Some(Gets::Lost));
}

/// `FwMark` of wg-quick's file, and its rule, which is inverted.
#[test]
fn a_mark_by_which_a_rule_goes_is_not_taken_away() {
    for invert in [false, true] {
        for (mark, tailscale) in [(TABLE, false), (0x0008_0001, true)] {
            let facts = changed(patched(), |f| {
                f.devices[0].device.fwmark = mark;
                v4(f).push(Rule {
                    mark,
                    mask: u32::MAX,
                    invert,
                    ..rule(32767, Action::Table(51820))
                });
                if tailscale {
                    f.nics.push(nic(9, "tailscale0", "tun", None));
                }
            });
            let report = examine(&facts, None, &mut routes);
            let code = match tailscale {
                true => Code::MarkShared,
                false => Code::MarkIsTable,
            };
            assert_eq!(codes(&report), [code], "{report:?}");
            let remedy = &report.findings[0].remedy;
            assert!(
                matches!(remedy, Remedy::Do(words) if words.contains("FwMark")),
                "{remedy:?}"
            );
        }
    }
}

/// wg-quick's rules come before the second rule of the list, which one at 0 is not.
#[test]
fn what_wg_quick_adds_later_is_warned_of() {
    let mut warned = 0;
    for Case { facts, ask, .. } in cases() {
        for finding in examine(&facts, None, &mut |packet| ask(packet)).findings {
            let Remedy::Run(commands) = &finding.remedy else {
                assert!(!finding.text.contains("Table = auto"), "{finding:?}");
                continue;
            };
            let is_passed = |command: &String| {
                command.contains("lookup local") || command.ends_with("add pref 1 l3mdev")
            };
            let wanted = commands.iter().any(is_passed);
            assert_eq!(finding.text.contains("Table = auto"), wanted, "{finding:?}");
            warned += usize::from(wanted);
        }
    }
    assert!(warned > 5);
}

/// To a point-to-point link the kernel sends rightly without a route.
#[test]
fn a_point_to_point_link_needs_no_route() {
    for (point_to_point, found) in [(true, vec![]), (false, vec![Code::NoRoute])] {
        let facts = changed(at_core(), |f| {
            find(f, CORE).carrier.point_to_point = point_to_point;
        });
        let report = examine(&facts, None, &mut by_core_without_route);
        assert_eq!(codes(&report), found, "{report:?}");
        let out = report.devices[0].reach[0].out.as_deref();
        assert_eq!(out, point_to_point.then_some("core0"));
    }
}

/// An administrator's lookup is closed by each action that drops packets.
#[test]
fn prohibit_and_blackhole_close_as_unreachable_does() {
    for action in [Action::Unreachable, Action::Drop] {
        let report = examine(&foreign_pair(action), None, &mut routes);
        assert_eq!(report.findings, [], "{action:?}");
        assert_eq!(report.devices[0].closed, Some(true));
    }
}

fn rule_cases() -> Vec<Case> {
    vec![
        case(
            Code::NotSteered,
            changed(stock(), |f| v6(f).retain(|r| !r.is_ours())),
            AGAIN,
        ),
        case(
            Code::RuleInFront,
            changed(stock(), |f| {
                v4(f).insert(1, rule(50, Action::Table(254)));
            }),
            AGAIN,
        ),
        case(
            Code::RuleInFront,
            changed(stock(), |f| {
                v4(f).insert(0, rule(0, Action::Table(254)));
            }),
            "delete the rule at priority 0",
        ),
        // What is bound by the kernel is looked up by `l3mdev`, too.
        Case {
            ask: routes_into_the_tunnel,
            ..case(
                Code::RuleInFront,
                changed(patched(), |f| {
                    v4(f).insert(1, rule(90, Action::Table(51820)));
                }),
                "ip rule add pref 1 l3mdev",
            )
        },
        Case {
            ask: routes_by_the_vrf,
            ..case(
                Code::RuleInFront,
                changed(patched(), |f| {
                    v4(f).insert(1, rule(90, Action::Table(100)));
                }),
                "ip rule add pref 1 l3mdev",
            )
        },
        // Nothing is put before the one at priority 0, and `l3mdev' has 1 already.
        Case {
            ask: routes_into_the_tunnel,
            ..case(
                Code::RuleInFront,
                changed(patched(), |f| {
                    v4(f).insert(1, rule(0, Action::Table(51820)));
                    v4(f)[2].pref = 1;
                }),
                "delete the rule at priority 0",
            )
        },
        Case {
            ask: routes_into_the_tunnel,
            ..case(
                Code::RuleInFront,
                changed(patched(), |f| {
                    v4(f).insert(1, rule(1, Action::Table(51820)));
                    v4(f)[2].pref = 1;
                }),
                "ip rule add pref 0 l3mdev",
            )
        },
        case(
            Code::NotClosed,
            changed(stock(), |f| v4(f).retain(|r| r.pref != 98)),
            AGAIN,
        ),
        // An administrator's own rule, which nothing closes.
        case(
            Code::NotClosed,
            changed(stock(), |f| {
                for family in 0..2 {
                    let rules = if family == 0 { v4(f) } else { v6(f) };
                    rules.retain(|r| r.pref != 98);
                    rules[1].protocol = 3;
                }
            }),
            AGAIN,
        ),
        // A rule that cannot be read closes nothing.
        case(Code::NotClosed, foreign_pair(Action::Other), AGAIN),
        case(
            Code::L3mdevRuleMissing,
            changed(patched(), |f| v4(f).retain(|r| !r.l3mdev)),
            "ip rule add pref 1000 l3mdev",
        ),
        case(
            Code::L3mdevRuleMissing,
            changed(patched(), |f| v6(f).retain(|r| !r.l3mdev)),
            "ip -6 rule add pref 1000 l3mdev",
        ),
    ]
}

fn carrier_cases() -> Vec<Case> {
    vec![
        case(
            Code::DeviceMissing,
            changed(patched(), |f| {
                f.nics.retain(|nic| nic.link.index != VRF);
                f.sockets = Ok(Vec::new());
            }),
            "make vrf_external come back",
        ),
        case(
            Code::DeviceMissing,
            changed(stock(), |f| f.nics.retain(|nic| nic.link.index != VRF)),
            "ip link add vrf_external type vrf table 1023",
        ),
        // It was made again with another table, so with another index.
        case(
            Code::NotSteered,
            changed(stock(), |f| {
                find(f, VRF).link.vrf_table = Some(2000);
                f.sockets = Ok(vec![socket(PORT, 77)]);
            }),
            AGAIN,
        ),
        case(
            Code::DeviceMissing,
            changed(stock(), |f| {
                let other = find(f, VRF);
                (other.link.vrf_table, other.link.kind) = (None, "dummy".to_owned());
            }),
            "ip link add VRF type vrf table 1023",
        ),
        // Only the closing rules are left.
        case(
            Code::NotSteered,
            changed(stock(), |f| {
                v4(f).retain(|r| r.pref != 97);
                v6(f).retain(|r| r.pref != 97);
            }),
            AGAIN,
        ),
        case(
            Code::NotSteered,
            changed(stock(), |f| {
                v4(f).retain(|r| r.pref != 97);
                v6(f).retain(|r| r.pref != 97);
                f.hooks.entries = Ok(Vec::new());
            }),
            "wg set wg0 bind-dev VRF",
        ),
        // A command was killed while it moved the port.
        case(
            Code::NotSteered,
            changed(stock(), |f| {
                for family in 0..2 {
                    let rules = if family == 0 { v4(f) } else { v6(f) };
                    let closed = Selector::Mark(CLOSED_MARK);
                    rules.insert(1, Rule::new_ours(97, closed, Action::Unreachable));
                }
                let device = &mut f.devices[0].device;
                (device.fwmark, device.listen_port) = (CLOSED_MARK, 40000);
                f.sockets = Ok(vec![socket(40000, 0)]);
            }),
            AGAIN,
        ),
        case(
            Code::DeviceDown,
            changed(patched(), |f| find(f, VRF).link.up = false),
            "ip link set vrf_external up",
        ),
        case(
            Code::VrfEmpty,
            changed(patched(), |f| {
                find(f, WAN).carrier.master = None;
                f.devices[0].device.peers.clear();
            }),
            "ip link set NIC master vrf_external",
        ),
        Case {
            ask: |packet| match packet.way {
                Way::In(_) => routes(packet),
                _ if packet.to.is_ipv4() => Err(libc::EHOSTUNREACH),
                _ => routes(packet),
            },
            ..case(
                Code::NoRoute,
                stock(),
                "ip route add default via GATEWAY dev wan0 table 1023",
            )
        },
        // A NIC in a VRF: its routes are in the table of that.
        Case {
            ask: |packet| match packet.to {
                IpAddr::V4(_) => Err(libc::ENETUNREACH),
                IpAddr::V6(_) => routes(packet),
            },
            ..case(
                Code::NoRoute,
                changed(patched(), |f| {
                    f.devices[0].attribute = "wan0".to_owned();
                    f.sockets = Ok(pair(PORT, WAN).to_vec());
                }),
                "ip route add 203.0.113.10 via GATEWAY dev wan0 table 1023",
            )
        },
        Case {
            ask: by_core_without_route,
            ..case(
                Code::NoRoute,
                at_core(),
                "ip route add 203.0.113.10 via GATEWAY dev core0",
            )
        },
        // Main has a route; the guard of the kernel does not let it be used.
        Case {
            ask: |packet| match packet.way {
                Way::In(_) => routes(packet),
                _ if packet.to.is_ipv6() => Ok(route(254, CORE, packet.to)),
                _ => routes(packet),
            },
            ..case(
                Code::NoRoute,
                changed(patched(), |f| find(f, WAN).carrier.point_to_point = true),
                "ip -6 route add default dev wan0 table 1023",
            )
        },
        Case {
            ask: |packet| match packet.to {
                IpAddr::V6(_) => Err(libc::ENETUNREACH),
                IpAddr::V4(_) => routes(packet),
            },
            ..case(
                Code::FamilyMissing,
                changed(patched(), |f| {
                    f.addresses.as_mut().unwrap().retain(|a| a.ip.is_ipv4());
                }),
                "give the peer an endpoint that vrf_external can reach",
            )
        },
        // A route that outlived the addresses.
        case(
            Code::FamilyMissing,
            changed(patched(), |f| {
                f.addresses.as_mut().unwrap().retain(|a| a.ip.is_ipv4());
            }),
            "give the peer an endpoint that vrf_external can reach",
        ),
        case(
            Code::UplinkDown,
            changed(patched(), |f| {
                let wan = find(f, WAN);
                (wan.link.up, wan.carrier.running) = (false, false);
            }),
            "ip link set wan0 up",
        ),
        case(
            Code::UplinkDown,
            changed(patched(), |f| find(f, WAN).carrier.running = false),
            "see to the cable",
        ),
        Case {
            ask: |packet| match packet.way {
                Way::In(_) => routes(packet),
                _ => Ok(route(TABLE, CORE, packet.to)),
            },
            level: Level::Note,
            ..case(
                Code::LeakedRoute,
                patched(),
                "nothing, if the route is meant",
            )
        },
        Case {
            ask: by_alt0,
            ..case(
                Code::EndpointScope,
                with_endpoint("[fe80::1%6]:51002"),
                "wg set wg0 peer k1Zf6J5kI4BhHwNnM3nUzEn6QyhYlcdFLn0jgSjcOFA= endpoint ADDRESS:51002",
            )
        },
        // Whether alt0 is up or not.
        Case {
            ask: |packet| match packet.way {
                Way::OutOf(6) => Err(libc::ENETUNREACH),
                _ => routes(packet),
            },
            ..case(
                Code::EndpointScope,
                with_endpoint("[fe80::1%6]:51002"),
                "wg set wg0 peer k1Zf6J5kI4BhHwNnM3nUzEn6QyhYlcdFLn0jgSjcOFA= endpoint ADDRESS:51002",
            )
        },
        // The VRF itself is behind the %.
        Case {
            ask: |packet| match packet.way {
                Way::OutOf(VRF) => Err(libc::ENETUNREACH),
                _ => routes(packet),
            },
            ..case(
                Code::NoRoute,
                with_endpoint("[fe80::1%2]:51002"),
                "give both ends addresses",
            )
        },
        Case {
            ask: |packet| local(packet, RouteKind::Local, 1),
            ..case(
                Code::LocalFirst,
                with_endpoint("100.64.0.2:51002"),
                "ip rule add pref 1001 lookup local",
            )
        },
        Case {
            ask: |packet| local(packet, RouteKind::Broadcast, CORE),
            ..case(
                Code::LocalFirst,
                with_endpoint("100.64.0.255:51002"),
                "ip rule add pref 1001 lookup local",
            )
        },
        // In front of the rule of another program there is no way past it.
        Case {
            ask: |packet| local(packet, RouteKind::Local, 1),
            ..case(
                Code::LocalFirst,
                changed(with_endpoint("100.64.0.2:51002"), |f| {
                    v4(f).insert(3, rule(99, Action::Table(51820)));
                }),
                "give the peer an endpoint that is in vrf_external",
            )
        },
        Case {
            ask: |packet| local(packet, RouteKind::Local, 1),
            ..case(
                Code::LocalFirst,
                with_endpoint("127.0.0.1:51002"),
                "give the peer an endpoint that is in vrf_external",
            )
        },
        Case {
            ask: |packet| local(packet, RouteKind::Local, 1),
            ..case(
                Code::LocalFirst,
                changed(patched(), |f| {
                    f.devices[0].device.peers = vec![peer("[fd00:64::2]:51002")];
                }),
                "ip -6 rule add pref 1001 lookup local",
            )
        },
        Case {
            ask: |packet| Ok(route(254, WG, packet.to)),
            ..case(
                Code::Loop,
                changed(patched(), |f| {
                    f.devices[0].attribute.clear();
                    f.sockets = Ok(pair(PORT, 0).to_vec());
                }),
                "bind it to the device",
            )
        },
        // PPPoE: 1492 - 1420 is less than the 80 bytes that an IPv6 endpoint takes.
        case(
            Code::Mtu,
            changed(patched(), |f| find(f, WAN).carrier.mtu = 1492),
            "ip link set wg0 mtu 1412",
        ),
        Case {
            ask: |packet| {
                let mut found = routes(packet)?;
                found.mtu = packet.to.is_ipv4().then_some(1400);
                Ok(found)
            },
            ..case(Code::Mtu, patched(), "ip link set wg0 mtu 1320")
        },
        case(
            Code::Mtu,
            changed(patched(), |f| find(f, WAN).carrier.mtu = 1360),
            "ip link set wg0 mtu 1280",
        ),
        // The kernel would take IPv6 away from wg0.
        case(
            Code::Mtu,
            changed(patched(), |f| find(f, WAN).carrier.mtu = 1359),
            "a larger MTU for wan0",
        ),
    ]
}

/// Without rules, as another program that removes them leaves it.
fn unbind(facts: &mut Facts) {
    v4(facts).retain(|r| !r.is_ours());
    v6(facts).retain(|r| !r.is_ours());
    facts.devices[0].device.fwmark = 0;
}

fn receiving_cases() -> Vec<Case> {
    let unbound = || pair(PORT, 0).to_vec();
    vec![
        case(
            Code::ReceivesNothing,
            changed(stock(), |f| f.sockets = Ok(vec![socket(PORT, 77)])),
            AGAIN,
        ),
        case(
            Code::ReceivesOther,
            changed(stock(), |f| {
                f.sockets = Ok(vec![socket(PORT, f.nics[0].link.index)])
            }),
            AGAIN,
        ),
        case(
            Code::ReceivesEverywhere,
            changed(stock(), |f| {
                (f.sockets, f.l3mdev_accept) = (Ok(unbound()), Ok(true));
            }),
            AGAIN,
        ),
        Case {
            level: Level::Note,
            ..case(
                Code::ReceivesEverywhere,
                changed(stock(), |f| {
                    (f.sockets, f.l3mdev_accept) = (Ok(unbound()), Ok(true));
                    (f.hooks.unable, f.hooks.entries) = (Some("no BTF".to_owned()), Ok(vec![]));
                }),
                "a wireguard module with WGDEVICE_A_BIND_DEV",
            )
        },
        // A process has no attribute, whatever the module can do.
        Case {
            level: Level::Note,
            ..case(
                Code::ReceivesEverywhere,
                changed(stock(), |f| {
                    (f.sockets, f.l3mdev_accept) = (Ok(unbound()), Ok(true));
                    (f.hooks.unable, f.hooks.entries) = (Some("no BTF".to_owned()), Ok(vec![]));
                    find(f, WG).link.kind = "tun".to_owned();
                    f.attribute = Ok(true);
                }),
                "mend that, and bind it again",
            )
        },
        case(
            Code::L3mdevAcceptNeeded,
            changed(stock(), |f| {
                f.sockets = Ok(unbound());
                (f.hooks.unable, f.hooks.entries) = (Some("no BTF".to_owned()), Ok(vec![]));
                find(f, WG).link.kind = "tun".to_owned();
                f.attribute = Ok(true);
            }),
            "sysctl -w net.ipv4.udp_l3mdev_accept=1",
        ),
        // To bind again takes the attribute, which needs no hooks.
        case(
            Code::ReceivesEverywhere,
            changed(stock(), |f| {
                (f.sockets, f.l3mdev_accept) = (Ok(unbound()), Ok(true));
                (f.hooks.unable, f.hooks.entries) = (Some("no BTF".to_owned()), Ok(vec![]));
                f.attribute = Ok(true);
            }),
            AGAIN,
        ),
        case(
            Code::L3mdevAcceptNeeded,
            changed(stock(), |f| {
                f.sockets = Ok(unbound());
                (f.hooks.unable, f.hooks.entries) = (Some("no BTF".to_owned()), Ok(vec![]));
                f.attribute = Ok(true);
            }),
            AGAIN,
        ),
        case(
            Code::L3mdevAcceptNeeded,
            changed(stock(), |f| f.sockets = Ok(unbound())),
            AGAIN,
        ),
        case(
            Code::L3mdevAcceptNeeded,
            changed(stock(), |f| {
                f.sockets = Ok(unbound());
                (f.hooks.unable, f.hooks.entries) = (Some("no BTF".to_owned()), Ok(vec![]));
            }),
            "sysctl -w net.ipv4.udp_l3mdev_accept=1",
        ),
        // It has an entry: the hooks bind its sockets again, though not those of others.
        case(
            Code::L3mdevAcceptNeeded,
            changed(stock(), |f| {
                f.sockets = Ok(unbound());
                f.hooks.unable = Some("no BTF".to_owned());
            }),
            AGAIN,
        ),
        case(
            Code::ReceivesEverywhere,
            changed(stock(), |f| {
                (f.sockets, f.l3mdev_accept) = (Ok(unbound()), Ok(true));
                f.hooks.unable = Some("no BTF".to_owned());
            }),
            AGAIN,
        ),
        case(
            Code::L3mdevAcceptOpen,
            changed(stock(), |f| {
                (f.sockets, f.l3mdev_accept) = (Ok(vec![socket(53, 0)]), Ok(true));
                f.hooks.unable = Some("no BTF".to_owned());
                find(f, WG).link.up = false;
            }),
            "sysctl -w net.ipv4.udp_l3mdev_accept=0",
        ),
        case(
            Code::L3mdevAcceptOpen,
            changed(patched(), |f| f.l3mdev_accept = Ok(true)),
            "sysctl -w net.ipv4.udp_l3mdev_accept=0",
        ),
        case(
            Code::L3mdevAcceptOpen,
            changed(stock(), |f| f.l3mdev_accept = Ok(true)),
            "sysctl -w net.ipv4.udp_l3mdev_accept=0",
        ),
        case(
            Code::PortTaken,
            changed(patched(), |f| {
                find(f, WG).link.up = false;
                f.sockets = Ok(vec![socket(PORT, 0)]);
            }),
            "wg set wg0 listen-port 40001",
        ),
        // It is up, and found the port taken when its device came back.
        case(
            Code::PortTaken,
            changed(patched(), |f| {
                f.sockets = Ok(vec![UdpSocket {
                    process: Some(true),
                    ..socket(PORT, 0)
                }]);
            }),
            "wg set wg0 listen-port 40001",
        ),
        Case {
            ask: |packet| match packet.way {
                Way::In(_) if packet.to.is_ipv4() => Err(libc::EXDEV),
                _ => routes(packet),
            },
            ..case(
                Code::RpFilter,
                changed(patched(), |f| find(f, WAN).rp_filter = 1),
                "sysctl -w net.ipv4.conf.wan0.rp_filter=2",
            )
        },
        // As Linux 7.3 refuses it, by a second uplink.
        Case {
            ask: |packet| match packet.way {
                Way::In(11) => Err(libc::EINVAL),
                _ => routes(packet),
            },
            ..case(
                Code::RpFilter,
                changed(patched(), |f| {
                    let mut second = nic(11, "wan1", "", Some(VRF));
                    second.rp_filter = 1;
                    f.nics.push(second);
                    f.addresses.as_mut().unwrap().push(Address {
                        link: 11,
                        ip: ip("192.0.2.1"),
                        global: true,
                    });
                }),
                "sysctl -w net.ipv4.conf.wan1.rp_filter=2",
            )
        },
        Case {
            ask: |packet| match packet.way {
                Way::In(_) if packet.to.is_ipv4() => Err(libc::EINVAL),
                _ => routes(packet),
            },
            ..case(
                Code::ArrivalCaptured,
                changed(patched(), |f| find(f, WAN).rp_filter = 1),
                "ip rule add pref 1 l3mdev",
            )
        },
        Case {
            ask: |packet| match packet.way {
                Way::In(_) if packet.to.is_ipv6() => Ok(route(51820, WG, packet.to)),
                _ => routes(packet),
            },
            ..case(
                Code::ArrivalCaptured,
                patched(),
                "ip -6 rule add pref 1 l3mdev",
            )
        },
        Case {
            ask: |packet| match packet.way {
                Way::In(_) if packet.to.is_ipv4() => Err(libc::EHOSTUNREACH),
                _ => routes(packet),
            },
            ..case(Code::ArrivalCaptured, stock(), "ip rule add pref 1 l3mdev")
        },
        Case {
            ask: |packet| match packet.way {
                Way::In(_) if packet.to.is_ipv4() => Err(libc::EHOSTUNREACH),
                _ => routes(packet),
            },
            ..case(
                Code::ArrivalCaptured,
                changed(stock(), |f| {
                    v4(f).insert(1, rule(0, Action::Unreachable));
                    v4(f).insert(1, marked(0, Action::Unreachable));
                    v4(f).insert(1, marked(0, Action::Table(TABLE)));
                }),
                "delete the rule at priority 0",
            )
        },
        Case {
            level: Level::Note,
            ..case(
                Code::ReplySource,
                changed(stock(), |f| {
                    let more = Address {
                        link: WAN,
                        ip: ip("198.51.100.11"),
                        global: true,
                    };
                    f.addresses.as_mut().unwrap().push(more);
                }),
                "let peers write to the address",
            )
        },
        case(
            Code::StaleEntry,
            changed(stock(), |f| f.hooks.stale = vec![51007]),
            "wg set wg0 listen-port 51001",
        ),
        // The rules and the mark are gone, what receives is not.
        case(
            Code::StillBound,
            changed(stock(), unbind),
            "wg set wg0 bind-dev off",
        ),
        case(
            Code::StillBound,
            changed(stock(), |f| {
                unbind(f);
                find(f, WG).link.up = false;
                f.sockets = Ok(Vec::new());
            }),
            "wg set wg0 bind-dev off",
        ),
        case(
            Code::StillBound,
            changed(stock(), |f| {
                unbind(f);
                f.hooks.entries = Ok(Vec::new());
                f.sockets = Ok(pair(PORT, 77).to_vec());
            }),
            "wg set wg0 bind-dev off",
        ),
        case(
            Code::FilterNamesSlave,
            changed(patched(), |f| {
                f.filter.as_mut().unwrap().nft = "table inet filter { # handle 1\n\tchain input \
                    { # handle 1\n\t\ttype filter hook input priority filter; policy drop;\n\t\t\
                    iifname \"wan0\" udp dport 51001 accept # handle 2\n\t}\n}\n"
                    .to_owned();
            }),
            "nft 'replace rule inet filter input handle 2 iifname \"vrf_external\" udp dport \
             51001 accept'",
        ),
    ]
}

fn other_cases() -> Vec<Case> {
    let mark_is = |mark: u32| {
        changed(stock(), |f| {
            f.devices[0].device.fwmark = mark;
            for family in 0..2 {
                let rules = if family == 0 { v4(f) } else { v6(f) };
                for rule in rules.iter_mut().filter(|rule| rule.mask != 0) {
                    rule.mark = mark;
                }
            }
        })
    };
    let module = |release: &str| (release.to_owned(), true);
    vec![
        case(
            Code::MarkIsTable,
            mark_is(TABLE),
            "wg set wg0 fwmark 0x770000ff bind-dev vrf_external",
        ),
        case(
            Code::MarkIsTable,
            changed(patched(), |f| f.devices[0].device.fwmark = TABLE),
            "wg set wg0 fwmark off",
        ),
        case(
            Code::MarkShared,
            changed(mark_is(0x0008_0001), |f| {
                f.nics.push(nic(9, "tailscale0", "tun", None));
            }),
            "wg set wg0 fwmark 0x770000ff bind-dev vrf_external",
        ),
        case(
            Code::MarkShared,
            changed(stock(), |f| {
                f.filter.as_mut().unwrap().nft = "cali-INPUT".to_owned();
            }),
            "WG_BIND_DEV_MODE=port wg set wg0 fwmark off bind-dev vrf_external",
        ),
        case(
            Code::ModuleNotLoaded,
            changed(stock(), |f| {
                f.modules.files.push(module("6.1.0-56-cloud-amd64"));
            }),
            "reboot",
        ),
        case(
            Code::ModuleOfOtherKernel,
            changed(stock(), |f| {
                f.modules.files.push(module("6.1.0-55-cloud-amd64"));
            }),
            "build and install the module for 6.1.0-56-cloud-amd64",
        ),
        case(
            Code::WgQuickRunsOther,
            changed(stock(), |f| {
                f.wg_quick = Some(WgQuick {
                    script: "/usr/bin/wg-quick".into(),
                    runs: "/usr/bin/wg".into(),
                    this: "/usr/local/bin/wg".into(),
                    same: false,
                    diverts: true,
                });
            }),
            "dpkg-divert --local --rename --add /usr/bin/wg",
        ),
        unseen(|f| f.rules = Err("no".to_owned())),
        unseen(|f| f.sockets = Err("no".to_owned())),
        unseen(|f| f.filter = Err("no".to_owned())),
        unseen(|f| f.addresses = Err("no".to_owned())),
        unseen(|f| f.rp_filter = Err("no".to_owned())),
        unseen(|f| f.attribute = Err("no".to_owned())),
        unseen(|f| f.l3mdev_accept = Err("no".to_owned())),
        unseen(|f| f.unread.push(("wg9".to_owned(), "no".to_owned()))),
        unseen(|f| f.devices[0].elsewhere = Some(true)),
        Case {
            level: Level::Unseen,
            ..case(
                Code::NotLookedAt,
                changed(stock(), |f| f.hooks.entries = Err("no".to_owned())),
                "run it as root",
            )
        },
    ]
}

fn unseen(change: impl FnOnce(&mut Facts)) -> Case {
    Case {
        level: Level::Unseen,
        ..case(Code::NotLookedAt, changed(patched(), change), "")
    }
}

fn cases() -> Vec<Case> {
    [
        rule_cases(),
        carrier_cases(),
        receiving_cases(),
        other_cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[test]
fn each_finding_comes_alone_with_what_mends_it() {
    for Case {
        code,
        facts,
        ask,
        remedy,
        level,
    } in cases()
    {
        let report = examine(&facts, None, &mut |packet| ask(packet));
        assert_eq!(codes(&report), [code], "{report:#?}");
        let finding = &report.findings[0];
        assert_eq!(finding.level, level, "{finding:?}");
        assert!(!finding.text.is_empty() && !finding.text.ends_with('.'));
        match &finding.remedy {
            Remedy::Run(commands) => assert_eq!(commands[0], remedy, "{code:?}"),
            Remedy::Do(words) => {
                assert!(!words.is_empty() && words.starts_with(remedy), "{words}");
            }
        }
        let exit = match level {
            Level::Problem => 1,
            Level::Note => 0,
            Level::Unseen => 2,
        };
        assert_eq!(report.exit_code(), exit);
    }
}

/// Every code is provoked above, and stands in the table of docs/doctor.md and in wg(8).
#[test]
fn every_code_is_documented_and_tested() {
    let provoked: BTreeSet<Code> = cases().iter().map(|case| case.code).collect();
    assert_eq!(provoked, Code::ALL.into_iter().collect());
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap();
    let page = read("docs/doctor.md");
    let (page, _) = page.split_once("\n## What it cannot see").unwrap();
    let documented: Vec<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(code, _)| code)
        .collect();
    let all: Vec<&str> = Code::ALL.iter().map(|code| code.name()).collect();
    assert_eq!(documented, all);
    let man = read("packaging/man/wg.8");
    for code in all {
        assert!(
            man.contains(&format!(".It Cm {code}\n")),
            "wg.8 lacks {code}"
        );
    }
}

#[test]
fn only_what_was_asked_for_is_told() {
    let mut facts = stock();
    let mut other = facts.devices[0].clone();
    other.device.name = "wg1".to_owned();
    other.device.fwmark = 0;
    other.device.listen_port = 51009;
    facts.devices.push(other);
    facts.nics.push(nic(10, "wg1", "wireguard", None));
    let report = examine(&facts, Some("wg1"), &mut routes);
    let names: Vec<&str> = report.devices.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["wg1"]);
    assert_eq!(report.devices[0].sends, Sends::Unbound);
    assert_eq!(report.findings, []);
}

/// The kernel takes another name of a device where it takes its name.
#[test]
fn a_device_is_found_by_each_of_its_names() {
    let faulty = changed(stock(), |f| {
        find(f, WG).link.altnames = vec!["tunnel-to-core".to_owned()];
        v4(f).retain(|r| r.pref != 98);
    });
    for name in ["wg0", "tunnel-to-core"] {
        let report = examine(&faulty, Some(name), &mut routes);
        assert_eq!(codes(&report), [Code::NotClosed], "{name}");
        assert_eq!(report.devices.len(), 1);
    }
    // Nothing is not the same as nothing wrong.
    let report = examine(&stock(), Some("wg9"), &mut routes);
    assert_eq!(
        (codes(&report), report.exit_code()),
        (vec![Code::NotLookedAt], 2)
    );
}

/// The kernel allows two VRFs on one table, and rules name the table alone.
#[test]
fn of_two_vrfs_on_one_table_it_is_the_one_that_has_the_sockets() {
    let second = |f: &mut Facts| {
        f.nics.push(nic(11, "vrf_second", "vrf", None));
        f.nics.push(nic(12, "wan1", "", Some(11)));
        for text in ["198.51.100.10", "2001:db8:a::10"] {
            f.addresses.as_mut().unwrap().push(Address {
                link: 12,
                ip: ip(text),
                global: true,
            });
        }
    };
    let by_entry = changed(stock(), |f| {
        second(f);
        f.hooks.entries.as_mut().unwrap()[0].1.vrf = "vrf_second".to_owned();
        f.sockets = Ok(pair(PORT, 11).to_vec());
    });
    let by_sockets = changed(by_entry.clone(), |f| f.hooks.entries = Ok(Vec::new()));
    let while_down = changed(by_entry.clone(), |f| {
        find(f, WG).link.up = false;
        f.sockets = Ok(Vec::new());
    });
    let to_wan1 = |packet: &Packet| match packet.way {
        Way::In(_) => routes(packet),
        _ => Ok(route(TABLE, 12, packet.to)),
    };
    for facts in [by_entry, by_sockets, while_down] {
        let report = examine(&facts, None, &mut |packet| to_wan1(packet));
        assert_eq!(report.findings, []);
        let underlay = report.devices[0].underlay.as_ref().unwrap();
        assert_eq!(underlay.name, "vrf_second");
    }
    let first = changed(stock(), second);
    let report = examine(&first, None, &mut routes);
    assert_eq!(
        report.devices[0].underlay.as_ref().unwrap().name,
        "vrf_external"
    );
    assert_eq!(report.findings, []);
}

/// The closing rule names no VRF, so that only an entry of the hooks can.
#[test]
fn name_is_left_out_where_nothing_tells_it() {
    let closed = changed(stock(), |f| {
        v4(f).retain(|r| r.pref != 97);
        v6(f).retain(|r| r.pref != 97);
    });
    let nameless = changed(closed.clone(), |f| f.hooks.entries = Ok(Vec::new()));
    for (facts, known) in [(closed, Some("vrf_external")), (nameless, None)] {
        let report = examine(&facts, None, &mut routes);
        let underlay = report.devices[0].underlay.as_ref();
        assert_eq!(underlay.map(|bound| bound.name.as_str()), known);
    }
}

/// Two devices on one port, each in its own VRF, and one of these was deleted.
#[test]
fn each_device_on_a_shared_port_is_judged_by_itself() {
    let gone = 77;
    let shared = |wg1_table: u32| {
        changed(stock(), |f| {
            let mark = 0x7700_0009;
            let mut other = f.devices[0].clone();
            other.device.name = "wg1".to_owned();
            (other.device.fwmark, other.device.peers) = (mark, Vec::new());
            f.devices.push(other);
            f.nics.push(nic(10, "wg1", "wireguard", None));
            for family in 0..2 {
                let rules = if family == 0 { v4(f) } else { v6(f) };
                let by = Selector::Mark(mark);
                rules.insert(3, Rule::new_ours(97, by, Action::Table(wg1_table)));
                rules.insert(4, Rule::new_ours(98, by, Action::Unreachable));
            }
            f.sockets.as_mut().unwrap().extend(pair(PORT, gone));
        })
    };
    let of = |facts: &Facts, name: &str| {
        let report = examine(facts, Some(name), &mut routes);
        (report.devices[0].gets.clone(), codes(&report))
    };
    // Any of the four may be wg0's.
    let lost = shared(3000);
    let unclear = (Some(Gets::Unclear), vec![Code::NotLookedAt]);
    assert_eq!(of(&lost, "wg0"), unclear);
    assert_eq!(
        of(&lost, "wg1"),
        (Some(Gets::Nothing), vec![Code::DeviceMissing])
    );
    // The VRF is there again, and its sockets are not on it.
    let back = changed(shared(3000), |f| {
        f.nics.push(nic(14, "vrf_third", "vrf", None));
        find(f, 14).link.vrf_table = Some(3000);
        f.nics.push(nic(15, "wan3", "", Some(14)));
    });
    assert_eq!(of(&back, "wg0"), unclear);
    assert_eq!(
        of(&back, "wg1"),
        (Some(Gets::Nothing), vec![Code::ReceivesNothing])
    );
    // A process has those in wg0's VRF, so that both have lost theirs.
    let process = changed(back, |f| {
        let sockets = f.sockets.as_mut().unwrap().iter_mut();
        for one in sockets {
            one.process = Some(one.device != gone);
        }
        f.sockets.as_mut().unwrap().extend(
            [UdpSocket {
                process: Some(false),
                ..socket(PORT, gone)
            }; 2],
        );
    });
    let nothing = (Some(Gets::Nothing), vec![Code::ReceivesNothing]);
    assert_eq!(of(&process, "wg0"), nothing);
    assert_eq!(of(&process, "wg1"), nothing);
}

/// The names of two VRFs were swapped while the sockets were on one.
#[test]
fn sockets_on_another_device_receive_from_there() {
    let facts = changed(stock(), |f| {
        f.nics.push(nic(14, "vrf_b", "vrf", None));
        *f.sockets.as_mut().unwrap() = pair(PORT, 14).into();
    });
    let report = examine(&facts, Some("wg0"), &mut routes);
    let other = Gets::Other(vec!["vrf_b".to_owned()]);
    assert_eq!(report.devices[0].gets, Some(other));
    assert_eq!(codes(&report), [Code::ReceivesOther]);
    assert!(
        report.findings[0]
            .text
            .contains("bound to vrf_b, and not to")
    );
}

/// wg1 came from another namespace, where its sockets are: those here may be of either.
#[test]
fn fewer_sockets_than_devices_prove_nothing() {
    let facts = changed(stock(), |f| {
        let mut other = f.devices[0].clone();
        other.device.name = "wg1".to_owned();
        other.device.fwmark = 0;
        f.devices.push(other);
        f.nics.push(nic(10, "wg1", "wireguard", None));
    });
    let report = examine(&facts, Some("wg0"), &mut routes);
    assert_eq!(report.devices[0].gets, Some(Gets::Unclear));
}

#[test]
fn sockets_of_others_leave_a_device_unbound() {
    let quiet = [
        // A process in `ip vrf exec', by which its sockets are bound.
        changed(stock(), |f| {
            unbind(f);
            find(f, WG).link.kind = "tun".to_owned();
            f.hooks.entries = Ok(Vec::new());
        }),
        // It is down, and another device has the port in its VRF.
        changed(stock(), |f| {
            let mut other = f.devices[0].clone();
            other.device.name = "wg1".to_owned();
            other.device.peers.clear();
            f.nics.push(nic(10, "wg1", "wireguard", None));
            f.hooks.entries.as_mut().unwrap()[0].1.owner = 10;
            f.devices.push(other);
            find(f, WG).link.up = false;
            let device = &mut f.devices[0].device;
            device.fwmark = 0;
            device.listen_port = 51009;
        }),
        // It was unbound, and its sockets are in another namespace.
        changed(stock(), |f| {
            unbind(f);
            f.hooks.entries = Ok(Vec::new());
            f.devices[0].elsewhere = Some(true);
        }),
    ];
    for facts in quiet {
        assert_eq!(examine(&facts, Some("wg0"), &mut routes).findings, []);
    }
    // Without rules to read, it may as well be bound.
    let blind = changed(stock(), |f| f.rules = Err("no".to_owned()));
    let report = examine(&blind, None, &mut routes);
    assert_eq!(codes(&report), [Code::NotLookedAt]);
    let [summary] = report.devices.as_slice() else {
        panic!("{report:?}");
    };
    assert_eq!(summary.sends, Sends::Unknown);
    assert_eq!(
        (&summary.gets, summary.closed),
        (&Some(Gets::Unknown), None)
    );
    // Another namespace, or the sysctl that it may need: neither is taken for settled.
    let away = changed(blind.clone(), |f| f.devices[0].elsewhere = Some(true));
    assert!(examine(&away, None, &mut routes).devices[0].elsewhere);
    let open = changed(blind.clone(), |f| f.l3mdev_accept = Ok(true));
    assert_eq!(
        codes(&examine(&open, None, &mut routes)),
        [Code::NotLookedAt]
    );
    // Nothing can bind what has neither a mark nor a port.
    let blank = changed(blind, |f| {
        (f.devices[0].device.fwmark, f.devices[0].device.listen_port) = (0, 0);
        f.hooks.entries = Ok(Vec::new());
    });
    let report = examine(&blank, None, &mut routes);
    assert_eq!(report.devices[0].sends, Sends::Unbound);
}

#[test]
fn what_leaves_elsewhere_is_not_called_closed() {
    type Ask = fn(&Packet) -> Answer;
    let cases: [(&str, Ask, Option<bool>); 5] = [
        ("[fe80::1%6]:51002", by_alt0, Some(false)),
        (
            "100.64.0.2:51002",
            |p| local(p, RouteKind::Local, 1),
            Some(false),
        ),
        (
            "100.64.0.255:51002",
            |p| local(p, RouteKind::Broadcast, CORE),
            Some(false),
        ),
        // Those of the VRF.
        ("[fe80::1%3]:51002", routes, Some(true)),
        (
            "198.51.100.255:51002",
            |packet| {
                let kind = RouteKind::Broadcast;
                routes(packet).map(|route| match packet.way {
                    Way::In(_) => route,
                    _ => Route { kind, ..route },
                })
            },
            Some(true),
        ),
    ];
    for (endpoint, ask, closed) in cases {
        let report = examine(&with_endpoint(endpoint), None, &mut |packet| ask(packet));
        assert_eq!(report.devices[0].closed, closed, "{endpoint}: {report:?}");
        assert_eq!(
            report.findings.is_empty(),
            closed == Some(true),
            "{endpoint}: {report:?}"
        );
    }
}

/// One address on two links is two endpoints.
#[test]
fn endpoints_differ_by_their_links() {
    let mut facts = with_endpoint("[fe80::1%3]:51002");
    facts.devices[0]
        .device
        .peers
        .push(peer("[fe80::1%6]:51003"));
    let report = examine(&facts, None, &mut by_alt0);
    assert_eq!(codes(&report), [Code::EndpointScope]);
    let out: Vec<_> = report.devices[0]
        .reach
        .iter()
        .map(|one| one.out.as_deref())
        .collect();
    assert_eq!(out, [Some("wan0"), Some("alt0")]);
}

/// Another device has its port, and there is one socket for both: where the packets of either start is
/// not known, so nothing says that the rules here stop them.
#[test]
fn a_device_that_may_be_elsewhere_is_not_called_closed() {
    let facts = changed(stock(), |f| {
        let mut other = f.devices[0].clone();
        other.device.name = "wg1".to_owned();
        f.nics.push(nic(10, "wg1", "wireguard", None));
        f.devices.push(other);
        f.devices.iter_mut().for_each(|one| one.elsewhere = None);
    });
    let report = examine(&facts, None, &mut routes);
    for summary in &report.devices {
        assert_eq!(summary.closed, None);
        assert_eq!(summary.gets, Some(Gets::Unclear));
    }
    assert_eq!(report.exit_code(), 2, "{:?}", report.findings);
}

/// A device that is half bound does not take the command that removes an entry of another one.
#[test]
fn a_stale_entry_is_removed_by_a_device_that_can() {
    let mend = |facts: &Facts| {
        let findings = examine(facts, None, &mut routes).findings;
        let mut stale = findings.into_iter().filter(|f| f.code == Code::StaleEntry);
        stale.next().unwrap().remedy
    };
    let mut facts = changed(stock(), |f| {
        unbind(f);
        f.hooks.stale = vec![51007];
    });
    assert!(matches!(mend(&facts), Remedy::Do(_)), "{:?}", mend(&facts));
    let mut other = facts.devices[0].clone();
    (other.device.name, other.device.listen_port) = ("wg1".to_owned(), 51009);
    facts.nics.push(nic(10, "wg1", "wireguard", None));
    facts.devices.push(other);
    let command = "wg set wg1 listen-port 51009".to_owned();
    assert_eq!(mend(&facts), Remedy::Run(vec![command]));
}

/// A filter rule about something else, or one that names the VRF as well, is left alone.
#[test]
fn rules_of_a_filter_that_do_no_harm() {
    let head = "table inet filter { # handle 1\n\tset wans { # handle 3\n\t\ttype ifname\n\t\t\
                elements = { \"wan0\",\n\t\t\t     \"wan1\" }\n\t}\n\tchain input { # handle 1\n\
                \t\ttype filter hook input priority filter; policy drop;\n";
    let find = |rule: &str, chain: &str| {
        let mut facts = patched();
        facts.filter.as_mut().unwrap().nft =
            format!("{head}\t\t{rule} # handle 7\n\t}}\n{chain}}}\n");
        let report = examine(&facts, None, &mut routes);
        report.findings.first().map(|one| one.remedy.clone())
    };
    for harmless in [
        "iifname \"vrf_external\" udp dport 51001 accept",
        "iifname { \"wan0\", \"vrf_external\" } udp dport 51001 accept",
        "iifname \"wan0\" tcp dport 22 accept",
        "iifname \"wan0\" udp dport 53 accept",
        "iifname \"wan0\" udp dport { 53, 123-500 } accept",
        "iifname \"wan0\" icmp type echo-request accept",
        "iifname \"core0\" accept",
        "oifname \"wan0\" accept",
        "ct state established,related accept",
    ] {
        assert_eq!(find(harmless, ""), None, "{harmless}");
    }
    for (rule, command) in [
        (
            "iifname \"wan0\" accept",
            "replace rule inet filter input handle 7 iifname \"vrf_external\" accept",
        ),
        (
            "iif \"wan0\" udp dport 51000-51010 counter packets 1 bytes 2 accept",
            "replace rule inet filter input handle 7 iif \"vrf_external\" udp dport 51000-51010 \
             counter packets 1 bytes 2 accept",
        ),
        (
            "iifname { \"core0\", \"wan0\" } meta l4proto { tcp, udp } accept",
            "replace rule inet filter input handle 7 iifname { \"core0\", \"wan0\", \
             \"vrf_external\" } meta l4proto { tcp, udp } accept",
        ),
        (
            "iifname @wans udp dport @ports accept",
            "add element inet filter wans { \"vrf_external\" }",
        ),
    ] {
        let wanted = Remedy::Run(vec![format!("nft '{command}'")]);
        assert_eq!(find(rule, ""), Some(wanted), "{rule}");
    }
    for words in [
        "iifname vmap { \"wan0\" : jump wan, \"core0\" : accept }",
        "iifname \"wan*\" accept",
    ] {
        assert!(matches!(find(words, ""), Some(Remedy::Do(_))), "{words}");
    }
    // A chain that input jumps to, and one that prerouting uses as well.
    let chain = "\tchain wan { # handle 8\n\t\tiifname \"wan0\" drop # handle 9\n\t}\n";
    assert!(find("ip protocol udp jump wan", chain).is_some());
    let early = format!(
        "{chain}\tchain early {{ # handle 10\n\t\ttype filter hook prerouting priority raw; \
         policy accept;\n\t\tjump wan # handle 11\n\t}}\n"
    );
    assert_eq!(find("jump wan", &early), None);
}

#[test]
fn rules_of_iptables_that_name_an_interface_of_the_vrf() {
    let find = |rules: &str| {
        let mut facts = patched();
        let filter = facts.filter.as_mut().unwrap();
        filter.legacy = vec![(
            "iptables-legacy",
            format!("*filter\n:INPUT DROP [0:0]\n{rules}"),
        )];
        let report = examine(&facts, None, &mut routes);
        report.findings.first().map(|one| one.remedy.clone())
    };
    assert_eq!(
        find("-A INPUT -i lo -j ACCEPT\n-A INPUT -i wan0 -p udp -m udp --dport 51001 -j ACCEPT\n"),
        Some(Remedy::Run(vec![
            "iptables-legacy -R INPUT 2 -i vrf_external -p udp -m udp --dport 51001 -j ACCEPT"
                .to_owned()
        ]))
    );
    for harmless in [
        "-A INPUT -i wan0 -p tcp -m tcp --dport 22 -j ACCEPT\n",
        "-A INPUT -i wan0 -p udp -m udp --dport 53 -j ACCEPT\n",
        "-A INPUT -i vrf_external -p udp -j ACCEPT\n",
        "-A FORWARD -i wan0 -j ACCEPT\n",
    ] {
        assert_eq!(find(harmless), None, "{harmless}");
    }
    assert!(matches!(
        find("-A INPUT -i wan+ -m comment --comment \"a b\" -j ACCEPT\n"),
        Some(Remedy::Do(_))
    ));
}

#[test]
fn names_in_commands_are_words_of_a_shell() {
    assert_eq!(super::quote("wg-cr02"), "wg-cr02");
    assert_eq!(super::quote("red#1"), "'red#1'");
    assert_eq!(super::quote("it's;reboot"), r"'it'\''s;reboot'");
    assert_eq!(super::quote(""), "''");
    let mut vlan = nic(3, "wan0.10", "vlan", None);
    assert_eq!(
        super::link_sysctl(&vlan, "rp_filter"),
        "net.ipv4.conf.wan0/10.rp_filter"
    );
    vlan.link.name = "a b".to_owned();
    assert_eq!(
        super::link_sysctl(&vlan, "rp_filter"),
        "'net.ipv4.conf.a b.rp_filter'"
    );
}
