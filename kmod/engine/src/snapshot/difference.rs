// SPDX-License-Identifier: GPL-2.0

//! What differs between two snapshots. Only what was touched on the way from one to the other is looked at.

use super::touched::Touched;
use crate::file::own;
use crate::format::inode::Inode;
use crate::format::name;
use crate::format::name::Target;
use crate::names::item::Item;
use crate::names::item::Kind;
use crate::names::item::MAX_SUB;
use crate::names::view::Ids;
use crate::names::view::Items;
use crate::names::Error;
use crate::names::Names;
use crate::names::View;
use crate::names::Wrong;
use crate::units::Blocks;
use crate::units::FileBlock;
use crate::units::InodeNo;
use crate::volume::mounted::Machine;
use crate::volume::mounted::Mounted;
use embr_rt::Box;
use embr_rt::NoMem;
use embr_rt::Vec;

/// Something that is not the same in one snapshot and in another.
#[derive(Debug)]
pub enum Difference {
    /// An inode as it was and as it is. Where it is gone, what it held is not told of.
    Inode(InodeNo, Box<(Option<Inode>, Option<Inode>)>),
    /// What a name in a directory led to, and what it leads to.
    Entry(InodeNo, Vec<u8>, Option<Target>, Option<Target>),
    /// Some extended attributes of an inode.
    Attributes(InodeNo),
    /// Blocks of a file, which may hold something else.
    Blocks(InodeNo, FileBlock, Blocks),
}

impl Difference {
    /// The inode that it concerns.
    pub fn inode(&self) -> InodeNo {
        match self {
            Difference::Inode(number, _)
            | Difference::Entry(number, ..)
            | Difference::Attributes(number)
            | Difference::Blocks(number, ..) => *number,
        }
    }
}

/// Who is told.
type Tell<'t> = &'t mut dyn FnMut(Difference) -> Result<(), Error>;

impl Names {
    /// Tells what differs between two snapshots, inode by inode in the order of their numbers, beginning with `from`. Neither need have
    /// grown from the other. Of a head, what changes meanwhile may be told or not.
    pub fn difference<M: Machine>(
        &self,
        mounted: &Mounted<M>,
        (old, new): (&View, &View),
        from: InodeNo,
        tell: &mut dyn FnMut(Difference) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let between = Ids::apart(old.now().all_ids(), new.now().all_ids())?;
        let mut touched = Touched::new(mounted, between, from);
        let pair = Pair {
            names: self,
            mounted,
            old,
            new,
        };
        // An inode of which all was looked at.
        let mut done = None;
        while let Some((inode, item)) = touched.next()? {
            if done == Some(inode) || inode == InodeNo::NONE {
                continue;
            }
            match item {
                Some(item) => pair.touched(item, tell)?,
                None => {
                    done = Some(inode);
                    pair.whole(inode, tell)?;
                }
            }
        }
        Ok(())
    }
}

struct Pair<'p, M: Machine> {
    names: &'p Names,
    mounted: &'p Mounted<M>,
    old: &'p View,
    new: &'p View,
}

/// Items as one of them sees them.
type Seen<'v, M> = Result<Box<Items<'v, M>>, NoMem>;

/// An item's value in both.
type Values = (Option<Vec<u8>>, Option<Vec<u8>>);

impl<M: Machine> Pair<'_, M> {
    #[inline(never)]
    fn touched(&self, item: Item, tell: Tell<'_>) -> Result<(), Error> {
        let inode = item.owner();
        let (first, last) = item.group();
        let old = Some(self.old);
        match item.kind() {
            Kind::INODE | Kind::PARENT => self.inode(inode, tell).map(drop),
            Kind::ENTRY => self.entries(old, (first, last), tell),
            Kind::ATTRIBUTE | Kind::PIECE => self.attributes(old, inode, tell),
            Kind::EXTENTS | Kind::INLINE => {
                self.windows(old, inode, (first.sub(), last.sub()), tell)
            }
            _ => Ok(()),
        }
    }

    /// All of an inode.
    #[inline(never)]
    fn whole(&self, inode: InodeNo, tell: Tell<'_>) -> Result<(), Error> {
        let (was_there, is_there) = self.inode(inode, tell)?;
        if !is_there {
            return Ok(());
        }
        // What ancestors have of one that is gone is not seen.
        let old = was_there.then_some(self.old);
        let entry = |sub| Item::new(inode, Kind::ENTRY, sub);
        self.entries(old, (entry(0), entry(MAX_SUB)), tell)?;
        self.attributes(old, inode, tell)?;
        self.windows(old, inode, (0, u64::MAX), tell)
    }

    /// The inode itself; says whether it was there, and whether it is.
    #[inline(never)]
    fn inode(&self, number: InodeNo, tell: Tell<'_>) -> Result<(bool, bool), Error> {
        let item = Item::inode(number);
        let old = self.old.get(self.mounted, item)?;
        let new = self.new.get(self.mounted, item)?;
        let there = (old.is_some(), new.is_some());
        if old.as_deref() != new.as_deref() {
            let parse = |value: Option<Vec<u8>>| {
                let bad = |why| Error::damaged(item, Wrong::Inode(why));
                value.map(|v| Inode::parse(&v).map_err(bad)).transpose()
            };
            let both = Box::try_new((parse(old)?, parse(new)?))?;
            tell(Difference::Inode(number, both))?;
        }
        Ok(there)
    }

    /// On the heap: it is large.
    #[inline(never)]
    fn seen<'v>(&'v self, view: &'v View, first: Item, last: Item) -> Seen<'v, M> {
        Box::try_new(view.items(self.mounted, first, last))
    }

    /// Tells of items from one to another that differ.
    #[inline(never)]
    fn items(
        &self,
        old: Option<&View>,
        (first, last): (Item, Item),
        differs: &mut dyn FnMut(Item, Values) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut of_old = old.map(|old| self.seen(old, first, last)).transpose()?;
        let mut of_new = self.seen(self.new, first, last)?;
        let mut next_old = || of_old.as_mut().map_or(Ok(None), |items| items.next());
        let (mut old, mut new) = (next_old()?, of_new.next()?);
        loop {
            let at = |head: &Option<(Item, Vec<u8>)>| head.as_ref().map(|(item, _)| *item);
            let Some(item) = at(&old).into_iter().chain(at(&new)).min() else {
                return Ok(());
            };
            let mut was = None;
            let mut is = None;
            if at(&old) == Some(item) {
                was = core::mem::replace(&mut old, next_old()?).map(|(_, value)| value);
            }
            if at(&new) == Some(item) {
                is = core::mem::replace(&mut new, of_new.next()?).map(|(_, value)| value);
            }
            if was.as_deref() != is.as_deref() {
                differs(item, (was, is))?;
            }
        }
    }

    #[inline(never)]
    fn entries(&self, old: Option<&View>, span: (Item, Item), tell: Tell<'_>) -> Result<(), Error> {
        self.items(old, span, &mut |item, (old, new)| {
            let parse = |value: &Option<Vec<u8>>| -> Result<_, Error> {
                match value {
                    None => Ok(None),
                    Some(value) => {
                        let entry = name::parse_entry(value);
                        let (target, name) = entry.ok_or(Error::damaged(item, Wrong::Senseless))?;
                        Ok(Some((target, Vec::try_from_slice(name.bytes())?)))
                    }
                }
            };
            let directory = item.owner();
            match (parse(&old)?, parse(&new)?) {
                (Some((old, name)), Some((new, same))) if name == same => {
                    tell(Difference::Entry(directory, name, Some(old), Some(new)))
                }
                // Of names with one hash another took the place; they may have others by now.
                (old, new) => {
                    if let Some((was, name)) = old {
                        if self.target(self.new, directory, &name)?.is_none() {
                            tell(Difference::Entry(directory, name, Some(was), None))?;
                        }
                    }
                    if let Some((is, name)) = new {
                        let was = self.target(self.old, directory, &name)?;
                        if was != Some(is) {
                            tell(Difference::Entry(directory, name, was, Some(is)))?;
                        }
                    }
                    Ok(())
                }
            }
        })
    }

    /// What a name leads to in one of them.
    fn target(
        &self,
        view: &View,
        directory: InodeNo,
        name: &[u8],
    ) -> Result<Option<Target>, Error> {
        match self.names.of(self.mounted, view).lookup(directory, name) {
            Ok(found) => Ok(Some(found)),
            Err(Error::NotFound) => Ok(None),
            Err(why) => Err(why),
        }
    }

    #[inline(never)]
    fn attributes(&self, old: Option<&View>, inode: InodeNo, tell: Tell<'_>) -> Result<(), Error> {
        let mut any = false;
        let first = Item::new(inode, Kind::ATTRIBUTE, 0);
        let last = Item::new(inode, Kind::PIECE, MAX_SUB);
        self.items(old, (first, last), &mut |_, _| {
            any = true;
            Ok(())
        })?;
        match any {
            true => tell(Difference::Attributes(inode)),
            false => Ok(()),
        }
    }

    #[inline(never)]
    fn windows(
        &self,
        old: Option<&View>,
        inode: InodeNo,
        span: (u64, u64),
        tell: Tell<'_>,
    ) -> Result<(), Error> {
        let old = old.map(|old| self.names.of(self.mounted, old));
        let new = self.names.of(self.mounted, self.new);
        own::differing((old, new), inode, span, &mut |at, blocks| {
            tell(Difference::Blocks(inode, at, blocks))
        })
    }
}
