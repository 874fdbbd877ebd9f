// SPDX-License-Identifier: GPL-2.0

//! Who takes part in a mounted volume. Whenever that changes, a new membership epoch begins: a record of it in the superblocks of all
//! who remain, then a root of it on each of them, and only then is anything acknowledged that relies on it.

use crate::env::write_patiently;
use crate::env::Device;
use crate::env::DeviceError;
use crate::env::Devices;
use crate::env::Environment as _;
use crate::env::Hasher;
use crate::env::WritableDevice;
use crate::env::Write;
use crate::error::Error;
use crate::error::NoMem;
use crate::format::epoch;
use crate::format::epoch::Epoch;
use crate::format::layout;
use crate::format::member::Members;
use crate::format::member::Slot;
use crate::format::member::SLOTS;
use crate::format::superblock::Superblock;
use crate::journal::ring::Ring;
use crate::journal::Copy;
use crate::journal::Journal;
use crate::tree::nodes::Events as _;
use crate::tree::Base;
use crate::units::Bytes;
use crate::units::EpochId;
use crate::units::Generation;
use crate::volume::checkpoint::Checkpoints;
use crate::volume::mend;
use crate::volume::mounted::Fault;
use crate::volume::mounted::Machine;
use crate::volume::mounted::Mounted;
use crate::volume::mounted::Part;
use crate::volume::mounted::TREES;
use crate::volume::probe::Member;
use embr_rt::lock_class;
use embr_rt::Box;
use embr_rt::Mutex;
use embr_rt::Vec;

/// Who takes part now. Others may read it at any time; it changes only where checkpoints are made.
#[derive(Debug)]
pub(super) struct Roll(Mutex<Now>);

#[derive(Debug)]
struct Now {
    epoch: Epoch,
    present: Members,
    /// Devices that did not let themselves be repaired. Nobody waits for that, so nobody heard of it yet.
    suspects: Members,
    /// Nothing is written for now.
    resting: bool,
    /// Devices that are given what is written, but are no members before they have all that was.
    joining: Members,
}

impl Roll {
    pub(super) fn try_new(epoch: Epoch, present: Members) -> Result<Self, NoMem> {
        let now = Now {
            epoch,
            present,
            suspects: Members::default(),
            resting: false,
            joining: Members::default(),
        };
        Ok(Roll(Mutex::try_new(now, lock_class!("members"))?))
    }

    /// The epoch that roots, nodes and groups are written in.
    pub(super) fn epoch(&self) -> Epoch {
        self.0.lock().epoch
    }

    /// Members that are here and up to date.
    pub(super) fn present(&self) -> Members {
        self.0.lock().present
    }

    pub(super) fn rest(&self, resting: bool) {
        self.0.lock().resting = resting;
    }

    pub(super) fn is_resting(&self) -> bool {
        self.0.lock().resting
    }

    /// This device did not take what was to repair it.
    pub(super) fn suspect(&self, device: Slot) {
        let mut now = self.0.lock();
        now.suspects = now.suspects.with(device);
    }

    fn take_suspects(&self) -> Members {
        core::mem::take(&mut self.0.lock().suspects)
    }

    /// Devices that are given what is written, and are no members yet.
    pub(super) fn joining(&self) -> Members {
        self.0.lock().joining
    }

    pub(super) fn join(&self, joining: Members) {
        self.0.lock().joining = joining;
    }

    /// Who joins does so by this epoch, or has to begin anew.
    fn change(&self, epoch: Epoch) {
        let mut now = self.0.lock();
        (now.epoch, now.present) = (epoch, epoch.present);
        now.joining = Members::default();
    }
}

/// What the superblocks of a mounted volume say. All the memory that a new epoch takes is here from the beginning: it must not fail
/// for lack of it.
#[derive(Debug)]
pub(super) struct Records {
    /// As on the device of which it was read.
    superblock: Box<Superblock>,
    buffer: Vec<u8>,
    /// Room for a root, and for what it names.
    pub(super) root: Vec<u8>,
    pub(super) bases: Vec<Base>,
    /// By slot: how far each device is set back.
    set_back: Vec<u64>,
}

impl Records {
    /// Of a volume at this epoch, by the superblock that speaks for it; of all its devices the next is newer.
    pub(super) fn try_new(
        speaker: &Superblock,
        all: &[Member],
        at: &Epoch,
    ) -> Result<Box<Self>, NoMem> {
        let mut superblock = Box::try_new(speaker.try_clone()?)?;
        let written = all.iter().map(|m| m.superblock.sequence);
        superblock.sequence = written.fold(superblock.sequence, u64::max);
        // A later one never began.
        superblock.epochs.retain(|e| e.number <= at.number);
        superblock.epochs.try_reserve(epoch::ENTRIES)?;
        let mut set_back = Vec::try_from_elem(0, SLOTS)?;
        for member in all.iter() {
            let slot = member.superblock.this_device().map(|e| e.slot.index());
            if let Some(place) = slot.and_then(|slot| set_back.get_mut(slot)) {
                *place = member.superblock.set_back;
            }
        }
        Box::try_new(Records {
            superblock,
            buffer: Vec::zeroed(layout::SUPERBLOCK_SIZE)?,
            root: Vec::zeroed(layout::ROOT_SIZE)?,
            bases: Vec::try_with_capacity(TREES.len())?,
            set_back,
        })
    }

    /// The epoch that has a root comes first in the table, and those before it follow.
    fn begin(&mut self, new: Epoch) {
        let epochs = &mut self.superblock.epochs;
        epochs.retain(|e| e.number < new.number);
        while epochs.len() >= epoch::ENTRIES {
            // Who stands at an epoch that is not there any more is not taken for a member.
            let gone = needless(epochs).unwrap_or(epochs.len().saturating_sub(1));
            epochs.remove(gone);
        }
        // There is room.
        if epochs.push_within_capacity(new).is_ok() {
            epochs.rotate_right(1);
        }
        self.superblock.sequence = self.superblock.sequence.saturating_add(1);
    }

    /// No root that this device holds counts, up to the newest epoch.
    fn set_back(&mut self, slot: Slot) {
        let newest = self.superblock.epochs.first().map_or(0, |e| e.number);
        if let Some(place) = self.set_back.get_mut(slot.index()) {
            *place = newest;
        }
    }

    /// Writes all that to a device.
    fn write(
        &mut self,
        part: &Part,
        hasher: &impl Hasher,
        device: &impl WritableDevice,
    ) -> Result<(), Error> {
        self.superblock.device = part.id;
        self.superblock.set_back = self.set_back.get(part.slot.index()).copied().unwrap_or(0);
        mend::write_superblock(hasher, device, &self.superblock, &mut self.buffer)
    }
}

/// Epochs that are kept whoever stands there: groups of the journal that lie behind the newest root are of them.
const NEWEST: usize = 4;

/// The oldest epoch at which nobody stands: each member does at the last one in which it took part, or, where it got no root of that, at the
/// one before.
fn needless(epochs: &[Epoch]) -> Option<usize> {
    let stands = |at: usize| {
        let later = epochs.get(..at).unwrap_or_default();
        let present = epochs.get(at).map_or(0, |e| e.present.0);
        let of = |bit: u64| later.iter().filter(move |e| e.present.0 & bit != 0);
        let mut bits = (0..u64::BITS).map(|n| present & 1u64.wrapping_shl(n));
        bits.any(|bit| bit != 0 && of(bit).count() < 2)
    };
    (NEWEST..epochs.len()).rev().find(|at| !stands(*at))
}

/// One of the devices.
struct One<'d, D> {
    devices: &'d D,
    journal: &'d Journal,
    slot: Slot,
    size: Bytes,
}

impl<D: Devices> Device for One<'_, D> {
    fn size(&self) -> Bytes {
        self.size
    }

    fn read(&self, at: Bytes, into: &mut [u8]) -> Result<(), DeviceError> {
        self.devices.read(self.slot, at, into)
    }
}

impl<D: Devices> WritableDevice for One<'_, D> {
    fn write(&self, at: Bytes, from: &[u8]) -> Result<(), DeviceError> {
        let mut write = [Write::new(self.slot, at, from)];
        write_patiently(self.devices, &mut write);
        let [Write { outcome, .. }] = write;
        outcome
    }

    fn flush(&self) -> Result<(), DeviceError> {
        let only = Members::default().with(self.slot);
        let refused = self.journal.flush(self.devices, only);
        match refused.count() {
            0 => Ok(()),
            _ => Err(DeviceError::Io),
        }
    }
}

impl<M: Machine> Mounted<M> {
    /// These devices did not take what they were given. They are not members any more before anything else is acknowledged, if the
    /// volume can do without them; else that is for whoever asked to bear.
    pub fn report(&self, failed: Members) {
        if failed.count() == 0 {
            return;
        }
        if let Some(journal) = &self.journal {
            let present = self.present();
            journal.fail(failed, |all| self.can_do_with(Members(present.0 & !all.0)));
        }
    }

    /// Whether these devices hold everything.
    pub(super) fn can_do_with(&self, left: Members) -> bool {
        let absent = Members(self.all.0 & !left.0);
        left.count() != 0 && absent.count() <= u32::from(self.parity)
    }

    /// Goes on without the devices that failed, if any did.
    #[inline(never)]
    pub(super) fn lose(&self, checkpoints: &mut Checkpoints) -> Result<(), Fault> {
        let Some(journal) = &self.journal else {
            return Ok(());
        };
        self.report(self.roll().take_suspects());
        let mut failing = journal.failing()?;
        while failing.count() != 0 {
            self.renew(checkpoints, journal)?;
            failing = journal.failing()?;
        }
        Ok(())
    }

    /// Begins an epoch of all who are present and have not failed.
    #[inline(never)]
    pub(super) fn renew(
        &self,
        checkpoints: &mut Checkpoints,
        journal: &Journal,
    ) -> Result<(), Fault> {
        self.renew_with(checkpoints, journal, Members::default())
    }

    /// The same with these devices as well, which have all that the others have, and of which that is durable.
    #[inline(never)]
    pub(super) fn renew_with(
        &self,
        checkpoints: &mut Checkpoints,
        journal: &Journal,
        joining: Members,
    ) -> Result<(), Fault> {
        let done = self.try_to_renew(checkpoints, journal, joining);
        if done.is_err() {
            journal.stop();
        }
        done
    }

    fn try_to_renew(
        &self,
        checkpoints: &mut Checkpoints,
        journal: &Journal,
        joining: Members,
    ) -> Result<(), Fault> {
        let before = self.epoch();
        let epoch = loop {
            let all = Members(self.present().0 | joining.0);
            let left = Members(all.0 & !journal.failing()?.0);
            if !self.can_do_with(left) {
                return Err(Fault::Stopped);
            }
            let epoch = Epoch {
                id: EpochId(self.machine().environment().random()),
                parent: before.id,
                number: before.number.saturating_add(1),
                after: checkpoints.generation(),
                present: left,
                absent: Members(self.all.0 & !left.0),
            };
            match self.record(checkpoints, journal, epoch)? {
                // It is not to begin: the next one takes its place.
                failed if failed.count() != 0 => journal.fail(failed, |_| true),
                _ => break epoch,
            }
        };
        // What is there stays, and so does the journal behind it: it goes on in the new epoch.
        self.roll().change(epoch);
        let mut failed = Members::default();
        // With one root alone, an epoch would be gone with that, and all that was acknowledged in it.
        for _ in 0..2 {
            let generation = Generation(checkpoints.generation().0.saturating_add(1));
            self.space.skip(generation);
            failed = Members(failed.0 | self.write_newest(checkpoints, generation)?.0);
            journal.fail(failed, |_| true);
        }
        let lost = epoch.absent;
        let copies = self.space.lose(lost, self.parity);
        journal.go_on(epoch.id, lost);
        if failed.count() == 0 {
            journal.release(checkpoints.first());
            self.release_old(checkpoints);
            self.tell_members(checkpoints, copies);
        }
        Ok(())
    }

    /// Says who takes part, and how many copies there are of what is written.
    pub(super) fn tell_members(&self, checkpoints: &mut Checkpoints, copies: usize) {
        let present = self.present();
        let absent = Members(self.all.0 & !present.0);
        checkpoints.told(copies);
        self.machine().events().members(absent, present, copies);
    }

    /// Makes the epoch known to all that it has. Says which of them did not take it.
    #[inline(never)]
    fn record(
        &self,
        checkpoints: &mut Checkpoints,
        journal: &Journal,
        epoch: Epoch,
    ) -> Result<Members, Fault> {
        let mut failed = Members::default();
        let Some(records) = checkpoints.records() else {
            return Err(Fault::ReadOnly);
        };
        records.begin(epoch);
        let is_in = |part: &&Part| epoch.present.has(part.slot);
        for part in self.parts.iter().filter(is_in) {
            let device = self.one(journal, part);
            if records.write(part, self.hasher(), &device).is_err() {
                failed = failed.with(part.slot);
            }
        }
        Ok(failed)
    }

    fn one<'s>(&'s self, journal: &'s Journal, part: &Part) -> One<'s, M::Devices> {
        One {
            devices: self.devices(),
            journal,
            slot: part.slot,
            size: part.size,
        }
    }

    /// Members that are here and are no part of the volume as it is now: they missed something, or failed.
    pub fn returning(&self) -> Members {
        let here: Members = self.parts.iter().map(|p| p.slot).collect();
        match self.is_read_only() {
            true => Members::default(),
            false => Members(here.0 & !self.present().0),
        }
    }

    /// Devices that are given what is written, but are no members before they have all that was.
    pub(super) fn joining(&self) -> Members {
        self.roll().joining()
    }

    /// From now on these devices are given all that is written, as if they were members. First they are set back, durably: what they had
    /// is no state of the volume any more once something of it was written over.
    #[inline(never)]
    pub(super) fn join(&self, who: Members) -> Result<(), Fault> {
        let mut checkpoints = self.checkpoints.lock();
        let Some(journal) = &self.journal else {
            return Err(Fault::ReadOnly);
        };
        self.lose(&mut checkpoints)?;
        if self.joining() == who {
            return Ok(());
        }
        let records = checkpoints.records().ok_or(Fault::ReadOnly)?;
        records.superblock.sequence = records.superblock.sequence.saturating_add(1);
        let parts = || self.parts.iter().filter(|p| who.has(p.slot));
        for part in parts() {
            records.set_back(part.slot);
            let device = self.one(journal, part);
            let written = records.write(part, self.hasher(), &device);
            written.map_err(|_| Fault::Members)?;
        }
        for part in parts() {
            let copy = Copy {
                slot: part.slot,
                id: part.id,
                ring: Ring::try_new(part.journal.start, part.journal.blocks)?,
            };
            if !journal.join(copy, self.full_copies())? {
                return Err(Fault::NoSpace);
            }
        }
        self.space.join(who, self.parity);
        self.roll().join(who);
        Ok(())
    }

    /// What was written to these devices since they [joined](Self::join), and all that was before, is made durable; then an epoch begins that
    /// has them. Fails with [`Fault::Members`] if one of them, or another, fails meanwhile.
    #[inline(never)]
    pub(super) fn let_in(&self, who: Members) -> Result<(), Fault> {
        let mut checkpoints = self.checkpoints.lock();
        let Some(journal) = &self.journal else {
            return Err(Fault::ReadOnly);
        };
        // The groups behind this root are those that they were given.
        self.checkpoint_with(&mut checkpoints)?;
        journal.flush(self.devices(), who);
        self.lose(&mut checkpoints)?;
        if self.joining() != who {
            return Err(Fault::Members);
        }
        self.renew_with(&mut checkpoints, journal, who)?;
        self.lose(&mut checkpoints)?;
        match self.present().0 & who.0 == who.0 {
            true => Ok(()),
            false => Err(Fault::Members),
        }
    }
}
