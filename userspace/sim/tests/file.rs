// SPDX-License-Identifier: GPL-2.0

//! Operations on what a file holds, drawn from a seed, beside plain bytes.

use embr_engine::file::Dirty;
use embr_engine::file::Holds;
use embr_engine::file::Way;
use embr_engine::file::Written;
use embr_engine::format::geometry::Geometry;
use embr_engine::names::Error;
use embr_engine::names::Files;
use embr_engine::names::HashWidth;
use embr_engine::names::Names;
use embr_engine::names::New;
use embr_engine::names::View;
use embr_engine::names::What;
use embr_engine::units::Bytes;
use embr_engine::units::FileBlock;
use embr_engine::units::InodeNo;
use embr_engine::units::Timestamp;
use embr_engine::units::BLOCK_SIZE;
use embr_engine::volume::Mounted;
use embrfs_sim::clerk;
use embrfs_sim::fleet::Fleet;
use embrfs_sim::host::Chance;
use embrfs_sim::machine;
use embrfs_sim::machine::Simulated;
use std::time::SystemTime;

const NOW: Timestamp = Timestamp {
    seconds: 17,
    nanos: 18,
};
/// Blocks of the file that operations are about.
const BLOCKS: usize = 100;

fn seed() -> u64 {
    let seed = match std::env::var("EMBRFS_SEED") {
        Ok(seed) => seed.parse().expect("a number"),
        Err(_) => {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            now.expect("a clock").as_nanos() as u64
        }
    };
    println!("EMBRFS_SEED={seed}");
    seed
}

fn drives(chance: &Chance, count: usize) -> Fleet {
    let fleet = Fleet::new(chance.next(), &vec![Bytes(32 << 20); count]);
    let geometry = Geometry::new(1, count as u8 - 1).expect("a geometry");
    machine::make(chance.next(), &fleet, geometry).expect("made");
    fleet
}

fn mount(chance: &Chance, fleet: &Fleet) -> Mounted<Simulated> {
    machine::mount(chance.next(), fleet, machine::READ_WRITE).expect("mounted")
}

/// A file beside the model of it.
struct Beside<'c> {
    chance: &'c Chance,
    file: InodeNo,
    model: Vec<u8>,
}

impl Beside<'_> {
    fn bytes(&self, blocks: usize) -> Vec<u8> {
        let mut bytes = vec![0; blocks * BLOCK_SIZE];
        for block in bytes.chunks_mut(BLOCK_SIZE) {
            // Some are short, some are zeros.
            let end = self.chance.one(&[0, 1, 100, 4000, BLOCK_SIZE]);
            let seed = self.chance.next();
            for (n, byte) in block[..end].iter_mut().enumerate() {
                *byte = seed.rotate_left(n as u32) as u8;
            }
        }
        bytes
    }

    fn place(&self) -> Bytes {
        let byte = self.chance.below(BLOCKS * BLOCK_SIZE);
        Bytes(match self.chance.below(3) {
            0 => byte,
            _ => byte / BLOCK_SIZE * BLOCK_SIZE,
        } as u64)
    }

    fn resize(&mut self, size: usize) {
        self.model.resize(size, 0);
    }

    fn write(&mut self, files: Files<'_, Simulated>) -> Result<(), Error> {
        let mut parts = Vec::new();
        let mut at = self.chance.below(BLOCKS);
        while at < BLOCKS && parts.len() < 4 {
            let most = self.chance.one(&[1, 2, 8, 60]);
            let blocks = 1 + self.chance.below(most);
            parts.push((at, self.bytes(blocks.min(BLOCKS - at))));
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
        let way = self.chance.one(&[Way::Inline, Way::Sealed]);
        files.write(self.file, &dirty, way, &written)?;
        self.resize(size.max(end));
        for (at, bytes) in &parts {
            let at = at * BLOCK_SIZE;
            self.model[at..at + bytes.len()].copy_from_slice(bytes);
        }
        self.resize(size);
        Ok(())
    }

    fn shift(&mut self, files: Files<'_, Simulated>) -> Result<(), Error> {
        let (from, blocks) = (self.chance.below(BLOCKS), 1 + self.chance.below(40));
        let (at, end) = (FileBlock(from as u64), FileBlock((from + blocks) as u64));
        let (from, bytes) = (from * BLOCK_SIZE, blocks * BLOCK_SIZE);
        if self.chance.below(2) == 0 {
            let done = files.collapse(self.file, at, end, NOW);
            if from + bytes >= self.model.len() {
                assert_eq!(done.err(), Some(Error::Invalid));
                return Ok(());
            }
            done?;
            self.model.drain(from..from + bytes);
        } else {
            let done = files.insert(self.file, at, blocks as u64, NOW);
            if from >= self.model.len() {
                assert_eq!(done.err(), Some(Error::Invalid));
                return Ok(());
            }
            done?;
            self.model.splice(from..from, std::iter::repeat_n(0, bytes));
            // Not for ever larger.
            files.truncate(self.file, Bytes((BLOCKS * BLOCK_SIZE) as u64), NOW)?;
            self.model.resize(BLOCKS * BLOCK_SIZE, 0);
        }
        Ok(())
    }

    fn step(&mut self, files: Files<'_, Simulated>) -> Result<(), Error> {
        match self.chance.below(10) {
            0 | 1 => {
                let size = self.place();
                let done = files.truncate(self.file, size, NOW)?;
                assert_eq!((done.what.size, done.what.changed), (size, NOW));
                self.resize(size.0 as usize);
            }
            2 | 3 => {
                let (a, b) = (self.place(), self.place());
                let (from, to) = (a.min(b), a.max(b));
                if self.chance.below(2) == 0 {
                    files.punch(self.file, from, to, NOW)?;
                } else {
                    let size = (self.chance.below(2) == 0).then_some(to);
                    files.zero(self.file, from, to, size, NOW)?;
                    let size = size.map_or(0, |s| s.0 as usize);
                    self.resize(size.max(self.model.len()));
                }
                let length = self.model.len();
                self.model[length.min(from.0 as usize)..length.min(to.0 as usize)].fill(0);
            }
            4 => {
                let (a, b) = (self.place(), self.place());
                let (from, to) = (FileBlock::of(a.min(b)), FileBlock::of(a.max(b)));
                let size = (self.chance.below(2) == 0).then(|| to.start());
                files.preallocate(self.file, from, to, size, NOW)?;
                let size = size.map_or(0, |s| s.0 as usize);
                self.resize(size.max(self.model.len()));
            }
            5 => self.shift(files)?,
            _ => self.write(files)?,
        }
        Ok(())
    }

    fn compare(&self, files: Files<'_, Simulated>) {
        let size = files.inode(self.file).expect("an inode").size;
        assert_eq!(size, Bytes(self.model.len() as u64));
        let mut expected = self.model.clone();
        expected.resize((BLOCKS + 5) * BLOCK_SIZE, 0);
        let mut at = 0;
        while at < BLOCKS {
            let blocks = 1 + self.chance.below(BLOCKS);
            let blocks = blocks.min(BLOCKS + 5 - at);
            let mut found = vec![0xee; blocks * BLOCK_SIZE];
            files
                .read(self.file, FileBlock(at as u64), &mut found)
                .expect("read");
            for (n, block) in found.chunks(BLOCK_SIZE).enumerate() {
                let begin = (at + n) * BLOCK_SIZE;
                assert!(
                    block == &expected[begin..begin + BLOCK_SIZE],
                    "block {}",
                    at + n
                );
            }
            at += blocks;
        }
        self.compare_pieces(files, &expected);
    }

    /// Pieces follow each other, and what is not zeros lies in data.
    fn compare_pieces(&self, files: Files<'_, Simulated>, expected: &[u8]) {
        let (mut at, to) = (FileBlock(0), FileBlock(BLOCKS as u64 + 5));
        while at < to {
            let most = self.chance.one(&[1, 2, 1000]);
            let pieces = files.pieces(self.file, at, to, most).expect("pieces");
            assert!(!pieces.is_empty() && pieces.len() <= most);
            for piece in pieces.iter() {
                assert_eq!(piece.at, at);
                at = at.plus(piece.blocks.0);
                let bytes = &expected[piece.at.start().0 as usize..at.start().0 as usize];
                let data = matches!(piece.holds, Holds::Inline | Holds::Raw);
                assert!(data || bytes.iter().all(|b| *b == 0), "{piece:?}");
            }
        }
        assert_eq!(at, to);
    }
}

#[test]
fn a_file_beside_plain_bytes() {
    let chance = &Chance::new(seed());
    let fleet = drives(chance, 2);
    let mut mounted = mount(chance, &fleet);
    let names = Names::try_new(HashWidth::Full).expect("memory");
    let view = View::first();
    let root = InodeNo::ROOT;
    let new = New {
        what: What::Regular,
        ..clerk::root()
    };
    let made = {
        let files = names.of(&mounted, &view);
        files.format(&clerk::root()).expect("formatted");
        files.create(root, b"file", &new).expect("made")
    };
    let mut beside = Beside {
        chance,
        file: made.what.number,
        model: Vec::new(),
    };
    for step in 0..600 {
        let files = names.of(&mounted, &view);
        beside
            .step(files)
            .unwrap_or_else(|why| panic!("step {step}: {why}"));
        if chance.below(4) == 0 {
            beside.compare(files);
        }
        if chance.below(40) == 0 {
            mounted.close().expect("closed");
            mounted = mount(chance, &fleet);
        }
    }
    beside.compare(names.of(&mounted, &view));
}
