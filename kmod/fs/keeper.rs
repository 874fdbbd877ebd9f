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
    time::{
        Duration,
        Instant, //
    },
    work::Worker,
    Arc,
    Box,
    Mutex,
    Patience, //
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

/// How long what happened may wait.
const INTERVAL: Duration = Duration::from_secs(5);

/// The thread of a volume.
pub(crate) struct Keeper {
    mounted: Arc<Box<Mounted<Host>>>,
    stop: Arc<Atomic<bool>>,
    /// None once it has ended.
    worker: Mutex<Option<Worker>>,
}

impl Keeper {
    pub(crate) fn new(mounted: Arc<Box<Mounted<Host>>>) -> Result<Self> {
        let stop = Arc::try_new(Atomic::new(false)).map_err(|_| ENOMEM)?;
        // All else that takes memory comes first: once it runs, it ends only when it is told to.
        let keeper = Keeper {
            mounted: mounted.clone(),
            stop: stop.clone(),
            worker: Mutex::try_new(None, lock_class!("keeper")).map_err(|_| ENOMEM)?,
        };
        let worker = Worker::try_spawn(lock_class!("embrfs keeper"), move || keep(&mounted, &stop))
            .map_err(|_| ENOMEM)?;
        *keeper.worker.lock() = Some(worker);
        Ok(keeper)
    }

    /// Sees to it that it works at once.
    pub(crate) fn hurry(&self) {
        self.mounted.wake();
    }

    /// Lets it write a last root, so that the next mount finds nothing to do, and waits until it has ended.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Release);
        self.mounted.wake();
        let worker = self.worker.lock().take();
        drop(worker);
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.stop();
    }
}

fn keep(mounted: &Mounted<Host>, stop: &Atomic<bool>) {
    let _scope = NoFs::new();
    // Others who lack memory may wait for what this thread makes durable.
    let _patience = Patience::new();
    let mut last = Instant::now();
    let mut failed = false;
    while !stop.load(Acquire) {
        let woken = mounted.serve(INTERVAL.saturating_sub(last.elapsed()));
        if !woken && last.elapsed() < INTERVAL {
            continue;
        }
        last = Instant::now();
        if mounted.is_resting() {
            continue;
        }
        if mounted.checkpoint_due() {
            // If it fails now it is tried again, and who needs what it brings hears of it.
            let _ = mounted.checkpoint();
        }
        match mounted.sync_serving() {
            Err(why) if !failed => {
                failed = true;
                pr_err!(
                    "volume {}: what happened last cannot be made durable: {}\n",
                    Shown(mounted.volume()),
                    Shown(why)
                );
            }
            _ => {}
        }
    }
    mounted.end_service();
    close(mounted);
}

fn close(mounted: &Mounted<Host>) {
    if mounted.machine().is_shut_down() || mounted.is_resting() {
        return;
    }
    let uuid = Shown(mounted.volume());
    if let Err(why) = mounted.checkpoint() {
        pr_warn!(
            "volume {uuid}: no last root could be written: {}; what was made durable is in the journal\n",
            Shown(why)
        );
        if let Err(why) = mounted.sync_serving() {
            pr_err!(
                "volume {uuid}: what happened last is lost: {}\n",
                Shown(why)
            );
        }
    }
}
