"""
The response that masks a failure: L{Mask}.

A section without the name of an RFC is one of RFC 9111.
"""

from __future__ import annotations

from sitio.http.caching import (
    BODY_FIELDS,
    CREDENTIAL_FIELDS,
    Fields,
    deltaSeconds,
    directives,
    fieldValue,
    freshness,
    isUnchanged,
    mayBeSent,
)
from sitio.http.dates import formatDate
from sitio.http.headers import FRAMING_FIELDS
from sitio.http.message import Response, reasonFor
from sitio.policies.lastgood.store import StoredResponse

_NOT_SENT = frozenset(each.encode() for each in FRAMING_FIELDS) | CREDENTIAL_FIELDS | {b"age"}
_NOT_IN_304 = _NOT_SENT | BODY_FIELDS
_FOR_THE_ORIGIN = frozenset((b"if-match", b"if-unmodified-since"))


class Mask:
    """A stored response as the answer to a request that failed."""

    def __init__(self, stored: StoredResponse, request: Fields, now: float) -> None:
        """
        @param request: the fields of the request.
        @param now: the time on the clock of C{stored.since}.
        """
        self._stored = stored
        self._request = request
        self._resident = now - stored.since
        self._said = directives(fieldValue(stored.said, b"cache-control"))
        self._age = self._resident + deltaSeconds(fieldValue(stored.said, b"age"))
        self._staleness = self._age - freshness(stored.said, self._said)

    def mayBeSent(self, notSentStale: frozenset[bytes]) -> bool:
        """
        Whether neither the response nor the request forbids it.

        @param notSentStale: as L{sitio.http.caching.mayBeSent} takes it.
        """
        # Section 4.3.2: only the origin can evaluate these.
        if any(name.lower() in _FOR_THE_ORIGIN for name, _ in self._request):
            return False
        asked = fieldValue(self._request, b"cache-control")
        if asked is None or b"stale-if-error" not in asked.lower():
            # Most say nothing about it, and a long list of directives is slow to parse.
            asked = None
        return mayBeSent(self._staleness, self._said, directives(asked), notSentStale)

    def response(self, status: int, now: float) -> Response:
        """
        The stored response, or the 304 that a conditional request gets for it.

        @param status: that of the failure.
        @param now: the time of day, for Date.
        """
        stored = self._stored
        forwarded = b"stale" if self._staleness >= 0 else b"bypass"
        cacheStatus = b"sitio; fwd=%b; fwd-status=%d; detail=last-good" % (forwarded, status)
        added = [(b"Age", b"%d" % self._age), (b"Cache-Status", cacheStatus)]
        if fieldValue(stored.fields, b"date") is None:
            # That of its arrival (RFC 9110, section 6.6.1), not that of this response.
            added.append((b"Date", formatDate(now - self._resident).encode("ascii")))
        unchanged = isUnchanged(self._request, stored.fields)
        without = _NOT_IN_304 if unchanged else _NOT_SENT
        fields = [each for each in stored.fields if each[0].lower() not in without] + added
        if unchanged:
            response = Response.fromWire(304, reasonFor(304), fields)
        else:
            # The length that a HEAD says, too (RFC 9110, section 8.6).
            length = len(stored.body)
            response = Response.fromWire(stored.status, stored.reason, fields, length)
        response.body = b"" if unchanged else stored.body
        return response
