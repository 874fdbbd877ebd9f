// SPDX-License-Identifier: GPL-2.0

//! Volumes of many shapes, up to sixteen data fragments and four of parity: whichever drives are lost, as many as may be, all is read as it was
//! written, more is written meanwhile, and who missed that is caught up; and drives of unequal sizes are filled as far as they can be.

use embr_engine::check::Finding;
use embr_engine::file::Dirty;
use embr_engine::file::Rest;
use embr_engine::file::Way;
use embr_engine::file::Written;
use embr_engine::format::geometry::Geometry;
use embr_engine::format::member::Members;
use embr_engine::format::member::Slot;
use embr_engine::format::stripe::Layout;
use embr_engine::names::Error;
use embr_engine::names::Files;
use embr_engine::names::Names;
use embr_engine::names::New;
use embr_engine::names::Users;
use embr_engine::names::View;
use embr_engine::names::What;
use embr_engine::units::Blocks;
use embr_engine::units::Bytes;
use embr_engine::units::DeviceId;
use embr_engine::units::FileBlock;
use embr_engine::units::InodeNo;
use embr_engine::units::BLOCK_SIZE;
use embr_engine::volume::recover::Options;
use embr_engine::volume::Mounted;
use embrfs_sim::cache::Survival;
use embrfs_sim::clerk;
use embrfs_sim::contents;
use embrfs_sim::desk::create;
use embrfs_sim::desk::drives;
use embrfs_sim::desk::mount;
use embrfs_sim::desk::names;
use embrfs_sim::desk::pattern;
use embrfs_sim::desk::read;
use embrfs_sim::desk::write;
use embrfs_sim::fleet::Fleet;
use embrfs_sim::host::seed;
use embrfs_sim::host::Chance;
use embrfs_sim::inspector;
use embrfs_sim::machine;
use embrfs_sim::machine::Refused;
use embrfs_sim::machine::Simulated;
use embrfs_sim::machine::READ_WRITE;
use embrfs_sim::scribe::NOW;
use embrfs_sim::stripes::layouts;
use std::collections::BTreeMap;

const SIZE: Bytes = Bytes(32 << 20);
/// How often drives are lost, of each shape.
const LOSSES: usize = 3;
/// Sets of drives of one count that are all tried, and how many are where there are more.
const ALL_SETS: usize = 35;
const DRAWN_SETS: usize = 10;

/// What is in each file.
type Model = BTreeMap<u64, Vec<u8>>;

/// A volume that is mounted.
struct Desk {
    mounted: Mounted<Simulated>,
    names: Names,
    view: View,
}

impl Desk {
    fn open(chance: &Chance, fleet: &Fleet) -> Self {
        Desk {
            mounted: mount(chance, fleet),
            names: names(),
            view: View::first(),
        }
    }

    fn files(&self) -> Files<'_, Simulated> {
        self.names.of(&self.mounted, &self.view)
    }

    /// Whether all files are as they should be, and nothing is wrong but that copies are fewer where drives are missing.
    fn compare(&self, model: &Model, what: &str) {
        for (file, bytes) in model {
            let found = self.files().lookup(InodeNo::ROOT, &name(*file));
            let found = found.unwrap_or_else(|why| panic!("{what}: file {file}: {why}"));
            let found = read(self.files(), found.inode, 0, bytes.len() / BLOCK_SIZE);
            assert!(found == *bytes, "{what}: file {file}");
        }
        let mut found = inspector::with_data(&self.mounted, &self.names, &self.view);
        found.retain(|finding| !matches!(finding, Finding::Fewer(..)));
        assert_eq!(found, [], "{what}");
    }

    /// New files of all sizes, and parts of old ones anew.
    fn work(&self, chance: &Chance, model: &mut Model, wide: usize) {
        for blocks in [1, 2, wide, wide + 1, 3 * wide + 1, 64, 256, 257, 700] {
            let file = model.keys().last().map_or(0, |last| last + 1);
            let bytes = pattern(blocks, chance.next());
            let number = create(self.files(), &name(file));
            write(self.files(), number, 0, &bytes, Way::Sealed);
            model.insert(file, bytes);
        }
        for (file, bytes) in model.iter_mut().filter(|_| chance.below(3) == 0) {
            let all = bytes.len() / BLOCK_SIZE;
            let at = chance.below(all);
            let new = pattern(1 + chance.below((all - at).min(40)), chance.next());
            let found = self.files().lookup(InodeNo::ROOT, &name(*file));
            let way = match new.len() / BLOCK_SIZE {
                0..4 => chance.one(&[Way::Sealed, Way::Inline]),
                _ => Way::Sealed,
            };
            let number = found.expect("there").inode;
            write(self.files(), number, at as u64, &new, way);
            bytes[at * BLOCK_SIZE..][..new.len()].copy_from_slice(&new);
        }
        if chance.below(2) == 0 {
            self.files().rebundle().expect("moved");
        }
    }

    /// Whoever missed something has it again.
    fn catch_up(&self, what: &str) {
        let returning = self.mounted.returning();
        let begun = self.files().begin_catch_up(returning);
        let mut at = begun.unwrap_or_else(|why| panic!("{what}: {why}"));
        while (self.files().catch_up_some(&mut at)).unwrap_or_else(|why| panic!("{what}: {why}")) {}
        let tally = at.tally();
        assert_eq!((tally.lost, tally.below), (0, 0), "{what}: {tally:?}");
        assert_eq!(self.mounted.returning(), Members::default(), "{what}");
    }
}

fn name(n: u64) -> Vec<u8> {
    format!("{n}").into_bytes()
}

/// So many of the numbers below `of`.
fn some(chance: &Chance, of: usize, count: usize) -> Vec<Slot> {
    let mut all: Vec<usize> = (0..of).collect();
    let each = (0..count).map(|_| all.remove(chance.below(all.len())));
    let slots = each.map(|n| Slot::new(n).expect("a slot"));
    slots.collect()
}

/// All sets of so many of the numbers below `of`, or some where there are too many to try them.
fn sets(chance: &Chance, of: usize, count: usize) -> Vec<Vec<Slot>> {
    let slots = |set: u32| (0..of).filter(move |n| set & (1 << n) != 0);
    let all: Vec<u32> = (0..1 << of)
        .filter(|set: &u32| set.count_ones() as usize == count)
        .collect();
    match all.len() <= ALL_SETS {
        true => all
            .into_iter()
            .map(|set| slots(set).map(|n| Slot::new(n).expect("a slot")).collect())
            .collect(),
        false => (0..DRAWN_SETS).map(|_| some(chance, of, count)).collect(),
    }
}

/// What the drives of a volume are called, all of which are there.
fn called(desk: &Desk) -> BTreeMap<Slot, DeviceId> {
    let parts = desk.mounted.parts();
    parts.iter().map(|part| (part.slot, part.id)).collect()
}

/// Nothing mounts without these drives, one more than may be lost, and whoever tries is told which are missing, and nothing of others.
fn refused(chance: &Chance, fleet: &Fleet, called: &BTreeMap<Slot, DeviceId>, lost: &[Slot]) {
    let read_only = chance.below(2) == 0;
    let options = Options {
        read_only,
        ..READ_WRITE
    };
    let why = machine::try_to_mount(chance.next(), fleet, options).err();
    let Some(Refused::Volume(why)) = why else {
        panic!("without {lost:?}: {why:?}");
    };
    let why = why.explain::<&str>(&[]).to_string();
    if lost.len() == called.len() {
        return;
    }
    let count = format!("{} members are missing", lost.len());
    assert!(why.starts_with(&count), "without {lost:?}: {why}");
    for (slot, id) in called {
        let is_told = why.contains(&format!("number {id} ("));
        assert_eq!(is_told, lost.contains(slot), "without {lost:?}: {why}");
    }
}

/// A volume of this shape on so many drives is read whichever are missing, as many as may be, and none is without more.
fn is_read(chance: &Chance, count: usize, (data, parity): (u8, u8)) {
    let on = format!("{data}+{parity} on {count} drives");
    let fleet = drives(chance, SIZE, count, (data, parity));
    let mut model = Model::new();
    let desk = Desk::open(chance, &fleet);
    desk.files().format(&clerk::root()).expect("formatted");
    desk.work(chance, &mut model, data.into());
    let called = called(&desk);
    desk.mounted.close().expect("closed");
    let drives = fleet.snapshot();
    let mut tried = 0;
    for missing in 1..=usize::from(parity) + 1 {
        for lost in sets(chance, count, missing) {
            let fleet = Fleet::start(chance.next(), &drives);
            lost.iter().for_each(|slot| fleet.vanish(*slot));
            if missing > usize::from(parity) {
                refused(chance, &fleet, &called, &lost);
            } else {
                let on = format!("{on} without {lost:?}");
                Desk::open(chance, &fleet).compare(&model, &on);
            }
            tried += 1;
        }
    }
    println!("{on}: {tried} sets of drives were missing");
}

#[test]
fn whichever_drives_are_missing_all_is_read() {
    let chance = &Chance::new(seed());
    for (count, shape) in [
        (4, (1, 3)),
        (6, (2, 4)),
        (7, (4, 3)),
        (8, (3, 4)),
        (12, (8, 4)),
        (19, (16, 3)),
        (20, (16, 4)),
        (23, (16, 4)),
    ] {
        is_read(chance, count, shape);
    }
}

/// A volume of this shape on so many drives, and what happens to it.
fn lives(chance: &Chance, count: usize, (data, parity): (u8, u8)) {
    let (wide, may_go) = (usize::from(data), usize::from(parity));
    let on = format!("{data}+{parity} on {count} drives");
    let fleet = drives(chance, SIZE, count, (data, parity));
    let mut model = Model::new();
    let desk = Desk::open(chance, &fleet);
    desk.files().format(&clerk::root()).expect("formatted");
    desk.work(chance, &mut model, wide);
    desk.compare(&model, &on);
    let stripes = layouts(&desk.mounted).expect("stripes");
    let widest = stripes.values().map(|layout| layout.shape.data()).max();
    // Of one fragment, or without parity, nothing is gained by a stripe.
    let expected = (data > 1 && parity > 0).then_some(wide);
    assert_eq!(widest, expected, "{on}");
    assert!(stripes.values().all(|s| s.shape.parity() == may_go), "{on}");
    desk.mounted.close().expect("closed");
    let desk = Desk::open(chance, &fleet);
    desk.compare(&model, &on);
    let called = called(&desk);
    desk.mounted.close().expect("closed");
    for _ in 0..LOSSES {
        let lost = some(chance, count, may_go);
        let on = format!("{on} without {lost:?}");
        let fleet = Fleet::start(chance.next(), &fleet.snapshot());
        let mut model = model.clone();
        lost.iter().for_each(|slot| fleet.vanish(*slot));
        let desk = Desk::open(chance, &fleet);
        desk.compare(&model, &on);
        desk.work(chance, &mut model, wide);
        desk.compare(&model, &on);
        // What is large lies in stripes still, narrower ones with as much parity, if two fragments of data have room beside that.
        let large = |layout: &Layout| layout.shape.blocks() >= 64;
        let is_new = |number: &u64| !stripes.contains_key(number);
        let now = layouts(&desk.mounted).expect("stripes");
        let has_new = now.iter().any(|(n, layout)| is_new(n) && large(layout));
        let left = count - may_go;
        assert_eq!(has_new, wide > 1 && may_go > 0 && left > may_go + 1, "{on}");
        desk.mounted.close().expect("closed");
        let desk = Desk::open(chance, &fleet);
        desk.compare(&model, &on);
        desk.mounted.close().expect("closed");
        // They come back as they were; what they missed is had from the others.
        for slot in &lost {
            fleet.come_back(*slot, &Survival::All);
        }
        let desk = Desk::open(chance, &fleet);
        desk.compare(&model, &on);
        desk.catch_up(&on);
        desk.compare(&model, &on);
        assert_eq!(
            inspector::with_data(&desk.mounted, &desk.names, &desk.view),
            [],
            "{on}"
        );
        desk.mounted.close().expect("closed");
        // Then any others may go, but not one more.
        let others = some(chance, count, may_go + 1);
        others[1..].iter().for_each(|slot| fleet.vanish(*slot));
        let desk = Desk::open(chance, &fleet);
        desk.compare(&model, &format!("{on}, then without {:?}", &others[1..]));
        drop(desk);
        fleet.vanish(others[0]);
        refused(chance, &fleet, &called, &others);
    }
}

#[test]
fn narrow_volumes_of_much_parity_bear_losses() {
    let chance = &Chance::new(seed());
    for (count, shape) in [
        (4, (1, 3)),
        (5, (1, 4)),
        (5, (2, 3)),
        (6, (2, 3)),
        (7, (3, 4)),
    ] {
        lives(chance, count, shape);
    }
}

#[test]
fn wide_volumes_bear_losses() {
    let chance = &Chance::new(seed());
    for (count, shape) in [(8, (5, 3)), (12, (8, 4)), (13, (8, 4)), (20, (16, 4))] {
        lives(chance, count, shape);
    }
}

#[test]
fn the_widest_volumes_bear_what_little_they_may_lose() {
    let chance = &Chance::new(seed());
    for (count, shape) in [(17, (16, 1)), (19, (16, 2)), (16, (16, 0))] {
        lives(chance, count, shape);
    }
}

/// How much data fits at most on devices of so many blocks: with t stripes of one row none gives more than t blocks, no stripe takes more than k + m,
/// and m of each are parity. They may be narrower than that.
fn bound(devices: &[u64], (data, parity): (u64, u64)) -> u64 {
    let most = devices.iter().max().copied().unwrap_or(0);
    let of = |t: u64| {
        let room: u64 = devices.iter().map(|blocks| t.min(*blocks)).sum();
        room.min((data + parity) * t).saturating_sub(parity * t)
    };
    let all: u64 = devices.iter().sum();
    let most = most.max(all / (data + parity));
    (0..=most).map(of).max().unwrap_or(0)
}

#[test]
fn the_bound_is_what_is_known() {
    assert_eq!(bound(&[100; 6], (4, 2)), 400);
    assert_eq!(bound(&[100; 5], (4, 2)), 300);
    assert_eq!(bound(&[1000, 10], (1, 1)), 10);
    assert_eq!(bound(&[30, 20, 10], (1, 1)), 30);
    // Ten in three, ten in two.
    assert_eq!(bound(&[20, 20, 10], (2, 1)), 30);
    assert_eq!(bound(&[10; 6], (2, 1)), 40);
}

fn try_to_write(files: Files<'_, Simulated>, file: u64, bytes: &[u8]) -> Result<(), Error> {
    let new = New {
        what: What::Regular,
        ..clerk::root()
    };
    let mut promise = files.promise(Blocks((bytes.len() / BLOCK_SIZE) as u64))?;
    let made = files.create(InodeNo::ROOT, &name(file), &new)?;
    let at = FileBlock(0);
    let dirty = [Dirty { at, bytes }];
    let written = Written {
        size: Some(Bytes(bytes.len() as u64)),
        ..Written::default()
    };
    let mut rest = Rest::new(&dirty);
    let number = made.what.number;
    let done = files.write_under(number, &mut rest, Way::Sealed, &written, &mut promise);
    done.unwrap_or_else(|why| panic!("promised: {why}"));
    Ok(())
}

/// What is in each file: so many blocks of such a seed.
type Known = BTreeMap<u64, (usize, u64)>;

/// How much of what was available at first is written, in percent, when it is asked what still is.
const ASKED: [u64; 2] = [25, 50];

/// Writes new files until nothing more goes in: how much that is, and what was told to be available after how much.
fn fill(chance: &Chance, desk: &Desk, known: &mut Known) -> (u64, Vec<(u64, u64)>) {
    let available = || desk.mounted.statfs().available.0;
    let whole = available();
    let (mut written, mut largest, mut told) = (0, 700, vec![(0, whole)]);
    let mut next = known.keys().last().map_or(0, |last| last + 1);
    while largest > 0 {
        let (blocks, seed) = (1 + chance.below(largest), chance.next());
        match try_to_write(desk.files(), next, &pattern(blocks, seed)) {
            Ok(()) => {
                written += blocks as u64;
                known.insert(next, (blocks, seed));
                let due = ASKED.get(told.len() - 1);
                if due.is_some_and(|percent| written * 100 >= whole * percent) {
                    told.push((written, available()));
                }
            }
            Err(Error::NoSpace) => largest /= 2,
            Err(why) => panic!("{why}"),
        }
        next += 1;
    }
    (written, told)
}

/// Whether as much was written as was told, within so many in a hundred.
fn is_true(on: &str, (written, told): &(u64, Vec<(u64, u64)>), (least, most): (u64, u64)) {
    for (before, told) in told {
        let more = written - before;
        let percent = more as f64 * 100.0 / *told as f64;
        let what = format!("{on}, with {before} of {written} in it: {more} more written of {told} told ({percent:.1} %)");
        println!("{what}");
        let range = told * least..=told * most;
        assert!(range.contains(&(more * 100)), "{what}");
    }
}

/// Fills a volume on drives of these sizes in MiB with at least so many of a hundred blocks that there could be at best, and with what is told
/// to be available; deletes half of it, and fills it again; and deletes all.
fn filled(chance: &Chance, sizes: &[u64], (data, parity): (u8, u8), percent: u64) {
    let on = format!("{data}+{parity} on {sizes:?} MiB");
    let bytes: Vec<Bytes> = sizes.iter().map(|mib| Bytes(mib << 20)).collect();
    let fleet = Fleet::new(chance.next(), &bytes);
    let geometry = Geometry::new(data, parity).expect("a geometry");
    machine::make(chance.next(), &fleet, geometry).expect("made");
    let desk = Desk::open(chance, &fleet);
    desk.files().format(&clerk::root()).expect("formatted");
    desk.mounted.checkpoint().expect("a root");
    let whole = desk.mounted.statfs();
    let unused = |part: &embr_engine::volume::mounted::Part| desk.mounted.room(part.slot).unused.0;
    let devices: Vec<u64> = desk.mounted.parts().iter().map(unused).collect();
    let best = bound(&devices, (data.into(), parity.into()));
    let mut known = Known::new();
    let done = fill(chance, &desk, &mut known);
    let written = done.0;
    let left = desk.mounted.statfs();
    println!("{on}: {written} written of {best} at best, {left:?} is left of {whole:?}");
    is_true(&on, &done, (96, 104));
    assert!(written <= best, "{on}: {written} of {best}");
    assert!(written * 100 >= best * percent, "{on}: {written} of {best}");
    assert_eq!(left.total, whole.total, "{on}");
    assert!(
        left.available.0 * 100 <= whole.total.0 * 2,
        "{on}: {left:?}"
    );
    let delete = |file: u64| {
        let gone = (desk.files()).unlink(InodeNo::ROOT, &name(file), Users::None, NOW);
        gone.unwrap_or_else(|why| panic!("{on}: {why}"));
    };
    known.retain(|file, _| match chance.below(2) {
        0 => true,
        _ => {
            delete(*file);
            false
        }
    });
    for _ in 0..3 {
        desk.mounted.checkpoint().expect("a root");
    }
    // What moving copies into stripes brings is not told.
    let done = fill(chance, &desk, &mut known);
    is_true(&format!("{on}, half deleted"), &done, (90, 115));
    assert_eq!(desk.mounted.ledger().promised, (Blocks(0), 0), "{on}");
    contents::audit(&desk.mounted).unwrap_or_else(|why| panic!("{on}: {why}"));
    for (file, (blocks, seed)) in &known {
        let found = desk.files().lookup(InodeNo::ROOT, &name(*file));
        let found = read(desk.files(), found.expect("there").inode, 0, *blocks);
        assert!(found == pattern(*blocks, *seed), "{on}: file {file}");
    }
    known.keys().for_each(|file| delete(*file));
    while desk.files().rebundle().expect("moved").gained != Blocks(0) {}
    assert_eq!(contents::audit(&desk.mounted), Ok(0));
    for _ in 0..3 {
        desk.mounted.checkpoint().expect("a root");
    }
    let again = desk.mounted.statfs();
    assert!(
        again.available.0 * 100 >= whole.available.0 * 99,
        "{on}: {again:?} of {whole:?}"
    );
}

#[test]
fn uneven_drives_are_used_well() {
    let chance = &Chance::new(seed());
    // What is kept back, for nodes and for moving, is a larger part of smaller volumes.
    for (sizes, shape, percent) in [
        (&[64, 64, 64, 96, 128, 128, 256][..], (4, 2), 94),
        (&[64, 96, 128], (2, 1), 91),
        (&[64, 64, 64, 192], (2, 1), 91),
        (&[48, 64, 96, 256, 256], (2, 1), 94),
        (&[64; 6], (4, 2), 90),
        (&[96; 9], (6, 2), 92),
    ] {
        filled(chance, sizes, shape, percent);
    }
}

#[test]
fn drives_of_any_sizes_are_used_well() {
    let chance = &Chance::new(seed());
    for _ in 0..10 {
        let shape = chance.one(&[(1, 1), (2, 1), (3, 1), (2, 2), (4, 2), (6, 2), (8, 3)]);
        let count = usize::from(shape.0 + shape.1) + chance.below(4);
        let size = |_| 48 + chance.below(112) as u64;
        let sizes: Vec<u64> = (0..count).map(size).collect();
        filled(chance, &sizes, shape, 85);
    }
}
