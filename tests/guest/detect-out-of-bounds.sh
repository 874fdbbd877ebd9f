#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# KASAN is awake: a read beyond an allocation fails the run.
#: lanes: um-kasan
#: timeout: 30
#: modules: none
#: available: embr_faults
#: memory: 256M
#: expect-complaint: BUG: KASAN: slab-out-of-bounds in \w*(embr_faults|out_of_bounds)
. /embrfs-guest/lib.sh

must load_module embr_faults fault=out-of-bounds
