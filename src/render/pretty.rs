// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! `wg show` for people.

use std::fmt::{self, Display};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::Duration;

use super::{CONTESTED, Options, masked};
use crate::address::{Endpoint, Ip, write_decimal};
use crate::error::shown;
use crate::model::{AllowedIp, Bind, Device, Packed, Peer, Presence, Receives};

const RESET: &str = "\x1b[0m";
const BOLD: &str = "\x1b[1m";
const RED: &str = "\x1b[31m";
const GREEN: &str = "\x1b[32m";
const YELLOW: &str = "\x1b[33m";
const CYAN: &str = "\x1b[36m";

/// Text between escape sequences, where colours are on.
struct Paint<T>(bool, &'static [&'static str], T);

impl<T: Display> Display for Paint<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Paint(on, styles, text) = self;
        if !on {
            return text.fmt(f);
        }
        for style in *styles {
            f.write_str(style)?;
        }
        write!(f, "{text}{RESET}")
    }
}

/// One device with its peers, the latest handshake first.
pub fn print(device: &Device, options: &Options, out: &mut impl Write) -> io::Result<()> {
    let Device {
        name,
        private_key,
        public_key,
        listen_port,
        fwmark,
        bind,
        receives,
        peers,
    } = device;
    let on = options.colour;
    if on {
        write!(out, "{RESET}")?;
    }
    writeln!(
        out,
        "{}: {}",
        Paint(on, &[GREEN, BOLD], "interface"),
        Paint(on, &[GREEN], shown(name))
    )?;
    if let Some(key) = public_key {
        write_line(out, on, "public key", key.to_base64().as_str())?;
    }
    if let Some(key) = private_key {
        write_line(
            out,
            on,
            "private key",
            masked(key, options.hide_keys).as_str(),
        )?;
    }
    if *listen_port != 0 {
        write_line(out, on, "listening port", listen_port)?;
    }
    if *fwmark != 0 {
        write_line(out, on, "fwmark", format_args!("{fwmark:#x}"))?;
    }
    if let Some(text) = describe_bind(bind) {
        write_line(out, on, "bind device", shown(text))?;
    }
    if let Some(receives) = receives {
        let text = match receives {
            Receives::Bound => "from the bind device only",
            Receives::Any => "from everywhere (its sockets are not bound)",
            Receives::Unclear => "cannot tell: other sockets have its port",
            Receives::Other(devices) => &format!(
                "from {} (wg set {name} bind-dev {} binds it again)",
                devices.join(", "),
                bind.dev().unwrap_or("VRF")
            ),
            Receives::Nothing => &format!(
                "nothing until it is bound again (wg set {name} bind-dev {})",
                bind.dev().unwrap_or("VRF")
            ),
        };
        write_line(out, on, "receives", shown(text))?;
    }
    let mut peers: Vec<&Peer> = peers.iter().collect();
    peers.sort_by_key(|peer| std::cmp::Reverse(peer.last_handshake.unwrap_or_default()));
    for peer in peers {
        print_peer(peer, options, out)?;
    }
    Ok(())
}

/// How a device is bound, for people.
fn describe_bind(bind: &Bind) -> Option<String> {
    match bind {
        // Said on standard error.
        Bind::Off | Bind::Unknown { .. } => None,
        Bind::Kernel { dev, presence } => Some(match presence {
            Presence::Present => dev.clone(),
            Presence::Missing => format!("{dev} (missing)"),
            Presence::Unbound => format!("{dev} (the sockets are not bound to it)"),
            Presence::Unused => format!("{dev} (there are no sockets on it)"),
            Presence::Unknown => format!("{dev} (of another network namespace)"),
        }),
        Bind::Rules {
            dev,
            by,
            table,
            faults,
            elsewhere,
        } => {
            let mut remarks = vec![by.to_string()];
            // The name is gone with the VRF; its table is what is left of it.
            let dev = dev.as_deref().unwrap_or_else(|| {
                remarks.push(format!("table {table}"));
                "(missing)"
            });
            match elsewhere {
                Some(false) => {}
                Some(true) => {
                    remarks.push("not bound: its sockets are in another network namespace".into());
                }
                None => remarks.push(CONTESTED.into()),
            }
            let faults = faults
                .iter()
                .map(|(family, fault)| format!("{family} {fault}"));
            remarks.extend(faults);
            Some(format!("{dev} ({})", remarks.join(", ")))
        }
    }
}

fn print_peer(peer: &Peer, options: &Options, out: &mut impl Write) -> io::Result<()> {
    let Peer {
        public_key,
        preshared_key,
        endpoint,
        last_handshake,
        rx_bytes,
        tx_bytes,
        persistent_keepalive,
        allowed_ips,
    } = peer;
    let on = options.colour;
    if on {
        let key = public_key.to_base64();
        let peer = Paint(on, &[YELLOW, BOLD], "peer");
        writeln!(out, "\n{peer}: {}", Paint(on, &[YELLOW], key))?;
    } else {
        out.write_all(b"\npeer: ")?;
        public_key.write_base64(out)?;
        out.write_all(b"\n")?;
    }
    if let Some(key) = preshared_key {
        write_line(
            out,
            on,
            "preshared key",
            masked(key, options.hide_keys).as_str(),
        )?;
    }
    if let Some(addr) = endpoint {
        write_name(out, on, "endpoint")?;
        let endpoint = Endpoint(*addr, &options.names);
        match addr {
            SocketAddr::V6(v6) if v6.scope_id() != 0 => write!(out, "{}", shown(endpoint))?,
            _ => endpoint.write(out)?,
        }
        out.write_all(b"\n")?;
    }
    write_name(out, on, "allowed ips")?;
    write_prefixes(out, on, allowed_ips)?;
    out.write_all(b"\n")?;
    if let Some(at) = last_handshake.filter(|at| at.as_secs() != 0) {
        write_line(out, on, "latest handshake", Age(on, at, options.now))?;
    }
    if *rx_bytes != 0 || *tx_bytes != 0 {
        write_line(
            out,
            on,
            "transfer",
            format_args!(
                "{} received, {} sent",
                Size(on, *rx_bytes),
                Size(on, *tx_bytes)
            ),
        )?;
    }
    if *persistent_keepalive != 0 {
        let interval = Span(on, u64::from(*persistent_keepalive));
        write_line(
            out,
            on,
            "persistent keepalive",
            format_args!("every {interval}"),
        )?;
    }
    Ok(())
}

fn write_line(out: &mut impl Write, on: bool, name: &str, value: impl Display) -> io::Result<()> {
    write_name(out, on, name)?;
    writeln!(out, "{value}")
}

fn write_name(out: &mut impl Write, on: bool, name: &str) -> io::Result<()> {
    if on {
        return write!(out, "  {}: ", Paint(on, &[BOLD], name));
    }
    out.write_all(b"  ")?;
    out.write_all(name.as_bytes())?;
    out.write_all(b": ")
}

fn write_prefixes(out: &mut impl Write, on: bool, prefixes: &Packed<AllowedIp>) -> io::Result<()> {
    if prefixes.is_empty() {
        return out.write_all(b"(none)");
    }
    for (at, AllowedIp { addr, cidr }) in prefixes.iter().enumerate() {
        if at > 0 {
            out.write_all(b", ")?;
        }
        Ip(addr).write(out)?;
        if on {
            write!(out, "{}", Paint(on, &[CYAN], "/"))?;
        } else {
            out.write_all(b"/")?;
        }
        write_decimal(cidr.into(), out)?;
    }
    Ok(())
}

struct Size(bool, u64);

impl Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
        let Size(on, bytes) = *self;
        if bytes < 1024 {
            return write!(f, "{bytes} {}", Paint(on, &[CYAN], "B"));
        }
        let mut size = bytes as f64 / 1024.0;
        let mut unit = 0;
        // Compared as integers: 1024.00 MiB is what the reference shows for a byte below 1 GiB.
        while unit + 1 < UNITS.len() && bytes >> (10 * (unit + 2)) != 0 {
            size /= 1024.0;
            unit += 1;
        }
        write!(f, "{size:.2} {}", Paint(on, &[CYAN], UNITS[unit]))
    }
}

/// How long ago something was.
struct Age(bool, Duration, Duration);

impl Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Age(on, at, now) = *self;
        match now.as_secs().checked_sub(at.as_secs()) {
            Some(0) => f.write_str("Now"),
            Some(seconds) => write!(f, "{} ago", Span(on, seconds)),
            None => {
                let text = "System clock wound backward; connection problems may ensue.";
                write!(f, "({})", Paint(on, &[RED], text))
            }
        }
    }
}

/// Seconds in units up to years of 365 days.
struct Span(bool, u64);

impl Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MINUTE: u64 = 60;
        const HOUR: u64 = 60 * MINUTE;
        const DAY: u64 = 24 * HOUR;
        const YEAR: u64 = 365 * DAY;
        let Span(on, mut seconds) = *self;
        let mut first = true;
        for (length, one, many) in [
            (YEAR, "year", "years"),
            (DAY, "day", "days"),
            (HOUR, "hour", "hours"),
            (MINUTE, "minute", "minutes"),
            (1, "second", "seconds"),
        ] {
            let count = seconds / length;
            seconds %= length;
            if count == 0 {
                continue;
            }
            let comma = if first { "" } else { ", " };
            first = false;
            let unit = if count == 1 { one } else { many };
            write!(f, "{comma}{count} {}", Paint(on, &[CYAN], unit))?;
        }
        Ok(())
    }
}
