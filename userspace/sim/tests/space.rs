// SPDX-License-Identifier: GPL-2.0

//! Full volumes: deleting always works, what was promised is there, and what the volume says of its room is true.

use embr_engine::format::geometry::Geometry;
use embr_engine::names::Error;
use embr_engine::names::Files;
use embr_engine::names::HashWidth;
use embr_engine::names::Names;
use embr_engine::names::New;
use embr_engine::names::Users;
use embr_engine::names::View;
use embr_engine::names::What;
use embr_engine::tree::Key;
use embr_engine::tree::Range;
use embr_engine::units::Blocks;
use embr_engine::units::Bytes;
use embr_engine::units::InodeNo;
use embr_engine::units::Timestamp;
use embr_engine::volume::mounted::NAMES;
use embr_engine::volume::Fault;
use embr_engine::volume::Mounted;
use embrfs_sim::clerk;
use embrfs_sim::fleet::Fleet;
use embrfs_sim::host::seed;
use embrfs_sim::host::Chance;
use embrfs_sim::machine;
use embrfs_sim::machine::Simulated;
use embrfs_sim::tale;

const MIB: u64 = 1 << 20;

/// A volume that survives the loss of `parity` drives, on drives of these sizes in MiB.
fn volume(seed: u64, sizes: &[u64], parity: u8) -> Fleet {
    wide(seed, sizes, ((sizes.len() as u8 - parity).min(4), parity))
}

fn wide(seed: u64, sizes: &[u64], (data, parity): (u8, u8)) -> Fleet {
    let sizes: Vec<Bytes> = sizes.iter().map(|n| Bytes(n * MIB)).collect();
    let fleet = Fleet::new(seed, &sizes);
    let geometry = Geometry::new(data, parity).expect("a geometry");
    machine::make(seed, &fleet, geometry).expect("made");
    fleet
}

fn mount(seed: u64, fleet: &Fleet) -> Mounted<Simulated> {
    machine::mount(seed, fleet, machine::READ_WRITE).expect("mounts")
}

fn new(what: What<'_>) -> New<'_> {
    New {
        what,
        ..clerk::root()
    }
}

/// The longest name with this number in it.
fn long_name(number: u64) -> Vec<u8> {
    let mut name = format!("{number:020}").into_bytes();
    name.resize(255, b'n');
    name
}

/// Makes files until there is no space left; their numbers.
fn fill(files: Files<'_, Simulated>, chance: &Chance, first: u64) -> Vec<u64> {
    let target = vec![b't'; 4095];
    for number in first.. {
        let what = match chance.below(8) {
            0 => What::Symlink(&target),
            1 => What::Directory,
            _ => What::Regular,
        };
        match files.create(InodeNo::ROOT, &long_name(number), &new(what)) {
            Ok(_) => {}
            Err(Error::NoSpace) => return (first..number).collect(),
            Err(why) => panic!("file {number}: {why}"),
        }
    }
    unreachable!("a volume is finite")
}

/// Removes a file as its kind wants it.
fn remove(files: Files<'_, Simulated>, number: u64) -> Result<(), Error> {
    let name = long_name(number);
    match files.unlink(InodeNo::ROOT, &name, Users::None, Timestamp::default()) {
        Err(Error::IsDirectory) => {
            files.rmdir(InodeNo::ROOT, &name, Users::None, Timestamp::default())
        }
        done => done,
    }
    .map(|_| ())
}

fn cycles(seed: u64, sizes: &[u64], parity: u8, left: u64, rounds: usize) {
    let chance = Chance::new(seed);
    let fleet = volume(seed, sizes, parity);
    let mut mounted = mount(seed, &fleet);
    let mut names = Names::try_new(HashWidth::Full).expect("memory");
    let view = View::first();
    let root = new(What::Directory);
    names.of(&mounted, &view).format(&root).expect("formatted");
    tale::take_all_but(&mounted, left).expect("healthy drives");
    let mut fewest = usize::MAX;
    let mut most = 0;
    for round in 0..rounds {
        let files = names.of(&mounted, &view);
        let mut numbers = fill(files, &chance, round as u64 * 1_000_000);
        fewest = fewest.min(numbers.len());
        most = most.max(numbers.len());
        if chance.below(2) == 0 {
            // In any order, or the one in which they were made.
            for last in (1..numbers.len()).rev() {
                numbers.swap(last, chance.below(last + 1));
            }
        }
        let crash_at = match chance.below(3) {
            0 => chance.below(numbers.len()),
            _ => usize::MAX,
        };
        for (n, number) in numbers.iter().enumerate() {
            if n == crash_at {
                mounted.sync().expect("healthy drives");
                drop(mounted);
                mounted = mount(seed ^ round as u64, &fleet);
                names = Names::try_new(HashWidth::Full).expect("memory");
            }
            let files = names.of(&mounted, &view);
            remove(files, *number).unwrap_or_else(|why| {
                panic!("round {round}, file {n} of {}: {why}", numbers.len())
            });
        }
    }
    println!(
        "{sizes:?} MiB, m = {parity}: {fewest} to {most} files, root {:?}",
        mounted.generation()
    );
    assert!(
        fewest > most / 2,
        "room was lost from one round to the next"
    );
}

#[test]
fn full_and_empty_again_on_one_drive() {
    cycles(seed(), &[32], 0, 800, 50);
    cycles(seed(), &[32], 0, u64::MAX / 2, 1);
}

#[test]
fn full_and_empty_again_on_two_drives() {
    cycles(seed(), &[32, 32], 1, 600, 20);
}

#[test]
fn full_and_empty_again_on_uneven_drives() {
    cycles(seed(), &[64, 32, 40], 1, 600, 10);
    cycles(seed(), &[32, 48], 0, 1000, 10);
}

#[test]
fn full_and_empty_again_on_six_drives() {
    cycles(seed(), &[32; 6], 2, 600, 10);
}

/// What a volume of copies says can be written can be, within a few percent, and not much more.
#[test]
fn what_is_available_can_be_written() {
    let seed = seed();
    for (sizes, parity) in [
        (&[64][..], 0),
        (&[64, 64], 1),
        (&[48, 64, 96], 1),
        (&[48; 6], 2),
    ] {
        let fleet = wide(seed, sizes, (1, parity));
        let mounted = mount(seed, &fleet);
        let usage = mounted.statfs();
        assert_eq!(usage.available, usage.free);
        assert!(usage.total >= usage.available);
        let mut written = 0;
        let mut all = Vec::new();
        loop {
            let mut promise = match mounted.promise(Blocks(64)) {
                Ok(promise) => promise,
                Err(why) => {
                    assert_eq!(why, Fault::NoSpace);
                    break;
                }
            };
            let mut txn = mounted.begin().expect("writable");
            while promise.blocks().0 != 0 {
                let mut extents = embr_rt::Vec::new();
                let most = promise.blocks();
                let length = (mounted.allocate_promised(&mut promise, most, &mut extents))
                    .expect("promised");
                assert_eq!(extents.len(), usize::from(parity) + 1);
                for extent in &extents {
                    assert_eq!(extent.blocks, length);
                }
                txn.take_promised(&mut promise, &extents).expect("room");
                all.extend(extents.iter().copied());
                written += length.0;
            }
            let key = Key([written, 0, 0]);
            txn.set(NAMES, key, &[7; 64]).expect("room");
            txn.commit_under(&mut promise).expect("promised");
        }
        println!(
            "{sizes:?} MiB, m = {parity}: {usage:?}, {written} written, left {:?}",
            mounted.statfs()
        );
        assert!(
            written >= usage.available.0 / 100 * 93,
            "{written} of {usage:?}"
        );
        assert!(
            written <= usage.available.0 / 100 * 104,
            "{written} of {usage:?}"
        );
        // All of it can be freed.
        for extents in all.chunks(50) {
            let mut txn = mounted.begin_freeing().expect("writable");
            for extent in extents {
                txn.free(*extent).expect("room");
            }
            txn.commit().expect("freeing works on a full volume");
        }
        mounted.checkpoint().expect("healthy drives");
        mounted.checkpoint().expect("healthy drives");
        let after = mounted.statfs();
        assert!(
            after.available.0 + 400 > usage.available.0,
            "{after:?} of {usage:?}"
        );
    }
}

/// How a tree is changed, to find out how many nodes it takes.
fn change(mounted: &Mounted<Simulated>, chance: &Chance, keys: u64) -> Result<(), Fault> {
    let mut txn = match chance.below(3) {
        0 => mounted.begin()?,
        _ => mounted.begin_freeing()?,
    };
    let key = |n: u64| Key([n, 0, 0]);
    let at = chance.next() % keys;
    match chance.below(10) {
        0 => txn.remove_range(
            NAMES,
            Range {
                first: key(at),
                last: key(at + chance.next() % 400),
            },
        )?,
        1..=3 => {
            for _ in 0..chance.below(10) {
                txn.remove(NAMES, key(chance.next() % keys))?;
            }
        }
        // All but every eighth of a row: its leaves are left with too little.
        4 => {
            for n in (at..at + 12).filter(|n| n % 8 != 0) {
                txn.remove(NAMES, key(n))?;
            }
        }
        _ => {
            let length = chance.one(&[0, 100, 1000, 4000, 4224]);
            for _ in 0..1 + chance.below(3) {
                let value = vec![1; length];
                txn.set(NAMES, key(chance.next() % keys), &value)?;
            }
        }
    }
    txn.commit().map(|_| ())
}

/// Whatever is changed in trees of every shape, a checkpoint writes no more nodes than its transactions were granted and the floor has.
#[test]
fn no_checkpoint_takes_more_than_was_granted() {
    let seed = seed();
    let chance = Chance::new(seed);
    let (mut deepest, mut refused) = (0, 0);
    for (sizes, parity) in [(&[32][..], 0), (&[96], 0), (&[40, 40], 1), (&[32; 4], 2)] {
        let fleet = volume(seed, sizes, parity);
        let mounted = mount(seed, &fleet);
        let keys = chance.one(&[100, 1000, 30000]);
        let spare = chance.one(&[0, 400, u64::MAX]);
        tale::take_all_but(&mounted, spare).expect("healthy drives");
        for step in 0..1500 {
            match change(&mounted, &chance, keys) {
                Ok(()) => {}
                Err(Fault::NoSpace) => refused += 1,
                Err(why) => panic!("step {step}: {why}"),
            }
            if chance.below(20) == 0 {
                mounted.checkpoint().expect("there is always room for it");
            }
            tale::audit_promises(&mounted).unwrap_or_else(|why| panic!("step {step}: {why}"));
        }
        let ledger = mounted.ledger();
        deepest = deepest.max(ledger.overdrawn);
        println!("{sizes:?} MiB, m = {parity}, {keys} keys: {ledger:?}");
    }
    println!("{refused} refused, {deepest} of the reserve");
}
