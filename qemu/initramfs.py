# SPDX-License-Identifier: GPL-2.0
"""Makes the stock lane's root: the build root's own programs with their libraries, as an uncompressed cpio.

The large part (Debian's programs) is cached by what goes into it; what a test adds is appended as a second archive.
"""

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

CACHE = Path("/cache")

# What guest scripts may call in the stock lane; more by the header's `tools:`.
PROGRAMS = """
bash sh busybox
[ basename cat chgrp chmod chown cp cut date dd df dirname du echo env expr false head id install kill link ln ls
mkdir mkfifo mknod mktemp mv nproc od paste pathchk printf pwd readlink realpath rm rmdir seq sha256sum sleep sort
stat stdbuf stty sync tac tail tee test timeout touch tr true truncate tty uname uniq unlink wc yes md5sum
awk cmp diff find grep sed xargs
blkid blockdev blkdiscard dmesg fallocate findmnt flock fsfreeze fstrim losetup lsblk mount mountpoint setsid umount
unshare wipefs
insmod kmod lsmod modinfo modprobe rmmod
chacl getfacl getfattr setfacl setfattr chattr lsattr
""".split()

TOOLS = ("mkfs.embrfs", "fsck.embrfs", "mount.embrfs", "embrfs-admin", "embrfs-exercise")


class Archive:
    """A cpio archive in the newc format, written in memory."""

    def __init__(self):
        self._parts = []
        self._seen = set()

    def _entry(self, name, mode, data=b""):
        name = str(name).lstrip("/")
        if name in self._seen:
            return
        self._seen.add(name)
        raw = name.encode() + b"\0"
        fields = (len(self._seen), mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(raw), 0)
        head = b"070701" + b"".join(b"%08X" % f for f in fields) + raw
        head += b"\0" * (-len(head) % 4)
        self._parts += [head, data, b"\0" * (-len(data) % 4)]

    def folder(self, name):
        """A directory and its parents."""
        path = Path("/") / name
        for p in [*reversed(path.parents), path]:
            if str(p) != "/":
                self._entry(p, 0o040755)

    def file(self, name, data, mode=0o755):
        """A file with its parent directories."""
        self.folder(Path("/") / Path(name).parent if str(name).startswith("/") else Path(name).parent)
        self._entry(name, 0o100000 | mode, data)

    def link(self, name, target):
        """A symbolic link."""
        self.folder(Path(name).parent)
        self._entry(name, 0o120777, str(target).encode())

    def device(self, name, major, minor):
        """A character device."""
        self.folder(Path(name).parent)
        name = str(name).lstrip("/")
        raw = name.encode() + b"\0"
        self._seen.add(name)
        fields = (len(self._seen), 0o020600, 0, 0, 1, 0, 0, 0, 0, major, minor, len(raw), 0)
        head = b"070701" + b"".join(b"%08X" % f for f in fields) + raw
        self._parts.append(head + b"\0" * (-len(head) % 4))

    def bytes(self):
        """The finished archive."""
        self._entry("TRAILER!!!", 0)
        return b"".join(self._parts)


def libraries(path):
    """The shared libraries of a program, by the paths that the loader uses."""
    got = subprocess.run(["ldd", str(path)], capture_output=True, text=True, check=False)
    return re.findall(r"(/\S+) \(0x", got.stdout)


def _real(path):
    """A path with its directories resolved (/bin is /usr/bin) but its last link kept."""
    path = Path(path)
    return Path(os.path.realpath(path.parent)) / path.name


def add_program(archive, source, name=None):
    """A program, the links that lead to it and its libraries."""
    for path in [source, *libraries(source)]:
        path = _real(path)
        while path.is_symlink():
            target = os.readlink(path)
            archive.link(path, target)
            path = _real(path.parent / target)
        archive.file(path, path.read_bytes())
    if name:
        archive.link(name, source)


def _find(program):
    path = shutil.which(program, path="/usr/sbin:/usr/bin:/sbin:/bin")
    if not path:
        raise FileNotFoundError(f"the build root has no program '{program}'")
    return path


def base(extra=()):
    """The cached archive of Debian's programs; its path."""
    paths = [_find(p) for p in [*PROGRAMS, *extra]]
    every = sorted({os.path.realpath(q) for p in paths for q in (p, *libraries(p))})
    key = hashlib.sha256()
    key.update(Path(__file__).read_bytes())
    key.update(repr([(p, os.stat(p).st_size, os.stat(p).st_mtime_ns) for p in every]).encode())
    key.update(repr(paths).encode())
    place = CACHE / "initramfs" / f"{key.hexdigest()[:12]}.cpio"
    if place.exists():
        return place

    archive = Archive()
    for folder in "proc sys dev tmp run mnt root etc var/tmp embrfs-guest/modules".split():
        archive.folder(folder)
    for name in ("bin", "sbin", "lib", "lib64"):
        archive.link(name, f"usr/{name}")
    archive.device("dev/console", 5, 1)
    archive.device("dev/null", 1, 3)
    archive.file("etc/passwd", b"root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534::/:/bin/false\n", 0o644)
    archive.file("etc/group", b"root:x:0:\nnogroup:x:65534:\n", 0o644)
    archive.link("etc/mtab", "/proc/self/mounts")
    for path in paths:
        add_program(archive, path)
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=place.parent, delete=False) as new:
        new.write(archive.bytes())
    os.rename(new.name, place)
    # The last few versions are enough to go back and forth between two checkouts.
    for old in sorted(place.parent.glob("*.cpio"), key=lambda p: p.stat().st_mtime)[:-6]:
        old.unlink(missing_ok=True)
    return place
