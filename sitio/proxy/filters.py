"""
Runs the body filters of a message: L{Filters}.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from sitio.errors import ResponseWithheld, SitioError
from sitio.http.bodyfilters import AddedFilter
from sitio.http.failures import asResponse
from sitio.http.message import Response

if TYPE_CHECKING:
    from sitio.proxy.exchange import Exchange


class Filters:
    """
    The filters of one message.  Each gets the output of the previous filter.

    A filter that fails open is removed when it fails.  If any other filter fails, the
    message must not go on.
    """

    __slots__ = ("_exchange", "_filters")

    def __init__(self, exchange: Exchange, filters: Iterable[AddedFilter]) -> None:
        self._exchange = exchange
        self._filters = list(filters)

    def __bool__(self) -> bool:
        return bool(self._filters)

    def first(self, data: bytes, ended: bool) -> bytes:
        """
        Filter all or the first part of the body.

        @raise SitioError: as in L{apply}.
        """
        filtered = self.apply(data) if data else b""
        return filtered + self.apply(b"") if ended else filtered

    def apply(self, data: bytes) -> bytes:
        """
        Filter a piece of the body; C{b""} marks the end of the body.

        @raise SitioError: a filter that fails closed failed.  A body that is filtered only in
            part would look complete.
        """
        for each in list(self._filters):
            try:
                filtered = each.bodyFilter(data)
                if not isinstance(filtered, bytes):
                    raise TypeError(f"it returned {type(filtered).__name__}, not bytes")
                if type(filtered) is not bytes:
                    # Methods of a subclass might do anything.
                    filtered = bytes(memoryview(filtered))
                if each.keepsLength and len(filtered) != len(data):
                    raise ValueError("it did not keep the length as it promised")
            # A filter that calls sys.exit has failed like any other.
            except BaseException as cause:
                if each.failed is not None:
                    opens = "is skipped from now on" if each.failOpen else "breaks its message off"
                    each.failed(f"its filter {opens}", self._exchange)
                error = SitioError("a body filter failed", cause=cause)
                self._exchange.context.exchangeFailed(error, self._exchange)
                if not each.failOpen:
                    raise error from cause
                self._filters.remove(each)
            else:
                data = filtered
        return data


def beginFiltering(
    exchange: Exchange, response: Response, body: bytes, ended: bool
) -> tuple[Response, bytes, bool, Filters | None]:
    """
    Filter all or the first part of a response, whose head is not sent yet.

    @param ended: whether it is all.

    @return: the response, its first part, whether that is all, and the filters for the rest.
        If a filter fails, the response is a 502.
    """
    status = response.status
    if status == 204 or status == 304 or exchange.request.receivedLine.method == "HEAD":
        return response, body, ended, None
    filters = Filters(exchange, response.filters or ())
    try:
        return response, filters.first(body, ended), ended, filters
    except SitioError as error:
        withheld = ResponseWithheld("a body filter failed", cause=error.cause)
        exchange.failure = withheld
        exchange.answeredBy = None
        exchange.leaveUpstream()
        response = asResponse(withheld)
        return response, response.body or b"", True, None


def passRequest(exchange: Exchange) -> Response | None:
    """
    Take over what request policies have done to the body: replaced it, or added filters.

    @return: the answer to the request if a filter has failed.
    """
    request, upload = exchange.request, exchange.upload
    if upload is not None and request.content is not None:
        upload.replace(request.content)
    if request.filters is None or not (upload or request.hasBody):
        return None
    filters = Filters(exchange, request.filters)
    try:
        if upload is not None:
            if not (upload.ended or all(each.keepsLength for each in request.filters)):
                request.length = None
            upload.filterBy(filters)
        else:
            body = request.arrived if request.content is None else request.content
            filtered = filters.first(body, True)
            if request.content is None:
                request.arrived = filtered
            else:
                request.content = filtered
    except SitioError as error:
        return asResponse(error)
    return None
