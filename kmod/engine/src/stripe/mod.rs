// SPDX-License-Identifier: GPL-2.0

//! Stripes: payload cut into k fragments of data, with m of parity, each on a device of its own, of which any m may be lost.

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

pub(crate) mod books;
pub mod code;
mod edits;
mod fragment;
pub(crate) mod known;
mod rebuild;
pub(crate) mod seal;
pub mod shape;

pub use code::Recipe;
pub(crate) use edits::Edits;
pub use shape::Fragments;
pub use shape::Shape;
