"""
How an exchange ends: in every way that there is, once, told as it was, and with
nothing left behind.
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
from sitio.settings import DRAIN_IDLE_SECONDS, LINGER_SECONDS, Settings
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

#: What the client sees instead of a response.
BROKEN = "broken off"


class EndingCase(ObservedCase):
    """A sidecar in memory, one client, and an observer that is told of each end."""

    @property
    def state(self) -> str:
        """That of the exchange under way."""
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
        """One exchange has ended so, was told once, and nothing is left of it."""
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
        """The client has got one whole response, and the observer is told of just that."""
        self.assertEqual(self.client.gotResponse().status, status)
        self.assertEnded(status, upstreamStatus, failure, attempts)

    def assertBroken(
        self, status: int | None, upstreamStatus: int | None, failure: Any, attempts: int = 1
    ) -> None:
        """The client has seen a broken connection, and the observer is told why."""
        self.sidecar.settle()
        self.assertTrue(self.client.reset)
        self.assertEnded(status, upstreamStatus, failure, attempts)


class ByAResponse(EndingCase):
    """Exchanges that end with a whole response."""

    def test_plain(self) -> None:
        """The upstream's own status, whatever it is, and no failure."""
        for status in (200, 204, 304, 404, 500, 502, 504):
            self.open()
            self.client.sends(GET)
            length = b"" if status in (204, 304) else b"Content-Length: 0\r\n"
            self.upstream.sends(b"HTTP/1.1 %d X\r\n%b\r\n" % (status, length))
            self.assertResponded(status, status)

    def test_untilClose(self) -> None:
        """A response that the end of its connection ends is whole."""
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
        """The upstream's status is recorded beside the one that was sent."""
        self.open(onResponse(404)(lambda exchange, response: Response(200, text="mine")))
        self.client.sends(GET)
        self.upstream.sends(b"HTTP/1.1 404 No\r\nContent-Length: 2\r\n\r\nno")
        self.assertResponded(200, 404)

    def test_policyMasks(self) -> None:
        """A failure that a policy masks is told as well."""
        self.open(onResponse(502)(lambda exchange, response: Response(200, text="mine")))
        self.sidecar.refuseConnections()
        self.client.sends(GET)
        self.assertResponded(200, 502, ConnectFailed)

    def test_policyFails(self) -> None:
        """A request policy that raises answers 500, and that is told as what it is."""

        def fails(exchange: Any) -> None:
            raise ZeroDivisionError

        self.open(onRequest(fails))
        self.client.sends(GET)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertResponded(500, None, PolicyFailed, 0)

    def test_refused(self) -> None:
        """A request that can't be read is recorded with its failure, and not sent upstream."""
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
        """A body that turns out malformed is answered, and its upstream let go of at once."""
        self.open()
        self.client.sends(CHUNKS, b"4\r\nbody\r\n")
        self.assertTrue(self.upstream.got().endswith(b"4\r\nbody\r\n"))
        self.client.sends(b"no chunk\r\n")
        self.assertTrue(self.upstream.reset)
        self.assertResponded(400, None, BadMessage)

    def test_bodyTooLong(self) -> None:
        """The same for a body in chunks that grows beyond its limit."""
        self.open(maxBody=5)
        self.client.sends(CHUNKS, b"4\r\nbody\r\n", b"2\r\nxx\r\n")
        self.assertTrue(self.upstream.reset)
        self.assertResponded(413, None, BodyTooLong)

    def test_bodyBreaksBehindTheResponse(self) -> None:
        """When the head of the response is out already, that can only be broken off."""
        self.open()
        self.client.sends(CHUNKS)
        self.upstream.sends(PART)
        self.client.sends(b"no chunk\r\n")
        self.assertTrue(self.upstream.reset)
        self.assertBroken(200, 200, BadMessage)


class ByTheUpstream(EndingCase):
    """Exchanges whose upstream fails."""

    def test_connectRefused(self) -> None:
        """A refused connection is a 502 of the upstream's, at once."""
        self.open()
        self.sidecar.refuseConnections()
        self.client.sends(GET)
        self.assertResponded(502, 502, ConnectFailed)

    def test_connectTimeout(self) -> None:
        """One that is never accepted is a 504."""
        self.open()
        self.sidecar.holdConnections()
        self.client.sends(GET)
        self.sidecar.advance(Settings().connectTimeout)
        self.assertResponded(504, 504, ConnectTimeout)

    def test_poolTimeout(self) -> None:
        """No free connection is a 503 of sitio's own: the upstream is not at fault."""
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
        """No response, or a piece of a head: 502, whichever way the connection ended."""
        for happens in (Peer.closes, Peer.halfCloses, Peer.resets):
            for data in (b"", b"H", OK[:-3]):
                self.open()
                self.client.sends(GET)
                self.upstream.sends(data)
                happens(self.upstream)
                self.assertResponded(502, 502, UpstreamLost)

    def test_withinTheBody(self) -> None:
        """
        A response that breaks off, by its length, by its chunks or by a reset, is
        broken off for the client as well: it must not look whole.
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
        """A connection that breaks after a whole response is no failure."""
        for happens in (Peer.closes, Peer.halfCloses, Peer.resets):
            self.open()
            self.client.sends(GET)
            self.upstream.sends(OK)
            happens(self.upstream)
            self.assertResponded(200, 200)

    def test_garbage(self) -> None:
        """What is no response, or an ambiguous one, is a 502, and its connection is broken."""
        for data in (
            b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
            b"HTTP/1.1 200 OK\r\nX : y\r\n\r\n",
            SWITCH,
            b"HTTP/1.1 103 Early Hints\r\n\r\n" * 33,
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
        """A body that turns out malformed is broken off, on both sides."""
        self.open()
        self.client.sends(GET)
        self.upstream.sends(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"no\r\n")
        self.assertTrue(self.upstream.reset)
        self.assertBroken(200, 200, BadResponse)

    def test_neverResponses(self) -> None:
        """A response that does not come in time is a 504."""
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
        """A response that breaks while a policy waits for it is a 502: nothing is out yet."""
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
        """A policy that always wishes for another attempt gets a bounded number of them."""
        self.open(onResponse(502)(lambda exchange, response: Retry(0.1)))
        self.sidecar.refuseConnections()
        self.client.sends(GET)
        self.sidecar.advance(1.0)
        self.assertResponded(502, 502, ConnectFailed, MAX_ATTEMPTS)

    def test_retried(self) -> None:
        """A failure that another attempt made good is told, with the true last status."""
        self.open(onResponse(502)(lambda exchange, response: Retry(2.0)))
        self.client.sends(GET)
        self.upstream.resets()
        self.sidecar.advance(2.0)
        self.assertEqual(self.client.got(), b"")
        self.upstream.sends(OK)
        self.assertResponded(200, 200, UpstreamLost, 2)


class ByTheClient(EndingCase):
    """Clients that go away, and uploads that stop."""

    def reach(self, state: str, request: bytes = GET) -> None:
        """Bring an exchange into this state, in one of the ways that lead there."""
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
        """It is counted as the client's doing, and the upstream was let go of at once."""
        self.assertEqual(len(self.told), 1)
        self.assertEqual(self.sidecar.endpoint.pending, 0)
        for peer in self.sidecar.upstreams:
            self.assertNotEqual(peer.state, OPEN)
        self.assertEqual(self.sidecar.pool.size, 0)
        self.assertEnded(499, status, ClientGone, attempts)
        self.assertEqual(self.sidecar.failures, [])

    def test_inEachState(self) -> None:
        """
        Wherever an exchange has got to, a client that goes away ends it at once,
        as 499; the upstream is let go of without a moment passing.
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
        """Between two attempts as well: the idle connection stays, there is no other."""
        for happens in (Peer.closes, Peer.resets):
            self.reach(states.RESTING)
            happens(self.client)
            self.assertEqual(self.sidecar.pool.snapshot(), {"open": 1, "idle": 1, "waiting": 0})
            self.assertEnded(499, 503, ClientGone)
            self.assertEqual(self.upstream.got().count(b"GET"), 1)

    def test_inTheQueue(self) -> None:
        """A client that goes away while it waits for a connection gives up its place."""
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
        """While a response is being buffered, too."""
        self.open(onResponse(200, buffered=True)(lambda exchange, response: None))
        self.client.sends(GET)
        self.upstream.sends(PART)
        self.client.closes()
        self.assertTrue(self.upstream.reset)
        self.assertGone(200)

    def test_withinTheBody(self) -> None:
        """A client that goes away within its request's body, streamed upstream."""
        for request in (POST + b"bo", CHUNKS + b"2\r\nbo\r\n"):
            for happens in (Peer.closes, Peer.resets):
                self.reach(states.WAITING, request)
                happens(self.client)
                self.assertTrue(self.upstream.reset)
                self.assertGone(None)

    def test_behindABodyInPieces(self) -> None:
        """
        A client that goes away once its body has come, in pieces, is noticed at
        once, though the body came before there was a connection.
        """
        decision: Deferred[None] = Deferred()
        self.open(onRequest(lambda exchange: decision))
        self.client.sends(POST, b"bo", b"dy")
        self.client.closes()
        self.assertGone(None, 0)

    def test_behindABodyThatWasHeld(self) -> None:
        """The same when the upstream has been asked since."""
        decision: Deferred[None] = Deferred()
        self.open(onRequest(lambda exchange: decision))
        self.client.sends(POST, b"body")
        decision.callback(None)
        self.assertTrue(self.upstream.got().endswith(b"body"))
        self.client.closes()
        self.assertTrue(self.upstream.reset)
        self.assertGone(None)

    def test_behindABacklog(self) -> None:
        """The same when the upstream was slow to read the body's last piece."""
        self.open()
        self.client.sends(POST)
        self.upstream.stopsReading()
        self.client.sends(b"body")
        self.upstream.resumesReading()
        self.client.closes()
        self.assertTrue(self.upstream.reset)
        self.assertGone(None)

    def test_beforeTheRequest(self) -> None:
        """A client that goes away before its head is whole was never an exchange."""
        for data in (b"", GET[:-1]):
            self.open()
            self.client.sends(data)
            self.client.closes()
            self.assertEqual(self.told, [])
            self.sidecar.assertQuiet()

    def test_behindTheResponse(self) -> None:
        """Nor is it anybody's failure when it goes away behind its response."""
        self.open()
        self.client.sends(GET)
        self.upstream.sends(OK)
        self.client.closes()
        self.assertResponded(200, 200)

    def test_withRequestsBehind(self) -> None:
        """Requests behind the one under way are not begun for a client that has gone."""
        self.open()
        self.client.sends(GET * 3)
        self.client.closes()
        self.assertGone(None)

    def test_uploadStops(self) -> None:
        """A client that stops within its body is told 408; the upstream is not at fault."""
        self.open()
        self.client.sends(POST, b"bo")
        self.sidecar.advance(Settings().stallTimeout + PERIOD_SECONDS)
        self.assertTrue(self.upstream.reset)
        self.assertResponded(408, None, RequestTimeout)

    def test_inATunnel(self) -> None:
        """A tunnel whose client breaks it off is a 101, and the upstream is let go of."""
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
        """One half ends, then the other: each side has what the other sent."""
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
        """The same the other way round."""
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
        """A tunnel whose upstream breaks it off is closed for the client."""
        self.switch()
        self.upstream.resets()
        self.assertTrue(self.client.closed)
        self.assertEnded(101, 101)

    def test_silent(self) -> None:
        """A tunnel in which nothing moves for too long is broken off on both sides."""
        self.switch(tunnelTimeout=100.0)
        self.sidecar.advance(100.0 + PERIOD_SECONDS)
        self.assertTrue(self.client.reset)
        self.assertNotEqual(self.upstream.state, OPEN)
        self.assertEnded(101, 101)

    def test_refused(self) -> None:
        """An upgrade that is refused is a plain exchange, and keeps its connections."""
        self.open()
        self.client.sends(UPGRADE)
        self.upstream.sends(OK)
        self.assertEqual(self.sidecar.pool.snapshot()["idle"], 1)
        self.assertResponded(200, 200)


class Filters(EndingCase):
    """Body filters that raise."""

    def test_raises(self) -> None:
        """A filter that may change the length, and raises, breaks the response off."""

        def fails(data: bytes) -> bytes:
            raise ZeroDivisionError

        self.open(onResponse(200)(lambda exchange, response: response.addFilter(fails)))
        self.client.sends(GET)
        self.upstream.sends(PART)
        self.assertTrue(self.upstream.reset)
        self.assertBroken(200, 200, SitioError)

    def test_raisesAtTheEnd(self) -> None:
        """The same at the end of a response that has gone out but for that."""

        def fails(data: bytes) -> bytes:
            if not data:
                raise ZeroDivisionError
            return data

        self.open(onResponse(200)(lambda exchange, response: response.addFilter(fails)))
        self.client.sends(GET)
        self.upstream.sends(PART, b"y")
        self.assertBroken(200, 200, SitioError)


class Reused(EndingCase):
    """A reused connection that breaks before a byte of the response (RFC 9112, section 9.3.1)."""

    def reuse(self, request: bytes, *pieces: bytes, **settings: Any) -> bytes:
        """Send this on a connection that has carried a request; what the upstream got."""
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
        """An idempotent request without a body is sent once more, on a fresh connection."""
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
        """The same for a body that is still held whole, in one piece or in some."""
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
        """A body beyond the replay limit, or not yet whole, is not sent again."""
        put = POST.replace(b"POST", b"PUT")
        for pieces in ([put, b"bo", b"dy"], [put, b"bo"]):
            self.reuse(*pieces, replayLimit=3 if len(pieces) > 2 else 1000)
            self.upstream.resets()
            self.assertEqual(len(self.sidecar.upstreams), 1)
            self.assertResponded(502, 502, UpstreamLost)

    def test_neverAPost(self) -> None:
        """What may have been done already is never done twice."""
        for method in (b"POST", b"PATCH", b"LOCK", b"get"):
            for request in (GET.replace(b"GET", method), POST.replace(b"POST", method) + b"body"):
                self.reuse(request)
                self.upstream.closes()
                self.assertEqual(len(self.sidecar.upstreams), 1)
                self.assertResponded(502, 502, UpstreamLost)

    def test_onlyOnce(self) -> None:
        """A fresh connection that breaks as well is the upstream's failure."""
        self.reuse(GET)
        self.upstream.closes()
        self.assertEqual(len(self.sidecar.upstreams), 2)
        self.upstream.closes()
        self.assertEqual(len(self.sidecar.upstreams), 2)
        self.assertResponded(502, 502, UpstreamLost, 2)

    def test_notOnAnotherReusedOne(self) -> None:
        """Other idle connections, which may have ended as well, are not tried."""
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
        """Once a byte of a response has come, an interim one too, nothing is sent again."""
        for data in (b"H", b"HTTP/1.1 103 Early Hints\r\n\r\n", b"HTTP/1.1 200 OK\r\n"):
            self.reuse(GET)
            self.upstream.sends(data)
            self.upstream.closes()
            self.assertEqual(len(self.sidecar.upstreams), 1)
            got = self.client.got()
            self.assertEqual(got[got.rindex(b"HTTP/1.1") :][9:12], b"502")
            self.assertEnded(502, 502, UpstreamLost)

    def test_notGarbageNorTimeout(self) -> None:
        """Nor behind garbage, nor when the response takes too long."""
        self.reuse(GET)
        self.upstream.sends(b"garbage\r\n\r\n")
        self.assertResponded(502, 502, BadResponse)
        self.reuse(GET)
        self.sidecar.advance(Settings().responseTimeout + PERIOD_SECONDS)
        self.assertResponded(504, 504, UpstreamTimeout)

    def test_notOnAFreshOne(self) -> None:
        """A fresh connection that breaks is no idle one that was closed."""
        self.open()
        self.client.sends(GET)
        self.upstream.closes()
        self.assertEqual(len(self.sidecar.upstreams), 1)
        self.assertResponded(502, 502, UpstreamLost)

    def test_freshOneRefused(self) -> None:
        """When no fresh connection is to be had, that is what is told."""
        self.reuse(GET)
        self.sidecar.endpoint.decision = self.sidecar.endpoint.refuse
        self.upstream.closes()
        self.assertResponded(502, 502, ConnectFailed, 2)


class Draining(EndingCase):
    """sitio has been told to stop: nothing in flight is lost."""

    def test_idle(self) -> None:
        """An idle client is closed after a moment, in good order."""
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
        """A request that was on its way is answered, and the last."""
        self.open()
        drained = self.sidecar.factory.drain()
        self.sidecar.advance(DRAIN_IDLE_SECONDS / 2)
        self.client.sends(GET)
        self.sidecar.advance(10.0)
        self.upstream.sends(OK)
        self.assertEqual(self.client.got(), LAST)
        self.assertTrue(self.client.closed)
        self.successResultOf(drained)
        self.assertEnded(200, 200)

    def test_busy(self) -> None:
        """What is in flight is finished, with the connection's end announced."""
        self.open()
        self.client.sends(GET)
        drained = self.sidecar.factory.drain()
        self.sidecar.advance(20.0)
        self.assertNoResult(drained)
        self.upstream.sends(OK)
        self.assertEqual(self.client.got(), LAST)
        self.assertTrue(self.client.closed)
        self.successResultOf(drained)
        self.assertEnded(200, 200)

    def test_keepAlive(self) -> None:
        """HTTP/1.0 clients that ask for it are offered no keep-alive any more."""
        for asks in (b"Connection: keep-alive", b"Keep-Alive: timeout=5"):
            self.open()
            self.client.sends(b"GET / HTTP/1.0\r\nHost: h\r\n%b\r\n\r\n" % asks)
            self.sidecar.factory.drain()
            self.upstream.sends(OK)
            self.assertEqual(self.client.got(), LAST)
            self.assertEnded(200, 200)

    def test_headIsOut(self) -> None:
        """A response whose head was out comes whole; then the client has its moment, too."""
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
        """A head that has begun may come to its end, and is answered."""
        self.open()
        self.client.sends(GET[:-1])
        self.sidecar.factory.drain()
        self.sidecar.advance(DRAIN_IDLE_SECONDS + 1.0)
        self.client.sends(GET[-1:])
        self.upstream.sends(OK)
        self.assertEqual(self.client.got(), LAST)
        self.assertEnded(200, 200)

    def test_upload(self) -> None:
        """A body that is on its way comes through."""
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
        """Of requests sent ahead the one under way is answered, and is the last."""
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
        """A tunnel lasts until the grace is over, and is told as what it was."""
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
        """What has not ended with the grace is broken off, in whatever state it is."""
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
