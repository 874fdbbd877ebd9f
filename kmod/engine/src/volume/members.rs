// SPDX-License-Identifier: GPL-2.0

//! Who takes part in a mounted volume. Whenever that changes, a new membership epoch begins: a record of it in the superblocks of all
//! who remain, then a root of it on each of them, and only then is anything acknowledged that relies on it.

use crate::env::write_patiently;
use crate::env::Device;
use crate::env::DeviceError;
use crate::env::Devices;
use crate::env::Environment as _;
use crate::env::WritableDevice;
use crate::env::Write;
use crate::error::NoMem;
use crate::format::epoch;
use crate::format::epoch::Epoch;
use crate::format::layout;
use crate::format::member::Members;
use crate::format::member::Slot;
use crate::format::superblock::Superblock;
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
}

impl Roll {
    pub(super) fn try_new(epoch: Epoch, present: Members) -> Result<Self, NoMem> {
        let now = Now {
            epoch,
            present,
            suspects: Members::default(),
            resting: false,
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

    fn change(&self, epoch: Epoch) {
        let mut now = self.0.lock();
        (now.epoch, now.present) = (epoch, epoch.present);
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
        Box::try_new(Records {
            superblock,
            buffer: Vec::zeroed(layout::SUPERBLOCK_SIZE)?,
            root: Vec::zeroed(layout::ROOT_SIZE)?,
            bases: Vec::try_with_capacity(TREES.len())?,
        })
    }

    /// The epoch that has a root comes first in the table, and those before it follow.
    fn begin(&mut self, new: Epoch) {
        let epochs = &mut self.superblock.epochs;
        epochs.retain(|e| e.number < new.number);
        // Who stands at an epoch that is not there any more is not taken for a member.
        epochs.truncate(epoch::ENTRIES.saturating_sub(1));
        // There is room.
        if epochs.push_within_capacity(new).is_ok() {
            epochs.rotate_right(1);
        }
        self.superblock.sequence = self.superblock.sequence.saturating_add(1);
    }
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
        let done = self.try_to_renew(checkpoints, journal);
        if done.is_err() {
            journal.stop();
        }
        done
    }

    fn try_to_renew(&self, checkpoints: &mut Checkpoints, journal: &Journal) -> Result<(), Fault> {
        let before = self.epoch();
        let epoch = loop {
            let left = Members(self.present().0 & !journal.failing()?.0);
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
        let Records {
            superblock, buffer, ..
        } = records;
        let is_in = |part: &&Part| epoch.present.has(part.slot);
        for part in self.parts.iter().filter(is_in) {
            superblock.device = part.id;
            let device = One {
                devices: self.devices(),
                journal,
                slot: part.slot,
                size: part.size,
            };
            if mend::write_superblock(self.hasher(), &device, superblock, buffer).is_err() {
                failed = failed.with(part.slot);
            }
        }
        Ok(failed)
    }
}
