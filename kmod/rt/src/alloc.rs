// SPDX-License-Identifier: GPL-2.0

//! The one allocation error, and where the userspace back ends ask whether this allocation is to fail on purpose.

use core::fmt;

/// An allocation failed.
///
/// It says nothing more, because there is nothing more to do than to give up or to wait for memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoMem;

impl fmt::Display for NoMem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("out of memory")
    }
}

impl core::error::Error for NoMem {}

#[cfg(embr_kernel)]
impl From<kernel::alloc::AllocError> for NoMem {
    fn from(_: kernel::alloc::AllocError) -> Self {
        NoMem
    }
}

/// Called before every allocation. The kernel brings its own fault injection (failslab), so there it does nothing.
#[cfg(embr_kernel)]
#[inline(always)]
pub(crate) fn admit() -> Result<(), NoMem> {
    Ok(())
}

#[cfg(not(embr_kernel))]
pub(crate) use crate::failpoint::admit;
