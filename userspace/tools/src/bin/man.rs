// SPDX-License-Identifier: GPL-2.0

//! embrfs-man; see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    embrfs_tools::man::main()
}
