"""
Tests of L{sitio.upstream.identified}: connections that belong to one client.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import define, field
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from sitio.errors import ConnectFailed, PoolExhausted
from sitio.net.deadlines import Deadlines
from sitio.net.proxyheader import headerFor
from sitio.net.proxyprotocol import parseHeader
from sitio.settings import Settings
from sitio.test.helpers.messages import OK, get
from sitio.test.helpers.receivers import Receiver
from sitio.testing import MemoryEndpoint
from sitio.upstream.client import ProxyClient
from sitio.upstream.identified import MAX_KEPT, IdentifiedBalancer, IdentifiedEndpoint
from sitio.upstream.pool import UpstreamPool

HERE = IPv4Address("TCP", "192.0.2.80", 8080)


@define
class Downstream:
    """The connection of a client."""

    peer: Any
    host: Any = HERE
    kept: dict[Any, Any] | None = None

    def ends(self) -> tuple[Any, Any]:
        return self.peer, self.host


@define
class Asking:
    """An exchange, as an upstream sees it."""

    downstream: Downstream
    peerAddress: str
    clientAddress: str


@define(eq=False)
class Place:
    """
    An endpoint.

    @ivar told: what it was told.
    """

    pool: UpstreamPool
    address: str = "10.0.0.9:8087"
    told: list[Any] = field(factory=list)

    def answered(self, status: int, seconds: float) -> None:
        self.told.append((status, seconds))

    def failed(self, error: Exception) -> None:
        self.told.append(error)


@define(eq=False)
class Balancer:
    """
    A balancer that chooses the first endpoint that was not tried.

    @ivar tried: what it was told of earlier attempts.
    """

    endpoints: Sequence[Place] = ()
    tried: list[Sequence[Any]] = field(factory=list)

    def update(self, members: Sequence[Place], usable: Sequence[Place]) -> None:
        self.endpoints = usable

    def choose(self, exchange: Any, tried: Sequence[Any]) -> Place | None:
        self.tried.append(tried)
        return next((each for each in self.endpoints if each not in tried), None)


def exchange(port: int = 40000, client: str = "", peer: str = "192.0.2.1") -> Any:
    """An exchange of a client connection with this port."""
    return Asking(Downstream(IPv4Address("TCP", peer, port)), peer, client or peer)


class IdentifiedTests(SynchronousTestCase):
    """Whose requests a connection carries."""

    def setUp(self) -> None:
        self.open()

    def open(self, **settings: Any) -> None:
        """Make a new upstream with these settings."""
        self.clock = Clock()
        self.endpoint = MemoryEndpoint(self.clock)
        self.pool = UpstreamPool(
            self.clock, self.endpoint, Settings(**settings), Deadlines(self.clock)
        )
        self.place = Place(self.pool)
        self.inner = Balancer()
        self.balancer = IdentifiedBalancer(self.inner)
        self.balancer.update([self.place], [self.place])

    def choose(self, asking: Any, tried: Sequence[Any] = ()) -> IdentifiedEndpoint:
        """The endpoint for an exchange."""
        found = self.balancer.choose(asking, tried)
        assert isinstance(found, IdentifiedEndpoint)
        return found

    def ask(self, asking: Any) -> ProxyClient:
        """Send a request as an exchange does; the connection that carries it."""
        pool = self.choose(asking).pool
        client = pool.takeIdle()
        if client is None:
            acquired = pool.acquire()
            self.clock.advance(0)
            client = self.successResultOf(acquired)
        client.sendRequest(Receiver(), get(), b"", True)
        self.clock.advance(0)
        return client

    def answer(self, client: ProxyClient) -> bytes:
        """Send the response; returns what the upstream has received on this connection."""
        peer = next(each for each in self.endpoint.peers if each.transport.protocol is client)
        got = peer.got()
        peer.sends(OK)
        return got

    def test_header(self) -> None:
        """A connection begins with the client's address and port, before its first request."""
        asking = exchange()
        client = self.ask(asking)
        got = self.answer(client)
        header = headerFor(asking.downstream.peer, HERE)
        self.assertEqual(got, header + b"GET / HTTP/1.1\r\n" + got[len(header) + 16 :])
        self.assertEqual(parseHeader(got), (len(header), asking.downstream.peer))

    def test_reused(self) -> None:
        """The next request of this client takes the same connection, without a second header."""
        asking = exchange()
        client = self.ask(asking)
        self.answer(client)
        again = self.ask(asking)
        self.assertIs(again, client)
        self.assertTrue(self.answer(again).startswith(b"GET / "))

    def test_others(self) -> None:
        """No other client gets it, nor the same host by another connection."""
        first = self.ask(exchange(40000))
        self.answer(first)
        for asking in (exchange(40001), exchange(40000), exchange(40000, peer="192.0.2.2")):
            other = self.ask(asking)
            self.assertIsNot(other, first)
            self.assertTrue(self.answer(other).startswith(headerFor(asking.downstream.peer, HERE)))
        self.assertEqual(self.pool.snapshot(), {"open": 4, "idle": 4, "waiting": 0})

    def test_together(self) -> None:
        """Requests of one client at the same time have a connection each, and keep both."""
        asking = exchange()
        both = [self.ask(asking), self.ask(asking)]
        self.assertIsNot(both[0], both[1])
        for each in both:
            self.assertTrue(self.answer(each).startswith(b"\r\n\r\n\x00"))
        self.assertEqual({self.ask(asking), self.ask(asking)}, set(both))

    def test_closed(self) -> None:
        """When the upstream has closed it, the next request opens another, with the header."""
        asking = exchange()
        client = self.ask(asking)
        self.answer(client)
        self.endpoint.peers[0].closes()
        again = self.ask(asking)
        self.assertIsNot(again, client)
        self.assertTrue(self.answer(again).startswith(b"\r\n\r\n\x00"))

    def test_expires(self) -> None:
        """An idle one is closed like any other."""
        self.answer(self.ask(exchange()))
        for _ in range(20):
            self.clock.advance(1)
        self.assertEqual(self.pool.snapshot()["open"], 0)

    def test_full(self) -> None:
        """In a full pool an idle connection of another client makes room."""
        self.open(poolSize=2)
        clients = [self.ask(exchange(port)) for port in (1, 2)]
        for each in clients:
            self.answer(each)
        self.answer(self.ask(exchange(3)))
        self.assertEqual([each.isOpen() for each in clients], [False, True])
        self.assertEqual(self.pool.snapshot(), {"open": 2, "idle": 2, "waiting": 0})

    def test_waits(self) -> None:
        """One that waits does not get the connection that is released, but a new one."""
        self.open(poolSize=1)
        busy = self.ask(exchange(1))
        asking = exchange(2)
        waiting = self.choose(asking).pool.acquire()
        self.assertNoResult(waiting)
        self.answer(busy)
        self.clock.advance(0)
        client = self.successResultOf(waiting)
        self.assertFalse(busy.isOpen())
        client.sendRequest(Receiver(), get(), b"", True)
        self.assertTrue(self.answer(client).startswith(headerFor(asking.downstream.peer, HERE)))

    def test_queueIsFull(self) -> None:
        """What the pool refuses is refused."""
        self.open(poolSize=1, poolQueue=0)
        self.ask(exchange(1))
        self.failureResultOf(self.choose(exchange(2)).pool.acquire(), PoolExhausted)

    def test_cancelled(self) -> None:
        """An exchange that ends while it waits takes nothing with it."""
        self.endpoint.decision = None
        acquired = self.choose(exchange()).pool.acquire()
        self.clock.advance(0)
        acquired.cancel()
        self.failureResultOf(acquired)
        self.assertEqual(self.pool.snapshot()["open"], 0)

    # Clients behind trusted proxies

    def test_trusted(self) -> None:
        """Behind a trusted proxy, each of its clients has connections of its own."""
        downstream = Downstream(IPv4Address("TCP", "10.0.0.1", 40000))
        asked = {
            client: Asking(downstream, "10.0.0.1", client)
            for client in ("198.51.100.7", "2001:db8::7", "10.0.0.1")
        }
        connections = {}
        for client, asking in asked.items():
            connections[client] = self.ask(asking)
            found = parseHeader(self.answer(connections[client]))
            assert found is not None and found.source is not None
            # The port of the proxy says nothing of its client.
            port = 40000 if client == "10.0.0.1" else 0
            self.assertEqual((found.source.host, found.source.port), (client, port))
        for client, asking in asked.items():
            again = self.ask(asking)
            self.assertIs(again, connections[client])
            self.answer(again)

    def test_unixSockets(self) -> None:
        """A proxy that comes by a UNIX socket may tell of clients that don't."""
        ends = UNIXAddress(None), UNIXAddress(b"/run/sitio.sock")
        told = self.ask(Asking(Downstream(*ends), "unknown", "198.51.100.7"))
        found = parseHeader(self.answer(told))
        assert found is not None and found.source is not None
        self.assertEqual(found.source.host, "198.51.100.7")
        untold = self.ask(Asking(Downstream(*ends), "unknown", "unknown"))
        self.assertTrue(self.answer(untold).startswith(headerFor(*ends)))

    def test_bounded(self) -> None:
        """Of one client connection so many are known; the one that was used last stays."""
        downstream = Downstream(IPv4Address("TCP", "10.0.0.1", 40000))
        asked = [
            Asking(downstream, "10.0.0.1", f"198.51.100.{number}") for number in range(MAX_KEPT + 1)
        ]
        first = self.choose(asked[0])
        for each in asked[1:-1]:
            self.choose(each)
        self.assertIs(self.choose(asked[0]), first)
        assert downstream.kept is not None
        second = downstream.kept[self.place, "198.51.100.1"]
        self.choose(asked[-1])
        self.assertEqual(len(downstream.kept), MAX_KEPT)
        self.assertIs(self.choose(asked[0]), first)
        self.assertIsNot(self.choose(asked[1]), second)

    # Upstreams of several endpoints

    def test_tried(self) -> None:
        """Each endpoint has its own; the balancer within knows which were tried."""
        other = Place(self.pool, "10.0.0.10:8087")
        self.balancer.update([], [self.place, other])
        asking = exchange()
        tried = [self.choose(asking)]
        tried.append(self.choose(asking, tried))
        self.assertEqual([each.endpoint for each in tried], [self.place, other])
        self.assertEqual([each.address for each in tried], ["10.0.0.9:8087", "10.0.0.10:8087"])
        self.assertIsNone(self.balancer.choose(asking, tried))
        self.assertEqual(self.inner.tried[-1], [self.place, other])

    def test_told(self) -> None:
        """What becomes of an attempt is told the endpoint."""
        error = ConnectFailed("no")
        endpoint = self.choose(exchange())
        endpoint.answered(200, 0.5)
        endpoint.failed(error)
        self.assertEqual(self.place.told, [(200, 0.5), error])
