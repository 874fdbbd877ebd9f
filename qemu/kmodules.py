# SPDX-License-Identifier: GPL-2.0
"""Finds the .ko files that a lane needs, dependencies first. Never loads one."""

import functools
import lzma
import re
import subprocess
from pathlib import Path

CACHE = Path("/cache")


class ModuleMissing(Exception):
    """A module that should have been built, or does not exist."""


def stock_release():
    """The kernel release of the stock lane, as in /lib/modules."""
    return (CACHE / "kernels/stock/include/config/kernel.release").read_text().strip()


def _canonical(name):
    return name.replace("-", "_")


def own_path(lane, name):
    """Where a module of this project lies for a lane, or None if the name is not one of ours."""
    if name == "embrfs":
        return CACHE / "module" / lane / "embrfs.ko"
    if name.startswith("embr"):
        return CACHE / "module" / f"detectors-{lane}" / f"{name}.ko"
    return None


@functools.cache
def _tree(lane):
    """Modules that came with the lane's kernel: name to path."""
    top = Path("/usr/lib/modules") / stock_release() if lane == "stock" else CACHE / "kernels" / lane
    found = {}
    # The prepared stock tree has none of its own; Debian's lie in the build root.
    for path in (top / "kernel").rglob("*.ko*") if lane == "stock" else top.rglob("*.ko"):
        found[_canonical(re.sub(r"\.ko(\.xz)?$", "", path.name))] = path
    return found


def _depends(path):
    got = subprocess.run(["modinfo", "-F", "depends", str(path)], capture_output=True, text=True, check=False)
    if got.returncode:
        raise ModuleMissing(f"modinfo {path}: {got.stderr.strip()}")
    return [w for w in re.split(r"[,\s]+", got.stdout.strip()) if w]


def closure(lane, names):
    """Paths of the modules and of all they depend on, in the order of loading."""
    order = []
    seen = set()

    def visit(name, wanted_by):
        name = _canonical(name)
        if name in seen:
            return
        seen.add(name)
        path = own_path(lane, name)
        if path is None:
            path = _tree(lane).get(name)
            if path is None:
                # Built into the User Mode Linux kernels.
                if lane != "stock":
                    return
                raise ModuleMissing(f"the {lane} kernel has no module '{name}' (wanted by {wanted_by})")
        elif not path.exists():
            how = f"qemu/build-detectors {lane}" if "detectors" in str(path) else f"scripts/build-module {lane}"
            raise ModuleMissing(f"{path} is not built (run {how})")
        for dependency in _depends(path):
            visit(dependency, name)
        order.append(path)

    for name in names:
        visit(name, "the test")
    return order


def plain_name(path):
    """The file name without compression: virtio_blk.ko."""
    return Path(path).name.removesuffix(".xz")


def content(path):
    """A module's bytes, decompressed."""
    data = Path(path).read_bytes()
    return lzma.decompress(data) if str(path).endswith(".xz") else data
