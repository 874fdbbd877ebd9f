// SPDX-License-Identifier: GPL-2.0

//! The libFuzzer target over nodes of trees.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| embrfs_fuzz::node(input));
