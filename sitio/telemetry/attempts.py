"""
Counts the attempts to send requests to the upstream: L{Attempts}.

Contract: pure; reads exchanges, and changes nothing.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Any

from sitio.telemetry.histogram import LATENCY_BOUNDS, Histogram
from sitio.telemetry.outcomes import failureName
from sitio.telemetry.row import Durations, asHistogram, classOf, keyOf, noDurations

#: Kinds of attempts that are told apart; more are counted by the class of their status.
MAX_KINDS = 128

#: Methods shown by name: RFC 9110, section 9.3, RFC 5789 and WebDAV.  Any other is
#: C{_OTHER}, OpenTelemetry's name, as clients can make up any number of methods.
_STANDARD = ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH")
_WEBDAV = ("LOCK", "UNLOCK", "COPY", "MOVE", "MKCOL", "PROPFIND", "PROPPATCH", "REPORT", "SEARCH")
METHODS = frozenset(_STANDARD + _WEBDAV)

#: Method, status, and the name of a failure.
_Kind = tuple[str, int | None, str | None]


class Attempts:
    """
    Histograms of the attempts of all endpoints, by method, status and failure: bounded, as
    there are few methods, names of failures and, beyond L{MAX_KINDS}, classes of statuses.

    The time of an attempt is the wait for a connection and for the head of the response.
    """

    def __init__(self) -> None:
        self._kinds: dict[_Kind, Durations] = {}

    def durationsOf(self, method: str, status: int | None, name: str | None = None) -> Durations:
        """
        The counters of a kind of attempts.

        @param status: of the upstream's response; L{None} without one.
        @param name: of the failure that ended it early.
        """
        if method not in METHODS:
            method = "_OTHER"
        kind = (method, status, name)
        durations = self._kinds.get(kind)
        if durations is None:
            if len(self._kinds) >= MAX_KINDS:
                kind = (method, status and classOf(status), name)
            durations = self._kinds.setdefault(kind, noDurations())
        return durations

    def count(self, exchange: Any) -> None:
        """Count all attempts of an exchange that has ended."""
        for status, error, seconds in exchange.attemptsMade():
            name = None if error is None else failureName(error)
            durations = self.durationsOf(exchange.request.line.method, status, name)
            durations[bisect_left(LATENCY_BOUNDS, seconds)] += 1
            durations[-1] += seconds

    def snapshot(self) -> dict[str, Histogram]:
        """The histograms as plain data, by method, status and failure."""
        return {
            f"{method} {keyOf(status, name)}": asHistogram(durations)
            for (method, status, name), durations in self._kinds.items()
            if any(durations)
        }
