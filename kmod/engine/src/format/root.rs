// SPDX-License-Identifier: GPL-2.0

//! A root: the commit point of one generation, in its slot of the ring. It names the tops of all trees, and the journal group from
//! which on what was committed later is found.

use crate::env::Hash256;
use crate::env::Hasher;
use crate::format::journal::Behind;
use crate::format::journal::End;
use crate::format::journal::Gap;
use crate::format::journal::MAX_SEQUENCE;
use crate::format::layout;
use crate::format::pointer;
use crate::format::seal;
use crate::tree::Base;
use crate::units::Blocks;
use crate::units::Bytes;
use crate::units::DeviceId;
use crate::units::EpochId;
use crate::units::Generation;
use crate::units::Level;
use crate::units::Sequence;
use crate::units::Timestamp;
use crate::units::TreeId;
use crate::units::Uuid;
use core::fmt;
use zerocopy::little_endian::I64;
use zerocopy::little_endian::U32;
use zerocopy::little_endian::U64;
use zerocopy::FromBytes as _;
use zerocopy::IntoBytes as _;
use zerocopy_derive::FromBytes;
use zerocopy_derive::Immutable;
use zerocopy_derive::IntoBytes;
use zerocopy_derive::KnownLayout;
use zerocopy_derive::Unaligned;

/// First bytes of a root.
pub const MAGIC: [u8; 8] = *b"embrfsRT";

/// The fixed part of a root as it lies on disk; zeros follow up to [`layout::ROOT_SIZE`].
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
struct Raw {
    magic: [u8; 8],
    version: U32,
    size: U32,
    seal: [u8; 32],
    volume: [u8; 16],
    epoch: [u8; 16],
    generation: U64,
    device: U32,
    slot: U32,
    written_seconds: I64,
    written_nanos: U32,
    trees: U32,
    first: U64,
    identity: [u8; 32],
    journal_start: U64,
    journal_blocks: U64,
    nodes: U64,
    made: U64,
    gap_first: U64,
    gap_next: U64,
    gap_identity: [u8; 32],
    gap_after: [u8; 8],
    told: U64,
}

/// An entry of the table of trees as it lies on disk.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
struct RawTree {
    tree: u8,
    level: u8,
    reserved: [u8; 6],
    nodes: U64,
    top: pointer::Raw,
}

/// No root has this generation or a higher one: it would take longer than anything lasts.
const MAX_GENERATION: Generation = Generation(1 << 63);

/// Trees in a root, at most.
pub const TREES: usize =
    (layout::ROOT_SIZE - core::mem::size_of::<Raw>()) / core::mem::size_of::<RawTree>();

/// Where a device has its journal, and where the journal goes on behind a root.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Journal {
    /// What was committed after the root is in these groups.
    pub behind: Behind,
    /// First block of the journal on the device with this root.
    pub start: Blocks,
    /// Its size there.
    pub blocks: Blocks,
}

/// A root.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Root {
    /// The volume that it belongs to.
    pub volume: Uuid,
    /// The epoch in which it was written.
    pub epoch: EpochId,
    /// Its generation.
    pub generation: Generation,
    /// The device that it was written to.
    pub device: DeviceId,
    /// When.
    pub written: Timestamp,
    /// The journal.
    pub journal: Journal,
    /// Nodes of all trees together.
    pub nodes: u64,
    /// The generation of the root that named these very trees first. What the journal says of the nodes of later ones is not for this one.
    pub made: Generation,
    /// The last group that tells of their nodes, zero where none does. Without it nobody knows what is free.
    pub told: Sequence,
}

/// Why a slot holds no root that can be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BadRoot {
    /// All zeros: never written.
    Empty,
    /// No root's magic.
    Magic,
    /// The seal does not hold: torn, rotten, or meant for another place.
    Seal,
    /// A version that this code does not know.
    Version(u32),
    /// Written for another volume or another device.
    Foreign,
    /// A generation that does not belong in this slot.
    Slot,
    /// A field has a value that cannot be.
    Field,
}

impl BadRoot {
    /// Whether the bytes are what somebody meant to write there for this volume and device, but this code does not
    /// understand them.
    pub fn is_sealed(&self) -> bool {
        matches!(self, BadRoot::Version(_) | BadRoot::Slot | BadRoot::Field)
    }
}

impl fmt::Display for BadRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadRoot::Empty => f.write_str("never written"),
            BadRoot::Magic => f.write_str("not a root"),
            BadRoot::Seal => {
                f.write_str("checksum mismatch: torn, damaged or written to another place")
            }
            BadRoot::Version(v) => write!(f, "root version {v} is not known here"),
            BadRoot::Foreign => f.write_str("a root of another volume or device"),
            BadRoot::Slot => f.write_str("a generation that belongs in another slot"),
            BadRoot::Field => f.write_str("a field has an impossible value"),
        }
    }
}

impl Journal {
    /// The journal of a device of this size that was just made part of a new volume.
    pub fn of_new(device: Bytes) -> Self {
        let (start, blocks) = layout::journal(device);
        Journal {
            behind: Behind::all(End {
                next: Sequence(1),
                identity: Hash256::default(),
            }),
            start,
            blocks,
        }
    }

    /// Whether the groups can follow one another.
    fn is_in_order(&self) -> bool {
        let Behind { next, gap } = self.behind;
        let counts = |n: Sequence| n != Sequence(0) && n < MAX_SEQUENCE;
        let follows = |gap: Gap| next.next <= gap.first && gap.first < gap.resume.next;
        let last = gap.map_or(next.next, |gap| gap.resume.next);
        counts(next.next) && counts(last) && gap.is_none_or(follows)
    }

    /// Whether a journal can lie there at all; whether it lies within its device is for those to check who know it.
    fn is_possible(&self) -> bool {
        let end = self.start.0.checked_add(self.blocks.0).map(Blocks);
        self.start >= layout::AREA_SIZE.whole_blocks()
            && self.blocks >= layout::MIN_JOURNAL
            && end
                .and_then(Blocks::bytes)
                .is_some_and(|end| end <= layout::MAX_DEVICE)
    }
}

/// How it is written that nothing is left out.
const NO_GAP: Gap = Gap {
    first: Sequence(0),
    after: [0; 8],
    resume: End {
        next: Sequence(0),
        identity: Hash256([0; 32]),
    },
};

impl Raw {
    fn behind(&self) -> Behind {
        let end = |next: U64, identity| End {
            next: Sequence(next.get()),
            identity: Hash256(identity),
        };
        let gap = Gap {
            first: Sequence(self.gap_first.get()),
            after: self.gap_after,
            resume: end(self.gap_next, self.gap_identity),
        };
        Behind {
            next: end(self.first, self.identity),
            gap: (gap != NO_GAP).then_some(gap),
        }
    }
}

/// The table of trees: none where there cannot be so many, and none for an entry that makes no sense.
fn table(bytes: &[u8]) -> Option<impl Iterator<Item = Option<Base>> + '_> {
    let (raw, rest) = Raw::ref_from_prefix(bytes).ok()?;
    let count = raw.trees.get() as usize;
    let entries = rest.chunks_exact(core::mem::size_of::<RawTree>());
    (count <= TREES && count <= entries.len()).then(|| {
        let mut before = TreeId(0);
        entries.take(count).map(move |entry| {
            let (raw, _) = RawTree::ref_from_prefix(entry).ok()?;
            let tree = TreeId(raw.tree);
            let rising = before < tree;
            before = tree;
            let base = Base::new(tree, raw.top.parse()?, Level(raw.level), raw.nodes.get())?;
            rising.then_some(base)
        })
    })
}

impl Root {
    /// Checks what was read at `at`, from slot `slot` of a ring of `device` in `volume`.
    #[inline(never)]
    pub fn parse(
        hasher: &impl Hasher,
        bytes: &[u8],
        at: Bytes,
        slot: u32,
        volume: Uuid,
        device: DeviceId,
    ) -> Result<Self, BadRoot> {
        let (raw, _) = Raw::ref_from_prefix(bytes).map_err(|_| BadRoot::Magic)?;
        if raw.magic != MAGIC {
            // Most slots of a ring are empty, and each is looked at in every mount: not byte by byte.
            let zeros = |piece: &[u8]| piece.iter().fold(0, |all, b| all | b) == 0;
            return Err(if bytes.chunks(64).all(zeros) {
                BadRoot::Empty
            } else {
                BadRoot::Magic
            });
        }
        if !seal::holds(hasher, bytes, at) {
            return Err(BadRoot::Seal);
        }
        if raw.version.get() != layout::VERSION {
            return Err(BadRoot::Version(raw.version.get()));
        }
        let root = Root {
            volume: Uuid(raw.volume),
            epoch: EpochId(raw.epoch),
            generation: Generation(raw.generation.get()),
            device: DeviceId(raw.device.get()),
            written: Timestamp {
                seconds: raw.written_seconds.get(),
                nanos: raw.written_nanos.get(),
            },
            journal: Journal {
                behind: raw.behind(),
                start: Blocks(raw.journal_start.get()),
                blocks: Blocks(raw.journal_blocks.get()),
            },
            nodes: raw.nodes.get(),
            made: Generation(raw.made.get()),
            told: Sequence(raw.told.get()),
        };
        if root.volume != volume || root.device != device {
            return Err(BadRoot::Foreign);
        }
        if raw.slot.get() != slot || layout::ring_slot(root.generation) != slot {
            return Err(BadRoot::Slot);
        }
        let sound = raw.size.get() as usize == layout::ROOT_SIZE
            && root.epoch != EpochId::NONE
            && root.generation < MAX_GENERATION
            && (Generation(1)..=root.generation).contains(&root.made)
            && root.written.nanos < 1_000_000_000
            && root.journal.is_in_order()
            && root.journal.is_possible()
            && root.told < MAX_SEQUENCE
            && table(bytes).is_some_and(|mut t| t.all(|tree| tree.is_some()));
        sound.then_some(root).ok_or(BadRoot::Field)
    }

    /// The trees of a root that was parsed from these bytes; those that are empty are not among them.
    pub fn trees(bytes: &[u8]) -> impl Iterator<Item = Base> + '_ {
        table(bytes).into_iter().flatten().flatten()
    }

    /// How new a sealed root is that cannot be parsed; one of another version counts as newer than any.
    pub fn generation_of_sealed(bytes: &[u8]) -> Generation {
        match Raw::ref_from_prefix(bytes) {
            Ok((raw, _)) if raw.version.get() == layout::VERSION => {
                Generation(raw.generation.get())
            }
            _ => Generation(u64::MAX),
        }
    }

    /// Writes the root and these trees, [`TREES`] at most, into `out`, one root long, sealed for the place `at`.
    pub fn encode(&self, trees: &[Base], hasher: &impl Hasher, at: Bytes, out: &mut [u8]) {
        let Behind { next, gap } = self.journal.behind;
        let gap = gap.unwrap_or(NO_GAP);
        let filled = || trees.iter().filter_map(|b| b.top.map(|top| (b, top)));
        let raw = Raw {
            magic: MAGIC,
            version: layout::VERSION.into(),
            size: (layout::ROOT_SIZE as u32).into(),
            seal: [0; 32],
            volume: self.volume.0,
            epoch: self.epoch.0,
            generation: self.generation.0.into(),
            device: self.device.0.into(),
            slot: layout::ring_slot(self.generation).into(),
            written_seconds: self.written.seconds.into(),
            written_nanos: self.written.nanos.into(),
            trees: (filled().count() as u32).into(),
            first: next.next.0.into(),
            identity: next.identity.0,
            journal_start: self.journal.start.0.into(),
            journal_blocks: self.journal.blocks.0.into(),
            nodes: self.nodes.into(),
            made: self.made.0.into(),
            gap_first: gap.first.0.into(),
            gap_next: gap.resume.next.0.into(),
            gap_identity: gap.resume.identity.0,
            gap_after: gap.after,
            told: self.told.0.into(),
        };
        out.fill(0);
        // Both have their size from the layout; a shorter buffer would only leave a root that no one accepts.
        let _ = raw.write_to_prefix(out);
        let table = out
            .get_mut(core::mem::size_of::<Raw>()..)
            .unwrap_or_default();
        let places = table.chunks_exact_mut(core::mem::size_of::<RawTree>());
        for (place, (base, top)) in places.zip(filled()) {
            let raw = RawTree {
                tree: base.tree.0,
                level: top.level.0,
                reserved: [0; 6],
                nodes: base.nodes.into(),
                top: top.pointer.raw(),
            };
            let _ = raw.write_to_prefix(place);
        }
        seal::apply(hasher, out, at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::member::Slot;
    use crate::hash::Scalar;

    const AT: Bytes = Bytes(0x20000 + 7 * 4096);

    fn root() -> Root {
        Root {
            volume: Uuid([3; 16]),
            epoch: EpochId([4; 16]),
            generation: Generation(7 + 64 * 5),
            device: DeviceId(9),
            written: Timestamp {
                seconds: -5,
                nanos: 999_999_999,
            },
            journal: Journal {
                behind: Behind {
                    next: End {
                        next: Sequence(77),
                        identity: Hash256([6; 32]),
                    },
                    gap: Some(Gap {
                        first: Sequence(77),
                        after: [9; 8],
                        resume: End {
                            next: Sequence(79),
                            identity: Hash256([8; 32]),
                        },
                    }),
                },
                start: Blocks(2304),
                blocks: Blocks(1024),
            },
            nodes: 1 << 40,
            made: Generation(7),
            told: Sequence(90),
        }
    }

    fn trees() -> [Base; 3] {
        let place = pointer::Place {
            device: Slot::FIRST,
            block: Blocks(5000),
        };
        let top = pointer::Pointer {
            generation: Generation(3),
            hash: [5; 16],
            places: pointer::Places::new(&[place]).unwrap(),
        };
        [
            Base::new(TreeId(1), top, Level(2), 40).unwrap(),
            Base::empty(TreeId(2)),
            Base::new(TreeId(4), top, Level(0), 1).unwrap(),
        ]
    }

    fn parse(bytes: &[u8], at: Bytes, slot: u32) -> Result<Root, BadRoot> {
        Root::parse(&Scalar, bytes, at, slot, Uuid([3; 16]), DeviceId(9))
    }

    #[test]
    fn round_trip_and_binding() {
        let mut bytes = [0xaau8; layout::ROOT_SIZE];
        root().encode(&trees(), &Scalar, AT, &mut bytes);
        assert_eq!(parse(&bytes, AT, 7), Ok(root()));
        let [first, _, last] = trees();
        assert!(Root::trees(&bytes).eq([first, last]));
        assert_eq!(parse(&bytes, Bytes(AT.0 + 4096), 8), Err(BadRoot::Seal));
        assert_eq!(parse(&bytes, AT, 8), Err(BadRoot::Slot));
        assert_eq!(
            Root::parse(&Scalar, &bytes, AT, 7, Uuid([5; 16]), DeviceId(9)),
            Err(BadRoot::Foreign)
        );
        assert_eq!(
            Root::parse(&Scalar, &bytes, AT, 7, Uuid([3; 16]), DeviceId(8)),
            Err(BadRoot::Foreign)
        );
    }

    #[test]
    fn every_bit_is_covered() {
        let mut bytes = [0u8; layout::ROOT_SIZE];
        root().encode(&trees(), &Scalar, AT, &mut bytes);
        for i in 0..bytes.len() {
            bytes[i] ^= 1 << (i % 8);
            assert!(parse(&bytes, AT, 7).is_err(), "byte {i}");
            bytes[i] ^= 1 << (i % 8);
        }
    }

    #[test]
    fn forged_fields_are_told_apart() {
        // A generation of another slot, another slot's number, another size, no epoch, nanoseconds, too many trees, no group, a
        // journal in the first area, a small one, one beyond any device, a gap before the first group, one that goes back, a tree
        // twice, a level that no tree has, no place.
        let cases: [(usize, &[u8], BadRoot); 17] = [
            (8, &[2], BadRoot::Version(2)),
            (80, &[8], BadRoot::Slot),
            (92, &[8], BadRoot::Slot),
            (12, &[1], BadRoot::Field),
            (64, &[0; 16], BadRoot::Field),
            (104, &[0xff; 4], BadRoot::Field),
            (108, &[200], BadRoot::Field),
            (112, &[0; 8], BadRoot::Field),
            (152, &[0xff, 0, 0], BadRoot::Field),
            (160, &[0xff, 0, 0], BadRoot::Field),
            (159, &[0x80], BadRoot::Field),
            (184, &[76], BadRoot::Field),
            (192, &[77], BadRoot::Field),
            (248 + 80, &[1], BadRoot::Field),
            (247, &[0x80], BadRoot::Field),
            (249, &[200], BadRoot::Field),
            (248 + 16 + 24, &[0; 8], BadRoot::Field),
        ];
        for (field, value, reason) in cases {
            let mut bytes = [0u8; layout::ROOT_SIZE];
            root().encode(&trees(), &Scalar, AT, &mut bytes);
            bytes[field..field + value.len()].copy_from_slice(value);
            seal::apply(&Scalar, &mut bytes, AT);
            assert_eq!(parse(&bytes, AT, 7), Err(reason), "byte {field}");
        }
    }

    #[test]
    fn empty_and_short() {
        assert_eq!(parse(&[0; layout::ROOT_SIZE], AT, 7), Err(BadRoot::Empty));
        for len in 0..100 {
            assert!(parse(&[0; 100][..len], AT, 7).is_err());
        }
    }
}
