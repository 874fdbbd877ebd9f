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
inject_no_memory

mounted=0 refused=0
for round in $(seq 60); do
	# From often to seldom, so that the first places are reached and the last as well.
	memory_fails $((13 - round / 5))
	if why=$(mount -i -t embrfs -o "device=$DISK2" "$DISK1" "$MNT" 2>&1); then
		ls "$MNT" >/dev/null 2>&1
		stat -f "$MNT" >/dev/null 2>&1
		worked=1
	else
		worked=0
	fi
	memory_fails 0
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
