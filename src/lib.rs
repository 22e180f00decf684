// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! A drop-in `wg` for Linux that can put the outside of a WireGuard device into a VRF.
//!
//! Each module owns one step of the way from an argument list to the kernel and back; none
//! reaches around its neighbour. See README.md for the map.

pub mod address;
pub mod backend;
pub mod cli;
pub mod cmd;
pub mod error;
pub mod ifname;
pub(crate) mod input;
pub mod key;
pub mod model;
pub mod parse;
pub mod plan;
pub mod render;
pub mod resolve;
pub(crate) mod sys;
pub mod wire;
