// SPDX-License-Identifier: GPL-2.0

//! An entry of the device table: one device that belongs, or once belonged, to the volume.

use crate::format::layout;
use crate::units::Blocks;
use crate::units::Bytes;
use crate::units::DeviceId;
use crate::units::Uuid;
use zerocopy::little_endian::U16;
use zerocopy::little_endian::U32;
use zerocopy::little_endian::U64;
use zerocopy_derive::FromBytes;
use zerocopy_derive::Immutable;
use zerocopy_derive::IntoBytes;
use zerocopy_derive::KnownLayout;
use zerocopy_derive::Unaligned;

/// Places in the device table, and so bits in a set of members.
pub const SLOTS: usize = 64;

/// A device-table entry as it lies on disk.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
pub struct Raw {
    /// The device's own UUID.
    pub uuid: [u8; 16],
    /// Its number in the volume.
    pub id: U32,
    /// 0 free, 1 member, 2 removed.
    pub state: u8,
    /// Speed class, for tiers; 0 is unclassified.
    pub class: u8,
    /// Zero.
    pub reserved0: U16,
    /// Devices of one non-zero domain fail together.
    pub failure_domain: U32,
    /// Zero.
    pub reserved1: U32,
    /// Blocks of the device that the volume uses.
    pub size: U64,
    /// Generation at which it joined.
    pub joined: U64,
    /// Zero.
    pub reserved2: [u8; 16],
}

/// Whether a device belongs to the volume.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// It does.
    Member,
    /// It did: it is refused by its number until its place is needed.
    Removed,
}

/// What the volume knows of one device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Its place in the table and its bit in sets.
    pub slot: Slot,
    /// Its number.
    pub id: DeviceId,
    /// Its UUID.
    pub uuid: Uuid,
    /// Whether it belongs to the volume.
    pub state: State,
    /// Speed class, 0 if none.
    pub class: u8,
    /// Failure domain, 0 if none.
    pub failure_domain: u32,
    /// Blocks that the volume uses of it, system areas included.
    pub size: Blocks,
    /// Generation at which it joined.
    pub joined: u64,
}

/// A place in the device table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Slot(u8);

impl Slot {
    /// The first place in the table.
    pub const FIRST: Slot = Slot(0);

    /// The place with this index, if there is one.
    pub fn new(index: usize) -> Option<Self> {
        u8::try_from(index)
            .ok()
            .filter(|i| usize::from(*i) < SLOTS)
            .map(Slot)
    }

    /// Its index.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// What is wrong with a device-table entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BadEntry {
    /// A state that does not exist.
    State(u8),
    /// Device number 0.
    NoId,
    /// A size that no device has.
    Size(u64),
}

impl core::fmt::Display for BadEntry {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            BadEntry::State(s) => write!(f, "unknown device state {s}"),
            BadEntry::NoId => f.write_str("device number 0"),
            BadEntry::Size(s) => write!(f, "impossible device size of {s} blocks"),
        }
    }
}

impl Raw {
    /// The entry at `slot`; none where the place is free.
    pub fn parse(&self, slot: Slot) -> Result<Option<Entry>, BadEntry> {
        let state = match self.state {
            0 => return Ok(None),
            1 => State::Member,
            2 => State::Removed,
            other => return Err(BadEntry::State(other)),
        };
        if self.id.get() == 0 {
            return Err(BadEntry::NoId);
        }
        let size = Blocks(self.size.get());
        let possible = size
            .bytes()
            .is_some_and(|b| (layout::MIN_DEVICE..=layout::MAX_DEVICE).contains(&b));
        if !possible {
            return Err(BadEntry::Size(size.0));
        }
        Ok(Some(Entry {
            slot,
            id: DeviceId(self.id.get()),
            uuid: Uuid(self.uuid),
            state,
            class: self.class,
            failure_domain: self.failure_domain.get(),
            size,
            joined: self.joined.get(),
        }))
    }
}

impl Entry {
    /// The entry as it lies on disk.
    pub fn raw(&self) -> Raw {
        Raw {
            uuid: self.uuid.0,
            id: self.id.0.into(),
            state: match self.state {
                State::Member => 1,
                State::Removed => 2,
            },
            class: self.class,
            reserved0: 0.into(),
            failure_domain: self.failure_domain.into(),
            reserved1: 0.into(),
            size: self.size.0.into(),
            joined: self.joined.into(),
            reserved2: [0; 16],
        }
    }

    /// Bytes that the volume uses of the device. Bounded when the entry was parsed or made.
    pub fn bytes(&self) -> Bytes {
        self.size.bytes().unwrap_or(layout::MAX_DEVICE)
    }
}

/// A set of devices, by their places in the table.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Members(pub u64);

impl Members {
    /// With this device.
    #[must_use]
    pub fn with(self, slot: Slot) -> Self {
        Members(self.0 | 1u64.wrapping_shl(u32::from(slot.0)))
    }

    /// Whether the device is in it.
    pub fn has(self, slot: Slot) -> bool {
        self.0.wrapping_shr(u32::from(slot.0)) & 1 != 0
    }

    /// How many there are.
    pub fn count(self) -> u32 {
        self.0.count_ones()
    }

    /// Whether the two have a device in common.
    pub fn overlaps(self, other: Members) -> bool {
        self.0 & other.0 != 0
    }
}

impl FromIterator<Slot> for Members {
    fn from_iter<I: IntoIterator<Item = Slot>>(slots: I) -> Self {
        slots.into_iter().fold(Members::default(), Members::with)
    }
}
