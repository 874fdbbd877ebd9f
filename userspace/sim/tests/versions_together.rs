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
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering;
use std::sync::Arc;

const WORLDS: u64 = 400;
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

fn play(seed: u64) {
    let outcome = World::new(seed).holding().run(move || {
        let chance = Chance::new(seed);
        let fleet = desk::drives(&chance, Bytes(48 << 20), 1, (1, 0));
        let mounted = desk::mount(&chance, &fleet);
        let names = desk::names();
        let view = View::first();
        names
            .of(&mounted, &view)
            .format(&embrfs_sim::clerk::root())
            .expect("formatted");
        let view = names.open(&mounted, b"").expect("opened");
        let files = names.of(&mounted, &view);
        let files = [0, 1].map(|n| desk::create(files, format!("f{n}").as_bytes()));
        let stage = Arc::new(Stage {
            mounted,
            names,
            view,
            files,
            written: Default::default(),
            begun: Default::default(),
            is_over: AtomicBool::new(false),
        });
        for n in 0..FILES {
            for block in 0..BLOCKS {
                stage.write(n, block, 1, Way::Sealed);
            }
        }
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
