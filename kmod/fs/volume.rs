// SPDX-License-Identifier: GPL-2.0

//! A mounted volume: what the engine made of its devices, the devices themselves, and whether it may still be touched.

use crate::errors::Escaped;
use core::fmt;
use embr_engine::volume::{
    self,
    assemble::Standing, //
};
use embr_vfs::bdev::{
    BlockDevice,
    DeviceNumber, //
};
use kernel::{
    prelude::*,
    str::CString,
    sync::atomic::{
        Acquire,
        Atomic,
        Full,
        Relaxed,
        Release, //
    },
};

/// A device of a volume that is here, claimed for its superblock.
pub(crate) struct Member {
    /// As it was given to mount.
    pub(crate) path: CString,
    pub(crate) device: BlockDevice,
    /// It vanished since.
    gone: Atomic<bool>,
}

impl Member {
    pub(crate) fn new(path: CString, device: BlockDevice) -> Self {
        Member {
            path,
            device,
            gone: Atomic::new(false),
        }
    }
}

/// Printed, a member is its path.
impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Escaped(self.path.to_bytes()).fmt(f)
    }
}

/// A mounted volume.
pub(crate) struct Volume {
    pub(crate) engine: KBox<volume::Volume>,
    pub(crate) members: KVec<Member>,
    /// Paths that the mount named, but that led to nothing of use.
    pub(crate) left_out: KVec<CString>,
    /// It was mounted with `degraded`.
    pub(crate) degraded: bool,
    shut_down: Atomic<bool>,
}

impl Volume {
    pub(crate) fn new(
        engine: KBox<volume::Volume>,
        members: KVec<Member>,
        left_out: KVec<CString>,
        degraded: bool,
    ) -> Self {
        Volume {
            engine,
            members,
            left_out,
            degraded,
            shut_down: Atomic::new(false),
        }
    }

    /// Every operation that may touch a device asks this first.
    pub(crate) fn check(&self) -> Result {
        if self.is_shut_down() {
            Err(EIO)
        } else {
            Ok(())
        }
    }

    pub(crate) fn is_shut_down(&self) -> bool {
        self.shut_down.load(Acquire)
    }

    pub(crate) fn shut_down(&self, why: &str) {
        if !self.shut_down.xchg(true, Full) {
            pr_warn!(
                "volume {}: shut down {why}; everything gives EIO until it is unmounted\n",
                Uuid(self)
            );
        }
    }

    /// Members that were missing or stale at the mount, or vanished since; each counts once.
    pub(crate) fn absent(&self) -> usize {
        let seats = self.engine.seats().iter();
        seats
            .filter(|seat| match seat.standing {
                // The engine's number of a device is its place among our members.
                Standing::Current(index) => {
                    self.members.get(index).is_none_or(|m| m.gone.load(Relaxed))
                }
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
        let Some(member) = self.members.iter().find(|m| m.device.number() == number) else {
            return Ok(());
        };
        member.gone.store(true, Release);
        let absent = self.absent();
        let tolerated = usize::from(self.engine.geometry().parity());
        pr_warn!(
            "volume {}: device {} vanished; {absent} members are absent, {tolerated} may be\n",
            Uuid(self),
            Path(member)
        );
        if absent > tolerated {
            Err(EIO)
        } else {
            Ok(())
        }
    }
}

struct Uuid<'a>(&'a Volume);

impl kernel::fmt::Display for Uuid<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0.engine.uuid(), f)
    }
}

struct Path<'a>(&'a Member);

impl kernel::fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.0, f)
    }
}
