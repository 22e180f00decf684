// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! How a change is carried out: which update is sent, and which policy rules come and go.
//!
//! Pure: facts and the wanted update go in, a [`Plan`] comes out. No sockets here, so that every
//! case is tested without a kernel. A binding is either the kernel's attribute or the fallback of
//! a mark and policy rules ([`rules`]). [`Strategy::choose`] decides that once, from what the
//! backend supports; [`plan`] then decides the rest from what was read.

#[cfg(test)]
mod histories;
pub mod rules;
pub mod sync;
#[cfg(test)]
mod tests;

use crate::error::{Error, Result, Task};
use crate::model::{Change, Update};
use rules::{Action, Binding, Family, Rule, Rules, TABLE_LOCAL, default_mark, find_place};

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

/// What the backend of a device can do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Support {
    /// The kernel takes `WGDEVICE_A_BIND_DEV`. Never so for a userspace device.
    pub attribute: bool,
    pub userspace: bool,
}

/// What an update does to the binding, and by which means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// The update does not speak of the binding.
    Keep,
    Unbind,
    /// Bind by the kernel's attribute.
    Attribute {
        name: String,
    },
    /// Bind by a mark and policy rules.
    Fallback {
        name: String,
        /// Why the attribute does not serve.
        why: &'static str,
    },
}

impl Strategy {
    /// # Errors
    /// The mode asks for the attribute and there is none.
    pub fn choose(support: Support, update: &Update, mode: BindMode) -> Result<Self> {
        let name = match &update.bind_dev {
            Change::Keep => return Ok(Strategy::Keep),
            Change::Clear => return Ok(Strategy::Unbind),
            Change::Set(name) => name.clone(),
        };
        let why = match mode {
            BindMode::Auto | BindMode::Kernel if support.attribute => {
                return Ok(Strategy::Attribute { name });
            }
            BindMode::Kernel => return Err(no_attribute(support, &update.interface, &name)),
            BindMode::Auto if support.userspace => "userspace devices cannot be bound to a device",
            BindMode::Auto => "kernel lacks WGDEVICE_A_BIND_DEV",
            BindMode::Fwmark => "WG_BIND_DEV_MODE is fwmark",
        };
        Ok(Strategy::Fallback { name, why })
    }
}

fn no_attribute(support: Support, interface: &str, name: &str) -> Error {
    Error::Unsupported(if support.userspace {
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
    pub support: Support,
    /// The device's present mark.
    pub mark: u32,
    pub target: Target,
    pub rules: Rules,
    /// The names of the VRFs here, by table.
    pub vrfs: Vec<(String, u32)>,
    /// Name and mark of every other WireGuard device here.
    pub others: Vec<(String, u32)>,
    /// Whether the device's sockets are in this namespace; `None` when it cannot be told.
    pub sockets_here: Option<bool>,
    /// wg-quick asks, and will add rules for a default route of its own.
    pub wg_quick: bool,
    /// `net.ipv4.udp_l3mdev_accept`; `None` when it cannot be read.
    pub l3mdev_accept: Option<bool>,
}

impl Facts {
    /// The names of the other devices with this mark.
    fn sharing(&self, mark: u32) -> Vec<&str> {
        self.others
            .iter()
            .filter(|(_, other)| *other == mark)
            .map(|(name, _)| name.as_str())
            .collect()
    }

    /// Marks of our rules that no device here carries: a deleted device left them.
    fn unused_marks(&self) -> Vec<u32> {
        let mut marks = self.rules.our_marks();
        marks.retain(|mark| *mark != self.mark && self.sharing(*mark).is_empty());
        marks
    }

    /// The device's mark after a change.
    fn mark_after(&self, fwmark: &Change<u32>) -> u32 {
        match fwmark {
            Change::Keep => self.mark,
            Change::Set(mark) => *mark,
            Change::Clear => 0,
        }
    }
}

/// What to do, in this order: add rules, send the update, remove rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// What the device is told: the wanted update, with the mark and the binding decided.
    pub update: Update,
    /// The mark that carries the binding, where one does.
    pub binding_mark: Option<u32>,
    pub add: Vec<(Family, Rule)>,
    pub remove: Vec<(Family, Rule)>,
    /// For the user, once all is done.
    pub notes: Vec<String>,
}

impl Plan {
    fn send(update: Update) -> Self {
        Plan {
            update,
            ..Plan::default()
        }
    }

    /// Rules of devices that are gone go too.
    fn remove_leftovers(&mut self, facts: &Facts, mark: u32) {
        for unused in facts.unused_marks() {
            if unused != mark {
                self.remove.extend(facts.rules.ours_for(unused));
            }
        }
    }

    /// Keeps the rules that a device in another namespace lives on: its sockets are where it was
    /// created, and without the rules it would leak. `elsewhere` has the marks of such devices.
    pub fn spare_rules(&mut self, elsewhere: &[u32]) {
        let mut spared = Vec::new();
        self.remove.retain(|(_, rule)| {
            let spare = Some(rule.mark) != self.binding_mark && elsewhere.contains(&rule.mark);
            if spare && !spared.contains(&rule.mark) {
                spared.push(rule.mark);
            }
            !spare
        });
        self.notes.extend(spared.iter().map(|mark| {
            format!(
                "the rules for fwmark {mark:#x} stay: a WireGuard device in another network \
                 namespace has that mark"
            )
        }));
    }
}

/// Decides what is sent and which rules come and go.
///
/// # Errors
/// The binding cannot be had; nothing has been changed.
pub fn plan(facts: &Facts, update: Update, strategy: &Strategy) -> Result<Plan> {
    let present = facts.rules.find_binding(facts.mark);
    match strategy {
        Strategy::Keep => keep_binding(facts, update, present),
        Strategy::Unbind => unbind(facts, update, present),
        Strategy::Attribute { name } => bind_by_attribute(facts, update, name, present),
        Strategy::Fallback { name, why } => {
            let goal = Goal {
                name,
                table: vrf_table(&update.interface, name, &facts.target)?,
                why,
            };
            bind_by_mark(facts, update, &goal, present)
        }
    }
}

/// The update does not speak of the binding, but maybe of the mark that carries it.
fn keep_binding(facts: &Facts, update: Update, present: Option<Binding>) -> Result<Plan> {
    let Some(present) = present else {
        return Ok(Plan::send(update));
    };
    if facts.mark_after(&update.fwmark) == present.mark {
        return Ok(Plan::send(update));
    }
    let interface = update.interface.clone();
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
    let wants_none = facts.mark_after(&update.fwmark) == 0;
    let goal = Goal {
        name: &name,
        table,
        why: &format!("bound to {name}"),
    };
    let mut plan = bind_by_mark(facts, update, &goal, Some(present))?;
    if wants_none {
        plan.notes.push(format!(
            "{interface}: the fwmark is not off, because it carries the binding to {name}; \
             `bind-dev off' removes both"
        ));
    }
    Ok(plan)
}

fn unbind(facts: &Facts, mut update: Update, present: Option<Binding>) -> Result<Plan> {
    if !facts.support.attribute {
        update.bind_dev = Change::Keep;
    }
    end_fallback(facts, Plan::send(update), present, "stays bound")
}

/// A fallback that is there has served.
fn bind_by_attribute(
    facts: &Facts,
    update: Update,
    name: &str,
    present: Option<Binding>,
) -> Result<Plan> {
    let mut plan = end_fallback(facts, Plan::send(update), present, "still uses its rules")?;
    if let Some(Binding { mark, .. }) = present {
        plan.notes.push(format!(
            "{}: bound to {name} by the kernel, the rules for fwmark {mark:#x} are not needed \
             any more",
            plan.update.interface
        ));
    }
    Ok(plan)
}

/// Ends a fallback: the mark goes if it was ours, the rules go if no other device needs them.
fn end_fallback(
    facts: &Facts,
    mut plan: Plan,
    present: Option<Binding>,
    stays: &str,
) -> Result<Plan> {
    if let Some(present) = present {
        if plan.update.fwmark.is_keep() && present.mark_is_ours() {
            plan.update.fwmark = Change::Clear;
        }
        let interface = &plan.update.interface;
        let marked = facts.mark_after(&plan.update.fwmark) == present.mark;
        let sharing = facts.sharing(present.mark);
        if sharing.is_empty() {
            plan.remove.extend(facts.rules.ours_for(present.mark));
        } else if marked {
            // The rules go by the mark alone: they would keep this device where it is.
            return Err(Error::Unsupported(format!(
                "Cannot unbind {interface}: it has its fwmark {:#x} in common with {}, which \
                 {stays}; give {interface} another fwmark (or off) in the same command",
                present.mark,
                sharing.join(", "),
            )));
        }
        let theirs = facts
            .rules
            .all()
            .map(|(_, rule)| rule)
            .find(|rule| {
                !rule.is_ours() && present.table.is_some_and(|t| rule.steers(present.mark, t))
            })
            .filter(|_| marked);
        if let Some(rule) = theirs {
            plan.notes.push(format!(
                "{interface}: fwmark {:#x} stays, and the rule `{rule}', which is not ours, \
                 still acts on it",
                present.mark,
            ));
        }
    }
    // The mark after this update counts as used, even where its rules are not this device's.
    let mark = facts.mark_after(&plan.update.fwmark);
    plan.remove_leftovers(facts, mark);
    Ok(plan)
}

/// A binding that the fallback is to reach.
struct Goal<'a> {
    name: &'a str,
    table: u32,
    /// For the note that names the mark.
    why: &'a str,
}

fn bind_by_mark(
    facts: &Facts,
    mut update: Update,
    goal: &Goal,
    present: Option<Binding>,
) -> Result<Plan> {
    let Goal { name, table, why } = *goal;
    let interface = update.interface.clone();
    if facts.sockets_here == Some(false) {
        return Err(Error::Unsupported(format!(
            "Cannot bind {interface} to `{name}': its sockets are not in this network \
             namespace but in the one where it was created, and policy rules here cannot reach \
             them; bind it there before moving it, or use a kernel with WGDEVICE_A_BIND_DEV"
        )));
    }
    if Family::ALL
        .iter()
        .all(|f| facts.rules.in_family(*f).is_none())
    {
        return Err(Error::Unsupported(format!(
            "Cannot bind {interface} to `{name}': this kernel has neither WGDEVICE_A_BIND_DEV \
             nor policy rules (CONFIG_IP_MULTIPLE_TABLES)"
        )));
    }
    let mark = choose_mark(facts, &update.fwmark, table, present);
    if let Some(conflict) = find_conflict(facts, mark, table) {
        return Err(conflict.into_error(&interface, mark));
    }
    if mark != facts.mark || !update.fwmark.is_keep() {
        update.fwmark = Change::Set(mark);
    }
    update.bind_dev = if facts.support.attribute {
        // Forced: a binding by attribute would win, so it has to go.
        Change::Clear
    } else {
        Change::Keep
    };
    let mut plan = Plan {
        binding_mark: Some(mark),
        ..Plan::send(update)
    };

    let mut wanted = Vec::new();
    let mut theirs = false;
    for family in Family::ALL {
        let Some(rules) = facts.rules.in_family(family) else {
            continue;
        };
        let place = find_place(rules, mark, table).ok_or_else(|| {
            Error::Unsupported(format!(
                "Cannot bind {interface} to `{name}': the rule `{}' comes before any that \
                 could be added, so packets with fwmark {mark:#x} would not be kept in {name}",
                rules
                    .iter()
                    .find(|rule| rule.captures(mark, table))
                    .map(Rule::to_string)
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
    // What this mark does not need any more, and what the mark before it needed.
    plan.remove = facts.rules.ours_for(mark);
    plan.remove.retain(|rule| !wanted.contains(rule));
    let left = present
        .map(|binding| binding.mark)
        .filter(|old| *old != mark && facts.sharing(*old).is_empty());
    if let Some(old) = left {
        plan.remove.extend(facts.rules.ours_for(old));
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
    let sharing = facts.sharing(mark);
    if !sharing.is_empty() && facts.rules.find_binding(mark).is_none() {
        plan.notes.push(format!(
            "{interface}: fwmark {mark:#x} is also that of {}, which goes to {name} with it",
            sharing.join(", ")
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
        Target::None | Target::Missing => {
            let task = Task::Bind {
                interface: interface.to_owned(),
                dev: name.to_owned(),
            };
            Err(Error::os(task, libc::ENODEV))
        }
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
fn choose_mark(facts: &Facts, wanted: &Change<u32>, table: u32, present: Option<Binding>) -> u32 {
    match *wanted {
        Change::Set(mark) if mark != 0 => return mark,
        _ => {}
    }
    // A configuration that states no mark states that there is none; so only "keep" keeps. A
    // mark of our own choosing belongs to the old table and is chosen anew.
    let kept = wanted.is_keep() && !present.is_some_and(|binding| binding.mark_is_ours());
    if kept && facts.mark != 0 {
        return facts.mark;
    }
    let theirs = facts.rules.all().map(|(_, rule)| rule).find(|rule| {
        !rule.is_ours()
            && rule.mark != 0
            && rule.steers(rule.mark, table)
            && find_conflict(facts, rule.mark, table).is_none()
    });
    theirs.map_or_else(|| default_mark(table), |rule| rule.mark)
}

/// Why a mark must not be taken: it already means another table.
enum Conflict<'a> {
    /// A rule of somebody else looks at it.
    Rule(&'a Rule),
    /// Another device is bound by it.
    Device { name: &'a str, rule: &'a Rule },
}

impl Conflict<'_> {
    fn into_error(self, interface: &str, mark: u32) -> Error {
        Error::Unsupported(match self {
            Conflict::Rule(rule) => format!(
                "Cannot bind {interface}: fwmark {mark:#x} is in use by the rule `{rule}'; \
                 choose another one with fwmark in the same command"
            ),
            Conflict::Device { name, rule } => format!(
                "Cannot bind {interface}: {name} is bound by the same fwmark {mark:#x} to \
                 another VRF (`{rule}'); choose another one with fwmark in the same command"
            ),
        })
    }
}

fn find_conflict(facts: &Facts, mark: u32, table: u32) -> Option<Conflict<'_>> {
    let theirs = facts.rules.all().map(|(_, rule)| rule).find(|rule| {
        let elsewhere = match rule.action {
            Action::Table(to) => to != table && to != TABLE_LOCAL,
            Action::Goto => true,
            Action::Unreachable | Action::Nop | Action::Other => false,
        };
        !rule.is_ours() && rule.looks_at(mark) && !rule.forwarded_only && elsewhere
    });
    if let Some(rule) = theirs {
        return Some(Conflict::Rule(rule));
    }
    let name = facts.sharing(mark).first().copied()?;
    let (_, rule) = facts.rules.ours().find(|(_, rule)| {
        rule.mark == mark && matches!(rule.action, Action::Table(to) if to != table)
    })?;
    Some(Conflict::Device { name, rule })
}
