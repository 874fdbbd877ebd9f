#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Files that grow while the volume is cut off from its devices hold, after that, what was written to them up to their size, and at
# least what fsync confirmed. No size runs ahead of its bytes.
#: lanes: um-lockdep um-kasan
#: disks: 512M
#: tools: perl
#: timeout: 300
. /embrfs-guest/lib.sh
ROUNDS=${EMBRFS_ROUNDS:-8}
FS_IOC_SHUTDOWN=8004587d NO_LOG_FLUSH=02000000
shut_down() {
	PERL_BADLANG=0 perl -e 'sysopen(my $d, shift, 0) or die "open: $!\n"; my $b = pack("H*", shift); ioctl($d, hex(shift), $b) or die "ioctl: $!\n"' \
		"$MNT" $NO_LOG_FLUSH $FS_IOC_SHUTDOWN
}
must mkfs.embrfs --bundle 1+0 "$DISK1"
seed=${EMBRFS_SEED:-$(($(date +%s) * 1000))}
say "seeds from $seed"
for round in $(seq "$ROUNDS"); do
	must mount -i -t embrfs "$DISK1" "$MNT"
	mkdir -p /tmp/log
	embrfs-exercise grow "$MNT" "$seed" /tmp/log &
	worker=$!
	sleep "$((RANDOM % 4)).$((RANDOM % 10))"
	must shut_down
	wait $worker || fail "growing failed before the volume was cut off"
	must umount "$MNT"
	must mount -i -t embrfs "$DISK1" "$MNT"
	must embrfs-exercise grown "$MNT" "$seed" /tmp/log
	must rm -rf "$MNT"/grow-* /tmp/log
	must umount "$MNT"
	say "round $round is done"
	seed=$((seed + 10))
done
