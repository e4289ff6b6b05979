"""
Tests of L{sitio.config.cores}.
"""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from sitio.config.cores import POD_VARIABLE, coreCount
from sitio.config.options import Options
from sitio.test.helpers.rows import Row, eachRow

POD = {POD_VARIABLE: "10.96.0.1"}

#: Files that are the same in a container with version 1.
V1 = {
    "proc/self/cgroup": "5:memory:/kubepods/x\n4:cpu,cpuacct:/kubepods/x\n1:name=systemd:/x\n",
    "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
}
QUOTA = "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us"


def v2(text: str, group: str = "/") -> dict[str, str]:
    """The files of a container, or of a group of the host, with version 2."""
    path = f"sys/fs/cgroup{group.rstrip('/')}/cpu.max"
    return {"proc/self/cgroup": f"0::{group}\n", path: text}


#: Files, whether it is a Pod, and the cores of eight that may be used.
COUNTS: list[Row] = [
    ("Without control groups the affinity counts", {}, False, 8),
    ("v2: a limit counts", v2("200000 100000\n"), False, 2),
    ("v2: a part of a core counts as one", v2("250000 100000\n"), False, 3),
    ("v2: less than one core is one", v2("5000 100000\n"), False, 1),
    ("v2: a limit above the affinity has no effect", v2("6400000 100000\n"), False, 8),
    ("v2: max is no limit", v2("max 100000\n"), False, 8),
    ("v2: what can't be read is none", v2("nonsense\n"), False, 8),
    ("v2: nor what makes no sense", v2("100000 0\n"), False, 8),
    ("v2: the mount point counts where proc says nothing",
     {"sys/fs/cgroup/cpu.max": "200000 100000"}, False, 2),
    ("v2: the limit of a service of systemd", v2("300000 100000", "/system.slice/a.service"),
     False, 3),
    ("v2: the limit of a group above it",
     {**v2("max 100000", "/a/b"), "sys/fs/cgroup/a/cpu.max": "200000 50000"}, False, 4),
    ("v2: a container that sees the host's path",
     {**v2("max 100000", "/kubepods/x"), "sys/fs/cgroup/cpu.max": "200000 100000"}, True, 2),
    ("v1: a limit counts", {**V1, QUOTA: "150000\n"}, False, 2),
    ("v1: -1 is no limit", {**V1, QUOTA: "-1\n"}, False, 8),
    ("v1: the folder may be called cpu",
     {"proc/self/cgroup": "4:cpuacct,cpu:/\n", "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "200000",
      "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"}, True, 2),
    ("v1 beside an empty v2", {**V1, QUOTA: "150000\n",
     "proc/self/cgroup": V1["proc/self/cgroup"] + "0::/\n"}, True, 2),
    ("A Pod without a limit, v2", v2("max 100000\n"), True, 1),
    ("A Pod without a limit, v1", {**V1, QUOTA: "-1\n"}, True, 1),
    ("A Pod without control groups", {}, True, 1),
    ("A Pod with a limit, v2", v2("400000 100000\n"), True, 4),
    ("A Pod with a limit, v1", {**V1, QUOTA: "400000\n"}, True, 4),
    ("A Pod with a limit above the affinity", v2("6400000 100000\n"), True, 8),
]  # fmt: skip


@eachRow(COUNTS)
class CountTests(SynchronousTestCase):
    """How many of eight cores this process may use."""

    def check(self, files: dict[str, str], isPod: bool, expected: int) -> None:
        """By the files of the kernel and the environment."""
        self.patch(os, "sched_getaffinity", lambda pid: set(range(8)))
        root = Path(self.mktemp())
        for name, text in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        self.assertEqual(coreCount(POD if isPod else {}, root), expected)


class OtherTests(SynchronousTestCase):
    """Other systems, and C{--workers}."""

    def test_noAffinity(self) -> None:
        """On a system without CPU affinity, all cores count."""
        self.patch(os, "cpu_count", lambda: 5)
        self.patch(os, "sched_getaffinity", None)
        self.assertEqual(coreCount({}, Path(self.mktemp())), 5)

    def test_workers(self) -> None:
        """C{--workers auto} starts a worker for each; a Pod is known by its variable."""
        for environ in ({}, POD):
            options = Options(dict(environ))
            options.parseOptions(["--workers=auto"])
            self.assertEqual(options["workers"], coreCount(environ))
