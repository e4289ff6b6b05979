"""
What heads say: from bytes to facts, and each only once.

The lines of a head are mostly those of a head before: so what a line, and what all
lines of a head say is remembered (L{Memo}), by their bytes.  httptools judges
fields; the request line and the status line are read here, so that methods unknown
to llhttp pass.

What is remembered is shared by all clients, so it must never change, and say nothing
but what its bytes say.  Limits are looked at before, in L{framing<sitio.http.framing>}.

What is malformed or ambiguous raises L{BadMessage} or one of its kin, and is not
remembered.  RFC 9112 is meant where a section stands without a name.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import httptools

from sitio.errors import BadMessage, BadVersion, MethodRefused
from sitio.http.grammar import TOKEN, VALUE, listMembers, splitHost
from sitio.http.headers import MAX_SHARED, Lines
from sitio.http.message import RequestLine

Fields = list[tuple[bytes, bytes]]

#: How much is remembered: so many lines, or lines of one head, or heads; and as many
#: bytes of memory at most, estimated by what each byte (which is kept up to four
#: times) and each line costs, as was measured.  Browsers' heads come to less.
REMEMBERED = 1024
MAX_MEMO = 4 * 1024 * 1024
_BYTE_COST = 4
_LINE_COST = 160

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

#: What a line means that goes no further.
_STAYING = frozenset((CONNECTION, TRANSFER_ENCODING, UPGRADE, DROPPED))

#: Connection options that name no field to be cut, and fields without which the
#: message would be another one: naming those in Connection cuts nothing.
_NOT_CUT = frozenset((b"close", b"keep-alive", b"upgrade", b"te", b"", b"host", b"content-length"))

# Section 3: method, one space, target, one space, version; nothing else.  A
# target is visible ASCII without a fragment.
_requestLine = re.compile(rf"({TOKEN}) ([!\x22$-~]+) HTTP/1\.([01])".encode()).fullmatch
_otherVersion = re.compile(rf"{TOKEN} [!-~]+ HTTP/([0-9]\.[0-9])".encode()).fullmatch
# Section 4; the reason may be missing together with its space, as some send it.
_statusLine = re.compile(
    rf"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: ({VALUE}))?".encode("latin-1")
).fullmatch
_absolute = re.compile(r"(https?)://([^/?#]+)([^#]*)", re.IGNORECASE).fullmatch
_length = re.compile(rb"[0-9]{1,18}").fullmatch


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
    What bytes say that came more than once, by those bytes.

    What comes for the first time is only marked: a request id never comes again, and
    would push out what does.  Bounded: a full one forgets all and begins anew, which
    costs less than to know what was used last.

    Credentials that clients send are among what is remembered, until it is
    forgotten: longer than a request lasts.  They leave the process by no other way.
    """

    def __init__(self, read: Callable[[bytes], Any]) -> None:
        """@param read: what bytes say; what it raises is not remembered."""
        self._read = read
        self._seen: set[int] = set()
        #: What it takes, in bytes of memory, as it is estimated.
        self.size = 0

    def __missing__(self, data: bytes) -> Any:
        said = self._read(data)
        mark = hash(data)
        if mark not in self._seen:
            if len(self._seen) >= REMEMBERED:
                self._seen.clear()
            self._seen.add(mark)
        elif len(data) <= MAX_SHARED:
            cost = _BYTE_COST * len(data) + _LINE_COST * data.count(b"\n")
            if len(self) >= REMEMBERED or self.size + cost > MAX_MEMO:
                self.clear()
            self.size += cost
            self[data] = said
        return said

    def clear(self) -> None:
        """Forget all."""
        dict.clear(self)
        self._seen.clear()
        self.size = 0


class Special:
    """
    A line that a reader acts upon, or that does not go on as it came.

    @ivar meaning: what it is to the reader, and C{value} its value.
    @ivar line: as it came.
    @ivar goesOn: as it goes on, or L{None}.
    @ivar pair: name and value.
    """

    __slots__ = ("goesOn", "line", "meaning", "pair", "value")

    def __init__(self, meaning: str, line: bytes, name: bytes, value: bytes) -> None:
        """@raise BadMessage: a value that can't be acted upon."""
        self.meaning = meaning
        self.line = line
        self.value: Any = value.strip(b" \t")
        if meaning is CONTENT_LENGTH:
            if not _length(self.value):
                raise BadMessage("a Content-Length that is no number")
            # Zeros in front were not meant as a sign of something else.
            self.value = int(self.value)
            value = b"%d" % self.value
        elif meaning is TRANSFER_ENCODING and self.value.lower() != b"chunked":
            # Anything else has been read differently by somebody (section 6.1).
            raise BadMessage("a Transfer-Encoding other than chunked")
        elif meaning is CONNECTION:
            self.value = listMembers(value)
        elif meaning is HOST and splitHost(self.value.decode("latin-1")) is None:
            raise BadMessage("a Host that names none")
        self.pair = (name, value)
        self.goesOn = None if meaning in _STAYING else b"%b: %b" % self.pair


#: A line of fields: most are a tuple of name and value, the others L{Special}.
Line = Any


class _Lines(dict[bytes, Line]):
    """What lines mean, by those lines; bounded, and forgetting all, as a L{Memo} is."""

    def __init__(self, meanings: dict[bytes, str]) -> None:
        self._meanings = meanings

    def read(self, lines: list[bytes]) -> list[Line]:
        """What each of these means; those that are not known are judged in one go."""
        new = [line for line in lines if line not in self]
        if not new:
            return list(map(self.__getitem__, lines))
        if len(self) + len(new) > REMEMBERED:
            self.clear()
            new = lines
        pairs = parse(b"\r\n".join(new) + b"\r\n")
        if len(pairs) != len(new):
            raise BadMessage("a field that can't be read")
        try:
            for line, pair in zip(new, pairs):
                meaning = self._meanings.get(pair[0].lower(), PLAIN)
                asItCame = not meaning and line == b"%b: %b" % pair
                self[line] = pair if asItCame else Special(meaning, line, *pair)
            return list(map(self.__getitem__, lines))
        finally:
            for line in new:
                if len(line) > MAX_SHARED:
                    self.pop(line, None)


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

    def __init__(self, data: bytes, known: _Lines) -> None:
        """
        @param bytes: the lines, with an end between two.
        @param known: what lines mean.

        @raise BadMessage: fields that can't be read, or stand there twice and must not.
        """
        self.host: bytes | None = None
        self.length: int | None = None
        self.upgrade: bytes | None = None
        self.chunked = self.forwarded = self.switches = False
        self.keepAlive = (False, True)
        lines = data.split(b"\r\n") if data else []
        fields = known.read(lines)
        options: list[bytes] = []
        named: frozenset[bytes] = frozenset()
        for each in [each for each in fields if type(each) is Special]:
            meaning = each.meaning
            if meaning is HOST:
                if self.host is not None:
                    raise BadMessage("more than one Host")
                self.host = each.value
            elif meaning is CONTENT_LENGTH:
                if self.length is not None:
                    raise BadMessage("more than one Content-Length")
                self.length = each.value
            elif meaning is CONNECTION:
                options += each.value
            elif meaning is TRANSFER_ENCODING:
                if self.chunked:
                    raise BadMessage("more than one Transfer-Encoding")
                self.chunked = True
            elif meaning is UPGRADE:
                value = each.value
                self.upgrade = value if self.upgrade is None else self.upgrade + b", " + value
            elif meaning is FORWARDED:
                self.forwarded = True
            if each.goesOn != each.line:
                at = lines.index(each.line)
                if each.goesOn is None:
                    del lines[at], fields[fields.index(each)]
                else:
                    lines[at] = each.goesOn
        if options:
            closes = b"close" in options
            self.keepAlive = (not closes and b"keep-alive" in options, not closes)
            self.switches = b"upgrade" in options
            # RFC 9110, section 7.6.1: what Connection names goes no further.
            named = frozenset(options) - _NOT_CUT
            if named:
                lines = [each for each in lines if each.partition(b":")[0].lower() not in named]
        data = b"\r\n".join(lines) + b"\r\n" if lines else b""
        pairs = [each.pair if type(each) is Special else each for each in fields]
        if len(pairs) != len(lines):
            pairs = [each for each in pairs if each[0].lower() not in named]
        self.lines = Lines(data, self.length, pairs)


def saidMemo(meanings: dict[bytes, str]) -> Memo:
    """What lines of fields say, as L{Said}; what each means is given by its name."""
    known = _Lines(meanings)
    return Memo(lambda data: Said(data, known))


class Head:
    """
    A head that has been read: all that a reader of it needs to know.

    Never changed, and shared by all messages that came with the same bytes.

    @ivar version: as in messages.
    @ivar keepAlive: whether the connection may go on, if the body doesn't end with it.
    @ivar chunked: whether a body in chunks is announced (section 6.3).
    @ivar length: the Content-Length, if there is one.
    """

    __slots__ = ("chunked", "keepAlive", "length", "lines", "upgrade", "version")

    def __init__(self, said: Said, modern: bool) -> None:
        """@raise BadMessage: two framings at once, or one that HTTP/1.0 doesn't know."""
        self.version = "1.1" if modern else "1.0"
        self.keepAlive = said.keepAlive[modern]
        self.lines = said.lines
        self.upgrade = said.upgrade
        self.length = said.length
        self.chunked = said.chunked
        if said.chunked and said.length is not None:
            raise BadMessage("Content-Length beside Transfer-Encoding")
        if said.chunked and not modern:
            raise BadMessage("Transfer-Encoding in HTTP/1.0")


def _readRequestLine(line: bytes) -> tuple[RequestLine, bool]:
    """Method and target, and whether it is HTTP/1.1."""
    found = _requestLine(line)
    if found is None:
        other = _otherVersion(line)
        if other is not None and other[1] not in (b"1.0", b"1.1"):
            raise BadVersion("a version other than HTTP/1.0 and HTTP/1.1")
        raise BadMessage("a malformed request line")
    method, target, minor = found.groups()
    if method == b"CONNECT":
        raise MethodRefused("the method CONNECT")
    return RequestLine(method.decode("ascii"), target.decode("ascii")), minor == b"1"


def _readStatusLine(line: bytes) -> tuple[int, str, bool]:
    """Status, reason and whether it is HTTP/1.1."""
    found = _statusLine(line)
    if found is None:
        raise BadMessage("a malformed status line")
    minor, status, reason = found.groups()
    return int(status), (reason or b"").decode("latin-1"), minor == b"1"


_requestLines = Memo(_readRequestLine)
_statusLines = Memo(_readStatusLine)
_saidToUs = saidMemo(REQUEST_MEANINGS)
_saidToClients = saidMemo(MEANINGS)


def _originForm(method: str, target: str, host: bytes | None) -> str:
    """Section 3.2: the target as a service expects it, whatever form it came in."""
    if target == "*" and method == "OPTIONS":
        return target
    absolute = _absolute(target)
    if absolute is None:
        raise BadMessage("a target that is neither a path nor an http URI")
    # Section 3.2.2 lets the target win; a service would see the Host, so
    # two names for one request are refused.
    scheme, authority, rest = absolute.groups()
    port = ":443" if scheme.lower() == "https" else ":80"
    if host is None or splitHost(authority) is None:
        raise BadMessage("a target in absolute form that has no fitting Host")
    said = host.decode("ascii").lower().removesuffix(port)
    if authority.lower().removesuffix(port) != said:
        raise BadMessage("a target in absolute form that names another host than Host")
    if not rest and method == "OPTIONS":
        return "*"
    return rest if rest[:1] == "/" else "/" + rest


class RequestHead(Head):
    """
    The head of a request.

    @ivar host: its Host, or L{None} for an HTTP/1.0 request without.
    @ivar forwarded: whether it came with X-Forwarded fields.
    """

    __slots__ = ("forwarded", "host", "line")

    def __init__(self, data: bytes) -> None:
        first, _, lines = data.partition(b"\r\n")
        line, modern = _requestLines[first]
        said = _saidToUs[lines]
        self.host = said.host
        self.forwarded = said.forwarded
        if said.host is None and modern:
            raise BadMessage("no Host")
        if line.target[0] != "/":
            line = RequestLine(line.method, _originForm(line.method, line.target, said.host))
        self.line = line
        Head.__init__(self, said, modern)
        # RFC 9110, sections 7.8 and 10.1.1: both are of no meaning in HTTP/1.0.
        if not modern:
            fields = [each for each in said.lines.fields if each[0].lower() != b"expect"]
            self.lines = Lines.of(fields, said.length)
        # HTTP/2 behind an upgrade would be requests that no policy sees.
        if not modern or not said.switches or b"h2c" in listMembers(said.upgrade or b""):
            self.upgrade = None


class ResponseHead(Head):
    """
    The head of a response.

    @ivar bodiless: whether it ends a message, whatever it announces (section 6.3, rule 1).
    """

    __slots__ = ("bodiless", "reason", "status")

    def __init__(self, data: bytes) -> None:
        first, _, lines = data.partition(b"\r\n")
        self.status, self.reason, modern = _statusLines[first]
        Head.__init__(self, _saidToClients[lines], modern)
        self.bodiless = self.status in (204, 304)
        if self.length is not None and (self.status < 200 or self.status == 204):
            # RFC 9110, section 8.6: it must not be there.
            fields = [each for each in self.lines.fields if each[0].lower() != b"content-length"]
            self.lines = Lines.of(fields)
            self.length = None


requestHeads = Memo(RequestHead)
responseHeads = Memo(ResponseHead)
