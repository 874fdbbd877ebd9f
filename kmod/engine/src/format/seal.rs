// SPDX-License-Identifier: GPL-2.0

//! The seal of a structure that no parent vouches for: a BLAKE3 hash over its own bytes and over *which* structure of which
//! device it is. A block that a device wrote to, or read from, another place has the wrong seal.

use crate::env::Hash256;
use crate::env::Hasher;
use crate::units::Bytes;

/// Where a sealed structure keeps its magic, version, size and seal: the same in all of them.
pub const MAGIC: core::ops::Range<usize> = 0..8;
/// Version of the structure.
pub const VERSION: core::ops::Range<usize> = 8..12;
/// Size of the structure.
pub const SIZE: core::ops::Range<usize> = 12..16;
/// The seal itself.
pub const SEAL: core::ops::Range<usize> = 16..48;

/// Domain separation: no other hash in the format begins so.
const CONTEXT: &[u8; 16] = b"embrfs seal v1\0\0";

/// The seal of `bytes` at byte `at` of its device; the seal's own place counts as zeros. What else identifies a
/// structure (volume, device, epoch) stands in its bytes, and is compared by whoever knows it.
pub fn compute(hasher: &impl Hasher, bytes: &[u8], at: Bytes) -> Hash256 {
    let place = at.0.to_le_bytes();
    let before = bytes.get(..SEAL.start).unwrap_or_default();
    let after = bytes.get(SEAL.end..).unwrap_or_default();
    hasher.hash(&[CONTEXT, &place, before, &[0u8; 32], after])
}

/// Writes the seal into `bytes`, which are about to be written at `at`.
pub fn apply(hasher: &impl Hasher, bytes: &mut [u8], at: Bytes) {
    let seal = compute(hasher, bytes, at);
    if let Some(place) = bytes.get_mut(SEAL) {
        place.copy_from_slice(&seal.0);
    }
}

/// Whether `bytes`, read at `at`, carry their right seal.
pub fn holds(hasher: &impl Hasher, bytes: &[u8], at: Bytes) -> bool {
    bytes
        .get(SEAL)
        .is_some_and(|found| *found == compute(hasher, bytes, at).0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::Scalar;

    /// Computed as docs/FORMAT.md says, so that no change of the format goes unnoticed.
    #[test]
    fn the_seal_is_the_one_of_the_format() {
        let at = Bytes(0x0102_0304_0506);
        let mut bytes: std::vec::Vec<u8> = (0..8192u32).map(|i| (i % 251) as u8).collect();
        let mut reference = blake3::Hasher::new();
        reference.update(b"embrfs seal v1\0\0");
        reference.update(&[6, 5, 4, 3, 2, 1, 0, 0]);
        reference.update(&bytes[..16]);
        reference.update(&[0; 32]);
        reference.update(&bytes[48..]);
        apply(&Scalar, &mut bytes, at);
        assert_eq!(bytes[SEAL], *reference.finalize().as_bytes());
        assert!(holds(&Scalar, &bytes, at));
        assert!(!holds(&Scalar, &bytes, Bytes(at.0 + 4096)));
    }
}
