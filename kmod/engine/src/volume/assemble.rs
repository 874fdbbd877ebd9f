// SPDX-License-Identifier: GPL-2.0

//! From what several devices say to one volume: which of them belong together, who is current, who is stale, who is missing.
//! Decides only; reads and writes nothing.

use crate::error::Kind;
use crate::format::epoch::Epoch;
use crate::format::features::Unknown;
use crate::format::geometry::Geometry;
use crate::format::layout;
use crate::format::member::Entry;
use crate::format::member::Slot;
use crate::format::superblock::BlockHash;
use crate::format::superblock::Label;
use crate::format::superblock::Superblock;
use crate::units::Blocks;
use crate::units::DeviceId;
use crate::units::EpochId;
use crate::units::Generation;
use crate::units::Timestamp;
use crate::units::Uuid;
use crate::volume::probe::Member;
use core::fmt;
use embr_rt::Vec;

/// How a device of the volume stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// It is here, and at the volume's epoch; the number is its place among the devices given.
    Current(usize),
    /// It is here, but missed something: its epoch is an ancestor of the volume's.
    Stale(usize),
    /// It is not here.
    Missing,
}

/// A device of an assembled volume.
#[derive(Clone, Copy, Debug)]
pub struct Seat {
    /// What the volume knows of it.
    pub entry: Entry,
    /// How it stands.
    pub standing: Standing,
}

/// A volume, as its present devices agree on it.
#[derive(Debug)]
pub struct Volume {
    uuid: Uuid,
    label: Label,
    geometry: Geometry,
    block_hash: BlockHash,
    created: Timestamp,
    epoch: Epoch,
    generation: Generation,
    unknown_read_only: Unknown,
    seats: Vec<Seat>,
    is_doubtful: bool,
    has_its_table: bool,
    speaker: usize,
    lineage: Vec<EpochId>,
}

/// Why devices do not make a volume. Numbers are places among the devices given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AssembleError {
    /// Memory could not be had.
    NoMemory,
    /// No devices at all.
    Nothing,
    /// Two devices of different volumes.
    Foreign {
        /// The first device given.
        first: usize,
        /// One that is of another volume.
        other: usize,
    },
    /// The same device twice, or a copy of it.
    Twice(usize, usize),
    /// Two sides that were each written to without the other.
    Split(usize, usize),
    /// A device that was removed from the volume, or whose number is another's by now.
    Removed(usize),
    /// All devices are stale: their side was discarded, or they are being caught up. Only others know what the volume holds.
    SetBack(usize),
    /// Too few members to read everything; the list is in the seats.
    TooManyMissing {
        /// Members that are not here or stale.
        missing: Missing,
        /// How many may be.
        tolerated: u8,
    },
}

/// The members of a volume that are missing or stale: as many numbers as a message has room for, and how many there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Missing {
    shown: [Option<(DeviceId, Uuid, bool)>; 5],
    count: u32,
}

impl Missing {
    fn of(seats: &[Seat]) -> Self {
        let mut absent = seats.iter().filter_map(|s| match s.standing {
            Standing::Current(_) => None,
            standing => Some((
                s.entry.id,
                s.entry.uuid,
                matches!(standing, Standing::Stale(_)),
            )),
        });
        let shown = [(); 5].map(|()| absent.next());
        let more = absent.count();
        let count = shown.iter().flatten().count().saturating_add(more);
        Missing {
            shown,
            count: u32::try_from(count).unwrap_or(u32::MAX),
        }
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (id, uuid, stale) in self.shown.iter().flatten() {
            let stale = if *stale { ", here but stale" } else { "" };
            write!(f, "{separator}number {id} ({uuid}{stale})")?;
            separator = ", ";
        }
        let shown = self.shown.iter().flatten().count() as u32;
        match self.count.saturating_sub(shown) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

impl From<embr_rt::NoMem> for AssembleError {
    fn from(_: embr_rt::NoMem) -> Self {
        AssembleError::NoMemory
    }
}

impl AssembleError {
    /// Which kind of error this is.
    pub fn kind(&self) -> Kind {
        match self {
            AssembleError::NoMemory => Kind::NoMemory,
            AssembleError::TooManyMissing { .. } | AssembleError::SetBack(_) => Kind::Missing,
            _ => Kind::Conflict,
        }
    }

    /// The error with the devices' names, in the order in which they were given.
    pub fn explain<'a, N: fmt::Display>(&'a self, names: &'a [N]) -> Explained<'a, N> {
        Explained { error: self, names }
    }
}

/// An error together with the names of the devices it speaks of.
#[derive(Debug)]
pub struct Explained<'a, N> {
    error: &'a AssembleError,
    names: &'a [N],
}

struct Name<'a, N>(Option<&'a N>);

impl<N: fmt::Display> fmt::Display for Name<'_, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(name) => name.fmt(f),
            None => f.write_str("a device"),
        }
    }
}

impl<N: fmt::Display> fmt::Display for Explained<'_, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |index: &usize| Name(self.names.get(*index));
        match self.error {
            AssembleError::NoMemory => f.write_str("out of memory"),
            AssembleError::Nothing => f.write_str("no devices given"),
            AssembleError::Foreign { first, other } => {
                write!(f, "{} is of another volume than {}: name the devices of one volume", name(other), name(first))
            }
            AssembleError::Twice(a, b) => write!(
                f,
                "{} and {} are the same device of the volume: one is a copy or a second path; name only one",
                name(a),
                name(b)
            ),
            AssembleError::Split(a, b) => write!(
                f,
                "{} and {} were each written to while the other was away: mount one side alone, or discard the other (embrfs-admin discard-side)",
                name(a),
                name(b)
            ),
            AssembleError::Removed(a) => {
                write!(f, "{} was removed from this volume: leave it out, or wipe it before other use", name(a))
            }
            AssembleError::SetBack(a) => write!(
                f,
                "{} was set back behind the other members of its volume, as its side was discarded or it is not caught up yet: name those with it",
                name(a)
            ),
            AssembleError::TooManyMissing { missing, tolerated } => write!(
                f,
                "{} members are missing and only {tolerated} may be: {missing}; attach them, or name them with device=",
                missing.count
            ),
        }
    }
}

/// The epoch that a device stands at: that of its newest root.
fn standing(member: &Member) -> Option<&Epoch> {
    member.superblock.epoch(member.root.epoch)
}

/// Whether a device that stands at epoch `of` missed nothing but what `by` knows: `of` is `by`'s or an ancestor.
fn knows(by: &Superblock, current: &Epoch, of: &Epoch) -> bool {
    by.epoch(of.id).is_some_and(|e| e.number <= current.number)
}

/// Whether a device that stands at epoch `of` has all that is in `current`. One that takes part in it, but has no root of it yet, was
/// there before: an epoch begins with what was there, and nothing is acknowledged in it before all who take part have a root.
fn is_current(of: &Epoch, current: &Epoch, slot: Slot) -> bool {
    let takes_part = of.id == current.parent && current.present.has(slot);
    of.id == current.id || takes_part
}

/// Whether the `next` root of `current` will be the newest on a device. Of whoever never heard of that epoch, or was told otherwise of it, it would
/// not, and might lie where the newest was.
fn will_be_newest(member: &Member, current: &Epoch, next: Generation) -> bool {
    let superblock = &member.superblock;
    let heard = superblock.epoch(current.id);
    heard.is_some_and(|e| e.number == current.number) && superblock.counts(current.id, next)
}

/// The volume that these devices are, if enough of it is there to read everything.
pub fn assemble(members: &[Member]) -> Result<Volume, AssembleError> {
    let volume = assemble_in_part(members);
    if let Ok(volume) = &volume {
        let missing = volume.missing();
        let tolerated = volume.geometry.parity();
        if missing.count > u32::from(tolerated) {
            return Err(AssembleError::TooManyMissing { missing, tolerated });
        }
    }
    volume
}

/// The volume that these devices are, however little of it is there: for who only reads, and takes what can be had. What was changed last
/// may not be among it.
#[inline(never)]
pub fn assemble_in_part(members: &[Member]) -> Result<Volume, AssembleError> {
    let first = members.first().ok_or(AssembleError::Nothing)?;
    // The device that stands at the latest epoch speaks for the volume; of several, the one with the newest root, and of
    // those the one whose superblock was written last.
    let mut speaker = 0;
    let mut latest = (0, Generation(0), 0);
    for (index, member) in members.iter().enumerate() {
        if member.superblock.volume != first.superblock.volume {
            return Err(AssembleError::Foreign {
                first: 0,
                other: index,
            });
        }
        for (earlier, other) in members.iter().enumerate().take(index) {
            if other.superblock.device == member.superblock.device {
                return Err(AssembleError::Twice(earlier, index));
            }
        }
        let number = standing(member).map_or(0, |e| e.number);
        let at = (number, member.root.generation, member.superblock.sequence);
        if at > latest {
            (speaker, latest) = (index, at);
        }
    }
    let chief = members.get(speaker).unwrap_or(first);
    if chief.is_set_back() {
        return Err(AssembleError::SetBack(speaker));
    }
    let superblock = &chief.superblock;
    let epoch = *standing(chief).ok_or(AssembleError::Split(speaker, speaker))?;
    let next = Generation(chief.root.generation.0.saturating_add(1));

    // The members are those of the epoch that has a root. The device table may already be that of a later one, which was
    // recorded but never began: what it adds is not a member yet, what it removes still is.
    let mut seats: Vec<Seat> = Vec::new();
    for entry in superblock.members.iter() {
        if epoch.present.has(entry.slot) || epoch.absent.has(entry.slot) {
            seats.push(Seat {
                entry: *entry,
                standing: Standing::Missing,
            })?;
        }
    }
    for (index, member) in members.iter().enumerate() {
        let uuid = member.superblock.this_device().map(|e| e.uuid);
        let seat = seats
            .iter_mut()
            .find(|s| s.entry.id == member.superblock.device && Some(s.entry.uuid) == uuid)
            .ok_or(AssembleError::Removed(index))?;
        if member.is_set_back() {
            seat.standing = Standing::Stale(index);
            continue;
        }
        let theirs = standing(member).ok_or(AssembleError::Split(speaker, index))?;
        if !knows(superblock, &epoch, theirs) {
            return Err(AssembleError::Split(speaker, index));
        }
        let has_all = is_current(theirs, &epoch, seat.entry.slot);
        seat.standing = if has_all && will_be_newest(member, &epoch, next) {
            Standing::Current(index)
        } else {
            Standing::Stale(index)
        };
    }

    // Whoever set a bit had to tell all members before making use of it: what one says counts.
    let mut unknown_read_only = superblock.features.unknown_read_only();
    for seat in seats.iter() {
        if let Standing::Current(index) = seat.standing {
            let features = members.get(index).map(|m| m.superblock.features);
            let unknown = features.unwrap_or_default().unknown_read_only();
            unknown_read_only.bits |= unknown.bits;
        }
    }

    let is_current = |m: &&Member| standing(m).is_some_and(|e| e.id == epoch.id);
    let lineage = superblock.epochs.iter();
    let lineage = lineage.filter(|e| e.number <= epoch.number);
    let lineage = Vec::try_from_iter(lineage.map(|e| e.id))?;
    // Where a newer root than the newest that was found would lie.
    let next = 1u64.wrapping_shl(layout::ring_slot(next));
    let current = members.iter().filter(is_current).count();
    let doubtful = members.iter().filter(is_current);
    let doubtful = doubtful.filter(|m| m.unread_roots & next != 0).count();
    let copies = usize::from(superblock.geometry.parity()).saturating_add(1);
    Ok(Volume {
        // A root is on one device more than may be lost.
        is_doubtful: doubtful >= copies.min(current),
        has_its_table: superblock.has_table_of(&epoch),
        uuid: superblock.volume,
        label: superblock.label,
        geometry: superblock.geometry,
        block_hash: superblock.block_hash,
        created: superblock.created,
        epoch,
        generation: chief.root.generation,
        unknown_read_only,
        seats,
        speaker,
        lineage,
    })
}

impl Volume {
    /// The volume's UUID.
    pub fn uuid(&self) -> Uuid {
        self.uuid
    }

    /// Its label; empty where it has none.
    pub fn label(&self) -> &str {
        self.label.as_str()
    }

    /// The bundle that files get unless told otherwise.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// How much of each block's hash is kept.
    pub fn block_hash(&self) -> BlockHash {
        self.block_hash
    }

    /// When it was made.
    pub fn created(&self) -> Timestamp {
        self.created
    }

    /// The membership epoch that it is at.
    pub fn epoch(&self) -> &Epoch {
        &self.epoch
    }

    /// The generation of its newest root.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// Whether so many devices could not be read where a newer root would lie that there may be one.
    pub fn is_doubtful(&self) -> bool {
        self.is_doubtful
    }

    /// Whether the device table is that of its epoch. Else superblocks that tell of a next one could not be read.
    pub fn has_its_table(&self) -> bool {
        self.has_its_table
    }

    /// Which of the devices given speaks for it.
    pub(super) fn speaker(&self) -> usize {
        self.speaker
    }

    /// Its epoch and those that came before.
    pub(super) fn lineage(&self) -> impl Iterator<Item = EpochId> + '_ {
        self.lineage.iter().copied()
    }

    /// Every member, present or not, in order of the device table.
    pub fn seats(&self) -> &[Seat] {
        &self.seats
    }

    /// Members that are here and current.
    pub fn current(&self) -> usize {
        self.seats
            .iter()
            .filter(|s| matches!(s.standing, Standing::Current(_)))
            .count()
    }

    /// Members that are missing or stale; prints as their list.
    pub fn missing(&self) -> Missing {
        Missing::of(&self.seats)
    }

    /// Feature bits that allow this code to read the volume but not to write it.
    pub fn unknown_read_only(&self) -> Unknown {
        self.unknown_read_only
    }

    /// Blocks of file data that fit on all members.
    pub fn capacity(&self) -> Blocks {
        self.geometry.capacity(
            self.seats
                .iter()
                .map(|s| layout::allocatable(s.entry.bytes())),
        )
    }
}

impl Missing {
    /// Whether there are any.
    pub fn any(&self) -> bool {
        self.count != 0
    }

    /// How many there are.
    pub fn count(&self) -> u32 {
        self.count
    }
}
