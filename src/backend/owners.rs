// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Which sockets are a process's. Those of the kernel's own, as a kernel device has, are in no
//! process's hands.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::rc::Rc;

use super::namespaces;
#[cfg(test)]
use super::scripted;

/// The sockets of processes, by their inodes.
pub struct Owners {
    inodes: HashSet<u32>,
    /// Every process could be looked at.
    complete: bool,
}

thread_local! {
    /// The sockets that were there before the last look, and what it found: that is so for good.
    static LAST: RefCell<Option<(HashSet<u32>, Rc<Owners>)>> = const { RefCell::new(None) };
}

impl Owners {
    /// Tells of these sockets. Once for many: a look goes through the files of all processes.
    pub fn find_owners(asked: &[u32]) -> Rc<Self> {
        #[cfg(test)]
        if let Some(inodes) = scripted::process_sockets() {
            let complete = true;
            return Rc::new(Owners { inodes, complete });
        }
        LAST.with_borrow_mut(|last| {
            let known = last.take().filter(|(there, _)| {
                let mut asked = asked.iter();
                asked.all(|inode| there.contains(inode))
            });
            let (there, owners) = known.unwrap_or_else(|| {
                let mut there: HashSet<u32> = asked.iter().copied().collect();
                for file in ["udp", "udp6"] {
                    let text = fs::read_to_string(format!("/proc/thread-self/net/{file}"));
                    there.extend(text.unwrap_or_default().lines().filter_map(parse_inode));
                }
                (there, Rc::new(Owners::look()))
            });
            *last = Some((there, Rc::clone(&owners)));
            owners
        })
    }

    /// Looks at the open files of every process that shows.
    fn look() -> Self {
        let mut inodes = HashSet::new();
        let mut complete = namespaces::sees_all_processes();
        for process in namespaces::read_processes() {
            match fs::read_dir(process.join("fd")) {
                Ok(files) => {
                    let targets = files.flatten().map(|file| fs::read_link(file.path()));
                    inodes.extend(
                        targets
                            .flatten()
                            .filter_map(|target| parse_target(target.as_os_str().as_bytes())),
                    );
                }
                Err(err) => complete &= namespaces::is_gone(&err),
            }
        }
        Owners { inodes, complete }
    }

    /// Whether a process has this socket; `None` where it cannot be told.
    pub fn is_process(&self, inode: u32) -> Option<bool> {
        match self.inodes.contains(&inode) {
            false if !self.complete => None,
            found => Some(found),
        }
    }
}

/// The inode in a line of /proc/net/udp.
pub fn parse_inode(line: &str) -> Option<u32> {
    line.split_whitespace().nth(9)?.parse().ok()
}

/// The number in `socket:[12345]`.
fn parse_target(target: &[u8]) -> Option<u32> {
    let number = target.strip_prefix(b"socket:[")?.strip_suffix(b"]")?;
    std::str::from_utf8(number).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn a_socket_of_this_process_is_known() {
        let socket = std::net::UdpSocket::bind(("127.0.0.1", 0)).unwrap();
        let number = std::os::fd::AsRawFd::as_raw_fd(&socket);
        let path = format!("/proc/self/fd/{number}");
        let inode = u32::try_from(fs::metadata(&path).unwrap().ino()).unwrap();
        assert_eq!(Owners::find_owners(&[inode]).is_process(inode), Some(true));
        // One that was made after a look is looked for.
        let later = std::net::UdpSocket::bind(("127.0.0.1", 0)).unwrap();
        let number = std::os::fd::AsRawFd::as_raw_fd(&later);
        let path = format!("/proc/self/fd/{number}");
        let later_inode = u32::try_from(fs::metadata(&path).unwrap().ino()).unwrap();
        let both = Owners::find_owners(&[inode, later_inode]);
        assert_eq!(both.is_process(later_inode), Some(true));
        drop((socket, later));
        let text = "  9: 00000000:C739 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4711 2 0 0";
        assert_eq!(parse_inode(text), Some(4711));
        assert_eq!(parse_target(b"pipe:[7]"), None);
        assert_eq!(parse_target(b"socket:[7]"), Some(7));
    }
}
