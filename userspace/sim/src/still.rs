// SPDX-License-Identifier: GPL-2.0

//! Two tasks of which each stands still at every one of its points in turn while the other does all it does; and both at some pairs of
//! points. So what goes wrong where one is passed by is found by going through all of it, with no luck needed.

use crate::host::Chance;
use embr_rt::lock_class;
use embr_rt::sim;
use embr_rt::sim::World;
use embr_rt::work::Worker;
use std::sync::Arc;
use std::sync::Mutex;

/// What two tasks do beside each other. Made anew in each world.
pub trait Beside: Send + Sync + 'static {
    /// What the one does who stands still first.
    fn first(&self);
    /// What the other does meanwhile.
    fn other(&self);
    /// After both, with nobody beside.
    fn after(&self);
}

/// A world in which the first stands still at one point, then the other at another. Says who has that many.
fn play<B: Beside>(
    seed: u64,
    points: [u64; 2],
    begin: impl FnOnce() -> B + Send + 'static,
) -> [bool; 2] {
    let outcome = World::new(seed).calm().run(move || {
        let all = Arc::new((begin(), Mutex::new(false)));
        let theirs = all.clone();
        let work = move || {
            sim::stand_still(points[1]);
            theirs.0.other();
            *theirs.1.lock().expect("no panic") = sim::has_stood_still();
        };
        let worker = Worker::try_spawn(lock_class!("the other"), work).expect("a task");
        sim::stand_still(points[0]);
        all.0.first();
        let has_first = sim::has_stood_still();
        drop(worker);
        all.0.after();
        let has_other = *all.1.lock().expect("no panic");
        [has_first, has_other]
    });
    match outcome {
        Ok(outcome) => outcome.value,
        Err(failure) => panic!("seed {seed}, standing still at {points:?}: {failure}"),
    }
}

/// Goes through all points of both, and so many pairs of them that are drawn. Says how many points each has.
pub fn everywhere<B: Beside>(
    seed: u64,
    pairs: usize,
    begin: impl Fn() -> B + Copy + Send + 'static,
) -> [usize; 2] {
    let has = |points| play(seed, points, begin);
    let points = [
        (0..).take_while(|n| has([*n, u64::MAX])[0]).count(),
        (0..).take_while(|n| has([0, *n])[1]).count(),
    ];
    let chance = Chance::new(seed);
    for _ in 0..pairs {
        has(points.map(|points| chance.below(points.max(1)) as u64));
    }
    points
}
