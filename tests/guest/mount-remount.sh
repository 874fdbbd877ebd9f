#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Remounts work, read-only and read-write again, and cannot bring in devices. What was mounted so that nothing is ever written
# cannot become writable. What was written before a remount read-only is there afterwards, and then nothing is written any more.
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
head -c 3000000 /dev/urandom >/tmp/bytes
must cp /tmp/bytes "$MNT/bytes"
mustfail mount -i -t embrfs -o "ro,device=$DISK2" "$DISK1" /tmp
expect_in "$OUT" 'mounted already'
must mount -i -o remount,ro "$MNT"
sums() { cat "$DISK1" "$DISK2" | sha256sum; }
before=$(sums)
echo 3 >/proc/sys/vm/drop_caches
must cmp /tmp/bytes "$MNT/bytes"
sleep 6
expect_eq "$(sums)" "$before" "the devices after they were mounted read-only for a while"
must umount "$MNT"
expect_eq "$(sums)" "$before" "the devices after the read-only mount ended"
must mount -i -t embrfs -o "device=$DISK2" "$DISK1" "$MNT"
must cmp /tmp/bytes "$MNT/bytes"
must rm "$MNT/bytes"
must cp /tmp/bytes "$MNT/dir/bytes"
must mount -i -o remount,ro "$MNT"
mustfail mkdir "$MNT/another"
expect_in "$OUT" 'Read-only'
must mount -i -o remount,rw "$MNT"
must mkdir "$MNT/another"
must cmp /tmp/bytes "$MNT/dir/bytes"
must cp /tmp/bytes "$MNT/another/bytes"
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
must mount -i -t embrfs -o "ro,device=$DISK2" "$DISK1" "$MNT"
must cmp /tmp/bytes "$MNT/another/bytes"
must umount "$MNT"
