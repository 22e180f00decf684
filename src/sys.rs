// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The only place for `unsafe`: the few libc calls that std does not wrap.
