// SPDX-License-Identifier: GPL-2.0

//! Snapshots. They make a tree of nodes: a snapshot, or a state that goes on (a *head*, always a leaf), grew from another snapshot.
//! Taking one only gives the head another number; what the old number wrote stays as it is.
//!
//! A snapshot that is deleted stays in the tree as long as several others grew from it. When there is one, what it wrote is that one's
//! own from then on: nobody else sees it. What nobody sees at all is given back by and by, by [sweeping](Names::sweep). That goes by
//! what was touched, which every snapshot notes, so it does not have to go through all files.
//!
//! [`Names::sweep`]: crate::names::Names::sweep

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

mod account;
mod change;
pub mod difference;
mod shelf;
mod sweep;
mod touched;

pub use shelf::Listed;
pub(crate) use shelf::Seen;
pub(crate) use shelf::Shelf;
