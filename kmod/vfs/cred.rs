// SPDX-License-Identifier: GPL-2.0

//! What the calling process may do.

use kernel::bindings as kb;

/// May the caller administer the system?
pub fn may_administer() -> bool {
    // SAFETY: Only looks at the current task; marks that it used the right.
    unsafe { kb::capable(kb::CAP_SYS_ADMIN as i32) }
}
