// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Reads what `doctor` judges: links, addresses, rules and sockets once, then each device.
//!
//! Nothing is changed. Where a fact cannot be read, the reason takes its place.

use std::ffi::{CStr, CString, OsStr};
use std::fs;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use neli::consts::socket::NlFamily;

use super::bpf::{Hooks, Unavailable, try_hooks};
use super::netlink::{Failure, Next, Socket};
use super::routing::{self, Routing};
use super::{
    KIND, Wireguard, diag, find_link, find_rivals, kernel_bind, place_sockets, receive, userspace,
};
use crate::doctor::facts::{self, Answer, Facts, Filter, Modules, Nic, Seen, Tunnel};
use crate::error::{Error, Result, Task, strerror};
use crate::ifname;
use crate::model::{Bind, Device, Presence};
use crate::plan::{Other, Sockets};
use crate::sys;
use crate::wire::nlmsg;
use crate::wire::route::{self, Link};
use crate::wire::underlay::{self, Packet};

/// Stands for the interfaces that could not be listed; no interface has this name.
const UNLISTED: &str = "(userspace interfaces)";

/// What a program that lists the packet filter may take.
const FILTER_PATIENCE: Duration = Duration::from_secs(10);
const FILTER_BYTES: u64 = 16 * 1024 * 1024;

/// A module is smaller.
const MODULE_BYTES: u64 = 32 * 1024 * 1024;
/// How deep modules are looked for below the folders that hold additional ones.
const MODULE_DEPTH: usize = 4;
/// The kernel's words about a device that does not exist, which only a module with
/// `WGDEVICE_A_BIND_DEV` has.
const MODULE_MARK: &[u8] = b"No such device to bind to";

/// What one netlink socket was asked for.
struct Reader(Socket);

impl Reader {
    fn read_nics(&mut self) -> std::result::Result<Vec<Nic>, Failure> {
        let links = self
            .0
            .dump(&mut route::get_links(), Vec::new, |links, payload| {
                links.extend(route::decode_link(payload).zip(underlay::decode_carrier(payload)));
                Ok(Next::More)
            })?;
        Ok(links
            .into_iter()
            .map(|(link, carrier)| Nic {
                rp_filter: read_rp_filter(&link.name).unwrap_or(0),
                link,
                carrier,
            })
            .collect())
    }

    fn read_addresses(&mut self) -> std::result::Result<Vec<underlay::Address>, Failure> {
        self.0.dump(
            &mut underlay::get_addresses(),
            Vec::new,
            |found, payload| {
                found.extend(underlay::decode_address(payload));
                Ok(Next::More)
            },
        )
    }
}

/// The network devices of this namespace.
///
/// # Errors
/// They cannot be read.
pub(super) fn read_nics() -> std::result::Result<Vec<Nic>, Failure> {
    let unopened = |err: std::io::Error| Failure {
        errno: err.raw_os_error().unwrap_or(libc::EIO),
        extack: None,
    };
    Reader(Socket::open(NlFamily::Route).map_err(unopened)?).read_nics()
}

/// Asks the kernel for routes.
pub struct Routes(Socket);

impl Routes {
    /// # Errors
    /// There is no routing netlink.
    pub fn open() -> Result<Self> {
        let socket = Socket::open(NlFamily::Route);
        Ok(Routes(socket.map_err(|err| Error::io(name_task(), &err))?))
    }

    /// The route that a packet takes, or the kernel's refusal.
    pub fn ask_route(&mut self, packet: &Packet) -> Answer {
        let mut route = None;
        self.0
            .ask(&mut underlay::get_route(packet), |payload| {
                route = underlay::decode_route(payload);
            })
            .map_err(|failure| failure.errno)?;
        route.ok_or(libc::EPROTO)
    }
}

fn name_task() -> Task {
    Task::Other("Cannot look at this network namespace".to_owned())
}

fn explain_failure(failure: Failure) -> String {
    match failure.extack {
        Some(words) => format!("{}: {words}", strerror(failure.errno)),
        None => strerror(failure.errno),
    }
}

/// Reads all facts. With `only`, a device that cannot be read is an error if it is this one.
///
/// # Errors
/// Links cannot be read, or the one device.
pub fn read_namespace(only: Option<&str>) -> Result<Facts> {
    let socket = Socket::open(NlFamily::Route).map_err(|err| Error::io(name_task(), &err))?;
    let mut reader = Reader(socket);
    let nics = reader
        .read_nics()
        .map_err(|failure| failure.with_task(name_task()))?;
    let addresses = reader.read_addresses().map_err(explain_failure);
    let rules = Routing::open()
        .map_err(|err| strerror(err.raw_os_error().unwrap_or(libc::EIO)))
        .and_then(|mut routing| routing.read_rules().map_err(explain_failure));
    let sockets = diag::udp_sockets(0).map_err(|failure| match failure.errno {
        libc::ENOENT => "the kernel has no udp_diag".to_owned(),
        _ => explain_failure(failure),
    });
    let links: Vec<Link> = nics.iter().map(|nic| nic.link.clone()).collect();
    let only = only.map(|only| facts::find_real_name(links.iter(), only));

    let mut kernel = Wireguard::open(Task::AskKernel);
    let attribute = match &mut kernel {
        Ok(wireguard) => wireguard.takes_bind_dev().map_err(|err| err.to_string()),
        Err(error) => Err(error.to_string()),
    };
    let mut devices = Vec::new();
    let (names, unlisted) = read_names(&links);
    let mut unread: Vec<_> = unlisted.into_iter().collect();
    for name in names {
        match read_tunnel(&name) {
            Ok(tunnel) => devices.push(tunnel),
            Err(error) if only == Some(name.as_str()) => return Err(error),
            Err(error) => unread.push((name, error.to_string())),
        }
    }
    if let Some(only) = only {
        if !devices.iter().any(|tunnel| tunnel.device.name == only) {
            // The error that `wg show` gives.
            devices.push(read_tunnel(only)?);
        }
    }
    place_tunnels(&mut devices, &links);
    let has_our_rules = rules
        .as_ref()
        .is_ok_and(|rules| rules.iter_ours().next().is_some());
    let bound = has_our_rules
        || devices
            .iter()
            .any(|tunnel| !tunnel.attribute.is_empty() || tunnel.device.fwmark != 0);
    // The attribute needs no hooks, unless rules were asked for.
    let hooks_matter = bound && (has_our_rules || attribute != Ok(true));
    Ok(Facts {
        hooks: read_hooks(&links, hooks_matter),
        attribute,
        nics,
        addresses,
        rules,
        sockets,
        l3mdev_accept: routing::l3mdev_accept().ok_or_else(|| "no such sysctl".to_owned()),
        rp_filter: read_rp_filter("all").ok_or_else(|| "no such sysctl".to_owned()),
        free_port: routing::find_free_port(),
        filter: if bound {
            read_filter()
        } else {
            Ok(Filter::default())
        },
        devices,
        unread,
        modules: read_modules(),
        wg_quick: super::programs::find_wg_quick(),
    })
}

/// The names of all devices, and what to tell of those that cannot be listed.
fn read_names(links: &[Link]) -> (Vec<String>, Option<(String, String)>) {
    let mut names: Vec<String> = links
        .iter()
        .filter(|link| link.kind == KIND)
        .map(|link| link.name.clone())
        .collect();
    let mut unlisted = None;
    let served = userspace::list_devices().unwrap_or_else(|err| {
        unlisted = Some((
            UNLISTED.to_owned(),
            Error::io(Task::ListInterfaces, &err).to_string(),
        ));
        Vec::new()
    });
    for name in served {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    (names, unlisted)
}

fn read_tunnel(name: &str) -> Result<Tunnel> {
    let (device, attribute) = if userspace::is_served(name) {
        (userspace::get(name)?, None)
    } else if ifname::is_too_long(name) {
        return Err(Error::os(Task::access(name), libc::ENAMETOOLONG));
    } else {
        Wireguard::open(Task::access(name))?.get(name)?
    };
    Ok(Tunnel {
        device,
        attribute: attribute.unwrap_or_default(),
        // It takes the other devices to tell.
        elsewhere: Some(false),
    })
}

/// Finds out which devices have their sockets in another network namespace.
fn place_tunnels(tunnels: &mut [Tunnel], links: &[Link]) {
    let others: Vec<Other> = tunnels
        .iter()
        .map(|tunnel| {
            let device = &tunnel.device;
            let link = find_link(links, &device.name);
            Other {
                name: device.name.clone(),
                mark: device.fwmark,
                port: device.listen_port,
                userspace: link.is_none_or(|link| link.kind != KIND),
            }
        })
        .collect();
    for tunnel in tunnels {
        tunnel.elsewhere = lives_elsewhere(&tunnel.device, &tunnel.attribute, &others, links);
    }
}

/// Whether the sockets of a device are in another network namespace; `None` where nothing tells.
fn lives_elsewhere(
    device: &Device,
    attribute: &str,
    others: &[Other],
    links: &[Link],
) -> Option<bool> {
    if !attribute.is_empty() {
        let bind = kernel_bind(device, attribute.to_owned(), links);
        return Some(matches!(
            bind,
            Bind::Kernel {
                presence: Presence::Unknown,
                ..
            }
        ));
    }
    let port = device.listen_port;
    let Some(link) = find_link(links, &device.name) else {
        return super::is_program_elsewhere(&device.name, port);
    };
    match place_sockets(link, port, &find_rivals(link, port, others, links)) {
        Sockets::Elsewhere => Some(true),
        Sockets::Contested => None,
        Sockets::Here | Sockets::Unknown => Some(false),
    }
}

fn read_rp_filter(name: &str) -> Option<u8> {
    let name = ifname::name_bytes(name);
    let path = [b"/proc/sys/net/ipv4/conf/", &*name, b"/rp_filter"].concat();
    let value = fs::read_to_string(OsStr::from_bytes(&path)).ok()?;
    value.trim().parse().ok()
}

/// Entries are read in any case: one may be left of a device that is not bound any more.
fn read_hooks(links: &[Link], wanted: bool) -> facts::HookState {
    let mut read = facts::HookState {
        entries: Ok(Vec::new()),
        stale: Vec::new(),
        unable: None,
        unable_again: None,
    };
    match Hooks::find_hooks().and_then(|hooks| hooks.read_entries()) {
        Ok(entries) => {
            read.stale = receive::find_unused(&entries, links);
            read.entries = Ok(entries);
            let try_them = |all_sockets| try_hooks(all_sockets).err().map(|why| first_line(&why));
            if wanted {
                read.unable = try_them(false);
            }
            if read.unable.is_some() {
                read.unable_again = try_them(true);
            }
        }
        Err(reason) => {
            let why = first_line(&reason);
            // Without hooks a kernel has no entries either.
            if !reason.is_absence() {
                read.entries = Err(why.clone());
            }
            (read.unable, read.unable_again) = (Some(why.clone()), Some(why));
        }
    }
    read
}

/// Without the words of the kernel's checker.
fn first_line(reason: &Unavailable) -> String {
    let text = reason.to_string();
    text.lines().next().unwrap_or_default().to_owned()
}

// Packet filters.

fn read_filter() -> Seen<Filter> {
    let mut filter = Filter::default();
    if has_nft_tables()? {
        filter.nft = list_rules("nft", &["-a", "list", "ruleset"])?;
    }
    for (names, program, list) in [
        ("ip_tables_names", "iptables-legacy", "iptables-legacy-save"),
        (
            "ip6_tables_names",
            "ip6tables-legacy",
            "ip6tables-legacy-save",
        ),
    ] {
        let tables = fs::read_to_string(format!("/proc/thread-self/net/{names}"));
        if tables.is_ok_and(|tables| tables.lines().any(|table| table == "filter")) {
            let text = list_rules(list, &["-t", "filter"])?;
            filter.legacy.push((program, text));
        }
    }
    Ok(filter)
}

/// Whether this namespace has a table of nftables, asked over netlink: without one there is nothing
/// that a program could list.
fn has_nft_tables() -> Seen<bool> {
    /// `NFNL_SUBSYS_NFTABLES` and `NFT_MSG_GETTABLE` (linux/netfilter/nfnetlink.h, nf_tables.h)
    const GET_TABLE: u16 = (10 << 8) | 1;
    /// `struct nfgenmsg`: every family, version 0.
    const ALL: [u8; 4] = [0; 4];
    let mut socket = match Socket::open(NlFamily::Netfilter) {
        Ok(socket) => socket,
        Err(err) if err.raw_os_error() == Some(libc::EPROTONOSUPPORT) => return Ok(false),
        Err(err) => return Err(err.to_string()),
    };
    let mut request = nlmsg::request_raw(GET_TABLE, nlmsg::DUMP, &ALL);
    let found = socket.dump(
        &mut request,
        || false,
        |found, _| {
            *found = true;
            Ok(Next::More)
        },
    );
    match found {
        Ok(found) => Ok(found),
        // A kernel without nftables.
        Err(Failure {
            errno: libc::EINVAL | libc::EOPNOTSUPP | libc::EAFNOSUPPORT | libc::EPROTONOSUPPORT,
            ..
        }) => Ok(false),
        Err(failure) => Err(format!("nftables: {}", explain_failure(failure))),
    }
}

/// What a program prints, within limits of time and size.
fn list_rules(program: &str, args: &[&str]) -> Seen<String> {
    let path = super::programs::find_program(program)
        .ok_or_else(|| format!("there are rules, and no program `{program}' that lists them"))?;
    let words = |text: &[u8]| CString::new(text).map_err(|err| format!("{program}: {err}"));
    let path = words(path.as_os_str().as_bytes())?;
    let args = args.iter().map(|arg| words(arg.as_bytes()));
    let args = args.collect::<std::result::Result<Vec<_>, _>>()?;
    let args: Vec<&CStr> = args.iter().map(CString::as_c_str).collect();
    let spawned = sys::Child::spawn(&path, &args);
    let (mut child, output) = spawned.map_err(|err| format!("{program}: {err}"))?;
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut text = String::new();
        let read = output.take(FILTER_BYTES).read_to_string(&mut text);
        // Nobody listens any more where it took too long.
        let _ = sender.send(read.is_ok().then_some(text));
    });
    let deadline = Instant::now() + FILTER_PATIENCE;
    let text = receiver.recv_timeout(FILTER_PATIENCE);
    loop {
        match child.read_exit() {
            Ok(Some(0)) => break,
            Ok(Some(code)) => return Err(format!("{program}: exit status: {code}")),
            Ok(None) if Instant::now() < deadline => thread::sleep(Duration::from_millis(2)),
            _ => {
                return Err(format!(
                    "`{program}' took more than {} seconds or {} MiB",
                    FILTER_PATIENCE.as_secs(),
                    FILTER_BYTES >> 20
                ));
            }
        }
    }
    match text {
        Ok(Some(text)) if (text.len() as u64) < FILTER_BYTES => Ok(text),
        _ => Err(format!("the output of `{program}' cannot be read")),
    }
}

// Modules on the disk.

pub fn read_modules() -> Modules {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut modules = Modules {
        release: release.trim().to_owned(),
        files: Vec::new(),
    };
    for entry in fs::read_dir("/lib/modules").into_iter().flatten().flatten() {
        let release = entry.file_name().to_string_lossy().into_owned();
        let mut files = Vec::new();
        for folder in ["kernel/drivers/net/wireguard", "updates", "extra"] {
            find_modules(&entry.path().join(folder), MODULE_DEPTH, &mut files);
        }
        let built = is_built_by_dkms(Path::new("/var/lib/dkms"), &release);
        for file in files {
            modules
                .files
                .push((release.clone(), has_mark(&file, built)));
        }
    }
    modules
}

/// Whether DKMS has put the module of wg-vrf-TREE-dkms into the modules of this kernel: it keeps a link
/// `wg-vrf-TREE/kernel-RELEASE-MACHINE` as long as the module is there.
fn is_built_by_dkms(dkms: &Path, release: &str) -> bool {
    let list = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten();
    let ours = list(dkms).filter(|entry| entry.file_name().as_bytes().starts_with(b"wg-vrf-"));
    ours.flat_map(|package| list(&package.path())).any(|entry| {
        let name = entry.file_name();
        let built = name.to_str().and_then(|name| name.strip_prefix("kernel-"));
        // The name of a machine has no hyphen.
        built
            .and_then(|name| name.rsplit_once('-'))
            .is_some_and(|(kernel, _)| kernel == release)
    })
}

/// Modules of WireGuard. Those of DKMS and of the distribution may be compressed.
fn find_modules(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && depth > 0 => find_modules(&path, depth - 1, found),
            _ => {
                let name = entry.file_name();
                let suffix = name.as_bytes().strip_prefix(b"wireguard.ko");
                if matches!(suffix, Some(b"" | b".gz" | b".xz" | b".zst")) {
                    found.push(path);
                }
            }
        }
    }
}

/// Whether a module has the attribute. Into one that is compressed nobody looks: it has it where DKMS `built`
/// it from our source.
fn has_mark(file: &Path, built: bool) -> bool {
    if file.extension().is_none_or(|extension| extension != "ko") {
        return built && file.components().any(|part| part.as_os_str() == "dkms");
    }
    let mut bytes = Vec::new();
    let read =
        fs::File::open(file).and_then(|file| file.take(MODULE_BYTES).read_to_end(&mut bytes));
    read.is_ok()
        && bytes
            .windows(MODULE_MARK.len())
            .any(|part| part == MODULE_MARK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_held_to_its_limits() {
        assert_eq!(list_rules("echo", &["a"]).unwrap(), "a\n");
        assert!(list_rules("false", &[]).is_err());
        let missing = list_rules("no-such-program-here", &[]).unwrap_err();
        assert!(missing.contains("no program"), "{missing}");
        // A reader that stops makes the writer end.
        let endless = list_rules("yes", &[]).unwrap_err();
        assert!(endless.contains("yes"), "{endless}");
    }

    /// A kernel without nftables has no filter. One that does not say so may well have one.
    #[test]
    fn a_filter_that_cannot_be_read_is_not_none() {
        use crate::backend::scripted::{ERROR, ScriptedKernel, done, frame, with};

        let look = |errno: i32| {
            let answer = move |_, request: &[u8]| {
                let sequence = nlmsg::u32_at(request, 8);
                vec![(0, frame(ERROR, 0, sequence, &done(errno)))]
            };
            with(ScriptedKernel::saying(answer), has_nft_tables)
        };
        assert_eq!(look(libc::EINVAL), Ok(false));
        assert!(look(libc::EPERM).is_err());
    }

    #[test]
    fn a_module_for_another_kernel_is_named() {
        let say = |files: &[(&str, bool)]| {
            let files = files
                .iter()
                .map(|(release, has)| ((*release).to_owned(), *has));
            let (release, files) = ("6.2".to_owned(), files.collect());
            Modules { release, files }.explain_fallback("wg0")
        };
        assert_eq!(say(&[("6.1", false), ("6.2", false)]), None);
        let other = say(&[("6.1", true), ("6.2", false)]).unwrap();
        assert!(other.contains("for kernel 6.1, and not for the running 6.2"));
        assert!(other.contains("bind wg0 instead, which is weaker"));
        let idle = say(&[("6.1", true), ("6.2", false), ("6.2", true)]).unwrap();
        assert!(idle.contains("not loaded") && idle.ends_with("Reboot"));
    }

    #[test]
    fn modules_are_found_by_their_words() {
        let folder = std::env::temp_dir().join(format!("wg-doctor-{}", std::process::id()));
        let deep = folder.join("a/b");
        fs::create_dir_all(&deep).unwrap();
        fs::write(deep.join("wireguard.ko"), b"\0No such device to bind to\0").unwrap();
        fs::write(folder.join("wireguard.ko"), b"\0No such device to find\0").unwrap();
        fs::write(folder.join("vrf.ko"), b"").unwrap();
        // That of the distribution, and that of DKMS.
        for place in ["kernel", "updates/dkms"] {
            fs::create_dir_all(folder.join(place)).unwrap();
            fs::write(folder.join(place).join("wireguard.ko.xz"), b"").unwrap();
        }
        let kernel = "dkms/wg-vrf-6.12/kernel-6.12.5+deb13-amd64-x86_64";
        fs::create_dir_all(folder.join(kernel)).unwrap();
        let is_built = |release| is_built_by_dkms(&folder.join("dkms"), release);
        assert!(is_built("6.12.5+deb13-amd64") && !is_built("6.12.5+deb13"));
        let mut found = Vec::new();
        find_modules(&folder, MODULE_DEPTH, &mut found);
        found.sort();
        let look = |built| found.iter().map(|file| has_mark(file, built)).collect();
        let (with, without): (Vec<bool>, Vec<bool>) = (look(true), look(false));
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(with, [true, false, true, false]);
        assert_eq!(without, [true, false, false, false]);
    }
}
