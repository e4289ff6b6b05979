"""
Tests of client half and upstream half together, in exact bytes: what the upstream gets of
each request, and the client of each response.

Most tests are rows of tables.  Each row runs with whole messages and byte by byte.
"""

from __future__ import annotations

import itertools
import re
from typing import Any

from attrs import frozen
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from sitio import Response, onRequest
from sitio.errors import BadMessage, BadVersion, MethodRefused
from sitio.http.message import reasonFor
from sitio.interfaces import IResponsePolicy
from sitio.settings import LINGER_SECONDS, Settings
from sitio.test.helpers.rows import bytewise, eachRow
from sitio.testing import (
    CLOSED,
    HALF_CLOSED,
    OPEN,
    RESET,
    Harness,
    Peer,
    readRequests,
    readResponses,
)

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

#: The lines that sitio adds to each request to the host h.
OWN = b"X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: h\r\n"
GOT = b"GET / HTTP/1.1\r\nHost: h\r\n" + OWN + b"\r\n"

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
CLOSE = b"Connection: close\r\n"


def chunks(*pieces: bytes) -> bytes:
    """Each of these pieces as a chunk, without the last chunk."""
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)


def failure(status: bytes, sentence: bytes, extra: bytes = b"") -> bytes:
    """A response that sitio makes itself."""
    body = b"%b %b\n" % (status[:3], sentence)
    return (
        b"HTTP/1.1 %b\r\nContent-Type: text/plain; charset=utf-8\r\nServer: sitio\r\n"
        b"Content-Length: %d\r\n%b\r\n%b" % (status, len(body), extra, body)
    )


class HalvesCase(SynchronousTestCase):
    """A sidecar in memory, and one client."""

    def open(self, *policies: Any, via: bytes | None = None, **settings: Any) -> Peer:
        """Connect a client to a new sidecar with these policies and settings."""
        self.sidecar = Harness(policies, settings=Settings(**settings), via=via)
        self.client = self.sidecar.connect()
        return self.client

    def answer(self, *pieces: bytes, number: int = 0) -> bytes:
        """Read what the upstream got, and send these responses."""
        upstream = self.sidecar.upstream(number)
        got = upstream.got()
        upstream.sends(*pieces)
        return got

    def assertGoesOn(self, number: int = 0, client: Peer | None = None) -> None:
        """
        Check that the next request reaches the upstream on this connection, and its
        response the client.
        """
        client = client or self.client
        client.sends(GET)
        self.assertEqual(self.answer(OK, number=number), GOT)
        self.assertEqual(client.got(), OK)
        self.sidecar.assertQuiet()

    def assertLingers(self) -> None:
        """
        Check that the client sees the end of the connection, that further bytes are
        dropped, and that the connection closes later.
        """
        self.assertIs(self.client.state, HALF_CLOSED)
        self.client.sends(b"more of it", GET)
        self.assertEqual(self.client.got(), b"")
        self.sidecar.advance(LINGER_SECONDS + 2)
        self.assertIs(self.client.state, CLOSED)
        self.sidecar.assertQuiet()


# --- Bodies


@frozen
class Asking:
    """A way to send a request body, and what the upstream gets of it, whole or byte by byte."""

    fields: bytes
    body: bytes
    sentFields: bytes
    sentBody: bytes
    cutFields: bytes
    cutBody: bytes


@frozen
class Answering:
    """A way to send a response body."""

    start: bytes
    fields: bytes
    body: bytes
    #: Whether the close ends the body, and whether the connection is reused.
    closes: bool
    kept: bool
    #: Whether the length is known with the head: always, or if it arrives whole.
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
    "HTTP/1.1 with close": (b"1.1", b"connection: CLOSE\r\n", b"Connection: close\r\n", False),
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
    (f"A request of {client} with {asks} is answered with {responses}", *CLIENTS[client],
     ASKING[asks], ANSWERING[responses])
    for client, asks, responses in itertools.product(CLIENTS, ASKING, ANSWERING)
    # sitio refuses chunks in HTTP/1.0.
    if "HTTP/1.1" in client or asks in ("no body", "a length")
]  # fmt: skip


@eachRow(BODIES)
class Bodies(HalvesCase):
    """Bodies of all framings pass.  Each half frames them for its own peer."""

    def check(
        self,
        version: bytes,
        option: bytes,
        told: bytes,
        goesOn: bool,
        asks: Asking,
        says: Answering,
    ) -> None:
        """Send request and response whole and byte by byte; then send another request."""
        for askedWhole, saidWhole in itertools.product((True, False), repeat=2):
            self.open()
            raw = b"PUT /a HTTP/%b\r\nHost: h\r\n%b%bA: b\r\n\r\n%b" % (
                version, option, asks.fields, asks.body,
            )  # fmt: skip
            self.client.sends(*([raw] if askedWhole else bytewise(raw)))
            # Content-Length keeps its place; any other framing is added after the fields.
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
            upstream.sends(*([raw] if saidWhole else bytewise(raw)))
            if says.closes:
                upstream.closes()
            stays = goesOn
            if says.known:
                head, body = LENGTH + b"C: d\r\n" + told, b"hello"
            elif says.knownWhole and saidWhole:
                head, body = b"C: d\r\n" + LENGTH + told, b"hello"
            elif version == b"1.1":
                head = b"C: d\r\n" + CHUNKED + told
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


# --- Responses without a body


def said(line: bytes, *fields: bytes) -> bytes:
    """The head of a response with this status line and these fields."""
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
    ("HEAD of a response that closes", b"HEAD", said(b"404 Not Found", FIVE, b"Connection: close"),
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
    """A policy that collects every body and changes nothing."""

    statuses = range(1000)
    buffered = True

    def responseReceived(self, exchange: Any, response: Response) -> None:
        """Return the response."""


@eachRow(BODILESS)
class Bodiless(HalvesCase):
    """Responses without a body end with their head, whatever their framing fields say."""

    def check(self, method: bytes, response: bytes, expected: bytes, kept: bool) -> None:
        """Send whole and byte by byte, streamed and held for a policy; then another request."""
        for policies, cut in itertools.product(((), (Looks(),)), (False, True)):
            self.open(*policies)
            self.client.sends(method + GET[3:])
            self.answer(*(bytewise(response) if cut else [response]))
            # The policy may depend on the body that is left out (RFC 9110, section 8.6).
            knowsLength = not policies or b" 205 " in response
            left = expected if knowsLength else re.sub(rb"Content-Length: \d\r\n", b"", expected)
            self.assertEqual(self.client.got(), left)
            self.assertEqual(self.sidecar.upstream().state == OPEN, kept)
            self.assertGoesOn(0 if kept else 1)


#: Method; status; body; what the client gets of a policy's response.
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
    """A policy that replaces each 200 with another response."""

    statuses = (200,)

    def __init__(self, buffered: bool, response: Response) -> None:
        self.buffered = buffered
        self._response = response

    def responseReceived(self, exchange: Any, response: Response) -> Response:
        """Return the other response."""
        return self._response


@eachRow(OF_POLICIES)
class OfPolicies(HalvesCase):
    """A policy's response is framed like the upstream's."""

    def check(self, method: bytes, status: int, body: bytes, expected: bytes) -> None:
        """Answer in place of the upstream, and replace the upstream's response."""

        @onRequest
        def answers(exchange: Any) -> Response | None:
            return Response(status, body=body) if exchange.request.path == "/a" else None

        asks = method + b" /a HTTP/1.1\r\nHost: h\r\n\r\n"
        self.open(answers)
        self.client.sends(asks)
        self.assertEqual(self.client.got(), expected)
        self.assertEqual(self.sidecar.upstreams, [])
        for buffered, response in itertools.product(
            (False, True), (said(b"200 OK", FIVE), said(b"200 OK", IN_CHUNKS))
        ):
            self.open(Replaces(buffered, Response(status, body=body)))
            self.client.sends(asks)
            content = b"hello" if FIVE in response else chunks(b"hello") + LAST
            self.answer(response + (b"" if method == b"HEAD" else content))
            if buffered and method == b"HEAD":
                # The policy's response may depend on the body that is left out.
                self.assertEqual(self.client.got(), expected.replace(FIVE + b"\r\n", b""))
            else:
                self.assertEqual(self.client.got(), expected)
            self.client.sends(asks)
            self.answer(said(b"404 Not Found", b"Content-Length: 0"))
            self.assertEqual(self.client.got(), said(b"404 Not Found", b"Content-Length: 0"))
            self.assertEqual(len(self.sidecar.upstreams), 1)
            self.sidecar.assertQuiet()


#: The upstream's response, and whether it closes; what a client gets if it arrives whole, and
#: if it arrives byte by byte.
EMPTY: list[tuple[Any, ...]] = [
    ("A length of 0", said(b"200 OK", b"Content-Length: 0"), False,
     said(b"200 OK", b"Content-Length: 0"), said(b"200 OK", b"Content-Length: 0")),
    ("The last chunk alone", said(b"200 OK", IN_CHUNKS) + LAST, False,
     said(b"200 OK", b"Content-Length: 0"), said(b"200 OK", IN_CHUNKS) + LAST),
    ("Trailers alone", said(b"200 OK", IN_CHUNKS) + b"0\r\nA: b\r\n\r\n", False,
     said(b"200 OK", IN_CHUNKS) + b"0\r\nA: b\r\n\r\n",
     said(b"200 OK", IN_CHUNKS) + b"0\r\nA: b\r\n\r\n"),
    ("A close alone", said(b"200 OK"), True,
     said(b"200 OK", IN_CHUNKS) + LAST, said(b"200 OK", IN_CHUNKS) + LAST),
]  # fmt: skip


@eachRow(EMPTY)
class Empty(HalvesCase):
    """An empty body ends like any other body."""

    def check(self, response: bytes, closes: bool, whole: bytes, cut: bytes) -> None:
        """Send whole and byte by byte; then another request."""
        for pieces, expected in (([response], whole), (bytewise(response), cut)):
            self.open().sends(GET)
            self.answer(*pieces)
            if closes:
                self.sidecar.upstream().closes()
            self.assertEqual(self.client.got(), expected)
            self.assertGoesOn(1 if closes else 0)

    def test_heldForAPolicy(self) -> None:
        """A response that a policy collected has a known length and no trailers."""
        for response, closes in [row[1:3] for row in EMPTY]:
            self.open(Looks()).sends(GET)
            self.answer(*bytewise(response))
            if closes:
                self.sidecar.upstream().closes()
            self.assertEqual(self.client.got(), said(b"200 OK", b"Content-Length: 0"))
            self.assertGoesOn(1 if closes else 0)


# --- What is malformed or ambiguous


def asking(*lines: bytes, start: bytes = b"GET / HTTP/1.1") -> bytes:
    """The head of a GET with these lines after Host."""
    return b"\r\n".join((start, b"Host: a", *lines, b"", b""))


def sending(*lines: bytes, body: bytes = b"hello", version: bytes = b"1.1") -> bytes:
    """A POST with these lines after Host, and a body."""
    return asking(*lines, start=b"POST / HTTP/" + version) + body


def inChunks(body: bytes) -> bytes:
    """A POST with this chunked body."""
    return sending(b"Transfer-Encoding: chunked", body=body)


HELLO = b"5\r\nhello\r\n0\r\n\r\n"

#: One request for each kind of error that the request reader knows, whether it is in
#: the head or in the body.  All other malformed requests are rows of
#: C{sitio.test.http.test_codec}.
REFUSED_HEADS = [
    ("CONNECT is refused", asking(start=b"CONNECT a:80 HTTP/1.1"), MethodRefused),
    ("HTTP/2.0 is another version", asking(start=b"GET / HTTP/2.0"), BadVersion),
    ("A method that is no token is refused", asking(start=b"G(T / HTTP/1.1"), BadMessage),
    ("An asterisk with another method is refused", asking(start=b"GET * HTTP/1.1"), BadMessage),
    ("Five empty lines before a request are refused", b"\r\n" * 5 + asking(), BadMessage),
    ("No Host is refused", b"GET / HTTP/1.1\r\nA: b\r\n\r\n", BadMessage),
    ("Two Hosts are refused", asking(b"Host: b"), BadMessage),
    ("A Host with a path is refused", b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", BadMessage),
    ("A URI of another host than Host is refused", asking(start=b"GET http://b/ HTTP/1.1"),
     BadMessage),
    ("A URI with a user is refused", asking(start=b"GET http://a@a/ HTTP/1.1"), BadMessage),
    ("A space before the colon is refused", asking(b"A : b"), BadMessage),
    ("A folded line is refused", asking(b"A: b", b" c"), BadMessage),
    ("NUL in a value is refused", asking(b"A: \0"), BadMessage),
    ("CR alone in a value is refused", asking(b"A: b\rc: d"), BadMessage),
    ("CR at the start of a line is refused", asking(b"\rA: b"), BadMessage),
    ("LF alone after a field is refused", asking(b"A: b\nc: d"), BadMessage),
    ("LF alone as the blank line is refused", asking()[:-2] + b"\n", BadMessage),
    ("A second request after LF alone is refused with the first",
     asking()[:-2] + b"\n" + asking(start=b"GET /next HTTP/1.1"), BadMessage),
    ("A length of 19 digits is refused", sending(b"Content-Length: 1" + b"0" * 18), BadMessage),
    ("A length beyond 64 bits is refused", sending(b"Content-Length: 18446744073709551616"),
     BadMessage),
    ("A length with a plus is refused", sending(b"Content-Length: +5"), BadMessage),
    ("An empty length is refused", sending(b"Content-Length:"), BadMessage),
    ("Two different lengths are refused", sending(b"Content-Length: 5", b"Content-Length: 6"),
     BadMessage),
    ("A length beside a coding is refused",
     sending(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=HELLO), BadMessage),
    ("A coding beside a length is refused",
     sending(b"Transfer-Encoding: chunked", b"Content-Length: 5", body=HELLO), BadMessage),
    ("gzip alone is refused", sending(b"Transfer-Encoding: gzip", body=HELLO), BadMessage),
    ("gzip before chunked is refused", sending(b"Transfer-Encoding: gzip, chunked", body=HELLO),
     BadMessage),
    ("gzip after chunked is refused", sending(b"Transfer-Encoding: chunked, gzip", body=HELLO),
     BadMessage),
    ("An empty coding is refused", sending(b"Transfer-Encoding:", body=HELLO), BadMessage),
    ("A coding in HTTP/1.0 is refused",
     sending(b"Transfer-Encoding: chunked", body=HELLO, version=b"1.0"), BadMessage),
]  # fmt: skip
REFUSED_BODIES = [
    ("A size with a plus is refused", inChunks(b"+" + HELLO), BadMessage),
    ("Data longer than its size is refused", inChunks(b"4" + HELLO[1:]), BadMessage),
    ("LF alone at the end is refused", inChunks(HELLO[:-2] + b"\n"), BadMessage),
    ("A trailer with a space before its colon is refused", inChunks(b"0\r\nA : b\r\n\r\n"),
     BadMessage),
    ("A folded trailer is refused", inChunks(b"0\r\nA: b\r\n c\r\n\r\n"), BadMessage),
    ("NUL in a trailer is refused", inChunks(b"0\r\nA: \0\r\n\r\n"), BadMessage),
    ("LF alone after a trailer is refused", inChunks(b"0\r\nA: b\nB: c\r\n\r\n"), BadMessage),
]  # fmt: skip
REFUSED = [
    *((*row, False) for row in REFUSED_HEADS),
    *((*row, True) for row in REFUSED_BODIES),
]


@eachRow(REFUSED)
class Refused(HalvesCase):
    """An ambiguous request is refused at once and not sent upstream, and the connection ends."""

    def assertRefused(self, got: bytes, error: type[BadMessage]) -> None:
        """Check that the client got one short error response, and that the connection ends."""
        found = re.fullmatch(
            rb"HTTP/1\.1 %d [A-Za-z ]+\r\nContent-Type: text/plain; charset=utf-8\r\n"
            rb"Server: sitio\r\nContent-Length: ([0-9]+)\r\nConnection: close\r\n\r\n"
            rb"(%d %b: [ -~]+\.\n)"
            % (error.status, error.status, re.escape(error.summary[:-1].encode())),
            got,
        )
        self.assertTrue(found, got)
        assert found
        self.assertEqual(int(found[1]), len(found[2]))
        self.assertLingers()

    def check(self, raw: bytes, error: type[BadMessage], inBody: bool) -> None:
        """Send it alone, byte by byte, before another request, and after another."""
        for pieces in ([raw], [raw + GET], bytewise(raw), bytewise(raw + GET)):
            self.open()
            self.client.sends(*pieces)
            self.assertRefused(self.client.got(), error)
            if inBody and len(pieces) > 1:
                # The head was valid; the upstream never gets the end of the body.
                upstream = self.sidecar.upstream()
                self.assertIs(upstream.state, RESET)
                got = upstream.got()
                self.assertRaises(AssertionError, list, readRequests(got))
                self.assertNotIn(b"nasty", got)
            else:
                self.assertEqual(self.sidecar.upstreams, [])
        for pieces in ([GET + raw], bytewise(GET + raw)):
            self.open()
            self.client.sends(*pieces)
            self.assertEqual(self.answer(OK), GOT)
            got = self.client.got()
            self.assertTrue(got.startswith(OK), got)
            self.assertRefused(got.removeprefix(OK), error)
            self.assertEqual(self.sidecar.upstream().got(), b"")
            self.assertEqual(len(self.sidecar.upstreams), 1)


FORGED = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nnasty"
MALFORMED = failure(b"502 Bad Gateway", b"The service behind this proxy sent a malformed response.")
BROKEN = failure(b"502 Bad Gateway", b"The service behind this proxy broke off.")


def answering(*lines: bytes, start: bytes = b"HTTP/1.1 200 OK", body: bytes = b"hello") -> bytes:
    """A response with these lines and this body."""
    return b"\r\n".join((start, *lines, b"", body))


#: One response for each kind of error that the response reader knows: the method that
#: asks for it, the bytes, and whether the error is in the body.  All other malformed
#: responses are rows of C{sitio.test.http.test_codec}.
BAD_RESPONSES = [
    ("A status below 100 is refused", b"GET", answering(start=b"HTTP/1.1 099 x"), False),
    ("Another protocol is refused", b"GET", b"SSH-2.0-OpenSSH_9.2\r\n", False),
    ("LF alone after a response field is refused", b"GET", answering(b"A: b\nB: c"), False),
    ("LF alone as a response's blank line is refused", b"GET",
     answering(b"A: b", body=b"")[:-2] + b"\n", False),
    ("NUL in a response field is refused", b"GET", answering(b"A: \0"), False),
    ("CR alone in a response field is refused", b"GET", answering(b"A: b\rc"), False),
    ("A space before a response field's colon is refused", b"GET", answering(b"A : b"), False),
    ("A folded response field is refused", b"GET", answering(b"A: b", b" c"), False),
    ("Chunks beside a length are refused", b"GET",
     answering(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=HELLO), False),
    ("Chunks beside a length are refused in response to HEAD too", b"HEAD",
     answering(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=b""), False),
    ("Chunks in HTTP/1.0 are refused", b"GET",
     answering(b"Transfer-Encoding: chunked", start=b"HTTP/1.0 200 OK", body=HELLO), False),
    ("A response in gzip alone is refused", b"GET", answering(b"Transfer-Encoding: gzip"), False),
    ("A response in gzip and chunks is refused", b"GET",
     answering(b"Transfer-Encoding: gzip, chunked", body=HELLO), False),
    ("A response in chunks and gzip is refused", b"GET",
     answering(b"Transfer-Encoding: chunked, gzip", body=HELLO), False),
    ("A response in identity is refused", b"GET",
     answering(b"Transfer-Encoding: identity", b"Content-Length: 5"), False),
    ("A response with two codings is refused", b"GET",
     answering(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", body=HELLO), False),
    ("A response with two lengths is refused", b"GET",
     answering(b"Content-Length: 5", b"Content-Length: 6"), False),
    ("A response with a list of lengths is refused", b"GET",
     answering(b"Content-Length: 5, 5"), False),
    ("A response with too great a length is refused", b"GET",
     answering(b"Content-Length: 18446744073709551621"), False),
    ("A bad chunk in a response is refused", b"GET",
     answering(b"Transfer-Encoding: chunked", body=b"+" + HELLO), True),
]  # fmt: skip


@eachRow(BAD_RESPONSES)
class BadResponses(HalvesCase):
    """An ambiguous response does not reach the client."""

    def check(self, method: bytes, raw: bytes, inBody: bool) -> None:
        """
        Send it whole, byte by byte and before another response, with and without a policy
        that holds it.
        """
        expected = MALFORMED
        if method == b"HEAD":
            expected = MALFORMED.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
        for policies, pieces in itertools.product(
            ((), (Looks(),)), ([raw], bytewise(raw), [raw + FORGED], bytewise(raw + FORGED))
        ):
            self.open(*policies)
            self.client.sends(method + GET[3:])
            self.answer(*pieces)
            self.assertIs(self.sidecar.upstream().state, RESET)
            got = self.client.got()
            if inBody and len(pieces) > 1 and not policies:
                # The head is already sent: the client sees an incomplete response.
                self.assertEqual(got, said(b"200 OK", IN_CHUNKS))
                self.assertIs(self.client.state, RESET)
                self.sidecar.assertQuiet()
            else:
                self.assertEqual(got, expected)
                self.assertGoesOn(1)


#: Responses that end too early, one for each place, and whether the head is complete.
CUT_SHORT = [
    ("A response without its head is no response", answering(b"Content-Length: 5", body=b"")[:-1],
     False),
    ("A response with less than it announced is broken",
     answering(b"Content-Length: 5", body=b"hell"), True),
    ("A response with nothing of what it announced is broken",
     answering(b"Content-Length: 5", body=b""), True),
    *(
        (promise, answering(b"Transfer-Encoding: chunked", body=body), True)
        for promise, body in (
            ("A response without its first chunk is broken", b""),
            ("A response within a chunk is broken", b"5\r\nhell"),
            ("A response at the end of a chunk is broken", b"5\r\nhello"),
            ("A response without its last chunk is broken", b"5\r\nhello\r\n"),
            ("A response within its last line is broken", b"5\r\nhello\r\n0\r\n"),
            ("A response within its trailers is broken", b"0\r\nA: b\r\n"),
        )
    ),
]  # fmt: skip


@eachRow(CUT_SHORT)
class CutShort(HalvesCase):
    """A response that the upstream breaks off never looks complete to the client."""

    def check(self, raw: bytes, hasHead: bool) -> None:
        """
        Send whole and byte by byte; close and reset; with and without a policy that holds
        it.
        """
        for policies, pieces, end in itertools.product(
            ((), (Looks(),)), ([raw], bytewise(raw)), (Peer.closes, Peer.resets)
        ):
            self.open(*policies)
            self.client.sends(GET)
            self.answer(*pieces)
            end(self.sidecar.upstream())
            got = self.client.got()
            if policies or not hasHead:
                self.assertEqual(got, BROKEN)
                self.assertGoesOn(1)
            else:
                self.assertTrue(got.startswith(b"HTTP/1.1 200 OK\r\n"), got)
                self.assertIs(self.client.state, RESET)
                self.assertRaises(AssertionError, list, readResponses(got))
                self.sidecar.assertQuiet()


class Failures(HalvesCase):
    """sitio's own error responses, in exact bytes."""

    def test_noHost(self) -> None:
        """A missing Host gets a 400 that names the error."""
        self.open().sends(b"GET / HTTP/1.1\r\n\r\n")
        self.assertEqual(
            self.client.got(),
            b"HTTP/1.1 400 Bad Request\r\n"
            b"Content-Type: text/plain; charset=utf-8\r\n"
            b"Server: sitio\r\n"
            b"Content-Length: 39\r\n"
            b"Connection: close\r\n"
            b"\r\n"
            b"400 The request is malformed: no Host.\n",
        )
        self.assertLingers()

    def test_slowHead(self) -> None:
        """A head that takes too long gets 408, even if bytes keep arriving."""
        self.open(headTimeout=10.0)
        for each in bytewise(GET[:9]):
            self.sidecar.advance(1)
            self.client.sends(each)
        self.assertEqual(self.client.got(), b"")
        self.sidecar.advance(3)
        self.assertEqual(
            self.client.got(),
            failure(b"408 Request Timeout", b"The request took too long to arrive.", CLOSE),
        )
        self.assertLingers()

    def test_slowBody(self) -> None:
        """A request body that stops gets 408, and the upstream's connection is closed."""
        self.open(stallTimeout=60.0).sends(
            b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nhello"
        )
        self.sidecar.advance(58)
        self.assertEqual(self.client.got(), b"")
        self.sidecar.advance(3)
        self.assertEqual(
            self.client.got(),
            failure(b"408 Request Timeout", b"The request took too long to arrive.", CLOSE),
        )
        self.assertIs(self.sidecar.upstream().state, RESET)
        self.assertLingers()

    def test_bodyTooLong(self) -> None:
        """
        A body over the limit gets 413, with or without a length; the upstream gets no
        complete request.
        """
        expected = failure(
            b"413 " + reasonFor(413).encode(),
            b"The body of the request is too long: a body of more than 4 bytes.",
            CLOSE,
        )
        for framing in (LENGTH + b"\r\nhello", CHUNKED + b"\r\n" + chunks(b"hel", b"lo") + LAST):
            raw = b"POST / HTTP/1.1\r\nHost: h\r\n" + framing
            self.open(maxBody=4).sends(raw)
            self.assertEqual(self.client.got(), expected)
            self.assertEqual(self.sidecar.upstreams, [])
            self.assertLingers()
            self.open(maxBody=4).sends(*bytewise(raw))
            self.assertEqual(self.client.got(), expected)
            for each in self.sidecar.upstreams:
                self.assertRaises(AssertionError, list, readRequests(each.got()))
                self.assertIs(each.state, RESET)
            self.assertLingers()
            self.open(maxBody=5).sends(raw)
            self.answer(OK)
            self.assertEqual(self.client.got(), OK)
            self.sidecar.assertQuiet()

    def test_headTooLong(self) -> None:
        """A head with too many bytes or too many fields gets 431 at once."""
        start = b"GET / HTTP/1.1\r\nHost: h\r\n"
        for raw, why in (
            (start + b"A: %b" % (b"a" * 200), b"a head of more than 200 bytes"),
            (start + b"A: %b\r\n\r\n" % (b"a" * 200), b"a head of more than 200 bytes"),
            (start + b"A: b\r\n" * 7 + b"\r\n", b"more than 7 fields"),
        ):
            self.open(maxHead=200, maxFields=7).sends(raw)
            self.assertEqual(
                self.client.got(),
                failure(
                    b"431 Request Header Fields Too Large",
                    b"The head of the request is too long: %b." % why,
                    CLOSE,
                ),
            )
            self.assertEqual(self.sidecar.upstreams, [])
            self.assertLingers()

    def test_brokenPolicy(self) -> None:
        """A request policy that raises gets 500; the connection stays open."""

        @onRequest
        def breaks(exchange: Any) -> None:
            raise ZeroDivisionError

        self.open(breaks).sends(GET, GET)
        expected = failure(
            b"500 Internal Server Error", b"sitio could not decide about this request."
        )
        self.assertEqual(self.client.got(), expected * 2)
        self.assertEqual(self.sidecar.upstreams, [])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.sidecar.assertQuiet()

    def test_connect(self) -> None:
        """CONNECT gets 501 in any form and is not sent upstream."""
        for target in (b"h:443", b"/", b"*", b"http://h/"):
            self.open().sends(b"CONNECT %b HTTP/1.1\r\nHost: h\r\n\r\n" % target)
            self.assertEqual(
                self.client.got(),
                failure(
                    b"501 Not Implemented",
                    b"CONNECT is not served here: the method CONNECT.",
                    CLOSE,
                ),
            )
            self.assertEqual(self.sidecar.upstreams, [])
            self.assertLingers()

    def test_version(self) -> None:
        """Another version of HTTP gets 505."""
        self.open().sends(b"GET / HTTP/2.0\r\n\r\n")
        self.assertEqual(
            self.client.got(),
            failure(
                b"505 HTTP Version Not Supported",
                b"Only HTTP/1.0 and HTTP/1.1 are spoken here:"
                b" a version other than HTTP/1.0 and HTTP/1.1.",
                CLOSE,
            ),
        )
        self.assertLingers()

    def test_refused(self) -> None:
        """
        If the upstream refuses the connection, the client gets 502.  Its connection stays
        as it asked, and HEAD gets no body.
        """
        whole = failure(b"502 Bad Gateway", b"The service behind this proxy could not be reached.")
        head, body = whole.split(b"\r\n\r\n")
        for raw, expected, state in (
            (GET, whole, OPEN),
            (b"HEAD" + GET[3:], head + b"\r\n\r\n", OPEN),
            (
                b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
                head + b"\r\nConnection: close\r\n\r\n" + body,
                CLOSED,
            ),
            (
                b"GET / HTTP/1.0\r\n\r\n",
                head + b"\r\nConnection: close\r\n\r\n" + body,
                CLOSED,
            ),
            (
                b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
                head + b"\r\nConnection: keep-alive\r\n\r\n" + body,
                OPEN,
            ),
            (
                b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n",
                head + b"\r\nConnection: close\r\n\r\n" + body,
                HALF_CLOSED,
            ),
        ):
            self.open()
            self.sidecar.refuseConnections()
            self.client.sends(raw)
            self.assertEqual(self.client.got(), expected)
            self.assertIs(self.client.state, state)
            self.sidecar.acceptConnections()
            if state is OPEN:
                self.assertGoesOn()
            self.sidecar.assertQuiet()

    def test_silence(self) -> None:
        """If the upstream does not accept or does not respond in time, the client gets 504."""
        self.open(connectTimeout=5.0)
        self.sidecar.holdConnections()
        self.client.sends(GET)
        self.sidecar.advance(4.9)
        self.assertEqual(self.client.got(), b"")
        self.sidecar.advance(0.2)
        self.assertEqual(
            self.client.got(),
            failure(
                b"504 Gateway Timeout",
                b"The service behind this proxy did not accept a connection in time.",
            ),
        )
        self.sidecar.acceptConnections()
        self.client.sends(GET)
        upstream = self.sidecar.upstream()
        self.sidecar.advance(58)
        self.assertEqual(self.client.got(), b"")
        self.sidecar.advance(4)
        self.assertEqual(
            self.client.got(),
            failure(b"504 Gateway Timeout", b"The service behind this proxy took too long."),
        )
        self.assertIs(upstream.state, RESET)
        self.assertGoesOn(1)

    def test_busy(self) -> None:
        """
        A request that waits too long for a connection gets 503; the next one may get a
        connection.
        """
        self.open(poolSize=1, poolTimeout=5.0).sends(GET)
        other = self.sidecar.connect()
        other.sends(GET)
        self.sidecar.advance(5)
        self.assertEqual(
            other.got(),
            failure(b"503 Service Unavailable", b"The service behind this proxy is busy."),
        )
        self.answer(OK)
        self.assertEqual(self.client.got(), OK)
        self.assertGoesOn(client=other)


# --- Interim responses

HINTS = said(b"103 Early Hints", b"Link: </a>; rel=preload", b"link: </\xe9>")

#: The upstream's bytes before its response, and what an HTTP/1.1 client gets.
INFORMED: list[tuple[Any, ...]] = [
    ("100", CONTINUE, CONTINUE),
    ("103 with its fields", HINTS, HINTS),
    ("Several of them", CONTINUE + HINTS + CONTINUE, CONTINUE + HINTS + CONTINUE),
    ("One that announces a body", said(b"102 Processing", FIVE, b"A: b"),
     said(b"102 Processing", b"A: b")),
    ("One that announces chunks", said(b"102 Processing", IN_CHUNKS), said(b"102 Processing")),
    ("Fields of the connection", said(b"103 Early Hints", b"Connection: close, a", b"A: b",
     b"Keep-Alive: x", b"C: d"), said(b"103 Early Hints", b"C: d")),
    ("An unregistered status", said(b"199 So it is"), said(b"199 So it is")),
    ("One without a reason", b"HTTP/1.1 100\r\n\r\n", said(b"100 ")),
    ("As many as are let through", CONTINUE * 32, CONTINUE * 32),
]  # fmt: skip


@eachRow(INFORMED)
class Informed(HalvesCase):
    """Interim responses pass at once, except to HTTP/1.0 (RFC 9110, section 15.2)."""

    def check(self, interim: bytes, expected: bytes) -> None:
        """Send them alone and together with the final response, to each kind of client, twice."""
        for method, version, way in itertools.product(
            (b"GET", b"HEAD"), (b"1.0", b"1.1"), ("alone", "bytes", "behind")
        ):
            self.open()
            raw = method + b" / HTTP/%b\r\nHost: h\r\nConnection: keep-alive\r\n\r\n" % version
            final = OK if method == b"GET" else OK[:-2]
            if version == b"1.1":
                response = final
            else:
                response = final.replace(b"\r\n\r\n", b"\r\nConnection: keep-alive\r\n\r\n")
            passed = expected if version == b"1.1" else b""
            self.client.sends(raw * 2)
            for _ in range(2):
                if way == "behind":
                    self.answer(interim + final)
                    self.assertEqual(self.client.got(), passed + response)
                    continue
                self.answer(*(bytewise(interim) if way == "bytes" else [interim]))
                self.assertEqual(self.client.got(), passed)
                self.answer(final)
                self.assertEqual(self.client.got(), response)
            self.assertGoesOn()


EXPECTS = b"POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n"
REFUSES = said(b"417 Expectation Failed", b"A: b", b"Content-Length: 2") + b"no"
REFUSED_BY = said(b"417 Expectation Failed", b"A: b", b"Content-Length: 2", CLOSE[:-2]) + b"no"


class Expectations(HalvesCase):
    """Expect: 100-continue passes between client and upstream (RFC 9110, section 10.1.1)."""

    def test_continue(self) -> None:
        """The upstream gets the head first, and the body after it has sent 100."""
        self.open().sends(EXPECTS + b"\r\n")
        self.assertEqual(self.answer(CONTINUE), EXPECTS + OWN + b"\r\n")
        self.assertEqual(self.client.got(), CONTINUE)
        self.client.sends(b"he", b"llo")
        self.assertEqual(self.answer(OK), b"hello")
        self.assertEqual(self.client.got(), OK)
        self.assertGoesOn()

    def test_chunks(self) -> None:
        """The same for a body of unknown length."""
        head = EXPECTS.replace(LENGTH, CHUNKED)
        self.open().sends(head + b"\r\n")
        self.assertEqual(self.answer(CONTINUE), head + OWN + b"\r\n")
        self.assertEqual(self.client.got(), CONTINUE)
        self.client.sends(EXTENDED, b"\r\n")
        self.assertEqual(self.answer(OK), chunks(b"hello") + LAST)
        self.assertEqual(self.client.got(), OK)
        self.assertGoesOn()

    def test_bodyAnyway(self) -> None:
        """A client may send the body without waiting; the 100 still passes."""
        self.open().sends(EXPECTS + b"\r\nhello")
        self.assertEqual(self.answer(CONTINUE + OK), EXPECTS + OWN + b"\r\nhello")
        self.assertEqual(self.client.got(), CONTINUE + OK)
        self.assertGoesOn()

    def test_refused(self) -> None:
        """
        After a final response instead of 100, both connections close, as the body may or
        may not follow.
        """
        self.open().sends(EXPECTS + b"\r\n")
        self.assertEqual(self.answer(REFUSES), EXPECTS + OWN + b"\r\n")
        self.assertEqual(self.client.got(), REFUSED_BY)
        self.assertIs(self.sidecar.upstream().state, CLOSED)
        self.client.sends(b"hell")
        self.assertEqual(self.sidecar.upstream().got(), b"")
        self.assertLingers()

    def test_refusedAfterContinue(self) -> None:
        """The same for a final response after the 100 and before the body."""
        self.open().sends(EXPECTS + b"\r\n")
        self.answer(CONTINUE)
        self.client.sends(b"he")
        self.answer(REFUSES)
        self.assertEqual(self.client.got(), CONTINUE + REFUSED_BY)
        self.assertIs(self.sidecar.upstream().state, CLOSED)
        self.assertLingers()

    def test_answeredByAPolicy(self) -> None:
        """A policy may answer before the client sends its body."""
        self.open(onRequest(lambda exchange: Response(403))).sends(EXPECTS + b"\r\n")
        self.assertEqual(
            self.client.got(), said(b"403 Forbidden", b"Content-Length: 0", CLOSE[:-2])
        )
        self.assertEqual(self.sidecar.upstreams, [])
        self.assertLingers()

    def test_old(self) -> None:
        """Expect has no effect in HTTP/1.0, and the client gets no 100."""
        self.open().sends(EXPECTS.replace(b"1.1", b"1.0") + b"\r\nhello")
        self.assertEqual(
            self.answer(CONTINUE + OK),
            b"POST / HTTP/1.1\r\nHost: h\r\n" + LENGTH + OWN + b"\r\nhello",
        )
        self.assertEqual(
            self.client.got(), said(b"200 OK", b"Content-Length: 2", CLOSE[:-2]) + b"ok"
        )
        self.assertIs(self.client.state, CLOSED)
        self.sidecar.assertQuiet()

    def test_tooMany(self) -> None:
        """Too many interim responses are a 502 that says so."""
        self.open(maxInterim=len(CONTINUE) * 33).sends(GET)
        self.answer(CONTINUE * 34)
        self.assertEqual(
            self.client.got(),
            CONTINUE * 33
            + failure(
                b"502 Bad Gateway",
                b"The service behind this proxy sent too many interim responses.",
            ),
        )
        self.assertIs(self.sidecar.upstream().state, RESET)
        self.assertGoesOn(1)


# --- Responses that come early

#: The first part of the client's request; what the upstream gets of it; the rest of the
#: body; what the upstream gets of the rest.
UPLOADS: list[tuple[Any, ...]] = [
    ("a length", LENGTH + b"\r\nhel", LENGTH + OWN + b"\r\nhel", b"lo", b"lo"),
    ("chunks", CHUNKED + b"\r\n" + chunks(b"hel"), CHUNKED + OWN + b"\r\n" + chunks(b"hel"),
     chunks(b"lo") + b"0\r\nA: b\r\n\r\n", chunks(b"lo") + b"0\r\nA: b\r\n\r\n"),
]  # fmt: skip

POSTS = b"POST / HTTP/1.1\r\nHost: h\r\n"
LARGE = b"x" * 300_000
LARGE_HEAD = said(b"200 OK", b"Content-Length: 300000")
LARGE_LAST = said(b"200 OK", b"Content-Length: 300000", CLOSE[:-2])


@eachRow([(f"While a body of {name} comes", *row) for name, *row in UPLOADS])
class Early(HalvesCase):
    """
    A response that arrives before the end of the request's body goes to the client at
    once.  It is complete, and announces the close of the connection.
    """

    def check(self, begins: bytes, gets: bytes, rest: bytes, getsRest: bytes) -> None:
        """Small and large responses; the body ends before them, after them or never."""
        for step in (self.small, self.bodyFirst, self.responseFirst, self.broken, self.held):
            self.open().sends(POSTS + begins)
            self.assertEqual(self.sidecar.upstream().got(), POSTS + gets)
            step(rest, getsRest)

    def small(self, rest: bytes, getsRest: bytes) -> None:
        """A response that is complete at once."""
        self.answer(REFUSES)
        self.assertEqual(self.client.got(), REFUSED_BY)
        self.assertIs(self.sidecar.upstream().state, CLOSED)
        self.client.sends(rest + GET)
        self.assertEqual(self.sidecar.upstream().got(), b"")
        self.assertLingers()

    def bodyFirst(self, rest: bytes, getsRest: bytes) -> None:
        """The body ends while the response streams: the upstream's connection stays open."""
        self.answer(LARGE_HEAD, LARGE[:200_000])
        self.assertEqual(self.client.got(), LARGE_LAST + LARGE[:200_000])
        self.client.sends(rest + GET)
        self.assertEqual(self.answer(LARGE[200_000:]), getsRest)
        self.assertEqual(self.client.got(), LARGE[200_000:])
        self.assertIs(self.sidecar.upstream().state, OPEN)
        self.assertIs(self.client.state, HALF_CLOSED)
        self.assertGoesOn(client=self.sidecar.connect())

    def responseFirst(self, rest: bytes, getsRest: bytes) -> None:
        """The response ends first: the rest of the request is dropped."""
        self.answer(LARGE_HEAD, LARGE[:200_000])
        self.client.got()
        self.answer(LARGE[200_000:])
        self.assertEqual(self.client.got(), LARGE[200_000:])
        self.assertIs(self.sidecar.upstream().state, CLOSED)
        self.client.sends(rest + GET)
        self.assertEqual(self.sidecar.upstream().got(), b"")
        self.assertLingers()

    def broken(self, rest: bytes, getsRest: bytes) -> None:
        """The upstream's connection breaks within its response: the client sees that."""
        self.answer(LARGE_HEAD, LARGE[:200_000])
        self.client.sends(rest)
        self.sidecar.upstream().resets()
        self.assertEqual(self.client.got(), LARGE_LAST + LARGE[:200_000])
        self.assertIs(self.client.state, RESET)
        self.sidecar.assertQuiet()

    def held(self, rest: bytes, getsRest: bytes) -> None:
        """A policy holds the response until the body has ended: both connections stay open."""
        self.sidecar.closeAll()
        self.open(Looks()).sends(POSTS + LENGTH + b"\r\nhel")
        self.answer(OK[:-1])
        self.client.sends(b"lo")
        self.assertEqual(self.client.got(), b"")
        self.sidecar.upstream().got()
        self.answer(OK[-1:])
        self.assertEqual(self.client.got(), OK)
        self.assertGoesOn()

    def test_untilClose(self) -> None:
        """An early response that ends with the upstream's connection is complete, too."""
        self.open().sends(POSTS + LENGTH + b"\r\nhel")
        self.answer(said(b"401 Unauthorized"), b"go", b" away")
        self.client.sends(b"l")
        self.sidecar.upstream().closes()
        self.assertEqual(
            self.client.got(),
            said(b"401 Unauthorized", IN_CHUNKS, CLOSE[:-2]) + chunks(b"go", b" away") + LAST,
        )
        self.assertLingers()

    def test_old(self) -> None:
        """The same for HTTP/1.0."""
        self.open().sends(b"POST / HTTP/1.0\r\n" + LENGTH + b"\r\nhel")
        self.answer(REFUSES)
        self.assertEqual(self.client.got(), REFUSED_BY)
        self.assertLingers()

    def test_longLinger(self) -> None:
        """Further bytes of a long body are dropped, not buffered, until the linger ends."""
        self.open().sends(POSTS + b"Content-Length: 9999999999\r\n\r\n")
        self.answer(REFUSES)
        self.assertEqual(self.client.got(), REFUSED_BY)
        server: Any = self.client.transport.protocol
        for _ in range(20):
            self.client.sends(LARGE)
            self.assertFalse(self.client.paused)
            self.assertEqual(server.reader.held, 0)
        self.sidecar.advance(LINGER_SECONDS + 1)
        self.assertIs(self.client.state, CLOSED)
        self.sidecar.assertQuiet()


# --- Connections that break just as they are used

#: Method; framing fields and body; what the upstream gets the second time, or L{None} if
#: the request is not repeated.
TWICE: list[tuple[Any, ...]] = [
    ("GET", b"GET", b"\r\n", b"%b\r\n"),
    ("HEAD", b"HEAD", b"\r\n", b"%b\r\n"),
    ("GET with a body", b"GET", LENGTH + b"\r\nhello", LENGTH + b"%b\r\nhello"),
    ("DELETE", b"DELETE", b"\r\n", b"%b\r\n"),
    ("OPTIONS", b"OPTIONS", b"\r\n", b"%b\r\n"),
    ("PUT with a length", b"PUT", LENGTH + b"\r\nhello", LENGTH + b"%b\r\nhello"),
    ("PUT with a length of 0", b"PUT", b"Content-Length: 0\r\n\r\n",
     b"Content-Length: 0\r\n%b\r\n"),
    ("PUT in chunks", b"PUT", CHUNKED + b"\r\n" + chunks(b"he", b"llo") + LAST,
     LENGTH + b"%b\r\nhello"),
    ("PUT with trailers", b"PUT", CHUNKED + b"\r\n" + chunks(b"hello") + b"0\r\nA: b\r\n\r\n",
     CHUNKED + b"%b\r\n" + chunks(b"hello") + b"0\r\nA: b\r\n\r\n"),
    ("POST", b"POST", b"\r\n", None),
    ("POST with a body", b"POST", LENGTH + b"\r\nhello", None),
    ("PATCH", b"PATCH", LENGTH + b"\r\nhello", None),
    ("An unknown method", b"FOO", b"\r\n", None),
    ("get in lower case", b"get", b"\r\n", None),
]  # fmt: skip


@eachRow(TWICE)
class Again(HalvesCase):
    """
    If a reused connection breaks without a response, a repeatable request is sent again
    once, on a fresh connection.
    """

    def begin(self, raw: bytes, cut: bool) -> Peer:
        """Send this as the second request of an upstream connection; return the upstream's end."""
        self.open(replayLimit=8).sends(GET)
        self.assertEqual(self.answer(OK), GOT)
        self.assertEqual(self.client.got(), OK)
        self.client.sends(*(bytewise(raw) if cut else [raw]))
        upstream = self.sidecar.upstream()
        self.assertNotEqual(upstream.got(), b"")
        return upstream

    def check(self, method: bytes, rest: bytes, again: bytes | None) -> None:
        """Close and reset, once and twice, and after an interim response."""
        raw = method + b" / HTTP/1.1\r\nHost: h\r\n" + rest
        broken = BROKEN
        if method == b"HEAD":
            broken = broken.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
        response = OK[:-2] if method == b"HEAD" else OK
        for end, cut in itertools.product((Peer.closes, Peer.resets), (False, True)):
            end(self.begin(raw, cut))
            if again is not None:
                fresh = self.sidecar.upstream(1)
                got = fresh.got()
                head = method + b" / HTTP/1.1\r\nHost: h\r\n"
                self.assertEqual(got, head + again % OWN)
                fresh.sends(response)
                self.assertEqual(self.client.got(), response)
                # Nothing is repeated twice, or after the first byte of a response.
                end(self.begin(raw, cut))
                end(self.sidecar.upstream(1))
                self.assertEqual(len(self.sidecar.upstreams), 2)
                self.assertEqual(self.client.got(), broken)
                upstream = self.begin(raw, cut)
                upstream.sends(CONTINUE)
                end(upstream)
                self.assertEqual(self.client.got(), CONTINUE + broken)
            else:
                self.assertEqual(self.client.got(), broken)
            self.assertLessEqual(len(self.sidecar.upstreams), 2 if again else 1)
            self.sidecar.assertQuiet()

    def test_notHeld(self) -> None:
        """A body over the replay limit is not sent again."""
        self.begin(b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n123456789", True)
        self.sidecar.upstream().closes()
        self.assertEqual(self.client.got(), BROKEN)
        self.assertGoesOn(1)

    def test_stillToCome(self) -> None:
        """
        A request with an incomplete body is not sent again, and the client's connection
        ends.
        """
        self.begin(b"PUT / HTTP/1.1\r\nHost: h\r\n" + LENGTH + b"\r\nhell", False)
        self.sidecar.upstream().closes()
        self.assertEqual(self.client.got(), BROKEN.replace(b"\r\n\r\n", b"\r\n" + CLOSE + b"\r\n"))
        self.assertEqual(len(self.sidecar.upstreams), 1)
        self.assertLingers()

    def test_fresh(self) -> None:
        """Nothing is repeated after a fresh connection breaks."""
        self.open().sends(GET)
        self.sidecar.upstream().closes()
        self.assertEqual(self.client.got(), BROKEN)
        self.assertEqual(len(self.sidecar.upstreams), 1)
        self.assertGoesOn(1)


# --- Targets and methods

#: The client's bytes; what the upstream gets, or sitio's response to the client.
ROUTED: list[tuple[Any, ...]] = [
    ("An unknown method", b"FOO /a HTTP/1.1\r\nHost: h\r\n\r\n",
     b"FOO /a HTTP/1.1\r\nHost: h\r\n" + OWN + b"\r\n", None),
    ("A method in lower case", b"get /a HTTP/1.1\r\nHost: h\r\n\r\n",
     b"get /a HTTP/1.1\r\nHost: h\r\n" + OWN + b"\r\n", None),
    ("An unknown method with a body", b"M-X! / HTTP/1.1\r\nHost: h\r\n" + LENGTH + b"\r\nhello",
     b"M-X! / HTTP/1.1\r\nHost: h\r\n" + LENGTH + OWN + b"\r\nhello", None),
    ("A target of odd characters", b"GET //a/../%2e;b?c=\"|d HTTP/1.1\r\nHost: h\r\n\r\n",
     b"GET //a/../%2e;b?c=\"|d HTTP/1.1\r\nHost: h\r\n" + OWN + b"\r\n", None),
    ("Absolute form", b"GET http://h/a?b HTTP/1.1\r\nHost: h\r\n\r\n",
     b"GET /a?b HTTP/1.1\r\nHost: h\r\n" + OWN + b"\r\n", None),
    ("Absolute form without a path", b"GET HTTP://H:80 HTTP/1.1\r\nHost: h\r\n\r\n", GOT, None),
    ("OPTIONS for all", b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n",
     b"OPTIONS * HTTP/1.1\r\nHost: h\r\n" + OWN + b"\r\n", None),
    ("OPTIONS in absolute form", b"OPTIONS http://h HTTP/1.1\r\nHost: h\r\n\r\n",
     b"OPTIONS * HTTP/1.1\r\nHost: h\r\n" + OWN + b"\r\n", None),
    ("OPTIONS with hops left", b"OPTIONS /a HTTP/1.1\r\nmax-forwards: 3\r\nHost: h\r\n\r\n",
     b"OPTIONS /a HTTP/1.1\r\nMax-Forwards: 2\r\nHost: h\r\n" + OWN + b"\r\n", None),
    ("TRACE with one hop left", b"TRACE /a HTTP/1.1\r\nHost: h\r\nMax-Forwards: 1\r\n\r\n",
     b"TRACE /a HTTP/1.1\r\nHost: h\r\nMax-Forwards: 0\r\n" + OWN + b"\r\n", None),
    ("TRACE without hops", b"TRACE /a HTTP/1.1\r\nHost: h\r\n\r\n",
     b"TRACE /a HTTP/1.1\r\nHost: h\r\n" + OWN + b"\r\n", None),
    ("GET with no hop left", b"GET /a HTTP/1.1\r\nHost: h\r\nMax-Forwards: 0\r\n\r\n",
     b"GET /a HTTP/1.1\r\nHost: h\r\nMax-Forwards: 0\r\n" + OWN + b"\r\n", None),
    ("Hops that are no number", b"TRACE /a HTTP/1.1\r\nHost: h\r\nMax-Forwards: x\r\n\r\n",
     b"TRACE /a HTTP/1.1\r\nHost: h\r\nMax-Forwards: x\r\n" + OWN + b"\r\n", None),
    ("OPTIONS with no hop left", b"OPTIONS * HTTP/1.1\r\nHost: h\r\nMax-Forwards: 0\r\n\r\n",
     None, said(b"204 No Content", b"Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")),
    ("TRACE with no hop left",
     b"TRACE /a?b HTTP/1.1\r\nHost: h\r\nA: \xe9\r\nCookie: c\r\nauthorization: d\r\n"
     b"Max-Forwards: 0\r\na: e\r\n\r\n", None,
     said(b"200 OK", b"Content-Type: message/http", b"Content-Length: 61")
     + b"TRACE /a?b HTTP/1.1\r\nHost: h\r\nA: \xe9\r\nMax-Forwards: 0\r\na: e\r\n\r\n"),
]  # fmt: skip


@eachRow(ROUTED)
class Routed(HalvesCase):
    """Methods pass unchanged; targets are sent in the form that a service expects."""

    def check(self, raw: bytes, gets: bytes | None, response: bytes | None) -> None:
        """Send it alone, and pipelined after another."""
        self.open().sends(raw)
        if gets is not None:
            self.assertEqual(self.answer(OK), gets)
        self.assertEqual(self.client.got(), response or OK)
        self.client.sends(GET + raw)
        self.assertEqual(self.answer(OK), GOT)
        if gets is not None:
            self.assertEqual(self.answer(OK), gets)
        self.assertEqual(self.client.got(), OK + (response or OK))
        self.assertGoesOn()


# --- Fields

#: The lines after the request line; what the upstream gets of them.
SENT_FIELDS: list[tuple[Any, ...]] = [
    ("Order, repeats, spelling and bytes are kept", b"1.1",
     b"b: 1\r\nHost: h\r\nA: \x80\xe9 \xff\r\nB:3\r\na: \r\nCookie: x\r\ncookie: y\r\n",
     b"b: 1\r\nHost: h\r\nA: \x80\xe9 \xff\r\nB:3\r\na: \r\nCookie: x\r\ncookie: y\r\n" + OWN),
    ("Fields without a meaning for sitio are kept", b"1.1",
     b"Host: h\r\nTrailer: a\r\nExpect: b\r\nDate: c\r\nX-Request-Id: d\r\n",
     b"Host: h\r\nTrailer: a\r\nExpect: b\r\nDate: c\r\nX-Request-Id: d\r\n" + OWN),
    ("Host is kept as it is", b"1.1", b"hOsT: \t WWW.h.:080\r\n",
     b"hOsT: \t WWW.h.:080\r\n" + OWN.replace(b": h\r", b": WWW.h.:080\r")),
    ("Host is kept whatever Connection says", b"1.1", b"Connection: host\r\nHost: h\r\n",
     b"Host: h\r\n" + OWN),
    ("A Host is made up for HTTP/1.0 alone", b"1.0", b"A: b\r\nConnection: keep-alive\r\n",
     b"A: b\r\n" + OWN.replace(b"X-Forwarded-Host: h", b"Host: localhost")),
    ("An empty Host is no reason for another", b"1.1", b"Host:\r\n",
     b"Host:\r\n" + OWN.removesuffix(b"X-Forwarded-Host: h\r\n")),
    ("Fields of the connection are cut", b"1.1",
     b"Keep-Alive: 5\r\nHost: h\r\nproxy-connection: x\r\nTE: trailers\r\nUpgrade: a\r\n"
     b"Connection: keep-alive, TE\r\nA: b\r\n", b"Host: h\r\nA: b\r\n" + OWN),
    ("Fields that Connection names are cut", b"1.1",
     b"A: 1\r\nb: 2\r\nConnection: a ,, B\r\nHost: h\r\nC: 3\r\nconnection: Cookie\r\nB: 4\r\n"
     b"Cookie: x\r\nAb: 5\r\n", b"Host: h\r\nC: 3\r\nAb: 5\r\n" + OWN),
    ("The addresses that a client claims are kept in front", b"1.1",
     b"Host: h\r\nx-forwarded-for: 1\r\nA: b\r\nX-FORWARDED-FOR: 2\r\nX-Forwarded-Proto: https\r\n",
     b"Host: h\r\nX-Forwarded-For: 1, 2, 192.0.2.1\r\nA: b\r\nX-Forwarded-Proto: http\r\n"
     b"X-Forwarded-Host: h\r\n"),
    ("What sitio adds can't be cut by the client", b"1.1",
     b"Host: h\r\nConnection: x-forwarded-for, X-Forwarded-Proto, x-forwarded-host, via\r\n"
     b"X-Forwarded-For: 1\r\n", b"Host: h\r\n" + OWN),
]  # fmt: skip


@eachRow(SENT_FIELDS)
class SentFields(HalvesCase):
    """Request fields pass unchanged, except the fields of the connection."""

    def check(self, version: bytes, fields: bytes, gets: bytes) -> None:
        """With and without Via, and on a connection that stays open."""
        line = b"GET /a HTTP/" + version + b"\r\n"
        for via, more in ((None, b""), (b"sitio", b"Via: %b sitio\r\n" % version)):
            self.open(via=via).sends(*bytewise(line + fields + b"\r\n"))
            expected = b"GET /a HTTP/1.1\r\n" + gets + more + b"\r\n"
            self.assertEqual(self.answer(OK), expected)
            self.client.sends(line + fields + b"\r\n")
            self.assertEqual(self.answer(OK), expected)
            self.sidecar.assertQuiet()

    def test_emptyHostBehindAPolicy(self) -> None:
        """An empty Host stays empty, and request policies see it."""
        hosts: list[list[str]] = []
        looks = onRequest(lambda exchange: hosts.append(exchange.request.headers.getAll("host")))
        self.open(looks).sends(b"GET / HTTP/1.1\r\nHost:\r\n\r\n")
        own = OWN.removesuffix(b"X-Forwarded-Host: h\r\n")
        self.assertEqual(self.answer(OK), b"GET / HTTP/1.1\r\nHost:\r\n" + own + b"\r\n")
        self.assertEqual(hosts, [[""]])
        self.sidecar.assertQuiet()


#: The upstream's lines, from the status line on; what the client gets of them.
GOT_FIELDS: list[tuple[Any, ...]] = [
    ("Nothing is made up", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n",
     b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"),
    ("Order, repeats, spelling and bytes are kept",
     b"HTTP/1.1 200 OK\r\nset-cookie: b\r\nA: \x80\xe9 \xff\r\ncontent-LENGTH: 02\r\na:\r\n"
     b"Set-Cookie: a\r\nServer: x\r\nDate: y\r\nVia: 1.0 z\r\n",
     b"HTTP/1.1 200 OK\r\nset-cookie: b\r\nA: \x80\xe9 \xff\r\ncontent-LENGTH: 2\r\na:\r\n"
     b"Set-Cookie: a\r\nServer: x\r\nDate: y\r\nVia: 1.0 z\r\n"),
    ("Any status and reason are kept", b"HTTP/1.1 799 \xe9ven\tso \r\nContent-Length: 2\r\n",
     b"HTTP/1.1 799 \xe9ven\tso \r\nContent-Length: 2\r\n"),
    ("A reason that is missing stays so", b"HTTP/1.1 404\r\nContent-Length: 2\r\n",
     b"HTTP/1.1 404 \r\nContent-Length: 2\r\n"),
    ("Fields of the connection are cut",
     b"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=5\r\nContent-Length: 2\r\nProxy-Connection: x\r\n"
     b"TE: y\r\nConnection: Upgrade\r\nUpgrade: h2\r\nA: b\r\n",
     b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nA: b\r\n"),
    ("Fields that Connection names are cut",
     b"HTTP/1.1 200 OK\r\nA: 1\r\nConnection: a, Set-Cookie, content-length\r\nSet-Cookie: b\r\n"
     b"Content-Length: 2\r\nC: 3\r\nset-cookie: d\r\n",
     b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nC: 3\r\n"),
    ("The upstream's version is not the client's, but Via says it",
     b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n",
     b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"),
    ("The upstream's close is not the client's",
     b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n",
     b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"),
    ("426 says what to upgrade to",
     b"HTTP/1.1 426 Upgrade Required\r\nUpgrade: a/1, b\r\nConnection: upgrade\r\n"
     b"Content-Length: 2\r\n",
     b"HTTP/1.1 426 Upgrade Required\r\nContent-Length: 2\r\nConnection: upgrade\r\n"
     b"Upgrade: a/1, b\r\n"),
]  # fmt: skip


@eachRow(GOT_FIELDS)
class GotFields(HalvesCase):
    """Response fields pass unchanged, except the fields of the connection."""

    def check(self, sends: bytes, gets: bytes) -> None:
        """
        With and without Via, with a policy that holds the response, and for both versions
        of HTTP.
        """
        for via, cut, policies in itertools.product(
            (None, b"sitio"), (False, True), ((), (Looks(),))
        ):
            self.open(*policies, via=via).sends(GET)
            raw = sends + b"\r\nok"
            self.answer(*(bytewise(raw) if cut else [raw]))
            expected = gets
            if via:
                before, mark, after = gets.partition(b"Connection: upgrade")
                version = sends[5:8]
                expected = before + b"Via: %b sitio\r\n" % version + mark + after
            self.assertEqual(self.client.got(), expected + b"\r\nok")
            self.client.sends(b"GET / HTTP/1.0\r\n\r\n")
            self.answer(raw, number=-1)
            self.assertEqual(self.client.got(), expected + CLOSE + b"\r\nok")
            self.assertIs(self.client.state, CLOSED)
            self.sidecar.assertQuiet()


# --- Pipelining


def asked(number: int) -> tuple[bytes, bytes, bytes, bytes]:
    """A request of one of several kinds: its bytes, method, target and body."""
    target = b"/%d" % number
    body = b"body %d" % number
    method, fields, sent = (
        (b"GET", b"", b""),
        (b"POST", b"Content-Length: %d\r\n" % len(body), body),
        (b"PUT", CHUNKED, chunks(body[:3], body[3:]) + LAST),
        (b"HEAD", b"A: b\r\n", b""),
        (b"PATCH", CHUNKED,
         b"2;a=b\r\n" + body[:2] + b"\r\n" + chunks(body[2:]) + b"0\r\nA: b\r\n\r\n"),
        (b"FOO", b"Content-Length: 0\r\n", b""),
        (b"GET", b"A: by a policy\r\n", b""),
    )[number % 7]  # fmt: skip
    head = method + b" " + target + b" HTTP/1.1\r\nHost: h\r\n" + fields + b"\r\n"
    return head + sent, method, target, body if sent else b""


def answered(number: int) -> tuple[bytes, bool, bytes]:
    """
    The upstream's complete response to it; whether the connection closes then; what the
    client gets.
    """
    _, method, target, body = asked(number)
    content = b"reply to " + target + body
    length = b"Content-Length: %d" % len(content)
    if number % 7 == 6:
        return b"", False, said(b"203 Non-Authoritative Information", length) + content
    if number % 11 == 3:
        return said(b"204 No Content", length), False, said(b"204 No Content")
    if number % 5 == 1 and method != b"HEAD":
        return said(b"200 OK") + content, True, (
            said(b"200 OK", IN_CHUNKS) + chunks(content) + LAST
        )  # fmt: skip
    if number % 2:
        response = said(b"404 Not Found", IN_CHUNKS)
        if method == b"HEAD":
            return response, False, said(b"404 Not Found")
        return response + chunks(content[:3], content[3:]) + LAST, False, (
            said(b"404 Not Found", length) + content
        )  # fmt: skip
    response = said(b"200 OK", length)
    if method != b"HEAD":
        response += content
    return response, False, response


class Pipelined(HalvesCase):
    """Requests that arrive before the previous response are answered in order."""

    COUNT = 50

    def serve(self) -> None:
        """The upstream answers all complete requests."""
        while True:
            for peer in self.sidecar.upstreams:
                if peer.state is OPEN:
                    self.seen[peer] = self.seen.get(peer, b"") + peer.got()
                    if self.seen[peer] and self.responses(peer):
                        break
            else:
                return

    def responses(self, peer: Peer) -> bool:
        """Answer the next request; returns whether there was a complete one."""
        try:
            [request] = readRequests(self.seen[peer])
        except AssertionError:
            return False
        del self.seen[peer]
        number = int(request.path[1:])
        _, method, target, body = asked(number)
        self.assertEqual(
            (request.method, request.target, request.body),
            (method.decode(), target.decode(), body),
        )
        self.reached.append(number)
        response, closes, _ = answered(number)
        peer.sends(response)
        if closes:
            peer.closes()
        return True

    def pipeline(self, raw: bytes, size: int, serves: bool) -> bytes:
        """
        Send this in pieces; return what the client gets if answers come in between, or at
        the end.
        """

        @onRequest
        def answers(exchange: Any) -> Response | None:
            if exchange.request.headers.get("A") != "by a policy":
                return None
            return Response(203, body=b"reply to " + exchange.request.target.encode())

        self.seen: dict[Peer, bytes] = {}
        self.reached: list[int] = []
        self.open(answers)
        got = b""
        for start in range(0, len(raw), size):
            self.client.sends(raw[start : start + size])
            if serves:
                self.serve()
                got += self.client.got()
        self.serve()
        return got + self.client.got()

    def run_(self, raw: bytes, expected: bytes, reached: list[int], state: str) -> None:
        """Cut the bytes in several ways."""
        for size, serves in itertools.product((len(raw), 1, 7, 100, 1021), (False, True)):
            got = self.pipeline(raw, size, serves)
            self.assertEqual((size, serves, got), (size, serves, expected))
            self.assertEqual(self.reached, reached)
            self.assertIs(self.client.state, state)
            self.sidecar.assertQuiet()

    def test_mixed(self) -> None:
        """Methods, framings and policies take turns; cut anywhere, answered early or late."""
        numbers = range(self.COUNT)
        self.run_(
            b"".join(asked(each)[0] for each in numbers),
            b"".join(answered(each)[2] for each in numbers),
            [each for each in numbers if each % 7 != 6],
            OPEN,
        )

    def test_malformed(self) -> None:
        """
        Requests before a malformed one are answered.  The malformed one is refused, and
        those after it are dropped.
        """
        before = range(20)
        self.run_(
            b"".join(asked(each)[0] for each in before)
            + b"GET / HTTP/1.1\r\n\r\n"
            + b"".join(asked(each)[0] for each in range(20, 30)),
            b"".join(answered(each)[2] for each in before)
            + failure(b"400 Bad Request", b"The request is malformed: no Host.", CLOSE),
            [each for each in before if each % 7 != 6],
            HALF_CLOSED,
        )

    def test_close(self) -> None:
        """Requests after Connection: close are not begun (RFC 9112, section 9.6)."""
        before = range(20)
        last = b"DELETE /20 HTTP/1.1\r\nHost: h\r\nConnection: close\r\nA: by a policy\r\n\r\n"
        raw = b"".join(asked(each)[0] for each in before) + last
        expected = b"".join(answered(each)[2] for each in before) + (
            said(b"203 Non-Authoritative Information", b"Content-Length: 12", CLOSE[:-2])
            + b"reply to /20"
        )
        reached = [each for each in before if each % 7 != 6]
        self.run_(raw, expected, reached, CLOSED)
        self.assertEqual(
            self.pipeline(raw + b"".join(asked(each)[0] for each in range(21, 30)), 50, False),
            expected,
        )
        self.assertEqual(self.reached, reached)
        self.assertLingers()


# --- Upgrades

UPGRADE = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"
UPGRADING = UPGRADE[:-2] + OWN + b"\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"


class Upgrades(HalvesCase):
    """Both ends agree on another protocol (RFC 9110, section 7.8)."""

    def switch(self) -> Peer:
        """Open a tunnel; return the upstream's end."""
        self.open().sends(UPGRADE)
        self.assertEqual(self.answer(SWITCH), UPGRADING)
        self.assertEqual(self.client.got(), SWITCH)
        return self.sidecar.upstream()

    def test_heads(self) -> None:
        """Both heads pass with their fields, whole and byte by byte."""
        fields = b"Sec-WebSocket-Key: \xe9=\r\nsec-websocket-protocol: a\r\n"
        asks = (
            b"GET /a?b HTTP/1.1\r\nconnection: keep-alive, Upgrade\r\nHost: h\r\n"
            + b"Upgrade: WebSocket\r\n"
            + fields + b"\r\n"
        )  # fmt: skip
        says = (
            b"HTTP/1.1 101 Go\r\nupgrade: websocket\r\nA: b\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: c\r\n\r\n"
        )
        for first, second in ((asks, says), (bytewise(asks), bytewise(says))):
            self.open().sends(*(first if isinstance(first, list) else [first]))
            self.assertEqual(
                self.answer(*(second if isinstance(second, list) else [second])),
                b"GET /a?b HTTP/1.1\r\nHost: h\r\n" + fields
                + b"Connection: upgrade\r\nUpgrade: WebSocket\r\n" + OWN + b"\r\n",
            )  # fmt: skip
            self.assertEqual(
                self.client.got(),
                b"HTTP/1.1 101 Go\r\nA: b\r\nSec-WebSocket-Accept: c\r\n"
                b"Connection: upgrade\r\nUpgrade: websocket\r\n\r\n",
            )
            self.client.sends(GET, b"\0\n")
            self.assertEqual(self.answer(OK, b"\0"), GET + b"\0\n")
            self.assertEqual(self.client.got(), OK + b"\0")
            self.sidecar.assertQuiet()

    def test_bytesBehind(self) -> None:
        """Bytes right after either head belong to the tunnel and arrive after the 101."""
        self.open().sends(UPGRADE + b"early", b" bird")
        self.assertEqual(self.answer(CONTINUE + HINTS + SWITCH + b"hello", b" you"), UPGRADING)
        self.assertEqual(self.client.got(), CONTINUE + HINTS + SWITCH + b"hello you")
        self.assertEqual(self.sidecar.upstream().got(), b"early bird")
        self.sidecar.assertQuiet()

    def test_afterOthers(self) -> None:
        """A reused connection may become a tunnel, and is not reused after that."""
        self.open().sends(GET + UPGRADE + b"early")
        self.assertEqual(self.answer(OK), GOT)
        self.assertEqual(self.answer(SWITCH), UPGRADING)
        self.assertEqual(self.client.got(), OK + SWITCH)
        self.assertEqual(self.sidecar.upstream().got(), b"early")
        other = self.sidecar.connect()
        self.assertGoesOn(1, other)

    def test_clientEndsFirst(self) -> None:
        """The client's direction ends first; the upstream's stays open until it ends, too."""
        upstream = self.switch()
        self.client.sends(b"last words")
        self.client.halfCloses()
        self.assertEqual(upstream.got(), b"last words")
        self.assertIs(upstream.state, HALF_CLOSED)
        self.assertIs(self.client.state, OPEN)
        upstream.sends(b"and", b" mine")
        self.assertEqual(self.client.got(), b"and mine")
        upstream.halfCloses()
        self.assertEqual((self.client.state, upstream.state), (CLOSED, CLOSED))
        self.sidecar.assertQuiet()

    def test_upstreamEndsFirst(self) -> None:
        """The upstream's direction ends first; the client's stays open until it ends, too."""
        upstream = self.switch()
        upstream.sends(b"last words")
        upstream.halfCloses()
        self.assertEqual(self.client.got(), b"last words")
        self.assertIs(self.client.state, HALF_CLOSED)
        self.assertIs(upstream.state, OPEN)
        self.client.sends(b"and", b" mine")
        self.assertEqual(upstream.got(), b"and mine")
        self.client.halfCloses()
        self.assertEqual((self.client.state, upstream.state), (CLOSED, CLOSED))
        self.sidecar.assertQuiet()

    def test_endBehindTheHeads(self) -> None:
        """An end right after the 101 and its bytes arrives after them."""
        self.open().sends(UPGRADE)
        upstream = self.sidecar.upstream()
        upstream.sends(SWITCH + b"bye")
        upstream.halfCloses()
        self.assertEqual(self.client.got(), SWITCH + b"bye")
        self.assertIs(self.client.state, HALF_CLOSED)
        self.client.sends(b"bye")
        self.client.halfCloses()
        self.assertEqual(upstream.got(), UPGRADING + b"bye")
        self.assertEqual((self.client.state, upstream.state), (CLOSED, CLOSED))
        self.sidecar.assertQuiet()

    def test_resets(self) -> None:
        """A reset of either side ends both; bytes already sent to the other side still arrive."""
        upstream = self.switch()
        self.client.sends(b"last words")
        self.client.resets()
        self.assertEqual(upstream.got(), b"last words")
        self.assertIs(upstream.state, CLOSED)
        self.sidecar.assertQuiet()
        upstream = self.switch()
        upstream.sends(b"last words")
        upstream.resets()
        self.assertEqual(self.client.got(), b"last words")
        self.assertIs(self.client.state, CLOSED)
        self.sidecar.assertQuiet()

    def test_refused(self) -> None:
        """
        An ordinary response refuses the upgrade.  Both connections stay open, and
        pipelined requests are answered.
        """
        for status in (b"200 OK", b"403 Forbidden"):
            self.open().sends(UPGRADE + GET)
            response = said(status, b"Content-Length: 2") + b"no"
            self.assertEqual(self.answer(response), UPGRADING)
            self.assertEqual(self.client.got(), response)
            self.assertEqual(self.answer(OK), GOT)
            self.assertEqual(self.client.got(), OK)
            self.assertGoesOn()

    def test_required(self) -> None:
        """
        A 426 passes with its Upgrade field, and the connection stays open (RFC 9110,
        section 15.5.22).
        """
        self.open().sends(GET)
        response = said(
            b"426 Upgrade Required", b"Content-Length: 2", b"Connection: upgrade", b"Upgrade: a"
        )
        self.answer(response + b"no")
        self.assertEqual(self.client.got(), response + b"no")
        self.assertGoesOn()

    def test_withABody(self) -> None:
        """An upgrade request may have a body, which is not part of the tunnel."""
        head = UPGRADE.replace(b"GET", b"POST")[:-2] + LENGTH
        for pieces in ([head + b"\r\nhelloearly"], bytewise(head + b"\r\nhelloearly")):
            self.open().sends(*pieces)
            got = self.answer(SWITCH)
            self.assertEqual(
                got,
                POSTS + LENGTH + b"Connection: upgrade\r\nUpgrade: echo\r\n" + OWN + b"\r\nhello",
            )
            self.assertEqual(self.client.got(), SWITCH)
            self.assertEqual(self.sidecar.upstream().got(), b"early")
            self.sidecar.assertQuiet()


#: The client's request; what the upstream gets; its 101.
UNASKED: list[tuple[Any, ...]] = [
    ("Without an upgrade", GET, GOT, SWITCH),
    ("Without a protocol in the 101", UPGRADE, UPGRADING, said(b"101 Switching Protocols")),
    ("With the upgrade unnamed in Connection", GET[:-2] + b"Upgrade: echo\r\n\r\n", GOT, SWITCH),
    ("With HTTP/2", GET[:-2] + b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
     b"Connection: Upgrade, HTTP2-Settings\r\n\r\n", GOT,
     SWITCH.replace(b"echo", b"h2c")),
    ("With HTTP/2 among others", UPGRADE.replace(b"echo", b"echo, H2C"), GOT, SWITCH),
]  # fmt: skip


@eachRow(UNASKED)
class Unasked(HalvesCase):
    """A 101 that the client did not ask for is refused."""

    def check(self, raw: bytes, gets: bytes, response: bytes) -> None:
        """The client gets 502 and none of the new bytes; its connection stays open."""
        for pieces in ([response + b"nasty"], bytewise(response + b"nasty")):
            self.open().sends(raw)
            self.assertEqual(self.answer(*pieces), gets)
            self.assertEqual(self.client.got(), MALFORMED)
            self.assertIs(self.sidecar.upstream().state, RESET)
            self.assertGoesOn(1)

    def test_old(self) -> None:
        """HTTP/1.0 has no upgrade."""
        self.open().sends(UPGRADE.replace(b"1.1", b"1.0"))
        self.assertEqual(self.answer(SWITCH), GOT)
        self.assertEqual(
            self.client.got(), MALFORMED.replace(b"\r\n\r\n", b"\r\n" + CLOSE + b"\r\n")
        )
        self.assertIs(self.client.state, CLOSED)
        self.sidecar.assertQuiet()

    def test_withinTheBody(self) -> None:
        """
        A 101 before the end of the request's body is refused: the rest of the body would
        be lost.
        """
        self.open().sends(UPGRADE.replace(b"GET", b"POST")[:-2] + LENGTH + b"\r\nhel")
        self.answer(SWITCH)
        self.assertEqual(
            self.client.got(), MALFORMED.replace(b"\r\n\r\n", b"\r\n" + CLOSE + b"\r\n")
        )
        self.assertIs(self.sidecar.upstream().state, RESET)
        self.assertLingers()
