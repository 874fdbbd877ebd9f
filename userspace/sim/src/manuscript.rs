// SPDX-License-Identifier: GPL-2.0

//! One file that a [scribe](crate::scribe) works on, recorded, and what each operation left of it: many operations after each other, or one
//! that is too large for a transaction; in some, snapshots come and go meanwhile. A volume that a crash cut short holds what one of them
//! left, or a stage of one, in all snapshots and heads.

mod versions;

use crate::ace;
use crate::cache::shuffle;
use crate::cache::Survival;
use crate::clerk;
use crate::contents;
use crate::contents::Copies;
use crate::desk;
use crate::desk::pattern;
use crate::fleet::Fleet;
use crate::host::Chance;
use crate::machine;
use crate::machine::Simulated;
use crate::mender;
use crate::recording;
use crate::recording::Recording;
use crate::recording::State;
use crate::roots;
use crate::scribe::Scribe;
use crate::scribe::Shape;
use crate::scribe::NOW;
use crate::seen::Seen;
use embr_engine::file::Dirty;
use embr_engine::file::Pair;
use embr_engine::file::Way;
use embr_engine::file::Written;
use embr_engine::format::geometry::Geometry;
use embr_engine::format::member::Members;
use embr_engine::format::member::Slot;
use embr_engine::names::Error;
use embr_engine::names::Files;
use embr_engine::names::Names;
use embr_engine::names::New;
use embr_engine::names::What;
use embr_engine::units::Blocks;
use embr_engine::units::Bytes;
use embr_engine::units::FileBlock;
use embr_engine::units::InodeNo;
use embr_engine::units::BLOCK_SIZE;
use embr_engine::volume::recover::Options;
use embr_engine::volume::Mounted;
use std::ops::RangeInclusive;
use std::sync::Arc;
use versions::Contents;
use versions::Shapes;
use versions::Versions;

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
    left: Vec<Vec<Shapes>>,
    file: InodeNo,
    /// Whether snapshots come and go.
    keeps: bool,
    /// How many drives its files are told to do without: at least as many as the volume does.
    survives: RangeInclusive<u8>,
    /// The numbers of the operations that were done, of those that the seed has.
    pub steps: Vec<usize>,
}

fn failed(why: Error) -> String {
    why.to_string()
}

/// The name of a snapshot that is taken of what a crash left, before anything is resumed.
const EARLY: &str = "early";

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

/// How many losses a file on such a volume may be told to survive, if it is to bear as many as the volume at least.
fn survivable(count: usize, (_, parity): (u8, u8)) -> RangeInclusive<u8> {
    parity..=parity.max(count.saturating_sub(1).min(4) as u8)
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
        // Many blocks in the tree are more than a transaction, or a group, holds.
        let large = chance.below(3) == 0;
        // What is kept for removing under snapshots is as much as all that is in the tree.
        let size = Bytes(if large { 64 } else { 32 } << 20);
        let fleet = drives(chance, size, count, bundle)?;
        let mounted = machine::mount(chance.next(), &fleet, machine::READ_WRITE)?;
        let names = ace::names()?;
        let file = {
            let view = names.open(&mounted, b"").map_err(failed)?;
            one_file(names.of(&mounted, &view))?
        };
        durable(&mounted)?;
        fleet.record();
        let mut scribe = Scribe::new(chance, file, if large { 300 } else { 70 });
        let survives = survivable(count, bundle);
        scribe.losses = Some(survives.clone());
        if large {
            scribe.ways = &[Way::Inline];
            scribe.lengths = &[BLOCK_SIZE];
        }
        let keeps = chance.below(2) == 0;
        let begin = Contents::from([(String::new(), Vec::new())]);
        let mut versions = Versions::new(chance, &scribe, begin, keeps);
        let mut left = vec![vec![versions.shapes()]];
        let (sync_in, checkpoint_in) = (chance.one(&[2, 8, 30]), chance.one(&[4, 15, 40]));
        let all: Vec<usize> = (1..=10 + chance.below(30)).collect();
        let steps = steps.map_or(all, <[_]>::to_vec);
        for (number, step) in (1..).zip(&steps) {
            chance.restart(Chance::new(seed ^ ((*step as u64) << 32)).next());
            // Noted before: from here on it may be there.
            fleet.note(recording::begun(number));
            let between = versions.step(&mounted, &names, *step);
            left.push(between.map_err(|why| format!("step {step}: {why}"))?);
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
            keeps,
            survives,
            steps,
        })
    }

    /// One operation that takes several transactions, each of which is durable before the next: one of [`LONG`]. There is
    /// a snapshot of what was before, if that is wanted and blocks are not shifted.
    pub fn long(seed: u64, operation: &str, kept: bool) -> Result<Self, String> {
        let chance = &Chance::new(seed);
        // Room enough that going on is not refused for what it may need at worst.
        let (count, bundle) = chance.one(&[(1, (1, 0)), (6, (4, 2))]);
        let fleet = drives(chance, Bytes(64 << 20), count, bundle)?;
        let mounted = machine::mount(chance.next(), &fleet, machine::READ_WRITE)?;
        let names = ace::names()?;
        let view = names.open(&mounted, b"").map_err(failed)?;
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
        if kept {
            files.take_snapshot(b"s", NOW).map_err(failed)?;
        }
        drop(view);
        mounted.close().map_err(|why| why.to_string())?;
        // With no memory for changes, there is a root after each transaction.
        let hasty = Options {
            dirty: Bytes(0),
            ..machine::READ_WRITE
        };
        let mounted = machine::mount(chance.next(), &fleet, hasty)?;
        let names = ace::names()?;
        let view = names.open(&mounted, b"").map_err(failed)?;
        let files = names.of(&mounted, &view);
        fleet.record();
        let before = Arc::new(Shape::of(&model));
        let with = |now: Arc<Shape>| {
            let mut all = Shapes::from([(String::new(), now)]);
            all.extend(kept.then(|| ("s".to_owned(), before.clone())));
            all
        };
        fleet.note(recording::begun(1));
        let mut between = perform(chance, files, file, operation, &mut model)?;
        between.push(Shape::of(&model));
        let between = between.into_iter().map(|shape| with(shape.into()));
        let left = vec![vec![with(before.clone())], between.collect()];
        durable(&mounted)?;
        fleet.note(recording::durable(1));
        Ok(Manuscript {
            recording: fleet.recorded(),
            left,
            file,
            keeps: kept,
            survives: survivable(count, bundle),
            steps: Vec::new(),
        })
    }

    /// Whether there are drives that it can do without: they are taken away from each state.
    pub fn bears_loss(&self) -> bool {
        self.parity() != 0
    }

    /// Drives that the volume can do without.
    fn parity(&self) -> u8 {
        *self.survives.start()
    }

    /// Whether what this crash left is allowed, without as many drives as may be lost too; and without the newest root, where that is
    /// asked. Says what was met.
    pub fn check(&self, seed: u64, state: &State, older_root: bool) -> Result<Seen, String> {
        let mut seen = Seen::default();
        if self.bears_loss() {
            seen.merge(&self.check_bereft(seed, state)?);
        }
        let snapshot = self.recording.at(state).ok_or("no such state")?;
        if older_root {
            let within = |why| format!("without the newest root: {why}");
            let fleet = Fleet::start(seed, &snapshot);
            if roots::lose_newest(&fleet, seed).map_err(within)? {
                let how = (Copies::All, self.takes(seed, state));
                self.stands(&Chance::new(seed), &fleet, state, how)
                    .map_err(within)?;
            }
        }
        seen.merge(&self.check_whole(seed, state, self.takes(seed, state))?);
        Ok(seen)
    }

    /// Whether it is allowed with all drives. If that is wanted, a snapshot is taken before anything is resumed.
    pub fn check_whole(&self, seed: u64, state: &State, takes: bool) -> Result<Seen, String> {
        let snapshot = self.recording.at(state).ok_or("no such state")?;
        let chance = Chance::new(seed);
        let fleet = Fleet::start(chance.next(), &snapshot);
        let (mut seen, contents) = self.stands(&chance, &fleet, state, (Copies::All, takes))?;
        if chance.below(8) == 0 {
            self.needs_no_repair(&chance, &fleet, &contents)?;
            seen.repairs += 1;
        }
        Ok(seen)
    }

    /// A repair does nothing to it.
    fn needs_no_repair(
        &self,
        chance: &Chance,
        fleet: &Fleet,
        contents: &Contents,
    ) -> Result<(), String> {
        let deeds = mender::mend(chance.next(), fleet, mender::PLAIN)?;
        if !deeds.0.is_empty() {
            return Err(format!("a repair of what is sound: {deeds:?}"));
        }
        self.is(chance, fleet, contents)
    }

    /// It holds this.
    fn is(&self, chance: &Chance, fleet: &Fleet, contents: &Contents) -> Result<(), String> {
        let options = Options {
            read_only: true,
            ..machine::READ_WRITE
        };
        let mounted = machine::mount(chance.next(), fleet, options)?;
        match versions::found(&mounted, &ace::names()?, self.file)? == *contents {
            true => Ok(()),
            false => Err("it does not hold what it did".into()),
        }
    }

    /// Of half of all states a snapshot is taken first: not the same for all of one seed.
    fn takes(&self, seed: u64, state: &State) -> bool {
        Chance::new(!seed ^ (state.cut << 20)).below(2) == 0
    }

    /// Whether it is allowed without as many drives as may be lost.
    pub fn check_bereft(&self, seed: u64, state: &State) -> Result<Seen, String> {
        let snapshot = self.recording.at(state).ok_or("no such state")?;
        let fleet = Fleet::start(seed, &snapshot);
        let mut slots: Vec<Slot> = snapshot.drives.keys().copied().collect();
        shuffle(&mut slots, &Chance::new(seed));
        let here = slots.split_off(self.parity().into());
        slots.iter().for_each(|slot| fleet.vanish(*slot));
        let how = (Copies::MayLack, self.takes(seed, state));
        let chance = &Chance::new(seed);
        let done = self.stands(chance, &fleet, state, how).and_then(|done| {
            let (mut seen, contents) = done;
            if chance.below(4) == 0 {
                self.catches_up(chance, &fleet, (&slots, &here), contents)?;
                seen.caught_up += 1;
            }
            Ok(seen)
        });
        let seen = done.map_err(|why| format!("without drives {slots:?}: {why}"))?;
        Ok(Seen {
            degraded: 1,
            ..seen
        })
    }

    /// Drives that were gone come back, and are caught up while the volume is worked on; then it can do without as many of the others.
    fn catches_up(
        &self,
        chance: &Chance,
        fleet: &Fleet,
        (gone, here): (&[Slot], &[Slot]),
        contents: Contents,
    ) -> Result<(), String> {
        let within = |why: String| format!("they came back: {why}");
        for slot in gone {
            fleet.come_back(*slot, &Survival::Subset(chance.next()));
        }
        let mounted = machine::mount(chance.next(), fleet, machine::READ_WRITE).map_err(within)?;
        // They are worth only what verifies.
        for slot in gone.iter().filter(|_| chance.below(2) == 0) {
            desk::rot(chance, fleet, &mounted, *slot);
        }
        let names = ace::names()?;
        let scribe = Scribe::new(chance, self.file, 70);
        let mut versions = Versions::new(chance, &scribe, contents, self.keeps);
        let view = names.open(&mounted, b"").map_err(failed)?;
        let files = names.of(&mounted, &view);
        let mut at = files
            .begin_catch_up(mounted.returning())
            .map_err(|why| within(failed(why)))?;
        let mut number = 2000;
        while files
            .catch_up_some(&mut at)
            .map_err(|why| within(failed(why)))?
        {
            if chance.below(4) == 0 {
                let done = versions.step(&mounted, &names, number);
                done.map_err(|why| within(format!("going on: {why}")))?;
                number += 1;
            }
        }
        let tally = at.tally();
        let is_out = mounted.returning() != Members::default();
        if is_out || (tally.lost, tally.below) != (0, 0) {
            let out = mounted.returning();
            return Err(within(format!("{tally:?}, out still: {out:?}")));
        }
        versions.compare(&mounted, &names).map_err(within)?;
        contents::audit(&mounted).map_err(within)?;
        drop(view);
        mounted.close().map_err(|why| within(why.to_string()))?;
        let contents = versions.contents();
        for slot in here.iter().take(gone.len()) {
            fleet.vanish(*slot);
        }
        let is = self.is(chance, fleet, &contents);
        is.map_err(|why| within(format!("caught up, and without {here:?} now: {why}")))
    }

    fn stands(
        &self,
        chance: &Chance,
        fleet: &Fleet,
        state: &State,
        (copies, takes): (Copies, bool),
    ) -> Result<(Seen, Contents), String> {
        let seen_read_only = {
            let options = Options {
                read_only: true,
                degraded: false,
                ..machine::READ_WRITE
            };
            let mounted = machine::mount(chance.next(), fleet, options)?;
            versions::found(&mounted, &ace::names()?, self.file)?
        };
        let mounted = machine::mount(chance.next(), fleet, machine::READ_WRITE)?;
        let names = ace::names()?;
        let mut seen = Seen {
            kept: u64::from(seen_read_only.len() > 1),
            rebuilt: contents::rebuilt(&mounted)?,
            ..Seen::default()
        };
        if takes {
            seen.taken_over = take_early(&mounted, &names)?;
        }
        seen.intents = ace::each_head(&mounted, &names, |files| files.resume())? + seen.taken_over;
        contents::audit_but(&mounted, copies)?;
        let all = versions::found(&mounted, &names, self.file)?;
        let mut found = all.clone();
        if takes && found.remove(EARLY).as_ref() != seen_read_only.get("") {
            return Err("a snapshot that was taken first has not what was to be seen".into());
        }
        if found != seen_read_only {
            return Err("what was resumed is not what was to be seen before".into());
        }
        let (durable, committed) = self.recording.bounds(state.cut);
        let last = self.left[durable].last();
        let later = self.left[durable + 1..=committed].iter().flatten();
        let shapes = versions::shapes(&found);
        if !last.into_iter().chain(later).any(|left| *left == shapes) {
            let names: Vec<_> = found
                .iter()
                .map(|(name, held)| (name, held.len()))
                .collect();
            return Err(format!(
                "nothing from {durable} to {committed} left files like {names:?}"
            ));
        }
        let mut scribe = Scribe::new(chance, self.file, 70);
        scribe.losses = Some(self.survives.clone());
        let mut versions = Versions::new(chance, &scribe, all, self.keeps || takes);
        for number in 0..5 {
            // Numbers that no step has.
            let done = versions.step(&mounted, &names, 1000 + number);
            done.map_err(|why| format!("going on: {why}"))?;
        }
        versions.compare(&mounted, &names)?;
        contents::audit_but(&mounted, copies)?;
        if (self.keeps || takes) && chance.below(4) == 0 {
            versions.clear(&mounted, &names)?;
            versions.compare(&mounted, &names)?;
            contents::audit_but(&mounted, copies)
                .map_err(|why| format!("once all snapshots were deleted: {why}"))?;
        }
        mounted.close().map_err(|why| format!("closing: {why}"))?;
        Ok((seen, versions.contents()))
    }
}

/// Takes a snapshot of what a crash left. Nothing is half done in it; says how much was before.
fn take_early(mounted: &Mounted<Simulated>, names: &Names) -> Result<u64, String> {
    let count = {
        let view = names.open(mounted, b"").map_err(failed)?;
        let count = versions::intents(mounted, &view)?;
        let taken = names
            .of(mounted, &view)
            .take_snapshot(EARLY.as_bytes(), NOW);
        taken.map_err(|why| format!("a snapshot before anything is resumed: {why}"))?;
        count
    };
    let view = names.open(mounted, EARLY.as_bytes()).map_err(failed)?;
    match versions::intents(mounted, &view)? {
        0 => Ok(count),
        left => Err(format!("{left} operations are half done in a snapshot")),
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
