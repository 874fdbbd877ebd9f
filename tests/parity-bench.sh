#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The rates at which the module computes parity here, and copies.
#: lanes: um-bench stock
#: modules: none
#: available: embrfs
. /embrfs-guest/lib.sh

load_module embrfs parity_bench=1 || fail "cannot load"
if [ "$LANE" = stock ]; then dmesg | grep -q 'Hypervisor detected: KVM' && echo "KVM" || echo "TCG: an emulated processor"; fi
dmesg | sed -n 's/^.*\] \(raid6: using alg.*\)/\1/p; s/^.*\] \(xor: \(using\|auto\).*\)/\1/p; s/^.*embrfs: \(parity.*\)/\1/p'
unload_module embrfs
