// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! `wg showconf`: a file that `wg setconf` takes back.

use std::io::{self, Write};

use crate::address::{Endpoint, Names, Prefix};
use crate::model::{Bind, Device, Peer, Selector, bind_by_table};
use crate::parse::value;
use crate::plan::rules::is_our_mark;

pub fn print(device: &Device, names: &Names, out: &mut dyn Write) -> io::Result<()> {
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
        Bind::Off | Bind::Kernel { .. } => false,
        Bind::Rules { by, .. } => *by == Selector::Mark(*fwmark) && is_our_mark(*fwmark),
    };
    if *fwmark != 0 && !carried {
        writeln!(out, "FwMark = {fwmark:#x}")?;
    }
    let dev = match bind {
        Bind::Off => None,
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
        writeln!(out, "PrivateKey = {}", key.to_base64().as_str())?;
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

fn print_peer(peer: &Peer, names: &Names, out: &mut dyn Write) -> io::Result<()> {
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
    writeln!(
        out,
        "[Peer]\nPublicKey = {}",
        public_key.to_base64().as_str()
    )?;
    if let Some(key) = preshared_key {
        writeln!(out, "PresharedKey = {}", key.to_base64().as_str())?;
    }
    for (at, prefix) in allowed_ips.iter().enumerate() {
        let before = if at == 0 { "AllowedIPs = " } else { ", " };
        write!(out, "{before}{}", Prefix(*prefix))?;
    }
    if !allowed_ips.is_empty() {
        writeln!(out)?;
    }
    if let Some(addr) = endpoint {
        writeln!(out, "Endpoint = {}", Endpoint(*addr, names))?;
    }
    if *persistent_keepalive != 0 {
        writeln!(out, "PersistentKeepalive = {persistent_keepalive}")?;
    }
    Ok(())
}
