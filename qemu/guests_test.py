# SPDX-License-Identifier: GPL-2.0
"""Proves which guests are booted a second time, and what is told of it; no guest runs."""

import contextlib
import importlib.machinery
import importlib.util
import io
import re
import tempfile
import threading
import unittest
from pathlib import Path
from unittest import mock

import guests
import judge


def load(name):
    """A program of this folder, as a module."""
    loader = importlib.machinery.SourceFileLoader(name.replace("-", "_"), str(Path(__file__).resolve().parent / name))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


run_tests = load("run-tests")

STILL = "[    0.1] Linux version 7.3.4\n[    0.6] hpet: 3 comparators, 64-bit 100.000000 MHz counter\n"
UP = STILL + "[    5.6] embrfs-test: booted: a in stock\n"
END = "[    6.0] embrfs-test: end status=0\n"
FIRST = "booted twice: the first never came up"


def hung(log=STILL, output=""):
    return guests.Ended(log, output, True, 480.0)


def ended(log=UP + END, output="", noise=""):
    return guests.Ended(log, output, False, 21.0, noise)


class Boots(unittest.TestCase):
    """All of the harness but what starts a guest and waits for it: that hands out `left`, one per boot."""

    def setUp(self):
        self.top = Path(self.enterContext(tempfile.TemporaryDirectory()))
        (self.top / "tests").mkdir()
        self.left = []
        self.disks = []
        self.known = []
        for target, name, value in (
            (guests, "check_lane", lambda lane: None),
            (guests, "acceleration", lambda: "tcg"),
            (guests, "write_initramfs", lambda folder, job: folder / "initramfs"),
            (guests, "_kernel_image", lambda: self.top / "vmlinuz"),
            (guests, "_watch", self.watch),
            (guests, "_stopping", threading.Event()),
            (run_tests, "TESTS", self.top / "tests"),
            (run_tests.signal, "signal", lambda *_: None),
            (run_tests.judge, "read_known", lambda _: self.known),
        ):
            self.enterContext(mock.patch.object(target, name, value))

    def watch(self, command, folder, timeout, **_):
        """What the guest finds on its disks goes to `disks`; then it writes to them, as one that hung might have."""
        found = []
        for drive in (after for option, after in zip(command, command[1:]) if option == "-drive"):
            path = Path(drive.removeprefix("file=").split(",")[0])
            found.append((path.stat().st_size, path.read_bytes().strip(b"\0")))
            with open(path, "r+b") as f:
                f.write(b"old")
        self.disks.append(found)
        now = self.left.pop(0)
        if isinstance(now, Exception):
            raise now
        return now() if callable(now) else now

    def main(self, *left, names=("a",), header=""):
        """What run-tests prints for tests whose boots leave this: (its status, its lines)."""
        self.left = list(left)
        self.disks.clear()
        self.results = Path(tempfile.mkdtemp(dir=self.top))
        for name in names:
            (self.top / f"tests/{name}.sh").write_text(f"#!/bin/bash\n# SPDX-License-Identifier: GPL-2.0\n# T.\n#: disks: 1M*2\n{header}")
        out = io.StringIO()
        arguments = ["run-tests", "-j", "1", "--lane", "stock", "--summary", str(self.top / "summary")]
        with mock.patch("sys.argv", arguments), mock.patch.object(run_tests, "RESULTS", self.results), contextlib.redirect_stdout(out):
            status = run_tests.main()
        return status, out.getvalue().splitlines()

    def kept(self, name):
        path = self.results / "last" / name
        return path.read_text() if path.exists() else None


class Again(Boots):
    def test_came_up_at_once(self):
        status, lines = self.main(ended())
        self.assertEqual((status, len(self.disks)), (0, 1))
        self.assertNotIn("twice", "".join(lines))
        self.assertIsNone(self.kept("a.stock.first-boot.log"))

    def test_came_up_at_the_second_boot(self):
        status, lines = self.main(hung(), ended())
        self.assertEqual((status, len(self.disks)), (0, 2))
        self.assertEqual(lines[0], f"ok   a (stock) 21.0s, {FIRST}")
        self.assertRegex(lines[-1], r"^1 passed, 0 failed, 0 skipped, 1 booted twice in ")
        self.assertEqual(self.kept("a.stock.first-boot.log"), STILL)
        self.assertEqual(self.kept("a.stock.log"), UP + END)
        self.assertEqual((self.top / "summary").read_text(), "1 0 0\n")

    def test_ended_by_itself_before_it_came_up(self):
        status, lines = self.main(ended(STILL, noise="qemu: no memory"), ended())
        self.assertEqual((status, lines[0]), (0, f"ok   a (stock) 21.0s, {FIRST}"))
        self.assertIn("qemu: no memory", self.kept("a.stock.first-boot.log"))

    def test_neither_came_up(self):
        status, lines = self.main(hung(), hung(STILL + "[    0.7] second\n"))
        self.assertEqual((status, len(self.disks)), (1, 2))
        self.assertTrue(lines[0].startswith("FAIL a (stock): hung"))
        self.assertIn("booted twice: neither came up", lines[0])
        self.assertIn("0 passed, 1 failed, 0 skipped, 1 booted twice", lines[-1])
        self.assertEqual(self.kept("a.stock.first-boot.log"), STILL)
        self.assertIn("second", self.kept("a.stock.log"))

    def test_the_second_is_judged_as_any(self):
        bad = UP + "[    5.7] BUG: x\n[    5.8] embrfs-test: SKIP y\n" + END
        status, lines = self.main(hung(), ended(bad))
        self.assertEqual(status, 1)
        self.assertTrue(lines[0].startswith(f"FAIL a (stock): BUG: x, {FIRST}, see "))
        status, lines = self.main(hung(), ended(UP + "[ 5.8] embrfs-test: SKIP y\n[ 6.0] embrfs-test: end status=77\n"))
        self.assertEqual((status, lines[0]), (0, f"skip a (stock): y, {FIRST}"))

    def test_each_guest_has_its_own_two(self):
        status, lines = self.main(hung(), ended(), hung(), ended(), ended(), names=("a", "b", "c"))
        self.assertEqual((status, sum(FIRST in line for line in lines)), (0, 2))
        self.assertIn("3 passed, 0 failed, 0 skipped, 2 booted twice", lines[-1])

    def test_disks_are_fresh(self):
        self.main(hung(), ended())
        self.assertEqual(self.disks, [[(1 << 20, b"")] * 2] * 2)


class Once(Boots):
    def once(self, left, **kw):
        status, lines = self.main(left, **kw)
        self.assertEqual((status, len(self.disks)), (1, 1))
        self.assertTrue(lines[0].startswith("FAIL a (stock): "))
        self.assertNotIn("twice", "".join(lines))
        self.assertIsNone(self.kept("a.stock.first-boot.log"))
        return lines[0]

    def test_came_up_and_hung(self):
        self.once(hung(UP))

    def test_came_up_and_ended_without_its_marker(self):
        self.once(ended(UP))

    def test_came_up_and_failed(self):
        self.once(ended(UP + "[    6.0] embrfs-test: end status=1\n"))

    def test_came_up_and_the_marker_was_lost(self):
        self.once(hung(output="# mkfs.embrfs /dev/vda\n"))

    def test_complained_while_it_booted(self):
        for said in ("BUG: kernel NULL pointer dereference", "WARNING: possible recursive locking detected", "Call Trace:"):
            with self.subTest(said):
                self.assertIn("(and 2 more), see", self.once(hung(STILL + f"[    0.7] {said}\n")))

    def test_a_program_that_does_not_start(self):
        self.assertIn("no such program", self.once(OSError("no such program")))

    def test_interrupted(self):
        def stop():
            guests._stopping.set()
            return hung()

        self.once(stop)


class Known(Boots):
    said = STILL + "[    0.2] WARNING: suspicious RCU usage\n"

    def test_a_known_complaint_does_not_forbid(self):
        self.known = [judge.Known("stock", re.compile("suspicious RCU"), "bring-up")]
        status, lines = self.main(hung(self.said), ended())
        self.assertEqual((status, lines[0]), (0, f"ok   a (stock) 21.0s, {FIRST}"))

    def test_one_of_another_lane_does(self):
        self.known = [judge.Known("um-lockdep", re.compile("suspicious RCU"), "bring-up")]
        self.assertEqual((self.main(hung(self.said))[0], len(self.disks)), (1, 1))

    def test_the_second_boot_may_not_complain_either(self):
        status, lines = self.main(hung(), ended("[    0.2] WARNING: suspicious RCU usage\n" + UP + END))
        self.assertEqual(status, 1)
        self.assertIn(f"while booting: WARNING: suspicious RCU usage, {FIRST}", lines[0])


class Images(Boots):
    def test_disks_of_the_caller_are_booted_once(self):
        self.left = [hung(), ended()]
        job = guests.Job("stock", None, "a", images=(self.top / "disk",))
        got, twice = run_tests.boot(job, [], self.top / "a.stock.log")
        self.assertEqual((got.timed_out, twice, len(self.left)), (True, "", 1))


class Watched(unittest.TestCase):
    """A program in the place of a guest: how long it is waited for."""

    def watch(self, script, timeout):
        folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        streams = {"log": folder / "log", "output": folder / "output"}
        for path in streams.values():
            path.touch()
        command = ["bash", "-c", script, "guest", str(streams["log"])]
        with mock.patch.object(guests, "COMING_UP", 1):
            return guests._watch(command, folder, timeout, streams=streams)

    def test_what_does_not_come_up_is_not_waited_for_longer(self):
        self.assertTrue(self.watch("exec sleep 600", 600).timed_out)

    def test_what_came_up_has_its_time(self):
        self.assertFalse(self.watch(f"echo '{judge.BOOTED}: a' >$1; exec sleep 2", 60).timed_out)

    def test_but_no_more(self):
        self.assertTrue(self.watch(f"echo '{judge.BOOTED}: a' >$1; exec sleep 600", 2).timed_out)


if __name__ == "__main__":
    unittest.main()
