"""
Promises of the two halves together: what a client says, what the upstream gets
of it, and the other way round, in exact octets.

Most are rows of tables, each of them run whole and octet by octet.
"""

from __future__ import annotations

import itertools
from typing import Any

from attrs import frozen
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from sitio import Response, onRequest
from sitio.interfaces import IResponsePolicy
from sitio.settings import LINGER, Settings
from sitio.test.test_wire import eachRow, octets
from sitio.testing import CLOSED, HALF_CLOSED, OPEN, RESET, Conversation, Peer

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

#: What sitio adds to each request to the host h.
OWN = b"X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: h\r\n"
GOT = b"GET / HTTP/1.1\r\nHost: h\r\n" + OWN + b"\r\n"

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def chunks(*pieces: bytes) -> bytes:
    """These pieces as a chunk each, without the last chunk."""
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)


def failure(status: bytes, sentence: bytes, extra: bytes = b"") -> bytes:
    """What sitio itself answers."""
    body = b"%b %b\n" % (status[:3], sentence)
    return (
        b"HTTP/1.1 %b\r\nContent-Type: text/plain; charset=utf-8\r\nServer: sitio\r\n"
        b"Content-Length: %d\r\n%b\r\n%b" % (status, len(body), extra, body)
    )


class HalvesCase(SynchronousTestCase):
    """A sidecar in memory, and one client."""

    def open(self, *policies: Any, via: bytes | None = None, **settings: Any) -> Peer:
        """The client of a new sidecar with these policies and settings."""
        self.sidecar = Conversation(policies, settings=Settings(**settings), via=via)
        self.client = self.sidecar.connect()
        return self.client

    def answer(self, *pieces: bytes, number: int = 0) -> bytes:
        """What the upstream got; it sends these."""
        upstream = self.sidecar.upstream(number)
        got = upstream.got()
        upstream.sends(*pieces)
        return got

    def assertGoesOn(self, number: int = 0, client: Peer | None = None) -> None:
        """
        The next request comes to the upstream, by this connection, and its reply back.
        """
        client = client or self.client
        client.sends(GET)
        self.assertEqual(self.answer(OK, number=number), GOT)
        self.assertEqual(client.got(), OK)
        self.sidecar.assertQuiet()

    def assertLingers(self) -> None:
        """
        The client is told that no more comes, what it still sends is dropped, and
        after a while the connection closes.
        """
        self.assertIs(self.client.state, HALF_CLOSED)
        self.client.sends(b"more of it", GET)
        self.assertEqual(self.client.got(), b"")
        self.sidecar.advance(LINGER + 2)
        self.assertIs(self.client.state, CLOSED)
        self.sidecar.assertQuiet()


# --- Bodies


@frozen
class Asking:
    """A way to send a body, and what the upstream gets if it comes whole, or cut."""

    fields: bytes
    body: bytes
    sentFields: bytes
    sentBody: bytes
    cutFields: bytes
    cutBody: bytes


@frozen
class Answering:
    """A way to reply."""

    start: bytes
    fields: bytes
    body: bytes
    #: Whether it ends with the connection, and whether that is kept.
    closes: bool
    kept: bool
    #: Whether its length is known as its head comes: always, or if it comes whole.
    known: bool
    knownWhole: bool
    trailers: bytes = b""


LENGTH = b"Content-Length: 5\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
CUT = chunks(b"h", b"e", b"l", b"l", b"o")
LAST = b"0\r\n\r\n"
EXTENDED = b'2;a="b;c"\r\nhe\r\n3 ; d\r\nllo\r\n0;e\r\n'
TRAILERS = b"B: c\r\nd: \xe9\r\n"

CLIENTS = {
    "HTTP/1.1": (b"1.1", b"", b"", True),
    "HTTP/1.0": (b"1.0", b"", b"Connection: close\r\n", False),
    "HTTP/1.0 with keep-alive": (
        b"1.0", b"Connection: keep-alive\r\n", b"Connection: keep-alive\r\n", True,
    ),
}  # fmt: skip

ASKING = {
    "no body": Asking(b"", b"", b"", b"", b"", b""),
    "a length": Asking(LENGTH, b"hello", LENGTH, b"hello", LENGTH, b"hello"),
    "chunks": Asking(
        CHUNKED, chunks(b"he", b"llo") + LAST, LENGTH, b"hello", CHUNKED, CUT + LAST
    ),
    "extended chunks": Asking(
        CHUNKED, EXTENDED + b"\r\n", LENGTH, b"hello", CHUNKED, CUT + LAST
    ),
    "trailers": Asking(
        CHUNKED, EXTENDED + TRAILERS + b"\r\n",
        CHUNKED, chunks(b"hello") + b"0\r\n" + TRAILERS + b"\r\n",
        CHUNKED, CUT + b"0\r\n" + TRAILERS + b"\r\n",
    ),
}  # fmt: skip

_1 = b"HTTP/1.1 200 OK\r\n"
_0 = b"HTTP/1.0 200 OK\r\n"

ANSWERING = {
    "a length": Answering(_1, LENGTH, b"hello", False, True, True, True),
    "chunks": Answering(_1, CHUNKED, chunks(b"he", b"llo") + LAST, False, True, False, True),
    "chunks and close": Answering(
        _1, CHUNKED + b"Connection: close\r\n", chunks(b"hello") + LAST, False, False, False, True
    ),
    "trailers": Answering(
        _1, CHUNKED, EXTENDED + TRAILERS + b"\r\n", False, True, False, False, TRAILERS
    ),
    "its close": Answering(_1, b"", b"hello", True, False, False, False),
    "its close in HTTP/1.0": Answering(_0, b"", b"hello", True, False, False, False),
    "a length in HTTP/1.0": Answering(_0, LENGTH, b"hello", False, False, True, True),
    "a length and keep-alive in HTTP/1.0": Answering(
        _0, LENGTH + b"Connection: keep-alive\r\n", b"hello", False, True, True, True
    ),
}  # fmt: skip

BODIES = [
    (f"A request of {client} with {asks} is answered with {replies}", *CLIENTS[client],
     ASKING[asks], ANSWERING[replies])
    for client, asks, replies in itertools.product(CLIENTS, ASKING, ANSWERING)
    # Chunks in HTTP/1.0 are refused.
    if client == "HTTP/1.1" or asks in ("no body", "a length")
]  # fmt: skip


@eachRow(BODIES)
class Bodies(HalvesCase):
    """Bodies of all framings come through, framed anew for whoever gets them."""

    def check(
        self, version: bytes, option: bytes, told: bytes, goesOn: bool, asks: Asking, says: Answering
    ) -> None:
        """Both messages whole and octet by octet; then the next request."""
        for askedWhole, saidWhole in itertools.product((True, False), repeat=2):
            self.open()
            raw = b"PUT /a HTTP/%b\r\nHost: h\r\n%b%bA: b\r\n\r\n%b" % (
                version, option, asks.fields, asks.body,
            )  # fmt: skip
            self.client.sends(*([raw] if askedWhole else octets(raw)))
            # A length stays where it stood, anything else is added behind.
            fields = asks.sentFields if askedWhole else asks.cutFields
            fields = fields + b"A: b\r\n" if fields == asks.fields == LENGTH else (
                b"A: b\r\n" + fields
            )  # fmt: skip
            body = asks.sentBody if askedWhole else asks.cutBody
            upstream = self.sidecar.upstream()
            self.assertEqual(
                upstream.got(), b"PUT /a HTTP/1.1\r\nHost: h\r\n" + fields + OWN + b"\r\n" + body
            )
            raw = says.start + says.fields + b"C: d\r\n\r\n" + says.body
            upstream.sends(*([raw] if saidWhole else octets(raw)))
            if says.closes:
                upstream.closes()
            stays = goesOn
            if says.known:
                head, body = LENGTH + b"C: d\r\n" + told, b"hello"
            elif says.knownWhole and saidWhole:
                head, body = b"C: d\r\n" + LENGTH + told, b"hello"
            elif version == b"1.1":
                head = b"C: d\r\n" + CHUNKED
                body = chunks(b"hello") if saidWhole else CUT
                body += b"0\r\n" + says.trailers + b"\r\n"
            else:
                head, body = b"C: d\r\nConnection: close\r\n", b"hello"
                stays = False
            self.assertEqual(self.client.got(), b"HTTP/1.1 200 OK\r\n" + head + b"\r\n" + body)
            self.assertIs(self.client.state, OPEN if stays else CLOSED)
            self.assertIs(upstream.state, OPEN if says.kept else CLOSED)
            client = self.client if stays else self.sidecar.connect()
            self.assertGoesOn(0 if says.kept else 1, client)


# --- Replies without a body


def said(line: bytes, *fields: bytes) -> bytes:
    """The head of a reply."""
    return b"\r\n".join((b"HTTP/1.1 " + line, *fields, b"", b""))


FIVE = b"Content-Length: 5"
IN_CHUNKS = b"Transfer-Encoding: chunked"

#: Method; what the upstream sends; what the client gets; whether the upstream's
#: connection is kept.
BODILESS: list[tuple[Any, ...]] = [
    ("HEAD with a length", b"HEAD", said(b"200 OK", FIVE), said(b"200 OK", FIVE), True),
    ("HEAD with a length of 0", b"HEAD", said(b"200 OK", b"Content-Length: 0"),
     said(b"200 OK", b"Content-Length: 0"), True),
    ("HEAD in chunks", b"HEAD", said(b"200 OK", IN_CHUNKS), said(b"200 OK"), True),
    ("HEAD that announces nothing", b"HEAD", said(b"200 OK", b"A: b"),
     said(b"200 OK", b"A: b"), True),
    ("HEAD of a reply that closes", b"HEAD", said(b"404 Not Found", FIVE, b"Connection: close"),
     said(b"404 Not Found", FIVE), False),
    ("HEAD answered with a body all the same", b"HEAD", said(b"200 OK", FIVE) + b"hello",
     said(b"200 OK", FIVE), False),
    ("204", b"GET", said(b"204 No Content"), said(b"204 No Content"), True),
    ("204 with a length", b"GET", said(b"204 No Content", FIVE, b"A: b"),
     said(b"204 No Content", b"A: b"), True),
    ("204 in chunks", b"GET", said(b"204 No Content", IN_CHUNKS), said(b"204 No Content"), True),
    ("204 with a body all the same", b"GET", said(b"204 No Content", FIVE) + b"hello",
     said(b"204 No Content"), False),
    ("304", b"GET", said(b"304 Not Modified", b"ETag: a"),
     said(b"304 Not Modified", b"ETag: a"), True),
    ("304 with a length", b"GET", said(b"304 Not Modified", FIVE),
     said(b"304 Not Modified", FIVE), True),
    ("304 in chunks", b"GET", said(b"304 Not Modified", IN_CHUNKS),
     said(b"304 Not Modified"), True),
    ("304 with a body all the same", b"GET", said(b"304 Not Modified", FIVE) + b"hello",
     said(b"304 Not Modified", FIVE), False),
    ("304 to HEAD", b"HEAD", said(b"304 Not Modified", FIVE),
     said(b"304 Not Modified", FIVE), True),
    ("205 with a length of 0", b"GET", said(b"205 Reset Content", b"Content-Length: 0"),
     said(b"205 Reset Content", b"Content-Length: 0"), True),
]  # fmt: skip


@implementer(IResponsePolicy)
class Looks:
    """Asks for every reply whole, and leaves it as it is."""

    statuses = range(1000)
    buffered = True

    def responseReceived(self, exchange: Any, response: Response) -> None:
        """Leave it."""


@eachRow(BODILESS)
class Bodiless(HalvesCase):
    """Replies that end with their heads do so, whatever those announce."""

    def check(self, method: bytes, reply: bytes, expected: bytes, kept: bool) -> None:
        """Whole and octet by octet, streamed and held for a policy; and what follows."""
        for policies, cut in itertools.product(((), (Looks(),)), (False, True)):
            self.open(*policies)
            self.client.sends(method + GET[3:])
            self.answer(*(octets(reply) if cut else [reply]))
            self.assertEqual(self.client.got(), expected)
            self.assertEqual(self.sidecar.upstream().state == OPEN, kept)
            self.assertGoesOn(0 if kept else 1)


#: Method; status; body; what the client gets of a policy's reply.
OF_POLICIES: list[tuple[Any, ...]] = [
    ("A policy answers HEAD with a body", b"HEAD", 200, b"hello", said(b"200 OK", FIVE)),
    ("A policy answers HEAD without one", b"HEAD", 404, b"", said(b"404 Not Found")),
    ("A policy answers 204 with a body", b"GET", 204, b"hello", said(b"204 No Content")),
    ("A policy answers 204", b"GET", 204, b"", said(b"204 No Content")),
    ("A policy answers 304 with the body it stands for", b"GET", 304, b"hello",
     said(b"304 Not Modified", FIVE)),
    ("A policy answers 304", b"GET", 304, b"", said(b"304 Not Modified")),
    ("A policy answers 205", b"GET", 205, b"", said(b"205 Reset Content", b"Content-Length: 0")),
    ("A policy answers 200", b"GET", 200, b"hello", said(b"200 OK", FIVE) + b"hello"),
    ("A policy answers 200 and nothing", b"GET", 200, b"", said(b"200 OK", b"Content-Length: 0")),
]  # fmt: skip


@implementer(IResponsePolicy)
class Replaces:
    """Sends another reply in place of each 200."""

    statuses = (200,)

    def __init__(self, buffered: bool, response: Response) -> None:
        self.buffered = buffered
        self._response = response

    def responseReceived(self, exchange: Any, response: Response) -> Response:
        """Send the other."""
        return self._response


@eachRow(OF_POLICIES)
class OfPolicies(HalvesCase):
    """What policies answer is framed as what the upstream does."""

    def check(self, method: bytes, status: int, body: bytes, expected: bytes) -> None:
        """In place of asking the upstream, and in place of its reply."""

        @onRequest
        def answers(exchange: Any) -> Response | None:
            return Response(status, body=body) if exchange.request.path == "/a" else None

        asks = method + b" /a HTTP/1.1\r\nHost: h\r\n\r\n"
        self.open(answers)
        self.client.sends(asks)
        self.assertEqual(self.client.got(), expected)
        self.assertEqual(self.sidecar.upstreams, [])
        for buffered, reply in itertools.product(
            (False, True), (said(b"200 OK", FIVE), said(b"200 OK", IN_CHUNKS))
        ):
            self.open(Replaces(buffered, Response(status, body=body)))
            self.client.sends(asks)
            content = b"hello" if FIVE in reply else chunks(b"hello") + LAST
            self.answer(reply + (b"" if method == b"HEAD" else content))
            self.assertEqual(self.client.got(), expected)
            self.client.sends(asks)
            self.answer(said(b"404 Not Found", b"Content-Length: 0"))
            self.assertEqual(self.client.got(), said(b"404 Not Found", b"Content-Length: 0"))
            self.assertEqual(len(self.sidecar.upstreams), 1)
            self.sidecar.assertQuiet()
