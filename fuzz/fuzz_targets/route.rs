// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Links, rules and sockets as routing netlink and socket diagnosis describe them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wg_vrf::model::Family;
use wg_vrf::wire::{diag, route};

fuzz_target!(|payload: &[u8]| {
    let _ = route::decode_link(payload);
    let _ = diag::decode_udp(payload);
    let rule = route::decode_rule(payload);
    let _ = rule.to_string();
    if rule.is_ours() {
        // What is ours is all that we would say.
        let request = route::add_rule(Family::V4, &rule, false);
        assert_eq!(route::decode_rule(&request[16..]), rule);
    }
});
