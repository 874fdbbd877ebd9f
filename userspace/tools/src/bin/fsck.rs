// SPDX-License-Identifier: GPL-2.0

//! fsck.embrfs; see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    embrfs_tools::fsck::main()
}
