#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Names of every kind, made, listed, linked, renamed and removed, are the same after the volume is mounted again.
#: lanes: um-lockdep um-kasan stock
#: disks: 64M
#: tools: busybox
. /embrfs-guest/lib.sh
must mkfs.embrfs --bundle 1+0 "$DISK1"

attach() { must mount -i -t embrfs "$DISK1" "$MNT"; }
again() {
	must umount "$MNT"
	attach
}
# What there is, one line each: type, mode, links, owner, size, times, name, and where links lead.
listing() { (cd "$MNT" && find . -printf '%P %y %m %n %U:%G %T@ %C@ %l\n' | sort); }
same_after_mount() {
	local before
	before=$(listing)
	again
	expect_eq "$(listing)" "$before" "the tree after mounting again"
}

attach
expect_eq "$(stat -c '%a %u %g %F %h %i' "$MNT")" "755 0 0 directory 2 1" "the root directory"
cd "$MNT" || fail "cannot enter"

# Every kind of file.
must touch file
must mkdir dir dir/sub
must ln -s 'where it leads' link
must ln -s "$(printf 'x%.0s' $(seq 300))" long-link
must mknod pipe p
must mknod null c 1 3
must mknod disk b 7 200000
must mkdir -m 1777 sticky
umask 027
must touch masked
umask 022
expect_eq "$(stat -c %a masked)" 640 "the mode under a umask"
expect_eq "$(readlink link)" "where it leads"
expect_eq "$(stat -c '%t:%T' null)" 1:3 "the device's number"
expect_eq "$(stat -c '%t:%T' disk)" 7:30d40 "the block device's number"
echo nothing >null || fail "a device that a file names must work"
expect_eq "$(stat -c %h .)" 4 "links of the root directory"
expect_eq "$(stat -c %h dir)" 3 "links of a directory with a directory in it"

# Attributes.
must chown 1000:2000 file
must chmod 4711 file
must touch -d '2001-02-03 04:05:06.789012345' file
expect_eq "$(stat -c '%a %u:%g %.9Y' file)" "4711 1000:2000 981173106.789012345"
must chown -h 5:6 link
[ "$(stat -c %W file)" -gt 1000000000 ] || fail "no time of birth"

# Links.
must ln file other
must ln file dir/third
expect_eq "$(stat -c %h file)" 3 "links"
mustfail ln dir another
mustfail ln file other
must rm other
expect_eq "$(stat -c %h file)" 2 "links"

# What cannot be.
mustfail mkdir file
mustfail rmdir dir
expect_in "$OUT" 'not empty'
mustfail rmdir file
mustfail touch "$(printf 'n%.0s' $(seq 256))"
expect_in "$OUT" 'too long'
must touch "$(printf 'n%.0s' $(seq 255))"
mustfail ls nowhere
mustfail mv dir dir/sub
cd / && same_after_mount && cd "$MNT" || fail "cannot enter"

# Renames.
must mv file renamed
must touch replaced
must mv renamed replaced
[ ! -e renamed ] || fail "the old name is still there"
expect_eq "$(stat -c '%a %h' replaced)" "4711 2" "the file that was moved over another"
must mkdir empty full full/inside
must mv -T dir/sub full/inside/sub
expect_eq "$(stat -c '%h' dir full/inside)" "$(printf '2\n3')" "links after a directory moved"
mustfail mv -T empty full
must mv -T full empty
expect_eq "$(ls empty/inside)" sub
must mv --exchange -T empty dir 2>/dev/null
expect_eq "$(ls dir/inside)" sub "what two directories that changed places hold"
cd / && same_after_mount && cd "$MNT" || fail "cannot enter"

# Unlinked, but in use.
must mkdir gone
exec 7<gone 8<replaced
must rmdir gone
must rm replaced empty/third
expect_eq "$(stat -L -c %h /proc/self/fd/7)" 0 "links of a directory that is gone"
exec 7<&- 8<&-

# Many names, listed while they go.
must mkdir many
(cd many && seq -f 'name-%g' 1000 | busybox xargs touch) || fail "cannot make many files"
expect_eq "$(ls many | busybox wc -l)" 1000 "names in a directory"
expect_eq "$(ls -f many | sort -u | busybox wc -l)" 1002 "names in a directory, unsorted"
cd / && same_after_mount && cd "$MNT" || fail "cannot enter"
must rm -r many
[ ! -e many ] || fail "still there"
must rm -rf dir empty sticky
cd / && same_after_mount
must umount "$MNT"
