#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# A volume that can do without a device is written to without it, if that is asked for or if the device fails meanwhile; what the
# device missed is not taken from it afterwards. Two sides that were each written to alone do not mount together.
#: lanes: um-lockdep um-kasan
#: disks: 128M*2
#: timeout: 300
. /embrfs-guest/lib.sh
seed=${EMBRFS_SEED:-$(($(date +%s) * 1000))}
say "seed $seed"
both=device=$DISK2
last_log() { dmesg | grep "embrfs: " | tail -n "$1"; }
lost() { awk '/blocks lost/ {n += $2} END {print n + 0}' <<<"$OUT"; }
name=${DISK2##*/}
# fails PERCENT: of what the second device is asked.
fails() {
	local dir=/sys/kernel/debug/fail_make_request
	[ -d $dir ] || fail "this kernel injects no faults"
	echo 0 >$dir/verbose
	echo -1 >$dir/times
	echo "$1" >$dir/probability
	echo $((${1} != 0)) >"/sys/block/$name/make-it-fail"
}

must mkfs.embrfs --bundle 1+1 "$DISK1" "$DISK2"
must mount -i -t embrfs -o "$both" "$DISK1" "$MNT"
must embrfs-exercise make "$MNT" "$seed" 3000000
must embrfs-exercise make "$MNT" $((seed + 30)) 1000000
must umount "$MNT"

# Not asked for: nothing is written.
must mount -i -t embrfs "$DISK1" "$MNT"
expect_in "$(last_log 1)" '1 of 2 members.*read-only.*degraded'
mustfail touch "$MNT/new"
must umount "$MNT"

# The second device fails while files are written: they are durable on the first, and nothing has to be said to who writes.
must mount -i -t embrfs -o "$both" "$DISK1" "$MNT"
fails 100
must embrfs-exercise make "$MNT" $((seed + 10)) 3000000
must sync -f "$MNT"
fails 0
expect_in "$(last_log 4)" "$DISK2 failed, and is not written to any more"
expect_in "$(last_log 4)" 'goes on with 1 members and without 1; what is written now has 1 copies'
must embrfs-exercise damaged "$MNT" $((seed + 10)) 3000000
expect_eq "$(lost)" 0 "how many blocks were lost"
must rm "$MNT"/grow-$((seed + 30)) "$MNT"/grow-$((seed + 31))
must umount "$MNT"
must fsck.embrfs "$DISK1"

# It is well again, but missed all that: it is known, and nothing is read of it that is not what it should be.
must mount -i -t embrfs -o "$both,degraded" "$DISK1" "$MNT"
expect_in "$(last_log 3)" 'number 2 \(.*here but stale'
for s in "$seed" $((seed + 10)); do
	must embrfs-exercise damaged "$MNT" "$s" 3000000
	expect_eq "$(lost)" 0 "how many blocks were lost"
done
must embrfs-exercise make "$MNT" $((seed + 20)) 1000000
must umount "$MNT"
must fsck.embrfs "$DISK1"

# Alone it knows only what was there before, and can be written to where that is asked for; then the two do not go together any more.
must mount -i -t embrfs -o ro "$DISK2" "$MNT"
must embrfs-exercise damaged "$MNT" "$seed" 3000000
must umount "$MNT"
must mount -i -t embrfs -o degraded "$DISK2" "$MNT"
must touch "$MNT/other"
must umount "$MNT"
mustfail mount -i -t embrfs -o "$both,degraded" "$DISK1" "$MNT"
expect_in "$OUT" 'were each written to while the other was away'
must mount -i -t embrfs -o degraded "$DISK1" "$MNT"
must embrfs-exercise damaged "$MNT" $((seed + 20)) 1000000
must umount "$MNT"
