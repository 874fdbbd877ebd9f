#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Load, mount, write, unmount, unload, and refusals of every kind, under kmemleak: nothing is lost in any of them.
#: lanes: um-lockdep
#: disks: 64M*3
#: timeout: 300
#: leaks: um-lockdep
#: modules: none
#: available: embrfs
. /embrfs-guest/lib.sh
mkfs.embrfs --bundle 1+1 "$DISK1" "$DISK2" || fail "mkfs failed"
refused() { if mount -i -t embrfs "$@" "$MNT" 2>/dev/null; then fail "mounted: $*"; fi; }
for i in $(seq 20); do
	load_module embrfs || fail "cannot load, round $i"
	refused "$DISK3"
	refused -o bogus "$DISK1"
	refused -o device= "$DISK1"
	mount -i -t embrfs -o "device=$DISK2,device=$DISK3" "$DISK1" "$MNT" || fail "cannot mount, round $i"
	mkdir "$MNT/dir$i" && echo "round $i" >"$MNT/dir$i/file" || fail "cannot write, round $i"
	mount -i -o remount,ro "$MNT" && mount -i -o remount,rw "$MNT" || fail "cannot be remounted, round $i"
	ls -la "$MNT" >/dev/null && df "$MNT" >/dev/null || fail "cannot be looked at, round $i"
	umount "$MNT" || fail "cannot unmount, round $i"
	mount -i -t embrfs "$DISK2" "$MNT" || fail "cannot mount degraded, round $i"
	mount -i -o remount,rw "$MNT" 2>/dev/null && fail "degraded, but remounted read-write, round $i"
	umount "$MNT" || fail "cannot unmount, round $i"
	unload_module embrfs || fail "cannot unload, round $i"
done
say "20 rounds"
