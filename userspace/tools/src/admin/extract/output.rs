// SPDX-License-Identifier: GPL-2.0

//! The directory that files are put into. Whatever a volume says, nothing is made, opened or changed outside of it: each step goes from
//! an open directory to one name in it, never through a symbolic link, and nothing that is there is written over.

use rustix::fs::AtFlags;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::RenameFlags;
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::path::Path;

/// Directories on the way to where it works that are kept open; others are opened again on the way back.
const OPEN: usize = 32;
/// Until a file or directory is done, nobody else gets at it.
const PRIVATE: Mode = Mode::RWXU;

/// A directory on the way.
struct Level {
    file: Option<OwnedFd>,
    /// Which one it is.
    identity: (u64, u64),
}

/// The directory, and where in it work goes on.
pub(super) struct Output {
    levels: Vec<Level>,
    top: OwnedFd,
    /// It was not there before.
    pub(super) is_new: bool,
}

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);
const HANDLE: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

fn identity(file: &OwnedFd) -> io::Result<(u64, u64)> {
    let stat = rustix::fs::fstat(file)?;
    Ok((stat.st_dev, stat.st_ino))
}

fn is_empty(file: &OwnedFd) -> io::Result<bool> {
    for entry in rustix::fs::Dir::read_from(file)? {
        if !matches!(entry?.file_name().to_bytes(), b"." | b"..") {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A path of what is open, also where no name leads to it.
fn path_of(file: &impl AsFd) -> String {
    format!("/proc/self/fd/{}", file.as_fd().as_raw_fd())
}

/// Changes the mode of a file that is no symbolic link.
pub(super) fn set_mode(directory: BorrowedFd<'_>, name: &[u8], mode: Mode) -> io::Result<()> {
    let file = rustix::fs::openat(directory, name, HANDLE, Mode::empty())?;
    Ok(rustix::fs::chmod(path_of(&file), mode)?)
}

/// A path of a name in a directory, which leads nowhere else unless it is followed.
pub(super) fn path_in(directory: BorrowedFd<'_>, name: &[u8]) -> Vec<u8> {
    let mut path = path_of(&directory).into_bytes();
    path.push(b'/');
    path.extend_from_slice(name);
    path
}

impl Output {
    /// Makes the directory; or takes one that is there and has nothing in it.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        let is_new = match rustix::fs::mkdirat(rustix::fs::CWD, path, PRIVATE) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(why) => return Err(why.into()),
        };
        // Whoever named it may have named a link to it.
        let flags = match is_new {
            true => DIRECTORY,
            false => DIRECTORY.difference(OFlags::NOFOLLOW),
        };
        let top = rustix::fs::openat(rustix::fs::CWD, path, flags, Mode::empty())?;
        if !is_empty(&top)? {
            return Err(io::Error::new(
                io::ErrorKind::DirectoryNotEmpty,
                "it is not empty; name a new directory, or one with nothing in it",
            ));
        }
        if is_new {
            // What is made in it shall not begin with a list of the directory above; where there is none this fails.
            let _ = rustix::fs::fremovexattr(&top, "system.posix_acl_default");
        }
        Ok(Output {
            levels: Vec::new(),
            top,
            is_new,
        })
    }

    /// The same directory, for what is put into it.
    pub(super) fn again(&self) -> io::Result<Self> {
        let top = self.top.try_clone()?;
        Ok(Output {
            levels: Vec::new(),
            top,
            is_new: self.is_new,
        })
    }

    /// Makes directories below each other, of which only the last may not be there yet, and gives that.
    pub(super) fn below(&mut self, names: &[Vec<u8>]) -> io::Result<Self> {
        let mut at = self.top.try_clone()?;
        let count = names.len();
        for (n, name) in names.iter().enumerate() {
            match rustix::fs::mkdirat(&at, &name[..], PRIVATE) {
                Err(Errno::EXIST) if n + 1 < count => {}
                made => made?,
            }
            at = rustix::fs::openat(&at, &name[..], DIRECTORY, Mode::empty())?;
        }
        Ok(Output {
            levels: Vec::new(),
            top: at,
            is_new: true,
        })
    }

    /// The directory itself.
    pub(super) fn top(&self) -> BorrowedFd<'_> {
        self.top.as_fd()
    }

    /// Where it works.
    pub(super) fn here(&self) -> BorrowedFd<'_> {
        let last = self.levels.last().and_then(|level| level.file.as_ref());
        last.unwrap_or(&self.top).as_fd()
    }

    fn go_into(&mut self, file: OwnedFd) -> io::Result<()> {
        let identity = identity(&file)?;
        self.levels.push(Level {
            file: Some(file),
            identity,
        });
        let far = self.levels.len().checked_sub(OPEN);
        if let Some(level) = far.and_then(|far| self.levels.get_mut(far)) {
            level.file = None;
        }
        Ok(())
    }

    /// Makes a directory and goes into it.
    pub(super) fn make(&mut self, name: &[u8]) -> io::Result<()> {
        rustix::fs::mkdirat(self.here(), name, PRIVATE)?;
        let file = rustix::fs::openat(self.here(), name, DIRECTORY, Mode::empty())?;
        self.go_into(file)
    }

    /// Goes into a directory that was made before, and may be closed to its owner by now; until it is left it is not.
    pub(super) fn enter(&mut self, name: &[u8]) -> io::Result<()> {
        let open = || rustix::fs::openat(self.here(), name, DIRECTORY, Mode::empty());
        let file = match open() {
            Err(Errno::ACCESS) => {
                set_mode(self.here(), name, PRIVATE)?;
                open()?
            }
            opened => opened?,
        };
        rustix::fs::fchmod(&file, PRIVATE)?;
        self.go_into(file)
    }

    /// Goes back to the directory above, and gives the one that was left.
    pub(super) fn leave(&mut self) -> io::Result<OwnedFd> {
        let gone = || io::Error::other("somebody else changes the directory");
        let left = self.levels.pop().and_then(|level| level.file);
        let left = left.ok_or_else(gone)?;
        if let Some(level) = self.levels.last_mut().filter(|level| level.file.is_none()) {
            let above = rustix::fs::openat(&left, "..", DIRECTORY, Mode::empty())?;
            if identity(&above)? != level.identity {
                return Err(gone());
            }
            level.file = Some(above);
        }
        Ok(left)
    }

    /// Makes a file to be written.
    pub(super) fn file(&self, name: &[u8]) -> io::Result<File> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(self.here(), name, flags, Mode::RUSR | Mode::WUSR)?;
        Ok(File::from(file))
    }

    /// Makes a symbolic link.
    pub(super) fn symlink(&self, target: &[u8], name: &[u8]) -> io::Result<()> {
        Ok(rustix::fs::symlinkat(target, self.here(), name)?)
    }

    /// Makes a file of another kind.
    pub(super) fn node(&self, kind: FileType, device: u64, name: &[u8]) -> io::Result<()> {
        let mode = Mode::RUSR | Mode::WUSR;
        Ok(rustix::fs::mknodat(self.here(), name, kind, mode, device)?)
    }

    /// Gives what lies at this path, which begins at the directory itself, another name here.
    pub(super) fn link(&self, path: &[u8], name: &[u8]) -> io::Result<()> {
        let mut names: Vec<&[u8]> = path.split(|b| *b == b'/').collect();
        let last = names.pop().unwrap_or_default();
        let mut way: Option<OwnedFd> = None;
        for name in names {
            let from = way.as_ref().unwrap_or(&self.top);
            let flags = HANDLE | OFlags::DIRECTORY;
            way = Some(rustix::fs::openat(from, name, flags, Mode::empty())?);
        }
        let from = way.as_ref().unwrap_or(&self.top);
        let here = self.here();
        Ok(rustix::fs::linkat(
            from,
            last,
            here,
            name,
            AtFlags::empty(),
        )?)
    }

    /// Renames what is here, to a name that nothing has.
    pub(super) fn rename(&self, from: &[u8], to: &[u8]) -> io::Result<()> {
        let here = self.here();
        match rustix::fs::renameat_with(here, from, here, to, RenameFlags::NOREPLACE) {
            // Not every file system can.
            Err(Errno::INVAL | Errno::NOSYS) => {
                rustix::fs::linkat(here, from, here, to, AtFlags::empty())?;
                self.remove(from)
            }
            done => Ok(done?),
        }
    }

    /// Removes a file that was made here.
    pub(super) fn remove(&self, name: &[u8]) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(self.here(), name, AtFlags::empty())?)
    }

    /// All of it is on its device, or that failed.
    pub(super) fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::syncfs(&self.top)?)
    }
}
