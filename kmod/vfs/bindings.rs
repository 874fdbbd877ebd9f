// SPDX-License-Identifier: GPL-2.0

//! Raw bindings that the `kernel` crate lacks.

#![allow(
    clippy::all,
    clippy::as_underscore,
    clippy::cast_lossless,
    clippy::ptr_as_ptr,
    clippy::ref_as_ptr,
    clippy::undocumented_unsafe_blocks,
    dead_code,
    improper_ctypes,
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unreachable_pub,
    unsafe_op_in_unsafe_fn,
    unused_imports
)]

use kernel::{
    bindings::*,
    ffi, //
};
use pin_init::{
    MaybeZeroable,
    Zeroable, //
};

include!(concat!(env!("EMBR_OBJ"), "/kmod/vfs/bindings_generated.rs"));
