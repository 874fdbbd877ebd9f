// SPDX-License-Identifier: GPL-2.0

//! A clerk does the same to the files of a mounted volume and to the model of them, drawn from chance, and compares what both say.

mod extended;

use crate::files::File;
use crate::files::Files as Model;
use crate::files::Flags;
use crate::files::Refused;
use crate::files::ROOT;
use crate::host::Chance;
use crate::machine::Simulated;
use embr_engine::format::inode::FileType;
use embr_engine::format::inode::Inode;
use embr_engine::format::inode::Rdev;
use embr_engine::names::Attributes;
use embr_engine::names::Cookie;
use embr_engine::names::Error;
use embr_engine::names::Extended;
use embr_engine::names::Files;
use embr_engine::names::Mode;
use embr_engine::names::New;
use embr_engine::names::Users;
use embr_engine::names::What;
use embr_engine::units::Bytes;
use embr_engine::units::InodeNo;
use embr_engine::units::Timestamp;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

/// How many operations of each kind came to what: what was done, or why it was refused.
pub type Seen = BTreeMap<(&'static str, Option<Refused>), u64>;

/// Draws operations.
pub struct Clerk<'c> {
    /// What happens.
    pub chance: &'c Chance,
    /// How many different names there are.
    pub names: usize,
    /// What came of it.
    pub seen: Seen,
    /// The time; it goes on with each operation.
    pub clock: i64,
    /// Every number that a file ever had.
    pub numbers: BTreeSet<u64>,
}

/// What the model says to what the engine refuses.
pub(crate) fn refused(why: Error) -> Result<Refused, String> {
    Ok(match why {
        Error::NotFound => Refused::NotFound,
        Error::Exists => Refused::Exists,
        Error::NotDirectory => Refused::NotDirectory,
        Error::IsDirectory => Refused::IsDirectory,
        Error::NotEmpty => Refused::NotEmpty,
        Error::NameTooLong => Refused::NameTooLong,
        Error::Invalid => Refused::Invalid,
        Error::NotPermitted => Refused::NotPermitted,
        Error::NoAttribute => Refused::NoAttribute,
        Error::TooLong => Refused::TooLong,
        Error::Busy => Refused::Busy,
        why => return Err(why.to_string()),
    })
}

/// A time that no other operation has.
fn at(clock: i64) -> Timestamp {
    Timestamp {
        seconds: clock,
        nanos: (clock % 1_000_000) as u32,
    }
}

/// What a new volume's root directory is like.
pub fn root() -> New<'static> {
    New {
        what: What::Directory,
        permissions: 0o755,
        uid: 0,
        gid: 0,
        flags: 0,
        project: 0,
        now: at(0),
    }
}

/// The model of a new volume.
pub fn empty() -> Model {
    Model::new(at(0))
}

/// An inode as the model has it, but for names and attributes.
pub(crate) fn modelled(inode: &Inode) -> File {
    let mut file = File::new(inode.kind, inode.born);
    file.permissions = inode.permissions;
    file.owner = (inode.uid, inode.gid);
    file.nlink = inode.nlink;
    file.size = inode.size.0;
    file.rdev = inode.rdev.0;
    file.flags = (inode.flags, inode.project);
    file.times = [inode.accessed, inode.modified, inode.changed, inode.born];
    file.target = inode.target.to_vec();
    file
}

impl<'c> Clerk<'c> {
    /// Draws from this.
    pub fn new(chance: &'c Chance, names: usize) -> Self {
        Clerk {
            chance,
            names,
            seen: Seen::new(),
            clock: 0,
            numbers: BTreeSet::from([ROOT]),
        }
    }

    fn name(&self) -> Vec<u8> {
        let n = self.chance.below(self.names);
        match self.chance.below(60) {
            0 => self
                .chance
                .one(&[&b""[..], b".", b"..", b"a/b", b"a\0"])
                .to_vec(),
            1 => vec![b'x'; 255 + self.chance.below(2)],
            _ => format!("name {n}").into_bytes(),
        }
    }

    /// Mostly a directory, now and then another file or none.
    fn directory(&self, model: &Model) -> u64 {
        let all: Vec<u64> = model.files.keys().copied().collect();
        let directories: Vec<u64> = all
            .iter()
            .copied()
            .filter(|n| model.files[n].is_directory())
            .collect();
        match self.chance.below(25) {
            0 => self.chance.one(&all),
            1 => 1 << 40,
            // Mostly among a few, so that these fill up.
            2..=18 => self.chance.one(&directories[..directories.len().min(4)]),
            _ => self.chance.one(&directories),
        }
    }

    fn file(&self, model: &Model) -> u64 {
        let all: Vec<u64> = model.files.keys().copied().collect();
        match self.chance.below(25) {
            0 => 1 << 41,
            // Often one of the first that are no directories, so that it gets many names.
            1..=12 => {
                let mut files = model.files.iter().filter(|(_, f)| !f.is_directory());
                files
                    .nth(self.chance.below(2))
                    .map_or(all[0], |(number, _)| *number)
            }
            _ => self.chance.one(&all),
        }
    }

    /// A name that is there, most of the time.
    fn place(&self, model: &Model) -> (u64, Vec<u8>) {
        let directory = self.directory(model);
        let names: Vec<&Vec<u8>> = (model.files.get(&directory).into_iter())
            .flat_map(|d| d.entries.keys())
            .collect();
        match names.is_empty() || self.chance.below(8) == 0 {
            true => (directory, self.name()),
            false => (directory, self.chance.one(&names).clone()),
        }
    }

    fn note<T>(
        &mut self,
        what: &'static str,
        engine: Result<T, Error>,
        model: Result<(), Refused>,
    ) -> Result<Option<T>, String> {
        let engine = match engine {
            Ok(done) => Ok(done),
            Err(why) => Err(refused(why).map_err(|why| format!("{what}: {why}"))?),
        };
        let came = engine.as_ref().err().copied();
        if came != model.err() {
            return Err(format!(
                "{what} came to {came:?}, by the model to {model:?}"
            ));
        }
        *self.seen.entry((what, came)).or_default() += 1;
        Ok(engine.ok())
    }

    fn is_new(&mut self, number: InodeNo) -> Result<(), String> {
        match self.numbers.insert(number.0) {
            true => Ok(()),
            false => Err(format!("number {number} was given twice")),
        }
    }

    /// One operation.
    pub fn step(&mut self, files: Files<'_, Simulated>, model: &mut Model) -> Result<(), String> {
        self.clock += 1;
        let now = at(self.clock);
        match self.chance.below(100) {
            0..=34 => self.create(files, model, now),
            35..=37 => self.create_orphan(files, model, now),
            38..=45 => {
                let (number, directory, name) =
                    (self.file(model), self.directory(model), self.name());
                let done = files.link(InodeNo(number), InodeNo(directory), &name, now);
                let same = model.link(number, directory, &name, now);
                let done = self.note("link", done, same)?;
                match done {
                    Some(done) if done.what != model.files[&number].nlink => {
                        Err("link count".into())
                    }
                    _ => Ok(()),
                }
            }
            46..=60 => self.remove(files, model, now),
            61..=78 => self.rename(files, model, now),
            79..=84 => self.attribute(files, model, now),
            85..=90 => self.set_attributes(files, model, now),
            91..=92 => self.truncate(files, model, now),
            93..=95 => {
                let mut some = model.orphans();
                some.push(self.file(model));
                let number = self.chance.one(&some);
                let done = files.forget(InodeNo(number));
                let same = model.forget(number);
                self.note("forget", done, same).map(|_| ())
            }
            _ => {
                let (directory, name) = self.place(model);
                let done = files.lookup(InodeNo(directory), &name);
                let same = model.lookup(directory, &name);
                match self.note("lookup", done, same.map(|_| ()))? {
                    Some(target) if same != Ok(target.inode.0) => Err("another file".into()),
                    _ => Ok(()),
                }
            }
        }
    }

    fn new_file(&self, target: &mut Vec<u8>, now: Timestamp) -> (&'static str, File) {
        let chance = self.chance;
        let (what, kind) = chance.one(&[
            ("create", FileType::Regular),
            ("create", FileType::Regular),
            ("mkdir", FileType::Directory),
            ("mkdir", FileType::Directory),
            ("symlink", FileType::Symlink),
            ("mknod", FileType::CharDevice),
            ("mknod", FileType::BlockDevice),
            ("mknod", FileType::Fifo),
            ("mknod", FileType::Socket),
        ]);
        let mut file = File::new(kind, now);
        file.permissions = chance.below(0o10000) as u16;
        file.owner = (chance.next() as u32, chance.next() as u32);
        file.flags = (chance.next() as u32, chance.next() as u32);
        if kind == FileType::Symlink {
            let length = chance.one(&[1, 30, 4000, 4095, 4096, 0]);
            *target = vec![b'a' + chance.below(20) as u8; length];
            file.target = target.clone();
            file.size = length as u64;
        }
        if kind.is_device() {
            file.rdev = chance.next() as u32;
        }
        (what, file)
    }

    fn create(
        &mut self,
        files: Files<'_, Simulated>,
        model: &mut Model,
        now: Timestamp,
    ) -> Result<(), String> {
        let (directory, name) = (self.directory(model), self.name());
        let mut target = Vec::new();
        let (what, file) = self.new_file(&mut target, now);
        let new = New {
            what: match file.kind {
                FileType::Regular => What::Regular,
                FileType::Directory => What::Directory,
                FileType::Symlink => What::Symlink(&target),
                FileType::CharDevice => What::CharDevice(Rdev(file.rdev)),
                FileType::BlockDevice => What::BlockDevice(Rdev(file.rdev)),
                FileType::Fifo => What::Fifo,
                FileType::Socket => What::Socket,
            },
            permissions: file.permissions,
            uid: file.owner.0,
            gid: file.owner.1,
            flags: file.flags.0,
            project: file.flags.1,
            now,
        };
        let attributes = self.attributes();
        let extended: Vec<Extended<'_>> = attributes
            .iter()
            .map(|(name, value)| Extended { name, value })
            .collect();
        let done = files.create_with(InodeNo(directory), &name, &new, &extended);
        let mut same = model.may_create(directory, &name);
        let name_is_bad = matches!(same, Err(Refused::NameTooLong))
            || model.may_create(ROOT, &name) == Err(Refused::Invalid);
        if file.kind == FileType::Symlink && !name_is_bad {
            match target.len() {
                0 => same = Err(Refused::Invalid),
                4096.. => same = Err(Refused::NameTooLong),
                _ => {}
            }
        }
        let Some(done) = self.note(what, done, same)? else {
            return Ok(());
        };
        let number = done.what.number;
        self.is_new(number)?;
        let made = modelled(&done.what.inode);
        model
            .create(directory, &name, number.0, file)
            .map_err(|why| format!("{why:?}"))?;
        let file = model.files.get_mut(&number.0).ok_or("no such file")?;
        file.attributes = attributes;
        match (File {
            parents: BTreeSet::new(),
            attributes: BTreeMap::new(),
            ..file.clone()
        }) == made
        {
            true => Ok(()),
            false => Err(format!("made {made:?}, by the model {file:?}")),
        }
    }

    fn create_orphan(
        &mut self,
        files: Files<'_, Simulated>,
        model: &mut Model,
        now: Timestamp,
    ) -> Result<(), String> {
        let new = New {
            what: What::Regular,
            now,
            ..root()
        };
        let done = files.create_orphan(&new);
        if let Some(done) = self.note("tmpfile", done, Ok(()))? {
            self.is_new(done.what.number)?;
            let mut file = File::new(FileType::Regular, now);
            file.permissions = 0o755;
            model.files.insert(done.what.number.0, file);
        }
        Ok(())
    }

    fn users(&self) -> (bool, Users) {
        match self.chance.below(3) {
            0 => (true, Users::Some),
            _ => (false, Users::None),
        }
    }

    fn remove(
        &mut self,
        files: Files<'_, Simulated>,
        model: &mut Model,
        now: Timestamp,
    ) -> Result<(), String> {
        let (directory, name) = self.place(model);
        let is_directory =
            (model.lookup(directory, &name)).is_ok_and(|n| model.files[&n].is_directory());
        let rmdir = is_directory != (self.chance.below(10) == 0);
        let (open, users) = self.users();
        let parent = InodeNo(directory);
        let (what, done) = match rmdir {
            true => ("rmdir", files.rmdir(parent, &name, users, now)),
            false => ("unlink", files.unlink(parent, &name, users, now)),
        };
        let same = model.remove(directory, &name, rmdir, open, now);
        let Some(done) = self.note(what, done, same.map(|_| ()))? else {
            return Ok(());
        };
        let left = model.files.get(&done.what.number.0).map_or(0, |f| f.nlink);
        match same == Ok(done.what.number.0) && left == done.what.nlink {
            true => Ok(()),
            false => Err(format!("{what}: {:?}", done.what)),
        }
    }

    fn rename(
        &mut self,
        files: Files<'_, Simulated>,
        model: &mut Model,
        now: Timestamp,
    ) -> Result<(), String> {
        let from = self.place(model);
        let to = match self.chance.below(2) {
            0 => self.place(model),
            _ => (self.directory(model), self.name()),
        };
        let modes = [
            ("rename", Mode::Replace),
            ("rename", Mode::Replace),
            ("rename no-replace", Mode::NoReplace),
            ("rename exchange", Mode::Exchange),
            ("rename whiteout", Mode::Whiteout),
            ("rename whiteout no-replace", Mode::WhiteoutNoReplace),
        ];
        let (what, mode) = self.chance.one(&modes);
        let (open, users) = self.users();
        let there = model.lookup(to.0, &to.1).ok();
        let done = files.rename(
            (InodeNo(from.0), &from.1),
            (InodeNo(to.0), &to.1),
            mode,
            users,
            now,
        );
        let flags = Flags {
            no_replace: matches!(mode, Mode::NoReplace | Mode::WhiteoutNoReplace),
            exchange: mode == Mode::Exchange,
            whiteout: done
                .as_ref()
                .ok()
                .and_then(|d| d.what.whiteout)
                .map(|n| n.0),
        };
        let number = model.lookup(from.0, &from.1).ok();
        let same = model.rename((from.0, &from.1), (to.0, &to.1), flags, open, now);
        let Some(done) = self.note(what, done, same)? else {
            return Ok(());
        };
        if let Some(white) = done.what.whiteout {
            self.is_new(white)?;
        }
        let is_white = matches!(mode, Mode::Whiteout | Mode::WhiteoutNoReplace) && there != number;
        let replaced = there.filter(|_| !flags.exchange && there != number);
        let sound = Some(done.what.moved.0) == number
            && done.what.whiteout.is_some() == is_white
            && done.what.replaced.map(|r| r.number.0) == replaced
            && done
                .what
                .replaced
                .is_none_or(|r| r.nlink == model.files.get(&r.number.0).map_or(0, |f| f.nlink));
        match sound {
            true => Ok(()),
            false => Err(format!("{what}: {:?}", done.what)),
        }
    }

    fn truncate(
        &mut self,
        files: Files<'_, Simulated>,
        model: &mut Model,
        now: Timestamp,
    ) -> Result<(), String> {
        let number = self.file(model);
        let size = Bytes(self.chance.next() >> (1 + self.chance.below(50)));
        let same = match model.files.get(&number).map(|f| f.kind) {
            None => Err(Refused::NotFound),
            Some(FileType::Directory) => Err(Refused::IsDirectory),
            Some(FileType::Regular) => Ok(()),
            Some(_) => Err(Refused::Invalid),
        };
        let done = files.truncate(InodeNo(number), size, now);
        if self.note("truncate", done, same)?.is_some() {
            let file = model.files.get_mut(&number).ok_or("no such file")?;
            file.size = size.0;
            file.times[1] = now;
            file.times[2] = now;
        }
        Ok(())
    }

    fn set_attributes(
        &mut self,
        files: Files<'_, Simulated>,
        model: &mut Model,
        now: Timestamp,
    ) -> Result<(), String> {
        let chance = self.chance;
        let number = self.file(model);
        let kind = model.files.get(&number).map(|f| f.kind);
        let or_not = |value: u32| (chance.below(2) == 0).then_some(value);
        let to = Attributes {
            permissions: or_not(chance.next() as u32 & 0o7777).map(|n| n as u16),
            uid: or_not(chance.next() as u32),
            gid: or_not(chance.next() as u32),
            flags: or_not(chance.next() as u32),
            project: or_not(chance.next() as u32),
            accessed: or_not(5).map(|n| at(self.clock * 3 + i64::from(n))),
            modified: or_not(6).map(|n| at(-i64::from(n))).map(|t| Timestamp {
                nanos: 999_999_999,
                ..t
            }),
        };
        let same = kind.map(|_| ()).ok_or(Refused::NotFound);
        let done = files.set_attributes(InodeNo(number), &to, now);
        let Some(done) = self.note("setattr", done, same)? else {
            return Ok(());
        };
        let file = model.files.get_mut(&number).ok_or("no such file")?;
        file.permissions = to.permissions.unwrap_or(file.permissions);
        file.owner = (
            to.uid.unwrap_or(file.owner.0),
            to.gid.unwrap_or(file.owner.1),
        );
        file.flags = (
            to.flags.unwrap_or(file.flags.0),
            to.project.unwrap_or(file.flags.1),
        );
        file.times[0] = to.accessed.unwrap_or(file.times[0]);
        file.times[1] = to.modified.unwrap_or(file.times[1]);
        file.times[2] = now;
        let expected = File {
            parents: BTreeSet::new(),
            entries: BTreeMap::new(),
            attributes: BTreeMap::new(),
            ..file.clone()
        };
        match modelled(&done.what) == expected {
            true => Ok(()),
            false => Err("setattr made something else".into()),
        }
    }
}

/// Everything that the volume has, as a model: from the root along the names, and the orphans. Whatever disagrees with itself on
/// the way is an error. Directories are read `batch` names at a time.
pub fn walk(files: Files<'_, Simulated>, batch: usize) -> Result<Model, String> {
    let mut model = Model::default();
    let orphans = files
        .orphans(InodeNo(0), usize::MAX)
        .map_err(|why| why.to_string())?;
    let orphans: BTreeSet<u64> = orphans.iter().map(|n| n.0).collect();
    let mut ahead: Vec<u64> = orphans.iter().copied().chain([ROOT]).collect();
    while let Some(number) = ahead.pop() {
        if model.files.contains_key(&number) {
            continue;
        }
        let failed = |why: Error| format!("inode {number}: {why}");
        let inode = files.inode(InodeNo(number)).map_err(failed)?;
        let mut file = modelled(&inode);
        for parent in &files.parents(InodeNo(number), usize::MAX).map_err(failed)? {
            if !file
                .parents
                .insert((parent.directory.0, parent.name.to_vec()))
            {
                return Err(format!("inode {number} has a parent twice"));
            }
        }
        if inode.is_directory() {
            read(files, number, batch, &mut file)?;
        }
        file.attributes = extended::all(files, InodeNo(number), batch).map_err(failed)?;
        if inode.kind != FileType::Regular && file.entries.len() as u64 != inode.entries {
            return Err(format!(
                "directory {number} counts {} entries",
                inode.entries
            ));
        }
        if orphans.contains(&number) != (file.nlink == 0) {
            return Err(format!(
                "inode {number} has {} links; an orphan: {}",
                file.nlink,
                orphans.contains(&number)
            ));
        }
        ahead.extend(file.entries.values());
        model.files.insert(number, file);
    }
    Ok(model)
}

fn read(
    files: Files<'_, Simulated>,
    number: u64,
    batch: usize,
    file: &mut File,
) -> Result<(), String> {
    let directory = InodeNo(number);
    let failed = |why: Error| format!("directory {number}: {why}");
    let mut from = Cookie::FIRST;
    loop {
        let some = files.readdir(directory, from, batch).map_err(failed)?;
        for entry in &some.entries {
            if entry.cookie < from {
                return Err(format!("directory {number}: cookies are not in order"));
            }
            from = entry.cookie.next();
            let again = files.lookup(directory, &entry.name).map_err(failed)?;
            if again != entry.target {
                return Err(format!("directory {number}: lookup finds another file"));
            }
            // From its cookie on, the entry is the first.
            let alone = files.readdir(directory, entry.cookie, 1).map_err(failed)?;
            if alone
                .entries
                .iter()
                .map(|e| &e.name[..])
                .ne([&entry.name[..]])
            {
                return Err(format!(
                    "directory {number}: a cookie leads to another entry"
                ));
            }
            let inode = files.inode(entry.target.inode).map_err(failed)?;
            if (inode.kind, inode.generation) != (entry.target.kind, entry.target.generation) {
                return Err(format!("directory {number}: an entry of another type"));
            }
            let old = file
                .entries
                .insert(entry.name.to_vec(), entry.target.inode.0);
            if old.is_some() {
                return Err(format!("directory {number} has a name twice"));
            }
        }
        match (some.is_last, some.entries.len() == batch) {
            (true, _) => return Ok(()),
            (false, true) => {}
            (false, false) => return Err("a batch that is too short".into()),
        }
    }
}
