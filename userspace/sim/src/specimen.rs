// SPDX-License-Identifier: GPL-2.0

//! A volume with a bit of everything, and changing it as a fuzzer wants without that any checksum shows it: nodes are sealed again up
//! to the root, groups of the journal along their chain.

mod filling;

use crate::craft;
use crate::craft::Facts;
use crate::craft::Whim;
use crate::fleet::DriveHandle;
use crate::fleet::Fleet;
use crate::forge;
use crate::host::Chance;
use crate::machine;
use crate::machine::Simulated;
use crate::recording::Snapshot;
use embr_engine::env::Device as _;
use embr_engine::env::WritableDevice as _;
use embr_engine::format::engram::Map;
use embr_engine::format::geometry::Geometry;
use embr_engine::format::journal::Header;
use embr_engine::format::journal::Record;
use embr_engine::format::journal::HEADER_SIZE as GROUP_HEADER;
use embr_engine::format::layout;
use embr_engine::format::member::Slot;
use embr_engine::format::node::HEADER_SIZE as NODE_HEADER;
use embr_engine::format::seal;
use embr_engine::hash::Scalar;
use embr_engine::names::HashWidth;
use embr_engine::names::Names;
use embr_engine::names::View;
use embr_engine::names::What;
use embr_engine::tree::Key;
use embr_engine::tree::Range;
use embr_engine::units::Blocks;
use embr_engine::units::Bytes;
use embr_engine::units::DeviceId;
use embr_engine::units::TreeId;
use embr_engine::units::Uuid;
use embr_engine::units::BLOCK_SIZE;
use embr_engine::volume::mounted::Part;
use embr_engine::volume::mounted::ENGRAMS;
use embr_engine::volume::mounted::TREES;
use embr_engine::volume::probe;
use embr_engine::volume::Mounted;
use filling::enrich;
use filling::fill;
use filling::go_on;
use filling::half_do;
use filling::new;
use filling::part;
use filling::revise;
use filling::waste;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

const SIZE: Bytes = layout::MIN_DEVICE;
/// Changes of one input, at most.
const MOST: usize = 24;
/// Kinds of change: of the bytes of nodes below this, of items from here on.
const ITEMS: u8 = 80;
/// Of the journal from here on.
const NODES: u8 = 160;
/// From here on, of roots.
const ROOTS: u8 = 216;

/// A group of the journal: where it lies, and its bytes.
struct Group {
    at: Bytes,
    header: Header,
    bytes: Vec<u8>,
}

/// A member of the volume.
struct Member {
    slot: Slot,
    id: DeviceId,
    /// Groups that a mount carries out, in their order.
    groups: Vec<Group>,
}

/// How the volume is made that inputs begin with.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Build {
    /// On one device.
    Single,
    /// On two, each with a copy of everything.
    Pair,
    /// The same, of which one is not here.
    Half,
    /// On four, with stripes.
    Striped,
    /// The same, of which one is not here.
    Torn,
}

/// The volume that all inputs begin with.
pub struct Specimen {
    snapshot: Snapshot,
    volume: Uuid,
    members: Vec<Member>,
    facts: Facts,
}

/// All items, and where nodes, data and fixed things lie.
fn facts(mounted: &Mounted<Simulated>) -> Facts {
    let mut facts = Facts {
        generation: mounted.generation().0,
        ..Facts::default()
    };
    for tree in TREES {
        let mut scan = mounted.scan(tree, Range::ALL).expect("a tree");
        while let Some((key, value)) = scan.next().expect("read") {
            facts.items.push((tree, key, value.to_vec()));
        }
    }
    let blocks = SIZE.whole_blocks().0;
    facts.places = vec![
        0,
        1,
        16,
        20,
        32,
        96,
        255,
        256,
        blocks - 4,
        blocks - 1,
        blocks,
    ];
    facts
        .places
        .extend([blocks + 1, 32768, (1 << 50) - 1, 1 << 50, (1 << 52) - 4]);
    for (_, area) in layout::areas(SIZE) {
        let area = area.whole_blocks().0;
        facts
            .places
            .extend([area, area + 16, area + 32, area + 256]);
    }
    for part in mounted.parts() {
        let journal = part.journal;
        let end = journal.start.0 + journal.blocks.0;
        facts.places.extend([journal.start.0, end - 1, end]);
    }
    let tops = mounted.bases().filter_map(|base| base.top);
    let nodes = tops.map(|top| top.pointer.places);
    let is_map = |item: &&craft::Item| item.0 == ENGRAMS;
    let maps = facts.items.iter().filter(is_map);
    let maps = maps.filter_map(|(_, _, value)| Map::parse(value).ok()?);
    let parts = maps.flat_map(|map| map.parts().collect::<Vec<_>>());
    let all: Vec<u64> = (nodes.chain(parts.map(|part| part.places)))
        .flat_map(|p| p.iter().map(|place| place.block.0).collect::<Vec<_>>())
        .collect();
    facts.places.extend(all);
    facts
}

/// The groups on a member that a mount carries out.
fn groups(drive: &DriveHandle, part: &Part) -> Vec<Group> {
    let member = probe(drive, &Scalar).expect("a member");
    let volume = member.superblock.volume;
    let mut groups = Vec::new();
    for block in part.journal.start.0..part.journal.start.0 + part.journal.blocks.0 {
        let at = Blocks(block).bytes().expect("a place");
        let mut first = [0; BLOCK_SIZE];
        drive.read(at, &mut first).expect("read");
        let Ok(header) = Header::parse(&Scalar, &first, at, volume, part.id) else {
            continue;
        };
        if header.sequence < member.root.journal.behind.next.next {
            continue;
        }
        let mut bytes = vec![0; header.size()];
        drive.read(at, &mut bytes).expect("read");
        groups.push(Group { at, header, bytes });
    }
    groups.sort_by_key(|g| g.header.sequence);
    groups
}

impl Specimen {
    fn make(build: Build) -> Self {
        let (devices, shape) = match build {
            Build::Single => (1, (1, 0)),
            Build::Pair | Build::Half => (2, (1, 1)),
            Build::Striped | Build::Torn => (4, (3, 1)),
        };
        let fleet = Fleet::new(1, &vec![SIZE; devices]);
        let geometry = Geometry::new(shape.0, shape.1).expect("a geometry");
        machine::make(2, &fleet, geometry).expect("made");
        let mounted = machine::mount(3, &fleet, machine::READ_WRITE).expect("mounted");
        let names = Names::try_new(HashWidth::Full).expect("memory");
        let view = View::first();
        let files = names.of(&mounted, &view);
        files.format(&new(What::Directory)).expect("formatted");
        revise(files);
        fill(files, 0, 60);
        enrich(&mounted, &names);
        let view = names.open(&mounted, b"").expect("the head");
        let files = names.of(&mounted, &view);
        part(&mounted, files);
        waste(files);
        half_do(&mounted, files, view.current());
        for _ in 0..2 {
            mounted.checkpoint().expect("a checkpoint");
        }
        // No more than there is room for without another root, which would leave nothing of it for the next mount to carry out.
        for n in 1..3 {
            fill(files, n * 100, 2);
            mounted.sync().expect("durable");
        }
        go_on(files);
        mounted.sync().expect("durable");
        let facts = facts(&mounted);
        let volume = mounted.volume();
        let parts: Vec<Part> = mounted.parts().to_vec();
        drop(mounted);
        let members = parts.iter().map(|part| Member {
            slot: part.slot,
            id: part.id,
            groups: groups(&fleet.drive(part.slot).expect("a drive"), part),
        });
        let members: Vec<Member> = members.collect();
        // Not every device has the journal.
        assert!(members.iter().any(|member| member.groups.len() > 2));
        let mut specimen = Specimen {
            members,
            snapshot: fleet.snapshot(),
            volume,
            facts,
        };
        if matches!(build, Build::Half | Build::Torn) {
            let gone = specimen.members.pop().expect("several members");
            specimen.snapshot.drives.remove(&gone.slot);
        }
        specimen
    }

    /// The volume, made once per thread.
    pub fn with<R>(build: Build, use_it: impl FnOnce(&Specimen) -> R) -> R {
        thread_local! {
            static MADE: RefCell<BTreeMap<Build, Rc<Specimen>>> = const { RefCell::new(BTreeMap::new()) };
        }
        let made = MADE.with_borrow_mut(|made| {
            let specimen = made.entry(build);
            specimen
                .or_insert_with(|| Rc::new(Specimen::make(build)))
                .clone()
        });
        use_it(&made)
    }

    /// An input such as a fuzzer makes.
    pub fn input(chance: &Chance) -> Vec<u8> {
        let mut input = Vec::new();
        for _ in 0..1 + chance.below(4) {
            let what = match chance.below(10) {
                0 => usize::from(ROOTS) + chance.below(40),
                1..=3 => usize::from(NODES) + chance.below(56),
                4 | 5 => chance.below(usize::from(ITEMS)),
                _ => usize::from(ITEMS) + chance.below(usize::from(NODES - ITEMS)),
            };
            input.push(what as u8);
            input.extend((chance.next() as u16).to_le_bytes());
            let length = 1 + chance.below(24);
            input.push(length as u8);
            input.extend((0..length).map(|_| match chance.below(6) {
                0 => 0,
                1 => 0xff,
                2 => 1 << chance.below(8),
                3 => chance.below(20) as u8,
                4 => 0xf0 + chance.below(2) as u8,
                _ => chance.next() as u8,
            }));
        }
        input
    }

    /// The volume as this input has it.
    pub fn changed(&self, input: &[u8]) -> Fleet {
        let fleet = Fleet::start(1, &self.snapshot);
        let changes = Change::all(input);
        let drives: Vec<(Slot, DriveHandle)> =
            fleet.drives().into_iter().map(|d| (d.slot(), d)).collect();
        if changes.iter().any(|c| c.what < NODES) {
            let mut index = 0u8;
            let mut edit = |_: forge::Spot, bytes: &mut Vec<u8>| {
                let of_this = changes.iter().filter(|c| c.what < NODES);
                for change in of_this.filter(|c| c.what % 16 == index % 16) {
                    change.node(self, bytes);
                }
                index = index.wrapping_add(1);
            };
            // The volume was sound.
            let _ = forge::forge(&drives, &mut edit, &mut |_, _, _| {});
        }
        for (slot, drive) in &drives {
            if changes.iter().any(|c| (NODES..ROOTS).contains(&c.what)) {
                let member = self.members.iter().find(|m| m.slot == *slot);
                self.journal(drive, member.expect("a member"), &changes);
            }
            for change in changes.iter().filter(|c| c.what >= ROOTS) {
                root(drive, change, &self.facts);
            }
        }
        fleet
    }

    /// Changes groups as a fuzzer wants.
    fn journal(&self, drive: &DriveHandle, member: &Member, changes: &[Change<'_>]) {
        let count = member.groups.len();
        let of_journal = |c: &&Change<'_>| (NODES..ROOTS).contains(&c.what);
        self.chain(drive, member, &mut |index, header, bytes| {
            for change in changes.iter().filter(of_journal) {
                if change.what % 2 == 1 {
                    // Behind the last there is room.
                    if index + 1 == count {
                        craft::record(&mut Whim::new(change.with), &self.facts, bytes);
                        header.records += 1;
                    }
                    continue;
                }
                if usize::from(change.what / 2) % count != index {
                    continue;
                }
                let records = bytes.get_mut(GROUP_HEADER..).unwrap_or_default();
                change.put(records, usize::from(change.place));
                match change.what {
                    208..=211 => header.records ^= u32::from(change.place) & 7,
                    212..=215 => header.sequence.0 ^= u64::from(change.place) & 3,
                    _ => {}
                }
            }
        });
    }

    /// The volume, with these records at the end of its journal.
    pub fn with_records(&self, records: &[Record<'_>]) -> Fleet {
        let fleet = Fleet::start(1, &self.snapshot);
        for member in &self.members {
            let drive = fleet.drive(member.slot).expect("a drive");
            self.chain(&drive, member, &mut |index, header, bytes| {
                if index + 1 < member.groups.len() {
                    return;
                }
                let mut more = embr_rt::Vec::new();
                for record in records {
                    record.encode(&mut more).expect("memory");
                }
                header.records += records.len() as u32;
                bytes.extend_from_slice(&more);
            });
        }
        fleet
    }

    /// Changes groups (header and records, without what fills the last block), and seals the chain again.
    fn chain(
        &self,
        drive: &DriveHandle,
        member: &Member,
        edit: &mut dyn FnMut(usize, &mut Header, &mut Vec<u8>),
    ) {
        let mut previous = member.groups.first().map(|g| g.header.previous);
        for (index, group) in member.groups.iter().enumerate() {
            let mut header = group.header;
            let mut bytes = group.bytes.clone();
            bytes.truncate(GROUP_HEADER + header.used as usize);
            edit(index, &mut header, &mut bytes);
            header.used = (bytes.len() - GROUP_HEADER) as u32;
            bytes.resize(header.size(), 0);
            header.previous = previous.unwrap_or_default();
            previous = Some(header.encode(&Scalar, &mut bytes));
            Header::seal_copy(&Scalar, &mut bytes, member.id, group.at);
            // The group lies within the disk.
            let _ = drive.write(group.at, &bytes);
        }
    }

    /// All its items, with what the journal says of them.
    pub fn items(&self) -> &[craft::Item] {
        &self.facts.items
    }

    /// The volume's UUID.
    pub fn volume(&self) -> Uuid {
        self.volume
    }
}

/// One change that a fuzzer wants.
struct Change<'i> {
    /// What is changed, and how.
    what: u8,
    place: u16,
    with: &'i [u8],
}

impl<'i> Change<'i> {
    /// What, place (two bytes), how many bytes, these bytes; over and over.
    fn all(mut input: &'i [u8]) -> Vec<Self> {
        let mut changes = Vec::new();
        while let (Some(([what, low, high, length], rest)), true) =
            (input.split_first_chunk(), changes.len() < MOST)
        {
            let length = (usize::from(*length) % 32).min(rest.len());
            let (with, rest) = rest.split_at(length);
            changes.push(Change {
                what: *what,
                place: u16::from_le_bytes([*low, *high]),
                with,
            });
            input = rest;
        }
        changes
    }

    fn put(&self, into: &mut [u8], at: usize) {
        let at = if into.is_empty() { 0 } else { at % into.len() };
        for (to, from) in into.iter_mut().skip(at).zip(self.with) {
            *to = *from;
        }
    }

    /// In a node: any bytes, its header, a key, what is behind the keys, a value by its number; or whole items.
    fn node(&self, specimen: &Specimen, bytes: &mut Vec<u8>) {
        if self.what >= ITEMS && bytes[89] == 0 {
            let tree = TreeId(bytes[88]);
            forge::try_entries(bytes, specimen.volume, |items| {
                self.items(specimen, tree, items);
            });
            return;
        }
        let place = usize::from(self.place);
        let count = usize::from(u16::from_le_bytes([bytes[90], bytes[91]]));
        let keys = NODE_HEADER + 24 * count;
        let is_leaf = bytes[89] == 0;
        match self.what / 16 % 5 {
            0 => self.put(bytes, place),
            1 => self.put(&mut bytes[48..NODE_HEADER], place),
            2 => self.put(bytes.get_mut(NODE_HEADER..keys).unwrap_or_default(), place),
            3 => self.put(bytes.get_mut(keys..).unwrap_or_default(), place),
            _ if is_leaf && count != 0 => {
                let ends = |n: usize| {
                    let at = keys + 2 * n;
                    let end = bytes
                        .get(at..at + 2)
                        .map(|b| u16::from_le_bytes([b[0], b[1]]));
                    usize::from(end.unwrap_or(0))
                };
                let n = place / 64 % count;
                let begin = if n == 0 { 0 } else { ends(n - 1) };
                let values = keys + 2 * count;
                let range = values + begin..values + ends(n);
                self.put(bytes.get_mut(range).unwrap_or_default(), place % 64);
            }
            _ => self.put(bytes.get_mut(keys..).unwrap_or_default(), place % 4096),
        }
    }

    /// An item of a leaf is made something else, is gone, or is there under another key as well.
    fn items(&self, specimen: &Specimen, tree: TreeId, items: &mut Vec<(Key, Vec<u8>)>) {
        let mut whim = Whim::new(self.with);
        let index = usize::from(self.place) % items.len().max(1);
        let Some((key, value)) = items.get(index).cloned() else {
            return;
        };
        let how = whim.below(12);
        if how != 0 {
            items.remove(index);
        }
        if how == 1 {
            return;
        }
        let mut made = (tree, key, value);
        craft::item(&mut whim, &specimen.facts, &mut made);
        items.retain(|(key, _)| *key != made.1);
        items.push((made.1, made.2));
        items.sort();
    }
}

/// Changes the newest roots.
fn root(drive: &DriveHandle, change: &Change<'_>, facts: &Facts) {
    let Ok(member) = probe(drive, &Scalar) else {
        return;
    };
    let slot = layout::ring_slot(member.root.generation);
    for ring in layout::rings(SIZE) {
        let Some(at) = layout::slot_at(ring, slot) else {
            continue;
        };
        let mut bytes = vec![0; layout::ROOT_SIZE];
        if drive.read(at, &mut bytes).is_err() {
            continue;
        }
        if change.what % 4 == 3 {
            let mut whim = Whim::new(change.with);
            let (begin, blocks) = craft::journal(&mut whim, facts);
            bytes[152..160].copy_from_slice(&begin.to_le_bytes());
            bytes[160..168].copy_from_slice(&blocks.to_le_bytes());
        } else {
            // Fields and the table of trees; the rest is zeros.
            change.put(&mut bytes[48..400], usize::from(change.place));
        }
        seal::apply(&Scalar, &mut bytes, at);
        // It was just read from there.
        let _ = drive.write(at, &bytes);
    }
}
