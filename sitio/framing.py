"""
What readers of requests and of replies share: storage, fields and bodies.

Pure: it knows neither a transport nor a clock, nor which side sends what.  The
contract of a reader: L{receive<Reader.receive>} only stores; C{nextHead} (in
C{wire}) gives a head or L{None} for "more bytes, please"; L{nextBody
<Reader.nextBody>} gives what has come of the body; once C{state} is L{ENDED}
nothing of the next message is looked at until C{nextHead} is called again.
What is malformed or ambiguous raises, and the reader is of no more use.

httptools judges fields, each line once: the lines of a head are mostly those of
the head before, so what a line says is remembered (L{Memo}).  Where a head ends
and how its body is framed is read here (docs/decisions/0002-framing.md), so that

  - a message can be taken out without the next one being parsed,
  - a head is bounded in octets and fields before anything is made of it,
  - a body is passed on as it came, without a copy.

RFC 9112 is meant where a section stands without a name.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import httptools
from attrs import frozen

from sitio.errors import BadMessage, BodyTooLong, HeadTooLong
from sitio.message import Lines

Fields = list[tuple[bytes, bytes]]

#: The trailers of nearly every message; shared, so never to be changed.
NONE: Fields = []

# States of a reader: what it expects next.
FIRST = "the first octet of a reply"
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

#: Octets in the line with a chunk's size and extensions; extensions are used by
#: nobody, and an unbounded number of them is an attack (RFC 9112, section 7.1.1).
MAX_CHUNK_LINE = 256

#: Octets of a line, or of all lines of a head, that are remembered, and how many
#: are.  With the objects around them a memo is a few megabytes at most; a service
#: whose clients do not make things up fills a tenth of that.
MAX_REMEMBERED = 2048
REMEMBERED = 1024

# What a line means to a reader.  All others pass unseen.
PLAIN = ""
HOST = "Host"
CONTENT_LENGTH = "Content-Length"
TRANSFER_ENCODING = "Transfer-Encoding"
CONNECTION = "Connection"
UPGRADE = "Upgrade"
FORWARDED = "X-Forwarded"
DROPPED = "of one connection, and of no meaning here"

MEANINGS = {
    b"connection": CONNECTION,
    b"content-length": CONTENT_LENGTH,
    b"keep-alive": DROPPED,
    b"proxy-connection": DROPPED,
    b"te": DROPPED,
    b"transfer-encoding": TRANSFER_ENCODING,
    b"upgrade": UPGRADE,
}
REQUEST_MEANINGS = {
    **MEANINGS,
    b"host": HOST,
    b"x-forwarded-for": FORWARDED,
    b"x-forwarded-host": FORWARDED,
    b"x-forwarded-proto": FORWARDED,
}
#: Fields that a reader acts upon.
SPECIAL = REQUEST_MEANINGS.keys() | {b"expect"}

#: Connection options that name no field to be cut, and fields without which the
#: message would be another one: naming those in Connection cuts nothing.
_NOT_CUT = frozenset((b"close", b"keep-alive", b"upgrade", b"te", b"", b"host", b"content-length"))

_bareLineFeed = re.compile(rb"(?<!\r)\n").search
# RFC 9110, section 7.2, and RFC 3986, section 3.2.2; no user information.
isHost = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9\-._~!$&'()*+,;=%]*)(?::([0-9]*))?").fullmatch
_length = re.compile(rb"[0-9]{1,18}").fullmatch
# Section 7.1; 15 digits hold any size, and more would be an overflow elsewhere.
_chunkLine = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?\r\n").match
_chunkStart = re.compile(rb"[0-9A-Fa-f]{1,15}[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?\r?").fullmatch


@frozen
class Limits:
    """Octets and fields of a head (or of trailers), octets of a body or L{None}."""

    head: int = 32 * 1024
    fields: int = 100
    body: int | None = None


class _Collector:
    """What httptools calls back: it only notes fields down."""

    __slots__ = ("fields",)

    def __init__(self) -> None:
        self.fields: Fields = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name, value))


def parse(lines: bytes) -> Fields:
    """
    Fields, read by httptools below a head of ours.

    @raise BadMessage: a line that is none.
    """
    collector = _Collector()
    try:
        httptools.HttpRequestParser(collector).feed_data(b"GET / HTTP/1.1\r\n%b\r\n" % lines)
    except httptools.HttpParserUpgrade:
        pass  # The head was whole; nothing follows it.
    except httptools.HttpParserError as error:
        raise BadMessage(f"a field that can't be read ({error})") from error
    return collector.fields


class Memo(dict[bytes, Any]):
    """
    What octets say, which mostly came before.

    Bounded: a full one forgets all and begins anew, which costs less than to know
    what was used last.
    """

    def __init__(self, read: Callable[[bytes], Any]) -> None:
        """
        @param read: what octets say; what it raises is not remembered.
        """
        self._read = read

    def __missing__(self, octets: bytes) -> Any:
        said = self._read(octets)
        if len(octets) <= MAX_REMEMBERED:
            if len(self) >= REMEMBERED:
                self.clear()
            self[octets] = said
        return said


def tokens(value: bytes) -> list[bytes]:
    """The members of a list without parameters, in lower case (RFC 9110, section 5.6.1)."""
    return [each.strip(b" \t") for each in value.lower().split(b",")]


def _readField(meanings: dict[bytes, str], line: bytes) -> tuple[str, Any, bytes]:
    """What a line means, its value as far as it means something, and how it goes on."""
    fields = parse(line + b"\r\n")
    if len(fields) != 1:
        raise BadMessage("a field that can't be read")
    name, value = fields[0]
    goesOn = b"%b: %b\r\n" % (name, value)
    meaning = meanings.get(name.lower(), PLAIN)
    value = value.strip(b" \t")
    if meaning is CONTENT_LENGTH:
        if not _length(value):
            raise BadMessage("a Content-Length that is no number")
        # Zeros in front were not meant as a sign of something else.
        return meaning, int(value), b"%b: %d\r\n" % (name, int(value))
    if meaning is TRANSFER_ENCODING and value.lower() != b"chunked":
        # Anything else has been read differently by somebody (section 6.1).
        raise BadMessage("a Transfer-Encoding other than chunked")
    if meaning is CONNECTION:
        return meaning, tokens(value), goesOn
    if meaning is HOST and not isHost(value):
        raise BadMessage("a Host that names none")
    return meaning, value, goesOn


class Said:
    """
    What the lines of fields in a head say, whatever its first line is.

    @ivar lines: those that go on.
    @ivar chunked: whether there is a Transfer-Encoding.
    @ivar keepAlive: whether the connection may go on, in HTTP/1.0 and in HTTP/1.1.
    @ivar upgrade: the protocols to switch to, and C{switches} whether Connection
        says so as well.
    @ivar forwarded: whether there are X-Forwarded fields.
    """

    __slots__ = (
        "chunked",
        "forwarded",
        "host",
        "keepAlive",
        "length",
        "lines",
        "switches",
        "upgrade",
    )

    def __init__(self, octets: bytes, fields: Memo) -> None:
        """
        @param octets: the lines, with an end between two.
        @param fields: what each line says.

        @raise BadMessage: fields that can't be read, or stand there twice and must not.
        """
        self.host: bytes | None = None
        self.length: int | None = None
        self.upgrade: bytes | None = None
        self.chunked = self.forwarded = False
        kept: list[bytes] = []
        options: list[bytes] = []
        for line in octets.split(b"\r\n") if octets else ():
            meaning, value, goesOn = fields[line]
            if meaning is CONNECTION:
                options += value
            elif meaning is TRANSFER_ENCODING:
                if self.chunked:
                    raise BadMessage("more than one Transfer-Encoding")
                self.chunked = True
            elif meaning is UPGRADE:
                self.upgrade = value if self.upgrade is None else self.upgrade + b", " + value
            elif meaning is not DROPPED:
                kept.append(goesOn)
                if meaning is HOST:
                    if self.host is not None:
                        raise BadMessage("more than one Host")
                    self.host = value
                elif meaning is CONTENT_LENGTH:
                    if self.length is not None:
                        raise BadMessage("more than one Content-Length")
                    self.length = value
                elif meaning is FORWARDED:
                    self.forwarded = True
        closes = b"close" in options
        self.keepAlive = (not closes and b"keep-alive" in options, not closes)
        self.switches = b"upgrade" in options
        # RFC 9110, section 7.6.1: what Connection names goes no further.
        named = frozenset(options) - _NOT_CUT
        if named:
            kept = [each for each in kept if each.partition(b":")[0].lower() not in named]
        self.lines = Lines(b"".join(kept), self.length)


def saidMemo(meanings: dict[bytes, str]) -> Memo:
    """What lines of fields say, as L{Said}; what each means is given by its name."""
    fields = Memo(partial(_readField, meanings))
    return Memo(lambda octets: Said(octets, fields))


class Head:
    """
    A head that has been read: all that a reader of it needs to know.

    Never changed, and shared by all messages that came with the same octets.

    @ivar version: as in messages.
    @ivar keepAlive: whether the connection may go on, if the body doesn't end with it.
    @ivar framing: the state for the body that is announced, if one is (section 6.3).
    @ivar length: the Content-Length, if there is one.
    """

    __slots__ = ("framing", "keepAlive", "length", "lines", "upgrade", "version")

    def __init__(self, said: Said, modern: bool) -> None:
        """
        @raise BadMessage: two framings at once, or one that HTTP/1.0 doesn't know.
        """
        self.version = "1.1" if modern else "1.0"
        self.keepAlive = said.keepAlive[modern]
        self.lines = said.lines
        self.upgrade = said.upgrade
        self.length = said.length
        self.framing: str | None = None
        if said.chunked:
            if said.length is not None:
                raise BadMessage("Content-Length beside Transfer-Encoding")
            if not modern:
                raise BadMessage("Transfer-Encoding in HTTP/1.0")
            self.framing = CHUNK_SIZE
        elif said.length is not None:
            self.framing = LENGTH if said.length else ENDED


class Reader:
    """What readers of requests and of replies have in common: storage, fields, bodies."""

    __slots__ = (
        "_left",
        "_limits",
        "_passed",
        "_searched",
        "keepAlive",
        "octets",
        "state",
        "trailers",
    )

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        #: What was received and no message has been made of.
        self.octets: bytes | bytearray = b""
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
        """Octets received that no message has been made of."""
        return len(self.octets)

    @property
    def left(self) -> int | None:
        """Octets of the body that are still to come, if that is known."""
        return self._left if self.state is LENGTH else None

    def receive(self, data: bytes) -> None:
        """Store what came from the wire."""
        if not self.octets:
            self.octets = data
        else:
            if isinstance(self.octets, bytes):
                self.octets = bytearray(self.octets)
            self.octets += data

    def takeRest(self) -> bytes:
        """Everything that is held: the first bytes of a tunnel."""
        rest, self.octets = bytes(self.octets), b""
        return rest

    def _takeHead(self, start: int = 0) -> bytes | None:
        """A head without its end, if all of it has come; C{start} octets are dropped."""
        held = self.octets
        limit = self._limits.head
        if self._searched or start or type(held) is bytearray:
            # Nothing is searched twice, or a head that comes octet by octet would
            # cost seconds; three octets back, as a read may have cut the blank line.
            if held.find(b"\r\n\r\n", max(start, self._searched - 3)) < 0:
                self._part(start)
                return None
            held = bytes(held[start:])
            limit -= start
        head, found, rest = held.partition(b"\r\n\r\n")
        if not found:
            self._part(start)
            return None
        if len(head) > limit - 4:
            raise HeadTooLong(f"a head of more than {self._limits.head} octets")
        if head.count(b"\n") > self._limits.fields:
            raise HeadTooLong(f"more than {self._limits.fields} fields")
        self.octets = rest
        self._searched = 0
        return cast(bytes, head)

    def _part(self, start: int) -> None:
        """A part of a head is held: raise if nothing can come of it."""
        held = self.octets
        if len(held) > self._limits.head:
            raise HeadTooLong(f"a head of more than {self._limits.head} octets")
        if _bareLineFeed(held, max(start, self._searched - 3)):
            raise BadMessage("a line that ends with LF alone")
        self._searched = len(held)

    def _frame(self, head: Head) -> None:
        """A body comes, framed as this head says."""
        self.state = head.framing
        self._left = head.length or 0
        self._passed = 0

    def _pass(self, size: int) -> None:
        self._passed += size
        if self._limits.body is not None and self._passed > self._limits.body:
            raise BodyTooLong(f"a body of more than {self._limits.body} octets")

    def nextBody(self) -> bytes:
        """
        What has come of the body and wasn't handed out; C{b""} if nothing has.

        @raise BadMessage: bad chunks.
        @raise BodyTooLong: more octets than the limit.
        """
        state = self.state
        held = self.octets
        if state is ENDED or not held:
            return b""
        if state is LENGTH:
            size = len(held)
            if size <= self._left:
                self._left -= size
                self.octets = b""
                if not self._left:
                    self.state = ENDED
                return bytes(held)
            piece = bytes(held[: self._left])
            self.octets = held[self._left :]
            self._left = 0
            self.state = ENDED
            return piece
        if state is UNTIL_CLOSE:
            self.octets = b""
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
        self.octets = held[at:]
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
            raise HeadTooLong(f"trailers of more than {self._limits.head} octets")
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
