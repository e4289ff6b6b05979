"""
Counters and latency histograms per endpoint.

L{Stats} observes exchanges, counts them for the life of the process, and logs a line
every two seconds in which something changed.  Everybody else reads the metrics as a
L{Snapshot<sitio.telemetry.snapshot.Snapshot>}, which is plain data.

An I{endpoint} is a method and a route; the route is the path without the query.  The
table of endpoints is bounded, whatever clients request.  Three rows in round brackets
count for many endpoints:

  - B{(refused)}: requests whose method and path could not be read;
  - B{(not found)}: endpoints for which the upstream has never answered anything but
    "not found", so that a scan for vulnerabilities makes no rows;
  - B{(other)}: overlong paths, and what was counted for endpoints that were evicted.

A full table evicts an eighth of its rows: those with the fewest hits, where hits weigh
less the longer ago the last one was.  So a flood of paths that are requested once evicts
its own rows, and busy endpoints stay.  A new endpoint gets its row amid a flood, or when
old ones fall silent.  The sums stay right throughout.

Contract: clock and log are passed in; no I/O but the log.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable
from operator import add
from typing import Any

from attrs import define, field
from twisted.application.service import Service
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from sitio.interfaces import IExchange, IExchangeObserver
from sitio.net.periodic import Periodic
from sitio.telemetry.histogram import (
    ADDED_BOUNDS,
    LATENCY_BOUNDS,
    Histogram,
    addCounts,
    noCounts,
)
from sitio.telemetry.snapshot import OTHER, EndpointMetrics, Metrics, Snapshot, busiestFirst
from sitio.telemetry.statsline import countsOf, event, moved
from sitio.telemetry.underway import UnderWay, byEndpoint

#: Rows of the table: more than a person reads.  At a kilobyte a row, long paths
#: included, they take half a megabyte, and twice that when they have been read.
MAX_ENDPOINTS = 512

#: Characters of a route.  A longer path mostly carries data.
MAX_ROUTE = 256

#: Pairs of sent and upstream status that one row tells apart; more are counted by
#: class.  An endpoint has a handful, unless it makes up statuses.
MAX_STATUSES = 32

#: Seconds without a hit after which an endpoint's hits weigh half when a full table
#: evicts rows.  Ten hits outlast a quarter of an hour of scanning; a million hits of
#: an endpoint that no longer exists outlast less than two hours.
HALF_LIFE = 300.0

#: Methods shown by name: RFC 9110, section 9.3, RFC 5789 and WebDAV.  Any other is
#: C{_OTHER}, OpenTelemetry's name, as clients can make up any number of methods.
_STANDARD = ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH")
_WEBDAV = ("LOCK", "UNLOCK", "COPY", "MOVE", "MKCOL", "PROPFIND", "PROPPATCH", "REPORT", "SEARCH")
METHODS = frozenset(_STANDARD + _WEBDAV)

#: Statuses for "no such endpoint".  Simple servers answer 501 to methods that they
#: don't know.
NOT_FOUND = frozenset((404, 405, 410, 501))

_NOT_FOUND = ("", "(not found)")
_REFUSED = ("", "(refused)")


@define(eq=False)
class _Row:
    """
    The metrics of one endpoint, in the form that is fastest to count in.

    @ivar statuses: for each pair of sent and upstream status a list: the counts of the
        latency histogram, then the sum in seconds.
    @ivar last: when the last exchange began.
    @ivar told: the metrics that were read last, when there were C{toldHits}: of most rows
        nothing has changed when they are read again.
    """

    hits: int = 0
    bytesIn: int = 0
    bytesOut: int = 0
    statuses: dict[tuple[int | None, int | None], list[Any]] = field(factory=dict)
    last: float = 0.0
    maxStatuses: int = MAX_STATUSES
    told: Metrics | None = None
    toldHits: int = 0

    def durationsOf(self, sent: int | None, upstream: int | None) -> list[Any]:
        """The list of a pair of statuses; of their classes if there are too many pairs."""
        pair = (sent, upstream)
        if pair not in self.statuses and len(self.statuses) >= self.maxStatuses:
            pair = (sent and _classOf(sent), upstream and _classOf(upstream))
        return self.statuses.setdefault(pair, [*noCounts(LATENCY_BOUNDS), 0.0])

    def add(self, other: _Row) -> None:
        """Add the metrics of another row."""
        self.hits += other.hits
        self.bytesIn += other.bytesIn
        self.bytesOut += other.bytesOut
        for (sent, upstream), theirs in other.statuses.items():
            ours = self.durationsOf(sent, upstream)
            ours[:] = map(add, ours, theirs)

    def failures(self) -> int:
        """How many hits were failures of the upstream, masked or not."""
        return sum(
            sum(durations[:-1])
            for (status, asked), durations in self.statuses.items()
            if _isFailure(status if asked is None else asked)
        )

    def metrics(self, running: UnderWay | None = None) -> Metrics:
        """
        The metrics as plain data, with those of exchanges under way.  Nobody changes it.
        """
        if running is None and self.told is not None and self.toldHits == self.hits:
            return self.told
        told = self._metrics(running or UnderWay())
        if running is None:
            self.told, self.toldHits = told, self.hits
        return told

    def _metrics(self, running: UnderWay) -> Metrics:
        statuses: dict[str, int] = {}
        upstreamStatuses: dict[str, int] = {}
        masked: dict[str, int] = {}
        total: Histogram = {"latency": noCounts(LATENCY_BOUNDS), "seconds": 0.0}
        durations: dict[str, Histogram] = {}
        for (status, asked), (*latency, seconds) in self.statuses.items():
            upstreamStatus = status if asked is None else asked
            name = _nameOf(upstreamStatus)
            times = sum(latency)
            _tally(statuses, _nameOf(status), times)
            _tally(upstreamStatuses, name, times)
            if _isMasked(status, upstreamStatus):
                _tally(masked, name, times)
            if name not in durations:
                durations[name] = {"latency": noCounts(LATENCY_BOUNDS), "seconds": 0.0}
            for each in (total, durations[name]):
                each["latency"] = addCounts(each["latency"], latency)
                each["seconds"] += seconds
        return {
            "hits": self.hits,
            "statuses": statuses,
            "upstreamStatuses": upstreamStatuses,
            "masked": masked,
            "bytesIn": self.bytesIn + running.bytesIn,
            "bytesOut": self.bytesOut + running.bytesOut,
            "latency": total["latency"],
            "seconds": total["seconds"],
            "durations": durations,
            "underWay": running.count,
        }


def _tally(counts: dict[str, int], name: str, times: int) -> None:
    counts[name] = counts.get(name, 0) + times


def _classOf(status: int) -> int:
    """The class of a status, 1 to 9; a class is its own class."""
    return status // 100 or status


def _nameOf(status: int | None) -> str:
    if status is None:
        return "none"
    return str(status) if status > 9 else f"{status}xx"


def _isFailure(upstreamStatus: int | None) -> bool:
    """Whether this status, or no response at all, is a failure of the upstream."""
    return upstreamStatus is None or _classOf(upstreamStatus) >= 5


def _isMasked(status: int | None, upstreamStatus: int | None) -> bool:
    """Whether the upstream failed and the client was sent something better."""
    if status is None or upstreamStatus is None or status == 499:
        return False
    return _classOf(status) < 5 <= _classOf(upstreamStatus)


@implementer(IExchangeObserver)
class Stats(Service):
    """
    Counts exchanges, and logs the stats line while it runs.
    """

    def __init__(
        self,
        clock: IReactorTime,
        interval: float = 2.0,
        log: Logger | None = None,
        maxEndpoints: int = MAX_ENDPOINTS,
    ) -> None:
        """
        @param interval: seconds between two lines of the log; 0 for no lines.
        @param maxEndpoints: rows of the table, not counting the three in round brackets.

        @raise ValueError: the interval is negative or infinite, or there are no rows.
        """
        if not 0 <= interval < float("inf"):
            raise ValueError(
                f"{interval!r} is no interval for the stats line; use seconds, or 0 for no line"
            )
        if maxEndpoints < 1:
            raise ValueError(f"{maxEndpoints!r} endpoints can't be counted; use 1 or more")
        self.maxEndpoints = maxEndpoints
        self._clock = clock
        self._began = clock.seconds()
        self._interval = interval
        self._log = Logger(namespace="sitio.telemetry.stats") if log is None else log
        self._reporting = Periodic(
            clock, interval, self._report, log=self._log, whenFails="The stats line failed"
        )
        self._hits = 0
        self._evicted = 0
        self._added = noCounts(ADDED_BOUNDS)
        self._addedSeconds = 0.0
        self._rows: dict[tuple[str, str], _Row] = {}
        self._shared = {key: _Row() for key in (OTHER, _NOT_FOUND, _REFUSED)}
        self._underWay: Collection[Any] = ()
        self._logged: dict[tuple[str, str], tuple[int, int, int]] = {}
        self._loggedTotal: Metrics | None = None

    def watch(self, exchanges: Collection[Any]) -> None:
        """
        Count these exchanges as under way.

        @param exchanges: those that have begun and not ended, at any moment.
        """
        self._underWay = exchanges

    # Counting: runs for each exchange, so it is inlined and does no more than it must.

    def exchangeFinished(self, exchange: IExchange) -> None:
        """Count one exchange.  See L{IExchangeObserver}."""
        status = exchange.status
        upstream = exchange.upstreamStatus
        line = exchange.request.line
        row = self._rows.get(line.endpoint)
        if row is None:
            row = self._rowFor(line.method, line.path, status if upstream is None else upstream)
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
            added = seconds - exchange.upstreamTime
            self._addedSeconds += added
            self._added[bisect_left(ADDED_BOUNDS, added)] += 1

    def _rowFor(self, method: str, path: str, status: int | None) -> _Row:
        """The row for an endpoint that is not in the table; adds it if it belongs there."""
        key = self._keyFor(method, path, status)
        row = self._shared.get(key) or self._rows.get(key)
        if row is None:
            if len(self._rows) >= self.maxEndpoints:
                self._evict()
            row = self._rows[key] = _Row()
        return row

    def _keyFor(self, method: str, path: str, status: int | None) -> tuple[str, str]:
        """
        The endpoint as which an exchange counts.

        @param status: the upstream's, or the one that was sent; L{None} if that is unknown.
        """
        if path == "-" or method == "-":
            return _REFUSED
        if method not in METHODS:
            method = "_OTHER"
        if (method, path) in self._rows:
            return method, path
        if status in NOT_FOUND:
            return _NOT_FOUND
        if len(path) > MAX_ROUTE or path[:1] not in ("/", "*"):
            return OTHER
        return method, path

    def _keyOf(self, exchange: Any) -> tuple[str, str]:
        line = exchange.request.line
        upstream = exchange.upstreamStatus
        status = exchange.status if upstream is None else upstream
        return self._keyFor(line.method, line.path, status)

    def _running(self) -> dict[tuple[str, str], UnderWay]:
        """The exchanges under way, by endpoint."""
        if not self._underWay:
            return {}
        # A full table has some more rows meanwhile.
        room = max(self.maxEndpoints - len(self._rows), self.maxEndpoints // 8)
        now = self._clock.seconds()
        rows = self._rows.keys() | self._shared.keys()
        return byEndpoint(self._underWay, now, rows, self._keyOf, room)

    def _evict(self) -> None:
        """Make room: add the rows of least weight to (other), of equals the oldest first."""
        now = self._clock.seconds()

        def weight(key: tuple[str, str]) -> float:
            row = self._rows[key]
            return row.hits * float(0.5 ** (max(0.0, now - row.last) / HALF_LIFE))

        lightest = sorted(self._rows, key=weight)
        for key in lightest[: max(1, self.maxEndpoints // 8)]:
            self._shared[OTHER].add(self._rows.pop(key))
            self._evicted += 1

    # Reading.

    def snapshot(self) -> Snapshot:
        """The metrics now."""
        running = self._running()
        rows = self._allRows(running)
        return {
            "uptime": self._clock.seconds() - self._began,
            "total": self._total(rows, running),
            "endpoints": busiestFirst(
                {"method": key[0], "route": key[1], **row.metrics(running.get(key))}
                for key, row in rows.items()
            ),
            "evicted": self._evicted,
            "added": list(self._added),
            "addedSeconds": self._addedSeconds,
            "latencyBounds": list(LATENCY_BOUNDS),
            "addedBounds": list(ADDED_BOUNDS),
        }

    def _allRows(self, running: Iterable[tuple[str, str]]) -> dict[tuple[str, str], _Row]:
        """The rows of all endpoints with hits or with exchanges under way."""
        hit = {key: row for key, row in self._shared.items() if row.hits}
        known = self._rows | hit
        return known | {key: self._shared.get(key) or _Row() for key in running if key not in known}

    def _total(
        self, rows: dict[tuple[str, str], _Row], running: dict[tuple[str, str], UnderWay]
    ) -> Metrics:
        # By columns, which is five times as fast as one row after the other.
        pairs: dict[tuple[int | None, int | None], list[list[Any]]] = {}
        for row in rows.values():
            for pair, durations in row.statuses.items():
                pairs.setdefault(pair, []).append(durations)
        total = _Row(
            hits=sum(row.hits for row in rows.values()),
            bytesIn=sum(row.bytesIn for row in rows.values()),
            bytesOut=sum(row.bytesOut for row in rows.values()),
            statuses={pair: list(map(sum, zip(*each))) for pair, each in pairs.items()},
        )
        all = UnderWay()
        for each in running.values():
            all.count += each.count
            all.bytesIn += each.bytesIn
            all.bytesOut += each.bytesOut
        return total.metrics(all)

    # Logging: a service.

    def startService(self) -> None:
        """Begin to log a line in each interval in which something changed."""
        Service.startService(self)
        if self._interval:
            self._reporting.startService()

    def stopService(self) -> None:
        """Log what is not logged yet.  Exchanges that end later are still counted."""
        Service.stopService(self)
        if self._reporting.running:
            self._reporting.stopService()
            self._reporting.turn()

    def _report(self) -> None:
        running = self._running()
        counts = (self._hits, sum(each.count for each in running.values()))
        if counts == countsOf(self._loggedTotal)[:2]:
            return
        rows = self._allRows(running)
        now = {
            key: (row.hits, running[key].count if key in running else 0, row.failures())
            for key, row in rows.items()
        }
        listed, more = moved(now, self._logged)
        endpoints: list[EndpointMetrics] = [
            {"method": key[0], "route": key[1], **rows[key].metrics(running.get(key))}
            for key in listed
        ]
        total = self._total(rows, running)
        self._log.info("{line}", **event(total, self._loggedTotal, endpoints, more))
        self._logged, self._loggedTotal = now, total
