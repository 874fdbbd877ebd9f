// SPDX-License-Identifier: GPL-2.0

//! Operations on names, drawn from a seed, beside a plain model.

use embr_engine::format::geometry::Geometry;
use embr_engine::names::HashWidth;
use embr_engine::names::Names;
use embr_engine::names::View;
use embr_engine::units::Bytes;
use embr_engine::volume::Mounted;
use embrfs_sim::clerk;
use embrfs_sim::clerk::Clerk;
use embrfs_sim::files::Files as Model;
use embrfs_sim::files::Refused;
use embrfs_sim::fleet::Fleet;
use embrfs_sim::host::Chance;
use embrfs_sim::machine;
use embrfs_sim::machine::Simulated;
use std::time::SystemTime;

fn seed() -> u64 {
    let seed = match std::env::var("EMBRFS_SEED") {
        Ok(seed) => seed.parse().expect("a number"),
        Err(_) => {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            now.expect("a clock").as_nanos() as u64
        }
    };
    println!("EMBRFS_SEED={seed}");
    seed
}

fn drives(chance: &Chance, count: usize) -> Fleet {
    let fleet = Fleet::new(chance.next(), &vec![Bytes(32 << 20); count]);
    let geometry = Geometry::new(1, count as u8 - 1).expect("a geometry");
    machine::make(chance.next(), &fleet, geometry).expect("made");
    fleet
}

fn mount(chance: &Chance, fleet: &Fleet) -> Mounted<Simulated> {
    machine::mount(chance.next(), fleet, machine::READ_WRITE).expect("mounted")
}

/// Compares everything.
fn compare(names: &Names, mounted: &Mounted<Simulated>, view: &View, model: &Model, batch: usize) {
    let found = clerk::walk(names.of(mounted, view), batch).unwrap_or_else(|why| panic!("{why}"));
    for (number, file) in &model.files {
        assert_eq!(found.files.get(number), Some(file), "inode {number}");
    }
    assert_eq!(found.files.len(), model.files.len());
}

fn beside_the_model(width: HashWidth, names_in_all: usize, steps: usize) {
    let seed = seed();
    let chance = Chance::new(seed);
    let fleet = drives(&chance, 1);
    let mut mounted = mount(&chance, &fleet);
    let mut names = Names::try_new(width).expect("memory");
    let view = View::first();
    names
        .of(&mounted, &view)
        .format(&clerk::root())
        .expect("formatted");
    let mut model = clerk::empty();
    let mut clerk = Clerk::new(&chance, names_in_all);
    for step in 0..steps {
        (clerk.step(names.of(&mounted, &view), &mut model))
            .unwrap_or_else(|why| panic!("step {step}: {why}"));
        match chance.below(400) {
            0 => {
                mounted.close().expect("closed");
                mounted = mount(&chance, &fleet);
                names = Names::try_new(width).expect("memory");
                compare(&names, &mounted, &view, &model, 50);
            }
            1 => mounted.checkpoint().expect("a checkpoint"),
            2..=5 => {
                let batch = chance.one(&[1, 2, 7, 1000]);
                compare(&names, &mounted, &view, &model, batch);
            }
            _ => {}
        }
    }
    compare(&names, &mounted, &view, &model, 3);
    for (what, count) in &clerk.seen {
        println!("{count:6} {} {:?}", what.0, what.1);
    }
    for what in [
        ("create", None),
        ("create", Some(Refused::Exists)),
        ("create", Some(Refused::NotDirectory)),
        ("create", Some(Refused::NotFound)),
        ("create", Some(Refused::NameTooLong)),
        ("create", Some(Refused::Invalid)),
        ("mkdir", None),
        ("mknod", None),
        ("symlink", None),
        ("symlink", Some(Refused::NameTooLong)),
        ("tmpfile", None),
        ("link", None),
        ("link", Some(Refused::NotPermitted)),
        ("unlink", None),
        ("unlink", Some(Refused::IsDirectory)),
        ("rmdir", None),
        ("rmdir", Some(Refused::NotEmpty)),
        ("rmdir", Some(Refused::NotDirectory)),
        ("rename", None),
        ("rename", Some(Refused::Invalid)),
        ("rename", Some(Refused::NotEmpty)),
        ("rename", Some(Refused::IsDirectory)),
        ("rename", Some(Refused::NotDirectory)),
        ("rename no-replace", Some(Refused::Exists)),
        ("rename exchange", None),
        ("rename exchange", Some(Refused::Invalid)),
        ("rename whiteout", None),
        ("forget", None),
        ("setattr", None),
    ] {
        assert!(clerk.seen.contains_key(&what), "{what:?} never happened");
    }
}

#[test]
fn names_are_as_the_model_has_them() {
    beside_the_model(HashWidth::Full, 40, 6000);
}

#[test]
fn names_that_collide_are_as_the_model_has_them() {
    beside_the_model(HashWidth::Narrow, 600, 6000);
}
