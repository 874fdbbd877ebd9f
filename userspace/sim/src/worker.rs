// SPDX-License-Identifier: GPL-2.0

//! Somebody who works on a volume that anybody may have made: mounts it read-write if that can be, changes what there is in every way,
//! unmounts it, does all that again, and checks it. Errors are fine. A panic or a write where nobody may write is not, whatever
//! the volume says of itself; nor is it to go on for ever, which whoever calls has to look after.

use crate::fleet::Fleet;
use crate::host::Chance;
use crate::image;
use crate::inspector::Found;
use crate::machine;
use crate::machine::Simulated;
use crate::mender;
use embr_engine::check;
use embr_engine::check::path;
use embr_engine::check::Depth;
use embr_engine::file::Dirty;
use embr_engine::file::Pair;
use embr_engine::file::Way;
use embr_engine::file::Written;
use embr_engine::file::MAX_SIZE;
use embr_engine::format::geometry::Policy;
use embr_engine::format::inode::FileType;
use embr_engine::format::layout;
use embr_engine::hash::Scalar;
use embr_engine::names::Attributes;
use embr_engine::names::Cookie;
use embr_engine::names::Error;
use embr_engine::names::Extended;
use embr_engine::names::Files;
use embr_engine::names::HashWidth;
use embr_engine::names::Mark;
use embr_engine::names::Mode;
use embr_engine::names::Names;
use embr_engine::names::New;
use embr_engine::names::Put;
use embr_engine::names::Users;
use embr_engine::names::View;
use embr_engine::names::What;
use embr_engine::units::Blocks;
use embr_engine::units::Bytes;
use embr_engine::units::FileBlock;
use embr_engine::units::InodeNo;
use embr_engine::units::Timestamp;
use embr_engine::units::BLOCK_SIZE;
use embr_engine::volume::probe;
use embr_engine::volume::recover::Options;
use embr_engine::volume::Mounted;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt;

/// Files that are looked at, at most.
const MOST_FILES: usize = 300;
/// Operations between two mounts.
const OPERATIONS: usize = 50;
const NOW: Timestamp = Timestamp {
    seconds: 7,
    nanos: 8,
};
const NAMES: &[&[u8]] = &[
    b"user.short",
    b"user.long",
    b"user.new",
    b"system.posix_acl_access",
];

/// How often each thing was done, and how often it could not be.
#[derive(Debug, Default)]
pub struct Done(pub BTreeMap<&'static str, (u64, u64)>);

impl Done {
    fn note<T, E: fmt::Display>(&mut self, what: &'static str, result: Result<T, E>) -> Option<T> {
        let (done, refused) = self.0.entry(what).or_default();
        match result {
            Ok(it) => {
                *done += 1;
                Some(it)
            }
            Err(why) => {
                assert!(!why.to_string().is_empty(), "no reason is given");
                *refused += 1;
                None
            }
        }
    }

    fn tell<T, E: fmt::Display>(&mut self, what: &'static str, result: Result<T, E>) {
        self.note(what, result);
    }
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (what, (done, refused)) in &self.0 {
            writeln!(f, "{what:20} {done:8} done {refused:8} refused")?;
        }
        Ok(())
    }
}

/// The blocks of system areas that hold neither superblocks nor roots.
fn reserved(fleet: &Fleet) -> Vec<image::Block> {
    let superblock = (layout::SUPERBLOCK_SIZE / BLOCK_SIZE) as u64;
    let ring = layout::RING_SLOTS as u64;
    let mut blocks = Vec::new();
    for drive in fleet.snapshot().drives.values() {
        let size = drive.durable.size();
        let used: Vec<(u64, u64)> = layout::superblocks(size)
            .map(|(_, at)| (at, superblock))
            .chain(layout::rings(size).map(|at| (at, ring)))
            .map(|(at, n)| (at.whole_blocks().0, n))
            .collect();
        for (_, area) in layout::areas(size) {
            let area = area.whole_blocks().0;
            let all = area..area + layout::AREA_SIZE.whole_blocks().0;
            let all = all.filter(|b| *b < drive.durable.blocks());
            let rest = all.filter(|b| !used.iter().any(|(at, n)| (*at..at + n).contains(b)));
            blocks.extend(rest.map(|block| drive.visible().get(block)));
        }
    }
    blocks
}

/// How many drives are members of some volume.
fn members(fleet: &Fleet) -> usize {
    let drives = fleet.drives();
    let sound = drives.iter().filter(|d| probe(*d, &Scalar).is_ok());
    sound.count()
}

/// Works on the volume that these drives make, if they do; what is done follows from `chance`.
pub fn work(fleet: &Fleet, chance: &Chance, done: &mut Done) {
    let untouched = reserved(fleet);
    let before = members(fleet);
    let read_only = Options {
        read_only: true,
        ..machine::READ_WRITE
    };
    done.note("mount read-only", machine::mount(1, fleet, read_only));
    for round in 0..2 {
        let mounted = machine::mount(2 + round, fleet, machine::READ_WRITE);
        let Some(mounted) = done.note("mount", mounted) else {
            break;
        };
        use_it(&mounted, chance, done);
        if chance.below(16) == 0 {
            fill(&mounted, done);
        }
        done.note("sync", mounted.sync());
        if chance.below(4) != 0 {
            done.note("unmount", mounted.close());
        }
    }
    inspect(fleet, done);
    if chance.below(4) == 0 {
        done.note("repair", mender::mend(6, fleet, mender::PLAIN));
        inspect(fleet, done);
    }
    assert!(
        reserved(fleet) == untouched,
        "something was written to a system area that is neither a superblock nor a root"
    );
    assert!(members(fleet) >= before, "a superblock was lost");
}

/// Checks it. What is wrong is a finding, not an end.
fn inspect(fleet: &Fleet, done: &mut Done) {
    let mounted = machine::inspect_telling(5, fleet, &mut |_| {});
    let Some(mounted) = done.note("inspect", mounted) else {
        return;
    };
    let Ok(names) = Names::try_new(HashWidth::Full) else {
        return;
    };
    let view = View::first();
    let options = check::Options {
        memory: Bytes(1 << 16),
        depth: Depth::Copies,
        data: true,
        held: &[],
    };
    let mut found = Found::default();
    let files = names.of(&mounted, &view);
    let ended = check::check(&mounted, Some(files), &options, &mut found);
    assert!(ended.is_ok(), "{ended:?}");
    let sound = match found.0.len() {
        0 => Ok(()),
        some => Err(format!("{some} findings")),
    };
    done.note("fsck", sound);
}

/// A file, and a name that it has, or had.
#[derive(Clone, Debug)]
struct Known {
    directory: InodeNo,
    name: Vec<u8>,
    number: InodeNo,
}

fn all_names(files: Files<'_, Simulated>) -> Vec<Known> {
    let mut known = Vec::new();
    let mut seen = BTreeSet::new();
    let mut ahead = vec![InodeNo::ROOT];
    while let Some(directory) = ahead.pop() {
        if seen.len() > MOST_FILES || !seen.insert(directory) {
            continue;
        }
        let mut from = Cookie::FIRST;
        while let Ok(batch) = files.readdir(directory, from, 50) {
            for entry in batch.entries.iter() {
                from = entry.cookie.next();
                ahead.push(entry.target.inode);
                known.push(Known {
                    directory,
                    name: entry.name.to_vec(),
                    number: entry.target.inode,
                });
            }
            if batch.is_last || batch.entries.is_empty() {
                break;
            }
        }
    }
    known
}

fn use_it(mounted: &Mounted<Simulated>, chance: &Chance, done: &mut Done) {
    let Ok(names) = Names::try_new(HashWidth::Full) else {
        return;
    };
    let first = View::first();
    let opened = done.note("open", names.open(mounted, b""));
    let view = opened.as_deref().unwrap_or(&first);
    let files = names.of(mounted, view);
    // As the module does: what is damaged is told, and stays.
    let mut damage = 0u64;
    let mut damaged = |_: Error| -> Result<(), Error> {
        damage += 1;
        Ok(())
    };
    done.note("resume", files.resume_but(&mut damaged));
    done.note("forget orphans", files.forget_orphans_but(&mut damaged));
    let known = all_names(files);
    let is_regular = |k: &&Known| {
        let inode = files.inode(k.number);
        inode.is_ok_and(|inode| inode.kind == FileType::Regular)
    };
    let regular: Vec<Known> = known.iter().filter(is_regular).cloned().collect();
    let _ = mounted.statfs();
    for _ in 0..OPERATIONS {
        let choices = match chance.below(3) {
            0 => known.as_slice(),
            _ => regular.as_slice(),
        };
        let any = || match choices {
            [] => Known {
                directory: InodeNo::ROOT,
                name: b"file".to_vec(),
                number: InodeNo(chance.next()),
            },
            known => known[chance.below(known.len())].clone(),
        };
        let mut work = Work {
            mounted,
            of: &names,
            files,
            chance,
            done,
        };
        match chance.below(4) {
            0 => work.names(&any(), &any()),
            1 => work.contents(any().number),
            2 => work.others(&any()),
            _ => work.wide(&any(), &any()),
        }
    }
}

/// Writes until there is no room, so that everything is given out that may be.
pub fn fill(mounted: &Mounted<Simulated>, done: &mut Done) {
    let Ok(names) = Names::try_new(HashWidth::Full) else {
        return;
    };
    let view = View::first();
    let files = names.of(mounted, &view);
    let new = New {
        what: What::Regular,
        permissions: 0o600,
        uid: 0,
        gid: 0,
        flags: 0,
        project: 0,
        now: NOW,
    };
    let Some(made) = done.note("create", files.create(InodeNo::ROOT, b"full", &new)) else {
        return;
    };
    let mut at = FileBlock(0);
    for step in [128, 8, 1] {
        let bytes = vec![0xa5; step * BLOCK_SIZE];
        for n in 0..1000u64 {
            let dirty = [Dirty { at, bytes: &bytes }];
            let written = Written::default();
            let wrote = files.write(made.what.number, &dirty, Way::Sealed, &written);
            if done.note("fill", wrote).is_none() {
                break;
            }
            at = FileBlock(at.0 + step as u64);
            // What was freed may be given out once it is no longer needed.
            if n % 64 == 63 {
                done.note("checkpoint", mounted.checkpoint());
            }
        }
    }
    done.note("checkpoint", mounted.checkpoint());
}

struct Work<'w> {
    mounted: &'w Mounted<Simulated>,
    of: &'w Names,
    files: Files<'w, Simulated>,
    chance: &'w Chance,
    done: &'w mut Done,
}

impl Work<'_> {
    fn names(&mut self, it: &Known, other: &Known) {
        let files = self.files;
        let name = format!("new {}", self.chance.next() % 50).into_bytes();
        let what = [What::Regular, What::Directory, What::Symlink(b"to")];
        let new = New {
            what: self.chance.one(&what),
            permissions: 0o644,
            uid: 0,
            gid: 0,
            flags: 0,
            project: 0,
            now: NOW,
        };
        let (from, to) = (
            (it.directory, &it.name[..]),
            (other.directory, &other.name[..]),
        );
        let users = self.chance.one(&[Users::None, Users::Some]);
        let done = &mut *self.done;
        match self.chance.below(8) {
            0 => done.tell("create", files.create(it.directory, &name, &new)),
            1 => {
                let removed = files.unlink(from.0, from.1, users, NOW);
                done.tell("unlink", removed);
                if self.chance.below(2) == 0 {
                    done.note("forget", files.forget(it.number));
                }
            }
            2 => done.tell("rmdir", files.rmdir(from.0, from.1, users, NOW)),
            3 => {
                let renamed = files.rename(from, to, Mode::Replace, users, NOW);
                done.note("rename", renamed);
            }
            4 => {
                let renamed = files.rename(from, to, Mode::Exchange, Users::None, NOW);
                done.note("exchange", renamed);
            }
            5 => {
                let renamed = files.rename(from, (to.0, &name), Mode::Replace, Users::None, NOW);
                done.note("rename to new", renamed);
            }
            6 => done.tell("link", files.link(it.number, to.0, &name, NOW)),
            _ => done.tell("tmpfile", files.create_orphan(&new)),
        }
    }

    fn contents(&mut self, number: InodeNo) {
        let (files, chance) = (self.files, self.chance);
        let size = files.inode(number).map_or(Bytes(0), |inode| inode.size);
        let at = Bytes(chance.one(&[
            0,
            4096,
            5000,
            40 << 12,
            166_000,
            1 << 40,
            size.0,
            MAX_SIZE.0,
        ]));
        let more = chance.one(&[1, 4096, 9000, 1 << 20, 1 << 50, MAX_SIZE.0]);
        let to = Bytes(at.0.saturating_add(more));
        let block = FileBlock(at.0 / BLOCK_SIZE as u64);
        let end = FileBlock(to.0.div_ceil(BLOCK_SIZE as u64));
        let near = FileBlock(block.0.saturating_add(1 + chance.below(40) as u64));
        let done = &mut *self.done;
        match chance.below(9) {
            0..=2 => {
                let bytes = vec![3; BLOCK_SIZE * (1 + chance.below(40))];
                let dirty = [Dirty {
                    at: block,
                    bytes: &bytes,
                }];
                let way = chance.one(&[Way::Inline, Way::Sealed]);
                let written = Written {
                    size: Some(to.min(MAX_SIZE)),
                    ..Written::default()
                };
                done.note("write", files.write(number, &dirty, way, &written));
            }
            3 => done.tell(
                "truncate",
                files.truncate(number, chance.one(&[at, to]), NOW),
            ),
            4 => done.tell("punch", files.punch(number, at, to, NOW)),
            5 => done.tell("zero", files.zero(number, at, to, None, NOW)),
            6 => {
                let set_aside = files.preallocate(number, block, near, None, NOW);
                done.note("preallocate", set_aside);
            }
            7 => {
                let to = chance.one(&[near, end]);
                done.note("collapse", files.collapse(number, block, to, NOW));
            }
            _ => {
                let blocks = chance.one(&[1, 3, 40, 1 << 50, u64::MAX]);
                done.note("insert", files.insert(number, block, blocks, NOW));
            }
        }
    }

    fn others(&mut self, it: &Known) {
        let (files, chance, number) = (self.files, self.chance, it.number);
        let size = files.inode(number).map_or(Bytes(0), |inode| inode.size);
        let done = &mut *self.done;
        let name = chance.one(NAMES);
        match chance.below(12) {
            0 | 1 => {
                let mut buffer = [0; 2 * BLOCK_SIZE];
                let block = chance.one(&[0, 1, 3, 40, size.0 / BLOCK_SIZE as u64]);
                done.note("read", files.read(number, FileBlock(block), &mut buffer));
            }
            2 => {
                let most = FileBlock(u64::MAX);
                done.note("pieces", files.pieces(number, FileBlock(0), most, 100));
            }
            3 => {
                let value = vec![1; chance.one(&[0, 20, 5000, 65536, 65537])];
                let put = chance.one(&[Put::Any, Put::Create, Put::Replace]);
                let new = Extended {
                    name,
                    value: &value,
                };
                let set = files.set_attribute(number, new, put, &Attributes::default(), NOW);
                done.note("setxattr", set);
            }
            4 => {
                let removed = files.remove_attribute(number, name, &Attributes::default(), NOW);
                done.note("removexattr", removed);
            }
            5 => {
                done.note("getxattr", files.attribute(number, name));
                done.note("listxattr", files.attributes(number, Mark::FIRST, 100));
            }
            6 => {
                let to = Attributes {
                    uid: Some(5),
                    modified: Some(NOW),
                    ..Attributes::default()
                };
                done.note("chown", files.set_attributes(number, &to, NOW));
            }
            7 => {
                done.note("lookup", files.lookup(it.directory, &it.name));
                done.note("parents", files.parents(number, 10));
                done.note("path", path::of(files, number));
            }
            8 => done.tell("orphans", files.orphans(InodeNo::NONE, MOST_FILES)),
            9 => done.tell(
                "promise",
                self.mounted.promise(Blocks(chance.next() % 9000)),
            ),
            10 => done.tell("sync", self.mounted.sync()),
            _ => done.tell("checkpoint", self.mounted.checkpoint()),
        }
    }

    /// What concerns more than one file, or all of the volume.
    fn wide(&mut self, it: &Known, other: &Known) {
        let (files, chance, names, mounted) = (self.files, self.chance, self.of, self.mounted);
        let done = &mut *self.done;
        let kept: [&[u8]; 5] = [b"kept", b"gone", b"head", b"new", b""];
        let (name, second) = (chance.one(&kept), chance.one(&kept));
        let block = |n: &[u64]| FileBlock(chance.one(n));
        let pair = Pair {
            from: (it.number, block(&[0, 1, 40])),
            to: (other.number, block(&[0, 1, 7, 1 << 40])),
            blocks: Blocks(chance.one(&[1, 8, 100, 1 << 40, u64::MAX])),
        };
        match chance.below(14) {
            0 | 1 => done.tell("clone", files.clone_range(&pair, None, NOW)),
            2 => done.tell("dedupe", files.same_range(&pair)),
            3 => done.tell("take", files.take_snapshot(name, NOW)),
            4 => done.tell("grow", names.grow(mounted, name, second, NOW)),
            5 => done.tell("delete", names.delete(mounted, name)),
            6 => {
                for _ in 0..20 {
                    if done.note("sweep", names.sweep(mounted)) != Some(true) {
                        break;
                    }
                }
            }
            7 => done.tell("rebundle", files.rebundle()),
            8 => {
                done.tell("grow old", files.grow_old());
                done.tell("rebundle ahead", files.rebundle_ahead());
            }
            9 => {
                let policy = Policy::new(chance.below(6) as u8).unwrap_or_default();
                done.tell("policy", files.set_policy(it.number, policy, NOW));
            }
            10 => {
                let views = [name, second].map(|name| names.open(mounted, name));
                let [Ok(old), Ok(new)] = &views else { return };
                let mut told = 0;
                let mut tell = |_| {
                    told += 1;
                    match told {
                        1000 => Err(Error::Invalid),
                        _ => Ok(()),
                    }
                };
                let differs = names.difference(mounted, (old, new), InodeNo::NONE, &mut tell);
                done.tell("difference", differs);
            }
            11 => {
                let Some(view) = done.note("open a snapshot", names.open(mounted, name)) else {
                    return;
                };
                let files = names.of(mounted, &view);
                let mut buffer = [0; 2 * BLOCK_SIZE];
                let read = files.read(it.number, FileBlock(0), &mut buffer);
                done.tell("read in a snapshot", read);
            }
            12 => done.tell("snapshots", names.snapshots(mounted)),
            _ => {
                let begun = files.begin_catch_up(mounted.returning());
                let Some(mut at) = done.note("begin to catch up", begun) else {
                    return;
                };
                for _ in 0..200 {
                    let more = done.note("catch up", files.catch_up_some(&mut at));
                    if more != Some(true) {
                        break;
                    }
                }
            }
        }
    }
}
