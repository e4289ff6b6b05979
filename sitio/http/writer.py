"""
Writers of messages: L{RequestWriter} and L{ResponseWriter}.

The counterparts of the readers in C{codec}: messages go in, bytes come out.  A writer
serves one connection, one message after the other, and remembers how the body of the
message at hand is framed.  L{framingFor} decides that for responses.
"""

from __future__ import annotations

from sitio.http import codec
from sitio.http.head import Fields
from sitio.http.message import Request, Response

#: No body follows the head (RFC 9112, section 6.3, items 1 and 2).
NO_BODY = "no body"
#: The head announces the number of bytes (section 6.2).
LENGTH = "length"
#: The body comes in chunks (section 7.1).
CHUNKED = "chunks"
#: The body ends with the connection, which only HTTP/1.0 needs (section 6.3, item 8).
UNTIL_CLOSE = "until close"


def framingFor(
    method: str,
    status: int,
    isHTTP11: bool,
    announced: int | None,
    whole: int | None,
    isFiltered: bool = False,
) -> tuple[str, int | None]:
    """
    The framing of a response, and the length that its head announces, if it does.

    @param method: of the request; the response to HEAD has no body.
    @param isHTTP11: whether the client understands chunks.
    @param announced: bytes of the body as the upstream announced them, if it did.
    @param whole: bytes of the body if all of it is here; L{None} while it streams.
    @param isFiltered: whether a filter may change the length of the body.
    """
    if method == "HEAD" or status == 304 or status == 204:
        # RFC 9110, section 8.6: the length is that of the body which is left out.
        if status == 204 or isFiltered:
            return NO_BODY, None
        return NO_BODY, whole or announced
    if whole is not None:
        return LENGTH, whole
    if announced is not None and not isFiltered:
        return LENGTH, announced
    return (CHUNKED if isHTTP11 else UNTIL_CLOSE), None


class RequestWriter:
    """
    Writes requests for an upstream.

    @ivar hasEnded: whether the request at hand has been written to its end.
    """

    __slots__ = ("_isChunked", "hasEnded")

    def __init__(self) -> None:
        self.hasEnded = True
        self._isChunked = False

    def begin(self, request: Request, body: bytes, ended: bool, extra: bytes) -> list[bytes]:
        """
        The head of a request, and what has come of its body.

        @param ended: whether that is all of the body.
        @param extra: lines to add to the head.

        @return: pieces to write in order: a long body is not copied.
        """
        self.hasEnded = ended
        length = request.length
        if ended and (body or length is not None):
            # No body needs no announcement, except where the client made one.
            length = len(body)
        self._isChunked = not ended and length is None
        head = codec.requestHead(request, length, chunked=self._isChunked, extra=extra)
        if body and self._isChunked:
            body = codec.chunk(body)
        return [head + body] if len(body) < codec.LONG_BODY_BYTES else [head, body]

    def body(self, data: bytes) -> bytes:
        """More of the body."""
        return codec.chunk(data) if self._isChunked else data

    def end(self, trailers: Fields) -> bytes:
        """What follows the body; C{b""} for most."""
        self.hasEnded = True
        return codec.lastChunk(trailers) if self._isChunked else b""


class ResponseWriter:
    """
    Writes responses for a client.

    @ivar framing: how the body of the response at hand is framed.
    """

    __slots__ = ("_isHTTP11", "_method", "framing")

    def __init__(self) -> None:
        self.framing = NO_BODY
        self._method = ""
        self._isHTTP11 = True

    def expect(self, request: Request) -> None:
        """
        The next response answers this request.

        Its method and version are noted here, as a policy may make it another request
        for the upstream.
        """
        self._method = request.line.method
        self._isHTTP11 = request.version == "1.1"

    def interim(self, response: Response) -> bytes:
        """An interim response, which HTTP/1.0 does not know (RFC 9110, section 15.2)."""
        return codec.responseHead(response, None) if self._isHTTP11 else b""

    def begin(
        self, response: Response, body: bytes, ended: bool, isLast: bool
    ) -> tuple[list[bytes], bool]:
        """
        The head of a response, and all or the first of its body.

        @param ended: whether that is all of the body.
        @param isLast: whether the connection closes after this response.

        @return: pieces to write in order, as a long body is not copied; and whether the
            connection has to close after this response.
        """
        size = len(body)
        filters = response.filters
        isFiltered = filters is not None and not all(keepsLength for _, keepsLength in filters)
        self.framing, length = framingFor(
            self._method,
            response.status,
            self._isHTTP11,
            response.length,
            size if ended else None,
            isFiltered,
        )
        isChunked = self.framing is CHUNKED
        if self.framing is NO_BODY:
            body = b""
        elif isChunked and body:
            body = codec.chunk(body)
        if isLast or self.framing is UNTIL_CLOSE:
            isLast = True
            extra = b"Connection: close\r\n"
        else:
            extra = b"" if self._isHTTP11 else b"Connection: keep-alive\r\n"
        head = codec.responseHead(response, length, chunked=isChunked, extra=extra)
        return [head + body] if len(body) < codec.LONG_BODY_BYTES else [head, body], isLast

    def body(self, data: bytes) -> bytes:
        """More of the body; C{b""} where the response has none."""
        if self.framing is CHUNKED:
            return codec.chunk(data)
        return b"" if self.framing is NO_BODY else data

    def end(self, trailers: Fields) -> bytes:
        """What follows the body; C{b""} for most."""
        return codec.lastChunk(trailers) if self.framing is CHUNKED else b""
