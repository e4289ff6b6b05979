"""
A whole sidecar in memory: L{Harness}.

The real core, with a L{Clock} for its time and L{Peer}s for its network.  The
tests of sitio speak to it in bytes; L{sitio.testing} builds on it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any

from attrs import define, field
from twisted.internet.task import Clock

from sitio.errors import SitioError
from sitio.net.deadlines import Deadlines
from sitio.policy.chain import Chain
from sitio.policy.loader import namedPolicies
from sitio.proxy.context import ProxyContext
from sitio.proxy.exchange import Exchange
from sitio.proxy.factory import ProxyServerFactory
from sitio.settings import Settings
from sitio.testing.network import CLIENT_ADDRESS, MemoryEndpoint, Peer
from sitio.upstream.pool import UpstreamPool


class _Chain(Chain):
    """A chain that keeps what policies raised."""

    def __init__(self, policies: Iterable[tuple[str, Any]], clock: Clock, timeout: float) -> None:
        Chain.__init__(self, policies, clock=clock, timeout=timeout)
        self.errors: list[BaseException] = []

    def _failed(self, member: Any, outcome: str) -> None:
        error = sys.exc_info()[1]
        assert error is not None
        self.errors.append(error)
        Chain._failed(self, member, outcome)


@define(eq=False)
class _Context(ProxyContext):
    """A context that keeps the exchanges that have ended, and every failure of one."""

    ended: list[Exchange] = field(factory=list, init=False)
    failures: list[SitioError] = field(factory=list, init=False)

    def exchangeFailed(self, error: SitioError) -> None:
        self.failures.append(error)
        ProxyContext.exchangeFailed(self, error)

    def exchangeFinished(self, exchange: Exchange) -> None:
        ProxyContext.exchangeFinished(self, exchange)
        self.ended.append(exchange)


class Harness:
    """
    A whole sidecar in memory, between clients and an upstream that a test plays.

    @ivar clock: its time; see also L{advance}.
    @ivar context: what its exchanges share.
    @ivar factory: the L{ProxyServerFactory}.
    @ivar pool: the L{UpstreamPool}.
    @ivar exchanges: those that have ended, in that order.
    @ivar errors: what policies raised.
    @ivar failures: each L{SitioError} that an exchange met.
    """

    def __init__(
        self,
        policies: Any = (),
        *,
        settings: Settings | None = None,
        host: bytes = b"localhost",
        via: bytes | None = None,
        clock: Clock | None = None,
        observers: Iterable[Any] = (),
    ) -> None:
        """@param policies: as L{named} takes them."""
        self.clock = clock or Clock()
        settings = settings or Settings()
        deadlines = Deadlines(self.clock)
        chain = _Chain(namedPolicies(policies), self.clock, settings.policyTimeout)
        self.endpoint = MemoryEndpoint(self.clock)
        self.pool = UpstreamPool(self.clock, self.endpoint, settings, deadlines)
        self.context = _Context(
            self.clock, self.pool, chain, settings, host, via, observers=observers
        )
        self.factory = ProxyServerFactory(self.context, deadlines)
        self.exchanges = self.context.ended
        self.errors = chain.errors
        self.failures = self.context.failures
        self.clients: list[Peer] = []

    def connect(self, address: str = CLIENT_ADDRESS, secure: bool = False) -> Peer:
        """
        A client connects.

        @param secure: whether by TLS, which has no half-close.
        """
        client = Peer(self.clock, address, secure)
        self.clients.append(client)
        protocol = self.factory.buildProtocol(client.transport.getPeer())
        client.connect(protocol)
        self.settle()
        return client

    @property
    def upstreams(self) -> list[Peer]:
        """The upstream's ends of all connections that sitio has opened, in that order."""
        self.settle()
        return self.endpoint.peers

    def upstream(self, number: int = 0) -> Peer:
        """The upstream's end of the connection that sitio opened after so many others."""
        peers = self.upstreams
        if number >= len(peers):
            raise AssertionError(f"sitio has opened {len(peers)} connections so far")
        return peers[number]

    def acceptConnections(self) -> None:
        """The upstream accepts connections, those that are pending and those to come."""
        self._decide(self.endpoint.accept)

    def refuseConnections(self) -> None:
        """The upstream refuses connections, those that are pending and those to come."""
        self._decide(self.endpoint.refuse)

    def holdConnections(self) -> None:
        """The upstream leaves new connections pending; L{accept} accepts one."""
        self._decide(None)

    def accept(self) -> Peer:
        """The upstream accepts the connection that is pending longest."""
        if not self.endpoint.pending:
            raise AssertionError("no connection is pending")
        self.endpoint.accept()
        self.settle()
        return self.endpoint.peers[-1]

    def _decide(self, verdict: Callable[[], None] | None) -> None:
        self.settle()
        self.endpoint.decision = verdict
        self.endpoint.decide()
        self.settle()

    def settle(self) -> None:
        """Let everything happen that needs no time."""
        self.clock.advance(0)

    def advance(self, seconds: float) -> None:
        """Let time pass, calling what is due at the moment when it is due."""
        self.settle()
        until = self.clock.seconds() + seconds
        while True:
            due = nextCall(self.clock)
            if due is None or due > until:
                break
            self.clock.advance(max(0.0, due - self.clock.seconds()))
        self.clock.advance(max(0.0, until - self.clock.seconds()))

    def closeAll(self) -> None:
        """Every peer closes, and what is pending is refused."""
        self.refuseConnections()
        for each in [*self.endpoint.peers, *self.clients]:
            each.closes()
        self.settle()

    def assertQuiet(self) -> None:
        """
        Close everything, and then nothing is left: no connection, no delayed call.

        @raise AssertionError: something is.
        """
        self.closeAll()
        left = {
            "clients": [each for each in self.clients if each.transport.connected],
            "upstreams": [each for each in self.endpoint.peers if each.transport.connected],
            "connections of the server": self.factory.connections,
            "connections of the pool": self.pool.snapshot(),
            "delayed calls": [str(each) for each in self.clock.getDelayedCalls()],
        }
        nothing = {"open": 0, "idle": 0, "waiting": 0}
        found = [f"{name}: {what}" for name, what in left.items() if what and what != nothing]
        if found:
            raise AssertionError("this is left: " + "; ".join(found))


def nextCall(clock: Clock) -> float | None:
    """When the next delayed call of a clock is due, or L{None} for never."""
    return min((each.getTime() for each in clock.getDelayedCalls()), default=None)
