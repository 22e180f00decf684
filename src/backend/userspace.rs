// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Devices of a userspace program (wireguard-go and its like), over their Unix sockets.

use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::{fs, str};

use zeroize::Zeroizing;

use crate::address::Names;
use crate::error::{Error, Result, Task};
use crate::model::{Device, Update};
use crate::sys;
use crate::wire::uapi::{self, Broken};

/// Where such programs put their sockets, as the reference has it.
const DIRECTORY: &str = "/var/run/wireguard";
const SUFFIX: &str = ".sock";

fn path(interface: &str) -> Option<PathBuf> {
    if interface.is_empty() || interface.contains('/') {
        return None;
    }
    Some(PathBuf::from(format!("{DIRECTORY}/{interface}{SUFFIX}")))
}

/// The socket of an interface, where there is one.
fn socket(interface: &str) -> Option<PathBuf> {
    path(interface)
        .filter(|path| fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket()))
}

/// Connects; a socket that nobody listens on any more is removed, as the reference does.
fn connect(interface: &str) -> io::Result<UnixStream> {
    let path = socket(interface).ok_or(io::ErrorKind::NotFound)?;
    UnixStream::connect(&path).inspect_err(|err| {
        if err.kind() == io::ErrorKind::ConnectionRefused {
            let _ = fs::remove_file(&path);
        }
    })
}

/// Whether a program serves this interface. Also where it does not let us in: that is then the
/// error to report, not what the kernel says about the name.
pub fn serves(interface: &str) -> bool {
    match connect(interface) {
        Ok(_) => true,
        Err(err) => !matches!(
            err.kind(),
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
        ),
    }
}

/// The interfaces that are served, in the directory's order.
pub fn list() -> Vec<String> {
    let Ok(entries) = fs::read_dir(DIRECTORY) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name();
            let name = name.to_str()?.strip_suffix(SUFFIX)?;
            (!name.is_empty() && serves(name)).then(|| name.to_owned())
        })
        .collect()
}

pub fn get(interface: &str) -> Result<Device> {
    let answer =
        exchange(interface, uapi::GET).map_err(|err| Error::io(Task::access(interface), &err))?;
    uapi::get(interface, text(&answer), &sys::if_index)
        .map_err(|why| broken(Task::access(interface), why))
}

pub fn set(update: &Update) -> Result<()> {
    let request = uapi::set(
        update,
        &Names {
            interface: sys::interface_name,
        },
    );
    let answer = exchange(&update.interface, &request)
        .map_err(|err| Error::io(Task::modify(&update.interface), &err))?;
    uapi::verdict(text(&answer)).map_err(|why| broken(Task::modify(&update.interface), why))
}

fn broken(task: Task, why: Broken) -> Error {
    let (errno, words) = match why {
        Broken::Errno(errno) => (errno, "the program that serves it says so"),
        Broken::Protocol => (libc::EPROTO, "the program that serves it is not understood"),
    };
    Error::Os {
        task,
        errno,
        words: Some(words.to_owned()),
    }
}

fn text(answer: &[u8]) -> &str {
    str::from_utf8(answer).unwrap_or("")
}

/// Sends a request and reads up to the empty line that ends an answer: the program keeps the
/// connection open for more.
fn exchange(interface: &str, request: &str) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut stream = connect(interface)?;
    stream.write_all(request.as_bytes())?;
    let mut answer = Zeroizing::new(Vec::with_capacity(64 * 1024));
    let mut chunk = Zeroizing::new([0; 16 * 1024]);
    loop {
        let length = match stream.read(&mut chunk[..]) {
            Ok(0) => return Ok(answer),
            Ok(length) => length,
            Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
            Err(err) => return Err(err),
        };
        if answer.len() + length > answer.capacity() {
            // Not by growing in place, which would leave keys in freed memory.
            let mut larger = Zeroizing::new(Vec::with_capacity(answer.capacity() * 2));
            larger.extend_from_slice(&answer);
            answer = larger;
        }
        answer.extend_from_slice(&chunk[..length]);
        if answer.ends_with(b"\n\n") {
            return Ok(answer);
        }
    }
}
