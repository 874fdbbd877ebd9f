#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Load, mount, unmount, unload, 200 times under lockdep, 50 under KASAN: nothing complains. Every fourth time a mount is refused before.
#: lanes: um-lockdep um-kasan
#: disks: 64M*3
#: timeout: 600
#: modules: none
#: available: embrfs
. /embrfs-guest/lib.sh
mkfs.embrfs --bundle 1+1 "$DISK1" "$DISK2" || fail "mkfs failed"
# KASAN sees a wrong access the first time.
rounds=200
[ "$LANE" = um-lockdep ] || rounds=50
for i in $(seq $rounds); do
	load_module embrfs || fail "cannot load, round $i"
	if [ $((i % 4)) = 0 ]; then
		mount -i -t embrfs -o "device=$DISK1" "$DISK3" "$MNT" 2>/dev/null && fail "mounted a blank device, round $i"
		mount -i -t embrfs -o bogus "$DISK1" "$MNT" 2>/dev/null && fail "mounted with a bogus option, round $i"
	fi
	if [ $((i % 2)) = 0 ]; then
		mount -i -t embrfs -o "device=$DISK2" "$DISK1" "$MNT" || fail "cannot mount, round $i"
		ls "$MNT" >/dev/null || fail "cannot list, round $i"
		rmmod embrfs 2>/dev/null && fail "unloaded while mounted, round $i"
	else
		mount -i -t embrfs "$DISK2" "$MNT" || fail "cannot mount degraded, round $i"
	fi
	umount "$MNT" || fail "cannot unmount, round $i"
	unload_module embrfs || fail "cannot unload, round $i"
done
say "$rounds rounds"
