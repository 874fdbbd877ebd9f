// SPDX-License-Identifier: GPL-2.0

//! A revision: where all that died of a stripe was in one of its fragments, what lies in copies elsewhere takes its place. That fragment
//! and all parity are written to new places, the others stay, and one transaction says so. Parity changes by what changed, so the
//! other fragments are not even read. Nothing is written where something lies.

use super::choose::candidates;
use super::choose::together;
use super::choose::Home;
use super::choose::Victim;
use super::loose::Walk;
use super::relocate::Room;
use super::swap::join;
use super::Cargo;
use super::Moved;
use super::Worth;
use crate::env::Field as _;
use crate::env::Hash256;
use crate::env::Hasher as _;
use crate::field::Element;
use crate::format::engram;
use crate::format::engram::Lies;
use crate::format::engram::Map;
use crate::format::engram::Piece;
use crate::format::geometry::Policy;
use crate::format::journal::Extent;
use crate::format::member::Members;
use crate::format::pointer::Place;
use crate::format::stripe;
use crate::format::stripe::encode_contents;
use crate::format::stripe::encode_live;
use crate::format::stripe::hashes_sub;
use crate::format::stripe::Held;
use crate::format::stripe::Kind;
use crate::format::stripe::Layout;
use crate::format::stripe::GRADES;
use crate::format::stripe::HASHES;
use crate::names::change::Begun;
use crate::names::change::Change;
use crate::names::Error;
use crate::names::Files;
use crate::names::Wrong;
use crate::stripe::books::Sums;
use crate::stripe::code::revise;
use crate::stripe::known;
use crate::txn::Transaction;
use crate::units::Blocks;
use crate::units::EngramId;
use crate::units::StripeId;
use crate::units::Timestamp;
use crate::units::BLOCK_SIZE;
use crate::volume::mounted::Machine;
use crate::volume::mounted::Mounted;
use crate::volume::mounted::ENGRAMS;
use crate::volume::mounted::STRIPES;
use embr_rt::Box;
use embr_rt::Vec;

/// Stripes that are looked at, at most.
const LOOKED: usize = 16;
/// Engrams that are moved into one, in eights.
const EIGHTS: usize = 8;

/// A block of an engram.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Block {
    engram: EngramId,
    block: usize,
}

/// A stripe of which one fragment has all the dead blocks.
struct Hollow {
    /// How much it is to survive.
    policy: Policy,
    stripe: StripeId,
    layout: Box<Layout>,
    fragment: usize,
    /// What the fragment holds, row by row.
    rows: Vec<Block>,
    /// Which rows are dead.
    dead: Vec<usize>,
    /// Engrams that have something in the stripe.
    engrams: usize,
}

/// What is written of a stripe.
struct Revised {
    /// The fragment, and all parity, one after the other.
    bytes: Vec<u8>,
    parity: Vec<u8>,
}

/// What is filled, and with what.
type Picked = (Box<Hollow>, Vec<Victim>);

/// What is done.
struct Plan {
    hollow: Box<Hollow>,
    cargo: Box<Cargo>,
    revised: Revised,
}

impl<M: Machine> Files<'_, M> {
    /// Moves copies to where something died of a stripe, if there are enough of them: half of the fragment's rows, as then it is cheaper
    /// than any other way to gain as much. Says nothing where there is no such stripe, or not enough to fill it with.
    #[inline(never)]
    pub(super) fn refill(&self, walk: &mut Walk, worth: &Worth) -> Result<Option<Moved>, Error> {
        walk.alone = false;
        walk.begin(*self)?;
        let Some(plan) = self.plan_refill(walk, worth)? else {
            return Ok(None);
        };
        let gained = self.put_revised(&plan, walk)?;
        walk.go_on();
        Ok(gained)
    }

    /// What is written, and where that comes from.
    #[inline(never)]
    fn plan_refill(&self, walk: &mut Walk, worth: &Worth) -> Result<Option<Box<Plan>>, Error> {
        // Before anything is looked up: what is freed later stays as it is until it was read.
        let _pin = self.mounted.pin();
        let Some((hollow, fitting)) = self.pick(walk, worth)? else {
            return Ok(None);
        };
        let Some(cargo) = self.load(fitting)? else {
            return Ok(None);
        };
        let revised = self.revised(&hollow, &cargo)?;
        Ok(Some(Box::try_new(Plan {
            hollow,
            cargo,
            revised,
        })?))
    }

    /// A stripe that something died of, and what fits there.
    #[inline(never)] // Its frame is large enough alone.
    fn pick(&self, walk: &mut Walk, worth: &Worth) -> Result<Option<Picked>, Error> {
        let geometry = self.mounted.geometry();
        if geometry.data() < 2 || geometry.parity() == 0 {
            return Ok(None);
        }
        let Some(hollow) = self.find_hollow()? else {
            return Ok(None);
        };
        walk.stay();
        let batch = self.choose_loose(EIGHTS, walk, worth.below)?;
        if batch.live() < worth.least {
            return Ok(None);
        }
        let most = together(&self.mounted.space.reserve()).saturating_sub(hollow.engrams);
        let (mut fitting, mut blocks) = (Vec::new(), 0usize);
        for victim in batch.victims {
            let all = blocks.saturating_add(victim.live());
            let is_other = victim.policy.losses(geometry) != hollow.policy.losses(geometry);
            if is_other || all > hollow.dead.len() || fitting.len() >= most {
                victim.engrams.iter().for_each(|first| walk.stop_at(*first));
                break;
            }
            blocks = all;
            fitting.push(victim)?;
        }
        let is_worth_it = blocks.saturating_mul(2) >= hollow.rows.len();
        Ok(is_worth_it.then_some((hollow, fitting)))
    }

    /// The first of the stripes that waste room of which one fragment, and only that, has dead blocks, in half of its rows at least.
    #[inline(never)] // Its frame is large enough alone.
    fn find_hollow(&self) -> Result<Option<Box<Hollow>>, Error> {
        for stripe in candidates(self.mounted, LOOKED, GRADES)?.iter() {
            match self.hollow(*stripe) {
                Ok(Some(hollow)) => return Ok(Some(hollow)),
                Ok(None) => {}
                Err(why) if why.is_damage() => {}
                Err(why) => return Err(why),
            }
        }
        Ok(None)
    }

    #[inline(never)] // Its frame is large enough alone.
    fn hollow(&self, stripe: StripeId) -> Result<Option<Box<Hollow>>, Error> {
        let mounted = self.mounted;
        let layout = mounted.layout(stripe)?;
        let mut found: Option<(usize, Vec<Block>, Vec<usize>)> = None;
        let mut engrams: Vec<EngramId> = Vec::new();
        for fragment in 0..layout.shape.data() {
            let (mut rows, mut dead) = (Vec::new(), Vec::new());
            for held in mounted.contents(stripe, &layout, fragment)?.iter() {
                if let Err(at) = engrams.binary_search(&held.engram) {
                    engrams.insert(at, held.engram)?;
                }
                let map = mounted.map(held.engram)?;
                let live = mounted.live(held.engram, map.blocks)?;
                for block in held.first..held.first.saturating_add(held.blocks) {
                    if !live.has(block) {
                        dead.push(rows.len())?;
                    }
                    let engram = held.engram;
                    rows.push(Block { engram, block })?;
                }
            }
            if dead.is_empty() {
                continue;
            }
            if found.is_some() || dead.len().saturating_mul(2) < rows.len() {
                return Ok(None);
            }
            found = Some((fragment, rows, dead));
        }
        let Some((fragment, rows, dead)) = found else {
            return Ok(None);
        };
        // Of one that is dead altogether nothing has to stay.
        let mut places = (0..layout.shape.width()).map(|f| layout.place(f));
        if dead.len() == layout.shape.blocks() || places.any(|place| place.is_none()) {
            return Ok(None);
        }
        Ok(Some(Box::try_new(Hollow {
            policy: mounted.policy_of(stripe, &layout)?,
            stripe,
            layout,
            fragment,
            rows,
            dead,
            engrams: engrams.len(),
        })?))
    }

    /// The fragment with what takes the place of the dead, and parity with the difference.
    #[inline(never)] // Its frame is large enough alone.
    fn revised(&self, hollow: &Hollow, cargo: &Cargo) -> Result<Revised, Error> {
        let mounted = self.mounted;
        let layout = &hollow.layout;
        let read = |fragment| mounted.read_fragment(hollow.stripe, layout, fragment);
        let mut revised = Revised {
            bytes: read(hollow.fragment)?,
            parity: Vec::new(),
        };
        for fragment in layout.shape.data()..layout.shape.width() {
            revised.parity.try_extend_from_slice(&read(fragment)?)?;
        }
        let length = layout.shape.rows().saturating_mul(BLOCK_SIZE).max(1);
        let mut difference = Vec::zeroed(BLOCK_SIZE)?;
        for (row, new) in hollow.dead.iter().zip(cargo.bytes.chunks_exact(BLOCK_SIZE)) {
            let begin = row.saturating_mul(BLOCK_SIZE);
            let range = begin..begin.saturating_add(BLOCK_SIZE);
            let bad = Error::Stripe(hollow.stripe, Wrong::Disagrees);
            let old = revised.bytes.get_mut(range.clone()).ok_or(bad)?;
            difference.copy_from_slice(old);
            mounted
                .field()
                .add_product(Element::ONE, new, &mut difference);
            for (j, parity) in revised.parity.chunks_exact_mut(length).enumerate() {
                let parity = parity.get_mut(range.clone()).unwrap_or_default();
                revise(mounted.field(), (hollow.fragment, j), &difference, parity);
            }
            old.copy_from_slice(new);
        }
        Ok(revised)
    }

    /// Writes it to new places, which are the stripe's from then on. Says what that gained.
    #[inline(never)]
    fn put_revised(&self, plan: &Plan, walk: &Walk) -> Result<Option<Moved>, Error> {
        let mut room = Room::new(self.mounted);
        let layout = self.write_revised(plan, &mut room)?;
        let mut change = Change::begin_freeing(*self, Timestamp::default())?;
        if !self.is_as_it_was(&plan.hollow)? {
            return Ok(None);
        }
        self.say_revised(plan, &layout, &mut change)?;
        let txn = change.txn();
        txn.set_divisible(true);
        walk.note(txn)?;
        room.take_all(txn)?;
        change.commit_alone(())?;
        let cargo = &plan.cargo;
        let freed = cargo.victims.iter().map(Victim::taken);
        Ok(Some(Moved {
            stripes: 0,
            blocks: Blocks((cargo.bytes.len() / BLOCK_SIZE) as u64),
            gained: Blocks(freed.fold(0, usize::saturating_add) as u64),
        }))
    }

    fn is_as_it_was(&self, hollow: &Hollow) -> Result<bool, Error> {
        Ok(*self.mounted.layout(hollow.stripe)? == *hollow.layout)
    }

    /// Says where all of it lies then.
    #[inline(never)] // Its frame is large enough alone.
    fn write_revised(&self, plan: &Plan, room: &mut Room<'_, M>) -> Result<Box<Layout>, Error> {
        let Plan {
            hollow, revised, ..
        } = plan;
        let shape = hollow.layout.shape;
        let changes = |f: usize| f == hollow.fragment || f >= shape.data();
        let mut others: Vec<Extent> = Vec::new();
        for fragment in (0..shape.width()).filter(|f| !changes(*f)) {
            others.try_extend(known::extent(&hollow.layout, fragment, 0, 1))?;
        }
        let mut places: Vec<Place> = Vec::new();
        places.try_extend((0..shape.width()).filter_map(|f| hollow.layout.place(f)))?;
        let length = shape.rows().saturating_mul(BLOCK_SIZE).max(1);
        let parity = (shape.data()..).zip(revised.parity.chunks_exact(length));
        let all = core::iter::once((hollow.fragment, revised.bytes.as_slice())).chain(parity);
        for (fragment, bytes) in all {
            let to = (Members::default(), others.as_slice());
            let place = room.write(shape.length(fragment), to, &[(0, bytes)], false)?;
            others.push(Extent {
                device: place.device,
                start: place.block,
                blocks: Blocks(1),
            })?;
            let mut from = places.iter_mut().skip(fragment);
            from.next().into_iter().for_each(|to| *to = place);
        }
        let bad = Error::Stripe(hollow.stripe, Wrong::Disagrees);
        let layout = hollow.layout.revised(places.iter().copied());
        Ok(Box::try_new(layout.ok_or(bad)?)?)
    }

    /// All that changes, but for what it takes.
    #[inline(never)] // Its frame is large enough alone.
    fn say_revised(
        &self,
        plan: &Plan,
        layout: &Layout,
        change: &mut Begun<'_, M>,
    ) -> Result<(), Error> {
        let mounted = self.mounted;
        let Plan {
            hollow,
            cargo,
            revised,
        } = plan;
        let stripe = hollow.stripe;
        let txn = change.txn();
        let before = mounted.stripe_live(stripe)?;
        let begin = layout.shape.begin(hollow.fragment);
        let mut rows = Vec::try_from_slice(&hollow.rows)?;
        let mut gone: Vec<Block> = Vec::new();
        let mut at = hollow.dead.iter().copied();
        let mut alive = 0usize;
        let bad = Error::Stripe(stripe, Wrong::Disagrees);
        for victim in cargo.victims.iter() {
            let Home::Copies(parts) = &victim.home else {
                return Err(bad);
            };
            let Some(engram) = victim.engrams.first().copied() else {
                return Err(bad);
            };
            let map: Map = mounted.map(engram)?;
            let live = mounted.live(engram, map.blocks)?;
            if !map.parts().eq(parts.iter().copied()) || map.policy != victim.policy {
                return Err(Error::Engram(engram, Wrong::Disagrees));
            }
            let mut pieces = Vec::new();
            for run in victim.runs.iter() {
                let Held { first, blocks, .. } = run.held;
                for block in first..first.saturating_add(blocks) {
                    let row = at.next().ok_or(bad)?;
                    let to = rows.get_mut(row).ok_or(bad)?;
                    gone.push(core::mem::replace(to, Block { engram, block }))?;
                    alive = alive.saturating_add(usize::from(live.has(block)));
                    pieces.push(Piece {
                        first: block,
                        blocks: 1,
                        stripe,
                        at: begin.saturating_add(row),
                    })?;
                }
            }
            // Those of what died since are free already.
            for (first, blocks) in live.runs(0, map.blocks) {
                for extent in map.extents(first, blocks) {
                    txn.free(extent)?;
                }
            }
            join(&mut pieces);
            let map = Map {
                lies: Lies::Stripes(pieces),
                ..map
            };
            let key = engram::key(engram, engram::Kind::Map, 0);
            txn.set(ENGRAMS, key, &map.encode()?)?;
        }
        forget(txn, stripe, &mut gone)?;
        let now = before.saturating_add(alive);
        let key = |kind, sub| stripe::key(stripe, kind, sub);
        txn.set(STRIPES, key(Kind::Layout, 0), &layout.encode()?)?;
        txn.set(STRIPES, key(Kind::Live, 0), &encode_live(now))?;
        let held = encode_contents(&runs(&rows)?)?;
        txn.set(STRIPES, key(Kind::Contents, hollow.fragment), &held)?;
        note_parity(txn, stripe, layout, &revised.parity)?;
        let mut sums = Sums::default();
        sums.change(txn, (stripe, &layout.shape), Some(before), Some(now))?;
        sums.finish(txn)?;
        let old = &hollow.layout;
        let shape = old.shape;
        for fragment in (0..shape.width()).filter(|f| *f == hollow.fragment || *f >= shape.data()) {
            if let Some(extent) = known::extent(old, fragment, 0, shape.length(fragment)) {
                txn.free(extent)?;
            }
        }
        Ok(())
    }
}

/// Rows as runs.
fn runs(rows: &[Block]) -> Result<Vec<Held>, Error> {
    let mut runs: Vec<Held> = Vec::new();
    for Block { engram, block } in rows.iter().copied() {
        if let Some(last) = runs.last_mut() {
            if last.engram == engram && last.first.saturating_add(last.blocks) == block {
                last.blocks = last.blocks.saturating_add(1);
                continue;
            }
        }
        runs.push(Held {
            engram,
            first: block,
            blocks: 1,
        })?;
    }
    Ok(runs)
}

/// Dead blocks lie nowhere any more.
#[inline(never)] // Its frame is large enough alone.
fn forget<M: Machine>(
    txn: &mut Transaction<'_, M>,
    stripe: StripeId,
    gone: &mut Vec<Block>,
) -> Result<(), Error> {
    gone.sort_unstable_by_key(|one| (one.engram, one.block));
    let mut rest = gone.as_slice();
    while let Some(Block { engram, .. }) = rest.first().copied() {
        let (own, others) = rest.split_at(rest.partition_point(|one| one.engram == engram));
        rest = others;
        let mut map = txn.mounted().map(engram)?;
        let Lies::Stripes(pieces) = &mut map.lies else {
            return Err(Error::Engram(engram, Wrong::Disagrees));
        };
        let mut kept = Vec::new();
        for piece in pieces.iter() {
            for n in 0..piece.blocks {
                let block = piece.first.saturating_add(n);
                let is_gone = piece.stripe == stripe && own.iter().any(|one| one.block == block);
                if !is_gone {
                    kept.push(Piece {
                        first: block,
                        blocks: 1,
                        at: piece.at.saturating_add(n),
                        ..*piece
                    })?;
                }
            }
        }
        if kept.is_empty() {
            txn.remove_range(ENGRAMS, engram::all(engram))?;
            continue;
        }
        join(&mut kept);
        *pieces = kept;
        let key = engram::key(engram, engram::Kind::Map, 0);
        txn.set(ENGRAMS, key, &map.encode()?)?;
    }
    Ok(())
}

/// What is kept of the hashes of parity.
#[inline(never)] // Its frame is large enough alone.
fn note_parity<M: Machine>(
    txn: &mut Transaction<'_, M>,
    stripe: StripeId,
    layout: &Layout,
    parity: &[u8],
) -> Result<(), Error> {
    let mounted: &Mounted<M> = txn.mounted();
    let size = mounted.hash_size();
    let length = layout.shape.rows().saturating_mul(BLOCK_SIZE).max(1);
    for (j, fragment) in parity.chunks_exact(length).enumerate() {
        let groups = fragment.chunks(HASHES.saturating_mul(BLOCK_SIZE).max(1));
        for (n, group) in groups.enumerate() {
            let mut full = [Hash256::default(); HASHES];
            let blocks = group.len() / BLOCK_SIZE;
            let full = full.get_mut(..blocks).unwrap_or_default();
            mounted.hasher().hash_blocks(group, full);
            let mut value = Vec::try_from_slice(&[stripe::VERSION])?;
            for hash in full.iter() {
                value.try_extend_from_slice(hash.0.get(..size).unwrap_or_default())?;
            }
            let sub = hashes_sub(j, n.saturating_mul(HASHES));
            txn.set(STRIPES, stripe::key(stripe, Kind::Hashes, sub), &value)?;
        }
    }
    Ok(())
}
