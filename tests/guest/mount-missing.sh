#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# A 4+2 volume mounts without any two members, naming them; without three it is refused, naming them.
#: disks: 64M*6
. /embrfs-guest/lib.sh
must mkfs.embrfs --bundle 4+2 "${DISKS[@]}"

last_log() { dmesg | grep "embrfs: " | tail -n "$1"; }

must mount -i -t embrfs -o "device=$DISK2,device=$DISK3,device=$DISK5" "$DISK1" "$MNT"
expect_in "$(last_log 2)" 'mounting without members: number 4 \(.*\), number 6 \('
expect_in "$(last_log 2)" 'bundle 4\+2, 4 of 6 members'
expect_eq "$(stat -f -c '%b' "$MNT")" 63488 "blocks, members missing or not"
must umount "$MNT"

must mount -i -t embrfs -o "degraded,device=$DISK2,device=$DISK3,device=$DISK1" "$DISK6" "$MNT"
expect_in "$(grep " $MNT embrfs " /proc/mounts)" '[, ]degraded[, ]'
must umount "$MNT"

mustfail mount -i -t embrfs -o "degraded,device=$DISK2,device=$DISK3" "$DISK1" "$MNT"
expect_in "$OUT" '3 members are missing and only 2 may be: number 4 \(.*\), number 5 \(.*\), number 6 \('
expect_in "$OUT" 'device='
mustfail mount -i -t embrfs "$DISK6" "$MNT"
expect_in "$OUT" '5 members are missing and only 2 may be: number 1 \('

# A failed attempt leaves nothing busy.
must mount -i -t embrfs -o "device=$DISK2,device=$DISK3,device=$DISK4,device=$DISK5,device=$DISK6" "$DISK1" "$MNT"
must umount "$MNT"
