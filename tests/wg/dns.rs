// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! A name server on 127.0.0.1 of the sandbox whose answers are told by the names.
//!
//! `ok…` has 192.0.2.7, `six…` only 2001:db8::7, `slow…` is `ok` after 100 ms, `flaky…` fails
//! twice, then is `ok`; `nx…`, `fail…`, `refused…`, `nodata…` are what they say.

use std::collections::HashMap;
use std::net::UdpSocket;
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

const A: u16 = 1;
const AAAA: u16 = 28;

pub struct Server {
    /// How often each name was asked for its A record.
    asked: Arc<Mutex<HashMap<String, u32>>>,
}

impl Server {
    /// The server, started once.
    pub fn get() -> &'static Server {
        static SERVER: OnceLock<Server> = OnceLock::new();
        SERVER.get_or_init(|| {
            let socket = Arc::new(UdpSocket::bind("127.0.0.1:53").expect("port 53 of the sandbox"));
            let asked = Arc::new(Mutex::new(HashMap::new()));
            let counts = Arc::clone(&asked);
            thread::spawn(move || serve(&socket, &counts));
            Server { asked }
        })
    }

    pub fn count_asked(&self, name: &str) -> u32 {
        let asked = self.asked.lock().expect("counts");
        asked.get(name).copied().unwrap_or(0)
    }
}

/// Answers in the order of their time; one thread for all delays, however many.
fn serve(socket: &Arc<UdpSocket>, asked: &Mutex<HashMap<String, u32>>) {
    let (sender, delayed) = std::sync::mpsc::channel::<(Instant, Vec<u8>, _)>();
    let slow = Arc::clone(socket);
    thread::spawn(move || {
        for (when, answer, to) in delayed {
            thread::sleep(when.saturating_duration_since(Instant::now()));
            let _ = slow.send_to(&answer, to);
        }
    });
    // Read apart from the answering, so that a burst of queries fits into the socket.
    let (queue, queries) = std::sync::mpsc::channel();
    let reader = Arc::clone(socket);
    thread::spawn(move || {
        let mut packet = [0u8; 1500];
        while let Ok((length, from)) = reader.recv_from(&mut packet) {
            let _ = queue.send((packet[..length].to_vec(), from));
        }
    });
    for (packet, from) in queries {
        let Some((name, kind, end)) = question(&packet) else {
            continue;
        };
        let times = {
            let mut asked = asked.lock().expect("counts");
            let times = asked.entry(name.clone()).or_default();
            *times += u32::from(kind == A);
            *times
        };
        let label = name.split('.').next().unwrap_or_default();
        let label = label.trim_end_matches(|c: char| c.is_ascii_digit());
        let (code, address): (u8, Option<Vec<u8>>) = match (label, kind) {
            ("ok" | "slow", A) => (0, Some(vec![192, 0, 2, 7])),
            ("flaky", A) if times > 2 => (0, Some(vec![192, 0, 2, 7])),
            ("flaky", _) if times > 2 => (0, None),
            ("six", AAAA) => {
                let address = "2001:db8::7"
                    .parse::<std::net::Ipv6Addr>()
                    .expect("address");
                (0, Some(address.octets().to_vec()))
            }
            ("ok" | "slow" | "six" | "nodata", _) => (0, None),
            ("nx", _) => (3, None),
            ("refused", _) => (5, None),
            _ => (2, None),
        };
        let mut answer = packet[..2].to_vec();
        answer.extend([
            0x81,
            0x80 | code,
            0,
            1,
            0,
            u8::from(address.is_some()),
            0,
            0,
            0,
            0,
        ]);
        answer.extend(&packet[12..end]);
        if let Some(address) = address {
            answer.extend([0xc0, 12]);
            answer.extend(kind.to_be_bytes());
            answer.extend([
                0,
                1,
                0,
                0,
                0,
                5,
                0,
                u8::try_from(address.len()).unwrap_or(0),
            ]);
            answer.extend(address);
        }
        if label == "slow" {
            let when = Instant::now() + Duration::from_millis(100);
            let _ = sender.send((when, answer, from));
        } else {
            let _ = socket.send_to(&answer, from);
        }
    }
}

/// Name, type and end of the only question of a query.
fn question(packet: &[u8]) -> Option<(String, u16, usize)> {
    let mut at = 12;
    let mut labels = Vec::new();
    loop {
        let length = usize::from(*packet.get(at)?);
        if length == 0 {
            break;
        }
        let label = packet.get(at + 1..at + 1 + length)?;
        labels.push(String::from_utf8_lossy(label).into_owned());
        at += 1 + length;
    }
    let kind = packet.get(at + 1..at + 3)?;
    Some((
        labels.join("."),
        u16::from_be_bytes([kind[0], kind[1]]),
        at + 5,
    ))
}
