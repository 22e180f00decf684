// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Which sockets are a process's. Those of the kernel's own, as a kernel device has, are in no
//! process's hands.

use std::collections::HashSet;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;

use super::namespaces;
#[cfg(test)]
use super::scripted;

/// The sockets of processes, by their inodes.
pub struct Owners {
    inodes: HashSet<u32>,
    /// Every process could be looked at.
    complete: bool,
}

impl Owners {
    /// Looks at the open files of every process that shows.
    pub fn find_owners() -> Self {
        #[cfg(test)]
        if let Some(inodes) = scripted::process_sockets() {
            let complete = true;
            return Owners { inodes, complete };
        }
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
        assert_eq!(Owners::find_owners().is_process(inode), Some(true));
        drop(socket);
        assert_ne!(Owners::find_owners().is_process(inode), Some(true));
        assert_eq!(parse_target(b"pipe:[7]"), None);
        assert_eq!(parse_target(b"socket:[7]"), Some(7));
    }
}
