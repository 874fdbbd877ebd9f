// SPDX-License-Identifier: GPL-2.0

//! One thread writes to a file, another stores to other blocks of it through a mapping: at once, every block that something was put
//! into is data, not a hole, and holds it.

use crate::chance::Chance;
use crate::map::Map;
use crate::step::BLOCK;
use rustix::fs::seek;
use rustix::fs::SeekFrom;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread;

/// Blocks of a write.
const WRITE: u64 = 64;
/// Blocks that are written to; as many follow that are stored to.
const HALF: u64 = 64 * WRITE;

/// Does so with one file after the other.
pub fn stores(directory: &Path, seed: u64, rounds: u64) -> Result<(), String> {
    let path = directory.join(format!("stores-{seed}"));
    for round in 0..rounds {
        one(&path, seed + round).map_err(|why| format!("stores {seed}, round {round}: {why}"))?;
        std::fs::remove_file(&path).map_err(|why| why.to_string())?;
    }
    Ok(())
}

fn one(path: &Path, seed: u64) -> Result<(), String> {
    let shown = |why: io::Error| why.to_string();
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(path)
        .map_err(shown)?;
    file.set_len(2 * HALF * BLOCK).map_err(shown)?;
    let mut map = Map::new(&file, HALF * BLOCK, HALF * BLOCK).map_err(shown)?;
    let done = AtomicBool::new(false);
    let written = thread::scope(|scope| {
        let writer = scope.spawn(|| write(&file, seed, &done));
        for (page, block) in map.bytes().chunks_mut(BLOCK as usize).zip(HALF..) {
            page[..8].copy_from_slice(&block.to_le_bytes());
        }
        done.store(true, Ordering::Relaxed);
        writer
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("a thread panicked")))
    });
    written.map_err(shown)?;
    for block in HALF..2 * HALF {
        let at = block * BLOCK;
        let data = seek(&file, SeekFrom::Data(at)).map_err(|why| why.to_string())?;
        if data != at {
            return Err(format!(
                "block {block} was stored to, but there is no data before {data:#x}"
            ));
        }
        let mut found = [0; 8];
        file.read_exact_at(&mut found, at).map_err(shown)?;
        if found != block.to_le_bytes() {
            return Err(format!("block {block} holds {found:?}"));
        }
    }
    Ok(())
}

/// Writes until the other is done.
fn write(file: &File, seed: u64, done: &AtomicBool) -> io::Result<()> {
    let mut chance = Chance::new(seed);
    let bytes = vec![0x5a; (WRITE * BLOCK) as usize];
    while !done.load(Ordering::Relaxed) {
        file.write_all_at(&bytes, chance.below(HALF / WRITE) * WRITE * BLOCK)?;
    }
    Ok(())
}
