// SPDX-License-Identifier: GPL-2.0

//! Files that no directory leads to any more. Each says itself in which directory it is, and by which name: where that way is still known,
//! it is put there. Else it comes into `lost+found`: into a directory named after its own, if nothing but the number is known of that, or by
//! its own number.

use super::report::Trouble;
use super::source::Entry;
use super::source::Parent;
use super::walk::Act;
use super::walk::Entered;
use super::walk::Rest;
use super::walk::Spot;
use super::walk::Walk;
use super::walk::FOUND;
use crate::failure::Failure;
use embr_engine::format::inode::Inode;
use embr_engine::format::name::Target;
use embr_engine::units::InodeNo;
use embr_engine::volume::Machine;

/// Directories between a file and what is known of the way to it, at most: circles end here too.
const STEPS: usize = 256;
/// Names for the directory of what has no place, which the volume may have as well.
const NAMES: usize = 100;

/// Where the way to a file begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Begin {
    Root,
    /// In `lost+found`.
    Lost,
    /// There, in what stands for a directory of which nothing is left.
    Gone(InodeNo),
}

/// A way to a file.
struct Way {
    begin: Begin,
    /// Each directory with its name, and the file at the end.
    steps: Vec<(InodeNo, Vec<u8>)>,
}

fn by_number(number: InodeNo) -> Vec<u8> {
    format!("#{number}").into_bytes()
}

impl Way {
    fn lost(number: InodeNo) -> Self {
        Way {
            begin: Begin::Lost,
            steps: vec![(number, by_number(number))],
        }
    }
}

/// What became of the way.
enum Gone {
    /// It leads to the directory that the file is in.
    There,
    /// Directories on it were made, and all that they lead to.
    Further,
    /// It ends somewhere.
    Nowhere,
}

/// Where names are put that no directory leads to any more.
#[derive(Default)]
pub(super) struct Lost {
    name: Option<Vec<u8>>,
    groups: super::seen::Seen,
}

impl<M: Machine, A: Act<M>> Walk<'_, M, A> {
    /// Visits every inode that was not.
    pub(super) fn find_again(&mut self) -> Result<(), Failure> {
        let mut lost = Lost::default();
        let mut from = Some(InodeNo::ROOT);
        while let Some(first) = from {
            let mut bad = Vec::new();
            let (numbers, next) = self.job.source.inodes(first, &mut |why| bad.push(why))?;
            for why in bad {
                let text = format!("what was known of some files is lost: {why}");
                self.job.report.lost(text);
            }
            for number in numbers {
                if !self.seen.has(number) {
                    self.found(&mut lost, number)?;
                }
            }
            from = next;
        }
        self.names_again(&mut lost)
    }

    fn found(&mut self, lost: &mut Lost, number: InodeNo) -> Result<(), Failure> {
        let inode = match self.job.source.inode(number)? {
            Ok(inode) => inode,
            Err(why) => {
                let name = by_number(number);
                let spot = Spot {
                    above: &self.frames,
                    name: &name,
                    number,
                };
                let text = format!("a file without a way to it is lost: {why}");
                self.job.report.tell(Trouble::Lost, &spot, &text);
                return Ok(());
            }
        };
        if inode.nlink == 0 {
            let removed = &mut self.job.report.counts.removed;
            *removed = removed.saturating_add(1);
            return Ok(());
        }
        // Each turn makes a directory more.
        for _ in 0..STEPS {
            let parent = self.job.source.parents(number)?.into_iter().next();
            let way = self.way_to(number, parent)?;
            let gone = self.go(lost, &way)?;
            if let (Gone::There, Some((_, name))) = (&gone, way.steps.last()) {
                self.put(number, name, &inode)?;
            }
            self.back_to(1)?;
            if self.seen.has(number) {
                return Ok(());
            }
            if !matches!(gone, Gone::Further) {
                break;
            }
        }
        let way = Way::lost(number);
        if let (Gone::There, Some((_, name))) = (self.go(lost, &way)?, way.steps.last()) {
            self.put(number, name, &inode)?;
        }
        // If not even that can be, it was told.
        self.seen.insert(number);
        self.back_to(1)
    }

    /// The way to a file that has this name, and up from there as files themselves say.
    fn way_to(&mut self, number: InodeNo, parent: Option<Parent>) -> Result<Way, Failure> {
        let mut steps = Vec::new();
        let (mut at, mut parent) = (number, parent);
        let begin = loop {
            let Some(Parent { directory, name }) = parent else {
                steps.push((at, by_number(at)));
                break Begin::Lost;
            };
            steps.push((at, name));
            if directory == InodeNo::ROOT {
                break Begin::Root;
            }
            if steps.len() >= STEPS {
                return Ok(Way::lost(number));
            }
            let inode = self.job.source.inode(directory)?;
            let is_there = inode.is_ok_and(|inode| inode.is_directory() && inode.nlink != 0);
            parent = self.job.source.parents(directory)?.into_iter().next();
            if !is_there && (parent.is_none() || !self.seen.has(directory)) {
                break Begin::Gone(directory);
            }
            at = directory;
        };
        steps.reverse();
        Ok(Way { begin, steps })
    }

    /// Goes as far as the directory that the way ends in.
    fn go(&mut self, lost: &mut Lost, way: &Way) -> Result<Gone, Failure> {
        if way.begin != Begin::Root && !self.enter_lost(lost)? {
            return Ok(Gone::Nowhere);
        }
        if let Begin::Gone(directory) = way.begin {
            let is_new = !lost.groups.has(directory);
            if !self.step(directory, &by_number(directory), None, is_new)? {
                return Ok(Gone::Nowhere);
            }
            lost.groups.insert(directory);
        }
        let Some((_, above)) = way.steps.split_last() else {
            return Ok(Gone::Nowhere);
        };
        for (number, name) in above {
            let inode = self.job.source.inode(*number)?.ok();
            if self.seen.has(*number) {
                if !self.step(*number, name, inode, false)? {
                    return Ok(Gone::Nowhere);
                }
                continue;
            }
            let Some(inode) = inode else {
                return Ok(Gone::Nowhere);
            };
            self.put(*number, name, &inode)?;
            return Ok(match self.seen.has(*number) {
                true => Gone::Further,
                false => Gone::Nowhere,
            });
        }
        Ok(Gone::There)
    }

    /// Visits a file that was found, here by this name.
    fn put(&mut self, number: InodeNo, name: &[u8], inode: &Inode) -> Result<(), Failure> {
        let target = Target {
            inode: number,
            generation: inode.generation,
            kind: inode.kind,
        };
        let entry = Entry {
            name: name.to_vec(),
            target,
        };
        let depth = self.frames.len();
        self.visit(&entry, None)?;
        if self.seen.has(number) {
            let spot = Spot {
                above: self.frames.get(..depth).unwrap_or_default(),
                name,
                number,
            };
            self.job.report.tell(Trouble::Found, &spot, FOUND);
        }
        self.go_on(depth)
    }

    /// Goes into a directory that was made before, or makes it. Says whether it is there.
    fn step(
        &mut self,
        number: InodeNo,
        name: &[u8],
        inode: Option<Inode>,
        is_new: bool,
    ) -> Result<bool, Failure> {
        let spot = Spot {
            above: &self.frames,
            name,
            number,
        };
        let entered = match is_new {
            true => self.act.make(&mut self.job, &spot)?,
            false => self.act.enter(&mut self.job, &spot)?,
        };
        if entered == Entered::Yes {
            self.push(number, name, inode, Rest::Nothing);
        }
        Ok(entered == Entered::Yes)
    }

    fn enter_lost(&mut self, lost: &mut Lost) -> Result<bool, Failure> {
        if let Some(name) = &lost.name {
            return self.step(InodeNo::NONE, name, None, false);
        }
        for turn in 1..=NAMES {
            let name = match turn {
                1 => "lost+found".to_owned(),
                turn => format!("lost+found.{turn}"),
            };
            let spot = Spot {
                above: &self.frames,
                name: name.as_bytes(),
                number: InodeNo::NONE,
            };
            match self.act.make(&mut self.job, &spot)? {
                Entered::Yes => {
                    self.push(InodeNo::NONE, name.as_bytes(), None, Rest::Nothing);
                    lost.name = Some(name.into_bytes());
                    return Ok(true);
                }
                Entered::Exists => {}
                Entered::No => break,
            }
        }
        Ok(false)
    }

    /// Names of files which have others that directories lead to.
    fn names_again(&mut self, lost: &mut Lost) -> Result<(), Failure> {
        for (number, mut named) in std::mem::take(&mut self.names) {
            let Ok(inode) = self.job.source.inode(number)? else {
                continue;
            };
            for parent in self.job.source.parents(number)? {
                let Parent { directory, name } = &parent;
                let listed = self.job.source.files.lookup(*directory, name);
                if listed.is_ok_and(|target| target.inode == number) {
                    continue;
                }
                let way = self.way_to(number, Some(parent))?;
                let gone = self.go(lost, &way)?;
                if let (Gone::There, Some((_, name))) = (gone, way.steps.last()) {
                    let spot = Spot {
                        above: &self.frames,
                        name,
                        number,
                    };
                    self.job.report.tell(Trouble::Found, &spot, FOUND);
                    self.act.link(&mut self.job, &spot, &inode, &named.place)?;
                    named.left = named.left.saturating_sub(1);
                }
                self.back_to(1)?;
            }
            if named.left != 0 {
                let place = named.place.path.unwrap_or_default();
                let spot = Spot {
                    above: &self.frames,
                    name: &place,
                    number,
                };
                let text = format!("{} more names of it are lost", named.left);
                self.job.report.tell(Trouble::Lost, &spot, &text);
            }
        }
        Ok(())
    }
}
