// SPDX-License-Identifier: GPL-2.0

//! The transaction that makes new stripes take the place of old ones. What died since it was read is dead in the new ones, too.

use super::choose::Victim;
use super::loose::Walk;
use super::Cargo;
use crate::file::striped::Striped;
use crate::format::engram;
use crate::format::engram::Lies;
use crate::format::engram::Map;
use crate::format::engram::Piece;
use crate::format::geometry::Policy;
use crate::format::stripe;
use crate::format::stripe::Held;
use crate::names::change::Begun;
use crate::names::change::Change;
use crate::names::Error;
use crate::names::Files;
use crate::names::Wrong;
use crate::stripe::books::Sums;
use crate::stripe::known;
use crate::stripe::seal::Cutter;
use crate::stripe::seal::Written;
use crate::txn::Transaction;
use crate::units::EngramId;
use crate::units::StripeId;
use crate::units::Timestamp;
use crate::volume::mounted::Machine;
use crate::volume::mounted::Mounted;
use crate::volume::mounted::ENGRAMS;
use crate::volume::mounted::STRIPES;
use embr_rt::Vec;

/// Blocks of an engram that lie elsewhere from now on.
struct Landed {
    engram: EngramId,
    piece: Piece,
}

impl<M: Machine> Files<'_, M> {
    #[inline(never)] // Its frame is large enough alone.
    pub(super) fn swap(
        &self,
        cargo: &Cargo,
        walk: &Walk,
        mut striped: Striped<'_, '_, M>,
        change: Option<Begun<'_, M>>,
    ) -> Result<(), Error> {
        let mut change = match change {
            Some(change) => change,
            None => Change::begin_freeing(*self, Timestamp::default())?,
        };
        let mut landed = Vec::new();
        let mut rest = Cutter::new(&cargo.held);
        for new in striped.all.iter_mut() {
            let stripe = self.names.engrams.lock().give_stripe(self.mounted)?;
            let held = rest.cut(new.shape().blocks())?;
            land(change.txn(), stripe, new, &held, &mut landed)?;
        }
        landed.sort_unstable_by_key(|one| (one.engram, one.piece.first));
        let mut engrams: Vec<EngramId> = Vec::new();
        for victim in cargo.victims.iter() {
            for engram in victim.engrams.iter() {
                if let Err(at) = engrams.binary_search(engram) {
                    engrams.insert(at, *engram)?;
                }
            }
        }
        let txn = change.txn();
        // Others may try a smaller one, or none: nobody waits for this.
        txn.set_divisible(true);
        for engram in engrams.iter() {
            redirect(txn, *engram, cargo, &landed)?;
        }
        give_up(txn, &cargo.victims)?;
        walk.note(txn)?;
        change.commit_alone(())?;
        Ok(())
    }
}

/// A new stripe is there, and so much of it lives.
#[inline(never)] // Its frame is large enough alone.
fn land<M: Machine>(
    txn: &mut Transaction<'_, M>,
    stripe: StripeId,
    written: &mut Written<'_, '_, M>,
    held: &[Held],
    landed: &mut Vec<Landed>,
) -> Result<(), Error> {
    let mounted = txn.mounted();
    let (mut at, mut alive) = (0usize, 0usize);
    for held in held {
        let piece = Piece {
            first: held.first,
            blocks: held.blocks,
            stripe,
            at,
        };
        let engram = held.engram;
        landed.push(Landed { engram, piece })?;
        let map = mounted.map(engram)?;
        let live = mounted.live(engram, map.blocks)?;
        let blocks = held.first..held.first.saturating_add(held.blocks);
        alive = alive.saturating_add(blocks.filter(|block| live.has(*block)).count());
        at = at.saturating_add(held.blocks);
    }
    if alive == 0 {
        return Err(Error::Stripe(stripe, Wrong::Disagrees));
    }
    written.take(txn, stripe, held, alive)
}

/// What an engram had in the old stripes it has in the new ones, if it lived. With nothing left, it is gone.
#[inline(never)] // Its frame is large enough alone.
fn redirect<M: Machine>(
    txn: &mut Transaction<'_, M>,
    engram: EngramId,
    cargo: &Cargo,
    landed: &[Landed],
) -> Result<(), Error> {
    let bad = Error::Engram(engram, Wrong::Disagrees);
    let victims = cargo.victims.as_slice();
    let mut map: Map = txn.mounted().map(engram)?;
    // More of it is to survive since it was chosen.
    let losses = |policy: Policy| policy.losses(txn.mounted().geometry());
    if losses(map.policy) > losses(cargo.policy()) {
        return Err(bad);
    }
    if map.is_copied() {
        // Those of what died are free already.
        let live = txn.mounted().live(engram, map.blocks)?;
        for (first, blocks) in live.runs(0, map.blocks) {
            for extent in map.extents(first, blocks) {
                txn.free(extent)?;
            }
        }
        map.lies = Lies::Stripes(Vec::new());
    }
    let Lies::Stripes(pieces) = &mut map.lies else {
        return Err(bad);
    };
    let stays = |piece: &Piece| {
        let mut gone = victims.iter().filter_map(Victim::stripe);
        gone.all(|(stripe, _)| stripe != piece.stripe)
    };
    pieces.retain(stays);
    let from = landed.partition_point(|one| one.engram < engram);
    let own = landed.iter().skip(from);
    for one in own.take_while(|one| one.engram == engram) {
        pieces.push(one.piece)?;
    }
    if pieces.is_empty() {
        return Ok(txn.remove_range(ENGRAMS, engram::all(engram))?);
    }
    pieces.sort_unstable_by_key(|piece| piece.first);
    join(pieces);
    let key = engram::key(engram, engram::Kind::Map, 0);
    Ok(txn.set(ENGRAMS, key, &map.encode()?)?)
}

/// Pieces that follow each other in the engram and in the stripe are one.
pub(super) fn join(pieces: &mut Vec<Piece>) {
    let mut last: Option<Piece> = None;
    let mut kept = 0usize;
    for n in 0..pieces.len() {
        let Some(piece) = pieces.get(n).copied() else {
            continue;
        };
        let follows = last.is_some_and(|last| {
            last.stripe == piece.stripe
                && last.end() == piece.first
                && last.at.saturating_add(last.blocks) == piece.at
        });
        if !follows {
            kept = kept.saturating_add(1);
        }
        let whole = match last.filter(|_| follows) {
            Some(last) => Piece {
                blocks: last.blocks.saturating_add(piece.blocks),
                ..last
            },
            None => piece,
        };
        if let Some(to) = pieces.get_mut(kept.saturating_sub(1)) {
            *to = whole;
        }
        last = Some(whole);
    }
    pieces.truncate(kept);
}

/// The old stripes are gone.
#[inline(never)] // Its frame is large enough alone.
fn give_up<M: Machine>(txn: &mut Transaction<'_, M>, victims: &[Victim]) -> Result<(), Error> {
    let mounted: &Mounted<M> = txn.mounted();
    let mut sums = Sums::default();
    for (number, layout) in victims.iter().filter_map(Victim::stripe) {
        // Not if nothing lives of it any more: then it is gone already.
        let live = mounted.stripe_live(number)?;
        for extent in known::extents(layout) {
            txn.free(extent)?;
        }
        txn.remove_range(STRIPES, stripe::all(number))?;
        sums.change(txn, (number, &layout.shape), Some(live), None)?;
    }
    sums.finish(txn)
}
