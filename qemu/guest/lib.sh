# SPDX-License-Identifier: GPL-2.0
# What every guest script may call. Sourced as /embrfs-guest/lib.sh, the same in both lanes.
# shellcheck shell=bash

set -u
# shellcheck source=/dev/null
. /embrfs-guest/config

# DISKS is an array; DISK1, DISK2, ... are the same by name. MNT is an empty directory to mount on.
read -r -a DISKS <<<"$DISK_LIST"
for _i in "${!DISKS[@]}"; do export "DISK$((_i + 1))=${DISKS[_i]}"; done
MNT=/mnt/embrfs
export LANE MNT

kmsg() { printf '<5>embrfs-test: %.900s\n' "$*" >/dev/kmsg; }

# A line for the reader, in the kernel log too, so that what follows there has its place.
say() {
	printf '%s\n' "$*"
	kmsg "$*"
}

# fail WHY: the test ends here, and the reason becomes its result.
fail() {
	printf 'FAIL: %s\n' "$*"
	kmsg "FAIL $*"
	[ "$BASHPID" = $$ ] || kill -TERM $$
	exit 1
}

# skip WHY: this lane cannot show what the test is for.
skip() {
	printf 'SKIP: %s\n' "$*"
	kmsg "SKIP $*"
	exit 77
}

# must COMMAND...: its output is shown, and kept in OUT; the test ends if it fails.
must() {
	local status=0
	printf '# %s\n' "$*"
	OUT=$("$@" 2>&1) || status=$?
	[ -z "$OUT" ] || printf '%s\n' "$OUT"
	[ "$status" = 0 ] || fail "status $status from: $* (${OUT##*$'\n'})"
}

# mustfail COMMAND...: must end with a failure of its own (not by a signal); its output is kept in OUT.
mustfail() {
	local status=0
	printf '# %s (must fail)\n' "$*"
	OUT=$("$@" 2>&1) || status=$?
	[ -z "$OUT" ] || printf '%s\n' "$OUT"
	[ "$status" != 0 ] || fail "succeeded, but should have failed: $*"
	[ "$status" -lt 126 ] || fail "did not fail by itself but ended with status $status: $*"
}

# expect_in TEXT PATTERN: the extended regular expression occurs in the text.
expect_in() {
	grep -Eq -- "$2" <<<"$1" || fail "no '$2' in: $1"
}

# expect_eq GOT WANTED WHAT
expect_eq() {
	[ "$1" = "$2" ] || fail "${3:-value} is '$1', wanted '$2'"
}

module_path() {
	local m
	for m in $MODULES $AVAILABLE; do
		[ "${m##*/}" = "$1.ko" ] && printf '%s\n' "$m" && return 0
	done
	return 1
}

# load_module NAME [PARAMETER...]: a module that the header names under modules or available, behind those that it depends on.
load_module() {
	local name=$1 path needed
	shift
	path=$(module_path "$name") || {
		echo "the test's header does not name the module $name"
		return 1
	}
	for needed in $(modinfo -F depends "$path" | tr , ' '); do
		is_loaded "${needed//-/_}" || load_module "$needed" || return 1
	done
	insmod "$path" "$@"
}

unload_module() { rmmod "$1"; }

is_loaded() { [ -d "/sys/module/$1" ]; }

FAULTS="/sys/kernel/debug/failslab /sys/kernel/debug/fail_page_alloc"

# inject_no_memory: from now on memory that the module asks for may fail, slabs and pages alike, as often as memory_fails says.
inject_no_memory() {
	local start size end f
	# Its code is on the stack: what others ask for does not fail.
	start=$(cat /sys/module/embrfs/sections/.text)
	size=$(awk '$1 == "embrfs" {print $2}' /proc/modules)
	end=$(printf '0x%x' $((start + size)))
	for f in $FAULTS; do
		[ -d $f ] || fail "this kernel injects no faults"
		echo 0 >$f/ignore-gfp-wait
		[ ! -e $f/ignore-gfp-highmem ] || echo 0 >$f/ignore-gfp-highmem
		[ ! -e $f/min-order ] || echo 0 >$f/min-order
		echo 0 >$f/verbose
		echo 32 >$f/stacktrace-depth
		echo "$start" >$f/require-start
		echo "$end" >$f/require-end
		echo -1 >$f/times
	done
}

# memory_fails PERCENT
memory_fails() {
	local f
	for f in $FAULTS; do echo "$1" >$f/probability; done
}

# leak_scan: what is no longer reachable is reported in the kernel log, where the judge finds it. Nothing in lanes
# without kmemleak. The detector only reports what is older than five seconds.
leak_scan() {
	local f=/sys/kernel/debug/kmemleak
	[ -e $f ] || return 0
	sleep 5.5
	echo scan >$f 2>/dev/null || {
		kmsg "FAIL kmemleak is off: nothing was watched"
		return 0
	}
	# An object is reported once two scans found it unreferenced with the same content.
	echo scan >$f
	head -n 60 $f
}

# leak_forget: what the kernel lost by itself while it booted is not the test's. The age that the detector waits for has to pass
# first, or the rest of it would be reported at the end.
leak_forget() {
	local f=/sys/kernel/debug/kmemleak command
	[ -e $f ] || return 0
	sleep 5.5
	for command in scan scan clear; do
		echo $command 2>/dev/null >$f
	done
}
