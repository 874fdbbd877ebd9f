#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Options that are unknown or malformed are refused, and both the user and the kernel's log are told which.
#: disks: 64M
#: timeout: 120
. /embrfs-guest/lib.sh
must mkfs.embrfs --bundle 1+0 "$DISK1"

# refused OPTIONS PATTERN: what mount(8) prints, and what the kernel logs.
refused() {
	mustfail mount -i -t embrfs -o "$1" "$DISK1" "$MNT"
	expect_in "$OUT" "$2"
	expect_in "$(dmesg | tail -n 3)" "embrfs: .*${3:-$2}"
}
refused bogus "unknown mount option 'bogus'"
refused bogus=7 "unknown mount option 'bogus'"
refused degraded=1 "'degraded'"
refused discard=1 "'discard'"
refused nodegraded "unknown mount option 'nodegraded'"
refused device "'device'"
refused device= "'device'"
refused device=relative/path "device=relative/path: not an absolute path"
refused device=/etc/passwd "/etc/passwd: cannot open: not a block device"
refused device=/dev/null "/dev/null: cannot open: not a block device"
# A disk that is gone is no mistake.
for gone in /dev/none-such /proc/self/nothing/at/all; do
	must mount -i -t embrfs -o "device=$gone" "$DISK1" "$MNT"
	expect_in "$(dmesg | tail -n 3)" "embrfs: $gone: cannot open: there is no such file; left out"
	must umount "$MNT"
done
# A name that is not fit for a log is escaped.
refused "$(printf 'b\001d')" 'b\\x01d'
refused "$(printf '%0200d' 0)" "unknown mount option '0+'"

# More devices than any volume has.
status=0
OUT=$(mount -i -t embrfs -o "$(printf 'device=/dev/none%d,' {1..300})ro" "$DISK1" "$MNT" 2>&1) || status=$?
[ "$status" != 0 ] || fail "300 devices were accepted"
expect_in "$OUT" "more than 256 times device="

# The same device by several names is one device.
ln -s "$DISK1" /tmp/link
must mount -i -t embrfs -o "device=$DISK1,device=/tmp/link,device=$DISK1" /tmp/link "$MNT"
must umount "$MNT"
# No source at all.
mustfail mount -i -t embrfs none "$MNT"
# Standard options are the VFS's.
must mount -i -t embrfs -o ro,nosuid,nodev,noexec,noatime,sync "$DISK1" "$MNT"
expect_in "$(grep " $MNT embrfs " /proc/mounts)" ' ro,(sync,)?nosuid,nodev,noexec,noatime'
must umount "$MNT"
