// SPDX-License-Identifier: GPL-2.0

//! Keys of the tree of names: inode, kind and place among its kind, version. Nothing here reads or writes.

use crate::tree::Key;
use crate::tree::Range;
use crate::units::InodeNo;
use crate::units::SnapshotId;

/// Bits of a place.
const SUB_BITS: u32 = 56;
/// Blocks of a window.
const WINDOW_BLOCKS: u64 = crate::format::extent::WINDOW as u64;
/// Windows of a file that are touched together, as a power of two.
const GROUP_BITS: u32 = 6;
/// The highest place.
pub(crate) const MAX_SUB: u64 = (1 << SUB_BITS) - 1;

/// What an item is about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Kind(pub u8);

impl Kind {
    /// The inode itself.
    pub const INODE: Kind = Kind(0x01);
    /// Directories that the file is in, by a hash of directory and name.
    pub const PARENT: Kind = Kind(0x02);
    /// An entry of a directory, by a hash of its name.
    pub const ENTRY: Kind = Kind(0x10);
    /// An extended attribute.
    pub const ATTRIBUTE: Kind = Kind(0x20);
    /// A piece of the value of an extended attribute that is too long for its item.
    pub const PIECE: Kind = Kind(0x21);
    /// Blocks that lie in the tree.
    pub const INLINE: Kind = Kind(0x30);
    /// The extents of a window of the file.
    pub const EXTENTS: Kind = Kind(0x40);
    /// Under no inode: an inode without a name.
    pub const ORPHAN: Kind = Kind(0xf0);
    /// Under no inode: an operation that goes on.
    pub const INTENT: Kind = Kind(0xf1);
    /// Under no inode and of no snapshot: the lowest number that no inode ever had.
    pub const NUMBERS: Kind = Kind(0xf2);
}

/// An item, whatever its version.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Item {
    inode: InodeNo,
    /// Kind above, place below.
    place: u64,
}

impl Item {
    /// The item of an inode with this kind and place.
    pub fn new(inode: InodeNo, kind: Kind, sub: u64) -> Self {
        let kind = u64::from(kind.0).wrapping_shl(SUB_BITS);
        Item {
            inode,
            place: kind | (sub & MAX_SUB),
        }
    }

    /// The item of an inode with this kind and place, in one number.
    pub(crate) fn from_place(inode: InodeNo, place: u64) -> Self {
        Item { inode, place }
    }

    /// Kind and place, in one number.
    pub(crate) fn place(self) -> u64 {
        self.place
    }

    /// The items that are touched together with this one, the first and the last: an inode's own and its parents, all attributes and
    /// their pieces; of windows some neighbours, and blocks of these that lie in the tree go by the windows' items.
    pub(crate) fn group(self) -> (Item, Item) {
        let kinds = |first, last| {
            let last = Item::new(self.inode, last, MAX_SUB);
            (Item::new(self.inode, first, 0), last)
        };
        let window = match self.kind() {
            Kind::INODE | Kind::PARENT => return kinds(Kind::INODE, Kind::PARENT),
            Kind::ATTRIBUTE | Kind::PIECE => return kinds(Kind::ATTRIBUTE, Kind::PIECE),
            Kind::EXTENTS => self.sub(),
            Kind::INLINE => self.sub() / WINDOW_BLOCKS,
            _ => return (self, self),
        };
        let first = window.wrapping_shr(GROUP_BITS).wrapping_shl(GROUP_BITS);
        let last = first | 1u64.wrapping_shl(GROUP_BITS).wrapping_sub(1);
        let at = |window| Item::new(self.inode, Kind::EXTENTS, window);
        (at(first), at(last))
    }

    /// The inode's own item.
    pub fn inode(inode: InodeNo) -> Self {
        Item::new(inode, Kind::INODE, 0)
    }

    /// Whose it is.
    pub fn owner(self) -> InodeNo {
        self.inode
    }

    /// What it is about.
    pub fn kind(self) -> Kind {
        Kind((self.place.wrapping_shr(SUB_BITS) & 0xff) as u8)
    }

    /// Its place among its kind.
    pub fn sub(self) -> u64 {
        self.place & MAX_SUB
    }

    /// The key of a version: the newest comes first.
    pub fn at(self, version: SnapshotId) -> Key {
        Key([self.inode.0, self.place, !version.0])
    }

    /// Which version of which item a key is.
    pub fn of(key: Key) -> (Item, SnapshotId) {
        let Key([inode, place, version]) = key;
        let item = Item {
            inode: InodeNo(inode),
            place,
        };
        (item, SnapshotId(!version))
    }

    /// All versions of the items from this one to `last`.
    pub fn to(self, last: Item) -> Range {
        Range {
            first: self.at(SnapshotId(u64::MAX)),
            last: last.at(SnapshotId::NONE),
        }
    }

    /// All versions of every item of an inode.
    pub fn all(inode: InodeNo) -> Range {
        Item { inode, place: 0 }.to(Item {
            inode,
            place: u64::MAX,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_touched_together() {
        let item = |kind, sub| Item::new(InodeNo(9), kind, sub);
        let windows = (item(Kind::EXTENTS, 64), item(Kind::EXTENTS, 127));
        for n in [64, 100, 127] {
            assert_eq!(item(Kind::EXTENTS, n).group(), windows);
        }
        for n in [64 * 32, 128 * 32 - 1] {
            assert_eq!(item(Kind::INLINE, n).group(), windows);
        }
        assert_ne!(item(Kind::EXTENTS, 128).group(), windows);
        assert_eq!(
            item(Kind::PARENT, 5).group(),
            Item::inode(InodeNo(9)).group()
        );
        assert_eq!(
            item(Kind::PIECE, 5).group(),
            item(Kind::ATTRIBUTE, 99).group()
        );
        let entry = item(Kind::ENTRY, 64);
        assert_eq!(entry.group(), (entry, entry));
    }

    #[test]
    fn newer_versions_come_first() {
        let item = Item::new(InodeNo(9), Kind::ENTRY, MAX_SUB);
        assert_eq!(item.at(SnapshotId(1)), Key([9, 0x10ff_ffff_ffff_ffff, !1]));
        assert!(item.at(SnapshotId(2)) < item.at(SnapshotId(1)));
        assert!(item.at(SnapshotId(1)) < Item::new(InodeNo(9), Kind(0x11), 0).at(SnapshotId(9)));
        assert_eq!(Item::of(item.at(SnapshotId(7))), (item, SnapshotId(7)));
        assert_eq!((item.kind(), item.sub()), (Kind::ENTRY, MAX_SUB));
        assert!(Item::all(InodeNo(9)).has(item.at(SnapshotId(3))));
    }
}
