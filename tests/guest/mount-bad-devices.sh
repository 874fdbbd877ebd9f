#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Devices that hold no embrfs, or a damaged one, are refused with the reason, or left out with it where others are enough; one
# sound superblock copy is enough.
#: disks: 64M*3 512K
#: tools: mkswap swapon swapoff
. /embrfs-guest/lib.sh
mustfail mount -i -t embrfs "$DISK1" "$MNT"
expect_in "$OUT" "$DISK1: not an embrfs device"
mustfail mount -i -t embrfs "$DISK4" "$MNT"
expect_in "$OUT" "$DISK4: not an embrfs device"
must mkfs.embrfs --bundle 1+1 "$DISK1" "$DISK2"
must mount -i -t embrfs -o "device=$DISK3" "$DISK1" "$MNT"
expect_in "$(dmesg | tail -n 4)" "embrfs: $DISK3: not an embrfs device.*; left out"
must umount "$MNT"

# A device that something else holds.
must mkswap "$DISK3"
must swapon "$DISK3"
mustfail mount -i -t embrfs "$DISK3" "$MNT"
must mount -i -t embrfs -o "device=$DISK3" "$DISK1" "$MNT"
expect_in "$(dmesg | tail -n 4)" "embrfs: $DISK3: cannot open: in use.*; left out"
must umount "$MNT"
must swapoff "$DISK3"

scratch() { dd if=/dev/urandom of="$1" bs=4096 seek=$(($2 / 4096)) count="$3" conv=notrunc,fsync status=none; }
# The first superblock lies at 64 KiB, the second at 8 MiB + 64 KiB.
scratch "$DISK1" 65536 4
must mount -i -t embrfs -o "device=$DISK2" "$DISK1" "$MNT"
must umount "$MNT"
scratch "$DISK1" $((8454144 + 4096)) 1
mustfail mount -i -t embrfs -o "device=$DISK2" "$DISK1" "$MNT"
expect_in "$OUT" "$DISK1: superblock at byte 8454144: checksum mismatch"
# The other half of the mirror still mounts, alone.
must mount -i -t embrfs "$DISK2" "$MNT"
must umount "$MNT"
