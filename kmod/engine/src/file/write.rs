// SPDX-License-Identifier: GPL-2.0

//! Writing blocks of a file.

use super::inline;
use super::regular;
use super::Dirty;
use super::Way;
use super::Written;
use super::END;
use super::MAX_SIZE;
use crate::format::inline::encode;
use crate::names::change::Change;
use crate::names::Done;
use crate::names::Error;
use crate::names::Files;
use crate::units::FileBlock;
use crate::units::InodeNo;
use crate::units::Timestamp;
use crate::units::BLOCK_SIZE;
use crate::volume::mounted::Machine;

/// Room in a transaction for what belongs to every one: the inode.
const APART: usize = 512;

impl<M: Machine> Files<'_, M> {
    /// Writes blocks; `dirty` is in order. Where one transaction does not hold all, several do it, the first blocks first, and the size
    /// never passes what is not written yet.
    pub fn write(
        &self,
        file: InodeNo,
        dirty: &[Dirty<'_>],
        _way: Way,
        written: &Written,
    ) -> Result<Done<()>, Error> {
        let ordered = dirty.iter().zip(dirty.iter().skip(1));
        let whole = |d: &Dirty<'_>| !d.bytes.is_empty() && d.bytes.len() % BLOCK_SIZE == 0;
        if !dirty.iter().all(whole) || !ordered.into_iter().all(|(a, b)| a.end() <= b.at) {
            return Err(Error::Invalid);
        }
        let size = written.size.unwrap_or_default();
        if size > MAX_SIZE || dirty.last().is_some_and(|d| d.end() > END) {
            return Err(Error::TooBig);
        }
        let mut change = Change::begin(*self, Timestamp::default())?;
        regular(change.inode(file)?)?;
        for one in dirty {
            for (n, block) in one.bytes.chunks_exact(BLOCK_SIZE).enumerate() {
                let at = one.at.plus(n as u64);
                let value = encode(block)?;
                let more = value.len().saturating_add(APART);
                if change.txn().size().saturating_add(more) > change.txn().limit() {
                    note(&mut change, file, written, Some(at))?;
                    change.commit(())?;
                    change = Change::begin(*self, Timestamp::default())?;
                }
                change.set(inline(file, at), &value)?;
            }
        }
        note(&mut change, file, written, None)?;
        change.commit(())
    }
}

/// What the inode says of a write of which everything before `until` is done.
pub(super) fn note<M: Machine>(
    change: &mut Change<'_, M>,
    file: InodeNo,
    written: &Written,
    until: Option<FileBlock>,
) -> Result<(), Error> {
    let times = [written.modified, written.changed];
    if times.iter().flatten().any(|t| t.nanos >= 1_000_000_000) {
        return Err(Error::Invalid);
    }
    let inode = change.inode_mut(file)?;
    if let Some(mut size) = written.size {
        if let Some(until) = until {
            size = size.min(until.start());
        }
        inode.size = inode.size.max(size);
    }
    inode.modified = written.modified.unwrap_or(inode.modified);
    inode.changed = written.changed.unwrap_or(inode.changed);
    Ok(())
}
