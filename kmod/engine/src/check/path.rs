// SPDX-License-Identifier: GPL-2.0

//! The path of a file, for people: one of them, as far as it can be had. On a damaged volume that may be less than all of it.

use crate::error::NoMem;
use crate::names::Files;
use crate::units::InodeNo;
use crate::volume::mounted::Machine;
use embr_rt::Vec;

/// Names of a path, at most: longer ones, circles among them, are cut off at the front.
const DEPTH: usize = 256;

/// The path of a file from the volume's root on; it begins with `...` where what is above is not known. None for a file that has no
/// name that could be found.
pub fn of<M: Machine>(files: Files<'_, M>, number: InodeNo) -> Result<Option<Vec<u8>>, NoMem> {
    let mut names: Vec<Vec<u8>> = Vec::new();
    let mut at = number;
    while at != InodeNo::ROOT && names.len() < DEPTH {
        let Some(parent) = files.parents(at, 1).ok().and_then(|mut p| p.pop()) else {
            break;
        };
        names.push(parent.name)?;
        at = parent.directory;
    }
    if names.is_empty() && number != InodeNo::ROOT {
        return Ok(None);
    }
    let mut path = Vec::new();
    if at != InodeNo::ROOT {
        path.try_extend_from_slice(b"...")?;
    }
    if names.is_empty() {
        path.push(b'/')?;
    }
    for name in names.iter().rev() {
        path.push(b'/')?;
        path.try_extend_from_slice(name)?;
    }
    Ok(Some(path))
}
