// SPDX-License-Identifier: GPL-2.0

//! Room for nodes, where enough is free, but nowhere four blocks together: data that were overwritten in small pieces keep slots from being
//! whole. Those of which least is used are emptied, block by block, into holes of others. That gains no blocks, but slots. What is moved is
//! what lies in copies; the map of its engram says of each block where it lies then.
//!
//! Nothing says what lies where: so some groups of blocks are chosen in which much lies free in broken slots, and all maps are looked
//! through for what else lies there.

use super::Moved;
use crate::env::DeviceError;
use crate::env::Devices as _;
use crate::env::Write;
use crate::file::plan::Fetch;
use crate::file::plan::Site;
use crate::format::engram::key;
use crate::format::engram::Kind;
use crate::format::engram::Map;
use crate::format::engram::Part;
use crate::format::journal::Extent;
use crate::format::member::Members;
use crate::format::member::Slot;
use crate::format::pointer::Place;
use crate::format::pointer::Places;
use crate::names::change::Change;
use crate::names::Error;
use crate::names::Files;
use crate::names::Wrong;
use crate::space::slots::Broken;
use crate::space::GROUP;
use crate::space::SLOT;
use crate::tree::Key;
use crate::tree::Range;
use crate::txn::Transaction;
use crate::units::Blocks;
use crate::units::EngramId;
use crate::units::FileBlock;
use crate::units::Generation;
use crate::units::InodeNo;
use crate::units::Timestamp;
use crate::units::BLOCK_SIZE;
use crate::volume::mounted::Fault;
use crate::volume::mounted::Machine;
use crate::volume::mounted::Mounted;
use crate::volume::mounted::ENGRAMS;
use embr_rt::Box;
use embr_rt::Vec;

/// Groups that are looked at together, at most.
const GROUPS: usize = 16;
/// Blocks that are found in one look, at most; those that come later are not moved.
const FOUND: usize = 65536;
/// Items that are looked at in one step, at most, and steps that are made for nobody.
const LOOKED: usize = 16384;
const STEPS: usize = 16;
/// How often all maps are looked through in vain for who waits.
const LOOKS: usize = 16;
/// Slots that are emptied in one transaction, at most; where that finds no room, the next is tried.
const BATCHES: [usize; 4] = [64, 16, 4, 1];
/// A group is looked at again once so many more blocks are free in broken slots of it;
const MORE: u64 = 16 * SLOT;
/// and so many roots later, whatever was freed.
const LATER: u64 = 8;

/// A block of an engram that lies in a broken slot.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Found {
    device: Slot,
    slot: u64,
    engram: EngramId,
    block: usize,
    at: Blocks,
}

/// How far it is.
#[derive(Default, Debug)]
pub(super) struct Walk {
    /// Where is looked: by device and group.
    groups: Vec<(Slot, u64)>,
    /// The next engram that is looked at.
    from: EngramId,
    found: Vec<Found>,
    /// What empties slots, those first of which least has to be moved; the next is the last.
    ready: Vec<Vec<Found>>,
    /// Groups of which nothing could be gained since the root that is named below, in order, and the least that was free in broken slots since.
    in_vain: Vec<Broken>,
    since: Generation,
}

/// What was given out: it goes back unless something else is done with it.
struct Lent<'m, M: Machine> {
    mounted: &'m Mounted<M>,
    extents: Vec<Extent>,
}

impl<M: Machine> Drop for Lent<'_, M> {
    fn drop(&mut self) {
        for extent in self.extents.iter() {
            self.mounted.space.give_back(*extent);
        }
    }
}

/// A block that was written to another place.
struct Written {
    from: Found,
    to: Extent,
}

impl<M: Machine> Files<'_, M> {
    /// Empties some slots of devices that run short of whole ones. Says what that gained: nothing where nothing can be gained, or where that
    /// takes more than a step and nobody waits for it.
    #[inline(never)]
    pub(super) fn empty_slots(&self, walk: &mut Walk, is_waited_for: bool) -> Result<Moved, Error> {
        let now = self.mounted.generation();
        if now.0 >= walk.since.0.saturating_add(LATER) {
            walk.in_vain.clear();
            walk.since = now;
        }
        let (mut steps, mut looks) = (0usize, 0usize);
        loop {
            if !walk.ready.is_empty() {
                let moved = self.empty_some(walk)?;
                if moved.gained.0 != 0 {
                    return Ok(moved);
                }
                continue;
            }
            if walk.groups.is_empty() && !self.choose_groups(walk)? {
                return Ok(Moved::default());
            }
            steps = steps.saturating_add(1);
            if self.look_further(walk)? {
                looks = looks.saturating_add(1);
                if looks >= LOOKS && walk.ready.is_empty() {
                    return Ok(Moved::default());
                }
            } else if steps >= STEPS && !is_waited_for {
                return Ok(Moved::default());
            }
        }
    }

    /// Looks at the next engrams, and sorts out what was found with the last. Says whether that is done.
    #[inline(never)] // Its frame is large enough alone.
    fn look_further(&self, walk: &mut Walk) -> Result<bool, Error> {
        let is_last = match self.look(walk) {
            // What lies behind is not found; what was found can be moved all the same.
            Err(why) if why.is_damage() => true,
            done => done?,
        };
        if is_last {
            self.sort_out(walk)?;
        }
        Ok(is_last)
    }

    /// Where most lies free in broken slots. Says whether there is anything.
    #[inline(never)] // Its frame is large enough alone.
    fn choose_groups(&self, walk: &mut Walk) -> Result<bool, Error> {
        let mut broken = self.mounted.space.broken()?;
        let place = |b: &Broken| (b.device, b.group);
        broken.sort_unstable_by_key(place);
        let free = |all: &[Broken], b: &Broken| {
            let at = all.binary_search_by_key(&place(b), place).ok();
            at.and_then(|at| all.get(at)).map(|b| b.free)
        };
        for known in walk.in_vain.iter_mut() {
            known.free = known.free.min(free(&broken, known).unwrap_or(0));
        }
        // Where more became free since, there may be something to be gained.
        let least = |b: &Broken| free(&walk.in_vain, b).map_or(0, |free| free.saturating_add(MORE));
        broken.retain(|b| b.free >= SLOT.max(least(b)));
        broken.sort_unstable_by_key(|b| core::cmp::Reverse(b.free));
        walk.groups = Vec::try_from_iter(broken.iter().take(GROUPS).map(place))?;
        walk.groups.sort_unstable();
        (walk.from, walk.found) = (EngramId(1), Vec::new());
        Ok(!walk.groups.is_empty())
    }

    /// Looks at the next engrams. Says whether those were the last.
    #[inline(never)] // Its frame is large enough alone.
    fn look(&self, walk: &mut Walk) -> Result<bool, Error> {
        let range = Range {
            first: key(walk.from, Kind::Map, 0),
            last: Key::MAX,
        };
        let Some(mut scan) = self.mounted.scan(ENGRAMS, range) else {
            return Ok(true);
        };
        let mut looked = 0usize;
        while let Some((at, value)) = scan.next().map_err(Fault::from)? {
            let Key([number, ..]) = at;
            let engram = EngramId(number);
            if looked >= LOOKED && engram != walk.from {
                walk.from = engram;
                return Ok(false);
            }
            looked = looked.saturating_add(1);
            if engram == EngramId::NONE || at != key(engram, Kind::Map, 0) {
                continue;
            }
            let Some(map) = Map::parse(&value)? else {
                continue;
            };
            let is_here = |e: Extent| walk.has(&e);
            if map.extents(0, map.blocks).any(is_here) {
                match self.find_in(engram, &map, walk) {
                    Err(why) if why.is_damage() => {}
                    done => done?,
                }
            }
        }
        Ok(true)
    }

    /// What lives of an engram in broken slots of the groups.
    #[inline(never)] // Its frame is large enough alone.
    fn find_in(&self, engram: EngramId, map: &Map, walk: &mut Walk) -> Result<(), Error> {
        let live = self.mounted.live(engram, map.blocks)?;
        for (first, blocks) in live.runs(0, map.blocks) {
            for part in map.parts().filter_map(|part| part.cut(first, blocks)) {
                for extent in part.extents(part.first, part.blocks) {
                    for n in 0..part.blocks {
                        let at = Blocks(extent.start.0.saturating_add(n as u64));
                        let slot = at.0 / SLOT;
                        let (device, block) = (extent.device, part.first.saturating_add(n));
                        let here = Extent {
                            device,
                            start: at,
                            blocks: Blocks(1),
                        };
                        let is_broken = || self.mounted.space.used_in(device, slot) < SLOT;
                        if walk.has(&here) && walk.found.len() < FOUND && is_broken() {
                            walk.found.push(Found {
                                device,
                                slot,
                                engram,
                                block,
                                at,
                            })?;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Slots of which all that is used was found can be emptied: those first of which least is.
    #[inline(never)] // Its frame is large enough alone.
    fn sort_out(&self, walk: &mut Walk) -> Result<(), Error> {
        let mut found = core::mem::take(&mut walk.found);
        found.sort_unstable();
        for slot in found.chunk_by(|a, b| (a.device, a.slot) == (b.device, b.slot)) {
            let used = slot
                .first()
                .map(|f| self.mounted.space.used_in(f.device, f.slot));
            if used == Some(slot.len() as u64) {
                walk.ready.push(Vec::try_from_slice(slot)?)?;
            }
        }
        let most = |slot: &Vec<Found>| core::cmp::Reverse(slot.len());
        walk.ready.sort_unstable_by_key(most);
        // Whatever comes of it: the others first.
        for (device, group) in core::mem::take(&mut walk.groups).iter().copied() {
            // How much is free there is seen when others are chosen.
            let looked_at = Broken {
                device,
                group,
                free: u64::MAX,
            };
            let place = |b: &Broken| (b.device, b.group);
            let at = (walk.in_vain).binary_search_by_key(&(device, group), place);
            match at.map(|at| walk.in_vain.get_mut(at)) {
                Ok(Some(known)) => *known = looked_at,
                Ok(None) => {}
                Err(at) => walk.in_vain.insert(at, looked_at)?,
            }
        }
        Ok(())
    }

    /// Empties the next slots, as many as there is room for.
    #[inline(never)] // Its frame is large enough alone.
    fn empty_some(&self, walk: &mut Walk) -> Result<Moved, Error> {
        for most in BATCHES {
            let from = walk.ready.len().saturating_sub(most);
            let batch = walk.ready.get(from..).unwrap_or_default();
            match self.empty_all(batch) {
                Err(Error::NoSpace | Error::Fault(Fault::NoSpace | Fault::TooLarge)) => {}
                Err(why) if !why.is_damage() => return Err(why),
                done => {
                    walk.ready.truncate(from);
                    return Ok(done.unwrap_or_default());
                }
            }
        }
        // There is no room even for one: what is found later may fare better.
        walk.ready.clear();
        Ok(Moved::default())
    }

    #[inline(never)]
    fn empty_all(&self, slots: &[Vec<Found>]) -> Result<Moved, Error> {
        let mounted = self.mounted;
        let extents = Vec::new();
        let mut held = Lent { mounted, extents };
        let extents = Vec::new();
        let mut lent = Lent { mounted, extents };
        let mut written = Vec::new();
        for slot in slots {
            let before = written.len();
            if !self.copy_out(slot, &mut held, &mut lent, &mut written)? {
                // Where one block stays, so do the others.
                written.truncate(before);
            }
        }
        if written.is_empty() {
            return Ok(Moved::default());
        }
        written.sort_unstable_by_key(|one: &Written| (one.from.engram, one.from.block));
        let mut change = Change::begin_freeing(*self, Timestamp::default())?;
        let txn = change.txn();
        txn.set_divisible(true);
        let of_engrams = written.chunk_by(|a, b| a.from.engram == b.from.engram);
        let mut moved = 0u64;
        for blocks in of_engrams {
            moved = moved.saturating_add(move_blocks(txn, blocks, &mut lent)?);
        }
        change.commit_alone(())?;
        let is_empty = |device, slot| mounted.space.used_in(device, slot) == 0;
        let mut gained = 0u64;
        for slot in slots.iter().filter_map(|slot| slot.first()) {
            gained = gained.saturating_add(u64::from(is_empty(slot.device, slot.slot)));
        }
        // The others go back.
        for extent in core::mem::take(&mut held.extents).iter() {
            match is_empty(extent.device, extent.start.0 / SLOT) {
                true => mounted.space.free_with(*extent),
                false => mounted.space.give_back(*extent),
            }
        }
        Ok(Moved {
            stripes: 0,
            blocks: Blocks(moved),
            gained: Blocks(gained.saturating_mul(SLOT)),
        })
    }

    /// Writes what lies in a slot to holes, if it lies there still. Says whether that is done with all of it.
    #[inline(never)] // Its frame is large enough alone.
    fn copy_out(
        &self,
        slot: &[Found],
        held: &mut Lent<'_, M>,
        lent: &mut Lent<'_, M>,
        written: &mut Vec<Written>,
    ) -> Result<bool, Error> {
        let mounted = self.mounted;
        let Some(first) = slot.first() else {
            return Ok(false);
        };
        if mounted.space.used_in(first.device, first.slot) != slot.len() as u64 {
            return Ok(false);
        }
        held.extents.try_reserve(SLOT as usize)?;
        let all = mounted
            .space
            .hold(first.device, first.slot, &mut held.extents);
        all.ok_or(Error::NoSpace)?;
        let mut bytes = Vec::zeroed(BLOCK_SIZE)?;
        for from in slot {
            match self.read_found(from, &mut bytes) {
                Ok(true) => {}
                Ok(false) => return Ok(false),
                Err(why) if why.is_damage() => return Ok(false),
                Err(why) => return Err(why),
            }
            lent.extents.try_reserve(1)?;
            written.try_reserve(1)?;
            let to = mounted.space.allocate_hole(from.device);
            let to = to.ok_or(Error::NoSpace)?;
            lent.extents.push(to)?;
            let at = to.start.bytes().ok_or(Error::NoSpace)?;
            let mut write = [Write::new(to.device, at, &bytes)];
            mounted.devices().write(&mut write);
            let [Write { outcome, .. }] = write;
            match outcome {
                Ok(()) => written.push(Written { from: *from, to })?,
                Err(DeviceError::NoMemory) => return Err(Error::Fault(Fault::NoMemory)),
                Err(_) => {
                    mounted.report(Members::default().with(to.device));
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Reads a block, verified, from whichever copy is sound. Says whether it was ever written, and lies there still.
    #[inline(never)] // Others' frames are large enough alone.
    fn read_found(&self, from: &Found, bytes: &mut [u8]) -> Result<bool, Error> {
        // What is freed meanwhile stays as it is while this is read.
        let _pin = self.mounted.pin();
        let Some(fetch) = self.plan_found(from)? else {
            return Ok(false);
        };
        // Whose it is is not known here.
        (self.mounted).fetch(&fetch, bytes, (InodeNo::NONE, FileBlock(0)))?;
        Ok(true)
    }

    #[inline(never)] // Its frame is large enough alone.
    fn plan_found(&self, from: &Found) -> Result<Option<Box<Fetch>>, Error> {
        let mounted = self.mounted;
        let map = mounted.map(from.engram)?;
        let part = map.part(from.block).filter(|part| lies(part, from));
        // The place of what is dead may be another's by now.
        let lives = mounted.live(from.engram, map.blocks)?.has(from.block);
        let Some(part) = part.filter(|_| lives) else {
            return Ok(None);
        };
        let fetch = Fetch::new(0, 1, (from.engram, from.block), Site::Copies(part));
        let mut fetch = Box::try_new(fetch)?;
        mounted.hashes(from.engram, from.block, 1, &mut fetch.hashes)?;
        // What was set aside has no hash before it is written, and that is where it lies.
        let is_written = fetch.hashes.iter().any(|byte| *byte != 0);
        Ok(is_written.then_some(fetch))
    }
}

impl Walk {
    /// Whether something of an extent lies in one of the groups.
    fn has(&self, extent: &Extent) -> bool {
        let end = extent.start.0.saturating_add(extent.blocks.0);
        let (first, last) = (extent.start.0 / GROUP, end.saturating_sub(1) / GROUP);
        let here = |(device, group): &(Slot, u64)| {
            *device == extent.device && (first..=last).contains(group)
        };
        self.groups.iter().any(here)
    }
}

/// Whether a block lies where it was found.
fn lies(part: &Part, found: &Found) -> bool {
    let mut extents = part.extents(found.block, 1);
    extents.any(|e| e.device == found.device && e.start == found.at)
}

/// Says of some blocks of an engram that they lie elsewhere, if they live and lie where they did. Says how many those are.
#[inline(never)] // Its frame is large enough alone.
fn move_blocks<M: Machine>(
    txn: &mut Transaction<'_, M>,
    blocks: &[Written],
    lent: &mut Lent<'_, M>,
) -> Result<u64, Error> {
    let mounted = txn.mounted();
    let Some(engram) = blocks.first().map(|one| one.from.engram) else {
        return Ok(0);
    };
    let mut map = match mounted.map(engram) {
        // All of it died.
        Err(why) if why.is_damage() => return Ok(0),
        map => map?,
    };
    let live = mounted.live(engram, map.blocks)?;
    let mut parts = Vec::try_from_iter(map.parts())?;
    // Of what is dead nothing is said any more.
    let mut going: Vec<&Written> = Vec::new();
    for one in blocks {
        let Written { from, to } = one;
        let at = parts.iter().position(|part| lies(part, from));
        let at = at.filter(|_| live.has(from.block));
        let Some((at, part)) = at.and_then(|at| Some((at, *parts.get(at)?))) else {
            continue;
        };
        let Some(own) = part.cut(from.block, 1) else {
            continue;
        };
        let behind = from.block.saturating_add(1);
        let before = part.cut(part.first, from.block.saturating_sub(part.first));
        let after = part.cut(behind, part.end().saturating_sub(behind));
        let places = moved(&own.places, from, to)?;
        let pieces = [before, Some(Part { places, ..own }), after];
        parts.remove(at);
        for (n, piece) in pieces.into_iter().flatten().enumerate() {
            parts.insert(at.saturating_add(n), piece)?;
        }
        going.push(one)?;
    }
    parts.retain(|part| live.runs(part.first, part.blocks).next().is_some());
    if going.is_empty() || !map.part_as(&parts)? {
        return Ok(0);
    }
    txn.set(ENGRAMS, key(engram, Kind::Map, 0), &map.encode()?)?;
    for Written { from, to } in going.iter() {
        txn.free(Extent {
            device: from.device,
            start: from.at,
            blocks: Blocks(1),
        })?;
        lent.extents.retain(|extent| extent != to);
        txn.take(*to)?;
    }
    Ok(going.len() as u64)
}

/// These places, but for the one that was moved.
fn moved(places: &Places, from: &Found, to: &Extent) -> Result<Places, Error> {
    let mut all: Vec<Place> = Vec::new();
    all.try_extend(places.iter().map(|place| {
        match (place.device, place.block) == (from.device, from.at) {
            true => Place {
                device: to.device,
                block: to.start,
            },
            false => place,
        }
    }))?;
    Places::new(&all).ok_or(Error::Engram(from.engram, Wrong::Disagrees))
}
