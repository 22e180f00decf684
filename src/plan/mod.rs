// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! How a change is carried out: which update is sent, and which policy rules come and go.
//!
//! Pure: facts and the wanted update go in, a [`Plan`] comes out. No sockets here, so that every
//! case is tested without a kernel. A binding is either the kernel's attribute or the fallback of
//! policy rules ([`rules`]), which know a device's packets by a mark or by their source port.
//! [`Strategy::choose`] decides that once, from what the backend supports; [`plan`] then decides
//! the rest from what was read.

pub mod changes;
#[cfg(any(test, fuzzing))]
#[cfg_attr(not(test), expect(dead_code, reason = "the tests' part of it"))]
pub mod histories;
pub mod receive;
pub mod rules;
pub mod scope;
pub mod sync;
#[cfg(test)]
mod tests;

use crate::error::{Error, Result, Task};
use crate::model::{Action, Change, Family, HookEntry, Rule, Selector, Update, bind_table};
use receive::CLOSED_MARK;
use rules::{
    Binding, Flow, Rules, TABLE_LOCAL, arrange_pair, default_mark, default_marks, find_place,
    is_default_mark, is_our_mark,
};

/// Which way to bind is allowed (`WG_BIND_DEV_MODE`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BindMode {
    /// The attribute where the kernel has it, else the fallback.
    #[default]
    Auto,
    /// The attribute or an error.
    Kernel,
    /// The fallback by a mark, even where the kernel has the attribute.
    Fwmark,
    /// The fallback by the source port.
    Port,
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
    /// Bind by policy rules.
    Fallback {
        name: String,
        kind: Option<Kind>,
        /// Why the attribute does not serve.
        why: &'static str,
    },
}

/// What the rules of a fallback select by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Mark,
    Port,
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
        let by_table = bind_table(&name).is_some();
        let (kind, why) = match mode {
            BindMode::Kernel if by_table => {
                return Err(Error::Unsupported(format!(
                    "Cannot bind {} to `{name}': no VRF has that table yet, and the kernel binds \
                     by name; create the VRF first, or let WG_BIND_DEV_MODE=auto use policy rules",
                    update.interface
                )));
            }
            BindMode::Auto | BindMode::Kernel if support.attribute && !by_table => {
                return Ok(Strategy::Attribute { name });
            }
            BindMode::Kernel => return Err(no_attribute(support, &update.interface, &name)),
            BindMode::Auto if support.userspace => {
                (None, "userspace devices cannot be bound to a device")
            }
            BindMode::Auto if support.attribute => (None, "no VRF has that table yet"),
            // What the device has already is kept.
            BindMode::Auto => (None, "kernel lacks WGDEVICE_A_BIND_DEV"),
            BindMode::Fwmark => (Some(Kind::Mark), "WG_BIND_DEV_MODE is fwmark"),
            BindMode::Port => (Some(Kind::Port), "WG_BIND_DEV_MODE is port"),
        };
        Ok(Strategy::Fallback { name, kind, why })
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

/// Another WireGuard device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Other {
    pub name: String,
    pub mark: u32,
    pub port: u16,
    /// A process has its sockets.
    pub userspace: bool,
}

/// The name of what is known only by its UDP socket.
pub const HIDDEN: &str = "a program without a socket file here";

impl Other {
    /// What it is called of which no link shows here.
    fn describe_unseen(&self) -> &'static str {
        match self.name.as_str() {
            HIDDEN => HIDDEN,
            _ => "a device in another network namespace",
        }
    }

    fn carries(&self, by: Selector) -> bool {
        match by {
            Selector::Mark(mark) => self.mark == mark,
            Selector::Port(port) => self.port == port,
        }
    }
}

/// The namespace of a device's sockets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sockets {
    Here,
    /// The device was made in another namespace.
    Elsewhere,
    /// It is down and has none. Nothing tells where it was made, and it may have been elsewhere.
    #[default]
    Unknown,
    /// There are fewer sockets on its port here than devices that are up and have the port, and
    /// nothing tells whose they are.
    Contested,
}

/// What devices in other namespaces, whose sockets may be here, need of the rules here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Elsewhere {
    pub devices: Vec<Other>,
    /// What could not be looked at, and why: it counts as in use.
    pub unknown: Option<String>,
}

/// What was read before deciding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    pub support: Support,
    /// The device's present mark.
    pub mark: u32,
    /// The device's present port; 0 until it has one.
    pub port: u16,
    /// A free port, for a device that has none.
    pub free_port: u16,
    pub target: Target,
    pub rules: Rules,
    /// The names of the VRFs here, by table.
    pub vrfs: Vec<(String, u32)>,
    /// Every other WireGuard device here.
    pub others: Vec<Other>,
    /// Why others could not be asked: what they need counts as in use.
    pub unknown: Option<String>,
    /// Looked at only before rules go.
    pub elsewhere: Elsewhere,
    /// The entries of other devices at the bind hooks, by their ports.
    pub hooked: Vec<(u16, HookEntry)>,
    /// Each entry binds the sockets of the kernel and those of processes: the program at the hooks
    /// cannot tell them apart.
    pub all_sockets: bool,
    /// The device has an entry there for its port, and keeps that where the kernel could choose one.
    pub keeps_port: bool,
    pub sockets: Sockets,
    /// By what rules in the namespace where the device was made bind it; none do here.
    pub bound_elsewhere: Option<Selector>,
    /// That namespace does not show: only the mark, which we chose, says that rules may be there.
    pub bound_unseen: bool,
    /// There is no other network namespace, as far as can be seen.
    pub alone: bool,
    /// The sockets are here, or every namespace that they may be in shows.
    pub seen: bool,
    /// What the kernel's attribute says, where the update takes it away by leaving it out.
    pub kernel_binding: Option<String>,
    /// wg-quick asks, and will add rules for a default route of its own.
    pub wg_quick: bool,
    /// The link is up.
    pub up: bool,
    /// A command ended while it made the device's sockets again: `mark` and `port` are those from
    /// before it, and the device must get them back.
    pub interrupted: bool,
}

impl Facts {
    /// The names of the other devices here that have this mark or port.
    fn sharing(&self, by: Selector) -> Vec<&str> {
        self.others
            .iter()
            .filter(|other| other.carries(by))
            .map(|other| other.name.as_str())
            .collect()
    }

    /// What our rules select by that no device here has: a deleted device left them.
    fn unused_selectors(&self) -> Vec<Selector> {
        let mut selectors = self.rules.our_selectors();
        selectors.retain(|by| {
            *by != Selector::Mark(self.mark)
                && *by != Selector::Port(self.port)
                && self.sharing(*by).is_empty()
        });
        selectors
    }

    /// Whether our rules select by it, and no device that is known has it.
    fn is_unused(&self, by: Selector) -> bool {
        let unknown = self.unknown.is_some() || self.elsewhere.unknown.is_some();
        let elsewhere = self.elsewhere.devices.iter().any(|dev| dev.carries(by));
        !unknown && !elsewhere && self.unused_selectors().contains(&by)
    }

    /// The device's mark after a change.
    pub fn mark_after(&self, fwmark: &Change<u32>) -> u32 {
        match fwmark {
            Change::Keep => self.mark,
            Change::Set(mark) => *mark,
            Change::Clear => 0,
        }
    }

    /// The device's port after a change; 0 when the kernel will choose one.
    fn port_after(&self, listen_port: &Change<u16>) -> u16 {
        receive::port_after(self.port, listen_port).unwrap_or(0)
    }

    /// The VRF with this table, as people call it.
    fn vrf_name(&self, table: u32) -> String {
        self.vrfs
            .iter()
            .find(|(_, t)| *t == table)
            .map_or_else(|| format!("table {table}"), |(name, _)| name.clone())
    }
}

/// What to do, in this order: add rules, clear the way, send the update, remove rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// What the device is told: the wanted update, with the mark and the binding decided.
    pub update: Update,
    /// A rule that is there already is added a second time: what is removed is then the first.
    pub add: Vec<(Family, Rule)>,
    /// Goes before the update is sent, which has the device go by a mark or port that it did not go by,
    /// but that rules of an earlier binding still take elsewhere.
    pub clear: Vec<(Family, Rule)>,
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

    /// Gives the device the port and the mark back that it had before a command ended half way.
    fn restore_interrupted(&mut self, port: u16, mark: u32) {
        if self.update.listen_port.is_keep() {
            self.update.listen_port = Change::Set(port);
        }
        if self.update.fwmark.is_keep() {
            self.update.fwmark = Change::Set(mark);
        }
    }

    /// Rules of devices that are gone go too, but for those that the device is bound by after the
    /// change. `after` is the mark and the port that it has then.
    fn remove_leftovers(&mut self, facts: &Facts, after: &[Selector], bound_by: Option<Selector>) {
        for by in facts.unused_selectors() {
            if Some(by) == bound_by {
                continue;
            }
            let rules = self.find_removable(facts, by);
            if after.contains(&by) {
                self.clear.extend(rules);
            } else {
                self.remove.extend(rules);
            }
        }
    }

    /// Finds the rules that no device needs once this one has been changed. A device in another
    /// namespace may live on them: its sockets are where it was created, and without the rules it
    /// would leak.
    fn find_removable(&mut self, facts: &Facts, by: Selector) -> Vec<(Family, Rule)> {
        let unknown = facts.unknown.as_ref().or(facts.elsewhere.unknown.as_ref());
        let mut elsewhere = facts.elsewhere.devices.iter();
        if let Some(user) = elsewhere.find(|dev| dev.carries(by)) {
            self.notes.push(format!(
                "the rules for {by} stay: {} has that {}",
                user.describe_unseen(),
                match by {
                    Selector::Mark(_) => "mark",
                    Selector::Port(_) => "port",
                }
            ));
        } else if let Some(unknown) = unknown {
            self.notes.push(format!(
                "the rules for {by} stay: it cannot be told whether another device needs them \
                 ({unknown})"
            ));
        } else {
            return facts.rules.ours_for(by);
        }
        Vec::new()
    }

    /// Of two equal rules the kernel removes the first. While that one stood in front of what carried the
    /// binding before, it had to stay; now that goes, too.
    fn remove_twins(&mut self, facts: &Facts, flow: Flow, table: u32) {
        let count_faults = |rules: &Rules| rules.find_faults(flow, table).len();
        let mut after = self.rules_after(&facts.rules);
        let mut ours = after.ours_for(flow.by);
        while let Some((family, rule)) = ours.pop() {
            if !ours.contains(&(family, rule)) {
                continue;
            }
            let mut left = after.clone();
            left.change_rule(family, &rule, false);
            if count_faults(&left) <= count_faults(&after) {
                self.remove.push((family, rule));
                after = left;
            }
        }
    }

    /// Says that rules stay, which another device here goes by.
    fn note_shared(&mut self, facts: &Facts, by: Selector) {
        let sharing = facts.sharing(by);
        if !sharing.is_empty() && !facts.rules.ours_for(by).is_empty() {
            let names = sharing.join(", ");
            self.notes
                .push(format!("the rules for {by} stay: {names} has it, too"));
        }
    }

    /// Whether the device has to be closed while it is told of the change. By its new mark and port it may
    /// be led to its old VRF until the rules for that go, and would call new peers there. Or it has both
    /// a new mark and a new port, one after the other, and is led by neither in between. One that an
    /// interrupted command has left closed is opened last.
    pub fn must_close(&self, facts: &Facts) -> bool {
        let update = &self.update;
        let (mark, port) = (
            facts.mark_after(&update.fwmark),
            facts.port_after(&update.listen_port),
        );
        let calls =
            !update.peers.is_empty() || update.replace_peers || !update.private_key.is_keep();
        let meanwhile = self.rules_meanwhile(&facts.rules).split_families();
        let after = self.rules_after(&facts.rules).split_families();
        let before = facts.rules.split_families();
        let all = before.iter().zip(&meanwhile).zip(&after);
        let mut is_open = all.map(|((before, meanwhile), after)| {
            // No binding, or the table, or none where all that is left of it stops the packets.
            let lead = |rules: &Rules, mark, port| {
                let binding = rules.find_binding(mark, port);
                binding.map(|binding| binding.table)
            };
            let before = lead(before, facts.mark, facts.port);
            let after = lead(after, mark, port);
            // A kernel takes the mark first, a program the port.
            let between = match facts.support.userspace {
                true => lead(meanwhile, facts.mark, port),
                false => lead(meanwhile, mark, facts.port),
            };
            let is_held = [before, after, Some(None)].contains(&between);
            let is_open = before.is_some() && after.is_some() && !is_held;
            is_open || calls && lead(meanwhile, mark, port) != after
        });
        let sends = facts.up && !matches!(facts.sockets, Sockets::Elsewhere | Sockets::Contested);
        sends && (facts.interrupted || is_open.any(|is_open| is_open))
    }

    /// The rules while the device is told.
    fn rules_meanwhile(&self, before: &Rules) -> Rules {
        let mut rules = before.clone();
        for (family, rule) in &self.add {
            rules.change_rule(*family, rule, true);
        }
        for (family, rule) in &self.clear {
            rules.change_rule(*family, rule, false);
        }
        rules
    }

    /// The rules once all is done.
    pub fn rules_after(&self, before: &Rules) -> Rules {
        let mut rules = self.rules_meanwhile(before);
        for (family, rule) in &self.remove {
            rules.change_rule(*family, rule, false);
        }
        rules
    }
}

/// Decides what is sent and which rules come and go.
///
/// # Errors
/// The binding cannot be had; nothing has been changed.
pub fn plan(facts: &Facts, update: Update, strategy: &Strategy) -> Result<Plan> {
    let mut plan = plan_change(facts, update, strategy)?;
    keep_others_bound(facts, &plan)?;
    if facts.interrupted {
        plan.restore_interrupted(facts.port, facts.mark);
    }
    Ok(plan)
}

/// Whether rules may go, or change their table, that a device in another namespace may live on.
pub fn may_open_others(facts: &Facts, update: &Update, strategy: &Strategy) -> bool {
    let present = facts.rules.find_bindings(facts.mark, facts.port);
    let moves = facts.mark_after(&update.fwmark) != facts.mark
        || facts.port_after(&update.listen_port) != facts.port;
    let goes = match (strategy, &facts.target) {
        (Strategy::Keep, _) => moves,
        (Strategy::Fallback { kind: None, .. }, Target::Vrf { table }) => {
            moves || present.iter().any(|binding| binding.table != Some(*table))
        }
        _ => true,
    };
    (goes && !present.is_empty()) || !facts.unused_selectors().is_empty()
}

fn plan_change(facts: &Facts, update: Update, strategy: &Strategy) -> Result<Plan> {
    let present = facts.rules.find_bindings(facts.mark, facts.port);
    let stays_bound = *strategy == Strategy::Keep && !present.is_empty();
    if !stays_bound && !matches!(strategy, Strategy::Fallback { .. }) {
        let by_attribute = matches!(strategy, Strategy::Attribute { .. });
        refuse_port_of_another(facts, &update, by_attribute)?;
    }
    match (facts.bound_elsewhere, strategy) {
        (Some(by), Strategy::Keep | Strategy::Unbind) => {
            return keep_bound_elsewhere(facts, update, by);
        }
        (Some(by), Strategy::Fallback { name, .. }) => {
            return Err(refuse_second_binding(facts, &update.interface, name, by));
        }
        _ => {}
    }
    match strategy {
        Strategy::Keep => keep_binding(facts, update, &present),
        Strategy::Unbind => unbind(facts, update, &present),
        Strategy::Attribute { name } => bind_by_attribute(facts, update, name, &present),
        Strategy::Fallback { name, kind, why } => {
            let goal = RuleGoal {
                name,
                table: vrf_table(&update.interface, name, &facts.target)?,
                kind: kind.unwrap_or_else(|| present_kind(&present)),
                why,
                keeps: false,
            };
            bind_by_rules(facts, update, &goal, &present)
        }
    }
}

/// A device that rules do not bind must not get a port by which another one is bound: rules and bind
/// hooks go by the port alone. The attribute binds before the hooks do.
fn refuse_port_of_another(facts: &Facts, update: &Update, by_attribute: bool) -> Result<()> {
    let interface = &update.interface;
    let port = facts.port_after(&update.listen_port);
    if port == 0 || port == facts.port {
        return Ok(());
    }
    let by = Selector::Port(port);
    let hooked = facts.hooked.iter().any(|(of, entry)| {
        // Sockets of processes are left alone where they can be told, but by the entry of one.
        let is_bound = facts.all_sockets || entry.process || !facts.support.userspace;
        let binds = !by_attribute && is_bound;
        *of == port && binds && !entry.leaving
    });
    let steered = !facts.rules.ours_for(by).is_empty();
    if !hooked && !steered {
        return Ok(());
    }
    let unknown = facts.unknown.as_ref().or(facts.elsewhere.unknown.as_ref());
    let mut elsewhere = facts.elsewhere.devices.iter();
    let moved = elsewhere.find(|other| other.carries(by));
    let moved = moved.map(Other::describe_unseen);
    let owner = match (facts.sharing(by).first(), unknown) {
        (Some(name), _) => (*name).to_owned(),
        (None, _) if moved.is_some() => moved.unwrap_or_default().to_owned(),
        (None, Some(unknown)) => format!("another interface, perhaps, ({unknown})"),
        (None, None) if hooked => "another interface".to_owned(),
        // Nobody has these rules.
        (None, None) => return Ok(()),
    };
    Err(Error::Unsupported(format!(
        "Cannot give {interface} port {port}: {} bind {owner} to a VRF by that port, and would bind \
         {interface} as well; choose another listen-port, or bind {interface} with bind-dev in the \
         same command",
        if steered {
            "policy rules"
        } else {
            "the bind hooks"
        }
    )))
}

/// Rules that two devices have in common stay where they hold both: of a port that this device has
/// nothing tells whether the rules for it are its own, or those of one that moved.
fn keep_others_bound(facts: &Facts, plan: &Plan) -> Result<()> {
    if plan.add.is_empty() && plan.clear.is_empty() && plan.remove.is_empty() {
        return Ok(());
    }
    let after = plan.rules_after(&facts.rules);
    let mut others = facts.others.iter().chain(&facts.elsewhere.devices);
    let opened = others.find_map(|other| {
        let binding = facts.rules.find_binding(other.mark, other.port)?;
        let flow = Flow {
            by: binding.by,
            mark: other.mark,
            port: other.port,
        };
        let held = |rules: &Rules| {
            rules
                .find_faults(flow, binding.table.unwrap_or(0))
                .is_empty()
        };
        (binding.table.is_some() && held(&facts.rules) && !held(&after))
            .then_some((other, binding.by))
    });
    let Some((other, by)) = opened else {
        return Ok(());
    };
    let interface = &plan.update.interface;
    Err(Error::Unsupported(format!(
        "Cannot change the binding of {interface}: {} is bound by {by}, and the rules would not hold \
         its packets any more; give {interface} another fwmark or listen-port in the same command",
        other.name
    )))
}

fn present_kind(present: &[Binding]) -> Kind {
    match present.first() {
        Some(Binding {
            by: Selector::Port(_),
            ..
        }) => Kind::Port,
        _ => Kind::Mark,
    }
}

/// The update does not speak of the binding, but maybe of the mark or the port that carries it.
fn keep_binding(facts: &Facts, mut update: Update, present: &[Binding]) -> Result<Plan> {
    let Some(binding) = present.first() else {
        let notes = name_takers(facts, &update);
        return Ok(Plan {
            notes,
            ..Plan::send(update)
        });
    };
    let kind = present_kind(present);
    if update.fwmark.is_keep() && update.listen_port.is_keep() {
        return Ok(Plan::send(update));
    }
    let interface = update.interface.clone();
    let Some(table) = binding.table else {
        let same = match binding.by {
            Selector::Mark(mark) => facts.mark_after(&update.fwmark) == mark,
            Selector::Port(port) => facts.port_after(&update.listen_port) == port,
        };
        if same {
            return Ok(Plan::send(update));
        }
        return Err(Error::Unsupported(format!(
            "Cannot change the {} of {interface}: it carries the binding to a VRF, and no rule \
             says which one any more; bind again or unbind with `bind-dev off'",
            match kind {
                Kind::Mark => "fwmark",
                Kind::Port => "listen port",
            }
        )));
    };
    let name = facts.vrf_name(table);
    let wants_none = kind == Kind::Mark && facts.mark_after(&update.fwmark) == 0;
    let goal = RuleGoal {
        name: &name,
        table,
        kind,
        why: &format!("bound to {name}"),
        keeps: true,
    };
    let plain = update.clone();
    if kind == Kind::Mark && update.fwmark.is_keep() {
        // Not another one that leads there, too.
        update.fwmark = Change::Set(facts.mark);
    }
    let mut plan = bind_by_rules(facts, update, &goal, present)?;
    let holds = plan.add.is_empty() && plan.clear.is_empty();
    if kind == Kind::Mark && plain.fwmark.is_keep() && holds {
        // Another port only, and the rules hold.
        let listen_port = plan.update.listen_port;
        return Ok(Plan::send(Update {
            listen_port,
            ..plain
        }));
    }
    // The attribute was not asked for, and is none of this update's business.
    plan.update.bind_dev = Change::Keep;
    if wants_none {
        plan.notes.push(format!(
            "{interface}: the fwmark is not off, because it carries the binding to {name}; \
             `bind-dev off' removes both"
        ));
    }
    Ok(plan)
}

/// The device was moved here from the namespace whose rules bind it. Without the mark or port that
/// they go by it would leave the VRF, and they cannot be changed from here.
fn keep_bound_elsewhere(facts: &Facts, mut update: Update, by: Selector) -> Result<Plan> {
    let interface = update.interface.clone();
    let is_unknown = facts.sockets == Sockets::Unknown && !facts.up;
    let is_contested = facts.sockets == Sockets::Contested;
    let refuse = |what: &str| {
        Err(Error::Unsupported(if is_contested {
            format!(
                "Cannot {what} {interface}: policy rules in another network namespace bind by {by}, \
                 and nothing tells whether it was made there, because another interface has its port \
                 and there are fewer sockets than interfaces; set the other one down for the moment, \
                 or move {interface} back there, and do it there"
            )
        } else if is_unknown {
            format!(
                "Cannot {what} {interface} while it is down: policy rules in another network \
                 namespace bind by {by}, and nothing tells whether it was made there; set it up \
                 first (`ip link set {interface} up'), or move it back there, and do it there"
            )
        } else {
            format!(
                "Cannot {what} {interface} from here: policy rules in the network namespace where \
                 it was made bind it by {by}; move it back there, and do it there"
            )
        }))
    };
    let wants_off = update.bind_dev == Change::Clear;
    if wants_off && !update.bind_dev_omitted {
        return refuse("unbind");
    }
    let (mark, port) = (
        facts.mark_after(&update.fwmark),
        facts.port_after(&update.listen_port),
    );
    let mut kept = wants_off;
    match by {
        Selector::Mark(_) if mark == 0 => {
            update.fwmark = Change::Keep;
            kept = true;
        }
        Selector::Mark(own) if mark != own => return refuse("change the fwmark of"),
        Selector::Port(own) if port != own && port != 0 => {
            return refuse("change the listen port of");
        }
        _ => {}
    }
    if port == 0 && facts.port != 0 {
        update.listen_port = Change::Keep;
        kept |= matches!(by, Selector::Port(_));
    }
    let moves = !matches!(port, 0) && port != facts.port;
    if wants_off && !facts.support.attribute {
        update.bind_dev = Change::Keep;
    }
    let mut plan = Plan::send(update);
    if kept && facts.bound_unseen {
        plan.notes.push(format!(
            "{interface}: keeps {by}, by which policy rules may bind it in the network namespace \
             where it was made: that does not show from this container"
        ));
    } else if kept && is_unknown {
        plan.notes.push(format!(
            "{interface}: keeps {by}, by which policy rules in another network namespace may bind \
             it: it is down, so nothing tells where it was made"
        ));
    } else if kept && is_contested {
        plan.notes.push(format!(
            "{interface}: keeps {by}, by which policy rules in another network namespace may bind \
             it: another interface has its port and there are fewer sockets than interfaces, so \
             nothing tells where it was made"
        ));
    } else if kept {
        plan.notes.push(format!(
            "{interface}: stays bound by {by}: policy rules in the network namespace where it was \
             made hold it, and only there `bind-dev off' unbinds it"
        ));
    }
    if moves {
        plan.notes.push(format!(
            "{interface}: what it receives on port {port} is not bound to its VRF until it is \
             bound again in the network namespace where it was made"
        ));
    }
    Ok(plan)
}

/// A device that rules in another namespace bind would lose the mark or port that they go by.
fn refuse_second_binding(facts: &Facts, interface: &str, name: &str, by: Selector) -> Error {
    if facts.sockets == Sockets::Unknown && !facts.up {
        return Error::Unsupported(format!(
            "Cannot bind {interface} to `{name}' while it is down: policy rules in another network \
             namespace bind by {by}, and nothing tells whether it was made there; set it up first \
             (`ip link set {interface} up'), and bind it then"
        ));
    }
    if facts.sockets == Sockets::Contested {
        return Error::Unsupported(format!(
            "Cannot bind {interface} to `{name}': policy rules in another network namespace bind by \
             {by}, and nothing tells whether it was made there, because another interface has its port \
             and there are fewer sockets than interfaces; set the other one down for the moment, and \
             bind it then"
        ));
    }
    let (may, shows) = match facts.bound_unseen {
        true => (" may", ", which does not show"),
        false => ("", ""),
    };
    Error::Unsupported(format!(
        "Cannot bind {interface} to `{name}': policy rules in the network namespace where it was \
         created{shows}{may} hold it by {by}; unbind it there with `bind-dev off' first"
    ))
}

/// Which rules of ours will take the packets of a device that is not bound, by the mark or port
/// that it is given.
fn name_takers(facts: &Facts, update: &Update) -> Vec<String> {
    let interface = &update.interface;
    let mark = facts.mark_after(&update.fwmark);
    let port = facts.port_after(&update.listen_port);
    let takers = facts.rules.find_bindings(mark, port).into_iter();
    takers
        .map(|Binding { by, table }| {
            let to = table.map_or_else(
                || "nowhere".to_owned(),
                |table| format!("to {}", facts.vrf_name(table)),
            );
            let sharing = facts.sharing(by);
            if sharing.is_empty() {
                format!(
                    "{interface}: rules of an earlier binding take its packets with {by} {to}; \
                     `bind-dev off' removes them"
                )
            } else {
                format!(
                    "{interface}: {by} is also that of {}, whose rules take the packets of \
                     {interface} {to} as well",
                    sharing.join(", ")
                )
            }
        })
        .collect()
}

fn unbind(facts: &Facts, mut update: Update, present: &[Binding]) -> Result<Plan> {
    if !facts.support.attribute {
        update.bind_dev = Change::Keep;
    }
    let omitted = update.bind_dev_omitted;
    let mut plan = end_fallback(facts, Plan::send(update), present, "stays bound")?;
    let bound = facts.kernel_binding.clone().or_else(|| {
        let table = present.first()?.table;
        Some(table.map_or_else(|| "a VRF".to_owned(), |table| facts.vrf_name(table)))
    });
    if let Some(name) = bound.filter(|_| omitted) {
        plan.notes.insert(
            0,
            format!(
                "{}: no longer bound to {name}: the file has no BindDev",
                plan.update.interface
            ),
        );
    }
    Ok(plan)
}

/// A fallback that is there has served.
fn bind_by_attribute(
    facts: &Facts,
    update: Update,
    name: &str,
    present: &[Binding],
) -> Result<Plan> {
    let mut plan = end_fallback(facts, Plan::send(update), present, "still uses its rules")?;
    for Binding { by, .. } in present {
        plan.notes.push(format!(
            "{}: bound to {name} by the kernel, the rules for {by} are not needed any more",
            plan.update.interface
        ));
    }
    Ok(plan)
}

/// Ends a fallback: the mark goes if it was ours, the rules go if no other device needs them.
fn end_fallback(facts: &Facts, mut plan: Plan, present: &[Binding], stays: &str) -> Result<Plan> {
    // Another tool may have taken the rules: our mark goes all the same.
    let left = is_our_mark(facts.mark) && facts.seen;
    if plan.update.fwmark.is_keep() && (left || present.iter().any(Binding::mark_is_ours)) {
        plan.update.fwmark = Change::Clear;
    }
    let interface = plan.update.interface.clone();
    let after = [
        Selector::Mark(facts.mark_after(&plan.update.fwmark)),
        Selector::Port(facts.port_after(&plan.update.listen_port)),
    ];
    for by in after {
        let sharing = facts.sharing(by);
        if !sharing.is_empty() && !facts.rules.ours_for(by).is_empty() {
            // The rules go by the mark or port alone: they would take this device, too.
            return Err(Error::Unsupported(format!(
                "Cannot unbind {interface}: it has its {by} in common with {}, which {stays}; \
                 give {interface} another one{} in the same command",
                sharing.join(", "),
                match by {
                    Selector::Mark(_) => " (or off)",
                    Selector::Port(_) => "",
                }
            )));
        }
    }
    for Binding { by, table } in present {
        let selected = after.contains(by);
        if facts.sharing(*by).is_empty() {
            let rules = plan.find_removable(facts, *by);
            plan.remove.extend(rules);
        }
        plan.note_shared(facts, *by);
        let flow = Flow {
            by: *by,
            mark: facts.mark,
            port: facts.port,
        };
        let theirs = facts
            .rules
            .iter_rules()
            .map(|(_, rule)| rule)
            .find(|rule| !rule.is_ours() && table.is_some_and(|t| rule.steers(flow, t)))
            .filter(|_| selected);
        if let Some(rule) = theirs {
            plan.notes.push(format!(
                "{interface}: {by} stays, and the rule `{rule}', which is not ours, still acts \
                 on it"
            ));
        }
    }
    plan.remove_leftovers(facts, &after, None);
    // Rules that have to stay, for a mark or port that it keeps, or gets again.
    let left = plan.rules_after(&facts.rules);
    let binds = |by: &&Selector| !left.ours_for(**by).is_empty();
    let unbinds = !matches!(plan.update.bind_dev, Change::Set(_));
    if let Some(by) = after.iter().find(binds).filter(|_| unbinds) {
        let start = format!("the rules for {by} stay");
        let why = plan.notes.iter().find(|note| note.starts_with(&start));
        return Err(refuse_to_unbind(&interface, *by, why.unwrap_or(&start)));
    }
    Ok(plan)
}

/// The rules that have to stay would bind the device still.
fn refuse_to_unbind(interface: &str, by: Selector, why: &str) -> Error {
    Error::Unsupported(format!(
        "Cannot unbind {interface}: {why}, and they would bind it; give {interface} another {} in \
         the same command",
        match by {
            Selector::Mark(_) => "fwmark (or off)",
            Selector::Port(_) => "listen-port",
        }
    ))
}

/// A binding that the fallback is to reach.
struct RuleGoal<'a> {
    name: &'a str,
    /// 0 for a table whose number is lost: then the rules can only keep packets from leaving.
    table: u32,
    kind: Kind,
    /// For the note that names the mark.
    why: &'a str,
    /// The update does not speak of the binding.
    keeps: bool,
}

fn bind_by_rules(
    facts: &Facts,
    mut update: Update,
    goal: &RuleGoal,
    present: &[Binding],
) -> Result<Plan> {
    let RuleGoal {
        name,
        table,
        kind,
        why,
        keeps,
    } = *goal;
    let interface = update.interface.clone();
    if facts.sockets == Sockets::Elsewhere {
        return Err(Error::Unsupported(format!(
            "Cannot bind {interface} to `{name}': its sockets are not in this network \
             namespace but in the one where it was created, and policy rules here cannot reach \
             them; bind it there before moving it, or use a kernel with WGDEVICE_A_BIND_DEV"
        )));
    }
    let port = facts.port_after(&update.listen_port);
    let stays = port == facts.port || port == 0 && facts.keeps_port;
    if facts.sockets == Sockets::Contested && stays {
        let port = facts.port;
        return Err(Error::Unsupported(format!(
            "Cannot bind {interface} to `{name}': {} has port {port}, too, and there are fewer \
             sockets than interfaces: those of one are in another network namespace, and nothing \
             tells of which; give {interface} another port first (listen-port)",
            facts.sharing(Selector::Port(port)).join(", ")
        )));
    }
    if facts.rules.iter_families().next().is_none() {
        return Err(Error::Unsupported(format!(
            "Cannot bind {interface} to `{name}': this kernel has neither WGDEVICE_A_BIND_DEV \
             nor policy rules (CONFIG_IP_MULTIPLE_TABLES)"
        )));
    }
    let by = match kind {
        Kind::Mark => {
            let mark = choose_mark(facts, &update, table, present);
            if mark != facts.mark || !update.fwmark.is_keep() {
                update.fwmark = Change::Set(mark);
            }
            // The kernel could choose a port for which there are rules.
            let any = facts.port_after(&update.listen_port) == 0;
            let by_port = |by: &Selector| matches!(by, Selector::Port(_));
            if any && facts.rules.our_selectors().iter().any(by_port) {
                let own = Selector::Port(facts.port);
                let stays = facts.keeps_port && facts.rules.ours_for(own).is_empty();
                let port = if stays { facts.port } else { facts.free_port };
                update.listen_port = Change::Set(port);
            }
            Selector::Mark(mark)
        }
        Kind::Port => {
            if facts.port_after(&update.listen_port) == 0 {
                update.listen_port = Change::Set(facts.free_port);
            }
            // A mark of our choosing has served.
            if update.fwmark.is_keep() && present.iter().any(Binding::mark_is_ours) {
                update.fwmark = Change::Clear;
            }
            Selector::Port(facts.port_after(&update.listen_port))
        }
    };
    let flow = Flow {
        by,
        mark: facts.mark_after(&update.fwmark),
        port: facts.port_after(&update.listen_port),
    };
    if flow.mark == CLOSED_MARK {
        return Err(Error::Unsupported(format!(
            "Cannot bind {interface} to `{name}': a device has fwmark {CLOSED_MARK:#x} while its \
             sockets are made again, and sends nothing then; choose another one with fwmark in \
             the same command"
        )));
    }
    // A rule behind a pair that stays does no harm.
    let stands = keeps && facts.rules.find_faults(flow, table).is_empty();
    let conflict = match stands {
        true => find_conflicting_device(facts, flow, table),
        false => find_conflict(facts, flow, table),
    };
    if let Some(conflict) = conflict {
        let fits = |mark: &u32| {
            let flow = Flow {
                by: Selector::Mark(*mark),
                mark: *mark,
                ..flow
            };
            *mark != CLOSED_MARK && find_conflict(facts, flow, table).is_none()
        };
        let free = default_marks(table).find(fits);
        return Err(conflict.into_error(&interface, by, free));
    }
    update.bind_dev = if facts.support.attribute {
        // Forced: a binding by attribute would win, so it has to go.
        Change::Clear
    } else {
        Change::Keep
    };
    let mut plan = Plan::send(update);

    let goes_to = present.first().and_then(|binding| binding.table);
    let goes_by_another = present
        .iter()
        .any(|binding| binding.by != by && binding.table == goes_to);
    let mut theirs = false;
    for (family, rules) in facts.rules.iter_families() {
        let place = find_place(rules, flow, table).map_err(|rule| {
            Error::Unsupported(format!(
                "Cannot bind {interface} to `{name}': the {family} rule `{rule}' comes before \
                 any that could be added, so packets with {by} would not be kept in {name}; give \
                 that rule another priority"
            ))
        })?;
        theirs |= place.adopted;
        let (add, remove) = arrange_pair(rules, &place, flow, table);
        plan.add.extend(add.into_iter().map(|rule| (family, rule)));
        for rule in remove {
            // What leads elsewhere goes before the device goes by it, and what nobody needs.
            let leads_away = match rule.action {
                Action::Table(to) => to != table && Some(to) != goes_to,
                _ => false,
            };
            let out = match facts.is_unused(by) || leads_away && goes_by_another {
                true => &mut plan.clear,
                false => &mut plan.remove,
            };
            out.push((family, rule));
        }
    }
    // What carried the binding before.
    for old in present.iter().map(|binding| binding.by) {
        if old != by && facts.sharing(old).is_empty() {
            let rules = plan.find_removable(facts, old);
            plan.remove.extend(rules);
        } else if old != by {
            plan.note_shared(facts, old);
        }
    }
    // Rules for a mark that this device is given beside its port would take its packets, too.
    let after = [Selector::Mark(flow.mark), Selector::Port(flow.port)];
    plan.remove_leftovers(facts, &after, Some(by));
    plan.remove_twins(facts, flow, table);
    refuse_a_leak(facts, &plan, flow, goal)?;
    plan.notes.insert(
        0,
        format!(
            "{interface}: {why}, using {by} via table {table}{}",
            if theirs {
                " (a rule that was there)"
            } else {
                ""
            }
        ),
    );
    warn_of_limits(&mut plan, facts, goal, flow);
    Ok(plan)
}

/// Rules that have to stay, because nothing tells who needs them, may take the device's packets.
fn refuse_a_leak(facts: &Facts, plan: &Plan, flow: Flow, goal: &RuleGoal) -> Result<()> {
    let interface = &plan.update.interface;
    let rules = plan.rules_after(&facts.rules);
    if goal.table == 0 || rules.find_faults(flow, goal.table).is_empty() {
        return Ok(());
    }
    // One that leads to another table, or one that closes.
    let in_the_way = |rule: &&Rule| {
        let stops = rule.action != Action::Table(goal.table);
        stops && rule.is_ours_for(flow) && rule.our_selector() != Some(flow.by)
    };
    let rule = rules.iter_ours().map(|(_, rule)| rule).find(in_the_way);
    let unknown = facts.unknown.as_ref().or(facts.elsewhere.unknown.as_ref());
    Err(Error::Unsupported(format!(
        "Cannot bind {interface} to `{}': {}",
        goal.name,
        match (rule, unknown) {
            (Some(rule), Some(unknown)) => format!(
                "the rule `{rule}', which an earlier binding left, would take its packets, and it \
                 cannot be told whether another device needs it ({unknown}); choose another \
                 fwmark or listen-port in the same command"
            ),
            _ => "the rules that are there would not keep its packets in it".to_owned(),
        }
    )))
}

/// What the user should know of this binding.
fn warn_of_limits(plan: &mut Plan, facts: &Facts, goal: &RuleGoal, flow: Flow) {
    let interface = &plan.update.interface;
    let RuleGoal { name, table, .. } = *goal;
    let mut notes = Vec::new();
    if flow.by == Selector::Mark(table) {
        notes.push(format!(
            "{interface}: fwmark {table} is also the number of {name}'s table: wg-quick with \
             Table=auto would put its default route there and delete the table's rules; choose \
             another fwmark, set Table=off, or bind without a mark (WG_BIND_DEV_MODE=port)"
        ));
    }
    if matches!(facts.sockets, Sockets::Unknown | Sockets::Contested) && !facts.alone {
        let why = if facts.sockets == Sockets::Contested {
            "another interface has had its port, with fewer sockets than interfaces"
        } else if facts.up {
            "the sockets of this network namespace cannot be read"
        } else {
            "it is down"
        };
        notes.push(format!(
            "{interface}: {why}, so nothing tells in which network namespace its sockets will be; \
             if it was created in another one, these rules do not hold it (`wg show {interface}' \
             says so once it is up)"
        ));
    }
    if facts.wg_quick {
        notes.push(format!(
            "{interface}: wg-quick puts rules of its own in front of these, and then a route of \
             the main table to a peer wins over {name}; `PostUp = wg set %i bind-dev {name}' or \
             `Table = off' prevents it"
        ));
    }
    let sharing = facts.sharing(flow.by);
    let leads = |(_, rule): &(Family, Rule)| matches!(rule.action, Action::Table(_));
    if !sharing.is_empty() && !facts.rules.ours_for(flow.by).iter().any(leads) {
        notes.push(format!(
            "{interface}: {} is also that of {}, which goes to {name} with it",
            flow.by,
            sharing.join(", ")
        ));
    }
    plan.notes.extend(notes);
}

fn vrf_table(interface: &str, name: &str, target: &Target) -> Result<u32> {
    match target {
        Target::Vrf { table } => Ok(*table),
        // The VRF is to come: until then nothing leaves.
        Target::None | Target::Missing if bind_table(name).is_some() => {
            Ok(bind_table(name).unwrap_or_default())
        }
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
fn choose_mark(facts: &Facts, update: &Update, table: u32, present: &[Binding]) -> u32 {
    let wanted = &update.fwmark;
    match *wanted {
        Change::Set(mark) if mark != 0 => return mark,
        _ => {}
    }
    // A configuration that states no mark states that there is none; so only "keep" keeps. A
    // mark of our own choosing belongs to the old table and is chosen anew.
    let ours = present.iter().any(Binding::mark_is_ours) || is_our_mark(facts.mark);
    // So does one that a foreign rule leads to the old table.
    let adopted = |binding: &Binding| {
        let own = facts.rules.ours_for(binding.by);
        let closes = |(_, rule): &(Family, Rule)| rule.action == Action::Unreachable;
        let leads_away = binding.table.is_some_and(|old| old != table);
        binding.by == Selector::Mark(facts.mark) && leads_away && own.iter().all(closes)
    };
    let ours = ours || present.iter().any(adopted);
    if wanted.is_keep() && !ours && facts.mark != 0 {
        return facts.mark;
    }
    let flow = |mark: u32| Flow {
        port: facts.port_after(&update.listen_port),
        ..Flow::marked(mark)
    };
    let fits = |mark: u32| mark != CLOSED_MARK && find_conflict(facts, flow(mark), table).is_none();
    let theirs = facts.rules.iter_rules().map(|(_, rule)| rule).find(|rule| {
        !rule.is_ours()
            && rule.mark != 0
            && rule.steers(Flow::marked(rule.mark), table)
            && fits(rule.mark)
    });
    if let Some(rule) = theirs {
        return rule.mark;
    }
    // The one by which this VRF is reached already, the device's own before that of others, else
    // the first that means nothing else.
    let own = present.iter().map(|binding| binding.by);
    let shared = own.chain(facts.rules.our_selectors()).find_map(|by| {
        let Selector::Mark(mark) = by else {
            return None;
        };
        let there = facts.rules.find_binding(mark, 0)?.table == Some(table);
        (there && is_default_mark(mark) && fits(mark)).then_some(mark)
    });
    shared
        .or_else(|| default_marks(table).find(|mark| fits(*mark)))
        .unwrap_or_else(|| default_mark(table))
}

/// Why a mark or port must not be taken: it already means another table.
enum Conflict<'a> {
    /// A foreign rule looks at it.
    Rule(&'a Rule),
    /// Another device is bound by it.
    Device { name: String, rule: Rule },
    /// Two devices send from one port.
    Port { name: &'a str },
    /// Another device is bound by the port that this one has, or gets, too.
    BoundByPort { name: &'a str, port: u16 },
    /// Another device is bound by it, and only its closing rule is left.
    Closed { name: String },
}

impl Conflict<'_> {
    /// `free` is a mark that means nothing else.
    fn into_error(self, interface: &str, by: Selector, free: Option<u32>) -> Error {
        let instead = match by {
            Selector::Mark(_) => format!(
                "choose another one with fwmark in the same command{}, or bind without a mark: \
                 WG_BIND_DEV_MODE=port",
                free.map_or_else(String::new, |mark| format!(" ({mark:#x} is free)"))
            ),
            Selector::Port(_) => {
                "choose another one with listen-port in the same command".to_owned()
            }
        };
        Error::Unsupported(match self {
            Conflict::Rule(rule) => {
                format!("Cannot bind {interface}: {by} is in use by the rule `{rule}'; {instead}")
            }
            Conflict::Device { name, rule } => format!(
                "Cannot bind {interface}: {name} is bound by the same {by} to another VRF \
                 (`{rule}'); {instead}"
            ),
            Conflict::Port { name } => format!(
                "Cannot bind {interface} by its source port: {name} has the same {by}; {instead}, \
                 or bind by a mark: WG_BIND_DEV_MODE=fwmark"
            ),
            Conflict::Closed { name } => format!(
                "Cannot bind {interface}: {name} is bound by the same {by}, and no rule says to which \
                 VRF any more; {instead}"
            ),
            Conflict::BoundByPort { name, port } => format!(
                "Cannot bind {interface}: {name} is bound by its source port {port}, and the \
                 rules for it would take the packets of {interface} as well; give {interface} \
                 another one with listen-port in the same command"
            ),
        })
    }
}

/// The other device that a closing rule for this mark keeps from sending, and that nothing tells the
/// VRF of: somebody took the lookup. Another lookup would lead it there.
fn find_closed(facts: &Facts, flow: Flow, table: u32) -> Option<String> {
    let marked = Selector::Mark(flow.mark);
    let is_closed = flow.by == marked
        && (facts.rules.find_binding(flow.mark, 0)).is_some_and(|binding| binding.table.is_none());
    if !is_closed {
        return None;
    }
    // A device that has the mark already was led where the other one was: it brings that back.
    let joins = facts.mark != flow.mark;
    let is_apart = |other: &Other| {
        let mut entries = facts.hooked.iter();
        let entry = entries.find(|(port, entry)| *port == other.port && !entry.leaving);
        match entry.filter(|(_, entry)| !entry.vrf.is_empty()) {
            Some((_, entry)) => !facts.vrfs.contains(&(entry.vrf.clone(), table)),
            None => joins,
        }
    };
    let mut here = facts.others.iter();
    if let Some(other) = here.find(|dev| dev.carries(marked) && is_apart(dev)) {
        return Some(other.name.clone());
    }
    let mut moved = facts.elsewhere.devices.iter();
    let unknown = facts.unknown.is_some() || facts.elsewhere.unknown.is_some();
    if !joins {
        None
    } else if let Some(dev) = moved.find(|dev| dev.carries(marked)) {
        Some(dev.describe_unseen().to_owned())
    } else if unknown {
        Some("a device that could not be asked, perhaps,".to_owned())
    } else {
        None
    }
}

fn find_conflict(facts: &Facts, flow: Flow, table: u32) -> Option<Conflict<'_>> {
    let rule = find_conflicting_rule(facts, flow, table).map(Conflict::Rule);
    rule.or_else(|| find_conflicting_device(facts, flow, table))
}

/// The foreign rule that leads these packets elsewhere, wherever it stands.
fn find_conflicting_rule(facts: &Facts, flow: Flow, table: u32) -> Option<&Rule> {
    let mut rules = facts.rules.iter_rules().map(|(_, rule)| rule);
    rules.find(|rule| {
        let elsewhere = match rule.action {
            Action::Table(to) => to != table && to != TABLE_LOCAL,
            Action::Goto => true,
            Action::Unreachable | Action::Drop | Action::Nop | Action::Other => false,
        };
        !rule.is_ours() && rule.looks_at(flow) && elsewhere
    })
}

fn find_conflicting_device(facts: &Facts, flow: Flow, table: u32) -> Option<Conflict<'_>> {
    let sharing = facts.sharing(flow.by);
    if let (Selector::Port(_), Some(name)) = (flow.by, sharing.first()) {
        return Some(Conflict::Port { name });
    }
    // Rules for the mark take these packets, too, also when the port selects them.
    let marked = Selector::Mark(flow.mark);
    let to_another = |by: Selector| {
        facts.rules.iter_ours().map(|(_, rule)| *rule).find(|rule| {
            rule.our_selector() == Some(by)
                && matches!(rule.action, Action::Table(to) if to != table)
        })
    };
    let here = facts.sharing(marked);
    let mut moved = facts.elsewhere.devices.iter();
    let moved = moved.find(|dev| dev.carries(marked));
    let unknown = facts.unknown.is_some() || facts.elsewhere.unknown.is_some();
    if let Some(rule) = to_another(marked) {
        if let Some(name) = here.first() {
            let name = (*name).to_owned();
            return Some(Conflict::Device { name, rule });
        }
        if let Some(dev) = moved {
            let name = dev.describe_unseen().to_owned();
            return Some(Conflict::Device { name, rule });
        }
        // What this device has already is taken for its own.
        if unknown && facts.mark != flow.mark {
            let name = "a device that could not be asked, perhaps,".to_owned();
            return Some(Conflict::Device { name, rule });
        }
    }
    if let Some(name) = find_closed(facts, flow, table) {
        return Some(Conflict::Closed { name });
    }
    // So do those for the port of another device, that this one has as well.
    let by_port = Selector::Port(flow.port);
    let mut all = facts.others.iter().chain(&facts.elsewhere.devices);
    let sharing = all.find(|other| other.carries(by_port));
    match (sharing, to_another(by_port)) {
        (Some(other), Some(rule)) => {
            let name = other.name.clone();
            return Some(Conflict::Device { name, rule });
        }
        // The same VRF for now, but the rules go by the port alone. Those for a port that this device
        // has already may be its own.
        (Some(other), None)
            if (flow.by != by_port || flow.port != facts.port)
                && !facts.rules.ours_for(by_port).is_empty() =>
        {
            return Some(Conflict::BoundByPort {
                name: &other.name,
                port: flow.port,
            });
        }
        (None, Some(rule)) if unknown && facts.port != flow.port => {
            let name = "a device that could not be asked, perhaps,".to_owned();
            return Some(Conflict::Device { name, rule });
        }
        _ => {}
    }
    // And a port that a moved device has, which is bound here by its mark to another VRF.
    let moved = facts.elsewhere.devices.iter();
    if let Some((other, rule)) = moved
        .filter(|other| matches!(flow.by, Selector::Port(_)) && other.carries(flow.by))
        .find_map(|other| {
            // The lookup may be an administrator's; only the closing rule is ours then.
            let bound = facts.rules.find_binding(other.mark, 0)?;
            let (_, rule) = *facts.rules.ours_for(bound.by).first()?;
            (bound.table != Some(table)).then_some((other, rule))
        })
    {
        let name = other.name.clone();
        return Some(Conflict::Device { name, rule });
    }
    // And a mark that another device has, which is bound by its port to another VRF.
    let by_port = facts
        .others
        .iter()
        .chain(&facts.elsewhere.devices)
        .filter(|other| flow.mark != 0 && other.mark == flow.mark);
    by_port
        .filter(|_| matches!(flow.by, Selector::Mark(_)))
        .find_map(|other| {
            let rule = to_another(Selector::Port(other.port))?;
            let name = other.name.clone();
            Some(Conflict::Device { name, rule })
        })
}
