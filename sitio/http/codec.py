"""
Bytes to messages and back: the heads of requests and responses, read and written.

Pure: nothing here knows a transport, a clock or another message than the one
at hand.  L{framing<sitio.http.framing>} states the contract of a reader, and reads
bodies; L{heads<sitio.http.head>} reads heads.

RFC 9112 is meant where a section stands without a name.
"""

from __future__ import annotations

from collections.abc import Iterable

from sitio.errors import BadMessage, BadResponse, BodyTooLong, Reached, UpstreamLost
from sitio.http.framing import ENDED, FIRST, HEAD, LENGTH, NONE, TUNNEL, UNTIL_CLOSE, Limits, Reader
from sitio.http.grammar import isValue
from sitio.http.head import RequestHead, ResponseHead, requestHeads, responseHeads
from sitio.http.message import Request, Response, reasonFor

#: Bytes of a body that are not put behind their head but written beside it: copying
#: them would cost more than a second piece.
LONG = 16 * 1024

#: Empty lines tolerated before a request line; one is asked for (section 2.2).
MAX_EMPTY_LINES = 4


class RequestReader(Reader):
    """
    Reads what a client sends.

    Raises L{BadMessage} and its kin, which are the client's fault.

    @ivar host: the Host of the request at hand, or L{None} for one of HTTP/1.0 without.
    @ivar forwarded: whether it came with X-Forwarded fields.
    """

    # Not the head itself, which an idle connection would hold on to.
    __slots__ = ("forwarded", "host")

    def __init__(self, limits: Limits) -> None:
        Reader.__init__(self, limits)
        self.host: bytes | None = None
        self.forwarded = False

    def nextHead(self) -> Request | None:
        """
        The head of the next request, if all of it has come.

        @raise HeadTooLong: more bytes or fields than the limit.
        @raise BodyTooLong: the announced length is beyond the limit.
        @raise BadVersion: a version that isn't spoken here.
        @raise MethodRefused: CONNECT.
        @raise BadMessage: anything else that is malformed or ambiguous.
        """
        if not self.data:
            return None
        self.state = HEAD
        data = self._takeHead(self._emptyLines() if self.data[0] in b"\r\n" else 0)
        if data is None:
            return None
        head: RequestHead = requestHeads[data]
        self.host = head.host
        self.forwarded = head.forwarded
        self.keepAlive = head.keepAlive
        self.trailers = NONE
        body: bytes | None = b""
        self._frame(head)
        if self.state is not ENDED:
            body = None
            limit = self._limits.body
            if limit is not None and head.length is not None and head.length > limit:
                raise BodyTooLong(f"a body of more than {limit} bytes")
        return Request.fromHead(
            head.line, head.lines, head.version, body, head.length, head.upgrade
        )

    def _emptyLines(self) -> int:
        held = self.data
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
    Reads what an upstream sends.

    Raises L{BadResponse}, and L{UpstreamLost} for a response cut short: the
    upstream's fault.
    """

    __slots__ = ("_method",)

    def __init__(self, limits: Limits) -> None:
        Reader.__init__(self, limits)
        self.expect("GET")

    def expect(self, method: str) -> None:
        """A response to such a request comes next; call it before each, as it begins one."""
        self._method = method
        # A connection lost from here on is lost before its response, not after the last one.
        self.state = FIRST

    def nextHead(self) -> Response | None:
        """
        The head of the next response, interim ones (1xx) included, if all of it has come.

        After an interim one C{state} is still L{HEAD}; after 101 it is L{TUNNEL}.
        """
        if not self.data:
            return None
        self.state = HEAD
        try:
            data = self._takeHead()
            if data is None:
                # A peer that speaks something else is told apart at once.
                if not b"HTTP/1."[: len(self.data)] == self.data[:7]:
                    raise BadMessage("no status line")
                return None
            head: ResponseHead = responseHeads[data]
        except BadMessage as error:
            raise BadResponse(f"the response has {error.detail}", Reached.ANSWERED) from error
        self.keepAlive = head.keepAlive
        self.trailers = NONE
        status = head.status
        if status < 200:
            self.state = TUNNEL if status == 101 else HEAD
        elif head.bodiless or self._method == "HEAD":
            self.state = ENDED
        elif head.length is None and not head.chunked:
            self.state = UNTIL_CLOSE
            self.keepAlive = False
        else:
            self._frame(head)
        return Response.fromHead(
            status, head.reason, head.lines, head.length, head.upgrade, head.version
        )

    def nextBody(self) -> bytes:
        """As L{Reader.nextBody}; raises L{BadResponse}."""
        if self.state is LENGTH and len(self.data) == self._left:
            # All of it, as it mostly comes.
            body, self.data = self.data, b""
            self.state = ENDED
            return bytes(body)
        try:
            return Reader.nextBody(self)
        except BadMessage as error:
            raise BadResponse(f"the response has {error.detail}", Reached.ANSWERED) from error

    def connectionLost(self) -> None:
        """
        The upstream sends no more.  A body that ends so has L{ENDED}.

        @raise UpstreamLost: the response isn't whole.
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
    (status, reasonFor(status)): b"HTTP/1.1 %d %b\r\n" % (status, reasonFor(status).encode())
    for status in range(100, 600)
    if reasonFor(status)
}


def requestHead(
    request: Request, length: int | None, *, chunked: bool = False, extra: bytes = b""
) -> bytes:
    """
    The head of a request as sent upstream, in HTTP/1.1 whatever the client speaks.

    @param length: bytes of the body to announce; L{None} for no announcement.
    @param chunked: announce chunks instead.
    @param extra: whole lines to be added.
    """
    upgrade = request.upgrade
    if chunked or upgrade is not None:
        extra = _framing(chunked, upgrade) + extra
    return b"%b%b%b\r\n" % (request.line.raw, request.encoded(length), extra)


def responseHead(
    response: Response, length: int | None, *, chunked: bool = False, extra: bytes = b""
) -> bytes:
    """The head of a response as sent to the client; parameters as L{requestHead}'s."""
    line = _STATUS_LINES.get((response.status, response.reason))
    if line is None:
        reason = response.reason.encode("latin-1", "replace")
        # A policy may have set one that can't be sent; it has no meaning (section 4).
        if not isValue(reason.decode("latin-1")):
            reason = b""
        line = b"HTTP/1.1 %d %b\r\n" % (response.status, reason)
    # 426 names what to upgrade to (RFC 9110, section 15.5.22).
    upgrade = response.upgrade if response.status in (101, 426) else None
    if chunked or upgrade is not None:
        extra = _framing(chunked, upgrade) + extra
    return b"%b%b%b\r\n" % (line, response.encoded(length), extra)


def _framing(chunked: bool, upgrade: bytes | None) -> bytes:
    lines = b"Transfer-Encoding: chunked\r\n" if chunked else b""
    if upgrade is not None:
        lines += b"Connection: upgrade\r\nUpgrade: %b\r\n" % upgrade
    return lines


def chunk(data: bytes) -> bytes:
    """One chunk (section 7.1).  Empty data is none: a chunk of size 0 would end the body."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


def lastChunk(trailers: Iterable[tuple[bytes, bytes]] = ()) -> bytes:
    """The end of a chunked body, with its trailers."""
    return b"0\r\n" + b"".join(b"%b: %b\r\n" % each for each in trailers) + b"\r\n"
