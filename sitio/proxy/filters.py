"""
Body filters at work: L{Filters}.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from sitio.errors import SitioError
from sitio.http.message import BodyFilter


class Filters:
    """
    The filters of one response, each given what the one before it returned.

    A filter that keeps the length is left out once it fails; the failure of any other
    ends the response.
    """

    __slots__ = ("_failed", "_filters")

    def __init__(
        self,
        filters: Iterable[tuple[BodyFilter, bool]],
        failed: Callable[[SitioError], object],
    ) -> None:
        """
        @param filters: as in C{Response.filters}: with each, whether it keeps the length.
        @param failed: called with each failure.
        """
        self._filters = list(filters)
        self._failed = failed

    def __bool__(self) -> bool:
        return bool(self._filters)

    def first(self, data: bytes, ended: bool) -> bytes:
        """
        What goes on in place of all or the first of the body.

        @raise SitioError: as in L{apply}.
        """
        filtered = self.apply(data) if data else b""
        return filtered + self.apply(b"") if ended else filtered

    def apply(self, data: bytes) -> bytes:
        """
        What goes on in place of this piece; C{b""} stands for the end of the body.

        @raise SitioError: a filter that may change the length failed: half a change would
            look whole.
        """
        for each in list(self._filters):
            bodyFilter, keepsLength = each
            try:
                filtered = bodyFilter(data)
                if not isinstance(filtered, bytes):
                    raise TypeError(f"it returned {type(filtered).__name__}, not bytes")
                if keepsLength and len(filtered) != len(data):
                    raise ValueError("it did not keep the length as it promised")
            except Exception as cause:
                error = SitioError("a body filter failed", cause=cause)
                self._failed(error)
                if not keepsLength:
                    raise error from cause
                self._filters.remove(each)
            else:
                data = filtered
        return data
