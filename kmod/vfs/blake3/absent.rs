// SPDX-License-Identifier: GPL-2.0

//! What stands in for SIMD in a module that was built without it.

use super::{
    Hash,
    Level, //
};
use kernel::prelude::*;

/// Never exists.
pub enum Simd {}

impl Simd {
    /// There is none.
    pub fn new() -> Result<Option<Self>> {
        Ok(None)
    }

    /// Whether it may be used.
    pub fn has(&self, _level: Level) -> bool {
        match *self {}
    }

    /// Takes a level out of use.
    pub fn distrust(&self, _level: Level) {
        match *self {}
    }

    /// Hashes nothing.
    pub fn hash_blocks(&self, _level: Level, _blocks: &[u8], _out: &mut [Hash]) -> bool {
        match *self {}
    }
}
