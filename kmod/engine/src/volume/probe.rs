// SPDX-License-Identifier: GPL-2.0

//! What one device says: its newest sound superblock, the newest root it holds, and the epoch that it therefore stands at.
//! Reads only.

use crate::env::Device;
use crate::env::DeviceError;
use crate::env::Hasher;
use crate::error::Error;
use crate::format::layout;
use crate::format::member::Entry;
use crate::format::root::BadRoot;
use crate::format::root::Root;
use crate::format::superblock::BadSuperblock;
use crate::format::superblock::Superblock;
use crate::units::Bytes;
use embr_rt::Box;
use embr_rt::Vec;

/// Bytes of a ring that are read at once.
const RING_PIECE: usize = 64 << 10;

/// A device of some volume, as read from it.
#[derive(Debug)]
pub struct Member {
    /// Its superblock. Boxed: it is large for a kernel stack.
    pub superblock: Box<Superblock>,
    /// The newest root of the newest epoch that it holds a root of.
    pub root: Root,
    /// What was found at each superblock place.
    pub copies: Vec<Copy>,
    /// Slots of the rings that hold something that is no root, as place and reason.
    pub bad_roots: Vec<(Bytes, BadRoot)>,
    /// The device's own size.
    pub size: Bytes,
}

/// What was found at one superblock place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Copy {
    /// Number of the copy.
    pub number: usize,
    /// Its place.
    pub at: Bytes,
    /// How it is.
    pub state: CopyState,
}

/// How a superblock copy is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CopyState {
    /// Sound, and as new as any.
    Good,
    /// Sound, but an earlier writing.
    Old,
    /// Not sound, or not readable.
    Bad(Error),
}

/// Reads and verifies what `device` holds of a volume. Damaged copies and roots do no harm while one of each is sound.
pub fn probe(device: &impl Device, hasher: &impl Hasher) -> Result<Member, Error> {
    let (superblock, copies) = newest_superblock(device, hasher)?;
    let size = device.size();
    if let Some(entry) = superblock.this_device() {
        if size < entry.bytes() {
            return Err(Error::Truncated {
                has: size,
                needs: entry.bytes(),
            });
        }
    }
    let (root, bad_roots) = newest_root(device, hasher, &superblock)?;
    Ok(Member {
        superblock,
        root,
        copies,
        bad_roots,
        size,
    })
}

/// Reads every superblock copy, and returns the newest sound one and how all of them are.
#[inline(never)]
fn newest_superblock(
    device: &impl Device,
    hasher: &impl Hasher,
) -> Result<(Box<Superblock>, Vec<Copy>), Error> {
    let mut buffer = Vec::zeroed(layout::SUPERBLOCK_SIZE)?;
    let mut found: Vec<(Copy, u64)> = Vec::new();
    let mut newest: Option<Box<Superblock>> = None;
    let mut first_bad: Option<Error> = None;
    // Once one copy is sound, it says how far the volume reaches: what lies beyond is somebody's data, not a copy.
    let mut reach = device.size();
    for (number, at) in layout::superblocks(device.size()) {
        if !layout::areas(reach).any(|(n, _)| n == number) {
            break;
        }
        let (state, sequence) = match read_copy(device, hasher, &mut buffer, number, at) {
            Ok(superblock) => {
                let sequence = superblock.sequence;
                match &newest {
                    Some(other)
                        if other.volume != superblock.volume
                            || other.device != superblock.device =>
                    {
                        return Err(Error::CopiesDisagree(at));
                    }
                    Some(other) if other.sequence >= sequence => {}
                    _ => {
                        reach = superblock.this_device().map_or(reach, Entry::bytes);
                        newest = Some(superblock);
                    }
                }
                (CopyState::Good, sequence)
            }
            Err(Error::NoMemory) => return Err(Error::NoMemory),
            Err(error) => {
                if error != Error::Superblock(at, BadSuperblock::Magic) && first_bad.is_none() {
                    first_bad = Some(error);
                }
                (CopyState::Bad(error), 0)
            }
        };
        found.push((Copy { number, at, state }, sequence))?;
    }
    let Some(superblock) = newest else {
        let none = if found.is_empty() {
            Error::TooSmall(device.size())
        } else {
            Error::NotEmbrfs
        };
        return Err(first_bad.unwrap_or(none));
    };
    let copies = Vec::try_from_iter(found.into_iter().map(|(copy, sequence)| match copy.state {
        CopyState::Good if sequence < superblock.sequence => Copy {
            state: CopyState::Old,
            ..copy
        },
        _ => copy,
    }))?;
    Ok((superblock, copies))
}

#[inline(never)]
fn read_copy(
    device: &impl Device,
    hasher: &impl Hasher,
    buffer: &mut [u8],
    number: usize,
    at: Bytes,
) -> Result<Box<Superblock>, Error> {
    device
        .read(at, buffer)
        .map_err(|why| Error::reading(at, why))?;
    let superblock = Superblock::parse(hasher, buffer, number, at).map_err(|why| match why {
        BadSuperblock::NoMemory => Error::NoMemory,
        why => Error::Superblock(at, why),
    })?;
    Ok(Box::try_new(superblock)?)
}

/// Whether `root` is a newer state of the volume than `than`: of a newer epoch, or of the same and a later generation.
fn newer(superblock: &Superblock, root: &Root, than: &Root) -> bool {
    let number = |r: &Root| superblock.epoch(r.epoch).map_or(0, |e| e.number);
    (number(root), root.generation) > (number(than), than.generation)
}

/// Reads the rings, and returns the newest root of an epoch that the superblock knows, and what else was found.
#[inline(never)]
fn newest_root(
    device: &impl Device,
    hasher: &impl Hasher,
    superblock: &Superblock,
) -> Result<(Root, Vec<(Bytes, BadRoot)>), Error> {
    let mut piece = Vec::zeroed(RING_PIECE)?;
    let mut newest: Option<Root> = None;
    let mut bad: Vec<(Bytes, BadRoot)> = Vec::new();
    let mut unreadable: Option<Error> = None;
    let per_piece = (RING_PIECE / layout::ROOT_SIZE) as u32;
    for ring in layout::rings(device.size()) {
        for first in (0..layout::RING_SLOTS).step_by(per_piece as usize) {
            let Some(from) = layout::slot_at(ring, first) else {
                break;
            };
            match device.read(from, &mut piece) {
                Ok(()) => {}
                Err(DeviceError::NoMemory) => return Err(Error::NoMemory),
                Err(why) => {
                    unreadable = Some(Error::reading(from, why));
                    continue;
                }
            }
            for (slot, bytes) in (first..).zip(piece.chunks_exact(layout::ROOT_SIZE)) {
                let Some(at) = layout::slot_at(ring, slot) else {
                    break;
                };
                match Root::parse(
                    hasher,
                    bytes,
                    at,
                    slot,
                    superblock.volume,
                    superblock.device,
                ) {
                    Ok(root) if superblock.epoch(root.epoch).is_none() => {
                        bad.push((at, BadRoot::Foreign))?
                    }
                    Ok(root) => {
                        if newest.as_ref().is_none_or(|n| newer(superblock, &root, n)) {
                            newest = Some(root);
                        }
                    }
                    Err(BadRoot::Empty) => {}
                    Err(why) => bad.push((at, why))?,
                }
            }
        }
    }
    match newest {
        Some(root) => Ok((root, bad)),
        None => Err(unreadable.unwrap_or(Error::NoRoot(
            bad.first().map_or(BadRoot::Empty, |(_, why)| *why),
        ))),
    }
}
