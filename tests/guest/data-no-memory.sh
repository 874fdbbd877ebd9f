#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Memory that the module asks for fails while files grow: system calls may say so, but what they accepted is written, and comes back.
#: lanes: um-lockdep um-kasan
#: disks: 512M
#: timeout: 300
. /embrfs-guest/lib.sh
must mkfs.embrfs --bundle 1+0 "$DISK1"
faults=/sys/kernel/debug/failslab
[ -d $faults ] || fail "this kernel injects no faults"
# Only what the module asks for: its code is on the stack. kvmalloc and page allocations have the same switches.
start=$(cat /sys/module/embrfs/sections/.text)
size=$(awk '$1 == "embrfs" {print $2}' /proc/modules)
end=$(printf '0x%x' $((start + size)))
for f in $faults /sys/kernel/debug/fail_page_alloc; do
	echo 0 >$f/ignore-gfp-wait
	[ ! -e $f/ignore-gfp-highmem ] || echo 0 >$f/ignore-gfp-highmem
	echo 0 >$f/verbose
	echo 32 >$f/stacktrace-depth
	echo "$start" >$f/require-start
	echo "$end" >$f/require-end
	echo -1 >$f/times
done
[ ! -e /sys/kernel/debug/fail_page_alloc/min-order ] || echo 0 >/sys/kernel/debug/fail_page_alloc/min-order
rate() { for f in $faults /sys/kernel/debug/fail_page_alloc; do echo "$1" >$f/probability; done; }

seed=${EMBRFS_SEED:-$(($(date +%s) * 1000))}
say "seeds from $seed"
must mount -i -t embrfs "$DISK1" "$MNT"
mkdir /tmp/log
for rate in 20 5 1; do
	rate $rate
	timeout 15 embrfs-exercise grow "$MNT" "$seed" /tmp/log
	status=$?
	sync -f "$MNT"
	rate 0
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
