// SPDX-License-Identifier: GPL-2.0

//! The code: parity j is the sum over i of 2^(ij) times data i. Any k of the k + m fragments give back the others, up to k = 21 and
//! m = 4; each of them as a sum of products of k that are there.

use super::shape::Fragments;
use super::shape::Shape;
use super::shape::MAX_FRAGMENTS;
use crate::env::Field;
use crate::field::Element;
use crate::format::geometry::MAX_PARITY;

const ROOM: usize = MAX_PARITY as usize;

/// What data i is multiplied by in parity j.
pub fn coefficient(data: usize, parity: usize) -> Element {
    Element(2).power(data.saturating_mul(parity))
}

/// How one fragment comes from others: the sum of each of these, times its factor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Recipe {
    factors: [Element; MAX_FRAGMENTS],
}

impl Recipe {
    /// How `wanted` comes from those that are there; none where these are too few. Of fragments that end before a row, whatever is
    /// said of them in it, all blocks are zeros: they are as good as there.
    pub fn new(shape: &Shape, there: Fragments, wanted: usize) -> Option<Self> {
        let (data, width) = (shape.data(), shape.width());
        let there: Fragments = there
            .iter()
            .filter(|f| *f < width && *f != wanted)
            .collect();
        let missing = Unknowns::new(shape, there)?;
        let mut recipe = Recipe {
            factors: [Element::ZERO; MAX_FRAGMENTS],
        };
        match wanted.checked_sub(data) {
            None => recipe.add(shape, there, &missing, wanted, Element::ONE),
            Some(parity) if parity < shape.parity() => {
                for fragment in 0..data {
                    let by = coefficient(fragment, parity);
                    recipe.add(shape, there, &missing, fragment, by);
                }
            }
            Some(_) => return None,
        }
        Some(recipe)
    }

    /// Adds a data fragment, so many times: as it is, or by what gives it.
    fn add(
        &mut self,
        shape: &Shape,
        there: Fragments,
        missing: &Unknowns,
        fragment: usize,
        by: Element,
    ) {
        if there.has(fragment) {
            return self.put(fragment, by);
        }
        // The equation of each parity, without what is known of it, times its part in the solution.
        for (parity, part) in missing.solution(fragment) {
            let part = part.times(by);
            self.put(shape.data().saturating_add(parity), part);
            for known in there.iter().take_while(|f| *f < shape.data()) {
                self.put(known, part.times(coefficient(known, parity)));
            }
        }
    }

    fn put(&mut self, fragment: usize, by: Element) {
        if let Some(factor) = self.factors.get_mut(fragment) {
            *factor = factor.plus(by);
        }
    }

    /// The fragments that are needed, each with its factor.
    pub fn parts(&self) -> impl Iterator<Item = (usize, Element)> + '_ {
        let all = self.factors.iter().copied().enumerate();
        all.filter(|(_, factor)| *factor != Element::ZERO)
    }
}

/// Data fragments that are not there, and as many parity fragments that are, whose equations are solved for them.
struct Unknowns {
    data: [usize; ROOM],
    parity: [usize; ROOM],
    /// Row n: what each of the equations contributes to the unknown n.
    inverse: [[Element; ROOM]; ROOM],
    count: usize,
}

impl Unknowns {
    fn new(shape: &Shape, there: Fragments) -> Option<Self> {
        let mut unknowns = Unknowns {
            data: [0; ROOM],
            parity: [0; ROOM],
            inverse: [[Element::ZERO; ROOM]; ROOM],
            count: 0,
        };
        let missing = (0..shape.data()).filter(|f| !there.has(*f));
        let mut parity = there.iter().filter_map(|f| f.checked_sub(shape.data()));
        for fragment in missing {
            *unknowns.data.get_mut(unknowns.count)? = fragment;
            *unknowns.parity.get_mut(unknowns.count)? = parity.next()?;
            unknowns.count = unknowns.count.checked_add(1)?;
        }
        unknowns.solve()?;
        Some(unknowns)
    }

    /// Inverts the matrix of coefficients, by elimination: it has an inverse, as every square part of the code's matrix has.
    fn solve(&mut self) -> Option<()> {
        let mut left = [[Element::ZERO; ROOM]; ROOM];
        for (row, (line, identity)) in left.iter_mut().zip(self.inverse.iter_mut()).enumerate() {
            let parity = *self.parity.get(row)?;
            for (cell, data) in line.iter_mut().zip(self.data) {
                *cell = coefficient(data, parity);
            }
            *identity.get_mut(row)? = Element::ONE;
        }
        for column in 0..self.count {
            let pivot = (column..self.count).find(|row| {
                let line = left.get(*row);
                line.and_then(|l| l.get(column)) != Some(&Element::ZERO)
            })?;
            left.swap(column, pivot);
            self.inverse.swap(column, pivot);
            let scale = left.get(column)?.get(column)?.inverse()?;
            for line in [left.get_mut(column)?, self.inverse.get_mut(column)?] {
                line.iter_mut().for_each(|cell| *cell = cell.times(scale));
            }
            let (own, own_inverse) = (*left.get(column)?, *self.inverse.get(column)?);
            for row in (0..self.count).filter(|row| *row != column) {
                let factor = *left.get(row)?.get(column)?;
                for (line, own) in [
                    (left.get_mut(row)?, own),
                    (self.inverse.get_mut(row)?, own_inverse),
                ] {
                    for (cell, own) in line.iter_mut().zip(own) {
                        *cell = cell.plus(factor.times(own));
                    }
                }
            }
        }
        Some(())
    }

    /// What each equation contributes to a data fragment that is not there: the equation's parity, and the factor.
    fn solution(&self, fragment: usize) -> impl Iterator<Item = (usize, Element)> + '_ {
        let known = self.data.iter().take(self.count);
        let at = known.into_iter().position(|data| *data == fragment);
        let row = at.and_then(|at| self.inverse.get(at));
        let parity = self.parity.iter().copied().take(self.count);
        row.into_iter()
            .flat_map(move |row| parity.clone().zip(row.iter().copied()))
    }
}

/// What a fragment is, by a recipe: `of` gives the bytes of each that it needs; those that end early count as zeros behind their end.
pub fn unbind<'a>(
    field: &impl Field,
    recipe: &Recipe,
    of: impl Fn(usize) -> &'a [u8],
    into: &mut [u8],
) {
    into.fill(0);
    for (fragment, by) in recipe.parts() {
        field.add_product(by, of(fragment), into);
    }
}

/// Bundle delta: what so much of data fragment `data` having changed makes of the same part of parity fragment j, in memory. The
/// difference is the sum of what was there and what is; nothing else has to be read, and other parts do not change.
pub fn revise(field: &impl Field, (data, j): (usize, usize), difference: &[u8], parity: &mut [u8]) {
    field.add_product(coefficient(data, j), difference, parity);
}

#[cfg(test)]
mod tests;
