// SPDX-License-Identifier: GPL-2.0

//! What lives in stripes that waste room is moved together: nothing of it changes, whoever reads or writes meanwhile.

use embr_engine::file::Way;
use embr_engine::format::engram;
use embr_engine::format::engram::Lies;
use embr_engine::format::member::Slot;
use embr_engine::format::stripe;
use embr_engine::format::stripe::Kind;
use embr_engine::format::stripe::Totals;
use embr_engine::format::stripe::GRADES;
use embr_engine::names::Files;
use embr_engine::names::Names;
use embr_engine::names::Users;
use embr_engine::names::View;
use embr_engine::rebundle::Tally;
use embr_engine::units::Blocks;
use embr_engine::units::Bytes;
use embr_engine::units::EngramId;
use embr_engine::units::FileBlock;
use embr_engine::units::InodeNo;
use embr_engine::units::StripeId;
use embr_engine::units::BLOCK_SIZE;
use embr_engine::volume::mounted::ENGRAMS;
use embr_engine::volume::mounted::STRIPES;
use embr_engine::volume::recover::Options;
use embr_engine::volume::Mounted;
use embr_rt::lock_class;
use embr_rt::sim::World;
use embr_rt::work::Worker;
use embrfs_sim::contents;
use embrfs_sim::contents::scan;
use embrfs_sim::contents::Known;
use embrfs_sim::desk::create;
use embrfs_sim::desk::drives;
use embrfs_sim::desk::mount;
use embrfs_sim::desk::names;
use embrfs_sim::desk::one_file;
use embrfs_sim::desk::pattern;
use embrfs_sim::desk::read;
use embrfs_sim::desk::write;
use embrfs_sim::fault::Odds;
use embrfs_sim::host::seed;
use embrfs_sim::host::Chance;
use embrfs_sim::machine;
use embrfs_sim::machine::Simulated;
use embrfs_sim::scribe::NOW;
use embrfs_sim::stripes::layouts;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::sync::Arc;

const SIZE: Bytes = Bytes(32 << 20);

/// Overwrites blocks here and there until most of each stripe is dead, and moves the rest together: all reads as before, nothing is
/// wasted any more, and the room is there again.
#[test]
fn what_lives_is_moved_together() {
    let chance = &Chance::new(seed());
    for (count, shape) in [(6, (4, 2)), (3, (2, 1)), (8, (4, 2))] {
        let fleet = drives(chance, SIZE, count, shape);
        let mut mounted = mount(chance, &fleet);
        let view = View::first();
        let mut names_of = names();
        one_file(&mounted, &names_of, &view);
        let mut files = Vec::new();
        for n in 0..6u64 {
            let of = names_of.of(&mounted, &view);
            let file = create(of, format!("{n}").as_bytes());
            let bytes = pattern(300, chance.next());
            write(of, file, n, &bytes, Way::Sealed);
            files.push((file, n, bytes));
        }
        // Some go altogether; of the others a third is written again.
        let of = names_of.of(&mounted, &view);
        for (file, at, bytes) in &mut files {
            for _ in 0..40 {
                let (first, blocks) = (chance.below(290), 1 + chance.below(4));
                let new = pattern(blocks, chance.next());
                write(of, *file, *at + first as u64, &new, Way::Sealed);
                bytes[first * BLOCK_SIZE..][..new.len()].copy_from_slice(&new);
            }
        }
        contents::audit(&mounted).unwrap_or_else(|why| panic!("{shape:?}: {why}"));
        let before = mounted.statfs();
        // What stripes take, in parts in a hundred of what they would take if they were full.
        let taken = || {
            let items = scan(&mounted, STRIPES).expect("items");
            let key = stripe::key(StripeId(0), Kind::Totals, 0);
            let (_, value) = items.iter().find(|(k, _)| *k == key).expect("totals");
            let totals = Totals::parse(value).expect("totals");
            let width = u64::from(shape.0 + shape.1);
            totals.taken.0 * 100 / (totals.live.0 * width / u64::from(shape.0))
        };
        assert!(taken() > 115, "{shape:?}: {}", taken());
        loop {
            let of = names_of.of(&mounted, &view);
            let once = of.rebundle().expect("moved");
            contents::audit(&mounted).unwrap_or_else(|why| panic!("{shape:?}: {why}"));
            if once.gained == Blocks(0) {
                break;
            }
        }
        // Where nothing is to be gained, nothing is written.
        fleet.record();
        let written = fleet.position();
        let of = names_of.of(&mounted, &view);
        assert_eq!(of.rebundle().expect("nothing").gained, Blocks(0));
        assert_eq!(fleet.position(), written);
        assert!(taken() < 103, "{shape:?}: {}", taken());
        for again in 0..2 {
            let of = names_of.of(&mounted, &view);
            for (file, at, bytes) in &files {
                assert!(read(of, *file, *at, 300) == *bytes, "{shape:?}: {file}");
            }
            if again == 0 {
                mounted.close().expect("closed");
                mounted = mount(chance, &fleet);
                names_of = names();
            }
        }
        // What could be had was told before.
        let after = mounted.statfs();
        let differ = before.available.0.abs_diff(after.available.0);
        assert!(differ * 50 < before.available.0, "{before:?}, {after:?}");
        let of = names_of.of(&mounted, &view);
        for n in 0..files.len() {
            let name = format!("{n}");
            of.unlink(InodeNo::ROOT, name.as_bytes(), Users::None, NOW)
                .expect("unlinked");
        }
        assert_eq!(contents::audit(&mounted), Ok(0));
    }
}

/// A stripe that is listed under several grades, as only a crafted volume has it, is given up once, and the volume goes on.
#[test]
fn what_is_listed_twice_is_given_up_once() {
    let chance = &Chance::new(seed());
    for grades in [&[0, 1][..], &[3, 4, 5], &[0, GRADES - 1]] {
        let fleet = drives(chance, SIZE, 6, (4, 2));
        let mut mounted = mount(chance, &fleet);
        let view = View::first();
        let mut names_of = names();
        let file = one_file(&mounted, &names_of, &view);
        let of = names_of.of(&mounted, &view);
        let mut bytes = pattern(200, chance.next());
        for (n, part) in (0..).zip(bytes.chunks(40 * BLOCK_SIZE)) {
            write(of, file, n * 40, part, Way::Sealed);
        }
        // Of each stripe a part is dead.
        for n in (0..200).filter(|n| n % 40 < 25) {
            let new = pattern(1, chance.next());
            write(of, file, n, &new, Way::Inline);
            bytes[n as usize * BLOCK_SIZE..][..BLOCK_SIZE].copy_from_slice(&new);
        }
        let stripes = layouts(&mounted).expect("stripes");
        assert_eq!(stripes.len(), 5);
        let mut txn = mounted.begin().expect("begun");
        for (number, grade) in stripes
            .keys()
            .flat_map(|n| grades.iter().map(move |g| (*n, *g)))
        {
            let key = stripe::wasteful(grade, StripeId(number));
            txn.set(STRIPES, key, &[stripe::VERSION]).expect("set");
        }
        txn.commit().expect("committed");
        let once = of.rebundle().expect("moved");
        assert_eq!(once.blocks, Blocks(5 * 15), "{grades:?}");
        for again in 0..2 {
            let of = names_of.of(&mounted, &view);
            while of.rebundle().expect("moved").gained != Blocks(0) {}
            assert!(read(of, file, 0, 200) == bytes, "{grades:?}");
            let new = pattern(30, chance.next());
            write(of, file, 10, &new, Way::Sealed);
            bytes[10 * BLOCK_SIZE..][..new.len()].copy_from_slice(&new);
            let left = layouts(&mounted).expect("stripes");
            assert!(
                stripes.keys().all(|old| !left.contains_key(old)),
                "{grades:?}"
            );
            if again == 0 {
                mounted.close().expect("closed");
                mounted = mount(chance, &fleet);
                names_of = names();
            }
        }
    }
}

/// Blocks of devices that copies take which stripes could take the place of: all but those that were set aside.
fn loose(mounted: &Mounted<Simulated>) -> usize {
    let engrams = contents::engrams(mounted).expect("engrams");
    let taken = |known: &Known| match known.live.count() {
        0..20 => (0..known.map.blocks)
            .filter(|block| known.live.has(*block))
            .map(|block| known.map.extents(block, 1).count())
            .sum(),
        _ => 0,
    };
    engrams.values().map(taken).sum()
}

/// Of how many engrams a stripe has blocks, at most.
fn most_engrams(mounted: &Mounted<Simulated>) -> usize {
    let mut held: BTreeMap<StripeId, BTreeSet<u64>> = BTreeMap::new();
    for (engram, known) in contents::engrams(mounted).expect("engrams") {
        if let Lies::Stripes(pieces) = &known.map.lies {
            for piece in pieces.iter() {
                held.entry(piece.stripe).or_default().insert(engram);
            }
        }
    }
    held.values().map(BTreeSet::len).max().unwrap_or(0)
}

/// Files so small that each is written as copies come together in stripes; of what is set aside nothing is moved.
#[test]
fn small_files_come_together_in_stripes() {
    let chance = &Chance::new(seed());
    for (count, shape) in [(6, (4, 2)), (3, (2, 1)), (3, (1, 2))] {
        let fleet = drives(chance, SIZE, count, shape);
        let unused = |mounted: &Mounted<Simulated>| -> u64 {
            (0..count)
                .map(|n| mounted.room(Slot::new(n).expect("a slot")).unused.0)
                .sum()
        };
        let mut mounted = mount(chance, &fleet);
        let view = View::first();
        let mut names_of = names();
        one_file(&mounted, &names_of, &view);
        let mut files = Vec::new();
        let of = names_of.of(&mounted, &view);
        let empty = create(of, b"set aside");
        let to = (FileBlock(0), FileBlock(20));
        of.preallocate(empty, to.0, to.1, Some(Bytes(20 << 12)), NOW)
            .expect("room");
        // Of one of its runs of hashes, some are known then.
        let begun = pattern(1, 6);
        write(of, empty, 3, &begun, Way::Sealed);
        for n in 0..400u64 {
            if n < 5 {
                // What is there is too little to gain by it at first, and is moved with what comes later.
                of.rebundle().expect("moved or not");
            }
            let file = create(of, format!("{n}").as_bytes());
            let blocks = 1 + chance.below(4) / 3;
            let bytes = pattern(blocks, chance.next());
            write(of, file, n, &bytes, Way::Sealed);
            files.push((file, n, bytes));
        }
        mounted.checkpoint().expect("durable");
        let (before, room) = (loose(&mounted), unused(&mounted));
        assert!(before > 400);
        let mut largest = 0;
        loop {
            let of = names_of.of(&mounted, &view);
            let once = of.rebundle().expect("moved");
            contents::audit(&mounted).unwrap_or_else(|why| panic!("{shape:?}: {why}"));
            largest = largest.max(once.blocks.0);
            if once.gained == Blocks(0) {
                break;
            }
            if shape.0 != 4 && chance.below(2) == 0 {
                // Who goes on after a mount goes on where the last one was.
                mounted.close().expect("closed");
                mounted = mount(chance, &fleet);
                names_of = names();
            }
        }
        mounted.checkpoint().expect("durable");
        let (after, now) = (loose(&mounted), unused(&mounted));
        if shape.0 == 1 {
            assert_eq!((after, largest), (before, 0));
        } else {
            assert!(after <= 3, "{shape:?}: {before}, {after}");
            let passed = engram::key(EngramId::NONE, engram::Kind::Passed, 0);
            let noted = scan(&mounted, ENGRAMS).expect("items");
            assert!(noted.iter().any(|(key, _)| *key == passed));
            assert!(largest >= 100, "{shape:?}: {largest}");
            // Each can be given up on a full volume.
            let (most, nodes) = (most_engrams(&mounted), mounted.ledger().reserve.largest);
            assert!(
                (2..=(nodes / 10) as usize).contains(&most),
                "{shape:?}: {most} with {nodes}"
            );
            assert!(
                now > room + before as u64 / 10,
                "{shape:?}: {before}, {room}, {now}"
            );
        }
        let of = names_of.of(&mounted, &view);
        for (file, at, bytes) in &files {
            let found = read(of, *file, *at, bytes.len() / BLOCK_SIZE);
            assert!(found == *bytes, "{shape:?}: {file}");
        }
        // What was set aside is written where it was.
        assert!(read(of, empty, 3, 1) == begun);
        assert!(read(of, empty, 4, 16).iter().all(|byte| *byte == 0));
        let bytes = pattern(20, 5);
        write(of, empty, 0, &bytes, Way::Sealed);
        assert!(read(of, empty, 0, 20) == bytes);
        contents::audit(&mounted).unwrap_or_else(|why| panic!("{shape:?}: {why}"));
    }
}

/// Moves ahead of need as long as anything is worth it; says how many blocks were.
fn ahead(files: Files<'_, Simulated>) -> u64 {
    let mut blocks = 0;
    loop {
        let once = files.rebundle_ahead().expect("moved");
        blocks += once.blocks.0;
        if once.gained == Blocks(0) {
            return blocks;
        }
    }
}

/// Before anybody needs room, copies are moved once they are old and many, and stripes the sooner the less room is left.
#[test]
fn ahead_of_need_only_what_is_worth_it_is_moved() {
    let chance = &Chance::new(seed());
    let fleet = drives(chance, SIZE, 6, (4, 2));
    let mounted = mount(chance, &fleet);
    let view = View::first();
    let names_of = names();
    one_file(&mounted, &names_of, &view);
    let of = names_of.of(&mounted, &view);
    let tell = |n: u64| create(of, format!("{n}").as_bytes());
    for n in 0..200 {
        write(of, tell(n), 0, &pattern(1, n), Way::Sealed);
    }
    assert_eq!(ahead(of), 0, "all are young");
    of.grow_old().expect("noted");
    for n in 200..300 {
        write(of, tell(n), 0, &pattern(1, n), Way::Sealed);
    }
    assert_eq!(ahead(of), 0, "all are young");
    of.grow_old().expect("noted");
    assert_eq!(ahead(of), 200);
    of.grow_old().expect("noted");
    assert_eq!(ahead(of), 0, "a hundred are not many");
    // Of two files half dies here and there, of a third nearly all.
    let total = mounted.statfs().total.0;
    let large = [1000, 1001, 1002].map(tell);
    for file in large {
        write(of, file, 0, &pattern(1024, file.0), Way::Sealed);
    }
    for (file, kept) in large.into_iter().zip([2, 2, 20]) {
        for n in (0..1024).filter(|n| n % kept != 0) {
            let (from, to) = (Bytes(n << 12), Bytes((n + 1) << 12));
            of.punch(file, from, to, NOW).expect("punched");
        }
    }
    assert_eq!(ahead(of), 52);
    let most = |parts: u64| {
        let available = || mounted.statfs().available.0;
        let (file, mut at) = (tell(2000 + parts), 0);
        while available() > total / parts - 100 {
            write(of, file, at, &pattern(256, at), Way::Sealed);
            at += 256;
        }
    };
    most(2);
    assert_eq!(ahead(of), 0, "half of each lives");
    most(4);
    let some = ahead(of);
    assert!(some >= 256, "{some}");
    most(8);
    let rest = ahead(of);
    // Who wrote may have moved some when little was left.
    let Tally { moved, written } = of.tally();
    assert!(moved.blocks.0 >= 252 + 1024, "{some} {rest} {moved:?}");
    assert!(written.0 > total * 7 / 8, "{written:?} of {total}");
    contents::audit(&mounted).unwrap_or_else(|why| panic!("{why}"));
    for n in 0..300 {
        let file = of.lookup(InodeNo::ROOT, format!("{n}").as_bytes());
        assert!(read(of, file.expect("there").inode, 0, 1) == pattern(1, n));
    }
}

/// What all tasks share.
struct Hall {
    mounted: Mounted<Simulated>,
    names: Names,
    view: View,
    is_over: AtomicBool,
    written: AtomicUsize,
}

impl Hall {
    fn files(&self) -> Files<'_, Simulated> {
        self.names.of(&self.mounted, &self.view)
    }
}

/// Writes blocks of a file anew, here and there.
fn scatter(files: Files<'_, Simulated>, file: InodeNo, bytes: &mut [u8], chance: &Chance) {
    let all = bytes.len() / BLOCK_SIZE;
    let blocks = 1 + chance.below(5);
    let first = chance.below(all - blocks);
    let new = pattern(blocks, chance.next());
    write(files, file, first as u64, &new, Way::Sealed);
    bytes[first * BLOCK_SIZE..][..new.len()].copy_from_slice(&new);
}

/// One task reads a file that nobody writes, one writes to another, one moves what lives of both together. Says how often.
fn together(seed: u64) -> usize {
    let world = World::new(seed).run(move || {
        let chance = &Chance::new(seed);
        let fleet = drives(chance, SIZE, 3, (2, 1));
        // What is looked up is read from drives, which takes a while.
        let forgetful = Options {
            cache: Bytes(0),
            ..machine::READ_WRITE
        };
        let hall = Hall {
            mounted: machine::mount(chance.next(), &fleet, forgetful).expect("mounted"),
            names: names(),
            view: View::first(),
            is_over: AtomicBool::new(false),
            written: AtomicUsize::new(0),
        };
        let steady = one_file(&hall.mounted, &hall.names, &hall.view);
        let other = create(hall.files(), b"other");
        let (mut read_only, mut changing) = (pattern(40, 1), pattern(40, 2));
        write(hall.files(), steady, 0, &read_only, Way::Sealed);
        write(hall.files(), other, 0, &changing, Way::Sealed);
        for _ in 0..10 {
            scatter(hall.files(), steady, &mut read_only, chance);
            scatter(hall.files(), other, &mut changing, chance);
        }
        hall.mounted.checkpoint().expect("durable");
        if chance.below(2) == 0 {
            // What is read wrongly is had from other drives, wherever it lies by then.
            let odds = Odds {
                garble: 50_000,
                ..Odds::default()
            };
            fleet.odds(Slot::new(chance.below(3)).expect("a slot"), odds);
        }
        let hall = Arc::new(hall);
        let (its, expected, own) = (hall.clone(), read_only.clone(), Chance::new(chance.next()));
        let reads = Worker::try_spawn(lock_class!("reads"), move || {
            while !its.is_over.load(Ordering::Relaxed) {
                let blocks = 1 + own.below(20);
                let first = own.below(40 - blocks);
                let found = read(its.files(), steady, first as u64, blocks);
                assert!(
                    found == expected[first * BLOCK_SIZE..][..found.len()],
                    "other bytes"
                );
            }
        });
        let (its, own) = (hall.clone(), Chance::new(chance.next()));
        let writes = Worker::try_spawn(lock_class!("writes"), move || {
            while !its.is_over.load(Ordering::Relaxed) {
                scatter(its.files(), other, &mut changing, &own);
                its.written.fetch_add(1, Ordering::Relaxed);
            }
            assert!(
                read(its.files(), other, 0, 40) == changing,
                "not what was written"
            );
        });
        let mut moved = 0;
        for n in 1..10 {
            // There is something to be moved again.
            while hall.written.load(Ordering::Relaxed) < n * 6 {
                embr_rt::time::sleep(embr_rt::time::Duration::from_micros(20));
            }
            moved += hall.files().rebundle().expect("moved").blocks.0 as usize;
            if chance.below(4) == 0 {
                hall.mounted.checkpoint().expect("durable");
            }
        }
        hall.is_over.store(true, Ordering::Relaxed);
        drop((reads.expect("a task"), writes.expect("a task")));
        fleet.heal();
        contents::audit(&hall.mounted).unwrap_or_else(|why| panic!("{why}"));
        assert!(read(hall.files(), steady, 0, 40) == read_only);
        moved
    });
    world
        .unwrap_or_else(|failure| panic!("EMBRFS_SEED={seed}: {failure}"))
        .value
}

#[test]
fn who_reads_and_writes_meanwhile_notices_nothing() {
    let base = seed();
    let rounds = std::env::var("EMBRFS_ROUNDS").map_or(60, |n| n.parse().expect("a number"));
    let mut moved = 0;
    for n in 0..rounds {
        moved += together(base.wrapping_add(n));
    }
    assert!(moved > 0, "nothing was moved");
    println!("{moved} blocks were moved");
}
