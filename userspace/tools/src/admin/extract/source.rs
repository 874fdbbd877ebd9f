// SPDX-License-Identifier: GPL-2.0

//! Names and inodes of a volume of which any part may be lost: what can be read is given, what cannot is said, and it goes on behind it.

use crate::admin::FAILED;
use crate::failure::Failure;
use crate::items;
use embr_engine::format::attribute;
use embr_engine::format::attribute::Held;
use embr_engine::format::inode::Inode;
use embr_engine::format::name;
use embr_engine::format::name::Parents;
use embr_engine::format::name::Target;
use embr_engine::names::Error;
use embr_engine::names::Files;
use embr_engine::names::Item;
use embr_engine::names::Kind;
use embr_engine::names::View;
use embr_engine::tree::Range;
use embr_engine::units::InodeNo;
use embr_engine::volume::mounted::NAMES;
use embr_engine::volume::Fault;
use embr_engine::volume::Machine;
use embr_engine::volume::Mounted;
use std::ops::ControlFlow;

/// Items of a file that are passed one by one; more are skipped by looking for what comes next.
const PASSED: u32 = 64;
/// Inodes that are looked for at a time.
const INODES: usize = 256;

/// A volume to read from.
pub(super) struct Source<'s, M> {
    pub(super) mounted: &'s Mounted<M>,
    pub(super) view: &'s View,
    pub(super) files: Files<'s, M>,
}

/// What comes next.
enum Next<'a> {
    /// An item and its value.
    Item(Item, &'a [u8]),
    /// A node that cannot be read, with all that is in it.
    Lost(Error),
}

/// A name in a directory.
pub(super) struct Entry {
    pub(super) name: Vec<u8>,
    pub(super) target: Target,
}

/// Some names of a directory.
pub(super) struct Batch {
    pub(super) entries: Vec<Entry>,
    /// Where to go on.
    pub(super) next: Option<u64>,
    /// What could not be read of the directory before that.
    pub(super) lost: Vec<String>,
}

/// Who gets extended attributes: name and value of each, or what is wrong with it.
pub(super) type Attributes<'s> =
    dyn FnMut(Result<(&[u8], &[u8]), String>) -> Result<(), Failure> + 's;

/// A name that a file says it has.
pub(super) struct Parent {
    pub(super) directory: InodeNo,
    pub(super) name: Vec<u8>,
}

/// Tells what is damaged, which it goes on from, from what ends the work.
pub(super) fn judge<T>(found: Result<T, Error>) -> Result<Result<T, Error>, Failure> {
    match found {
        Err(why) if !why.is_damage() && why != Error::NotFound => {
            Err(Failure::new(FAILED, "volume", why.to_string()))
        }
        found => Ok(found),
    }
}

/// All items of a kind that an inode has, from this place on.
fn all_of(inode: InodeNo, kind: Kind, from: u64) -> Range {
    Item::new(inode, kind, from).to(Item::new(inode, kind, u64::MAX))
}

impl<M: Machine> Source<'_, M> {
    /// Goes through items until `see` has enough.
    fn each(
        &self,
        range: Range,
        see: &mut dyn FnMut(Next<'_>) -> Result<ControlFlow<()>, Failure>,
    ) -> Result<(), Failure> {
        let last = range.last;
        let mut from = Some(range.first);
        let mut newest = None;
        let mut is_behind_gap = false;
        let mut doubted = None;
        while let Some(first) = from.take() {
            let Some(mut scan) = self.mounted.scan(NAMES, Range { first, last }) else {
                return Ok(());
            };
            loop {
                let (key, value) = match scan.next() {
                    Ok(Some(found)) => found,
                    Ok(None) => return Ok(()),
                    Err(why) => {
                        let why = judge::<()>(Err(Fault::from(why).into()))?;
                        let behind = scan.lost().and_then(|keys| keys.last.next());
                        from = behind.filter(|next| *next > first && *next <= last);
                        is_behind_gap = true;
                        if let Err(why) = why {
                            if see(Next::Lost(why))?.is_break() {
                                return Ok(());
                            }
                        }
                        break;
                    }
                };
                let (item, version) = Item::of(key);
                // A newer version of the first item behind a gap may be in it.
                if std::mem::take(&mut is_behind_gap) {
                    doubted = Some(item);
                }
                let may_be_old = doubted == Some(item) && version != self.view.current();
                if newest == Some(item) || !self.view.sees(version) {
                    continue;
                }
                newest = Some(item);
                if value.is_empty() || may_be_old {
                    continue;
                }
                if see(Next::Item(item, &value))?.is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// An inode.
    pub(super) fn inode(&self, number: InodeNo) -> Result<Result<Inode, Error>, Failure> {
        judge(self.files.inode(number))
    }

    /// At most so many names of a directory, whatever is known of its inode.
    pub(super) fn entries(
        &self,
        directory: InodeNo,
        from: u64,
        most: usize,
    ) -> Result<Batch, Failure> {
        let mut batch = Batch {
            entries: Vec::new(),
            next: None,
            lost: Vec::new(),
        };
        self.each(all_of(directory, Kind::ENTRY, from), &mut |next| {
            match next {
                Next::Lost(why) => batch.lost.push(why.to_string()),
                Next::Item(item, value) => {
                    if batch.entries.len() >= most {
                        batch.next = Some(item.sub());
                        return Ok(ControlFlow::Break(()));
                    }
                    match name::parse_entry(value) {
                        Some((target, name)) => batch.entries.push(Entry {
                            name: name.bytes().to_vec(),
                            target,
                        }),
                        None => batch
                            .lost
                            .push(format!("entry {:#x} makes no sense", item.sub())),
                    }
                }
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(batch)
    }

    /// What a name in a directory leads to; and where the directory does not say that, although it may once have, which file says that it
    /// has the name.
    pub(super) fn lookup(
        &self,
        directory: InodeNo,
        name: &[u8],
    ) -> Result<Option<(Target, bool)>, Failure> {
        match self.files.lookup(directory, name) {
            Ok(target) => return Ok(Some((target, true))),
            Err(Error::NotFound | Error::Invalid | Error::NameTooLong | Error::NotDirectory)
                if judge(self.files.inode(directory))?.is_ok() =>
            {
                return Ok(None);
            }
            Err(why) => drop(judge::<()>(Err(why))?),
        }
        let mut from = Some(0);
        while let Some(first) = from {
            let batch = self.entries(directory, first, INODES)?;
            if let Some(found) = batch.entries.into_iter().find(|e| e.name == name) {
                return Ok(Some((found.target, true)));
            }
            from = batch.next;
        }
        let found = self.child(directory, name)?;
        Ok(found.map(|target| (target, false)))
    }

    /// The file that says it has this name.
    fn child(&self, directory: InodeNo, name: &[u8]) -> Result<Option<Target>, Failure> {
        let mut from = Some(InodeNo::ROOT);
        while let Some(first) = from {
            let (inodes, next) = self.inodes(first, &mut |_| {})?;
            for number in inodes {
                let is_it = |p: &Parent| p.directory == directory && p.name == name;
                if !self.parents(number)?.iter().any(is_it) {
                    continue;
                }
                if let Ok(inode) = self.inode(number)? {
                    return Ok(Some(Target {
                        inode: number,
                        generation: inode.generation,
                        kind: inode.kind,
                    }));
                }
            }
            from = next;
        }
        Ok(None)
    }

    /// The names that a file says it has, as far as that can be read.
    pub(super) fn parents(&self, number: InodeNo) -> Result<Vec<Parent>, Failure> {
        let mut found = Vec::new();
        self.each(all_of(number, Kind::PARENT, 0), &mut |next| {
            let parents = match next {
                Next::Item(_, value) => Parents::parse(value),
                Next::Lost(_) => None,
            };
            for (directory, name) in parents.iter().flat_map(|parents| parents.iter()) {
                found.push(Parent {
                    directory,
                    name: name.bytes().to_vec(),
                });
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(found)
    }

    /// The numbers of some inodes that are there, and where to go on.
    pub(super) fn inodes(
        &self,
        from: InodeNo,
        lost: &mut dyn FnMut(Error),
    ) -> Result<(Vec<InodeNo>, Option<InodeNo>), Failure> {
        let last = Item::all(InodeNo(u64::MAX)).last;
        let first = Item::all(from).first;
        let mut found = Vec::new();
        let mut next = None;
        let mut passed = 0u32;
        self.each(Range { first, last }, &mut |step| {
            let item = match step {
                Next::Item(item, _) => item,
                Next::Lost(why) => {
                    lost(why);
                    return Ok(ControlFlow::Continue(()));
                }
            };
            if item.kind() == Kind::INODE && item.sub() == 0 {
                found.push(item.owner());
                passed = 0;
            } else {
                passed = passed.saturating_add(1);
            }
            if found.len() < INODES && passed < PASSED {
                return Ok(ControlFlow::Continue(()));
            }
            next = item.owner().0.checked_add(1).map(InodeNo);
            Ok(ControlFlow::Break(()))
        })?;
        Ok((found, next))
    }

    /// The extended attributes of a file, one after the other.
    pub(super) fn attributes(
        &self,
        number: InodeNo,
        see: &mut Attributes<'_>,
    ) -> Result<(), Failure> {
        self.each(all_of(number, Kind::ATTRIBUTE, 0), &mut |next| {
            let (item, value) = match next {
                Next::Item(item, value) => (item, value),
                Next::Lost(why) => {
                    see(Err(format!("extended attributes are lost: {why}")))?;
                    return Ok(ControlFlow::Continue(()));
                }
            };
            match attribute::parse(value) {
                Some((name, Held::InPlace(value))) => see(Ok((name.bytes(), value)))?,
                Some((name, Held::InPieces(_))) => match self.attribute(number, name.bytes())? {
                    Ok(value) => see(Ok((name.bytes(), &value)))?,
                    Err(why) => {
                        let name = items::text(name.bytes());
                        see(Err(format!("attribute {name} is lost: {why}")))?;
                    }
                },
                None => {
                    let place = item.sub();
                    see(Err(format!("attribute {place:#x} makes no sense")))?;
                }
            }
            Ok(ControlFlow::Continue(()))
        })
    }

    fn attribute(&self, number: InodeNo, name: &[u8]) -> Result<Result<Vec<u8>, Error>, Failure> {
        let found = match self.files.attribute(number, name) {
            // It is there, but not where its name is looked for.
            Err(Error::NoAttribute) => Err(Error::NotFound),
            found => found.map(|value| value.to_vec()),
        };
        judge(found)
    }
}
