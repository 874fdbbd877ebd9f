// SPDX-License-Identifier: GPL-2.0

//! What is to be read from or written to which bytes of which device, and which hashes it has. Trees are looked
//! into, and places given out, while a plan is made; data is read and written where plans are carried out.

use super::window::At;
use super::window::State;
use super::window::Windows;
use super::END;
use crate::env::Hash256;
use crate::env::Hasher as _;
use crate::format::engram::Map;
use crate::format::engram::Part;
use crate::format::engram::MAX_BLOCKS;
use crate::format::engram::MAX_PARTS;
use crate::format::geometry::Policy;
use crate::format::inline;
use crate::format::intent::Intent;
use crate::format::journal::Extent;
use crate::format::pointer::Place;
use crate::format::pointer::Places;
use crate::format::pointer::COPIES;
use crate::format::stripe::Layout;
use crate::names::item::Item;
use crate::names::item::Kind;
use crate::names::Error;
use crate::names::Files;
use crate::names::Wrong;
use crate::space::promise::Promise;
use crate::stripe::known;
use crate::units::Blocks;
use crate::units::EngramId;
use crate::units::FileBlock;
use crate::units::InodeNo;
use crate::units::StripeId;
use crate::units::BLOCK_SIZE;
use crate::volume::mounted::Fault;
use crate::volume::mounted::Machine;
use crate::volume::mounted::Mounted;
use crate::volume::mounted::Pin;
use crate::volume::mounted::ENGRAMS;
use embr_rt::Box;
use embr_rt::Vec;

/// Blocks to be read that lie together.
#[derive(Debug)]
pub struct Fetch {
    /// The block of the buffer that the first of them goes to.
    pub index: usize,
    /// How many they are.
    pub blocks: usize,
    /// Of which engram they are.
    pub engram: EngramId,
    /// Their first one, in the engram.
    pub first: usize,
    /// Where they lie.
    pub site: Site,
    /// What is kept of the hash of each, one after the other.
    pub hashes: Vec<u8>,
    /// How many there may be: as many as lie together.
    limit: usize,
}

/// Where blocks lie.
#[derive(Debug)]
pub enum Site {
    /// In each of several copies of their engram: in this part of it.
    Copies(Part),
    /// In a fragment of a stripe, from this row on. They can be had from other fragments as well.
    Fragment {
        /// The stripe.
        stripe: StripeId,
        /// How it is cut and where it lies.
        layout: Box<Layout>,
        /// The fragment, one of data.
        fragment: usize,
        /// The row of the first of them.
        row: usize,
    },
}

impl Site {
    /// Whether it is where the same blocks lie, so many after its first.
    pub(super) fn is_same(&self, other: &Site, n: usize) -> bool {
        match (self, other) {
            (Site::Copies(part), Site::Copies(other)) => part == other,
            (
                Site::Fragment {
                    stripe,
                    layout,
                    fragment,
                    row,
                },
                Site::Fragment {
                    stripe: of,
                    layout: before,
                    fragment: other,
                    row: first,
                },
            ) => {
                let row = (*fragment, *row) == (*other, first.saturating_add(n));
                stripe == of && row && **layout == **before
            }
            _ => false,
        }
    }
}

impl Fetch {
    /// Blocks of an engram that lie here together, with no hashes yet.
    pub(crate) fn new(
        index: usize,
        blocks: usize,
        (engram, first): (EngramId, usize),
        site: Site,
    ) -> Self {
        Fetch {
            index,
            blocks,
            engram,
            first,
            site,
            hashes: Vec::new(),
            limit: blocks,
        }
    }

    /// How many copies there are.
    pub fn copies(&self) -> usize {
        match &self.site {
            Site::Copies(part) => part.places.count(),
            Site::Fragment { .. } => 1,
        }
    }

    /// Where a copy of `blocks` blocks lies, from block `from` of these on. The copy to be read first is 0; engrams begin with
    /// different devices.
    pub fn place(&self, copy: usize, from: usize, blocks: usize) -> Option<Extent> {
        let part = match &self.site {
            Site::Copies(part) => part,
            Site::Fragment {
                layout,
                fragment,
                row,
                ..
            } => {
                let row = row.saturating_add(from);
                return known::extent(layout, *fragment, row, blocks);
            }
        };
        let turn = (self.engram.0 as usize).wrapping_add(copy);
        let copy = turn.checked_rem(self.copies())?;
        let first = self.first.saturating_add(from);
        part.extents(first, blocks).nth(copy)
    }
}

/// What fills a buffer. While it is held, the blocks that it names are not used for anything else.
pub struct Reading {
    /// What is to be read; the rest of the buffer is filled already.
    pub fetches: Vec<Fetch>,
    _pin: Pin,
}

/// How often a plan is made again because what it found was gone: something was removed, or is not said of the same again.
pub(super) const AGAIN: usize = 8;

impl<M: Machine> Files<'_, M> {
    /// Fills of `into`, which is whole blocks, what needs no device, zeros included, and says what is to be read for the rest.
    pub fn plan_read(
        &self,
        file: InodeNo,
        at: FileBlock,
        into: &mut [u8],
    ) -> Result<Reading, Error> {
        self.steady(file, |intent| self.plan_with(intent, file, at, into))
    }

    /// As [`Self::plan_read`], while this is being done with the file.
    pub(super) fn plan_with(
        &self,
        intent: Option<Intent>,
        file: InodeNo,
        at: FileBlock,
        into: &mut [u8],
    ) -> Result<Reading, Error> {
        // An engram of which nobody names anything any more goes in the transaction that took the last name away; of others, what is dead
        // may lie nowhere once they were moved. Who looks again finds another name then, or what is wrong is wrong still.
        let mut before = self.mounted.removals(ENGRAMS);
        let mut last: Option<Error> = None;
        for _ in 0..AGAIN {
            let planned = self.plan_once(intent.as_ref(), file, at, into);
            let now = self.mounted.removals(ENGRAMS);
            let why = planned
                .as_ref()
                .err()
                .filter(|why| why.is_damage())
                .copied();
            if why.is_none() || now == before && why == last {
                return planned;
            }
            (before, last) = (now, why);
        }
        self.plan_once(intent.as_ref(), file, at, into)
    }

    #[inline(never)]
    fn plan_once(
        &self,
        intent: Option<&Intent>,
        file: InodeNo,
        at: FileBlock,
        into: &mut [u8],
    ) -> Result<Reading, Error> {
        if into.len() % BLOCK_SIZE != 0 {
            return Err(Error::Invalid);
        }
        into.fill(0);
        let mut reading = Reading {
            // Before anything is looked up: what is freed later stays as it is.
            _pin: self.mounted.pin(),
            fetches: Vec::new(),
        };
        let end = at.plus((into.len() / BLOCK_SIZE) as u64).min(END);
        let mut from = at;
        while from < end {
            let (stored, blocks) = match intent {
                Some(intent) => intent.stored(from),
                None => (Some(from), u64::MAX),
            };
            let to = from.plus(blocks).min(end);
            if let Some(stored) = stored {
                let index = from.0.saturating_sub(at.0) as usize;
                let count = to.0.saturating_sub(from.0);
                self.plan_stored(
                    file,
                    (stored, stored.plus(count)),
                    index,
                    into,
                    &mut reading,
                )?;
            }
            from = to;
        }
        for fetch in reading.fetches.iter_mut() {
            let Fetch { first, blocks, .. } = *fetch;
            let hashes = &mut fetch.hashes;
            self.mounted.hashes(fetch.engram, first, blocks, hashes)?;
        }
        Ok(reading)
    }

    /// Plans reading the blocks from one to before the other, which go to block `index` of the buffer on.
    #[inline(never)] // Its frame is large enough alone.
    fn plan_stored(
        &self,
        file: InodeNo,
        (from, to): (FileBlock, FileBlock),
        index: usize,
        into: &mut [u8],
        reading: &mut Reading,
    ) -> Result<(), Error> {
        let mut windows = Windows::new(*self, file, from, to)?;
        while let Some(window) = windows.next()? {
            for (block, n) in window.blocks(from, to) {
                let cell = window.cell(n);
                let index = index.saturating_add(block.0.saturating_sub(from.0) as usize);
                match cell.state {
                    State::Raw(at) => self.plan_raw(at, index, &mut reading.fetches)?,
                    State::Inline => {
                        let of =
                            |(i, version, _): &&(usize, _, _)| *i == n && *version == cell.version;
                        let value = window.inline.iter().find(of).map(|(.., value)| value);
                        let item = Item::new(file, Kind::INLINE, block.0);
                        let bytes = value.and_then(|value| inline::parse(value));
                        let bytes = bytes.ok_or(Error::damaged(item, Wrong::Senseless))?;
                        let begin = index.saturating_mul(BLOCK_SIZE);
                        for (to, from) in into.iter_mut().skip(begin).zip(bytes) {
                            *to = *from;
                        }
                    }
                    State::Nothing | State::Hole | State::Unwritten(_) => {}
                }
            }
        }
        Ok(())
    }

    fn plan_raw(&self, at: At, index: usize, fetches: &mut Vec<Fetch>) -> Result<(), Error> {
        if let Some(last) = fetches.last_mut() {
            let follows = last.engram == at.engram
                && last.first.saturating_add(last.blocks) == at.block
                && last.index.saturating_add(last.blocks) == index;
            if follows && last.blocks < last.limit {
                last.blocks = last.blocks.saturating_add(1);
                return Ok(());
            }
        }
        let (site, limit) = self.mounted.site(at)?;
        fetches.push(Fetch {
            index,
            blocks: 1,
            engram: at.engram,
            first: at.block,
            site,
            hashes: Vec::new(),
            limit,
        })?;
        Ok(())
    }
}

impl<M: Machine> Mounted<M> {
    /// Where a block of an engram lies, and how many from it on lie there together.
    #[inline(never)] // Its frame is large enough alone.
    pub(crate) fn site(&self, at: At) -> Result<(Site, usize), Error> {
        let mut map = self.map(at.engram)?;
        loop {
            let site = self.site_by(&map, at);
            if !matches!(site, Err(Error::Stripe(_, Wrong::Missing))) {
                return site;
            }
            // It may have been moved since the map was read.
            let now = self.map(at.engram)?;
            if now == map {
                return site;
            }
            map = now;
        }
    }

    #[inline(never)] // Its frame is large enough alone.
    fn site_by(&self, map: &Map, at: At) -> Result<(Site, usize), Error> {
        let bad = Error::Engram(at.engram, Wrong::Disagrees);
        let behind = map.blocks.checked_sub(at.block).filter(|n| *n != 0);
        let behind = behind.ok_or(bad)?;
        if map.is_copied() {
            let part = map.part(at.block).ok_or(bad)?;
            let here = part.end().saturating_sub(at.block);
            return Ok((Site::Copies(part), behind.min(here)));
        }
        let piece = map.piece(at.block).ok_or(bad)?;
        let layout = self.layout(piece.stripe)?;
        let within = at.block.saturating_sub(piece.first);
        let position = piece.at.saturating_add(within);
        if position >= layout.shape.blocks() {
            return Err(bad);
        }
        let (fragment, row) = layout.shape.place(position);
        let rows = layout.shape.length(fragment).saturating_sub(row);
        let limit = piece.end().saturating_sub(at.block).min(rows);
        let site = Site::Fragment {
            stripe: piece.stripe,
            layout,
            fragment,
            row,
        };
        Ok((site, limit))
    }
}

/// Blocks of a file that lie together in memory.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// The first of them.
    pub at: FileBlock,
    /// What they are to hold.
    pub bytes: &'a [u8],
}

impl<'a> Source<'a> {
    /// How many blocks they are.
    pub fn blocks(&self) -> usize {
        self.bytes.len() / BLOCK_SIZE
    }

    /// The first so many of them, and the others.
    pub fn split(&self, blocks: usize) -> (Source<'a>, Source<'a>) {
        let bytes = blocks.saturating_mul(BLOCK_SIZE);
        let (a, b) = self
            .bytes
            .split_at_checked(bytes)
            .unwrap_or((self.bytes, &[]));
        let rest = Source {
            at: self.at.plus(blocks as u64),
            bytes: b,
        };
        (Source { bytes: a, ..*self }, rest)
    }
}

/// Blocks to be written that lie together, on each of several devices.
#[derive(Debug)]
pub struct Store<'a> {
    /// Where they lie, and behind that what they were promised and do not need.
    pub places: Vec<Extent>,
    /// How many of these places they need.
    pub copies: usize,
    /// How many they are.
    pub blocks: usize,
    /// What they hold, one after the other.
    pub sources: Vec<Source<'a>>,
    /// What is kept of the hash of each, one after the other.
    pub hashes: Vec<u8>,
    /// Where in an engram that is there already; else it is a new one.
    pub(super) old: Option<At>,
}

impl<'a> Store<'a> {
    /// These blocks, hashed, with no place yet.
    pub(super) fn try_new<M: Machine>(
        mounted: &Mounted<M>,
        sources: Vec<Source<'a>>,
    ) -> Result<Self, Error> {
        let mut store = Store {
            places: Vec::new(),
            copies: COPIES,
            blocks: 0,
            sources,
            hashes: Vec::new(),
            old: None,
        };
        let size = mounted.hash_size();
        let mut full: Vec<Hash256> = Vec::new();
        for source in store.sources.iter() {
            full.clear();
            full.try_resize(source.blocks(), Hash256::default())?;
            mounted.hasher().hash_blocks(source.bytes, &mut full);
            for hash in full.iter() {
                let kept = hash.0.get(..size).unwrap_or_default();
                store.hashes.try_extend_from_slice(kept)?;
            }
            store.blocks = store.blocks.saturating_add(source.blocks());
        }
        Ok(store)
    }
}

impl Store<'_> {
    /// Where they are written.
    pub(super) fn used(&self) -> impl Iterator<Item = &Extent> + '_ {
        self.places.iter().take(self.copies)
    }
}

/// How many of these stores are one engram: each is a part of it. Where free space is in pieces, they would be many.
pub(super) fn together(stores: &[Store<'_>]) -> usize {
    let mut blocks = 0usize;
    let fits = |store: &&Store<'_>| {
        blocks = blocks.saturating_add(store.blocks);
        store.old.is_none() && blocks <= MAX_BLOCKS
    };
    let fresh = stores.iter().take(MAX_PARTS).take_while(fits);
    fresh.count().max(1)
}

/// Where the engram of these stores lies.
pub(super) fn map(stores: &[Store<'_>], policy: Policy) -> Result<Map, Error> {
    let mut parts: Vec<Part> = Vec::new();
    for store in stores {
        let mut places = Vec::new();
        for extent in store.used() {
            places.push(Place {
                device: extent.device,
                block: extent.start,
            })?;
        }
        parts.push(Part {
            first: parts.last().map_or(0, Part::end),
            blocks: store.blocks,
            places: Places::new(&places).ok_or(Error::Fault(Fault::NoSpace))?,
        })?;
    }
    let none = Error::Fault(Fault::NoSpace);
    let (first, last) = (parts.first().ok_or(none)?, parts.last().ok_or(none)?);
    let mut map = Map::copied(last.end(), policy, first.places);
    match map.part_as(&parts)? {
        true => Ok(map),
        false => Err(Error::Fault(Fault::TooLarge)),
    }
}

/// Blocks that were given out of a promise for a plan: they are promised again unless they are taken over.
pub(super) struct Given<'m, 'a, 'p, M: Machine> {
    mounted: &'m Mounted<M>,
    /// How much it is to survive.
    pub(super) policy: Policy,
    pub(super) promise: &'p mut Promise,
    pub(super) stores: Vec<Store<'a>>,
}

impl<'m, 'a, 'p, M: Machine> Given<'m, 'a, 'p, M> {
    pub(super) fn new(mounted: &'m Mounted<M>, policy: Policy, promise: &'p mut Promise) -> Self {
        Given {
            mounted,
            policy,
            promise,
            stores: Vec::new(),
        }
    }

    /// Finds places for these blocks, in as few pieces as free space allows.
    pub(super) fn place(&mut self, sources: &[Source<'a>]) -> Result<(), Error> {
        let mut rest = sources.iter().copied();
        let mut next = rest.next();
        let blocks = sources
            .iter()
            .fold(0usize, |n, s| n.saturating_add(s.blocks()));
        let first = self.stores.len();
        self.reserve(blocks)?;
        for store in self.stores.iter_mut().skip(first) {
            let mut some = Vec::new();
            let mut missing = store.blocks;
            while let Some(source) = next.filter(|_| missing != 0) {
                let (now, later) = source.split(missing);
                missing = missing.saturating_sub(now.blocks());
                some.push(now)?;
                next = match later.blocks() {
                    0 => rest.next(),
                    _ => Some(later),
                };
            }
            let places = core::mem::take(&mut store.places);
            match Store::try_new(self.mounted, some) {
                Ok(full) => {
                    *store = Store {
                        places,
                        copies: store.copies,
                        ..full
                    }
                }
                Err(why) => {
                    store.places = places;
                    return Err(why);
                }
            }
        }
        Ok(())
    }

    /// Finds places for so many blocks that hold nothing yet.
    pub(super) fn reserve(&mut self, blocks: usize) -> Result<(), Error> {
        let losses = self.policy.losses(self.mounted.geometry());
        let mut left = blocks;
        while left != 0 {
            let most = left.min(MAX_BLOCKS);
            self.stores.try_reserve(1)?;
            let mut places = Vec::new();
            let given =
                self.mounted
                    .allocate_promised(self.promise, Blocks(most as u64), &mut places)?;
            let blocks = (given.0 as usize).min(most);
            self.stores.push(Store {
                places,
                copies: usize::from(losses).saturating_add(1),
                blocks,
                sources: Vec::new(),
                hashes: Vec::new(),
                old: None,
            })?;
            left = left.saturating_sub(blocks);
        }
        Ok(())
    }
}

impl<M: Machine> Drop for Given<'_, '_, '_, M> {
    fn drop(&mut self) {
        for store in self.stores.iter().filter(|s| s.old.is_none()) {
            self.mounted.give_back_to(self.promise, &store.places);
        }
    }
}
