#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# A full volume says so to who writes, never later: what write(2) took is there after a remount. What is deleted comes back.
#: lanes: um-lockdep um-kasan
#: disks: 64M
#: timeout: 300
. /embrfs-guest/lib.sh
must mkfs.embrfs --bundle 1+0 "$DISK1"
must mount -i -t embrfs "$DISK1" "$MNT"
head -c 2000000 /dev/urandom >/tmp/a
for round in 1 2 3; do
	n=0
	while cp /tmp/a "$MNT/f$n" 2>/tmp/why; do
		n=$((n + 1))
		[ $n -lt 100 ] || fail "200 MB on a device of 64 MB"
	done
	expect_in "$(cat /tmp/why)" 'No space left on device'
	# There may be no room for the last one's name, even.
	rest=$(stat -c %s "$MNT/f$n" 2>/dev/null || echo 0)
	say "round $round: $n files and $rest bytes"
	[ $n -gt 10 ] || fail "full after $n files"
	# All that was accepted can be made durable, the piece of the last file too.
	must sync -f "$MNT"
	for ((i = 0; i < n; i++)); do must cmp /tmp/a "$MNT/f$i"; done
	[ "$rest" = 0 ] || must cmp -n "$rest" /tmp/a "$MNT/f$n"
	# Small ones find no room either, sooner or later; overwriting and cutting go on.
	for ((i = 0; i < 3000; i++)); do
		head -c 5000 /tmp/a >"$MNT/small$i" 2>/tmp/why || break
	done
	[ "$i" -lt 3000 ] || fail "3000 small files found room on a full volume"
	must truncate -s 1000000 "$MNT/f0"
	must umount "$MNT"
	must mount -i -t embrfs "$DISK1" "$MNT"
	must cmp -n 1000000 /tmp/a "$MNT/f0"
	for ((i = 1; i < n; i++)); do must cmp /tmp/a "$MNT/f$i"; done
	must rm -r "$MNT"/*
done
must umount "$MNT"
