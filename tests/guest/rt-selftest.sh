#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The kernel back end of kmod/rt: containers, locks, background work and time do what their interface says.
#: modules: none
#: available: embr_rt_selftest
#: timeout: 150
#: leaks: um-lockdep
#: expect-log: embr_rt_selftest: .*ok
. /embrfs-guest/lib.sh

for _ in 1 2 3; do
	must load_module embr_rt_selftest
	must unload_module embr_rt_selftest
done
