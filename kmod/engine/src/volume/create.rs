// SPDX-License-Identifier: GPL-2.0

//! Making a volume: what its superblocks and first root say, and the order in which they are written. Until the last step a
//! device holds nothing that any code would take for embrfs.

use crate::env::Environment;
use crate::env::WritableDevice;
use crate::error::Error;
use crate::format::epoch::Epoch;
use crate::format::features::Features;
use crate::format::geometry::Geometry;
use crate::format::layout;
use crate::format::member;
use crate::format::member::Entry;
use crate::format::member::Slot;
use crate::format::member::State;
use crate::format::root::Journal;
use crate::format::root::Root;
use crate::format::superblock::BlockHash;
use crate::format::superblock::Label;
use crate::format::superblock::Superblock;
use crate::units::Blocks;
use crate::units::Bytes;
use crate::units::DeviceId;
use crate::units::EpochId;
use crate::units::Generation;
use crate::units::Sequence;
use crate::units::Timestamp;
use crate::units::Uuid;
use crate::units::BLOCK_SIZE;
use crate::volume::probe::Member;
use core::fmt;
use embr_rt::Box;
use embr_rt::Vec;

/// What the maker of a volume chooses.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The bundle that files get unless told otherwise.
    pub geometry: Geometry,
    /// How much of each block's hash is kept.
    pub block_hash: BlockHash,
    /// The label.
    pub label: Label,
    /// The volume's UUID, where it must not be a random one.
    pub uuid: Option<Uuid>,
}

/// Why there can be no such volume.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Impossible {
    /// Memory could not be had.
    NoMemory,
    /// Fewer devices than fragments.
    TooFewDevices {
        /// k + m.
        needed: usize,
        /// How many there are.
        given: usize,
    },
    /// More devices than the device table has room for.
    TooManyDevices(usize),
    /// This device (by its place in the list) is too small.
    TooSmall(usize, Bytes),
    /// This device is larger than the format can say.
    TooLarge(usize, Bytes),
}

impl fmt::Display for Impossible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |b: &Bytes| b.0 >> 20;
        match self {
            Impossible::NoMemory => f.write_str("out of memory"),
            Impossible::TooFewDevices { needed, given } => {
                write!(f, "each stripe needs {needed} devices, one for every fragment, but {given} were given")
            }
            Impossible::TooManyDevices(n) => {
                write!(f, "{n} devices, but a volume has {} at most", member::SLOTS)
            }
            Impossible::TooSmall(_, size) => {
                write!(
                    f,
                    "{} MiB are too few: a device needs {} MiB",
                    mib(size),
                    mib(&layout::MIN_DEVICE)
                )
            }
            Impossible::TooLarge(_, size) => {
                write!(
                    f,
                    "{} MiB are too many: a device has {} MiB at most",
                    mib(size),
                    mib(&layout::MAX_DEVICE)
                )
            }
        }
    }
}

impl From<embr_rt::NoMem> for Impossible {
    fn from(_: embr_rt::NoMem) -> Self {
        Impossible::NoMemory
    }
}

/// A volume that is about to be made, everything decided and nothing written.
#[derive(Debug)]
pub struct Plan {
    options: Options,
    volume: Uuid,
    epoch: Epoch,
    created: Timestamp,
    members: Vec<Entry>,
}

impl Plan {
    /// Decides everything for a volume on devices of these sizes, in order.
    pub fn new(
        env: &impl Environment,
        options: Options,
        sizes: &[Bytes],
    ) -> Result<Self, Impossible> {
        let needed = usize::from(options.geometry.width());
        if sizes.len() < needed {
            return Err(Impossible::TooFewDevices {
                needed,
                given: sizes.len(),
            });
        }
        if sizes.len() > member::SLOTS {
            return Err(Impossible::TooManyDevices(sizes.len()));
        }
        let mut members = Vec::new();
        for (index, size) in sizes.iter().enumerate() {
            if *size < layout::MIN_DEVICE {
                return Err(Impossible::TooSmall(index, *size));
            }
            if *size > layout::MAX_DEVICE {
                return Err(Impossible::TooLarge(index, *size));
            }
            let slot = Slot::new(index).ok_or(Impossible::TooManyDevices(sizes.len()))?;
            members.push(Entry {
                slot,
                id: DeviceId((index as u32).saturating_add(1)),
                uuid: Uuid::from_random(env.random()),
                state: State::Member,
                class: 0,
                failure_domain: 0,
                size: size.whole_blocks(),
                joined: 1,
            })?;
        }
        let epoch = Epoch {
            id: EpochId(env.random()),
            parent: EpochId::NONE,
            number: 1,
            after: Generation(0),
            present: members.iter().map(|e: &Entry| e.slot).collect(),
            absent: Default::default(),
        };
        Ok(Plan {
            volume: options
                .uuid
                .unwrap_or_else(|| Uuid::from_random(env.random())),
            epoch,
            created: env.now(),
            options,
            members,
        })
    }

    /// The same with devices in these failure domains, in order: those with the same number, unless it is 0, are expected to fail
    /// together.
    pub fn in_domains(mut self, domains: &[u32]) -> Self {
        for (entry, domain) in self.members.iter_mut().zip(domains) {
            entry.failure_domain = *domain;
        }
        self
    }

    /// The volume's UUID.
    pub fn volume(&self) -> Uuid {
        self.volume
    }

    /// The devices, in the order given.
    pub fn members(&self) -> &[Entry] {
        &self.members
    }

    /// Blocks of file data that fit.
    pub fn capacity(&self) -> Blocks {
        self.options
            .geometry
            .capacity(self.members.iter().map(|e| layout::allocatable(e.bytes())))
    }

    fn superblock(&self, entry: &Entry) -> Result<Superblock, Error> {
        let mut epochs = Vec::new();
        epochs.push(self.epoch)?;
        Ok(Superblock {
            volume: self.volume,
            device: entry.id,
            sequence: 1,
            features: Features::default(),
            created: self.created,
            block_hash: self.options.block_hash,
            geometry: self.options.geometry,
            // The table holds 64 devices, so this does not wrap.
            next_device: DeviceId((self.members.len() as u32).saturating_add(1)),
            set_back: 0,
            label: self.options.label,
            members: Vec::try_from_slice(&self.members)?,
            epochs,
        })
    }

    fn root(&self, entry: &Entry) -> Root {
        Root {
            volume: self.volume,
            epoch: self.epoch.id,
            generation: Generation(1),
            device: entry.id,
            written: self.created,
            journal: Journal::of_new(entry.bytes()),
            nodes: 0,
            made: Generation(1),
            told: Sequence(0),
        }
    }

    /// First step, on every device: nothing in the system areas is valid any more, foreign signatures at the device's
    /// begin and end included. Durable on return.
    pub fn wipe(&self, index: usize, device: &impl WritableDevice) -> Result<(), Error> {
        let Some(entry) = self.members.get(index) else {
            return Ok(());
        };
        let zeros = Vec::zeroed(WIPE_PIECE)?;
        for (_, at) in layout::areas(entry.bytes()) {
            let end = at.plus(layout::AREA_SIZE).unwrap_or(at);
            wipe_range(device, &zeros, at, end)?;
        }
        // Partition tables and RAID labels keep a copy within the last MiB, down to the last sector, which the volume does
        // not use where it is no whole block.
        let end = Bytes(device.size().0 & !(SECTOR - 1)).max(entry.bytes());
        let tail = end.0.saturating_sub(layout::AREA_SIZE.0) & !BLOCK_MASK;
        wipe_range(device, &zeros, Bytes(tail), end)?;
        device.flush().map_err(Error::Flush)
    }

    /// Second step, on every device once all are wiped: the first root, which names no tree. Durable on return.
    pub fn write_root(
        &self,
        index: usize,
        env: &impl Environment,
        device: &impl WritableDevice,
    ) -> Result<(), Error> {
        let Some(entry) = self.members.get(index) else {
            return Ok(());
        };
        let root = self.root(entry);
        let mut buffer = Vec::zeroed(layout::ROOT_SIZE)?;
        for ring in layout::rings(entry.bytes()) {
            let at = layout::slot_at(ring, layout::ring_slot(root.generation)).unwrap_or(ring);
            root.encode(&[], env.hasher(), at, &mut buffer);
            device
                .write(at, &buffer)
                .map_err(|why| Error::writing(at, why))?;
        }
        device.flush().map_err(Error::Flush)
    }

    /// What a device will say of itself. With it the volume can be mounted, and given its root directory, between the second
    /// step and the last, while nobody else can take it for one.
    pub fn member(&self, index: usize, size: Bytes) -> Result<Option<Member>, Error> {
        let Some(entry) = self.members.get(index) else {
            return Ok(None);
        };
        Ok(Some(Member {
            superblock: Box::try_new(self.superblock(entry)?)?,
            root: self.root(entry),
            copies: Vec::new(),
            bad_roots: Vec::new(),
            unread_roots: 0,
            size,
        }))
    }

    /// Last step, on every device once all have their root: the superblocks. Durable on return.
    pub fn write_superblocks(
        &self,
        index: usize,
        env: &impl Environment,
        device: &impl WritableDevice,
    ) -> Result<(), Error> {
        match self.members.get(index) {
            Some(entry) => {
                let mut buffer = Vec::zeroed(layout::SUPERBLOCK_SIZE)?;
                let superblock = self.superblock(entry)?;
                super::mend::write_superblock(env.hasher(), device, &superblock, &mut buffer)
            }
            None => Ok(()),
        }
    }

    /// The second step and the last at once, for a volume without a root directory.
    pub fn write(
        &self,
        index: usize,
        env: &impl Environment,
        device: &impl WritableDevice,
    ) -> Result<(), Error> {
        self.write_root(index, env, device)?;
        self.write_superblocks(index, env, device)
    }
}

const WIPE_PIECE: usize = 128 << 10;
const SECTOR: u64 = 512;
const BLOCK_MASK: u64 = BLOCK_SIZE as u64 - 1;

fn wipe_range(
    device: &impl WritableDevice,
    zeros: &[u8],
    from: Bytes,
    to: Bytes,
) -> Result<(), Error> {
    for at in (from.0..to.0).step_by(WIPE_PIECE) {
        let length = to.0.saturating_sub(at).min(WIPE_PIECE as u64) as usize;
        if let Some(piece) = zeros.get(..length) {
            device
                .write(Bytes(at), piece)
                .map_err(|why| Error::writing(Bytes(at), why))?;
        }
    }
    Ok(())
}
