#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The guest boots in each lane and sees its disks, empty and with their sizes.
#: lanes: um-lockdep um-kasan stock
#: disks: 64M*2 96M
#: timeout: 30
#: modules: none
#: memory: 256M
#: expect-log: embrfs-test: disks are right
. /embrfs-guest/lib.sh

expect_eq "${#DISKS[@]}" 3 "number of disks"
expect_eq "$(blockdev --getsize64 "$DISK1")" $((64 << 20)) "size of $DISK1"
expect_eq "$(blockdev --getsize64 "$DISK2")" $((64 << 20)) "size of $DISK2"
expect_eq "$(blockdev --getsize64 "$DISK3")" $((96 << 20)) "size of $DISK3"

# What is written to one is found there and on no other.
must dd if=/dev/urandom of="$DISK2" bs=1M count=1 conv=fsync status=none
must cmp -n 1M "$DISK1" "$DISK3"
mustfail cmp -n 1M "$DISK1" "$DISK2"

# What each test may count on.
[ -d "$MNT" ] && [ -z "$(ls -A "$MNT")" ] || fail "$MNT is not an empty directory"
[ -w /tmp ] || fail "/tmp cannot be written"
mustfail false
expect_in "$(uname -r)" '^7\.'
say "disks are right"
