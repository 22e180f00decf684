// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Keeps the sockets of a device that policy rules bind on its VRF.
//!
//! Before the device is changed, the bind hooks are told which VRF belongs to its port; after it,
//! sockets that exist already are made again. What is said about them is looked up afterwards.

use std::cell::OnceCell;
use std::collections::HashSet;
use std::net::{self, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::bpf::{Changing, Hooks, Unavailable, try_hooks};
use super::namespaces::{self, Depth};
use super::netlink::Failure;
use super::routing::{self, Routing};
use super::{Backend, KIND, Wireguard, diag, find_link, find_rivals, place_sockets};
use crate::error::{Error, Result, Task};
use crate::model::{
    Change, Device, Family, HookEntry, Receives, Rule, Selector, UdpSocket, Update, bind_table,
};
use crate::plan::receive::{self, Binder, CLOSED_MARK, ReceiveMode};
use crate::plan::rules::{Rules, find_closing_place};
use crate::plan::{Facts, Other, Sockets, Strategy};
use crate::sys;
use crate::wire::route::Link;

/// How often a port is tried that was free a moment ago.
const PORT_ATTEMPTS: u32 = 20;
const PORT_PAUSE: Duration = Duration::from_millis(5);

/// How many free ports are tried until one is free in both families.
const FREE_ATTEMPTS: u32 = 16;

/// What a device receives, as far as it can be seen. `vrf` is the name of its VRF, `links` are those
/// of its namespace, where its sockets are.
pub fn read_receives(device: &Device, vrf: Option<&str>, links: &[Link]) -> Option<Receives> {
    let port = device.listen_port;
    if port == 0 {
        return None;
    }
    let link = find_link(links, &device.name);
    let index = vrf.and_then(find_index);
    if link.is_some_and(|link| link.up) {
        let process = link.is_none_or(|link| link.kind != KIND);
        let sockets = diag::own_sockets(port, process).ok()?;
        let judged = receive::judge_sockets(&sockets, 0, index, find_name);
        return Some(judged.unwrap_or(Receives::Unclear));
    }
    // It has no sockets. The entry for its port tells what they will be bound to.
    let hooks = Hooks::find_hooks().ok()?;
    // The program of one family alone leaves the sockets of the other as they are.
    let entry = match hooks.is_whole() {
        true => hooks.get(port).ok()?,
        false => None,
    };
    let sockets = diag::udp_sockets(port).unwrap_or_default();
    let in_the_way = |one: &UdpSocket| one.device == 0 || Some(one.device) == index;
    let is_anothers = |owner: u32, own: &Link| {
        let mut tunnels = links.iter().filter(|link| is_tunnel(link));
        owner != own.index && tunnels.any(|link| link.index == owner)
    };
    Some(match entry {
        None => Receives::Any,
        Some(entry) if entry.leaving => Receives::Any,
        // The hooks go by the name, also where the VRF has the same table.
        Some(entry) if vrf != Some(&entry.vrf) => match find_index(&entry.vrf) {
            Some(_) => Receives::Other(vec![entry.vrf]),
            None => Receives::Nothing,
        },
        // The other device may have the port first, and another socket has it. An index that no tunnel
        // has is that of one which is elsewhere, or of this one before it was.
        Some(entry) if link.is_none_or(|own| is_anothers(entry.owner, own)) => Receives::Unclear,
        Some(_) if sockets.iter().any(in_the_way) => Receives::Unclear,
        Some(_) => Receives::Bound,
    })
}

/// The index of a device of this namespace; in tests as the script says.
pub fn find_index(name: &str) -> Option<u32> {
    #[cfg(test)]
    if let Some(links) = super::scripted::links() {
        let mut links = links.iter().filter(|link| link.is_called(name));
        return links.next().map(|link| link.index);
    }
    sys::if_index(name)
}

/// The name of the device that has this index; in tests as the script says.
fn find_name(index: u32) -> Option<String> {
    #[cfg(test)]
    if let Some(links) = super::scripted::links() {
        let mut links = links.into_iter().filter(|link| link.index == index);
        return links.next().map(|link| link.name);
    }
    sys::interface_name(index)
}

/// Whether a device has this index.
fn is_live(index: u32) -> bool {
    find_name(index).is_some()
}

/// Removes entries of devices and of namespaces that are gone. It is silent where the hooks cannot
/// be seen: the command binds nothing.
pub fn sweep_entries() {
    let Ok(hooks) = Hooks::find_hooks() else {
        return;
    };
    let Ok((others, entries)) = hooks.read_all() else {
        return;
    };
    sweep_namespaces(&others);
    if entries.is_empty() {
        if others.is_empty() {
            remove_programs(&hooks);
        }
        return;
    }
    let links = Routing::open()
        .ok()
        .and_then(|mut routing| routing.read_links().ok());
    if let Some(links) = links {
        let _ = remove_unused(&entries, &links);
    }
}

/// Removes programs whose map is empty: a command that was killed has taken the last entry.
fn remove_programs(hooks: &Hooks) {
    if hooks.has_programs() {
        let _ = Changing::start_change().and_then(|mut changing| changing.remove_entries(&[]));
    }
}

/// Removes the entries of namespaces that are gone. They bind nothing any more, but the map has
/// room for so many. What cannot be removed now stays for the next command.
fn sweep_namespaces(others: &[u64]) {
    if others.is_empty() {
        return;
    }
    let gone = namespaces::find_gone(others);
    if !gone.is_empty() {
        let _ = Changing::start_change().and_then(|mut changing| changing.remove_namespaces(&gone));
    }
}

/// The entries of this namespace; none where the hooks cannot be seen.
pub fn read_entries() -> Vec<(u16, HookEntry)> {
    let entries = Hooks::find_hooks().and_then(|hooks| hooks.read_entries());
    entries.unwrap_or_default()
}

/// The entry by which the device with this index is bound, on its port.
pub fn own_entry(entries: &[(u16, HookEntry)], port: u16, index: u32) -> Option<&HookEntry> {
    let is_own =
        |entry: &HookEntry| entry.owner == index && !entry.leaving && !entry.vrf.is_empty();
    let mut own = entries
        .iter()
        .filter(|(of, entry)| *of == port && is_own(entry));
    own.next().map(|(_, entry)| entry)
}

/// Whether the program at the hooks binds the sockets of processes as well, whatever the entry says.
pub fn binds_all_sockets() -> bool {
    Hooks::find_hooks().is_ok_and(|hooks| hooks.bind_all_sockets())
}

/// The entry for a port, whoever made it.
fn entry_for(entries: &[(u16, HookEntry)], port: u16) -> Option<&HookEntry> {
    let mut entries = entries.iter();
    entries.find(|(of, _)| *of == port).map(|(_, entry)| entry)
}

/// Whether a device has an entry that was made for it, on whatever port.
pub fn has_entry(interface: &str) -> bool {
    let Some(index) = find_index(interface) else {
        return false;
    };
    let mut entries = read_entries().into_iter();
    entries.any(|(_, entry)| entry.was_accepted_for(index))
}

/// The entry for a port, where it is another device's.
pub fn entry_of_another(interface: &str, port: u16) -> Vec<(u16, HookEntry)> {
    let entry = Hooks::find_hooks().and_then(|hooks| hooks.get(port));
    let index = find_index(interface);
    let entry = entry.ok().flatten().into_iter();
    let of_another = entry.filter(|entry| Some(entry.owner) != index);
    of_another.map(|entry| (port, entry)).collect()
}

/// Whether it may own an entry. Another kind of link has only the index of a device that is gone.
fn is_tunnel(link: &Link) -> bool {
    [KIND, "tun"].contains(&&*link.kind)
}

/// The ports of entries whose device is gone.
pub fn find_unused(entries: &[(u16, HookEntry)], links: &[Link]) -> Vec<u16> {
    let tunnels = links.iter().filter(|link| is_tunnel(link));
    let here: HashSet<u32> = tunnels.map(|link| link.index).collect();
    let mut needed = Needed::default();
    receive::unused_ports(entries, |port, binding| {
        here.contains(&binding.owner) || needed.is_needed_beyond(port, binding, links)
    })
}

/// Which ports devices need that were made here and moved. Other namespaces are looked into once,
/// and only when that is asked.
#[derive(Default)]
struct Needed {
    elsewhere: Option<(Vec<u16>, bool)>,
    /// The devices here and the rules; `None` where they cannot be read.
    here: Option<Option<(Vec<Other>, Rules)>>,
}

impl Needed {
    /// A device that was made here and moved has its sockets here still, while it is up. What
    /// cannot be looked at counts as such.
    fn is_needed(&mut self, port: u16, entry: &HookEntry) -> bool {
        may_have_bound_socket(port, entry.process) || self.is_needed_elsewhere(port)
    }

    /// As [`Needed::is_needed`], by others than the devices here: each that is up and bound by rules
    /// accounts for one socket of a family.
    fn is_needed_beyond(&mut self, port: u16, entry: &HookEntry, links: &[Link]) -> bool {
        let is_needed = may_have_bound_socket(port, entry.process) && {
            let here = self.here.get_or_insert_with(|| read_here(links));
            here.as_ref().is_none_or(|(devices, rules)| {
                let is_bound = |other: &&Other| {
                    let up = find_link(links, &other.name).is_some_and(|link| link.up);
                    let of_kind = other.port == port && other.userspace == entry.process;
                    up && of_kind && rules.find_binding(other.mark, port).is_some()
                };
                let bound = count_bound_sockets(port, entry.process);
                bound.is_none_or(|count| count > devices.iter().filter(is_bound).count())
            })
        };
        is_needed || self.is_needed_elsewhere(port)
    }

    fn is_needed_elsewhere(&mut self, port: u16) -> bool {
        let (ports, unknown) = self.elsewhere.get_or_insert_with(ports_elsewhere);
        *unknown || ports.contains(&port)
    }
}

/// Says whether there was any.
fn remove_unused(
    entries: &[(u16, HookEntry)],
    links: &[Link],
) -> std::result::Result<bool, Unavailable> {
    let unused = find_unused(entries, links);
    if unused.is_empty() {
        return Ok(false);
    }
    let Some(heirs) = find_heirs(&unused, entries, links) else {
        return Ok(false);
    };
    let mut changing = Changing::start_change()?;
    // Another command may have made a new device's entry meanwhile.
    let now = changing.read_entries()?;
    let same = |port: u16| {
        let mut old = entries.iter().filter(|(known, _)| *known == port);
        old.all(|entry| now.contains(entry))
    };
    for (port, heir) in heirs.into_iter().filter(|(port, _)| same(*port)) {
        changing.hand_over(port, heir)?;
    }
    Ok(true)
}

/// Who inherits these ports; `None` where that cannot be told.
fn find_heirs(
    ports: &[u16],
    entries: &[(u16, HookEntry)],
    links: &[Link],
) -> Option<Vec<(u16, Option<HookEntry>)>> {
    let (devices, rules) = read_here(links)?;
    let heir = |port: &u16| {
        let old = entry_for(entries, *port);
        (*port, find_heir(*port, old, links, &devices, &rules))
    };
    Some(ports.iter().map(heir).collect())
}

/// Every device here and the rules; `None` where they cannot all be read.
fn read_here(links: &[Link]) -> Option<(Vec<Other>, Rules)> {
    let rules = Routing::open().ok()?.read_rules().ok()?;
    let kernel = Wireguard::open(Task::ListInterfaces).map(Backend::Kernel);
    let mut backend = kernel.unwrap_or(Backend::Userspace);
    let (devices, unknown) = super::read_others(&mut backend, links, "").ok()?;
    unknown.is_none().then_some((devices, rules))
}

impl Changing {
    /// Gives a port the entry that it had before.
    fn restore_entry(
        &mut self,
        port: u16,
        before: Option<&HookEntry>,
    ) -> std::result::Result<(), Unavailable> {
        match before {
            Some(binding) => self.insert_entry(port, binding, true),
            None => self.remove_entries(&[port]),
        }
    }

    /// Gives a port to the device that inherits it, or to none.
    fn hand_over(
        &mut self,
        port: u16,
        heir: Option<HookEntry>,
    ) -> std::result::Result<(), Unavailable> {
        match heir {
            Some(binding) => self.insert_entry(port, &binding, true),
            None => self.remove_entries(&[port]),
        }
    }
}

/// The ports of devices in other namespaces that are down, and whether some could not be asked.
fn ports_elsewhere() -> (Vec<u16>, bool) {
    let (found, unknown) = namespaces::in_others(Depth::Hidden, ports_here);
    let unknown = unknown.is_some() || found.iter().any(Option::is_none);
    (found.into_iter().flatten().flatten().collect(), unknown)
}

/// The ports of devices of this thread's namespace that are down; `None` where one could not be
/// asked.
fn ports_here() -> Option<Vec<u16>> {
    let links = Routing::open().ok()?.read_links().ok()?;
    let down = |link: &&Link| link.kind == KIND && !link.up;
    let links: Vec<&Link> = links.iter().filter(down).collect();
    if links.is_empty() {
        return Some(Vec::new());
    }
    let mut wireguard = Wireguard::open(Task::ListInterfaces).ok()?;
    links
        .iter()
        .map(|link| Some(wireguard.get_head(&link.name).ok()?.0.listen_port))
        .collect()
}

/// Where a device is to receive from after a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiveGoal {
    pub vrf: String,
    /// The device's mark after the change.
    pub mark: u32,
}

/// A device that a command left closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interrupted {
    port: u16,
    /// The mark that it is to get back; `None` where that cannot be seen.
    mark: Option<u32>,
}

impl Interrupted {
    /// Port and mark that the device gets back. A command that binds or unbinds it needs to know
    /// no mark.
    ///
    /// # Errors
    /// The mark cannot be seen, and another one could open the device.
    pub fn check_known(self, interface: &str, strategy: &Strategy) -> Result<(u16, u32)> {
        match self.mark {
            None if *strategy == Strategy::Keep => Err(Error::Unsupported(format!(
                "Cannot change {interface}: a command that was to bind its sockets ended half way \
                 and left it closed, and the fwmark from before cannot be seen; bind it again, or \
                 unbind it with `bind-dev off'"
            ))),
            mark => Ok((self.port, mark.unwrap_or(0))),
        }
    }
}

/// One change of a device, as far as its sockets are concerned.
pub struct Receiving {
    mode: ReceiveMode,
    interface: String,
    /// The device's index.
    index: u32,
    entries: std::result::Result<Vec<(u16, HookEntry)>, Unavailable>,
    /// Whether they bind the sockets of processes as well.
    pub all_sockets: bool,
    /// The ports of this device's entries, once [`Receiving::find_own`] has looked.
    own: Vec<u16>,
    /// The entry that this change made or replaced, and what was there before.
    inserted: Option<(u16, Option<HookEntry>)>,
    /// Why there is none.
    reason: Option<Unavailable>,
    /// The port whose entry this change made one of a device that leaves.
    left: Option<u16>,
    /// The entry that takes the place of one for no VRF, once the device sends by the new VRF.
    awaited: Option<(u16, HookEntry)>,
}

impl Receiving {
    /// Reads the entries of this namespace, and removes those of devices and namespaces that are
    /// gone.
    pub fn read_state(interface: &str, mode: ReceiveMode, links: &[Link]) -> Self {
        let read = || Hooks::find_hooks().and_then(|hooks| hooks.read_entries());
        let mut all_sockets = false;
        let first = Hooks::find_hooks().and_then(|hooks| {
            all_sockets = hooks.bind_all_sockets();
            let (others, entries) = hooks.read_all()?;
            sweep_namespaces(&others);
            Ok(entries)
        });
        let entries = first.and_then(|entries| {
            if entries.is_empty() {
                return Ok(entries);
            }
            if remove_unused(&entries, links)? {
                read()
            } else {
                Ok(entries)
            }
        });
        Receiving {
            mode,
            interface: interface.to_owned(),
            index: find_index(interface).unwrap_or(0),
            entries,
            all_sockets,
            own: Vec::new(),
            inserted: None,
            reason: None,
            left: None,
            awaited: None,
        }
    }

    /// Whether sockets of other programs may be bound as well. Who accepted it for this device need
    /// not say so at each change.
    fn accepts_all_sockets(&self) -> bool {
        let mut own = self.own_entries();
        self.mode == ReceiveMode::Bound || own.any(|(_, entry)| !entry.inherited)
    }

    /// Whether its entry for the port was made for another device.
    fn has_inherited(&self, port: u16) -> bool {
        let mut own = self.own_entries();
        own.any(|(of, entry)| *of == port && entry.inherited)
    }

    fn known_entries(&self) -> &[(u16, HookEntry)] {
        self.entries.as_ref().map_or(&[], Vec::as_slice)
    }

    /// The entries of this device.
    fn own_entries(&self) -> impl Iterator<Item = &(u16, HookEntry)> {
        self.known_entries()
            .iter()
            .filter(|(port, _)| self.own.contains(port))
    }

    /// The entries that are not this device's.
    pub fn entries_of_others(&self) -> Vec<(u16, HookEntry)> {
        let known = self.known_entries().iter();
        let of_others = known.filter(|(port, _)| !self.own.contains(port));
        of_others.cloned().collect()
    }

    /// Whether the device has an entry for this port, its own, and keeps it where the kernel could
    /// choose one.
    pub fn keeps_port(&self, port: u16) -> bool {
        self.mode != ReceiveMode::Any && self.own_entries().any(|(own, _)| *own == port)
    }

    /// Finds the entries of this device. An index alone does not tell: a device that was in another
    /// namespace may have come back with a new one, and its old one may be another device's now.
    pub fn find_own(
        &mut self,
        mark: u32,
        port: u16,
        unbinds: bool,
        links: &[Link],
        others: &[Other],
    ) {
        let entries = self.known_entries();
        let is_others = |owner: u32, port: u16| {
            let mut same_port = others.iter().filter(|other| other.port == port);
            same_port.any(|other| {
                let link = links.iter().find(|link| link.name == other.name);
                link.is_some_and(|link| link.index == owner)
            })
        };
        let is_up = links.iter().any(|link| link.up && link.index == self.index);
        let device = receive::Owner {
            index: self.index,
            mark,
            port,
            is_up,
            unbinds,
        };
        let mut needed = Needed::default();
        let own = receive::own_ports(entries, &device, is_others, |port, entry| {
            needed.is_needed(port, entry)
        });
        self.own = own;
    }

    /// Adds what other devices get back that a command left closed while it made their sockets
    /// again: the rules for that must stay.
    pub fn add_interrupted(&self, links: &[Link], others: &mut Vec<Other>) {
        let closed = others.iter().filter(|other| other.mark == CLOSED_MARK);
        let back: Vec<Other> = closed
            .filter_map(|other| {
                let link = links.iter().find(|link| link.name == other.name)?;
                let mut entries = self.known_entries().iter();
                let (port, entry) = entries.find(|(_, entry)| entry.owner == link.index)?;
                Some(Other {
                    name: other.name.clone(),
                    mark: entry.mark,
                    port: *port,
                    userspace: other.userspace,
                })
            })
            .collect();
        others.extend(back);
    }

    /// What is known of a device whose sockets were being made again when that was interrupted:
    /// as its entry has it, else the port of now and no mark. A device that has that mark from its
    /// user has neither an entry nor rules of ours for it.
    pub fn find_interrupted(&self, mark: u32, port: u16, rules: &Rules) -> Option<Interrupted> {
        let closed = !rules.ours_for(Selector::Mark(CLOSED_MARK)).is_empty();
        // A command that moves a device to another port has an entry for each: the rules tell
        // which of them it was to keep.
        let steered =
            |entry: &&(u16, HookEntry)| rules.find_binding(entry.1.mark, entry.0).is_some();
        let entry = self
            .own_entries()
            .find(steered)
            .or_else(|| self.own_entries().find(|(_, entry)| entry.leaving))
            .or_else(|| self.own_entries().next());
        if mark != CLOSED_MARK || (entry.is_none() && !closed) {
            return None;
        }
        let of_others = |by: &Selector| *by != Selector::Mark(CLOSED_MARK);
        Some(match entry {
            Some((port, entry)) => Interrupted {
                port: *port,
                mark: Some(entry.mark),
            },
            // Without rules it was bound to nothing, and a mark of the user's own is lost.
            None => Interrupted {
                port,
                mark: (!rules.our_selectors().iter().any(of_others)).then_some(0),
            },
        })
    }

    /// Sees to it that the port can be had where a device that is up is to receive from: in the
    /// VRF of `goal`, else everywhere. The kernel with the attribute refuses what it cannot have,
    /// too, and keeps the binding.
    ///
    /// # Errors
    /// EADDRINUSE: another socket has the port there. Nothing was changed.
    pub fn check_port(
        &self,
        goal: Option<&ReceiveGoal>,
        update: &Update,
        facts: &Facts,
        links: &[Link],
        note: &mut dyn FnMut(&str),
    ) -> Result<()> {
        if goal.is_some() {
            self.check_neighbours(update, facts, links, note)?;
        }
        let port = facts.port;
        if !facts.up || receive::port_after(port, &update.listen_port) != Some(port) {
            return Ok(());
        }
        let table = facts
            .rules
            .find_binding(facts.mark, port)
            .and_then(|binding| binding.table);
        let shared = is_shared(port);
        let (taken, place) = match goal {
            Some(goal) => {
                let index = find_index(&goal.vrf);
                let known = |name: &str, t: u32| name == goal.vrf && Some(t) == table;
                let stays = facts.vrfs.iter().any(|(name, t)| known(name, *t))
                    || self.own_entries().any(|(_, entry)| entry.vrf == goal.vrf);
                let sockets = diag::udp_sockets(port).unwrap_or_default();
                let is_there = index.is_some_and(|i| sockets.iter().any(|one| one.device == i));
                (shared && !stays && is_there, goal.vrf.as_str())
            }
            None => {
                let bound = self.entries.is_ok() && find_bound(port).is_ok_and(|b| !b.is_empty());
                (shared && bound, "another VRF")
            }
        };
        if !taken {
            return Ok(());
        }
        Err(self.refuse_port(port, place))
    }

    /// An entry is for a port: a device here that has it and is not bound would be bound as well. One
    /// that is up keeps this one from its port. Of one that is down it is said: it may be bound next.
    fn check_neighbours(
        &self,
        update: &Update,
        facts: &Facts,
        links: &[Link],
        note: &mut dyn FnMut(&str),
    ) -> Result<()> {
        let port = receive::port_after(facts.port, &update.listen_port).unwrap_or(0);
        // The attribute may bind them.
        let unbound = self.mode == ReceiveMode::Any || self.entries.is_err();
        if unbound || facts.support.attribute || self.own.contains(&port) || port == 0 {
            return Ok(());
        }
        let interface = &self.interface;
        let accepts = self.accepts_all_sockets();
        // The kernel is asked only where there is such a neighbour.
        let is_blind = OnceCell::new();
        let binds_programs = || {
            *is_blind.get_or_init(|| {
                let blind = [Err(Unavailable::NoBtf), Err(Unavailable::Lockdown)];
                facts.all_sockets || accepts && blind.contains(&try_hooks(false))
            })
        };
        let can_bind = OnceCell::new();
        for Other {
            name,
            mark,
            userspace,
            ..
        } in facts.others.iter().filter(|other| other.port == port)
        {
            if *userspace && !facts.support.userspace && !binds_programs() {
                continue;
            }
            // Userspace devices of other namespaces are among them, and have no link here.
            let link = links.iter().find(|link| link.name == *name);
            let Some(link) = link.filter(|_| facts.rules.find_binding(*mark, port).is_none())
            else {
                continue;
            };
            if !can_bind.get_or_init(|| try_hooks(accepts).is_ok()) {
                return Ok(());
            }
            // One that came from another namespace has its sockets there.
            let mut rivals = find_rivals(link, port, &facts.others, links);
            let is_rival = facts.up && facts.port == port && facts.support.userspace == *userspace;
            rivals.extend(is_rival.then(|| interface.clone()));
            if link.up && place_sockets(link, port, &rivals) == Sockets::Elsewhere {
                continue;
            }
            if link.up {
                return Err(Error::Unsupported(format!(
                    "Cannot bind {interface}: {name} has port {port}, too, and is not bound; the \
                     bind hooks go by the port and would bind it as well. Give one of them another \
                     listen-port, bind {name} first, or leave the sockets unbound: \
                     WG_BIND_DEV_RECEIVE=any"
                )));
            }
            note(&format!(
                "{interface}: {name} has port {port}, too, and is not bound: should it be set up \
                 first, the bind hooks bind its sockets as well; give it another listen-port, or \
                 bind it"
            ));
        }
        Ok(())
    }

    fn refuse_port(&self, port: u16, place: &str) -> Error {
        let task = Task::MoveSockets {
            interface: self.interface.clone(),
            port,
            place: place.to_owned(),
        };
        Error::os(task, libc::EADDRINUSE)
    }

    /// Sees to it that the hooks can be changed where sockets that they have bound are to be bound
    /// to another VRF or to none. Says whether the device has to be closed meanwhile.
    ///
    /// # Errors
    /// They cannot. The device would send by one way and receive from another; nothing was changed.
    pub fn check_hooks(
        &self,
        goal: Option<&ReceiveGoal>,
        facts: &Facts,
        backend: &mut Backend,
    ) -> Result<bool> {
        let port = facts.port;
        let known = self.own_entries().any(|(own, _)| *own == port);
        if !facts.up {
            return Ok(goal.is_none() && known);
        }
        if facts.interrupted {
            return Ok(self.entries.is_ok());
        }
        if matches!(facts.sockets, Sockets::Elsewhere | Sockets::Contested) {
            return Ok(false);
        }
        let vrf = goal.and_then(|goal| find_index(&goal.vrf));
        let process = facts.support.userspace;
        let stays = match find_bound_sockets(port, process) {
            Ok(bound) => bound.is_empty() || bound.iter().any(|device| Some(*device) == vrf),
            // They cannot be seen: they are where their entry has them.
            Err(_) => !self
                .own_entries()
                .any(|(own, entry)| *own == port && goal.is_none_or(|goal| goal.vrf != entry.vrf)),
        };
        if stays {
            return Ok(false);
        }
        let by_rules = facts.rules.find_binding(facts.mark, port).is_some();
        let binder = Binder {
            attribute: backend.is_bound_by_attribute(&self.interface),
            entry: known || self.entries.is_err() && by_rules,
            process,
            leaves: true,
        };
        if !binder.is_hooks() {
            return Ok(false);
        }
        if self.inserted.is_some() {
            return Ok(true);
        }
        if goal.is_some() && is_shared(port) {
            return Err(self.refuse_port(port, "another VRF"));
        }
        let failed = self.reason.clone().filter(|why| *why != Unavailable::Off);
        let failed = failed.or_else(|| Changing::start_change().err());
        let Some(reason) = failed else {
            return Ok(true);
        };
        let interface = &self.interface;
        let what = match goal {
            Some(goal) => format!("bind {interface} to `{}'", goal.vrf),
            None => format!("unbind {interface}"),
        };
        Err(Error::Unsupported(format!(
            "Cannot {what}: its sockets are bound to {}, and would stay so: {reason}",
            name_bound(port, process)
        )))
    }

    /// Brings the device from one mark to another over a closed one. Meanwhile it is told the rest, the
    /// hooks are told, the rules of its old VRF go, which may be for the same mark, and its sockets are
    /// made again where they have to be. Whoever ends this leaves it bound, closed or as it is to be.
    /// Says whether the rules could be removed.
    ///
    /// # Errors
    /// It is bound as before, or closed.
    pub fn move_closed(
        &mut self,
        backend: &mut Backend,
        routing: &mut Routing,
        facts: &Facts,
        change: &ClosedChange,
    ) -> std::result::Result<Result<()>, Left> {
        let (port, index) = (facts.port, self.index);
        let goal = self.inserted.is_some();
        let leaves = !goal && change.remakes;
        let leaving = HookEntry {
            leaving: true,
            owner: index,
            mark: facts.mark,
            inherited: self.has_inherited(port),
            ..HookEntry::default()
        };
        let news = match leaves {
            true => Some((port, leaving)),
            false => self.awaited.take(),
        };
        // Nobody else may hold the lock once the device is closed.
        let changing = news.as_ref().map(|_| Changing::start_change()).transpose();
        let mut changing = changing.map_err(|reason| Left {
            error: self.explain_stuck(&reason),
            keeps_rules: false,
        })?;
        let mut removed = Ok(());
        let mut undone = false;
        let tell = |backend: &mut Backend, routing: &mut Routing| {
            let told = backend.send(change.update).and_then(|()| {
                let (Some(changing), Some((port, entry))) = (&mut changing, &news) else {
                    return Ok(());
                };
                let inserted = changing.insert_entry(*port, entry, true);
                inserted.map_err(|reason| self.explain_stuck(&reason))
            });
            if let (Err(_), Some((port, before))) = (&told, &self.inserted) {
                // Its sockets are made where they were.
                undone = true;
                let mut own = None;
                let changing = match &mut changing {
                    Some(changing) => Some(changing),
                    None => Changing::start_change().ok().map(|one| own.insert(one)),
                };
                let undo = changing.map(|changing| changing.restore_entry(*port, before.as_ref()));
                // As in `roll_back`.
                let _ = undo.transpose();
            }
            told?;
            removed = routing.remove_rules(change.old);
            Ok(())
        };
        let closed = Closed {
            interface: &self.interface,
            up: facts.up,
            again: facts.up && change.remakes,
            ports: [port, change.port],
            marks: change.marks,
        };
        let moved = make_again(&closed, backend, routing, tell);
        if undone {
            self.inserted = None;
        }
        self.left = (leaves && moved.is_ok()).then_some(facts.port);
        moved.map(|()| removed)
    }

    /// The name of the VRF that the device is known to be bound to.
    pub fn known_vrf(&self) -> Option<&str> {
        let (_, binding) = self
            .own_entries()
            .find(|(_, binding)| !binding.vrf.is_empty())?;
        Some(&binding.vrf)
    }

    /// Tells the hooks where the device's sockets belong, before it is changed. A device that is
    /// to have any port gets one that is known.
    pub fn prepare_update(&mut self, goal: &ReceiveGoal, update: &mut Update, facts: &Facts) {
        let port = facts.port;
        if self.mode == ReceiveMode::Any {
            self.reason = Some(Unavailable::Off);
            return;
        }
        if let Err(reason) = &self.entries {
            self.reason = Some(reason.clone());
            return;
        }
        let wanted = receive::port_after(port, &update.listen_port);
        let kept = || {
            self.own_entries()
                .map(|(own, _)| *own)
                .find(|own| *own == port)
        };
        let Some(chosen) = wanted.or_else(kept).or_else(free_port) else {
            self.reason = Some(Unavailable::Failed {
                what: "Cannot find a free port",
                errno: libc::EADDRINUSE,
            });
            return;
        };
        let before = self
            .known_entries()
            .iter()
            .find(|(known, _)| *known == chosen)
            .map(|(_, binding)| binding.clone());
        let binding = HookEntry {
            vrf: goal.vrf.clone(),
            leaving: false,
            process: facts.support.userspace,
            owner: self.index,
            mark: goal.mark,
            inherited: false,
        };
        let all_sockets = self.accepts_all_sockets();
        // Until the device sends by the new VRF, sockets that are made receive nothing: whoever ends
        // this between the two leaves no device that sends by the one and receives from the other.
        // A program's sockets are made in its own time, and it would fail.
        let rebinds = !facts.support.userspace
            && self.own.contains(&chosen)
            && before
                .as_ref()
                .is_some_and(|old| !old.vrf.is_empty() && old.vrf != goal.vrf);
        let first = HookEntry {
            vrf: if rebinds {
                String::new()
            } else {
                binding.vrf.clone()
            },
            ..binding.clone()
        };
        let done = Changing::start_change()
            .and_then(|mut changing| changing.insert_entry(chosen, &first, all_sockets));
        match done {
            Ok(()) => {
                self.awaited = rebinds.then_some((chosen, binding));
                self.inserted = Some((chosen, before));
                if wanted.is_none() {
                    update.listen_port = Change::Set(chosen);
                }
            }
            Err(reason) => self.reason = Some(reason),
        }
    }

    /// After the device has its new mark and rules: its sockets may be made on the new VRF.
    ///
    /// # Errors
    /// The hooks cannot be told: it sends by the new VRF and receives nothing.
    pub fn complete_entry(&mut self) -> Result<()> {
        let Some((port, entry)) = self.awaited.take() else {
            return Ok(());
        };
        let done = Changing::start_change()
            .and_then(|mut changing| changing.insert_entry(port, &entry, true));
        done.map_err(|reason| self.explain_stuck(&reason))
    }

    /// Whether [`Receiving::complete_entry`] is still to come: sockets that are made now receive nothing.
    pub fn awaits_entry(&self) -> bool {
        self.awaited.is_some()
    }

    /// Undoes [`Receiving::prepare_update`]: the device was not changed.
    pub fn roll_back(&mut self) {
        let Some((port, before)) = self.inserted.take() else {
            return;
        };
        // What cannot be undone is an entry that binds this device's sockets to a VRF too many.
        let _ = Changing::start_change()
            .and_then(|mut changing| changing.restore_entry(port, before.as_ref()));
    }

    /// After the change: sees to it that the sockets are where they belong, and says where.
    pub fn finish_change(
        self,
        goal: Option<&ReceiveGoal>,
        backend: &mut Backend,
        routing: &mut Routing,
        now: &Now,
        note: &mut dyn FnMut(&str),
    ) -> Result<()> {
        match goal {
            Some(goal) => self.bind_ports(goal, backend, routing, now, note),
            None => self.unbind_ports(backend, routing, now, note),
        }
    }

    fn bind_ports(
        self,
        goal: &ReceiveGoal,
        backend: &mut Backend,
        routing: &mut Routing,
        now: &Now,
        note: &mut dyn FnMut(&str),
    ) -> Result<()> {
        let interface = &self.interface;
        let Some((port, before)) = &self.inserted else {
            return self.leave_unbound(goal, backend, routing, now, note);
        };
        let vrf = find_index(&goal.vrf);
        let read = || diag::own_sockets(*port, now.process);
        let judge = |sockets: &[UdpSocket]| receive::judge_sockets(sockets, 0, vrf, find_name);
        // A device that is down has no sockets; another one's may be on the port.
        let mut received = Ok(Some(vrf.map_or(Receives::Nothing, |_| Receives::Bound)));
        if now.up {
            let before = read();
            received = before
                .as_ref()
                .map(|one| judge(one))
                .map_err(|err| err.errno);
            let before = before.unwrap_or_default();
            // Those that cannot be told apart are left where they may all be right.
            let is_right = |one: &UdpSocket| Some(one.device) == vrf;
            let may_stay = before.iter().any(is_right) && before.iter().all(|s| is_live(s.device));
            let stay = match received {
                Ok(Some(Receives::Unclear)) => may_stay,
                ref received => *received == Ok(Some(Receives::Bound)),
            };
            if !stay {
                let closed = Closed::on_port(interface, *port, goal.mark);
                make_again(&closed, backend, routing, |_, _| Ok(())).map_err(|left| left.error)?;
                let after = read();
                // What was not there before is its own.
                let is_new = |one: &&UdpSocket| before.iter().all(|old| old.inode != one.inode);
                received = after.map_err(|err| err.errno).map(|after| {
                    let new: Vec<UdpSocket> = after.iter().filter(is_new).copied().collect();
                    receive::judge_sockets(&new, 0, vrf, find_name).or_else(|| judge(&after))
                });
            }
        }
        let old: Vec<u16> = self
            .own_entries()
            .map(|(p, _)| *p)
            .filter(|p| p != port)
            .collect();
        let mut done = Ok(());
        if !old.is_empty() {
            done = self.release_ports(&old, now);
        }
        let has_it = |devices: &[Other]| devices.iter().any(|other| other.port == *port);
        let differs = before.as_ref().is_some_and(|known| known.vrf != goal.vrf);
        let of_nobody = before.as_ref().is_some_and(|known| known.vrf.is_empty());
        let shared = differs && has_it(now.others)
            || differs && !self.own.contains(port) && has_it(now.elsewhere)
            // An earlier bind has left it to nobody. Any device elsewhere may have the port by chance.
            || of_nobody && now.binds_to_another(*port, goal, now.elsewhere)
            // One whose sockets the hooks did not bind has no entry.
            || now.binds_to_another(*port, goal, &find_reached(now, self.all_sockets));
        if done.is_ok() && shared {
            // The hooks see a port and no device. The next device must ask which VRF is meant.
            let no_vrf = HookEntry {
                owner: self.index,
                mark: goal.mark,
                ..HookEntry::default()
            };
            done = Changing::start_change().and_then(|mut c| c.insert_entry(*port, &no_vrf, true));
            note(&format!(
                "{interface}: another device has port {port} too, in another VRF: whichever of \
                 them is set up after this receives nothing until it is bound again"
            ));
        }
        if let Err(error) = done {
            note(&format!("{interface}: {error}"));
        }
        if shared && !now.up {
            return Ok(());
        }
        note(&match received {
            Ok(Some(Receives::Bound)) => format!(
                "{interface}: receives from {} only, by a BPF program at the cgroup root",
                goal.vrf
            ),
            Ok(Some(Receives::Any)) | Ok(None) => format!(
                "{interface}: receives from everywhere: the BPF program at the cgroup root has \
                 not bound its sockets"
            ),
            Ok(Some(Receives::Unclear)) => describe_unclear(interface, *port, &goal.vrf),
            Ok(Some(Receives::Other(devices))) => format!(
                "{interface}: receives from {}, and nothing from {}: the BPF program at the cgroup \
                 root has not bound its sockets",
                devices.join(", "),
                goal.vrf
            ),
            Ok(Some(Receives::Nothing)) => match bind_table(&goal.vrf) {
                // The hooks bind by name, which the VRF will bring.
                Some(table) => format!(
                    "{interface}: receives nothing until a VRF has table {table} and it is bound \
                     to that by name: `wg set {interface} bind-dev VRF'"
                ),
                None => format!(
                    "{interface}: receives nothing until {0} is there and it is bound again: \
                     `wg set {interface} bind-dev {0}'",
                    goal.vrf
                ),
            },
            Err(errno) => format!(
                "{interface}: a BPF program at the cgroup root binds its sockets to {}; whether \
                 they are cannot be seen ({}; udp_diag tells)",
                goal.vrf,
                crate::error::strerror(errno)
            ),
        });
        Ok(())
    }

    /// The hooks do not bind its sockets, as is wished or since they cannot. None stay on another
    /// VRF, and no entry for a port that it has left.
    fn leave_unbound(
        self,
        goal: &ReceiveGoal,
        backend: &mut Backend,
        routing: &mut Routing,
        now: &Now,
        note: &mut dyn FnMut(&str),
    ) -> Result<()> {
        let interface = &self.interface;
        let Some(reason) = &self.reason else {
            return Ok(());
        };
        let (mark, port) = match backend.mark_and_port(interface) {
            // It is bound by now: what a program was told will do where it does not tell.
            Err(_) if now.process => (goal.mark, now.port),
            told => told?,
        };
        let sockets = match now.up && !now.away && port != 0 {
            true => diag::own_sockets(port, now.process).unwrap_or_default(),
            false => Vec::new(),
        };
        let entry = self.own_entries().find(|(known, _)| *known == port);
        let waits = entry_for(self.known_entries(), port)
            .is_some_and(|entry| entry.vrf == goal.vrf && self.will_bind(entry, now));
        let vrf = find_index(&goal.vrf);
        let without = match waits {
            true => Receives::Bound,
            false => Receives::Any,
        };
        let received = receive::judge_sockets(&sockets, 0, vrf, find_name).unwrap_or(without);
        let mut left: Vec<u16> = self.own_entries().map(|(port, _)| *port).collect();
        left.extend(self.left);
        match received {
            Receives::Bound => {
                left.retain(|own| *own != port);
                let is_blind = matches!(reason, Unavailable::NoBtf | Unavailable::Lockdown);
                if is_blind && entry.is_some_and(|(_, entry)| entry.inherited) {
                    note(&format!(
                        "{interface}: receives from {} only, by the entry of another interface that had \
                         port {port}: {reason}",
                        goal.vrf
                    ));
                }
            }
            Receives::Any if now.up => say_why_not(interface, goal, reason, note),
            Receives::Any => self.say_what_comes(goal, port, reason, now, note),
            Receives::Unclear => {
                left.retain(|own| *own != port);
                note(&describe_unclear(interface, port, &goal.vrf));
            }
            Receives::Nothing | Receives::Other(_) => {
                let binder = Binder {
                    entry: entry.is_some(),
                    process: now.process,
                    leaves: true,
                    ..Binder::default()
                };
                if self.entries.is_err() || !binder.is_hooks() || is_shared(port) {
                    note(&format!(
                        "{interface}: receives nothing from {}: its sockets are bound to {}, and \
                         stay so",
                        goal.vrf,
                        name_bound(port, now.process)
                    ));
                } else {
                    self.unbind_sockets(backend, routing, port, mark)?;
                    left.push(port);
                    say_why_not(interface, goal, reason, note);
                }
            }
        }
        if left.is_empty() {
            return Ok(());
        }
        let done = self.release_ports(&left, now);
        done.map_err(|reason| self.explain_stuck(&reason))
    }

    /// Whether an entry for the device's port binds its next sockets, whoever made it.
    fn will_bind(&self, entry: &HookEntry, now: &Now) -> bool {
        !entry.leaving && (self.all_sockets || entry.process || !now.process)
    }

    /// Says what a device without sockets will receive, which has no entry of its own for the VRF.
    fn say_what_comes(
        &self,
        goal: &ReceiveGoal,
        port: u16,
        reason: &Unavailable,
        now: &Now,
        note: &mut dyn FnMut(&str),
    ) {
        let interface = &self.interface;
        // Its own entry goes to whoever inherits it.
        let old = entry_for(self.known_entries(), port);
        let next = match self.own.contains(&port) {
            true => find_heir(port, old, now.links, now.others, now.rules),
            false => old.cloned(),
        };
        if let Some(next) = next.filter(|next| self.will_bind(next, now)) {
            if next.vrf != goal.vrf {
                let to = match next.vrf.as_str() {
                    "" => "no device",
                    name => name,
                };
                note(&format!(
                    "{interface}: another interface has port {port}, too: when {interface} is set up, \
                     the bind hooks bind its sockets to {to} as well, and it receives nothing from {}; \
                     give it another listen-port",
                    goal.vrf
                ));
            }
            return;
        }
        // An earlier command may have made an entry, or a neighbour's did.
        let hidden = self.entries.as_ref().err().filter(|why| !why.is_absence());
        let mut others = now.others.iter().filter(|other| other.port == port);
        let may_be =
            now.by_rules || others.any(|other| now.rules.find_binding(other.mark, port).is_some());
        match hidden.filter(|_| may_be) {
            Some(why) => note(&format!(
                "{interface}: what it will receive cannot be seen: the bind hooks may have an entry \
                 for port {port}, and they cannot be read: {why}; `wg show {interface}' tells once it \
                 is up"
            )),
            None => say_why_not(interface, goal, reason, note),
        }
    }

    /// The device is not bound by rules any more: nothing of it stays at the hooks.
    fn unbind_ports(
        self,
        backend: &mut Backend,
        routing: &mut Routing,
        now: &Now,
        note: &mut dyn FnMut(&str),
    ) -> Result<()> {
        let mut own: Vec<u16> = self.own_entries().map(|(port, _)| *port).collect();
        own.extend(self.left);
        let (mark, port) = backend.mark_and_port(&self.interface)?;
        if now.unbound && !now.up {
            self.note_bound_neighbour(port, now, note);
        }
        if let Err(reason) = &self.entries {
            let seen = now.up && find_bound_sockets(port, now.process).is_ok();
            if now.unbound && now.by_rules && !seen && !reason.is_absence() {
                note(&format!(
                    "{}: whether its sockets will be bound to the VRF cannot be seen: {reason}; \
                     if they are, `wg show {}' and `wg doctor' say so once it is up",
                    self.interface, self.interface
                ));
            }
            return Ok(());
        }
        // Where they cannot be seen the entry tells, and what was made again is not bound.
        let is_bound = || match find_bound_sockets(port, now.process) {
            Ok(bound) => !bound.is_empty(),
            Err(_) => own.contains(&port) && self.left != Some(port),
        };
        let may_be_bound = now.up && !now.away && !now.attribute && is_bound();
        let bound = may_be_bound && {
            let binder = Binder {
                attribute: backend.is_bound_by_attribute(&self.interface),
                entry: own.contains(&port),
                process: now.process,
                // A neighbour's stay where they are.
                leaves: now.unbound && !now.contested,
            };
            binder.is_hooks()
        };
        if bound {
            self.unbind_sockets(backend, routing, port, mark)?;
            own.push(port);
        }
        if own.is_empty() {
            return Ok(());
        }
        self.release_ports(&own, now)
            .map_err(|reason| self.explain_stuck(&reason))
    }

    /// The entry of another device on its port binds the sockets that this one will have.
    fn note_bound_neighbour(&self, port: u16, now: &Now, note: &mut dyn FnMut(&str)) {
        let old = entry_for(self.known_entries(), port);
        if old.is_none() {
            return;
        }
        let Some(heir) = find_heir(port, old, now.links, now.others, now.rules) else {
            return;
        };
        let owner = now.links.iter().find(|link| link.index == heir.owner);
        note(&format!(
            "{0}: {1} has port {port}, too, and is bound: the bind hooks will bind the sockets of {0} \
             as well when it is set up; give it another listen-port",
            self.interface,
            owner.map_or("another interface", |link| &link.name)
        ));
    }

    /// Makes the sockets on a port again, bound to nothing. The entry stays: port and mark are known
    /// to the next command, should this one not get to its end.
    fn unbind_sockets(
        &self,
        backend: &mut Backend,
        routing: &mut Routing,
        port: u16,
        mark: u32,
    ) -> Result<()> {
        let leaving = HookEntry {
            leaving: true,
            owner: self.index,
            mark,
            inherited: self.has_inherited(port),
            ..HookEntry::default()
        };
        Changing::start_change()
            .and_then(|mut changing| changing.insert_entry(port, &leaving, true))
            .map_err(|reason| self.explain_stuck(&reason))?;
        let closed = Closed::on_port(&self.interface, port, mark);
        make_again(&closed, backend, routing, |_, _| Ok(())).map_err(|left| left.error)
    }

    fn explain_stuck(&self, reason: &Unavailable) -> Error {
        Error::Unsupported(format!(
            "Cannot tell the bind hooks about the sockets of {}: {reason}",
            self.interface
        ))
    }

    /// Takes away the entries of ports that this device leaves. Another device that has such a port
    /// and is bound by rules inherits it; one that moved only where this device does not stay on it.
    fn release_ports(&self, ports: &[u16], now: &Now) -> std::result::Result<(), Unavailable> {
        let find = |port: u16| {
            let old = entry_for(self.known_entries(), port);
            let moved = || {
                let elsewhere = (port != now.port).then_some(now.elsewhere)?;
                // No device has this index: what is elsewhere has none here.
                choose_heir(port, old, now.links, elsewhere, now.rules, |_| Some(0))
            };
            find_heir(port, old, now.links, now.others, now.rules).or_else(moved)
        };
        let heirs: Vec<_> = ports.iter().map(|port| (*port, find(*port))).collect();
        let mut changing = Changing::start_change()?;
        for (port, heir) in heirs {
            changing.hand_over(port, heir)?;
        }
        Ok(())
    }
}

/// The devices that sockets on this port are bound to.
fn find_bound(port: u16) -> std::result::Result<Vec<u32>, Failure> {
    if port == 0 {
        return Ok(Vec::new());
    }
    let sockets = diag::udp_sockets(port)?.into_iter();
    let bound = sockets.filter(|one| one.wildcard && one.device != 0);
    Ok(bound.map(|one| one.device).collect())
}

/// The devices that sockets of a process, or of the kernel, on this port are bound to.
fn find_bound_sockets(port: u16, process: bool) -> std::result::Result<Vec<u32>, Failure> {
    if find_bound(port)?.is_empty() {
        return Ok(Vec::new());
    }
    let own = diag::own_sockets(port, process)?;
    let bound = own.into_iter().filter(|one| one.device != 0);
    Ok(bound.map(|one| one.device).collect())
}

/// Whether another socket is on the port of a device that is up, which has one of its own.
fn is_shared(port: u16) -> bool {
    routing::count_wildcard_sockets(port, None).is_some_and(|count| count > 1)
}

/// How many sockets of the larger family on this port are bound, of those of a process or the kernel.
fn count_bound_sockets(port: u16, process: bool) -> Option<usize> {
    let mut sockets = diag::own_sockets(port, process).ok()?;
    sockets.retain(|one| one.device != 0);
    let v6 = sockets.iter().filter(|one| one.v6).count();
    Some(v6.max(sockets.len() - v6))
}

fn has_bound_socket(port: u16, process: bool) -> bool {
    find_bound_sockets(port, process).is_ok_and(|bound| !bound.is_empty())
}

/// As [`has_bound_socket`]. Where that cannot be seen, any socket on the port counts.
fn may_have_bound_socket(port: u16, process: bool) -> bool {
    match find_bound_sockets(port, process) {
        Ok(bound) => !bound.is_empty(),
        Err(_) => routing::count_wildcard_sockets(port, None).is_none_or(|count| count > 0),
    }
}

/// What the sockets on a port are bound to, in words.
fn name_bound(port: u16, process: bool) -> String {
    let Ok(bound) = find_bound_sockets(port, process) else {
        return "a VRF, perhaps".to_owned();
    };
    let name = bound.into_iter().find_map(find_name);
    name.unwrap_or_else(|| "a device that is gone".to_owned())
}

/// Whether a command that did not get to its end has left an entry of this device, or its sockets
/// on a VRF, although no rule is left. `is_hooks` tells whether the hooks bound sockets that are.
pub fn has_leftovers(
    interface: &str,
    mark: u32,
    port: u16,
    process: bool,
    is_hooks: impl FnOnce() -> bool,
) -> bool {
    if mark == CLOSED_MARK {
        return true;
    }
    let bound = || has_bound_socket(port, process) && is_hooks();
    let index = find_index(interface);
    match Hooks::find_hooks().and_then(|hooks| hooks.read_entries()) {
        Ok(entries) => {
            let mut entries = entries.iter();
            let is_own =
                |(known, entry): &(u16, HookEntry)| Some(entry.owner) == index || *known == port;
            entries.any(is_own) || bound()
        }
        Err(_) => bound(),
    }
}

/// The device and what is around it, as a change finds them.
pub struct Now<'a> {
    /// Since the change: only then it has sockets.
    pub up: bool,
    /// It has sockets, and they are in another namespace.
    pub away: bool,
    /// Its sockets are another device's, perhaps: there are fewer than devices that have its port.
    pub contested: bool,
    /// The kernel binds it, and does so without our help.
    pub attribute: bool,
    /// The binding was taken away.
    pub unbound: bool,
    /// Rules bound it before.
    pub by_rules: bool,
    /// A process has its sockets.
    pub process: bool,
    pub links: &'a [Link],
    /// Every other WireGuard device here.
    pub others: &'a [Other],
    /// Those in other namespaces that may have been made here.
    pub elsewhere: &'a [Other],
    /// The port that the device has now.
    pub port: u16,
    pub rules: &'a Rules,
}

impl Now<'_> {
    /// Whether the rules bind one of these devices that has this port to another VRF.
    fn binds_to_another(&self, port: u16, goal: &ReceiveGoal, devices: &[Other]) -> bool {
        let vrf = find_link(self.links, &goal.vrf).and_then(|link| link.vrf_table);
        let table = vrf.or_else(|| bind_table(&goal.vrf));
        // The rules lead there still when the VRF is gone.
        let table = table.or_else(|| self.rules.find_binding(goal.mark, port)?.table);
        let mut have_it = devices.iter().filter(|other| other.port == port);
        have_it.any(|other| {
            let binding = self.rules.find_binding(other.mark, port);
            binding.is_some_and(|binding| binding.table.is_some() && binding.table != table)
        })
    }
}

/// The other devices whose sockets the hooks bind as those of this one: they are of this namespace,
/// and the kernel's or a program's like its own.
fn find_reached(now: &Now, all_sockets: bool) -> Vec<Other> {
    let is_reached = |other: &&Other| {
        let alike = !other.userspace || now.process || all_sockets;
        alike && find_link(now.links, &other.name).is_some()
    };
    now.others.iter().filter(is_reached).cloned().collect()
}

/// The entry that a device here needs which has this port and is bound by rules; `old` is the one that
/// is there. Where two of them are bound to different VRFs, the hooks cannot know whose sockets come
/// next. They receive nothing then, as where the name of the VRF is not known.
fn find_heir(
    port: u16,
    old: Option<&HookEntry>,
    links: &[Link],
    devices: &[Other],
    rules: &Rules,
) -> Option<HookEntry> {
    let find_owner = |device: &Other| find_link(links, &device.name).map(|link| link.index);
    choose_heir(port, old, links, devices, rules, find_owner)
}

fn choose_heir(
    port: u16,
    old: Option<&HookEntry>,
    links: &[Link],
    devices: &[Other],
    rules: &Rules,
    find_owner: impl Fn(&Other) -> Option<u32>,
) -> Option<HookEntry> {
    let have_it = devices.iter().filter(|other| other.port == port);
    let mut heirs = have_it.filter_map(|other| {
        let owner = find_owner(other)?;
        let table = rules.find_binding(other.mark, port)?.table?;
        let vrf = links.iter().find(|vrf| vrf.vrf_table == Some(table));
        // While the VRF is missing the old entry tells its name, if that was for the same table.
        let missing = || {
            let old = old.filter(|old| find_link(links, &old.vrf).is_none())?;
            let led = rules.find_binding(old.mark, port)?.table;
            (led == Some(table)).then(|| old.vrf.clone())
        };
        Some(HookEntry {
            vrf: vrf
                .map(|vrf| vrf.name.clone())
                .or_else(missing)
                .unwrap_or_default(),
            process: other.userspace,
            owner,
            mark: other.mark,
            inherited: true,
            ..HookEntry::default()
        })
    });
    let mut heir = heirs.next()?;
    if heirs.any(|other| other.vrf != heir.vrf) {
        heir.vrf.clear();
    }
    Some(heir)
}

fn describe_unclear(interface: &str, port: u16, vrf: &str) -> String {
    format!(
        "{interface}: whether it receives from {vrf} only cannot be told: other sockets have port \
         {port}, too, and nothing tells which are its own"
    )
}

/// Names the reason, and what can be done.
fn say_why_not(
    interface: &str,
    goal: &ReceiveGoal,
    reason: &Unavailable,
    note: &mut dyn FnMut(&str),
) {
    let words = explain_why_not(interface, &goal.vrf, reason, routing::l3mdev_accept());
    words.iter().for_each(|line| note(line));
}

/// Why the sockets of a device are not bound, and what can be done. `accept` is the value of
/// `net.ipv4.udp_l3mdev_accept`, where that can be read. `None`: wanted so, and it works.
fn explain_why_not(
    interface: &str,
    vrf: &str,
    reason: &Unavailable,
    accept: Option<bool>,
) -> Option<String> {
    Some(match accept {
        Some(false) => format!(
            "{interface}: packets that arrive in {vrf} will not reach it while \
             net.ipv4.udp_l3mdev_accept is 0 and its sockets cannot be bound: {reason}. \
             `sysctl -w net.ipv4.udp_l3mdev_accept=1' lets them in, and opens every other unbound \
             UDP socket to the VRFs as well; a patched wireguard module needs neither"
        ),
        None => format!(
            "{interface}: whether packets that arrive in {vrf} reach it cannot be told: \
             net.ipv4.udp_l3mdev_accept cannot be read, and its sockets cannot be bound: {reason}. \
             With the sysctl at 1 they do, and every other unbound UDP socket is open to the VRFs as \
             well; a patched wireguard module needs neither"
        ),
        // Wanted so, and it works.
        Some(true) if *reason == Unavailable::Off => return None,
        Some(true) => format!(
            "{interface}: receives from everywhere, not from {vrf} only: {reason}; a patched \
             wireguard module binds its sockets"
        ),
    })
}

/// The marks that a device has before and after it was closed.
#[derive(Clone, Copy, Debug)]
pub struct Marks {
    pub before: u32,
    pub after: u32,
}

/// What a device is told while it is closed.
pub struct ClosedChange<'a> {
    /// All but the mark.
    pub update: &'a Update,
    pub marks: Marks,
    /// The rules that lead it no more.
    pub old: &'a [(Family, Rule)],
    /// Its sockets are made again on the port that it has.
    pub remakes: bool,
    /// The port that it has after it.
    pub port: u16,
}

/// A device that is closed for a moment.
struct Closed<'a> {
    interface: &'a str,
    up: bool,
    /// Its port goes and comes back.
    again: bool,
    /// The one that it has, and the one that it gets.
    ports: [u16; 2],
    marks: Marks,
}

impl<'a> Closed<'a> {
    /// It keeps port and mark.
    fn on_port(interface: &'a str, port: u16, mark: u32) -> Self {
        let (before, after) = (mark, mark);
        Closed {
            interface,
            up: true,
            again: true,
            ports: [port; 2],
            marks: Marks { before, after },
        }
    }
}

/// Closes a device, tells it and the hooks, and opens it again. One that is up may get new sockets so, which
/// the hooks see: its port goes and comes back. Meanwhile it has a mark by which it sends nothing: a
/// packet from another port would make its peers answer there.
fn make_again(
    closed: &Closed,
    backend: &mut Backend,
    routing: &mut Routing,
    tell: impl FnOnce(&mut Backend, &mut Routing) -> Result<()>,
) -> std::result::Result<(), Left> {
    let interface = closed.interface;
    let open = |error| Left {
        error,
        keeps_rules: false,
    };
    let rules = routing
        .read_rules()
        .map_err(|failure| open(failure.with_task(Task::modify(interface))))?;
    let mut closing = match closing_rules(&rules, &closed.ports, closed.again) {
        Ok(closing) => closing,
        // One that is down sends nothing.
        Err(_) if !closed.up => Vec::new(),
        Err(first) => return Err(open(refuse_open(interface, first))),
    };
    // A command that ended half way left them.
    closing.retain(|(family, rule)| !rules.iter_ours().any(|one| one == (*family, rule)));
    let closing = routing.add_rules(&closing, &rules).map_err(open)?;
    let done = move_port(closed, backend, |backend| tell(backend, routing));
    if matches!(&done, Err(left) if left.keeps_rules) {
        return done;
    }
    let removed = routing.remove_rules(&closing);
    done?;
    // It has the new mark by now, and needs the rules of that.
    removed.map_err(|error| Left {
        error,
        keeps_rules: true,
    })
}

/// Rules that keep [`CLOSED_MARK`] from going anywhere, before every rule that would take it: of ours,
/// those for its `ports`. Where nothing can be put before these, it is enough that it `leaves` them.
///
/// # Errors
/// The rule of a family that nothing can be put before.
fn closing_rules(
    rules: &Rules,
    ports: &[u16],
    leaves: bool,
) -> std::result::Result<Vec<(Family, Rule)>, (Family, Rule)> {
    let mut closing = Vec::new();
    for (family, rules) in rules.iter_families() {
        let place = find_closing_place(rules, CLOSED_MARK, ports)
            .or_else(|rule| match leaves {
                true => find_closing_place(rules, CLOSED_MARK, &[]),
                false => Err(rule),
            })
            .map_err(|rule| (family, rule))?;
        closing.extend(place.map(|rule| (family, rule)));
    }
    Ok(closing)
}

/// Whether a device with this port, and the one that it gets, can be closed while it is changed; whether
/// it `leaves` its port meanwhile.
///
/// # Errors
/// It cannot, because of a rule.
pub fn check_closable(interface: &str, rules: &Rules, ports: [u16; 2], leaves: bool) -> Result<()> {
    let closing = closing_rules(rules, &ports, leaves).map(drop);
    closing.map_err(|first| refuse_open(interface, first))
}

fn refuse_open(interface: &str, (family, rule): (Family, Rule)) -> Error {
    Error::Unsupported(format!(
        "Cannot change {interface}: the {family} rule `{rule}' comes before any that could be added, so \
         {interface} could not be closed meanwhile; give that rule another priority, or set \
         {interface} down first"
    ))
}

/// A step that failed.
pub struct Left {
    pub error: Error,
    /// The device has the closed mark still, or the new one: the rules that were added stay.
    pub keeps_rules: bool,
}

fn move_port(
    closed: &Closed,
    backend: &mut Backend,
    tell: impl FnOnce(&mut Backend) -> Result<()>,
) -> std::result::Result<(), Left> {
    let (interface, marks, [port, _]) = (closed.interface, closed.marks, closed.ports);
    let base = || Update {
        interface: interface.to_owned(),
        ..Update::default()
    };
    // A program takes the port before the mark, and would send from another one.
    let away = Update {
        listen_port: Change::Set(0),
        ..base()
    };
    let open = |mark| Update {
        fwmark: Change::Set(mark),
        ..base()
    };
    let stays = marks.before == CLOSED_MARK;
    let mut sent = backend.send(&open(CLOSED_MARK));
    if closed.again && sent.is_ok() {
        sent = backend.send(&away);
    }
    if let Err(error) = sent {
        let closed = backend.send(&open(marks.before)).is_err() || stays;
        return Err(Left {
            error,
            keeps_rules: closed,
        });
    }
    let told = tell(backend);
    let mut again = closed.again;
    if let Err(error) = &told {
        // A program that did not answer may make the change yet, and needs the new mark then.
        let read = |backend: &mut Backend| backend.mark_and_port(interface).ok();
        let now = match super::is_timeout(error) {
            true => None,
            false => read(backend),
        };
        let Some((_, now)) = now else {
            let is_gone = matches!(error, Error::Os { errno, .. } if *errno == libc::ENODEV);
            return Err(Left {
                error: error.clone(),
                keeps_rules: !is_gone,
            });
        };
        // What refuses its peers may have taken the port.
        again |= port != 0 && now != port;
    }
    if again {
        bring_back(interface, backend, port)?;
    }
    let mark = if told.is_ok() {
        marks.after
    } else {
        marks.before
    };
    let opened = backend.send(&open(mark));
    let keeps_rules = opened.is_err() || mark == CLOSED_MARK;
    told.and(opened)
        .map_err(|error| Left { error, keeps_rules })
}

/// Gives the device its port again, which somebody may have taken for a moment.
fn bring_back(interface: &str, backend: &mut Backend, port: u16) -> std::result::Result<(), Left> {
    let back = Update {
        interface: interface.to_owned(),
        listen_port: Change::Set(port),
        ..Update::default()
    };
    let mut attempt = 0;
    loop {
        match backend.send(&back) {
            Ok(()) => return Ok(()),
            Err(Error::Os {
                errno: libc::EADDRINUSE,
                ..
            }) if attempt < PORT_ATTEMPTS => {
                attempt += 1;
                std::thread::sleep(PORT_PAUSE);
            }
            Err(error) => {
                return Err(Left {
                    error: error.with_task(Task::Reopen {
                        interface: interface.to_owned(),
                        port,
                    }),
                    keeps_rules: true,
                });
            }
        }
    }
}

/// A UDP port that no socket of this namespace has in either family.
fn free_port() -> Option<u16> {
    for _ in 0..FREE_ATTEMPTS {
        let v4 = net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
        let port = v4.local_addr().ok()?.port();
        match net::UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port)) {
            // Rust's IPv6 sockets take IPv4 as well, which the first one has.
            Ok(_) => return Some(port),
            Err(err) if err.raw_os_error() == Some(libc::EADDRINUSE) => {
                drop(v4);
                if net::UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port)).is_ok() {
                    return Some(port);
                }
            }
            // No IPv6 here.
            Err(_) => return Some(port),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::scripted;
    use super::*;
    use crate::model::Action;
    use crate::wire::nlmsg::u32_at;

    fn link(index: u32, name: &str, vrf_table: Option<u32>) -> Link {
        Link {
            index,
            name: name.to_owned(),
            altnames: Vec::new(),
            kind: String::new(),
            vrf_table,
            up: true,
        }
    }

    /// What the hooks leave alone takes no entry away: sockets of programs, and devices of another
    /// namespace whose socket file shows here.
    #[test]
    fn only_sockets_that_the_hooks_bind_share_an_entry() {
        let links = [link(7, "wg1", None)];
        let others = ["wg1", "wgX"].map(|name| Other {
            name: name.to_owned(),
            userspace: true,
            ..Other::default()
        });
        let rules = Rules::default();
        let now = |process| Now {
            up: true,
            away: false,
            contested: false,
            attribute: false,
            unbound: false,
            by_rules: true,
            process,
            links: &links,
            others: &others,
            elsewhere: &[],
            port: 0,
            rules: &rules,
        };
        for (process, all_sockets) in [(false, false), (true, false), (false, true)] {
            let reached = find_reached(&now(process), all_sockets);
            let names: Vec<&str> = reached.iter().map(|other| other.name.as_str()).collect();
            let expected: &[&str] = if process || all_sockets {
                &["wg1"]
            } else {
                &[]
            };
            assert_eq!(names, expected);
        }
    }

    /// Whoever stays on a port gets the entry: a userspace device as its own, and of two VRFs
    /// neither.
    #[test]
    fn a_port_is_inherited_by_whoever_stays_on_it() {
        let links = [
            link(5, "red", Some(100)),
            link(6, "blue", Some(200)),
            link(7, "wg1", None),
            link(8, "wg2", None),
        ];
        let other = |name: &str, mark, port| Other {
            name: name.to_owned(),
            mark,
            port,
            userspace: name == "wg2",
        };
        let rule = |mark, table| Rule::new_ours(97, Selector::Mark(mark), Action::Table(table));
        let rules = Rules {
            v4: Some(vec![rule(1, 100), rule(2, 200)]),
            v6: None,
        };
        let heir = |others: &[Other]| {
            let heir = find_heir(51001, None, &links, others, &rules)?;
            Some((heir.vrf, heir.owner, heir.process, heir.mark))
        };
        let (wg1, wg2) = (other("wg1", 1, 51001), other("wg2", 2, 51001));
        let red = ("red".to_owned(), 7, false, 1);
        let blue = ("blue".to_owned(), 8, true, 2);
        assert_eq!(
            heir(&[other("wg1", 1, 51002), other("wg2", 3, 51001)]),
            None
        );
        assert_eq!(heir(std::slice::from_ref(&wg1)), Some(red));
        assert_eq!(heir(std::slice::from_ref(&wg2)), Some(blue));
        let of_nobody = (String::new(), 7, false, 1);
        assert_eq!(heir(&[wg1.clone(), wg2]), Some(of_nobody));
        // The VRF is missing: its name is the one that the old entry has for its table.
        let waits = |vrf: &str, mark| {
            let old = HookEntry {
                vrf: vrf.to_owned(),
                mark,
                ..HookEntry::default()
            };
            let heir = find_heir(
                51001,
                Some(&old),
                &links[1..],
                std::slice::from_ref(&wg1),
                &rules,
            );
            heir.expect("an heir").vrf
        };
        for (vrf, mark, name) in [
            ("red", 1, "red"),
            ("green", 2, ""),
            ("green", 0, ""),
            ("blue", 1, ""),
            ("", 1, ""),
        ] {
            assert_eq!(waits(vrf, mark), name, "{vrf} {mark}");
        }
    }

    /// A bind that moved the device to another port and mark has an entry for each, and has removed
    /// the rules for the first already.
    #[test]
    fn of_two_entries_the_one_that_rules_lead_counts() {
        let entry = |mark| HookEntry {
            vrf: "red".into(),
            owner: 7,
            mark,
            ..HookEntry::default()
        };
        let mut receiving = Receiving {
            mode: ReceiveMode::Auto,
            interface: "wg0".into(),
            index: 7,
            entries: Ok(vec![(51001, entry(0x11)), (51005, entry(0x55))]),
            all_sockets: false,
            own: Vec::new(),
            inserted: None,
            reason: None,
            left: None,
            awaited: None,
        };
        receiving.find_own(CLOSED_MARK, 40000, false, &[], &[]);
        for (mark, port) in [(0x55, 51005), (0x11, 51001)] {
            let rule = |pref, action| Rule::new_ours(pref, Selector::Mark(mark), action);
            let pair = [rule(97, Action::Table(9)), rule(98, Action::Unreachable)];
            let rules = Rules {
                v4: Some(pair.to_vec()),
                v6: None,
            };
            let found = receiving.find_interrupted(CLOSED_MARK, 40000, &rules);
            let mark = Some(mark);
            assert_eq!(found, Some(Interrupted { port, mark }));
        }
    }

    /// wireguard-go has the port, and nobody bound it: the entry of a kernel device binds its sockets
    /// where the hooks cannot tell them.
    #[test]
    fn a_program_on_the_port_is_bound_by_an_entry_for_all_sockets() {
        let receiving = Receiving {
            mode: ReceiveMode::Bound,
            interface: "wg0".into(),
            index: 7,
            entries: Ok(Vec::new()),
            all_sockets: false,
            own: Vec::new(),
            inserted: None,
            reason: None,
            left: None,
            awaited: None,
        };
        let link = Link {
            kind: "tun".into(),
            ..link(8, "wg1", None)
        };
        let program = Other {
            name: "wg1".into(),
            mark: 0,
            port: 0,
            userspace: true,
        };
        let socket = net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let port = socket.local_addr().unwrap().port();
        // Without socket diagnosis /proc tells of the socket.
        let refuse = |_, request: &[u8]| {
            let sequence = u32_at(request, 8);
            let refused = scripted::done(libc::EOPNOTSUPP);
            vec![(0, scripted::frame(scripted::ERROR, 0, sequence, &refused))]
        };
        for all_sockets in [false, true] {
            let facts = Facts {
                port,
                others: vec![Other {
                    port,
                    ..program.clone()
                }],
                all_sockets,
                ..Facts::default()
            };
            let kernel = scripted::ScriptedKernel::saying(refuse);
            let update = Update::default();
            let links = std::slice::from_ref(&link);
            let checked = scripted::with(kernel, || {
                receiving.check_neighbours(&update, &facts, links, &mut |_| {})
            });
            assert_eq!(checked.is_err(), all_sockets);
        }
    }

    /// What cannot be read is not taken for the value that needs no word.
    #[test]
    fn a_sysctl_that_cannot_be_read_is_said() {
        let say = |reason: &Unavailable, accept| explain_why_not("wg0", "red", reason, accept);
        assert_eq!(say(&Unavailable::Off, Some(true)), None);
        for reason in [Unavailable::Off, Unavailable::NoBtf] {
            let unknown = say(&reason, None).unwrap();
            assert!(unknown.contains("cannot be read"), "{unknown}");
            let off = say(&reason, Some(false)).unwrap();
            assert!(off.contains("will not reach it"), "{off}");
        }
        let open = say(&Unavailable::NoBtf, Some(true)).unwrap();
        assert!(open.contains("from everywhere"), "{open}");
    }
}
