// SPDX-License-Identifier: GPL-2.0

//! One file that a [scribe](crate::scribe) works on, recorded, and what each operation left of it: many operations after each other, or one
//! that is too large for a transaction. A volume that a crash cut short holds what one of them left, or a stage of one.

use crate::cache::shuffle;
use crate::clerk;
use crate::contents;
use crate::contents::Copies;
use crate::fleet::Fleet;
use crate::host::Chance;
use crate::machine;
use crate::machine::Simulated;
use crate::recording;
use crate::recording::Recording;
use crate::recording::State;
use crate::roots;
use crate::scribe::Scribe;
use crate::scribe::Shape;
use crate::scribe::NOW;
use embr_engine::file::Dirty;
use embr_engine::file::Pair;
use embr_engine::file::Way;
use embr_engine::file::Written;
use embr_engine::format::geometry::Geometry;
use embr_engine::format::member::Slot;
use embr_engine::names::Error;
use embr_engine::names::Files;
use embr_engine::names::HashWidth;
use embr_engine::names::Names;
use embr_engine::names::New;
use embr_engine::names::View;
use embr_engine::names::What;
use embr_engine::units::Blocks;
use embr_engine::units::Bytes;
use embr_engine::units::FileBlock;
use embr_engine::units::InodeNo;
use embr_engine::units::BLOCK_SIZE;
use embr_engine::volume::recover::Options;
use embr_engine::volume::Mounted;

/// Operations that take several transactions if they are large.
pub const LONG: [&str; 8] = [
    "truncate", "punch", "collapse", "insert", "inline", "sealed", "clone", "dedupe",
];

/// Drives, and the shape of stripes.
const VOLUMES: [(usize, (u8, u8)); 8] = [
    (1, (1, 0)),
    (1, (1, 0)),
    (2, (1, 0)),
    (2, (1, 1)),
    (3, (1, 1)),
    (3, (2, 1)),
    (4, (2, 1)),
    (6, (4, 2)),
];

/// Operations that were recorded, and what a crash within each, or right after it, may leave.
pub struct Manuscript {
    /// What happened to the drives.
    pub recording: Recording,
    left: Vec<Vec<Shape>>,
    file: InodeNo,
    /// Drives that the volume can do without.
    parity: u8,
    /// The numbers of the operations that were done, of those that the seed has.
    pub steps: Vec<usize>,
}

fn failed(why: Error) -> String {
    why.to_string()
}

fn names() -> Result<Names, String> {
    Names::try_new(HashWidth::Full).map_err(|why| format!("{why:?}"))
}

/// A volume on so many drives, with stripes of this shape.
fn drives(
    chance: &Chance,
    size: Bytes,
    count: usize,
    (data, parity): (u8, u8),
) -> Result<Fleet, String> {
    let fleet = Fleet::new(chance.next(), &vec![size; count]);
    let geometry = Geometry::new(data, parity).map_err(|why| why.to_string())?;
    machine::make(chance.next(), &fleet, geometry)?;
    Ok(fleet)
}

/// A volume with one empty file.
fn one_file(files: Files<'_, Simulated>) -> Result<InodeNo, String> {
    files.format(&clerk::root()).map_err(failed)?;
    let new = New {
        what: What::Regular,
        ..clerk::root()
    };
    let made = files.create(InodeNo::ROOT, b"file", &new).map_err(failed)?;
    Ok(made.what.number)
}

/// Writes whole blocks; the file does not end before them.
fn write(
    files: Files<'_, Simulated>,
    file: InodeNo,
    at: u64,
    bytes: &[u8],
    way: Way,
) -> Result<(), String> {
    let dirty = [Dirty {
        at: FileBlock(at),
        bytes,
    }];
    let end = at * BLOCK_SIZE as u64 + bytes.len() as u64;
    let written = Written {
        size: Some(Bytes(end)),
        ..Written::default()
    };
    let done = files.write(file, &dirty, way, &written);
    done.map(|_| ()).map_err(failed)
}

/// Bytes of which no block is like another.
fn pattern(blocks: usize, seed: u64) -> Vec<u8> {
    let chance = Chance::new(seed);
    let words = blocks * BLOCK_SIZE / 8;
    (0..words)
        .flat_map(|_| chance.next().to_le_bytes())
        .collect()
}

fn durable(mounted: &Mounted<Simulated>) -> Result<(), String> {
    mounted.sync().map_err(|why| format!("sync: {why}"))
}

impl Manuscript {
    /// Many operations, drawn; or only some of those that the seed has. What one is does not depend on whether others are done, but for
    /// what they leave.
    pub fn drawn(seed: u64, steps: Option<&[usize]>) -> Result<Self, String> {
        let volume = Chance::new(!seed).one(&VOLUMES);
        Self::drawn_on(volume, seed, steps)
    }

    /// The same on so many drives, with stripes of this shape.
    pub fn drawn_on(
        (count, bundle): (usize, (u8, u8)),
        seed: u64,
        steps: Option<&[usize]>,
    ) -> Result<Self, String> {
        let chance = &Chance::new(seed);
        let fleet = drives(chance, Bytes(32 << 20), count, bundle)?;
        let mounted = machine::mount(chance.next(), &fleet, machine::READ_WRITE)?;
        let (names, view) = (names()?, View::first());
        let files = names.of(&mounted, &view);
        let file = one_file(files)?;
        durable(&mounted)?;
        fleet.record();
        // Many blocks in the tree are more than a transaction, or a group, holds.
        let large = chance.below(3) == 0;
        let mut scribe = Scribe::new(chance, file, if large { 300 } else { 70 });
        if large {
            scribe.ways = &[Way::Inline];
            scribe.lengths = &[BLOCK_SIZE];
        }
        let mut left = vec![vec![Shape::of(&[])]];
        let (sync_in, checkpoint_in) = (chance.one(&[2, 8, 30]), chance.one(&[4, 15, 40]));
        let all: Vec<usize> = (1..=10 + chance.below(30)).collect();
        let steps = steps.map_or(all, <[_]>::to_vec);
        for (number, step) in (1..).zip(&steps) {
            chance.restart(Chance::new(seed ^ ((*step as u64) << 32)).next());
            // Noted before: from here on it may be there.
            fleet.note(recording::begun(number));
            let (between, done) = scribe.step(files);
            done.map_err(|why| format!("step {step}: {why}"))?;
            left.push(between);
            if chance.below(sync_in) == 0 {
                durable(&mounted)?;
                fleet.note(recording::durable(number));
            }
            if chance.below(checkpoint_in) == 0 {
                (mounted.checkpoint()).map_err(|why| format!("checkpoint: {why}"))?;
                fleet.note(recording::durable(number));
            }
        }
        Ok(Manuscript {
            recording: fleet.recorded(),
            left,
            file,
            parity: bundle.1,
            steps,
        })
    }

    /// One operation that takes several transactions, each of which is durable before the next: one of [`LONG`].
    pub fn long(seed: u64, operation: &str) -> Result<Self, String> {
        let chance = &Chance::new(seed);
        // Room enough that going on is not refused for what it may need at worst.
        let (count, bundle) = chance.one(&[(1, (1, 0)), (6, (4, 2))]);
        let fleet = drives(chance, Bytes(64 << 20), count, bundle)?;
        let mounted = machine::mount(chance.next(), &fleet, machine::READ_WRITE)?;
        let (names, view) = (names()?, View::first());
        let files = names.of(&mounted, &view);
        let file = one_file(files)?;
        let data = pattern(600, chance.next());
        let mut model = vec![0; 2 * data.len()];
        for (n, block) in data.chunks(BLOCK_SIZE).enumerate() {
            // Every second block, so that none belongs with its neighbour.
            let at = 2 * n;
            let way = if n % 3 == 0 { Way::Inline } else { Way::Sealed };
            write(files, file, at as u64, block, way)?;
            model[at * BLOCK_SIZE..][..BLOCK_SIZE].copy_from_slice(block);
        }
        model.truncate(1199 * BLOCK_SIZE);
        mounted.close().map_err(|why| why.to_string())?;
        // With no memory for changes, there is a root after each transaction.
        let hasty = Options {
            dirty: Bytes(0),
            ..machine::READ_WRITE
        };
        let mounted = machine::mount(chance.next(), &fleet, hasty)?;
        let files = names.of(&mounted, &view);
        fleet.record();
        let mut left = vec![vec![Shape::of(&model)]];
        fleet.note(recording::begun(1));
        let mut between = perform(chance, files, file, operation, &mut model)?;
        between.push(Shape::of(&model));
        left.push(between);
        durable(&mounted)?;
        fleet.note(recording::durable(1));
        Ok(Manuscript {
            recording: fleet.recorded(),
            left,
            file,
            parity: bundle.1,
            steps: Vec::new(),
        })
    }

    /// Whether there are drives that it can do without: they are taken away from each state.
    pub fn bears_loss(&self) -> bool {
        self.parity != 0
    }

    /// Whether what this crash left is allowed, without as many drives as may be lost too; and without the newest root, where that is
    /// asked. Says how many intents there were.
    pub fn check(&self, seed: u64, state: &State, older_root: bool) -> Result<u64, String> {
        if self.parity != 0 {
            self.check_bereft(seed, state)?;
        }
        let snapshot = self.recording.at(state).ok_or("no such state")?;
        if older_root {
            let within = |why| format!("without the newest root: {why}");
            let fleet = Fleet::start(seed, &snapshot);
            if roots::lose_newest(&fleet, seed).map_err(within)? {
                self.stands(&Chance::new(seed), &fleet, (state, Copies::All))
                    .map_err(within)?;
            }
        }
        let chance = Chance::new(seed);
        let fleet = Fleet::start(chance.next(), &snapshot);
        self.stands(&chance, &fleet, (state, Copies::All))
    }

    /// Whether it is allowed without as many drives as may be lost.
    pub fn check_bereft(&self, seed: u64, state: &State) -> Result<u64, String> {
        let snapshot = self.recording.at(state).ok_or("no such state")?;
        let fleet = Fleet::start(seed, &snapshot);
        let mut slots: Vec<Slot> = snapshot.drives.keys().copied().collect();
        shuffle(&mut slots, &Chance::new(seed));
        slots.truncate(self.parity.into());
        slots.iter().for_each(|slot| fleet.vanish(*slot));
        self.stands(&Chance::new(seed), &fleet, (state, Copies::MayLack))
            .map_err(|why| format!("without drives {slots:?}: {why}"))
    }

    fn stands(
        &self,
        chance: &Chance,
        fleet: &Fleet,
        (state, copies): (&State, Copies),
    ) -> Result<u64, String> {
        let (names, view) = (names()?, View::first());
        let mut scribe = Scribe::new(chance, self.file, 70);
        let seen_read_only = {
            let options = Options {
                read_only: true,
                degraded: false,
                ..machine::READ_WRITE
            };
            let mounted = machine::mount(chance.next(), fleet, options)?;
            scribe.found(names.of(&mounted, &view)).map_err(failed)?
        };
        let mounted = machine::mount(chance.next(), fleet, machine::READ_WRITE)?;
        let files = names.of(&mounted, &view);
        let intents = files.resume().map_err(failed)?;
        contents::audit_but(&mounted, copies)?;
        let found = scribe.found(files).map_err(failed)?;
        if found != seen_read_only {
            return Err("what was resumed is not what was to be seen before".into());
        }
        let (durable, committed) = self.recording.bounds(state.cut);
        let last = self.left[durable].last();
        let later = self.left[durable + 1..=committed].iter().flatten();
        let shape = Shape::of(&found);
        if !last.into_iter().chain(later).any(|left| *left == shape) {
            return Err(format!(
                "nothing from {durable} to {committed} left {} bytes like this",
                found.len()
            ));
        }
        scribe.model = found;
        for _ in 0..5 {
            let (_, done) = scribe.step(files);
            done.map_err(|why| format!("going on: {why}"))?;
        }
        scribe.compare(files)?;
        contents::audit_but(&mounted, copies)?;
        Ok(intents)
    }
}

/// Does it to the file and to the model; what it may leave on the way.
fn perform(
    chance: &Chance,
    files: Files<'_, Simulated>,
    file: InodeNo,
    operation: &str,
    model: &mut Vec<u8>,
) -> Result<Vec<Shape>, String> {
    let (from, to) = (3 + chance.below(40), 50 + chance.below(100));
    let (at, end) = (FileBlock(from as u64), FileBlock(to as u64));
    let (from, to) = (from * BLOCK_SIZE, to * BLOCK_SIZE);
    let mut between = Vec::new();
    let done = match operation {
        "truncate" => {
            model.truncate(from);
            files.truncate(file, at.start(), NOW)
        }
        "punch" => {
            let last = 1190 * BLOCK_SIZE;
            model[from..last].fill(0);
            files.punch(file, at.start(), Bytes(last as u64), NOW)
        }
        "collapse" => {
            model.drain(from..to);
            files.collapse(file, at, end, NOW)
        }
        "insert" => {
            model.splice(from..from, std::iter::repeat_n(0, to - from));
            files.insert(file, at, end.0 - at.0, NOW)
        }
        "clone" | "dedupe" => {
            // What lies in the tree makes many transactions of it.
            let first = model.len().div_ceil(BLOCK_SIZE);
            let pair = Pair {
                from: (file, FileBlock(0)),
                to: (file, FileBlock(first as u64)),
                blocks: Blocks(first as u64),
            };
            let source = Shape::of(model);
            let size = Bytes(2 * model.len() as u64);
            for n in 1..=source.blocks.len() {
                let blocks = source.blocks.iter().chain(&source.blocks[..n]);
                between.push(Shape {
                    size: ((first + n) * BLOCK_SIZE) as u64,
                    blocks: blocks.copied().collect(),
                });
            }
            model.extend_from_within(..);
            let done = files.clone_range(&pair, Some(size), NOW);
            if operation == "dedupe" {
                // Each block is the same as itself, if not the same place.
                done.map_err(|why| format!("{operation}: {why}"))?;
                for n in 0..3 {
                    let at = first as u64 + chance.below(first) as u64;
                    let block = &model[at as usize * BLOCK_SIZE..][..BLOCK_SIZE];
                    let way = if n == 0 { Way::Inline } else { Way::Sealed };
                    write(files, file, at, block, way)?;
                }
                let done = files
                    .same_range(&pair)
                    .map_err(|why| format!("{operation}: {why}"))?;
                if done.what != pair.blocks {
                    return Err(format!("only {} blocks are the same", done.what.0));
                }
            } else {
                done.map_err(|why| format!("{operation}: {why}"))?;
            }
            files.truncate(file, size, NOW)
        }
        _ => {
            let more = pattern(600, chance.next());
            let way = match operation {
                "inline" => Way::Inline,
                _ => Way::Sealed,
            };
            let at = model.len() / BLOCK_SIZE;
            for block in more.chunks(BLOCK_SIZE) {
                model.extend_from_slice(block);
                between.push(Shape {
                    size: model.len() as u64,
                    blocks: Vec::new(),
                });
            }
            let all = Shape::of(model);
            for shape in &mut between {
                let blocks = (shape.size / BLOCK_SIZE as u64) as usize;
                shape.blocks.extend_from_slice(&all.blocks[..blocks]);
            }
            write(files, file, at as u64, &more, way)?;
            files.truncate(file, Bytes(model.len() as u64), NOW)
        }
    };
    done.map_err(|why| format!("{operation}: {why}"))?;
    Ok(between)
}
