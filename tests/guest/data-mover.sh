#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Files of a block, which are written as three copies each, are moved together into stripes before anybody needs the room; nothing of them changes.
#: lanes: um-lockdep um-kasan
#: disks: 32M*6
#: timeout: 300
. /embrfs-guest/lib.sh
must mkfs.embrfs --bundle 4+2 "${DISKS[@]}"
others=$(printf ',device=%s' "${DISKS[@]:1}")
must mount -i -t embrfs -o "${others#,}" "$DISK1" "$MNT"
available() { stat -f -c %a "$MNT"; }
# What nobody waits for is written soon.
echo 50 >/proc/sys/vm/dirty_expire_centisecs
echo 50 >/proc/sys/vm/dirty_writeback_centisecs

count=1500
head -c $((count * 4096)) /dev/urandom >/tmp/all
empty=$(available)
(cd "$MNT" && must split -b 4096 -a 4 -d /tmp/all)
until ! grep -q '^Dirty: *[1-9]\|^Writeback: *[1-9]' /proc/meminfo; do sleep 0.2; done
# Blocks of payload that it would take in stripes are as many as there are files; as copies twice as many.
taken=$((empty - $(available)))
say "$taken blocks taken by $count"
[ $taken -gt $((count * 3 / 2)) ] || fail "$count files of a block took $taken: they are no copies"
until [ $((empty - $(available))) -lt $((count * 3 / 2)) ]; do sleep 1; done
say "$((empty - $(available))) blocks taken, once moved"
must mount -i -o remount,ro "$MNT"
must mount -i -o remount,rw "$MNT"
echo 3 >/proc/sys/vm/drop_caches
cat "$MNT"/x* | cmp - /tmp/all || fail "not what was written"
must umount "$MNT"
must fsck.embrfs --data "${DISKS[@]}"
