#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# A tree of many files, small ones mostly, is copied and equals its original: at once, after a remount, and when copied by several.
#: lanes: um-lockdep um-kasan
#: disks: 512M
#: timeout: 300
#: memory: 768M
. /embrfs-guest/lib.sh
must mkfs.embrfs --bundle 1+0 "$DISK1"
must mount -i -t embrfs "$DISK1" "$MNT"
mkdir /tmp/tree
for d in a b c/d c/e; do
	mkdir -p "/tmp/tree/$d"
	for n in {1..100}; do head -c $((RANDOM % 9000)) /dev/urandom >"/tmp/tree/$d/$n"; done
	for n in {1..3}; do head -c $((RANDOM * 100)) /dev/urandom >"/tmp/tree/$d/large$n"; done
	ln -s "large1" "/tmp/tree/$d/link"
done
must cp -a /tmp/tree "$MNT/"
must diff -r /tmp/tree "$MNT/tree"
must umount "$MNT"
must mount -i -t embrfs "$DISK1" "$MNT"
must diff -r /tmp/tree "$MNT/tree"
for n in 1 2 3 4; do cp -a "$MNT/tree" "$MNT/copy$n" & done
wait
sync
for n in 1 2 3 4; do must diff -r /tmp/tree "$MNT/copy$n"; done
must rm -r "$MNT/copy2" "$MNT/tree"
must mv "$MNT/copy1" "$MNT/tree"
must umount "$MNT"
must mount -i -t embrfs "$DISK1" "$MNT"
for n in tree copy3 copy4; do must diff -r /tmp/tree "$MNT/$n"; done
must rm -r "$MNT"/*
expect_eq "$(ls -A "$MNT")" ''
