#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# lockdep tells the locks of kmod/rt apart by the names of their classes, and sees two taken in both orders.
#: lanes: um-lockdep
#: modules: none
#: available: embr_rt_selftest
#: timeout: 60
#: expect-complaint: possible circular locking dependency
. /embrfs-guest/lib.sh

must load_module embr_rt_selftest invert=1
