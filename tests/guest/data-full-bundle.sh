#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# A full volume of 4+2: it takes what it says; of what is overwritten and deleted here and there the room is there again; nothing is lost.
#: lanes: um-lockdep um-kasan
#: disks: 32M*6
#: timeout: 600
. /embrfs-guest/lib.sh
must mkfs.embrfs --bundle 4+2 "${DISKS[@]}"
others=$(printf ',device=%s' "${DISKS[@]:1}")
must mount -i -t embrfs -o "${others#,}" "$DISK1" "$MNT"
available() { stat -f -c %a "$MNT"; }
head -c 1500000 /dev/urandom >/tmp/whole
head -c 12000 /dev/urandom >/tmp/piece
blocks=367

# fill PREFIX: files until there is no room for one more; says how many
fill() {
	local n=0
	while cp /tmp/whole "$MNT/$1-$n" 2>/tmp/why; do n=$((n + 1)); done
	rm -f "$MNT/$1-$n"
	echo $n
}

told=$(available)
n=$(fill first)
expect_in "$(cat /tmp/why)" 'No space left on device'
say "$told blocks told, $((n * blocks)) written, $(available) left"
[ $((n * blocks * 100)) -gt $((told * 95)) ] || fail "an empty volume took $n files, though $told blocks were told to be available"
must sync -f "$MNT"
for ((i = 0; i < n; i++)); do must cmp /tmp/whole "$MNT/first-$i"; done

# Of each stripe something dies.
cp /tmp/whole /tmp/changed
for at in 3 77 200; do must dd if=/tmp/piece of=/tmp/changed bs=4096 seek=$at conv=notrunc status=none; done
for ((i = 0; i < n; i += 2)); do must rm "$MNT/first-$i"; done
for ((i = 1; i < n; i += 2)); do
	for at in 3 77 200; do must dd if=/tmp/piece of="$MNT/first-$i" bs=4096 seek=$at conv=notrunc status=none; done
done
must sync -f "$MNT"
told=$(available)
[ "$told" -gt $((n / 2 * blocks * 90 / 100)) ] || fail "only $told blocks can be had again of $((n / 2 * blocks))"
k=$(fill again)
expect_in "$(cat /tmp/why)" 'No space left on device'
say "$told blocks told, $((k * blocks)) written, $(available) left"
[ $((k * blocks * 100)) -gt $((told * 90)) ] || fail "$k files of $blocks blocks, though $told blocks were told to be available"

must umount "$MNT"
must fsck.embrfs --data "${DISKS[@]}"
must mount -i -t embrfs -o "${others#,}" "$DISK1" "$MNT"
for ((i = 0; i < k; i++)); do must cmp /tmp/whole "$MNT/again-$i"; done
for ((i = 1; i < n; i += 2)); do must cmp /tmp/changed "$MNT/first-$i"; done
must rm -r "$MNT"/*
must umount "$MNT"
must fsck.embrfs --data "${DISKS[@]}"
