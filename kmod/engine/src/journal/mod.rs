// SPDX-License-Identifier: GPL-2.0

//! The journal: one totally ordered sequence of groups of records, each on several devices. Whoever needs a group to be durable
//! writes it, for all who wait; what is appended meanwhile makes the next group.

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

pub mod ring;
pub mod scan;

use crate::env::write_patiently;
use crate::env::Devices;
use crate::env::Hash256;
use crate::env::Hasher;
use crate::env::Write;
use crate::error::NoMem;
use crate::format::journal::group_size;
use crate::format::journal::End;
use crate::format::journal::Header;
use crate::format::journal::HEADER_SIZE;
use crate::format::journal::MAX_GROUP;
use crate::format::member::Members;
use crate::format::member::Slot;
use crate::format::pointer::COPIES;
use crate::units::Bytes;
use crate::units::DeviceId;
use crate::units::EpochId;
use crate::units::Sequence;
use crate::units::SessionId;
use crate::units::Uuid;
use crate::units::BLOCK_SIZE;
use embr_rt::lock_class;
use embr_rt::CondVar;
use embr_rt::Mutex;
use embr_rt::MutexGuard;
use embr_rt::Vec;
use ring::Ring;

/// Groups of the largest size that a ring has room for, at least.
const RINGFUL: u64 = 4;

/// The journal's part of one device.
#[derive(Debug)]
pub struct Copy {
    /// Which device.
    pub slot: Slot,
    /// Its number.
    pub id: DeviceId,
    /// Where groups go on it.
    pub ring: Ring,
}

/// Who writes: what every group of this mount carries.
#[derive(Clone, Copy, Debug)]
pub struct Writer {
    /// The volume.
    pub volume: Uuid,
    /// The epoch.
    pub epoch: EpochId,
    /// This mount.
    pub session: SessionId,
}

/// Why groups cannot be made durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Halt {
    /// They cannot be on any device: nothing more is written to the volume.
    Stopped,
    /// A device failed. Nothing is acknowledged before the volume has [gone on](Journal::go_on) without it.
    Failed,
}

/// The journal of a mounted volume.
pub struct Journal {
    state: Mutex<State>,
    written: CondVar,
    /// A group is never larger.
    max_group: usize,
}

struct State {
    writer: Writer,
    copies: Vec<Copy>,
    /// Devices that take the places of those of them that are lost.
    spares: Vec<Copy>,
    /// How many copies there are, as long as there are devices for them.
    most: usize,
    /// Where the open group goes: its number, and the identity of the one before it, known once that is encoded.
    end: End,
    /// Room for a header, then the records of the open group.
    open: Vec<u8>,
    records: u32,
    /// Devices that hold data which the open group names.
    named: Members,
    /// The group before the open one, while it is not sent.
    closed: Option<Closed>,
    /// What the next writer needs, while no group is being written and nothing flushed.
    idle: Option<Workspace>,
    durable: Sequence,
    /// The newest group that is on those devices which did not fail, but is not acknowledged while one that did is a member.
    held: Sequence,
    /// No group says of a later one that it was durable: mounting found more than that, but on few devices perhaps.
    known: Option<Sequence>,
    /// Devices that failed and are members still.
    failing: Members,
    /// Devices that are not members any more.
    lost: Members,
    stopped: bool,
}

/// A group that nothing is added to any more. Its records are in the workspace until it is sent.
#[derive(Clone, Copy)]
struct Closed {
    records: u32,
    /// Devices that hold data which it names.
    named: Members,
    /// How many blocks it takes.
    blocks: u64,
}

/// The memory that writing a group takes: it is there from the beginning, because writing must not fail for lack of it.
struct Workspace {
    /// The buffer of the next open group, or the closed group.
    spare: Vec<u8>,
    /// The first block of each copy.
    heads: Vec<Vec<u8>>,
}

impl State {
    fn is_open_empty(&self) -> bool {
        self.records == 0
    }

    /// Whether there is nothing that was not sent.
    fn is_all_sent(&self) -> bool {
        self.is_open_empty() && self.closed.is_none()
    }

    /// Whether the closed group names what lies on a device that failed: it is not sent while that is a member.
    fn is_held_up(&self) -> bool {
        self.closed
            .is_some_and(|c| c.named.0 & self.failing.0 & !self.lost.0 != 0)
    }

    /// Blocks that the groups take which are not sent.
    fn unsent_blocks(&self, more: usize) -> u64 {
        let used = self
            .open
            .len()
            .saturating_sub(HEADER_SIZE)
            .saturating_add(more);
        let closed = self.closed.map_or(0, |c| c.blocks);
        closed.saturating_add((group_size(used) / BLOCK_SIZE) as u64)
    }

    /// Closes the open group, whose buffer is then in the workspace.
    fn close(&mut self, work: &mut Workspace) -> Closed {
        if let Some(closed) = self.closed {
            return closed;
        }
        let blocks = self.unsent_blocks(0);
        core::mem::swap(&mut self.open, &mut work.spare);
        let closed = Closed {
            records: core::mem::take(&mut self.records),
            named: core::mem::take(&mut self.named),
            blocks,
        };
        self.end.next = Sequence(self.end.next.0.saturating_add(1));
        *self.closed.insert(closed)
    }
}

impl Journal {
    /// A journal whose next group goes behind `end`, on the first `most` of these devices. Of what is there, that up to `known` was
    /// durable for sure.
    pub fn try_new(
        writer: Writer,
        mut copies: Vec<Copy>,
        most: usize,
        end: End,
        known: Sequence,
    ) -> Result<Self, NoMem> {
        let most = most.min(COPIES);
        let mut spares = Vec::try_with_capacity(copies.len())?;
        while copies.len() > most {
            if let Some(spare) = copies.pop() {
                spares.push(spare)?;
            }
        }
        let smallest = spares.iter().chain(copies.iter());
        let smallest = smallest.map(|c| c.ring.blocks()).min().unwrap_or(0);
        // So small that a ring holds many, which is what keeps checkpoints from having to hurry.
        let max_group = (smallest / 16)
            .saturating_mul(BLOCK_SIZE as u64)
            .min(MAX_GROUP as u64) as usize;
        let buffer = || -> Result<Vec<u8>, NoMem> {
            let mut v = Vec::try_with_capacity(max_group)?;
            v.try_resize(HEADER_SIZE, 0)?;
            Ok(v)
        };
        let mut heads = Vec::new();
        for _ in copies.iter() {
            heads.push(Vec::zeroed(BLOCK_SIZE)?)?;
        }
        let idle = Workspace {
            spare: buffer()?,
            heads,
        };
        Ok(Journal {
            max_group,
            written: CondVar::try_new(lock_class!("journal written"))?,
            state: Mutex::try_new(
                State {
                    writer,
                    copies,
                    spares,
                    most,
                    durable: Sequence(end.next.0.saturating_sub(1)),
                    held: Sequence(0),
                    known: Some(known),
                    end,
                    open: buffer()?,
                    records: 0,
                    named: Members::default(),
                    closed: None,
                    idle: Some(idle),
                    failing: Members::default(),
                    lost: Members::default(),
                    stopped: false,
                },
                lock_class!("journal"),
            )?,
        })
    }

    /// Bytes of records that one group can take.
    pub fn max_records(&self) -> usize {
        self.max_group.saturating_sub(HEADER_SIZE)
    }

    /// Whether the open group can take so many bytes of records.
    pub fn fits(&self, bytes: usize) -> bool {
        let state = self.state.lock();
        state.open.len().saturating_add(bytes) <= self.max_group
    }

    /// Bytes of the smallest ring.
    pub fn ring_bytes(&self) -> u64 {
        let state = self.state.lock();
        let blocks = state.copies.iter().map(|c| c.ring.blocks()).min();
        blocks.unwrap_or(0).saturating_mul(BLOCK_SIZE as u64)
    }

    /// Whether `of` parts of the rings, out of `parts`, would be taken with the open group and so many bytes more in them.
    pub fn is_filled(&self, bytes: usize, of: u64, parts: u64) -> bool {
        let state = self.state.lock();
        let more = state.unsent_blocks(bytes);
        state.copies.iter().any(|copy| {
            let taken = copy.ring.taken().saturating_add(more);
            taken.saturating_mul(parts) > copy.ring.blocks().saturating_mul(of)
        })
    }

    /// Whether the rings have room for the open group with so many bytes more in it, and so many bytes behind.
    pub fn has_room(&self, bytes: usize, behind: u64) -> bool {
        let state = self.state.lock();
        let behind = behind.div_ceil(BLOCK_SIZE as u64);
        let more = state.unsent_blocks(bytes).saturating_add(behind);
        let has_room = |copy: &Copy| copy.ring.taken().saturating_add(more) <= copy.ring.blocks();
        state.copies.iter().all(has_room)
    }

    /// Adds the records of one transaction to the open group, which must [fit](Self::fits); says which group that is. The
    /// group is not written before `named` are flushed.
    pub fn append(&self, records: &[u8], count: u32, named: Members) -> Result<Sequence, NoMem> {
        let mut state = self.state.lock();
        state.open.try_extend_from_slice(records)?; // It fits, so this needs no memory.
        state.records = state.records.saturating_add(count);
        state.named = Members(state.named.0 | named.0);
        Ok(state.end.next)
    }

    /// The newest group that anything was added to.
    pub fn newest(&self) -> Sequence {
        let state = self.state.lock();
        let before = Sequence(state.end.next.0.saturating_sub(1));
        if state.is_open_empty() {
            before
        } else {
            state.end.next
        }
    }

    /// Where the journal ends, if no group is open or being written.
    pub fn end(&self) -> Option<End> {
        let state = self.state.lock();
        (state.is_all_sent() && state.idle.is_some()).then_some(state.end)
    }

    /// These devices failed to take what they were given: nothing more is acknowledged while they are members. Not so if that, with
    /// all that failed before, is not `bearable`.
    pub fn fail(&self, devices: Members, bearable: impl FnOnce(Members) -> bool) {
        let mut state = self.state.lock();
        let failing = Members((state.failing.0 | devices.0) & !state.lost.0);
        if bearable(failing) {
            state.failing = failing;
        }
    }

    /// Devices that failed and are members still, once no group is being written.
    pub fn failing(&self) -> Result<Members, Halt> {
        let mut state = self.state.lock();
        while state.idle.is_none() {
            self.written.wait(&mut state);
        }
        match state.stopped {
            true => Err(Halt::Stopped),
            false => Ok(state.failing),
        }
    }

    /// Makes durable what these devices were given before, and says which of them failed to: they count as [failing](Self::failing). Nothing
    /// else is flushed meanwhile: another flush of such a device could go well, although what it was given before is lost.
    pub fn flush(&self, host: &impl Devices, devices: Members) -> Members {
        let mut state = self.state.lock();
        let work = loop {
            match state.idle.take() {
                Some(work) => break work,
                None => self.written.wait(&mut state),
            }
        };
        drop(state);
        let refused = host.flush(devices);
        let mut state = self.state.lock();
        state.idle = Some(work);
        state.failing = Members((state.failing.0 | refused.0) & !state.lost.0);
        self.written.notify_all();
        refused
    }

    /// Goes on without these devices, in an epoch that does not have them and of which a root is durable.
    pub fn go_on(&self, epoch: EpochId, lost: Members) {
        let mut state = self.state.lock();
        let State {
            writer,
            copies,
            spares,
            most,
            ..
        } = &mut *state;
        writer.epoch = epoch;
        copies.retain(|c| !lost.has(c.slot));
        spares.retain(|c| !lost.has(c.slot));
        while copies.len() < *most {
            let Some(spare) = spares.pop() else { break };
            // There is the room of one that was lost.
            if copies.push_within_capacity(spare).is_err() {
                break;
            }
        }
        state.lost = Members(state.lost.0 | lost.0);
        state.failing = Members(state.failing.0 & !lost.0);
        if state.failing.count() == 0 {
            state.durable = state.durable.max(state.held);
        }
        self.written.notify_all();
    }

    /// This device takes part again, or for the first time: groups go to it as well, if they have not `most` copies without. What lay in its
    /// ring before is not needed. Says whether there is room in the ring.
    pub fn join(&self, copy: Copy, most: usize) -> Result<bool, NoMem> {
        let least = RINGFUL.saturating_mul(self.max_group as u64);
        if copy.ring.blocks().saturating_mul(BLOCK_SIZE as u64) < least {
            return Ok(false);
        }
        let head = Vec::zeroed(BLOCK_SIZE)?;
        let mut state = self.state.lock();
        let mut work = loop {
            match state.idle.take() {
                Some(work) => break work,
                None => self.written.wait(&mut state),
            }
        };
        let slot = copy.slot;
        state.copies.retain(|c| c.slot != slot);
        state.spares.retain(|c| c.slot != slot);
        state.most = most.min(COPIES);
        let takes_it = state.copies.len() < state.most;
        let joined = work.heads.push(head).and_then(|()| match takes_it {
            true => state.copies.push(copy),
            false => state.spares.push(copy),
        });
        if joined.is_ok() {
            state.lost = Members(state.lost.0 & !Members::default().with(slot).0);
        }
        state.idle = Some(work);
        self.written.notify_all();
        joined.map(|()| true)
    }

    /// A root names all that mounting found: from now on groups say what is durable.
    pub fn confirm(&self) {
        self.state.lock().known = None;
    }

    /// Returns once every group up to `wanted` is durable.
    pub fn sync(
        &self,
        host: &impl Devices,
        hasher: &impl Hasher,
        wanted: Sequence,
    ) -> Result<(), Halt> {
        self.write_up_to(host, hasher, wanted, false)
    }

    /// Returns once every group up to `wanted` is on the devices that did not fail. Nothing of that is acknowledged while those that
    /// did are members. Fails if one of the groups names what lies on those.
    pub fn write(
        &self,
        host: &impl Devices,
        hasher: &impl Hasher,
        wanted: Sequence,
    ) -> Result<(), Halt> {
        self.write_up_to(host, hasher, wanted, true)
    }

    fn write_up_to(
        &self,
        host: &impl Devices,
        hasher: &impl Hasher,
        wanted: Sequence,
        despite_failed: bool,
    ) -> Result<(), Halt> {
        let mut state = self.state.lock();
        loop {
            if state.stopped {
                return Err(Halt::Stopped);
            }
            if state.durable >= wanted || despite_failed && state.held >= wanted {
                return Ok(());
            }
            let stays = !despite_failed || state.is_held_up();
            if state.failing.count() != 0 && state.idle.is_some() && stays {
                return Err(Halt::Failed);
            }
            if state.is_all_sent() && state.idle.is_some() {
                return Ok(());
            }
            if state.idle.is_some() {
                state = self.write_open(host, hasher, state);
            } else {
                self.written.wait(&mut state);
            }
        }
    }

    /// Writes the closed group, or else the open one, without the lock. It is not sent while it names what lies on a device that failed:
    /// after a crash nobody would know that this lacks it.
    fn write_open<'a>(
        &'a self,
        host: &impl Devices,
        hasher: &impl Hasher,
        mut state: MutexGuard<'a, State>,
    ) -> MutexGuard<'a, State> {
        let Some(mut work) = state.idle.take() else {
            return state;
        };
        let named = Members(state.close(&mut work).named.0 & !state.lost.0);
        let failing = state.failing;
        drop(state);

        let unflushed = host.flush(Members(named.0 & !failing.0));

        let mut state = self.state.lock();
        state.failing = Members((state.failing.0 | unflushed.0) & !state.lost.0);
        if state.stopped || state.is_held_up() {
            state.idle = Some(work);
            self.written.notify_all();
            return state;
        }
        let records = state.closed.take().map_or(0, |closed| closed.records);
        let sequence = Sequence(state.end.next.0.saturating_sub(1));
        let mut header = Header {
            volume: state.writer.volume,
            epoch: state.writer.epoch,
            session: state.writer.session,
            sequence,
            durable: state.known.unwrap_or(state.durable),
            previous: state.end.identity,
            identity: Hash256::default(),
            device: DeviceId(0),
            used: work.spare.len().saturating_sub(HEADER_SIZE) as u32,
            records,
        };
        // The buffer has the room for the largest group.
        let padded = work.spare.try_resize(header.size(), 0).is_ok();
        header.encode(hasher, &mut work.spare);
        let places = places(&mut state, sequence, header.size());
        let failing = state.failing;
        state.end.identity = header.identity;
        let unplaced =
            |(copy, place): (&Copy, &Option<Place>)| place.is_none() && !failing.has(copy.slot);
        if state.copies.iter().zip(places.iter()).any(unplaced) {
            // It would have fewer copies than it should, and nobody would know.
            state.stopped = true;
            work.spare.truncate(HEADER_SIZE);
            state.idle = Some(work);
            self.written.notify_all();
            return state;
        }
        drop(state);

        let outcome = if padded {
            write_copies(host, hasher, &mut work, &places, failing)
        } else {
            Outcome::default()
        };

        let mut state = self.state.lock();
        work.spare.truncate(HEADER_SIZE);
        state.idle = Some(work);
        state.failing = Members((state.failing.0 | outcome.failed.0) & !state.lost.0);
        if outcome.good.count() == 0 {
            state.stopped = true;
        } else if state.failing.count() != 0 {
            state.held = sequence;
        } else {
            state.durable = sequence;
        }
        self.written.notify_all();
        state
    }

    /// Lets nothing be written any more.
    pub fn stop(&self) {
        self.state.lock().stopped = true;
    }

    /// Whether nothing can be written any more.
    pub fn has_stopped(&self) -> bool {
        self.state.lock().stopped
    }

    /// Forgets the groups before `first`: their room can be used again.
    pub fn release(&self, first: Sequence) {
        let mut state = self.state.lock();
        let State { copies, spares, .. } = &mut *state;
        for copy in copies.iter_mut().chain(spares.iter_mut()) {
            copy.ring.release(first);
        }
    }
}

/// One copy of a group that is about to be written.
struct Place {
    slot: Slot,
    id: DeviceId,
    at: Bytes,
}

#[derive(Default)]
struct Outcome {
    good: Members,
    failed: Members,
}

fn places(state: &mut State, sequence: Sequence, size: usize) -> [Option<Place>; COPIES] {
    let blocks = (size / BLOCK_SIZE) as u64;
    let mut places = [const { None }; COPIES];
    for (place, copy) in places.iter_mut().zip(state.copies.iter_mut()) {
        // Transactions are only let in while the rings have the room.
        *place = copy.ring.take(sequence, blocks).map(|at| Place {
            slot: copy.slot,
            id: copy.id,
            at,
        });
    }
    places
}

fn write_copies(
    host: &impl Devices,
    hasher: &impl Hasher,
    work: &mut Workspace,
    places: &[Option<Place>; COPIES],
    failing: Members,
) -> Outcome {
    let mut outcome = Outcome {
        failed: failing,
        ..Outcome::default()
    };
    send(host, hasher, work, places, &mut outcome);
    let refused = host.flush(outcome.good);
    outcome.good = Members(outcome.good.0 & !refused.0);
    outcome.failed = Members(outcome.failed.0 | refused.0);
    outcome
}

fn send(
    host: &impl Devices,
    hasher: &impl Hasher,
    work: &mut Workspace,
    places: &[Option<Place>; COPIES],
    outcome: &mut Outcome,
) {
    let group = work.spare.as_slice();
    let (first, rest) = group.split_at_checked(BLOCK_SIZE).unwrap_or((group, &[]));
    let failed = outcome.failed;
    let placed = || places.iter().flatten().filter(|p| !failed.has(p.slot));
    for (place, head) in placed().zip(work.heads.iter_mut()) {
        for (to, from) in head.iter_mut().zip(first) {
            *to = *from;
        }
        Header::seal_copy(hasher, head, place.id, place.at);
    }
    let mut writes: [Write<'_>; 2 * COPIES] =
        core::array::from_fn(|_| Write::new(Slot::FIRST, Bytes(0), &[]));
    let mut count = 0usize;
    let mut room = writes.iter_mut();
    for (place, head) in placed().zip(work.heads.iter()) {
        let behind = place.at.plus(Bytes(BLOCK_SIZE as u64)).unwrap_or(place.at);
        for (at, from) in [(place.at, head.as_slice()), (behind, rest)] {
            if from.is_empty() {
                continue;
            }
            if let Some(write) = room.next() {
                *write = Write::new(place.slot, at, from);
                count = count.saturating_add(1);
            }
        }
    }
    let writes = writes.get_mut(..count).unwrap_or_default();
    write_patiently(host, writes);
    for write in writes.iter() {
        if write.outcome.is_err() {
            outcome.failed = outcome.failed.with(write.device);
        }
    }
    for place in placed() {
        if !outcome.failed.has(place.slot) {
            outcome.good = outcome.good.with(place.slot);
        }
    }
}
