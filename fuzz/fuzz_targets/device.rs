// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Generic netlink's answers about a device.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wg_vrf::wire::device::Decoder;
use wg_vrf::wire::nlmsg::{self, Reply};

#[path = "show.rs"]
mod show;

fuzz_target!(|datagram: &[u8]| {
    let Ok(replies) = nlmsg::read_replies(datagram, 7) else {
        return;
    };
    let mut decoder = Decoder::new("wg0");
    for reply in replies {
        if let Reply::Data { payload, .. } = reply {
            if decoder.add_answer(payload).is_err() {
                return;
            }
        }
    }
    show::show(&decoder.finish_device().0);
});
