// SPDX-License-Identifier: GPL-2.0

//! A volume of a TiB on devices that keep little of what files hold: how much memory the engine has of it, and how long a mount takes, clean
//! and after a crash.

use crate::bank::Bank;
use crate::bank::Traffic;
use crate::memory;
use crate::timed;
use crate::Report;
use embr_engine::env::Hasher as _;
use embr_engine::file::Dirty;
use embr_engine::file::Way;
use embr_engine::file::Written;
use embr_engine::format::geometry::Geometry;
use embr_engine::format::node::NODE_SIZE;
use embr_engine::names::Files;
use embr_engine::names::HashWidth;
use embr_engine::names::Names;
use embr_engine::names::New;
use embr_engine::names::View;
use embr_engine::names::What;
use embr_engine::units::Bytes;
use embr_engine::units::FileBlock;
use embr_engine::units::InodeNo;
use embr_engine::units::BLOCK_SIZE;
use embr_engine::volume::recover::Options;
use embr_engine::volume::Mounted;
use embr_rt::Arc;
use embrfs_host::Simd;
use embrfs_sim::clerk;
use embrfs_sim::host::Chance;
use std::hint::black_box;
use std::time::Duration;

const TIB: u64 = 1 << 40;
const GIB: u64 = 1 << 30;
const MIB: f64 = (1 << 20) as f64;
/// What is written into the volume.
const DATA: u64 = 64 * GIB;
/// Blocks of a file, and of what is written at once.
const FILE: u64 = GIB / BLOCK_SIZE as u64;
const PIECE: usize = 256;
/// As the module mounts.
const MOUNT: Options = Options {
    read_only: false,
    degraded: false,
    cache: Bytes(32 << 20),
    dirty: Bytes(16 << 20),
};
/// The journal is full before this is.
const MUCH: Options = Options {
    dirty: Bytes(GIB),
    ..MOUNT
};

const NOTE: &str = "1+0 is on one device, 4+2 on six, a TiB together. Each device has a ring of 128 MiB for its journal, and a mount reads all rings, so
most of what it reads they are. What is read behind a crash, and written, are the leaves of trees that were touched: blocks were overwritten at
random, each by itself. As the module mounts: with 16 MiB for changes in memory; the journal full: with more than fill it.";

struct Volume {
    mounted: Mounted<Bank>,
    names: Names,
    view: Arc<View>,
}

impl Volume {
    fn mount(bank: &Bank, options: Options) -> Self {
        let mounted = bank.mount(options);
        let names = Names::try_new(HashWidth::Full).expect("memory");
        let view = names.open(&mounted, b"").expect("opened");
        Volume {
            mounted,
            names,
            view,
        }
    }

    fn files(&self) -> Files<'_, Bank> {
        self.names.of(&self.mounted, &self.view)
    }

    /// Makes files with so many bytes in all.
    fn fill(&self, bytes: u64) -> Vec<InodeNo> {
        let files = self.files();
        let mut all = Vec::new();
        let mut piece = vec![0; PIECE * BLOCK_SIZE];
        for n in 0..bytes / GIB {
            let new = New {
                what: What::Regular,
                ..clerk::root()
            };
            let name = format!("file-{n}").into_bytes();
            let made = files.create(InodeNo::ROOT, &name, &new).expect("made");
            for at in (0..FILE).step_by(PIECE) {
                for (n, block) in piece.chunks_mut(BLOCK_SIZE).enumerate() {
                    block.fill((at as u8).wrapping_add(n as u8));
                }
                self.write(made.what.number, at, &piece);
            }
            all.push(made.what.number);
            if n % 8 == 7 {
                println!("  {} GiB written", n + 1);
            }
        }
        self.mounted.checkpoint().expect("a root");
        all
    }

    fn write(&self, file: InodeNo, at: u64, bytes: &[u8]) {
        let dirty = [Dirty {
            at: FileBlock(at),
            bytes,
        }];
        let blocks = (bytes.len() / BLOCK_SIZE) as u64;
        let written = Written {
            size: Some(Bytes((at + blocks) * BLOCK_SIZE as u64)),
            ..Written::default()
        };
        let done = self.files().write(file, &dirty, Way::Sealed, &written);
        done.expect("written");
    }

    /// Blocks are overwritten at random until the next root is near.
    fn overwrite(&self, files: &[InodeNo], chance: &Chance) -> u64 {
        let since = |most: u64| {
            let (begin, mut count) = (self.mounted.generation(), 0);
            while self.mounted.generation() == begin && count < most {
                let file = files[chance.below(files.len())];
                let at = chance.below(FILE as usize) as u64;
                self.write(file, at, &[chance.next() as u8; BLOCK_SIZE]);
                count += 1;
                if count % 256 == 0 {
                    self.mounted.sync().expect("durable");
                }
            }
            count
        };
        // Two roots may follow each other at once, and the first comes later than others.
        let mut wanted = (0..3).map(|_| since(u64::MAX)).max().unwrap_or(0);
        loop {
            wanted -= wanted / 20;
            if since(wanted) == wanted {
                break;
            }
        }
        self.mounted.sync().expect("durable");
        wanted
    }
}

/// A mount, and what it took.
struct Measured {
    volume: Volume,
    time: Duration,
    /// Memory that is there afterwards, and the most that was there meanwhile.
    kept: i64,
    most: i64,
    traffic: Traffic,
}

fn measure(bank: &Bank) -> Measured {
    let before = memory::now();
    let _ = (memory::take_most(), bank.take_traffic());
    let (time, volume) = timed(|| Volume::mount(bank, MOUNT));
    Measured {
        volume,
        time,
        kept: memory::now() - before,
        most: memory::take_most() - before,
        traffic: bank.take_traffic(),
    }
}

/// Reading so many bytes in pieces of a node and hashing them.
fn plain(bytes: u64) -> Duration {
    let memory = vec![0x5a_u8; 256 << 20];
    let (chance, hasher, mut node) = (Chance::new(1), Simd::new(), vec![0; NODE_SIZE]);
    let work = || {
        for _ in 0..bytes / NODE_SIZE as u64 {
            let at = chance.below(memory.len() / NODE_SIZE) * NODE_SIZE;
            node.copy_from_slice(&memory[at..at + NODE_SIZE]);
            black_box(hasher.hash(&[&node]));
        }
    };
    timed(work).0
}

fn mib(bytes: impl Into<i64>) -> String {
    format!("{:.1}", bytes.into() as f64 / MIB)
}

/// Mounts it once more, and says what that took.
fn row(report: &mut Report, what: &str, bank: &Bank) -> Measured {
    let mount = measure(bank);
    let traffic = mount.traffic;
    let by_plain = plain(traffic.read);
    report.row(&[
        what.to_string(),
        mib(mount.kept),
        mib(mount.most),
        mib(traffic.read as i64),
        mib(traffic.written() as i64),
        format!("{:.2}", mount.time.as_secs_f64() / by_plain.as_secs_f64()),
    ]);
    mount
}

/// Measures it.
pub fn size(report: &mut Report, seed: u64) {
    let data = crate::scaled(DATA) / GIB * GIB;
    report.table(
        "Memory and mount time of a volume of one TiB: MiB, and times as long as reading as many bytes as the mount reads and hashing them",
        &["", "memory, mounted", "at most, mounting", "read", "written", "time"],
    );
    let mut per_tib = Vec::new();
    for (name, geometry, count) in [("1+0", (1, 0), 1), ("4+2", (4, 2), 6)] {
        let geometry = Geometry::new(geometry.0, geometry.1).expect("a geometry");
        let make = |size: u64| {
            let each = Bytes(size / count as u64 / GIB * GIB);
            Bank::make_sparse(geometry, count, each, seed)
        };
        let before = memory::now();
        let small = make(TIB / 4);
        let quarter = row(
            report,
            &format!("{name}, a quarter of a TiB, empty"),
            &small,
        )
        .kept;
        drop(small);
        let bank = make(TIB);
        let empty = row(report, &format!("{name}, empty"), &bank);
        let of_size = (empty.kept - quarter) / 3 * 4;
        let volume = empty.volume;
        let format = volume.files().format(&clerk::root());
        format.expect("formatted");
        let files = volume.fill(data);
        println!("  filled: {} MiB of memory", mib(memory::now() - before));
        volume.mounted.close().expect("closed");
        drop((volume.names, volume.view));

        let gib = data / GIB;
        let what = format!("{name}, {gib} GiB of data");
        let clean = row(report, &format!("{what}, clean"), &bank);
        let of_data = clean.kept - empty.kept;
        let chance = Chance::new(seed);
        // All that is cached is full then.
        let mut block = [0; BLOCK_SIZE];
        for _ in 0..crate::scaled(200_000) {
            let file = files[chance.below(files.len())];
            let at = FileBlock(chance.below(FILE as usize) as u64);
            let read = clean.volume.files().read(file, at, &mut block);
            read.expect("read");
        }
        let used = memory::now() - before;
        let nodes = clean.volume.mounted.node_count() * NODE_SIZE as u64;
        clean.volume.mounted.close().expect("closed");
        per_tib.push((
            name,
            of_size,
            of_data * (TIB / data) as i64,
            used,
            nodes * (TIB / data),
        ));
        for (options, when) in [(MOUNT, "as the module mounts"), (MUCH, "the journal full")] {
            let volume = Volume::mount(&bank, options);
            let changes = volume.overwrite(&files, &chance);
            drop(volume);
            let what = format!("{what}, after a crash, {when}, {changes} blocks overwritten");
            row(report, &what, &bank)
                .volume
                .mounted
                .close()
                .expect("closed");
        }
    }
    report.note(NOTE);
    report.table(
        "What of this grows: MiB",
        &[
            "",
            "memory for a TiB of size",
            "memory for a TiB of data",
            "memory after many reads, nodes cached",
            "nodes for a TiB of data",
        ],
    );
    for (name, of_size, of_data, used, nodes) in per_tib {
        report.row(&[
            name.to_string(),
            mib(of_size),
            mib(of_data),
            mib(used),
            mib(nodes as i64),
        ]);
    }
}
