// SPDX-License-Identifier: GPL-2.0

//! What snapshots cost: the same work on a volume with a thousand of them and on one without, and giving back what they have.

use crate::ram::Ram;
use crate::timed;
use crate::Report;
use embr_engine::file::Dirty;
use embr_engine::file::Way;
use embr_engine::file::Written;
use embr_engine::names::Cookie;
use embr_engine::names::HashWidth;
use embr_engine::names::Names;
use embr_engine::names::New;
use embr_engine::names::Users;
use embr_engine::names::View;
use embr_engine::names::What;
use embr_engine::units::Bytes;
use embr_engine::units::FileBlock;
use embr_engine::units::InodeNo;
use embr_engine::units::BLOCK_SIZE;
use embr_engine::volume::Mounted;
use embr_rt::Arc;
use embrfs_sim::clerk;
use embrfs_sim::host::Chance;
use embrfs_sim::scribe::NOW;
use std::collections::BTreeSet;
use std::hint::black_box;
use std::time::Duration;
use std::time::Instant;

const DEVICE: Bytes = Bytes(6 << 30);
const CACHE: Bytes = Bytes(1 << 30);
const DIRTY: Bytes = Bytes(64 << 20);
/// Files in one directory, and blocks of each.
const FILES: u64 = 20_000;
const BLOCKS: u64 = 32;
/// Changes between two snapshots.
const CHURN: u64 = 200;
/// Files where it is measured what each of several numbers of snapshots costs.
const FEWER: u64 = 2_000;
/// Snapshots that are taken and deleted again there, and blocks that are written over after each.
const ROUNDS: u64 = 64;
const WRITES: usize = 512;
/// How often each thing is measured.
const OFTEN: u64 = 1_000_000;

struct Volume {
    mounted: Mounted<Ram>,
    names: Names,
    view: Arc<View>,
    chance: Chance,
    files: Vec<InodeNo>,
}

fn name(n: u64) -> Vec<u8> {
    format!("file-{n}").into_bytes()
}

impl Volume {
    fn new(seed: u64, count: u64) -> Self {
        let machine = Ram::new(DEVICE, seed).make();
        let mounted = machine.mount(CACHE, DIRTY);
        let names = Names::try_new(HashWidth::Full).expect("memory");
        let view = names.open(&mounted, b"").expect("opened");
        let mut volume = Volume {
            mounted,
            names,
            view,
            chance: Chance::new(seed),
            files: Vec::new(),
        };
        let files = volume.names.of(&volume.mounted, &volume.view);
        files.format(&clerk::root()).expect("formatted");
        let new = New {
            what: What::Regular,
            ..clerk::root()
        };
        let bytes = vec![0x5a; BLOCKS as usize * BLOCK_SIZE];
        let mut all = Vec::new();
        for n in 0..count {
            let made = files.create(InodeNo::ROOT, &name(n), &new).expect("made");
            write(files, made.what.number, 0, &bytes);
            all.push(made.what.number);
        }
        volume.files = all;
        volume
    }

    fn files(&self) -> embr_engine::names::Files<'_, Ram> {
        self.names.of(&self.mounted, &self.view)
    }

    fn one(&self) -> usize {
        self.chance.below(self.files.len())
    }

    /// One block of a file anew.
    fn overwrite(&self) {
        let at = self.chance.below(BLOCKS as usize) as u64;
        write(
            self.files(),
            self.files[self.one()],
            at,
            &[0xa5; BLOCK_SIZE],
        );
    }

    /// Blocks, each another one: a file and its block.
    fn blocks(&self) -> BTreeSet<(usize, u64)> {
        let mut blocks = BTreeSet::new();
        while blocks.len() < WRITES.min(self.files.len()) {
            blocks.insert((self.one(), self.chance.below(BLOCKS as usize) as u64));
        }
        blocks
    }

    /// Writes these anew, each by itself, until a root has them. Says how long that takes.
    fn overwrite_all(&self, blocks: &BTreeSet<(usize, u64)>) -> Duration {
        let work = || {
            for (file, at) in blocks {
                write(self.files(), self.files[*file], *at, &[0xa5; BLOCK_SIZE]);
            }
            self.mounted.checkpoint().expect("a root");
        };
        timed(work).0
    }

    /// Gives back what nobody sees, until a root has it. Says how long that takes, and how many transactions.
    fn sweep(&self) -> (Duration, u64) {
        timed(|| {
            let mut steps = 0u64;
            while self.names.sweep(&self.mounted).expect("swept") {
                steps += 1;
            }
            self.mounted.checkpoint().expect("a root");
            steps
        })
    }

    /// Something is changed, now and then a name.
    fn churn(&mut self) {
        if self.chance.below(8) != 0 {
            return self.overwrite();
        }
        let n = self.one();
        let new = New {
            what: What::Regular,
            ..clerk::root()
        };
        let files = self.names.of(&self.mounted, &self.view);
        let name = name(n as u64);
        (files.unlink(InodeNo::ROOT, &name, Users::None, NOW)).expect("unlinked");
        let made = files.create(InodeNo::ROOT, &name, &new).expect("made");
        write(files, made.what.number, 0, &[0x5a; BLOCK_SIZE]);
        self.files[n] = made.what.number;
    }

    /// How long lookups, a readdir of all, overwrites, and changes of inodes take.
    fn measure(&self, often: u64) -> [Duration; 3] {
        self.mounted.checkpoint().expect("a root");
        let files = self.files();
        let read_all = || {
            let (mut from, mut seen) = (Cookie::FIRST, 0);
            loop {
                let batch = files.readdir(InodeNo::ROOT, from, 500).expect("readable");
                seen += batch.entries.len();
                match batch.entries.last() {
                    Some(last) if !batch.is_last => from = last.cookie.next(),
                    _ => break,
                }
            }
            assert_eq!(seen, self.files.len());
        };
        // All nodes that this takes are in the cache then.
        read_all();
        let look_up = || {
            for _ in 0..often {
                let name = name(self.one() as u64);
                let found = files.lookup(InodeNo::ROOT, &name).expect("there");
                black_box(files.inode(found.inode).expect("an inode"));
            }
        };
        look_up();
        let (lookups, ()) = timed(look_up);
        let (listing, ()) = timed(|| (0..50).for_each(|_| read_all()));
        let (overwrites, ()) = timed(|| {
            (0..often / 4).for_each(|_| self.overwrite());
            self.mounted.checkpoint().expect("a root");
        });
        [lookups, listing, overwrites]
    }
}

fn write(files: embr_engine::names::Files<'_, Ram>, file: InodeNo, at: u64, bytes: &[u8]) {
    let dirty = [Dirty {
        at: FileBlock(at),
        bytes,
    }];
    let written = Written::default();
    let size = Bytes((at + (bytes.len() / BLOCK_SIZE) as u64) * BLOCK_SIZE as u64);
    let written = Written {
        size: Some(size),
        ..written
    };
    files
        .write(file, &dirty, Way::Sealed, &written)
        .expect("written");
}

/// The median of what such a thing takes by the wall clock: too little for the other one.
fn median(mut all: Vec<Duration>) -> Duration {
    all.sort_unstable();
    all[all.len() / 2]
}

/// What something takes by the wall clock.
fn short(work: impl FnOnce()) -> Duration {
    let begin = Instant::now();
    work();
    begin.elapsed()
}

/// Measures it.
pub fn snapshots(report: &mut Report, seed: u64) {
    let count = crate::scaled(FILES);
    let often = crate::scaled(OFTEN);
    let taken = crate::scaled(1000);
    let mut without = Volume::new(seed, count);
    let mut with = Volume::new(seed, count);
    let snapshot = |n: u64| format!("snapshot-{n}").into_bytes();
    for n in 0..taken {
        with.files()
            .take_snapshot(&snapshot(n), NOW)
            .expect("taken");
        for volume in [&mut with, &mut without] {
            (0..CHURN).for_each(|_| volume.churn());
        }
    }
    let title = "A thousand snapshots with 200 changes between each two: times as long as the same work without any";
    report.heading(title, "");
    let compared = |report: &mut Report, with: &Volume, when: &str| {
        let (ours, plain) = (with.measure(often), without.measure(often));
        let what = [
            ("names and inodes looked up", often),
            ("readdir of all", 50 * with.files.len() as u64),
            ("blocks written over", often / 4),
        ];
        for ((what, count), (ours, plain)) in what.into_iter().zip(ours.into_iter().zip(plain)) {
            report.rate(&format!("{what}, {when}"), count, ours, plain, "");
        }
    };
    compared(report, &with, "all there");
    let (_, plain) = {
        let (time, ()) = timed(|| (0..often / 4).for_each(|_| without.overwrite()));
        (0, time)
    };
    let per_change = |count: u64| plain.mul_f64(count as f64 / (often / 4) as f64);
    let mut left: BTreeSet<u64> = (0..taken).collect();
    // Every other one, then the rest.
    for (gone, when) in [
        (
            (0..taken).step_by(2).collect::<Vec<_>>(),
            "every other one deleted",
        ),
        ((1..taken).step_by(2).collect(), "all deleted"),
    ] {
        for n in &gone {
            with.names
                .delete(&with.mounted, &snapshot(*n))
                .expect("deleted");
            left.remove(n);
        }
        let (time, steps) = with.sweep();
        let changes = gone.len() as u64 * CHURN;
        let and = format!(
            "{steps} transactions for {changes} changes; beside writing as many blocks over"
        );
        report.rate(
            &format!("swept, {when}"),
            changes,
            time,
            per_change(changes),
            &and,
        );
        compared(report, &with, when);
    }
    assert!(left.is_empty());
}

/// What one snapshot costs where there are so many already.
pub fn growing(report: &mut Report, seed: u64) {
    report.table(
        "A snapshot more, by how many there are: times as long as writing a block over without any",
        &[
            "",
            "taking it",
            "the first overwriting of a block below it",
            "the second",
            "deleting it",
            "sweeping it, for each block",
            "transactions for each snapshot",
        ],
    );
    let with = Volume::new(seed, crate::scaled(FEWER));
    let without = Volume::new(seed, crate::scaled(FEWER));
    let mut there = 0;
    for count in [0, 1, 10, 100, 1000] {
        let count = crate::scaled(count);
        for n in there..count {
            let name = format!("old {n}").into_bytes();
            with.files().take_snapshot(&name, NOW).expect("taken");
            for volume in [&with, &without] {
                (0..CHURN).for_each(|_| volume.overwrite());
            }
        }
        there = count;
        for volume in [&with, &without] {
            volume.mounted.checkpoint().expect("a root");
            // The first time not all of it is in the cache.
            volume.overwrite_all(&volume.blocks());
        }
        let mut times = [Duration::ZERO; 3];
        let [first, second, plain] = &mut times;
        let mut taken = Vec::new();
        let mut blocks = 0;
        let name = |n: u64| format!("new {n}").into_bytes();
        for n in 0..ROUNDS {
            let some = with.blocks();
            blocks += some.len();
            taken.push(short(|| {
                (with.files().take_snapshot(&name(n), NOW)).expect("taken");
            }));
            *first += with.overwrite_all(&some);
            *second += with.overwrite_all(&some);
            *plain += without.overwrite_all(&without.blocks());
        }
        let delete = |n| {
            short(|| {
                with.names.delete(&with.mounted, &name(n)).expect("deleted");
            })
        };
        let deleted = (0..ROUNDS).map(delete).collect();
        let (swept, steps) = with.sweep();
        let one = plain.as_secs_f64() / blocks as f64;
        let each = |time: Duration, of: f64| format!("{:.2}", time.as_secs_f64() / of / one);
        let (rounds, blocks) = (ROUNDS as f64, blocks as f64);
        report.row(&[
            format!("{count} there"),
            each(median(taken), 1.0),
            each(*first, blocks),
            each(*second, blocks),
            each(median(deleted), 1.0),
            each(swept, blocks),
            format!("{:.1}", steps as f64 / rounds),
        ]);
    }
    report.note(&format!(
        "On {FEWER} files of {BLOCKS} blocks, with {CHURN} blocks written over after each snapshot that is there. {ROUNDS} are taken, with
{WRITES} blocks written over after each, twice, each block by itself and a root after each time;
then all are deleted, and swept together. What is to be written of taking one is written with the blocks that follow.
Taking and deleting are too short for the clock of threads: they are medians by the wall clock. The
volume without any was written over half as often, and figures scatter: below 1 nothing is to be concluded, nor from one row beside the next.",
    ));
}
