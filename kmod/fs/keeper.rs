// SPDX-License-Identifier: GPL-2.0

//! A thread per volume that makes durable what nobody asked to be, so that a crash costs the last few seconds, not more; and that
//! makes checkpoints before who commits has to.

use crate::host::{
    Host,
    Shown, //
};
use embr_engine::volume::mounted::Mounted;
use embr_rt::{
    lock_class,
    time::Duration,
    work::Worker,
    Arc,
    CondVar,
    Mutex, //
};
use embr_vfs::nofs::NoFs;
use kernel::prelude::*;

/// How long what happened may wait.
const INTERVAL: Duration = Duration::from_secs(5);

#[derive(Default)]
struct Wishes {
    stop: bool,
    hurry: bool,
}

struct Shared {
    wishes: Mutex<Wishes>,
    changed: CondVar,
}

/// The thread of a volume.
pub(crate) struct Keeper {
    shared: Arc<Shared>,
    /// None once it has ended.
    worker: Mutex<Option<Worker>>,
}

impl Keeper {
    pub(crate) fn new(mounted: Arc<Mounted<Host>>) -> Result<Self> {
        let shared = Arc::try_new(Shared {
            wishes: Mutex::try_new(Wishes::default(), lock_class!("keeper's wishes"))
                .map_err(|_| ENOMEM)?,
            changed: CondVar::try_new(lock_class!("keeper's wishes changed"))
                .map_err(|_| ENOMEM)?,
        })
        .map_err(|_| ENOMEM)?;
        let its = shared.clone();
        let worker = Worker::try_spawn(lock_class!("embrfs keeper"), move || keep(&its, &mounted))
            .map_err(|_| ENOMEM)?;
        Ok(Keeper {
            shared,
            worker: Mutex::try_new(Some(worker), lock_class!("keeper")).map_err(|_| ENOMEM)?,
        })
    }

    fn wish(&self, change: impl FnOnce(&mut Wishes)) {
        change(&mut self.shared.wishes.lock());
        self.shared.changed.notify_all();
    }

    /// Sees to it that it works at once.
    pub(crate) fn hurry(&self) {
        self.wish(|w| w.hurry = true);
    }

    /// Ends it, and waits until it has ended.
    pub(crate) fn stop(&self) {
        self.wish(|w| w.stop = true);
        let worker = self.worker.lock().take();
        drop(worker);
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.stop();
    }
}

fn keep(shared: &Shared, mounted: &Mounted<Host>) {
    loop {
        {
            let mut wishes = shared.wishes.lock();
            if !wishes.stop && !wishes.hurry {
                let _woken = shared.changed.wait_timeout(&mut wishes, INTERVAL);
            }
            if wishes.stop {
                return;
            }
            wishes.hurry = false;
        }
        let _scope = NoFs::new();
        if mounted.checkpoint_due() {
            // If it fails now it is tried again, and who needs what it brings hears of it.
            let _ = mounted.checkpoint();
        }
        if let Err(why) = mounted.sync() {
            pr_err!(
                "volume {}: what happened last cannot be made durable: {}\n",
                Shown(mounted.volume()),
                Shown(why)
            );
            return;
        }
    }
}
