// SPDX-License-Identifier: GPL-2.0

//! A stripe from its places to the transaction that names it. [`Open`]: places are given out. [`Sealed`]: payload is in it, with parity and
//! hashes. [`Written`]: its devices took it, and only then a transaction may name it; no group of the journal that does is written before
//! they are flushed, so it is durable with the first one. Whatever goes wrong on the way, the places go back.

use super::Shape;
use crate::env::DeviceError;
use crate::env::Devices as _;
use crate::env::Field as _;
use crate::env::Hash256;
use crate::env::Hasher as _;
use crate::env::Write;
use crate::file::plan::Source;
use crate::format::engram::HASHES;
use crate::format::engram::MAX_BLOCKS;
use crate::format::geometry::Policy;
use crate::format::journal::Extent;
use crate::format::member::Members;
use crate::format::pointer::Place;
use crate::format::stripe;
use crate::format::stripe::encode_contents;
use crate::format::stripe::encode_live;
use crate::format::stripe::hashes_sub;
use crate::format::stripe::Class;
use crate::format::stripe::Held;
use crate::format::stripe::Kind;
use crate::format::stripe::Layout;
use crate::names::Error;
use crate::space::promise::Promise;
use crate::stripe::books;
use crate::stripe::books::Sums;
use crate::stripe::shape::MAX_FRAGMENTS;
use crate::txn::Transaction;
use crate::units::Blocks;
use crate::units::Bytes;
use crate::units::StripeId;
use crate::units::BLOCK_SIZE;
use crate::volume::mounted::Fault;
use crate::volume::mounted::Machine;
use crate::volume::mounted::Mounted;
use crate::volume::mounted::STRIPES;
use core::array;
use embr_rt::Box;
use embr_rt::Vec;

/// Rows of a stripe, at most, as long as nobody asks for more: so many bytes of a fragment lie together.
pub(crate) const ROWS: usize = 64;
/// Blocks of payload that are sealed at once, at most.
pub(crate) const MOST: usize = MAX_BLOCKS;

/// What a stripe has in memory. Its places go back unless a transaction takes them.
struct Body<'m, 'a, M: Machine> {
    mounted: &'m Mounted<M>,
    class: Class,
    shape: Shape,
    places: Vec<Extent>,
    /// Blocks of a promise that were paid for them.
    paid: Blocks,
    sources: Vec<Source<'a>>,
    /// Block by block.
    payload: Vec<&'a [u8]>,
    /// All parity fragments, one after the other.
    parity: Vec<u8>,
    /// What is kept of the hashes of the payload, and of the parity.
    hashes: Vec<u8>,
    parity_hashes: Vec<u8>,
}

/// A stripe with nothing in it yet.
pub(crate) struct Open<'m, 'a, M: Machine>(Box<Body<'m, 'a, M>>);

/// A stripe that is complete, in memory.
pub(crate) struct Sealed<'m, 'a, M: Machine>(Box<Body<'m, 'a, M>>);

/// A stripe of which every device took its fragment.
pub(crate) struct Written<'m, 'a, M: Machine>(Box<Body<'m, 'a, M>>);

/// A stripe that came to nothing, and why: these devices refused a fragment, or something else failed.
pub(crate) struct Spoilt<'m, 'a, M: Machine>(Box<Body<'m, 'a, M>>, Result<Members, Error>);

impl<'m, 'a, M: Machine> Open<'m, 'a, M> {
    /// A stripe for the first blocks of these, as many as make one on devices that are not among `avoid`. It takes its places out of this
    /// promise, if there is one: what was paid is promised again where it is given up. None where there is no room; of what was promised,
    /// for two data fragments: then copies will do.
    #[inline(never)] // Its frame is large enough alone.
    pub(crate) fn try_new(
        mounted: &'m Mounted<M>,
        (sources, policy): (&[Source<'a>], Policy),
        avoid: Members,
        promise: Option<&mut Promise>,
    ) -> Result<Option<Self>, Error> {
        let all = sources.iter().map(Source::blocks);
        let most = all.fold(0, usize::saturating_add).min(MOST);
        let geometry = policy.geometry(mounted.geometry());
        let Some(shape) = Shape::cut(geometry, most) else {
            return Ok(None);
        };
        let class = match &promise {
            Some(_) => Class::Fresh,
            None => Class::Moved,
        };
        let mut body = Box::try_new(Body {
            mounted,
            class,
            shape,
            places: Vec::try_with_capacity(MAX_FRAGMENTS)?,
            paid: Blocks(0),
            sources: Vec::new(),
            payload: Vec::new(),
            parity: Vec::new(),
            hashes: Vec::new(),
            parity_hashes: Vec::new(),
        })?;
        let (space, most) = (&mounted.space, (most, ROWS));
        let places = &mut body.places;
        let given = match promise {
            Some(promise) => space.allocate_stripe(geometry, most, avoid, (promise, places))?,
            None => {
                let shape = space.allocate_moved(geometry, most, avoid, places)?;
                shape.map(|shape| (shape, Blocks(0)))
            }
        };
        Ok(given.map(|(shape, paid)| {
            (body.shape, body.paid) = (shape, paid);
            Open(body)
        }))
    }

    /// Blocks that go into it.
    pub(crate) fn blocks(&self) -> usize {
        self.0.shape.blocks()
    }

    /// Puts the first blocks of these in, with their parity.
    #[inline(never)] // Its frame is large enough alone.
    pub(crate) fn seal(
        self,
        sources: &[Source<'a>],
    ) -> Result<Sealed<'m, 'a, M>, Spoilt<'m, 'a, M>> {
        let Open(mut body) = self;
        let gathered = body.gather(sources);
        let done = gathered
            .and_then(|()| body.bundle())
            .and_then(|()| body.hash());
        match done {
            Ok(()) => Ok(Sealed(body)),
            Err(why) => Err(Spoilt(body, Err(why))),
        }
    }
}

impl<'m, 'a, M: Machine> Sealed<'m, 'a, M> {
    /// Sends it to its devices.
    pub(crate) fn write(self) -> Result<Written<'m, 'a, M>, Spoilt<'m, 'a, M>> {
        let Sealed(body) = self;
        match body.carry_out() {
            Ok(refused) if refused == Members::default() => Ok(Written(body)),
            why => Err(Spoilt(body, why)),
        }
    }
}

impl<M: Machine> Spoilt<'_, '_, M> {
    /// What was paid for it is promised again. Says why it came to nothing.
    pub(crate) fn give_up(self, promise: Option<&mut Promise>) -> Result<Members, Error> {
        let Spoilt(mut body, why) = self;
        if let Some(promise) = promise {
            body.give_up(promise);
        }
        why
    }
}

impl<'a, M: Machine> Written<'_, 'a, M> {
    /// How it is cut.
    pub(crate) fn shape(&self) -> &Shape {
        &self.0.shape
    }

    /// Blocks of a promise that were paid for it.
    pub(crate) fn paid(&self) -> Blocks {
        self.0.paid
    }

    /// What is in it.
    pub(crate) fn sources(&self) -> &[Source<'a>] {
        &self.0.sources
    }

    /// What is kept of the hashes of that.
    pub(crate) fn hashes(&self) -> &[u8] {
        &self.0.hashes
    }

    /// It comes to nothing, unless a transaction took it: what was paid for it is promised again.
    pub(crate) fn give_up(mut self, promise: &mut Promise) {
        self.0.give_up(promise);
    }

    /// From now on it is there: `held` are the blocks of engrams that its payload is, one run after the other, and so many of them live.
    #[inline(never)] // Its frame is large enough alone.
    pub(crate) fn take(
        &mut self,
        txn: &mut Transaction<'_, M>,
        stripe: StripeId,
        held: &[Held],
        live: usize,
    ) -> Result<(), Error> {
        let body = &mut *self.0;
        let shape = body.shape;
        let layout = body.layout()?;
        let mut set =
            |kind, sub, value: &[u8]| txn.set_new(STRIPES, stripe::key(stripe, kind, sub), value);
        set(Kind::Layout, 0, &layout)?;
        set(Kind::Live, 0, &encode_live(live))?;
        let mut rest = Cutter::new(held);
        for fragment in 0..shape.data() {
            let held = rest.cut(shape.length(fragment))?;
            set(Kind::Contents, fragment, &encode_contents(&held)?)?;
        }
        body.note_hashes(txn, stripe)?;
        let mut sums = Sums::default();
        sums.change(txn, (stripe, &shape), None, Some(live))?;
        sums.finish(txn)?;
        txn.take_stripe(&body.places, body.paid)?;
        body.places.clear();
        body.paid = Blocks(0);
        Ok(())
    }
}

impl<'a, M: Machine> Body<'_, 'a, M> {
    fn give_up(&mut self, promise: &mut Promise) {
        let places = core::mem::take(&mut self.places);
        let paid = core::mem::take(&mut self.paid);
        self.mounted.space.give_back_stripe(promise, &places, paid);
    }

    fn gather(&mut self, sources: &[Source<'a>]) -> Result<(), Error> {
        let mut missing = self.shape.blocks();
        for source in sources.iter() {
            let (now, _) = source.split(missing);
            if now.blocks() == 0 {
                break;
            }
            missing = missing.saturating_sub(now.blocks());
            self.sources.push(now)?;
            self.payload
                .try_extend(now.bytes.chunks_exact(BLOCK_SIZE))?;
        }
        Ok(())
    }

    /// Bytes of a parity fragment.
    fn parity_bytes(&self) -> usize {
        self.shape.rows().saturating_mul(BLOCK_SIZE)
    }

    /// Row by row: all parity of a row stays in the nearest cache.
    #[inline(never)] // Its frame is large enough alone.
    fn bundle(&mut self) -> Result<(), Error> {
        let length = self.parity_bytes();
        let shape = self.shape;
        self.parity
            .try_resize(length.saturating_mul(shape.parity()), 0)?;
        let field = self.mounted.field();
        for row in 0..shape.rows() {
            let block = |fragment: usize| match row < shape.length(fragment) {
                true => {
                    let at = shape.begin(fragment).saturating_add(row);
                    self.payload.get(at).copied().unwrap_or_default()
                }
                false => &[],
            };
            let data: [&[u8]; MAX_FRAGMENTS] = array::from_fn(block);
            let data = data.get(..shape.data()).unwrap_or_default();
            let skip = row.saturating_mul(BLOCK_SIZE);
            let mut rows = self
                .parity
                .chunks_exact_mut(length)
                .filter_map(|fragment| fragment.get_mut(skip..skip.saturating_add(BLOCK_SIZE)));
            match [rows.next(), rows.next(), rows.next(), rows.next()] {
                [Some(a), None, ..] => field.bundle(data, &mut [a]),
                [Some(a), Some(b), None, _] => field.bundle(data, &mut [a, b]),
                [Some(a), Some(b), Some(c), None] => field.bundle(data, &mut [a, b, c]),
                [Some(a), Some(b), Some(c), Some(d)] => field.bundle(data, &mut [a, b, c, d]),
                [None, ..] => {}
            }
        }
        Ok(())
    }

    #[inline(never)] // Its frame is large enough alone.
    fn hash(&mut self) -> Result<(), Error> {
        let size = self.mounted.hash_size();
        let hasher = self.mounted.hasher();
        let mut full: Vec<Hash256> = Vec::new();
        let mut keep = |bytes: &[u8], out: &mut Vec<u8>| -> Result<(), Error> {
            full.clear();
            full.try_resize(bytes.len() / BLOCK_SIZE, Hash256::default())?;
            hasher.hash_blocks(bytes, &mut full);
            for hash in full.iter() {
                out.try_extend_from_slice(hash.0.get(..size).unwrap_or_default())?;
            }
            Ok(())
        };
        for source in self.sources.iter() {
            keep(source.bytes, &mut self.hashes)?;
        }
        keep(&self.parity, &mut self.parity_hashes)
    }

    /// Writes it out. Says which devices did not take what they were given.
    #[inline(never)] // Its frame is large enough alone.
    fn carry_out(&self) -> Result<Members, Error> {
        let mut writes: Vec<Write<'_>> = Vec::new();
        let at = |place: &Extent| place.start.bytes().unwrap_or(Bytes(u64::MAX));
        for (fragment, place) in self.places.iter().enumerate() {
            if fragment >= self.shape.data() {
                break;
            }
            let (mut skip, mut missing) = (self.shape.begin(fragment), self.shape.length(fragment));
            let mut to = at(place);
            for source in self.sources.iter() {
                let (before, rest) = source.split(skip);
                let (now, _) = rest.split(missing);
                skip = skip.saturating_sub(before.blocks());
                missing = missing.saturating_sub(now.blocks());
                if now.blocks() != 0 {
                    writes.push(Write::new(place.device, to, now.bytes))?;
                    let length = Bytes(now.bytes.len() as u64);
                    to = to.plus(length).unwrap_or(Bytes(u64::MAX));
                }
            }
        }
        let parity = self.places.iter().skip(self.shape.data());
        for (place, bytes) in parity.zip(self.parity.chunks_exact(self.parity_bytes())) {
            writes.push(Write::new(place.device, at(place), bytes))?;
        }
        self.mounted.devices().write(&mut writes);
        let mut refused = Members::default();
        for write in writes.iter() {
            match write.outcome {
                Ok(()) => {}
                Err(DeviceError::NoMemory) => return Err(Error::Fault(Fault::NoMemory)),
                Err(_) => refused = refused.with(write.device),
            }
        }
        Ok(refused)
    }

    /// The item that says how it is cut, and where it lies.
    #[inline(never)] // Its frame is large enough alone.
    fn layout(&self) -> Result<Vec<u8>, Error> {
        let place = |extent: &Extent| Place {
            device: extent.device,
            block: extent.start,
        };
        let sealed = self.mounted.space.next();
        let layout = Layout::new(
            self.shape,
            self.class,
            sealed,
            self.places.iter().map(place),
        );
        Ok(layout.ok_or(Error::Fault(Fault::NoSpace))?.encode()?)
    }

    #[inline(never)] // Its frame is large enough alone.
    fn note_hashes(&self, txn: &mut Transaction<'_, M>, stripe: StripeId) -> Result<(), Error> {
        let size = self.mounted.hash_size();
        let of_fragment = self.shape.rows().saturating_mul(size).max(1);
        for (parity, hashes) in self.parity_hashes.chunks(of_fragment).enumerate() {
            let group = HASHES.saturating_mul(size).max(1);
            for (n, hashes) in hashes.chunks(group).enumerate() {
                let mut value = Vec::try_from_slice(&[stripe::VERSION])?;
                value.try_extend_from_slice(hashes)?;
                let sub = hashes_sub(parity, n.saturating_mul(HASHES));
                txn.set_new(STRIPES, stripe::key(stripe, Kind::Hashes, sub), &value)?;
            }
        }
        Ok(())
    }
}

impl<M: Machine> Drop for Body<'_, '_, M> {
    fn drop(&mut self) {
        for extent in self.places.iter() {
            self.mounted.space.give_back(*extent);
        }
    }
}

/// Cuts runs of engrams' blocks into shorter ones.
pub(crate) struct Cutter<'h> {
    held: &'h [Held],
    /// Blocks of the first that are cut off.
    done: usize,
}

impl<'h> Cutter<'h> {
    pub(crate) fn new(held: &'h [Held]) -> Self {
        Cutter { held, done: 0 }
    }

    /// The runs of the next blocks.
    pub(crate) fn cut(&mut self, blocks: usize) -> Result<Vec<Held>, Error> {
        let mut out = Vec::new();
        let mut missing = blocks;
        while let Some((first, rest)) = self.held.split_first().filter(|_| missing != 0) {
            let left = first.blocks.saturating_sub(self.done);
            let count = left.min(missing);
            out.push(Held {
                first: first.first.saturating_add(self.done),
                blocks: count,
                ..*first
            })?;
            missing = missing.saturating_sub(count);
            self.done = self.done.saturating_add(count);
            if count == left {
                (self.held, self.done) = (rest, 0);
            }
        }
        Ok(out)
    }
}

/// Bytes of the journal that a new stripe of a volume takes, at most.
pub(crate) fn cost_of_new<M: Machine>(mounted: &Mounted<M>) -> usize {
    let geometry = mounted.geometry();
    if geometry.data() < 2 {
        return 0;
    }
    let (data, parity) = (usize::from(geometry.data()), usize::from(geometry.parity()));
    let fragments = data.saturating_add(parity);
    // The layout and the number that live; places; contents, a run of one engram in each; hashes.
    let own = 160usize.saturating_add(fragments.saturating_mul(8 + 24));
    let contents = data.saturating_mul(40 + 2 * 10);
    let group = HASHES
        .saturating_mul(mounted.hash_size())
        .saturating_add(36);
    let hashes = parity.saturating_mul(ROWS / HASHES).saturating_mul(group);
    let books = books::COST.saturating_add(books::SUMS);
    own.saturating_add(contents)
        .saturating_add(hashes)
        .saturating_add(books)
}
