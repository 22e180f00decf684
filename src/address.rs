// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Addresses as the C library writes them: in output, in files and to userspace devices.

use std::fmt::{self, Display};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::model::AllowedIp;

/// How numbers become names.
#[derive(Clone, Copy)]
pub struct Names {
    /// The name of the interface with this index.
    pub interface: fn(u32) -> Option<String>,
}

/// An address as `inet_ntop(3)` writes it. Rust's own Display differs for `::a.b.c.d`.
pub struct Ip(pub IpAddr);

impl Ip {
    /// Writes what Display shows, in a third of the time.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        match self.0 {
            IpAddr::V4(v4) => {
                let [a, b, c, d] = v4.octets();
                write_decimal(a.into(), out)?;
                for byte in [b, c, d] {
                    out.write_all(b".")?;
                    write_decimal(byte.into(), out)?;
                }
                Ok(())
            }
            // Those that end as IPv4 does are rare.
            IpAddr::V6(v6) if v6.to_bits() >> 48 == 0 => write!(out, "{self}"),
            IpAddr::V6(v6) => write_groups(v6.segments(), out),
        }
    }
}

/// Writes the groups of an address that ends in one (RFC 5952, section 4).
fn write_groups(groups: [u16; 8], out: &mut impl Write) -> io::Result<()> {
    let zeros = |at: usize| groups[at..].iter().take_while(|group| **group == 0).count();
    // The first of the longest.
    let longest = (0..8).rev().max_by_key(|at| zeros(*at)).unwrap_or(0);
    let left_out = match zeros(longest) {
        0 | 1 => 8..8,
        length => longest..longest + length,
    };
    let mut at = 0;
    while at < 8 {
        if at == left_out.start {
            out.write_all(b"::")?;
            at = left_out.end;
            continue;
        }
        if at > 0 && at != left_out.end {
            out.write_all(b":")?;
        }
        let digits =
            [12, 8, 4, 0].map(|shift| b"0123456789abcdef"[usize::from(groups[at] >> shift & 15)]);
        let zeros = (groups[at].leading_zeros() as usize / 4).min(3);
        out.write_all(&digits[zeros..])?;
        at += 1;
    }
    Ok(())
}

/// Writes a number without the formatting machinery.
///
/// # Errors
/// Those of `out`.
pub fn write_decimal(number: u64, out: &mut impl Write) -> io::Result<()> {
    out.write_all(itoa::Buffer::new().format(number).as_bytes())
}

impl Display for Ip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(v4) => v4.fmt(f),
            IpAddr::V6(v6) => match compatible(v6) {
                Some(v4) => write!(f, "::{v4}"),
                None => v6.fmt(f),
            },
        }
    }
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

/// `address/bits`
pub struct Prefix(pub AllowedIp);

impl Prefix {
    /// Writes what Display shows, in a third of the time.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let AllowedIp { addr, cidr } = self.0;
        Ip(addr).write(out)?;
        out.write_all(b"/")?;
        write_decimal(cidr.into(), out)
    }
}

impl Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AllowedIp { addr, cidr } = self.0;
        write!(f, "{}/{cidr}", Ip(addr))
    }
}

/// An endpoint as `getnameinfo(3)` writes it: brackets around IPv6, and a scope by the name of
/// its interface where the address is link-local and the name is known.
pub struct Endpoint<'a>(pub SocketAddr, pub &'a Names);

impl Endpoint<'_> {
    /// Writes what Display shows, in a third of the time.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        match self.0 {
            SocketAddr::V4(v4) => {
                Ip(IpAddr::V4(*v4.ip())).write(out)?;
                out.write_all(b":")?;
                write_decimal(v4.port().into(), out)
            }
            SocketAddr::V6(v6) if v6.scope_id() == 0 => {
                out.write_all(b"[")?;
                Ip(IpAddr::V6(*v6.ip())).write(out)?;
                out.write_all(b"]:")?;
                write_decimal(v6.port().into(), out)
            }
            SocketAddr::V6(_) => write!(out, "{self}"),
        }
    }
}

impl Display for Endpoint<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Endpoint(addr, names) = self;
        match addr {
            SocketAddr::V4(v4) => v4.fmt(f),
            SocketAddr::V6(v6) => {
                let (ip, port, scope) = (*v6.ip(), v6.port(), v6.scope_id());
                write!(f, "[{}", Ip(IpAddr::V6(ip)))?;
                if scope != 0 {
                    let name = is_link_local(ip)
                        .then(|| (names.interface)(scope))
                        .flatten();
                    match name {
                        Some(name) => write!(f, "%{name}")?,
                        None => write!(f, "%{scope}")?,
                    }
                }
                write!(f, "]:{port}")
            }
        }
    }
}

fn is_link_local(ip: Ipv6Addr) -> bool {
    let first = ip.segments()[0];
    first & 0xffc0 == 0xfe80 || first & 0xff0f == 0xff02
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every choice of groups that are zero, short or long, and those that end as IPv4 does.
    #[test]
    fn writes_what_display_shows() {
        let rare = ["::ffff:1.2.3.4", "::1.2.3.4", "::1", "1.2.3.4"].map(|ip| ip.parse().unwrap());
        let groups = (0..3u32.pow(8)).map(|choice| {
            let group = |at: u32| [0, 0x1a, 0xbcde][(choice / 3u32.pow(at) % 3) as usize];
            IpAddr::from(std::array::from_fn::<u16, 8, _>(|at| group(at as u32)))
        });
        for ip in groups.chain(rare) {
            let mut text = Vec::new();
            Ip(ip).write(&mut text).unwrap();
            assert_eq!(String::from_utf8(text).unwrap(), Ip(ip).to_string());
        }
    }
}
