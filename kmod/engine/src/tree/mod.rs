// SPDX-License-Identifier: GPL-2.0

//! The trees: ordered maps from fixed-width keys to short values.
//!
//! A tree has three layers. The *base* is a B+tree on disk whose nodes never change once written. What was committed since it
//! was written lies in memory, in the *active* delta; while a checkpoint merges them into a new base, the changes that it
//! merges lie in a *frozen* delta between the two. A lookup asks active, frozen, base, in this order. So readers of the base
//! take no lock on nodes, a checkpoint is an exact point in the order of transactions, and an update never reads a node.

pub mod base;
mod build;
pub mod cache;
pub mod change;
pub mod check;
pub mod cursor;
pub mod delta;
pub mod error;
pub mod key;
pub mod layered;
pub mod merge;
pub mod nodes;

pub use base::Base;
pub use base::First;
pub use change::Change;
pub use change::Changes;
pub use change::Range;
pub use cursor::Cursor;
pub use error::TreeError;
pub use key::Key;
pub use layered::Changing;
pub use layered::Layered;
pub use merge::merge;
pub use nodes::Nodes;
