"""
Promises of L{sitio.admin.health}: whether the upstream accepts requests.
"""

from __future__ import annotations

from typing import Any

from treq.client import HTTPClient
from treq.testing import RequestTraversalAgent
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request
from zope.interface import implementer

from sitio.admin.health import (
    CACHE_SECONDS,
    CONNECT_SECONDS,
    INTERVAL_SECONDS,
    MAX_CONNECTION_SECONDS,
    RESPONSE_SECONDS,
    AnyEndpoint,
    ConnectionCheck,
    HttpCheck,
    makeHttpCheck,
)


@implementer(IStreamClientEndpoint)
class Endpoint:
    """The endpoint of an upstream; the test accepts or refuses connections."""

    def __init__(self) -> None:
        self.attempts: list[tuple[Any, Deferred[Any]]] = []

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        connecting: Deferred[Any] = Deferred()
        self.attempts.append((protocolFactory, connecting))
        return connecting

    def accept(self) -> StringTransport:
        """Accept the last attempt."""
        factory, connecting = self.attempts[-1]
        transport = StringTransport()
        protocol = factory.buildProtocol(None)
        protocol.makeConnection(transport)
        connecting.callback(protocol)
        return transport

    def refuse(self) -> None:
        """Refuse the last attempt."""
        self.attempts[-1][1].errback(ConnectionRefusedError())


class ConnectionCheckTests(SynchronousTestCase):
    """The upstream is healthy if it accepts a connection."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.endpoint = Endpoint()
        self.health = ConnectionCheck(self.clock, self.endpoint)

    def test_accepts(self) -> None:
        """If it accepts a connection it is healthy; the connection is closed at once."""
        answer = self.health.problem()
        self.assertNoResult(answer)
        transport = self.endpoint.accept()
        self.assertIs(self.successResultOf(answer), None)
        self.assertTrue(transport.disconnecting)

    def test_refuses(self) -> None:
        """If it refuses it is not healthy; the reason is returned."""
        answer = self.health.problem()
        self.endpoint.refuse()
        self.assertEqual(
            self.successResultOf(answer),
            "the upstream can't be reached: Connection was refused by other side.",
        )

    def test_silent(self) -> None:
        """If it does nothing the check ends before a probe's time limit."""
        answer = self.health.problem()
        self.clock.advance(CONNECT_SECONDS)
        self.assertLess(CONNECT_SECONDS, 1)
        self.assertEqual(
            self.successResultOf(answer),
            "the upstream accepted no connection within 0.75 seconds",
        )

    def test_together(self) -> None:
        """Concurrent checks share one connection."""
        answers = [self.health.problem() for _ in range(5)]
        self.endpoint.accept()
        self.assertEqual([self.successResultOf(each) for each in answers], [None] * 5)
        self.assertEqual(len(self.endpoint.attempts), 1)

    def test_remembered(self) -> None:
        """A result is used for a second; then another connection is made."""
        self.health.problem()
        self.endpoint.refuse()
        self.clock.advance(CACHE_SECONDS / 2)
        self.assertIn("refused", str(self.successResultOf(self.health.problem())))
        self.assertEqual(len(self.endpoint.attempts), 1)
        self.clock.advance(CACHE_SECONDS / 2)
        answer = self.health.problem()
        self.endpoint.accept()
        self.assertIs(self.successResultOf(answer), None)

    def test_cancelled(self) -> None:
        """A cancelled check does not disturb the others."""
        first, second = self.health.problem(), self.health.problem()
        first.addErrback(lambda reason: None)
        first.cancel()
        self.endpoint.accept()
        self.assertIs(self.successResultOf(second), None)
        self.health.problem()

    def test_allCancelled(self) -> None:
        """If all checks are cancelled, the next one shares the same connection."""
        first = self.health.problem()
        first.addErrback(lambda reason: None)
        first.cancel()
        second = self.health.problem()
        self.assertEqual(len(self.endpoint.attempts), 1)
        self.endpoint.accept()
        self.assertIs(self.successResultOf(second), None)

    def test_brief(self) -> None:
        """A connection that does not close is aborted."""
        self.health.problem()
        transport = self.endpoint.accept()
        self.clock.advance(MAX_CONNECTION_SECONDS)
        self.assertTrue(transport.disconnected)


class Page(Resource):
    """The health page of the upstream."""

    isLeaf = True

    def __init__(self) -> None:
        Resource.__init__(self)
        self.status = 200
        self.silent = False
        self.asked: list[Request] = []

    def render_GET(self, request: Request) -> Any:
        self.asked.append(request)
        if self.silent:
            return NOT_DONE_YET
        request.setResponseCode(self.status)
        if self.status // 100 == 3:
            request.setHeader(b"Location", b"/elsewhere")
        return b"x" * 1000


class HttpCheckTests(SynchronousTestCase):
    """The upstream is healthy if its page answers well."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.page = Page()
        self.agent = RequestTraversalAgent(self.page)
        self.health = HttpCheck(self.clock, HTTPClient(self.agent), "web:1", "/healthz")

    def problem(self) -> str | None:
        """The current result."""
        self.agent.flush()
        return self.successResultOf(self.health.problem())

    def begun(self) -> None:
        """Start the check."""
        self.health.startService()
        self.addCleanup(self.health.stopService)

    def test_notYet(self) -> None:
        """Before the first response the upstream counts as not healthy."""
        self.page.silent = True
        self.assertEqual(self.problem(), "the upstream's health has not been checked yet")
        self.begun()
        self.assertEqual(self.problem(), "the upstream's health has not been checked yet")

    def test_statuses(self) -> None:
        """200 to 399 is healthy; other statuses are reported."""
        self.begun()
        for status in (200, 204, 302, 399, 404, 500, 200):
            self.page.status = status
            self.clock.advance(INTERVAL_SECONDS)
            why = f"the upstream's health check answered {status}"
            self.assertEqual(self.problem(), None if status < 400 else why)

    def test_asked(self) -> None:
        """One request is sent in each interval; redirects are not followed."""
        self.page.status = 302
        self.begun()
        for count in (1, 2, 3):
            self.problem()
            self.assertEqual(len(self.page.asked), count)
            self.clock.advance(INTERVAL_SECONDS)
        request = self.page.asked[0]
        self.assertEqual(request.uri, b"/healthz")
        self.assertEqual(request.getHeader("host"), "web:1")
        self.assertEqual(request.getHeader("connection"), "close")

    def test_hosts(self) -> None:
        """The Host field may be any name: those of containers are often no valid host names."""
        for host in ("my_service:8087", "a..b", "-x", "x" * 70):
            health = HttpCheck(self.clock, HTTPClient(self.agent), host, "/healthz")
            health.startService()
            self.agent.flush()
            health.stopService()
            self.assertIs(self.successResultOf(health.problem()), None, host)
            self.assertEqual(self.page.asked[-1].getHeader("host"), host)

    def test_broken(self) -> None:
        """Any error is reported, and the next check is made nevertheless."""

        class Broken:
            def get(self, *arguments: Any, **options: Any) -> Any:
                raise ValueError("no such thing")

        health = HttpCheck(self.clock, Broken(), "web", "/")
        health.startService()
        self.addCleanup(health.stopService)
        problem = "the upstream's health check failed: no such thing"
        self.assertEqual(self.successResultOf(health.problem()), problem)
        health._client = HTTPClient(self.agent)
        self.clock.advance(INTERVAL_SECONDS)
        self.agent.flush()
        self.assertIs(self.successResultOf(health.problem()), None)

    def test_silent(self) -> None:
        """A check without a response ends after a time limit, and the next one is made."""
        self.page.silent = True
        self.begun()
        self.clock.advance(RESPONSE_SECONDS)
        self.assertEqual(
            self.problem(), "the upstream's health check did not answer within 5 seconds"
        )
        self.page.silent = False
        self.clock.advance(INTERVAL_SECONDS)
        self.assertIs(self.problem(), None)

    def test_stops(self) -> None:
        """When stopped it sends no more requests."""
        self.health.startService()
        self.health.stopService()
        self.clock.advance(10 * INTERVAL_SECONDS)
        self.assertEqual(len(self.page.asked), 1)

    def test_endless(self) -> None:
        """The connection is closed without reading a long body."""
        reactor = MemoryReactorClock()
        health = makeHttpCheck(
            reactor, TCP4ClientEndpoint(reactor, "127.0.0.1", 8087), "web:1", "/h"
        )
        health.startService()
        [(host, port, factory, *_)] = reactor.tcpClients
        self.assertEqual((host, port), ("127.0.0.1", 8087))
        transport = StringTransport()
        protocol: Any = factory.buildProtocol(None)
        protocol.makeConnection(transport)
        self.assertTrue(transport.value().startswith(b"GET /h HTTP/1.1\r\n"))
        protocol.dataReceived(b"HTTP/1.1 200 OK\r\n\r\nx")
        self.assertIs(self.successResultOf(health.problem()), None)
        self.assertTrue(transport.disconnecting)
        reactor.advance(MAX_CONNECTION_SECONDS)
        self.assertTrue(transport.disconnected)
        health.stopService()


class AnyEndpointTests(SynchronousTestCase):
    """Of several endpoints, one that accepts connections is enough."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.endpoints = [Endpoint(), Endpoint()]
        self.check = ConnectionCheck(self.clock, AnyEndpoint(lambda: list(self.endpoints)))

    def test_one(self) -> None:
        """One accepts, another does not."""
        problem = self.check.problem()
        self.endpoints[0].refuse()
        self.assertNoResult(problem)
        transport = self.endpoints[1].accept()
        self.assertIsNone(self.successResultOf(problem))
        self.assertTrue(transport.disconnecting)

    def test_first(self) -> None:
        """When one has accepted, the others are given up."""
        problem = self.check.problem()
        self.endpoints[0].accept()
        self.assertIsNone(self.successResultOf(problem))
        [(_, connecting)] = self.endpoints[1].attempts
        self.assertTrue(connecting.called)

    def test_none(self) -> None:
        """None accepts, or none in time."""
        problem = self.check.problem()
        for each in self.endpoints:
            each.refuse()
        self.assertIn("refused", self.successResultOf(problem) or "")
        self.clock.advance(CACHE_SECONDS)
        problem = self.check.problem()
        self.clock.advance(CONNECT_SECONDS)
        self.assertIn("no connection within 0.75 seconds", self.successResultOf(problem) or "")

    def test_unknown(self) -> None:
        """Of an upstream without known endpoints, nothing is wrong; there may be some later."""
        endpoints, self.endpoints = self.endpoints, []
        self.assertIsNone(self.successResultOf(self.check.problem()))
        self.endpoints = endpoints
        self.assertNoResult(self.check.problem())
