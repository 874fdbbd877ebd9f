// SPDX-License-Identifier: GPL-2.0

//! The paths of a file, for people, as far as they can be had. On a damaged volume that may be less than all of them.

use crate::error::NoMem;
use crate::names::Error;
use crate::names::Files;
use crate::names::Parent;
use crate::units::InodeNo;
use crate::volume::mounted::Fault;
use crate::volume::mounted::Machine;
use embr_rt::Vec;

/// Names of a path, at most: longer ones, circles among them, are cut off at the front.
const DEPTH: usize = 256;

/// The path of what has this name in a directory.
fn from<M: Machine>(files: Files<'_, M>, named: Parent) -> Result<Vec<u8>, Error> {
    let mut at = named.directory;
    let mut names: Vec<Vec<u8>> = Vec::new();
    names.push(named.name)?;
    while at != InodeNo::ROOT && names.len() < DEPTH {
        let mut above = match files.parents(at, 1) {
            Err(why @ Error::Fault(Fault::NoMemory)) => return Err(why),
            above => above.unwrap_or_default(),
        };
        let Some(parent) = above.pop() else {
            break;
        };
        names.push(parent.name)?;
        at = parent.directory;
    }
    let mut path = Vec::new();
    if at != InodeNo::ROOT {
        path.try_extend_from_slice(b"...")?;
    }
    for name in names.iter().rev() {
        path.push(b'/')?;
        path.try_extend_from_slice(name)?;
    }
    Ok(path)
}

/// At most so many paths of a file from the volume's root on; one begins with `...` where what is above is not known. None where it is
/// not there, or has no name.
pub fn all<M: Machine>(
    files: Files<'_, M>,
    number: InodeNo,
    most: usize,
) -> Result<Vec<Vec<u8>>, Error> {
    let mut paths = Vec::new();
    if number == InodeNo::ROOT {
        paths.push(Vec::try_from_slice(b"/")?)?;
        return Ok(paths);
    }
    let named = match files.parents(number, most) {
        Err(Error::NotFound) => Vec::new(),
        named => named?,
    };
    for name in named {
        paths.push(from(files, name)?)?;
    }
    Ok(paths)
}

/// One of them. None for a file that has no name that could be found.
pub fn of<M: Machine>(files: Files<'_, M>, number: InodeNo) -> Result<Option<Vec<u8>>, NoMem> {
    match all(files, number, 1) {
        Ok(mut paths) => Ok(paths.pop()),
        Err(Error::Fault(Fault::NoMemory)) => Err(NoMem),
        Err(_) => Ok(None),
    }
}
