// SPDX-License-Identifier: GPL-2.0

//! Space that is free and cannot be given out yet: roots are forced to get it back, and readers of old nodes are waited for. Whoever
//! waits here holds none of the volume's locks and no base of a tree: it would be waited for itself, for ever.

use crate::space::Remedy;
use crate::volume::errand::Errand;
use crate::volume::mounted::Fault;
use crate::volume::mounted::Machine;
use crate::volume::mounted::Mounted;
use embr_rt::time::Duration;

/// How many times to wait a moment for readers of old nodes before the volume counts as full, for those whom it may refuse.
const FEW: u32 = 100;

/// How long somebody waits for readers of old nodes.
#[derive(Debug)]
pub(crate) struct Patience {
    waited: u32,
    ends: bool,
    /// How often space had come back when there was nothing more to hope for.
    returned: u64,
}

impl Patience {
    /// Of those who may be told that there is no space.
    pub(crate) const fn short() -> Self {
        Patience {
            waited: 0,
            ends: true,
            returned: 0,
        }
    }

    /// Of those who may not: it lasts as long as there are such readers.
    pub(crate) const fn endless() -> Self {
        Patience {
            waited: 0,
            ends: false,
            returned: 0,
        }
    }

    fn is_over(&self) -> bool {
        self.ends && self.waited > FEW
    }

    /// Waits a moment, a longer one where it takes long anyway.
    fn wait(&mut self) {
        let moment = match self.waited > FEW {
            true => 10,
            false => 1,
        };
        self.waited = self.waited.saturating_add(1);
        embr_rt::time::sleep(Duration::from_millis(moment));
    }
}

impl<M: Machine> Mounted<M> {
    /// Gets space back that is free and cannot be given out yet. Says whether asking for some again may help. Called with no lock held,
    /// and no base.
    pub(crate) fn relieve(&self, patience: &mut Patience) -> Result<bool, Fault> {
        if self.has_stopped() {
            return Err(Fault::Stopped);
        }
        // What is wanted at once need not be discarded.
        if self.space.spare_due() {
            return Ok(true);
        }
        let before = self.generation();
        let remedy = self.space.remedy(before);
        if remedy == Remedy::Nothing || patience.is_over() {
            return Ok(self.may_have_come_back(patience));
        }
        if remedy == Remedy::Wait {
            patience.wait();
        }
        match self.ask(Errand::Space(remedy, before)) {
            // Not even the checkpoint finds room, but there will be some.
            Err(Fault::NoSpace) if !patience.ends && self.space.is_held(before) => {
                patience.wait();
                self.ask(Errand::Space(Remedy::Wait, before))?;
            }
            done => done?,
        }
        Ok(true)
    }

    /// Nothing brings space back any more. Whether some did since this was asked last, or does for sure, as it is only being discarded.
    fn may_have_come_back(&self, patience: &mut Patience) -> bool {
        let (discarding, returned) = self.space.returning();
        if discarding {
            embr_rt::time::sleep(Duration::from_millis(1));
            return true;
        }
        core::mem::replace(&mut patience.returned, returned) != returned
    }
}
