"""
Parses heads: L{HeadReader}.

A head is read once, and nothing of it is kept: not the head, not a line, not a value.  A few
searches over all of its bytes check the lines and find their names; only lines that a proxy
acts on are looked at one by one.  What goes on goes on as the bytes that came.

Malformed or ambiguous heads raise L{BadMessage} or a subclass.

A section without the name of an RFC is one of RFC 9112.
"""

from __future__ import annotations

import re
from typing import ClassVar

from sitio.errors import BadMessage, BadVersion, HeadTooLong, MethodRefused
from sitio.http.claims import CLAIM_FIELDS
from sitio.http.grammar import TOKEN, VALUE, VALUE_BYTES, hostValue, listMembers, splitHost
from sitio.http.headers import FRAMING_NAMES, Headers
from sitio.http.limits import Limits
from sitio.http.lines import Pairs, keyOf, keysIn, spansOf, without
from sitio.http.marks import LOOP
from sitio.http.memo import Memo
from sitio.http.overrides import foldedName

#: Names and values of trailers.
Fields = Pairs

#: What L{HeadReader.forwarded} is for a request that a proxy has marked.
MARKED = "the mark of a proxy that the request has passed"

_HOP_BY_HOP = FRAMING_NAMES - {b"content-length"}

# Fields that sitio sets or removes.
_OWN_FIELDS = _HOP_BY_HOP | CLAIM_FIELDS | {b"content-length", b"host", LOOP}

#: Fields that a reader acts on; they can't be trailers.
SPECIAL_FIELDS = _OWN_FIELDS | {b"expect"}

_HOST, _LENGTH, _CODING = map(keyOf, (b"host", b"content-length", b"transfer-encoding"))
_CONNECTION, _UPGRADE, _LOOP = map(keyOf, (b"connection", b"upgrade", LOOP))

# What most clients and services say after this key.
_KEEP_ALIVE = b" keep-alive\r"

# The keys of lines that are cut.
_CUT = frozenset(map(keyOf, _HOP_BY_HOP))
#: The keys of lines that are looked at.
OF_RESPONSES = _CUT | {_LENGTH}
OF_REQUESTS = frozenset(map(keyOf, _OWN_FIELDS))

_CLAIMS = frozenset(map(keyOf, CLAIM_FIELDS | {LOOP}))

#: Names in Connection that remove no field: those of its own options, and of fields without
#: which the message would be another one.
_NEVER_REMOVED = frozenset(
    (b"close", b"keep-alive", b"upgrade", b"te", b"", b"host", b"content-length")
)

# Section 3: method, one space, target, one space, version.  A target is visible ASCII
# without a fragment.
_requestLine = re.compile(rf"({TOKEN}) ([!\x22$-~]+) HTTP/1\.([01])\r\n".encode()).match
_otherVersion = re.compile(rf"{TOKEN} [!-~]+ HTTP/([0-9]\.[0-9])\r\n".encode()).match
# Section 4.  Some upstreams send neither a reason nor the space before it.
_statusLine = re.compile(
    rf"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: ({VALUE}))?".encode("latin-1")
).fullmatch
_absolute = re.compile(r"(https?)://([^/?#]+)([^#]*)", re.IGNORECASE).fullmatch

# The keys of lines whose names have only letters, digits and hyphens.
_plainKeys = re.compile(rb"\r(\n[a-z0-9\-]++:)").findall

# Digits of a Content-Length.
_MAX_DIGITS = 18


def isFolded(name: bytes) -> bool:
    """
    Whether CGI and WSGI read this name as that of a field which sitio sets or removes
    itself: claims of proxies, and fields of framing and connections.

    They read all spellings as one name (L{foldedName}): C{X_Forwarded_For} would be a claim
    beside sitio's own, and C{Content_Length} a length beside the true one.
    """
    folded = foldedName(name)
    return folded in _OWN_FIELDS and folded != name.lower()


def checkedKeys(lines: bytes, lowered: bytes, maxFields: int) -> list[bytes]:
    """
    The key of each line, once all of them are checked.

    @param lines: field lines in wire form (L{sitio.http.lines}).
    @param lowered: the same in lower case.

    @raise HeadTooLong: more lines than the limit.
    @raise BadMessage: a line is malformed.
    """
    count = lines.count(b"\n") - 1
    if count > maxFields:
        raise HeadTooLong(f"more than {maxFields} fields")
    keys: list[bytes] = keysIn(lowered)
    if len(keys) != count or lines.translate(None, VALUE_BYTES) != b"\r\n" * (count + 1):
        raise BadMessage("a field that can't be parsed")
    return keys


class HeadReader:
    """
    Reads the field lines of one message after another, and what they say of it.

    @ivar host: the value of Host, or L{None}.
    @ivar length: the Content-Length, or L{None}.
    @ivar chunked: whether the body comes in chunks (section 6.3).
    @ivar keepAlive: whether the connection may be used again after this message (section
        9.3), unless its end is the end of the body.
    @ivar upgrade: the protocols to switch to, or L{None}.
    @ivar forwarded: whether there are claims of proxies (L{CLAIM_FIELDS}); L{MARKED} if one
        has left its mark.
    """

    __slots__ = ("_limits", "chunked", "forwarded", "host", "keepAlive", "length", "upgrade")

    # The keys of the lines that are looked at.
    _special: ClassVar[frozenset[bytes]] = OF_RESPONSES
    _headersType: ClassVar[type[Headers]] = Headers

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.host: bytes | None = None
        self.length: int | None = None
        self.upgrade: bytes | None = None
        self.chunked = self.keepAlive = False
        self.forwarded: bool | str = False

    def _readFields(self, lines: bytes, isHTTP11: bool) -> Headers:
        """
        The fields that are forwarded; the attributes have what else the lines say.

        @param lines: all field lines of a head in wire form.

        @raise HeadTooLong: more lines than the limit.
        @raise BadMessage: a line is malformed, a field is repeated that must be unique, or the
            message has two framings, or chunks in HTTP/1.0.
        """
        lowered = lines.lower()
        keys: list[bytes] = _plainKeys(lowered)
        count = len(keys)
        # A line end before each name, one at the end, and no other control character.
        isPlain = lines.translate(None, VALUE_BYTES) == b"\r\n" * (count + 1)
        if not isPlain or count > self._limits.fields:
            lines, lowered, keys = self._oddLines(lines, lowered)
        self.host = self.length = self.upgrade = None
        self.chunked = self.forwarded = False
        self.keepAlive = isHTTP11
        options = b""
        isLengthPlain = True
        cut: list[tuple[int, int]] = []
        special = [*filter(self._special.__contains__, keys)]
        once = frozenset(special)
        for key in once:
            at = lowered.find(key)
            isUnique = len(once) == len(special) or special.count(key) == 1
            if key == _HOST:
                found = hostValue(lines, at + 6)
                if found is None or not isUnique:
                    raise BadMessage("a malformed Host, or more than one")
                self.host = found[1]
            elif key == _CONNECTION and isUnique and lowered.startswith(_KEEP_ALIVE, at + 12):
                self.keepAlive = True
                cut.append((at + 1, at + 25))
            elif key == _LENGTH:
                if not isUnique:
                    raise BadMessage("more than one Content-Length")
                isLengthPlain = self._readLength(lowered[at + 16 : lowered.find(b"\r", at)])
            elif key in _CUT:
                spans = spansOf(key, lowered)
                cut += spans
                value = self._readHopByHop(key, lines, spans)
                if key == _CONNECTION:
                    options = value.lower()
            else:
                self.forwarded = MARKED if key == _LOOP else self.forwarded or True
        if options or self.upgrade is not None or self.chunked:
            keys = self._judge(options, isHTTP11, lowered, keys, cut)
        if cut:
            start, end = cut[0]
            # Most often it is only Connection.
            lines = lines[:start] + lines[end:] if len(cut) == 1 else without(lines, cut)
        if not isLengthPlain:
            # Written again, so that the upstream gets no leading zeros.
            lines = Headers.fromLines(lines).encoded(self.length)
        headers = self._headersType.fromLines(lines, self.length, keys)
        headers.isPlain = isPlain
        return headers

    def _oddLines(self, lines: bytes, lowered: bytes) -> tuple[bytes, bytes, list[bytes]]:
        """
        Check lines of which some have names of other characters, or are malformed.

        @return: the lines without those that L{isFolded} finds in a request, the same in lower
            case, and their keys.
        """
        keys = checkedKeys(lines, lowered, self._limits.fields)
        if self._special is OF_REQUESTS and not self._limits.keepsFolded:
            folded = frozenset(each for each in keys if isFolded(each[1:-1]))
            if folded:
                lines = without(lines, [at for key in folded for at in spansOf(key, lowered)])
                lowered = lines.lower()
                keys = [each for each in keys if each not in folded]
        return lines, lowered, keys

    def _readLength(self, value: bytes) -> bool:
        """Whether the value is written as sitio writes it."""
        digits = value.strip(b" \t")
        if not digits.isdigit() or len(digits) > _MAX_DIGITS:
            raise BadMessage("a Content-Length that is not a number")
        self.length = int(digits)
        return value == b" %d" % self.length

    def _readHopByHop(self, key: bytes, lines: bytes, spans: list[tuple[int, int]]) -> bytes:
        """The value of the lines with this key."""
        values = [lines[start + len(key) - 1 : end - 2] for start, end in spans]
        if key == _CODING:
            # Implementations differ in how they read anything else (section 6.1), such as a
            # tab behind it.
            if [each.lstrip(b" \t").rstrip(b" ").lower() for each in values] != [b"chunked"]:
                raise BadMessage("a Transfer-Encoding other than chunked")
            self.chunked = True
        value = b", ".join([each.strip(b" \t") for each in values])
        if key == _UPGRADE:
            self.upgrade = value
        return value

    def _judge(
        self,
        options: bytes,
        isHTTP11: bool,
        lowered: bytes,
        keys: list[bytes],
        cut: list[tuple[int, int]],
    ) -> list[bytes]:
        """
        Judge what the fields of framing and of the connection say together.

        @param options: those of Connection, in lower case.
        @param cut: gets the lines of the fields that they name, which are not forwarded (RFC
            9110, section 7.6.1).

        @return: the keys that are left.
        """
        if self.chunked and (self.length is not None or not isHTTP11):
            raise BadMessage("Transfer-Encoding beside Content-Length, or in HTTP/1.0")
        members = frozenset(listMembers(options))
        if b"close" in members:
            self.keepAlive = False
        elif b"keep-alive" in members:
            self.keepAlive = True
        if self.upgrade is not None and self._special is OF_REQUESTS:
            # It means nothing in HTTP/1.0 (RFC 9110, section 7.8).  After one to HTTP/2,
            # policies would not see the requests.
            isAsked = isHTTP11 and b"upgrade" in members
            if not isAsked or b"h2c" in listMembers(self.upgrade):
                self.upgrade = None
        named = frozenset(map(keyOf, members - _NEVER_REMOVED)).intersection(keys) - _CUT
        if not named:
            return keys
        cut += [span for key in named for span in spansOf(key, lowered)]
        return [each for each in keys if each not in named]


# --- First lines


def parseRequestLine(data: bytes) -> tuple[str, str, bool, int]:
    """
    Method, target, whether the version is HTTP/1.1, and where the line's own end begins.

    @param data: a head, with the end of its last line.

    @raise BadVersion: a version other than HTTP/1.0 and HTTP/1.1.
    @raise MethodRefused: CONNECT.
    @raise BadMessage: a malformed line.
    """
    found = _requestLine(data)
    if found is None:
        other = _otherVersion(data)
        if other is not None and other[1] not in (b"1.0", b"1.1"):
            raise BadVersion("a version other than HTTP/1.0 and HTTP/1.1")
        raise BadMessage("a malformed request line")
    method, target, minor = found.groups()
    if method == b"CONNECT":
        raise MethodRefused("the method CONNECT")
    return method.decode("ascii"), target.decode("ascii"), minor == b"1", found.end() - 2


class _StatusLines(Memo[bytes, tuple[int, str, bool]]):
    """Status, reason, and whether it is HTTP/1.1, by status line: a service sends a few."""

    most = 256
    longest = 64

    def __missing__(self, line: bytes) -> tuple[int, str, bool]:
        found = _statusLine(line)
        if found is None:
            raise BadMessage("a malformed status line")
        minor, status, reason = found.groups()
        return self.keep(line, (int(status), (reason or b"").decode("latin-1"), minor == b"1"))


#: Status lines by their bytes, without line end; C{statusLines[line]} parses, and raises
#: L{BadMessage}.
statusLines = _StatusLines()


def originForm(method: str, target: str, host: bytes | None) -> str:
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
