// SPDX-License-Identifier: GPL-2.0

//! Extended attributes: each lies where the hash of its name says and is there once; its value is whole; and no piece is left of another.

use super::names::first_of;
use super::names::look;
use super::names::Look;
use super::names::Walk;
use super::Ended;
use super::Observer;
use super::Trouble;
use crate::format::attribute;
use crate::format::attribute::Held;
use crate::names::attribute::piece_of;
use crate::names::attribute::PIECE_MASK;
use crate::names::Error;
use crate::names::Item;
use crate::names::Kind;
use crate::volume::mounted::Machine;

impl<M: Machine, O: Observer> Walk<'_, '_, '_, M, O> {
    pub(super) fn attribute(&mut self, item: Item, value: &[u8]) -> Result<(), Ended> {
        let Some((name, held)) = attribute::parse(value) else {
            self.found(item, Trouble::Senseless);
            return Ok(());
        };
        if item.sub() & PIECE_MASK != 0 {
            self.found(item, Trouble::Unknown);
            return Ok(());
        }
        let hash = self.files.attribute_hash(item.owner(), name);
        let first = Item::new(item.owner(), Kind::ATTRIBUTE, hash.first_probe());
        if first != first_of(item) {
            self.found(item, Trouble::Place);
        }
        self.once(item, name.bytes())?;
        for number in 0..held.pieces() {
            let piece = self
                .files
                .view
                .get(self.check.mounted, piece_of(item, number));
            if matches!(look(piece.map_err(Error::Fault))?, Look::Missing) {
                self.found(item, Trouble::NoPiece(number));
            }
        }
        Ok(())
    }

    /// A piece is of an attribute that has such a one.
    pub(super) fn piece(&mut self, item: Item, value: &[u8]) -> Result<(), Ended> {
        let Some(piece) = attribute::parse_piece(value) else {
            self.found(item, Trouble::Senseless);
            return Ok(());
        };
        let number = (item.sub() & PIECE_MASK) as usize;
        let whose = Item::new(item.owner(), Kind::ATTRIBUTE, item.sub() & !PIECE_MASK);
        let stored = self.files.view.get(self.check.mounted, whose);
        let stored = match look(stored.map_err(Error::Fault))? {
            Look::There(stored) => stored,
            Look::Missing => {
                self.found(item, Trouble::NoAttribute);
                return Ok(());
            }
            Look::Unknown => return Ok(()),
        };
        // What makes no sense is told where it lies.
        let held = attribute::parse(&stored).map(|(_, held)| held);
        match held.map(|held: Held<'_>| held.piece_size(number)) {
            Some(None) => self.found(item, Trouble::NoAttribute),
            Some(Some(size)) if size != piece.len() => {
                self.found(item, Trouble::Piece(piece.len(), size));
            }
            _ => {}
        }
        Ok(())
    }
}
