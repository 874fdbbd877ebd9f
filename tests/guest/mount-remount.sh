#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# A remount read-write is refused with the reason; other remounts work and cannot bring in devices.
#: disks: 64M*3
. /embrfs-guest/lib.sh
must mkfs.embrfs --bundle 1+1 "$DISK1" "$DISK2"
must mount -i -t embrfs -o "device=$DISK2" "$DISK1" "$MNT"
mustfail mount -i -o remount,rw "$MNT"
expect_in "$OUT" 'this version mounts read-only'
expect_in "$(grep " $MNT embrfs " /proc/mounts)" ' embrfs ro,'
must mount -i -o remount,noatime "$MNT"
expect_in "$(grep " $MNT embrfs " /proc/mounts)" 'noatime'
must mount -i -o remount,ro "$MNT"
mustfail mount -i -o "remount,ro,device=$DISK3" "$MNT"
expect_in "$OUT" 'a remount cannot add a device'
mustfail mount -i -o remount,ro,bogus "$MNT"
expect_in "$OUT" "unknown mount option 'bogus'"
must mount --bind "$MNT" /tmp
must umount /tmp
must umount "$MNT"
