# SPDX-License-Identifier: GPL-2.0
"""Starts guests: User Mode Linux or QEMU, with the same script, disks and modules; ends those that hang.

Runs inside the build root, where the checkout is /embrfs and the cache /cache. Never judges what a guest did.
"""

import os
import resource
import shlex
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import initramfs
import judge
import kmodules

CACHE = Path("/cache")
HERE = Path(__file__).resolve().parent
GUEST = HERE / "guest"
RELEASE = CACHE / "target/release"

# How much slower than User Mode Linux a guest may be, processor emulated or not; and User Mode Linux itself under kmemleak.
SLOWER = {"kvm": 2, "tcg": 4, "leaks": 3}
# Seconds in which a guest comes up or never does, under any acceleration.
COMING_UP = 300

# MiB for QEMU: what a guest starts with lies in memory twice, packed and unpacked, with the debugging symbols of every tool.
MEMORY_LEAST = 1024

# How User Mode Linux runs processes. Two CPUs need seccomp mode; built by clang, programs crash in it (7.3.4).
UM_MODE = {"um-kasan": ("seccomp=off", "ncpus=1")}


@dataclass
class Job:
    """All that one guest is given."""

    lane: str
    script: Path
    name: str
    disks: list = field(default_factory=list)
    modules: tuple = ("embrfs",)
    available: tuple = ()
    memory: int = 512 << 20
    timeout: int = 120
    tools: tuple = ()
    leaks: bool = False
    images: tuple = ()  # files that are the disks, instead of fresh ones
    settings: dict = field(default_factory=dict)  # variables for the script


@dataclass
class Ended:
    """What a guest left behind."""

    log: str
    output: str
    timed_out: bool
    seconds: float
    noise: str = ""  # what the program itself printed


class LaneMissing(Exception):
    """The lane's kernel is not there."""


_running = {}
_running_lock = threading.Lock()
_stopping = threading.Event()


def stop_all():
    """Ends every guest of this runner (the user pressed Ctrl-C)."""
    _stopping.set()
    with _running_lock:
        for process in list(_running.values()):
            _kill(process)


def stopping():
    """Whether stop_all was called: what ended since then ended because of it."""
    return _stopping.is_set()


def _kill(process):
    # Each guest is its own process group; a hung one ignores everything but SIGKILL.
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _no_core():
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def check_lane(lane):
    """Raises LaneMissing unless the lane's kernel was built."""
    if not (CACHE / "kernels" / lane / "done").exists():
        raise LaneMissing(f"kernel {lane} is not built (run scripts/setup-kernel {lane})")


def make_disks(folder, sizes):
    """Fresh sparse files, one per disk."""
    paths = []
    for number, size in enumerate(sizes, 1):
        path = folder / f"disk{number}"
        with open(path, "wb") as f:
            f.truncate(size)
        paths.append(path)
    return paths


def _write_config(folder, job, **values):
    values = {
        "NAME": job.name,
        "LANE": job.lane,
        "LEAKS": int(job.leaks and bool(job.modules or job.available)),
        "SHELL_TTY": "",
        "GREETING": "",
        **job.settings,
        **values,
    }
    text = "".join(f"{k}={shlex.quote(str(v))}\n" for k, v in values.items())
    (folder / "config").write_text(text)


def text(path):
    """What a guest wrote to a file, in lines as they are here."""
    return Path(path).read_bytes().replace(b"\r", b"").decode(errors="replace")


def _watch(command, folder, timeout, pass_fds=(), streams=None, on_text=None, environment=None):
    """Runs a guest to its end or its time-out. on_text gets new script output as it comes, and ends the guest by saying True."""
    began = time.monotonic()
    with open(folder / "noise", "wb") as noise:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=noise,
            stderr=noise,
            start_new_session=True,
            pass_fds=pass_fds,
            preexec_fn=_no_core,
            env={**os.environ, **(environment or {})},
        )
    with _running_lock:
        _running[process.pid] = process
    timed_out = False
    is_up = False
    out = open(streams["output"], "rb") if on_text else None

    def is_late():
        nonlocal is_up
        took = time.monotonic() - began
        if took > COMING_UP and not is_up:
            is_up = judge.came_up(text(streams["log"]))
            return not is_up
        return took > timeout

    try:
        while True:
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.05 if on_text else 0.25)
            enough = on_text and on_text(out.read())
            if process.returncode is not None:
                break
            if enough:
                _kill(process)
                process.wait()
                break
            if is_late() or _stopping.is_set():
                timed_out = True
                _kill(process)
                process.wait()
        if on_text:
            on_text(out.read())
    finally:
        if out:
            out.close()
        _kill(process)
        with _running_lock:
            del _running[process.pid]

    return Ended(
        log=text(streams["log"]),
        output=text(streams["output"]),
        timed_out=timed_out,
        seconds=time.monotonic() - began,
        noise=text(folder / "noise"),
    )


def run(job, on_text=None):
    """Runs one guest and returns what it left."""
    check_lane(job.lane)
    folder = Path(tempfile.mkdtemp(prefix="embrfs-guest-", dir="/tmp"))
    try:
        streams = {"log": folder / "log", "output": folder / "output"}
        for path in streams.values():
            path.touch()
        start = _run_qemu if job.lane == "stock" else _run_um
        return start(job, folder, streams, on_text)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# --- User Mode Linux -------------------------------------------------------------------------------------------------


def _prepare_um():
    """The guest's root is the build root itself; these are the places that it needs there."""
    Path("/embrfs-guest").mkdir(exist_ok=True)
    # mount(8) looks for its helper only in /sbin.
    for tool in initramfs.TOOLS:
        link = Path("/usr/sbin") / tool
        if not link.is_symlink():
            with suppress(FileExistsError):
                link.symlink_to(RELEASE / tool)


def _run_um(job, folder, streams, on_text):
    _prepare_um()
    timeout = job.timeout * (SLOWER["leaks"] if job.leaks else 1)
    seen = folder / "guest"
    seen.mkdir()
    shutil.copy(GUEST / "lib.sh", seen)
    shutil.copy(job.script, seen / "script.sh")
    paths = job.images or make_disks(folder, job.disks)
    own = kmodules.closure(job.lane, job.modules)
    extra = [p for p in kmodules.closure(job.lane, job.available) if p not in own]
    _write_config(
        seen,
        job,
        SCRIPT="/embrfs-guest/script.sh",
        OUTPUT="/dev/tty0",
        TOOL_PATH=RELEASE,
        DISK_LIST=" ".join(f"/dev/ubd{chr(97 + i)}" for i in range(len(paths))),
        BOOT_MODULES="",
        MODULES=" ".join(map(str, own)),
        AVAILABLE=" ".join(map(str, extra)),
        PATIENCE=timeout * 0.8,
    )
    with open(streams["log"], "ab") as log, open(streams["output"], "ab") as output:
        command = [
            str(CACHE / "kernels" / job.lane / "linux"),
            f"mem={max(job.memory >> 20, 64)}M",
            *UM_MODE.get(job.lane, ("seccomp=on", "ncpus=2")),
            "noreboot",
            *(f"ubd{i}={p}" for i, p in enumerate(paths)),
            "root=/dev/root",
            "rootfstype=hostfs",
            "rootflags=/",
            "ro",
            "con=null",
            f"con0=null,fd:{output.fileno()}",
            "ssl=null",
            f"ssl0=null,fd:{log.fileno()}",
            "console=ttyS0",
            "ignore_loglevel",
            "printk.devkmsg=on",
            "panic=-1",
            "oops=panic",
            # A stack trace per allocation, for either detector, makes everything here some ten times slower.
            "slab_debug=FZP",
            "kmemleak=on" if job.leaks else "kmemleak=off",
            # Each device that a driver makes at boot costs grace periods, and nobody uses these.
            "brd.rd_nr=0",
            "loop.max_loop=0",
            "nbd.nbds_max=0",
            "hostname=embrfs",
            f"init={GUEST}/init",
            f"EMBR_RUN={seen}",
        ]
        return _watch(
            command,
            folder,
            timeout,
            pass_fds=(log.fileno(), output.fileno()),
            streams=streams,
            on_text=on_text,
            # The guest's memory is a file there.
            environment={"TMPDIR": str(folder), "HOME": str(folder)},
        )


# --- QEMU ------------------------------------------------------------------------------------------------------------


def _kernel_image():
    top = Path("/usr/lib/modules") / kmodules.stock_release()
    for name in ("vmlinuz", "vmlinuz.unsigned"):
        if (top / name).exists():
            return top / name
    boot = Path("/boot") / f"vmlinuz-{kmodules.stock_release()}"
    if boot.exists():
        return boot
    raise LaneMissing(f"the stock kernel's image is not in {top}")


def write_initramfs(folder, job, shell=None):
    """One file of two archives: the cached programs, and what belongs to this guest."""
    own = kmodules.closure("stock", job.modules)
    extra = [p for p in kmodules.closure("stock", job.available) if p not in own]
    boot = kmodules.closure("stock", ["virtio_blk"])
    archive = initramfs.Archive()

    def placed(paths):
        names = []
        for path in paths:
            name = f"/embrfs-guest/modules/{kmodules.plain_name(path)}"
            archive.file(name, kmodules.content(path), 0o644)
            names.append(name)
        return " ".join(names)

    values = {
        "SCRIPT": "/embrfs-guest/script.sh",
        "OUTPUT": "/dev/hvc0",
        "TOOL_PATH": "/usr/local/sbin",
        "DISK_LIST": " ".join(f"/dev/vd{chr(97 + i)}" for i in range(len(job.disks))),
        "BOOT_MODULES": placed(boot),
        "MODULES": placed(own),
        "AVAILABLE": placed(extra),
        "PATIENCE": job.timeout * 0.8,
        **(shell or {}),
    }
    _write_config(folder, job, **values)
    archive.file("/embrfs-guest/config", (folder / "config").read_bytes(), 0o644)
    archive.file("/embrfs-guest/lib.sh", (GUEST / "lib.sh").read_bytes(), 0o644)
    archive.file("/embrfs-guest/rc", (GUEST / "rc").read_bytes(), 0o644)
    archive.file("/embrfs-guest/init", (GUEST / "init").read_bytes())
    if job.script:
        archive.file("/embrfs-guest/script.sh", Path(job.script).read_bytes())
    for tool in initramfs.TOOLS:
        path = RELEASE / tool
        if path.exists():
            initramfs.add_program(archive, path)
            archive.link(f"/usr/sbin/{tool}", path)
    whole = folder / "initramfs"
    with open(whole, "wb") as f:
        with open(initramfs.base(job.tools), "rb") as base:
            shutil.copyfileobj(base, f)
        f.write(b"\0" * (-f.tell() % 4))
        f.write(archive.bytes())
    return whole


def _acceleration(kind):
    return ["-accel", "kvm", "-cpu", "host"] if kind == "kvm" else ["-accel", "tcg,thread=multi", "-cpu", "max"]


def qemu_command(job, folder, kind, image, console):
    """The command line but for the consoles, which `console` gives."""
    append = f"console={console} printk.devkmsg=on panic=-1 oops=panic rdinit=/embrfs-guest/init EMBR_RUN=/embrfs-guest"
    if kind == "tcg":
        # An emulated processor that waits for a real one is not locked up.
        append += " watchdog_thresh=60 rcupdate.rcu_cpu_stall_timeout=120 no_timer_check"
    command = [
        "qemu-system-x86_64",
        *_acceleration(kind),
        *("-machine", "q35", "-smp", "2", "-m", str(max(job.memory >> 20, MEMORY_LEAST))),
        *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
        *("-kernel", str(_kernel_image()), "-initrd", str(image)),
        *("-device", "virtio-rng-pci"),
    ]
    for i, path in enumerate(make_disks(folder, job.disks)):
        command += ["-drive", f"file={path},format=raw,if=none,id=d{i},cache=unsafe,discard=unmap"]
        command += ["-device", f"virtio-blk-pci,drive=d{i},serial=disk{i + 1}"]
    return command, append


_probe_lock = threading.Lock()


def acceleration():
    """'kvm' if a kernel really runs under KVM here, else 'tcg'. Asked once per boot of the machine."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    answer = CACHE / "initramfs" / f"acceleration-{boot}"
    with _probe_lock:
        if not answer.exists():
            kind = "kvm" if _probe_kvm() else "tcg"
            answer.parent.mkdir(parents=True, exist_ok=True)
            for old in answer.parent.glob("acceleration-*"):
                old.unlink()
            answer.write_text(kind)
        return answer.read_text().strip()


def _probe_kvm():
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    folder = Path(tempfile.mkdtemp(prefix="embrfs-probe-", dir="/tmp"))
    process = None
    try:
        job = Job("stock", None, "probe", memory=384 << 20)
        console = folder / "console"
        console.touch()
        command, append = qemu_command(job, folder, "kvm", "/dev/null", "ttyS0")
        # Without an initramfs a kernel that runs ends in a panic for want of a root: that is proof enough.
        del command[command.index("-initrd") : command.index("-initrd") + 2]
        command += ["-serial", f"file:{console}", "-append", append]
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=_no_core,
        )
        until = time.monotonic() + 8
        quiet_until = time.monotonic() + 4
        while time.monotonic() < until:
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.1)
            said = console.read_bytes()
            if b"Unable to mount root fs" in said or b"Run /init" in said:
                return True
            if process.returncode is not None or (not said and time.monotonic() > quiet_until):
                return False
        return False
    finally:
        if process:
            _kill(process)
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _run_qemu(job, folder, streams, on_text):
    kind = acceleration()
    timeout = job.timeout * SLOWER[kind]
    patient = Job(**{**job.__dict__, "timeout": timeout})
    image = write_initramfs(folder, patient)
    command, append = qemu_command(patient, folder, kind, image, "ttyS0 ignore_loglevel")
    command += ["-append", append, "-serial", f"file:{streams['log']}"]
    command += ["-device", "virtio-serial-pci", "-chardev", f"file,id=out,path={streams['output']}"]
    command += ["-device", "virtconsole,chardev=out"]
    return _watch(command, folder, timeout, streams=streams, on_text=on_text)


def interactive(job, greeting):
    """A shell on a stock kernel in this terminal; returns QEMU's status."""
    check_lane("stock")
    folder = Path(tempfile.mkdtemp(prefix="embrfs-vm-", dir="/tmp"))
    try:
        kind = acceleration()
        image = write_initramfs(
            folder, job, shell={"SHELL_TTY": "/dev/ttyS0", "OUTPUT": "/dev/ttyS0", "GREETING": greeting}
        )
        command, append = qemu_command(job, folder, kind, image, "ttyS0 loglevel=4")
        append += f" TERM={os.environ.get('TERM', 'vt100')}"
        with suppress(OSError):
            size = os.get_terminal_size()
            append += f" EMBR_ROWS={size.lines} EMBR_COLUMNS={size.columns}"
        command += ["-append", append, "-chardev", "stdio,id=tty,mux=on,signal=off", "-serial", "chardev:tty"]
        command += ["-mon", "chardev=tty"]
        return subprocess.call(command)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
