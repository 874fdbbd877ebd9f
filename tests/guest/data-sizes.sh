#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Sizes: cut and grown files read as zeros where nothing was written; holes are holes; ranges are given back.
#: lanes: um-lockdep um-kasan
#: disks: 256M
. /embrfs-guest/lib.sh
must mkfs.embrfs --bundle 1+0 "$DISK1"
again() {
	must umount "$MNT"
	must mount -i -t embrfs "$DISK1" "$MNT"
}
# sum FILE SKIP COUNT
sum() { dd if="$1" bs=1 skip="$2" count="$3" status=none iflag=skip_bytes,count_bytes | sha256sum; }
zeros() { head -c "$1" /dev/zero | sha256sum; }
must mount -i -t embrfs "$DISK1" "$MNT"
cd "$MNT" || exit
head -c 300000 /dev/urandom >/tmp/a

# Cut in the middle of a block and grown again: nothing comes back, dirty or not, remounted or not.
for how in dirty synced remounted; do
	for size in 0 1 4096 5000 100000 299999; do
		must cp /tmp/a "cut-$how-$size"
		[ $how = dirty ] || must sync "cut-$how-$size"
		if [ $how = remounted ]; then
			cd /
			again
			cd "$MNT" || exit
		fi
		must truncate -s $size "cut-$how-$size"
		expect_eq "$(stat -c %s "cut-$how-$size")" $size "the size after a cut"
		must truncate -s 400000 "cut-$how-$size"
		expect_eq "$(head -c $size "cut-$how-$size" | sha256sum)" "$(head -c $size /tmp/a | sha256sum)" "what is before the cut at $size ($how)"
		expect_eq "$(tail -c +$((size + 1)) "cut-$how-$size" | sha256sum)" "$(zeros $((400000 - size)))" "what is behind the cut at $size ($how)"
	done
done
cd /
again
cd "$MNT" || exit
for f in cut-*; do
	size=${f##*-}
	expect_eq "$(stat -c %s "$f")" 400000 "the size of $f after a remount"
	expect_eq "$(head -c "$size" "$f" | sha256sum)" "$(head -c "$size" /tmp/a | sha256sum)" "the beginning of $f after a remount"
	expect_eq "$(tail -c +$((size + 1)) "$f" | sha256sum)" "$(zeros $((400000 - size)))" "the rest of $f after a remount"
done
must rm cut-*

# Sparse: far apart, so large that it cannot be there.
must truncate -s 1T sparse
for at in 0 5G 100G 1023G; do must dd if=/tmp/a of=sparse bs=4096 oflag=seek_bytes seek=$at count=1 conv=notrunc status=none; done
expect_eq "$(stat -c %s sparse)" $((1 << 40)) "the size of a sparse file"
cd /
again
cd "$MNT" || exit
for at in 0 5 100 1023; do
	expect_eq "$(dd if=sparse bs=4096 iflag=skip_bytes skip=${at}G count=1 status=none | sha256sum)" "$(head -c 4096 /tmp/a | sha256sum)" "what is at $at GiB"
	expect_eq "$(dd if=sparse bs=4096 iflag=skip_bytes skip=$(((at << 30) + 4096)) count=1 status=none | sha256sum)" "$(zeros 4096)" "what is behind $at GiB"
done
# The largest size that there is, to its last byte.
most=$(((1 << 62) - 4096 + (1 << 62)))
mustfail truncate -s $((most + 1)) most
expect_in "$OUT" 'File too large'
must truncate -s $most most
expect_eq "$(dd if=most bs=1 iflag=skip_bytes skip=$((most - 1)) count=1 status=none | sha256sum)" "$(zeros 1)" "the last byte"
must dd if=/tmp/a of=most bs=4096 oflag=seek_bytes seek=$((most - 4096)) count=1 conv=notrunc status=none
mustfail dd if=/tmp/a of=most bs=4096 oflag=seek_bytes seek=$((most - 100)) count=1 conv=notrunc status=none
must truncate -s $((most - 101)) most
must truncate -s $most most
mustfail fallocate -o $((most - 4096)) -l 8192 most
expect_eq "$(dd if=most bs=4096 iflag=skip_bytes skip=$((most - 4096)) count=1 status=none | tail -c 101 | sha256sum)" "$(zeros 101)" "the last bytes after a cut"
must sync most
cd /
again
cd "$MNT" || exit
expect_eq "$(stat -c %s most)" $most "the size of the largest file"
expect_eq "$(dd if=most bs=4096 iflag=skip_bytes skip=$((most - 4096)) count=1 status=none | head -c 3995 | sha256sum)" "$(head -c 3995 /tmp/a | sha256sum)" "its last block after a remount"
must rm most
# cp looks for holes; so does filefrag, if it is there.
must cp --sparse=never --reflink=never /tmp/a dense
must truncate -s 50M holes
must dd if=/tmp/a of=holes bs=4096 seek=5000 count=3 conv=notrunc status=none
must cp --sparse=auto holes holes2
must cmp holes holes2
must fallocate --dig-holes dense
must cmp /tmp/a dense

# Writing far behind the end leaves zeros between.
head -c 1000 /tmp/a >gap
must dd if=/tmp/a of=gap bs=1 oflag=seek_bytes seek=9000 count=10 conv=notrunc status=none
expect_eq "$(dd if=gap bs=1 skip=1000 count=8000 status=none | sha256sum)" "$(zeros 8000)" "the gap"
must fallocate -l 100000 room
expect_eq "$(sha256sum <room)" "$(zeros 100000)" "what has only room"
must fallocate -n -l 200000 room
expect_eq "$(stat -c %s room)" 100000 "the size with room behind it"
must fallocate -p -o 5000 -l 20000 dense
expect_eq "$(dd if=dense bs=1000 skip=5 count=20 status=none | sha256sum)" "$(zeros 20000)" "a hole"
must fallocate -z -o 50000 -l 20000 dense
expect_eq "$(dd if=dense bs=1000 skip=50 count=20 status=none | sha256sum)" "$(zeros 20000)" "zeros"
expect_eq "$(dd if=dense bs=1000 skip=25 count=25 status=none | sha256sum)" "$(dd if=/tmp/a bs=1000 skip=25 count=25 status=none | sha256sum)" "what is between them"
cd /
