// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Values to bytes and back: netlink messages and the userspace API's text.
//!
//! No sockets here. Encoding yields a list of messages that each fit; decoding merges what the
//! kernel spread over several and says when a dump was torn.

pub mod bpf;
pub mod ctrl;
pub mod device;
pub mod diag;
pub mod nlmsg;
pub mod route;
pub mod uapi;
pub mod underlay;
