// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The userspace API's text: `set=1` and `get=1` (wireguard.com/xplatform).
//!
//! Written here, because keys must be wiped on their way, and the crates that have the text bring
//! a whole backend with it. Pure text. Scope ids are interface names here and numbers in the
//! model; the caller brings the functions that translate and look up.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::str;
use std::time::Duration;

use crate::address::{Endpoint, Names, Prefix, parse_endpoint, parse_ip, write_decimal};
use crate::bytes::split_bytes;
use crate::key::{KEY_LEN, Key, PublicKey};
use crate::model::{
    AllowedIp, AllowedIpUpdate, Bind, Change, Device, Packed, Peer, PeerUpdate, Update,
};

pub const GET: &str = "get=1\n\n";

/// Writes the request that makes `update` happen; it holds keys. The API knows no binding.
///
/// # Errors
/// Those of `out`.
pub fn write_set(update: &Update, names: &Names, out: &mut impl Write) -> io::Result<()> {
    let Update {
        interface: _,
        private_key,
        listen_port,
        fwmark,
        bind_dev: _,
        bind_dev_omitted: _,
        replace_peers,
        peers,
    } = update;
    out.write_all(b"set=1\n")?;
    write_key(b"private_key=", private_key, out)?;
    write_number(b"listen_port=", listen_port, out)?;
    write_number(b"fwmark=", fwmark, out)?;
    if *replace_peers {
        out.write_all(b"replace_peers=true\n")?;
    }
    for peer in peers {
        write_peer(peer, names, out)?;
    }
    out.write_all(b"\n")
}

fn write_peer(peer: &PeerUpdate, names: &Names, out: &mut impl Write) -> io::Result<()> {
    let PeerUpdate {
        public_key,
        remove,
        // wireguard-go knows `update_only', and boringtun refuses a key that it does not know.
        update_only: _,
        replace_allowed_ips,
        preshared_key,
        endpoint,
        persistent_keepalive,
        allowed_ips,
    } = peer;
    out.write_all(b"public_key=")?;
    public_key.write_hex(out)?;
    out.write_all(b"\n")?;
    if *remove {
        return out.write_all(b"remove=true\n");
    }
    write_key(b"preshared_key=", preshared_key, out)?;
    if let Some(endpoint) = endpoint {
        out.write_all(b"endpoint=")?;
        Endpoint(*endpoint, names).write(out)?;
        out.write_all(b"\n")?;
    }
    write_number(b"persistent_keepalive_interval=", persistent_keepalive, out)?;
    if *replace_allowed_ips {
        out.write_all(b"replace_allowed_ips=true\n")?;
    }
    for AllowedIpUpdate { prefix, remove } in allowed_ips {
        out.write_all(if remove {
            b"allowed_ip=-"
        } else {
            b"allowed_ip="
        })?;
        Prefix(prefix).write(out)?;
        out.write_all(b"\n")?;
    }
    Ok(())
}

fn write_key(name: &[u8], change: &Change<Key>, out: &mut impl Write) -> io::Result<()> {
    match change {
        Change::Keep => return Ok(()),
        Change::Set(key) => {
            out.write_all(name)?;
            key.write_hex(out)?;
        }
        Change::Clear => {
            out.write_all(name)?;
            PublicKey::from_bytes([0; KEY_LEN]).write_hex(out)?;
        }
    }
    out.write_all(b"\n")
}

fn write_number<T: Copy + Default + Into<u64>>(
    name: &[u8],
    change: &Change<T>,
    out: &mut impl Write,
) -> io::Result<()> {
    let value = match change {
        Change::Keep => return Ok(()),
        Change::Set(value) => *value,
        Change::Clear => T::default(),
    };
    out.write_all(name)?;
    write_decimal(value.into(), out)?;
    out.write_all(b"\n")
}

/// What a userspace device answered.
#[derive(Debug, PartialEq, Eq)]
pub enum Broken {
    /// It said no; a positive errno.
    Errno(i32),
    /// The answer is not the protocol.
    Protocol,
}

/// How far an answer has been read.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    /// So many bytes; the others come again, with what follows them.
    More(usize),
    /// To its end, or as far as was wanted.
    End,
}

/// Reads an answer while it arrives: its `name=value` lines, up to the empty one.
pub struct Answer {
    /// The last `errno` counts, as in the reference.
    verdict: Result<(), Broken>,
}

impl Answer {
    pub fn new() -> Self {
        Answer {
            verdict: Err(Broken::Protocol),
        }
    }

    /// Hands the whole lines at the start of `bytes` to `take`, as long as it wants more.
    ///
    /// # Errors
    /// A line is none, or `take` says so.
    pub fn read<'a>(
        &mut self,
        bytes: &'a [u8],
        mut take: impl FnMut(&'a [u8], &'a [u8]) -> Result<Next, Broken>,
    ) -> Result<Progress, Broken> {
        let mut rest = bytes;
        let has_nul = split_bytes(bytes, 0).is_some();
        loop {
            let Some((line, after)) = split_bytes(rest, b'\n') else {
                return Ok(Progress::More(bytes.len() - rest.len()));
            };
            rest = after;
            if line.is_empty() {
                return Ok(Progress::End);
            }
            let (name, value) = split_bytes(line, b'=').ok_or(Broken::Protocol)?;
            if has_nul && split_bytes(line, 0).is_some() {
                return Err(Broken::Protocol);
            }
            if name == b"errno" {
                self.verdict = match read_errno(value) {
                    Err(Broken::Protocol) => return Err(Broken::Protocol),
                    verdict => verdict,
                };
            } else if take(name, value)? == Next::Enough {
                self.verdict = Ok(());
                return Ok(Progress::End);
            }
        }
    }

    /// What the device says about the request, once the answer has been read.
    ///
    /// # Errors
    /// It refused, or did not say.
    pub fn read_verdict(self) -> Result<(), Broken> {
        self.verdict
    }
}

impl Default for Answer {
    fn default() -> Self {
        Answer::new()
    }
}

/// Goes on with an answer, or leaves the rest unread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    More,
    Enough,
}

fn read_errno(code: &[u8]) -> Result<(), Broken> {
    let code = str::from_utf8(code).map_err(|_| Broken::Protocol)?;
    let digits = code.strip_prefix('-').unwrap_or(code);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Broken::Protocol);
    }
    match code.parse::<i32>() {
        Ok(0) => Ok(()),
        // wireguard-go says -EINVAL as a negative number, others without the sign.
        Ok(code) => Err(Broken::Errno(code.checked_abs().unwrap_or(libc::EIO))),
        Err(_) => Err(Broken::Protocol),
    }
}

/// The device that an answer to `get=1` describes. `look_up` finds the address of a host and a
/// service, as the reference asks getaddrinfo(3).
pub struct Decoder<F> {
    device: Device,
    look_up: F,
    /// Of the last peer.
    handshake: (u64, u64),
    /// Of the last peer. They move to it when they are all there, and take no more room than they need.
    allowed_ips: Vec<AllowedIp>,
}

impl<F: Fn(&str, &str) -> Option<SocketAddr>> Decoder<F> {
    pub fn new(interface: &str, look_up: F) -> Self {
        Decoder {
            device: Device {
                name: interface.to_owned(),
                private_key: None,
                public_key: None,
                listen_port: 0,
                fwmark: 0,
                bind: Bind::Off,
                receives: None,
                peers: Vec::new(),
            },
            look_up,
            handshake: (0, 0),
            allowed_ips: Vec::new(),
        }
    }

    /// Takes the next line.
    ///
    /// # Errors
    /// It does not hold what its name says.
    pub fn take_member(&mut self, name: &[u8], value: &[u8]) -> Result<(), Broken> {
        let peer = self.device.peers.last_mut();
        match (name, peer) {
            (b"private_key", None) => {
                let key = Key::from_hex(value).ok_or(Broken::Protocol)?;
                self.device.public_key = Some(key.public());
                self.device.private_key = Some(key);
            }
            (b"listen_port", None) => self.device.listen_port = read_number(value)?,
            (b"fwmark", None) => self.device.fwmark = read_number(value)?,
            (b"public_key", _) => {
                self.end_peer();
                self.device.peers.push(Peer {
                    public_key: PublicKey::from_hex(value).ok_or(Broken::Protocol)?,
                    preshared_key: None,
                    endpoint: None,
                    last_handshake: None,
                    rx_bytes: 0,
                    tx_bytes: 0,
                    persistent_keepalive: 0,
                    allowed_ips: Packed::default(),
                });
            }
            (b"preshared_key", Some(peer)) => {
                // Most are "none".
                peer.preshared_key = if value == NO_KEY {
                    None
                } else {
                    Some(Key::from_hex(value).ok_or(Broken::Protocol)?)
                };
            }
            (b"endpoint", Some(peer)) => {
                let endpoint = read_endpoint(value, &self.look_up);
                peer.endpoint = Some(endpoint.ok_or(Broken::Protocol)?);
            }
            (b"persistent_keepalive_interval", Some(peer)) => {
                peer.persistent_keepalive = read_number(value)?;
            }
            (b"allowed_ip", Some(_)) => {
                let prefix = read_prefix(value).ok_or(Broken::Protocol)?;
                self.allowed_ips.push(prefix);
            }
            (b"last_handshake_time_sec", Some(peer)) => {
                self.handshake.0 = read_time(value)?;
                peer.last_handshake = join_time(self.handshake);
            }
            (b"last_handshake_time_nsec", Some(peer)) => {
                self.handshake.1 = read_time(value)?;
                peer.last_handshake = join_time(self.handshake);
            }
            (b"rx_bytes", Some(peer)) => peer.rx_bytes = read_counter(value)?,
            (b"tx_bytes", Some(peer)) => peer.tx_bytes = read_counter(value)?,
            // protocol_version, and keys that newer devices add.
            _ => {}
        }
        Ok(())
    }

    fn end_peer(&mut self) {
        self.handshake = (0, 0);
        if let Some(peer) = self.device.peers.last_mut() {
            peer.allowed_ips = self.allowed_ips.drain(..).collect();
        }
    }

    pub fn finish_device(mut self) -> Device {
        self.end_peer();
        self.device
    }
}

/// A key of zeros: a preshared key that there is not.
const NO_KEY: &[u8] = &[b'0'; KEY_LEN * 2];

fn read_number<T: TryFrom<u64>>(value: &[u8]) -> Result<T, Broken> {
    let number = read_digits(value).ok_or(Broken::Protocol)?;
    number
        .and_then(|n| n.try_into().ok())
        .ok_or(Broken::Protocol)
}

/// A number of bytes; one that needs more than 64 bits is shown as the largest, as strtoull(3)
/// reads it.
fn read_counter(value: &[u8]) -> Result<u64, Broken> {
    let number = read_digits(value).ok_or(Broken::Protocol)?;
    Ok(number.unwrap_or(u64::MAX))
}

/// `None` for what has not digits only, `Some(None)` for more than 64 bits.
fn read_digits(value: &[u8]) -> Option<Option<u64>> {
    let mut number = Some(0u64);
    for byte in value {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number = number.and_then(|n| n.checked_mul(10)?.checked_add(u64::from(digit)));
    }
    (!value.is_empty()).then_some(number)
}

/// A part of a `struct timespec`, which is signed.
fn read_time(value: &[u8]) -> Result<u64, Broken> {
    let part: u64 = read_number(value)?;
    if i64::try_from(part).is_err() {
        return Err(Broken::Protocol);
    }
    Ok(part)
}

/// The seconds are never changed by nanoseconds that are too many.
fn join_time((seconds, nanos): (u64, u64)) -> Option<Duration> {
    let nanos = u32::try_from(nanos.min(999_999_999)).unwrap_or(0);
    let at = Duration::new(seconds, nanos);
    (!at.is_zero()).then_some(at)
}

fn read_prefix(value: &[u8]) -> Option<AllowedIp> {
    let (addr, cidr) = split_bytes(value, b'/')?;
    let addr = parse_ip(addr)?;
    // Not as the reference, which keeps 8 bits of it: 256 is not 0.
    let cidr: u8 = read_number(cidr).ok()?;
    (cidr <= if addr.is_ipv4() { 32 } else { 128 }).then_some(AllowedIp { addr, cidr })
}

fn read_endpoint(
    value: &[u8],
    look_up: impl Fn(&str, &str) -> Option<SocketAddr>,
) -> Option<SocketAddr> {
    if let Some(addr) = parse_endpoint(value) {
        return Some(addr);
    }
    let value = str::from_utf8(value).ok()?;
    let (host, port) = match value.strip_prefix('[') {
        Some(rest) => rest.split_once("]:")?,
        None => value.rsplit_once(':')?,
    };
    // Nor what the C library makes of a number with more than 16 bits.
    let is_number = port.bytes().all(|b| b.is_ascii_digit());
    if port.is_empty() || (is_number && port.parse::<u16>().is_err()) {
        return None;
    }
    look_up(host, port)
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, SocketAddrV6};

    use super::*;

    fn k(n: u8) -> Key {
        Key::from_bytes([n; KEY_LEN])
    }

    fn p(n: u8) -> PublicKey {
        PublicKey::from_bytes([n; KEY_LEN])
    }

    /// What is read of an answer that arrives in such parts. What follows its end does not count.
    fn read<'a>(
        parts: impl IntoIterator<Item = &'a str>,
        mut take: impl FnMut(&[u8], &[u8]) -> Result<(), Broken>,
    ) -> Result<(), Broken> {
        let (mut answer, mut left) = (Answer::new(), Vec::new());
        for part in parts {
            left.extend_from_slice(part.as_bytes());
            match answer.read(&left, |name, value| take(name, value).map(|()| Next::More))? {
                Progress::More(read) => drop(left.drain(..read)),
                Progress::End => return answer.read_verdict(),
            }
        }
        Err(Broken::Protocol)
    }

    fn decode(
        text: &str,
        look_up: impl Fn(&str, &str) -> Option<SocketAddr>,
    ) -> Result<Device, Broken> {
        let mut decoder = Decoder::new("wg0", look_up);
        read([text], |name, value| decoder.take_member(name, value))?;
        Ok(decoder.finish_device())
    }

    fn prefix(addr: IpAddr, remove: bool) -> Packed<AllowedIpUpdate> {
        let prefix = AllowedIp { addr, cidr: 32 };
        [AllowedIpUpdate { prefix, remove }].into_iter().collect()
    }

    fn no_scope(_: u32) -> Option<String> {
        Some("eth7".into())
    }

    /// The example of wireguard.com/xplatform, with a scope id and an incremental prefix.
    #[test]
    fn set_says_what_the_page_says() {
        let update = Update {
            interface: "wg0".into(),
            private_key: Change::Set(k(0xe8)),
            listen_port: Change::Set(12912),
            fwmark: Change::Clear,
            bind_dev: Change::Set("vrf".into()),
            bind_dev_omitted: false,
            replace_peers: true,
            peers: vec![
                PeerUpdate {
                    preshared_key: Change::Clear,
                    endpoint: Some("[abcd:23::33]:51820".parse().unwrap()),
                    replace_allowed_ips: true,
                    allowed_ips: prefix([192, 168, 4, 4].into(), false),
                    ..PeerUpdate::new(p(0xb8))
                },
                PeerUpdate {
                    endpoint: Some(
                        SocketAddrV6::new("fe80::1".parse().unwrap(), 3233, 0, 7).into(),
                    ),
                    persistent_keepalive: Change::Set(111),
                    allowed_ips: prefix("2001:db8::".parse().unwrap(), true),
                    ..PeerUpdate::new(p(0x58))
                },
                PeerUpdate {
                    remove: true,
                    ..PeerUpdate::new(p(0x66))
                },
            ],
        };
        let expected = format!(
            "set=1\nprivate_key={}\nlisten_port=12912\nfwmark=0\nreplace_peers=true\n\
             public_key={}\npreshared_key={}\nendpoint=[abcd:23::33]:51820\n\
             replace_allowed_ips=true\nallowed_ip=192.168.4.4/32\n\
             public_key={}\nendpoint=[fe80::1%eth7]:3233\n\
             persistent_keepalive_interval=111\nallowed_ip=-2001:db8::/32\n\
             public_key={}\nremove=true\n\n",
            "e8".repeat(32),
            "b8".repeat(32),
            "00".repeat(32),
            "58".repeat(32),
            "66".repeat(32),
        );
        let names = Names {
            interface: no_scope,
        };
        let mut text = Vec::new();
        write_set(&update, &names, &mut text).unwrap();
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }

    #[test]
    fn get_reads_what_the_page_shows() {
        let answer = format!(
            "private_key={}\nlisten_port=12912\nfwmark=1911\n\
             public_key={}\npreshared_key={}\nprotocol_version=1\nallowed_ip=192.168.4.4/32\n\
             endpoint=[fe80::1%eth7]:51820\nlast_handshake_time_sec=1490000000\n\
             last_handshake_time_nsec=5\ntx_bytes=38333\nrx_bytes=2224\nnews=1\n\
             public_key={}\nendpoint=182.122.22.19:3233\npersistent_keepalive_interval=111\n\
             errno=0\n\n",
            "e8".repeat(32),
            "b8".repeat(32),
            "00".repeat(32),
            "58".repeat(32),
        );
        let look_up = |host: &str, port: &str| {
            assert_eq!((host, port), ("fe80::1%eth7", "51820"));
            Some(SocketAddrV6::new("fe80::1".parse().unwrap(), 51820, 0, 7).into())
        };
        let device = decode(&answer, look_up).unwrap();
        assert_eq!((device.listen_port, device.fwmark), (12912, 1911));
        assert_eq!(device.public_key, Some(k(0xe8).public()));
        let [first, second] = &device.peers[..] else {
            panic!("two peers");
        };
        assert_eq!(first.preshared_key, None);
        assert_eq!(
            first.endpoint.unwrap(),
            SocketAddrV6::new("fe80::1".parse().unwrap(), 51820, 0, 7).into()
        );
        assert_eq!(first.last_handshake, Some(Duration::new(1_490_000_000, 5)));
        assert_eq!((first.rx_bytes, first.tx_bytes), (2224, 38333));
        assert_eq!(first.allowed_ips.iter().count(), 1);
        assert_eq!(second.persistent_keepalive, 111);
        assert_eq!(second.last_handshake, None);
    }

    #[test]
    fn refusals_and_nonsense_are_errors() {
        let ask = |text: &str| decode(text, |_, _| None).map(|_| ());
        let verdict = |text: &str| read([text], |_, _| Ok(()));
        assert_eq!(ask("errno=-22\n\n"), Err(Broken::Errno(22)));
        assert_eq!(ask("errno=1\n\n"), Err(Broken::Errno(1)));
        for text in [
            "",
            "\n",
            "errno=0\n",
            "errno=0\nlisten_port=1\n",
            "errno=0\r\n\r\n",
            "listen_port=1\n\n",
            "listen_port=65536\nerrno=0\n\n",
            "listen_port=+1\nerrno=0\n\n",
            "public_key=00\nerrno=0\n\n",
            "nonsense\nerrno=0\n\n",
            "x=\0\nerrno=0\n\n",
        ] {
            assert_eq!(ask(text), Err(Broken::Protocol), "{text:?}");
        }
        assert_eq!(verdict("errno=0\n\n"), Ok(()));
        assert_eq!(verdict("errno=98\n\n"), Err(Broken::Errno(98)));
        assert_eq!(verdict("errno=0\nerrno=-98\n\n"), Err(Broken::Errno(98)));
        for text in ["\n", "errno=0\n", "errno=0", "errno=+0\n\n", "errno=\n\n"] {
            assert_eq!(verdict(text), Err(Broken::Protocol), "{text:?}");
        }
    }

    #[test]
    fn prefixes_are_of_their_family() {
        for (text, good) in [
            ("10.0.0.0/32", true),
            ("10.0.0.0/33", false),
            ("10.0.0.0/256", false),
            ("::/128", true),
            ("::/129", false),
            ("::/", false),
            ("10.0.0.0", false),
        ] {
            assert_eq!(read_prefix(text.as_bytes()).is_some(), good, "{text}");
        }
    }

    #[test]
    fn an_empty_line_ends_an_answer() {
        for (text, whole) in [
            ("", false),
            ("\n", true),
            ("errno=0", false),
            ("errno=0\n", false),
            ("errno=0\n\n", true),
            ("errno=0\n\nmore", true),
            ("errno=0\r\n\r\n", false),
        ] {
            let end = |parts: &mut dyn Iterator<Item = &'static str>| {
                let mut read_to = None;
                let verdict = read(parts, |_, _| Ok(()));
                if verdict.is_ok() || text == "\n" {
                    read_to = Some(verdict);
                }
                read_to
            };
            let whole_at_once = end(&mut [text].into_iter());
            assert_eq!(whole_at_once.is_some(), whole, "{text:?}");
            // Byte by byte, as a slow device sends it.
            let bytes = (0..text.len()).map(|at| &text[at..=at]);
            assert_eq!(end(&mut bytes.into_iter()), whole_at_once, "{text:?}");
        }
    }
}
