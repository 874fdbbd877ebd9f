// SPDX-License-Identifier: GPL-2.0

//! Files without a name that somebody still uses. The list of them is how a mount after a crash finds what nobody uses any more.

use crate::file::edit::Batch;
use crate::format::name::encode_number;
use crate::format::name::parse_number;
use crate::names::change::Change;
use crate::names::error::Error;
use crate::names::error::Wrong;
use crate::names::item::Item;
use crate::names::item::Kind;
use crate::names::item::MAX_SUB;
use crate::names::Done;
use crate::names::Files;
use crate::units::InodeNo;
use crate::units::Timestamp;
use crate::volume::mounted::Machine;
use embr_rt::Vec;

fn orphan(sub: u64) -> Item {
    Item::new(InodeNo::NONE, Kind::ORPHAN, sub)
}

impl<M: Machine> Files<'_, M> {
    /// At most so many files without a name, from this number on.
    #[inline(never)]
    pub fn orphans(&self, from: InodeNo, most: usize) -> Result<Vec<InodeNo>, Error> {
        let mut found = Vec::new();
        if from.0 > MAX_SUB {
            return Ok(found);
        }
        let mut items = self
            .view
            .items(self.mounted, orphan(from.0), orphan(MAX_SUB));
        while found.len() < most {
            let Some((item, value)) = items.next()? else {
                break;
            };
            let number = parse_number(&value).ok_or(Error::damaged(item, Wrong::Senseless))?;
            if number.0 & MAX_SUB != item.sub() {
                return Err(Error::damaged(item, Wrong::Disagrees));
            }
            found.push(number)?;
        }
        Ok(found)
    }

    /// Removes a file without a name, which nobody uses any more.
    pub fn forget(&self, number: InodeNo) -> Result<Done<()>, Error> {
        loop {
            let done = match self.forget_some(number, Batch::Large) {
                Err(Error::NoSpace) => self.forget_some(number, Batch::Small)?,
                done => done?,
            };
            if done.what {
                return Ok(Done {
                    what: (),
                    group: done.group,
                });
            }
        }
    }

    /// Removes what one transaction can of it; says whether that was all.
    #[inline(never)]
    fn forget_some(&self, number: InodeNo, batch: Batch) -> Result<Done<bool>, Error> {
        let mut change = Change::begin_freeing(*self, Timestamp::default())?;
        if change.inode(number)?.nlink != 0 {
            return Err(Error::Invalid);
        }
        let all = change.erase(number, batch)?;
        if all {
            change.remove_orphan(number)?;
        }
        change.commit_alone(all)
    }

    /// Removes all files without a name, which nobody uses after a mount. Says how many they were.
    pub fn forget_orphans(&self) -> Result<u64, Error> {
        self.forget_orphans_but(&mut Err)
    }

    /// As [`Self::forget_orphans`]; goes on behind what is damaged if `damaged` says so.
    #[inline(never)]
    pub fn forget_orphans_but(
        &self,
        damaged: &mut dyn FnMut(Error) -> Result<(), Error>,
    ) -> Result<u64, Error> {
        self.each_listed(Kind::ORPHAN, damaged, |item, value| {
            self.forget_listed(item, value)
        })
    }

    /// Does something with each item of a list of the volume's, of which it may remove that one. Says how often it was done; goes on
    /// behind what is damaged if `damaged` says so.
    #[inline(never)]
    pub(crate) fn each_listed(
        &self,
        kind: Kind,
        damaged: &mut dyn FnMut(Error) -> Result<(), Error>,
        act: impl Fn(Item, &[u8]) -> Result<(), Error>,
    ) -> Result<u64, Error> {
        let listed = |sub| Item::new(InodeNo::NONE, kind, sub);
        let mut count = 0u64;
        let mut from = 0u64;
        while from <= MAX_SUB {
            let mut items = self.view.items(self.mounted, listed(from), listed(MAX_SUB));
            let Some((item, value)) = items.next()? else {
                break;
            };
            drop(items);
            from = item.sub().saturating_add(1);
            match act(item, &value) {
                Ok(()) => count = count.saturating_add(1),
                Err(why) if why.is_damage() => damaged(why)?,
                Err(why) => return Err(why),
            }
        }
        Ok(count)
    }

    fn forget_listed(&self, item: Item, value: &[u8]) -> Result<(), Error> {
        let number = parse_number(value).ok_or(Error::damaged(item, Wrong::Senseless))?;
        if number.0 & MAX_SUB != item.sub() {
            return Err(Error::damaged(item, Wrong::Disagrees));
        }
        let done = self.forget(number).map_err(|why| match why {
            Error::NotFound => Error::damaged(Item::inode(number), Wrong::Missing),
            Error::Invalid => Error::damaged(item, Wrong::Disagrees),
            why => why,
        });
        done.map(drop)
    }
}

impl<M: Machine> Change<'_, M> {
    pub(super) fn add_orphan(&mut self, number: InodeNo) -> Result<(), Error> {
        self.set(orphan(number.0), &encode_number(number))
    }

    pub(super) fn remove_orphan(&mut self, number: InodeNo) -> Result<(), Error> {
        let item = orphan(number.0);
        match self.get(item)? {
            Some(value) if parse_number(&value) == Some(number) => self.remove(item),
            Some(_) => Err(Error::damaged(item, Wrong::Disagrees)),
            None => Err(Error::damaged(item, Wrong::Missing)),
        }
    }
}
