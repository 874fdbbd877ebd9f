// SPDX-License-Identifier: GPL-2.0

//! All that a snapshot shows, and what is said to differ between two held against it.

use crate::desk;
use crate::machine::Simulated;
use embr_engine::file::Holds;
use embr_engine::format::inode::Inode;
use embr_engine::format::name;
use embr_engine::format::name::Target;
use embr_engine::names::Error;
use embr_engine::names::Item;
use embr_engine::names::Kind;
use embr_engine::names::Names;
use embr_engine::names::View;
use embr_engine::snapshot::difference::Difference;
use embr_engine::units::FileBlock;
use embr_engine::units::InodeNo;
use embr_engine::volume::Mounted;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::rc::Rc;

/// Pieces of a file that are asked for at once.
const MANY: usize = 1 << 20;
/// No file of a test is longer.
const END: FileBlock = FileBlock(1 << 40);

/// What a snapshot shows.
#[derive(Default)]
struct Portrait {
    inodes: BTreeMap<u64, Rc<Inode>>,
    entries: BTreeMap<(u64, Vec<u8>), Target>,
    attributes: BTreeMap<u64, Vec<(Item, Vec<u8>)>>,
    /// Blocks that are not zeros.
    blocks: BTreeMap<(u64, u64), Vec<u8>>,
}

impl Portrait {
    fn of(mounted: &Mounted<Simulated>, names: &Names, view: &View) -> Result<Self, String> {
        let mut all = Portrait::default();
        let first = Item::new(InodeNo(1), Kind(0), 0);
        let last = Item::new(InodeNo(u64::MAX), Kind(0xff), u64::MAX);
        let mut items = view.items(mounted, first, last);
        let bad = |item: Item| format!("{item:?} makes no sense");
        let mut holding = BTreeSet::new();
        while let Some((item, value)) = items.next().map_err(|why| why.to_string())? {
            let owner = item.owner().0;
            match item.kind() {
                Kind::INODE => {
                    let inode = Inode::parse(&value).map_err(|_| bad(item))?;
                    all.inodes.insert(owner, Rc::new(inode));
                }
                Kind::ENTRY => {
                    let (target, name) = name::parse_entry(&value).ok_or(bad(item))?;
                    all.entries.insert((owner, name.bytes().to_vec()), target);
                }
                Kind::ATTRIBUTE | Kind::PIECE => {
                    let known = all.attributes.entry(owner).or_default();
                    known.push((item, value.to_vec()));
                }
                Kind::EXTENTS | Kind::INLINE => drop(holding.insert(owner)),
                _ => {}
            }
        }
        drop(items);
        // Of what is gone an ancestor may still have items.
        let is_there = |owner: &u64| all.inodes.contains_key(owner);
        all.attributes.retain(|owner, _| is_there(owner));
        all.entries.retain(|(owner, _), _| is_there(owner));
        let files = names.of(mounted, view);
        for owner in holding.into_iter().filter(is_there) {
            let file = InodeNo(owner);
            let pieces = files.pieces_alone(file, FileBlock(0), END, MANY);
            for piece in &pieces.map_err(|why| why.to_string())? {
                if matches!(piece.holds, Holds::Hole | Holds::Unwritten) {
                    continue;
                }
                for block in piece.at.0..piece.at.0 + piece.blocks.0 {
                    let bytes = desk::read(files, file, block, 1);
                    if bytes.iter().any(|byte| *byte != 0) {
                        all.blocks.insert((owner, block), bytes);
                    }
                }
            }
        }
        Ok(all)
    }

    /// Changes what is said to differ to what it is in another; says no where it does not differ.
    fn apply(&mut self, difference: Difference, new: &Portrait) -> Result<(), String> {
        let told = format!("{difference:?}");
        let is_true = match difference {
            Difference::Inode(number, both) => {
                let (was, is) = (self.inodes.remove(&number.0), new.inodes.get(&number.0));
                match is {
                    Some(is) => drop(self.inodes.insert(number.0, is.clone())),
                    None => {
                        self.entries.retain(|(owner, _), _| *owner != number.0);
                        self.blocks.retain(|(owner, _), _| *owner != number.0);
                        self.attributes.remove(&number.0);
                    }
                }
                {
                    let (was, is) = (was.as_deref(), is.map(|inode| &**inode));
                    was != is && (both.0.as_ref(), both.1.as_ref()) == (was, is)
                }
            }
            Difference::Entry(directory, name, was, is) => {
                let key = (directory.0, name.to_vec());
                let before = self.entries.remove(&key);
                if let Some(is) = is {
                    self.entries.insert(key.clone(), is);
                }
                was != is && before == was && new.entries.get(&key).copied() == is
            }
            Difference::Attributes(number) => {
                let is = new.attributes.get(&number.0);
                let was = self.attributes.remove(&number.0);
                if let Some(is) = is {
                    self.attributes.insert(number.0, is.clone());
                }
                was.as_ref() != is
            }
            Difference::Blocks(file, at, blocks) => {
                for block in at.0..at.0 + blocks.0 {
                    self.blocks.remove(&(file.0, block));
                    if let Some(is) = new.blocks.get(&(file.0, block)) {
                        self.blocks.insert((file.0, block), is.clone());
                    }
                }
                blocks.0 != 0
            }
        };
        match is_true {
            true => Ok(()),
            false => Err(format!("it is not so that there differs {told}")),
        }
    }
}

/// Whether what is said to differ between two snapshots is all that does, and each thing that is told does. Says how much that is.
pub fn differ(
    mounted: &Mounted<Simulated>,
    names: &Names,
    (old, new): (&View, &View),
) -> Result<usize, String> {
    let mut portrait = Portrait::of(mounted, names, old)?;
    let wanted = Portrait::of(mounted, names, new)?;
    let mut told = Vec::new();
    let mut tell = |difference| {
        told.push(difference);
        Ok::<(), Error>(())
    };
    names
        .difference(mounted, (old, new), InodeNo(0), &mut tell)
        .map_err(|why| why.to_string())?;
    let in_order = told.windows(2).all(|two| two[0].inode() <= two[1].inode());
    if !in_order {
        return Err("inodes are told of in no order".into());
    }
    let count = told.len();
    for difference in told {
        portrait.apply(difference, &wanted)?;
    }
    match () {
        () if portrait.inodes != wanted.inodes => Err("inodes differ that are not told of".into()),
        () if portrait.entries != wanted.entries => {
            Err("entries differ that are not told of".into())
        }
        () if portrait.attributes != wanted.attributes => {
            Err("attributes differ that are not told of".into())
        }
        () if portrait.blocks != wanted.blocks => Err("blocks differ that are not told of".into()),
        () => Ok(count),
    }
}
