"""
Promises of L{sitio.admin.health}: whether the upstream is there.
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
    ANSWER_TIMEOUT,
    CONNECT_TIMEOUT,
    INTERVAL,
    LIFE,
    REMEMBERED,
    Asking,
    Connecting,
    asking,
)


@implementer(IStreamClientEndpoint)
class Endpoint:
    """An upstream that the test plays."""

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


class ConnectingTests(SynchronousTestCase):
    """The upstream is there when it accepts a connection."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.endpoint = Endpoint()
        self.health = Connecting(self.clock, self.endpoint)

    def test_accepts(self) -> None:
        """One that accepts is well, and left alone at once."""
        answer = self.health.trouble()
        self.assertNoResult(answer)
        transport = self.endpoint.accept()
        self.assertIs(self.successResultOf(answer), None)
        self.assertTrue(transport.disconnecting)

    def test_refuses(self) -> None:
        """One that refuses is not, and the reason is told."""
        answer = self.health.trouble()
        self.endpoint.refuse()
        self.assertEqual(
            self.successResultOf(answer),
            "the upstream can't be reached: Connection was refused by other side.",
        )

    def test_silent(self) -> None:
        """One that does nothing is waited for no longer than a probe waits."""
        answer = self.health.trouble()
        self.clock.advance(CONNECT_TIMEOUT)
        self.assertLess(CONNECT_TIMEOUT, 1)
        self.assertEqual(
            self.successResultOf(answer),
            "the upstream accepted no connection within 0.75 seconds",
        )

    def test_together(self) -> None:
        """Many who ask at a time are answered by one connection."""
        answers = [self.health.trouble() for _ in range(5)]
        self.endpoint.accept()
        self.assertEqual([self.successResultOf(each) for each in answers], [None] * 5)
        self.assertEqual(len(self.endpoint.attempts), 1)

    def test_remembered(self) -> None:
        """What was found out counts for a second, and then another connection is made."""
        self.health.trouble()
        self.endpoint.refuse()
        self.clock.advance(REMEMBERED / 2)
        self.assertIn("refused", str(self.successResultOf(self.health.trouble())))
        self.assertEqual(len(self.endpoint.attempts), 1)
        self.clock.advance(REMEMBERED / 2)
        answer = self.health.trouble()
        self.endpoint.accept()
        self.assertIs(self.successResultOf(answer), None)

    def test_cancelled(self) -> None:
        """Who goes away while it waits disturbs nobody."""
        first, second = self.health.trouble(), self.health.trouble()
        first.addErrback(lambda reason: None)
        first.cancel()
        self.endpoint.accept()
        self.assertIs(self.successResultOf(second), None)
        self.health.trouble()

    def test_allCancelled(self) -> None:
        """When all have gone, one that comes meanwhile still waits for the same connection."""
        first = self.health.trouble()
        first.addErrback(lambda reason: None)
        first.cancel()
        second = self.health.trouble()
        self.assertEqual(len(self.endpoint.attempts), 1)
        self.endpoint.accept()
        self.assertIs(self.successResultOf(second), None)

    def test_brief(self) -> None:
        """A connection that does not close is broken."""
        self.health.trouble()
        transport = self.endpoint.accept()
        self.clock.advance(LIFE)
        self.assertTrue(transport.disconnected)


class Page(Resource):
    """A page of the upstream's."""

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


class AskingTests(SynchronousTestCase):
    """The upstream is there when a page of its own says so."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.page = Page()
        self.agent = RequestTraversalAgent(self.page)
        self.health = Asking(self.clock, HTTPClient(self.agent), "web:1", "/healthz")

    def trouble(self) -> str | None:
        """What it knows."""
        self.agent.flush()
        return self.successResultOf(self.health.trouble())

    def begun(self) -> None:
        """It has begun to ask."""
        self.health.startService()
        self.addCleanup(self.health.stopService)

    def test_notYet(self) -> None:
        """Before the first answer nobody knows."""
        self.page.silent = True
        self.assertEqual(self.trouble(), "the upstream has not been asked yet")
        self.begun()
        self.assertEqual(self.trouble(), "the upstream has not been asked yet")

    def test_statuses(self) -> None:
        """A status of 200 to 399 is good, and others are told."""
        self.begun()
        for status in (200, 204, 302, 399, 404, 500, 200):
            self.page.status = status
            self.clock.advance(INTERVAL)
            why = f"the upstream says {status} when asked for its health"
            self.assertEqual(self.trouble(), None if status < 400 else why)

    def test_asked(self) -> None:
        """It is asked plainly, once an interval, and no redirection is followed."""
        self.page.status = 302
        self.begun()
        for count in (1, 2, 3):
            self.trouble()
            self.assertEqual(len(self.page.asked), count)
            self.clock.advance(INTERVAL)
        request = self.page.asked[0]
        self.assertEqual(request.uri, b"/healthz")
        self.assertEqual(request.getHeader("host"), "web:1")
        self.assertEqual(request.getHeader("connection"), "close")

    def test_hosts(self) -> None:
        """It is told its name, whatever that is: those of containers are often no host names."""
        for host in ("my_service:8087", "a..b", "-x", "x" * 70):
            health = Asking(self.clock, HTTPClient(self.agent), host, "/healthz")
            health.startService()
            self.agent.flush()
            health.stopService()
            self.assertIs(self.successResultOf(health.trouble()), None, host)
            self.assertEqual(self.page.asked[-1].getHeader("host"), host)

    def test_broken(self) -> None:
        """Whatever goes wrong is told, and it is asked again all the same."""

        class Broken:
            def get(self, *arguments: Any, **options: Any) -> Any:
                raise ValueError("no such thing")

        health = Asking(self.clock, Broken(), "web", "/")
        health.startService()
        self.addCleanup(health.stopService)
        trouble = "the upstream can't be asked for its health: no such thing"
        self.assertEqual(self.successResultOf(health.trouble()), trouble)
        health._client = HTTPClient(self.agent)
        self.clock.advance(INTERVAL)
        self.agent.flush()
        self.assertIs(self.successResultOf(health.trouble()), None)

    def test_silent(self) -> None:
        """One that says nothing is waited for so long, and then asked again."""
        self.page.silent = True
        self.begun()
        self.clock.advance(ANSWER_TIMEOUT)
        self.assertEqual(self.trouble(), "the upstream says nothing of its health within 5 seconds")
        self.page.silent = False
        self.clock.advance(INTERVAL)
        self.assertIs(self.trouble(), None)

    def test_stops(self) -> None:
        """It asks no more when it is stopped."""
        self.health.startService()
        self.health.stopService()
        self.clock.advance(10 * INTERVAL)
        self.assertEqual(len(self.page.asked), 1)

    def test_endless(self) -> None:
        """Its connection is not held for a body, however long it is."""
        reactor = MemoryReactorClock()
        health = asking(reactor, TCP4ClientEndpoint(reactor, "127.0.0.1", 8087), "web:1", "/h")
        health.startService()
        [(host, port, factory, *_)] = reactor.tcpClients
        self.assertEqual((host, port), ("127.0.0.1", 8087))
        transport = StringTransport()
        protocol: Any = factory.buildProtocol(None)
        protocol.makeConnection(transport)
        self.assertTrue(transport.value().startswith(b"GET /h HTTP/1.1\r\n"))
        protocol.dataReceived(b"HTTP/1.1 200 OK\r\n\r\nx")
        self.assertIs(self.successResultOf(health.trouble()), None)
        self.assertTrue(transport.disconnecting)
        reactor.advance(LIFE)
        self.assertTrue(transport.disconnected)
        health.stopService()
