// SPDX-License-Identifier: GPL-2.0

//! Members that missed something get what they lack, while the volume is used. From the first step on they are given what is written, as if
//! they were members. Then everything is gone through once: what should lie on them is read and verified, and written again where it
//! is not right, byte by byte as it was; and what has fewer copies than it should, because they were away, gets more. When all that is durable on
//! them, an epoch begins that has them. Until then nothing relies on them: a crash leaves them as stale as they were, and the next
//! time all of it is done again.

use crate::env::write_patiently;
use crate::env::DeviceError;
use crate::env::Devices as _;
use crate::env::Hash256;
use crate::env::Hasher as _;
use crate::env::Write;
use crate::file::plan::Fetch;
use crate::file::plan::Site;
use crate::format::engram;
use crate::format::engram::Live;
use crate::format::engram::Map;
use crate::format::engram::Part;
use crate::format::engram::HASHES;
use crate::format::engram::MAX_PARTS;
use crate::format::geometry::Policy;
use crate::format::journal::Extent;
use crate::format::member::Members;
use crate::format::member::Slot;
use crate::format::pointer::Place;
use crate::format::pointer::Places;
use crate::format::pointer::COPIES;
use crate::format::stripe::Layout;
use crate::names::change::Change;
use crate::names::Error;
use crate::names::Files;
use crate::names::Wrong;
use crate::stripe::known;
use crate::tree::nodes::Expect;
use crate::tree::Key;
use crate::tree::Range;
use crate::tree::TreeError;
use crate::txn::Transaction;
use crate::units::Blocks;
use crate::units::Bytes;
use crate::units::EngramId;
use crate::units::FileBlock;
use crate::units::InodeNo;
use crate::units::StripeId;
use crate::units::Timestamp;
use crate::units::TreeId;
use crate::units::BLOCK_SIZE;
use crate::volume::mounted::Fault;
use crate::volume::mounted::Machine;
use crate::volume::mounted::Mounted;
use crate::volume::mounted::ENGRAMS;
use crate::volume::mounted::SPACE;
use crate::volume::mounted::STRIPES;
use crate::volume::mounted::TREES;
use crate::volume::relief::Patience;
use embr_rt::Box;
use embr_rt::Vec;

/// Leaves of a tree that are looked at in one step.
const LEAVES: usize = 8;

/// How often a stripe is passed that others change meanwhile, and room is looked for that comes back.
const AGAIN: usize = 8;

/// What catching up came to.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct CaughtUp {
    /// Copies of nodes that were written again.
    pub nodes: u64,
    /// Blocks of data and parity that were written again.
    pub blocks: u64,
    /// Engrams and stripes that have more copies, or fragments, than before.
    pub widened: u64,
    /// Nodes, and blocks, that could not be had from anywhere.
    pub lost: u64,
    /// Nodes, engrams and stripes that still survive fewer losses than they should: there is no room for more copies.
    pub below: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Engrams,
    Stripes,
    /// The nodes of the tree with this place among all.
    Nodes(usize),
    /// The same, to see what has too few copies still.
    Count(usize),
    Enter,
    Done,
}

/// How far it is. Dropped, it begins anew the next time, and finds most of it done.
#[derive(Debug)]
pub struct CatchUp {
    who: Members,
    stage: Stage,
    from: Key,
    tally: CaughtUp,
}

impl CatchUp {
    /// Who is caught up.
    pub fn who(&self) -> Members {
        self.who
    }

    /// What was done so far.
    pub fn tally(&self) -> CaughtUp {
        self.tally
    }

    fn enter(&mut self, stage: Stage) {
        (self.stage, self.from) = (stage, Key::MIN);
    }
}

/// What one leaf, and the nodes above that it is the first of, came to.
struct Passed {
    /// Where the next leaf begins.
    next: Option<Key>,
    /// A key by which those are written anew that have too few copies.
    touch: Option<Key>,
}

/// A block that lies on one device.
fn block(extent: Extent, n: usize) -> Option<Bytes> {
    Blocks(extent.start.0.saturating_add(n as u64)).bytes()
}

impl<M: Machine> Files<'_, M> {
    /// Begins to catch up these of the members that are [returning](Mounted::returning): they are given all that is written from now on.
    /// Called with no lock held.
    pub fn begin_catch_up(&self, who: Members) -> Result<CatchUp, Error> {
        let who = Members(who.0 & self.mounted.returning().0);
        if who.count() != 0 {
            self.mounted.join(who)?;
            // What began before, and does not write to them, has committed.
            drop(self.names.changing.lock());
        }
        Ok(CatchUp {
            who,
            stage: match who.count() {
                0 => Stage::Done,
                _ => Stage::Engrams,
            },
            from: Key::MIN,
            tally: CaughtUp::default(),
        })
    }

    /// Does a part of it; says whether there is more. Fails with [`Fault::Members`] where a device failed meanwhile: then it has to be
    /// begun anew, if those that are to be caught up are there still. Called with no lock held.
    pub fn catch_up_some(&self, at: &mut CatchUp) -> Result<bool, Error> {
        if at.stage != Stage::Done && self.mounted.joining() != at.who {
            return Err(Error::Fault(Fault::Members));
        }
        match at.stage {
            Stage::Engrams => self.pass_engrams(at)?,
            Stage::Stripes => self.pass_stripes(at)?,
            Stage::Nodes(tree) => self.pass_nodes(at, tree)?,
            Stage::Count(tree) => self.count_nodes(at, tree)?,
            Stage::Enter => {
                self.mounted.let_in(at.who)?;
                at.enter(Stage::Done);
            }
            Stage::Done => {}
        }
        Ok(at.stage != Stage::Done)
    }

    /// Catches up all members that missed something, with `pause` between two parts. Says who is in, and what it came to.
    pub fn catch_up(&self, pause: &mut dyn FnMut()) -> Result<(Members, CaughtUp), Error> {
        let mut at = self.begin_catch_up(self.mounted.returning())?;
        while self.catch_up_some(&mut at)? {
            pause();
        }
        Ok((at.who, at.tally))
    }

    /// A few leaves of a tree.
    #[inline(never)]
    fn pass_nodes(&self, at: &mut CatchUp, index: usize) -> Result<(), Error> {
        let Some(tree) = TREES.get(index).copied() else {
            // What was touched is written now, and the rest counted.
            self.mounted.checkpoint()?;
            at.enter(Stage::Count(0));
            return Ok(());
        };
        let mut touch = Vec::try_with_capacity(LEAVES)?;
        let mut next = Some(at.from);
        for _ in 0..LEAVES {
            let Some(from) = next else { break };
            let passed = self
                .mounted
                .pass_leaf(at.who, tree, from, Some(&mut at.tally))?;
            if let Some(key) = passed.touch {
                touch.push(key)?;
            }
            next = passed.next;
        }
        for key in touch.iter() {
            self.write_anew(tree, *key)?;
        }
        match next {
            Some(next) => at.from = next,
            None => at.enter(Stage::Nodes(index.saturating_add(1))),
        }
        Ok(())
    }

    #[inline(never)]
    fn count_nodes(&self, at: &mut CatchUp, index: usize) -> Result<(), Error> {
        let Some(tree) = TREES.get(index).copied() else {
            at.enter(Stage::Enter);
            return Ok(());
        };
        let mut next = Some(at.from);
        for _ in 0..LEAVES {
            let Some(from) = next else { break };
            let passed = self.mounted.pass_leaf(at.who, tree, from, None)?;
            let below = u64::from(passed.touch.is_some());
            at.tally.below = at.tally.below.saturating_add(below);
            next = passed.next;
        }
        match next {
            Some(next) => at.from = next,
            None => at.enter(Stage::Count(index.saturating_add(1))),
        }
        Ok(())
    }

    /// The leaf that has this key, and all nodes above it, are written anew with the next root.
    #[inline(never)]
    fn write_anew(&self, tree: TreeId, key: Key) -> Result<(), Error> {
        if tree == SPACE {
            return Ok(self.mounted.space.touch(key)?);
        }
        let mut change = Change::begin_freeing(*self, Timestamp::default())?;
        // A node may have more copies than it had.
        change.takes();
        let txn = change.txn();
        let value: Option<Vec<u8>> = txn.get(tree, key, Vec::try_from_slice)?.transpose()?;
        // What is gone meanwhile changed its leaf already.
        if let Some(value) = value {
            txn.set(tree, key, &value)?;
            match change.commit_alone(()) {
                // Then it stays as it is, and is counted.
                Err(Error::NoSpace | Error::Fault(Fault::NoSpace)) => {}
                done => {
                    done?;
                }
            }
        }
        Ok(())
    }

    /// The next engram.
    #[inline(never)]
    fn pass_engrams(&self, at: &mut CatchUp) -> Result<(), Error> {
        let Some(engram) = self.mounted.first_of(ENGRAMS, at.from)?.map(EngramId) else {
            at.enter(Stage::Stripes);
            return Ok(());
        };
        let is_few = match self.mounted.pass_engram(engram, at) {
            Err(why) if why.is_damage() => false,
            done => done?,
        };
        if is_few {
            match self.copy_more(engram, None) {
                Ok(true) => at.tally.widened = at.tally.widened.saturating_add(1),
                Ok(false) | Err(Error::NoSpace | Error::Fault(Fault::NoSpace)) => {
                    at.tally.below = at.tally.below.saturating_add(1);
                }
                Err(why) if why.is_damage() => {
                    at.tally.below = at.tally.below.saturating_add(1);
                }
                Err(why) => return Err(why),
            }
        }
        match engram.0.checked_add(1) {
            Some(next) => at.from = Key([next, 0, 0]),
            None => at.enter(Stage::Stripes),
        }
        Ok(())
    }

    /// Gives an engram another copy, or several. Says whether it has as many as it should now. Called with no lock held.
    #[inline(never)]
    pub(crate) fn copy_more(
        &self,
        engram: EngramId,
        policy: Option<Policy>,
    ) -> Result<bool, Error> {
        let mut patience = Patience::short();
        for _ in 0..AGAIN {
            let done = self.copy_more_once(engram, policy);
            let is_full = matches!(
                done,
                Ok(false) | Err(Error::NoSpace | Error::Fault(Fault::NoSpace))
            );
            if !is_full || !self.mounted.relieve(&mut patience)? {
                return done;
            }
        }
        Ok(false)
    }

    #[inline(never)]
    fn copy_more_once(&self, engram: EngramId, policy: Option<Policy>) -> Result<bool, Error> {
        let mounted = self.mounted;
        let mut change = Change::begin_freeing(*self, Timestamp::default())?;
        change.takes();
        let mut map = mounted.map(engram)?;
        let volume = mounted.geometry();
        map.policy = map.policy.stronger(policy.unwrap_or(map.policy), volume);
        let losses = map.policy.losses(volume);
        let live = mounted.live(engram, map.blocks)?;
        if !map.is_copied() {
            return Ok(true);
        }
        let Some(parts) = self.widened((engram, &map), &live, losses, change.txn())? else {
            return Ok(false);
        };
        if parts.is_empty() {
            return Err(Error::Engram(engram, Wrong::Disagrees));
        }
        if !map.part_as(&parts)? {
            return Ok(false);
        }
        let key = engram::key(engram, engram::Kind::Map, 0);
        change.txn().set(ENGRAMS, key, &map.encode()?)?;
        change.commit_alone(())?;
        Ok(true)
    }

    /// What lives of an engram, with as many copies as it should have. Where there is no room for all of a part together, it is cut. Nothing
    /// if there is none at all.
    #[inline(never)]
    fn widened(
        &self,
        (engram, map): (EngramId, &Map),
        live: &Live,
        losses: u8,
        txn: &mut Transaction<'_, M>,
    ) -> Result<Option<Vec<Part>>, Error> {
        let mounted = self.mounted;
        let mut parts = Vec::new();
        let mut left = Vec::try_from_iter(map.parts())?;
        left.reverse();
        while let Some(part) = left.pop() {
            let Some(mut part) = part.living(live) else {
                continue;
            };
            while mounted.is_few(&part.places, losses) {
                let Some(more) = mounted.another_place(&part.places, part.blocks) else {
                    break;
                };
                let taken = mounted.fill(engram, (&part, live), more, txn);
                part.places = taken?.ok_or(Error::NoSpace)?;
            }
            if !mounted.is_few(&part.places, losses) {
                parts.push(part)?;
                continue;
            }
            // In more parts than that it cannot lie.
            if parts.len().saturating_add(left.len()) >= MAX_PARTS {
                return Ok(None);
            }
            let Some((first, second)) = part.halves() else {
                return Ok(None);
            };
            left.push(second)?;
            left.push(first)?;
        }
        Ok(Some(parts))
    }

    /// The next stripe.
    #[inline(never)]
    fn pass_stripes(&self, at: &mut CatchUp) -> Result<(), Error> {
        let Some(stripe) = self.mounted.first_of(STRIPES, at.from)?.map(StripeId) else {
            at.enter(Stage::Nodes(0));
            return Ok(());
        };
        let mut is_few = false;
        for _ in 0..AGAIN {
            let before = (at.tally.lost, self.mounted.layout(stripe).ok());
            let done = self.mounted.pass_stripe(stripe, at);
            let is_damage = done.as_ref().is_err_and(Error::is_damage);
            is_few = if is_damage { false } else { done? };
            let is_sound = !is_damage && at.tally.lost == before.0;
            let now = self.mounted.layout(stripe).ok();
            if is_sound || now.as_deref() == before.1.as_deref() {
                break;
            }
            // Somebody revised it meanwhile, or moved a fragment: what was to help lies elsewhere now.
            at.tally.lost = before.0;
        }
        if is_few {
            match self.seal_again(stripe, None)? {
                true => at.tally.widened = at.tally.widened.saturating_add(1),
                false => at.tally.below = at.tally.below.saturating_add(1),
            }
        }
        match stripe.0.checked_add(1) {
            Some(next) => at.from = Key([next, 0, 0]),
            None => at.enter(Stage::Nodes(0)),
        }
        Ok(())
    }
}

impl<M: Machine> Mounted<M> {
    /// The first number at or behind this key that items of a tree begin with, but for zero.
    #[inline(never)]
    fn first_of(&self, tree: TreeId, from: Key) -> Result<Option<u64>, Error> {
        let range = Range {
            first: from.max(Key([1, 0, 0])),
            last: Key::MAX,
        };
        let Some(mut scan) = self.scan(tree, range) else {
            return Ok(None);
        };
        let first = scan.next().map_err(Fault::from)?;
        Ok(first.map(|(Key([number, ..]), _)| number))
    }

    /// Those who are given what is written.
    pub(crate) fn written_to(&self) -> Members {
        Members(self.present().0 | self.joining().0)
    }

    /// Whether these are fewer copies than there should be, as far as there are devices.
    fn is_few(&self, places: &Places, losses: u8) -> bool {
        let on: Members = places.iter().map(|p| p.device).collect();
        let wanted = Self::copies_for(losses, self.written_to().count() as usize);
        (on.count() as usize) < wanted
    }

    /// What of a leaf that begins at this key, or has it, and of nodes above that begin with it, lies on them is right afterwards, if `tally` is
    /// given.
    #[inline(never)]
    fn pass_leaf(
        &self,
        who: Members,
        tree: TreeId,
        from: Key,
        mut tally: Option<&mut CaughtUp>,
    ) -> Result<Passed, Fault> {
        let mut passed = Passed {
            next: None,
            touch: None,
        };
        // What is freed meanwhile stays as it is until this is dropped.
        let base = self.tree(tree).map(|layered| layered.frozen().1);
        let Some(top) = base.as_ref().and_then(|base| base.top) else {
            return Ok(passed);
        };
        let mut is_few = false;
        let (mut pointer, mut expect) = (top.pointer, Expect::root(tree, top.level));
        loop {
            let node = match self.nodes.get_once(&pointer, &expect) {
                Ok(node) => node,
                Err(TreeError::NoMemory) => return Err(Fault::NoMemory),
                Err(_) => {
                    if let Some(tally) = tally {
                        tally.lost = tally.lost.saturating_add(1);
                    }
                    return Ok(passed);
                }
            };
            // The others were passed with their first leaf.
            if from <= expect.range.first {
                is_few |= self.is_few(&pointer.places, self.parity);
                let here = pointer.places.iter().filter(|p| who.has(p.device));
                if let Some(tally) = tally.as_deref_mut() {
                    for place in here {
                        let alike = self.nodes.make_alike(&node, place);
                        let written = self.taken(place.device, alike)?;
                        tally.nodes = tally.nodes.saturating_add(u64::from(written));
                    }
                }
            }
            let at = node.at_or_before(from).unwrap_or(0);
            if node.level().is_leaf() {
                passed.touch = node.key(0).filter(|_| is_few);
                return Ok(passed);
            }
            if let Some(next) = node.child(at.saturating_add(1)) {
                passed.next = Some(next.range.first);
            }
            let Some(child) = node.child(at) else {
                return Ok(passed);
            };
            expect = Expect::child(&node, &child);
            pointer = child.pointer;
        }
    }

    /// What a device answered; if it failed, it is not one of those any more that are given what is written.
    fn taken<T>(&self, device: Slot, answer: Result<T, DeviceError>) -> Result<T, Fault> {
        answer.map_err(|why| match why {
            DeviceError::NoMemory => Fault::NoMemory,
            _ => {
                self.report(Members::default().with(device));
                Fault::Members
            }
        })
    }

    /// Reads blocks that lie together on one device, and says which of those of which a hash is known are not what they should be.
    #[inline(never)]
    fn wrong_blocks(&self, extent: Extent, hashes: &[u8]) -> Result<Vec<usize>, Error> {
        let mut wrong = Vec::new();
        let blocks = extent.blocks.0 as usize;
        let mut bytes = Vec::zeroed(blocks.saturating_mul(BLOCK_SIZE))?;
        let mut real = Vec::try_from_elem(Hash256::default(), blocks)?;
        let at = block(extent, 0).unwrap_or(Bytes(u64::MAX));
        match self.devices().read(extent.device, at, &mut bytes) {
            Ok(()) => self.hasher().hash_blocks(&bytes, &mut real),
            Err(DeviceError::NoMemory) => return Err(Error::Fault(Fault::NoMemory)),
            // Each is tried to be written.
            Err(_) => {}
        }
        let kept = hashes.chunks_exact(self.hash_size().max(1));
        for (n, (real, kept)) in real.iter().zip(kept).enumerate() {
            // Of what was set aside and never written there is none.
            let is_known = kept.iter().any(|byte| *byte != 0);
            if is_known && !real.0.starts_with(kept) {
                wrong.push(n)?;
            }
        }
        Ok(wrong)
    }

    /// Writes what a block held over it: the only case in which data is written where data lies.
    #[inline(never)]
    fn write_over(&self, device: Slot, at: Option<Bytes>, bytes: &[u8]) -> Result<(), Fault> {
        let at = at.unwrap_or(Bytes(u64::MAX));
        let mut write = [Write::new(device, at, bytes)];
        write_patiently(self.devices(), &mut write);
        let [Write { outcome, .. }] = write;
        self.taken(device, outcome)
    }

    /// What of an engram in copies lies on them is right afterwards. Says whether it has too few copies.
    #[inline(never)]
    fn pass_engram(&self, engram: EngramId, at: &mut CatchUp) -> Result<bool, Error> {
        let _pin = self.pin();
        let map = self.map(engram)?;
        if !map.is_copied() {
            return Ok(false);
        }
        let live = self.live(engram, map.blocks)?;
        let losses = map.policy.losses(self.geometry());
        let mut is_few = false;
        for part in map.parts() {
            for (first, blocks) in groups(&live, (part.first, part.blocks)) {
                for extent in part.extents(first, blocks).filter(|e| at.who.has(e.device)) {
                    self.pass_copy((engram, &part), first, extent, &mut at.tally)?;
                }
            }
            is_few |= self.is_few(&part.places, losses);
        }
        Ok(is_few)
    }

    #[inline(never)]
    fn pass_copy(
        &self,
        (engram, part): (EngramId, &Part),
        first: usize,
        extent: Extent,
        tally: &mut CaughtUp,
    ) -> Result<(), Error> {
        let blocks = extent.blocks.0 as usize;
        let Some(hashes) = self.known_hashes(engram, first, blocks)? else {
            return Ok(());
        };
        for n in self.wrong_blocks(extent, &hashes)? {
            let mut bytes = Vec::zeroed(BLOCK_SIZE)?;
            match self.read_copies(engram, part, first.saturating_add(n), &mut bytes) {
                Ok(()) => {
                    self.write_over(extent.device, block(extent, n), &bytes)?;
                    tally.blocks = tally.blocks.saturating_add(1);
                }
                Err(why) if why.is_damage() => tally.lost = tally.lost.saturating_add(1),
                Err(why) => return Err(why),
            }
        }
        Ok(())
    }

    /// What is kept of the hashes of blocks that share an item; none where they were never written.
    #[inline(never)]
    fn known_hashes(
        &self,
        engram: EngramId,
        first: usize,
        blocks: usize,
    ) -> Result<Option<Vec<u8>>, Error> {
        let mut hashes = Vec::new();
        match self.hashes(engram, first, blocks, &mut hashes) {
            Err(why) if why.is_damage() => Ok(None),
            done => done.map(|()| Some(hashes)),
        }
    }

    /// A block of an engram, from whichever copy is sound.
    #[inline(never)]
    fn read_copies(
        &self,
        engram: EngramId,
        part: &Part,
        block: usize,
        into: &mut [u8],
    ) -> Result<(), Error> {
        let fetch = Fetch::new(0, 1, (engram, block), Site::Copies(*part));
        let mut fetch = Box::try_new(fetch)?;
        self.hashes(engram, block, 1, &mut fetch.hashes)?;
        self.fetch(&fetch, into, (InodeNo::NONE, FileBlock(0)))
    }

    /// Room for a copy of so many blocks on a device that has none.
    fn another_place(&self, places: &Places, blocks: usize) -> Option<Extent> {
        let to = self.written_to();
        let all = self.parts().iter().map(|p| p.slot);
        let avoid = all.filter(|slot| !to.has(*slot)).collect();
        let others = places.iter().map(|p| Extent {
            device: p.device,
            start: p.block,
            blocks: Blocks(1),
        });
        let others = Vec::try_from_iter(others).ok()?;
        (self.space).allocate_beside(Blocks(blocks as u64), avoid, &others)
    }

    /// Writes what lives of a part to another place, which was given out for all of it, and takes that. Says where it lies then.
    #[inline(never)]
    fn fill(
        &self,
        engram: EngramId,
        (part, live): (&Part, &Live),
        more: Extent,
        txn: &mut Transaction<'_, M>,
    ) -> Result<Option<Places>, Error> {
        let written = self.write_copy(engram, (part, live), more);
        let mut all = Vec::try_with_capacity(COPIES);
        if let (Ok(()), Ok(all)) = (&written, &mut all) {
            let new = Place {
                device: more.device,
                block: more.start,
            };
            for place in part.places.iter().chain([new]) {
                // There are no more than that.
                let _ = all.push_within_capacity(place);
            }
        }
        let mut end = part.first;
        let some = |from: usize, to: usize| Extent {
            device: more.device,
            start: Blocks((more.start.0).saturating_add(from.saturating_sub(part.first) as u64)),
            blocks: Blocks(to.saturating_sub(from) as u64),
        };
        let mut taken = written;
        for (first, count) in live.runs(part.first, part.blocks) {
            if end < first {
                self.space.give_back(some(end, first));
            }
            end = first.saturating_add(count);
            match taken {
                // If that fails, it goes back.
                Ok(()) => taken = txn.take(some(first, end)).map_err(Error::from),
                Err(_) => self.space.give_back(some(first, end)),
            }
        }
        if end < part.end() {
            self.space.give_back(some(end, part.end()));
        }
        taken?;
        Ok(Places::new(&all?))
    }

    #[inline(never)]
    fn write_copy(
        &self,
        engram: EngramId,
        (part, live): (&Part, &Live),
        to: Extent,
    ) -> Result<(), Error> {
        let mut bytes = Vec::zeroed(BLOCK_SIZE)?;
        for (first, blocks) in groups(live, (part.first, part.blocks)) {
            let Some(hashes) = self.known_hashes(engram, first, blocks)? else {
                continue;
            };
            let kept = hashes.chunks_exact(self.hash_size().max(1));
            for (n, kept) in kept.enumerate() {
                if kept.iter().any(|byte| *byte != 0) {
                    let from = first.saturating_add(n);
                    self.read_copies(engram, part, from, &mut bytes)?;
                    let within = from.saturating_sub(part.first);
                    self.write_over(to.device, block(to, within), &bytes)?;
                }
            }
        }
        Ok(())
    }

    /// What of a stripe lies on them is right afterwards. Says whether too few of its fragments lie anywhere.
    #[inline(never)]
    fn pass_stripe(&self, stripe: StripeId, at: &mut CatchUp) -> Result<bool, Error> {
        let _pin = self.pin();
        let layout = self.layout(stripe)?;
        let all = 0..layout.shape.width();
        let there = all.clone().filter(|f| layout.place(*f).is_some()).count();
        for fragment in all {
            let extent = known::extent(&layout, fragment, 0, layout.shape.length(fragment));
            if let Some(extent) = extent.filter(|e| at.who.has(e.device)) {
                self.pass_fragment((stripe, &layout, fragment), extent, &mut at.tally)?;
            }
        }
        let least = |losses| layout.shape.data().saturating_add(usize::from(losses));
        if there >= least(self.parity) {
            return Ok(false);
        }
        let policy = self.policy_of(stripe, &layout)?;
        Ok(there < least(policy.losses(self.geometry())))
    }

    #[inline(never)]
    fn pass_fragment(
        &self,
        (stripe, layout, fragment): (StripeId, &Layout, usize),
        extent: Extent,
        tally: &mut CaughtUp,
    ) -> Result<(), Error> {
        let mut hashes = Vec::new();
        self.fragment_hashes(stripe, layout, fragment, &mut hashes)?;
        let mut bytes = Vec::zeroed(BLOCK_SIZE)?;
        for row in self.wrong_blocks(extent, &hashes)? {
            let size = self.hash_size();
            let from = row.saturating_mul(size);
            let hash = hashes.get(from..from.saturating_add(size));
            let hash = hash.unwrap_or_default();
            if self.rebuild(stripe, layout, (fragment, row), hash, &mut bytes)? {
                self.write_over(extent.device, block(extent, row), &bytes)?;
                tally.blocks = tally.blocks.saturating_add(1);
            } else {
                tally.lost = tally.lost.saturating_add(1);
            }
        }
        Ok(())
    }
}

/// Those of these blocks that live, as many together as share an item of hashes.
fn groups(
    live: &Live,
    (first, blocks): (usize, usize),
) -> impl Iterator<Item = (usize, usize)> + '_ {
    let end = first.saturating_add(blocks);
    let whole = first.saturating_sub(first % HASHES);
    (whole..end).step_by(HASHES).flat_map(move |group| {
        let from = group.max(first);
        let to = group.saturating_add(HASHES).min(end);
        live.runs(from, to.saturating_sub(from))
    })
}
