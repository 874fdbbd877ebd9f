// SPDX-License-Identifier: GPL-2.0

//! Field arithmetic on many bytes, eight of them as one number, some of which are done side by side; compilers make vectors of these
//! where they may.

use super::Element;
use super::REDUCTION;
use crate::format::geometry::MAX_PARITY;
use core::array;
use zerocopy::little_endian::U64;
use zerocopy::FromBytes as _;

/// Numbers that are done side by side.
const LANES: usize = 4;
/// The bytes in them.
const BYTES: usize = LANES * 8;

/// Bytes in so many numbers.
#[derive(Clone, Copy)]
struct Lanes([u64; LANES]);

impl Lanes {
    const ZERO: Lanes = Lanes([0; LANES]);

    /// The bytes at `at`; zeros behind the end.
    fn load(from: &[u8], at: usize) -> Lanes {
        let rest = from.get(at..).unwrap_or_default();
        if let Ok((whole, _)) = <[U64; LANES]>::ref_from_prefix(rest) {
            return Lanes(whole.map(U64::get));
        }
        let mut padded = [0u8; BYTES];
        for (to, from) in padded.iter_mut().zip(rest) {
            *to = *from;
        }
        match <[U64; LANES]>::ref_from_bytes(&padded) {
            Ok(whole) => Lanes(whole.map(U64::get)),
            Err(_) => Lanes::ZERO,
        }
    }

    fn store(self, into: &mut [u8], at: usize) {
        let rest = into.get_mut(at..).unwrap_or_default();
        if let Ok((whole, _)) = <[U64; LANES]>::mut_from_prefix(rest) {
            *whole = self.0.map(U64::new);
            return;
        }
        let bytes = self.0.iter().flat_map(|word| word.to_le_bytes());
        for (to, from) in rest.iter_mut().zip(bytes) {
            *to = from;
        }
    }

    fn add(self, other: Lanes) -> Lanes {
        let mut sum = self.0;
        for (a, b) in sum.iter_mut().zip(other.0) {
            *a ^= b;
        }
        Lanes(sum)
    }

    /// Twice each byte.
    fn double(self) -> Lanes {
        const EACH: u64 = 0x0101_0101_0101_0101;
        const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
        Lanes(self.0.map(|word| {
            let carries = word.wrapping_shr(7) & EACH;
            // No byte of the product is above the reduction, so none reaches into the next.
            let reduced = carries.wrapping_mul(u64::from(REDUCTION));
            (word & LOW).wrapping_shl(1) ^ reduced
        }))
    }
}

/// Adds `by` times the bytes of `from` to those of `into`, as many as both have.
pub(super) fn add_product(by: Element, from: &[u8], into: &mut [u8]) {
    let length = from.len().min(into.len());
    let from = from.get(..length).unwrap_or_default();
    for at in (0..length).step_by(BYTES) {
        let mut doubled = Lanes::load(from, at);
        let mut sum = Lanes::load(into, at);
        for bit in 0..u8::BITS.saturating_sub(by.0.leading_zeros()) {
            if by.0.wrapping_shr(bit) & 1 != 0 {
                sum = sum.add(doubled);
            }
            doubled = doubled.double();
        }
        sum.store(into, at);
    }
}

/// Computes all parity of some data; see [`crate::env::Field::bundle`].
pub(super) fn bundle(data: &[&[u8]], parity: &mut [&mut [u8]]) {
    match parity.len() {
        1 => by_horner::<1>(data, parity),
        2 => by_horner::<2>(data, parity),
        3 => by_horner::<3>(data, parity),
        4 => by_horner::<4>(data, parity),
        count => debug_assert!(count <= usize::from(MAX_PARITY)),
    }
}

/// Parity j is a polynomial with the data as its coefficients, at the point 2^j: one multiplication by 2^j for each fragment of data.
fn by_horner<const PARITY: usize>(data: &[&[u8]], parity: &mut [&mut [u8]]) {
    let length = parity.iter().map(|p| p.len()).max().unwrap_or(0);
    for at in (0..length).step_by(BYTES) {
        let mut sums = [Lanes::ZERO; PARITY];
        for fragment in data.iter().rev() {
            let own = Lanes::load(fragment, at);
            let next: [Lanes; PARITY] = array::from_fn(|j| {
                let sum = sums.get(j).copied().unwrap_or(Lanes::ZERO);
                (0..j).fold(sum, |sum, _| sum.double()).add(own)
            });
            sums = next;
        }
        for (sum, into) in sums.into_iter().zip(parity.iter_mut()) {
            sum.store(into, at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Scalar;
    use super::*;
    use crate::env::Field as _;
    use proptest::prelude::*;
    use std::vec;
    use std::vec::Vec;

    fn bytes(length: usize, seed: usize) -> Vec<u8> {
        (0..length)
            .map(|n| ((n * 31 + seed * 97) ^ (n >> 3)) as u8)
            .collect()
    }

    #[test]
    fn every_factor_gives_the_products_of_its_elements() {
        let from: Vec<u8> = (0..=255).collect();
        for by in 0..=255 {
            let before = bytes(256, usize::from(by));
            let mut into = before.clone();
            Scalar.add_product(Element(by), &from, &mut into);
            for n in 0..256 {
                let expected = Element(before[n]).plus(Element(by).times(Element(from[n])));
                assert_eq!(into[n], expected.0, "{by} times {n}");
            }
        }
    }

    #[test]
    fn no_byte_beyond_the_shorter_one_is_touched() {
        for (from, into) in [(0, 9), (1, 64), (63, 65), (65, 63), (130, 200), (200, 130)] {
            let mut all = bytes(into, 1);
            let before = all.clone();
            Scalar.add_product(Element(7), &bytes(from, 2), &mut all);
            assert_eq!(all[from.min(into)..], before[from.min(into)..]);
        }
    }

    proptest! {
        /// Parity is the sum of all fragments, each times 2^(ij); shorter ones end in zeros.
        #[test]
        fn parity_is_the_sum_of_products(
            lengths in prop::collection::vec(0usize..200, 1..22),
            count in 0usize..5,
            length in 0usize..200,
        ) {
            let data: Vec<Vec<u8>> = lengths.iter().enumerate().map(|(i, l)| bytes(*l, i)).collect();
            let slices: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
            let mut parity = vec![vec![0xaa; length]; count];
            let mut into: Vec<&mut [u8]> = parity.iter_mut().map(Vec::as_mut_slice).collect();
            Scalar.bundle(&slices, &mut into);
            for (j, parity) in parity.iter().enumerate() {
                for (n, byte) in parity.iter().enumerate() {
                    let sum = data.iter().enumerate().fold(Element::ZERO, |sum, (i, fragment)| {
                        let own = Element(fragment.get(n).copied().unwrap_or(0));
                        sum.plus(Element(2).power(i * j).times(own))
                    });
                    prop_assert_eq!(*byte, sum.0, "parity {} byte {}", j, n);
                }
            }
        }
    }
}
