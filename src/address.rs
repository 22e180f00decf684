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
            IpAddr::V6(_) => write!(out, "{self}"),
        }
    }
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
            Some(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)))
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
