// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Devices of a userspace program (wireguard-go and its like), over their Unix sockets.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use crate::address::Names;
use crate::error::{Error, Result, Task};
use crate::ifname;
use crate::model::{Device, Update};
use crate::sys;
use crate::wire::uapi::{self, Answer, Broken, Decoder, Next, Progress};

/// Where such programs put their sockets, as the reference has it.
const DIRECTORY: &str = "/var/run/wireguard";
const SUFFIX: &str = ".sock";

/// What one exchange may take.
#[derive(Clone, Copy)]
struct Limits {
    connect: Duration,
    /// For the request and the answer together.
    talk: Duration,
    /// Bytes of an answer.
    answer: usize,
}

/// A program answers within milliseconds, or with a million peers in some seconds.
const LIMITS: Limits = Limits {
    connect: Duration::from_secs(10),
    talk: Duration::from_secs(60),
    answer: 512 * 1024 * 1024,
};

/// What a device may take that is not the one a command is about.
const NEIGHBOUR: Limits = Limits {
    connect: Duration::from_secs(2),
    talk: Duration::from_secs(2),
    answer: 64 * 1024,
};

/// The socket of an interface, where there is one.
fn find_socket(interface: &str) -> Option<PathBuf> {
    if interface.is_empty() || interface.contains('/') {
        return None;
    }
    // What stands for a byte elsewhere may be the name of a file here.
    let decoded = ifname::name_bytes(interface);
    let names = [interface.as_bytes(), &*decoded];
    let differ = names[0] != names[1];
    let mut paths = names[..=usize::from(differ)].iter().map(|name| {
        let path = [DIRECTORY.as_bytes(), b"/", name, SUFFIX.as_bytes()].concat();
        PathBuf::from(OsString::from_vec(path))
    });
    paths.find(|path| fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket()))
}

/// Connects. Removes a socket without a listener, as the reference does.
fn connect_socket(path: &Path, patience: Duration) -> io::Result<UnixStream> {
    sys::connect_unix(path, patience).inspect_err(|err| {
        if err.kind() == io::ErrorKind::ConnectionRefused {
            let _ = fs::remove_file(path);
        }
    })
}

/// Whether a program serves this interface. Also where it does not let us in: that is then the
/// error to report, not what the kernel says about the name.
pub fn is_served(interface: &str) -> bool {
    let Some(path) = find_socket(interface) else {
        return false;
    };
    match connect_socket(&path, NEIGHBOUR.connect) {
        Ok(_) => true,
        Err(err) => !matches!(
            err.kind(),
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
        ),
    }
}

/// The interfaces that are served, in the directory's order.
///
/// # Errors
/// The directory is there and cannot be read.
pub fn list_devices() -> io::Result<Vec<String>> {
    list_in(Path::new(DIRECTORY))
}

fn list_in(directory: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(directory) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        let name = name.as_bytes().strip_suffix(SUFFIX.as_bytes());
        let name = name.map(ifname::from_bytes);
        names.extend(name.filter(|name| !name.is_empty() && is_served(name)));
    }
    Ok(names)
}

pub fn get(interface: &str) -> Result<Device> {
    read_device(interface, |_| Next::More, LIMITS)
}

/// A device without its peers, which stand behind what the device itself says.
pub fn get_head(interface: &str) -> Result<Device> {
    read_device(interface, wants_head, LIMITS)
}

/// A device without its peers, that the command is not about: its program must not hold the command up.
pub fn get_neighbour(interface: &str) -> Result<Device> {
    read_device(interface, wants_head, NEIGHBOUR)
}

fn wants_head(name: &[u8]) -> Next {
    match name {
        b"public_key" => Next::Enough,
        _ => Next::More,
    }
}

fn read_device(interface: &str, wants: impl Fn(&[u8]) -> Next, limits: Limits) -> Result<Device> {
    let mut decoder = Decoder::new(interface, look_up);
    exchange_text(
        Task::access(interface),
        interface,
        |request| request.write_all(uapi::GET.as_bytes()),
        |name, value| match wants(name) {
            Next::More => decoder.take_member(name, value).map(|()| Next::More),
            Next::Enough => Ok(Next::Enough),
        },
        limits,
    )?;
    Ok(decoder.finish_device())
}

pub fn send_update(update: &Update) -> Result<()> {
    let names = Names {
        interface: sys::interface_name,
    };
    exchange_text(
        Task::modify(&update.interface),
        &update.interface,
        |request| uapi::write_set(update, &names, request),
        |_, _| Ok(Next::More),
        LIMITS,
    )
}

fn look_up(host: &str, service: &str) -> Option<SocketAddr> {
    sys::look_up_name(Some(host), service, false).ok()
}

fn explain_answer(task: Task, why: Broken) -> Error {
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

/// Why an exchange failed.
enum Failed {
    Io(io::Error),
    Answer(Broken),
}

impl From<io::Error> for Failed {
    fn from(err: io::Error) -> Self {
        Failed::Io(err)
    }
}

/// Sends what `ask` writes and hands the lines of the answer to `take`.
fn exchange_text(
    task: Task,
    interface: &str,
    ask: impl FnOnce(&mut Request) -> io::Result<()>,
    take: impl FnMut(&[u8], &[u8]) -> std::result::Result<Next, Broken>,
    limits: Limits,
) -> Result<()> {
    let path = find_socket(interface).ok_or_else(|| Error::os(task.clone(), libc::ENOENT))?;
    let answer = connect_socket(&path, limits.connect)
        .map_err(Failed::Io)
        .and_then(|stream| exchange_lines(stream, ask, take, limits));
    answer.map_err(|failed| {
        let err = match failed {
            Failed::Answer(why) => return explain_answer(task, why),
            Failed::Io(err) => err,
        };
        let words = match err.raw_os_error() {
            Some(libc::ETIMEDOUT) => Some("the program that serves it does not answer"),
            Some(libc::EMSGSIZE) => Some("the program that serves it does not end its answer"),
            _ => None,
        };
        Error::Os {
            task,
            errno: err.raw_os_error().unwrap_or(libc::EIO),
            words: words.map(str::to_owned),
        }
    })
}

/// When an exchange has to be over.
#[derive(Clone, Copy)]
struct Deadline(Instant);

impl Deadline {
    fn time_left(self) -> io::Result<Option<Duration>> {
        match self.0.saturating_duration_since(Instant::now()) {
            Duration::ZERO => Err(io::Error::from_raw_os_error(libc::ETIMEDOUT)),
            left => Ok(Some(left)),
        }
    }
}

/// A request on its way, part by part. A part is wiped before the program takes its time.
struct Request<'a> {
    stream: &'a UnixStream,
    deadline: Deadline,
    part: Zeroizing<Vec<u8>>,
}

impl io::Write for Request<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.part.len() == PART {
            self.flush()?;
        }
        // Never more than there is room for: growing would leave keys in freed memory.
        let length = bytes.len().min(PART - self.part.len());
        self.part.extend_from_slice(&bytes[..length]);
        Ok(length)
    }

    /// What is short is only copied.
    #[inline]
    fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while bytes.len() > PART - self.part.len() {
            bytes = &bytes[self.write(bytes)?..];
        }
        self.part.extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut rest = self.part.as_slice();
        while !rest.is_empty() {
            self.stream.set_write_timeout(self.deadline.time_left()?)?;
            let written = count_written((&mut &*self.stream).write(rest))?;
            rest = &rest[written..];
        }
        self.part.clear();
        Ok(())
    }
}

/// Sends a request and reads up to the empty line that ends an answer: the program keeps the
/// connection open for more.
fn exchange_lines(
    mut stream: UnixStream,
    ask: impl FnOnce(&mut Request) -> io::Result<()>,
    mut take: impl FnMut(&[u8], &[u8]) -> std::result::Result<Next, Broken>,
    limits: Limits,
) -> std::result::Result<(), Failed> {
    let deadline = Deadline(Instant::now() + limits.talk);
    let mut request = Request {
        stream: &stream,
        deadline,
        part: Zeroizing::new(Vec::with_capacity(PART)),
    };
    ask(&mut request)?;
    request.flush()?;
    drop(request);
    let mut answer = Answer::new();
    let mut part = Zeroizing::new(vec![0; PART]);
    let (mut filled, mut all) = (0, 0);
    loop {
        stream.set_read_timeout(deadline.time_left()?)?;
        let Some(length) = read(&mut stream, &mut part[filled..])? else {
            continue;
        };
        if length == 0 {
            // It ends in the middle, or holds a line that is none.
            return Err(Failed::Answer(Broken::Protocol));
        }
        all += length;
        if all > limits.answer {
            return Err(io::Error::from_raw_os_error(libc::EMSGSIZE).into());
        }
        filled += length;
        match answer.read(&part[..filled], &mut take) {
            Ok(Progress::More(read)) => {
                part.copy_within(read..filled, 0);
                filled -= read;
            }
            Ok(Progress::End) => return answer.read_verdict().map_err(Failed::Answer),
            Err(why) => return Err(Failed::Answer(why)),
        }
    }
}

/// Bytes of one read(2) or write(2).
const PART: usize = 16 * 1024;

/// `None` where the clock, or a signal, ended the wait.
fn read(stream: &mut UnixStream, part: &mut [u8]) -> io::Result<Option<usize>> {
    match stream.read(part) {
        Ok(length) => Ok(Some(length)),
        Err(err) if is_passing(&err) => Ok(None),
        Err(err) => Err(err),
    }
}

/// The bytes that were written, none where the clock or a signal ended the wait.
fn count_written(written: io::Result<usize>) -> io::Result<usize> {
    match written {
        Err(err) if is_passing(&err) => Ok(0),
        written => written,
    }
}

fn is_passing(err: &io::Error) -> bool {
    matches!(
        err.kind(),
        io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixDatagram, UnixListener};
    use std::thread;

    use super::*;

    const SHORT: Limits = Limits {
        talk: Duration::from_millis(150),
        ..LIMITS
    };

    /// Sends so many bytes and gives the lines of the answer.
    fn talk_to(
        stream: UnixStream,
        length: usize,
        limits: Limits,
    ) -> std::result::Result<Vec<Vec<u8>>, i32> {
        let mut lines = Vec::new();
        let ask = |request: &mut Request| request.write_all(&vec![b'x'; length]);
        let take = |name: &[u8], value: &[u8]| {
            lines.push([name, value].concat());
            Ok(Next::More)
        };
        match exchange_lines(stream, ask, take, limits) {
            Ok(()) => Ok(lines),
            Err(Failed::Io(err)) => Err(err.raw_os_error().unwrap()),
            Err(Failed::Answer(_)) => Err(libc::EPROTO),
        }
    }

    /// What `talk` says to a program; `None` for an answer.
    fn errno(program: impl FnOnce(UnixStream) + Send + 'static, limits: Limits) -> Option<i32> {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let program = thread::spawn(move || program(theirs));
        let said = talk_to(ours, 10, limits);
        program.join().unwrap();
        said.err()
    }

    fn pause() {
        thread::sleep(Duration::from_millis(20));
    }

    #[test]
    fn a_program_that_is_silent_is_not_waited_for_for_ever() {
        let start = Instant::now();
        for length in [10, 8 << 20] {
            // The longer request does not fit into the socket of one that does not read.
            let (ours, _silent) = UnixStream::pair().unwrap();
            assert_eq!(
                talk_to(ours, length, SHORT),
                Err(libc::ETIMEDOUT),
                "{length}"
            );
        }
        // Nor one that always says a little more.
        let slow = |mut theirs: UnixStream| {
            while theirs.write_all(b"x=x\n").is_ok() {
                pause()
            }
        };
        assert_eq!(errno(slow, SHORT), Some(libc::ETIMEDOUT));
        assert!(start.elapsed() < LIMITS.talk);
    }

    #[test]
    fn an_answer_without_an_end_is_not_kept() {
        let chatty = |mut theirs: UnixStream| while theirs.write_all(b"x=x\n").is_ok() {};
        let small = Limits {
            answer: 1000,
            ..LIMITS
        };
        assert_eq!(errno(chatty, small), Some(libc::EMSGSIZE));
    }

    #[test]
    fn an_answer_may_come_in_pieces() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let program = thread::spawn(move || {
            for piece in ["a=b", "c\nerrno", "=0\n", "\n"] {
                theirs.write_all(piece.as_bytes()).unwrap();
                pause();
            }
            theirs
        });
        assert_eq!(talk_to(ours, 1, LIMITS), Ok(vec![b"abc".to_vec()]));
        drop(program.join().unwrap());
    }

    /// No value that is known comes near it.
    #[test]
    fn a_line_without_an_end_is_not_kept() {
        let endless = |mut theirs: UnixStream| while theirs.write_all(&[b'x'; 100]).is_ok() {};
        assert_eq!(errno(endless, LIMITS), Some(libc::EPROTO));
    }

    /// A folder of its own for each test, so that they can run at once.
    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("wg-uapi-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).unwrap();
        folder
    }

    #[test]
    fn only_a_socket_without_a_program_is_removed() {
        let folder = folder("stale");
        let path = folder.join("wg0.sock");
        // A program is there that does not take connections of this kind.
        let other = UnixDatagram::bind(&path).unwrap();
        let refused = connect_socket(&path, LIMITS.connect).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EPROTOTYPE));
        assert!(path.exists(), "a socket in use stays");
        drop(other);
        fs::remove_file(&path).unwrap();
        let listener = UnixListener::bind(&path).unwrap();
        connect_socket(&path, LIMITS.connect).unwrap();
        drop(listener);
        let stale = connect_socket(&path, LIMITS.connect).unwrap_err();
        assert_eq!(stale.kind(), io::ErrorKind::ConnectionRefused);
        assert!(!path.exists(), "a stale socket goes");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_directory_that_cannot_be_read_is_an_error() {
        let folder = folder("list");
        assert!(list_in(&folder).unwrap().is_empty());
        fs::write(folder.join("wg0.sock"), "").unwrap();
        assert!(list_in(&folder).unwrap().is_empty(), "a file is no socket");
        assert!(list_in(&folder.join("missing")).unwrap().is_empty());
        let err = list_in(&folder.join("wg0.sock")).unwrap_err();
        assert_eq!(err.raw_os_error(), Some(libc::ENOTDIR));
        fs::remove_dir_all(folder).unwrap();
    }
}
