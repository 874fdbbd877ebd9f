// SPDX-License-Identifier: GPL-2.0

//! A volume with a bit of everything, and changing it as a fuzzer wants without that any checksum shows it: nodes are sealed again up
//! to the root, groups of the journal along their chain.

use embr_engine::env::Device as _;
use embr_engine::env::WritableDevice as _;
use embr_engine::file::Dirty;
use embr_engine::file::Way;
use embr_engine::file::Written;
use embr_engine::format::geometry::Geometry;
use embr_engine::format::inode::Rdev;
use embr_engine::format::journal::Header;
use embr_engine::format::journal::HEADER_SIZE as GROUP_HEADER;
use embr_engine::format::layout;
use embr_engine::format::member::Slot;
use embr_engine::format::node::HEADER_SIZE as NODE_HEADER;
use embr_engine::format::seal;
use embr_engine::hash::Scalar;
use embr_engine::names::Files;
use embr_engine::names::HashWidth;
use embr_engine::names::Names;
use embr_engine::names::New;
use embr_engine::names::Users;
use embr_engine::names::View;
use embr_engine::names::What;
use embr_engine::units::Blocks;
use embr_engine::units::Bytes;
use embr_engine::units::DeviceId;
use embr_engine::units::FileBlock;
use embr_engine::units::InodeNo;
use embr_engine::units::Timestamp;
use embr_engine::units::Uuid;
use embr_engine::units::BLOCK_SIZE;
use embr_engine::volume::probe;
use embrfs_sim::fleet::DriveHandle;
use embrfs_sim::fleet::Fleet;
use embrfs_sim::forge;
use embrfs_sim::machine;
use embrfs_sim::machine::Simulated;
use embrfs_sim::recording::Snapshot;

const SIZE: Bytes = layout::MIN_DEVICE;
/// Changes of one input, at most.
const MOST: usize = 24;

/// A group of the journal: where it lies, and its bytes.
struct Group {
    at: Bytes,
    header: Header,
    bytes: Vec<u8>,
}

/// The volume that all inputs begin with.
pub struct Image {
    snapshot: Snapshot,
    volume: Uuid,
    device: DeviceId,
    /// Groups that a mount carries out, in their order.
    groups: Vec<Group>,
}

fn new(what: What<'_>) -> New<'_> {
    New {
        what,
        permissions: 0o640,
        uid: 1,
        gid: 2,
        flags: 0,
        project: 0,
        now: Timestamp::default(),
    }
}

fn fill(files: Files<'_, Simulated>, from: usize, count: usize) {
    fn made(files: Files<'_, Simulated>, at: InodeNo, name: &str, what: What<'_>) -> InodeNo {
        let made = files.create(at, name.as_bytes(), &new(what));
        made.expect("made").what.number
    }
    let make = |at, name: &str, what: What<'static>| made(files, at, name, what);
    let root = InodeNo::ROOT;
    let directory = make(root, &format!("directory {from}"), What::Directory);
    let below = make(directory, "below", What::Directory);
    for n in from..from + count {
        let target = vec![b'x'; 20 + n * 37 % 900];
        let name = format!("symlink {n}");
        made(files, below, &name, What::Symlink(&target));
    }
    make(directory, "fifo", What::Fifo);
    make(directory, "null", What::CharDevice(Rdev(0x0010_0003)));
    let file = make(directory, "file", What::Regular);
    for (block, way) in [
        (0, Way::Inline),
        (3, Way::Inline),
        (1, Way::Sealed),
        (40, Way::Sealed),
    ] {
        let dirty = Dirty {
            at: FileBlock(block),
            bytes: &[7; BLOCK_SIZE],
        };
        let written = Written {
            size: Some(Bytes(166_000)),
            ..Written::default()
        };
        files.write(file, &[dirty], way, &written).expect("written");
    }
    let linked = files.link(file, below, b"another name", Timestamp::default());
    linked.expect("linked");
    make(directory, "open", What::Regular);
    let removed = files.unlink(directory, b"open", Users::Some, Timestamp::default());
    removed.expect("removed");
}

impl Image {
    fn make() -> Self {
        let fleet = Fleet::new(1, &[SIZE]);
        machine::make(2, &fleet, Geometry::new(1, 0).expect("a geometry")).expect("made");
        let mounted = machine::mount(3, &fleet, machine::READ_WRITE).expect("mounted");
        let names = Names::try_new(HashWidth::Full).expect("memory");
        let view = View::first();
        let files = names.of(&mounted, &view);
        files.format(&new(What::Directory)).expect("formatted");
        fill(files, 0, 60);
        for _ in 0..2 {
            mounted.checkpoint().expect("a checkpoint");
        }
        for n in 1..4 {
            fill(files, n * 100, 2);
            mounted.sync().expect("durable");
        }
        let part = mounted.parts()[0];
        drop(mounted);
        let drive = &fleet.drives()[0];
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
        assert!(groups.len() > 2);
        Image {
            snapshot: fleet.snapshot(),
            volume,
            device: part.id,
            groups,
        }
    }

    /// The image, made once per thread.
    pub fn with<R>(use_it: impl FnOnce(&Image) -> R) -> R {
        thread_local! {
            static IMAGE: Image = Image::make();
        }
        IMAGE.with(use_it)
    }

    /// The volume as this input has it.
    pub fn changed(&self, input: &[u8]) -> Fleet {
        let fleet = Fleet::start(1, &self.snapshot);
        let changes = Change::all(input);
        let drives: Vec<(Slot, DriveHandle)> =
            fleet.drives().into_iter().map(|d| (d.slot(), d)).collect();
        if changes.iter().any(|c| c.what < 160) {
            let mut index = 0u8;
            let mut edit = |_: forge::Spot, bytes: &mut Vec<u8>| {
                let of_this = changes.iter().filter(|c| c.what < 160);
                for change in of_this.filter(|c| c.what % 16 == index) {
                    change.node(bytes);
                }
                index = index.wrapping_add(1);
            };
            // The image was sound.
            let _ = forge::forge(&drives, &mut edit, &mut |_, _, _| {});
        }
        for (_, drive) in &drives {
            if changes.iter().any(|c| (160..216).contains(&c.what)) {
                self.journal(drive, &changes);
            }
            for change in changes.iter().filter(|c| c.what >= 216) {
                root(drive, change);
            }
        }
        fleet
    }

    /// Changes groups, and seals the chain again.
    fn journal(&self, drive: &DriveHandle, changes: &[Change<'_>]) {
        let mut previous = self.groups.first().map(|g| g.header.previous);
        for (index, group) in self.groups.iter().enumerate() {
            let mut header = group.header;
            let mut bytes = group.bytes.clone();
            for change in changes.iter().filter(|c| (160..216).contains(&c.what)) {
                if usize::from(change.what) % self.groups.len() != index {
                    continue;
                }
                let end = GROUP_HEADER + header.used as usize;
                let records = bytes.get_mut(GROUP_HEADER..end).unwrap_or_default();
                change.put(records, usize::from(change.place));
                match change.what {
                    208..=211 => header.records ^= u32::from(change.place) & 7,
                    212..=215 => header.sequence.0 ^= u64::from(change.place) & 3,
                    _ => {}
                }
            }
            header.previous = previous.unwrap_or_default();
            previous = Some(header.encode(&Scalar, &mut bytes));
            Header::seal_copy(&Scalar, &mut bytes, self.device, group.at);
            // The group lies within the disk.
            let _ = drive.write(group.at, &bytes);
        }
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

    /// In a node: any bytes, its header, a key, what is behind the keys, or a value by its number.
    fn node(&self, bytes: &mut [u8]) {
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
}

/// Changes the newest roots.
fn root(drive: &DriveHandle, change: &Change<'_>) {
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
        // Fields and the table of trees; the rest is zeros.
        change.put(&mut bytes[48..400], usize::from(change.place));
        seal::apply(&Scalar, &mut bytes, at);
        // It was just read from there.
        let _ = drive.write(at, &bytes);
    }
}
