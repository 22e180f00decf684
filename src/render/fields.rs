// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! `wg show <interface> <field>` for scripts: columns between tabs, never a blank inside one.

use std::io::{self, Write};

use crate::address::{Endpoint, Names, Prefix, write_decimal};
use crate::ifname;
use crate::key::{Key, PublicKey};
use crate::model::{Bind, Device, Peer};
use crate::parse::words::Field;

/// The bind device as a single word.
pub fn bind_word(bind: &Bind) -> &str {
    match bind {
        Bind::Off => "off",
        // A script that looks for the name is to bind it again.
        Bind::Rules { .. } if bind.is_open() => "off",
        // No interface can have this name.
        Bind::Unknown { .. } => "(unknown)",
        Bind::Kernel { dev, presence: _ } => dev,
        // Rules without their VRF: bound to a name that is lost.
        Bind::Rules { dev, .. } => dev.as_deref().unwrap_or("(missing)"),
    }
}

/// One field of one device; `label` is the first column where many devices are shown.
/// [`Field::Json`] is not a line per value and has its own printer.
pub fn print(
    device: &Device,
    field: Field,
    label: Option<&str>,
    names: &Names,
    out: &mut impl Write,
) -> io::Result<()> {
    // No `..`: a field that is added to the model must be thought of here, too.
    let Device {
        name: _,
        private_key,
        public_key,
        listen_port,
        fwmark,
        bind,
        receives: _,
        peers,
    } = device;
    let label = label.map_or_else(Vec::new, |label| {
        [&*ifname::name_bytes(label), b"\t"].concat()
    });
    let label = label.as_slice();
    match field {
        Field::PublicKey => {
            out.write_all(label)?;
            write_public_key(out, public_key)?;
        }
        Field::PrivateKey => {
            out.write_all(label)?;
            write_key(out, private_key)?;
        }
        Field::ListenPort => {
            out.write_all(label)?;
            write_decimal((*listen_port).into(), out)?;
        }
        Field::FwMark => {
            out.write_all(label)?;
            write_mark(out, *fwmark)?;
        }
        Field::BindDev => {
            out.write_all(label)?;
            out.write_all(&ifname::name_bytes(bind_word(bind)))?;
        }
        Field::Dump => {
            out.write_all(label)?;
            write_key(out, private_key)?;
            out.write_all(b"\t")?;
            write_public_key(out, public_key)?;
            write!(out, "\t{listen_port}\t")?;
            write_mark(out, *fwmark)?;
            // Four columns, five with the label, for ever: parsers count them.
            out.write_all(b"\n")?;
            return peers
                .iter()
                .try_for_each(|peer| write_dump_line(peer, label, names, out));
        }
        Field::Json => return Ok(()),
        Field::Peers
        | Field::PresharedKeys
        | Field::Endpoints
        | Field::AllowedIps
        | Field::LatestHandshakes
        | Field::Transfer
        | Field::PersistentKeepalive => {
            return peers.iter().try_for_each(|peer| {
                out.write_all(label)?;
                peer.public_key.write_base64(out)?;
                write_peer_field(peer, field, names, out)?;
                out.write_all(b"\n")
            });
        }
    }
    out.write_all(b"\n")
}

/// What stands behind the key of a peer.
fn write_peer_field(
    peer: &Peer,
    field: Field,
    names: &Names,
    out: &mut impl Write,
) -> io::Result<()> {
    if field == Field::Peers {
        return Ok(());
    }
    out.write_all(b"\t")?;
    match field {
        Field::PresharedKeys => write_key(out, &peer.preshared_key),
        Field::Endpoints => write_endpoint(peer, names, out),
        Field::AllowedIps => write_prefixes(peer, b" ", out),
        Field::LatestHandshakes => write_decimal(handshake_seconds(peer), out),
        Field::Transfer => write_transfer(peer, out),
        Field::PersistentKeepalive => write_keepalive(peer, out),
        _ => Ok(()),
    }
}

fn write_dump_line(
    peer: &Peer,
    label: &[u8],
    names: &Names,
    out: &mut impl Write,
) -> io::Result<()> {
    out.write_all(label)?;
    peer.public_key.write_base64(out)?;
    out.write_all(b"\t")?;
    write_key(out, &peer.preshared_key)?;
    out.write_all(b"\t")?;
    write_endpoint(peer, names, out)?;
    out.write_all(b"\t")?;
    write_prefixes(peer, b",", out)?;
    out.write_all(b"\t")?;
    write_decimal(handshake_seconds(peer), out)?;
    out.write_all(b"\t")?;
    write_transfer(peer, out)?;
    out.write_all(b"\t")?;
    write_keepalive(peer, out)?;
    out.write_all(b"\n")
}

const NONE: &[u8] = b"(none)";

fn write_key(out: &mut impl Write, key: &Option<Key>) -> io::Result<()> {
    match key {
        Some(key) => key.write_base64(out),
        None => out.write_all(NONE),
    }
}

fn write_public_key(out: &mut impl Write, key: &Option<PublicKey>) -> io::Result<()> {
    match key {
        Some(key) => key.write_base64(out),
        None => out.write_all(NONE),
    }
}

fn write_mark(out: &mut impl Write, mark: u32) -> io::Result<()> {
    match mark {
        0 => out.write_all(b"off"),
        mark => write!(out, "{mark:#x}"),
    }
}

fn write_endpoint(peer: &Peer, names: &Names, out: &mut impl Write) -> io::Result<()> {
    match peer.endpoint {
        Some(addr) => Endpoint(addr, names).write(out),
        None => out.write_all(NONE),
    }
}

fn write_prefixes(peer: &Peer, between: &[u8], out: &mut impl Write) -> io::Result<()> {
    if peer.allowed_ips.is_empty() {
        return out.write_all(NONE);
    }
    for (at, prefix) in peer.allowed_ips.iter().enumerate() {
        if at > 0 {
            out.write_all(between)?;
        }
        Prefix(prefix).write(out)?;
    }
    Ok(())
}

fn handshake_seconds(peer: &Peer) -> u64 {
    peer.last_handshake.unwrap_or_default().as_secs()
}

fn write_transfer(peer: &Peer, out: &mut impl Write) -> io::Result<()> {
    write_decimal(peer.rx_bytes, out)?;
    out.write_all(b"\t")?;
    write_decimal(peer.tx_bytes, out)
}

fn write_keepalive(peer: &Peer, out: &mut impl Write) -> io::Result<()> {
    match peer.persistent_keepalive {
        0 => out.write_all(b"off"),
        seconds => write_decimal(seconds.into(), out),
    }
}
