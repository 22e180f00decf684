// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! List, read and change devices: the kernel's and userspace ones.
//!
//! Three functions are the whole surface. A userspace socket wins over a kernel device of the
//! same name, as in the reference. What a binding takes is decided in `plan`; here the facts for
//! it are read, and what it says is done in order: add rules, change the device, remove rules.

mod kernel;
mod netlink;
mod routing;
mod userspace;

use crate::error::{Error, Result, Task};
use crate::model::{Bind, Change, Device, IFNAME_MAX, Update};
use crate::plan::{self, BindMode, Facts, Plan, Strategy, Support, Target};
use kernel::Wireguard;
use netlink::Failure;
use routing::{Lock, Routing};

use crate::wire::route::Link;

/// The link kind of the kernel's devices.
const KIND: &str = "wireguard";

/// The names of all WireGuard interfaces, the kernel's first.
pub fn list() -> Result<Vec<String>> {
    let mut routing = Routing::open().map_err(|err| Error::io(Task::ListInterfaces, &err))?;
    let links = routing
        .links()
        .map_err(|failure| failure.during(Task::ListInterfaces))?;
    Ok(names(&links))
}

/// Whether this kernel binds by `WGDEVICE_A_BIND_DEV`.
///
/// # Errors
/// There is no WireGuard in this kernel, or it did not answer.
pub fn binds_by_attribute() -> Result<bool> {
    Wireguard::open(Task::AskKernel)?.takes_bind_dev()
}

fn names(links: &[Link]) -> Vec<String> {
    let mut names: Vec<String> = links
        .iter()
        .filter(|link| link.kind == KIND)
        .map(|link| link.name.clone())
        .collect();
    names.extend(userspace::list());
    names
}

/// One device as it is now, with how it is bound.
pub fn get(interface: &str) -> Result<Device> {
    let (mut device, bind_dev) = if userspace::serves(interface) {
        (userspace::get(interface)?, None)
    } else if interface.len() > IFNAME_MAX {
        // Said by the reference before it asks the kernel.
        return Err(Error::os(Task::access(interface), libc::ENAMETOOLONG));
    } else {
        Wireguard::open(Task::access(interface))?.get(interface)?
    };
    device.bind = bind(&device, bind_dev);
    Ok(device)
}

/// How a device is bound. What cannot be read is not reported: `wg show` goes on.
fn bind(device: &Device, bind_dev: Option<String>) -> Bind {
    if let Some(dev) = bind_dev {
        let missing = crate::sys::if_index(&dev).is_none();
        return Bind::Kernel { dev, missing };
    }
    // Nobody without a mark pays for a look at the rules.
    if device.fwmark == 0 {
        return Bind::Off;
    }
    let Ok(mut routing) = Routing::open() else {
        return Bind::Off;
    };
    let binding = routing
        .rules()
        .ok()
        .and_then(|r| r.find_binding(device.fwmark));
    let Some(binding) = binding else {
        return Bind::Off;
    };
    let links = routing.links().unwrap_or_default();
    Bind::Fwmark {
        dev: links
            .into_iter()
            .find(|link| link.vrf_table.is_some() && link.vrf_table == binding.table)
            .map(|link| link.name),
        mark: binding.mark,
        table: binding.table.unwrap_or(0),
    }
}

/// What an update goes to.
enum Backend {
    Kernel(Wireguard),
    Userspace,
}

impl Backend {
    fn open(interface: &str) -> Result<Self> {
        if userspace::serves(interface) {
            Ok(Backend::Userspace)
        } else if interface.len() > IFNAME_MAX {
            // There cannot be such a device; the reference says so too.
            Err(Error::os(Task::modify(interface), libc::ENODEV))
        } else {
            Wireguard::open(Task::modify(interface)).map(Backend::Kernel)
        }
    }

    /// What can be had of a binding. The kernel is asked only where the update speaks of one.
    fn support(&mut self, update: &Update) -> Result<Support> {
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
        let device = match self {
            Backend::Kernel(wireguard) => wireguard
                .get_head(interface)
                .map_err(|failure| failure.during(Task::modify(interface)))?,
            Backend::Userspace => userspace::get(interface)?,
        };
        Ok((device.fwmark, device.listen_port))
    }

    fn send(&mut self, update: &Update) -> Result<()> {
        match self {
            Backend::Kernel(wireguard) => {
                for mut message in wireguard.encode(update) {
                    wireguard
                        .send(&mut message)
                        .map_err(|failure| refused(update, failure))?;
                }
                Ok(())
            }
            Backend::Userspace => userspace::set(update),
        }
    }
}

/// An error of a change, with the name it is about: the kernel gives ENODEV for a missing
/// interface and for a missing device to bind to.
fn refused(update: &Update, failure: Failure) -> Error {
    let interface = &update.interface;
    let about_binding = match failure.errno {
        libc::ENODEV => crate::sys::if_index(interface).is_some(),
        libc::ELOOP | libc::EADDRINUSE => true,
        _ => false,
    };
    match &update.bind_dev {
        Change::Set(dev) if about_binding => failure.during(Task::Bind {
            interface: interface.clone(),
            dev: dev.clone(),
        }),
        _ => failure.during(Task::modify(interface)),
    }
}

/// Applies `update`. Each line that the user should read goes through `note`, without a newline.
pub fn set(update: Update, mode: BindMode, note: &mut dyn FnMut(&str)) -> Result<()> {
    let mut backend = Backend::open(&update.interface)?;
    // Those who neither bind nor mark do not pay for either.
    if update.bind_dev.is_keep() && update.fwmark.is_keep() {
        return backend.send(&update);
    }
    let support = backend.support(&update)?;
    let strategy = Strategy::choose(support, &update, mode)?;
    let ours = match has_our_rules(&update.interface) {
        Ok(ours) => ours,
        // Only the mark changes, and whether rules go with it cannot be seen: the reference does
        // not look either. An update that speaks of a binding gets the error.
        Err(_) if strategy == Strategy::Keep => false,
        Err(error) => return Err(error),
    };
    if !ours && !matches!(strategy, Strategy::Fallback { .. }) {
        // No rule is there and none will be: nothing else has to be known.
        let facts = Facts {
            support,
            ..Facts::default()
        };
        return backend.send(&plan::plan(&facts, update, &strategy)?.update);
    }

    let _lock = Lock::take(note);
    let mut routing =
        Routing::open().map_err(|err| Error::io(Task::modify(&update.interface), &err))?;
    let facts = read_facts(&mut backend, &mut routing, &update, support)?;
    let mut plan = plan::plan(&facts, update, &strategy)?;
    if !plan.remove.is_empty() {
        // A device that was made here and then moved may live on them.
        plan.spare_rules(&marks_elsewhere());
    }
    carry_out(&mut backend, &mut routing, &facts, &plan, note)?;
    for line in &plan.notes {
        note(line);
    }
    Ok(())
}

/// Whether a rule of the fallback is there, be it of this device or of another.
fn has_our_rules(interface: &str) -> Result<bool> {
    let mut routing = Routing::open().map_err(|err| Error::io(Task::modify(interface), &err))?;
    let rules = routing
        .rules()
        .map_err(|failure| failure.during(Task::modify(interface)))?;
    Ok(rules.ours().next().is_some())
}

/// Adds rules, changes the device, removes rules. What fails is undone.
fn carry_out(
    backend: &mut Backend,
    routing: &mut Routing,
    facts: &Facts,
    plan: &Plan,
    note: &mut dyn FnMut(&str),
) -> Result<()> {
    let interface = &plan.update.interface;
    let added = routing.add(&plan.add)?;
    if let Err(error) = backend.send(&plan.update) {
        // A device that has the new mark already must not be left without the rules: the mark
        // goes back first, and if that fails the rules stay.
        if set_mark_back(backend, interface, facts.mark) {
            if let Err(stuck) = routing.remove(&added) {
                note(&stuck.to_string());
            }
        } else {
            note(&format!(
                "{interface}: the policy rules stay, because its fwmark could not be set back"
            ));
        }
        return Err(error);
    }
    routing.remove(&plan.remove)
}

/// After a change that failed half way: a stock kernel takes the mark before it looks at the
/// port, and peers come in messages of their own. Says whether the device has its old mark.
fn set_mark_back(backend: &mut Backend, interface: &str, mark: u32) -> bool {
    match backend.mark_and_port(interface) {
        Ok((now, _)) if now == mark => return true,
        Ok(_) => {}
        // A device that is gone sends nothing.
        Err(Error::Os { errno, .. }) => return errno == libc::ENODEV,
        Err(_) => return false,
    }
    let restore = Update {
        interface: interface.to_owned(),
        fwmark: Change::Set(mark),
        ..Update::default()
    };
    backend.send(&restore).is_ok()
}

/// Reads all that `plan` decides by.
fn read_facts(
    backend: &mut Backend,
    routing: &mut Routing,
    update: &Update,
    support: Support,
) -> Result<Facts> {
    let interface = update.interface.as_str();
    let unreadable = |failure: Failure| failure.during(Task::modify(interface));
    let (mark, port) = backend.mark_and_port(interface)?;
    let links = routing.links().map_err(unreadable)?;
    let rules = routing.rules().map_err(unreadable)?;
    let target = match &update.bind_dev {
        Change::Set(name) => target(&links, name),
        Change::Keep | Change::Clear => Target::None,
    };
    let others = others(backend, &links, interface)?;
    let up = links.iter().any(|link| link.name == interface && link.up);
    Ok(Facts {
        support,
        mark,
        target,
        vrfs: links
            .iter()
            .filter_map(|link| Some((link.name.clone(), link.vrf_table?)))
            .collect(),
        others,
        // Only a device that is up has sockets to look for.
        sockets_here: if up && port != 0 {
            routing::has_udp_port(port)
        } else {
            None
        },
        wg_quick: has_default_route(update) && called_by_wg_quick(),
        l3mdev_accept: routing::l3mdev_accept(),
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

fn target(links: &[Link], name: &str) -> Target {
    match links.iter().find(|link| link.name == name) {
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

/// Every other device here, with its mark.
fn others(backend: &mut Backend, links: &[Link], interface: &str) -> Result<Vec<(String, u32)>> {
    let mut others = Vec::new();
    let served = userspace::list();
    for name in served.iter().filter(|name| *name != interface) {
        let device = userspace::get(name).map_err(|error| unknown_mark(name, error))?;
        others.push((name.clone(), device.fwmark));
    }
    let kernel = links.iter().filter(|link| link.kind == KIND);
    for Link { name, .. } in kernel {
        if name == interface || served.contains(name) {
            continue;
        }
        let head = match backend {
            Backend::Kernel(wireguard) => wireguard.get_head(name),
            Backend::Userspace => Wireguard::open(Task::modify(interface))?.get_head(name),
        };
        match head {
            Ok(device) => others.push((name.clone(), device.fwmark)),
            // Deleted since the links were read.
            Err(Failure {
                errno: libc::ENODEV,
                ..
            }) => {}
            Err(failure) => {
                let error = failure.during(Task::modify(interface));
                return Err(unknown_mark(name, error));
            }
        }
    }
    Ok(others)
}

/// Without another device's mark it cannot be told which rules that device needs.
fn unknown_mark(name: &str, error: Error) -> Error {
    error.with_task(Task::Other(format!("Cannot ask `{name}' for its fwmark")))
}

/// The marks of devices in other namespaces, but for those whose sockets are there as well.
fn marks_elsewhere() -> Vec<u32> {
    routing::in_other_namespaces(|| -> Vec<u32> {
        let links = Routing::open()
            .ok()
            .and_then(|mut routing| routing.links().ok())
            .unwrap_or_default();
        let Ok(wireguard) = Wireguard::open(Task::ListInterfaces) else {
            return Vec::new();
        };
        links
            .iter()
            .filter(|link| link.kind == KIND)
            .filter_map(|link| {
                let device = wireguard.get_head(&link.name).ok()?;
                let at_home = link.up && routing::has_udp_port(device.listen_port) == Some(true);
                (!at_home).then_some(device.fwmark)
            })
            .collect()
    })
    .concat()
}
