// SPDX-License-Identifier: GPL-2.0

//! Every fault of the simulated drives: that it does what it says and no more, is counted, repeats from its seed, and is part of
//! what a crash leaves.

use embr_engine::env::Device as _;
use embr_engine::env::DeviceError;
use embr_engine::env::Devices;
use embr_engine::env::WritableDevice as _;
use embr_engine::format::member::Members;
use embr_engine::format::member::Slot;
use embr_engine::units::Bytes;
use embr_engine::units::BLOCK_SIZE;
use embrfs_sim::cache::Contents;
use embrfs_sim::cache::Survival;
use embrfs_sim::fault::Fault;
use embrfs_sim::fault::FlushFault;
use embrfs_sim::fault::Injected;
use embrfs_sim::fault::Odds;
use embrfs_sim::fault::ReadFault;
use embrfs_sim::fault::When;
use embrfs_sim::fault::WriteFault;
use embrfs_sim::fleet::DriveHandle;
use embrfs_sim::fleet::Fleet;
use embrfs_sim::host::Chance;
use embrfs_sim::recording::State;
use embrfs_sim::tally::Tally;

const BLOCK: u64 = BLOCK_SIZE as u64;
const BLOCKS: u64 = 16;

fn slot(n: usize) -> Slot {
    Slot::new(n).expect("a slot")
}

/// A fleet of these many drives whose block n is full of n + 1, durably, recorded from here on.
fn filled(seed: u64, drives: usize) -> Fleet {
    let fleet = Fleet::new(seed, &vec![Bytes(BLOCKS * BLOCK); drives]);
    for drive in fleet.drives() {
        for n in 0..BLOCKS {
            put(&drive, n, n as u8 + 1).expect("no fault");
        }
        drive.flush().expect("no fault");
    }
    fleet.record();
    fleet
}

fn first(fleet: &Fleet) -> DriveHandle {
    fleet.drive(slot(0)).expect("a drive")
}

fn put(drive: &DriveHandle, n: u64, value: u8) -> Result<(), DeviceError> {
    drive.write(Bytes(n * BLOCK), &[value; BLOCK_SIZE])
}

fn get(drive: &DriveHandle, n: u64) -> Result<[u8; BLOCK_SIZE], DeviceError> {
    let mut bytes = [0; BLOCK_SIZE];
    drive.read(Bytes(n * BLOCK), &mut bytes).map(|()| bytes)
}

/// The bits in which the drive differs from one that was filled, by block.
fn differences(drive: &DriveHandle) -> Vec<(u64, u32)> {
    (0..BLOCKS)
        .filter_map(|n| {
            let bytes = get(drive, n).expect("no fault");
            let bits = bytes.iter().map(|b| (b ^ (n as u8 + 1)).count_ones()).sum();
            (bits > 0).then_some((n, bits))
        })
        .collect()
}

fn lost_power(fleet: &Fleet) -> Fleet {
    let after = fleet.snapshot().after(&Survival::None).expect("a state");
    Fleet::start(0, &after)
}

#[test]
fn reads_fail_when_they_were_told_to() {
    let fleet = filled(1, 1);
    let drive = first(&fleet);
    fleet.expect(slot(0), Fault::Read(When::After(1), ReadFault::Fail));
    let results: Vec<bool> = (0..4).map(|_| get(&drive, 0).is_ok()).collect();
    assert_eq!(results, [true, false, true, true]);
    let range = Bytes(3 * BLOCK)..Bytes(5 * BLOCK);
    fleet.expect(slot(0), Fault::Read(When::Within(range), ReadFault::Fail));
    let failing: Vec<u64> = (0..BLOCKS).filter(|n| get(&drive, *n).is_err()).collect();
    assert_eq!(failing, [3, 4]);
    let mut wide = [0; 2 * BLOCK_SIZE];
    assert_eq!(
        drive.read(Bytes(2 * BLOCK), &mut wide),
        Err(DeviceError::Io)
    );
    put(&drive, 3, 0).expect("writes do not fail");
    fleet.expect(slot(0), Fault::Read(When::From(2), ReadFault::Fail));
    let results: Vec<bool> = (0..5).map(|_| get(&drive, 0).is_ok()).collect();
    assert_eq!(results, [true, true, false, false, false]);
    assert_eq!(fleet.injected().of(Injected::ReadFailed), 7);
    fleet.heal();
    assert!((0..BLOCKS).all(|n| get(&drive, n).is_ok()));
    assert_eq!(fleet.injected().total(), 7, "{}", fleet.injected());
}

#[test]
fn a_garbled_read_is_wrong_once_and_a_rotten_block_for_ever() {
    for seed in 0..20 {
        let fleet = filled(seed, 1);
        let drive = first(&fleet);
        let wrong =
            |bytes: [u8; BLOCK_SIZE]| -> u32 { bytes.iter().map(|b| (b ^ 3).count_ones()).sum() };
        fleet.expect(slot(0), Fault::Read(When::After(0), ReadFault::Garble));
        assert_eq!(wrong(get(&drive, 2).expect("no error")), 1);
        assert_eq!(differences(&drive), []);
        fleet.expect(slot(0), Fault::Read(When::After(0), ReadFault::Rot));
        assert_eq!(wrong(get(&drive, 2).expect("no error")), 1);
        assert_eq!(differences(&drive), [(2, 1)]);
        put(&drive, 2, 3).expect("no fault");
        assert_eq!(differences(&drive), [], "the cache hides it");
        assert_eq!(differences(&first(&lost_power(&fleet))), [(2, 1)]);
        drive.flush().expect("no fault");
        assert_eq!(
            differences(&first(&lost_power(&fleet))),
            [],
            "a write mends it"
        );
        let injected = fleet.injected();
        assert_eq!(
            (
                injected.of(Injected::Garbled),
                injected.of(Injected::Rotted)
            ),
            (1, 1)
        );
        // The recording has it too: filled, then rotten, then written over.
        let recording = fleet.recorded();
        let at = |cut| {
            Fleet::start(
                0,
                &recording
                    .at(&State::new(cut, Survival::None))
                    .expect("it exists"),
            )
        };
        assert_eq!(differences(&first(&at(0))), []);
        assert_eq!(differences(&first(&at(1))), [(2, 1)]);
        assert_eq!(differences(&first(&at(3))), []);
    }
}

#[test]
fn rot_befalls_the_medium_where_it_says() {
    for seed in 0..20 {
        let fleet = filled(seed, 2);
        let places = fleet.rot_some(slot(1), 5);
        let mut rotten: Vec<(u64, u32)> = places.iter().map(|at| (at.0 / BLOCK, 1)).collect();
        rotten.sort();
        rotten.dedup();
        assert_eq!(rotten.len(), 5, "one bit in each of five blocks");
        assert_eq!(differences(&fleet.drive(slot(1)).expect("a drive")), rotten);
        assert_eq!(differences(&first(&fleet)), [], "another drive");
        fleet.rot(slot(0), Bytes(7 * BLOCK + 100), 0b11);
        assert_eq!(differences(&first(&fleet)), [(7, 2)]);
        assert_eq!(fleet.rot_some(slot(0), 99).len(), BLOCKS as usize);
    }
}

#[test]
fn rot_under_a_cache_leaves_the_cache_as_it_is() {
    let fleet = filled(1, 1);
    let drive = first(&fleet);
    put(&drive, 5, 0xff).expect("no fault");
    put(&drive, 6, 0xff).expect("no fault");
    let cached = differences(&drive);
    fleet.rot(slot(0), Bytes(2 * BLOCK), 1);
    fleet.rot(slot(0), Bytes(5 * BLOCK), 1);
    let mut both = vec![(2, 1)];
    both.extend(cached);
    assert_eq!(differences(&drive), both);
    drive.flush().expect("no fault");
    assert_eq!(differences(&first(&lost_power(&fleet))), both);
}

#[test]
fn a_failed_write_leaves_any_part_of_itself() {
    let mut left = Tally::default();
    for seed in 0..200 {
        let fleet = filled(seed, 1);
        let drive = first(&fleet);
        fleet.expect(slot(0), Fault::Write(When::After(0), WriteFault::Fail));
        assert_eq!(put(&drive, 4, 0xff), Err(DeviceError::Io));
        let bytes = get(&drive, 4).expect("no fault");
        for sector in bytes.chunks(512) {
            assert!([0xff, 5].contains(&sector[0]) && sector.iter().all(|b| *b == sector[0]));
        }
        let new = bytes.iter().filter(|b| **b == 0xff).count() / 512;
        assert_eq!(differences(&drive).len(), usize::from(new > 0));
        left.add(new);
        assert_eq!(
            differences(&first(&lost_power(&fleet))),
            [],
            "it is in the cache"
        );
        assert_eq!(put(&drive, 4, 5), Ok(()));
        assert_eq!(fleet.injected().of(Injected::WriteFailed), 1);
    }
    assert!((0..=8).all(|n| left.of(n) > 0), "sectors left: {left}");
}

#[test]
fn misdirected_and_lost_writes_are_acknowledged() {
    for seed in 0..50 {
        let fleet = filled(seed, 1);
        let drive = first(&fleet);
        let range = Bytes(4 * BLOCK)..Bytes(5 * BLOCK);
        fleet.expect(
            slot(0),
            Fault::Write(When::Within(range), WriteFault::Misdirect(Some(14))),
        );
        put(&drive, 4, 0xff).expect("it is acknowledged");
        drive.flush().expect("no fault");
        let hit: Vec<u64> = differences(&first(&lost_power(&fleet)))
            .iter()
            .map(|d| d.0)
            .collect();
        assert_eq!(hit, [2], "round the end");
        fleet.heal();
        put(&drive, 2, 3).expect("no fault");
        fleet.expect(
            slot(0),
            Fault::Write(When::After(0), WriteFault::Misdirect(None)),
        );
        put(&drive, 9, 0xff).expect("it is acknowledged");
        let hit: Vec<u64> = differences(&drive).iter().map(|d| d.0).collect();
        assert!(hit.len() == 1 && hit[0] != 9, "{hit:?}");
        put(&drive, hit[0], hit[0] as u8 + 1).expect("no fault");
        fleet.expect(slot(0), Fault::Write(When::After(0), WriteFault::Lose));
        put(&drive, 9, 0xff).expect("it is acknowledged");
        drive.flush().expect("no fault");
        assert_eq!(differences(&drive), []);
        let injected = fleet.injected();
        assert_eq!(
            (
                injected.of(Injected::Misdirected),
                injected.of(Injected::Lost)
            ),
            (2, 1)
        );
    }
}

#[test]
fn a_failed_flush_keeps_or_loses_and_one_that_lies_does_nothing() {
    let mut kept = Tally::default();
    for seed in 0..100 {
        let fleet = filled(seed, 2);
        let drive = first(&fleet);
        put(&drive, 1, 0xff).expect("no fault");
        put(&drive, 2, 0xff).expect("no fault");
        fleet.expect(
            slot(0),
            Fault::Flush(When::After(0), FlushFault::Fail(None)),
        );
        let failed = Devices::flush(&fleet, fleet.members());
        assert_eq!(
            failed,
            Members::default().with(slot(0)),
            "only that drive's flush fails"
        );
        let seen = differences(&drive).len();
        drive.flush().expect("no fault");
        assert_eq!(differences(&first(&lost_power(&fleet))).len(), seen);
        kept.add(seen);
    }
    assert!((0..=2).all(|n| kept.of(n) > 0), "{kept}");
    let fleet = filled(1, 1);
    let drive = first(&fleet);
    put(&drive, 1, 0xff).expect("no fault");
    let fault = FlushFault::Fail(Some(Survival::None));
    fleet.expect(slot(0), Fault::Flush(When::After(0), fault));
    fleet.expect(slot(0), Fault::Flush(When::After(1), FlushFault::Lie));
    assert_eq!(drive.flush(), Err(DeviceError::Io));
    assert_eq!(differences(&drive), []);
    put(&drive, 1, 0xff).expect("no fault");
    drive.flush().expect("it lies");
    assert_eq!(differences(&first(&lost_power(&fleet))), []);
    drive.flush().expect("no fault");
    assert_eq!(differences(&first(&lost_power(&fleet))).len(), 1);
    let injected = fleet.injected();
    assert_eq!(
        (
            injected.of(Injected::FlushFailed),
            injected.of(Injected::Lied)
        ),
        (1, 1)
    );
}

#[test]
fn a_drive_that_vanished_comes_back_stale() {
    for fault in [
        Fault::Read(When::After(0), ReadFault::Vanish),
        Fault::Write(When::After(0), WriteFault::Vanish),
        Fault::Flush(When::After(0), FlushFault::Vanish),
    ] {
        let fleet = filled(1, 2);
        let drive = first(&fleet);
        put(&drive, 1, 0xff).expect("no fault");
        drive.flush().expect("no fault");
        put(&drive, 2, 0xff).expect("no fault");
        fleet.expect(slot(0), fault);
        let gone = [
            get(&drive, 0).is_err(),
            put(&drive, 3, 9).is_err(),
            drive.flush().is_err(),
        ];
        assert!(gone.contains(&true));
        assert_eq!(get(&drive, 0), Err(DeviceError::Io));
        assert_eq!(put(&drive, 3, 9), Err(DeviceError::Io));
        assert_eq!(drive.flush(), Err(DeviceError::Io));
        assert!(fleet.members().has(slot(0)), "its place is kept");
        // It is as absent after a crash.
        let recording = fleet.recorded();
        let crash = State::new(recording.end(), Survival::All);
        let after = Fleet::start(0, &recording.at(&crash).expect("it exists"));
        assert_eq!(get(&first(&after), 0), Err(DeviceError::Io));
        assert!(get(&after.drive(slot(1)).expect("a drive"), 0).is_ok());
        fleet.come_back(slot(0), &Survival::None);
        assert!(
            !differences(&drive).iter().any(|d| d.0 == 2),
            "its cache is lost"
        );
        assert!(differences(&drive).iter().any(|d| d.0 == 1));
        assert_eq!(fleet.injected().of(Injected::Vanished), 1);
        assert_eq!(fleet.injected().of(Injected::CameBack), 1);
    }
}

#[test]
fn a_full_drive_takes_what_needs_no_room() {
    let fleet = Fleet::new(1, &[Bytes(BLOCKS * BLOCK)]);
    let drive = first(&fleet);
    put(&drive, 0, 1).expect("no fault");
    fleet.limit(slot(0), Some(2));
    put(&drive, 0, 2).expect("written before");
    put(&drive, 1, 1).expect("room for two");
    assert!(drive.write(Bytes(2 * BLOCK), &[1; 2 * BLOCK_SIZE]).is_err());
    put(&drive, 2, 1).expect("room for one");
    assert_eq!(put(&drive, 3, 1), Err(DeviceError::Io));
    put(&drive, 2, 2).expect("written before");
    fleet.limit(slot(0), None);
    put(&drive, 3, 1).expect("no limit");
    assert_eq!(fleet.injected().of(Injected::Full), 2);
}

#[test]
fn a_fleet_is_used_apart_and_joined_again() {
    let fleet = filled(1, 4);
    let (a, b) = fleet.snapshot().split(Members(0b0011));
    let (left, right) = (Fleet::start(1, &a), Fleet::start(2, &b));
    assert_eq!(
        (left.members(), right.members()),
        (Members(0b0011), Members(0b1100))
    );
    assert!(left.drive(slot(2)).is_none());
    put(&left.drive(slot(0)).expect("a drive"), 0, 0xaa).expect("no fault");
    put(&right.drive(slot(3)).expect("a drive"), 0, 0xbb).expect("no fault");
    let whole = left
        .snapshot()
        .join(right.snapshot())
        .expect("no place twice");
    let joined = Fleet::start(3, &whole);
    let firsts: Vec<u8> = joined
        .drives()
        .iter()
        .map(|d| get(d, 0).expect("no fault")[0])
        .collect();
    assert_eq!(firsts, [0xaa, 1, 1, 0xbb]);
    assert_eq!(
        get(&first(&fleet), 0).expect("no fault")[0],
        1,
        "the first fleet saw nothing"
    );
    assert!(left.snapshot().join(fleet.snapshot()).is_none());
}

#[test]
fn drives_come_and_go_within_a_recording() {
    let fleet = filled(1, 1);
    let new = Contents::new(Bytes(BLOCKS * BLOCK));
    assert!(fleet.put(slot(7), new.clone()).is_none());
    fleet.expect(slot(7), Fault::Read(When::After(0), ReadFault::Fail));
    assert!(get(&fleet.drive(slot(7)).expect("a drive"), 0).is_err());
    put(&fleet.drive(slot(7)).expect("a drive"), 0, 7).expect("no fault");
    assert_eq!(
        fleet.put(slot(7), new).expect("it was there").cache.len(),
        1
    );
    assert!(fleet.take(slot(7)).is_some() && fleet.take(slot(7)).is_none());
    assert_eq!(
        fleet.injected().of(Injected::ReadFailed),
        1,
        "it counts when the drive is gone"
    );
    let recording = fleet.recorded();
    let there: Vec<bool> = (0..=recording.end())
        .map(|cut| {
            let after = recording
                .at(&State::new(cut, Survival::All))
                .expect("it exists");
            after.drives.contains_key(&slot(7))
        })
        .collect();
    assert_eq!(there, [false, true, true, true, false]);
    assert_eq!(recording.unflushed(slot(7), 2).len(), 1);
    assert_eq!(recording.unflushed(slot(7), 3).len(), 0);
}

#[test]
fn power_is_cut_for_one_drive_alone() {
    let fleet = filled(1, 2);
    for drive in fleet.drives() {
        put(&drive, 1, 0xff).expect("no fault");
    }
    fleet.cut_power(slot(1), &Survival::None);
    let changed: Vec<usize> = fleet
        .drives()
        .iter()
        .map(|d| differences(d).len())
        .collect();
    assert_eq!(changed, [1, 0]);
    assert_eq!(fleet.injected().of(Injected::PowerCut), 1);
}

/// Calls by chance, with everything going wrong: what they returned, what was injected, and what is left.
fn storm(seed: u64) -> (Vec<bool>, Tally<Injected>, Vec<String>) {
    let odds = Odds {
        read_fails: 2000,
        rot: 2000,
        garble: 2000,
        write_fails: 2000,
        misdirects: 2000,
        loses: 2000,
        flush_fails: 6000,
        lies: 6000,
        vanishes: 300,
        refuses: 0,
    };
    let fleet = filled(seed, 3);
    let chance = Chance::new(seed);
    let drives = fleet.drives();
    drives.iter().for_each(|d| fleet.odds(d.slot(), odds));
    let results = (0..300)
        .map(|n| {
            let drive = &drives[chance.below(drives.len())];
            let at = chance.next() % BLOCKS;
            match chance.below(8) {
                0 => drive.flush().is_ok(),
                1..=3 => get(drive, at).is_ok(),
                _ => put(drive, at, n as u8).is_ok(),
            }
        })
        .collect();
    let injected = fleet.injected();
    let recording = fleet.recorded();
    let left = (0..=recording.end())
        .map(|cut| {
            let state = State::new(cut, Survival::Subset(seed));
            let after = recording.at(&state).expect("it exists");
            let sums = after.drives.values().map(|contents| {
                let blocks = contents.durable.written();
                let bytes = blocks
                    .iter()
                    .flat_map(|(n, b)| b.iter().map(move |b| u64::from(*b) + n * 31));
                bytes.fold(0u64, |sum, b| sum.wrapping_mul(0x100_0000_01b3) ^ b)
            });
            format!("{:x?}", sums.collect::<Vec<u64>>())
        })
        .collect();
    (results, injected, left)
}

#[test]
fn odds_reach_every_fault_and_repeat() {
    let mut all = Tally::default();
    for seed in 0..10 {
        let (a, b) = (storm(seed), storm(seed));
        assert!(a == b, "seed {seed} does not repeat");
        assert!(a.2 != storm(seed + 100).2, "the seed does not matter");
        all.merge(&a.1);
    }
    println!("{all}");
    for kind in [
        Injected::ReadFailed,
        Injected::Rotted,
        Injected::Garbled,
        Injected::WriteFailed,
        Injected::Misdirected,
        Injected::Lost,
        Injected::FlushFailed,
        Injected::Lied,
        Injected::Vanished,
    ] {
        assert!(all.of(kind) > 0, "{kind:?} never happened: {all}");
    }
}
