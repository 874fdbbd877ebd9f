// SPDX-License-Identifier: GPL-2.0

//! Stripes of several shapes: what is written comes back, whichever drives are lost or rot, and space comes back when all is dead.

use embr_engine::check::Defect;
use embr_engine::check::Finding;
use embr_engine::check::Flaw;
use embr_engine::env::Devices as _;
use embr_engine::env::WritableDevice as _;
use embr_engine::file::Way;
use embr_engine::format::journal::Extent;
use embr_engine::format::member::Slot;
use embr_engine::format::stripe;
use embr_engine::format::stripe::encode_contents;
use embr_engine::format::stripe::encode_live;
use embr_engine::format::stripe::Held;
use embr_engine::format::stripe::Kind;
use embr_engine::format::stripe::Layout;
use embr_engine::format::stripe::Totals;
use embr_engine::names::Names;
use embr_engine::names::Users;
use embr_engine::names::View;
use embr_engine::tree::Key;
use embr_engine::units::Blocks;
use embr_engine::units::Bytes;
use embr_engine::units::EngramId;
use embr_engine::units::InodeNo;
use embr_engine::units::StripeId;
use embr_engine::units::BLOCK_SIZE;
use embr_engine::volume::mounted::STRIPES;
use embr_engine::volume::Machine as _;
use embr_engine::volume::Mounted;
use embrfs_sim::contents;
use embrfs_sim::desk::create;
use embrfs_sim::desk::drives;
use embrfs_sim::desk::mount;
use embrfs_sim::desk::names;
use embrfs_sim::desk::one_file;
use embrfs_sim::desk::pattern;
use embrfs_sim::desk::read;
use embrfs_sim::desk::write;
use embrfs_sim::fleet::Fleet;
use embrfs_sim::host::seed;
use embrfs_sim::host::Chance;
use embrfs_sim::inspector::with_data as findings;
use embrfs_sim::machine::Simulated;
use embrfs_sim::scribe::Scribe;
use embrfs_sim::scribe::NOW;
use embrfs_sim::stripes::layouts;

const SIZE: Bytes = Bytes(32 << 20);

/// Sets of `count` of the numbers below `of`.
fn choices(of: usize, count: usize) -> impl Iterator<Item = Vec<usize>> {
    let sets = (0u32..1 << of).filter(move |set| set.count_ones() as usize == count);
    sets.map(move |set| (0..of).filter(|n| (set >> n) & 1 == 1).collect())
}

fn all(mounted: &Mounted<Simulated>) -> Vec<Layout> {
    let all = layouts(mounted).expect("stripes");
    all.into_values().collect()
}

/// Overwrites a fragment of each stripe.
fn rot(fleet: &Fleet, layouts: &[Layout], chance: &Chance, which: impl Fn(usize) -> Vec<usize>) {
    for (n, layout) in layouts.iter().enumerate() {
        for fragment in which(n) {
            let place = layout.place(fragment).expect("a place");
            let junk = pattern(layout.shape.length(fragment), chance.next());
            let drive = fleet.drive(place.device).expect("a drive");
            let at = place.block.bytes().expect("a place");
            drive.write(at, &junk).expect("written");
        }
    }
}

#[test]
fn what_is_written_comes_back() {
    let chance = &Chance::new(seed());
    for (count, shape) in [(6, (4, 2)), (3, (2, 1)), (11, (8, 3)), (7, (4, 2))] {
        let fleet = drives(chance, SIZE, count, shape);
        let mut mounted = mount(chance, &fleet);
        let view = View::first();
        let mut names_of = names();
        one_file(&mounted, &names_of, &view);
        let mut files = Vec::new();
        for (n, blocks) in [1usize, 2, 3, 5, 16, 64, 255, 256, 257, 700]
            .into_iter()
            .enumerate()
        {
            let of = names_of.of(&mounted, &view);
            let file = create(of, format!("{n}").as_bytes());
            let bytes = pattern(blocks, chance.next());
            write(of, file, n as u64, &bytes, Way::Sealed);
            files.push((file, n as u64, bytes));
        }
        for again in 0..2 {
            contents::audit(&mounted).unwrap_or_else(|why| panic!("{shape:?}: {why}"));
            let of = names_of.of(&mounted, &view);
            for (file, at, bytes) in &files {
                let found = read(of, *file, *at, bytes.len() / BLOCK_SIZE);
                assert!(found == *bytes, "{shape:?}: {file}");
            }
            if again == 0 {
                mounted.close().expect("closed");
                mounted = mount(chance, &fleet);
                names_of = names();
            }
        }
        let wide = usize::from(shape.0);
        let stripes = all(&mounted);
        assert!(stripes.iter().any(|s| s.shape.data() == wide), "{shape:?}");
        assert!(stripes
            .iter()
            .all(|s| s.shape.parity() == usize::from(shape.1)));
        let names = names_of.of(&mounted, &view);
        for n in 0..files.len() {
            let name = format!("{n}");
            names
                .unlink(InodeNo::ROOT, name.as_bytes(), Users::None, NOW)
                .expect("unlinked");
        }
        assert_eq!(contents::audit(&mounted), Ok(0));
        assert_eq!(all(&mounted), []);
    }
}

/// Any two fragments of each stripe rot: all is read as it was written, and repaired where it was read.
#[test]
fn rotten_fragments_are_rebuilt() {
    let chance = &Chance::new(seed());
    for lost in choices(6, 2) {
        let fleet = drives(chance, SIZE, 6, (4, 2));
        let mounted = mount(chance, &fleet);
        let view = View::first();
        let names = names();
        let file = one_file(&mounted, &names, &view);
        let files = names.of(&mounted, &view);
        let bytes = pattern(259, chance.next());
        write(files, file, 0, &bytes, Way::Sealed);
        mounted.sync().expect("durable");
        let stripes = all(&mounted);
        let of = |n: usize| {
            let width = stripes[n].shape.width();
            let here = lost.iter().copied().filter(|f| *f < width);
            here.collect()
        };
        rot(&fleet, &stripes, chance, of);
        assert!(read(files, file, 0, 259) == bytes, "{lost:?}");
        // What was data and rotten was put right.
        for layout in &stripes {
            for fragment in 0..layout.shape.data() {
                let place = layout.place(fragment).expect("a place");
                let mut found = vec![0; layout.shape.length(fragment) * BLOCK_SIZE];
                let at = place.block.bytes().expect("a place");
                let devices = mounted.machine().devices();
                devices.read(place.device, at, &mut found).expect("read");
                let is_there = bytes
                    .windows(found.len())
                    .step_by(BLOCK_SIZE)
                    .any(|w| w == found);
                assert!(is_there, "{lost:?}: fragment {fragment} was not repaired");
            }
        }
    }
}

/// One fragment more than there is parity: an error that says what is lost, and never a wrong byte.
#[test]
fn what_is_beyond_parity_is_an_error() {
    let chance = &Chance::new(seed());
    for lost in choices(6, 3) {
        let fleet = drives(chance, SIZE, 6, (4, 2));
        let mounted = mount(chance, &fleet);
        let view = View::first();
        let names = names();
        let file = one_file(&mounted, &names, &view);
        let files = names.of(&mounted, &view);
        let bytes = pattern(256, chance.next());
        write(files, file, 0, &bytes, Way::Sealed);
        mounted.sync().expect("durable");
        rot(&fleet, &all(&mounted), chance, |_| lost.clone());
        for block in 0..256u64 {
            let mut found = vec![0; BLOCK_SIZE];
            let at = embr_engine::units::FileBlock(block);
            let done = files.read(file, at, &mut found);
            let is_lost = lost.contains(&(block as usize / 64));
            assert_eq!(done.is_err(), is_lost, "{lost:?}: block {block}");
            if done.is_ok() {
                assert!(found == bytes[block as usize * BLOCK_SIZE..][..BLOCK_SIZE]);
            }
        }
    }
}

/// Overwriting, punching, truncating and removing, in any order, beside plain bytes.
#[test]
fn a_file_in_stripes_beside_plain_bytes() {
    let chance = &Chance::new(seed());
    for shape in [(4, 2), (2, 1)] {
        let fleet = drives(chance, SIZE, 6, shape);
        let mut mounted = mount(chance, &fleet);
        let mut names_of = names();
        let view = View::first();
        let file = one_file(&mounted, &names_of, &view);
        let mut scribe = Scribe::new(chance, file, 200);
        let mut most = 0;
        for step in 0..400 {
            let files = names_of.of(&mounted, &view);
            let (_, done) = scribe.step(files);
            done.unwrap_or_else(|why| panic!("step {step}: {why}"));
            if chance.below(4) == 0 {
                (scribe.compare(files)).unwrap_or_else(|why| panic!("step {step}: {why}"));
            }
            if chance.below(10) == 0 {
                contents::audit(&mounted).unwrap_or_else(|why| panic!("step {step}: {why}"));
            }
            most = most.max(all(&mounted).len());
            if chance.below(40) == 0 {
                mounted.close().expect("closed");
                mounted = mount(chance, &fleet);
                names_of = names();
            }
        }
        assert!(most > 1, "no stripes");
        let files = names_of.of(&mounted, &view);
        (scribe.compare(files)).unwrap_or_else(|why| panic!("{why}"));
        files
            .unlink(InodeNo::ROOT, b"file", Users::None, NOW)
            .expect("unlinked");
        assert_eq!(contents::audit(&mounted), Ok(0));
        let slot = Slot::new(0).expect("a slot");
        assert!(mounted.room(slot).free.0 > 0);
    }
}

/// A stripe of five blocks in three fragments, and one of parity.
fn small(chance: &Chance) -> (Fleet, Mounted<Simulated>, Names, StripeId, InodeNo) {
    let fleet = drives(chance, SIZE, 4, (3, 1));
    let mounted = mount(chance, &fleet);
    let names = names();
    let view = View::first();
    let file = one_file(&mounted, &names, &view);
    let files = names.of(&mounted, &view);
    let bytes = pattern(5, chance.next());
    write(files, file, 0, &bytes, Way::Sealed);
    mounted.sync().expect("durable");
    let stripe = *layouts(&mounted)
        .expect("stripes")
        .keys()
        .next()
        .expect("one");
    (fleet, mounted, names, StripeId(stripe), file)
}

fn set(mounted: &Mounted<Simulated>, key: Key, value: Option<&[u8]>) {
    let mut txn = mounted.begin().expect("begun");
    match value {
        Some(value) => txn.set(STRIPES, key, value).expect("set"),
        None => txn.remove(STRIPES, key).expect("removed"),
    }
    txn.commit().expect("committed");
}

#[test]
fn what_is_wrong_with_a_stripe_is_told() {
    let chance = &Chance::new(seed());
    let view = View::first();
    let (_, mounted, names, ..) = small(chance);
    assert_eq!(findings(&mounted, &names, &view), []);
    let item = |kind, sub| move |stripe| stripe::key(stripe, kind, sub);
    type Of = Box<dyn Fn(StripeId) -> Key>;
    let cases: [(Of, Option<Vec<u8>>, Flaw); 8] = [
        (Box::new(item(Kind::Layout, 0)), None, Flaw::NoLayout),
        (Box::new(item(Kind::Live, 0)), None, Flaw::NoLive),
        (
            Box::new(item(Kind::Live, 0)),
            Some(encode_live(4).to_vec()),
            Flaw::Live(4, 5),
        ),
        (
            Box::new(item(Kind::Live, 0)),
            Some(encode_live(0).to_vec()),
            Flaw::Unlisted,
        ),
        (Box::new(item(Kind::Contents, 1)), None, Flaw::NoContents(1)),
        (Box::new(item(Kind::Hashes, 0)), None, Flaw::NoHash(3)),
        (
            Box::new(item(Kind::Hashes, 0)),
            Some(vec![1, 2]),
            Flaw::NoHash(3),
        ),
        (
            Box::new(item(Kind::Numbers, 7)),
            Some(vec![1]),
            Flaw::Number,
        ),
    ];
    for (key, value, flaw) in cases {
        let (_, mounted, names, stripe, _) = small(chance);
        let key = key(stripe);
        set(&mounted, key, value.as_deref());
        let found = findings(&mounted, &names, &view);
        let flaw = match flaw {
            // An item of no kind that a stripe has.
            Flaw::Number => Flaw::Senseless(key),
            flaw => flaw,
        };
        let expected = Finding::Stripe(stripe, flaw);
        assert!(found.contains(&expected), "{expected}: {found:?}");
        assert!(expected.is_damage() && expected.tree() == Some(STRIPES));
        assert!(!expected.to_string().is_empty());
    }
    // What is said of all: one that wastes nothing is listed, and the sums are others.
    let (_, mounted, names, stripe, _) = small(chance);
    let key = stripe::wasteful(3, stripe);
    set(&mounted, key, Some(&[1]));
    let sums = stripe::key(StripeId::NONE, Kind::Totals, 0);
    let said = Totals {
        taken: Blocks(7),
        live: Blocks(4),
    };
    set(&mounted, sums, Some(&said.encode()));
    // Five blocks in rows of two, and two of parity.
    let are = Totals {
        live: Blocks(5),
        ..said
    };
    let expected = [
        Finding::Stripe(stripe, Flaw::Listed),
        Finding::Stripe(StripeId::NONE, Flaw::Totals(said, are)),
    ];
    assert_eq!(findings(&mounted, &names, &view), expected);
    assert!(expected.iter().all(|f| !f.to_string().is_empty()));
    // It holds other blocks than the engram says: both say so.
    let (_, mounted, names, stripe, _) = small(chance);
    let held = |first| Held {
        engram: EngramId(1),
        first,
        blocks: 1,
    };
    let value = encode_contents(&[held(1), held(0)]).expect("memory");
    set(
        &mounted,
        stripe::key(stripe, Kind::Contents, 0),
        Some(&value),
    );
    let found = findings(&mounted, &names, &view);
    assert!(
        found.contains(&Finding::Stripe(stripe, Flaw::Holds(EngramId(1)))),
        "{found:?}"
    );
    assert!(
        found.contains(&Finding::Engram(EngramId(1), Defect::Pieces)),
        "{found:?}"
    );
}

/// Parity and dead blocks are read as well.
#[test]
fn rotten_blocks_of_any_fragment_are_told() {
    let chance = &Chance::new(seed());
    let view = View::first();
    for fragment in 0..4 {
        let (fleet, mounted, names, stripe, file) = small(chance);
        // A block of each data fragment but the last is dead.
        for at in [0, 2] {
            let files = names.of(&mounted, &view);
            write(files, file, at, &pattern(1, chance.next()), Way::Sealed);
        }
        mounted.sync().expect("durable");
        assert_eq!(findings(&mounted, &names, &view), []);
        let stripes = all(&mounted);
        rot(&fleet, &stripes, chance, |_| vec![fragment]);
        let layout = &stripes[0];
        let rows = layout.shape.length(fragment) as u64;
        let place = layout.place(fragment).expect("a place");
        let expected: Vec<Finding> = (0..rows)
            .map(|row| {
                let extent = Extent {
                    device: place.device,
                    start: Blocks(place.block.0 + row),
                    blocks: Blocks(1),
                };
                Finding::RottenStripe(stripe, extent)
            })
            .collect();
        assert_eq!(
            findings(&mounted, &names, &view),
            expected,
            "fragment {fragment}"
        );
    }
}
