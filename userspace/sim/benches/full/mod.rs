// SPDX-License-Identifier: GPL-2.0

//! Overwriting at random on a volume that is nearly full, with what lives moved together as the module's threads do it: what goes to the
//! devices for each block of a file, and how long it takes beside the same on a volume with much room.

use crate::bank::Bank;
use crate::bank::Traffic;
use crate::timed;
use crate::Report;
use embr_engine::env::Hash256;
use embr_engine::env::Hasher as _;
use embr_engine::file::Dirty;
use embr_engine::file::Rest;
use embr_engine::file::Way;
use embr_engine::file::Written;
use embr_engine::format::geometry::Geometry;
use embr_engine::format::node::NODE_SIZE;
use embr_engine::names::Error;
use embr_engine::names::Files;
use embr_engine::names::HashWidth;
use embr_engine::names::Names;
use embr_engine::names::New;
use embr_engine::names::View;
use embr_engine::names::What;
use embr_engine::rebundle::Tally;
use embr_engine::space::promise::Promise;
use embr_engine::space::Usage;
use embr_engine::units::Blocks;
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
use embrfs_sim::scribe::NOW;
use std::collections::BTreeSet;
use std::hint::black_box;
use std::time::Duration;

/// Of all devices together, and the least that is any use.
const SIZE: u64 = 3 << 30;
const LEAST: u64 = 384 << 20;
/// Blocks of a file.
const FILE: u64 = 4096;
/// As the module mounts.
const MOUNT: Options = Options {
    read_only: false,
    degraded: false,
    cache: Bytes(32 << 20),
    dirty: Bytes(16 << 20),
};
/// Bytes that are overwritten between two times that what happened is made durable, and between two turns of the thread that moves.
const SYNC: u64 = 16 << 20;
const TURN: u64 = 48 << 20;
/// Batches of a turn.
const BUDGET: usize = 64;
/// How many times the free space is overwritten before it counts, and while it does.
const BEFORE: u64 = 3;
const COUNTED: u64 = 1;

/// No more than so many times the size of the devices is written to them before and while it counts, each.
const LIMIT: u64 = 5;

/// What is overwritten at once: so many pieces of so many blocks, of one file.
#[derive(Clone, Copy)]
struct Stroke {
    what: &'static str,
    pieces: usize,
    blocks: usize,
}

const STROKES: [Stroke; 3] = [
    Stroke {
        what: "4 KiB, each by itself",
        pieces: 1,
        blocks: 1,
    },
    Stroke {
        what: "4 KiB, 16 of a file at once",
        pieces: 16,
        blocks: 1,
    },
    Stroke {
        what: "64 KiB, each by itself",
        pieces: 1,
        blocks: 16,
    },
];

fn size() -> u64 {
    crate::scaled(SIZE).max(LEAST)
}

impl Stroke {
    fn bytes(&self) -> u64 {
        (self.pieces * self.blocks * BLOCK_SIZE) as u64
    }
}

/// What was overwritten, and what that took.
#[derive(Clone, Copy, Default)]
struct Done {
    /// Blocks.
    payload: u64,
    /// How often something was to be overwritten, and what part in a hundred of all that should have been.
    tried: u64,
    part: u64,
    time: Duration,
    traffic: Traffic,
    /// Roots that were written.
    roots: u64,
    tally: Tally,
    /// Refused for want of room, and of these where statfs told of enough.
    refused: u64,
    wrongly: u64,
}

const COLUMNS: [&str; 12] = [
    "",
    "blocks written",
    "data, copies, parity",
    "of files, moved",
    "nodes",
    "journal",
    "read",
    "roots for 1000",
    "times 20 % full",
    "times hashing and copying",
    "trees, % of devices",
    "refused",
];

const NOTE: &str = "Files of 16 MiB, filled until statfs tells so; then three times what is left of the volume is overwritten, and once more, which is what
counts (20 % full: as much as at 80 %). 48 MiB of that are between two turns of the thread that moves things, 16 MiB between two syncs.
(less): as more than five times their size had gone to the devices, not all was overwritten. Refused: for want of room, before and while it counts,
though statfs told of some. The last figure of the trees is that of the end.";

struct Volume {
    mounted: Mounted<Bank>,
    names: Names,
    view: Arc<View>,
    chance: Chance,
    files: Vec<InodeNo>,
    bytes: Vec<u8>,
    /// Bytes until the next sync and turn.
    ahead: [u64; 2],
    /// Room that was promised and is not used yet.
    room: Option<Promise>,
}

/// How much more room is asked for at once than is needed, as the module does.
const BULK: u64 = 256;

/// Room for so many blocks, out of what was promised.
fn reserve(
    files: Files<'_, Bank>,
    room: &mut Option<Promise>,
    blocks: u64,
) -> Result<Promise, Error> {
    let left = room.as_ref().map_or(0, |room| room.blocks().0);
    if let Some(missing) = blocks.checked_sub(left).filter(|missing| *missing > 0) {
        let more = match files.promise(Blocks(missing + BULK)) {
            Err(Error::NoSpace) => files.promise(Blocks(missing))?,
            more => more?,
        };
        match room.as_mut() {
            Some(room) => room.merge(more),
            None => *room = Some(more),
        }
    }
    let room = room.as_mut().map(|room| room.split(Blocks(blocks)));
    room.ok_or(Error::NoSpace)
}

impl Volume {
    /// One that is full to so many parts in a hundred of what statfs tells.
    fn new(geometry: Geometry, count: usize, percent: u64, seed: u64) -> Self {
        let size = size() / count as u64;
        let bank = Bank::make(geometry, count, Bytes(size), seed);
        let mounted = bank.mount(MOUNT);
        let names = Names::try_new(HashWidth::Full).expect("memory");
        let view = names.open(&mounted, b"").expect("opened");
        let mut volume = Volume {
            mounted,
            names,
            view,
            chance: Chance::new(seed),
            files: Vec::new(),
            bytes: (0..1u32 << 20).map(|n| (n / 7) as u8).collect(),
            ahead: [SYNC, TURN],
            room: None,
        };
        let files = volume.files();
        files.format(&clerk::root()).expect("formatted");
        let all = volume.fill(percent);
        volume.files = all;
        volume
    }

    fn files(&self) -> Files<'_, Bank> {
        self.names.of(&self.mounted, &self.view)
    }

    fn fill(&self, percent: u64) -> Vec<InodeNo> {
        let mut all = Vec::new();
        let files = self.files();
        let total = self.mounted.statfs().total.0;
        let piece = (self.bytes.len() / BLOCK_SIZE) as u64;
        loop {
            let new = New {
                what: What::Regular,
                ..clerk::root()
            };
            let name = format!("file-{}", all.len()).into_bytes();
            let made = files.create(InodeNo::ROOT, &name, &new).expect("made");
            all.push(made.what.number);
            for at in (0..FILE).step_by(piece as usize) {
                let usage = self.mounted.statfs();
                if (usage.available.0.saturating_sub(piece)) * 100 < total * (100 - percent) {
                    // Of the last file only what was written is there to be overwritten.
                    all.pop();
                    self.mounted.checkpoint().expect("a root");
                    return all;
                }
                let dirty = [Dirty {
                    at: FileBlock(at),
                    bytes: &self.bytes,
                }];
                let written = Written {
                    size: Some(Bytes((at + piece) * BLOCK_SIZE as u64)),
                    ..Written::default()
                };
                (files.write(made.what.number, &dirty, Way::Sealed, &written)).expect("written");
            }
        }
    }

    /// Overwrites something; that there is no room for it is an answer.
    fn overwrite(&mut self, stroke: Stroke) -> bool {
        let file = self.files[self.chance.below(self.files.len())];
        let mut places = BTreeSet::new();
        while places.len() < stroke.pieces {
            places.insert(self.chance.below(FILE as usize / stroke.blocks));
        }
        let from = self.chance.below(64) * BLOCK_SIZE;
        let bytes = &self.bytes[from..from + stroke.blocks * BLOCK_SIZE];
        let dirty = |at: &usize| Dirty {
            at: FileBlock((at * stroke.blocks) as u64),
            bytes,
        };
        let dirty: Vec<_> = places.iter().map(dirty).collect();
        let written = Written {
            modified: Some(NOW),
            changed: Some(NOW),
            ..Written::default()
        };
        let files = self.names.of(&self.mounted, &self.view);
        let mut rest = Rest::new(&dirty);
        let blocks = rest.blocks().0;
        let room = match reserve(files, &mut self.room, blocks) {
            Err(Error::NoSpace) => {
                // Once more, without what others have.
                self.room = None;
                self.mounted.sync().expect("durable");
                reserve(files, &mut self.room, blocks)
            }
            room => room,
        };
        let done = room.and_then(|mut room| {
            files.write_under(file, &mut rest, Way::Sealed, &written, &mut room)
        });
        match done {
            Ok(_) => true,
            Err(Error::NoSpace) => false,
            Err(why) => panic!("{why}"),
        }
    }

    /// What the module's threads do beside.
    fn attend(&mut self, bytes: u64) {
        let [sync, turn] = &mut self.ahead;
        let is_due = |left: &mut u64, each| {
            let due = *left <= bytes;
            *left = if due { each } else { *left - bytes };
            due
        };
        let (sync, turn) = (is_due(sync, SYNC), is_due(turn, TURN));
        if sync {
            if self.mounted.checkpoint_due() {
                self.mounted.checkpoint().expect("a root");
            }
            self.mounted.sync().expect("durable");
        }
        if turn {
            let files = self.files();
            files.grow_old().expect("noted");
            for _ in 0..BUDGET {
                if files.rebundle_ahead().expect("moved").gained == Blocks(0) {
                    break;
                }
            }
        }
    }

    fn overwrite_all(&mut self, stroke: Stroke, bytes: u64) -> Done {
        let mut done = Done::default();
        let before = self.files().tally();
        let begin = self.mounted.generation().0;
        let _ = self.mounted.machine().take_traffic();
        let count = bytes / stroke.bytes();
        let limit = LIMIT * size();
        let (time, tried) = timed(|| {
            let mut tried = 0;
            while tried < count && self.mounted.machine().traffic().written() < limit {
                tried += 1;
                if !self.overwrite(stroke) {
                    let usage = self.mounted.statfs();
                    if done.refused == 0 {
                        println!(
                            "  refused after {} blocks: {usage:?}",
                            self.files().tally().written
                        );
                    }
                    done.refused += 1;
                    let left = usage.available.0 * BLOCK_SIZE as u64;
                    done.wrongly += u64::from(left >= stroke.bytes());
                }
                self.attend(stroke.bytes());
            }
            self.mounted.checkpoint().expect("a root");
            tried
        });
        let after = self.files().tally();
        done.payload = after.written.0 - before.written.0;
        done.tried = tried;
        done.part = tried * 100 / count.max(1);
        done.time = time;
        done.roots = self.mounted.generation().0 - begin;
        done.traffic = self.mounted.machine().take_traffic();
        done.tally.moved.blocks = Blocks(after.moved.blocks.0 - before.moved.blocks.0);
        done.tally.moved.stripes = after.moved.stripes - before.moved.stripes;
        done
    }
}

/// What hashing these pieces and copying them to places drawn at random takes.
fn plain(stroke: Stroke, bytes: u64, seed: u64) -> Duration {
    let chance = Chance::new(seed);
    let mut memory = vec![0; 256 << 20];
    let from = vec![0x5a; stroke.blocks * stroke.pieces * BLOCK_SIZE];
    let mut hashes = vec![Hash256::default(); stroke.blocks * stroke.pieces];
    let hasher = Simd::new();
    let mut work = || {
        for _ in 0..bytes / stroke.bytes() {
            hasher.hash_blocks(black_box(&from), &mut hashes);
            for piece in from.chunks(stroke.blocks * BLOCK_SIZE) {
                let at = chance.below(memory.len() / piece.len()) * piece.len();
                memory[at..at + piece.len()].copy_from_slice(piece);
            }
        }
    };
    // The first time the memory is not there yet.
    work();
    timed(work).0
}

/// Nodes of all trees, in parts in a hundred of the devices.
fn trees(volume: &Volume) -> String {
    let nodes = volume.mounted.node_count() * (volume.mounted.copies() * NODE_SIZE) as u64;
    format!("{:.1}", nodes as f64 * 100.0 / size() as f64)
}

/// A figure, if anything was done.
fn cell(figure: f64) -> String {
    match figure.is_finite() {
        true => format!("{figure:.2}"),
        false => "-".to_string(),
    }
}

fn parts(usage: Usage) -> u64 {
    100 - usage.available.0 * 100 / usage.total.0
}

/// Measures it.
pub fn full(report: &mut Report, seed: u64) {
    let shapes = [(4, 2, 6), (1, 0, 1)];
    for (data, parity, count) in shapes {
        let geometry = Geometry::new(data, parity).expect("a geometry");
        report.table(
            &format!(
                "Overwriting at random on a volume of {data}+{parity}, devices: {count}; for each block of a file"
            ),
            &COLUMNS,
        );
        for stroke in STROKES {
            let mut with_room = None;
            for percent in [20, 80, 90] {
                let mut volume = Volume::new(geometry, count, percent, seed);
                let usage = volume.mounted.statfs();
                let all = usage.total.0 * BLOCK_SIZE as u64;
                println!(
                    "{data}+{parity}, {}: {} files on {} MiB, {} % full",
                    stroke.what,
                    volume.files.len(),
                    all >> 20,
                    parts(usage)
                );
                // On the volume with much room as much as on the one that is 80 % full.
                let free = all * (100 - percent.max(80)) / 100;
                let trees_before = trees(&volume);
                let first = volume.overwrite_all(stroke, BEFORE * free);
                let done = volume.overwrite_all(stroke, COUNTED * free);
                let each = |bytes: u64| bytes as f64 / (done.payload * BLOCK_SIZE as u64) as f64;
                let traffic = done.traffic;
                let by_plain = plain(stroke, done.payload * BLOCK_SIZE as u64, seed);
                let each_block = done.time.as_secs_f64() / done.payload as f64;
                let base = *with_room.get_or_insert(each_block);
                let refused = first.refused + done.refused;
                println!(
                    "  {:.1} s before ({} % of it), {:.1} s counted ({} %), {} blocks, {} roots, {} stripes given up, {} % full by now; \
                     refused {refused}, with room {}",
                    first.time.as_secs_f64(),
                    first.part,
                    done.time.as_secs_f64(),
                    done.part,
                    done.payload,
                    done.roots,
                    done.tally.moved.stripes,
                    parts(volume.mounted.statfs()),
                    first.wrongly + done.wrongly
                );
                let is_short = first.part < 100 || done.part < 100;
                let mark = if is_short { " (less)" } else { "" };
                report.row(&[
                    format!("{}, {percent} % full{mark}", stroke.what),
                    cell(each(traffic.written())),
                    cell(each(traffic.data)),
                    cell(done.tally.moved.blocks.0 as f64 / done.payload as f64),
                    cell(each(traffic.nodes)),
                    cell(each(traffic.journal)),
                    cell(each(traffic.read)),
                    cell(done.roots as f64 * 1000.0 / done.payload as f64),
                    cell(each_block / base),
                    cell(done.time.as_secs_f64() / by_plain.as_secs_f64()),
                    format!("{trees_before} to {}", trees(&volume)),
                    match refused {
                        0 => "0".to_string(),
                        n => format!("{n} of {}", first.tried + done.tried),
                    },
                ]);
                volume.room = None;
                volume.mounted.close().expect("closed");
            }
        }
        report.note(NOTE);
    }
}
