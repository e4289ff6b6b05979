"""
Tests of timeouts and limits: each wait and each size has a bound.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from sitio.errors import (
    BadResponse,
    BodyTooLong,
    ConnectTimeout,
    HeadTooLong,
    InterimTooLong,
    PolicyFailed,
    PoolExhausted,
    RequestTimeout,
    Stalled,
    UpstreamLost,
    UpstreamTimeout,
)
from sitio.http.message import Response, Retry
from sitio.net.deadlines import PERIOD_SECONDS
from sitio.policy.functions import onRequest, onResponse
from sitio.proxy.retries import MAX_ATTEMPTS
from sitio.settings import LINGER_AFTER_SECONDS, LINGER_SECONDS, Settings
from sitio.test.helpers.logs import recorded
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
        Check that one exchange ended with this status, upstreamStatus and failure, and
        that nothing is left.
        """
        found = [
            (each.status, each.upstreamStatus, each.failure and type(each.failure))
            for each in self.told
        ]
        self.assertEqual(found, [expected])
        self.sidecar.assertQuiet()

    def assertWaits(self, seconds: float) -> None:
        """
        Check that an exchange or connections end after so many seconds, not earlier and
        at most one sweep later.
        """
        self.sidecar.advance(seconds - 0.001)
        before = self._looks()
        self.sidecar.advance(0.0005)
        self.assertEqual(self._looks(), before, "early")
        self.sidecar.advance(PERIOD_SECONDS + 0.0005)
        self.assertNotEqual(self._looks(), before, "late")

    def assertStill(self, seconds: float) -> None:
        """Check that nothing ends for so many seconds."""
        before = self._looks()
        self.sidecar.advance(seconds)
        self.assertEqual(self._looks(), before)

    def _looks(self) -> Any:
        peers = [*self.sidecar.clients, *self.sidecar.upstreams]
        return len(self.told), [each.state for each in peers], len(self.client.pieces)


class TheClient(WaitCase):
    """Timeouts of the client."""

    def test_saysNothing(self) -> None:
        """A client that connects and sends nothing is closed without a response."""
        self.open(headTimeout=7.0)
        self.assertWaits(7.0)
        self.assertEqual((self.client.got(), self.client.state), (b"", CLOSED))
        self.assertEqual(self.told, [])
        self.sidecar.assertQuiet()

    def test_head(self) -> None:
        """
        The head timeout runs from the first byte of a head, even if bytes keep arriving:
        408.
        """
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
        """It applies to later requests too.  The time between requests counts as idle."""
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
        """The idle timeout of a connection runs from the end of the last response."""
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
        """Empty lines before a request (RFC 9112, section 2.2) do not restart the timeout."""
        self.open(headTimeout=7.0)
        self.client.sends(b"\r\n")
        for _ in range(6):
            self.sidecar.advance(1.0)
            self.client.sends(b"\r\n")
        self.sidecar.advance(1.0 + LINGER_SECONDS + 2 * PERIOD_SECONDS)
        self.assertFalse(self.client.transport.connected)
        self.sidecar.assertQuiet()

    def test_uploadStops(self) -> None:
        """A request body that stops gets 408.  Each piece restarts the stall timeout."""
        for head, pieces in (
            (POST % 9, [b"x"] * 4),
            (CHUNKS, [b"1\r\nx\r\n"] * 4),
        ):
            self.open(stallTimeout=7.0, responseTimeout=100.0, minBodyRate=0)
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
        """A client that reads nothing of its response is reset, and so is the upstream."""
        self.open(stallTimeout=7.0)
        self.client.stopsReading()
        self.client.sends(GET)
        self.upstream.sends(LONG % 1000 + b"x" * 100)
        self.assertTrue(self.upstream.paused)
        self.assertWaits(7.0)
        self.assertEqual((self.client.state, self.upstream.state), (RESET, RESET))
        self.assertEnded(200, 200, Stalled)

    def test_readsSlowly(self) -> None:
        """A client that reads now and then is kept: each read restarts the timeout."""
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
        """The stall timeout bounds the wait for a client that does not read its last response."""
        self.open(stallTimeout=7.0)
        self.client.stopsReading()
        self.client.sends(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        self.upstream.sends(OK)
        self.assertEqual(len(self.told), 1)
        self.assertWaits(7.0)
        self.assertTrue(self.client.reset)
        self.assertEnded(200, 200, None)

    def test_idleAndReadsNothing(self) -> None:
        """The idle timeout also closes a client that does not read its response."""
        self.open(stallTimeout=7.0, idleTimeout=9.0)
        self.client.stopsReading()
        self.client.sends(GET)
        self.upstream.sends(OK)
        self.sidecar.advance(9.0 + 7.0 + 2 * PERIOD_SECONDS)
        self.assertTrue(self.client.reset)
        self.assertEnded(200, 200, None)

    def test_lingers(self) -> None:
        """
        The linger after an early response lasts as long as bytes come, with a limit; a
        pause ends it.
        """
        for pause, times in ((LINGER_SECONDS, 0), (LINGER_SECONDS, 3), (1.5, 28)):
            self.open()
            self.client.sends(POST % 1000)
            self.upstream.sends(OK)
            self.assertIs(self.client.state, HALF_CLOSED)
            for _ in range(times):
                self.sidecar.advance(pause - 1.0)
                self.client.sends(b"x" * 10)
                self.sidecar.advance(0.5)
                self.assertIs(self.client.state, HALF_CLOSED)
            if times > 3:
                for _ in range(6):
                    self.sidecar.advance(0.5)
                    self.client.sends(b"x")
            else:
                self.assertWaits(LINGER_SECONDS - (0.5 if times else 0.0))
            self.assertTrue(self.client.state in (CLOSED, RESET))
            self.assertEnded(200, 200, None)

    def test_lingersToTheEnd(self) -> None:
        """
        Two seconds after the end of the request, whose body has a length or chunks, the linger
        ends.  What the client has pipelined behind it is dropped, and prolongs nothing.
        """
        for start, rest in (
            (POST % 9, b"x" * 9),
            (CHUNKS, b"9\r\n123456789\r\n0\r\n\r\n"),
        ):
            self.open()
            self.client.sends(start)
            self.upstream.sends(OK)
            self.client.sends(rest[:-1])
            self.sidecar.advance(LINGER_SECONDS - 0.5)
            self.assertIs(self.client.state, HALF_CLOSED)
            self.client.sends(rest[-1:])
            for _ in range(2):
                self.sidecar.advance(LINGER_AFTER_SECONDS / 2 - 0.01)
                self.client.sends(GET)
                self.assertIs(self.client.state, HALF_CLOSED)
            self.sidecar.advance(0.02 + PERIOD_SECONDS)
            self.assertTrue(self.client.closed)
            self.assertEqual(self.client.got().count(b"HTTP/1.1"), 1)
            self.assertEnded(200, 200, None)

    def test_lingersForTheClient(self) -> None:
        """A client that closes after the end of its request ends the linger at once."""
        self.open()
        self.client.sends(POST % 9)
        self.upstream.sends(OK)
        self.client.sends(b"x" * 9)
        self.assertIs(self.client.state, HALF_CLOSED)
        self.client.halfCloses()
        self.assertTrue(self.client.closed)
        self.assertEnded(200, 200, None)


class TheUpstream(WaitCase):
    """Timeouts of the upstream."""

    def test_connect(self) -> None:
        """The upstream does not accept a connection in time: 504."""
        self.open(connectTimeout=7.0)
        self.sidecar.holdConnections()
        self.client.sends(GET)
        self.sidecar.advance(7.0 - 0.001)
        self.assertEqual(self.client.got(), b"")
        self.sidecar.advance(0.001)
        self.assertEqual(self.client.gotResponse().status, 504)
        self.assertEnded(504, 504, ConnectTimeout)

    def test_pool(self) -> None:
        """No connection is free in time: 503, as the upstream has not failed."""
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
        """
        The response timeout runs from the end of the request: 504, and the connection is
        closed.
        """
        self.open(responseTimeout=9.0, stallTimeout=7.0)
        self.client.sends(POST % 4, b"bo")
        self.sidecar.advance(5.0)
        self.client.sends(b"dy")
        self.assertWaits(9.0)
        self.assertTrue(self.upstream.reset)
        self.assertEqual(self.client.gotResponse().status, 504)
        self.assertEnded(504, 504, UpstreamTimeout)

    def test_halfAHead(self) -> None:
        """A head that arrives slowly does not extend the response timeout."""
        self.open(responseTimeout=9.0)
        self.client.sends(GET)
        for start in range(8):
            self.sidecar.advance(1.0)
            self.upstream.sends(OK[start : start + 1])
        self.assertWaits(1.0)
        self.assertEqual(self.client.gotResponse().status, 504)
        self.assertEnded(504, 504, UpstreamTimeout)

    def test_interim(self) -> None:
        """An interim response restarts the response timeout."""
        self.open(responseTimeout=9.0)
        self.client.sends(GET)
        self.sidecar.advance(8.0)
        self.upstream.sends(b"HTTP/1.1 102 Processing\r\n\r\n")
        self.assertWaits(9.0)
        self.assertEnded(504, 504, UpstreamTimeout)

    def test_uploadIsNotRead(self) -> None:
        """An upstream that does not read an upload has stalled: 504."""
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
        """Once the upstream has read on, the stall timeout applies to the client again."""
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
        After the upstream has read on, the client gets a full stall timeout for its next
        bytes.
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
        """
        A response body that stops is broken off on both sides.  Each piece restarts the
        stall timeout.
        """
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
        """A buffered response that stops gets 504, as its head is not sent yet."""
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
        """The same for a buffered response that stops right after its head."""
        self.open(onResponse(200, buffered=True)(lambda exchange, response: None), stallTimeout=7.0)
        self.client.sends(GET)
        self.upstream.sends(LONG % 9)
        self.assertWaits(7.0)
        self.assertEqual(self.client.gotResponse().status, 504)
        self.assertEnded(504, 504, UpstreamTimeout)

    def test_uploadBesideABufferedResponse(self) -> None:
        """Moving bytes of an upload restart the stall timeout of a buffered response."""
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
        """An idle upstream connection closes in order; the client's connection stays."""
        self.open(upstreamIdleTimeout=7.0)
        self.client.sends(GET)
        self.upstream.sends(OK)
        self.client.got()
        self.assertWaits(7.0)
        self.assertEqual((self.client.state, self.upstream.state), (OPEN, CLOSED))
        self.assertEnded(200, 200, None)

    def test_unwantedRest(self) -> None:
        """Dropping an unwanted rest has a fixed timeout, which bytes do not extend."""
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
        """
        A tunnel ends when no side has sent for the tunnel timeout.  Bytes of either side
        restart it.
        """
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
        """The same after one direction has ended."""
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
    """Timeouts of policies do not depend on the timeouts of connections."""

    def test_request(self) -> None:
        """A request policy that does not decide in time gets 500."""
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
        """A response policy that does not decide in time is skipped."""
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
        """The wait before another attempt is exactly that of the Retry."""
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
    """Limits: the largest allowed size passes, and one more is refused."""

    def padded(self, head: bytes, size: int) -> bytes:
        """This head, padded by a field to this length."""
        start = head.removesuffix(b"\r\n") + b"X: "
        return start + b"x" * (size - len(start) - 4) + b"\r\n\r\n"

    def test_head(self) -> None:
        """
        A request head at the limit passes.  One more byte is a 431, even before the head
        is complete.
        """
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
        """The same limit applies to response heads: 502."""
        for size, status in ((200, 200), (201, 502)):
            self.open(maxHead=200)
            self.client.sends(GET)
            head = self.padded(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", size)
            self.upstream.sends(head)
            self.assertEqual(self.client.gotResponse().status, status)
            self.assertEnded(status, status, None if status == 200 else BadResponse)

    def test_fields(self) -> None:
        """As many fields as the limit pass.  One more is a 431, or a 502 in a response."""
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
        """
        A request body at the limit passes.  One more byte is a 413, with a length or in
        chunks.
        """
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
        """The limit of request bodies does not apply to responses."""
        self.open(maxBody=5)
        self.client.sends(GET)
        self.upstream.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nxxxxxx")
        self.assertEqual(self.client.gotResponse().body, b"xxxxxx")
        self.assertEnded(200, 200, None)

    def test_noBodyLimit(self) -> None:
        """Without a limit a request body of any length streams."""
        self.open()
        self.client.sends(POST % (len(READ) * 40))
        for _ in range(40):
            self.client.sends(READ)
            self.assertGreaterEqual(len(self.upstream.got()), len(READ))
        self.upstream.sends(OK)
        self.assertEqual(self.client.got(), OK)
        self.assertEqual(self.told[0].bytesIn, len(READ) * 40)

    def test_replay(self) -> None:
        """A body at the replay limit is kept to be sent again.  One more byte is not."""
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
        """
        While there is no connection yet, at most the limit and one read of a body are
        buffered.
        """
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
        """A client over the limit is closed at once; other clients are not affected."""
        self.open(maxClients=2)
        second = self.sidecar.connect()
        with recorded() as recorder:
            third = self.sidecar.connect()
        self.assertEqual((self.client.state, second.state, third.state), (OPEN, OPEN, RESET))
        self.assertEqual(self.sidecar.factory.connections, 2)
        self.assertIn("A client is refused: 2 are connected already (0 ", recorder.texts()[-1])
        second.closes()
        fourth = self.sidecar.connect()
        fourth.sends(GET)
        self.upstream.sends(OK)
        self.assertEqual(fourth.got(), OK)
        self.assertEnded(200, 200, None)

    def test_pool(self) -> None:
        """The numbers of upstream connections and of queued requests stay within their limits."""
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
        """As many interim responses as the limit pass.  One more is a 502."""
        hint = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
        for size, most in ((None, 1024 * 1024 // len(hint)), (len(hint) * 40, 40)):
            for count in (most, most + 1):
                self.open(**({} if size is None else {"maxInterim": size}))
                self.client.sends(GET)
                self.upstream.sends(hint * count, *([OK] if count == most else []))
                got = self.client.got()
                self.assertTrue(got.startswith(hint * most))
                status = 200 if count == most else 502
                self.assertEqual(got[len(hint) * most :][9:12], b"%d" % status)
                self.assertEqual(b"too many interim responses" in got, status == 502)
                self.assertEnded(status, status, None if status == 200 else InterimTooLong)

    def test_unwantedRest(self) -> None:
        """
        A short unwanted rest is read, and the connection kept.  A longer rest closes the
        connection, with or without a known length.
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
        """The number of attempts is limited, whatever a policy asks for."""
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
        """
        Requests pipelined after a body are buffered up to one head and one read, like all
        others.
        """
        self.open()
        self.client.sends(POST % 4, b"body" + READ[4:], *[READ] * 5)
        server: Any = self.client.transport.protocol
        self.assertTrue(self.client.paused)
        self.assertLessEqual(server.reader.held, Settings().maxHead + TRANSPORT_BUFFER_BYTES)


class FlowControl(WaitCase):
    """A slow reader pauses its sender."""

    def test_clientReadsNothing(self) -> None:
        """
        If the client does not read, the upstream is paused after one read; both go on
        when the client reads.
        """
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
        """The same for an upload to an upstream that does not read."""
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
        """The same for both directions of a tunnel."""
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
        """A pause during the write of a response head stays in effect."""
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
        """The same if a policy decided late, before the head was sent."""
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
        """A pause during the write of a request head stays in effect, too."""
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
        """The next request waits until the client has read its response."""
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
