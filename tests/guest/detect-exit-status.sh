#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The status of a script counts.
#: lanes: um-lockdep
#: timeout: 30
#: modules: none
#: available: embr_faults
#: memory: 256M
#: expect-complaint: the script ended with status 7
. /embrfs-guest/lib.sh

exit 7
