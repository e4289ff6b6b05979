"""
Finds where heads and bodies end: L{Reader}.

L{Reader} is the part that readers of requests and of responses share
(L{codec<sitio.http.codec>} has the rest).  A reader has no transport and no clock:

  - L{receive<Reader.receive>} stores bytes;
  - C{nextHead} returns a head, or L{None} if more bytes are needed;
  - L{nextBody<Reader.nextBody>} returns the part of the body that was received;
  - once C{state} is L{ENDED}, bytes of the next message are left alone until C{nextHead} is
    called again.

A malformed or ambiguous message raises an exception, and the reader can't be used any more.

Heads are parsed in L{head<sitio.http.head>}.  The ends of messages are found here (see
docs/decisions/0002-framing.md), so that

  - one message can be taken without parsing the next one,
  - bytes and fields of a head are limited before it is parsed,
  - a body is forwarded as received, without a copy.

A section without the name of an RFC is one of RFC 9112.
"""

from __future__ import annotations

import re

from sitio.errors import BadMessage, BodyTooLong, HeadTooLong
from sitio.http.head import SPECIAL_FIELDS, isFolded, readFields
from sitio.http.limits import Limits
from sitio.http.lines import Pairs, pairsOf
from sitio.http.overrides import NEVER_TRAILERS, foldedName

#: The trailers of a message without trailers.  Shared: never change it.
NO_TRAILERS: Pairs = []

# States of a reader: what it expects next.
FIRST = "the first byte of a response"
HEAD = "head"
LENGTH = "the rest of a body of known length"
CHUNK_SIZE = "the size of a chunk"
CHUNK_DATA = "the rest of a chunk"
CHUNK_END = "the line end after a chunk"
TRAILERS = "trailers"
UNTIL_CLOSE = "a body that ends with the connection"
ENDED = "nothing: the message is complete"
TUNNEL = "bytes of another protocol"

_CHUNKED = (CHUNK_SIZE, CHUNK_DATA, CHUNK_END, TRAILERS)

#: Bytes of the line with the size and the extensions of a chunk.  Extensions are not in use,
#: and unbounded ones are an attack (section 7.1.1).
MAX_CHUNK_LINE_BYTES = 256

#: Chunks of a body that are taken at once, so that a body of tiny chunks does not keep the
#: caller busy: it takes the rest in a later turn of the reactor.  About 0.5 ms of work.
MAX_CHUNKS = 256

_bareLineFeed = re.compile(rb"(?<!\r)\n").search
# Section 7.1.  15 digits hold any size; more might overflow in another implementation.
_chunkLine = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?\r\n").match
_chunkStart = re.compile(rb"[0-9A-Fa-f]{1,15}[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?\r?").fullmatch


class Reader:
    """
    Stores what was received, and takes heads, bodies and trailers from it.

    @ivar length: the Content-Length of the message, or L{None}.
    @ivar chunked: whether its body comes in chunks.
    @ivar keepAlive: whether the connection may be used again after it, unless its end is the
        end of the body.
    @ivar received: bytes that were received and not taken.
    @ivar state: what it expects next; one of the states above.
    @ivar trailers: those of the message, once it has L{ENDED}.
    @ivar isCut: whether L{nextBody} has left something that was received.
    """

    __slots__ = (
        "_bodyBytes",
        "_left",
        "_limits",
        "_searched",
        "chunked",
        "isCut",
        "keepAlive",
        "length",
        "received",
        "state",
        "trailers",
    )

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.length: int | None = None
        self.chunked = self.keepAlive = False
        self.received: bytes | bytearray = b""
        #: Bytes of a partial head or of trailers that have no end in them.
        self._searched = 0
        #: Bytes to come of a body of known length, or of a chunk.
        self._left = 0
        #: Bytes of a chunked body so far.
        self._bodyBytes = 0
        self.state = HEAD
        self.isCut = False
        self.trailers = NO_TRAILERS

    @property
    def held(self) -> int:
        """How many bytes were received and not taken."""
        return len(self.received)

    @property
    def left(self) -> int | None:
        """How many bytes of the body are still to come; L{None} if that is not known."""
        return self._left if self.state is LENGTH else None

    def receive(self, data: bytes) -> None:
        """Store bytes that were received."""
        if not self.received:
            self.received = data
        else:
            if isinstance(self.received, bytes):
                self.received = bytearray(self.received)
            self.received += data

    def skip(self, size: int) -> None:
        """Count bytes of a body of known length that were moved without this reader."""
        self._left -= size
        if not self._left:
            self.state = ENDED

    def takeRest(self) -> bytes:
        """Take all bytes: the first ones of a tunnel."""
        rest, self.received = bytes(self.received), b""
        return rest

    def _takeHead(self, start: int = 0) -> bytes | None:
        """
        Take the next head, without its last two line ends.

        @param start: bytes to drop before it.

        @return: L{None} if not all of it was received.
        """
        held = self.received
        limit = self._limits.head
        if self._searched or start or not isinstance(held, bytes):
            # No byte is searched twice: a head that comes byte by byte would cost seconds.
            # Three bytes are, as the end may have been received in two pieces.
            if held.find(b"\r\n\r\n", max(start, self._searched - 3)) < 0:
                self._checkPartialHead(start)
                return None
            held = bytes(held[start:])
            limit -= start
            self._searched = 0
        head, end, rest = held.partition(b"\r\n\r\n")
        if not end:
            self._checkPartialHead(start)
            return None
        if len(head) + 4 > limit:
            raise HeadTooLong(f"a head of more than {self._limits.head} bytes")
        self.received = rest
        return head

    def _checkPartialHead(self, start: int) -> None:
        """Raise if what was received can't become a head any more."""
        held = self.received
        if len(held) > self._limits.head:
            raise HeadTooLong(f"a head of more than {self._limits.head} bytes")
        if _bareLineFeed(held, max(start, self._searched - 3)):
            raise BadMessage("a line that ends with LF alone")
        self._searched = len(held)

    def _startBody(self) -> None:
        """Expect a body with the framing that the head announces (section 6.3)."""
        if self.chunked:
            self.state = CHUNK_SIZE
            self._bodyBytes = 0
        elif self.length:
            self.state = LENGTH
            self._left = self.length
        else:
            self.state = ENDED

    def _countBodyBytes(self, size: int) -> None:
        self._bodyBytes += size
        if self._limits.body is not None and self._bodyBytes > self._limits.body:
            raise BodyTooLong(f"a body of more than {self._limits.body} bytes")

    def nextBody(self) -> bytes:
        """
        Take what was received of the body; C{b""} if it is nothing.

        Of a chunked body at most L{MAX_CHUNKS} are taken, and C{isCut} is set if more were
        received: call it again later.

        @raise BadMessage: a malformed chunk or trailer.
        @raise HeadTooLong: trailers over the limits.
        @raise BodyTooLong: a chunked body over the limit.
        """
        state = self.state
        held = self.received
        if state is ENDED or not held:
            return b""
        if state is LENGTH:
            size = len(held)
            if size <= self._left:
                self._left -= size
                self.received = b""
                if not self._left:
                    self.state = ENDED
                return bytes(held)
            piece = bytes(held[: self._left])
            self.received = held[self._left :]
            self._left = 0
            self.state = ENDED
            return piece
        if state is UNTIL_CLOSE:
            self.received = b""
            return bytes(held)
        if state in _CHUNKED:
            return self._nextChunks(bytes(held))
        return b""

    def _nextChunks(self, held: bytes) -> bytes:
        """Take chunks and trailers as far as they were received (section 7.1)."""
        pieces: list[bytes] = []
        at = 0
        self.isCut = False
        while True:
            if self.state is CHUNK_SIZE:
                line = _chunkLine(held, at, at + MAX_CHUNK_LINE_BYTES)
                if line is None:
                    rest = held[at : at + MAX_CHUNK_LINE_BYTES]
                    if len(rest) == MAX_CHUNK_LINE_BYTES or (rest and not _chunkStart(rest)):
                        raise BadMessage("a malformed chunk size")
                    break
                if len(pieces) == MAX_CHUNKS:
                    self.isCut = True
                    break
                at = line.end()
                self._left = int(line[1], 16)
                self.state = CHUNK_DATA if self._left else TRAILERS
                if self._left:
                    self._countBodyBytes(self._left)
            elif self.state is CHUNK_DATA:
                piece = held[at : at + self._left]
                if not piece:
                    break
                pieces.append(piece)
                at += len(piece)
                self._left -= len(piece)
                if self._left:
                    break
                self.state = CHUNK_END
            elif self.state is CHUNK_END:
                end = held[at : at + 2]
                if not b"\r\n".startswith(end):
                    raise BadMessage("a chunk that is longer than its size")
                if len(end) < 2:
                    break
                at += 2
                self.state = CHUNK_SIZE
            else:
                at = self._nextTrailers(held, at)
                break
        self.received = held[at:]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _isSpecial(self, name: bytes) -> bool:
        if name.lower() in SPECIAL_FIELDS or foldedName(name) in NEVER_TRAILERS:
            return True
        return isFolded(name) and not self._limits.keepsFolded

    def _nextTrailers(self, held: bytes, at: int) -> int:
        """Take the trailers (section 7.1.2), and return where they end in C{held}."""
        if held.startswith(b"\r\n", at):
            self.state = ENDED
            return at + 2
        # As in _takeHead.  After the first search, C{held} begins with the trailers.
        start = max(at, self._searched - 3)
        end = held.find(b"\r\n\r\n", start) + 4
        whole = end >= 4
        if (end if whole else len(held)) - at > self._limits.head:
            raise HeadTooLong(f"trailers of more than {self._limits.head} bytes")
        if not whole:
            if _bareLineFeed(held, start):
                raise BadMessage("a line that ends with LF alone")
            self._searched = len(held) - at
            return at
        self._searched = 0
        lines = b"\r\n" + held[at : end - 2]
        # A framing that is refused in a head is refused here, too.
        readFields(lines, True, self._limits)
        # Fields of framing, routing and credentials are dropped (RFC 9110, section 6.5.1).
        self.trailers = [each for each in pairsOf(lines) if not self._isSpecial(each[0])]
        self.state = ENDED
        return end
