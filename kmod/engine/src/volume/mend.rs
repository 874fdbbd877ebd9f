// SPDX-License-Identifier: GPL-2.0

//! Writing superblocks: one copy after the other, each durable before the next is touched, so that at any moment a sound
//! one is there.

use crate::env::Hasher;
use crate::env::WritableDevice;
use crate::error::Error;
use crate::format::layout;
use crate::format::member::Entry;
use crate::format::superblock::BadSuperblock;
use crate::format::superblock::Superblock;
use crate::volume::probe::CopyState;
use crate::volume::probe::Member;
use embr_rt::Vec;

/// Writes every copy of `superblock`, by way of a buffer of its size.
pub(super) fn write_superblock(
    hasher: &impl Hasher,
    device: &impl WritableDevice,
    superblock: &Superblock,
    buffer: &mut [u8],
) -> Result<(), Error> {
    write_copies(hasher, device, superblock, buffer, |_| true)
}

/// Writes again, from the newest copy, those that are damaged or old. A copy that may be a newer embrfs's is left alone.
pub fn mend_copies(
    hasher: &impl Hasher,
    device: &impl WritableDevice,
    member: &Member,
) -> Result<(), Error> {
    let mut buffer = Vec::zeroed(layout::SUPERBLOCK_SIZE)?;
    write_copies(hasher, device, &member.superblock, &mut buffer, |number| {
        let state = member.copies.iter().find(|c| c.number == number);
        match state.map(|c| c.state) {
            Some(CopyState::Good) => false,
            Some(CopyState::Bad(error)) => mendable(&error),
            Some(CopyState::Old) | None => true,
        }
    })
}

/// Whether a copy in this state may be written over.
pub fn mendable(error: &Error) -> bool {
    match error {
        Error::Superblock(_, BadSuperblock::SealOrVersion(_)) => false,
        Error::Superblock(_, why) => !why.is_sealed(),
        _ => true,
    }
}

fn write_copies(
    hasher: &impl Hasher,
    device: &impl WritableDevice,
    superblock: &Superblock,
    buffer: &mut [u8],
    wanted: impl Fn(usize) -> bool,
) -> Result<(), Error> {
    // Of a device that has grown, the volume still uses only as much as the superblock says.
    let reach = superblock.this_device().map_or(device.size(), Entry::bytes);
    for (number, at) in layout::superblocks(reach).filter(|(n, _)| wanted(*n)) {
        superblock.encode(hasher, number, at, buffer);
        device
            .write(at, buffer)
            .map_err(|why| Error::writing(at, why))?;
        device.flush().map_err(Error::Flush)?;
    }
    Ok(())
}
