"""
Frames messages for their receiver: L{framingFor} for a client, and L{RequestWriter} for
an upstream.
"""

from __future__ import annotations

from collections.abc import Callable

from sitio.http import codec
from sitio.http.head import Fields
from sitio.http.message import UNKNOWN_LENGTH, Request

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
    @param announced: bytes of the body as the upstream announced them, if it did; or
        L{UNKNOWN_LENGTH}.
    @param whole: bytes of the body if all of it is here; L{None} while it streams.
    @param isFiltered: whether a filter may change the length of the body.
    """
    if method == "HEAD" or status == 304 or status == 204:
        # RFC 9110, section 8.6: the length is that of the body which is left out.
        if status == 204 or isFiltered or announced == UNKNOWN_LENGTH:
            return NO_BODY, None
        return NO_BODY, whole or announced
    if whole is not None:
        return LENGTH, whole
    if announced is not None and not isFiltered:
        return LENGTH, announced
    return (CHUNKED if isHTTP11 else UNTIL_CLOSE), None


class RequestWriter:
    """
    Writes requests for an upstream, one after the other: requests go in, bytes come out.

    @ivar hasEnded: whether the request at hand has been written to its end.
    """

    __slots__ = ("_isAbandoned", "_isChunked", "hasEnded")

    def __init__(self) -> None:
        self.hasEnded = True
        self._isAbandoned = False
        self._isChunked = False

    def begin(
        self, request: Request, body: bytes, ended: bool, extra: bytes
    ) -> bytes | tuple[bytes, bytes]:
        """
        Write the head of a request, and the part of its body that has arrived.

        @param ended: whether C{body} is the whole body.
        @param extra: lines to add to the head.

        @return: head and body joined, or as a pair, as a long body is not copied.
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
        return head + body if len(body) < codec.LONG_BODY_BYTES else (head, body)

    def body(self, data: bytes) -> bytes:
        """More of the body."""
        if self._isAbandoned:
            return b""
        return codec.chunk(data) if self._isChunked else data

    def end(self, trailers: Fields) -> bytes:
        """What follows the body; C{b""} for most."""
        if self._isAbandoned:
            return b""
        self.hasEnded = True
        return codec.lastChunk(trailers) if self._isChunked else b""

    def abandon(self) -> None:
        """
        The upstream takes no more of this request: drop the rest.

        The request never ends, so the connection can't be used again.
        """
        self.hasEnded = False
        self._isAbandoned = True


#: Makes the writer of a connection.
MakeWriter = Callable[[], RequestWriter]
