// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Answers of userspace devices: only whole ones count, and what is read can be shown and written
//! to a file that reads back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wg_vrf::model::Device;
use wg_vrf::wire::uapi::{Answer, Broken, Decoder, Next, Progress};

#[path = "show.rs"]
mod show;

fuzz_target!(|bytes: &[u8]| {
    let read = decode(std::iter::once(bytes));
    // However it arrives.
    assert_eq!(decode(bytes.chunks(1)), read);
    assert_eq!(decode(bytes.chunks(7)), read);
    if let Ok(device) = read {
        show::show(&device);
    }
});

fn decode<'a>(parts: impl Iterator<Item = &'a [u8]>) -> Result<Device, Broken> {
    let look_up = |_: &str, _: &str| "192.0.2.1:51820".parse().ok();
    let mut decoder = Decoder::new("wg0", look_up);
    let (mut answer, mut left) = (Answer::new(), Vec::new());
    for part in parts {
        left.extend_from_slice(part);
        match answer.read(&left, |name, value| decoder.take_member(name, value).map(|()| Next::More))? {
            Progress::More(read) => drop(left.drain(..read)),
            Progress::End => return answer.read_verdict().map(|()| decoder.finish_device()),
        }
    }
    Err(Broken::Protocol)
}
