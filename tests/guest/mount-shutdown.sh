#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# FS_IOC_SHUTDOWN in its three modes: everything that would touch the volume gives EIO until it is unmounted. EMBRFS_IOC_INFO
# says how the volume stands, before and after.
#: disks: 64M*3
#: tools: perl setpriv
. /embrfs-guest/lib.sh

# The numbers are those of <linux/fs.h> and kmod/fs/uapi/embrfs.h.
# ioctl NUMBER BYTES [NUMBER BYTES...]: prints the bytes that come back, in hexadecimal, a line for each. All on one open
# directory, for perl looks at what it opens, and that is an error on a volume that is shut down.
ioctl() {
	PERL_BADLANG=0 perl -e '
		sysopen(my $d, shift, 0) or die "open: $!\n";
		while (@ARGV) {
			my ($number, $b) = (hex(shift), pack("H*", shift));
			my $n = length $b;
			ioctl($d, $number, $b) or die "ioctl: $!\n";
			print unpack("H*", substr($b, 0, $n)), "\n";
		}' "$MNT" "$@"
}
FS_IOC_SHUTDOWN=8004587d
EMBRFS_IOC_INFO=c004eb01
FS_IOC_GETFSUUID=80111500
zeros() { printf "%0$((2 * $1))d" 0; }
# room BYTES: an argument of EMBRFS_IOC_INFO with so much room.
room() { printf '%02x%02x0000%s' $(($1 & 255)) $(($1 >> 8)) "$(zeros $(($1 - 4)))"; }
info() { ioctl $EMBRFS_IOC_INFO "$(room "$1")"; }
# number HEX OFFSET BYTES: a little-endian number of what came back.
number() {
	local i v=0
	for ((i = $3 - 1; i >= 0; i--)); do v=$((v * 256 + 16#${1:2 * ($2 + i):2})); done
	printf '%d\n' "$v"
}

must mkfs.embrfs --bundle 1+1 --label 'a label' --uuid 01234567-89ab-4def-8123-456789abcdef "$DISK1" "$DISK2"
must mount -i -t embrfs -o "device=$DISK2" "$DISK1" "$MNT"

must info 256
expect_eq "$(number "$OUT" 0 4)" 256 size
expect_eq "$(number "$OUT" 4 4)" 1 "format version"
expect_eq "${OUT:16:32}" 0123456789ab4def8123456789abcdef UUID
[ "${OUT:48:32}" != "$(zeros 16)" ] || fail "no epoch"
expect_eq "$(number "$OUT" 40 8)" 1 "epoch number"
generation=$(number "$OUT" 48 8)
[ "$generation" -gt 1 ] || fail "generation $generation: a mount that writes begins with a root of its own"
expect_eq "$(number "$OUT" 56 8)" "$(stat -f -c %b "$MNT")" capacity
expect_eq "$(number "$OUT" 72 4)" 4096 "block size"
expect_eq "${OUT:152:4}" 0101 "k and m"
expect_eq "$(number "$OUT" 80 4) $(number "$OUT" 84 4) $(number "$OUT" 88 4)" "2 2 0" "members, current, absent"
expect_eq "$(number "$OUT" 92 4)" 0 "flags"
expect_eq "${OUT:192:16}" 61206c6162656c00 label
# The epoch is a secret: who knows it could write what passes for a group of the journal.
must setpriv --reuid=65534 --clear-groups --bounding-set=-all --inh-caps=-all bash -c "$(declare -f ioctl zeros room); MNT=$MNT ioctl $EMBRFS_IOC_INFO \$(room 232)"
expect_eq "${OUT:48:32}" "$(zeros 16)" "the epoch, told to anybody"
# A caller from the future has more room; one with too little room, or a bad pointer, is told so.
must info 400
expect_eq "$(number "$OUT" 0 4)" 256 "size for a caller with more room"
# And one from the past what he knows of.
must info 232
expect_eq "$(number "$OUT" 0 4)" 232 "size for a caller with less room"
for room in 4 8 231; do
	mustfail info $room
	expect_in "$OUT" 'Invalid argument'
done
mustfail ioctl 4004eb02 "$(zeros 8)"
expect_in "$OUT" 'Inappropriate ioctl'
must ioctl $FS_IOC_GETFSUUID "$(zeros 17)"
expect_eq "$OUT" 100123456789ab4def8123456789abcdef "FS_IOC_GETFSUUID"
must umount "$MNT"

# One member of the mirror is enough, and INFO says so.
must mount -i -t embrfs "$DISK2" "$MNT"
must info 256
expect_eq "$(number "$OUT" 80 4) $(number "$OUT" 84 4) $(number "$OUT" 88 4)" "2 1 1" "members, current, absent"
expect_eq "$(number "$OUT" 92 4)" 3 "flags: read-only, degraded"
must umount "$MNT"

for mode in 0 1 2; do
	must mount -i -t embrfs -o "device=$DISK2" "$DISK1" "$MNT"
	for bad in 3 4 255; do
		mustfail ioctl $FS_IOC_SHUTDOWN "$(printf '%02x000000' $bad)"
		expect_in "$OUT" 'Invalid argument'
	done
	must mkdir "$MNT/made-$mode"
	must ls -la "$MNT"
	# A second time is no error.
	must ioctl $FS_IOC_SHUTDOWN "0${mode}000000" $EMBRFS_IOC_INFO "$(room 232)" $FS_IOC_SHUTDOWN "0${mode}000000"
	expect_eq "$(number "$(sed -n 2p <<<"$OUT")" 92 4)" 4 "flags: shut down"
	mustfail ls "$MNT"
	expect_in "$OUT" 'Input/output error'
	mustfail stat "$MNT/something-not-looked-up-yet-$mode"
	expect_in "$OUT" 'Input/output error'
	mustfail stat -f "$MNT"
	expect_in "$OUT" 'Input/output error'
	must umount "$MNT"
done
# What was flushed first is there; what was not may be.
must mount -i -t embrfs -o "device=$DISK2" "$DISK1" "$MNT"
must ls -d "$MNT/made-0" "$MNT/made-1"
# Only the administrator may.
mustfail setpriv --reuid=65534 --clear-groups --bounding-set=-all --inh-caps=-all env PERL_BADLANG=0 perl -e "sysopen(my \$d, '$MNT', 0) or die \"open: \$!\\n\"; my \$b = pack('L', 0); ioctl(\$d, 0x$FS_IOC_SHUTDOWN, \$b) or die \"ioctl: \$!\\n\""
expect_in "$OUT" 'ioctl: Operation not permitted'
must ls "$MNT"
must umount "$MNT"
