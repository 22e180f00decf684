// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! One device: how it is bound, where its packets go, and what reaches it.

use std::net::{IpAddr, SocketAddr};

use super::codes::Code;
use super::facts::{Answer, Facts, Nic, Tunnel, find_place};
use super::{
    Gets, Level, Reach, Remedy, Report, Sends, Summary, Underlay, advise, link_sysctl, list, quote,
    run,
};
use crate::model::{
    Action, Device, Family, Fault, Receives, Rule, Selector, UdpSocket, bind_table,
};
use crate::plan::receive::{CLOSED_MARK, judge_sockets};
use crate::plan::rules::{Flow, Rules, TABLE_LOCAL, default_mark};
use crate::plan::scope::{Escape, find_escape, is_local_first};
use crate::wire::underlay::{Packet, Route, RouteKind, Way};

/// What WireGuard and UDP put in front of and behind a packet, and an IPv4 or IPv6 header.
const OVERHEAD_V4: u32 = 60;
const OVERHEAD_V6: u32 = 80;
/// Below it the kernel takes IPv6 away from a link (`IPV6_MIN_MTU`).
const LOWEST_V6: u32 = 1280;

/// The kernel puts a rule without a priority in front of the second one of the list.
const LATER_RULES: &str = "; wg-quick with Table = auto puts the rules that it adds later in front \
    again: look again with `wg doctor' after each `wg-quick up', or give wg-quick `Table = off'";

/// What arrives has no mark, and which port it came from is not known.
const ARRIVING: Flow = Flow {
    by: Selector::Mark(0),
    mark: 0,
    port: 0,
};

/// A device and the facts that concern it.
pub struct View<'a> {
    facts: &'a Facts,
    tunnel: &'a Tunnel,
    pub sends: Sends,
    pub gets: Option<Gets>,
    /// The device that it is bound to, where that is here.
    pub carrier: Option<&'a Nic>,
    own: Option<&'a Nic>,
    elsewhere: bool,
}

/// Where the packets of a device go.
struct Routed {
    reach: Vec<Reach>,
    /// Some of them leave elsewhere.
    open: bool,
}

/// What the endpoints of one device have in common.
#[derive(Default)]
struct Gathered {
    no_route: Vec<(IpAddr, String)>,
    no_family: Vec<IpAddr>,
    /// With the priority of the rule that comes before `l3mdev`.
    overtaken: Vec<(IpAddr, u32)>,
    leaked: Vec<(IpAddr, String)>,
    looped: Vec<IpAddr>,
    down: Vec<(IpAddr, String)>,
    /// The lowest MTU that is too low, with the overhead of its family.
    mtu: Option<(u32, u32, String)>,
    filtered: Vec<(IpAddr, u32)>,
    captured: Vec<(IpAddr, u32)>,
    /// No rule is asked for them.
    escaped: Vec<(SocketAddr, Escape)>,
    /// The table `local` has them for this host, or, with the name of a link, for all on it.
    local: Vec<(IpAddr, Option<String>)>,
    /// What their scope names is a VRF.
    vrf_scope: Vec<SocketAddr>,
}

impl<'a> View<'a> {
    pub fn new(facts: &'a Facts, tunnel: &'a Tunnel) -> Self {
        let device = &tunnel.device;
        let own = facts.nic_called(&device.name);
        let sends = find_sends(facts, tunnel);
        let carrier = find_carrier(facts, tunnel, &sends);
        let mut view = View {
            facts,
            tunnel,
            sends,
            gets: None,
            carrier,
            own,
            elsewhere: false,
        };
        view.elsewhere = view.sends != Sends::Unbound && tunnel.elsewhere == Some(true);
        view.gets = match view.sends {
            Sends::Unbound => None,
            Sends::Unknown => Some(Gets::Unknown),
            Sends::Attribute { .. } | Sends::Rules { .. } => Some(view.find_gets()),
        };
        view
    }

    pub fn name(&self) -> &'a str {
        &self.device().name
    }

    pub fn device(&self) -> &'a Device {
        &self.tunnel.device
    }

    pub fn is_up(&self) -> bool {
        self.own.is_some_and(|nic| nic.link.up)
    }

    /// The VRF that it is bound to.
    pub fn vrf(&self) -> Option<&'a Nic> {
        self.carrier.filter(|nic| nic.link.vrf_table.is_some())
    }

    fn find_gets(&self) -> Gets {
        let port = self.device().listen_port;
        if self.elsewhere {
            return Gets::Unknown;
        }
        if !self.is_up() {
            return Gets::Down;
        }
        let Ok(sockets) = &self.facts.sockets else {
            return Gets::Unknown;
        };
        let on_port: Vec<_> = sockets
            .iter()
            .filter(|one| one.port == port)
            .copied()
            .collect();
        let index = self.carrier.map(|nic| nic.link.index);
        if let Sends::Attribute { .. } = self.sends {
            return self.find_kernel_gets(&on_port);
        }
        let process = self.is_process();
        let own: Vec<UdpSocket> = on_port
            .into_iter()
            .filter(|one| one.may_be_of(process))
            .collect();
        let find_name = |index| {
            let mut nics = self.facts.nics.iter().map(|nic| &nic.link);
            Some(nics.find(|link| link.index == index)?.name.clone())
        };
        match judge_sockets(&own, self.iter_rivals().count(), index, find_name) {
            Some(Receives::Bound) => Gets::BoundByHook,
            Some(Receives::Nothing) => Gets::Nothing,
            Some(Receives::Other(devices)) => Gets::Other(devices),
            Some(Receives::Unclear) => Gets::Unclear,
            Some(Receives::Any) | None if self.facts.l3mdev_accept == Ok(false) => {
                Gets::DefaultVrfOnly
            }
            Some(Receives::Any) | None => Gets::Everywhere,
        }
    }

    /// What the sockets receive that the attribute is to bind. `ss -K` takes their binding away, and
    /// the kernel lets those neither send nor receive.
    fn find_kernel_gets(&self, on_port: &[UdpSocket]) -> Gets {
        let listens = self.device().listen_port != 0;
        let Some(carrier) = self.carrier.filter(|_| listens) else {
            return Gets::Nothing;
        };
        let own = || on_port.iter().filter(|one| one.may_be_of(false));
        let count = |v6| own().filter(|one| one.device == 0 && one.v6 == v6).count();
        // Those of devices that the attribute does not bind are no proof that it has some.
        let others = self.iter_rivals().filter(|other| {
            let sends = find_sends(self.facts, other);
            let carrier = find_carrier(self.facts, other, &sends).map(|nic| nic.link.index);
            other.attribute.is_empty() && !on_port.iter().any(|one| Some(one.device) == carrier)
        });
        // Of its two sockets one is enough.
        if count(false).max(count(true)) > others.count() {
            return Gets::Lost;
        }
        match own().any(|one| one.device == carrier.link.index) {
            true => Gets::BoundByKernel,
            false => Gets::Nothing,
        }
    }

    /// Whether a process has its sockets.
    fn is_process(&self) -> bool {
        self.own.is_some_and(|nic| nic.link.kind != "wireguard")
    }

    /// Why the bind hooks cannot bind its sockets, when it is bound again or set up.
    pub fn hooks_fault(&self) -> Option<&'a str> {
        let hooks = &self.facts.hooks;
        let entries = hooks.entries.as_deref().unwrap_or_default();
        let index = self.own.map_or(0, |nic| nic.link.index);
        match entries.iter().any(|(_, e)| e.was_accepted_for(index)) {
            true => hooks.unable_again.as_deref(),
            false => hooks.unable.as_deref(),
        }
    }

    /// Why its sockets are not bound when it is bound again: the attribute needs no hooks.
    fn find_bind_fault(&self) -> Option<&'a str> {
        let takes_attribute = self.facts.attribute == Ok(true) && !self.is_process();
        let by_kernel = takes_attribute || matches!(self.sends, Sends::Attribute { .. });
        self.hooks_fault().filter(|_| !by_kernel)
    }

    /// Whether the bind hooks have an entry of it, on whatever port.
    fn has_entry(&self) -> bool {
        let entries = self.facts.hooks.entries.as_deref().unwrap_or_default();
        let index = self.own.map(|nic| nic.link.index);
        let mut entries = entries.iter();
        entries.any(|(_, entry)| Some(entry.owner) == index && !entry.leaving)
    }

    /// Whether the bind hooks have an entry of it for the port that it has.
    pub fn has_entry_on_port(&self) -> bool {
        let entries = self.facts.hooks.entries.as_deref().unwrap_or_default();
        let port = self.device().listen_port;
        let index = self.own.map(|nic| nic.link.index);
        let mut entries = entries.iter();
        entries.any(|(of, entry)| *of == port && Some(entry.owner) == index)
    }

    /// Whether its rules are gone, and what receives is not.
    pub fn is_half_bound(&self) -> bool {
        self.sends == Sends::Unbound && self.has_entry()
    }

    /// The other devices of its kind that are up and have its port.
    fn iter_rivals(&self) -> impl Iterator<Item = &'a Tunnel> + '_ {
        self.facts.devices.iter().filter(|other| {
            let nic = self.facts.nic_called(&other.device.name);
            let up = |nic: &Nic| nic.link.up && (nic.link.kind != "wireguard") == self.is_process();
            other.device.name != self.device().name
                && other.device.listen_port == self.device().listen_port
                && other.elsewhere != Some(true)
                && nic.is_some_and(up)
        })
    }

    /// The name by which a command binds it again; `None` where it is not known.
    fn bind_name(&self) -> Option<String> {
        match (&self.sends, self.carrier) {
            (_, Some(nic)) => Some(nic.link.name.clone()),
            (Sends::Attribute { dev }, None) => Some(dev.clone()),
            (Sends::Rules { table, .. }, None) => {
                let entries = self.facts.hooks.entries.as_deref().unwrap_or_default();
                let index = self.own.map(|nic| nic.link.index);
                let known = entries
                    .iter()
                    .find(|(_, entry)| Some(entry.owner) == index && !entry.vrf.is_empty());
                known
                    .map(|(_, entry)| entry.vrf.clone())
                    .or_else(|| table.map(crate::model::bind_by_table))
            }
            (Sends::Unbound | Sends::Unknown, None) => None,
        }
    }

    /// What now has the name of the device that it was bound to. Its table may be another one.
    fn namesake(&self) -> Option<&'a Nic> {
        let name = self.bind_name()?;
        self.carrier.or_else(|| self.facts.nic_called(&name))
    }

    /// `wg set wg0 [WORDS] bind-dev NAME`
    fn bind_again(&self, words: &str) -> Remedy {
        let name = self.bind_name().unwrap_or_else(|| "VRF".to_owned());
        run(format!(
            "wg set {} {words}bind-dev {}",
            quote(self.name()),
            quote(&name)
        ))
    }

    pub fn examine(&self, report: &mut Report, ask: &mut dyn FnMut(&Packet) -> Answer) -> Summary {
        let mut summary = Summary {
            name: self.name().to_owned(),
            sends: self.sends.clone(),
            gets: self.gets.clone(),
            underlay: self.describe_underlay(),
            closed: None,
            elsewhere: self.elsewhere,
            reach: Vec::new(),
        };
        if self.elsewhere {
            report.unseen(
                Some(self.name()),
                "what carries it",
                "its sockets are in the network namespace where it was created",
                "look there with `ip rule', `ip route' and `ss -lun'; where it is bound by \
                 policy rules, they have to be in that namespace",
            );
            return summary;
        }
        if let Err(why) = &self.facts.rules {
            report.unseen(Some(self.name()), "policy rules", why, super::NEEDS_ROOT);
        }
        let faults = self.find_faults();
        summary.closed = self.is_closed(&faults);
        self.report_faults(&faults, report);
        self.report_carrier(report);
        let routed = self.report_routes(&faults, report, ask);
        summary.reach = routed.reach;
        let here = matches!(self.sends, Sends::Rules { .. }) && self.tunnel.elsewhere.is_some();
        if routed.open && here {
            summary.closed = Some(false);
        }
        self.report_receiving(report);
        self.report_still_bound(report);
        self.report_port(report);
        self.report_mark(report);
        summary
    }

    /// `None` as well where its name is not known: only the closing rule is left.
    fn describe_underlay(&self) -> Option<Underlay> {
        let table = match self.sends {
            Sends::Rules { table, .. } => table,
            _ => None,
        };
        if matches!(self.sends, Sends::Unbound | Sends::Unknown) {
            return None;
        }
        Some(match self.namesake() {
            Some(nic) => Underlay {
                name: nic.link.name.clone(),
                table: nic.link.vrf_table,
                exists: true,
                up: nic.link.up,
                members: self
                    .facts
                    .members(nic.link.index)
                    .map(|nic| nic.link.name.clone())
                    .collect(),
            },
            None => Underlay {
                name: self.bind_name()?,
                table,
                exists: false,
                up: false,
                members: Vec::new(),
            },
        })
    }

    // Rules.

    fn find_faults(&self) -> Vec<(Family, Fault)> {
        let (Sends::Rules { by, table, .. }, Ok(rules)) = (&self.sends, &self.facts.rules) else {
            return Vec::new();
        };
        let flow = Flow {
            by: *by,
            mark: self.device().fwmark,
            port: self.device().listen_port,
        };
        rules.find_faults(flow, table.unwrap_or(0))
    }

    fn is_closed(&self, faults: &[(Family, Fault)]) -> Option<bool> {
        match self.sends {
            Sends::Unbound | Sends::Unknown => None,
            // The kernel drops what would leave by another device.
            Sends::Attribute { .. } => Some(true),
            // Where the closing rule is all that is left, a family may lack it.
            Sends::Rules { table: None, .. } => None,
            // Its packets may start in another namespace, with other rules.
            Sends::Rules { .. } if self.tunnel.elsewhere.is_none() => None,
            Sends::Rules { .. } => Some(faults.is_empty()),
        }
    }

    fn report_faults(&self, faults: &[(Family, Fault)], report: &mut Report) {
        let Sends::Rules { by, table, .. } = &self.sends else {
            return;
        };
        let vrf = self.bind_name().unwrap_or_else(|| "the VRF".to_owned());
        let table = table.map_or_else(|| "a table".to_owned(), |table| format!("table {table}"));
        for (family, fault) in faults {
            let (code, text) = match fault {
                // It is told with the endpoint.
                Fault::Escapes { .. } => continue,
                Fault::NotSteered if self.device().fwmark == CLOSED_MARK => (
                    Code::NotSteered,
                    format!(
                        "a command that changed it did not get to its end, so its {family} \
                         packets ({by}) are stopped"
                    ),
                ),
                Fault::NotSteered => (
                    Code::NotSteered,
                    format!("no rule leads its {family} packets ({by}) to {table} of {vrf}"),
                ),
                Fault::NotClosed => (
                    Code::NotClosed,
                    format!(
                        "nothing stops its {family} packets ({by}) when {table} of {vrf} has no \
                         route, so they leave by another table"
                    ),
                ),
                Fault::Overtaken { pref } => (
                    Code::RuleInFront,
                    format!(
                        "the {family} rule at priority {pref} comes before the one that leads its \
                         packets ({by}) to {table} of {vrf}"
                    ),
                ),
            };
            let remedy = match fault {
                Fault::Overtaken { pref: 0 } => advise(
                    "delete the rule at priority 0 with all that `ip rule' shows of it, and add \
                     it again at 99 or later: nothing can be put before it",
                ),
                _ => self.bind_again(""),
            };
            report.add(code, Some(self.name()), text, remedy);
        }
    }

    // What carries it.

    fn report_carrier(&self, report: &mut Report) {
        let name = Some(self.name());
        let dev = self.bind_name().unwrap_or_else(|| "VRF".to_owned());
        let Some(nic) = self.carrier else {
            self.report_missing(report);
            return;
        };
        if !nic.link.up {
            report.add(
                Code::DeviceDown,
                name,
                format!("{dev}, to which it is bound, is down"),
                run(format!("ip link set {} up", quote(&dev))),
            );
        }
        if nic.link.vrf_table.is_some() && self.facts.members(nic.link.index).next().is_none() {
            report.add(
                Code::VrfEmpty,
                name,
                format!("no interface is in {dev}, to which it is bound"),
                run(format!("ip link set NIC master {}", quote(&dev))),
            );
        }
        self.report_l3mdev_rule(nic, report);
    }

    /// Where no device is what it is bound to.
    fn report_missing(&self, report: &mut Report) {
        let name = Some(self.name());
        let (by, table) = match &self.sends {
            Sends::Unbound | Sends::Unknown => return,
            Sends::Attribute { .. } => (None, None),
            Sends::Rules { by, table, .. } => (Some(*by), *table),
        };
        let namesake = self.namesake();
        let now = namesake.and_then(|nic| nic.link.vrf_table);
        if let (Some(by), Some(table), Some(nic), Some(now)) = (by, table, namesake, now) {
            report.add(
                Code::NotSteered,
                name,
                format!(
                    "rules lead its packets ({by}) to table {table}, and {} has table {now} now, \
                     so nothing is sent",
                    nic.link.name
                ),
                self.bind_again(""),
            );
            return;
        }
        // A VRF of which only the table is known can have any name.
        let dev = self.bind_name().filter(|dev| bind_table(dev).is_none());
        if by.is_some() && table.is_none() && (now.is_some() || dev.is_none()) {
            // The rules are told, and to bind again mends them.
            return;
        }
        let shown = match (&dev, table) {
            (Some(dev), _) => dev.clone(),
            (None, Some(table)) => format!("the VRF with table {table}"),
            (None, None) => "the device".to_owned(),
        };
        let table = table.map_or_else(|| "TABLE".to_owned(), |table| table.to_string());
        let (is, dev) = match (namesake, dev) {
            (Some(_), _) => ("is no VRF", "VRF".to_owned()),
            (None, Some(dev)) => ("does not exist", quote(&dev)),
            (None, None) => ("does not exist", "VRF".to_owned()),
        };
        report.add(
            Code::DeviceMissing,
            name,
            format!(
                "{shown}, to which it is bound, {is}, so nothing is sent or received through it{}",
                match by {
                    Some(_) => ", but by routes over other devices that are left in its table",
                    None => "",
                }
            ),
            match by {
                Some(_) => Remedy::Run(vec![
                    format!("ip link add {dev} type vrf table {table}"),
                    format!("ip link set {dev} up"),
                ]),
                // The attribute takes devices of every kind.
                None => Remedy::Do(format!(
                    "make {shown} come back; a VRF is made with `ip link add {dev} type vrf table \
                     {table}' and `ip link set {dev} up'"
                )),
            },
        );
    }

    fn report_l3mdev_rule(&self, nic: &Nic, report: &mut Report) {
        if nic.link.vrf_table.is_none() {
            return;
        }
        for family in self.families_without_l3mdev() {
            report.add(
                Code::L3mdevRuleMissing,
                Some(self.name()),
                format!(
                    "there is no {family} rule `l3mdev', so no packet in {} finds the routes of \
                     its VRF",
                    nic.link.name
                ),
                run(format!(
                    "ip {}rule add pref 1000 l3mdev",
                    name_option(family)
                )),
            );
        }
    }

    fn families_without_l3mdev(&self) -> Vec<Family> {
        let Ok(rules) = &self.facts.rules else {
            return Vec::new();
        };
        let lacks = |rules: &[_]| !rules.iter().any(|rule: &Rule| rule.l3mdev);
        rules
            .iter_families()
            .filter(|(_, rules)| lacks(rules))
            .map(|(family, _)| family)
            .collect()
    }

    // Where packets go.

    /// The endpoints of its peers, each address once for each link that it is on.
    fn list_endpoints(&self) -> Vec<SocketAddr> {
        let mut found: Vec<SocketAddr> = self
            .device()
            .peers
            .iter()
            .filter_map(|peer| peer.endpoint)
            .collect();
        found.sort_unstable_by_key(|one| (one.ip(), scope_of(*one), one.port()));
        found.dedup_by_key(|one| (one.ip(), scope_of(*one)));
        found
    }

    fn report_routes(
        &self,
        faults: &[(Family, Fault)],
        report: &mut Report,
        ask: &mut dyn FnMut(&Packet) -> Answer,
    ) -> Routed {
        let bound = matches!(self.sends, Sends::Attribute { .. } | Sends::Rules { .. });
        let mut gathered = Gathered::default();
        let mut reach = Vec::new();
        for endpoint in self.list_endpoints() {
            if let Some(escape) = self.find_escape(endpoint) {
                gathered.escaped.push((endpoint, escape));
            }
            // Without what it is bound to, nowhere; that is said already.
            if !bound || self.carrier.is_some() {
                reach.push(self.follow_route(endpoint, faults, &mut gathered, ask));
            }
        }
        let open = !gathered.escaped.is_empty() || !gathered.local.is_empty();
        self.report_gathered(gathered, report);
        Routed { reach, open }
    }

    /// How the packets of an endpoint get around the rules.
    fn find_escape(&self, endpoint: SocketAddr) -> Option<Escape> {
        let (Sends::Rules { by, table, .. }, Ok(rules)) = (&self.sends, &self.facts.rules) else {
            return None;
        };
        let flow = Flow {
            by: *by,
            mark: self.device().fwmark,
            port: self.device().listen_port,
        };
        let local_first = is_local_first(rules.in_family(Family::V6)?, flow);
        find_escape(endpoint, table.unwrap_or(0), local_first, |index| {
            find_place(&self.facts.nics, index)
        })
    }

    fn follow_route(
        &self,
        endpoint: SocketAddr,
        faults: &[(Family, Fault)],
        gathered: &mut Gathered,
        ask: &mut dyn FnMut(&Packet) -> Answer,
    ) -> Reach {
        let to = endpoint.ip();
        let family = family_of(to);
        let faulty = faults.iter().any(|(of, _)| *of == family);
        let scope = scope_of(endpoint);
        let way = match (&self.sends, self.carrier) {
            _ if scope != 0 => Way::OutOf(scope),
            (Sends::Attribute { .. }, Some(nic)) => Way::OutOf(nic.link.index),
            // Rules that do not hold say nothing about the VRF's routes.
            (Sends::Rules { .. }, Some(nic)) if faulty => Way::OutOf(nic.link.index),
            _ => Way::Out,
        };
        let packet = Packet {
            to,
            from: None,
            source_port: self.device().listen_port,
            destination_port: endpoint.port(),
            mark: self.device().fwmark,
            way,
        };
        let mut reach = Reach {
            endpoint: to,
            out: None,
            table: None,
            source: None,
        };
        let told = gathered
            .escaped
            .last()
            .is_some_and(|(of, _)| *of == endpoint);
        let route = match ask(&packet) {
            Err(_) if told => return reach,
            Ok(route) if route.kind != RouteKind::Other => route,
            Ok(_) => {
                self.gather_unreachable(to, "unreachable", gathered);
                return reach;
            }
            Err(_) if self.is_vrf(scope) => {
                gathered.vrf_scope.push(endpoint);
                return reach;
            }
            Err(errno) => {
                let words = crate::error::strerror(errno);
                self.gather_unreachable(to, &words, gathered);
                return reach;
            }
        };
        let out = self.facts.nic(route.out);
        // IPv4 looks for an address without a route on the link that the sender is bound to.
        let guessed = route.kind == RouteKind::Unicast && route.table == 0;
        if guessed && !out.is_some_and(|nic| nic.carrier.point_to_point) {
            self.gather_unreachable(to, "the kernel looks on the link itself", gathered);
            return reach;
        }
        if route.kind != RouteKind::Unicast
            && self.vrf().is_some()
            && self.leaves_elsewhere(&route)
            && !told
        {
            let link = out.filter(|_| route.kind == RouteKind::Broadcast);
            let link = link.map(|nic| nic.link.name.clone());
            gathered.local.push((to, link));
        }
        if route.kind == RouteKind::Unicast && self.leaves_elsewhere(&route) && !told {
            let by = out.map_or_else(|| "another device".to_owned(), |nic| nic.link.name.clone());
            // A route that the kernel, or the closing rule, does not let it use.
            match self.find_captor(family, route.table) {
                Some(pref) => gathered.overtaken.push((to, pref)),
                None => {
                    let words = format!("the next table would send them by {by}");
                    self.gather_unreachable(to, &words, gathered);
                }
            }
            return reach;
        }
        reach.out = out.map(|nic| nic.link.name.clone());
        reach.table = (!guessed).then_some(route.table);
        reach.source = route.source;
        if route.kind == RouteKind::Unicast && !told {
            // A route that is left does not help without an address.
            if scope == 0 && self.lacks_family(to) {
                gathered.no_family.push(to);
            }
            self.gather_route(to, &route, out, gathered);
            if let Some(vrf) = self.vrf() {
                self.follow_back(endpoint, &route, vrf, gathered, ask);
            }
        }
        reach
    }

    fn is_vrf(&self, index: u32) -> bool {
        let nic = self.facts.nic(index);
        nic.is_some_and(|nic| nic.link.vrf_table.is_some())
    }

    fn is_in(&self, carrier: &Nic, index: u32) -> bool {
        index == carrier.link.index
            || self
                .facts
                .nic(index)
                .is_some_and(|nic| nic.carrier.master == Some(carrier.link.index))
    }

    /// The route is neither by the device nor of its table. The attribute takes none by the VRF's own
    /// device but its table's: that VRF looks the route up again, and may find another.
    fn leaves_elsewhere(&self, route: &Route) -> bool {
        let Some(carrier) = self.carrier else {
            return false;
        };
        let by_kernel = matches!(self.sends, Sends::Attribute { .. });
        let by_vrf = carrier.link.vrf_table.is_some() && route.out == carrier.link.index;
        let again = by_kernel && by_vrf && route.kind == RouteKind::Unicast;
        carrier.link.vrf_table != Some(route.table) && (again || !self.is_in(carrier, route.out))
    }

    /// The priority of a rule that leads to this table before `l3mdev` leads to that of the VRF.
    fn find_captor(&self, family: Family, table: u32) -> Option<u32> {
        let rules = self.facts.rules.as_ref().ok()?.in_family(family)?;
        let first = rules.iter().position(|rule| rule.l3mdev)?;
        let mut before = rules[..first].iter();
        let captor = before.find(|rule| rule.action == Action::Table(table));
        captor.map(|rule| rule.pref)
    }

    /// The priority of the first rule before `l3mdev` that may decide about what arrives.
    fn find_first_captor(&self, family: Family) -> Option<u32> {
        let rules = self.facts.rules.as_ref().ok()?.in_family(family)?;
        let mut before = rules.iter().take_while(|rule| !rule.l3mdev);
        let captor = before.find(|rule| !rule.is_ours() && rule.captures_flow(ARRIVING, 0));
        captor.map(|rule| rule.pref)
    }

    fn gather_unreachable(&self, to: IpAddr, words: &str, gathered: &mut Gathered) {
        if self.lacks_family(to) {
            gathered.no_family.push(to);
        } else {
            gathered.no_route.push((to, words.to_owned()));
        }
    }

    /// No interface of the VRF has an address from which `to` could be written to.
    fn lacks_family(&self, to: IpAddr) -> bool {
        self.vrf().is_some_and(|vrf| {
            let of = |index| self.facts.global_addresses(index, to.is_ipv4()).next();
            let members = || self.facts.members(vrf.link.index);
            self.facts.addresses.is_ok()
                && members().next().is_some()
                && of(vrf.link.index).is_none()
                && members().all(|nic| of(nic.link.index).is_none())
        })
    }

    fn gather_route(&self, to: IpAddr, route: &Route, out: Option<&Nic>, gathered: &mut Gathered) {
        let Some(out) = out else {
            return;
        };
        if self.own.is_some_and(|own| own.link.index == route.out) {
            gathered.looped.push(to);
            return;
        }
        if let Some(carrier) = self.carrier {
            if !self.is_in(carrier, route.out) {
                gathered.leaked.push((to, out.link.name.clone()));
            }
        }
        if !out.carrier.running {
            gathered.down.push((to, out.link.name.clone()));
        }
        let overhead = if to.is_ipv4() {
            OVERHEAD_V4
        } else {
            OVERHEAD_V6
        };
        let mtu = route.mtu.unwrap_or(out.carrier.mtu);
        let own = self.own.map_or(0, |own| own.carrier.mtu);
        let lowest = gathered.mtu.as_ref().map_or(u32::MAX, |(mtu, _, _)| *mtu);
        if own + overhead > mtu && mtu < lowest {
            gathered.mtu = Some((mtu, overhead, out.link.name.clone()));
        }
    }

    /// Whether packets of the endpoint would be taken here, by each way into the VRF.
    fn follow_back(
        &self,
        endpoint: SocketAddr,
        route: &Route,
        vrf: &Nic,
        gathered: &mut Gathered,
        ask: &mut dyn FnMut(&Packet) -> Answer,
    ) {
        let from = endpoint.ip();
        if self.families_without_l3mdev().contains(&family_of(from)) {
            return;
        }
        let members = self.facts.members(vrf.link.index);
        for member in members.filter(|nic| nic.carrier.running) {
            let index = member.link.index;
            let own = || self.facts.global_addresses(index, from.is_ipv4()).next();
            let to = match route.source.filter(|_| index == route.out) {
                Some(source) => source,
                None => match own() {
                    Some(address) => address.ip,
                    None => continue,
                },
            };
            let packet = Packet {
                to,
                from: Some(from),
                source_port: endpoint.port(),
                destination_port: self.device().listen_port,
                mark: 0,
                way: Way::In(index),
            };
            match ask(&packet) {
                Ok(found) if found.kind == RouteKind::Local => {}
                Err(errno) if self.is_filtered(errno, member, route) => {
                    gathered.filtered.push((from, index));
                }
                _ => gathered.captured.push((from, index)),
            }
        }
    }

    /// Whether the reverse path filter is the reason. New kernels give EINVAL for every reason, so
    /// there the way back has to tell.
    fn is_filtered(&self, errno: i32, member: &Nic, back: &Route) -> bool {
        let other_way = back.out != member.link.index;
        self.is_strict(member) && (errno == libc::EXDEV || errno == libc::EINVAL && other_way)
    }

    fn is_strict(&self, nic: &Nic) -> bool {
        let all = self.facts.rp_filter.as_ref().copied().unwrap_or(0);
        all.max(nic.rp_filter) == 1
    }

    fn report_gathered(&self, gathered: Gathered, report: &mut Report) {
        let name = Some(self.name());
        let Gathered {
            no_route,
            no_family,
            overtaken,
            leaked,
            looped,
            down,
            mtu,
            filtered,
            captured,
            escaped,
            local,
            vrf_scope,
        } = gathered;
        self.report_escapes(&escaped, report);
        self.report_local(&local, report);
        for family in Family::ALL {
            let mine: Vec<_> = no_route
                .iter()
                .filter(|(to, _)| family_of(*to) == family)
                .collect();
            let Some((_, words)) = mine.first() else {
                continue;
            };
            let ips: Vec<String> = mine.iter().map(|(to, _)| to.to_string()).collect();
            report.add(
                Code::NoRoute,
                name,
                format!(
                    "{} has no route to {} ({words})",
                    self.describe_place(),
                    list(&ips)
                ),
                self.add_route(family, mine[0].0),
            );
        }
        if !vrf_scope.is_empty() {
            let ips: Vec<String> = vrf_scope.iter().map(|one| one.ip().to_string()).collect();
            report.add(
                Code::NoRoute,
                name,
                format!(
                    "nothing can be sent to {}: behind the % is a VRF and no interface",
                    list(&ips)
                ),
                // Elsewhere the kernel itself puts it there, with each packet that arrives in a VRF.
                advise(match self.facts.attribute {
                    Ok(true) => "give the peer an endpoint with an interface of the VRF behind the %",
                    _ => {
                        "give both ends addresses that are not link-local: without the kernel series \
                         a packet that arrives in a VRF puts it there"
                    }
                }),
            );
        }
        // Where rules bind it, such a rule is a fault of theirs, and told with them.
        let by_kernel = matches!(self.sends, Sends::Attribute { .. });
        for family in Family::ALL.into_iter().filter(|_| by_kernel) {
            let mut mine = overtaken.iter().filter(|(to, _)| family_of(*to) == family);
            let Some((to, pref)) = mine.next() else {
                continue;
            };
            let (remedy, warning) = put_l3mdev_in_front(family, Some(*pref));
            report.add(
                Code::RuleInFront,
                name,
                format!(
                    "the {family} rule at priority {pref} comes before `l3mdev' and takes its \
                     packets to {to} to another table than that of {}, so the kernel drops \
                     them{warning}",
                    self.describe_place()
                ),
                remedy,
            );
        }
        if let Some(first) = no_family.first() {
            let family = family_of(*first);
            report.add(
                Code::FamilyMissing,
                name,
                format!(
                    "the endpoint {} is {family}, and no interface of {} has an {family} address",
                    list(&write_addresses(&no_family)),
                    self.describe_place()
                ),
                Remedy::Do(format!(
                    "give the peer an endpoint that {} can reach (`wg set {} peer KEY endpoint \
                     ADDRESS:PORT'); `ip vrf exec {} wg ...' looks a name up there",
                    self.describe_place(),
                    self.name(),
                    self.describe_place()
                )),
            );
        }
        if let Some((_, by)) = leaked.first() {
            let ips: Vec<String> = leaked.iter().map(|(to, _)| to.to_string()).collect();
            report.add(
                Code::LeakedRoute,
                name,
                format!(
                    "a route of {} sends packets to {} out by {by}, which is not in it",
                    self.describe_place(),
                    list(&ips)
                ),
                advise("nothing, if the route is meant; it is used as it is written"),
            );
        }
        if !looped.is_empty() {
            report.add(
                Code::Loop,
                name,
                format!(
                    "its packets to {} are routed into the tunnel itself",
                    list(&write_addresses(&looped))
                ),
                advise(
                    "bind it to the device that reaches the endpoint (bind-dev), or give the \
                     endpoint a route of its own",
                ),
            );
        }
        if let Some((_, by)) = down.first() {
            let ips: Vec<String> = down.iter().map(|(to, _)| to.to_string()).collect();
            let is_up = self.facts.nic_called(by).is_some_and(|nic| nic.link.up);
            report.add(
                Code::UplinkDown,
                name,
                format!(
                    "the route to {} leads out by {by}, which {}",
                    list(&ips),
                    if is_up { "has no carrier" } else { "is down" }
                ),
                if is_up {
                    Remedy::Do(format!("see to the cable or the other end of {by}"))
                } else {
                    run(format!("ip link set {} up", quote(by)))
                },
            );
        }
        if let Some((mtu, overhead, by)) = mtu {
            let own = self.own.map_or(0, |own| own.carrier.mtu);
            let lower = mtu.saturating_sub(OVERHEAD_V6);
            let command = format!("ip link set {} mtu {lower}", quote(self.name()));
            report.add(
                Code::Mtu,
                name,
                format!(
                    "its MTU is {own}, and {overhead} more are needed outside, but the way by {by} \
                     carries {mtu}: large packets are cut or lost"
                ),
                if lower < LOWEST_V6 {
                    Remedy::Do(format!(
                        "a larger MTU for {by}; or `{command}' where the tunnel carries no IPv6: \
                         below {LOWEST_V6} the kernel takes IPv6 away from {}",
                        self.name()
                    ))
                } else {
                    run(command)
                },
            );
        }
        self.report_arrival(&filtered, &captured, report);
    }

    /// Endpoints whose packets leave before a rule is asked.
    fn report_escapes(&self, escaped: &[(SocketAddr, Escape)], report: &mut Report) {
        for (endpoint, escape) in escaped {
            let written = escape.write_endpoint(*endpoint);
            let mut peers = self.device().peers.iter();
            let peer = peers.find(|peer| {
                let its = peer.endpoint.filter(|its| its.ip() == endpoint.ip());
                its.is_some_and(|its| scope_of(its) == scope_of(*endpoint))
            });
            let key = peer.map_or_else(|| "KEY".to_owned(), |peer| peer.public_key.to_base64());
            report.add(
                Code::EndpointScope,
                Some(self.name()),
                format!(
                    "its packets to {written} leave by {}: the kernel asks no rule of its binding \
                     for such an address",
                    escape.describe_way()
                ),
                run(format!(
                    "wg set {} peer {key} endpoint ADDRESS:{}",
                    quote(self.name()),
                    endpoint.port()
                )),
            );
        }
    }

    /// Endpoints that the table `local` has an answer for, in front of the VRF.
    fn report_local(&self, local: &[(IpAddr, Option<String>)], report: &mut Report) {
        for family in Family::ALL {
            let mine: Vec<_> = local
                .iter()
                .filter(|(to, _)| family_of(*to) == family)
                .collect();
            let Some((_, link)) = mine.first() else {
                continue;
            };
            let ips: Vec<String> = mine.iter().map(|(to, _)| to.to_string()).collect();
            let loopback = mine.iter().any(|(to, _)| to.is_loopback());
            let by_kernel = matches!(self.sends, Sends::Attribute { .. });
            let way = match link {
                None => "go to this host itself".to_owned(),
                Some(link) if by_kernel => {
                    format!("would leave by {link}, so the kernel drops them")
                }
                Some(link) => format!("leave by {link}"),
            };
            let (remedy, warning) = match self.move_local(family).filter(|_| !loopback) {
                Some(remedy) => (remedy, LATER_RULES),
                None => (
                    Remedy::Do(format!(
                        "give the peer an endpoint that is in {}",
                        self.describe_place()
                    )),
                    "",
                ),
            };
            report.add(
                Code::LocalFirst,
                Some(self.name()),
                format!(
                    "its packets to {} {way}: the table `local' of the default VRF has the address, \
                     and is asked before the table of {}{warning}",
                    list(&ips),
                    self.describe_place()
                ),
                remedy,
            );
        }
    }

    /// Puts the rule of the table `local` right behind those that lead to a VRF, as the kernel's
    /// vrf.rst has it; `None` where a rule of others would come before it then.
    fn move_local(&self, family: Family) -> Option<Remedy> {
        let rules = self.facts.rules.as_ref().ok()?.in_family(family)?;
        let is_local = |rule: &&Rule| rule.action == Action::Table(TABLE_LOCAL);
        let local = rules.iter().find(is_local)?;
        // What arrives goes by `l3mdev'.
        let leads = |rule: &&Rule| rule.l3mdev || rule.is_ours();
        let behind = rules.iter().rev().find(leads)?.pref;
        let pref = behind.checked_add(1)?;
        let between = rules.iter().filter(|rule| rule.pref <= pref);
        let mut others = between.filter(|rule| !rule.is_ours() && !rule.l3mdev);
        if !others.all(|rule| is_local(&rule)) {
            return None;
        }
        let ip = format!("ip {}rule", name_option(family));
        Some(Remedy::Run(vec![
            format!("{ip} add pref {pref} lookup local"),
            format!("{ip} del pref {} lookup local", local.pref),
        ]))
    }

    fn report_arrival(
        &self,
        filtered: &[(IpAddr, u32)],
        captured: &[(IpAddr, u32)],
        report: &mut Report,
    ) {
        let mut links: Vec<u32> = filtered.iter().map(|(_, index)| *index).collect();
        links.sort_unstable();
        links.dedup();
        for nic in links.into_iter().filter_map(|index| self.facts.nic(index)) {
            let index = nic.link.index;
            let mine = filtered.iter().filter(|(_, link)| *link == index);
            let ips: Vec<String> = mine.map(|(from, _)| from.to_string()).collect();
            report.add(
                Code::RpFilter,
                Some(self.name()),
                format!(
                    "the strict reverse path filter of {} drops what {} sends: the way back \
                     is another one",
                    nic.link.name,
                    list(&ips)
                ),
                run(format!("sysctl -w {}=2", link_sysctl(nic, "rp_filter"))),
            );
        }
        for family in Family::ALL {
            let mine: Vec<_> = captured
                .iter()
                .filter(|(from, _)| family_of(*from) == family)
                .collect();
            if mine.is_empty() {
                continue;
            }
            let mut ips: Vec<String> = mine.iter().map(|(from, _)| from.to_string()).collect();
            ips.dedup();
            let captor = self.find_first_captor(family);
            let (remedy, warning) = put_l3mdev_in_front(family, captor);
            report.add(
                Code::ArrivalCaptured,
                Some(self.name()),
                format!(
                    "a rule before `l3mdev' takes the {family} packets that arrive from {} in {} to \
                     another table, so they are not delivered{warning}",
                    list(&ips),
                    self.describe_place()
                ),
                remedy,
            );
        }
    }

    /// What it is bound to, for a sentence.
    fn describe_place(&self) -> String {
        match self.carrier {
            Some(nic) => nic.link.name.clone(),
            None => "this host".to_owned(),
        }
    }

    fn add_route(&self, family: Family, to: IpAddr) -> Remedy {
        let (via, target) = match self.vrf() {
            Some(vrf) => {
                let members = || self.facts.members(vrf.link.index);
                let running = members().find(|nic| nic.carrier.running);
                (running.or_else(|| members().next()), "default".to_owned())
            }
            None => (self.carrier, to.to_string()),
        };
        let table = self.carrier.and_then(|nic| self.facts.find_table(nic));
        let mut command = format!("ip {}route add {target}", name_option(family));
        if !via.is_some_and(|nic| nic.carrier.point_to_point) {
            command += " via GATEWAY";
        }
        let dev = via.map_or_else(|| "NIC".to_owned(), |nic| quote(&nic.link.name));
        command += &format!(" dev {dev}");
        if let Some(table) = table {
            command += &format!(" table {table}");
        }
        run(command)
    }

    // What reaches it.

    fn report_receiving(&self, report: &mut Report) {
        let name = Some(self.name());
        let Some(gets) = &self.gets else {
            return;
        };
        if let Err(why) = &self.facts.sockets {
            report.unseen(
                name,
                "what its sockets are bound to",
                why,
                "modprobe udp_diag",
            );
            return;
        }
        let bind_fault = self.find_bind_fault();
        let by_kernel = matches!(self.sends, Sends::Attribute { .. });
        match gets {
            Gets::BoundByKernel | Gets::BoundByHook | Gets::Down | Gets::Unknown => {}
            Gets::Unclear => report.unseen(
                name,
                "which of the sockets on its port are its own",
                "another interface or program has the port, too",
                "a port of its own (wg set ... listen-port)",
            ),
            // Nothing is what it is bound to, and that is said already.
            _ if self.carrier.is_none() => {}
            // It is told with the port.
            Gets::Nothing if self.is_port_taken() => {}
            Gets::Nothing => report.add(
                Code::ReceivesNothing,
                name,
                match by_kernel {
                    true => format!(
                        "none of its sockets is bound to {}, so nothing is received",
                        self.describe_place()
                    ),
                    false => format!(
                        "its sockets are bound to a device that is not {}, so nothing is received",
                        self.describe_place()
                    ),
                },
                self.bind_again(""),
            ),
            Gets::Lost => report.add(
                Code::ReceivesNothing,
                name,
                format!(
                    "not all of its sockets are bound to {}; those that are not send and receive \
                     nothing",
                    self.describe_place()
                ),
                self.bind_again(""),
            ),
            Gets::Other(devices) => report.add(
                Code::ReceivesOther,
                name,
                format!(
                    "its sockets are bound to {}, and not to {}: they receive what arrives there",
                    list(devices),
                    self.describe_place()
                ),
                self.bind_again(""),
            ),
            Gets::Everywhere => {
                let text = format!(
                    "its sockets are bound to no device, so packets from everywhere reach it, not \
                     from {} only",
                    self.describe_place()
                );
                match bind_fault {
                    None => report.add(Code::ReceivesEverywhere, name, text, self.bind_again("")),
                    Some(why) => {
                        report.add(
                            Code::ReceivesEverywhere,
                            name,
                            format!("{text}: {why}"),
                            advise(match self.is_process() {
                                true => "mend that, and bind it again",
                                false => "a wireguard module with WGDEVICE_A_BIND_DEV binds them",
                            }),
                        );
                        if let Some(last) = report.findings.last_mut() {
                            last.level = Level::Note;
                        }
                    }
                }
            }
            Gets::DefaultVrfOnly => report.add(
                Code::L3mdevAcceptNeeded,
                name,
                format!(
                    "its sockets are bound to no device and net.ipv4.udp_l3mdev_accept is 0, so \
                     what arrives in {} does not reach it",
                    self.describe_place()
                ),
                if bind_fault.is_none() {
                    self.bind_again("")
                } else {
                    run("sysctl -w net.ipv4.udp_l3mdev_accept=1".to_owned())
                },
            ),
        }
        self.report_reply_source(report);
    }

    /// What a command that was killed, or another program that removed the rules, left for what
    /// is received.
    fn report_still_bound(&self, report: &mut Report) {
        let (Some(own), true) = (self.own, self.sends == Sends::Unbound) else {
            return;
        };
        if self.facts.rules.is_err() || self.tunnel.elsewhere == Some(true) {
            return;
        }
        let entries = self.facts.hooks.entries.as_deref().unwrap_or_default();
        let entry = entries
            .iter()
            .find(|(_, entry)| entry.owner == own.link.index && !entry.leaving);
        let text = if let Some(place) = self.find_left_socket(own, entry.is_some()) {
            format!(
                "it is not bound, so it sends by every route of this host, but its sockets are \
                 still bound to {place}, and receive nothing else"
            )
        } else if let Some((port, entry)) = entry {
            let place = match entry.vrf.as_str() {
                "" => "no device",
                vrf => vrf,
            };
            format!(
                "it is not bound, but the bind hooks still have its entry for port {port}: the \
                 next sockets on that port are bound to {place}"
            )
        } else {
            return;
        };
        report.add(
            Code::StillBound,
            Some(self.name()),
            text,
            run(format!("wg set {} bind-dev off", quote(self.name()))),
        );
    }

    /// What the sockets of a device that is not bound are bound to. Those of a process may be so
    /// on purpose (`ip vrf exec`), unless it has an entry.
    fn find_left_socket(&self, own: &Nic, has_entry: bool) -> Option<String> {
        let port = self.device().listen_port;
        if port == 0 || !own.link.up || !(has_entry || own.link.kind == "wireguard") {
            return None;
        }
        let sockets = self.facts.sockets.as_deref().ok()?;
        let mine = || {
            sockets
                .iter()
                .filter(|one| one.port == port && one.may_be_of(self.is_process()))
        };
        if mine().any(|one| one.device == 0) {
            return None;
        }
        let is_neighbours = |index: u32| {
            self.facts.devices.iter().any(|other| {
                let sends = find_sends(self.facts, other);
                let carrier = find_carrier(self.facts, other, &sends);
                other.device.listen_port == port
                    && carrier.is_some_and(|nic| nic.link.index == index)
            })
        };
        let left = mine().find(|one| !is_neighbours(one.device))?;
        Some(match self.facts.nic(left.device) {
            Some(nic) => nic.link.name.clone(),
            None => "a device that is gone".to_owned(),
        })
    }

    /// A stock kernel forgets which address the peer wrote to.
    fn report_reply_source(&self, report: &mut Report) {
        let (Sends::Rules { .. }, Ok(false), Some(vrf)) =
            (&self.sends, &self.facts.attribute, self.vrf())
        else {
            return;
        };
        for family in Family::ALL {
            let addresses: Vec<String> = self
                .facts
                .members(vrf.link.index)
                .map(|nic| nic.link.index)
                .chain([vrf.link.index])
                .flat_map(|index| self.facts.global_addresses(index, family == Family::V4))
                .map(|address| address.ip.to_string())
                .collect();
            let used = self
                .list_endpoints()
                .iter()
                .any(|endpoint| family_of(endpoint.ip()) == family);
            if addresses.len() < 2 || !used {
                continue;
            }
            report.add(
                Code::ReplySource,
                Some(self.name()),
                format!(
                    "{} has the {family} addresses {}, and this kernel answers from the one of the \
                     route, not from the one that a peer wrote to",
                    vrf.link.name,
                    list(&addresses)
                ),
                advise(
                    "let peers write to the address that the route uses (`src ADDRESS' on the \
                     route chooses); the kernel series mends it, with fwmark rules as well",
                ),
            );
        }
    }

    /// Whether it has no sockets, and one of others is in the way of them.
    fn is_port_taken(&self) -> bool {
        let port = self.device().listen_port;
        let by_kernel = matches!(self.sends, Sends::Attribute { .. });
        let lacks = !self.is_up() || by_kernel && self.gets == Some(Gets::Nothing);
        let (Ok(sockets), Some(_), true) = (&self.facts.sockets, self.own, lacks && port != 0)
        else {
            return false;
        };
        // Where its sockets will be; 0: everywhere.
        let place = match &self.sends {
            Sends::Attribute { .. } => match self.carrier {
                Some(nic) => nic.link.index,
                None => return false,
            },
            Sends::Rules { .. } => self
                .carrier
                .filter(|_| self.has_entry_on_port())
                .map_or(0, |nic| nic.link.index),
            Sends::Unbound => 0,
            // Only a socket on no device is in its way for sure.
            Sends::Unknown => u32::MAX,
        };
        sockets
            .iter()
            .any(|one| one.port == port && (one.device == 0 || place == 0 || one.device == place))
    }

    fn report_port(&self, report: &mut Report) {
        if !self.is_port_taken() {
            return;
        }
        let port = self.device().listen_port;
        let then = match self.is_up() {
            true => format!(
                "none of its own is bound to {}, and nothing is received",
                self.describe_place()
            ),
            false => "it cannot be set up".to_owned(),
        };
        let free = match self.facts.free_port {
            Some(port) => port.to_string(),
            None => "PORT".to_owned(),
        };
        report.add(
            Code::PortTaken,
            Some(self.name()),
            format!("another socket has its UDP port {port}, so {then}"),
            run(format!("wg set {} listen-port {free}", quote(self.name()))),
        );
    }

    // Its mark.

    fn report_mark(&self, report: &mut Report) {
        let mark = self.device().fwmark;
        if mark == 0 {
            return;
        }
        let taken = self.facts.vrf_of_table(mark);
        let bound = matches!(self.sends, Sends::Attribute { .. } | Sends::Rules { .. });
        if let Some(vrf) = taken.filter(|_| bound) {
            report.add(
                Code::MarkIsTable,
                Some(self.name()),
                format!(
                    "its fwmark {mark:#x} is also the number of {}'s table {mark}: wg-quick with \
                     Table=auto would put its default route there and delete the table's rules",
                    vrf.link.name
                ),
                self.change_mark(u32::MAX),
            );
        }
        for (who, bits) in super::host::find_mark_users(self.facts) {
            if mark & bits == 0 {
                continue;
            }
            report.add(
                Code::MarkShared,
                Some(self.name()),
                format!(
                    "its fwmark {mark:#x} has bits that {who} uses here ({bits:#x}), so either may \
                     change or misread the other's"
                ),
                self.change_mark(bits),
            );
        }
    }

    /// Whether a rule of others goes by exactly its mark, as those of wg-quick do. What cannot be read
    /// may.
    fn has_rule_for_mark(&self) -> bool {
        let mark = self.device().fwmark;
        self.facts.rules.as_ref().map_or(true, |rules| {
            let mut rules = rules.iter_rules();
            rules.any(|(_, rule)| !rule.is_ours() && (rule.mark, rule.mask) == (mark, u32::MAX))
        })
    }

    /// A mark without these bits, or none.
    fn change_mark(&self, bits: u32) -> Remedy {
        let name = quote(self.name());
        match &self.sends {
            Sends::Attribute { .. } if self.has_rule_for_mark() => advise(
                "choose another mark, and change the rules that go by this one with it: those of \
                 wg-quick by its `FwMark'",
            ),
            Sends::Attribute { .. } => run(format!("wg set {name} fwmark off")),
            Sends::Unbound | Sends::Unknown => {
                advise("choose another FwMark, in the file or the program that set this one")
            }
            Sends::Rules { table, .. } => {
                let mark = default_mark(table.unwrap_or(0));
                let other = mark != self.device().fwmark && (bits == u32::MAX || mark & bits == 0);
                if other {
                    return self.bind_again(&format!("fwmark {mark:#x} "));
                }
                let dev = self.bind_name().unwrap_or_else(|| "VRF".to_owned());
                run(format!(
                    "WG_BIND_DEV_MODE=port wg set {name} fwmark off bind-dev {}",
                    quote(&dev)
                ))
            }
        }
    }
}

/// The interface behind an address, where the kernel looks at it before anything else.
fn scope_of(endpoint: SocketAddr) -> u32 {
    match endpoint {
        SocketAddr::V6(v6) if v6.ip().is_unicast_link_local() || v6.ip().is_multicast() => {
            v6.scope_id()
        }
        _ => 0,
    }
}

fn family_of(ip: IpAddr) -> Family {
    match ip {
        IpAddr::V4(_) => Family::V4,
        IpAddr::V6(_) => Family::V6,
    }
}

/// The option of ip(8).
fn name_option(family: Family) -> &'static str {
    match family {
        Family::V4 => "",
        Family::V6 => "-6 ",
    }
}

/// Puts an `l3mdev` rule before the one with this priority. With what a finding says of later rules:
/// none gets in front of one at 0.
fn put_l3mdev_in_front(family: Family, captor: Option<u32>) -> (Remedy, &'static str) {
    let pref = match captor {
        // What is added at 0 comes behind it.
        Some(0) => {
            let words = "delete the rule at priority 0 with all that `ip rule' shows of it, and add \
                it again behind the rule `l3mdev': nothing can be put before it";
            return (advise(words), "");
        }
        Some(1) => 0,
        Some(_) | None => 1,
    };
    let command = format!("ip {}rule add pref {pref} l3mdev", name_option(family));
    (run(command), if pref == 0 { "" } else { LATER_RULES })
}

fn write_addresses(ips: &[IpAddr]) -> Vec<String> {
    ips.iter().map(IpAddr::to_string).collect()
}

/// The device that it is bound to. Of several VRFs with the table of its rules: the one that its
/// entry at the bind hooks names, or that a socket on its port is bound to.
fn find_carrier<'a>(facts: &'a Facts, tunnel: &Tunnel, sends: &Sends) -> Option<&'a Nic> {
    let table = match sends {
        Sends::Unbound | Sends::Unknown => return None,
        Sends::Attribute { dev } => return facts.nic_called(dev),
        Sends::Rules { table, .. } => (*table)?,
    };
    let device = &tunnel.device;
    let entries = facts.hooks.entries.as_deref().unwrap_or_default();
    let is_named = |vrf: &Nic| {
        entries
            .iter()
            .any(|(port, entry)| *port == device.listen_port && vrf.link.is_called(&entry.vrf))
    };
    let has_socket = |vrf: &Nic| {
        facts
            .sockets
            .iter()
            .flatten()
            .any(|one| one.port == device.listen_port && one.device == vrf.link.index)
    };
    let all = || {
        facts
            .nics
            .iter()
            .filter(|nic| nic.link.vrf_table == Some(table))
    };
    all()
        .find(|vrf| is_named(vrf))
        .or_else(|| all().find(|vrf| has_socket(vrf)))
        .or_else(|| all().next())
}

fn find_sends(facts: &Facts, tunnel: &Tunnel) -> Sends {
    if !tunnel.attribute.is_empty() {
        return Sends::Attribute {
            dev: tunnel.attribute.clone(),
        };
    }
    let Device {
        fwmark,
        listen_port,
        ..
    } = tunnel.device;
    let Ok(rules) = &facts.rules else {
        // Without both nothing could tell its packets.
        let blank = fwmark == 0 && listen_port == 0;
        return if blank {
            Sends::Unbound
        } else {
            Sends::Unknown
        };
    };
    if let Some(binding) = rules.find_binding(fwmark, listen_port) {
        return Sends::Rules {
            by: binding.by,
            table: binding.table,
            ours: true,
        };
    }
    find_foreign_rules(facts, rules, fwmark, listen_port).unwrap_or(Sends::Unbound)
}

/// Rules of the administrator that lead the device's packets to the table of a VRF.
fn find_foreign_rules(facts: &Facts, rules: &Rules, mark: u32, port: u16) -> Option<Sends> {
    let by_mark = (mark != 0).then_some(Selector::Mark(mark));
    let by_port = (port != 0).then_some(Selector::Port(port));
    for by in [by_port, by_mark].into_iter().flatten() {
        let flow = Flow { by, mark, port };
        let found = facts
            .nics
            .iter()
            .filter_map(|nic| nic.link.vrf_table)
            .find(|table| {
                rules
                    .iter_rules()
                    .any(|(_, rule)| rule.steers(flow, *table))
            });
        if found.is_some() {
            return Some(Sends::Rules {
                by,
                table: found,
                ours: false,
            });
        }
    }
    None
}
