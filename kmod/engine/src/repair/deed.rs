// SPDX-License-Identifier: GPL-2.0

//! What a repair does about something that is wrong, in words for people.

use crate::format::inode::FileType;
use crate::format::journal::Extent;
use crate::units::FileBlock;
use crate::units::InodeNo;
use core::fmt;
use embr_rt::Vec;

/// What is done about a finding.
#[derive(Debug)]
pub enum Deed {
    /// Free space is written anew, from all that is in use.
    SpaceRewritten,
    /// These blocks are kept from being given out.
    Taken(Extent),
    /// These blocks are free.
    Freed(Extent),
    /// A copy of a node is written again from one that is sound.
    CopyWritten,
    /// The lowest number that was never given out is this.
    Counter(u64),
    /// The inode is made anew from what is left of it; of a file, it has so many bytes.
    InodeMade(FileType, u64),
    /// The inode is of another type, as what it has and its name say; of a file, it has so many bytes.
    KindChanged(FileType, u64),
    /// An entry with this name is removed; it led to that inode.
    EntryRemoved(Vec<u8>, InodeNo),
    /// An entry with this name is put where its name is looked for.
    EntryMoved(Vec<u8>),
    /// An attribute with this name is put where it is looked for.
    AttributeMoved(Vec<u8>),
    /// An attribute with this name, which is there a second time, is removed.
    AttributeRemoved(Vec<u8>),
    /// An entry with this name says of its inode what that is.
    EntryCorrected(Vec<u8>),
    /// An entry with this name in that directory is made again; it leads to this inode.
    EntryRestored(InodeNo, Vec<u8>, InodeNo),
    /// The inode knows of its name.
    ParentAdded(InodeNo),
    /// What the inode says of its names is what directories say.
    ParentsRewritten,
    /// It is taken from the list.
    ListedDropped,
    /// It is put where it is looked for in the list.
    ListedMoved,
    /// The link count, and the number of entries or blocks, are these.
    Counted(u32, u64),
    /// The inode gets this name in `lost+found`.
    Found(Vec<u8>),
    /// Where the engram lies is what stripes say that hold it.
    MapMade,
    /// What a fragment of the stripe holds is what engrams say that lie there.
    ContentsMade(usize),
    /// What lives of the engram is what files name: so many blocks more, and so many fewer, the first of which is that of a file.
    Engram(usize, usize, Option<(InodeNo, FileBlock)>),
    /// The engram, which no file names, is removed.
    EngramRemoved,
    /// How often its blocks are said to be named is how often files name them.
    References,
    /// So many places that were set aside for the file are left to who else has them.
    PlacesLeft(usize),
    /// So many blocks of the stripe live.
    StripeLives(usize),
    /// Where the stripe is listed is as much as it wastes.
    StripeListed,
    /// What is said of all stripes is what they are.
    Totals,
    /// An item that makes no sense is removed.
    Dropped,
    /// All that is left of an inode that cannot be made again is removed.
    RestDropped,
    /// The root says that the tree has so many nodes.
    NodesCounted(u64),
    /// It is noted that it was touched.
    Noted,
    /// A version that nobody sees is removed, or what of it nobody sees.
    HiddenRemoved,
    /// It is not said any more that the item is gone, which nobody else has.
    IdleRemoved,
}

/// A name, for people.
struct Shown<'a>(&'a [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

impl Deed {
    /// One word for it, for programs.
    pub fn kind(&self) -> &'static str {
        match self {
            Deed::SpaceRewritten => "space-rewritten",
            Deed::Taken(_) => "taken",
            Deed::Freed(_) => "freed",
            Deed::CopyWritten => "copy-written",
            Deed::Counter(_) => "counter",
            Deed::InodeMade(..) => "inode-made",
            Deed::KindChanged(..) => "kind-changed",
            Deed::EntryRemoved(..) => "entry-removed",
            Deed::EntryMoved(_) => "entry-moved",
            Deed::AttributeMoved(_) => "attribute-moved",
            Deed::AttributeRemoved(_) => "attribute-removed",
            Deed::EntryCorrected(_) => "entry-corrected",
            Deed::EntryRestored(..) => "entry-restored",
            Deed::ParentAdded(_) => "parent-added",
            Deed::ParentsRewritten => "parents-rewritten",
            Deed::ListedDropped => "listed-dropped",
            Deed::ListedMoved => "listed-moved",
            Deed::Counted(..) => "counted",
            Deed::Found(_) => "lost-and-found",
            Deed::MapMade => "map-made",
            Deed::ContentsMade(_) => "contents-made",
            Deed::Engram(..) => "engram",
            Deed::EngramRemoved => "engram-removed",
            Deed::References => "references",
            Deed::PlacesLeft(_) => "places-left",
            Deed::StripeLives(_) => "stripe-lives",
            Deed::StripeListed => "stripe-listed",
            Deed::Totals => "totals",
            Deed::Dropped => "dropped",
            Deed::RestDropped => "rest-dropped",
            Deed::NodesCounted(_) => "nodes-counted",
            Deed::Noted => "noted",
            Deed::HiddenRemoved => "hidden-removed",
            Deed::IdleRemoved => "idle-removed",
        }
    }
}

impl fmt::Display for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Deed::SpaceRewritten => f.write_str("free space is written anew from all that is in use"),
            Deed::Taken(e) => write!(f, "{} blocks are in use now", e.blocks),
            Deed::Freed(e) => write!(f, "{} blocks are free now", e.blocks),
            Deed::CopyWritten => f.write_str("it is written again from the other copy"),
            Deed::Counter(next) => write!(f, "{next} is the next number now"),
            Deed::InodeMade(FileType::Regular, size) => write!(
                f,
                "it is made again, of {size} bytes, for root alone: how long the file was, whose, and when it was written is not known"
            ),
            Deed::InodeMade(kind, _) => {
                write!(f, "it is made again, as {kind:?}, for root alone")
            }
            Deed::KindChanged(FileType::Regular, size) => {
                write!(f, "it is a file with contents, and has {size} bytes now: how long it was is not known")
            }
            Deed::KindChanged(kind, _) => write!(f, "it is of type {kind:?} now"),
            Deed::EntryRemoved(name, to) => {
                write!(f, "entry {}, which led to inode {to}, is removed", Shown(name))
            }
            Deed::EntryMoved(name) => write!(f, "entry {} is put in its place", Shown(name)),
            Deed::AttributeMoved(name) => write!(f, "attribute {} is put in its place", Shown(name)),
            Deed::AttributeRemoved(name) => write!(f, "attribute {} is removed: it is there with another value, which is the one that is read", Shown(name)),
            Deed::EntryCorrected(name) => {
                write!(f, "entry {} says what its inode is now", Shown(name))
            }
            Deed::EntryRestored(directory, name, to) => write!(
                f,
                "entry {} of directory {directory}, which leads to inode {to}, is made again",
                Shown(name)
            ),
            Deed::ParentAdded(to) => write!(f, "inode {to} knows of this name now"),
            Deed::ParentsRewritten => f.write_str("it has just the names that directories have of it"),
            Deed::ListedDropped => f.write_str("it is taken from the list"),
            Deed::ListedMoved => f.write_str("it is put in its place in the list"),
            Deed::Counted(links, entries) => {
                write!(f, "it counts {links} links, and {entries} entries or blocks, now")
            }
            Deed::Found(name) => write!(f, "it is {} in lost+found now", Shown(name)),
            Deed::MapMade => f.write_str("it lies where stripes say that they hold it"),
            Deed::ContentsMade(fragment) => {
                write!(f, "its fragment {fragment} holds what engrams say lies there")
            }
            Deed::Engram(0, 0, None) => f.write_str("its blocks are theirs now who name them"),
            Deed::Engram(more, fewer, whose) => {
                write!(f, "{more} blocks more live, as files name them, and {fewer} fewer")?;
                match whose {
                    Some((inode, block)) => write!(
                        f,
                        "; those were written as part of inode {inode}, from its block {block} on, which it does not name any more"
                    ),
                    None => Ok(()),
                }
            }
            Deed::EngramRemoved => f.write_str("no file names any of it: it is removed"),
            Deed::References => f.write_str("what is said of its blocks is how often files name them now"),
            Deed::PlacesLeft(blocks) => write!(
                f,
                "{blocks} of them are left to who else has them; the file has holes there, which read as zeros as before"
            ),
            Deed::StripeLives(live) => write!(f, "{live} of its blocks live, it says now"),
            Deed::StripeListed => f.write_str("it is listed for what it wastes"),
            Deed::Totals => f.write_str("the sums are right now"),
            Deed::Dropped => f.write_str("the item is removed"),
            Deed::RestDropped => f.write_str("what is left of the inode is removed: nothing says what it was"),
            Deed::NodesCounted(nodes) => write!(f, "the root says {nodes} now"),
            Deed::Noted => f.write_str("that it was touched is noted"),
            Deed::HiddenRemoved => f.write_str("what nobody sees is removed"),
            Deed::IdleRemoved => f.write_str("that it is gone is said no more"),
        }
    }
}
