#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# With the option discard the device hears of what was freed, and what is there stays; without it, of nothing, until fstrim(8) asks.
#: disks: 256M
#: tools: fstrim
#: timeout: 300
. /embrfs-guest/lib.sh
DISK=/sys/block/${DISK1##*/}
[ "$(cat "$DISK/queue/discard_max_bytes")" != 0 ] || skip "the disk cannot discard"

# MiB that the device was told of so far.
discarded() {
	local -a stat
	read -r -a stat <"$DISK/stat"
	echo $((stat[13] / 2048))
}
# Two roots without what was freed: a remount makes one.
two_roots() {
	for _ in 1 2; do
		must touch "$MNT/touched"
		must mount -i -o remount,ro "$MNT"
		must mount -i -o remount,rw "$MNT"
	done
}
# What is to stay, and what is to go.
write() {
	must cp /tmp/bytes "$MNT/other-$1"
	must cp /tmp/bytes "$MNT/stays-$1"
	must sync -f "$MNT"
	must rm "$MNT/other-$1"
}
look() {
	echo 3 >/proc/sys/vm/drop_caches
	for file in "$MNT"/stays-*; do must cmp /tmp/bytes "$file"; done
}
options() { grep " $MNT embrfs " /proc/mounts; }

head -c 20000000 /dev/urandom >/tmp/bytes
must mkfs.embrfs --bundle 1+0 "$DISK1"
must mount -i -t embrfs "$DISK1" "$MNT"
[[ $(options) != *discard* ]] || fail "discard by default"
before=$(discarded)
write 1
two_roots
sleep 1
expect_eq "$(discarded)" "$before" "MiB discarded where nobody asked"

must mount -i -o remount,discard "$MNT"
expect_in "$(options)" ',discard'
write 2
two_roots
expect_in "$(options)" ',discard'
for _ in $(seq 600); do
	[ "$(discarded)" -lt $((before + 18)) ] || break
	sleep 0.1
done
[ "$(discarded)" -ge $((before + 18)) ] || fail "of 19 MiB that were freed, $(($(discarded) - before)) were discarded"
look

must mount -i -o remount,nodiscard "$MNT"
[[ $(options) != *discard* ]] || fail "discard after nodiscard"
before=$(discarded)
write 3
two_roots
sleep 1
expect_eq "$(discarded)" "$before" "MiB discarded after nodiscard"

must fstrim -v "$MNT"
[ "$(discarded)" -ge $((before + 100)) ] || fail "fstrim told the device of $(($(discarded) - before)) MiB"
look
before=$(discarded)
must fstrim -v -o 100M -l 1M "$MNT"
[ "$(discarded)" -le $((before + 1)) ] || fail "fstrim went beyond the range"
mustfail fstrim -m 1G "$MNT"
expect_in "$OUT" 'Invalid'
mustfail fstrim -o 1T "$MNT"
expect_in "$OUT" 'Invalid'
must mount -i -o remount,ro "$MNT"
mustfail fstrim "$MNT"
expect_in "$OUT" 'Read-only'
must umount "$MNT"
must fsck.embrfs --data "$DISK1"

must mount -i -t embrfs -o discard "$DISK1" "$MNT"
expect_in "$(options)" ',discard'
look
must rm "$MNT"/stays-*
two_roots
must umount "$MNT"
must mount -i -t embrfs -o discard,nodiscard "$DISK1" "$MNT"
[[ $(options) != *discard* ]] || fail "the last one counts"
must umount "$MNT"
must fsck.embrfs --data "$DISK1"
