// SPDX-License-Identifier: GPL-2.0

//! Random bytes.

use kernel::{
    bindings as kb,
    prelude::*, //
};

/// Sixteen bytes that nobody could have guessed.
pub fn random() -> [u8; 16] {
    let mut bytes = [0u8; 16];
    // SAFETY: The buffer is as long as said.
    unsafe { kb::get_random_bytes(bytes.as_mut_ptr().cast::<c_void>(), bytes.len()) };
    bytes
}
