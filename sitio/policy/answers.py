"""
What policies return and leave: checks, copies, and the undoing of a failed policy's changes.
"""

from __future__ import annotations

from typing import Any

from sitio.http.bodyfilters import AddedFilter
from sitio.http.headers import Headers
from sitio.http.message import UNKNOWN_LENGTH, Request, RequestLine, Response, Retry
from sitio.policy.member import Member


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


def _own(filters: list[AddedFilter], member: Member) -> None:
    """Have the failures of the filters that a policy has added counted as its own."""
    for at, each in enumerate(filters):
        if each.failed is None:
            filters[at] = each._replace(failed=member.reportFailure)


def _wrong(member: Member, answer: Any, allowed: str) -> TypeError:
    return TypeError(
        f"{member.name} returned {answer!r} ({type(answer).__name__}); return {allowed}"
    )


def allowed(request: Request, answer: Any, length: int | None, member: Member) -> Any:
    """
    What a request policy has returned, a response as a copy, if that and the request can be sent.

    @param answer: anything.
    @param length: of the request's body, as announced.

    @raise TypeError, ValueError: one of them can't.
    """
    if answer is not None:
        if not isinstance(answer, Response):
            raise _wrong(member, answer, "None or a Response")
        checkResponse(answer, mayStream=False)
        answer = copied(answer)
        if answer.filters is not None:
            _own(answer.filters, member)
    body, filters = request.content, request.filters
    if filters is not None:
        checkRequest(request, length)
        _own(filters, member)
    elif type(body) is not bytes and (body is not None or request.length != length):
        checkRequest(request, length)
    return answer


def accepted(response: Response, answer: Any, saved: SavedResponse, member: Member) -> Any:
    """
    What a response policy has returned, a response as a copy, if that or the response can be
    sent.

    @param answer: anything.
    @param saved: the response before.

    @return: a L{Response}, a L{Retry}, or L{None} for the response itself.

    @raise TypeError, ValueError: it can't.
    """
    if answer is response:
        answer = None
    status, reason, body, length, _, _ = saved
    if (
        answer is None
        and response.body is body
        and response.status is status
        and response.reason is reason
        and response.length is length
        and response.filters is None
    ):
        return None  # As most policies leave it.
    left = response
    if isinstance(answer, Response):
        checkResponse(answer, mayStream=False)
        answer = left = copied(answer)
    elif answer is None or isinstance(answer, Retry):
        # A policy that has taken a body away must not bring the upstream's back.
        checkResponse(response, mayStream=body is None)
        if response.body is None and response.length != length:
            raise ValueError(_STREAMS)
    else:
        raise _wrong(member, answer, "None, a Response or a Retry")
    if left.filters is not None:
        _own(left.filters, member)
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


#: The fields of a message as they were.
_SavedFields = tuple[type[Headers], bytes, int | None]

#: A response from before a policy got it, to undo the changes of one that fails: status, reason,
#: body, length, filters and fields.
SavedResponse = tuple[int, str, bytes | None, int | None, list[AddedFilter] | None, _SavedFields]

#: The same of a request: line, body, length, filters and fields.
SavedRequest = tuple[RequestLine, bytes | None, int | None, list[AddedFilter] | None, _SavedFields]


def savedResponse(response: Response) -> SavedResponse:
    """What a response is like now, as references to what never changes."""
    headers = response.fields
    filters = response.filters
    return (
        response.status,
        response.reason,
        response.body,
        response.length,
        filters and list(filters),
        (type(headers), headers.lines, headers.length),
    )


def restoreResponse(response: Response, saved: SavedResponse) -> None:
    """Undo all changes since then."""
    response.status, response.reason, response.body, response.length, filters, fields = saved
    response.filters = filters
    kind, lines, length = fields
    response.headers = kind.fromLines(lines, length)


def savedRequest(request: Request) -> SavedRequest:
    """What a request is like now, as references to what never changes."""
    headers = request.fields
    filters = request.filters
    return (
        request.line,
        request.content,
        request.length,
        filters and list(filters),
        (type(headers), headers.lines, headers.length),
    )


def restoreRequest(request: Request, saved: SavedRequest) -> None:
    """Undo all changes since then."""
    request.line, request.content, request.length, request.filters, fields = saved
    kind, lines, length = fields
    request.headers = kind.fromLines(lines, length)
