"""
Calls of an application to foreign services: their Host, and what they get to know; and upstreams
that get a PROXY header.
"""

from __future__ import annotations

from typing import Any

from attrs import evolve
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from sitio import onRequest, onResponse
from sitio.config.model import Config, ForwardedConfig, RouteConfig
from sitio.config.policies import PolicyConfig
from sitio.config.upstreams import EndpointConfig, UpstreamConfig
from sitio.http.message import Response, Retry
from sitio.net.deadlines import Deadlines
from sitio.net.proxyprotocol import parseHeader
from sitio.policy.loader import namedPolicies
from sitio.testing import Harness
from sitio.testing.network import MemoryEndpoint, Peer
from sitio.wiring.plan import Plan

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

API = UpstreamConfig("api", endpoints=(EndpointConfig("tls:api.example:443"),))
LOCAL = UpstreamConfig("local", endpoints=(EndpointConfig("tcp:10.0.0.1:8087"),))


class Sidecar:
    """
    A whole sidecar in memory, of a configuration.

    @ivar endpoints: the places in memory to which it connects, by their descriptions.
    """

    def __init__(self, config: Config, policies: Any = (), **more: Any) -> None:
        clock = Clock()
        deadlines = Deadlines(clock)
        self.endpoints: dict[str, MemoryEndpoint] = {}

        def connect(address: str) -> Any:
            return self.endpoints.setdefault(address, MemoryEndpoint(clock))

        def generation(route: Any) -> Any:
            made = {"": namedPolicies(policies)}
            configured = evolve(config, policies=(PolicyConfig("of this test"),))
            plan = Plan(configured, clock, lambda upstream: connect, made)
            return plan.make(deadlines, None)

        self.harness = Harness(policies, clock=clock, generation=generation, **more)

    def ask(
        self, client: Peer, fields: bytes = b"Host: localhost:9000\r\n", line: bytes = b"GET /a"
    ) -> None:
        """Send a request."""
        client.sends(line + b" HTTP/1.1\r\n" + fields + b"\r\n")
        self.harness.settle()

    def peers(self, address: str) -> list[Peer]:
        """The upstream's ends of all connections to an address."""
        self.harness.settle()
        return self.endpoints[address].peers

    def got(self, address: str, number: int = -1, answer: bytes = OK) -> bytes:
        """What the upstream has got on a connection; it answers."""
        peer = self.peers(address)[number]
        got = peer.got()
        peer.sends(answer)
        return got


class HostTests(SynchronousTestCase):
    """C{host}: the Host that a service gets."""

    def request(self, upstream: UpstreamConfig, address: str, **more: Any) -> bytes:
        """What the service gets of a request for C{localhost:9000}."""
        sidecar = Sidecar(Config(upstreams=(upstream,)), mark="sitio-1", **more)
        sidecar.ask(sidecar.harness.connect("127.0.0.1"))
        return sidecar.got(address)

    def test_foreign(self) -> None:
        """A service by TLS gets its own name, and nothing of the application but its request."""
        self.assertEqual(
            self.request(API, "tls:api.example:443"),
            b"GET /a HTTP/1.1\r\nHost: api.example\r\nCDN-Loop: sitio-1\r\n\r\n",
        )

    def test_own(self) -> None:
        """The service behind sitio gets the client's, and is told of it."""
        got = self.request(LOCAL, "tcp:10.0.0.1:8087")
        self.assertIn(b"\r\nHost: localhost:9000\r\n", got)
        self.assertIn(b"\r\nX-Forwarded-For: 127.0.0.1\r\n", got)

    def test_seen(self) -> None:
        """A request policy that sees the fields changes nothing of that."""

        @onRequest
        def look(exchange: Any) -> None:
            self.assertEqual(exchange.request.headers["Host"], "localhost:9000")
            exchange.request.headers["X-Real-IP"] = "6.6.6.6"

        self.assertEqual(
            self.request(API, "tls:api.example:443", policies=(look,)),
            b"GET /a HTTP/1.1\r\nHost: api.example\r\nCDN-Loop: sitio-1\r\n\r\n",
        )

    def test_policy(self) -> None:
        """A Host that a policy sets goes out as it is."""

        @onRequest
        def call(exchange: Any) -> None:
            exchange.request.headers["Host"] = "other.example"

        got = self.request(API, "tls:api.example:443", policies=(call,))
        self.assertIn(b"\r\nHost: other.example\r\n", got)
        self.assertNotIn(b"localhost", got)

    def test_route(self) -> None:
        """The Host of a route, too."""
        config = Config(
            upstreams=(API,), routes=(RouteConfig(path="/a", hostForUpstream="a.example"),)
        )
        sidecar = Sidecar(config)
        sidecar.ask(sidecar.harness.connect())
        self.assertIn(b"\r\nHost: a.example\r\n", sidecar.got("tls:api.example:443"))

    def test_chosen(self) -> None:
        """
        What counts is the upstream that a policy has chosen at last: one that is foreign is told
        nothing, whatever the route was.
        """

        @onRequest
        def choose(exchange: Any) -> None:
            if exchange.request.path == "/api":
                exchange.upstream = "api"

        config = Config(upstreams=(LOCAL, API), routes=(RouteConfig(prefix="/", upstream="local"),))
        sidecar = Sidecar(config, (choose,))
        client = sidecar.harness.connect("127.0.0.1")
        sidecar.ask(client)
        self.assertIn(b"X-Forwarded-For: 127.0.0.1\r\n", sidecar.got("tcp:10.0.0.1:8087"))
        sidecar.ask(client, line=b"GET /api")
        got = sidecar.got("tls:api.example:443")
        self.assertEqual(got, b"GET /api HTTP/1.1\r\nHost: api.example\r\n\r\n")

    def test_retried(self) -> None:
        """A second attempt is like the first."""

        @onResponse(503)
        def again(exchange: Any, response: Response) -> Retry | None:
            return Retry(0.0) if exchange.attempts == 1 else None

        sidecar = Sidecar(Config(upstreams=(API,)), (again,))
        client = sidecar.harness.connect()
        sidecar.ask(client)
        busy = OK.replace(b"200 OK", b"503 Busy")
        first = sidecar.got("tls:api.example:443", answer=busy)
        self.assertEqual(sidecar.got("tls:api.example:443"), first)
        self.assertTrue(client.got().startswith(b"HTTP/1.1 200 "))

    def test_redirect(self) -> None:
        """A redirect to the service's own name passes as it is."""
        sidecar = Sidecar(Config(upstreams=(API,)))
        client = sidecar.harness.connect()
        sidecar.ask(client)
        moved = b"HTTP/1.1 302 x\r\nLocation: https://api.example/b\r\nContent-Length: 0\r\n\r\n"
        sidecar.got("tls:api.example:443", answer=moved)
        self.assertIn(b"\r\nLocation: https://api.example/b\r\n", client.got())

    def test_upload(self) -> None:
        """A body that streams goes out as it came."""
        sidecar = Sidecar(Config(upstreams=(API,)))
        client = sidecar.harness.connect()
        fields = b"Host: localhost:9000\r\nTransfer-Encoding: chunked\r\n"
        sidecar.ask(client, fields, b"POST /a")
        client.sends(b"3\r\nabc\r\n", b"0\r\n\r\n")
        got = sidecar.got("tls:api.example:443")
        self.assertTrue(got.startswith(b"POST /a HTTP/1.1\r\nHost: api.example\r\n"))
        self.assertTrue(got.endswith(b"\r\n\r\n3\r\nabc\r\n0\r\n\r\n"))


class ProxyHeaderTests(SynchronousTestCase):
    """C{proxy-protocol}: connections that begin with the client's address."""

    ADDRESS = "tcp:10.0.0.1:8087"
    UPSTREAM = UpstreamConfig(
        "local", endpoints=(EndpointConfig("tcp:10.0.0.1:8087"),), proxyProtocol="v2"
    )

    def read(self, got: bytes) -> tuple[str | None, bytes]:
        """The client that a header names, and the line after it; or L{None} for no header."""
        header = None if got.startswith(b"GET") else parseHeader(got)
        host = None if header is None or header.source is None else header.source.host
        rest = got[0 if header is None else header.size :]
        return host, rest.partition(b"\r\n")[0]

    def test_clients(self) -> None:
        """Each client's requests have a connection of their own, which begins with its address."""
        sidecar = Sidecar(Config(upstreams=(self.UPSTREAM,)))
        first, second = (sidecar.harness.connect(each) for each in ("192.0.2.1", "192.0.2.2"))
        for number, (client, host) in enumerate(
            ((first, "192.0.2.1"), (second, "192.0.2.2")),
        ):
            sidecar.ask(client)
            got = sidecar.got(self.ADDRESS, number)
            self.assertEqual(self.read(got), (host, b"GET /a HTTP/1.1"))
        for number, client in enumerate((first, second)):
            sidecar.ask(client, line=b"GET /b")
            got = sidecar.got(self.ADDRESS, number)
            self.assertEqual(self.read(got), (None, b"GET /b HTTP/1.1"))
        self.assertEqual(len(sidecar.peers(self.ADDRESS)), 2)

    def test_gone(self) -> None:
        """Connections of clients that have gone expire, and no other client ever gets one."""
        sidecar = Sidecar(Config(upstreams=(self.UPSTREAM,)))
        for number in range(3):
            client = sidecar.harness.connect("192.0.2.1")
            sidecar.ask(client)
            self.assertEqual(self.read(sidecar.got(self.ADDRESS, number))[0], "192.0.2.1")
            client.closes()
        sidecar.harness.advance(10)
        self.assertTrue(all(each.closed for each in sidecar.peers(self.ADDRESS)))

    def test_router(self) -> None:
        """Behind a trusted proxy the header names the client that the proxy has named."""
        table = ForwardedConfig(trusted=("10.0.0.0/8",))
        sidecar = Sidecar(Config(upstreams=(self.UPSTREAM,), forwarded=table))
        router = sidecar.harness.connect("10.0.0.9")
        claim = b"Host: h\r\nX-Forwarded-For: %b\r\n"
        for number, address in enumerate(("198.51.100.1", "198.51.100.2")):
            sidecar.ask(router, claim % address.encode())
            self.assertEqual(self.read(sidecar.got(self.ADDRESS, number))[0], address)
        sidecar.ask(router, claim % b"198.51.100.1")
        self.assertEqual(self.read(sidecar.got(self.ADDRESS, 0)), (None, b"GET /a HTTP/1.1"))

    def test_stale(self) -> None:
        """A request whose kept connection was just closed goes out again, with the header."""
        sidecar = Sidecar(Config(upstreams=(self.UPSTREAM,)))
        client = sidecar.harness.connect("192.0.2.1")
        sidecar.ask(client)
        sidecar.got(self.ADDRESS)
        client.got()
        sidecar.ask(client, line=b"GET /b")
        sidecar.peers(self.ADDRESS)[0].resets()
        got = sidecar.got(self.ADDRESS, 1)
        self.assertEqual(self.read(got), ("192.0.2.1", b"GET /b HTTP/1.1"))
        self.assertTrue(client.got().startswith(b"HTTP/1.1 200 "))
