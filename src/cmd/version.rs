// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! `wg version --all`: which wg this is, what this kernel offers it, and which wg wg-quick runs.

use std::fs;
use std::io::Write;

use crate::backend;
use crate::error::{Error, Result};

/// `reference` is the line that `wg --version` prints.
pub fn print_all(reference: &str, out: &mut impl Write) -> Result<()> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let attribute = backend::binds_by_attribute();
    let binding = match &attribute {
        Ok(true) => "by the kernel, it has WGDEVICE_A_BIND_DEV".to_owned(),
        Ok(false) => "by fwmark and policy rules, the kernel lacks WGDEVICE_A_BIND_DEV".to_owned(),
        Err(error) => format!("unknown: {error}"),
    };
    let mut text = format!(
        "wg-vrf {}\nstands in for: {reference}\nkernel: {}\nbind-dev: {binding}\n",
        env!("CARGO_PKG_VERSION"),
        release.trim_end(),
    );
    if attribute != Ok(true) {
        let sockets = match backend::find_hooks_fault(false) {
            None => "bound by a BPF program at the bind hooks".to_owned(),
            Some(why) if backend::binds_all_sockets() => format!(
                "bound by a BPF program at the bind hooks where WG_BIND_DEV_RECEIVE=bound was given, \
                 else not bound: {why}"
            ),
            Some(why) => format!("not bound, rules only: {why}"),
        };
        text += &format!("sockets: {sockets}\n");
    }
    if let Some(found) = backend::find_wg_quick() {
        let which = if found.same {
            "which is this program".to_owned()
        } else {
            format!("and not {}", found.this.display())
        };
        text += &format!(
            "wg-quick: {} runs {}, {which}\n",
            found.script.display(),
            found.runs.display()
        );
    }
    out.write_all(text.as_bytes()).map_err(Error::output)
}
