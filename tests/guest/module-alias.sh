#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The module carries what a distribution needs: the file system's alias, license, and no dependencies.
. /embrfs-guest/lib.sh
ko=$(module_path embrfs) || fail "no module"
must modinfo -F alias "$ko"
expect_in "$OUT" '^fs-embrfs$'
must modinfo -F license "$ko"
expect_eq "$OUT" GPL license
must grep embrfs /proc/filesystems
expect_in "$OUT" '^[[:space:]]*embrfs$'
if grep -q 'nodev.*embrfs' /proc/filesystems; then fail "embrfs must require a device"; fi
