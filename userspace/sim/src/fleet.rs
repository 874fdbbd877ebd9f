// SPDX-License-Identifier: GPL-2.0

//! Up to 64 drives that a volume lives on, as the engine sees them: writes that go out together land in any order, and inside
//! a simulated world each call takes its time, so that whatever else goes on can come between.
//!
//! All that the drives do follows from one seed and the order of calls. What they did can be recorded ([`crate::recording`]), and
//! a fleet can be started from what any crash would have left.

use crate::cache::shuffle;
use crate::cache::Contents;
use crate::cache::Survival;
use crate::drive::Drive;
use crate::drive::Effect;
use crate::fault::Fault;
use crate::fault::Injected;
use crate::fault::Odds;
use crate::host::Chance;
use crate::recording::Recording;
use crate::recording::Snapshot;
use crate::tally::Tally;
use embr_engine::env::Device;
use embr_engine::env::DeviceError;
use embr_engine::env::Devices;
use embr_engine::env::WritableDevice;
use embr_engine::env::Write;
use embr_engine::format::member::Members;
use embr_engine::format::member::Slot;
use embr_engine::format::member::SLOTS;
use embr_engine::units::Bytes;
use embr_engine::units::BLOCK_SIZE;
use embr_rt::time::Duration;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

/// How long a read may take in a simulated world, in microseconds.
const READ_TIME: Range<u64> = 20..200;
/// How long a write may take.
const WRITE_TIME: Range<u64> = 20..600;
/// How long a flush may take.
const FLUSH_TIME: Range<u64> = 200..5000;
/// How long a discard may take.
const DISCARD_TIME: Range<u64> = 20..5000;

/// Blocks that a drive was told to forget.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Discarded {
    /// Which drive.
    pub slot: Slot,
    /// Which of its blocks.
    pub blocks: Range<u64>,
    /// The position of the recording before.
    pub position: u64,
}

struct Inner {
    drives: BTreeMap<Slot, Drive>,
    chance: Chance,
    recording: Option<Recording>,
    discarded: Vec<Discarded>,
    /// What befell drives that are no longer here.
    injected: Tally<Injected>,
    /// What is done after some read.
    after_reads: Option<(Due, Act)>,
    /// Bytes that drives were given to write.
    written: u64,
}

type Act = Box<dyn FnOnce() + Send>;

/// After which read something is done.
enum Due {
    /// So many more.
    After(usize),
    /// One of this place.
    At(Slot, Bytes),
}

impl Inner {
    /// Something was read: what is due then.
    fn was_read(&mut self, slot: Slot, at: Bytes, length: usize) -> Option<Act> {
        let is_due = match &mut self.after_reads.as_mut()?.0 {
            Due::After(left) => {
                *left = left.saturating_sub(1);
                *left == 0
            }
            Due::At(due, place) => *due == slot && (at.0..at.0 + length as u64).contains(&place.0),
        };
        let act = self.after_reads.take_if(|_| is_due);
        act.map(|(_, act)| act)
    }

    /// Does something to a drive, and records what came of it. None where there is no such drive.
    fn on<R>(&mut self, slot: Slot, act: impl FnOnce(&mut Drive) -> (Effect, R)) -> Option<R> {
        let drive = self.drives.get_mut(&slot)?;
        let (effect, result) = act(drive);
        if let Some(recording) = &mut self.recording {
            match effect {
                Effect::Nothing => {}
                Effect::Cached(cached) => recording.wrote(slot, cached),
                Effect::Changed => recording.changed(slot, Some(drive.contents().clone())),
            }
        }
        Some(result)
    }

    fn snapshot(&self) -> Snapshot {
        let drives = self.drives.iter();
        Snapshot {
            drives: drives
                .map(|(slot, drive)| (*slot, drive.contents().clone()))
                .collect(),
        }
    }
}

/// The drives. A clone is another handle on the same ones; [`Fleet::snapshot`] makes copies.
#[derive(Clone)]
pub struct Fleet(Arc<Mutex<Inner>>);

impl Fleet {
    /// Drives of zeros of these sizes, in the first places; at most 64.
    pub fn new(seed: u64, sizes: &[Bytes]) -> Self {
        assert!(sizes.len() <= SLOTS, "a fleet has at most {SLOTS} drives");
        let slots = (0..).map_while(Slot::new);
        let contents = sizes.iter().map(|size| Contents::new(*size));
        Fleet::start(
            seed,
            &Snapshot {
                drives: slots.zip(contents).collect(),
            },
        )
    }

    /// Drives with these contents, with nothing going wrong, and not recorded.
    pub fn start(seed: u64, snapshot: &Snapshot) -> Self {
        let chance = Chance::new(seed);
        let drives = (snapshot.drives.iter())
            .map(|(slot, contents)| (*slot, Drive::new(contents.clone(), chance.next())))
            .collect();
        Fleet(Arc::new(Mutex::new(Inner {
            drives,
            chance,
            recording: None,
            discarded: Vec::new(),
            injected: Tally::default(),
            after_reads: None,
            written: 0,
        })))
    }

    /// Does something once, after so many reads from now on: before who has read goes on with what it got.
    pub fn after_reads(&self, reads: usize, act: impl FnOnce() + Send + 'static) {
        self.inner().after_reads = Some((Due::After(reads), Box::new(act)));
    }

    /// The same, after this byte of a drive was read.
    pub fn after_read_at(&self, slot: Slot, at: Bytes, act: impl FnOnce() + Send + 'static) {
        self.inner().after_reads = Some((Due::At(slot, at), Box::new(act)));
    }

    /// How much the drives were given to write so far.
    pub fn written(&self) -> Bytes {
        Bytes(self.inner().written)
    }

    /// Never held across a point at which others may run.
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What all drives hold now.
    pub fn snapshot(&self) -> Snapshot {
        self.inner().snapshot()
    }

    /// The places that have a drive, whether or not it answers.
    pub fn members(&self) -> Members {
        self.inner().drives.keys().copied().collect()
    }

    /// The drive at this place.
    pub fn drive(&self, slot: Slot) -> Option<DriveHandle> {
        let size = self.inner().drives.get(&slot)?.size();
        Some(DriveHandle {
            fleet: self.clone(),
            slot,
            size,
        })
    }

    /// All drives, in the order of their places.
    pub fn drives(&self) -> Vec<DriveHandle> {
        let members = self.members();
        let slots = (0..).map_while(Slot::new).filter(|s| members.has(*s));
        slots.filter_map(|slot| self.drive(slot)).collect()
    }

    /// Puts a drive with these contents at this place, and gives back those of the one that was there.
    pub fn put(&self, slot: Slot, contents: Contents) -> Option<Contents> {
        let mut inner = self.inner();
        let seed = inner.chance.next();
        if let Some(recording) = &mut inner.recording {
            recording.changed(slot, Some(contents.clone()));
        }
        let old = inner.drives.insert(slot, Drive::new(contents, seed))?;
        inner.injected.merge(&old.faults.injected);
        Some(old.contents().clone())
    }

    /// Takes the drive at this place out.
    pub fn take(&self, slot: Slot) -> Option<Contents> {
        let mut inner = self.inner();
        let old = inner.drives.remove(&slot)?;
        if let Some(recording) = &mut inner.recording {
            recording.changed(slot, None);
        }
        inner.injected.merge(&old.faults.injected);
        Some(old.contents().clone())
    }

    /// Records from here on, from the beginning of a new recording.
    pub fn record(&self) {
        let mut inner = self.inner();
        inner.recording = Some(Recording::new(&inner.snapshot()));
    }

    /// Remembers a number at the present position: that an operation was begun, or acknowledged.
    pub fn note(&self, tag: u64) {
        if let Some(recording) = &mut self.inner().recording {
            recording.note(tag);
        }
    }

    /// The position of the recording: how much happened that lasts. 0 where nothing is recorded.
    pub fn position(&self) -> u64 {
        self.inner().recording.as_ref().map_or(0, Recording::end)
    }

    /// Ends the recording; an empty one where there was none.
    pub fn recorded(&self) -> Recording {
        self.inner().recording.take().unwrap_or_default()
    }

    /// What drives were told to forget since this was last asked.
    pub fn take_discarded(&self) -> Vec<Discarded> {
        std::mem::take(&mut self.inner().discarded)
    }

    /// Does something to a drive that is there; a wrong place is a fault of the caller.
    fn with<R>(&self, slot: Slot, act: impl FnOnce(&mut Drive) -> (Effect, R)) -> R {
        (self.inner().on(slot, act))
            .unwrap_or_else(|| panic!("there is no drive at place {}", slot.index()))
    }

    /// A fault to come.
    pub fn expect(&self, slot: Slot, fault: Fault) {
        self.with(slot, |d| (Effect::Nothing, d.faults.expect(fault)));
    }

    /// From now on, things go wrong this often.
    pub fn odds(&self, slot: Slot, odds: Odds) {
        self.with(slot, |d| (Effect::Nothing, d.faults.odds = odds));
    }

    /// Nothing goes wrong any more, and no drive is full. Those that are gone stay so.
    pub fn heal(&self) {
        for drive in self.inner().drives.values_mut() {
            drive.faults.forget();
            drive.limit(None);
        }
    }

    /// Writes fail when they need more than so many blocks that nothing is stored in now; without a number there is no limit.
    pub fn limit(&self, slot: Slot, blocks: Option<u64>) {
        self.with(slot, |d| (Effect::Nothing, d.limit(blocks)));
    }

    /// Every call to this drive fails from now on.
    pub fn vanish(&self, slot: Slot) {
        self.with(slot, |d| (d.vanish(), ()));
    }

    /// The drive answers again, stale: with what it had on its medium when it vanished, and what is left of its cache.
    pub fn come_back(&self, slot: Slot, survival: &Survival) {
        self.with(slot, |d| (d.come_back(survival), ()));
    }

    /// Power fails for this drive alone: this is what becomes of its unflushed writes, if there are any, and it answers again.
    pub fn cut_power(&self, slot: Slot, survival: &Survival) {
        self.with(slot, |d| (d.cut_power(survival), ()));
    }

    /// Turns these bits of the byte at `at` over, on the medium.
    pub fn rot(&self, slot: Slot, at: Bytes, bits: u8) {
        self.with(slot, |d| (d.rot(at, bits), ()));
    }

    /// Turns a bit over in so many blocks on the medium that are not zero (or in all of them, if they are fewer), and says where.
    pub fn rot_some(&self, slot: Slot, count: usize) -> Vec<Bytes> {
        let places: Vec<Bytes> = self.with(slot, |d| {
            let mut numbers: Vec<u64> = (d.contents().durable.written().iter())
                .map(|(n, _)| *n)
                .collect();
            let chance = &d.faults.chance;
            shuffle(&mut numbers, chance);
            let block = BLOCK_SIZE as u64;
            let inside = |n: u64| (d.size().0 - n * block).min(block) as usize;
            let places = (numbers.iter().take(count))
                .map(|n| Bytes(n * block + chance.below(inside(*n)) as u64))
                .collect();
            (Effect::Nothing, places)
        });
        for at in &places {
            let bit = self.inner().chance.below(8);
            self.rot(slot, *at, 1 << bit);
        }
        places
    }

    /// What went wrong so far, by kind.
    pub fn injected(&self) -> Tally<Injected> {
        let inner = self.inner();
        let mut all = inner.injected.clone();
        for drive in inner.drives.values() {
            all.merge(&drive.faults.injected);
        }
        all
    }

    /// Waits as long as a call takes. Only in a simulated world is there anybody else, and any time.
    fn take_time(&self, range: Range<u64>) {
        if embr_rt::sim::active() {
            embr_rt::time::sleep(Duration::from_micros(self.draw_time(range)));
        }
    }

    fn draw_time(&self, range: Range<u64>) -> u64 {
        range.start + self.inner().chance.next() % (range.end - range.start)
    }

    /// Goes into the trace of the world, so that runs that differ in it are told apart.
    fn trace(slot: Slot, what: u64, at: Bytes, result: Result<(), DeviceError>) {
        embr_rt::sim::trace(
            (at.0 << 16) ^ ((slot.index() as u64) << 8) ^ (what << 1) ^ u64::from(result.is_ok()),
        );
    }

    fn write_one(&self, slot: Slot, at: Bytes, from: &[u8]) -> Result<(), DeviceError> {
        self.inner().written += from.len() as u64;
        let result = (self.inner().on(slot, |d| d.write(at, from))).unwrap_or(Err(DeviceError::Io));
        Fleet::trace(slot, 1, at, result);
        result
    }
}

impl Devices for Fleet {
    fn read(&self, device: Slot, at: Bytes, into: &mut [u8]) -> Result<(), DeviceError> {
        self.take_time(READ_TIME);
        let result =
            (self.inner().on(device, |d| d.read(at, into))).unwrap_or(Err(DeviceError::Io));
        Fleet::trace(device, 0, at, result);
        let act = self.inner().was_read(device, at, into.len());
        if let Some(act) = act {
            act();
        }
        result
    }

    fn write(&self, writes: &mut [Write<'_>]) {
        let mut order: Vec<(u64, &mut Write<'_>)> = (writes.iter_mut())
            .map(|write| (self.draw_time(WRITE_TIME), write))
            .collect();
        order.sort_by_key(|(time, _)| *time);
        let mut now = 0;
        for (time, write) in order {
            if embr_rt::sim::active() {
                embr_rt::time::sleep(Duration::from_micros(time - now));
                now = time;
            }
            write.outcome = self.write_one(write.device, write.at, write.from);
        }
    }

    fn flush(&self, devices: Members) -> Members {
        let mut order: Vec<(u64, Slot, _)> = (0..)
            .map_while(Slot::new)
            .filter(|slot| devices.has(*slot))
            .map(|slot| {
                let time = self.draw_time(FLUSH_TIME);
                (time, slot, self.inner().drives.get(&slot).map(Drive::taken))
            })
            .collect();
        order.sort_by_key(|(time, _, _)| *time);
        let mut now = 0;
        let mut failed = Members::default();
        for (time, slot, taken) in order {
            if embr_rt::sim::active() {
                embr_rt::time::sleep(Duration::from_micros(time - now));
                now = time;
            }
            let result = taken
                .and_then(|taken| self.inner().on(slot, |d| d.flush(taken)))
                .unwrap_or(Err(DeviceError::Io));
            Fleet::trace(slot, 2, Bytes(0), result);
            if result.is_err() {
                failed = failed.with(slot);
            }
        }
        failed
    }

    fn discard(&self, device: Slot, at: Bytes, length: Bytes) -> bool {
        self.take_time(DISCARD_TIME);
        let mut inner = self.inner();
        let position = inner.recording.as_ref().map_or(0, Recording::end);
        let block = BLOCK_SIZE as u64;
        inner.discarded.push(Discarded {
            slot: device,
            blocks: at.0 / block..(at.0 + length.0).div_ceil(block),
            position,
        });
        let done = inner.on(device, |d| d.discard(at, length)).unwrap_or(false);
        drop(inner);
        let result = done.then_some(()).ok_or(DeviceError::Io);
        Fleet::trace(device, 3, at, result);
        done
    }
}

impl fmt::Debug for Fleet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fleet of {:?}", self.members())
    }
}

/// One drive of a fleet, for what works on a single device.
#[derive(Clone, Debug)]
pub struct DriveHandle {
    fleet: Fleet,
    slot: Slot,
    size: Bytes,
}

impl DriveHandle {
    /// Its place.
    pub fn slot(&self) -> Slot {
        self.slot
    }
}

impl Device for DriveHandle {
    fn size(&self) -> Bytes {
        self.size
    }

    fn read(&self, at: Bytes, into: &mut [u8]) -> Result<(), DeviceError> {
        Devices::read(&self.fleet, self.slot, at, into)
    }
}

impl WritableDevice for DriveHandle {
    fn write(&self, at: Bytes, from: &[u8]) -> Result<(), DeviceError> {
        self.fleet.take_time(WRITE_TIME);
        self.fleet.write_one(self.slot, at, from)
    }

    fn flush(&self) -> Result<(), DeviceError> {
        let failed = Devices::flush(&self.fleet, Members::default().with(self.slot));
        if failed.has(self.slot) {
            return Err(DeviceError::Io);
        }
        Ok(())
    }

    fn discard(&self, at: Bytes, length: Bytes) -> bool {
        Devices::discard(&self.fleet, self.slot, at, length)
    }
}
