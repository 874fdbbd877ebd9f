// SPDX-License-Identifier: GPL-2.0

//! The operations that sequences are made of, over few arguments: two directories with three names each, four ranges. Each has a name
//! of one line. What they come to is said elsewhere ([`crate::estate`]).

use crate::sectors::BadText;
use embr_engine::file::Way;
use embr_engine::units::BLOCK_SIZE;
use std::fmt;
use std::mem::discriminant;
use std::ops::Range;
use std::str::FromStr;
use std::sync::OnceLock;

/// The directories, which are always there.
pub const DIRECTORIES: [&str; 2] = ["A", "B"];
/// The names in each.
pub const NAMES: [&str; 3] = ["x", "y", "z"];
const BLOCK: u64 = BLOCK_SIZE as u64;
/// The first block; two in the middle; the begin of one; two far out, in a window of extents of their own.
pub const RANGES: [Range<u64>; 4] = [
    0..BLOCK,
    BLOCK..3 * BLOCK,
    2 * BLOCK..2 * BLOCK + 1000,
    40 * BLOCK..42 * BLOCK,
];
/// How large the values of attributes are: one that lies with its name, and one that lies in pieces.
pub const VALUES: [usize; 2] = [30, 5000];
/// To which sizes files are truncated.
pub const SIZES: [u64; 4] = [0, BLOCK + 904, 2 * BLOCK, 41 * BLOCK + 7];

/// What snapshots are called, and the head that grows beside the one that the volume shows by itself.
pub const KEPT: [&str; 3] = ["s", "t", "h"];
/// The head's place among these.
pub const HEAD: usize = 2;

/// A name in a directory.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Path {
    /// Of [`DIRECTORIES`].
    pub directory: usize,
    /// Of [`NAMES`].
    pub name: usize,
}

/// An operation. Numbers are of [`RANGES`] and [`SIZES`], if nothing else is said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)] // The names say it.
pub enum Deed {
    Create(Path),
    Mkdir(Path),
    Write(Path, usize, Way),
    Truncate(Path, usize),
    Punch(Path, usize),
    Collapse(Path, usize),
    /// Sets places aside.
    Allocate(Path, usize),
    /// Blocks of the second range of a file are from now on in another file as well.
    Clone(Path, Path),
    /// What the same blocks of two files hold is stored once if it is the same.
    Dedupe(Path, Path),
    Link(Path, Path),
    Unlink(Path),
    Rmdir(Path),
    Rename(Path, Path),
    /// Gives the file an extended attribute, or the one that it has another value. The number is of [`VALUES`].
    SetAttribute(Path, usize),
    RemoveAttribute(Path),
    Fsync(Path),
    /// From now on the file is held open, and stays when it has no name any more. At most one is.
    Open(Path),
    /// Makes a file without a name, and holds it open.
    Tmpfile,
    WriteHeld(usize, Way),
    TruncateHeld(usize),
    LinkHeld(Path),
    FsyncHeld,
    Close,
    Sync,
    /// What a full journal or lack of memory brings about.
    Checkpoint,
    /// What lack of room brings about.
    Rebundle,
    /// Takes a snapshot of the head that is worked on; the number is of [`KEPT`], as are those that follow.
    Take(usize),
    /// Lets the other head grow from a snapshot.
    Grow(usize),
    Delete(usize),
    /// Gives back all that nobody sees since something was deleted.
    Sweep,
    /// From now on the other head is worked on.
    Turn,
}

/// What a deed came to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[allow(missing_docs)] // The names say it.
pub enum Kind {
    Create,
    Mkdir,
    Write,
    Overwrite,
    Truncate,
    Punch,
    Collapse,
    Allocate,
    Clone,
    Dedupe,
    Link,
    Unlink,
    Rmdir,
    Rename,
    RenameOver,
    SetAttribute,
    ReplaceAttribute,
    RemoveAttribute,
    Fsync,
    Open,
    Tmpfile,
    WriteHeld,
    TruncateHeld,
    LinkHeld,
    LinkOrphan,
    UnlinkHeld,
    RenameOverHeld,
    FsyncHeld,
    Close,
    CloseOrphan,
    Sync,
    Checkpoint,
    Rebundle,
    Take,
    Grow,
    DeleteSnapshot,
    DeleteHead,
    Sweep,
    Turn,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 39] = [
        Kind::Create,
        Kind::Mkdir,
        Kind::Write,
        Kind::Overwrite,
        Kind::Truncate,
        Kind::Punch,
        Kind::Collapse,
        Kind::Allocate,
        Kind::Clone,
        Kind::Dedupe,
        Kind::Link,
        Kind::Unlink,
        Kind::Rmdir,
        Kind::Rename,
        Kind::RenameOver,
        Kind::SetAttribute,
        Kind::ReplaceAttribute,
        Kind::RemoveAttribute,
        Kind::Fsync,
        Kind::Open,
        Kind::Tmpfile,
        Kind::WriteHeld,
        Kind::TruncateHeld,
        Kind::LinkHeld,
        Kind::LinkOrphan,
        Kind::UnlinkHeld,
        Kind::RenameOverHeld,
        Kind::FsyncHeld,
        Kind::Close,
        Kind::CloseOrphan,
        Kind::Sync,
        Kind::Checkpoint,
        Kind::Rebundle,
        Kind::Take,
        Kind::Grow,
        Kind::DeleteSnapshot,
        Kind::DeleteHead,
        Kind::Sweep,
        Kind::Turn,
    ];

    /// What comes right before, for there to be a file that is held open.
    pub fn needs(self) -> Option<Kind> {
        match self {
            Kind::LinkOrphan | Kind::CloseOrphan => Some(Kind::Tmpfile),
            Kind::Grow => Some(Kind::Take),
            Kind::WriteHeld
            | Kind::TruncateHeld
            | Kind::LinkHeld
            | Kind::UnlinkHeld
            | Kind::RenameOverHeld
            | Kind::FsyncHeld
            | Kind::Close => Some(Kind::Open),
            _ => None,
        }
    }
}

impl Path {
    /// Every path.
    pub fn all() -> impl Iterator<Item = Path> {
        (0..DIRECTORIES.len())
            .flat_map(|directory| (0..NAMES.len()).map(move |name| Path { directory, name }))
    }

    /// The name in the directory.
    pub fn name(self) -> &'static [u8] {
        NAMES[self.name].as_bytes()
    }
}

/// Every deed there is, always in the same order.
pub fn all() -> Vec<Deed> {
    let mut all = Vec::new();
    for path in Path::all() {
        all.extend([
            Deed::Create(path),
            Deed::Mkdir(path),
            Deed::Unlink(path),
            Deed::Rmdir(path),
            Deed::Fsync(path),
            Deed::Open(path),
            Deed::LinkHeld(path),
            Deed::RemoveAttribute(path),
            Deed::Allocate(path, 1),
            Deed::Allocate(path, 3),
        ]);
        all.extend((0..VALUES.len()).map(|size| Deed::SetAttribute(path, size)));
        for range in 0..RANGES.len() {
            all.extend([
                Deed::Write(path, range, Way::Sealed),
                Deed::Write(path, range, Way::Inline),
                Deed::Truncate(path, range),
                Deed::Punch(path, range),
                Deed::Collapse(path, range),
            ]);
        }
        for other in Path::all().filter(|other| *other != path) {
            all.extend([Deed::Link(path, other), Deed::Rename(path, other)]);
            if other.name == path.name {
                all.extend([Deed::Clone(path, other), Deed::Dedupe(path, other)]);
            }
        }
    }
    all.extend(of_held());
    all.extend([
        Deed::Tmpfile,
        Deed::Close,
        Deed::Sync,
        Deed::Checkpoint,
        Deed::Rebundle,
        Deed::Sweep,
        Deed::Turn,
    ]);
    all.extend((0..KEPT.len()).map(Deed::Delete));
    for snapshot in (0..KEPT.len()).filter(|n| *n != HEAD) {
        all.extend([Deed::Take(snapshot), Deed::Grow(snapshot)]);
    }
    all
}

/// What is done with a file that is held open.
fn of_held() -> [Deed; 6] {
    [
        Deed::WriteHeld(0, Way::Sealed),
        Deed::WriteHeld(1, Way::Inline),
        Deed::WriteHeld(3, Way::Sealed),
        Deed::TruncateHeld(0),
        Deed::TruncateHeld(1),
        Deed::FsyncHeld,
    ]
}

/// Longer sequences, of files that are used when they have no name; their beginnings, longer than two deeds, are among them.
pub fn of_orphans() -> Vec<Sequence> {
    let path = |directory, name| Path { directory, name };
    let (a, b, new) = (path(0, 0), path(1, 0), path(0, 2));
    let mut begins = vec![vec![Deed::Tmpfile]];
    for (file, other) in [(a, b), (b, a)] {
        begins.push(vec![Deed::Open(file), Deed::Unlink(file)]);
        begins.push(vec![Deed::Open(file), Deed::Rename(other, file)]);
    }
    let mut all = Vec::new();
    let between = of_held().into_iter().chain([Deed::Sync, Deed::Checkpoint]);
    for deed in between {
        for begin in &begins {
            let mut used = begin.clone();
            used.push(deed);
            if used.len() > 2 {
                all.push(Sequence(used.clone()));
            }
            for end in [Deed::Close, Deed::LinkHeld(new)] {
                all.push(Sequence(used.iter().copied().chain([end]).collect()));
            }
        }
    }
    all
}

/// Every deed there is, by what it is called.
pub fn by_kind() -> &'static [Vec<Deed>] {
    static DEEDS: OnceLock<Vec<Vec<Deed>>> = OnceLock::new();
    DEEDS.get_or_init(|| {
        let mut kinds: Vec<Vec<Deed>> = Vec::new();
        for deed in all() {
            let alike = |kind: &&mut Vec<Deed>| discriminant(&kind[0]) == discriminant(&deed);
            match kinds.iter_mut().find(alike) {
                Some(kind) => kind.push(deed),
                None => kinds.push(vec![deed]),
            }
        }
        kinds
    })
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", DIRECTORIES[self.directory], NAMES[self.name])
    }
}

impl FromStr for Path {
    type Err = BadText;

    fn from_str(text: &str) -> Result<Self, BadText> {
        Path::all()
            .find(|path| path.to_string() == text)
            .ok_or(BadText)
    }
}

impl fmt::Display for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Deed::Create(path) => write!(f, "create {path}"),
            Deed::Mkdir(path) => write!(f, "mkdir {path}"),
            Deed::Write(path, range, Way::Sealed) => write!(f, "write {path} {range}"),
            Deed::Write(path, range, Way::Inline) => write!(f, "inline {path} {range}"),
            Deed::Truncate(path, size) => write!(f, "truncate {path} {size}"),
            Deed::Punch(path, range) => write!(f, "punch {path} {range}"),
            Deed::Collapse(path, range) => write!(f, "collapse {path} {range}"),
            Deed::Allocate(path, range) => write!(f, "allocate {path} {range}"),
            Deed::Clone(path, other) => write!(f, "clone {path} {other}"),
            Deed::Dedupe(path, other) => write!(f, "dedupe {path} {other}"),
            Deed::Link(path, other) => write!(f, "link {path} {other}"),
            Deed::Unlink(path) => write!(f, "unlink {path}"),
            Deed::Rmdir(path) => write!(f, "rmdir {path}"),
            Deed::Rename(path, other) => write!(f, "rename {path} {other}"),
            Deed::SetAttribute(path, size) => write!(f, "attribute {path} {size}"),
            Deed::RemoveAttribute(path) => write!(f, "no-attribute {path}"),
            Deed::Fsync(path) => write!(f, "fsync {path}"),
            Deed::Open(path) => write!(f, "open {path}"),
            Deed::Tmpfile => f.write_str("tmpfile"),
            Deed::WriteHeld(range, Way::Sealed) => write!(f, "write-held {range}"),
            Deed::WriteHeld(range, Way::Inline) => write!(f, "inline-held {range}"),
            Deed::TruncateHeld(size) => write!(f, "truncate-held {size}"),
            Deed::LinkHeld(path) => write!(f, "link-held {path}"),
            Deed::FsyncHeld => f.write_str("fsync-held"),
            Deed::Close => f.write_str("close"),
            Deed::Sync => f.write_str("sync"),
            Deed::Checkpoint => f.write_str("checkpoint"),
            Deed::Rebundle => f.write_str("rebundle"),
            Deed::Take(name) => write!(f, "take {}", KEPT[*name]),
            Deed::Grow(from) => write!(f, "grow {}", KEPT[*from]),
            Deed::Delete(name) => write!(f, "delete {}", KEPT[*name]),
            Deed::Sweep => f.write_str("sweep"),
            Deed::Turn => f.write_str("turn"),
        }
    }
}

impl FromStr for Deed {
    type Err = BadText;

    fn from_str(text: &str) -> Result<Self, BadText> {
        all()
            .into_iter()
            .find(|deed| deed.to_string() == text)
            .ok_or(BadText)
    }
}

/// Deeds one after the other, as text `create A/y; write A/y 0`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Sequence(pub Vec<Deed>);

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut between = "";
        for deed in &self.0 {
            write!(f, "{between}{deed}")?;
            between = "; ";
        }
        Ok(())
    }
}

impl FromStr for Sequence {
    type Err = BadText;

    fn from_str(text: &str) -> Result<Self, BadText> {
        let deeds = text.split("; ").map(str::parse);
        deeds.collect::<Result<_, _>>().map(Sequence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_deed_is_found_again_by_its_text() {
        let all = all();
        for (n, deed) in all.iter().enumerate() {
            assert_eq!(deed.to_string().parse(), Ok(*deed));
            assert!(!all[..n].contains(deed), "{deed} twice");
        }
        let sequence = Sequence(all);
        assert_eq!(sequence.to_string().parse(), Ok(sequence.clone()));
        let kinds: usize = by_kind().iter().map(Vec::len).sum();
        assert_eq!(kinds, sequence.0.len());
        assert_eq!("creat A/x".parse::<Deed>(), Err(BadText));
    }
}
