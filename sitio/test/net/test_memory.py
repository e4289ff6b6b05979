"""
Tests of L{sitio.net.memory}.
"""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from sitio.net.memory import INTERVAL_SECONDS, TRIM_BYTES, Trimmer, trimming


class TrimmerTests(SynchronousTestCase):
    """Memory is given back when much has become free."""

    def setUp(self) -> None:
        self.free = 0
        self.trims = 0

    def trim(self) -> None:
        """What is given back still counts as free."""
        self.trims += 1

    def looks(self, *free: int) -> list[int]:
        """How often memory was given back after each of these numbers of free MiB."""
        trimmer = Trimmer(lambda: self.free, self.trim)
        counts = []
        for each in free:
            self.free = each * 1024 * 1024
            trimmer.look()
            counts.append(self.trims)
        return counts

    def test_peak(self) -> None:
        """After a peak it is given back once."""
        self.assertEqual(self.looks(1, 400, 400, 410), [0, 1, 1, 1])

    def test_twoPeaks(self) -> None:
        """Memory that was taken and freed again is given back again."""
        self.assertEqual(self.looks(400, 2, 400, 400), [1, 1, 2, 2])

    def test_little(self) -> None:
        """What is little is kept, also when it becomes more bit by bit from a low level."""
        self.assertEqual(self.looks(1, 20, 31, 3, 30), [0, 0, 0, 0, 0])
        self.assertEqual(self.looks(5, 15, 25, 40), [0, 0, 0, 1])

    def test_service(self) -> None:
        """A service looks at a fixed interval, on a C library that has the functions."""
        clock = Clock()
        service = trimming(clock)
        if service is None:
            return
        service.startService()
        wasted = [bytes(TRIM_BYTES // 100) for _ in range(110)]
        clock.advance(INTERVAL_SECONDS)
        wasted.clear()
        clock.advance(INTERVAL_SECONDS)
        service.stopService()
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_otherLibrary(self) -> None:
        """On another C library there is no service, and no failure."""
        self.patch(__import__("ctypes"), "CDLL", lambda name: object())
        self.assertIsNone(trimming(Clock()))
