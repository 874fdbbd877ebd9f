# SPDX-License-Identifier: GPL-2.0
# What every script shares: where things lie, how progress is told, one lock for the cache.
# shellcheck shell=bash

set -euo pipefail

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
EMBRFS_CACHE=$(realpath -m "${EMBRFS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/embrfs}")
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

# Whoever waits for a command through this can be interrupted: what runs in the build root is deaf to signals from a terminal, but it
# ends with us (see in-root).
waiting() {
	local rc=0
	trap 'exit 130' INT TERM HUP
	"$@" </dev/null &
	wait $! || rc=$?
	trap - INT TERM HUP
	return $rc
}

hash_of() { sha256sum | cut -c1-12; }

# commit_of PATH...: the commit of the checkout, with a + if something under these paths is not as it says.
commit_of() {
	local commit
	commit=$(git -C "$TOP" -c safe.directory="$TOP" rev-parse --short HEAD 2>/dev/null || echo none)
	[ -z "$(git -C "$TOP" -c safe.directory="$TOP" status --porcelain -- "$@" 2>/dev/null)" ] || commit=$commit+
	echo "$commit"
}

# sources_of PATH...: a name for what the Rust sources under these paths are now. What was tested is told by it.
sources_of() { (cd "$TOP" && find "$@" -name '*.rs' | LC_ALL=C sort | xargs sha256sum | hash_of); }

# The scripts delete what lies in the cache, so it must be ours: a directory that was new or empty when we marked it.
MARK=$EMBRFS_CACHE/.embrfs-cache
if [ ! -e "$MARK" ] && [ -n "$(ls -A "$EMBRFS_CACHE" 2>/dev/null)" ]; then
	die "$EMBRFS_CACHE is not empty, and no cache of embrfs (${MARK##*/} is not in it): set EMBRFS_CACHE to a new or empty directory"
fi

# One process at a time changes the cache. Nested calls inherit the lock as file descriptor 9; it is free once all of them ended.
holds_lock() { [ "$EMBRFS_CACHE/lock" -ef /proc/self/fd/9 ]; }

# A nested call ends with its caller: nothing works on, keeping the lock, for a run that was killed.
if holds_lock && [ -z "${EMBRFS_NS:-}" ] && [ "${EMBRFS_TIED:-}" != $$ ]; then
	EMBRFS_TIED=$$ exec setpriv --pdeathsig TERM "$0" "$@"
fi

# lock_cache [or-refuse]: waits for the lock, or refuses to. The builds in the cache are this checkout's then.
lock_cache() {
	holds_lock && return 0
	# `make distclean` may remove the file that we wait for.
	until holds_lock; do
		mkdir -p "$EMBRFS_CACHE"
		[ -e "$MARK" ] || echo "The scripts of embrfs delete what lies here." >"$MARK"
		exec 9>"$EMBRFS_CACHE/lock"
		if ! flock -n 9; then
			[ "${1:-}" != or-refuse ] || die "another embrfs run uses $EMBRFS_CACHE; wait for its end"
			say "waiting for another embrfs run to release $EMBRFS_CACHE/lock"
			flock 9
		fi
	done
	own_builds || {
		"$TOP/scripts/clean" builds
		printf '%s\n' "$CHECKOUT" >"$EMBRFS_CACHE/checkout"
	}
}

# One cache serves one checkout after the other. Builds go by time stamps, which mean nothing across checkouts.
CHECKOUT="$TOP $(stat -c %i "$TOP")"
own_builds() { [ "$(cat "$EMBRFS_CACHE/checkout" 2>/dev/null)" = "$CHECKOUT" ]; }

# split_then LANE... [-- COMMAND...]: into the arrays NAMED and THEN. THEN is to be run at the end, with the lock still held.
split_then() {
	NAMED=()
	while [ $# -gt 0 ] && [ "$1" != -- ]; do
		NAMED+=("$1")
		shift
	done
	# shellcheck disable=SC2034
	THEN=("${@:2}")
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
	pid=
	trap '[ -z "$pid" ] || { kill -- "-$pid"; sleep 3; kill -KILL -- "-$pid"; } 2>/dev/null; exit 130' INT TERM HUP
	set -m
	"$@" >"$log" 2>&1 </dev/null &
	pid=$!
	set +m
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
	trap - INT TERM HUP
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
