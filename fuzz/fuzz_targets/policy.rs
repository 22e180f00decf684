// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What the kernel says of its families and of their policies, and of its structures.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wg_vrf::wire::{bpf, ctrl, device};

fuzz_target!(|bytes: &[u8]| {
    let _ = ctrl::family_id(bytes);
    let mut policy = ctrl::Policy::default();
    for message in bytes.chunks(256) {
        policy.add_answer(message, device::WG_CMD_SET_DEVICE);
    }
    let _ = policy.is_string(device::WGDEVICE_A_BIND_DEV);
    let _ = bpf::find_offsets(bytes);
});
