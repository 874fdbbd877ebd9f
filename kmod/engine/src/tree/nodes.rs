// SPDX-License-Identifier: GPL-2.0

//! Reading nodes: through the cache, from whichever copy is sound, and over the copies that are not.
//!
//! A node leaves here only if it is the very one that its parent names, at the place in the tree where the parent has it.
//! Overwriting a bad copy is the one case in which a node's place is written twice, with the bytes that were there.

use crate::env::DeviceError;
use crate::env::Devices;
use crate::env::Hasher;
use crate::env::Write;
use crate::format::layout;
use crate::format::member;
use crate::format::member::Members;
use crate::format::member::Slot;
use crate::format::node::BadNode;
use crate::format::node::Child;
use crate::format::node::Node;
use crate::format::pointer::Place;
use crate::format::pointer::Pointer;
use crate::tree::cache::Cache;
use crate::tree::error::Spot;
use crate::tree::error::TreeError;
use crate::tree::Range;
use crate::units::Bytes;
use crate::units::Level;
use crate::units::TreeId;
use crate::units::Uuid;
use embr_rt::Arc;
use embr_rt::NoMem;
use embr_rt::Vec;

/// What the volume wants to know of its nodes.
pub trait Events {
    /// A bad copy was overwritten with a good one.
    fn repaired(&self, tree: TreeId, device: Slot, at: Bytes);
    /// A bad copy could not be overwritten; it is still bad.
    fn unrepaired(&self, tree: TreeId, device: Slot, at: Bytes, why: DeviceError);
    /// No copy of a node is sound.
    fn lost(&self, what: &TreeError, keys: Range);
    /// From now on these members are absent and those present, and data have so many copies.
    fn members(&self, absent: Members, present: Members, copies: usize);
}

/// What reading nodes needs of the volume. Asked whenever a node is read from a device, so the answers may change.
pub trait Host {
    /// The devices.
    type Devices: Devices;
    /// How to hash.
    type Hasher: Hasher;
    /// Who hears of damage.
    type Events: Events;
    /// The devices.
    fn devices(&self) -> &Self::Devices;
    /// How to hash.
    fn hasher(&self) -> &Self::Hasher;
    /// Who hears of damage.
    fn events(&self) -> &Self::Events;
    /// The members that are here and up to date: read first, and alone repaired.
    fn present(&self) -> Members;
    /// Whether bad copies may be overwritten: not on a read-only mount.
    fn may_repair(&self) -> bool;
    /// This device did not take what was to repair a copy on it.
    fn failed(&self, device: Slot);
}

/// What a parent knows of a node before it is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Expect {
    /// The tree.
    pub tree: TreeId,
    /// The level.
    pub level: Level,
    /// The node's first key and the highest that it may hold; of a root, every key.
    pub range: Range,
    /// Whether it is a root, whose first key nobody knows.
    pub root: bool,
}

impl Expect {
    /// A root of this level.
    pub fn root(tree: TreeId, level: Level) -> Self {
        Expect {
            tree,
            level,
            range: Range::ALL,
            root: true,
        }
    }

    /// A child of this node.
    pub fn child(parent: &Node, child: &Child) -> Self {
        Expect {
            tree: parent.stamp().tree,
            // A leaf has no children.
            level: parent.level().below().unwrap_or_default(),
            range: child.range,
            root: false,
        }
    }

    fn is_met(&self, node: &Node) -> bool {
        let range = node.range();
        node.stamp().tree == self.tree
            && node.level() == self.level
            && range.last <= self.range.last
            && (self.root || range.first == self.range.first)
    }
}

/// Why one copy does not serve.
#[derive(Clone, Copy)]
enum Failure {
    NoMemory,
    Device(DeviceError),
    Bad(BadNode),
}

/// A copy that does not serve.
#[derive(Clone, Copy)]
struct Victim {
    place: Place,
    why: Failure,
}

/// The nodes of a volume.
pub struct Nodes<H> {
    host: H,
    volume: Uuid,
    size: usize,
    /// How far each device reaches; zero where there is none.
    reach: Vec<Bytes>,
    cache: Cache,
}

impl<H: Host> Nodes<H> {
    /// The nodes of `size` bytes of this volume on these members, with a cache of so many bytes.
    #[inline(never)]
    pub fn new<'a>(
        host: H,
        volume: Uuid,
        size: usize,
        members: impl IntoIterator<Item = &'a member::Entry>,
        cache: Bytes,
    ) -> Result<Self, NoMem> {
        let mut reach = Vec::try_from_elem(Bytes(0), member::SLOTS)?;
        for entry in members {
            if let Some(end) = reach.get_mut(entry.slot.index()) {
                *end = entry.bytes();
            }
        }
        Ok(Nodes {
            host,
            volume,
            size,
            reach,
            cache: Cache::new(cache, size)?,
        })
    }

    /// The host.
    pub fn host(&self) -> &H {
        &self.host
    }

    /// Bytes of a node.
    pub fn size(&self) -> usize {
        self.size
    }

    /// The volume that they belong to.
    pub fn volume(&self) -> Uuid {
        self.volume
    }

    /// The cache.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// The node, which is likely to be asked for again.
    pub fn get(&self, pointer: &Pointer, expect: &Expect) -> Result<Arc<Node>, TreeError> {
        if let Some(node) = self.cache.get(pointer) {
            return self.checked(node, pointer, expect);
        }
        let node = self.load(pointer, expect, false, &mut |_| {})?;
        self.cache.keep(&node);
        Ok(node)
    }

    /// The node, which is not likely to be asked for again: it pushes no other out of the cache.
    pub fn get_once(&self, pointer: &Pointer, expect: &Expect) -> Result<Arc<Node>, TreeError> {
        match self.cache.get(pointer) {
            Some(node) => self.checked(node, pointer, expect),
            None => self.load(pointer, expect, false, &mut |_| {}),
        }
    }

    /// Reads every copy on a member that is present, past the cache, and repairs the bad ones.
    pub fn scrub(&self, pointer: &Pointer, expect: &Expect) -> Result<Arc<Node>, TreeError> {
        self.load(pointer, expect, true, &mut |_| {})
    }

    /// The same, and `tell` hears of each bad copy where another one is sound.
    pub fn scrub_telling(
        &self,
        pointer: &Pointer,
        expect: &Expect,
        tell: &mut dyn FnMut(TreeError),
    ) -> Result<Arc<Node>, TreeError> {
        self.load(pointer, expect, true, tell)
    }

    /// Whether the volume has a member in this slot, here or not.
    pub fn has_member(&self, slot: Slot) -> bool {
        self.reach.get(slot.index()).is_some_and(|end| end.0 != 0)
    }

    /// Whether this copy of a node is as the node is, byte by byte; if not, it is written over. Says whether it was.
    #[inline(never)]
    pub(crate) fn make_alike(&self, node: &Node, place: Place) -> Result<bool, DeviceError> {
        let at = self.at(place).ok_or(DeviceError::Io)?;
        let mut bytes = Vec::zeroed(self.size).map_err(|_| DeviceError::NoMemory)?;
        let devices = self.host.devices();
        match devices.read(place.device, at, &mut bytes) {
            Ok(()) if bytes.as_slice() == node.bytes() => return Ok(false),
            Err(DeviceError::NoMemory) => return Err(DeviceError::NoMemory),
            _ => {}
        }
        let mut write = [Write::new(place.device, at, node.bytes())];
        devices.write(&mut write);
        let [Write { outcome, .. }] = write;
        outcome.map(|()| true)
    }

    #[inline(never)]
    fn checked(
        &self,
        node: Arc<Node>,
        pointer: &Pointer,
        expect: &Expect,
    ) -> Result<Arc<Node>, TreeError> {
        if expect.is_met(&node) {
            return Ok(node);
        }
        let error = match pointer.places.iter().next() {
            Some(place) => self.error(expect, place, Failure::Bad(BadNode::Misplaced)),
            None => TreeError::NoMemory,
        };
        Err(error)
    }

    fn error(&self, expect: &Expect, place: Place, why: Failure) -> TreeError {
        let spot = Spot {
            tree: expect.tree,
            level: expect.level,
            device: place.device,
            at: place.block.bytes().unwrap_or_default(),
        };
        match why {
            Failure::NoMemory => TreeError::NoMemory,
            Failure::Device(why) => TreeError::Io(spot, why),
            Failure::Bad(why) => TreeError::Corrupt(spot, why),
        }
    }

    /// Where a node begins, if one can lie there.
    fn at(&self, place: Place) -> Option<Bytes> {
        let at = place.block.bytes()?;
        let end = at.plus(Bytes(self.size as u64))?;
        let reach = *self.reach.get(place.device.index())?;
        let in_area = |(_, area): (usize, Bytes)| {
            at < area.plus(layout::AREA_SIZE).unwrap_or(area) && area < end
        };
        (end <= reach && !layout::areas(reach).any(in_area)).then_some(at)
    }

    #[inline(never)]
    fn read(&self, pointer: &Pointer, place: Place) -> Result<Node, Failure> {
        let at = self.at(place).ok_or(Failure::Bad(BadNode::Place))?;
        let mut bytes = Vec::zeroed(self.size).map_err(|_| Failure::NoMemory)?;
        let devices = self.host.devices();
        devices
            .read(place.device, at, &mut bytes)
            .map_err(|why| match why {
                DeviceError::NoMemory => Failure::NoMemory,
                why => Failure::Device(why),
            })?;
        match Node::parse(self.host.hasher(), bytes, self.volume) {
            Ok(node) if node.is_at(pointer) => Ok(node),
            Ok(_) => Err(Failure::Bad(BadNode::Other)),
            Err(BadNode::NoMemory) => Err(Failure::NoMemory),
            Err(why) => Err(Failure::Bad(why)),
        }
    }

    fn load(
        &self,
        pointer: &Pointer,
        expect: &Expect,
        all: bool,
        tell: &mut dyn FnMut(TreeError),
    ) -> Result<Arc<Node>, TreeError> {
        let present = self.host.present();
        let here = pointer.places.iter().filter(|p| present.has(p.device));
        let away = pointer.places.iter().filter(|p| !present.has(p.device));
        let mut bad: Vec<Victim> = Vec::new();
        let mut good: Option<Arc<Node>> = None;
        for place in here.chain(away) {
            if good.is_some() && (!all || !present.has(place.device)) {
                break;
            }
            match self.read(pointer, place) {
                Ok(_) if good.is_some() => {}
                Ok(node) => good = Some(Arc::try_new(node)?),
                Err(why) => bad.push(Victim { place, why })?,
            }
        }
        let Some(node) = good else {
            let lost = self.loss(expect, &bad);
            if lost != TreeError::NoMemory {
                self.host.events().lost(&lost, expect.range);
            }
            return Err(lost);
        };
        // All copies that are the one named are alike, so there is no better one.
        let node = self.checked(node, pointer, expect)?;
        for victim in bad.iter() {
            tell(self.error(expect, victim.place, victim.why));
        }
        if self.host.may_repair() {
            for victim in bad.iter() {
                self.repair(&node, victim, present);
            }
        }
        Ok(node)
    }

    /// What to say when no copy serves. Lack of memory goes first: with more of it, a copy may.
    #[inline(never)]
    fn loss(&self, expect: &Expect, bad: &[Victim]) -> TreeError {
        let short = |v: &&Victim| matches!(v.why, Failure::NoMemory);
        let mut all = bad.iter();
        match all.clone().find(short).or_else(|| all.next()) {
            Some(victim) => self.error(expect, victim.place, victim.why),
            None => TreeError::NoMemory,
        }
    }

    #[inline(never)]
    fn repair(&self, node: &Node, victim: &Victim, present: Members) {
        let device = victim.place.device;
        let damaged = match victim.why {
            Failure::NoMemory | Failure::Bad(BadNode::Place) => false,
            Failure::Device(why) => why == DeviceError::Io,
            Failure::Bad(_) => true,
        };
        let Some(at) = self.at(victim.place) else {
            return;
        };
        if !damaged || !present.has(device) {
            return;
        }
        let mut write = [Write::new(device, at, node.bytes())];
        self.host.devices().write(&mut write);
        let tree = node.stamp().tree;
        let [Write { outcome, .. }] = write;
        match outcome {
            Ok(()) => self.host.events().repaired(tree, device, at),
            Err(why) => {
                self.host.events().unrepaired(tree, device, at, why);
                if why != DeviceError::NoMemory {
                    self.host.failed(device);
                }
            }
        }
    }
}
