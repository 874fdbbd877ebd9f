// SPDX-License-Identifier: GPL-2.0

//! Engrams that lie in copies although stripes would take less: what was written when little was written at once, or when there was no room
//! for a stripe. They are found by walking over all engrams in the order of their numbers, oldest first, and each is passed once.

use super::choose::Batch;
use super::choose::Home;
use super::choose::Run;
use super::choose::Victim;
use crate::format::engram::key;
use crate::format::engram::Kind;
use crate::format::engram::Map;
use crate::format::geometry::Geometry;
use crate::format::name::encode_number;
use crate::format::name::parse_number;
use crate::format::stripe::Held;
use crate::names::Error;
use crate::names::Files;
use crate::tree::Key;
use crate::tree::Range;
use crate::txn::Transaction;
use crate::units::EngramId;
use crate::units::InodeNo;
use crate::volume::mounted::Fault;
use crate::volume::mounted::Machine;
use crate::volume::mounted::Mounted;
use crate::volume::mounted::ENGRAMS;
use embr_rt::Vec;

/// Engrams in copies that are given up at once, at most, for each stripe that may be.
const EACH: usize = 8;
/// Items that are looked at in vain at once, at most.
const LOOKED: usize = 16384;

/// How far the walk is.
#[derive(Default, Debug)]
pub(super) struct Walk {
    /// All before this one were passed; none if it is not known yet.
    passed: Option<EngramId>,
    /// Where it goes on if what is given up now is.
    next: EngramId,
    /// Nobody beside changes anything.
    pub(super) alone: bool,
    /// All engrams below this number are there.
    given: EngramId,
    /// So much was looked at in vain that it stopped.
    is_cut: bool,
}

impl Walk {
    /// Learns which engrams are there by now. Called without a pin: who makes one may be waiting for room that goes with pins.
    pub(super) fn begin<M: Machine>(&mut self, files: Files<'_, M>) -> Result<(), Error> {
        self.given = files.given(self.alone)?;
        Ok(())
    }

    /// Nothing of what was found last is given up.
    pub(super) fn stay(&mut self) {
        self.next = self.passed.unwrap_or_default();
    }

    /// This one is not given up, nor any behind it.
    pub(super) fn stop_at(&mut self, engram: EngramId) {
        self.next = self.next.min(engram);
    }

    /// What was found on the way was given up, or cannot be.
    pub(super) fn go_on(&mut self) {
        self.passed = self.passed.map(|passed| passed.max(self.next));
    }

    /// Whether there may be more behind what was looked at last.
    pub(super) fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// How far it is goes with what was given up.
    pub(super) fn note<M: Machine>(&self, txn: &mut Transaction<'_, M>) -> Result<(), Error> {
        if self.passed.is_none_or(|passed| passed >= self.next) {
            return Ok(());
        }
        Ok(txn.set(ENGRAMS, noted(), &encode_number(InodeNo(self.next.0)))?)
    }
}

impl<M: Machine> Files<'_, M> {
    /// The oldest engrams in copies, as many as go with so many stripes, and those below a number, if there is one.
    #[inline(never)] // Its frame is large enough alone.
    pub(super) fn choose_loose(
        &self,
        most: usize,
        walk: &mut Walk,
        below: Option<EngramId>,
    ) -> Result<Batch, Error> {
        let mut batch = Batch::default();
        walk.is_cut = false;
        let geometry = self.mounted.geometry();
        if geometry.data() < 2 || geometry.parity() == 0 {
            return Ok(batch);
        }
        let from = match walk.passed {
            Some(passed) => passed,
            None => self.passed()?,
        };
        (walk.passed, walk.next) = (Some(from), from);
        let end = below.map_or(walk.given, |below| below.min(walk.given));
        let range = Range {
            first: key(from, Kind::Map, 0),
            last: key(end, Kind::Map, 0),
        };
        let most = most.saturating_mul(EACH);
        let mut looked = 0usize;
        let Some(mut scan) = self.mounted.scan(ENGRAMS, range) else {
            return Ok(batch);
        };
        while let Some((at, value)) = scan.next().map_err(Fault::from)? {
            let Key([number, ..]) = at;
            let number = EngramId(number);
            walk.is_cut = looked >= LOOKED;
            if number >= end || walk.is_cut {
                break;
            }
            looked = looked.saturating_add(1);
            if number != EngramId::NONE && at == key(number, Kind::Map, 0) {
                // Others would keep the walk where nothing is gained.
                let is_wanted = |v: &Victim| {
                    let losses = v.policy.losses(geometry);
                    losses == geometry.parity() && is_more_than_needed(v, geometry)
                };
                let victim = self.look_at(number, &value)?;
                if let Some(victim) = victim.filter(is_wanted) {
                    if !batch.add(victim, most)? {
                        break;
                    }
                }
            }
            walk.next = EngramId(number.0.saturating_add(1));
        }
        if batch.victims.is_empty() {
            walk.go_on();
        }
        Ok(batch)
    }

    /// What lives of an engram in copies. None where it lies in stripes, where not all of it was written yet, or where something that is
    /// said of it is damaged: then it stays as it is.
    #[inline(never)] // Its frame is large enough alone.
    fn look_at(&self, number: EngramId, map: &[u8]) -> Result<Option<Victim>, Error> {
        let Some(map) = Map::parse(map)? else {
            return Ok(None);
        };
        if !map.is_copied() {
            return Ok(None);
        }
        match live_runs(self.mounted, number, &map) {
            Ok(runs) if !runs.is_empty() => Ok(Some(Victim {
                policy: map.policy,
                home: Home::Copies(Vec::try_from_iter(map.parts())?),
                runs,
                engrams: Vec::try_from_slice(&[number])?,
            })),
            Ok(_) => Ok(None),
            Err(why) if why.is_damage() => Ok(None),
            Err(why) => Err(why),
        }
    }

    /// How far the walk was when the volume was mounted.
    fn passed(&self) -> Result<EngramId, Error> {
        let passed = self.mounted.get(ENGRAMS, noted(), parse_number)?.flatten();
        // Where that makes no sense, it begins anew.
        Ok(passed.map_or(EngramId(1), |n| EngramId(n.0)))
    }

    /// All engrams below this number are there by now, or never will be.
    pub(super) fn given(&self, alone: bool) -> Result<EngramId, Error> {
        let _nobody_is_about_to = (!alone).then(|| self.names.changing.lock());
        self.names.engrams.lock().next(self.mounted)
    }
}

/// Whether copies take more than full stripes would: those that were written while there was room for fewer do not.
fn is_more_than_needed(copies: &Victim, geometry: Geometry) -> bool {
    let each = |blocks: usize, fragments: u8| blocks.saturating_mul(fragments.into());
    each(copies.taken(), geometry.data()) > each(copies.live(), geometry.width())
}

/// Where it is noted how far the walk is.
fn noted() -> Key {
    key(EngramId::NONE, Kind::Passed, 0)
}

/// The runs that live of an engram all of which was written; none where that is not so.
#[inline(never)] // Its frame is large enough alone.
fn live_runs<M: Machine>(
    mounted: &Mounted<M>,
    engram: EngramId,
    map: &Map,
) -> Result<Vec<Run>, Error> {
    let live = mounted.live(engram, map.blocks)?;
    let (mut runs, mut hashes) = (Vec::new(), Vec::new());
    let parts = map.parts().map(|part| (part.first, part.blocks));
    let lie_together = parts.flat_map(|(first, blocks)| live.runs(first, blocks));
    for (first, blocks) in lie_together {
        mounted.hashes(engram, first, blocks, &mut hashes)?;
        let held = Held {
            engram,
            first,
            blocks,
        };
        runs.push(Run {
            held,
            fragment: 0,
            row: 0,
        })?;
    }
    // What was set aside has no hash before it is written.
    let mut each = hashes.chunks_exact(mounted.hash_size());
    if each.any(|hash| hash.iter().all(|byte| *byte == 0)) {
        runs.clear();
    }
    Ok(runs)
}
