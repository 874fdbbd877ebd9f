// SPDX-License-Identifier: GPL-2.0

//! The libFuzzer target over whole volumes that are worked on: mount, change, unmount, again, check.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| embrfs_fuzz::work(input));
