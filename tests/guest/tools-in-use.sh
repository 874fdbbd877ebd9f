#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Tools leave alone what is in use: mkfs refuses it whatever the options, fsck looks but does not repair, extract says where it is mounted;
# status asks the kernel.
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
expect_in "$OUT" 'mounted +/mnt/embrfs \(read-write\), complete'
expect_in "$OUT" 'members +3 of 3'
must embrfs-admin status
expect_in "$OUT" '"demo"'
must embrfs-admin status "$DISK2" --json
expect_in "$OUT" '"mounted_at": "/mnt/embrfs"'
must embrfs-admin devices
expect_in "$OUT" "current .*$DISK3"
must fsck.embrfs "$DISK2"
mustfail embrfs-admin extract "$DISK2" --to /tmp/saved
expect_in "$OUT" "$DISK2 is mounted at /mnt/embrfs"
[ ! -e /tmp/saved ] || fail "extract made a directory for nothing"
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
must embrfs-admin extract "$DISK3" --to /tmp/saved
expect_in "$OUT" 'nothing is missing'
must embrfs-admin status
expect_in "$OUT" 'no embrfs volume is mounted'

# A volume's UUID is not given twice.
uuid=$(embrfs-admin dump super "$DISK1" | sed -n 's/^volume  *//p')
mustfail mkfs.embrfs --uuid "$uuid" "$DISK4"
expect_in "$OUT" "belongs to a volume with the UUID $uuid"
must mkfs.embrfs "$DISK4"
must embrfs-admin devices
expect_eq "$(grep -c '^volume' <<<"$OUT")" 2 "volumes on the machine"

# The small stock guest has no loop driver.
if [ ! -e /dev/loop-control ]; then
	say "no loop driver in this guest: the part with image files runs in the other lanes"
	exit 0
fi

# Image files under the loop devices of a mounted volume: anyone can open them for writing, and fsck must not.
images=(/tmp/image1 /tmp/image2) loops=()
for image in "${images[@]}"; do
	truncate -s 64M "$image"
	loops+=("$(losetup --find --show "$image")")
done
must mkfs.embrfs --bundle 1+1 "${loops[@]}"
must mount.embrfs "${loops[0]}" "$MNT"
# By another name, too.
must ln /tmp/image2 /tmp/second-name
damage() { dd if=/dev/zero of="$1" bs=4096 seek=16 count=1 conv=fsync,notrunc status=none; }
damage /tmp/image2
sync
for image in /tmp/image2 /tmp/second-name; do
	for option in -y -p; do
		status=0
		OUT=$(fsck.embrfs $option --only "$image" /tmp/image1 2>&1) || status=$?
		echo "$OUT"
		expect_eq "$status" 12 "fsck $option of image files under a mounted volume (8: not possible, 4: left)"
		expect_in "$OUT" 'nothing was repaired: /tmp/.* is in use by /dev/loop'
		cmp -n 4096 -i 65536:0 "$image" /dev/zero || fail "fsck wrote to an image under a mounted volume"
	done
done
mustfail embrfs-admin extract --only "${images[@]}" --to /tmp/other
expect_in "$OUT" '/dev/loop[0-9]+ is mounted at /mnt/embrfs, and lies on /tmp/image1'
# One member in use is enough, whatever the others are.
damage "$DISK1"
status=0
OUT=$(fsck.embrfs -y "$DISK1" /tmp/image1 2>&1) || status=$?
expect_in "$OUT" 'nothing was repaired: /tmp/image1 is in use by /dev/loop'
must umount "$MNT"
must losetup --detach "${loops[@]}"
status=0
fsck.embrfs -y "${images[@]}" || status=$?
expect_eq "$status" 1 "fsck -y of image files that nothing uses"
