#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# lockdep is awake: two locks taken in both orders fail the run.
#: lanes: um-lockdep
#: timeout: 30
#: modules: none
#: available: embr_faults
#: memory: 256M
#: expect-complaint: possible circular locking dependency
. /embrfs-guest/lib.sh

must load_module embr_faults fault=lock-order
