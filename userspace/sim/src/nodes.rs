// SPDX-License-Identifier: GPL-2.0

//! Trees on devices of memory: whole nodes kept by place, devices that fail or are away, nodes that are damaged, and the
//! changes and the space that a merge asks for. No caches and no crashes: what is written is there.

use embr_engine::env::DeviceError;
use embr_engine::env::Devices;
use embr_engine::env::Hasher;
use embr_engine::env::Write;
use embr_engine::format::member::Entry;
use embr_engine::format::member::Members;
use embr_engine::format::member::Slot;
use embr_engine::format::member::State;
use embr_engine::format::node::Node;
use embr_engine::format::pointer::Place;
use embr_engine::format::pointer::Places;
use embr_engine::format::pointer::Pointer;
use embr_engine::hash::Scalar;
use embr_engine::tree::merge::Edition;
use embr_engine::tree::merge::Sink;
use embr_engine::tree::nodes::Events;
use embr_engine::tree::nodes::Host;
use embr_engine::tree::nodes::Nodes;
use embr_engine::tree::Change;
use embr_engine::tree::Changes;
use embr_engine::tree::Key;
use embr_engine::tree::Range;
use embr_engine::tree::TreeError;
use embr_engine::units::Blocks;
use embr_engine::units::Bytes;
use embr_engine::units::DeviceId;
use embr_engine::units::EpochId;
use embr_engine::units::Generation;
use embr_engine::units::TreeId;
use embr_engine::units::Uuid;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

/// The volume of all nodes here.
pub const VOLUME: Uuid = Uuid([7; 16]);
/// For what they are written.
pub const EDITION: Edition = Edition {
    epoch: EpochId([9; 16]),
    generation: Generation(5),
};
/// Where nodes begin, on every device: behind the last system area.
const FIRST_BLOCK: u64 = 1 << 19;

/// What happened to bad copies.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// Overwritten with good ones.
    pub repaired: usize,
    /// Not to be overwritten.
    pub unrepaired: usize,
    /// Nodes without a good copy.
    pub lost: usize,
}

#[derive(Default)]
struct Contents {
    nodes: HashMap<(usize, u64), Box<[u8]>>,
    failing: Members,
    reads: usize,
    tally: Tally,
}

/// Devices that hold nodes, and whoever is told of damage. Clones are the same devices.
#[derive(Clone)]
pub struct Shelf<H = Scalar> {
    contents: Arc<Mutex<Contents>>,
    present: Members,
    may_repair: bool,
    hasher: H,
}

/// A slot of the device table.
pub fn slot(index: usize) -> Slot {
    Slot::new(index).expect("there are that many slots")
}

impl<H: Hasher + Clone> Shelf<H> {
    /// Devices that are empty. Those not in `present` can be read, but are neither trusted nor written.
    pub fn new(hasher: H, present: Members, may_repair: bool) -> Self {
        Shelf {
            contents: Arc::default(),
            present,
            may_repair,
            hasher,
        }
    }

    /// The same devices as one sees them for whom others are present.
    pub fn seen_by(&self, present: Members) -> Self {
        Shelf {
            present,
            ..self.clone()
        }
    }

    /// The nodes on it; 8 devices of 1 TiB.
    pub fn nodes(&self, size: usize, cache: Bytes) -> Nodes<Shelf<H>> {
        let members: Vec<Entry> = (0..8)
            .map(|i| Entry {
                slot: slot(i),
                id: DeviceId(i as u32 + 1),
                uuid: Uuid([i as u8 + 1; 16]),
                state: State::Member,
                class: 0,
                failure_domain: 0,
                size: Blocks(1 << 28),
                joined: 1,
            })
            .collect();
        Nodes::new(self.clone(), VOLUME, size, &members, cache).expect("memory")
    }

    fn contents(&self) -> MutexGuard<'_, Contents> {
        let lock = self.contents.lock();
        lock.unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on these devices fail every read and write.
    pub fn fail(&self, devices: Members) {
        self.contents().failing = devices;
    }

    /// How many nodes were read since this was last asked.
    pub fn take_reads(&self) -> usize {
        std::mem::take(&mut self.contents().reads)
    }

    /// What happened to bad copies since this was last asked.
    pub fn take_tally(&self) -> Tally {
        std::mem::take(&mut self.contents().tally)
    }

    /// The bytes of one copy.
    pub fn copy(&self, place: Place) -> Option<Box<[u8]>> {
        let key = (place.device.index(), place.block.0);
        self.contents().nodes.get(&key).cloned()
    }

    /// Changes one copy.
    pub fn damage(&self, place: Place, how: impl FnOnce(&mut [u8])) {
        let key = (place.device.index(), place.block.0);
        if let Some(bytes) = self.contents().nodes.get_mut(&key) {
            how(bytes);
        }
    }

    /// Puts bytes where a copy is or was.
    pub fn put(&self, place: Place, bytes: &[u8]) {
        let key = (place.device.index(), place.block.0);
        self.contents().nodes.insert(key, bytes.into());
    }
}

fn key(device: Slot, at: Bytes) -> (usize, u64) {
    (device.index(), at.whole_blocks().0)
}

impl<H: Hasher + Clone> Devices for Shelf<H> {
    fn read(&self, device: Slot, at: Bytes, into: &mut [u8]) -> Result<(), DeviceError> {
        let mut contents = self.contents();
        contents.reads += 1;
        if contents.failing.has(device) {
            return Err(DeviceError::Io);
        }
        match contents.nodes.get(&key(device, at)) {
            Some(bytes) if bytes.len() == into.len() => into.copy_from_slice(bytes),
            _ => into.fill(0),
        }
        Ok(())
    }

    fn write(&self, writes: &mut [Write<'_>]) {
        let mut contents = self.contents();
        for write in writes {
            write.outcome = if contents.failing.has(write.device) {
                Err(DeviceError::Io)
            } else {
                let key = key(write.device, write.at);
                contents.nodes.insert(key, write.from.into());
                Ok(())
            };
        }
    }

    fn flush(&self, _devices: Members) -> Members {
        Members::default()
    }
}

impl<H: Hasher + Clone> Events for Shelf<H> {
    fn repaired(&self, _tree: TreeId, _device: Slot, _at: Bytes) {
        self.contents().tally.repaired += 1;
    }

    fn unrepaired(&self, _tree: TreeId, _device: Slot, _at: Bytes, _why: DeviceError) {
        self.contents().tally.unrepaired += 1;
    }

    fn lost(&self, _what: &TreeError, _keys: Range) {
        self.contents().tally.lost += 1;
    }

    fn members(&self, _absent: Members, _present: Members, _copies: usize) {}
}

impl<H: Hasher + Clone> Host for Shelf<H> {
    type Devices = Self;
    type Hasher = H;
    type Events = Self;

    fn devices(&self) -> &Self {
        self
    }

    fn hasher(&self) -> &H {
        &self.hasher
    }

    fn events(&self) -> &Self {
        self
    }

    fn present(&self) -> Members {
        self.present
    }

    fn may_repair(&self) -> bool {
        self.may_repair
    }

    fn failed(&self, _device: Slot) {}
}

/// The space of a shelf: gives out places, and knows which nodes are in use.
pub struct Space<H = Scalar> {
    shelf: Shelf<H>,
    copies: usize,
    next: u64,
    /// First places of all nodes in use.
    pub live: BTreeSet<(usize, u64)>,
    /// Nodes written since this was last reset.
    pub written: usize,
    /// Nodes freed since this was last reset.
    pub freed: usize,
    /// How many more nodes there is space for.
    pub left: usize,
}

impl<H: Hasher + Clone> Space<H> {
    /// All of it free; each node gets so many copies.
    pub fn new(shelf: &Shelf<H>, copies: usize) -> Self {
        Space {
            shelf: shelf.clone(),
            copies,
            next: FIRST_BLOCK,
            live: BTreeSet::new(),
            written: 0,
            freed: 0,
            left: usize::MAX,
        }
    }

    /// The first place of a node, as `live` knows it.
    pub fn first(places: &Places) -> (usize, u64) {
        let place = places.iter().next().expect("at least one place");
        (place.device.index(), place.block.0)
    }
}

impl<H: Hasher + Clone> Sink for Space<H> {
    fn place(&mut self) -> Result<Places, TreeError> {
        self.left = self.left.checked_sub(1).ok_or(TreeError::NoSpace)?;
        let block = self.next;
        self.next += 16;
        let first = block as usize / 16;
        let places: Vec<Place> = (first..first + self.copies)
            .map(|i| Place {
                device: slot(i % 8),
                block: Blocks(block),
            })
            .collect();
        Ok(Places::new(&places).expect("places of different devices"))
    }

    fn write(&mut self, node: &embr_rt::Arc<Node>) -> Result<(), TreeError> {
        self.written += 1;
        for place in node.stamp().places.iter() {
            self.shelf.put(place, node.bytes());
        }
        assert!(self.live.insert(Self::first(&node.stamp().places)));
        Ok(())
    }

    fn free(&mut self, node: &Pointer) -> Result<(), TreeError> {
        self.freed += 1;
        assert!(
            self.live.remove(&Self::first(&node.places)),
            "a node that is not in use was freed"
        );
        for place in node.places.iter() {
            // Whoever still reads it notices.
            self.shelf.damage(place, |bytes| bytes.fill(0xdd));
        }
        Ok(())
    }
}

/// Changes in sorted maps.
#[derive(Clone, Default, Debug)]
pub struct Delta {
    /// Value or gone, by key.
    pub keys: BTreeMap<Key, Option<Vec<u8>>>,
    /// Ranges that are gone, neither overlapping nor touching, by their first keys.
    pub gone: BTreeMap<Key, Range>,
}

impl Changes for Delta {
    fn at_or_after(&self, from: Key) -> Option<(Key, Change<'_>)> {
        let (key, change) = self.keys.range(from..).next()?;
        let change = match change {
            Some(value) => Change::Set(value),
            None => Change::Gone,
        };
        Some((*key, change))
    }

    fn gone_at_or_after(&self, from: Key) -> Option<Range> {
        let before = self.gone.range(..from).next_back().map(|(_, range)| *range);
        before
            .filter(|range| range.last >= from)
            .or_else(|| self.gone.range(from..).next().map(|(_, range)| *range))
    }
}
