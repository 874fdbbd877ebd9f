// SPDX-License-Identifier: GPL-2.0

//! Numbers that follow from a seed.

/// A source of numbers (splitmix64).
pub struct Chance(u64);

impl Chance {
    /// The numbers of this seed.
    pub fn new(seed: u64) -> Self {
        Chance(seed.wrapping_mul(0x2545_f491_4f6c_dd1d))
    }

    /// Any number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    /// Bytes; some are all the same.
    pub fn bytes(seed: u64, len: usize) -> Vec<u8> {
        let mut chance = Chance::new(seed);
        let mut bytes = vec![0; len];
        match chance.below(4) {
            0 => bytes.fill(chance.next() as u8),
            _ => bytes.chunks_mut(8).for_each(|chunk| {
                chunk.copy_from_slice(&chance.next().to_le_bytes()[..chunk.len()])
            }),
        }
        bytes
    }
}
