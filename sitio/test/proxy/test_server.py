"""
Tests of L{sitio.proxy.server}: one connection of a client, in exact bytes.
"""

from __future__ import annotations

from typing import Any

from attrs import define
from twisted.internet.interfaces import IProtocolNegotiationFactory
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from sitio import onFinish, onRequest
from sitio.errors import Stopped
from sitio.http.message import Response
from sitio.settings import DRAIN_IDLE_SECONDS, LINGER_SECONDS, Settings
from sitio.testing import HALF_CLOSED, OPEN, Harness, Peer, readResponses
from sitio.testing.network import TRANSPORT_BUFFER_BYTES

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

UPGRADE = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"


class ServerCase(SynchronousTestCase):
    """A sidecar in memory, and one client."""

    def open(self, *policies: Any, secure: bool = False, **settings: Any) -> Peer:
        """Connect a client to a new sidecar with these policies and settings."""
        self.sidecar = Harness(policies, settings=Settings(**settings))
        self.client = self.sidecar.connect(secure=secure)
        return self.client

    def answer(self, data: bytes = OK, number: int = 0) -> bytes:
        """Read what the upstream got, and send this."""
        upstream = self.sidecar.upstream(number)
        got = upstream.got()
        upstream.sends(data)
        return got


class Tunnels(ServerCase):
    """After a 101 the connection carries another protocol."""

    def switch(self, **more: Any) -> None:
        """Ask the upstream for another protocol, and get it."""
        self.open(**more)
        self.client.sends(UPGRADE)
        self.answer(SWITCH)
        self.assertEqual(self.client.got(), SWITCH)

    def test_endBehindABacklog(self) -> None:
        """The end of the upstream's direction reaches a client that was slow to read."""
        self.switch()
        self.client.stopsReading()
        self.sidecar.upstream().sends(b"last words")
        self.sidecar.upstream().halfCloses()
        self.client.resumesReading()
        self.assertEqual(self.client.got(), b"last words")
        self.assertIs(self.client.state, HALF_CLOSED)
        self.client.sends(b"thanks")
        self.assertEqual(self.sidecar.upstream().got(), b"thanks")
        self.sidecar.assertQuiet()


@define
class Replaces:
    """A policy that replaces the body of a request."""

    body: bytes

    def __call__(self, exchange: Any) -> None:
        exchange.request.body = self.body


class Pipelining(ServerCase):
    """Requests that arrive before the previous response."""

    def test_heldRequestsAreBounded(self) -> None:
        """
        sitio buffers pipelined requests up to the size of one head and one read.  All are
        answered in order.
        """
        padding = b"X: " + b"p" * 1000 + b"\r\n"
        for policies, more in (
            ((), b"\r\n"),
            ((), b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nTrailer: x\r\n\r\n"),
            ((onRequest(Replaces(b"another")),), b"Content-Length: 1\r\n\r\nx"),
        ):
            self.open(*policies)
            count = 400
            requests = [
                b"PUT /%d HTTP/1.1\r\nHost: h\r\n" % number + padding + more
                for number in range(count)
            ]
            self.client.sends(b"".join(requests))
            server: Any = self.client.transport.protocol
            bound = Settings().maxHead + TRANSPORT_BUFFER_BYTES
            for number in range(count):
                self.assertIn(b"PUT /%d HTTP" % number, self.answer())
                self.assertEqual(self.client.got(), OK)
                self.assertLessEqual(server.reader.held, bound)
            self.assertFalse(self.client.paused)
            self.sidecar.assertQuiet()

    def test_answeredAtOnce(self) -> None:
        """
        A thousand pipelined requests that a policy answers at once are answered in order,
        without recursion.
        """
        count = 1000
        self.open(onRequest(lambda exchange: Response(body=exchange.request.path.encode())))
        requests = [b"GET /%d HTTP/1.1\r\nHost: h\r\n\r\n" % number for number in range(count)]
        self.client.sends(b"".join(requests))
        got = [each.body for each in readResponses(self.client.got())]
        self.assertEqual(got, [b"/%d" % number for number in range(count)])
        self.sidecar.assertQuiet()


class Refusals(ServerCase):
    """Requests that sitio answers itself, without the upstream."""

    def test_lingersBehindAnUnreadableHead(self) -> None:
        """
        After a request whose end is unknown, further bytes are read and dropped for a
        while: closing at once would reset the connection, and the client might lose the
        response.
        """
        for version, field in (
            (b"1.1", b"Transfer-Encoding: gzip"),
            (b"1.1", b"Content-Length: 5, 5"),
            (b"1.1", b"Content-Length: +5"),
            (b"1.1", b"Content-Length: 5\r\nTransfer-Encoding: chunked"),
            (b"1.1", b"Content-Length: 9999999999999999999"),
            (b"1.0", b"Transfer-Encoding: chunked"),
        ):
            self.open()
            head = b"POST / HTTP/%b\r\nHost: h\r\n%b\r\n\r\n" % (version, field)
            self.client.sends(head)
            self.client.sends(b"a body, ", b"the rest of it")
            response, said = self.client.got().split(b"\r\n\r\n")
            self.assertEqual(
                response,
                b"HTTP/1.1 400 Bad Request\r\n"
                b"Content-Type: text/plain; charset=utf-8\r\nServer: sitio\r\n"
                b"Content-Length: %d\r\nConnection: close" % len(said),
            )
            self.assertRegex(said, rb"^400 The request is malformed: [^\n]+\.\n$")
            self.assertIs(self.client.state, HALF_CLOSED)
            self.sidecar.advance(LINGER_SECONDS + 0.5)
            self.assertTrue(self.client.closed)
            self.assertEqual(self.sidecar.upstreams, [])


class Crowded(ServerCase):
    """As many clients are connected as may be."""

    def test_idle(self) -> None:
        """
        A kept connection that is idle closes within some seconds.  A new one, and one with a
        request under way, stay.
        """
        self.open()
        self.client.sends(GET)
        self.answer()
        busy, new = self.sidecar.connect(), self.sidecar.connect()
        busy.sends(GET)
        self.sidecar.factory.makeRoom()
        self.sidecar.advance(DRAIN_IDLE_SECONDS + 0.5)
        self.assertEqual([each.state for each in (busy, new)], [OPEN, OPEN])
        self.assertIsNot(self.client.state, OPEN)
        self.answer()
        self.assertEqual(busy.state, OPEN)
        self.sidecar.advance(DRAIN_IDLE_SECONDS + 0.5)
        self.assertEqual(busy.state, OPEN)


class Draining(ServerCase):
    """sitio is stopping."""

    def test_newConnectionWhileDraining(self) -> None:
        """A client that was accepted just before the stop gets a short time for a request."""
        self.open()
        self.sidecar.factory.drain()
        late = self.sidecar.connect()
        self.sidecar.advance(DRAIN_IDLE_SECONDS + 0.5)
        self.assertTrue(late.closed)

    def test_graceEndsWhatCloses(self) -> None:
        """A client that does not read its last response is closed when the grace ends."""
        self.open()
        self.client.stopsReading()
        self.client.sends(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        self.answer()
        self.assertEqual(self.client.backlog, len(OK) + len(b"Connection: close\r\n"))
        drained = self.sidecar.factory.drain()
        self.sidecar.factory.abort()
        self.sidecar.settle()
        self.successResultOf(drained)
        self.assertTrue(self.client.reset)

    def test_graceIsNotTheClientsDoing(self) -> None:
        """
        An exchange that sitio breaks off is recorded as sitio's failure, not as a
        disconnect of the client.
        """
        ended: list[Any] = []
        self.open(onFinish(ended.append))
        self.client.sends(GET)
        self.answer(b"")
        drained = self.sidecar.factory.drain()
        self.sidecar.factory.abort()
        self.sidecar.settle()
        self.successResultOf(drained)
        [exchange] = ended
        self.assertIsInstance(exchange.failure, Stopped)
        self.assertIs(exchange.status, None)


class Negotiating(ServerCase):
    """The protocols that sitio offers by ALPN."""

    def test_protocols(self) -> None:
        """
        sitio offers HTTP/1.1 and 1.0: clients that ask for it by name would be refused otherwise
        (RFC 7301).
        """
        self.open()
        factory = self.sidecar.factory
        self.assertTrue(verifyObject(IProtocolNegotiationFactory, factory))
        self.assertEqual(factory.acceptableProtocols(), [b"http/1.1", b"http/1.0"])


class Closing(ServerCase):
    """The last response of a connection."""

    def test_requestsBehindTheLast(self) -> None:
        """
        A client that sends more after its last request gets its response and no reset:
        further bytes are read and dropped for a while.
        """
        self.open()
        last = GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        self.client.sends(last + GET)
        self.answer()
        self.client.sends(GET)
        self.assertEqual(
            self.client.got(),
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
        )
        self.assertIs(self.client.state, HALF_CLOSED)
        self.client.sends(GET)
        self.client.closes()
        self.assertTrue(self.client.closed)
        self.assertEqual(len(self.sidecar.exchanges), 1)
        self.sidecar.assertQuiet()

    def test_endIsSaidAtOnce(self) -> None:
        """
        The end of the connection follows the response at once, before the linger ends,
        even for a slow reader.
        """
        self.open()
        self.client.stopsReading()
        self.client.sends(b"POST / HTTP/1.0\r\nHost: h\r\nContent-Length: 9\r\n\r\n")
        self.answer(b"HTTP/1.1 401 No\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n")
        self.sidecar.upstream().sends(b"0\r\n\r\n")
        self.assertEqual(self.client.got(), b"")
        self.client.resumesReading()
        self.assertEqual(self.client.got(), b"HTTP/1.1 401 No\r\nConnection: close\r\n\r\nno")
        self.assertIs(self.client.state, HALF_CLOSED)
        self.sidecar.advance(LINGER_SECONDS + 0.5)
        self.assertTrue(self.client.closed)
        self.sidecar.assertQuiet()

    def test_lingersOverTLS(self) -> None:
        """TLS has no half-close: the connection closes in order at the end of the linger."""
        self.open(secure=True)
        self.client.sends(GET.replace(b"1.1", b"0.9"))
        self.assertEqual(self.client.gotResponse().status, 505)
        self.assertIs(self.client.state, OPEN)
        self.client.sends(b"more")
        self.sidecar.advance(LINGER_SECONDS + 0.5)
        self.assertTrue(self.client.closed)
        self.sidecar.assertQuiet()


class Leaving(ServerCase):
    """A client that disconnects."""

    def test_goneBeforeAFailure(self) -> None:
        """
        If the client and the upstream fail in the same instant, the exchange counts as a
        disconnect of the client.
        """
        self.open()
        self.sidecar.holdConnections()
        self.client.sends(GET)
        protocol: Any = self.client.transport.protocol
        protocol.readConnectionLost()
        if self.sidecar.endpoint.pending:
            self.sidecar.endpoint.refuse()
        self.sidecar.settle()
        self.assertEqual([each.status for each in self.sidecar.exchanges], [499])
        self.assertEqual(self.client.got(), b"")
        self.assertTrue(self.client.closed)
        self.sidecar.assertQuiet()
