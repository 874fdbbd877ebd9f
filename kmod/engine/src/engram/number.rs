// SPDX-License-Identifier: GPL-2.0

//! Numbers for new engrams. They are set aside many at a time, in a transaction of their own that comes before any engram that has
//! one of them; so none is ever given twice, and those that a mount did not use are gone.

use crate::format::engram::key;
use crate::format::engram::Kind;
use crate::format::name::encode_number;
use crate::format::name::parse_number;
use crate::names::Error;
use crate::names::Wrong;
use crate::units::EngramId;
use crate::units::InodeNo;
use crate::volume::mounted::Machine;
use crate::volume::mounted::Mounted;
use crate::volume::mounted::ENGRAMS;
use embr_rt::Vec;

/// How many are set aside at a time.
const AT_ONCE: u64 = 1024;

/// Numbers that are set aside.
#[derive(Default, Debug)]
pub struct Numbers {
    next: u64,
    /// Below this they are.
    end: u64,
}

impl Numbers {
    /// A number that no engram ever had.
    pub(crate) fn give<M: Machine>(&mut self, mounted: &Mounted<M>) -> Result<EngramId, Error> {
        if self.next >= self.end {
            *self = set_aside(mounted)?;
        }
        let number = EngramId(self.next);
        self.next = self.next.saturating_add(1);
        Ok(number)
    }
}

fn set_aside<M: Machine>(mounted: &Mounted<M>) -> Result<Numbers, Error> {
    let key = key(EngramId::NONE, Kind::Numbers, 0);
    let bad = Error::Engram(EngramId::NONE, Wrong::Senseless);
    let next = match mounted.get(ENGRAMS, key, Vec::try_from_slice)? {
        Some(value) => parse_number(&value?).ok_or(bad)?.0,
        None => 1,
    };
    let end = next.checked_add(AT_ONCE).ok_or(Error::NoSpace)?;
    if next == 0 {
        return Err(bad);
    }
    // Whoever writes what was promised must not fail here: this changes one item, and is seldom.
    let mut txn = mounted.begin_freeing()?;
    txn.set(ENGRAMS, key, &encode_number(InodeNo(end)))?;
    txn.commit()?;
    Ok(Numbers { next, end })
}
