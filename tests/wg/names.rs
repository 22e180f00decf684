// SPDX-License-Identifier: GPL-2.0-only OR MIT
use crate::Test;
pub fn tests() -> Vec<Test> {
    Vec::new()
}
