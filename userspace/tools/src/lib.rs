// SPDX-License-Identifier: GPL-2.0

//! The embrfs tools: mkfs.embrfs, fsck.embrfs, mount.embrfs and embrfs-admin. Each binary is one line; command lines are
//! defined in [`cli`], once for parsing, help and manual pages. What a volume is and whether one is sound, the engine
//! decides; the tools ask, tell and write.

#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic
    )
)]

pub mod admin;
pub mod cli;
pub mod describe;
pub mod failure;
pub mod fsck;
pub mod items;
pub mod man;
pub mod mkfs;
pub mod mount;
pub mod output;
pub mod program;
pub mod rings;
pub mod volumes;
pub mod whole;
