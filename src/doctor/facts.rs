// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What was read before anything is judged. The backend fills it in.

use std::path::PathBuf;

use crate::model::{Device, HookEntry, UdpSocket};
use crate::plan::rules::Rules;
use crate::plan::scope::Place;
use crate::wire::route::Link;
use crate::wire::underlay::{Address, Carrier, Route};

/// A fact, or why it could not be read.
pub type Seen<T> = std::result::Result<T, String>;

/// The route that a packet takes, or the positive errno of the kernel's refusal.
pub type Answer = std::result::Result<Route, i32>;

/// All that is known of this network namespace.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Whether the kernel takes `WGDEVICE_A_BIND_DEV`.
    pub attribute: Seen<bool>,
    pub nics: Vec<Nic>,
    pub addresses: Seen<Vec<Address>>,
    pub rules: Seen<Rules>,
    /// All UDP sockets.
    pub sockets: Seen<Vec<UdpSocket>>,
    pub hooks: HookState,
    /// `net.ipv4.udp_l3mdev_accept`
    pub l3mdev_accept: Seen<bool>,
    /// `net.ipv4.conf.all.rp_filter`; it and the value of a link count, whichever is larger.
    pub rp_filter: Seen<u8>,
    /// A UDP port that nobody has.
    pub free_port: Option<u16>,
    /// Looked at only where a device is bound.
    pub filter: Seen<Filter>,
    pub devices: Vec<Tunnel>,
    /// Devices that could not be read, and why.
    pub unread: Vec<(String, String)>,
    pub modules: Modules,
    pub wg_quick: Option<WgQuick>,
}

impl Facts {
    pub fn nic(&self, index: u32) -> Option<&Nic> {
        self.nics.iter().find(|nic| nic.link.index == index)
    }

    pub fn nic_called(&self, name: &str) -> Option<&Nic> {
        self.nics.iter().find(|nic| nic.link.is_called(name))
    }

    /// The name that the kernel gives a device which has this one, too.
    pub fn real_name<'a>(&'a self, name: &'a str) -> &'a str {
        find_real_name(self.nics.iter().map(|nic| &nic.link), name)
    }

    pub fn vrf_of_table(&self, table: u32) -> Option<&Nic> {
        self.nics
            .iter()
            .find(|nic| nic.link.vrf_table == Some(table))
    }

    /// The table of a VRF, or of the VRF that a link is in.
    pub fn find_table(&self, nic: &Nic) -> Option<u32> {
        let of_master = || self.nic(nic.carrier.master?)?.link.vrf_table;
        nic.link.vrf_table.or_else(of_master)
    }

    /// The links that belong to this one.
    pub fn members(&self, index: u32) -> impl Iterator<Item = &Nic> {
        self.nics
            .iter()
            .filter(move |nic| nic.carrier.master == Some(index))
    }

    /// The addresses of a link that are good beyond it, in the order of the kernel.
    pub fn global_addresses(&self, link: u32, v4: bool) -> impl Iterator<Item = &Address> {
        self.addresses
            .iter()
            .flatten()
            .filter(move |one| one.link == link && one.global && one.ip.is_ipv4() == v4)
    }
}

/// The name of the link that is called so, by its name or another one; else the word itself.
pub fn find_real_name<'a>(links: impl Iterator<Item = &'a Link>, name: &'a str) -> &'a str {
    let mut links = links.filter(|link| link.is_called(name));
    links.next().map_or(name, |link| &link.name)
}

/// What the index behind an address stands for.
pub fn find_place(nics: &[Nic], index: u32) -> Option<Place<'_>> {
    let find = |index| nics.iter().find(|nic| nic.link.index == index);
    let nic = find(index)?;
    if nic.link.vrf_table.is_some() {
        return Some(Place::Vrf);
    }
    let master = nic.carrier.master.and_then(find).map(|nic| &nic.link);
    Some(match master.and_then(|vrf| Some((vrf, vrf.vrf_table?))) {
        Some((vrf, table)) => Place::Member {
            nic: &nic.link.name,
            vrf: &vrf.name,
            table,
        },
        None => Place::Free {
            nic: &nic.link.name,
        },
    })
}

/// A network device.
#[derive(Clone, Debug)]
pub struct Nic {
    pub link: Link,
    pub carrier: Carrier,
    /// `net.ipv4.conf.NAME.rp_filter`
    pub rp_filter: u8,
}

/// The bind hooks of the cgroup root.
#[derive(Clone, Debug)]
pub struct HookState {
    /// The entries of this namespace. Empty where the kernel has no such hooks.
    pub entries: Seen<Vec<(u16, HookEntry)>>,
    /// The ports of entries whose device is gone.
    pub stale: Vec<u16>,
    /// Why the sockets of a device without an entry cannot be bound there; `None`: they can, or nobody
    /// asked.
    pub unable: Option<String>,
    /// As `unable`, of a device that has an entry and did not inherit it: whoever made that accepted
    /// that the sockets of programs on the port are bound as well.
    pub unable_again: Option<String>,
}

/// A WireGuard device.
#[derive(Clone, Debug)]
pub struct Tunnel {
    /// As its backend reported it; `bind` and `receives` are not looked at.
    pub device: Device,
    /// What the kernel's attribute says; empty where it says nothing.
    pub attribute: String,
    /// Its sockets are in another network namespace; `None`: another device has its port, and there
    /// are fewer sockets than devices, so nothing tells whose they are.
    pub elsewhere: Option<bool>,
}

/// Packet filters of this namespace.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// `nft -a list ruleset`
    pub nft: String,
    /// The output of `iptables-legacy-save -t filter` and of its IPv6 twin, by the name of the
    /// program that changes the rules.
    pub legacy: Vec<(&'static str, String)>,
}

/// Modules of WireGuard on the disk.
#[derive(Clone, Debug, Default)]
pub struct Modules {
    /// The running kernel.
    pub release: String,
    /// The release of a kernel, and whether its module has the attribute.
    pub files: Vec<(String, bool)>,
}

/// Which kernel's module has the attribute that the loaded one has not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gap<'a> {
    NotLoaded,
    OtherKernel(&'a str),
}

impl Modules {
    /// `None`: no module on the disk has the attribute.
    pub fn find_gap(&self) -> Option<Gap<'_>> {
        let mut with = self.files.iter().filter(|(_, has)| *has);
        let (first, _) = with.clone().next()?;
        Some(match with.any(|(release, _)| *release == self.release) {
            true => Gap::NotLoaded,
            false => Gap::OtherKernel(first),
        })
    }

    /// What is said of a device that is bound without the attribute though a module has it.
    pub fn explain_fallback(&self, interface: &str) -> Option<String> {
        let running = &self.release;
        let (module, remedy) = match self.find_gap()? {
            Gap::NotLoaded => ("here, but not loaded".to_owned(), "Reboot".to_owned()),
            Gap::OtherKernel(other) => (
                format!("for kernel {other}, and not for the running {running}"),
                format!("Install the module for {running} and reboot"),
            ),
        };
        Some(format!(
            "Warning: a wireguard module with WGDEVICE_A_BIND_DEV is {module}. Policy rules bind \
             {interface} instead, which is weaker: other programs can change them. {remedy}"
        ))
    }
}

/// The `wg-quick` of `PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WgQuick {
    pub script: PathBuf,
    /// The `wg` that it runs.
    pub runs: PathBuf,
    /// This program.
    pub this: PathBuf,
    /// They are one file.
    pub same: bool,
    /// The system keeps files that a package must not overwrite (dpkg-divert).
    pub diverts: bool,
}
