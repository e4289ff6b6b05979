"""
Tests of L{sitio.upstream.ejection}: endpoints whose requests fail get none for a while.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase

from sitio.errors import ConnectFailed, UpstreamTimeout
from sitio.test.helpers.upstreams import someEndpoint
from sitio.upstream.ejection import Ejections, EjectionSettings
from sitio.upstream.endpoint import Endpoint


class EjectionTests(SynchronousTestCase):
    """Endpoints of one upstream."""

    def setUp(self) -> None:
        self.open(3)

    def open(self, count: int, **settings: Any) -> None:
        """Make so many endpoints that are ejected by these settings."""
        self.clock = Clock()
        self.members: list[Endpoint] = []
        self.changes: list[list[str]] = []
        self.ejections = Ejections(
            EjectionSettings(**settings),
            self.clock,
            lambda: self.members,
            lambda: self.changes.append(self.ejected()),
            Logger(),
            "photos",
        )
        self.members += [
            someEndpoint(self.clock, f"e{number}", slowStart=8.0, judge=self.ejections)
            for number in range(count)
        ]

    def ejected(self) -> list[str]:
        return [each.address for each in self.members if each.isEjected]

    def failing(self, number: int, times: int = 5) -> None:
        for _ in range(times):
            self.members[number].failed(ConnectFailed())

    def test_inARow(self) -> None:
        """As many failures in a row as the setting says eject an endpoint, and not fewer."""
        self.failing(0, 4)
        self.assertEqual(self.ejected(), [])
        self.members[0].failed(UpstreamTimeout())
        self.assertEqual(self.ejected(), ["e0"])
        self.assertEqual(self.changes, [["e0"]])
        self.assertEqual(self.members[0].ejections, 1)

    def test_interrupted(self) -> None:
        """A response in between begins the row anew; one with 500 does not."""
        self.failing(0, 4)
        self.members[0].answered(200, 0.1)
        self.failing(0, 3)
        self.members[0].answered(500, 0.1)
        self.assertEqual(self.ejected(), [])
        self.members[0].answered(502, 0.1)
        self.assertEqual(self.ejected(), ["e0"])

    def test_returns(self) -> None:
        """After its time an endpoint returns through slow start."""
        self.failing(0)
        self.clock.advance(29.9)
        self.assertEqual(self.ejected(), ["e0"])
        self.clock.advance(0.2)
        self.assertEqual(self.changes, [["e0"], []])
        self.assertEqual(self.members[0].state, "warming")

    def test_probation(self) -> None:
        """An endpoint that has returned is ejected by one failure, until it has answered."""
        self.failing(0)
        self.clock.advance(30)
        self.failing(0, 1)
        self.assertEqual(self.ejected(), ["e0"])
        self.clock.advance(60)
        self.members[0].answered(200, 0.1)
        self.failing(0, 4)
        self.assertEqual(self.ejected(), [])

    def times(self, pause: float, count: int) -> list[float]:
        """The seconds of so many ejections with these pauses between them."""
        found = []
        for _ in range(count):
            self.failing(0)
            began = self.clock.seconds()
            while self.ejected():
                self.clock.advance(1)
            found.append(self.clock.seconds() - began)
            self.clock.advance(pause)
        return found

    def test_longer(self) -> None:
        """Each ejection is longer than the one before, up to the longest."""
        self.open(3, time=10.0, maxTime=35.0)
        self.assertEqual(self.times(5, 5), [10, 20, 30, 35, 35])

    def test_forgiven(self) -> None:
        """An endpoint that has stayed for the longest time begins anew."""
        self.open(3, time=10.0, maxTime=35.0)
        self.assertEqual(self.times(36, 3), [10, 10, 10])

    def test_share(self) -> None:
        """Not more than a share of the endpoints is ejected at one time, rounded up."""
        for count, most in ((2, 1), (3, 2), (4, 2), (5, 3)):
            self.open(count)
            for number in range(count):
                self.failing(number)
            self.assertEqual(len(self.ejected()), most, count)

    def test_neverAll(self) -> None:
        """The last endpoint stays, whatever the share is."""
        for count in (1, 2, 5):
            self.open(count, maxShare=1.0)
            for number in range(count):
                self.failing(number)
            self.assertEqual(len(self.ejected()), count - 1)

    def test_noShare(self) -> None:
        """With a share of 0 nothing is ejected."""
        self.open(4, maxShare=0.0)
        self.failing(0)
        self.assertEqual(self.ejected(), [])

    def test_roomAgain(self) -> None:
        """An endpoint that goes on failing is ejected once another has returned."""
        self.open(2)
        self.failing(0)
        self.failing(1)
        self.assertEqual(self.ejected(), ["e0"])
        self.clock.advance(30)
        self.failing(1, 1)
        self.assertEqual(self.ejected(), ["e1"])

    def test_whileEjected(self) -> None:
        """Requests that were under way neither lengthen an ejection nor count as another."""
        self.failing(0, 50)
        self.clock.advance(30)
        self.assertEqual((self.ejected(), self.members[0].ejections), ([], 1))

    def test_forget(self) -> None:
        """Of endpoints that have left, and after the end, nothing is left on the clock."""
        self.failing(0)
        self.failing(1)
        self.ejections.forget(self.members[0])
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.ejections.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_draining(self) -> None:
        """An endpoint that has left is not ejected."""
        self.members[0].isDraining = True
        self.failing(0)
        self.assertEqual(self.ejected(), [])
