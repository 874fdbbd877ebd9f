// SPDX-License-Identifier: GPL-2.0

//! Discarding: devices are told of blocks that nobody needs any more. No lock is held meanwhile that a change of the volume needs;
//! nobody is given the blocks, and who lacks space waits for them. That a device does not do it is no failure.

use crate::env::Devices as _;
use crate::error::NoMem;
use crate::format::journal::Extent;
use crate::units::Blocks;
use crate::units::Bytes;
use crate::volume::mounted::Fault;
use crate::volume::mounted::Machine;
use crate::volume::mounted::Mounted;
use crate::volume::mounted::Part;

/// The shortest run that is worth telling a device of as soon as it is freed: longer than a node, for each checkpoint frees some of these
/// and places others there.
pub const WORTH: Blocks = Blocks(8);

/// How far all free space of a volume is discarded: members follow each other as if they were one device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Trim {
    /// Where to go on.
    from: Blocks,
    end: Blocks,
    least: Blocks,
    discarded: Bytes,
}

impl Trim {
    /// All that lies between these places, in runs of at least so many blocks.
    pub fn new(from: Blocks, end: Blocks, least: Blocks) -> Self {
        Trim {
            from,
            end,
            least,
            discarded: Bytes(0),
        }
    }

    /// What devices were told of so far.
    pub fn discarded(&self) -> Bytes {
        self.discarded
    }
}

impl<M: Machine> Mounted<M> {
    /// From now on, what is freed is discarded before it is given out again, in runs of at least so many blocks; without a number,
    /// nothing is.
    pub fn set_discard(&self, least: Option<Blocks>) {
        if !self.is_read_only() {
            self.space.set_discard(least);
        }
    }

    /// The shortest run that is discarded when it was freed; none where nothing is.
    pub fn discard(&self) -> Option<Blocks> {
        self.space.discard()
    }

    /// Whether something is to be discarded, and now.
    pub(super) fn has_discards(&self) -> bool {
        !self.is_resting() && self.space.is_due()
    }

    /// Discards some of what is due, unless somebody discards already: who serves has more to do than wait for him. Says whether it
    /// did. Called with no lock held.
    #[inline(never)]
    pub(super) fn discard_some(&self) -> bool {
        let Some(_only) = self.discards.try_lock() else {
            return false;
        };
        // Who lets it rest waits for that lock.
        if self.is_resting() {
            return false;
        }
        match self.space.take_due() {
            Ok(Some(runs)) => {
                self.discard_runs(&runs);
                self.space.discarded();
                true
            }
            Ok(None) => false,
            // It is not worth waiting for memory.
            Err(NoMem) => self.space.spare_due(),
        }
    }

    /// After a checkpoint, with no lock held: discards what is due, unless a thread of the host's does.
    pub(super) fn discard_after(&self) {
        if !M::CHECKPOINTS_APART {
            while self.has_discards() && self.discard_some() {}
        }
    }

    /// Says how much devices were told of.
    fn discard_runs(&self, runs: &[Extent]) -> Bytes {
        let mut done = 0u64;
        for run in runs {
            let failing = self.journal.as_ref().map(|j| j.failing());
            // What failed may be looked at as it was then.
            let is_well = matches!(failing, Some(Ok(failing)) if !failing.has(run.device));
            if !is_well || !self.present().has(run.device) {
                continue;
            }
            let (Some(at), Some(length)) = (run.start.bytes(), run.blocks.bytes()) else {
                continue;
            };
            if self.devices().discard(run.device, at, length) {
                done = done.saturating_add(length.0);
            }
        }
        Bytes(done)
    }

    /// Blocks of all members that are here, one after the other.
    pub fn blocks(&self) -> Blocks {
        let sizes = self.parts.iter().map(|p| p.size.whole_blocks().0);
        Blocks(sizes.fold(0, u64::saturating_add))
    }

    /// Discards some of the free space; says whether there may be more. Called with no lock held, as nobody waits for it to end.
    #[inline(never)]
    pub fn trim(&self, trim: &mut Trim) -> Result<bool, Fault> {
        if self.has_stopped() {
            return Err(Fault::Stopped);
        }
        let Some((part, base)) = self.part_at(trim.from) else {
            return Ok(false);
        };
        let within = |at: Blocks| Blocks(at.0.saturating_sub(base));
        let end = Blocks(within(trim.end).0.min(part.size.whole_blocks().0));
        let _only = self.discards.lock();
        if self.is_read_only() || self.is_resting() {
            return Err(Fault::ReadOnly);
        }
        let range = (within(trim.from), end);
        let taken = self.space.take_free(part.slot, range, trim.least)?;
        let done = self.discard_runs(&taken.runs);
        self.space.discarded();
        trim.discarded = Bytes(trim.discarded.0.saturating_add(done.0));
        trim.from = Blocks(base.saturating_add(taken.next.0));
        Ok(trim.from < trim.end && self.part_at(trim.from).is_some())
    }

    /// The member that has this block of all, and how many blocks come before it.
    fn part_at(&self, at: Blocks) -> Option<(&Part, u64)> {
        let mut base = 0u64;
        for part in self.parts.iter() {
            let end = base.saturating_add(part.size.whole_blocks().0);
            if at.0 < end {
                return Some((part, base));
            }
            base = end;
        }
        None
    }
}
