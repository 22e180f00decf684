// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Links and policy rules of this network namespace, and the lock around changing them.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use neli::consts::socket::NlFamily;

use super::netlink::{Failure, Next, Socket};
use crate::error::{Error, Result, Task};
use crate::plan::rules::{Family, Rule, Rules};
use crate::sys;
use crate::wire::route::{self, Link};

/// How long one command waits for another that is changing rules.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);

/// A socket to routing netlink.
pub struct Routing(Socket);

impl Routing {
    pub fn open() -> io::Result<Self> {
        Socket::open(NlFamily::Route).map(Routing)
    }

    pub fn links(&mut self) -> std::result::Result<Vec<Link>, Failure> {
        self.0
            .dump(&mut route::get_links(), Vec::new, |links, payload| {
                links.extend(route::link(payload));
                Ok(Next::More)
            })
    }

    /// All rules, in the order in which the kernel asks them.
    pub fn rules(&mut self) -> std::result::Result<Rules, Failure> {
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
                rules.push(route::rule(payload));
                Ok(Next::More)
            });
        match rules {
            Ok(rules) => Ok(Some(rules)),
            Err(failure) if is_off(failure.errno) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Adds rules, all or none. Those that were there already are not among the returned ones.
    pub fn add(&mut self, rules: &[(Family, Rule)]) -> Result<Vec<(Family, Rule)>> {
        let mut added = Vec::new();
        for (family, rule) in rules {
            match self.0.ask(&mut route::add_rule(*family, rule), |_| {}) {
                Ok(()) => added.push((*family, *rule)),
                Err(Failure {
                    errno: libc::EEXIST,
                    ..
                }) => {}
                Err(failure) => {
                    // This one too: an answer that got lost does not say what was done.
                    added.push((*family, *rule));
                    let undone = self.remove(&added);
                    let mut error = about("add", *family, rule, failure);
                    if let (Err(stuck), Error::Os { words, .. }) = (undone, &mut error) {
                        *words = Some(format!("and the rules added before it stay: {stuck}"));
                    }
                    return Err(error);
                }
            }
        }
        Ok(added)
    }

    /// Removes rules; those that are gone already are fine. Goes on after an error.
    pub fn remove(&mut self, rules: &[(Family, Rule)]) -> Result<()> {
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
                Err(failure) => done = done.and(Err(about("remove", *family, rule, failure))),
            }
        }
        done
    }
}

fn is_off(errno: i32) -> bool {
    matches!(errno, libc::EAFNOSUPPORT | libc::EOPNOTSUPP)
}

fn about(verb: &str, family: Family, rule: &Rule, failure: Failure) -> Error {
    let ip = match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    };
    failure.during(Task::Other(format!("Cannot {verb} the {ip} rule `{rule}'")))
}

/// Keeps two commands from changing rules at once. It is the lock of the network namespace's
/// own file: nothing is left behind, and other namespaces do not wait.
pub struct Lock(#[allow(dead_code, reason = "held, never read")] File);

impl Lock {
    /// Waits, but not for ever: anybody in the namespace could hold the lock, so after a while
    /// this goes on without it. The kernel refuses doubled rules either way.
    pub fn take(note: &mut dyn FnMut(&str)) -> Option<Lock> {
        let file = File::open("/proc/self/ns/net").ok()?;
        let start = Instant::now();
        loop {
            match sys::try_lock(file.as_fd()) {
                Ok(()) => return Some(Lock(file)),
                Err(err)
                    if matches!(
                        err.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                    ) && start.elapsed() < LOCK_PATIENCE =>
                {
                    std::thread::sleep(Duration::from_millis(3));
                }
                Err(_) => {
                    note("another process holds the lock on policy rules; going on without it");
                    return None;
                }
            }
        }
    }
}

/// `net.ipv4.udp_l3mdev_accept`; `None` when it cannot be read.
pub fn l3mdev_accept() -> Option<bool> {
    let value = fs::read_to_string("/proc/sys/net/ipv4/udp_l3mdev_accept").ok()?;
    Some(value.trim() != "0")
}

/// Whether any UDP socket of this thread's namespace has this local port; `None` when it cannot
/// be told.
pub fn has_udp_port(port: u16) -> Option<bool> {
    let v4 = fs::read_to_string("/proc/thread-self/net/udp").ok()?;
    let v6 = fs::read_to_string("/proc/thread-self/net/udp6").unwrap_or_default();
    Some(
        v4.lines()
            .chain(v6.lines())
            .skip(1)
            .any(|line| local_port(line) == Some(port)),
    )
}

/// The port in a line of /proc/net/udp: `  12: 00000000:C739 00000000:0000 07 ...`.
fn local_port(line: &str) -> Option<u16> {
    let (_, port) = line.split_whitespace().nth(1)?.rsplit_once(':')?;
    u16::from_str_radix(port, 16).ok()
}

/// Calls `look` once in every other network namespace that a process is in or a name is for.
pub fn in_other_namespaces<T: Send>(look: impl Fn() -> T + Sync) -> Vec<T> {
    use std::os::unix::fs::MetadataExt as _;
    let mut seen: Vec<u64> = fs::metadata("/proc/self/ns/net")
        .map(|here| here.ino())
        .into_iter()
        .collect();
    let named = ["/run/netns", "/var/run/netns"]
        .into_iter()
        .flat_map(|dir| fs::read_dir(dir).into_iter().flatten().flatten())
        .map(|entry| entry.path());
    let processes = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| {
            entry
                .file_name()
                .to_str()
                .is_some_and(|name| name.bytes().all(|b| b.is_ascii_digit()))
        })
        .map(|entry| entry.path().join("ns/net"));
    let mut found = Vec::new();
    for path in named.chain(processes) {
        let Ok(inode) = fs::metadata(&path).map(|ns| ns.ino()) else {
            continue;
        };
        if seen.contains(&inode) {
            continue;
        }
        seen.push(inode);
        let Ok(namespace) = File::open(&path) else {
            continue;
        };
        // A thread of its own, since the namespace belongs to the thread.
        let result = std::thread::scope(|scope| {
            scope
                .spawn(|| sys::enter_netns(namespace.as_fd()).map(|()| look()))
                .join()
        });
        if let Ok(Ok(result)) = result {
            found.push(result);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

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
