// SPDX-License-Identifier: GPL-2.0

//! What a mounted volume stands on in a process: its devices by their slots, the process's environment, and a callback that hears
//! of damage. Over devices that were opened for reading there is no way to write.

use crate::device::FileDevice;
use crate::device::WritableFileDevice;
use crate::environment::Host;
use embr_engine::env::Device;
use embr_engine::env::DeviceError;
use embr_engine::env::Devices;
use embr_engine::env::WritableDevice;
use embr_engine::env::Write;
use embr_engine::format::member::Members;
use embr_engine::format::member::Slot;
use embr_engine::tree::nodes;
use embr_engine::tree::Range;
use embr_engine::tree::TreeError;
use embr_engine::units::Bytes;
use embr_engine::units::TreeId;
use embr_engine::volume::assemble::Standing;
use embr_engine::volume::Machine;
use embr_engine::volume::Member;
use embr_engine::volume::Volume;
use std::thread;

/// The devices of a volume, each in its slot.
#[derive(Debug)]
pub struct Slots<'a, D>(Vec<Option<&'a D>>);

impl<'a, D> Slots<'a, D> {
    /// These devices in these slots.
    pub fn new(devices: impl IntoIterator<Item = (Slot, &'a D)>) -> Self {
        let mut slots = Vec::new();
        for (slot, device) in devices {
            let needed = slot.index().saturating_add(1);
            if slots.len() < needed {
                slots.resize(needed, None);
            }
            if let Some(place) = slots.get_mut(slot.index()) {
                *place = Some(device);
            }
        }
        Slots(slots)
    }

    /// The devices of an assembled volume that are current, given those that it was assembled from in the same order.
    pub fn of_volume(volume: &Volume, devices: &'a [D]) -> Self {
        Self::new(volume.seats().iter().filter_map(|seat| {
            let Standing::Current(index) = seat.standing else {
                return None;
            };
            devices.get(index).map(|device| (seat.entry.slot, device))
        }))
    }

    /// The device in this slot.
    pub fn get(&self, slot: Slot) -> Option<&'a D> {
        self.0.get(slot.index()).copied().flatten()
    }

    fn iter(&self) -> impl Iterator<Item = (Slot, &'a D)> + '_ {
        let numbered = self.0.iter().enumerate();
        numbered.filter_map(|(index, device)| Some((Slot::new(index)?, (*device)?)))
    }
}

impl<D: Device> Slots<'_, D> {
    fn read_from(&self, slot: Slot, at: Bytes, into: &mut [u8]) -> Result<(), DeviceError> {
        self.get(slot).ok_or(DeviceError::Io)?.read(at, into)
    }
}

impl Devices for Slots<'_, FileDevice> {
    fn read(&self, device: Slot, at: Bytes, into: &mut [u8]) -> Result<(), DeviceError> {
        self.read_from(device, at, into)
    }

    /// Each fails: these devices are for reading.
    fn write(&self, writes: &mut [Write<'_>]) {
        for write in writes {
            write.outcome = Err(DeviceError::Io);
        }
    }

    /// Each fails: nobody can tell what was written by whom.
    fn flush(&self, devices: Members) -> Members {
        devices
    }
}

impl Devices for Slots<'_, WritableFileDevice> {
    fn read(&self, device: Slot, at: Bytes, into: &mut [u8]) -> Result<(), DeviceError> {
        self.read_from(device, at, into)
    }

    fn write(&self, writes: &mut [Write<'_>]) {
        for write in writes {
            write.outcome = match self.get(write.device) {
                Some(device) => device.write(write.at, write.from),
                None => Err(DeviceError::Io),
            };
        }
    }

    fn discard(&self, device: Slot, at: Bytes, length: Bytes) -> bool {
        self.get(device).is_some_and(|d| d.discard(at, length))
    }

    /// On all devices at once, for each may take as long as its disk needs.
    fn flush(&self, devices: Members) -> Members {
        let all: Vec<(Slot, &WritableFileDevice)> =
            self.iter().filter(|(slot, _)| devices.has(*slot)).collect();
        let flushed: Members = match all.as_slice() {
            [(slot, device)] => device
                .flush()
                .is_ok()
                .then_some(*slot)
                .into_iter()
                .collect(),
            many => thread::scope(|scope| {
                let running: Vec<_> = many
                    .iter()
                    .map(|(slot, device)| {
                        let flush = thread::Builder::new()
                            .spawn_scoped(scope, move || device.flush().is_ok());
                        (*slot, *device, flush)
                    })
                    .collect();
                running
                    .into_iter()
                    .filter_map(|(slot, device, flush)| {
                        let good = match flush {
                            Ok(thread) => thread.join().unwrap_or(false),
                            // No thread could be had.
                            Err(_) => device.flush().is_ok(),
                        };
                        good.then_some(slot)
                    })
                    .collect()
            }),
        };
        (0..u64::BITS as usize)
            .filter_map(Slot::new)
            .filter(|slot| devices.has(*slot) && !flushed.has(*slot))
            .collect()
    }
}

/// Something that happened to a node.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// A bad copy was overwritten with a good one.
    Repaired(TreeId, Slot, Bytes),
    /// A bad copy could not be overwritten.
    Unrepaired(TreeId, Slot, Bytes, DeviceError),
    /// No copy is sound.
    Lost(&'a TreeError, Range),
    /// These members are absent and those present from now on, and data have so many copies.
    Members(Members, Members, usize),
}

/// A function that hears of events.
pub struct Listener<F>(F);

impl<F: Fn(Event<'_>)> nodes::Events for Listener<F> {
    fn repaired(&self, tree: TreeId, device: Slot, at: Bytes) {
        (self.0)(Event::Repaired(tree, device, at));
    }

    fn unrepaired(&self, tree: TreeId, device: Slot, at: Bytes, why: DeviceError) {
        (self.0)(Event::Unrepaired(tree, device, at, why));
    }

    fn lost(&self, what: &TreeError, keys: Range) {
        (self.0)(Event::Lost(what, keys));
    }

    fn members(&self, absent: Members, present: Members, copies: usize) {
        (self.0)(Event::Members(absent, present, copies));
    }
}

/// A process, as what a volume is mounted on.
pub struct Process<'a, D, F> {
    devices: Slots<'a, D>,
    host: &'a Host,
    events: Listener<F>,
}

impl<'a, D, F: Fn(Event<'_>)> Process<'a, D, F> {
    /// These devices in this process.
    pub fn new(devices: Slots<'a, D>, host: &'a Host, hears: F) -> Self {
        Process {
            devices,
            host,
            events: Listener(hears),
        }
    }
}

impl<'a, D, F> Machine for Process<'a, D, F>
where
    Slots<'a, D>: Devices,
    F: Fn(Event<'_>),
{
    type Devices = Slots<'a, D>;
    type Environment = Host;
    type Events = Listener<F>;

    fn devices(&self) -> &Self::Devices {
        &self.devices
    }

    fn environment(&self) -> &Host {
        self.host
    }

    fn events(&self) -> &Self::Events {
        &self.events
    }
}

/// Lets the devices fetch their journals side by side, before a mount reads them one after the other.
pub fn fetch_journals<'a>(devices: impl IntoIterator<Item = (&'a FileDevice, &'a Member)>) {
    for (device, member) in devices {
        let journal = member.root.journal;
        if let (Some(at), Some(length)) = (journal.start.bytes(), journal.blocks.bytes()) {
            device.will_read(at, length);
        }
    }
}
