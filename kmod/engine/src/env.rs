// SPDX-License-Identifier: GPL-2.0

//! What the engine asks of its host: devices, hashing, the time, and chance. In the kernel kmod/fs answers with bios and
//! SIMD; the tools with pread and a library; the tests with memory. Compression joins when encodings do.

use crate::field::Element;
use crate::format::member::Members;
use crate::format::member::Slot;
use crate::units::Bytes;
use crate::units::Timestamp;
use core::fmt;
use embr_rt::time::Duration;

/// A BLAKE3 hash in full.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Hash256(pub [u8; 32]);

impl fmt::Debug for Hash256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

/// Why a device did not do what it was asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DeviceError {
    /// The device answered with an error.
    Io,
    /// The range lies beyond the device's end.
    BeyondEnd,
    /// Memory for the request could not be had.
    NoMemory,
}

impl fmt::Display for DeviceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DeviceError::Io => "the device reports an I/O error",
            DeviceError::BeyondEnd => "the range lies beyond the device's end",
            DeviceError::NoMemory => "out of memory",
        })
    }
}

/// A device that can be read. Who holds only this cannot write: a read-only mount never does.
pub trait Device {
    /// The device's size.
    fn size(&self) -> Bytes;
    /// Fills `into` from the bytes at `at`; place and length are whole blocks.
    fn read(&self, at: Bytes, into: &mut [u8]) -> Result<(), DeviceError>;
}

/// A device that can be written as well.
pub trait WritableDevice: Device {
    /// Writes `from` at `at`; the place is a whole block, and so is the length, but for a last piece of whole sectors where
    /// the device ends within a block. Durable only after [`Self::flush`].
    fn write(&self, at: Bytes, from: &[u8]) -> Result<(), DeviceError>;
    /// Returns once all that was written before is durable.
    fn flush(&self) -> Result<(), DeviceError>;
    /// Says that nobody needs these whole blocks any more: from now on they may read as anything, and differently each time, until they
    /// are written. Says whether the device was told; one that cannot be, or will not, is as good as any.
    fn discard(&self, _at: Bytes, _length: Bytes) -> bool {
        false
    }
}

/// One write among several that go out together.
#[derive(Debug)]
pub struct Write<'a> {
    /// To which device.
    pub device: Slot,
    /// Where on it: a whole block.
    pub at: Bytes,
    /// What: whole blocks.
    pub from: &'a [u8],
    /// How it went; the host fills this in.
    pub outcome: Result<(), DeviceError>,
}

impl<'a> Write<'a> {
    /// A write that has not gone out yet.
    pub fn new(device: Slot, at: Bytes, from: &'a [u8]) -> Self {
        Write {
            device,
            at,
            from,
            outcome: Err(DeviceError::Io),
        }
    }
}

/// The devices of a volume, by their places in the device table. Shared by all that work on the volume.
pub trait Devices {
    /// Fills `into` from the bytes at `at` of a device; place and length are whole blocks. A device that is not here fails.
    fn read(&self, device: Slot, at: Bytes, into: &mut [u8]) -> Result<(), DeviceError>;
    /// Carries out all the writes, in any order or at once, and returns when each has its outcome. Durable only after a flush.
    fn write(&self, writes: &mut [Write<'_>]);
    /// Makes durable what these devices were given before, and says which of them failed to.
    fn flush(&self, devices: Members) -> Members;
    /// Says that nobody needs these whole blocks of a device any more, as [`WritableDevice::discard`]; returns when what is written there
    /// from now on stays.
    fn discard(&self, _device: Slot, _at: Bytes, _length: Bytes) -> bool {
        false
    }
}

/// How long to wait before a write is tried again for which there was no memory.
const PAUSE: Duration = Duration::from_millis(5);

/// Carries out all the writes, and those for which there is no memory again and again: no device is given up for that, and what was
/// accepted is not lost.
pub fn write_patiently(devices: &impl Devices, writes: &mut [Write<'_>]) {
    devices.write(writes);
    for write in writes.chunks_mut(1) {
        let lacks_memory = |w: &Write<'_>| w.outcome == Err(DeviceError::NoMemory);
        while write.iter().any(lacks_memory) {
            embr_rt::time::sleep(PAUSE);
            devices.write(write);
        }
    }
}

/// BLAKE3, unkeyed, by whatever means the host has. All give the same result as [`crate::hash::Scalar`].
pub trait Hasher {
    /// The hash of the parts, one after the other.
    fn hash(&self, parts: &[&[u8]]) -> Hash256;
    /// The hash of each 4 KiB block of `blocks`, into `out` in order, many at a time.
    fn hash_blocks(&self, blocks: &[u8], out: &mut [Hash256]);
}

/// Arithmetic on many bytes at once, each an [`Element`], by whatever means the host has. All give the same result as
/// [`crate::field::Scalar`].
pub trait Field {
    /// Adds `by` times the bytes of `from` to those of `into`, as many as both have.
    fn add_product(&self, by: Element, from: &[u8], into: &mut [u8]);
    /// Fills parity, at most four of it: number j is the sum over i of 2^(ij) times data i. Data that are shorter end in zeros.
    fn bundle(&self, data: &[&[u8]], parity: &mut [&mut [u8]]);
}

/// The host as a whole, for what makes a volume or changes its membership.
pub trait Environment {
    /// How this host hashes.
    type Hasher: Hasher;
    /// How this host computes parity.
    type Field: Field;
    /// The host's hashing.
    fn hasher(&self) -> &Self::Hasher;
    /// The host's arithmetic.
    fn field(&self) -> &Self::Field;
    /// The time of day.
    fn now(&self) -> Timestamp;
    /// Sixteen bytes that nobody could have guessed.
    fn random(&self) -> [u8; 16];
}
