// SPDX-License-Identifier: GPL-2.0

//! What one of several tasks asks of the engine at a time, by the numbers of files; what the engine says; and what it comes to in the
//! model. Nothing here knows of other tasks.

use crate::clerk;
use crate::estate::Engine;
use crate::estate::Estate;
use crate::files::File;
use crate::files::Files as Model;
use crate::files::Flags;
use crate::files::Refused;
use crate::host::Chance;
use crate::machine::Simulated;
use embr_engine::file::Dirty;
use embr_engine::file::Pair;
use embr_engine::file::Way;
use embr_engine::file::Written;
use embr_engine::format::inode::FileType;
use embr_engine::names::Attributes;
use embr_engine::names::Cookie;
use embr_engine::names::Done;
use embr_engine::names::Error;
use embr_engine::names::Extended;
use embr_engine::names::Files;
use embr_engine::names::Mode;
use embr_engine::names::New;
use embr_engine::names::Put;
use embr_engine::names::Removed;
use embr_engine::names::Users;
use embr_engine::names::What;
use embr_engine::units::Blocks;
use embr_engine::units::Bytes;
use embr_engine::units::FileBlock;
use embr_engine::units::InodeNo;
use embr_engine::units::Sequence as Group;
use embr_engine::units::Timestamp;
use embr_engine::units::BLOCK_SIZE;
use std::collections::BTreeMap;
use std::ops::Range;

/// A directory's number, and a name in it.
pub(super) type Place = (u64, &'static str);

/// What is asked of the engine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Act {
    Lookup(Place),
    Readdir(u64),
    Create(Place),
    Mkdir(Place),
    Tmpfile,
    Link(u64, Place),
    /// Of a file that is open or not.
    Unlink(Place, bool),
    Rmdir(Place, bool),
    /// Over a file that is open or not.
    Rename(Place, Place, Mode, bool),
    Forget(u64),
    Chmod(u64, u16),
    SetAttribute(u64, &'static str, usize),
    RemoveAttribute(u64, &'static str),
    Attribute(u64, &'static str),
    /// Whole blocks.
    Write(u64, Range<u64>, Way),
    Truncate(u64, u64),
    Punch(u64, Range<u64>),
    Collapse(u64, Range<u64>),
    Insert(u64, u64, u64),
    Preallocate(u64, Range<u64>),
    /// From one file to another, from this block on.
    Clone(u64, u64, Range<u64>, u64),
    /// The same, if both hold the same.
    Dedupe(u64, u64, Range<u64>, u64),
    Read(u64, Range<u64>),
    Stat(u64),
    /// Takes a snapshot.
    Take(&'static str),
    /// Deletes it.
    Delete(&'static str),
    /// Opens a snapshot, and reads a file in it.
    ReadKept(&'static str, u64, Range<u64>),
}

/// What an act is called.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[allow(missing_docs)] // The names say it.
pub enum ActKind {
    Lookup,
    Readdir,
    Create,
    Mkdir,
    Tmpfile,
    Link,
    LinkOrphan,
    Unlink,
    UnlinkOpen,
    Rmdir,
    Rename,
    RenameOver,
    RenameOverOpen,
    Exchange,
    Whiteout,
    Forget,
    Chmod,
    SetAttribute,
    RemoveAttribute,
    Attribute,
    Write,
    Truncate,
    Punch,
    Collapse,
    Insert,
    Preallocate,
    Clone,
    Dedupe,
    Read,
    Stat,
    Take,
    Delete,
    ReadKept,
    Refused,
}

impl ActKind {
    /// All of them.
    pub const ALL: [ActKind; 34] = [
        ActKind::Lookup,
        ActKind::Readdir,
        ActKind::Create,
        ActKind::Mkdir,
        ActKind::Tmpfile,
        ActKind::Link,
        ActKind::LinkOrphan,
        ActKind::Unlink,
        ActKind::UnlinkOpen,
        ActKind::Rmdir,
        ActKind::Rename,
        ActKind::RenameOver,
        ActKind::RenameOverOpen,
        ActKind::Exchange,
        ActKind::Whiteout,
        ActKind::Forget,
        ActKind::Chmod,
        ActKind::SetAttribute,
        ActKind::RemoveAttribute,
        ActKind::Attribute,
        ActKind::Write,
        ActKind::Truncate,
        ActKind::Punch,
        ActKind::Collapse,
        ActKind::Insert,
        ActKind::Preallocate,
        ActKind::Clone,
        ActKind::Dedupe,
        ActKind::Read,
        ActKind::Stat,
        ActKind::Take,
        ActKind::Delete,
        ActKind::ReadKept,
        ActKind::Refused,
    ];
}

/// What the engine says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Came {
    Nothing,
    /// The number of a file that was found.
    Found(u64),
    /// The names of a directory.
    Names(BTreeMap<Vec<u8>, u64>),
    /// The number of a file that was made.
    Made(u64),
    /// A file has so many names now.
    NamesLeft(u64, u32),
    /// The file that was moved, the one that lost its name, and the whiteout.
    Moved(u64, Option<(u64, u32)>, Option<u64>),
    Bytes(Vec<u8>),
    Known(Box<File>),
}

/// What it came to, and the group of the journal in which it is.
pub(super) type Outcome = (Came, Option<Group>);

fn at(step: u64) -> Timestamp {
    Timestamp {
        seconds: 5000 + step as i64,
        nanos: step as u32,
    }
}

/// What a step writes to a block.
fn block(step: u64, number: u64) -> Vec<u8> {
    let chance = Chance::new((step << 32) ^ number);
    let words = (0..BLOCK_SIZE / 8).map(|_| chance.next() | 1);
    words.flat_map(u64::to_le_bytes).collect()
}

fn value(step: u64, size: usize) -> Vec<u8> {
    vec![step as u8; size]
}

fn bytes_of(blocks: &Range<u64>) -> Range<u64> {
    let size = BLOCK_SIZE as u64;
    blocks.start * size..blocks.end * size
}

fn pair(from: u64, to: u64, blocks: &Range<u64>, at: u64) -> Pair {
    Pair {
        from: (InodeNo(from), FileBlock(blocks.start)),
        to: (InodeNo(to), FileBlock(at)),
        blocks: Blocks(blocks.end - blocks.start),
    }
}

fn from<T>(done: Done<T>, came: impl FnOnce(T) -> Came) -> Outcome {
    (came(done.what), Some(done.group))
}

fn nothing<T>(done: Done<T>) -> Outcome {
    from(done, |_| Came::Nothing)
}

fn removed(done: Removed) -> Came {
    Came::NamesLeft(done.number.0, done.nlink)
}

fn users(open: bool) -> Users {
    match open {
        true => Users::Some,
        false => Users::None,
    }
}

fn inode_of((directory, name): Place) -> (InodeNo, &'static [u8]) {
    (InodeNo(directory), name.as_bytes())
}

impl Act {
    /// What it is called, after it came to this.
    pub fn kind(&self, came: &Result<Came, Refused>) -> ActKind {
        let Ok(came) = came else {
            return ActKind::Refused;
        };
        match self {
            Act::Lookup(_) => ActKind::Lookup,
            Act::Readdir(_) => ActKind::Readdir,
            Act::Create(_) => ActKind::Create,
            Act::Mkdir(_) => ActKind::Mkdir,
            Act::Tmpfile => ActKind::Tmpfile,
            Act::Link(..) if matches!(came, Came::NamesLeft(_, 1)) => ActKind::LinkOrphan,
            Act::Link(..) => ActKind::Link,
            Act::Unlink(_, true) if matches!(came, Came::NamesLeft(_, 0)) => ActKind::UnlinkOpen,
            Act::Unlink(..) => ActKind::Unlink,
            Act::Rmdir(..) => ActKind::Rmdir,
            Act::Rename(_, _, Mode::Exchange, _) => ActKind::Exchange,
            Act::Rename(_, _, Mode::Whiteout | Mode::WhiteoutNoReplace, _) => ActKind::Whiteout,
            Act::Rename(_, _, _, open) => match came {
                Came::Moved(_, Some((_, 0)), _) if *open => ActKind::RenameOverOpen,
                Came::Moved(_, Some(_), _) => ActKind::RenameOver,
                _ => ActKind::Rename,
            },
            Act::Forget(_) => ActKind::Forget,
            Act::Chmod(..) => ActKind::Chmod,
            Act::SetAttribute(..) => ActKind::SetAttribute,
            Act::RemoveAttribute(..) => ActKind::RemoveAttribute,
            Act::Attribute(..) => ActKind::Attribute,
            Act::Write(..) => ActKind::Write,
            Act::Truncate(..) => ActKind::Truncate,
            Act::Punch(..) => ActKind::Punch,
            Act::Collapse(..) => ActKind::Collapse,
            Act::Insert(..) => ActKind::Insert,
            Act::Preallocate(..) => ActKind::Preallocate,
            Act::Clone(..) => ActKind::Clone,
            Act::Dedupe(..) => ActKind::Dedupe,
            Act::Read(..) => ActKind::Read,
            Act::Stat(_) => ActKind::Stat,
            Act::Take(_) => ActKind::Take,
            Act::Delete(_) => ActKind::Delete,
            Act::ReadKept(..) => ActKind::ReadKept,
        }
    }

    /// Has the engine do it.
    pub fn perform(&self, engine: Engine<'_>, step: u64) -> Result<Outcome, Error> {
        let files = engine.files();
        match self {
            Act::Take(name) => Ok(nothing(files.take_snapshot(name.as_bytes(), at(step))?)),
            Act::Delete(name) => {
                let done = engine.names.delete(engine.mounted, name.as_bytes())?;
                Ok(nothing(done))
            }
            Act::ReadKept(name, file, blocks) => {
                let view = engine.names.open(engine.mounted, name.as_bytes())?;
                let files = engine.names.of(engine.mounted, &view);
                // Of what is not there, nothing is read by itself.
                files.inode(InodeNo(*file))?;
                Ok((Came::Bytes(read(files, *file, blocks)?), None))
            }
            Act::Write(..)
            | Act::Truncate(..)
            | Act::Punch(..)
            | Act::Collapse(..)
            | Act::Insert(..)
            | Act::Preallocate(..)
            | Act::Clone(..)
            | Act::Dedupe(..)
            | Act::Read(..) => self.perform_on_contents(files, step),
            _ => self.perform_on_names(files, step),
        }
    }

    fn perform_on_names(&self, files: Files<'_, Simulated>, step: u64) -> Result<Outcome, Error> {
        let now = at(step);
        let new = |what| New {
            what,
            now,
            ..clerk::root()
        };
        Ok(match *self {
            Act::Lookup((directory, name)) => {
                let target = files.lookup(InodeNo(directory), name.as_bytes())?;
                (Came::Found(target.inode.0), None)
            }
            Act::Readdir(directory) => (Came::Names(listed(files, directory)?), None),
            Act::Create(place) | Act::Mkdir(place) => {
                let what = match self {
                    Act::Mkdir(_) => What::Directory,
                    _ => What::Regular,
                };
                let (directory, name) = inode_of(place);
                let done = files.create(directory, name, &new(what))?;
                from(done, |made| Came::Made(made.number.0))
            }
            Act::Tmpfile => {
                let done = files.create_orphan(&new(What::Regular))?;
                from(done, |made| Came::Made(made.number.0))
            }
            Act::Link(file, place) => {
                let (directory, name) = inode_of(place);
                let done = files.link(InodeNo(file), directory, name, now)?;
                from(done, |nlink| Came::NamesLeft(file, nlink))
            }
            Act::Unlink(place, open) => {
                let (directory, name) = inode_of(place);
                from(files.unlink(directory, name, users(open), now)?, removed)
            }
            Act::Rmdir(place, open) => {
                let (directory, name) = inode_of(place);
                from(files.rmdir(directory, name, users(open), now)?, removed)
            }
            Act::Rename(old, to, mode, open) => {
                let done = files.rename(inode_of(old), inode_of(to), mode, users(open), now)?;
                from(done, |done| {
                    let replaced = done.replaced.map(|lost| (lost.number.0, lost.nlink));
                    Came::Moved(done.moved.0, replaced, done.whiteout.map(|white| white.0))
                })
            }
            Act::Forget(file) => nothing(files.forget(InodeNo(file))?),
            Act::Chmod(file, permissions) => {
                let to = Attributes {
                    permissions: Some(permissions),
                    ..Attributes::default()
                };
                nothing(files.set_attributes(InodeNo(file), &to, now)?)
            }
            Act::SetAttribute(file, name, size) => {
                let new = Extended {
                    name: name.as_bytes(),
                    value: &value(step, size),
                };
                let to = Attributes::default();
                nothing(files.set_attribute(InodeNo(file), new, Put::Any, &to, now)?)
            }
            Act::RemoveAttribute(file, name) => {
                let to = Attributes::default();
                nothing(files.remove_attribute(InodeNo(file), name.as_bytes(), &to, now)?)
            }
            Act::Attribute(file, name) => {
                let value = files.attribute(InodeNo(file), name.as_bytes())?;
                (Came::Bytes(value.to_vec()), None)
            }
            _ => {
                let Act::Stat(file) = *self else {
                    return Err(Error::Invalid);
                };
                let known = clerk::modelled(&files.inode(InodeNo(file))?);
                (Came::Known(known.into()), None)
            }
        })
    }

    fn perform_on_contents(
        &self,
        files: Files<'_, Simulated>,
        step: u64,
    ) -> Result<Outcome, Error> {
        let now = at(step);
        let ends = |blocks: &Range<u64>| (FileBlock(blocks.start), FileBlock(blocks.end));
        Ok(match self {
            Act::Write(file, blocks, way) => {
                let bytes: Vec<u8> = blocks.clone().flat_map(|n| block(step, n)).collect();
                let dirty = [Dirty {
                    at: FileBlock(blocks.start),
                    bytes: &bytes,
                }];
                let written = Written {
                    size: Some(Bytes(bytes_of(blocks).end)),
                    modified: Some(now),
                    changed: Some(now),
                };
                nothing(files.write(InodeNo(*file), &dirty, *way, &written)?)
            }
            Act::Truncate(file, size) => {
                nothing(files.truncate(InodeNo(*file), Bytes(*size), now)?)
            }
            Act::Punch(file, range) => {
                let (start, end) = (Bytes(range.start), Bytes(range.end));
                nothing(files.punch(InodeNo(*file), start, end, now)?)
            }
            Act::Collapse(file, blocks) => {
                let (start, end) = ends(blocks);
                nothing(files.collapse(InodeNo(*file), start, end, now)?)
            }
            Act::Insert(file, before, count) => {
                nothing(files.insert(InodeNo(*file), FileBlock(*before), *count, now)?)
            }
            Act::Preallocate(file, blocks) => {
                let (start, end) = ends(blocks);
                nothing(files.preallocate(InodeNo(*file), start, end, None, now)?)
            }
            Act::Clone(from, to, blocks, at) => {
                let size = Bytes(bytes_of(&(*at..*at + blocks.end - blocks.start)).end);
                let pair = pair(*from, *to, blocks, *at);
                nothing(files.clone_range(&pair, Some(size), now)?)
            }
            Act::Dedupe(from, to, blocks, at) => {
                let done = files.same_range(&pair(*from, *to, blocks, *at))?;
                super::act::from(done, |same| Came::Found(same.0))
            }
            _ => {
                let Act::Read(file, blocks) = self else {
                    return Err(Error::Invalid);
                };
                (Came::Bytes(read(files, *file, blocks)?), None)
            }
        })
    }

    /// Does it to the model. Says whether this is what it comes to; if not, the model is of no use any more.
    pub fn agrees(&self, model: &mut Estate, step: u64, came: &Result<Came, Refused>) -> bool {
        let made = match came {
            Ok(Came::Made(number) | Came::Moved(_, _, Some(number))) => *number,
            _ => u64::MAX,
        };
        let known = &model.files.files;
        if made != u64::MAX && known.contains_key(&made) {
            return false;
        }
        if *came == Err(Refused::Busy) {
            // Somebody had it open, for just as long as he did.
            return matches!(self, Act::Delete(_));
        }
        let expected = match self {
            Act::Take(_) | Act::Delete(_) | Act::ReadKept(..) => self.apply_to_kept(model),
            Act::Write(..)
            | Act::Truncate(..)
            | Act::Punch(..)
            | Act::Collapse(..)
            | Act::Insert(..)
            | Act::Preallocate(..)
            | Act::Clone(..)
            | Act::Dedupe(..)
            | Act::Read(..) => self.apply_to_contents(model, step),
            _ => self.apply_to_names(model, step, made),
        };
        let files = &model.files.files;
        model.bytes.retain(|number, _| files.contains_key(number));
        expected == *came
    }

    fn apply_to_names(&self, model: &mut Estate, step: u64, made: u64) -> Result<Came, Refused> {
        let now = at(step);
        let files = &mut model.files;
        let left = |files: &Model, number| files.files.get(&number).map_or(0, |f| f.nlink);
        Ok(match *self {
            Act::Lookup((directory, name)) => {
                Came::Found(files.lookup(directory, name.as_bytes())?)
            }
            Act::Readdir(directory) => Came::Names(files.get(directory)?.entries.clone()),
            Act::Create((directory, name)) | Act::Mkdir((directory, name)) => {
                let kind = match self {
                    Act::Mkdir(_) => FileType::Directory,
                    _ => FileType::Regular,
                };
                let mut file = File::new(kind, now);
                file.permissions = clerk::root().permissions;
                files.create(directory, name.as_bytes(), made, file)?;
                if kind == FileType::Regular {
                    model.bytes.insert(made, Default::default());
                }
                Came::Made(made)
            }
            Act::Tmpfile => {
                let mut file = File::new(FileType::Regular, now);
                file.permissions = clerk::root().permissions;
                files.files.insert(made, file);
                model.bytes.insert(made, Default::default());
                Came::Made(made)
            }
            Act::Link(file, (directory, name)) => {
                files.link(file, directory, name.as_bytes(), now)?;
                Came::NamesLeft(file, left(files, file))
            }
            Act::Unlink((directory, name), open) | Act::Rmdir((directory, name), open) => {
                let rmdir = matches!(self, Act::Rmdir(..));
                let number = files.remove(directory, name.as_bytes(), rmdir, open, now)?;
                Came::NamesLeft(number, left(files, number))
            }
            Act::Rename(old, to, mode, open) => {
                let (old, to) = ((old.0, old.1.as_bytes()), (to.0, to.1.as_bytes()));
                let moved = files.lookup(old.0, old.1)?;
                let there = files.lookup(to.0, to.1).ok();
                let same = there == Some(moved);
                let white = matches!(mode, Mode::Whiteout | Mode::WhiteoutNoReplace) && !same;
                let flags = Flags {
                    no_replace: matches!(mode, Mode::NoReplace | Mode::WhiteoutNoReplace),
                    exchange: mode == Mode::Exchange,
                    whiteout: white.then_some(made),
                };
                files.rename(old, to, flags, open, now)?;
                let replaced = there.filter(|_| !flags.exchange && !same);
                let replaced = replaced.map(|number| (number, left(files, number)));
                Came::Moved(moved, replaced, flags.whiteout)
            }
            Act::Forget(file) => {
                files.forget(file)?;
                Came::Nothing
            }
            Act::Chmod(file, permissions) => {
                files.get(file)?;
                if let Some(file) = files.files.get_mut(&file) {
                    file.permissions = permissions;
                    file.times[2] = now;
                }
                Came::Nothing
            }
            Act::SetAttribute(file, name, size) => {
                let value = value(step, size);
                files.set_attribute(file, (name.as_bytes(), &value), None, now)?;
                Came::Nothing
            }
            Act::RemoveAttribute(file, name) => {
                files.remove_attribute(file, name.as_bytes(), now)?;
                Came::Nothing
            }
            Act::Attribute(file, name) => {
                Came::Bytes(files.attribute(file, name.as_bytes())?.to_vec())
            }
            _ => {
                let Act::Stat(file) = *self else {
                    return Err(Refused::Invalid);
                };
                let mut known = files.get(file)?.clone();
                known.entries.clear();
                known.parents.clear();
                known.attributes.clear();
                Came::Known(known.into())
            }
        })
    }

    fn apply_to_kept(&self, model: &mut Estate) -> Result<Came, Refused> {
        match self {
            Act::Take(name) => model.take(name)?,
            Act::Delete(name) => model.delete(name)?,
            _ => {
                let Act::ReadKept(name, file, blocks) = self else {
                    return Err(Refused::Invalid);
                };
                let kept = model.kept.get(*name).ok_or(Refused::NotFound)?;
                kept.files.get(*file)?;
                let bytes = kept.bytes.get(file).ok_or(Refused::IsDirectory)?;
                return Ok(Came::Bytes(cut(bytes, blocks)));
            }
        }
        Ok(Came::Nothing)
    }

    fn apply_to_two(
        &self,
        model: &mut Estate,
        step: u64,
        (from, blocks): (u64, &Range<u64>),
        (to, at): (u64, u64),
    ) -> Result<Came, Refused> {
        let (source, old) = (model.regular(from)?, model.regular(to)?);
        let count = blocks.end - blocks.start;
        if from == to && at.abs_diff(blocks.start) < count {
            return Err(Refused::Invalid);
        }
        let source = cut(&source, blocks);
        if let Act::Dedupe(..) = self {
            let other = cut(&old, &(at..at + count));
            let pairs = source.chunks(BLOCK_SIZE).zip(other.chunks(BLOCK_SIZE));
            return Ok(Came::Found(pairs.take_while(|(a, b)| a == b).count() as u64));
        }
        let range = bytes_of(&(at..at + count));
        let mut new = Vec::clone(&old);
        new.resize(new.len().max(range.end as usize), 0);
        new[range.start as usize..range.end as usize].copy_from_slice(&source);
        model.hold(to, new, self::at(step))?;
        Ok(Came::Nothing)
    }

    fn apply_to_contents(&self, model: &mut Estate, step: u64) -> Result<Came, Refused> {
        if let Act::Clone(from, to, blocks, at) | Act::Dedupe(from, to, blocks, at) = self {
            return self.apply_to_two(model, step, (*from, blocks), (*to, *at));
        }
        let (Act::Write(file, ..)
        | Act::Truncate(file, _)
        | Act::Punch(file, _)
        | Act::Collapse(file, _)
        | Act::Insert(file, ..)
        | Act::Preallocate(file, _)
        | Act::Read(file, _)) = *self
        else {
            return Err(Refused::Invalid);
        };
        let old = model.regular(file)?;
        let size = old.len();
        let inside =
            |range: &Range<u64>| size.min(range.start as usize)..size.min(range.end as usize);
        let mut new = Vec::clone(&old);
        match self {
            Act::Read(_, blocks) => return Ok(Came::Bytes(cut(&new, blocks))),
            Act::Write(_, blocks, _) => {
                let range = bytes_of(blocks);
                new.resize(size.max(range.end as usize), 0);
                let bytes: Vec<u8> = blocks.clone().flat_map(|n| block(step, n)).collect();
                new[range.start as usize..range.end as usize].copy_from_slice(&bytes);
            }
            Act::Truncate(_, size) => new.resize(*size as usize, 0),
            Act::Punch(_, range) => new[inside(range)].fill(0),
            Act::Collapse(_, blocks) => {
                let range = bytes_of(blocks);
                if range.end as usize >= size {
                    return Err(Refused::Invalid);
                }
                new.drain(inside(&range));
            }
            Act::Insert(_, before, count) => {
                let range = bytes_of(&(*before..*before + *count));
                if range.start as usize >= size {
                    return Err(Refused::Invalid);
                }
                let zeros = std::iter::repeat_n(0, (range.end - range.start) as usize);
                new.splice(range.start as usize..range.start as usize, zeros);
            }
            _ => {}
        }
        model.hold(file, new, at(step))?;
        Ok(Came::Nothing)
    }
}

fn read(files: Files<'_, Simulated>, file: u64, blocks: &Range<u64>) -> Result<Vec<u8>, Error> {
    let range = bytes_of(blocks);
    let mut bytes = vec![0xee; (range.end - range.start) as usize];
    files.read(InodeNo(file), FileBlock(blocks.start), &mut bytes)?;
    Ok(bytes)
}

/// These blocks of what a file holds, and zeros behind its end.
fn cut(bytes: &[u8], blocks: &Range<u64>) -> Vec<u8> {
    let range = bytes_of(blocks);
    let inside = bytes.len().min(range.start as usize)..bytes.len().min(range.end as usize);
    let mut cut = bytes[inside].to_vec();
    cut.resize((range.end - range.start) as usize, 0);
    cut
}

fn listed(files: Files<'_, Simulated>, directory: u64) -> Result<BTreeMap<Vec<u8>, u64>, Error> {
    let mut names = BTreeMap::new();
    let mut next = Cookie::FIRST;
    loop {
        let some = files.readdir(InodeNo(directory), next, 2)?;
        for entry in &some.entries {
            next = entry.cookie.next();
            if names
                .insert(entry.name.to_vec(), entry.target.inode.0)
                .is_some()
            {
                // A name twice.
                return Err(Error::Exists);
            }
        }
        if some.is_last {
            return Ok(names);
        }
    }
}
