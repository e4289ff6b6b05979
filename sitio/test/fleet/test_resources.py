"""
Promises of L{sitio.fleet.resources}: memory and processors of a machine or a container.
"""

from __future__ import annotations

import os
from pathlib import Path
from unittest import skipUnless

from twisted.trial.unittest import SynchronousTestCase

from sitio.fleet.resources import UNNAMED, resources

MEMINFO = "MemTotal:        1000 kB\nMemFree:           50 kB\nMemAvailable:     300 kB\n"
STAT = "cpu  4 6 8 10 9\ncpu0 1 2 3 4 9 9\ncpu1 3 4 5 6 9 9\nintr 1\n"
CPUINFO = "processor\t: 0\nmodel name\t: Fast\ncpu MHz\t\t: 2400.123\n"

#: Milliseconds of a tick.
TICK = 1000 // os.sysconf("SC_CLK_TCK")


class ResourcesTests(SynchronousTestCase):
    """The values for the fleet dashboard are read from files."""

    def setUp(self) -> None:
        self.root = Path(self.mktemp())
        self.file("proc/meminfo", MEMINFO)
        self.file("proc/stat", STAT)
        self.file("proc/cpuinfo", CPUINFO)

    def file(self, name: str, text: str) -> None:
        """Write a file."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def group(self, **files: str) -> None:
        """Write a cgroup's files; C{memory_max} is C{memory.max}."""
        for name, text in files.items():
            self.file(f"sys/fs/cgroup/{name.replace('_', '.', 1)}", text)

    def memory(self) -> tuple[int, int]:
        """Free and total memory."""
        told = resources(self.root)
        assert told is not None
        return told["free_memory"], told["total_memory"]

    def test_machine(self) -> None:
        """Without a limit these are the machine's available and total memory, in bytes."""
        self.assertEqual(self.memory(), (300 * 1024, 1000 * 1024))
        self.group(memory_max="max\n", memory_current="1000\n")
        self.assertEqual(self.memory(), (300 * 1024, 1000 * 1024))

    def test_container(self) -> None:
        """With a limit, free memory is what is left up to it; the page cache counts as free."""
        self.group(memory_max="200000\n", memory_current="150000\n")
        self.assertEqual(self.memory(), (50000, 200000))
        self.group(memory_stat="anon 1\ninactive_file 30000\nactive_file 2\n")
        self.assertEqual(self.memory(), (80000, 200000))

    def test_overLimit(self) -> None:
        """Free memory is never negative, nor more than the machine has."""
        self.group(memory_max="200000\n", memory_current="250000\n")
        self.assertEqual(self.memory(), (0, 200000))
        self.file("proc/meminfo", MEMINFO.replace("300 kB", "1 kB"))
        self.group(memory_current="100\n")
        self.assertEqual(self.memory(), (1024, 200000))

    def test_largeLimit(self) -> None:
        """A limit above the machine's memory is ignored."""
        self.group(memory_max="9000000\n", memory_current="1\n")
        self.assertEqual(self.memory(), (300 * 1024, 1000 * 1024))

    def test_processors(self) -> None:
        """Each processor has its model, speed in MHz and times in milliseconds, if known."""
        told = resources(self.root)
        assert told is not None
        self.assertEqual(
            told["cpus"],
            [
                {
                    "model": "Fast",
                    "speed": 2400,
                    "times": {
                        "user": TICK,
                        "nice": 2 * TICK,
                        "sys": 3 * TICK,
                        "idle": 4 * TICK,
                    },
                },
                {
                    "model": UNNAMED,
                    "speed": 0,
                    "times": {
                        "user": 3 * TICK,
                        "nice": 4 * TICK,
                        "sys": 5 * TICK,
                        "idle": 6 * TICK,
                    },
                },
            ],
        )

    def test_elsewhere(self) -> None:
        """Where there are no such files nothing is told."""
        self.assertIsNone(resources(self.root / "nowhere"))

    @skipUnless(Path("/proc/meminfo").exists(), "this is no Linux")
    def test_here(self) -> None:
        """This machine has some memory, and as many processors as Python knows of."""
        told = resources()
        assert told is not None
        self.assertTrue(0 < told["free_memory"] <= told["total_memory"])
        self.assertEqual(len(told["cpus"]), os.cpu_count())
