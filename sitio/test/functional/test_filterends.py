"""
Tests of filters that refuse a body at its end: nobody has got the whole of it by then.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from sitio import onRequest, onResponse
from sitio.testing import Harness

BODY = b"0123456789"
GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"

#: The pieces in which a body arrives behind its head.
PIECES = ((BODY,), (BODY[:4], BODY[4:]), tuple(BODY[at : at + 1] for at in range(10)))

#: What a body is framed by: the field, each piece, and the end.
FRAMINGS: dict[str, tuple[bytes, Callable[[bytes], bytes], bytes]] = {
    "length": (b"Content-Length: 10\r\n\r\n", lambda piece: piece, b""),
    "chunks": (
        b"Transfer-Encoding: chunked\r\n\r\n",
        lambda piece: b"%x\r\n%b\r\n" % (len(piece), piece),
        b"0\r\n\r\n",
    ),
}

#: How a filter is added: whether it must not be skipped.
HOWS: tuple[tuple[dict[str, bool], bool], ...] = (
    ({}, True),
    ({"keepsLength": True, "failOpen": False}, True),
    ({"keepsLength": True, "failOpen": True}, False),
)


class EndCase(SynchronousTestCase):
    """A base for filters that look at what has been written before they have seen the end."""

    def setUp(self) -> None:
        self.written: list[bytes] = []
        self.refuses = True

    def filterFor(self, receiver: Callable[[], Any]) -> Callable[[bytes], bytes]:
        """
        A filter that notes at the end what was written to the receiver, and may refuse it.

        What is written may arrive, even if a reset follows.
        """

        def bodyFilter(piece: bytes) -> bytes:
            if not piece:
                peer = receiver()
                self.written.append(b"".join([*peer.pieces, *peer.transport.outgoing]))
                if self.refuses:
                    raise ValueError("the signature is wrong")
            return piece

        return bodyFilter

    def assertLacksItsEnd(self) -> None:
        """Check that the receiver could see that it had no whole body."""
        [written] = self.written
        head, _, body = written.partition(b"\r\n\r\n")
        if b"Content-Length" in head:
            self.assertLess(len(body), len(BODY))
        else:
            self.assertNotIn(b"0\r\n\r\n", body)


class RequestTests(EndCase):
    """The upstream gets the end of a request when all filters have let it pass."""

    def ask(self, how: Any, framing: str, pieces: tuple[bytes, ...]) -> Any:
        field, each, end = FRAMINGS[framing]
        bodyFilter = self.filterFor(lambda: harness.endpoint.peers[0])
        add = onRequest(lambda exchange: exchange.request.addFilter(bodyFilter, **how))
        harness = Harness(add)
        client = harness.connect()
        client.sends(b"POST / HTTP/1.1\r\nHost: h\r\n" + field)
        upstream = harness.upstream()
        for piece in pieces[:-1]:
            client.sends(each(piece))
            harness.settle()
        client.sends(each(pieces[-1]) + end)
        harness.settle()
        return client, upstream

    def test_refused(self) -> None:
        """The client gets 500, and the upstream no whole request, whatever the pieces are."""
        for how, closed in HOWS:
            for framing in FRAMINGS:
                for pieces in PIECES:
                    del self.written[:]
                    client, upstream = self.ask(how, framing, pieces)
                    self.assertLacksItsEnd()
                    if closed:
                        self.assertEqual(client.gotResponse().status, 500)
                    else:
                        self.assertEqual(upstream.gotRequest().body, BODY)
                    self.flushLoggedErrors(ValueError)

    def test_passed(self) -> None:
        """It gets all of it otherwise."""
        self.refuses = False
        for how, _ in HOWS:
            for framing in FRAMINGS:
                for pieces in PIECES:
                    _, upstream = self.ask(how, framing, pieces)
                    self.assertEqual(upstream.gotRequest().body, BODY)


class ResponseTests(EndCase):
    """The client gets the end of a response when all filters have let it pass."""

    def ask(self, how: Any, framing: str, pieces: tuple[bytes, ...]) -> Any:
        field, each, end = FRAMINGS[framing]
        bodyFilter = self.filterFor(lambda: client)
        add = onResponse(lambda exchange, response: response.addFilter(bodyFilter, **how))
        harness = Harness(add)
        client = harness.connect()
        client.sends(GET)
        upstream = harness.upstream()
        upstream.sends(b"HTTP/1.1 200 OK\r\n" + field)
        for piece in pieces[:-1]:
            upstream.sends(each(piece))
            harness.settle()
        upstream.sends(each(pieces[-1]) + end)
        harness.settle()
        return client

    def test_refused(self) -> None:
        """The client sees that it lacks the end, whatever the pieces are."""
        for how, closed in HOWS:
            for framing in FRAMINGS:
                for pieces in PIECES:
                    del self.written[:]
                    client = self.ask(how, framing, pieces)
                    self.assertLacksItsEnd()
                    if closed:
                        self.assertEqual(client.state, "reset")
                    else:
                        self.assertEqual(client.gotResponse().body, BODY)
                    self.flushLoggedErrors(ValueError)

    def test_longer(self) -> None:
        """A filter that makes a body longer than it was announced loses nothing of it."""
        for field, each, end in FRAMINGS.values():
            add = onResponse(lambda exchange, response: response.addFilter(lambda piece: piece * 3))
            harness = Harness(add)
            client = harness.connect()
            client.sends(GET)
            upstream = harness.upstream()
            upstream.sends(b"HTTP/1.1 200 OK\r\n" + field)
            for at in range(10):
                upstream.sends(each(BODY[at : at + 1]))
            upstream.sends(end)
            expected = b"".join(BODY[at : at + 1] * 3 for at in range(10))
            self.assertEqual(client.gotResponse().body, expected)

    def test_passed(self) -> None:
        """It gets all of it otherwise."""
        self.refuses = False
        for how, _ in HOWS:
            for framing in FRAMINGS:
                for pieces in PIECES:
                    client = self.ask(how, framing, pieces)
                    self.assertEqual(client.gotResponse().body, BODY)
