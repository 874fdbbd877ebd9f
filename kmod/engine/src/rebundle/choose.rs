// SPDX-License-Identifier: GPL-2.0

//! Which stripes are given up: of those that need least of what they take the oldest first, as what has lived long lives on. As many as
//! make a full new stripe; none where nothing would be gained.

use crate::format::geometry::Geometry;
use crate::format::stripe::all_wasteful;
use crate::format::stripe::parse_wasteful;
use crate::format::stripe::Held;
use crate::format::stripe::Layout;
use crate::names::Error;
use crate::names::Files;
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

/// Blocks that live, in one fragment, one after the other.
pub(super) struct Run {
    pub(super) held: Held,
    pub(super) fragment: usize,
    pub(super) row: usize,
}

/// A stripe that is given up.
pub(super) struct Victim {
    pub(super) stripe: StripeId,
    pub(super) layout: Box<Layout>,
    pub(super) runs: Vec<Run>,
    /// All engrams that it holds blocks of, living or not, each once.
    pub(super) engrams: Vec<EngramId>,
}

impl Victim {
    fn live(&self) -> usize {
        let runs = self.runs.iter();
        runs.fold(0, |n, run| n.saturating_add(run.held.blocks))
    }
}

impl<M: Machine> Files<'_, M> {
    /// So many stripes at most to be given up together; none where that brings nothing.
    #[inline(never)] // Its frame is large enough alone.
    pub(super) fn choose(&self, most: usize) -> Result<Vec<Victim>, Error> {
        let mounted = self.mounted;
        let most_engrams = most.saturating_mul(ENGRAMS_EACH);
        let (mut victims, mut live, mut engrams) = (Vec::new(), 0usize, 0usize);
        for stripe in candidates(mounted, most)?.iter() {
            let Some(victim) = inspect(mounted, *stripe)? else {
                continue;
            };
            let more = engrams.saturating_add(victim.engrams.len());
            if more > most_engrams && !victims.is_empty() {
                break;
            }
            engrams = more;
            live = live.saturating_add(victim.live());
            victims.push(victim)?;
            if live >= MOST {
                break;
            }
        }
        let taken = victims.iter().fold(0, |n: usize, v: &Victim| {
            n.saturating_add(v.layout.shape.taken())
        });
        if taken <= needed(mounted.geometry(), live) {
            victims.clear();
        }
        Ok(victims)
    }
}

/// What so many blocks take at best.
fn needed(geometry: Geometry, live: usize) -> usize {
    let taken = |blocks| Shape::cut(geometry, blocks).map_or(0, |shape| shape.taken());
    let whole = (live / MOST).saturating_mul(taken(MOST));
    whole.saturating_add(taken(live % MOST))
}

/// The stripes that waste most, so many at most.
#[inline(never)] // Its frame is large enough alone.
fn candidates<M: Machine>(mounted: &Mounted<M>, most: usize) -> Result<Vec<StripeId>, Error> {
    let mut stripes = Vec::new();
    let Some(mut scan) = mounted.scan(STRIPES, all_wasteful()) else {
        return Ok(stripes);
    };
    while let Some((at, _)) = scan.next().map_err(Fault::from)? {
        if stripes.len() >= most {
            break;
        }
        if let Some((_, stripe)) = parse_wasteful(at) {
            stripes.push(stripe)?;
        }
    }
    Ok(stripes)
}

/// What lives of a stripe, and where. None where it is gone, or something that is said of it is damaged: then it stays as it is.
#[inline(never)] // Its frame is large enough alone.
fn inspect<M: Machine>(mounted: &Mounted<M>, stripe: StripeId) -> Result<Option<Victim>, Error> {
    match look(mounted, stripe) {
        Ok(victim) => Ok(Some(victim)),
        Err(why) if why.is_damage() => Ok(None),
        Err(why) => Err(why),
    }
}

fn look<M: Machine>(mounted: &Mounted<M>, stripe: StripeId) -> Result<Victim, Error> {
    let mut victim = Victim {
        stripe,
        layout: mounted.layout(stripe)?,
        runs: Vec::new(),
        engrams: Vec::new(),
    };
    for fragment in 0..victim.layout.shape.data() {
        let mut row = 0usize;
        for held in mounted.contents(stripe, &victim.layout, fragment)?.iter() {
            if let Err(at) = victim.engrams.binary_search(&held.engram) {
                victim.engrams.insert(at, held.engram)?;
            }
            let map = mounted.map(held.engram)?;
            let live = mounted.live(held.engram, map.blocks)?;
            for (first, blocks) in live.runs(held.first, held.blocks) {
                victim.runs.push(Run {
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
    Ok(victim)
}
