// SPDX-License-Identifier: GPL-2.0

//! Fragments and copies move to other devices: nothing of what files hold changes, whoever reads or writes meanwhile, whatever crashes,
//! and whatever is lost afterwards.

use embr_engine::check::Finding;
use embr_engine::file::Way;
use embr_engine::format::engram::Lies;
use embr_engine::format::member::Members;
use embr_engine::format::member::Slot;
use embr_engine::names::Error;
use embr_engine::names::Files;
use embr_engine::names::Names;
use embr_engine::names::View;
use embr_engine::rebundle::Cursor;
use embr_engine::rebundle::Lodged;
use embr_engine::units::Blocks;
use embr_engine::units::Bytes;
use embr_engine::units::EngramId;
use embr_engine::units::FileBlock;
use embr_engine::units::InodeNo;
use embr_engine::units::StripeId;
use embr_engine::units::BLOCK_SIZE;
use embr_engine::volume::recover;
use embr_engine::volume::Mounted;
use embr_rt::lock_class;
use embr_rt::sim::World;
use embr_rt::time::Duration;
use embr_rt::work::Worker;
use embrfs_sim::contents;
use embrfs_sim::desk::create;
use embrfs_sim::desk::drives;
use embrfs_sim::desk::mount;
use embrfs_sim::desk::names;
use embrfs_sim::desk::one_file;
use embrfs_sim::desk::pattern;
use embrfs_sim::desk::read;
use embrfs_sim::desk::riddle;
use embrfs_sim::desk::write;
use embrfs_sim::fault::Fault;
use embrfs_sim::fault::ReadFault;
use embrfs_sim::fault::When;
use embrfs_sim::fault::WriteFault;
use embrfs_sim::fleet::Fleet;
use embrfs_sim::host::seed;
use embrfs_sim::host::Chance;
use embrfs_sim::inspector::with_data as findings;
use embrfs_sim::inspector::Copies;
use embrfs_sim::machine;
use embrfs_sim::machine::Simulated;
use embrfs_sim::recording::State;
use embrfs_sim::scribe::NOW;
use embrfs_sim::states::Plan;
use embrfs_sim::stripes::layouts;
use embrfs_sim::stripes::lodged;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::sync::Arc;

const SIZE: Bytes = Bytes(32 << 20);
/// On small drives no stripe may have blocks of many engrams.
const LARGE: Bytes = Bytes(1 << 30);
/// How many drives, and k + m.
const VOLUMES: [(usize, (u8, u8)); 5] = [
    (6, (4, 2)),
    (8, (4, 2)),
    (3, (2, 1)),
    (4, (2, 1)),
    (3, (1, 1)),
];

fn slot(n: usize) -> Slot {
    Slot::new(n).expect("a slot")
}

/// Files of a few sizes, some written over in part, and one of which room was set aside.
struct Shelf {
    files: Vec<(InodeNo, Vec<u8>)>,
}

impl Shelf {
    fn new(of: Files<'_, Simulated>, chance: &Chance) -> Self {
        let mut files = Vec::new();
        for blocks in [1, 2, 7, 40, 300, 1 + chance.below(300)] {
            let file = create(of, format!("{}", files.len()).as_bytes());
            let mut bytes = pattern(blocks, chance.next());
            write(of, file, 0, &bytes, Way::Sealed);
            for _ in 0..chance.below(5) {
                let first = chance.below(blocks);
                let new = pattern(1, chance.next());
                write(of, file, first as u64, &new, Way::Sealed);
                bytes[first * BLOCK_SIZE..][..BLOCK_SIZE].copy_from_slice(&new);
            }
            files.push((file, bytes));
        }
        let file = create(of, b"set aside");
        let (first, end) = (FileBlock(0), FileBlock(40));
        of.preallocate(file, first, end, Some(Bytes(40 << 12)), NOW)
            .expect("room");
        let mut bytes = vec![0; 40 * BLOCK_SIZE];
        let new = pattern(3, chance.next());
        write(of, file, 5, &new, Way::Sealed);
        bytes[5 * BLOCK_SIZE..][..new.len()].copy_from_slice(&new);
        files.push((file, bytes));
        Shelf { files }
    }

    /// A file in one full stripe, of which some blocks of one fragment died, and small files in copies, more than take their place.
    fn hollow(of: Files<'_, Simulated>, chance: &Chance, data: u8) -> Self {
        let rows = 64;
        let blocks = rows * usize::from(data);
        let file = create(of, b"hollow");
        let mut bytes = pattern(blocks, chance.next());
        write(of, file, 0, &bytes, Way::Sealed);
        let fragment = chance.below(data.into());
        let dead = 40 + chance.below(25);
        let first = fragment * rows + chance.below(rows - dead + 1);
        let (from, to) = (first * BLOCK_SIZE, (first + dead) * BLOCK_SIZE);
        of.punch(file, Bytes(from as u64), Bytes(to as u64), NOW)
            .expect("punched");
        bytes[from..to].fill(0);
        let mut files = vec![(file, bytes)];
        for n in 0..40 {
            let file = create(of, format!("small {n}").as_bytes());
            let bytes = pattern(1, chance.next());
            write(of, file, 0, &bytes, Way::Sealed);
            files.push((file, bytes));
        }
        Shelf { files }
    }

    fn check(&self, of: Files<'_, Simulated>) -> Result<(), String> {
        for (file, bytes) in &self.files {
            let mut found = vec![0xcc; bytes.len()];
            of.read(*file, FileBlock(0), &mut found)
                .map_err(|why| format!("{file}: {why}"))?;
            if found != *bytes {
                return Err(format!("{file}: other bytes"));
            }
        }
        Ok(())
    }
}

fn on(mounted: &Mounted<Simulated>, device: Slot) -> usize {
    let all = lodged(mounted).expect("known");
    all.iter().filter(|(_, on)| *on == device).count()
}

/// Moves all away from a device. Says how many blocks.
fn evacuate(of: Files<'_, Simulated>, device: Slot) -> u64 {
    let (mut cursor, mut moved) = (Cursor::BEGIN, 0);
    while cursor != Cursor::End {
        let step = of.evacuate(device, &mut cursor).expect("room");
        assert_eq!(step.left, 0);
        moved += step.moved.0;
    }
    moved
}

/// Anything moves, again and again, also after a mount: all is as it was, and each fragment is sound.
#[test]
fn whatever_moves_all_is_as_it_was() {
    let chance = &Chance::new(seed());
    for (count, shape) in VOLUMES {
        let fleet = drives(chance, SIZE, count, shape);
        let mut mounted = mount(chance, &fleet);
        let view = View::first();
        let mut names_of = names();
        one_file(&mounted, &names_of, &view);
        let shelf = Shelf::new(names_of.of(&mounted, &view), chance);
        let (mut moved, mut elsewhere) = (0, 0);
        for round in 0..4 {
            let of = names_of.of(&mounted, &view);
            for (what, before) in lodged(&mounted).expect("known") {
                if chance.below(3) != 0 {
                    continue;
                }
                // With no drive to spare it finds another place where it is.
                let avoid = match count > usize::from(shape.0 + shape.1) {
                    true => Members::default().with(before),
                    false => Members::default(),
                };
                let blocks = of.relocate(what, avoid).expect("room");
                moved += blocks.0;
                let now = lodged(&mounted).expect("known");
                let is_there = now.contains(&(what, before));
                assert!(
                    !is_there || avoid.count() == 0 || blocks == Blocks(0),
                    "{what:?}"
                );
                elsewhere += usize::from(!is_there);
            }
            contents::audit(&mounted).unwrap_or_else(|why| panic!("{shape:?}: {why}"));
            assert_eq!(findings(&mounted, &names_of, &view), [], "{shape:?}");
            shelf
                .check(of)
                .unwrap_or_else(|why| panic!("{shape:?}: {why}"));
            if round % 2 == 0 {
                mounted.close().expect("closed");
                mounted = mount(chance, &fleet);
                names_of = names();
            }
        }
        assert!(moved > 100, "{shape:?}: {moved}");
        assert!(
            elsewhere > 10 || count == 6 || shape == (2, 1),
            "{elsewhere}"
        );
        // What was set aside is written where it is now.
        let of = names_of.of(&mounted, &view);
        let (file, bytes) = shelf.files.last().expect("a file");
        let new = pattern(40, 3);
        write(of, *file, 0, &new, Way::Sealed);
        assert!(read(of, *file, 0, bytes.len() / BLOCK_SIZE) == new);
        contents::audit(&mounted).unwrap_or_else(|why| panic!("{shape:?}: {why}"));
        // Gone is gone.
        let gone = Lodged::Fragment(StripeId(1 << 40), 0);
        assert_eq!(of.relocate(gone, Members::default()).ok(), Some(Blocks(0)));
    }
}

/// Nothing of what files hold is on a device any more, and as many as may be lost are lost afterwards, that one among them or not.
#[test]
fn a_device_is_emptied() {
    let chance = &Chance::new(seed());
    for (count, shape) in [(7, (4, 2)), (4, (2, 1)), (3, (1, 1))] {
        let fleet = drives(chance, SIZE, count, shape);
        let mounted = mount(chance, &fleet);
        let view = View::first();
        let names_of = names();
        one_file(&mounted, &names_of, &view);
        let of = names_of.of(&mounted, &view);
        let shelf = Shelf::new(of, chance);
        let device = slot(chance.below(count));
        let lay = on(&mounted, device);
        assert!(lay > 1, "{shape:?}: {lay}");
        assert!(evacuate(of, device) > 0);
        assert_eq!(on(&mounted, device), 0, "{shape:?}");
        assert_eq!(evacuate(of, device), 0);
        contents::audit(&mounted).unwrap_or_else(|why| panic!("{shape:?}: {why}"));
        assert_eq!(findings(&mounted, &names_of, &view), [], "{shape:?}");
        mounted.close().expect("closed");
        let lost = usize::from(shape.1);
        for first in 0..count {
            let left = Fleet::start(chance.next(), &fleet.snapshot());
            for n in 0..lost {
                left.take(slot((first + n) % count));
            }
            let mounted = mount(chance, &left);
            let names_of = names();
            let of = names_of.of(&mounted, &view);
            shelf
                .check(of)
                .unwrap_or_else(|why| panic!("{shape:?} without {lost} from {first}: {why}"));
        }
    }
}

/// What is rotten where it lies is had from others before it is moved, and what cannot be had stays, and is told.
#[test]
fn nothing_rotten_is_moved() {
    let chance = &Chance::new(seed());
    for (count, shape) in [(7, (4, 2)), (4, (2, 1)), (3, (1, 1))] {
        let fleet = drives(chance, SIZE, count, shape);
        let mounted = mount(chance, &fleet);
        let view = View::first();
        let names_of = names();
        one_file(&mounted, &names_of, &view);
        let of = names_of.of(&mounted, &view);
        let shelf = Shelf::new(of, chance);
        mounted.checkpoint().expect("durable");
        let all = layouts(&mounted).expect("stripes");
        for device in [0, 1] {
            for layout in all.values() {
                let of_it = (0..layout.shape.width()).filter_map(|f| Some((f, layout.place(f)?)));
                for (fragment, place) in of_it.filter(|(_, p)| p.device == slot(device)) {
                    let row = chance.below(layout.shape.length(fragment)) as u64;
                    let at = Blocks(place.block.0 + row).bytes().expect("a place");
                    fleet.rot(place.device, at, 1 << chance.below(8));
                }
            }
        }
        for (engram, known) in contents::engrams(&mounted).expect("engrams") {
            if let Lies::Copies(places) = &known.map.lies {
                let place = places.iter().next().expect("a copy");
                let block = (0..256).find(|n| known.live.has(*n)).unwrap_or(0) as u64;
                let at = Blocks(place.block.0 + block).bytes().expect("a place");
                fleet.rot(place.device, at, 1 << (engram % 8));
            }
        }
        let (mut left, mut cursor) = (0, Cursor::BEGIN);
        while cursor != Cursor::End {
            left += of.evacuate(slot(0), &mut cursor).expect("room").left;
        }
        assert_eq!(on(&mounted, slot(0)), left);
        let rotten = findings(&mounted, &names_of, &view);
        let on_first = |finding: &Finding| match finding {
            Finding::RottenStripe(_, extent) => extent.device == slot(0),
            _ => false,
        };
        assert_eq!(
            rotten.iter().filter(|f| on_first(f)).count(),
            left.min(rotten.len())
        );
        let now = layouts(&mounted).expect("stripes");
        for finding in &rotten {
            if let Finding::RottenStripe(stripe, extent) = finding {
                let before = &all[&stripe.0];
                let stayed = (0..before.shape.width()).filter_map(|f| before.place(f));
                let mut here = stayed.filter(|p| p.device == extent.device);
                let is_old = here.any(|p| p.block.0 <= extent.start.0);
                assert!(is_old, "{shape:?}: rotten where it was moved to: {finding}");
                assert!(now.contains_key(&stripe.0));
            }
        }
        if shape != (2, 1) {
            assert_eq!(left, 0, "{shape:?}");
            shelf
                .check(of)
                .unwrap_or_else(|why| panic!("{shape:?}: {why}"));
        }
    }
}

/// With no room for it, nothing moves, and all that is promised stays so.
#[test]
fn without_room_all_stays_as_it_was() {
    let chance = &Chance::new(seed());
    for (count, shape) in [(7, (4, 2)), (3, (2, 1)), (3, (1, 1))] {
        let fleet = drives(chance, SIZE, count, shape);
        let mounted = mount(chance, &fleet);
        let view = View::first();
        let names_of = names();
        one_file(&mounted, &names_of, &view);
        let of = names_of.of(&mounted, &view);
        let shelf = Shelf::new(of, chance);
        for n in 0.. {
            // Until nothing is gained by moving things together, either.
            let blocks = mounted.statfs().available.0.max(1);
            let file = create(of, format!("full {n}").as_bytes());
            let promised = of.promise(Blocks(blocks.min(1 << 10)));
            let Ok(promise) = promised else { break };
            drop(promise);
            write(
                of,
                file,
                0,
                &pattern(blocks.min(512) as usize, n),
                Way::Sealed,
            );
        }
        mounted.checkpoint().expect("durable");
        let mut kept: Vec<Blocks> = Vec::new();
        let mut held = Vec::new();
        // What is left is somebody's.
        for n in 0..count {
            while let Ok(extent) = mounted.allocate(slot(n), Blocks(1), Blocks(1 << 20)) {
                held.push(extent);
            }
            kept.push(mounted.room(slot(n)).unused);
        }
        let layouts_before = layouts(&mounted).expect("stripes");
        let mut refused = 0;
        for (what, device) in lodged(&mounted).expect("known").into_iter().take(40) {
            let avoid = Members::default().with(device);
            match of.relocate(what, avoid) {
                Err(Error::NoSpace) => refused += 1,
                // Nothing of it lives there.
                Ok(Blocks(0)) => {}
                done => panic!("{shape:?}: {what:?}: {done:?}"),
            }
        }
        let mut cursor = Cursor::BEGIN;
        let again = loop {
            assert!(cursor != Cursor::End);
            match of.evacuate(slot(0), &mut cursor) {
                Err(Error::NoSpace) => break cursor,
                done => assert_eq!(done.expect("no room").moved, Blocks(0)),
            }
        };
        let done = of.evacuate(slot(0), &mut cursor);
        assert!(matches!(done, Err(Error::NoSpace)) && cursor == again);
        assert!(refused > 0);
        assert_eq!(layouts(&mounted).expect("stripes"), layouts_before);
        // A root that was written meanwhile has nodes elsewhere, as many.
        let unused = (0..count).map(|n| mounted.room(slot(n)).unused.0);
        assert_eq!(unused.sum::<u64>(), kept.iter().map(|b| b.0).sum());
        for extent in held {
            mounted.give_back(extent);
        }
        assert!(mounted.ledger().balanced);
        contents::audit(&mounted).unwrap_or_else(|why| panic!("{shape:?}: {why}"));
        shelf
            .check(of)
            .unwrap_or_else(|why| panic!("{shape:?}: {why}"));
    }
}

/// What lies together moves to where there is room in small pieces only, unless those are too small. What is dead needs none.
#[test]
fn a_copy_moves_into_small_holes() {
    let chance = &Chance::new(seed());
    for (run, died, fits) in [(9, 0, true), (1, 0, false), (9, 220, true)] {
        let fleet = drives(chance, SIZE, 3, (1, 1));
        let mounted = mount(chance, &fleet);
        let (names_of, view) = (names(), View::first());
        let file = one_file(&mounted, &names_of, &view);
        let of = names_of.of(&mounted, &view);
        let mut bytes = pattern(256, chance.next());
        write(of, file, 0, &bytes, Way::Sealed);
        let (from, to) = (BLOCK_SIZE, (1 + died) * BLOCK_SIZE);
        of.punch(file, Bytes(from as u64), Bytes(to as u64), NOW)
            .expect("punched");
        bytes[from..to].fill(0);
        let held = riddle(&mounted, of, &[create(of, b"holes")], run);
        let all = lodged(&mounted).expect("known");
        let is_its = |(what, _): &&(Lodged, Slot)| matches!(what, Lodged::Copy(EngramId(1), _));
        let (what, on) = *all.iter().find(is_its).expect("a copy");
        let done = of.relocate(what, Members::default().with(on));
        match fits {
            true => assert!(done.expect("room").0 > 0),
            false => assert_eq!(done, Err(Error::NoSpace)),
        }
        for extent in held {
            mounted.give_back(extent);
        }
        assert!(read(of, file, 0, 256) == bytes);
        assert_eq!(findings(&mounted, &names_of, &view), []);
        contents::audit(&mounted).unwrap_or_else(|why| panic!("{run}: {why}"));
    }
}

/// A device reads, and does not let itself be repaired where something is bad: it stays, and what lay there moves.
#[test]
fn what_a_device_refuses_to_repair_is_moved() {
    let chance = &Chance::new(seed());
    for (count, shape) in VOLUMES {
        let fleet = drives(chance, SIZE, count, shape);
        let mounted = mount(chance, &fleet);
        let view = View::first();
        let names_of = names();
        one_file(&mounted, &names_of, &view);
        let of = names_of.of(&mounted, &view);
        let shelf = Shelf::new(of, chance);
        mounted.checkpoint().expect("durable");
        let members = mounted.present();
        let mut refused = Vec::new();
        let stripes = layouts(&mounted).expect("stripes");
        for known in contents::engrams(&mounted).expect("engrams").values() {
            let Some(block) = (0..256).find(|n| known.live.has(*n)) else {
                continue;
            };
            if let (Some(piece), true) = (known.map.piece(block), refused.is_empty()) {
                let layout = &stripes[&piece.stripe.0];
                let (fragment, row) = layout.shape.place(piece.at + block - piece.first);
                let place = layout.place(fragment).expect("a place");
                refused.push((place.device, Blocks(place.block.0 + row as u64)));
            }
        }
        for (engram, known) in contents::engrams(&mounted).expect("engrams") {
            if let (Lies::Copies(places), true, true) =
                (&known.map.lies, known.map.blocks < 3, refused.len() < 2)
            {
                // The one that is read first.
                let first = engram as usize % places.count();
                let place = places.iter().nth(first).expect("a copy");
                refused.push((place.device, place.block));
            }
        }
        assert!(!refused.is_empty());
        for (device, block) in &refused {
            let at = block.bytes().expect("a place");
            fleet.rot(*device, at, 4);
            let range = at..Bytes(at.0 + 1);
            fleet.expect(*device, Fault::Write(When::Within(range), WriteFault::Fail));
        }
        shelf
            .check(of)
            .unwrap_or_else(|why| panic!("{shape:?}: {why}"));
        assert_eq!(mounted.present(), members, "{shape:?}");
        of.rebundle_ahead().expect("moved");
        mounted.checkpoint().expect("durable");
        assert_eq!(mounted.present(), members, "{shape:?}");
        assert_eq!(findings(&mounted, &names_of, &view), [], "{shape:?}");
        contents::audit(&mounted).unwrap_or_else(|why| panic!("{shape:?}: {why}"));
        shelf
            .check(of)
            .unwrap_or_else(|why| panic!("{shape:?}: {why}"));
    }
}

/// How often parts of stripes were written anew.
fn revisions(mounted: &Mounted<Simulated>) -> u32 {
    let all = layouts(mounted).expect("stripes");
    all.values().map(|layout| layout.revision).sum()
}

/// Where one fragment has all the dead blocks of a stripe, copies take their place: it and parity are written anew, and nothing else.
#[test]
fn copies_take_the_place_of_what_died_in_one_fragment() {
    let chance = &Chance::new(seed());
    for (count, shape) in [(6, (4, 2)), (8, (4, 2)), (3, (2, 1)), (5, (2, 3))] {
        let fleet = drives(chance, LARGE, count, shape);
        let mounted = mount(chance, &fleet);
        let view = View::first();
        let names_of = names();
        one_file(&mounted, &names_of, &view);
        let of = names_of.of(&mounted, &view);
        let shelf = Shelf::hollow(of, chance, shape.0);
        let before = layouts(&mounted).expect("stripes");
        assert_eq!((before.len(), revisions(&mounted)), (1, 0));
        let once = of.rebundle().expect("moved");
        let copies = 1 + u64::from(shape.1);
        assert_eq!(once.gained.0, once.blocks.0 * copies, "{shape:?}: {once:?}");
        assert!(once.blocks.0 >= 32, "{once:?}");
        let after = layouts(&mounted).expect("stripes");
        let (old, new) = (&before[&1], &after[&1]);
        assert_eq!((after.len(), new.revision), (1, 1));
        let stays = |f: &usize| old.place(*f) == new.place(*f);
        let data = usize::from(shape.0);
        assert_eq!((0..data).filter(stays).count(), data - 1, "{shape:?}");
        assert_eq!((data..new.shape.width()).filter(stays).count(), 0);
        contents::audit(&mounted).unwrap_or_else(|why| panic!("{shape:?}: {why}"));
        assert_eq!(findings(&mounted, &names_of, &view), [], "{shape:?}");
        shelf
            .check(of)
            .unwrap_or_else(|why| panic!("{shape:?}: {why}"));
        mounted.close().expect("closed");
        for first in 0..count {
            let left = Fleet::start(chance.next(), &fleet.snapshot());
            for n in 0..usize::from(shape.1) {
                left.take(slot((first + n) % count));
            }
            let mounted = mount(chance, &left);
            let names_of = names();
            (shelf.check(names_of.of(&mounted, &view)))
                .unwrap_or_else(|why| panic!("{shape:?} from {first}: {why}"));
            contents::audit_but(&mounted, Copies::MayLack)
                .unwrap_or_else(|why| panic!("{shape:?} from {first}: {why}"));
        }
    }
}

/// Whatever a crash leaves of a stripe of which a part is written anew, it is the one or the other as a whole.
#[test]
fn crashes_leave_a_stripe_before_or_after_its_revision() {
    let chance = &Chance::new(seed());
    let wanted = std::env::var("EMBRFS_STATES").map_or(150, |n| n.parse().expect("a number"));
    let (mut states, mut seen) = (0, [0; 2]);
    while states < wanted {
        for (count, shape) in [(6, (4, 2)), (3, (2, 1))] {
            let fleet = drives(chance, LARGE, count, shape);
            let mounted = mount(chance, &fleet);
            let view = View::first();
            let names_of = names();
            one_file(&mounted, &names_of, &view);
            let of = names_of.of(&mounted, &view);
            let shelf = Shelf::hollow(of, chance, shape.0);
            mounted.checkpoint().expect("durable");
            fleet.record();
            of.rebundle().expect("moved");
            assert_eq!(revisions(&mounted), 1);
            for n in 0..chance.below(3) {
                let file = create(of, format!("new {n}").as_bytes());
                write(of, file, 0, &pattern(100, n as u64), Way::Sealed);
            }
            mounted.sync().expect("durable");
            let recording = fleet.recorded();
            let plan = Plan {
                seed: chance.next(),
                subsets: 4,
                tears: 1,
                mixed: 20,
            };
            let mut after = |state: &State, own: &Chance| -> Result<(), String> {
                let snapshot = recording.at(state).ok_or("no such state")?;
                let fleet = Fleet::start(own.next(), &snapshot);
                let mounted = machine::mount(own.next(), &fleet, machine::READ_WRITE)?;
                let names_of = names();
                contents::audit(&mounted)?;
                if let Some(first) = findings(&mounted, &names_of, &view).first() {
                    return Err(first.to_string());
                }
                seen[revisions(&mounted) as usize] += 1;
                shelf.check(names_of.of(&mounted, &view))
            };
            for (state, own) in recording.some(plan, 25.0) {
                states += 1;
                after(&state, &own).unwrap_or_else(|why| panic!("{shape:?}: {state}: {why}"));
            }
        }
    }
    assert!(seen.iter().all(|n| *n > 0), "{seen:?}");
}

/// Blocks that are written to drives for so many that die of a stripe, in one fragment or in all of them, to have none dead again: by
/// a revision, and by giving the stripe up. And what overwriting them writes, to which a revision would be the other way.
#[test]
fn a_revision_writes_less_than_a_new_stripe_where_one_fragment_died() {
    let chance = &Chance::new(seed());
    let shape = (4, 2);
    for dead in [32, 48, 64] {
        let mut written = Vec::new();
        for together in [true, false] {
            let fleet = drives(chance, LARGE, 6, shape);
            let mounted = mount(chance, &fleet);
            let view = View::first();
            let names_of = names();
            one_file(&mounted, &names_of, &view);
            let of = names_of.of(&mounted, &view);
            let file = create(of, b"hollow");
            write(of, file, 0, &pattern(256, 1), Way::Sealed);
            for n in 0..dead as u64 {
                let block = match together {
                    true => 64 + n,
                    false => n * 4,
                };
                let (from, to) = (Bytes(block << 12), Bytes((block + 1) << 12));
                of.punch(file, from, to, NOW).expect("punched");
                let small = create(of, format!("{n}").as_bytes());
                write(of, small, 0, &pattern(1, n), Way::Sealed);
            }
            mounted.checkpoint().expect("durable");
            let before = fleet.written().0;
            let (mut gained, mut moved) = (0, 0);
            while moved < 256 {
                let once = of.rebundle().expect("moved");
                (gained, moved) = (gained + once.gained.0, moved + once.blocks.0);
                if together || once.gained == Blocks(0) {
                    break;
                }
            }
            assert_eq!(revisions(&mounted), u32::from(together));
            written.push(((fleet.written().0 - before) >> 12, gained));
        }
        println!(
            "{dead} dead: revision {:?}, given up {:?} (written, gained)",
            written[0], written[1]
        );
        let (revision, other) = (written[0], written[1]);
        assert!(revision.0 * other.1 < other.0 * revision.1, "{written:?}");
    }
    for blocks in [1, 4, 16, 32, 64] {
        let fleet = drives(chance, SIZE, 6, shape);
        let mounted = mount(chance, &fleet);
        let view = View::first();
        let names_of = names();
        one_file(&mounted, &names_of, &view);
        let of = names_of.of(&mounted, &view);
        let file = create(of, b"one");
        write(of, file, 0, &pattern(256, 1), Way::Sealed);
        mounted.checkpoint().expect("durable");
        let before = fleet.written().0;
        write(of, file, 64, &pattern(blocks, 2), Way::Sealed);
        let now = (fleet.written().0 - before) >> 12;
        // A fragment lies together, and all parity has all rows.
        let revision = 64 * 3;
        println!("{blocks} written over: {now} blocks, by a revision {revision}");
        assert!(now < revision);
    }
}

/// Moves one after the other into each other's places, beside what is written: whatever a crash leaves, each fragment is sound.
#[test]
fn crashes_among_moves_leave_all_sound() {
    let chance = &Chance::new(seed());
    let wanted = std::env::var("EMBRFS_STATES").map_or(150, |n| n.parse().expect("a number"));
    let mut states = 0;
    while states < wanted {
        for (count, shape) in VOLUMES {
            let fleet = drives(chance, SIZE, count, shape);
            let mounted = mount(chance, &fleet);
            let view = View::first();
            let names_of = names();
            one_file(&mounted, &names_of, &view);
            let of = names_of.of(&mounted, &view);
            let shelf = Shelf::new(of, chance);
            mounted.checkpoint().expect("durable");
            fleet.record();
            for n in 0..6 {
                let all = lodged(&mounted).expect("known");
                for _ in 0..4 {
                    let (what, _) = all[chance.below(all.len())];
                    of.relocate(what, Members::default()).expect("room");
                }
                match chance.below(4) {
                    0 => mounted.checkpoint().expect("durable"),
                    1 => mounted.sync().expect("durable"),
                    2 => {
                        let file = create(of, format!("new {n}").as_bytes());
                        write(of, file, 0, &pattern(200, n), Way::Sealed);
                    }
                    _ => drop(of.rebundle().expect("moved")),
                }
            }
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
                let names_of = names();
                contents::audit(&mounted)?;
                if let Some(first) = findings(&mounted, &names_of, &view).first() {
                    return Err(first.to_string());
                }
                shelf.check(names_of.of(&mounted, &view))
            };
            for (state, own) in recording.some(plan, 12.0) {
                states += 1;
                after(&state, &own).unwrap_or_else(|why| panic!("{shape:?}: {state}: {why}"));
            }
        }
    }
}

/// What all tasks share.
struct Hall {
    mounted: Mounted<Simulated>,
    names: Names,
    view: View,
    shelf: Shelf,
    is_over: AtomicBool,
    read: AtomicUsize,
}

impl Hall {
    fn files(&self) -> Files<'_, Simulated> {
        self.names.of(&self.mounted, &self.view)
    }
}

/// One task reads, one writes over a file of its own, and one moves fragments and empties devices. Says how many blocks moved.
fn together(seed: u64) -> u64 {
    let world = World::new(seed).run(move || {
        let chance = &Chance::new(seed);
        let (count, shape) = VOLUMES[chance.below(VOLUMES.len())];
        let is_hollow = shape.0 > 1 && chance.below(2) == 0;
        let size = if is_hollow { LARGE } else { SIZE };
        let fleet = drives(chance, size, count, shape);
        // What is looked up is read from drives, which takes a while.
        let forgetful = recover::Options {
            cache: Bytes(0),
            ..machine::READ_WRITE
        };
        let mounted = machine::mount(chance.next(), &fleet, forgetful).expect("mounted");
        let (names, view) = (names(), View::first());
        let other = one_file(&mounted, &names, &view);
        let shelf = match is_hollow {
            true => Shelf::hollow(names.of(&mounted, &view), chance, shape.0),
            false => Shelf::new(names.of(&mounted, &view), chance),
        };
        let hall = Arc::new(Hall {
            mounted,
            names,
            view,
            shelf,
            is_over: AtomicBool::new(false),
            read: AtomicUsize::new(0),
        });
        let (its, own) = (hall.clone(), Chance::new(chance.next()));
        let reads = Worker::try_spawn(lock_class!("reads"), move || {
            while !its.is_over.load(Ordering::Relaxed) {
                let (file, bytes) = &its.shelf.files[own.below(its.shelf.files.len())];
                let all = bytes.len() / BLOCK_SIZE;
                let blocks = 1 + own.below(all.min(30));
                let first = own.below(all - blocks + 1);
                let found = read(its.files(), *file, first as u64, blocks);
                assert!(
                    found == bytes[first * BLOCK_SIZE..][..found.len()],
                    "other bytes"
                );
                its.read.fetch_add(1, Ordering::Relaxed);
            }
        });
        let (its, own) = (hall.clone(), Chance::new(chance.next()));
        let writes = Worker::try_spawn(lock_class!("writes"), move || {
            let mut bytes = pattern(60, 1);
            write(its.files(), other, 0, &bytes, Way::Sealed);
            while !its.is_over.load(Ordering::Relaxed) {
                let blocks = 1 + own.below(20);
                let first = own.below(60 - blocks);
                let new = pattern(blocks, own.next());
                write(its.files(), other, first as u64, &new, Way::Sealed);
                bytes[first * BLOCK_SIZE..][..new.len()].copy_from_slice(&new);
            }
            assert!(
                read(its.files(), other, 0, 60) == bytes,
                "not what was written"
            );
        });
        let mut moved = 0;
        for n in 1..8 {
            while hall.read.load(Ordering::Relaxed) < n * 3 {
                embr_rt::time::sleep(Duration::from_micros(20));
            }
            match chance.below(3) {
                0 if count > usize::from(shape.0 + shape.1) => {
                    moved += evacuate(hall.files(), slot(chance.below(count)));
                }
                1 => drop(hall.files().rebundle().expect("moved")),
                _ => {
                    for (what, _) in lodged(&hall.mounted).expect("known") {
                        if chance.below(4) == 0 {
                            let avoid = Members::default();
                            moved += hall.files().relocate(what, avoid).expect("room").0;
                        }
                    }
                }
            }
            if chance.below(3) == 0 {
                hall.mounted.checkpoint().expect("durable");
            }
        }
        hall.is_over.store(true, Ordering::Relaxed);
        drop((reads.expect("a task"), writes.expect("a task")));
        contents::audit(&hall.mounted).unwrap_or_else(|why| panic!("{why}"));
        assert_eq!(findings(&hall.mounted, &hall.names, &hall.view), []);
        (hall.shelf.check(hall.files())).unwrap_or_else(|why| panic!("{why}"));
        moved
    });
    world
        .unwrap_or_else(|failure| panic!("EMBRFS_SEED={seed}: {failure}"))
        .value
}

/// What is read goes wrong, its fragment moves meanwhile, and of the others are too few: it is read from where it is now.
#[test]
fn who_cannot_read_where_it_lay_looks_again() {
    let chance = &Chance::new(seed());
    let fleet = drives(chance, SIZE, 4, (2, 1));
    let mounted = mount(chance, &fleet);
    let (names, view) = (names(), View::first());
    let file = one_file(&mounted, &names, &view);
    let bytes = pattern(128, chance.next());
    write(names.of(&mounted, &view), file, 0, &bytes, Way::Sealed);
    mounted.checkpoint().expect("durable");
    let layout = layouts(&mounted).expect("stripes")[&1];
    let (place, parity) = (layout.place(0), layout.place(2));
    let (place, parity) = (place.expect("a place"), parity.expect("a place"));
    fleet.rot(parity.device, parity.block.bytes().expect("a place"), 1);
    let hall = Arc::new(Hall {
        mounted,
        names,
        view,
        shelf: Shelf { files: Vec::new() },
        is_over: AtomicBool::new(false),
        read: AtomicUsize::new(0),
    });
    let its = hall.clone();
    fleet.after_reads(1, move || {
        let what = Lodged::Fragment(StripeId(1), 0);
        let avoid = Members::default().with(place.device);
        let moved = its.files().relocate(what, avoid);
        assert_eq!(moved.expect("room"), Blocks(64));
        its.is_over.store(true, Ordering::Relaxed);
    });
    let garbled = Fault::Read(When::After(0), ReadFault::Garble);
    fleet.expect(place.device, garbled);
    // One block: whichever bit turns over is of it.
    assert!(read(hall.files(), file, 0, 1) == bytes[..BLOCK_SIZE]);
    assert!(hall.is_over.load(Ordering::Relaxed), "nothing moved");
}

/// While a copy is read to be moved, a place in it that was set aside is written, where it was: that moves, too.
#[test]
fn what_is_written_where_it_was_set_aside_meanwhile_is_not_left_behind() {
    let chance = &Chance::new(seed());
    for (count, shape) in [(7, (4, 2)), (4, (2, 1)), (3, (1, 1))] {
        let fleet = drives(chance, SIZE, count, shape);
        let mounted = mount(chance, &fleet);
        let (names, view) = (names(), View::first());
        let file = one_file(&mounted, &names, &view);
        let of = names.of(&mounted, &view);
        let (first, end) = (FileBlock(0), FileBlock(40));
        of.preallocate(file, first, end, Some(Bytes(40 << 12)), NOW)
            .expect("room");
        let bytes = pattern(1, chance.next());
        write(of, file, 3, &bytes, Way::Sealed);
        mounted.checkpoint().expect("durable");
        // The one of which something is read.
        let engrams = contents::engrams(&mounted).expect("engrams");
        let mut engrams = engrams.iter();
        let (begun, _) = engrams
            .find(|(_, known)| !known.hashes.is_empty())
            .expect("what was written");
        let is_begun = |what: &Lodged| matches!(what, Lodged::Copy(e, _) if e.0 == *begun);
        let mut all = lodged(&mounted).expect("known");
        all.retain(|(what, _)| is_begun(what));
        let hall = Arc::new(Hall {
            mounted,
            names,
            view,
            shelf: Shelf { files: Vec::new() },
            is_over: AtomicBool::new(false),
            read: AtomicUsize::new(0),
        });
        let new = pattern(2, chance.next());
        for (n, (what, device)) in all.into_iter().enumerate() {
            let (its, bytes) = (hall.clone(), new.clone());
            fleet.after_reads(1, move || {
                write(its.files(), file, 10 + 2 * n as u64, &bytes, Way::Sealed);
                its.read.fetch_add(1, Ordering::Relaxed);
            });
            let avoid = Members::default().with(device);
            hall.files().relocate(what, avoid).expect("room");
            assert_eq!(hall.read.load(Ordering::Relaxed), n + 1);
            assert_eq!(findings(&hall.mounted, &hall.names, &hall.view), []);
            assert!(read(hall.files(), file, 10 + 2 * n as u64, 2) == new);
        }
        contents::audit(&hall.mounted).unwrap_or_else(|why| panic!("{shape:?}: {why}"));
    }
}

/// Of an engram in parts one is dead, and may get the place that it had: the other one's place is taken nonetheless.
#[test]
fn what_is_dead_may_lie_where_it_lay() {
    let chance = &Chance::new(seed());
    let (mut moved, mut in_parts) = (0, 0);
    for _ in 0..60 {
        let fleet = drives(chance, SIZE, 2, (1, 0));
        let mut mounted = mount(chance, &fleet);
        let (mut names_of, view) = (names(), View::first());
        let file = one_file(&mounted, &names_of, &view);
        let of = names_of.of(&mounted, &view);
        let (blocks, left) = (170 + chance.below(80), 5 + chance.below(20));
        let (begin, end) = (FileBlock(0), FileBlock(blocks as u64));
        of.preallocate(file, begin, end, Some(end.start()), NOW)
            .expect("room");
        let bytes = pattern(left, chance.next());
        write(of, file, 0, &bytes, Way::Sealed);
        let from = FileBlock(left as u64);
        of.punch(file, from.start(), end.start(), NOW)
            .expect("punched");
        for _ in 0..12 {
            // Places are looked for from the beginning on.
            mounted.close().expect("closed");
            mounted = mount(chance, &fleet);
            names_of = names();
            let of = names_of.of(&mounted, &view);
            let all = lodged(&mounted).expect("known");
            in_parts += usize::from(all.len() > 1);
            let (what, on) = chance.one(&all);
            // To where the other part is, and then anywhere.
            let avoid = match chance.below(2) {
                0 => Members::default().with(on),
                _ => Members::default(),
            };
            moved += of.relocate(what, avoid).expect("room").0;
            contents::audit(&mounted).unwrap_or_else(|why| panic!("{what:?}: {why}"));
            assert!(read(of, file, 0, left) == bytes);
        }
    }
    assert!(moved > 0 && in_parts > 0, "{moved} {in_parts}");
}

#[test]
fn who_reads_and_writes_meanwhile_notices_nothing() {
    let base = seed();
    let rounds = std::env::var("EMBRFS_ROUNDS").map_or(20, |n| n.parse().expect("a number"));
    let moved: u64 = (0..rounds).map(|n| together(base.wrapping_add(n))).sum();
    assert!(moved > 0, "nothing was moved");
    println!("{moved} blocks were moved");
}
