# SPDX-License-Identifier: GPL-2.0
"""Judges a guest's kernel log: the kernel's own word against the script's.

Never starts anything and never reads a file but the list of known boot complaints, so that it can be tested on
recorded lines alone. The guest writes its markers into the kernel log (through /dev/kmsg), so order is the kernel's.
"""

import re
from dataclasses import dataclass, field

MARK = "embrfs-test: "
BOOTED = MARK + "booted"
END = re.compile(re.escape(MARK) + r"end status=(\d+)")
FAILED = re.compile(re.escape(MARK) + r"FAIL (.*)")
SKIPPED = re.compile(re.escape(MARK) + r"SKIP (.*)")
OVERTIME = MARK + "nearly out of time"
SKIP_STATUS = 77

# What a healthy kernel never says. Case matters unless a pattern says otherwise.
COMPLAINTS = [
    re.compile(p)
    for p in (
        # Generic.
        r"\bWARNING:",
        r"\bBUG\b",
        r"\bOops\b",
        r"general protection",
        r"Kernel panic",
        r"[Uu]nable to handle (kernel|page fault)",
        r"kernel stack overflow|stack guard page|corrupted stack end|stack-protector:",
        r"double fault",
        r"invalid opcode",
        r"nobody cared",
        r"---\[ end trace",
        # Rust.
        r"Rust panic",
        r"\bpanicked at\b",
        # Locks.
        r"possible (circular|recursive) locking",
        r"possible (irq|unsafe|deadlock)",
        r"inconsistent lock state",
        r"irq lock inversion",
        r"(SOFTIRQ|HARDIRQ)-safe",
        r"suspicious RCU usage",
        r"held lock freed",
        r"lock held (when returning|at)",
        r"locks? held when returning",
        r"bad unlock balance",
        r"bad contention detected",
        r"Invalid wait context",
        r"non-static key",
        r"Nested lock was not taken",
        r"lock(dep| debugging)? is turned off|turning off the locking correctness validator",
        r"DEBUG_LOCKS_WARN_ON",
        r"embrfs-test: lockdep is off",
        r"sleeping function called",
        r"scheduling while atomic",
        r"Voluntary context switch within",
        # Memory.
        r"\b(KASAN|KCSAN|KFENCE|KMSAN|UBSAN):",
        r"new suspected memory leaks",
        r"unreferenced object 0x",
        r"refcount_t:",
        r"list_(add|del) corruption|list corruption|prev is NULL",
        r"Objects remaining",
        r"Poison overwritten|[Rr]edzone overwritten|Slab corruption|Object already free|slab error",
        r"double free|Double free",
        r"Bad (page state|rss-counter)|bad page",
        r"usercopy: Kernel memory",
        r"ODEBUG:",
        r"page allocation failure",
        r"Out of memory:|oom-kill:",
        # Standstill.
        r"blocked for more than \d+ seconds",
        r"task .* is blocked on",
        r"\bstall(s|ed)? (on|detected)|self-detected stall|detected stalls",
        r"(soft|hard) lockup|(soft|hard) LOCKUP|workqueue lockup",
        # The VFS.
        r"Busy inodes after unmount",
        r"Dentry still in use|still in use \(\d+\)",
        r"VFS: (brelse|Close)",
        # A crash of one of our tools.
        r"segfault at|trap (invalid opcode|divide error)",
    )
]

# A stack dump is always part of some complaint; counted by itself only where none of the above stands near it.
STACK_DUMP = re.compile(r"Call Trace:")
NEAR = 80


@dataclass(frozen=True)
class Known:
    """One complaint that a kernel makes of itself while booting."""

    lane: str
    pattern: re.Pattern
    reason: str


@dataclass
class Verdict:
    """What is to be said about one run of one test."""

    outcome: str  # passed, failed, skipped
    reasons: list = field(default_factory=list)
    complaints: list = field(default_factory=list)

    @property
    def reason(self):
        return self.reasons[0] if self.reasons else ""


def read_known(text):
    """Parses known-boot-complaints: LANE /REGEX/ REASON per line."""
    known = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        found = re.fullmatch(r"(\S+)\s+/(.*)/\s+(\S.*)", line.strip())
        if not found:
            raise ValueError(f"known-boot-complaints line {number}: want LANE /REGEX/ REASON, got: {line}")
        known.append(Known(found[1], re.compile(found[2]), found[3]))
    return known


def split_at_marker(lines):
    """The lines before and after the guest's boot marker; None after if it never came."""
    for i, line in enumerate(lines):
        if BOOTED in line:
            return lines[:i], lines[i + 1 :]
    return lines, None


def find_complaints(lines):
    """All lines that a healthy kernel would not have printed."""
    found = []
    last = -NEAR - 1
    dumps_count = True
    for i, line in enumerate(lines):
        if OVERTIME in line:
            # The guest asked for stack dumps of what is blocked.
            dumps_count = False
        # What the guest itself reports is judged by its own rules, but for the lockdep line.
        if MARK in line and "lockdep is off" not in line:
            continue
        if any(p.search(line) for p in COMPLAINTS):
            found.append(line)
            last = i
        elif dumps_count and STACK_DUMP.search(line):
            if i - last > NEAR:
                found.append(line)
            last = i
    return found


def _boot_complaints(lines, lane, known):
    """What a kernel complained of while it booted, but for what is known of it."""
    mine = [k for k in known if k.lane in (lane, "*")]
    return [line for line in find_complaints(lines) if not any(k.pattern.search(line) for k in mine)]


def came_up(log):
    """Whether the guest reached its boot marker."""
    return BOOTED in log


def may_boot_again(log, output, lane, known=()):
    """Whether a guest ended before anything of ours ran in it, and without a complaint: that says nothing of what is tested.

    What a script printed counts as having come up, should the kernel's log have lost the marker."""
    return not came_up(log) and not output.strip() and not _boot_complaints(_clean(log), lane, known)


def strip_time(line):
    """A log line without its time stamp, for a reason that fits on a line."""
    return re.sub(r"^(<\d+>)?\[[^\]]*\]\s*", "", line).strip()


def _clean(text):
    return text.replace("\r", "").split("\n")


def judge(log, lane, known=(), timed_out=False, expect_log=None, expect_complaint=None, last_output=""):
    """The verdict on one guest from its whole kernel log."""
    before, after = split_at_marker(_clean(log))
    reasons = []
    complaints = []

    if timed_out:
        reasons.append("hung: killed at its time-out")
    for line in _boot_complaints(before, lane, known):
        complaints.append(line)
        reasons.append("while booting: " + strip_time(line))

    status = None
    skip = None
    if after is None:
        reasons.append("the guest never reached its boot marker" + (f"; last: {last_output}" if last_output else ""))
    else:
        fresh = find_complaints(after)
        complaints += fresh
        reasons += [strip_time(line) for line in fresh]
        text = "\n".join(after)
        ended = END.search(text)
        if ended:
            status = int(ended[1])
        elif not timed_out:
            reasons.append("the guest ended without its end marker")
        why = FAILED.search(text)
        skip = SKIPPED.search(text)
        if why:
            # Comes first unless the kernel said something: the kernel's word is nearer to the cause.
            reasons.insert(len(reasons) if complaints else 0, why[1].strip())
        elif status not in (None, 0, SKIP_STATUS):
            reasons.append(f"the script ended with status {status}")
        if expect_log and not re.search(expect_log, text, re.M):
            reasons.append(f"the kernel log lacks: {expect_log}")

    if expect_complaint and after is not None:
        # A proof of a detector: this very complaint must have failed the run.
        wanted = re.compile(expect_complaint)
        if any(wanted.search(r) for r in reasons):
            return Verdict("passed", [], complaints)
        said = f"; it failed with: {reasons[0]}" if reasons else ""
        return Verdict("failed", [f"the judge did not complain of: {expect_complaint}{said}"], complaints)

    if reasons:
        return Verdict("failed", reasons, complaints)
    if status == SKIP_STATUS:
        return Verdict("skipped", [skip[1].strip() if skip else "the script said so"], [])
    return Verdict("passed", [], [])
