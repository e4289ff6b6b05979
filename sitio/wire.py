"""
Bytes to messages and back: the heads of requests and replies, read and written.

Pure: nothing here knows a transport, a clock or another message than the one
at hand.  L{framing<sitio.framing>} states the contract of a reader, and reads
fields and bodies.  The request line and the status line are read here, so that
methods unknown to llhttp pass.

RFC 9112 is meant where a section stands without a name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import httptools

from sitio.errors import (
    BadMessage,
    BadReply,
    BadVersion,
    BodyTooLong,
    MethodRefused,
    Reached,
    UpstreamLost,
)
from sitio.framing import (
    ENDED,
    FIRST,
    HEAD,
    SPECIAL,
    TUNNEL,
    UNTIL_CLOSE,
    Fields,
    Limits,
    Reader,
)
from sitio.message import Headers, Request, Response, reasonFor

#: Empty lines tolerated before a request line; one is asked for (section 2.2).
MAX_EMPTY_LINES = 4

# Section 3: method, one space, target, one space, version; nothing else.  A
# target is visible ASCII without a fragment.
_requestLine = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+) ([!\x22$-~]+) HTTP/1\.([01])\r\n").match
_otherVersion = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+ [!-~]+ HTTP/[0-9]\.[0-9]\r\n").match
# Section 4; the reason may be missing together with its space, as some send it.
_statusLine = re.compile(
    rb"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: ([\t\x20-\x7e\x80-\xff]*))?\r\n"
).match
_reason = re.compile(rb"[\t\x20-\x7e\x80-\xff]*").fullmatch
# RFC 9110, section 7.2, and RFC 3986, section 3.2.2; no user information.
_host = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9\-._~!$&'()*+,;=%]*)(?::([0-9]*))?").fullmatch
_absolute = re.compile(rb"(https?)://([^/?#]+)([^#]*)", re.IGNORECASE).fullmatch

#: Methods that httptools knows by name; for any other it is told POST.
_PARSED = frozenset((b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"TRACE"))

_FORWARDED = (b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto")
#: Connection options that name no field to be cut, and fields without which the
#: message would be another one: naming those in Connection cuts nothing.
_NOT_CUT = frozenset((b"close", b"keep-alive", b"upgrade", b"te", b"", b"host", b"content-length"))


def _tokens(value: bytes) -> list[bytes]:
    return [each.strip(b" \t") for each in value.lower().split(b",")]


class RequestReader(Reader):
    """
    Reads what a client sends.

    Raises L{BadMessage} and its kin, which are the client's fault.

    @ivar forwarded: whether the request at hand came with X-Forwarded fields.
    @ivar host: its Host, or L{None} for an HTTP/1.0 request without.
    """

    __slots__ = ("forwarded", "host")

    def __init__(self, limits: Limits) -> None:
        Reader.__init__(self, limits)
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
            raise MethodRefused("the method CONNECT")
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
            if name not in SPECIAL:
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


class ResponseReader(Reader):
    """
    Reads what an upstream sends.

    Raises L{BadReply}, and L{UpstreamLost} for a reply cut short: the
    upstream's fault.
    """

    __slots__ = ("_method",)

    def __init__(self, limits: Limits) -> None:
        Reader.__init__(self, limits)
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
            if name not in SPECIAL:
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
        version = "1.1" if minor == b"1" else "1.0"
        return Response.fromWire(status, reason, kept, announced, upgrade, version)

    def nextBody(self) -> bytes:
        """As L{Reader.nextBody}; raises L{BadReply}."""
        try:
            return Reader.nextBody(self)
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
    # 426 names what to upgrade to (RFC 9110, section 15.5.22).
    if response.status in (101, 426) and response.upgrade is not None:
        parts += (b"Connection: upgrade\r\nUpgrade: ", response.upgrade, b"\r\n")
    parts += (extra, b"\r\n")
    return b"".join(parts)


def chunk(data: bytes) -> bytes:
    """One chunk (section 7.1).  Empty data is none: a chunk of size 0 would end the body."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


def lastChunk(trailers: Iterable[tuple[bytes, bytes]] = ()) -> bytes:
    """The end of a chunked body, with its trailers."""
    return b"0\r\n" + b"".join(b"%b: %b\r\n" % each for each in trailers) + b"\r\n"
