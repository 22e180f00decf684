// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Addresses as the C library writes them: in output, in files and to userspace devices.

use std::fmt::{self, Display};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str;

use crate::bytes::split_bytes;
use crate::ifname;
use crate::model::{AllowedIp, IFNAME_MAX};

/// How numbers become names.
#[derive(Clone, Copy)]
pub struct Names {
    /// The name of the interface with this index.
    pub interface: fn(u32) -> Option<String>,
}

/// The longest text: `[IPv6%scope]:port`. Three characters may stand for each byte of a scope.
const LONGEST: usize = "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff%]:65535".len() + 3 * IFNAME_MAX;

/// Text that is put together here and written at once.
struct Short {
    /// The digits of an octet are copied at once, needed or not.
    bytes: [u8; LONGEST + 2],
    length: usize,
}

impl Short {
    fn new() -> Self {
        Short {
            bytes: [0; LONGEST + 2],
            length: 0,
        }
    }

    fn add(&mut self, text: &[u8]) {
        self.bytes[self.length..self.length + text.len()].copy_from_slice(text);
        self.length += text.len();
    }

    fn add_octet(&mut self, octet: u8) {
        let [digits @ .., length] = OCTETS[usize::from(octet)];
        // All three have room, and the next text covers those that are too many.
        self.bytes[self.length..self.length + 3].copy_from_slice(&digits);
        self.length += usize::from(length);
    }

    /// As `inet_ntop(3)` writes it. Rust's own Display differs for `::a.b.c.d`.
    fn add_ip(&mut self, ip: IpAddr) {
        match ip {
            IpAddr::V4(v4) => self.add_v4(v4),
            IpAddr::V6(v6) => match v6.to_ipv4_mapped().or_else(|| compatible(v6)) {
                Some(v4) => {
                    self.add(if v6.segments()[5] == 0 {
                        b"::"
                    } else {
                        b"::ffff:"
                    });
                    self.add_v4(v4);
                }
                None => self.add_groups(v6.segments()),
            },
        }
    }

    fn add_v4(&mut self, v4: Ipv4Addr) {
        let [a, b, c, d] = v4.octets();
        self.add_octet(a);
        for octet in [b, c, d] {
            self.add(b".");
            self.add_octet(octet);
        }
    }

    /// The groups of an address (RFC 5952, section 4).
    fn add_groups(&mut self, groups: [u16; 8]) {
        // The first of the longest rows of zeros, where one is longer than a group.
        let (mut start, mut end, mut row) = (8, 8, 0);
        for (at, group) in groups.iter().enumerate() {
            row = if *group == 0 { row + 1 } else { 0 };
            if row > 1 && row > end - start {
                (start, end) = (at + 1 - row, at + 1);
            }
        }
        for (at, group) in groups.iter().enumerate() {
            if at == start {
                self.add(b"::");
            }
            if (start..end).contains(&at) {
                continue;
            }
            if at > 0 && at != end {
                self.add(b":");
            }
            let digits =
                [12, 8, 4, 0].map(|shift| b"0123456789abcdef"[usize::from(group >> shift & 15)]);
            let zeros = (group.leading_zeros() as usize / 4).min(3);
            self.add(&digits[zeros..]);
        }
    }

    /// With `raw` the name of a scope has its bytes, which may be no text.
    fn add_endpoint(&mut self, addr: SocketAddr, names: &Names, raw: bool) {
        match addr {
            SocketAddr::V4(v4) => self.add_v4(*v4.ip()),
            SocketAddr::V6(v6) => {
                self.add(b"[");
                self.add_ip(IpAddr::V6(*v6.ip()));
                if v6.scope_id() != 0 {
                    let name = is_link_local(*v6.ip()).then(|| (names.interface)(v6.scope_id()));
                    let name = name.flatten().unwrap_or_else(|| v6.scope_id().to_string());
                    self.add(b"%");
                    match raw {
                        true => self.add(&ifname::name_bytes(&name)),
                        false => self.add(name.as_bytes()),
                    }
                }
                self.add(b"]");
            }
        }
        self.add(b":");
        self.add(itoa::Buffer::new().format(addr.port()).as_bytes());
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(self.as_bytes()).map_err(|_| fmt::Error)?)
    }
}

/// The digits of each octet, and how many they are.
const OCTETS: [[u8; 4]; 256] = {
    let mut all = [[0; 4]; 256];
    let mut octet = 0;
    while octet < 256 {
        let digits = [octet / 100, octet / 10 % 10, octet % 10];
        let zeros = if octet > 99 {
            0
        } else if octet > 9 {
            1
        } else {
            2
        };
        let mut at = zeros;
        while at < 3 {
            all[octet][at - zeros] = b'0' + digits[at] as u8;
            at += 1;
        }
        all[octet][3] = 3 - zeros as u8;
        octet += 1;
    }
    all
};

/// Writes a number without the formatting machinery.
///
/// # Errors
/// Those of `out`.
pub fn write_decimal(number: u64, out: &mut impl Write) -> io::Result<()> {
    out.write_all(itoa::Buffer::new().format(number).as_bytes())
}

/// The last 32 bits of an address that is zero before them and not in the 16 bits after that.
fn compatible(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    match v6.segments() {
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => {
            Some(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)))
        }
        _ => None,
    }
}

/// An address as the C library writes it.
pub struct Ip(pub IpAddr);

impl Ip {
    fn to_text(&self) -> Short {
        let mut text = Short::new();
        text.add_ip(self.0);
        text
    }

    /// Writes it without the formatting machinery.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        out.write_all(self.to_text().as_bytes())
    }
}

impl Display for Ip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_text().fmt(f)
    }
}

/// `address/bits`
pub struct Prefix(pub AllowedIp);

impl Prefix {
    fn to_text(&self) -> Short {
        let AllowedIp { addr, cidr } = self.0;
        let mut text = Ip(addr).to_text();
        text.add(b"/");
        text.add_octet(cidr);
        text
    }

    /// Writes it without the formatting machinery.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        out.write_all(self.to_text().as_bytes())
    }
}

impl Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_text().fmt(f)
    }
}

/// An endpoint as `getnameinfo(3)` writes it: brackets around IPv6, and a scope by the name of
/// its interface where the address is link-local and the name is known.
pub struct Endpoint<'a>(pub SocketAddr, pub &'a Names);

impl Endpoint<'_> {
    fn to_text(&self, raw: bool) -> Short {
        let mut text = Short::new();
        text.add_endpoint(self.0, self.1, raw);
        text
    }

    /// Writes it for programs, with the bytes of a name, and without the formatting machinery.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        out.write_all(self.to_text(true).as_bytes())
    }
}

impl Display for Endpoint<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_text(false).fmt(f)
    }
}

/// An address as std reads it, the usual ones in a third of the time.
pub fn parse_ip(text: &[u8]) -> Option<IpAddr> {
    let plain = match parse_plain_v4(text) {
        Some(v4) => Some(IpAddr::V4(v4)),
        None => parse_plain_v6(text).map(IpAddr::V6),
    };
    plain.or_else(|| str::from_utf8(text).ok()?.parse().ok())
}

/// `address:port`, as std reads it.
pub fn parse_endpoint(text: &[u8]) -> Option<SocketAddr> {
    parse_plain_endpoint(text).or_else(|| str::from_utf8(text).ok()?.parse().ok())
}

fn parse_plain_endpoint(text: &[u8]) -> Option<SocketAddr> {
    let (ip, port) = match text.strip_prefix(b"[") {
        Some(rest) => {
            let (ip, port) = split_bytes(rest, b']')?;
            (parse_plain_v6(ip)?.into(), port.strip_prefix(b":")?)
        }
        None => {
            let (ip, port) = split_bytes(text, b':')?;
            (parse_plain_v4(ip)?.into(), port)
        }
    };
    let (port, []) = read_number::<10>(port)? else {
        return None;
    };
    Some(SocketAddr::new(ip, u16::try_from(port).ok()?))
}

fn parse_plain_v4(text: &[u8]) -> Option<Ipv4Addr> {
    let mut octets = [0; 4];
    let mut rest = text;
    for (at, octet) in octets.iter_mut().enumerate() {
        if at > 0 {
            rest = rest.strip_prefix(b".")?;
        }
        let leading_zero = matches!(rest, [b'0', b'0'..=b'9', ..]);
        let (number, after) = read_number::<10>(rest)?;
        *octet = u8::try_from(number).ok().filter(|_| !leading_zero)?;
        rest = after;
    }
    rest.is_empty().then(|| octets.into())
}

/// Not those that end as IPv4 does.
fn parse_plain_v6(text: &[u8]) -> Option<Ipv6Addr> {
    let mut groups = [0; 8];
    let (mut count, mut gap) = (0, None);
    let mut rest = text;
    while !rest.is_empty() {
        match rest {
            [b':', b':', after @ ..] if gap.is_none() => {
                gap = Some(count);
                rest = after;
                if rest.is_empty() {
                    break;
                }
            }
            [b':', after @ ..] if count > 0 => rest = after,
            _ if count > 0 => return None,
            _ => {}
        }
        let (number, after) = read_number::<16>(rest)?;
        if rest.len() - after.len() > 4 {
            return None;
        }
        *groups.get_mut(count)? = number as u16;
        count += 1;
        rest = after;
    }
    match gap {
        Some(gap) if count < 8 => {
            groups.copy_within(gap..count, gap + 8 - count);
            groups[gap..gap + 8 - count].fill(0);
        }
        None if count == 8 => {}
        _ => return None,
    }
    Some(groups.into())
}

/// The digits at the start of `text`, one to five, and what stands behind them.
fn read_number<const RADIX: u32>(text: &[u8]) -> Option<(u32, &[u8])> {
    let mut number = 0;
    let mut length = 0;
    while let Some(byte) = text.get(length) {
        let Some(digit) = char::from(*byte).to_digit(RADIX) else {
            break;
        };
        number = number * RADIX + digit;
        length += 1;
        if length > 5 {
            return None;
        }
    }
    (length > 0).then(|| (number, &text[length..]))
}

fn is_link_local(ip: Ipv6Addr) -> bool {
    let first = ip.segments()[0];
    first & 0xffc0 == 0xfe80 || first & 0xff0f == 0xff02
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddrV6;

    use super::*;

    /// Every choice of groups that are zero, short or long, and those that end as IPv4 does.
    fn list_addresses() -> Vec<IpAddr> {
        let groups = (0..3u32.pow(8)).map(|choice| {
            let group = |at: u32| [0, 0x1a, 0xbcde][(choice / 3u32.pow(at) % 3) as usize];
            IpAddr::from(std::array::from_fn::<u16, 8, _>(|at| group(at as u32)))
        });
        let v4 = (0..=u8::MAX).map(|octet| IpAddr::from([octet, 1, 0, 255 - octet]));
        let rare = ["::ffff:1.2.3.4", "::ffff:0:1", "::1"].map(|ip| ip.parse().unwrap());
        groups.chain(v4).chain(rare).collect()
    }

    #[test]
    fn writes_and_reads_as_std() {
        for ip in list_addresses() {
            let text = Ip(ip).to_string();
            match ip {
                IpAddr::V6(v6) if compatible(v6).is_some() => {
                    assert_eq!(text, format!("::{}", compatible(v6).unwrap()));
                }
                _ => assert_eq!(text, ip.to_string()),
            }
            assert_eq!(parse_ip(text.as_bytes()), Some(ip));
            let endpoint = SocketAddr::new(ip, 51820);
            assert_eq!(
                parse_endpoint(endpoint.to_string().as_bytes()),
                Some(endpoint)
            );
        }
    }

    /// Of each byte of a name that is no text, three characters are shown.
    #[test]
    fn the_longest_scope_has_room() {
        let names = Names {
            interface: |_| Some(ifname::from_bytes(&[0xff; IFNAME_MAX])),
        };
        let addr: Ipv6Addr = "fe81:1111:2222:3333:4444:5555:6666:7777".parse().unwrap();
        let addr = SocketAddrV6::new(addr, 65535, 0, 4_294_967_295);
        let endpoint = Endpoint(addr.into(), &names);
        let scope = "%ff".repeat(IFNAME_MAX);
        let shown = format!("[fe81:1111:2222:3333:4444:5555:6666:7777%{scope}]:65535");
        assert_eq!(endpoint.to_string(), shown);
        // Programs get the name as it is.
        let mut written = Vec::new();
        endpoint.write(&mut written).unwrap();
        assert_eq!(written, *ifname::name_bytes(&shown));
        assert_eq!(written.len(), shown.len() - 2 * IFNAME_MAX);
    }

    /// The text of an address with a byte taken out, or one put in.
    #[test]
    fn refuses_as_std() {
        let addresses = list_addresses();
        let texts = addresses.iter().step_by(37).flat_map(|ip| {
            [
                ip.to_string(),
                SocketAddr::new(*ip, 10).to_string(),
                "[::1%2]:70000".to_owned(),
            ]
        });
        for text in texts {
            for at in 0..text.len() {
                let (before, after) = text.split_at(at);
                for between in ["", ":", "::", ".", "0", "256", "f", "g", "]", "-", "\u{e9}"] {
                    for after in [after, &after[1..]] {
                        let text = [before, between, after].concat();
                        assert_eq!(parse_ip(text.as_bytes()), text.parse().ok(), "{text}");
                        assert_eq!(parse_endpoint(text.as_bytes()), text.parse().ok(), "{text}");
                    }
                }
            }
        }
    }
}
