// SPDX-License-Identifier: GPL-2.0

//! A world of memory for the engine: disks that can be copied, cut and broken ([`disk`]), a host whose time and chance come
//! from a seed ([`host`]), what mounts would have written ([`history`]), and volumes that are damaged or forged in every way we know ([`mutant`]).
//!
//! Everything here repeats from its seed.

pub mod disk;
pub mod history;
pub mod host;
pub mod mutant;
pub mod nodes;
