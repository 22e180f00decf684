// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The policy rules of the fwmark fallback: what a rule does, and where ours go. Pure.
//!
//! The fallback steers a device's mark M into the table T of a VRF, in each address family:
//!
//! ```text
//! 97:  from all fwmark M lookup T      proto 119
//! 98:  from all fwmark M unreachable   proto 119
//! ```
//!
//! The second rule closes it: when T has no route (VRF down, deleted, no default route) the
//! lookup falls through to main, and the ciphertext would leave by the wrong VRF. The pair must
//! come before every other rule that could answer for the mark, so its place is computed: 97 and
//! 98 unless a rule of somebody else comes earlier. A rule added without a priority, as wg-quick
//! adds its own, lands one before the second rule in the list, so it can get ahead of the pair.
//! The next command that binds moves the pair to the front again.

use std::fmt;

/// The rule protocol (FRA_PROTOCOL) that tells our rules from everyone else's: 'w'. Not in
/// linux/rtnetlink.h and not in iproute2's rt_protos.
pub const RULE_PROTOCOL: u8 = 119;

/// Where the pair goes when nothing is in the way: before l3mdev (1000) with room below for
/// rules that are added without a priority.
const LOOKUP_PREF: u32 = 97;

/// Marks of our own choosing: 'w' 'g' and the low half of the table's number. Never the bare
/// number of the table: wg-quick takes a device's mark for the number of a table of its own.
const MARK_PREFIX: u32 = 0x7767_0000;

/// `RT_TABLE_LOCAL`
pub(super) const TABLE_LOCAL: u32 = 255;

/// The mark for a table when nobody gave one.
pub fn default_mark(table: u32) -> u32 {
    MARK_PREFIX | (table & 0xffff)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub const ALL: [Family; 2] = [Family::V4, Family::V6];
}

/// What a policy rule does with what it matches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Action {
    Table(u32),
    Unreachable,
    Nop,
    Goto,
    /// Prohibit, blackhole, or news.
    #[default]
    Other,
}

/// A policy rule, reduced to what decides whether it touches marked packets of this host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    pub pref: u32,
    pub mark: u32,
    /// 0: the mark is not looked at.
    pub mask: u32,
    pub protocol: u8,
    pub action: Action,
    /// `not`
    pub invert: bool,
    /// Matches only packets that belong to a VRF already.
    pub l3mdev: bool,
    /// `iif lo`: what this host sends itself.
    pub local_output: bool,
    /// `iif` of another interface: never what this host sends itself.
    pub forwarded_only: bool,
    /// `suppress_prefixlength` or `suppress_ifgroup`
    pub suppress: bool,
    /// Looks at more than mark and input interface.
    pub narrowed: bool,
}

impl Rule {
    pub(super) fn new_ours(pref: u32, mark: u32, action: Action) -> Self {
        Rule {
            pref,
            mark,
            mask: u32::MAX,
            protocol: RULE_PROTOCOL,
            action,
            ..Rule::default()
        }
    }

    /// Whether we added it.
    pub fn is_ours(&self) -> bool {
        self.protocol == RULE_PROTOCOL
            && self.mask == u32::MAX
            && self.mark != 0
            && !self.invert
            && !self.narrowed
            && matches!(self.action, Action::Table(_) | Action::Unreachable)
    }

    pub(super) fn looks_at(&self, mark: u32) -> bool {
        self.mask != 0 && !self.invert && (self.mark ^ mark) & self.mask == 0
    }

    /// Whether it takes everything with this mark that the host sends to this table.
    pub(super) fn steers(&self, mark: u32, table: u32) -> bool {
        self.looks_at(mark)
            && !self.narrowed
            && !self.suppress
            && !self.forwarded_only
            && !self.l3mdev
            && self.action == Action::Table(table)
    }

    /// Whether it could decide about a packet with this mark before the pair does.
    pub(super) fn captures(&self, mark: u32, table: u32) -> bool {
        if self.is_ours() {
            // Another mark's is not for us, this mark's are the subject.
            return false;
        }
        let matches = if self.invert {
            // "not fwmark M" leaves M alone; a further selector might miss the packet.
            (self.mask != 0 && (self.mark ^ mark) & self.mask != 0)
                || self.narrowed
                || self.forwarded_only
                || self.l3mdev
        } else {
            !self.forwarded_only && !self.l3mdev && (self.mask == 0 || self.looks_at(mark))
        };
        let decides = match self.action {
            Action::Nop | Action::Table(TABLE_LOCAL) => false,
            Action::Table(to) => to != table,
            Action::Unreachable | Action::Goto | Action::Other => true,
        };
        matches && decides
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
        match self.action {
            Action::Table(table) => write!(f, " lookup {table}"),
            Action::Unreachable => f.write_str(" unreachable"),
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

    /// All rules with their family.
    pub fn all(&self) -> impl Iterator<Item = (Family, &Rule)> {
        Family::ALL.into_iter().flat_map(|f| {
            self.in_family(f)
                .unwrap_or_default()
                .iter()
                .map(move |r| (f, r))
        })
    }

    /// The rules that we added.
    pub fn ours(&self) -> impl Iterator<Item = (Family, &Rule)> {
        self.all().filter(|(_, rule)| rule.is_ours())
    }

    /// The marks of the rules that we added, each once.
    pub fn our_marks(&self) -> Vec<u32> {
        let mut marks: Vec<u32> = self.ours().map(|(_, rule)| rule.mark).collect();
        marks.sort_unstable();
        marks.dedup();
        marks
    }

    /// The rules that we added for this mark.
    pub fn ours_for(&self, mark: u32) -> Vec<(Family, Rule)> {
        self.ours()
            .filter(|(_, rule)| rule.mark == mark)
            .map(|(family, rule)| (family, *rule))
            .collect()
    }

    /// The binding that these rules give a device with this mark.
    pub fn find_binding(&self, mark: u32) -> Option<Binding> {
        if mark == 0 || !self.ours().any(|(_, rule)| rule.mark == mark) {
            return None;
        }
        let to_table = |rule: &Rule| match rule.action {
            Action::Table(table) if rule.steers(mark, table) => Some(table),
            _ => None,
        };
        let table = self
            .ours()
            .chain(self.all())
            .find_map(|(_, rule)| to_table(rule));
        Some(Binding { mark, table })
    }
}

/// A device's present fallback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    pub mark: u32,
    /// `None` when only the fail-closed rule is left.
    pub table: Option<u32>,
}

impl Binding {
    /// Whether we chose the mark, so that it goes with the binding.
    pub(super) fn mark_is_ours(&self) -> bool {
        match self.table {
            Some(table) => self.mark == default_mark(table),
            None => self.mark & 0xffff_0000 == MARK_PREFIX,
        }
    }
}

/// Our rules of one family for a mark.
pub(super) struct Place {
    pub rules: Vec<Rule>,
    /// Somebody else's rule does the lookup.
    pub adopted: bool,
}

/// Finds the place for the pair, or the one it has; `None` when there is none.
pub(super) fn find_place(rules: &[Rule], mark: u32, table: u32) -> Option<Place> {
    let first = rules.iter().position(|rule| rule.captures(mark, table));
    let before = &rules[..first.unwrap_or(rules.len())];
    let limit = first.map(|at| rules[at].pref);

    let closes =
        |rule: &Rule| rule.is_ours() && rule.mark == mark && rule.action == Action::Unreachable;
    let opens = |rule: &Rule| rule.is_ours() && rule.steers(mark, table);
    // The fail-closed rule behind the rule at `at`, if it is there and in time.
    let closed_behind = |at: usize| before[at + 1..].iter().find(|rule| closes(rule)).copied();
    let closed_before = |at: usize| before[..at].iter().any(closes);

    // Somebody else's rule that comes in time is as good as ours.
    let theirs = before
        .iter()
        .position(|rule| !rule.is_ours() && rule.steers(mark, table));
    if let Some(at) = theirs {
        let rule = closed_behind(at)
            .filter(|_| !closed_before(at))
            .or_else(|| {
                let pref = before[at].pref;
                // Right behind it. At the same priority the kernel puts the newer one last.
                let pref = match limit {
                    Some(limit) if limit <= pref => return None,
                    Some(limit) if limit == pref + 1 => pref,
                    _ => pref + 1,
                };
                Some(Rule::new_ours(pref, mark, Action::Unreachable))
            });
        if let Some(rule) = rule {
            return Some(Place {
                rules: vec![rule],
                adopted: true,
            });
        }
    }

    let pair = before
        .iter()
        .position(opens)
        .filter(|at| !closed_before(*at))
        .and_then(|at| Some(vec![before[at], closed_behind(at)?]));
    if let Some(rules) = pair {
        return Some(Place {
            rules,
            adopted: false,
        });
    }
    let (open, close) = match limit {
        Some(0) => return None,
        // Two at one priority keep the order in which they are added.
        Some(limit) if limit <= 2 => (limit - 1, limit - 1),
        Some(limit) if limit <= LOOKUP_PREF + 1 => (limit - 2, limit - 1),
        _ => (LOOKUP_PREF, LOOKUP_PREF + 1),
    };
    Some(Place {
        rules: vec![
            Rule::new_ours(open, mark, Action::Table(table)),
            Rule::new_ours(close, mark, Action::Unreachable),
        ],
        adopted: false,
    })
}
