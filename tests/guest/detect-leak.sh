#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# kmemleak is awake: lost memory fails the run.
#: lanes: um-lockdep
#: timeout: 150
#: modules: none
#: available: embr_faults
#: memory: 256M
#: leaks: um-lockdep
#: expect-complaint: new suspected memory leaks
. /embrfs-guest/lib.sh

must load_module embr_faults fault=leak
must unload_module embr_faults
