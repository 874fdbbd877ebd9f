# SPDX-License-Identifier: GPL-2.0
"""Proves the judge on recorded and made-up log lines."""

import unittest
from pathlib import Path

import judge as j

BOOT = "[    0.100000] Linux version 7.3.4\n[    0.500000] embrfs-test: booted name on lane\n"
END = "[    9.000000] embrfs-test: end status=0\n"


def verdict(body="", boot=BOOT, end=END, lane="um-lockdep", **kw):
    return j.judge(boot + body + end, lane, **kw)


class Complaints(unittest.TestCase):
    bad = """
WARNING: CPU: 0 PID: 31 at embr_faults.c:70 warn+0x12/0x20 [embr_faults]
WARNING: fs/foo.c:123 at foo+0x12/0x20, CPU#0: insmod/31
WARNING: possible circular locking dependency detected
WARNING: inconsistent lock state
WARNING: suspicious RCU usage
WARNING: possible recursive locking detected
WARNING: held lock freed!
WARNING: bad unlock balance detected!
[ BUG: Invalid wait context ]
INFO: trying to register non-static key.
INFO: lockdep is turned off.
BUG: MAX_LOCKDEP_CHAINS too low!
turning off the locking correctness validator.
embrfs-test: lockdep is off
BUG: sleeping function called from invalid context at mm/slab.h:401
BUG: scheduling while atomic: bash/1/0x00000002
BUG: KASAN: slab-out-of-bounds in oob+0x30/0x50 [embr_faults]
BUG: KFENCE: use-after-free read in x+0x1/0x2
UBSAN: array-index-out-of-bounds in fs/x.c:12:3
kmemleak: 12 new suspected memory leaks (see /sys/kernel/debug/kmemleak)
BUG kmalloc-128 (Not tainted): Redzone overwritten
BUG embr_inode (Tainted: G): Objects remaining on __kmem_cache_shutdown()
list_add corruption. prev->next should be next (0), but was 1.
list_del corruption, 00000000deadbeef->next is LIST_POISON1
refcount_t: underflow; use-after-free.
Oops: general protection fault, probably for non-canonical address 0xdead: 0000 [#1] SMP
BUG: kernel NULL pointer dereference, address: 0000000000000000
kernel BUG at fs/inode.c:600!
Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100
INFO: task mount:42 blocked for more than 30 seconds.
rcu: INFO: rcu_preempt self-detected stall on CPU
rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:
watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [cat:99]
BUG: workqueue lockup - pool cpus=0 node=0 flags=0x0 nice=0 stuck for 31s!
rust_kernel: panicked at kmod/fs/main.rs:1:2:
VFS: Busy inodes after unmount of ubda (embrfs)
mkfs.embrfs[31]: segfault at 0 ip 0000 sp 0000 error 4
Call Trace:
""".strip().splitlines()

    good = """
embrfs: loading out-of-tree module taints kernel.
embrfs: module verification failed: signature and/or required key missing - tainting kernel
kasan: KernelAddressSanitizer initialized
kfence: initialized - using 2097152 bytes for 255 objects at 0x1
rcu: RCU lockdep checking is enabled.
Lock dependency validator: Copyright (c) 2006 Red Hat, Inc., Ingo Molnar
debug: unmapping init memory
EXT4-fs (ubda): warning: mounting unchecked fs
clocksource: timekeeping watchdog on CPU0: Marking clocksource 'tsc' as unstable
embrfs-test: step 3: the BUG of last week
... MAX_LOCKDEP_SUBCLASSES:  8
Buffer I/O error on dev vdb, logical block 0, async page read
""".strip().splitlines()

    def test_each_complaint_fails(self):
        for line in self.bad:
            with self.subTest(line):
                v = verdict(f"[    1.0] {line}\n")
                self.assertEqual(v.outcome, "failed")
                self.assertEqual(v.reason, line.strip())

    def test_ordinary_lines_pass(self):
        for line in self.good:
            with self.subTest(line):
                self.assertEqual(verdict(f"[    1.0] {line}\n").outcome, "passed")

    def test_carriage_returns_do_not_hide(self):
        self.assertEqual(verdict("[    1.0] WARNING: suspicious RCU usage\r\n").outcome, "failed")

    def test_stack_dump_belongs_to_its_complaint(self):
        v = verdict("[ 1.0] BUG: KASAN: x in y\n[ 1.0] Call Trace:\n[ 1.0]  foo+0x1/0x2\n")
        self.assertEqual(len(v.complaints), 1)

    def test_dumps_that_the_guest_asked_for(self):
        self.assertEqual(verdict("[ 1.0] embrfs-test: nearly out of time\n[ 1.0] Call Trace:\n").outcome, "passed")


class Boot(unittest.TestCase):
    rcu = "[    0.2] WARNING: suspicious RCU usage\n"

    def test_unknown_complaint_at_boot_fails(self):
        v = verdict(boot=self.rcu + BOOT)
        self.assertEqual(v.outcome, "failed")
        self.assertIn("while booting", v.reason)

    def test_known_complaint_passes_in_its_lane_only(self):
        known = j.read_known("# c\n\num-lockdep  /suspicious RCU/  bring-up\n")
        self.assertEqual(verdict(boot=self.rcu + BOOT, known=known).outcome, "passed")
        self.assertEqual(verdict(boot=self.rcu + BOOT, known=known, lane="stock").outcome, "failed")

    def test_known_complaint_does_not_excuse_later_ones(self):
        known = j.read_known("um-lockdep /suspicious RCU/ bring-up")
        self.assertEqual(verdict(self.rcu, known=known).outcome, "failed")

    def test_the_list_itself_parses(self):
        known = j.read_known((Path(__file__).parent / "known-boot-complaints").read_text())
        for k in known:
            self.assertTrue(k.reason)

    def test_malformed_list_is_refused(self):
        with self.assertRaises(ValueError):
            j.read_known("um-lockdep suspicious RCU\n")

    def test_no_marker(self):
        v = j.judge("[ 0.1] Linux version\n", "stock")
        self.assertEqual(v.outcome, "failed")
        self.assertIn("never reached", v.reason)


class Ends(unittest.TestCase):
    def test_pass(self):
        self.assertEqual(verdict().outcome, "passed")

    def test_no_end(self):
        self.assertIn("without its end marker", verdict(end="").reason)

    def test_status(self):
        self.assertIn("status 3", verdict(end="[ 9.0] embrfs-test: end status=3\n").reason)

    def test_fail_says_why(self):
        v = verdict("[ 1.0] embrfs-test: FAIL wrong size\n", end="[ 9.0] embrfs-test: end status=1\n")
        self.assertEqual(v.reasons, ["wrong size"])

    def test_kernel_speaks_before_the_script(self):
        v = verdict("[ 1.0] BUG: x\n[ 1.0] embrfs-test: FAIL y\n", end="[ 9.0] embrfs-test: end status=1\n")
        self.assertEqual(v.reasons, ["BUG: x", "y"])

    def test_fail_with_status_zero_fails(self):
        self.assertEqual(verdict("[ 1.0] embrfs-test: FAIL in a subshell\n").outcome, "failed")

    def test_skip(self):
        v = verdict("[ 1.0] embrfs-test: SKIP no fio\n", end="[ 9.0] embrfs-test: end status=77\n")
        self.assertEqual((v.outcome, v.reason), ("skipped", "no fio"))

    def test_skip_does_not_hide_a_complaint(self):
        v = verdict("[ 1.0] BUG: x\n", end="[ 9.0] embrfs-test: end status=77\n")
        self.assertEqual(v.outcome, "failed")

    def test_hung(self):
        v = verdict(end="", timed_out=True)
        self.assertTrue(v.reason.startswith("hung"))


class Expectations(unittest.TestCase):
    def test_log(self):
        self.assertEqual(verdict("[ 1.0] embrfs: mounted\n", expect_log="embrfs: mounted").outcome, "passed")
        self.assertEqual(verdict(expect_log="embrfs: mounted").outcome, "failed")

    def test_log_before_the_marker_does_not_count(self):
        self.assertEqual(verdict(expect_log="Linux version").outcome, "failed")

    def test_complaint(self):
        v = verdict("[ 1.0] BUG: KASAN: slab-out-of-bounds in x\n", expect_complaint="KASAN: slab")
        self.assertEqual(v.outcome, "passed")

    def test_missing_complaint_fails(self):
        self.assertEqual(verdict(expect_complaint="KASAN").outcome, "failed")

    def test_other_complaint_fails_and_is_told(self):
        v = verdict("[ 1.0] BUG: other\n", expect_complaint="KASAN")
        self.assertEqual(v.outcome, "failed")
        self.assertIn("BUG: other", v.reason)

    def test_hang_is_a_complaint(self):
        self.assertEqual(verdict(end="", timed_out=True, expect_complaint="hung").outcome, "passed")


if __name__ == "__main__":
    unittest.main()
