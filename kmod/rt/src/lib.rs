// SPDX-License-Identifier: GPL-2.0

//! What the engine stands on: containers whose every allocation may fail, locks, background work and time.
//!
//! One interface with three back ends. In the module (`cfg(embr_kernel)`, set by Kbuild) everything is made of the
//! kernel's own types. In userspace it is std, unless the calling thread is a task of a simulated world: then locks,
//! waits, work, sleep and time go through a scheduler that derives every choice from one seed ([`sim`]).
//!
//! This crate knows nothing of filesystems and does no I/O. Kbuild makes it `no_std` by itself.

#![deny(unsafe_op_in_unsafe_fn)]

mod alloc;
mod arc;
mod boxed;
mod patience;
mod sync;
mod vec;

#[cfg(not(embr_kernel))]
pub mod failpoint;
#[cfg(not(embr_kernel))]
pub mod sim;
pub mod sort;
pub mod time;
pub mod work;

pub use alloc::NoMem;
pub use arc::Arc;
pub use boxed::Box;
pub use patience::Patience;
pub use sync::CondVar;
pub use sync::LockClass;
pub use sync::Mutex;
pub use sync::MutexGuard;
pub use sync::ReadGuard;
pub use sync::RwLock;
pub use sync::Wake;
pub use sync::WriteGuard;
pub use vec::Vec;

pub mod containers {
    //! Companion types of the containers, named only where a signature needs them.
    pub use crate::boxed::Raw as RawBox;
    pub use crate::vec::IntoIter;
}
