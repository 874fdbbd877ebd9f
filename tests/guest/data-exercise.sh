#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Files that are worked on in every way, at random and several at once, hold what they should: at every step, and after a remount.
# One that is written to and stored to at the same time has no hole where it was stored to.
#: disks: 512M
#: memory: 1G
#: timeout: 300
. /embrfs-guest/lib.sh
ROUNDS=${EMBRFS_ROUNDS:-3} STEPS=${EMBRFS_STEPS:-400}
seed=${EMBRFS_SEED:-$(($(date +%s) * 1000))}
say "seeds from $seed"
must mkfs.embrfs --bundle 1+0 "$DISK1"
for _ in $(seq "$ROUNDS"); do
	must mount -i -t embrfs "$DISK1" "$MNT"
	must embrfs-exercise run "$MNT" "$seed" "$STEPS" "${WITHOUT:-}"
	must umount "$MNT"
	must fsck.embrfs --data "$DISK1"
	must mount -i -t embrfs "$DISK1" "$MNT"
	must embrfs-exercise check "$MNT" "$seed" "$STEPS" "${WITHOUT:-}"
	must rm "$MNT"/exercise-*
	must umount "$MNT"
	seed=$((seed + 100))
done
must mount -i -t embrfs "$DISK1" "$MNT"
must embrfs-exercise stores "$MNT" "$seed" "$ROUNDS"
must umount "$MNT"
must fsck.embrfs --data "$DISK1"
