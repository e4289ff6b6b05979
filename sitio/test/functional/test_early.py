"""
Tests of responses that come before the end of their request (RFC 9112, section 9.5).

The table has each way in which an upstream refuses an upload: its status, the framing of
the body, whether the client asks for a close, when the response comes, TLS, and what
policies do with it.
"""

from __future__ import annotations

from itertools import product
from typing import Any

from sitio import Retry, onResponse
from sitio.http.codec import chunk
from sitio.http.message import Response
from sitio.net.deadlines import PERIOD_SECONDS
from sitio.settings import LINGER_AFTER_SECONDS, LINGER_SECONDS, Settings
from sitio.test.helpers.messages import FRAMINGS
from sitio.test.helpers.observed import ObservedCase
from sitio.test.helpers.rows import eachRow
from sitio.testing import CLOSED, HALF_CLOSED, OPEN, Harness

STATUSES = {
    401: b"401 Unauthorized",
    413: b"413 Content Too Large",
    417: b"417 Expectation Failed",
    501: b"501 Not Implemented",
}

#: When the response comes.
BEFORE = "before the body"
WITHIN = "within the body"
RESET = "with a reset, and a write fails before it is read"

#: By name: the policies, and the body that the client gets.
POLICIES: dict[str, tuple[tuple[Any, ...], bytes]] = {
    "no policy": ((), b"no"),
    "one that reads the whole body": (
        (onResponse(*STATUSES, buffered=True)(lambda exchange, response: None),),
        b"no",
    ),
    "one that asks for a retry": (
        (onResponse(*STATUSES)(lambda exchange, response: Retry(0)),),
        b"no",
    ),
    "a page in its place": (
        (onResponse(*STATUSES)(lambda exchange, response: Response(response.status, text="page")),),
        b"page",
    ),
}

ROWS = [
    (
        f"{status} {when}, {framing}, {'close' if closes else 'keep-alive'}, "
        f"{'TLS' if secure else 'TCP'}, {policy}",
        status,
        framing,
        closes,
        when,
        secure,
        policy,
    )
    for status, framing, closes, when, secure, policy in product(
        STATUSES, FRAMINGS, (False, True), (BEFORE, WITHIN, RESET), (False, True), POLICIES
    )
]


@eachRow(ROWS)
class EarlyTests(ObservedCase):
    """
    The client gets the early response whole, with C{Connection: close}.  The upload stops,
    and both connections close in order.
    """

    def check(
        self, status: int, framing: str, closes: bool, when: str, secure: bool, policy: str
    ) -> None:
        """Refuse one upload."""
        policies, body = POLICIES[policy]
        self.sidecar = Harness(policies)
        self.client = client = self.sidecar.connect(secure=secure)
        field, begin, more, rest = FRAMINGS[framing]
        head = b"PUT /x HTTP/1.1\r\nHost: h\r\n" + field + b"\r\n"
        head += b"Connection: close\r\n\r\n" if closes else b"\r\n"
        client.sends(head if when is BEFORE else head + begin)
        upstream = self.sidecar.upstream()
        answer = b"HTTP/1.1 " + STATUSES[status] + b"\r\nContent-Length: 2\r\n\r\nno"
        if when is RESET:
            upstream.answersAndResets(answer)
            client.sends(more)
        else:
            upstream.sends(answer)
        self.sidecar.advance(1.0)
        response = client.gotResponse()
        self.assertEqual((response.status, response.body), (status, body))
        self.assertEqual(response.headers.get("Connection"), None)
        self.assertEqual([each.upstreamStatus for each in self.sidecar.exchanges], [status])
        self.assertEqual(len(self.sidecar.upstreams), 1)
        self.assertIs(upstream.state, CLOSED)
        # The client, which still sends, has time to read it.
        self.assertIs(client.state, OPEN if secure else HALF_CLOSED)
        if when is BEFORE:
            client.sends(begin)
        if when is not RESET:
            client.sends(more)
        self.assertIs(client.state, OPEN if secure else HALF_CLOSED)
        client.sends(rest)
        # It may have pipelined more, which must not meet a reset.
        self.assertIs(client.state, OPEN if secure else HALF_CLOSED)
        client.sends(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        self.sidecar.advance(LINGER_AFTER_SECONDS + PERIOD_SECONDS)
        self.assertIs(client.state, CLOSED)
        self.sidecar.assertQuiet()


class ResetTests(ObservedCase):
    """What is left of a response when the upstream has reset the connection."""

    def begin(self, response: bytes, **settings: Any) -> None:
        """An upload whose next write fails."""
        self.open(**settings)
        self.client.sends(b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 900000\r\n\r\n")
        self.upstream.answersAndResets(response)
        self.client.sends(b"x" * 1000)

    def test_nothing(self) -> None:
        """If it had sent nothing, the client gets 502."""
        self.begin(b"")
        self.assertEqual(self.client.gotResponse().status, 502)

    def test_long(self) -> None:
        """A long response passes whole, as fast as the client reads it."""
        self.open()
        self.client.sends(b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 900000\r\n\r\n")
        self.client.stopsReading()
        self.upstream.answersAndResets(
            b"HTTP/1.1 413 No\r\nContent-Length: 400000\r\n\r\n" + b"y" * 400_000
        )
        self.client.sends(b"x" * 1000)
        self.sidecar.settle()
        self.assertLess(self.client.backlog, 200_000)
        self.client.resumesReading()
        self.sidecar.settle()
        self.assertEqual(self.client.gotResponse().body, b"y" * 400_000)

    def test_interim(self) -> None:
        """Interim responses before it pass, too."""
        self.begin(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n")
        self.assertTrue(
            self.client.got().startswith(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 401")
        )

    def test_incomplete(self) -> None:
        """
        A response that lacks its end is broken off, and nothing makes it look whole.  The
        client, which still sends, gets what there is before any reset.
        """
        for field, rest in ((b"Content-Length: 5\r\n", b"no"), (b"", b"2\r\nno\r\n")):
            self.begin(b"HTTP/1.1 413 No\r\n" + field + b"\r\nno")
            self.sidecar.settle()
            got = self.client.got()
            self.assertTrue(got.startswith(b"HTTP/1.1 413 No\r\n"), got)
            self.assertTrue(got.endswith(b"\r\n\r\n" + rest), got)
            self.assertIs(self.client.state, HALF_CLOSED)
            self.client.sends(b"x" * 899_000)
            self.sidecar.advance(LINGER_AFTER_SECONDS + PERIOD_SECONDS)
            self.assertIs(self.client.state, CLOSED)
            self.assertEqual([each.brokeOff for each in self.told], [True])
            self.sidecar.assertQuiet()

    def test_incompleteUntilClose(self) -> None:
        """Where the end of the connection would make it look whole, it is reset."""
        self.open()
        self.client.sends(b"PUT / HTTP/1.0\r\nContent-Length: 900000\r\n\r\n")
        self.upstream.answersAndResets(b"HTTP/1.1 413 No\r\n\r\nno")
        self.client.sends(b"x" * 1000)
        self.sidecar.settle()
        self.assertIs(self.client.state, "reset")

    def test_incompleteUnread(self) -> None:
        """A client that does not read what there is gets no more time."""
        self.open()
        self.client.sends(b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 900000\r\n\r\n")
        self.client.stopsReading()
        self.upstream.sends(b"HTTP/1.1 413 No\r\nContent-Length: 900000\r\n\r\n" + b"y" * 400_000)
        self.sidecar.advance(Settings().stallTimeout + PERIOD_SECONDS)
        self.assertIs(self.client.state, "reset")
        self.sidecar.assertQuiet()

    def test_notReused(self) -> None:
        """
        The connection is not used again, even if the rest of the request has been dropped
        and the response allows it.
        """
        self.open()
        self.client.sends(b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nabc")
        self.upstream.answersAndResets(b"HTTP/1.1 413 No\r\nContent-Length: 0\r\n\r\n")
        self.client.sends(b"defghi")
        self.assertEqual(self.client.gotResponse().status, 413)
        self.assertEqual(self.sidecar.pool.snapshot()["open"], 0)
        self.client.sends(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        self.assertEqual(len(self.sidecar.upstreams), 2)

    def test_neverEnds(self) -> None:
        """A client that goes on for ever is dropped at a limit."""
        self.open()
        self.client.sends(b"PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
        self.upstream.sends(b"HTTP/1.1 413 No\r\nContent-Length: 0\r\n\r\n")
        for _ in range(7):
            self.sidecar.advance(LINGER_SECONDS - 1)
            self.client.sends(chunk(b"more"))
        self.sidecar.advance(LINGER_SECONDS - 1)
        self.assertFalse(self.client.transport.connected)
        self.assertLess(self.sidecar.clock.seconds(), Settings().stallTimeout)
