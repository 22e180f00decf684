// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! List, read and change devices: the kernel's and userspace ones.
//!
//! `list`, `get` (a [`Reader`] for several, `get_unjudged` without the binding), `set`, `foresee_update` and
//! `binds_by_attribute` are the whole surface, with `read_namespace` for what `doctor` judges. A userspace
//! socket wins over a kernel device of the
//! same name, as in the reference. What a binding takes is decided in `plan`; here the facts for
//! it are read, and what it says is done in order: add rules, change the device, remove rules.

mod bpf;
mod diag;
mod facts;
mod foresee;
mod kernel;
mod namespaces;
mod netlink;
mod programs;
mod receive;
mod routing;
mod scope;
#[cfg(test)]
mod scripted;
#[cfg(test)]
mod tests;
mod userspace;

use std::cell::OnceCell;

use crate::doctor::facts::Nic;
use crate::error::{Error, Result, Task};
use crate::ifname;
use crate::model::{
    Bind, Change, Device, Family, Fault, HookEntry, Presence, Receives, Rule, Selector, UdpSocket,
    Update, bind_table,
};
use crate::plan::receive::{Binder, CLOSED_MARK, ReceiveMode};
use crate::plan::rules::{Binding, Flow, Rules, is_our_mark};
use crate::plan::{
    self, BindMode, Elsewhere, Facts, HIDDEN, Other, Plan, Sockets, Strategy, Support, Target,
};
pub use facts::{Routes, read_namespace};
pub use foresee::foresee_update;
use kernel::Wireguard;
use namespaces::Depth;
use netlink::Failure;
pub use programs::find_wg_quick;
use receive::{ClosedChange, Marks, Now, ReceiveGoal, Receiving};
use routing::{Lock, Routing};

use crate::wire::route::Link;

/// The link kind of the kernel's devices.
const KIND: &str = "wireguard";

/// The names of all WireGuard interfaces, the kernel's first.
pub fn list() -> Result<Vec<String>> {
    let mut routing = Routing::open().map_err(|err| Error::io(Task::ListInterfaces, &err))?;
    let links = routing
        .list_links()
        .map_err(|failure| failure.with_task(Task::ListInterfaces))?;
    let served = userspace::list_devices().map_err(|err| Error::io(Task::ListInterfaces, &err))?;
    Ok(merge_names(&links, served))
}

/// Why this kernel's bind hooks cannot bind sockets of WireGuard; `None`: they can. With `all_sockets`
/// they may bind those of programs on the port as well.
pub fn find_hooks_fault(all_sockets: bool) -> Option<String> {
    bpf::try_hooks(all_sockets)
        .err()
        .map(|reason| reason.to_string())
}

/// Whether programs at the bind hooks bind the sockets of other programs as well: somebody accepted
/// that for a device.
pub fn binds_all_sockets() -> bool {
    receive::binds_all_sockets()
}

/// Whether this kernel binds by `WGDEVICE_A_BIND_DEV`.
///
/// # Errors
/// There is no WireGuard in this kernel, or it did not answer.
pub fn binds_by_attribute() -> Result<bool> {
    Wireguard::open(Task::AskKernel)?.takes_bind_dev()
}

fn merge_names(links: &[Link], served: Vec<String>) -> Vec<String> {
    let mut names: Vec<String> = links
        .iter()
        .filter(|link| link.kind == KIND)
        .map(|link| link.name.clone())
        .collect();
    names.extend(served);
    names
}

/// One device as it is now, with how it is bound.
pub fn get(interface: &str) -> Result<Device> {
    Reader::default().get(interface)
}

/// One device as it is now. How it is bound is left out, since it takes the rules, links and sockets of
/// the namespace.
///
/// # Errors
/// There is no such device, or it cannot be read.
pub fn get_unjudged(interface: &str) -> Result<Device> {
    read_device(interface).map(|(device, _)| device)
}

/// Whether a program serves this interface.
pub fn is_userspace(interface: &str) -> bool {
    userspace::is_served(interface)
}

/// A device, and the value of `WGDEVICE_A_BIND_DEV` where there is one.
fn read_device(interface: &str) -> Result<(Device, Option<String>)> {
    if userspace::is_served(interface) {
        Ok((userspace::get(interface)?, None))
    } else if ifname::is_too_long(interface) {
        // Said by the reference before it asks the kernel.
        Err(Error::os(Task::access(interface), libc::ENAMETOOLONG))
    } else {
        Wireguard::open(Task::access(interface))?.get(interface)
    }
}

/// Reads devices. The rules and the links of this namespace are read once for all of them.
#[derive(Default)]
pub struct Reader {
    rules: OnceCell<std::result::Result<Rules, String>>,
    links: OnceCell<std::result::Result<Vec<Link>, String>>,
    devices: OnceCell<std::result::Result<Vec<Other>, String>>,
    entries: OnceCell<Vec<(u16, HookEntry)>>,
    nics: OnceCell<Option<Vec<Nic>>>,
    _sockets: Option<diag::Snapshot>,
}

/// From how many devices on all UDP sockets are read at once, instead of those on each port.
const MANY: usize = 8;

impl Reader {
    /// For so many devices.
    pub fn prepare_reader(devices: usize) -> Self {
        Reader {
            _sockets: (devices >= MANY).then(diag::Snapshot::keep_sockets),
            ..Reader::default()
        }
    }

    /// One device as it is now, with how it is bound.
    ///
    /// # Errors
    /// There is no such device, or it cannot be read.
    pub fn get(&self, interface: &str) -> Result<Device> {
        let (mut device, bind_dev) = read_device(interface)?;
        device.bind = self.find_bind(&device, bind_dev);
        if !device.bind.is_open() {
            let nics = || self.nics.get_or_init(|| facts::read_nics().ok()).as_deref();
            scope::add_faults(&mut device, self.rules().ok(), nics);
        }
        if let (Bind::Rules { elsewhere, .. }, Ok(links)) = (&device.bind, self.links()) {
            device.receives = match elsewhere {
                Some(true) => None,
                Some(false) => receive::read_receives(&device, device.bind.dev(), links),
                None => Some(Receives::Unclear),
            };
        }
        Ok(device)
    }

    /// The devices here of its kind that are up and have its port, by their names; or the reason for
    /// which they are not known.
    fn find_rivals(
        &self,
        device: &Device,
        links: &[Link],
    ) -> std::result::Result<Vec<String>, &String> {
        let Some(link) = find_link(links, &device.name) else {
            return Ok(Vec::new());
        };
        // They are asked only where there are any.
        let is_other = |other: &&Link| other.up && other.index != link.index;
        let tunnels = |other: &&Link| other.kind == KIND || other.kind == "tun";
        if !link.up || !links.iter().filter(is_other).any(|other| tunnels(&other)) {
            return Ok(Vec::new());
        }
        let devices = self.devices.get_or_init(|| {
            let kernel = Wireguard::open(Task::ListInterfaces).map(Backend::Kernel);
            let mut backend = kernel.unwrap_or(Backend::Userspace);
            // A program that does not answer must not hide how other devices are bound.
            let read = read_others(&mut backend, links, "");
            read.map(|(devices, _)| devices)
                .map_err(|error| error.to_string())
        });
        let devices = devices.as_ref()?;
        Ok(find_rivals(link, device.listen_port, devices, links))
    }

    /// The rules, or the reason for which they cannot be read.
    fn rules(&self) -> std::result::Result<&Rules, &String> {
        let read = || read_rules(Task::Other("Cannot read the policy rules".to_owned()));
        self.rules
            .get_or_init(|| read().map_err(|error| error.to_string()))
            .as_ref()
    }

    fn links(&self) -> std::result::Result<&[Link], &String> {
        let read = || read_links(Task::Other("Cannot read the links".to_owned()));
        self.links
            .get_or_init(|| read().map_err(|error| error.to_string()))
            .as_deref()
    }

    /// What is left of a binding whose rules are gone, or are for another mark or port by now: its
    /// entry at the bind hooks.
    fn find_rest(&self, device: &Device, rules: &Rules) -> Bind {
        let links = self.links().unwrap_or_default();
        let Some(link) = find_link(links, &device.name) else {
            return Bind::Off;
        };
        let entries = self.entries.get_or_init(receive::read_entries);
        let Some(entry) = receive::own_entry(entries, device.listen_port, link.index) else {
            return Bind::Off;
        };
        let vrf = find_link(links, &entry.vrf);
        let families = [(Family::V4, &rules.v4), (Family::V6, &rules.v6)];
        let on = families.into_iter().filter(|(_, rules)| rules.is_some());
        Bind::Rules {
            dev: Some(entry.vrf.clone()),
            by: match entry.mark {
                0 => Selector::Port(device.listen_port),
                mark => Selector::Mark(mark),
            },
            table: vrf.and_then(|link| link.vrf_table).unwrap_or(0),
            faults: on
                .flat_map(|(family, _)| {
                    [Fault::NotSteered, Fault::NotClosed].map(|one| (family, one))
                })
                .collect(),
            elsewhere: Some(find_sockets(link, device.listen_port) == Sockets::Elsewhere),
        }
    }

    /// How a device is bound.
    fn find_bind(&self, device: &Device, bind_dev: Option<String>) -> Bind {
        if let Some(dev) = bind_dev {
            return kernel_bind(device, dev, self.links().unwrap_or_default());
        }
        // Rules know a device by its mark or port; without both there is nothing to look up.
        if device.fwmark == 0 && device.listen_port == 0 {
            return Bind::Off;
        }
        let find = || {
            let rules = self.rules()?;
            let binding = rules.find_binding(device.fwmark, device.listen_port);
            let Some(binding) = binding else {
                return Ok(self.find_rest(device, rules));
            };
            let links = self.links()?;
            let rivals = self.find_rivals(device, links)?;
            Ok(rules_bind(device, rules, binding, links, &rivals))
        };
        find().unwrap_or_else(|why: &String| Bind::Unknown { why: why.clone() })
    }
}

/// A binding by rules.
fn rules_bind(
    device: &Device,
    rules: &Rules,
    binding: Binding,
    links: &[Link],
    rivals: &[String],
) -> Bind {
    let table = binding.table.unwrap_or(0);
    let flow = Flow {
        by: binding.by,
        mark: device.fwmark,
        port: device.listen_port,
    };
    let link = find_link(links, &device.name);
    Bind::Rules {
        dev: find_vrf(links, binding.table, device.listen_port),
        by: binding.by,
        table,
        faults: rules.find_faults(flow, table),
        elsewhere: match link.map(|link| place_sockets(link, device.listen_port, rivals)) {
            Some(Sockets::Elsewhere) => Some(true),
            Some(Sockets::Contested) => None,
            Some(_) => Some(false),
            None => is_program_elsewhere(&device.name, device.listen_port),
        },
    }
}

/// Whether the sockets of a device without a link here are in another namespace; `None` where nothing
/// tells. It is a program's: the kernel's have a link.
fn is_program_elsewhere(name: &str, port: u16) -> Option<bool> {
    match is_served_elsewhere(port) {
        false => Some(false),
        true => (!is_down_elsewhere(name)).then_some(true),
    }
}

/// The VRF with this table. Of several it is the one that has the sockets on the port, or is to have
/// them.
fn find_vrf(links: &[Link], table: Option<u32>, port: u16) -> Option<String> {
    let is_meant = |link: &&Link| link.vrf_table.is_some() && link.vrf_table == table;
    let all: Vec<&Link> = links.iter().filter(is_meant).collect();
    if all.len() < 2 || port == 0 {
        return all.first().map(|link| link.name.clone());
    }
    let sockets = diag::udp_sockets(port).unwrap_or_default();
    let entry = bpf::Hooks::find_hooks().and_then(|hooks| hooks.get(port));
    let entry = entry.ok().flatten().map(|entry| entry.vrf);
    let has_socket = |index| sockets.iter().any(|one| one.device == index);
    choose_vrf(&all, has_socket, entry.as_deref()).map(|link| link.name.clone())
}

fn choose_vrf<'a>(
    all: &[&'a Link],
    has_socket: impl Fn(u32) -> bool,
    entry: Option<&str>,
) -> Option<&'a Link> {
    let is_named = |link: &&&Link| entry.is_some_and(|entry| link.is_called(entry));
    let named = all.iter().find(is_named);
    let bound = || all.iter().find(|link| has_socket(link.index));
    named.or_else(bound).or(all.first()).copied()
}

/// A binding by the kernel's attribute. The name is one where the device was created.
fn kernel_bind(device: &Device, dev: String, links: &[Link]) -> Bind {
    let here = crate::sys::if_index(&dev).is_some();
    let link = find_link(links, &device.name);
    let port = device.listen_port;
    let sockets = link.map_or(Sockets::Unknown, |link| find_sockets(link, port));
    let presence = if link.is_some_and(|link| link.up) && port != 0 {
        match has_socket_on(&dev, port) {
            Some(_) if here && has_lost_socket(&device.name, port, links) => Presence::Unbound,
            Some(true) => Presence::Present,
            // The kernel closes the sockets when the device is missing.
            Some(false) if is_bound_elsewhere(&dev, port) => Presence::Unknown,
            Some(false) if !here => Presence::Missing,
            Some(false) => Presence::Unused,
            None => guess_presence(sockets, here),
        }
    } else {
        guess_presence(sockets, here)
    };
    Bind::Kernel { dev, presence }
}

/// For a device without sockets, or where they cannot be seen.
fn guess_presence(sockets: Sockets, here: bool) -> Presence {
    match sockets {
        Sockets::Here => Presence::Present,
        Sockets::Unknown | Sockets::Contested if here => Presence::Present,
        Sockets::Unknown | Sockets::Contested => Presence::Missing,
        Sockets::Elsewhere => Presence::Unknown,
    }
}

/// Whether a socket on this port of this thread's namespace is bound to the device of this name;
/// `None` when it cannot be told.
fn has_socket_on(dev: &str, port: u16) -> Option<bool> {
    let Some(index) = crate::sys::if_index(dev) else {
        return Some(false);
    };
    let sockets = diag::udp_sockets(port).ok()?;
    Some(sockets.iter().any(|socket| socket.device == index))
}

/// Whether a socket of this device is bound to nothing: more are than other devices can have.
fn has_lost_socket(name: &str, port: u16, links: &[Link]) -> bool {
    let sockets = diag::udp_sockets(port).unwrap_or_default();
    let unbound = |one: &&UdpSocket| one.may_be_of(false) && one.device == 0;
    let count = |v6| {
        sockets
            .iter()
            .filter(unbound)
            .filter(|one| one.v6 == v6)
            .count()
    };
    let unbound = count(false).max(count(true));
    if unbound == 0 {
        return false;
    }
    let others = links
        .iter()
        .filter(|link| link.kind == KIND && link.up && !link.is_called(name));
    let rivals = others.filter(|link| {
        let head = Backend::open(&link.name).and_then(|mut one| one.mark_and_port(&link.name));
        head.is_ok_and(|(_, its_port)| its_port == port)
    });
    unbound > rivals.count()
}

/// Whether another namespace has such a socket, or cannot be looked into.
fn is_bound_elsewhere(dev: &str, port: u16) -> bool {
    let (found, unknown) =
        namespaces::in_others(Depth::Known, || has_socket_on(dev, port) != Some(false));
    unknown.is_some() || found.contains(&true)
}

fn find_link<'a>(links: &'a [Link], name: &str) -> Option<&'a Link> {
    links.iter().find(|link| link.is_called(name))
}

/// The namespace of a device's sockets, by what shows from here.
fn find_sockets(link: &Link, port: u16) -> Sockets {
    if link.up && port != 0 {
        let count = || routing::count_wildcard_sockets(port, Some(link.kind != KIND));
        // While others come and go, a walk through the kernel's table may miss one.
        return match count().filter(|count| *count > 0).or_else(count) {
            Some(0) => Sockets::Elsewhere,
            Some(_) => Sockets::Here,
            None => Sockets::Unknown,
        };
    }
    // A device that is older than this namespace came from another one.
    match routing::is_older_than_namespace(&link.name) {
        Some(true) => Sockets::Elsewhere,
        Some(false) | None => Sockets::Unknown,
    }
}

/// Whether a program whose device is not here has its sockets elsewhere as well: none has the port.
fn is_served_elsewhere(port: u16) -> bool {
    port != 0 && routing::count_wildcard_sockets(port, Some(true)) == Some(0)
}

/// Whether a program's device is in another namespace and down there: the program has no sockets
/// anywhere then.
fn is_down_elsewhere(name: &str) -> bool {
    let (found, _) = namespaces::in_others(Depth::Known, || {
        let links = Routing::open().ok()?.read_links().ok()?;
        let link = find_link(&links, name).filter(|link| link.kind == "tun")?;
        Some(link.up)
    });
    let mut found = found.into_iter().flatten().peekable();
    found.peek().is_some() && found.all(|up| !up)
}

/// As [`find_sockets`], where other devices of its kind that are up may have the sockets: each has
/// one of a family. Where there are fewer, those of one are in another namespace.
fn place_sockets(link: &Link, port: u16, rivals: &[String]) -> Sockets {
    let sockets = find_sockets(link, port);
    let count = || routing::count_wildcard_sockets(port, Some(link.kind != KIND));
    if sockets != Sockets::Here || rivals.is_empty() || count().is_none_or(|n| n > rivals.len()) {
        return sockets;
    }
    let came = |name: &str| routing::is_older_than_namespace(name) == Some(true);
    if came(&link.name) {
        Sockets::Elsewhere
    } else if rivals.iter().any(|rival| came(rival)) {
        Sockets::Here
    } else {
        Sockets::Contested
    }
}

/// The devices of the same kind that are up and have this port, by their names.
fn find_rivals(link: &Link, port: u16, devices: &[Other], links: &[Link]) -> Vec<String> {
    let rivals = devices.iter().filter(|other| {
        let up = find_link(links, &other.name).is_some_and(|one| one.up && one.index != link.index);
        up && other.port == port && other.userspace == (link.kind != KIND)
    });
    rivals.map(|other| other.name.clone()).collect()
}

/// What an update goes to.
enum Backend {
    Kernel(Wireguard),
    Userspace,
}

impl Backend {
    fn open(interface: &str) -> Result<Self> {
        if userspace::is_served(interface) {
            Ok(Backend::Userspace)
        } else if ifname::is_too_long(interface) {
            // There cannot be such a device. The reference cuts the name and changes another one.
            Err(Error::os(Task::modify(interface), libc::ENODEV))
        } else {
            Wireguard::open(Task::modify(interface)).map(Backend::Kernel)
        }
    }

    /// What can be had of a binding. The kernel is asked only where the update speaks of one.
    fn probe_support(&mut self, update: &Update) -> Result<Support> {
        Ok(match self {
            Backend::Kernel(wireguard) => Support {
                attribute: !update.bind_dev.is_keep() && wireguard.takes_bind_dev()?,
                userspace: false,
            },
            Backend::Userspace => Support {
                attribute: false,
                userspace: true,
            },
        })
    }

    fn mark_and_port(&mut self, interface: &str) -> Result<(u32, u16)> {
        let device =
            match self {
                Backend::Kernel(wireguard) => wireguard
                    .get_head(interface)
                    .map(|(device, _)| device)
                    .map_err(|failure| failure.with_task(Task::modify(interface)))?,
                Backend::Userspace => userspace::get_head(interface)?,
            };
        Ok((device.fwmark, device.listen_port))
    }

    /// Whether `WGDEVICE_A_BIND_DEV` binds the device.
    fn is_bound_by_attribute(&mut self, interface: &str) -> bool {
        let Backend::Kernel(wireguard) = self else {
            return false;
        };
        let head = wireguard.get_head(interface);
        let named = head.is_ok_and(|(_, dev)| dev.is_some_and(|dev| !dev.is_empty()));
        named && wireguard.takes_bind_dev().unwrap_or(true)
    }

    fn send(&mut self, update: &Update) -> Result<()> {
        match self {
            Backend::Kernel(wireguard) => {
                for mut message in wireguard.encode_update(update) {
                    wireguard
                        .send_message(&mut message)
                        .map_err(|failure| explain_refusal(update, failure))?;
                }
                Ok(())
            }
            Backend::Userspace => userspace::send_update(update),
        }
    }
}

/// An error of a change, with the name it is about: the kernel gives ENODEV for a missing
/// interface and for a missing device to bind to.
fn explain_refusal(update: &Update, failure: Failure) -> Error {
    let interface = &update.interface;
    let about_binding = match failure.errno {
        libc::ENODEV => crate::sys::if_index(interface).is_some(),
        libc::ELOOP | libc::EADDRINUSE => true,
        _ => false,
    };
    match &update.bind_dev {
        Change::Set(dev) if about_binding => failure.with_task(Task::Bind {
            interface: interface.clone(),
            dev: dev.clone(),
        }),
        _ => failure.with_task(Task::modify(interface)),
    }
}

/// Applies `update`. Each line that the user should read goes through `note`, without a newline.
pub fn set(
    update: Update,
    mode: BindMode,
    receive: ReceiveMode,
    note: &mut dyn FnMut(&str),
) -> Result<()> {
    let moves =
        matches!(update.listen_port, Change::Set(1..)) || matches!(update.bind_dev, Change::Set(_));
    let interface = update.interface.clone();
    change_bound(update, mode, receive, note)?;
    if moves {
        note_taken_port(&interface, note);
    }
    Ok(())
}

/// Whether a socket keeps one that is bound to this device from its port.
fn has_socket_in_the_way(dev: &str, port: u16) -> bool {
    let index = receive::find_index(dev).unwrap_or(0);
    let sockets = diag::udp_sockets(port).unwrap_or_default();
    let mut sockets = sockets.iter().filter(|one| one.wildcard);
    sockets.any(|one| one.device == 0 || one.device == index)
}

/// The kernel takes the port of a device that is down, and `ip link set up` then fails with few
/// words. What cannot be read is not said.
fn note_taken_port(interface: &str, note: &mut dyn FnMut(&str)) {
    let links = Routing::open()
        .ok()
        .and_then(|mut routing| routing.read_links().ok());
    let down = links
        .iter()
        .flatten()
        .any(|link| link.name == interface && link.kind == KIND && !link.up);
    if !down {
        return;
    }
    // Most often nobody has it, and the peers need not be read.
    let head = Backend::open(interface).and_then(|mut one| one.mark_and_port(interface));
    let port = head.map_or(0, |(_, port)| port);
    if port == 0 || !routing::is_port_taken(port) {
        return;
    }
    let Ok(device) = get(interface) else {
        return;
    };
    // Other sockets on its port make it unclear what a device that is down will receive.
    let bound = matches!(device.bind, Bind::Kernel { .. })
        || matches!(device.receives, Some(Receives::Bound | Receives::Unclear));
    // A device that is bound shares its port with sockets that are bound to others.
    let taken = match (bound, device.bind.dev()) {
        (true, Some(dev)) => has_socket_in_the_way(dev, port),
        _ => true,
    };
    if taken {
        note(&format!(
            "Warning: another socket has UDP port {port}: `ip link set {interface} up' will fail \
             (Address already in use)"
        ));
    }
}

/// Changes the device, and the rules with it.
fn change_bound(
    mut update: Update,
    mode: BindMode,
    receive: ReceiveMode,
    note: &mut dyn FnMut(&str),
) -> Result<()> {
    let mut backend = Backend::open(&update.interface)?;
    // Those who change neither binding, mark nor port do not pay for any.
    if update.bind_dev.is_keep() && update.fwmark.is_keep() && update.listen_port.is_keep() {
        let _lock = scope::refuse_new_escapes(&update)?;
        receive::sweep_entries();
        return backend.send(&update);
    }
    // From here to the end no other `wg` changes rules or marks.
    let lock = Lock::take_lock()?;
    let support = backend.probe_support(&update)?;
    if let Change::Set(name) = &mut update.bind_dev {
        *name = name_of_vrf(name)?;
    }
    let strategy = Strategy::choose(support, &update, mode)?;
    scope::refuse_escapes(&update, &strategy)?;
    let ours = match has_our_rules(&update.interface) {
        Ok(ours) => ours && !is_apart(&mut backend, &update)?,
        // Without a mark and a port no rule of ours can bind it, and the reference does not look
        // either. What may be bound stays as it is.
        Err(_) if strategy == Strategy::Keep && is_blank(&mut backend, &update.interface) => false,
        Err(error) => return Err(error),
    };
    if !matches!(strategy, Strategy::Attribute { .. }) {
        let standing = find_standing(&mut backend, &update)?;
        let mut bound_elsewhere = None;
        if let Some(standing) = &standing {
            refuse_port_elsewhere(&mut backend, &update, standing, note)?;
            bound_elsewhere = find_bound_elsewhere(&update, standing, support)?;
        }
        if let Some(facts) = bound_elsewhere {
            receive::sweep_entries();
            let plan = plan::plan(&facts, update, &strategy)?;
            backend.send(&plan.update)?;
            plan.notes.iter().for_each(|line| note(line));
            return Ok(());
        }
    }
    if strategy == Strategy::Keep && !(update.fwmark.is_keep() && update.listen_port.is_keep()) {
        refuse_half_bound(&mut backend, &update).inspect_err(|_| receive::sweep_entries())?;
    }
    let ends = matches!(strategy, Strategy::Unbind | Strategy::Attribute { .. });
    let left = !ours && ends && has_leftovers(&mut backend, &update.interface, &strategy);
    if !ours && !left && !matches!(strategy, Strategy::Fallback { .. }) {
        // No rule is there and none will be: nothing else has to be known, but who has the port.
        receive::sweep_entries();
        let mut facts = Facts {
            support,
            kernel_binding: omitted_binding(&mut backend, &update, support),
            ..Facts::default()
        };
        if let Change::Set(port) = update.listen_port {
            facts.hooked = receive::entry_of_another(&update.interface, port);
            if !facts.hooked.is_empty() {
                facts.port = backend.mark_and_port(&update.interface)?.1;
                facts.all_sockets = receive::binds_all_sockets();
            }
        }
        let plan = plan::plan(&facts, update, &strategy)?;
        backend.send(&plan.update)?;
        plan.notes.iter().for_each(|line| note(line));
        return Ok(());
    }

    // Rules are changed by one at a time or not at all.
    let _lock = lock.or_refuse()?;
    let mut routing =
        Routing::open().map_err(|err| Error::io(Task::modify(&update.interface), &err))?;
    let links = routing
        .read_links()
        .map_err(|failure| failure.with_task(Task::modify(&update.interface)))?;
    let mut receiving = Receiving::read_state(&update.interface, receive, &links);
    let mut facts = read_facts(&mut backend, &mut routing, &links, &update, support)?;
    let unbinds = strategy == Strategy::Unbind;
    receiving.find_own(facts.mark, facts.port, unbinds, &links, &facts.others);
    receiving.add_interrupted(&links, &mut facts.others);
    facts.hooked = receiving.entries_of_others();
    facts.all_sockets = receiving.all_sockets;
    let before = (facts.mark, facts.port);
    let interrupted = receiving.find_interrupted(facts.mark, facts.port, &facts.rules);
    if let Some(interrupted) = interrupted {
        let (port, mark) = interrupted.check_known(&update.interface, &strategy)?;
        (facts.port, facts.mark, facts.interrupted) = (port, mark, true);
    }
    facts.keeps_port = receiving.keeps_port(facts.port);
    if ours {
        // A device that was made here and then moved may live on the rules that are to go.
        facts.elsewhere = read_elsewhere(match plan::may_open_others(&facts, &update, &strategy) {
            true => Depth::Hidden,
            false => Depth::Known,
        });
        add_hidden_programs(&mut facts, before.1);
    }
    let mut plan = plan::plan(&facts, update, &strategy)?;
    let goal = find_goal(&facts, &plan, &strategy, &receiving);
    if goal.is_some() || strategy == Strategy::Unbind {
        receiving.check_port(goal.as_ref(), &plan.update, &facts, &links, note)?;
    }
    if let Some(goal) = &goal {
        receiving.prepare_update(goal, &mut plan.update, &facts);
    }
    let mut closes = false;
    if matches!(strategy, Strategy::Unbind | Strategy::Fallback { .. }) {
        closes = receiving.check_hooks(goal.as_ref(), &facts, &mut backend)?;
    }
    let marks = Marks {
        before: before.0,
        after: facts.mark_after(&plan.update.fwmark),
    };
    let port = plan::receive::port_after(facts.port, &plan.update.listen_port).unwrap_or(0);
    // A new port brings new sockets in the same message as the mark.
    let remakes = closes && port == facts.port;
    let by_attribute = matches!(strategy, Strategy::Attribute { .. });
    let closes = remakes || !by_attribute && plan.must_close(&facts);
    if closes {
        if facts.up {
            let ports = [facts.port, port];
            receive::check_closable(&plan.update.interface, &facts.rules, ports, remakes)
                .inspect_err(|_| receiving.roll_back())?;
        }
        plan.update.fwmark = Change::Keep;
        if remakes && facts.up {
            plan.update.listen_port = Change::Keep;
        }
    }
    let added = make_way(&mut routing, &facts, &plan, note)
        .and_then(|added| match closes {
            true => Ok(added),
            false => send_change(&mut backend, &mut routing, &plan, added, before, note),
        })
        .inspect_err(|_| receiving.roll_back())?;
    // What leads it to the VRF that it leaves goes before its sockets may be on the new one: by the same
    // mark or port it would send to the old one first.
    let mut removed = Ok(());
    if !closes {
        removed = routing.remove_rules(&plan.remove);
    }
    let completed = match closes || removed.is_err() {
        true => Ok(()),
        false => receiving.complete_entry(),
    };
    // Kernels before 6.9 keep a peer's IPv6 route when rules change; not when they are told a mark.
    let unsaid = plan.update.fwmark.is_keep() && !(plan.add.is_empty() && plan.clear.is_empty());
    let is_stale = goal.is_some() && !closes && (unsaid || !plan.remove.is_empty());
    let flushed = match is_stale && !facts.support.userspace {
        true => backend.send(&Update {
            interface: plan.update.interface.clone(),
            fwmark: Change::Set(marks.after),
            ..Update::default()
        }),
        false => Ok(()),
    };
    if closes {
        let closes =
            |(_, rule): &(Family, Rule)| rule.our_selector() == Some(Selector::Mark(CLOSED_MARK));
        // Another command may have left those that close it.
        let (closing, old): (Vec<_>, Vec<_>) = plan.remove.iter().copied().partition(closes);
        let change = ClosedChange {
            update: &plan.update,
            marks,
            old: &old,
            remakes,
            port,
        };
        let moved = receiving.move_closed(&mut backend, &mut routing, &facts, &change);
        removed = match moved {
            Ok(removed) => removed.and(routing.remove_rules(&closing)),
            Err(left) => {
                if !left.keeps_rules {
                    receiving.roll_back();
                    routing.remove_rules(&added)?;
                } else if is_timeout(&left.error) {
                    note(&format!(
                        "{0}: sends nothing until it is bound again, or unbound, because its program may \
                         make the change yet",
                        plan.update.interface
                    ));
                }
                return Err(left.error);
            }
        };
    }
    // The device has changed by now, even if the rules could not be removed.
    plan.notes.iter().for_each(|line| note(line));
    completed?;
    if receiving.awaits_entry() {
        return removed;
    }
    let fallback = matches!(strategy, Strategy::Fallback { .. }) && mode == BindMode::Auto;
    if fallback && !facts.support.attribute && !facts.support.userspace {
        let modules = facts::read_modules();
        let words = modules.explain_fallback(&plan.update.interface);
        words.iter().for_each(|line| note(line));
    }
    // Whoever sets the link up after this meets the hooks as they are told by now. One that was set up
    // before has sockets that nobody has looked at.
    let up = is_up(&mut routing, &plan.update.interface).unwrap_or(facts.up);
    let now = Now {
        up,
        away: facts.sockets == Sockets::Elsewhere && !facts.interrupted,
        contested: facts.sockets == Sockets::Contested && !facts.interrupted,
        attribute: matches!(strategy, Strategy::Attribute { .. }),
        unbound: strategy == Strategy::Unbind,
        by_rules: facts.rules.find_binding(facts.mark, facts.port).is_some(),
        process: facts.support.userspace,
        links: &links,
        others: &facts.others,
        elsewhere: &facts.elsewhere.devices,
        port,
        rules: &plan.rules_after(&facts.rules),
    };
    let received = receiving.finish_change(goal.as_ref(), &mut backend, &mut routing, &now, note);
    removed.and(flushed).and(received)
}

/// Whether the link of a device is up; `None` where it has none or that cannot be read.
fn is_up(routing: &mut Routing, interface: &str) -> Option<bool> {
    let links = routing.read_links().ok()?;
    find_link(&links, interface).map(|link| link.up)
}

/// Where the device is to receive from; `None` where no rules bind it.
fn find_goal(
    facts: &Facts,
    plan: &Plan,
    strategy: &Strategy,
    receiving: &Receiving,
) -> Option<ReceiveGoal> {
    let vrf = match strategy {
        Strategy::Fallback { name, .. } => name.clone(),
        Strategy::Keep => {
            let present = facts.rules.find_binding(facts.mark, facts.port);
            // Its rules may be for a mark that another tool took and that it gets back.
            let back = || {
                receiving.known_vrf()?;
                let update = &plan.update;
                let mark = facts.mark_after(&update.fwmark);
                let port = plan::receive::port_after(facts.port, &update.listen_port)?;
                facts.rules.find_binding(mark, port)
            };
            let table = present.or_else(back)?.table;
            let with_table = facts.vrfs.iter().filter(|(_, t)| Some(*t) == table);
            let names: Vec<&str> = with_table.map(|(name, _)| name.as_str()).collect();
            // Of two VRFs with this table it is the one that its sockets are on.
            let known = receiving.known_vrf();
            known
                .filter(|known| names.contains(known))
                .or(names.first().copied())
                .or(known)?
                .to_owned()
        }
        Strategy::Unbind | Strategy::Attribute { .. } => return None,
    };
    Some(ReceiveGoal {
        vrf: foresee::find_real_name(vrf),
        mark: facts.mark_after(&plan.update.fwmark),
    })
}

/// What the kernel's attribute says, where a file takes the binding away by leaving it out.
fn omitted_binding(backend: &mut Backend, update: &Update, support: Support) -> Option<String> {
    match backend {
        Backend::Kernel(wireguard) if update.bind_dev_omitted && support.attribute => {
            let (_, dev) = wireguard.get_head(&update.interface).ok()?;
            dev.filter(|dev| !dev.is_empty())
        }
        _ => None,
    }
}

/// The name of the VRF that was named by the number of its table, where there is one.
fn name_of_vrf(name: &str) -> Result<String> {
    let Some(table) = bind_table(name).filter(|table| *table != 0) else {
        return Ok(name.to_owned());
    };
    let task = || Task::Other("Unable to list the VRFs".to_owned());
    let mut routing = Routing::open().map_err(|err| Error::io(task(), &err))?;
    let links = routing
        .read_links()
        .map_err(|failure| failure.with_task(task()))?;
    let mut named = links.into_iter().filter(|l| l.vrf_table == Some(table));
    match (named.next(), named.next()) {
        (None, _) => Ok(name.to_owned()),
        (Some(link), None) => Ok(link.name),
        (Some(one), Some(other)) => Err(Error::Unsupported(format!(
            "`{name}' does not tell which VRF is meant: {} and {} have that table; give the name",
            one.name, other.name
        ))),
    }
}

/// Whether a rule of the fallback is there, be it of this device or of another.
fn has_our_rules(interface: &str) -> Result<bool> {
    let rules = read_rules(Task::modify(interface))?;
    Ok(rules.iter_ours().next().is_some())
}

/// Whether a change of a userspace device has nothing to do with the rules that are there: it takes no
/// right over them then, but to speak to its program.
///
/// # Errors
/// Its program does not answer.
fn is_apart(backend: &mut Backend, update: &Update) -> Result<bool> {
    if !update.bind_dev.is_keep() || !matches!(backend, Backend::Userspace) {
        return Ok(false);
    }
    let told = backend.mark_and_port(&update.interface);
    let (mark, port) = match told {
        Ok(both) => both,
        Err(error) if is_timeout(&error) => return Err(error),
        Err(_) => return Ok(false),
    };
    let Ok(rules) = read_rules(Task::modify(&update.interface)) else {
        return Ok(false);
    };
    let wanted = [
        match update.fwmark {
            Change::Set(mark) => Selector::Mark(mark),
            Change::Keep | Change::Clear => Selector::Mark(0),
        },
        // The kernel could choose any.
        match update.listen_port {
            Change::Set(port) => Selector::Port(port),
            Change::Keep => Selector::Port(0),
            Change::Clear => return Ok(false),
        },
    ];
    let used = rules.our_selectors();
    let mut all = wanted.into_iter();
    Ok(all.all(|by| !used.contains(&by)) && rules.find_bindings(mark, port).is_empty())
}

/// Whether a program did not answer in time.
fn is_timeout(error: &Error) -> bool {
    matches!(error, Error::Os { errno, .. } if *errno == libc::ETIMEDOUT)
}

/// Whether the device has neither a mark nor a port that rules could go by.
fn is_blank(backend: &mut Backend, interface: &str) -> bool {
    matches!(backend.mark_and_port(interface), Ok((0, 0)))
}

/// The rules of this thread's namespace; `task` is what an error says.
fn read_rules(task: Task) -> Result<Rules> {
    ask_routing(task, Routing::read_rules)
}

/// The links of this thread's namespace; `task` is what an error says.
fn read_links(task: Task) -> Result<Vec<Link>> {
    ask_routing(task, Routing::read_links)
}

fn ask_routing<T>(
    task: Task,
    ask: impl FnOnce(&mut Routing) -> std::result::Result<T, Failure>,
) -> Result<T> {
    match Routing::open() {
        Ok(mut routing) => ask(&mut routing).map_err(|failure| failure.with_task(task)),
        Err(err) => Err(Error::io(task, &err)),
    }
}

/// Whether something is left of a binding whose rules are gone.
fn has_leftovers(backend: &mut Backend, interface: &str, strategy: &Strategy) -> bool {
    let Ok((mark, port)) = backend.mark_and_port(interface) else {
        return false;
    };
    let process = matches!(backend, Backend::Userspace);
    if is_our_mark(mark) {
        return true;
    }
    let is_hooks = || {
        // Sockets that are bound are to be, whoever did it.
        if matches!(strategy, Strategy::Attribute { .. }) {
            return false;
        }
        let binder = Binder {
            attribute: backend.is_bound_by_attribute(interface),
            entry: false,
            process,
            leaves: true,
        };
        binder.is_hooks()
    };
    receive::has_leftovers(interface, mark, port, process, is_hooks)
}

/// A device whose rules are gone, and whose sockets the bind hooks still bind, gets no other mark or
/// port without a word about its binding: nothing of it would be left.
fn refuse_half_bound(backend: &mut Backend, update: &Update) -> Result<()> {
    let interface = &update.interface;
    let entries = receive::read_entries();
    if entries.is_empty() {
        return Ok(());
    }
    // A program that is slow to tell does not hold up a change that the reference makes at once.
    let read = match backend {
        Backend::Kernel(_) => backend.mark_and_port(interface),
        Backend::Userspace => {
            userspace::get_neighbour(interface).map(|device| (device.fwmark, device.listen_port))
        }
    };
    let Ok((mark, port)) = read else {
        return Ok(());
    };
    // An entry may be left of a binding by rules: it does nothing any more.
    if backend.is_bound_by_attribute(interface) {
        return Ok(());
    }
    let closed = mark == CLOSED_MARK;
    if !closed && !entries.iter().any(|(of, _)| *of == port) {
        return Ok(());
    }
    let task = || Task::modify(interface);
    let (links, rules) = (read_links(task())?, read_rules(task())?);
    let Some(link) = find_link(&links, interface) else {
        return Ok(());
    };
    if closed {
        return refuse_half_closed(interface, link.index, &entries, &rules);
    }
    let own = receive::own_entry(&entries, port, link.index);
    let after = plan::receive::port_after(port, &update.listen_port);
    // The mark that the rules go by may come back.
    let mends = |entry: &HookEntry| {
        let table = find_link(&links, &entry.vrf).and_then(|vrf| vrf.vrf_table);
        let back = match update.fwmark {
            Change::Set(mark) => rules.find_binding(mark, port),
            Change::Keep | Change::Clear => None,
        };
        after == Some(port) && back.is_some_and(|back| table.is_some() && back.table == table)
    };
    let bound = rules.find_binding(mark, port).is_some();
    match own.filter(|entry| !bound && !mends(entry)) {
        Some(entry) => Err(Error::Unsupported(format!(
            "Cannot change {interface}: its sockets are bound to {}, but no policy rule leads what it \
             sends there any more; bind it again with bind-dev, or unbind it with `bind-dev off', in the \
             same command",
            entry.vrf
        ))),
        None => Ok(()),
    }
}

/// A command left the device closed, and somebody took the rules since: the mark that it would get back
/// is led nowhere.
fn refuse_half_closed(
    interface: &str,
    index: u32,
    entries: &[(u16, HookEntry)],
    rules: &Rules,
) -> Result<()> {
    let mut own = entries.iter().filter(|(_, entry)| entry.owner == index);
    let is_led = |(port, entry): &(u16, HookEntry)| rules.find_binding(entry.mark, *port).is_some();
    if own.clone().any(is_led) || own.all(|(_, entry)| entry.leaving) {
        return Ok(());
    }
    Err(Error::Unsupported(format!(
        "Cannot change {interface}: a command that was to bind its sockets ended half way, and no \
         policy rule leads what it sends to its VRF any more; bind it again with bind-dev, or unbind \
         it with `bind-dev off', in the same command"
    )))
}

/// A device that may have been made in another namespace, or a program's there whose socket is in a folder
/// that both have, as it is before a change.
struct Standing {
    mark: u32,
    port: u16,
    up: bool,
    /// A process has its sockets.
    process: bool,
    sockets: Sockets,
    /// One of those that may have its sockets has its mark as well.
    shares_mark: bool,
}

/// `None`: it is a program's whose link is here, rules have nothing to go by, or the change itself will say
/// why the device cannot be read.
///
/// # Errors
/// The links cannot be read, or its program does not answer.
fn find_standing(backend: &mut Backend, update: &Update) -> Result<Option<Standing>> {
    let process = matches!(backend, Backend::Userspace);
    let read_links = || read_links(Task::modify(&update.interface));
    // A program may be slow to tell its state, and is asked for no more than it takes.
    let links = process.then(read_links).transpose()?;
    let is_here = |links: &Vec<Link>| find_link(links, &update.interface).is_some();
    if links.as_ref().is_some_and(is_here) || process && !namespaces::has_others() {
        return Ok(None);
    }
    let (mark, port) = match backend.mark_and_port(&update.interface) {
        Ok(both) => both,
        // Others wait for the lock meanwhile: once is enough.
        Err(error) if is_timeout(&error) => return Err(error),
        Err(_) => return Ok(None),
    };
    if (mark, port) == (0, 0) && !sets_selector(update) {
        return Ok(None);
    }
    let links = links.map_or_else(read_links, Ok)?;
    let link = find_link(&links, &update.interface);
    let mut standing = Standing {
        mark,
        port,
        up: link.map_or_else(|| !is_down_elsewhere(&update.interface), |link| link.up),
        process,
        sockets: match link {
            Some(link) => find_sockets(link, port),
            None if is_served_elsewhere(port) => Sockets::Elsewhere,
            None => Sockets::Unknown,
        },
        shares_mark: false,
    };
    let Some(link) = link else {
        return Ok(process.then_some(standing));
    };
    // Without another namespace nothing was moved. Else the sockets of the others may pass for its own.
    if standing.sockets == Sockets::Here && namespaces::has_others() {
        let mut rivals = Vec::new();
        let is_other = |other: &&Link| other.kind == KIND && other.up && other.index != link.index;
        for Link { name, .. } in links.iter().filter(is_other) {
            match backend.mark_and_port(name) {
                Ok((its_mark, its_port)) if its_port == port => {
                    standing.shares_mark |= its_mark == mark;
                    rivals.push(name.clone());
                }
                // It may be gone by now.
                Ok(_) | Err(_) => {}
            }
        }
        standing.sockets = place_sockets(link, port, &rivals);
    }
    Ok(Some(standing))
}

/// Whether the device gets a port or a mark that rules may go by.
fn sets_selector(update: &Update) -> bool {
    matches!(update.listen_port, Change::Set(1..)) || matches!(update.fwmark, Change::Set(1..))
}

/// A device that was made in another namespace and moved must not get a port there by which another
/// one is bound: rules and bind hooks go by the port alone. While it is down nothing tells where its
/// sockets will be, and it is only said, as of a mark.
fn refuse_port_elsewhere(
    backend: &mut Backend,
    update: &Update,
    standing: &Standing,
    note: &mut dyn FnMut(&str),
) -> Result<()> {
    let interface = &update.interface;
    let Standing { mark, port, up, .. } = *standing;
    if !sets_selector(update) {
        return Ok(());
    }
    let new = [
        match update.listen_port {
            Change::Set(wanted) if wanted != port => Selector::Port(wanted),
            _ => Selector::Port(0),
        },
        match update.fwmark {
            Change::Set(wanted) if wanted != mark => Selector::Mark(wanted),
            _ => Selector::Mark(0),
        },
    ];
    let moved = matches!(standing.sockets, Sockets::Elsewhere | Sockets::Contested);
    if !moved || backend.is_bound_by_attribute(interface) {
        return Ok(());
    }
    let (found, _) = namespaces::in_others(Depth::Known, || {
        if up && !has_socket(port, standing.process) {
            return Vec::new();
        }
        let rules = read_rules(Task::ListInterfaces).unwrap_or_default();
        let entries = receive::read_entries();
        let hooked = |by: Selector| {
            let mut entries = entries.iter().filter(|(_, entry)| !entry.leaving);
            entries.any(|(of, _)| by == Selector::Port(*of))
        };
        let binds = |by: &Selector| !rules.ours_for(*by).is_empty() || hooked(*by);
        new.into_iter().filter(binds).collect()
    });
    for by in found.into_iter().flatten() {
        let what = match by {
            Selector::Port(_) => "listen-port",
            Selector::Mark(_) => "fwmark",
        };
        if up && what == "listen-port" {
            return Err(Error::Unsupported(
                if standing.sockets == Sockets::Contested {
                    format!(
                        "Cannot give {interface} {by}: another interface is bound to a VRF by it in the \
                     network namespace where {interface} may have been made, and {interface} would be \
                     bound as well; choose another {what}"
                    )
                } else {
                    format!(
                        "Cannot give {interface} {by}: another interface is bound to a VRF by it in the \
                     network namespace where {interface} was made, and {interface} would be bound as \
                     well; choose another {what}"
                    )
                },
            ));
        }
        note(&format!(
            "{interface}: another interface is bound to a VRF by {by} in another network namespace: if \
             {interface} was made there, it is bound as well; choose another {what}"
        ));
    }
    Ok(())
}

/// What is known of a device that rules in another namespace bind: it was made there, bound, and
/// moved here. `None` where none do, as far as can be seen.
///
/// # Errors
/// The rules cannot be read.
fn find_bound_elsewhere(
    update: &Update,
    standing: &Standing,
    support: Support,
) -> Result<Option<Facts>> {
    let Standing {
        mark,
        port,
        up,
        process,
        sockets,
        shares_mark,
    } = *standing;
    if (mark, port) == (0, 0) {
        return Ok(None);
    }
    let here = read_rules(Task::modify(&update.interface))?;
    // The rules here may be another device's, which has the same mark in its own namespace.
    let others_rules = match sockets {
        Sockets::Elsewhere => true,
        Sockets::Contested => shares_mark,
        Sockets::Here | Sockets::Unknown => false,
    };
    if !others_rules && here.find_binding(mark, port).is_some() {
        return Ok(None);
    }
    // Devices of other namespaces may well have this port, and rules of their own that go by it.
    let by_port = matches!(sockets, Sockets::Elsewhere | Sockets::Contested);
    if sockets == Sockets::Here || (mark == 0 && !by_port) {
        return Ok(None);
    }
    let binds = matches!(update.bind_dev, Change::Set(_));
    let (found, _) = namespaces::in_others(Depth::Hidden, || {
        let rules = Routing::open().ok()?.read_rules().ok()?;
        let bindings = rules.find_bindings(mark, port).into_iter();
        let mut selectors = bindings.map(|binding| binding.by);
        let by = selectors.find(|by| match by {
            Selector::Mark(_) => true,
            // It has sockets only while it is up.
            Selector::Port(_) => by_port && (!up || has_socket(port, process)),
        })?;
        // A mark may well be chosen there as here, for a VRF of the same table.
        let chosen = binds && sockets != Sockets::Elsewhere && by == Selector::Mark(mark);
        let explained = chosen && marks_here()?.contains(&mark);
        (!explained).then_some(by)
    });
    // From a container nothing shows but the mark, which we chose and no rule here needs. While the
    // device is down nothing tells where it was made, so that only a wish for no mark gets past.
    let omitted = update.bind_dev_omitted && update.fwmark == Change::Clear;
    let chosen = is_our_mark(mark) && (sockets == Sockets::Elsewhere || omitted);
    let unseen = chosen && !namespaces::sees_all_processes();
    let seen = found.into_iter().flatten().next();
    let by = seen.or_else(|| unseen.then_some(Selector::Mark(mark)));
    Ok(by.map(|by| Facts {
        support,
        mark,
        port,
        sockets,
        up,
        bound_elsewhere: Some(by),
        bound_unseen: seen.is_none(),
        ..Facts::default()
    }))
}

/// Whether a device that was made in this thread's namespace and moved, or that a `process` serves, may
/// have a socket on this port.
/// Whether that is one of a device here does not show: /sys tells of the namespace that it was mounted
/// in. What cannot be read counts as one.
fn has_socket(port: u16, process: bool) -> bool {
    routing::count_wildcard_sockets(port, Some(process)).is_none_or(|count| count > 0)
}

/// The marks of the kernel's devices of this thread's namespace; `None` where they cannot be read.
fn marks_here() -> Option<Vec<u32>> {
    let links = Routing::open().ok()?.read_links().ok()?;
    let mut wireguard = Wireguard::open(Task::ListInterfaces).ok()?;
    let tunnels = links.iter().filter(|link| link.kind == KIND);
    let heads = tunnels.filter_map(|link| wireguard.get_head(&link.name).ok());
    Some(heads.map(|(device, _)| device.fwmark).collect())
}

/// Adds rules, and takes away those that would take the device elsewhere. What fails is undone. Gives the
/// rules that were added.
fn make_way(
    routing: &mut Routing,
    facts: &Facts,
    plan: &Plan,
    note: &mut dyn FnMut(&str),
) -> Result<Vec<(Family, Rule)>> {
    let added = routing.add_rules(&plan.add, &facts.rules)?;
    // What nobody goes by: it does not come back when the device refuses.
    if let Err(error) = routing.remove_rules(&plan.clear) {
        if let Err(stuck) = routing.remove_rules(&added) {
            note(&stuck.to_string());
        }
        return Err(error);
    }
    Ok(added)
}

/// Changes the device. If that fails, the rules that were `added` go again. Gives them.
fn send_change(
    backend: &mut Backend,
    routing: &mut Routing,
    plan: &Plan,
    added: Vec<(Family, Rule)>,
    before: (u32, u16),
    note: &mut dyn FnMut(&str),
) -> Result<Vec<(Family, Rule)>> {
    let interface = &plan.update.interface;
    if let Err(error) = backend.send(&plan.update) {
        // A program that did not answer may make the change yet.
        // A device that has the new mark or port already must not be left without the rules: both
        // go back first, and if that fails the rules stay.
        if is_timeout(&error) {
            note(&format!(
                "{interface}: the policy rules stay, because its program may make the change yet"
            ));
        } else if set_back(backend, interface, before) {
            if let Err(stuck) = routing.remove_rules(&added) {
                note(&stuck.to_string());
            }
        } else {
            note(&format!(
                "{interface}: the policy rules stay, because its fwmark and listen port could not be set \
                 back"
            ));
        }
        return Err(error);
    }
    Ok(added)
}

/// After a change that failed half way: a stock kernel takes mark and port before it looks at
/// peers, which may come in messages of their own. Says whether the device has both as `before`.
fn set_back(backend: &mut Backend, interface: &str, before: (u32, u16)) -> bool {
    let (mark, port) = before;
    let mut restore = Update {
        interface: interface.to_owned(),
        ..Update::default()
    };
    match backend.mark_and_port(interface) {
        Ok(now) if now == before => return true,
        Ok((_, now)) if now == port => {}
        Ok(_) => restore.listen_port = Change::Set(port),
        // A device that is gone sends nothing.
        Err(Error::Os { errno, .. }) => return errno == libc::ENODEV,
        Err(_) => return false,
    }
    restore.fwmark = Change::Set(mark);
    backend.send(&restore).is_ok()
}

/// Reads all that `plan` decides by.
fn read_facts(
    backend: &mut Backend,
    routing: &mut Routing,
    links: &[Link],
    update: &Update,
    support: Support,
) -> Result<Facts> {
    let interface = update.interface.as_str();
    let unreadable = |failure: Failure| failure.with_task(Task::modify(interface));
    let (mark, port) = backend.mark_and_port(interface)?;
    let rules = routing.read_rules().map_err(unreadable)?;
    let target = match &update.bind_dev {
        Change::Set(name) => find_target(links, name),
        Change::Keep | Change::Clear => Target::None,
    };
    // An altname is as good, but the others are found by their own.
    let link = find_link(links, interface);
    let own_name = link.map_or(interface, |link| link.name.as_str());
    let (others, unknown) = read_others(backend, links, own_name)?;
    let sockets = match link {
        Some(link) => place_sockets(link, port, &find_rivals(link, port, &others, links)),
        None if support.userspace && is_served_elsewhere(port) => Sockets::Elsewhere,
        None => Sockets::Unknown,
    };
    Ok(Facts {
        support,
        mark,
        port,
        free_port: routing::find_free_port().unwrap_or_default(),
        target,
        vrfs: links
            .iter()
            .filter_map(|link| Some((link.name.clone(), link.vrf_table?)))
            .collect(),
        others,
        unknown,
        elsewhere: Elsewhere::default(),
        hooked: Vec::new(),
        all_sockets: false,
        keeps_port: false,
        sockets,
        bound_elsewhere: None,
        bound_unseen: false,
        alone: !namespaces::has_others(),
        seen: sockets == Sockets::Here || namespaces::sees_all_processes(),
        kernel_binding: omitted_binding(backend, update, support),
        wg_quick: has_default_route(update) && called_by_wg_quick(),
        up: link.is_some_and(|link| link.up),
        interrupted: false,
        rules,
    })
}

/// Whether a peer of the update gets everything: then wg-quick adds rules, unless told not to.
fn has_default_route(update: &Update) -> bool {
    let mut prefixes = update.peers.iter().flat_map(|peer| &peer.allowed_ips);
    prefixes.any(|ip| ip.prefix.cidr == 0 && !ip.remove)
}

fn called_by_wg_quick() -> bool {
    let parent = std::os::unix::process::parent_id();
    let words = std::fs::read(format!("/proc/{parent}/cmdline")).unwrap_or_default();
    words
        .split(|byte| *byte == 0)
        .any(|word| word == b"wg-quick" || word.ends_with(b"/wg-quick"))
}

fn find_target(links: &[Link], name: &str) -> Target {
    match find_link(links, name) {
        None => Target::Missing,
        Some(Link {
            vrf_table: Some(table),
            ..
        }) => Target::Vrf { table: *table },
        Some(link) => Target::Other {
            kind: link.kind.clone(),
        },
    }
}

/// Every other device here, and why some could not be asked.
fn read_others(
    backend: &mut Backend,
    links: &[Link],
    own_name: &str,
) -> Result<(Vec<Other>, Option<String>)> {
    let mut others = Vec::new();
    let mut unknown = None;
    let served = userspace::list_devices().unwrap_or_else(|err| {
        let error = Error::io(Task::ListInterfaces, &err);
        unknown = Some(error.to_string());
        Vec::new()
    });
    for name in served.iter().filter(|name| *name != own_name) {
        match userspace::get_neighbour(name) {
            Ok(device) => others.push(to_other(device, true)),
            // Another device's program that does not answer must not hold this device up.
            Err(error) => unknown = Some(format!("`{name}' does not tell its fwmark: {error}")),
        }
    }
    let kernel = links.iter().filter(|link| link.kind == KIND);
    for Link { name, .. } in kernel {
        if name == own_name || served.contains(name) {
            continue;
        }
        let head = match backend {
            Backend::Kernel(wireguard) => wireguard.get_head(name),
            Backend::Userspace => Wireguard::open(Task::modify(own_name))?.get_head(name),
        };
        match head {
            Ok((device, _)) => others.push(to_other(device, false)),
            // Deleted since the links were read.
            Err(Failure {
                errno: libc::ENODEV,
                ..
            }) => {}
            Err(failure) => {
                let error = failure.with_task(Task::access(name));
                unknown = Some(format!("`{name}' does not tell its fwmark: {error}"));
            }
        }
    }
    Ok((others, unknown))
}

fn to_other(device: Device, userspace: bool) -> Other {
    Other {
        name: device.name,
        mark: device.fwmark,
        port: device.listen_port,
        userspace,
    }
}

/// The devices in other namespaces, but for those whose sockets are there as well.
fn read_elsewhere(depth: Depth) -> Elsewhere {
    let (found, unknown) = namespaces::in_others(depth, devices_from_elsewhere);
    let mut elsewhere = Elsewhere {
        devices: Vec::new(),
        unknown,
    };
    for devices in found {
        match devices {
            Ok(devices) => elsewhere.devices.extend(devices),
            Err(why) => elsewhere.unknown = Some(why),
        }
    }
    elsewhere
}

/// Adds the sockets of programs that have a mark or port of our rules, and that no known device has: a
/// WireGuard program whose socket file is in another mount namespace lives on these rules. `port` is one
/// that the device itself has. Without socket diagnosis none are seen.
fn add_hidden_programs(facts: &mut Facts, port: u16) {
    let used = facts.rules.our_selectors();
    let sockets = diag::own_sockets(0, true).unwrap_or_default();
    let own = facts.support.userspace.then_some([port, facts.port]);
    let served = facts.others.iter().filter(|other| other.userspace);
    let known = served
        .map(|other| other.port)
        .chain(own.into_iter().flatten());
    let known: Vec<u16> = known.collect();
    let hidden = sockets.iter().filter(|one| !known.contains(&one.port));
    let hidden = hidden.map(|one| Other {
        name: HIDDEN.to_owned(),
        mark: one.mark,
        port: one.port,
        userspace: true,
    });
    let lives_on = |other: &Other| {
        let mut used = used.iter();
        used.any(|by| [Selector::Mark(other.mark), Selector::Port(other.port)].contains(by))
    };
    facts.elsewhere.devices.extend(hidden.filter(lives_on));
}

/// The devices of this namespace whose sockets may be in another.
fn devices_from_elsewhere() -> std::result::Result<Vec<Other>, String> {
    let unreadable = |failure: Failure| failure.with_task(Task::ListInterfaces).to_string();
    let mut routing =
        Routing::open().map_err(|err| Error::io(Task::ListInterfaces, &err).to_string())?;
    let links = routing.read_links().map_err(unreadable)?;
    let links: Vec<&Link> = links.iter().filter(|link| link.kind == KIND).collect();
    if links.is_empty() {
        return Ok(Vec::new());
    }
    let mut wireguard = Wireguard::open(Task::ListInterfaces).map_err(|error| error.to_string())?;
    let mut devices = Vec::new();
    for link in links {
        match wireguard.get_head(&link.name) {
            Ok((device, _)) => devices.push((link.up, to_other(device, false))),
            Err(Failure {
                errno: libc::ENODEV,
                ..
            }) => {}
            Err(failure) => return Err(unreadable(failure)),
        }
    }
    // At home is who is up and has a socket here. Another socket on the port must not pass for it.
    let is_home = |(up, device): &(bool, Other)| {
        let rivals = devices
            .iter()
            .filter(|(up, other)| *up && other.port == device.port);
        *up && routing::count_wildcard_sockets(device.port, Some(false))
            .is_some_and(|count| count >= rivals.count())
    };
    let away = devices.iter().filter(|device| !is_home(device));
    Ok(away.map(|(_, device)| device.clone()).collect())
}
