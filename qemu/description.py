# SPDX-License-Identifier: GPL-2.0
"""Reads a test's description from the head of its guest script. Never runs anything."""

import re
from dataclasses import dataclass, field
from pathlib import Path

# The lanes of `make test`; um-bench runs only where it is asked for.
DEFAULT_LANES = ("um-lockdep", "um-kasan", "stock")
LANES = DEFAULT_LANES + ("um-bench",)
MIB = 1 << 20


class DescriptionError(Exception):
    """A header that cannot be meant as it stands."""


@dataclass
class Test:
    """One test: a guest script and what its header says of it."""

    path: Path
    summary: str = ""
    lanes: tuple = DEFAULT_LANES
    disks: list = field(default_factory=list)  # bytes
    timeout: int = 120
    modules: tuple = ("embrfs",)
    available: tuple = ()
    memory: int = 512 * MIB
    tools: tuple = ()
    leaks: tuple = ()
    expect_log: str = None
    expect_complaint: str = None

    @property
    def name(self):
        return self.path.stem


def parse_size(text):
    """Bytes of 64M, 2G, 512K or a plain number."""
    found = re.fullmatch(r"(\d+)([KMGT]?)", text.upper())
    if not found:
        raise DescriptionError(f"not a size: '{text}' (write 64M, 2G, 512K)")
    return int(found[1]) << {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}[found[2]]


def parse_disks(text):
    """Sizes of disks: '64M*6', '64M 128M', 'none'."""
    sizes = []
    for word in text.split():
        if word == "none":
            continue
        size, _, times = word.partition("*")
        if times and not times.isdigit():
            raise DescriptionError(f"not a number of disks: '{word}' (write 64M*6)")
        sizes += [parse_size(size)] * int(times or 1)
    if len(sizes) > 16:
        raise DescriptionError(f"{len(sizes)} disks; User Mode Linux has places for 16")
    return sizes


def _words(text):
    return tuple(w for w in text.split() if w != "none")


def read(path):
    """The description at the head of a guest script."""
    test = Test(Path(path))
    for line in test.path.read_text().splitlines():
        if not line.startswith("#"):
            break
        if line.startswith("#!") or "SPDX-License-Identifier" in line:
            continue
        if not line.startswith("#:"):
            if not test.summary:
                test.summary = line.lstrip("# ").strip()
            continue
        key, colon, value = line[2:].partition(":")
        key, value = key.strip(), value.strip()
        try:
            if not colon:
                raise DescriptionError("want '#: key: value'")
            _set(test, key, value)
        except (DescriptionError, ValueError, re.error) as why:
            raise DescriptionError(f"{path}: {line}: {why}") from None
    if not test.summary:
        raise DescriptionError(f"{path}: say in one comment line what the test shows")
    return test


def _set(test, key, value):
    if key == "lanes":
        test.lanes = _words(value)
        unknown = [lane for lane in test.lanes if lane not in LANES]
        if unknown or not test.lanes:
            raise DescriptionError(f"unknown lane {' '.join(unknown)}; there are {' '.join(LANES)}")
    elif key == "disks":
        test.disks = parse_disks(value)
    elif key == "timeout":
        test.timeout = int(value)
    elif key in ("modules", "available", "tools"):
        setattr(test, key, _words(value))
    elif key == "memory":
        test.memory = parse_size(value)
    elif key == "leaks":
        test.leaks = _words(value)
        if not set(test.leaks) <= set(LANES):
            raise DescriptionError("leaks names lanes")
    elif key in ("expect-log", "expect-complaint"):
        re.compile(value)
        setattr(test, key.replace("-", "_"), value)
    else:
        raise DescriptionError(f"unknown key '{key}'")


def read_all(folder):
    """Every test below a folder, by name."""
    return [read(p) for p in sorted(Path(folder).glob("*.sh"))]
