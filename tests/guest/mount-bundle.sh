#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# A bundle of 4+2 on six devices mounts: statfs, root directory, options and identity are as they should be.
#: disks: 32M*6
#: expect-log: embrfs: \w+: volume [-0-9a-f]{36}, bundle 4\+2, 6 of 6 members, generation [0-9]+$
. /embrfs-guest/lib.sh
uuid=11112222-3333-4444-8555-666677778888
must mkfs.embrfs --bundle 4+2 --label demo --uuid $uuid "${DISKS[@]}"
options=$(printf ',device=%s' "${DISKS[@]:1}")
must mount -i -t embrfs -o "${options#,}" "$DISK1" "$MNT"

# It was made just now, and its three times are of that moment.
now=$(date +%s)
made=$(stat -c %Y "$MNT")
[ "$made" -gt $((now - 3600)) ] && [ "$made" -le $((now + 5)) ] || fail "made at $made, now it is $now"
expect_eq "$(stat -c '%x %z' "$MNT")" "$(stat -c '%y %y' "$MNT")" "access and change times"

# The root directory.
expect_eq "$(stat -c '%F %a %u %g %i %h' "$MNT")" "directory 755 0 0 1 2" "the root directory"
expect_eq "$(ls -A "$MNT")" "" "the root directory's contents"
expect_eq "$(stat -c %i "$MNT/." "$MNT/..")" "1
$(stat -c %i "$MNT/..")" "inode of ."
mustfail stat "$MNT/nothing"
expect_in "$OUT" 'No such file'
mustfail stat "$MNT/$(printf '%0256d' 0)"
expect_in "$OUT" 'File name too long'
expect_eq "$(basename "$(printf '%s' "$MNT/$(printf '%0255d' 0)")" | wc -c)" 256 "length of the longest name"
mustfail stat "$MNT/$(printf '%0255d' 0)"
expect_in "$OUT" 'No such file'

# statfs: what fits on 6 devices of 32 MiB in stripes of 4+2; what is kept back is hidden.
expect_eq "$(stat -f -c '%t %s %S %l' "$MNT")" "454d4252 4096 4096 255" "magic, block sizes, longest name"
read -r blocks free available <<<"$(stat -f -c '%b %f %a' "$MNT")"
[ "$blocks" -gt $((6 * 32 * 256 * 4 / 6 * 65 / 100)) ] && [ "$blocks" -lt $((6 * 32 * 256 * 4 / 6)) ] || fail "$blocks blocks"
[ "$free" -le "$blocks" ] && [ "$available" -le "$free" ] && [ "$available" -gt $((blocks * 99 / 100)) ] ||
	fail "$free of $blocks blocks are free, $available can be had"
id=$(stat -f -c %i "$MNT")
must df -T "$MNT"

# Options, as mount(8) and the next remount see them.
line=$(grep " $MNT embrfs " /proc/mounts)
expect_in "$line" '^[^ ]+ [^ ]+ embrfs rw,relatime,'
for d in "${DISKS[@]}"; do expect_in "$line" "[, ]device=$d[, ]"; done

# Mounted read-only, nothing is written, neither through the mount nor to a member past it.
must umount "$MNT"
before=$(cat "${DISKS[@]}" | sha256sum)
must mount -i -t embrfs -o "ro,${options#,}" "$DISK1" "$MNT"
mustfail touch "$MNT/x"
expect_in "$OUT" 'Read-only file system'
mustfail mkdir "$MNT/x"
expect_in "$OUT" 'Read-only file system'
mustfail rmdir "$MNT/x"
must ls -la "$MNT"
must umount "$MNT"
expect_eq "$(cat "${DISKS[@]}" | sha256sum)" "$before" "what the devices hold"

# Again, another member first: the same volume.
options=$(printf ',device=%s' "${DISKS[@]}")
must mount -i -t embrfs -o "ro${options}" "$DISK4" "$MNT"
expect_eq "$(stat -f -c %i "$MNT")" "$id" "the file system's id"
must umount "$MNT"
