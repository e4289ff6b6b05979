"""
The response that masks a failure: L{Mask}.

A section without the name of an RFC is one of RFC 9111.
"""

from __future__ import annotations

from sitio.http.caching import (
    BODY_FIELDS,
    CREDENTIAL_FIELDS,
    deltaSeconds,
    directives,
    freshness,
    isUnchanged,
    mayBeSent,
)
from sitio.http.dates import formatDate
from sitio.http.headers import FRAMING_NAMES, Headers
from sitio.http.lines import keyOf
from sitio.http.message import Response, reasonFor
from sitio.policies.lastgood.store import StoredResponse

_NOT_SENT = frozenset(map(keyOf, FRAMING_NAMES | CREDENTIAL_FIELDS | {b"age"}))
_NOT_IN_304 = _NOT_SENT | frozenset(map(keyOf, BODY_FIELDS))


class Mask:
    """A stored response as the answer to a request that failed."""

    def __init__(self, stored: StoredResponse, request: Headers, now: float) -> None:
        """
        @param request: the fields of the request.
        @param now: the time on the clock of C{stored.since}.
        """
        self._stored = stored
        self._request = request
        self._resident = now - stored.since
        said = Headers.fromLines(stored.said)
        self._said = directives(said.bytesOf(b"cache-control"))
        self._age = self._resident + deltaSeconds(said.bytesOf(b"age"))
        self._staleness = self._age - freshness(said, self._said)

    def mayBeSent(self, notSentStale: frozenset[bytes]) -> bool:
        """
        Whether neither the response nor the request forbids it.

        @param notSentStale: as L{sitio.http.caching.mayBeSent} takes it.
        """
        # Section 4.3.2: only the origin can evaluate these.
        request = self._request
        if "if-match" in request or "if-unmodified-since" in request:
            return False
        asked = request.bytesOf(b"cache-control")
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
        headers = Headers.fromLines(stored.lines, None)
        added = b"Age: %d\r\nCache-Status: %b\r\n" % (self._age, cacheStatus)
        if "date" not in headers:
            # That of its arrival (RFC 9110, section 6.6.1), not that of this response.
            added += b"Date: %b\r\n" % formatDate(now - self._resident).encode("ascii")
        unchanged = isUnchanged(self._request, headers)
        for key in (_NOT_IN_304 if unchanged else _NOT_SENT).intersection(headers.lineKeys()):
            headers.replace(key, b"")
        headers.append(added)
        if unchanged:
            response = Response.fromHead(304, reasonFor(304), headers)
        else:
            # The length that a HEAD says, too (RFC 9110, section 8.6).
            length = len(stored.body)
            response = Response.fromHead(stored.status, stored.reason, headers, length)
        response.body = b"" if unchanged else stored.body
        return response
