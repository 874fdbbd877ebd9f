// SPDX-License-Identifier: GPL-2.0

//! What is discarded: only what nobody needs, after the second root and not before; space that is being discarded is given to
//! nobody, and is there for who waits for it; and drives that refuse are as good as any.

use embr_engine::env::Devices as _;
use embr_engine::env::WritableDevice as _;
use embr_engine::env::Write;
use embr_engine::file::Way;
use embr_engine::format::geometry::Geometry;
use embr_engine::format::journal::Extent;
use embr_engine::format::layout;
use embr_engine::format::layout::ROOT_SIZE;
use embr_engine::format::member::Slot;
use embr_engine::names::HashWidth;
use embr_engine::names::Names;
use embr_engine::names::New;
use embr_engine::names::Users;
use embr_engine::names::View;
use embr_engine::names::What;
use embr_engine::units::Blocks;
use embr_engine::units::Bytes;
use embr_engine::units::FileBlock;
use embr_engine::units::InodeNo;
use embr_engine::units::BLOCK_SIZE;
use embr_engine::volume::discard::Trim;
use embr_engine::volume::mounted::Part;
use embr_engine::volume::Mounted;
use embr_rt::lock_class;
use embr_rt::sim::World;
use embr_rt::time::Duration;
use embr_rt::work::Worker;
use embrfs_sim::cache::Survival;
use embrfs_sim::clerk;
use embrfs_sim::fault::Odds;
use embrfs_sim::fleet::Discarded;
use embrfs_sim::fleet::Fleet;
use embrfs_sim::host::seed;
use embrfs_sim::host::Chance;
use embrfs_sim::inspector;
use embrfs_sim::machine;
use embrfs_sim::machine::Simulated;
use embrfs_sim::recording::State;
use embrfs_sim::scribe::Scribe;
use embrfs_sim::tale;
use std::collections::BTreeSet;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::sync::Arc;

const MIB: u64 = 1 << 20;

/// Blocks of drives.
type Places = BTreeSet<(Slot, u64)>;

fn volume(seed: u64, drives: usize, mib: u64) -> Fleet {
    let fleet = Fleet::new(seed, &vec![Bytes(mib * MIB); drives]);
    let geometry = Geometry::new(1, drives as u8 - 1).expect("a geometry");
    machine::make(seed, &fleet, geometry).expect("made");
    fleet
}

fn mount(seed: u64, fleet: &Fleet, least: Option<u64>) -> Mounted<Simulated> {
    let mounted = machine::mount_plain(seed, fleet, machine::READ_WRITE).expect("mounts");
    mounted.set_discard(least.map(Blocks));
    mounted
}

fn regular() -> New<'static> {
    New {
        what: What::Regular,
        ..clerk::root()
    }
}

/// All blocks of all drives that are used.
fn used(mounted: &Mounted<Simulated>) -> Places {
    let mut used = BTreeSet::new();
    for part in mounted.parts() {
        let blocks = 0..part.size.whole_blocks().0;
        let is_used = |n: &u64| mounted.is_used(part.slot, Blocks(*n));
        used.extend(blocks.filter(is_used).map(|n| (part.slot, n)));
    }
    used
}

fn of(discarded: &[Discarded]) -> Places {
    let blocks = |d: &Discarded| {
        let slot = d.slot;
        d.blocks.clone().map(move |n| (slot, n))
    };
    discarded.iter().flat_map(blocks).collect()
}

/// Without the newest root, so that the one before it is.
fn fall_back(fleet: &Fleet, mounted: &Mounted<Simulated>) {
    let slot = layout::ring_slot(mounted.generation());
    for drive in fleet.drives() {
        for ring in layout::rings(embr_engine::env::Device::size(&drive)) {
            let at = layout::slot_at(ring, slot).expect("a place");
            drive.write(at, &vec![0; ROOT_SIZE]).expect("healthy");
        }
    }
}

/// Whatever is discarded, neither the newest root nor the one before it needs it, by the check of the volume.
#[test]
fn neither_of_two_roots_needs_it() {
    let base = seed();
    for seed in (0..6).map(|n| base.wrapping_add(n)) {
        let chance = Chance::new(seed);
        let fleet = volume(seed, chance.one(&[1, 2]), 32);
        let mounted = mount(seed, &fleet, Some(chance.one(&[1, 4])));
        let names = Names::try_new(HashWidth::Full).expect("memory");
        let view = View::first();
        let files = names.of(&mounted, &view);
        files.format(&clerk::root()).expect("formatted");
        let made = files.create(InodeNo::ROOT, b"file", &regular());
        let file = made.expect("made").what.number;
        fleet.record();
        fleet.take_discarded();
        let mut scribe = Scribe::new(&chance, file, 70);
        for _ in 0..60 {
            scribe.step(files).1.expect("room");
            if chance.below(4) == 0 {
                mounted.checkpoint().expect("healthy drives");
            }
        }
        scribe.compare(files).expect("as it was written");
        let discarded = fleet.take_discarded();
        assert!(discarded.len() > 5, "seed {seed}: {}", discarded.len());
        let recording = fleet.recorded();
        for one in discarded.iter().step_by(1 + discarded.len() / 12) {
            let before = State::new(one.position, Survival::All);
            let snapshot = recording.at(&before).expect("a state");
            let blocks = of(std::slice::from_ref(one));
            let fleet = Fleet::start(seed, &snapshot);
            let newest = machine::inspect(seed, &fleet).expect("sound");
            fall_back(&fleet, &newest);
            let older = machine::inspect(seed, &fleet).expect("sound");
            assert!(older.generation() < newest.generation());
            for root in [newest, older] {
                let needed: Vec<_> = used(&root).intersection(&blocks).copied().collect();
                assert!(
                    needed.is_empty(),
                    "seed {seed}: root {} needs {needed:?} of {one:?}",
                    root.generation().0
                );
                let names = Names::try_new(HashWidth::Full).expect("memory");
                let files = names.of(&root, &view);
                inspector::check(&root, Some(files), embr_engine::check::Depth::Copies, &[])
                    .expect("sound");
            }
        }
    }
}

/// Writes blocks of an engram of its own, from a block of the file on.
fn write(
    files: embr_engine::names::Files<'_, Simulated>,
    file: InodeNo,
    blocks: u64,
) -> Result<(), embr_engine::names::Error> {
    let bytes: Vec<u8> = (0..blocks as usize * BLOCK_SIZE)
        .map(|n| (n / 7) as u8)
        .collect();
    let dirty = [embr_engine::file::Dirty {
        at: FileBlock(0),
        bytes: &bytes,
    }];
    let written = embr_engine::file::Written {
        size: Some(Bytes(bytes.len() as u64)),
        modified: None,
        changed: None,
    };
    files.write(file, &dirty, Way::Sealed, &written).map(drop)
}

/// One file is written and removed: what became free, by the volume's own word, and what was discarded with each of three roots.
fn removed(least: Option<u64>, refuse: bool) -> (Places, [Places; 3]) {
    let seed = seed();
    let fleet = volume(seed, 2, 32);
    let mounted = mount(seed, &fleet, least);
    for drive in fleet.drives().iter().filter(|_| refuse) {
        let odds = Odds {
            refuses: u16::MAX,
            ..Odds::default()
        };
        fleet.odds(drive.slot(), odds);
    }
    let names = Names::try_new(HashWidth::Full).expect("memory");
    let view = View::first();
    let files = names.of(&mounted, &view);
    files.format(&clerk::root()).expect("formatted");
    let made = files.create(InodeNo::ROOT, b"file", &regular());
    let file = made.expect("made").what.number;
    let checkpoint = || mounted.checkpoint().expect("healthy drives");
    (0..3).for_each(|_| checkpoint());
    let free = |slot| {
        let room = mounted.room(slot);
        room.free.0 + room.claimed.0
    };
    let slots: Vec<Slot> = mounted.parts().iter().map(|p| p.slot).collect();
    let empty: Vec<u64> = slots.iter().map(|s| free(*s)).collect();
    write(files, file, 200).expect("room");
    (0..3).for_each(|_| checkpoint());
    let before = used(&mounted);
    fleet.take_discarded();
    files
        .unlink(InodeNo::ROOT, b"file", Users::None, clerk::root().now)
        .expect("removed");
    let freed = before.difference(&used(&mounted)).copied().collect();
    let after = [(); 3].map(|()| {
        checkpoint();
        of(&fleet.take_discarded())
    });
    (0..3).for_each(|_| checkpoint());
    for (slot, empty) in slots.iter().zip(&empty) {
        // But for a few nodes.
        assert!(free(*slot) + 20 > *empty, "{} of {empty}", free(*slot));
    }
    // Whatever drives say to it, none is lost for it.
    assert_eq!(mounted.present().count(), 2);
    assert_eq!(mounted.machine().heard().epochs(), 0);
    tale::audit_promises(&mounted).expect("promises are kept");
    mounted.close().expect("healthy drives");
    (freed, after)
}

#[test]
fn with_the_second_root_and_not_before() {
    let (freed, [first, second, _]) = removed(Some(1), false);
    assert!(freed.len() >= 400, "{}", freed.len());
    assert!(freed.is_disjoint(&first));
    assert!(freed.is_subset(&second));
}

#[test]
fn a_drive_that_refuses_goes_on() {
    let (freed, [first, second, _]) = removed(Some(1), true);
    assert!(freed.is_disjoint(&first) && freed.is_subset(&second));
}

#[test]
fn short_runs_are_left_alone_and_all_where_nobody_asked() {
    let (freed, [_, second, _]) = removed(Some(100), false);
    assert!(freed.is_subset(&second));
    for least in [Some(10_000), None] {
        let (_, all) = removed(least, false);
        assert!(all.iter().all(BTreeSet::is_empty));
    }
}

/// Discards all that is free, and says how much that was.
fn trim(mounted: &Mounted<Simulated>, least: u64) -> Bytes {
    let mut trim = Trim::new(Blocks(0), mounted.blocks(), Blocks(least));
    while mounted.trim(&mut trim).expect("writable") {}
    trim.discarded()
}

#[test]
fn all_free_space_can_be_discarded() {
    let seed = seed();
    let fleet = volume(seed, 2, 400);
    let mounted = mount(seed, &fleet, None);
    let names = Names::try_new(HashWidth::Full).expect("memory");
    let view = View::first();
    let files = names.of(&mounted, &view);
    files.format(&clerk::root()).expect("formatted");
    let made = files.create(InodeNo::ROOT, b"file", &regular());
    let file = made.expect("made").what.number;
    write(files, file, 100).expect("room");
    (0..3).for_each(|_| mounted.checkpoint().expect("healthy drives"));
    fleet.take_discarded();
    // Replaced by the last checkpoint.
    let pending = |p: &Part| mounted.room(p.slot).pending.0;
    let pending: u64 = mounted.parts().iter().map(pending).sum();
    let told = trim(&mounted, 1);
    let discarded = of(&fleet.take_discarded());
    let used = used(&mounted);
    assert!(discarded.is_disjoint(&used));
    let all: u64 = mounted
        .parts()
        .iter()
        .map(|p| p.size.whole_blocks().0)
        .sum();
    assert_eq!(
        discarded.len() + used.len() + pending as usize,
        all as usize
    );
    // Drives refuse some.
    assert!(told.whole_blocks().0 <= discarded.len() as u64);
    assert!(told.0 > 0);
    for part in mounted.parts() {
        assert!(mounted.room(part.slot).pending.0 <= pending);
    }
    // In longer runs only, and only of a part.
    trim(&mounted, 1000);
    let long = fleet.take_discarded();
    assert!(!long.is_empty());
    assert!(long.iter().all(|d| d.blocks.end - d.blocks.start >= 1000));
    let mut some = Trim::new(Blocks(20_000), Blocks(21_000), Blocks(1));
    while mounted.trim(&mut some).expect("writable") {}
    let inside = |d: &Discarded| d.blocks.start >= 20_000 && d.blocks.end <= 21_000;
    assert!(fleet.take_discarded().iter().all(inside));
    mounted.close().expect("healthy drives");
    let mounted = mount(seed, &fleet, None);
    let files = names.of(&mounted, &view);
    inspector::check(
        &mounted,
        Some(files),
        embr_engine::check::Depth::Copies,
        &[],
    )
    .expect("sound");
}

/// What a task holds: where, and the byte that is there.
type Held = Vec<(Extent, u8)>;

/// Takes and frees blocks, and looks at those that it holds.
fn hold(mounted: &Mounted<Simulated>, fleet: &Fleet, task: u64, seed: u64) {
    let chance = Chance::new(seed ^ (task << 8));
    let mut held: Held = Vec::new();
    for _ in 0..30 {
        let mut txn = mounted.begin().expect("writable");
        if chance.below(2) == 0 || held.is_empty() {
            let slot = mounted.parts()[0].slot;
            let most = Blocks(1 + chance.below(60) as u64);
            let extent = mounted.allocate(slot, Blocks(1), most).expect("room");
            let byte = 1 + chance.below(255) as u8;
            let bytes = vec![byte; extent.blocks.0 as usize * BLOCK_SIZE];
            let mut write = [Write::new(
                slot,
                extent.start.bytes().expect("a place"),
                &bytes,
            )];
            fleet.write(&mut write);
            txn.take(extent).expect("memory");
            held.push((extent, byte));
        } else {
            let (extent, _) = held.swap_remove(chance.below(held.len()));
            txn.free(extent).expect("memory");
        }
        txn.commit().expect("room");
        if chance.below(3) == 0 {
            mounted.checkpoint().expect("healthy drives");
        }
        embr_rt::time::sleep(Duration::from_micros(chance.next() % 3000));
        for (extent, byte) in &held {
            let mut bytes = vec![0; extent.blocks.0 as usize * BLOCK_SIZE];
            let at = extent.start.bytes().expect("a place");
            fleet.read(extent.device, at, &mut bytes).expect("healthy");
            assert!(
                bytes.iter().all(|b| b == byte),
                "task {task}: {extent:?} is not what was written"
            );
        }
    }
    for (extent, _) in held {
        let mut txn = mounted.begin_freeing().expect("writable");
        txn.free(extent).expect("memory");
        txn.commit().expect("room");
    }
}

/// Tasks that take and free blocks, and two that discard; on a volume that is nearly full, or is not.
fn together(seed: u64, left: Option<u64>) {
    let fleet = volume(seed, 1, 32);
    let outcome = World::new(seed).run(move || {
        let mounted = Arc::new(mount(seed, &fleet, Some(1)));
        if let Some(left) = left {
            tale::take_all_but(&mounted, left).expect("healthy drives");
        }
        let before = mounted.statfs();
        let done = Arc::new(AtomicUsize::new(0));
        let mut workers: Vec<Worker> = Vec::new();
        for task in 0..3u64 {
            let (mounted, fleet, done) = (mounted.clone(), fleet.clone(), done.clone());
            let work = move || {
                hold(&mounted, &fleet, task, seed);
                done.fetch_add(1, Ordering::Relaxed);
            };
            workers.push(Worker::try_spawn(lock_class!("holder"), work).expect("a task"));
        }
        let (other, ended) = (mounted.clone(), done.clone());
        let all = move || {
            while ended.load(Ordering::Relaxed) < 3 {
                trim(&other, 1);
                embr_rt::time::sleep(Duration::from_millis(1));
            }
        };
        workers.push(Worker::try_spawn(lock_class!("trimmer"), all).expect("a task"));
        drop(workers);
        assert_eq!(done.load(Ordering::Relaxed), 3);
        (0..3).for_each(|_| mounted.checkpoint().expect("healthy drives"));
        tale::audit_promises(&mounted).expect("promises are kept");
        let after = mounted.statfs();
        assert!(
            after.available.0 + 100 > before.available.0,
            "{before:?}, {after:?}"
        );
        for part in mounted.parts() {
            let room = mounted.room(part.slot);
            assert_eq!(room.unused.0, room.free.0 + room.claimed.0 + room.pending.0);
        }
    });
    outcome.unwrap_or_else(|failure| panic!("seed {seed}: {failure}"));
}

#[test]
fn nobody_is_given_what_is_being_discarded() {
    let base = seed();
    for n in 0..12 {
        together(base.wrapping_add(n), None);
    }
}

/// Nobody is told that there is no space because it is being discarded. Each task holds at most 30 x 60 blocks.
#[test]
fn a_full_volume_is_not_full_for_discards() {
    let base = seed();
    for n in 0..12 {
        together(base.wrapping_add(n), Some(3 * 30 * 60 / 2));
    }
}

/// Who wants all that is there gets it, while half of it is being discarded.
#[test]
fn what_is_being_discarded_is_waited_for() {
    let seed = seed();
    let fleet = volume(seed, 1, 32);
    let outcome = World::new(seed).run(move || {
        let mounted = Arc::new(mount(seed, &fleet, None));
        tale::take_all_but(&mounted, 3000).expect("healthy drives");
        (0..3).for_each(|_| mounted.checkpoint().expect("healthy drives"));
        let fits = |n: &u64| mounted.promise(Blocks(*n)).is_ok();
        let most = (0..mounted.statfs().available.0).rev().step_by(20);
        let most = Blocks(most.into_iter().find(fits).expect("some fit"));
        assert!(most.0 > 1000, "{most:?}");
        let done = Arc::new(AtomicUsize::new(0));
        let (other, ended) = (mounted.clone(), done.clone());
        let all = move || {
            while ended.load(Ordering::Relaxed) == 0 {
                trim(&other, 1);
                embr_rt::time::sleep(Duration::from_millis(1));
            }
        };
        let trimmer = Worker::try_spawn(lock_class!("trimmer"), all).expect("a task");
        let chance = Chance::new(seed);
        let refused = (0..40).find_map(|_| {
            embr_rt::time::sleep(Duration::from_micros(chance.next() % 20_000));
            mounted.promise(most).err()
        });
        done.store(1, Ordering::Relaxed);
        drop(trimmer);
        assert_eq!(refused, None);
        assert!(!fleet.take_discarded().is_empty());
    });
    outcome.unwrap_or_else(|failure| panic!("seed {seed}: {failure}"));
}
