#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Some hundred damaged and forged volumes through real mounts: each mounts, or is refused with its reason. The kernel never complains.
#: lanes: um-lockdep um-kasan
#: disks: 32M*6
#: timeout: 300
. /embrfs-guest/lib.sh
ROUNDS=120
base=$(($(date +%s) * 1000))
say "seeds from $base"
mounted=0 refused=0
for i in $(seq $ROUNDS); do
	seed=$((base + i))
	story=$(embrfs-mutant $seed) || fail "seed $seed: no mutant"
	devices=("${DISKS[@]}") loops=()
	if [[ $story == *truncated* ]]; then
		# A disk in a file has the size that the mutant wants.
		devices=()
		for n in 1 2 3 4 5 6; do
			rm -f "/tmp/disk$n"
			: >"/tmp/disk$n"
			devices+=("/tmp/disk$n")
		done
	fi
	embrfs-mutant $seed "${devices[@]}" >/dev/null || fail "seed $seed: cannot write the mutant"
	devices=("${devices[@]:0:${story%% *}}")
	if [[ $story == *truncated* ]]; then
		for n in "${!devices[@]}"; do
			loop=$(losetup --find --show "${devices[n]}" 2>/dev/null) || continue
			loops+=("$loop")
		done
		devices=("${loops[@]}")
	fi
	options=$(printf ',device=%s' "${devices[@]:1}")
	[ ${#devices[@]} -gt 1 ] || options=,ro
	if why=$(mount -i -t embrfs -o "${options#,}" "${devices[0]}" "$MNT" 2>&1); then
		ls "$MNT" >/dev/null || fail "seed $seed: $story: mounted, but cannot be listed"
		df "$MNT" >/dev/null || fail "seed $seed: $story: mounted, but has no size"
		umount "$MNT" || fail "seed $seed: $story: cannot unmount"
		mounted=$((mounted + 1))
	else
		# mount(8) begins with the mount point; the kernel's own words begin with the filesystem's name.
		[[ ${why//"$MNT"/} == *embrfs:* ]] || fail "seed $seed: $story: refused without a reason: $why"
		refused=$((refused + 1))
	fi
	[ ${#loops[@]} = 0 ] || losetup --detach "${loops[@]}" || fail "seed $seed: the loop devices stay busy"
done
say "$mounted mounted, $refused refused with a reason"
# Both kinds have to be there, or the mutants are not what they should be.
[ $mounted -gt 0 ] && [ $refused -gt $((ROUNDS / 4)) ] || fail "too few of one kind"
