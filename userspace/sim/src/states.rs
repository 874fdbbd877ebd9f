// SPDX-License-Identifier: GPL-2.0

//! Which crash states of a recording are worth a look: systematically, in the manner of ACE, and by chance. Made one after the
//! other, never all at once.

use crate::cache::shuffle;
use crate::cache::Survival;
use crate::host::Chance;
use crate::recording::Recording;
use crate::recording::State;
use crate::sectors::Sectors;
use embr_engine::format::member::Slot;
use std::ops::RangeInclusive;

/// How states are chosen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Plan {
    /// From which all chance follows.
    pub seed: u64,
    /// Random subsets in each epoch.
    pub subsets: usize,
    /// Ways in which each single write is torn; the most there are is [`Plan::ALL_TEARS`].
    pub tears: usize,
    /// States anywhere in which each drive crashes in its own way.
    pub mixed: usize,
}

impl Plan {
    /// Every way to tear a write that is tried at all.
    pub const ALL_TEARS: usize = usize::MAX;
}

/// What a state is meant to find.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// A reset: caches survive, and stay volatile.
    Reset,
    /// A power cut that loses all that was not flushed.
    Lost,
    /// A power cut that loses nothing.
    Kept,
    /// One drive lost all and the others nothing, or the other way round.
    Apart,
    /// A drive lost its newest writes.
    Prefix,
    /// A drive lost all but one write.
    Only,
    /// A drive lost one write.
    Dropped,
    /// A drive tore one write.
    Torn,
    /// All drives lost and tore by chance.
    Subset,
    /// Each drive crashed in a way of its own.
    Mixed,
}

impl Kind {
    /// Those that plans have.
    pub const ALL: [Kind; 9] = [
        Kind::Reset,
        Kind::Lost,
        Kind::Apart,
        Kind::Prefix,
        Kind::Only,
        Kind::Dropped,
        Kind::Torn,
        Kind::Subset,
        Kind::Mixed,
    ];
}

impl State {
    /// What the state is meant to find.
    pub fn kind(&self) -> Kind {
        let mut drives = self.drives.values();
        match (drives.next(), drives.next()) {
            (None, _) => kind(&self.rest),
            (Some(Survival::All | Survival::None), None) => Kind::Apart,
            (Some(one), None) => kind(one),
            (Some(_), Some(_)) => Kind::Mixed,
        }
    }
}

fn kind(survival: &Survival) -> Kind {
    match survival {
        Survival::Reset => Kind::Reset,
        Survival::All => Kind::Kept,
        Survival::None => Kind::Lost,
        Survival::Prefix(_) => Kind::Prefix,
        Survival::Only(_) => Kind::Only,
        Survival::Dropped(_) => Kind::Dropped,
        Survival::Torn(..) => Kind::Torn,
        Survival::Subset(_) => Kind::Subset,
    }
}

impl Recording {
    /// The states of this plan. The same plan gives the same states in the same order.
    ///
    /// In each epoch: a reset at every position; at its last position, where the most is at stake, a power cut that loses all,
    /// and for each drive with unflushed writes every prefix, every write alone, dropped, and torn, while the other drives lose
    /// nothing; then random subsets at random positions. At the end the mixed ones.
    pub fn states(&self, plan: Plan) -> impl Iterator<Item = State> + '_ {
        let epochs = self.epochs().enumerate();
        let systematic = epochs.flat_map(move |(number, epoch)| {
            let seed = plan.seed ^ Chance::new(number as u64).next();
            let resets = epoch.clone().map(|cut| State::new(cut, Survival::Reset));
            resets
                .chain([State::new(*epoch.end(), Survival::None)])
                .chain(self.single(*epoch.end(), plan.tears, seed))
                .chain(subsets(epoch, plan.subsets, seed))
        });
        systematic.chain(self.mixed(plan.seed, plan.mixed))
    }

    /// About so many states of a plan, drawn by its seed, each with what else is drawn for it.
    pub fn some(&self, plan: Plan, most: f64) -> impl Iterator<Item = (State, Chance)> + '_ {
        let chance = Chance::new(plan.seed);
        let wanted = most / self.states(plan).count() as f64;
        let drawn = move |state| {
            let own = chance.next();
            let is_wanted = own as f64 <= wanted * u64::MAX as f64;
            is_wanted.then(|| (state, Chance::new(own)))
        };
        self.states(plan).filter_map(drawn)
    }

    /// The crashes at `cut` in which one drive fares differently from all others.
    fn single(&self, cut: u64, tears: usize, seed: u64) -> impl Iterator<Item = State> + '_ {
        let slots: Vec<Slot> = self.slots(cut).collect();
        let alone = slots.len() == 1;
        slots.into_iter().flat_map(move |slot| {
            let cache = self.unflushed(slot, cut);
            let but = move |survival| State::new(cut, Survival::All).with(slot, survival);
            let apart = [
                but(Survival::None),
                State::new(cut, Survival::None).with(slot, Survival::All),
            ];
            let apart = apart.into_iter().filter({
                let idle = cache.is_empty();
                move |_| !idle && !alone
            });
            let prefixes = (1..cache.len()).map(Survival::Prefix);
            let each = (0..).zip(cache).flat_map(move |(n, write)| {
                let chance = Chance::new(seed ^ (write.first() << 20) ^ n as u64);
                let mut torn = Sectors::tears(write.sectors());
                shuffle(&mut torn, &chance);
                torn.truncate(tears);
                let torn = torn.into_iter().map(move |t| Survival::Torn(n, t));
                [Survival::Only(n), Survival::Dropped(n)]
                    .into_iter()
                    .chain(torn)
            });
            apart.chain(prefixes.chain(each).map(but))
        })
    }

    /// Crashes anywhere, in which each drive draws how it fares.
    fn mixed(&self, seed: u64, count: usize) -> impl Iterator<Item = State> + '_ {
        let chance = Chance::new(seed ^ 0x006d_6978_6564);
        (0..count).map(move |_| {
            let cut = chance.next() % (self.end() + 1);
            let mut state = State::new(cut, Survival::All);
            for slot in self.slots(cut) {
                state.drives.insert(slot, self.any(slot, cut, &chance));
            }
            state
        })
    }

    /// Some survival of this drive.
    fn any(&self, slot: Slot, cut: u64, chance: &Chance) -> Survival {
        let cache = self.unflushed(slot, cut);
        if cache.is_empty() {
            return Survival::All;
        }
        let n = chance.below(cache.len());
        match chance.below(8) {
            0 => Survival::All,
            1 => Survival::None,
            2 => Survival::Prefix(n),
            3 => Survival::Only(n),
            4 => Survival::Dropped(n),
            5 => Survival::Torn(n, Sectors::some(cache[n].sectors(), chance)),
            _ => Survival::Subset(chance.next()),
        }
    }
}

fn subsets(epoch: RangeInclusive<u64>, count: usize, seed: u64) -> impl Iterator<Item = State> {
    let chance = Chance::new(seed ^ 0x7375_6273_6574);
    let length = epoch.end() - epoch.start() + 1;
    (0..count).map(move |n| {
        // Half of them where the most is at stake.
        let cut = match n % 2 {
            0 => *epoch.end(),
            _ => epoch.start() + chance.next() % length,
        };
        State::new(cut, Survival::Subset(chance.next()))
    })
}
