"""
A request as policies see it: L{Request}.
"""

from __future__ import annotations

import re
from urllib.parse import parse_qsl

from sitio.http.bodyfilters import AddedFilter, BodyFilter, addedFilter
from sitio.http.content import Message
from sitio.http.cookies import cookiesOf
from sitio.http.grammar import isPath, isToken
from sitio.http.headers import Headers, RequestHeaders
from sitio.http.multidict import MultiDict


class BodyNotBuffered(RuntimeError):
    """A policy has read the body of a request that it did not ask for: a fault in its code."""


_notInPath = re.compile(r"[^!\x22$-~]").search


def _fault(target: str) -> str:
    """What is wrong with a target, without the target."""
    if not target.startswith("/"):
        return "this one does not begin with /"
    found = _notInPath(target)
    at = found.start() if found is not None else 0
    return f"character {at + 1} of this one is {target[at]!r}"


class RequestLine:
    """
    Method and target.  It never changes.

    @ivar path: the target without its query.
    @ivar endpoint: method and path.
    @ivar raw: the line as sent to the upstream, without its end.
    """

    __slots__ = ("endpoint", "method", "path", "raw", "target")

    #: The line in whose place a policy has put this one, as it was received.
    received: RequestLine | None = None

    def __init__(self, method: str, target: str, raw: bytes | None = None) -> None:
        """@param raw: the line itself, if it was received as it is sent."""
        self.method = method
        self.target = target
        self.path = target.partition("?")[0]
        self.endpoint = (method, self.path)
        self.raw = raw or f"{method} {target} HTTP/1.1".encode("latin-1", "replace")

    def sentAs(self, target: str) -> RequestLine:
        """The same line, but the upstream gets another target."""
        line = ReplacedLine(self.method, self.target, self.received or self)
        line.raw = f"{self.method} {target} HTTP/1.1".encode("latin-1", "replace")
        return line


class ReplacedLine(RequestLine):
    """A line that a policy has set in place of the received line."""

    __slots__ = ("received",)

    def __init__(self, method: str, target: str, received: RequestLine) -> None:
        RequestLine.__init__(self, method, target)
        self.received = received


class Request(Message):
    """
    A request of a client.

    A policy may set C{method}, C{target}, C{headers} and C{body}.  A method or a target that
    can't be sent raises C{ValueError}.

    @ivar method: as received; case matters (RFC 9110, section 9.1).
    @ivar target: path and query as received, percent-encoded, or C{"*"}.
    @ivar headers: the end-to-end fields, as L{RequestHeaders}.
    @ivar version: C{"1.1"} or C{"1.0"}, the client's.
    @ivar content: the body as far as policies may read it: C{b""} for none, L{None} for one
        that no policy has asked for.  Policies read L{body}.
    @ivar arrived: a body that was received together with its head, for the upstream.
    @ivar length: the announced bytes of the body; L{None} if there is no body, or if it comes
        in chunks.
    @ivar upgrade: the protocols that the client asks to switch to, or L{None}.
    @ivar filters: the filters of L{addFilter}, or L{None}.
    """

    __slots__ = ("arrived", "content", "filters", "line")

    arrived: bytes
    filters: list[AddedFilter] | None

    def __init__(
        self,
        method: str,
        target: str,
        headers: Headers | None = None,
        version: str = "1.1",
        body: bytes | None = b"",
        length: int | None = None,
        upgrade: bytes | None = None,
    ) -> None:
        self.line = RequestLine(method, target)
        self.headers = RequestHeaders() if headers is None else headers
        self._received = None
        self.version = version
        self.content = body
        self.length = length
        self.upgrade = upgrade
        self.filters = None

    @classmethod
    def fromHead(
        cls,
        line: RequestLine,
        headers: Headers,
        isHTTP11: bool,
        body: bytes | None,
        length: int | None,
        upgrade: bytes | None,
    ) -> Request:
        """A request from a parsed head.  Its body may still have to come."""
        request = cls.__new__(cls)
        request.line = line
        request.fields = headers
        request._received = headers.lines
        request.version = "1.1" if isHTTP11 else "1.0"
        request.content = body
        request.length = length
        request.upgrade = upgrade
        request.filters = None
        return request

    @property
    def method(self) -> str:
        return self.line.method

    @method.setter
    def method(self, method: str) -> None:
        if not isToken(method):
            raise ValueError(f"{method!r} is not a method: it must be a token (RFC 9110, 5.6.2)")
        self.line = ReplacedLine(method, self.line.target, self.receivedLine)

    @property
    def target(self) -> str:
        return self.line.target

    @target.setter
    def target(self, target: str) -> None:
        if not (isPath(target) or target == "*"):
            # Without the target, which may hold secrets: the text is logged.
            raise ValueError(
                "a target must be * or a path and query, percent-encoded, in visible ASCII without"
                f" #; {_fault(target)}"
            )
        self.line = ReplacedLine(self.line.method, target, self.receivedLine)

    @property
    def receivedLine(self) -> RequestLine:
        """Method and target as they were received, whatever policies have changed since."""
        line = self.line
        return line.received or line

    @property
    def path(self) -> str:
        """The target without its query, percent-encoded as received."""
        return self.line.path

    @property
    def body(self) -> bytes:
        """
        The whole body; C{b""} for none.  Bytes that are set replace the client's body.

        @raise BodyNotBuffered: the request has a body, and no policy before has asked for it:
            sitio passes it on as it arrives.
        """
        body = self.content
        if body is None:
            raise BodyNotBuffered(
                "this request's body streams: write @onRequest(buffered=True) to get all of it, or"
                " use request.addFilter to read it piece by piece"
            )
        return body

    @body.setter
    def body(self, body: bytes) -> None:
        if body is None:
            raise TypeError('the body of a request is bytes: write b"" for none')
        self.content = body

    @property
    def hasBody(self) -> bool:
        """Whether there is a body, read or not."""
        return self.content != b""

    def addFilter(
        self, bodyFilter: BodyFilter, *, keepsLength: bool = False, failOpen: bool = False
    ) -> None:
        """
        Read or change the body on its way to the upstream, without buffering it.  For request
        policies; a request without a body calls no filter.

        @param bodyFilter: called with each piece of the body, and once with C{b""} at its
            end.  The bytes that it returns are sent in place of the piece.  If it raises, the
            client gets 500, and the upstream never gets the end of the request.
        @param keepsLength: whether each result has as many bytes as its piece.  Otherwise the
            upstream gets chunks.
        @param failOpen: whether a filter that fails is skipped from then on instead.  Only
            with C{keepsLength}; else it raises C{ValueError}.
        """
        added = addedFilter(bodyFilter, keepsLength, failOpen)
        self.filters = [*(self.filters or ()), added]

    @property
    def rawQuery(self) -> str:
        """The part of the target after the question mark, percent-encoded, or C{""}."""
        return self.line.target.partition("?")[2]

    @property
    def query(self) -> MultiDict:
        """
        The parameters of the query, decoded as those of a form: C{+} is a blank, a parameter
        without C{=} has the value C{""}, and bytes that are not UTF-8 become U+FFFD.  Parsed
        anew at each call; a change of it has no effect.
        """
        return MultiDict(parse_qsl(self.rawQuery, keep_blank_values=True))

    @property
    def cookies(self) -> MultiDict:
        """
        The cookies of all Cookie fields, as they were sent, but without quotes around their
        values.  What is no cookie is left out.  Parsed anew at each call.
        """
        return MultiDict(cookiesOf(self.headers.getAll("Cookie")))

    def __repr__(self) -> str:
        # Neither query nor fields, which may hold secrets, nor what a policy has put into the
        # target: reprs are logged.
        line = self.receivedLine
        return f"<Request {line.method} {line.path}>"
