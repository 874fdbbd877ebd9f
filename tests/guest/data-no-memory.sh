#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Memory that the module asks for fails while files grow: system calls may say so, but what they accepted is written, and comes back.
#: lanes: um-lockdep um-kasan
#: disks: 512M
#: timeout: 300
. /embrfs-guest/lib.sh
must mkfs.embrfs --bundle 1+0 "$DISK1"
inject_no_memory

seed=${EMBRFS_SEED:-$(($(date +%s) * 1000))}
say "seeds from $seed"
must mount -i -t embrfs "$DISK1" "$MNT"
mkdir /tmp/log
for rate in 20 5 1; do
	memory_fails $rate
	timeout 15 embrfs-exercise grow "$MNT" "$seed" /tmp/log
	status=$?
	sync -f "$MNT"
	memory_fails 0
	[ $status = 124 ] || fail "growing ended with status $status"
	must sync -f "$MNT"
	must embrfs-exercise grown "$MNT" "$seed" /tmp/log
	must umount "$MNT"
	must mount -i -t embrfs "$DISK1" "$MNT"
	must embrfs-exercise grown "$MNT" "$seed" /tmp/log
	expect_in "$OUT" "[1-9][0-9]* bytes"
	must rm "$MNT"/grow-*
	seed=$((seed + 10))
done
must umount "$MNT"
