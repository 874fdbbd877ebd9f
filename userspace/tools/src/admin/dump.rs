// SPDX-License-Identifier: GPL-2.0

//! `embrfs-admin dump super`: structures as they lie on one device, damaged ones included.

use super::open;
use super::FAILED;
use super::TROUBLE;
use crate::describe;
use crate::failure::Failure;
use crate::output;
use crate::rings;
use crate::rings::Held;
use crate::rings::Slot;
use crate::say;
use embr_engine::env::Device;
use embr_engine::env::Environment;
use embr_engine::error::Error;
use embr_engine::format::layout;
use embr_engine::format::root::BadRoot;
use embr_engine::format::superblock::Superblock;
use embr_engine::units::Bytes;
use embrfs_host::FileDevice;
use embrfs_host::Host;
use serde_json::json;
use serde_json::Value;
use std::path::Path;

/// A superblock place and what is there.
struct Copy {
    number: usize,
    at: Bytes,
    found: Result<Superblock, Error>,
}

pub(super) fn run(
    path: &Path,
    copy: Option<usize>,
    roots: bool,
    as_json: bool,
    host: &Host,
) -> Result<u8, Failure> {
    let device = open(path)?;
    let mut copies = read(&device, host);
    if let Some(wanted) = copy {
        copies.retain(|c| c.number == wanted);
        if copies.is_empty() {
            let message = format!(
                "{}: there is no superblock copy {wanted} on a device of this size",
                path.display()
            );
            return Err(Failure::new(FAILED, "device", message));
        }
    }
    let newest = copies
        .iter()
        .filter_map(|c| c.found.as_ref().ok())
        .max_by_key(|s| s.sequence);
    let rings = newest
        .filter(|_| roots)
        .map(|superblock| rings::read(&device, superblock, host.hasher()));
    if as_json {
        output::document(&json!({
            "ok": newest.is_some(),
            "device": path.display().to_string(),
            "size": device.size().0,
            "copies": copies.iter().map(copy_json).collect::<Vec<_>>(),
            "superblock": newest.map(describe::superblock_json),
            "roots": rings.as_ref().map(|all| filled(all).map(root_json).collect::<Vec<_>>()),
        }));
    } else {
        say!(
            "device {}, {} bytes ({})",
            path.display(),
            device.size(),
            describe::size(device.size())
        );
        copies
            .iter()
            .for_each(|c| say!("copy {} at byte {}: {}", c.number, c.at, copy_text(c)));
        if let Some(superblock) = newest {
            show(superblock);
        }
        for (ring, slot, found) in rings.iter().flat_map(|all| filled(all)) {
            show_root(ring, slot, found);
        }
    }
    let sound = copies.iter().all(|c| c.found.is_ok());
    match newest {
        Some(_) => Ok(if sound { 0 } else { TROUBLE }),
        None => Ok(FAILED),
    }
}

/// The copies that there are: once one is sound, it says how far the volume reaches.
fn read(device: &FileDevice, host: &Host) -> Vec<Copy> {
    let mut buffer = vec![0u8; layout::SUPERBLOCK_SIZE];
    let mut copies: Vec<Copy> = Vec::new();
    for (number, at) in layout::superblocks(device.size()) {
        let found = match device.read(at, &mut buffer) {
            Ok(()) => Superblock::parse(host.hasher(), &buffer, number, at)
                .map_err(|why| Error::Superblock(at, why)),
            Err(why) => Err(Error::Read(at, why)),
        };
        copies.push(Copy { number, at, found });
    }
    let reach = copies
        .iter()
        .filter_map(|c| c.found.as_ref().ok()?.this_device())
        .map(|e| e.bytes())
        .next();
    if let Some(reach) = reach {
        copies.retain(|c| layout::areas(reach).any(|(number, _)| number == c.number));
    }
    copies
}

fn copy_text(copy: &Copy) -> String {
    match &copy.found {
        Ok(superblock) => format!("sound, sequence {}", superblock.sequence),
        Err(error) => error.to_string(),
    }
}

fn copy_json(copy: &Copy) -> Value {
    json!({
        "number": copy.number,
        "at": copy.at.0,
        "sound": copy.found.is_ok(),
        "sequence": copy.found.as_ref().ok().map(|s| s.sequence),
        "problem": copy.found.as_ref().err().map(Error::to_string),
    })
}

fn show(superblock: &Superblock) {
    let features = superblock.features;
    say!("volume         {}", superblock.volume);
    say!("label          {:?}", superblock.label);
    say!("this device    number {}", superblock.device);
    say!("sequence       {}", superblock.sequence);
    say!("created        {}", describe::time(superblock.created));
    say!("bundle         {}", superblock.geometry);
    say!(
        "block hash     BLAKE3, {} bits kept",
        describe::hash_bits(superblock.block_hash)
    );
    say!(
        "features       compatible {:#x}, read-only compatible {:#x}, incompatible {:#x}",
        features.compatible,
        features.read_only,
        features.incompatible
    );
    say!("next device    {}", superblock.next_device);
    for entry in superblock.members.iter() {
        say!(
            "device         slot {}, number {}, {}, {}, {} blocks ({}), class {}, failure domain {}, joined at generation {}",
            entry.slot.index(),
            entry.id,
            entry.uuid,
            describe::state(entry.state),
            entry.size,
            describe::size(entry.bytes()),
            entry.class,
            entry.failure_domain,
            entry.joined
        );
    }
    for epoch in superblock.epochs.iter() {
        say!(
            "epoch          {}: {}, after generation {}, slots present {}, absent {}",
            epoch.number,
            epoch.id,
            epoch.after,
            describe::members(epoch.present),
            describe::members(epoch.absent)
        );
    }
}

/// Slots that hold anything, with the numbers of ring and slot.
fn filled(rings: &[Vec<Slot>]) -> impl Iterator<Item = (usize, usize, &Slot)> {
    rings
        .iter()
        .enumerate()
        .flat_map(|(ring, slots)| {
            slots
                .iter()
                .enumerate()
                .map(move |(slot, found)| (ring, slot, found))
        })
        .filter(|(_, _, found)| !matches!(found.held, Held::Bad(BadRoot::Empty)))
}

fn problem(held: &Held) -> Option<String> {
    match held {
        Held::Root(_) => None,
        Held::Bad(why) => Some(why.to_string()),
        Held::Unreadable(why) => Some(why.to_string()),
    }
}

fn show_root(ring: usize, slot: usize, found: &Slot) {
    let text = match &found.held {
        Held::Root(root) => {
            format!(
                "generation {}, epoch {}, {}",
                root.generation,
                root.epoch,
                describe::time(root.written)
            )
        }
        bad => problem(bad).unwrap_or_default(),
    };
    say!(
        "root           ring {ring}, slot {slot}, byte {}: {text}",
        found.at
    );
}

fn root_json((ring, slot, found): (usize, usize, &Slot)) -> Value {
    let root = if let Held::Root(root) = &found.held {
        Some(root)
    } else {
        None
    };
    json!({
        "ring": ring,
        "slot": slot,
        "at": found.at.0,
        "generation": root.map(|r| r.generation.0),
        "epoch": root.map(|r| r.epoch.to_string()),
        "written": root.map(|r| describe::time_json(r.written)),
        "problem": problem(&found.held),
    })
}
