// SPDX-License-Identifier: GPL-2.0

//! The way through the directories of a volume, however damaged: each inode is visited once, so it ends, and what a directory has beside its
//! names is told when all below it is done. What is done with files is somebody else's business.

use super::report::Report;
use super::report::Trouble;
use super::seen::Seen;
use super::source::Entry;
use super::source::Source;
use super::wanted::Wanted;
use crate::failure::Failure;
use embr_engine::format::inode::FileType;
use embr_engine::format::inode::Inode;
use embr_engine::names::Error;
use embr_engine::units::InodeNo;
use embr_engine::volume::Machine;
use std::collections::BTreeMap;

/// Names of a directory that are read at a time.
const ENTRIES: usize = 64;
/// Names of a path that are shown, at most: those at its end.
const SHOWN: usize = 256;

/// A directory on the way.
pub(super) struct Frame {
    pub(super) number: InodeNo,
    pub(super) name: Vec<u8>,
    inode: Option<Inode>,
    rest: Rest,
    /// Names that were found.
    found: u64,
}

/// What is still to be visited of a directory.
pub(super) enum Rest {
    Nothing,
    /// These, and those from there on.
    Entries(std::vec::IntoIter<Entry>, Option<u64>),
    /// What was asked for.
    Wanted(std::collections::btree_map::IntoIter<Vec<u8>, Wanted>),
}

impl Rest {
    /// All that is in it.
    pub(super) fn all() -> Self {
        Rest::Entries(Vec::new().into_iter(), Some(0))
    }
}

/// A file, by the way to it.
pub(super) struct Spot<'a> {
    /// The directories above, the root first.
    pub(super) above: &'a [Frame],
    pub(super) name: &'a [u8],
    pub(super) number: InodeNo,
}

impl Spot<'_> {
    /// The path, from the root of the volume on.
    pub(super) fn path(&self) -> Vec<u8> {
        let skipped = self.above.len().saturating_sub(SHOWN).max(1);
        let mut path = match skipped > 1 {
            true => b"...".to_vec(),
            false => Vec::new(),
        };
        for frame in self.above.iter().skip(skipped) {
            path.push(b'/');
            path.extend_from_slice(&frame.name);
        }
        path.push(b'/');
        path.extend_from_slice(self.name);
        path
    }

    /// The names on the way to the directory that it is in, with `/` between them.
    pub(super) fn directory(&self) -> Vec<u8> {
        let names: Vec<&[u8]> = self.above.iter().skip(1).map(|f| &f.name[..]).collect();
        names.join(&b'/')
    }
}

/// What is read, and where it is told.
pub(super) struct Job<'s, M> {
    pub(super) source: Source<'s, M>,
    pub(super) report: Report,
}

/// What became of a directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Entered {
    /// It is there, and what follows is in it.
    Yes,
    /// Something of its name is there already.
    Exists,
    /// It cannot be made or entered, which was told.
    No,
}

/// What became of a file.
#[derive(Debug)]
pub(super) enum Kept {
    /// It is there, or why it is not was told.
    Done(Place),
    /// Something of its name is there already.
    Exists,
    /// The name cannot be had, which was told.
    NoName,
}

/// Where a file was put.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Place {
    /// The way to it; nothing if it is nowhere.
    pub(super) path: Option<Vec<u8>>,
    /// Not all of it is there, so it does not have its own name.
    pub(super) is_aside: bool,
}

/// What is done with files.
pub(super) trait Act<M: Machine> {
    /// Makes a directory and goes into it.
    fn make(&mut self, job: &mut Job<'_, M>, spot: &Spot<'_>) -> Result<Entered, Failure>;
    /// Goes into a directory that was made before.
    fn enter(&mut self, job: &mut Job<'_, M>, spot: &Spot<'_>) -> Result<Entered, Failure>;
    /// Leaves the directory; so far nothing else is to come in it.
    fn leave(
        &mut self,
        job: &mut Job<'_, M>,
        spot: &Spot<'_>,
        inode: Option<&Inode>,
    ) -> Result<(), Failure>;
    /// A file that is no directory.
    fn file(
        &mut self,
        job: &mut Job<'_, M>,
        spot: &Spot<'_>,
        inode: &Inode,
    ) -> Result<Kept, Failure>;
    /// One more name of a file that was put there.
    fn link(
        &mut self,
        job: &mut Job<'_, M>,
        spot: &Spot<'_>,
        inode: &Inode,
        place: &Place,
    ) -> Result<(), Failure>;
    /// All is done; this is the root.
    fn finish(&mut self, job: &mut Job<'_, M>, root: Option<&Inode>) -> Result<(), Failure>;
}

/// A file with several names.
pub(super) struct Named {
    /// How many of them were not found yet.
    pub(super) left: u32,
    pub(super) place: Place,
}

/// A walk through a volume.
pub(super) struct Walk<'s, M, A> {
    pub(super) job: Job<'s, M>,
    pub(super) act: A,
    pub(super) frames: Vec<Frame>,
    pub(super) seen: Seen,
    pub(super) names: BTreeMap<InodeNo, Named>,
}

impl<'s, M: Machine, A: Act<M>> Walk<'s, M, A> {
    pub(super) fn new(job: Job<'s, M>, act: A) -> Self {
        Walk {
            job,
            act,
            frames: Vec::new(),
            seen: Seen::default(),
            names: BTreeMap::new(),
        }
    }

    /// Visits what is wanted; where that is everything, also what no directory leads to.
    pub(super) fn run(&mut self, wanted: Wanted) -> Result<(), Failure> {
        let is_whole = wanted.is_whole;
        let root = InodeNo::ROOT;
        let inode = self.job.source.inode(root)?;
        let spot = Spot {
            above: &[],
            name: b"",
            number: root,
        };
        if let Err(why) = &inode {
            let text = format!("what is known of the root directory is lost: {why}");
            self.job.report.tell(Trouble::Lost, &spot, &text);
        }
        self.seen.insert(root);
        let rest = match is_whole {
            true => Rest::all(),
            false => Rest::Wanted(wanted.below.into_iter()),
        };
        self.push(root, b"", inode.ok(), rest);
        self.go_on(1)?;
        self.end_directory(0);
        if is_whole {
            self.find_again()?;
        }
        let root = self.frames.pop().and_then(|frame| frame.inode);
        self.act.finish(&mut self.job, root.as_ref())
    }

    pub(super) fn push(&mut self, number: InodeNo, name: &[u8], inode: Option<Inode>, rest: Rest) {
        self.frames.push(Frame {
            number,
            name: name.to_vec(),
            inode,
            rest,
            found: 0,
        });
    }

    /// Visits what is left to be visited, until so many directories are left on the way.
    pub(super) fn go_on(&mut self, depth: usize) -> Result<(), Failure> {
        loop {
            match self.next()? {
                Some((entry, wanted)) => self.visit(&entry, wanted)?,
                None if self.frames.len() > depth => self.leave()?,
                None => return Ok(()),
            }
        }
    }

    /// Goes back up, whatever is left.
    pub(super) fn back_to(&mut self, depth: usize) -> Result<(), Failure> {
        while self.frames.len() > depth {
            self.leave()?;
        }
        Ok(())
    }

    /// The next name of the directory that it is in.
    fn next(&mut self) -> Result<Option<(Entry, Option<Wanted>)>, Failure> {
        while let Some(frame) = self.frames.last_mut() {
            let number = frame.number;
            match &mut frame.rest {
                Rest::Nothing => return Ok(None),
                Rest::Entries(batch, from) => {
                    if let Some(entry) = batch.next() {
                        frame.found = frame.found.saturating_add(1);
                        return Ok(Some((entry, None)));
                    }
                    let Some(first) = from.take() else {
                        return Ok(None);
                    };
                    let more = self.job.source.entries(number, first, ENTRIES)?;
                    (*batch, *from) = (more.entries.into_iter(), more.next);
                    for why in more.lost {
                        let text = format!("names in this directory may be lost: {why}");
                        self.tell_of_directory(&text);
                    }
                }
                Rest::Wanted(names) => {
                    let Some((name, wanted)) = names.next() else {
                        return Ok(None);
                    };
                    let found = self.job.source.lookup(number, &name)?;
                    let (what, text) = match found {
                        Some((_, true)) => (None, ""),
                        Some((_, false)) => (Some(Trouble::Found), FOUND),
                        None => (Some(Trouble::Lost), MISSING),
                    };
                    if let Some(what) = what {
                        let spot = Spot {
                            above: &self.frames,
                            name: &name,
                            number: found.map_or(InodeNo::NONE, |(target, _)| target.inode),
                        };
                        self.job.report.tell(what, &spot, text);
                    }
                    if let Some((target, _)) = found {
                        return Ok(Some((Entry { name, target }, Some(wanted))));
                    }
                }
            }
        }
        Ok(None)
    }

    /// Something is lost of the directory that it is in.
    fn tell_of_directory(&mut self, text: &str) {
        if let Some((frame, above)) = self.frames.split_last() {
            let spot = Spot {
                above,
                name: &frame.name,
                number: frame.number,
            };
            self.job.report.tell(Trouble::Lost, &spot, text);
        }
    }

    /// A name in the directory that it is in.
    pub(super) fn visit(&mut self, entry: &Entry, wanted: Option<Wanted>) -> Result<(), Failure> {
        let Entry { name, target } = entry;
        let number = target.inode;
        let spot = Spot {
            above: &self.frames,
            name,
            number,
        };
        let report = &mut self.job.report;
        let inode = match self.job.source.inode(number)? {
            Ok(inode) => Some(inode),
            Err(why) => {
                let why = match why {
                    Error::NotFound => format!("inode {number} is not there"),
                    why => why.to_string(),
                };
                report.tell(
                    Trouble::Lost,
                    &spot,
                    &format!("all but the name is lost: {why}"),
                );
                None
            }
        };
        if let Some(inode) = &inode {
            if inode.kind != target.kind || inode.generation != target.generation {
                let text = format!(
                    "its directory says something else of inode {number} than that itself does"
                );
                report.tell(Trouble::Damaged, &spot, &text);
            }
        }
        let kind = inode.as_ref().map_or(target.kind, |inode| inode.kind);
        let rest = match wanted {
            Some(wanted) if !wanted.is_whole => Rest::Wanted(wanted.below.into_iter()),
            _ => Rest::all(),
        };
        match (kind, inode) {
            // What is in it may still be there.
            (FileType::Directory, inode) => self.directory(number, name, inode, rest),
            (_, Some(_)) if matches!(rest, Rest::Wanted(_)) => {
                report.tell(
                    Trouble::Lost,
                    &spot,
                    "it is no directory: nothing is below it",
                );
                Ok(())
            }
            (_, Some(inode)) => self.file(number, name, &inode),
            (_, None) => {
                self.seen.insert(number);
                Ok(())
            }
        }
    }

    fn directory(
        &mut self,
        number: InodeNo,
        name: &[u8],
        inode: Option<Inode>,
        rest: Rest,
    ) -> Result<(), Failure> {
        let spot = Spot {
            above: &self.frames,
            name,
            number,
        };
        let report = &mut self.job.report;
        if self.seen.has(number) {
            let text = format!("a second name of directory {number}, which can have one: left out");
            report.tell(Trouble::Lost, &spot, &text);
            return Ok(());
        }
        match self.act.make(&mut self.job, &spot)? {
            Entered::Yes => {
                self.seen.insert(number);
                self.push(number, name, inode, rest);
            }
            Entered::Exists => self.job.report.tell(Trouble::Lost, &spot, EXISTS),
            Entered::No => {}
        }
        Ok(())
    }

    fn file(&mut self, number: InodeNo, name: &[u8], inode: &Inode) -> Result<(), Failure> {
        let spot = Spot {
            above: &self.frames,
            name,
            number,
        };
        if let Some(named) = self.names.get_mut(&number) {
            self.act.link(&mut self.job, &spot, inode, &named.place)?;
            named.left = named.left.saturating_sub(1);
            if named.left == 0 {
                self.names.remove(&number);
            }
            return Ok(());
        }
        if self.seen.has(number) {
            let text = format!("a name too many of inode {number}: left out");
            self.job.report.tell(Trouble::Lost, &spot, &text);
            return Ok(());
        }
        match self.act.file(&mut self.job, &spot, inode)? {
            Kept::Done(place) => {
                self.seen.insert(number);
                if inode.nlink > 1 {
                    let left = inode.nlink.saturating_sub(1);
                    self.names.insert(number, Named { left, place });
                }
            }
            Kept::Exists => self.job.report.tell(Trouble::Lost, &spot, EXISTS),
            Kept::NoName => {}
        }
        Ok(())
    }

    /// Whether all names of a directory on the way were found that it counts.
    fn end_directory(&mut self, index: usize) {
        let Some((above, [frame, ..])) = self.frames.split_at_checked(index) else {
            return;
        };
        let counted = match (&frame.rest, &frame.inode) {
            (Rest::Entries(..), Some(inode)) => inode.entries,
            _ => return,
        };
        if let Some(missing) = counted.checked_sub(frame.found).filter(|n| *n != 0) {
            let spot = Spot {
                above,
                name: &frame.name,
                number: frame.number,
            };
            let text = format!("{missing} of its {counted} names are lost");
            self.job.report.tell(Trouble::Lost, &spot, &text);
        }
    }

    fn leave(&mut self) -> Result<(), Failure> {
        self.end_directory(self.frames.len().saturating_sub(1));
        let Some(frame) = self.frames.pop() else {
            return Ok(());
        };
        let spot = Spot {
            above: &self.frames,
            name: &frame.name,
            number: frame.number,
        };
        self.act.leave(&mut self.job, &spot, frame.inode.as_ref())
    }
}

/// What is said of files that were found by what they say of themselves.
pub(super) const FOUND: &str =
    "its directory does not lead to it any more; found by what it says itself";
const MISSING: &str = "there is no such file, or its name is lost";
/// What is said where a name is taken.
const EXISTS: &str = "something else of this name is there already: the volume has it twice, or two names are one here";
