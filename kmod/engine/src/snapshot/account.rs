// SPDX-License-Identifier: GPL-2.0

//! How much a snapshot has alone.

use super::touched::Touched;
use super::Shelf;
use crate::file::own;
use crate::format::reference::Of;
use crate::format::reference::Tally;
use crate::format::snapshot::State;
use crate::names::item::Item;
use crate::names::item::Kind;
use crate::names::view::Ids;
use crate::names::view::Lineage;
use crate::names::Error;
use crate::names::Names;
use crate::names::View;
use crate::names::Wrong;
use crate::units::Blocks;
use crate::units::EngramId;
use crate::units::InodeNo;
use crate::units::SnapshotId;
use crate::volume::mounted::Machine;
use crate::volume::mounted::Mounted;
use embr_rt::Vec;

/// What is looked at to learn what goes with something.
struct Estate {
    /// What would be nobody's but the heir's, or all of it where there is none.
    lineage: Lineage,
    /// In which versions what was touched is gone through.
    versions: Ids,
    has_heir: bool,
}

impl Shelf {
    /// What nobody has any more once a node is deleted.
    fn estates(&self, id: SnapshotId) -> Result<Vec<Estate>, Error> {
        let mut all = Vec::new();
        let Some(heir) = self.heir(id, None) else {
            // Several grew from it, and have all that it has.
            return Ok(all);
        };
        if heir.is_some() {
            all.push(self.estate(id, heir)?)?;
            return Ok(all);
        }
        all.push(self.estate(id, None)?)?;
        // What it grew from may have stayed only because of it.
        let mut gone = id;
        let parent = loop {
            let parent = self.node(gone).map(|node| node.parent);
            match parent.filter(|parent| self.is_deleted(*parent)) {
                Some(parent) if self.children(parent).count() == 1 => gone = parent,
                parent => break parent,
            }
        };
        if let Some(parent) = parent {
            if let Some(Some(heir)) = self.heir(parent, Some(gone)) {
                all.push(self.estate(parent, Some(heir))?)?;
            }
        }
        Ok(all)
    }

    fn estate(&self, id: SnapshotId, heir: Option<SnapshotId>) -> Result<Estate, Error> {
        let lineage = self.lineage(id)?;
        let Some(heir) = heir else {
            return Ok(Estate {
                versions: lineage.own_ids().try_clone()?,
                lineage: Lineage::new(lineage.own_ids().try_clone()?, &Ids::default(), false)?
                    .ok_or(Error::Snapshot(id, Wrong::Missing))?
                    .swept(),
                has_heir: false,
            });
        };
        let heirs = self.lineage(heir)?;
        let mut own = heirs.own_ids().try_clone()?;
        own.add(lineage.own_ids())?;
        let all = Lineage::new(own, &lineage.below()?, false)?;
        Ok(Estate {
            versions: heirs.own_ids().try_clone()?,
            lineage: all.ok_or(Error::Snapshot(id, Wrong::Missing))?.swept(),
            has_heir: true,
        })
    }

    fn is_deleted(&self, id: SnapshotId) -> bool {
        self.node(id).is_some_and(|n| n.state == State::Deleted)
    }

    /// Whose a node's versions would be: one's that grew from it, or nobody's; none if several did. What is `gone` does not count.
    fn heir(&self, id: SnapshotId, gone: Option<SnapshotId>) -> Option<Option<SnapshotId>> {
        let mut at = id;
        loop {
            let mut children = self.children(at).filter(|child| Some(*child) != gone);
            match (children.next(), children.next()) {
                (None, _) => return Some(None),
                (Some(child), None) => {
                    if !self.is_deleted(child) || self.children(child).count() != 1 {
                        return Some(Some(child));
                    }
                    at = child;
                }
                _ => return None,
            }
        }
    }
}

impl Names {
    /// How many blocks of files nobody would have any more if this snapshot, or head, was deleted now; what files share stays with
    /// the others and is not counted. Goes through what was touched since, while others go on.
    pub fn exclusive<M: Machine>(
        &self,
        mounted: &Mounted<M>,
        name: &[u8],
    ) -> Result<Blocks, Error> {
        if name.is_empty() {
            return Err(Error::NotPermitted);
        }
        // As long as it is open it is not deleted.
        let (estates, _kept) = {
            let mut shelf = self.shelf.lock();
            shelf.load(mounted)?;
            let id = shelf.named(name).ok_or(Error::NotFound)?;
            (shelf.estates(id)?, shelf.open(id)?)
        };
        let mut blocks = 0u64;
        for estate in estates {
            let mut count = Count {
                names: self,
                mounted,
                has_heir: estate.has_heir,
                view: &View::of(estate.lineage),
                blocks: 0,
                last: None,
            };
            count.all(estate.versions)?;
            blocks = blocks.saturating_add(count.blocks);
        }
        Ok(Blocks(blocks))
    }
}

struct Count<'c, M: Machine> {
    names: &'c Names,
    mounted: &'c Mounted<M>,
    view: &'c View,
    has_heir: bool,
    blocks: u64,
    /// What is said of an engram that was asked for last.
    last: Option<(EngramId, Option<Tally>)>,
}

impl<M: Machine> Count<'_, M> {
    #[inline(never)]
    fn all(&mut self, versions: Ids) -> Result<(), Error> {
        let mut touched = Touched::new(self.mounted, versions, InodeNo::NONE);
        // An inode of which nothing is left to be looked at.
        let mut done = None;
        while let Some((inode, item)) = touched.next()? {
            if done == Some(inode) {
                continue;
            }
            match item {
                Some(item) if item.kind() == Kind::EXTENTS => {
                    let (first, last) = item.group();
                    self.windows(inode, (first.sub(), last.sub()), self.has_heir)?;
                }
                Some(_) => {}
                None => {
                    done = Some(inode);
                    let is_gone = !self.has_heir || self.is_gone(inode)?;
                    if is_gone {
                        self.windows(inode, (0, u64::MAX), false)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn is_gone(&self, inode: InodeNo) -> Result<bool, Error> {
        let now = self.view.now();
        let versions = now.own_versions(self.mounted, Item::inode(inode))?;
        Ok(versions.first().is_some_and(|(_, is_gone)| *is_gone))
    }

    /// Counts what is the lineage's own in these windows, but for what it sees if that `stays`.
    fn windows(&mut self, inode: InodeNo, span: (u64, u64), stays: bool) -> Result<(), Error> {
        let files = self.names.of(self.mounted, self.view);
        let (mounted, last, blocks) = (self.mounted, &mut self.last, &mut self.blocks);
        own::each(files, inode, span, stays, &mut |at| {
            let is_shared = match at {
                None => false,
                Some((engram, block)) => {
                    if last.as_ref().is_none_or(|(known, _)| *known != engram) {
                        *last = Some((engram, mounted.tally(engram, Of::All)?));
                    }
                    let tally = last.as_ref().and_then(|(_, tally)| tally.as_ref());
                    tally.is_some_and(|tally| tally.number(block) > 1)
                }
            };
            *blocks = blocks.saturating_add(u64::from(!is_shared));
            Ok(())
        })
    }
}
