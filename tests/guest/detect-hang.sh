#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# A guest that hangs is ended and reported.
#: lanes: um-lockdep stock
#: timeout: 5
#: modules: none
#: available: embr_faults
#: memory: 256M
#: expect-complaint: hung: killed
. /embrfs-guest/lib.sh

# A kernel that spins in User Mode Linux ignores every signal but SIGKILL; the emulated one need not burn a core.
[ "$LANE" = stock ] && sleep 1000
load_module embr_faults fault=spin
