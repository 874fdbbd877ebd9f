// SPDX-License-Identifier: GPL-2.0

//! Every slot of a device's rings of roots, as it is: the engine only wants the newest.

use embr_engine::env::Device;
use embr_engine::env::DeviceError;
use embr_engine::env::Hasher;
use embr_engine::format::layout;
use embr_engine::format::root::BadRoot;
use embr_engine::format::root::Root;
use embr_engine::format::superblock::Superblock;
use embr_engine::units::Bytes;

/// What a slot holds.
pub enum Held {
    /// A root.
    Root(Root),
    /// No root.
    Bad(BadRoot),
    /// It cannot be read.
    Unreadable(DeviceError),
}

/// A slot of one ring.
pub struct Slot {
    /// Its place.
    pub at: Bytes,
    /// What it holds.
    pub held: Held,
}

/// Every slot of every ring of a device, ring by ring.
pub fn read(device: &impl Device, superblock: &Superblock, hasher: &impl Hasher) -> Vec<Vec<Slot>> {
    layout::rings(device.size())
        .map(|ring| {
            let slots = (0..layout::RING_SLOTS)
                .filter_map(|slot| Some((slot, layout::slot_at(ring, slot)?)));
            slots
                .map(|(slot, at)| Slot {
                    at,
                    held: read_slot(device, superblock, hasher, slot, at),
                })
                .collect()
        })
        .collect()
}

fn read_slot(
    device: &impl Device,
    superblock: &Superblock,
    hasher: &impl Hasher,
    slot: u32,
    at: Bytes,
) -> Held {
    let mut bytes = [0u8; layout::ROOT_SIZE];
    match device.read(at, &mut bytes) {
        Ok(()) => match Root::parse(
            hasher,
            &bytes,
            at,
            slot,
            superblock.volume,
            superblock.device,
        ) {
            Ok(root) => Held::Root(root),
            Err(why) => Held::Bad(why),
        },
        Err(why) => Held::Unreadable(why),
    }
}
