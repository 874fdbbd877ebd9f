// SPDX-License-Identifier: GPL-2.0

//! What lies where in stripes is said twice: by the maps of engrams, and by what stripes say that they hold. The one that is lost follows
//! from the other, if that leaves no doubt.

use super::patch::Patch;
use super::Deed;
use super::Mender;
use super::Observer;
use crate::check::data;
use crate::check::names::look;
use crate::check::names::Look;
use crate::check::Defect;
use crate::check::Ended;
use crate::check::Finding;
use crate::check::Flaw;
use crate::format::engram;
use crate::format::engram::parse_hashes;
use crate::format::engram::Lies;
use crate::format::engram::Map;
use crate::format::engram::Piece;
use crate::format::engram::HASHES;
use crate::format::geometry::Policy;
use crate::format::stripe;
use crate::format::stripe::encode_contents;
use crate::format::stripe::parse_contents;
use crate::format::stripe::Held;
use crate::stripe::Shape;
use crate::tree::Key;
use crate::tree::Range;
use crate::units::EngramId;
use crate::units::StripeId;
use crate::volume::mounted::Machine;
use crate::volume::mounted::ENGRAMS;
use crate::volume::mounted::STRIPES;
use embr_rt::Vec;

/// Whether it is where the map of an engram is.
pub(super) fn is_map(key: Key) -> bool {
    let engram = EngramId(key.0[0]);
    engram != EngramId::NONE && key == engram::key(engram, engram::Kind::Map, 0)
}

impl<M: Machine, O: Observer> Mender<'_, '_, M, O> {
    /// Nothing says where an engram lies, or what a fragment holds, or the two do not agree.
    pub(super) fn map(&mut self, found: &Finding) -> Result<(), Ended> {
        match found {
            Finding::Engram(engram, Defect::NoMap | Defect::Senseless(_)) => {
                if let Some(map) = self.map_of(*engram)? {
                    let key = engram::key(*engram, engram::Kind::Map, 0);
                    let mut patch = Patch::new();
                    patch.set(ENGRAMS, key, &map.encode()?)?;
                    return self.act(found, &Deed::MapMade, patch);
                }
                match found {
                    Finding::Engram(_, Defect::NoMap) => self.engrams(found),
                    _ => self.senseless(found),
                }
            }
            Finding::Stripe(stripe, Flaw::NoContents(_) | Flaw::Holds(_)) => {
                let Look::There(layout) = look(self.mounted.layout(*stripe).map(Some))? else {
                    return Ok(());
                };
                self.contents(found, *stripe, layout.shape)
            }
            _ => Ok(()),
        }
    }

    /// How many blocks an engram has, by its hashes.
    fn blocks_of(&self, engram: EngramId) -> Result<Option<usize>, Ended> {
        let size = self.mounted.hash_size();
        let mut blocks = 0usize;
        let range = Range {
            first: engram::key(engram, engram::Kind::Hashes, 0),
            last: engram::key(engram, engram::Kind::Hashes, engram::MAX_BLOCKS / HASHES),
        };
        let Some(mut scan) = self.mounted.scan(ENGRAMS, range) else {
            return Ok(None);
        };
        while let Some((key, value)) = scan.next()? {
            let first = (engram::sub(key) as usize).saturating_mul(HASHES);
            let Some(hashes) = parse_hashes(&value, size).filter(|_| first == blocks) else {
                return Ok(None);
            };
            let count = hashes.len().checked_div(size).unwrap_or(0);
            blocks = blocks.saturating_add(count);
        }
        Ok((blocks != 0 && blocks <= engram::MAX_BLOCKS).then_some(blocks))
    }

    /// The map of an engram that has none, as stripes say; none where they do not say all that is wanted of it, or what cannot be.
    #[inline(never)] // Its frame is large enough alone.
    fn map_of(&self, engram: EngramId) -> Result<Option<Map>, Ended> {
        let key = engram::key(engram, engram::Kind::Map, 0);
        if self
            .mounted
            .get(ENGRAMS, key, Map::parse)?
            .transpose()?
            .flatten()
            .is_some()
        {
            return Ok(None);
        }
        let Some(blocks) = self.blocks_of(engram)? else {
            return Ok(None);
        };
        let mut pieces: Vec<Piece> = Vec::new();
        let is_lost = data::items(self.mounted, STRIPES, &mut |key, value| {
            let stripe = StripeId(key.0[0]);
            let fragment = engram::sub(key) as usize;
            if stripe == StripeId::NONE
                || key != stripe::key(stripe, stripe::Kind::Contents, fragment)
            {
                return Ok(());
            }
            let Look::There(layout) = look(self.mounted.layout(stripe).map(Some))? else {
                return Ok(());
            };
            let Some(held) = parse_contents(value, layout.shape.length(fragment)) else {
                return Ok(());
            };
            let mut at = layout.shape.begin(fragment);
            for held in held {
                if held.engram == engram {
                    join(&mut pieces, stripe, &held, at)?;
                }
                at = at.saturating_add(held.blocks);
            }
            Ok(())
        })?;
        pieces.sort_unstable_by_key(|p| p.first);
        let mut next = 0usize;
        for piece in pieces.iter() {
            // Of what has no piece, nothing lived; but how much that is cannot be known where one overlaps.
            if piece.first < next || piece.end() > blocks {
                return Ok(None);
            }
            next = piece.end();
        }
        if is_lost || pieces.is_empty() {
            return Ok(None);
        }
        Ok(Some(Map {
            blocks,
            policy: Policy::VOLUME,
            lies: Lies::Stripes(pieces),
        }))
    }

    /// Writes what the fragments of a stripe hold as the maps say, if these say it of each block just once.
    #[inline(never)] // Its frame is large enough alone.
    fn contents(&mut self, found: &Finding, number: StripeId, shape: Shape) -> Result<(), Ended> {
        let mut lie: Vec<Held> = Vec::new();
        let mut begins: Vec<usize> = Vec::new();
        let mut all: Vec<(usize, Held)> = Vec::new();
        let is_lost = data::items(self.mounted, ENGRAMS, &mut |key, value| {
            if !is_map(key) {
                return Ok(());
            }
            let Some(map) = Map::parse(value)? else {
                return Ok(());
            };
            let Lies::Stripes(pieces) = &map.lies else {
                return Ok(());
            };
            for piece in pieces.iter().filter(|p| p.stripe == number) {
                all.push((
                    piece.at,
                    Held {
                        engram: EngramId(key.0[0]),
                        first: piece.first,
                        blocks: piece.blocks,
                    },
                ))?;
            }
            Ok(())
        })?;
        all.sort_unstable_by_key(|(at, _)| *at);
        let mut next = 0usize;
        for (at, held) in all.iter() {
            if *at != next {
                return Ok(());
            }
            next = next.saturating_add(held.blocks);
            begins.push(*at)?;
            lie.push(*held)?;
        }
        if is_lost || next != shape.blocks() {
            return Ok(());
        }
        let mut patch = Patch::new();
        let mut changed = None;
        for fragment in 0..shape.data() {
            let begin = shape.begin(fragment);
            let end = begin.saturating_add(shape.length(fragment));
            let mut held: Vec<Held> = Vec::new();
            for (at, whole) in begins.iter().zip(lie.iter()) {
                let from = (*at).max(begin);
                let to = at.saturating_add(whole.blocks).min(end);
                if from < to {
                    held.push(Held {
                        engram: whole.engram,
                        first: whole.first.saturating_add(from.saturating_sub(*at)),
                        blocks: to.saturating_sub(from),
                    })?;
                }
            }
            let key = stripe::key(number, stripe::Kind::Contents, fragment);
            let is_right = self.mounted.get(STRIPES, key, |value| {
                parse_contents(value, shape.length(fragment))
                    .is_some_and(|there| blocks(there).eq(blocks(held.iter().copied())))
            })?;
            if is_right != Some(true) {
                patch.set(STRIPES, key, &encode_contents(&held)?)?;
                changed = changed.or(Some(fragment));
            }
        }
        match changed {
            Some(fragment) => self.act(found, &Deed::ContentsMade(fragment), patch),
            None => Ok(()),
        }
    }
}

/// Every block of these, one after the other.
fn blocks(held: impl Iterator<Item = Held>) -> impl Iterator<Item = (EngramId, usize)> {
    held.flat_map(|h| (h.first..h.first.saturating_add(h.blocks)).map(move |b| (h.engram, b)))
}

/// Adds what a stripe holds to the pieces of its engram: to the last one, if it goes on there.
fn join(pieces: &mut Vec<Piece>, stripe: StripeId, held: &Held, at: usize) -> Result<(), Ended> {
    let follows = |p: &&mut Piece| {
        p.stripe == stripe && p.end() == held.first && p.at.saturating_add(p.blocks) == at
    };
    match pieces.as_mut_slice().last_mut().filter(follows) {
        Some(last) => last.blocks = last.blocks.saturating_add(held.blocks),
        None => pieces.push(Piece {
            first: held.first,
            blocks: held.blocks,
            stripe,
            at,
        })?,
    }
    Ok(())
}
