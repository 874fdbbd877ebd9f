// SPDX-License-Identifier: GPL-2.0

//! What a check says of copies that are too few or lie together, and that it tells how far it is wherever that may take long.

use embr_engine::check;
use embr_engine::check::Counted;
use embr_engine::check::Depth;
use embr_engine::check::Ended;
use embr_engine::check::Finding;
use embr_engine::check::Observer;
use embr_engine::check::Options;
use embr_engine::check::Stage;
use embr_engine::check::Use;
use embr_engine::format::engram::Lies;
use embr_engine::format::engram::Map;
use embr_engine::format::geometry::Geometry;
use embr_engine::format::member::Slot;
use embr_engine::format::pointer::Place;
use embr_engine::format::pointer::Places;
use embr_engine::names::HashWidth;
use embr_engine::names::Names;
use embr_engine::names::View;
use embr_engine::units::Blocks;
use embr_engine::units::Bytes;
use embr_engine::units::Level;
use embr_engine::volume::mounted::ENGRAMS;
use embr_engine::volume::mounted::NAMES;
use embrfs_sim::clerk;
use embrfs_sim::craft;
use embrfs_sim::fleet::DriveHandle;
use embrfs_sim::fleet::Fleet;
use embrfs_sim::forge;
use embrfs_sim::machine;
use embrfs_sim::specimen::Build;
use embrfs_sim::specimen::Specimen;

/// Hears everything, and has enough of one stage.
#[derive(Default)]
struct Listener {
    found: Vec<Finding>,
    at: Vec<(Stage, Counted)>,
    enough: Option<Stage>,
}

impl Observer for Listener {
    fn found(&mut self, what: &Finding) {
        assert!(!what.to_string().is_empty() && !what.kind().is_empty());
        self.found.push(*what);
    }

    fn at(&mut self, stage: Stage, counted: &Counted) -> bool {
        self.at.push((stage, *counted));
        self.enough != Some(stage)
    }
}

fn check(fleet: &Fleet, listener: &mut Listener) -> Result<Counted, Ended> {
    let mounted = machine::inspect_telling(1, fleet, &mut |_| {}).expect("mounted");
    let names = Names::try_new(HashWidth::Full).expect("memory");
    let view = View::first();
    let options = Options {
        memory: Bytes(1 << 20),
        depth: Depth::Copies,
        data: true,
        held: &[],
    };
    check::check(
        &mounted,
        Some(names.of(&mounted, &view)),
        &options,
        listener,
    )
}

fn findings(fleet: &Fleet) -> Vec<Finding> {
    let mut listener = Listener::default();
    check(fleet, &mut listener).expect("checked");
    listener.found
}

fn pair() -> Fleet {
    Specimen::with(Build::Pair, |s| s.with_records(&[]))
}

fn drives(fleet: &Fleet) -> Vec<(Slot, DriveHandle)> {
    fleet.drives().into_iter().map(|d| (d.slot(), d)).collect()
}

/// Only the first place, or that and one beside it on the same device.
fn less(places: &Places, again: bool) -> Places {
    let first = places.iter().next().expect("a place");
    let other = Place {
        block: Blocks(first.block.0 + 300),
        ..first
    };
    let few = [first, other];
    Places::new(&few[..1 + usize::from(again)]).expect("places")
}

fn forge_engram(again: bool) -> Fleet {
    let fleet = pair();
    let volume = machine::inspect(1, &fleet).expect("mounted").volume();
    let mut is_done = false;
    let mut edit = |spot: forge::Spot, bytes: &mut Vec<u8>| {
        if spot.tree != ENGRAMS || spot.level != Level(0) {
            return;
        }
        forge::entries(bytes, volume, |items| {
            for (_, value) in items.iter_mut() {
                let map = Map::parse(value).expect("memory").filter(|_| !is_done);
                if let Some(Map {
                    blocks,
                    policy,
                    lies: Lies::Copies(places),
                }) = map
                {
                    let map = Map::copied(blocks, policy, less(&places, again));
                    *value = map.encode().expect("memory").to_vec();
                    is_done = true;
                }
            }
        });
    };
    forge::forge(&drives(&fleet), &mut edit, &mut |_, _, _| {}).expect("forged");
    assert!(is_done);
    fleet
}

fn forge_node(again: bool) -> Fleet {
    let fleet = pair();
    let mut root = |_: Slot,
                    _: &mut embr_engine::format::root::Root,
                    bases: &mut Vec<embr_engine::tree::Base>| {
        let names = bases.iter_mut().find(|b| b.tree == NAMES);
        let top = names.and_then(|b| b.top.as_mut()).expect("a top");
        top.pointer.places = less(&top.pointer.places, again);
    };
    forge::forge(&drives(&fleet), &mut |_, _| {}, &mut root).expect("forged");
    fleet
}

/// Makes a volume with one copy less, or with two on one device.
type Forge = fn(bool) -> Fleet;
/// Whether that is the thing that was forged.
type IsIt = fn(&Use) -> bool;

fn is_engram(what: &Use) -> bool {
    matches!(what, Use::Engram(_))
}

fn is_node(what: &Use) -> bool {
    matches!(what, Use::Node(NAMES, ..))
}

#[test]
fn copies_that_are_too_few_or_lie_together() {
    assert_eq!(findings(&pair()), []);
    let cases: [(Forge, IsIt); 2] = [(forge_engram, is_engram), (forge_node, is_node)];
    for (forge, is_it) in cases {
        let few = |f: &Finding| match f {
            Finding::TooFew(what @ Use::Node(..), 1, 2) => is_it(what),
            Finding::Fewer(what @ Use::Engram(_), 1, 2) => is_it(what),
            _ => false,
        };
        let together = |f: &Finding| matches!(f, Finding::Together(what, _) if is_it(what));
        for again in [false, true] {
            let found = findings(&forge(again));
            // Both are on one device, so that there is one device of two.
            assert_eq!(found.iter().filter(|f| few(f)).count(), 1, "{found:?}");
            let twice = found.iter().filter(|f| together(f)).count();
            assert_eq!(twice, usize::from(again), "{found:?}");
            let these = found.iter().filter(|f| few(f) || together(f));
            let is_note = |f: &&Finding| matches!(f, Finding::Fewer(..));
            assert!(these.clone().all(|f| f.is_damage() != is_note(&f)));
            assert!(these
                .clone()
                .all(|f| f.tree().is_some() != is_it(&Use::Engram(Default::default()))));
        }
    }
}

#[test]
fn without_redundancy_two_places_on_one_device_are_as_they_should_be() {
    let single = Specimen::with(Build::Single, |s| s.with_records(&[]));
    assert_eq!(findings(&single), []);
}

#[test]
fn what_was_written_without_a_device_has_fewer_copies_and_is_no_damage() {
    let fleet = Fleet::new(1, &[Bytes(32 << 20); 2]);
    machine::make(2, &fleet, Geometry::new(1, 1).expect("a geometry")).expect("made");
    fleet.take(Slot::new(1).expect("a slot"));
    let mounted = machine::mount(3, &fleet, machine::READ_WRITE).expect("mounted");
    let names = Names::try_new(HashWidth::Full).expect("memory");
    let view = View::first();
    let files = names.of(&mounted, &view);
    files.format(&clerk::root()).expect("formatted");
    mounted.close().expect("unmounted");
    let found = findings(&fleet);
    let is_fewer = |f: &Finding| matches!(f, Finding::Fewer(what, 1, 2) if is_node(what));
    assert!(found.iter().any(is_fewer), "{found:?}");
    assert!(!found.iter().any(Finding::is_damage), "{found:?}");
}

/// Every stage says that it began; those that go on for long say so again and again; and each ends when the observer wants no more.
#[test]
fn every_stage_tells_how_far_it_is_and_can_be_ended() {
    let fleet = pair();
    let mut listener = Listener::default();
    let counted = check(&fleet, &mut listener).expect("checked");
    assert!(counted.engrams != 0 && counted.blocks != 0);
    for stage in Stage::ALL {
        assert!(listener.at.iter().any(|(s, _)| *s == stage), "{stage:?}");
        let mut tired = Listener {
            enough: Some(stage),
            ..Listener::default()
        };
        assert_eq!(
            check(&fleet, &mut tired),
            Err(Ended::Interrupted),
            "{stage:?}"
        );
        assert_eq!(tired.at.last().map(|(s, _)| *s), Some(stage));
    }
    // Between two times that it is told of, so many items are gone through at most.
    let is_name = |item: &&craft::Item| item.0 == NAMES;
    let all = Specimen::with(Build::Pair, |s| s.items().iter().filter(is_name).count()) as u64;
    for (stage, items) in [(Stage::Files, all), (Stage::Names, counted.items)] {
        let these = listener.at.iter().filter(|(s, _)| *s == stage);
        let told: Vec<u64> = these.map(|(_, c)| c.passed).collect();
        assert!(told.len() as u64 > items / 256, "{stage:?} {told:?}");
        // Names are gone through once for each snapshot and head, from the beginning.
        for turn in told.chunk_by(|before, after| before < after) {
            assert_eq!(turn[0], 0, "{stage:?} {told:?}");
            assert!(turn.windows(2).all(|w| w[1] - w[0] == 256), "{told:?}");
        }
    }
}
