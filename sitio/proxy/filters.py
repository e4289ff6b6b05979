"""
Runs the body filters of a response: L{Filters}.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from sitio.errors import SitioError
from sitio.http.message import BodyFilter


class Filters:
    """
    The filters of one response.  Each gets the output of the previous filter.

    A filter that keeps the length is removed when it fails.  If any other filter fails,
    the response is broken off.
    """

    __slots__ = ("_failed", "_filters")

    def __init__(
        self,
        filters: Iterable[tuple[BodyFilter, bool]],
        failed: Callable[[SitioError], object],
    ) -> None:
        """
        @param filters: as in C{Response.filters}: pairs of a filter and whether it keeps
            the length.
        @param failed: called with each failure.
        """
        self._filters = list(filters)
        self._failed = failed

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

        @raise SitioError: a filter that may change the length failed.  A body that is
            filtered only in part would look complete.
        """
        for each in list(self._filters):
            bodyFilter, keepsLength = each
            try:
                filtered = bodyFilter(data)
                if not isinstance(filtered, bytes):
                    raise TypeError(f"it returned {type(filtered).__name__}, not bytes")
                if type(filtered) is not bytes:
                    # Methods of a subclass might do anything.
                    filtered = bytes(memoryview(filtered))
                if keepsLength and len(filtered) != len(data):
                    raise ValueError("it did not keep the length as it promised")
            # A filter that calls sys.exit has failed like any other.
            except BaseException as cause:
                error = SitioError("a body filter failed", cause=cause)
                self._failed(error)
                if not keepsLength:
                    raise error from cause
                self._filters.remove(each)
            else:
                data = filtered
        return data
