// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Everything that can go wrong, as one enum, and the one table of what may help.
//!
//! Scripts match on the reference's words, so each message begins with them.

use std::borrow::Cow;
use std::fmt::{self, Display};
use std::io;
use std::path::Path;

use crate::ifname;
use crate::model::{IFNAME_MAX, is_interface_name};

/// An error becomes text once, in `main`. Every variant but `Ended` makes `wg` exit with 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The user wrote something wrong; the text names the value and says what to do.
    Invalid(String),
    /// A configuration file has an error.
    InFile(Box<Error>),
    /// The system said no.
    Os {
        task: Task,
        /// A positive errno.
        errno: i32,
        /// What the kernel (extack) or the program that serves the device says about it.
        words: Option<String>,
    },
    /// The kernel or the device cannot do what was asked; the text says why and what can.
    Unsupported(String),
    /// Standard output could not be written.
    Output { errno: i32, broken_pipe: bool },
    /// Already said on stderr by the step that failed; only the exit code is left.
    Reported,
    /// All is said; only this exit code is left.
    Ended(u8),
}

pub type Result<T> = std::result::Result<T, Error>;

/// What the tool was doing when the system said no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    ListInterfaces,
    /// To read the one device that the user named.
    Access {
        interface: String,
    },
    /// To read one of all devices: the reference names it before the reason.
    AccessEach {
        interface: String,
    },
    /// To read the device that a file is compared with.
    Retrieve {
        interface: String,
    },
    Modify {
        interface: String,
    },
    /// To bind a device that exists.
    Bind {
        interface: String,
        dev: String,
    },
    /// To open a file; the reference names the call.
    OpenFile {
        path: String,
    },
    ReadConfiguration {
        path: String,
    },
    /// To make a device's sockets again on `port`, in `place`: a VRF or everywhere.
    MoveSockets {
        interface: String,
        port: u16,
        place: String,
    },
    /// To give a device that was closed meanwhile its port back.
    Reopen {
        interface: String,
        port: u16,
    },
    /// To ask the kernel what it can do.
    AskKernel,
    /// In words. Nothing can be advised about it.
    Other(String),
}

impl Task {
    pub fn access(interface: &str) -> Self {
        Task::Access {
            interface: interface.to_owned(),
        }
    }

    pub fn modify(interface: &str) -> Self {
        Task::Modify {
            interface: interface.to_owned(),
        }
    }

    /// The reference's words.
    fn words(&self) -> String {
        match self {
            Task::ListInterfaces => "Unable to list interfaces".to_owned(),
            Task::Access { .. } => "Unable to access interface".to_owned(),
            Task::AccessEach { interface } => {
                format!("Unable to access interface {interface}")
            }
            Task::Retrieve { .. } => {
                "Unable to retrieve current interface configuration".to_owned()
            }
            Task::Modify { .. } => "Unable to modify interface".to_owned(),
            Task::Bind { interface, dev } => format!("Cannot bind {interface} to `{dev}'"),
            Task::OpenFile { .. } => "fopen".to_owned(),
            Task::ReadConfiguration { .. } => "Unable to read configuration".to_owned(),
            Task::MoveSockets { interface, .. } => {
                format!("Cannot move the sockets of {interface}")
            }
            Task::Reopen { interface, port } => {
                format!("{interface} is closed and sends nothing, it has lost its port {port}")
            }
            Task::AskKernel => "Cannot ask the kernel for WGDEVICE_A_BIND_DEV".to_owned(),
            Task::Other(words) => words.clone(),
        }
    }

    /// The value that the message ends in, where its first words do not have it.
    fn value(&self) -> Option<&str> {
        match self {
            Task::Access { interface }
            | Task::Retrieve { interface }
            | Task::Modify { interface } => Some(interface),
            Task::OpenFile { path } | Task::ReadConfiguration { path } => Some(path),
            Task::ListInterfaces
            | Task::AccessEach { .. }
            | Task::Bind { .. }
            | Task::MoveSockets { .. }
            | Task::Reopen { .. }
            | Task::AskKernel
            | Task::Other(_) => None,
        }
    }
}

/// Stands for a secret.
pub const HIDDEN: &str = "(hidden)";

const NO_WIREGUARD: &str = "is the wireguard module loaded? modprobe wireguard";

/// What may help: the one table. Nothing is better than advice that is wrong.
fn find_remedy(task: &Task, errno: i32) -> Option<String> {
    match (task, errno) {
        (
            Task::Access { interface }
            | Task::AccessEach { interface }
            | Task::Retrieve { interface }
            | Task::Modify { interface },
            errno,
        ) => Some(match errno {
            libc::ENODEV | libc::ENAMETOOLONG if ifname::is_too_long(interface) => {
                format!("interface names have at most {IFNAME_MAX} bytes")
            }
            libc::ENODEV if !is_interface_name(interface) => {
                "no interface can have this name".to_owned()
            }
            libc::ENODEV => {
                format!("no such WireGuard interface: ip link add {interface} type wireguard")
            }
            libc::EPERM | libc::EACCES => "needs root, or CAP_NET_ADMIN".to_owned(),
            libc::EPROTONOSUPPORT => NO_WIREGUARD.to_owned(),
            libc::EOPNOTSUPP => "not a WireGuard interface".to_owned(),
            libc::EADDRINUSE => "another socket has this port; choose a listen port".to_owned(),
            _ => return None,
        }),
        (Task::OpenFile { path }, _) if path == HIDDEN => {
            Some("this is a key; give the name of a file".to_owned())
        }
        (Task::AskKernel, libc::EPROTONOSUPPORT) => Some(NO_WIREGUARD.to_owned()),
        (Task::Bind { interface, dev }, libc::ENODEV) => Some(format!(
            "there is no `{dev}' where {interface} was created; create it first, for example \
             with `ip link add {dev} type vrf table TABLE'"
        )),
        (Task::Bind { .. }, libc::ELOOP) => {
            Some("choose the device that its packets leave by".to_owned())
        }
        (Task::Bind { dev, .. }, libc::EADDRINUSE) => Some(format!(
            "another socket has the port on `{dev}' or on all devices; choose another \
             listen-port"
        )),
        (Task::MoveSockets { port, place, .. }, libc::EADDRINUSE) => Some(format!(
            "another socket has port {port} in {place}; give one of them another listen-port first"
        )),
        (Task::Reopen { interface, port }, libc::EADDRINUSE) => Some(format!(
            "another socket took it; give {interface} another listen-port, or free port {port} and \
             bind again"
        )),
        (Task::Bind { .. }, libc::EPERM | libc::EACCES) => {
            Some("needs root, or CAP_NET_ADMIN".to_owned())
        }
        _ => None,
    }
}

impl Error {
    pub fn os(task: Task, errno: i32) -> Self {
        Error::Os {
            task,
            errno,
            words: None,
        }
    }

    pub fn io(task: Task, err: &io::Error) -> Self {
        Error::os(task, err.raw_os_error().unwrap_or(libc::EIO))
    }

    pub fn open_file(path: &Path, err: &io::Error) -> Self {
        let path = shown_path(path);
        Error::io(Task::OpenFile { path }, err)
    }

    /// A failed write to standard output.
    pub fn output(err: io::Error) -> Self {
        Error::Output {
            errno: err.raw_os_error().unwrap_or(libc::EIO),
            broken_pipe: err.kind() == io::ErrorKind::BrokenPipe,
        }
    }

    /// What the system said, as the answer to another task.
    pub fn with_task(self, task: Task) -> Self {
        match self {
            Error::Os { errno, words, .. } => Error::Os { task, errno, words },
            other => other,
        }
    }
}

/// `strerror(3)` as the C library words it, without Rust's "(os error N)".
pub fn strerror(errno: i32) -> String {
    let text = io::Error::from_raw_os_error(errno).to_string();
    match text.rfind(" (os error") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

/// A value as an error of one line shows it.
pub fn shown(value: impl Display) -> String {
    printable(&value.to_string()).replace('\n', "?")
}

/// A value that may be, or have in it, a secret key in a wrong place.
pub fn shown_value(value: &str) -> String {
    shown(hide_keys(value))
}

/// The path of a file; not a key that was given in its place, whatever stands around it. One that begins
/// with a slash and lacks its `=` is taken for a path.
pub fn shown_path(path: &Path) -> String {
    let text = path.display().to_string();
    shown(hide_runs(&text, |before, run, after| {
        // A path may well have as many letters, but is hardly as mixed.
        let has = |kind: fn(&u8) -> bool| run.iter().any(kind);
        let mixed =
            has(u8::is_ascii_uppercase) && has(u8::is_ascii_lowercase) && has(u8::is_ascii_digit);
        let absolute = run.starts_with(b"/") && !before.ends_with('.');
        after.starts_with('=') || !absolute && (mixed || run.len() == KEY_DIGITS)
    }))
}

/// Digits of a key in base64, without the padding.
const KEY_DIGITS: usize = 43;

/// From so many on they may be those of a key of which some are lost.
const MANY_DIGITS: usize = 40;

fn is_base64(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/')
}

/// The text without what may be a key in it.
pub fn hide_keys(text: &str) -> Cow<'_, str> {
    hide_runs(text, |_, _, _| true)
}

/// The text without those of many digits that are a key, by what stands before and behind them.
fn hide_runs(text: &str, is_key: impl Fn(&str, &[u8], &str) -> bool) -> Cow<'_, str> {
    let mut hidden = String::new();
    let (mut kept, mut start) = (0, 0);
    for run in text
        .as_bytes()
        .chunk_by(|a, b| is_base64(a) == is_base64(b))
    {
        let end = start + run.len();
        let many = run.len() >= MANY_DIGITS && is_base64(&run[0]);
        if many && is_key(&text[..start], run, &text[end..]) {
            hidden += &text[kept..start];
            hidden += HIDDEN;
            kept = end + usize::from(text[end..].starts_with('='));
        }
        start = end;
    }
    match kept {
        0 => text.into(),
        _ => (hidden + &text[kept..]).into(),
    }
}

/// A text of several lines as a terminal may get it. The name of a file, a device or a value in it
/// cannot move the cursor or turn the line round.
pub fn printable(text: &str) -> Cow<'_, str> {
    let bad = |c: char| {
        (c.is_control() && c != '\n')
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if text.contains(bad) {
        text.replace(bad, "?").into()
    } else {
        text.into()
    }
}

impl Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Invalid(text) | Error::Unsupported(text) => f.write_str(&printable(text)),
            Error::InFile(error) => write!(f, "{error}\nConfiguration parsing error"),
            Error::Os { task, errno, words } => {
                f.write_str(&shown(explain_os(task, *errno, words.as_deref())))
            }
            Error::Output { errno, .. } => {
                let reason = strerror(*errno);
                write!(f, "Unable to write to standard output: {reason}")
            }
            Error::Reported | Error::Ended(_) => Ok(()),
        }
    }
}

/// ``task: reason: `value' (words; remedy)``
fn explain_os(task: &Task, errno: i32, words: Option<&str>) -> String {
    let mut text = format!("{}: {}", task.words(), strerror(errno));
    if let Some(value) = task.value() {
        let value = match task {
            // Paths are shown as they may be.
            Task::OpenFile { .. } | Task::ReadConfiguration { .. } => value.into(),
            _ => hide_keys(value),
        };
        text += &format!(": `{value}'");
    }
    // About an interface, the words of the one who refused are better than a guess from a number.
    let guess = words.is_none() || matches!(task, Task::Bind { .. });
    let remedy = find_remedy(task, errno).filter(|_| guess);
    match (words, remedy) {
        (Some(words), Some(remedy)) => text += &format!(" ({words}; {remedy})"),
        (Some(words), None) => text += &format!(" ({words})"),
        (None, Some(remedy)) => text += &format!(" ({remedy})"),
        (None, None) => {}
    }
    text
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(task: Task, errno: i32) -> String {
        Error::os(task, errno).to_string()
    }

    #[test]
    fn a_remedy_fits_the_name() {
        let long = text(Task::modify("verylongnamethatistoolong"), libc::ENODEV);
        assert_eq!(
            long,
            "Unable to modify interface: No such device: `verylongnamethatistoolong' \
             (interface names have at most 15 bytes)"
        );
        // The kernel refuses these names (dev_valid_name in net/core/dev.c).
        for name in ["", ".", "..", "a/b", "a b", "a:b"] {
            let text = text(Task::access(name), libc::ENODEV);
            assert!(!text.contains("ip link add"), "{text}");
        }
        assert_eq!(
            text(Task::access("wg9"), libc::ENODEV),
            "Unable to access interface: No such device: `wg9' (no such WireGuard interface: \
             ip link add wg9 type wireguard)"
        );
    }

    #[test]
    fn a_key_in_the_place_of_a_file_is_hidden_and_a_path_is_not() {
        let key = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk";
        for text in [
            format!("{key}="),
            format!("./{key}="),
            format!("/{key}="),
            format!("{key}=="),
            format!("'{key}='"),
            format!("{key}= "),
            format!("key={key}="),
            format!("{key}{key}"),
            key[1..].to_owned(),
            format!("./{}", &key[2..]),
            format!("x{key}"),
        ] {
            let said = shown_path(Path::new(&text));
            assert!(
                said.contains(HIDDEN) && !said.contains(&key[5..25]),
                "{said}"
            );
        }
        for path in [
            "/etc/wireguard/Routers2026/Router12/privatekey0",
            "../etc/wireguard/routers/router/private/keys",
            "/run/credentials/wg-quick@wg0.service/private-key",
        ] {
            assert_eq!(shown_path(Path::new(path)), path);
        }
    }

    #[test]
    fn words_of_the_kernel_are_not_explained_away() {
        let error = |task| Error::Os {
            task,
            errno: libc::ENODEV,
            words: Some("Device to bind to does not exist".to_owned()),
        };
        assert_eq!(
            error(Task::modify("wg0")).to_string(),
            "Unable to modify interface: No such device: `wg0' (Device to bind to does not exist)"
        );
        let bind = Task::Bind {
            interface: "wg0".to_owned(),
            dev: "red".to_owned(),
        };
        let text = error(bind).to_string();
        assert!(
            text.starts_with(
                "Cannot bind wg0 to `red': No such device (Device to bind to does not exist; there"
            ),
            "{text}"
        );
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        let text = text(Task::access("a\x1b[2J"), libc::ENODEV);
        assert!(!text.contains('\x1b'), "{text}");
        // Nor those that turn the rest of a line round.
        assert_eq!(shown("a\u{202e}b\u{2066}c"), "a?b?c");
        let each = Task::AccessEach {
            interface: "a\nb".to_owned(),
        };
        assert!(!Error::os(each, libc::EIO).to_string().contains('\n'));
    }
}
