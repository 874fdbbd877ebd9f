#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# A volume of 4+2: what two of its devices held comes back from the others, whether blocks rot there or the devices are gone.
#: disks: 64M*6
#: memory: 1G
#: timeout: 300
. /embrfs-guest/lib.sh
SIZE=15000000 FILES=4
seed=${EMBRFS_SEED:-$(($(date +%s) * 1000))}
say "seed $seed"
# rot DEVICE: every 20th block or so of what is not at its ends.
rot() {
	local at=2500
	while [ $at -lt 13000 ]; do
		dd if=/dev/urandom of="$1" bs=4096 seek=$at count=1 conv=notrunc status=none || fail "cannot damage $1"
		at=$((at + 1 + RANDOM % 40))
	done
	sync "$1"
}
# whole FIRST OPTIONS: mounted like that, all is there.
whole() {
	must mount -i -t embrfs -o "$2" "$1" "$MNT"
	must embrfs-exercise damaged "$MNT" "$seed" $SIZE
	expect_eq "$(wc -l <<<"$OUT")" $FILES "how many files were looked at"
	expect_eq "$(awk '/blocks lost/ {n += $2} END {print n + 0}' <<<"$OUT")" 0 "blocks lost"
	must umount "$MNT"
}
all=$(printf ',device=%s' "${DISKS[@]}")

must mkfs.embrfs --bundle 4+2 "${DISKS[@]}"
must mount -i -t embrfs -o "${all#,}" "$DISK1" "$MNT"
must embrfs-exercise make "$MNT" "$seed" $SIZE
must umount "$MNT"
whole "$DISK1" "ro,degraded,device=$DISK2,device=$DISK4,device=$DISK6"
rot "$DISK2"
rot "$DISK5"
whole "$DISK1" "${all#,}"
