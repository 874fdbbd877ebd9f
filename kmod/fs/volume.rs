// SPDX-License-Identifier: GPL-2.0

//! A mounted volume: what the engine made of its devices, its files, and whether it may still be touched.

use crate::{
    complaints::Complaints,
    errors::{
        fault_errno,
        file_errno, //
    },
    host::{
        Host,
        Shown, //
    },
    keeper::Keeper,
    mover::{
        Mover,
        Work, //
    },
    room::Room, //
};
use embr_engine::{
    format::member::Members,
    names::{
        self,
        Files,
        HashWidth,
        Names,
        View, //
    },
    rebundle::Tally,
    space::promise::Promise,
    units::Blocks,
    volume::{
        assemble::Standing,
        discard,
        mounted::{
            Fault,
            Mounted, //
        },
        Volume as Assembled, //
    },
};
use embr_rt::{
    Arc,
    Box,
    Patience, //
};
use embr_vfs::{
    bdev::DeviceNumber,
    data::GatherMemory,
    nofs::NoFs, //
};
use kernel::{
    prelude::*,
    str::CString, //
};

/// A mounted volume.
pub(crate) struct Volume {
    pub(crate) engine: KBox<Assembled>,
    mounted: Arc<Box<Mounted<Host>>>,
    names: Arc<Names>,
    view: Arc<View>,
    /// Makes durable what happened, every few seconds. None where nothing is ever written.
    keeper: Option<Keeper>,
    /// Moves together what lies scattered. None where nothing is ever written.
    mover: Option<Mover>,
    /// Paths that the mount named, but that led to nothing of use.
    pub(crate) left_out: KVec<CString>,
    /// It was mounted with `degraded`.
    pub(crate) degraded: bool,
    complaints: Complaints,
    /// For writeback. None where nothing is ever written.
    gather_memory: Option<Pin<KBox<GatherMemory>>>,
    room: Room,
}

impl Volume {
    #[inline(never)]
    pub(crate) fn new(
        engine: KBox<Assembled>,
        mounted: Box<Mounted<Host>>,
        left_out: KVec<CString>,
        degraded: bool,
    ) -> Result<Self> {
        let mounted = Arc::try_new(mounted).map_err(|_| ENOMEM)?;
        let keeper = if mounted.is_read_only() {
            None
        } else {
            let keeper = Keeper::new(mounted.clone())?;
            // What was recovered is durable before anybody sees it.
            mounted.checkpoint_apart().map_err(|why| {
                pr_err!("volume {}: {}\n", Shown(mounted.volume()), Shown(&why));
                fault_errno(&why)
            })?;
            Some(keeper)
        };
        let gather_memory = match keeper {
            Some(_) => Some(GatherMemory::new()?),
            None => None,
        };
        let names = Names::try_new(HashWidth::Full).map_err(|_| ENOMEM)?;
        let names = Arc::try_new(names).map_err(|_| ENOMEM)?;
        let view = names.open(&mounted, b"").map_err(|why| {
            pr_err!("volume {}: {}\n", Shown(mounted.volume()), Shown(&why));
            file_errno(&why)
        })?;
        let mover = match keeper {
            Some(_) => Some(Mover::new(Work {
                mounted: mounted.clone(),
                names: names.clone(),
                view: view.clone(),
            })?),
            None => None,
        };
        Ok(Volume {
            engine,
            mounted,
            names,
            view,
            keeper,
            mover,
            left_out,
            degraded,
            complaints: Complaints::new(),
            gather_memory,
            room: Room::try_new().map_err(|_| ENOMEM)?,
        })
    }

    pub(crate) fn host(&self) -> &Host {
        self.mounted.machine()
    }

    pub(crate) fn mounted(&self) -> &Mounted<Host> {
        &self.mounted
    }

    /// Every operation that may touch a device asks this first.
    pub(crate) fn check(&self) -> Result {
        if self.host().is_shut_down() {
            Err(EIO)
        } else {
            Ok(())
        }
    }

    /// What was written and moved since the mount, also of one that has stopped.
    pub(crate) fn tally(&self) -> Tally {
        self.names.of(&self.mounted, &self.view).tally()
    }

    /// Does something with files. Memory that it needs is never had by way of file systems.
    pub(crate) fn with<R>(
        &self,
        what: impl FnOnce(Files<'_, Host>) -> Result<R, names::Error>,
    ) -> Result<R> {
        self.check()?;
        let _scope = NoFs::new();
        what(self.names.of(&self.mounted, &self.view)).map_err(|why| self.explain(why))
    }

    /// The errno for what went wrong; what users cannot help is told in the log as well.
    #[inline(never)]
    fn explain(&self, why: names::Error) -> Error {
        match &why {
            names::Error::Corrupted(_)
            | names::Error::Engram(..)
            | names::Error::Stripe(..)
            | names::Error::Snapshot(..)
            | names::Error::Lost(..)
            | names::Error::NotUnderstood(_)
            | names::Error::Fault(
                Fault::Tree(_)
                | Fault::Space(_)
                | Fault::SpaceItem(_)
                | Fault::Stopped
                | Fault::JournalLost(_)
                | Fault::JournalRecord(_)
                | Fault::JournalUnread(_)
                | Fault::RootUnread
                | Fault::RootBefore(_),
            ) => {
                if self.may_complain() {
                    pr_err!("volume {}: {}\n", Shown(self.engine.uuid()), Shown(&why));
                }
            }
            _ => {}
        }
        file_errno(&why)
    }

    /// Whether one more line about it may go to the log.
    pub(crate) fn may_complain(&self) -> bool {
        self.complaints.may_log()
    }

    /// Makes durable all that happened before.
    pub(crate) fn sync(&self) -> Result {
        if self.keeper.is_none() {
            return Ok(());
        }
        self.check()?;
        let _scope = NoFs::new();
        let _patience = Patience::new();
        self.mounted.sync().map_err(|why| self.explain(why.into()))
    }

    /// Whether devices are told of what was freed, if that was said.
    pub(crate) fn set_discard(&self, wanted: Option<bool>) {
        if let Some(wanted) = wanted {
            self.mounted.set_discard(wanted.then_some(discard::WORTH));
        }
    }

    /// From now on nothing is written: it is read-only, and its last root has everything.
    pub(crate) fn rest(&self) -> Result {
        if self.keeper.is_some() && !self.mounted.is_resting() {
            let _still = self.mover.as_ref().map(Mover::hold);
            self.sync()?;
            let _scope = NoFs::new();
            self.mounted
                .checkpoint_apart()
                .map_err(|why| self.explain(why.into()))?;
            self.mounted.rest(true);
        }
        Ok(())
    }

    /// It may be written to again.
    pub(crate) fn wake(&self) {
        self.mounted.rest(false);
        self.begin_sync();
    }

    /// Whoever is about to change something asks this first.
    pub(crate) fn check_writable(&self) -> Result {
        self.check()?;
        match self.mounted.has_stopped() {
            true => Err(EIO),
            false => Ok(()),
        }
    }

    /// Lets the keeper make durable what happened, without waiting for it.
    pub(crate) fn begin_sync(&self) {
        if let Some(keeper) = &self.keeper {
            keeper.hurry();
        }
    }

    /// Writes a last root, so that the next mount finds nothing to do.
    pub(crate) fn close(&self) {
        if let Some(mover) = &self.mover {
            mover.stop();
        }
        if let Some(keeper) = &self.keeper {
            keeper.stop();
        }
    }

    pub(crate) fn shut_down(&self, why: &str) {
        if self.host().shut_down() {
            pr_warn!(
                "volume {}: shut down {why}; everything gives EIO until it is unmounted\n",
                Shown(self.engine.uuid())
            );
        }
    }

    pub(crate) fn gather_memory(&self) -> Option<&GatherMemory> {
        self.gather_memory.as_deref()
    }

    /// Sets aside room for blocks of files.
    pub(crate) fn reserve(&self, blocks: u64) -> Result {
        self.with(|files| self.room.reserve(files, blocks))
    }

    /// Room that was set aside is not needed.
    pub(crate) fn give_back(&self, blocks: u64) {
        self.room.give_back(blocks);
    }

    /// Room that was set aside, to be used.
    pub(crate) fn take_room(&self, blocks: u64) -> Option<Promise> {
        self.room.take(blocks)
    }

    /// Brings room of which some was used back to so many blocks, if there is more to be had.
    pub(crate) fn top_up(&self, room: &mut Option<Promise>, blocks: Blocks) {
        let _scope = NoFs::new();
        if let Some(room) = room {
            let missing = blocks.0.saturating_sub(room.blocks().0);
            if missing == 0 {
                return;
            }
            if let Ok(more) = self.mounted.promise(Blocks(missing)) {
                room.merge(more);
            }
        }
    }

    /// After all that was dirty was written: what was set aside and not needed is there for others.
    pub(crate) fn make_room(&self) -> Result {
        self.room.shrink();
        self.sync()
    }

    /// Members that were missing or stale at the mount, or failed or vanished since; each counts once.
    pub(crate) fn absent(&self) -> usize {
        let members = &self.host().members;
        let present = self.mounted.present();
        let seats = self.engine.seats().iter();
        seats
            .filter(|seat| match seat.standing {
                _ if !present.has(seat.entry.slot) => true,
                // The engine's number of a device is its place among our members.
                Standing::Current(index) => members.get(index).is_none_or(|m| m.is_gone()),
                Standing::Stale(_) | Standing::Missing => true,
            })
            .count()
    }

    /// The mount named this path, and went on without what is there.
    pub(crate) fn was_left_out(&self, path: &CStr) -> bool {
        self.left_out.iter().any(|p| **p == *path)
    }

    /// A device vanished: can the volume go on?
    pub(crate) fn lose(&self, number: DeviceNumber) -> Result {
        let Some(member) = self.host().lose(number) else {
            return Ok(());
        };
        if let Some(slot) = self.host().slot_of(member) {
            self.mounted.report(Members::default().with(slot));
            self.mounted.wake();
        }
        let absent = self.absent();
        let tolerated = usize::from(self.engine.geometry().parity());
        pr_warn!(
            "volume {}: device {} vanished; {absent} members are absent, {tolerated} may be\n",
            Shown(self.engine.uuid()),
            Shown(member)
        );
        if absent > tolerated {
            Err(EIO)
        } else {
            Ok(())
        }
    }
}
