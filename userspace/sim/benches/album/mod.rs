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

const DEVICE: Bytes = Bytes(6 << 30);
const CACHE: Bytes = Bytes(1 << 30);
const DIRTY: Bytes = Bytes(64 << 20);
/// Files in one directory, and blocks of each.
const FILES: u64 = 20_000;
const BLOCKS: u64 = 32;
/// Changes between two snapshots.
const CHURN: u64 = 200;
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
        let (time, steps) = timed(|| {
            let mut steps = 0u64;
            while with.names.sweep(&with.mounted).expect("swept") {
                steps += 1;
            }
            with.mounted.checkpoint().expect("a root");
            steps
        });
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
