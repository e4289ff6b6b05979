"""
Tests of L{sitio.net.descriptors}.
"""

from __future__ import annotations

import errno
import socket
from typing import Any

from twisted.internet.error import ConnectBindError, ConnectError, DNSLookupError
from twisted.trial.unittest import SynchronousTestCase

from sitio.net import descriptors
from sitio.net.descriptors import RESERVED, areLacking, isScarce, raiseLimit, share


class LackingTests(SynchronousTestCase):
    """Whether a failure comes from a lack of descriptors."""

    def test_named(self) -> None:
        """Errors that carry a number are judged by it."""
        for number in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
            for kind in (OSError, ConnectError, ConnectBindError):
                self.assertTrue(areLacking(kind(number, "what it says")), kind)
        for number in (errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.EACCES, errno.ENOENT):
            for kind in (OSError, ConnectError, ConnectBindError):
                self.assertFalse(areLacking(kind(number, "what it says")), kind)

    def test_unnamed(self) -> None:
        """For others, and for a resolver's own numbers, a socket is opened for a moment."""
        failures = (None, DNSLookupError(), ValueError(), socket.gaierror(-11, "System error"))
        for each in failures:
            self.assertFalse(areLacking(each))
        for number, lacking in ((errno.EMFILE, True), (errno.ENFILE, True), (errno.EPERM, False)):

            def failing(*arguments: Any, number: int = number) -> Any:
                raise OSError(number, "what it says")

            self.patch(socket, "socket", failing)
            for each in failures:
                self.assertEqual(areLacking(each), lacking)


class FakeResource:
    """The limits of a process, as the kernel keeps them."""

    RLIMIT_NOFILE = 7
    RLIM_INFINITY = -1

    def __init__(self, soft: int, hard: int, most: int | None = None) -> None:
        self.soft, self.hard, self.most = soft, hard, most

    def getrlimit(self, which: int) -> tuple[int, int]:
        """Both limits."""
        return self.soft, self.hard

    def setrlimit(self, which: int, limits: tuple[int, int]) -> None:
        """Set both, if the kernel allows that."""
        if self.most is not None and not 0 <= limits[0] <= self.most:
            raise ValueError("current limit exceeds maximum limit")
        self.soft, self.hard = limits


class RaisingTests(SynchronousTestCase):
    """The soft limit becomes the hard one."""

    def test_table(self) -> None:
        """What a process may open afterwards."""
        for resource, limit in (
            (FakeResource(1024, 4096), 4096),
            (FakeResource(1024, 1024), 1024),
            (FakeResource(128, 2**30), 2**30),
            (FakeResource(-1, -1), None),
            (FakeResource(256, -1), None),
            # macOS: the hard limit is no limit, but that can't be set.
            (FakeResource(256, -1, most=10240), 256),
            (FakeResource(1024, 4096, most=2048), 1024),
        ):
            self.patch(descriptors, "resource", resource)
            self.assertEqual(raiseLimit(), limit)
        self.patch(descriptors, "resource", None)
        self.assertEqual(raiseLimit(), None)


class SharingTests(SynchronousTestCase):
    """How the descriptors are divided."""

    def test_table(self) -> None:
        """Clients and upstream connections for a limit and for what the options say."""
        for limit, wanted, shared in (
            (None, (10_000, 1024), (10_000, 1024)),
            (2**30, (10_000, 1024), (10_000, 1024)),
            (20_000, (10_000, 1024), (10_000, 1024)),
            (11_152, (10_000, 1024), (10_000, 1024)),
            (11_151, (10_000, 1024), (9_999, 1024)),
            (4096, (10_000, 1024), (2944, 1024)),
            (1024, (10_000, 1024), (448, 448)),
            (1024, (10_000, 20), (876, 20)),
            (1024, (300, 100), (300, 100)),
            (1024, (5, 1024), (5, 448)),
            (256, (10_000, 1024), (64, 64)),
            (128, (10_000, 1024), (32, 32)),
            (64, (10_000, 1024), (16, 16)),
            (3, (10_000, 1024), (1, 1)),
            (0, (10_000, 1024), (1, 1)),
        ):
            with self.subTest(limit=limit, wanted=wanted):
                self.assertEqual(share(limit, *wanted), shared)

    def test_bounds(self) -> None:
        """
        What is shared is never more than was wanted, and fits beside what is reserved.  A
        client that is accepted finds a connection to the upstream, if it wants one.
        """
        for limit in range(8, 3000, 7):
            for wanted in ((10_000, 1024), (100, 1024), (10_000, 10), (1, 1)):
                clients, connections = share(limit, *wanted)
                self.assertTrue(1 <= clients <= wanted[0] and 1 <= connections <= wanted[1])
                free = limit - min(RESERVED, limit // 2)
                self.assertLessEqual(clients + connections, max(2, free))
                if wanted == (10_000, 1024) and clients + connections > 2 and limit < 2000:
                    self.assertLessEqual(clients - connections, 1)

    def test_scarce(self) -> None:
        """The highest numbers are those that are reserved."""
        for soft, first in ((128, 64), (1024, 896), (20_000, 19_872)):
            self.patch(descriptors, "resource", FakeResource(soft, soft))
            self.assertEqual((isScarce(first - 1), isScarce(first)), (False, True))
        self.patch(descriptors, "resource", FakeResource(-1, -1))
        self.assertFalse(isScarce(2**20))
        self.patch(descriptors, "resource", None)
        self.assertFalse(isScarce(2**20))
