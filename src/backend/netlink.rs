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
    pub fn with_task(self, task: Task) -> Error {
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

/// What takes requests to the kernel and brings its answers: the one place that talks to it.
enum Channel {
    Kernel(NlSocket),
    /// Stands for the kernel in tests, which need no rights then.
    #[cfg(test)]
    Scripted(super::scripted::Connection),
}

impl Channel {
    fn open(family: NlFamily) -> io::Result<Self> {
        #[cfg(test)]
        if let Some(connection) = super::scripted::connect(family) {
            return Ok(Channel::Scripted(connection));
        }
        let socket = NlSocket::connect(family, None, Groups::empty())?;
        // The kernel's words about an error, and errors without a copy of the request, which
        // may hold keys. Kernels that know neither still give an errno.
        let _ = sys::netlink_option(socket.as_raw_fd(), libc::NETLINK_EXT_ACK);
        let _ = sys::netlink_option(socket.as_raw_fd(), libc::NETLINK_CAP_ACK);
        Ok(Channel::Kernel(socket))
    }

    fn send(&self, request: &[u8]) -> io::Result<()> {
        match self {
            Channel::Kernel(socket) => socket.send(request, Msg::empty()).map(drop),
            #[cfg(test)]
            Channel::Scripted(connection) => connection.send(request),
        }
    }

    /// The longest request that can be sent, where one of `wanted` bytes is meant.
    fn make_room(&self, wanted: usize) -> usize {
        match self {
            Channel::Kernel(socket) => sys::make_send_room(socket.as_raw_fd(), wanted),
            #[cfg(test)]
            Channel::Scripted(_) => wanted,
        }
    }

    /// The length of a datagram and the port id of its sender.
    fn receive(&self, buffer: &mut [u8], flags: libc::c_int) -> io::Result<(usize, u32)> {
        match self {
            Channel::Kernel(socket) => sys::receive_netlink(socket.as_raw_fd(), buffer, flags),
            #[cfg(test)]
            Channel::Scripted(connection) => connection.receive(buffer, flags),
        }
    }
}

pub struct Socket {
    channel: Channel,
    sequence: u32,
    /// The kernel has not said the end of what it was asked for.
    busy: bool,
    /// Grows to the largest datagram; wiped, since dumps of devices carry keys.
    buffer: Zeroizing<Vec<u8>>,
}

impl Socket {
    pub fn open(family: NlFamily) -> io::Result<Self> {
        let channel = Channel::open(family)?;
        // A number that another process cannot guess.
        let mut start = [0; 4];
        sys::fill_random(&mut start)?;
        Ok(Socket {
            channel,
            sequence: u32::from_ne_bytes(start),
            busy: false,
            buffer: Zeroizing::new(vec![0; SMALL]),
        })
    }

    /// Whether a dump was left in the middle, or an answer did not come through: nothing else can be
    /// asked here then.
    pub fn is_busy(&self) -> bool {
        self.busy
    }

    /// The longest request that can be sent, where one of `wanted` bytes is meant: a system may give
    /// its sockets less than that.
    pub fn make_room(&self, wanted: usize) -> usize {
        self.channel.make_room(wanted)
    }

    /// Sends a request and waits for its acknowledgement; answers in front of it go to `data`.
    pub fn ask(&mut self, request: &mut [u8], mut data: impl FnMut(&[u8])) -> Result<(), Failure> {
        self.send(request)?;
        loop {
            let sequence = self.sequence;
            for reply in read_replies(self.receive()?, sequence)? {
                match reply {
                    Reply::Ack { errno: 0, .. } => return Ok(()),
                    Reply::Ack { errno, extack } => return Err(Failure { errno, extack }),
                    Reply::Data { payload, .. } => data(payload),
                    Reply::Done { .. } => {}
                    Reply::Overrun => return Err(make_overrun()),
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
        let (gathered, whole) = self.dump_attempts(request, &mut start, &mut add)?;
        whole.then_some(gathered).ok_or_else(|| {
            Failure::new(
                libc::EAGAIN,
                &format!("it changed during each of {DUMP_ATTEMPTS} attempts to read it"),
            )
        })
    }

    /// As [`Socket::dump`], and what the last attempt gave where none was consistent.
    pub fn dump_as_it_is<T>(
        &mut self,
        request: &mut [u8],
        mut start: impl FnMut() -> T,
        mut add: impl FnMut(&mut T, &[u8]) -> Result<Next, String>,
    ) -> Result<T, Failure> {
        let (gathered, _) = self.dump_attempts(request, &mut start, &mut add)?;
        Ok(gathered)
    }

    /// What was gathered, and whether it is consistent.
    fn dump_attempts<T>(
        &mut self,
        request: &mut [u8],
        start: &mut impl FnMut() -> T,
        add: &mut impl FnMut(&mut T, &[u8]) -> Result<Next, String>,
    ) -> Result<(T, bool), Failure> {
        let mut attempt = 0;
        loop {
            let mut gathered = start();
            let whole = self.dump_once(request, |payload| add(&mut gathered, payload))?;
            attempt += 1;
            if whole || attempt == DUMP_ATTEMPTS {
                return Ok((gathered, whole));
            }
            // Another process changes it right now. Wait a moment, a longer one each time.
            std::thread::sleep(std::time::Duration::from_millis(u64::from(attempt.min(20))));
        }
    }

    /// Whether the dump was consistent. `Next::Enough` leaves the rest unread, and the kernel
    /// busy with it where its end was not in the same datagram: no other dump can be asked of this
    /// socket then ([`Socket::is_busy`]).
    fn dump_once(
        &mut self,
        request: &mut [u8],
        mut add: impl FnMut(&[u8]) -> Result<Next, String>,
    ) -> Result<bool, Failure> {
        self.busy = true;
        self.send(request)?;
        let mut whole = true;
        loop {
            let sequence = self.sequence;
            let mut replies = read_replies(self.receive()?, sequence)?.into_iter();
            while let Some(reply) = replies.next() {
                match reply {
                    Reply::Data { payload, torn } => {
                        whole &= !torn;
                        match add(payload) {
                            Ok(Next::More) => {}
                            Ok(Next::Enough) => {
                                self.busy =
                                    !replies.any(|reply| matches!(reply, Reply::Done { .. }));
                                return Ok(true);
                            }
                            Err(words) => return Err(Failure::new(libc::EPROTO, &words)),
                        }
                    }
                    Reply::Done { errno: 0, torn, .. } => {
                        self.busy = false;
                        return Ok(whole && !torn);
                    }
                    Reply::Done { errno, extack, .. } | Reply::Ack { errno, extack }
                        if errno != 0 =>
                    {
                        self.busy = false;
                        return Err(Failure { errno, extack });
                    }
                    Reply::Done { .. } | Reply::Ack { .. } => {}
                    Reply::Overrun => return Err(make_overrun()),
                }
            }
        }
    }

    fn send(&mut self, request: &mut [u8]) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        nlmsg::set_sequence(request, self.sequence);
        retry_interrupted(|| self.channel.send(request))
    }

    /// One datagram of the kernel, whole. Others may send to this socket as well, with the rights
    /// to change the network: what they say is not an answer.
    fn receive(&mut self) -> io::Result<&[u8]> {
        let length = loop {
            let (length, from) = receive_whole(&self.channel, &mut self.buffer)?;
            if from == KERNEL {
                break length;
            }
        };
        self.buffer
            .get(..length)
            .ok_or_else(|| io::Error::from_raw_os_error(libc::EMSGSIZE))
    }
}

/// Bytes of a buffer for most answers, and for long dumps.
const SMALL: usize = 8 * 1024;
const LARGE: usize = 64 * 1024;

/// The port id of the kernel (netlink(7)).
const KERNEL: u32 = 0;

/// The length of a datagram is asked for before it is taken.
fn receive_whole(channel: &Channel, buffer: &mut Zeroizing<Vec<u8>>) -> io::Result<(usize, u32)> {
    let receive =
        |buffer: &mut [u8], flags| retry_interrupted(|| channel.receive(&mut *buffer, flags));
    let (length, _) = receive(&mut buffer[..1], libc::MSG_PEEK | libc::MSG_TRUNC)?;
    // The kernel fills what it is offered. Few answers are large, and those are one of many.
    if length > buffer.len() / 2 {
        *buffer = Zeroizing::new(vec![0; length.max(LARGE)]);
    }
    receive(&mut buffer[..], libc::MSG_TRUNC)
}

fn read_replies(datagram: &[u8], sequence: u32) -> Result<Vec<Reply<'_>>, Failure> {
    nlmsg::read_replies(datagram, sequence).map_err(|words| Failure::new(libc::EPROTO, words))
}

fn make_overrun() -> Failure {
    Failure::new(libc::ENOBUFS, "the kernel dropped messages")
}

fn retry_interrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::scripted::{DONE, ERROR, ScriptedKernel, done, frame, with};
    use super::*;

    const DATA: u16 = 0x20;
    const TORN: u16 = 0x10;

    /// Says the same to every request: datagrams of messages (kind, flags, payload), each with
    /// its sender.
    type Says = Vec<(u32, Vec<(u16, u16, Vec<u8>)>)>;

    fn request() -> Vec<u8> {
        nlmsg::request_raw(18, nlmsg::ACK, &[0; 16]).to_vec()
    }

    /// A socket to a kernel that answers the first request by the first of `says`, and so on.
    fn socket<T>(says: Vec<Says>, test: impl FnOnce(&mut Socket) -> T) -> T {
        let mut says = says.into_iter();
        let answer = move |_: NlFamily, request: &[u8]| {
            let sequence = nlmsg::u32_at(request, 8);
            let datagrams = says.next().expect("no more requests than expected");
            datagrams
                .into_iter()
                .map(|(from, messages)| {
                    let bytes = messages
                        .iter()
                        .flat_map(|(kind, flags, payload)| frame(*kind, *flags, sequence, payload))
                        .collect();
                    (from, bytes)
                })
                .collect()
        };
        with(ScriptedKernel::saying(answer), || {
            test(&mut Socket::open(NlFamily::Route).unwrap())
        })
    }

    fn ack(errno: i32) -> (u16, u16, Vec<u8>) {
        (ERROR, 0, done(errno))
    }

    fn end() -> (u16, u16, Vec<u8>) {
        (DONE, 0, done(0))
    }

    fn data(byte: u8) -> (u16, u16, Vec<u8>) {
        (DATA, 0, vec![byte; 4])
    }

    fn asked(says: Says) -> (Result<(), Failure>, Vec<u8>) {
        let mut seen = Vec::new();
        let result = socket(vec![says], |socket| {
            socket.ask(&mut request(), |payload| seen.push(payload[0]))
        });
        (result, seen)
    }

    fn dumped(says: Vec<Says>) -> Result<Vec<u8>, Failure> {
        socket(says, |socket| {
            socket.dump(&mut request(), Vec::new, |seen, payload| {
                seen.push(payload[0]);
                Ok(Next::More)
            })
        })
    }

    fn errno<T: std::fmt::Debug>(result: Result<T, Failure>) -> i32 {
        result.unwrap_err().errno
    }

    #[test]
    fn an_acknowledgement_ends_a_request() {
        let (result, seen) = asked(vec![(0, vec![data(1)]), (0, vec![data(2), ack(0)])]);
        assert!(result.is_ok());
        assert_eq!(seen, [1, 2]);
        let (result, _) = asked(vec![(0, vec![ack(libc::EBUSY)])]);
        assert_eq!(errno(result), libc::EBUSY);
        let (result, _) = asked(vec![(0, vec![(4, 0, vec![])])]);
        assert_eq!(errno(result), libc::ENOBUFS);
        let (result, _) = asked(vec![(0, vec![(ERROR, 0, vec![0])])]);
        assert_eq!(errno(result), libc::EPROTO);
    }

    /// A process that may change the network can send to this socket and guess the sequence.
    #[test]
    fn only_the_kernel_answers() {
        let (result, seen) = asked(vec![
            (4711, vec![data(6), ack(0)]),
            (0, vec![data(1)]),
            (4711, vec![ack(libc::EPERM)]),
            (0, vec![ack(0)]),
        ]);
        assert!(result.is_ok());
        assert_eq!(seen, [1]);
        let forged = vec![(1, vec![data(6), end()]), (0, vec![data(1), end()])];
        assert_eq!(dumped(vec![forged]).unwrap(), [1]);
    }

    #[test]
    fn sequences_cannot_be_expected() {
        let mut sent = Vec::new();
        for _ in 0..4 {
            let seen = std::rc::Rc::new(std::cell::Cell::new(0));
            let kernel = {
                let seen = seen.clone();
                ScriptedKernel::saying(move |_, request: &[u8]| {
                    seen.set(nlmsg::u32_at(request, 8));
                    vec![(0, frame(ERROR, 0, seen.get(), &done(0)))]
                })
            };
            with(kernel, || {
                let mut socket = Socket::open(NlFamily::Route).unwrap();
                socket.ask(&mut request(), |_| {}).unwrap();
            });
            sent.push(seen.get());
        }
        sent.sort_unstable();
        sent.dedup();
        assert_eq!(sent.len(), 4, "{sent:?}");
    }

    #[test]
    fn a_torn_dump_is_read_again() {
        let torn_data = vec![(0, vec![(DATA, TORN, vec![1; 4])]), (0, vec![end()])];
        let torn_done = vec![(0, vec![data(1)]), (0, vec![(DONE, TORN, done(0))])];
        let whole = vec![(0, vec![data(2), data(3)]), (0, vec![end()])];
        let seen = dumped(vec![torn_data, torn_done.clone(), whole]).unwrap();
        assert_eq!(seen, [2, 3], "nothing of a torn attempt is kept");
        let never: Vec<Says> = (0..DUMP_ATTEMPTS).map(|_| torn_done.clone()).collect();
        assert_eq!(errno(dumped(never.clone())), libc::EAGAIN);
        // Where that is better than nothing.
        let seen = socket(never, |socket| {
            socket.dump_as_it_is(&mut request(), Vec::new, |seen, payload| {
                seen.push(payload[0]);
                Ok(Next::More)
            })
        });
        assert_eq!(seen.unwrap(), [1]);
    }

    #[test]
    fn a_dump_that_fails_is_not_a_short_one() {
        let failed = |last| vec![vec![(0, vec![data(1), last])]];
        assert_eq!(
            errno(dumped(failed((DONE, 0, done(libc::ENODEV))))),
            libc::ENODEV
        );
        assert_eq!(errno(dumped(failed(ack(libc::EPERM)))), libc::EPERM);
        assert_eq!(errno(dumped(failed((4, 0, vec![])))), libc::ENOBUFS);
        // An acknowledgement of the request is not the end of its answer.
        let early = vec![(0, vec![ack(0)]), (0, vec![data(1), end()])];
        assert_eq!(dumped(vec![early]).unwrap(), [1]);
    }

    #[test]
    fn a_datagram_larger_than_the_buffer_is_taken_whole() {
        let large: Vec<_> = (0..20_000).map(|_| data(7)).collect();
        let seen = dumped(vec![vec![(0, large), (0, vec![end()])]]).unwrap();
        assert_eq!(seen.len(), 20_000);
    }
}
