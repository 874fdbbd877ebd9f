#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# A sleep under a spinlock fails the run.
#: lanes: um-lockdep
#: timeout: 30
#: modules: none
#: available: embr_faults
#: memory: 256M
#: expect-complaint: sleeping function called from invalid context
. /embrfs-guest/lib.sh

must load_module embr_faults fault=atomic-sleep
