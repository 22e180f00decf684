// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The places of this repository.

use std::path::{Path, PathBuf};

/// The top of the repository. Known at build time: xtask is only ever run from its checkout.
pub fn find_root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the crate is in a folder of the repository")
}

pub fn find_patches() -> PathBuf {
    find_root().join("kernel-patches")
}
