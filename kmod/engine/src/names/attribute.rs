// SPDX-License-Identifier: GPL-2.0

//! Extended attributes: finding, reading and listing them. Like entries of a directory they lie by a hash of their names, those with the
//! same hash side by side; a value that is too long for its attribute's item follows in pieces. Namespaces, and who may see what,
//! are the caller's business.

use crate::env::Environment as _;
use crate::format::attribute;
use crate::format::attribute::AttributeName;
use crate::format::attribute::Held;
use crate::names::error::Error;
use crate::names::error::Wrong;
use crate::names::hash::AttributeHash;
use crate::names::hash::MAX_PROBE;
use crate::names::hash::PIECE_BITS;
use crate::names::item::Item;
use crate::names::item::Kind;
use crate::names::item::MAX_SUB;
use crate::names::Files;
use crate::units::InodeNo;
use crate::volume::mounted::Machine;
use embr_rt::Vec;

/// The bits of a place that number pieces.
pub(crate) const PIECE_MASK: u64 = (1 << PIECE_BITS) - 1;

const _: () = assert!(attribute::MAX_PIECES <= 1 << PIECE_BITS);

/// A place among a file's attributes that stays the same while others come and go.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Mark(u64);

impl Mark {
    /// Where the attributes begin.
    pub const FIRST: Mark = Mark(0);
}

/// Some of a file's attributes.
#[derive(Debug)]
pub struct Listed {
    /// Their names.
    pub names: Vec<Vec<u8>>,
    /// Where to go on; nothing if these are the last.
    pub next: Option<Mark>,
}

/// Where an attribute is, or could be.
pub(crate) struct Sought {
    /// Its item, and what that holds.
    pub(crate) found: Option<(Item, Vec<u8>)>,
    /// Where it would go.
    pub(crate) free: Option<Item>,
}

impl Sought {
    /// Where it is or goes.
    pub(super) fn place(&self) -> Result<Item, Error> {
        let found = self.found.as_ref().map(|(item, _)| *item);
        found.or(self.free).ok_or(Error::NoSpace)
    }

    /// How many pieces its value has.
    pub(super) fn pieces(&self) -> usize {
        let held = self.found.as_ref().and_then(|(_, v)| attribute::parse(v));
        held.map_or(0, |(_, held)| held.pieces())
    }
}

/// The item of an attribute at this place.
pub(super) fn attribute_at(file: InodeNo, sub: u64) -> Item {
    Item::new(file, Kind::ATTRIBUTE, sub)
}

/// The item of a piece of an attribute's value.
pub(crate) fn piece_of(attribute: Item, number: usize) -> Item {
    let sub = attribute.sub() | (number as u64 & PIECE_MASK);
    Item::new(attribute.owner(), Kind::PIECE, sub)
}

/// The place behind which an attribute with this probe lies.
fn step(sub: u64) -> u64 {
    (sub | PIECE_MASK).saturating_add(1)
}

/// A name as a caller gives it.
pub(super) fn attribute_name(name: &[u8]) -> Result<AttributeName<'_>, Error> {
    if name.len() > attribute::MAX_NAME {
        return Err(Error::NameTooLong);
    }
    AttributeName::new(name).ok_or(Error::Invalid)
}

impl<M: Machine> Files<'_, M> {
    pub(crate) fn attribute_hash(&self, file: InodeNo, name: AttributeName<'_>) -> AttributeHash {
        AttributeHash::new(
            self.mounted.machine().environment().hasher(),
            self.names.width,
            self.mounted.volume(),
            file,
            name,
        )
    }

    /// Looks where an attribute is.
    #[inline(never)]
    pub(crate) fn seek(&self, file: InodeNo, name: AttributeName<'_>) -> Result<Sought, Error> {
        let first = self.attribute_hash(file, name).first_probe();
        let last = first | MAX_PROBE.wrapping_shl(PIECE_BITS);
        let ends = (attribute_at(file, first), attribute_at(file, last));
        let mut items = self.view.items(self.mounted, ends.0, ends.1);
        let mut sought = Sought {
            found: None,
            free: None,
        };
        let mut expected = first;
        while let Some((item, value)) = items.next()? {
            let senseless = Error::damaged(item, Wrong::Senseless);
            let (there, _) = attribute::parse(&value).ok_or(senseless)?;
            if item.sub() & PIECE_MASK != 0 {
                return Err(senseless);
            }
            if there == name {
                sought.found = Some((item, value));
                return Ok(sought);
            }
            if sought.free.is_none() && item.sub() != expected {
                sought.free = Some(attribute_at(file, expected));
            }
            expected = step(item.sub());
        }
        if sought.free.is_none() && expected <= last {
            sought.free = Some(attribute_at(file, expected));
        }
        Ok(sought)
    }

    fn sought(&self, file: InodeNo, name: AttributeName<'_>) -> Result<(Item, Vec<u8>), Error> {
        self.seek(file, name)?.found.ok_or(Error::NoAttribute)
    }

    /// The value of an attribute.
    #[inline(never)]
    pub fn attribute(&self, file: InodeNo, name: &[u8]) -> Result<Vec<u8>, Error> {
        let name = attribute_name(name)?;
        self.inode(file)?;
        let (_, value) = self.sought(file, name)?;
        if let Some((_, Held::InPlace(value))) = attribute::parse(&value) {
            return Ok(Vec::try_from_slice(value)?);
        }
        // Its pieces are those of one value while nobody changes any.
        let _still = self.names.pieces.read();
        let (item, value) = self.sought(file, name)?;
        match attribute::parse(&value) {
            Some((_, Held::InPlace(value))) => Ok(Vec::try_from_slice(value)?),
            Some((_, held)) => self.gather(item, held),
            None => Err(Error::damaged(item, Wrong::Senseless)),
        }
    }

    /// How many bytes the value of an attribute has.
    pub fn attribute_size(&self, file: InodeNo, name: &[u8]) -> Result<usize, Error> {
        let name = attribute_name(name)?;
        self.inode(file)?;
        let (item, value) = self.sought(file, name)?;
        let (_, held) = attribute::parse(&value).ok_or(Error::damaged(item, Wrong::Senseless))?;
        Ok(held.size())
    }

    /// Puts a value together from its pieces.
    fn gather(&self, item: Item, held: Held<'_>) -> Result<Vec<u8>, Error> {
        let mut all = Vec::try_with_capacity(held.size())?;
        for number in 0..held.pieces() {
            let at = piece_of(item, number);
            let stored = self.view.get(self.mounted, at)?;
            let stored = stored.ok_or(Error::damaged(at, Wrong::Missing))?;
            let piece =
                attribute::parse_piece(&stored).ok_or(Error::damaged(at, Wrong::Senseless))?;
            if Some(piece.len()) != held.piece_size(number) {
                return Err(Error::damaged(at, Wrong::Disagrees));
            }
            all.try_extend_from_slice(piece)?;
        }
        Ok(all)
    }

    /// The names of at most so many attributes of a file, from this place on, in no order that means anything.
    #[inline(never)]
    pub fn attributes(&self, file: InodeNo, from: Mark, most: usize) -> Result<Listed, Error> {
        self.inode(file)?;
        let mut listed = Listed {
            names: Vec::new(),
            next: None,
        };
        let (first, last) = (attribute_at(file, from.0), attribute_at(file, MAX_SUB));
        let mut items = self.view.items(self.mounted, first, last);
        while let Some((item, value)) = items.next()? {
            if listed.names.len() >= most {
                listed.next = Some(Mark(item.sub()));
                break;
            }
            let (name, _) =
                attribute::parse(&value).ok_or(Error::damaged(item, Wrong::Senseless))?;
            listed.names.push(Vec::try_from_slice(name.bytes())?)?;
        }
        Ok(listed)
    }
}
