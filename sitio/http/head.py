"""
Parses heads: L{readFields}.

A head is read once, and nothing of it is kept: not the head, not a line, not a value.  A few
searches over all of its bytes check the lines and find their names; only lines that a proxy
acts on are looked at one by one.  What goes on goes on as the bytes that came.

Malformed or ambiguous heads raise L{BadMessage} or a subclass.

A section without the name of an RFC is one of RFC 9112.
"""

from __future__ import annotations

import re

from sitio.errors import BadMessage, BadVersion, HeadTooLong, MethodRefused
from sitio.http.claims import CLAIM_FIELDS
from sitio.http.grammar import TOKEN, VALUE, VALUE_BYTES, hostLine, listMembers, splitHost
from sitio.http.headers import FRAMING_NAMES, Headers, RequestHeaders
from sitio.http.limits import Limits
from sitio.http.lines import Pairs, keyOf, keysIn, spansOf, without
from sitio.http.marks import LOOP
from sitio.http.memo import Memo
from sitio.http.overrides import foldedName

#: Names and values of trailers.
Fields = Pairs

#: What is read of the fields of a message: those that are forwarded; the value of Host, or
#: L{None}; the Content-Length, or L{None}; whether the body comes in chunks (section 6.3);
#: whether the connection may be used again after this message (section 9.3), unless its end is
#: the end of the body; the protocols to switch to, or L{None}; whether there are claims of
#: proxies (L{CLAIM_FIELDS}), or L{MARKED} if one has left its mark.
ReadFields = tuple[Headers, bytes | None, int | None, bool, bool, bytes | None, bool | str]

#: What L{readFields} says of the claims of a request that a proxy has marked.
MARKED = "the mark of a proxy that the request has passed"

_HOP_BY_HOP = FRAMING_NAMES - {b"content-length"}

# Fields that sitio sets or removes.
_OWN_FIELDS = _HOP_BY_HOP | CLAIM_FIELDS | {b"content-length", b"host", LOOP}

#: Fields that a reader acts on; they can't be trailers.
SPECIAL_FIELDS = _OWN_FIELDS | {b"expect"}

_HOST, _LENGTH, _CODING = map(keyOf, (b"host", b"content-length", b"transfer-encoding"))
_CONNECTION, _UPGRADE, _LOOP = map(keyOf, (b"connection", b"upgrade", LOOP))

# Whether the connection stays, by what most clients and services say after this key.
_ONE_OPTION = {b" keep-alive": True, b" close": False}

# The keys of lines that are cut.
_CUT = frozenset(map(keyOf, _HOP_BY_HOP))
# Whether lines with a key are looked at.
_isOfResponses = (_CUT | {_LENGTH}).__contains__
_isOfRequests = frozenset(map(keyOf, _OWN_FIELDS)).__contains__

#: Names in Connection that remove no field: those of its own options, and of fields without
#: which the message would be another one.
_NEVER_REMOVED = frozenset(
    (b"close", b"keep-alive", b"upgrade", b"te", b"", b"host", b"content-length")
)

# Section 3: method, one space, target, one space, version.  A target is visible ASCII
# without a fragment.
_requestLine = re.compile(rf"(({TOKEN}) ([!\x22$-~]+) HTTP/1\.([01]))(?:\r\n|\Z)".encode()).match
_otherVersion = re.compile(rf"{TOKEN} [!-~]+ HTTP/([0-9]\.[0-9])(?:\r\n|\Z)".encode()).match
# Section 4.  Some upstreams send neither a reason nor the space before it.
_statusLine = re.compile(
    rf"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: ({VALUE}))?".encode("latin-1")
).fullmatch
_absolute = re.compile(r"(https?)://([^/?#]+)([^#]*)", re.IGNORECASE).fullmatch

# The keys of lines whose names have only letters, digits and hyphens.
_plainKeys = re.compile(rb"\r(\n[a-z0-9\-]++:)").findall

# Digits of a Content-Length.
_MAX_DIGITS = 18
_ZERO = ord("0")


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


def readFields(lines: bytes, isHTTP11: bool, limits: Limits, isRequest: bool = False) -> ReadFields:
    """
    Read the fields of one message, and what they say of it.

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
    if not isPlain or count > limits.fields:
        lines, lowered, keys = _oddLines(lines, lowered, limits, isRequest)
    host = length = upgrade = None
    chunked, keepAlive, isLengthPlain = False, isHTTP11, True
    forwarded: bool | str = False
    cut: list[tuple[int, int]] = []
    others: list[bytes] = []
    special = [*filter(_isOfRequests if isRequest else _isOfResponses, keys)]
    for key in frozenset(special):
        if key == _HOST:
            found = hostLine(lines)
            if found is None or special.count(key) > 1:
                raise BadMessage("a malformed Host, or more than one")
            host = found[1]
            continue
        before, _, rest = lowered.partition(key)
        value = rest.partition(b"\r")[0]
        if key == _CONNECTION and value in _ONE_OPTION and special.count(key) == 1:
            keepAlive = _ONE_OPTION[value]
            cut.append((len(before) + 1, len(before) + 14 + len(value)))
        elif key == _LENGTH:
            if special.count(key) > 1:
                raise BadMessage("more than one Content-Length")
            length, isLengthPlain = _readLength(value)
        elif key in _CUT:
            others.append(key)
        else:
            forwarded = MARKED if key == _LOOP else forwarded or True
    if others:
        values = {key: _valuesOf(key, lines, lowered, cut) for key in others}
        chunked = _isChunked(values.get(_CODING), length, isHTTP11)
        keepAlive, upgrade, named = _judge(values, keepAlive, isHTTP11, isRequest)
        if not named.isdisjoint(keys):
            cut += [span for key in named.intersection(keys) for span in spansOf(key, lowered)]
            keys = [each for each in keys if each not in named]
    if cut:
        start, end = cut[0]  # Most often it is only Connection.
        lines = lines[:start] + lines[end:] if len(cut) == 1 else without(lines, cut)
    if not isLengthPlain:
        # Written again, so that the upstream gets no leading zeros.
        lines = Headers.fromLines(lines).encoded(length)
    headers = (RequestHeaders if isRequest else Headers).fromLines(lines, length, keys)
    headers.isPlain = isPlain
    return headers, host, length, chunked, keepAlive, upgrade, forwarded


def _oddLines(
    lines: bytes, lowered: bytes, limits: Limits, isRequest: bool
) -> tuple[bytes, bytes, list[bytes]]:
    """
    Check lines of which some have names of other characters, or are malformed.

    @return: the lines without those that L{isFolded} finds in a request, the same in lower
        case, and their keys.
    """
    keys = checkedKeys(lines, lowered, limits.fields)
    if isRequest and not limits.keepsFolded:
        folded = frozenset(each for each in keys if isFolded(each[1:-1]))
        if folded:
            lines = without(lines, [at for key in folded for at in spansOf(key, lowered)])
            lowered = lines.lower()
            keys = [each for each in keys if each not in folded]
    return lines, lowered, keys


def _readLength(value: bytes) -> tuple[int, bool]:
    """A Content-Length, and whether it is written as sitio writes it."""
    digits = value.strip(b" \t")
    if not digits.isdigit() or len(digits) > _MAX_DIGITS:
        raise BadMessage("a Content-Length that is not a number")
    return int(digits), value == b" " + digits and (digits[0] != _ZERO or len(digits) == 1)


def _valuesOf(key: bytes, lines: bytes, lowered: bytes, cut: list[tuple[int, int]]) -> list[bytes]:
    """The value of each line with this key, blanks included; C{cut} gets the lines."""
    spans = spansOf(key, lowered)
    cut += spans
    return [lines[start + len(key) - 1 : end - 2] for start, end in spans]


def _isChunked(codings: list[bytes] | None, length: int | None, isHTTP11: bool) -> bool:
    """Whether a message with these values of Transfer-Encoding comes in chunks."""
    if codings is None:
        return False
    # Implementations differ in how they read anything else (section 6.1), such as a tab behind
    # it.
    if [each.lstrip(b" \t").rstrip(b" ").lower() for each in codings] != [b"chunked"]:
        raise BadMessage("a Transfer-Encoding other than chunked")
    if length is not None or not isHTTP11:
        raise BadMessage("Transfer-Encoding beside Content-Length, or in HTTP/1.0")
    return True


def _judge(
    values: dict[bytes, list[bytes]], keepAlive: bool, isHTTP11: bool, isRequest: bool
) -> tuple[bool, bytes | None, frozenset[bytes]]:
    """
    Judge what the fields of a connection say together.

    @param values: theirs, by key.
    @param keepAlive: what the version says, or one option of Connection that is not among them.

    @return: whether the connection may be used again, the protocols to switch to, and the keys
        of fields that Connection names: they are not forwarded (RFC 9110, section 7.6.1).
    """
    members = frozenset(listMembers(b",".join(values.get(_CONNECTION, ()))))
    if b"close" in members:
        keepAlive = False
    elif b"keep-alive" in members:
        keepAlive = True
    upgrade = None
    if _UPGRADE in values:
        upgrade = b", ".join([each.strip(b" \t") for each in values[_UPGRADE]])
        # It means nothing in HTTP/1.0 (RFC 9110, section 7.8).  After one to HTTP/2, policies
        # would not see the requests.
        isAsked = isHTTP11 and b"upgrade" in members
        if isRequest and (not isAsked or b"h2c" in listMembers(upgrade)):
            upgrade = None
    return keepAlive, upgrade, frozenset(map(keyOf, members - _NEVER_REMOVED)) - _CUT


# --- First lines


def parseRequestLine(head: bytes) -> tuple[bytes, str, str, bool]:
    """
    The line itself, method, target, and whether the version is HTTP/1.1.

    @param head: without its last two line ends.

    @raise BadVersion: a version other than HTTP/1.0 and HTTP/1.1.
    @raise MethodRefused: CONNECT.
    @raise BadMessage: a malformed line.
    """
    found = _requestLine(head)
    if found is None:
        other = _otherVersion(head)
        if other is not None and other[1] not in (b"1.0", b"1.1"):
            raise BadVersion("a version other than HTTP/1.0 and HTTP/1.1")
        raise BadMessage("a malformed request line")
    line, method, target, minor = found.groups()
    if method == b"CONNECT":
        raise MethodRefused("the method CONNECT")
    return line, method.decode("ascii"), target.decode("ascii"), minor == b"1"


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
