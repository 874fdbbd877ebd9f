#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Tools leave alone what is in use: mkfs refuses it whatever the options, fsck looks but does not repair; status asks the kernel.
#: disks: 64M*4
. /embrfs-guest/lib.sh
must mkfs.embrfs --bundle 2+1 --label demo "$DISK1" "$DISK2" "$DISK3"
must mount.embrfs "$DISK1" "$MNT"

# Each member, not only the one that was named to mount; with a free one first, which must stay as it is.
for d in "$DISK1" "$DISK2" "$DISK3"; do
	mustfail mkfs.embrfs --force "$DISK4" "$d"
	expect_in "$OUT" "$d: (mounted at|in use)"
done
must cmp -n $((64 << 20)) "$DISK4" /dev/zero
mustfail mkfs.embrfs -n -f "$DISK2"

must embrfs-admin status "$MNT"
expect_in "$OUT" 'mounted +/mnt/embrfs \(read-only\), complete'
expect_in "$OUT" 'members +3 of 3'
must embrfs-admin status
expect_in "$OUT" '"demo"'
must embrfs-admin status "$DISK2" --json
expect_in "$OUT" '"mounted_at": "/mnt/embrfs"'
must embrfs-admin devices
expect_in "$OUT" "current .*$DISK3"
must fsck.embrfs "$DISK2"
# A damaged copy, past the mount.
must dd if=/dev/zero of="$DISK2" bs=4096 seek=16 count=1 conv=fsync,notrunc status=none
status=0
fsck.embrfs -y "$DISK1" || status=$?
expect_eq "$status" 12 "fsck -y of a mounted volume (8: not possible, 4: left)"
status=0
fsck.embrfs -n "$DISK1" || status=$?
expect_eq "$status" 4 "fsck -n of a mounted volume"
must umount "$MNT"
status=0
fsck.embrfs -y "$DISK1" || status=$?
expect_eq "$status" 1 "fsck -y once unmounted"
must fsck.embrfs "$DISK3"
must embrfs-admin status
expect_in "$OUT" 'no embrfs volume is mounted'

# A volume's UUID is not given twice.
uuid=$(embrfs-admin dump super "$DISK1" | sed -n 's/^volume  *//p')
mustfail mkfs.embrfs --uuid "$uuid" "$DISK4"
expect_in "$OUT" "belongs to a volume with the UUID $uuid"
must mkfs.embrfs "$DISK4"
must embrfs-admin devices
expect_eq "$(grep -c '^volume' <<<"$OUT")" 2 "volumes on the machine"
