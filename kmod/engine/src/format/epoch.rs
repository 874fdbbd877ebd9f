// SPDX-License-Identifier: GPL-2.0

//! A membership epoch: which devices were present when the volume's set of members last changed. The table of a superblock
//! holds the current epoch and those ancestors that an absent device may still stand at.

use crate::format::member::Members;
use crate::units::EpochId;
use crate::units::Generation;
use zerocopy::little_endian::U64;
use zerocopy_derive::FromBytes;
use zerocopy_derive::Immutable;
use zerocopy_derive::IntoBytes;
use zerocopy_derive::KnownLayout;
use zerocopy_derive::Unaligned;

/// Places in the epoch table: an absent device keeps at most two, its last epoch with a root and the one that it may have
/// heard of, and the current one needs one.
pub const ENTRIES: usize = 128;

/// An epoch-table entry as it lies on disk.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
pub struct Raw {
    /// Random identity; zero in an unused place.
    pub id: [u8; 16],
    /// The epoch before; zero in the first.
    pub parent: [u8; 16],
    /// 1 in the first, then one more than the parent's.
    pub number: U64,
    /// The newest generation of the parent when this one began; every root of this one is newer.
    pub after: U64,
    /// Bit per device slot.
    pub present: U64,
    /// Bit per device slot.
    pub absent: U64,
}

/// A membership epoch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Epoch {
    /// Its identity.
    pub id: EpochId,
    /// The epoch before it; [`EpochId::NONE`] for the first.
    pub parent: EpochId,
    /// Its depth: 1 for the first.
    pub number: u64,
    /// The newest generation of the parent.
    pub after: Generation,
    /// Members that took part.
    pub present: Members,
    /// Members that did not.
    pub absent: Members,
}

/// What is wrong with an epoch-table entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BadEpoch {
    /// Number 0, or a first epoch with a parent, or a later one without.
    Number(u64),
    /// No device took part.
    Empty,
    /// A device both present and absent.
    Overlap,
    /// The epochs are not in falling order of their numbers, or one appears twice.
    Order,
    /// The current epoch does not name exactly the members of the device table.
    Members,
    /// The newest generation before it is out of the order of epochs.
    Generation,
}

impl core::fmt::Display for BadEpoch {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            BadEpoch::Number(n) => write!(f, "number {n} and parent do not go together"),
            BadEpoch::Empty => f.write_str("no device takes part"),
            BadEpoch::Overlap => f.write_str("a device is both present and absent"),
            BadEpoch::Order => f.write_str("epochs are not in order"),
            BadEpoch::Members => {
                f.write_str("the current epoch and the device table name different members")
            }
            BadEpoch::Generation => f.write_str("generations are not in the order of epochs"),
        }
    }
}

impl Raw {
    /// The epoch here; none where the place is unused.
    pub fn parse(&self) -> Result<Option<Epoch>, BadEpoch> {
        let epoch = Epoch {
            id: EpochId(self.id),
            parent: EpochId(self.parent),
            number: self.number.get(),
            after: Generation(self.after.get()),
            present: Members(self.present.get()),
            absent: Members(self.absent.get()),
        };
        if epoch.id == EpochId::NONE {
            return Ok(None);
        }
        if epoch.number == 0
            || (epoch.number == 1) != (epoch.parent == EpochId::NONE)
            || epoch.parent == epoch.id
        {
            return Err(BadEpoch::Number(epoch.number));
        }
        if epoch.present.count() == 0 {
            return Err(BadEpoch::Empty);
        }
        if epoch.present.overlaps(epoch.absent) {
            return Err(BadEpoch::Overlap);
        }
        Ok(Some(epoch))
    }
}

impl Epoch {
    /// The epoch as it lies on disk.
    pub fn raw(&self) -> Raw {
        Raw {
            id: self.id.0,
            parent: self.parent.0,
            number: self.number.into(),
            after: self.after.0.into(),
            present: self.present.0.into(),
            absent: self.absent.0.into(),
        }
    }

    /// Whether this may stand directly below `newer` in a table: its parent, or an ancestor with others left out between.
    pub fn precedes(&self, newer: &Epoch) -> Result<(), BadEpoch> {
        if self.number >= newer.number || self.id == newer.id {
            return Err(BadEpoch::Order);
        }
        let adjacent = self.number.checked_add(1) == Some(newer.number);
        if adjacent != (newer.parent == self.id) {
            return Err(BadEpoch::Order);
        }
        if self.after >= newer.after {
            return Err(BadEpoch::Generation);
        }
        Ok(())
    }
}
