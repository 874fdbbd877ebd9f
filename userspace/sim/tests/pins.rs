// SPDX-License-Identifier: GPL-2.0

//! Blocks are freed, and their places written by others as soon as that may be, while somebody reads what lay there, repairs it, or
//! catches up a member: he finds what he planned for, and writes over nothing of theirs.

use embr_engine::env::Device as _;
use embr_engine::file::Dirty;
use embr_engine::file::Way;
use embr_engine::file::Written;
use embr_engine::format::member::Members;
use embr_engine::format::member::Slot;
use embr_engine::names::Error;
use embr_engine::names::Files;
use embr_engine::names::Names;
use embr_engine::names::New;
use embr_engine::names::View;
use embr_engine::names::What;
use embr_engine::rebundle::Lodged;
use embr_engine::units::Blocks;
use embr_engine::units::Bytes;
use embr_engine::units::EngramId;
use embr_engine::units::FileBlock;
use embr_engine::units::InodeNo;
use embr_engine::units::BLOCK_SIZE;
use embr_engine::volume::recover;
use embr_engine::volume::Mounted;
use embrfs_sim::cache::Survival;
use embrfs_sim::clerk;
use embrfs_sim::contents;
use embrfs_sim::desk;
use embrfs_sim::desk::pattern;
use embrfs_sim::desk::read;
use embrfs_sim::fleet::Fleet;
use embrfs_sim::host::seed;
use embrfs_sim::host::Chance;
use embrfs_sim::inspector::with_data as findings;
use embrfs_sim::machine;
use embrfs_sim::machine::Simulated;
use embrfs_sim::stripes::layouts;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

const BLOCKS: usize = 20;

/// A volume that is all but full, and what its files hold.
struct Hall {
    mounted: Mounted<Simulated>,
    names: Names,
    view: View,
    file: InodeNo,
    holds: Mutex<BTreeMap<u64, Vec<u8>>>,
}

/// A place of a block of a file.
struct Spot {
    engram: u64,
    /// The file, and which block of it.
    of: (u64, u64),
    /// It is in the first fragment of a stripe, or is the copy that is read first.
    is_first: bool,
    slot: Slot,
    at: Bytes,
}

/// All places of blocks of files.
fn spots(mounted: &Mounted<Simulated>) -> Vec<Spot> {
    let layouts = layouts(mounted).expect("stripes");
    let mut spots = Vec::new();
    for (engram, known) in contents::engrams(mounted).expect("engrams") {
        for (block, of) in &known.owners {
            let mut add = |is_first, slot, at: Blocks| {
                spots.push(Spot {
                    engram,
                    of: *of,
                    is_first,
                    slot,
                    at: at.bytes().expect("on the drive"),
                });
            };
            let copies: Vec<_> = known.map.extents(*block, 1).collect();
            for (n, copy) in copies.iter().enumerate() {
                add(engram as usize % copies.len() == n, copy.device, copy.start);
            }
            if let Some(piece) = known.map.piece(*block) {
                let layout = layouts[&piece.stripe.0];
                let (fragment, row) = layout.shape.place(piece.at + block - piece.first);
                let place = layout.place(fragment).expect("a place");
                let at = Blocks(place.block.0 + row as u64);
                add(fragment == 0, place.device, at);
            }
        }
    }
    spots
}

impl Hall {
    /// One file was written in two goes.
    fn new(chance: &Chance, shape: (u8, u8)) -> (Fleet, Arc<Self>) {
        let (fleet, hall) = Hall::furnished(chance, shape, 150);
        (fleet, Arc::new(hall))
    }

    /// The same, and then a drive missed something.
    fn stale(chance: &Chance, shape: (u8, u8), missing: Slot) -> (Fleet, Arc<Self>) {
        let (fleet, mut hall) = Hall::furnished(chance, shape, 1000);
        for is_here in [false, true] {
            hall.mounted.close().expect("closed");
            match is_here {
                false => fleet.vanish(missing),
                true => fleet.come_back(missing, &Survival::All),
            }
            hall.mounted = desk::mount(chance, &fleet);
            hall.names = desk::names();
            hall.write(hall.file, 0, &pattern(1, chance.next()));
        }
        assert_eq!(hall.mounted.returning(), Members::default().with(missing));
        (fleet, Arc::new(hall))
    }

    /// And others, so that there is room for so many blocks.
    fn furnished(chance: &Chance, shape: (u8, u8), left: u64) -> (Fleet, Self) {
        let count = usize::from(shape.0 + shape.1);
        let fleet = desk::drives(chance, Bytes(32 << 20), count, shape);
        let mounted = desk::mount(chance, &fleet);
        let (names, view) = (desk::names(), View::first());
        let file = desk::one_file(&mounted, &names, &view);
        let hall = Hall {
            mounted,
            names,
            view,
            file,
            holds: Mutex::default(),
        };
        let half = BLOCKS / 2;
        for n in 0..2 {
            hall.write(file, n * half, &pattern(half, chance.next()));
            hall.mounted.checkpoint().expect("a root");
        }
        hall.fill(left);
        (fleet, hall)
    }

    fn files(&self) -> Files<'_, Simulated> {
        self.names.of(&self.mounted, &self.view)
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<u64, Vec<u8>>> {
        self.holds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes blocks. Says whether there was room.
    fn try_to_write(&self, file: InodeNo, at: usize, bytes: &[u8]) -> bool {
        let end = at * BLOCK_SIZE + bytes.len();
        let dirty = [Dirty {
            at: FileBlock(at as u64),
            bytes,
        }];
        let written = Written {
            size: Some(Bytes(end as u64)),
            ..Written::default()
        };
        match self.files().write(file, &dirty, Way::Sealed, &written) {
            Ok(_) => {}
            Err(Error::NoSpace) => return false,
            Err(why) => panic!("{why}"),
        }
        let mut holds = self.held();
        let held = holds.entry(file.0).or_default();
        held.resize(held.len().max(end), 0);
        held[at * BLOCK_SIZE..end].copy_from_slice(bytes);
        true
    }

    fn write(&self, file: InodeNo, at: usize, bytes: &[u8]) {
        assert!(self.try_to_write(file, at, bytes), "no room");
    }

    /// Writes files until there is no room for so many blocks.
    fn fill(&self, left: u64) {
        let blocks = if left < 100 { 1 } else { 8 };
        let mut number = self.held().len() as u64;
        while let Ok(promise) = self.files().promise(Blocks(left + blocks)) {
            drop(promise);
            let new = New {
                what: What::Regular,
                ..clerk::root()
            };
            let name = format!("filler {number}");
            let made = self.files().create(InodeNo::ROOT, name.as_bytes(), &new);
            let Ok(made) = made else { return };
            let bytes = pattern(blocks as usize, 77 + number);
            if !self.try_to_write(made.what.number, 0, &bytes) {
                return;
            }
            number += 1;
        }
    }

    /// The file is written anew, and others get what it had.
    fn reuse(&self) {
        self.write(self.file, 0, &pattern(BLOCKS, 5));
        for _ in 0..3 {
            self.mounted.checkpoint().expect("a root");
        }
        self.fill(0);
        self.mounted.checkpoint().expect("a root");
    }

    /// Where blocks of the file are that has been there from the beginning.
    fn spots(&self) -> Vec<Spot> {
        let mut all = spots(&self.mounted);
        all.retain(|spot| spot.of.0 == self.file.0);
        all
    }

    /// What of newer engrams lies on a drive is what files hold.
    fn has(&self, fleet: &Fleet, newest: u64, slot: Slot) {
        let (holds, drive) = (self.held(), fleet.drive(slot).expect("a drive"));
        let spots = spots(&self.mounted);
        for spot in spots.iter().filter(|s| s.engram > newest && s.slot == slot) {
            let mut found = vec![0; BLOCK_SIZE];
            drive.read(spot.at, &mut found).expect("read");
            let (file, block) = spot.of;
            let right = &holds[&file][block as usize * BLOCK_SIZE..][..BLOCK_SIZE];
            assert!(found == right, "block {block} of inode {file}");
        }
    }

    /// All files hold what was written, in all copies.
    fn is_sound(&self) {
        let holds = self.held();
        assert_eq!(findings(&self.mounted, &self.names, &self.view), []);
        for (file, bytes) in holds.iter() {
            let found = read(self.files(), InodeNo(*file), 0, bytes.len() / BLOCK_SIZE);
            assert!(found == *bytes, "inode {file}");
        }
    }
}

#[test]
fn what_is_read_stays_until_it_was_read() {
    let chance = &Chance::new(seed());
    for shape in [(1, 0), (1, 1), (2, 1), (4, 2)] {
        let (fleet, hall) = Hall::new(chance, shape);
        let before = hall.held()[&hall.file.0].clone();
        // Of nodes, all that it takes is in memory by then.
        assert!(read(hall.files(), hall.file, 0, BLOCKS) == before);
        let its = hall.clone();
        fleet.after_reads(1, move || its.reuse());
        let found = read(hall.files(), hall.file, 0, BLOCKS);
        assert!(found == before, "{shape:?}");
        hall.is_sound();
    }
}

/// What was read is bad, and repaired from elsewhere: the place is nobody else's yet.
#[test]
fn what_is_repaired_is_where_it_was_read() {
    let chance = &Chance::new(seed());
    for shape in [(1, 1), (2, 1), (4, 2)] {
        let (fleet, hall) = Hall::new(chance, shape);
        let before = hall.held()[&hall.file.0].clone();
        assert!(read(hall.files(), hall.file, 0, BLOCKS) == before);
        for spot in hall.spots().iter().filter(|spot| spot.is_first) {
            fleet.rot(spot.slot, spot.at, 1 << chance.below(8));
        }
        let its = hall.clone();
        fleet.after_reads(1, move || its.reuse());
        let found = read(hall.files(), hall.file, 0, BLOCKS);
        // Where other fragments are to help, nothing is known of them any more: what was written meanwhile is read.
        assert!(found == before || found == pattern(BLOCKS, 5), "{shape:?}");
        hall.is_sound();
    }
}

/// So is who is caught up: what others have by now where he had something is theirs.
#[test]
fn what_is_caught_up_is_where_it_was_read() {
    let chance = &Chance::new(seed());
    let mut met = 0;
    for shape in [(1, 1), (2, 1), (4, 2)].into_iter().cycle().take(12) {
        let missing = Slot::new(usize::from(shape.0)).expect("a slot");
        let (fleet, hall) = Hall::stale(chance, shape, missing);
        let (rotten, others): (Vec<_>, Vec<_>) = {
            let all = hall.spots().into_iter();
            // The first block was written without the drive: it is written anew with the rest standing still.
            let all = all.filter(|spot| spot.of.1 != 0);
            all.partition(|spot| spot.slot == missing)
        };
        for spot in &rotten {
            fleet.rot(missing, spot.at, 1 << chance.below(8));
        }
        let files = hall.files();
        let mut at = files
            .begin_catch_up(hall.mounted.returning())
            .expect("begun");
        let happened = Arc::new(AtomicBool::new(false));
        let (its, happens) = (hall.clone(), happened.clone());
        // When that was read from which it is made right, and before it is written.
        let from = &others[chance.below(others.len())];
        fleet.after_read_at(from.slot, from.at, move || {
            its.reuse();
            happens.store(true, Ordering::Relaxed);
        });
        let all = contents::engrams(&hall.mounted).expect("engrams");
        let newest = all.into_keys().max().expect("the file");
        loop {
            let goes_on = files.catch_up_some(&mut at).expect("caught up");
            if happened.swap(false, Ordering::Relaxed) {
                // Before the same is passed again, as others'.
                hall.has(&fleet, newest, missing);
                met += 1;
            }
            if !goes_on {
                break;
            }
        }
        assert_eq!(hall.mounted.returning(), Members::default());
        // It may be that nobody read that.
        fleet.after_reads(usize::MAX, || ());
        hall.is_sound();
    }
    assert!(met > 3, "{met}");
}

/// Between looking up whose a block is and where it lies, it dies, its engram is moved, and others get the place that would be its own
/// there: they keep it, whatever the reader finds.
#[test]
fn what_died_before_it_was_found_is_not_repaired() {
    let chance = &Chance::new(seed());
    let mut reused = 0;
    for round in 0..12 {
        let fleet = desk::drives(chance, Bytes(32 << 20), 3, (1, 1));
        let mounted = desk::mount(chance, &fleet);
        let (names, view) = (desk::names(), View::first());
        let file = desk::one_file(&mounted, &names, &view);
        let mut hall = Hall {
            mounted,
            names,
            view,
            file,
            holds: Mutex::default(),
        };
        let own = pattern(BLOCKS, chance.next());
        hall.write(file, 0, &own);
        hall.fill(200);
        hall.mounted.close().expect("closed");
        // All that is looked up is read from drives.
        let forgetful = recover::Options {
            cache: Bytes(0),
            ..machine::READ_WRITE
        };
        let mounted = machine::mount(chance.next(), &fleet, forgetful);
        (hall.mounted, hall.names) = (mounted.expect("mounted"), desk::names());
        let hall = Arc::new(hall);
        let (its, counter) = (hall.clone(), Arc::new(AtomicUsize::new(0)));
        let (counts, new) = (counter.clone(), pattern(1, chance.next()));
        fleet.after_reads(1 + round % 12, move || {
            let all = spots(&its.mounted);
            let first = (all.iter()).find(|s| s.of == (its.file.0, 5) && s.is_first);
            let first = first.expect("a block of the file");
            its.write(its.file, 5, &new);
            let what = Lodged::Copy(EngramId(first.engram), first.slot);
            let avoid = Members::default().with(first.slot);
            its.files().relocate(what, avoid).expect("room");
            its.fill(0);
            counts.fetch_add(1, Ordering::Relaxed);
        });
        let found = read(hall.files(), file, 0, BLOCKS);
        let now = hall.held()[&file.0].clone();
        assert!(found == own || found == now, "{round}");
        reused += counter.load(Ordering::Relaxed);
        fleet.after_reads(usize::MAX, || ());
        hall.is_sound();
    }
    assert!(reused > 5, "{reused}");
}
