// SPDX-License-Identifier: GPL-2.0

//! Writing blocks of a file: data goes to the devices first, then one transaction says where it is.

use super::edit::follows;
use super::edit::Edit;
use super::edit::PER_DEAD;
use super::edit::PER_GONE;
use super::plan::map;
use super::plan::together;
use super::plan::Given;
use super::plan::Source;
use super::plan::Store;
use super::regular;
use super::striped::Striped;
use super::window::At;
use super::window::State;
use super::Dirty;
use super::Way;
use super::Written;
use super::END;
use super::MAX_SIZE;
use super::WINDOW_BLOCKS;
use crate::engram;
use crate::format::engram::Owner;
use crate::format::engram::HASHES;
use crate::format::engram::MAX_BLOCKS;
use crate::format::extent::WINDOW;
use crate::format::geometry::Policy;
use crate::names::change::Change;
use crate::names::Done;
use crate::names::Error;
use crate::names::Files;
use crate::names::Wrong;
use crate::space::promise::Promise;
use crate::stripe::seal::cost_of_new;
use crate::txn::Transaction;
use crate::units::Blocks;
use crate::units::FileBlock;
use crate::units::InodeNo;
use crate::units::Timestamp;
use crate::units::BLOCK_SIZE;
use crate::volume::mounted::Machine;
use crate::volume::mounted::Mounted;
use embr_rt::Vec;

/// Of so few blocks no stripes are made where there was no room for the nodes of more.
const MODEST: usize = HASHES;

/// What of some blocks, which are in order, is still to be written.
#[derive(Clone, Copy, Debug)]
pub struct Rest<'d, 'a> {
    dirty: &'d [Dirty<'a>],
    /// Blocks of the first that are written.
    done: usize,
}

impl<'d, 'a> Rest<'d, 'a> {
    /// All of it.
    pub fn new(dirty: &'d [Dirty<'a>]) -> Self {
        Rest { dirty, done: 0 }
    }

    /// How many blocks they are.
    pub fn blocks(&self) -> Blocks {
        let all = |n: u64, d: &Dirty<'_>| n.saturating_add(d.blocks());
        Blocks(
            self.dirty
                .iter()
                .fold(0, all)
                .saturating_sub(self.done as u64),
        )
    }

    /// The next blocks, at most so many, of one window.
    fn peek(&self, most: usize) -> Option<Source<'a>> {
        let first = self.dirty.first()?;
        let source = Source {
            at: first.at,
            bytes: first.bytes,
        };
        let (_, rest) = source.split(self.done);
        let in_window = WINDOW.saturating_sub((rest.at.0 % WINDOW_BLOCKS) as usize);
        Some(rest.split(most.min(in_window)).0)
    }

    fn take(&mut self, blocks: usize) {
        self.done = self.done.saturating_add(blocks);
        while let Some((first, rest)) = self.dirty.split_first() {
            let length = first.bytes.len() / BLOCK_SIZE;
            if self.done < length {
                break;
            }
            self.done = self.done.saturating_sub(length);
            self.dirty = rest;
        }
    }

    /// The next blocks, at most so many, as far as they lie one behind the other.
    fn runs(&self, most: u64) -> impl Iterator<Item = (FileBlock, FileBlock)> + 'd {
        let (mut skipped, mut left) = (self.done as u64, most);
        self.dirty.iter().map_while(move |dirty| {
            let from = dirty.at.plus(core::mem::take(&mut skipped));
            let blocks = dirty.end().0.saturating_sub(from.0).min(left);
            left = left.saturating_sub(blocks);
            (blocks != 0).then(|| (from, from.plus(blocks)))
        })
    }

    /// The first block that is not written.
    fn at(&self) -> Option<FileBlock> {
        let first = self.dirty.first()?;
        Some(first.at.plus(self.done as u64))
    }
}

impl<M: Machine> Files<'_, M> {
    /// Writes blocks; `dirty` is in order. Where one transaction does not hold all, several do it, the first blocks first, and the size
    /// never passes what is not written yet.
    pub fn write(
        &self,
        file: InodeNo,
        dirty: &[Dirty<'_>],
        way: Way,
        written: &Written,
    ) -> Result<Done<()>, Error> {
        let mut rest = Rest::new(dirty);
        let mut promise = self.promise(rest.blocks())?;
        self.write_under(file, &mut rest, way, written, &mut promise)
    }

    /// As [`Self::write`], with room that was promised: so it does not fail for want of space. What it does not need stays promised,
    /// and so does, when it fails, what is left of `rest`: whoever was short of memory calls again with both.
    #[inline(never)]
    pub fn write_under(
        &self,
        file: InodeNo,
        rest: &mut Rest<'_, '_>,
        way: Way,
        written: &Written,
        promise: &mut Promise,
    ) -> Result<Done<()>, Error> {
        let dirty = rest.dirty;
        let ordered = dirty.iter().zip(dirty.iter().skip(1));
        let whole = |d: &Dirty<'_>| !d.bytes.is_empty() && d.bytes.len() % BLOCK_SIZE == 0;
        if !dirty.iter().all(whole) || !ordered.into_iter().all(|(a, b)| a.end() <= b.at) {
            return Err(Error::Invalid);
        }
        let size = written.size.unwrap_or_default();
        if size > MAX_SIZE || dirty.last().is_some_and(|d| d.end() > END) {
            return Err(Error::TooBig);
        }
        self.settle(file)?;
        self.write_rest(file, rest, way, written, promise)
    }

    #[inline(never)] // Its frame is large enough alone.
    fn write_rest(
        &self,
        file: InodeNo,
        rest: &mut Rest<'_, '_>,
        way: Way,
        written: &Written,
        promise: &mut Promise,
    ) -> Result<Done<()>, Error> {
        let mut most = MAX_BLOCKS;
        loop {
            for (from, to) in rest.runs(most as u64) {
                self.thin_out(file, from, to)?;
            }
            match self.write_some(file, rest, (way, most), written, promise) {
                // On a full volume, only one block is sure to find room for its nodes.
                Err(Error::NoSpace) if most > 1 => most = (most / 4).max(1),
                done if rest.at().is_none() => return done,
                done => {
                    done?;
                }
            }
        }
    }

    /// Writes what one transaction holds.
    #[inline(never)]
    fn write_some(
        &self,
        file: InodeNo,
        rest: &mut Rest<'_, '_>,
        way: (Way, usize),
        written: &Written,
        promise: &mut Promise,
    ) -> Result<Done<()>, Error> {
        let mut change = Change::begin(*self, Timestamp::default())?;
        let mut later = *rest;
        match put_some(&mut change, file, &mut later, way, written, promise) {
            Ok(()) => {
                let done = change.commit_under((), promise)?;
                let blocks = rest.blocks().0.saturating_sub(later.blocks().0);
                self.names.tally.lock().wrote(blocks);
                *rest = later;
                Ok(done)
            }
            Err(why) => {
                change.give_up_under(promise);
                Err(why)
            }
        }
    }
}

fn put_some<M: Machine>(
    change: &mut Change<'_, M>,
    file: InodeNo,
    rest: &mut Rest<'_, '_>,
    (way, most): (Way, usize),
    written: &Written,
    promise: &mut Promise,
) -> Result<(), Error> {
    regular(change.inode(file)?)?;
    match way {
        Way::Inline => inline_some(change, file, rest, most)?,
        Way::Sealed => sealed_some(change, file, (rest, most), promise)?,
    }
    note(change, file, written, rest.at())
}

/// What the inode says of a write of which everything before `until` is done.
#[inline(never)]
pub(super) fn note<M: Machine>(
    change: &mut Change<'_, M>,
    file: InodeNo,
    written: &Written,
    until: Option<FileBlock>,
) -> Result<(), Error> {
    let times = [written.modified, written.changed];
    if times.iter().flatten().any(|t| t.nanos >= 1_000_000_000) {
        return Err(Error::Invalid);
    }
    if written.size.is_none() && times.iter().flatten().next().is_none() {
        return Ok(());
    }
    let inode = change.inode_mut(file)?;
    if let Some(mut size) = written.size {
        if let Some(until) = until {
            size = size.min(until.start());
        }
        inode.size = inode.size.max(size);
    }
    inode.modified = written.modified.unwrap_or(inode.modified);
    inode.changed = written.changed.unwrap_or(inode.changed);
    Ok(())
}

/// Puts as many blocks as fit into the tree.
#[inline(never)] // Its frame is large enough alone.
fn inline_some<M: Machine>(
    change: &mut Change<'_, M>,
    file: InodeNo,
    rest: &mut Rest<'_, '_>,
    most: usize,
) -> Result<(), Error> {
    let mut edit = Edit::new(change, file);
    let mut left = most;
    while let Some(source) = rest.peek(left).filter(|_| left != 0) {
        left = left.saturating_sub(source.blocks());
        edit.load(source.at, source.at.plus(source.blocks() as u64))?;
        for (n, block) in source.bytes.chunks_exact(BLOCK_SIZE).enumerate() {
            if !edit.has_room(BLOCK_SIZE.saturating_add(64)) {
                return edit.finish();
            }
            edit.put_inline(source.at.plus(n as u64), block)?;
            rest.take(1);
        }
    }
    edit.finish()
}

/// What the next transaction writes.
struct Part<'a> {
    sources: Vec<Source<'a>>,
    blocks: usize,
    /// Bytes of the journal that it takes, at most.
    price: usize,
    /// What a block takes at most that lies alone.
    each: usize,
    window: Option<u64>,
}

impl<'a> Part<'a> {
    /// Takes the next blocks in if there is room for them; says how many.
    fn add<M: Machine>(
        &mut self,
        edit: &mut Edit<'_, '_, M>,
        source: Source<'a>,
    ) -> Result<bool, Error> {
        edit.load(source.at, source.at.plus(source.blocks() as u64))?;
        let number = source.at.0 / WINDOW_BLOCKS;
        let mut price = match self.window == Some(number) {
            true => 64,
            false => edit.price(source.at)?,
        };
        let mut version = 0usize;
        while let Some(released) = released(edit, &source, version)? {
            price = price.saturating_add(released);
            version = version.saturating_add(1);
        }
        // Each block may be a part of its own.
        price = price.saturating_add(self.price);
        price = price.saturating_add(source.blocks().saturating_mul(self.each));
        if !self.sources.is_empty() && !edit.has_room(price) {
            return Ok(false);
        }
        self.price = price;
        self.window = Some(number);
        self.blocks = self.blocks.saturating_add(source.blocks());
        self.push(source)?;
        Ok(true)
    }

    fn push(&mut self, source: Source<'a>) -> Result<(), Error> {
        Ok(self.sources.push(source)?)
    }
}

/// Bytes of the journal that it takes, at most, to give back what one of the file's own versions says of blocks; none if there are not so
/// many.
#[inline(never)]
fn released<M: Machine>(
    edit: &mut Edit<'_, '_, M>,
    source: &Source<'_>,
    version: usize,
) -> Result<Option<usize>, Error> {
    let mut price = 0usize;
    let mut before: Option<At> = None;
    for n in 0..source.blocks() {
        let Some(said) = edit.said(source.at.plus(n as u64), version)? else {
            return Ok(None);
        };
        price = price.saturating_add(match said {
            State::Inline => PER_GONE,
            said => match said.at() {
                Some(at) if !follows(before, at) => PER_DEAD.saturating_add(edit.weight_of(at)?),
                _ => 0,
            },
        });
        before = said.at();
    }
    Ok(Some(price))
}

/// Writes as many blocks to devices as one engram and one transaction take.
#[inline(never)] // Its frame is large enough alone.
fn sealed_some<M: Machine>(
    change: &mut Change<'_, M>,
    file: InodeNo,
    rest: (&mut Rest<'_, '_>, usize),
    promise: &mut Promise,
) -> Result<(), Error> {
    let policy = change.inode(file)?.policy;
    let mut given = Given::new(change.files.mounted, policy, promise);
    let mut edit = Edit::new(change, file);
    let mut striped = Striped::none(Vec::new(), policy);
    let mut done = send(&mut edit, rest, &mut striped, &mut given);
    if done.is_ok() {
        done = adopt_all(&mut edit, &mut given);
    }
    if done.is_ok() {
        done = striped.adopt(&mut edit);
    }
    if done.is_err() {
        // What the transaction took of them is empty by now.
        striped.give_up(given.promise);
        return done;
    }
    edit.finish()
}

/// Finds places for the next blocks, and writes them there.
#[inline(never)] // Its frame is large enough alone.
fn send<'m, 'a, M: Machine>(
    edit: &mut Edit<'_, 'm, M>,
    (rest, most): (&mut Rest<'_, 'a>, usize),
    striped: &mut Striped<'m, 'a, M>,
    given: &mut Given<'_, 'a, '_, M>,
) -> Result<(), Error> {
    let mounted = edit.change.files.mounted;
    let sources = gather(edit, rest, most)?;
    striped.left = set_aside(edit, &sources, given)?;
    // Copies are noted in fewer items.
    if most > MODEST {
        striped.seal(mounted, Some(given.promise))?;
    }
    given.place(&striped.left)?;
    carry_out(mounted, given)
}

/// What was written as copies is the file's from now on.
#[inline(never)] // Its frame is large enough alone.
fn adopt_all<M: Machine>(
    edit: &mut Edit<'_, '_, M>,
    given: &mut Given<'_, '_, '_, M>,
) -> Result<(), Error> {
    let Given {
        promise,
        stores,
        policy,
        ..
    } = given;
    let mut rest = stores.as_mut_slice();
    while !rest.is_empty() {
        let (now, later) = rest.split_at_mut(together(rest));
        // What the transaction took is empty then.
        adopt(edit, now, *policy, promise)?;
        rest = later;
    }
    stores.clear();
    Ok(())
}

/// Takes as many blocks as one engram and one transaction take.
#[inline(never)] // Its frame is large enough alone.
fn gather<'a, M: Machine>(
    edit: &mut Edit<'_, '_, M>,
    rest: &mut Rest<'_, 'a>,
    most: usize,
) -> Result<Vec<Source<'a>>, Error> {
    let mounted = edit.change.files.mounted;
    let policy = edit.change.inode(edit.file)?.policy;
    let losses = policy.losses(mounted.geometry());
    let price = engram::cost_of_new(MAX_BLOCKS, mounted.hash_size(), 1);
    let mut part: Part<'a> = Part {
        sources: Vec::new(),
        blocks: 0,
        price: price.saturating_add(cost_of_new(mounted)),
        each: engram::cost_of_part(usize::from(losses).saturating_add(1)),
        window: None,
    };
    while let Some(source) = rest.peek(most.saturating_sub(part.blocks)) {
        if source.blocks() == 0 || !part.add(edit, source)? {
            break;
        }
        rest.take(source.blocks());
    }
    Ok(part.sources)
}

/// Writes copies. Where places that were set aside do not take them, they get new ones.
#[inline(never)] // Its frame is large enough alone.
fn carry_out<M: Machine>(
    mounted: &Mounted<M>,
    given: &mut Given<'_, '_, '_, M>,
) -> Result<(), Error> {
    let failed = given.carry_out(mounted, 0)?;
    if failed.is_empty() {
        return Ok(());
    }
    let mut again = Vec::new();
    for index in failed.iter() {
        if let Some(store) = given.stores.get_mut(*index) {
            again.try_append(&mut store.sources)?;
            store.blocks = 0;
        }
    }
    given.stores.retain(|store| store.blocks != 0);
    let from = given.stores.len();
    given.place(&again)?;
    given.carry_out(mounted, from)?;
    Ok(())
}

/// From now on the file has these blocks there, one after the other.
pub(super) fn put_all<M: Machine>(
    edit: &mut Edit<'_, '_, M>,
    sources: &[Source<'_>],
    mut at: At,
) -> Result<(), Error> {
    for source in sources.iter() {
        for n in 0..source.blocks() {
            edit.put(source.at.plus(n as u64), State::Raw(at))?;
            at = at.plus(1);
        }
    }
    Ok(())
}

/// Plans writing to places that were set aside. Returns what has none.
#[inline(never)]
fn set_aside<'a, M: Machine>(
    edit: &mut Edit<'_, '_, M>,
    sources: &[Source<'a>],
    given: &mut Given<'_, 'a, '_, M>,
) -> Result<Vec<Source<'a>>, Error> {
    let mounted = edit.change.files.mounted;
    let present = mounted.written_to();
    let mut fresh: Vec<Source<'a>> = Vec::new();
    for source in sources.iter() {
        let mut rest = *source;
        while rest.blocks() != 0 {
            let own = |edit: &mut Edit<'_, '_, M>, n: usize| -> Result<Option<At>, Error> {
                Ok(match edit.own(rest.at.plus(n as u64))? {
                    State::Unwritten(at) => Some(at),
                    _ => None,
                })
            };
            let first = own(edit, 0)?;
            let mut count = 1;
            while count < rest.blocks() && own(edit, count)? == first.map(|at| at.plus(count)) {
                count = count.saturating_add(1);
            }
            let mut part = None;
            if let Some(at) = first {
                let bad = Error::Engram(at.engram, Wrong::Disagrees);
                let here = mounted.map(at.engram)?.part(at.block).ok_or(bad)?;
                count = count.min(here.end().saturating_sub(at.block));
                part = Some((at, here));
            }
            let (now, later) = rest.split(count);
            match part {
                Some((at, part)) => {
                    let mut store = Store::try_new(mounted, Vec::try_from_slice(&[now])?)?;
                    let places = part.extents(at.block, store.blocks);
                    // Who is no member any more gets nothing.
                    let places = places.filter(|p| present.has(p.device));
                    store.places = Vec::try_from_iter(places)?;
                    store.old = Some(at);
                    match store.places.is_empty() {
                        true => fresh.push(now)?,
                        false => given.stores.push(store)?,
                    }
                }
                None => fresh.push(now)?,
            }
            rest = later;
        }
    }
    Ok(fresh)
}

/// What stores hold is the file's from now on: one of what was set aside, or those of a new engram.
#[inline(never)] // Its frame is large enough alone.
fn adopt<M: Machine>(
    edit: &mut Edit<'_, '_, M>,
    stores: &mut [Store<'_>],
    policy: Policy,
    promise: &mut Promise,
) -> Result<(), Error> {
    let files = edit.change.files;
    let mut at = match stores {
        [Store {
            old: Some(at),
            places,
            hashes,
            ..
        }] => {
            let map = files.mounted.map(at.engram)?;
            let txn = edit.change.txn();
            for place in places.iter() {
                txn.rely_on(place.device);
            }
            engram::learn(txn, at.engram, &map, at.block, hashes)?;
            *at
        }
        _ => {
            let engram = files.names.engrams.lock().give(files.mounted)?;
            let map = map(stores, policy)?;
            let (mut sources, mut hashes) = (Vec::new(), Vec::new());
            for store in stores.iter() {
                sources.try_extend_from_slice(&store.sources)?;
                hashes.try_extend_from_slice(&store.hashes)?;
            }
            let owners = owners(&sources, edit.file)?;
            let txn = edit.change.txn();
            engram::create(txn, engram, &map, &hashes, &owners)?;
            for store in stores.iter_mut() {
                take(txn, store, promise)?;
            }
            At { engram, block: 0 }
        }
    };
    for store in stores.iter() {
        put_all(edit, &store.sources, at)?;
        at = at.plus(store.blocks);
    }
    Ok(())
}

/// The transaction takes the places of a store.
fn take<M: Machine>(
    txn: &mut Transaction<'_, M>,
    store: &mut Store<'_>,
    promise: &mut Promise,
) -> Result<(), Error> {
    let places = core::mem::take(&mut store.places);
    txn.take_promised(promise, &places)?;
    // All of it comes back to the promise if this comes to nothing; so what is too much is given out, and freed.
    for place in places.iter().skip(store.copies) {
        txn.free(*place)?;
    }
    Ok(())
}

/// Whose these blocks are.
pub(super) fn owners(sources: &[Source<'_>], inode: InodeNo) -> Result<Vec<(usize, Owner)>, Error> {
    let mut owners: Vec<(usize, Owner)> = Vec::new();
    let mut first = 0usize;
    for source in sources.iter() {
        let blocks = source.blocks();
        let last = owners.last_mut().map(|(_, owner)| owner);
        match last.filter(|o| o.at.plus(o.blocks as u64) == source.at) {
            Some(last) => last.blocks = last.blocks.saturating_add(blocks),
            None => owners.push((
                first,
                Owner {
                    blocks,
                    inode,
                    at: source.at,
                },
            ))?,
        }
        first = first.saturating_add(blocks);
    }
    Ok(owners)
}
