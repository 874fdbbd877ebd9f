// SPDX-License-Identifier: GPL-2.0

//! Names and files worked on in one known order, until the machine is killed. What is found afterwards must be a prefix of that order,
//! no shorter than what was acknowledged; and each block of a file what some write put there, no older than what was acknowledged.

use crate::chance::Chance;
use crate::world::Kind;
use crate::world::Op;
use crate::world::World;
use std::collections::BTreeMap;
use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::Write;
use std::os::unix::fs::chown;
use std::os::unix::fs::symlink;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Bytes of a block.
const BLOCK: usize = 4096;

/// What a write with this number puts into a block of a file.
fn fill(file: u32, block: u64, number: u64) -> Vec<u8> {
    let mut bytes = vec![0; BLOCK];
    let words = [u64::from(file), block, number];
    for (n, chunk) in bytes.chunks_exact_mut(8).enumerate() {
        let word = words[n % 3].wrapping_add((n as u64) << 56);
        chunk.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}

/// Which write a block is of: None for zeros, an error for anything else.
fn writer(bytes: &[u8], file: u32, block: u64) -> Result<Option<u64>, String> {
    if bytes.iter().all(|b| *b == 0) {
        return Ok(None);
    }
    let number = u64::from_le_bytes(bytes[16..24].try_into().map_err(|_| "short")?);
    let number = number.wrapping_sub(2 << 56);
    match fill(file, block, number) == bytes {
        true => Ok(Some(number)),
        false => Err("neither zeros nor what any write put there".into()),
    }
}

fn carry_out(directory: &Path, op: &Op, number: u64) -> io::Result<()> {
    let at = |name: &String| directory.join(name);
    match op {
        Op::Create(name, _) => File::create_new(at(name)).map(drop),
        Op::Own(name, owner) => chown(at(name), Some(*owner), None),
        Op::MakeDirectory(name) => fs::create_dir(at(name)),
        Op::RemoveDirectory(name) => fs::remove_dir(at(name)),
        Op::Unlink(name) => fs::remove_file(at(name)),
        Op::Link(old, new) => fs::hard_link(at(old), at(new)),
        Op::Symlink(name, target) => symlink(target, at(name)),
        Op::Rename(old, new) => fs::rename(at(old), at(new)),
        Op::Truncate(name, blocks) => OpenOptions::new()
            .write(true)
            .open(at(name))?
            .set_len(blocks * BLOCK as u64),
        Op::Write(name, id, first, blocks) => {
            let file = OpenOptions::new().write(true).open(at(name))?;
            for block in *first..first + blocks {
                file.write_all_at(&fill(*id, block, number), block * BLOCK as u64)?;
            }
            Ok(())
        }
        Op::SyncFile(name) => File::open(at(name))?.sync_all(),
        Op::SyncAll => rustix::fs::syncfs(File::open(directory)?).map_err(io::Error::from),
    }
}

/// Works until it is killed, or for so many steps. Each line it prints says what is durable from then on.
pub fn storm(directory: &Path, seed: u64, steps: u64) -> Result<(), String> {
    let mut world = World::new();
    let mut chance = Chance::new(seed);
    let mut out = io::stdout();
    for number in 1..=steps {
        let op = world.choose(&mut chance);
        carry_out(directory, &op, number)
            .map_err(|why| format!("seed {seed}, step {number}: {op:?}: {why}"))?;
        world.apply(&op, number);
        if matches!(op, Op::SyncFile(_) | Op::SyncAll) {
            writeln!(out, "durable {number}").map_err(|why| why.to_string())?;
        }
    }
    Ok(())
}

/// What is found under a directory, by name.
fn found(directory: &Path, below: &str, names: &mut BTreeMap<String, Kind>) -> io::Result<()> {
    for entry in fs::read_dir(directory.join(below))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let name = if below.is_empty() {
            name
        } else {
            format!("{below}/{name}")
        };
        let path = directory.join(&name);
        let known = fs::symlink_metadata(&path)?;
        let kind = known.file_type();
        let what = if kind.is_dir() {
            found(directory, &name, names)?;
            Kind::Directory(known.nlink())
        } else if kind.is_symlink() {
            Kind::Symlink(fs::read_link(&path)?.to_string_lossy().into_owned())
        } else if kind.is_file() && !kind.is_fifo() {
            Kind::File {
                owner: known.uid(),
                links: known.nlink(),
            }
        } else {
            return Err(io::Error::other(format!(
                "{name}: of no kind that was made"
            )));
        };
        names.insert(name, what);
    }
    Ok(())
}

/// Whether what is found is a prefix of what `storm` did, and holds what was durable at step `durable`.
pub fn stormed(directory: &Path, seed: u64, steps: u64, durable: u64) -> Result<String, String> {
    let mut names = BTreeMap::new();
    found(directory, "", &mut names).map_err(|why| format!("seed {seed}: {why}"))?;
    let mut world = World::new();
    let mut chance = Chance::new(seed);
    // As far as names tell. Which of them it was, files may tell: cutting one off does not show in names.
    let mut fits = Vec::new();
    let mut last = String::new();
    for number in 0..=steps {
        if number > 0 {
            let op = world.choose(&mut chance);
            world.apply(&op, number);
            if number <= durable {
                world.make_durable(&op);
            }
        }
        if number < durable {
            continue;
        }
        match world.differs(&names) {
            None => fits.push((number, world.clone())),
            Some(why) if number == durable => last = why,
            Some(_) => {}
        }
    }
    if fits.is_empty() {
        return Err(format!(
            "seed {seed}: no prefix of at least {durable} steps fits what is there; after {durable}: {last}"
        ));
    }
    let mut wrong = Vec::new();
    for (number, at) in &fits {
        match check_files(directory, at, &world) {
            Ok(()) => {
                return Ok(format!(
                    "{} names, those of step {number}; {durable} was durable",
                    names.len()
                ));
            }
            Err(why) => wrong.push(format!("names of step {number}: {why}")),
        }
    }
    Err(format!(
        "seed {seed}, durable {durable}: {}",
        wrong.join("; ")
    ))
}

/// Whether files hold what they may after the steps up to `at`. What was written later may be there already: `all` knows all that
/// ever was.
fn check_files(directory: &Path, at: &World, all: &World) -> Result<(), String> {
    for (name, id) in at.files() {
        check_file(directory, name, id, at, all).map_err(|why| format!("{name}: {why}"))?;
    }
    Ok(())
}

fn check_file(
    directory: &Path,
    name: &str,
    id: u32,
    at: &World,
    all: &World,
) -> Result<(), String> {
    let bytes = fs::read(directory.join(name)).map_err(|why| why.to_string())?;
    if bytes.len() % BLOCK != 0 {
        return Err(format!("{} bytes", bytes.len()));
    }
    let blocks = (bytes.len() / BLOCK) as u64;
    let least = at.durable_blocks(id);
    if blocks < least {
        return Err(format!("{blocks} blocks, but {least} were durable"));
    }
    for (block, found) in (0u64..).zip(bytes.chunks(BLOCK)) {
        let writer = writer(found, id, block).map_err(|why| format!("block {block}: {why}"))?;
        let oldest = at.oldest_allowed(id, block);
        match writer {
            None if oldest.is_some() => {
                return Err(format!(
                    "block {block}: zeros, but write {oldest:?} was durable"
                ));
            }
            None => {}
            Some(number) if oldest.is_some_and(|o| number < o) => {
                return Err(format!(
                    "block {block}: of write {number}, but {oldest:?} was durable"
                ));
            }
            Some(number) if !all.was_written(id, block, number) => {
                return Err(format!("block {block}: of write {number}, which never was"));
            }
            Some(number) if number < at.cut(id, block) => {
                return Err(format!(
                    "block {block}: of write {number}, cut off by {}",
                    at.cut(id, block)
                ));
            }
            Some(_) => {}
        }
    }
    Ok(())
}
