"""
Tests of clients that close their sending half, in each state of an exchange.

They never see a reset before the end of sitio's own half, except within a response whose
end is the end of the connection.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from sitio import Retry, onRequest, onResponse
from sitio.errors import ClientGone
from sitio.net.deadlines import PERIOD_SECONDS
from sitio.settings import CLOSE_SECONDS
from sitio.test.helpers.observed import ObservedCase
from sitio.test.helpers.rows import eachRow
from sitio.testing import CLOSED, HALF_CLOSED, OPEN, RESET

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
OLD = b"GET / HTTP/1.0\r\nHost: h\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbo"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
PART = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nok"
ENDLESS = b"HTTP/1.1 200 OK\r\n\r\nok"


def decides(exchange: Any) -> Deferred[None]:
    """A request policy that never decides."""
    return Deferred()


def judges(exchange: Any, response: Any) -> Deferred[None]:
    """A response policy that never decides."""
    return Deferred()


def rests(exchange: Any, response: Any) -> Retry:
    """A response policy that asks for another attempt in a minute."""
    return Retry(60)


#: The state; the policy; whether the upstream accepts; the request; what it answers
#: before the client ends its half; how the client sees the end of sitio's half.
STATES = [
    ("while a policy decides about the request", onRequest(decides), True, GET, b"", CLOSED),
    ("while sitio connects", None, False, GET, b"", CLOSED),
    ("while the upstream works", None, True, GET, b"", CLOSED),
    ("while a policy decides about the response", onResponse()(judges), True, GET, OK, CLOSED),
    ("while sitio waits for another attempt", onResponse()(rests), True, GET, OK, CLOSED),
    ("within a response of a length", None, True, GET, PART, CLOSED),
    ("within chunks", None, True, GET, ENDLESS, CLOSED),
    ("within a response that ends with the connection", None, True, OLD, ENDLESS, RESET),
    ("within the body of its request", None, True, POST, b"", CLOSED),
]


class HalfCloseCase(ObservedCase):
    """A sidecar in memory, one client, and an observer."""

    def begin(
        self, policy: Any, accepts: bool, request: bytes, answer: bytes, **settings: Any
    ) -> None:
        """Bring an exchange into a state."""
        self.open(*([policy] if policy else []), **settings)
        if not accepts:
            self.sidecar.holdConnections()
        self.client.sends(request)
        if answer:
            self.upstream.sends(answer)
        self.sidecar.settle()

    def assertGone(self, state: str, idle: bool = False) -> None:
        """The exchange counts as a disconnect; the upstream is reset; nothing is left."""
        self.sidecar.settle()
        [exchange] = self.told
        self.assertEqual((exchange.status, type(exchange.failure)), (499, ClientGone))
        self.assertIs(self.client.state, state)
        for each in self.sidecar.upstreams:
            # One that was idle meanwhile is kept, or has been closed.
            self.assertIn(each.state, (OPEN, CLOSED) if idle else (RESET,))
        self.sidecar.assertQuiet()


@eachRow(STATES)
class GoneTests(HalfCloseCase):
    """By default such a client is taken for disconnected, and the upstream does no more."""

    def check(self, policy: Any, accepts: bool, request: bytes, answer: bytes, end: str) -> None:
        """The exchange ends at once, with FIN for the client."""
        self.begin(policy, accepts, request, answer)
        self.client.halfCloses()
        self.assertGone(end, answer is OK)


@eachRow(STATES)
class PatienceTests(HalfCloseCase):
    """With a time for it, the exchange goes on for so long."""

    def check(self, policy: Any, accepts: bool, request: bytes, answer: bytes, end: str) -> None:
        """It ends then, not earlier; a response that has begun in time goes on."""
        self.begin(policy, accepts, request, answer, halfClose=3.0)
        self.client.halfCloses()
        if request is POST:
            # A part of a request gets no response.
            self.assertGone(end)
            return
        self.sidecar.advance(2.9)
        self.assertEqual((self.told, self.client.state), ([], OPEN))
        self.sidecar.advance(0.1 + PERIOD_SECONDS)
        if answer in (PART, ENDLESS):
            self.assertEqual(self.told, [])
            self.sidecar.advance(30.0)
            self.upstream.sends(b"ay")
            if answer is ENDLESS:
                self.upstream.closes()
            self.assertIn(b"ay", self.client.got())
            self.assertIs(self.client.state, CLOSED)
            self.assertEqual([each.status for each in self.told], [200])
            self.sidecar.assertQuiet()
        else:
            self.assertGone(end, answer is OK)


class InTimeTests(HalfCloseCase):
    """The client gets the responses that come in time."""

    def start(self, request: bytes) -> None:
        """Send requests, and end."""
        self.open(halfClose=5.0)
        self.client.sends(request)
        self.client.halfCloses()

    def test_one(self) -> None:
        """A response, and the end."""
        self.start(GET)
        self.sidecar.advance(4.0)
        self.upstream.sends(OK)
        self.assertEqual(self.client.gotResponse().body, b"ok")
        self.assertIs(self.client.state, CLOSED)
        self.sidecar.assertQuiet()

    def test_post(self) -> None:
        """The same for a request with a body."""
        self.start(POST + b"dy")
        self.upstream.sends(OK)
        self.assertEqual(self.client.gotResponse().body, b"ok")
        self.assertIs(self.client.state, CLOSED)
        self.sidecar.assertQuiet()

    def test_pipelined(self) -> None:
        """All whole requests are answered, and a part of another is dropped."""
        self.start(GET * 3 + GET[:9])
        for _ in range(3):
            self.upstream.sends(OK)
        self.assertEqual(self.client.got().count(b"200 OK"), 3)
        self.assertIs(self.client.state, CLOSED)
        self.assertEqual(len(self.told), 3)
        self.sidecar.assertQuiet()

    def test_pipelinedTooLate(self) -> None:
        """The time is for all of them together."""
        self.start(GET * 2)
        self.sidecar.advance(4.0)
        self.upstream.sends(OK)
        self.assertEqual(self.client.got().count(b"200 OK"), 1)
        self.sidecar.advance(1.0 + PERIOD_SECONDS)
        self.assertEqual([each.status for each in self.told], [200, 499])
        self.assertIs(self.client.state, CLOSED)
        self.sidecar.assertQuiet()

    def test_slowReader(self) -> None:
        """A pipelined request also waits while the client reads nothing."""
        self.open(halfClose=5.0)
        self.client.stopsReading()
        self.client.sends(GET * 2)
        self.upstream.sends(OK)
        self.client.halfCloses()
        self.client.resumesReading()
        self.upstream.sends(OK)
        self.assertEqual(self.client.got().count(b"200 OK"), 2)
        self.assertIs(self.client.state, CLOSED)
        self.sidecar.assertQuiet()

    def test_early(self) -> None:
        """A response before the end of the request: the rest will not come."""
        self.open(halfClose=5.0)
        self.client.sends(POST)
        self.upstream.sends(b"HTTP/1.1 413 No\r\nContent-Length: 0\r\n\r\n")
        self.client.halfCloses()
        self.assertEqual(self.client.gotResponse().status, 413)
        self.assertIs(self.client.state, CLOSED)
        self.sidecar.assertQuiet()

    def test_fails(self) -> None:
        """A failure of the upstream is answered, too."""
        self.start(GET)
        self.upstream.resets()
        self.assertEqual(self.client.gotResponse().status, 502)
        self.assertIs(self.client.state, CLOSED)
        self.sidecar.assertQuiet()

    def test_breaksOff(self) -> None:
        """A response that breaks off ends with FIN, but where that would complete it."""
        for request, answer, end in ((GET, PART, CLOSED), (GET, ENDLESS, CLOSED),
                                     (OLD, ENDLESS, RESET)):  # fmt: skip
            self.start(request)
            self.upstream.sends(answer)
            self.upstream.resets()
            self.sidecar.settle()
            self.assertIs(self.client.state, end)
            self.assertTrue(self.told[0].brokeOff)
            self.sidecar.assertQuiet()

    def test_tunnel(self) -> None:
        """A tunnel is told that the client's direction has ended."""
        self.start(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nlast")
        upstream = self.upstream
        upstream.got()
        upstream.sends(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"
        )
        self.assertEqual(upstream.got(), b"last")
        self.assertIs(upstream.state, HALF_CLOSED)
        self.sidecar.advance(10.0)
        upstream.sends(b"words")
        self.assertTrue(self.client.got().endswith(b"words"))
        upstream.halfCloses()
        self.sidecar.settle()
        self.assertIs(self.client.state, CLOSED)
        self.sidecar.assertQuiet()


class StuckTests(HalfCloseCase):
    """A client that has ended and reads nothing is not waited for."""

    def test_stuck(self) -> None:
        """What was written to it is dropped after a short time."""
        self.open()
        self.client.stopsReading()
        self.client.sends(GET)
        self.upstream.sends(PART)
        self.client.halfCloses()
        self.assertEqual([each.status for each in self.told], [499])
        self.assertIs(self.client.state, OPEN)
        self.sidecar.advance(CLOSE_SECONDS + PERIOD_SECONDS)
        self.assertIs(self.client.state, RESET)
        self.sidecar.assertQuiet()
