// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! How a binding is achieved: the kernel's attribute, or the fwmark fallback.
//!
//! Pure: facts read from the kernel and an update go in; what to send, and which rules to add or
//! remove, comes out. No sockets here, so that every case is tested without a kernel.

/// Which way to bind is allowed (`WG_BIND_DEV_MODE`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BindMode {
    /// The attribute where the kernel has it, else the fallback.
    #[default]
    Auto,
    /// The attribute or an error.
    Kernel,
    /// The fallback, whatever the kernel can do.
    Fwmark,
}
