// SPDX-License-Identifier: GPL-2.0

//! Whether all copies of the newest root say the same. Copies that are no roots at all are for those to find who read one device.

use super::Check;
use super::Ended;
use super::Finding;
use super::Observer;
use crate::env::DeviceError;
use crate::env::Devices as _;
use crate::format::layout;
use crate::format::root::Root;
use crate::volume::mounted::Machine;
use embr_rt::Vec;

impl<M: Machine, O: Observer> Check<'_, M, O> {
    pub(super) fn roots(&mut self) -> Result<(), Ended> {
        let mounted = self.mounted;
        let generation = mounted.generation();
        let slot = layout::ring_slot(generation);
        let mut bytes = Vec::zeroed(layout::ROOT_SIZE)?;
        for part in mounted.parts() {
            for ring in layout::rings(part.size) {
                let Some(at) = layout::slot_at(ring, slot) else {
                    continue;
                };
                match mounted.devices().read(part.slot, at, &mut bytes) {
                    Ok(()) => {}
                    Err(DeviceError::NoMemory) => return Err(Ended::NoMemory),
                    Err(_) => continue,
                }
                let hasher = mounted.hasher();
                let root = Root::parse(hasher, &bytes, at, slot, mounted.volume(), part.id);
                let is_newest =
                    |r: &Root| r.epoch == mounted.epoch().id && r.generation == generation;
                if !root.is_ok_and(|r| is_newest(&r)) {
                    continue;
                }
                let known = || mounted.bases().filter(|b| b.top.is_some());
                let same = Root::trees(&bytes).all(|b| known().any(|k| k == b))
                    && Root::trees(&bytes).count() == known().count();
                if !same {
                    self.found(Finding::Root(part.slot, at));
                }
            }
        }
        for base in mounted.bases() {
            if let Some(top) = base.top {
                let newest = top.pointer.generation;
                if newest > generation {
                    self.found(Finding::Newer(base.tree, newest));
                }
            }
        }
        Ok(())
    }
}
