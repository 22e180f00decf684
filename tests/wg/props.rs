// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Properties of the parsers and printers, on random values.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::sync::Arc;
use std::time::Duration;

use wg_vrf::address::Names;
use wg_vrf::key::{Key, PublicKey};
use wg_vrf::model::{AllowedIp, Bind, Change, Device, Peer, PeerUpdate, Presence, Update};
use wg_vrf::parse::conf;
use wg_vrf::resolve::{self, Say};
use wg_vrf::{parse, render};

use crate::Test;
use crate::fuzz::Random;

pub fn tests() -> Vec<Test> {
    vec![
        Test {
            name: "props::showconf_is_read_back",
            run: showconf_is_read_back,
        },
        Test {
            name: "props::parsers_take_anything",
            run: parsers_take_anything,
        },
    ]
}

fn no_names() -> Names {
    Names {
        interface: |_| None,
    }
}

fn key(random: &mut Random) -> Key {
    let mut bytes = [0u8; 32];
    for byte in &mut bytes {
        *byte = u8::try_from(random.pick_below(256)).expect("a byte");
    }
    // Never all zero, which is no key.
    bytes[0] |= 1;
    Key::from_bytes(bytes)
}

fn make_maybe<T>(random: &mut Random, make: impl FnOnce(&mut Random) -> T) -> Option<T> {
    (random.pick_below(2) == 1).then(|| make(random))
}

fn pick_number(random: &mut Random, end: u32) -> u32 {
    u32::try_from(random.pick_below(end as usize)).expect("below end")
}

fn address(random: &mut Random) -> IpAddr {
    let word = |random: &mut Random| {
        // Zeros in all places: they are what the short forms differ in.
        if random.pick_below(2) == 0 {
            0
        } else {
            pick_number(random, 0x10000)
        }
    };
    if random.pick_below(2) == 0 {
        let (high, low) = (word(random), word(random));
        return IpAddr::V4(Ipv4Addr::from((high << 16) | low));
    }
    let mut segments = [0u16; 8];
    for segment in &mut segments {
        *segment = u16::try_from(word(random)).expect("16 bits");
    }
    IpAddr::V6(Ipv6Addr::from(segments))
}

fn device(random: &mut Random) -> Device {
    let private_key = make_maybe(random, key);
    let peers = (0..random.pick_below(4)).map(|_| peer(random)).collect();
    Device {
        name: "wg0".to_owned(),
        public_key: private_key.as_ref().map(Key::public),
        private_key,
        listen_port: u16::try_from(pick_number(random, 65536)).expect("16 bits"),
        fwmark: make_maybe(random, |random| pick_number(random, u32::MAX)).unwrap_or(0),
        bind: match random.pick_below(3) {
            0 => Bind::Off,
            1 => Bind::Kernel {
                dev: "vrf_external".to_owned(),
                presence: Presence::Present,
            },
            _ => Bind::Kernel {
                dev: "eth0.1023".to_owned(),
                presence: Presence::Missing,
            },
        },
        receives: None,
        peers,
    }
}

fn peer(random: &mut Random) -> Peer {
    let endpoint = make_maybe(random, |random| {
        let port = u16::try_from(pick_number(random, 65536)).expect("16 bits");
        match address(random) {
            IpAddr::V4(v4) => SocketAddr::from((v4, port)),
            // A scope makes sense to the C library only on some addresses.
            IpAddr::V6(v6) => SocketAddr::V6(SocketAddrV6::new(v6, port, 0, 0)),
        }
    });
    Peer {
        public_key: PublicKey::from_bytes(*key(random).as_bytes()),
        preshared_key: make_maybe(random, key),
        endpoint,
        last_handshake: make_maybe(random, |random| {
            Duration::from_secs(random.pick_below(1 << 31) as u64)
        }),
        rx_bytes: 1,
        tx_bytes: 2,
        persistent_keepalive: u16::try_from(pick_number(random, 65536)).expect("16 bits"),
        allowed_ips: (0..random.pick_below(4))
            .map(|_| {
                let addr = address(random);
                let bits = if addr.is_ipv4() { 33 } else { 129 };
                AllowedIp {
                    addr,
                    cidr: u8::try_from(random.pick_below(bits)).expect("few bits"),
                }
            })
            .collect(),
    }
}

fn change<T: PartialEq + Default>(value: T) -> Change<T> {
    if value == T::default() {
        Change::Keep
    } else {
        Change::Set(value)
    }
}

/// What a file must say so that an empty device becomes this one.
fn make_update(device: &Device) -> Update {
    Update {
        interface: String::new(),
        private_key: device.private_key.clone().map_or(Change::Keep, Change::Set),
        listen_port: change(device.listen_port),
        fwmark: change(device.fwmark),
        bind_dev_omitted: false,
        bind_dev: device
            .bind
            .dev()
            .map_or(Change::Keep, |dev| Change::Set(dev.to_owned())),
        replace_peers: false,
        peers: device
            .peers
            .iter()
            .map(|peer| PeerUpdate {
                replace_allowed_ips: true,
                preshared_key: peer.preshared_key.clone().map_or(Change::Keep, Change::Set),
                endpoint: peer.endpoint,
                persistent_keepalive: change(peer.persistent_keepalive),
                allowed_ips: peer
                    .allowed_ips
                    .iter()
                    .map(|prefix| wg_vrf::model::AllowedIpUpdate {
                        prefix,
                        remove: false,
                    })
                    .collect(),
                ..PeerUpdate::new(peer.public_key)
            })
            .collect(),
    }
}

fn read_update(text: &str) -> Update {
    let quiet: Say = Arc::new(|_| {});
    resolve::resolve(conf::parse(text), Update::default(), &quiet).expect("our own output")
}

fn showconf_is_read_back() -> Result<(), String> {
    let mut random = Random::new(4);
    for _ in 0..500 {
        let device = device(&mut random);
        let mut text = Vec::new();
        render::conf::print(&device, &no_names(), &mut text).expect("a Vec takes all");
        let text = String::from_utf8(text).expect("text");
        assert_eq!(read_update(&text), make_update(&device), "{text}");
        // Neither blanks, comments, the end of lines nor the case of keys matter.
        let noisy: String = text
            .lines()
            .map(|line| match line.split_once('=') {
                Some((key, value)) => {
                    format!("\t{} =  {value} # {line}\r\n", key.to_ascii_uppercase())
                }
                None => format!("  {}\r\n#\n", line.to_ascii_lowercase()),
            })
            .collect();
        assert_eq!(read_update(&noisy), make_update(&device), "{noisy}");
    }
    Ok(())
}

fn parsers_take_anything() -> Result<(), String> {
    const PIECES: &[&str] = &[
        "[Interface]",
        "[Peer]",
        "ListenPort",
        "FwMark",
        "BindDev",
        "PublicKey",
        "AllowedIPs",
        "PrivateKey",
        "=",
        "\n",
        " ",
        "#",
        "0x",
        "off",
        ",",
        "/",
        "+",
        "-",
        ":",
        "::",
        "[",
        "]",
        "10.0.0.0",
        "51820",
        "%",
        "\0",
        "é",
        "\u{feff}",
        "peer",
        "remove",
        "endpoint",
    ];
    let mut random = Random::new(5);
    for _ in 0..5000 {
        let text: String = (0..random.pick_below(30))
            .map(|_| PIECES[random.pick_below(PIECES.len())])
            .collect();
        conf::parse(&text);
        let args: Vec<_> = text.split(' ').map(std::ffi::OsString::from).collect();
        parse::args::parse(&args);
        let _ = parse::value::split_endpoint(&text);
        let _ = parse::value::parse_port(&text);
        let _ = parse::value::parse_bind_dev(&text);
    }
    Ok(())
}
