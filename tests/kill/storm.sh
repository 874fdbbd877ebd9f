#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# One round of qemu/kill-rounds: recovers, compares with what was durable when the last guest was killed, works until it is killed.
. /embrfs-guest/lib.sh
if [ -z "$LAST_SEED" ]; then
	must mkfs.embrfs --bundle 1+0 "$DISK1"
fi
must mount -i -t embrfs "$DISK1" "$MNT"
if [ -n "$LAST_SEED" ]; then
	must embrfs-exercise stormed "$MNT/storm" "$LAST_SEED" "$STEPS" "$DURABLE"
	must rm -rf "$MNT/storm"
fi
must mkdir "$MNT/storm"
must sync
echo begun
embrfs-exercise storm "$MNT/storm" "$SEED" "$STEPS" || fail "the storm ended by itself"
# All done before the kill came.
sleep 300
