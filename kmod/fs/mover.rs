// SPDX-License-Identifier: GPL-2.0

//! A thread per volume that moves together what lives in stripes that waste room, and small files that lie in copies, before anybody
//! needs the room. It writes no more than its budget, the less the more room is left. And it gives back what deleted snapshots had.

use crate::host::Host;
use embr_engine::{
    names::{
        Files,
        Names,
        View, //
    },
    units::Blocks,
    volume::mounted::Mounted, //
};
use embr_rt::{
    lock_class,
    time::Duration,
    work::Worker,
    Arc,
    Box,
    CondVar,
    Mutex,
    MutexGuard, //
};
use embr_vfs::nofs::NoFs;
use kernel::{
    prelude::*,
    sync::atomic::{
        Acquire,
        Atomic,
        Release, //
    },
};

/// How often it looks. What was written less than one to two such intervals ago stays where it is.
const INTERVAL: Duration = Duration::from_secs(15);
/// Batches of at most 1 MiB that it moves each time.
const BUDGET: usize = 64;
/// Transactions in which it gives back what deleted snapshots had, each time.
const SWEEPS: usize = 1024;

/// What it works on.
pub(crate) struct Work {
    pub(crate) mounted: Arc<Box<Mounted<Host>>>,
    pub(crate) names: Arc<Names>,
    pub(crate) view: Arc<View>,
}

impl Work {
    fn files(&self) -> Files<'_, Host> {
        self.names.of(&self.mounted, &self.view)
    }

    /// Whether nothing is to be written now.
    fn is_over(&self) -> bool {
        let mounted = &self.mounted;
        mounted.is_resting() || mounted.has_stopped() || mounted.machine().is_shut_down()
    }
}

struct Shared {
    /// Whoever holds it keeps the thread from moving anything.
    gate: Mutex<()>,
    wake: CondVar,
    stop: Atomic<bool>,
}

/// The thread of a volume.
pub(crate) struct Mover {
    shared: Arc<Shared>,
    /// None once it has ended.
    worker: Mutex<Option<Worker>>,
}

impl Mover {
    #[inline(never)]
    pub(crate) fn new(work: Work) -> Result<Self> {
        let shared = Shared {
            gate: Mutex::try_new((), lock_class!("mover")).map_err(|_| ENOMEM)?,
            wake: CondVar::try_new(lock_class!("mover's rest")).map_err(|_| ENOMEM)?,
            stop: Atomic::new(false),
        };
        let shared = Arc::try_new(shared).map_err(|_| ENOMEM)?;
        // All else that takes memory comes first: once it runs, it ends only when it is told to.
        let mover = Mover {
            shared: shared.clone(),
            worker: Mutex::try_new(None, lock_class!("mover's thread")).map_err(|_| ENOMEM)?,
        };
        let worker = Worker::try_spawn(lock_class!("embrfs mover"), move || run(&work, &shared))
            .map_err(|_| ENOMEM)?;
        *mover.worker.lock() = Some(worker);
        Ok(mover)
    }

    /// As long as this is held it moves nothing.
    pub(crate) fn hold(&self) -> MutexGuard<'_, ()> {
        self.shared.gate.lock()
    }

    /// Waits until it has ended.
    pub(crate) fn stop(&self) {
        self.shared.stop.store(true, Release);
        drop(self.shared.gate.lock());
        self.shared.wake.notify_all();
        let worker = self.worker.lock().take();
        drop(worker);
    }
}

impl Drop for Mover {
    fn drop(&mut self) {
        self.stop();
    }
}

fn run(work: &Work, shared: &Shared) {
    let _scope = NoFs::new();
    while !shared.stop.load(Acquire) {
        {
            let mut gate = shared.gate.lock();
            if !shared.stop.load(Acquire) {
                let _ = shared.wake.wait_timeout(&mut gate, INTERVAL);
            }
        }
        // If it fails, it is tried again the next time, and who needs the room hears of it.
        let _ = move_some(work, shared);
        let _ = sweep_some(work, shared);
    }
}

/// Gives back some of what nobody sees since snapshots were deleted.
#[inline(never)]
fn sweep_some(work: &Work, shared: &Shared) -> Result<(), embr_engine::names::Error> {
    for _ in 0..SWEEPS {
        let _gate = shared.gate.lock();
        if shared.stop.load(Acquire) || work.is_over() || !work.names.sweep(&work.mounted)? {
            break;
        }
    }
    Ok(())
}

#[inline(never)]
fn move_some(work: &Work, shared: &Shared) -> Result<(), embr_engine::names::Error> {
    for n in 0..BUDGET {
        let _gate = shared.gate.lock();
        if shared.stop.load(Acquire) || work.is_over() {
            break;
        }
        let files = work.files();
        if n == 0 {
            files.grow_old()?;
        }
        if files.rebundle_ahead()?.gained == Blocks(0) {
            break;
        }
    }
    Ok(())
}
