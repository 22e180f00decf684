// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What `set` does to a kernel, and what it leaves behind when that kernel refuses.

use std::cell::RefCell;
use std::mem;
use std::net::SocketAddrV6;
use std::rc::Rc;

use neli::consts::socket::NlFamily;

use super::scripted::{DONE, Datagrams, ERROR, ScriptedHooks, ScriptedKernel, done, frame, with};
use super::*;
use crate::key::PublicKey;
use crate::model::{Action, Family, PeerUpdate, Rule, Selector};
use crate::plan::receive::CLOSED_MARK;
use crate::wire::nlmsg::{attributes_of, u16_at, u32_at};

const WIREGUARD: u16 = 0x1c;
const RTM_GETLINK: u16 = 18;
const RTM_NEWRULE: u16 = 32;
const RTM_DELRULE: u16 = 33;
const RTM_GETRULE: u16 = 34;
/// linux/sock_diag.h
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const BUSY: i32 = libc::EBUSY;

/// A stock kernel with wg0 and the VRF `red`, and the errors it gives.
#[derive(Default)]
struct State {
    mark: u32,
    port: u16,
    /// wg0 is down.
    down: bool,
    /// Its sockets are in another namespace.
    away: bool,
    /// Attribute 9 of wg0.
    nine: Option<Vec<u8>>,
    /// It binds by attribute 9.
    patched: bool,
    /// The index of what the sockets of wg0 are bound to.
    bound_to: u32,
    inode: u32,
    /// The devices and the inodes of other sockets on its port.
    beside: Vec<(u32, u32)>,
    /// The ports, devices and inodes of sockets on other ports.
    on_other_ports: Vec<(u16, u32, u32)>,
    /// The inode of the sockets that a process has.
    process: Option<u32>,
    /// The VRF `red` is gone.
    no_red: bool,
    /// The VRF `blue` has the table of `red`.
    one_table: bool,
    /// Index, name, mark and port of other devices.
    others: Vec<(i32, &'static str, u32, u16)>,
    others_up: bool,
    /// They are those of programs.
    others_are_tuns: bool,
    hooks: Rc<RefCell<ScriptedHooks>>,
    family_errno: i32,
    /// `struct fib_rule_hdr` and attributes.
    rules: Vec<Vec<u8>>,
    /// SET_DEVICE takes the mark and then fails, so often.
    set_fails: u32,
    /// As the kernel has it; `BUSY` where it is 0.
    set_errno: i32,
    /// SET_DEVICE says only this from the second time on.
    set_back_fails: bool,
    /// SET_DEVICE says this, and so does whoever asks for wg0 after it.
    lost_errno: i32,
    sets: u32,
    /// How many rules of ours there were at each SET_DEVICE.
    ours_at_set: Vec<usize>,
    /// Whether it was told a mark.
    mark_at_set: Vec<bool>,
    /// Its mark, and the tables that rules lead that to, once it had been told of peers or a key.
    told_of_peers: Vec<(u32, Vec<u32>)>,
    policy_errno: i32,
    rules_errno: i32,
    /// Socket diagnosis says only this.
    diag_errno: i32,
    /// The kernel refuses the n-th new rule.
    refused_rule: Option<usize>,
    /// It takes the rule that it says it refuses.
    takes_refused: bool,
    new_rules: usize,
    /// No rule can be removed.
    stuck: bool,
    /// The next rule cannot be removed.
    stuck_once: bool,
    /// After so many changes none is taken any more: the command was killed.
    lives: Option<usize>,
    /// It was killed before it could tell the hooks what comes after the last change.
    hooks_die_first: bool,
    /// It does not take the closed mark.
    refuses_closed: bool,
    /// It takes the rest, and says this of peers.
    peers_errno: i32,
    /// The hooks cannot be changed while wg0 has the closed mark.
    silent_when_closed: bool,
    /// Nor once wg0 was told something.
    silent_after_set: bool,
    /// The port that it chooses.
    chosen: u16,
    /// After so many requests wg0 is set up by somebody else.
    comes_up: Option<usize>,
    /// The keys, addresses and scopes of wg0's peers. Where there are any, `red0` (12) is in `red` and
    /// `blue0` (11) in `blue`.
    peers: Vec<(u8, &'static str, u32)>,
    /// How often rules were asked for.
    asked_rules: usize,
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).expect("short");
    let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn link(index: i32, name: &str, up: bool, kind: &str, table: Option<u32>) -> Vec<u8> {
    let mut bytes = vec![0; 16];
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes[8..12].copy_from_slice(&u32::from(up).to_ne_bytes());
    bytes.extend(attribute(3, format!("{name}\0").as_bytes()));
    let mut info = attribute(1, format!("{kind}\0").as_bytes());
    if let Some(table) = table {
        info.extend(attribute(2, &attribute(1, &table.to_ne_bytes())));
    }
    bytes.extend(attribute(18, &info));
    bytes
}

/// The rules of every namespace, with the one that sends bound sockets to their VRF.
fn rule(family: u8, pref: u32, table: u32, l3mdev: bool) -> Vec<u8> {
    let mut bytes = vec![family, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0];
    bytes.extend(attribute(6, &pref.to_ne_bytes()));
    bytes.extend(attribute(15, &table.to_ne_bytes()));
    bytes.extend(attribute(14, &[0xff; 4]));
    bytes.extend(attribute(21, &[2]));
    if l3mdev {
        bytes.extend(attribute(19, &[1]));
    }
    bytes
}

/// The VRFs of [`State`].
fn index_of(name: &[u8]) -> u32 {
    match name.split(|byte| *byte == 0).next() {
        Some(b"red" | b"crimson") => 8,
        Some(b"blue") => 9,
        _ => 0,
    }
}

/// `FRA_PRIORITY`
fn priority(rule: &[u8]) -> u32 {
    let mut found = attributes_of(&rule[12..]).filter(|nla| nla.kind() == 6);
    found.next().map_or(0, |nla| u32_at(nla.value(), 0))
}

impl State {
    fn new() -> Self {
        let rules = [2u8, 10].into_iter().flat_map(|family| {
            [
                rule(family, 0, 255, false),
                rule(family, 1000, 0, true),
                rule(family, 32766, 254, false),
            ]
        });
        State {
            rules: rules.collect(),
            ..State::default()
        }
    }

    fn ours(&self, family: u8) -> usize {
        self.rules.iter().filter(|rule| rule[0] == family).count() - 3
    }

    /// The tables of the IPv4 lookups for a mark, the first one first.
    fn led_to(&self, mark: u32) -> Vec<u32> {
        let value = |rule: &[u8], kind: u16| {
            let mut found = attributes_of(&rule[12..]).filter(|nla| nla.kind() == kind);
            found.next().map(|nla| u32_at(nla.value(), 0))
        };
        let of_mark = |rule: &&Vec<u8>| rule[0] == 2 && value(rule, 10) == Some(mark);
        let rules = self.rules.iter().filter(of_mark);
        rules.filter_map(|rule| value(rule, 15)).collect()
    }

    /// Whether a rule `unreachable` of IPv4 is for a mark.
    fn is_stopped(&self, mark: u32) -> bool {
        let mut rules = self.rules.iter();
        // FR_ACT_UNREACHABLE
        rules.any(|rule| {
            let mut marks = attributes_of(&rule[12..]).filter(|nla| nla.kind() == 10);
            rule[0] == 2 && rule[7] == 7 && marks.any(|nla| u32_at(nla.value(), 0) == mark)
        })
    }

    /// The kernel makes sockets when the port changes; 0 lets it choose one.
    fn open_sockets(&mut self, port: u16) {
        if self.down || port == self.port {
            self.port = port;
            return;
        }
        self.port = match (port, self.chosen) {
            (0, 0) => 40000,
            (0, chosen) => chosen,
            (port, _) => port,
        };
        self.bound_to = 0;
        self.bind_by_hooks();
    }

    fn bind_by_hooks(&mut self) {
        if let Some(entry) = self.hooks.borrow().entries.get(&self.port) {
            self.bound_to = match entry.vrf.as_str() {
                "" if !entry.leaving => u32::MAX,
                vrf => index_of(vrf.as_bytes()),
            };
        }
    }

    fn answer(&mut self, family: NlFamily, request: &[u8]) -> Datagrams {
        let kind = u16_at(request, 4);
        let sequence = u32_at(request, 8);
        let payload = &request[16..];
        let said = |kind: u16, payload: &[u8]| frame(kind, 0, sequence, payload);
        let ack = |errno: i32| said(ERROR, &done(errno));
        let dump = |messages: Vec<Vec<u8>>, errno: i32| {
            let mut bytes: Vec<u8> = messages.iter().flat_map(|m| said(0x7f, m)).collect();
            bytes.extend(said(DONE, &done(errno)));
            bytes
        };
        match &mut self.comes_up {
            Some(0) => {
                (self.comes_up, self.down, self.bound_to) = (None, false, 0);
                self.bind_by_hooks();
            }
            Some(left) => *left -= 1,
            None => {}
        }
        let generic = family == NlFamily::Generic;
        let is_change = match generic {
            true => kind == WIREGUARD && payload[0] == 1,
            false => [RTM_NEWRULE, RTM_DELRULE].contains(&kind),
        };
        match &mut self.lives {
            Some(0) if is_change => {
                self.hooks.borrow_mut().unavailable = Some(bpf::Unavailable::Busy);
                return vec![(0, ack(libc::EINTR))];
            }
            Some(left) if is_change => {
                *left -= 1;
                if *left == 0 && self.hooks_die_first {
                    self.hooks.borrow_mut().unavailable = Some(bpf::Unavailable::Busy);
                }
            }
            _ => {}
        }
        let bytes = match (generic, kind, payload[0]) {
            (true, 0x10, 3) if self.family_errno != 0 => ack(self.family_errno),
            (true, 0x10, 3) => {
                let id = attribute(1, &WIREGUARD.to_ne_bytes());
                let found = said(0x10, &[&[1, 2, 0, 0][..], &id].concat());
                [found, ack(0)].concat()
            }
            (true, 0x10, _) if self.patched => {
                // { policy 0: { attribute 9: { type: NUL_STRING } } }
                let row = attribute(9, &attribute(1, &12u32.to_ne_bytes()));
                let policy = attribute(8, &attribute(0, &row));
                dump(vec![[&[10, 2, 0, 0][..], &policy].concat()], 0)
            }
            (true, 0x10, _) => dump(vec![], self.policy_errno),
            (true, WIREGUARD, 0) if self.sets > 0 && self.lost_errno != 0 => {
                dump(vec![], self.lost_errno)
            }
            (true, WIREGUARD, 1) if self.lost_errno != 0 => {
                self.sets += 1;
                ack(self.lost_errno)
            }
            (true, WIREGUARD, 0) => {
                let mut asked = attributes_of(&payload[4..]).filter(|nla| nla.kind() == 2);
                let asked = asked.next().map(|nla| nla.value().to_vec());
                let is_asked = |name: &str| asked == Some(format!("{name}\0").into_bytes());
                let mut others = self.others.iter();
                let other = others.find(|(_, name, ..)| is_asked(name));
                let (mark, port) =
                    other.map_or((self.mark, self.port), |(_, _, mark, port)| (*mark, *port));
                let name = other.map_or("wg0", |(_, name, ..)| name);
                let mut device = vec![0, 1, 0, 0];
                device.extend(attribute(2, format!("{name}\0").as_bytes()));
                device.extend(attribute(6, &port.to_ne_bytes()));
                device.extend(attribute(7, &mark.to_ne_bytes()));
                let nine = self.nine.iter().filter(|_| other.is_none());
                device.extend(nine.flat_map(|name| attribute(9, name)));
                let peers = self.peers.iter().filter(|_| other.is_none());
                let peers = peers.flat_map(|(key, ip, scope)| {
                    let ip: std::net::Ipv6Addr = ip.parse().unwrap();
                    // struct sockaddr_in6
                    let mut endpoint = vec![10, 0, 0xca, 0x6c, 0, 0, 0, 0];
                    endpoint.extend(ip.octets());
                    endpoint.extend(scope.to_ne_bytes());
                    attribute(
                        0,
                        &[attribute(1, &[*key; 32]), attribute(4, &endpoint)].concat(),
                    )
                });
                let peers: Vec<u8> = peers.collect();
                if !peers.is_empty() {
                    device.extend(attribute(8, &peers));
                }
                dump(vec![device], 0)
            }
            (true, WIREGUARD, _) => {
                self.sets += 1;
                self.ours_at_set.push(self.ours(2) + self.ours(10));
                let mut marks = attributes_of(&payload[4..])
                    .filter(|nla| nla.kind() == 7)
                    .map(|nla| u32_at(nla.value(), 0));
                let mark = marks.next();
                self.mark_at_set.push(mark.is_some());
                let closes = mark == Some(CLOSED_MARK);
                if closes && self.silent_when_closed || self.silent_after_set {
                    self.hooks.borrow_mut().unavailable = Some(bpf::Unavailable::Busy);
                }
                if self.set_back_fails && self.sets > 1 || self.refuses_closed && closes {
                    ack(BUSY)
                } else {
                    for nla in attributes_of(&payload[4..]) {
                        match nla.kind() {
                            6 => self.open_sockets(u16_at(nla.value(), 0)),
                            7 => self.mark = u32_at(nla.value(), 0),
                            9 if self.patched => {
                                self.nine = Some(nla.value().to_vec());
                                self.bound_to = index_of(nla.value());
                                if self.bound_to == 0 {
                                    self.bind_by_hooks();
                                }
                            }
                            _ => {}
                        }
                    }
                    let mut attributes = attributes_of(&payload[4..]);
                    if attributes.any(|nla| [3, 8].contains(&nla.kind())) {
                        self.told_of_peers.push((self.mark, self.led_to(self.mark)));
                    }
                    let has_peers = attributes_of(&payload[4..]).any(|nla| nla.kind() == 8);
                    ack(match self.sets <= self.set_fails {
                        _ if has_peers && self.peers_errno != 0 => self.peers_errno,
                        true if self.set_errno == 0 => BUSY,
                        true => self.set_errno,
                        false => 0,
                    })
                }
            }
            (false, SOCK_DIAG_BY_FAMILY, _) if self.diag_errno != 0 => ack(self.diag_errno),
            (false, SOCK_DIAG_BY_FAMILY, of) => {
                let socket = |(port, device, inode): (u16, u32, u32)| {
                    let mut socket = vec![0; 72];
                    socket[0] = of;
                    socket[4..6].copy_from_slice(&port.to_be_bytes());
                    socket[40..44].copy_from_slice(&device.to_ne_bytes());
                    socket[68..72].copy_from_slice(&inode.to_ne_bytes());
                    // SK_MEMINFO_SNDBUF, for the module as set_sock_opts() has it.
                    let is_process = self.process == Some(inode);
                    let sndbuf: u32 = if is_process { 212_992 } else { 0x7fff_ffff };
                    let memory = [0, 0, 0, sndbuf, 0, 0, 0, 0, 0].map(u32::to_ne_bytes);
                    socket.extend(attribute(7, &memory.concat()));
                    socket
                };
                let own = (!self.down && !self.away).then_some((self.bound_to, self.inode));
                let on_its_port = own.into_iter().chain(self.beside.iter().copied());
                let all = on_its_port
                    .map(|(device, inode)| (self.port, device, inode))
                    .chain(self.on_other_ports.iter().copied());
                let asked = u16::from_be_bytes([payload[8], payload[9]]);
                let all = all.filter(|(port, ..)| [0, *port].contains(&asked));
                dump(all.map(socket).collect(), 0)
            }
            (false, RTM_GETLINK, _) => {
                let table_of_blue = if self.one_table { 100 } else { 200 };
                let mut links = vec![
                    link(7, "wg0", !self.down, "wireguard", None),
                    link(8, "red", true, "vrf", Some(100)),
                    link(9, "blue", true, "vrf", Some(table_of_blue)),
                ];
                // { IFLA_PROP_LIST: { IFLA_ALT_IFNAME } }
                links[1].extend(attribute(52, &attribute(53, b"crimson\0")));
                links.retain(|link| !self.no_red || link[4] != 8);
                let slave = |index, name, master: u32| {
                    let link = link(index, name, true, "", None);
                    [link, attribute(10, &master.to_ne_bytes())].concat()
                };
                if !self.peers.is_empty() {
                    links.extend([slave(11, "blue0", 9), slave(12, "red0", 8)]);
                }
                let others = self.others.iter();
                let kind = if self.others_are_tuns {
                    "tun"
                } else {
                    "wireguard"
                };
                links
                    .extend(others.map(|other| link(other.0, other.1, self.others_up, kind, None)));
                dump(links, 0)
            }
            (false, RTM_GETRULE, of) => {
                self.asked_rules += 1;
                let rules = self.rules.iter().filter(|rule| rule[0] == of);
                dump(rules.cloned().collect(), self.rules_errno)
            }
            (false, RTM_NEWRULE, _) => {
                self.new_rules += 1;
                let refused = self.refused_rule == Some(self.new_rules);
                if !refused || self.takes_refused {
                    // Behind all of the same priority and family.
                    let behind = |rule: &Vec<u8>| {
                        rule[0] == payload[0] && priority(rule) > priority(payload)
                    };
                    let at = self.rules.iter().position(behind);
                    let at = at.unwrap_or(self.rules.len());
                    self.rules.insert(at, payload.to_vec());
                }
                ack(if refused { libc::EPERM } else { 0 })
            }
            (false, RTM_DELRULE, _) if self.stuck || mem::take(&mut self.stuck_once) => {
                ack(libc::EPERM)
            }
            (false, RTM_DELRULE, _) => match self.rules.iter().position(|rule| rule == payload) {
                Some(at) => {
                    self.rules.remove(at);
                    ack(0)
                }
                None => ack(libc::ENOENT),
            },
            _ => ack(libc::EOPNOTSUPP),
        };
        vec![(0, bytes)]
    }
}

/// Runs `set` on the kernel; gives its result and the notes.
fn run(state: &Rc<RefCell<State>>, bind_dev: Change<String>) -> (Result<()>, Vec<String>) {
    run_beside(state, None, bind_dev)
}

fn script(state: &Rc<RefCell<State>>) -> ScriptedKernel {
    let hooks = Rc::clone(&state.borrow().hooks);
    let state = Rc::clone(state);
    ScriptedKernel::saying(move |family, request| state.borrow_mut().answer(family, request))
        .with_hooks(&hooks)
}

/// `run`, with another namespace that has a wg0 of its own.
fn run_beside(
    state: &Rc<RefCell<State>>,
    other: Option<&Rc<RefCell<State>>>,
    bind_dev: Change<String>,
) -> (Result<()>, Vec<String>) {
    let update = Update {
        interface: "wg0".to_owned(),
        bind_dev,
        ..Update::default()
    };
    run_update(state, other, update, BindMode::Fwmark)
}

fn run_update(
    state: &Rc<RefCell<State>>,
    other: Option<&Rc<RefCell<State>>>,
    update: Update,
    mode: BindMode,
) -> (Result<()>, Vec<String>) {
    let kernel = script(state).beside(other.map(script));
    let mut notes = Vec::new();
    let result = with(kernel, || {
        set(update, mode, ReceiveMode::Any, &mut |line| {
            notes.push(line.to_owned())
        })
    });
    (result, notes)
}

fn kernel(change: impl FnOnce(&mut State)) -> Rc<RefCell<State>> {
    let mut state = State::new();
    change(&mut state);
    Rc::new(RefCell::new(state))
}

fn red() -> Change<String> {
    Change::Set("red".to_owned())
}

#[test]
fn a_binding_comes_and_goes_in_both_families() {
    let state = kernel(|_| {});
    let (result, _) = run(&state, red());
    result.unwrap();
    assert_ne!(state.borrow().mark, 0);
    assert!(state.borrow().ours(2) > 0 && state.borrow().ours(10) > 0);
    let (result, _) = run(&state, Change::Clear);
    result.unwrap();
    assert_eq!((state.borrow().ours(2), state.borrow().ours(10)), (0, 0));
    assert_eq!(state.borrow().mark, 0);
}

/// An earlier device left a pair to another VRF; when the next one gets its mark, only the new pair
/// is there.
#[test]
fn rules_that_are_left_go_before_their_mark_is_taken() {
    let state = kernel(|_| {});
    let update = |dev: &str| Update {
        interface: "wg0".to_owned(),
        bind_dev: Change::Set(dev.to_owned()),
        fwmark: Change::Set(0x55),
        ..Update::default()
    };
    let bind = |dev| run_update(&state, None, update(dev), BindMode::Fwmark);
    bind("blue").0.unwrap();
    state.borrow_mut().mark = 0;
    state.borrow_mut().stuck = true;
    assert!(bind("red").0.is_err());
    assert_eq!(state.borrow().mark, 0, "the rules could not be removed");
    state.borrow_mut().stuck = false;
    bind("red").0.unwrap();
    assert_eq!(state.borrow().ours_at_set, [4, 4]);
}

/// The mark that closes a device while its sockets are made again may also be its user's.
#[test]
fn a_users_own_mark_is_not_taken_for_an_interrupted_command() {
    let state = kernel(|state| state.mark = CLOSED_MARK);
    run(&state, Change::Clear).0.unwrap();
    assert_eq!(state.borrow().mark, CLOSED_MARK);
    // With our rules it is one that was interrupted, and its mark is given up.
    let state = kernel(|_| {});
    let closing = Rule::new_ours(97, Selector::Mark(CLOSED_MARK), Action::Unreachable);
    let result = with(script(&state), || {
        let mut routing = Routing::open().unwrap();
        let rules = routing.read_rules().unwrap();
        routing.add_rules(&[(Family::V4, closing), (Family::V6, closing)], &rules)
    });
    result.unwrap();
    state.borrow_mut().mark = CLOSED_MARK;
    run(&state, Change::Clear).0.unwrap();
    assert_eq!((state.borrow().mark, state.borrow().ours(2)), (0, 0));
}

/// A device was bound in the namespace where it was made, and moved here. It keeps the mark, and
/// what cannot be done from here is said.
#[test]
fn a_device_that_is_bound_elsewhere_is_not_opened_from_here() {
    let home = kernel(|_| {});
    run(&home, red()).0.unwrap();
    let mark = home.borrow().mark;
    let update = |change: fn(&mut Update)| {
        let mut update = Update {
            interface: "wg0".to_owned(),
            ..Update::default()
        };
        change(&mut update);
        update
    };
    let omitted = update(|update| {
        update.bind_dev = Change::Clear;
        update.bind_dev_omitted = true;
        update.fwmark = Change::Clear;
    });
    let off = update(|update| update.fwmark = Change::Clear);
    for (update, works) in [
        (omitted, true),
        (off, true),
        (update(|update| update.bind_dev = Change::Clear), false),
        (update(|update| update.fwmark = Change::Set(5)), false),
    ] {
        let here = kernel(|state| state.mark = mark);
        let words = format!("{update:?}");
        let (result, notes) = run_update(&here, Some(&home), update, BindMode::Auto);
        let said = match result {
            Ok(()) if works => notes.join("\n"),
            Err(error) if !works => error.to_string(),
            other => panic!("{words}: {other:?}"),
        };
        assert!(said.contains("where it was made"), "{words}: {said}");
        assert_eq!(here.borrow().mark, mark, "{words}");
    }
    // Nobody binds that mark there: it is the user's.
    let here = kernel(|state| state.mark = 0x33);
    run_beside(&here, Some(&home), Change::Clear).0.unwrap();
    let (result, _) = run_update(
        &here,
        Some(&home),
        update(|u| u.fwmark = Change::Clear),
        BindMode::Auto,
    );
    result.unwrap();
    assert_eq!(here.borrow().mark, 0);
}

/// From a container the namespace where it was made does not show. Its mark is one that we choose, so a
/// file without FwMark leaves it; a user's own mark goes, and so does ours where all can be seen.
#[test]
fn a_device_that_came_into_a_container_keeps_the_mark_that_we_chose() {
    let ours = crate::plan::rules::default_mark(100);
    for (mark, in_container, down, left) in [
        (ours, true, false, ours),
        (ours, true, true, ours),
        (ours, false, false, 0),
        (ours, false, true, 0),
        (0x33, true, false, 0),
        (0x33, true, true, 0),
    ] {
        // Up, and no socket on its port here: that is what shows of the other namespace. Down,
        // nothing shows.
        let here = kernel(|state| (state.mark, state.port, state.away) = (mark, 1, true));
        here.borrow_mut().down = down;
        let update = Update {
            interface: "wg0".to_owned(),
            bind_dev: Change::Clear,
            bind_dev_omitted: true,
            fwmark: Change::Clear,
            ..Update::default()
        };
        let script = match in_container {
            true => script(&here).in_container(),
            false => script(&here),
        };
        let mut notes = Vec::new();
        let mut note = |line: &str| notes.push(line.to_owned());
        let done = with(script, || {
            set(update, BindMode::Auto, ReceiveMode::Any, &mut note)
        });
        done.unwrap();
        assert_eq!(here.borrow().mark, left, "{mark:#x} {in_container} {down}");
        let said = notes.iter().any(|note| note.contains("may bind it"));
        assert_eq!(said, left != 0, "{notes:?}");
    }
}

/// While it is down nothing tells where a device was made. Who states the mark gets it.
#[test]
fn a_mark_that_is_stated_in_a_container_is_taken_of_a_device_that_is_down() {
    let ours = crate::plan::rules::default_mark(100);
    for fwmark in [Change::Clear, Change::Set(5)] {
        let here = kernel(|state| (state.mark, state.port, state.down) = (ours, 1, true));
        let update = Update {
            interface: "wg0".to_owned(),
            fwmark: fwmark.clone(),
            ..Update::default()
        };
        let done = with(script(&here).in_container(), || {
            set(update, BindMode::Auto, ReceiveMode::Any, &mut |_| {})
        });
        done.unwrap();
        assert_ne!(here.borrow().mark, ours, "{fwmark:?}");
    }
}

/// In a container other namespaces are unknown, and not absent: one of them may have a device that
/// was made here and lives on the rules.
#[test]
fn a_container_does_not_tell_what_other_namespaces_need() {
    let update = |bind_dev| Update {
        interface: "wg0".to_owned(),
        bind_dev,
        ..Update::default()
    };
    let state = kernel(|state| state.down = true);
    for (in_container, bind_dev, said) in [
        (false, red(), None),
        (true, red(), Some("in which network namespace")),
        (true, Change::Clear, Some("the rules for fwmark")),
    ] {
        let script = match in_container {
            true => script(&state).in_container(),
            false => script(&state),
        };
        let mut notes = Vec::new();
        with(script, || {
            set(
                update(bind_dev),
                BindMode::Fwmark,
                ReceiveMode::Any,
                &mut |line| notes.push(line.to_owned()),
            )
        })
        .unwrap();
        let words = notes.join("\n");
        let unknown = ["in which network namespace", "the rules for fwmark"];
        let found = unknown.into_iter().find(|one| words.contains(one));
        assert_eq!(found, said, "{words}");
        assert!(state.borrow().ours(2) > 0 && state.borrow().ours(10) > 0);
    }
    assert_eq!(state.borrow().mark, 0);
}

#[test]
fn rules_that_a_moved_device_lives_on_stay() {
    let state = kernel(|_| {});
    run(&state, red()).0.unwrap();
    let mark = state.borrow().mark;
    let moved = kernel(|state| (state.mark, state.port, state.away) = (mark, 1, true));
    run_beside(&state, Some(&moved), Change::Clear).0.unwrap();
    assert!(state.borrow().ours(2) > 0 && state.borrow().ours(10) > 0);
}

/// Two devices there have one port. With fewer sockets than devices, one of them has its own here.
#[test]
fn a_neighbours_socket_does_not_make_a_device_at_home() {
    for (both_up, left) in [(true, 2), (false, 0)] {
        let state = kernel(|_| {});
        run(&state, red()).0.unwrap();
        let mark = state.borrow().mark;
        let beside = kernel(|state| {
            (state.mark, state.port, state.others_up) = (mark, 1, both_up);
            state.others.push((12, "wg1", 0, 1));
        });
        run_beside(&state, Some(&beside), Change::Clear).0.unwrap();
        let found = (state.borrow().ours(2), state.borrow().ours(10));
        assert_eq!(found, (left, left), "{both_up}");
    }
}

#[test]
fn notes_are_said_though_a_rule_cannot_be_removed() {
    let state = kernel(|_| {});
    run(&state, red()).0.unwrap();
    state.borrow_mut().stuck = true;
    // The rules of the old binding stay, the device has the new one.
    let (result, notes) = run(&state, Change::Set("blue".to_owned()));
    assert!(result.is_err());
    let said = notes.iter().any(|note| note.contains("via table 200"));
    assert!(said, "{notes:?}");
}

#[test]
fn a_rule_that_stays_keeps_no_other() {
    let state = kernel(|_| {});
    run(&state, red()).0.unwrap();
    state.borrow_mut().stuck_once = true;
    assert!(run(&state, Change::Clear).0.is_err());
    assert_eq!(state.borrow().ours(2) + state.borrow().ours(10), 1);
}

#[test]
fn a_device_that_refuses_leaves_no_rules_and_its_old_mark() {
    let state = kernel(|state| {
        state.mark = 0x33;
        state.set_fails = 1;
    });
    let (result, _) = run(&state, red());
    assert!(result.is_err());
    assert_eq!((state.borrow().ours(2), state.borrow().ours(10)), (0, 0));
    assert_eq!(state.borrow().mark, 0x33, "the mark went back");
}

#[test]
fn a_device_that_refuses_keeps_the_port_that_binds_it() {
    // Its socket is here.
    let socket = std::net::UdpSocket::bind(("0.0.0.0", 0)).unwrap();
    let port = socket.local_addr().unwrap().port();
    let state = kernel(|state| state.port = port);
    let update = |listen_port, bind_dev| Update {
        interface: "wg0".to_owned(),
        listen_port,
        bind_dev,
        ..Update::default()
    };
    let (result, _) = run_update(&state, None, update(Change::Keep, red()), BindMode::Port);
    result.unwrap();
    let rules = state.borrow().rules.clone();
    // An old kernel takes mark and port before it refuses a peer.
    let refused = state.borrow().sets + 1;
    state.borrow_mut().set_fails = refused;
    let moved = update(Change::Set(port ^ 1), Change::Keep);
    let (result, _) = run_update(&state, None, moved, BindMode::Auto);
    assert!(result.is_err());
    assert_eq!(state.borrow().port, port, "the port went back");
    assert_eq!(state.borrow().rules, rules);
}

/// The entry that knows its mark cannot be read. Nothing but a bind or an unbind opens the device.
#[test]
fn a_closed_device_whose_mark_cannot_be_seen_stays_closed() {
    let socket = std::net::UdpSocket::bind(("0.0.0.0", 0)).unwrap();
    let port = socket.local_addr().unwrap().port();
    let closed = || {
        let state = kernel(|state| state.port = port);
        run(&state, red()).0.unwrap();
        let closing = Rule::new_ours(97, Selector::Mark(CLOSED_MARK), Action::Unreachable);
        let added = with(script(&state), || {
            let mut routing = Routing::open().unwrap();
            let rules = routing.read_rules().unwrap();
            routing.add_rules(&Family::ALL.map(|family| (family, closing)), &rules)
        });
        added.unwrap();
        state.borrow_mut().mark = CLOSED_MARK;
        state
    };
    let base = || Update {
        interface: "wg0".to_owned(),
        ..Update::default()
    };
    for update in [
        Update {
            listen_port: Change::Set(port ^ 1),
            ..base()
        },
        Update {
            fwmark: Change::Clear,
            ..base()
        },
    ] {
        let state = closed();
        let (result, _) = run_update(&state, None, update, BindMode::Auto);
        let text = result.unwrap_err().to_string();
        assert!(text.contains("left it closed"), "{text}");
        assert_eq!(state.borrow().mark, CLOSED_MARK);
    }
    let state = closed();
    run(&state, red()).0.unwrap();
    assert_ne!(state.borrow().mark, CLOSED_MARK);
    let device = with(script(&state), || get("wg0")).unwrap();
    assert!(matches!(device.bind, Bind::Rules { ref faults, .. } if faults.is_empty()));
    let state = closed();
    run(&state, Change::Clear).0.unwrap();
    assert_eq!(state.borrow().mark, 0);
    assert_eq!((state.borrow().ours(2), state.borrow().ours(10)), (0, 0));
}

#[test]
fn rules_stay_while_the_new_mark_stays() {
    let state = kernel(|state| {
        state.set_fails = 1;
        state.set_back_fails = true;
    });
    let (result, notes) = run(&state, red());
    assert!(result.is_err());
    assert_ne!(state.borrow().mark, 0);
    assert!(state.borrow().ours(2) > 0 && state.borrow().ours(10) > 0);
    assert!(
        notes.iter().any(|note| note.contains("rules stay")),
        "{notes:?}"
    );
}

/// A program that hangs may take the mark when nobody looks any more.
#[test]
fn rules_stay_where_a_change_may_come_yet() {
    let state = kernel(|state| {
        state.set_fails = 1;
        state.set_errno = libc::ETIMEDOUT;
    });
    let (result, notes) = run(&state, red());
    assert!(result.is_err());
    assert!(state.borrow().ours(2) > 0 && state.borrow().ours(10) > 0);
    assert!(
        notes
            .iter()
            .any(|note| note.contains("make the change yet")),
        "{notes:?}"
    );
}

/// Another command may change the same rules. A mark that no rule goes by is set all the same.
#[test]
fn no_rule_is_changed_without_the_lock() {
    let state = kernel(|_| {});
    let change = |change: fn(&mut Update)| {
        let mut update = Update {
            interface: "wg0".to_owned(),
            ..Update::default()
        };
        change(&mut update);
        with(script(&state).without_lock(), || {
            set(update, BindMode::Fwmark, ReceiveMode::Any, &mut |_| {})
        })
    };
    let refused = change(|update| update.bind_dev = red()).unwrap_err();
    let said = refused.to_string();
    assert!(said.contains("Cannot lock the policy rules"), "{said}");
    assert_eq!((state.borrow().new_rules, state.borrow().sets), (0, 0));
    change(|update| update.fwmark = Change::Set(5)).unwrap();
    assert_eq!(state.borrow().mark, 5);
}

/// What is gone sends nothing. What does not tell its mark may have the new one.
#[test]
fn rules_go_with_a_device_that_is_gone() {
    for (errno, left) in [(libc::ENODEV, 0), (libc::EPERM, 2)] {
        let state = kernel(|state| state.lost_errno = errno);
        assert!(run(&state, red()).0.is_err());
        let found = (state.borrow().ours(2), state.borrow().ours(10));
        assert_eq!(found, (left, left), "{errno}");
    }
}

#[test]
fn rules_are_added_all_or_none() {
    let state = kernel(|_| {});
    run(&state, red()).0.unwrap();
    let count = state.borrow().new_rules;
    for (nth, takes_refused) in (1..=count).flat_map(|nth| [(nth, false), (nth, true)]) {
        let state = kernel(|state| {
            state.refused_rule = Some(nth);
            state.takes_refused = takes_refused;
        });
        assert!(run(&state, red()).0.is_err(), "rule {nth}");
        let state = state.borrow();
        assert_eq!((state.ours(2), state.ours(10)), (0, 0), "rule {nth}");
        assert_eq!((state.mark, state.sets), (0, 0), "rule {nth}");
    }
}

#[test]
fn what_the_kernel_does_not_answer_is_not_guessed() {
    for break_it in [
        (|state: &mut State| state.policy_errno = libc::EACCES) as fn(&mut State),
        |state| state.rules_errno = libc::EACCES,
    ] {
        let state = kernel(break_it);
        let (result, _) = run(&state, red());
        let said = matches!(&result, Err(Error::Os { errno, .. }) if *errno == libc::EACCES);
        assert!(said, "{result:?}");
        let state = state.borrow();
        assert_eq!((state.new_rules, state.sets, state.mark), (0, 0, 0));
    }
}

#[test]
fn a_binding_that_cannot_be_looked_up_is_unknown() {
    let unreadable = |state: &mut State| state.rules_errno = libc::ENOBUFS;
    let state = kernel(|state| {
        state.mark = 0x77;
        unreadable(state);
    });
    let device = with(script(&state), || get("wg0")).unwrap();
    assert!(matches!(device.bind, Bind::Unknown { .. }), "{device:?}");
    // A mark that may carry a binding stays; a device without mark and port has none.
    let mark = |to| Update {
        interface: "wg0".to_owned(),
        fwmark: to,
        ..Update::default()
    };
    for to in [Change::Set(5), Change::Clear] {
        let (result, _) = run_update(&state, None, mark(to), BindMode::Auto);
        let said = matches!(&result, Err(Error::Os { errno, .. }) if *errno == libc::ENOBUFS);
        assert!(said, "{result:?}");
        assert_eq!(state.borrow().mark, 0x77);
    }
    let state = kernel(unreadable);
    state.borrow_mut().port = 0;
    run_update(&state, None, mark(Change::Set(5)), BindMode::Auto)
        .0
        .unwrap();
    assert_eq!(state.borrow().mark, 5);
}

/// What showconf prints is set again, and without BindDev that would open the tunnel.
#[test]
fn no_file_is_printed_of_a_binding_that_is_unknown() {
    let state = kernel(|state| (state.mark, state.rules_errno) = (0x77, libc::ENOBUFS));
    let null = std::fs::File::options().write(true).open("/dev/null");
    let mut out = std::io::BufWriter::new(crate::cmd::Stdout(null.unwrap()));
    let call = crate::cmd::Call {
        program: "wg",
        usage: "",
        out: &mut out,
    };
    let printed = with(script(&state), || {
        crate::cmd::showconf::showconf(call, "wg0".as_ref())
    });
    let said = printed.unwrap_err().to_string();
    assert!(said.contains("would open the tunnel"), "{said}");
    assert!(out.buffer().is_empty());
}

/// The kernel has no rules of one family, or of none (CONFIG_IP_MULTIPLE_TABLES): that is an answer.
#[test]
fn a_kernel_without_policy_rules_has_no_bindings() {
    for errno in [libc::EAFNOSUPPORT, libc::EOPNOTSUPP] {
        let state = kernel(|state| (state.mark, state.rules_errno) = (0x33, errno));
        let device = with(script(&state), || get("wg0")).unwrap();
        assert_eq!(device.bind, Bind::Off);
        let said = run(&state, red()).0.unwrap_err().to_string();
        assert!(said.contains("nor policy rules"), "{said}");
        assert_eq!((state.borrow().mark, state.borrow().sets), (0x33, 0));
    }
}

#[test]
fn a_foreign_attribute_is_no_binding() {
    let state = kernel(|state| state.nine = Some(b"red\0".to_vec()));
    let device = with(script(&state), || get("wg0")).unwrap();
    assert_eq!(device.bind, Bind::Off);
}

#[test]
fn a_kernel_without_wireguard_is_told_from_one_that_refuses() {
    for (errno, said) in [
        (libc::ENOENT, libc::EPROTONOSUPPORT),
        (libc::EPERM, libc::EPERM),
    ] {
        let state = kernel(|state| state.family_errno = errno);
        let result = with(script(&state), || get("wg0"));
        let told = matches!(&result, Err(Error::Os { errno, .. }) if *errno == said);
        assert!(told, "{result:?}");
    }
}

#[test]
fn a_binding_by_port_is_shown() {
    let socket = std::net::UdpSocket::bind(("0.0.0.0", 0)).unwrap();
    let port = socket.local_addr().unwrap().port();
    let state = kernel(|state| state.port = port);
    let update = Update {
        interface: "wg0".to_owned(),
        bind_dev: red(),
        ..Update::default()
    };
    run_update(&state, None, update, BindMode::Port).0.unwrap();
    assert_eq!(state.borrow().mark, 0);
    let device = with(script(&state), || get("wg0")).unwrap();
    let Bind::Rules { dev, by, .. } = &device.bind else {
        panic!("{:?}", device.bind);
    };
    assert_eq!((dev.as_deref(), *by), (Some("red"), Selector::Port(port)));
}

#[test]
fn a_port_that_is_taken_is_said_of_a_device_that_is_down() {
    let socket = std::net::UdpSocket::bind(("127.0.0.1", 0)).unwrap();
    let port = socket.local_addr().unwrap().port();
    for down in [true, false] {
        let state = kernel(|state| state.down = down);
        let update = Update {
            interface: "wg0".to_owned(),
            listen_port: Change::Set(port),
            ..Update::default()
        };
        let (result, notes) = run_update(&state, None, update, BindMode::Auto);
        result.unwrap();
        assert_eq!(state.borrow().port, port);
        assert_eq!(notes.len(), usize::from(down), "{notes:?}");
    }
}

#[test]
fn a_missing_interface_is_not_the_bind_devices_fault() {
    let said = |interface: &str| {
        let update = Update {
            interface: interface.to_owned(),
            bind_dev: red(),
            ..Update::default()
        };
        let failure = Failure {
            errno: libc::ENODEV,
            extack: None,
        };
        explain_refusal(&update, failure).to_string()
    };
    assert!(said("no such name").starts_with("Unable to modify interface: No such device"));
    assert!(said("lo").starts_with("Cannot bind lo to `red': No such device"));
}

#[test]
fn only_wireguards_links_are_listed() {
    let state = kernel(|_| {});
    let links = with(script(&state), || {
        Routing::open().unwrap().read_links().unwrap()
    });
    assert_eq!(links.len(), 3);
    assert_eq!(merge_names(&links, vec!["wg1".to_owned()]), ["wg0", "wg1"]);
}

#[test]
fn wg_quicks_rules_are_for_a_default_route() {
    let update = |prefix: &str, remove| {
        let (list, _) = crate::parse::value::parse_allowed_ips(prefix);
        let mut peer = crate::model::PeerUpdate::new(crate::key::PublicKey::from_bytes([1; 32]));
        let prefixes = list.prefixes.iter();
        peer.allowed_ips = prefixes
            .map(|ip| crate::model::AllowedIpUpdate { remove, ..ip })
            .collect();
        Update {
            peers: vec![peer],
            ..Update::default()
        }
    };
    assert!(has_default_route(&update("0.0.0.0/0", false)));
    assert!(has_default_route(&update("::/0", false)));
    assert!(!has_default_route(&update("::/0", true)));
    assert!(!has_default_route(&update("0.0.0.0/1", false)));
}

#[test]
fn only_rules_that_were_added_are_said_to_stay() {
    for nth in [1, 2] {
        let state = kernel(|state| {
            state.refused_rule = Some(nth);
            state.stuck = true;
        });
        let said = run(&state, red()).0.unwrap_err().to_string();
        assert_eq!(said.contains("added before it stay"), nth > 1, "{said}");
    }
}

/// Of two that are equal the kernel removes the first, which was there before.
#[test]
fn a_second_copy_of_a_rule_is_not_undone() {
    let state = kernel(|_| {});
    run(&state, red()).0.unwrap();
    let before = state.borrow().ours(2);
    let result = with(script(&state), || {
        let mut routing = Routing::open().unwrap();
        let rules = routing.read_rules().unwrap();
        let ours: Vec<_> = rules
            .iter_ours()
            .map(|(family, rule)| (family, *rule))
            .collect();
        let second = state.borrow().new_rules + 2;
        state.borrow_mut().refused_rule = Some(second);
        routing.add_rules(&[ours[0], ours[1]], &rules)
    });
    assert!(result.is_err());
    assert_eq!(state.borrow().ours(2), before + 1);
}

#[test]
fn without_the_rules_nothing_is_unbound() {
    let state = kernel(|state| state.rules_errno = libc::EACCES);
    assert!(run(&state, Change::Clear).0.is_err());
    assert_eq!(state.borrow().sets, 0);
}

#[test]
fn rules_stay_while_another_namespace_cannot_be_read() {
    let state = kernel(|_| {});
    run(&state, red()).0.unwrap();
    let silent = kernel(|state| state.family_errno = libc::EPERM);
    let (result, notes) = run_beside(&state, Some(&silent), Change::Clear);
    result.unwrap();
    assert!(state.borrow().ours(2) > 0 && state.borrow().ours(10) > 0);
    assert!(
        notes.iter().any(|note| note.contains("cannot be told")),
        "{notes:?}"
    );
}

/// Runs `set` where the hooks may be used.
fn run_hooked(
    state: &Rc<RefCell<State>>,
    receive: ReceiveMode,
    change: impl FnOnce(&mut Update),
) -> (Result<()>, String) {
    let mut update = Update {
        interface: "wg0".to_owned(),
        ..Update::default()
    };
    change(&mut update);
    let mut notes = Vec::new();
    let result = with(script(state), || {
        let mut note = |line: &str| notes.push(line.to_owned());
        set(update, BindMode::Auto, receive, &mut note)
    });
    (result, notes.join("\n"))
}

/// wg0 on a port that nobody else gets.
fn hooked() -> (Rc<RefCell<State>>, std::net::UdpSocket) {
    let socket = std::net::UdpSocket::bind(("0.0.0.0", 0)).unwrap();
    let port = socket.local_addr().unwrap().port();
    (kernel(|state| state.port = port), socket)
}

/// wg0 is bound to red by rules, and its sockets by the hooks.
fn bound_by_hooks() -> (Rc<RefCell<State>>, std::net::UdpSocket) {
    let (state, socket) = hooked();
    let bind = |update: &mut Update| update.bind_dev = red();
    let (result, notes) = run_hooked(&state, ReceiveMode::Auto, bind);
    result.unwrap();
    assert!(notes.contains("receives from red only"), "{notes}");
    assert_eq!(state.borrow().bound_to, 8);
    assert_eq!(
        entries(&state),
        [(state.borrow().port, "red".to_owned(), 7)]
    );
    (state, socket)
}

/// Ports of the hooks with their VRFs and owners.
fn entries(state: &Rc<RefCell<State>>) -> Vec<(u16, String, u32)> {
    let hooks = Rc::clone(&state.borrow().hooks);
    let hooks = hooks.borrow();
    let entries = hooks.entries.iter();
    entries
        .map(|(port, entry)| (*port, entry.vrf.clone(), entry.owner))
        .collect()
}

fn forbid(state: &Rc<RefCell<State>>, reason: Option<bpf::Unavailable>) {
    state.borrow().hooks.borrow_mut().unavailable = reason;
}

/// What would be half of a change: mark, port, rules, sockets and the number of messages.
fn shape(state: &Rc<RefCell<State>>) -> (u32, u16, usize, u32, u32) {
    let state = state.borrow();
    let rules = state.ours(2) + state.ours(10);
    (state.mark, state.port, rules, state.bound_to, state.sets)
}

/// Without the right to change the hooks the sockets would stay on the VRF, and the device send by main.
#[test]
fn sockets_that_cannot_be_unbound_keep_the_device_bound() {
    for omitted in [false, true] {
        let (state, _socket) = bound_by_hooks();
        let unbind = |update: &mut Update| {
            update.bind_dev = Change::Clear;
            update.bind_dev_omitted = omitted;
            update.fwmark = Change::Clear;
        };
        forbid(&state, Some(bpf::Unavailable::NotPermitted));
        let before = shape(&state);
        let (result, _) = run_hooked(&state, ReceiveMode::Auto, unbind);
        let said = result.unwrap_err().to_string();
        assert!(said.contains("bound to red"), "{said}");
        assert!(said.contains("CAP_SYS_ADMIN"), "{said}");
        assert_eq!(shape(&state), before);
        // Also when an earlier tool took the rules.
        let rules = state.borrow().rules.clone();
        state
            .borrow_mut()
            .rules
            .retain(|rule| priority(rule) != 97 && priority(rule) != 98);
        assert_eq!(shape(&state).2, 0);
        assert!(run_hooked(&state, ReceiveMode::Auto, unbind).0.is_err());
        state.borrow_mut().rules = rules;

        forbid(&state, None);
        run_hooked(&state, ReceiveMode::Auto, unbind).0.unwrap();
        assert_eq!(state.borrow().bound_to, 0);
        assert_eq!((state.borrow().mark, entries(&state).len()), (0, 0));
    }
}

/// A device that is down has no sockets: whether the hooks wait for them does not show.
#[test]
fn an_entry_that_cannot_be_seen_is_said() {
    let (state, _socket) = bound_by_hooks();
    state.borrow_mut().down = true;
    forbid(&state, Some(bpf::Unavailable::NotPermitted));
    let unbind = |update: &mut Update| update.bind_dev = Change::Clear;
    let (result, notes) = run_hooked(&state, ReceiveMode::Auto, unbind);
    result.unwrap();
    assert!(notes.contains("cannot be seen"), "{notes}");
}

#[test]
fn sockets_do_not_stay_on_the_vrf_that_a_device_leaves() {
    let to_blue = |update: &mut Update| update.bind_dev = Change::Set("blue".to_owned());
    let (state, _socket) = bound_by_hooks();
    let (result, notes) = run_hooked(&state, ReceiveMode::Any, to_blue);
    result.unwrap();
    assert_eq!(state.borrow().bound_to, 0, "{notes}");
    assert_eq!(entries(&state), [] as [(u16, String, u32); 0]);

    // Where they have to stay, the device stays as well.
    for (receive, reason) in [
        (ReceiveMode::Any, bpf::Unavailable::NotPermitted),
        (ReceiveMode::Auto, bpf::Unavailable::NotPermitted),
        (ReceiveMode::Auto, bpf::Unavailable::Busy),
    ] {
        let (state, _socket) = bound_by_hooks();
        forbid(&state, Some(reason));
        let before = shape(&state);
        let (result, _) = run_hooked(&state, receive, to_blue);
        let said = result.unwrap_err().to_string();
        assert!(said.contains("bound to red"), "{said}");
        assert_eq!(shape(&state), before);
        // On the VRF that they are on they may stay, and nothing else is said of them.
        let (result, notes) = run_hooked(&state, receive, |update| update.bind_dev = red());
        result.unwrap();
        assert!(!notes.contains("from everywhere"), "{notes}");
        assert_eq!(state.borrow().bound_to, 8);
    }
}

/// The mark is the new one when the rules that closed the device cannot be removed.
#[test]
fn a_device_that_moved_keeps_the_rules_of_its_mark() {
    for bind_dev in [Change::Set("blue".to_owned()), Change::Clear] {
        let (state, _socket) = bound_by_hooks();
        state.borrow_mut().stuck_once = true;
        let moving = |update: &mut Update| update.bind_dev = bind_dev.clone();
        let (result, _) = run_hooked(&state, ReceiveMode::Auto, moving);
        assert!(result.is_err());
        let mark = state.borrow().mark;
        if mark != 0 {
            let device = with(script(&state), || get("wg0")).unwrap();
            let whole = matches!(&device.bind, Bind::Rules { faults, .. } if faults.is_empty());
            assert!(whole, "{mark:#x}: {device:?}");
        }
        let (result, notes) = run_hooked(&state, ReceiveMode::Auto, moving);
        result.unwrap();
        let wanted = match bind_dev {
            Change::Set(_) => (9, 2, 2, 1),
            _ => (0, 0, 0, 0),
        };
        let entries = entries(&state).len();
        let state = state.borrow();
        let found = (state.bound_to, state.ours(2), state.ours(10), entries);
        assert_eq!(found, wanted, "{notes}");
    }
}

#[test]
fn the_entry_of_a_port_that_a_device_leaves_goes() {
    let (state, _socket) = bound_by_hooks();
    let (result, notes) = run_hooked(&state, ReceiveMode::Any, |update| {
        update.listen_port = Change::Set(51009);
    });
    result.unwrap();
    assert_eq!(state.borrow().bound_to, 0);
    assert_eq!(entries(&state), [] as [(u16, String, u32); 0], "{notes}");
}

/// The hooks are told before the device is: what it refuses must not bind the sockets that it has next.
#[test]
fn a_device_that_refuses_has_its_old_entry() {
    let refuse = |state: &Rc<RefCell<State>>, dev: &str| {
        let refused = state.borrow().sets + 1;
        state.borrow_mut().set_fails = refused;
        let bind = |update: &mut Update| update.bind_dev = Change::Set(dev.to_owned());
        let (result, _) = run_hooked(state, ReceiveMode::Auto, bind);
        assert!(result.is_err());
        entries(state)
    };
    let (state, _socket) = hooked();
    assert_eq!(refuse(&state, "red"), [] as [(u16, String, u32); 0]);
    let (state, _socket) = bound_by_hooks();
    let before = entries(&state);
    assert_eq!(refuse(&state, "blue"), before);
}

/// wg1 shares port and VRF with wg0, made the entry and is deleted while both are down.
#[test]
fn the_entry_of_a_device_that_is_gone_is_anothers_on_the_port() {
    for (mark_of_wg1, left) in [
        (None, vec![]),
        (Some(()), vec![(51001, "red".to_owned(), 12)]),
    ] {
        let state = kernel(|_| {});
        run(&state, red()).0.unwrap();
        let mark = state.borrow().mark;
        {
            let mut state = state.borrow_mut();
            let other = mark_of_wg1.map_or(0, |()| mark);
            state.others.push((12, "wg1", other, 51001));
            let entry = crate::model::HookEntry {
                vrf: "red".to_owned(),
                owner: 11,
                mark,
                ..Default::default()
            };
            state.hooks.borrow_mut().entries.insert(51001, entry);
        }
        with(script(&state), receive::sweep_entries);
        assert_eq!(entries(&state), left);
    }
}

/// From a container it does not show whether a device that was made here lives on an entry elsewhere.
#[test]
fn an_entry_stays_while_somebody_may_need_it() {
    for in_container in [false, true] {
        let state = kernel(|_| {});
        let entry = crate::model::HookEntry {
            vrf: "red".to_owned(),
            owner: 11,
            mark: 0x77,
            ..Default::default()
        };
        let hooks = Rc::clone(&state.borrow().hooks);
        hooks.borrow_mut().entries.insert(51009, entry);
        let script = match in_container {
            true => script(&state).in_container(),
            false => script(&state),
        };
        with(script, receive::sweep_entries);
        assert_eq!(entries(&state).len(), usize::from(in_container));
    }
}

/// Rules bound it once, and something ended before the hooks were told.
#[test]
fn unbinding_leaves_no_entry_on_a_kernel_with_the_attribute() {
    for nine in [None, Some(b"blue\0".to_vec())] {
        let (state, _socket) = bound_by_hooks();
        let mut patched = state.borrow_mut();
        patched
            .rules
            .retain(|rule| priority(rule) != 97 && priority(rule) != 98);
        (patched.patched, patched.mark) = (true, 0);
        if nine.is_some() {
            patched.bound_to = 9;
        }
        patched.nine = nine;
        drop(patched);
        let unbind = |update: &mut Update| update.bind_dev = Change::Clear;
        run_hooked(&state, ReceiveMode::Auto, unbind).0.unwrap();
        assert_eq!(entries(&state), [] as [(u16, String, u32); 0]);
        assert_eq!(state.borrow().bound_to, 0);
    }
}

/// Another program took the rules and the entry.
#[test]
fn unbinding_leaves_no_entry_where_there_was_none() {
    let (state, _socket) = bound_by_hooks();
    let ours = |rule: &Vec<u8>| [97, 98].contains(&priority(rule));
    state.borrow_mut().rules.retain(|rule| !ours(rule));
    state.borrow().hooks.borrow_mut().entries.clear();
    let unbind = |update: &mut Update| update.bind_dev = Change::Clear;
    run_hooked(&state, ReceiveMode::Auto, unbind).0.unwrap();
    assert_eq!(state.borrow().bound_to, 0);
    assert_eq!(entries(&state), [] as [(u16, String, u32); 0]);
}

/// Rules of another device are there, so that all is looked at.
#[test]
fn sockets_that_the_attribute_binds_are_left_alone() {
    let (state, _socket) = hooked();
    {
        let mut state = state.borrow_mut();
        (state.patched, state.nine, state.bound_to) = (true, Some(b"blue\0".to_vec()), 9);
        state.others.push((12, "wg1", 0x55, 51007));
    }
    let pair = [Action::Table(100), Action::Unreachable];
    with(script(&state), || {
        let mut routing = Routing::open().unwrap();
        let rules = routing.read_rules().unwrap();
        let ours = pair.map(|action| Rule::new_ours(97, Selector::Mark(0x55), action));
        routing.add_rules(&ours.map(|rule| (Family::V4, rule)), &rules)
    })
    .unwrap();
    let mark = |update: &mut Update| update.fwmark = Change::Set(5);
    run_hooked(&state, ReceiveMode::Auto, mark).0.unwrap();
    let state = state.borrow();
    assert_eq!((state.mark, state.bound_to, state.sets), (5, 9, 1));
}

#[test]
fn of_two_vrfs_on_one_table_it_is_the_one_that_is_meant() {
    let vrf = |index, name: &str| Link {
        index,
        name: name.to_owned(),
        altnames: Vec::new(),
        kind: "vrf".to_owned(),
        vrf_table: Some(100),
        up: true,
    };
    let (red, blue) = (vrf(7, "red"), vrf(9, "blue"));
    let all = [&red, &blue];
    let choose = |socket, entry| {
        super::choose_vrf(&all, |index| Some(index) == socket, entry).map(|link| link.index)
    };
    assert_eq!(choose(None, None), Some(7));
    assert_eq!(choose(Some(9), None), Some(9));
    assert_eq!(choose(None, Some("blue")), Some(9));
    // Sockets of another program may be in the first.
    assert_eq!(choose(Some(7), Some("blue")), Some(9));
    assert_eq!(choose(Some(9), Some("gone")), Some(9));
}

/// The number of a table names a VRF while no other has it.
#[test]
fn a_table_that_two_vrfs_have_names_none_of_them() {
    let bind = || Change::Set("table:100".to_owned());
    let state = kernel(|_| {});
    run(&state, bind()).0.unwrap();
    let state = kernel(|state| state.one_table = true);
    let said = run(&state, bind()).0.unwrap_err().to_string();
    assert!(said.contains("red and blue have that table"), "{said}");
    assert_eq!(state.borrow().sets, 0);
}

/// wg0, which nobody bound, beside the moved device whose entry is for port 51009.
fn beside_a_moved_one(with_rules: bool) -> (Rc<RefCell<State>>, ScriptedKernel) {
    let state = kernel(|state| state.port = 51001);
    let entry = crate::model::HookEntry {
        vrf: "red".to_owned(),
        owner: 11,
        mark: 0x77,
        ..Default::default()
    };
    state
        .borrow()
        .hooks
        .borrow_mut()
        .entries
        .insert(51009, entry);
    let moved = kernel(|state| (state.mark, state.port, state.down) = (0x77, 51009, true));
    let script = script(&state).beside(Some(script(&moved)));
    if with_rules {
        let pair = [(97, Action::Table(100)), (98, Action::Unreachable)];
        let pair = pair.map(|(pref, action)| Rule::new_ours(pref, Selector::Mark(0x77), action));
        let added = with(script.clone(), || {
            let mut routing = Routing::open().unwrap();
            let rules = routing.read_rules().unwrap();
            routing.add_rules(&pair.map(|rule| (Family::V4, rule)), &rules)
        });
        added.unwrap();
    }
    (state, script)
}

fn set_on(script: &ScriptedKernel, change: impl FnOnce(&mut Update)) -> (Result<()>, String) {
    let mut update = Update {
        interface: "wg0".to_owned(),
        ..Update::default()
    };
    change(&mut update);
    let mut notes = Vec::new();
    let result = with(script.clone(), || {
        let mut note = |line: &str| notes.push(line.to_owned());
        set(update, BindMode::Auto, ReceiveMode::Auto, &mut note)
    });
    (result, notes.join("\n"))
}

/// The hooks go by the port: they would bind a device that nobody bound.
#[test]
fn the_port_of_a_moved_device_is_not_given_to_one_that_is_not_bound() {
    for with_rules in [false, true] {
        for (down, omitted) in [(false, false), (true, false), (true, true)] {
            let (state, script) = beside_a_moved_one(with_rules);
            state.borrow_mut().down = down;
            let before = shape(&state);
            let (result, _) = set_on(&script, |update| {
                update.listen_port = Change::Set(51009);
                if omitted {
                    update.bind_dev = Change::Clear;
                    update.bind_dev_omitted = true;
                }
            });
            let said = result.unwrap_err().to_string();
            assert!(said.contains("Cannot give wg0 port 51009"), "{said}");
            assert_eq!(shape(&state), before);
            assert_eq!(entries(&state), [(51009, "red".to_owned(), 11)]);
            // Another one can be had.
            let (result, _) = set_on(&script, |update| update.listen_port = Change::Set(51010));
            result.unwrap();
        }
    }
}

/// A device had the port of a moved one in another VRF for a moment. Nobody knows whose the next
/// sockets are while both have it; then the entry is the moved one's again.
#[test]
fn the_entry_of_a_moved_device_comes_back_to_it() {
    let (state, script) = beside_a_moved_one(true);
    state.borrow_mut().down = true;
    let bind = |dev: &str, port| {
        set_on(&script, |update| {
            update.bind_dev = Change::Set(dev.to_owned());
            update.listen_port = Change::Set(port);
        })
    };
    let (result, notes) = bind("blue", 51009);
    result.unwrap();
    assert_eq!(entries(&state), [(51009, String::new(), 7)]);
    assert!(notes.contains("receives nothing until"), "{notes}");
    assert!(!notes.contains("receives from"), "{notes}");
    bind("blue", 51010).0.unwrap();
    let moved = (51009, "red".to_owned(), 0);
    assert_eq!(
        entries(&state),
        [moved.clone(), (51010, "blue".to_owned(), 7)]
    );
    // It is needed still, and no device has its index.
    with(script.clone(), receive::sweep_entries);
    assert_eq!(entries(&state)[0], moved);
}

/// An entry binds whoever has the port.
#[test]
fn a_device_is_not_bound_by_the_port_of_one_that_is_not() {
    let state = kernel(|state| {
        (state.port, state.down) = (51001, true);
        state.others.push((12, "wg1", 0, 51009));
    });
    let bind = |port| {
        move |update: &mut Update| {
            update.bind_dev = red();
            update.listen_port = Change::Set(port);
        }
    };
    // wg1 came from another namespace, where its sockets are: the hooks here do not bind them.
    state.borrow_mut().others_up = true;
    run_hooked(&state, ReceiveMode::Auto, bind(51009))
        .0
        .unwrap();
    assert_eq!(entries(&state), [(51009, "red".to_owned(), 7)]);
    run_hooked(&state, ReceiveMode::Auto, |update| {
        (update.bind_dev, update.listen_port) = (Change::Clear, Change::Set(51001));
    })
    .0
    .unwrap();
    assert_eq!(entries(&state), []);
    state.borrow_mut().sets = 0;
    // Its socket is here.
    state.borrow_mut().on_other_ports = vec![(51009, 0, 77)];
    let (result, _) = run_hooked(&state, ReceiveMode::Auto, bind(51009));
    let said = result.unwrap_err().to_string();
    assert!(said.contains("wg1 has port 51009, too"), "{said}");
    assert_eq!(shape(&state).4, 0);
    assert_eq!(entries(&state), [] as [(u16, String, u32); 0]);
    run_hooked(&state, ReceiveMode::Any, bind(51009)).0.unwrap();
    run_hooked(&state, ReceiveMode::Auto, bind(51010))
        .0
        .unwrap();
    assert_eq!(entries(&state), [(51010, "red".to_owned(), 7)]);
    // Where the kernel takes no program it binds nobody.
    let refuse = |reason| state.borrow().hooks.borrow_mut().refused = reason;
    for (mode, reason, bound) in [
        (ReceiveMode::Auto, bpf::Unavailable::NoBtf, true),
        (ReceiveMode::Bound, bpf::Unavailable::NoBtf, false),
        (
            ReceiveMode::Auto,
            bpf::Unavailable::InTheWay(Family::V6),
            true,
        ),
        (ReceiveMode::Bound, bpf::Unavailable::HookFull, true),
    ] {
        state.borrow().hooks.borrow_mut().entries.clear();
        state.borrow_mut().port = 51010;
        refuse(Some(reason.clone()));
        let (result, _) = run_hooked(&state, mode, bind(51009));
        assert_eq!(result.is_ok(), bound, "{mode:?} {reason:?} {result:?}");
        assert_eq!(entries(&state), [], "{mode:?} {reason:?}");
    }
    refuse(None);
    state.borrow_mut().port = 51010;
    // One that is down may be the next to be bound: two that have one port are bound in any order.
    state.borrow_mut().others_up = false;
    let (result, notes) = run_hooked(&state, ReceiveMode::Auto, bind(51009));
    result.unwrap();
    assert!(notes.contains("wg1 has port 51009, too"), "{notes}");
}

/// What `wg show` says of receiving.
fn shown(script: &ScriptedKernel) -> Option<Receives> {
    with(script.clone(), || get("wg0")).unwrap().receives
}

/// Two on one port: which sockets are whose does not show, unless it is so of all.
#[test]
fn a_neighbours_socket_is_not_blamed_and_proves_nothing() {
    const GONE: u32 = 77;
    let (state, _socket) = bound_by_hooks();
    let at = |own: u32, kernels: &[u32], process: &[u32]| {
        let mut now = state.borrow_mut();
        now.bound_to = own;
        let foreign = kernels.iter().map(|device| (*device, 0));
        now.beside = foreign.chain(process.iter().map(|dev| (*dev, 1))).collect();
        now.process = Some(1);
        drop(now);
        shown(&script(&state))
    };
    assert_eq!(at(8, &[], &[]), Some(Receives::Bound));
    for (own, kernels, processes, receives) in [
        // One of another VRF, one that is bound to nothing, one that lost its VRF.
        (8, &[9][..], &[][..], Receives::Unclear),
        (8, &[0], &[], Receives::Unclear),
        (0, &[8], &[], Receives::Unclear),
        (GONE, &[8], &[], Receives::Unclear),
        (GONE, &[9], &[], Receives::Nothing),
        // A process's are not the kernel's.
        (8, &[], &[9], Receives::Bound),
        (8, &[], &[GONE], Receives::Bound),
        (0, &[], &[8], Receives::Any),
        (GONE, &[], &[8], Receives::Nothing),
    ] {
        let said = at(own, kernels, processes);
        assert_eq!(said, Some(receives), "{own} {kernels:?} {processes:?}");
    }
}

/// wireguard-go has the port here of a device whose own sockets are in another namespace.
#[test]
fn a_process_does_not_make_a_device_bound() {
    let (state, _socket) = bound_by_hooks();
    // The one socket on the port is the process's.
    let inode = state.borrow().inode;
    state.borrow_mut().process = Some(inode);
    let script = script(&state);
    let device = with(script.clone(), || get("wg0")).unwrap();
    assert_eq!(device.receives, None);
    let elsewhere = |bind: &Bind| {
        matches!(
            bind,
            Bind::Rules {
                elsewhere: Some(true),
                ..
            }
        )
    };
    assert!(elsewhere(&device.bind), "{:?}", device.bind);
    // Nor is wg0 made again because of it, nor bound.
    let before = shape(&state);
    let (result, _) = set_on(&script, |update| update.bind_dev = red());
    let said = result.unwrap_err().to_string();
    assert!(said.contains("where it was created"), "{said}");
    assert_eq!(shape(&state), before);
}

/// The kernel and the hooks take a device by each of its names, and sockets tell of none.
#[test]
fn an_altname_binds_as_the_name_does() {
    let (state, _socket) = hooked();
    let bind = |update: &mut Update| update.bind_dev = Change::Set("crimson".to_owned());
    run_hooked(&state, ReceiveMode::Auto, bind).0.unwrap();
    let port = state.borrow().port;
    assert_eq!(entries(&state), [(port, "red".to_owned(), 7)]);
    for down in [false, true] {
        state.borrow_mut().down = down;
        assert_eq!(shown(&script(&state)), Some(Receives::Bound), "{down}");
    }
}

/// The index of a device that is gone may be that of any link now.
#[test]
fn only_a_tunnel_keeps_an_entry() {
    let state = kernel(|_| {});
    let entry = crate::model::HookEntry {
        vrf: "red".to_owned(),
        owner: 12,
        ..Default::default()
    };
    for (kind, unused) in [
        ("dummy", vec![51060]),
        ("", vec![51060]),
        ("wireguard", vec![]),
        // wireguard-go
        ("tun", vec![]),
    ] {
        let link = Link {
            index: 12,
            name: "any".to_owned(),
            altnames: Vec::new(),
            kind: kind.to_owned(),
            vrf_table: None,
            up: true,
        };
        let found = with(script(&state), || {
            receive::find_unused(&[(51060, entry.clone())], &[link])
        });
        assert_eq!(found, unused, "{kind}");
    }
}

/// A device that is down has no sockets: another one may have the port first.
#[test]
fn of_a_device_that_is_down_only_its_own_entry_counts() {
    let (state, socket) = bound_by_hooks();
    let port = state.borrow().port;
    state.borrow_mut().down = true;
    drop(socket);
    let said = || shown(&script(&state));
    assert_eq!(said(), Some(Receives::Bound));
    let change = |change: &dyn Fn(&mut crate::model::HookEntry)| {
        let hooks = Rc::clone(&state.borrow().hooks);
        let mut hooks = hooks.borrow_mut();
        let entry = hooks.entries.get_mut(&port).unwrap();
        let before = entry.clone();
        change(entry);
        before
    };
    let own = change(&|entry| entry.owner = 12);
    state.borrow_mut().others = vec![(12, "wg1", 0, port)];
    assert_eq!(said(), Some(Receives::Unclear));
    // No device has the index: it was that of wg0 before it was in another namespace.
    state.borrow_mut().others.clear();
    assert_eq!(said(), Some(Receives::Bound));
    // A VRF that exists has the old name, and one that does not.
    change(&|entry| (entry.owner, entry.vrf) = (7, "blue".to_owned()));
    assert_eq!(said(), Some(Receives::Other(vec!["blue".to_owned()])));
    change(&|entry| entry.vrf = "green".to_owned());
    assert_eq!(said(), Some(Receives::Nothing));
    // A command that unbinds it did not get to its end.
    change(&|entry| (entry.vrf, entry.leaving) = (String::new(), true));
    assert_eq!(said(), Some(Receives::Any));
    change(&|entry| *entry = own.clone());
    // Another socket has the port in its VRF, or everywhere: it will have none.
    for device in [8, 0] {
        state.borrow_mut().beside = vec![(device, 0)];
        assert_eq!(said(), Some(Receives::Unclear), "{device}");
    }
    state.borrow_mut().beside = vec![(9, 0)];
    assert_eq!(said(), Some(Receives::Bound));
    // Its VRF is gone.
    state.borrow_mut().no_red = true;
    assert_eq!(said(), Some(Receives::Nothing));
}

/// A device here is bound by the same mark as one that came from another namespace, where its
/// sockets are: the rules here do not hold that one.
#[test]
fn a_mark_that_is_bound_here_too_does_not_open_a_device_that_is_bound_elsewhere() {
    let home = kernel(|_| {});
    run(&home, red()).0.unwrap();
    let mark = home.borrow().mark;
    for down in [false, true] {
        // No socket is on its port here.
        let here = kernel(|_| {});
        run(&here, red()).0.unwrap();
        here.borrow_mut().down = down;
        (here.borrow_mut().port, here.borrow_mut().away) = (1, true);
        let omitted = Update {
            interface: "wg0".to_owned(),
            bind_dev: Change::Clear,
            bind_dev_omitted: true,
            fwmark: Change::Clear,
            ..Update::default()
        };
        let (result, notes) = run_update(&here, Some(&home), omitted, BindMode::Auto);
        result.unwrap();
        // While it is down nothing tells where it was made, and here it can be unbound.
        assert_eq!(here.borrow().mark, if down { 0 } else { mark }, "{notes:?}");
        assert_eq!(
            down,
            !notes.join("").contains("where it was made hold it"),
            "{notes:?}"
        );
    }
}

/// Rules of another namespace have its mark, and here none do.
#[test]
fn of_a_device_that_is_down_it_is_not_said_where_it_was_made() {
    let home = kernel(|_| {});
    run(&home, red()).0.unwrap();
    let mark = home.borrow().mark;
    let here = kernel(|state| (state.mark, state.port, state.down) = (mark, 1, true));
    let unbind = |omitted| Update {
        interface: "wg0".to_owned(),
        bind_dev: Change::Clear,
        bind_dev_omitted: omitted,
        fwmark: Change::Clear,
        ..Update::default()
    };
    let (result, _) = run_update(&here, Some(&home), unbind(false), BindMode::Auto);
    let said = result.unwrap_err().to_string();
    assert!(said.contains("ip link set wg0 up"), "{said}");
    let (result, notes) = run_update(&here, Some(&home), unbind(true), BindMode::Auto);
    result.unwrap();
    assert!(
        notes.join("").contains("nothing tells where it was made"),
        "{notes:?}"
    );
    assert_eq!(here.borrow().mark, mark);
}

/// Two that are up have the port, and one socket of a family is on it.
#[test]
fn with_fewer_sockets_than_devices_none_is_called_bound() {
    let (state, _socket) = bound_by_hooks();
    let port = state.borrow().port;
    state.borrow_mut().others.push((12, "wg1", 0, port));
    let device = || with(script(&state), || get("wg0")).unwrap();
    assert_eq!(device().receives, Some(Receives::Bound));
    state.borrow_mut().others_up = true;
    let device = device();
    assert_eq!(device.receives, Some(Receives::Unclear));
    let unknown = matches!(
        device.bind,
        Bind::Rules {
            elsewhere: None,
            ..
        }
    );
    assert!(unknown, "{:?}", device.bind);
    // On another port it is no rival.
    state.borrow_mut().others[0].3 = port ^ 1;
    assert_eq!(shown(&script(&state)), Some(Receives::Bound));
}

/// A device sends by the VRF that its sockets are on, or not at all, or it is bound to nothing.
fn check_consistent(state: &Rc<RefCell<State>>, red_mark: u32, what: &str) {
    let state = state.borrow();
    let hooks = state.hooks.borrow();
    let entry = hooks.entries.values().next();
    // Sockets of a device that is down are still to come.
    let sockets = match state.down {
        false => state.bound_to,
        true => entry.map_or(0, |entry| index_of(entry.vrf.as_bytes())),
    };
    match state.mark {
        CLOSED_MARK => assert!(state.is_stopped(CLOSED_MARK), "{what}"),
        mark if mark == red_mark => assert_eq!(sockets, 8, "{what}"),
        0 => assert_eq!(sockets, 0, "{what}"),
        _ => assert_eq!(sockets, 9, "{what}"),
    }
}

/// wg0 is bound to red, and the socket whose port the kernel will choose.
fn bound_with_a_spare_port() -> (Rc<RefCell<State>>, [std::net::UdpSocket; 2]) {
    let (state, socket) = bound_by_hooks();
    let (_, spare) = hooked();
    state.borrow_mut().chosen = spare.local_addr().unwrap().port();
    (state, [socket, spare])
}

/// Kills a command after each number of changes that the kernel takes, and the next one as well.
#[test]
fn a_kill_leaves_a_device_bound_or_closed() {
    let states: [fn(&mut State); 2] = [|_| {}, |state| state.down = true];
    for (bind_dev, prepare) in [
        (Change::Clear, states[0]),
        (Change::Clear, states[1]),
        (Change::Set("blue".to_owned()), states[0]),
    ] {
        let mut killed = 0;
        let blue = bind_dev != Change::Clear;
        let kills = |first| [1, 2, 3, 5, 8, 12].map(|second| (first, second));
        for (first, second) in (0..32).flat_map(kills) {
            let (state, _sockets) = bound_with_a_spare_port();
            state.borrow_mut().hooks_die_first = first >= 16;
            let first = first % 16;
            prepare(&mut state.borrow_mut());
            let red_mark = state.borrow().mark;
            let command = |lives| {
                forbid(&state, None);
                state.borrow_mut().lives = lives;
                let change = |update: &mut Update| update.bind_dev = bind_dev.clone();
                run_hooked(&state, ReceiveMode::Auto, change).0
            };
            for lives in [first, second] {
                let ended = command(Some(lives)).is_ok();
                let what = format!("{bind_dev:?}, {first}, {second}: {:?}", shape(&state));
                check_consistent(&state, red_mark, &what);
                killed += usize::from(!ended);
            }
            let what = format!("{bind_dev:?}, {first}, {second}: {:?}", shape(&state));
            command(None).unwrap_or_else(|error| panic!("{what}: {error}"));
            check_consistent(&state, red_mark, &what);
            let state = state.borrow();
            assert_eq!(state.mark != 0, blue, "{what}");
            assert_eq!(state.ours(2), if blue { 2 } else { 0 }, "{what}");
            let entries = state.hooks.borrow().entries.len();
            assert_eq!(entries, usize::from(blue), "{what}");
        }
        assert!(killed > 60, "{killed} kills");
    }
}

/// The link goes up while a command binds or unbinds: its sockets are where they belong at the end, and
/// nothing else is said of them.
#[test]
fn a_device_that_comes_up_meanwhile_is_bound_as_it_is_said() {
    for (bound, bind_dev, wanted) in [
        (false, red(), 8),
        (true, Change::Clear, 0),
        (true, Change::Set("blue".to_owned()), 9),
    ] {
        for moment in 0.. {
            let (state, _socket) = if bound { bound_by_hooks() } else { hooked() };
            (state.borrow_mut().down, state.borrow_mut().comes_up) = (true, Some(moment));
            let change = |update: &mut Update| update.bind_dev = bind_dev.clone();
            let (result, notes) = run_hooked(&state, ReceiveMode::Auto, change);
            let what = format!("{bind_dev:?} {moment}: {notes}");
            result.unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!(entries(&state).len(), usize::from(wanted != 0), "{what}");
            assert_eq!(notes.contains("only"), wanted != 0, "{what}");
            if state.borrow().down {
                assert!(moment > 20, "{what}");
                break;
            }
            assert_eq!(state.borrow().bound_to, wanted, "{what}");
        }
    }
}

/// The kernel refuses to close the device, or the hooks cannot be changed once it is.
#[test]
fn a_device_that_cannot_be_moved_stays_bound() {
    for (bind_dev, refused, silent) in [
        (Change::Clear, true, false),
        (Change::Set("blue".to_owned()), true, false),
        (Change::Clear, false, true),
    ] {
        let (state, _sockets) = bound_with_a_spare_port();
        let red_mark = state.borrow().mark;
        (
            state.borrow_mut().refuses_closed,
            state.borrow_mut().silent_when_closed,
        ) = (refused, silent);
        let before = (state.borrow().rules.clone(), entries(&state));
        let change = |update: &mut Update| update.bind_dev = bind_dev.clone();
        assert!(run_hooked(&state, ReceiveMode::Auto, change).0.is_err());
        assert_eq!(
            (state.borrow().mark, state.borrow().bound_to),
            (red_mark, 8)
        );
        assert_eq!((state.borrow().rules.clone(), entries(&state)), before);
    }
}

/// The device is told of peers that it does not take, while it is closed for another VRF.
#[test]
fn a_device_that_refuses_its_peers_stays_bound() {
    let blue = Change::Set("blue".to_owned());
    for receive in [ReceiveMode::Auto, ReceiveMode::Any] {
        for (to, port) in [
            (&blue, false),
            (&blue, true),
            (&Change::Clear, false),
            (&Change::Clear, true),
        ] {
            let (state, _sockets) = bound_with_a_spare_port();
            let (_, another) = hooked();
            let bind = |update: &mut Update| {
                update.bind_dev = red();
                update.fwmark = Change::Set(0x1234);
            };
            run_hooked(&state, receive, bind).0.unwrap();
            let before = (state.borrow().rules.clone(), entries(&state));
            let shape_before = shape(&state);
            state.borrow_mut().peers_errno = libc::EINVAL;
            let change = |update: &mut Update| {
                update.bind_dev = to.clone();
                update
                    .peers
                    .push(PeerUpdate::new(PublicKey::from_bytes([9; 32])));
                if port {
                    update.listen_port = Change::Set(another.local_addr().unwrap().port());
                }
            };
            let result = run_hooked(&state, receive, change).0;
            let what = format!("{receive:?} {to:?} {port}: {result:?}");
            assert!(result.is_err(), "{what}");
            assert_eq!(
                (state.borrow().rules.clone(), entries(&state)),
                before,
                "{what}"
            );
            let now = shape(&state);
            assert_eq!(
                (now.0, now.1, now.3),
                (shape_before.0, shape_before.1, shape_before.3),
                "{what}"
            );
        }
    }
}

/// A program that does not answer may take the port and the peers yet: it stays closed until the next command.
#[test]
fn a_device_that_may_change_yet_stays_closed() {
    for to in [Change::Set("blue".to_owned()), Change::Clear] {
        let (state, _sockets) = bound_with_a_spare_port();
        state.borrow_mut().peers_errno = libc::ETIMEDOUT;
        let change = |update: &mut Update| {
            update.bind_dev = to.clone();
            update
                .peers
                .push(PeerUpdate::new(PublicKey::from_bytes([9; 32])));
        };
        let (result, notes) = run_hooked(&state, ReceiveMode::Auto, change);
        assert!(result.is_err());
        assert!(notes.contains("sends nothing until"), "{notes}");
        assert_eq!(state.borrow().mark, CLOSED_MARK);
        assert!(state.borrow().is_stopped(CLOSED_MARK));
        state.borrow_mut().peers_errno = 0;
        run_hooked(&state, ReceiveMode::Auto, change).0.unwrap();
        assert!(!state.borrow().is_stopped(CLOSED_MARK));
        let mark = state.borrow().mark;
        assert_eq!(
            (mark == 0, mark == CLOSED_MARK),
            (to == Change::Clear, false)
        );
    }
}

/// How often `look` asks for what tells of a binding: rules and sockets. (In tests, the index of a name
/// takes the links.)
fn count_requests(state: &Rc<RefCell<State>>, look: impl FnOnce()) -> [usize; 2] {
    let asked = Rc::new(RefCell::new([0; 2]));
    let (counted, answering) = (Rc::clone(&asked), Rc::clone(state));
    let kernel = ScriptedKernel::saying(move |family, request| {
        let kinds = [RTM_GETRULE, SOCK_DIAG_BY_FAMILY];
        let kind = kinds.iter().position(|kind| *kind == u16_at(request, 4));
        if let Some(at) = kind.filter(|_| family != NlFamily::Generic) {
            counted.borrow_mut()[at] += 1;
        }
        answering.borrow_mut().answer(family, request)
    });
    let hooks = Rc::clone(&state.borrow().hooks);
    with(kernel.with_hooks(&hooks), look);
    *asked.borrow()
}

/// wg0 on a port that nobody else gets.
fn on_a_port() -> (Rc<RefCell<State>>, std::net::UdpSocket) {
    let socket = std::net::UdpSocket::bind(("0.0.0.0", 0)).unwrap();
    let port = socket.local_addr().unwrap().port();
    (kernel(|state| state.port = port), socket)
}

/// A dump that a monitor asks for again and again does not look at the binding.
#[test]
fn a_device_without_its_binding_takes_one_request() {
    let (state, socket) = on_a_port();
    let port = socket.local_addr().unwrap().port();
    run(&state, red()).0.unwrap();
    let asked = count_requests(&state, || {
        let device = get_unjudged("wg0").unwrap();
        assert_eq!((device.listen_port, device.bind), (port, Bind::Off));
    });
    assert_eq!(asked, [0, 0]);
}

#[test]
fn many_devices_take_one_dump_of_each_kind() {
    let (state, _socket) = on_a_port();
    run(&state, red()).0.unwrap();
    let show = |reader: Reader| {
        for _ in 0..20 {
            let device = reader.get("wg0").unwrap();
            assert!(matches!(device.bind, Bind::Rules { .. }));
            assert_eq!(device.receives, Some(Receives::Any));
        }
    };
    // One of a family.
    let asked = count_requests(&state, || show(Reader::prepare_reader(20)));
    assert_eq!(asked, [2, 2]);
    let alone = count_requests(&state, || show(Reader::default()));
    assert!(alone[0] == 2 && alone[1] >= 40, "{alone:?}");
}

/// The snapshot is older than the sockets of a port that it does not have.
#[test]
fn a_port_that_a_snapshot_does_not_have_is_looked_at() {
    let state = kernel(|state| state.port = 51820);
    with(script(&state), || {
        let snapshot = diag::Snapshot::keep_sockets();
        assert_eq!(diag::udp_sockets(51820).unwrap().len(), 2);
        state.borrow_mut().port = 51821;
        assert_eq!(diag::udp_sockets(51820).unwrap().len(), 2, "kept");
        assert_eq!(diag::udp_sockets(51821).unwrap().len(), 2);
        drop(snapshot);
        assert_eq!(diag::udp_sockets(51820).unwrap().len(), 0);
        let _snapshot = diag::Snapshot::keep_sockets();
        assert_eq!(diag::udp_sockets(51821).unwrap().len(), 2);
        // The next port is another one.
        assert_eq!(diag::udp_sockets(51820).unwrap().len(), 0);
    });
}

/// The rules that stop a device are gone, and the hooks still have it: it is bound, and not as it should
/// be. What showconf prints binds it again, and no other command takes the rest away.
#[test]
fn a_device_whose_rules_are_gone_is_still_bound_by_its_entry() {
    let (state, _socket) = bound_by_hooks();
    let is_ours = |rule: &Vec<u8>| priority(rule) == 97 || priority(rule) == 98;
    state.borrow_mut().rules.retain(|rule| !is_ours(rule));
    let device = with(script(&state), || get("wg0")).unwrap();
    let open = [Fault::NotSteered, Fault::NotClosed];
    let open = [Family::V4, Family::V6].map(|family| open.clone().map(|fault| (family, fault)));
    let Bind::Rules { dev, faults, .. } = &device.bind else {
        panic!("{:?}", device.bind);
    };
    assert_eq!(dev.as_deref(), Some("red"));
    assert_eq!(*faults, open.concat());
    assert!(device.bind.is_open());
    assert_eq!(crate::render::fields::bind_word(&device.bind), "off");
    assert_eq!(device.receives, Some(Receives::Bound));
    let before = shape(&state);
    let changes: [fn(&mut Update); 2] = [
        |update| update.listen_port = Change::Set(51077),
        |update| update.fwmark = Change::Set(5),
    ];
    for change in changes {
        let (result, _) = run_hooked(&state, ReceiveMode::Auto, change);
        let said = result.unwrap_err().to_string();
        assert!(said.contains("bound to red"), "{said}");
        assert_eq!(shape(&state), before);
    }
    let bind = |update: &mut Update| update.bind_dev = red();
    run_hooked(&state, ReceiveMode::Auto, bind).0.unwrap();
    assert_eq!(state.borrow().ours(2), 2);
}

/// A command that is killed between the entry and the mark leaves no device that sends by one VRF and
/// receives from the other: sockets that are made then receive nothing.
#[test]
fn a_rebind_tells_the_hooks_last() {
    // A device that is up: after the rules of the new VRF, before it is closed.
    let (up, _up_socket) = bound_by_hooks();
    up.borrow_mut().lives = Some(4);
    let to_blue = |update: &mut Update| update.bind_dev = Change::Set("blue".to_owned());
    run_hooked(&up, ReceiveMode::Auto, to_blue).0.unwrap_err();
    let sent = (up.borrow().mark, up.borrow().ours(2));
    assert_eq!(
        (sent, &entries(&up)[0].1),
        ((0x7700_0064, 4), &String::new())
    );

    let (state, _socket) = bound_by_hooks();
    {
        let mut state = state.borrow_mut();
        (state.down, state.lives) = (true, Some(0));
    }
    let rebind = |update: &mut Update| update.bind_dev = Change::Set("blue".to_owned());
    run_hooked(&state, ReceiveMode::Auto, rebind).0.unwrap_err();
    let port = state.borrow().port;
    assert_eq!(entries(&state), [(port, String::new(), 7)]);
    forbid(&state, None);
    state.borrow_mut().lives = None;
    run_hooked(&state, ReceiveMode::Auto, rebind).0.unwrap();
    assert_eq!(entries(&state), [(port, "blue".to_owned(), 7)]);
}

/// By one mark or port the rules of both VRFs stand side by side for a moment, the old ones first. A
/// command that is killed then leaves no device that receives from the new VRF and sends by the old one.
#[test]
fn a_rebind_by_one_mark_takes_the_old_rules_first() {
    let by_mark = |dev: &str, update: &mut Update| {
        update.fwmark = Change::Set(0x1234);
        update.bind_dev = Change::Set(dev.to_owned());
    };
    for down in [false, true] {
        let mut whole = false;
        for (lives, hooks_die_first) in (0..24).flat_map(|n| [(n, false), (n, true)]) {
            let (state, _socket) = hooked();
            let bind = |update: &mut Update| by_mark("red", update);
            run_hooked(&state, ReceiveMode::Auto, bind).0.unwrap();
            {
                let mut state = state.borrow_mut();
                (state.down, state.lives) = (down, Some(lives));
                state.hooks_die_first = hooks_die_first;
            }
            let rebind = |update: &mut Update| by_mark("blue", update);
            whole |= run_hooked(&state, ReceiveMode::Auto, rebind).0.is_ok();
            state.borrow_mut().lives = None;
            forbid(&state, None);
            let device = with(script(&state), || get("wg0")).unwrap();
            let apart = matches!(device.receives, Some(Receives::Other(_)));
            let closed = device.fwmark == CLOSED_MARK;
            assert!(closed || !apart, "down {down}, {lives}: {device:?}");
        }
        assert!(whole, "no command got to its end");
    }
}

/// Where its rules or sockets move while its mark stays, a device learns of new peers while it is closed:
/// it would call them by the VRF that it leaves.
#[test]
fn new_peers_are_not_called_by_the_old_vrf() {
    let new_peer = || PeerUpdate::new(PublicKey::from_bytes([9; 32]));
    let blue = Change::Set("blue".to_owned());
    for receive in [ReceiveMode::Auto, ReceiveMode::Any] {
        for (mark, to, port) in [
            (0, blue.clone(), false),
            (0, Change::Clear, false),
            (0x1234, blue.clone(), false),
            (0x1234, blue.clone(), true),
            (0x1234, Change::Clear, false),
            (0x1234, Change::Clear, true),
        ] {
            let (state, _sockets) = bound_with_a_spare_port();
            let (_, another) = hooked();
            let bind = |update: &mut Update| {
                update.bind_dev = red();
                if mark != 0 {
                    update.fwmark = Change::Set(mark);
                }
            };
            run_hooked(&state, receive, bind).0.unwrap();
            state.borrow_mut().told_of_peers.clear();
            let change = |update: &mut Update| {
                update.bind_dev = to.clone();
                update.peers.push(new_peer());
                if port {
                    update.listen_port = Change::Set(another.local_addr().unwrap().port());
                }
            };
            run_hooked(&state, receive, change).0.unwrap();
            let state = state.borrow();
            let told = &state.told_of_peers[..];
            let what = format!("{receive:?} {mark:#x} {to:?} {port} {told:x?}");
            let [(mark_then, led)] = told else {
                panic!("{what}")
            };
            let closed = *mark_then == CLOSED_MARK;
            assert!(closed || led.first() != Some(&100), "{what}");
            assert_ne!(state.mark, CLOSED_MARK, "{what}");
            let led = state.led_to(state.mark);
            let goes_to = (to != Change::Clear).then_some(200);
            assert_eq!(led.first().copied(), goes_to, "{what}");
        }
    }
}

/// A kernel may keep a route until it is told a mark: also where mark and port stay as they are.
#[test]
fn a_mark_is_told_after_the_rules() {
    let bind = |update: &mut Update, dev: &str| update.bind_dev = Change::Set(dev.to_owned());
    let state = kernel(|state| state.mark = 0x1234);
    for (dev, again) in [("red", false), ("red", true), ("blue", false)] {
        let sets = state.borrow().sets;
        run_hooked(&state, ReceiveMode::Any, |update| bind(update, dev))
            .0
            .unwrap();
        let state = state.borrow();
        let told = (state.ours_at_set.last(), state.mark_at_set.last());
        match again {
            false => assert_eq!(told, (Some(&4), Some(&true)), "{dev}"),
            // Nothing was changed.
            true => assert!(state.sets <= sets + 1),
        }
        assert_eq!(state.mark, 0x1234);
    }
}

/// A command was killed while the device was closed, and somebody removed the rules since.
#[test]
fn a_closed_device_without_rules_gets_no_other_port() {
    let (state, _socket) = bound_by_hooks();
    let mark = state.borrow().mark;
    let rules = std::mem::take(&mut state.borrow_mut().rules);
    let stock: Vec<Vec<u8>> = rules
        .iter()
        .filter(|rule| ![97, 98].contains(&priority(rule)))
        .cloned()
        .collect();
    state.borrow_mut().rules = stock;
    state.borrow_mut().mark = CLOSED_MARK;
    let moving = |update: &mut Update| update.listen_port = Change::Set(51009);
    let said = run_hooked(&state, ReceiveMode::Auto, moving).0.unwrap_err();
    assert!(said.to_string().contains("ended half way"), "{said}");
    assert_eq!(state.borrow().mark, CLOSED_MARK);
    // With its rules it gets its mark back.
    state.borrow_mut().rules = rules;
    run_hooked(&state, ReceiveMode::Auto, moving).0.unwrap();
    assert_eq!(
        (
            state.borrow().mark,
            state.borrow().port,
            state.borrow().bound_to
        ),
        (mark, 51009, 8)
    );
}

/// The tree of the hooks may be mounted where this process does not see it: sockets that are bound tell.
#[test]
fn bound_sockets_count_where_the_hooks_are_out_of_sight() {
    for reason in [bpf::Unavailable::NoCgroup2, bpf::Unavailable::Container] {
        let (state, _socket) = bound_by_hooks();
        {
            let mut state = state.borrow_mut();
            state
                .rules
                .retain(|rule| ![97, 98].contains(&priority(rule)));
            state.mark = 0x1234;
        }
        forbid(&state, Some(reason));
        let unbind = |update: &mut Update| update.bind_dev = Change::Clear;
        let said = run_hooked(&state, ReceiveMode::Auto, unbind).0.unwrap_err();
        assert!(said.to_string().contains("bound to red"), "{said}");
        assert_eq!(state.borrow().bound_to, 8);
    }
}

/// Rules of the namespace where it was made hold a device that is down; here it would get another mark.
#[test]
fn a_device_that_is_bound_elsewhere_is_not_bound_here() {
    let home = kernel(|_| {});
    run(&home, red()).0.unwrap();
    let mark = home.borrow().mark;
    home.borrow_mut().mark = 0;
    let here = kernel(|state| (state.mark, state.down) = (mark, true));
    let bind = Change::Set("blue".to_owned());
    let said = run_beside(&here, Some(&home), bind.clone()).0;
    let said = said.unwrap_err().to_string();
    assert!(said.contains("set it up first"), "{said}");
    assert_eq!(here.borrow().mark, mark);
    // It is up, and its sockets are not here.
    {
        let mut here = here.borrow_mut();
        (here.down, here.away, here.port) = (false, true, 1);
    }
    let said = run_beside(&here, Some(&home), bind.clone()).0;
    let said = said.unwrap_err().to_string();
    assert!(said.contains("unbind it there"), "{said}");
    {
        let mut here = here.borrow_mut();
        (here.down, here.away, here.port) = (true, false, 0);
    }
    // There a device has this mark for a VRF of its own.
    home.borrow_mut().mark = mark;
    run_beside(&here, Some(&home), bind).0.unwrap();
}

/// The device was made at `home`, where another one is bound, and moved here. It does not get the port
/// by which that one is bound.
#[test]
fn a_moved_device_does_not_get_a_port_that_its_home_has_bound() {
    let (home, _socket) = bound_by_hooks();
    let port = home.borrow().port;
    let mark = home.borrow().mark;
    let here = kernel(|state| (state.port, state.away) = (1, true));
    let give = |change: fn(&mut Update, u16, u32)| {
        let mut update = Update {
            interface: "wg0".to_owned(),
            ..Update::default()
        };
        change(&mut update, port, mark);
        let (result, notes) = run_update(&here, Some(&home), update, BindMode::Auto);
        (result.map_err(|error| error.to_string()), notes.join("\n"))
    };
    // Its own sockets are on port 1 there.
    let other = Rc::clone(&home.borrow().hooks);
    let there = other.borrow().entries[&port].clone();
    other.borrow_mut().entries.insert(1, there);
    let said = give(|update, port, _| update.listen_port = Change::Set(port)).0;
    assert!(said.is_ok(), "no socket of its own is there: {said:?}");
    here.borrow_mut().port = 1;
    home.borrow_mut().port = 1;
    let said = give(|update, port, _| update.listen_port = Change::Set(port)).0;
    assert!(said.unwrap_err().contains("where wg0 was made"));
    assert_eq!(here.borrow().port, 1);
    // By the mark it would send by the VRF, and receive from everywhere: it is said.
    let (result, notes) = give(|update, _, mark| update.fwmark = Change::Set(mark));
    result.unwrap();
    assert!(notes.contains("bound to a VRF by fwmark"), "{notes}");
    assert_eq!(here.borrow().mark, mark);
    // A port that nobody there has.
    here.borrow_mut().mark = 0;
    let (result, notes) = give(|update, port, _| update.listen_port = Change::Set(port ^ 1));
    result.unwrap();
    assert_eq!(notes, "");
}

/// A device that was bound at `home` and moved here, where wg9 has its port and is up: the one socket on
/// the port is wg9's, and does not make the moved one a device of this namespace.
#[test]
fn a_neighbours_socket_does_not_open_a_device_that_is_bound_elsewhere() {
    let (home, _socket) = bound_by_hooks();
    let port = home.borrow().port;
    let mark = mem::take(&mut home.borrow_mut().mark);
    let beside = || {
        kernel(|state| {
            (state.mark, state.port, state.away) = (mark, port, true);
            state.others.push((12, "wg9", 0, port));
            (state.others_up, state.beside) = (true, vec![(0, 12)]);
        })
    };
    let omitted = |update: &mut Update| {
        update.bind_dev = Change::Clear;
        update.bind_dev_omitted = true;
        update.fwmark = Change::Clear;
    };
    let changes: [fn(&mut Update); 4] = [
        omitted,
        |update| update.fwmark = Change::Clear,
        |update| update.fwmark = Change::Set(5),
        |update| update.bind_dev = red(),
    ];
    for (change, works) in changes.into_iter().zip([true, true, false, false]) {
        let here = beside();
        let script = script(&here).beside(Some(script(&home)));
        let (result, notes) = set_on(&script, change);
        assert_eq!(result.is_ok(), works, "{result:?} {notes}");
        let said = result.map_or_else(|error| error.to_string(), |()| notes);
        assert!(said.contains("another interface has its port"), "{said}");
        assert_eq!(here.borrow().mark, mark, "{said}");
    }
    // The rules for its mark may be wg9's as well.
    let here = beside();
    run_hooked(&here, ReceiveMode::Any, |update| {
        update.bind_dev = red();
        update.listen_port = Change::Set(port ^ 1);
    })
    .0
    .unwrap();
    assert_eq!((here.borrow().mark, here.borrow().ours(2)), (mark, 2));
    here.borrow_mut().port = port;
    here.borrow_mut().others[0].2 = mark;
    let kernel = script(&here).beside(Some(script(&home)));
    let (result, notes) = set_on(&kernel, omitted);
    result.unwrap();
    assert!(notes.contains("another interface has its port"), "{notes}");
    assert_eq!(here.borrow().mark, mark);
    // Nor does it get a port that its home has bound.
    let entry = home.borrow().hooks.borrow().entries[&port].clone();
    let hooks = Rc::clone(&home.borrow().hooks);
    hooks.borrow_mut().entries.insert(51009, entry);
    let here = beside();
    here.borrow_mut().mark = 0;
    let script = script(&here).beside(Some(script(&home)));
    let give = |to| set_on(&script, |update| update.listen_port = Change::Set(to)).0;
    let said = give(51009).unwrap_err().to_string();
    assert!(said.contains("may have been made"), "{said}");
    assert_eq!(here.borrow().port, port);
    give(51010).unwrap();
    // With a socket for each it is a device of this namespace.
    let here = beside();
    here.borrow_mut().away = false;
    let own = self::script(&here).beside(Some(self::script(&home)));
    set_on(&own, |update| update.fwmark = Change::Clear)
        .0
        .unwrap();
    assert_eq!(here.borrow().mark, 0);
}

/// wg0 is bound to nothing and was moved. Rules that go by its port hold it in the namespace where its
/// socket is, and not in another one that has such a port as well.
#[test]
fn rules_by_a_port_count_where_the_socket_may_be() {
    // Whose the socket is does not show, so that one of a device there counts as well.
    for (down, contested, works) in [
        (true, false, true),
        (false, false, false),
        (true, true, true),
        (false, true, false),
    ] {
        let (there, _socket) = on_a_port();
        let port = there.borrow().port;
        let bind = Update {
            interface: "wg0".to_owned(),
            bind_dev: red(),
            ..Update::default()
        };
        run_update(&there, None, bind, BindMode::Port).0.unwrap();
        there.borrow_mut().down = down;
        let here = kernel(|state| (state.port, state.away) = (port, true));
        if contested {
            let mut here = here.borrow_mut();
            here.others.push((12, "wg9", 0, port));
            (here.others_up, here.beside) = (true, vec![(0, 12)]);
        }
        let script = script(&here).beside(Some(script(&there)));
        let (result, notes) = set_on(&script, |update| {
            update.listen_port = Change::Set(port ^ 1);
        });
        assert_eq!(result.is_ok(), works, "{result:?} {notes}");
    }
}

/// A program's device was moved away from its program. While it is down the program has no sockets, and
/// nothing tells where they will be.
#[test]
fn a_programs_device_that_is_down_elsewhere_has_no_sockets_elsewhere() {
    let (state, _socket) = on_a_port();
    run(&state, red()).0.unwrap();
    state.borrow_mut().away = true;
    let device = Device {
        name: "wg7".to_owned(),
        ..with(script(&state), || get_unjudged("wg0")).unwrap()
    };
    for (down, tun, elsewhere) in [
        (true, true, None),
        (false, true, Some(true)),
        // Another device has its name there.
        (true, false, Some(true)),
    ] {
        let there = kernel(|state| {
            state.others.push((12, "wg7", 0, 0));
            (state.others_up, state.others_are_tuns) = (!down, tun);
        });
        let bind = with(script(&state).beside(Some(script(&there))), || {
            let task = || Task::Other(String::new());
            let (rules, links) = (read_rules(task()).unwrap(), read_links(task()).unwrap());
            let binding = rules.find_binding(device.fwmark, device.listen_port);
            rules_bind(&device, &rules, binding.unwrap(), &links, &[])
        });
        let Bind::Rules {
            elsewhere: said, ..
        } = bind
        else {
            panic!("{bind:?}");
        };
        assert_eq!(said, elsewhere, "{down} {tun}");
    }
}

/// `wg doctor` looks at a neighbour's socket as `wg show` does.
#[test]
fn a_neighbours_socket_is_not_taken_for_a_devices_own_by_doctor() {
    let (state, _socket) = bound_by_hooks();
    let port = state.borrow().port;
    state.borrow_mut().others.push((12, "wg9", 0, port));
    for (up, away, beside, elsewhere) in [
        (false, false, vec![], Some(false)),
        (false, true, vec![], Some(true)),
        (true, false, vec![(0, 12)], Some(false)),
        (true, true, vec![(0, 12)], None),
    ] {
        {
            let mut state = state.borrow_mut();
            (state.others_up, state.away, state.beside) = (up, away, beside);
        }
        let facts = with(script(&state), || read_namespace(None)).unwrap();
        let wg0 = facts.devices.iter().find(|one| one.device.name == "wg0");
        assert_eq!(wg0.unwrap().elsewhere, elsewhere, "{up} {away}");
    }
}

/// On a kernel whose programs bind every socket on a port, wg0 was bound with that accepted. Another tool
/// moved it to another port, where its sockets are not bound: to bind it again helps, as for any change of
/// a device that has an entry.
#[test]
fn hooks_that_serve_a_device_with_an_entry_are_not_denied() {
    let (state, _socket) = hooked();
    let hooks = Rc::clone(&state.borrow().hooks);
    hooks.borrow_mut().all_sockets = true;
    let version = || {
        let mut text = Vec::new();
        let printed = with(script(&state), || {
            crate::cmd::version::print_all("", &mut text)
        });
        printed.unwrap();
        String::from_utf8(text).unwrap()
    };
    let text = version();
    assert!(text.contains("sockets: not bound, rules only"), "{text}");
    let bind = |update: &mut Update| update.bind_dev = red();
    let (result, notes) = run_hooked(&state, ReceiveMode::Bound, bind);
    result.unwrap();
    assert!(notes.contains("receives from red only"), "{notes}");
    let text = version();
    assert!(text.contains("sockets: bound by a BPF program"), "{text}");
    assert!(text.contains("WG_BIND_DEV_RECEIVE=bound"), "{text}");

    let spare = std::net::UdpSocket::bind(("0.0.0.0", 0)).unwrap();
    let port = spare.local_addr().unwrap().port();
    (state.borrow_mut().port, state.borrow_mut().bound_to) = (port, 0);
    let facts = with(script(&state), || read_namespace(None)).unwrap();
    assert!(facts.hooks.unable.is_some());
    assert_eq!(facts.hooks.unable_again, None);
    let update = Update {
        interface: "wg0".to_owned(),
        bind_dev: red(),
        ..Update::default()
    };
    let means = with(script(&state), || {
        let now = get("wg0").unwrap();
        assert_eq!(now.receives, Some(Receives::Any));
        foresee_update(&now, &update, BindMode::Auto, ReceiveMode::Auto)
    });
    assert!(means.unwrap().binds_sockets);
    let (result, notes) = run_hooked(&state, ReceiveMode::Auto, bind);
    result.unwrap();
    assert!(notes.contains("receives from red only"), "{notes}");
    assert_eq!(state.borrow().bound_to, 8);
}

/// A file without ListenPort leaves the port whose sockets are bound, also where rules go by ports: the
/// kernel is not let choose one of theirs.
#[test]
fn a_bound_port_stays_beside_rules_that_go_by_a_port() {
    let (state, _socket) = bound_by_hooks();
    let (port, mark) = (state.borrow().port, state.borrow().mark);
    let neighbour = port ^ 1;
    state.borrow_mut().others.push((12, "wg9", 0, neighbour));
    let pair = [(97, Action::Table(200)), (98, Action::Unreachable)];
    let pair = pair.map(|(pref, action)| Rule::new_ours(pref, Selector::Port(neighbour), action));
    let added = with(script(&state), || {
        let mut routing = Routing::open().unwrap();
        let rules = routing.read_rules().unwrap();
        routing.add_rules(&pair.map(|rule| (Family::V4, rule)), &rules)
    });
    added.unwrap();
    let reload = |update: &mut Update| {
        update.bind_dev = red();
        (update.fwmark, update.listen_port) = (Change::Clear, Change::Clear);
    };
    let mut update = Update {
        interface: "wg0".to_owned(),
        ..Update::default()
    };
    reload(&mut update);
    let foreseen = with(script(&state), || {
        let now = get("wg0").unwrap();
        let means = foresee_update(&now, &update, BindMode::Auto, ReceiveMode::Auto).unwrap();
        crate::plan::changes::find_differences(&now, &update, &means)
    });
    assert_eq!(foreseen, []);
    let (result, notes) = run_hooked(&state, ReceiveMode::Auto, reload);
    result.unwrap();
    assert_eq!((state.borrow().port, state.borrow().mark), (port, mark));
    assert!(notes.contains("receives from red only"), "{notes}");
    // The sockets on a port that stays have to be its own.
    {
        let mut state = state.borrow_mut();
        state.others.push((13, "wg8", 0, port));
        state.others_up = true;
    }
    let said = run_hooked(&state, ReceiveMode::Auto, reload).0.unwrap_err();
    assert!(said.to_string().contains("fewer sockets"), "{said}");
    state.borrow_mut().others.pop();
    // Without the hooks it gets another one, and not the neighbour's.
    run_hooked(&state, ReceiveMode::Any, reload).0.unwrap();
    assert!(![port, neighbour, 0].contains(&state.borrow().port));
}

/// `wg doctor` names a command that removes the entry of a device that is gone. It does so of a device
/// whose binding it does not touch, too.
#[test]
fn each_change_removes_the_entry_of_a_device_that_is_gone() {
    let stale = |state: &Rc<RefCell<State>>| {
        let entry = crate::model::HookEntry {
            vrf: "red".to_owned(),
            owner: 33,
            ..Default::default()
        };
        let hooks = Rc::clone(&state.borrow().hooks);
        hooks.borrow_mut().entries.insert(51007, entry);
        let facts = with(script(state), || read_namespace(None)).unwrap();
        assert_eq!(facts.hooks.stale, [51007]);
    };
    let is_left = |state: &Rc<RefCell<State>>| {
        let entries = entries(state);
        entries.iter().any(|(port, ..)| *port == 51007)
    };
    // As doctor has it: the port that the device has.
    let again = |state: &Rc<RefCell<State>>, home: Option<ScriptedKernel>| {
        let port = state.borrow().port;
        set_on(&script(state).beside(home), |update| {
            update.listen_port = Change::Set(port);
        })
    };
    let (home, _socket) = bound_by_hooks();
    let mark = home.borrow().mark;
    let moved = kernel(|state| (state.mark, state.port, state.away) = (mark, 1, true));
    stale(&moved);
    again(&moved, Some(script(&home))).0.unwrap();
    assert!(!is_left(&moved), "of one that is bound elsewhere");

    let (half, _half_socket) = bound_by_hooks();
    let is_ours = |rule: &Vec<u8>| priority(rule) == 97 || priority(rule) == 98;
    half.borrow_mut().rules.retain(|rule| !is_ours(rule));
    stale(&half);
    assert!(again(&half, None).0.is_err());
    assert!(!is_left(&half), "of one that is half bound");
}

/// The rules and the entry of a binding go by a mark that another tool took away: with it the device is
/// bound again.
#[test]
fn a_mark_that_comes_back_binds_again() {
    let (state, _socket) = bound_by_hooks();
    let mark = mem::take(&mut state.borrow_mut().mark);
    let set = |to: u32| {
        run_hooked(&state, ReceiveMode::Auto, |update| {
            update.fwmark = Change::Set(to);
        })
    };
    let said = set(5).0.unwrap_err().to_string();
    assert!(said.contains("bound to red"), "{said}");
    set(mark).0.unwrap();
    let device = with(script(&state), || get("wg0")).unwrap();
    assert!(!device.bind.is_open(), "{:?}", device.bind);
    assert_eq!(device.receives, Some(Receives::Bound));
}

/// The hooks cannot be told at the end of a rebind. The device sends by the new VRF; what sent by the old
/// one does not stay.
#[test]
fn a_rebind_that_cannot_tell_the_hooks_leaves_no_rules() {
    let (state, _socket) = bound_by_hooks();
    {
        let mut state = state.borrow_mut();
        (state.down, state.silent_after_set) = (true, true);
    }
    let rebind = |update: &mut Update| update.bind_dev = Change::Set("blue".to_owned());
    run_hooked(&state, ReceiveMode::Auto, rebind).0.unwrap_err();
    assert_eq!(state.borrow().ours(2), 2);
    assert_eq!(entries(&state)[0].1, "");
}

/// Two devices that are down have one port, and one is unbound: the entry of the other one will bind it.
#[test]
fn an_unbound_device_is_told_of_the_entry_for_its_port() {
    let (state, _socket) = bound_by_hooks();
    let (mark, port) = (state.borrow().mark, state.borrow().port);
    {
        let mut state = state.borrow_mut();
        state.others = vec![(5, "wg5", mark, port)];
        state.down = true;
    }
    let unbind = |update: &mut Update| update.bind_dev = Change::Clear;
    let (result, notes) = run_hooked(&state, ReceiveMode::Auto, unbind);
    result.unwrap();
    assert!(notes.contains("wg0: wg5 has port"), "{notes}");
    assert!(notes.contains("stay: wg5 has it, too"), "{notes}");
    assert_eq!(entries(&state), [(port, "red".to_owned(), 5)]);
}

/// Without socket diagnosis the entry tells where the sockets are: they leave the VRF with the rules.
#[test]
fn sockets_that_cannot_be_seen_leave_the_vrf_too() {
    let (state, _socket) = bound_by_hooks();
    state.borrow_mut().diag_errno = libc::ENOENT;
    let to_blue = |update: &mut Update| update.bind_dev = Change::Set("blue".to_owned());
    run_hooked(&state, ReceiveMode::Auto, to_blue).0.unwrap();
    assert_eq!(state.borrow().bound_to, 9);
    let unbind = |update: &mut Update| update.bind_dev = Change::Clear;
    run_hooked(&state, ReceiveMode::Auto, unbind).0.unwrap();
    assert_eq!((state.borrow().mark, state.borrow().ours(2)), (0, 0));
    assert_eq!(state.borrow().bound_to, 0);
    assert_eq!(entries(&state), []);
    // Of those that could not be made again nothing is changed before.
    let (state, _socket) = bound_by_hooks();
    state.borrow_mut().diag_errno = libc::ENOENT;
    state.borrow_mut().refuses_closed = true;
    let before = shape(&state);
    run_hooked(&state, ReceiveMode::Auto, unbind).0.unwrap_err();
    assert_eq!((shape(&state).0, shape(&state).3), (before.0, before.3));
}

/// A socket that is not bound has the port, or one that is bound to the same VRF.
#[test]
fn a_port_that_is_taken_is_said_with_the_binding() {
    for (device, taken) in [(0, true), (8, true), (9, false)] {
        let (state, _socket) = hooked();
        {
            let mut state = state.borrow_mut();
            (state.down, state.beside) = (true, vec![(device, 77)]);
        }
        let bind = |update: &mut Update| update.bind_dev = red();
        let (result, notes) = run_hooked(&state, ReceiveMode::Auto, bind);
        result.unwrap();
        let said = notes.contains("will fail (Address already in use)");
        assert_eq!(said, taken, "{device}: {notes}");
    }
}

/// Rules with priority 0 take the closed mark before a rule of ours could: the device stays as it is.
#[test]
fn a_device_that_cannot_be_closed_is_not_moved() {
    let (state, _socket) = bound_by_hooks();
    let before = shape(&state);
    // from all fwmark 0x78000000 lookup main, behind the pair's and before any place that is left.
    let mut first = rule(2, 0, 254, false);
    first.extend(attribute(10, &CLOSED_MARK.to_ne_bytes()));
    state.borrow_mut().rules.insert(0, first);
    let unbind = |update: &mut Update| update.bind_dev = Change::Clear;
    let said = run_hooked(&state, ReceiveMode::Auto, unbind).0;
    let said = said.unwrap_err().to_string();
    assert!(said.contains("could not be closed"), "{said}");
    let now = shape(&state);
    assert_eq!((now.0, now.1, now.3), (before.0, before.1, before.3));
    assert_eq!(now.4, before.4, "it was told something");
    assert_eq!(entries(&state)[0].1, "red");
    // One that is down has nothing to close.
    state.borrow_mut().down = true;
    run_hooked(&state, ReceiveMode::Auto, unbind).0.unwrap();
    assert_eq!(state.borrow().mark, 0);
}

/// Another tool removed the rules: the mark goes with the binding all the same. The next device would
/// get it, and steer this one.
#[test]
fn our_mark_does_not_outlive_its_rules() {
    for patched in [false, true] {
        let state = kernel(|state| state.patched = patched);
        run(&state, red()).0.unwrap();
        assert_ne!(state.borrow().mark, 0);
        let is_ours = |rule: &Vec<u8>| priority(rule) == 97 || priority(rule) == 98;
        state.borrow_mut().rules.retain(|rule| !is_ours(rule));
        let update = Update {
            interface: "wg0".to_owned(),
            bind_dev: if patched { red() } else { Change::Clear },
            ..Update::default()
        };
        let (result, _) = run_update(&state, None, update, BindMode::Auto);
        result.unwrap();
        assert_eq!(state.borrow().mark, 0, "{patched}");
    }
    // In a container nothing tells whether rules of the host go by it.
    let state = kernel(|state| (state.mark, state.down) = (0x7700_0064, true));
    let update = Update {
        interface: "wg0".to_owned(),
        bind_dev: Change::Clear,
        ..Update::default()
    };
    let kernel = script(&state).in_container();
    let mut note = |_: &str| {};
    with(kernel, || {
        set(update, BindMode::Auto, ReceiveMode::Any, &mut note)
    })
    .unwrap();
    assert_eq!(state.borrow().mark, 0x7700_0064);
}

/// Changes the entry for the port of wg0.
fn change_entry(state: &Rc<RefCell<State>>, change: impl FnOnce(&mut crate::model::HookEntry)) {
    let port = state.borrow().port;
    let hooks = Rc::clone(&state.borrow().hooks);
    let mut hooks = hooks.borrow_mut();
    change(hooks.entries.entry(port).or_default());
}

/// wg1 is bound to red, with the one socket on the port. wg0 came from another namespace, where its
/// sockets are, and nobody bound it: a file without BindDev does not take that socket for its own.
#[test]
fn a_reload_of_a_moved_device_leaves_its_neighbour_bound() {
    let (state, _socket) = bound_by_hooks();
    let port = state.borrow().port;
    {
        let mut state = state.borrow_mut();
        let mark = mem::take(&mut state.mark);
        (state.others, state.others_up) = (vec![(12, "wg1", mark, port)], true);
        (state.away, state.beside) = (true, vec![(8, 77)]);
    }
    change_entry(&state, |entry| entry.owner = 12);
    let sets = state.borrow().sets;
    let (result, notes) = run_hooked(&state, ReceiveMode::Auto, |update| {
        (update.bind_dev, update.bind_dev_omitted) = (Change::Clear, true);
        (update.fwmark, update.listen_port) = (Change::Clear, Change::Set(port));
    });
    result.unwrap();
    assert_eq!(entries(&state), [(port, "red".to_owned(), 12)], "{notes}");
    let state = state.borrow();
    assert_eq!((state.port, state.mark, state.sets), (port, 0, sets + 1));
}

/// Two that shared a port in two VRFs left an entry for neither. The one that made it is gone: the
/// socket that is there is that of the other one, which inherits the port.
#[test]
fn the_survivor_on_a_shared_port_gets_its_entry() {
    let (state, _socket) = bound_by_hooks();
    let port = state.borrow().port;
    let of_nobody = (port, String::new(), 12);
    change_entry(&state, |entry| {
        (entry.vrf, entry.owner) = (String::new(), 12)
    });
    // Another socket there is bound as well: perhaps that of one that was made here and moved.
    state.borrow_mut().beside = vec![(9, 77)];
    with(script(&state), receive::sweep_entries);
    assert_eq!(entries(&state), [of_nobody]);
    state.borrow_mut().beside.clear();
    with(script(&state), receive::sweep_entries);
    assert_eq!(entries(&state), [(port, "red".to_owned(), 7)]);
}

/// The VRF is gone: whoever inherits the port waits for it.
#[test]
fn a_port_is_inherited_while_the_vrf_is_missing() {
    let (state, _socket) = bound_by_hooks();
    let (mark, port) = (state.borrow().mark, state.borrow().port);
    {
        let mut state = state.borrow_mut();
        state.others = vec![(5, "wg5", mark, port)];
        (state.down, state.no_red) = (true, true);
    }
    let unbind = |update: &mut Update| update.bind_dev = Change::Clear;
    let (result, notes) = run_hooked(&state, ReceiveMode::Auto, unbind);
    result.unwrap();
    assert_eq!(entries(&state), [(port, "red".to_owned(), 5)], "{notes}");
}

/// The port of a moved device is nobody's after the first bind, and after each one that follows.
#[test]
fn a_second_bind_does_not_take_the_port_of_a_moved_device() {
    let (state, script) = beside_a_moved_one(true);
    state.borrow_mut().down = true;
    for port in [Change::Set(51009), Change::Keep] {
        let (result, notes) = set_on(&script, |update| {
            update.bind_dev = Change::Set("blue".to_owned());
            update.listen_port = port;
        });
        result.unwrap();
        assert_eq!(entries(&state), [(51009, String::new(), 7)]);
        assert!(notes.contains("receives nothing until"), "{notes}");
    }
}

/// Rules for a mark, as a binding to the VRF with this table has them.
fn add_pair(script: &ScriptedKernel, mark: u32, table: u32) {
    let pair = [(97, Action::Table(table)), (98, Action::Unreachable)];
    let pair = pair.map(|(pref, action)| Rule::new_ours(pref, Selector::Mark(mark), action));
    let added = with(script.clone(), || {
        let mut routing = Routing::open().unwrap();
        let rules = routing.read_rules().unwrap();
        routing.add_rules(&pair.map(|rule| (Family::V4, rule)), &rules)
    });
    added.unwrap();
}

/// wg1 is bound to red, and its entry binds whoever has the port.
#[test]
fn an_entry_of_a_neighbour_is_said_to_a_device_that_wants_none() {
    let blue = |update: &mut Update| update.bind_dev = Change::Set("blue".to_owned());
    let (state, _socket) = bound_by_hooks();
    let port = state.borrow().port;
    {
        let mut state = state.borrow_mut();
        let mark = mem::take(&mut state.mark);
        state.others = vec![(12, "wg1", mark, port)];
        state.down = true;
    }
    change_entry(&state, |entry| entry.owner = 12);
    let (result, notes) = run_hooked(&state, ReceiveMode::Any, blue);
    result.unwrap();
    assert!(notes.contains("bind its sockets to red"), "{notes}");
    assert!(!notes.contains("receives from everywhere"), "{notes}");
    assert_eq!(entries(&state), [(port, "red".to_owned(), 12)]);
    // Its own entry goes to wg1.
    change_entry(&state, |entry| {
        (entry.owner, entry.vrf) = (7, "green".to_owned())
    });
    let (result, notes) = run_hooked(&state, ReceiveMode::Any, blue);
    result.unwrap();
    assert!(notes.contains("bind its sockets to red"), "{notes}");
    assert_eq!(entries(&state), [(port, "red".to_owned(), 12)]);
    // An entry for the VRF that it is bound to does no harm.
    let (result, notes) = run_hooked(&state, ReceiveMode::Any, |update| update.bind_dev = red());
    result.unwrap();
    assert!(!notes.contains("bind its sockets"), "{notes}");
}

/// Nobody may look at the hooks, and the device was bound to red before.
#[test]
fn of_an_entry_that_cannot_be_read_a_bind_says_so() {
    for (before, seen) in [(red(), false), (Change::Keep, true)] {
        let (state, _socket) = hooked();
        state.borrow_mut().down = true;
        if before != Change::Keep {
            let bind = |update: &mut Update| update.bind_dev = before;
            run_hooked(&state, ReceiveMode::Auto, bind).0.unwrap();
        }
        forbid(&state, Some(bpf::Unavailable::NotPermitted));
        let blue = |update: &mut Update| update.bind_dev = Change::Set("blue".to_owned());
        let (result, notes) = run_hooked(&state, ReceiveMode::Auto, blue);
        result.unwrap();
        assert_eq!(!notes.contains("cannot be seen"), seen, "{notes}");
        assert!(notes.contains("CAP_SYS_ADMIN"), "{notes}");
    }
}

/// wg1 is bound to blue without the hooks: an entry for red would bind its next sockets.
#[test]
fn an_entry_is_nobodys_while_a_neighbour_is_in_another_vrf() {
    for down in [false, true] {
        let (state, _socket) = hooked();
        let port = state.borrow().port;
        {
            let mut state = state.borrow_mut();
            (state.down, state.others) = (down, vec![(12, "wg1", 0x55, port)]);
        }
        add_pair(&script(&state), 0x55, 200);
        let bind = |update: &mut Update| update.bind_dev = red();
        for _ in 0..2 {
            let (result, notes) = run_hooked(&state, ReceiveMode::Auto, bind);
            result.unwrap();
            assert!(notes.contains("receives nothing until"), "{notes}");
            assert_eq!(entries(&state), [(port, String::new(), 7)]);
            assert_eq!(state.borrow().bound_to, if down { 0 } else { 8 });
        }
    }
}

/// wg1 is bound to red as well, and red is gone: that is no other VRF.
#[test]
fn an_entry_stays_where_a_neighbour_waits_for_the_same_vrf() {
    let (state, _socket) = hooked();
    let port = state.borrow().port;
    state.borrow_mut().others = vec![(12, "wg1", 0x55, port)];
    add_pair(&script(&state), 0x55, 100);
    let bind = |update: &mut Update| update.bind_dev = red();
    run_hooked(&state, ReceiveMode::Auto, bind).0.unwrap();
    let bound = [(port, "red".to_owned(), 7)];
    assert_eq!(entries(&state), bound);
    state.borrow_mut().no_red = true;
    let same = |update: &mut Update| update.listen_port = Change::Set(port);
    let (result, notes) = run_hooked(&state, ReceiveMode::Auto, same);
    result.unwrap();
    assert_eq!(entries(&state), bound, "{notes}");
}

/// The program binds every socket on a port. That was accepted for the one that made the entry,
/// and not for wg0, which inherits it.
#[test]
fn an_heir_has_not_accepted_what_the_first_one_did() {
    let (state, _socket) = bound_by_hooks();
    let (mark, port) = (state.borrow().mark, state.borrow().port);
    state.borrow().hooks.borrow_mut().all_sockets = true;
    // The one that made the entry is gone.
    change_entry(&state, |entry| entry.owner = 12);
    state.borrow_mut().down = true;
    with(script(&state), receive::sweep_entries);
    assert_eq!(entries(&state), [(port, "red".to_owned(), 7)]);
    let bind = |update: &mut Update| update.bind_dev = red();
    let other_port = |update: &mut Update| update.listen_port = Change::Set(51009);
    let (result, notes) = run_hooked(&state, ReceiveMode::Auto, bind);
    result.unwrap();
    assert!(notes.contains("bound accepts that"), "{notes}");
    assert_eq!(entries(&state), [(port, "red".to_owned(), 7)]);
    let (result, notes) = run_hooked(&state, ReceiveMode::Auto, other_port);
    result.unwrap();
    assert!(notes.contains("bound accepts that"), "{notes}");
    assert_eq!(entries(&state), []);
    // Who accepts it need not do so again.
    for mode in [ReceiveMode::Bound, ReceiveMode::Auto] {
        run_hooked(&state, mode, bind).0.unwrap();
        assert_eq!(entries(&state), [(51009, "red".to_owned(), 7)]);
    }
    assert_eq!(state.borrow().mark, mark);
}

/// Nor has one whose unbinding was killed half way.
#[test]
fn an_heir_that_leaves_has_not_accepted_it_either() {
    let (state, _socket) = bound_by_hooks();
    let hooks = Rc::clone(&state.borrow().hooks);
    hooks.borrow_mut().all_sockets = true;
    change_entry(&state, |entry| entry.inherited = true);
    assert!(!with(script(&state), || receive::has_entry("wg0")));
    let unbind = |update: &mut Update| update.bind_dev = Change::Clear;
    let was_leaving = (0..6).any(|lives| {
        state.borrow_mut().lives = Some(lives);
        hooks.borrow_mut().unavailable = None;
        let _ = run_hooked(&state, ReceiveMode::Auto, unbind);
        let hooks = hooks.borrow();
        assert!(hooks.entries.values().all(|entry| entry.inherited));
        hooks.entries.values().any(|entry| entry.leaving)
    });
    assert!(was_leaving);
}

/// The C tool gave a bound device another port. A device of another namespace has the first one, and
/// is down. One that was made here and moved may have had the index and the mark: the entry is its own.
#[test]
fn no_entry_for_an_old_port_outlives_the_binding() {
    for is_moved in [false, true] {
        let (state, _socket) = bound_by_hooks();
        let (mark, port) = (state.borrow().mark, state.borrow().port);
        let (spare, _spare_socket) = hooked();
        (state.borrow_mut().port, state.borrow_mut().bound_to) = (spare.borrow().port, 0);
        let other = kernel(|state| {
            (state.port, state.down) = (port, true);
            state.mark = if is_moved { mark } else { 0 };
        });
        let script = script(&state).beside(Some(script(&other)));
        let (result, notes) = set_on(&script, |update| update.bind_dev = Change::Clear);
        result.unwrap();
        let left = is_moved.then(|| (port, "red".to_owned(), 0));
        assert_eq!(entries(&state), Vec::from_iter(left), "{notes}");
    }
}

/// wg0 with these peers, and what is asked of it: the keys and endpoints of peers.
fn with_peers(
    peers: &[(u8, &'static str, u32)],
    bind_dev: Change<String>,
    asked: &[(u8, &str, u32)],
) -> (Rc<RefCell<State>>, Update) {
    let state = kernel(|state| {
        (state.mark, state.port) = (0, 51820);
        state.peers = [&[(9, "2001:db8::9", 0)], peers].concat();
    });
    let peers = asked.iter().map(|(key, ip, scope)| PeerUpdate {
        endpoint: Some(SocketAddrV6::new(ip.parse().unwrap(), 51820, 0, *scope).into()),
        ..PeerUpdate::new(PublicKey::from_bytes([*key; 32]))
    });
    let update = Update {
        interface: "wg0".to_owned(),
        bind_dev,
        peers: peers.collect(),
        ..Update::default()
    };
    (state, update)
}

const WORDS: &str = "policy rules do not hold the endpoint [fe80::1%blue0]:51820 of peer \
                     AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=: its packets would leave by blue0, \
                     which is in blue; give the peer an endpoint in red in the same command";

/// Of an endpoint on a link of another VRF the kernel asks no rule.
#[test]
fn no_device_is_bound_with_an_endpoint_in_another_vrf() {
    let held = [("fe80::1", 12), ("fe80::1", 0), ("2001:db8::1", 11)];
    for (ip, scope) in held {
        let (state, update) = with_peers(&[], red(), &[(1, ip, scope)]);
        run_update(&state, None, update, BindMode::Fwmark)
            .0
            .unwrap();
    }
    let escapes = (1, "fe80::1", 11);
    let new = with_peers(&[], red(), &[escapes]);
    let old = with_peers(&[escapes], red(), &[(2, "2001:db8::2", 0)]);
    for (state, update) in [new, old] {
        let error = run_update(&state, None, update, BindMode::Fwmark)
            .0
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("Cannot bind wg0 to `red': {WORDS}")
        );
        let state = state.borrow();
        assert_eq!((state.sets, state.ours(2), state.ours(10)), (0, 0, 0));
    }
    // One that it leaves in the same command does not count.
    let mends: [&dyn Fn(&mut Update); 3] = [
        &|_| {},
        &|update| {
            update.peers[0] = PeerUpdate {
                remove: true,
                ..PeerUpdate::new(PublicKey::from_bytes([1; 32]))
            }
        },
        &|update| {
            update.replace_peers = true;
            update.peers.clear();
        },
    ];
    for mend in mends {
        let (state, mut update) = with_peers(&[escapes], red(), &[(1, "2001:db8::1", 0)]);
        mend(&mut update);
        run_update(&state, None, update, BindMode::Fwmark)
            .0
            .unwrap();
    }
    // Nor does it where the device is unbound.
    let (state, update) = with_peers(&[escapes], Change::Clear, &[escapes]);
    run_update(&state, None, update, BindMode::Fwmark)
        .0
        .unwrap();
}

#[test]
fn a_bound_device_is_given_no_endpoint_in_another_vrf() {
    let escapes = (1, "fe80::1", 11);
    for bound in [true, false] {
        let (state, update) = with_peers(&[], Change::Keep, &[escapes]);
        if bound {
            run(&state, red()).0.unwrap();
        }
        let sets = state.borrow().sets;
        let (result, _) = run_update(&state, None, update, BindMode::Auto);
        let said = result.map_err(|error| error.to_string());
        let refused = Err(format!(
            "Cannot change wg0, which is bound to `red': {WORDS}"
        ));
        assert_eq!(said, if bound { refused } else { Ok(()) });
        assert_eq!(state.borrow().sets, sets + u32::from(!bound));
    }
    // What has no scope costs nothing.
    let (state, update) = with_peers(&[], Change::Keep, &[(1, "2001:db8::1", 0)]);
    run_update(&state, None, update, BindMode::Auto).0.unwrap();
    assert_eq!(state.borrow().asked_rules, 0);
}

/// It may have come by roaming, or by another program.
#[test]
fn an_endpoint_in_another_vrf_is_told() {
    let (state, _) = with_peers(&[], red(), &[]);
    run(&state, red()).0.unwrap();
    let faults = || match with(script(&state), || get("wg0").unwrap().bind) {
        Bind::Rules { faults, .. } => faults,
        other => panic!("{other:?}"),
    };
    assert_eq!(faults(), []);
    let escapes = (1, "fe80::1", 11);
    state.borrow_mut().peers.extend([escapes, escapes]);
    let by = "blue0".to_owned();
    assert_eq!(faults(), [(Family::V6, Fault::Escapes { by })]);
    state.borrow_mut().peers = vec![(1, "ff02::1", 0)];
    let by = "the default VRF".to_owned();
    assert_eq!(faults(), [(Family::V6, Fault::Escapes { by })]);
    // The rule of the table `local' may stand behind ours.
    state
        .borrow_mut()
        .rules
        .retain(|one| *one != rule(10, 0, 255, false));
    assert_eq!(faults(), []);
}
