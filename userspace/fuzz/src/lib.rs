// SPDX-License-Identifier: GPL-2.0

//! The fuzz targets: the bytes of a fuzzer as system areas of a disk, as a node, as a journal, as changes of a whole volume that is
//! only read, or worked on.

use embr_engine::check;
use embr_engine::check::block;
use embr_engine::check::path;
use embr_engine::check::Depth;
use embr_engine::check::Finding;
use embr_engine::check::Observer;
use embr_engine::env::WritableDevice as _;
use embr_engine::format::layout;
use embr_engine::format::member::Slot;
use embr_engine::format::node;
use embr_engine::format::node::Node;
use embr_engine::format::node::Stamp;
use embr_engine::format::node::NODE_SIZE;
use embr_engine::format::pointer::Place;
use embr_engine::format::pointer::Places;
use embr_engine::format::pointer::Pointer;
use embr_engine::format::seal;
use embr_engine::hash::Scalar;
use embr_engine::names::Cookie;
use embr_engine::names::HashWidth;
use embr_engine::names::Names;
use embr_engine::names::View;
use embr_engine::tree::Key;
use embr_engine::tree::Range;
use embr_engine::units::Blocks;
use embr_engine::units::Bytes;
use embr_engine::units::EpochId;
use embr_engine::units::FileBlock;
use embr_engine::units::Generation;
use embr_engine::units::InodeNo;
use embr_engine::units::Level;
use embr_engine::units::TreeId;
use embr_engine::units::Uuid;
use embr_engine::units::BLOCK_SIZE;
use embr_engine::volume;
use embr_engine::volume::mounted::TREES;
use embr_engine::volume::recover::Options;
use embr_engine::volume::Mounted;
use embrfs_sim::disk::Disk;
use embrfs_sim::fleet::Fleet;
use embrfs_sim::host::Chance;
use embrfs_sim::machine;
use embrfs_sim::machine::Simulated;
use embrfs_sim::specimen::Build;
use embrfs_sim::specimen::Specimen;
use embrfs_sim::worker;
use std::collections::BTreeSet;

/// Puts the fuzzer's bytes over a sound volume's superblock and root, seals them again if the first byte says so (or hardly
/// any input would get past the seal), and probes and assembles what comes of it.
pub fn volume(input: &[u8]) {
    let Some((control, input)) = input.split_first() else {
        return;
    };
    let disks = embrfs_sim::mutant::volume(1, 1, 0, &[layout::MIN_DEVICE]);
    let Some(disk) = disks.first() else { return };
    let half = input.len().min(layout::SUPERBLOCK_SIZE);
    let (superblock, root) = input.split_at(half);
    for (_, at) in layout::superblocks(layout::MIN_DEVICE) {
        overlay(
            disk,
            at,
            layout::SUPERBLOCK_SIZE,
            superblock,
            control & 1 != 0,
        );
    }
    for ring in layout::rings(layout::MIN_DEVICE) {
        if let Some(at) = layout::slot_at(ring, 1) {
            overlay(disk, at, layout::ROOT_SIZE, root, control & 2 != 0);
        }
    }
    if let Ok(member) = volume::probe(disk, &Scalar) {
        let members = [member];
        if let Ok(volume) = volume::assemble(&members) {
            assert!(volume.missing().count() <= u32::from(volume.geometry().parity()));
        }
    }
}

/// Changes the structure at `at`: the fuzzer's bytes are added to the ones there, so that zeros leave it sound.
fn overlay(disk: &Disk, at: Bytes, length: usize, input: &[u8], reseal: bool) {
    use embr_engine::env::Device as _;
    let mut bytes = vec![0; length];
    if disk.read(at, &mut bytes).is_err() {
        return;
    }
    for (to, from) in bytes.iter_mut().zip(input) {
        *to = to.wrapping_add(*from);
    }
    if reseal {
        seal::apply(&Scalar, &mut bytes, at);
    }
    // The place lies within the disk: it was just read.
    let _ = disk.write(at, &bytes);
}

/// Bytes over a sound node, a leaf or an inner one, sealed again if the first byte says so; of what is still a node, everything is
/// looked at.
pub fn node(input: &[u8]) {
    let Some((control, input)) = input.split_first() else {
        return;
    };
    let size = if control & 4 == 0 { 1024 } else { NODE_SIZE };
    let volume = Uuid([7; 16]);
    let place = Place {
        device: Slot::FIRST,
        block: Blocks(4000),
    };
    let Some(places) = Places::new(&[place]) else {
        return;
    };
    let stamp = |level| Stamp {
        volume,
        epoch: EpochId([3; 16]),
        generation: Generation(9),
        tree: TreeId(2),
        level: Level(level),
        places,
    };
    let keys = (1..6u64).map(|n| Key([n, n * n, 0]));
    let made = if control & 2 == 0 {
        let value = [5u8; 40];
        let entries = keys.map(|key| (key, value.get(..key.0[0] as usize * 7).unwrap_or(&value)));
        Node::leaf(&Scalar, size, &stamp(0), entries)
    } else {
        let pointer = Pointer {
            generation: Generation(8),
            hash: [1; 16],
            places,
        };
        let children = keys.map(|key| (key, pointer));
        Node::inner(&Scalar, size, &stamp(1), children, Key::MAX)
    };
    let Ok(made) = made else { return };
    let Ok(mut bytes) = embr_rt::Vec::try_from_slice(made.bytes()) else {
        return;
    };
    for (to, from) in bytes.iter_mut().zip(input) {
        *to = to.wrapping_add(*from);
    }
    if control & 1 != 0 {
        node::apply_seal(&Scalar, &mut bytes);
    }
    let Ok(node) = Node::parse(&Scalar, bytes, volume) else {
        return;
    };
    assert!(node.is_at(&node.pointer()));
    let mut last = None;
    for n in 0..node.count() {
        let key = node.key(n);
        assert!(key > last, "keys rise");
        last = key;
        let Some(key) = key else { return };
        assert_eq!(node.at_or_before(key), Some(n));
        assert_eq!(node.below(key), n);
        assert!(node.range().has(key));
        match node.level().is_leaf() {
            true => assert_eq!(node.value(key), node.entry(n).map(|(_, value)| value)),
            false => assert!(node.child(n).is_some_and(|c| c.range.has(key))),
        }
    }
    assert!(node.used() <= node.bytes().len());
}

/// The journal behind a sound root, changed and sealed again: it is read to be checked, and to be mounted.
pub fn journal(input: &[u8]) {
    // Only what concerns the journal: the rest is `mount`'s.
    let mut input = input.to_vec();
    let mut at = 0;
    while let Some([what, _, _, length, ..]) = input.get_mut(at..) {
        *what = 160 + *what % 56;
        at += 4 + usize::from(*length) % 32;
    }
    Specimen::with(Build::Single, |volume| look(&volume.changed(&input)));
}

/// A whole volume, changed anywhere and sealed again: it is mounted read-only, checked, and everything in it is visited.
pub fn mount(input: &[u8]) {
    let Some((control, input)) = input.split_first() else {
        return;
    };
    let build = match control % 3 {
        0 => Build::Single,
        1 => Build::Striped,
        _ => Build::Torn,
    };
    Specimen::with(build, |volume| look(&volume.changed(input)));
}

/// A whole volume, changed anywhere and sealed again: it is mounted read-write and worked on, again and again. The first byte says on
/// what devices it is made, the next ones what is done with it.
pub fn work(input: &[u8]) {
    let Some((control, input)) = input.split_first() else {
        return;
    };
    let Some((deeds, input)) = input.split_first_chunk() else {
        return;
    };
    let build = match control % 8 {
        0 | 1 => Build::Single,
        2 => Build::Pair,
        3 => Build::Half,
        4..=6 => Build::Striped,
        _ => Build::Torn,
    };
    let chance = Chance::new(u64::from(u16::from_le_bytes(*deeds)));
    let fleet = Specimen::with(build, |volume| volume.changed(input));
    worker::work(&fleet, &chance, &mut worker::Done::default());
}

/// Files that are visited, at most: an image has no more.
const MOST_FILES: usize = 1000;

struct Silent;

impl Observer for Silent {
    fn found(&mut self, what: &Finding) {
        let _ = (what.device(), what.block(), what.tree(), what.key());
        assert!(!what.to_string().is_empty() && !what.kind().is_empty());
    }
}

fn look(fleet: &Fleet) {
    let before = fleet.snapshot();
    if let Ok(mounted) = machine::inspect_telling(1, fleet, &mut |_| {}) {
        check_all(&mounted);
        visit(&mounted);
    }
    let read_only = Options {
        read_only: true,
        ..machine::READ_WRITE
    };
    if let Ok(mounted) = machine::mount(1, fleet, read_only) {
        visit(&mounted);
    }
    assert!(fleet.snapshot() == before, "something was written");
}

fn check_all(mounted: &Mounted<Simulated>) {
    let Ok(names) = Names::try_new(HashWidth::Full) else {
        return;
    };
    let view = View::first();
    for (memory, depth) in [(1, Depth::Tree), (1 << 20, Depth::Copies)] {
        let options = check::Options {
            memory: Bytes(memory),
            depth,
            data: true,
            held: &[],
        };
        let ended = check::check(
            mounted,
            Some(names.of(mounted, &view)),
            &options,
            &mut Silent,
        );
        // What is wrong with a volume is a finding, not an end.
        assert!(ended.is_ok(), "{ended:?}");
    }
    let used = block::uses(mounted, Slot::FIRST, Blocks(2304), &mut |_, _| {});
    assert!(used.is_ok());
}

/// Everything that can be reached by names, numbers and keys.
fn visit(mounted: &Mounted<Simulated>) {
    let Ok(names) = Names::try_new(HashWidth::Full) else {
        return;
    };
    visit_as(mounted, &names, &View::first());
    let listed = names.snapshots(mounted);
    for listed in listed.iter().flat_map(|listed| listed.iter()) {
        if let Ok(view) = names.open(mounted, &listed.name) {
            visit_as(mounted, &names, &view);
        }
    }
    for tree in TREES {
        let mut last = None;
        let mut up = mounted.scan(tree, Range::ALL);
        while let Some(Ok(Some((key, _)))) = up.as_mut().map(|scan| scan.next()) {
            assert!(Some(key) > last, "keys rise");
            last = Some(key);
        }
        let mut down = mounted.scan_back(tree, Range::ALL);
        while let Some(Ok(Some(_))) = down.as_mut().map(|scan| scan.next()) {}
    }
}

/// Everything that can be reached by names and numbers, as somebody sees it.
fn visit_as(mounted: &Mounted<Simulated>, names: &Names, view: &View) {
    let files = names.of(mounted, view);
    let mut ahead = vec![InodeNo::ROOT];
    let mut seen = BTreeSet::new();
    ahead.extend(
        files
            .orphans(InodeNo::NONE, MOST_FILES)
            .iter()
            .flat_map(|o| o.iter().copied()),
    );
    while let Some(number) = ahead.pop() {
        if seen.len() >= MOST_FILES || !seen.insert(number) {
            continue;
        }
        let _ = path::of(files, number);
        let _ = files.directory_above(number);
        let Ok(inode) = files.inode(number) else {
            continue;
        };
        let mut buffer = [0; BLOCK_SIZE];
        for n in [0, 3, inode.size.0 / BLOCK_SIZE as u64] {
            let _ = files.read(number, FileBlock(n), &mut buffer);
        }
        let _ = files.pieces(number, FileBlock(0), FileBlock(u64::MAX), 100);
        let mut from = Cookie::FIRST;
        while let Ok(batch) = files.readdir(number, from, 50) {
            for entry in batch.entries.iter() {
                assert!(entry.cookie >= from, "cookies rise");
                from = entry.cookie.next();
                let _ = files.lookup(number, &entry.name);
                ahead.push(entry.target.inode);
            }
            if batch.is_last || batch.entries.is_empty() {
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    /// Inputs from a seed, as long as a fuzzer's are.
    fn inputs(count: usize) -> impl Iterator<Item = Vec<u8>> {
        let seed = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |t| t.as_nanos() as u64);
        println!("seed {seed}");
        let chance = embrfs_sim::host::Chance::new(seed);
        (0..count).map(move |_| {
            let length = chance.below(200);
            (0..length)
                .map(|_| match chance.below(3) {
                    0 => chance.below(4) as u8,
                    _ => chance.next() as u8,
                })
                .collect()
        })
    }

    #[test]
    fn the_sound_images_are_sound() {
        for build in 0..3 {
            super::mount(&[build]);
        }
        for build in [super::Build::Single, super::Build::Striped] {
            super::Specimen::with(build, |volume| {
                let fleet = volume.changed(&[]);
                let mounted = embrfs_sim::machine::inspect(1, &fleet).expect("mounted");
                assert_eq!(mounted.volume(), volume.volume());
                let names = super::Names::try_new(super::HashWidth::Full).expect("memory");
                let view = names.open(&mounted, b"").expect("the head");
                let files = names.of(&mounted, &view);
                embrfs_sim::inspector::check(&mounted, Some(files), super::Depth::Copies, &[])
                    .expect("sound");
            });
        }
    }

    #[test]
    fn nodes_take_any_input() {
        for input in inputs(3000) {
            super::node(&input);
        }
    }

    #[test]
    fn journals_take_any_input() {
        for input in inputs(100) {
            super::journal(&input);
        }
    }

    #[test]
    fn images_take_any_input() {
        for input in inputs(200) {
            super::mount(&input);
        }
    }

    #[test]
    fn work_takes_any_input() {
        for input in inputs(100) {
            super::work(&input);
        }
    }

    #[test]
    fn the_target_takes_any_input() {
        super::volume(&[]);
        super::volume(&[3]);
        for control in 0..4u8 {
            for fill in [0u8, 1, 0x80, 0xff] {
                let mut input = vec![fill; 24 << 10];
                input[0] = control;
                super::volume(&input);
            }
        }
    }
}
