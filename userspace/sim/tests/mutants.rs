// SPDX-License-Identifier: GPL-2.0

//! Ten thousand damaged and forged volumes through the engine: each is refused with a reason, or is a volume whose every
//! value keeps its bounds.

use embr_engine::env::Device as _;
use embr_engine::format::layout;
use embr_engine::hash::Scalar;
use embr_engine::volume;
use embr_engine::volume::assemble;
use embr_engine::volume::Member;
use embrfs_sim::host::seed;
use embrfs_sim::mutant::mutant;
use std::collections::BTreeMap;

const COUNT: u64 = 10_000;

#[test]
fn every_mutant_is_refused_with_a_reason_or_sound() {
    // Different each run; a failure prints its seed.
    let base = seed();
    let mut reasons: BTreeMap<String, u32> = BTreeMap::new();
    for n in 0..COUNT {
        let seed = base.wrapping_add(n);
        let mutant = mutant(seed);
        let mut members: Vec<Member> = Vec::new();
        let mut names = Vec::new();
        let mut reason = None;
        for (i, disk) in mutant.disks.iter().enumerate() {
            match volume::probe(disk, &Scalar) {
                Ok(member) => {
                    let device = member
                        .superblock
                        .this_device()
                        .expect("a parsed superblock lists its device");
                    assert!(
                        device.bytes() <= disk.size(),
                        "seed {seed}: {}",
                        mutant.story
                    );
                    names.push(format!("disk{i}"));
                    members.push(member);
                }
                Err(error) => {
                    let text = error.to_string();
                    assert!(text.len() > 10, "seed {seed}: no reason given: {text:?}");
                    reason = Some(text);
                }
            }
        }
        match assemble(&members) {
            Ok(volume) => {
                assert!(volume.seats().len() <= 64);
                assert!(
                    volume.missing().count() <= u32::from(volume.geometry().parity()),
                    "seed {seed}"
                );
                let most: u64 = volume
                    .seats()
                    .iter()
                    .map(|s| layout::allocatable(s.entry.bytes()).0)
                    .sum();
                assert!(volume.capacity().0 <= most, "seed {seed}: {}", mutant.story);
                reason.get_or_insert_with(|| "none: a sound volume".to_owned());
            }
            Err(error) => {
                let text = error.explain(&names).to_string();
                assert!(text.len() > 10, "seed {seed}: no reason given: {text:?}");
                reason.get_or_insert(text);
            }
        }
        let kind: String = reason
            .unwrap_or_default()
            .chars()
            .filter(|c| !c.is_ascii_digit())
            .take(60)
            .collect();
        *reasons.entry(kind).or_default() += 1;
    }
    for (reason, count) in &reasons {
        println!("{count:6} {reason}");
    }
    assert!(
        reasons.len() > 25,
        "the mutants reach only {} reasons",
        reasons.len()
    );
}

#[test]
fn the_same_seed_makes_the_same_mutant() {
    for seed in 0..50 {
        let (a, b) = (mutant(seed), mutant(seed));
        assert_eq!(a.story, b.story);
        for (x, y) in a.disks.iter().zip(&b.disks) {
            assert_eq!(x.written(), y.written());
        }
    }
}
