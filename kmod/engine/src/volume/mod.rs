// SPDX-License-Identifier: GPL-2.0

//! Volumes as a whole: making one ([`create`]), reading what one device says ([`probe`]), deciding from what several
//! say which volume they are ([`assemble`]), and mending its superblock copies ([`mend`]).

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

pub mod assemble;
pub mod create;
pub mod mend;
pub mod probe;

pub use assemble::assemble;
pub use assemble::Volume;
pub use probe::probe;
pub use probe::Member;
