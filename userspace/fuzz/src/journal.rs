// SPDX-License-Identifier: GPL-2.0

//! The libFuzzer target over the journal.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| embrfs_fuzz::journal(input));
