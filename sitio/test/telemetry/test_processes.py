"""
Promises of L{sitio.telemetry.processes}.
"""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path
from time import time

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from sitio.telemetry.processes import read


class OwnTests(SynchronousTestCase):
    """This process."""

    def setUp(self) -> None:
        if not sys.platform.startswith("linux"):
            raise SkipTest("only Linux has /proc")

    def test_own(self) -> None:
        """The values are those that Python itself tells."""
        used = read()
        assert used is not None
        self.assertLess(abs(used.cpuSeconds - sum(os.times()[:4])), 1.0)
        self.assertTrue(time() - 86400 < used.started < time() + 2, used.started)
        self.assertEqual(used.maxFiles, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        self.assertLess(abs(used.openFiles - len(os.listdir("/proc/self/fd"))), 3)
        self.assertTrue(1e6 < used.resident < used.virtual, used)

    def test_workers(self) -> None:
        """Each process counts once; one that has ended is left out."""
        one, same = read(), read([os.getpid(), 2**22 + 1])
        assert one is not None and same is not None
        self.assertEqual(one.maxFiles, same.maxFiles)
        two = read([os.getppid()])
        assert two is not None
        self.assertGreater(two.maxFiles, one.maxFiles)
        self.assertLessEqual(two.started, one.started)


class OtherTests(SynchronousTestCase):
    """Other systems, and strange programs."""

    def test_otherSystem(self) -> None:
        """Where there is no /proc, nothing is told."""
        self.assertIsNone(read(root=Path(self.mktemp())))

    def test_strangeName(self) -> None:
        """The name of the program may contain anything; no limit counts as 0."""
        root = Path(self.mktemp())
        folder = root / str(os.getpid())
        (folder / "fd").mkdir(parents=True)
        (root / "stat").write_text("cpu 1 2\nbtime 1000\n")
        fields = ["S", *map(str, range(4, 40))]
        (folder / "stat").write_text(f"7 (a) b (c) {' '.join(fields)}")
        (folder / "limits").write_text("Max open files            unlimited   unlimited  files\n")
        used = read(root=root)
        assert used is not None
        self.assertEqual((used.virtual, used.maxFiles), (23, 0))
        self.assertAlmostEqual(used.started, 1000 + 22 / os.sysconf("SC_CLK_TCK"))
