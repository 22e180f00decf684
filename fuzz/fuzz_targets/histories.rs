// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Histories of commands, foreign rules and crashes: see src/plan/histories.rs.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| wg_vrf::plan::histories::run_bytes(bytes));
