#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# A second mount of a volume, through whichever member, shares the first one's superblock; devices that do not belong to the
# mounted volume are refused.
#: disks: 64M*4
. /embrfs-guest/lib.sh
must mkfs.embrfs --bundle 1+1 "$DISK1" "$DISK2"
must mkfs.embrfs --bundle 1+0 "$DISK3"
mkdir -p /tmp/second /tmp/third
must mount -i -t embrfs -o "device=$DISK2" "$DISK1" "$MNT"
must mount -i -t embrfs "$DISK2" /tmp/second
must mount -i -t embrfs -o "device=$DISK1" "$DISK2" /tmp/third
expect_eq "$(stat -c %d /tmp/second /tmp/third)" "$(stat -c %d "$MNT" "$MNT")" "device number"
must umount "$MNT"
must ls /tmp/second
must umount /tmp/third

# The second volume is another superblock.
must mount -i -t embrfs "$DISK3" "$MNT"
[ "$(stat -c %d "$MNT")" != "$(stat -c %d /tmp/second)" ] || fail "two volumes share a superblock"
must umount "$MNT"

# A member of the mounted volume with a device of another one.
mustfail mount -i -t embrfs -o "device=$DISK3" "$DISK1" "$MNT"
expect_in "$OUT" "$DISK3: the volume .* is mounted already, without this device"
# A copy of a member of the mounted volume.
must dd if="$DISK1" of="$DISK4" bs=1M status=none
mustfail mount -i -t embrfs "$DISK4" "$MNT"
expect_in "$OUT" "$DISK4: the volume .* is mounted already, without this device"
must umount /tmp/second

# Not mounted: devices of two volumes, and a member with its copy.
mustfail mount -i -t embrfs -o "device=$DISK3" "$DISK1" "$MNT"
expect_in "$OUT" "$DISK3 is of another volume than $DISK1"
mustfail mount -i -t embrfs -o "device=$DISK4" "$DISK1" "$MNT"
expect_in "$OUT" "$DISK1 and $DISK4 are the same device of the volume"
