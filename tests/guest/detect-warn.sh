#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# A WARN fails the run, whatever the script says.
#: lanes: um-lockdep um-kasan stock
#: timeout: 30
#: modules: none
#: available: embr_faults
#: memory: 256M
#: expect-complaint: WARNING: .*embr_faults
. /embrfs-guest/lib.sh

must load_module embr_faults fault=warn
