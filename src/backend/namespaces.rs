// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The other network namespaces of this machine, as far as they can be seen, and looks into them.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

#[cfg(test)]
use super::scripted;
use crate::error::strerror;
use crate::sys;

/// Why namespaces may be out of sight that no path is there for.
const HIDDEN: &str = "/proc does not show the processes of the whole machine: this is a container, \
                      or `hidepid' hides them";

/// Namespaces with the path that each was found by.
#[derive(Default)]
struct Found {
    namespaces: Vec<(PathBuf, File)>,
    /// The inodes of these, and of the namespace of this thread.
    seen: Vec<u64>,
    /// What could not be looked at, why, and what it takes.
    unknown: Option<String>,
}

impl Found {
    /// Takes the namespace that a path is for, unless it is known. For the kernel a namespace is a
    /// plain file. What takes its place between the two looks must not make the open wait.
    fn add_namespace(&mut self, path: PathBuf) {
        let open = || {
            let mut options = File::options();
            options
                .read(true)
                .custom_flags(libc::O_NONBLOCK)
                .open(&path)
        };
        let opened = fs::metadata(&path).and_then(|ns| {
            let new = ns.is_file() && !self.seen.contains(&ns.ino());
            Ok((ns.ino(), new.then(open).transpose()?))
        });
        match opened {
            Ok((inode, Some(namespace))) => {
                self.seen.push(inode);
                self.namespaces.push((path, namespace));
            }
            Ok((_, None)) => {}
            // A process that ended, or a name that is for nothing any more.
            Err(err) if is_gone(&err) => {}
            // So says the kernel of a process that ends meanwhile.
            Err(err) if err.kind() == io::ErrorKind::PermissionDenied && has_ended(&path) => {}
            Err(err) => self.note_missing(&path, &err),
        }
    }

    /// The entries of a folder; none where it is gone.
    fn read_folder(&mut self, path: &Path) -> Vec<PathBuf> {
        let entries = fs::read_dir(path).and_then(|entries| {
            let paths = entries.map(|entry| Ok(entry?.path()));
            paths.collect::<io::Result<Vec<_>>>()
        });
        entries.unwrap_or_else(|err| {
            if !is_gone(&err) {
                self.note_missing(path, &err);
            }
            Vec::new()
        })
    }

    fn note_missing(&mut self, path: &Path, err: &io::Error) {
        let why = strerror(err.raw_os_error().unwrap_or(libc::EIO));
        self.unknown = Some(format!(
            "{} cannot be looked at: {why}; it takes root with CAP_SYS_PTRACE and CAP_SYS_ADMIN",
            path.display()
        ));
    }

    /// Calls `look` once in each of the namespaces.
    fn look_in_threads<T: Send>(&mut self, look: impl Fn() -> T + Sync) -> Vec<T> {
        let mut found = Vec::new();
        for (path, namespace) in std::mem::take(&mut self.namespaces) {
            // A thread of its own, since the namespace belongs to the thread.
            let result = std::thread::scope(|scope| {
                scope
                    .spawn(|| sys::enter_netns(namespace.as_fd()).map(|()| look()))
                    .join()
            });
            match result {
                Ok(Ok(result)) => found.push(result),
                // A plain file in /run/netns: the name of a namespace that is gone.
                Ok(Err(err)) if err.raw_os_error() == Some(libc::EINVAL) => {}
                Ok(Err(err)) => self.note_missing(&path, &err),
                Err(_) => self.note_missing(&path, &io::Error::from_raw_os_error(libc::EIO)),
            }
        }
        found
    }
}

pub fn is_gone(err: &io::Error) -> bool {
    matches!(err.raw_os_error(), Some(libc::ENOENT | libc::ESRCH))
}

/// Whether the process or thread that a path in /proc is about is gone.
fn has_ended(path: &Path) -> bool {
    // `PID/ns/net` and `PID/task/TID/ns/net`
    let folder = path.parent().and_then(Path::parent);
    folder.is_some_and(|folder| folder.starts_with("/proc") && !folder.exists())
}

/// The folders of all processes.
pub fn read_processes() -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| {
        let name = path.file_name().unwrap_or_default();
        name.as_bytes().iter().all(u8::is_ascii_digit)
    })
}

/// The other network namespaces that a process is in or a name is for, once each. With `one`, the
/// search ends with the first: every device of the kernel has a thread in /proc.
fn find_others(one: bool) -> Found {
    let mut found = Found::default();
    let own = Path::new("/proc/thread-self/ns/net");
    match fs::metadata(own) {
        Ok(here) => found.seen.push(here.ino()),
        Err(err) => {
            found.note_missing(own, &err);
            return found;
        }
    }
    let named = ["/run/netns", "/var/run/netns"].map(|path| found.read_folder(Path::new(path)));
    let processes = read_processes().map(|process| process.join("ns/net"));
    for path in named.into_iter().flatten().chain(processes) {
        found.add_namespace(path);
        if one && !found.namespaces.is_empty() {
            break;
        }
    }
    found
}

/// Adds the network namespaces that only a thread is in, a file is open for, or something is
/// mounted for.
fn find_hidden(found: &mut Found) {
    let mut mounts_seen: Vec<u64> = Vec::new();
    for process in read_processes() {
        for thread in found.read_folder(&process.join("task")) {
            found.add_namespace(thread.join("ns/net"));
        }
        match fs::read_dir(process.join("fd")) {
            Ok(files) => {
                for file in files.flatten() {
                    let info = process.join("fdinfo").join(file.file_name());
                    match fs::read(&info) {
                        Ok(info) if may_be_namespace(&info) => found.add_namespace(file.path()),
                        Ok(_) => {}
                        Err(err) if is_gone(&err) || has_ended(&info) => {}
                        Err(err) => found.note_missing(&info, &err),
                    }
                }
            }
            Err(err) if is_gone(&err) || !process.exists() => {}
            Err(err) => found.note_missing(&process.join("fd"), &err),
        }
        let own = process.join("ns/mnt");
        match fs::metadata(&own).map(|own| own.ino()) {
            Ok(mounts) if mounts_seen.contains(&mounts) => continue,
            Ok(mounts) => mounts_seen.push(mounts),
            Err(err) if is_gone(&err) || has_ended(&own) => continue,
            Err(err) => found.note_missing(&own, &err),
        }
        match fs::read(process.join("mountinfo")) {
            Ok(text) => {
                for place in parse_mounts(&text) {
                    found.add_namespace(process.join("root").join(place));
                }
            }
            // So says the kernel of a process that has ended.
            Err(err) if is_gone(&err) || err.raw_os_error() == Some(libc::EINVAL) => {}
            Err(err) => found.note_missing(&process.join("mountinfo"), &err),
        }
    }
}

/// Whether an open file may be a namespace, by its number in /proc/PID/fdinfo (`ino:`, since
/// 5.14). Its name does not tell when it was opened through a mount, and a look at a file of the
/// network may take for ever.
fn may_be_namespace(info: &[u8]) -> bool {
    /// Namespaces have numbers from here on: `PROC_UTS_INIT_INO` and the like (linux/proc_ns.h),
    /// then `PROC_DYNAMIC_FIRST` (fs/proc/generic.c).
    const FIRST: u64 = 0xefff_0000;
    let text = String::from_utf8_lossy(info);
    let mut numbers = text.lines().filter_map(|line| line.strip_prefix("ino:"));
    let number = numbers.next().and_then(|number| number.trim().parse().ok());
    // Without a number it has to be looked at.
    number.is_none_or(|number: u64| (FIRST..1 << 32).contains(&number))
}

/// Where network namespaces are mounted, without the first slash: proc_pid_mountinfo(5).
fn parse_mounts(mountinfo: &[u8]) -> Vec<PathBuf> {
    let lines = mountinfo.split(|byte| *byte == b'\n');
    let places = lines.filter_map(|line| {
        let mut words = line.split(|byte| *byte == b' ');
        let root = words.nth(3)?;
        let place = words.next()?;
        root.starts_with(b"net:[").then(|| decode_place(place))
    });
    places.collect()
}

/// Space, tab, newline and backslash stand as `\` and three octal digits.
fn decode_place(place: &[u8]) -> PathBuf {
    let mut bytes = Vec::new();
    let mut rest = place.strip_prefix(b"/").unwrap_or(place);
    while let Some((first, behind)) = rest.split_first() {
        let digits = behind
            .get(..3)
            .and_then(|digits| std::str::from_utf8(digits).ok());
        let coded = digits.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match coded.filter(|_| *first == b'\\') {
            Some(byte) => {
                bytes.push(byte);
                rest = &behind[3..];
            }
            None => {
                bytes.push(*first);
                rest = behind;
            }
        }
    }
    PathBuf::from(std::ffi::OsStr::from_bytes(&bytes))
}

/// Whether there is another network namespace, or may be one.
pub fn has_others() -> bool {
    #[cfg(test)]
    if let Some(others) = scripted::elsewhere(|| ()) {
        return !others.is_empty() || !sees_all_processes();
    }
    let found = find_others(true);
    !found.namespaces.is_empty() || found.unknown.is_some() || !sees_all_processes()
}

/// How far a search for namespaces goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Those that a process is in or a name is for.
    Known,
    /// Those too that only a thread, an open file or a mount keeps: it takes a look at each of them.
    Hidden,
}

/// Calls `look` once in every other network namespace, in tests in those of the script. Says why, if
/// it could not look into all: from a container those of the host do not show.
pub fn in_others<T: Send>(depth: Depth, look: impl Fn() -> T + Sync) -> (Vec<T>, Option<String>) {
    let hidden = || (!sees_all_processes()).then(|| HIDDEN.to_owned());
    #[cfg(test)]
    if let Some(results) = scripted::elsewhere(&look) {
        return (results, hidden());
    }
    let mut found = find_others(false);
    if depth == Depth::Hidden {
        find_hidden(&mut found);
    }
    let results = found.look_in_threads(look);
    (results, found.unknown.or_else(hidden))
}

/// Which of these cookies belong to no namespace any more. None does, where a namespace may be out
/// of sight.
pub fn find_gone(cookies: &[u64]) -> Vec<u64> {
    let (true, Ok(own)) = (sees_all_processes(), sys::netns_cookie()) else {
        return Vec::new();
    };
    let mut gone = cookies.to_vec();
    gone.retain(|one| *one != own);
    let mut found = find_others(false);
    // Threads and open files are many, and most often there is no need to look at them.
    for deep in [false, true] {
        if deep {
            find_hidden(&mut found);
        }
        for cookie in found.look_in_threads(sys::netns_cookie) {
            let Ok(cookie) = cookie else {
                return Vec::new();
            };
            gone.retain(|one| *one != cookie);
        }
        if found.unknown.is_some() || gone.is_empty() {
            return Vec::new();
        }
    }
    gone
}

/// Whether /proc shows the processes of the whole machine: it is not that of a container, and
/// `hidepid` does not hide others.
pub fn sees_all_processes() -> bool {
    /// `PROC_PID_INIT_INO` (linux/proc_ns.h): the first PID namespace.
    const FIRST: u64 = 0xefff_fffc;
    #[cfg(test)]
    if let Some(sees) = scripted::sees_all_processes() {
        return sees;
    }
    let own = fs::metadata("/proc/self/ns/pid").is_ok_and(|own| own.ino() == FIRST);
    own && fs::metadata("/proc/1/ns/net").is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines of a host with `ip netns add box` and a mount at `/mnt/a b`, as 6.1 shows them.
    #[test]
    fn mounted_namespaces_are_found() {
        let text = b"22 1 0:21 / /proc rw,nosuid shared:12 - proc proc rw\n\
            310 25 0:4 net:[4026532281] /run/netns/box rw shared:170 - nsfs nsfs rw\n\
            311 25 0:4 mnt:[4026532290] /run/mnt rw shared:171 - nsfs nsfs rw\n\
            312 25 0:4 net:[4026532283] /mnt/a\\040b\\9 rw - nsfs nsfs rw\n";
        assert_eq!(
            parse_mounts(text),
            [Path::new("run/netns/box"), Path::new("mnt/a b\\9")]
        );
        assert_eq!(parse_mounts(b"1 2 3\n"), [] as [PathBuf; 0]);
    }

    /// The kernel says "Permission denied" of a process that ends meanwhile.
    #[test]
    fn a_process_that_has_ended_is_gone() {
        assert!(has_ended(Path::new("/proc/4194305/ns/net")));
        assert!(has_ended(Path::new("/proc/1/task/4194305/ns/net")));
        assert!(!has_ended(Path::new("/proc/1/ns/net")));
        assert!(!has_ended(Path::new("/run/netns/box")));
    }

    /// A folder that cannot be read may hold namespaces; one that is gone holds none.
    #[test]
    fn a_folder_that_cannot_be_read_is_said() {
        let mut found = Found::default();
        assert_eq!(
            found.read_folder(Path::new("/proc/4194305/task")),
            [] as [PathBuf; 0]
        );
        assert_eq!(found.unknown, None);
        found.read_folder(Path::new("/proc/version"));
        assert!(found.unknown.is_some());
    }

    #[test]
    fn a_namespace_that_cannot_be_looked_at_is_said() {
        let mut found = Found::default();
        found.add_namespace(PathBuf::from("/proc/4194305/ns/net"));
        assert_eq!(found.unknown, None);
        found.add_namespace(PathBuf::from("/proc/version/ns/net"));
        assert!(found.unknown.is_some());
    }

    /// An open of a FIFO waits for somebody to write.
    #[test]
    fn what_is_no_file_is_no_namespace() {
        let folder = std::env::temp_dir().join(format!("wg-vrf-names-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (fifo, socket) = (folder.join("fifo"), folder.join("socket"));
        let made = std::process::Command::new("mkfifo").arg(&fifo).status();
        assert!(made.unwrap().success());
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let (say, said) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut found = Found::default();
            found.add_namespace(fifo);
            found.add_namespace(socket);
            say.send((found.namespaces.len(), found.unknown)).unwrap();
        });
        let said = said.recv_timeout(std::time::Duration::from_secs(10));
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(said, Ok((0, None)));
    }

    #[test]
    fn an_open_namespace_is_known_by_its_number() {
        let file = File::open("/proc/self/ns/net").unwrap();
        let number = std::os::fd::AsRawFd::as_raw_fd(&file);
        let info = fs::read(format!("/proc/self/fdinfo/{number}")).unwrap();
        assert!(may_be_namespace(&info), "{info:?}");
        assert!(!may_be_namespace(
            b"pos:\t0\nflags:\t02\nmnt_id:\t15\nino:\t1060\n"
        ));
        assert!(may_be_namespace(b"pos:\t0\n"));
    }
}
