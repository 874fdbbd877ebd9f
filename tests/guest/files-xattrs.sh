#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Extended attributes and access lists: of every namespace, short, of 64 KiB and many; kept, inherited, refused and removed as they should be.
#: lanes: um-lockdep um-kasan
#: disks: 64M
#: timeout: 300
. /embrfs-guest/lib.sh
must mkfs.embrfs --bundle 1+0 "$DISK1"

attach() { must mount -i -t embrfs "$DISK1" "$MNT"; }
detach() {
	must umount "$MNT"
	must fsck.embrfs --data "$DISK1"
}
# Quietly: values may be long.
put() { OUT=$(setfattr -h -n "$2" -v "$3" "$MNT/$1" 2>&1); }
value() { getfattr -h --absolute-names --only-values -n "$2" "$MNT/$1"; }
dump() { (cd "$MNT" && getfattr -hRd -m - -e hex . | sort) && (cd "$MNT" && getfacl -Rp . | sort); }
same_after_mount() {
	local before
	before=$(dump)
	detach
	attach
	expect_eq "$(dump)" "$before" "attributes after mounting again"
}
text() { head -c "$1" /dev/zero | tr '\0' "${2:-x}"; }
attach

# Every namespace, on every kind of file.
must touch "$MNT/file"
must mkdir "$MNT/dir"
must ln -s nowhere "$MNT/link"
must mkfifo "$MNT/pipe"
for name in user.a trusted.a security.a; do
	must setfattr -n $name -v "of $name" "$MNT/file"
	must setfattr -n $name -v "of $name" "$MNT/dir"
	expect_eq "$(value file $name)" "of $name"
done
must setfattr -h -n trusted.b -v link "$MNT/link"
expect_eq "$(value link trusted.b)" link
mustfail setfattr -h -n user.b -v link "$MNT/link"
must setfattr -n security.b -v pipe "$MNT/pipe"
mustfail setfattr -n user.b -v pipe "$MNT/pipe"
mustfail setfattr -n bogus.b -v file "$MNT/file"
expect_in "$OUT" 'not supported'
mustfail setfattr -n user. -v file "$MNT/file"

# Values of all lengths, one after the other; what is not there.
must setfattr -n user.empty "$MNT/file"
expect_eq "$(value file user.empty)" ""
must setfattr -n user.binary -v 0x00ff000a "$MNT/file"
expect_in "$(getfattr --absolute-names -e hex -n user.binary "$MNT/file")" '=0x00ff000a'
for size in 1 4096 65536 30000 4202 4203 65536 5; do
	put file user.sized "$(text $size)" || fail "$size bytes: $OUT"
	expect_eq "$(value file user.sized | wc -c)" $size "bytes of a value"
done
put file user.big "$(text 65536 y)" || fail "$OUT"
put dir user.big "$(text 65536 z)" || fail "$OUT"
put file user.big "$(text 65537)" && fail "65537 bytes were kept"
expect_in "$OUT" 'too long'
must setfattr -n "user.$(text 250 n)" -v longest "$MNT/file"
mustfail setfattr -n "user.$(text 251 n)" -v longer "$MNT/file"
mustfail getfattr --absolute-names -n user.none "$MNT/file"
expect_in "$OUT" 'No such attribute'
mustfail setfattr -x user.none "$MNT/file"
expect_in "$OUT" 'No such attribute'
before=$(stat -c %z "$MNT/file")
must setfattr -x user.empty "$MNT/file"
[ "$(stat -c %z "$MNT/file")" != "$before" ] || fail "the time of the last change is still $before"
same_after_mount
[ "$(value file user.big)" = "$(text 65536 y)" ] || fail "64 KiB are not what they were"

# How the calls themselves answer.
python3 - "$MNT/file" <<'END' || fail "calls answer otherwise"
import ctypes, errno, os, sys
libc = ctypes.CDLL(None, use_errno=True)
path = sys.argv[1].encode()
def call(f, *args):
    n = f(path, *args)
    return n if n >= 0 else -ctypes.get_errno()
def expect(got, wanted, what):
    if got != wanted:
        sys.exit(f"{what}: {got}, not {wanted}")
buffer = ctypes.create_string_buffer(70000)
names = b"".join(os.fsencode(n) + b"\0" for n in os.listxattr(path))
size = call(libc.listxattr, None, 0)
expect(size, len(names), "bytes of names")
expect(call(libc.listxattr, buffer, size), size, "names, just fitting")
for less in (1, 2, 5, size - 1):
    expect(call(libc.listxattr, buffer, less), -errno.ERANGE, f"names in {less} bytes")
for name, size in ((b"user.big", 65536), (b"user.binary", 4)):
    expect(call(libc.getxattr, name, None, 0), size, "a value's size")
    expect(call(libc.getxattr, name, buffer, size), size, "a value, just fitting")
    expect(call(libc.getxattr, name, buffer, size - 1), -errno.ERANGE, "a value that does not fit")
expect(call(libc.getxattr, b"user.none", buffer, 9), -errno.ENODATA, "no such value")
expect(call(libc.setxattr, b"user.a", b"x", 1, 1), -errno.EEXIST, "made again")
expect(call(libc.setxattr, b"user.none", b"x", 1, 2), -errno.ENODATA, "replaced, but not there")
expect(call(libc.setxattr, b"user.a", b"x", 1, 2), 0, "replaced")
expect(call(libc.setxattr, b"user.a", buffer, 65537, 0), -errno.E2BIG, "too long")
expect(call(libc.removexattr, b"user.none"), -errno.ENODATA, "nothing to remove")
END

# Many: more names than a program can be told of in one go.
must mkdir "$MNT/many"
must touch "$MNT/many/short" "$MNT/many/long"
{
	echo "# file: $MNT/many/short"
	seq 2000 | sed 's/.*/user.number&="&"/'
} >/tmp/short
{
	echo "# file: $MNT/many/long"
	seq 300 | sed "s/.*/user.$(text 240 n)&=\"&\"/"
} >/tmp/long
must setfattr --restore=/tmp/short
must setfattr --restore=/tmp/long
expect_eq "$(getfattr --absolute-names -d "$MNT/many/short" | grep -c '^user')" 2000 "attributes"
expect_eq "$(value many/short user.number1234)" 1234
mustfail getfattr --absolute-names -d "$MNT/many/long"
expect_in "$OUT" 'too long'
expect_eq "$(value many/long "user.$(text 240 n)299")" 299
must rm "$MNT/many/long"
same_after_mount
exec 7<"$MNT/many/short"
must rm -r "$MNT/many"
expect_in "$(getfattr --absolute-names -n user.number2000 /proc/self/fd/7)" '="2000"'
exec 7<&-
same_after_mount

# What others may see, and what writing takes away.
must chmod 666 "$MNT/file"
as() { setpriv --reuid "$1" --regid "$1" --clear-groups "${@:2}"; }
must chmod 755 "$MNT"
expect_eq "$(as 1000 getfattr --absolute-names -m - "$MNT/file" | grep -c trusted)" 0 "names in trusted, for others"
mustfail as 1000 getfattr --absolute-names -n trusted.a "$MNT/file"
mustfail as 1000 setfattr -n security.c -v 1 "$MNT/file"
must as 1000 setfattr -n user.c -v 1 "$MNT/file"
must cp /bin/true "$MNT/able"
must setcap cap_net_raw+ep "$MNT/able"
expect_in "$(getcap "$MNT/able")" cap_net_raw
echo >>"$MNT/able"
expect_eq "$(getcap "$MNT/able")" "" "capabilities of a file that was written"

# Access lists.
must touch "$MNT/listed"
must chmod 600 "$MNT/listed"
mustfail as 1000 cat "$MNT/listed"
must setfacl -m u:1000:rw,g:2000:r "$MNT/listed"
expect_eq "$(stat -c %a "$MNT/listed")" 660 "the mode that follows from a list"
must as 1000 cat "$MNT/listed"
mustfail as 1001 cat "$MNT/listed"
must chmod 640 "$MNT/listed"
expect_in "$(getfacl -p "$MNT/listed")" 'user:1000:rw-.*effective:r--'
must as 1000 cat "$MNT/listed"
mustfail as 1000 sh -c "echo >>$MNT/listed"
same_after_mount
must as 1000 cat "$MNT/listed"
must setfacl -b "$MNT/listed"
expect_eq "$(getfattr --absolute-names -m - "$MNT/listed")" "" "attributes without a list"
mustfail as 1000 cat "$MNT/listed"
must setfacl -m u::rwx,g::r,o::x "$MNT/listed"
expect_eq "$(stat -c %a "$MNT/listed")" 741 "the mode that a list says all of"
expect_eq "$(getfattr --absolute-names -m - "$MNT/listed")" "" "attributes where the mode says all"
mustfail setfacl -d -m u:1000:r "$MNT/listed"

# Inheritance.
umask 077
must touch "$MNT/masked"
expect_eq "$(stat -c %a "$MNT/masked")" 600 "the mode under a umask"
must mkdir "$MNT/above"
must setfacl -d -m u::rwx,u:1000:rwx,g::rx,o::- "$MNT/above"
must touch "$MNT/above/file"
must mkdir "$MNT/above/below"
must ln -s x "$MNT/above/link"
expect_eq "$(stat -c %a "$MNT/above/file")" 660 "the mode under a default list"
expect_in "$(getfacl -p "$MNT/above/file")" 'user:1000:rwx.*effective:rw-'
expect_in "$(getfacl -p "$MNT/above/below")" 'default:user:1000:rwx'
expect_eq "$(getfacl -p "$MNT/above/file" | grep -c default)" 0 "default lists of a file"
must touch "$MNT/above/below/file"
expect_in "$(getfacl -p "$MNT/above/below/file")" 'user:1000:rwx'
umask 022
same_after_mount
expect_in "$(getfacl -p "$MNT/above/below/file")" 'user:1000:rwx'
must setfacl -k "$MNT/above"
must touch "$MNT/above/plain"
expect_eq "$(stat -c %a "$MNT/above/plain")" 644 "the mode without a default list"
must rm -r "$MNT/above"

# Without room.
must mkdir "$MNT/full"
big=$(text 65536 f)
n=0
while OUT=$(touch "$MNT/full/$n" 2>&1) && put full/$n user.big "$big"; do
	n=$((n + 1))
	[ $n -lt 2000 ] || fail "2000 times 64 KiB on a device of 64 MiB"
done
expect_in "$OUT" 'No space left on device'
say "$n times 64 KiB"
[ $n -gt 100 ] || fail "full after $n"
for ((i = 0; i < n; i += 50)); do [ "$(value full/$i user.big)" = "$big" ] || fail "value $i is not what it was"; done
for ((i = 0; i < n; i += 2)); do must setfattr -x user.big "$MNT/full/$i"; done
put full/0 user.big "$big" || fail "$OUT"
detach
attach
for i in 0 1 51; do [ "$(value full/$i user.big)" = "$big" ] || fail "value $i is not what it was"; done
mustfail getfattr --absolute-names -n user.big "$MNT/full/2"
must rm -r "$MNT/full"
same_after_mount
must rm -r "$MNT"/*
detach
