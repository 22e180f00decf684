// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Each step of the way alone, in memory, with a thousand peers: `cargo bench --bench steps`.

use std::fmt::Write as _;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use divan::{Bencher, black_box};
use wg_vrf::address::Names;
use wg_vrf::model::{Device, Update};
use wg_vrf::parse::{conf, words::Field};
use wg_vrf::render::{self, Options};
use wg_vrf::resolve::{self, Say};
use wg_vrf::wire::nlmsg::HEADER_LEN;
use wg_vrf::wire::uapi::{Answer, Decoder, Next};
use wg_vrf::wire::{device, uapi};

const PEERS: usize = 1000;

fn main() {
    divan::main();
}

fn names() -> Names {
    Names {
        interface: |_| None,
    }
}

fn answer() -> String {
    let mut text = "listen_port=51820\n".to_owned();
    for n in 1..=PEERS {
        let _ = write!(
            text,
            "public_key={n:064x}\npreshared_key={:064x}\nendpoint=192.0.2.1:{n}\n\
             last_handshake_time_sec={n}\nlast_handshake_time_nsec=1\nrx_bytes={n}\ntx_bytes={n}\n\
             persistent_keepalive_interval=25\nallowed_ip=10.0.{}.{}/32\nallowed_ip=fd00::{n:x}/128\n",
            n % 2,
            n / 250,
            n % 250
        );
    }
    text + "errno=0\n\n"
}

fn decode(answer: &str) -> Device {
    let mut decoder = Decoder::new("wg0", |_, _| None);
    let mut take =
        |name: &[u8], value: &[u8]| decoder.take_member(name, value).map(|()| Next::More);
    let read = Answer::new().read(answer.as_bytes(), &mut take);
    read.expect("a whole answer");
    decoder.finish_device()
}

fn file() -> String {
    let mut file = Vec::new();
    render::conf::print(&decode(&answer()), &names(), &mut file).expect("a Vec takes all");
    String::from_utf8(file).expect("text")
}

fn read(file: &str) -> Update {
    let quiet: Say = Arc::new(|_| {});
    resolve::resolve(conf::parse(file), Update::default(), &quiet).expect("a good file")
}

#[divan::bench]
fn parse_and_resolve_file(bencher: Bencher) {
    let file = file();
    bencher.bench(|| read(black_box(&file)));
}

#[divan::bench]
fn decode_userspace_answer(bencher: Bencher) {
    let answer = answer();
    bencher.bench(|| decode(black_box(&answer)));
}

/// A request has the attributes of an answer, without counters and times.
#[divan::bench]
fn decode_kernel_answer(bencher: Bencher) {
    let messages: Vec<_> = device::encode_set(31, &read(&file())).collect();
    bencher.bench(|| {
        let mut decoder = device::Decoder::new("wg0");
        for message in black_box(&messages) {
            let taken = decoder.add_answer(&message[HEADER_LEN..]);
            taken.expect("a whole answer");
        }
        let (device, _) = decoder.finish_device();
        assert_eq!(device.peers.len(), PEERS);
        device
    });
}

#[divan::bench]
fn encode_for_userspace(bencher: Bencher) {
    let update = read(&file());
    bencher.bench(|| uapi::write_set(black_box(&update), &names(), &mut io::sink()));
}

#[divan::bench]
fn encode_for_kernel(bencher: Bencher) {
    let update = read(&file());
    bencher.bench(|| device::encode_set(31, black_box(&update)).for_each(drop));
}

#[divan::bench]
fn print_pretty(bencher: Bencher) {
    let device = decode(&answer());
    let options = Options {
        colour: false,
        hide_keys: true,
        now: Duration::from_secs(1 << 31),
        names: names(),
    };
    bencher.bench(|| render::pretty::print(black_box(&device), &options, &mut io::sink()));
}

#[divan::bench]
fn print_dump(bencher: Bencher) {
    let device = decode(&answer());
    let print = |device: &Device| {
        render::fields::print(device, Field::Dump, None, &names(), &mut io::sink())
    };
    bencher.bench(|| print(black_box(&device)));
}

#[divan::bench]
fn print_file(bencher: Bencher) {
    let device = decode(&answer());
    bencher.bench(|| render::conf::print(black_box(&device), &names(), &mut io::sink()));
}
