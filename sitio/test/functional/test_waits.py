"""
Waits and bounds: nothing takes longer, and nothing grows larger, than it may.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from sitio.errors import (
    BadResponse,
    BodyTooLong,
    ConnectTimeout,
    HeadTooLong,
    PolicyFailed,
    PoolExhausted,
    RequestTimeout,
    SitioError,
    Stalled,
    UpstreamLost,
    UpstreamTimeout,
)
from sitio.http.codec import MAX_INTERIM
from sitio.http.message import Response, Retry
from sitio.net.deadlines import PERIOD_SECONDS
from sitio.policy.functions import onRequest, onResponse
from sitio.proxy.retries import MAX_ATTEMPTS
from sitio.settings import LINGER_SECONDS, Settings
from sitio.test.helpers.observed import ObservedCase
from sitio.testing import CLOSED, HALF_CLOSED, OPEN, RESET
from sitio.testing.network import TRANSPORT_BUFFER_BYTES
from sitio.upstream.client import MAX_DISCARD
from sitio.upstream.pool import CLOSE_TIMEOUT_SECONDS

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
POST = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n"
CHUNKS = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
LONG = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"

UPGRADE = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"

#: Bytes of one read.
READ = b"x" * TRANSPORT_BUFFER_BYTES


class WaitCase(ObservedCase):
    """A sidecar in memory, one client, and an observer."""

    def assertEnded(self, *expected: Any) -> None:
        """
        One exchange has ended: status, upstreamStatus, failure.  Nothing is left.
        """
        found = [
            (each.status, each.upstreamStatus, each.failure and type(each.failure))
            for each in self.told
        ]
        self.assertEqual(found, [expected])
        self.sidecar.assertQuiet()

    def assertWaits(self, seconds: float) -> None:
        """
        Nothing happens before so many seconds, and what has to at most one period
        of the sweep later: an exchange ends, or connections do.
        """
        self.sidecar.advance(seconds - 0.001)
        before = self._looks()
        self.sidecar.advance(0.0005)
        self.assertEqual(self._looks(), before, "early")
        self.sidecar.advance(PERIOD_SECONDS + 0.0005)
        self.assertNotEqual(self._looks(), before, "late")

    def assertStill(self, seconds: float) -> None:
        """Nothing happens for so long."""
        before = self._looks()
        self.sidecar.advance(seconds)
        self.assertEqual(self._looks(), before)

    def _looks(self) -> Any:
        peers = [*self.sidecar.clients, *self.sidecar.upstreams]
        return len(self.told), [each.state for each in peers], len(self.client.pieces)


class TheClient(WaitCase):
    """Waits for the client."""

    def test_saysNothing(self) -> None:
        """A client that connects and says nothing is let go, without a word."""
        self.open(headTimeout=7.0)
        self.assertWaits(7.0)
        self.assertEqual((self.client.got(), self.client.state), (b"", CLOSED))
        self.assertEqual(self.told, [])
        self.sidecar.assertQuiet()

    def test_head(self) -> None:
        """A head has its time from its first byte, however steadily it trickles: 408."""
        self.open(headTimeout=7.0)
        self.sidecar.advance(5.0)
        self.client.sends(GET[:5])
        for _ in range(6):
            self.sidecar.advance(1.0)
            self.client.sends(b"x")
        self.assertWaits(1.0)
        self.assertEqual(self.client.gotResponse().status, 408)
        self.sidecar.advance(LINGER_SECONDS + PERIOD_SECONDS)
        self.assertTrue(self.client.closed)
        self.assertEnded(408, None, RequestTimeout)

    def test_nextHead(self) -> None:
        """So has the head of a later request; what comes between counts as idle."""
        self.open(headTimeout=7.0)
        self.client.sends(GET)
        self.upstream.sends(OK)
        self.client.got()
        self.told.clear()
        self.sidecar.advance(20.0)
        self.client.sends(GET[:-1])
        self.assertWaits(7.0)
        self.assertEqual(self.client.gotResponse().status, 408)
        self.sidecar.advance(LINGER_SECONDS + PERIOD_SECONDS)
        self.assertEnded(408, None, RequestTimeout)

    def test_idle(self) -> None:
        """A connection between requests is kept for its time, from the last response's end."""
        self.open(idleTimeout=7.0, upstreamIdleTimeout=100.0)
        for _ in range(3):
            self.client.sends(GET)
            self.sidecar.advance(6.0)
            self.upstream.sends(OK)
            self.assertEqual(self.client.got(), OK)
            self.assertStill(6.0)
        self.assertStill(0.5)
        self.assertWaits(0.5)
        self.assertTrue(self.client.closed)
        self.sidecar.assertQuiet()

    def test_emptyLines(self) -> None:
        """Empty lines before a request (RFC 9112, section 2.2) do not keep it open."""
        self.open(headTimeout=7.0)
        self.client.sends(b"\r\n")
        for _ in range(6):
            self.sidecar.advance(1.0)
            self.client.sends(b"\r\n")
        self.sidecar.advance(1.0 + LINGER_SECONDS + 2 * PERIOD_SECONDS)
        self.assertFalse(self.client.transport.connected)
        self.sidecar.assertQuiet()

    def test_uploadStops(self) -> None:
        """A body that stops is a 408; each piece that comes begins the wait anew."""
        for head, pieces in (
            (POST % 9, [b"x"] * 4),
            (CHUNKS, [b"1\r\nx\r\n"] * 4),
        ):
            self.open(stallTimeout=7.0, responseTimeout=100.0)
            self.client.sends(head)
            for piece in pieces:
                self.assertStill(6.0)
                self.client.sends(piece)
            self.upstream.got()
            self.assertWaits(7.0)
            self.assertTrue(self.upstream.reset)
            self.assertEqual(self.client.gotResponse().status, 408)
            self.sidecar.advance(LINGER_SECONDS + PERIOD_SECONDS)
            self.assertEnded(408, None, RequestTimeout)

    def test_readsNothing(self) -> None:
        """A client that reads nothing of its response is broken off, and the upstream with it."""
        self.open(stallTimeout=7.0)
        self.client.stopsReading()
        self.client.sends(GET)
        self.upstream.sends(LONG % 1000 + b"x" * 100)
        self.assertTrue(self.upstream.paused)
        self.assertWaits(7.0)
        self.assertEqual((self.client.state, self.upstream.state), (RESET, RESET))
        self.assertEnded(200, 200, Stalled)

    def test_readsSlowly(self) -> None:
        """One that reads now and then is not: each time the wait begins anew."""
        self.open(stallTimeout=7.0, upstreamIdleTimeout=100.0)
        self.client.sends(GET)
        self.upstream.sends(LONG % 500)
        for _ in range(5):
            self.client.stopsReading()
            self.upstream.sends(b"x" * 100)
            self.assertStill(6.0)
            self.client.resumesReading()
            self.assertStill(6.0)
        self.assertEqual(len(self.client.got()), len(LONG % 500) + 500)
        self.assertEnded(200, 200, None)

    def test_closing(self) -> None:
        """
        A client that does not read its last response is waited for no longer than
        a stall.
        """
        self.open(stallTimeout=7.0)
        self.client.stopsReading()
        self.client.sends(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        self.upstream.sends(OK)
        self.assertEqual(len(self.told), 1)
        self.assertWaits(7.0)
        self.assertTrue(self.client.reset)
        self.assertEnded(200, 200, None)

    def test_idleAndReadsNothing(self) -> None:
        """Nor is a client that does not read its response."""
        self.open(stallTimeout=7.0, idleTimeout=9.0)
        self.client.stopsReading()
        self.client.sends(GET)
        self.upstream.sends(OK)
        self.sidecar.advance(9.0 + 7.0 + 2 * PERIOD_SECONDS)
        self.assertTrue(self.client.reset)
        self.assertEnded(200, 200, None)

    def test_lingers(self) -> None:
        """
        The rest of a request whose response is out is dropped for a while, which
        nothing prolongs.
        """
        self.open()
        self.client.sends(POST % 1000)
        self.upstream.sends(OK)
        self.assertIs(self.client.state, HALF_CLOSED)
        for _ in range(3):
            self.sidecar.advance(LINGER_SECONDS / 4)
            self.client.sends(b"x" * 100)
        self.assertWaits(LINGER_SECONDS / 4)
        self.assertTrue(self.client.closed)
        self.assertEnded(200, 200, None)


class TheUpstream(WaitCase):
    """Waits for the upstream."""

    def test_connect(self) -> None:
        """To connect."""
        self.open(connectTimeout=7.0)
        self.sidecar.holdConnections()
        self.client.sends(GET)
        self.sidecar.advance(7.0 - 0.001)
        self.assertEqual(self.client.got(), b"")
        self.sidecar.advance(0.001)
        self.assertEqual(self.client.gotResponse().status, 504)
        self.assertEnded(504, 504, ConnectTimeout)

    def test_pool(self) -> None:
        """For a free connection: 503, as the upstream has done nothing wrong."""
        self.open(poolSize=1, poolTimeout=7.0)
        other = self.sidecar.connect()
        other.sends(GET)
        self.client.sends(GET)
        self.sidecar.advance(7.0 - 0.001)
        self.assertEqual(self.client.got(), b"")
        self.sidecar.advance(0.001)
        self.assertEqual(self.client.gotResponse().status, 503)
        self.assertEnded(503, 503, PoolExhausted)

    def test_response(self) -> None:
        """For the head of a response, from the request's end: 504, and it is let go of."""
        self.open(responseTimeout=9.0, stallTimeout=7.0)
        self.client.sends(POST % 4, b"bo")
        self.sidecar.advance(5.0)
        self.client.sends(b"dy")
        self.assertWaits(9.0)
        self.assertTrue(self.upstream.reset)
        self.assertEqual(self.client.gotResponse().status, 504)
        self.assertEnded(504, 504, UpstreamTimeout)

    def test_halfAHead(self) -> None:
        """A head that comes slowly has no more time than one that does not come."""
        self.open(responseTimeout=9.0)
        self.client.sends(GET)
        for start in range(8):
            self.sidecar.advance(1.0)
            self.upstream.sends(OK[start : start + 1])
        self.assertWaits(1.0)
        self.assertEqual(self.client.gotResponse().status, 504)
        self.assertEnded(504, 504, UpstreamTimeout)

    def test_interim(self) -> None:
        """An interim response says that it works on it: the wait begins anew."""
        self.open(responseTimeout=9.0)
        self.client.sends(GET)
        self.sidecar.advance(8.0)
        self.upstream.sends(b"HTTP/1.1 102 Processing\r\n\r\n")
        self.assertWaits(9.0)
        self.assertEnded(504, 504, UpstreamTimeout)

    def test_uploadIsNotRead(self) -> None:
        """An upstream that reads nothing of an upload stalls: 504."""
        self.open(stallTimeout=7.0, responseTimeout=100.0)
        self.client.sends(POST % 9)
        self.upstream.stopsReading()
        self.client.sends(b"x")
        self.assertTrue(self.client.paused)
        self.assertWaits(7.0)
        self.assertTrue(self.upstream.reset)
        self.assertEqual(self.client.gotResponse().status, 504)
        self.sidecar.advance(LINGER_SECONDS + PERIOD_SECONDS)
        self.assertEnded(504, 504, UpstreamTimeout)

    def test_uploadIsReadAtLast(self) -> None:
        """When it has read on, it is the client again that is waited for."""
        self.open(stallTimeout=7.0)
        self.client.sends(POST % 9)
        self.upstream.stopsReading()
        self.client.sends(b"x")
        self.sidecar.advance(6.0)
        self.upstream.resumesReading()
        self.assertFalse(self.client.paused)
        self.client.sends(b"x")
        self.assertWaits(7.0)
        self.assertEqual(self.client.gotResponse().status, 408)
        self.sidecar.advance(LINGER_SECONDS + PERIOD_SECONDS)
        self.assertEnded(408, None, RequestTimeout)

    def test_uploadIsReadLate(self) -> None:
        """
        An upstream that reads on just in time gives the client a whole stall's
        time to send on.
        """
        self.open(stallTimeout=7.0)
        self.client.sends(POST % 9)
        self.upstream.stopsReading()
        self.client.sends(b"x")
        self.sidecar.advance(6.5)
        self.upstream.resumesReading()
        self.assertStill(6.5)
        self.client.sends(b"x" * 8)
        self.upstream.sends(OK)
        self.assertEqual(self.client.got(), OK)
        self.assertEnded(200, 200, None)

    def test_responseStops(self) -> None:
        """A body that stops is broken off on both sides; each piece begins the wait anew."""
        self.open(stallTimeout=7.0)
        self.client.sends(GET)
        self.upstream.sends(LONG % 9)
        for _ in range(4):
            self.assertStill(6.0)
            self.upstream.sends(b"x")
            self.client.got()
        self.assertWaits(7.0)
        self.assertEqual((self.client.state, self.upstream.state), (RESET, RESET))
        self.assertEnded(200, 200, Stalled)

    def test_bufferedResponseStops(self) -> None:
        """One that is being buffered can still be answered for: 504."""
        self.open(onResponse(200, buffered=True)(lambda exchange, response: None), stallTimeout=7.0)
        self.client.sends(GET)
        self.upstream.sends(LONG % 9)
        for _ in range(4):
            self.assertStill(6.0)
            self.upstream.sends(b"x")
        self.assertWaits(7.0)
        self.assertEqual(self.client.gotResponse().status, 504)
        self.sidecar.advance(CLOSE_TIMEOUT_SECONDS + PERIOD_SECONDS)
        self.assertTrue(self.upstream.reset)
        self.assertEnded(504, 504, UpstreamTimeout)

    def test_bufferedResponseStopsAtOnce(self) -> None:
        """So can one that stops right behind its head."""
        self.open(onResponse(200, buffered=True)(lambda exchange, response: None), stallTimeout=7.0)
        self.client.sends(GET)
        self.upstream.sends(LONG % 9)
        self.assertWaits(7.0)
        self.assertEqual(self.client.gotResponse().status, 504)
        self.assertEnded(504, 504, UpstreamTimeout)

    def test_uploadBesideABufferedResponse(self) -> None:
        """Bytes of an upload that move are no stall, though a buffered response rests."""
        self.open(onResponse(200, buffered=True)(lambda exchange, response: None), stallTimeout=7.0)
        self.client.sends(POST % 9)
        self.upstream.sends(LONG % 9)
        for _ in range(3):
            self.assertStill(6.0)
            self.client.sends(b"x")
        self.assertWaits(7.0)
        self.assertEqual(self.client.gotResponse().status, 504)
        self.sidecar.advance(LINGER_SECONDS + PERIOD_SECONDS)
        self.assertEnded(504, 504, UpstreamTimeout)

    def test_idle(self) -> None:
        """An idle connection is closed in good order, the client's own goes on."""
        self.open(upstreamIdleTimeout=7.0)
        self.client.sends(GET)
        self.upstream.sends(OK)
        self.client.got()
        self.assertWaits(7.0)
        self.assertEqual((self.client.state, self.upstream.state), (OPEN, CLOSED))
        self.assertEnded(200, 200, None)

    def test_unwantedRest(self) -> None:
        """An unwanted rest has its own time, which no byte prolongs."""
        self.open(onResponse(200)(lambda exchange, response: Response(404)))
        self.client.sends(GET)
        self.upstream.sends(LONG % 9)
        self.assertEqual(self.client.gotResponse().status, 404)
        for _ in range(4):
            self.sidecar.advance(CLOSE_TIMEOUT_SECONDS / 5)
            self.upstream.sends(b"x")
        self.assertWaits(CLOSE_TIMEOUT_SECONDS / 5)
        self.assertEqual((self.client.state, self.upstream.state), (OPEN, RESET))
        self.assertEnded(404, 200, None)

    def test_tunnel(self) -> None:
        """A tunnel ends when neither side has sent for so long; either prolongs it."""
        self.open(tunnelTimeout=7.0, stallTimeout=2.0)
        self.client.sends(UPGRADE)
        self.upstream.sends(SWITCH)
        for peer in (self.client, self.upstream, self.client):
            self.assertStill(6.0)
            peer.sends(b"x")
            self.client.got()
        self.assertWaits(7.0)
        self.assertTrue(self.client.reset)
        self.assertNotEqual(self.upstream.state, OPEN)
        self.assertEnded(101, 101, None)

    def test_halfATunnel(self) -> None:
        """The same when one half of it has ended."""
        self.open(tunnelTimeout=7.0)
        self.client.sends(UPGRADE)
        self.upstream.sends(SWITCH)
        self.client.halfCloses()
        self.sidecar.advance(6.0)
        self.upstream.sends(b"x")
        self.client.got()
        self.assertWaits(7.0)
        self.assertEnded(101, 101, None)


class Policies(WaitCase):
    """Waits for policies, whatever the timeouts of connections."""

    def test_request(self) -> None:
        """One that decides nothing in time answers 500."""
        self.open(
            onRequest(lambda exchange: Deferred()),
            policyTimeout=7.0,
            headTimeout=1.0,
            idleTimeout=1.0,
            stallTimeout=1.0,
        )
        self.client.sends(GET)
        self.sidecar.advance(7.0 - 0.001)
        self.assertEqual(self.client.got(), b"")
        self.sidecar.advance(0.001)
        self.assertEqual(self.client.gotResponse().status, 500)
        self.assertEqual(len(self.sidecar.errors), 1)
        self.assertEqual(len(self.flushLoggedErrors()), 1)
        self.assertEnded(500, None, PolicyFailed)

    def test_response(self) -> None:
        """One that makes nothing of a response in time lets it pass."""
        for data in (OK, OK[:-1]):
            self.open(
                onResponse(200)(lambda exchange, response: Deferred()),
                policyTimeout=7.0,
                stallTimeout=1.0,
                responseTimeout=1.0,
            )
            self.client.sends(GET)
            self.upstream.sends(data)
            self.sidecar.advance(7.0 - 0.001)
            self.assertEqual(self.client.got(), b"")
            self.sidecar.advance(0.001)
            if data != OK:
                self.upstream.sends(b"k")
            self.assertEqual(self.client.got(), OK)
            self.assertEqual(len(self.flushLoggedErrors()), 1)
            self.assertEnded(200, 200, None)

    def test_retry(self) -> None:
        """The wait before another attempt is that of the Retry, exactly."""
        self.open(onResponse(503)(lambda exchange, response: Retry(7.0)), stallTimeout=1.0)
        self.client.sends(GET)
        self.upstream.sends(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")
        self.sidecar.advance(7.0 - 0.001)
        self.assertEqual(len(self.sidecar.upstreams), 1)
        self.sidecar.advance(0.001)
        self.assertEqual(len(self.sidecar.upstreams), 2)
        self.upstream.sends(OK)
        self.assertEqual(self.client.got(), OK)
        self.assertEnded(200, 200, None)


class Sizes(WaitCase):
    """Bounds: the last that passes, and the first that does not."""

    def padded(self, head: bytes, size: int) -> bytes:
        """This head, made so long by a field."""
        start = head.removesuffix(b"\r\n") + b"X: "
        return start + b"x" * (size - len(start) - 4) + b"\r\n\r\n"

    def test_head(self) -> None:
        """A head of the limit passes, one byte more is a 431, whole or not yet."""
        for size, cut, status in ((200, 0, 200), (201, 0, 431), (400, 199, 431), (200, 2, None)):
            self.open(maxHead=200)
            data = self.padded(GET, size)
            self.client.sends(data[: size - cut])
            if status == 200:
                self.upstream.sends(OK)
            if status is None:
                self.assertEqual((self.client.got(), self.told), (b"", []))
                continue
            self.assertEqual(self.client.gotResponse().status, status)
            self.assertEqual(len(self.sidecar.upstreams), int(status == 200))
            failure = None if status == 200 else HeadTooLong
            self.assertEnded(status, 200 if status == 200 else None, failure)

    def test_responseHead(self) -> None:
        """The same limit holds for responses: 502."""
        for size, status in ((200, 200), (201, 502)):
            self.open(maxHead=200)
            self.client.sends(GET)
            head = self.padded(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", size)
            self.upstream.sends(head)
            self.assertEqual(self.client.gotResponse().status, status)
            self.assertEnded(status, status, None if status == 200 else BadResponse)

    def test_fields(self) -> None:
        """As many fields as the limit pass, one more is a 431, or a 502."""
        for count in (5, 6):
            self.open(maxFields=5)
            head = GET.removesuffix(b"\r\n") + b"X: y\r\n" * (count - 1) + b"\r\n"
            self.client.sends(head)
            if count == 5:
                self.upstream.sends(OK)
            status = 200 if count == 5 else 431
            self.assertEqual(self.client.gotResponse().status, status)
            self.open(maxFields=5)
            self.client.sends(GET)
            self.upstream.sends(b"HTTP/1.1 204 No\r\n" + b"X: y\r\n" * count + b"\r\n")
            self.assertEqual(self.client.gotResponse().status, 204 if count == 5 else 502)
            self.sidecar.assertQuiet()

    def test_body(self) -> None:
        """A body of the limit passes, one byte more is a 413, by length and by chunks."""
        for size, status in ((5, 200), (6, 413)):
            body = b"x" * size
            for pieces in (
                [POST % size + body],
                [POST % size, body],
                [CHUNKS + b"%x\r\n" % size + body + b"\r\n0\r\n\r\n"],
                [CHUNKS, b"3\r\nxxx\r\n", b"%x\r\n" % (size - 3), body[3:] + b"\r\n", b"0\r\n\r\n"],
            ):
                self.open(maxBody=5)
                self.client.sends(*pieces)
                if status == 200:
                    self.assertEqual(self.upstream.gotRequest().body, body)
                    self.upstream.sends(OK)
                self.assertEqual(self.client.gotResponse().status, status)
                self.sidecar.advance(LINGER_SECONDS + PERIOD_SECONDS)
                told = (200, 200, None) if status == 200 else (413, None, BodyTooLong)
                self.assertEnded(*told)

    def test_responseBody(self) -> None:
        """The limit of request bodies does not hold for responses."""
        self.open(maxBody=5)
        self.client.sends(GET)
        self.upstream.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nxxxxxx")
        self.assertEqual(self.client.gotResponse().body, b"xxxxxx")
        self.assertEnded(200, 200, None)

    def test_noBodyLimit(self) -> None:
        """Without a limit a body of any length streams."""
        self.open()
        self.client.sends(POST % (len(READ) * 40))
        for _ in range(40):
            self.client.sends(READ)
            self.assertGreaterEqual(len(self.upstream.got()), len(READ))
        self.upstream.sends(OK)
        self.assertEqual(self.client.got(), OK)
        self.assertEqual(self.told[0].bytesIn, len(READ) * 40)

    def test_replay(self) -> None:
        """A body of the limit is kept to be sent again, one byte more is not."""
        for size in (5, 6):
            self.open(onResponse(502)(lambda exchange, response: Retry()), replayLimit=5)
            head = (POST % size).replace(b"POST", b"PUT")
            self.client.sends(head, b"x", b"x" * (size - 1))
            self.upstream.got()
            self.upstream.resets()
            if size == 5:
                self.assertEqual(self.upstream.gotRequest().body, b"xxxxx")
                self.upstream.sends(OK)
                self.assertEqual(self.client.got(), OK)
                self.assertEnded(200, 200, UpstreamLost)
            else:
                self.assertEqual(self.client.gotResponse().status, 502)
                self.assertEnded(502, 502, UpstreamLost)

    def test_bodyBeforeItCanBeSent(self) -> None:
        """Of a body that nobody can take yet, not more is held than the limit and one read."""
        decision: Deferred[None] = Deferred()
        self.open(onRequest(lambda exchange: decision), replayLimit=5)
        self.client.sends(POST % 1000, b"x" * 5)
        self.assertFalse(self.client.paused)
        self.client.sends(b"x")
        self.assertTrue(self.client.paused)
        self.client.sends(b"x" * 994)
        decision.callback(None)
        self.assertEqual(self.upstream.gotRequest().body, b"x" * 1000)
        self.assertFalse(self.client.paused)
        self.upstream.sends(OK)
        self.assertEqual(self.client.got(), OK)
        self.assertEnded(200, 200, None)

    def test_clients(self) -> None:
        """One client beyond the bound is let go at once; others are not disturbed."""
        self.open(maxClients=2)
        second = self.sidecar.connect()
        third = self.sidecar.connect()
        self.assertEqual((self.client.state, second.state, third.state), (OPEN, OPEN, RESET))
        self.assertEqual(self.sidecar.factory.connections, 2)
        self.assertEqual([type(each) for each in self.sidecar.failures], [SitioError])
        second.closes()
        fourth = self.sidecar.connect()
        fourth.sends(GET)
        self.upstream.sends(OK)
        self.assertEqual(fourth.got(), OK)
        self.assertEnded(200, 200, None)

    def test_pool(self) -> None:
        """The upstream sees as many connections as the bound, the queue no more than its."""
        self.open(poolSize=2, poolQueue=1)
        clients = [self.client, *(self.sidecar.connect() for _ in range(3))]
        for each in clients:
            each.sends(GET)
        self.assertEqual(self.sidecar.pool.snapshot(), {"open": 2, "idle": 0, "waiting": 1})
        self.assertEqual(clients[3].gotResponse().status, 503)
        self.assertIs(type(self.told[0].failure), PoolExhausted)
        self.sidecar.upstream(0).sends(OK)
        self.assertIn(b"GET", self.sidecar.upstream(0).got().partition(b"GET")[2])
        self.sidecar.upstream(0).sends(OK)
        self.sidecar.upstream(1).sends(OK)
        self.assertEqual([each.got() for each in clients[:3]], [OK] * 3)
        self.sidecar.assertQuiet()

    def test_interim(self) -> None:
        """As many interim responses as the bound pass, one more is a 502."""
        hint = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
        for count in (MAX_INTERIM, MAX_INTERIM + 1):
            self.open()
            self.client.sends(GET)
            self.upstream.sends(hint * count, *([OK] if count == MAX_INTERIM else []))
            got = self.client.got()
            self.assertTrue(got.startswith(hint * MAX_INTERIM))
            status = 200 if count == MAX_INTERIM else 502
            self.assertEqual(got[len(hint) * MAX_INTERIM :][9:12], b"%d" % status)
            self.assertEnded(status, status, None if status == 200 else BadResponse)

    def test_unwantedRest(self) -> None:
        """
        Of a response that nobody wants a short rest is read, and the connection kept;
        a longer one closes it, be its length announced or not.
        """
        chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        rest = b"x" * MAX_DISCARD
        for head, tail, kept in (
            (LONG % MAX_DISCARD, rest, True),
            (LONG % (MAX_DISCARD + 1), b"", False),
            (chunked, b"%x\r\n" % MAX_DISCARD + rest + b"\r\n0\r\n\r\n", True),
            (chunked, b"%x\r\n" % (MAX_DISCARD + 1) + rest + b"x", False),
        ):
            self.open(onResponse(200)(lambda exchange, response: Response(404)))
            self.client.sends(GET)
            self.upstream.sends(head, *([tail] if tail else []))
            self.assertEqual(self.client.gotResponse().status, 404)
            self.assertEqual(self.sidecar.pool.snapshot()["idle"], int(kept), head)
            self.assertIs(self.upstream.state, OPEN if kept else RESET)
            self.assertEnded(404, 200, None)

    def test_attempts(self) -> None:
        """The upstream is not asked more often than the bound, whatever a policy wishes."""
        self.open(onResponse(503)(lambda exchange, response: Retry()))
        self.client.sends(GET)
        for _ in range(MAX_ATTEMPTS):
            self.assertEqual(self.told, [])
            self.upstream.sends(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")
            self.sidecar.settle()
        self.assertEqual(self.client.gotResponse().status, 503)
        self.assertEqual(self.told[0].attempts, MAX_ATTEMPTS)
        self.assertEnded(503, 503, None)

    def test_pipelined(self) -> None:
        """Requests behind a body are held up to one head and one read, as others are."""
        self.open()
        self.client.sends(POST % 4, b"body" + READ[4:], *[READ] * 5)
        server: Any = self.client.transport.protocol
        self.assertTrue(self.client.paused)
        self.assertLessEqual(server.reader.held, Settings().maxHead + TRANSPORT_BUFFER_BYTES)


class FlowControl(WaitCase):
    """Whoever does not read holds up whoever sends."""

    def test_clientReadsNothing(self) -> None:
        """The upstream is paused after one read, nothing else grows, and both go on."""
        self.open()
        self.client.stopsReading()
        self.client.sends(GET)
        self.upstream.sends(LONG % (len(READ) * 20), *[READ] * 20)
        self.assertTrue(self.upstream.paused)
        self.assertLessEqual(self.client.backlog, len(READ) + 100)
        for _ in range(3):
            self.sidecar.settle()
            self.assertLessEqual(self.client.backlog, len(READ) + 100)
        self.client.resumesReading()
        self.assertFalse(self.upstream.paused)
        self.assertEqual(len(self.client.got()), len(LONG % (len(READ) * 20)) + len(READ) * 20)
        self.assertEnded(200, 200, None)

    def test_upstreamReadsNothing(self) -> None:
        """The same for an upload."""
        self.open()
        self.client.sends(POST % (len(READ) * 20))
        self.upstream.stopsReading()
        self.upstream.got()
        self.client.sends(*[READ] * 20)
        self.assertTrue(self.client.paused)
        self.assertLessEqual(self.upstream.backlog, len(READ))
        self.upstream.resumesReading()
        self.assertFalse(self.client.paused)
        self.assertTrue(self.upstream.got().endswith(READ * 19))
        self.upstream.sends(OK)
        self.assertEqual(self.client.got(), OK)
        self.assertEnded(200, 200, None)

    def test_tunnel(self) -> None:
        """Both ways of a tunnel."""
        for sender, reader in (("client", "upstream"), ("upstream", "client")):
            self.open()
            self.client.sends(UPGRADE)
            self.upstream.sends(SWITCH)
            sends, reads = getattr(self, sender), getattr(self, reader)
            reads.got()
            reads.stopsReading()
            sends.sends(*[READ] * 20)
            self.assertTrue(sends.paused)
            self.assertFalse(reads.paused)
            self.assertLessEqual(reads.backlog, len(READ))
            reads.resumesReading()
            self.assertEqual(len(reads.got()), len(READ) * 20)
            self.assertFalse(sends.paused)
            self.sidecar.assertQuiet()

    def test_pauseDuringTheFirstWrite(self) -> None:
        """A pause that comes while the head of a response is written is not undone."""
        for policies in ([], [onResponse(200)(lambda exchange, response: None)]):
            self.open(*policies)
            self.client.stopsReading()
            self.client.sends(GET)
            self.upstream.sends(LONG % 100)
            self.assertTrue(self.upstream.paused)
            self.upstream.sends(b"x" * 100)
            self.assertEqual(self.client.backlog, len(LONG % 100))
            self.client.resumesReading()
            self.assertEqual(self.client.got(), LONG % 100 + b"x" * 100)
            self.assertEnded(200, 200, None)

    def test_pauseBehindAThoughtfulPolicy(self) -> None:
        """Nor when a policy took its time before the head went out."""
        verdict: Deferred[None] = Deferred()
        self.open(onResponse(200)(lambda exchange, response: verdict))
        self.client.stopsReading()
        self.client.sends(GET)
        self.upstream.sends(LONG % 100)
        verdict.callback(None)
        self.assertTrue(self.upstream.paused)
        self.client.resumesReading()
        self.assertFalse(self.upstream.paused)
        self.upstream.sends(b"x" * 100)
        self.assertEqual(self.client.got(), LONG % 100 + b"x" * 100)
        self.assertEnded(200, 200, None)

    def test_pauseDuringTheFirstOfAnUpload(self) -> None:
        """Nor one that comes while the head of a request is written."""
        self.open()
        self.sidecar.holdConnections()
        self.client.sends(POST % 100, b"x")
        self.sidecar.endpoint.accept()
        self.sidecar.endpoint.peers[0].stopsReading()
        self.sidecar.settle()
        self.client.sends(b"x")
        self.assertTrue(self.client.paused)
        self.upstream.resumesReading()
        self.assertFalse(self.client.paused)
        self.client.sends(b"x" * 98)
        self.assertEqual(self.upstream.gotRequest().body, b"x" * 100)
        self.upstream.sends(OK)
        self.assertEqual(self.client.got(), OK)
        self.assertEnded(200, 200, None)

    def test_pausedUpstreamIsReadAgain(self) -> None:
        """A connection that a slow client had paused carries the next request."""
        self.open()
        self.client.stopsReading()
        self.client.sends(GET)
        self.upstream.sends(LONG % 4 + b"x", b"xxx")
        self.assertTrue(self.upstream.paused)
        self.client.resumesReading()
        self.assertEqual(self.client.got(), LONG % 4 + b"xxxx")
        self.assertEqual(self.sidecar.pool.snapshot()["idle"], 1)
        self.client.sends(GET)
        self.upstream.sends(OK)
        self.assertEqual(self.client.got(), OK)
        self.assertEqual(len(self.sidecar.upstreams), 1)
        self.sidecar.assertQuiet()

    def test_nextRequestWaits(self) -> None:
        """A client that does not read its response has no other request begun."""
        self.open()
        self.client.stopsReading()
        self.client.sends(GET * 2)
        self.upstream.sends(OK)
        self.assertEqual(self.upstream.got().count(b"GET"), 1)
        self.client.resumesReading()
        self.assertEqual(self.upstream.got().count(b"GET"), 1)
        self.upstream.sends(OK)
        self.assertEqual(self.client.got(), OK * 2)
        self.sidecar.assertQuiet()
