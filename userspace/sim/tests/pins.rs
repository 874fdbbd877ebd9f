// SPDX-License-Identifier: GPL-2.0

//! Blocks are freed, and their places written by others as soon as that may be, while somebody reads what lay there, repairs it, or
//! catches up a member: he finds what he planned for, and writes over nothing of theirs.

use embr_engine::file::Way;
use embr_engine::names::Files;
use embr_engine::names::Names;
use embr_engine::names::New;
use embr_engine::names::View;
use embr_engine::names::What;
use embr_engine::format::member::Slot;
use embr_engine::units::Blocks;
use embr_engine::units::Bytes;
use embr_engine::units::InodeNo;
use embr_engine::units::BLOCK_SIZE;
use embr_engine::volume::Mounted;
use embrfs_sim::clerk;
use embrfs_sim::contents;
use embrfs_sim::desk;
use embrfs_sim::desk::pattern;
use embrfs_sim::desk::read;
use embrfs_sim::desk::write;
use embrfs_sim::fleet::Fleet;
use embrfs_sim::host::seed;
use embrfs_sim::host::Chance;
use embrfs_sim::inspector::with_data as findings;
use embrfs_sim::machine::Simulated;
use embrfs_sim::stripes::layouts;
use std::collections::BTreeMap;
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

/// Blocks of a file: those that lie in first fragments, and the first copies of others.
fn first_places(mounted: &Mounted<Simulated>, file: InodeNo) -> Vec<(Slot, Bytes)> {
    let layouts = layouts(mounted).expect("stripes");
    let mut places = Vec::new();
    for (number, known) in contents::engrams(mounted).expect("engrams") {
        for (block, _) in known.owners.iter().filter(|(_, of)| of.0 == file.0) {
            let copies: Vec<_> = known.map.extents(*block, 1).collect();
            let first = copies.get(number as usize % copies.len().max(1));
            places.extend(first.map(|e| (e.device, e.start)));
            let Some(piece) = known.map.piece(*block) else {
                continue;
            };
            let (layout, row) = (layouts[&piece.stripe.0], piece.at + block - piece.first);
            let place = layout.place(0).filter(|_| row < layout.shape.length(0));
            places.extend(place.map(|p| (p.device, Blocks(p.block.0 + row as u64))));
        }
    }
    let at = |(slot, block): (Slot, Blocks)| (slot, block.bytes().expect("on the drive"));
    places.into_iter().map(at).collect()
}

impl Hall {
    /// One file was written in two goes.
    fn new(chance: &Chance, shape: (u8, u8)) -> (Fleet, Arc<Self>) {
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
        hall.fill(150);
        (fleet, Arc::new(hall))
    }

    fn files(&self) -> Files<'_, Simulated> {
        self.names.of(&self.mounted, &self.view)
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<u64, Vec<u8>>> {
        self.holds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, file: InodeNo, at: usize, bytes: &[u8]) {
        write(self.files(), file, at as u64, bytes, Way::Sealed);
        let mut holds = self.held();
        let held = holds.entry(file.0).or_default();
        held.resize(held.len().max(at * BLOCK_SIZE + bytes.len()), 0);
        held[at * BLOCK_SIZE..][..bytes.len()].copy_from_slice(bytes);
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
            self.write(made.what.number, 0, &pattern(blocks as usize, 77 + number));
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
        for (slot, at) in first_places(&hall.mounted, hall.file) {
            fleet.rot(slot, at, 1 << chance.below(8));
        }
        let its = hall.clone();
        fleet.after_reads(1, move || its.reuse());
        let found = read(hall.files(), hall.file, 0, BLOCKS);
        // Where other fragments are to help, nothing is known of them any more: what was written meanwhile is read.
        assert!(found == before || found == pattern(BLOCKS, 5), "{shape:?}");
        hall.is_sound();
    }
}
