// SPDX-License-Identifier: GPL-2.0

//! The books of free space by themselves: what comes back when, and what it may not cost.

use embr_engine::format::geometry::Geometry;
use embr_engine::format::journal::Extent;
use embr_engine::format::member::Members;
use embr_engine::format::member::Slot;
use embr_engine::space::promise::Promise;
use embr_engine::space::Managed;
use embr_engine::space::Space;
use embr_engine::stripe::Shape;
use embr_engine::units::Blocks;
use embr_engine::units::Generation;
use embr_rt::Arc;
use embrfs_sim::host::seed;
use embrfs_sim::host::Chance;
use std::collections::BTreeSet;

const BLOCKS: u64 = 8192;

fn slot(n: usize) -> Slot {
    Slot::new(n).expect("a slot")
}

/// So many devices without anything on them, of which one may be lost.
fn devices(count: usize) -> Arc<Space> {
    devices_in(&vec![0; count])
}

/// The same in these failure domains.
fn devices_in(domains: &[u32]) -> Arc<Space> {
    devices_for(domains, 1)
}

/// The same, of which so many may be lost.
fn devices_for(domains: &[u32], parity: u8) -> Arc<Space> {
    let managed: Vec<Managed<'_>> = (domains.iter().enumerate())
        .map(|(n, domain)| Managed {
            slot: slot(n),
            blocks: Blocks(BLOCKS),
            fixed: &[],
            present: true,
            domain: *domain,
        })
        .collect();
    let space = Space::try_new(&managed, Generation(1), parity, 2).expect("sound");
    Arc::try_new(space).expect("memory")
}

/// Blocks that lay there, were freed, and were given out again, all before a crash; and are freed again after it.
#[test]
fn what_was_given_out_again_before_a_crash_is_not_free_early() {
    let space = devices(2);
    let extent = Extent {
        device: slot(0),
        start: Blocks(4000),
        blocks: Blocks(8),
    };
    let idle = || {
        let room = space.room(slot(0));
        room.free.0 + room.claimed.0
    };
    space.take_again(extent).expect("free");
    space.free_again(extent, None).expect("used");
    space.take_again(extent).expect("freed");
    space.freeze(Generation(1)).expect("memory");
    space.announce(&[extent]).expect("memory");
    space.free(extent).expect("used");
    let before = idle();
    space.durable(Generation(1));
    assert_eq!(idle(), before);
    // The root before this one has them.
    space.durable(Generation(2));
    assert_eq!(idle(), before);
    space.durable(Generation(3));
    assert_eq!(idle(), before + 8);
}

/// A third device is lost while so many blocks are promised.
fn bereft(blocks: u64) -> (Arc<Space>, Promise) {
    let space = devices(3);
    let promise = Space::promise(&space, Blocks(blocks)).expect("room on three");
    space.lose(Members::default().with(slot(2)), 1);
    (space, promise)
}

#[test]
fn copies_do_not_come_back_at_the_cost_of_the_reserve() {
    // As many as just do not fit twice on the two that are left.
    let fits = |blocks: u64| bereft(blocks).0.copies() == 2;
    let (mut low, mut high) = (1, BLOCKS);
    while high - low > 1 {
        let middle = (low + high) / 2;
        match fits(middle) {
            true => low = middle,
            false => high = middle,
        }
    }
    assert!(fits(low) && !fits(high));
    let (space, promise) = bereft(high);
    let kept = space.ledger().kept;
    assert!(kept > space.ledger().reserve.floor);
    space.durable(Generation(1));
    assert_eq!((space.ledger().kept, space.copies()), (kept, 1));
    assert!(space.ledger().balanced);
    // With room for them they do.
    drop(promise);
    space.durable(Generation(2));
    assert_eq!((space.ledger().kept, space.copies()), (kept, 2));
}

/// Places for stripes until there is no room for any.
fn stripes(space: &Arc<Space>, geometry: (u8, u8), avoid: Members) -> Vec<(Shape, Vec<Extent>)> {
    let geometry = Geometry::new(geometry.0, geometry.1).expect("a geometry");
    let mut all = Vec::new();
    let mut promise = Space::promise_nodes(space, 0).expect("nothing");
    loop {
        let mut places = embr_rt::Vec::new();
        let given = space.allocate_stripe(geometry, (256, 64), avoid, (&mut promise, &mut places));
        let Some((shape, _)) = given.expect("memory") else {
            assert!(places.is_empty());
            return all;
        };
        assert!(
            space.ledger().balanced,
            "what is promised is not given to others"
        );
        all.push((shape, places.to_vec()));
    }
}

#[test]
fn each_fragment_of_a_stripe_has_a_device_of_its_own() {
    let space = devices(7);
    let promise = Space::promise(&space, Blocks(500)).expect("room");
    let all = stripes(&space, (4, 2), Members::default());
    let mut taken = BTreeSet::new();
    let mut parity = BTreeSet::new();
    for (shape, places) in &all {
        assert_eq!(places.len(), shape.width());
        let on: BTreeSet<usize> = places.iter().map(|e| e.device.index()).collect();
        assert_eq!(on.len(), places.len());
        parity.extend(places.iter().skip(shape.data()).map(|e| e.device.index()));
        for (fragment, extent) in places.iter().enumerate() {
            assert_eq!(extent.blocks.0 as usize, shape.length(fragment));
            let blocks = extent.start.0..extent.start.0 + extent.blocks.0;
            assert!(blocks.into_iter().all(|b| taken.insert((extent.device, b))));
        }
    }
    assert_eq!(parity.len(), 7, "the same devices always have the parity");
    assert_eq!(promise.blocks(), Blocks(500));
    let whole = all
        .iter()
        .filter(|(shape, _)| shape.blocks() == 256)
        .count();
    assert!(whole > 100, "{whole} whole stripes");
}

/// Where everything is promised, as copies, a stripe takes its places out of that, and what is not paid for it stays promised.
#[test]
fn a_stripe_takes_its_room_out_of_the_promise() {
    for (count, shape) in [(6, (4, 2)), (7, (4, 2)), (3, (2, 1)), (9, (3, 2))] {
        let chance = &Chance::new(seed());
        let geometry = Geometry::new(shape.0, shape.1).expect("a geometry");
        let space = devices_for(&vec![0; count], shape.1);
        let mut promise = Space::promise_nodes(&space, 0).expect("nothing");
        for blocks in [10_000, 1000, 100, 10, 1] {
            while let Some(more) = Space::promise(&space, Blocks(blocks)) {
                promise.merge(more);
            }
        }
        let copies = space.copies();
        assert_eq!(copies, usize::from(shape.1) + 1);
        let (all, mut paid_for) = (promise.blocks().0, 0);
        let mut kept = Vec::new();
        while promise.blocks() != Blocks(0) {
            let before = promise.blocks();
            let most = 12 + chance.below(245);
            let mut places = embr_rt::Vec::new();
            let to = (&mut promise, &mut places);
            let given = space.allocate_stripe(geometry, (most, 64), Members::default(), to);
            let Some((shape, paid)) = given.expect("memory") else {
                break;
            };
            assert!(space.ledger().balanced);
            let taken: u64 = places.iter().map(|e| e.blocks.0).sum();
            assert_eq!(paid, Blocks(taken / copies as u64));
            assert_eq!(promise.blocks().0, before.0 - paid.0);
            match chance.below(3) {
                0 => {
                    space.give_back_stripe(&mut promise, &places, paid);
                    assert_eq!(promise.blocks(), before);
                }
                _ => {
                    paid_for += paid.0;
                    kept.push((shape.blocks(), places, paid));
                }
            }
            assert!(space.ledger().balanced);
            assert_eq!(space.copies(), copies);
        }
        let payload: usize = kept.iter().map(|(blocks, ..)| blocks).sum();
        assert!(
            payload as u64 * 10 > all * 11,
            "{shape:?}: {payload} in the room of {all}"
        );
        // What they cost is promised again, whoever asks meanwhile; and each block of it finds its places.
        while !kept.is_empty() {
            let (_, places, paid) = kept.swap_remove(chance.below(kept.len()));
            space.give_back_stripe(&mut promise, &places, paid);
            paid_for -= paid.0;
            assert!(space.ledger().balanced);
        }
        assert_eq!(
            (promise.blocks().0, paid_for, space.copies()),
            (all, 0, copies)
        );
        while promise.blocks() != Blocks(0) {
            let mut places = embr_rt::Vec::new();
            let given = space.allocate_promised(&mut promise, Blocks(1000), &mut places);
            assert!(given.expect("memory").is_some());
        }
    }
}

/// Where there is no room, what was appended is taken back, and nothing else.
#[test]
fn a_stripe_that_finds_no_room_leaves_nothing() {
    let space = devices(6);
    let geometry = Geometry::new(4, 2).expect("a geometry");
    let mut places = embr_rt::Vec::new();
    let none = Members::default();
    let mut promise = Space::promise_nodes(&space, 0).expect("nothing");
    let whole = space.allocate_stripe(geometry, (256, 64), none, (&mut promise, &mut places));
    assert!(whole.expect("memory").is_some());
    let before = places.to_vec();
    let free = |n| space.room(slot(n)).free;
    let room: Vec<Blocks> = (0..6).map(free).collect();
    let avoid = (0..4).map(slot).collect();
    let other = space.allocate_stripe(geometry, (256, 64), avoid, (&mut promise, &mut places));
    assert!(other.expect("memory").is_none());
    assert_eq!(places.to_vec(), before);
    assert_eq!((0..6).map(free).collect::<Vec<_>>(), room);
}

/// Two devices that fail together have two fragments of a stripe only if there are not enough others.
#[test]
fn fragments_are_spread_over_failure_domains() {
    let domains = [1, 1, 2, 2, 3, 3];
    let space = devices_in(&domains);
    for (shape, places) in stripes(&space, (2, 1), Members::default()).iter().take(50) {
        let on: BTreeSet<u32> = places.iter().map(|e| domains[e.device.index()]).collect();
        assert_eq!(on.len(), shape.width(), "{places:?}");
    }
}

/// Nor do they have two copies of anything, until one domain is full.
#[test]
fn copies_are_spread_over_failure_domains() {
    for (domains, parity) in [
        ([1, 1, 2, 2, 3, 3], 2),
        ([1, 1, 1, 2, 0, 0], 2),
        ([1, 1, 1, 2, 2, 2], 1),
    ] {
        let space = devices_for(&domains, parity);
        let copies = usize::from(parity) + 1;
        let domain_of = |e: &Extent| match domains[e.device.index()] {
            0 => 100 + e.device.index() as u32,
            domain => domain,
        };
        let mut promise = Space::promise(&space, Blocks(2000)).expect("room");
        let mut together = 0;
        for _ in 0..40 {
            let mut places = embr_rt::Vec::new();
            let given = space.allocate_promised(&mut promise, Blocks(16), &mut places);
            assert!(given.expect("memory").is_some());
            assert_eq!(places.len(), copies);
            let on: BTreeSet<u32> = places.iter().map(domain_of).collect();
            together += usize::from(on.len() < copies);
            assert!(space.ledger().balanced);
        }
        assert_eq!(together, 0, "copies of data: {domains:?}");
        for _ in 0..40 {
            let mut places = embr_rt::Vec::new();
            places.try_reserve(copies).expect("memory");
            assert!(space.place(&mut places));
            let on: BTreeSet<u32> = places.iter().map(domain_of).collect();
            assert_eq!(
                on.len(),
                copies,
                "copies of a node: {domains:?}, {places:?}"
            );
            assert!(space.ledger().balanced);
        }
    }
}

#[test]
fn where_devices_are_missing_stripes_are_narrower_and_have_all_parity() {
    for missing in 1..=4 {
        let space = devices(6);
        let avoid = (0..missing).map(slot).collect();
        let all = stripes(&space, (4, 2), avoid);
        for (shape, places) in &all {
            assert_eq!((shape.data(), shape.parity()), (4 - missing, 2));
            assert!(places.iter().all(|e| e.device.index() >= missing));
        }
        // One data fragment is no stripe.
        assert_eq!(all.is_empty(), missing > 2);
    }
}

/// One device of a domain of its own has room only here and there: others have room for all rows.
#[test]
fn a_device_in_pieces_does_not_cut_all_stripes() {
    let space = devices_in(&[1, 1, 1, 2]);
    for at in (0..BLOCKS).step_by(2) {
        let one = Extent {
            device: slot(3),
            start: Blocks(at),
            blocks: Blocks(1),
        };
        space.take(one).expect("free");
    }
    let geometry = Geometry::new(2, 1).expect("a geometry");
    let mut promise = Space::promise_nodes(&space, 0).expect("nothing");
    let mut places = embr_rt::Vec::new();
    let given = space.allocate_stripe(
        geometry,
        (128, 64),
        Members::default(),
        (&mut promise, &mut places),
    );
    let (shape, _) = given.expect("memory").expect("room");
    assert_eq!(shape.rows(), 64, "{shape:?} {places:?}");
}

/// Anything at random, with failure domains and lost devices: what was promised is there.
#[test]
fn whatever_is_promised_with_domains_and_lost_devices_is_there() {
    let first = seed();
    for n in 0..600u64 {
        let chance = Chance::new(first.wrapping_add(n));
        let parity = 1 + chance.below(3) as u8;
        let count = usize::from(parity) + 1 + chance.below(5);
        let domains: Vec<u32> = (0..count).map(|_| chance.below(4) as u32).collect();
        let sizes: Vec<u64> = (0..count)
            .map(|_| 2048 + chance.below(8192) as u64)
            .collect();
        let managed: Vec<Managed<'_>> = (domains.iter().zip(&sizes).enumerate())
            .map(|(n, (domain, size))| Managed {
                slot: slot(n),
                blocks: Blocks(*size),
                fixed: &[],
                present: true,
                domain: *domain,
            })
            .collect();
        let space = Space::try_new(&managed, Generation(1), parity, 2).expect("sound");
        let space = Arc::try_new(space).expect("memory");
        let data = 2 + chance.below(3) as u8;
        let geometry = Geometry::new(data, parity).expect("a geometry");
        let mut promises: Vec<Promise> = Vec::new();
        let mut stripes: Vec<(usize, Vec<Extent>, Blocks)> = Vec::new();
        let mut copies: Vec<(usize, Vec<Extent>)> = Vec::new();
        let mut used: Vec<Extent> = Vec::new();
        let mut generation = 1;
        let mut lost = 0;
        let mut lost_set = Members::default();
        for step in 0..200 {
            let context =
                format!("seed {n} step {step} parity {parity} domains {domains:?} sizes {sizes:?}");
            match chance.below(12) {
                0 | 1 => {
                    let size = 1 + chance.below(1500) as u64;
                    if let Some(promise) = Space::promise(&space, Blocks(size)) {
                        promises.push(promise);
                    }
                }
                2..=4 => {
                    if promises.is_empty() {
                        continue;
                    }
                    let at = chance.below(promises.len());
                    let promise = &mut promises[at];
                    let before = promise.blocks().0;
                    if before == 0 {
                        continue;
                    }
                    let mut out = embr_rt::Vec::new();
                    let given = space
                        .allocate_promised(promise, Blocks(1 + chance.below(300) as u64), &mut out)
                        .expect("memory");
                    let given = given.unwrap_or_else(|| panic!("{context}: none of {before}"));
                    assert!(given.0 > 0, "{context}: nothing of {before}");
                    copies.push((at, out.to_vec()));
                }
                5 | 6 => {
                    if promises.is_empty() {
                        continue;
                    }
                    let at = chance.below(promises.len());
                    let promise = &mut promises[at];
                    let most = (promise.blocks().0.min(256)) as usize;
                    let mut out = embr_rt::Vec::new();
                    if let Some((shape, paid)) = space
                        .allocate_stripe(geometry, (most, 64), lost_set, (promise, &mut out))
                        .expect("memory")
                    {
                        assert!(
                            paid.0 <= shape.blocks() as u64,
                            "{context}: more is paid than lies there"
                        );
                        stripes.push((at, out.to_vec(), paid));
                    }
                }
                7 => {
                    if stripes.is_empty() {
                        continue;
                    }
                    let (at, places, paid) = stripes.swap_remove(chance.below(stripes.len()));
                    if chance.below(2) == 0 {
                        space.give_back_stripe(&mut promises[at], &places, paid);
                    } else {
                        for e in &places {
                            space
                                .take(*e)
                                .unwrap_or_else(|why| panic!("{context}: {why:?}"));
                            used.push(*e)
                        }
                    }
                }
                8 => {
                    if copies.is_empty() {
                        continue;
                    }
                    let (at, places) = copies.swap_remove(chance.below(copies.len()));
                    if chance.below(2) == 0 {
                        space.give_back_to(&mut promises[at], &places);
                    } else {
                        for e in &places {
                            space
                                .take(*e)
                                .unwrap_or_else(|why| panic!("{context}: {why:?}"));
                            used.push(*e)
                        }
                    }
                }
                9 => {
                    for _ in 0..chance.below(6) {
                        if used.is_empty() {
                            break;
                        }
                        let e = used.swap_remove(chance.below(used.len()));
                        space.announce(&[e]).expect("memory");
                        space.free(e).expect("used");
                    }
                    space.freeze(Generation(generation)).expect("memory");
                    space.durable(Generation(generation));
                    generation += 1;
                }
                10 => {
                    if lost < parity && chance.below(6) == 0 {
                        let which = slot(chance.below(count));
                        if lost_set.has(which) {
                            continue;
                        }
                        lost += 1;
                        lost_set = lost_set.with(which);
                        space.lose(lost_set, parity);
                    }
                }
                _ => {
                    if promises.len() > 3 && chance.below(4) == 0 {
                        let promise = promises.last_mut().expect("one");
                        let all = promise.blocks();
                        drop(promise.split(all));
                    }
                }
            }
            assert!(space.ledger().balanced, "{context}: {:?}", space.ledger());
            let sum: u64 = promises.iter().map(|p| p.blocks().0).sum();
            assert_eq!(space.ledger().promised.0 .0, sum, "{context}");
        }
        for (at, promise) in promises.iter_mut().enumerate() {
            while promise.blocks().0 != 0 {
                let mut out = embr_rt::Vec::new();
                let given = space
                    .allocate_promised(promise, Blocks(u64::MAX), &mut out)
                    .expect("memory");
                assert!(
                    given.is_some_and(|g| g.0 > 0),
                    "seed {n}: promise {at}: {given:?} of {:?}, {:?}",
                    promise.blocks(),
                    space.ledger()
                );
            }
        }
    }
}
