// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! One netlink socket: a request, and all of its answer.

use std::io;
use std::os::fd::AsRawFd;

use neli::consts::socket::{Msg, NlFamily};
use neli::socket::NlSocket;
use neli::utils::Groups;
use zeroize::Zeroizing;

use crate::error::{Error, Task};
use crate::sys;
use crate::wire::nlmsg::{self, Reply};

/// How often a torn dump is read again before giving up.
const DUMP_ATTEMPTS: u32 = 64;

/// Why a request failed.
#[derive(Debug)]
pub struct Failure {
    /// A positive errno.
    pub errno: i32,
    /// The kernel's own words.
    pub extack: Option<String>,
}

impl Failure {
    fn new(errno: i32, words: &str) -> Self {
        Failure {
            errno,
            extack: Some(words.to_owned()),
        }
    }
}

impl Failure {
    /// The error of a task that failed with it.
    pub fn during(self, task: Task) -> Error {
        let Failure { errno, extack } = self;
        Error::Os {
            task,
            errno,
            words: extack,
        }
    }
}

impl From<io::Error> for Failure {
    fn from(err: io::Error) -> Self {
        Failure {
            errno: err.raw_os_error().unwrap_or(libc::EIO),
            extack: None,
        }
    }
}

/// Goes on with a dump, or ends it early.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Next {
    More,
    Enough,
}

pub struct Socket {
    socket: NlSocket,
    sequence: u32,
    /// Grows to the largest datagram; wiped, since dumps of devices carry keys.
    buffer: Zeroizing<Vec<u8>>,
}

impl Socket {
    pub fn open(family: NlFamily) -> io::Result<Self> {
        let socket = NlSocket::connect(family, None, Groups::empty())?;
        // The kernel's words about an error, and errors without a copy of the request, which
        // may hold keys. Kernels that know neither still give an errno.
        let _ = sys::netlink_option(socket.as_raw_fd(), libc::NETLINK_EXT_ACK);
        let _ = sys::netlink_option(socket.as_raw_fd(), libc::NETLINK_CAP_ACK);
        Ok(Socket {
            socket,
            sequence: 0,
            buffer: Zeroizing::new(vec![0; 64 * 1024]),
        })
    }

    /// Sends a request and waits for its acknowledgement; answers in front of it go to `data`.
    pub fn ask(&mut self, request: &mut [u8], mut data: impl FnMut(&[u8])) -> Result<(), Failure> {
        self.send(request)?;
        loop {
            let sequence = self.sequence;
            for reply in replies(self.receive()?, sequence)? {
                match reply {
                    Reply::Ack { errno: 0, .. } => return Ok(()),
                    Reply::Ack { errno, extack } => return Err(Failure { errno, extack }),
                    Reply::Data { payload, .. } => data(payload),
                    Reply::Done { .. } => {}
                    Reply::Overrun => return Err(overrun()),
                }
            }
        }
    }

    /// Sends a dump request and hands out its messages, until a whole and consistent dump went
    /// through. `start` makes what gathers one attempt's messages, `add` adds one.
    pub fn dump<T>(
        &mut self,
        request: &mut [u8],
        mut start: impl FnMut() -> T,
        mut add: impl FnMut(&mut T, &[u8]) -> Result<Next, String>,
    ) -> Result<T, Failure> {
        for attempt in 0..DUMP_ATTEMPTS {
            let mut gathered = start();
            if self.dump_once(request, |payload| add(&mut gathered, payload))? {
                return Ok(gathered);
            }
            // Somebody is changing it right now: give them a moment, a longer one each time.
            std::thread::sleep(std::time::Duration::from_millis(u64::from(attempt.min(20))));
        }
        Err(Failure::new(
            libc::EAGAIN,
            &format!("it changed during each of {DUMP_ATTEMPTS} attempts to read it"),
        ))
    }

    /// Whether the dump was consistent. `Next::Enough` leaves the rest unread, and the kernel
    /// busy with it: no other dump can be asked of this socket then.
    fn dump_once(
        &mut self,
        request: &mut [u8],
        mut add: impl FnMut(&[u8]) -> Result<Next, String>,
    ) -> Result<bool, Failure> {
        self.send(request)?;
        let mut whole = true;
        loop {
            let sequence = self.sequence;
            for reply in replies(self.receive()?, sequence)? {
                match reply {
                    Reply::Data { payload, torn } => {
                        whole &= !torn;
                        match add(payload) {
                            Ok(Next::More) => {}
                            Ok(Next::Enough) => return Ok(true),
                            Err(words) => return Err(Failure::new(libc::EPROTO, &words)),
                        }
                    }
                    Reply::Done { errno: 0, torn, .. } => return Ok(whole && !torn),
                    Reply::Done { errno, extack, .. } | Reply::Ack { errno, extack }
                        if errno != 0 =>
                    {
                        return Err(Failure { errno, extack });
                    }
                    Reply::Done { .. } | Reply::Ack { .. } => {}
                    Reply::Overrun => return Err(overrun()),
                }
            }
        }
    }

    fn send(&mut self, request: &mut [u8]) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        nlmsg::set_sequence(request, self.sequence);
        uninterrupted(|| self.socket.send(&*request, Msg::empty())).map(drop)
    }

    /// One datagram, whole: its length is asked for before it is taken.
    fn receive(&mut self) -> io::Result<&[u8]> {
        let socket = &self.socket;
        let peek = Msg::from_bits_retain((libc::MSG_PEEK | libc::MSG_TRUNC) as u32);
        let (length, _) = uninterrupted(|| socket.recv(&mut self.buffer[..1], peek))?;
        if length > self.buffer.len() {
            self.buffer = Zeroizing::new(vec![0; length]);
        }
        let take = Msg::from_bits_retain(libc::MSG_TRUNC as u32);
        let (length, _) = uninterrupted(|| socket.recv(&mut self.buffer[..], take))?;
        self.buffer
            .get(..length)
            .ok_or_else(|| io::Error::from_raw_os_error(libc::EMSGSIZE))
    }
}

fn replies(datagram: &[u8], sequence: u32) -> Result<Vec<Reply<'_>>, Failure> {
    nlmsg::replies(datagram, sequence).map_err(|words| Failure::new(libc::EPROTO, words))
}

fn overrun() -> Failure {
    Failure::new(libc::ENOBUFS, "the kernel dropped messages")
}

fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}
