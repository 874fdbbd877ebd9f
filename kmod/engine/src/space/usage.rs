// SPDX-License-Identifier: GPL-2.0

//! How much there is room for, in blocks as files have them: what stripes will hold that are as wide as devices have room for, once what
//! nobody needs has come back, without what is kept for nodes and for moving.

use super::device::Device;
use super::share;
use super::Space;
use super::State;
use super::Usage;
use super::SLOT;
use crate::format::geometry::Geometry;
use crate::format::stripe::Totals;
use crate::units::Blocks;

/// One part in so many of what is free goes to the metadata of what is written.
const METADATA_IN: u64 = 64;
/// Nodes that transactions were granted come back, but for one in so many of those that take no other's place: by these the trees
/// will have grown.
const GROWTH_IN: u64 = 4;

/// A part of a whole. (The kernel has no 128-bit division.)
#[derive(Clone, Copy)]
struct Part(u64);

impl Part {
    const BITS: u32 = 20;

    /// Such a part of `whole`, or all of it.
    fn new(part: u64, whole: u64) -> Self {
        let scaled = part.min(whole).saturating_mul(1 << Self::BITS);
        Part(scaled.checked_div(whole).unwrap_or(0))
    }

    fn of(self, blocks: u64) -> u64 {
        blocks.saturating_mul(self.0) >> Self::BITS
    }
}

/// What so many blocks of devices hold in full stripes.
fn in_stripes(blocks: u64, geometry: Geometry) -> u64 {
    let payload = blocks.saturating_mul(geometry.data().into());
    let whole = payload.checked_div(geometry.width().into());
    whole.unwrap_or(blocks)
}

impl State {
    /// What so many nodes cost in blocks of data.
    fn in_data(&self, nodes: u64, geometry: Geometry) -> u64 {
        let blocks = nodes
            .saturating_mul(self.claims.nodes.count)
            .saturating_mul(SLOT);
        in_stripes(blocks, geometry)
    }

    /// What data are written as, as well as can be on the devices that are here.
    fn geometry(&self, wanted: Geometry) -> Option<Geometry> {
        // Copies are at most five.
        let parity = self.claims.data.count.saturating_sub(1) as u8;
        let data = match parity {
            0 => 1,
            _ => wanted.data(),
        };
        let wanted = Geometry::new(data, parity).ok()?;
        Some(self.possible(wanted))
    }

    /// What stripes of this shape can be on the devices that are here: with fewer of them narrower, and as much parity.
    fn possible(&self, wanted: Geometry) -> Geometry {
        let present = self.devices.iter().filter(|d| d.present).count();
        let room = u8::try_from(present).unwrap_or(u8::MAX);
        let data = room.saturating_sub(wanted.parity()).min(wanted.data());
        Geometry::new(data.max(1), wanted.parity()).unwrap_or(wanted)
    }

    /// What is there in all, without what is kept for nodes and for cleaning.
    fn total(&mut self, geometry: Geometry) -> u64 {
        let State {
            devices, claims, ..
        } = self;
        let (_, cleaning) = claims.cleaning;
        let nodes = (claims.nodes, claims.reserve.full);
        share::share_in_all(devices, nodes, (claims.data, cleaning));
        let present = devices.iter().filter(|d| d.present);
        let devices = present.map(|d| Blocks(d.managed.saturating_sub(d.share)));
        geometry.capacity(devices).0
    }

    /// What there is room for, if what lives in stripes could be written anew and nothing is promised beyond what is.
    fn left(&mut self, geometry: Geometry, stripes: Totals) -> u64 {
        let State {
            devices,
            claims,
            pending,
            ..
        } = self;
        let granted = claims.active.saturating_add(claims.frozen);
        let nodes = (claims.kept.saturating_add(granted)).saturating_add(claims.promised);
        let (_, replacing) = claims.changed;
        let growth = claims.active.saturating_sub(replacing) / GROWTH_IN;
        let granted = Part::new(granted.saturating_sub(growth), nodes);
        // What is nobody's, and what will be soon.
        for device in devices.iter_mut() {
            let granted = granted.of(device.slots).saturating_mul(SLOT);
            device.share = device.unclaimed().saturating_add(granted);
        }
        for extent in pending.iter().map(|p| p.extent) {
            if let Some(device) = devices.iter_mut().find(|d| d.slot == extent.device) {
                device.share = device.share.saturating_add(extent.blocks.0);
            }
        }
        // How much of what is used of each device is in stripes is not known.
        let used = devices.iter().map(Device::used);
        let striped = Part::new(stripes.taken.0, used.fold(0, u64::saturating_add));
        let present = || devices.iter().filter(|d| d.present);
        let free = geometry.capacity(present().map(|d| Blocks(d.share))).0;
        let anew = |d: &Device| Blocks(d.share.saturating_add(striped.of(d.used())));
        let anew = geometry.capacity(present().map(anew)).0;
        free.max(anew.saturating_sub(stripes.live.0))
    }

    fn usage(&mut self, wanted: Geometry, stripes: Totals) -> Option<Usage> {
        let geometry = self.geometry(wanted)?;
        let total = self.total(geometry);
        let left = self.left(geometry, stripes);
        let claims = &self.claims;
        let (kept, cleaning) = claims.cleaning;
        // What is to be kept for cleaning is kept as copies.
        let copies = (cleaning.saturating_sub(kept)).saturating_mul(claims.data.count);
        let nodes = claims.reserve.full.saturating_sub(claims.kept);
        let missing = self.in_data(nodes, geometry);
        let missing = missing.saturating_add(in_stripes(copies, geometry));
        let net = |blocks: u64| blocks.saturating_sub(blocks / METADATA_IN);
        let available = net(left.saturating_sub(missing));
        let promised = claims.blocks.saturating_sub(kept);
        let free = available.saturating_add(promised);
        Some(Usage {
            // What is kept may lie where it costs less.
            total: Blocks(net(total).max(free)),
            free: Blocks(free),
            available: Blocks(available),
        })
    }
}

impl Space {
    /// What stripes of this shape can be on the devices that are here: with fewer of them narrower, and as much parity.
    pub(crate) fn possible(&self, wanted: Geometry) -> Geometry {
        self.state.lock().possible(wanted)
    }

    /// How much room there is for data on a volume with such stripes. What these are, in all, take and need not is room, too.
    pub fn usage(&self, wanted: Geometry, stripes: Totals) -> Usage {
        // Of what is free nothing is known, then.
        let stripes = match self.is_charted {
            true => stripes,
            false => Totals::default(),
        };
        let usage = self.state.lock().usage(wanted, stripes);
        usage.unwrap_or_default()
    }
}
