#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# A lockdep that turned itself off during the test fails the run.
#: lanes: um-lockdep
#: timeout: 30
#: modules: none
#: available: embr_faults
#: memory: 256M
#: expect-complaint: embrfs-test: lockdep is off
. /embrfs-guest/lib.sh

must load_module embr_faults fault=lock-order
