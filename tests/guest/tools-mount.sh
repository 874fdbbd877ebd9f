#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# mount(8) finds all members through mount.embrfs; what the kernel says against a mount reaches the user.
#: disks: 64M*6
. /embrfs-guest/lib.sh
uuid=11112222-3333-4444-8555-666677778888
must mkfs.embrfs --bundle 4+2 --label demo --uuid $uuid "${DISKS[@]}"

# Any member will do, and so will the identity of the volume. All members are named to the kernel.
mounted() {
	local line d
	line=$(grep " $MNT embrfs " /proc/mounts)
	for d in "${DISKS[@]}"; do expect_in "$line" "[, ]device=$d[, ]|^$d "; done
	must umount "$MNT"
}
for source in "$DISK1" "$DISK5" UUID=$uuid LABEL=demo; do
	must mount.embrfs -v "$source" "$MNT" -o rw,ro,noatime
	expect_in "$(grep " $MNT embrfs " /proc/mounts)" ' ro,.*noatime'
	mounted
done
# The way of users: mount(8) looks for its helper in /sbin.
if [ -x /sbin/mount.embrfs ]; then
	must mount -t embrfs "$DISK3" "$MNT"
	mounted
fi

# Nothing is done with -f; -s leaves out what the kernel does not know, and otherwise its reason is told.
must mount.embrfs -f "$DISK1" "$MNT"
mustfail grep " $MNT embrfs " /proc/mounts
mustfail mount.embrfs "$DISK1" "$MNT" -o ro,bogus=7
expect_in "$OUT" "'bogus'"
must mount.embrfs -s "$DISK1" "$MNT" -o ro,bogus=7,nofail,x-nothing
expect_in "$OUT" 'left out bogus'
must mount.embrfs "$DISK1" "$MNT" -o remount,ro,nodev
expect_in "$(grep " $MNT embrfs " /proc/mounts)" ' ro,nodev'
must mount.embrfs "$DISK1" "$MNT" -o remount,noexec
expect_in "$(grep " $MNT embrfs " /proc/mounts)" ' ro,.*noexec'
mustfail mount.embrfs "$DISK1" "$MNT" -o remount,rw
expect_in "$OUT" 'nothing is ever written'
must umount "$MNT"

# Two members may be missing, three may not, and then they are named.
must wipefs -qaf "$DISK6"
for d in "$DISK5" "$DISK6"; do must dd if=/dev/zero of="$d" bs=1M count=16 conv=fsync status=none; done
must mount.embrfs "$DISK1" "$MNT"
must umount "$MNT"
must dd if=/dev/zero of="$DISK4" bs=1M count=16 conv=fsync status=none
mustfail mount.embrfs "$DISK1" "$MNT"
expect_in "$OUT" '3 members are missing and only 2 may be: number 4'
# Exactly the devices that are named: with device= no others are looked for.
mustfail mount.embrfs "$DISK1" "$MNT" -o "device=$DISK2"
expect_in "$OUT" '4 members are missing'
mustfail mount.embrfs "$DISK1" "$MNT" -o noscan
expect_in "$OUT" '5 members are missing'
mustfail mount.embrfs "$DISK4" "$MNT"
expect_in "$OUT" 'not an embrfs device'
mustfail mount.embrfs UUID=99992222-3333-4444-8555-666677778888 "$MNT"
expect_in "$OUT" 'no device of a volume with UUID='
