// SPDX-License-Identifier: GPL-2.0

//! What an inode counts is counted again; and what has no name gets one in `lost+found`, which is made where there is none.

use super::patch::Patch;
use super::Deed;
use super::Mender;
use super::Observer;
use crate::check::names::look;
use crate::check::names::Look;
use crate::check::Ended;
use crate::check::Finding;
use crate::format::extent;
use crate::format::extent::Encoding;
use crate::format::inode::FileType;
use crate::format::inode::Inode;
use crate::format::name;
use crate::format::name::Name;
use crate::format::name::Target;
use crate::names::Error;
use crate::names::Item;
use crate::names::Kind;
use crate::names::New;
use crate::names::What;
use crate::units::InodeNo;
use crate::volume::mounted::Machine;
use crate::volume::mounted::NAMES;
use embr_rt::Vec;

/// The directory for what has no name.
const LOST_AND_FOUND: &[u8] = b"lost+found";
/// Names that are tried beside the first.
const TRIES: usize = 10;

/// What there is of an inode.
pub(super) struct Counted {
    /// Names that lead to it.
    pub(super) names: u64,
    pub(super) entries: u64,
    pub(super) directories: u64,
    /// Blocks that are no hole.
    pub(super) blocks: u64,
    /// The block behind the last one.
    pub(super) end: u64,
}

/// `text`, and behind it a dot and the number, if it is not zero.
fn numbered(text: &[u8], number: usize) -> Result<Vec<u8>, Ended> {
    let mut name = Vec::try_from_slice(text)?;
    if number != 0 {
        name.push(b'.')?;
        push_number(&mut name, number as u64)?;
    }
    Ok(name)
}

fn push_number(name: &mut Vec<u8>, number: u64) -> Result<(), Ended> {
    let mut digits = [0u8; 20];
    let mut rest = number;
    let mut used = 0usize;
    for digit in digits.iter_mut().rev() {
        *digit = b'0'.saturating_add((rest % 10) as u8);
        rest /= 10;
        used = used.saturating_add(1);
        if rest == 0 {
            break;
        }
    }
    let begin = digits.len().saturating_sub(used);
    Ok(name.try_extend_from_slice(digits.get(begin..).unwrap_or_default())?)
}

impl<M: Machine, O: Observer> Mender<'_, '_, M, O> {
    /// Counts what there is of an inode; nothing where that cannot be known, for something of it makes no sense.
    pub(super) fn counted(&self, number: InodeNo) -> Result<Option<Counted>, Ended> {
        let mut counted = Counted {
            names: 0,
            entries: 0,
            directories: 0,
            blocks: 0,
            end: 0,
        };
        let Some(names) = self.names_of(number)? else {
            return Ok(None);
        };
        counted.names = names.iter().filter(|n| n.is_sound()).count() as u64;
        let parents = self.all_of(number, Kind::PARENT)?;
        let parse = |(_, value): &(Item, Vec<u8>)| name::Parents::parse(value).is_some();
        if !parents.is_some_and(|all| all.iter().all(parse)) {
            return Ok(None);
        }
        let (first, last) = (
            Item::new(number, Kind::ENTRY, 0),
            Item::new(number, Kind::EXTENTS, u64::MAX),
        );
        let mut items = self.files.view.items(self.mounted, first, last);
        loop {
            let (item, value) = match look(items.next().map_err(Error::Fault))? {
                Look::There(entry) => entry,
                Look::Missing => break,
                Look::Unknown => return Ok(None),
            };
            match item.kind() {
                Kind::ENTRY => {
                    let Some((target, _)) = name::parse_entry(&value) else {
                        return Ok(None);
                    };
                    counted.entries = counted.entries.saturating_add(1);
                    let more = u64::from(target.kind == FileType::Directory);
                    counted.directories = counted.directories.saturating_add(more);
                }
                Kind::INLINE => {
                    if crate::format::inline::parse(&value).is_none() {
                        return Ok(None);
                    }
                    counted.blocks = counted.blocks.saturating_add(1);
                    counted.end = counted.end.max(item.sub().saturating_add(1));
                }
                Kind::EXTENTS => {
                    let Some(all) = extent::parse(&value) else {
                        return Ok(None);
                    };
                    let window = item.sub().saturating_mul(extent::WINDOW as u64);
                    for run in all.iter().filter(|r| r.encoding != Encoding::Hole) {
                        counted.blocks = counted.blocks.saturating_add(run.blocks as u64);
                        let end = run.first.saturating_add(run.blocks) as u64;
                        counted.end = counted.end.max(window.saturating_add(end));
                    }
                }
                _ => {}
            }
        }
        if self.files.view.is_single() {
            return Ok(Some(counted));
        }
        // Each version tells of blocks of its own.
        match look(self.files.held(number).map(Some))? {
            Look::There(held) => counted.blocks = held,
            _ => return Ok(None),
        }
        counted.end = counted.end.max(self.end_of(number)?);
        Ok(Some(counted))
    }

    /// An inode's counts are wrong, or it has no name.
    pub(super) fn count(&mut self, found: &Finding) -> Result<(), Ended> {
        let Finding::Names(item, _) = found else {
            return Ok(());
        };
        let number = item.owner();
        let Look::There(inode) = look(self.files.inode(number).map(Some))? else {
            return Ok(());
        };
        let Some(counted) = self.counted(number)? else {
            return Ok(());
        };
        let Some((links, entries)) = self.right(number, &inode, &counted)? else {
            return self.give_name(found, number, &inode, &counted, None);
        };
        if (links, entries) == (inode.nlink, inode.entries) {
            return Ok(());
        }
        let mut patch = Patch::new();
        if links != 0 && self.is_orphan(number)? {
            let listed = Item::new(InodeNo::NONE, Kind::ORPHAN, number.0);
            self.take_away(&mut patch, listed)?;
        }
        self.with_inode(&mut patch, number, |inode| {
            inode.nlink = links;
            inode.entries = entries;
        })?;
        self.act(found, &Deed::Counted(links, entries), patch)
    }

    /// The link count, and the number of entries or blocks, that an inode should have; none if it should have a name first.
    fn right(
        &self,
        number: InodeNo,
        inode: &Inode,
        counted: &Counted,
    ) -> Result<Option<(u32, u64)>, Ended> {
        let is_root = number == InodeNo::ROOT;
        let is_orphan = inode.nlink == 0 && self.is_orphan(number)?;
        if counted.names == 0 && !is_root && !is_orphan {
            return Ok(None);
        }
        let links = match inode.kind {
            _ if counted.names == 0 && !is_root => 0,
            FileType::Directory => counted.directories.saturating_add(2),
            _ => counted.names,
        };
        let links = u32::try_from(links).unwrap_or(u32::MAX);
        let entries = match inode.kind {
            FileType::Directory if links == 0 => 0,
            FileType::Directory => counted.entries,
            // While it is removed step by step, what it hides of its ancestors' can be seen again.
            FileType::Regular if inode.nlink == 0 && !self.files.view.is_single() => inode.entries,
            FileType::Regular => counted.blocks,
            _ => inode.entries,
        };
        Ok(Some((links, entries)))
    }

    /// What an inode should count; none where that cannot be known.
    fn right_now(&self, number: InodeNo) -> Result<Option<(u32, u64)>, Ended> {
        let Look::There(inode) = look(self.files.inode(number).map(Some))? else {
            return Ok(None);
        };
        match self.counted(number)? {
            Some(counted) => self.right(number, &inode, &counted),
            None => Ok(None),
        }
    }

    /// An inode's counts are wrong in a snapshot. They are put right where they stand, if they stand in that snapshot and all who see them there
    /// should see the same: else somebody would see other counts than are right for him.
    pub(super) fn count_for_all(&mut self, found: &Finding) -> Result<(), Ended> {
        let Finding::Names(item, _) = found else {
            return Ok(());
        };
        let number = item.owner();
        let Some(id) = self.newest(Item::inode(number))? else {
            return Ok(());
        };
        let Some(right) = self.right_now(number)? else {
            return Ok(());
        };
        if !self.files.view.owns(id) {
            return Ok(());
        }
        for state in self.states.unwrap_or_default() {
            let theirs = self.seen_by(state, |mender| {
                Ok::<_, Ended>(match mender.newest(Item::inode(number))? == Some(id) {
                    true => Some(mender.right_now(number)?),
                    false => None,
                })
            })?;
            if theirs.is_some_and(|theirs| theirs != Some(right)) {
                return Ok(());
            }
        }
        let Look::There(mut inode) = look(self.files.inode(number).map(Some))? else {
            return Ok(());
        };
        if right == (inode.nlink, inode.entries) {
            return Ok(());
        }
        (inode.nlink, inode.entries) = right;
        let mut patch = Patch::new();
        patch.set(NAMES, Item::inode(number).at(id), &inode.encode()?)?;
        self.act(found, &Deed::Counted(right.0, right.1), patch)
    }

    /// A directory that is not below the root. One of a circle is taken out of it; what hangs below comes with it.
    pub(super) fn circle(&mut self, found: &Finding) -> Result<(), Ended> {
        let Finding::Names(item, _) = found else {
            return Ok(());
        };
        let number = item.owner();
        let Look::There(inode) = look(self.files.inode(number).map(Some))? else {
            return Ok(());
        };
        let Some(names) = self.names_of(number)? else {
            return Ok(());
        };
        let Some(above) = names.iter().find(|n| n.is_sound()) else {
            return Ok(());
        };
        let in_circle =
            above.directory == number || self.leads_up_to(above.directory, number)? == Some(true);
        let super::parents::There::Sound(entry) = above.there else {
            return Ok(());
        };
        let Some(counted) = self.counted(number)?.filter(|_| in_circle) else {
            return Ok(());
        };
        self.give_name(found, number, &inode, &counted, Some(entry))
    }

    /// The directory for what has no name.
    fn lost_and_found(&mut self) -> Result<Option<InodeNo>, Ended> {
        for n in 0..TRIES {
            let text = numbered(LOST_AND_FOUND, n)?;
            let Some(name) = Name::new(&text) else {
                return Ok(None);
            };
            let Look::There(probed) = look(self.files.probe(InodeNo::ROOT, name).map(Some))? else {
                return Ok(None);
            };
            match probed.found {
                Some((_, to)) if to.kind == FileType::Directory => {
                    let there = look(self.files.inode(to.inode).map(Some))?;
                    let is_it = |i: &Inode| i.is_directory() && i.nlink >= 2;
                    if matches!(there, Look::There(inode) if is_it(&inode)) {
                        return Ok(Some(to.inode));
                    }
                }
                Some(_) => {}
                None => {
                    let new = New {
                        what: What::Directory,
                        permissions: 0o700,
                        uid: 0,
                        gid: 0,
                        flags: 0,
                        project: 0,
                        now: self.options.now,
                    };
                    return match self.files.create(InodeNo::ROOT, &text, &new) {
                        Ok(made) => Ok(Some(made.what.number)),
                        Err(Error::Fault(why)) => Err(why.into()),
                        Err(_) => Ok(None),
                    };
                }
            }
        }
        Ok(None)
    }

    /// Gives an inode a name in `lost+found`, and takes its entry elsewhere, if it has one.
    fn give_name(
        &mut self,
        found: &Finding,
        number: InodeNo,
        inode: &Inode,
        counted: &Counted,
        elsewhere: Option<Item>,
    ) -> Result<(), Ended> {
        let mut text = Vec::try_from_slice(b"#")?;
        push_number(&mut text, number.0)?;
        if self.options.dry_run {
            return self.act(found, &Deed::Found(text), Patch::new());
        }
        let Some(directory) = self.lost_and_found()? else {
            return Ok(());
        };
        for n in 0..TRIES {
            let text = numbered(&text, n)?;
            let Some(name) = Name::new(&text) else {
                return Ok(());
            };
            let Look::There(probed) = look(self.files.probe(directory, name).map(Some))? else {
                continue;
            };
            let (None, Some(free)) = (probed.found, probed.free) else {
                continue;
            };
            let mut patch = Patch::new();
            let target = Target {
                inode: number,
                generation: inode.generation,
                kind: inode.kind,
            };
            if let Some(entry) = elsewhere {
                self.remove_entry(&mut patch, entry, inode.kind)?;
            }
            self.add_entry(&mut patch, free, target, name)?;
            let Some(before) = self.all_of(number, Kind::PARENT)? else {
                return Ok(());
            };
            for (item, _) in before.iter() {
                self.take_away(&mut patch, *item)?;
            }
            let sub = self.files.hash(directory, name).parent();
            let mut parents = name::no_parents()?;
            name::push_parent(&mut parents, directory, name)?;
            self.put(&mut patch, Item::new(number, Kind::PARENT, sub), &parents)?;
            if self.is_orphan(number)? {
                let listed = Item::new(InodeNo::NONE, Kind::ORPHAN, number.0);
                self.take_away(&mut patch, listed)?;
            }
            let directories = u32::try_from(counted.directories).unwrap_or(u32::MAX);
            self.with_inode(&mut patch, number, |inode| {
                if inode.is_directory() {
                    inode.nlink = directories.saturating_add(2);
                    inode.entries = counted.entries;
                } else {
                    inode.nlink = 1;
                }
            })?;
            return self.act(found, &Deed::Found(text), patch);
        }
        Ok(())
    }
}
