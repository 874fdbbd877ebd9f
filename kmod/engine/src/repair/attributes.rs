// SPDX-License-Identifier: GPL-2.0

//! Extended attributes: each lies where the hash of its name says, once, and its pieces with it. One of which a piece is lost stays, unless what
//! makes no sense is to go.

use super::patch::Patch;
use super::Deed;
use super::Mender;
use super::Observer;
use crate::check::names::look;
use crate::check::names::Look;
use crate::check::Ended;
use crate::check::Finding;
use crate::format::attribute;
use crate::format::attribute::Held;
use crate::names::attribute::piece_of;
use crate::names::Item;
use crate::volume::mounted::Machine;
use embr_rt::Vec;

impl<M: Machine, O: Observer> Mender<'_, '_, M, O> {
    /// The pieces of a value that lie with an attribute at this place, if all do and have the right size.
    fn pieces_at(&self, at: Item, held: &Held<'_>) -> Result<Option<Vec<Vec<u8>>>, Ended> {
        let mut pieces = Vec::new();
        for number in 0..held.pieces() {
            let Some(stored) = self.value(piece_of(at, number))? else {
                return Ok(None);
            };
            let size = attribute::parse_piece(&stored).map(<[u8]>::len);
            if size.is_none() || size != held.piece_size(number) {
                return Ok(None);
            }
            pieces.push(stored)?;
        }
        Ok(Some(pieces))
    }

    /// An attribute that is not where it is looked for, or is there a second time.
    #[inline(never)]
    pub(super) fn attribute_place(&mut self, found: &Finding, item: Item) -> Result<(), Ended> {
        let Some(value) = self.value(item)? else {
            return Ok(());
        };
        let Some((name, held)) = attribute::parse(&value) else {
            return Ok(());
        };
        let Look::There(sought) = look(self.files.seek(item.owner(), name).map(Some))? else {
            return Ok(());
        };
        let shown = Vec::try_from_slice(name.bytes())?;
        let mut patch = Patch::new();
        match (sought.found, sought.free) {
            (Some((at, _)), _) if at == item => Ok(()),
            // The other one is read; if it cannot be, neither is given up.
            (Some((at, other)), _) => {
                let other = attribute::parse(&other).map(|(_, held)| held);
                let is_whole = match other {
                    Some(held) => self.pieces_at(at, &held)?.is_some(),
                    None => false,
                };
                if !is_whole {
                    return Ok(());
                }
                self.take_away(&mut patch, item)?;
                self.take_pieces_away(&mut patch, item, held.pieces())?;
                self.act(found, &Deed::AttributeRemoved(shown), patch)
            }
            (None, Some(free)) => {
                // They may lie where they should already.
                let (pieces, are_with_it) = match self.pieces_at(item, &held)? {
                    Some(pieces) => (pieces, true),
                    None => match self.pieces_at(free, &held)? {
                        Some(pieces) => (pieces, false),
                        None => return Ok(()),
                    },
                };
                self.take_away(&mut patch, item)?;
                self.put(&mut patch, free, &value)?;
                if are_with_it {
                    self.take_pieces_away(&mut patch, item, held.pieces())?;
                    for (number, piece) in pieces.iter().enumerate() {
                        self.put(&mut patch, piece_of(free, number), piece)?;
                    }
                }
                self.act(found, &Deed::AttributeMoved(shown), patch)
            }
            (None, None) => Ok(()),
        }
    }

    fn take_pieces_away(&self, patch: &mut Patch, at: Item, count: usize) -> Result<(), Ended> {
        for number in 0..count {
            self.take_away(patch, piece_of(at, number))?;
        }
        Ok(())
    }
}
