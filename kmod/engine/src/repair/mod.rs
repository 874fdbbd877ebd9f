// SPDX-License-Identifier: GPL-2.0

//! Repair: what a check finds, and what can be derived from the rest, is put right. Round by round: the volume is checked, what was
//! found is looked at again and mended, each thing in a transaction of its own; it ends with a round in which nothing was to be done.
//! So wherever it is cut short, the volume is as it was before one of these transactions, or after it.
//!
//! Names are mended in each head by itself, as that sees them: what it writes nobody else sees. What a snapshot sees stays as it is, but for
//! counts of an inode that are wrong for all who see them. What holds for all versions together is derived from all of them.
//!
//! It drops nothing that a file has, and frees nothing that anything names: blocks come back only where a check says that nothing
//! uses them. What cannot be derived is left as it is. Where a node of names, engrams, references or stripes is lost, only free space is mended:
//! what that node said is not known.
//!
//! Its memory is bounded as that of the check is, [`Options::check`] says by how much: findings beyond it wait for the next round. It
//! takes more where one engram is named more often than a quarter of it holds.

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

mod attributes;
mod counts;
mod deed;
mod engrams;
mod entries;
mod inodes;
mod lists;
mod maps;
mod parents;
mod patch;
mod references;
mod snapshots;
mod space;
mod stripes;

pub use deed::Deed;
pub use space::open;
pub use space::Refused;

use crate::check;
use crate::check::names::look;
use crate::check::names::Look;
use crate::check::Counted;
use crate::check::Defect;
use crate::check::Ended;
use crate::check::Finding;
use crate::check::Flaw;
use crate::check::Miscount;
use crate::check::Oddity;
use crate::check::Stage;
use crate::check::Trouble;
use crate::names::Files;
use crate::names::Kind;
use crate::names::View;
use crate::tree::TreeError;
use crate::units::EngramId;
use crate::units::SnapshotId;
use crate::units::Timestamp;
use crate::volume::mounted::Machine;
use crate::volume::mounted::Mounted;
use crate::volume::mounted::SPACE;
use embr_rt::Vec;

/// How to repair.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// How to check.
    pub check: check::Options<'a>,
    /// Whether items that make no sense are removed.
    pub drop_senseless: bool,
    /// Only tell what would be done in the first round.
    pub dry_run: bool,
    /// The time.
    pub now: Timestamp,
}

/// Who hears what a repair does.
pub trait Observer {
    /// This was found, and this is done about it at once.
    fn does(&mut self, found: &Finding, deed: &Deed);
    /// What is done next is done in the names of this head or snapshot; none where it is nobody's in particular.
    fn shows(&mut self, _whose: Option<SnapshotId>) {}
    /// How far the check is; false ends the repair.
    fn at(&mut self, _stage: Stage, _counted: &Counted) -> bool {
        true
    }
}

/// More rounds than any damage takes: each mends all that it can.
const ROUNDS: u32 = 64;
/// Findings that a round remembers, at least.
const LEAST: usize = 256;

/// What order things are mended in. Those of a rank wait for another round where something of a lower one that they go by was mended.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Rank {
    /// A bad copy of a node.
    Copy,
    /// Numbers that were given out.
    Counter,
    /// Items that make no sense.
    Senseless,
    /// What was touched in a snapshot.
    Note,
    /// Versions that nobody sees.
    Hidden,
    /// Versions that say in vain that something is gone.
    Idle,
    /// Inodes that are not there.
    Missing,
    /// Entries that are not in their place.
    Place,
    /// What inodes say of their names.
    Parents,
    /// What entries lead to.
    Target,
    /// Lists of what is left to be done.
    List,
    /// Link counts, and what has no name.
    Count,
    /// What is not below the root.
    Circle,
    /// What lies where in stripes.
    Map,
    /// What lives of engrams.
    Engram,
    /// How often blocks of engrams are named.
    Reference,
    /// What lives of stripes.
    Stripe,
    /// Sums of all stripes.
    Totals,
    /// Free space.
    Space,
}

/// Whether it is a node of the tree of free space.
fn is_of_space(why: &TreeError) -> bool {
    matches!(why, TreeError::Io(s, _) | TreeError::Corrupt(s, _) if s.tree == SPACE)
}

/// Whether what an engram or a stripe uses is not known.
fn hides_uses(found: &Finding) -> bool {
    match found {
        Finding::Engram(_, Defect::NoMap | Defect::NoLive | Defect::Senseless(_)) => true,
        Finding::Stripe(_, Flaw::NoLayout | Flaw::Senseless(_)) => true,
        Finding::Lost(why, _) => !is_of_space(why),
        _ => false,
    }
}

/// What a finding is mended with; none where nothing can be done.
fn rank(found: &Finding, drop_senseless: bool) -> Option<Rank> {
    let senseless = drop_senseless.then_some(Rank::Senseless);
    match found {
        Finding::Copy(..) => Some(Rank::Copy),
        Finding::Used(_) | Finding::Unused(_) | Finding::Nodes(..) => Some(Rank::Space),
        Finding::Lost(why, _) => is_of_space(why).then_some(Rank::Space),
        // Of what two have, a check does not see whether both are named.
        Finding::Unnamed(_) | Finding::Overlap(..) => Some(Rank::Engram),
        Finding::Engram(_, defect) => match defect {
            Defect::Number => Some(Rank::Counter),
            Defect::Senseless(key) if engrams::is_derived(*key) => Some(Rank::Engram),
            Defect::Senseless(key) if key.0[0] == EngramId::NONE.0 => Some(Rank::Counter),
            Defect::NoMap => Some(Rank::Map),
            Defect::Senseless(key) if maps::is_map(*key) => Some(Rank::Map),
            Defect::Senseless(_) => senseless,
            Defect::Pieces | Defect::Parts => None,
            _ => Some(Rank::Engram),
        },
        Finding::Reference(_, Miscount::Senseless(key)) if !references::is_derived(*key) => {
            senseless
        }
        Finding::Reference(..) => Some(Rank::Reference),
        Finding::Snapshot(_, odd) => Some(match odd {
            Oddity::Node(_) => Rank::Counter,
            Oddity::Senseless(_) | Oddity::NotNoted(_) => Rank::Note,
            Oddity::Hidden(_) => Rank::Hidden,
            Oddity::Idle(_) => Rank::Idle,
        }),
        Finding::Stripe(_, flaw) => match flaw {
            Flaw::Number => Some(Rank::Counter),
            Flaw::Senseless(key) if stripes::is_derived(*key) => Some(Rank::Stripe),
            Flaw::Senseless(_) => senseless,
            Flaw::NoContents(_) | Flaw::Holds(_) => Some(Rank::Map),
            Flaw::NoLive | Flaw::Live(..) | Flaw::Listed | Flaw::Unlisted => Some(Rank::Stripe),
            Flaw::Totals(..) => Some(Rank::Totals),
            _ => None,
        },
        Finding::Names(item, trouble) => match (item.kind(), trouble) {
            (_, Trouble::Version(_)) => senseless,
            (_, Trouble::NoCounter | Trouble::Number(_)) => Some(Rank::Counter),
            (Kind::NUMBERS, Trouble::Senseless) => Some(Rank::Counter),
            (
                _,
                Trouble::NoRoot | Trouble::NoInode | Trouble::NotDirectory | Trouble::NotRegular,
            ) => Some(Rank::Missing),
            (Kind::ENTRY | Kind::ATTRIBUTE, Trouble::Place | Trouble::Twice) => Some(Rank::Place),
            (Kind::PARENT, Trouble::Unknown) => senseless,
            (Kind::PARENT, _) | (_, Trouble::Parents(_)) => Some(Rank::Parents),
            (
                _,
                Trouble::Nowhere(_)
                | Trouble::Type(_)
                | Trouble::Generation(_)
                | Trouble::NoParent(_),
            ) => Some(Rank::Target),
            (Kind::ORPHAN | Kind::INTENT, Trouble::Place | Trouble::Listed(_)) => Some(Rank::List),
            (_, Trouble::Links(..) | Trouble::Entries(..) | Trouble::NotListed) => {
                Some(Rank::Count)
            }
            (_, Trouble::Unreachable) => Some(Rank::Circle),
            (_, Trouble::Dead(_) | Trouble::NotOwned(_)) => Some(Rank::Engram),
            (_, Trouble::NotCounted(_) | Trouble::SharedUnwritten(_) | Trouble::NamedTwice(_)) => {
                Some(Rank::Reference)
            }
            (
                _,
                Trouble::Unknown
                | Trouble::Inode(_)
                | Trouble::Senseless
                | Trouble::NoAttribute
                | Trouble::NoPiece(_)
                | Trouble::Piece(..),
            ) => senseless,
            _ => None,
        },
        _ => None,
    }
}

/// Whether it is mended in what somebody sees of names, and of whose that has to be known.
fn is_of_names(rank: Rank, found: &Finding) -> bool {
    match rank {
        Rank::Senseless => {
            matches!(found, Finding::Names(_, trouble) if !matches!(trouble, Trouble::Version(_)))
        }
        Rank::Missing | Rank::Place | Rank::Parents | Rank::Target | Rank::List => true,
        Rank::Count | Rank::Circle => true,
        _ => false,
    }
}

/// Something that was found, what it is mended with, and in whose names it is, if in anybody's.
#[derive(Clone, Copy)]
struct Wound {
    rank: Rank,
    number: u32,
    found: Finding,
    whose: Option<SnapshotId>,
}

/// A snapshot or a head.
struct State {
    view: View,
    is_head: bool,
}

/// All of them, the oldest first; none where what is said of them makes no sense.
fn states<M: Machine>(
    mounted: &Mounted<M>,
    files: Files<'_, M>,
) -> Result<Option<Vec<State>>, Ended> {
    let Look::There(seen) = look(files.names.seen(mounted).map(Some))? else {
        return Ok(None);
    };
    let mut states = Vec::new();
    for one in seen {
        let is_head = !one.lineage().is_kept();
        if let Some(view) = one.into_view() {
            states.push(State { view, is_head })?;
        }
    }
    Ok(Some(states))
}

/// Gathers what a round can do something about.
struct Gathered<'g, O> {
    observer: &'g mut O,
    found: Vec<Wound>,
    whose: Option<SnapshotId>,
    most: usize,
    drop_senseless: bool,
    /// A node of names, engrams or stripes is lost.
    is_torn: bool,
    /// It is not known of every engram and stripe what it uses.
    is_blind: bool,
    no_memory: bool,
}

impl<O: Observer> check::Observer for Gathered<'_, O> {
    fn found(&mut self, what: &Finding) {
        self.is_torn |= matches!(what, Finding::Lost(why, _) if !is_of_space(why));
        self.is_blind |= hides_uses(what);
        let Some(rank) = rank(what, self.drop_senseless) else {
            return;
        };
        let number = self.found.len();
        if number < self.most {
            let wound = Wound {
                rank,
                number: number as u32,
                found: *what,
                whose: self.whose,
            };
            self.no_memory |= self.found.push(wound).is_err();
        }
    }

    fn shows(&mut self, whose: Option<SnapshotId>) {
        self.whose = whose;
    }

    fn at(&mut self, stage: Stage, counted: &Counted) -> bool {
        !self.no_memory && self.observer.at(stage, counted)
    }
}

/// A repair that goes on.
struct Mender<'r, 'n, M, O> {
    mounted: &'n Mounted<M>,
    /// As those see them in whose names something is mended.
    files: Files<'n, M>,
    /// All snapshots and heads, if that is known.
    states: Option<&'n [State]>,
    options: &'r Options<'r>,
    observer: &'r mut O,
    /// What was done in this round.
    deeds: u64,
    /// The engrams were gone through in this round.
    swept: bool,
    /// How often their blocks are named was counted in this round.
    counted: bool,
}

/// Repairs a volume that was [opened for that](open), or tells what would be done on one that is mounted to be looked at. Says how many
/// things were done.
pub fn repair<'n, M: Machine, O: Observer>(
    mounted: &'n Mounted<M>,
    files: Files<'n, M>,
    options: &Options<'_>,
    observer: &mut O,
) -> Result<u64, Ended> {
    let size = size_of::<Wound>() as u64;
    let most = (options.check.memory.0 / 4).checked_div(size).unwrap_or(0);
    let most = usize::try_from(most)
        .unwrap_or(usize::MAX)
        .clamp(LEAST, u32::MAX as usize);
    let mut all = 0u64;
    for round in 0..ROUNDS {
        let mut gathered = Gathered {
            observer,
            found: Vec::new(),
            whose: None,
            most,
            drop_senseless: options.drop_senseless,
            is_torn: false,
            is_blind: false,
            no_memory: false,
        };
        let checked = check::check(mounted, Some(files), &options.check, &mut gathered);
        let Gathered {
            mut found,
            is_torn,
            is_blind,
            no_memory,
            ..
        } = gathered;
        if no_memory {
            return Err(Ended::NoMemory);
        }
        checked?;
        let states = states(mounted, files)?;
        let can_be_mended = |wound: &Wound| {
            let is_one = |state: &&State| wound.whose == Some(state.view.current());
            let state = states.iter().flat_map(|all| all.iter()).find(is_one);
            match is_of_names(wound.rank, &wound.found) {
                true => state.is_some_and(|s| s.is_head || wound.rank == Rank::Count),
                false => true,
            }
        };
        found.retain(|wound| match wound.rank {
            // What the check read, it wrote again.
            Rank::Copy => round == 0 && !mounted.is_resting(),
            Rank::Space => !is_blind || !matches!(wound.found, Finding::Unused(_)),
            _ => !is_torn && can_be_mended(wound),
        });
        found.sort_unstable_by_key(|wound| (wound.rank, wound.number));
        let mut mender = Mender {
            mounted,
            files,
            states: states.as_deref(),
            options,
            observer: &mut *observer,
            deeds: 0,
            swept: false,
            counted: false,
        };
        mender.round(&found)?;
        let deeds = mender.deeds;
        all = all.saturating_add(deeds);
        if deeds == 0 || options.dry_run {
            break;
        }
        // Who cuts it short loses no more than a round.
        mounted.sync()?;
    }
    Ok(all)
}

impl<'n, M: Machine, O: Observer> Mender<'_, 'n, M, O> {
    /// Mends what was found, but for what has to be looked at again after what was mended before it.
    fn round(&mut self, wounds: &[Wound]) -> Result<(), Ended> {
        let mut last = Rank::Copy;
        let mut at_last = 0u64;
        let mut of_names = 0u64;
        for Wound {
            rank, found, whose, ..
        } in wounds
        {
            if *rank != last {
                if last > Rank::Copy && last < Rank::Circle {
                    of_names = of_names.saturating_add(self.deeds.saturating_sub(at_last));
                }
                (last, at_last) = (*rank, self.deeds);
            }
            let waits = match rank {
                Rank::Count | Rank::Circle => of_names != 0,
                Rank::Totals | Rank::Space => at_last != 0,
                _ => false,
            };
            if waits && !self.options.dry_run {
                continue;
            }
            let all = self.states.unwrap_or_default();
            let state = all.iter().find(|s| *whose == Some(s.view.current()));
            self.observer.shows(*whose);
            match state {
                Some(state) if !state.is_head && *rank == Rank::Count => {
                    self.seen_by(state, |mender| mender.count_for_all(found))?;
                }
                Some(state) => self.seen_by(state, |mender| mender.mend(*rank, found))?,
                None => self.mend(*rank, found)?,
            }
        }
        Ok(())
    }

    /// Does something with names as this one sees them.
    fn seen_by<T>(&mut self, state: &'n State, act: impl FnOnce(&mut Self) -> T) -> T {
        let before = self.files;
        self.files = before.names.of(self.mounted, &state.view);
        let done = act(self);
        self.files = before;
        done
    }

    fn mend(&mut self, rank: Rank, found: &Finding) -> Result<(), Ended> {
        match rank {
            Rank::Copy => {
                self.tell(found, &Deed::CopyWritten);
                Ok(())
            }
            Rank::Counter => self.counter(found),
            Rank::Senseless => self.senseless(found),
            Rank::Note => self.note_touched(found),
            Rank::Hidden => self.hidden(found),
            Rank::Idle => self.idle(found),
            Rank::Missing => self.missing(found),
            Rank::Place => match found {
                Finding::Names(item, _) if item.kind() == Kind::ATTRIBUTE => {
                    self.attribute_place(found, *item)
                }
                _ => self.entry_place(found),
            },
            Rank::Parents => self.parents(found),
            Rank::Target => self.entry_target(found),
            Rank::List => self.listed(found),
            Rank::Count => self.count(found),
            Rank::Circle => self.circle(found),
            Rank::Map => self.map(found),
            Rank::Engram => self.engrams(found),
            Rank::Reference => self.references(found),
            Rank::Stripe => self.stripe(found),
            Rank::Totals => self.totals(found),
            Rank::Space => self.space(found),
        }
    }
}
