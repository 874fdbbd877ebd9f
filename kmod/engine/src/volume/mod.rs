// SPDX-License-Identifier: GPL-2.0

//! Volumes as a whole: making one ([`create`]), reading what one device says ([`probe`]), deciding from what several
//! say which volume they are ([`assemble`]), mending its superblock copies ([`mend`]), bringing it back to its last commit ([`recover`]), and
//! what it is while it is [`mounted`], with [`checkpoint`]s from time to time, with fewer [`members`] when one fails, and with more when one
//! that missed something was [caught up](catch_up). Of two [`sides`] that were written to apart, one can be discarded.

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

pub mod assemble;
pub mod catch_up;
pub mod checkpoint;
pub mod create;
pub mod discard;
mod errand;
mod members;
pub mod mend;
pub mod mounted;
pub mod probe;
pub mod recover;
pub(crate) mod relief;
pub mod sides;

pub use assemble::assemble;
pub use assemble::Volume;
pub use mounted::Fault;
pub use mounted::Machine;
pub use mounted::Mounted;
pub use probe::probe;
pub use probe::Member;
