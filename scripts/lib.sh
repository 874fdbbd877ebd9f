# SPDX-License-Identifier: GPL-2.0
# What every script shares: where things lie, how progress is told, one lock for the cache.
# shellcheck shell=bash

set -euo pipefail

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
EMBRFS_CACHE=${EMBRFS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/embrfs}
ROOT=$EMBRFS_CACHE/root
JOBS=${JOBS:-$(nproc)}
export TOP EMBRFS_CACHE ROOT JOBS

# Inside the build root the checkout and the cache always have these two paths.
SRC_IN=/embrfs
CACHE_IN=/cache
export SRC_IN CACHE_IN

say() { printf '%s\n' "$*" >&2; }
die() {
	say "embrfs: $*"
	exit 1
}

need_root() {
	[ "$(id -u)" = 0 ] || die "'$1' needs root (it makes and enters a Debian build root with mounts of its own); run it as root"
}

hash_of() { sha256sum | cut -c1-12; }

# One process at a time changes the cache; nested calls inherit the lock.
lock_cache() {
	mkdir -p "$EMBRFS_CACHE"
	[ "${EMBRFS_LOCKED:-}" = "$EMBRFS_CACHE" ] && return 0
	exec 9>"$EMBRFS_CACHE/lock"
	if ! flock -n 9; then
		say "waiting for another embrfs run to release $EMBRFS_CACHE/lock"
		flock 9
	fi
	export EMBRFS_LOCKED=$EMBRFS_CACHE
}

# step NAME COMMAND...: run with output in a log, a line of progress now and then, the log's end on failure.
step() {
	local name=$1 log started pid rc=0 now lines shown=0
	shift
	mkdir -p "$EMBRFS_CACHE/log"
	log=$EMBRFS_CACHE/log/${name//[^a-zA-Z0-9]/-}.log
	started=$SECONDS
	say "  .. $name"
	# A process group of its own, so that an interrupt ends all of it and leaves no build running behind our back.
	set -m
	"$@" >"$log" 2>&1 </dev/null &
	pid=$!
	set +m
	trap 'kill -- "-$pid" 2>/dev/null; sleep 3; kill -KILL -- "-$pid" 2>/dev/null; exit 130' INT TERM
	while kill -0 "$pid" 2>/dev/null; do
		sleep 0.5
		now=$((SECONDS - started))
		if [ $((now / 20)) -gt "$shown" ]; then
			shown=$((now / 20))
			lines=$(wc -l <"$log")
			say "     $name: ${now}s, $lines lines of log; now: $(tail -n 1 "$log" | tr '\r' '\n' | tail -n 1 | cut -c1-90)"
		fi
	done
	wait "$pid" || rc=$?
	trap - INT TERM
	if [ "$rc" != 0 ]; then
		tail -n 40 "$log" >&2
		die "$name failed with status $rc; whole log: $log"
	fi
	say "  ok $name ($((SECONDS - started))s)"
}

# A recorded choice of the build root: the Debian kernel version, as in 7.3.4+deb13.
kernel_release() { cat "$ROOT/etc/embrfs/kernel-release"; }
kernel_series() { cat "$ROOT/etc/embrfs/kernel-series"; }
kernel_package_version() { cat "$ROOT/etc/embrfs/kernel-package-version"; }
