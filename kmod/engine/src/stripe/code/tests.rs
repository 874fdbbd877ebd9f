// SPDX-License-Identifier: GPL-2.0

use super::*;
use crate::field::Scalar;
use crate::format::geometry::Geometry;
use crate::format::geometry::MAX_DATA;
use std::vec;
use std::vec::Vec;

fn shape(k: u8, m: u8, rows: usize, blocks: usize) -> Shape {
    Shape::new(Geometry::new(k, m).unwrap(), rows, blocks).unwrap()
}

/// Sets of `count` of the numbers below `of`.
fn choices(of: usize, count: usize) -> impl Iterator<Item = Vec<usize>> {
    let sets = (0u32..1 << of).filter(move |set| set.count_ones() as usize == count);
    sets.map(move |set| (0..of).filter(|n| (set >> n) & 1 == 1).collect())
}

/// Whether a square matrix has an inverse: its determinant, by expansion.
fn determinant(rows: &[Vec<Element>]) -> Element {
    let Some((first, rest)) = rows.split_first() else {
        return Element::ONE;
    };
    // Adding and subtracting are the same.
    (0..first.len()).fold(Element::ZERO, |sum, skip| {
        let minor: Vec<Vec<Element>> = rest
            .iter()
            .map(|row| {
                let others = row.iter().enumerate().filter(|(n, _)| *n != skip);
                others.map(|(_, cell)| *cell).collect()
            })
            .collect();
        sum.plus(first[skip].times(determinant(&minor)))
    })
}

/// Any m of k + m fragments may be lost if and only if every square part of the matrix of coefficients has an inverse.
#[test]
fn any_losses_up_to_m_can_be_made_good_up_to_21_data_fragments() {
    let (data, parity) = (21, usize::from(MAX_PARITY));
    let mut parts = 0;
    for size in 1..=parity {
        for lost in choices(data, size) {
            for left in choices(parity, size) {
                let matrix: Vec<Vec<Element>> = left
                    .iter()
                    .map(|j| lost.iter().map(|i| coefficient(*i, *j)).collect())
                    .collect();
                assert_ne!(
                    determinant(&matrix),
                    Element::ZERO,
                    "data {lost:?} parity {left:?}"
                );
                parts += 1;
            }
        }
    }
    assert_eq!(parts, 21 * 4 + 210 * 6 + 1330 * 4 + 5985);
}

/// Twenty-one is the most: with one more data fragment some four losses are not made good.
#[test]
fn with_22_data_fragments_not_all_losses_can_be_made_good() {
    let parity = usize::from(MAX_PARITY);
    let singular = (1..=parity).any(|size| {
        choices(22, size)
            .filter(|lost| lost.contains(&21))
            .any(|lost| {
                choices(parity, size).any(|left| {
                    let matrix: Vec<Vec<Element>> = left
                        .iter()
                        .map(|j| lost.iter().map(|i| coefficient(*i, *j)).collect())
                        .collect();
                    determinant(&matrix) == Element::ZERO
                })
            })
    });
    assert!(singular);
}

/// Fragments with all their parity.
fn bundled(shape: &Shape, row_bytes: usize) -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = (0..shape.data())
        .map(|f| {
            let bytes = 0..shape.length(f) * row_bytes;
            bytes.map(|n| (n * 7 + f * 151 + (n >> 2)) as u8).collect()
        })
        .collect();
    let mut parity = vec![vec![0xee; shape.rows() * row_bytes]; shape.parity()];
    let data: Vec<&[u8]> = all.iter().map(Vec::as_slice).collect();
    let mut into: Vec<&mut [u8]> = parity.iter_mut().map(Vec::as_mut_slice).collect();
    Scalar.bundle(&data, &mut into);
    all.append(&mut parity);
    all
}

/// What is given back where `lost` are not there.
fn given_back(shape: &Shape, all: &[Vec<u8>], lost: &[usize], wanted: usize) -> Option<Vec<u8>> {
    let there = (0..shape.width()).filter(|f| !lost.contains(f)).collect();
    let recipe = Recipe::new(shape, there, wanted)?;
    assert!(recipe
        .parts()
        .all(|(f, _)| f != wanted && !lost.contains(&f)));
    let mut into = vec![0x55; all[wanted].len()];
    unbind(&Scalar, &recipe, |f| all[f].as_slice(), &mut into);
    Some(into)
}

/// Every set of fragments that may be lost, of every shape.
#[test]
fn every_fragment_comes_back_from_every_subset() {
    for k in 1..=MAX_DATA {
        for m in 0..=MAX_PARITY {
            // The last data fragment is shorter.
            let (rows, blocks) = (2, 2 * usize::from(k) - 1);
            let shape = shape(k, m, rows, blocks);
            let all = bundled(&shape, 1);
            for count in 1..=shape.parity() {
                for lost in choices(shape.width(), count) {
                    for wanted in &lost {
                        let back = given_back(&shape, &all, &lost, *wanted);
                        assert_eq!(
                            back.as_ref(),
                            Some(&all[*wanted]),
                            "{k}+{m} {lost:?} {wanted}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn nothing_comes_of_too_few() {
    let shape = shape(4, 2, 1, 4);
    let all = bundled(&shape, 16);
    for lost in choices(6, 3) {
        for wanted in &lost {
            let needed = lost.iter().filter(|f| **f < 4).count();
            // Parity comes back from all data.
            let enough = *wanted >= 4 && needed == 0;
            let back = given_back(&shape, &all, &lost, *wanted);
            assert_eq!(back.is_some(), enough, "{lost:?} {wanted}");
        }
    }
    let all = Fragments::first(6);
    assert_eq!(Recipe::new(&shape, all, 6), None);
    assert_eq!(Recipe::new(&shape, all, usize::MAX), None);
}

/// P and Q as the kernel's RAID-6 has them: Q by doubling from the last disk to the first.
#[test]
fn the_first_two_parities_are_those_of_raid_6() {
    let double = |byte: u8| (byte << 1) ^ if byte & 0x80 != 0 { 0x1d } else { 0 };
    for k in 1..=MAX_DATA {
        let shape = shape(k, 2, 1, usize::from(k));
        let all = bundled(&shape, 4096);
        for n in 0..4096 {
            let disks = all.iter().take(usize::from(k)).rev();
            let (p, q) = disks.fold((0, 0), |(p, q), disk| (p ^ disk[n], double(q) ^ disk[n]));
            assert_eq!((all[usize::from(k)][n], all[usize::from(k) + 1][n]), (p, q));
        }
    }
}

/// One of three fragments of data, 4+4 of the bytes 1, 2, 3, 4: what is on disk must not change.
#[test]
fn known_parity() {
    let data: [&[u8]; 4] = [&[1], &[2], &[3], &[4]];
    let mut parity = [[0u8; 1]; 4];
    let [a, b, c, d] = &mut parity;
    Scalar.bundle(&data, &mut [&mut a[..], &mut b[..], &mut c[..], &mut d[..]]);
    // 1 + 2 + 3 + 4; 1 + 2*2 + 3*4 + 4*8; 1 + 2*4 + 3*16 + 4*64; 1 + 2*8 + 3*64 + 4*512, with 256 = 0x1d.
    assert_eq!(
        parity,
        [
            [4],
            [1 ^ 4 ^ 12 ^ 32],
            [1 ^ 8 ^ 48 ^ 0x1d],
            [1 ^ 16 ^ 192 ^ 0xe8]
        ]
    );
}

/// For every shape, every fragment and each part of it that changes: parity is what a new bundle has, and only that part is touched.
#[test]
fn a_delta_is_as_good_as_a_new_bundle() {
    for k in 1..=MAX_DATA {
        for m in 0..=MAX_PARITY {
            // The last data fragment is shorter.
            let (rows, blocks) = (4, 4 * usize::from(k) - 1);
            let shape = shape(k, m, rows, blocks);
            let before = bundled(&shape, 8);
            for changed in 0..shape.data() {
                for (from, to) in [(0, 8), (8, 16), (3, 21), (0, 32), (24, 32)] {
                    let mut all = before.clone();
                    let to = to.min(all[changed].len());
                    if from >= to {
                        continue;
                    }
                    let (data, parity) = all.split_at_mut(shape.data());
                    let part = &mut data[changed][from..to];
                    let new: Vec<u8> = (0..part.len()).map(|n| (n * 91 + 7) as u8).collect();
                    let mut difference = part.to_vec();
                    Scalar.add_product(Element::ONE, &new, &mut difference);
                    part.copy_from_slice(&new);
                    for (j, parity) in parity.iter_mut().enumerate() {
                        revise(&Scalar, (changed, j), &difference, &mut parity[from..to]);
                    }
                    let slices: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
                    let mut anew = vec![vec![0xee; rows * 8]; usize::from(m)];
                    let mut into: Vec<&mut [u8]> = anew.iter_mut().map(Vec::as_mut_slice).collect();
                    Scalar.bundle(&slices, &mut into);
                    assert_eq!(parity, &anew[..], "{k}+{m}: {changed}, {from}..{to}");
                }
            }
        }
    }
}
