// SPDX-License-Identifier: GPL-2.0

//! Readers beside one who takes snapshots, deletes them and writes what they saw: what was the version of a snapshot becomes the head's
//! own, and goes when the head writes its own. Who looks for it just then must find one of both.

use embr_engine::file::Way;
use embr_engine::names::Cookie;
use embr_engine::names::Files;
use embr_engine::names::Mode;
use embr_engine::names::Names;
use embr_engine::names::Users;
use embr_engine::names::View;
use embr_engine::units::Bytes;
use embr_engine::units::InodeNo;
use embr_engine::units::Timestamp;
use embr_engine::units::BLOCK_SIZE;
use embr_engine::volume::Mounted;
use embr_rt::lock_class;
use embr_rt::sim::World;
use embr_rt::time::Duration;
use embr_rt::work::Worker;
use embrfs_sim::desk;
use embrfs_sim::host::seed;
use embrfs_sim::host::Chance;
use embrfs_sim::machine::Simulated;
use embrfs_sim::still;
use embrfs_sim::still::Beside;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering;
use std::sync::Arc;

const WORLDS: u64 = 400;
/// How many worlds of each scene have both stand still at points that are drawn.
const PAIRS: usize = 50;
const FILES: usize = 2;
const BLOCKS: usize = 3;
const ROUNDS: [u8; 2] = [1, 12];

struct Stage {
    mounted: Mounted<Simulated>,
    names: Names,
    view: embr_rt::Arc<View>,
    files: [InodeNo; FILES],
    /// What each block was filled with last, and is about to be.
    written: [[AtomicU8; BLOCKS]; FILES],
    begun: [[AtomicU8; BLOCKS]; FILES],
    is_over: AtomicBool,
}

impl Stage {
    fn files(&self) -> Files<'_, Simulated> {
        self.names.of(&self.mounted, &self.view)
    }

    fn write(&self, n: usize, block: usize, with: u8, way: Way) {
        self.begun[n][block].store(with, Ordering::Relaxed);
        let bytes = vec![with; BLOCK_SIZE];
        desk::write(self.files(), self.files[n], block as u64, &bytes, way);
        self.written[n][block].store(with, Ordering::Relaxed);
    }

    fn turn(&self, chance: &Chance) {
        for round in 0..ROUNDS[chance.below(2)] {
            let now = Timestamp::default();
            self.files().take_snapshot(b"one", now).expect("taken");
            if chance.below(3) == 0 {
                self.mounted.checkpoint().expect("healthy drives");
            }
            self.names.delete(&self.mounted, b"one").expect("deleted");
            for _ in 0..1 + chance.below(4) {
                let way = [Way::Sealed, Way::Inline][chance.below(2)];
                let (n, block) = (chance.below(FILES), chance.below(BLOCKS));
                self.write(n, block, round + 2, way);
            }
            let done = self.files().rename(
                (InodeNo::ROOT, b"f0"),
                (InodeNo::ROOT, b"f1"),
                Mode::Exchange,
                Users::None,
                now,
            );
            done.expect("exchanged");
            if chance.below(2) == 0 {
                while self.names.sweep(&self.mounted).expect("swept") {}
            }
        }
        self.is_over.store(true, Ordering::Relaxed);
    }

    fn look(&self, chance: &Chance) {
        while !self.is_over.load(Ordering::Relaxed) {
            // Time passes only while all wait.
            embr_rt::time::sleep(Duration::from_micros(chance.below(50) as u64));
            let n = chance.below(FILES);
            match chance.below(6) {
                0 => drop(self.files().inode(self.files[n]).expect("it is there")),
                1 => {
                    let name = format!("f{n}");
                    let found = self.files().lookup(InodeNo::ROOT, name.as_bytes());
                    found.expect("it has that name");
                }
                2 | 3 => {
                    let listed = self.files().readdir(InodeNo::ROOT, Cookie::FIRST, 10);
                    assert_eq!(listed.expect("listed").entries.len(), FILES);
                }
                _ => self.read(n),
            }
        }
    }

    fn read(&self, n: usize) {
        let all = |of: &[AtomicU8; BLOCKS]| -> Vec<u8> {
            of.iter().map(|w| w.load(Ordering::Relaxed)).collect()
        };
        let before = all(&self.written[n]);
        let found = desk::read(self.files(), self.files[n], 0, BLOCKS);
        let after = all(&self.begun[n]);
        for (block, bytes) in found.chunks(BLOCK_SIZE).enumerate() {
            let first = bytes[0];
            assert!(bytes.iter().all(|b| *b == first), "two writes in one block");
            let (least, most) = (before[block], after[block]);
            assert!(
                (least..=most).contains(&first),
                "block {block} of file {n}: {first}, where it was {least} before and {most} after"
            );
        }
    }
}

fn stage(chance: &Chance) -> Stage {
    let fleet = desk::drives(chance, Bytes(48 << 20), 1, (1, 0));
    let mounted = desk::mount(chance, &fleet);
    let names = desk::names();
    let view = View::first();
    names
        .of(&mounted, &view)
        .format(&embrfs_sim::clerk::root())
        .expect("formatted");
    let view = names.open(&mounted, b"").expect("opened");
    let files = names.of(&mounted, &view);
    let files = [0, 1].map(|n| desk::create(files, format!("f{n}").as_bytes()));
    let stage = Stage {
        mounted,
        names,
        view,
        files,
        written: Default::default(),
        begun: Default::default(),
        is_over: AtomicBool::new(false),
    };
    for n in 0..FILES {
        for block in 0..BLOCKS {
            stage.write(n, block, 1, Way::Sealed);
        }
    }
    stage
}

fn play(seed: u64) {
    let outcome = World::new(seed).holding().run(move || {
        let chance = Chance::new(seed);
        let stage = Arc::new(stage(&chance));
        let mut workers = Vec::new();
        for n in 0..3 {
            let stage = stage.clone();
            let chance = Chance::new(seed ^ (n + 1));
            let work = move || stage.look(&chance);
            workers.push(Worker::try_spawn(lock_class!("who looks"), work).expect("a task"));
        }
        stage.turn(&chance);
        drop(workers);
    });
    outcome.unwrap_or_else(|failure| panic!("seed {seed}: {failure}"));
}

#[test]
fn who_looks_meanwhile_misses_nothing() {
    let first = seed();
    (0..WORLDS).for_each(|n| play(first.wrapping_add(n)));
}

/// What changes versions.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Take(&'static str),
    Grow(&'static str, &'static str),
    Delete(&'static str),
    /// Blocks, sizes and names as this number says, in the head or in one that has a name.
    Change(&'static str, u8),
    Checkpoint,
    Sweep,
    /// One step of it.
    SweepOnce,
}

use Deed::Change;
use Deed::Checkpoint;
use Deed::Delete;
use Deed::Grow;
use Deed::Sweep;
use Deed::SweepOnce;
use Deed::Take;

/// What was done before, which view is looked at, and what is done while who looks stands still.
type Scene = (&'static [Deed], &'static str, &'static [Deed]);

/// What was changed this much has holes.
const HOLES: u8 = 9;

/// What a block holds after so much.
fn holds(by: u8) -> u8 {
    match by {
        HOLES => 0,
        by => by,
    }
}

/// What is older becomes its own; it is its own already; another head wrote between; what was hidden goes, and what hid it.
const SCENES: [Scene; 10] = [
    (
        &[
            Change("", 1),
            Take("a"),
            Change("", HOLES),
            Take("b"),
            Delete("a"),
            SweepOnce,
        ],
        "",
        &[SweepOnce],
    ),
    (
        &[Change("", 1), Take("a"), Change("", HOLES), Take("b")],
        "b",
        &[Delete("a"), Sweep],
    ),
    (
        &[Change("", 1)],
        "",
        &[Take("a"), Delete("a"), Change("", 2)],
    ),
    (
        &[Change("", 1), Checkpoint],
        "",
        &[Take("a"), Change("", 2), Delete("a"), Sweep, Checkpoint],
    ),
    (
        &[Change("", 1), Take("a"), Change("", 2)],
        "",
        &[Delete("a"), Sweep],
    ),
    (
        &[Change("", 1), Take("a"), Change("", 2), Take("b")],
        "b",
        &[Delete("a"), Sweep],
    ),
    (
        &[Change("", 1), Take("a"), Delete("a")],
        "",
        &[Change("", 2)],
    ),
    (
        &[Change("", 1), Take("a"), Delete("a"), Checkpoint],
        "",
        &[Change("", 2), Checkpoint],
    ),
    (
        &[Change("", 1), Take("a"), Delete("a")],
        "",
        &[Change("", 2), Take("a"), Delete("a"), Change("", 3)],
    ),
    (
        &[
            Take("a"),
            Grow("a", "b"),
            Change("", 1),
            Take("c"),
            Delete("c"),
            Change("b", 5),
        ],
        "",
        &[Change("", 2)],
    ),
];

/// How much the files that a view shows have grown after that.
fn grown(deeds: &[Deed], view: &str) -> u8 {
    let mut all = BTreeMap::from([("", 0)]);
    for deed in deeds {
        match *deed {
            Take(name) => drop(all.insert(name, all[""])),
            Grow(from, name) => drop(all.insert(name, all[from])),
            Change(name, by) => drop(all.insert(name, by)),
            _ => {}
        }
    }
    all[view]
}

impl Stage {
    fn does(&self, deed: Deed) {
        let (mounted, now) = (&self.mounted, Timestamp::default());
        match deed {
            Take(name) => {
                let done = self.files().take_snapshot(name.as_bytes(), now);
                done.expect("taken");
            }
            Grow(from, name) => {
                let (from, name) = (from.as_bytes(), name.as_bytes());
                let done = self.names.grow(mounted, from, name, now);
                done.expect("grown");
            }
            Delete(name) => {
                let done = self.names.delete(mounted, name.as_bytes());
                done.expect("deleted");
            }
            Change(name, by) => self.change(name, by),
            Checkpoint => mounted.checkpoint().expect("healthy drives"),
            Sweep => while self.names.sweep(mounted).expect("swept") {},
            SweepOnce => drop(self.names.sweep(mounted).expect("swept")),
        }
    }

    /// Both files grow by so many blocks, and each such change exchanges their names.
    fn change(&self, name: &str, by: u8) {
        let view = self
            .names
            .open(&self.mounted, name.as_bytes())
            .expect("opened");
        let of = self.names.of(&self.mounted, &view);
        for (n, file) in self.files.into_iter().enumerate() {
            let (way, blocks) = ([Way::Sealed, Way::Inline][n], BLOCKS + usize::from(by));
            desk::write(of, file, 0, &vec![by; blocks * BLOCK_SIZE], way);
            if by == HOLES {
                let end = Bytes((blocks * BLOCK_SIZE) as u64);
                let done = of.punch(file, Bytes(0), end, Timestamp::default());
                done.expect("punched");
            }
        }
        let [one, other] = [b"f0", b"f1"].map(|name| (InodeNo::ROOT, &name[..]));
        let done = of.rename(
            one,
            other,
            Mode::Exchange,
            Users::None,
            Timestamp::default(),
        );
        done.expect("exchanged");
    }

    /// All there is has grown that much.
    fn compare(&self, view: &View, (least, most): (u8, u8)) {
        let of = self.names.of(&self.mounted, view);
        for file in self.files {
            let size = of.inode(file).expect("it is there").size.0 as usize / BLOCK_SIZE;
            let is_it = (least..=most).any(|by| size == BLOCKS + usize::from(by));
            assert!(
                is_it,
                "{size} blocks, where it was {least} before and {most} after"
            );
            for block in desk::read(of, file, 0, BLOCKS).chunks(BLOCK_SIZE) {
                let (first, mut range) = (block[0], least..=most);
                assert!(block.iter().all(|b| *b == first), "two writes in one block");
                assert!(
                    range.any(|by| holds(by) == first),
                    "{first}, where it was {least} before and {most} after"
                );
            }
        }
        for name in ["f0", "f1"] {
            of.lookup(InodeNo::ROOT, name.as_bytes())
                .expect("it has that name");
        }
        let listed = of.readdir(InodeNo::ROOT, Cookie::FIRST, 10);
        assert_eq!(listed.expect("listed").entries.len(), FILES);
    }
}

/// Who looks at a view, beside who changes something.
struct Looking {
    stage: Stage,
    view: embr_rt::Arc<View>,
    scene: Scene,
    before: u8,
    after: u8,
}

impl Looking {
    fn new(seed: u64, scene: Scene) -> Self {
        let (before, name, meanwhile) = scene;
        let stage = stage(&Chance::new(seed));
        before.iter().for_each(|deed| stage.does(*deed));
        let view = stage.names.open(&stage.mounted, name.as_bytes());
        Looking {
            view: view.expect("opened"),
            stage,
            scene,
            before: grown(before, name),
            after: grown(&[before, meanwhile].concat(), name),
        }
    }
}

impl Beside for Looking {
    fn first(&self) {
        self.stage.compare(&self.view, (self.before, self.after));
    }

    fn other(&self) {
        let (.., meanwhile) = self.scene;
        meanwhile.iter().for_each(|deed| self.stage.does(*deed));
    }

    fn after(&self) {
        self.stage.compare(&self.view, (self.after, self.after));
    }
}

#[test]
fn who_stands_still_anywhere_misses_nothing() {
    let seed = seed();
    for scene in SCENES {
        println!("{scene:?}");
        let points = still::everywhere(seed, PAIRS, move || Looking::new(seed, scene));
        println!("{points:?} points");
    }
}
