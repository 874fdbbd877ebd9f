// SPDX-License-Identifier: GPL-2.0

//! Discarding one side of a volume whose members were written to apart. The devices of that side are set back: their superblocks say what
//! those of the other side do, and that no root which they hold counts. From then on they are stale, and what they hold serves
//! as far as its hashes agree. Nothing else on them is touched.

use crate::env::Hasher;
use crate::env::WritableDevice;
use crate::error::Error;
use crate::format::epoch::Epoch;
use crate::format::layout;
use crate::format::superblock::Superblock;
use crate::units::Generation;
use crate::units::Uuid;
use crate::volume::assemble::assemble;
use crate::volume::assemble::AssembleError;
use crate::volume::assemble::Seat;
use crate::volume::assemble::Volume;
use crate::volume::mend;
use crate::volume::probe::Member;
use embr_rt::Box;
use embr_rt::NoMem;
use embr_rt::Vec;

/// Why a side is not discarded. Numbers are places among the devices that were to be given up, but for those of the error about the others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// What is left cannot be mounted, or is no volume.
    Kept(AssembleError),
    /// This device is no member of what is left.
    Foreign(usize),
    /// This device was not written to apart from the others: there is nothing to discard.
    Agrees(usize),
    /// The device table of those that stay is not that of their epoch: superblocks that say the same could not be read.
    DeviceTable,
}

impl From<NoMem> for Refused {
    fn from(_: NoMem) -> Self {
        Refused::Kept(AssembleError::NoMemory)
    }
}

/// What a device of the discarded side has that is lost with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Given {
    /// Its place among those given up.
    pub index: usize,
    /// The newest epoch that both sides know; none where they do not remember any.
    pub common: Option<Epoch>,
    /// The newest root that it holds.
    pub newest: Generation,
    /// It was set back already; that is done again, as it may have been cut short.
    pub is_done: bool,
}

/// A side that is about to be discarded: everything decided, and nothing written.
#[derive(Debug)]
pub struct Discard {
    /// What the kept side says.
    superblock: Box<Superblock>,
    devices: Vec<Given>,
}

impl Discard {
    // The error carries the members that its message names, without memory of its own.
    #[allow(clippy::result_large_err)]
    /// Decides it: these members stay, if they make a volume that can be mounted, and those are given up.
    pub fn plan(kept: &[Member], given_up: &[Member]) -> Result<Self, Refused> {
        let volume = volume_of(kept)?;
        let Some(speaker) = kept.get(volume.speaker()) else {
            return Err(Refused::Kept(AssembleError::Nothing));
        };
        if !volume.has_its_table() {
            return Err(Refused::DeviceTable);
        }
        let devices = all_given(&volume, &speaker.superblock, given_up)?;
        let all = kept.iter().chain(given_up);
        let written = all.map(|m| m.superblock.sequence).fold(0, u64::max);
        Ok(Discard {
            superblock: words(&volume, &speaker.superblock, written)?,
            devices,
        })
    }

    /// The devices that are given up, and what is lost with them.
    pub fn devices(&self) -> &[Given] {
        &self.devices
    }

    /// Sets one of them back. Durable on return; cut short anywhere, it is as before or done.
    pub fn set_back(
        &mut self,
        member: &Member,
        hasher: &impl Hasher,
        device: &impl WritableDevice,
    ) -> Result<(), Error> {
        let mut buffer = Vec::zeroed(layout::SUPERBLOCK_SIZE)?;
        self.superblock.device = member.superblock.device;
        mend::write_superblock(hasher, device, &self.superblock, &mut buffer)
    }
}

// The error carries the members that its message names, without memory of its own.
#[allow(clippy::result_large_err)]
#[inline(never)] // Its frame is large enough alone.
fn volume_of(kept: &[Member]) -> Result<Box<Volume>, Refused> {
    Ok(Box::try_new(assemble(kept).map_err(Refused::Kept)?)?)
}

/// What is lost with each device of the side that is given up, if it is one.
#[allow(clippy::result_large_err)] // As above.
#[inline(never)] // Its frame is large enough alone.
fn all_given(
    volume: &Volume,
    said: &Superblock,
    given_up: &[Member],
) -> Result<Vec<Given>, Refused> {
    let mut devices = Vec::try_with_capacity(given_up.len())?;
    for (index, member) in given_up.iter().enumerate() {
        let uuid: Option<Uuid> = member.superblock.this_device().map(|e| e.uuid);
        let is_it = |s: &Seat| s.entry.id == member.superblock.device && Some(s.entry.uuid) == uuid;
        if member.superblock.volume != said.volume || !volume.seats().iter().any(is_it) {
            return Err(Refused::Foreign(index));
        }
        let stands_at = member.superblock.epoch(member.root.epoch);
        let is_done = member.is_set_back();
        let newest = volume.epoch().number;
        let agrees = |e: &Epoch| said.epoch(e.id).is_some_and(|e| e.number <= newest);
        if !is_done && stands_at.is_some_and(agrees) {
            return Err(Refused::Agrees(index));
        }
        let known = |e: &&Epoch| said.epoch(e.id).is_some();
        let given = Given {
            index,
            common: member.superblock.epochs.iter().find(known).copied(),
            newest: member.root.generation,
            is_done,
        };
        devices.push(given)?;
    }
    Ok(devices)
}

/// What devices that are set back say, of all of which the next is newer than what was written.
#[inline(never)] // Superblocks are large.
fn words(volume: &Volume, said: &Superblock, written: u64) -> Result<Box<Superblock>, NoMem> {
    let mut superblock = Box::try_new(said.try_clone()?)?;
    let newest = volume.epoch().number;
    // A later one never began.
    superblock.epochs.retain(|e| e.number <= newest);
    superblock.set_back = newest;
    superblock.sequence = superblock.sequence.max(written).saturating_add(1);
    Ok(superblock)
}
