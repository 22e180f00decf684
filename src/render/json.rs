// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! `wg show … json`: the shape of upstream's contrib `wg-json`, plus how a device is bound.
//!
//! Values that are not set are left out, as there. `schema` counts incompatible changes of what
//! a device looks like; new members may appear without one.

use std::fmt::Write as _;
use std::io::{self, Write};

use super::{Options, masked};
use crate::address::{Endpoint, Prefix};
use crate::model::{Bind, Device, Peer};

/// The version of the shape.
pub const SCHEMA: u32 = 1;

/// One object whose members are the devices.
pub fn print(devices: &[Device], options: &Options, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{{")?;
    for (at, device) in devices.iter().enumerate() {
        print_device(device, options, out)?;
        writeln!(out, "{}", comma(at, devices.len()))?;
    }
    writeln!(out, "}}")
}

fn print_device(device: &Device, options: &Options, out: &mut dyn Write) -> io::Result<()> {
    let Device {
        name,
        private_key,
        public_key,
        listen_port,
        fwmark,
        bind,
        peers,
    } = device;
    writeln!(out, "\t{}: {{\n\t\t\"schema\": {SCHEMA},", quoted(name))?;
    if let Some(key) = private_key {
        let key = masked(key, options.hide_keys);
        writeln!(out, "\t\t\"privateKey\": \"{}\",", key.as_str())?;
    }
    if let Some(key) = public_key {
        writeln!(out, "\t\t\"publicKey\": \"{}\",", key.to_base64().as_str())?;
    }
    if *listen_port != 0 {
        writeln!(out, "\t\t\"listenPort\": {listen_port},")?;
    }
    if *fwmark != 0 {
        writeln!(out, "\t\t\"fwmark\": {fwmark},")?;
    }
    if let Some((dev, method, state)) = bound(bind) {
        let dev = dev.map_or_else(|| "null".to_owned(), quoted);
        writeln!(
            out,
            "\t\t\"bindDev\": {{\n\t\t\t\"device\": {dev},\n\t\t\t\"method\": \"{method}\",\n\t\t\t\"state\": \"{state}\"\n\t\t}},"
        )?;
    }
    writeln!(out, "\t\t\"peers\": {{")?;
    for (at, peer) in peers.iter().enumerate() {
        print_peer(peer, options, out)?;
        writeln!(out, "{}", comma(at, peers.len()))?;
    }
    write!(out, "\t\t}}\n\t}}")
}

/// Device, method and state of a binding.
fn bound(bind: &Bind) -> Option<(Option<&str>, &'static str, &'static str)> {
    let state = |missing| if missing { "missing" } else { "bound" };
    match bind {
        Bind::Off => None,
        Bind::Kernel { dev, missing } => Some((Some(dev), "kernel", state(*missing))),
        Bind::Fwmark {
            dev,
            mark: _,
            table: _,
        } => Some((dev.as_deref(), "fwmark", state(dev.is_none()))),
    }
}

fn print_peer(peer: &Peer, options: &Options, out: &mut dyn Write) -> io::Result<()> {
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
    writeln!(out, "\t\t\t\"{}\": {{", public_key.to_base64().as_str())?;
    if let Some(key) = preshared_key {
        let key = masked(key, options.hide_keys);
        writeln!(out, "\t\t\t\t\"presharedKey\": \"{}\",", key.as_str())?;
    }
    if let Some(addr) = endpoint {
        let text = Endpoint(*addr, &options.names).to_string();
        writeln!(out, "\t\t\t\t\"endpoint\": {},", quoted(&text))?;
    }
    for (name, value) in [
        (
            "latestHandshake",
            last_handshake.unwrap_or_default().as_secs(),
        ),
        ("transferRx", *rx_bytes),
        ("transferTx", *tx_bytes),
        ("persistentKeepalive", u64::from(*persistent_keepalive)),
    ] {
        if value != 0 {
            writeln!(out, "\t\t\t\t\"{name}\": {value},")?;
        }
    }
    writeln!(out, "\t\t\t\t\"allowedIps\": [")?;
    for (at, prefix) in allowed_ips.iter().enumerate() {
        let comma = comma(at, allowed_ips.len());
        writeln!(out, "\t\t\t\t\t\"{}\"{comma}", Prefix(*prefix))?;
    }
    write!(out, "\t\t\t\t]\n\t\t\t}}")
}

/// What separates member `at` of `count` from the next.
fn comma(at: usize, count: usize) -> &'static str {
    if at + 1 < count { "," } else { "" }
}

/// A JSON string. The names of interfaces are nearly free text.
fn quoted(text: &str) -> String {
    let mut json = String::with_capacity(text.len() + 2);
    json.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                json.push('\\');
                json.push(c);
            }
            c if c < ' ' => {
                // Writing to a String cannot fail.
                let _ = write!(json, "\\u{:04x}", u32::from(c));
            }
            c => json.push(c),
        }
    }
    json.push('"');
    json
}
