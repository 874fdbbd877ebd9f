// SPDX-License-Identifier: GPL-2.0

//! How fast lost fragments of data are given back in userspace, beside encoding them, and beside nothing but the products of the same
//! fragments by the crate that programs have for that.

use crate::timed;
use crate::Report;
use embr_engine::env::Field;
use embr_engine::field::Scalar;
use embr_engine::format::geometry::Geometry;
use embr_engine::stripe::code::unbind;
use embr_engine::stripe::Recipe;
use embr_engine::stripe::Shape;
use embrfs_host::Tables;
use std::hint::black_box;

/// Bytes that a stripe holds.
const PAYLOAD: usize = 1 << 20;
/// Times that each thing is done that takes long; others are done more often, as clocks are coarse.
const OFTEN: u64 = 2000;

/// How long it takes once, in seconds.
fn once(times: u64, mut work: impl FnMut()) -> f64 {
    let count = times * crate::scaled(OFTEN);
    // The first time the memory is not there yet.
    work();
    let (time, ()) = timed(|| (0..count).for_each(|_| work()));
    time.as_secs_f64() / count as f64
}

struct Stripe {
    shape: Shape,
    fragments: Vec<Vec<u8>>,
}

impl Stripe {
    fn new(data: u8, parity: u8) -> Self {
        let geometry = Geometry::new(data, parity).expect("a geometry");
        let shape = Shape::new(geometry, 1, usize::from(data)).expect("a shape");
        let length = PAYLOAD / usize::from(data);
        let fragment = |f: usize| (0..length).map(|n| (n * 7 + f * 31) as u8).collect();
        let fragments = (0..shape.width()).map(fragment).collect();
        Stripe { shape, fragments }
    }

    fn copy(&mut self) -> f64 {
        let from = self.fragments.clone();
        let pairs = self.fragments.iter_mut().zip(&from);
        let mut pairs: Vec<_> = pairs.take(self.shape.data()).collect();
        once(20, || {
            for (to, from) in &mut pairs {
                black_box(to).copy_from_slice(black_box(from));
            }
        })
    }

    fn encode(&mut self) -> f64 {
        let (data, parity) = self.fragments.split_at_mut(self.shape.data());
        let data: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
        let mut parity: Vec<&mut [u8]> = parity.iter_mut().map(Vec::as_mut_slice).collect();
        once(4, || {
            Scalar.bundle(black_box(&data), black_box(&mut parity))
        })
    }

    /// So many fragments of data, the first, come from all others, each by its recipe.
    fn decode(&self, lost: usize, back: impl Fn(&Recipe, &[Vec<u8>], &mut [u8])) -> f64 {
        let there = (lost..self.shape.width()).collect();
        let recipe = |wanted| Recipe::new(&self.shape, there, wanted).expect("enough is there");
        let recipes: Vec<_> = (0..lost).map(recipe).collect();
        let mut bytes = vec![0; self.fragments[0].len()];
        for (wanted, recipe) in recipes.iter().enumerate() {
            back(recipe, &self.fragments, &mut bytes);
            assert!(bytes == self.fragments[wanted], "fragment {wanted}");
        }
        once(1, || {
            for recipe in &recipes {
                back(recipe, black_box(&self.fragments), black_box(&mut bytes));
            }
        })
    }

    /// As the engine does it, with this arithmetic.
    fn by(&self, lost: usize, field: &impl Field) -> f64 {
        self.decode(lost, |recipe, fragments, back| {
            unbind(field, recipe, |f| fragments[f].as_slice(), back);
        })
    }

    /// The products alone, added up.
    fn bare(&self, lost: usize) -> f64 {
        self.decode(lost, |recipe, fragments, back| {
            back.fill(0);
            for (fragment, factor) in recipe.parts() {
                Tables.add_product(factor, &fragments[fragment], back);
            }
        })
    }
}

/// Measures it.
pub fn parity(report: &mut Report, _: u64) {
    report.table(
        "Parity in userspace, stripes of 1 MiB: bytes in the same time",
        &[
            "",
            "encoded, of copied",
            "decoded by tables, of encoded",
            "decoded by doubling, of encoded",
            "decoded by tables, of the crate's products alone",
        ],
    );
    for (data, parity) in [(4, 2), (8, 3), (10, 4)] {
        let mut stripe = Stripe::new(data, parity);
        let [plain, encode] = [stripe.copy(), stripe.encode()];
        for lost in [1, parity] {
            let all = usize::from(lost);
            let [tables, doubling] = [stripe.by(all, &Tables), stripe.by(all, &Scalar)];
            let bare = stripe.bare(all);
            // Bytes that come out: as many fragments as are lost, or as there is parity.
            let part = f64::from(lost) / f64::from(parity);
            let ratio = |ratio: f64| format!("{ratio:.2}");
            report.row(&[
                format!("{data}+{parity}, fragments of data lost: {lost}"),
                ratio(plain / encode),
                ratio(part * encode / tables),
                ratio(part * encode / doubling),
                ratio(bare / tables),
            ]);
        }
    }
    report.note(
        "Encoded and copied: bytes of payload. Decoded, of encoded: bytes of fragments that were lost, and of parity. The crate's products: those that
give back the same fragments, each of a whole fragment at once, added up by reed-solomon-erasure.",
    );
}
