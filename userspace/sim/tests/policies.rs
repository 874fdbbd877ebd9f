// SPDX-License-Identifier: GPL-2.0

//! Files of which less is to survive than of others, and what becomes of blocks that files of both kinds share: they survive what the
//! strongest of them wants.

use embr_engine::check::Finding;
use embr_engine::check::Trouble;
use embr_engine::file::Pair;
use embr_engine::file::Way;
use embr_engine::format::engram;
use embr_engine::format::engram::Lies;
use embr_engine::format::engram::Map;
use embr_engine::format::geometry::Policy;
use embr_engine::format::member::Slot;
use embr_engine::names::Error;
use embr_engine::names::Files;
use embr_engine::names::Item;
use embr_engine::names::Names;
use embr_engine::names::View;
use embr_engine::units::Blocks;
use embr_engine::units::Bytes;
use embr_engine::units::EngramId;
use embr_engine::units::FileBlock;
use embr_engine::units::InodeNo;
use embr_engine::units::BLOCK_SIZE;
use embr_engine::volume::mounted::ENGRAMS;
use embr_engine::volume::mounted::NAMES;
use embr_engine::volume::Mounted;
use embr_rt::lock_class;
use embr_rt::sim::World;
use embr_rt::time::Duration;
use embr_rt::work::Worker;
use embrfs_sim::contents;
use embrfs_sim::desk;
use embrfs_sim::desk::create;
use embrfs_sim::desk::drives;
use embrfs_sim::desk::pattern;
use embrfs_sim::desk::write;
use embrfs_sim::fault::Fault;
use embrfs_sim::fault::When;
use embrfs_sim::fault::WriteFault;
use embrfs_sim::fleet::Fleet;
use embrfs_sim::host::seed;
use embrfs_sim::host::Chance;
use embrfs_sim::inspector;
use embrfs_sim::machine;
use embrfs_sim::machine::Simulated;
use embrfs_sim::scribe::NOW;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::sync::Arc;

const SIZE: Bytes = Bytes(48 << 20);
/// Blocks of each file.
const BLOCKS: usize = 60;
const WORLDS: u64 = 800;

/// A file, what it holds, and how many losses that is to survive.
struct Kept {
    file: InodeNo,
    bytes: Vec<u8>,
    losses: u8,
}

struct Shelf<'c> {
    chance: &'c Chance,
    parity: u8,
    kept: Vec<Kept>,
    /// How often each thing was done.
    seen: BTreeMap<&'static str, u64>,
}

impl Shelf<'_> {
    fn range(&self) -> (usize, usize) {
        let first = self.chance.below(BLOCKS - 1);
        (first, 1 + self.chance.below((BLOCKS - first).min(24)))
    }

    fn step(&mut self, of: Files<'_, Simulated>) {
        let n = self.chance.below(self.kept.len());
        let (first, blocks) = self.range();
        let at = first * BLOCK_SIZE;
        let what = match self.chance.below(9) {
            0..=2 => {
                let new = pattern(blocks, self.chance.next());
                let way = [Way::Sealed, Way::Sealed, Way::Inline][self.chance.below(3)];
                write(of, self.kept[n].file, first as u64, &new, way);
                self.kept[n].bytes[at..][..new.len()].copy_from_slice(&new);
                "written"
            }
            3 | 4 => {
                let other = self.chance.below(self.kept.len());
                self.clone(of, other, n, (first, blocks));
                "cloned"
            }
            5 => {
                let other = self.chance.below(self.kept.len());
                self.same(of, other, n, (first, blocks));
                "made one"
            }
            6 => {
                let losses = self.chance.below(usize::from(self.parity) + 1) as u8;
                let policy = Policy::surviving(losses).expect("a policy");
                let file = self.kept[n].file;
                of.set_policy(file, policy, NOW).expect("set");
                self.kept[n].losses = losses;
                "set"
            }
            7 => {
                let (file, at) = (self.kept[n].file, FileBlock(first as u64));
                let range = (at, FileBlock((first + blocks) as u64));
                of.punch(file, range.0.start(), range.1.start(), NOW)
                    .expect("punched");
                self.kept[n].bytes[first * BLOCK_SIZE..][..blocks * BLOCK_SIZE].fill(0);
                of.preallocate(file, range.0, range.1, None, NOW)
                    .expect("set aside");
                "set aside"
            }
            _ => {
                of.grow_old().expect("later");
                while of.rebundle().expect("moved").gained != Blocks(0) {}
                "moved"
            }
        };
        *self.seen.entry(what).or_default() += 1;
    }

    fn clone(&mut self, of: Files<'_, Simulated>, from: usize, to: usize, range: (usize, usize)) {
        if from == to {
            return;
        }
        let pair = self.pair(from, to, range);
        of.clone_range(&pair, None, NOW).expect("cloned");
        let (at, length) = (range.0 * BLOCK_SIZE, range.1 * BLOCK_SIZE);
        let bytes = self.kept[from].bytes[at..][..length].to_vec();
        self.kept[to].bytes[at..][..length].copy_from_slice(&bytes);
    }

    /// First they hold the same, each by itself.
    fn same(&mut self, of: Files<'_, Simulated>, from: usize, to: usize, range: (usize, usize)) {
        if from == to {
            return;
        }
        let at = range.0 * BLOCK_SIZE;
        let bytes = self.kept[from].bytes[at..][..range.1 * BLOCK_SIZE].to_vec();
        write(of, self.kept[to].file, range.0 as u64, &bytes, Way::Sealed);
        self.kept[to].bytes[at..][..bytes.len()].copy_from_slice(&bytes);
        let pair = self.pair(from, to, range);
        let done = of.same_range(&pair).expect("made one");
        assert_eq!(done.what, pair.blocks);
    }

    fn pair(&self, from: usize, to: usize, (first, blocks): (usize, usize)) -> Pair {
        Pair {
            from: (self.kept[from].file, FileBlock(first as u64)),
            to: (self.kept[to].file, FileBlock(first as u64)),
            blocks: Blocks(blocks as u64),
        }
    }

    /// With so many drives gone, everything is there of which that much is to survive.
    fn compare(&self, of: Files<'_, Simulated>, gone: usize) {
        for kept in self.kept.iter().filter(|k| usize::from(k.losses) >= gone) {
            let mut found = vec![0xcc; kept.bytes.len()];
            let done = of.read(kept.file, FileBlock(0), &mut found);
            done.unwrap_or_else(|why| panic!("{} losses, {gone} gone: {why}", kept.losses));
            assert!(found == kept.bytes, "file {} differs", kept.file);
        }
    }
}

fn format(names: &Names, mounted: &Mounted<Simulated>, view: &View) {
    let of = names.of(mounted, view);
    of.format(&embrfs_sim::clerk::root()).expect("formatted");
}

#[test]
fn what_is_shared_survives_what_the_strongest_wants() {
    let chance = &Chance::new(seed());
    let mut seen: BTreeMap<&'static str, u64> = BTreeMap::new();
    for (count, shape) in [
        (6, (4, 2)),
        (3, (1, 2)),
        (4, (2, 1)),
        (8, (4, 3)),
        (2, (1, 1)),
    ] {
        let fleet = drives(chance, SIZE, count, shape);
        let (names, view) = (desk::names(), View::first());
        let mounted = desk::mount(chance, &fleet);
        format(&names, &mounted, &view);
        let of = names.of(&mounted, &view);
        let mut shelf = Shelf {
            chance,
            parity: shape.1,
            kept: Vec::new(),
            seen: BTreeMap::new(),
        };
        for losses in (0..=shape.1).chain(0..=shape.1) {
            let file = create(of, format!("{}", shelf.kept.len()).as_bytes());
            let policy = Policy::surviving(losses).expect("a policy");
            of.set_policy(file, policy, NOW).expect("set");
            let bytes = pattern(BLOCKS, chance.next());
            write(of, file, 0, &bytes, Way::Sealed);
            shelf.kept.push(Kept {
                file,
                bytes,
                losses,
            });
        }
        for _ in 0..70 {
            shelf.step(of);
        }
        shelf.compare(of, 0);
        contents::audit(&mounted).unwrap_or_else(|why| panic!("{shape:?}: {why}"));
        mounted.close().expect("closed");
        for gone in 1..=usize::from(shape.1) {
            less(chance, &fleet, &shelf, gone);
        }
        for (what, times) in shelf.seen {
            *seen.entry(what).or_default() += times;
        }
    }
    println!("{seen:?}");
    assert_eq!(seen.len(), 6, "{seen:?}");
}

/// Some drives are gone when it is mounted.
fn less(chance: &Chance, fleet: &Fleet, shelf: &Shelf<'_>, gone: usize) {
    let mut left: Vec<Slot> = fleet.drives().iter().map(|d| d.slot()).collect();
    let copy = Fleet::start(chance.next(), &fleet.snapshot());
    for _ in 0..gone {
        let slot = left.swap_remove(chance.below(left.len()));
        copy.vanish(slot);
    }
    let mounted = machine::mount(chance.next(), &copy, machine::READ_WRITE).expect("mounted");
    let (names, view) = (desk::names(), View::first());
    shelf.compare(names.of(&mounted, &view), gone);
}

/// What lies where of a file: how many copies, or how much parity, and what is wanted.
fn maps(mounted: &Mounted<Simulated>) -> BTreeMap<u64, Map> {
    let items = contents::scan(mounted, ENGRAMS).expect("items");
    let is_map = |key: &embr_engine::tree::Key| {
        key.0[0] != 0 && *key == engram::key(EngramId(key.0[0]), engram::Kind::Map, 0)
    };
    let maps = items.iter().filter(|(key, _)| is_map(key));
    maps.map(|(key, value)| {
        let map = Map::parse(value).expect("memory").expect("a map");
        (key.0[0], map)
    })
    .collect()
}

#[test]
fn what_is_made_in_a_directory_has_its_policy() {
    let chance = &Chance::new(seed());
    let fleet = drives(chance, SIZE, 3, (1, 2));
    let (names, view) = (desk::names(), View::first());
    let mounted = desk::mount(chance, &fleet);
    format(&names, &mounted, &view);
    let of = names.of(&mounted, &view);
    let weak = Policy::surviving(0).expect("a policy");
    of.set_policy(InodeNo::ROOT, weak, NOW).expect("set");
    let file = create(of, b"file");
    assert_eq!(of.inode(file).expect("there").policy, weak);
    write(of, file, 0, &pattern(40, 1), Way::Sealed);
    for map in maps(&mounted).values() {
        let Lies::Copies(places) = &map.lies else {
            panic!("no stripes without data fragments");
        };
        assert_eq!((map.policy, places.count()), (weak, 1));
    }
    of.set_policy(file, Policy::VOLUME, NOW).expect("set");
    for map in maps(&mounted).values() {
        assert_eq!(map.copies().map(|places| places.count()), Some(3));
    }
    let what = embr_engine::names::What::Symlink(b"there");
    let new = embr_engine::names::New {
        what,
        ..embrfs_sim::clerk::root()
    };
    contents::audit(&mounted).expect("sound");
    let made = of.create(InodeNo::ROOT, b"link", &new).expect("made");
    let link = made.what.number;
    assert_eq!(of.set_policy(link, weak, NOW).err(), Some(Error::Invalid));
}

/// A volume of three drives, and a file of which nothing is to survive a loss.
fn weak(chance: &Chance) -> (Fleet, Mounted<Simulated>, Names, InodeNo) {
    let fleet = drives(chance, SIZE, 3, (1, 2));
    let names = desk::names();
    let mounted = desk::mount(chance, &fleet);
    format(&names, &mounted, &View::first());
    let view = View::first();
    let of = names.of(&mounted, &view);
    let file = create(of, b"file");
    let weak = Policy::surviving(0).expect("a policy");
    of.set_policy(file, weak, NOW).expect("set");
    (fleet, mounted, names, file)
}

/// The one copy of each goes to a device that takes it.
#[test]
fn a_refused_copy_goes_elsewhere() {
    let chance = &Chance::new(seed());
    for bad in 0..3 {
        let (fleet, mounted, names, file) = weak(chance);
        let slot = fleet.drives()[bad].slot();
        let everywhere = When::Within(Bytes(0)..SIZE);
        fleet.expect(slot, Fault::Write(everywhere, WriteFault::Fail));
        let view = View::first();
        let of = names.of(&mounted, &view);
        let bytes = pattern(12, chance.next());
        for n in 0..6 {
            write(
                of,
                file,
                n * 2,
                &bytes[n as usize * 2 * BLOCK_SIZE..][..2 * BLOCK_SIZE],
                Way::Sealed,
            );
        }
        fleet.heal();
        assert!(desk::read(of, file, 0, 12) == bytes, "drive {bad} refused");
    }
}

/// More copies lie where there is room in small pieces only, unless those are too small. What is dead needs none.
#[test]
fn more_copies_lie_in_small_holes() {
    let chance = &Chance::new(seed());
    for (run, died, fits) in [(9, 0, true), (1, 0, false), (9, 220, true)] {
        let (fleet, mounted, names, file) = weak(chance);
        let view = View::first();
        let of = names.of(&mounted, &view);
        let mut bytes = pattern(256, chance.next());
        write(of, file, 0, &bytes, Way::Sealed);
        let (from, to) = (BLOCK_SIZE, (1 + died) * BLOCK_SIZE);
        of.punch(file, Bytes(from as u64), Bytes(to as u64), NOW)
            .expect("punched");
        bytes[from..to].fill(0);
        // Of the second there is one copy, where the first has too few drives.
        let fillers = [create(of, b"in copies"), create(of, b"in one")];
        of.set_policy(fillers[1], Policy::surviving(0).expect("a policy"), NOW)
            .expect("set");
        let held = desk::riddle(&mounted, of, &fillers, run);
        // What was just freed comes back as it is needed.
        let strong = Policy::surviving(2).expect("a policy");
        match of.set_policy(file, strong, NOW) {
            Ok(_) => assert!(fits, "{run}"),
            Err(why) => assert!(!fits && why == Error::NoSpace, "{run}: {why}"),
        }
        for extent in held {
            mounted.give_back(extent);
        }
        assert!(desk::read(of, file, 0, 256) == bytes);
        assert_eq!(inspector::with_data(&mounted, &names, &view), []);
        contents::audit(&mounted).unwrap_or_else(|why| panic!("{run}: {why}"));
        if !fits {
            continue;
        }
        mounted.close().expect("closed");
        let left = chance.below(3);
        for drive in (0..3).filter(|n| *n != left) {
            fleet.vanish(fleet.drives()[drive].slot());
        }
        let degraded = desk::mount(chance, &fleet);
        let names = desk::names();
        let of = names.of(&degraded, &view);
        assert!(desk::read(of, file, 0, 256) == bytes, "only drive {left}");
    }
}

#[test]
fn fsck_tells_what_survives_too_little() {
    let chance = &Chance::new(seed());
    let (_, mounted, names, file) = weak(chance);
    let view = View::first();
    let of = names.of(&mounted, &view);
    write(of, file, 0, &pattern(3, 1), Way::Sealed);
    assert_eq!(inspector::with_data(&mounted, &names, &view), []);
    // By hand, as nobody else may.
    let mut inode = of.inode(file).expect("there");
    inode.policy = Policy::VOLUME;
    let mut txn = mounted.begin().expect("begun");
    let key = Item::inode(file).at(view.current());
    let value = inode.encode().expect("memory");
    txn.set(NAMES, key, &value).expect("set");
    txn.commit().expect("committed");
    let found = inspector::with_data(&mounted, &names, &view);
    let is_it = |f: &Finding| matches!(f, Finding::Names(_, Trouble::Weak(_, 0, 2)));
    assert!(matches!(found.as_slice(), [one] if is_it(one)), "{found:?}");
}

/// What is shared by two files that are told to survive more and less, while others move it together.
struct Stage {
    mounted: Mounted<Simulated>,
    names: Names,
    files: [InodeNo; 3],
    over: AtomicUsize,
}

impl Stage {
    fn act(&self, task: usize, chance: &Chance) {
        let view = View::first();
        let of = self.names.of(&self.mounted, &view);
        for _ in 0..20 {
            let file = self.files[task];
            match chance.below(4) {
                0 => {
                    let (at, blocks) = (chance.below(30), 1 + chance.below(20));
                    write(
                        of,
                        file,
                        at as u64,
                        &pattern(blocks, chance.next()),
                        Way::Sealed,
                    );
                }
                1 => {
                    let pair = Pair {
                        from: (self.files[2], FileBlock(0)),
                        to: (file, FileBlock(0)),
                        blocks: Blocks(40),
                    };
                    of.clone_range(&pair, None, NOW).expect("cloned");
                }
                _ => {
                    let policy = Policy::surviving(chance.below(3) as u8).expect("a policy");
                    of.set_policy(file, policy, NOW).expect("set");
                }
            }
        }
        self.over.fetch_add(1, Ordering::Relaxed);
    }

    fn shift(&self) {
        let view = View::first();
        let of = self.names.of(&self.mounted, &view);
        while self.over.load(Ordering::Relaxed) < 2 {
            of.grow_old().expect("later");
            let _ = of.rebundle_ahead().expect("moved");
            let _ = of.rebundle().expect("moved");
            embr_rt::time::sleep(Duration::from_micros(20));
        }
    }
}

#[test]
fn who_moves_leaves_what_is_strengthened_strong() {
    let first = seed();
    for seed in (0..WORLDS).map(|n| first.wrapping_add(n)) {
        let outcome = World::new(seed).holding().run(move || {
            let chance = Chance::new(seed);
            let shape = [(2, 2), (1, 2)][chance.below(2)];
            let fleet = drives(&chance, SIZE, 5, shape);
            let (mounted, names) = (desk::mount(&chance, &fleet), desk::names());
            format(&names, &mounted, &View::first());
            let view = View::first();
            let of = names.of(&mounted, &view);
            let files = [0, 1, 2].map(|n| create(of, format!("{n}").as_bytes()));
            for file in files {
                let weak = Policy::surviving(chance.below(2) as u8).expect("a policy");
                of.set_policy(file, weak, NOW).expect("set");
                for at in [0, 13, 20] {
                    write(of, file, at, &pattern(20, chance.next()), Way::Sealed);
                }
            }
            let stage = Arc::new(Stage {
                mounted,
                names,
                files,
                over: AtomicUsize::new(0),
            });
            let mut workers = Vec::new();
            for task in 0..2 {
                let stage = stage.clone();
                let chance = Chance::new(seed ^ (task as u64 + 1));
                let work = move || stage.act(task, &chance);
                workers.push(Worker::try_spawn(lock_class!("who changes"), work).expect("a task"));
            }
            stage.shift();
            drop(workers);
            contents::audit(&stage.mounted).unwrap_or_else(|why| panic!("{why}"));
        });
        outcome.unwrap_or_else(|failure| panic!("seed {seed}: {failure}"));
    }
}
