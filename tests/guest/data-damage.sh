#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Blocks of a device that rot: without redundancy what they held cannot be read, and all else can; with a second device nothing is
# lost. Wrong bytes are never returned.
#: disks: 128M*2
#: memory: 1G
#: timeout: 300
. /embrfs-guest/lib.sh
SIZE=15000000 FILES=4
seed=${EMBRFS_SEED:-$(($(date +%s) * 1000))}
say "seed $seed"
# rot DEVICE: every 40th block or so of what is not at its ends.
rot() {
	local at=2500
	while [ $at -lt 27000 ]; do
		dd if=/dev/urandom of="$1" bs=4096 seek=$at count=1 conv=notrunc status=none || fail "cannot damage $1"
		at=$((at + 1 + RANDOM % 80))
	done
	sync "$1"
}
lost() { awk '/blocks lost/ {n += $2} END {print n + 0}' <<<"$OUT"; }

must mkfs.embrfs --bundle 1+0 "$DISK1"
must mount -i -t embrfs "$DISK1" "$MNT"
must embrfs-exercise make "$MNT" "$seed" $SIZE
must umount "$MNT"
rot "$DISK1"
must mount -i -t embrfs "$DISK1" "$MNT"
must embrfs-exercise damaged "$MNT" "$seed" $SIZE
expect_eq "$(wc -l <<<"$OUT")" $FILES "how many files were looked at"
before=$(lost)
[ "$before" -gt 50 ] || fail "only $before blocks are lost: nothing was damaged"
[ "$before" -lt 2000 ] || fail "$before blocks are lost of some 14000: too many for what was damaged"
# What was read is in memory; what could not be is asked for again.
must embrfs-exercise damaged "$MNT" "$seed" $SIZE
expect_eq "$(lost)" "$before" "blocks lost, asked again"
# A read of much fails where the damage is, and gives what is before it.
mustfail dd if="$MNT/grow-$seed" of=/dev/null bs=1M status=none
expect_in "$OUT" 'Input/output error'
# What is written over it is there again.
must embrfs-exercise make "$MNT" "$seed" $SIZE
must embrfs-exercise damaged "$MNT" "$seed" $SIZE
expect_eq "$(lost)" 0 "blocks lost, after they were written again"
must umount "$MNT"

must mkfs.embrfs --force --bundle 1+1 "$DISK1" "$DISK2"
must mount -i -t embrfs -o "device=$DISK2" "$DISK1" "$MNT"
must embrfs-exercise make "$MNT" "$seed" $SIZE
must umount "$MNT"
rot "$DISK1"
must mount -i -t embrfs -o "device=$DISK2" "$DISK1" "$MNT"
must embrfs-exercise damaged "$MNT" "$seed" $SIZE
expect_eq "$(lost)" 0 "blocks lost with a second device"
must umount "$MNT"
