// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The arguments of `wg set`, with a NUL between two.
#![no_main]

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

use libfuzzer_sys::fuzz_target;
use wg_vrf::parse::args;

fuzz_target!(|bytes: &[u8]| {
    let words = bytes.split(|byte| *byte == 0).map(<[u8]>::to_vec);
    let words: Vec<OsString> = words.map(OsString::from_vec).collect();
    let draft = args::parse(&words);
    // A word is a step or says none; a key opens its peer besides.
    assert!(draft.steps.len() <= words.len());
    if let Some(error) = draft.stopped {
        assert!(!error.to_string().contains(|c: char| c.is_control() && c != '\n'));
    }
});
