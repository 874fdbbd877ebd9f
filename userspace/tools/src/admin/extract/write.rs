// SPDX-License-Identifier: GPL-2.0

//! Files as they come into the directory that they are put into. What is under its own name there is what the volume held, all of it.

use super::contents::Halt;
use super::contents::Taker;
use super::contents::CHUNK;
use super::output::Output;
use super::report::Report;
use super::report::Trouble;
use super::report::RANGES;
use super::restore::restore;
use super::restore::Made;
use super::walk::Act;
use super::walk::Entered;
use super::walk::Job;
use super::walk::Kept;
use super::walk::Place;
use super::walk::Spot;
use crate::admin::FAILED;
use crate::cli::admin::Damaged;
use crate::failure::Failure;
use crate::items;
use embr_engine::format::inode::FileType;
use embr_engine::format::inode::Inode;
use embr_engine::names::Error;
use embr_engine::units::InodeNo;
use embr_engine::units::BLOCK_SIZE;
use embr_engine::volume::Machine;
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// What stands behind the name of a file that is damaged.
const SUFFIX: &str = ".damaged";
/// Such names that are tried.
const NAMES: usize = 1000;
/// Bytes of a name, at most.
const LONGEST: usize = 255;

/// Why something could not be made.
enum Refusal {
    /// Nothing can be made any more.
    End,
    /// There is something of that name.
    Exists,
    /// The name cannot be.
    Name,
    /// This file cannot be, by whatever name.
    File,
}

fn refusal(why: &io::Error) -> Refusal {
    let Some(errno) = Errno::from_io_error(why) else {
        return Refusal::End;
    };
    match errno {
        Errno::NOSPC
        | Errno::DQUOT
        | Errno::ROFS
        | Errno::IO
        | Errno::NOMEM
        | Errno::MFILE
        | Errno::NFILE => Refusal::End,
        Errno::EXIST => Refusal::Exists,
        Errno::NAMETOOLONG | Errno::INVAL | Errno::ILSEQ => Refusal::Name,
        _ => Refusal::File,
    }
}

/// Puts files into a directory.
pub(super) struct Writing {
    pub(super) output: Output,
    /// How people call it.
    pub(super) path: PathBuf,
    pub(super) damaged: Damaged,
    buffer: Vec<u8>,
}

/// A file that is being written.
struct Filling<'f, 'r> {
    file: &'f File,
    report: &'r mut Report,
    spot: &'f Spot<'f>,
    ranges: u64,
    bytes: u64,
}

impl Taker for Filling<'_, '_> {
    fn take(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, at)?;
        self.report.step(self.spot, bytes.len());
        Ok(())
    }

    fn lost(&mut self, range: Range<u64>, why: &Error) {
        self.ranges = self.ranges.saturating_add(1);
        self.bytes = self
            .bytes
            .saturating_add(range.end.saturating_sub(range.start));
        if self.ranges <= RANGES {
            let (from, to) = (range.start, range.end.saturating_sub(1));
            let text = format!("bytes {from} to {to} are lost: {why}");
            self.report
                .detail(Trouble::Damaged, self.spot, &text, Some(range));
        }
    }

    fn unsettled(&mut self) {
        self.report.is_doubtful = true;
        self.report.once("unsettled", || {
            "whether files were being cut, or ranges of them moved, when the volume was used last is not known, as what says so is lost: \
             such a file may hold what it did before"
                .to_owned()
        });
    }
}

impl Writing {
    pub(super) fn new(output: Output, path: PathBuf, damaged: Damaged) -> Self {
        Writing {
            output,
            path,
            damaged,
            buffer: vec![0; CHUNK * BLOCK_SIZE],
        }
    }

    /// The directory itself cannot be worked in any more.
    fn end(&self, spot: &Spot<'_>, why: &io::Error) -> Failure {
        let text = format!(
            "{}: {}: {why}",
            self.path.display(),
            items::text(&spot.path())
        );
        Failure::new(FAILED, "output", text)
            .advise("what is there so far is not all; begin again with another directory")
    }

    /// Something could not be made. Says whether another name would help.
    fn refused(
        &self,
        report: &mut Report,
        spot: &Spot<'_>,
        why: &io::Error,
    ) -> Result<bool, Failure> {
        let refusal = refusal(why);
        if matches!(refusal, Refusal::End) {
            return Err(self.end(spot, why));
        }
        report.tell(Trouble::Refused, spot, &format!("it cannot be made: {why}"));
        Ok(!matches!(refusal, Refusal::File))
    }

    /// The place of a file that is here under this name.
    fn place(&self, spot: &Spot<'_>, name: &[u8], is_aside: bool) -> Place {
        let mut path = spot.directory();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        Place {
            path: Some(path),
            is_aside,
        }
    }

    /// Does something with names that say that a file is damaged, until one of them is free.
    fn aside(
        &self,
        name: &[u8],
        mut make: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<Vec<u8>> {
        let (mut turn, mut longest) = (1, LONGEST);
        loop {
            let suffix = match turn {
                1 => SUFFIX.to_owned(),
                turn => format!("{SUFFIX}.{turn}"),
            };
            let room = longest.saturating_sub(suffix.len()).min(name.len());
            let mut other = name.get(..room).unwrap_or_default().to_vec();
            other.extend_from_slice(suffix.as_bytes());
            match make(&other) {
                Err(why) if why.kind() == io::ErrorKind::AlreadyExists && turn < NAMES => turn += 1,
                // Not every file system takes names as long.
                Err(why)
                    if Errno::from_io_error(&why) == Some(Errno::NAMETOOLONG) && longest > 32 =>
                {
                    longest /= 2;
                }
                done => return done.map(|()| other),
            }
        }
    }

    fn regular<M: Machine>(
        &mut self,
        job: &mut Job<'_, M>,
        spot: &Spot<'_>,
        inode: &Inode,
    ) -> Result<Kept, Failure> {
        let file = match self.output.file(spot.name) {
            Ok(file) => file,
            Err(why) => return self.not_made(&mut job.report, spot, &why),
        };
        let mut filling = Filling {
            file: &file,
            report: &mut job.report,
            spot,
            ranges: 0,
            bytes: 0,
        };
        let size = inode.size.0;
        let source = &job.source;
        let filled = source.contents(spot.number, size, &mut self.buffer, &mut filling);
        let Filling { ranges, bytes, .. } = filling;
        let filled = match filled {
            Ok(()) => file.set_len(size).map_err(Halt::Target),
            filled => filled,
        };
        match filled {
            Ok(()) => {}
            Err(halt) => {
                // A part of it would pass for all of it.
                let removed = self.output.remove(spot.name);
                return match (halt, removed) {
                    (Halt::End(why), _) => Err(why),
                    (Halt::Target(why), Ok(())) => {
                        self.refused(&mut job.report, spot, &why)?;
                        Ok(Kept::Done(Place::default()))
                    }
                    (Halt::Target(_), Err(why)) => Err(self.end(spot, &why)),
                };
            }
        }
        let mut place = self.place(spot, spot.name, false);
        if ranges != 0 {
            place = self.damaged(&mut job.report, spot, (size, ranges, bytes))?;
        }
        if place.path.is_some() {
            restore(job, spot, inode, Made::Open(file.as_fd()))?;
            job.report.counts.files += 1;
        }
        Ok(Kept::Done(place))
    }

    /// So many bytes of a file are lost, in so many ranges: decides where it stays.
    fn damaged(
        &self,
        report: &mut Report,
        spot: &Spot<'_>,
        (size, ranges, bytes): (u64, u64, u64),
    ) -> Result<Place, Failure> {
        let lost = format!("{bytes} of its {size} bytes are lost, in {ranges} ranges");
        let (place, what) = match self.damaged {
            Damaged::Keep => (
                self.place(spot, spot.name, false),
                "which are zeros here".to_owned(),
            ),
            Damaged::Skip => {
                let removed = self.output.remove(spot.name);
                removed.map_err(|why| self.end(spot, &why))?;
                (Place::default(), "it is left out".to_owned())
            }
            Damaged::Aside => {
                let rename = |name: &[u8]| self.output.rename(spot.name, name);
                let name = self.aside(spot.name, rename);
                let name = name.map_err(|why| self.end(spot, &why))?;
                let what = format!("the rest is in {}", items::text(&name));
                (self.place(spot, &name, true), what)
            }
        };
        report.tell(Trouble::Damaged, spot, &format!("{lost}; {what}"));
        Ok(place)
    }

    /// A file that could not be made.
    fn not_made(
        &self,
        report: &mut Report,
        spot: &Spot<'_>,
        why: &io::Error,
    ) -> Result<Kept, Failure> {
        if why.kind() == io::ErrorKind::AlreadyExists {
            return Ok(Kept::Exists);
        }
        Ok(match self.refused(report, spot, why)? {
            true => Kept::NoName,
            false => Kept::Done(Place::default()),
        })
    }
}

fn node_kind(kind: FileType) -> rustix::fs::FileType {
    match kind {
        FileType::Fifo => rustix::fs::FileType::Fifo,
        FileType::CharDevice => rustix::fs::FileType::CharacterDevice,
        FileType::BlockDevice => rustix::fs::FileType::BlockDevice,
        FileType::Socket => rustix::fs::FileType::Socket,
        FileType::Directory => rustix::fs::FileType::Directory,
        FileType::Regular => rustix::fs::FileType::RegularFile,
        FileType::Symlink => rustix::fs::FileType::Symlink,
    }
}

impl<M: Machine> Act<M> for Writing {
    fn make(&mut self, job: &mut Job<'_, M>, spot: &Spot<'_>) -> Result<Entered, Failure> {
        match self.output.make(spot.name) {
            Ok(()) => {
                job.report.counts.directories += u64::from(spot.number != InodeNo::NONE);
                Ok(Entered::Yes)
            }
            Err(why) if why.kind() == io::ErrorKind::AlreadyExists => Ok(Entered::Exists),
            Err(why) => self
                .refused(&mut job.report, spot, &why)
                .map(|_| Entered::No),
        }
    }

    fn enter(&mut self, _: &mut Job<'_, M>, spot: &Spot<'_>) -> Result<Entered, Failure> {
        match self.output.enter(spot.name) {
            Ok(()) => Ok(Entered::Yes),
            Err(why) if matches!(refusal(&why), Refusal::End) => Err(self.end(spot, &why)),
            Err(_) => Ok(Entered::No),
        }
    }

    fn leave(
        &mut self,
        job: &mut Job<'_, M>,
        spot: &Spot<'_>,
        inode: Option<&Inode>,
    ) -> Result<(), Failure> {
        let left = self.output.leave().map_err(|why| self.end(spot, &why))?;
        match inode {
            Some(inode) => restore(job, spot, inode, Made::Open(left.as_fd())),
            None => Ok(()),
        }
    }

    fn file(
        &mut self,
        job: &mut Job<'_, M>,
        spot: &Spot<'_>,
        inode: &Inode,
    ) -> Result<Kept, Failure> {
        let major = inode.rdev.0 >> 20;
        let minor = inode.rdev.0 & 0xf_ffff;
        let made = match inode.kind {
            FileType::Regular => return self.regular(job, spot, inode),
            FileType::Symlink => self.output.symlink(&inode.target, spot.name),
            kind => {
                let device = rustix::fs::makedev(major, minor);
                self.output.node(node_kind(kind), device, spot.name)
            }
        };
        if let Err(why) = made {
            return self.not_made(&mut job.report, spot, &why);
        }
        restore(job, spot, inode, Made::Named(self.output.here(), spot.name))?;
        job.report.counts.files += 1;
        Ok(Kept::Done(self.place(spot, spot.name, false)))
    }

    fn link(
        &mut self,
        job: &mut Job<'_, M>,
        spot: &Spot<'_>,
        inode: &Inode,
        place: &Place,
    ) -> Result<(), Failure> {
        let Some(path) = &place.path else {
            let text = "another name of a file that is not there: left out";
            job.report.detail(Trouble::Damaged, spot, text, None);
            return Ok(());
        };
        let linked = match place.is_aside {
            true => {
                let name = self.aside(spot.name, |name| self.output.link(path, name));
                if let Ok(name) = &name {
                    let (name, path) = (items::text(name), items::text(path));
                    let text = format!("another name of {path}, and so here it is {name}");
                    job.report.detail(Trouble::Damaged, spot, &text, None);
                }
                name.map(drop)
            }
            false => self.output.link(path, spot.name),
        };
        let Err(why) = linked else {
            job.report.counts.links += 1;
            return Ok(());
        };
        match refusal(&why) {
            Refusal::End => return Err(self.end(spot, &why)),
            Refusal::Exists | Refusal::Name => {
                let text = format!("it cannot be made: {why}");
                job.report.tell(Trouble::Refused, spot, &text);
            }
            Refusal::File => {
                let text = format!(
                    "it cannot be a link to {}: {why}; it is a copy",
                    items::text(path)
                );
                job.report.tell(Trouble::Refused, spot, &text);
                self.file(job, spot, inode)?;
            }
        }
        Ok(())
    }

    fn finish(&mut self, job: &mut Job<'_, M>, root: Option<&Inode>) -> Result<(), Failure> {
        let spot = Spot {
            above: &[],
            name: b"",
            number: InodeNo::ROOT,
        };
        if let Some(root) = root.filter(|_| self.output.is_new) {
            restore(job, &spot, root, Made::Open(self.output.top()))?;
        }
        self.output.sync().map_err(|why| self.end(&spot, &why))
    }
}
