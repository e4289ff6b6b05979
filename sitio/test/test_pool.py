"""
Promises of L{sitio.pool}: the connections to the upstream.
"""

from __future__ import annotations

from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectionRefusedError, TimeoutError
from twisted.internet.interfaces import IProtocolFactory, IStreamClientEndpoint
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from sitio import client as states
from sitio.client import ProxyClient
from sitio.errors import ConnectFailed, ConnectTimeout, PoolExhausted
from sitio.pool import REST_TIMEOUT, UpstreamPool
from sitio.settings import Settings
from sitio.sweep import PERIOD, Sweep
from sitio.test.test_client import OK, Heard, get
from sitio.testing import MemoryEndpoint, Peer


@implementer(IStreamClientEndpoint)
@define
class Failing:
    """An endpoint that fails at once, as one with a malformed name does."""

    tries: int = 0

    def connect(self, factory: IProtocolFactory) -> Deferred[Any]:
        self.tries += 1
        return fail(ValueError("no such name"))


class PoolCase(SynchronousTestCase):
    """A pool whose upstream is played by the test."""

    def setUp(self) -> None:
        self.open()

    def open(self, **settings: Any) -> None:
        """A new pool with these settings."""
        self.clock = Clock()
        self.endpoint = MemoryEndpoint(self.clock)
        self.sweep = Sweep(self.clock)
        self.pool = UpstreamPool(self.clock, self.endpoint, Settings(**settings), self.sweep)

    def settle(self) -> None:
        self.clock.advance(0)

    def advance(self, seconds: float) -> None:
        """Let time pass, in steps that the sweep notices."""
        while seconds > 0:
            self.clock.advance(min(seconds, PERIOD))
            seconds -= PERIOD

    def acquire(self, fresh: bool = False) -> ProxyClient:
        """A connection, at once."""
        acquired = self.pool.acquire(fresh)
        self.settle()
        return self.successResultOf(acquired)

    def peer(self, client: ProxyClient) -> Peer:
        """The upstream's end of a connection."""
        return next(each for each in self.endpoint.peers if each.transport.protocol is client)

    def use(self, client: ProxyClient) -> None:
        """Let a connection carry one request and its reply."""
        client.ask(Heard(), get(), b"", True)
        self.peer(client).sends(OK)

    def state(self) -> tuple[int, int, int]:
        """How many are open, idle, waiting."""
        return tuple(self.pool.snapshot().values())  # type: ignore[return-value]


class Waiting(PoolCase):
    """More requests than connections."""

    def test_failuresAtOnce(self) -> None:
        """
        However many wait, connections that fail at once are told to each of them,
        one connection for one of them.
        """
        self.open(poolSize=1)
        client = self.acquire()
        waiters = [self.pool.acquire() for _ in range(300)]
        failing = Failing()
        self.pool._endpoint = failing
        client.close()
        for each in waiters:
            error = self.failureResultOf(each, ConnectFailed).value
            self.assertEqual(str(error), "no connection to the upstream: no such name")
        self.assertEqual(failing.tries, 300)
        self.assertEqual(self.state(), (0, 0, 0))

    def test_freshInTheQueue(self) -> None:
        """
        Who waits for a fresh connection keeps its place: when a used one comes
        free, that is closed, and a new one opened for it.
        """
        self.open(poolSize=1)
        client = self.acquire()
        self.use(client)
        self.assertIs(self.pool.take(), client)
        client.ask(Heard(), get(), b"", True)
        first = self.pool.acquire(fresh=True)
        second = self.pool.acquire()
        self.peer(client).sends(OK)
        self.settle()
        fresh = self.successResultOf(first)
        self.assertIsNot(fresh, client)
        self.assertEqual(fresh.asked, 0)
        self.assertNoResult(second)
        self.assertTrue(self.endpoint.peers[0].closed)
        self.use(fresh)
        self.assertIs(self.successResultOf(second), fresh)


class Stopping(PoolCase):
    """The end of a pool."""

    def test_untilTheLastHasGone(self) -> None:
        """It has stopped once every transport has closed, be its upstream slow to read."""
        client = self.acquire()
        self.peer(client).stopsReading()
        client.ask(Heard(), get(), b"", True)
        other = self.acquire()
        self.use(other)
        client.close(orderly=True)
        stopped = self.pool.stop()
        self.settle()
        self.assertTrue(self.peer(other).closed)
        self.assertNoResult(stopped)
        self.advance(REST_TIMEOUT + PERIOD)
        self.successResultOf(stopped)
        self.assertTrue(self.peer(client).reset)
        self.assertEqual(self.clock.getDelayedCalls(), [])
