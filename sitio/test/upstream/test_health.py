"""
Tests of L{sitio.upstream.health}: active health checks.
"""

from __future__ import annotations

from itertools import pairwise
from random import Random
from typing import Any

from twisted.internet.task import Clock
from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase

from sitio.net.deadlines import Deadlines
from sitio.settings import Settings
from sitio.test.helpers.messages import OK
from sitio.test.helpers.upstreams import someEndpoint
from sitio.testing import MemoryEndpoint, Peer
from sitio.upstream.health import JITTER, HealthCheck, HealthSettings
from sitio.upstream.pool import UpstreamPool

BAD = b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"


class HealthTests(SynchronousTestCase):
    """One endpoint that is checked; the test plays it."""

    def setUp(self) -> None:
        self.check = self.open()

    def open(self, random: Any = None, **settings: Any) -> HealthCheck:
        self.clock = Clock()
        self.place = MemoryEndpoint(self.clock)
        self.endpoint = someEndpoint(self.clock, slowStart=5.0)
        self.changes: list[bool] = []
        pool = UpstreamPool(
            self.clock,
            self.place,
            Settings(poolSize=1, poolQueue=1, connectTimeout=1.0),
            Deadlines(self.clock),
        )
        return HealthCheck(
            self.endpoint,
            HealthSettings("/health?all", host="photos", **settings),
            self.clock,
            random or (lambda: 0.5),
            pool,
            lambda endpoint: self.changes.append(endpoint.isHealthy),
            Logger(),
        )

    def begin(self) -> None:
        self.check.start()
        self.clock.pump([0.1, 0, 0])

    @property
    def peer(self) -> Peer:
        """The endpoint's end of the current check."""
        return self.place.peers[-1]

    def answer(self, *answers: bytes) -> None:
        """Answer so many checks, one after the other, each in its interval."""
        for each in answers:
            self.peer.sends(each)
            self.clock.pump([0, 0, 2, 0, 0])

    def test_request(self) -> None:
        """The check is a GET of the page, with the Host of the settings."""
        self.begin()
        request = self.peer.gotRequest()
        self.assertEqual((request.method, request.target), ("GET", "/health?all"))
        self.assertEqual(request.headers["Host"], "photos")

    def test_closed(self) -> None:
        """Each check has a connection of its own, which is closed after the response."""
        self.begin()
        self.answer(OK, OK)
        self.assertEqual(len(self.place.peers), 3)
        self.assertEqual([each.closed for each in self.place.peers], [True, True, False])

    def test_good(self) -> None:
        """Statuses of 200 to 399 are good."""
        self.begin()
        for status in (200, 204, 301, 399):
            self.answer(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % status)
        self.assertEqual(self.changes, [])

    def test_first(self) -> None:
        """The first check decides at once."""
        self.begin()
        self.answer(BAD)
        self.assertEqual(self.changes, [False])
        self.assertEqual(self.endpoint.lastFailure, "its health check answered 503")

    def test_thresholds(self) -> None:
        """Later it takes as many in a row as the settings say, in both directions."""
        self.begin()
        self.answer(OK, BAD, BAD, OK, BAD, BAD)
        self.assertEqual(self.changes, [])
        self.answer(BAD)
        self.assertEqual(self.changes, [False])
        self.answer(OK, BAD, OK)
        self.assertEqual(self.changes, [False])
        self.answer(OK)
        self.assertEqual(self.changes, [False, True])
        self.assertEqual(self.endpoint.state, "warming")

    def failure(self) -> str:
        self.clock.pump([0.25] * 8)
        self.assertEqual(self.changes, [False])
        return self.endpoint.lastFailure

    def test_refused(self) -> None:
        """A refused connection is a failure."""
        self.place.decision = self.place.refuse
        self.begin()
        self.assertIn("no connection to the upstream", self.failure())

    def test_silent(self) -> None:
        """So is a response that does not come in time; the connection is closed."""
        self.begin()
        peer = self.peer
        self.assertIn("was not answered within 1 seconds", self.failure())
        self.assertTrue(peer.reset)

    def test_slowConnection(self) -> None:
        """So is a connection that does not come about in time."""
        self.place.decision = None
        self.begin()
        self.assertIn("within 1 seconds", self.failure())

    def test_broken(self) -> None:
        """So is a response that is none, and one that breaks off."""
        for data in (b"SSH-2.0-x\r\n\r\n", b""):
            self.check = self.open()
            self.begin()
            if data:
                self.peer.sends(data)
            self.peer.closes()
            self.assertIn("its health check failed: the", self.failure())

    def test_longBody(self) -> None:
        """A body is not read: its head decides."""
        self.begin()
        self.peer.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nabc")
        self.clock.pump([0, 0])
        self.assertTrue(self.peer.reset)
        self.assertEqual(self.changes, [])

    def test_lateBody(self) -> None:
        """
        A short body that comes after its head is read: the endpoint sees no reset.  The status
        counts before.
        """
        self.begin()
        self.peer.sends(b"HTTP/1.1 503 No\r\nContent-Length: 4\r\n\r\n")
        self.clock.pump([0, 0])
        self.assertEqual((self.changes, self.peer.closed), ([False], False))
        self.peer.sends(b"body")
        self.clock.pump([0, 0])
        self.assertEqual((self.peer.closed, self.peer.reset), (True, False))

    def test_interim(self) -> None:
        """An interim response is not the response."""
        self.begin()
        self.answer(b"HTTP/1.1 103 Early Hints\r\n\r\n" + BAD)
        self.assertEqual(self.changes, [False])

    def test_switched(self) -> None:
        """A switch of protocols is a failure."""
        self.begin()
        self.peer.sends(b"HTTP/1.1 101 X\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n")
        self.assertIn("its health check failed", self.failure())

    def test_jitter(self) -> None:
        """Checks come a little earlier or later than the interval says, each anew."""
        self.check = self.open(Random(1).random, interval=10.0)
        began: list[float] = []

        def refuse() -> None:
            began.append(self.clock.seconds())
            self.place.refuse()

        self.place.decision = refuse
        self.check.start()
        self.clock.pump([0.01] * 10_000)
        gaps = [two - one for one, two in pairwise(began)]
        self.assertEqual(len({round(each, 2) for each in gaps}), len(gaps))
        for each in gaps:
            self.assertApproximates(each, 10, 10 * JITTER + 0.02)
        self.assertLess(began[0], 10 * JITTER)

    def test_stop(self) -> None:
        """The end gives up a check under way, and leaves nothing behind."""
        self.begin()
        stopped = self.check.stop()
        self.clock.pump([0, 0])
        self.successResultOf(stopped)
        self.assertTrue(self.peer.reset)
        self.assertEqual((self.changes, self.clock.getDelayedCalls()), ([], []))

    def test_stopBetween(self) -> None:
        """So it does between two checks."""
        self.begin()
        self.answer(OK)
        self.peer.sends(OK)
        self.clock.pump([0, 0])
        self.successResultOf(self.check.stop())
        self.assertEqual(self.clock.getDelayedCalls(), [])
