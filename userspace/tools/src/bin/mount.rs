// SPDX-License-Identifier: GPL-2.0

//! mount.embrfs; see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    embrfs_tools::mount::main()
}
