// SPDX-License-Identifier: GPL-2.0

//! Numbers for new inodes. They are set aside many at a time, in a transaction of their own that comes before any inode that has
//! one of them; so none is ever given twice, and those that a mount did not use are gone.

use crate::format::name::encode_number;
use crate::format::name::parse_number;
use crate::names::error::Error;
use crate::names::error::Wrong;
use crate::names::item::Item;
use crate::names::item::Kind;
use crate::names::item::MAX_SUB;
use crate::names::Files;
use crate::units::InodeNo;
use crate::units::SnapshotId;
use crate::volume::mounted::Machine;
use crate::volume::mounted::NAMES;
use embr_rt::Vec;

/// How many are set aside at a time.
const AT_ONCE: u64 = 1024;

/// Numbers that are set aside.
#[derive(Default)]
pub(super) struct Numbers {
    next: u64,
    /// Below this they are.
    end: u64,
}

/// The item with the lowest number that was never set aside.
pub(super) const COUNTER: (InodeNo, Kind, u64) = (InodeNo::NONE, Kind::NUMBERS, 0);

fn counter() -> Item {
    let (inode, kind, sub) = COUNTER;
    Item::new(inode, kind, sub)
}

/// What a volume begins with: behind the root directory.
pub(super) fn first() -> (Item, [u8; crate::format::name::NUMBER_SIZE]) {
    let next = InodeNo(InodeNo::ROOT.0.wrapping_add(1));
    (counter(), encode_number(next))
}

impl<M: Machine> Files<'_, M> {
    /// A number that no inode ever had.
    #[inline(never)]
    pub(super) fn new_number(&self) -> Result<InodeNo, Error> {
        let mut numbers = self.names.numbers.lock();
        if numbers.next >= numbers.end {
            *numbers = self.set_aside()?;
        }
        let number = InodeNo(numbers.next);
        numbers.next = numbers.next.saturating_add(1);
        Ok(number)
    }

    #[inline(never)]
    fn set_aside(&self) -> Result<Numbers, Error> {
        let key = counter().at(SnapshotId::NONE);
        let value = self.mounted.get(NAMES, key, Vec::try_from_slice)?;
        let value = value.ok_or(Error::damaged(counter(), Wrong::Missing))??;
        let next = parse_number(&value).ok_or(Error::damaged(counter(), Wrong::Senseless))?;
        let next = next.0;
        if next <= InodeNo::ROOT.0 {
            return Err(Error::damaged(counter(), Wrong::Disagrees));
        }
        // Orphans are found by the bits of a place.
        let end = next.saturating_add(AT_ONCE).min(MAX_SUB);
        if next >= end {
            return Err(Error::NoSpace);
        }
        let mut txn = self.mounted.begin()?;
        txn.set(NAMES, key, &encode_number(InodeNo(end)))?;
        txn.commit()?;
        Ok(Numbers { next, end })
    }
}
