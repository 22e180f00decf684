// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Links and policy rules of this network namespace, and the lock around changing them.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, Instant};

use neli::consts::socket::NlFamily;

use super::diag;
use super::netlink::{Failure, Next, Socket};
use crate::error::{Error, Result, Task, strerror};
use crate::ifname;
use crate::model::{Family, Rule};
use crate::plan::rules::Rules;
use crate::sys;
use crate::wire::route::{self, Link};

/// How long one command waits for another that is changing rules. Longer than one exchange with the program
/// that serves a userspace device may take.
const LOCK_PATIENCE: Duration = Duration::from_secs(75);

/// A socket to routing netlink.
pub struct Routing(Socket);

impl Routing {
    pub fn open() -> io::Result<Self> {
        Socket::open(NlFamily::Route).map(Routing)
    }

    pub fn read_links(&mut self) -> std::result::Result<Vec<Link>, Failure> {
        self.0
            .dump(&mut route::get_links(), Vec::new, |links, payload| {
                links.extend(route::decode_link(payload));
                Ok(Next::More)
            })
    }

    /// The links of a list for people and scripts. Where links come and go all the time it may lack
    /// some, as the reference's.
    pub fn list_links(&mut self) -> std::result::Result<Vec<Link>, Failure> {
        self.0
            .dump_as_it_is(&mut route::get_links(), Vec::new, |links, payload| {
                links.extend(route::decode_link(payload));
                Ok(Next::More)
            })
    }

    /// All rules, in the order in which the kernel asks them.
    pub fn read_rules(&mut self) -> std::result::Result<Rules, Failure> {
        Ok(Rules {
            v4: self.rules_of(Family::V4)?,
            v6: self.rules_of(Family::V6)?,
        })
    }

    /// `None` where the family is off.
    fn rules_of(&mut self, family: Family) -> std::result::Result<Option<Vec<Rule>>, Failure> {
        let rules = self
            .0
            .dump(&mut route::get_rules(family), Vec::new, |rules, payload| {
                rules.push(route::decode_rule(payload));
                Ok(Next::More)
            });
        match rules {
            Ok(rules) => Ok(Some(rules)),
            Err(failure) if is_off(failure.errno) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Adds rules, all or none. `present` are those that are there: what is among them is added
    /// a second time, behind the first. The returned ones are to be removed again if need be.
    pub fn add_rules(
        &mut self,
        rules: &[(Family, Rule)],
        present: &Rules,
    ) -> Result<Vec<(Family, Rule)>> {
        let mut added = Vec::new();
        for (family, rule) in rules {
            let twin = present.iter_rules().any(|(f, r)| f == *family && r == rule);
            let request = &mut route::add_rule(*family, rule, twin);
            match self.0.ask(request, |_| {}) {
                // A second one does no harm, and removing it would take the first.
                Ok(()) if twin => {}
                Ok(()) => added.push((*family, *rule)),
                Err(Failure {
                    errno: libc::EEXIST,
                    ..
                }) => {}
                Err(failure) => {
                    // This one too: an answer that got lost does not say what was done.
                    if !twin {
                        added.push((*family, *rule));
                    }
                    let undone = self.remove_rules(&added);
                    let mut error = explain_rule("add", *family, rule, failure);
                    // The one that was refused is mostly not there, and as mostly not removed.
                    let others = added.len() > usize::from(!twin);
                    if let (Err(stuck), Error::Os { words, .. }, true) =
                        (undone, &mut error, others)
                    {
                        *words = Some(format!("and the rules added before it stay: {stuck}"));
                    }
                    return Err(error);
                }
            }
        }
        Ok(added)
    }

    /// Removes rules; those that are gone already are fine. Goes on after an error.
    pub fn remove_rules(&mut self, rules: &[(Family, Rule)]) -> Result<()> {
        let mut done = Ok(());
        // As they were added, the closing rule after its lookup: in between packets are refused
        // rather than sent elsewhere.
        for (family, rule) in rules {
            match self.0.ask(&mut route::delete_rule(*family, rule), |_| {}) {
                Ok(()) => {}
                Err(Failure {
                    errno: libc::ENOENT | libc::EAFNOSUPPORT,
                    ..
                }) => {}
                Err(failure) => {
                    done = done.and(Err(explain_rule("remove", *family, rule, failure)))
                }
            }
        }
        done
    }
}

fn is_off(errno: i32) -> bool {
    matches!(errno, libc::EAFNOSUPPORT | libc::EOPNOTSUPP)
}

fn explain_rule(verb: &str, family: Family, rule: &Rule, failure: Failure) -> Error {
    failure.with_task(Task::Other(format!(
        "Cannot {verb} the {family} rule `{rule}'"
    )))
}

/// The file whose lock is held while rules, marks and ports are read and changed.
///
/// It is a sysctl with mode 0600. The kernel lets root of this namespace's user namespace open it, and a
/// process with CAP_NET_ADMIN over it, and each namespace has its own. So a process of another user cannot hold
/// the lock, nothing is left behind, and /run need not be writable. The file is never read. Two
/// processes exclude each other when they see one mount of /proc. Those of different mount
/// namespaces do, too, unless one has mounted a /proc of its own.
const LOCK_FILE: &str = "/proc/sys/net/ipv4/tcp_fastopen_key";

/// Keeps two commands from changing rules at once.
pub enum Lock {
    Held(#[allow(dead_code, reason = "held, never read")] File),
    /// The file cannot be opened here, by no `wg`.
    Unavailable(io::Error),
}

impl Lock {
    /// # Errors
    /// Another process has had the lock for a long time.
    pub fn take_lock() -> Result<Lock> {
        #[cfg(test)]
        match super::scripted::has_lock() {
            Some(true) => return Ok(Lock::Held(File::open("/").expect("a folder"))),
            Some(false) => {
                let denied = io::Error::from_raw_os_error(libc::EACCES);
                return Ok(Lock::Unavailable(denied));
            }
            None => {}
        }
        let file = match File::open(LOCK_FILE) {
            Ok(file) => file,
            Err(err) => return Ok(Lock::Unavailable(err)),
        };
        let start = Instant::now();
        loop {
            let err = match sys::try_lock(file.as_fd()) {
                Ok(()) => return Ok(Lock::Held(file)),
                Err(err) => err,
            };
            match err.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                    if start.elapsed() < LOCK_PATIENCE =>
                {
                    std::thread::sleep(Duration::from_millis(3));
                }
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => {
                    return Err(Error::Unsupported(format!(
                        "Another process holds the lock on policy rules ({LOCK_FILE}) for {} \
                         seconds; nothing was changed. `grep FLOCK /proc/locks' names processes",
                        LOCK_PATIENCE.as_secs()
                    )));
                }
                _ => return Ok(Lock::Unavailable(err)),
            }
        }
    }

    /// For changes that must not be made without the lock.
    pub fn or_refuse(self) -> Result<Lock> {
        match self {
            Lock::Held(_) => Ok(self),
            Lock::Unavailable(err) => Err(Error::Unsupported(format!(
                "Cannot lock the policy rules by {LOCK_FILE}: {}; nothing was changed. It \
                 takes CAP_NET_ADMIN, and an AppArmor profile of wg must allow to lock it (rwk)",
                strerror(err.raw_os_error().unwrap_or(libc::EIO))
            ))),
        }
    }
}

/// `net.ipv4.udp_l3mdev_accept`; `None` when it cannot be read.
pub fn l3mdev_accept() -> Option<bool> {
    let value = fs::read_to_string("/proc/sys/net/ipv4/udp_l3mdev_accept").ok()?;
    Some(value.trim() != "0")
}

/// How many UDP sockets of this thread's namespace take packets to every address on this port, as
/// a device's do: the larger number of either family. Those of a process count for one, the kernel's
/// for another `process`, and all for `None`, or where only /proc tells of them. `None` when it cannot
/// be told.
pub fn count_wildcard_sockets(port: u16, process: Option<bool>) -> Option<usize> {
    if let Ok(mut sockets) = diag::udp_sockets(port) {
        sockets.retain(|one| match process {
            Some(process) => one.may_be_of(process),
            None => one.wildcard,
        });
        let v6 = sockets.iter().filter(|one| one.v6).count();
        return Some(v6.max(sockets.len() - v6));
    }
    let count = |file: &str| {
        let text = fs::read_to_string(file).ok()?;
        let lines = text.lines().filter(|line| {
            let address = line.split_whitespace().nth(1).unwrap_or_default();
            let mut digits = address.bytes().take_while(|byte| *byte != b':');
            local_port(line) == Some(port) && digits.all(|byte| byte == b'0')
        });
        Some(lines.count())
    };
    let v4 = count("/proc/thread-self/net/udp")?;
    Some(v4.max(count("/proc/thread-self/net/udp6").unwrap_or(0)))
}

/// A UDP port that is free in this namespace.
pub fn find_free_port() -> Option<u16> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    Some(socket.local_addr().ok()?.port())
}

/// Whether a link was there before this namespace was: sysfs numbers its folders as they are
/// made, and the first one of a namespace is that of its loopback. A link keeps its folder when
/// it moves.
pub fn is_older_than_namespace(link: &str) -> Option<bool> {
    let number = |name: &str| {
        let name = ifname::name_bytes(name);
        let path = [b"/sys/class/net/", &*name, b"/"].concat();
        Some(fs::metadata(OsStr::from_bytes(&path)).ok()?.ino())
    };
    Some(number(link)? < number("lo")?)
}

/// Whether a socket that is bound to no device could not have this UDP port now.
pub fn is_port_taken(port: u16) -> bool {
    let taken = |addr: IpAddr| {
        UdpSocket::bind((addr, port)).is_err_and(|err| err.kind() == io::ErrorKind::AddrInUse)
    };
    taken(Ipv4Addr::UNSPECIFIED.into()) || taken(Ipv6Addr::UNSPECIFIED.into())
}

/// The port in a line of /proc/net/udp: `  12: 00000000:C739 00000000:0000 07 ...`.
fn local_port(line: &str) -> Option<u16> {
    let (_, port) = line.split_whitespace().nth(1)?.rsplit_once(':')?;
    u16::from_str_radix(port, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_taken_while_a_socket_has_it() {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = socket.local_addr().unwrap().port();
        assert!(is_port_taken(port));
        drop(socket);
        assert!(!is_port_taken(port));
    }

    /// A device has a socket of each family. A program may have one for both.
    #[test]
    fn sockets_count_by_the_family_that_has_more() {
        use super::super::scripted::{DONE, ScriptedKernel, done, frame, with};

        let count = |families: &'static [u8]| {
            let answer = move |_, request: &[u8]| {
                let sequence = crate::wire::nlmsg::u32_at(request, 8);
                let mut socket = vec![0; 72];
                socket[0] = request[16];
                socket[4..6].copy_from_slice(&51001u16.to_be_bytes());
                let mut bytes = frame(DONE, 0, sequence, &done(0));
                if families.contains(&request[16]) {
                    bytes = [frame(20, 0, sequence, &socket), bytes].concat();
                }
                vec![(0, bytes)]
            };
            with(ScriptedKernel::saying(answer), || {
                count_wildcard_sockets(51001, None)
            })
        };
        for (families, wanted) in [(&[][..], 0), (&[2], 1), (&[10], 1), (&[2, 10], 1)] {
            assert_eq!(count(families), Some(wanted), "{families:?}");
        }
    }

    /// Who may not take the lock is refused; who may waits for the one who has it.
    #[test]
    fn rules_are_changed_by_one_at_a_time() {
        let denied = io::Error::from_raw_os_error(libc::EACCES);
        assert!(Lock::Unavailable(denied).or_refuse().is_err());
        let first = Lock::take_lock().unwrap();
        let may = matches!(first, Lock::Held(_));
        let second = std::thread::spawn(|| (Lock::take_lock().unwrap(), Instant::now()));
        std::thread::sleep(Duration::from_millis(100));
        let released = Instant::now();
        drop(first);
        let (second, taken) = second.join().unwrap();
        assert_eq!(matches!(second, Lock::Held(_)), may);
        assert!(!may || taken >= released, "two have the lock");
    }

    #[test]
    fn what_the_machine_says_is_not_turned_round() {
        let sysctl = fs::read_to_string("/proc/sys/net/ipv4/udp_l3mdev_accept").ok();
        assert_eq!(l3mdev_accept(), sysctl.map(|value| value == "1\n"));
        assert_eq!(is_older_than_namespace("lo"), Some(false));
        assert_eq!(is_older_than_namespace("no such link"), None);
    }

    #[test]
    fn ports_are_read_from_procs_table() {
        let line = "  123: 00000000:C739 00000000:0000 07 00000000:00000000 00:00000000";
        assert_eq!(local_port(line), Some(51001));
        let six =
            "  9: 00000000000000000000000000000000:0035 00000000000000000000000000000000:0000";
        assert_eq!(local_port(six), Some(53));
        assert_eq!(local_port("  sl  local_address rem_address"), None);
    }
}
