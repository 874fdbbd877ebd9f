// SPDX-License-Identifier: GPL-2.0

//! Somebody who does the same, drawn from a seed, to a file of the engine and to plain bytes; and what a crash may leave.

use crate::host::Chance;
use crate::image::print;
use crate::machine::Simulated;
use embr_engine::file::Dirty;
use embr_engine::file::Holds;
use embr_engine::file::Pair;
use embr_engine::file::Way;
use embr_engine::file::Written;
use embr_engine::format::geometry::Policy;
use embr_engine::names::Error;
use embr_engine::names::Files;
use embr_engine::units::Blocks;
use embr_engine::units::Bytes;
use embr_engine::units::FileBlock;
use embr_engine::units::InodeNo;
use embr_engine::units::Timestamp;
use embr_engine::units::BLOCK_SIZE;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// When everything here happens.
pub const NOW: Timestamp = Timestamp {
    seconds: 17,
    nanos: 18,
};

/// What a file holds, in short: its size, and a number for what each block holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shape {
    /// The size.
    pub size: u64,
    /// A number for each block; equal blocks have equal ones.
    pub blocks: Vec<u64>,
}

impl Shape {
    /// Of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        let mut last = [0; BLOCK_SIZE];
        let blocks = bytes
            .chunks(BLOCK_SIZE)
            .map(|block| match block.len() == BLOCK_SIZE {
                true => print(block),
                false => {
                    last[..block.len()].copy_from_slice(block);
                    print(&last)
                }
            });
        Shape {
            size: bytes.len() as u64,
            blocks: blocks.collect(),
        }
    }
}

/// A file of the engine beside plain bytes.
#[derive(Clone)]
pub struct Scribe<'c> {
    chance: &'c Chance,
    /// The file.
    pub file: InodeNo,
    /// What it holds.
    pub model: Vec<u8>,
    /// Blocks of it that operations are about.
    most: usize,
    /// How many losses the file may be told to survive, if that is told: one of these.
    pub losses: Option<RangeInclusive<u8>>,
    /// How it writes: one of these.
    pub ways: &'static [Way],
    /// How many bytes of a block it writes, the rest zeros: one of these.
    pub lengths: &'static [usize],
    /// How often each operation was done.
    pub seen: BTreeMap<&'static str, u64>,
}

impl<'c> Scribe<'c> {
    /// For an empty file, of which so many blocks are worked on.
    pub fn new(chance: &'c Chance, file: InodeNo, most: usize) -> Self {
        Scribe {
            chance,
            file,
            model: Vec::new(),
            most,
            losses: None,
            lengths: &[0, 1, 100, 4000, BLOCK_SIZE],
            ways: &[Way::Inline, Way::Sealed],
            seen: BTreeMap::new(),
        }
    }

    fn bytes(&self, blocks: usize) -> Vec<u8> {
        let mut bytes = vec![0; blocks * BLOCK_SIZE];
        for block in bytes.chunks_mut(BLOCK_SIZE) {
            let end = self.chance.one(self.lengths);
            let seed = self.chance.next() | 1;
            for (n, byte) in block[..end].iter_mut().enumerate() {
                *byte = (seed.wrapping_mul(n as u64 + 1) >> 32) as u8;
            }
        }
        bytes
    }

    fn place(&self) -> Bytes {
        let byte = self.chance.below(self.most * BLOCK_SIZE);
        Bytes(match self.chance.below(3) {
            0 => byte,
            _ => byte / BLOCK_SIZE * BLOCK_SIZE,
        } as u64)
    }

    fn range(&self) -> (Bytes, Bytes) {
        let (a, b) = (self.place(), self.place());
        (a.min(b), a.max(b))
    }

    fn extend(&mut self, size: usize) {
        self.model.resize(size.max(self.model.len()), 0);
    }

    fn write(
        &mut self,
        files: Files<'_, Simulated>,
        between: &mut Vec<Shape>,
    ) -> Result<(), Error> {
        let mut parts = Vec::new();
        let mut at = self.chance.below(self.most);
        while at < self.most && parts.len() < 4 {
            let most = self.chance.one(&[1, 2, 8, 60]);
            let blocks = 1 + self.chance.below(most);
            parts.push((at, self.bytes(blocks.min(self.most - at))));
            at += blocks + self.chance.below(20);
        }
        let end = parts
            .last()
            .map_or(0, |(at, bytes)| at * BLOCK_SIZE + bytes.len());
        // The end of the file may lie within the last block, which then has zeros behind it.
        let size = end - self.chance.one(&[0, 1, 1000, 4095]);
        let size = size.max(self.model.len());
        if let Some((at, bytes)) = parts.last_mut() {
            let keep = size.saturating_sub(*at * BLOCK_SIZE).min(bytes.len());
            bytes[keep..].fill(0);
        }
        let dirty: Vec<Dirty<'_>> = parts
            .iter()
            .map(|(at, bytes)| Dirty {
                at: FileBlock(*at as u64),
                bytes,
            })
            .collect();
        let written = Written {
            size: Some(Bytes(size as u64)),
            modified: Some(NOW),
            changed: None,
        };
        let way = self.chance.one(self.ways);
        *self
            .seen
            .entry(if way == Way::Inline {
                "inline"
            } else {
                "sealed"
            })
            .or_default() += 1;
        let done = files.write(self.file, &dirty, way, &written);
        // However far it came, the size never passes what is not written.
        for (at, bytes) in &parts {
            for (n, block) in bytes.chunks(BLOCK_SIZE).enumerate() {
                let at = (at + n) * BLOCK_SIZE;
                let old = self.model.len();
                between.push(Shape::of(&self.model));
                self.extend(at);
                if self.model.len() != old {
                    between.push(Shape::of(&self.model));
                }
                self.extend((at + BLOCK_SIZE).min(size));
                let end = self.model.len().min(at + BLOCK_SIZE);
                self.model[at..end].copy_from_slice(&block[..end - at]);
            }
        }
        self.extend(size);
        done.map(|_| ())
    }

    fn shift(&mut self, files: Files<'_, Simulated>) -> Result<(), Error> {
        let (from, blocks) = (self.chance.below(self.most), 1 + self.chance.below(40));
        let (at, end) = (FileBlock(from as u64), FileBlock((from + blocks) as u64));
        let (from, bytes) = (from * BLOCK_SIZE, blocks * BLOCK_SIZE);
        let collapse = self.chance.below(2) == 0;
        let (what, possible, done) = match collapse {
            true => (
                "collapse",
                from + bytes < self.model.len(),
                files.collapse(self.file, at, end, NOW),
            ),
            false => (
                "insert",
                from < self.model.len(),
                files.insert(self.file, at, blocks as u64, NOW),
            ),
        };
        if !possible {
            assert_eq!(done.err(), Some(Error::Invalid));
            return Ok(());
        }
        *self.seen.entry(what).or_default() += 1;
        match collapse {
            true => drop(self.model.drain(from..from + bytes)),
            false => drop(self.model.splice(from..from, std::iter::repeat_n(0, bytes))),
        }
        done.map(|_| ())
    }

    /// Blocks of the file become the same as others of it.
    fn clone_blocks(
        &mut self,
        files: Files<'_, Simulated>,
        between: &mut Vec<Shape>,
    ) -> Result<(), Error> {
        let most = self.chance.one(&[1, 3, 20, 70]);
        let blocks = 1 + self.chance.below(most);
        let (from, to) = (self.chance.below(self.most), self.chance.below(self.most));
        let pair = self.pair(from, to, blocks);
        if from.abs_diff(to) < blocks {
            let refused = [
                files.clone_range(&pair, None, NOW).err(),
                files.same_range(&pair).err(),
            ];
            assert_eq!(refused, [Some(Error::Invalid); 2]);
            return Ok(());
        }
        *self.seen.entry("clone").or_default() += 1;
        let was = self.model.len();
        // Of the last block of the file only what it has is cloned: there are zeros behind that.
        let cut = match (from + blocks).checked_sub(was.div_ceil(BLOCK_SIZE)) {
            Some(0) => was.next_multiple_of(BLOCK_SIZE) - was,
            _ => 0,
        };
        let size = (to + blocks) * BLOCK_SIZE - cut;
        let told = (size > was || self.chance.below(2) == 0).then_some(Bytes(size as u64));
        let mut source = self.model.clone();
        source.resize(was.max((from + blocks) * BLOCK_SIZE), 0);
        let source = &source[from * BLOCK_SIZE..][..blocks * BLOCK_SIZE];
        for (n, block) in source.chunks(BLOCK_SIZE).enumerate() {
            between.push(Shape::of(&self.model));
            let at = (to + n) * BLOCK_SIZE;
            self.extend((at + BLOCK_SIZE).min(size));
            let end = self.model.len().min(at + BLOCK_SIZE);
            self.model[at..end].copy_from_slice(&block[..end - at]);
        }
        files.clone_range(&pair, told, NOW).map(|_| ())
    }

    fn pair(&self, from: usize, to: usize, blocks: usize) -> Pair {
        Pair {
            from: (self.file, FileBlock(from as u64)),
            to: (self.file, FileBlock(to as u64)),
            blocks: Blocks(blocks as u64),
        }
    }

    /// What holds the same is stored once; the file stays as it is.
    fn dedupe(&mut self, files: Files<'_, Simulated>) -> Result<(), Error> {
        let most = self.chance.one(&[1, 8, 40]);
        let blocks = 1 + self.chance.below(most);
        let from = self.chance.below(self.most);
        let block = |at: usize| {
            let mut block = self
                .model
                .get(at * BLOCK_SIZE..)
                .unwrap_or_default()
                .to_vec();
            block.resize(BLOCK_SIZE, 0);
            block
        };
        let pick = self.chance.below(2) == 0;
        // Rather where there is something to be found.
        let alike =
            (0..self.most).find(|to| pick && *to >= from + blocks && block(*to) == block(from));
        let to = alike.unwrap_or(from + blocks);
        *self.seen.entry("dedupe").or_default() += 1;
        let same = (0..blocks).take_while(|n| block(from + n) == block(to + n));
        let expected = Blocks(same.count() as u64);
        let found = files.same_range(&self.pair(from, to, blocks))?;
        assert_eq!(found.what, expected);
        Ok(())
    }

    fn change(
        &mut self,
        files: Files<'_, Simulated>,
        between: &mut Vec<Shape>,
    ) -> Result<(), Error> {
        // Inserting makes it longer: not for ever.
        let long = self.model.len() > (self.most + 60) * BLOCK_SIZE;
        match self.chance.below(if long { 1 } else { 13 }) {
            0 | 1 => {
                *self.seen.entry("truncate").or_default() += 1;
                let size = self.place();
                self.model.resize(size.0 as usize, 0);
                files.truncate(self.file, size, NOW)?;
                let inode = files.inode(self.file)?;
                assert_eq!((inode.size, inode.changed), (size, NOW));
            }
            2 | 3 => {
                let (from, to) = self.range();
                let zero = self.chance.below(2) == 0;
                let size = (zero && self.chance.below(2) == 0).then_some(to);
                let length = self.model.len();
                self.model[length.min(from.0 as usize)..length.min(to.0 as usize)].fill(0);
                between.push(Shape::of(&self.model));
                self.extend(size.map_or(0, |s| s.0 as usize));
                if zero {
                    *self.seen.entry("zero").or_default() += 1;
                    files.zero(self.file, from, to, size, NOW)?;
                } else {
                    *self.seen.entry("punch").or_default() += 1;
                    files.punch(self.file, from, to, NOW)?;
                }
            }
            4 => {
                *self.seen.entry("preallocate").or_default() += 1;
                let (from, to) = self.range();
                let (from, to) = (FileBlock::of(from), FileBlock::of(to));
                let size = (self.chance.below(2) == 0).then(|| to.start());
                self.extend(size.map_or(0, |s| s.0 as usize));
                files.preallocate(self.file, from, to, size, NOW)?;
            }
            5 => self.shift(files)?,
            6 if self.chance.below(2) == 0 => {
                *self.seen.entry("rebundle").or_default() += 1;
                files.rebundle()?;
            }
            7 | 8 => self.clone_blocks(files, between)?,
            9 => self.dedupe(files)?,
            10 if self.losses.is_some() && self.chance.below(2) == 0 => {
                *self.seen.entry("policy").or_default() += 1;
                let losses: Vec<u8> = self.losses.iter().cloned().flatten().collect();
                let policy = Policy::surviving(self.chance.one(&losses)).expect("a policy");
                files.set_policy(self.file, policy, NOW)?;
            }
            _ => self.write(files, between)?,
        }
        Ok(())
    }

    /// One operation. Returns what a crash within it may leave, beside what there was before it; the last is what it comes to.
    pub fn step(&mut self, files: Files<'_, Simulated>) -> (Vec<Shape>, Result<(), Error>) {
        let mut between = Vec::new();
        let done = self.change(files, &mut between);
        between.push(Shape::of(&self.model));
        (between, done)
    }

    /// What the engine's file holds.
    pub fn found(&self, files: Files<'_, Simulated>) -> Result<Vec<u8>, Error> {
        let size = files.inode(self.file)?.size.0 as usize;
        let mut found = vec![0xee; size.next_multiple_of(BLOCK_SIZE)];
        files.read(self.file, FileBlock(0), &mut found)?;
        found.truncate(size);
        Ok(found)
    }

    /// Compares everything, read in pieces.
    pub fn compare(&self, files: Files<'_, Simulated>) -> Result<(), String> {
        let failed = |why: Error| why.to_string();
        let size = files.inode(self.file).map_err(failed)?.size.0;
        if size != self.model.len() as u64 {
            return Err(format!("{size} bytes, by the model {}", self.model.len()));
        }
        let mut expected = self.model.clone();
        let blocks = self.model.len().div_ceil(BLOCK_SIZE) + 5;
        expected.resize(blocks * BLOCK_SIZE, 0);
        let mut at = 0;
        while at < blocks {
            let count = (1 + self.chance.below(blocks)).min(blocks - at);
            let mut found = vec![0xee; count * BLOCK_SIZE];
            files
                .read(self.file, FileBlock(at as u64), &mut found)
                .map_err(failed)?;
            for (n, block) in found.chunks(BLOCK_SIZE).enumerate() {
                let begin = (at + n) * BLOCK_SIZE;
                if block != &expected[begin..begin + BLOCK_SIZE] {
                    return Err(format!("block {} is not what it should be", at + n));
                }
            }
            at += count;
        }
        self.compare_pieces(files, &expected)
    }

    /// Pieces follow each other, and what is not zeros lies in data.
    fn compare_pieces(&self, files: Files<'_, Simulated>, expected: &[u8]) -> Result<(), String> {
        let to = FileBlock((expected.len() / BLOCK_SIZE) as u64);
        let mut at = FileBlock(0);
        while at < to {
            let most = self.chance.one(&[1, 2, 1000]);
            let pieces = files
                .pieces(self.file, at, to, most)
                .map_err(|why| why.to_string())?;
            if pieces.is_empty() || pieces.len() > most {
                return Err(format!("{} pieces of {most}", pieces.len()));
            }
            for piece in pieces.iter() {
                let here = piece.at == at;
                at = at.plus(piece.blocks.0);
                let bytes = &expected[piece.at.start().0 as usize..at.start().0 as usize];
                let data = matches!(piece.holds, Holds::Inline | Holds::Raw);
                if !here || (!data && bytes.iter().any(|b| *b != 0)) {
                    return Err(format!("a wrong piece: {piece:?}"));
                }
            }
        }
        match at == to {
            true => Ok(()),
            false => Err("pieces end elsewhere".into()),
        }
    }
}
