// SPDX-License-Identifier: GPL-2.0

//! The embrfs engine: what every byte on disk means, and how a volume is made, found and checked.
//!
//! Built twice from this one source: into the kernel module, and as an ordinary crate for the tools and tests. It does
//! no I/O of its own, holds no kernel type and no unsafe code, and never panics on what a disk says: devices, hashing,
//! time and chance come from the host through [`env`].

// In the kernel, Kbuild makes every crate no_std by itself.
#![cfg_attr(not(embr_kernel), no_std)]
#![forbid(unsafe_code)]
#![deny(missing_docs)]
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::todo,
        clippy::unimplemented,
        clippy::unreachable
    )
)]

#[cfg(test)]
extern crate std;

pub mod check;
pub mod engram;
pub mod env;
pub mod error;
pub mod field;
pub mod file;
pub mod format;
pub mod hash;
pub mod journal;
pub mod names;
pub mod rebundle;
// The kernel repairs nothing of what is mounted: that is for fsck, which has stack for it.
#[cfg(not(embr_kernel))]
pub mod repair;
pub mod snapshot;
pub mod space;
pub mod stripe;
pub mod tree;
pub mod txn;
pub mod units;
pub mod volume;

pub use error::Error;

/// What this code calls itself in superblocks and reports.
pub const SOFTWARE: &str = "embrfs 0.1.0";

#[cfg(test)]
mod tests {
    #[test]
    fn software_has_the_package_version() {
        assert_eq!(
            super::SOFTWARE,
            concat!("embrfs ", env!("CARGO_PKG_VERSION"))
        );
    }
}
