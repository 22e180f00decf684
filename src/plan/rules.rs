// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The policy rules of the fallback: what a rule does, and where ours go. Pure.
//!
//! The fallback steers the packets of a device into the table T of a VRF, in each address family.
//! A mark M selects them, or with `WG_BIND_DEV_MODE=port` their source port P:
//!
//! ```text
//! 97:  from all fwmark M lookup T                        proto 119
//! 98:  from all fwmark M unreachable                     proto 119
//!
//! 97:  from all iif lo ipproto udp sport P lookup T      proto 119
//! 98:  from all iif lo ipproto udp sport P unreachable   proto 119
//! ```
//!
//! The second rule closes it: when T has no route (VRF down, deleted, no default route) the
//! lookup falls through to main, and the ciphertext would leave by the wrong VRF.
//!
//! The pair must come before every other rule that could answer for these packets. Its place is
//! computed from the rules of others alone, each time anew, so that it does not wander:
//!
//! - at home (97 and 98) unless a foreign rule comes before that;
//! - else right before that rule;
//! - where little room is left before it, at priority 0, behind `local`. A rule without a
//!   priority gets one less than the second rule in the list, so the pair would soon be at 1, and
//!   the next one without a priority at 0 in front of it, for good. At 0 nothing gets ahead of
//!   the pair any more. It is the last resort, because all rules without a priority then
//!   keep the order in which they are added instead of the reverse.
//!
//! A rule without a priority, as wg-quick adds its own, can get ahead of a pair that is not at 0.
//! The next command that binds moves the pair to the front again, or back home.

use std::fmt;

use crate::model::{Action, Family, Fault, Rule, Selector};

/// The rule protocol (FRA_PROTOCOL) that tells our rules from everyone else's: 'w'. Not in
/// linux/rtnetlink.h and not in iproute2's rt_protos.
pub const RULE_PROTOCOL: u8 = 119;

/// Where the pair goes when nothing is in the way: before l3mdev (1000) with room below for
/// rules that are added without a priority.
const HOME: u32 = 97;

/// The pair is not put lower than this, but to 0: rules without a priority that arrive
/// between two commands still find room behind 0.
const LOWEST: u32 = 16;

/// Marks of our own choosing: 'w' in the top byte, and the low byte of the table's number.
/// Never the bare number of the table: wg-quick takes a device's mark for the number of a table
/// of its own. The bits between are left to others: 0x3f00 (mwan3; Cilium has 0x0f00 of them),
/// 0x4000 and 0x8000 (kube-proxy), 0xff0000 (Tailscale, and the low half of Calico's mask).
const MARK_PREFIX: u32 = 0x7700_0000;
const MARK_PREFIX_MASK: u32 = 0xffff_ff00;

/// What earlier versions chose; such a mark goes with its binding.
const OLD_MARK_PREFIX: u32 = 0x7767_0000;

/// `RT_TABLE_LOCAL`
pub const TABLE_LOCAL: u32 = 255;

const PROTO_UDP: u8 = 17;

/// The marks for a table when the user gave none, the best first.
pub(super) fn default_marks(table: u32) -> impl Iterator<Item = u32> {
    (0..=0xff).map(move |step| MARK_PREFIX | (table.wrapping_add(step) & 0xff))
}

/// The mark for a table when the user gave none and this one is free.
pub fn default_mark(table: u32) -> u32 {
    MARK_PREFIX | (table & 0xff)
}

/// Whether it is one of [`default_marks`].
pub fn is_default_mark(mark: u32) -> bool {
    mark & MARK_PREFIX_MASK == MARK_PREFIX
}

/// Whether we chose this mark, so that it goes with the binding and need not be written down.
pub fn is_our_mark(mark: u32) -> bool {
    is_default_mark(mark) || mark & 0xffff_0000 == OLD_MARK_PREFIX
}

/// The packets that a device sends.
#[derive(Clone, Copy, Debug)]
pub struct Flow {
    /// What our rules know them by.
    pub by: Selector,
    /// What rules of others see in any case.
    pub mark: u32,
    /// 0 where no rule asks.
    pub port: u16,
}

impl Flow {
    pub fn marked(mark: u32) -> Self {
        Flow {
            by: Selector::Mark(mark),
            mark,
            port: 0,
        }
    }
}

/// Whether a rule matches the packets of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Match {
    Never,
    /// Some of them, or it cannot be told.
    Some,
    All,
}

impl Rule {
    pub fn new_ours(pref: u32, by: Selector, action: Action) -> Self {
        let rule = Rule {
            pref,
            protocol: RULE_PROTOCOL,
            action,
            ..Rule::default()
        };
        match by {
            Selector::Mark(mark) => Rule {
                mark,
                mask: u32::MAX,
                ..rule
            },
            Selector::Port(port) => Rule {
                // Without it, packets of others that this host forwards would be taken too.
                local_output: true,
                ip_proto: PROTO_UDP,
                source_ports: Some((port, port)),
                ..rule
            },
        }
    }

    /// What a rule that we added selects by; `None` for rules of others.
    pub fn our_selector(&self) -> Option<Selector> {
        let by = match self.source_ports {
            None => Selector::Mark(self.mark),
            Some((port, _)) => Selector::Port(port),
        };
        let ours = Rule::new_ours(self.pref, by, self.action);
        let acts = matches!(self.action, Action::Table(_) | Action::Unreachable);
        let selects = by != Selector::Mark(0) && by != Selector::Port(0);
        (*self == ours && acts && selects).then_some(by)
    }

    /// Whether we added it.
    pub fn is_ours(&self) -> bool {
        self.our_selector().is_some()
    }

    /// Whether we added it for packets that this flow has.
    pub(super) fn is_ours_for(&self, flow: Flow) -> bool {
        match self.our_selector() {
            Some(Selector::Mark(mark)) => mark == flow.mark,
            Some(Selector::Port(port)) => port == flow.port,
            None => false,
        }
    }

    fn matches(&self, flow: Flow) -> Match {
        let ports = match (self.source_ports, flow.by) {
            (None, _) => Match::All,
            (Some(_), Selector::Mark(_)) => Match::Some,
            (Some((first, last)), Selector::Port(port)) if (first..=last).contains(&port) => {
                Match::All
            }
            (Some(_), Selector::Port(_)) => Match::Never,
        };
        let plain = if (self.mark ^ flow.mark) & self.mask != 0
            || self.forwarded_only
            || self.l3mdev
            || !matches!(self.ip_proto, 0 | PROTO_UDP)
        {
            Match::Never
        } else if self.narrowed && ports == Match::All {
            Match::Some
        } else {
            ports
        };
        match (self.invert, plain) {
            (true, Match::Never) => Match::All,
            (true, Match::All) => Match::Never,
            (_, plain) => plain,
        }
    }

    /// Whether it selects these packets by their mark or port, and not all packets.
    pub(super) fn looks_at(&self, flow: Flow) -> bool {
        let by = match flow.by {
            Selector::Mark(_) => self.mask != 0,
            Selector::Port(_) => self.source_ports.is_some(),
        };
        by && !self.invert && self.matches(flow) != Match::Never
    }

    /// Whether it takes all these packets to this table.
    pub fn steers(&self, flow: Flow, table: u32) -> bool {
        self.looks_at(flow)
            && self.matches(flow) == Match::All
            && !self.suppress
            && self.action == Action::Table(table)
    }

    /// Whether what it matches goes nowhere.
    fn drops(&self) -> bool {
        matches!(self.action, Action::Unreachable | Action::Drop)
    }

    /// Whether it could decide about these packets before the pair does.
    pub fn captures_flow(&self, flow: Flow, table: u32) -> bool {
        let decides = match self.action {
            Action::Nop | Action::Table(TABLE_LOCAL) => false,
            Action::Table(to) => to != table,
            Action::Unreachable | Action::Drop | Action::Goto | Action::Other => true,
        };
        // Another device's is not for these packets, and this device's are the subject.
        decides && !self.is_ours() && self.matches(flow) != Match::Never
    }
}

/// As `ip rule` prints it.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let not = if self.invert { "not " } else { "" };
        write!(f, "{}: {not}from all", self.pref)?;
        match self.mask {
            0 => {}
            u32::MAX => write!(f, " fwmark {:#x}", self.mark)?,
            mask => write!(f, " fwmark {:#x}/{mask:#x}", self.mark)?,
        }
        if self.local_output {
            f.write_str(" iif lo")?;
        }
        match self.ip_proto {
            0 => {}
            PROTO_UDP => f.write_str(" ipproto udp")?,
            other => write!(f, " ipproto {other}")?,
        }
        match self.source_ports {
            None => {}
            Some((first, last)) if first == last => write!(f, " sport {first}")?,
            Some((first, last)) => write!(f, " sport {first}-{last}")?,
        }
        match self.action {
            Action::Table(table) => write!(f, " lookup {table}"),
            Action::Unreachable => f.write_str(" unreachable"),
            Action::Drop => f.write_str(" prohibit or blackhole"),
            Action::Nop => f.write_str(" nop"),
            Action::Goto => f.write_str(" goto"),
            Action::Other => f.write_str(" (another action)"),
        }
    }
}

/// The rules of a namespace in the kernel's order; `None` where the family is off.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    pub v4: Option<Vec<Rule>>,
    pub v6: Option<Vec<Rule>>,
}

impl Rules {
    pub fn in_family(&self, family: Family) -> Option<&[Rule]> {
        match family {
            Family::V4 => self.v4.as_deref(),
            Family::V6 => self.v6.as_deref(),
        }
    }

    /// The families that are on, with their rules.
    pub fn iter_families(&self) -> impl Iterator<Item = (Family, &[Rule])> {
        Family::ALL
            .into_iter()
            .filter_map(|family| Some((family, self.in_family(family)?)))
    }

    /// All rules with their family.
    pub fn iter_rules(&self) -> impl Iterator<Item = (Family, &Rule)> {
        self.iter_families()
            .flat_map(|(family, rules)| rules.iter().map(move |rule| (family, rule)))
    }

    /// The rules that we added.
    pub fn iter_ours(&self) -> impl Iterator<Item = (Family, &Rule)> {
        self.iter_rules().filter(|(_, rule)| rule.is_ours())
    }

    /// What the rules that we added select by, each once.
    pub fn our_selectors(&self) -> Vec<Selector> {
        let mut selectors = Vec::new();
        for by in self.iter_ours().filter_map(|(_, rule)| rule.our_selector()) {
            if !selectors.contains(&by) {
                selectors.push(by);
            }
        }
        selectors
    }

    /// The rules that we added for these packets.
    pub fn ours_for(&self, by: Selector) -> Vec<(Family, Rule)> {
        self.iter_rules()
            .filter(|(_, rule)| rule.our_selector() == Some(by))
            .map(|(family, rule)| (family, *rule))
            .collect()
    }

    /// The binding that these rules give a device with this mark, on this port. Rules for the
    /// port come first: a mark beside them is the administrator's affair.
    pub fn find_binding(&self, mark: u32, port: u16) -> Option<Binding> {
        self.find_bindings(mark, port).into_iter().next()
    }

    /// The rules of each family by themselves.
    pub(super) fn split_families(&self) -> [Rules; 2] {
        let Rules { v4, v6 } = self.clone();
        [Rules { v4, v6: None }, Rules { v4: None, v6 }]
    }

    /// All bindings that these rules give a device with this mark, on this port: two when a
    /// command ended while it changed from the one to the other. If they lead to two tables, that one
    /// comes first that its packets come to first.
    pub fn find_bindings(&self, mark: u32, port: u16) -> Vec<Binding> {
        let mut bindings = Vec::new();
        for by in [Selector::Port(port), Selector::Mark(mark)] {
            if self.ours_for(by).is_empty() {
                continue;
            }
            let flow = Flow { by, mark, port };
            let to_table = |rule: &Rule| match rule.action {
                Action::Table(table) if rule.steers(flow, table) => Some(table),
                _ => None,
            };
            let table = self
                .iter_ours()
                .find_map(|(_, rule)| to_table(rule))
                .or_else(|| self.find_adopted_table(flow));
            bindings.push(Binding { by, table });
        }
        if let [by_port, by_mark] = &bindings[..] {
            let leads = |rule: &Rule, binding: &Binding| {
                let by = binding.by;
                binding
                    .table
                    .is_some_and(|table| rule.steers(Flow { by, mark, port }, table))
            };
            let first = self.iter_families().find_map(|(_, rules)| {
                let mut rules = rules.iter();
                rules.find(|rule| leads(rule, by_port) || leads(rule, by_mark))
            });
            if by_port.table != by_mark.table && first.is_some_and(|rule| leads(rule, by_mark)) {
                bindings.reverse();
            }
        }
        bindings
    }

    /// The table of the foreign lookup that a pair of ours goes by: the closing rule was put right
    /// behind it, and a lookup for the same packets that came later stands elsewhere. `None` also
    /// where nothing tells which of several it is.
    fn find_adopted_table(&self, flow: Flow) -> Option<u32> {
        let lookups = |rules: &[Rule]| -> Vec<(u32, u32)> {
            let steering = rules.iter().filter_map(|rule| match rule.action {
                Action::Table(table) if rule.steers(flow, table) => Some((rule.pref, table)),
                _ => None,
            });
            steering.collect()
        };
        let adopted = self.iter_families().find_map(|(_, rules)| {
            let close = rules
                .iter()
                .position(|rule| rule.our_selector() == Some(flow.by))?;
            let before = lookups(&rules[..close]);
            let pref = rules[close].pref;
            let at = |pref| before.iter().find(move |(p, _)| *p == pref);
            at(pref).or_else(|| at(pref.checked_sub(1)?)).copied()
        });
        if let Some((_, table)) = adopted {
            return Some(table);
        }
        let mut tables = self.iter_families().flat_map(|(_, rules)| lookups(rules));
        let (_, first) = tables.next()?;
        tables.all(|(_, table)| table == first).then_some(first)
    }

    /// These rules after a rule came or went, as the kernel does it: a new one goes behind all of
    /// its priority, and of two that are equal the first goes.
    pub(super) fn change_rule(&mut self, family: Family, rule: &Rule, add: bool) {
        let rules = match family {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        };
        let Some(rules) = rules else {
            return;
        };
        if add {
            insert_rule(rules, *rule);
        } else if let Some(at) = rules.iter().position(|r| r == rule) {
            rules.remove(at);
        }
    }

    /// What keeps these rules from holding the packets in the table, in each family.
    pub fn find_faults(&self, flow: Flow, table: u32) -> Vec<(Family, Fault)> {
        self.iter_families()
            .filter_map(|(family, rules)| Some((family, find_fault(rules, flow, table)?)))
            .collect()
    }
}

/// A device's present fallback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    pub by: Selector,
    /// `None` when only the fail-closed rule is left.
    pub table: Option<u32>,
}

impl Binding {
    /// Whether we chose the mark, so that it goes with the binding.
    pub(super) fn mark_is_ours(&self) -> bool {
        matches!(self.by, Selector::Mark(mark) if is_our_mark(mark))
    }
}

/// Walks packets through the rules of one family.
pub(super) fn find_fault(rules: &[Rule], flow: Flow, table: u32) -> Option<Fault> {
    let mut steered = false;
    // The other one of mark and port may have rules, too: ours, or those that an administrator
    // has for the mark of a device that is bound by its port.
    let steers = |rule: &Rule| {
        let by_mark = Flow::marked(flow.mark);
        rule.steers(flow, table)
            || flow.mark != 0 && rule.steers(by_mark, table)
            || rule.is_ours_for(flow) && rule.action == Action::Table(table)
    };
    for rule in rules {
        let ours = rule.is_ours_for(flow);
        if steers(rule) {
            steered = true;
        } else if ours && rule.action == Action::Unreachable {
            return (!steered).then_some(Fault::NotSteered);
        } else if steered && rule.drops() && rule.matches(flow) == Match::All {
            return None;
        } else if ours || rule.captures_flow(flow, table) {
            // Our rule to another table is as wrong as a foreign one.
            let first = rules.iter().any(steers);
            return Some(match (steered, first) {
                (true, _) => Fault::NotClosed,
                (false, true) => Fault::Overtaken { pref: rule.pref },
                (false, false) => Fault::NotSteered,
            });
        }
    }
    (!steered).then_some(Fault::NotSteered)
}

/// Our rules of one family for a flow, in their order.
pub(super) struct Place {
    pub rules: Vec<Rule>,
    /// A foreign rule does the lookup.
    pub adopted: bool,
}

/// Finds the place for a rule that stops a mark which has no pair, in front of our rules that go by one of
/// these ports; `None` where rules stop it already.
///
/// # Errors
/// The rule that nothing can be put before.
pub fn find_closing_place(
    rules: &[Rule],
    mark: u32,
    ports: &[u16],
) -> std::result::Result<Option<Rule>, Rule> {
    let mut rules = rules.to_vec();
    let by_port = |rule: &&mut Rule| match rule.our_selector() {
        Some(Selector::Port(port)) => ports.contains(&port),
        _ => false,
    };
    // To these packets such a rule of ours is another's.
    for rule in rules.iter_mut().filter(by_port) {
        rule.protocol = 0;
    }
    let place = find_place(&rules, Flow::marked(mark), 0)?;
    Ok(place.rules.first().copied())
}

/// Finds the place for the pair.
///
/// # Errors
/// The rule that nothing can be put before.
pub(super) fn find_place(
    rules: &[Rule],
    flow: Flow,
    table: u32,
) -> std::result::Result<Place, Rule> {
    let first = rules
        .iter()
        .position(|rule| rule.captures_flow(flow, table));
    let before = &rules[..first.unwrap_or(rules.len())];
    let limit = first.map(|at| rules[at].pref);
    let close = |pref| Rule::new_ours(pref, flow.by, Action::Unreachable);
    let open = |pref| Rule::new_ours(pref, flow.by, Action::Table(table));

    // A foreign rule that comes in time is as good as ours. The closing rule goes right
    // behind it; at the same priority the kernel puts the newer one last.
    let theirs = before
        .iter()
        .position(|rule| !rule.is_ours() && rule.steers(flow, table));
    if let Some(at) = theirs {
        let pref = before[at].pref;
        let behind = pref.saturating_add(1);
        let pref = match limit {
            Some(limit) if limit <= pref => None,
            Some(limit) if limit <= behind => Some(pref),
            _ => Some(behind),
        };
        let stands = || before[at + 1..].contains(&close(before[at].pref));
        if let Some(pref) = pref.or_else(|| stands().then_some(before[at].pref)) {
            return Ok(Place {
                rules: vec![close(pref)],
                adopted: true,
            });
        }
    }

    let mut pair = match limit {
        Some(0) => {
            // What is added now comes behind it. Only what stands before it already counts.
            let stands = before
                .iter()
                .position(|rule| *rule == open(0))
                .is_some_and(|at| before[at + 1..].contains(&close(0)));
            if !stands {
                return Err(rules[first.unwrap_or_default()]);
            }
            vec![open(0), close(0)]
        }
        Some(limit) if limit < LOWEST + 2 => vec![open(0), close(0)],
        Some(limit) if limit < HOME + 2 => vec![open(limit - 2), close(limit - 1)],
        _ => vec![open(HOME), close(HOME + 1)],
    };
    if table == 0 {
        // The table is unknown, so nothing leaves.
        pair.remove(0);
    }
    Ok(Place {
        rules: pair,
        adopted: false,
    })
}

/// What to add, then what to remove, so that of our rules for a flow only those of the place are
/// left, in its order. In between nothing is less closed than before.
pub(super) fn arrange_pair(
    rules: &[Rule],
    place: &Place,
    flow: Flow,
    table: u32,
) -> (Vec<Rule>, Vec<Rule>) {
    let mut model = rules.to_vec();
    let mut add = Vec::new();
    for rule in &place.rules {
        let there = match rule.action {
            // Only behind the lookup that stays: in front of it, it is a black hole.
            Action::Unreachable if table != 0 => model
                .iter()
                .position(|rule| {
                    let stays = !rule.is_ours() || place.rules.contains(rule);
                    stays && rule.steers(flow, table)
                })
                .is_some_and(|at| model[at + 1..].contains(rule)),
            _ => model.contains(rule),
        };
        if !there {
            add.push(*rule);
            insert_rule(&mut model, *rule);
        }
    }
    let ours = model
        .iter()
        .filter(|rule| rule.our_selector() == Some(flow.by));
    let mut remove: Vec<Rule> = ours.copied().collect();
    let mut without_twins = remove.clone();
    without_twins.retain(|rule| !place.rules.contains(rule));
    for rule in &place.rules {
        // One of each stays. Of two that are equal the kernel removes the first.
        if let Some(at) = remove.iter().rposition(|r| r == rule) {
            remove.remove(at);
        }
    }
    let holds = |remove: &[Rule]| {
        let mut left = model.clone();
        for rule in remove {
            let at = left.iter().position(|r| r == rule);
            at.map(|at| left.remove(at));
        }
        find_fault(&left, flow, table).is_none()
    };
    // The first may be the one that counts. What stands behind it is never asked, and may stay.
    if !holds(&remove) && holds(&without_twins) {
        remove = without_twins;
    }
    // Closing rules first: the lookups behind them come to life before those in front go.
    remove.sort_by_key(|rule| rule.action != Action::Unreachable);
    (add, remove)
}

/// Adds a rule as fib_nl_newrule() does: behind all of the same priority.
fn insert_rule(rules: &mut Vec<Rule>, rule: Rule) {
    let at = rules.partition_point(|r| r.pref <= rule.pref);
    rules.insert(at, rule);
}
