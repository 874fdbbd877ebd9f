// SPDX-License-Identifier: GPL-2.0

//! Rebundling: what lives in stripes that take more room than they need, or in copies, is written into new stripes, full ones, and the maps
//! of its engrams say so. Files, their extents and who reads them notice nothing. One batch at a time: some stripes are [chosen](choose), what lives of
//! them is read, verified and sealed, and one transaction [swaps](swap) the old ones for the new.

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

mod choose;
mod loose;
mod refill;
mod relocate;
mod slots;
mod swap;

use crate::file::plan::Fetch;
use crate::file::plan::Site;
use crate::file::plan::Source;
use crate::file::striped::Striped;
use crate::format::geometry::Policy;
use crate::format::stripe::Held;
use crate::format::stripe::Totals;
use crate::format::stripe::GRADES;
use crate::names::change::Begun;
use crate::names::change::Change;
use crate::names::Error;
use crate::names::Files;
use crate::names::Wrong;
use crate::space::promise::Promise;
use crate::space::Usage;
use crate::stripe::seal::MOST;
use crate::units::Blocks;
use crate::units::EngramId;
use crate::units::FileBlock;
use crate::units::InodeNo;
use crate::units::StripeId;
use crate::units::Timestamp;
use crate::units::BLOCK_SIZE;
use crate::volume::mounted::Fault;
use crate::volume::mounted::Machine;
use choose::groups;
use choose::Home;
use choose::Run;
use choose::Victim;
use embr_rt::Box;
use embr_rt::Vec;
pub use relocate::Cursor;
pub use relocate::Lodged;
pub(crate) use relocate::Refusals;
pub use relocate::Step;

/// Blocks of devices that somebody who needs room gains before he asks for some again, if he can.
const MUCH: u64 = 4 * MOST as u64;

/// Stripes that are given up at once, at most; where that finds no room, the next is tried.
const BATCHES: [usize; 4] = [32, 8, 2, 1];

/// What moving came to.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Moved {
    /// Stripes that are gone.
    pub stripes: usize,
    /// Blocks that were written anew, without parity.
    pub blocks: Blocks,
    /// Blocks of devices that are free now, or will be once the second root without them is durable.
    pub gained: Blocks,
}

impl Moved {
    fn add(&mut self, more: Moved) {
        self.stripes = self.stripes.saturating_add(more.stripes);
        for (sum, more) in [
            (&mut self.blocks, more.blocks),
            (&mut self.gained, more.gained),
        ] {
            *sum = Blocks(sum.0.saturating_add(more.0));
        }
    }
}

/// How far those are who move things.
#[derive(Default, Debug)]
pub(crate) struct Progress {
    walk: loose::Walk,
    slots: slots::Walk,
    /// Below the first, all engrams are old; below the second, they will be when more time has passed.
    ages: (EngramId, EngramId),
}

/// What came of all since the mount.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Tally {
    /// Blocks of files that were written, without parity and copies, and without what moving wrote.
    pub written: Blocks,
    /// What was moved.
    pub moved: Moved,
}

impl Tally {
    pub(crate) fn wrote(&mut self, blocks: u64) {
        self.written = Blocks(self.written.0.saturating_add(blocks));
    }
}

/// What is worth moving.
struct Worth {
    /// The worst grade of a stripe.
    worst: usize,
    /// Engrams in copies only below this number, if there is one,
    below: Option<EngramId>,
    /// and only so many blocks of them at once, or more.
    least: usize,
    /// Somebody waits for it.
    is_waited_for: bool,
}

impl Worth {
    /// To who needs room: all that gains any.
    const ANYTHING: Self = Worth {
        worst: GRADES,
        below: None,
        least: 0,
        is_waited_for: true,
    };

    /// To who may need it soon.
    const ANY_STEP: Self = Worth {
        is_waited_for: false,
        ..Self::ANYTHING
    };

    /// To nobody yet. The less room is left, the more may be written to gain some: with half of the volume free only what is nearly dead
    /// is worth it, as what still lives in other stripes may die by itself.
    fn ahead(usage: Usage, old: EngramId) -> Self {
        let part = |n: u64| usage.available.0.saturating_mul(n) >= usage.total.0;
        Worth {
            worst: match () {
                () if part(2) => GRADES / 8,
                () if part(4) => GRADES / 4,
                () if part(8) => GRADES / 2,
                () => GRADES / 4 * 3,
            },
            below: Some(old),
            least: MOST / 2,
            is_waited_for: false,
        }
    }
}

/// What moving is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Gain {
    /// For room.
    Some,
    /// For something else.
    None,
}

/// What lives in what is given up, read and verified.
struct Cargo {
    victims: Vec<Victim>,
    /// Which blocks of which engrams they are, in their order, and what is kept of the hash of each.
    held: Vec<Held>,
    hashes: Vec<u8>,
    bytes: Vec<u8>,
}

impl Cargo {
    /// How much it is to survive.
    fn policy(&self) -> Policy {
        self.victims
            .first()
            .map_or(Policy::VOLUME, |one| one.policy)
    }
}

impl<M: Machine> Files<'_, M> {
    /// As [`Mounted::promise`], but before there is said to be no room, what lives is moved together, as long as that gains any. Called
    /// with no lock held. May wait for devices.
    ///
    /// [`Mounted::promise`]: crate::volume::Mounted::promise
    pub fn promise(&self, blocks: Blocks) -> Result<Promise, Error> {
        if blocks.0 != 0 && !self.mounted.is_read_only() && !self.mounted.space.is_roomy() {
            // Who writes when little room is left helps to make some, in steps; that he cannot is no reason to refuse him.
            let _ = self.rebundle_a_step();
        }
        self.with_room(|| Ok(self.mounted.promise(blocks)?))
    }

    /// Does what takes space; where there is none, what lives is moved together first, as long as that gains any. Called with no lock
    /// held.
    pub(crate) fn with_room<T>(
        &self,
        mut act: impl FnMut() -> Result<T, Error>,
    ) -> Result<T, Error> {
        loop {
            match act() {
                Err(Error::NoSpace) => {}
                done => return done,
            }
            if !self.make_some_room()? {
                return Err(Error::NoSpace);
            }
        }
    }

    /// What is gained can be had only once there are two roots: so rather much at once.
    #[inline(never)] // Its frame is large enough alone.
    fn make_some_room(&self) -> Result<bool, Error> {
        let mut gained = 0u64;
        while gained < MUCH {
            let more = self.rebundle()?.gained.0;
            gained = gained.saturating_add(more);
            if more == 0 && !self.names.rebundling.lock().walk.is_cut() {
                break;
            }
        }
        Ok(gained != 0)
    }

    /// Moves what lives in the stripes that waste most, or in copies, as much as goes in one transaction. Says what came of it: nothing
    /// where nothing is wasted, or where there is no room to move anything to.
    pub fn rebundle(&self) -> Result<Moved, Error> {
        self.rebundle_worth(&mut self.names.rebundling.lock(), &Worth::ANYTHING)
    }

    /// The same, but that nobody waits for more than a step of it.
    #[inline(never)] // Its frame is large enough alone.
    fn rebundle_a_step(&self) -> Result<Moved, Error> {
        self.rebundle_worth(&mut self.names.rebundling.lock(), &Worth::ANY_STEP)
    }

    /// The same before anybody needs room, of what is worth it by then.
    pub fn rebundle_ahead(&self) -> Result<Moved, Error> {
        // Without what moving brings.
        let usage = (self.mounted.space).usage(self.mounted.geometry(), Totals::default());
        let mut progress = self.names.rebundling.lock();
        self.relocate_refused()?;
        let (old, _) = progress.ages;
        self.rebundle_worth(&mut progress, &Worth::ahead(usage, old))
    }

    /// Time passes: what was written before the last call is old from now on, and old copies may be moved ahead of need. What dies
    /// soon dies before.
    pub fn grow_old(&self) -> Result<(), Error> {
        let mut progress = self.names.rebundling.lock();
        let next = self.given(false)?;
        progress.ages = (progress.ages.1, next);
        Ok(())
    }

    /// What was written since the mount, and what was moved beside it. Waits for nobody.
    pub fn tally(&self) -> Tally {
        *self.names.tally.lock()
    }

    #[inline(never)] // Its frame is large enough alone.
    fn rebundle_worth(&self, progress: &mut Progress, worth: &Worth) -> Result<Moved, Error> {
        let walk = &mut progress.walk;
        match self.refill(walk, worth) {
            Ok(Some(once)) => {
                self.names.tally.lock().moved.add(once);
                return Ok(once);
            }
            // Stripes are given up instead.
            Err(Error::NoSpace | Error::Fault(Fault::NoSpace | Fault::TooLarge)) | Ok(None) => {}
            Err(why) if why.is_damage() => {}
            Err(why) => return Err(why),
        }
        let mut done = self.rebundle_some(walk, worth, false);
        // Something of them died meanwhile: once more, with nobody beside.
        if done.as_ref().is_err_and(Error::is_damage) {
            done = self.rebundle_some(walk, worth, true);
        }
        let mut once = match done {
            // It stays as it is.
            Err(why) if why.is_damage() => Moved::default(),
            done => done?,
        };
        if once.gained == Blocks(0) {
            // What was written in vain was written.
            self.names.tally.lock().moved.add(once);
            once = self.empty_slots(&mut progress.slots, worth.is_waited_for)?;
        }
        self.names.tally.lock().moved.add(once);
        Ok(once)
    }

    /// Moves one batch, with nobody beside, or while others change what they want. Where there is no room for it, or for its nodes, a
    /// smaller one.
    #[inline(never)] // Its frame is large enough alone.
    fn rebundle_some(
        &self,
        walk: &mut loose::Walk,
        worth: &Worth,
        alone: bool,
    ) -> Result<Moved, Error> {
        walk.alone = alone;
        for stripes in BATCHES {
            let change = match alone {
                true => Some(Change::begin_freeing(*self, Timestamp::default())?),
                false => None,
            };
            match self.rebundle_at_most(stripes, (walk, worth), change) {
                Err(Error::NoSpace | Error::Fault(Fault::NoSpace | Fault::TooLarge)) => {}
                done => return done,
            }
        }
        Ok(Moved::default())
    }

    #[inline(never)] // Its frame is large enough alone.
    fn rebundle_at_most(
        &self,
        stripes: usize,
        (walk, worth): (&mut loose::Walk, &Worth),
        change: Option<Begun<'_, M>>,
    ) -> Result<Moved, Error> {
        walk.begin(*self)?;
        // Before anything is looked up: what is freed later stays as it is until it was read.
        let pin = self.mounted.pin();
        let victims = self.choose(stripes, walk, worth)?;
        let cargo = match victims.is_empty() {
            true => None,
            false => self.load(victims)?,
        };
        drop(pin);
        let Some(cargo) = cargo else {
            walk.go_on();
            return Err(Error::NoSpace);
        };
        let moved = self.ship(&cargo, walk, change, Gain::Some)?;
        if moved.gained != Blocks(0) {
            walk.go_on();
        }
        Ok(moved)
    }

    /// Writes what lives of a stripe into new ones, though that gains nothing. Says whether there was room for it, and nothing in the way.
    #[inline(never)] // Its frame is large enough alone.
    pub(crate) fn seal_again(
        &self,
        stripe: StripeId,
        policy: Option<Policy>,
    ) -> Result<bool, Error> {
        let mut progress = self.names.rebundling.lock();
        let pin = self.mounted.pin();
        let Some(mut victim) = choose::inspect(self.mounted, stripe)? else {
            return Ok(true);
        };
        let volume = self.mounted.geometry();
        victim.policy = victim
            .policy
            .stronger(policy.unwrap_or(victim.policy), volume);
        let mut victims = Vec::new();
        victims.push(victim)?;
        let walk = &mut progress.walk;
        walk.stay();
        let cargo = self.load(victims)?;
        drop(pin);
        let Some(cargo) = cargo else {
            return Ok(false);
        };
        match self.ship(&cargo, walk, None, Gain::None) {
            Ok(_) => Ok(true),
            Err(Error::NoSpace | Error::Fault(Fault::NoSpace | Fault::TooLarge)) => Ok(false),
            Err(why) if why.is_damage() => Ok(false),
            Err(why) => Err(why),
        }
    }

    /// Reads what lives of them, which was looked up under a pin that still lasts. Those of which something cannot be read stay as they
    /// are.
    #[inline(never)] // Its frame is large enough alone.
    fn load(&self, victims: Vec<Victim>) -> Result<Option<Box<Cargo>>, Error> {
        let mut cargo = Box::try_new(Cargo {
            victims: Vec::new(),
            held: Vec::new(),
            hashes: Vec::new(),
            bytes: Vec::new(),
        })?;
        for victim in victims {
            let before = (cargo.held.len(), cargo.hashes.len(), cargo.bytes.len());
            match self.load_one(&victim, &mut cargo) {
                Ok(()) => cargo.victims.push(victim)?,
                Err(why) if why.is_damage() => {
                    cargo.held.truncate(before.0);
                    cargo.hashes.truncate(before.1);
                    cargo.bytes.truncate(before.2);
                }
                Err(why) => return Err(why),
            }
        }
        Ok((!cargo.victims.is_empty()).then_some(cargo))
    }

    #[inline(never)] // Its frame is large enough alone.
    fn load_one(&self, victim: &Victim, cargo: &mut Cargo) -> Result<(), Error> {
        for run in victim.runs.iter() {
            let length = run.held.blocks.saturating_mul(BLOCK_SIZE);
            let begin = cargo.bytes.len();
            cargo.bytes.try_resize(begin.saturating_add(length), 0)?;
            let fetch = self.plan_to_load(&victim.home, run)?;
            let into = cargo.bytes.get_mut(begin..).unwrap_or_default();
            // Whose they are is not known here, nor whether they are anybody's still.
            self.mounted
                .fetch(&fetch, into, (InodeNo::NONE, FileBlock(0)))?;
            cargo.hashes.try_extend_from_slice(&fetch.hashes)?;
            cargo.held.push(run.held)?;
        }
        Ok(())
    }

    #[inline(never)] // Its frame is large enough alone.
    fn plan_to_load(&self, home: &Home, run: &Run) -> Result<Box<Fetch>, Error> {
        let site = match home {
            Home::Stripe(stripe, layout) => Site::Fragment {
                stripe: *stripe,
                layout: Box::try_new(**layout)?,
                fragment: run.fragment,
                row: run.row,
            },
            Home::Copies(parts) => {
                let bad = Error::Engram(run.held.engram, Wrong::Disagrees);
                Site::Copies(run.part(parts).ok_or(bad)?)
            }
        };
        let Held {
            engram,
            first,
            blocks,
        } = run.held;
        let mut fetch = Box::try_new(Fetch::new(0, blocks, (engram, first), site))?;
        self.mounted
            .hashes(engram, first, blocks, &mut fetch.hashes)?;
        Ok(fetch)
    }

    /// Writes it to where it lies from now on; or stops where it turns out that nothing is gained, as there is no room for wide stripes.
    #[inline(never)] // Its frame is large enough alone.
    fn ship(
        &self,
        cargo: &Cargo,
        walk: &loose::Walk,
        change: Option<Begun<'_, M>>,
        least: Gain,
    ) -> Result<Moved, Error> {
        let mounted = self.mounted;
        let policy = cargo.policy();
        let mut striped = Striped::none(Vec::new(), policy);
        let together = choose::together(&mounted.space.reserve());
        let mut bytes = cargo.bytes.as_slice();
        let sum = |all: &mut dyn Iterator<Item = usize>| all.fold(0, usize::saturating_add);
        let freed = sum(&mut cargo.victims.iter().map(Victim::taken));
        let geometry = mounted.space.possible(policy.geometry(mounted.geometry()));
        for blocks in groups(cargo.held.iter(), together)? {
            let length = blocks.saturating_mul(BLOCK_SIZE).min(bytes.len());
            let (now, later) = bytes.split_at(length);
            let at = FileBlock(0);
            striped.left.push(Source { at, bytes: now })?;
            striped.seal(mounted, None)?;
            if !striped.left.is_empty() {
                return Err(Error::NoSpace);
            }
            bytes = later;
            let shapes = striped.all.iter().map(|written| written.shape());
            let taken = sum(&mut shapes.clone().map(|shape| shape.taken()));
            let rest = choose::needed(geometry, bytes.len() / BLOCK_SIZE);
            if taken.saturating_add(rest) >= freed && least == Gain::Some {
                let written = sum(&mut shapes.map(|shape| shape.blocks()));
                return Ok(Moved {
                    blocks: Blocks(written as u64),
                    ..Moved::default()
                });
            }
        }
        let written = striped.all.iter();
        let hashes = written.clone().flat_map(|written| written.hashes().iter());
        // What was verified when it was read is what was sealed.
        if !hashes.eq(cargo.hashes.iter()) {
            return Err(Error::NoSpace);
        }
        let taken = sum(&mut written.map(|written| written.shape().taken()));
        let gained = freed.saturating_sub(taken);
        self.swap(cargo, walk, striped, change)?;
        Ok(Moved {
            stripes: cargo.victims.iter().filter_map(Victim::stripe).count(),
            blocks: Blocks((cargo.bytes.len() / BLOCK_SIZE) as u64),
            gained: Blocks(gained as u64),
        })
    }
}
