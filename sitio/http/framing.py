"""
What readers of requests and of responses share: storage, fields and bodies.

Pure: it knows neither a transport nor a clock, nor which side sends what.  The
contract of a reader: L{receive<Reader.receive>} only stores; C{nextHead} (in
C{wire}) gives a head or L{None} for "more bytes, please"; L{nextBody
<Reader.nextBody>} gives what has come of the body; once C{state} is L{ENDED}
nothing of the next message is looked at until C{nextHead} is called again.
What is malformed or ambiguous raises, and the reader is of no more use.

Where a head ends and how its body is framed is read here, what a head says in
L{heads<sitio.http.head>} (docs/decisions/0002-framing.md), so that

  - a message can be taken out without the next one being parsed,
  - a head is bounded in bytes and fields before anything is made of it,
  - a body is passed on as it came, without a copy.

RFC 9112 is meant where a section stands without a name.
"""

from __future__ import annotations

import re
from typing import cast

from attrs import frozen

from sitio.errors import BadMessage, BodyTooLong, HeadTooLong
from sitio.http.head import SPECIAL, Fields, Head, parse

#: The trailers of nearly every message; shared, so never to be changed.
NONE: Fields = []

# States of a reader: what it expects next.
FIRST = "the first byte of a response"
HEAD = "head"
LENGTH = "the rest of a body of known length"
CHUNK_SIZE = "the size of a chunk"
CHUNK_DATA = "the rest of a chunk"
CHUNK_END = "the line end after a chunk"
TRAILERS = "trailers"
UNTIL_CLOSE = "a body that ends with the connection"
ENDED = "nothing: the message is whole"
TUNNEL = "bytes of another protocol"

_CHUNKED = (CHUNK_SIZE, CHUNK_DATA, CHUNK_END, TRAILERS)

#: Bytes in the line with a chunk's size and extensions; extensions are used by
#: nobody, and an unbounded number of them is an attack (RFC 9112, section 7.1.1).
MAX_CHUNK_LINE = 256

_bareLineFeed = re.compile(rb"(?<!\r)\n").search
# Section 7.1; 15 digits hold any size, and more would be an overflow elsewhere.
_chunkLine = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?\r\n").match
_chunkStart = re.compile(rb"[0-9A-Fa-f]{1,15}[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?\r?").fullmatch


@frozen
class Limits:
    """Bytes and fields of a head (or of trailers), bytes of a body or L{None}."""

    head: int = 32 * 1024
    fields: int = 100
    body: int | None = None


class Reader:
    """What readers of requests and of responses have in common: storage, fields, bodies."""

    __slots__ = (
        "_left",
        "_limits",
        "_passed",
        "_searched",
        "keepAlive",
        "data",
        "state",
        "trailers",
    )

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        #: What was received and no message has been made of.
        self.data: bytes | bytearray = b""
        self._searched = 0
        self._left = 0
        self._passed = 0
        #: See the states above.
        self.state = HEAD
        #: Whether the connection may go on after this message (section 9.3).
        self.keepAlive = False
        #: The trailers of the message, once it has L{ENDED}.
        self.trailers: Fields = []

    @property
    def held(self) -> int:
        """Bytes received that no message has been made of."""
        return len(self.data)

    @property
    def left(self) -> int | None:
        """Bytes of the body that are still to come, if that is known."""
        return self._left if self.state is LENGTH else None

    def receive(self, data: bytes) -> None:
        """Store what came from the wire."""
        if not self.data:
            self.data = data
        else:
            if isinstance(self.data, bytes):
                self.data = bytearray(self.data)
            self.data += data

    def skip(self, size: int) -> None:
        """So many bytes of a body of known length have gone another way."""
        self._left -= size
        if not self._left:
            self.state = ENDED

    def takeRest(self) -> bytes:
        """Everything that is held: the first bytes of a tunnel."""
        rest, self.data = bytes(self.data), b""
        return rest

    def _takeHead(self, start: int = 0) -> bytes | None:
        """A head without its end, if all of it has come; C{start} bytes are dropped."""
        held = self.data
        limit = self._limits.head
        if self._searched or start or type(held) is bytearray:
            # Nothing is searched twice, or a head that comes byte by byte would
            # cost seconds; three bytes back, as a read may have cut the blank line.
            if held.find(b"\r\n\r\n", max(start, self._searched - 3)) < 0:
                self._part(start)
                return None
            held = bytes(held[start:])
            limit -= start
            self._searched = 0
        head, found, self.data = held.partition(b"\r\n\r\n")
        if not found:
            self.data = held
            self._part(start)
            return None
        if len(head) > limit - 4:
            raise HeadTooLong(f"a head of more than {self._limits.head} bytes")
        if head.count(b"\n") > self._limits.fields:
            raise HeadTooLong(f"more than {self._limits.fields} fields")
        return cast(bytes, head)

    def _part(self, start: int) -> None:
        """A part of a head is held: raise if nothing can come of it."""
        held = self.data
        if len(held) > self._limits.head:
            raise HeadTooLong(f"a head of more than {self._limits.head} bytes")
        if _bareLineFeed(held, max(start, self._searched - 3)):
            raise BadMessage("a line that ends with LF alone")
        self._searched = len(held)

    def _frame(self, head: Head) -> None:
        """A body comes, framed as this head says (section 6.3)."""
        if head.chunked:
            self.state = CHUNK_SIZE
            self._passed = 0
        elif head.length:
            self.state = LENGTH
            self._left = head.length
        else:
            self.state = ENDED

    def _pass(self, size: int) -> None:
        self._passed += size
        if self._limits.body is not None and self._passed > self._limits.body:
            raise BodyTooLong(f"a body of more than {self._limits.body} bytes")

    def nextBody(self) -> bytes:
        """
        What has come of the body and wasn't handed out; C{b""} if nothing has.

        @raise BadMessage: bad chunks.
        @raise BodyTooLong: more bytes than the limit.
        """
        state = self.state
        held = self.data
        if state is ENDED or not held:
            return b""
        if state is LENGTH:
            size = len(held)
            if size <= self._left:
                self._left -= size
                self.data = b""
                if not self._left:
                    self.state = ENDED
                return bytes(held)
            piece = bytes(held[: self._left])
            self.data = held[self._left :]
            self._left = 0
            self.state = ENDED
            return piece
        if state is UNTIL_CLOSE:
            self.data = b""
            return bytes(held)
        if state in _CHUNKED:
            return self._nextChunks(bytes(held))
        return b""

    def _nextChunks(self, held: bytes) -> bytes:
        """Section 7.1: sizes, data and line ends, as far as they have come."""
        pieces: list[bytes] = []
        at = 0
        while True:
            if self.state is CHUNK_SIZE:
                line = _chunkLine(held, at, at + MAX_CHUNK_LINE)
                if line is None:
                    rest = held[at : at + MAX_CHUNK_LINE]
                    if len(rest) == MAX_CHUNK_LINE or (rest and not _chunkStart(rest)):
                        raise BadMessage("a malformed chunk size")
                    break
                at = line.end()
                self._left = int(line[1], 16)
                self.state = CHUNK_DATA if self._left else TRAILERS
                if self._left:
                    self._pass(self._left)
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
        self.data = held[at:]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _nextTrailers(self, held: bytes, at: int) -> int:
        """Section 7.1.2: fields up to an empty line; returns where they end."""
        if held.startswith(b"\r\n", at):
            self.state = ENDED
            return at + 2
        # As in _takeHead; what is held begins at the trailers once they were searched.
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
        fields = parse(held[at : end - 2])
        if len(fields) > self._limits.fields:
            raise HeadTooLong(f"more than {self._limits.fields} fields")
        # Framing and routing can't come late (RFC 9110, section 6.5.1).
        self.trailers = [each for each in fields if each[0].lower() not in SPECIAL]
        self.state = ENDED
        return end
