// SPDX-License-Identifier: GPL-2.0

//! What a host does so that operations on names and files do not get in each other's way: it locks directories and files as Linux
//! does, and counts who uses a file. It gives just what the engine asks of its callers, and nothing beyond: who writes to a file does
//! not keep others from giving it a name, and who reads keeps nobody from changing other blocks.

use embr_engine::units::Sequence as Group;
use embr_rt::lock_class;
use embr_rt::CondVar;
use embr_rt::Mutex;
use embr_rt::NoMem;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::ops::Range;

/// What is locked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum What {
    /// Renames from one directory to another.
    Renames,
    /// A directory's names, or a file's own and all else that its inode says.
    Names(u64),
    /// What a file holds, against others that change it.
    Contents(u64),
    /// Some blocks, against those who read or write them.
    Blocks(u64, Range<u64>),
}

/// A wish for a lock.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Claim {
    what: What,
    alone: bool,
}

impl Claim {
    /// Nobody else is to have it.
    pub fn alone(what: What) -> Self {
        Claim { what, alone: true }
    }

    /// Others may have it so as well.
    pub fn shared(what: What) -> Self {
        Claim { what, alone: false }
    }

    fn bars(&self, other: &Claim) -> bool {
        let touch = match (&self.what, &other.what) {
            (What::Blocks(a, own), What::Blocks(b, others)) => {
                a == b && own.start < others.end && others.start < own.end
            }
            (own, others) => own == others,
        };
        touch && (self.alone || other.alone)
    }
}

#[derive(Default)]
struct Inner {
    held: Vec<(u64, Claim)>,
    next: u64,
    users: BTreeMap<u64, u64>,
    /// Files without a name that go when their last user does.
    doomed: BTreeSet<u64>,
    /// The group of the last change of each file that was returned from.
    changed: BTreeMap<u64, Group>,
}

/// All locks of a host.
pub(super) struct Locks {
    inner: Mutex<Inner>,
    freed: CondVar,
}

/// Locks that are held until this is dropped.
pub(super) struct Held<'l> {
    locks: &'l Locks,
    number: u64,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let mut inner = self.locks.inner.lock();
        inner.held.retain(|(number, _)| *number != self.number);
        self.locks.freed.notify_all();
    }
}

impl Locks {
    pub fn try_new() -> Result<Self, NoMem> {
        Ok(Locks {
            inner: Mutex::try_new(Inner::default(), lock_class!("locks of the host"))?,
            freed: CondVar::try_new(lock_class!("a lock of the host"))?,
        })
    }

    /// Waits until all of these can be had at once. Who holds directories may ask for files, who holds files for what they hold, and
    /// who holds that for blocks; so nobody waits for ever.
    pub fn take(&self, claims: &[Claim]) -> Held<'_> {
        let mut inner = self.inner.lock();
        self.freed.wait_while(&mut inner, |inner| {
            (inner.held.iter()).any(|(_, held)| claims.iter().any(|claim| claim.bars(held)))
        });
        inner.next += 1;
        let number = inner.next;
        (inner.held).extend(claims.iter().map(|claim| (number, claim.clone())));
        Held {
            locks: self,
            number,
        }
    }

    /// A file has one more user.
    pub fn use_file(&self, number: u64) {
        *self.inner.lock().users.entry(number).or_default() += 1;
    }

    /// Whether a file has other users beside the caller.
    pub fn has_others(&self, number: u64) -> bool {
        self.inner.lock().users.get(&number).is_some_and(|n| *n > 1)
    }

    /// A file has lost its last name, or got one again.
    pub fn doom(&self, number: u64, is_doomed: bool) {
        let doomed = &mut self.inner.lock().doomed;
        match is_doomed {
            true => doomed.insert(number),
            false => doomed.remove(&number),
        };
    }

    /// A file has one user less. Says whether it goes now: then it is for the caller to see to it.
    pub fn leave_file(&self, number: u64) -> bool {
        let mut inner = self.inner.lock();
        let left = inner.users.get(&number).map_or(0, |n| n.saturating_sub(1));
        match left {
            0 => inner.users.remove(&number),
            _ => inner.users.insert(number, left),
        };
        left == 0 && inner.doomed.remove(&number)
    }

    /// A file was changed by what is in this group.
    pub fn note_change(&self, number: u64, group: Group) {
        let mut inner = self.inner.lock();
        let newest = inner.changed.entry(number).or_insert(group);
        *newest = (*newest).max(group);
    }

    /// The group of a file's last change, if there was one.
    pub fn last_change(&self, number: u64) -> Option<Group> {
        self.inner.lock().changed.get(&number).copied()
    }
}
