#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# One device without redundancy mounts, again and again, and no mount leaves it busy.
#: disks: 64M
#: tools: busybox
. /embrfs-guest/lib.sh
must mkfs.embrfs --bundle 1+0 "$DISK1"
for _ in 1 2 3 4 5; do
	must mount -i -t embrfs "$DISK1" "$MNT"
	must ls -la "$MNT"
	must umount "$MNT"
done
# A device that is mounted cannot be claimed by others.
must mount -i -t embrfs "$DISK1" "$MNT"
mustfail busybox swapon "$DISK1"
expect_in "$OUT" 'busy'
# Lazily unmounted while in use, it stays until the last user is gone.
exec 7<"$MNT"
must umount -l "$MNT"
ls -la /proc/self/fd/7/ >/dev/null || fail "an open directory must outlive a lazy unmount"
exec 7<&-
must mount -i -t embrfs "$DISK1" "$MNT"
must umount "$MNT"
