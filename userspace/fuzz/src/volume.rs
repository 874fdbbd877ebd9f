// SPDX-License-Identifier: GPL-2.0

//! The libFuzzer target over superblock, root, probe and assemble.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| embrfs_fuzz::volume(input));
