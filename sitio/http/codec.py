"""
Reads and writes messages: L{RequestReader}, L{ResponseReader} and functions that write.

How a reader is used is said in L{framing<sitio.http.framing>}.

A section without the name of an RFC is one of RFC 9112.
"""

from __future__ import annotations

from collections.abc import Iterable

from sitio.errors import BadMessage, BadResponse, BodyTooLong, InterimTooLong, Reached, UpstreamLost
from sitio.http.framing import (
    ENDED,
    FIRST,
    HEAD,
    LENGTH,
    NO_TRAILERS,
    TUNNEL,
    UNTIL_CLOSE,
    Reader,
)
from sitio.http.grammar import isValue
from sitio.http.head import originForm, parseRequestLine, readFields, statusLines
from sitio.http.limits import Limits
from sitio.http.lines import keyOf
from sitio.http.message import CloseDelimitedResponse, Request, RequestLine, Response, reasonFor

#: Bytes of a body from which head and body are written as two pieces: to join them would
#: cost more than a second piece.
LONG_BODY_BYTES = 16 * 1024

_EXPECT = keyOf(b"expect")
_LENGTH = keyOf(b"content-length")

#: Empty lines that are ignored before a request line; section 2.2 asks for one.
MAX_EMPTY_LINES = 4


class RequestReader(Reader):
    """
    Reads the requests of a client.

    L{BadMessage} and its subclasses are the client's fault.

    @ivar host: the value of Host, or L{None}.
    @ivar forwarded: whether there are claims of proxies; L{MARKED<sitio.http.head.MARKED>} if
        one has left its mark.
    @ivar refused: the request whose announced body is too long: nothing else is wrong with it.
        Else L{None}.
    """

    __slots__ = ("forwarded", "host", "refused")

    def __init__(self, limits: Limits) -> None:
        Reader.__init__(self, limits)
        self.host: bytes | None = None
        self.forwarded: bool | str = False
        self.refused: Request | None = None

    def nextHead(self) -> Request | None:
        """
        Take the head of the next request.

        @return: L{None} if not all of it was received.

        @raise HeadTooLong: more bytes or fields than the limit.
        @raise BodyTooLong: the announced length is over the limit; L{refused} has the head.
        @raise BadVersion: a version other than HTTP/1.0 and HTTP/1.1.
        @raise MethodRefused: CONNECT.
        @raise BadMessage: any other malformed or ambiguous head.
        """
        if not self.received:
            return None
        self.state = HEAD
        head = self._takeHead(self._emptyLines() if self.received[0] in b"\r\n" else 0)
        if head is None:
            return None
        first, method, target, isHTTP11 = parseRequestLine(head)
        lines = head[len(first) :] + b"\r\n"
        headers, host, length, chunked, self.keepAlive, upgrade, self.forwarded = readFields(
            lines, isHTTP11, self._limits, True
        )
        self.host, self.length, self.chunked = host, length, chunked
        if isHTTP11:
            if host is None:
                raise BadMessage("no Host")
            line = RequestLine(method, target, first)
        else:
            # RFC 9110, section 10.1.1: it means nothing in HTTP/1.0.
            headers.replace(_EXPECT, b"")
            line = RequestLine(method, target)
        if target[0] != "/":
            line = RequestLine(method, originForm(method, target, host))
        self.trailers = NO_TRAILERS
        if not length and not chunked:
            self.state = ENDED
            return Request.fromHead(line, headers, isHTTP11, b"", length, upgrade)
        self._startBody()
        request = Request.fromHead(line, headers, isHTTP11, None, length, upgrade)
        limit = self._limits.body
        if limit is not None and length is not None and length > limit:
            self.refused = request
            raise BodyTooLong(f"a body of more than {limit} bytes")
        return request

    def _emptyLines(self) -> int:
        """How many bytes of empty lines stand before the request line."""
        held = self.received
        start = 0
        while held.startswith(b"\r\n", start):
            start += 2
        rest = held[start : start + 1]
        if (
            start > 2 * MAX_EMPTY_LINES
            or rest == b"\n"
            or (rest == b"\r" and len(held) > start + 1)
        ):
            raise BadMessage("an empty line in place of a request")
        return start


class ResponseReader(Reader):
    """
    Reads the responses of an upstream.

    L{BadResponse}, and L{UpstreamLost} for an incomplete response, are the upstream's fault.
    """

    __slots__ = ("_interim", "_method")

    def __init__(self, limits: Limits) -> None:
        Reader.__init__(self, limits)
        self.expect("GET")

    def expect(self, method: str) -> None:
        """Expect the response to a request with this method; call it before each response."""
        self._method = method
        self._interim = 0
        # If the connection is lost now, it is lost before this response.
        self.state = FIRST

    def nextHead(self) -> Response | None:
        """
        Take the head of the next response, which may be an interim one (1xx).

        After an interim response C{state} is still L{HEAD}; after 101 it is L{TUNNEL}.

        @return: L{None} if not all of it was received.

        @raise BadResponse: a head over the limits, malformed or ambiguous.
        @raise InterimTooLong: interim responses over the limit.
        """
        if not self.received:
            return None
        self.state = HEAD
        try:
            head = self._takeHead()
            if head is None:
                # Refuse at once an upstream that does not speak HTTP/1.
                if not b"HTTP/1."[: len(self.received)] == self.received[:7]:
                    raise BadMessage("no status line")
                return None
            line = head.partition(b"\r\n")[0]
            status, reason, isHTTP11 = statusLines[line]
            headers, _, length, chunked, self.keepAlive, upgrade, _ = readFields(
                head[len(line) :] + b"\r\n", isHTTP11, self._limits
            )
        except BadMessage as error:
            raise BadResponse(f"the response has {error.detail}", Reached.ANSWERED) from error
        self.trailers = NO_TRAILERS
        if length is not None and (status < 200 or status == 204):
            # RFC 9110, section 8.6: these responses must not have a Content-Length.
            headers.replace(_LENGTH, b"")
            headers.length = length = None
        self.length, self.chunked = length, chunked
        if status < 200:
            self._interim += len(head) + 4
            if self._interim > self._limits.interim:
                raise InterimTooLong(
                    f"interim responses of more than {self._limits.interim} bytes", Reached.ANSWERED
                )
            self.state = TUNNEL if status == 101 else HEAD
        elif status == 204 or status == 304 or self._method == "HEAD":
            # Section 6.3, rule 1.
            self.state = ENDED
        elif length is None and not chunked:
            self.state = UNTIL_CLOSE
            self.keepAlive = False
            return CloseDelimitedResponse.fromHead(status, reason, headers, None, upgrade, isHTTP11)
        else:
            self._startBody()
        return Response.fromHead(status, reason, headers, length, upgrade, isHTTP11)

    def nextBody(self) -> bytes:
        """As L{Reader.nextBody}, but raises L{BadResponse}."""
        if self.state is LENGTH and len(self.received) == self._left:
            # The usual case: exactly the rest of the body.
            body, self.received = self.received, b""
            self.state = ENDED
            return bytes(body)
        try:
            return Reader.nextBody(self)
        except BadMessage as error:
            raise BadResponse(f"the response has {error.detail}", Reached.ANSWERED) from error

    def connectionLost(self) -> None:
        """
        The upstream closed the connection.  A body without other framing has L{ENDED} now.

        @raise UpstreamLost: the response is incomplete.
        """
        if self.state is UNTIL_CLOSE:
            self.state = ENDED
        elif self.state is not ENDED:
            begun = self.state is not FIRST or self.held
            raise UpstreamLost(
                "the upstream closed within its response"
                if begun
                else "the upstream closed without a response",
                Reached.ANSWERED if begun else Reached.SENT,
            )


# --- Writing


_STATUS_LINES = {
    (status, reasonFor(status)): b"HTTP/1.1 %d %b" % (status, reasonFor(status).encode())
    for status in range(100, 600)
    if reasonFor(status)
}


def requestHead(
    request: Request, length: int | None, *, chunked: bool = False, extra: bytes = b""
) -> bytes:
    """
    The head of a request for the upstream, in HTTP/1.1 whatever the client's version is.

    @param length: the value of Content-Length; L{None} for no such line.
    @param chunked: whether to announce chunks.
    @param extra: lines to add, with their line ends.
    """
    upgrade = request.upgrade
    if chunked or upgrade is not None:
        extra = _framing(chunked, upgrade) + extra
    return b"".join((request.line.raw, request.fields.encoded(length), extra, b"\r\n"))


def responseHead(
    response: Response, length: int | None, *, chunked: bool = False, extra: bytes = b""
) -> bytes:
    """The head of a response as sent to the client; parameters as L{requestHead}'s."""
    line = _STATUS_LINES.get((response.status, response.reason))
    if line is None:
        reason = response.reason.encode("latin-1", "replace")
        # A reason that can't be sent is left out: it has no meaning (section 4).
        if not isValue(reason.decode("latin-1")):
            reason = b""
        line = b"HTTP/1.1 %d %b" % (response.status, reason)
    # A 426 names the protocols to upgrade to (RFC 9110, section 15.5.22).
    upgrade = response.upgrade if response.status in (101, 426) else None
    if chunked or upgrade is not None:
        extra = _framing(chunked, upgrade) + extra
    return b"".join((line, response.fields.encoded(length), extra, b"\r\n"))


def _framing(chunked: bool, upgrade: bytes | None) -> bytes:
    lines = b"Transfer-Encoding: chunked\r\n" if chunked else b""
    if upgrade is not None:
        lines += b"Connection: upgrade\r\nUpgrade: %b\r\n" % upgrade
    return lines


def chunk(data: bytes) -> bytes:
    """
    One chunk (section 7.1).

    Empty data is not a chunk but C{b""}, as a chunk of size 0 would end the body.
    """
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


def lastChunk(trailers: Iterable[tuple[bytes, bytes]] = ()) -> bytes:
    """The end of a chunked body, with its trailers."""
    return b"0\r\n" + b"".join(b"%b: %b\r\n" % each for each in trailers) + b"\r\n"
