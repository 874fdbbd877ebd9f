// SPDX-License-Identifier: GPL-2.0

//! The rings of roots on one device. A root is written to the same slot of both rings, one after the other: of a commit
//! that was cut short, one slot may hold the new root and its twin the one before, but nothing is ever half a root.

use super::findings::Finding;
use super::findings::Mend;
use crate::rings;
use crate::rings::Held;
use crate::rings::Slot;
use embr_engine::env::Device;
use embr_engine::env::Hasher;
use embr_engine::format::root::BadRoot;
use embr_engine::format::superblock::Superblock;
use embr_engine::units::Generation;

/// What is wrong with the rings of one device.
pub(crate) fn check(
    device_index: usize,
    device: &impl Device,
    superblock: &Superblock,
    hasher: &impl Hasher,
) -> Vec<Finding> {
    let rings = rings::read(device, superblock, hasher);
    let mut findings = Vec::new();
    for (number, ring) in rings.iter().enumerate() {
        for (index, slot) in ring.iter().enumerate() {
            let twin = rings
                .iter()
                .enumerate()
                .find(|(n, _)| *n != number)
                .and_then(|(_, other)| other.get(index));
            if let Some((text, mend)) = judge(slot, twin) {
                findings.push(Finding {
                    device: Some(device_index),
                    text,
                    mend,
                    mended: false,
                    at: None,
                });
            }
        }
    }
    findings
}

fn judge(slot: &Slot, twin: Option<&Slot>) -> Option<(String, Mend)> {
    let twin_root = twin.and_then(|t| {
        if let Held::Root(root) = t.held {
            Some((t.at, root))
        } else {
            None
        }
    });
    let at = slot.at;
    match &slot.held {
        Held::Root(_) => None,
        // The very first root was complete before there was a superblock: it cannot have been cut short.
        Held::Bad(BadRoot::Empty) => twin_root
            .filter(|(_, root)| root.generation == Generation(1))
            .map(|(from, _)| {
                (
                    format!("the first root is missing at byte {at}"),
                    Mend::CopyRoot { from, to: at },
                )
            }),
        // What is behind a seal that holds was meant: by a later version, or by one with an error. Only who understands it
        // may write over it.
        Held::Bad(
            why @ (BadRoot::Version(_) | BadRoot::Foreign | BadRoot::Slot | BadRoot::Field),
        ) => Some((format!("root at byte {at}: {why}"), Mend::Forbidden)),
        Held::Bad(why @ (BadRoot::Magic | BadRoot::Seal)) => {
            let mend = twin_root.map_or(Mend::ClearRoot(at), |(from, _)| Mend::CopyRoot {
                from,
                to: at,
            });
            Some((format!("root at byte {at}: {why}"), mend))
        }
        Held::Unreadable(why) => Some((
            format!("root at byte {at}: {why}; the device is failing, replace it"),
            Mend::None,
        )),
    }
}
