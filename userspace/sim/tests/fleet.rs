// SPDX-License-Identifier: GPL-2.0

//! The simulated drives against a plain model of bytes: what reads see, what a crash leaves at each position, and that it all
//! repeats; alone, in a simulated world, and under mkfs.

use embr_engine::env::Device as _;
use embr_engine::env::DeviceError;
use embr_engine::env::Devices;
use embr_engine::env::WritableDevice as _;
use embr_engine::env::Write;
use embr_engine::error::Error;
use embr_engine::format::geometry::Geometry;
use embr_engine::format::layout;
use embr_engine::format::member::Members;
use embr_engine::format::member::Slot;
use embr_engine::format::superblock::BlockHash;
use embr_engine::format::superblock::Label;
use embr_engine::hash::Scalar;
use embr_engine::units::Bytes;
use embr_engine::units::BLOCK_SIZE;
use embr_engine::volume::create::Options;
use embr_engine::volume::create::Plan as Making;
use embr_engine::volume::probe;
use embr_rt::lock_class;
use embr_rt::sim::World;
use embr_rt::work::Worker;
use embrfs_sim::cache::Survival;
use embrfs_sim::fleet::Fleet;
use embrfs_sim::host::Chance;
use embrfs_sim::host::Host;
use embrfs_sim::image::Image;
use embrfs_sim::recording::Recording;
use embrfs_sim::recording::Snapshot;
use embrfs_sim::recording::State;
use embrfs_sim::sectors::Sectors;
use embrfs_sim::states::Kind;
use embrfs_sim::states::Plan;
use embrfs_sim::tally::Tally;
use std::collections::BTreeSet;

const BLOCK: u64 = BLOCK_SIZE as u64;

fn slot(n: usize) -> Slot {
    Slot::new(n).expect("a slot")
}

fn bytes(image: &Image) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..image.blocks())
        .flat_map(|n| image.get(n).map_or([0; BLOCK_SIZE], |b| **b))
        .collect();
    bytes.truncate(image.size().0 as usize);
    bytes
}

/// One drive, said again with plain bytes.
#[derive(Clone)]
struct Plain {
    durable: Vec<u8>,
    cache: Vec<(usize, Vec<u8>)>,
}

impl Plain {
    fn with(&self, take: impl Fn(usize) -> bool) -> Vec<u8> {
        let mut all = self.durable.clone();
        for (n, (at, bytes)) in self.cache.iter().enumerate() {
            if take(n) {
                all[*at..][..bytes.len()].copy_from_slice(bytes);
            }
        }
        all
    }
}

/// A run of single writes and flushes, and the model as it was at each position.
fn run(seed: u64, drives: usize, steps: usize) -> (Fleet, Recording, Vec<Vec<Plain>>) {
    let chance = Chance::new(seed);
    let sizes: Vec<Bytes> = (0..drives)
        .map(|n| Bytes(20 * BLOCK + 512 * n as u64))
        .collect();
    let fleet = Fleet::new(seed, &sizes);
    let mut model: Vec<Plain> = (sizes.iter())
        .map(|size| Plain {
            durable: vec![0; size.0 as usize],
            cache: Vec::new(),
        })
        .collect();
    fleet.record();
    let mut past = vec![model.clone()];
    for step in 0..steps {
        let n = chance.below(drives);
        let drive = fleet.drive(slot(n)).expect("a drive");
        match chance.below(6) {
            0 => {
                drive.flush().expect("no fault");
                let plain = &mut model[n];
                plain.durable = plain.with(|_| true);
                if !plain.cache.is_empty() {
                    plain.cache.clear();
                    past.push(model.clone());
                }
            }
            1 => {
                let at = chance.below(20);
                let mut seen = vec![0xee; (1 + chance.below(20 - at)) * BLOCK_SIZE];
                drive
                    .read(Bytes(at as u64 * BLOCK), &mut seen)
                    .expect("no fault");
                let expected = &model[n].with(|_| true)[at * BLOCK_SIZE..][..seen.len()];
                assert!(seen == expected, "seed {seed} step {step}");
            }
            2 => fleet.note(step as u64),
            _ => {
                let at = chance.below(20);
                // Now and then up to the drive's end, which may lie within a block.
                let length = match chance.below(4) {
                    0 => sizes[n].0 as usize - at * BLOCK_SIZE,
                    _ => (1 + chance.below((20 - at).min(3))) * BLOCK_SIZE,
                };
                let data = vec![step as u8 + 1; length];
                drive
                    .write(Bytes(at as u64 * BLOCK), &data)
                    .expect("no fault");
                model[n].cache.push((at * BLOCK_SIZE, data));
                past.push(model.clone());
            }
        }
    }
    let recording = fleet.recorded();
    (fleet, recording, past)
}

#[test]
fn a_crash_leaves_what_the_model_says_at_each_position() {
    for seed in 0..40 {
        let (_, recording, past) = run(seed, 3, 60);
        assert_eq!(recording.end() + 1, past.len() as u64);
        for (cut, model) in (0..).zip(&past) {
            for (n, plain) in model.iter().enumerate() {
                let unflushed = recording.unflushed(slot(n), cut).len();
                assert_eq!(unflushed, plain.cache.len(), "seed {seed} cut {cut}");
                let mut cases: Vec<(Survival, Vec<u8>)> = vec![
                    (Survival::Reset, plain.with(|_| true)),
                    (Survival::All, plain.with(|_| true)),
                    (Survival::None, plain.with(|_| false)),
                ];
                for w in 0..unflushed {
                    cases.push((Survival::Prefix(w), plain.with(|n| n < w)));
                    cases.push((Survival::Only(w), plain.with(|n| n == w)));
                    cases.push((Survival::Dropped(w), plain.with(|n| n != w)));
                }
                for (survival, expected) in cases {
                    let state = State::new(cut, Survival::None).with(slot(n), survival);
                    let after = recording.at(&state).expect("it exists");
                    let image = after.drives[&slot(n)].visible();
                    assert!(bytes(image) == expected, "seed {seed} {state}");
                }
            }
        }
        let beyond = State::new(recording.end() + 1, Survival::All);
        assert!(recording.at(&beyond).is_none());
        let nowhere = State::new(0, Survival::All).with(slot(9), Survival::All);
        assert!(recording.at(&nowhere).is_none());
    }
}

#[test]
fn states_repeat_and_are_found_again_by_their_text() {
    let plan = Plan {
        seed: 11,
        subsets: 5,
        tears: 2,
        mixed: 40,
    };
    let states = |seed| -> Vec<(String, Snapshot)> {
        let (_, recording, _) = run(seed, 3, 40);
        let at = |s: State| (s.to_string(), recording.at(&s).expect("it exists"));
        recording.states(plan).map(at).collect()
    };
    for seed in 0..5 {
        let (first, again) = (states(seed), states(seed));
        assert!(first == again, "seed {seed}: not the same states");
        let (_, recording, _) = run(seed, 3, 40);
        for ((_, a), (_, b)) in first.iter().zip(first.iter().skip(1)) {
            assert_eq!(a.fingerprint() == b.fingerprint(), a == b, "seed {seed}");
        }
        for (text, snapshot) in &first {
            let state: State = text.parse().expect("its own text");
            assert_eq!(state.to_string(), *text);
            assert_eq!(recording.at(&state).as_ref(), Some(snapshot), "{text}");
        }
        let other: Vec<State> = recording.states(Plan { seed: 12, ..plan }).collect();
        assert!(
            !(other.iter().map(State::to_string)).eq(first.iter().map(|(text, _)| text.clone())),
            "the seed does not matter"
        );
    }
    for bad in [
        "",
        "cut=1",
        "cut=x *=all",
        "*=all cut=1",
        "cut=1 *=all 64=none",
        "cut=1 *=all 1",
    ] {
        assert!(bad.parse::<State>().is_err(), "{bad}");
    }
}

#[test]
fn every_kind_of_state_is_reached_and_each_unflushed_write_is_lost_alone() {
    let plan = Plan {
        seed: 1,
        subsets: 3,
        tears: Plan::ALL_TEARS,
        mixed: 50,
    };
    let (_, recording, past) = run(3, 3, 60);
    let kinds: Tally<Kind> = recording.states(plan).map(|s| s.kind()).collect();
    let epochs: Vec<_> = recording.epochs().collect();
    println!("{} epochs: {kinds}", epochs.len());
    assert_eq!(kinds.of(Kind::Reset), recording.end() + 1, "every prefix");
    assert_eq!(kinds.of(Kind::Lost), epochs.len() as u64);
    assert_eq!(kinds.of(Kind::Subset), 3 * epochs.len() as u64);
    assert_eq!(kinds.of(Kind::Mixed), 50);
    let ends = epochs.iter().map(|e| &past[*e.end() as usize]);
    let unflushed: usize = ends.flatten().map(|plain| plain.cache.len()).sum();
    assert_eq!(kinds.of(Kind::Dropped), unflushed as u64);
    assert_eq!(kinds.of(Kind::Only), unflushed as u64);
    let tears: usize = (epochs.iter().map(|e| *e.end()))
        .flat_map(|cut| (0..3).map(move |n| (cut, slot(n))))
        .flat_map(|(cut, slot)| recording.unflushed(slot, cut))
        .map(|write| Sectors::tears(write.sectors()).len())
        .sum();
    assert_eq!(kinds.of(Kind::Torn), tears as u64);
    let ends = epochs.iter().map(|e| &past[*e.end() as usize]);
    let caches = ends.flatten().map(|plain| plain.cache.len());
    let proper: usize = caches.map(|length| length.saturating_sub(1)).sum();
    assert_eq!(kinds.of(Kind::Prefix), proper as u64);
    let apart: Vec<State> = (recording.states(plan))
        .filter(|s| s.kind() == Kind::Apart)
        .collect();
    let only = |rest: Survival, one: Survival| {
        let of = |s: &&State| s.rest == rest && s.drives.values().eq([&one]);
        apart.iter().filter(of).count()
    };
    let (lost, kept) = (
        only(Survival::All, Survival::None),
        only(Survival::None, Survival::All),
    );
    assert!(lost > 0 && lost == kept && lost + kept == apart.len());
    let covered: Vec<u64> = epochs.into_iter().flatten().collect();
    assert!(
        covered.into_iter().eq(0..=recording.end()),
        "epochs leave positions out"
    );
}

#[test]
fn notes_are_those_before_the_cut() {
    let fleet = Fleet::new(1, &[Bytes(8 * BLOCK)]);
    let drive = fleet.drive(slot(0)).expect("a drive");
    fleet.note(99);
    fleet.record();
    fleet.note(1);
    drive.write(Bytes(0), &[1; BLOCK_SIZE]).expect("no fault");
    fleet.note(2);
    drive.flush().expect("no fault");
    fleet.note(3);
    assert_eq!(fleet.position(), 2);
    let recording = fleet.recorded();
    let by = |cut| recording.notes(cut).collect::<Vec<u64>>();
    assert_eq!([by(0), by(1), by(2)], [vec![1], vec![1, 2], vec![1, 2, 3]]);
    assert_eq!(fleet.recorded().end(), 0, "the recording has ended");
}

#[test]
fn a_reset_keeps_writes_volatile_and_a_recovery_can_be_cut_in_turn() {
    let fleet = Fleet::new(1, &[Bytes(8 * BLOCK)]);
    fleet.record();
    let write = |fleet: &Fleet, n: u8| {
        let drive = fleet.drive(slot(0)).expect("a drive");
        drive
            .write(Bytes(u64::from(n) * BLOCK), &[n; BLOCK_SIZE])
            .expect("no fault");
    };
    write(&fleet, 1);
    let first = fleet.recorded();
    let reset = first
        .at(&State::new(1, Survival::Reset))
        .expect("it exists");
    let recovery = Fleet::start(2, &reset);
    recovery.record();
    write(&recovery, 2);
    let second = recovery.recorded();
    let after = |survival| {
        let after = second.at(&State::new(1, survival)).expect("it exists");
        let written = after.drives[&slot(0)].visible().written();
        written.iter().map(|(n, _)| *n).collect::<Vec<u64>>()
    };
    assert_eq!(after(Survival::Reset), [1, 2]);
    assert_eq!(
        after(Survival::None),
        [0u64; 0],
        "what a reset left was durable"
    );
    assert_eq!(after(Survival::Only(0)), [1]);
    assert_eq!(after(Survival::Dropped(0)), [2]);
    assert!(
        reset.after(&Survival::None).expect("a state")
            != reset.after(&Survival::All).expect("a state")
    );
}

#[test]
fn writes_that_go_out_together_land_in_any_order() {
    let mut orders = BTreeSet::new();
    for seed in 0..100 {
        let fleet = Fleet::new(seed, &[Bytes(8 * BLOCK), Bytes(8 * BLOCK)]);
        fleet.record();
        let data: Vec<Vec<u8>> = (1..=3).map(|n| vec![n; BLOCK_SIZE]).collect();
        let mut writes: Vec<Write<'_>> = (data.iter())
            .map(|data| Write::new(slot(0), Bytes(0), data))
            .collect();
        let nowhere = [0; BLOCK_SIZE];
        writes.push(Write::new(slot(5), Bytes(0), &nowhere));
        writes.push(Write::new(slot(1), Bytes(8 * BLOCK), &nowhere));
        Devices::write(&fleet, &mut writes);
        let outcomes: Vec<_> = writes.iter().map(|w| w.outcome).collect();
        assert_eq!(outcomes[..3], [Ok(()); 3]);
        assert_eq!(
            outcomes[3..],
            [Err(DeviceError::Io), Err(DeviceError::BeyondEnd)]
        );
        let recording = fleet.recorded();
        let order: Vec<u8> = (1..=recording.end())
            .map(|cut| {
                let after = recording
                    .at(&State::new(cut, Survival::All))
                    .expect("it exists");
                bytes(&after.drives[&slot(0)].durable)[0]
            })
            .collect();
        orders.insert(order);
    }
    assert_eq!(orders.len(), 6, "{orders:?}");
}

/// Two writers and one who flushes, at once: the trace, what a power cut at each position leaves, and how often a flush of a
/// single drive left something unflushed, which must have come while it was under way.
fn world(seed: u64, drives: usize) -> (u64, Vec<Snapshot>, usize) {
    let outcome = World::new(seed).run(move || {
        let fleet = Fleet::new(seed, &vec![Bytes(16 * BLOCK); drives]);
        fleet.record();
        let writers: Vec<Worker> = (0..2u64)
            .map(|task| {
                let fleet = fleet.clone();
                Worker::try_spawn(lock_class!("writer"), move || {
                    for n in 0..10 {
                        let data = [(task * 10 + n) as u8 + 1; BLOCK_SIZE];
                        let at = Bytes((n + task) * BLOCK);
                        let mut writes: Vec<Write<'_>> = (0..drives)
                            .map(|drive| Write::new(slot(drive), at, &data))
                            .collect();
                        Devices::write(&fleet, &mut writes);
                    }
                })
                .expect("memory")
            })
            .collect();
        for _ in 0..3 {
            let failed = Devices::flush(&fleet, fleet.members());
            assert_eq!(failed, Members::default());
        }
        writers.into_iter().for_each(Worker::join);
        fleet.recorded()
    });
    let outcome = outcome.expect("a run that ends");
    let recording = outcome.value;
    let late = (recording.epochs().skip(1))
        .filter(|epoch| !recording.unflushed(slot(0), *epoch.start()).is_empty())
        .count();
    let states = (0..=recording.end())
        .filter_map(|cut| recording.at(&State::new(cut, Survival::None)))
        .collect();
    (outcome.trace, states, late)
}

#[test]
fn in_a_world_calls_overlap_and_all_repeats() {
    let mut late = 0;
    for seed in 0..30 {
        let (a, b) = (world(seed, 2), world(seed, 2));
        assert!(a == b, "seed {seed} does not repeat");
        late += world(seed, 1).2;
    }
    assert!(late > 0, "no write came while a flush was under way");
}

#[test]
fn drives_that_share_a_seed_lose_different_writes() {
    let fleet = Fleet::new(1, &[Bytes(16 * BLOCK); 2]);
    fleet.record();
    for drive in fleet.drives() {
        for n in 0..16 {
            drive
                .write(Bytes(n * BLOCK), &[1; BLOCK_SIZE])
                .expect("no fault");
        }
    }
    let recording = fleet.recorded();
    let differ = (0..50).filter(|seed| {
        let state = State::new(recording.end(), Survival::Subset(*seed));
        let after = recording.at(&state).expect("it exists");
        after.drives[&slot(0)] != after.drives[&slot(1)]
    });
    assert!(differ.count() > 40);
}

#[test]
fn mkfs_may_be_cut_anywhere() {
    let host = Host::new(4);
    let sizes = [layout::MIN_DEVICE; 2];
    let options = Options {
        geometry: Geometry::new(1, 1).expect("a geometry that exists"),
        block_hash: BlockHash::Short,
        label: Label::new("simulated").expect("a label that fits"),
        uuid: None,
    };
    let making = Making::new(&host, options, &sizes).expect("a volume that can be made");
    let fleet = Fleet::new(4, &sizes);
    fleet.record();
    for (n, drive) in fleet.drives().iter().enumerate() {
        making.wipe(n, drive).expect("no fault");
    }
    for (n, drive) in fleet.drives().iter().enumerate() {
        making.write(n, &host, drive).expect("no fault");
    }
    let recording = fleet.recorded();
    let plan = Plan {
        seed: 4,
        subsets: 8,
        tears: 1,
        mixed: 50,
    };
    let (mut sound, mut unmade) = (0, 0);
    // Wiping zeros changes nothing here; what is written begins with the roots.
    let quiet = |state: &State| state.kind() == Kind::Reset && state.cut % 16 != 0;
    for state in recording.states(plan).filter(|s| !quiet(s)).step_by(7) {
        let after = Fleet::start(0, &recording.at(&state).expect("it exists"));
        for drive in after.drives() {
            match probe(&drive, &Scalar) {
                Ok(_) => sound += 1,
                Err(Error::NotEmbrfs | Error::NoRoot(_) | Error::Superblock(..)) => unmade += 1,
                Err(error) => panic!("{state}: {error}"),
            }
        }
    }
    assert!(sound > 0 && unmade > 0, "{sound} sound, {unmade} unmade");
}
