# SPDX-License-Identifier: GPL-2.0
"""Proves the reading of test headers."""

import tempfile
import unittest
from pathlib import Path

import description as d


def read(text):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "name.sh"
        path.write_text("#!/bin/bash\n# SPDX-License-Identifier: GPL-2.0\n" + text)
        return d.read(path)


class Headers(unittest.TestCase):
    def test_defaults(self):
        t = read("# Shows a thing.\necho\n#: lanes: never-read\n")
        self.assertEqual((t.name, t.summary, t.lanes), ("name", "Shows a thing.", d.DEFAULT_LANES))
        self.assertEqual((t.disks, t.modules, t.leaks), ([], ("embrfs",), ()))

    def test_values(self):
        t = read("# S.\n#: lanes: stock\n#: disks: 64M*2 1G\n#: modules: none\n#: expect-log: a: b|c\n#: leaks: um-lockdep\n")
        self.assertEqual(t.disks, [64 << 20, 64 << 20, 1 << 30])
        self.assertEqual((t.lanes, t.modules, t.expect_log, t.leaks), (("stock",), (), "a: b|c", ("um-lockdep",)))

    def test_mistakes_are_refused(self):
        for bad in ("lane: stock", "lanes: stok", "lanes:", "disks: 64X", "disks: 1M*x", "disks: 1M*17", "timeout: soon",
                    "expect-log: (", "leaks: maybe", "timeout"):
            with self.subTest(bad), self.assertRaises(d.DescriptionError):
                read(f"# S.\n#: {bad}\n")

    def test_a_test_says_what_it_shows(self):
        with self.assertRaises(d.DescriptionError):
            read("echo\n")

    def test_the_real_ones_parse(self):
        self.assertTrue(d.read_all(Path(__file__).resolve().parent.parent / "tests/guest"))


if __name__ == "__main__":
    unittest.main()
