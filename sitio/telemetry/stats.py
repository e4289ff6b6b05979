"""
Metrics: what came, what became of it, and how long it took.

L{Stats} observes exchanges, keeps metrics for each endpoint for the life of
the process, and logs them every two seconds where anything moved.  Everybody
else reads them as a L{Snapshot<sitio.telemetry.snapshot.Snapshot>}, which is plain data.

An I{endpoint} is a method and a route, which is the path with its query cut.
The table of endpoints is bounded, whatever clients ask for:

  - B{(refused)} counts the requests of which no method and path could be read;
  - B{(not found)} counts those whose endpoint the upstream does not know and
    that never answered otherwise, so that a scan for holes makes no rows;
  - B{(other)} counts those with an overlong path, and all that an endpoint had
    when it lost its row to another.

A full table gives up an eighth of its rows: those with the fewest hits, where
hits weigh less the longer nothing more has come.  So a flood of paths that are
asked for once pushes out its own, a busy endpoint stays, and one that shows up
amid a flood, or after others fell silent, gets its place.  The sums stay right
throughout.

Contract: clock and log are passed in; no I/O but the log.
"""

from __future__ import annotations

from bisect import bisect_left
from operator import add
from typing import Any

from attrs import define, field
from twisted.application.service import Service
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from sitio.interfaces import IExchange, IExchangeObserver
from sitio.net.periodic import Periodic
from sitio.telemetry.snapshot import (
    LATENCY_BOUNDS,
    OWN_BOUNDS,
    Durations,
    EndpointMetrics,
    Metrics,
    Snapshot,
    inOrder,
)
from sitio.telemetry.statsline import event, moved

#: Rows of the table: more than a person reads, and at a kilobyte a row, long
#: paths included, half a megabyte.
MAX_ENDPOINTS = 512

#: Characters of a route: longer ones are data in the clothes of a path.
MAX_ROUTE = 256

#: Pairs of a true and a sent status told apart in one row; those beyond are
#: counted by class.  An endpoint has a handful, unless it makes statuses up.
MAX_STATUSES = 32

#: Seconds of silence after which an endpoint's hits weigh half when a full table
#: chooses what to give up.  Ten hits outlast a quarter of an hour of scanning, a
#: million hits before a deployment that renames all less than two hours.
HALF_LIFE = 300.0

#: Methods shown by name: RFC 9110, section 9.3, RFC 5789 and WebDAV.  Any other
#: is C{_OTHER}, OpenTelemetry's word, as clients can make up any number.
_STANDARD = ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH")
_WEBDAV = ("LOCK", "UNLOCK", "COPY", "MOVE", "MKCOL", "PROPFIND", "PROPPATCH", "REPORT", "SEARCH")
METHODS = frozenset(_STANDARD + _WEBDAV)

#: Statuses that say that there is no such endpoint; the last is what simple
#: servers answer to a method they don't know.
NOT_FOUND = frozenset((404, 405, 410, 501))

_OTHER = ("", "(other)")
_NOT_FOUND = ("", "(not found)")
_REFUSED = ("", "(refused)")


def _noLatency() -> list[int]:
    return [0] * (len(LATENCY_BOUNDS) + 1)


@define(eq=False)
class _Row:
    """
    One endpoint's metrics as they are kept.

    @ivar statuses: for each pair of a sent and an upstream status that came, how
        often in each bucket of durations, and at last the sum of these in seconds.
    @ivar last: when its last exchange began.
    """

    hits: int = 0
    bytesIn: int = 0
    bytesOut: int = 0
    statuses: dict[tuple[int | None, int | None], list[Any]] = field(factory=dict)
    last: float = 0.0
    maxStatuses: int = MAX_STATUSES

    def durationsOf(self, sent: int | None, upstream: int | None) -> list[Any]:
        """Those of a pair that has none yet, or may have none of its own."""
        pair = (sent, upstream)
        if pair not in self.statuses and len(self.statuses) >= self.maxStatuses:
            pair = (sent and _classOf(sent), upstream and _classOf(upstream))
        return self.statuses.setdefault(pair, [*_noLatency(), 0.0])

    def add(self, other: _Row) -> None:
        """Take over the metrics of a row that is given up."""
        self.hits += other.hits
        self.bytesIn += other.bytesIn
        self.bytesOut += other.bytesOut
        for (sent, upstream), theirs in other.statuses.items():
            ours = self.durationsOf(sent, upstream)
            ours[:] = map(add, ours, theirs)

    def metrics(self) -> Metrics:
        """The same as plain data."""
        statuses: dict[str, int] = {}
        upstreamStatuses: dict[str, int] = {}
        masked: dict[str, int] = {}
        total: Durations = {"latency": _noLatency(), "seconds": 0.0}
        durations: dict[str, Durations] = {}
        for (status, asked), (*latency, seconds) in self.statuses.items():
            upstreamStatus = status if asked is None else asked
            name = _nameOf(upstreamStatus)
            times = sum(latency)
            _tally(statuses, _nameOf(status), times)
            _tally(upstreamStatuses, name, times)
            if _isMasked(status, upstreamStatus):
                _tally(masked, name, times)
            same = durations.setdefault(name, {"latency": _noLatency(), "seconds": 0.0})
            for each in (total, same):
                each["latency"] = list(map(add, each["latency"], latency))
                each["seconds"] += seconds
        return {
            "hits": self.hits,
            "statuses": statuses,
            "upstreamStatuses": upstreamStatuses,
            "masked": masked,
            "bytesIn": self.bytesIn,
            "bytesOut": self.bytesOut,
            "latency": total["latency"],
            "seconds": total["seconds"],
            "durations": durations,
        }


def _tally(counts: dict[str, int], name: str, times: int) -> None:
    counts[name] = counts.get(name, 0) + times


def _classOf(status: int) -> int:
    """1 to 9; a class is its own class."""
    return status // 100 or status


def _nameOf(status: int | None) -> str:
    if status is None:
        return "none"
    return str(status) if status > 9 else f"{status}xx"


def _isMasked(status: int | None, upstreamStatus: int | None) -> bool:
    """Whether the upstream failed and the client was sent something better."""
    if status is None or upstreamStatus is None or status == 499:
        return False
    return _classOf(status) < 5 <= _classOf(upstreamStatus)


@implementer(IExchangeObserver)
class Stats(Service):
    """
    Keeps the metrics, and logs them while it runs.
    """

    def __init__(
        self,
        clock: IReactorTime,
        interval: float = 2.0,
        log: Logger | None = None,
        maxEndpoints: int = MAX_ENDPOINTS,
    ) -> None:
        """
        @param interval: seconds between two lines of the log; 0 for none at all.
        @param maxEndpoints: rows of the table; the three in round brackets are
            beside it.

        @raise ValueError: for an interval or a number of rows that makes no sense.
        """
        if not 0 <= interval < float("inf"):
            raise ValueError(f"{interval!r} is no interval for the stats line: seconds, or 0, are")
        if maxEndpoints < 1:
            raise ValueError(f"{maxEndpoints!r} endpoints can't be counted: 1 or more can")
        self.maxEndpoints = maxEndpoints
        self._clock = clock
        self._began = clock.seconds()
        self._interval = interval
        self._log = Logger(namespace="sitio.telemetry.stats") if log is None else log
        self._reporting = Periodic(
            clock, interval, self._report, log=self._log, whenFails="The stats line failed"
        )
        self._hits = 0
        self._displaced = 0
        self._own = [0] * (len(OWN_BOUNDS) + 1)
        self._ownSeconds = 0.0
        self._rows: dict[tuple[str, str], _Row] = {}
        self._shared = {key: _Row() for key in (_OTHER, _NOT_FOUND, _REFUSED)}
        self._logged: dict[tuple[str, str], int] = {}
        self._loggedTotal: Metrics | None = None

    # Counting: a call for each exchange, so it is written out and does no more than it must.

    def exchangeFinished(self, exchange: IExchange) -> None:
        """Count one exchange.  See L{IExchangeObserver}."""
        status = exchange.status
        upstream = exchange.upstreamStatus
        line = exchange.request.line
        row = self._rows.get(line.endpoint)
        if row is None:
            true = status if upstream is None else upstream
            row = self._rowFor(line.method, line.path, true)
        self._hits += 1
        row.hits += 1
        row.last = exchange.began
        row.bytesIn += exchange.bytesIn
        row.bytesOut += exchange.bytesOut
        try:
            durations = row.statuses[status, upstream]
        except KeyError:
            durations = row.durationsOf(status, upstream)
        seconds = exchange.duration if status != 101 else exchange.upstreamTime
        durations[bisect_left(LATENCY_BOUNDS, seconds)] += 1
        durations[-1] += seconds
        if upstream is not None and status != 101 and exchange.failure is None:
            own = seconds - exchange.upstreamTime
            self._ownSeconds += own
            self._own[bisect_left(OWN_BOUNDS, own)] += 1

    def _rowFor(self, method: str, path: str, true: int | None) -> _Row:
        """The row for what has no row under its own name, or not yet."""
        if path == "-" or method == "-":
            return self._shared[_REFUSED]
        if method not in METHODS:
            method = "_OTHER"
            if (method, path) in self._rows:
                return self._rows[method, path]
        if true in NOT_FOUND:
            return self._shared[_NOT_FOUND]
        if len(path) > MAX_ROUTE or path[:1] not in ("/", "*"):
            return self._shared[_OTHER]
        if len(self._rows) >= self.maxEndpoints:
            self._displace()
        row = self._rows[method, path] = _Row()
        return row

    def _displace(self) -> None:
        """Make room: the rows of least weight go to (other), the oldest of equals first."""
        now = self._clock.seconds()

        def weight(key: tuple[str, str]) -> float:
            row = self._rows[key]
            return row.hits * float(0.5 ** (max(0.0, now - row.last) / HALF_LIFE))

        lightest = sorted(self._rows, key=weight)
        for key in lightest[: max(1, self.maxEndpoints // 8)]:
            self._shared[_OTHER].add(self._rows.pop(key))
            self._displaced += 1

    # Reading.

    def snapshot(self) -> Snapshot:
        """The metrics as they are now."""
        rows = self._allRows()
        return {
            "uptime": self._clock.seconds() - self._began,
            "total": self._total(rows).metrics(),
            "endpoints": inOrder(
                {"method": method, "route": route, **row.metrics()}
                for (method, route), row in rows.items()
            ),
            "displaced": self._displaced,
            "own": list(self._own),
            "ownSeconds": self._ownSeconds,
            "latencyBounds": list(LATENCY_BOUNDS),
            "ownBounds": list(OWN_BOUNDS),
        }

    def _allRows(self) -> dict[tuple[str, str], _Row]:
        return self._rows | {key: row for key, row in self._shared.items() if row.hits}

    def _total(self, rows: dict[tuple[str, str], _Row]) -> _Row:
        # Three digits each: a bound of its own, and the sum must tell all apart.
        total = _Row(maxStatuses=1000 * 1000)
        for row in rows.values():
            total.add(row)
        return total

    # Logging: a service.

    def startService(self) -> None:
        """From now on log a line each interval in which anything moved."""
        Service.startService(self)
        if self._interval:
            self._reporting.startService()

    def stopService(self) -> None:
        """Log what has not been logged yet, and no more.  What ends later still counts."""
        Service.stopService(self)
        if self._reporting.running:
            self._reporting.stopService()
            self._reporting.turn()

    def _report(self) -> None:
        if self._hits == (self._loggedTotal["hits"] if self._loggedTotal else 0):
            return
        rows = self._allRows()
        hits = {key: row.hits for key, row in rows.items()}
        listed, more = moved(hits, self._logged)
        endpoints: list[EndpointMetrics] = [
            {"method": key[0], "route": key[1], **rows[key].metrics()} for key in listed
        ]
        total = self._total(rows).metrics()
        self._log.info("{line}", **event(total, self._loggedTotal, endpoints, more))
        self._logged, self._loggedTotal = hits, total
