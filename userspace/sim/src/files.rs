// SPDX-License-Identifier: GPL-2.0

//! A plain model of a tree of files: what each operation on names comes to, said in the simplest way there is. It knows nothing of
//! hashes, items or transactions; only the numbers of new files it takes from the engine.

use embr_engine::format::inode::FileType;
use embr_engine::units::Timestamp;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The root directory's number.
pub const ROOT: u64 = 1;

/// What is known of a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct File {
    /// What kind of file it is.
    pub kind: FileType,
    /// Mode without the type.
    pub permissions: u16,
    /// Owner and group.
    pub owner: (u32, u32),
    /// Link count.
    pub nlink: u32,
    /// Size as it is told.
    pub size: u64,
    /// The device that it names.
    pub rdev: u32,
    /// Flags and project.
    pub flags: (u32, u32),
    /// Read, modified, changed, born.
    pub times: [Timestamp; 4],
    /// The target of a symlink.
    pub target: Vec<u8>,
    /// The names in a directory.
    pub entries: BTreeMap<Vec<u8>, u64>,
    /// The names that lead here.
    pub parents: BTreeSet<(u64, Vec<u8>)>,
    /// Extended attributes.
    pub attributes: BTreeMap<Vec<u8>, Arc<[u8]>>,
}

/// Why an operation is refused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[allow(missing_docs)] // The names say it.
pub enum Refused {
    NotFound,
    Exists,
    NotDirectory,
    IsDirectory,
    NotEmpty,
    NameTooLong,
    Invalid,
    NotPermitted,
    NoAttribute,
    TooLong,
    Busy,
}

/// How a rename is to go.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Flags {
    /// The new name must not exist.
    pub no_replace: bool,
    /// The names change places.
    pub exchange: bool,
    /// This new file, a whiteout, takes the old name.
    pub whiteout: Option<u64>,
}

/// All files.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Files {
    /// By their numbers.
    pub files: BTreeMap<u64, File>,
}

impl File {
    /// A new file, with no name yet.
    pub fn new(kind: FileType, now: Timestamp) -> Self {
        File {
            kind,
            permissions: 0,
            owner: (0, 0),
            nlink: 0,
            size: 0,
            rdev: 0,
            flags: (0, 0),
            times: [now; 4],
            target: Vec::new(),
            entries: BTreeMap::new(),
            parents: BTreeSet::new(),
            attributes: BTreeMap::new(),
        }
    }

    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        self.kind == FileType::Directory
    }
}

fn check(name: &[u8]) -> Result<(), Refused> {
    if name.len() > 255 {
        return Err(Refused::NameTooLong);
    }
    if name.is_empty() || name == b"." || name == b".." || name.contains(&b'/') || name.contains(&0)
    {
        return Err(Refused::Invalid);
    }
    Ok(())
}

impl Files {
    /// A root directory alone.
    pub fn new(now: Timestamp) -> Self {
        let mut root = File::new(FileType::Directory, now);
        root.nlink = 2;
        root.permissions = 0o755;
        Files {
            files: BTreeMap::from([(ROOT, root)]),
        }
    }

    /// The file with this number.
    pub fn get(&self, number: u64) -> Result<&File, Refused> {
        self.files.get(&number).ok_or(Refused::NotFound)
    }

    fn of(&mut self, number: u64) -> &mut File {
        self.files.get_mut(&number).expect("a file that is named")
    }

    fn directory(&self, number: u64) -> Result<&File, Refused> {
        let file = self.get(number)?;
        match file.is_directory() {
            true => Ok(file),
            false => Err(Refused::NotDirectory),
        }
    }

    /// A directory that takes names.
    fn open_directory(&self, number: u64) -> Result<&File, Refused> {
        let file = self.directory(number)?;
        match file.nlink {
            0 => Err(Refused::NotFound),
            _ => Ok(file),
        }
    }

    /// What a name leads to.
    pub fn lookup(&self, directory: u64, name: &[u8]) -> Result<u64, Refused> {
        check(name)?;
        let entries = &self.directory(directory)?.entries;
        entries.get(name).copied().ok_or(Refused::NotFound)
    }

    /// Whether a file with this name could be made.
    pub fn may_create(&self, directory: u64, name: &[u8]) -> Result<(), Refused> {
        check(name)?;
        match self.open_directory(directory)?.entries.contains_key(name) {
            true => Err(Refused::Exists),
            false => Ok(()),
        }
    }

    fn touch(&mut self, directory: u64, now: Timestamp) {
        let file = self.of(directory);
        file.times[1] = now;
        file.times[2] = now;
    }

    /// The name leads to the file, whatever it led to.
    fn tie(&mut self, directory: u64, name: &[u8], number: u64) {
        let entries = &mut self.of(directory).entries;
        entries.insert(name.to_vec(), number);
        let parents = &mut self.of(number).parents;
        parents.insert((directory, name.to_vec()));
        self.count(number);
        self.count(directory);
    }

    fn untie(&mut self, directory: u64, name: &[u8], number: u64) {
        self.of(directory).entries.remove(name);
        let parents = &mut self.of(number).parents;
        parents.remove(&(directory, name.to_vec()));
        self.count(number);
        self.count(directory);
    }

    /// The link count follows from names and entries.
    fn count(&mut self, number: u64) {
        let file = &self.files[&number];
        let names = file.parents.len() as u32;
        let directories = (file.entries.values())
            .filter(|n| self.files[n].is_directory())
            .count() as u32;
        let nlink = match (file.is_directory(), number == ROOT || names != 0) {
            (true, true) => 2 + directories,
            (true, false) => 0,
            (false, _) => names,
        };
        self.of(number).nlink = nlink;
    }

    /// Makes a file with this name.
    pub fn create(
        &mut self,
        directory: u64,
        name: &[u8],
        number: u64,
        file: File,
    ) -> Result<(), Refused> {
        self.may_create(directory, name)?;
        let now = file.times[3];
        assert!(self.files.insert(number, file).is_none(), "a number twice");
        self.tie(directory, name, number);
        self.touch(directory, now);
        Ok(())
    }

    /// Gives a file one more name.
    pub fn link(
        &mut self,
        number: u64,
        directory: u64,
        name: &[u8],
        now: Timestamp,
    ) -> Result<(), Refused> {
        check(name)?;
        self.open_directory(directory)?;
        if self.get(number)?.is_directory() {
            return Err(Refused::NotPermitted);
        }
        self.may_create(directory, name)?;
        self.tie(directory, name, number);
        self.touch(directory, now);
        self.of(number).times[2] = now;
        Ok(())
    }

    /// Takes a name from a file, or removes a directory. An open one stays.
    pub fn remove(
        &mut self,
        directory: u64,
        name: &[u8],
        rmdir: bool,
        open: bool,
        now: Timestamp,
    ) -> Result<u64, Refused> {
        let number = self.lookup(directory, name)?;
        match (rmdir, self.files[&number].is_directory()) {
            (true, false) => return Err(Refused::NotDirectory),
            (false, true) => return Err(Refused::IsDirectory),
            _ => {}
        }
        self.lose(directory, name, number, open, now)?;
        self.touch(directory, now);
        Ok(number)
    }

    fn lose(
        &mut self,
        directory: u64,
        name: &[u8],
        number: u64,
        open: bool,
        now: Timestamp,
    ) -> Result<(), Refused> {
        if !self.files[&number].entries.is_empty() {
            return Err(Refused::NotEmpty);
        }
        self.untie(directory, name, number);
        self.of(number).times[2] = now;
        if self.files[&number].nlink == 0 && !open {
            self.files.remove(&number);
        }
        Ok(())
    }

    /// Whether a directory is another or above it.
    fn is_above(&self, above: u64, below: u64) -> bool {
        let mut at = below;
        loop {
            if at == above {
                return true;
            }
            match self.files[&at].parents.first() {
                Some((directory, _)) => at = *directory,
                None => return false,
            }
        }
    }

    /// Rename.
    pub fn rename(
        &mut self,
        from: (u64, &[u8]),
        to: (u64, &[u8]),
        flags: Flags,
        open: bool,
        now: Timestamp,
    ) -> Result<(), Refused> {
        check(from.1)?;
        check(to.1)?;
        self.directory(from.0)?;
        self.open_directory(to.0)?;
        let number = self.lookup(from.0, from.1)?;
        let other = self.lookup(to.0, to.1).ok();
        if flags.no_replace && other.is_some() {
            return Err(Refused::Exists);
        }
        if flags.exchange && other.is_none() {
            return Err(Refused::NotFound);
        }
        if other == Some(number) {
            return Ok(());
        }
        let is_directory = |n: u64| self.files[&n].is_directory();
        if is_directory(number) && self.is_above(number, to.0) {
            return Err(Refused::Invalid);
        }
        if let (true, Some(other)) = (flags.exchange, other) {
            if is_directory(other) && self.is_above(other, from.0) {
                return Err(Refused::Invalid);
            }
            self.untie(from.0, from.1, number);
            self.untie(to.0, to.1, other);
            self.tie(from.0, from.1, other);
            self.tie(to.0, to.1, number);
            self.of(other).times[2] = now;
        } else {
            if let Some(other) = other {
                match (is_directory(number), is_directory(other)) {
                    (true, false) => return Err(Refused::NotDirectory),
                    (false, true) => return Err(Refused::IsDirectory),
                    _ => self.lose(to.0, to.1, other, open, now)?,
                }
            }
            self.untie(from.0, from.1, number);
            self.tie(to.0, to.1, number);
            if let Some(white) = flags.whiteout {
                let file = File::new(FileType::CharDevice, now);
                assert!(self.files.insert(white, file).is_none(), "a number twice");
                self.tie(from.0, from.1, white);
            }
        }
        self.of(number).times[2] = now;
        self.touch(from.0, now);
        self.touch(to.0, now);
        Ok(())
    }

    /// Files without a name.
    pub fn orphans(&self) -> Vec<u64> {
        let orphans = self.files.iter().filter(|(_, file)| file.nlink == 0);
        orphans.map(|(number, _)| *number).collect()
    }

    /// A file without a name is not used any more.
    pub fn forget(&mut self, number: u64) -> Result<(), Refused> {
        if self.get(number)?.nlink != 0 {
            return Err(Refused::Invalid);
        }
        self.files.remove(&number);
        Ok(())
    }

    /// Whether an attribute could have this name and a value of so many bytes.
    pub fn may_have(name: &[u8], size: usize) -> Result<(), Refused> {
        match name.len() {
            256.. => Err(Refused::NameTooLong),
            _ if name.is_empty() || name.contains(&0) => Err(Refused::Invalid),
            _ if size > 65536 => Err(Refused::TooLong),
            _ => Ok(()),
        }
    }

    /// Gives a file an extended attribute; `there` says whether it must have it already.
    pub fn set_attribute(
        &mut self,
        number: u64,
        (name, value): (&[u8], &[u8]),
        there: Option<bool>,
        now: Timestamp,
    ) -> Result<(), Refused> {
        Self::may_have(name, value.len())?;
        let is_there = self.get(number)?.attributes.contains_key(name);
        match there {
            Some(true) if !is_there => return Err(Refused::NoAttribute),
            Some(false) if is_there => return Err(Refused::Exists),
            _ => {}
        }
        let file = self.of(number);
        file.attributes.insert(name.to_vec(), value.into());
        file.times[2] = now;
        Ok(())
    }

    /// An attribute's value.
    pub fn attribute(&self, number: u64, name: &[u8]) -> Result<&[u8], Refused> {
        Self::may_have(name, 0)?;
        let value = self.get(number)?.attributes.get(name);
        value.map(|v| &v[..]).ok_or(Refused::NoAttribute)
    }

    /// Takes an extended attribute from a file.
    pub fn remove_attribute(
        &mut self,
        number: u64,
        name: &[u8],
        now: Timestamp,
    ) -> Result<(), Refused> {
        self.attribute(number, name)?;
        let file = self.of(number);
        file.attributes.remove(name);
        file.times[2] = now;
        Ok(())
    }

    /// The same without the files that have no name.
    #[must_use]
    pub fn without_orphans(&self) -> Self {
        let mut files = self.clone();
        files.files.retain(|_, file| file.nlink != 0);
        files
    }
}
