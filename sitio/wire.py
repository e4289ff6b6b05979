"""
Bytes to messages and back: readers, writers and the rules of framing.

Pure: nothing here knows a transport, a clock or another message than the one
at hand.  The contract of a reader: L{receive<RequestReader.receive>} only
stores; C{nextHead} gives a head or L{None} for "more bytes, please";
C{nextBody} gives what has come of the body; once C{state} is L{ENDED} nothing
of the next message is looked at until C{nextHead} is called again.  What is
malformed or ambiguous raises, and the reader is of no more use.

httptools parses fields.  The request line, the status line and the framing of
bodies are read here, so that

  - a message can be taken out without the next one being parsed,
  - a head is bounded in octets and fields before anything is made of it,
  - a body is passed on as it came, without a copy,
  - methods unknown to llhttp pass.

RFC 9112 is meant where a section stands without a name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import httptools
from attrs import frozen

from sitio.errors import (
    BadMessage,
    BadReply,
    BadVersion,
    BodyTooLong,
    HeadTooLong,
    MethodRefused,
    Reached,
    UpstreamLost,
)
from sitio.message import Headers, Request, Response, reasonFor

Fields = list[tuple[bytes, bytes]]

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

#: Empty lines tolerated before a request line; one is asked for (section 2.2).
MAX_EMPTY_LINES = 4


@frozen
class Limits:
    """Octets and fields of a head (or of trailers), octets of a body or L{None}."""

    head: int = 32 * 1024
    fields: int = 100
    body: int | None = None


# Section 3: method, one space, target, one space, version; nothing else.  A
# target is visible ASCII without a fragment.
_requestLine = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+) ([!\x22$-~]+) HTTP/1\.([01])\r\n").match
_otherVersion = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+ [!-~]+ HTTP/[0-9]\.[0-9]\r\n").match
# Section 4; the reason may be missing together with its space, as some send it.
_statusLine = re.compile(
    rb"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: ([\t\x20-\x7e\x80-\xff]*))?\r\n"
).match
_reason = re.compile(rb"[\t\x20-\x7e\x80-\xff]*").fullmatch
_bareLineFeed = re.compile(rb"(?<!\r)\n").search
_length = re.compile(rb"[0-9]{1,18}").fullmatch
# Section 7.1; 15 digits hold any size, and more would be an overflow elsewhere.
_chunkLine = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?\r\n").match
_chunkStart = re.compile(rb"[0-9A-Fa-f]{1,15}[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?\r?").fullmatch
# RFC 9110, section 7.2, and RFC 3986, section 3.2.2; no user information.
_host = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9\-._~!$&'()*+,;=%]*)(?::([0-9]*))?").fullmatch
_absolute = re.compile(rb"(https?)://([^/?#]+)([^#]*)", re.IGNORECASE).fullmatch

#: Methods that httptools knows by name; for any other it is told POST.
_PARSED = frozenset((b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"TRACE"))

# Fields that a reader acts upon; all others pass unseen.
_SPECIAL = frozenset(
    (
        b"connection",
        b"content-length",
        b"expect",
        b"host",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"transfer-encoding",
        b"upgrade",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-proto",
    )
)
_FORWARDED = (b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto")
#: Connection options that name no field to be cut, and fields without which the
#: message would be another one: naming those in Connection cuts nothing.
_NOT_CUT = frozenset((b"close", b"keep-alive", b"upgrade", b"te", b"", b"host", b"content-length"))


def _tokens(value: bytes) -> list[bytes]:
    return [each.strip(b" \t") for each in value.lower().split(b",")]


class _Collector:
    """What httptools calls back: it only notes fields down."""

    __slots__ = ("fields", "on_header")

    def __init__(self) -> None:
        fields: Fields = []
        self.fields = fields
        self.on_header = lambda name, value: fields.append((name, value))


class _Reader:
    """What readers of requests and of replies have in common: storage, fields, bodies."""

    __slots__ = (
        "_held",
        "_left",
        "_limits",
        "_passed",
        "_searched",
        "keepAlive",
        "state",
        "trailers",
    )

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._held: bytes | bytearray = b""
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
        return len(self._held)

    @property
    def left(self) -> int | None:
        """Octets of the body that are still to come, if that is known."""
        return self._left if self.state is LENGTH else None

    def receive(self, data: bytes) -> None:
        """Store what came from the wire."""
        if not self._held:
            self._held = data
        else:
            if isinstance(self._held, bytes):
                self._held = bytearray(self._held)
            self._held += data

    def takeRest(self) -> bytes:
        """Everything that is held: the first bytes of a tunnel."""
        rest, self._held = bytes(self._held), b""
        return rest

    def _takeHead(self, start: int = 0) -> bytes | None:
        held = self._held
        # Nothing is searched twice, or a head that comes octet by octet would
        # cost seconds; three octets back, as a read may have cut the blank line.
        at = max(start, self._searched - 3)
        end = held.find(b"\r\n\r\n", at)
        if end < 0:
            if len(held) > self._limits.head:
                raise HeadTooLong(f"a head of more than {self._limits.head} octets")
            if _bareLineFeed(held, at):
                raise BadMessage("a line that ends with LF alone")
            self._searched = len(held)
            return None
        end += 4
        if end > self._limits.head:
            raise HeadTooLong(f"a head of more than {self._limits.head} octets")
        self._searched = 0
        if end == len(held) and start == 0:
            self._held = b""
            return bytes(held)
        head = bytes(held[start:end])
        self._held = held[end:]
        return head

    def _parse(self, parser: type, head: bytes) -> Fields:
        collector = _Collector()
        try:
            parser(collector).feed_data(head)
        except httptools.HttpParserUpgrade:
            pass  # The head was whole; what follows it was not fed.
        except httptools.HttpParserError as error:
            raise BadMessage(str(error)) from error
        if len(collector.fields) > self._limits.fields:
            raise HeadTooLong(f"more than {self._limits.fields} fields")
        return collector.fields

    def _frame(self, coding: bytes | None, length: bytes | None, version: bytes) -> int | None:
        """
        The state for the body that these fields announce (section 6.3), and
        the length if one is announced; L{None} when they say nothing.
        """
        if coding is not None:
            # Anything else has been read differently by somebody (section 6.1).
            if coding.strip(b" \t").lower() != b"chunked":
                raise BadMessage("a Transfer-Encoding other than chunked")
            if length is not None:
                raise BadMessage("Content-Length beside Transfer-Encoding")
            if version != b"1":
                raise BadMessage("Transfer-Encoding in HTTP/1.0")
            self.state = CHUNK_SIZE
            return None
        if length is not None:
            text = length.strip(b" \t")
            if not _length(text):
                raise BadMessage("a Content-Length that is no number")
            self._left = int(text)
            self.state = LENGTH if self._left else ENDED
            return self._left
        return None

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
        held = self._held
        if state is ENDED or not held:
            return b""
        if state is LENGTH:
            size = len(held)
            if size <= self._left:
                self._left -= size
                self._held = b""
                if not self._left:
                    self.state = ENDED
                return bytes(held)
            piece = bytes(held[: self._left])
            self._held = held[self._left :]
            self._left = 0
            self.state = ENDED
            return piece
        if state is UNTIL_CLOSE:
            self._held = b""
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
        self._held = held[at:]
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
        # Trailers are fields like any other: httptools reads them below a head of ours.
        fields = self._parse(httptools.HttpRequestParser, b"GET / HTTP/1.1\r\n" + held[at:end])
        # Framing and routing can't come late (RFC 9110, section 6.5.1).
        self.trailers = [each for each in fields if each[0].lower() not in _SPECIAL]
        self.state = ENDED
        return end


class RequestReader(_Reader):
    """
    Reads what a client sends.

    Raises L{BadMessage} and its kin, which are the client's fault.

    @ivar forwarded: whether the request at hand came with X-Forwarded fields.
    @ivar host: its Host, or L{None} for an HTTP/1.0 request without.
    """

    __slots__ = ("forwarded", "host")

    def __init__(self, limits: Limits) -> None:
        _Reader.__init__(self, limits)
        self.forwarded = False
        self.host: bytes | None = None

    def nextHead(self) -> Request | None:
        """
        The head of the next request, if all of it has come.

        @raise HeadTooLong: more octets or fields than the limit.
        @raise BodyTooLong: the announced length is beyond the limit.
        @raise BadVersion: a version that isn't spoken here.
        @raise MethodRefused: CONNECT.
        @raise BadMessage: anything else that is malformed or ambiguous.
        """
        if not self._held:
            return None
        self.state = HEAD
        head = self._takeHead(self._emptyLines())
        if head is None:
            return None
        line = _requestLine(head)
        if line is None:
            if _otherVersion(head) and not head[: head.index(b"\r\n")].endswith(
                (b"HTTP/1.0", b"HTTP/1.1")
            ):
                raise BadVersion("a version other than HTTP/1.0 and HTTP/1.1")
            raise BadMessage("a malformed request line")
        method, target, minor = line.groups()
        if method == b"CONNECT":
            raise MethodRefused("CONNECT")
        toParse = head if method in _PARSED else b"POST" + head[len(method) :]
        fields = self._parse(httptools.HttpRequestParser, toParse)
        return self._request(method, target, minor, fields)

    def _emptyLines(self) -> int:
        held = self._held
        if held[0] not in b"\r\n":
            return 0
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

    def _request(self, method: bytes, target: bytes, minor: bytes, fields: Fields) -> Request:
        kept: Fields = []
        coding = length = host = upgrade = None
        options: list[bytes] = []
        self.forwarded = False
        for each in fields:
            name = each[0].lower()
            if name not in _SPECIAL:
                kept.append(each)
            elif name == b"host":
                if host is not None:
                    raise BadMessage("more than one Host")
                host = each[1].strip(b" \t")
                kept.append(each)
            elif name == b"content-length":
                if length is not None:
                    raise BadMessage("more than one Content-Length")
                length = each[1]
                kept.append(each)
            elif name == b"transfer-encoding":
                if coding is not None:
                    raise BadMessage("more than one Transfer-Encoding")
                coding = each[1]
            elif name == b"connection":
                options += _tokens(each[1])
            elif name == b"upgrade":
                upgrade = each[1] if upgrade is None else upgrade + b", " + each[1]
            elif name == b"expect":
                # RFC 9110, section 10.1.1: of no meaning in HTTP/1.0.
                if minor == b"1":
                    kept.append(each)
            elif name in _FORWARDED:
                self.forwarded = True
                kept.append(each)
        if host is None and minor == b"1":
            raise BadMessage("no Host")
        authority = None if host is None else _host(host)
        if host is not None and authority is None:
            raise BadMessage("a Host that names none")
        target = self._originForm(method, target, host)
        self.host = host
        self._passed = 0
        self.trailers = []
        self.state = ENDED
        announced = self._frame(coding, length, minor)
        if announced and self._limits.body is not None and announced > self._limits.body:
            raise BodyTooLong(f"a body of more than {self._limits.body} octets")
        self.keepAlive = b"close" not in options and (minor == b"1" or b"keep-alive" in options)
        if options:
            kept = _cutNamed(kept, options)
        if upgrade is not None and (
            minor == b"0" or b"upgrade" not in options or b"h2c" in _tokens(upgrade)
        ):
            # HTTP/2 behind an upgrade would be requests that no policy sees.
            upgrade = None
        return Request(
            method.decode("ascii"),
            target.decode("ascii"),
            Headers.fromWire(kept),
            "1.1" if minor == b"1" else "1.0",
            b"" if self.state is ENDED else None,
            announced,
            upgrade,
        )

    def _originForm(self, method: bytes, target: bytes, host: bytes | None) -> bytes:
        """Section 3.2: the target as a service expects it, whatever form it came in."""
        if target[:1] == b"/" or (target == b"*" and method == b"OPTIONS"):
            return target
        absolute = _absolute(target)
        if absolute is None:
            raise BadMessage("a target that is neither a path nor an http URI")
        # Section 3.2.2 lets the target win; a service would see the Host, so
        # two names for one request are refused.
        scheme, authority, rest = absolute.groups()
        port = b":443" if scheme.lower() == b"https" else b":80"
        if host is None or not _host(authority):
            raise BadMessage("a target in absolute form that has no fitting Host")
        if authority.lower().removesuffix(port) != host.lower().removesuffix(port):
            raise BadMessage("a target in absolute form that names another host than Host")
        if not rest and method == b"OPTIONS":
            return b"*"
        return rest if rest[:1] == b"/" else b"/" + rest


class ResponseReader(_Reader):
    """
    Reads what an upstream sends.

    Raises L{BadReply}, and L{UpstreamLost} for a reply cut short: the
    upstream's fault.
    """

    __slots__ = ("_method",)

    def __init__(self, limits: Limits) -> None:
        _Reader.__init__(self, limits)
        self.method = "GET"

    @property
    def method(self) -> str:
        """Of the request that the next reply answers; set it before each, as it begins one."""
        return self._method

    @method.setter
    def method(self, method: str) -> None:
        self._method = method
        # A connection lost from here on is lost before its reply, not after the last one.
        self.state = FIRST

    def nextHead(self) -> Response | None:
        """
        The head of the next reply, interim ones (1xx) included, if all of it has come.

        After an interim one C{state} is still L{HEAD}; after 101 it is L{TUNNEL}.
        """
        if not self._held:
            return None
        self.state = HEAD
        try:
            head = self._takeHead()
            if head is None:
                # A peer that speaks something else is told apart at once.
                if not b"HTTP/1."[: len(self._held)] == self._held[:7]:
                    raise BadMessage("no status line")
                return None
            line = _statusLine(head)
            if line is None:
                raise BadMessage("a malformed status line")
            fields = self._parse(httptools.HttpResponseParser, head)
            return self._response(line, fields)
        except BadMessage as error:
            raise BadReply(f"the reply has {error.detail}", Reached.ANSWERED) from error

    def _response(self, line: re.Match[bytes], fields: Fields) -> Response:
        minor = line[1]
        status = int(line[2])
        kept: Fields = []
        coding = length = upgrade = None
        options: list[bytes] = []
        for each in fields:
            name = each[0].lower()
            if name not in _SPECIAL:
                kept.append(each)
            elif name == b"content-length":
                if length is not None:
                    raise BadMessage("more than one Content-Length")
                length = each[1]
                kept.append(each)
            elif name == b"transfer-encoding":
                if coding is not None:
                    raise BadMessage("more than one Transfer-Encoding")
                coding = each[1]
            elif name == b"connection":
                options += _tokens(each[1])
            elif name == b"upgrade":
                upgrade = each[1] if upgrade is None else upgrade + b", " + each[1]
            elif name not in (b"keep-alive", b"proxy-connection", b"te"):
                kept.append(each)
        self._passed = 0
        self.trailers = []
        self.state = UNTIL_CLOSE
        announced = self._frame(coding, length, minor)
        if status < 200:
            self.state = TUNNEL if status == 101 else HEAD
        elif self._method == "HEAD" or status in (204, 304):
            # Section 6.3, rule 1: these end with their heads, whatever they announce.
            self.state = ENDED
        if status < 200 or status == 204:
            kept = [each for each in kept if each[0].lower() != b"content-length"]
            announced = None
        self.keepAlive = (
            b"close" not in options
            and (minor == b"1" or b"keep-alive" in options)
            and self.state is not UNTIL_CLOSE
        )
        if options:
            kept = _cutNamed(kept, options)
        reason = (line[3] or b"").decode("latin-1")
        return Response.fromWire(status, reason, kept, announced, upgrade)

    def nextBody(self) -> bytes:
        """As L{_Reader.nextBody}; raises L{BadReply}."""
        try:
            return _Reader.nextBody(self)
        except BadMessage as error:
            raise BadReply(f"the reply has {error.detail}", Reached.ANSWERED) from error

    def connectionLost(self) -> None:
        """
        The upstream sends no more.  A body that ends so has L{ENDED}.

        @raise UpstreamLost: the reply isn't whole.
        """
        if self.state is UNTIL_CLOSE:
            self.state = ENDED
        elif self.state is not ENDED:
            begun = self.state is not FIRST or self.held
            raise UpstreamLost(
                "the upstream closed within its reply"
                if begun
                else "the upstream closed without a reply",
                Reached.ANSWERED if begun else Reached.SENT,
            )


def _cutNamed(fields: Fields, options: list[bytes]) -> Fields:
    """Without the fields that Connection names (RFC 9110, section 7.6.1)."""
    named = frozenset(options) - _NOT_CUT
    return [each for each in fields if each[0].lower() not in named] if named else fields


# --- Writing


_STATUS_LINES = {
    (status, reasonFor(status)): b"HTTP/1.1 %d %b\r\n" % (status, reasonFor(status).encode())
    for status in range(100, 600)
    if reasonFor(status)
}


def _head(line: bytes, fields: Fields, length: int | None) -> list[bytes]:
    """
    A first line and its fields, with exactly the length that is given.

    Content-Length stays where it stood, but what stood there is not believed: a
    policy may have brought the fields from another message, or lost the line.
    """
    parts = [line]
    for name, value in fields:
        # By size first, as this is asked of every field of every message.
        if len(name) == 14 and name.lower() == b"content-length":
            if length is None:
                continue
            value, length = b"%d" % length, None
        parts += (name, b": ", value, b"\r\n")
    if length is not None:
        parts.append(b"Content-Length: %d\r\n" % length)
    return parts


def requestHead(
    request: Request, length: int | None, *, chunked: bool = False, extra: bytes = b""
) -> bytes:
    """
    The head of a request as sent upstream, in HTTP/1.1 whatever the client speaks.

    @param length: octets of the body to announce; L{None} for no announcement.
    @param chunked: announce chunks instead.
    @param extra: whole lines to be added.
    """
    line = f"{request.method} {request.target} HTTP/1.1\r\n".encode("ascii")
    parts = _head(line, request.headers.fields, length)
    if chunked:
        parts.append(b"Transfer-Encoding: chunked\r\n")
    if request.upgrade is not None:
        parts += (b"Connection: upgrade\r\nUpgrade: ", request.upgrade, b"\r\n")
    parts += (extra, b"\r\n")
    return b"".join(parts)


def responseHead(
    response: Response, length: int | None, *, chunked: bool = False, extra: bytes = b""
) -> bytes:
    """The head of a reply as sent to the client; parameters as L{requestHead}'s."""
    line = _STATUS_LINES.get((response.status, response.reason))
    if line is None:
        reason = response.reason.encode("latin-1", "replace")
        # A policy may have set one that can't be sent; it has no meaning (section 4).
        line = b"HTTP/1.1 %d %b\r\n" % (response.status, reason if _reason(reason) else b"")
    parts = _head(line, response.headers.fields, length)
    if chunked:
        parts.append(b"Transfer-Encoding: chunked\r\n")
    if response.status == 101 and response.upgrade is not None:
        parts += (b"Connection: upgrade\r\nUpgrade: ", response.upgrade, b"\r\n")
    parts += (extra, b"\r\n")
    return b"".join(parts)


def chunk(data: bytes) -> bytes:
    """One chunk (section 7.1).  Empty data is none: a chunk of size 0 would end the body."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


def lastChunk(trailers: Iterable[tuple[bytes, bytes]] = ()) -> bytes:
    """The end of a chunked body, with its trailers."""
    return b"0\r\n" + b"".join(b"%b: %b\r\n" % each for each in trailers) + b"\r\n"
