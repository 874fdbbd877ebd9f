// SPDX-License-Identifier: GPL-2.0

//! Damage that no checksum shows: nodes and roots are changed where they lie, and everything above them is sealed again.

use embr_engine::env::WritableDevice;
use embr_engine::format::layout;
use embr_engine::format::member::Slot;
use embr_engine::format::node;
use embr_engine::format::node::Node;
use embr_engine::format::pointer::Pointer;
use embr_engine::format::pointer::HASH_SIZE;
use embr_engine::format::pointer::POINTER_SIZE;
use embr_engine::format::root::Root;
use embr_engine::hash::Scalar;
use embr_engine::tree::Base;
use embr_engine::tree::Key;
use embr_engine::tree::Range;
use embr_engine::units::Level;
use embr_engine::units::TreeId;
use embr_engine::units::Uuid;
use embr_engine::volume::probe;

/// Where a node is in its volume.
#[derive(Clone, Copy, Debug)]
pub struct Spot {
    /// Its tree.
    pub tree: TreeId,
    /// Its level.
    pub level: Level,
    /// Its keys, before it is changed.
    pub range: Range,
}

/// Bytes of a key in a node.
const KEY: usize = 24;
/// Where a pointer keeps its hash.
const HASH_AT: usize = 8;

struct Forger<'f, D> {
    devices: &'f [(Slot, D)],
    volume: Uuid,
    edit: &'f mut dyn FnMut(Spot, &mut Vec<u8>),
}

impl<D: WritableDevice> Forger<'_, D> {
    fn device(&self, slot: Slot) -> Option<&D> {
        let found = self.devices.iter().find(|(s, _)| *s == slot);
        found.map(|(_, device)| device)
    }

    fn read(&self, pointer: &Pointer) -> Result<Node, String> {
        for place in pointer.places.iter() {
            let (Some(device), Some(at)) = (self.device(place.device), place.block.bytes()) else {
                continue;
            };
            let mut bytes = embr_rt::Vec::zeroed(node::NODE_SIZE).map_err(|_| "no memory")?;
            if device.read(at, &mut bytes).is_err() {
                continue;
            }
            match Node::parse(&Scalar, bytes, self.volume) {
                Ok(node) if node.is_at(pointer) => return Ok(node),
                _ => {}
            }
        }
        Err(format!("no sound copy of {pointer:?}"))
    }

    /// Changes what is below, then the node itself. Returns what its parent has to say of it.
    fn node(&mut self, pointer: &Pointer) -> Result<[u8; HASH_SIZE], String> {
        let node = self.read(pointer)?;
        let mut bytes = node.bytes().to_vec();
        let pointers = node::HEADER_SIZE + KEY * node.count();
        for n in 0..node.count() {
            let Some(child) = node.child(n) else { break };
            let hash = self.node(&child.pointer)?;
            let at = pointers + POINTER_SIZE * n + HASH_AT;
            bytes[at..at + HASH_SIZE].copy_from_slice(&hash);
        }
        let spot = Spot {
            tree: node.stamp().tree,
            level: node.level(),
            range: node.range(),
        };
        (self.edit)(spot, &mut bytes);
        bytes.resize(node::NODE_SIZE, 0);
        node::apply_seal(&Scalar, &mut bytes);
        for place in pointer.places.iter() {
            if let (Some(device), Some(at)) = (self.device(place.device), place.block.bytes()) {
                device
                    .write(at, &bytes)
                    .map_err(|why| format!("{place:?}: {why}"))?;
            }
        }
        let mut hash = [0; HASH_SIZE];
        hash.copy_from_slice(&bytes[16..16 + HASH_SIZE]);
        Ok(hash)
    }
}

/// Changes nodes, those below before those above, and then the newest root of each device; all that is changed is sealed again.
pub fn forge<D: WritableDevice>(
    devices: &[(Slot, D)],
    edit: &mut dyn FnMut(Spot, &mut Vec<u8>),
    root: &mut dyn FnMut(Slot, &mut Root, &mut Vec<Base>),
) -> Result<(), String> {
    let mut members = Vec::new();
    for (slot, device) in devices {
        let member = probe(device, &Scalar).map_err(|why| format!("{slot:?}: {why}"))?;
        members.push((*slot, device, member));
    }
    let newest = members.iter().map(|m| m.2.root.generation).max();
    let mut tops: Option<Vec<Base>> = None;
    for (slot, device, member) in &members {
        let mut newest_root = member.root;
        if Some(newest_root.generation) != newest {
            continue;
        }
        let ring_slot = layout::ring_slot(newest_root.generation);
        let mut bytes = vec![0; layout::ROOT_SIZE];
        let places: Vec<_> = layout::rings(device.size())
            .filter_map(|ring| layout::slot_at(ring, ring_slot))
            .collect();
        for at in &places {
            device
                .read(*at, &mut bytes)
                .map_err(|why| why.to_string())?;
            let volume = member.superblock.volume;
            let id = member.superblock.device;
            if Root::parse(&Scalar, &bytes, *at, ring_slot, volume, id).is_ok() {
                break;
            }
        }
        let mut bases = match &tops {
            Some(tops) => tops.clone(),
            None => {
                let mut bases: Vec<Base> = Root::trees(&bytes).collect();
                let mut forger = Forger {
                    devices,
                    volume: member.superblock.volume,
                    edit,
                };
                for top in bases.iter_mut().filter_map(|b| b.top.as_mut()) {
                    top.pointer.hash = forger.node(&top.pointer)?;
                }
                tops.insert(bases).clone()
            }
        };
        root(*slot, &mut newest_root, &mut bases);
        for at in places {
            newest_root.encode(&bases, &Scalar, at, &mut bytes);
            device.write(at, &bytes).map_err(|why| why.to_string())?;
        }
    }
    Ok(())
}

/// Changes the entries of a leaf, within the bytes of the node.
pub fn entries(bytes: &mut Vec<u8>, volume: Uuid, edit: impl FnOnce(&mut Vec<(Key, Vec<u8>)>)) {
    let done = try_entries(bytes, volume, edit);
    done.expect("a sound node, and a leaf that can be");
}

/// The same; changes nothing where it is no sound node, or no leaf can hold what comes of it.
pub fn try_entries(
    bytes: &mut Vec<u8>,
    volume: Uuid,
    edit: impl FnOnce(&mut Vec<(Key, Vec<u8>)>),
) -> Option<()> {
    let mut copy = embr_rt::Vec::try_from_slice(bytes).ok()?;
    node::apply_seal(&Scalar, &mut copy);
    let node = Node::parse(&Scalar, copy, volume).ok()?;
    let mut list: Vec<(Key, Vec<u8>)> = (0..node.count())
        .filter_map(|n| node.entry(n))
        .map(|(key, value)| (key, value.to_vec()))
        .collect();
    edit(&mut list);
    let all = list.iter().map(|(key, value)| (*key, &value[..]));
    let leaf = Node::leaf(&Scalar, bytes.len(), node.stamp(), all).ok()?;
    *bytes = leaf.bytes().to_vec();
    Some(())
}
