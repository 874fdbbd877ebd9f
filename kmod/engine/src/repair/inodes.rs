// SPDX-License-Identifier: GPL-2.0

//! Inodes that are not there although something of them is: each is made again as what the rest says it was.

use super::patch::Patch;
use super::Deed;
use super::Mender;
use super::Observer;
use crate::check::names::is_gone;
use crate::check::names::look;
use crate::check::names::Look;
use crate::check::Ended;
use crate::check::Finding;
use crate::check::Trouble;
use crate::format::geometry::Policy;
use crate::format::inode::FileType;
use crate::format::inode::Inode;
use crate::format::inode::Rdev;
use crate::format::inode::MAX_SIZE;
use crate::format::name::Target;
use crate::names::Item;
use crate::names::Kind;
use crate::units::Bytes;
use crate::units::InodeNo;
use crate::units::BLOCK_SIZE;
use crate::volume::mounted::Machine;
use crate::volume::mounted::NAMES;
use embr_rt::Vec;

impl<M: Machine, O: Observer> Mender<'_, '_, M, O> {
    /// An inode is missing, or is none that has entries.
    pub(super) fn missing(&mut self, found: &Finding) -> Result<(), Ended> {
        let Finding::Names(item, trouble) = found else {
            return Ok(());
        };
        let number = item.owner();
        if number == InodeNo::NONE {
            return Ok(());
        }
        match look(self.files.inode(number).map(Some))? {
            Look::Missing => self.make(found, number),
            Look::There(inode)
                if matches!(trouble, Trouble::NotDirectory | Trouble::NotRegular) =>
            {
                self.is_another(found, number, &inode)
            }
            _ => Ok(()),
        }
    }

    /// Whether an inode has items of this kind.
    fn has(&self, number: InodeNo, kind: Kind) -> Result<Option<bool>, Ended> {
        let (first, last) = (
            Item::new(number, kind, 0),
            Item::new(number, kind, u64::MAX),
        );
        let mut items = self.files.view.items(self.mounted, first, last);
        let next = items.next().map_err(crate::names::Error::Fault);
        Ok(match look(next)? {
            Look::There(_) => Some(true),
            Look::Missing => Some(false),
            Look::Unknown => None,
        })
    }

    /// What the entries of its directories say that an inode is.
    fn as_named(&self, number: InodeNo) -> Result<Option<Target>, Ended> {
        let Some(names) = self.names_of(number)? else {
            return Ok(None);
        };
        for known in names.iter() {
            let super::parents::There::Sound(item) = known.there else {
                continue;
            };
            let value = self.value(item)?;
            let target = value.and_then(|v| Some(crate::format::name::parse_entry(&v)?.0));
            if target.is_some() {
                return Ok(target);
            }
        }
        Ok(None)
    }

    /// Makes an inode of what there is of it.
    pub(super) fn make(&mut self, found: &Finding, number: InodeNo) -> Result<(), Ended> {
        if is_gone(self.files, number)? {
            return Ok(());
        }
        let is_root = number == InodeNo::ROOT;
        let inside = (
            self.has(number, Kind::ENTRY)?,
            self.has(number, Kind::INLINE)?,
            self.has(number, Kind::EXTENTS)?,
        );
        let (Some(entries), Some(inline), Some(extents)) = inside else {
            return Ok(());
        };
        let named = self.as_named(number)?;
        let kind = match (entries, inline || extents) {
            _ if is_root => Some(FileType::Directory),
            (true, false) => Some(FileType::Directory),
            (false, true) => Some(FileType::Regular),
            (true, true) => None,
            // What a link leads to, and which device it is, only the inode said.
            (false, false) => named.map(|t| t.kind).filter(|kind| {
                matches!(
                    kind,
                    FileType::Directory | FileType::Regular | FileType::Fifo | FileType::Socket
                )
            }),
        };
        let Some(kind) = kind else {
            return self.drop_rest(found, number);
        };
        let Some(counted) = self.counted(number)? else {
            return Ok(());
        };
        let now = self.options.now;
        let size = Bytes(counted.end.saturating_mul(BLOCK_SIZE as u64)).min(MAX_SIZE);
        let names = u32::try_from(counted.names).unwrap_or(u32::MAX).max(1);
        let directories = u32::try_from(counted.directories).unwrap_or(u32::MAX);
        let (nlink, entries, size) = match kind {
            FileType::Directory => (directories.saturating_add(2), counted.entries, Bytes(0)),
            FileType::Regular => (names, counted.blocks, size),
            _ => (names, 0, Bytes(0)),
        };
        let inode = Inode {
            kind,
            permissions: match kind {
                FileType::Directory if is_root => 0o755,
                FileType::Directory => 0o700,
                _ => 0o600,
            },
            nlink,
            uid: 0,
            gid: 0,
            size,
            entries,
            rdev: Rdev(0),
            generation: named.map_or(0, |t| t.generation),
            flags: 0,
            project: 0,
            accessed: now,
            modified: now,
            changed: now,
            born: now,
            policy: Policy::VOLUME,
            target: Vec::new(),
        };
        let mut patch = Patch::new();
        self.put(&mut patch, Item::inode(number), &inode.encode()?)?;
        self.act(found, &Deed::InodeMade(kind, size.0), patch)
    }

    /// Nothing says what the inode was: what is left goes only where the user wants what makes no sense gone.
    fn drop_rest(&mut self, found: &Finding, number: InodeNo) -> Result<(), Ended> {
        if !self.options.drop_senseless || !self.has_items(number)? {
            return Ok(());
        }
        if self.files.view.is_single() {
            let mut patch = Patch::new();
            patch.remove_range(NAMES, Item::all(number))?;
            return self.act(found, &Deed::RestDropped, patch);
        }
        // What others see as well cannot be hidden behind an inode that nobody has.
        if self.inherits(number)? {
            return Ok(());
        }
        self.tell(found, &Deed::RestDropped);
        self.remove_own(number)
    }

    /// What has entries and no contents, or contents and no entries, and is called so where it is named, is a directory or a file.
    fn is_another(&mut self, found: &Finding, number: InodeNo, inode: &Inode) -> Result<(), Ended> {
        let inside = (
            self.has(number, Kind::ENTRY)?,
            self.has(number, Kind::INLINE)?,
            self.has(number, Kind::EXTENTS)?,
        );
        let is_root = number == InodeNo::ROOT;
        let kind = match inside {
            _ if is_root => FileType::Directory,
            (Some(true), Some(false), Some(false)) => FileType::Directory,
            (Some(false), Some(inline), Some(extents)) if inline || extents => FileType::Regular,
            _ => return Ok(()),
        };
        let is_named = |t: Target| t.kind == kind;
        // Where a link leads is nowhere else.
        let is_it = inode.kind != kind
            && (is_root
                || inode.kind != FileType::Symlink && self.as_named(number)?.is_some_and(is_named));
        let Some(counted) = self.counted(number)?.filter(|_| is_it) else {
            return Ok(());
        };
        let directories = u32::try_from(counted.directories).unwrap_or(u32::MAX);
        let names = u32::try_from(counted.names).unwrap_or(u32::MAX).max(1);
        let size = Bytes(counted.end.saturating_mul(BLOCK_SIZE as u64)).min(MAX_SIZE);
        let mut patch = Patch::new();
        self.with_inode(&mut patch, number, |inode| {
            inode.kind = kind;
            inode.rdev = Rdev(0);
            inode.target = Vec::new();
            (inode.nlink, inode.entries, inode.size) = match kind {
                FileType::Directory => (directories.saturating_add(2), counted.entries, Bytes(0)),
                _ => (names, counted.blocks, size),
            };
        })?;
        self.act(found, &Deed::KindChanged(kind, size.0), patch)
    }
}
