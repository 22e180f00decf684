// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Hands the order of the functions to the linker. GNU ld and lld take it, mold and gold do not: who
//! chooses a linker by `-fuse-ld` does without.

use std::env;

fn main() {
    let script = "src/order.ld";
    println!("cargo::rerun-if-changed={script}");
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    if !flags.contains("-fuse-ld=") {
        let folder = env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
        println!("cargo::rustc-link-arg-bin=wg=-T");
        println!("cargo::rustc-link-arg-bin=wg={folder}/{script}");
    }
}
