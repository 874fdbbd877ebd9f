// SPDX-License-Identifier: GPL-2.0

//! How a promise of things that have several copies is divided among devices, so that whoever holds it finds a device for each
//! copy. Only the number per device is kept. Where copies must lie on different devices, n things with c copies find places if
//! and only if the numbers add up to n * c and none is above n; taking one from each of the c highest keeps it so. The division
//! always evens out what is left on the devices, which is also what fits most.

use crate::space::bits::SLOT;
use crate::space::device::Device;

/// How many copies there are, and whether each needs a device of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Copies {
    /// How many.
    pub count: u64,
    /// Whether each needs a device of its own.
    pub apart: bool,
}

impl Copies {
    /// How many copies of `things` one device may have.
    fn most(self, things: u64) -> u64 {
        match self.apart {
            true => things,
            false => things.saturating_mul(self.count),
        }
    }

    /// Whether these numbers on the devices are those of so many things.
    pub(super) fn holds(self, on_devices: impl Iterator<Item = u64>, things: u64) -> bool {
        let most = self.most(things);
        let mut numbers = on_devices;
        let sum = numbers.try_fold(0u64, |sum, n| (n <= most).then_some(sum)?.checked_add(n));
        sum == Some(self.all(things))
    }

    fn all(self, things: u64) -> u64 {
        things.saturating_mul(self.count)
    }
}

fn above(value: u64, level: u64, most: u64) -> u64 {
    value.saturating_sub(level).min(most)
}

/// Sets the share of each device, at most `most` and at most what `of` says of it, so that they add up to `all` and what remains
/// is as even as can be; says whether that is possible.
fn level(devices: &mut [Device], of: impl Fn(&Device) -> u64, most: u64, all: u64) -> bool {
    let sum = |devices: &[Device], level: u64| {
        devices
            .iter()
            .fold(0u64, |sum, d| sum.saturating_add(above(of(d), level, most)))
    };
    if sum(devices, 0) < all {
        return false;
    }
    // The highest level above which there is enough.
    let (mut low, mut high) = (0u64, devices.iter().map(&of).max().unwrap_or(0));
    while low < high {
        let middle = high.saturating_sub(high.saturating_sub(low) / 2);
        if sum(devices, middle) >= all {
            low = middle;
        } else {
            high = middle.saturating_sub(1);
        }
    }
    let mut surplus = sum(devices, low).saturating_sub(all);
    for device in devices.iter_mut() {
        let value = of(device);
        device.share = above(value, low, most);
        let higher = above(value, low.saturating_add(1), most);
        if surplus != 0 && higher < device.share {
            device.share = higher;
            surplus = surplus.saturating_sub(1);
        }
    }
    true
}

/// Nodes that are promised.
fn nodes_of(devices: &[Device], copies: Copies) -> u64 {
    let slots = devices.iter().fold(0u64, |n, d| n.saturating_add(d.slots));
    slots.checked_div(copies.count).unwrap_or(0)
}

/// Divides so many nodes anew; says whether there is room.
fn divide_nodes(devices: &mut [Device], copies: Copies, nodes: u64) -> bool {
    let (most, all) = (copies.most(nodes), copies.all(nodes));
    let possible = level(devices, Device::room_for_slots, most, all);
    for device in devices.iter_mut().filter(|_| possible) {
        device.slots = device.share;
    }
    possible
}

/// Promises room for so many nodes; says whether there is any.
pub(super) fn claim_nodes(devices: &mut [Device], copies: Copies, nodes: u64) -> bool {
    let all = nodes_of(devices, copies).saturating_add(nodes);
    divide_nodes(devices, copies, all)
}

/// Takes back a promise of so many nodes. What remains is divided anew: where it lay before, there is room.
pub(super) fn release_nodes(devices: &mut [Device], copies: Copies, nodes: u64) {
    let rest = nodes_of(devices, copies).saturating_sub(nodes);
    divide_nodes(devices, copies, rest);
}

/// How many nodes could be promised, but no more than `nodes`.
pub(super) fn claimable_nodes(devices: &[Device], copies: Copies, nodes: u64) -> u64 {
    let before = nodes_of(devices, copies);
    let fits = |n: u64| {
        let all = before.saturating_add(n);
        let found = devices.iter().fold(0u64, |sum, d| {
            sum.saturating_add(d.room_for_slots().min(copies.most(all)))
        });
        found >= copies.all(all)
    };
    let (mut low, mut high) = (0u64, nodes);
    while low < high {
        let middle = high.saturating_sub(high.saturating_sub(low) / 2);
        if fits(middle) {
            low = middle;
        } else {
            high = middle.saturating_sub(1);
        }
    }
    low
}

/// Divides so many blocks of data anew; says whether there is room.
fn divide_blocks(devices: &mut [Device], copies: Copies, blocks: u64) -> bool {
    let (most, all) = (copies.most(blocks), copies.all(blocks));
    let possible = level(devices, Device::room_for_data, most, all);
    for device in devices.iter_mut().filter(|_| possible) {
        device.promised = device.share;
    }
    possible
}

/// Promises so many blocks of data beside those of `before`; says whether there is room.
pub(super) fn claim_blocks(
    devices: &mut [Device],
    copies: Copies,
    before: u64,
    blocks: u64,
) -> bool {
    divide_blocks(devices, copies, before.saturating_add(blocks))
}

/// Takes back a promise of so many blocks of data out of `before`.
pub(super) fn release_blocks(devices: &mut [Device], copies: Copies, before: u64, blocks: u64) {
    divide_blocks(devices, copies, before.saturating_sub(blocks));
}

/// Sets the share of each device in so many nodes and blocks of data, as they are divided where nothing is used.
pub(super) fn share_in_all(
    devices: &mut [Device],
    (nodes, node_count): (Copies, u64),
    (data, blocks): (Copies, u64),
) {
    let both = |of: fn(Copies, u64) -> u64| {
        let slots = of(nodes, node_count).saturating_mul(SLOT);
        slots.saturating_add(of(data, blocks))
    };
    let managed = |d: &Device| if d.present { d.managed } else { 0 };
    if !level(devices, managed, both(Copies::most), both(Copies::all)) {
        devices.iter_mut().for_each(|d| d.share = d.managed);
    }
}

/// Divides so many nodes and blocks of data from the beginning; says whether there is room. If not, all is as before.
pub(super) fn divide_all(
    devices: &mut [Device],
    (nodes, node_count): (Copies, u64),
    (data, blocks): (Copies, u64),
) -> bool {
    for device in devices.iter_mut() {
        device.before = (device.slots, device.promised);
        (device.slots, device.promised) = (0, 0);
    }
    let done = divide_nodes(devices, nodes, node_count) && divide_blocks(devices, data, blocks);
    for device in devices.iter_mut().filter(|_| !done) {
        (device.slots, device.promised) = device.before;
    }
    done
}
