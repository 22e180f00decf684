// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Prints a device in each way.

use std::time::Duration;

use wg_vrf::address::Names;
use wg_vrf::model::Device;
use wg_vrf::parse::{conf, words::FIELDS};
use wg_vrf::render::{self, Options};

pub fn show(device: &Device) {
    let names = Names { interface: |_| None };
    let options = Options {
        colour: true,
        hide_keys: false,
        now: Duration::from_secs(1 << 31),
        names,
    };
    let mut out = Vec::new();
    render::pretty::print(device, &options, &mut out).expect("a Vec takes all");
    render::json::print(std::slice::from_ref(device), &options, &mut out).expect("the same");
    for (_, field) in FIELDS {
        render::fields::print(device, *field, None, &names, &mut out).expect("the same");
    }
    let mut file = Vec::new();
    render::conf::print(device, &names, &mut file).expect("the same");
    let file = String::from_utf8(file).expect("text");
    let draft = conf::parse(&file);
    assert_eq!(draft.stopped, None, "{file}");
}
