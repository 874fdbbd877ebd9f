// SPDX-License-Identifier: GPL-2.0

//! Extended attributes: setting and removing them, each in one transaction with what else changes of the inode, so that an access list
//! and the permissions which follow from it are never apart.

use crate::file::edit::Batch;
use crate::format::attribute;
use crate::format::attribute::AttributeName;
use crate::format::attribute::Held;
use crate::format::attribute::MAX_PIECES;
use crate::format::attribute::MAX_SIZE;
use crate::format::attribute::PIECE;
use crate::format::inode::Inode;
use crate::names::attribute::attribute_at;
use crate::names::attribute::attribute_name;
use crate::names::attribute::piece_of;
use crate::names::change::Change;
use crate::names::error::Error;
use crate::names::hash::MAX_PROBE;
use crate::names::hash::PIECE_BITS;
use crate::names::item::Item;
use crate::names::item::MAX_SUB;
use crate::names::Attributes;
use crate::names::Done;
use crate::names::Files;
use crate::units::InodeNo;
use crate::units::Timestamp;
use crate::volume::mounted::Fault;
use crate::volume::mounted::Machine;
use crate::volume::mounted::NAMES;

/// Bytes of the journal that removing an attribute takes, at most.
const PER_REMOVED: usize = (MAX_PIECES + 1) * 40;

/// Whether an attribute may be there already when it is set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Put {
    /// Either way.
    Any,
    /// It must not.
    Create,
    /// It must.
    Replace,
}

/// An attribute that a new file begins with.
#[derive(Clone, Copy, Debug)]
pub struct Extended<'a> {
    /// Its name, with its namespace.
    pub name: &'a [u8],
    /// Its value.
    pub value: &'a [u8],
}

impl<M: Machine> Files<'_, M> {
    /// Gives a file an attribute, or the one that it has another value; and changes its inode so. Returns that.
    pub fn set_attribute(
        &self,
        file: InodeNo,
        new: Extended<'_>,
        put: Put,
        to: &Attributes,
        now: Timestamp,
    ) -> Result<Done<Inode>, Error> {
        self.with_room(|| self.set_attribute_once(file, new, put, to, now))
    }

    #[inline(never)]
    fn set_attribute_once(
        &self,
        file: InodeNo,
        new: Extended<'_>,
        put: Put,
        to: &Attributes,
        now: Timestamp,
    ) -> Result<Done<Inode>, Error> {
        let name = attribute_name(new.name)?;
        if new.value.len() > MAX_SIZE {
            return Err(Error::TooLong);
        }
        let mut change = Change::begin(*self, now)?;
        let inode = change.inode_mut(file)?;
        to.apply(inode, now)?;
        let inode = inode.try_clone()?;
        let sought = self.seek(file, name)?;
        match (&sought.found, put) {
            (Some(_), Put::Create) => return Err(Error::Exists),
            (None, Put::Replace) => return Err(Error::NoAttribute),
            _ => {}
        }
        let old = sought.pieces();
        let new = change.put_attribute(sought.place()?, name, new.value, old)?;
        let _alone = (old != 0 || new != 0).then(|| self.names.pieces.write());
        change.commit_alone(inode)
    }

    /// Takes an attribute from a file, and changes its inode so. Returns that.
    #[inline(never)]
    pub fn remove_attribute(
        &self,
        file: InodeNo,
        name: &[u8],
        to: &Attributes,
        now: Timestamp,
    ) -> Result<Done<Inode>, Error> {
        let name = attribute_name(name)?;
        let mut change = Change::begin_freeing(*self, now)?;
        let inode = change.inode_mut(file)?;
        to.apply(inode, now)?;
        let inode = inode.try_clone()?;
        let sought = self.seek(file, name)?;
        let old = sought.pieces();
        let (item, _) = sought.found.ok_or(Error::NoAttribute)?;
        change.remove(item)?;
        change.remove_pieces(item, 0, old)?;
        let _alone = (old != 0).then(|| self.names.pieces.write());
        change.commit_alone(inode)
    }
}

impl<M: Machine> Change<'_, M> {
    /// Writes an attribute whose value had so many pieces. Says how many it has now.
    #[inline(never)]
    fn put_attribute(
        &mut self,
        item: Item,
        name: AttributeName<'_>,
        value: &[u8],
        old: usize,
    ) -> Result<usize, Error> {
        let held = attribute::hold(name, value);
        self.set(item, &attribute::encode(name, held)?)?;
        if let Held::InPieces(_) = held {
            for (number, piece) in value.chunks(PIECE).enumerate() {
                self.set(piece_of(item, number), &attribute::encode_piece(piece)?)?;
            }
        }
        self.remove_pieces(item, held.pieces(), old)?;
        Ok(held.pieces())
    }

    /// Removes the pieces of an attribute's value from one to before another.
    fn remove_pieces(&mut self, item: Item, from: usize, to: usize) -> Result<(), Error> {
        let Some(last) = to.checked_sub(1).filter(|last| *last >= from) else {
            return Ok(());
        };
        if self.lineage.is_alone() {
            let range = piece_of(item, from).to(piece_of(item, last));
            return Ok(self.txn().remove_range(NAMES, range)?);
        }
        for number in from..to {
            self.remove(piece_of(item, number))?;
        }
        Ok(())
    }

    /// Gives a file that is being made its attributes.
    #[inline(never)]
    pub(super) fn add_attributes(
        &mut self,
        file: InodeNo,
        all: &[Extended<'_>],
    ) -> Result<(), Error> {
        for new in all {
            let name = attribute_name(new.name)?;
            if new.value.len() > MAX_SIZE {
                return Err(Error::TooLong);
            }
            let item = self.free_place(file, name)?;
            self.put_attribute(item, name, new.value, 0)?;
        }
        Ok(())
    }

    /// Where an attribute of a new file goes: others have come with it at most.
    fn free_place(&self, file: InodeNo, name: AttributeName<'_>) -> Result<Item, Error> {
        let first = self.files.attribute_hash(file, name).first_probe();
        for probe in 0..=MAX_PROBE {
            let item = attribute_at(file, first | probe.wrapping_shl(PIECE_BITS));
            match self.get(item)? {
                None => return Ok(item),
                Some(value) if attribute::parse(&value).is_some_and(|(n, _)| n == name) => {
                    return Err(Error::Exists)
                }
                Some(_) => {}
            }
        }
        Err(Error::NoSpace)
    }

    /// Removes what the snapshot itself says of the attributes of a file that is to be removed, as much as fits; says whether that was
    /// all. Where there is no other snapshot they go with all that the file has.
    #[inline(never)]
    pub(super) fn give_up_attributes(
        &mut self,
        file: InodeNo,
        batch: Batch,
    ) -> Result<bool, Error> {
        if self.lineage.is_alone() {
            return Ok(true);
        }
        let all = attribute_at(file, 0).to(attribute_at(file, MAX_SUB));
        let Some(mut scan) = self.files.mounted.scan(NAMES, all) else {
            return Ok(true);
        };
        let mut is_first = true;
        let limit = self.txn().limit() / 2;
        while let Some((key, _)) = scan.next().map_err(Fault::from)? {
            let (item, version) = Item::of(key);
            if !self.lineage.owns(version) {
                continue;
            }
            let size = self.txn().size().saturating_add(PER_REMOVED);
            if size > limit || (batch == Batch::Small && !is_first) {
                return Ok(false);
            }
            is_first = false;
            self.txn().remove(NAMES, key)?;
            self.remove_own_pieces(item)?;
        }
        Ok(true)
    }

    #[inline(never)]
    fn remove_own_pieces(&mut self, attribute: Item) -> Result<(), Error> {
        let range = piece_of(attribute, 0).to(piece_of(attribute, MAX_PIECES.wrapping_sub(1)));
        let mut scan = self.files.mounted.scan(NAMES, range);
        while let Some(scan) = &mut scan {
            let Some((key, _)) = scan.next().map_err(Fault::from)? else {
                break;
            };
            if self.lineage.owns(Item::of(key).1) {
                self.txn().remove(NAMES, key)?;
            }
        }
        Ok(())
    }
}
