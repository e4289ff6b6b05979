"""
Tests of every way in which an exchange ends: it ends once, is recorded correctly and
leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import ISSLTransport
from zope.interface import alsoProvides

from sitio.errors import (
    BadMessage,
    BadResponse,
    BodyTooLong,
    ClientGone,
    ConnectFailed,
    ConnectTimeout,
    PolicyFailed,
    PoolExhausted,
    RequestTimeout,
    SitioError,
    Stalled,
    Stopped,
    UpstreamLost,
    UpstreamTimeout,
)
from sitio.http.message import Response, Retry
from sitio.net.deadlines import PERIOD_SECONDS
from sitio.policy.functions import onRequest, onResponse
from sitio.proxy import exchange as states
from sitio.proxy.retries import MAX_ATTEMPTS
from sitio.settings import DRAIN_IDLE_SECONDS, LINGER_AFTER_SECONDS, LINGER_SECONDS, Settings
from sitio.test.helpers.observed import ObservedCase
from sitio.testing import CLOSED, HALF_CLOSED, OPEN, Peer

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\n"
CHUNKS = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
LAST = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
PART = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\npart"
BUSY = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"

UPGRADE = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"

# What the client sees if there is no response.
BROKEN = "broken off"


class EndingCase(ObservedCase):
    """A sidecar in memory, one client, and an observer that records each end."""

    @property
    def state(self) -> str:
        """The state of the exchange under way."""
        server: Any = self.client.transport.protocol
        assert server._exchange is not None
        return str(server._exchange.state)

    def assertEnded(
        self,
        status: int | None,
        upstreamStatus: int | None,
        failure: type[Exception] | None = None,
        attempts: int = 1,
    ) -> None:
        """Check that one exchange ended so, was observed once, and left nothing behind."""
        self.sidecar.settle()
        found = [
            (
                each.status,
                each.upstreamStatus,
                each.failure and type(each.failure),
                each.attempts,
            )
            for each in self.told
        ]
        self.assertEqual(found, [(status, upstreamStatus, failure, attempts)])
        self.assertIs(self.told[0].state, states.ENDED)
        self.assertIsNotNone(self.told[0].duration)
        self.sidecar.assertQuiet()
        self.assertEqual(len(self.told), 1)

    def assertResponded(
        self, status: int, upstreamStatus: int | None, failure: Any = None, attempts: int = 1
    ) -> None:
        """Check that the client got one whole response, and that the observer recorded it."""
        self.assertEqual(self.client.gotResponse().status, status)
        self.assertEnded(status, upstreamStatus, failure, attempts)

    def assertBroken(
        self, status: int | None, upstreamStatus: int | None, failure: Any, attempts: int = 1
    ) -> None:
        """
        Check that the client saw a broken connection, and that the observer recorded the
        cause.
        """
        self.sidecar.settle()
        self.assertTrue(self.client.reset)
        self.assertEnded(status, upstreamStatus, failure, attempts)


class ByAResponse(EndingCase):
    """Exchanges that end with a whole response."""

    def test_plain(self) -> None:
        """Any status of the upstream passes, without a failure."""
        for status in (200, 204, 304, 404, 500, 502, 504):
            self.open()
            self.client.sends(GET)
            length = b"" if status in (204, 304) else b"Content-Length: 0\r\n"
            self.upstream.sends(b"HTTP/1.1 %d X\r\n%b\r\n" % (status, length))
            self.assertResponded(status, status)

    def test_untilClose(self) -> None:
        """A response that ends with its connection is complete."""
        self.open()
        self.client.sends(GET)
        self.upstream.sends(b"HTTP/1.0 200 OK\r\n\r\n", b"all ", b"of it")
        self.assertEqual(self.told, [])
        self.upstream.closes()
        self.assertResponded(200, 200)

    def test_policyAnswers(self) -> None:
        """A request that a policy answers does not reach the upstream."""
        self.open(onRequest(lambda exchange: Response(403)))
        self.client.sends(GET)
        self.assertResponded(403, None, None, 0)
        self.assertEqual(self.sidecar.upstreams, [])

    def test_policyReplaces(self) -> None:
        """The record has the upstream's status and the status that was sent."""
        self.open(onResponse(404)(lambda exchange, response: Response(200, text="mine")))
        self.client.sends(GET)
        self.upstream.sends(b"HTTP/1.1 404 No\r\nContent-Length: 2\r\n\r\nno")
        self.assertResponded(200, 404)

    def test_policyMasks(self) -> None:
        """A failure that a policy masks is recorded."""
        self.open(onResponse(502)(lambda exchange, response: Response(200, text="mine")))
        self.sidecar.refuseConnections()
        self.client.sends(GET)
        self.assertResponded(200, 502, ConnectFailed)

    def test_policyFails(self) -> None:
        """A request policy that raises gets 500, and its error is recorded."""

        def fails(exchange: Any) -> None:
            raise ZeroDivisionError

        self.open(onRequest(fails))
        self.client.sends(GET)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertResponded(500, None, PolicyFailed, 0)

    def test_refused(self) -> None:
        """A malformed request is recorded with its failure and not sent upstream."""
        for status, data, failure in (
            (400, b"GET /\r\n\r\n", BadMessage),
            (400, b"GET / HTTP/1.1\r\n\r\n", BadMessage),
            (400, CHUNKS[:-2] + b"Content-Length: 1\r\n\r\n", BadMessage),
            (413, POST + b"body", BodyTooLong),
        ):
            self.open(maxBody=3)
            self.client.sends(data)
            self.assertEqual(self.client.gotResponse().status, status)
            self.sidecar.advance(LINGER_SECONDS + PERIOD_SECONDS)
            self.assertIs(self.client.state, CLOSED)
            [exchange] = self.told
            self.assertEqual((exchange.status, exchange.upstreamStatus), (status, None))
            self.assertIs(type(exchange.failure), failure)
            self.assertEqual((exchange.attempts, self.sidecar.upstreams), (0, []))
            self.sidecar.assertQuiet()

    def test_bodyBreaks(self) -> None:
        """
        A body that becomes malformed is answered, and its upstream connection is closed
        at once.
        """
        self.open()
        self.client.sends(CHUNKS, b"4\r\nbody\r\n")
        self.assertTrue(self.upstream.got().endswith(b"4\r\nbody\r\n"))
        self.client.sends(b"no chunk\r\n")
        self.assertTrue(self.upstream.reset)
        self.assertResponded(400, None, BadMessage)

    def test_bodyTooLong(self) -> None:
        """The same for a chunked body that grows over the limit."""
        self.open(maxBody=5)
        self.client.sends(CHUNKS, b"4\r\nbody\r\n", b"2\r\nxx\r\n")
        self.assertTrue(self.upstream.reset)
        self.assertResponded(413, None, BodyTooLong)

    def test_bodyBreaksBehindTheResponse(self) -> None:
        """If the head of the response is already sent, the response is broken off."""
        self.open()
        self.client.sends(CHUNKS)
        self.upstream.sends(PART)
        self.client.sends(b"no chunk\r\n")
        self.assertTrue(self.upstream.reset)
        self.assertBroken(200, 200, BadMessage)


class ByTheUpstream(EndingCase):
    """Exchanges whose upstream fails."""

    def test_connectRefused(self) -> None:
        """A refused connection gets 502 at once, as the upstream's failure."""
        self.open()
        self.sidecar.refuseConnections()
        self.client.sends(GET)
        self.assertResponded(502, 502, ConnectFailed)

    def test_connectTimeout(self) -> None:
        """A connection that is never accepted gets 504."""
        self.open()
        self.sidecar.holdConnections()
        self.client.sends(GET)
        self.sidecar.advance(Settings().connectTimeout)
        self.assertResponded(504, 504, ConnectTimeout)

    def test_poolTimeout(self) -> None:
        """No free connection is a 503 and sitio's own failure, not the upstream's."""
        self.open(poolSize=1)
        other = self.sidecar.connect()
        other.sends(GET)
        self.client.sends(GET)
        self.sidecar.advance(Settings().poolTimeout)
        self.assertEqual(self.client.gotResponse().status, 503)
        self.assertEqual(len(self.told), 1)
        self.assertIs(type(self.told[0].failure), PoolExhausted)
        self.upstream.sends(OK)
        self.assertEqual(other.got(), OK)
        self.sidecar.assertQuiet()

    def test_beforeTheHead(self) -> None:
        """No response, or a part of a head, is a 502, however the connection ended."""
        for happens in (Peer.closes, Peer.halfCloses, Peer.resets):
            for data in (b"", b"H", OK[:-3]):
                self.open()
                self.client.sends(GET)
                self.upstream.sends(data)
                happens(self.upstream)
                self.assertResponded(502, 502, UpstreamLost)

    def test_withinTheBody(self) -> None:
        """
        A response that breaks off, by length, chunks or reset, is broken off for the
        client too: it must not look complete.
        """
        head = b"HTTP/1.1 200 OK\r\n"
        for data in (
            PART,
            PART[:-4],
            head + b"Transfer-Encoding: chunked\r\n\r\n",
            head + b"Transfer-Encoding: chunked\r\n\r\n4\r\npa",
            head + b"Transfer-Encoding: chunked\r\n\r\n4\r\npart\r\n",
            head + b"Transfer-Encoding: chunked\r\n\r\n4\r\npart\r\n0\r\n",
            head + b"Transfer-Encoding: chunked\r\n\r\n4\r\npart\r\n0\r\nX: y\r\n",
        ):
            for happens in (Peer.closes, Peer.halfCloses, Peer.resets):
                self.open()
                self.client.sends(GET)
                self.upstream.sends(data)
                happens(self.upstream)
                self.assertBroken(200, 200, UpstreamLost)
        self.open()
        self.client.sends(GET)
        self.upstream.sends(head + b"\r\npart")
        self.upstream.resets()
        self.assertBroken(200, 200, UpstreamLost)

    def test_behindTheResponse(self) -> None:
        """A connection that breaks after a complete response is no failure."""
        for happens in (Peer.closes, Peer.halfCloses, Peer.resets):
            self.open()
            self.client.sends(GET)
            self.upstream.sends(OK)
            happens(self.upstream)
            self.assertResponded(200, 200)

    def test_garbage(self) -> None:
        """An invalid or ambiguous response is a 502, and its connection is reset."""
        for data in (
            b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
            b"HTTP/1.1 200 OK\r\nX : y\r\n\r\n",
            SWITCH,
            b"x" * 33 * 1024,
        ):
            self.open()
            self.client.sends(GET)
            self.upstream.sends(data)
            self.assertTrue(self.upstream.reset, data)
            got = self.client.got()
            self.assertEqual(got[got.rindex(b"HTTP/1.1") :][9:12], b"502", data)
            self.assertEnded(502, 502, BadResponse)

    def test_badChunks(self) -> None:
        """A response body that becomes malformed is broken off on both sides."""
        self.open()
        self.client.sends(GET)
        self.upstream.sends(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"no\r\n")
        self.assertTrue(self.upstream.reset)
        self.assertBroken(200, 200, BadResponse)

    def test_neverResponses(self) -> None:
        """A response that does not arrive in time is a 504."""
        self.open()
        self.client.sends(GET)
        self.sidecar.advance(Settings().responseTimeout + PERIOD_SECONDS)
        self.assertTrue(self.upstream.reset)
        self.assertResponded(504, 504, UpstreamTimeout)

    def test_stalls(self) -> None:
        """A response that stops is broken off on both sides."""
        self.open()
        self.client.sends(GET)
        self.upstream.sends(PART)
        self.sidecar.advance(Settings().stallTimeout + PERIOD_SECONDS)
        self.assertTrue(self.upstream.reset)
        self.assertBroken(200, 200, Stalled)

    def test_buffering(self) -> None:
        """
        A response that breaks off while it is buffered is a 502, as its head is not sent
        yet.
        """
        happenings: tuple[tuple[Callable[[Peer], None], type[SitioError]], ...] = (
            (Peer.closes, UpstreamLost),
            (Peer.resets, UpstreamLost),
            (lambda peer: peer.sends(b"no chunk\r\n"), BadResponse),
        )
        for happens, failure in happenings:
            self.open(onResponse(200, buffered=True)(lambda exchange, response: None))
            self.client.sends(GET)
            self.upstream.sends(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n")
            happens(self.upstream)
            self.assertResponded(502, 502, failure)

    def test_retriesExhausted(self) -> None:
        """A policy that always asks for another attempt gets a limited number."""
        self.open(onResponse(502)(lambda exchange, response: Retry(0.1)))
        self.sidecar.refuseConnections()
        self.client.sends(GET)
        self.sidecar.advance(1.0)
        self.assertResponded(502, 502, ConnectFailed, MAX_ATTEMPTS)

    def test_retried(self) -> None:
        """A failure before a successful retry is recorded, with the upstream's last status."""
        self.open(onResponse(502)(lambda exchange, response: Retry(2.0)))
        self.client.sends(GET)
        self.upstream.resets()
        self.sidecar.advance(2.0)
        self.assertEqual(self.client.got(), b"")
        self.upstream.sends(OK)
        self.assertResponded(200, 200, UpstreamLost, 2)


class ByTheClient(EndingCase):
    """Clients that disconnect, and uploads that stop."""

    def reach(self, state: str, request: bytes = GET) -> None:
        """Bring an exchange into this state, in one of several ways."""
        if state is states.DECIDING:
            self.open(onRequest(lambda exchange: Deferred()))
        elif state is states.JUDGING:
            self.open(onResponse(200)(lambda exchange, response: Deferred()))
        elif state is states.RESTING:
            self.open(onResponse(503)(lambda exchange, response: Retry(5.0)))
        else:
            self.open()
        if state is states.CONNECTING:
            self.sidecar.holdConnections()
        self.client.sends(UPGRADE if state is states.TUNNELLING else request)
        if state is states.JUDGING or state is states.SENDING:
            self.upstream.sends(PART)
        elif state is states.RESTING:
            self.upstream.sends(BUSY)
        elif state is states.TUNNELLING:
            self.upstream.sends(SWITCH)
        self.sidecar.settle()
        self.assertIs(self.state, state)

    def assertGone(self, status: int | None, attempts: int = 1) -> None:
        """
        Check that the client's disconnect was recorded and the upstream's connection
        closed at once.
        """
        self.assertEqual(len(self.told), 1)
        self.assertEqual(self.sidecar.endpoint.pending, 0)
        for peer in self.sidecar.upstreams:
            self.assertNotEqual(peer.state, OPEN)
        self.assertEqual(self.sidecar.pool.size, 0)
        self.assertEnded(499, status, ClientGone, attempts)
        self.assertEqual(self.sidecar.failures, [])

    def test_inEachState(self) -> None:
        """
        In each state, a client's disconnect ends the exchange at once with 499 and closes
        the upstream's connection.
        """
        for state, upstreamStatus, attempts in (
            (states.DECIDING, None, 0),
            (states.CONNECTING, None, 1),
            (states.WAITING, None, 1),
            (states.JUDGING, 200, 1),
            (states.SENDING, 200, 1),
        ):
            for happens in (Peer.closes, Peer.halfCloses, Peer.resets):
                self.reach(state)
                happens(self.client)
                self.assertEqual(self.sidecar.clock.seconds(), 0.0)
                self.assertGone(upstreamStatus, attempts)

    def test_resting(self) -> None:
        """A disconnect between two attempts ends the exchange; the idle connection stays."""
        for happens in (Peer.closes, Peer.resets):
            self.reach(states.RESTING)
            happens(self.client)
            self.assertEqual(self.sidecar.pool.snapshot(), {"open": 1, "idle": 1, "waiting": 0})
            self.assertEnded(499, 503, ClientGone)
            self.assertEqual(self.upstream.got().count(b"GET"), 1)

    def test_inTheQueue(self) -> None:
        """A client that disconnects while it waits for a connection leaves the queue."""
        self.open(poolSize=1)
        other = self.sidecar.connect()
        other.sends(GET)
        self.client.sends(GET)
        self.assertEqual(self.sidecar.pool.snapshot()["waiting"], 1)
        self.client.closes()
        self.assertEqual(self.sidecar.pool.snapshot()["waiting"], 0)
        self.assertEnded499First()
        self.upstream.sends(OK)
        self.assertEqual(other.got(), OK)
        self.sidecar.assertQuiet()

    def assertEnded499First(self) -> None:
        [exchange] = self.told
        self.assertEqual((exchange.status, exchange.upstreamStatus), (499, None))

    def test_buffering(self) -> None:
        """The same while a response is buffered."""
        self.open(onResponse(200, buffered=True)(lambda exchange, response: None))
        self.client.sends(GET)
        self.upstream.sends(PART)
        self.client.closes()
        self.assertTrue(self.upstream.reset)
        self.assertGone(200)

    def test_withinTheBody(self) -> None:
        """The same within a request body that streams upstream."""
        for request in (POST + b"bo", CHUNKS + b"2\r\nbo\r\n"):
            for happens in (Peer.closes, Peer.resets):
                self.reach(states.WAITING, request)
                happens(self.client)
                self.assertTrue(self.upstream.reset)
                self.assertGone(None)

    def test_behindABodyInPieces(self) -> None:
        """
        A disconnect after a body in pieces is noticed at once, even if the body arrived
        before there was a connection.
        """
        decision: Deferred[None] = Deferred()
        self.open(onRequest(lambda exchange: decision))
        self.client.sends(POST, b"bo", b"dy")
        self.client.closes()
        self.assertGone(None, 0)

    def test_behindABodyThatWasHeld(self) -> None:
        """The same after the upstream has got the request."""
        decision: Deferred[None] = Deferred()
        self.open(onRequest(lambda exchange: decision))
        self.client.sends(POST, b"body")
        decision.callback(None)
        self.assertTrue(self.upstream.got().endswith(b"body"))
        self.client.closes()
        self.assertTrue(self.upstream.reset)
        self.assertGone(None)

    def test_behindABacklog(self) -> None:
        """The same if the upstream was slow to read the last piece of the body."""
        self.open()
        self.client.sends(POST)
        self.upstream.stopsReading()
        self.client.sends(b"body")
        self.upstream.resumesReading()
        self.client.closes()
        self.assertTrue(self.upstream.reset)
        self.assertGone(None)

    def test_beforeTheRequest(self) -> None:
        """A client that disconnects before its head is complete makes no exchange."""
        for data in (b"", GET[:-1]):
            self.open()
            self.client.sends(data)
            self.client.closes()
            self.assertEqual(self.told, [])
            self.sidecar.assertQuiet()

    def test_behindTheResponse(self) -> None:
        """A client that disconnects after its response is no failure."""
        self.open()
        self.client.sends(GET)
        self.upstream.sends(OK)
        self.client.closes()
        self.assertResponded(200, 200)

    def test_withRequestsBehind(self) -> None:
        """Pipelined requests of a client that has disconnected are not begun."""
        self.open()
        self.client.sends(GET * 3)
        self.client.closes()
        self.assertGone(None)

    def test_uploadStops(self) -> None:
        """A client that stops within its body gets 408; it is not the upstream's failure."""
        self.open()
        self.client.sends(POST, b"bo")
        self.sidecar.advance(Settings().stallTimeout + PERIOD_SECONDS)
        self.assertTrue(self.upstream.reset)
        self.assertResponded(408, None, RequestTimeout)

    def test_inATunnel(self) -> None:
        """
        A tunnel that the client resets is recorded as a 101, and the upstream's
        connection is closed.
        """
        self.reach(states.TUNNELLING)
        self.client.resets()
        self.assertIs(self.upstream.state, CLOSED)
        self.assertEnded(101, 101)


class Tunnels(EndingCase):
    """How a tunnel ends."""

    def switch(self, **settings: Any) -> None:
        """Open a tunnel."""
        self.open(**settings)
        self.client.sends(UPGRADE)
        self.upstream.sends(SWITCH)
        self.assertEqual(self.client.got(), SWITCH)

    def test_clientFirst(self) -> None:
        """The client's direction ends first: both sides get all bytes of the other."""
        self.switch()
        self.client.sends(b"bye")
        self.client.halfCloses()
        self.assertIs(self.upstream.state, HALF_CLOSED)
        self.assertEqual(self.told, [])
        self.upstream.sends(b"good bye")
        self.upstream.halfCloses()
        self.assertTrue(self.upstream.got().endswith(b"bye"))
        self.assertEqual(self.client.got(), b"good bye")
        self.assertTrue(self.client.closed and self.upstream.closed)
        self.assertEnded(101, 101)

    def test_upstreamFirst(self) -> None:
        """The same if the upstream's direction ends first."""
        self.switch()
        self.upstream.halfCloses()
        self.assertIs(self.client.state, HALF_CLOSED)
        self.assertEqual(self.told, [])
        self.client.sends(b"bye")
        self.client.halfCloses()
        self.assertTrue(self.upstream.got().endswith(b"bye"))
        self.assertTrue(self.client.closed and self.upstream.closed)
        self.assertEnded(101, 101)

    def test_clientFirstOverTLS(self) -> None:
        """
        TLS has no half-close.  If the client's half ends, the upstream gets all of it, and
        then both connections close.
        """
        self.switch()
        alsoProvides(self.upstream.transport, ISSLTransport)
        self.client.sends(b"bye")
        self.client.halfCloses()
        self.assertTrue(self.upstream.got().endswith(b"bye"))
        self.assertTrue(self.client.closed and self.upstream.closed)
        self.assertEnded(101, 101)

    def test_upstreamBreaks(self) -> None:
        """If the upstream resets a tunnel, the client's connection is closed."""
        self.switch()
        self.upstream.resets()
        self.assertTrue(self.client.closed)
        self.assertEnded(101, 101)

    def test_silent(self) -> None:
        """An idle tunnel is reset on both sides after its timeout."""
        self.switch(tunnelTimeout=100.0)
        self.sidecar.advance(100.0 + PERIOD_SECONDS)
        self.assertTrue(self.client.reset)
        self.assertNotEqual(self.upstream.state, OPEN)
        self.assertEnded(101, 101)

    def test_refused(self) -> None:
        """A refused upgrade is an ordinary exchange and keeps its connections."""
        self.open()
        self.client.sends(UPGRADE)
        self.upstream.sends(OK)
        self.assertEqual(self.sidecar.pool.snapshot()["idle"], 1)
        self.assertResponded(200, 200)


class Filters(EndingCase):
    """Body filters that raise."""

    def test_raises(self) -> None:
        """If a filter that may change the length raises at the first piece, it is a 502."""

        def fails(data: bytes) -> bytes:
            raise ZeroDivisionError

        self.open(onResponse(200)(lambda exchange, response: response.addFilter(fails)))
        self.client.sends(GET)
        self.upstream.sends(PART)
        self.assertEqual(self.client.gotResponse().status, 502)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_raisesAtTheEnd(self) -> None:
        """If it raises at the end of the body, the response is broken off."""

        def fails(data: bytes) -> bytes:
            if not data:
                raise ZeroDivisionError
            return data

        self.open(onResponse(200)(lambda exchange, response: response.addFilter(fails)))
        self.client.sends(GET)
        self.upstream.sends(PART, b"y")
        self.assertBroken(200, 200, SitioError)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class Reused(EndingCase):
    """A reused connection that breaks before a byte of the response (RFC 9112, section 9.3.1)."""

    def reuse(self, request: bytes, *pieces: bytes, **settings: Any) -> bytes:
        """Send this on a reused connection; return what the upstream got."""
        self.open(**settings)
        self.client.sends(GET)
        self.upstream.got()
        self.upstream.sends(OK)
        self.assertEqual(self.client.got(), OK)
        self.told.clear()
        self.client.sends(request, *pieces)
        self.assertEqual(len(self.sidecar.upstreams), 1)
        return self.upstream.got()

    def test_idempotentOnceMore(self) -> None:
        """An idempotent request without a body is repeated on a fresh connection."""
        for method in (b"GET", b"HEAD", b"PUT", b"DELETE", b"OPTIONS", b"TRACE"):
            for happens in (Peer.closes, Peer.resets):
                first = self.reuse(GET.replace(b"GET", method))
                happens(self.upstream)
                self.assertEqual(len(self.sidecar.upstreams), 2)
                self.assertEqual(self.upstream.got(), first)
                self.upstream.sends(OK if method != b"HEAD" else OK[:-2])
                self.assertEqual(self.client.gotResponse(method.decode()).status, 200)
                self.assertEnded(200, 200, None, 2)

    def test_bodyHeld(self) -> None:
        """The same for a body that is still buffered, in one piece or several."""
        for request in (
            [POST.replace(b"POST", b"PUT") + b"body"],
            [POST.replace(b"POST", b"PUT"), b"bo", b"dy"],
            [CHUNKS.replace(b"POST", b"PUT"), b"2\r\nbo\r\n", b"2\r\ndy\r\n0\r\n\r\n"],
        ):
            self.reuse(*request)
            self.upstream.resets()
            self.assertEqual(len(self.sidecar.upstreams), 2)
            self.assertEqual(self.upstream.gotRequest().body, b"body")
            self.upstream.sends(OK)
            self.assertResponded(200, 200, None, 2)

    def test_bodyNotHeld(self) -> None:
        """A body over the replay limit, or still incomplete, is not repeated."""
        put = POST.replace(b"POST", b"PUT")
        for pieces in ([put, b"bo", b"dy"], [put, b"bo"]):
            self.reuse(*pieces, replayLimit=3 if len(pieces) > 2 else 1000)
            self.upstream.resets()
            self.assertEqual(len(self.sidecar.upstreams), 1)
            self.assertResponded(502, 502, UpstreamLost)

    def test_neverAPost(self) -> None:
        """A POST is never repeated: it may already have been processed."""
        for method in (b"POST", b"PATCH", b"LOCK", b"get"):
            for request in (GET.replace(b"GET", method), POST.replace(b"POST", method) + b"body"):
                self.reuse(request)
                self.upstream.closes()
                self.assertEqual(len(self.sidecar.upstreams), 1)
                self.assertResponded(502, 502, UpstreamLost)

    def test_onlyOnce(self) -> None:
        """If the fresh connection breaks too, the upstream has failed."""
        self.reuse(GET)
        self.upstream.closes()
        self.assertEqual(len(self.sidecar.upstreams), 2)
        self.upstream.closes()
        self.assertEqual(len(self.sidecar.upstreams), 2)
        self.assertResponded(502, 502, UpstreamLost, 2)

    def test_notOnAnotherReusedOne(self) -> None:
        """Other idle connections, which may also be closed, are not tried."""
        self.open()
        other = self.sidecar.connect()
        self.client.sends(GET)
        other.sends(GET)
        for peer in self.sidecar.upstreams:
            peer.sends(OK)
        self.assertEqual(self.client.got() + other.got(), OK + OK)
        self.told.clear()
        self.client.sends(GET)
        self.sidecar.upstream(1).closes()
        self.assertEqual(len(self.sidecar.upstreams), 3)
        self.upstream.sends(OK)
        self.assertResponded(200, 200, None, 2)

    def test_notBehindAByte(self) -> None:
        """After a byte of a response, even an interim one, nothing is repeated."""
        for data in (b"H", b"HTTP/1.1 103 Early Hints\r\n\r\n", b"HTTP/1.1 200 OK\r\n"):
            self.reuse(GET)
            self.upstream.sends(data)
            self.upstream.closes()
            self.assertEqual(len(self.sidecar.upstreams), 1)
            got = self.client.got()
            self.assertEqual(got[got.rindex(b"HTTP/1.1") :][9:12], b"502")
            self.assertEnded(502, 502, UpstreamLost)

    def test_notGarbageNorTimeout(self) -> None:
        """Nothing is repeated after a malformed response or a timeout."""
        self.reuse(GET)
        self.upstream.sends(b"garbage\r\n\r\n")
        self.assertResponded(502, 502, BadResponse)
        self.reuse(GET)
        self.sidecar.advance(Settings().responseTimeout + PERIOD_SECONDS)
        self.assertResponded(504, 504, UpstreamTimeout)

    def test_notOnAFreshOne(self) -> None:
        """Nothing is repeated after a fresh connection breaks."""
        self.open()
        self.client.sends(GET)
        self.upstream.closes()
        self.assertEqual(len(self.sidecar.upstreams), 1)
        self.assertResponded(502, 502, UpstreamLost)

    def test_freshOneRefused(self) -> None:
        """If no fresh connection can be opened, that failure is recorded."""
        self.reuse(GET)
        self.sidecar.endpoint.decision = self.sidecar.endpoint.refuse
        self.upstream.closes()
        self.assertResponded(502, 502, ConnectFailed, 2)


class Draining(EndingCase):
    """sitio is stopping: exchanges under way are not lost."""

    def test_idle(self) -> None:
        """An idle client is closed after a short time, in order."""
        self.open()
        self.client.sends(GET)
        self.upstream.sends(OK)
        self.client.got()
        drained = self.sidecar.factory.drain()
        self.sidecar.advance(DRAIN_IDLE_SECONDS - PERIOD_SECONDS)
        self.assertIs(self.client.state, OPEN)
        self.assertNoResult(drained)
        self.sidecar.advance(2 * PERIOD_SECONDS)
        self.assertTrue(self.client.closed)
        self.successResultOf(drained)
        self.assertEnded(200, 200)

    def test_requestOnItsWay(self) -> None:
        """A request that was on its way is answered as the last one."""
        self.open()
        drained = self.sidecar.factory.drain()
        self.sidecar.advance(DRAIN_IDLE_SECONDS / 2)
        self.client.sends(GET)
        self.sidecar.advance(10.0)
        self.upstream.sends(OK)
        self.assertEqual(self.client.got(), LAST)
        self.assertIs(self.client.state, HALF_CLOSED)
        self.client.closes()
        self.successResultOf(drained)
        self.assertEnded(200, 200)

    def test_busy(self) -> None:
        """An exchange under way is finished, and its response announces the close."""
        self.open()
        self.client.sends(GET)
        drained = self.sidecar.factory.drain()
        self.sidecar.advance(20.0)
        self.assertNoResult(drained)
        self.upstream.sends(OK)
        self.assertEqual(self.client.got(), LAST)
        self.assertIs(self.client.state, HALF_CLOSED)
        self.client.closes()
        self.successResultOf(drained)
        self.assertEnded(200, 200)

    def test_pipelined(self) -> None:
        """What comes behind the last request is dropped: it does not reset the connection."""
        for closes in (True, False):
            self.open()
            self.client.sends(GET)
            drained = self.sidecar.factory.drain()
            self.upstream.sends(OK)
            self.client.sends(GET)
            self.sidecar.advance(LINGER_AFTER_SECONDS / 2)
            self.client.sends(GET)
            self.assertIs(self.client.state, HALF_CLOSED)
            self.assertEqual(self.client.got(), LAST)
            if closes:
                self.client.closes()
            else:
                self.sidecar.advance(LINGER_AFTER_SECONDS)
            self.assertTrue(self.client.closed)
            self.successResultOf(drained)

    def test_keepAlive(self) -> None:
        """HTTP/1.0 clients that ask for keep-alive do not get it any more."""
        for asks in (b"Connection: keep-alive", b"Keep-Alive: timeout=5"):
            self.open()
            self.client.sends(b"GET / HTTP/1.0\r\nHost: h\r\n%b\r\n\r\n" % asks)
            self.sidecar.factory.drain()
            self.upstream.sends(OK)
            self.assertEqual(self.client.got(), LAST)
            self.assertEnded(200, 200)

    def test_headIsOut(self) -> None:
        """A response whose head was sent is completed; then the client gets a short time, too."""
        self.open()
        self.client.sends(GET)
        self.upstream.sends(PART)
        drained = self.sidecar.factory.drain()
        self.sidecar.advance(10.0)
        self.upstream.sends(b"y")
        self.assertEqual(self.client.got(), PART + b"y")
        self.sidecar.advance(DRAIN_IDLE_SECONDS + PERIOD_SECONDS)
        self.assertTrue(self.client.closed)
        self.successResultOf(drained)
        self.assertEnded(200, 200)

    def test_halfAHead(self) -> None:
        """A head that has begun may be completed, and is answered."""
        self.open()
        self.client.sends(GET[:-1])
        self.sidecar.factory.drain()
        self.sidecar.advance(DRAIN_IDLE_SECONDS + 1.0)
        self.client.sends(GET[-1:])
        self.upstream.sends(OK)
        self.assertEqual(self.client.got(), LAST)
        self.assertEnded(200, 200)

    def test_upload(self) -> None:
        """A request body on its way is passed completely."""
        self.open()
        self.client.sends(POST, b"bo")
        self.sidecar.factory.drain()
        self.sidecar.advance(DRAIN_IDLE_SECONDS + 1.0)
        self.client.sends(b"dy")
        self.assertTrue(self.upstream.got().endswith(b"body"))
        self.upstream.sends(OK)
        self.assertEqual(self.client.got(), LAST)
        self.assertEnded(200, 200)

    def test_requestsBehind(self) -> None:
        """Of pipelined requests only the one under way is answered, as the last."""
        self.open()
        self.client.sends(GET * 3)
        self.sidecar.factory.drain()
        self.upstream.sends(OK)
        self.assertEqual(self.client.got(), LAST)
        self.sidecar.advance(LINGER_SECONDS + PERIOD_SECONDS)
        self.assertTrue(self.client.closed)
        self.assertEqual(len(self.told), 1)
        self.sidecar.assertQuiet()

    def test_tunnel(self) -> None:
        """A tunnel lasts until the grace ends, and is recorded with sitio's stop."""
        self.open()
        self.client.sends(UPGRADE)
        self.upstream.sends(SWITCH)
        self.client.got()
        drained = self.sidecar.factory.drain()
        self.sidecar.advance(Settings().grace)
        self.client.sends(b"still here")
        self.assertTrue(self.upstream.got().endswith(b"still here"))
        self.assertNoResult(drained)
        self.sidecar.factory.abort()
        self.sidecar.settle()
        self.assertTrue(self.client.reset)
        self.assertNotEqual(self.upstream.state, OPEN)
        self.successResultOf(drained)
        self.assertEnded(101, 101, Stopped)

    def test_graceIsOver(self) -> None:
        """At the end of the grace, exchanges are broken off in every state."""
        reach = ByTheClient.reach
        for state, status, upstreamStatus, attempts in (
            (states.DECIDING, None, None, 0),
            (states.CONNECTING, None, None, 1),
            (states.WAITING, None, None, 1),
            (states.JUDGING, None, 200, 1),
            (states.RESTING, None, 503, 1),
            (states.SENDING, 200, 200, 1),
        ):
            reach(self, state)  # type: ignore[arg-type]
            drained = self.sidecar.factory.drain()
            self.sidecar.factory.abort()
            self.sidecar.settle()
            self.successResultOf(drained)
            self.assertBroken(status, upstreamStatus, Stopped, attempts)
            self.assertEqual(self.client.got(), b"" if status is None else PART)
