// SPDX-License-Identifier: GPL-2.0

//! Field arithmetic for programs: products of whole slices by the `reed-solomon-erasure` crate, which has the same field.

use embr_engine::env::Field;
use embr_engine::field::Element;
use embr_engine::field::Scalar;
use reed_solomon_erasure::galois_8;

/// Field arithmetic by tables for products, by doubling for parity.
#[derive(Clone, Copy, Default, Debug)]
pub struct Tables;

impl Field for Tables {
    fn add_product(&self, by: Element, from: &[u8], into: &mut [u8]) {
        // The crate wants them equally long.
        let length = from.len().min(into.len());
        if let (Some(from), Some(into)) = (from.get(..length), into.get_mut(..length)) {
            galois_8::mul_slice_xor(by.0, from, into);
        }
    }

    fn bundle(&self, data: &[&[u8]], parity: &mut [&mut [u8]]) {
        Scalar.bundle(data, parity);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_field_is_the_same() {
        for a in 0..=255 {
            for b in 0..=255 {
                assert_eq!(
                    Element(a).times(Element(b)).0,
                    galois_8::mul(a, b),
                    "{a} {b}"
                );
            }
        }
    }

    /// Where a guest compares these lines with what lib/raid gives there.
    const GUEST: &str = include_str!("../../../tests/guest/module-parity.sh");

    #[test]
    fn p_and_q_are_those_of_lib_raid() {
        const LENGTH: usize = 512;
        let vectors = GUEST.split_once("\nVECTORS='\n").unwrap().1;
        let (vectors, _) = vectors.split_once("\n'\n").unwrap();
        assert_eq!(vectors.lines().count(), 12);
        for line in vectors.lines() {
            let fields: Vec<&str> = line.split(' ').collect();
            let [count, absent, name, first, hash] = fields[..] else {
                panic!("{line}");
            };
            let (count, absent): (usize, i32) = (count.parse().unwrap(), absent.parse().unwrap());
            let data: Vec<Vec<u8>> = (0..count)
                .map(|i| match i as i32 == absent {
                    true => Vec::new(),
                    false => (0..LENGTH)
                        .map(|n| (n * (2 * i + 3) + n / 7 + 29 * i) as u8)
                        .collect(),
                })
                .collect();
            let generator = match name {
                "P" => 1,
                "Q" => 2,
                _ => panic!("{line}"),
            };
            let mut by_tables = vec![0; LENGTH];
            for (i, data) in data.iter().enumerate().filter(|(_, d)| !d.is_empty()) {
                galois_8::mul_slice_xor(galois_8::exp(generator, i), data, &mut by_tables);
            }
            let mut both = [vec![0; LENGTH], vec![0; LENGTH]];
            let data: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
            let [p, q] = &mut both;
            Scalar.bundle(&data, &mut [p, q]);
            assert_eq!(both[usize::from(generator) - 1], by_tables, "{line}");
            let first = u128::from_str_radix(first, 16).unwrap().to_be_bytes();
            assert_eq!(by_tables[..16], first, "{line}");
            assert_eq!(blake3::hash(&by_tables).to_hex().as_str(), hash, "{line}");
        }
    }

    proptest! {
        #[test]
        fn products_are_those_of_the_engine(by in any::<u8>(), from in prop::collection::vec(any::<u8>(), 0..300), into in prop::collection::vec(any::<u8>(), 0..300)) {
            let (mut ours, mut theirs) = (into.clone(), into);
            Scalar.add_product(Element(by), &from, &mut ours);
            Tables.add_product(Element(by), &from, &mut theirs);
            prop_assert_eq!(ours, theirs);
        }
    }
}
