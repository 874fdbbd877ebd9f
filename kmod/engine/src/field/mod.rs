// SPDX-License-Identifier: GPL-2.0

//! The field that parity is computed in: 256 elements, a byte each, with polynomial 0x11D. Adding is XOR; 2 generates all but zero.
//!
//! What is done with single elements is here, and with whole blocks as well, for hosts without anything faster.

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

mod scalar;

use crate::env::Field;

/// What is taken from a product when it leaves a byte: the polynomial without its highest term.
const REDUCTION: u8 = 0x1d;

/// An element of the field.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Element(pub u8);

impl Element {
    /// Adds nothing.
    pub const ZERO: Element = Element(0);
    /// Changes nothing as a factor.
    pub const ONE: Element = Element(1);

    /// Twice this.
    #[must_use]
    pub fn double(self) -> Element {
        let carry = if self.0 & 0x80 == 0 { 0 } else { REDUCTION };
        Element(self.0.wrapping_shl(1) ^ carry)
    }

    /// The sum of both: it is its own inverse.
    #[must_use]
    pub fn plus(self, other: Element) -> Element {
        Element(self.0 ^ other.0)
    }

    /// The product of both.
    #[must_use]
    pub fn times(self, other: Element) -> Element {
        let mut doubled = self;
        let mut product = Element::ZERO;
        for bit in 0..8u32 {
            if other.0.wrapping_shr(bit) & 1 != 0 {
                product = product.plus(doubled);
            }
            doubled = doubled.double();
        }
        product
    }

    /// This, so many times as a factor.
    #[must_use]
    pub fn power(self, exponent: usize) -> Element {
        // All but zero are 1 to the power of 255.
        let exponent = match self {
            Element::ZERO => exponent.min(1),
            _ => exponent % 255,
        };
        (0..exponent).fold(Element::ONE, |product, _| product.times(self))
    }

    /// What gives one, multiplied by this. There is none for zero.
    pub fn inverse(self) -> Option<Element> {
        (self != Element::ZERO).then(|| self.power(254))
    }
}

/// Arithmetic without SIMD instructions of our own: eight bytes are one number.
#[derive(Clone, Copy, Default, Debug)]
pub struct Scalar;

impl Field for Scalar {
    fn add_product(&self, by: Element, from: &[u8], into: &mut [u8]) {
        scalar::add_product(by, from, into);
    }

    fn bundle(&self, data: &[&[u8]], parity: &mut [&mut [u8]]) {
        scalar::bundle(data, parity);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> impl Iterator<Item = Element> {
        (0..=255).map(Element)
    }

    /// Long multiplication of polynomials, then division by 0x11D.
    fn product(a: u8, b: u8) -> u8 {
        let mut long: u32 = 0;
        for bit in 0..8 {
            if (b >> bit) & 1 == 1 {
                long ^= u32::from(a) << bit;
            }
        }
        for bit in (8..16).rev() {
            if (long >> bit) & 1 == 1 {
                long ^= 0x11d << (bit - 8);
            }
        }
        u8::try_from(long).unwrap()
    }

    #[test]
    fn products_are_those_of_polynomials() {
        for a in all() {
            for b in all() {
                assert_eq!(a.times(b).0, product(a.0, b.0), "{a:?} {b:?}");
            }
            assert_eq!(a.double(), a.times(Element(2)));
        }
    }

    #[test]
    fn two_generates_all_but_zero() {
        let mut seen = [false; 256];
        for exponent in 0..255 {
            let power = Element(2).power(exponent);
            assert!(!core::mem::replace(&mut seen[usize::from(power.0)], true));
            assert_eq!(power, Element(2).power(exponent + 255));
        }
        assert!(!seen[0]);
        assert_eq!(Element::ZERO.power(0), Element::ONE);
        assert_eq!(Element::ZERO.power(255), Element::ZERO);
    }

    #[test]
    fn all_but_zero_have_an_inverse() {
        for a in all().skip(1) {
            assert_eq!(a.times(a.inverse().unwrap()), Element::ONE, "{a:?}");
        }
        assert_eq!(Element::ZERO.inverse(), None);
    }
}
