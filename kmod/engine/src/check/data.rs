// SPDX-License-Identifier: GPL-2.0

//! What files hold, as far as a check has a say in it: blocks that lie in the tree. Extents and engrams join here: the blocks that
//! they use in [`claim`], their items in [`item`].

use super::Ended;
use super::Trouble;
use super::Use;
use crate::file::MAX_SIZE;
use crate::format::inline;
use crate::format::inode::FileType;
use crate::format::journal::Extent;
use crate::names::Item;
use crate::names::Kind;
use crate::units::FileBlock;
use crate::volume::mounted::Machine;
use crate::volume::mounted::Mounted;

/// Tells of all blocks that hold what is in files.
pub(super) fn claim<M: Machine>(
    _mounted: &Mounted<M>,
    _use_of: &mut dyn FnMut(Use, Extent),
) -> Result<(), Ended> {
    Ok(())
}

/// What is wrong with an item of what a file holds; `kind` is its inode's type, where that is known.
pub(super) fn item(item: Item, value: &[u8], kind: Option<FileType>) -> Option<Trouble> {
    match item.kind() {
        Kind::INLINE if kind.is_some_and(|k| k != FileType::Regular) => Some(Trouble::NotRegular),
        Kind::INLINE if FileBlock(item.sub()).start() > MAX_SIZE => Some(Trouble::Unknown),
        Kind::INLINE => match inline::parse(value) {
            Some(_) => None,
            None => Some(Trouble::Senseless),
        },
        _ => Some(Trouble::Unknown),
    }
}
