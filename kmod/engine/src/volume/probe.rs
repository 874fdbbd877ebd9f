// SPDX-License-Identifier: GPL-2.0

//! What one device says: its newest sound superblock, the newest root it holds, and the epoch that it therefore stands at.
//! Reads only.

use crate::env::Device;
use crate::env::DeviceError;
use crate::env::Hasher;
use crate::error::Error;
use crate::format::epoch::Epoch;
use crate::format::layout;
use crate::format::member::Entry;
use crate::format::root;
use crate::format::root::BadRoot;
use crate::format::root::Root;
use crate::format::superblock::BadSuperblock;
use crate::format::superblock::Superblock;
use crate::units::Bytes;
use crate::units::EpochId;
use crate::units::Generation;
use crate::units::Sequence;
use embr_rt::Box;
use embr_rt::NoMem;
use embr_rt::Vec;

/// Bytes of a ring that are read at once.
const RING_PIECE: usize = 64 << 10;

/// A device of some volume, as read from it.
#[derive(Debug)]
pub struct Member {
    /// Its superblock. Boxed: it is large for a kernel stack.
    pub superblock: Box<Superblock>,
    /// The newest root of the newest epoch that it holds a root of; one of no epoch if it [was set back](Self::is_set_back).
    pub root: Root,
    /// What was found at each superblock place.
    pub copies: Vec<Copy>,
    /// Slots of the rings that hold something that is no root, as place and reason.
    pub bad_roots: Vec<(Bytes, BadRoot)>,
    /// Slots of the rings of which no copy could be read, a bit each.
    pub unread_roots: u64,
    /// The device's own size.
    pub size: Bytes,
}

impl Member {
    /// Whether it holds no root that counts, since its side was discarded or it began to be caught up: it is stale, and speaks for nobody.
    pub fn is_set_back(&self) -> bool {
        let Superblock { set_back, .. } = *self.superblock;
        let counts = |e: &Epoch| e.number > set_back;
        set_back != 0 && !self.superblock.epoch(self.root.epoch).is_some_and(counts)
    }
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
    let Newest { root, bad, unread } = newest_root(device, hasher, &superblock)?;
    Ok(Member {
        superblock,
        root,
        copies,
        bad_roots: bad,
        unread_roots: unread,
        size,
    })
}

/// Reads every superblock copy, and returns the newest sound one and how all of them are.
///
/// A sealed copy that is not understood ends it, unless a newer one is: somebody wrote it after what we would mount.
#[inline(never)]
fn newest_superblock(
    device: &impl Device,
    hasher: &impl Hasher,
) -> Result<(Box<Superblock>, Vec<Copy>), Error> {
    let mut buffer = Vec::zeroed(layout::SUPERBLOCK_SIZE)?;
    let mut found: Vec<(Copy, u64)> = Vec::new();
    let mut newest: Option<Box<Superblock>> = None;
    let mut first_bad: Option<Error> = None;
    let mut not_understood: Option<(u64, Error)> = None;
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
                if matches!(error, Error::Superblock(_, why) if why.is_sealed()) {
                    let sequence = Superblock::sequence_of_sealed(&buffer);
                    if not_understood.is_none_or(|(other, _)| sequence > other) {
                        not_understood = Some((sequence, error));
                    }
                }
                if error != Error::Superblock(at, BadSuperblock::Magic) && first_bad.is_none() {
                    first_bad = Some(error);
                }
                (CopyState::Bad(error), 0)
            }
        };
        found.push((Copy { number, at, state }, sequence))?;
    }
    let best = newest.as_ref().map_or(0, |s| s.sequence);
    if let Some((_, error)) = not_understood.filter(|(sequence, _)| *sequence >= best) {
        return Err(error);
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
        CopyState::Good if sequence < best => Copy {
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

/// What the rings of a device hold, as far as they were read.
struct Rings<'a> {
    superblock: &'a Superblock,
    newest: Option<Root>,
    /// The newest sealed root that is not understood.
    beyond: Option<(Generation, Error)>,
    bad: Vec<(Bytes, BadRoot)>,
}

impl Rings<'_> {
    /// The epoch's depth, then the generation: what makes one root newer than another.
    fn age(&self, root: &Root) -> (u64, Generation) {
        let number = self.superblock.epoch(root.epoch).map_or(0, |e| e.number);
        (number, root.generation)
    }

    #[inline(never)]
    fn look(
        &mut self,
        hasher: &impl Hasher,
        bytes: &[u8],
        at: Bytes,
        slot: u32,
    ) -> Result<(), Error> {
        let Superblock { volume, device, .. } = *self.superblock;
        match Root::parse(hasher, bytes, at, slot, volume, device) {
            // Of what it held before it was set back nothing is wanted.
            Ok(root) if self.is_of_before(&root) => {}
            Ok(root) if !self.superblock.counts(root.epoch, root.generation) => {
                self.bad.push((at, BadRoot::Foreign))?
            }
            Ok(root) => {
                if self
                    .newest
                    .as_ref()
                    .is_none_or(|n| self.age(&root) > self.age(n))
                {
                    self.newest = Some(root);
                }
            }
            Err(BadRoot::Empty) => {}
            Err(why) => {
                if why.is_sealed() {
                    let generation = Root::generation_of_sealed(bytes);
                    if self.beyond.is_none_or(|(other, _)| generation > other) {
                        self.beyond = Some((generation, Error::UnknownRoot(at, why)));
                    }
                }
                self.bad.push((at, why))?;
            }
        }
        Ok(())
    }

    /// Whether the device was set back since it had this root.
    fn is_of_before(&self, root: &Root) -> bool {
        let set_back = self.superblock.set_back;
        let epoch = self.superblock.epoch(root.epoch);
        set_back != 0 && epoch.is_none_or(|e| e.number <= set_back)
    }
}

/// What the rings of a device come to.
struct Newest {
    root: Root,
    bad: Vec<(Bytes, BadRoot)>,
    unread: u64,
}

/// Reads so many slots of a ring; of those that cannot be read, where they lie goes to `unread`, and they are as if nothing had ever
/// been written there.
#[inline(never)]
fn read_slots(
    device: &impl Device,
    from: Bytes,
    piece: &mut [u8],
    unread: &mut Vec<(Bytes, DeviceError)>,
) -> Result<(), NoMem> {
    match device.read(from, piece) {
        Ok(()) => return Ok(()),
        Err(DeviceError::NoMemory) => return Err(NoMem),
        Err(_) => {}
    }
    let mut at = from;
    for slot in piece.chunks_exact_mut(layout::ROOT_SIZE) {
        match device.read(at, slot) {
            Ok(()) => {}
            Err(DeviceError::NoMemory) => return Err(NoMem),
            Err(why) => {
                slot.fill(0);
                unread.push((at, why))?;
            }
        }
        at = at.plus(Bytes(layout::ROOT_SIZE as u64)).unwrap_or(at);
    }
    Ok(())
}

/// What a device that was set back says instead of a root: nothing but where its journal goes.
#[inline(never)] // Its frame is large enough alone.
fn rootless(superblock: &Superblock) -> Option<Root> {
    let entry = superblock
        .this_device()
        .filter(|_| superblock.set_back != 0)?;
    Some(Root {
        volume: superblock.volume,
        epoch: EpochId::NONE,
        generation: Generation(0),
        device: superblock.device,
        written: superblock.created,
        journal: root::Journal::of_new(entry.bytes()),
        nodes: 0,
        made: Generation(0),
        told: Sequence(0),
    })
}

/// Reads the rings: the newest root of an epoch that the superblock knows, and what else was found.
#[inline(never)]
fn newest_root(
    device: &impl Device,
    hasher: &impl Hasher,
    superblock: &Superblock,
) -> Result<Newest, Error> {
    let mut piece = Vec::zeroed(RING_PIECE)?;
    let mut rings = Rings {
        superblock,
        newest: None,
        beyond: None,
        bad: Vec::new(),
    };
    let mut unread: Vec<(Bytes, DeviceError)> = Vec::new();
    for ring in layout::rings(device.size()) {
        for first in (0..layout::RING_SLOTS).step_by(RING_PIECE / layout::ROOT_SIZE) {
            let Some(from) = layout::slot_at(ring, first) else {
                break;
            };
            read_slots(device, from, &mut piece, &mut unread)?;
            for (slot, bytes) in (first..).zip(piece.chunks_exact(layout::ROOT_SIZE)) {
                let Some(at) = layout::slot_at(ring, slot) else {
                    break;
                };
                rings.look(hasher, bytes, at, slot)?;
            }
        }
    }
    let Rings {
        mut newest,
        beyond,
        bad,
        ..
    } = rings;
    let best = newest.as_ref().map_or(Generation(0), |r| r.generation);
    if let Some((_, error)) = beyond.filter(|(generation, _)| *generation > best) {
        return Err(error);
    }
    if newest.is_none() && unread.is_empty() {
        newest = rootless(superblock);
    }
    let Some(root) = newest else {
        let why = bad.first().map_or(BadRoot::Empty, |(_, why)| *why);
        let unread = unread.first();
        return Err(unread.map_or(Error::NoRoot(why), |(at, why)| Error::reading(*at, *why)));
    };
    let is_lost = |slot: &u32| {
        layout::rings(device.size()).all(|ring| {
            let at = layout::slot_at(ring, *slot);
            unread.iter().any(|(place, _)| Some(*place) == at)
        })
    };
    let lost = (0..layout::RING_SLOTS).filter(is_lost);
    let unread = lost.fold(0u64, |bits, slot| bits | 1u64.wrapping_shl(slot));
    Ok(Newest { root, bad, unread })
}
