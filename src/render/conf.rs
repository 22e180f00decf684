// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! `wg showconf`: a file that `wg setconf` takes back.

use std::io::{self, Write};

use crate::address::{Endpoint, Names, Prefix, write_decimal};
use crate::model::{Bind, Device, Peer, Selector, bind_by_table};
use crate::parse::value;
use crate::plan::rules::is_our_mark;

pub fn print(device: &Device, names: &Names, out: &mut impl Write) -> io::Result<()> {
    let Device {
        name: _,
        private_key,
        public_key: _,
        listen_port,
        fwmark,
        bind,
        receives: _,
        peers,
    } = device;
    writeln!(out, "[Interface]")?;
    if *listen_port != 0 {
        writeln!(out, "ListenPort = {listen_port}")?;
    }
    // A mark that only carries out BindDev is left out: on a kernel that binds by itself the
    // file would set it without need, and elsewhere it is chosen again.
    let carried = match bind {
        Bind::Off | Bind::Kernel { .. } | Bind::Unknown { .. } => false,
        Bind::Rules { by, .. } => *by == Selector::Mark(*fwmark) && is_our_mark(*fwmark),
    };
    if *fwmark != 0 && !carried {
        writeln!(out, "FwMark = {fwmark:#x}")?;
    }
    let dev = match bind {
        // Whoever prints a file refuses it before.
        Bind::Off | Bind::Unknown { .. } => None,
        Bind::Kernel { dev, .. } => Some(value::bind_dev_text(dev)),
        Bind::Rules { dev: Some(dev), .. } => Some(value::bind_dev_text(dev)),
        // The name is gone with the VRF, and a file without BindDev would open the tunnel.
        Bind::Rules {
            dev: None, table, ..
        } => Some(bind_by_table(*table)),
    };
    if let Some(dev) = dev {
        writeln!(out, "BindDev = {dev}")?;
    }
    if let Some(key) = private_key {
        out.write_all(b"PrivateKey = ")?;
        key.write_base64(out)?;
        out.write_all(b"\n")?;
    }
    writeln!(out)?;
    for (at, peer) in peers.iter().enumerate() {
        if at > 0 {
            writeln!(out)?;
        }
        print_peer(peer, names, out)?;
    }
    Ok(())
}

fn print_peer(peer: &Peer, names: &Names, out: &mut impl Write) -> io::Result<()> {
    let Peer {
        public_key,
        preshared_key,
        endpoint,
        last_handshake: _,
        rx_bytes: _,
        tx_bytes: _,
        persistent_keepalive,
        allowed_ips,
    } = peer;
    out.write_all(b"[Peer]\nPublicKey = ")?;
    public_key.write_base64(out)?;
    if let Some(key) = preshared_key {
        out.write_all(b"\nPresharedKey = ")?;
        key.write_base64(out)?;
    }
    for (at, prefix) in allowed_ips.iter().enumerate() {
        let before: &[u8] = if at == 0 { b"\nAllowedIPs = " } else { b", " };
        out.write_all(before)?;
        Prefix(prefix).write(out)?;
    }
    if let Some(addr) = endpoint {
        out.write_all(b"\nEndpoint = ")?;
        Endpoint(*addr, names).write(out)?;
    }
    if *persistent_keepalive != 0 {
        out.write_all(b"\nPersistentKeepalive = ")?;
        write_decimal((*persistent_keepalive).into(), out)?;
    }
    out.write_all(b"\n")
}
