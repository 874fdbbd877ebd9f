// SPDX-License-Identifier: GPL-2.0

//! Volumes on which everything was overwritten in small pieces: what is free is single blocks, and nodes need four together. What is told
//! to be free can be written all the same: what is written goes to holes, in parts, and where no slots are left, some are emptied.

use embr_engine::file::Dirty;
use embr_engine::file::Way;
use embr_engine::file::Written;
use embr_engine::format::engram::Lies;
use embr_engine::names::Error;
use embr_engine::names::Files;
use embr_engine::names::Names;
use embr_engine::names::Users;
use embr_engine::names::View;
use embr_engine::units::Bytes;
use embr_engine::units::FileBlock;
use embr_engine::units::InodeNo;
use embr_engine::units::BLOCK_SIZE;
use embr_engine::volume::Mounted;
use embr_rt::lock_class;
use embr_rt::sim::World;
use embr_rt::time::Duration;
use embr_rt::work::Worker;
use embrfs_sim::clerk;
use embrfs_sim::contents;
use embrfs_sim::desk;
use embrfs_sim::desk::create;
use embrfs_sim::desk::drives;
use embrfs_sim::desk::pattern;
use embrfs_sim::desk::write;
use embrfs_sim::fleet::Fleet;
use embrfs_sim::host::seed;
use embrfs_sim::host::Chance;
use embrfs_sim::machine;
use embrfs_sim::machine::Simulated;
use embrfs_sim::recording::State;
use embrfs_sim::scribe::NOW;
use embrfs_sim::states::Plan;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::sync::Mutex;

/// Blocks of each file.
const BLOCKS: usize = 256;

/// Geometries with copies alone: drives, k and m.
const SHAPES: [(usize, (u8, u8)); 3] = [(1, (1, 0)), (2, (1, 1)), (3, (3, 0))];

/// Files with all that they hold.
struct Shelf<'a> {
    of: Files<'a, Simulated>,
    files: Vec<(InodeNo, Vec<u8>)>,
}

impl<'a> Shelf<'a> {
    /// Fills the volume until one part in so many is left.
    fn fill(
        of: Files<'a, Simulated>,
        mounted: &Mounted<Simulated>,
        chance: &Chance,
        left: u64,
    ) -> Self {
        let mut files = Vec::new();
        while mounted.statfs().available.0 * left > mounted.statfs().total.0 {
            let file = create(of, format!("{}", files.len()).as_bytes());
            let bytes = pattern(BLOCKS, chance.next());
            // No more at once than there may be room for.
            for (n, some) in (0..).zip(bytes.chunks(32 * BLOCK_SIZE)) {
                write(of, file, 32 * n, some, Way::Sealed);
            }
            of.truncate(file, Bytes(bytes.len() as u64), NOW)
                .expect("a size");
            files.push((file, bytes));
        }
        Shelf { of, files }
    }

    /// Writes so many blocks over others, here and there in a file.
    fn overwrite(&mut self, chance: &Chance, blocks: usize) -> Result<(), Error> {
        let n = chance.below(self.files.len());
        let (file, bytes) = &mut self.files[n];
        let mut at: Vec<usize> = (0..blocks).map(|_| chance.below(BLOCKS)).collect();
        at.sort_unstable();
        at.dedup();
        let new: Vec<Vec<u8>> = at.iter().map(|_| pattern(1, chance.next())).collect();
        let dirty = at.iter().zip(&new).map(|(at, bytes)| Dirty {
            at: FileBlock(*at as u64),
            bytes,
        });
        let dirty: Vec<Dirty<'_>> = dirty.collect();
        self.of
            .write(*file, &dirty, Way::Sealed, &Written::default())?;
        for (at, new) in at.iter().zip(&new) {
            bytes[at * BLOCK_SIZE..][..BLOCK_SIZE].copy_from_slice(new);
        }
        Ok(())
    }

    /// Whether all is as it was written.
    fn check(&self, mounted: &Mounted<Simulated>) {
        check(self.of, mounted, &self.files).expect("sound");
    }
}

/// Whether the volume is sound, and these files hold what they should.
fn check(
    of: Files<'_, Simulated>,
    mounted: &Mounted<Simulated>,
    files: &[(InodeNo, Vec<u8>)],
) -> Result<(), String> {
    contents::audit(mounted)?;
    let differs = |(file, bytes): &&(InodeNo, Vec<u8>)| desk::read(of, *file, 0, BLOCKS) != *bytes;
    match files.iter().find(differs) {
        Some((file, _)) => Err(format!("{file} is not as it was written")),
        None => Ok(()),
    }
}

/// Engrams that do not lie together.
fn parted(mounted: &Mounted<Simulated>) -> usize {
    let all = contents::engrams(mounted).expect("engrams");
    let is_parted = |known: &&contents::Known| matches!(known.map.lies, Lies::Parts(_));
    all.values().filter(is_parted).count()
}

#[test]
fn what_was_overwritten_in_pieces_can_be_written_again() {
    let chance = &Chance::new(seed());
    for (count, shape) in SHAPES {
        for at_once in [16, 1] {
            let fleet = drives(chance, Bytes(64 << 20), count, shape);
            let mounted = desk::mount(chance, &fleet);
            let (names, view) = (desk::names(), View::first());
            let of = names.of(&mounted, &view);
            of.format(&clerk::root()).expect("formatted");
            let mut shelf = Shelf::fill(of, &mounted, chance, 5);
            for round in 0..1000 + 125 * at_once {
                shelf.overwrite(chance, at_once).unwrap_or_else(|why| {
                    panic!("{shape:?}, {at_once} at once, round {round}: {why}")
                });
            }
            // A block alone lies together.
            assert!(at_once == 1 || parted(&mounted) > 100, "{shape:?}");
            shelf.check(&mounted);
        }
    }
}

/// Blocks that are written one by one have trees grow. Only when these have taken what was left, more is refused; so far slots are emptied.
#[test]
fn slots_are_emptied_until_nothing_is_left() {
    let chance = &Chance::new(seed());
    for (count, shape) in SHAPES {
        let fleet = drives(chance, Bytes(64 << 20), count, shape);
        let mut mounted = desk::mount(chance, &fleet);
        let view = View::first();
        let mut names = desk::names();
        let of = names.of(&mounted, &view);
        of.format(&clerk::root()).expect("formatted");
        let mut shelf = Shelf::fill(of, &mounted, chance, 16);
        let why = loop {
            if let Err(why) = shelf.overwrite(chance, 1) {
                break why;
            }
        };
        assert!(matches!(why, Error::NoSpace), "{why}");
        let left = mounted.statfs();
        assert!(
            left.available.0 * 100 < left.total.0,
            "{shape:?}: refused with {} of {} blocks left",
            left.available.0,
            left.total.0
        );
        let moved = of.tally().moved;
        assert!(moved.gained.0 > 0, "{shape:?}: nothing was emptied");
        shelf.check(&mounted);
        let files = shelf.files;
        // As it was after a mount; and what is removed is free.
        mounted.sync().expect("durable");
        mounted = desk::mount(chance, &fleet);
        names = desk::names();
        let of = names.of(&mounted, &view);
        Shelf { of, files }.check(&mounted);
        of.unlink(InodeNo::ROOT, b"0", Users::None, NOW)
            .expect("removed");
        let more = mounted.statfs();
        assert!(
            more.available.0 > left.available.0 + BLOCKS as u64 / 2,
            "{shape:?}"
        );
        let file = create(of, b"new");
        write(of, file, 0, &pattern(BLOCKS / 2, 1), Way::Sealed);
    }
}

/// A file in as many parts as there can be, each in five copies, goes as a whole, at once or after a mount.
#[test]
fn what_lies_in_many_parts_and_copies_is_removed() {
    const MANY: usize = 4096;
    let chance = &Chance::new(seed());
    let fleet = drives(chance, Bytes(64 << 20), 5, (1, 4));
    let mut mounted = desk::mount(chance, &fleet);
    let view = View::first();
    let mut names = desk::names();
    let of = names.of(&mounted, &view);
    of.format(&clerk::root()).expect("formatted");
    let shelf = Shelf::fill(of, &mounted, chance, 20);
    // Of everything every second block goes.
    for (file, _) in &shelf.files {
        for block in (0..BLOCKS as u64).step_by(2) {
            let at = Bytes(block * BLOCK_SIZE as u64);
            of.punch(*file, at, Bytes(at.0 + BLOCK_SIZE as u64), NOW)
                .expect("punched");
        }
    }
    for _ in 0..3 {
        mounted.checkpoint().expect("a root");
    }
    for name in [&b"written"[..], b"set aside"] {
        let file = create(of, name);
        for at in (0..MANY).step_by(BLOCKS) {
            match name {
                b"written" => write(of, file, at as u64, &pattern(BLOCKS, 7), Way::Sealed),
                _ => {
                    let from = FileBlock(at as u64);
                    of.preallocate(file, from, from.plus(BLOCKS as u64), None, NOW)
                        .map(drop)
                        .expect("set aside");
                }
            }
        }
        of.truncate(file, Bytes((MANY * BLOCK_SIZE) as u64), NOW)
            .expect("a size");
        assert!(parted(&mounted) > MANY / BLOCKS, "{}", parted(&mounted));
        mounted.checkpoint().expect("a root");
        if name == b"written" {
            of.unlink(InodeNo::ROOT, name, Users::None, NOW)
                .expect("removed");
        } else {
            let removed = of.unlink(InodeNo::ROOT, name, Users::Some, NOW);
            removed.expect("removed");
        }
    }
    mounted.sync().expect("durable");
    mounted = desk::mount(chance, &fleet);
    names = desk::names();
    let of = names.of(&mounted, &view);
    assert_eq!(of.forget_orphans().expect("forgotten"), 1);
    contents::audit(&mounted).expect("sound");
}

/// Slots are emptied, beside what is written: whatever a crash leaves, each block is where its map says.
#[test]
fn crashes_among_emptied_slots_leave_all_sound() {
    let chance = &Chance::new(seed());
    let wanted = std::env::var("EMBRFS_STATES").map_or(90, |n| n.parse().expect("a number"));
    let mut states = 0;
    while states < wanted {
        for (count, shape) in SHAPES {
            let fleet = drives(chance, Bytes(32 << 20), count, shape);
            let mounted = desk::mount(chance, &fleet);
            let (names, view) = (desk::names(), View::first());
            let of = names.of(&mounted, &view);
            of.format(&clerk::root()).expect("formatted");
            let mut shelf = Shelf::fill(of, &mounted, chance, 8);
            // As soon as the first are emptied, there are more to be.
            while of.rebundle().expect("moved").gained.0 == 0 {
                for _ in 0..8 {
                    shelf.overwrite(chance, 4).expect("room");
                }
            }
            mounted.checkpoint().expect("durable");
            fleet.record();
            let before = of.tally().moved.blocks;
            let (hot, others) = shelf.files.split_at(1);
            let (hot, others) = (hot.to_vec(), others.to_vec());
            let mut hot = Shelf { of, files: hot };
            for _ in 0..6 {
                of.rebundle().expect("moved");
                // It may be full.
                let _ = hot.overwrite(chance, 4);
                match chance.below(3) {
                    0 => mounted.checkpoint().expect("durable"),
                    1 => mounted.sync().expect("durable"),
                    _ => {}
                }
            }
            assert!(
                of.tally().moved.blocks > before,
                "{shape:?}: nothing was moved"
            );
            let recording = fleet.recorded();
            let plan = Plan {
                seed: chance.next(),
                subsets: 2,
                tears: 1,
                mixed: 20,
            };
            let after = |state: &State, own: &Chance| -> Result<(), String> {
                let snapshot = recording.at(state).ok_or("no such state")?;
                let fleet = Fleet::start(own.next(), &snapshot);
                let mounted = machine::mount(own.next(), &fleet, machine::READ_WRITE)?;
                let names = desk::names();
                check(names.of(&mounted, &view), &mounted, &others)
            };
            for (state, own) in recording.some(plan, 12.0) {
                states += 1;
                after(&state, &own).unwrap_or_else(|why| panic!("{shape:?}: {state}: {why}"));
            }
        }
    }
}

/// What all who act share.
struct Hall {
    mounted: Mounted<Simulated>,
    names: Names,
    view: View,
    is_done: AtomicBool,
}

impl Hall {
    fn files(&self) -> Files<'_, Simulated> {
        self.names.of(&self.mounted, &self.view)
    }
}

/// While what keeps a slot from being whole is read, some of it dies: that is given back once, and what lives is where its map says.
#[test]
fn what_dies_while_a_slot_is_emptied_is_not_moved() {
    let chance = &Chance::new(seed());
    for (count, shape) in SHAPES {
        let fleet = drives(chance, Bytes(32 << 20), count, shape);
        let hall = Arc::new(Hall {
            mounted: desk::mount(chance, &fleet),
            names: desk::names(),
            view: View::first(),
            is_done: AtomicBool::new(false),
        });
        let of = hall.files();
        of.format(&clerk::root()).expect("formatted");
        let mut shelf = Shelf::fill(of, &hall.mounted, chance, 8);
        while of.rebundle().expect("moved").gained.0 == 0 {
            for _ in 0..8 {
                shelf.overwrite(chance, 4).expect("room");
            }
        }
        let mut rounds = 0;
        while rounds < 6 {
            for _ in 0..8 {
                shelf.overwrite(chance, 4).expect("room");
            }
            let mut gone: Vec<(InodeNo, u64)> = Vec::new();
            for _ in 0..12 {
                let n = chance.below(shelf.files.len());
                let (file, bytes) = &mut shelf.files[n];
                let block = chance.below(BLOCKS);
                bytes[block * BLOCK_SIZE..][..BLOCK_SIZE].fill(0);
                gone.push((*file, block as u64));
            }
            let its = hall.clone();
            let punch = move || {
                for (file, block) in gone {
                    let (from, to) = (Bytes(block << 12), Bytes((block + 1) << 12));
                    (its.files().punch(file, from, to, NOW)).expect("punched");
                }
                its.is_done.store(true, Ordering::Relaxed);
            };
            let before = of.tally().moved.blocks;
            fleet.after_reads(chance.below(30), punch);
            of.rebundle().expect("moved");
            rounds += usize::from(of.tally().moved.blocks > before);
            // There may have been fewer reads than that.
            while !hall.is_done.swap(false, Ordering::Relaxed) {
                desk::read(of, shelf.files[0].0, 0, BLOCKS);
            }
        }
        shelf.check(&hall.mounted);
    }
}

/// One task overwrites a file in small pieces, one reads another file, which others overwrote before, and one empties slots, as often as there
/// are any to be emptied. Says how many blocks that moved.
fn together(seed: u64) -> u64 {
    let world = World::new(seed).holding().run(move || {
        let chance = &Chance::new(seed);
        let (count, shape) = SHAPES[chance.below(SHAPES.len())];
        let fleet = drives(chance, Bytes(32 << 20), count, shape);
        let hall = Arc::new(Hall {
            mounted: desk::mount(chance, &fleet),
            names: desk::names(),
            view: View::first(),
            is_done: AtomicBool::new(false),
        });
        let of = hall.files();
        of.format(&clerk::root()).expect("formatted");
        let mut shelf = Shelf::fill(of, &hall.mounted, chance, 8);
        while of.rebundle().expect("moved").gained.0 == 0 {
            for _ in 0..8 {
                shelf.overwrite(chance, 4).expect("room");
            }
        }
        // And more, until it is worth another look.
        for _ in 0..10 {
            for _ in 0..4 {
                shelf.overwrite(chance, 4).expect("room");
            }
            hall.mounted.checkpoint().expect("durable");
        }
        let before = of.tally().moved.blocks.0;
        let files = shelf.files;
        let (hot, others) = (files[..1].to_vec(), files[1..].to_vec());
        let (its, own) = (hall.clone(), Chance::new(chance.next()));
        let read = others.clone();
        let reads = Worker::try_spawn(lock_class!("reads"), move || {
            while !its.is_done.load(Ordering::Relaxed) {
                let (file, bytes) = &read[own.below(read.len())];
                let first = own.below(BLOCKS - 16);
                let found = desk::read(its.files(), *file, first as u64, 16);
                let wanted = &bytes[first * BLOCK_SIZE..][..found.len()];
                assert!(found == wanted, "other bytes");
            }
        });
        let (its, own) = (hall.clone(), Chance::new(chance.next()));
        let written = Arc::new(Mutex::new(hot));
        let theirs = written.clone();
        let writes = Worker::try_spawn(lock_class!("writes"), move || {
            let files = theirs.lock().expect("alone").clone();
            let mut shelf = Shelf {
                of: its.files(),
                files,
            };
            while !its.is_done.load(Ordering::Relaxed) {
                match shelf.overwrite(&own, 4) {
                    Ok(()) | Err(Error::NoSpace) => {}
                    Err(why) => panic!("{why}"),
                }
                *theirs.lock().expect("alone") = shelf.files.clone();
            }
        });
        for n in 0..40 {
            of.rebundle().expect("moved");
            if n > 6 && of.tally().moved.blocks.0 > before {
                break;
            }
            if chance.below(3) == 0 {
                hall.mounted.checkpoint().expect("durable");
            }
            embr_rt::time::sleep(Duration::from_micros(20));
        }
        hall.is_done.store(true, Ordering::Relaxed);
        drop((reads.expect("a task"), writes.expect("a task")));
        let mut all = written.lock().expect("alone").clone();
        all.extend(others);
        check(of, &hall.mounted, &all).unwrap_or_else(|why| panic!("{why}"));
        of.tally().moved.blocks.0 - before
    });
    world
        .unwrap_or_else(|failure| panic!("EMBRFS_SEED={seed}: {failure}"))
        .value
}

#[test]
fn slots_are_emptied_beside_readers_and_writers() {
    let seed = seed();
    let moved = (0..24).map(|n| together(seed + n)).sum::<u64>();
    assert!(moved > 0, "nothing was moved");
}
