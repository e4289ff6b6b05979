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
    MEANINGS,
    REQUEST_MEANINGS,
    TUNNEL,
    UNTIL_CLOSE,
    Limits,
    Memo,
    Reader,
    fieldsMemo,
    tokens,
)
from sitio.message import Headers, Request, Response, reasonFor

#: Empty lines tolerated before a request line; one is asked for (section 2.2).
MAX_EMPTY_LINES = 4

# Section 3: method, one space, target, one space, version; nothing else.  A
# target is visible ASCII without a fragment.
_requestLine = re.compile(
    rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+) ([!\x22$-~]+) HTTP/1\.([01])"
).fullmatch
_otherVersion = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+ [!-~]+ HTTP/([0-9]\.[0-9])").fullmatch
# Section 4; the reason may be missing together with its space, as some send it.
_statusLine = re.compile(
    rb"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: ([\t\x20-\x7e\x80-\xff]*))?"
).fullmatch
_reason = re.compile(rb"[\t\x20-\x7e\x80-\xff]*").fullmatch
# RFC 9110, section 7.2, and RFC 3986, section 3.2.2; no user information.
_host = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9\-._~!$&'()*+,;=%]*)(?::([0-9]*))?").fullmatch
_absolute = re.compile(r"(https?)://([^/?#]+)([^#]*)", re.IGNORECASE).fullmatch


def _readRequestLine(line: bytes) -> tuple[str, str, bool]:
    """Method, target and whether it is HTTP/1.1."""
    found = _requestLine(line)
    if found is None:
        other = _otherVersion(line)
        if other is not None and other[1] not in (b"1.0", b"1.1"):
            raise BadVersion("a version other than HTTP/1.0 and HTTP/1.1")
        raise BadMessage("a malformed request line")
    method, target, minor = found.groups()
    if method == b"CONNECT":
        raise MethodRefused("the method CONNECT")
    return method.decode("ascii"), target.decode("ascii"), minor == b"1"


def _readStatusLine(line: bytes) -> tuple[int, str, bool]:
    """Status, reason and whether it is HTTP/1.1."""
    found = _statusLine(line)
    if found is None:
        raise BadMessage("a malformed status line")
    minor, status, reason = found.groups()
    return int(status), (reason or b"").decode("latin-1"), minor == b"1"


_requestLines = Memo(_readRequestLine)
_statusLines = Memo(_readStatusLine)


def _isHost(host: bytes) -> bool:
    return _host(host) is not None


_hosts = Memo(_isHost)


class RequestReader(Reader):
    """
    Reads what a client sends.

    Raises L{BadMessage} and its kin, which are the client's fault.

    @ivar forwarded: whether the request at hand came with X-Forwarded fields.
    @ivar host: its Host, or L{None} for an HTTP/1.0 request without.
    """

    __slots__ = ("forwarded", "host")

    fields = fieldsMemo(REQUEST_MEANINGS)

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
        lines = self._takeHead(self._emptyLines())
        if lines is None:
            return None
        method, target, modern = _requestLines[lines.pop(0)]
        head = self._sort(lines)
        host = head.host
        if host is None:
            if modern:
                raise BadMessage("no Host")
        elif not _hosts[host]:
            raise BadMessage("a Host that names none")
        if target[0] != "/":
            target = self._originForm(method, target, host)
        self.host = host
        self.forwarded = head.forwarded
        self._passed = 0
        self.trailers = []
        self.state = ENDED
        self._frame(head, modern)
        length = head.length
        if length and self._limits.body is not None and length > self._limits.body:
            raise BodyTooLong(f"a body of more than {self._limits.body} octets")
        options = head.options
        self.keepAlive = modern if not options else (
            b"close" not in options and (modern or b"keep-alive" in options)
        )
        upgrade = head.upgrade
        if upgrade is not None and (
            not modern or b"upgrade" not in options or b"h2c" in tokens(upgrade)
        ):
            # HTTP/2 behind an upgrade would be requests that no policy sees.
            upgrade = None
        kept = head.lines
        if not modern:
            # RFC 9110, section 10.1.1: of no meaning in HTTP/1.0.
            kept = [each for each in kept if each[:7].lower() != b"expect:"]
        return Request(
            method,
            target,
            Headers.fromLines(kept, length),
            "1.1" if modern else "1.0",
            b"" if self.state is ENDED else None,
            length,
            upgrade,
        )

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

    def _originForm(self, method: str, target: str, host: bytes | None) -> str:
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
        if host is None or not _host(authority.encode("ascii")):
            raise BadMessage("a target in absolute form that has no fitting Host")
        said = host.decode("ascii").lower().removesuffix(port)
        if authority.lower().removesuffix(port) != said:
            raise BadMessage("a target in absolute form that names another host than Host")
        if not rest and method == "OPTIONS":
            return "*"
        return rest if rest[:1] == "/" else "/" + rest


class ResponseReader(Reader):
    """
    Reads what an upstream sends.

    Raises L{BadReply}, and L{UpstreamLost} for a reply cut short: the
    upstream's fault.
    """

    __slots__ = ("_method",)

    fields = fieldsMemo(MEANINGS)

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
            lines = self._takeHead()
            if lines is None:
                # A peer that speaks something else is told apart at once.
                if not b"HTTP/1."[: len(self._held)] == self._held[:7]:
                    raise BadMessage("no status line")
                return None
            return self._response(lines)
        except BadMessage as error:
            raise BadReply(f"the reply has {error.detail}", Reached.ANSWERED) from error

    def _response(self, lines: list[bytes]) -> Response:
        status, reason, modern = _statusLines[lines.pop(0)]
        head = self._sort(lines)
        kept = head.lines
        length = head.length
        options = head.options
        self._passed = 0
        self.trailers = []
        self.state = UNTIL_CLOSE
        self._frame(head, modern)
        if status < 200:
            self.state = TUNNEL if status == 101 else HEAD
        elif status in (204, 304) or self._method == "HEAD":
            # Section 6.3, rule 1: these end with their heads, whatever they announce.
            self.state = ENDED
        if length is not None and (status < 200 or status == 204):
            kept = [each for each in kept if each[:15].lower() != b"content-length:"]
            length = None
        self.keepAlive = self.state is not UNTIL_CLOSE and (
            modern
            if not options
            else b"close" not in options and (modern or b"keep-alive" in options)
        )
        return Response.fromWire(
            status,
            reason,
            Headers.fromLines(kept, length),
            length,
            head.upgrade,
            "1.1" if modern else "1.0",
        )

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


# --- Writing


_STATUS_LINES = {
    (status, reasonFor(status)): b"HTTP/1.1 %d %b" % (status, reasonFor(status).encode())
    for status in range(100, 600)
    if reasonFor(status)
}


def requestHead(
    request: Request, length: int | None, *, chunked: bool = False, extra: bytes = b""
) -> bytes:
    """
    The head of a request as sent upstream, in HTTP/1.1 whatever the client speaks.

    @param length: octets of the body to announce; L{None} for no announcement.
    @param chunked: announce chunks instead.
    @param extra: whole lines to be added.
    """
    line = f"{request.method} {request.target} HTTP/1.1".encode("ascii")
    upgrade = request.upgrade
    if chunked or upgrade is not None:
        extra = _framing(chunked, upgrade) + extra
    return b"\r\n".join((line, *request.headers.lines(length), extra + b"\r\n"))


def responseHead(
    response: Response, length: int | None, *, chunked: bool = False, extra: bytes = b""
) -> bytes:
    """The head of a reply as sent to the client; parameters as L{requestHead}'s."""
    line = _STATUS_LINES.get((response.status, response.reason))
    if line is None:
        reason = response.reason.encode("latin-1", "replace")
        # A policy may have set one that can't be sent; it has no meaning (section 4).
        line = b"HTTP/1.1 %d %b" % (response.status, reason if _reason(reason) else b"")
    # 426 names what to upgrade to (RFC 9110, section 15.5.22).
    upgrade = response.upgrade if response.status in (101, 426) else None
    if chunked or upgrade is not None:
        extra = _framing(chunked, upgrade) + extra
    return b"\r\n".join((line, *response.headers.lines(length), extra + b"\r\n"))


def _framing(chunked: bool, upgrade: bytes | None) -> bytes:
    lines = b"Transfer-Encoding: chunked\r\n" if chunked else b""
    if upgrade is not None:
        lines += b"Connection: upgrade\r\nUpgrade: %b\r\n" % upgrade
    return lines


def chunk(data: bytes) -> bytes:
    """One chunk (section 7.1).  Empty data is none: a chunk of size 0 would end the body."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


def lastChunk(trailers: Iterable[tuple[bytes, bytes]] = ()) -> bytes:
    """The end of a chunked body, with its trailers."""
    return b"0\r\n" + b"".join(b"%b: %b\r\n" % each for each in trailers) + b"\r\n"
