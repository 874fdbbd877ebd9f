// SPDX-License-Identifier: GPL-2.0

//! Operations on what files hold, drawn from a seed, beside plain bytes: on volumes that are unmounted now and then, with snapshots,
//! that crash, that rot, whose drives fail, and that are full.

use embr_engine::env::Devices as _;
use embr_engine::file::Dirty;
use embr_engine::file::Pair;
use embr_engine::file::Way;
use embr_engine::file::Written;
use embr_engine::format::extent::WINDOW;
use embr_engine::format::member::Slot;
use embr_engine::names::Error;
use embr_engine::names::Files;
use embr_engine::names::Users;
use embr_engine::names::View;
use embr_engine::tree::TreeError;
use embr_engine::units::Blocks;
use embr_engine::units::Bytes;
use embr_engine::units::FileBlock;
use embr_engine::units::InodeNo;
use embr_engine::units::SnapshotId;
use embr_engine::units::BLOCK_SIZE;
use embr_engine::volume::recover::Options;
use embr_engine::volume::Fault;
use embr_engine::volume::Machine as _;
use embr_engine::volume::Mounted;
use embr_rt::failpoint;
use embrfs_sim::contents;
use embrfs_sim::contents::Copies;
use embrfs_sim::desk;
use embrfs_sim::desk::create;
use embrfs_sim::desk::mount;
use embrfs_sim::desk::names;
use embrfs_sim::desk::one_file;
use embrfs_sim::desk::pattern;
use embrfs_sim::desk::write;
use embrfs_sim::fault::Fault as DriveFault;
use embrfs_sim::fault::When;
use embrfs_sim::fault::WriteFault;
use embrfs_sim::fleet::Fleet;
use embrfs_sim::host::seed;
use embrfs_sim::host::Chance;
use embrfs_sim::machine;
use embrfs_sim::machine::Simulated;
use embrfs_sim::manuscript;
use embrfs_sim::manuscript::Manuscript;
use embrfs_sim::scribe::Scribe;
use embrfs_sim::scribe::Shape;
use embrfs_sim::scribe::NOW;
use embrfs_sim::states::Plan;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::Duration;

/// Drives, and a volume on them that bears the loss of so many.
fn drives(chance: &Chance, count: usize, parity: u8) -> Fleet {
    drives_of(chance, Bytes(32 << 20), count, parity)
}

fn drives_of(chance: &Chance, size: Bytes, count: usize, parity: u8) -> Fleet {
    desk::drives(chance, size, count, (1, parity))
}

#[test]
fn a_file_beside_plain_bytes() {
    let chance = &Chance::new(seed());
    let fleet = drives(chance, 2, 1);
    let mut mounted = mount(chance, &fleet);
    let mut names_of = names();
    let view = View::first();
    let file = one_file(&mounted, &names_of, &view);
    let mut scribe = Scribe::new(chance, file, 100);
    scribe.losses = Some(0..=1);
    for step in 0..600 {
        let files = names_of.of(&mounted, &view);
        let (_, done) = scribe.step(files);
        done.unwrap_or_else(|why| panic!("step {step}: {why}"));
        if chance.below(4) == 0 {
            (scribe.compare(files)).unwrap_or_else(|why| panic!("step {step}: {why}"));
        }
        if chance.below(20) == 0 {
            contents::audit(&mounted).unwrap_or_else(|why| panic!("step {step}: {why}"));
        }
        if chance.below(40) == 0 {
            mounted.close().expect("closed");
            mounted = mount(chance, &fleet);
            names_of = names();
        }
    }
    let files = names_of.of(&mounted, &view);
    (scribe.compare(files)).unwrap_or_else(|why| panic!("{why}"));
    for what in [
        "inline",
        "sealed",
        "clone",
        "dedupe",
        "truncate",
        "punch",
        "zero",
        "preallocate",
        "collapse",
        "insert",
    ] {
        assert!(scribe.seen.contains_key(what), "{what} never happened");
    }
    files
        .unlink(InodeNo::ROOT, b"file", Users::None, NOW)
        .expect("unlinked");
    assert_eq!(contents::audit(&mounted), Ok(0));
}

/// What is written in one snapshot is not seen in the others, and what one gives up the others keep.
#[test]
fn snapshots_keep_what_files_hold() {
    let chance = &Chance::new(seed());
    for _ in 0..3 {
        let fleet = drives(chance, 2, 1);
        let mounted = mount(chance, &fleet);
        let names = names();
        let ids = |list: &[u64]| list.iter().copied().map(SnapshotId).collect::<Vec<_>>();
        let view = |id, before: &[u64]| {
            let view = View::new(SnapshotId(id), &ids(before)).expect("memory");
            view.expect("a view")
        };
        let views = [view(1, &[]), view(2, &[1]), view(3, &[1]), view(4, &[1, 2])];
        let grew_from = [0, 0, 0, 1];
        let file = one_file(&mounted, &names, &views[0]);
        let mut scribes = vec![Scribe::new(chance, file, 70)];
        scribes[0].losses = Some(0..=1);
        for n in 0..4 {
            if n != 0 {
                scribes.push(scribes[grew_from[n]].clone());
            }
            for step in 0..60 {
                let (_, done) = scribes[n].step(names.of(&mounted, &views[n]));
                done.unwrap_or_else(|why| panic!("snapshot {n}, step {step}: {why}"));
                if chance.below(30) == 0 {
                    mounted.checkpoint().expect("a checkpoint");
                }
            }
            for (scribe, view) in scribes.iter().zip(&views) {
                (scribe.compare(names.of(&mounted, view)))
                    .unwrap_or_else(|why| panic!("{:?} after {n}: {why}", view.current()));
            }
        }
        let last = names.of(&mounted, &views[3]);
        last.unlink(InodeNo::ROOT, b"file", Users::None, NOW)
            .expect("unlinked");
        assert_eq!(last.inode(file).err(), Some(Error::NotFound));
        for (scribe, view) in scribes.iter().zip(&views).take(3) {
            (scribe.compare(names.of(&mounted, view))).unwrap_or_else(|why| panic!("{why}"));
        }
    }
}

#[test]
fn crashes_leave_completed_writes_and_sizes_that_agree() {
    let chance = Chance::new(seed());
    let (mut states, mut intents) = (0, 0);
    while states < 400 {
        let story = Manuscript::drawn(chance.next(), None).unwrap_or_else(|why| panic!("{why}"));
        let plan = Plan {
            seed: chance.next(),
            subsets: 3,
            tears: 1,
            mixed: 20,
        };
        for (state, own) in story.recording.some(plan, 60.0) {
            states += 1;
            match story.check(own.next(), &state, own.below(4) == 0) {
                Ok(seen) => intents += seen.intents,
                Err(why) => panic!("{state}: {why}"),
            }
        }
    }
    println!("{states} states, {intents} intents");
}

#[test]
fn what_a_crash_left_half_done_is_seen_as_done_and_carried_out() {
    let chance = Chance::new(seed());
    for operation in manuscript::LONG {
        let story =
            Manuscript::long(chance.next(), operation, false).unwrap_or_else(|why| panic!("{why}"));
        let plan = Plan {
            seed: chance.next(),
            subsets: 1,
            tears: 0,
            mixed: 0,
        };
        let mut intents = 0;
        for (state, own) in story.recording.some(plan, 40.0) {
            match story.check(own.next(), &state, own.below(4) == 0) {
                Ok(seen) => intents += seen.intents,
                Err(why) => panic!("{operation}: {state}: {why}"),
            }
        }
        let has_none = ["inline", "sealed", "clone", "dedupe"].contains(&operation);
        assert_eq!(intents == 0, has_none, "{operation}: {intents} intents");
    }
}

/// Where each block of the only file lies, on every drive.
fn places(mounted: &Mounted<Simulated>, blocks: usize) -> Vec<Vec<(Slot, Blocks)>> {
    let engrams = contents::engrams(mounted).expect("engrams");
    let mut found = vec![Vec::new(); blocks];
    for known in engrams.values() {
        for (block, (_, at)) in known
            .owners
            .iter()
            .filter(|(_, (_, at))| *at < blocks as u64)
        {
            let each = known.map.extents(*block, 1);
            found[*at as usize] = each.map(|e| (e.device, e.start)).collect();
        }
    }
    found
}

#[test]
fn a_bad_copy_is_repaired_and_none_is_believed() {
    let chance = &Chance::new(seed());
    let fleet = drives(chance, 3, 1);
    let mounted = mount(chance, &fleet);
    let (names, view) = (names(), View::first());
    let file = one_file(&mounted, &names, &view);
    let files = names.of(&mounted, &view);
    let blocks = 2 * WINDOW + 5;
    let data = pattern(blocks, chance.next());
    write(files, file, 0, &data, Way::Sealed);
    mounted.checkpoint().expect("a checkpoint");
    let places = places(&mounted, blocks);
    let byte = |at: Blocks| Bytes(at.0 * BLOCK_SIZE as u64 + chance.below(BLOCK_SIZE) as u64);
    // Any one copy of each block.
    for copies in &places {
        let (slot, at) = chance.one(copies);
        fleet.rot(slot, byte(at), 1 << chance.below(8));
    }
    let mut found = vec![0; data.len()];
    files.read(file, FileBlock(0), &mut found).expect("read");
    assert!(found == data);
    let repaired = mounted.machine().events().repaired();
    assert!(repaired > 0);
    // Those that were read first were bad in part; the others are still bad, and are there to be found.
    let mut bad = 0;
    for (n, copies) in places.iter().enumerate() {
        let mut block = [0; BLOCK_SIZE];
        for (slot, at) in copies {
            fleet
                .read(*slot, at.bytes().expect("a place"), &mut block)
                .expect("read");
            bad += u64::from(block[..] != data[n * BLOCK_SIZE..][..BLOCK_SIZE]);
        }
    }
    assert_eq!(bad + repaired, blocks as u64);
    // All copies of one block, one bit each, on the medium and not only in front of it.
    fleet.flush(mounted.present());
    let lost = chance.below(blocks);
    for (slot, at) in &places[lost] {
        let mut block = [0; BLOCK_SIZE];
        fleet
            .read(*slot, at.bytes().expect("a place"), &mut block)
            .expect("read");
        let n = chance.below(BLOCK_SIZE);
        let turned = block[n] ^ data[lost * BLOCK_SIZE + n];
        let bit = (0..8)
            .map(|b| 1 << b)
            .find(|b| *b != turned)
            .expect("a bit");
        fleet.rot(*slot, Bytes(at.0 * BLOCK_SIZE as u64 + n as u64), bit);
    }
    let done = files.read(file, FileBlock(0), &mut found);
    assert_eq!(done.err(), Some(Error::Lost(file, FileBlock(lost as u64))));
    for n in (0..blocks).filter(|n| *n != lost) {
        let mut block = [0; BLOCK_SIZE];
        files
            .read(file, FileBlock(n as u64), &mut block)
            .expect("read");
        assert!(
            block[..] == data[n * BLOCK_SIZE..][..BLOCK_SIZE],
            "block {n}"
        );
    }
}

#[test]
fn a_read_only_mount_reads_around_bad_copies_and_writes_nothing() {
    let chance = &Chance::new(seed());
    let fleet = drives(chance, 2, 1);
    let mounted = mount(chance, &fleet);
    let (names, view) = (names(), View::first());
    let file = one_file(&mounted, &names, &view);
    let data = pattern(40, chance.next());
    write(names.of(&mounted, &view), file, 3, &data, Way::Sealed);
    let places = places(&mounted, 3 + 40);
    mounted.close().expect("closed");
    for copies in &places[3..] {
        let (slot, at) = chance.one(copies);
        fleet.rot(slot, at.bytes().expect("a place"), 4);
    }
    let options = Options {
        read_only: true,
        ..machine::READ_WRITE
    };
    let before = fleet.snapshot().fingerprint();
    let mounted = machine::mount(chance.next(), &fleet, options).expect("mounted");
    let mut found = vec![0; data.len()];
    let files = names.of(&mounted, &view);
    files.read(file, FileBlock(3), &mut found).expect("read");
    assert!(found == data);
    assert_eq!(fleet.snapshot().fingerprint(), before);
}

/// Whether something of an engram lives on a device. What was set aside there and could not be written is dead.
fn lives_on(known: &contents::Known, device: Slot) -> bool {
    let live = known.live.runs(0, known.map.blocks);
    let mut places = live.flat_map(|(first, blocks)| known.map.extents(first, blocks));
    places.any(|extent| extent.device == device)
}

/// A drive that takes no data is gone round, and nothing that was given out for it is lost.
#[test]
fn data_goes_to_drives_that_take_it() {
    let chance = &Chance::new(seed());
    let fleet = drives(chance, 3, 1);
    let mounted = mount(chance, &fleet);
    let (names, view) = (names(), View::first());
    let file = one_file(&mounted, &names, &view);
    let files = names.of(&mounted, &view);
    let (from, to) = (FileBlock(0), FileBlock(100));
    files
        .preallocate(file, from, to, None, NOW)
        .expect("preallocated");
    let data = pattern(300, chance.next());
    let bad = mounted.parts()[2].slot;
    let everywhere = When::Within(Bytes(0)..Bytes(32 << 20));
    fleet.expect(bad, DriveFault::Write(everywhere, WriteFault::Fail));
    write(files, file, 0, &data, Way::Sealed);
    fleet.heal();
    let mut found = vec![0; data.len()];
    files.read(file, from, &mut found).expect("read");
    assert!(found == data);
    contents::audit(&mounted).unwrap_or_else(|why| panic!("{why}"));
    for known in contents::engrams(&mounted).expect("engrams").values() {
        assert!(known.map.parts().all(|part| part.places.count() == 2));
        assert!(known.map.parts().count() > 0);
        assert!(!lives_on(known, bad));
    }
}

/// From here on a drive takes nothing but its journal.
fn refuse_data(fleet: &Fleet, slot: Slot) {
    let mib = |n: u64| Bytes(n << 20);
    for place in [mib(1)..mib(8), mib(13)..mib(32)] {
        fleet.expect(
            slot,
            DriveFault::Write(When::Within(place), WriteFault::Fail),
        );
    }
}

/// Fewer copies are better than none; and where there is none, nothing happened.
#[test]
fn data_that_no_other_drive_takes_has_fewer_copies_or_is_refused() {
    let chance = &Chance::new(seed());
    let fleet = drives(chance, 2, 1);
    let mounted = mount(chance, &fleet);
    let (names, view) = (names(), View::first());
    let file = one_file(&mounted, &names, &view);
    let files = names.of(&mounted, &view);
    let slots = [mounted.parts()[0].slot, mounted.parts()[1].slot];
    let data = pattern(100, chance.next());
    let bad = chance.one(&slots);
    refuse_data(&fleet, bad);
    write(files, file, 0, &data, Way::Sealed);
    for known in contents::engrams(&mounted).expect("engrams").values() {
        assert!(known.map.parts().all(|part| part.places.count() == 1));
        assert!(known.map.parts().count() > 0);
        assert!(!lives_on(known, bad));
    }
    slots.iter().for_each(|slot| refuse_data(&fleet, *slot));
    let dirty = [Dirty {
        at: FileBlock(50),
        bytes: &pattern(100, chance.next()),
    }];
    let done = files.write(file, &dirty, Way::Sealed, &Written::default());
    let why = done.expect_err("no drive takes it");
    assert!(
        matches!(why, Error::Fault(Fault::Tree(TreeError::Write(..)))),
        "{why}"
    );
    fleet.heal();
    let mut found = vec![0; data.len()];
    files.read(file, FileBlock(0), &mut found).expect("read");
    assert!(found == data);
    contents::audit_but(&mounted, Copies::MayLack).unwrap_or_else(|why| panic!("{why}"));
    write(files, file, 50, dirty[0].bytes, Way::Sealed);
    for known in contents::engrams(&mounted).expect("engrams").values() {
        assert!(known.map.parts().count() > 0);
    }
    contents::audit_but(&mounted, Copies::MayLack).unwrap_or_else(|why| panic!("{why}"));
}

/// A copy that is bad and cannot be overwritten stays bad, and who reads does not notice.
#[test]
fn a_copy_that_cannot_be_repaired_does_no_harm() {
    let chance = &Chance::new(seed());
    let mut repaired = 0;
    // Whichever copy is read first, in one of the two it is the bad one.
    for bad in 0..2 {
        let fleet = drives(chance, 2, 1);
        let mounted = mount(chance, &fleet);
        let (names, view) = (names(), View::first());
        let file = one_file(&mounted, &names, &view);
        let files = names.of(&mounted, &view);
        let data = pattern(40, chance.next());
        write(files, file, 0, &data, Way::Sealed);
        fleet.flush(mounted.present());
        let bad = mounted.parts()[bad].slot;
        let places = places(&mounted, 40);
        for (slot, at) in places.iter().flatten().filter(|(slot, _)| *slot == bad) {
            fleet.rot(*slot, at.bytes().expect("a place"), 4);
        }
        refuse_data(&fleet, bad);
        let mut found = vec![0; data.len()];
        files.read(file, FileBlock(0), &mut found).expect("read");
        assert!(found == data);
        assert_eq!(mounted.machine().events().repaired(), 0);
        fleet.heal();
        files.read(file, FileBlock(0), &mut found).expect("read");
        assert!(found == data);
        repaired += mounted.machine().events().repaired();
    }
    assert!(repaired > 0, "no bad copy was read");
}

#[test]
fn a_full_volume_says_so_and_takes_back_what_is_removed() {
    let chance = &Chance::new(seed());
    let fleet = drives(chance, 2, 1);
    let mounted = mount(chance, &fleet);
    let (names, view) = (names(), View::first());
    let file = one_file(&mounted, &names, &view);
    let files = names.of(&mounted, &view);
    let data = pattern(256, chance.next());
    // What checkpoints need is not for files.
    let aside = |part: usize| {
        let slot = mounted.parts()[part].slot;
        mounted
            .allocate(slot, Blocks(200), Blocks(200))
            .expect("room")
    };
    let kept = [aside(0), aside(1)];
    let mut at = 0;
    let why = loop {
        let dirty = [Dirty {
            at: FileBlock(at),
            bytes: &data,
        }];
        match files.write(file, &dirty, Way::Sealed, &Written::default()) {
            Ok(_) => at += 256,
            Err(why) => break why,
        }
    };
    assert_eq!(why, Error::NoSpace);
    for aside in kept {
        mounted.give_back(aside);
    }
    contents::audit(&mounted).unwrap_or_else(|why| panic!("{why}"));
    assert!(at > 15 * 256, "only {at} blocks");
    let room = |n: usize| mounted.room(mounted.parts()[n].slot).free.0;
    let left = room(0).min(room(1));
    assert!(left < 200 + 2 * 256, "{left} blocks are left");
    let done = files.truncate(file, Bytes(0), NOW);
    done.unwrap_or_else(|why| panic!("{why}"));
    assert_eq!(contents::audit(&mounted), Ok(0));
    mounted.checkpoint().expect("a checkpoint");
    mounted.checkpoint().expect("a checkpoint");
    write(files, file, 0, &data, Way::Sealed);
}

/// What does not fit into one transaction: many small runs, so that every one of them takes room.
#[test]
fn a_large_file_goes_piece_by_piece() {
    let chance = &Chance::new(seed());
    let fleet = drives(chance, 1, 0);
    let mounted = mount(chance, &fleet);
    let (names, view) = (names(), View::first());
    let file = one_file(&mounted, &names, &view);
    let files = names.of(&mounted, &view);
    let data = pattern(400, chance.next());
    let mut expected: BTreeMap<u64, usize> = BTreeMap::new();
    for n in 0..400usize {
        let at = (n * 7 + chance.below(7)) as u64;
        let block = &data[n * BLOCK_SIZE..][..BLOCK_SIZE];
        write(files, file, at, block, Way::Sealed);
        expected.insert(at, n);
    }
    let compare = |expected: &BTreeMap<u64, usize>| {
        let mut found = vec![0; 3300 * BLOCK_SIZE];
        files.read(file, FileBlock(0), &mut found).expect("read");
        for (at, block) in found.chunks(BLOCK_SIZE).enumerate() {
            match expected.get(&(at as u64)) {
                Some(n) => assert!(block == &data[n * BLOCK_SIZE..][..BLOCK_SIZE], "block {at}"),
                None => assert!(block.iter().all(|b| *b == 0), "block {at}"),
            }
        }
    };
    compare(&expected);
    files
        .insert(file, FileBlock(20), 333, NOW)
        .expect("inserted");
    expected = (expected.iter())
        .map(|(at, n)| (if *at < 20 { *at } else { at + 333 }, *n))
        .collect();
    compare(&expected);
    files
        .collapse(file, FileBlock(5), FileBlock(505), NOW)
        .expect("collapsed");
    expected = (expected.iter())
        .filter(|(at, _)| !(5..505).contains(*at))
        .map(|(at, n)| (if *at < 5 { *at } else { at - 500 }, *n))
        .collect();
    compare(&expected);
    contents::audit(&mounted).unwrap_or_else(|why| panic!("{why}"));
    files
        .punch(file, Bytes(4096 * 100), Bytes(4096 * 2000), NOW)
        .expect("punched");
    expected.retain(|at, _| !(100..2000).contains(at));
    compare(&expected);
    files
        .unlink(InodeNo::ROOT, b"file", Users::None, NOW)
        .expect("unlinked");
    assert_eq!(files.inode(file).err(), Some(Error::NotFound));
    assert_eq!(contents::audit(&mounted), Ok(0));
}

type Operation = fn(Files<'_, Simulated>, InodeNo) -> Result<(), Error>;

fn write_some(files: Files<'_, Simulated>, file: InodeNo, way: Way) -> Result<(), Error> {
    let dirty = [Dirty {
        at: FileBlock(3),
        bytes: &[7; 9 * BLOCK_SIZE],
    }];
    let done = files.write(file, &dirty, way, &Written::default());
    done.map(|_| ())
}

/// Blocks of one file.
fn within(file: InodeNo, from: u64, to: u64, blocks: u64) -> Pair {
    Pair {
        from: (file, FileBlock(from)),
        to: (file, FileBlock(to)),
        blocks: Blocks(blocks),
    }
}

const OPERATIONS: [(&str, Operation); 10] = [
    ("sealed", |f, file| write_some(f, file, Way::Sealed)),
    ("inline", |f, file| write_some(f, file, Way::Inline)),
    ("clone", |f, file| {
        f.clone_range(&within(file, 6, 1, 5), None, NOW).map(|_| ())
    }),
    ("dedupe", |f, file| {
        f.same_range(&within(file, 0, 12, 4)).map(|_| ())
    }),
    ("truncate", |f, file| {
        f.truncate(file, Bytes(7777), NOW).map(|_| ())
    }),
    ("punch", |f, file| {
        let (from, to) = (Bytes(100), Bytes(50000));
        f.punch(file, from, to, NOW).map(|_| ())
    }),
    ("preallocate", |f, file| {
        let (from, to) = (FileBlock(5), FileBlock(30));
        f.preallocate(file, from, to, None, NOW).map(|_| ())
    }),
    ("collapse", |f, file| {
        let (from, to) = (FileBlock(2), FileBlock(7));
        f.collapse(file, from, to, NOW).map(|_| ())
    }),
    ("insert", |f, file| {
        f.insert(file, FileBlock(2), 7, NOW).map(|_| ())
    }),
    ("unlink", |f, _| {
        let done = f.unlink(InodeNo::ROOT, b"one", Users::None, NOW);
        done.map(|_| ())
    }),
];

/// Lack of memory at any point leaves what there was or what there is to be, and nothing lost.
#[test]
fn operations_bear_lack_of_memory() {
    let chance = &Chance::new(seed());
    let fleet = drives(chance, 2, 1);
    let mounted = mount(chance, &fleet);
    let (names, view) = (names(), View::first());
    one_file(&mounted, &names, &view);
    let files = names.of(&mounted, &view);
    let shape = |file| match Scribe::new(chance, file, 1).found(files) {
        Ok(found) => Some(Shape::of(&found)),
        Err(Error::NotFound) => None,
        Err(why) => panic!("{why}"),
    };
    let made = || {
        let file = create(files, b"one");
        write(files, file, 0, &pattern(8, 1), Way::Sealed);
        write(files, file, 8, &pattern(2, 2), Way::Inline);
        let (from, to) = (FileBlock(10), FileBlock(12));
        let done = files.preallocate(file, from, to, None, NOW);
        done.expect("preallocated");
        // The same as the first.
        write(files, file, 12, &pattern(4, 1), Way::Sealed);
        file
    };
    let gone = |file| {
        if shape(file).is_some() {
            let done = files.unlink(InodeNo::ROOT, b"one", Users::None, NOW);
            done.unwrap_or_else(|why| panic!("{why}"));
        }
        assert_eq!(contents::audit(&mounted), Ok(0));
    };
    for (what, operation) in OPERATIONS {
        let file = made();
        operation(files, file).unwrap_or_else(|why| panic!("{what}: {why}"));
        let after = shape(file);
        gone(file);
        for nth in 1.. {
            let file = made();
            let before = shape(file);
            failpoint::fail_nth(nth);
            let result = operation(files, file);
            let failed = failpoint::off().failed;
            let is_left = || files.inode(file).is_ok_and(|inode| inode.nlink == 0);
            if result.is_ok() && is_left() {
                // Its name is gone, and the rest would go with the next mount.
                (files.forget(file)).unwrap_or_else(|why| panic!("{what}, {nth}: {why}"));
            }
            let found = shape(file);
            contents::audit(&mounted).unwrap_or_else(|why| panic!("{what}, {nth}: {why}"));
            match result {
                Ok(()) => assert_eq!(found, after, "{what}, allocation {nth}"),
                Err(why) => {
                    assert_eq!(
                        why,
                        Error::Fault(Fault::NoMemory),
                        "{what}, allocation {nth}"
                    );
                    assert_eq!(found, before, "{what}, allocation {nth}");
                }
            }
            gone(file);
            if failed == 0 {
                assert!(nth > 3, "{what} needs no memory");
                break;
            }
        }
    }
}

#[test]
fn nothing_is_pushed_out_of_a_file() {
    let chance = &Chance::new(seed());
    let fleet = drives(chance, 1, 0);
    let mounted = mount(chance, &fleet);
    let (names, view) = (names(), View::first());
    let file = one_file(&mounted, &names, &view);
    let files = names.of(&mounted, &view);
    write(files, file, 0, &pattern(2, 1), Way::Sealed);
    let far = 1 << 50;
    let (from, to) = (FileBlock(far), FileBlock(far + 64));
    files
        .preallocate(file, from, to, None, NOW)
        .expect("room behind the end");
    let most = (1 << 51) - far - 64;
    // The last block that is pushed out is one of those; or all of them are, with the hole before them.
    for more in [1, 65] {
        let pushed = files.insert(file, FileBlock(0), most + more, NOW);
        assert_eq!(pushed.map(drop), Err(Error::TooBig), "{more} too many");
    }
    files
        .insert(file, FileBlock(1), 1000, NOW)
        .expect("there is room behind it");
    contents::audit(&mounted).expect("sound");
    let gone = files.unlink(InodeNo::ROOT, b"file", Users::None, NOW);
    gone.expect("removed");
    assert_eq!(contents::audit(&mounted), Ok(0));
}

/// Memory fails while a range is taken out, so that the rest of it is left to whoever changes the file next.
#[test]
fn what_is_read_beside_a_write_that_carries_out_what_was_left_undone() {
    const BLOCKS: usize = 300;
    for nth in (300..4000).step_by(400) {
        let chance = &Chance::new(seed());
        let fleet = drives(chance, 1, 0);
        let mounted = mount(chance, &fleet);
        let (names, view) = (names(), View::first());
        let file = one_file(&mounted, &names, &view);
        let files = names.of(&mounted, &view);
        let mut bytes = pattern(BLOCKS, nth);
        for (n, some) in (0..).zip(bytes.chunks(8 * BLOCK_SIZE)) {
            write(files, file, 8 * n, some, Way::Inline);
        }
        failpoint::fail_nth(nth);
        let taken_out = files.collapse(file, FileBlock(3), FileBlock(4), NOW);
        failpoint::off();
        if taken_out.is_err() {
            continue;
        }
        bytes.drain(3 * BLOCK_SIZE..4 * BLOCK_SIZE);
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let (bytes, done) = (&bytes, &done);
            for of in 0..2 {
                scope.spawn(move || {
                    let chance = Chance::new(nth + of);
                    let mut found = vec![0; BLOCK_SIZE];
                    while !done.load(Relaxed) {
                        let at = 5 + chance.below(BLOCKS - 6);
                        let read = files.read(file, FileBlock(at as u64), &mut found);
                        assert_eq!(read, Ok(()), "{nth}, block {at}");
                        let wanted = &bytes[at * BLOCK_SIZE..][..BLOCK_SIZE];
                        assert!(found == wanted, "{nth}: not what block {at} holds");
                    }
                });
            }
            thread::sleep(Duration::from_millis(5));
            let dirty = [Dirty {
                at: FileBlock(0),
                bytes: &bytes[..BLOCK_SIZE],
            }];
            let written = files.write(file, &dirty, Way::Sealed, &Written::default());
            done.store(true, Relaxed);
            written.expect("written");
        });
    }
}

#[test]
fn what_dies_is_not_free_before_two_roots_are_without_it() {
    let chance = &Chance::new(seed());
    let fleet = drives(chance, 1, 0);
    let mounted = mount(chance, &fleet);
    let (names, view) = (names(), View::first());
    let file = one_file(&mounted, &names, &view);
    let files = names.of(&mounted, &view);
    write(files, file, 0, &pattern(1500, 1), Way::Sealed);
    mounted.checkpoint().expect("healthy drives");
    mounted.checkpoint().expect("healthy drives");
    let slot = Slot::new(0).expect("the first");
    let before = mounted.room(slot);
    let blocks = |n: u64| Bytes(n * BLOCK_SIZE as u64);
    let punched = files.punch(file, blocks(20), blocks(1420), NOW);
    punched.expect("punched");
    let after = mounted.room(slot);
    assert!(after.free <= before.free, "{before:?} {after:?}");
    assert_eq!(after.pending.0, before.pending.0 + 1400);
    mounted.checkpoint().expect("healthy drives");
    assert!(mounted.room(slot).free.0 < before.free.0 + 1400);
    mounted.checkpoint().expect("healthy drives");
    contents::audit(&mounted).expect("sound");
}
