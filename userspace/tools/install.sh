#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# install.sh FROM [TO]: gives the built tools in cargo's output directory FROM the names by which mount(8), fsck(8) and
# people call them (cargo allows no dots): as copies in TO, or as links beside the originals. STRIP=1 strips the copies.
set -eu
[ $# -eq 1 ] || [ $# -eq 2 ] || { echo "usage: install.sh CARGO-OUTPUT-DIRECTORY [DIRECTORY]" >&2; exit 2; }
for tool in mkfs.embrfs fsck.embrfs mount.embrfs embrfs-admin; do
	built=$(printf %s "$tool" | tr . -)
	[ -x "$1/$built" ] || { echo "install.sh: $1/$built is missing: cargo build --release -p embrfs_tools" >&2; exit 1; }
	if [ $# -eq 2 ]; then
		mkdir -p "$2"
		install -m 755 ${STRIP:+-s} "$1/$built" "$2/$tool"
	elif [ "$built" != "$tool" ]; then
		ln -sfn "$built" "$1/$tool"
	fi
done
