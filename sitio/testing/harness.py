"""
A whole sidecar in memory: L{Harness}.

It is the real proxy, with a L{Clock} in place of time and L{Peer}s in place of the
network.  The tests of sitio exchange bytes with it; L{sitio.testing} is built on it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any

from attrs import define, field
from twisted.internet.task import Clock
from twisted.trial.unittest import FailTest

from sitio.errors import SitioError
from sitio.http.claims import APPEND
from sitio.http.peer import PeerCertificate
from sitio.net.deadlines import Deadlines
from sitio.policy.chain import Chain
from sitio.policy.loader import namedPolicies
from sitio.proxy.context import ProxyContext
from sitio.proxy.exchange import Exchange
from sitio.proxy.factory import ProxyServerFactory
from sitio.proxy.generation import Generation, Route
from sitio.proxy.trust import ForwardedSettings
from sitio.settings import Settings
from sitio.testing.loop import ClockLoop
from sitio.testing.network import CLIENT_ADDRESS, MemoryEndpoint, Peer
from sitio.upstream.fixed import FixedUpstream
from sitio.upstream.pool import UpstreamPool


class _Chain(Chain):
    """A chain that records the exceptions of its policies."""

    def __init__(self, policies: Iterable[tuple[str, Any]], clock: Clock, timeout: float) -> None:
        Chain.__init__(self, policies, clock=clock, timeout=timeout)
        self.errors: list[BaseException] = []

    def _failed(self, member: Any, outcome: str, exchange: Any = None) -> None:
        error = sys.exc_info()[1]
        assert error is not None
        self.errors.append(error)
        Chain._failed(self, member, outcome, exchange)


@define(eq=False)
class _Context(ProxyContext):
    """A context that records ended exchanges and all failures."""

    ended: list[Exchange] = field(factory=list, init=False)
    failures: list[SitioError] = field(factory=list, init=False)

    def exchangeFailed(self, error: SitioError, exchange: Exchange) -> None:
        self.failures.append(error)
        ProxyContext.exchangeFailed(self, error, exchange)

    def exchangeFinished(self, exchange: Exchange) -> None:
        ProxyContext.exchangeFinished(self, exchange)
        self.ended.append(exchange)


class Harness:
    """
    A whole sidecar in memory.  A test plays its clients and its upstream.

    @ivar clock: the time of the sidecar; see also L{advance}.
    @ivar loop: the L{ClockLoop}, for policies that await asyncio.
    @ivar context: the L{ProxyContext}.
    @ivar factory: the L{ProxyServerFactory}.
    @ivar pool: the L{UpstreamPool}.
    @ivar exchanges: the ended exchanges, in the order of their ends.
    @ivar errors: the exceptions that policies raised.
    @ivar failures: each L{SitioError} of an exchange.
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
        date: Callable[[], bytes] = bytes,
        keepsFolded: bool = False,
        forwarded: ForwardedSettings | str = APPEND,
        mark: str = "",
        generation: Callable[[Route], Generation] | None = None,
    ) -> None:
        """
        @param policies: as L{named} takes them.
        @param date: returns the line Date for responses without one; by default none is
            added, so that responses are the same at each run.
        @param keepsFolded: C{--keep-underscores}.
        @param forwarded: C{--forwarded}, or all that is said of forwarded fields.
        @param mark: marks requests; by default they have no mark.
        @param generation: makes what is configured of the usual only route;
            by default all requests take that route.
        """
        self.clock = clock or Clock()
        self.loop = ClockLoop(self.clock)
        settings = settings or Settings()
        deadlines = Deadlines(self.clock)
        chain = _Chain(namedPolicies(policies), self.clock, settings.policyTimeout)
        self.endpoint = MemoryEndpoint(self.clock)
        self.pool = UpstreamPool(self.clock, self.endpoint, settings, deadlines)
        route = Route(chain, FixedUpstream("upstream", self.pool), settings, via=via)
        self.context = _Context(
            self.clock,
            Generation.ofOne(route) if generation is None else generation(route),
            host,
            observers=observers,
            date=date,
            keepsFolded=keepsFolded,
            forwarded=forwarded,
            mark=mark,
        )
        self.factory = ProxyServerFactory(self.context, deadlines)
        self.exchanges = self.context.ended
        self.errors = chain.errors
        self.failures = self.context.failures
        self.clients: list[Peer] = []

    def connect(
        self,
        address: str = CLIENT_ADDRESS,
        secure: bool = False,
        certificate: PeerCertificate | None = None,
    ) -> Peer:
        """
        Connect a client.

        @param secure: whether the client uses TLS, which has no half-close.
        @param certificate: what the client's certificate says, if it has one.
        """
        client = Peer(self.clock, address, secure, certificate)
        self.clients.append(client)
        protocol = self.factory.buildProtocol(client.transport.getPeer())
        client.connect(protocol)
        self.settle()
        return client

    @property
    def upstreams(self) -> list[Peer]:
        """The upstream's ends of all connections, in the order in which sitio opened them."""
        self.settle()
        return self.endpoint.peers

    def upstream(self, number: int = 0) -> Peer:
        """The upstream's end of the connection with this number; the first has number 0."""
        peers = self.upstreams
        if number >= len(peers):
            raise FailTest(f"sitio has opened {len(peers)} connections so far")
        return peers[number]

    def acceptConnections(self) -> None:
        """The upstream accepts all pending and later connections."""
        self._decide(self.endpoint.accept)

    def refuseConnections(self) -> None:
        """The upstream refuses all pending and later connections."""
        self._decide(self.endpoint.refuse)

    def holdConnections(self) -> None:
        """The upstream leaves new connections pending; L{accept} accepts one."""
        self._decide(None)

    def accept(self) -> Peer:
        """The upstream accepts the oldest pending connection."""
        if not self.endpoint.pending:
            raise FailTest("no connection is pending")
        self.endpoint.accept()
        self.settle()
        return self.endpoint.peers[-1]

    def _decide(self, verdict: Callable[[], None] | None) -> None:
        self.settle()
        self.endpoint.decision = verdict
        self.endpoint.decide()
        self.settle()

    def settle(self) -> None:
        """Run all calls that are due now."""
        self.clock.advance(0)

    def advance(self, seconds: float) -> None:
        """Let time pass, and run each delayed call at its exact time."""
        self.settle()
        until = self.clock.seconds() + seconds
        while True:
            due = nextCall(self.clock)
            if due is None or due > until:
                break
            self.clock.advance(max(0.0, due - self.clock.seconds()))
        self.clock.advance(max(0.0, until - self.clock.seconds()))

    def closeAll(self) -> None:
        """Close all peers, and refuse pending connections."""
        self.refuseConnections()
        for each in [*self.endpoint.peers, *self.clients]:
            each.closes()
        self.settle()

    def assertQuiet(self) -> None:
        """
        Close everything, and check that no connection and no delayed call is left.

        @raise AssertionError: something is left.
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
            raise FailTest("this is left: " + "; ".join(found))


def nextCall(clock: Clock) -> float | None:
    """The time of the next delayed call of a clock, or L{None} if there is none."""
    return min((each.getTime() for each in clock.getDelayedCalls()), default=None)
