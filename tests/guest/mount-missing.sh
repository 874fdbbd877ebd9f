#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# A 4+2 volume mounts without any two members, naming them; without three it is refused, naming them. A member that is named but
# wiped, damaged, taken or gone is left out with a warning, except where it is the source.
#: disks: 64M*6
#: tools: mkswap swapon swapoff
#: timeout: 300
. /embrfs-guest/lib.sh
must mkfs.embrfs --bundle 4+2 "${DISKS[@]}"

last_log() { dmesg | grep "embrfs: " | tail -n "$1"; }

must mount -i -t embrfs -o "device=$DISK2,device=$DISK3,device=$DISK5" "$DISK1" "$MNT"
expect_in "$(last_log 2)" 'mounting without members: number 4 \(.*\), number 6 \('
expect_in "$(last_log 2)" 'bundle 4\+2, 4 of 6 members'
# On the four that are here, half of each stripe is parity.
blocks=$(stat -f -c '%b' "$MNT")
[ "$blocks" -gt 25000 ] && [ "$blocks" -lt $((4 * 64 * 256 / 2)) ] || fail "$blocks blocks"
must umount "$MNT"

must mount -i -t embrfs -o "ro,degraded,device=$DISK2,device=$DISK3,device=$DISK1" "$DISK6" "$MNT"
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

# Named, but no longer what they were: one wiped, one with damaged superblocks.
must dd if=/dev/zero of="$DISK3" bs=1M count=16 conv=fsync status=none
for at in 16 2064; do must dd if=/dev/urandom of="$DISK4" bs=4096 seek=$((at + 1)) count=1 conv=notrunc,fsync status=none; done
all=device=$DISK2,device=$DISK3,device=$DISK4,device=$DISK5,device=$DISK6
must mount -i -t embrfs -o "$all" "$DISK1" "$MNT"
expect_in "$(last_log 4)" "$DISK3: not an embrfs device .*; left out"
expect_in "$(last_log 4)" "$DISK4: superblock at byte 65536: checksum mismatch.*; left out"
expect_in "$(last_log 4)" 'mounting without members: number 3 \(.*\), number 4 \('
expect_in "$(last_log 4)" 'bundle 4\+2, 4 of 6 members'
line=$(grep " $MNT embrfs " /proc/mounts)
expect_in "$line" "[, ]device=$DISK5[, ]"
[[ $line != *$DISK3* && $line != *$DISK4* ]] || fail "what was left out is shown as a member: $line"
# The same options do for another mount of it and for a remount; a member that had no part in them does not join later.
mkdir -p /tmp/second
must mount -i -t embrfs -o "$all" "$DISK2" /tmp/second
must umount /tmp/second
must mount -i -o "remount,ro,$all" "$MNT"
mustfail mount -i -t embrfs "$DISK3" /tmp/second
must umount "$MNT"
# Left out, they are free.
must dd if=/dev/zero of="$DISK3" bs=1M count=1 conv=fsync status=none
must mount.embrfs "$DISK1" "$MNT" -o "$all"
expect_in "$OUT" "$DISK3: not an embrfs device .*; left out"
expect_in "$OUT" "$DISK4: superblock at byte 65536: checksum mismatch.*; left out"
expect_in "$OUT" 'mounting without members: number 3 \(.*\), number 4 \('
must umount "$MNT"

# The source says which volume is meant.
for d in "$DISK3" "$DISK4"; do
	mustfail mount -i -t embrfs -o "device=$DISK1,device=$DISK2,device=$DISK5,device=$DISK6" "$d" "$MNT"
	expect_in "$OUT" "$d: "
	mustfail mount.embrfs -o "device=$DISK1,device=$DISK2,device=$DISK5,device=$DISK6" "$d" "$MNT"
	expect_in "$OUT" "$d: "
done

# One too many: gone from /dev, or in other use.
must dd if=/dev/zero of="$DISK5" bs=1M count=12 status=none
must mkswap "$DISK5"
must swapon "$DISK5"
mustfail mount -i -t embrfs -o "$all" "$DISK1" "$MNT"
expect_in "$OUT" '3 members are missing and only 2 may be'
expect_in "$(last_log 4)" "$DISK5: cannot open: in use.*; left out"
must swapoff "$DISK5"
mustfail mount.embrfs "$DISK1" "$MNT" -o "$all"
expect_in "$OUT" "$DISK5: not an embrfs device .*; left out"
expect_in "$OUT" '3 members are missing and only 2 may be'
mustfail mount -i -t embrfs -o "device=$DISK2,device=/dev/none-such,device=$DISK6" "$DISK1" "$MNT"
expect_in "$OUT" '3 members are missing and only 2 may be'
expect_in "$(last_log 4)" '/dev/none-such: cannot open: there is no such file; left out'
mustfail mount.embrfs "$DISK1" "$MNT" -o "device=$DISK2,device=/dev/none-such,device=$DISK6"
expect_in "$OUT" '/dev/none-such: cannot open: .*; left out'
