// SPDX-License-Identifier: GPL-2.0

//! A machine with several devices of plain memory, and counts of what was written to them, by what it was. Devices may be larger than
//! memory where most of what is written are blocks of one byte over and over: of those only that byte is kept.

use crate::memory;
use embr_engine::env::Device;
use embr_engine::env::DeviceError;
use embr_engine::env::Devices;
use embr_engine::env::Environment;
use embr_engine::env::WritableDevice;
use embr_engine::env::Write;
use embr_engine::format::geometry::Geometry;
use embr_engine::format::layout;
use embr_engine::format::member::Members;
use embr_engine::format::member::Slot;
use embr_engine::format::node;
use embr_engine::format::superblock::BlockHash;
use embr_engine::format::superblock::Label;
use embr_engine::units::Bytes;
use embr_engine::units::Timestamp;
use embr_engine::units::BLOCK_SIZE;
use embr_engine::volume::assemble;
use embr_engine::volume::create;
use embr_engine::volume::probe;
use embr_engine::volume::recover::Options;
use embr_engine::volume::Machine;
use embr_engine::volume::Mounted;
use embrfs_host::Simd;
use embrfs_host::Tables;
use embrfs_sim::host::Chance;
use embrfs_sim::machine::Heard;
use std::cell::Cell;
use std::cell::RefCell;
use std::mem::take;
use std::rc::Rc;

/// Bytes that went to the devices and back.
#[derive(Clone, Copy, Default, Debug)]
pub struct Traffic {
    /// Read, of whatever kind.
    pub read: u64,
    /// Groups of the journal.
    pub journal: u64,
    /// Nodes of trees.
    pub nodes: u64,
    /// What files hold, with copies and parity.
    pub data: u64,
    /// Superblocks and roots.
    pub system: u64,
}

impl Traffic {
    /// All that was written.
    pub fn written(&self) -> u64 {
        self.journal + self.nodes + self.data + self.system
    }
}

/// How a device keeps what was written.
enum Store {
    /// As it is. It takes memory only where it is written.
    Plain(Vec<u8>),
    /// By the block.
    Sparse(Sparse),
}

/// What stands for a block: up to here the byte that all of it is, above this the place of its bytes.
const BYTES: u32 = 256;

/// Blocks of one byte over and over as that byte, all others as they are.
struct Sparse {
    size: u64,
    blocks: Vec<u32>,
    kept: Vec<Box<[u8]>>,
    spare: Vec<u32>,
}

impl Sparse {
    fn new(size: u64) -> Self {
        Sparse {
            size,
            blocks: vec![0; size as usize / BLOCK_SIZE],
            kept: Vec::new(),
            spare: Vec::new(),
        }
    }

    fn read(&self, at: usize, into: &mut [u8]) -> Option<()> {
        let blocks = self.blocks.get(at / BLOCK_SIZE..)?;
        let blocks = blocks.get(..into.len().div_ceil(BLOCK_SIZE))?;
        for (into, block) in into.chunks_mut(BLOCK_SIZE).zip(blocks) {
            match block.checked_sub(BYTES) {
                None => into.fill(*block as u8),
                Some(kept) => into.copy_from_slice(&self.kept[kept as usize][..into.len()]),
            }
        }
        Some(())
    }

    fn write(&mut self, at: usize, from: &[u8]) -> Option<()> {
        let blocks = self.blocks.get_mut(at / BLOCK_SIZE..)?;
        let blocks = blocks.get_mut(..from.len().div_ceil(BLOCK_SIZE))?;
        for (from, block) in from.chunks(BLOCK_SIZE).zip(blocks) {
            // A block is one byte over and over if it is the same one byte on.
            let same = from[1..] == from[..from.len() - 1];
            match (same, block.checked_sub(BYTES)) {
                (true, None) => *block = u32::from(from[0]),
                (true, Some(kept)) => {
                    self.spare.push(kept);
                    *block = u32::from(from[0]);
                }
                (false, Some(kept)) => self.kept[kept as usize][..from.len()].copy_from_slice(from),
                (false, None) => {
                    let kept = self.spare.pop().unwrap_or_else(|| {
                        self.kept.push(vec![0; BLOCK_SIZE].into());
                        self.kept.len() as u32 - 1
                    });
                    self.kept[kept as usize][..from.len()].copy_from_slice(from);
                    *block = BYTES + kept;
                }
            }
        }
        Some(())
    }
}

impl Drop for Sparse {
    fn drop(&mut self) {
        let Sparse {
            blocks,
            kept,
            spare,
            ..
        } = self;
        memory::aside(|| drop((take(blocks), take(kept), take(spare))));
    }
}

/// One device. Clones are the same.
#[derive(Clone)]
pub struct Disk {
    store: Rc<RefCell<Store>>,
    traffic: Rc<Cell<Traffic>>,
}

impl Disk {
    fn count(&self, more: impl FnOnce(&mut Traffic)) {
        let mut traffic = self.traffic.get();
        more(&mut traffic);
        self.traffic.set(traffic);
    }
}

impl Device for Disk {
    fn size(&self) -> Bytes {
        Bytes(match &*self.store.borrow() {
            Store::Plain(bytes) => bytes.len() as u64,
            Store::Sparse(sparse) => sparse.size,
        })
    }

    fn read(&self, at: Bytes, into: &mut [u8]) -> Result<(), DeviceError> {
        self.count(|t| t.read += into.len() as u64);
        let at = at.0 as usize;
        let done = match &*self.store.borrow() {
            Store::Plain(bytes) => bytes
                .get(at..at + into.len())
                .map(|from| into.copy_from_slice(from)),
            Store::Sparse(sparse) => sparse.read(at, into),
        };
        done.ok_or(DeviceError::BeyondEnd)
    }
}

impl WritableDevice for Disk {
    fn write(&self, at: Bytes, from: &[u8]) -> Result<(), DeviceError> {
        let at = at.0 as usize;
        let done = match &mut *self.store.borrow_mut() {
            Store::Plain(bytes) => bytes
                .get_mut(at..at + from.len())
                .map(|into| into.copy_from_slice(from)),
            Store::Sparse(sparse) => memory::aside(|| sparse.write(at, from)),
        };
        done.ok_or(DeviceError::BeyondEnd)
    }

    fn flush(&self) -> Result<(), DeviceError> {
        Ok(())
    }
}

struct Inner {
    disks: Vec<Disk>,
    traffic: Rc<Cell<Traffic>>,
    hasher: Simd,
    chance: Chance,
    heard: Heard,
}

/// The devices, and all else that a mounted volume asks for. Clones are the same.
#[derive(Clone)]
pub struct Bank(Rc<Inner>);

impl Bank {
    /// A volume on so many devices of this size.
    pub fn make(geometry: Geometry, count: usize, size: Bytes, seed: u64) -> Self {
        let store = || Store::Plain(vec![0; size.0 as usize]);
        Self::of(geometry, (0..count).map(|_| store()), seed)
    }

    /// The same on devices that keep little of blocks of one byte over and over.
    pub fn make_sparse(geometry: Geometry, count: usize, size: Bytes, seed: u64) -> Self {
        let store = || Store::Sparse(Sparse::new(size.0));
        Self::of(geometry, (0..count).map(|_| store()), seed)
    }

    fn of(geometry: Geometry, stores: impl Iterator<Item = Store>, seed: u64) -> Self {
        let traffic = Rc::new(Cell::default());
        let disk = |store| Disk {
            store: Rc::new(RefCell::new(store)),
            traffic: Rc::clone(&traffic),
        };
        let disks: Vec<Disk> = memory::aside(|| stores.map(disk).collect());
        let bank = Bank(Rc::new(Inner {
            disks,
            traffic,
            hasher: Simd::new(),
            chance: Chance::new(seed),
            heard: Heard::default(),
        }));
        let options = create::Options {
            geometry,
            block_hash: BlockHash::Short,
            label: Label::new("").expect("a label"),
            uuid: None,
        };
        let sizes: Vec<Bytes> = bank.0.disks.iter().map(Device::size).collect();
        let plan = create::Plan::new(&bank, options, &sizes).expect("a plan");
        for (n, disk) in bank.0.disks.iter().enumerate() {
            plan.wipe(n, disk).expect("wiped");
            plan.write(n, &bank, disk).expect("written");
        }
        bank
    }

    /// Mounts the volume.
    pub fn mount(&self, options: Options) -> Mounted<Bank> {
        let probed = self.0.disks.iter().map(|d| probe(d, &self.0.hasher));
        let members: Vec<_> = probed.map(|m| m.expect("a member")).collect();
        let volume = assemble(&members).expect("a volume");
        Mounted::open(self.clone(), &volume, &members, options)
            .expect("mounted")
            .into_inner()
    }

    /// What went over since it was last taken.
    pub fn traffic(&self) -> Traffic {
        self.0.traffic.get()
    }

    /// What went over since this was last asked.
    pub fn take_traffic(&self) -> Traffic {
        self.0.traffic.take()
    }

    fn disk(&self, slot: Slot) -> Result<&Disk, DeviceError> {
        self.0.disks.get(slot.index()).ok_or(DeviceError::Io)
    }

    fn put(&self, device: Slot, at: Bytes, from: &[u8]) -> Result<(), DeviceError> {
        let disk = self.disk(device)?;
        let (size, length, block) = (disk.size(), from.len() as u64, at.whole_blocks());
        let (start, blocks) = layout::journal(size);
        let in_area = layout::areas(size).any(|(_, a)| at >= a && at.0 < a.0 + layout::AREA_SIZE.0);
        disk.count(|t| match () {
            () if in_area => t.system += length,
            () if block >= start && block.0 < start.0 + blocks.0 => t.journal += length,
            // No file of a benchmark begins like that.
            () if from.starts_with(&node::MAGIC) => t.nodes += length,
            () => t.data += length,
        });
        disk.write(at, from)
    }
}

impl Devices for Bank {
    fn read(&self, device: Slot, at: Bytes, into: &mut [u8]) -> Result<(), DeviceError> {
        self.disk(device)?.read(at, into)
    }

    fn write(&self, writes: &mut [Write<'_>]) {
        for write in writes {
            write.outcome = self.put(write.device, write.at, write.from);
        }
    }

    fn flush(&self, _: Members) -> Members {
        Members::default()
    }
}

impl Environment for Bank {
    type Hasher = Simd;
    type Field = Tables;

    fn hasher(&self) -> &Simd {
        &self.0.hasher
    }

    fn field(&self) -> &Tables {
        &Tables
    }

    fn now(&self) -> Timestamp {
        Timestamp::default()
    }

    fn random(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.0.chance.next().to_le_bytes());
        bytes[8..].copy_from_slice(&self.0.chance.next().to_le_bytes());
        bytes
    }
}

impl Machine for Bank {
    type Devices = Self;
    type Environment = Self;
    type Events = Heard;

    fn devices(&self) -> &Self {
        self
    }

    fn environment(&self) -> &Self {
        self
    }

    fn events(&self) -> &Heard {
        &self.0.heard
    }
}
