"""
What policies return and leave: checks, copies, and the undoing of a failed policy's changes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from sitio.http.bodyfilters import AddedFilter
from sitio.http.message import UNKNOWN_LENGTH, Request, Response, Retry


def checkResponse(response: Response, *, mayStream: bool) -> None:
    """
    Raise if a response can't be sent as a policy made it or left it.

    @param mayStream: whether a body of L{None} is right: it is still to come.
    """
    body = response.body
    if type(body) is not bytes and not (mayStream and body is None):
        if body is None:
            raise TypeError('the body of a response is bytes: write b"" for none')
        if not isinstance(body, bytes):
            raise TypeError(f"the body of a response is bytes, not {type(body).__name__}")
        # Methods of a subclass might do anything.
        response.body = bytes(memoryview(body))
    if not (isinstance(response.status, int) and 200 <= response.status <= 999):
        raise ValueError(f"the status of a response is 200 to 999, not {response.status!r}")
    if not isinstance(response.reason, str):
        raise TypeError(f"the reason of a response is str, not {type(response.reason).__name__}")
    length = response.length
    if length is not None and not (isinstance(length, int) and length >= UNKNOWN_LENGTH):
        raise ValueError(f"the length of a response is a number of bytes, not {length!r}")
    if response.filters is not None:
        _checkFilters(response.filters)


def _checkFilters(filters: Any) -> None:
    """Raise if these are not what C{Response.addFilter} makes: a policy may set them itself."""
    if not isinstance(filters, list):
        raise TypeError(f"the filters of a response are a list, not {type(filters).__name__}")
    for each in filters:
        match each:
            case AddedFilter(bodyFilter) if callable(bodyFilter):
                pass
            case _:
                raise TypeError(f"{each!r} is not a filter; use addFilter")


_STREAMS = (
    "the body streams with the length that its sender has announced: length can't be set; a filter"
    " may change the length"
)


def checkRequest(request: Request, length: int | None = None) -> None:
    """
    Raise if a policy left a body that can't be sent; all else is checked when it is set.

    @param length: what the client has announced.
    """
    if request.content is None and request.length != length:
        raise ValueError(_STREAMS)
    body = request.content
    if body is not None and type(body) is not bytes:
        if not isinstance(body, bytes):
            raise TypeError(f"the body of a request is bytes, not {type(body).__name__}")
        request.content = bytes(memoryview(body))
    if request.filters is not None:
        _checkFilters(request.filters)


def copied(response: Response) -> Response:
    """A copy of a response: a policy may return the same one for many exchanges."""
    twin = Response.fromHead(
        response.status,
        response.reason,
        response.headers.copy(),
        response.length,
        response.upgrade,
        response.version == "1.1",
    )
    twin.body = response.body
    twin.failure = response.failure
    twin.filters = response.filters and list(response.filters)
    return twin


def _own(message: Request | Response, failed: Callable[..., object]) -> None:
    """Have the failures of the filters that a policy has added counted as its own."""
    filters = message.filters or []
    for at, each in enumerate(filters):
        if each.failed is None:
            filters[at] = each._replace(failed=failed)


def allowed(
    request: Request, answer: Any, length: int | None, failed: Callable[..., object]
) -> Response | None:
    """
    What a request policy has returned, as a copy, if that and the request can be sent.

    @param answer: a response or L{None}.
    @param length: of the request's body, as announced.
    @param failed: called when a filter that the policy has added fails.
    """
    if answer is not None:
        checkResponse(answer, mayStream=False)
        answer = copied(answer)
        if answer.filters is not None:
            _own(answer, failed)
    checkRequest(request, length)
    if request.filters is not None:
        _own(request, failed)
    return cast("Response | None", answer)


def accepted(
    response: Response, answer: Any, saved: SavedResponse, failed: Callable[..., object]
) -> Any:
    """
    What a response policy has returned, a response as a copy, if that or the response can be
    sent.

    @param answer: a response, a L{Retry} or L{None}.
    @param saved: the response before.
    @param failed: called when a filter that the policy has added fails.
    """
    if isinstance(answer, Response) and answer is not response:
        checkResponse(answer, mayStream=False)
        answer = left = copied(answer)
    else:
        # A policy that has taken a body away must not bring the upstream's back.
        checkResponse(response, mayStream=saved.body is None)
        if response.body is None and response.length != saved.length:
            raise ValueError(_STREAMS)
        left = response
        if answer is response:
            answer = None
    if left.filters is not None:
        _own(left, failed)
    return answer


def forgetLength(
    request: Request, response: Response, answer: Response | Retry | None
) -> Response | None:
    """
    After a policy that needs whole bodies: if the upstream has left the body out, for HEAD or
    with status 304, forget the length that the result seems to have.  Nobody knows what the
    policy would have made of the body that GET has.

    No Content-Length is better than a wrong one (RFC 9110, section 8.6).  A policy whose answer
    does not depend on the body sets C{Response.length}.

    @param response: the upstream's, or what other policies have made of it without its body.
    @param answer: what the policy has returned.

    @return: the response that goes on, if it has no known length.
    """
    # A failure stands for sitio's own response, which is whole.
    if response.failure is not None or not (request.method == "HEAD" or response.status == 304):
        return None
    if not isinstance(answer, Response):
        response.length = UNKNOWN_LENGTH
        return response
    if answer.length is None:
        answer.length = UNKNOWN_LENGTH
    return answer


class SavedResponse:
    """
    A copy of a response from before a policy got it, to undo a failed policy's changes.

    @ivar body: what of the body was known: L{None} if it streamed.
    @ivar length: its announced length.
    """

    __slots__ = ("_filters", "_headers", "_reason", "_status", "body", "length")

    def __init__(self, response: Response) -> None:
        self._status = response.status
        self._reason = response.reason
        self.body = response.body
        self.length = response.length
        self._filters = response.filters and list(response.filters)
        self._headers = response.headers.copy()

    def restore(self, response: Response) -> None:
        """Undo all changes since then."""
        response.status = self._status
        response.reason = self._reason
        response.headers = self._headers
        response.body = self.body
        response.length = self.length
        response.filters = self._filters


class SavedRequest:
    """A copy of a request from before a policy that fails open got it, to undo its changes."""

    __slots__ = ("_content", "_filters", "_headers", "_length", "_line")

    def __init__(self, request: Request) -> None:
        self._line = request.line
        self._content = request.content
        self._length = request.length
        self._filters = request.filters and list(request.filters)
        self._headers = request.headers.copy()

    def restore(self, request: Request) -> None:
        """Undo all changes since then."""
        request.line = self._line
        request.content = self._content
        request.length = self._length
        request.filters = self._filters
        request.headers = self._headers
