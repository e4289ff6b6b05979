"""
Tests of L{sitio.upstream.endpoint}: what an endpoint counts, and its state.
"""

from __future__ import annotations

from typing import Any

from attrs import define, field
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from sitio.errors import (
    ClientGone,
    ConnectFailed,
    ConnectTimeout,
    PoolExhausted,
    SitioError,
    UpstreamLost,
    UpstreamTimeout,
)
from sitio.test.helpers.upstreams import occupy, someEndpoint
from sitio.upstream.endpoint import LEAST_SHARE, MAX_SENTENCE, Endpoint


@define
class Judge:
    """Notes down how often an endpoint has failed in a row."""

    told: list[int] = field(factory=list)

    def failedInARow(self, endpoint: Endpoint) -> None:
        self.told.append(endpoint.inARow)


class EndpointTests(SynchronousTestCase):
    """One endpoint."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.judge = Judge()
        self.endpoint = someEndpoint(self.clock, judge=self.judge, weight=4, slowStart=10.0)

    def snapshot(self) -> Any:
        return self.endpoint.snapshot()

    def test_answered(self) -> None:
        """A response counts, with its time; below 500 it ends a row of failures."""
        self.endpoint.failed(ConnectFailed())
        self.endpoint.answered(404, 0.25)
        found = self.snapshot()
        self.assertEqual((found["answered"], found["seconds"], found["failed"]), (1, 0.25, 1))
        self.assertEqual(self.endpoint.inARow, 0)

    def test_failures(self) -> None:
        """Statuses of 500 and above, and failures of the upstream, make a row."""
        self.endpoint.answered(503, 0.1)
        for each in (ConnectFailed, ConnectTimeout, UpstreamLost, UpstreamTimeout):
            self.endpoint.failed(each("no luck"))
        self.assertEqual(self.judge.told, [1, 2, 3, 4, 5])
        found = self.snapshot()
        self.assertEqual((found["answered"], found["failed"]), (1, 5))
        self.assertEqual(found["lastFailure"], "no luck")

    def test_faultOfOthers(self) -> None:
        """A client that has gone and a full pool say nothing about the endpoint."""
        for each in (ClientGone, PoolExhausted, SitioError):
            self.endpoint.failed(each())
        self.assertEqual((self.judge.told, self.snapshot()["failed"]), ([], 0))

    def test_faultOfTheRequest(self) -> None:
        """501 and 505 speak of the request: no client can take an endpoint out of service."""
        for status in (501, 505):
            self.endpoint.answered(status, 0.0)
        self.assertEqual((self.judge.told, self.snapshot()["failed"]), ([], 0))

    def test_longSentence(self) -> None:
        """The last failure is kept in a limited length."""
        self.endpoint.failed(ConnectFailed("x" * 1000))
        self.assertEqual(len(self.snapshot()["lastFailure"]), MAX_SENTENCE)

    def test_slowStart(self) -> None:
        """After L{Endpoint.warm} the share grows from a little to the weight."""
        shares = [self.endpoint.share(self.clock.seconds())]
        self.endpoint.warm()
        for _ in range(5):
            shares.append(self.endpoint.share(self.clock.seconds()))
            self.clock.advance(2.5)
        self.assertEqual(shares, [4, 4 * LEAST_SHARE, 1, 2, 3, 4])

    def test_withoutSlowStart(self) -> None:
        """With a slow start of 0 seconds the share is whole at once."""
        endpoint = someEndpoint(self.clock)
        endpoint.warm()
        self.assertEqual((endpoint.share(0.0), endpoint.state), (1, "healthy"))

    def test_state(self) -> None:
        """The state that says most is shown."""
        endpoint = self.endpoint
        states = [endpoint.state]
        endpoint.warm()
        states.append(endpoint.state)
        endpoint.isHealthy = False
        states.append(endpoint.state)
        endpoint.isEjected = True
        states.append(endpoint.state)
        endpoint.isDraining = True
        states.append(endpoint.state)
        self.assertEqual(states, ["healthy", "warming", "unhealthy", "ejected", "draining"])

    def test_connections(self) -> None:
        """The snapshot has the requests and the connections of its pool."""
        occupy(self.endpoint, 2)
        found = self.snapshot()
        self.assertEqual((found["outstanding"], found["open"], found["idle"]), (2, 2, 0))
        self.assertEqual((found["sent"], found["states"]), (0, {"healthy": 1}))
