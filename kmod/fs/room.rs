// SPDX-License-Identifier: GPL-2.0

//! Room for what is dirty in the page cache: one promise of the engine's for a whole volume, of which blocks are counted out. It is
//! asked for in bulk, for what belongs to a block besides weighs less the more blocks there are.

use crate::host::Host;
use embr_engine::{
    names::{
        Error,
        Files, //
    },
    space::promise::Promise,
    units::Blocks, //
};
use embr_rt::{
    lock_class,
    Mutex,
    NoMem, //
};

/// How much is asked for at once, beyond what is needed.
const BULK: u64 = 256;

#[derive(Default)]
struct Inner {
    promise: Option<Promise>,
    /// Blocks of it that were counted out.
    out: u64,
}

impl Inner {
    fn left(&self) -> u64 {
        let promised = self.promise.as_ref().map_or(0, |p| p.blocks().0);
        promised.saturating_sub(self.out)
    }

    fn split(&mut self, blocks: u64) -> Option<Promise> {
        self.promise.as_mut().map(|p| p.split(Blocks(blocks)))
    }
}

/// The room of a volume.
pub(crate) struct Room(Mutex<Inner>);

impl Room {
    pub(crate) fn try_new() -> Result<Self, NoMem> {
        let inner = Mutex::try_new(Inner::default(), lock_class!("room for dirty blocks"))?;
        Ok(Room(inner))
    }

    /// Counts out room for so many blocks.
    pub(crate) fn reserve(&self, files: Files<'_, Host>, blocks: u64) -> Result<(), Error> {
        let mut inner = self.0.lock();
        let missing = blocks.saturating_sub(inner.left());
        if missing > 0 {
            let more = match files.promise(Blocks(missing.saturating_add(BULK))) {
                Err(Error::NoSpace) => files.promise(Blocks(missing))?,
                more => more?,
            };
            match &mut inner.promise {
                Some(promise) => promise.merge(more),
                none => *none = Some(more),
            }
        }
        inner.out = inner.out.saturating_add(blocks);
        Ok(())
    }

    /// Takes back what was counted out.
    pub(crate) fn give_back(&self, blocks: u64) {
        let mut inner = self.0.lock();
        inner.out = inner.out.saturating_sub(blocks);
        let left = inner.left();
        if left > 2 * BULK {
            drop(inner.split(left - BULK));
        }
    }

    /// What was counted out, to be used.
    pub(crate) fn take(&self, blocks: u64) -> Option<Promise> {
        let mut inner = self.0.lock();
        inner.out = inner.out.saturating_sub(blocks);
        inner.split(blocks)
    }

    /// Gives back all that is not counted out.
    pub(crate) fn shrink(&self) {
        let mut inner = self.0.lock();
        let left = inner.left();
        drop(inner.split(left));
    }
}
