// SPDX-License-Identifier: GPL-2.0

//! A few files with all that they hold, as plain data, and what each [deed](crate::deed) comes to in them; and the same done by the engine.

use crate::clerk;
use crate::deed::Deed;
use crate::deed::Kind;
use crate::deed::Path;
use crate::deed::Sequence;
use crate::deed::DIRECTORIES;
use crate::deed::HEAD;
use crate::deed::KEPT;
use crate::deed::RANGES;
use crate::deed::SIZES;
use crate::deed::VALUES;
use crate::files::File;
use crate::files::Files as Model;
use crate::files::Flags;
use crate::files::Refused;
use crate::files::ROOT;
use crate::host::Chance;
use crate::machine::Simulated;
use embr_engine::file::Dirty;
use embr_engine::file::Pair;
use embr_engine::file::Way;
use embr_engine::file::Written;
use embr_engine::format::inode::FileType;
use embr_engine::names::Attributes;
use embr_engine::names::Error;
use embr_engine::names::Extended;
use embr_engine::names::Files;
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
use embr_engine::units::Sequence as Group;
use embr_engine::units::Timestamp;
use embr_engine::units::BLOCK_SIZE;
use embr_engine::volume::Mounted;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// The name of the extended attribute that files get.
const ATTRIBUTE: &[u8] = b"user.deed";

/// What a snapshot holds, or a head that is not worked on.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Kept {
    /// Whether it goes on.
    pub is_head: bool,
    /// All names and inodes.
    pub files: Model,
    /// What regular files hold, by their numbers.
    pub bytes: BTreeMap<u64, Arc<Vec<u8>>>,
}

/// Files, and what they hold.
#[derive(Clone, Debug, Default)]
pub struct Estate {
    /// All names and inodes.
    pub files: Model,
    /// What regular files hold, by their numbers.
    pub bytes: BTreeMap<u64, Arc<Vec<u8>>>,
    /// The file that somebody holds open. It is not part of what a volume holds, nor are the two that follow.
    pub held: Option<u64>,
    /// The head that these are of, and that is worked on: none has no name but the one that a volume shows by itself.
    pub head: String,
    /// All snapshots, and the other heads.
    pub kept: BTreeMap<String, Arc<Kept>>,
}

impl PartialEq for Estate {
    fn eq(&self, other: &Self) -> bool {
        if self.head != other.head {
            // Which of them is worked on makes no difference.
            let turned = other.clone().turned(&self.head);
            return turned.is_ok_and(|other| *self == other);
        }
        self.files == other.files && self.bytes == other.bytes && self.kept == other.kept
    }
}

impl Eq for Estate {}

/// What the engine's snapshots are looked at through.
#[derive(Clone, Copy)]
pub struct Engine<'m> {
    /// The volume.
    pub mounted: &'m Mounted<Simulated>,
    /// Its names.
    pub names: &'m Names,
    /// The head that is worked on.
    pub view: &'m View,
}

impl<'m> Engine<'m> {
    /// All files of it.
    pub fn files(self) -> Files<'m, Simulated> {
        self.names.of(self.mounted, self.view)
    }
}

/// What the engine made of a deed.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// The number of the file that was made, if one was.
    pub made: Option<u64>,
    /// The group of the journal that it is in; none where it changed nothing.
    pub group: Option<Group>,
}

fn at(step: u64) -> Timestamp {
    Timestamp {
        seconds: 1000 + step as i64,
        nanos: step as u32,
    }
}

/// Whole blocks around a range of bytes.
fn blocks(range: &Range<u64>) -> (FileBlock, FileBlock) {
    (
        FileBlock::of(Bytes(range.start)),
        FileBlock::from(Bytes(range.end)),
    )
}

/// The value that an attribute gets in a step.
fn value(size: usize, step: u64) -> Vec<u8> {
    let chance = Chance::new(step);
    (0..VALUES[size]).map(|_| chance.next() as u8).collect()
}

fn regular(kind: FileType) -> Result<(), Refused> {
    match kind {
        FileType::Regular => Ok(()),
        FileType::Directory => Err(Refused::IsDirectory),
        _ => Err(Refused::Invalid),
    }
}

/// Blocks that are cloned or compared.
const CLONED: u64 = (RANGES[1].end - RANGES[1].start) / BLOCK_SIZE as u64;

fn pair(from: InodeNo, to: InodeNo) -> Pair {
    let (at, end) = blocks(&RANGES[1]);
    Pair {
        from: (from, at),
        to: (to, at),
        blocks: Blocks(end.0 - at.0),
    }
}

impl Estate {
    /// The directories that paths lie in, and nothing in them; for enumeration, before any volume is made.
    pub fn new() -> Self {
        Estate {
            files: clerk::empty(),
            ..Estate::default()
        }
    }

    /// The same, but that this head is worked on.
    pub fn turned(mut self, head: &str) -> Result<Self, Refused> {
        if head == self.head {
            return Ok(self);
        }
        let other = self.kept.get(head).ok_or(Refused::NotFound)?;
        if !other.is_head {
            return Err(Refused::Invalid);
        }
        let Kept { files, bytes, .. } = Kept::clone(other);
        let old = Kept {
            is_head: true,
            files: std::mem::replace(&mut self.files, files),
            bytes: std::mem::replace(&mut self.bytes, bytes),
        };
        self.kept.remove(head);
        let name = std::mem::replace(&mut self.head, head.to_owned());
        self.kept.insert(name, old.into());
        Ok(self)
    }

    /// The head that is not worked on.
    pub(crate) fn other_head(&self) -> &'static str {
        match self.head.is_empty() {
            true => KEPT[HEAD],
            false => "",
        }
    }

    fn has(&self, name: &str) -> bool {
        self.head == name || self.kept.contains_key(name)
    }

    /// Keeps what the head holds, from which it goes on.
    pub(crate) fn take(&mut self, name: &str) -> Result<(), Refused> {
        if self.has(name) {
            return Err(Refused::Exists);
        }
        let kept = Kept {
            is_head: false,
            files: self.files.clone(),
            bytes: self.bytes.clone(),
        };
        self.kept.insert(name.to_owned(), kept.into());
        Ok(())
    }

    fn grow(&mut self, from: &str, name: &str) -> Result<(), Refused> {
        let from = self.kept.get(from).ok_or(Refused::NotFound)?;
        if self.has(name) {
            return Err(Refused::Exists);
        }
        let grown = Kept {
            is_head: true,
            ..Kept::clone(from)
        };
        self.kept.insert(name.to_owned(), grown.into());
        Ok(())
    }

    pub(crate) fn delete(&mut self, name: &str) -> Result<(), Refused> {
        if self.head == name {
            return Err(Refused::Busy);
        }
        match self.kept.remove(name) {
            Some(_) => Ok(()),
            None => Err(Refused::NotFound),
        }
    }

    fn turn(&mut self) -> Result<(), Refused> {
        self.may_hold()?;
        let other = self.other_head();
        if !self.has(other) {
            return Err(Refused::NotFound);
        }
        *self = std::mem::take(self).turned(other)?;
        Ok(())
    }

    fn directory(&self, path: Path) -> Result<u64, Refused> {
        let name = DIRECTORIES[path.directory].as_bytes();
        self.files.lookup(ROOT, name)
    }

    /// The file that a path leads to.
    pub fn file(&self, path: Path) -> Result<u64, Refused> {
        self.files.lookup(self.directory(path)?, path.name())
    }

    fn regular_at(&self, path: Path) -> Result<u64, Refused> {
        let number = self.file(path)?;
        self.regular(number)?;
        Ok(number)
    }

    /// What a regular file holds.
    pub(crate) fn regular(&self, number: u64) -> Result<Arc<Vec<u8>>, Refused> {
        regular(self.files.get(number)?.kind)?;
        Ok(self.bytes.get(&number).cloned().unwrap_or_default())
    }

    /// The file that is held open.
    pub fn held_file(&self) -> Result<u64, Refused> {
        self.held.ok_or(Refused::Invalid)
    }

    fn may_hold(&self) -> Result<(), Refused> {
        match self.held {
            Some(_) => Err(Refused::Invalid),
            None => Ok(()),
        }
    }

    fn is_held(&self, path: Path) -> bool {
        self.held.is_some() && self.file(path).ok() == self.held
    }

    fn names_of(&self, number: u64) -> u32 {
        self.files.get(number).map_or(0, |file| file.nlink)
    }

    /// Whether nothing is left of the file but that it is held open when it loses this name.
    fn is_held_only(&self, path: Path) -> bool {
        self.is_held(path) && self.held.is_some_and(|number| self.names_of(number) == 1)
    }

    fn is_orphan_held(&self) -> bool {
        self.held.is_some_and(|number| self.names_of(number) == 0)
    }

    fn has_attribute(&self, path: Path) -> bool {
        let file = self.file(path).and_then(|number| self.files.get(number));
        file.is_ok_and(|file| file.attributes.contains_key(ATTRIBUTE))
    }

    /// What a deed is here: whether it goes over something.
    pub fn kind(&self, deed: Deed) -> Kind {
        match deed {
            Deed::Create(_) => Kind::Create,
            Deed::Mkdir(_) => Kind::Mkdir,
            Deed::Write(path, range, _) => {
                let size = self.file(path).ok().and_then(|n| self.bytes.get(&n));
                let size = size.map_or(0, |bytes| bytes.len()) as u64;
                match RANGES[range].start < size {
                    true => Kind::Overwrite,
                    false => Kind::Write,
                }
            }
            Deed::Truncate(..) => Kind::Truncate,
            Deed::Punch(..) => Kind::Punch,
            Deed::Collapse(..) => Kind::Collapse,
            Deed::Allocate(..) => Kind::Allocate,
            Deed::Clone(..) => Kind::Clone,
            Deed::Dedupe(..) => Kind::Dedupe,
            Deed::Link(..) => Kind::Link,
            Deed::Unlink(path) if self.is_held_only(path) => Kind::UnlinkHeld,
            Deed::Unlink(_) => Kind::Unlink,
            Deed::Rmdir(_) => Kind::Rmdir,
            Deed::Rename(_, to) => match self.file(to) {
                Ok(_) if self.is_held_only(to) => Kind::RenameOverHeld,
                Ok(_) => Kind::RenameOver,
                Err(_) => Kind::Rename,
            },
            Deed::SetAttribute(path, _) => match self.has_attribute(path) {
                true => Kind::ReplaceAttribute,
                false => Kind::SetAttribute,
            },
            Deed::RemoveAttribute(_) => Kind::RemoveAttribute,
            Deed::Fsync(_) => Kind::Fsync,
            Deed::Open(_) => Kind::Open,
            Deed::Tmpfile => Kind::Tmpfile,
            Deed::WriteHeld(..) => Kind::WriteHeld,
            Deed::TruncateHeld(_) => Kind::TruncateHeld,
            Deed::LinkHeld(_) if self.is_orphan_held() => Kind::LinkOrphan,
            Deed::LinkHeld(_) => Kind::LinkHeld,
            Deed::FsyncHeld => Kind::FsyncHeld,
            Deed::Close if self.is_orphan_held() => Kind::CloseOrphan,
            Deed::Close => Kind::Close,
            Deed::Sync => Kind::Sync,
            Deed::Checkpoint => Kind::Checkpoint,
            Deed::Rebundle => Kind::Rebundle,
            Deed::Take(_) => Kind::Take,
            Deed::Grow(_) => Kind::Grow,
            Deed::Delete(HEAD) => Kind::DeleteHead,
            Deed::Delete(_) => Kind::DeleteSnapshot,
            Deed::Sweep => Kind::Sweep,
            Deed::Turn => Kind::Turn,
        }
    }

    /// What a file of `old` holds after a write to this range in this step. No two writes write the same.
    fn written(old: &[u8], range: &Range<u64>, step: u64) -> Vec<u8> {
        let mut new = old.to_vec();
        new.resize(new.len().max(range.end as usize), 0);
        let chance = Chance::new((step << 32) ^ range.start);
        for word in new[range.start as usize..range.end as usize].chunks_mut(8) {
            word.copy_from_slice(&chance.next().to_le_bytes()[..word.len()]);
        }
        new
    }

    /// What a file holds once blocks of another were cloned into it: what that one has of them makes it longer, and there are zeros
    /// behind.
    fn cloned(&self, from: u64, to: u64) -> Vec<u8> {
        let (source, mut new) = (self.held_by(from), self.held_by(to).to_vec());
        let range = &RANGES[1];
        let (start, end) = (range.start as usize, range.end as usize);
        let has = source.len().min(end);
        if has > start {
            new.resize(new.len().max(has), 0);
        }
        for (at, byte) in new.iter_mut().enumerate().take(end).skip(start) {
            *byte = source.get(at).copied().unwrap_or(0);
        }
        new
    }

    /// Two regular files.
    fn two(&self, from: Path, to: Path) -> Result<(u64, u64), Refused> {
        let (from, to) = (self.file(from)?, self.file(to)?);
        self.regular(from)?;
        self.regular(to)?;
        Ok((from, to))
    }

    /// How many of the blocks that are compared, from the first on, are the same.
    fn same(&self, from: Path, to: Path) -> Result<u64, Refused> {
        let (from, to) = (self.regular_at(from)?, self.regular_at(to)?);
        let byte = |number, at| self.held_by(number).get(at as usize).copied().unwrap_or(0);
        let Range { start, end } = RANGES[1];
        let differs = (start..end).find(|at| byte(from, *at) != byte(to, *at));
        Ok(differs.map_or(CLONED, |at| (at - start) / BLOCK_SIZE as u64))
    }

    fn make(
        &mut self,
        path: Path,
        kind: FileType,
        now: Timestamp,
        made: u64,
    ) -> Result<(), Refused> {
        let directory = self.directory(path)?;
        let mut file = File::new(kind, now);
        file.permissions = clerk::root().permissions;
        self.files.create(directory, path.name(), made, file)?;
        if kind == FileType::Regular {
            self.bytes.insert(made, Arc::default());
        }
        Ok(())
    }

    /// A file holds something else now.
    pub(crate) fn hold(
        &mut self,
        number: u64,
        bytes: Vec<u8>,
        now: Timestamp,
    ) -> Result<(), Refused> {
        let file = self.files.files.get_mut(&number).ok_or(Refused::NotFound)?;
        file.size = bytes.len() as u64;
        file.times[1] = now;
        file.times[2] = now;
        self.bytes.insert(number, bytes.into());
        Ok(())
    }

    fn held_by(&self, number: u64) -> &[u8] {
        self.bytes.get(&number).map_or(&[], |bytes| &bytes[..])
    }

    fn rewrite(&mut self, number: u64, range: usize, step: u64) -> Result<(), Refused> {
        let old = self.regular(number)?;
        let new = Estate::written(&old, &RANGES[range], step);
        self.hold(number, new, at(step))
    }

    fn resize(&mut self, number: u64, size: usize, now: Timestamp) -> Result<(), Refused> {
        let mut new = Vec::clone(&*self.regular(number)?);
        new.resize(SIZES[size] as usize, 0);
        self.hold(number, new, now)
    }

    /// Does it; a file that is made gets the number `made`. What is refused changes nothing.
    pub fn apply(&mut self, deed: Deed, step: u64, made: u64) -> Result<(), Refused> {
        let now = at(step);
        match deed {
            Deed::Create(path) => self.make(path, FileType::Regular, now, made)?,
            Deed::Mkdir(path) => self.make(path, FileType::Directory, now, made)?,
            Deed::Write(path, range, _) => {
                let number = self.regular_at(path)?;
                self.rewrite(number, range, step)?;
            }
            Deed::Truncate(path, size) => {
                let number = self.regular_at(path)?;
                self.resize(number, size, now)?;
            }
            Deed::Punch(path, range) => {
                let number = self.regular_at(path)?;
                let mut new = self.held_by(number).to_vec();
                let inside = |byte: u64| new.len().min(byte as usize);
                let range = inside(RANGES[range].start)..inside(RANGES[range].end);
                new[range].fill(0);
                self.hold(number, new, now)?;
            }
            Deed::Collapse(path, range) => {
                let number = self.regular_at(path)?;
                let (from, to) = blocks(&RANGES[range]);
                let mut new = self.held_by(number).to_vec();
                let (from, to) = (from.start().0 as usize, to.start().0 as usize);
                if to >= new.len() {
                    return Err(Refused::Invalid);
                }
                new.drain(from..to);
                self.hold(number, new, now)?;
            }
            Deed::Allocate(path, _) => {
                let number = self.regular_at(path)?;
                let same = self.held_by(number).to_vec();
                self.hold(number, same, now)?;
            }
            Deed::Clone(from, to) => {
                let (from, to) = self.two(from, to)?;
                if from == to {
                    return Err(Refused::Invalid);
                }
                let new = self.cloned(from, to);
                self.hold(to, new, now)?;
            }
            Deed::Dedupe(from, to) => {
                let (from, to) = self.two(from, to)?;
                if from == to {
                    return Err(Refused::Invalid);
                }
            }
            Deed::Link(path, other) => {
                let number = self.file(path)?;
                let directory = self.directory(other)?;
                self.files.link(number, directory, other.name(), now)?;
            }
            Deed::Unlink(path) | Deed::Rmdir(path) => {
                let directory = self.directory(path)?;
                let rmdir = matches!(deed, Deed::Rmdir(_));
                let open = self.is_held(path);
                self.files
                    .remove(directory, path.name(), rmdir, open, now)?;
            }
            Deed::Rename(from, to) => {
                let open = self.is_held(to);
                let from = (self.directory(from)?, from.name());
                let to = (self.directory(to)?, to.name());
                self.files.rename(from, to, Flags::default(), open, now)?;
            }
            Deed::SetAttribute(path, size) => {
                let (number, value) = (self.file(path)?, value(size, step));
                let new = (ATTRIBUTE, &value[..]);
                self.files.set_attribute(number, new, None, now)?;
            }
            Deed::RemoveAttribute(path) => {
                let number = self.file(path)?;
                self.files.remove_attribute(number, ATTRIBUTE, now)?;
            }
            Deed::Fsync(path) => {
                self.file(path)?;
            }
            Deed::Open(path) => {
                self.may_hold()?;
                self.held = Some(self.regular_at(path)?);
            }
            Deed::Tmpfile => {
                self.may_hold()?;
                let mut file = File::new(FileType::Regular, now);
                file.permissions = clerk::root().permissions;
                self.files.files.insert(made, file);
                self.bytes.insert(made, Arc::default());
                self.held = Some(made);
            }
            Deed::WriteHeld(range, _) => self.rewrite(self.held_file()?, range, step)?,
            Deed::TruncateHeld(size) => self.resize(self.held_file()?, size, now)?,
            Deed::LinkHeld(path) => {
                let (number, directory) = (self.held_file()?, self.directory(path)?);
                self.files.link(number, directory, path.name(), now)?;
            }
            Deed::FsyncHeld => {
                self.held_file()?;
            }
            Deed::Close => {
                let number = self.held_file()?;
                if self.is_orphan_held() {
                    self.files.forget(number)?;
                }
                self.held = None;
            }
            Deed::Take(name) => self.take(KEPT[name])?,
            Deed::Grow(from) => self.grow(KEPT[from], KEPT[HEAD])?,
            Deed::Delete(name) => self.delete(KEPT[name])?,
            Deed::Turn => self.turn()?,
            Deed::Sweep | Deed::Sync | Deed::Checkpoint | Deed::Rebundle => {}
        }
        let files = &self.files.files;
        self.bytes.retain(|number, _| files.contains_key(number));
        Ok(())
    }

    /// Whether it is done and not refused, if these are the files.
    pub fn allows(&self, deed: Deed) -> bool {
        let made = self.files.files.keys().max().map_or(0, |n| n + 1);
        self.clone().apply(deed, 0, made).is_ok()
    }

    /// Whether nothing of a sequence is refused, if these are the files.
    pub fn allows_all(&self, sequence: &Sequence) -> bool {
        let mut estate = self.clone();
        let mut made = (1 << 40)..;
        let mut allowed = |deed: &Deed| {
            let number = made.next().unwrap_or(u64::MAX);
            estate.apply(*deed, 1, number).is_ok()
        };
        sequence.0.iter().all(&mut allowed)
    }

    /// Has the engine do it, whose files these are.
    pub fn perform(&self, engine: Engine<'_>, deed: Deed, step: u64) -> Result<Outcome, Error> {
        let now = at(step);
        let files = engine.files();
        let Engine { mounted, names, .. } = engine;
        let name = |number: usize| KEPT[number].as_bytes();
        let directory = |path: Path| {
            let name = DIRECTORIES[path.directory].as_bytes();
            files.lookup(InodeNo::ROOT, name).map(|target| target.inode)
        };
        let file = |path: Path| {
            let target = files.lookup(directory(path)?, path.name())?;
            Ok::<_, Error>(target.inode)
        };
        let changed = |group| Outcome {
            made: None,
            group: Some(group),
        };
        let unchanged = Outcome {
            made: None,
            group: None,
        };
        let held = self.held.map(InodeNo).ok_or(Error::Invalid);
        Ok(match deed {
            Deed::Create(path) | Deed::Mkdir(path) => {
                let what = match deed {
                    Deed::Mkdir(_) => What::Directory,
                    _ => What::Regular,
                };
                let root = clerk::root();
                let new = New { what, now, ..root };
                let done = files.create(directory(path)?, path.name(), &new)?;
                Outcome {
                    made: Some(done.what.number.0),
                    group: Some(done.group),
                }
            }
            Deed::Write(path, range, way) => {
                let number = file(path)?;
                changed(self.write(files, number, &RANGES[range], way, step)?)
            }
            Deed::Truncate(path, size) => {
                changed(files.truncate(file(path)?, Bytes(SIZES[size]), now)?.group)
            }
            Deed::Punch(path, range) => {
                let Range { start, end } = RANGES[range];
                changed(
                    files
                        .punch(file(path)?, Bytes(start), Bytes(end), now)?
                        .group,
                )
            }
            Deed::Collapse(path, range) => {
                let (from, to) = blocks(&RANGES[range]);
                changed(files.collapse(file(path)?, from, to, now)?.group)
            }
            Deed::Allocate(path, range) => {
                let (from, to) = blocks(&RANGES[range]);
                changed(files.preallocate(file(path)?, from, to, None, now)?.group)
            }
            Deed::Clone(from, to) => {
                let (from, to) = (file(from)?, file(to)?);
                let size = Bytes(self.cloned(from.0, to.0).len() as u64);
                changed(files.clone_range(&pair(from, to), Some(size), now)?.group)
            }
            Deed::Dedupe(from, to) => {
                let done = files.same_range(&pair(file(from)?, file(to)?))?;
                if self.same(from, to) != Ok(done.what.0) {
                    // The wrong answer, and not one that the model can give.
                    return Err(Error::TooLong);
                }
                changed(done.group)
            }
            Deed::Link(path, other) => {
                let done = files.link(file(path)?, directory(other)?, other.name(), now)?;
                changed(done.group)
            }
            Deed::Unlink(path) => {
                let users = self.users(path);
                let done = files.unlink(directory(path)?, path.name(), users, now)?;
                changed(done.group)
            }
            Deed::Rmdir(path) => {
                let done = files.rmdir(directory(path)?, path.name(), Users::None, now)?;
                changed(done.group)
            }
            Deed::Rename(from, to) => {
                let users = self.users(to);
                let from = (directory(from)?, from.name());
                let to = (directory(to)?, to.name());
                let done = files.rename(from, to, Mode::Replace, users, now)?;
                changed(done.group)
            }
            Deed::SetAttribute(path, size) => {
                let new = Extended {
                    name: ATTRIBUTE,
                    value: &value(size, step),
                };
                let to = Attributes::default();
                changed((files.set_attribute(file(path)?, new, Put::Any, &to, now)?).group)
            }
            Deed::RemoveAttribute(path) => {
                let to = Attributes::default();
                changed((files.remove_attribute(file(path)?, ATTRIBUTE, &to, now)?).group)
            }
            Deed::Fsync(path) => {
                file(path)?;
                unchanged
            }
            Deed::Sync | Deed::Checkpoint => unchanged,
            Deed::Rebundle => {
                files.rebundle()?;
                unchanged
            }
            Deed::Take(number) => changed(files.take_snapshot(name(number), now)?.group),
            Deed::Grow(from) => changed(names.grow(mounted, name(from), name(HEAD), now)?.group),
            Deed::Delete(number) => changed(names.delete(mounted, name(number))?.group),
            Deed::Sweep => {
                while names.sweep(mounted)? {}
                unchanged
            }
            // Who works turns to it.
            Deed::Turn if self.held.is_some() => return Err(Error::Invalid),
            Deed::Turn => {
                names.open(mounted, self.other_head().as_bytes())?;
                unchanged
            }
            Deed::Open(_) if self.held.is_some() => return Err(Error::Invalid),
            Deed::Open(path) => {
                let target = files.lookup(directory(path)?, path.name())?;
                match target.kind {
                    FileType::Regular => unchanged,
                    FileType::Directory => return Err(Error::IsDirectory),
                    _ => return Err(Error::Invalid),
                }
            }
            Deed::Tmpfile if self.held.is_none() => {
                let what = What::Regular;
                let root = clerk::root();
                let done = files.create_orphan(&New { what, now, ..root })?;
                Outcome {
                    made: Some(done.what.number.0),
                    group: Some(done.group),
                }
            }
            Deed::Tmpfile => return Err(Error::Invalid),
            Deed::WriteHeld(range, way) => {
                changed(self.write(files, held?, &RANGES[range], way, step)?)
            }
            Deed::TruncateHeld(size) => {
                changed(files.truncate(held?, Bytes(SIZES[size]), now)?.group)
            }
            Deed::LinkHeld(path) => {
                let done = files.link(held?, directory(path)?, path.name(), now)?;
                changed(done.group)
            }
            Deed::FsyncHeld => held.map(|_| unchanged)?,
            Deed::Close => match held? {
                orphan if self.is_orphan_held() => changed(files.forget(orphan)?.group),
                _ => unchanged,
            },
        })
    }

    /// Who uses what a path leads to.
    fn users(&self, path: Path) -> Users {
        match self.is_held(path) {
            true => Users::Some,
            false => Users::None,
        }
    }

    /// Writes whole blocks, as a page cache does.
    fn write(
        &self,
        files: Files<'_, Simulated>,
        number: InodeNo,
        range: &Range<u64>,
        way: Way,
        step: u64,
    ) -> Result<Group, Error> {
        let new = Estate::written(self.held_by(number.0), range, step);
        let (from, to) = blocks(range);
        let mut bytes = vec![0; to.start().0.saturating_sub(from.start().0) as usize];
        let here = new.get(from.start().0 as usize..).unwrap_or_default();
        for (to, from) in bytes.iter_mut().zip(here) {
            *to = *from;
        }
        let dirty = [Dirty {
            at: from,
            bytes: &bytes,
        }];
        let written = Written {
            size: Some(Bytes(range.end)),
            modified: Some(at(step)),
            changed: Some(at(step)),
        };
        Ok(files.write(number, &dirty, way, &written)?.group)
    }

    /// What a volume holds, with all snapshots and heads.
    pub fn found(mounted: &Mounted<Simulated>, names: &Names) -> Result<Self, String> {
        let failed = |why: Error| why.to_string();
        let mut found = Estate::default();
        for listed in names.snapshots(mounted).map_err(failed)? {
            let name = String::from_utf8_lossy(&listed.name).into_owned();
            let view = names.open(mounted, &listed.name).map_err(failed)?;
            let (files, bytes) = held_in(names.of(mounted, &view))
                .map_err(|why| format!("{}{why}", within(&name)))?;
            let is_head = listed.is_head;
            match name.is_empty() {
                true => {
                    (found.files, found.bytes) = (files, bytes);
                }
                false => {
                    let kept = Kept {
                        is_head,
                        files,
                        bytes,
                    };
                    found.kept.insert(name, kept.into());
                }
            }
        }
        Ok(found)
    }

    /// Does something with what each head holds, and each snapshot too if that is wanted.
    fn each(&mut self, snapshots: bool, act: impl Fn(&str, &mut Model, &mut Bytewise)) {
        act(&self.head, &mut self.files, &mut self.bytes);
        for (name, kept) in &mut self.kept {
            if snapshots || kept.is_head {
                let kept = Arc::make_mut(kept);
                act(name, &mut kept.files, &mut kept.bytes);
            }
        }
    }

    /// What a snapshot or head holds.
    fn named(&self, name: &str) -> Option<(&Model, &Bytewise)> {
        match self.head == name {
            true => Some((&self.files, &self.bytes)),
            false => self.kept.get(name).map(|kept| (&kept.files, &kept.bytes)),
        }
    }

    /// The same without the files that have no name, but for what snapshots keep.
    #[must_use]
    pub fn without_orphans(self) -> Self {
        self.without(false, &Estate::default())
    }

    /// The same without the files that have no name, whoever has them.
    #[must_use]
    pub fn without_any_orphans(self) -> Self {
        self.without(true, &Estate::default())
    }

    /// The same without the files that have no name and that these do not have.
    #[must_use]
    pub fn without_orphans_but(self, these: &Self) -> Self {
        self.without(true, these)
    }

    fn without(mut self, snapshots: bool, these: &Self) -> Self {
        self.each(snapshots, |name, files, bytes| {
            let known = these.named(name).map(|(known, _)| &known.files);
            let is_known = |number: &u64| known.is_some_and(|known| known.contains_key(number));
            let files = &mut files.files;
            files.retain(|number, file| file.nlink != 0 || is_known(number));
            bytes.retain(|number, _| files.contains_key(number));
        });
        let files = &self.files.files;
        self.held = self.held.filter(|number| files.contains_key(number));
        self
    }

    /// Whether it is this once that is gone which has no name and which this does not have.
    pub fn may_become(&self, left: &Self) -> bool {
        self == left || self.clone().without_orphans_but(left) == *left
    }

    /// In what these differ first, in words.
    pub fn difference(&self, found: &Self) -> Option<String> {
        let names = |of: &Self| {
            let kept = of
                .kept
                .iter()
                .map(|(name, kept)| (name.clone(), kept.is_head));
            kept.chain([(of.head.clone(), true)])
                .collect::<BTreeMap<_, _>>()
        };
        let (ours, theirs) = (names(self), names(found));
        if ours != theirs {
            return Some(format!("there are {theirs:?}, by the model {ours:?}"));
        }
        ours.keys().find_map(|name| {
            let what = differ(self.named(name)?, found.named(name)?)?;
            Some(format!("{}{what}", within(name)))
        })
    }
}

/// What regular files hold.
type Bytewise = BTreeMap<u64, Arc<Vec<u8>>>;

fn within(name: &str) -> String {
    match name.is_empty() {
        true => String::new(),
        false => format!("in {name}: "),
    }
}

/// In what these differ first, in words.
fn differ(ours: (&Model, &Bytewise), theirs: (&Model, &Bytewise)) -> Option<String> {
    for number in ours.0.files.keys().chain(theirs.0.files.keys()) {
        let (own, other) = (ours.0.files.get(number), theirs.0.files.get(number));
        if own != other {
            return Some(format!("inode {number} is {other:?}, by the model {own:?}"));
        }
        if ours.1.get(number) != theirs.1.get(number) {
            return Some(format!("inode {number} holds other bytes"));
        }
    }
    None
}

/// All names, and what files hold.
fn held_in(files: Files<'_, Simulated>) -> Result<(Model, Bytewise), String> {
    let model = clerk::walk(files, 10)?;
    let mut bytes = BTreeMap::new();
    for (number, file) in &model.files {
        if file.kind != FileType::Regular {
            continue;
        }
        let failed = |why: Error| format!("reading inode {number}: {why}");
        let size = file.size as usize;
        // And a block behind its end, where there is nothing.
        let mut held = vec![0xee; size.next_multiple_of(BLOCK_SIZE) + BLOCK_SIZE];
        files
            .read(InodeNo(*number), FileBlock(0), &mut held)
            .map_err(failed)?;
        if held.drain(size..).any(|b| b != 0) {
            return Err(format!("inode {number}: not zeros behind its end"));
        }
        bytes.insert(*number, held.into());
    }
    Ok((model, bytes))
}
