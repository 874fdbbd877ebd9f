// SPDX-License-Identifier: GPL-2.0

//! The libFuzzer target over whole volumes: mount, check, walk.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| embrfs_fuzz::mount(input));
