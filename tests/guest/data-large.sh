#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# A file larger than memory is written and read back; so are stores to a mapping of more than there is memory for.
#: lanes: um-lockdep um-kasan
#: disks: 1G
#: memory: 192M
#: timeout: 300
. /embrfs-guest/lib.sh
must mkfs.embrfs --bundle 1+0 "$DISK1"
must mount -i -t embrfs "$DISK1" "$MNT"
# pattern COUNT: that many MiB that differ
pattern() { seq -f '%015.0f' 0 $((($1 << 16) - 1)); }
pattern 400 >"$MNT/large" || fail "cannot write"
expect_eq "$(stat -c %s "$MNT/large")" $((400 << 20)) "the size"
want=$(pattern 400 | sha256sum)
expect_eq "$(sha256sum <"$MNT/large")" "$want" "what is read back"
# Many at once.
for n in 1 2 3 4; do pattern 40 >"$MNT/part$n" & done
wait
for n in 1 2 3 4; do expect_eq "$(sha256sum <"$MNT/part$n")" "$(pattern 40 | sha256sum)" "part $n"; done
must umount "$MNT"
must mount -i -t embrfs "$DISK1" "$MNT"
expect_eq "$(sha256sum <"$MNT/large")" "$want" "what is read back after a remount"
must umount "$MNT"
