// SPDX-License-Identifier: GPL-2.0

//! A world of memory for the engine: disks that can be copied, cut and broken ([`disk`]), a host whose time and chance come
//! from a seed ([`host`]), what mounts would have written ([`history`]), and volumes that are damaged or forged in every way we know ([`mutant`]),
//! or changed anywhere as bytes say ([`specimen`], [`craft`], [`forge`]). Somebody works on whatever comes of it ([`worker`]).
//!
//! Crash safety is proved on a [`fleet`]: drives with volatile caches ([`cache`], [`sectors`]) over images that share what is alike ([`image`]),
//! with faults ([`fault`]) that are counted ([`tally`]). What happened to them is one time line ([`recording`]), from which the
//! states that a crash may leave are derived, each with a name of one line ([`states`]).
//!
//! On those, a volume is made and mounted ([`machine`]), and a tale of transactions is told and cut short ([`tale`]),
//! again and again ([`campaign`]), now and then without the newest root ([`roots`]); simpler ones have numbers ([`numbered`]). Short sequences of operations ([`deed`]) have a model of all they leave ([`estate`]); those of one
//! and two are gone through completely ([`ace`]), and others are done while drives fail ([`storm`]).
//! Names, files and bytes are kept in snapshots, too. What was [met](seen) in all of this is counted.
//! Several tasks work on names and files at once ([`crowd`]), in one order that explains what they were told;
//! or two, of which one stands still wherever it can ([`still`]).
//!
//! Names have a model of their own ([`files`]), and somebody who does the same to both ([`clerk`]). What files hold has
//! plain bytes beside it ([`scribe`], [`manuscript`]); whether it agrees with free space is looked up item by item ([`contents`]).
//!
//! Everything here repeats from its seed.

pub mod ace;
pub mod cache;
pub mod campaign;
pub mod clerk;
pub mod contents;
pub mod craft;
pub mod crowd;
pub mod deed;
pub mod desk;
pub mod disk;
mod drive;
pub mod estate;
pub mod fault;
pub mod files;
pub mod fleet;
pub mod forge;
pub mod history;
pub mod host;
pub mod image;
pub mod inspector;
pub mod machine;
pub mod manuscript;
pub mod mender;
pub mod mutant;
pub mod nodes;
pub mod numbered;
pub mod portrait;
pub mod recording;
pub mod roots;
pub mod scribe;
pub mod sectors;
pub mod seen;
pub mod specimen;
pub mod states;
pub mod still;
pub mod storm;
pub mod stripes;
pub mod tale;
pub mod tally;
pub mod worker;
