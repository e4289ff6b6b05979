"""
Parses heads: L{RequestHead} and L{ResponseHead}.

Most heads, and most lines of a head, were received before.  So results are cached by the
bytes they were parsed from: whole heads, first lines, all field lines of a head, and single
field lines.  L{requestHeads} and L{responseHeads} are the caches to parse with.

httptools parses field lines.  The request line and the status line are parsed here, so that
methods which llhttp does not know can pass.

All clients share what is cached: it must never change, and must depend on its bytes alone.
Limits are checked before, in L{framing<sitio.http.framing>}.

Malformed or ambiguous heads raise L{BadMessage} or a subclass, and are not cached.

A section without the name of an RFC is one of RFC 9112.
"""

from __future__ import annotations

import re
from typing import Any

import httptools

from sitio.errors import BadMessage, BadVersion, MethodRefused
from sitio.http.claims import CLAIM_FIELDS
from sitio.http.grammar import TOKEN, VALUE, listMembers, splitHost
from sitio.http.headers import MAX_SHARED_BYTES, FieldLines
from sitio.http.marks import LOOP
from sitio.http.message import RequestLine
from sitio.http.overrides import foldedName
from sitio.http.parsecache import MAX_CACHED, ParseCache

Fields = list[tuple[bytes, bytes]]

# The meaning that a field line has for a reader, by its name.
PLAIN = ""  # None: the line is forwarded as received.
HOST = "Host"
CONTENT_LENGTH = "Content-Length"
TRANSFER_ENCODING = "Transfer-Encoding"
CONNECTION = "Connection"
UPGRADE = "Upgrade"
FORWARDED = "a claim of a proxy"
MARKED = "the mark of a proxy that the request has passed"
DROPPED = "hop-by-hop, without a meaning for sitio"

RESPONSE_MEANINGS = {
    b"connection": CONNECTION,
    b"content-length": CONTENT_LENGTH,
    b"keep-alive": DROPPED,
    b"proxy-connection": DROPPED,
    b"te": DROPPED,
    b"transfer-encoding": TRANSFER_ENCODING,
    b"upgrade": UPGRADE,
}
REQUEST_MEANINGS = {
    **RESPONSE_MEANINGS,
    b"host": HOST,
    **dict.fromkeys(CLAIM_FIELDS, FORWARDED),
    LOOP: MARKED,
}


def isFolded(name: bytes) -> bool:
    """
    Whether CGI and WSGI read this name as that of a field which sitio sets or removes
    itself: claims of proxies, and fields of framing and connections.

    They read all spellings as one name (L{foldedName}): C{X_Forwarded_For} would be a claim
    beside sitio's own, and C{Content_Length} a length beside the true one.
    """
    folded = foldedName(name)
    return folded in REQUEST_MEANINGS and folded != name.lower()


#: Fields that a reader acts on; they can't be trailers.
SPECIAL_FIELDS = REQUEST_MEANINGS.keys() | {b"expect"}

#: Meanings of lines that are not forwarded.
_NOT_FORWARDED = frozenset((CONNECTION, TRANSFER_ENCODING, UPGRADE, DROPPED))

#: Names in Connection that remove no field: those of its own options, and of fields without
#: which the message would be another one.
_NEVER_REMOVED = frozenset(
    (b"close", b"keep-alive", b"upgrade", b"te", b"", b"host", b"content-length")
)

# Section 3: method, one space, target, one space, version.  A target is visible ASCII
# without a fragment.
_requestLine = re.compile(rf"({TOKEN}) ([!\x22$-~]+) HTTP/1\.([01])".encode()).fullmatch
_otherVersion = re.compile(rf"{TOKEN} [!-~]+ HTTP/([0-9]\.[0-9])".encode()).fullmatch
# Section 4.  Some upstreams send neither a reason nor the space before it.
_statusLine = re.compile(
    rf"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: ({VALUE}))?".encode("latin-1")
).fullmatch
_absolute = re.compile(r"(https?)://([^/?#]+)([^#]*)", re.IGNORECASE).fullmatch
_date = re.compile(rb"^date:", re.IGNORECASE | re.MULTILINE).search
_length = re.compile(rb"[0-9]{1,18}").fullmatch


class _Collector:
    """Collects the fields that httptools finds."""

    __slots__ = ("fields",)

    def __init__(self) -> None:
        self.fields: Fields = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name, value))


def parseFields(lines: bytes) -> Fields:
    """
    Name and value of each field line.

    @param lines: each with its line end.

    @raise BadMessage: httptools can't parse a line.
    """
    collector = _Collector()
    try:
        httptools.HttpRequestParser(collector).feed_data(b"GET / HTTP/1.1\r\n%b\r\n" % lines)
    except httptools.HttpParserUpgrade:
        pass  # It was parsed to its end.
    except httptools.HttpParserError as error:
        raise BadMessage(f"a field that can't be parsed ({error})") from error
    return collector.fields


class SpecialLine:
    """
    A field line that a reader acts on, or that is not forwarded as received.

    @ivar meaning: one of the meanings above.
    @ivar value: its value; a number or a list, depending on the meaning.
    @ivar line: the line as received.
    @ivar sentAs: the line as forwarded, or L{None} if it is not.
    @ivar pair: name and value.
    """

    __slots__ = ("line", "meaning", "pair", "sentAs", "value")

    def __init__(self, meaning: str, line: bytes, name: bytes, value: bytes) -> None:
        """@raise BadMessage: the value is malformed, or not supported."""
        self.meaning = meaning
        self.line = line
        self.value: Any = value.strip(b" \t")
        if meaning is CONTENT_LENGTH:
            if not _length(self.value):
                raise BadMessage("a Content-Length that is not a number")
            # Written again, so that the upstream gets no leading zeros.
            self.value = int(self.value)
            value = b"%d" % self.value
        elif meaning is TRANSFER_ENCODING and self.value.lower() != b"chunked":
            # Implementations differ in how they read anything else (section 6.1).
            raise BadMessage("a Transfer-Encoding other than chunked")
        elif meaning is CONNECTION:
            self.value = listMembers(value)
        elif meaning is HOST and splitHost(self.value.decode("latin-1")) is None:
            raise BadMessage("a malformed Host")
        self.pair = (name, value)
        self.sentAs = None if meaning in _NOT_FORWARDED else b"%b: %b" % self.pair


#: A parsed field line: for most a tuple of name and value, for others a L{SpecialLine}.
ParsedLine = Any


class _LineCache(dict[bytes, ParsedLine]):
    """Parsed field lines, by the line.  Bounded by L{MAX_CACHED}, and emptied as a whole."""

    def __init__(self, meanings: dict[bytes, str], dropsFolded: bool) -> None:
        """
        @param meanings: by the name of a field, in lower case.
        @param dropsFolded: whether fields are dropped whose name L{isFolded}.
        """
        self._meanings = meanings
        self._dropsFolded = dropsFolded

    def parse(self, lines: list[bytes]) -> list[ParsedLine]:
        """Parse lines.  Those that are not cached are parsed in one call of httptools."""
        new = [line for line in lines if line not in self]
        if not new:
            return list(map(self.__getitem__, lines))
        if len(self) + len(new) > MAX_CACHED:
            self.clear()
            new = lines
        pairs = parseFields(b"\r\n".join(new) + b"\r\n")
        if len(pairs) != len(new):
            raise BadMessage("a field that can't be parsed")
        try:
            for line, pair in zip(new, pairs):
                meaning = self._meanings.get(pair[0].lower(), PLAIN)
                if self._dropsFolded and isFolded(pair[0]):
                    meaning = DROPPED
                asReceived = not meaning and line == b"%b: %b" % pair
                self[line] = pair if asReceived else SpecialLine(meaning, line, *pair)
            return list(map(self.__getitem__, lines))
        finally:
            for line in new:
                if len(line) > MAX_SHARED_BYTES:
                    self.pop(line, None)


class HeadFields:
    """
    All field lines of a head, parsed.

    @ivar lines: those that are forwarded.
    @ivar host: the value of Host, or L{None}.
    @ivar length: the value of Content-Length, or L{None}.
    @ivar chunked: whether there is a Transfer-Encoding.
    @ivar keepAlive: whether the connection may be used again, for HTTP/1.0 and HTTP/1.1.
    @ivar upgrade: the protocols in Upgrade, or L{None}.
    @ivar switches: whether Connection has the option C{upgrade}.
    @ivar forwarded: whether there are claims of proxies (L{CLAIM_FIELDS}); L{MARKED} if one
        has left its mark.
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

    def __init__(self, data: bytes, cache: _LineCache) -> None:
        """
        @param data: the lines, separated by line ends.

        @raise BadMessage: a line is malformed, or a field is repeated that must be unique.
        """
        self.host: bytes | None = None
        self.length: int | None = None
        self.upgrade: bytes | None = None
        self.chunked = self.switches = False
        self.forwarded: bool | str = False
        self.keepAlive = (False, True)
        lines = data.split(b"\r\n") if data else []
        fields = cache.parse(lines)
        options: list[bytes] = []
        named: frozenset[bytes] = frozenset()
        for each in [each for each in fields if type(each) is SpecialLine]:
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
                self.forwarded = self.forwarded or True
            elif meaning is MARKED:
                self.forwarded = MARKED
            if each.sentAs != each.line:
                at = lines.index(each.line)
                if each.sentAs is None:
                    del lines[at], fields[fields.index(each)]
                else:
                    lines[at] = each.sentAs
        if options:
            closes = b"close" in options
            self.keepAlive = (not closes and b"keep-alive" in options, not closes)
            self.switches = b"upgrade" in options
            # RFC 9110, section 7.6.1: fields that Connection names are not forwarded.
            named = frozenset(options) - _NEVER_REMOVED
            if named:
                lines = [each for each in lines if each.partition(b":")[0].lower() not in named]
        data = b"\r\n".join(lines) + b"\r\n" if lines else b""
        pairs = [each.pair if type(each) is SpecialLine else each for each in fields]
        if len(pairs) != len(lines):
            pairs = [each for each in pairs if each[0].lower() not in named]
        self.lines = FieldLines(data, self.length, pairs)


def _fieldsCache(meanings: dict[bytes, str], dropsFolded: bool = False) -> ParseCache:
    """A cache of L{HeadFields}."""
    lines = _LineCache(meanings, dropsFolded)
    return ParseCache(lambda data: HeadFields(data, lines))


class Head:
    """
    A parsed head.  It never changes, and is shared by all messages with the same bytes.

    @ivar version: C{"1.0"} or C{"1.1"}.
    @ivar keepAlive: whether the connection may be used again, unless its end is the end of
        the body.
    @ivar lines: the field lines that are forwarded.
    @ivar chunked: whether the body comes in chunks (section 6.3).
    @ivar length: the Content-Length, or L{None}.
    @ivar upgrade: the protocols to switch to, or L{None}.
    """

    __slots__ = ("chunked", "keepAlive", "length", "lines", "upgrade", "version")

    def __init__(self, fields: HeadFields, isHTTP11: bool) -> None:
        """@raise BadMessage: the fields have two framings, or chunks in HTTP/1.0."""
        self.version = "1.1" if isHTTP11 else "1.0"
        self.keepAlive = fields.keepAlive[isHTTP11]
        self.lines = fields.lines
        self.upgrade = fields.upgrade
        self.length = fields.length
        self.chunked = fields.chunked
        if fields.chunked and fields.length is not None:
            raise BadMessage("Content-Length beside Transfer-Encoding")
        if fields.chunked and not isHTTP11:
            raise BadMessage("Transfer-Encoding in HTTP/1.0")


def _parseRequestLine(line: bytes) -> tuple[RequestLine, bool]:
    """The request line, and whether the version is HTTP/1.1."""
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


def _parseStatusLine(line: bytes) -> tuple[int, str, bool]:
    """Status, reason, and whether the version is HTTP/1.1."""
    found = _statusLine(line)
    if found is None:
        raise BadMessage("a malformed status line")
    minor, status, reason = found.groups()
    return int(status), (reason or b"").decode("latin-1"), minor == b"1"


_requestLines = ParseCache(_parseRequestLine)
_statusLines = ParseCache(_parseStatusLine)
_requestFields = _fieldsCache(REQUEST_MEANINGS, dropsFolded=True)
_foldedFields = _fieldsCache(REQUEST_MEANINGS)
_responseFields = _fieldsCache(RESPONSE_MEANINGS)


def _originForm(method: str, target: str, host: bytes | None) -> str:
    """The target in origin form, or C{*}, as services expect it (section 3.2)."""
    if target == "*" and method == "OPTIONS":
        return target
    absolute = _absolute(target)
    if absolute is None:
        raise BadMessage("a target that is neither a path nor an http URI")
    # Section 3.2.2 prefers the host of the target, but the upstream would use Host.
    # So a request with two different hosts is refused.
    scheme, authority, rest = absolute.groups()
    port = ":443" if scheme.lower() == "https" else ":80"
    if host is None or splitHost(authority) is None:
        raise BadMessage("a target in absolute form without Host, or with a malformed host")
    expected = host.decode("ascii").lower().removesuffix(port)
    if authority.lower().removesuffix(port) != expected:
        raise BadMessage("a target in absolute form with another host than Host")
    if not rest and method == "OPTIONS":
        return "*"
    return rest if rest[:1] == "/" else "/" + rest


class RequestHead(Head):
    """
    The head of a request.

    @ivar line: method and target.
    @ivar host: the value of Host; L{None} for an HTTP/1.0 request without it.
    @ivar forwarded: whether it has claims of proxies; L{MARKED} if one has left its mark.
    """

    __slots__ = ("forwarded", "host", "line")

    def __init__(self, data: bytes, parsed: ParseCache = _requestFields) -> None:
        first, _, lines = data.partition(b"\r\n")
        line, isHTTP11 = _requestLines[first]
        fields = parsed[lines]
        self.host = fields.host
        self.forwarded = fields.forwarded
        if fields.host is None and isHTTP11:
            raise BadMessage("no Host")
        if line.target[0] != "/":
            line = RequestLine(line.method, _originForm(line.method, line.target, fields.host))
        self.line = line
        Head.__init__(self, fields, isHTTP11)
        # RFC 9110, sections 7.8 and 10.1.1: Upgrade and Expect mean nothing in HTTP/1.0.
        if not isHTTP11:
            kept = [each for each in fields.lines.fields if each[0].lower() != b"expect"]
            self.lines = FieldLines.of(kept, fields.length)
        # After an upgrade to HTTP/2 the policies would not see the requests.
        if not isHTTP11 or not fields.switches or b"h2c" in listMembers(fields.upgrade or b""):
            self.upgrade = None


class ResponseHead(Head):
    """
    The head of a response.

    @ivar status: the status code.
    @ivar reason: the reason phrase, perhaps C{""}.
    @ivar bodiless: whether the status allows no body (section 6.3, rule 1).
    """

    __slots__ = ("bodiless", "reason", "status")

    def __init__(self, data: bytes) -> None:
        first, _, lines = data.partition(b"\r\n")
        self.status, self.reason, isHTTP11 = _statusLines[first]
        Head.__init__(self, _responseFields[lines], isHTTP11)
        self.bodiless = self.status in (204, 304)
        if self.length is not None and (self.status < 200 or self.status == 204):
            # RFC 9110, section 8.6: these responses must not have a Content-Length.
            kept = [each for each in self.lines.fields if each[0].lower() != b"content-length"]
            self.lines = FieldLines.of(kept)
            self.length = None
        raw = self.lines.raw
        # The first search is a faster one, which most responses pass.
        self.lines.isDated = b"\nDate: " in raw or _date(raw) is not None


#: The head of a request by its bytes, without the empty line: a L{RequestHead}.
requestHeads = ParseCache(RequestHead)

#: The same, with the fields that L{isFolded} finds.
foldedHeads = ParseCache(lambda data: RequestHead(data, _foldedFields))

#: The head of a response by its bytes, without the empty line: a L{ResponseHead}.
responseHeads = ParseCache(ResponseHead)
