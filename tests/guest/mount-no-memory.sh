#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Memory that the module asks for fails, at one place after the other: a mount succeeds or says that memory is short, and nothing
# complains or is lost.
#: lanes: um-lockdep um-kasan
#: disks: 64M*2
#: timeout: 200
#: leaks: um-lockdep
. /embrfs-guest/lib.sh
must mkfs.embrfs --bundle 1+1 "$DISK1" "$DISK2"

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

mounted=0 refused=0
for round in $(seq 60); do
	# From often to seldom, so that the first places are reached and the last as well.
	for f in $faults /sys/kernel/debug/fail_page_alloc; do
		echo $((13 - round / 5)) >$f/probability
	done
	if why=$(mount -i -t embrfs -o "device=$DISK2" "$DISK1" "$MNT" 2>&1); then
		ls "$MNT" >/dev/null 2>&1
		stat -f "$MNT" >/dev/null 2>&1
		worked=1
	else
		worked=0
	fi
	for f in $faults /sys/kernel/debug/fail_page_alloc; do
		echo 0 >$f/probability
	done
	if [ $worked = 1 ]; then
		umount "$MNT" || fail "cannot unmount, round $round"
		mounted=$((mounted + 1))
	else
		[[ $why == *emory* || $why == *ENOMEM* ]] || fail "round $round: refused for another reason: $why"
		refused=$((refused + 1))
	fi
done
say "$mounted mounted, $refused refused for lack of memory"
[ $refused -gt 10 ] || fail "too few refusals: nothing was injected"
must mount -i -t embrfs -o "device=$DISK2" "$DISK1" "$MNT"
must umount "$MNT"
