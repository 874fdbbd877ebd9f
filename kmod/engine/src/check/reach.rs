// SPDX-License-Identifier: GPL-2.0

//! Whether directories are below the root. What was found of one is remembered for those below it, in a table of fixed size; what
//! falls out of it is found again.

use super::Ended;
use crate::error::NoMem;
use crate::names::Error;
use crate::names::Files;
use crate::units::Bytes;
use crate::units::InodeNo;
use crate::volume::mounted::Fault;
use crate::volume::mounted::Machine;
use embr_rt::Vec;

/// Entries of the table, at least and at most.
const LEAST: u64 = 1 << 10;
const MOST: u64 = 1 << 24;

pub(super) struct Reach {
    /// A number, and in the lowest bit whether it is below the root; zero where there is none.
    known: Vec<u64>,
    mask: u64,
}

/// What is above a directory.
enum Above {
    Directory(InodeNo),
    Nothing,
    /// A node that could say is lost.
    Unknown,
}

impl Reach {
    /// With at most so many bytes.
    pub(super) fn try_new(memory: Bytes) -> Result<Self, NoMem> {
        let entries = (memory.0 / 8).clamp(LEAST, MOST);
        let entries = entries.checked_next_power_of_two().unwrap_or(LEAST);
        Ok(Reach {
            known: Vec::try_from_elem(0, entries as usize)?,
            mask: entries.wrapping_sub(1),
        })
    }

    fn place(&self, number: InodeNo) -> usize {
        (number
            .0
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .wrapping_shr(24)
            & self.mask) as usize
    }

    fn recall(&self, number: InodeNo) -> Option<bool> {
        let known = *self.known.get(self.place(number))?;
        (known.wrapping_shr(1) == number.0).then_some(known & 1 != 0)
    }

    fn remember(&mut self, number: InodeNo, is_below: bool) {
        let place = self.place(number);
        if let Some(known) = self.known.get_mut(place) {
            *known = number.0.wrapping_shl(1) | u64::from(is_below);
        }
    }

    /// Whether this directory is below the root; none where what is lost could say.
    pub(super) fn is_below<M: Machine>(
        &mut self,
        files: Files<'_, M>,
        from: InodeNo,
    ) -> Result<Option<bool>, Ended> {
        let (mut at, mut steps, mut mark, mut limit) = (from, 0u64, InodeNo::NONE, 1u64);
        let answer = loop {
            if at == InodeNo::ROOT {
                break true;
            }
            if let Some(known) = self.recall(at) {
                break known;
            }
            let next = match above(files, at)? {
                Above::Directory(next) => next,
                Above::Nothing => break false,
                Above::Unknown => return Ok(None),
            };
            // A circle that is as long as the way since the mark comes back to it.
            if next == mark || next == at {
                break false;
            }
            steps = steps.saturating_add(1);
            if steps == limit {
                mark = next;
                limit = limit.saturating_mul(2);
            }
            at = next;
        };
        let mut at = from;
        for _ in 0..=steps {
            if at == InodeNo::ROOT || self.recall(at) == Some(answer) {
                break;
            }
            self.remember(at, answer);
            match above(files, at)? {
                Above::Directory(next) => at = next,
                _ => break,
            }
        }
        Ok(Some(answer))
    }
}

fn above<M: Machine>(files: Files<'_, M>, number: InodeNo) -> Result<Above, Ended> {
    match files.parents(number, 1) {
        Ok(parents) => Ok(match parents.first() {
            Some(parent) => Above::Directory(parent.directory),
            None => Above::Nothing,
        }),
        Err(Error::NotFound | Error::Corrupted(_)) => Ok(Above::Nothing),
        Err(Error::Fault(Fault::NoMemory)) => Err(Ended::NoMemory),
        Err(Error::Fault(Fault::Tree(_))) => Ok(Above::Unknown),
        Err(Error::Fault(why)) => Err(Ended::Fault(why)),
        Err(_) => Ok(Above::Unknown),
    }
}
