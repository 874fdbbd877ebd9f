// SPDX-License-Identifier: GPL-2.0

//! Repairs of a volume, and what of its files could be read before and after them.

use crate::contents;
use crate::fleet::Fleet;
use crate::inspector::Found;
use crate::machine;
use crate::machine::Simulated;
use embr_engine::check;
use embr_engine::check::Depth;
use embr_engine::check::Finding;
use embr_engine::format::inode::FileType;
use embr_engine::names::Cookie;
use embr_engine::names::Error;
use embr_engine::names::Files;
use embr_engine::names::HashWidth;
use embr_engine::names::Names;
use embr_engine::names::View;
use embr_engine::repair;
use embr_engine::repair::repair;
use embr_engine::repair::Deed;
use embr_engine::tree::Key;
use embr_engine::units::Bytes;
use embr_engine::units::FileBlock;
use embr_engine::units::InodeNo;
use embr_engine::units::Timestamp;
use embr_engine::units::BLOCK_SIZE;
use embr_engine::volume::mounted::ENGRAMS;
use embr_engine::volume::mounted::NAMES;
use embr_engine::volume::mounted::REFERENCES;
use embr_engine::volume::mounted::SNAPSHOTS;
use embr_engine::volume::mounted::STRIPES;
use embr_engine::volume::Mounted;
use std::collections::BTreeMap;

/// How to repair.
#[derive(Clone, Copy, Debug)]
pub struct How {
    /// Bytes of memory.
    pub memory: u64,
    /// Whether what makes no sense is removed.
    pub drop_senseless: bool,
}

/// As one does it mostly.
pub const PLAIN: How = How {
    memory: 1 << 20,
    drop_senseless: false,
};

/// What was done: each finding, and the deed's kind and text.
#[derive(Default, Debug)]
pub struct Deeds(pub Vec<(Finding, &'static str, String)>);

impl repair::Observer for Deeds {
    fn does(&mut self, found: &Finding, deed: &Deed) {
        self.0.push((*found, deed.kind(), deed.to_string()));
    }
}

impl Deeds {
    /// Whether something of this kind was done.
    pub fn has(&self, kind: &str) -> bool {
        self.0.iter().any(|(_, of, _)| *of == kind)
    }
}

/// How to check.
pub fn checking(memory: u64, data: bool) -> check::Options<'static> {
    check::Options {
        memory: Bytes(memory),
        depth: Depth::Copies,
        data,
        held: &[],
    }
}

fn options(how: How, dry_run: bool) -> repair::Options<'static> {
    repair::Options {
        check: checking(how.memory, false),
        drop_senseless: how.drop_senseless,
        dry_run,
        now: Timestamp {
            seconds: 77,
            nanos: 0,
        },
    }
}

/// Works on the files of a volume.
pub fn with_files<R>(
    mounted: &Mounted<Simulated>,
    act: impl FnOnce(Files<'_, Simulated>) -> R,
) -> R {
    let names = Names::try_new(HashWidth::Full).expect("memory");
    act(names.of(mounted, &View::first()))
}

/// Repairs the volume on these drives.
pub fn mend(seed: u64, fleet: &Fleet, how: How) -> Result<Deeds, String> {
    let mut deeds = Deeds::default();
    let check = checking(how.memory, false);
    let mounted = machine::open_to_repair(seed, fleet, &check, &mut deeds)?;
    let done = with_files(&mounted, |files| {
        repair(&mounted, files, &options(how, false), &mut deeds)
    });
    done.map_err(|why| why.to_string())?;
    mounted.close().map_err(|why| why.to_string())?;
    Ok(deeds)
}

/// What a repair would do at first.
pub fn plan(seed: u64, fleet: &Fleet, how: How) -> Result<Deeds, String> {
    let mut deeds = Deeds::default();
    let mounted = machine::inspect_telling(seed, fleet, &mut |_| {})?;
    let done = with_files(&mounted, |files| {
        repair(&mounted, files, &options(how, true), &mut deeds)
    });
    done.map_err(|why| why.to_string())?;
    Ok(deeds)
}

/// All that is wrong with the volume.
pub fn findings(seed: u64, fleet: &Fleet) -> Result<Vec<Finding>, String> {
    let mut found = Found::default();
    let mut told = Vec::new();
    let mounted = machine::inspect_telling(seed, fleet, &mut |why| told.push(Finding::Mount(why)))?;
    let checked = with_files(&mounted, |files| {
        check::check(&mounted, Some(files), &checking(1 << 20, true), &mut found)
    });
    checked.map_err(|why| why.to_string())?;
    told.append(&mut found.0);
    told.retain(Finding::is_damage);
    Ok(told)
}

/// Every item of the trees that say what there is.
pub fn items(seed: u64, fleet: &Fleet) -> Result<Vec<(Key, Vec<u8>)>, String> {
    let mounted = machine::inspect_telling(seed, fleet, &mut |_| {})?;
    let mut all = Vec::new();
    for tree in [NAMES, ENGRAMS, STRIPES, REFERENCES, SNAPSHOTS] {
        all.extend(contents::scan(&mounted, tree)?);
    }
    Ok(all)
}

/// What can be read of a file: what it is, its size, and its blocks, or the target of a link.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Readable {
    /// What it is.
    pub kind: FileType,
    /// Its size.
    pub size: u64,
    /// Of each block that can be read, what it holds.
    pub blocks: BTreeMap<u64, Vec<u8>>,
    /// The paths by which it was found.
    pub paths: Vec<String>,
}

/// Blocks of a file that are looked at, at most.
const MOST: u64 = 4096;
/// Directories below each other that are entered.
const DEPTH: usize = 24;

/// All files that can be found from the root, and what of them can be read.
pub fn readable(seed: u64, fleet: &Fleet) -> Result<BTreeMap<u64, Readable>, String> {
    let mounted = machine::inspect_telling(seed, fleet, &mut |_| {})?;
    let mut found = BTreeMap::new();
    with_files(&mounted, |files| {
        walk(files, InodeNo::ROOT, String::new(), 0, &mut found)
    });
    Ok(found)
}

/// A snapshot or a head, and what can be read of its files.
#[derive(Debug)]
pub struct Shown {
    /// Whether it goes on.
    pub is_head: bool,
    /// Its files.
    pub files: BTreeMap<u64, Readable>,
}

/// All snapshots and heads by their names, with what can be read of them; none where what is said of them makes no sense.
pub fn shown(seed: u64, fleet: &Fleet) -> Result<BTreeMap<String, Shown>, String> {
    let mounted = machine::inspect_telling(seed, fleet, &mut |_| {})?;
    let names = Names::try_new(HashWidth::Full).expect("memory");
    let mut all = BTreeMap::new();
    let listed = names.snapshots(&mounted);
    for one in listed.iter().flat_map(|listed| listed.iter()) {
        let view = names.open(&mounted, &one.name);
        let view = view.map_err(|why| why.to_string())?;
        let mut files = BTreeMap::new();
        let root = names.of(&mounted, &view);
        walk(root, InodeNo::ROOT, String::new(), 0, &mut files);
        let name = String::from_utf8_lossy(&one.name).into_owned();
        let is_head = one.is_head;
        all.insert(name, Shown { is_head, files });
    }
    Ok(all)
}

/// Whether all that could be read before of each snapshot and head can be read after, and of snapshots nothing else than before.
pub fn all_kept(
    before: &BTreeMap<String, Shown>,
    after: &BTreeMap<String, Shown>,
) -> Result<(), String> {
    for (name, was) in before {
        let Some(is) = after.get(name) else {
            return Err(format!("{name:?} is not there any more"));
        };
        kept(&was.files, &is.files).map_err(|why| format!("in {name:?}: {why}"))?;
        if was.is_head {
            continue;
        }
        let outline = |shown: &Shown| -> Vec<_> {
            let each = shown.files.iter();
            each.map(|(n, r)| (*n, r.kind, r.size, r.paths.clone()))
                .collect()
        };
        if outline(was) != outline(is) {
            let (was, is) = (outline(was), outline(is));
            return Err(format!("in {name:?} there was {was:?}, and is {is:?}"));
        }
    }
    Ok(())
}

fn walk(
    files: Files<'_, Simulated>,
    number: InodeNo,
    path: String,
    depth: usize,
    found: &mut BTreeMap<u64, Readable>,
) {
    let Ok(inode) = files.inode(number) else {
        return;
    };
    let is_new = !found.contains_key(&number.0);
    let entry = found.entry(number.0).or_insert_with(|| Readable {
        kind: inode.kind,
        size: inode.size.0,
        blocks: BTreeMap::new(),
        paths: Vec::new(),
    });
    entry.paths.push(path.clone());
    if !is_new || depth > DEPTH {
        return;
    }
    match inode.kind {
        FileType::Regular => {
            let blocks = inode.size.0.div_ceil(BLOCK_SIZE as u64).min(MOST);
            for n in 0..blocks {
                let mut block = vec![0; BLOCK_SIZE];
                if files.read(number, FileBlock(n), &mut block).is_ok() {
                    entry.blocks.insert(n, block);
                }
            }
        }
        FileType::Symlink => {
            entry.blocks.insert(0, inode.target.to_vec());
        }
        FileType::Directory => {
            let mut from = Cookie::FIRST;
            loop {
                let batch: Result<_, Error> = files.readdir(number, from, 64);
                let Ok(batch) = batch else {
                    break;
                };
                for entry in batch.entries.iter() {
                    let name = String::from_utf8_lossy(&entry.name).into_owned();
                    let path = format!("{path}/{name}");
                    walk(files, entry.target.inode, path, depth + 1, found);
                }
                match batch.entries.last().filter(|_| !batch.is_last) {
                    Some(last) => from = last.cookie.next(),
                    None => break,
                }
            }
        }
        _ => {}
    }
}

/// Whether all that could be read before can be read after, and is the same.
pub fn kept(
    before: &BTreeMap<u64, Readable>,
    after: &BTreeMap<u64, Readable>,
) -> Result<(), String> {
    for (number, was) in before {
        let paths = &was.paths;
        let Some(is) = after.get(number) else {
            return Err(format!(
                "inode {number}, once {paths:?}, is not found any more"
            ));
        };
        if is.kind != was.kind {
            // A wrong type, of what holds nothing.
            let mut blocks = was.blocks.values();
            let is_link = was.kind == FileType::Symlink;
            if *number == InodeNo::ROOT.0
                || !is_link && blocks.all(|b| b.iter().all(|byte| *byte == 0))
            {
                continue;
            }
            return Err(format!("inode {number}, {paths:?}, was {:?}", was.kind));
        }
        if is.size < was.size {
            return Err(format!("inode {number}, {paths:?}, had {} bytes", was.size));
        }
        for (block, bytes) in &was.blocks {
            if is.blocks.get(block) != Some(bytes) {
                return Err(format!(
                    "inode {number}, {paths:?}: block {block} was other"
                ));
            }
        }
    }
    Ok(())
}

/// What is found at each path.
pub fn by_path(found: &BTreeMap<u64, Readable>) -> BTreeMap<&str, &BTreeMap<u64, Vec<u8>>> {
    let each = found.values();
    each.flat_map(|r| r.paths.iter().map(move |p| (p.as_str(), &r.blocks)))
        .collect()
}
