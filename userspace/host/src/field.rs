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
