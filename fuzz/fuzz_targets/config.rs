// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Configuration files: comments and blanks mean nothing, errors are fit for a terminal.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wg_vrf::{ifname, parse::conf};

fuzz_target!(|bytes: &[u8]| {
    let text = ifname::from_bytes(bytes);
    let draft = conf::parse(&text);
    let bare: String = text
        .split('\n')
        .map(|line| line.split('#').next().unwrap_or_default().replace([' ', '\t'], "") + "\n")
        .collect();
    assert_eq!(conf::parse(&bare), draft);
    if let Some(error) = draft.stopped {
        assert!(!error.to_string().contains(|c: char| c.is_control() && c != '\n'));
    }
});
