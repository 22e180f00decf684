// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Userspace devices with a script for a kernel: what they answer, and what they were asked.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex, MutexGuard};

/// A router's tunnel: a mark, a peer that has everything and a peer that has nothing.
pub const TUNNEL: &str = "wg-cr02";
/// A device that was only just made.
pub const NEW: &str = "wg1";

pub const PRIVATE: &str = "iHFETUlBZH1sIbZi1qqC7xN2J6ui5MjY/eKRgaa/SUQ=";
pub const PUBLIC: &str = "B/srp4NsqlnCA7fyIGNgBxBI/xmUhGxrPMkT2Uwu9BI=";
/// The peer that has everything.
pub const FULL: &str = "hCH5j2zqpv1fAj+IeeHnpafJhDEubS3NHToxs1OQoRc=";
pub const FULL_PSK: &str = "YEYTmKKsTxQoFJEeHMyziZKT65Y0ZysjSlP0qhsrhn8=";
/// The peer that has nothing.
pub const BARE: &str = "dlfWr5duLnnTsDP5taygIj0uC46LC0gIMSU5sJ9yhgY=";

pub const FULL_HEX: &str = "8421f98f6ceaa6fd5f023f8879e1e7a5a7c984312e6d2dcd1d3a31b35390a117";

const TUNNEL_STATE: &str = "\
private_key=8871444d4941647d6c21b662d6aa82ef137627aba2e4c8d8fde29181a6bf4944
listen_port=51001
fwmark=4131
public_key=8421f98f6ceaa6fd5f023f8879e1e7a5a7c984312e6d2dcd1d3a31b35390a117
preshared_key=60461398a2ac4f142814911e1cccb3899293eb9634672b234a53f4aa1b2b867f
endpoint=[2001:db8:b::10]:51001
last_handshake_time_sec=1763815020
last_handshake_time_nsec=500000000
rx_bytes=1184
tx_bytes=1276
persistent_keepalive_interval=25
allowed_ip=0.0.0.0/0
allowed_ip=::/0
public_key=7657d6af976e2e79d3b033f9b5aca0223d2e0b8e8b0b4808312539b09f728606
";

const NEW_STATE: &str = "";

pub struct Devices {
    sets: Arc<Mutex<Vec<String>>>,
}

impl Devices {
    /// Serves both devices from threads that live as long as this process.
    pub fn serve() -> Devices {
        let sets = Arc::new(Mutex::new(Vec::new()));
        for (name, state) in [(TUNNEL, TUNNEL_STATE), (NEW, NEW_STATE)] {
            let path = format!("/var/run/wireguard/{name}.sock");
            let listener = UnixListener::bind(&path).expect("a socket in our own /run");
            let sets = Arc::clone(&sets);
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    answer(stream, name, state, &sets);
                }
            });
        }
        Devices { sets }
    }

    /// What was asked to be set since the last call, device by device: `name: line, line, …`.
    pub fn sets(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.sets))
    }
}

/// One request and its answer. A client that goes away is its own affair.
fn answer(stream: UnixStream, name: &str, state: &str, sets: &Mutex<Vec<String>>) {
    let mut lines = Vec::new();
    let mut reader = BufReader::new(&stream);
    loop {
        let mut line = String::new();
        match reader.read_line(&mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) if line == "\n" => break,
            Ok(_) => lines.push(line.trim_end().to_owned()),
        }
    }
    let reply = if lines.first().is_some_and(|line| line == "get=1") {
        format!("{state}errno=0\n\n")
    } else {
        lock(sets).push(format!("{name}: {}", lines[1..].join(", ")));
        "errno=0\n\n".to_owned()
    };
    let _ = (&stream).write_all(reply.as_bytes());
}

fn lock(sets: &Mutex<Vec<String>>) -> MutexGuard<'_, Vec<String>> {
    sets.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
