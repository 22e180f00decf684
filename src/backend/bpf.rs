// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The bind hooks of a stock kernel: what makes WireGuard's sockets receive from a VRF only.
//!
//! One program per address family is attached to the root of the cgroup v2 tree, which every
//! process is in. Only the kernel remembers them, and we find them again by their names. The last
//! entry of their map takes them with it. `wire::bpf` has the program,
//! and says why no crate loads it.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

#[cfg(test)]
use super::scripted;
use crate::model::{Family, HookEntry};
use crate::sys::{self, BpfMap, BpfProgram};
use crate::wire::bpf::{self, Features, KEY_LEN, Offsets, VALUE_LEN};

type Map = BpfMap<KEY_LEN, VALUE_LEN>;

/// The names by which the objects are found again.
const MAP_NAME: &str = "wg_bind_dev";
fn program_name(family: Family, all_sockets: bool) -> &'static str {
    match (family, all_sockets) {
        (Family::V4, false) => "wg_bind_dev4",
        (Family::V6, false) => "wg_bind_dev6",
        (Family::V4, true) => "wg_bind_dev4all",
        (Family::V6, true) => "wg_bind_dev6all",
    }
}

/// `BPF_CGROUP_INET4_BIND` and `BPF_CGROUP_INET6_BIND` (linux/bpf.h)
fn attach_type(family: Family) -> u32 {
    match family {
        Family::V4 => 8,
        Family::V6 => 9,
    }
}

/// How many ports of all namespaces there is room for.
const ENTRIES: u32 = 4096;

/// Helper functions that read the kernel's memory are for programs under the GPL.
const LICENSE: &std::ffi::CStr = c"Dual MIT/GPL";

/// Where the cgroup v2 tree may be. `ip netns exec` hides /sys, but not from process 1. It is
/// never mounted here: that would change its options for the whole host.
const ROOTS: [&str; 4] = [
    "/sys/fs/cgroup",
    "/sys/fs/cgroup/unified",
    "/proc/1/root/sys/fs/cgroup",
    "/proc/1/root/sys/fs/cgroup/unified",
];

/// How the kernel describes its structures.
const BTF: &str = "/sys/kernel/btf/vmlinux";

/// Every network namespace has this one file, and only root can open it. So only root can hold
/// its lock.
const LOCK: &str = "/proc/vmallocinfo";
const LOCK_PATIENCE: Duration = Duration::from_secs(30);

/// `BPF_F_ALLOW_MULTI`
const ALLOW_MULTI: u32 = 2;

/// `BPF_CGROUP_MAX_PROGS`
const MAX_PROGRAMS: usize = 64;

/// Room for the words of the kernel's checker.
const LOG_LEN: usize = 256 * 1024;
/// How many of its last lines tell why.
const LOG_LINES: usize = 12;

/// Why sockets cannot be bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unavailable {
    /// Switched off by the user.
    Off,
    /// CONFIG_BPF_SYSCALL
    NoBpf,
    NoCgroup2,
    /// The root of the tree is not in sight.
    Container,
    /// `CAP_SYS_ADMIN`, in the first user namespace.
    NotPermitted,
    /// Sockets of processes could not be told from the kernel's own.
    NoBtf,
    Lockdown,
    /// Another program, which allows none beside it.
    InTheWay(Family),
    /// The hook has no room for a program.
    HookFull,
    /// The map has no room for an entry.
    MapFull,
    /// Another process holds the lock.
    Busy,
    /// The kernel did not take the program; with its checker's last words.
    Refused {
        errno: i32,
        log: Vec<String>,
    },
    Failed {
        what: &'static str,
        errno: i32,
    },
}

impl Unavailable {
    /// Whether such a kernel has no entries either.
    pub fn is_absence(&self) -> bool {
        matches!(self, Unavailable::NoBpf | Unavailable::NoCgroup2)
    }
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unavailable::Off => f.write_str("WG_BIND_DEV_RECEIVE is any"),
            Unavailable::NoBpf => f.write_str("this kernel has no bpf(2) (CONFIG_BPF_SYSCALL)"),
            Unavailable::NoCgroup2 => f.write_str(
                "there is no cgroup v2 tree with bind hooks (CONFIG_CGROUP_BPF, and cgroup2 \
                 mounted on /sys/fs/cgroup)",
            ),
            Unavailable::Container => {
                f.write_str(
                    "the root of the cgroup tree is not in sight: this is a container, or cgroup2 is not \
                     mounted on /sys/fs/cgroup",
                )
            }
            Unavailable::NotPermitted => f.write_str(
                "the bind hooks take root of the host, with CAP_SYS_ADMIN, and no security module against \
                 it",
            ),
            Unavailable::NoBtf => f.write_str(
                "this kernel does not describe its structures (CONFIG_DEBUG_INFO_BTF), so other \
                 programs' sockets on the port would be bound as well; \
                 WG_BIND_DEV_RECEIVE=bound accepts that",
            ),
            Unavailable::Lockdown => f.write_str(
                "the kernel is locked down (confidentiality), so other programs' sockets on the \
                 port would be bound as well; WG_BIND_DEV_RECEIVE=bound accepts that",
            ),
            Unavailable::InTheWay(family) => {
                write!(
                    f,
                    "another program at the cgroup root allows none beside it at the {family} bind hook"
                )
            }
            Unavailable::HookFull => write!(
                f,
                "the bind hook at the cgroup root has all the programs that it takes ({MAX_PROGRAMS})"
            ),
            Unavailable::MapFull => write!(
                f,
                "the map of the bind hooks has no room for another port: it takes {ENTRIES} of \
                 all network namespaces. `bind-dev off' on others makes room"
            ),
            Unavailable::Busy => f.write_str("another process is changing the bind hooks"),
            Unavailable::Refused { errno, log } => {
                write!(
                    f,
                    "the kernel does not take the program for its bind hooks: {}",
                    crate::error::strerror(*errno)
                )?;
                log.iter().try_for_each(|line| write!(f, "\n    {line}"))
            }
            Unavailable::Failed { what, errno } => {
                write!(f, "{what}: {}", crate::error::strerror(*errno))
            }
        }
    }
}

type HookResult<T> = std::result::Result<T, Unavailable>;

/// Ports of one namespace with their entries.
type Entries = Vec<(u16, HookEntry)>;

/// What an error of bpf(2) means, where it means nothing particular to the call.
fn explain_failure(what: &'static str) -> impl Fn(io::Error) -> Unavailable {
    move |err| match err.raw_os_error() {
        Some(libc::ENOSYS) => Unavailable::NoBpf,
        Some(libc::EPERM | libc::EACCES) => Unavailable::NotPermitted,
        Some(libc::E2BIG | libc::ENOSPC) => Unavailable::HookFull,
        errno => Unavailable::Failed {
            what,
            errno: errno.unwrap_or(libc::EIO),
        },
    }
}

/// One program of ours at its hook, with the map that it looks into.
struct Attached {
    family: Family,
    program: BpfProgram,
    /// The map's id.
    map: u32,
    /// It binds other programs' sockets as well.
    all_sockets: bool,
}

/// Our programs as they are attached now, with the entries of one network namespace.
pub struct Hooks {
    root: File,
    namespace: u64,
    attached: Vec<Attached>,
    /// All maps of ours, by id. There is one, unless two commands without a lock made two.
    maps: Vec<(u32, Map)>,
}

impl Hooks {
    /// Looks for our programs; that there are none is fine.
    pub fn find_hooks() -> HookResult<Hooks> {
        #[cfg(test)]
        if let Some(hooks) = scripted::hooks() {
            let hidden = hooks.borrow().unavailable.clone();
            return hidden.map_or_else(|| Ok(Hooks::script_hooks()), Err);
        }
        sys::bpf_may_look().map_err(explain_failure("Cannot look for BPF programs"))?;
        let root = open_root()?;
        let namespace = sys::netns_cookie().map_err(|err| Unavailable::Failed {
            what: "Cannot tell this network namespace from others",
            errno: err.raw_os_error().unwrap_or(libc::EIO),
        })?;
        let mut hooks = Hooks {
            root,
            namespace,
            attached: Vec::new(),
            maps: Vec::new(),
        };
        for family in Family::ALL {
            hooks.find_family(family)?;
        }
        Ok(hooks)
    }

    /// Stands for those of the script.
    #[cfg(test)]
    fn script_hooks() -> Hooks {
        Hooks {
            root: File::open("/").expect("a folder"),
            namespace: 0,
            attached: Vec::new(),
            maps: Vec::new(),
        }
    }

    fn find_family(&mut self, family: Family) -> HookResult<()> {
        const WHAT: &str = "Cannot look at the bind hooks";
        for id in self.read_ids(family)?.0 {
            let program = match BpfProgram::open(id) {
                Ok(program) => program,
                // Detached since.
                Err(err) if err.raw_os_error() == Some(libc::ENOENT) => continue,
                Err(err) => return Err(explain_failure(WHAT)(err)),
            };
            let (name, maps) = program.read_info().map_err(explain_failure(WHAT))?;
            let [map] = maps.as_slice() else {
                continue;
            };
            let all_sockets = name == program_name(family, true);
            if !all_sockets && name != program_name(family, false) {
                continue;
            }
            if !self.maps.iter().any(|(id, _)| id == map) {
                match Map::open(*map, MAP_NAME).map_err(explain_failure(WHAT))? {
                    Some(found) => self.maps.push((*map, found)),
                    // A map of another version, or a foreign one that has our name.
                    None => continue,
                }
            }
            self.attached.push(Attached {
                family,
                program,
                map: *map,
                all_sockets,
            });
        }
        Ok(())
    }

    /// An attached program that binds every socket on a port was wished for by somebody else.
    fn refuse_all_sockets(&self) -> HookResult<()> {
        if !self.bind_all_sockets() {
            return Ok(());
        }
        Err(match is_locked_down() {
            true => Unavailable::Lockdown,
            false => Unavailable::NoBtf,
        })
    }

    /// Whether a program of ours binds every socket on a port.
    pub fn bind_all_sockets(&self) -> bool {
        #[cfg(test)]
        if let Some(hooks) = scripted::hooks() {
            let hooks = hooks.borrow();
            return hooks.all_sockets && !hooks.entries.is_empty();
        }
        self.attached.iter().any(|one| one.all_sockets)
    }

    /// Whether the programs of both families are at the hooks, with one map.
    pub fn is_whole(&self) -> bool {
        #[cfg(test)]
        if scripted::hooks().is_some() {
            return true;
        }
        let is_there = |map: u32, family: &Family| {
            let mut attached = self.attached.iter();
            attached.any(|one| one.family == *family && one.map == map)
        };
        let mut maps = self.maps.iter();
        maps.any(|(map, _)| Family::ALL.iter().all(|family| is_there(*map, family)))
    }

    /// Whether programs of ours are at the hooks.
    pub fn has_programs(&self) -> bool {
        !self.attached.is_empty()
    }

    /// The programs at a family's hook, ours and others.
    fn read_ids(&self, family: Family) -> HookResult<(Vec<u32>, u32)> {
        sys::bpf_attached(self.root.as_fd(), attach_type(family)).map_err(|err| {
            match err.raw_os_error() {
                // The command, or the hook, is not there.
                Some(libc::EINVAL | libc::EBADF) => Unavailable::NoCgroup2,
                _ => explain_failure("Cannot look at the bind hooks")(err),
            }
        })
    }

    /// The entry for a port of this namespace.
    pub fn get(&self, port: u16) -> HookResult<Option<HookEntry>> {
        #[cfg(test)]
        if let Some(hooks) = scripted::hooks() {
            return Ok(hooks.borrow().entries.get(&port).cloned());
        }
        let key = bpf::encode_key(self.namespace, port);
        for (_, map) in &self.maps {
            let value = map
                .get(&key)
                .map_err(explain_failure("Cannot read the bind map"))?;
            if let Some(value) = value {
                return Ok(Some(bpf::read_entry(&value)));
            }
        }
        Ok(None)
    }

    /// The other namespaces that have entries, by their cookies, and the entries of this one. Each
    /// key is asked for once: they are as many as there are bound devices.
    pub fn read_all(&self) -> HookResult<(Vec<u64>, Entries)> {
        #[cfg(test)]
        if let Some(hooks) = scripted::hooks() {
            let entries = hooks.borrow().entries.clone();
            return Ok((Vec::new(), entries.into_iter().collect()));
        }
        let mut namespaces = Vec::new();
        let mut ports: Vec<u16> = Vec::new();
        for (_, map) in &self.maps {
            for (namespace, port) in read_keys(map)?.iter().map(bpf::read_key) {
                if namespace == self.namespace {
                    ports.push(port);
                } else {
                    namespaces.push(namespace);
                }
            }
        }
        namespaces.sort_unstable();
        namespaces.dedup();
        ports.sort_unstable();
        ports.dedup();
        let mut entries = Vec::new();
        for port in ports {
            entries.extend(self.get(port)?.map(|binding| (port, binding)));
        }
        Ok((namespaces, entries))
    }

    /// All entries of this namespace.
    pub fn read_entries(&self) -> HookResult<Vec<(u16, HookEntry)>> {
        self.read_all().map(|(_, entries)| entries)
    }
}

/// The keys of a map, of all namespaces.
fn read_keys(map: &Map) -> HookResult<Vec<[u8; KEY_LEN]>> {
    let mut keys: Vec<[u8; KEY_LEN]> = Vec::new();
    // A key that is removed meanwhile starts the walk anew.
    for _ in 0..2 * ENTRIES {
        let next = map
            .next_key(keys.last())
            .map_err(explain_failure("Cannot read the bind map"))?;
        let Some(next) = next else {
            break;
        };
        keys.push(next);
    }
    keys.sort_unstable();
    keys.dedup();
    Ok(keys)
}

/// The hooks with the host's lock on changing them.
pub struct Changing {
    hooks: Hooks,
    _lock: File,
}

impl Changing {
    pub fn start_change() -> HookResult<Changing> {
        let lock = take_lock()?;
        Ok(Changing {
            hooks: Hooks::find_hooks()?,
            _lock: lock,
        })
    }

    /// All entries of this namespace.
    pub fn read_entries(&self) -> HookResult<Vec<(u16, HookEntry)>> {
        self.hooks.read_entries()
    }

    /// Sees to it that sockets made on a port of this namespace from now on are bound. With
    /// `all_sockets`, also where other programs' sockets cannot be told from the kernel's.
    pub fn insert_entry(
        &mut self,
        port: u16,
        entry: &HookEntry,
        all_sockets: bool,
    ) -> HookResult<()> {
        #[cfg(test)]
        if let Some(hooks) = scripted::hooks() {
            hooks.borrow().try_program(all_sockets)?;
            hooks.borrow_mut().entries.insert(port, entry.clone());
            return Ok(());
        }
        // One that is attached serves every entry.
        if !all_sockets {
            self.hooks.refuse_all_sockets()?;
        }
        let key = bpf::encode_key(self.hooks.namespace, port);
        let value = bpf::encode_entry(entry);
        let write = |map: &Map| {
            let done = map.insert(&key, &value);
            done.map_err(|err| match err.raw_os_error() {
                Some(libc::E2BIG | libc::ENOMEM) => Unavailable::MapFull,
                _ => explain_failure("Cannot write the bind map")(err),
            })
        };
        self.hooks.maps.iter().try_for_each(|(_, map)| write(map))?;
        // A command that sees another /proc has another lock: it may have detached the programs
        // before the entry was there, or have attached some with a map of their own.
        self.hooks = Hooks::find_hooks()?;
        self.hooks.maps.iter().try_for_each(|(_, map)| write(map))?;
        if !self.hooks.is_whole() {
            let done = self.attach_programs(&key, &value, all_sockets);
            // Also what a part of the pair was attached by: it must not outlive the failure.
            self.hooks = Hooks::find_hooks()?;
            if let Err(error) = done {
                self.remove_entries(&[port])?;
                return Err(error);
            }
        }
        if !self.hooks.is_whole() {
            return Err(Unavailable::Failed {
                what: "The bind hooks do not stay attached",
                errno: libc::EAGAIN,
            });
        }
        Ok(())
    }

    /// Attaches what is missing of a pair of programs.
    fn attach_programs(
        &self,
        key: &[u8; KEY_LEN],
        value: &[u8; VALUE_LEN],
        all_sockets: bool,
    ) -> HookResult<()> {
        let made;
        let (id, map) = match self.hooks.maps.first() {
            // A command left it that did not get to the second family.
            Some((id, map)) => (Some(*id), map),
            None => {
                made = Map::create(MAP_NAME, ENTRIES)
                    .map_err(explain_failure("Cannot make the bind map"))?;
                made.insert(key, value)
                    .map_err(explain_failure("Cannot write the bind map"))?;
                (None, &made)
            }
        };
        let missing: Vec<Family> = Family::ALL
            .into_iter()
            .filter(|family| {
                let mut attached = self.hooks.attached.iter();
                !attached.any(|a| a.family == *family && Some(a.map) == id)
            })
            .collect();
        // Both are checked before one is attached.
        let mut programs = Vec::new();
        for family in &missing {
            programs.push((*family, load_program(*family, map, all_sockets)?));
        }
        for (at, (family, program)) in programs.iter().enumerate() {
            let attached = program.attach(self.hooks.root.as_fd(), attach_type(*family));
            if let Err(err) = attached {
                for (family, program) in &programs[..at] {
                    // The next command finds and removes a program that stays.
                    let _ = program.detach(self.hooks.root.as_fd(), attach_type(*family));
                }
                return Err(self.why_not_attached(*family, err));
            }
        }
        Ok(())
    }

    fn why_not_attached(&self, family: Family, err: io::Error) -> Unavailable {
        match (err.raw_os_error(), self.hooks.read_ids(family)) {
            (Some(libc::EPERM), Ok((ids, flags)))
                if !ids.is_empty() && flags & ALLOW_MULTI == 0 =>
            {
                Unavailable::InTheWay(family)
            }
            (Some(libc::EINVAL), _) => Unavailable::NoCgroup2,
            _ => explain_failure("Cannot attach to the bind hooks")(err),
        }
    }

    /// Removes entries of this namespace, and the programs with the last entry of the host.
    pub fn remove_entries(&mut self, ports: &[u16]) -> HookResult<()> {
        #[cfg(test)]
        if let Some(hooks) = scripted::hooks() {
            let is_kept = |port: &u16, _: &mut HookEntry| !ports.contains(port);
            hooks.borrow_mut().entries.retain(is_kept);
            return Ok(());
        }
        for (_, map) in &self.hooks.maps {
            for port in ports {
                let key = bpf::encode_key(self.hooks.namespace, *port);
                map.remove(&key)
                    .map_err(explain_failure("Cannot write the bind map"))?;
            }
        }
        self.detach_unused()
    }

    /// Removes the entries of these namespaces, and the programs with the last entry of the host.
    pub fn remove_namespaces(&mut self, namespaces: &[u64]) -> HookResult<()> {
        for (_, map) in &self.hooks.maps {
            for key in read_keys(map)? {
                if namespaces.contains(&bpf::read_key(&key).0) {
                    map.remove(&key)
                        .map_err(explain_failure("Cannot write the bind map"))?;
                }
            }
        }
        self.detach_unused()
    }

    /// Detaches the programs whose map is empty.
    fn detach_unused(&mut self) -> HookResult<()> {
        let mut empty = Vec::new();
        for (id, map) in &self.hooks.maps {
            if map
                .next_key(None)
                .map_err(explain_failure("Cannot read the bind map"))?
                .is_none()
            {
                empty.push(*id);
            }
        }
        let root = self.hooks.root.as_fd();
        let unused = |one: &&Attached| empty.contains(&one.map);
        for one in self.hooks.attached.iter().filter(unused) {
            match one.program.detach(root, attach_type(one.family)) {
                Ok(()) => {}
                Err(err) if err.raw_os_error() == Some(libc::ENOENT) => {}
                Err(err) => return Err(explain_failure("Cannot detach from the bind hooks")(err)),
            }
        }
        // A command that sees another /proc has another lock: its entry may have come meanwhile.
        for (id, map) in self.hooks.maps.iter().filter(|(id, _)| empty.contains(id)) {
            if matches!(map.next_key(None), Ok(Some(_))) {
                for one in self.hooks.attached.iter().filter(|one| one.map == *id) {
                    let attached = one.program.attach(root, attach_type(one.family));
                    attached.map_err(explain_failure("Cannot attach to the bind hooks"))?;
                }
            }
        }
        self.hooks.attached.retain(|one| !empty.contains(&one.map));
        self.hooks.maps.retain(|(id, _)| !empty.contains(id));
        Ok(())
    }
}

/// Waits for the lock, but not for ever.
fn take_lock() -> HookResult<File> {
    #[cfg(test)]
    if scripted::hooks().is_some() {
        return Hooks::find_hooks().map(|hooks| hooks.root);
    }
    let file = File::open(LOCK).map_err(explain_failure("Cannot lock the bind hooks"))?;
    let start = Instant::now();
    loop {
        match sys::try_lock(file.as_fd()) {
            Ok(()) => return Ok(file),
            Err(err)
                if matches!(
                    err.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) =>
            {
                if start.elapsed() >= LOCK_PATIENCE {
                    return Err(Unavailable::Busy);
                }
                std::thread::sleep(Duration::from_millis(3));
            }
            Err(err) => return Err(explain_failure("Cannot lock the bind hooks")(err)),
        }
    }
}

/// Whether the kernel has a program of ours, wherever it is attached.
fn is_any_loaded() -> io::Result<bool> {
    let mut last = 0;
    while let Some(id) = sys::next_bpf_program(last)? {
        last = id;
        let name = match BpfProgram::open(id).and_then(|program| program.read_info()) {
            Ok((name, _)) => name,
            // Gone meanwhile, or none of ours.
            Err(err) if matches!(err.raw_os_error(), Some(libc::ENOENT | libc::EPERM)) => continue,
            Err(err) => return Err(err),
        };
        let is_ours = |family| {
            [false, true]
                .map(|all| program_name(family, all))
                .contains(&&*name)
        };
        if Family::ALL.into_iter().any(is_ours) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The root of the cgroup v2 tree, which only the host has.
fn open_root() -> HookResult<File> {
    let look = |path: &&str| fs::metadata(Path::new(path).join("cgroup.controllers"));
    let Some(found) = ROOTS.into_iter().find(|path| look(path).is_ok()) else {
        // That of the host may be where this process may not look.
        let hidden = |err: io::Error| err.kind() == io::ErrorKind::PermissionDenied;
        return Err(
            match ROOTS.iter().any(|path| look(path).is_err_and(hidden)) {
                true => Unavailable::NotPermitted,
                // It may be mounted where this process does not see it.
                false => match is_any_loaded() {
                    Ok(true) => Unavailable::Container,
                    Ok(false) => Unavailable::NoCgroup2,
                    Err(err) => explain_failure("Cannot look for BPF programs")(err),
                },
            },
        );
    };
    let found = Path::new(found);
    let what = explain_failure("Cannot open the cgroup root");
    let inode = fs::metadata(found).map_err(&what)?.ino();
    // Every other cgroup has such a file, also one that a container takes for the root.
    if inode != 1 || found.join("cgroup.events").exists() {
        return Err(Unavailable::Container);
    }
    File::open(found).map_err(what)
}

/// Whether the hooks could bind a device's sockets, and leave those of programs alone unless
/// `all_sockets`: they do so, or the kernel takes the programs. Nothing is attached.
pub fn try_hooks(all_sockets: bool) -> HookResult<()> {
    #[cfg(test)]
    if let Some(hooks) = scripted::hooks() {
        return hooks.borrow().try_program(all_sockets);
    }
    let hooks = Hooks::find_hooks()?;
    if !hooks.attached.is_empty() {
        return match all_sockets {
            true => Ok(()),
            false => hooks.refuse_all_sockets(),
        };
    }
    let map =
        Map::create(MAP_NAME, ENTRIES).map_err(explain_failure("Cannot make the bind map"))?;
    for family in Family::ALL {
        load_program(family, &map, all_sockets)?;
        if let Ok((ids, flags)) = hooks.read_ids(family) {
            if !ids.is_empty() && flags & ALLOW_MULTI == 0 {
                return Err(Unavailable::InTheWay(family));
            }
            if ids.len() >= MAX_PROGRAMS {
                return Err(Unavailable::HookFull);
            }
        }
    }
    Ok(())
}

/// Loads the program of a family, the way this kernel takes it.
fn load_program(family: Family, map: &Map, all_sockets: bool) -> HookResult<BpfProgram> {
    let offsets = read_offsets();
    if offsets.is_none() && !all_sockets {
        return Err(Unavailable::NoBtf);
    }
    // Kernels before 5.18 have no bpf_set_retval; a locked down one has no bpf_probe_read_kernel.
    let mut ways = vec![(offsets, true), (offsets, false)];
    if all_sockets && offsets.is_some() {
        ways.extend([(None, true), (None, false)]);
    }
    let mut refused = None;
    for (offsets, set_retval) in ways {
        let features = Features {
            offsets,
            set_retval,
        };
        match load_as(family, map, &features, &mut []) {
            Ok(program) => return Ok(program),
            Err(err)
                if matches!(
                    err.raw_os_error(),
                    Some(libc::EINVAL | libc::EACCES | libc::E2BIG)
                ) =>
            {
                refused = Some((features, err));
            }
            Err(err) => {
                return Err(explain_failure(
                    "Cannot load the program for the bind hooks",
                )(err));
            }
        }
    }
    if is_locked_down() && !all_sockets {
        return Err(Unavailable::Lockdown);
    }
    let mut log = vec![0; LOG_LEN];
    let Some((features, err)) = refused else {
        return Err(Unavailable::NoBpf);
    };
    match load_as(family, map, &features, &mut log) {
        Ok(program) => Ok(program),
        Err(_) => Err(Unavailable::Refused {
            errno: err.raw_os_error().unwrap_or(libc::EIO),
            log: last_lines(&log),
        }),
    }
}

/// Whether programs may not read the kernel's memory.
fn is_locked_down() -> bool {
    // `ip netns exec` has a /sys of its own, without what is mounted in that of the host.
    let mut files = ["", "/proc/1/root"].into_iter();
    files.any(|root| {
        let modes = fs::read_to_string(format!("{root}/sys/kernel/security/lockdown"));
        modes.is_ok_and(|modes| modes.contains("[confidentiality]"))
    })
}

fn load_as(
    family: Family,
    map: &Map,
    features: &Features,
    log: &mut [u8],
) -> io::Result<BpfProgram> {
    use std::os::fd::AsRawFd as _;
    let code = bpf::encode_program(&bpf::build_program(family, features), map.fd().as_raw_fd())
        .ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
    BpfProgram::load(
        program_name(family, features.offsets.is_none()),
        attach_type(family),
        &code,
        LICENSE,
        log,
    )
}

/// The offsets that tell a process's socket from the kernel's own.
fn read_offsets() -> Option<Offsets> {
    // The program reads pointers of eight bytes.
    if cfg!(not(target_pointer_width = "64")) {
        return None;
    }
    bpf::find_offsets(&fs::read(BTF).ok()?)
}

fn last_lines(log: &[u8]) -> Vec<String> {
    let end = log.iter().position(|byte| *byte == 0).unwrap_or(log.len());
    let text = String::from_utf8_lossy(&log[..end]);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES)..]
        .iter()
        .map(crate::error::shown)
        .collect()
}
