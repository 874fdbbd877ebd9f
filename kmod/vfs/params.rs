// SPDX-License-Identifier: GPL-2.0

//! Mount options as a typed table. The kernel's parser checks each value against it and refuses what does not fit.

use crate::bindings;
use core::ptr;
use kernel::{
    prelude::*,
    str::as_char_ptr_in_const_context, //
};

/// The value of an option, as its specification says.
pub enum Value<'a> {
    /// The option was named; it has no value.
    Flag,
    /// A string that is not empty.
    Text(&'a CStr),
}

#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Flag,
    Text,
}

/// One mount option.
pub struct Spec<P> {
    name: &'static CStr,
    kind: Kind,
    id: P,
}

impl<P: Copy> Spec<P> {
    /// An option without a value.
    pub const fn flag(name: &'static CStr, id: P) -> Self {
        Spec {
            name,
            kind: Kind::Flag,
            id,
        }
    }

    /// An option whose value is a string.
    pub const fn text(name: &'static CStr, id: P) -> Self {
        Spec {
            name,
            kind: Kind::Text,
            id,
        }
    }
}

/// The table of all options. It lives in a `static`.
#[repr(C)]
pub struct ParameterTable<P, const N: usize> {
    raw: [bindings::fs_parameter_spec; N],
    /// The parser stops at the nameless entry that follows the others.
    end: bindings::fs_parameter_spec,
    specs: [Spec<P>; N],
}

// SAFETY: Nothing in it ever changes; its pointers are to static strings and functions.
unsafe impl<P: Sync, const N: usize> Sync for ParameterTable<P, N> {}

impl<P: Copy, const N: usize> ParameterTable<P, N> {
    /// Builds the table.
    pub const fn new(specs: [Spec<P>; N]) -> Self {
        assert!(N < 256, "the kernel numbers options in a byte");
        let mut raw = [const { pin_init::zeroed::<bindings::fs_parameter_spec>() }; N];
        let mut i = 0;
        while i < N {
            raw[i].name = as_char_ptr_in_const_context(specs[i].name);
            raw[i].opt = i as u8;
            raw[i].type_ = match specs[i].kind {
                Kind::Flag => None,
                Kind::Text => Some(bindings::fs_param_is_string),
            };
            i += 1;
        }
        ParameterTable {
            raw,
            end: pin_init::zeroed(),
            specs,
        }
    }

    /// The table without its length in the type.
    pub const fn parameters(&'static self) -> Parameters<P> {
        Parameters {
            raw: ptr::from_ref(self).cast(),
            specs: &self.specs,
        }
    }
}

/// A table of options.
pub struct Parameters<P: 'static> {
    /// Invariant: points to `specs.len()` entries in the same order, then a nameless one; all static.
    raw: *const bindings::fs_parameter_spec,
    specs: &'static [Spec<P>],
}

impl<P: Copy> Parameters<P> {
    pub(crate) fn as_ptr(&self) -> *const bindings::fs_parameter_spec {
        self.raw
    }

    /// The option that the parser gave a number.
    pub(crate) fn get(&self, number: usize) -> Option<(P, Kind)> {
        self.specs.get(number).map(|spec| (spec.id, spec.kind))
    }
}
