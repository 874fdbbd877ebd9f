// SPDX-License-Identifier: GPL-2.0

//! Files that only grow, until the file system fails: after that, each must hold what was written to it up to its size, and its size
//! must be at least what was made durable. A size that ran ahead of its bytes shows as zeros.

use crate::chance::Chance;
use rustix::fs::fadvise;
use rustix::fs::Advice;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::path::PathBuf;

/// Files in a directory.
pub const FILES: u64 = 4;
/// No file grows beyond.
const MAX_SIZE: u64 = 64 << 20;

/// What a file of this seed holds at a place; never zeros.
fn fill(seed: u64, at: u64, bytes: &mut [u8]) {
    for (n, byte) in (at..).zip(bytes) {
        let word = (n / 8)
            .wrapping_add(seed << 40)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15);
        *byte = (word >> (8 * (n % 8))) as u8 | 1;
    }
}

fn data(directory: &Path, seed: u64) -> PathBuf {
    directory.join(format!("grow-{seed}"))
}

fn note(log: &Path, seed: u64) -> PathBuf {
    log.join(format!("grow-{seed}.durable"))
}

/// Lets a file grow until that fails, and notes elsewhere how much of it was made durable.
pub fn grow(directory: &Path, log: &Path, seed: u64) -> Result<(), String> {
    let shown = |why: io::Error| format!("grow {seed}: {why}");
    let mut chance = Chance::new(seed);
    let file = loop {
        match File::create(data(directory, seed)) {
            Err(why) if why.raw_os_error() == Some(12) => {}
            file => break file.map_err(shown)?,
        }
    };
    let note = File::create(note(log, seed)).map_err(shown)?;
    let mut size = 0;
    let mut buffer = vec![0; 300_000];
    loop {
        match step(&file, &note, &mut chance, &mut size, seed, &mut buffer) {
            Ok(()) => {}
            // The step is taken again: it writes the same bytes to the same place.
            Err(why) if why.raw_os_error() == Some(12) => {}
            // Shut down, full, or read-only from now on.
            Err(why) if matches!(why.raw_os_error(), Some(5 | 28 | 30)) => return Ok(()),
            Err(why) => return Err(shown(why)),
        }
    }
}

fn step(
    file: &File,
    note: &File,
    chance: &mut Chance,
    size: &mut u64,
    seed: u64,
    buffer: &mut [u8],
) -> io::Result<()> {
    match chance.below(10) {
        0 => {
            file.sync_data()?;
            note.write_all_at(format!("{size:020}\n").as_bytes(), 0)?;
        }
        // Later bytes go to the volume before earlier ones.
        1..=3 => {
            let from = chance.below(*size + 1) / 4096 * 4096;
            let len = NonZeroU64::new(4096 * (1 + chance.below(30)));
            fadvise(file, from, len, Advice::DontNeed)?;
        }
        _ if *size >= MAX_SIZE => {
            // First: this may end at any place, and a promise is taken back before it is broken.
            note.write_all_at(format!("{:020}\n", 0).as_bytes(), 0)?;
            file.set_len(0)?;
            *size = 0;
            file.sync_all()?;
        }
        _ => {
            let most = [50, 5000, 300_000][chance.below(3) as usize];
            let piece = &mut buffer[..1 + chance.below(most) as usize];
            fill(seed, *size, piece);
            file.write_all_at(piece, *size)?;
            *size += piece.len() as u64;
        }
    }
    Ok(())
}

/// Whether a file that grew is what it must be.
pub fn grown(directory: &Path, log: &Path, seed: u64) -> Result<String, String> {
    let shown = |why: io::Error| format!("grown {seed}: {why}");
    let text = std::fs::read_to_string(note(log, seed)).unwrap_or_default();
    let durable: u64 = text.trim().parse().unwrap_or(0);
    let file = match OpenOptions::new().read(true).open(data(directory, seed)) {
        Err(why) if why.kind() == io::ErrorKind::NotFound && text.is_empty() => {
            return Ok("none".into())
        }
        file => file.map_err(shown)?,
    };
    let size = file.metadata().map_err(shown)?.len();
    if size < durable {
        return Err(format!(
            "grown {seed}: {size:#x} bytes, but {durable:#x} were durable"
        ));
    }
    let mut found = vec![0; 1 << 20];
    let mut wanted = vec![0; 1 << 20];
    let mut at = 0;
    while at < size {
        let len = (size - at).min(found.len() as u64) as usize;
        file.read_exact_at(&mut found[..len], at).map_err(shown)?;
        fill(seed, at, &mut wanted[..len]);
        if let Some(n) = (0..len).find(|n| found[*n] != wanted[*n]) {
            return Err(format!(
                "grown {seed}: byte {:#x} of {size:#x} is {:#04x}, wanted {:#04x}; {durable:#x} were durable",
                at + n as u64,
                found[n],
                wanted[n]
            ));
        }
        at += len as u64;
    }
    Ok(format!("{size} bytes, {durable} durable"))
}

/// Makes a file of so many bytes.
pub fn make(directory: &Path, size: u64, seed: u64) -> Result<(), String> {
    let shown = |why: io::Error| format!("make {seed}: {why}");
    let file = File::create(data(directory, seed)).map_err(shown)?;
    let mut buffer = vec![0; 1 << 20];
    let mut at = 0;
    while at < size {
        let len = (size - at).min(buffer.len() as u64) as usize;
        fill(seed, at, &mut buffer[..len]);
        file.write_all_at(&buffer[..len], at).map_err(shown)?;
        at += len as u64;
    }
    file.sync_all().map_err(shown)
}

/// Reads a file that was made, block by block: each is right, or cannot be read. How many of all could not.
pub fn damaged(directory: &Path, size: u64, seed: u64) -> Result<String, String> {
    let shown = |why: io::Error| format!("damaged {seed}: {why}");
    let file = match File::open(data(directory, seed)) {
        Err(why) if matches!(why.raw_os_error(), Some(5 | 117)) => return Ok("all lost".into()),
        file => file.map_err(shown)?,
    };
    let (mut lost, mut blocks) = (0, 0);
    let (mut found, mut wanted) = ([0; 4096], [0; 4096]);
    let mut at = 0;
    while at < size {
        let len = (size - at).min(4096) as usize;
        blocks += 1;
        match file.read_at(&mut found[..len], at) {
            Ok(got) => {
                fill(seed, at, &mut wanted[..len]);
                if got != len || found[..len] != wanted[..len] {
                    return Err(format!("damaged {seed}: wrong bytes at {at:#x}"));
                }
            }
            Err(why) if why.raw_os_error() == Some(5) => lost += 1,
            Err(why) => return Err(shown(why)),
        }
        at += len as u64;
    }
    Ok(format!("{lost} of {blocks} blocks lost"))
}
