// SPDX-License-Identifier: GPL-2.0

//! mkfs.embrfs; see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    embrfs_tools::mkfs::main()
}
