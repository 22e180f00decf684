// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The userspace API's text: `set=1` and `get=1` (wireguard.com/xplatform).
//!
//! Written here, because keys must be wiped on their way, and the crates that have the text bring
//! a whole backend with it. Pure text. Scope ids are interface names here and numbers in the
//! model; the caller brings the functions that translate and look up.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::num::IntErrorKind;
use std::str;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::address::{Endpoint, Ip, Names};
use crate::key::{KEY_LEN, Key};
use crate::model::{AllowedIp, AllowedIpUpdate, Bind, Change, Device, Peer, PeerUpdate, Update};

pub const GET: &str = "get=1\n\n";

/// The request that makes `update` happen; it holds keys. The API knows no binding.
pub fn encode_set(update: &Update, names: &Names) -> Zeroizing<String> {
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
    // One allocation that is never moved: growing would leave keys behind in freed memory.
    let prefixes: usize = peers.iter().map(|peer| peer.allowed_ips.len()).sum();
    let mut text = Zeroizing::new(String::with_capacity(
        512 + peers.len() * 512 + prefixes * 64,
    ));
    text.push_str("set=1\n");
    push_key(&mut text, "private_key", private_key);
    push_number(&mut text, "listen_port", listen_port);
    push_number(&mut text, "fwmark", fwmark);
    if *replace_peers {
        text.push_str("replace_peers=true\n");
    }
    for peer in peers {
        push_peer(&mut text, peer, names);
    }
    text.push('\n');
    text
}

fn push_peer(text: &mut String, peer: &PeerUpdate, names: &Names) {
    let PeerUpdate {
        public_key,
        remove,
        replace_allowed_ips,
        preshared_key,
        endpoint,
        persistent_keepalive,
        allowed_ips,
    } = peer;
    push_line(text, "public_key", &public_key.to_hex());
    if *remove {
        text.push_str("remove=true\n");
        return;
    }
    push_key(text, "preshared_key", preshared_key);
    if let Some(endpoint) = endpoint {
        push_line(text, "endpoint", &Endpoint(*endpoint, names).to_string());
    }
    push_number(text, "persistent_keepalive_interval", persistent_keepalive);
    if *replace_allowed_ips {
        text.push_str("replace_allowed_ips=true\n");
    }
    for AllowedIpUpdate {
        prefix: AllowedIp { addr, cidr },
        remove,
    } in allowed_ips
    {
        let minus = if *remove { "-" } else { "" };
        let _ = writeln!(text, "allowed_ip={minus}{}/{cidr}", Ip(*addr));
    }
}

fn push_line(text: &mut String, key: &str, value: &str) {
    text.push_str(key);
    text.push('=');
    text.push_str(value);
    text.push('\n');
}

fn push_key(text: &mut String, name: &str, change: &Change<Key>) {
    match change {
        Change::Keep => {}
        Change::Set(key) => push_line(text, name, &key.to_hex()),
        Change::Clear => push_line(text, name, &Key::from_bytes([0; KEY_LEN]).to_hex()),
    }
}

fn push_number<T: Copy + Default + Into<u64>>(text: &mut String, name: &str, change: &Change<T>) {
    let value = match change {
        Change::Keep => return,
        Change::Set(value) => *value,
        Change::Clear => T::default(),
    };
    push_line(text, name, &value.into().to_string());
}

/// What a userspace device answered.
#[derive(Debug, PartialEq, Eq)]
pub enum Broken {
    /// It said no; a positive errno.
    Errno(i32),
    /// The answer is not the protocol.
    Protocol,
}

/// Whether `answer` holds all of an answer: an empty line ends it, also as its first one. There
/// was no end in the first `seen` bytes.
pub fn is_whole(answer: &[u8], seen: usize) -> bool {
    let news = &answer[seen.saturating_sub(1)..];
    answer.starts_with(b"\n") || news.windows(2).any(|two| two == b"\n\n")
}

/// The `name=value` lines of an answer, up to the empty one that ends it; then the answer's error
/// number, 0 for success. The last `errno` counts, as in the reference.
///
/// # Errors
/// The answer breaks off, a line is none, or `line` says so.
fn read_lines<'a>(
    answer: &'a [u8],
    mut line: impl FnMut(&'a str, &'a str) -> Result<(), Broken>,
) -> Result<(), Broken> {
    let mut verdict = Err(Broken::Protocol);
    let mut rest = answer;
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let text = &rest[..end];
        rest = &rest[end + 1..];
        if text.is_empty() {
            return verdict;
        }
        let equals = text.iter().position(|byte| *byte == b'=');
        let equals = equals
            .filter(|_| !text.contains(&0))
            .ok_or(Broken::Protocol)?;
        // Bytes that are not UTF-8 are in no name and in no value that is known.
        let [name, value] = [&text[..equals], &text[equals + 1..]]
            .map(|part| str::from_utf8(part).unwrap_or(NO_TEXT));
        if name == "errno" {
            verdict = match read_errno(value) {
                Err(Broken::Protocol) => return Err(Broken::Protocol),
                verdict => verdict,
            };
        } else {
            line(name, value)?;
        }
    }
    Err(Broken::Protocol)
}

/// Stands for bytes that are no text; no value has it.
const NO_TEXT: &str = "\u{fffd}";

/// The verdict of an answer to `set=1`.
///
/// # Errors
/// The device refused, or did not say.
pub fn read_verdict(answer: &[u8]) -> Result<(), Broken> {
    read_lines(answer, |_, _| Ok(()))
}

fn read_errno(code: &str) -> Result<(), Broken> {
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
///
/// # Errors
/// The device refused, or a line does not hold what its key says.
pub fn decode_get(
    interface: &str,
    answer: &[u8],
    look_up: &dyn Fn(&str, &str) -> Option<SocketAddr>,
) -> Result<Device, Broken> {
    let mut device = Device {
        name: interface.to_owned(),
        private_key: None,
        public_key: None,
        listen_port: 0,
        fwmark: 0,
        bind: Bind::Off,
        receives: None,
        peers: Vec::new(),
    };
    let (mut seconds, mut nanos) = (0u64, 0u64);
    read_lines(answer, |name, value| {
        let peer = device.peers.last_mut();
        match (name, peer) {
            ("private_key", None) => {
                let key = read_key(value)?;
                device.public_key = Some(key.public());
                device.private_key = Some(key);
            }
            ("listen_port", None) => device.listen_port = read_number(value)?,
            ("fwmark", None) => device.fwmark = read_number(value)?,
            ("public_key", _) => {
                (seconds, nanos) = (0, 0);
                device.peers.push(Peer {
                    public_key: read_key(value)?,
                    preshared_key: None,
                    endpoint: None,
                    last_handshake: None,
                    rx_bytes: 0,
                    tx_bytes: 0,
                    persistent_keepalive: 0,
                    allowed_ips: Vec::new(),
                });
            }
            ("preshared_key", Some(peer)) => peer.preshared_key = drop_zero(read_key(value)?),
            ("endpoint", Some(peer)) => {
                peer.endpoint = Some(read_endpoint(value, look_up).ok_or(Broken::Protocol)?);
            }
            ("persistent_keepalive_interval", Some(peer)) => {
                peer.persistent_keepalive = read_number(value)?;
            }
            ("allowed_ip", Some(peer)) => {
                peer.allowed_ips
                    .push(read_prefix(value).ok_or(Broken::Protocol)?);
            }
            ("last_handshake_time_sec", Some(peer)) => {
                seconds = read_time(value)?;
                peer.last_handshake = join_time(seconds, nanos);
            }
            ("last_handshake_time_nsec", Some(peer)) => {
                nanos = read_time(value)?;
                peer.last_handshake = join_time(seconds, nanos);
            }
            ("rx_bytes", Some(peer)) => peer.rx_bytes = read_counter(value)?,
            ("tx_bytes", Some(peer)) => peer.tx_bytes = read_counter(value)?,
            // protocol_version, and keys that newer devices add.
            _ => {}
        }
        Ok(())
    })?;
    Ok(device)
}

fn drop_zero(key: Key) -> Option<Key> {
    (!key.is_zero()).then_some(key)
}

fn read_key(value: &str) -> Result<Key, Broken> {
    Key::from_hex(value).ok_or(Broken::Protocol)
}

fn read_number<T: std::str::FromStr>(value: &str) -> Result<T, Broken> {
    if value.is_empty() || !value.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Broken::Protocol);
    }
    value.parse().map_err(|_| Broken::Protocol)
}

/// A number of bytes; one that needs more than 64 bits is shown as the largest, as strtoull(3)
/// reads it.
fn read_counter(value: &str) -> Result<u64, Broken> {
    match value.parse::<u64>() {
        Err(err) if *err.kind() == IntErrorKind::PosOverflow && !value.starts_with('+') => {
            Ok(u64::MAX)
        }
        _ => read_number(value),
    }
}

/// A part of a `struct timespec`, which is signed.
fn read_time(value: &str) -> Result<u64, Broken> {
    let part: u64 = read_number(value)?;
    if i64::try_from(part).is_err() {
        return Err(Broken::Protocol);
    }
    Ok(part)
}

/// The seconds are never changed by nanoseconds that are too many.
fn join_time(seconds: u64, nanos: u64) -> Option<Duration> {
    let nanos = u32::try_from(nanos.min(999_999_999)).unwrap_or(0);
    let at = Duration::new(seconds, nanos);
    (!at.is_zero()).then_some(at)
}

fn read_prefix(value: &str) -> Option<AllowedIp> {
    let (addr, cidr) = value.split_once('/')?;
    let addr: IpAddr = addr.parse().ok()?;
    // Not as the reference, which keeps 8 bits of it: 256 is not 0.
    let cidr: u8 = read_number(cidr).ok()?;
    (cidr <= if addr.is_ipv4() { 32 } else { 128 }).then_some(AllowedIp { addr, cidr })
}

fn read_endpoint(
    value: &str,
    look_up: &dyn Fn(&str, &str) -> Option<SocketAddr>,
) -> Option<SocketAddr> {
    if let Ok(addr) = value.parse() {
        return Some(addr);
    }
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
    use std::net::SocketAddrV6;

    use super::*;

    fn k(n: u8) -> Key {
        Key::from_bytes([n; KEY_LEN])
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
                    allowed_ips: vec![AllowedIpUpdate {
                        prefix: AllowedIp {
                            addr: [192, 168, 4, 4].into(),
                            cidr: 32,
                        },
                        remove: false,
                    }],
                    ..PeerUpdate::new(k(0xb8))
                },
                PeerUpdate {
                    endpoint: Some(
                        SocketAddrV6::new("fe80::1".parse().unwrap(), 3233, 0, 7).into(),
                    ),
                    persistent_keepalive: Change::Set(111),
                    allowed_ips: vec![AllowedIpUpdate {
                        prefix: AllowedIp {
                            addr: "2001:db8::".parse().unwrap(),
                            cidr: 32,
                        },
                        remove: true,
                    }],
                    ..PeerUpdate::new(k(0x58))
                },
                PeerUpdate {
                    remove: true,
                    ..PeerUpdate::new(k(0x66))
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
        assert_eq!(*encode_set(&update, &names), expected);
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
        let device = decode_get("wg0", answer.as_bytes(), &look_up).unwrap();
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
        assert_eq!(first.allowed_ips.len(), 1);
        assert_eq!(second.persistent_keepalive, 111);
        assert_eq!(second.last_handshake, None);
    }

    #[test]
    fn refusals_and_nonsense_are_errors() {
        let ask = |text: &str| decode_get("wg0", text.as_bytes(), &|_, _| None).map(|_| ());
        let verdict = |text: &str| read_verdict(text.as_bytes());
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
            assert_eq!(read_prefix(text).is_some(), good, "{text}");
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
            assert_eq!(is_whole(text.as_bytes(), 0), whole, "{text:?}");
            // Byte by byte, as a slow device sends it.
            let end = (1..=text.len()).find(|end| is_whole(&text.as_bytes()[..*end], end - 1));
            assert_eq!(end.is_some(), whole, "{text:?}");
        }
    }
}
