// SPDX-License-Identifier: GPL-2.0

//! What the engine stands on in the kernel: the devices of a volume, hashing, time and chance, and the log for what it finds damaged.

use crate::{
    errors::Escaped,
    hashing::Hasher,
    parity::Field, //
};
use core::fmt;
use embr_engine::{
    env::{
        self,
        DeviceError,
        Write, //
    },
    format::member::{
        Members,
        Slot,
        SLOTS, //
    },
    tree::{
        nodes::Events,
        Range,
        TreeError, //
    },
    units::{
        Bytes,
        Timestamp,
        TreeId,
        Uuid, //
    },
    volume::{
        assemble::Standing,
        mounted::Machine,
        Volume as Assembled, //
    },
};
use embr_rt::time::wall_clock_ns;
use embr_vfs::{
    bdev::{
        BlockDevice,
        DeviceNumber,
        IoError, //
    },
    chance,
    nofs::NoFs,
    transfer::{
        self,
        Piece, //
    },
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

fn device_error(why: IoError) -> DeviceError {
    match why {
        IoError::BeyondEnd => DeviceError::BeyondEnd,
        IoError::NoMemory => DeviceError::NoMemory,
        IoError::Failed => DeviceError::Io,
    }
}

/// A block device for the engine to look at.
pub(crate) struct Device<'a>(pub(crate) &'a BlockDevice);

impl env::Device for Device<'_> {
    fn size(&self) -> Bytes {
        Bytes(self.0.size())
    }

    fn read(&self, at: Bytes, into: &mut [u8]) -> Result<(), DeviceError> {
        let _scope = NoFs::new();
        self.0.read(at.0, into).map_err(device_error)
    }
}

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

    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Relaxed)
    }
}

/// Printed, a member is its path.
impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Escaped(self.path.to_bytes()).fmt(f)
    }
}

/// The host of a mounted volume.
pub(crate) struct Host {
    volume: Uuid,
    pub(crate) members: KVec<Member>,
    /// Which of the members is in which slot.
    places: KVec<Option<u8>>,
    hasher: Hasher,
    field: Field,
    shut_down: Atomic<bool>,
}

impl Host {
    pub(crate) fn new(volume: &Assembled, members: KVec<Member>) -> Result<Self> {
        let mut places = KVec::from_elem(None, SLOTS, GFP_KERNEL)?;
        for seat in volume.seats() {
            if let Standing::Current(index) = seat.standing {
                if let Some(place) = places.get_mut(seat.entry.slot.index()) {
                    *place = u8::try_from(index).ok();
                }
            }
        }
        Ok(Host {
            volume: volume.uuid(),
            members,
            places,
            hasher: Hasher::current(),
            field: Field::current(),
            shut_down: Atomic::new(false),
        })
    }

    fn member(&self, slot: Slot) -> Option<&Member> {
        let place = self.places.get(slot.index()).copied().flatten()?;
        self.members.get(usize::from(place))
    }

    /// A member that may be touched.
    fn usable(&self, slot: Slot) -> Result<&BlockDevice, DeviceError> {
        if self.is_shut_down() {
            return Err(DeviceError::Io);
        }
        match self.member(slot) {
            Some(member) => Ok(&member.device),
            None => Err(DeviceError::Io),
        }
    }

    pub(crate) fn is_shut_down(&self) -> bool {
        self.shut_down.load(Acquire)
    }

    /// From now on no device is touched. False if that was so already.
    pub(crate) fn shut_down(&self) -> bool {
        !self.shut_down.xchg(true, Full)
    }

    /// The member on this device, which vanished.
    pub(crate) fn lose(&self, number: DeviceNumber) -> Option<&Member> {
        let member = self.members.iter().find(|m| m.device.number() == number)?;
        member.gone.store(true, Release);
        Some(member)
    }

    /// The place of a member in the device table.
    pub(crate) fn slot_of(&self, member: &Member) -> Option<Slot> {
        let slots = (0..SLOTS).filter_map(Slot::new);
        let mut same =
            slots.filter(|slot| self.member(*slot).is_some_and(|m| core::ptr::eq(m, member)));
        same.next()
    }

    fn name(&self, slot: Slot) -> Name<'_> {
        Name(self.member(slot))
    }
}

/// What a log calls a device.
struct Name<'a>(Option<&'a Member>);

impl kernel::fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(member) => fmt::Display::fmt(member, f),
            None => f.write_str("a missing device"),
        }
    }
}

/// A thing of the engine, for the kernel's log.
pub(crate) struct Shown<T>(pub(crate) T);

impl<T: fmt::Display> kernel::fmt::Display for Shown<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl env::Devices for Host {
    fn read(&self, device: Slot, at: Bytes, into: &mut [u8]) -> Result<(), DeviceError> {
        let _scope = NoFs::new();
        self.usable(device)?.read(at.0, into).map_err(device_error)
    }

    fn write(&self, writes: &mut [Write<'_>]) {
        let _scope = NoFs::new();
        let mut rest = writes;
        while !rest.is_empty() {
            let (now, later) = rest.split_at_mut(rest.len().min(AT_ONCE));
            self.write_some(now);
            rest = later;
        }
    }

    fn discard(&self, device: Slot, at: Bytes, length: Bytes) -> bool {
        let _scope = NoFs::new();
        self.usable(device)
            .is_ok_and(|device| device.discard(at.0, length.0))
    }

    fn flush(&self, devices: Members) -> Members {
        let _scope = NoFs::new();
        let mut failed = Members::default();
        let slots = (0..SLOTS).filter_map(Slot::new).filter(|s| devices.has(*s));
        for slot in slots {
            let done = self.usable(slot).is_ok_and(|device| device.flush().is_ok());
            if !done {
                failed = failed.with(slot);
            }
        }
        failed
    }
}

/// Writes that go out together.
const AT_ONCE: usize = 4;

impl Host {
    #[inline(never)]
    fn write_some(&self, writes: &mut [Write<'_>]) {
        let mut pieces: [Option<Piece<'_>>; AT_ONCE] = [const { None }; AT_ONCE];
        for (piece, write) in pieces.iter_mut().zip(writes.iter_mut()) {
            match self.usable(write.device) {
                Ok(device) => *piece = Piece::write(device, write.at.0, write.from),
                Err(why) => write.outcome = Err(why),
            }
        }
        transfer::write_all(&mut pieces);
        for (piece, write) in pieces.iter().zip(writes.iter_mut()) {
            write.outcome = match (piece, self.usable(write.device)) {
                (Some(piece), _) if piece.failed() => Err(DeviceError::Io),
                (Some(_), _) => Ok(()),
                // Memory that the device cannot reach, or a range that it does not have.
                (None, Ok(device)) => device.write(write.at.0, write.from).map_err(device_error),
                (None, Err(why)) => Err(why),
            };
        }
    }
}

impl env::Environment for Host {
    type Hasher = Hasher;
    type Field = Field;

    fn hasher(&self) -> &Hasher {
        &self.hasher
    }

    fn field(&self) -> &Field {
        &self.field
    }

    fn now(&self) -> Timestamp {
        const SECOND: u64 = 1_000_000_000;
        let ns = wall_clock_ns();
        Timestamp {
            seconds: (ns / SECOND) as i64,
            nanos: (ns % SECOND) as u32,
        }
    }

    fn random(&self) -> [u8; 16] {
        chance::random()
    }
}

impl Events for Host {
    fn repaired(&self, tree: TreeId, device: Slot, at: Bytes) {
        pr_warn!(
            "volume {}: {}: a damaged copy of a node of tree {} at byte {} was put right\n",
            Shown(self.volume),
            self.name(device),
            Shown(tree),
            Shown(at)
        );
    }

    fn unrepaired(&self, tree: TreeId, device: Slot, at: Bytes, why: DeviceError) {
        pr_warn!(
            "volume {}: {}: a damaged copy of a node of tree {} at byte {} could not be put right: {}\n",
            Shown(self.volume),
            self.name(device),
            Shown(tree),
            Shown(at),
            Shown(why)
        );
    }

    fn lost(&self, what: &TreeError, keys: Range) {
        pr_err!(
            "volume {}: {}: no copy is left, keys {} to {} are lost; run fsck.embrfs\n",
            Shown(self.volume),
            Shown(what),
            Shown(keys.first),
            Shown(keys.last)
        );
    }

    fn members(&self, absent: Members, present: Members, copies: usize) {
        let slots = (0..SLOTS).filter_map(Slot::new);
        for slot in slots.filter(|s| absent.has(*s)) {
            if let Some(member) = self.member(slot) {
                pr_err!(
                    "volume {}: {} failed, and is not written to any more: replace it, or see that it is well and attach it anew\n",
                    Shown(self.volume),
                    Shown(member)
                );
            }
        }
        pr_warn!(
            "volume {}: goes on with {} members and without {}; what is written now has {copies} copies\n",
            Shown(self.volume),
            present.count(),
            absent.count()
        );
    }
}

impl Machine for Host {
    type Devices = Self;
    type Environment = Self;
    type Events = Self;
    const CHECKPOINTS_APART: bool = true;

    fn devices(&self) -> &Self {
        self
    }

    fn environment(&self) -> &Self {
        self
    }

    fn events(&self) -> &Self {
        self
    }
}
