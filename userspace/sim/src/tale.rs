// SPDX-License-Identifier: GPL-2.0

//! A tale: transactions on a mounted volume, drawn from a seed, with a plain model beside them that remembers what each left. A
//! volume that a crash cut short must hold what one of them left: none before the last that was acknowledged.

use crate::fleet::Fleet;
use crate::host::Chance;
use crate::inspector;
use crate::machine;
use crate::machine::Simulated;
use crate::recording;
use crate::recording::Recording;
use crate::recording::Snapshot;
use crate::recording::State;
use crate::roots;
use embr_engine::check::Depth;
use embr_engine::env::Devices as _;
use embr_engine::env::Write;
use embr_engine::format::geometry::Geometry;
use embr_engine::format::journal::Extent;
use embr_engine::format::member::Slot;
use embr_engine::format::node::Node;
use embr_engine::format::pointer::Pointer;
use embr_engine::tree::check::Visitor;
use embr_engine::tree::Key;
use embr_engine::tree::Range;
use embr_engine::tree::TreeError;
use embr_engine::units::Blocks;
use embr_engine::units::Bytes;
use embr_engine::units::BLOCK_SIZE;
use embr_engine::volume::mounted::NAMES;
use embr_engine::volume::recover::Options;
use embr_engine::volume::Fault;
use embr_engine::volume::Mounted;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::rc::Rc;

/// The key under which each transaction leaves its number.
const COUNTER: Key = Key::MAX;
/// Blocks of a node.
pub(crate) const NODE_BLOCKS: u64 = (embr_engine::format::node::NODE_SIZE / BLOCK_SIZE) as u64;

/// What one transaction left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// The keys and their values.
    pub keys: BTreeMap<Key, Rc<[u8]>>,
    /// Blocks that are held, by a number that their contents follow from.
    held: BTreeMap<u64, (usize, u64, u64)>,
    /// Blocks that are held just so that the volume is full; nothing was written there.
    pub filler: Rc<[Extent]>,
}

/// How a tale goes.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Drives, and how many of them may be lost.
    pub drives: usize,
    /// How many of them may be lost.
    pub parity: u8,
    /// Transactions.
    pub length: usize,
    /// How many different keys there are.
    pub keys: u64,
    /// Bytes of a value, at most.
    pub value: usize,
    /// About one transaction in so many is made durable at once.
    pub sync_in: usize,
    /// After about one transaction in so many comes a checkpoint.
    pub checkpoint_in: usize,
    /// The volume is full from the beginning, but for so many blocks.
    pub spare: Option<u64>,
}

impl Shape {
    /// A shape drawn from a seed.
    pub fn drawn(chance: &Chance) -> Self {
        let drives = chance.one(&[1, 2, 2, 3]);
        // Now and then one that goes round the journal.
        let length = match chance.below(8) {
            0 => 300,
            _ => 10 + chance.below(50),
        };
        Shape {
            drives,
            parity: (drives - 1).min(chance.below(3)) as u8,
            length,
            keys: chance.one(&[5, 60, 400]),
            value: chance.one(&[10, 200, 4000]),
            sync_in: chance.one(&[2, 5, 20]),
            checkpoint_in: chance.one(&[4, 15, 60]),
            spare: chance.one(&[None, None, None, None, None, None, Some(0), Some(200)]),
        }
    }
}

/// A tale that was told.
pub struct Tale {
    /// What happened to the drives.
    pub recording: Recording,
    /// What each transaction left; the first entry is the empty volume.
    pub lefts: Vec<Left>,
    /// Drives that the volume can do without.
    parity: u8,
}

/// What lies in a block that is held under this number.
fn contents(number: u64, block: u64) -> [u8; BLOCK_SIZE] {
    let chance = Chance::new((number << 20) | block);
    let mut bytes = [0; BLOCK_SIZE];
    let word = chance.next().to_le_bytes();
    for place in bytes.chunks_mut(word.len()) {
        place.copy_from_slice(&word);
    }
    bytes
}

/// Goes on with the tale on a mounted volume, from what is there to what comes next.
struct Teller<'m> {
    mounted: &'m Mounted<Simulated>,
    fleet: &'m Fleet,
    chance: &'m Chance,
    shape: Shape,
}

impl Teller<'_> {
    fn key(&self) -> Key {
        let n = self.chance.next() % self.shape.keys;
        Key([n / 50, n % 50 * 3, n % 3])
    }

    /// One transaction: what it leaves. Where there is no space for it, another one that takes none.
    fn transact(&self, number: usize, before: &Left) -> Result<Left, Fault> {
        match self.take_part(number, before) {
            Err(Fault::NoSpace) => self.clear_out(number, before),
            done => done,
        }
    }

    /// Frees something; there is always room for that.
    fn clear_out(&self, number: usize, before: &Left) -> Result<Left, Fault> {
        let mut left = before.clone();
        let mut txn = self.mounted.begin_freeing()?;
        for _ in 0..self.chance.below(4) {
            let key = self.key();
            txn.remove(NAMES, key)?;
            left.keys.remove(&key);
        }
        if let Some((_, (device, start, blocks))) = left.held.pop_first() {
            txn.free(self.extent(device, start, blocks))?;
        }
        txn.set(NAMES, COUNTER, &(number as u64).to_le_bytes())?;
        txn.commit()?;
        Ok(left)
    }

    fn take_part(&self, number: usize, before: &Left) -> Result<Left, Fault> {
        if self.chance.below(6) == 0 {
            self.change_mind()?;
        }
        let mut left = before.clone();
        let mut txn = self.mounted.begin()?;
        let limit = txn.limit();
        for step in 0..1 + self.chance.below(8) {
            if txn.size() + 2 * self.shape.value + 200 > limit {
                break;
            }
            match self.chance.below(20) {
                0..=11 => {
                    let key = self.key();
                    let value =
                        vec![self.chance.next() as u8; self.chance.below(self.shape.value + 1)];
                    txn.set(NAMES, key, &value)?;
                    left.keys.insert(key, value.into());
                }
                12..=14 => {
                    let key = self.key();
                    txn.remove(NAMES, key)?;
                    left.keys.remove(&key);
                }
                15 => {
                    let (a, b) = (self.key(), self.key());
                    let range = Range {
                        first: a.min(b),
                        last: a.max(b),
                    };
                    txn.remove_range(NAMES, range)?;
                    left.keys.retain(|k, _| !range.has(*k));
                }
                16..=17 => self.take(number * 16 + step, &mut txn, &mut left)?,
                _ => {
                    let held: Vec<u64> = before
                        .held
                        .keys()
                        .copied()
                        .filter(|n| left.held.contains_key(n))
                        .collect();
                    if !held.is_empty() {
                        let number = self.chance.one(&held);
                        if let Some((device, start, blocks)) = left.held.remove(&number) {
                            txn.free(self.extent(device, start, blocks))?;
                        }
                    }
                }
            }
        }
        txn.set(NAMES, COUNTER, &(number as u64).to_le_bytes())?;
        txn.commit()?;
        Ok(left)
    }

    /// A transaction that never commits.
    fn change_mind(&self) -> Result<(), Fault> {
        let mut txn = self.mounted.begin()?;
        txn.set(NAMES, self.key(), b"never")?;
        txn.remove_range(NAMES, Range::ALL)?;
        self.take(0, &mut txn, &mut Left::default())
    }

    fn extent(&self, device: usize, start: u64, blocks: u64) -> Extent {
        Extent {
            device: self.mounted.parts()[device].slot,
            start: Blocks(start),
            blocks: Blocks(blocks),
        }
    }

    fn take(
        &self,
        id: usize,
        txn: &mut embr_engine::txn::Transaction<'_, Simulated>,
        left: &mut Left,
    ) -> Result<(), Fault> {
        let device = self.chance.below(self.shape.drives);
        let slot = self.mounted.parts()[device].slot;
        let most = Blocks(1 + self.chance.below(6) as u64);
        let extent = self.mounted.allocate(slot, Blocks(1), most)?;
        let id = id as u64;
        let data: Vec<u8> = (0..extent.blocks.0).flat_map(|n| contents(id, n)).collect();
        let at = extent.start.bytes().expect("a place");
        let mut write = [Write::new(slot, at, &data)];
        self.fleet.write(&mut write);
        if write[0].outcome.is_err() {
            self.mounted.give_back(extent);
            return Ok(());
        }
        txn.take(extent)?;
        left.held
            .insert(id, (device, extent.start.0, extent.blocks.0));
        Ok(())
    }
}

/// Fills a volume with data, of which nothing is written, until only about so many blocks are left.
pub fn take_all_but(mounted: &Mounted<Simulated>, blocks: u64) -> Result<Vec<Extent>, Fault> {
    let mut all = Vec::new();
    // The less is left, the less at once, so that nothing is left in the end but what is meant to.
    for at_once in [512, 16, 1] {
        while mounted.statfs().available.0 > blocks {
            let mut promise = match mounted.promise(Blocks(at_once)) {
                Ok(promise) => promise,
                Err(Fault::NoSpace) => break,
                Err(why) => return Err(why),
            };
            let mut txn = mounted.begin()?;
            while promise.blocks().0 != 0 {
                let mut extents = embr_rt::Vec::new();
                let most = Blocks(1 + all.len() as u64 % (at_once * 2));
                mounted.allocate_promised(&mut promise, most, &mut extents)?;
                txn.take_promised(&mut promise, &extents)?;
                all.extend(extents.iter().copied());
            }
            txn.commit_under(&mut promise)?;
        }
    }
    Ok(all)
}

/// Tells the tale of a seed on drives that do what they should.
pub fn tell(seed: u64, shape: Shape) -> Result<Tale, String> {
    let chance = Chance::new(seed);
    let fleet = Fleet::new(chance.next(), &vec![Bytes(32 << 20); shape.drives]);
    let geometry = Geometry::new((shape.drives as u8 - shape.parity).max(1), shape.parity)
        .map_err(|why| why.to_string())?;
    machine::make(chance.next(), &fleet, geometry)?;
    let mut empty = Left::default();
    if let Some(spare) = shape.spare {
        let mounted = machine::mount(chance.next(), &fleet, machine::READ_WRITE)?;
        let filler = take_all_but(&mounted, spare).map_err(|why| format!("filling: {why}"))?;
        empty.filler = filler.into();
        mounted.close().map_err(|why| format!("filled: {why}"))?;
    }
    fleet.record();
    let mounted = machine::mount(chance.next(), &fleet, machine::READ_WRITE)?;
    let mut lefts = vec![empty];
    let teller = Teller {
        mounted: &mounted,
        fleet: &fleet,
        chance: &chance,
        shape,
    };
    for number in 1..=shape.length {
        // Noted before: from here on it may be there.
        fleet.note(recording::begun(number));
        let left = teller
            .transact(number, &lefts[number - 1])
            .map_err(|why| format!("transaction {number}: {why}"))?;
        lefts.push(left);
        if chance.below(shape.sync_in) == 0 {
            mounted
                .sync()
                .map_err(|why| format!("sync after {number}: {why}"))?;
            fleet.note(recording::durable(number));
        }
        if chance.below(shape.checkpoint_in) == 0 {
            mounted
                .checkpoint()
                .map_err(|why| format!("checkpoint after {number}: {why}"))?;
            fleet.note(recording::durable(number));
        }
    }
    audit(&mounted, &fleet, &lefts[shape.length], Depth::Copies)?;
    mounted
        .close()
        .map_err(|why| format!("unmounting: {why}"))?;
    fleet.note(recording::durable(shape.length));
    Ok(Tale {
        recording: fleet.recorded(),
        lefts,
        parity: shape.parity,
    })
}

/// Notes every node of a tree.
#[derive(Default)]
pub(crate) struct Nodes {
    pub(crate) places: BTreeSet<(usize, u64)>,
    pub(crate) complaint: Option<String>,
}

impl Visitor for Nodes {
    fn node(&mut self, pointer: &Pointer, _: &Node) -> Result<(), TreeError> {
        for place in pointer.places.iter() {
            if !self.places.insert((place.device.index(), place.block.0)) {
                self.complaint = Some(format!("two nodes at {place:?}"));
            }
        }
        Ok(())
    }

    fn lost(&mut self, why: &TreeError, _: Range) -> Result<(), TreeError> {
        self.complaint = Some(why.to_string());
        Ok(())
    }

    fn under_full(&mut self, pointer: &Pointer, _: &Node) -> Result<(), TreeError> {
        self.complaint = Some(format!("a node that is too empty: {pointer:?}"));
        Ok(())
    }
}

/// Whether the volume holds the keys that were left, both ways.
fn audit_keys(mounted: &Mounted<Simulated>, left: &Left) -> Result<(), String> {
    let found = keys(mounted)?;
    let other: Vec<&Key> = (found.keys().chain(left.keys.keys()))
        .filter(|k| found.get(k).map(|v| &v[..]) != left.keys.get(k).map(|v| &v[..]))
        .collect();
    if let Some(key) = other.first() {
        return Err(format!(
            "{} keys are not as they were left, the first is {key}",
            other.len()
        ));
    }
    Ok(())
}

/// Whether every promise of space can be kept, and no checkpoint took more than it may.
pub fn audit_promises(mounted: &Mounted<Simulated>) -> Result<(), String> {
    let ledger = mounted.ledger();
    let floor = ledger.reserve.floor;
    match ledger.balanced && ledger.overdrawn <= floor / 2 && ledger.kept >= floor / 2 {
        true => Ok(()),
        false => Err(format!("promises of space: {ledger:?}")),
    }
}

/// Whether the volume holds what was left: keys both ways, data, and all that a check of the volume looks at, free space to the block
/// among it.
pub fn audit(
    mounted: &Mounted<Simulated>,
    fleet: &Fleet,
    left: &Left,
    depth: Depth,
) -> Result<(), String> {
    audit_keys(mounted, left)?;
    let mut held = Vec::new();
    for (number, (device, start, blocks)) in &left.held {
        let slot = mounted.parts()[*device].slot;
        let mut data = vec![0; *blocks as usize * BLOCK_SIZE];
        fleet
            .read(slot, Blocks(*start).bytes().expect("a place"), &mut data)
            .map_err(|why| format!("data of {number}: {why}"))?;
        let expected: Vec<u8> = (0..*blocks).flat_map(|n| contents(*number, n)).collect();
        if data != expected {
            return Err(format!("data of {number} is not what was written"));
        }
        held.push(Extent {
            device: slot,
            start: Blocks(*start),
            blocks: Blocks(*blocks),
        });
    }
    for extent in left.filler.iter() {
        held.push(*extent);
    }
    inspector::check(mounted, None, depth, &held)?;
    if !mounted.is_read_only() {
        audit_promises(mounted)?;
    }
    for part in mounted.parts() {
        let room = mounted.room(part.slot);
        if room.unused.0 != room.free.0 + room.claimed.0 + room.pending.0 {
            return Err(format!(
                "{:?}: blocks are neither free nor needed: {room:?}",
                part.slot
            ));
        }
    }
    Ok(())
}

/// All keys but the counter's, read upwards, and the same downwards.
fn keys(mounted: &Mounted<Simulated>) -> Result<BTreeMap<Key, Vec<u8>>, String> {
    let (mut up, mut down) = (Vec::new(), Vec::new());
    let mut scan = mounted.scan(NAMES, Range::ALL).ok_or("no such tree")?;
    while let Some((key, value)) = scan.next().map_err(|why| why.to_string())? {
        let read = mounted.get(NAMES, key, |v| v == value.as_slice());
        if read != Ok(Some(true)) {
            return Err(format!(
                "key {key} is found on the way, but looked up it is {read:?}"
            ));
        }
        up.push((key, value.to_vec()));
    }
    let mut scan = mounted.scan_back(NAMES, Range::ALL).ok_or("no such tree")?;
    while let Some((key, value)) = scan.next().map_err(|why| why.to_string())? {
        down.push((key, value.to_vec()));
    }
    down.reverse();
    if up != down {
        return Err("upwards there are other keys than downwards".into());
    }
    if up.windows(2).any(|pair| pair[0].0 >= pair[1].0) {
        return Err("keys are not in order".into());
    }
    Ok(up.into_iter().filter(|(key, _)| *key != COUNTER).collect())
}

/// Which drives are taken away, at most as many as a volume can do without.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Without {
    /// None.
    Nothing,
    /// The set with this number, counted round and round.
    One(usize),
    /// Of the largest sets that with this number, counted round and round.
    Most(usize),
    /// Each set, one after the other.
    Each,
}

impl Without {
    /// The sets of a volume that bears the loss of so many.
    pub fn of(self, snapshot: &Snapshot, parity: u8) -> Vec<Vec<Slot>> {
        let slots: Vec<Slot> = snapshot.drives.keys().copied().collect();
        let all = 1u64 << slots.len();
        let fewest = match self {
            Without::Most(_) => u32::from(parity),
            _ => 1,
        };
        let sizes = fewest.max(1)..=parity.into();
        let mut sets = (1..all).filter(|set| sizes.contains(&set.count_ones()));
        let count = sets.clone().count();
        let chosen = match self {
            _ if count == 0 => Vec::new(),
            Without::Nothing => Vec::new(),
            Without::One(n) | Without::Most(n) => sets.nth(n % count).into_iter().collect(),
            Without::Each => sets.collect(),
        };
        let of = |set: u64| (0..slots.len()).filter(move |n| (set >> n) & 1 == 1);
        let named = |set| of(set).map(|n| slots[n]).collect();
        chosen.into_iter().map(named).collect()
    }
}

/// How thoroughly a state is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// Mount read-only first, which must show the same and write nothing, with fsck over all copies; and again with as many drives lost
    /// as may be.
    pub read_only: bool,
    /// Take drives away, and mount read-only, and to write.
    pub without: Without,
    /// Mount without the newest root, from the one before it.
    pub older_root: bool,
    /// Go on with the tale after the crash, unmount and mount again.
    pub go_on: bool,
    /// Crash so many times more within the recovery.
    pub again: usize,
}

impl Tale {
    /// Whether a volume that this crash left is one that may be left.
    pub fn check(&self, seed: u64, state: &State, look: Look) -> Result<(), String> {
        let snapshot = self.recording.at(state).ok_or("no such state")?;
        let (durable, committed) = self.recording.bounds(state.cut);
        let fleet = Fleet::start(seed, &snapshot);
        if look.read_only {
            let before = fleet.snapshot();
            let options = Options {
                read_only: true,
                ..machine::READ_WRITE
            };
            // Half of them as fsck mounts, which sees no more and no less.
            let (mounted, depth) = match seed % 2 {
                0 => (machine::mount(seed, &fleet, options), Depth::Tree),
                _ => (machine::inspect(seed, &fleet), Depth::Copies),
            };
            let mounted = mounted.map_err(|why| format!("read-only: {why}"))?;
            self.survived(&mounted, &fleet, durable, committed, depth)
                .map_err(|why| format!("read-only: {why}"))?;
            drop(mounted);
            if fleet.snapshot() != before {
                return Err("a read-only mount wrote".into());
            }
            self.check_without(seed, &before, durable, committed)?;
        }
        if look.older_root {
            self.check_older_root(seed, &snapshot, durable, committed)?;
        }
        fleet.record();
        let mounted = machine::mount(seed, &fleet, machine::READ_WRITE)?;
        let number = self.survived(&mounted, &fleet, durable, committed, Depth::Tree)?;
        let recovery = fleet.recorded();
        if look.go_on {
            self.go_on(seed, &mounted, &fleet, number)?;
        }
        let chance = Chance::new(seed);
        for _ in 0..look.again {
            let cut = chance.next() % (recovery.end() + 1);
            let state = State::new(cut, crate::cache::Survival::Subset(chance.next()));
            let again = recovery.at(&state).ok_or("no such state")?;
            let within = |why| format!("crashed again in the recovery, {state}: {why}");
            self.check_older_root(seed, &again, durable, committed)
                .map_err(within)?;
            let fleet = Fleet::start(seed, &again);
            let mounted = machine::mount(seed, &fleet, machine::READ_WRITE).map_err(within)?;
            self.survived(&mounted, &fleet, durable, committed, Depth::Tree)
                .map_err(within)?;
        }
        Ok(())
    }

    /// The same crash, and as many drives as the volume can do without did not come back from it.
    fn check_without(
        &self,
        seed: u64,
        snapshot: &Snapshot,
        durable: usize,
        committed: usize,
    ) -> Result<(), String> {
        let chance = Chance::new(seed);
        let fleet = Fleet::start(seed, snapshot);
        let mut here: Vec<Slot> = snapshot.drives.keys().copied().collect();
        for _ in 0..self.parity {
            let lost = here.swap_remove(chance.below(here.len()));
            fleet.vanish(lost);
        }
        let within = |why| format!("with only {here:?} left: {why}");
        let options = Options {
            read_only: true,
            ..machine::READ_WRITE
        };
        let mounted = machine::mount(seed, &fleet, options).map_err(within)?;
        let number = self.last(&mounted, durable, committed).map_err(within)?;
        audit_keys(&mounted, &self.lefts[number]).map_err(within)
    }

    /// The same crash, and the newest root is gone from all drives: the one before, and the journal behind it, say as much.
    fn check_older_root(
        &self,
        seed: u64,
        snapshot: &Snapshot,
        durable: usize,
        committed: usize,
    ) -> Result<(), String> {
        let fleet = Fleet::start(seed, snapshot);
        let within = |why| format!("without the newest root: {why}");
        if !roots::lose_newest(&fleet, seed).map_err(within)? {
            return Ok(());
        }
        let mounted = machine::mount(seed, &fleet, machine::READ_WRITE).map_err(within)?;
        self.survived(&mounted, &fleet, durable, committed, Depth::Tree)
            .map_err(within)?;
        Ok(())
    }

    /// Which transaction's volume this is, looked at as a whole.
    fn survived(
        &self,
        mounted: &Mounted<Simulated>,
        fleet: &Fleet,
        durable: usize,
        committed: usize,
        depth: Depth,
    ) -> Result<usize, String> {
        let number = self.last(mounted, durable, committed)?;
        audit(mounted, fleet, &self.lefts[number], depth)
            .map_err(|why| format!("as of transaction {number}: {why}"))?;
        Ok(number)
    }

    /// The last transaction that is there.
    fn last(
        &self,
        mounted: &Mounted<Simulated>,
        durable: usize,
        committed: usize,
    ) -> Result<usize, String> {
        let counter = mounted
            .get(NAMES, COUNTER, |v| v.try_into().map(u64::from_le_bytes))
            .map_err(|why| why.to_string())?;
        let number = match counter {
            None => 0,
            Some(Ok(number)) => number as usize,
            Some(Err(_)) => return Err("the counter is not a number".into()),
        };
        if number < durable || number > committed {
            return Err(format!("transaction {number} is the last, but {durable} was durable and {committed} the newest"));
        }
        Ok(number)
    }

    fn go_on(
        &self,
        seed: u64,
        mounted: &Mounted<Simulated>,
        fleet: &Fleet,
        number: usize,
    ) -> Result<(), String> {
        let chance = Chance::new(seed ^ 0x55);
        let shape = Shape {
            drives: mounted.parts().len(),
            parity: 0,
            length: 0,
            keys: 60,
            value: 200,
            sync_in: 3,
            checkpoint_in: 5,
            spare: None,
        };
        let teller = Teller {
            mounted,
            fleet,
            chance: &chance,
            shape,
        };
        let mut left = self.lefts[number].clone();
        for step in 0..6 {
            // Numbers that the tale itself never came to.
            left = teller
                .transact(1000 + step, &left)
                .map_err(|why| format!("going on: {why}"))?;
            if chance.below(3) == 0 {
                mounted
                    .checkpoint()
                    .map_err(|why| format!("going on: {why}"))?;
            }
        }
        audit(mounted, fleet, &left, Depth::Tree).map_err(|why| format!("going on: {why}"))?;
        mounted.sync().map_err(|why| format!("going on: {why}"))?;
        let later = Fleet::start(seed, &fleet.snapshot());
        let again = machine::mount(seed ^ 1, &later, machine::READ_WRITE)
            .map_err(|why| format!("after going on: {why}"))?;
        audit(&again, &later, &left, Depth::Tree).map_err(|why| format!("after going on: {why}"))
    }
}
