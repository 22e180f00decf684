// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What is wrong with the binding of a device, and what mends it.
//!
//! Pure: facts go in, a [`Report`] comes out. Only the route of a packet is asked while judging,
//! through a function, since the kernel alone knows it.

pub mod codes;
mod device;
pub mod facts;
mod filter;
mod host;
#[cfg(test)]
mod tests;

use crate::model::Selector;
use crate::wire::underlay::Packet;
use codes::Code;
use facts::{Answer, Facts, Nic};

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Packets are lost, leave or arrive where they should not, or will.
    Problem,
    /// It may be meant, or this kernel cannot do better.
    Note,
    /// Nothing can be said about it.
    Unseen,
}

/// What helps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Commands of a shell, in order. Words in capitals are to be filled in.
    Run(Vec<String>),
    /// No command does it.
    Do(String),
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub code: Code,
    pub level: Level,
    /// The WireGuard device; `None`: the host.
    pub device: Option<String>,
    /// One sentence without a full stop.
    pub text: String,
    pub remedy: Remedy,
}

/// How a device is bound for sending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sends {
    /// The policy rules cannot be read.
    Unknown,
    Unbound,
    /// By the kernel's attribute.
    Attribute {
        dev: String,
    },
    /// By policy rules.
    Rules {
        by: Selector,
        /// `None`: only the closing rule is left.
        table: Option<u32>,
        /// `wg` made them; else they are the administrator's.
        ours: bool,
    },
}

/// What the sockets of a bound device receive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gets {
    /// What arrives by the device, by the kernel's attribute.
    BoundByKernel,
    /// What arrives by the device: a program at the bind hooks has bound the sockets.
    BoundByHook,
    Everywhere,
    /// Everywhere but in a VRF.
    DefaultVrfOnly,
    Nothing,
    /// A program has taken the binding of a socket away, or of both: such a one gets nothing.
    Lost,
    /// What arrives at these devices, and nothing of its own.
    Other(Vec<String>),
    /// The link is down and has no sockets.
    Down,
    Unknown,
    /// Other sockets are on its port, and nothing tells which are its own.
    Unclear,
}

/// The device that carries a tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Underlay {
    pub name: String,
    /// The routing table of a VRF.
    pub table: Option<u32>,
    pub exists: bool,
    pub up: bool,
    /// The names of what is in the VRF.
    pub members: Vec<String>,
}

/// Where packets to an endpoint go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    /// Its address.
    pub endpoint: std::net::IpAddr,
    /// `None`: nowhere.
    pub out: Option<String>,
    pub table: Option<u32>,
    pub source: Option<std::net::IpAddr>,
}

/// How one device is bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    pub name: String,
    pub sends: Sends,
    /// `None`: not bound.
    pub gets: Option<Gets>,
    pub underlay: Option<Underlay>,
    /// Nothing leaves elsewhere, also when the device has no route; `None`: not bound, or not known.
    pub closed: Option<bool>,
    /// Its sockets are in another network namespace.
    pub elsewhere: bool,
    pub reach: Vec<Reach>,
}

/// All that is to be said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub devices: Vec<Summary>,
    pub findings: Vec<Finding>,
}

impl Report {
    /// The exit code: 1 for a problem, else 2 where something could not be looked at, else 0.
    pub fn exit_code(&self) -> u8 {
        let has = |level| self.findings.iter().any(|finding| finding.level == level);
        if has(Level::Problem) {
            1
        } else if has(Level::Unseen) {
            2
        } else {
            0
        }
    }

    fn add(&mut self, code: Code, device: Option<&str>, text: String, remedy: Remedy) {
        let level = match code {
            Code::LeakedRoute | Code::ReplySource => Level::Note,
            Code::NotLookedAt => Level::Unseen,
            _ => Level::Problem,
        };
        self.findings.push(Finding {
            code,
            level,
            device: device.map(str::to_owned),
            text,
            remedy,
        });
    }

    /// Something that the reader must not take for well.
    fn unseen(&mut self, device: Option<&str>, what: &str, why: &str, remedy: &str) {
        self.add(
            Code::NotLookedAt,
            device,
            format!("not looked at: {what} ({why})"),
            Remedy::Do(remedy.to_owned()),
        );
    }
}

/// Judges the facts. With `only`, what concerns the device of that name and the host.
pub fn examine(
    facts: &Facts,
    only: Option<&str>,
    ask: &mut dyn FnMut(&Packet) -> Answer,
) -> Report {
    let mut report = Report::default();
    let views: Vec<device::View> = facts
        .devices
        .iter()
        .map(|tunnel| device::View::new(facts, tunnel))
        .collect();
    let only = only.map(|only| facts.real_name(only));
    let is_meant = |name: &str| only.is_none_or(|only| only == name);
    for (name, why) in &facts.unread {
        if is_meant(name) {
            report.unseen(Some(name), "the device", why, NEEDS_ROOT);
        }
    }
    for view in views.iter().filter(|view| is_meant(view.name())) {
        let summary = view.examine(&mut report, ask);
        report.devices.push(summary);
    }
    if let Some(only) = only.filter(|_| report.devices.is_empty() && report.findings.is_empty()) {
        report.unseen(
            Some(only),
            "the device",
            "there is none",
            "`wg show interfaces' lists them",
        );
    }
    host::examine(facts, &views, &mut report);
    report
}

const NEEDS_ROOT: &str = "run it as root, in the first user namespace";

fn run(command: String) -> Remedy {
    Remedy::Run(vec![command])
}

fn advise(words: &str) -> Remedy {
    Remedy::Do(words.to_owned())
}

/// A name as a word of a shell.
fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_.:/@%+=-".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// The name of a sysctl of a link: there a dot in the name of the link is a slash.
fn link_sysctl(nic: &Nic, setting: &str) -> String {
    let name = nic.link.name.replace('.', "/");
    quote(&format!("net.ipv4.conf.{name}.{setting}"))
}

/// "a", "a and b", "a, b and 3 more"
fn list(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [one] => one.clone(),
        [one, two] => format!("{one} and {two}"),
        [one, two, three] => format!("{one}, {two} and {three}"),
        [one, two, rest @ ..] => format!("{one}, {two} and {} more", rest.len()),
    }
}
