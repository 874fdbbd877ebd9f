#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Single blocks that are written over are three copies each: before anybody needs the room they are moved together into stripes; the
# volume tells what was written and moved, and nothing that files hold changes, whoever is told to write nothing meanwhile.
#: lanes: um-lockdep um-kasan
#: disks: 32M*6
#: timeout: 300
. /embrfs-guest/lib.sh
must mkfs.embrfs --bundle 4+2 "${DISKS[@]}"
others=$(printf ',device=%s' "${DISKS[@]:1}")
must mount -i -t embrfs -o "${others#,}" "$DISK1" "$MNT"
# number NAME: what the volume tells of itself.
number() { embrfs-admin status --json "$MNT" | sed -n "s/.*\"$1\": *\([0-9]*\).*/\1/p" | head -n 1; }
# What nobody waits for is written soon.
echo 50 >/proc/sys/vm/dirty_expire_centisecs
echo 50 >/proc/sys/vm/dirty_writeback_centisecs

expect_eq "$(number written) $(number moved) $(number regained)" "0 0 0" "before anything was written"
count=300
head -c $((count * 12288)) /dev/urandom >/tmp/all
head -c 4096 /dev/urandom >/tmp/block
cd "$MNT"
must split -b 12288 -a 4 -d /tmp/all
sync
for file in x*; do dd if=/tmp/block of="$file" bs=4096 conv=notrunc status=none; done
sync
before=$(cat x* | md5sum)
cd /
[ "$(number written)" -ge $((count * 4 * 4096)) ] || fail "written: $(number written)"
# What is left is too little to be worth a batch.
until [ "$(number moved)" -ge $((count / 2 * 4096)) ]; do sleep 1; done
must embrfs-admin status "$MNT"
say "$(grep written <<<"$OUT")"
[ "$(number regained)" -ge $((count / 2 * 4096)) ] || fail "regained: $(number regained)"
# Nothing is moved by who must not write.
must mount -i -o remount,ro "$MNT"
moved=$(number moved)
sleep 2
expect_eq "$(number moved)" "$moved" "moved while nothing is written"
must mount -i -o remount,rw "$MNT"
echo 3 >/proc/sys/vm/drop_caches
expect_eq "$(cat "$MNT"/x* | md5sum)" "$before" "what the files hold"
must umount "$MNT"
must fsck.embrfs --data "${DISKS[@]}"
