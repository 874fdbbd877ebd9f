// SPDX-License-Identifier: GPL-2.0

//! Names: inodes, directories, links. Every operation is one transaction on the tree of names, so after a crash it happened or
//! it did not, and link counts, parents and numbers of entries agree at every moment.
//!
//! Nothing here locks files. Callers lock the inodes that an operation names exclusively, in the order that Linux has for it:
//! for a rename first the volume's rename lock, where directories differ; then directories, an ancestor before what is below it;
//! then files by their numbers. `readdir` and `lookup` are content with a shared lock of the directory. What hosts do without such
//! locks (writing back times and sizes) is kept apart here: a change holds the lock on changes from its first look at an inode
//! until it has committed. That lock, then the one on pieces of attributes' values, the one on the numbers for new inodes or the one on
//! room for what moves, come before any of [`Mounted`]'s. Attributes are read without any lock of the caller's.
//!
//! Nothing here reads or writes what files hold: that is [`crate::file`]'s.

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

pub(crate) mod attribute;
mod attribute_change;
mod attributes;
pub(crate) mod change;
mod create;
pub(crate) mod directory;
pub(crate) mod error;
pub(crate) mod hash;
pub(crate) mod item;
mod link;
mod number;
mod orphan;
mod parent;
mod rename;
pub(crate) mod view;

pub use attribute::Listed;
pub use attribute::Mark;
pub use attribute_change::Extended;
pub use attribute_change::Put;
pub use attributes::Attributes;
pub use create::Created;
pub use create::New;
pub use create::What;
pub use directory::Batch;
pub use directory::Cookie;
pub use directory::Entry;
pub use error::Damage;
pub use error::Error;
pub use error::Wrong;
pub use hash::HashWidth;
pub use item::Item;
pub use item::Kind;
pub use link::Removed;
pub use link::Users;
pub use parent::Parent;
pub use rename::Mode;
pub use rename::Renamed;
pub use view::Items;
pub use view::View;

use crate::error::NoMem;
use crate::units::Sequence;
use crate::volume::mounted::Machine;
use crate::volume::mounted::Mounted;
use embr_rt::lock_class;
use embr_rt::Mutex;
use embr_rt::RwLock;
use number::Numbers;

/// What the names of a mounted volume share, whichever snapshot they are of.
pub struct Names {
    width: HashWidth,
    /// Whoever changes items from what they were holds it: an inode's is changed by those who lock the inode and by those who do not.
    pub(crate) changing: Mutex<()>,
    /// Whoever changes pieces of attributes' values holds it while that happens, and whoever reads several, shared.
    pieces: RwLock<()>,
    numbers: Mutex<Numbers>,
    pub(crate) engrams: Mutex<crate::engram::Numbers>,
    /// Whoever moves what lies in stripes, or in copies, holds it. It comes before that of changes.
    pub(crate) rebundling: Mutex<crate::rebundle::Progress>,
    /// All snapshots. It comes before that of changes.
    pub(crate) shelf: Mutex<crate::snapshot::Shelf>,
    /// Nobody waits for anything while he holds it.
    pub(crate) tally: Mutex<crate::rebundle::Tally>,
    /// Nobody waits for anything while he holds it.
    pub(crate) shifts: Mutex<crate::file::Shifts>,
}

impl Names {
    /// The names of a volume that was just mounted.
    pub fn try_new(width: HashWidth) -> Result<Self, NoMem> {
        Ok(Names {
            width,
            changing: Mutex::try_new((), lock_class!("changes of names"))?,
            pieces: RwLock::try_new((), lock_class!("pieces of attributes"))?,
            numbers: Mutex::try_new(Numbers::default(), lock_class!("inode numbers"))?,
            engrams: Mutex::try_new(
                crate::engram::Numbers::default(),
                lock_class!("engram numbers"),
            )?,
            rebundling: Mutex::try_new(
                crate::rebundle::Progress::default(),
                lock_class!("rebundling"),
            )?,
            shelf: Mutex::try_new(crate::snapshot::Shelf::default(), lock_class!("snapshots"))?,
            tally: Mutex::try_new(crate::rebundle::Tally::default(), lock_class!("tally"))?,
            shifts: Mutex::try_new(
                crate::file::Shifts::default(),
                lock_class!("room for what moves"),
            )?,
        })
    }

    /// All files as a snapshot has them, to work on.
    pub fn of<'n, M: Machine>(&'n self, mounted: &'n Mounted<M>, view: &'n View) -> Files<'n, M> {
        Files {
            mounted,
            names: self,
            view,
        }
    }
}

/// All files as a snapshot has them: the front door for everything that is done with names.
pub struct Files<'n, M> {
    pub(crate) mounted: &'n Mounted<M>,
    pub(crate) names: &'n Names,
    pub(crate) view: &'n View,
}

impl<M> Clone for Files<'_, M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M> Copy for Files<'_, M> {}

/// What an operation came to.
#[derive(Debug)]
pub struct Done<T> {
    /// What the caller asked for.
    pub what: T,
    /// It is durable once this group of the journal is.
    pub group: Sequence,
}
