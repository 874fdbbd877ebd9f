#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Remounts work, read-only and read-write again, and cannot bring in devices. What was mounted so that nothing is ever written
# cannot become writable.
#: disks: 64M*3
. /embrfs-guest/lib.sh
must mkfs.embrfs --bundle 1+1 "$DISK1" "$DISK2"
must mount -i -t embrfs -o "ro,device=$DISK2" "$DISK1" "$MNT"
mustfail mount -i -o remount,rw "$MNT"
expect_in "$OUT" 'nothing is ever written'
expect_in "$(grep " $MNT embrfs " /proc/mounts)" ' embrfs ro,'
mustfail mkdir "$MNT/dir"
expect_in "$OUT" 'Read-only'
must umount "$MNT"
must mount -i -t embrfs -o "device=$DISK2" "$DISK1" "$MNT"
expect_in "$(grep " $MNT embrfs " /proc/mounts)" ' embrfs rw,'
must mkdir "$MNT/dir"
must mount -i -o remount,ro "$MNT"
mustfail mkdir "$MNT/another"
expect_in "$OUT" 'Read-only'
must mount -i -o remount,rw "$MNT"
must mkdir "$MNT/another"
must mount -i -o remount,noatime "$MNT"
expect_in "$(grep " $MNT embrfs " /proc/mounts)" 'noatime'
must mount -i -o remount,ro "$MNT"
expect_eq "$(ls "$MNT")" "another
dir" "the directories"
mustfail mount -i -o "remount,ro,device=$DISK3" "$MNT"
expect_in "$OUT" 'a remount cannot add a device'
mustfail mount -i -o remount,ro,bogus "$MNT"
expect_in "$OUT" "unknown mount option 'bogus'"
must mount --bind "$MNT" /tmp
must umount /tmp
must umount "$MNT"
