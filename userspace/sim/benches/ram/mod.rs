// SPDX-License-Identifier: GPL-2.0

//! A machine whose devices are plain memory, for measuring the engine alone: no caches, no faults, no crashes, but counts of what
//! was read and written.

use embr_engine::env::Device;
use embr_engine::env::DeviceError;
use embr_engine::env::Devices;
use embr_engine::env::Environment;
use embr_engine::env::WritableDevice;
use embr_engine::env::Write;
use embr_engine::field::Scalar;
use embr_engine::format::geometry::Geometry;
use embr_engine::format::layout;
use embr_engine::format::member::Members;
use embr_engine::format::member::Slot;
use embr_engine::format::superblock::BlockHash;
use embr_engine::format::superblock::Label;
use embr_engine::units::Bytes;
use embr_engine::units::Timestamp;
use embr_engine::volume::assemble;
use embr_engine::volume::create;
use embr_engine::volume::probe;
use embr_engine::volume::recover::Options;
use embr_engine::volume::Machine;
use embr_engine::volume::Mounted;
use embrfs_host::Simd;
use embrfs_sim::host::Chance;
use embrfs_sim::machine::Heard;
use std::cell::Cell;
use std::cell::RefCell;
use std::rc::Rc;

/// What went over to the device and back.
#[derive(Clone, Copy, Default)]
#[allow(dead_code)] // Not every benchmark asks for all.
pub struct Traffic {
    /// Times that something was read.
    pub reads: u64,
    /// Bytes written to the journal.
    pub journal: u64,
    /// Bytes written elsewhere.
    pub elsewhere: u64,
}

struct Contents {
    bytes: RefCell<Vec<u8>>,
    traffic: Cell<Traffic>,
}

/// One device. Clones are the same.
#[derive(Clone)]
pub struct Ram {
    contents: Rc<Contents>,
    hasher: Simd,
    chance: Rc<Chance>,
    heard: Rc<Heard>,
}

#[allow(dead_code)] // Not every benchmark needs all.
impl Ram {
    /// An empty device. It takes memory only where it is written.
    pub fn new(size: Bytes, seed: u64) -> Self {
        Ram {
            contents: Rc::new(Contents {
                bytes: RefCell::new(vec![0; size.0 as usize]),
                traffic: Cell::default(),
            }),
            hasher: Simd::new(),
            chance: Rc::new(Chance::new(seed)),
            heard: Rc::default(),
        }
    }

    /// Makes a volume of this one device.
    pub fn make(self) -> Self {
        let options = create::Options {
            geometry: Geometry::new(1, 0).expect("a geometry"),
            block_hash: BlockHash::Short,
            label: Label::new("").expect("a label"),
            uuid: None,
        };
        let plan = create::Plan::new(&self, options, &[self.size()]).expect("a plan");
        plan.wipe(0, &self).expect("wiped");
        plan.write(0, &self, &self).expect("written");
        self
    }

    /// Mounts the volume.
    pub fn mount(&self, cache: Bytes, dirty: Bytes) -> Mounted<Ram> {
        let options = Options {
            read_only: false,
            degraded: false,
            cache,
            dirty,
        };
        self.mount_with(options)
    }

    /// Mounts the volume.
    pub fn mount_with(&self, options: Options) -> Mounted<Ram> {
        let members = [probe(self, &self.hasher).expect("a member")];
        let volume = assemble(&members).expect("a volume");
        Mounted::open(self.clone(), &volume, &members, options)
            .expect("mounted")
            .into_inner()
    }

    /// What went over since this was last asked.
    pub fn take_traffic(&self) -> Traffic {
        self.contents.traffic.take()
    }

    fn count(&self, more: impl FnOnce(&mut Traffic)) {
        let mut traffic = self.contents.traffic.get();
        more(&mut traffic);
        self.contents.traffic.set(traffic);
    }

    fn is_journal(&self, at: Bytes) -> bool {
        let (start, blocks) = layout::journal(self.size());
        let block = at.whole_blocks();
        block >= start && block.0 < start.0 + blocks.0
    }
}

impl Device for Ram {
    fn size(&self) -> Bytes {
        Bytes(self.contents.bytes.borrow().len() as u64)
    }

    fn read(&self, at: Bytes, into: &mut [u8]) -> Result<(), DeviceError> {
        self.count(|t| t.reads += 1);
        let bytes = self.contents.bytes.borrow();
        let from = bytes.get(at.0 as usize..).and_then(|b| b.get(..into.len()));
        into.copy_from_slice(from.ok_or(DeviceError::BeyondEnd)?);
        Ok(())
    }
}

impl WritableDevice for Ram {
    fn write(&self, at: Bytes, from: &[u8]) -> Result<(), DeviceError> {
        let length = from.len() as u64;
        match self.is_journal(at) {
            true => self.count(|t| t.journal += length),
            false => self.count(|t| t.elsewhere += length),
        }
        let mut bytes = self.contents.bytes.borrow_mut();
        let to = bytes.get_mut(at.0 as usize..);
        let to = to.and_then(|b| b.get_mut(..from.len()));
        to.ok_or(DeviceError::BeyondEnd)?.copy_from_slice(from);
        Ok(())
    }

    fn flush(&self) -> Result<(), DeviceError> {
        Ok(())
    }
}

impl Devices for Ram {
    fn read(&self, _: Slot, at: Bytes, into: &mut [u8]) -> Result<(), DeviceError> {
        Device::read(self, at, into)
    }

    fn write(&self, writes: &mut [Write<'_>]) {
        for write in writes {
            write.outcome = WritableDevice::write(self, write.at, write.from);
        }
    }

    fn flush(&self, _: Members) -> Members {
        Members::default()
    }
}

impl Environment for Ram {
    type Hasher = Simd;
    type Field = Scalar;

    fn hasher(&self) -> &Simd {
        &self.hasher
    }

    fn field(&self) -> &Scalar {
        &Scalar
    }

    fn now(&self) -> Timestamp {
        Timestamp::default()
    }

    fn random(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.chance.next().to_le_bytes());
        bytes[8..].copy_from_slice(&self.chance.next().to_le_bytes());
        bytes
    }
}

impl Machine for Ram {
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
        &self.heard
    }
}
