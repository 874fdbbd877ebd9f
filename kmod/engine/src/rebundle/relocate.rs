// SPDX-License-Identifier: GPL-2.0

//! One fragment of a stripe, or one copy of an engram, moves to another place: what it holds is read or rebuilt, verified, and written
//! there; then one transaction says so and frees the old place. Nothing else of the stripe or the engram changes, nor does what lies
//! where something else may still be read. And all that lies on a device, piece by piece.
//!
//! Nodes are not moved: they are written elsewhere as they change.

use crate::env::DeviceError;
use crate::env::Devices as _;
use crate::env::Write;
use crate::file::plan::Fetch;
use crate::file::plan::Site;
use crate::format::engram;
use crate::format::engram::Live;
use crate::format::engram::Map;
use crate::format::engram::Part;
use crate::format::engram::HASHES;
use crate::format::journal::Extent;
use crate::format::member::Members;
use crate::format::member::Slot;
use crate::format::pointer::Place;
use crate::format::pointer::Places;
use crate::format::stripe;
use crate::format::stripe::Layout;
use crate::names::change::Begun;
use crate::names::change::Change;
use crate::names::Error;
use crate::names::Files;
use crate::names::Wrong;
use crate::stripe::known;
use crate::tree::Key;
use crate::tree::Range;
use crate::txn::Transaction;
use crate::units::Blocks;
use crate::units::EngramId;
use crate::units::FileBlock;
use crate::units::InodeNo;
use crate::units::StripeId;
use crate::units::Timestamp;
use crate::units::BLOCK_SIZE;
use crate::volume::mounted::Fault;
use crate::volume::mounted::Machine;
use crate::volume::mounted::Mounted;
use crate::volume::mounted::ENGRAMS;
use crate::volume::mounted::STRIPES;
use crate::volume::relief::Patience;
use embr_rt::Vec;

/// What is moved in one step away from a device, at most.
const AT_ONCE: usize = 16;
/// Items that are looked at in one step, at most.
const LOOKED: usize = 4096;
/// Refused repairs that are remembered; beyond these a device is given up.
const REMEMBERED: usize = 16;

/// One of the things that a stripe or an engram lies in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lodged {
    /// A fragment of a stripe.
    Fragment(StripeId, usize),
    /// The copy of an engram on a device.
    Copy(EngramId, Slot),
}

/// What devices did not let themselves be repaired of.
#[derive(Default, Debug)]
pub(crate) struct Refusals(Vec<Lodged>);

impl Refusals {
    /// Remembers it if there is room.
    pub(crate) fn note(&mut self, what: Lodged) -> bool {
        if self.0.contains(&what) {
            return true;
        }
        self.0.len() < REMEMBERED && self.0.push(what).is_ok()
    }

    fn take_all(&mut self) -> Vec<Lodged> {
        core::mem::take(&mut self.0)
    }
}

/// How far somebody is who moves all away from a device.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Cursor {
    /// From this stripe on.
    Stripes(StripeId),
    /// All stripes are done; from this engram on.
    Engrams(EngramId),
    /// Nothing lay behind.
    #[default]
    End,
}

impl Cursor {
    /// Before everything.
    pub const BEGIN: Cursor = Cursor::Stripes(StripeId(1));
}

/// What one step away from a device came to.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Step {
    /// Blocks that lie elsewhere now.
    pub moved: Blocks,
    /// Fragments and copies that could not be had, and stay.
    pub left: usize,
}

/// Places that were given out: they go back unless a transaction takes them.
pub(super) struct Room<'m, M: Machine> {
    pub(super) mounted: &'m Mounted<M>,
    pub(super) extents: Vec<Extent>,
    /// However many places are asked for, readers are waited for once.
    patience: Patience,
}

impl<'m, M: Machine> Room<'m, M> {
    pub(super) fn new(mounted: &'m Mounted<M>) -> Self {
        Room {
            mounted,
            extents: Vec::new(),
            patience: Patience::short(),
        }
    }

    /// Writes so many blocks beside others, to a device that takes them.
    #[inline(never)] // Its frame is large enough alone.
    pub(super) fn write(
        &mut self,
        blocks: usize,
        (avoid, others): (Members, &[Extent]),
        parts: &[(usize, &[u8])],
        may_wait: bool,
    ) -> Result<Place, Error> {
        let mounted = self.mounted;
        let mut avoid = avoid;
        loop {
            self.extents.try_reserve(1)?;
            let find = || (mounted.space).allocate_beside(Blocks(blocks as u64), avoid, others);
            let extent = match may_wait {
                true => mounted.until_found_by(&mut self.patience, find)?,
                false => find().ok_or(Error::NoSpace)?,
            };
            self.extents.push(extent)?;
            match send(mounted, extent, parts) {
                Ok(()) => {
                    return Ok(Place {
                        device: extent.device,
                        block: extent.start,
                    })
                }
                Err(DeviceError::NoMemory) => return Err(Error::Fault(Fault::NoMemory)),
                Err(_) => {
                    self.extents.pop();
                    mounted.space.give_back(extent);
                    mounted.report(Members::default().with(extent.device));
                    avoid = avoid.with(extent.device);
                }
            }
        }
    }

    /// A transaction takes the last one, which is for blocks of an engram from one on, but for what is dead of them.
    pub(super) fn take_live(
        &mut self,
        txn: &mut Transaction<'_, M>,
        (live, first): (&Live, usize),
    ) -> Result<(), Error> {
        let Some(extent) = self.extents.last().copied() else {
            return Ok(());
        };
        let mut parts: Vec<(bool, Extent)> = Vec::new();
        let mut at = first;
        let end = first.saturating_add(extent.blocks.0 as usize);
        let part = |from: usize, to: usize| Extent {
            start: Blocks(
                extent
                    .start
                    .0
                    .saturating_add(from.saturating_sub(first) as u64),
            ),
            blocks: Blocks(to.saturating_sub(from) as u64),
            ..extent
        };
        for (from, blocks) in live.runs(first, extent.blocks.0 as usize) {
            let to = from.saturating_add(blocks);
            parts.push((false, part(at, from)))?;
            parts.push((true, part(from, to)))?;
            at = to;
        }
        parts.push((false, part(at, end)))?;
        self.extents.pop();
        let mut done = Ok(());
        for (lives, part) in parts.iter().filter(|(_, part)| part.blocks.0 != 0) {
            match *lives && done.is_ok() {
                // What it does not take, it gives back.
                true => done = txn.take(*part),
                false => self.mounted.space.give_back(*part),
            }
        }
        Ok(done?)
    }

    /// A transaction takes all.
    pub(super) fn take_all(&mut self, txn: &mut Transaction<'_, M>) -> Result<(), Error> {
        while let Some(extent) = self.extents.pop() {
            txn.take(extent)?;
        }
        Ok(())
    }
}

impl<M: Machine> Drop for Room<'_, M> {
    fn drop(&mut self) {
        for extent in self.extents.iter() {
            self.mounted.space.give_back(*extent);
        }
    }
}

/// Writes what begins at these blocks of a place.
#[inline(never)] // Its frame is large enough alone.
pub(super) fn send<M: Machine>(
    mounted: &Mounted<M>,
    extent: Extent,
    parts: &[(usize, &[u8])],
) -> Result<(), DeviceError> {
    for (first, bytes) in parts {
        let block = Blocks(extent.start.0.saturating_add(*first as u64));
        let at = block.bytes().ok_or(DeviceError::Io)?;
        let mut write = [Write::new(extent.device, at, bytes)];
        mounted.devices().write(&mut write);
        let [Write { outcome, .. }] = write;
        outcome?;
    }
    Ok(())
}

/// How an engram is going to lie.
#[derive(Default)]
struct Moved {
    parts: Vec<Part>,
    /// Where those begin that got a place. It may be the one that they had: of what is dead that is anybody's.
    firsts: Vec<usize>,
}

/// What an engram had when it was read.
struct Copied {
    map: Map,
    live: Live,
    /// Of each block what is kept of its hash; zeros where nothing was written.
    hashes: Vec<u8>,
    bytes: Vec<u8>,
}

impl<M: Machine> Files<'_, M> {
    /// Moves a fragment, or a copy, to a device that is not among `avoid`. Says how many blocks that were: none if it is gone, or was
    /// moved by somebody else. Fails for want of space, and where it cannot be had: then all is as it was. Called with no lock held.
    pub fn relocate(&self, what: Lodged, avoid: Members) -> Result<Blocks, Error> {
        let _alone = self.names.rebundling.lock();
        self.relocate_alone(what, avoid)
    }

    /// Moves some of what lies on a device to others, from where the cursor is on. At its end, there is nothing left of what was there
    /// when it began, but for what `left` counts; whoever wants the device empty sees to it that nothing new comes there. If there is
    /// no room, the cursor stays where that was. Called with no lock held.
    #[inline(never)] // Its frame is large enough alone.
    pub fn evacuate(&self, device: Slot, cursor: &mut Cursor) -> Result<Step, Error> {
        let _alone = self.names.rebundling.lock();
        let mut step = Step::default();
        let (found, next) = self.lodged_on(device, *cursor)?;
        for (what, at) in found.iter() {
            *cursor = *at;
            match self.relocate_alone(*what, Members::default().with(device)) {
                Ok(blocks) => step.moved = Blocks(step.moved.0.saturating_add(blocks.0)),
                Err(why) if why.is_damage() => step.left = step.left.saturating_add(1),
                Err(why) => return Err(why),
            }
        }
        *cursor = next;
        Ok(step)
    }

    /// What a device did not let itself be repaired of is moved. What cannot be moved now is found again by whoever reads it.
    #[inline(never)]
    pub(super) fn relocate_refused(&self) -> Result<(), Error> {
        // Reading one may be refused again: each is tried once.
        let all = self.mounted.refused.lock().take_all();
        for what in all.iter() {
            match self.relocate_alone(*what, Members::default()) {
                Err(why) if !why.is_damage() && !matches!(why, Error::NoSpace) => return Err(why),
                _ => {}
            }
        }
        Ok(())
    }

    /// The next things that lie on a device, each with a cursor that begins with it, and a cursor behind them.
    #[inline(never)] // Its frame is large enough alone.
    fn lodged_on(
        &self,
        device: Slot,
        cursor: Cursor,
    ) -> Result<(Vec<(Lodged, Cursor)>, Cursor), Error> {
        let mut found = Vec::new();
        let (tree, from) = match cursor {
            Cursor::Stripes(from) => (STRIPES, from.0),
            Cursor::Engrams(from) => (ENGRAMS, from.0),
            Cursor::End => return Ok((found, Cursor::End)),
        };
        let end = match cursor {
            Cursor::Stripes(_) => Cursor::Engrams(EngramId(1)),
            _ => Cursor::End,
        };
        let range = Range {
            first: Key([from, 0, 0]),
            last: Key([u64::MAX; 3]),
        };
        let Some(mut scan) = self.mounted.scan(tree, range) else {
            return Ok((found, end));
        };
        let mut looked = 0usize;
        while let Some((at, value)) = scan.next().map_err(Fault::from)? {
            let Key([number, ..]) = at;
            let here = match tree == STRIPES {
                true => Cursor::Stripes(StripeId(number)),
                false => Cursor::Engrams(EngramId(number)),
            };
            looked = looked.saturating_add(1);
            if found.len() >= AT_ONCE || looked > LOOKED && here != cursor {
                return Ok((found, here));
            }
            match tree == STRIPES {
                true if at == stripe::key(StripeId(number), stripe::Kind::Layout, 0) => {
                    let fragment = fragment_on(&value, device);
                    let what = fragment.map(|f| Lodged::Fragment(StripeId(number), f));
                    what.map_or(Ok(()), |what| found.push((what, here)))?;
                }
                false if at == engram::key(EngramId(number), engram::Kind::Map, 0) => {
                    if has_copy_on(&value, device)? {
                        found.push((Lodged::Copy(EngramId(number), device), here))?;
                    }
                }
                _ => {}
            }
        }
        Ok((found, end))
    }

    /// With nobody else who moves anything. What changed meanwhile is moved once more, with nobody beside who changes anything.
    #[inline(never)]
    pub(super) fn relocate_alone(&self, what: Lodged, avoid: Members) -> Result<Blocks, Error> {
        let mut done = self.relocate_once(what, avoid, None);
        let is_changed = match &done {
            Ok(moved) => moved.is_none(),
            Err(why) => why.is_damage(),
        };
        if is_changed {
            let change = Change::begin_freeing(*self, Timestamp::default())?;
            done = self.relocate_once(what, avoid, Some(change));
        }
        match done {
            Ok(moved) => Ok(moved.unwrap_or_default()),
            Err(why) if why.is_damage() && self.is_gone(what)? => Ok(Blocks(0)),
            Err(why) => Err(why),
        }
    }

    fn is_gone(&self, what: Lodged) -> Result<bool, Error> {
        let is_there = |_: &[u8]| ();
        let found = match what {
            Lodged::Fragment(stripe, _) => {
                let key = stripe::key(stripe, stripe::Kind::Layout, 0);
                self.mounted.get(STRIPES, key, is_there)?
            }
            Lodged::Copy(engram, _) => {
                let key = engram::key(engram, engram::Kind::Map, 0);
                self.mounted.get(ENGRAMS, key, is_there)?
            }
        };
        Ok(found.is_none())
    }

    /// Says nothing where something changed since it was read.
    #[inline(never)]
    fn relocate_once(
        &self,
        what: Lodged,
        avoid: Members,
        change: Option<Begun<'_, M>>,
    ) -> Result<Option<Blocks>, Error> {
        match what {
            Lodged::Fragment(stripe, fragment) => {
                self.move_fragment((stripe, fragment), avoid, change)
            }
            Lodged::Copy(engram, device) => self.move_copy((engram, device), avoid, change),
        }
    }

    #[inline(never)] // Its frame is large enough alone.
    fn move_fragment(
        &self,
        (stripe, fragment): (StripeId, usize),
        avoid: Members,
        change: Option<Begun<'_, M>>,
    ) -> Result<Option<Blocks>, Error> {
        let mounted = self.mounted;
        // What is freed meanwhile stays as it is while this is read.
        let pin = mounted.pin();
        let layout = mounted.layout(stripe)?;
        let rows = layout.shape.length(fragment);
        if rows == 0 {
            return Ok(Some(Blocks(0)));
        }
        let bytes = mounted.read_fragment(stripe, &layout, fragment)?;
        drop(pin);
        let mut others = Vec::new();
        for other in (0..layout.shape.width()).filter(|f| *f != fragment) {
            others.try_extend(known::extent(&layout, other, 0, 1))?;
        }
        let mut room = Room::new(mounted);
        let place = room.write(rows, (avoid, &others), &[(0, &bytes)], change.is_none())?;
        let mut change = match change {
            Some(change) => change,
            None => Change::begin_freeing(*self, Timestamp::default())?,
        };
        if *mounted.layout(stripe)? != *layout {
            return Ok(None);
        }
        let txn = change.txn();
        txn.set_divisible(true);
        if let Some(old) = known::extent(&layout, fragment, 0, rows) {
            txn.free(old)?;
        }
        let next = layout.with_place(fragment, Some(place));
        let next = next.ok_or(Error::Stripe(stripe, Wrong::Disagrees))?;
        let key = stripe::key(stripe, stripe::Kind::Layout, 0);
        txn.set(STRIPES, key, &next.encode()?)?;
        room.take_all(txn)?;
        change.commit_alone(())?;
        Ok(Some(Blocks(rows as u64)))
    }

    #[inline(never)] // Its frame is large enough alone.
    fn move_copy(
        &self,
        (engram, device): (EngramId, Slot),
        avoid: Members,
        change: Option<Begun<'_, M>>,
    ) -> Result<Option<Blocks>, Error> {
        let Some(copied) = self.read_copy(engram, device)? else {
            return Ok(Some(Blocks(0)));
        };
        let mut room = Room::new(self.mounted);
        let may_wait = change.is_none();
        let mut moved = Moved::default();
        let mut left = Vec::try_from_iter(copied.map.parts())?;
        left.reverse();
        while let Some(part) = left.pop() {
            let Some(part) = part.living(&copied.live) else {
                continue;
            };
            let to = (avoid, device, may_wait);
            match self.copy_part(engram, &copied, part, to, &mut room) {
                // There is no room for all of it together.
                Err(Error::NoSpace | Error::Fault(Fault::NoSpace)) => {
                    let (first, second) = part.halves().ok_or(Error::NoSpace)?;
                    left.push(second)?;
                    left.push(first)?;
                }
                now => {
                    let now = now?;
                    if now.is_some() {
                        moved.firsts.push(part.first)?;
                    }
                    moved.parts.push(now.unwrap_or(part))?;
                }
            }
        }
        let mut change = match change {
            Some(change) => change,
            None => Change::begin_freeing(*self, Timestamp::default())?,
        };
        let done = self.say_moved((engram, device), &copied, &moved, (&mut change, &mut room))?;
        let Some(blocks) = done else {
            return Ok(None);
        };
        change.commit_alone(())?;
        Ok(Some(blocks))
    }

    /// Writes what lies of a part on a device to another one. Says how it lies then; nothing if none of it does.
    #[inline(never)] // Its frame is large enough alone.
    fn copy_part(
        &self,
        engram: EngramId,
        copied: &Copied,
        part: Part,
        (avoid, device, may_wait): (Members, Slot, bool),
        room: &mut Room<'_, M>,
    ) -> Result<Option<Part>, Error> {
        let mut others = Vec::new();
        others.try_extend(part.extents(part.first, 1).filter(|e| e.device != device))?;
        if others.len() == part.places.count() {
            return Ok(None);
        }
        let written = written(copied, self.mounted.hash_size());
        let mut parts: Vec<(usize, &[u8])> = Vec::new();
        for (first, blocks) in written.runs(part.first, part.blocks) {
            let begin = first.saturating_mul(BLOCK_SIZE);
            let end = begin.saturating_add(blocks.saturating_mul(BLOCK_SIZE));
            let bytes = copied.bytes.get(begin..end).unwrap_or_default();
            parts.push((first.saturating_sub(part.first), bytes))?;
        }
        let place = room.write(part.blocks, (avoid, &others), &parts, may_wait)?;
        let mut all = Vec::new();
        all.try_extend(part.places.iter().map(|p| match p.device == device {
            true => place,
            false => p,
        }))?;
        let places = Places::new(&all).ok_or(Error::Engram(engram, Wrong::Disagrees))?;
        Ok(Some(Part { places, ..part }))
    }

    /// What was moved lies there from now on. Says how many blocks of it lived there; nothing where something changed since it was read.
    #[inline(never)] // Its frame is large enough alone.
    fn say_moved(
        &self,
        (engram, device): (EngramId, Slot),
        copied: &Copied,
        moved: &Moved,
        (change, room): (&mut Begun<'_, M>, &mut Room<'_, M>),
    ) -> Result<Option<Blocks>, Error> {
        let mounted = self.mounted;
        // What was set aside may have been written, where it lay.
        let mut now = mounted.map(engram)?;
        let hashes = hashes_of(mounted, engram, now.blocks)?;
        if now != copied.map || *hashes != *copied.hashes {
            return Ok(None);
        }
        let live = mounted.live(engram, now.blocks)?;
        let txn = change.txn();
        txn.set_divisible(true);
        let mut blocks_moved = Blocks(0);
        for (first, blocks) in live.runs(0, now.blocks) {
            for own in now.extents(first, blocks).filter(|e| e.device == device) {
                txn.free(own)?;
                blocks_moved = Blocks(blocks_moved.0.saturating_add(own.blocks.0));
            }
        }
        for first in moved.firsts.iter().rev() {
            room.take_live(txn, (&live, *first))?;
        }
        if moved.parts.is_empty() {
            return Err(Error::Engram(engram, Wrong::Disagrees));
        }
        if !now.part_as(&moved.parts)? {
            // In as many parts as it would come to, it cannot lie.
            return Err(Error::NoSpace);
        }
        let key = engram::key(engram, engram::Kind::Map, 0);
        txn.set(ENGRAMS, key, &now.encode()?)?;
        Ok(Some(blocks_moved))
    }

    /// All that was written of an engram which has a copy on a device, verified.
    #[inline(never)] // Its frame is large enough alone.
    fn read_copy(&self, engram: EngramId, device: Slot) -> Result<Option<Copied>, Error> {
        let mounted = self.mounted;
        let _pin = mounted.pin();
        let map = mounted.map(engram)?;
        if !map.is_on(device) {
            return Ok(None);
        }
        let mut copied = Copied {
            live: mounted.live(engram, map.blocks)?,
            hashes: hashes_of(mounted, engram, map.blocks)?,
            bytes: Vec::zeroed(map.blocks.saturating_mul(BLOCK_SIZE))?,
            map,
        };
        let size = mounted.hash_size();
        let written = written(&copied, size);
        for part in copied.map.parts() {
            for (first, blocks) in written.runs(part.first, part.blocks) {
                let mut fetch = Fetch::new(first, blocks, (engram, first), Site::Copies(part));
                let from = first.saturating_mul(size);
                let to = from.saturating_add(blocks.saturating_mul(size));
                let hashes = copied.hashes.get(from..to).unwrap_or_default();
                fetch.hashes.try_extend_from_slice(hashes)?;
                // Whose they are is not known here.
                mounted.fetch(&fetch, &mut copied.bytes, (InodeNo::NONE, FileBlock(0)))?;
            }
        }
        Ok(Some(copied))
    }
}

/// The blocks that live and were written.
fn written(copied: &Copied, size: usize) -> Live {
    let mut written = Live::default();
    let hashes = copied.hashes.chunks_exact(size.max(1));
    for (block, hash) in hashes.enumerate() {
        if copied.live.has(block) && hash.iter().any(|byte| *byte != 0) {
            written.set(block, 1);
        }
    }
    written
}

/// What is kept of the hashes of an engram's blocks; zeros where nothing is.
#[inline(never)] // Its frame is large enough alone.
fn hashes_of<M: Machine>(
    mounted: &Mounted<M>,
    engram: EngramId,
    blocks: usize,
) -> Result<Vec<u8>, Error> {
    let mut hashes = Vec::new();
    for first in (0..blocks).step_by(HASHES) {
        let count = blocks.saturating_sub(first).min(HASHES);
        let before = hashes.len();
        match mounted.hashes(engram, first, count, &mut hashes) {
            Err(Error::Engram(_, Wrong::Missing)) => {
                hashes.truncate(before);
                let wanted = before.saturating_add(count.saturating_mul(mounted.hash_size()));
                hashes.try_resize(wanted, 0)?;
            }
            done => done?,
        }
    }
    Ok(hashes)
}

/// The fragment of a stripe with this layout that lies on a device.
#[inline(never)] // Layouts are large.
fn fragment_on(value: &[u8], device: Slot) -> Option<usize> {
    let layout = Layout::parse(value)?;
    let is_here = |f: &usize| layout.place(*f).is_some_and(|p| p.device == device);
    (0..layout.shape.width()).find(is_here)
}

/// Whether an engram with this map has a copy on a device.
fn has_copy_on(value: &[u8], device: Slot) -> Result<bool, Error> {
    let map = Map::parse(value)?;
    Ok(map.is_some_and(|map| map.is_on(device)))
}
