// SPDX-License-Identifier: GPL-2.0

//! Checkpoints that somebody waits for. Where stacks are small they are made on another one, by a thread that serves the volume: who
//! commits stands deep in calls already, and a checkpoint goes as deep again.

use crate::space::Remedy;
use crate::units::Generation;
use crate::volume::mounted::Fault;
use crate::volume::mounted::Machine;
use crate::volume::mounted::Mounted;
use embr_rt::lock_class;
use embr_rt::time::Duration;
use embr_rt::CondVar;
use embr_rt::Mutex;
use embr_rt::NoMem;

/// What is wanted of a checkpoint.
#[derive(Clone, Copy, Debug)]
pub(super) enum Errand {
    /// Everything that committed is in a root.
    Root,
    /// No device that failed is a member any more.
    Members,
    /// Room in the journal for so many bytes of records.
    Room(usize),
    /// Space, in this way, unless there is a newer root than this already.
    Space(Remedy, Generation),
}

#[derive(Default)]
struct State {
    errand: Option<Errand>,
    /// How it went; whoever asked takes it away.
    outcome: Option<Result<(), Fault>>,
    /// The thread is wanted for something else.
    woken: bool,
    /// Nobody serves any more.
    ended: bool,
}

impl State {
    /// Whether nobody waits for the thread that serves.
    fn is_idle(&self) -> bool {
        self.errand.is_none() || self.outcome.is_some()
    }
}

/// One errand at a time, between those who ask and the thread that serves.
pub(super) struct Errands {
    state: Mutex<State>,
    changed: CondVar,
}

impl Errands {
    pub(super) fn try_new() -> Result<Self, NoMem> {
        Ok(Errands {
            state: Mutex::try_new(State::default(), lock_class!("errands"))?,
            changed: CondVar::try_new(lock_class!("errands changed"))?,
        })
    }

    /// Has it done by the thread that serves, and waits.
    fn ask(&self, errand: Errand) -> Result<(), Fault> {
        let mut state = self.state.lock();
        while state.errand.is_some() && !state.ended {
            self.changed.wait(&mut state);
        }
        if state.ended {
            return Err(Fault::Stopped);
        }
        state.errand = Some(errand);
        self.changed.notify_all();
        loop {
            if let Some(outcome) = state.outcome.take() {
                state.errand = None;
                self.changed.notify_all();
                return outcome;
            }
            if state.ended {
                return Err(Fault::Stopped);
            }
            self.changed.wait(&mut state);
        }
    }
}

impl<M: Machine> Mounted<M> {
    /// Has a checkpoint made that is wanted for this. Called with no lock held.
    pub(super) fn ask(&self, errand: Errand) -> Result<(), Fault> {
        match M::CHECKPOINTS_APART {
            true => self.errands.ask(errand),
            false => self.run(errand),
        }
    }

    /// As [`Self::checkpoint`], made by the thread that serves. What [`Self::open`] found is durable only after the first one.
    pub fn checkpoint_apart(&self) -> Result<(), Fault> {
        self.ask(Errand::Root)
    }

    /// Waits until somebody asks for a checkpoint, and makes it; at most so long. Discards what is due meanwhile. Says whether it was [woken](Self::wake). Where
    /// [`Machine::CHECKPOINTS_APART`] is set, a thread of the host's calls this again and again, as nobody who commits makes a checkpoint.
    pub fn serve(&self, limit: Duration) -> bool {
        let errands = &self.errands;
        let discards = self.has_discards();
        let mut state = errands.state.lock();
        let mut discarded = false;
        if state.is_idle() && discards {
            // Somebody may ask for something before the next ones.
            drop(state);
            discarded = self.discard_some();
            state = errands.state.lock();
        }
        if !discarded && !state.woken && state.is_idle() {
            let _why = errands.changed.wait_timeout(&mut state, limit);
        }
        if let (Some(errand), None) = (state.errand, state.outcome) {
            drop(state);
            let outcome = self.run(errand);
            state = errands.state.lock();
            state.outcome = Some(outcome);
            errands.changed.notify_all();
        }
        core::mem::take(&mut state.woken)
    }

    /// Lets the thread that serves look after what is due.
    pub fn wake(&self) {
        self.errands.state.lock().woken = true;
        self.errands.changed.notify_all();
    }

    /// Nobody serves from now on: nothing more commits.
    pub fn end_service(&self) {
        self.errands.state.lock().ended = true;
        self.errands.changed.notify_all();
    }
}
