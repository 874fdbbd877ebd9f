// SPDX-License-Identifier: GPL-2.0

//! Names: inode by inode, for the items of an inode are neighbours. Every entry is looked up at its target and every parent at its
//! directory; so what is counted of an inode is what leads to it, and nothing has to be remembered from one inode to the next.

use super::reach::Reach;
use super::Check;
use super::Ended;
use super::Finding;
use super::Observer;
use super::Stage;
use super::Trouble;
use crate::format::geometry::Policy;
use crate::format::inode::BadInode;
use crate::format::inode::FileType;
use crate::format::inode::Inode;
use crate::format::intent::Intent;
use crate::format::name;
use crate::format::name::Name;
use crate::format::name::Parents;
use crate::format::name::Target;
use crate::names::hash::PIECE_BITS;
use crate::names::hash::PROBE_BITS;
use crate::names::view::walk;
use crate::names::view::Ids;
use crate::names::Error;
use crate::names::Files;
use crate::names::Item;
use crate::names::Kind;
use crate::tree::Key;
use crate::tree::Range;
use crate::tree::TreeError;
use crate::units::Bytes;
use crate::units::InodeNo;
use crate::units::SnapshotId;
use crate::volume::mounted::Fault;
use crate::volume::mounted::Machine;
use crate::volume::mounted::NAMES;
use embr_rt::Vec;

/// What is known of an inode from its own item.
struct Head {
    kind: FileType,
    policy: Policy,
    nlink: u32,
    entries: u64,
}

/// The inode whose items are gone through.
struct At {
    number: InodeNo,
    head: Option<Head>,
    /// Its own item is there, whatever it says.
    is_there: bool,
    /// Its newest version says that it is gone, and so is all that belongs to it.
    is_gone: bool,
    /// There are other items of it that the snapshot sees.
    has_items: bool,
    /// Some of its items may be in a node that is lost.
    is_torn: bool,
    /// Names that lead to it.
    names: u64,
    entries: u64,
    /// Blocks that its items say something of.
    blocks: u64,
    directories: u64,
    /// Names of the entries or attributes with one hash, each behind its length; and where they begin.
    same_hash: Vec<u8>,
    hash: Option<Item>,
}

pub(super) struct Walk<'w, 'c, 'n, M, O> {
    pub(super) check: &'w mut Check<'c, M, O>,
    pub(super) files: Files<'n, M>,
    reach: Reach,
    at: At,
    /// The lowest number that was never set aside.
    next: Option<InodeNo>,
    /// What files hold is looked at also of versions of these: nobody else's walk meets them.
    also: &'w [Ids],
}

/// What a look at another item came to.
pub(crate) enum Look<T> {
    There(T),
    Missing,
    /// A node that could say is lost, or the item is damaged, which is told where it lies.
    Unknown,
}

pub(crate) fn look<T>(found: Result<Option<T>, Error>) -> Result<Look<T>, Ended> {
    match found {
        Ok(Some(found)) => Ok(Look::There(found)),
        Ok(None) | Err(Error::NotFound) => Ok(Look::Missing),
        Err(Error::Fault(Fault::NoMemory)) => Err(Ended::NoMemory),
        Err(Error::Fault(why @ (Fault::Stopped | Fault::ReadOnly))) => Err(Ended::Fault(why)),
        Err(_) => Ok(Look::Unknown),
    }
}

impl At {
    fn new(number: InodeNo) -> Self {
        At {
            number,
            head: None,
            is_there: false,
            is_gone: false,
            has_items: false,
            is_torn: false,
            names: 0,
            entries: 0,
            blocks: 0,
            directories: 0,
            same_hash: Vec::new(),
            hash: None,
        }
    }

    fn item(&self) -> Item {
        Item::inode(self.number)
    }
}

/// Checks all names that these files have.
pub(super) fn check<M: Machine, O: Observer>(
    check: &mut Check<'_, M, O>,
    files: Files<'_, M>,
    also: &[Ids],
) -> Result<(), Ended> {
    let reach = Reach::try_new(Bytes(check.options.memory.0 / 4))?;
    let mut walk = Walk {
        check,
        files,
        reach,
        at: At::new(InodeNo::NONE),
        next: None,
        also,
    };
    walk.run()
}

impl<M: Machine, O: Observer> Walk<'_, '_, '_, M, O> {
    pub(super) fn found(&mut self, item: Item, what: Trouble) {
        self.check.found(Finding::Names(item, what));
    }

    fn run(&mut self) -> Result<(), Ended> {
        self.check.begin(Stage::Names)?;
        let mut from = Some(Key::MIN);
        let mut is_root_there = false;
        while let Some(first) = from {
            let last = Key::MAX;
            from = match self.stretch(Range { first, last }, &mut is_root_there)? {
                None => None,
                Some(lost) => {
                    // It is known to be lost. What follows may be of another inode.
                    self.at.is_torn = true;
                    is_root_there |= lost.has(Item::inode(InodeNo::ROOT).at(SnapshotId::FIRST));
                    lost.last.next().filter(|next| *next > first)
                }
            };
            if let Some(next) = from {
                // The inode that the lost range ends in.
                let (item, _) = Item::of(next);
                self.turn_to(item.owner())?;
                self.at.is_torn = true;
            }
        }
        self.leave()?;
        if !is_root_there {
            self.found(Item::inode(InodeNo::ROOT), Trouble::NoRoot);
        }
        Ok(())
    }

    /// Goes on until the end, or until a node is lost: then these keys are.
    fn stretch(&mut self, range: Range, is_root_there: &mut bool) -> Result<Option<Range>, Ended> {
        let mounted = self.check.mounted;
        let Some(mut scan) = mounted.scan(NAMES, range) else {
            return Ok(None);
        };
        let mut seen: Option<Item> = None;
        loop {
            let (key, value) = match scan.next() {
                Ok(Some(entry)) => entry,
                Ok(None) => return Ok(None),
                Err(TreeError::Io(..) | TreeError::Corrupt(..)) if scan.lost().is_some() => {
                    return Ok(scan.lost());
                }
                Err(why) => return Err(why.into()),
            };
            self.check.counted.items = self.check.counted.items.saturating_add(1);
            self.check.pass(Stage::Names)?;
            let (item, version) = Item::of(key);
            let number = item.owner();
            if number != self.at.number {
                self.turn_to(number)?;
            }
            *is_root_there |= item == Item::inode(InodeNo::ROOT);
            if item.kind() == Kind::NUMBERS {
                self.numbers(item, version, &value);
                continue;
            }
            if !self.files.view.sees(version) {
                continue;
            }
            // Of windows, each version tells of blocks of its own.
            if seen == Some(item) && item.kind() != Kind::EXTENTS {
                continue;
            }
            seen = Some(item);
            if value.is_empty() {
                self.at.is_gone |= item == self.at.item();
            } else if !self.at.is_gone {
                self.at.has_items = true;
                self.item(item, version, &value)?;
            }
        }
    }

    fn turn_to(&mut self, number: InodeNo) -> Result<(), Ended> {
        if self.at.number != number {
            self.leave()?;
            self.at = At::new(number);
            self.check.counted.inodes = self.check.counted.inodes.saturating_add(1);
        }
        Ok(())
    }

    fn item(&mut self, item: Item, version: SnapshotId, value: &[u8]) -> Result<(), Ended> {
        match (item.owner(), item.kind()) {
            (InodeNo::NONE, Kind::ORPHAN) => self.orphan(item, value),
            (InodeNo::NONE, Kind::INTENT) => self.intent(item, value),
            (InodeNo::NONE, _) => {
                self.found(item, Trouble::Unknown);
                Ok(())
            }
            (_, Kind::INODE) => self.inode(item, value),
            (_, Kind::PARENT) => self.parents(item, value),
            (_, Kind::ENTRY) => self.entry(item, value),
            (_, Kind::ATTRIBUTE) => self.attribute(item, value),
            (_, Kind::PIECE) => self.piece(item, value),
            _ => {
                // Of what is older, some may be hidden: nobody asks that it survives.
                let is_current = version == self.files.view.current();
                let policy = |of| if is_current { of } else { Policy::NO_LOSS };
                let head = self.at.head.as_ref();
                let kind = head.map(|head| (head.kind, policy(head.policy)));
                // What is not its own is told of where it is.
                if !self.files.view.owns(version) {
                    if self.also.iter().any(|ids| ids.has(version)) {
                        self.check.contents(self.files, item, value, kind)?;
                    }
                    return Ok(());
                }
                let blocks = self.check.contents(self.files, item, value, kind)?;
                self.at.is_torn |= blocks.is_none();
                self.at.blocks = self.at.blocks.saturating_add(blocks.unwrap_or(0));
                Ok(())
            }
        }
    }

    fn numbers(&mut self, item: Item, version: SnapshotId, value: &[u8]) {
        let known = item == Item::new(InodeNo::NONE, Kind::NUMBERS, 0);
        if !known || version != SnapshotId::NONE {
            return self.found(item, Trouble::Unknown);
        }
        self.next = name::parse_number(value);
        if self.next.is_none_or(|next| next <= InodeNo::ROOT) {
            self.found(item, Trouble::Senseless);
            // Told once.
            self.next = Some(InodeNo(u64::MAX));
        }
    }

    fn orphan(&mut self, item: Item, value: &[u8]) -> Result<(), Ended> {
        let Some(number) = name::parse_number(value) else {
            self.found(item, Trouble::Senseless);
            return Ok(());
        };
        if orphan_of(number) != item {
            self.found(item, Trouble::Place);
        }
        match look(self.files.inode(number).map(Some))? {
            Look::There(inode) if inode.nlink == 0 => {}
            Look::Unknown => {}
            _ => self.found(item, Trouble::Listed(number)),
        }
        Ok(())
    }

    fn intent(&mut self, item: Item, value: &[u8]) -> Result<(), Ended> {
        let Some(intent) = Intent::parse(value) else {
            self.found(item, Trouble::Senseless);
            return Ok(());
        };
        if Item::new(InodeNo::NONE, Kind::INTENT, intent.inode.0) != item {
            self.found(item, Trouble::Place);
        }
        match look(self.files.inode(intent.inode).map(Some))? {
            Look::There(inode) if inode.kind == FileType::Regular => {}
            Look::Unknown => {}
            _ => self.found(item, Trouble::Listed(intent.inode)),
        }
        Ok(())
    }

    fn inode(&mut self, item: Item, value: &[u8]) -> Result<(), Ended> {
        if item != self.at.item() {
            self.found(item, Trouble::Unknown);
            return Ok(());
        }
        self.at.is_there = true;
        match Inode::parse(value) {
            Ok(inode) => {
                self.at.head = Some(Head {
                    kind: inode.kind,
                    policy: inode.policy,
                    nlink: inode.nlink,
                    entries: inode.entries,
                });
            }
            Err(BadInode::NoMemory) => return Err(Ended::NoMemory),
            Err(why) => self.found(item, Trouble::Inode(why)),
        }
        match self.next {
            Some(next) if item.owner() >= next => self.found(item, Trouble::Number(next)),
            _ => {}
        }
        Ok(())
    }

    fn parents(&mut self, item: Item, value: &[u8]) -> Result<(), Ended> {
        let Some(parents) = Parents::parse(value) else {
            self.at.is_torn = true;
            self.found(item, Trouble::Senseless);
            return Ok(());
        };
        for (index, (directory, name)) in parents.iter().enumerate() {
            if parents
                .iter()
                .take(index)
                .any(|other| other == (directory, name))
            {
                self.found(item, Trouble::Twice);
                continue;
            }
            if self.files.hash(directory, name).parent() != item.sub() {
                self.found(item, Trouble::Place);
            }
            let probed = self.files.probe(directory, name).map(|p| p.found);
            match look(probed)? {
                Look::There((_, target)) if target.inode != self.at.number => {
                    self.found(item, Trouble::OtherEntry(directory));
                }
                // Entries of a directory that was removed are there as long as others see them.
                Look::There(_) if is_gone(self.files, directory)? => {
                    self.found(item, Trouble::NoEntry(directory));
                }
                Look::There(_) | Look::Unknown => {
                    self.at.names = self.at.names.saturating_add(1);
                }
                Look::Missing => self.found(item, Trouble::NoEntry(directory)),
            }
        }
        Ok(())
    }

    fn entry(&mut self, item: Item, value: &[u8]) -> Result<(), Ended> {
        self.at.entries = self.at.entries.saturating_add(1);
        let Some((target, name)) = name::parse_entry(value) else {
            // Whether it is a directory's is not known.
            self.at.is_torn = true;
            self.found(item, Trouble::Senseless);
            return Ok(());
        };
        let head = self.at.head.as_ref();
        if head.is_some_and(|h| h.kind != FileType::Directory) {
            self.found(item, Trouble::NotDirectory);
        }
        let is_directory = target.kind == FileType::Directory;
        self.at.directories = self.at.directories.saturating_add(u64::from(is_directory));
        let hash = self.files.hash(item.owner(), name).first_probe();
        let first = Item::new(item.owner(), Kind::ENTRY, hash);
        if first != first_of(item) {
            self.found(item, Trouble::Place);
        }
        self.once(item, name.bytes())?;
        self.target(item, target, name)
    }

    /// Whether no entry or attribute before has the same name.
    pub(super) fn once(&mut self, item: Item, name: &[u8]) -> Result<(), Ended> {
        let first = Some(first_of(item));
        if self.at.hash != first {
            self.at.hash = first;
            self.at.same_hash.clear();
        }
        let mut rest = self.at.same_hash.as_slice();
        let mut is_twice = false;
        while let Some((length, names)) = rest.split_first() {
            let Some((other, after)) = names.split_at_checked(usize::from(*length)) else {
                break;
            };
            is_twice |= other == name;
            rest = after;
        }
        if is_twice {
            self.found(item, Trouble::Twice);
        }
        let length = u8::try_from(name.len()).unwrap_or(u8::MAX);
        self.at.same_hash.push(length)?;
        Ok(self.at.same_hash.try_extend_from_slice(name)?)
    }

    /// Whether the entry leads to what it says, and that knows of it.
    fn target(&mut self, item: Item, target: Target, name: Name<'_>) -> Result<(), Ended> {
        let number = target.inode;
        match look(self.files.inode(number).map(Some))? {
            Look::There(inode) => {
                if inode.kind != target.kind {
                    self.found(item, Trouble::Type(number));
                }
                if inode.generation != target.generation {
                    self.found(item, Trouble::Generation(number));
                }
            }
            Look::Missing => {
                self.found(item, Trouble::Nowhere(number));
                return Ok(());
            }
            Look::Unknown => {}
        }
        let sub = self.files.hash(item.owner(), name).parent();
        let parent = Item::new(number, Kind::PARENT, sub);
        let value = self.files.view.get(self.check.mounted, parent);
        let is_known = match look(value.map_err(Error::Fault))? {
            // What makes no sense is told where it lies.
            Look::There(value) => Parents::parse(&value)
                .is_none_or(|all| all.iter().any(|p| p == (item.owner(), name))),
            Look::Missing => false,
            Look::Unknown => true,
        };
        if !is_known {
            self.found(item, Trouble::NoParent(number));
        }
        Ok(())
    }

    /// All items of the inode were seen.
    fn leave(&mut self) -> Result<(), Ended> {
        let item = self.at.item();
        if self.at.number == InodeNo::NONE {
            if self.next.is_none() && !self.at.is_torn {
                self.found(
                    Item::new(InodeNo::NONE, Kind::NUMBERS, 0),
                    Trouble::NoCounter,
                );
            }
            return Ok(());
        }
        if self.at.has_items && !self.at.is_there && !self.at.is_torn {
            self.found(item, Trouble::NoInode);
        }
        let Some(Head {
            kind,
            nlink,
            entries,
            ..
        }) = self.at.head
        else {
            return Ok(());
        };
        let is_directory = kind == FileType::Directory;
        let is_root = self.at.number == InodeNo::ROOT;
        if !self.at.is_torn {
            let names = self.at.names;
            let links = match (is_directory, is_root || names != 0) {
                (true, true) => self.at.directories.saturating_add(2),
                (true, false) => 0,
                (false, _) => names,
            };
            if u64::from(nlink) != links {
                self.found(item, Trouble::Links(nlink, links));
            }
            let counted = match kind {
                FileType::Directory => Some(self.at.entries),
                FileType::Regular if self.files.view.is_single() => Some(self.at.blocks),
                // While it is removed step by step, what it hides of its ancestors' can be seen again.
                FileType::Regular if nlink == 0 => None,
                FileType::Regular => match look(self.files.held(self.at.number).map(Some))? {
                    Look::There(held) => Some(held),
                    _ => None,
                },
                _ => None,
            };
            if let Some(counted) = counted.filter(|counted| *counted != entries) {
                self.found(item, Trouble::Entries(entries, counted));
            }
            if is_directory && names > u64::from(!is_root) {
                self.found(item, Trouble::Parents(names));
            }
        }
        if nlink == 0 {
            let listed = orphan_of(self.at.number);
            let value = self.files.view.get(self.check.mounted, listed);
            if matches!(look(value.map_err(Error::Fault))?, Look::Missing) {
                self.found(item, Trouble::NotListed);
            }
        } else if is_directory && self.reach.is_below(self.files, self.at.number)? == Some(false) {
            self.found(item, Trouble::Unreachable);
        }
        Ok(())
    }
}

/// Whether the newest version of an inode that is seen says that it is gone.
pub(crate) fn is_gone<M: Machine>(files: Files<'_, M>, number: InodeNo) -> Result<bool, Ended> {
    if files.view.is_single() {
        return Ok(false);
    }
    let item = Item::inode(number);
    let Some(mut scan) = walk(files.mounted, item.to(item))? else {
        return Ok(false);
    };
    loop {
        match look(scan.next().map_err(|why| Error::Fault(why.into())))? {
            Look::There((key, value)) if files.view.sees(Item::of(key).1) => {
                return Ok(value.is_empty());
            }
            Look::There(_) => {}
            Look::Missing | Look::Unknown => return Ok(false),
        }
    }
}

/// Where names with this entry's or attribute's hash begin.
pub(crate) fn first_of(item: Item) -> Item {
    let bits = match item.kind() {
        Kind::ENTRY => PROBE_BITS,
        _ => PROBE_BITS.wrapping_add(PIECE_BITS),
    };
    let sub = item.sub().wrapping_shr(bits).wrapping_shl(bits);
    Item::new(item.owner(), item.kind(), sub)
}

fn orphan_of(number: InodeNo) -> Item {
    Item::new(InodeNo::NONE, Kind::ORPHAN, number.0)
}
