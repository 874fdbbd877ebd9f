// SPDX-License-Identifier: GPL-2.0

//! A few files with all that they hold, as plain data, and what each [deed](crate::deed) comes to in them; and the same done by the engine.

use crate::clerk;
use crate::deed::Deed;
use crate::deed::Kind;
use crate::deed::Path;
use crate::deed::Sequence;
use crate::deed::DIRECTORIES;
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
use embr_engine::names::New;
use embr_engine::names::Put;
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
use std::sync::Arc;

/// The name of the extended attribute that files get.
const ATTRIBUTE: &[u8] = b"user.deed";

/// Files, and what they hold.
#[derive(Clone, Debug, Default)]
pub struct Estate {
    /// All names and inodes.
    pub files: Model,
    /// What regular files hold, by their numbers.
    pub bytes: BTreeMap<u64, Arc<Vec<u8>>>,
    /// The file that somebody holds open. It is not part of what a volume holds.
    pub held: Option<u64>,
}

impl PartialEq for Estate {
    fn eq(&self, other: &Self) -> bool {
        self.files == other.files && self.bytes == other.bytes
    }
}

impl Eq for Estate {}

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
            bytes: BTreeMap::new(),
            held: None,
        }
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
            Deed::Sync | Deed::Checkpoint | Deed::Rebundle => {}
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
    pub fn perform(
        &self,
        files: Files<'_, Simulated>,
        deed: Deed,
        step: u64,
    ) -> Result<Outcome, Error> {
        let now = at(step);
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

    /// What a volume holds.
    pub fn found(files: Files<'_, Simulated>) -> Result<Self, String> {
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
        Ok(Estate {
            files: model,
            bytes,
            held: None,
        })
    }

    /// The same without the files that have no name.
    #[must_use]
    pub fn without_orphans(self) -> Self {
        self.without_orphans_but(&Estate::default())
    }

    /// The same without the files that have no name and that these do not have.
    #[must_use]
    pub fn without_orphans_but(mut self, these: &Self) -> Self {
        let known = &these.files.files;
        let files = &mut self.files.files;
        files.retain(|number, file| file.nlink != 0 || known.contains_key(number));
        self.bytes.retain(|number, _| files.contains_key(number));
        self.held = self.held.filter(|number| files.contains_key(number));
        self
    }

    /// Whether it is this once that is gone which has no name and which this does not have.
    pub fn may_become(&self, left: &Self) -> bool {
        self == left || self.clone().without_orphans_but(left) == *left
    }

    /// In what these differ first, in words.
    pub fn difference(&self, found: &Self) -> Option<String> {
        let numbers = self.files.files.keys().chain(found.files.files.keys());
        for number in numbers {
            let (ours, theirs) = (self.files.files.get(number), found.files.files.get(number));
            if ours != theirs {
                return Some(format!(
                    "inode {number} is {theirs:?}, by the model {ours:?}"
                ));
            }
            if self.bytes.get(number) != found.bytes.get(number) {
                return Some(format!("inode {number} holds other bytes"));
            }
        }
        None
    }
}
