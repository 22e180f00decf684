// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! `wg show <interface> <field>` for scripts: columns between tabs, never a blank inside one.

use std::io::{self, Write};

use crate::address::{Endpoint, Names, Prefix};
use crate::key::Key;
use crate::model::{Bind, Device, Peer};
use crate::parse::words::Field;

/// The bind device as a single word.
pub fn bind_word(bind: &Bind) -> &str {
    match bind {
        Bind::Off => "off",
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
    out: &mut dyn Write,
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
    let label = label.map_or_else(String::new, |label| format!("{label}\t"));
    match field {
        Field::PublicKey => write!(out, "{label}").and_then(|()| write_key_line(out, public_key)),
        Field::PrivateKey => write!(out, "{label}").and_then(|()| write_key_line(out, private_key)),
        Field::ListenPort => writeln!(out, "{label}{listen_port}"),
        Field::FwMark => {
            write!(out, "{label}")?;
            write_mark(out, *fwmark)?;
            writeln!(out)
        }
        Field::BindDev => writeln!(out, "{label}{}", bind_word(bind)),
        Field::Dump => {
            write!(out, "{label}")?;
            write_key(out, private_key)?;
            write!(out, "\t")?;
            write_key(out, public_key)?;
            write!(out, "\t{listen_port}\t")?;
            write_mark(out, *fwmark)?;
            // Four columns, five with the label, for ever: parsers count them.
            writeln!(out)?;
            peers
                .iter()
                .try_for_each(|peer| write_dump_line(peer, &label, names, out))
        }
        Field::Json => Ok(()),
        Field::Peers => peers
            .iter()
            .try_for_each(|peer| writeln!(out, "{label}{}", peer.public_key.to_base64().as_str())),
        Field::PresharedKeys
        | Field::Endpoints
        | Field::AllowedIps
        | Field::LatestHandshakes
        | Field::Transfer
        | Field::PersistentKeepalive => peers.iter().try_for_each(|peer| {
            write!(out, "{label}{}\t", peer.public_key.to_base64().as_str())?;
            write_peer_field(peer, field, names, out)?;
            writeln!(out)
        }),
    }
}

fn write_peer_field(
    peer: &Peer,
    field: Field,
    names: &Names,
    out: &mut dyn Write,
) -> io::Result<()> {
    match field {
        Field::PresharedKeys => write_key(out, &peer.preshared_key),
        Field::Endpoints => write_endpoint(peer, names, out),
        Field::AllowedIps => write_prefixes(peer, " ", out),
        Field::LatestHandshakes => write!(out, "{}", handshake_seconds(peer)),
        Field::Transfer => write!(out, "{}\t{}", peer.rx_bytes, peer.tx_bytes),
        Field::PersistentKeepalive => write_keepalive(peer, out),
        _ => Ok(()),
    }
}

fn write_dump_line(peer: &Peer, label: &str, names: &Names, out: &mut dyn Write) -> io::Result<()> {
    write!(out, "{label}{}\t", peer.public_key.to_base64().as_str())?;
    write_key(out, &peer.preshared_key)?;
    write!(out, "\t")?;
    write_endpoint(peer, names, out)?;
    write!(out, "\t")?;
    write_prefixes(peer, ",", out)?;
    let (rx, tx) = (peer.rx_bytes, peer.tx_bytes);
    write!(out, "\t{}\t{rx}\t{tx}\t", handshake_seconds(peer))?;
    write_keepalive(peer, out)?;
    writeln!(out)
}

fn write_key(out: &mut dyn Write, key: &Option<Key>) -> io::Result<()> {
    match key {
        Some(key) => write!(out, "{}", key.to_base64().as_str()),
        None => write!(out, "(none)"),
    }
}

fn write_key_line(out: &mut dyn Write, value: &Option<Key>) -> io::Result<()> {
    write_key(out, value)?;
    writeln!(out)
}

fn write_mark(out: &mut dyn Write, mark: u32) -> io::Result<()> {
    match mark {
        0 => write!(out, "off"),
        mark => write!(out, "{mark:#x}"),
    }
}

fn write_endpoint(peer: &Peer, names: &Names, out: &mut dyn Write) -> io::Result<()> {
    match peer.endpoint {
        Some(addr) => write!(out, "{}", Endpoint(addr, names)),
        None => write!(out, "(none)"),
    }
}

fn write_prefixes(peer: &Peer, between: &str, out: &mut dyn Write) -> io::Result<()> {
    if peer.allowed_ips.is_empty() {
        return write!(out, "(none)");
    }
    for (at, prefix) in peer.allowed_ips.iter().enumerate() {
        let between = if at == 0 { "" } else { between };
        write!(out, "{between}{}", Prefix(*prefix))?;
    }
    Ok(())
}

fn handshake_seconds(peer: &Peer) -> u64 {
    peer.last_handshake.unwrap_or_default().as_secs()
}

fn write_keepalive(peer: &Peer, out: &mut dyn Write) -> io::Result<()> {
    match peer.persistent_keepalive {
        0 => write!(out, "off"),
        seconds => write!(out, "{seconds}"),
    }
}
