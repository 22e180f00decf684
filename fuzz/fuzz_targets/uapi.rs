// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Answers of userspace devices: only whole ones count, and what is read can be shown and written
//! to a file that reads back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wg_vrf::wire::uapi;

#[path = "show.rs"]
mod show;

fuzz_target!(|bytes: &[u8]| {
    let look_up = |_: &str, _: &str| "192.0.2.1:51820".parse().ok();
    let read = uapi::decode_get("wg0", bytes, &look_up);
    let whole = uapi::is_whole(bytes, 0);
    // However it arrives.
    assert_eq!((1..=bytes.len()).any(|end| uapi::is_whole(&bytes[..end], end - 1)), whole);
    match read {
        Ok(device) => {
            assert!(whole);
            assert_eq!(uapi::read_verdict(bytes), Ok(()));
            show::show(&device);
        }
        Err(_) => drop(uapi::read_verdict(bytes)),
    }
});
