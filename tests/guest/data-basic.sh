#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Bytes come back as they were written: small and large, in the middle, at the end, after a remount.
#: disks: 256M
#: memory: 1G
#: tools: cmp fallocate sha256sum truncate
. /embrfs-guest/lib.sh
must mkfs.embrfs --bundle 1+0 "$DISK1"
mounted() { must mount -i -t embrfs "$DISK1" "$MNT"; }
again() {
	must umount "$MNT"
	mounted
}
mounted
echo hello >"$MNT/hello"
expect_eq "$(cat "$MNT/hello")" hello
echo more >>"$MNT/hello"
expect_eq "$(cat "$MNT/hello")" $'hello\nmore'
again
expect_eq "$(cat "$MNT/hello")" $'hello\nmore' "after a remount, the file"

# Random bytes, sizes around blocks.
for size in 0 1 4095 4096 4097 65536 131073 1048575 1048576 1048577 5000000; do
	head -c $size /dev/urandom >"/tmp/f$size"
	must cp "/tmp/f$size" "$MNT/f$size"
	must cmp "/tmp/f$size" "$MNT/f$size"
	expect_eq "$(stat -c %s "$MNT/f$size")" $size "the size"
done
again
for f in /tmp/f*; do must cmp "$f" "$MNT/${f##*/}"; done

# In the middle, over what is there; with sync and without.
for options in conv=notrunc "conv=notrunc oflag=sync" "conv=notrunc oflag=dsync" conv=notrunc,fsync; do
	for at in 0 1 100 1023 1200 4999; do
		head -c 3000 /dev/urandom >/tmp/piece
		for f in /tmp/f5000000 "$MNT/f5000000"; do
			# shellcheck disable=SC2086
			must dd if=/tmp/piece of="$f" bs=1000 seek=$at $options status=none
		done
		must cmp /tmp/f5000000 "$MNT/f5000000"
	done
done
again
must cmp /tmp/f5000000 "$MNT/f5000000"

# How much of the volume a file takes: never less than it has, and just that once all is written.
taken() { stat -c %b "$MNT/$1"; }
head -c 100000 /dev/urandom >"$MNT/fresh"
[ "$(taken fresh)" -ge 196 ] || fail "100000 bytes are said to take $(taken fresh) sectors"
must sync -f "$MNT"
expect_eq "$(taken fresh)" 200 "sectors of 100000 bytes"
must truncate -s 10M "$MNT/sparse"
expect_eq "$(taken sparse)" 0 "sectors of a hole"
must dd if=/dev/urandom of="$MNT/sparse" bs=4096 seek=7 count=40 conv=notrunc,fsync status=none
expect_eq "$(taken sparse)" 320 "sectors of a file with a hole"
must fallocate -p -o 40960 -l 40960 "$MNT/sparse"
expect_eq "$(taken sparse)" 240 "sectors of a file with more of a hole"
must fallocate -l 1M "$MNT/sparse"
again
expect_eq "$(taken fresh) $(taken sparse)" "200 2048" "after a remount, the sectors"
must truncate -s 0 "$MNT/sparse"
expect_eq "$(taken sparse)" 0 "sectors of an empty file"
must umount "$MNT"
