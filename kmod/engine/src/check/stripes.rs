// SPDX-License-Identifier: GPL-2.0

//! Stripes: whether their items make sense, whether what they say they hold is what engrams say lies in them, in both directions, and
//! whether it reads as it was written: all of it, what is dead and what is parity as well.

use super::data::items;
use super::data::Part;
use super::Check;
use super::Ended;
use super::Finding;
use super::Observer;
use super::Stage;
use super::Use;
use crate::env::DeviceError;
use crate::env::Devices as _;
use crate::env::Hash256;
use crate::env::Hasher as _;
use crate::format::engram::Piece;
use crate::format::journal::Extent;
use crate::format::member::Members;
use crate::format::name::parse_number;
use crate::format::stripe::key;
use crate::format::stripe::parse_wasteful;
use crate::format::stripe::wasteful;
use crate::format::stripe::Held;
use crate::format::stripe::Kind;
use crate::format::stripe::Layout;
use crate::format::stripe::Totals;
use crate::format::stripe::VERSION;
use crate::names::Error;
use crate::stripe::known;
use crate::stripe::Shape;
use crate::tree::Key;
use crate::units::Blocks;
use crate::units::EngramId;
use crate::units::StripeId;
use crate::units::BLOCK_SIZE;
use crate::volume::mounted::Machine;
use crate::volume::mounted::Mounted;
use crate::volume::mounted::STRIPES;
use core::fmt;
use embr_rt::Vec;

/// What is wrong with a stripe.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flaw {
    /// An item with this key makes no sense.
    Senseless(Key),
    /// Nothing says where it lies.
    NoLayout,
    /// Nothing says how many of its blocks live.
    NoLive,
    /// So many blocks are said to live, but that many do.
    Live(usize, usize),
    /// Nothing says what this data fragment holds.
    NoContents(usize),
    /// It says to hold blocks of this engram that do not lie there.
    Holds(EngramId),
    /// There is no hash of rows of this parity fragment.
    NoHash(usize),
    /// Its number was never set aside.
    Number,
    /// It is listed for taking more than it needs, and does not take that much more.
    Listed,
    /// It takes more than it needs, and is not listed for that.
    Unlisted,
    /// What all stripes take, and what of it lives, is said to be this, and it is that.
    Totals(Totals, Totals),
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Flaw::Senseless(key) => write!(f, "its item {key} makes no sense"),
            Flaw::NoLayout => f.write_str("nothing says where it lies"),
            Flaw::NoLive => f.write_str("nothing says how many of its blocks live"),
            Flaw::Live(said, are) => {
                write!(f, "{said} of its blocks are said to live, but {are} do")
            }
            Flaw::NoContents(fragment) => {
                write!(f, "nothing says what its fragment {fragment} holds")
            }
            Flaw::Holds(engram) => write!(f, "it does not hold what it says of engram {engram}"),
            Flaw::NoHash(fragment) => write!(f, "its fragment {fragment} has no hashes"),
            Flaw::Number => f.write_str("its number was not given out"),
            Flaw::Listed => f.write_str("it is listed for room that it does not waste"),
            Flaw::Unlisted => f.write_str("it wastes room, and is not listed for that"),
            Flaw::Totals(said, are) => write!(
                f,
                "all are said to take {} blocks, with {} that live, but take {}, with {}",
                said.taken.0, said.live.0, are.taken.0, are.live.0
            ),
        }
    }
}

/// Tells of all blocks that stripes take. Says whether a node is lost that could tell of more.
pub(super) fn claim<M: Machine>(
    mounted: &Mounted<M>,
    part: &mut dyn FnMut(Part) -> Result<(), Ended>,
) -> Result<bool, Ended> {
    items(mounted, STRIPES, &mut |at, value| {
        part(Part::Item)?;
        let stripe = StripeId(at.0[0]);
        if at != key(stripe, Kind::Layout, 0) {
            return Ok(());
        }
        if let Some(layout) = Layout::parse(value) {
            for extent in known::extents(&layout) {
                part(Part::Used(Use::Stripe(stripe), extent))?;
            }
        }
        Ok(())
    })
}

/// What came of looking something up: nothing where it is damaged, which is a finding of its own.
fn looked<T>(found: Result<T, Error>) -> Result<Option<T>, Ended> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(why) if why.is_damage() => Ok(None),
        Err(Error::Fault(why)) => Err(why.into()),
        Err(_) => Ok(None),
    }
}

impl<M: Machine, O: Observer> Check<'_, M, O> {
    /// Stripe by stripe.
    pub(super) fn stripes(&mut self) -> Result<(), Ended> {
        let mounted = self.mounted;
        let mut last = StripeId::NONE;
        let mut next: Option<StripeId> = None;
        let (mut said, mut are) = (Totals::default(), Some(Totals::default()));
        self.begin(Stage::Stripes)?;
        let is_lost = items(mounted, STRIPES, &mut |at, value| {
            self.pass(Stage::Stripes)?;
            let stripe = StripeId(at.0[0]);
            if stripe == StripeId::NONE {
                match of_all(at, value) {
                    Some(OfAll::Number(number)) => next = Some(number),
                    Some(OfAll::Totals(totals)) => said = totals,
                    Some(OfAll::Wasteful(grade, stripe)) => self.listed(grade, stripe)?,
                    None => self.found(Finding::Stripe(stripe, Flaw::Senseless(at))),
                }
                return Ok(());
            }
            if stripe != last {
                last = stripe;
                self.counted.stripes = self.counted.stripes.saturating_add(1);
                if next.is_some_and(|next| stripe >= next) {
                    self.found(Finding::Stripe(stripe, Flaw::Number));
                }
                let more = self.stripe(stripe)?;
                are = are.zip(more).map(|(sum, (taken, live))| Totals {
                    taken: Blocks(sum.taken.0.saturating_add(taken as u64)),
                    live: Blocks(sum.live.0.saturating_add(live as u64)),
                });
            }
            if !is_known(at, value) {
                self.found(Finding::Stripe(stripe, Flaw::Senseless(at)));
            }
            Ok(())
        })?;
        if let Some(are) = are.filter(|are| !is_lost && *are != said) {
            let flaw = Flaw::Totals(said, are);
            self.found(Finding::Stripe(StripeId::NONE, flaw));
        }
        Ok(())
    }

    /// Whether a stripe is rightly listed as one of which so much is needed.
    fn listed(&mut self, grade: usize, stripe: StripeId) -> Result<(), Ended> {
        let mounted = self.mounted;
        let layout = looked(mounted.layout(stripe))?;
        let live = looked(mounted.stripe_live(stripe))?;
        let real = layout.zip(live).map(|(layout, live)| {
            let geometry = mounted.geometry();
            layout.shape.grade(live, geometry)
        });
        if real != Some(Some(grade)) {
            self.found(Finding::Stripe(stripe, Flaw::Listed));
        }
        Ok(())
    }

    /// Whether a stripe with so much that lives is listed, if it has to be.
    fn is_listed(&mut self, stripe: StripeId, shape: &Shape, live: usize) -> Result<(), Ended> {
        let mounted = self.mounted;
        if let Some(grade) = shape.grade(live, mounted.geometry()) {
            let at = wasteful(grade, stripe);
            let listed = mounted.get(STRIPES, at, |_| ()).map_err(Error::Fault);
            if looked(listed)? == Some(None) {
                self.found(Finding::Stripe(stripe, Flaw::Unlisted));
            }
        }
        Ok(())
    }

    /// Says how many blocks it takes, and how many of it live, if that is known.
    #[inline(never)] // Its frame is large enough alone.
    fn stripe(&mut self, stripe: StripeId) -> Result<Option<(usize, usize)>, Ended> {
        let mounted = self.mounted;
        let Some(layout) = looked(mounted.layout(stripe))? else {
            self.found(Finding::Stripe(stripe, Flaw::NoLayout));
            return Ok(None);
        };
        let mut alive = Some(0usize);
        for fragment in 0..layout.shape.data() {
            let Some(held) = looked(mounted.contents(stripe, &layout, fragment))? else {
                self.found(Finding::Stripe(stripe, Flaw::NoContents(fragment)));
                alive = None;
                continue;
            };
            let mut at = layout.shape.begin(fragment);
            for held in held.iter() {
                let live = self.held(stripe, held, at)?;
                alive = alive.and_then(|n| n.checked_add(live?));
                at = at.saturating_add(held.blocks);
            }
        }
        let said = looked(mounted.stripe_live(stripe))?;
        match said {
            None => self.found(Finding::Stripe(stripe, Flaw::NoLive)),
            Some(said) => {
                self.is_listed(stripe, &layout.shape, said)?;
                if let Some(alive) = alive.filter(|n| *n != said) {
                    self.found(Finding::Stripe(stripe, Flaw::Live(said, alive)));
                }
            }
        }
        self.survives(stripe, &layout)?;
        self.fragments(stripe, &layout)?;
        Ok(said.map(|live| (layout.shape.taken(), live)))
    }

    /// Whether what a stripe holds, from this block of its payload on, is said to lie there; and how much of it lives, if that is known.
    fn held(&mut self, stripe: StripeId, held: &Held, at: usize) -> Result<Option<usize>, Ended> {
        let mounted = self.mounted;
        let Some(map) = looked(mounted.map(held.engram))? else {
            self.found(Finding::Stripe(stripe, Flaw::Holds(held.engram)));
            return Ok(None);
        };
        let mut blocks = (held.first..held.first.saturating_add(held.blocks)).zip(at..);
        let lies = |(block, at)| {
            map.piece(block).is_some_and(|p| {
                let within = block.saturating_sub(p.first);
                p.stripe == stripe && p.at.saturating_add(within) == at
            })
        };
        if !blocks.clone().all(lies) {
            self.found(Finding::Stripe(stripe, Flaw::Holds(held.engram)));
            return Ok(None);
        }
        let live = looked(mounted.live(held.engram, map.blocks))?;
        Ok(live.map(|live| {
            blocks
                .by_ref()
                .filter(|(block, _)| live.has(*block))
                .count()
        }))
    }

    /// Whether it survives as many losses as the volume promises.
    fn survives(&mut self, stripe: StripeId, layout: &Layout) -> Result<(), Ended> {
        let all = 0..layout.shape.width();
        let on: Members = all
            .filter_map(|f| layout.place(f))
            .map(|place| place.device)
            .filter(|device| self.mounted.nodes().has_member(*device))
            .collect();
        let has = (on.count() as usize).saturating_sub(layout.shape.data().saturating_sub(1));
        let policy = looked(self.mounted.policy_of(stripe, layout))?.unwrap_or_default();
        let losses = policy.losses(self.mounted.geometry());
        self.enough(Use::Stripe(stripe), has, losses);
        Ok(())
    }

    /// Whether all hashes of parity are there; and, where data are to be read, whether all fragments read as they were written.
    fn fragments(&mut self, stripe: StripeId, layout: &Layout) -> Result<(), Ended> {
        let shape = layout.shape;
        let mut hashes = Vec::new();
        for fragment in 0..shape.width() {
            hashes.clear();
            let found = self
                .mounted
                .fragment_hashes(stripe, layout, fragment, &mut hashes);
            if looked(found)?.is_none() {
                self.found(Finding::Stripe(stripe, Flaw::NoHash(fragment)));
            } else if self.options.data {
                let extent = known::extent(layout, fragment, 0, shape.length(fragment));
                if let Some(extent) = extent {
                    self.read(stripe, extent, &hashes)?;
                }
            }
        }
        Ok(())
    }

    #[inline(never)] // Its frame is large enough alone.
    fn read(&mut self, stripe: StripeId, extent: Extent, hashes: &[u8]) -> Result<(), Ended> {
        let mounted = self.mounted;
        let here = mounted.present().has(extent.device);
        let Some(at) = extent.start.bytes().filter(|_| here) else {
            return Ok(());
        };
        let blocks = extent.blocks.0 as usize;
        self.counted.blocks = self.counted.blocks.saturating_add(extent.blocks.0);
        self.at(Stage::Stripes)?;
        let mut bytes = Vec::zeroed(blocks.saturating_mul(BLOCK_SIZE))?;
        let mut real = Vec::try_from_elem(Hash256::default(), blocks)?;
        match mounted.devices().read(extent.device, at, &mut bytes) {
            Ok(()) => mounted.hasher().hash_blocks(&bytes, &mut real),
            Err(DeviceError::NoMemory) => return Err(Ended::NoMemory),
            Err(_) => {
                self.found(Finding::RottenStripe(stripe, extent));
                return Ok(());
            }
        }
        let kept = hashes.chunks_exact(mounted.hash_size().max(1));
        for ((n, hash), kept) in (0u64..).zip(real.iter()).zip(kept) {
            if !hash.0.starts_with(kept) {
                let bad = Extent {
                    start: Blocks(extent.start.0.saturating_add(n)),
                    blocks: Blocks(1),
                    ..extent
                };
                self.found(Finding::RottenStripe(stripe, bad));
            }
        }
        Ok(())
    }

    /// Whether stripes hold what an engram says lies in them.
    pub(super) fn pieces(&mut self, engram: EngramId, pieces: &[Piece]) -> Result<bool, Ended> {
        let mounted = self.mounted;
        for piece in pieces {
            let Some(layout) = looked(mounted.layout(piece.stripe))? else {
                return Ok(false);
            };
            let end = piece.at.saturating_add(piece.blocks);
            if end > layout.shape.blocks() {
                return Ok(false);
            }
            let (first, _) = layout.shape.place(piece.at);
            let (last, _) = layout.shape.place(end.saturating_sub(1));
            for fragment in first..=last {
                let held = looked(mounted.contents(piece.stripe, &layout, fragment))?;
                let Some(held) = held else {
                    return Ok(false);
                };
                let mut at = layout.shape.begin(fragment);
                for held in held.iter() {
                    let next = at.saturating_add(held.blocks);
                    let (from, to) = (at.max(piece.at), next.min(end));
                    let here = held.first.saturating_add(from.saturating_sub(at));
                    let there = piece.first.saturating_add(from.saturating_sub(piece.at));
                    if from < to && (held.engram != engram || here != there) {
                        return Ok(false);
                    }
                    at = next;
                }
            }
        }
        Ok(true)
    }
}

/// What an item says that is of no stripe alone.
enum OfAll {
    Number(StripeId),
    Totals(Totals),
    Wasteful(usize, StripeId),
}

fn of_all(at: Key, value: &[u8]) -> Option<OfAll> {
    let is = |kind| key(StripeId::NONE, kind, 0) == at;
    if is(Kind::Numbers) {
        let number = parse_number(value)?;
        return Some(OfAll::Number(StripeId(number.0)));
    }
    if is(Kind::Totals) {
        return Totals::parse(value).map(OfAll::Totals);
    }
    let (grade, stripe) = parse_wasteful(at)?;
    (value == [VERSION]).then_some(OfAll::Wasteful(grade, stripe))
}

/// Whether an item of a stripe is of a kind that is known here, and lies where such items do.
fn is_known(at: Key, value: &[u8]) -> bool {
    let stripe = StripeId(at.0[0]);
    let sub = crate::format::engram::sub(at) as usize;
    let is = |kind| key(stripe, kind, sub) == at;
    if is(Kind::Layout) {
        return sub == 0 && Layout::parse(value).is_some();
    }
    is(Kind::Contents) || is(Kind::Hashes) || is(Kind::Live) && sub == 0
}
