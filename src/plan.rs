// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! How a binding is achieved: the kernel's attribute, or the fwmark fallback.
//!
//! Pure: facts read from the kernel and an update go in; what to send, and which rules to add or
//! remove, comes out. No sockets here, so that every case is tested without a kernel.
//!
//! The fallback steers a device's mark M into the table T of a VRF, in each address family:
//!
//! ```text
//! 97:  from all fwmark M lookup T      proto 119
//! 98:  from all fwmark M unreachable   proto 119
//! ```
//!
//! The second rule keeps it closed: when T has no route (VRF down, deleted, no default route) the
//! lookup would fall through to main and the ciphertext would leave by the wrong VRF. The pair
//! has to come before every other rule that could answer for the mark, so its place is computed:
//! 97 and 98 unless a rule of somebody else comes earlier. (A rule added without a priority, as
//! wg-quick adds its own, lands one before the second rule in the list, so it can get ahead of
//! the pair; the next command that binds moves the pair to the front again.)

use crate::error::{Error, Result};
use crate::model::{Change, Update};

/// Which way to bind is allowed (`WG_BIND_DEV_MODE`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BindMode {
    /// The attribute where the kernel has it, else the fallback.
    #[default]
    Auto,
    /// The attribute or an error.
    Kernel,
    /// The fallback, whatever the kernel can do.
    Fwmark,
}

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
const TABLE_LOCAL: u32 = 255;

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
    fn ours(pref: u32, mark: u32, action: Action) -> Self {
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

    fn looks_at(&self, mark: u32) -> bool {
        self.mask != 0 && !self.invert && (self.mark ^ mark) & self.mask == 0
    }

    /// Whether it takes everything with this mark that the host sends to this table.
    fn steers(&self, mark: u32, table: u32) -> bool {
        self.looks_at(mark)
            && !self.narrowed
            && !self.suppress
            && !self.forwarded_only
            && !self.l3mdev
            && self.action == Action::Table(table)
    }

    /// Whether it could decide about a packet with this mark before the pair does.
    fn captures(&self, mark: u32, table: u32) -> bool {
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

    /// For messages: as `ip rule` prints it.
    pub fn text(&self) -> String {
        let mask = if self.mask == u32::MAX {
            String::new()
        } else {
            format!("/{:#x}", self.mask)
        };
        let not = if self.invert { "not " } else { "" };
        let mark = if self.mask == 0 {
            String::new()
        } else {
            format!(" fwmark {:#x}{mask}", self.mark)
        };
        let iif = if self.local_output { " iif lo" } else { "" };
        let action = match self.action {
            Action::Table(table) => format!("lookup {table}"),
            Action::Unreachable => "unreachable".into(),
            Action::Nop => "nop".into(),
            Action::Goto => "goto".into(),
            Action::Other => "(another action)".into(),
        };
        format!("{}: {not}from all{mark}{iif} {action}", self.pref)
    }
}

/// The rules of a namespace in the kernel's order; `None` where the family is off.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    pub v4: Option<Vec<Rule>>,
    pub v6: Option<Vec<Rule>>,
}

impl Rules {
    pub fn of(&self, family: Family) -> Option<&[Rule]> {
        match family {
            Family::V4 => self.v4.as_deref(),
            Family::V6 => self.v6.as_deref(),
        }
    }

    /// All rules with their family.
    pub fn all(&self) -> impl Iterator<Item = (Family, &Rule)> {
        Family::ALL
            .into_iter()
            .flat_map(|f| self.of(f).unwrap_or_default().iter().map(move |r| (f, r)))
    }

    /// The rules that we added.
    pub fn ours(&self) -> impl Iterator<Item = (Family, &Rule)> {
        self.all().filter(|(_, rule)| rule.is_ours())
    }

    /// The binding that these rules give a device with this mark.
    pub fn binding(&self, mark: u32) -> Option<Binding> {
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
    fn mark_is_ours(&self) -> bool {
        match self.table {
            Some(table) => self.mark == default_mark(table),
            None => self.mark & 0xffff_0000 == MARK_PREFIX,
        }
    }
}

/// The device that a binding names, as this namespace knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Target {
    /// The update names none.
    #[default]
    None,
    Missing,
    Vrf {
        table: u32,
    },
    /// Its link kind; empty for hardware.
    Other {
        kind: String,
    },
}

/// What was read before deciding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The kernel takes `WGDEVICE_A_BIND_DEV`. Never so for a userspace device.
    pub attribute: bool,
    pub userspace: bool,
    /// The device's present mark.
    pub mark: u32,
    pub target: Target,
    pub rules: Rules,
    /// The names of the VRFs here, by table.
    pub vrfs: Vec<(String, u32)>,
    /// Name and mark of every other WireGuard device here.
    pub others: Vec<(String, u32)>,
    /// Marks of devices in other namespaces, whose sockets may be here.
    pub elsewhere: Vec<u32>,
    /// Whether the device's sockets are in this namespace; `None` when it cannot be told.
    pub sockets_here: Option<bool>,
    /// wg-quick asks, and will add rules for a default route of its own.
    pub wg_quick: bool,
    /// `net.ipv4.udp_l3mdev_accept`; `None` when it cannot be read.
    pub l3mdev_accept: Option<bool>,
}

/// What to do, in this order: add, send, remove.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// What the device's fwmark attribute says.
    pub fwmark: Change<u32>,
    /// What the binding attribute says.
    pub bind_dev: Change<String>,
    pub add: Vec<(Family, Rule)>,
    pub remove: Vec<(Family, Rule)>,
    /// For the user, once all is done.
    pub notes: Vec<String>,
}

/// Marks of our rules that no device here carries: a deleted device left them.
pub fn unused_marks(rules: &Rules, facts_mark: u32, others: &[(String, u32)]) -> Vec<u32> {
    let mut marks: Vec<u32> = rules.ours().map(|(_, rule)| rule.mark).collect();
    marks.sort_unstable();
    marks.dedup();
    marks.retain(|mark| *mark != facts_mark && others.iter().all(|(_, other)| other != mark));
    marks
}

/// Decides.
///
/// # Errors
/// The binding cannot be had; nothing has been changed.
pub fn plan(facts: &Facts, update: &Update, mode: BindMode) -> Result<Plan> {
    let present = facts.rules.binding(facts.mark);
    match &update.bind_dev {
        Change::Keep => keep(facts, update, present),
        Change::Clear => clear(facts, update, present),
        Change::Set(name) => match mode {
            BindMode::Auto | BindMode::Kernel if facts.attribute => {
                attribute(facts, update, name, present)
            }
            BindMode::Kernel => Err(no_attribute(facts, update, name)),
            BindMode::Auto => {
                let why = if facts.userspace {
                    "userspace devices cannot be bound to a device"
                } else {
                    "kernel lacks WGDEVICE_A_BIND_DEV"
                };
                fallback(facts, update, name, present, why)
            }
            BindMode::Fwmark => {
                fallback(facts, update, name, present, "WG_BIND_DEV_MODE is fwmark")
            }
        },
    }
}

fn no_attribute(facts: &Facts, update: &Update, name: &str) -> Error {
    let interface = &update.interface;
    Error::Unsupported(if facts.userspace {
        format!(
            "Cannot bind {interface} to `{name}': it is a userspace device, whose interface \
             has no such setting; WG_BIND_DEV_MODE=auto uses policy rules instead"
        )
    } else {
        format!(
            "Cannot bind {interface} to `{name}': this kernel's WireGuard lacks \
             WGDEVICE_A_BIND_DEV; load the patched module, or let WG_BIND_DEV_MODE=auto use \
             policy rules"
        )
    })
}

/// The update does not speak of the binding, but maybe of the mark that carries it.
fn keep(facts: &Facts, update: &Update, present: Option<Binding>) -> Result<Plan> {
    let unchanged = Plan {
        fwmark: update.fwmark.clone(),
        ..Plan::default()
    };
    let Some(present) = present else {
        return Ok(unchanged);
    };
    match update.fwmark {
        Change::Keep => return Ok(unchanged),
        Change::Set(mark) if mark == present.mark => return Ok(unchanged),
        Change::Set(_) | Change::Clear => {}
    }
    let interface = &update.interface;
    let Some(table) = present.table else {
        return Err(Error::Unsupported(format!(
            "Cannot change the fwmark of {interface}: it carries the binding to a VRF, and no \
             rule says which one any more; bind again or unbind with `bind-dev off'"
        )));
    };
    let name = facts
        .vrfs
        .iter()
        .find(|(_, t)| *t == table)
        .map_or_else(|| format!("table {table}"), |(name, _)| name.clone());
    let facts = Facts {
        target: Target::Vrf { table },
        ..facts.clone()
    };
    let mut plan = fallback(
        &facts,
        update,
        &name,
        Some(present),
        &format!("bound to {name}"),
    )?;
    plan.bind_dev = Change::Keep;
    if matches!(update.fwmark, Change::Clear | Change::Set(0)) {
        plan.notes.push(format!(
            "{interface}: the fwmark is not off, because it carries the binding to {name}; \
             `bind-dev off' removes both"
        ));
    }
    Ok(plan)
}

fn clear(facts: &Facts, update: &Update, present: Option<Binding>) -> Result<Plan> {
    let mut plan = Plan {
        fwmark: update.fwmark.clone(),
        bind_dev: if facts.attribute {
            Change::Clear
        } else {
            Change::Keep
        },
        ..Plan::default()
    };
    leave(facts, update, present, &mut plan, "stays bound")?;
    Ok(plan)
}

/// Binds by the kernel's attribute; a fallback that is there has served.
fn attribute(facts: &Facts, update: &Update, name: &str, present: Option<Binding>) -> Result<Plan> {
    let mut plan = Plan {
        fwmark: update.fwmark.clone(),
        bind_dev: Change::Set(name.to_owned()),
        ..Plan::default()
    };
    leave(facts, update, present, &mut plan, "still uses its rules")?;
    if let Some(Binding { mark, .. }) = present {
        plan.notes.push(format!(
            "{}: bound to {name} by the kernel, the rules for fwmark {mark:#x} are not needed \
             any more",
            update.interface
        ));
    }
    Ok(plan)
}

/// Ends a fallback: the mark goes if it was ours, the rules go if nobody else needs them.
fn leave(
    facts: &Facts,
    update: &Update,
    present: Option<Binding>,
    plan: &mut Plan,
    stays: &str,
) -> Result<()> {
    let interface = &update.interface;
    if let Some(present) = present {
        if update.fwmark.is_keep() && present.mark_is_ours() {
            plan.fwmark = Change::Clear;
        }
        let marked = match plan.fwmark {
            Change::Keep => true,
            Change::Set(mark) => mark == present.mark,
            Change::Clear => false,
        };
        let sharing: Vec<_> = sharing(facts, present.mark).collect();
        if sharing.is_empty() {
            plan.remove_mark(facts, present.mark);
        } else if marked {
            // The rules go by the mark alone: they would keep this device where it is.
            return Err(Error::Unsupported(format!(
                "Cannot unbind {interface}: it has its fwmark {:#x} in common with {}, which \
                 {stays}; give {interface} another fwmark (or off) in the same command",
                present.mark,
                sharing.join(", "),
            )));
        }
        let admins = facts.rules.all().find(|(_, rule)| {
            !rule.is_ours() && present.table.is_some_and(|t| rule.steers(present.mark, t))
        });
        if let Some((_, rule)) = admins
            && marked
        {
            plan.notes.push(format!(
                "{interface}: fwmark {:#x} stays, and the rule `{}', which is not ours, still \
                 acts on it",
                present.mark,
                rule.text()
            ));
        }
    }
    // The mark after this update counts as used, whoever wrote its rules.
    let mark = mark_after(facts, &plan.fwmark);
    plan.remove_leftovers(facts, mark);
    Ok(())
}

fn mark_after(facts: &Facts, fwmark: &Change<u32>) -> u32 {
    match fwmark {
        Change::Keep => facts.mark,
        Change::Set(mark) => *mark,
        Change::Clear => 0,
    }
}

/// The other devices with this mark.
fn sharing(facts: &Facts, mark: u32) -> impl Iterator<Item = &str> {
    facts
        .others
        .iter()
        .filter(move |(_, other)| *other == mark)
        .map(|(name, _)| name.as_str())
}

fn remove_all(rules: &Rules, which: impl Fn(&Rule) -> bool) -> Vec<(Family, Rule)> {
    rules
        .ours()
        .filter(|(_, rule)| which(rule))
        .map(|(family, rule)| (family, *rule))
        .collect()
}

impl Plan {
    /// Rules of devices that are gone go too.
    fn remove_leftovers(&mut self, facts: &Facts, mark: u32) {
        for unused in unused_marks(&facts.rules, facts.mark, &facts.others) {
            if unused != mark {
                self.remove_mark(facts, unused);
            }
        }
    }

    /// The rules of a mark that no device here has any more, unless a device in another
    /// namespace lives on them: its sockets are where it was created, and without the rules it
    /// would leak.
    fn remove_mark(&mut self, facts: &Facts, mark: u32) {
        if facts.elsewhere.contains(&mark) {
            self.notes.push(format!(
                "the rules for fwmark {mark:#x} stay: a WireGuard device in another network \
                 namespace has that mark"
            ));
            return;
        }
        let rules = remove_all(&facts.rules, |rule| rule.mark == mark);
        self.remove.extend(rules);
    }
}

fn fallback(
    facts: &Facts,
    update: &Update,
    name: &str,
    present: Option<Binding>,
    why: &str,
) -> Result<Plan> {
    let interface = &update.interface;
    let table = vrf_table(interface, name, &facts.target)?;
    if facts.sockets_here == Some(false) {
        return Err(Error::Unsupported(format!(
            "Cannot bind {interface} to `{name}': its sockets are not in this network \
             namespace but in the one where it was created, and policy rules here cannot reach \
             them; bind it there before moving it, or use a kernel with WGDEVICE_A_BIND_DEV"
        )));
    }
    if Family::ALL.iter().all(|f| facts.rules.of(*f).is_none()) {
        return Err(Error::Unsupported(format!(
            "Cannot bind {interface} to `{name}': this kernel has neither WGDEVICE_A_BIND_DEV \
             nor policy rules (CONFIG_IP_MULTIPLE_TABLES)"
        )));
    }
    let mark = choose_mark(facts, update, table, present);
    check_conflicts(facts, interface, mark, table)?;

    let mut plan = Plan::default();
    if mark != facts.mark || !update.fwmark.is_keep() {
        plan.fwmark = Change::Set(mark);
    }
    if facts.attribute {
        // Forced: a binding by attribute would win, so it has to go.
        plan.bind_dev = Change::Clear;
    }

    let mut wanted = Vec::new();
    let mut theirs = false;
    for family in Family::ALL {
        let Some(rules) = facts.rules.of(family) else {
            continue;
        };
        let place = place(rules, mark, table).ok_or_else(|| {
            Error::Unsupported(format!(
                "Cannot bind {interface} to `{name}': the rule `{}' comes before any that \
                 could be added, so packets with fwmark {mark:#x} would not be kept in {name}",
                rules
                    .iter()
                    .find(|rule| rule.captures(mark, table))
                    .map(Rule::text)
                    .unwrap_or_default()
            ))
        })?;
        theirs |= place.adopted;
        wanted.extend(place.rules.into_iter().map(|rule| (family, rule)));
    }
    for rule in &wanted {
        if !facts.rules.ours().any(|(f, r)| (f, *r) == *rule) {
            plan.add.push(*rule);
        }
    }
    // What this mark does not need any more, and what the mark in front of it needed.
    plan.remove = remove_all(&facts.rules, |rule| rule.mark == mark);
    plan.remove.retain(|rule| !wanted.contains(rule));
    let left = present
        .map(|b| b.mark)
        .filter(|old| *old != mark && sharing(facts, *old).next().is_none());
    if let Some(old) = left {
        plan.remove_mark(facts, old);
    }
    plan.remove_leftovers(facts, mark);

    let whose = if theirs {
        " (a rule that was there)"
    } else {
        ""
    };
    plan.notes.insert(
        0,
        format!("{interface}: {why}, using fwmark {mark:#x} via table {table}{whose}"),
    );
    if mark == table {
        plan.notes.push(format!(
            "{interface}: fwmark {mark} is also the number of {name}'s table: wg-quick with \
             Table=auto would put its default route there and delete the table's rules; choose \
             another fwmark, or set Table=off"
        ));
    }
    if facts.wg_quick {
        plan.notes.push(format!(
            "{interface}: wg-quick puts rules of its own in front of these, and then a route of \
             the main table to a peer wins over {name}; `PostUp = wg set %i bind-dev {name}' or \
             `Table = off' prevents it"
        ));
    }
    let unbound: Vec<_> = sharing(facts, mark)
        .filter(|_| facts.rules.binding(mark).is_none())
        .collect();
    if !unbound.is_empty() {
        plan.notes.push(format!(
            "{interface}: fwmark {mark:#x} is also that of {}, which goes to {name} with it",
            unbound.join(", ")
        ));
    }
    if facts.l3mdev_accept == Some(false) {
        plan.notes.push(format!(
            "{interface}: packets that arrive in {name} will not reach it while \
             net.ipv4.udp_l3mdev_accept is 0; `sysctl -w net.ipv4.udp_l3mdev_accept=1' lets them \
             in, and opens every other unbound UDP socket to the VRFs as well"
        ));
    }
    Ok(plan)
}

fn vrf_table(interface: &str, name: &str, target: &Target) -> Result<u32> {
    match target {
        Target::Vrf { table } => Ok(*table),
        Target::None | Target::Missing => Err(Error::Os {
            what: format!("Cannot bind {interface} to `{name}'"),
            errno: libc::ENODEV,
            extack: Some(format!(
                "create it first: ip link add {name} type vrf table TABLE"
            )),
        }),
        Target::Other { kind } => {
            let kind = match kind.as_str() {
                "" => "a plain network device".to_owned(),
                kind => format!("a device of type {kind}"),
            };
            Err(Error::Unsupported(format!(
                "Cannot bind {interface} to `{name}': it is {kind}, not a VRF, and this takes \
                 a kernel whose WireGuard has WGDEVICE_A_BIND_DEV; the fallback steers by \
                 routing table, and only a VRF has one"
            )))
        }
    }
}

/// The mark that carries the binding.
fn choose_mark(facts: &Facts, update: &Update, table: u32, present: Option<Binding>) -> u32 {
    if let Change::Set(mark) = update.fwmark
        && mark != 0
    {
        return mark;
    }
    // A configuration that states no mark states that there is none; so only "keep" keeps. A
    // mark of our own choosing belongs to the old table and is chosen anew.
    let kept = update.fwmark.is_keep() && !present.is_some_and(|b| b.mark_is_ours());
    if kept && facts.mark != 0 {
        return facts.mark;
    }
    let admins = facts.rules.all().find(|(_, rule)| {
        !rule.is_ours()
            && rule.mark != 0
            && rule.steers(rule.mark, table)
            && check_conflicts(facts, "", rule.mark, table).is_ok()
    });
    admins.map_or_else(|| default_mark(table), |(_, rule)| rule.mark)
}

/// A mark that already means another table must not be taken.
fn check_conflicts(facts: &Facts, interface: &str, mark: u32, table: u32) -> Result<()> {
    let foreign = facts.rules.all().find(|(_, rule)| {
        let elsewhere = match rule.action {
            Action::Table(to) => to != table && to != TABLE_LOCAL,
            Action::Goto => true,
            Action::Unreachable | Action::Nop | Action::Other => false,
        };
        !rule.is_ours() && rule.looks_at(mark) && !rule.forwarded_only && elsewhere
    });
    if let Some((_, rule)) = foreign {
        return Err(Error::Unsupported(format!(
            "Cannot bind {interface}: fwmark {mark:#x} is in use by the rule `{}'; choose \
             another one with fwmark in the same command",
            rule.text()
        )));
    }
    let bound = facts.rules.ours().find(|(_, rule)| {
        rule.mark == mark && matches!(rule.action, Action::Table(to) if to != table)
    });
    if let Some((_, rule)) = bound
        && let Some(other) = sharing(facts, mark).next()
    {
        return Err(Error::Unsupported(format!(
            "Cannot bind {interface}: {other} is bound by the same fwmark {mark:#x} to \
             another VRF (`{}'); choose another one with fwmark in the same command",
            rule.text()
        )));
    }
    Ok(())
}

/// Our rules of one family for a mark.
struct Place {
    rules: Vec<Rule>,
    /// Somebody else's rule does the lookup.
    adopted: bool,
}

/// Finds the place for the pair, or the one it has; `None` when there is none.
fn place(rules: &[Rule], mark: u32, table: u32) -> Option<Place> {
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
                Some(Rule::ours(pref, mark, Action::Unreachable))
            });
        if let Some(rule) = rule {
            return Some(Place {
                rules: vec![rule],
                adopted: true,
            });
        }
    }

    if let Some(at) = before.iter().position(opens)
        && !closed_before(at)
        && let Some(close) = closed_behind(at)
    {
        return Some(Place {
            rules: vec![before[at], close],
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
            Rule::ours(open, mark, Action::Table(table)),
            Rule::ours(close, mark, Action::Unreachable),
        ],
        adopted: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: u32 = 1023;
    const MARK: u32 = 0x7767_03ff;
    const MAIN: u32 = 254;

    fn lookup(pref: u32, table: u32) -> Rule {
        Rule {
            pref,
            protocol: 2,
            action: Action::Table(table),
            ..Rule::default()
        }
    }

    fn marked(pref: u32, mark: u32, table: u32) -> Rule {
        Rule {
            mark,
            mask: u32::MAX,
            protocol: 3,
            ..lookup(pref, table)
        }
    }

    fn l3mdev() -> Rule {
        Rule {
            l3mdev: true,
            ..lookup(1000, 0)
        }
    }

    /// What a host with a VRF has.
    fn stock() -> Vec<Rule> {
        vec![
            lookup(0, 255),
            l3mdev(),
            lookup(32766, MAIN),
            lookup(32767, 253),
        ]
    }

    /// As fib_nl_newrule() does it: behind all rules of the same priority.
    fn insert(rules: &mut Vec<Rule>, rule: Rule) {
        let at = rules
            .iter()
            .position(|r| r.pref > rule.pref)
            .unwrap_or(rules.len());
        rules.insert(at, rule);
    }

    /// As fib_default_rule_pref() chooses for a rule without a priority.
    fn default_pref(rules: &[Rule]) -> u32 {
        rules
            .get(1)
            .map_or(0, |second| second.pref.saturating_sub(1))
    }

    fn facts(rules: Vec<Rule>) -> Facts {
        Facts {
            target: Target::Vrf { table: TABLE },
            vrfs: vec![("vrf_external".into(), TABLE), ("vrf_b".into(), 7)],
            rules: Rules {
                v4: Some(rules.clone()),
                v6: Some(rules),
            },
            l3mdev_accept: Some(true),
            ..Facts::default()
        }
    }

    fn bind() -> Update {
        Update {
            interface: "wg0".into(),
            bind_dev: Change::Set("vrf_external".into()),
            ..Update::default()
        }
    }

    fn unbind() -> Update {
        Update {
            bind_dev: Change::Clear,
            ..bind()
        }
    }

    fn auto(facts: &Facts, update: &Update) -> Plan {
        plan(facts, update, BindMode::Auto).unwrap()
    }

    /// Does what a plan says, as the kernel would.
    fn apply(facts: &mut Facts, plan: &Plan) {
        let mut change = |family: Family, rule: &Rule, add: bool| {
            let rules = match family {
                Family::V4 => &mut facts.rules.v4,
                Family::V6 => &mut facts.rules.v6,
            };
            let rules = rules.as_mut().expect("a family that is on");
            let there = rules.iter().position(|r| r == rule);
            if add {
                assert!(there.is_none(), "added twice: {}", rule.text());
                insert(rules, *rule);
            } else {
                rules.remove(there.expect("removed a rule that is not there"));
            }
        };
        for (family, rule) in &plan.add {
            change(*family, rule, true);
        }
        for (family, rule) in &plan.remove {
            assert!(rule.is_ours());
            change(*family, rule, false);
        }
        facts.mark = mark_after(facts, &plan.fwmark);
    }

    #[derive(Debug, PartialEq)]
    enum Fate {
        Vrf,
        Closed,
        Leak(Rule),
    }

    /// Where a packet with this mark ends, evaluated rule by rule like fib_rules_lookup().
    /// `narrow` is what rules with further selectors say about this packet.
    fn fate(rules: &[Rule], mark: u32, table: u32, vrf_has_route: bool, narrow: bool) -> Fate {
        for rule in rules {
            let hit = (rule.mask == 0 || (rule.mark ^ mark) & rule.mask == 0)
                && !rule.forwarded_only
                && !rule.l3mdev
                && (!rule.narrowed || narrow);
            if hit == rule.invert {
                continue;
            }
            match rule.action {
                Action::Table(255) | Action::Nop => {}
                Action::Table(to) if to == table => {
                    if vrf_has_route && !rule.suppress {
                        return Fate::Vrf;
                    }
                }
                Action::Unreachable => return Fate::Closed,
                _ => return Fate::Leak(*rule),
            }
        }
        Fate::Closed
    }

    fn assert_tight(facts: &Facts, mark: u32, table: u32) {
        for rules in [&facts.rules.v4, &facts.rules.v6].into_iter().flatten() {
            for narrow in [false, true] {
                assert_eq!(
                    fate(rules, mark, table, true, narrow),
                    Fate::Vrf,
                    "{rules:#?}"
                );
                assert_eq!(
                    fate(rules, mark, table, false, narrow),
                    Fate::Closed,
                    "{rules:#?}"
                );
            }
        }
    }

    #[test]
    fn a_plain_host_gets_the_pair_in_both_families() {
        let mut facts = facts(stock());
        let plan = auto(&facts, &bind());
        assert_eq!(plan.fwmark, Change::Set(MARK));
        assert_eq!(plan.bind_dev, Change::Keep);
        let prefs: Vec<_> = plan.add.iter().map(|(_, rule)| rule.pref).collect();
        assert_eq!(prefs, [97, 98, 97, 98]);
        assert!(plan.remove.is_empty());
        assert_eq!(
            plan.notes,
            ["wg0: kernel lacks WGDEVICE_A_BIND_DEV, using fwmark 0x776703ff via table 1023"]
        );
        apply(&mut facts, &plan);
        assert_tight(&facts, MARK, TABLE);

        let again = auto(&facts, &bind());
        assert_eq!((again.add, again.remove), (vec![], vec![]));

        let plan = auto(&facts, &unbind());
        assert_eq!(plan.fwmark, Change::Clear);
        apply(&mut facts, &plan);
        assert_eq!(facts.rules.v4, Some(stock()));
        assert_eq!(facts.rules.v6, Some(stock()));
    }

    #[test]
    fn without_the_closing_rule_it_would_leak() {
        // The evaluation itself is checked: it has to see the leak that the pair prevents.
        let mut rules = stock();
        insert(&mut rules, Rule::ours(97, MARK, Action::Table(TABLE)));
        assert_eq!(
            fate(&rules, MARK, TABLE, false, false),
            Fate::Leak(lookup(32766, MAIN))
        );
    }

    #[test]
    fn the_attribute_is_preferred_and_takes_over() {
        let mut facts = facts(stock());
        apply(&mut facts.clone(), &auto(&facts, &bind()));
        let first = auto(&facts, &bind());
        apply(&mut facts, &first);
        facts.attribute = true;
        let plan = auto(&facts, &bind());
        assert_eq!(plan.bind_dev, Change::Set("vrf_external".into()));
        assert_eq!(plan.fwmark, Change::Clear);
        assert_eq!(plan.remove.len(), 4);
        apply(&mut facts, &plan);
        assert_eq!(facts.rules.v4, Some(stock()));
        let plan = auto(&facts, &bind());
        assert_eq!((plan.fwmark, plan.notes), (Change::Keep, vec![]));
    }

    #[test]
    fn modes_force_one_way_or_the_other() {
        let mut facts = facts(stock());
        assert!(plan(&facts, &bind(), BindMode::Kernel).is_err());
        assert!(plan(&facts, &unbind(), BindMode::Kernel).is_ok());
        facts.attribute = true;
        let forced = plan(&facts, &bind(), BindMode::Fwmark).unwrap();
        assert_eq!(forced.bind_dev, Change::Clear);
        assert_eq!(forced.add.len(), 4);
    }

    #[test]
    fn unbinding_what_was_never_bound_does_nothing() {
        let mut facts = facts(stock());
        facts.mark = 51820;
        let plan = auto(&facts, &unbind());
        assert_eq!(plan, Plan::default());
        facts.attribute = true;
        assert_eq!(auto(&facts, &unbind()).bind_dev, Change::Clear);
    }

    #[test]
    fn only_a_vrf_can_be_bound_to() {
        for target in [
            Target::Missing,
            Target::Other { kind: "".into() },
            Target::Other {
                kind: "bridge".into(),
            },
        ] {
            let facts = Facts {
                target,
                ..facts(stock())
            };
            let text = plan(&facts, &bind(), BindMode::Auto)
                .unwrap_err()
                .to_string();
            assert!(text.contains("`vrf_external'"), "{text}");
        }
    }

    #[test]
    fn an_administrators_rule_is_adopted_and_stays() {
        for (mask, local) in [(u32::MAX, false), (0xffff, true)] {
            let mut rules = stock();
            let theirs = Rule {
                mask,
                local_output: local,
                ..marked(999, 0x1023, TABLE)
            };
            insert(&mut rules, theirs);
            let mut facts = facts(rules.clone());
            let plan = auto(&facts, &bind());
            assert_eq!(plan.fwmark, Change::Set(0x1023));
            // No twin: only the closing rule, in the one place between 999 and l3mdev.
            assert!(
                plan.add
                    .iter()
                    .all(|(_, r)| r.action == Action::Unreachable)
            );
            assert_eq!(plan.add.len(), 2);
            apply(&mut facts, &plan);
            assert_tight(&facts, 0x1023, TABLE);
            let again = auto(&facts, &bind());
            assert_eq!((again.add, again.remove), (vec![], vec![]));
            let plan = auto(&facts, &unbind());
            // The mark was theirs, it stays, and that is said.
            assert_eq!(plan.fwmark, Change::Keep);
            assert!(plan.notes[0].contains("not ours"), "{:?}", plan.notes);
            apply(&mut facts, &plan);
            assert_eq!(facts.rules.v4, Some(rules));
        }
    }

    #[test]
    fn a_family_that_the_administrator_forgot_is_completed() {
        let mut facts = facts(stock());
        insert(facts.rules.v4.as_mut().unwrap(), marked(999, 0x1023, TABLE));
        let plan = auto(&facts, &bind());
        let v4: Vec<_> = plan.add.iter().filter(|r| r.0 == Family::V4).collect();
        let v6: Vec<_> = plan.add.iter().filter(|r| r.0 == Family::V6).collect();
        assert_eq!((v4.len(), v6.len()), (1, 2));
        apply(&mut facts, &plan);
        assert_tight(&facts, 0x1023, TABLE);
    }

    #[test]
    fn an_administrators_rule_that_comes_too_late_is_not_relied_on() {
        let mut rules = stock();
        insert(&mut rules, marked(5000, 0x1023, TABLE));
        insert(
            &mut rules,
            Rule {
                suppress: true,
                ..lookup(4000, MAIN)
            },
        );
        let mut facts = facts(rules);
        let plan = auto(&facts, &bind());
        apply(&mut facts, &plan);
        assert_tight(&facts, 0x1023, TABLE);
    }

    #[test]
    fn rules_of_wg_quick_that_got_ahead_are_overtaken_again() {
        let mut facts = facts(stock());
        let first = auto(&facts, &bind());
        apply(&mut facts, &first);
        for rules in [&mut facts.rules.v4, &mut facts.rules.v6] {
            let rules = rules.as_mut().unwrap();
            let not_ours = Rule {
                invert: true,
                ..marked(default_pref(rules), MARK, MARK)
            };
            insert(rules, not_ours);
            let suppress = Rule {
                suppress: true,
                ..lookup(default_pref(rules), MAIN)
            };
            insert(rules, suppress);
            assert!(matches!(
                fate(rules, MARK, TABLE, true, false),
                Fate::Leak(_)
            ));
        }
        let plan = auto(&facts, &bind());
        assert!(!plan.add.is_empty());
        apply(&mut facts, &plan);
        assert_tight(&facts, MARK, TABLE);
    }

    #[test]
    fn a_mark_with_another_meaning_is_refused() {
        let given = |mark| Update {
            fwmark: Change::Set(mark),
            ..bind()
        };
        let mut rules = stock();
        insert(&mut rules, marked(500, 5, 77));
        insert(
            &mut rules,
            Rule {
                mask: 0xf00,
                ..marked(600, 0x300, 78)
            },
        );
        let facts = facts(rules);
        for mark in [5, 0x300, 0x30f] {
            let text = plan(&facts, &given(mark), BindMode::Auto)
                .unwrap_err()
                .to_string();
            assert!(text.contains("in use by the rule"), "{text}");
        }
        assert!(plan(&facts, &given(6), BindMode::Auto).is_ok());
    }

    #[test]
    fn the_mark_is_chosen_in_the_documented_order() {
        let mut facts = facts(stock());
        assert_eq!(auto(&facts, &bind()).fwmark, Change::Set(MARK));
        for rules in [&mut facts.rules.v4, &mut facts.rules.v6] {
            insert(rules.as_mut().unwrap(), marked(999, 0x1023, TABLE));
        }
        assert_eq!(auto(&facts, &bind()).fwmark, Change::Set(0x1023));
        facts.mark = 51820;
        assert_eq!(auto(&facts, &bind()).fwmark, Change::Keep);
        let stated = Update {
            fwmark: Change::Set(9),
            ..bind()
        };
        assert_eq!(auto(&facts, &stated).fwmark, Change::Set(9));
        // A file without FwMark says that there is none.
        let file = Update {
            fwmark: Change::Clear,
            ..bind()
        };
        assert_eq!(auto(&facts, &file).fwmark, Change::Set(0x1023));
    }

    #[test]
    fn rules_follow_a_changed_mark_and_a_changed_vrf() {
        let mut facts = facts(stock());
        let first = auto(&facts, &bind());
        apply(&mut facts, &first);
        let mark = Update {
            bind_dev: Change::Keep,
            fwmark: Change::Set(0x42),
            ..bind()
        };
        let moved = auto(&facts, &mark);
        apply(&mut facts, &moved);
        assert_tight(&facts, 0x42, TABLE);
        assert!(facts.rules.ours().all(|(_, rule)| rule.mark == 0x42));

        let off = Update {
            bind_dev: Change::Keep,
            fwmark: Change::Clear,
            ..bind()
        };
        let plan = auto(&facts, &off);
        assert_eq!(plan.fwmark, Change::Set(MARK));
        assert!(plan.notes.iter().any(|n| n.contains("is not off")));
        apply(&mut facts, &plan);
        assert_tight(&facts, MARK, TABLE);

        facts.target = Target::Vrf { table: 7 };
        let plan = auto(&facts, &bind());
        assert_eq!(plan.fwmark, Change::Set(default_mark(7)));
        apply(&mut facts, &plan);
        assert_tight(&facts, default_mark(7), 7);
        assert_eq!(facts.rules.ours().count(), 4);
    }

    #[test]
    fn two_devices_share_rules_and_the_last_one_takes_them_away() {
        let mut facts = facts(stock());
        let first = auto(&facts, &bind());
        apply(&mut facts, &first);
        facts.others = vec![("wg1".into(), MARK)];
        facts.mark = 0;
        let second = auto(&facts, &bind());
        assert_eq!((second.add, second.remove), (vec![], vec![]));
        facts.mark = MARK;
        let one_leaves = auto(&facts, &unbind());
        assert_eq!(one_leaves.fwmark, Change::Clear);
        assert_eq!(one_leaves.remove, vec![]);
        facts.others.clear();
        assert_eq!(auto(&facts, &unbind()).remove.len(), 4);
    }

    #[test]
    fn a_shared_mark_of_the_users_own_holds_a_device_back() {
        let mut facts = facts(stock());
        facts.mark = 9;
        let first = auto(&facts, &bind());
        apply(&mut facts, &first);
        facts.others = vec![("wg1".into(), 9)];
        let text = plan(&facts, &unbind(), BindMode::Auto)
            .unwrap_err()
            .to_string();
        assert!(text.contains("wg1"), "{text}");
        let with_mark = Update {
            fwmark: Change::Clear,
            ..unbind()
        };
        assert_eq!(auto(&facts, &with_mark).remove, vec![]);
        // And it cannot go to another VRF under the same mark.
        facts.target = Target::Vrf { table: 7 };
        assert!(plan(&facts, &bind(), BindMode::Auto).is_err());
    }

    #[test]
    fn leftovers_go_unless_somebody_elsewhere_lives_on_them() {
        let mut facts = facts(stock());
        let first = auto(&facts, &bind());
        apply(&mut facts, &first);
        // The device was deleted; another one is made and bound elsewhere.
        facts.mark = 0;
        facts.target = Target::Vrf { table: 7 };
        assert_eq!(unused_marks(&facts.rules, 0, &[]), [MARK]);
        assert_eq!(auto(&facts, &bind()).remove.len(), 4);
        assert_eq!(auto(&facts, &unbind()).remove.len(), 4);
        facts.elsewhere = vec![MARK];
        let plan = auto(&facts, &bind());
        assert_eq!(plan.remove, vec![]);
        assert!(
            plan.notes
                .iter()
                .any(|n| n.contains("another network namespace"))
        );
        // The one that is bound here may share its rules with the one that was moved.
        let mut here = facts.clone();
        here.mark = MARK;
        here.target = Target::Vrf { table: TABLE };
        assert_eq!(auto(&here, &unbind()).remove, vec![]);
        assert_eq!(auto(&here, &unbind()).fwmark, Change::Clear);
        // The same device made again finds its rules in place.
        facts.target = Target::Vrf { table: TABLE };
        let again = auto(&facts, &bind());
        assert_eq!((again.add, again.remove), (vec![], vec![]));
    }

    #[test]
    fn a_family_that_is_off_is_skipped() {
        let mut facts = facts(stock());
        facts.rules.v6 = None;
        let plan = auto(&facts, &bind());
        assert!(plan.add.iter().all(|(family, _)| *family == Family::V4));
        assert_eq!(plan.add.len(), 2);
        facts.rules.v4 = None;
        assert!(super::plan(&facts, &bind(), BindMode::Auto).is_err());
    }

    #[test]
    fn what_the_fallback_cannot_do_is_said() {
        let mut facts = facts(stock());
        facts.l3mdev_accept = Some(false);
        let notes = auto(&facts, &bind()).notes.join("\n");
        assert!(notes.contains("net.ipv4.udp_l3mdev_accept=1"), "{notes}");
        let stated = Update {
            fwmark: Change::Set(TABLE),
            ..bind()
        };
        let notes = auto(&facts, &stated).notes.join("\n");
        assert!(notes.contains("wg-quick"), "{notes}");
        facts.wg_quick = true;
        let notes = auto(&facts, &bind()).notes.join("\n");
        assert!(notes.contains("PostUp"), "{notes}");
        facts.sockets_here = Some(false);
        assert!(plan(&facts, &bind(), BindMode::Auto).is_err());
    }

    /// Random rules of everyone else, then bind, rebind, unbind: nothing ever leaks, nothing of
    /// theirs changes, nothing of ours stays.
    #[test]
    fn no_set_of_rules_makes_it_leak() {
        let mut seed = 0x2545_f491_4f6c_dd1d_u64;
        let mut random = move |below: u64| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed % below
        };
        let mut bound = 0;
        for _ in 0..4_000 {
            let mut rules = stock();
            for _ in 0..random(6) {
                let pref = match random(5) {
                    0 => default_pref(&rules),
                    1 => random(4) as u32,
                    2 => 95 + random(6) as u32,
                    3 => 998 + random(4) as u32,
                    _ => random(33_000) as u32,
                };
                let rule = Rule {
                    pref,
                    mark: [0, 1, 0x1023, MARK, 0x4000][random(5) as usize],
                    mask: [0, u32::MAX, u32::MAX, 0xff, 0xffff][random(5) as usize],
                    protocol: 3,
                    action: [
                        Action::Table(TABLE),
                        Action::Table(MAIN),
                        Action::Table(TABLE),
                        Action::Unreachable,
                        Action::Nop,
                        Action::Goto,
                    ][random(6) as usize],
                    invert: random(5) == 0,
                    l3mdev: random(6) == 0,
                    local_output: random(6) == 0,
                    forwarded_only: random(6) == 0,
                    suppress: random(6) == 0,
                    narrowed: random(4) == 0,
                };
                insert(&mut rules, rule);
            }
            let mut facts = facts(rules.clone());
            let Ok(plan) = plan(&facts, &bind(), BindMode::Auto) else {
                continue;
            };
            bound += 1;
            apply(&mut facts, &plan);
            let mark = facts.mark;
            assert_tight(&facts, mark, TABLE);
            let again = auto(&facts, &bind());
            assert_eq!((again.add, again.remove), (vec![], vec![]), "{facts:#?}");
            let off = auto(&facts, &unbind());
            apply(&mut facts, &off);
            assert_eq!(facts.rules.v4.as_ref(), Some(&rules));
        }
        assert!(bound > 2_000, "{bound}");
    }
}
