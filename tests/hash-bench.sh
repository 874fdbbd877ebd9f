#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The rates at which the module hashes 4 KiB blocks here.
#: lanes: um-bench
#: modules: none
#: available: embrfs
. /embrfs-guest/lib.sh

load_module embrfs hash_bench=1 || fail "cannot load"
dmesg | sed -n 's/^.*embrfs: \(hash.*\)/\1/p'
unload_module embrfs
