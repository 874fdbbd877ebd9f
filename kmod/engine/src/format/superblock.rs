// SPDX-License-Identifier: GPL-2.0

//! The superblock: what a volume is (identity, features, geometry), which devices and epochs it has, and which of its devices
//! this is. Several sealed copies lie on every device; the one with the highest sequence number counts.

use crate::env::Hasher;
use crate::error::NoMem;
use crate::format::epoch;
use crate::format::epoch::BadEpoch;
use crate::format::epoch::Epoch;
use crate::format::features::Features;
use crate::format::geometry::Geometry;
use crate::format::layout;
use crate::format::member;
use crate::format::member::BadEntry;
use crate::format::member::Entry;
use crate::format::member::Members;
use crate::format::member::Slot;
use crate::format::member::State;
use crate::format::seal;
use crate::units::Bytes;
use crate::units::DeviceId;
use crate::units::EpochId;
use crate::units::Generation;
use crate::units::Timestamp;
use crate::units::Uuid;
use crate::units::BLOCK_SHIFT;
use core::fmt;
use embr_rt::Vec;
use zerocopy::little_endian::I64;
use zerocopy::little_endian::U16;
use zerocopy::little_endian::U32;
use zerocopy::little_endian::U64;
use zerocopy::FromBytes as _;
use zerocopy::FromZeros as _;
use zerocopy_derive::FromBytes;
use zerocopy_derive::Immutable;
use zerocopy_derive::IntoBytes;
use zerocopy_derive::KnownLayout;
use zerocopy_derive::Unaligned;

/// First bytes of a superblock.
pub const MAGIC: [u8; 8] = *b"embrfsSB";
/// Bytes of a label, at most; a shorter one is followed by zeros.
pub const LABEL_SIZE: usize = 128;
/// BLAKE3, the one hash there is.
const HASH_BLAKE3: u8 = 1;
/// Blocks of payload in an engram.
const PAYLOAD_BLOCKS: u32 = (layout::MAX_PAYLOAD.0 >> BLOCK_SHIFT) as u32;

/// A superblock as it lies on disk. It is only ever looked at in a buffer, never moved.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Raw {
    magic: [u8; 8],
    version: U32,
    size: U32,
    seal: [u8; 32],
    volume: [u8; 16],
    device_uuid: [u8; 16],
    device: U32,
    copy: U32,
    at: U64,
    sequence: U64,
    compatible: U64,
    read_only: U64,
    incompatible: U64,
    created_seconds: I64,
    created_nanos: U32,
    block_shift: u8,
    hash: u8,
    block_hash_size: u8,
    data: u8,
    parity: u8,
    reserved0: [u8; 3],
    member_slots: U16,
    epoch_slots: U16,
    next_device: U32,
    payload_blocks: U32,
    ring_at: U32,
    ring_slots: U32,
    set_back: U64,
    reserved1: [u8; 16],
    label: [u8; LABEL_SIZE],
    writer: [u8; 32],
    reserved2: [u8; 3744],
    members: [member::Raw; member::SLOTS],
    epochs: [epoch::Raw; epoch::ENTRIES],
}

const _: () = assert!(core::mem::size_of::<Raw>() == layout::SUPERBLOCK_SIZE);
const _: () = assert!(core::mem::size_of::<member::Raw>() * member::SLOTS == 4096);
const _: () = assert!(core::mem::size_of::<epoch::Raw>() * epoch::ENTRIES == 8192);

/// How much of a block's hash the trees keep.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BlockHash {
    /// 64 bits.
    Short,
    /// 256 bits.
    Full,
}

impl BlockHash {
    /// Bytes kept per block.
    pub fn size(self) -> u8 {
        match self {
            BlockHash::Short => 8,
            BlockHash::Full => 32,
        }
    }
}

/// A label: UTF-8, without zeros.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Label([u8; LABEL_SIZE]);

impl Label {
    /// The label `text`, if it fits and has no control character.
    pub fn new(text: &str) -> Option<Self> {
        let mut bytes = [0; LABEL_SIZE];
        bytes
            .get_mut(..text.len())?
            .copy_from_slice(text.as_bytes());
        (!text.chars().any(char::is_control)).then_some(Label(bytes))
    }

    fn parse(bytes: &[u8; LABEL_SIZE]) -> Option<Self> {
        let end = bytes.iter().position(|b| *b == 0).unwrap_or(LABEL_SIZE);
        let (text, padding) = bytes.split_at_checked(end)?;
        if padding.iter().any(|b| *b != 0) {
            return None;
        }
        Label::new(core::str::from_utf8(text).ok()?)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        let end = self.0.iter().position(|b| *b == 0).unwrap_or(LABEL_SIZE);
        core::str::from_utf8(self.0.get(..end).unwrap_or_default()).unwrap_or_default()
    }
}

impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

/// A superblock whose every value is known to be sound.
#[derive(Debug)]
pub struct Superblock {
    /// The volume.
    pub volume: Uuid,
    /// The device that this superblock lies on.
    pub device: DeviceId,
    /// Rises with each rewriting.
    pub sequence: u64,
    /// What the volume uses beyond the first version.
    pub features: Features,
    /// When the volume was made.
    pub created: Timestamp,
    /// How much of each block's hash is kept.
    pub block_hash: BlockHash,
    /// The bundle that files get unless told otherwise.
    pub geometry: Geometry,
    /// The number that the next device to join will have.
    pub next_device: DeviceId,
    /// Roots of epochs up to this number do not count on this device: it is stale, and speaks for nobody, until it has one of a later epoch.
    pub set_back: u64,
    /// The volume's label.
    pub label: Label,
    /// The device table, in order of slots, each at most once.
    pub members: Vec<Entry>,
    /// The current epoch, then older ones.
    pub epochs: Vec<Epoch>,
}

/// Why bytes are no superblock that can be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BadSuperblock {
    /// Another magic.
    Magic,
    /// The seal does not hold.
    Seal,
    /// The seal holds not, and the version is not ours: damaged, or from a later version with another layout.
    SealOrVersion(u32),
    /// A sound structure of another version.
    Version(u32),
    /// A sound copy that says it belongs elsewhere.
    Place {
        /// Where it says it belongs.
        claimed: Bytes,
    },
    /// Features that this code does not know.
    Features(Features),
    /// k and m that are no bundle.
    Geometry {
        /// k.
        data: u8,
        /// m.
        parity: u8,
    },
    /// A named field has this impossible value.
    Field(&'static str, u64),
    /// The label is no text.
    Label,
    /// A device-table entry.
    Member(u8, BadEntry),
    /// Two entries of the device table are the same device.
    Twins(u8, u8),
    /// This device is not in the device table.
    NotListed(DeviceId),
    /// An epoch-table entry.
    Epoch(u8, BadEpoch),
    /// Memory could not be had.
    NoMemory,
}

impl fmt::Display for BadSuperblock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ours = layout::VERSION;
        match self {
            BadSuperblock::Magic => f.write_str("no embrfs superblock"),
            BadSuperblock::Seal => f.write_str(
                "checksum mismatch: the superblock is damaged or was written to another place",
            ),
            BadSuperblock::SealOrVersion(v) => {
                write!(f, "checksum mismatch, and format version {v} where {ours} is known: damaged, or made by a newer embrfs")
            }
            BadSuperblock::Version(v) => write!(
                f,
                "format version {v}; this embrfs knows version {ours}: use a newer embrfs"
            ),
            BadSuperblock::Place { claimed } => {
                write!(f, "a superblock that belongs at byte {claimed}")
            }
            BadSuperblock::Features(x) => {
                write!(f, "the volume uses features that this embrfs does not know ({}): use a newer embrfs", x.unknown_incompatible())
            }
            BadSuperblock::Geometry { data, parity } => {
                crate::format::geometry::ImpossibleGeometry {
                    data: *data,
                    parity: *parity,
                }
                .fmt(f)
            }
            BadSuperblock::Field(name, value) => write!(f, "impossible {name}: {value}"),
            BadSuperblock::Label => f.write_str("the label is no text"),
            BadSuperblock::Member(slot, why) => write!(f, "device table, slot {slot}: {why}"),
            BadSuperblock::Twins(a, b) => {
                write!(f, "device table: slots {a} and {b} are the same device")
            }
            BadSuperblock::NotListed(id) => write!(
                f,
                "this device, number {id}, is not in its own device table"
            ),
            BadSuperblock::Epoch(slot, why) => write!(f, "epoch table, entry {slot}: {why}"),
            BadSuperblock::NoMemory => f.write_str("out of memory"),
        }
    }
}

impl BadSuperblock {
    /// Whether the bytes are what somebody meant to write there: the seal holds, but this code does not understand them.
    pub fn is_sealed(&self) -> bool {
        !matches!(
            self,
            BadSuperblock::Magic
                | BadSuperblock::Seal
                | BadSuperblock::SealOrVersion(_)
                | BadSuperblock::NoMemory
        )
    }
}

impl From<NoMem> for BadSuperblock {
    fn from(_: NoMem) -> Self {
        BadSuperblock::NoMemory
    }
}

fn field<T: Into<u64> + Copy>(name: &'static str, value: T, ok: bool) -> Result<(), BadSuperblock> {
    if ok {
        Ok(())
    } else {
        Err(BadSuperblock::Field(name, value.into()))
    }
}

/// Whether the members that an epoch has are those of the device table.
fn names(epoch: &Epoch, table: &[Entry]) -> bool {
    let members = table.iter().filter(|e| e.state == State::Member);
    let listed: Members = members.map(|e| e.slot).collect();
    Members(epoch.present.0 | epoch.absent.0) == listed
}

impl Superblock {
    /// Checks copy number `copy`, read at `at`: everything that can be told from these bytes alone.
    pub fn parse(
        hasher: &impl Hasher,
        bytes: &[u8],
        copy: usize,
        at: Bytes,
    ) -> Result<Self, BadSuperblock> {
        let raw = Raw::ref_from_bytes(bytes).map_err(|_| BadSuperblock::Magic)?;
        if raw.magic != MAGIC {
            return Err(BadSuperblock::Magic);
        }
        let version = raw.version.get();
        match (seal::holds(hasher, bytes, at), version == layout::VERSION) {
            (true, true) => {}
            (true, false) => return Err(BadSuperblock::Version(version)),
            (false, true) => return Err(BadSuperblock::Seal),
            (false, false) => return Err(BadSuperblock::SealOrVersion(version)),
        }
        if raw.at.get() != at.0 || raw.copy.get() as usize != copy {
            return Err(BadSuperblock::Place {
                claimed: Bytes(raw.at.get()),
            });
        }
        let features = Features {
            compatible: raw.compatible.get(),
            read_only: raw.read_only.get(),
            incompatible: raw.incompatible.get(),
        };
        if features.unknown_incompatible().any() {
            return Err(BadSuperblock::Features(features));
        }
        raw.check_fields()?;
        let geometry =
            Geometry::new(raw.data, raw.parity).map_err(|bad| BadSuperblock::Geometry {
                data: bad.data,
                parity: bad.parity,
            })?;
        let members = raw.parse_members()?;
        let epochs = raw.parse_epochs(&members)?;
        Ok(Superblock {
            volume: Uuid(raw.volume),
            device: DeviceId(raw.device.get()),
            sequence: raw.sequence.get(),
            features,
            created: Timestamp {
                seconds: raw.created_seconds.get(),
                nanos: raw.created_nanos.get(),
            },
            block_hash: if raw.block_hash_size == 8 {
                BlockHash::Short
            } else {
                BlockHash::Full
            },
            geometry,
            next_device: DeviceId(raw.next_device.get()),
            set_back: raw.set_back.get(),
            label: Label::parse(&raw.label).ok_or(BadSuperblock::Label)?,
            members,
            epochs,
        })
    }

    /// How new a sealed superblock is that cannot be parsed; one of another version counts as newer than any.
    pub fn sequence_of_sealed(bytes: &[u8]) -> u64 {
        match Raw::ref_from_bytes(bytes) {
            Ok(raw) if raw.version.get() == layout::VERSION => raw.sequence.get(),
            _ => u64::MAX,
        }
    }

    /// Writes the superblock into `out`, one superblock long, as copy number `copy` for the place `at`.
    pub fn encode(&self, hasher: &impl Hasher, copy: usize, at: Bytes, out: &mut [u8]) {
        let Ok(raw) = Raw::mut_from_bytes(out) else {
            debug_assert!(false, "a superblock's buffer has its size from the layout");
            return;
        };
        raw.zero();
        raw.magic = MAGIC;
        raw.version = layout::VERSION.into();
        raw.size = (layout::SUPERBLOCK_SIZE as u32).into();
        raw.volume = self.volume.0;
        raw.device_uuid = self.this_device().map_or([0; 16], |d| d.uuid.0);
        raw.device = self.device.0.into();
        raw.copy = (copy as u32).into();
        raw.at = at.0.into();
        raw.sequence = self.sequence.into();
        raw.compatible = self.features.compatible.into();
        raw.read_only = self.features.read_only.into();
        raw.incompatible = self.features.incompatible.into();
        raw.created_seconds = self.created.seconds.into();
        raw.created_nanos = self.created.nanos.into();
        raw.block_shift = BLOCK_SHIFT as u8;
        raw.hash = HASH_BLAKE3;
        raw.block_hash_size = self.block_hash.size();
        raw.data = self.geometry.data();
        raw.parity = self.geometry.parity();
        raw.member_slots = (member::SLOTS as u16).into();
        raw.epoch_slots = (epoch::ENTRIES as u16).into();
        raw.next_device = self.next_device.0.into();
        raw.payload_blocks = PAYLOAD_BLOCKS.into();
        raw.ring_at = (layout::RING_AT.0 as u32).into();
        raw.ring_slots = layout::RING_SLOTS.into();
        raw.set_back = self.set_back.into();
        raw.label = self.label.0;
        for (to, from) in raw.writer.iter_mut().zip(crate::SOFTWARE.bytes()) {
            *to = from;
        }
        for entry in self.members.iter() {
            if let Some(place) = raw.members.get_mut(entry.slot.index()) {
                *place = entry.raw();
            }
        }
        for (place, epoch) in raw.epochs.iter_mut().zip(self.epochs.iter()) {
            *place = epoch.raw();
        }
        seal::apply(hasher, out, at);
    }

    /// Another one that says the same.
    pub fn try_clone(&self) -> Result<Self, NoMem> {
        Ok(Superblock {
            members: Vec::try_from_slice(&self.members)?,
            epochs: Vec::try_from_slice(&self.epochs)?,
            ..*self
        })
    }

    /// The device table's entry of the device that this superblock lies on.
    pub fn this_device(&self) -> Option<&Entry> {
        self.members.iter().find(|e| e.id == self.device)
    }

    /// The current epoch, and its ancestors as far as they are remembered.
    pub fn epoch(&self, id: EpochId) -> Option<&Epoch> {
        self.epochs.iter().find(|e| e.id == id)
    }

    /// Whether the device table is that of this epoch. Else it is that of a later one, and a superblock that ends with this one cannot be read.
    pub fn has_table_of(&self, epoch: &Epoch) -> bool {
        names(epoch, &self.members)
    }

    /// Whether a root of this epoch and generation is one that the device can have been given.
    pub fn counts(&self, epoch: EpochId, generation: Generation) -> bool {
        let Some(epoch) = self.epoch(epoch) else {
            return false;
        };
        let slot = self.this_device().map(|e| e.slot);
        generation > epoch.after && slot.is_some_and(|slot| epoch.present.has(slot))
    }
}

impl Raw {
    fn check_fields(&self) -> Result<(), BadSuperblock> {
        let all_zero = |uuid: &[u8; 16]| *uuid == [0; 16];
        field(
            "structure size",
            self.size.get(),
            self.size.get() as usize == layout::SUPERBLOCK_SIZE,
        )?;
        field("volume UUID", 0u64, !all_zero(&self.volume))?;
        field("device UUID", 0u64, !all_zero(&self.device_uuid))?;
        field("device number", self.device.get(), self.device.get() != 0)?;
        field(
            "sequence number",
            self.sequence.get(),
            (1..u64::MAX).contains(&self.sequence.get()),
        )?;
        field(
            "creation time",
            self.created_nanos.get(),
            self.created_nanos.get() < 1_000_000_000,
        )?;
        field(
            "block size shift",
            self.block_shift,
            u32::from(self.block_shift) == BLOCK_SHIFT,
        )?;
        field("hash", self.hash, self.hash == HASH_BLAKE3)?;
        field(
            "block hash size",
            self.block_hash_size,
            matches!(self.block_hash_size, 8 | 32),
        )?;
        field(
            "device table size",
            self.member_slots.get(),
            usize::from(self.member_slots.get()) == member::SLOTS,
        )?;
        field(
            "epoch table size",
            self.epoch_slots.get(),
            usize::from(self.epoch_slots.get()) == epoch::ENTRIES,
        )?;
        field(
            "engram size",
            self.payload_blocks.get(),
            self.payload_blocks.get() == PAYLOAD_BLOCKS,
        )?;
        field(
            "root ring place",
            self.ring_at.get(),
            u64::from(self.ring_at.get()) == layout::RING_AT.0,
        )?;
        field(
            "root ring size",
            self.ring_slots.get(),
            self.ring_slots.get() == layout::RING_SLOTS,
        )
    }

    fn parse_members(&self) -> Result<Vec<Entry>, BadSuperblock> {
        let mut members: Vec<Entry> = Vec::new();
        for (index, raw) in self.members.iter().enumerate() {
            let Some(slot) = Slot::new(index) else { break };
            let number = index as u8;
            let entry = match raw.parse(slot) {
                Ok(Some(entry)) => entry,
                Ok(None) => continue,
                Err(why) => return Err(BadSuperblock::Member(number, why)),
            };
            if let Some(twin) = members
                .iter()
                .find(|e| e.id == entry.id || e.uuid == entry.uuid)
            {
                return Err(BadSuperblock::Twins(twin.slot.index() as u8, number));
            }
            field(
                "next device number",
                self.next_device.get(),
                entry.id.0 < self.next_device.get(),
            )?;
            members.push(entry)?;
        }
        let me = members.iter().find(|e| e.id.0 == self.device.get());
        if me.is_some_and(|e| e.uuid.0 == self.device_uuid && e.state == State::Member) {
            Ok(members)
        } else {
            Err(BadSuperblock::NotListed(DeviceId(self.device.get())))
        }
    }

    fn parse_epochs(&self, members: &[Entry]) -> Result<Vec<Epoch>, BadSuperblock> {
        let mut epochs: Vec<Epoch> = Vec::new();
        let mut ended = false;
        for (index, raw) in self.epochs.iter().enumerate() {
            let bad = |why| BadSuperblock::Epoch(index as u8, why);
            let Some(epoch) = raw.parse().map_err(bad)? else {
                ended = true;
                continue;
            };
            if ended {
                return Err(bad(BadEpoch::Order));
            }
            if let Some(newer) = epochs.last() {
                epoch.precedes(newer).map_err(bad)?;
            }
            epochs.push(epoch)?;
        }
        let current = epochs
            .first()
            .ok_or(BadSuperblock::Epoch(0, BadEpoch::Empty))?;
        if !names(current, members) {
            return Err(BadSuperblock::Epoch(0, BadEpoch::Members));
        }
        Ok(epochs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::Scalar;
    use crate::units::Blocks;
    use std::vec;

    const AT: Bytes = Bytes(64 << 10);

    fn entry(index: usize, id: u32, state: State) -> Entry {
        Entry {
            slot: Slot::new(index).unwrap(),
            id: DeviceId(id),
            uuid: Uuid([id as u8; 16]),
            state,
            class: 2,
            failure_domain: 7,
            size: Blocks(10_000 + u64::from(id)),
            joined: 3,
        }
    }

    fn superblock() -> Superblock {
        let members = [
            entry(0, 1, State::Member),
            entry(2, 9, State::Removed),
            entry(63, 12, State::Member),
        ];
        let slots = |indices: &[usize]| {
            indices
                .iter()
                .filter_map(|i| Slot::new(*i))
                .collect::<Members>()
        };
        let epochs = [
            Epoch {
                id: EpochId([4; 16]),
                parent: EpochId([3; 16]),
                number: 5,
                after: Generation(90),
                present: slots(&[63]),
                absent: slots(&[0]),
            },
            Epoch {
                id: EpochId([1; 16]),
                parent: EpochId::NONE,
                number: 1,
                after: Generation(0),
                present: slots(&[0, 2]),
                absent: slots(&[]),
            },
        ];
        Superblock {
            volume: Uuid([8; 16]),
            device: DeviceId(12),
            sequence: 17,
            features: Features {
                compatible: 1 << 40,
                read_only: 6,
                incompatible: 0,
            },
            created: Timestamp {
                seconds: -1,
                nanos: 3,
            },
            block_hash: BlockHash::Full,
            geometry: Geometry::new(1, 1).unwrap(),
            next_device: DeviceId(13),
            set_back: 5,
            label: Label::new("tag \u{e4}").unwrap(),
            members: Vec::try_from_slice(&members).unwrap(),
            epochs: Vec::try_from_slice(&epochs).unwrap(),
        }
    }

    fn encoded() -> std::vec::Vec<u8> {
        let mut bytes = vec![0xee; layout::SUPERBLOCK_SIZE];
        superblock().encode(&Scalar, 0, AT, &mut bytes);
        bytes
    }

    fn parse(bytes: &[u8]) -> Result<Superblock, BadSuperblock> {
        Superblock::parse(&Scalar, bytes, 0, AT)
    }

    #[test]
    fn round_trip() {
        let (a, b) = (superblock(), parse(&encoded()).unwrap());
        assert_eq!(std::format!("{a:?}"), std::format!("{b:?}"));
    }

    #[test]
    fn every_byte_is_covered_by_the_seal() {
        let mut bytes = encoded();
        for i in 0..bytes.len() {
            bytes[i] ^= 0x10;
            assert!(parse(&bytes).is_err(), "byte {i}");
            bytes[i] ^= 0x10;
        }
    }

    #[test]
    fn another_place_is_refused() {
        assert_eq!(
            Superblock::parse(&Scalar, &encoded(), 0, Bytes(AT.0 + 4096)).unwrap_err(),
            BadSuperblock::Seal
        );
        assert!(matches!(
            Superblock::parse(&Scalar, &encoded(), 1, AT).unwrap_err(),
            BadSuperblock::Place { .. }
        ));
    }

    /// Changes bytes, seals again, and gives the reason for the refusal.
    fn forged(at: usize, value: &[u8]) -> BadSuperblock {
        let mut bytes = encoded();
        bytes[at..at + value.len()].copy_from_slice(value);
        seal::apply(&Scalar, &mut bytes, AT);
        parse(&bytes).unwrap_err()
    }

    #[test]
    fn forged_fields_are_named() {
        let cases: [(usize, &[u8], &str); 16] = [
            (8, &[2], "format version 2"),
            (120 + 3, &[1], "incompatible bit 24"),
            (48, &[0; 16], "impossible volume UUID: 0"),
            (
                96,
                &[0xff; 8],
                "impossible sequence number: 18446744073709551615",
            ),
            (140, &[9], "impossible block size shift: 9"),
            (142, &[16], "impossible block hash size: 16"),
            (143, &[17], "no bundle 17+1"),
            (152, &[12], "impossible next device number: 12"),
            (192, &[0xff], "the label is no text"),
            (
                4096 + 20,
                &[7],
                "device table, slot 0: unknown device state 7",
            ),
            (
                4096 + 32,
                &[0xff; 8],
                "device table, slot 0: impossible device size of 18446744073709551615 blocks",
            ),
            (
                4096 + 2 * 64 + 16,
                &[1],
                "device table: slots 0 and 2 are the same device",
            ),
            (
                80,
                &[9],
                "this device, number 9, is not in its own device table",
            ),
            (
                8192 + 48,
                &[1],
                "epoch table, entry 0: a device is both present and absent",
            ),
            (
                8192 + 32,
                &[1],
                "epoch table, entry 0: number 1 and parent do not go together",
            ),
            (
                8192 + 64 + 40,
                &[90],
                "epoch table, entry 1: generations are not in the order of epochs",
            ),
        ];
        for (at, value, reason) in cases {
            let found = std::string::ToString::to_string(&forged(at, value));
            assert!(
                found.contains(reason),
                "byte {at}: {found:?} instead of {reason:?}"
            );
        }
    }

    /// Why a superblock with this change is refused.
    fn refused(change: impl FnOnce(&mut Superblock)) -> BadSuperblock {
        let mut superblock = superblock();
        change(&mut superblock);
        let mut bytes = vec![0; layout::SUPERBLOCK_SIZE];
        superblock.encode(&Scalar, 0, AT, &mut bytes);
        parse(&bytes).unwrap_err()
    }

    #[test]
    fn a_removed_or_exchanged_device_does_not_speak() {
        assert_eq!(
            refused(|s| s.device = DeviceId(9)),
            BadSuperblock::NotListed(DeviceId(9))
        );
        assert_eq!(forged(64, &[0x77]), BadSuperblock::NotListed(DeviceId(12)));
        assert_eq!(
            refused(|s| s.members[0].uuid = s.members[2].uuid),
            BadSuperblock::Twins(0, 63)
        );
    }

    #[test]
    fn the_epoch_table_is_one_line_of_descent() {
        let order = |entry| BadSuperblock::Epoch(entry, BadEpoch::Order);
        // Numbers that do not fall.
        for number in [5, 6, u64::MAX] {
            let found = refused(|s| {
                s.epochs[1].number = number;
                s.epochs[1].parent = EpochId([7; 16]);
            });
            assert_eq!(found, order(1), "number {number}");
        }
        // The same epoch twice.
        assert_eq!(refused(|s| s.epochs[1].id = s.epochs[0].id), order(1));
        // The one before that is not the parent, and the parent that is not the one before.
        let stranger = refused(|s| {
            s.epochs[1].number = 4;
            s.epochs[1].parent = EpochId([7; 16]);
        });
        assert_eq!(stranger, order(1));
        assert_eq!(refused(|s| s.epochs[1].id = s.epochs[0].parent), order(1));
        // Behind an unused place.
        let mut bytes = encoded();
        bytes.copy_within(8192 + 64..8192 + 128, 8192 + 128);
        bytes[8192 + 64..8192 + 128].fill(0);
        seal::apply(&Scalar, &mut bytes, AT);
        assert_eq!(parse(&bytes).unwrap_err(), order(2));
    }

    #[test]
    fn the_current_epoch_names_the_members_and_no_others() {
        let members = BadSuperblock::Epoch(0, BadEpoch::Members);
        assert_eq!(refused(|s| s.epochs[0].absent = Members(0)), members);
        assert_eq!(refused(|s| s.epochs[0].absent = Members(0b101)), members);
        assert_eq!(refused(|s| s.epochs[0].absent = Members(0b11)), members);
    }

    #[test]
    fn damage_with_another_version_says_both() {
        let mut bytes = encoded();
        bytes[8] = 9;
        assert_eq!(parse(&bytes).unwrap_err(), BadSuperblock::SealOrVersion(9));
    }
}
