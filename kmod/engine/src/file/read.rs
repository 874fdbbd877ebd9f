// SPDX-License-Identifier: GPL-2.0

//! Reading what a file holds.

use super::plan::Reading;
use super::plan::AGAIN;
use crate::names::Error;
use crate::names::Files;
use crate::units::FileBlock;
use crate::units::InodeNo;
use crate::volume::mounted::Machine;
use crate::volume::mounted::ENGRAMS;

impl<M: Machine> Files<'_, M> {
    /// Fills `into`, which is whole blocks, with what the file holds from this block on: zeros in holes, in what was never written
    /// and behind its end. What a device gives back is verified; if it is bad, other copies are read, and the bad one repaired.
    pub fn read(&self, file: InodeNo, at: FileBlock, into: &mut [u8]) -> Result<(), Error> {
        self.read_by(&|into| self.plan_read(file, at, into), (file, at), into)
    }

    /// As [`Self::read`], for who changes the file, with which nothing else is being done; or takes that for granted, as what would say
    /// it is lost.
    pub fn read_alone(&self, file: InodeNo, at: FileBlock, into: &mut [u8]) -> Result<(), Error> {
        let plan = |into: &mut [u8]| self.plan_with(None, file, at, into);
        self.read_by(&plan, (file, at), into)
    }

    #[inline(never)] // Its frame is large enough alone.
    fn read_by(
        &self,
        plan: &dyn Fn(&mut [u8]) -> Result<Reading, Error>,
        (file, at): (InodeNo, FileBlock),
        into: &mut [u8],
    ) -> Result<(), Error> {
        let mut last: Option<Error> = None;
        for _ in 0..AGAIN {
            let before = self.mounted.removals(ENGRAMS);
            let reading = plan(into)?;
            let done = self.fetch_all(&reading, file, at, into);
            // What helps with a bad block is looked up, and gone if the file was written anew meanwhile: then that is read.
            let why = done.err().filter(|why| matches!(why, Error::Lost(..)));
            if why.is_none() || self.mounted.removals(ENGRAMS) == before && why == last {
                return done;
            }
            last = why;
        }
        let reading = plan(into)?;
        self.fetch_all(&reading, file, at, into)
    }

    fn fetch_all(
        &self,
        reading: &Reading,
        file: InodeNo,
        at: FileBlock,
        into: &mut [u8],
    ) -> Result<(), Error> {
        for fetch in reading.fetches.iter() {
            self.mounted.fetch(fetch, into, (file, at))?;
        }
        Ok(())
    }
}
