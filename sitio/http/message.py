"""
Messages as policies see them: L{Request}, L{Response}, L{Headers} and L{Retry}.

They know nothing of connections and framing.  Text is C{str}, bodies are C{bytes}.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Any

from attrs import define, field

from sitio.http.bodyfilters import AddedFilter, BodyFilter, addedFilter
from sitio.http.codings import MAX_DECODED_BYTES, UnreadableBody
from sitio.http.content import Message, jsonOf
from sitio.http.cookies import CookieSetter
from sitio.http.grammar import isValue
from sitio.http.headers import FieldsLike, Headers
from sitio.http.lines import Pairs
from sitio.http.request import Request, RequestLine

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

#: The length of a response whose body was left out before a policy could see it, where the
#: length that GET would say is not known.
UNKNOWN_LENGTH = -1


def reasonFor(status: int) -> str:
    """The registered reason phrase of a status (RFC 9110, section 15), or C{""}."""
    return _REASONS.get(status, "")


def parseStatuses(text: str) -> frozenset[int]:
    """
    The error statuses in a list such as C{"404,500-504,5xx"}.

    @raise ValueError: a word is not an error status (400 to 599), a range or a class of them.
    """
    statuses: set[int] = set()
    for word in text.split(","):
        found = _statuses(word.strip())
        if not found:
            raise ValueError(f"{word!r} is not an error status: write 404, 500-504 or 5xx")
        family, low, high = found.groups()
        first, last = (f"{family}00", f"{family}99") if family else (low, high or low)
        if first > last:
            raise ValueError(f"{word!r} is not a range of statuses: the lower one comes first")
        statuses.update(range(int(first), int(last) + 1))
    return frozenset(statuses)


class Response(CookieSetter, Message):
    """
    A response for a client: of the upstream, of a policy, or of sitio itself.

    A policy makes one with C{Response(404, html="<h1>Not here</h1>")}.

    @ivar status: the status code (RFC 9110, section 15).
    @ivar reason: the reason phrase; it has no meaning.
    @ivar headers: the end-to-end fields, as L{Headers}.
    @ivar body: the whole body, or L{None} while it streams.  A policy with C{buffered} always
        gets the whole body.
    @ivar arrived: for sitio: the whole body, if that was received together with its head; set in
        few responses.
    @ivar length: the announced bytes of the upstream's body, or L{None}; or
        L{UNKNOWN_LENGTH}.
    @ivar upgrade: the protocol that a response of status 101 switches to, or L{None}.
    @ivar version: C{"1.1"} or C{"1.0"}, the upstream's.
    @ivar failure: the L{SitioError<sitio.errors.SitioError>} that this response stands for,
        if the upstream could not be asked or did not answer; else L{None}.
    @ivar filters: the filters of L{addFilter}, with C{keepsLength}, or L{None}.
    @ivar isCloseDelimited: whether its body ends with the connection (RFC 9112, section 6.3,
        rule 8), so that nobody can tell whether it is whole.
    """

    # The body that has arrived is set only where a policy may ask for it.
    __slots__ = ("arrived", "failure", "filters", "reason", "status")

    arrived: bytes
    isCloseDelimited = False
    body: bytes | None
    length: int | None
    upgrade: bytes | None
    failure: Exception | None
    filters: list[AddedFilter] | None

    def __init__(
        self,
        status: int = 200,
        *,
        body: bytes | None = None,
        text: str | None = None,
        html: str | None = None,
        json: Any = None,
        headers: Headers | FieldsLike = (),
        reason: str | None = None,
    ) -> None:
        """
        Give at most one of C{body}, C{text}, C{html} and C{json}.  The last three set
        Content-Type, with UTF-8, unless C{headers} has one.

        @param status: 200 to 999; interim responses can't be made.
        @param json: any value that C{json.dumps} takes.
        @param reason: by default the registered phrase of the status.

        @raise ValueError: a status out of range, several bodies, or a field or a reason that
            can't be sent.
        """
        if not 200 <= status <= 999:
            raise ValueError(f"{status} can't be the status of a response: write 200 to 999")
        given = [each for each in (body, text, html, json) if each is not None]
        if len(given) > 1:
            raise ValueError("give a response only one of body, text, html and json")
        self.status = status
        self.reason = reasonFor(status) if reason is None else reason
        if not isValue(self.reason):
            raise ValueError(f"{reason!r} can't be sent as a reason phrase")
        self._received = None
        self.fields = headers.copy() if isinstance(headers, Headers) else Headers(headers)
        self.version = "1.1"
        self.length = self.upgrade = self.failure = self.filters = None
        kind = None
        if text is not None:
            body, kind = text.encode(), "text/plain; charset=utf-8"
        elif html is not None:
            body, kind = html.encode(), "text/html; charset=utf-8"
        elif json is not None:
            body, kind = jsonOf(json), "application/json"
        if kind is not None and "content-type" not in self.headers:
            self.headers.add("Content-Type", kind)
        self.body = body if body is not None else b""

    @classmethod
    def fromHead(
        cls,
        status: int,
        reason: str,
        headers: Headers,
        length: int | None = None,
        upgrade: bytes | None = None,
        isHTTP11: bool = True,
    ) -> Response:
        """A response from a parsed head.  Its body streams."""
        response = cls.__new__(cls)
        response.status = status
        response.reason = reason
        response.fields = headers
        response._received = headers.lines
        response.length = length
        response.upgrade = upgrade
        response.version = "1.1" if isHTTP11 else "1.0"
        response.body = response.failure = response.filters = None
        return response

    @classmethod
    def fromWire(
        cls,
        status: int,
        reason: str,
        fields: Pairs,
        length: int | None = None,
        upgrade: bytes | None = None,
    ) -> Response:
        """As L{fromHead}, from names and values that were checked."""
        return cls.fromHead(status, reason, Headers.fromWire(fields), length, upgrade)

    def _isPart(self, headers: Headers) -> bool:
        # With 416 the field has the length that the resource has now (RFC 9110, section 14.4).
        return self.status == 206 or (self.status != 416 and "Content-Range" in headers)

    def decode(self, limit: int = MAX_DECODED_BYTES) -> bytes:
        """
        As of any message, but a part (206) raises L{UnreadableBody}: what a client asks for may
        look like a whole that it is not.
        """
        if self._isPart(self.headers):
            raise UnreadableBody(
                "this is a part of a body (206 or Content-Range), which can't be taken for the"
                " whole: remove Range from requests; response.body has its bytes"
            )
        return super().decode(limit)

    def _replaceBody(self, body: bytes, contentType: str | None = None) -> None:
        super()._replaceBody(body, contentType)
        # Also for HEAD: the length is that of the body which is left out.
        self.length = len(body)

    def addFilter(
        self, bodyFilter: BodyFilter, *, keepsLength: bool = False, failOpen: bool | None = None
    ) -> None:
        """
        Read or change the body while it streams, without buffering it.  A response without a
        body (to HEAD, 204, 304) calls no filter.

        @param bodyFilter: called with each piece of the body, and once with C{b""} at its
            end.  The bytes that it returns are sent in place of the piece.
        @param keepsLength: whether each result has as many bytes as its piece.  Then the
            announced length stays valid; otherwise the client gets chunks.
        @param failOpen: whether a filter that raises is skipped from then on.  Otherwise the
            client gets 502, or, once the head is sent, the response is aborted.  By default
            only a filter with C{keepsLength} is skipped; another one can't be, as the client
            could not see that the change is incomplete: then it raises C{ValueError}.
        """
        added = addedFilter(bodyFilter, keepsLength, keepsLength if failOpen is None else failOpen)
        if self.filters is None:
            self.filters = []
        self.filters.append(added)

    def __repr__(self) -> str:
        return f"<Response {self.status}{' failure' if self.failure else ''}>"


class CloseDelimitedResponse(Response):
    """A response whose body ends with the connection.  A class, so that others pay nothing."""

    __slots__ = ()

    isCloseDelimited = True


@define(frozen=True)
class Retry:
    """
    Returned by a response policy to have the request sent to the upstream again.

    sitio decides whether the request can be sent again.  If it can't, the response goes to
    the next policy.

    @ivar after: seconds to wait before, 0 to 60; other values raise C{ValueError}.
    """

    after: float = field(default=0.0)

    @after.validator
    def _isWait(self, attribute: object, value: float) -> None:
        if not 0 <= value <= 60:
            raise ValueError(f"Retry(after={value!r}): write 0 to 60 seconds")
