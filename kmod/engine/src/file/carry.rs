// SPDX-License-Identifier: GPL-2.0

//! Carrying plans out through [`Devices`]: blocks are read, verified, and what is bad is repaired from other copies; blocks are
//! written, elsewhere if a device fails. Nothing here looks into a tree.

use super::plan::Fetch;
use super::plan::Given;
use super::plan::Site;
use super::plan::Store;
use super::window::At;
use crate::env::DeviceError;
use crate::env::Devices as _;
use crate::env::Hash256;
use crate::env::Hasher as _;
use crate::env::Write;
use crate::format::journal::Extent;
use crate::format::member::Members;
use crate::format::member::Slot;
use crate::names::Error;
use crate::rebundle::Lodged;
use crate::tree::nodes::Events as _;
use crate::tree::TreeError;
use crate::units::Blocks;
use crate::units::Bytes;
use crate::units::FileBlock;
use crate::units::InodeNo;
use crate::units::BLOCK_SIZE;
use crate::volume::mounted::Fault;
use crate::volume::mounted::Machine;
use crate::volume::mounted::Mounted;
use crate::volume::mounted::ENGRAMS;
use embr_rt::Box;
use embr_rt::Vec;

fn at(extent: Extent) -> Bytes {
    extent.start.bytes().unwrap_or(Bytes(u64::MAX))
}

/// A device's answer, if it is not for lack of memory.
fn answer(result: Result<(), DeviceError>) -> Result<bool, Error> {
    match result {
        Ok(()) => Ok(true),
        Err(DeviceError::NoMemory) => Err(Error::Fault(Fault::NoMemory)),
        Err(_) => Ok(false),
    }
}

impl<M: Machine> Mounted<M> {
    /// Reads blocks into `buffer`, of which they are part. `file` and `begin`, the file's block that the buffer begins with, are
    /// named if no copy is sound.
    #[inline(never)] // Its frame is large enough alone.
    pub(crate) fn fetch(
        &self,
        fetch: &Fetch,
        buffer: &mut [u8],
        (file, begin): (InodeNo, FileBlock),
    ) -> Result<(), Error> {
        let skip = fetch.index.saturating_mul(BLOCK_SIZE);
        let length = fetch.blocks.saturating_mul(BLOCK_SIZE);
        let into = buffer
            .get_mut(skip..skip.saturating_add(length))
            .unwrap_or_default();
        let mut full: Vec<Hash256> = Vec::try_from_elem(Hash256::default(), fetch.blocks)?;
        let first = self.best_copy(fetch);
        let read = match fetch.place(first, 0, fetch.blocks) {
            Some(place) => answer(self.devices().read(place.device, at(place), into))?,
            None => false,
        };
        if read {
            self.hasher().hash_blocks(into, &mut full);
        }
        let size = self.hash_size();
        let blocks = into.chunks_exact_mut(BLOCK_SIZE);
        let hashes = fetch.hashes.chunks_exact(size);
        for (n, ((block, hash), kept)) in blocks.zip(full.iter()).zip(hashes).enumerate() {
            if read && hash.0.starts_with(kept) {
                continue;
            }
            let tried = read.then_some(first);
            let mut good = self.mend(fetch, n, kept, block, tried)?;
            let mut now = None;
            while !good {
                let (last, of) = now.as_deref().map_or((fetch, n), |now| (now, 0));
                let Some(next) = self.moved(last, of)? else {
                    let at = fetch.index.saturating_add(n) as u64;
                    return Err(Error::Lost(file, begin.plus(at)));
                };
                good = self.mend(&next, 0, kept, block, None)?;
                now = Some(next);
            }
        }
        Ok(())
    }

    /// How to read one block from where it lies by now, if it was moved since this was planned.
    #[inline(never)] // Its frame is large enough alone.
    fn moved(&self, fetch: &Fetch, n: usize) -> Result<Option<Box<Fetch>>, Error> {
        let at = At {
            engram: fetch.engram,
            block: fetch.first.saturating_add(n),
        };
        match self.site(at) {
            Ok((site, _)) if site.is_same(&fetch.site, n) => Ok(None),
            Ok((site, _)) => {
                let now = Fetch::new(0, 1, (at.engram, at.block), site);
                Ok(Some(Box::try_new(now)?))
            }
            Err(why) if why.is_damage() => Ok(None),
            Err(why) => Err(why),
        }
    }

    /// The first copy on a member that is up to date.
    fn best_copy(&self, fetch: &Fetch) -> usize {
        if fetch.copies() < 2 {
            return 0;
        }
        let present = self.present();
        let is_here = |copy: &usize| {
            fetch
                .place(*copy, 0, 1)
                .is_some_and(|p| present.has(p.device))
        };
        (0..fetch.copies()).find(is_here).unwrap_or(0)
    }

    /// Reads one block from any copy, and writes it over those that are bad. This one was tried, and is bad.
    #[inline(never)] // Its frame is large enough alone.
    fn mend(
        &self,
        fetch: &Fetch,
        n: usize,
        kept: &[u8],
        block: &mut [u8],
        tried: Option<usize>,
    ) -> Result<bool, Error> {
        let mut bad: u32 = tried.map_or(0, |copy| 1u32.wrapping_shl(copy as u32));
        let mut good = false;
        for copy in (0..fetch.copies()).filter(|c| tried != Some(*c)) {
            let Some(place) = fetch.place(copy, n, 1) else {
                continue;
            };
            if answer(self.devices().read(place.device, at(place), block))? {
                let mut hash = [Hash256::default()];
                self.hasher().hash_blocks(block, &mut hash);
                let [Hash256(hash)] = hash;
                if hash.starts_with(kept) {
                    good = true;
                    break;
                }
            }
            bad |= 1u32.wrapping_shl(copy as u32);
        }
        if let Site::Fragment {
            stripe,
            layout,
            fragment,
            row,
        } = &fetch.site
        {
            if !good {
                let lost = (*fragment, row.saturating_add(n));
                good = self.rebuild(*stripe, layout, lost, kept, block)?;
                // Its place was not tried if nothing says where it is.
                bad |= u32::from(layout.place(*fragment).is_some());
            }
        }
        // What died before this was planned may be others' by now.
        if !good || bad == 0 || self.is_read_only() || !self.has(fetch, n) {
            return Ok(good);
        }
        for copy in (0..fetch.copies()).filter(|c| bad.wrapping_shr(*c as u32) & 1 != 0) {
            if let Some(place) = fetch.place(copy, n, 1) {
                self.rewrite(fetch, place, block);
            }
        }
        Ok(true)
    }

    /// Whether one of these blocks has its place still, or gave it up since they were planned: then nobody else has it yet. Of a copied
    /// engram that is moved, what is dead gets none that would be kept for it, though the map tells of one.
    #[inline(never)] // Its frame is large enough alone.
    fn has(&self, fetch: &Fetch, n: usize) -> bool {
        let Site::Copies(part) = &fetch.site else {
            return true;
        };
        let block = fetch.first.saturating_add(n);
        let Ok(map) = self.map(fetch.engram) else {
            return false;
        };
        let live = self.live(fetch.engram, map.blocks);
        map.part(block) == Some(*part) && live.is_ok_and(|live| live.has(block))
    }

    /// Writes what a block held over it: the only case in which data is written where data lies.
    fn rewrite(&self, fetch: &Fetch, place: Extent, block: &[u8]) {
        // Whatever an image says, nothing but data is written over.
        if !self.present().has(place.device) || !self.may_hold(place) {
            return;
        }
        let mut write = [Write::new(place.device, at(place), block)];
        self.devices().write(&mut write);
        let [Write { outcome, .. }] = write;
        let events = self.machine().events();
        match outcome {
            Ok(()) => events.repaired(ENGRAMS, place.device, at(place)),
            Err(why) => {
                events.unrepaired(ENGRAMS, place.device, at(place), why);
                // It is moved by whoever does that next. A device that refuses much is given up.
                let is_noted = || self.refused.lock().note(home_of(fetch, place.device));
                if why != DeviceError::NoMemory && !is_noted() {
                    self.report(Members::default().with(place.device));
                }
            }
        }
    }
}

/// What has to be moved if a device does not let itself be repaired of it.
fn home_of(fetch: &Fetch, device: Slot) -> Lodged {
    match &fetch.site {
        Site::Copies(_) => Lodged::Copy(fetch.engram, device),
        Site::Fragment {
            stripe, fragment, ..
        } => Lodged::Fragment(*stripe, *fragment),
    }
}

/// A copy of a store that its device did not take.
struct Refused {
    store: usize,
    place: Extent,
    why: DeviceError,
}

impl<M: Machine> Given<'_, '_, '_, M> {
    /// Writes the stores from number `from` on to all their places. What a device does not take goes to another one; blocks for which
    /// that cannot be, as their places are an engram's already, are said to have failed.
    pub(super) fn carry_out(
        &mut self,
        mounted: &Mounted<M>,
        from: usize,
    ) -> Result<Vec<usize>, Error> {
        let mut failed = Vec::new();
        let mut bad = Members::default();
        let mut refused = self.send(mounted, |store, _| store >= from)?;
        while !refused.is_empty() {
            let mut moved: Vec<(usize, Extent)> = Vec::new();
            for one in refused.iter() {
                bad = bad.with(one.place.device);
            }
            mounted.report(bad);
            for one in refused.iter() {
                moved.try_reserve(1)?;
                match self.stores.get_mut(one.store) {
                    Some(store) if store.old.is_none() => {
                        if let Some(place) = elsewhere(mounted, store, one, bad)? {
                            moved.push((one.store, place))?;
                        }
                    }
                    _ if failed.contains(&one.store) => {}
                    _ => failed.push(one.store)?,
                }
            }
            refused = self.send(mounted, |store, place| moved.contains(&(store, place)))?;
        }
        Ok(failed)
    }

    /// Sends out all that `which` wants, at once.
    fn send(
        &self,
        mounted: &Mounted<M>,
        which: impl Fn(usize, Extent) -> bool,
    ) -> Result<Vec<Refused>, Error> {
        let mut writes: Vec<Write<'_>> = Vec::new();
        let mut whose: Vec<(usize, Extent)> = Vec::new();
        for (index, store) in self.stores.iter().enumerate() {
            for place in store.used().filter(|place| which(index, **place)) {
                let mut to = at(*place);
                for source in store.sources.iter() {
                    writes.push(Write::new(place.device, to, source.bytes))?;
                    whose.push((index, *place))?;
                    let length = Bytes(source.bytes.len() as u64);
                    to = to.plus(length).unwrap_or(Bytes(u64::MAX));
                }
            }
        }
        mounted.devices().write(&mut writes);
        let mut refused: Vec<Refused> = Vec::new();
        for (write, (store, place)) in writes.iter().zip(whose.iter()) {
            let known = |r: &Refused| r.store == *store && r.place == *place;
            if let Err(why) = write.outcome {
                if why == DeviceError::NoMemory {
                    return Err(Error::Fault(Fault::NoMemory));
                }
                if !refused.iter().any(known) {
                    refused.push(Refused {
                        store: *store,
                        place: *place,
                        why,
                    })?;
                }
            }
        }
        Ok(refused)
    }
}

/// Finds another place for a copy that its device did not take, not on a bad device. None if there is no such place, but there are other
/// copies: fewer are better than none. What was promised the copy goes with it: should all this fail, it is promised again.
fn elsewhere<M: Machine>(
    mounted: &Mounted<M>,
    store: &mut Store<'_>,
    refused: &Refused,
    bad: Members,
) -> Result<Option<Extent>, Error> {
    let Some(here) = store.places.iter().position(|p| *p == refused.place) else {
        return Ok(None);
    };
    // One of those that it was promised, and did not need so far, takes its place.
    let spare = store.places.iter().skip(store.copies);
    let spare = spare.copied().find(|spare| !bad.has(spare.device));
    if let Some(spare) = spare {
        store.places.retain(|place| *place != spare);
        let mut places = store.places.iter_mut().skip(here);
        places.next().into_iter().for_each(|place| *place = spare);
        mounted.space.give_back(refused.place);
        return Ok(Some(spare));
    }
    // The others are on devices that refused something.
    while store.places.len() > store.copies {
        store
            .places
            .pop()
            .into_iter()
            .for_each(|place| mounted.space.give_back(place));
    }
    let taken = |device| store.places.iter().any(|p| p.device == device);
    let blocks = Blocks(store.blocks as u64);
    let new = (mounted.parts().iter().map(|p| p.slot))
        .filter(|slot| !bad.has(*slot) && !taken(*slot))
        .find_map(|slot| mounted.space.allocate(slot, blocks, blocks));
    match new {
        Some(new) => {
            let mut places = store.places.iter_mut().skip(here);
            places.next().into_iter().for_each(|place| *place = new);
        }
        None if store.places.len() > 1 => {
            store.places.remove(here);
        }
        None => {
            let Refused { place, why, .. } = *refused;
            let why = TreeError::Write(place.device, at(place), why);
            return Err(Error::Fault(Fault::Tree(why)));
        }
    }
    mounted.space.give_back(refused.place);
    Ok(new)
}
