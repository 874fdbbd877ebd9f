#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The filesystem at its main job, for someone who watches.
#: lanes: stock
#: disks: 256M*6
#: timeout: 120
. /embrfs-guest/lib.sh

heading() { printf '\n\033[1m%s\033[0m\n' "$*"; }

# show WANTED COMMAND...: the command as typed, what it says, and an end of the demo if its exit status is not the wanted one.
show() {
	local wanted=$1 status=0
	shift
	heading "# $*"
	"$@" || status=$?
	[ "$status" = "$wanted" ] || fail "exit status $status from: $*"
}

show 0 uname -r
show 0 mkfs.embrfs --bundle 4+2 --label demo "${DISKS[@]}"
mkdir -p /tmp/mnt
# One device is enough: the mount helper finds the other five.
show 0 mount -t embrfs "$DISK1" /tmp/mnt
show 0 df -hT /tmp/mnt
show 0 findmnt -t embrfs -o TARGET,SOURCE,FSTYPE,OPTIONS
show 0 embrfs-admin status /tmp/mnt
mkdir /tmp/mnt/letters
head -c 8M /dev/urandom >/tmp/mnt/letters/first || fail "cannot write"
ln -s first /tmp/mnt/letters/second
show 0 ls -lR /tmp/mnt
show 0 sha256sum /tmp/mnt/letters/second
before=$(sha256sum </tmp/mnt/letters/first)
show 0 umount /tmp/mnt

lose() { dd if=/dev/zero of="$1" bs=1M count=16 status=none || fail "cannot wipe $1"; }

heading "Two of the six disks are lost: wiped. The volume still mounts, says what is missing, and every byte is there."
lose "$DISK2"
lose "$DISK5"
show 0 mount -t embrfs "$DISK1" /tmp/mnt
show 1 embrfs-admin status /tmp/mnt
show 0 sha256sum /tmp/mnt/letters/first
[ "$(sha256sum </tmp/mnt/letters/first)" = "$before" ] || fail "other bytes than were written"
show 0 umount /tmp/mnt

heading "A third one is lost, more than 4+2 bears: refused, with the reason."
lose "$DISK6"
show 32 mount -t embrfs "$DISK1" /tmp/mnt
