// SPDX-License-Identifier: GPL-2.0

//! What is given up: of the stripes that need least of what they take the oldest first, as what has lived long lives on; and engrams that
//! lie in copies. As many as make a full new stripe; none where nothing would be gained.

use super::loose;
use super::Worth;
use crate::error::NoMem;
use crate::format::engram::Part;
use crate::format::geometry::Geometry;
use crate::format::geometry::Policy;
use crate::format::stripe::all_wasteful;
use crate::format::stripe::parse_wasteful;
use crate::format::stripe::Held;
use crate::format::stripe::Layout;
use crate::format::stripe::GRADES;
use crate::names::Error;
use crate::names::Files;
use crate::space::reserve::Change;
use crate::space::reserve::Reserve;
use crate::stripe::seal::MOST;
use crate::stripe::Shape;
use crate::units::EngramId;
use crate::units::StripeId;
use crate::volume::mounted::Fault;
use crate::volume::mounted::Machine;
use crate::volume::mounted::Mounted;
use crate::volume::mounted::STRIPES;
use embr_rt::Box;
use embr_rt::Vec;

/// Engrams of which the maps change at once, at most, for each stripe that may be given up at once.
const ENGRAMS_EACH: usize = 2;
/// Runs that are looked at together, more or less.
const RUNS: usize = 16384;
/// Nodes of a transaction that gives up one stripe for another, but for those of their engrams.
const OTHER_NODES: u64 = 42;

/// How many engrams' blocks come together in one stripe, at most: all of them may have to go when it is given up, which has to be possible
/// on a full volume, where only so large a transaction is sure to find room.
pub(super) fn together(reserve: &Reserve) -> usize {
    let left = reserve.largest.saturating_sub(OTHER_NODES);
    let each = Change::RANGE_GONE.by_keys(u64::MAX).max(1);
    let engrams = left.checked_div(each).unwrap_or(0).max(2);
    usize::try_from(engrams).unwrap_or(usize::MAX)
}

/// How many blocks of these runs, one group after the other, are of so many engrams at most: what comes into one stripe, or several.
pub(super) fn groups<'h>(
    held: impl Iterator<Item = &'h Held>,
    most: usize,
) -> Result<Vec<usize>, NoMem> {
    let mut groups: Vec<usize> = Vec::new();
    let (mut engrams, mut last) = (0usize, None);
    for run in held {
        if last != Some(run.engram) {
            engrams = engrams.saturating_add(1);
            last = Some(run.engram);
        }
        if groups.is_empty() || engrams > most {
            groups.push(0)?;
            engrams = 1;
        }
        if let Some(blocks) = groups.last_mut() {
            *blocks = blocks.saturating_add(run.blocks);
        }
    }
    Ok(groups)
}

/// Blocks that live, one after the other; where they are of a stripe, in one fragment.
pub(super) struct Run {
    pub(super) held: Held,
    pub(super) fragment: usize,
    pub(super) row: usize,
}

impl Run {
    /// The part that has it, of these.
    pub(super) fn part(&self, parts: &[Part]) -> Option<Part> {
        let mut parts = parts.iter();
        parts.find(|part| part.has(self.held.first)).copied()
    }

    /// How many copies there are of it, if it lies in these parts.
    fn copies(&self, parts: &[Part]) -> usize {
        self.part(parts).map_or(0, |part| part.places.count())
    }
}

/// Where it lies that is given up.
pub(super) enum Home {
    /// In all of a stripe.
    Stripe(StripeId, Box<Layout>),
    /// In copies of an engram: in these parts of it.
    Copies(Vec<Part>),
}

/// What is given up.
pub(super) struct Victim {
    /// How much it is to survive.
    pub(super) policy: Policy,
    pub(super) home: Home,
    pub(super) runs: Vec<Run>,
    /// All engrams that it holds blocks of, living or not, each once.
    pub(super) engrams: Vec<EngramId>,
}

impl Victim {
    pub(super) fn live(&self) -> usize {
        let runs = self.runs.iter();
        runs.fold(0, |n, run| n.saturating_add(run.held.blocks))
    }

    /// Blocks of devices that it takes.
    pub(super) fn taken(&self) -> usize {
        match &self.home {
            Home::Stripe(_, layout) => layout.shape.taken(),
            Home::Copies(parts) => {
                let runs = self.runs.iter();
                let all = runs.map(|run| run.held.blocks.saturating_mul(run.copies(parts)));
                all.fold(0, usize::saturating_add)
            }
        }
    }

    /// The stripe, if it is one.
    pub(super) fn stripe(&self) -> Option<(StripeId, &Layout)> {
        match &self.home {
            Home::Stripe(stripe, layout) => Some((*stripe, layout)),
            Home::Copies(_) => None,
        }
    }
}

/// Engrams in copies that are given up together.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) victims: Vec<Victim>,
    live: usize,
}

impl Batch {
    /// Blocks that live of it.
    pub(super) fn live(&self) -> usize {
        self.live
    }

    /// Takes it in if no more than so many have to change. Says whether there may be more.
    pub(super) fn add(&mut self, victim: Victim, most: usize) -> Result<bool, Error> {
        if self.victims.len() >= most {
            return Ok(false);
        }
        self.live = self.live.saturating_add(victim.live());
        self.victims.push(victim)?;
        Ok(self.live < MOST)
    }
}

/// Which of these may lie in a stripe with the first of them, as many as make a full one and no more than change so many engrams.
fn beside(all: &[Victim], volume: Geometry, most: usize) -> Result<Vec<usize>, NoMem> {
    let mut chosen = Vec::new();
    let (mut live, mut engrams) = (0usize, 0usize);
    let mut policy = None;
    for (n, victim) in all.iter().enumerate() {
        let changed = engrams.saturating_add(victim.engrams.len());
        let losses = victim.policy.losses(volume);
        if *policy.get_or_insert(losses) != losses || changed > most && !chosen.is_empty() {
            continue;
        }
        engrams = changed;
        live = live.saturating_add(victim.live());
        chosen.push(n)?;
        if live >= MOST {
            break;
        }
    }
    Ok(chosen)
}

/// Whether giving them up gains anything, with so many engrams in a new stripe.
fn gains<'v>(
    victims: impl Iterator<Item = &'v Victim> + Clone,
    geometry: Geometry,
    together: usize,
) -> Result<bool, NoMem> {
    let taken = victims.clone().map(Victim::taken);
    let runs = victims.flat_map(|victim| victim.runs.iter());
    let groups = groups(runs.map(|run| &run.held), together)?;
    let needed = groups.iter().map(|blocks| needed(geometry, *blocks));
    let sum = usize::saturating_add;
    Ok(taken.fold(0, sum) > needed.fold(0, sum))
}

impl<M: Machine> Files<'_, M> {
    /// What that is worth it to give up together, as so many stripes at most, or a few times as many engrams in copies; nothing where that brings nothing.
    /// Copies take two to five times what they need: stripes come first that take more than twice that, and others after them.
    #[inline(never)] // Its frame is large enough alone.
    pub(super) fn choose(
        &self,
        most: usize,
        loose: &mut loose::Walk,
        worth: &Worth,
    ) -> Result<Vec<Victim>, Error> {
        for worst in [Some(GRADES / 2), None, Some(GRADES)] {
            loose.stay();
            let victims = match worst {
                Some(worst) => self.choose_stripes(most, worst.min(worth.worst))?,
                None => self.choose_copies(most, loose, worth)?,
            };
            if !victims.is_empty() {
                return Ok(victims);
            }
        }
        Ok(Vec::new())
    }

    /// How stripes of this policy can be written with the devices that are there.
    fn possible(&self, policy: Policy) -> Geometry {
        let wanted = policy.geometry(self.mounted.geometry());
        self.mounted.space.possible(wanted)
    }

    #[inline(never)] // Its frame is large enough alone.
    fn choose_copies(
        &self,
        most: usize,
        walk: &mut loose::Walk,
        worth: &Worth,
    ) -> Result<Vec<Victim>, Error> {
        let together = together(&self.mounted.space.reserve());
        let batch = self.choose_loose(most, walk, worth.below)?;
        let geometry = self.possible(Policy::VOLUME);
        if batch.live >= worth.least && gains(batch.victims.iter(), geometry, together)? {
            return Ok(batch.victims);
        }
        // So few in so much do not keep the walk from what is behind them.
        if walk.is_cut() {
            walk.go_on();
        }
        Ok(Vec::new())
    }

    /// Of these grades and better ones: what wastes most and what goes with it, if that gains anything; or what comes next.
    #[inline(never)] // Its frame is large enough alone.
    fn choose_stripes(&self, most: usize, worst: usize) -> Result<Vec<Victim>, Error> {
        let together = together(&self.mounted.space.reserve());
        let (mut all, mut runs) = (Vec::new(), 0usize);
        for stripe in candidates(self.mounted, most, worst)?.iter() {
            if let Some(victim) = inspect(self.mounted, *stripe)? {
                runs = runs.saturating_add(victim.runs.len());
                all.push(victim)?;
            }
            if runs >= RUNS {
                break;
            }
        }
        let engrams = most.saturating_mul(ENGRAMS_EACH);
        for first in 0..all.len() {
            let rest = all.get(first..).unwrap_or_default();
            let chosen = beside(rest, self.mounted.geometry(), engrams)?;
            let victims = chosen.iter().filter_map(|n| rest.get(*n));
            let Some(policy) = victims.clone().next().map(|one| one.policy) else {
                break;
            };
            if gains(victims, self.possible(policy), together)? {
                let is_chosen = |n: usize| chosen.contains(&n.wrapping_sub(first));
                let all = all.into_iter().enumerate();
                let victims = all.filter_map(|(n, one)| is_chosen(n).then_some(one));
                return Ok(Vec::try_from_iter(victims)?);
            }
        }
        Ok(Vec::new())
    }
}

/// What so many blocks take at best.
pub(super) fn needed(geometry: Geometry, live: usize) -> usize {
    let taken = |blocks| Shape::cut(geometry, blocks).map_or(0, |shape| shape.taken());
    let whole = (live / MOST).saturating_mul(taken(MOST));
    whole.saturating_add(taken(live % MOST))
}

/// The stripes that waste most, so many at most, and those of no worse grade than this.
#[inline(never)] // Its frame is large enough alone.
pub(super) fn candidates<M: Machine>(
    mounted: &Mounted<M>,
    most: usize,
    worst: usize,
) -> Result<Vec<StripeId>, Error> {
    let mut stripes = Vec::new();
    let Some(mut scan) = mounted.scan(STRIPES, all_wasteful()) else {
        return Ok(stripes);
    };
    while let Some((at, _)) = scan.next().map_err(Fault::from)? {
        if stripes.len() >= most {
            break;
        }
        let listed = parse_wasteful(at);
        if listed.is_some_and(|(grade, _)| grade > worst) {
            break;
        }
        // One that is listed twice, which only damage makes, is not given up twice.
        if let Some((_, stripe)) = listed.filter(|(_, stripe)| !stripes.contains(stripe)) {
            stripes.push(stripe)?;
        }
    }
    Ok(stripes)
}

/// What lives of a stripe, and where. None where it is gone, or something that is said of it is damaged: then it stays as it is.
#[inline(never)] // Its frame is large enough alone.
pub(super) fn inspect<M: Machine>(
    mounted: &Mounted<M>,
    stripe: StripeId,
) -> Result<Option<Victim>, Error> {
    match look(mounted, stripe) {
        Ok(victim) => Ok(Some(victim)),
        Err(why) if why.is_damage() => Ok(None),
        Err(why) => Err(why),
    }
}

impl<M: Machine> Mounted<M> {
    /// How much what lies in a stripe is to survive.
    #[inline(never)]
    pub(crate) fn policy_of(&self, stripe: StripeId, layout: &Layout) -> Result<Policy, Error> {
        let mut policy: Option<Policy> = None;
        for fragment in 0..layout.shape.data() {
            for held in self.contents(stripe, layout, fragment)?.iter() {
                let of = self.map(held.engram)?.policy;
                let known = policy.unwrap_or(of);
                policy = Some(known.stronger(of, self.geometry()));
            }
        }
        Ok(policy.unwrap_or_default())
    }
}

fn look<M: Machine>(mounted: &Mounted<M>, stripe: StripeId) -> Result<Victim, Error> {
    let layout = mounted.layout(stripe)?;
    let (mut runs, mut engrams) = (Vec::new(), Vec::new());
    let mut policy: Option<Policy> = None;
    for fragment in 0..layout.shape.data() {
        let mut row = 0usize;
        for held in mounted.contents(stripe, &layout, fragment)?.iter() {
            if let Err(at) = engrams.binary_search(&held.engram) {
                engrams.insert(at, held.engram)?;
            }
            let map = mounted.map(held.engram)?;
            let live = mounted.live(held.engram, map.blocks)?;
            let known = policy.unwrap_or(map.policy);
            policy = Some(known.stronger(map.policy, mounted.geometry()));
            for (first, blocks) in live.runs(held.first, held.blocks) {
                runs.push(Run {
                    held: Held {
                        first,
                        blocks,
                        ..*held
                    },
                    fragment,
                    row: row.saturating_add(first.saturating_sub(held.first)),
                })?;
            }
            row = row.saturating_add(held.blocks);
        }
    }
    Ok(Victim {
        policy: policy.unwrap_or_default(),
        home: Home::Stripe(stripe, layout),
        runs,
        engrams,
    })
}
