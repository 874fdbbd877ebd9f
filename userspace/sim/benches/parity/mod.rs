// SPDX-License-Identifier: GPL-2.0

//! What parity takes in userspace, and giving back as many fragments of data as may be lost, beside copying what a stripe holds.

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

    /// The first fragments of data come from all others.
    fn decode(&self, field: &impl Field) -> f64 {
        let lost = 0..self.shape.parity();
        let there = (lost.end..self.shape.width()).collect();
        let mut back = vec![0; self.fragments[0].len()];
        let recipe = |wanted| Recipe::new(&self.shape, there, wanted).expect("enough is there");
        let recipes: Vec<_> = lost.clone().map(recipe).collect();
        let mut decode = || {
            for recipe in &recipes {
                let of = |f: usize| self.fragments[f].as_slice();
                unbind(field, recipe, of, black_box(&mut back));
            }
        };
        for (wanted, recipe) in lost.zip(&recipes) {
            let mut back = vec![0; self.fragments[0].len()];
            unbind(field, recipe, |f| self.fragments[f].as_slice(), &mut back);
            assert!(back == self.fragments[wanted], "fragment {wanted}");
        }
        once(1, &mut decode)
    }
}

/// Measures it.
pub fn parity(report: &mut Report, _: u64) {
    report.table(
        "Parity in userspace: times as long as copying what the stripe holds, 1 MiB",
        &["", "encode", "decode by tables", "decode by doubling"],
    );
    for (data, parity) in [(4, 2), (8, 3), (16, 4)] {
        let mut stripe = Stripe::new(data, parity);
        let plain = stripe.copy();
        let encode = stripe.encode();
        let [tables, doubling] = [stripe.decode(&Tables), stripe.decode(&Scalar)];
        let ratio = |time: f64| format!("{:.1}", time / plain);
        report.row(&[
            format!("{data}+{parity}, {parity} fragments of data lost"),
            ratio(encode),
            ratio(tables),
            ratio(doubling),
        ]);
    }
}
