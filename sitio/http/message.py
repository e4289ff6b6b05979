"""
Messages: L{Request}, L{Response}, L{Headers} and L{Retry}.

What a message says, and nothing of how it travels: no I/O, no framing, no
connection.  Policies see these objects, the halves send and receive them.

Contract: text is C{str} here, for people; bodies are C{bytes}, as on the wire.
"""

from __future__ import annotations

import json as _json
import re
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any, cast

from attrs import define, field

from sitio.http.grammar import isPath, isToken, isValue
from sitio.http.headers import Given, Headers, Lines

__all__ = [
    "BodyFilter",
    "Headers",
    "Request",
    "RequestLine",
    "Response",
    "Retry",
    "parseStatuses",
    "reasonFor",
]

_REASONS = {int(status): status.phrase for status in HTTPStatus}

_statuses = re.compile(r"([45])xx|([45]\d\d)(?:-([45]\d\d))?", re.ASCII).fullmatch

#: What a body filter is: it gets each piece as it passes, and C{b""} once at
#: the end; it returns what goes on in the piece's place.
BodyFilter = Callable[[bytes], bytes]


def reasonFor(status: int) -> str:
    """The registered reason phrase of a status, or C{""} (RFC 9110, section 15)."""
    return _REASONS.get(status, "")


def parseStatuses(text: str) -> frozenset[int]:
    """
    The statuses that C{"404,500-504,5xx"} names.

    @raise ValueError: something else than an error status, a range or a class.
    """
    statuses: set[int] = set()
    for word in text.split(","):
        found = _statuses(word.strip())
        if not found:
            raise ValueError(f"{word!r} is no error status: 404, 500-504 or 5xx are")
        family, low, high = found.groups()
        first, last = (f"{family}00", f"{family}99") if family else (low, high or low)
        if first > last:
            raise ValueError(f"{word!r} is no range of statuses: the lower one comes first")
        statuses.update(range(int(first), int(last) + 1))
    return frozenset(statuses)


class _Message:
    """
    What requests and responses share: their fields, which are made when first asked for.
    """

    __slots__ = ("_headers", "_lines", "body", "length", "upgrade", "version")

    _headers: Headers | None
    _lines: Lines | None

    @property
    def headers(self) -> Headers:
        headers = self._headers
        if headers is None:
            headers = self._headers = Headers.fromLines(cast(Lines, self._lines))
        return headers

    @headers.setter
    def headers(self, headers: Headers) -> None:
        if not isinstance(headers, Headers):
            raise TypeError(f"headers of a message are Headers, not {type(headers).__name__}")
        self._headers = headers

    @property
    def lines(self) -> Lines | None:
        """The lines that came, as long as nobody can have changed them."""
        return self._lines if self._headers is None else self._headers.lines

    @property
    def seen(self) -> Sequence[tuple[bytes, bytes]]:
        """Name and value of each line as C{bytes}, for those who change nothing."""
        lines = self.lines
        return self.headers.seen if lines is None else lines.fields

    def encoded(self, length: int | None) -> bytes:
        """The fields as they are sent; see L{Headers.encoded}."""
        lines = self._lines if self._headers is None else self._headers.lines
        if lines is not None:
            if lines.length == length:
                return lines.raw
            if lines.length is None and length is not None:
                return lines.raw + b"Content-Length: %d\r\n" % length
        return self.headers.encoded(length)


class RequestLine:
    """
    Method and target; never changed, and shared by all requests that came with the same.

    @ivar path: the target up to its query.
    @ivar endpoint: method and path.
    @ivar raw: the line as it is sent to the upstream.
    """

    __slots__ = ("endpoint", "method", "path", "raw", "target")

    def __init__(self, method: str, target: str) -> None:
        self.method = method
        self.target = target
        self.path = target.partition("?")[0]
        self.endpoint = (method, self.path)
        self.raw = f"{method} {target} HTTP/1.1\r\n".encode("latin-1", "replace")


class Request(_Message):
    """
    What a client asks for.

    @ivar method: as sent, case kept (RFC 9110, section 9.1).
    @ivar target: path and query as sent, percent-encoding kept, or C{"*"}; a
        policy may replace it.  C{ValueError} for a target, or a method, that
        can't be sent, as it might be read as two requests.
    @ivar headers: the end-to-end fields.
    @ivar version: C{"1.1"} or C{"1.0"}, the client's.
    @ivar body: the whole body where it has come whole with the head (C{b""}
        for none), else L{None}: then it streams past.
    @ivar length: bytes of the body as announced; L{None} when there was no
        announcement: no body, or one in chunks.
    @ivar upgrade: the protocol that the client asks to switch to, if it does.
    """

    __slots__ = ("line",)

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
        self._lines = None
        self.headers = Headers() if headers is None else headers
        self.version = version
        self.body = body
        self.length = length
        self.upgrade = upgrade

    @classmethod
    def fromHead(
        cls,
        line: RequestLine,
        lines: Lines,
        version: str,
        body: bytes | None,
        length: int | None,
        upgrade: bytes | None,
    ) -> Request:
        """A request of which a reader has seen the head."""
        request = cls.__new__(cls)
        request.line = line
        request._lines = lines
        request._headers = None
        request.version = version
        request.body = body
        request.length = length
        request.upgrade = upgrade
        return request

    @property
    def method(self) -> str:
        return self.line.method

    @method.setter
    def method(self, method: str) -> None:
        if not isToken(method):
            raise ValueError(f"{method!r} is no method: a token of RFC 9110, section 5.6.2, is")
        self.line = RequestLine(method, self.line.target)

    @property
    def target(self) -> str:
        return self.line.target

    @target.setter
    def target(self, target: str) -> None:
        if not (isPath(target) or target == "*"):
            # Its query may hold secrets, and this text ends in logs.
            raise ValueError(
                f"{target.partition('?')[0]!r} is no target: a path and query,"
                " percent-encoded so that they are visible ASCII without #, or * is"
            )
        self.line = RequestLine(self.line.method, target)

    @property
    def path(self) -> str:
        """The target up to its query, percent-encoding kept."""
        return self.line.path

    @property
    def query(self) -> str:
        """What follows the question mark of the target, or C{""}."""
        return self.line.target.partition("?")[2]

    def __repr__(self) -> str:
        # Neither query nor fields: they may hold secrets and reprs end in logs.
        return f"<Request {self.method} {self.path}>"


class Response(_Message):
    """
    What a client is answered: by the upstream, by a policy or by sitio.

    C{Response(404, html="<h1>no</h1>")} makes one; of C{body} (bytes),
    C{text}, C{html} and C{json} at most one is given, and the last three set
    Content-Type (UTF-8) unless C{headers} does.  C{ValueError} for a status
    outside 200 to 999: an interim response is no answer.

    @ivar status: three digits (RFC 9110, section 15).
    @ivar reason: the phrase beside it; of no meaning.
    @ivar headers: the end-to-end fields.
    @ivar body: the whole body, or L{None} while it streams: a policy that
        needs it asks for it with C{buffered}.
    @ivar length: bytes of the body as the upstream announced them, if it did.
    @ivar upgrade: the protocol switched to, in a response of status 101.
    @ivar version: C{"1.1"} or C{"1.0"}, the upstream's.
    @ivar failure: where this response stands for an attempt that failed, the
        L{SitioError<sitio.errors.SitioError>} that says how; else L{None}.
    @ivar filters: what L{addFilter} was given.
    """

    __slots__ = ("failure", "filters", "reason", "status")

    body: bytes | None
    length: int | None
    upgrade: bytes | None
    failure: Exception | None
    filters: list[tuple[BodyFilter, bool]] | None

    def __init__(
        self,
        status: int = 200,
        *,
        body: bytes | None = None,
        text: str | None = None,
        html: str | None = None,
        json: Any = None,
        headers: Headers | Given = (),
        reason: str | None = None,
    ) -> None:
        if not 200 <= status <= 999:
            raise ValueError(f"{status} is no status for a response: 200 to 999 are")
        given = [each for each in (body, text, html, json) if each is not None]
        if len(given) > 1:
            raise ValueError("give a response one of body, text, html and json")
        self.status = status
        self.reason = reasonFor(status) if reason is None else reason
        if not isValue(self.reason):
            raise ValueError(f"{reason!r} is no reason phrase: it can't be sent")
        self._lines = None
        self._headers = headers.copy() if isinstance(headers, Headers) else Headers(headers)
        self.version = "1.1"
        self.length = self.upgrade = self.failure = self.filters = None
        kind = None
        if text is not None:
            body, kind = text.encode(), "text/plain; charset=utf-8"
        elif html is not None:
            body, kind = html.encode(), "text/html; charset=utf-8"
        elif json is not None:
            body, kind = _json.dumps(json).encode(), "application/json"
        if kind is not None and "content-type" not in self.headers:
            self.headers.add("Content-Type", kind)
        self.body = body if body is not None else b""

    @classmethod
    def fromHead(
        cls,
        status: int,
        reason: str,
        lines: Lines | None,
        length: int | None = None,
        upgrade: bytes | None = None,
        version: str = "1.1",
    ) -> Response:
        """A response of which a reader has seen the head; its body streams."""
        response = cls.__new__(cls)
        response.status = status
        response.reason = reason
        response._lines = lines
        response._headers = None
        response.length = length
        response.upgrade = upgrade
        response.version = version
        response.body = response.failure = response.filters = None
        return response

    @classmethod
    def fromWire(
        cls,
        status: int,
        reason: str,
        fields: list[tuple[bytes, bytes]],
        length: int | None = None,
        upgrade: bytes | None = None,
        version: str = "1.1",
    ) -> Response:
        """As L{fromHead}, of fields that were checked; the list is kept, not copied."""
        response = cls.fromHead(status, reason, None, length, upgrade, version)
        response.headers = Headers.fromWire(fields)
        return response

    def addFilter(self, bodyFilter: BodyFilter, *, keepsLength: bool = False) -> None:
        """
        See, or change, the body as it passes, without holding it.

        @param bodyFilter: called with each piece, then once with C{b""} at the
            end; what it returns is sent in the piece's place.  When it raises,
            a filter that keeps the length is left out from there on; for any
            other the response is broken off, as half a change would look whole.
        @param keepsLength: promise that as many bytes go as came, so that an
            announced length stays true.  Without it the client gets chunks.
        """
        if self.filters is None:
            self.filters = []
        self.filters.append((bodyFilter, keepsLength))

    def __repr__(self) -> str:
        return f"<Response {self.status}{' failure' if self.failure else ''}>"


@define(frozen=True)
class Retry:
    """
    A response policy's wish: ask the upstream again after so many seconds.

    sitio alone decides whether the request can be sent again; where it can't,
    the response at hand goes on to the next policy.
    """

    after: float = field(default=0.0)

    @after.validator
    def _isWait(self, attribute: object, value: float) -> None:
        if not 0 <= value <= 60:
            raise ValueError(f"Retry(after={value!r}): 0 to 60 seconds")
