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
from typing import Any

from twisted.application.service import Service
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from sitio.interfaces import IExchange, IExchangeObserver
from sitio.net.periodic import Periodic
from sitio.telemetry.attempts import METHODS, Attempts
from sitio.telemetry.histogram import FINE_BOUNDS, LATENCY_BOUNDS, coarser, noCounts
from sitio.telemetry.outcomes import Outcome, outcomeOf
from sitio.telemetry.row import Durations, Row, sumUp
from sitio.telemetry.snapshot import OTHER, EndpointMetrics, Metrics, Snapshot, busiestFirst
from sitio.telemetry.statsline import countsOf, event, moved
from sitio.telemetry.underway import UnderWay, byEndpoint

#: Rows of the table: more than a person reads.  At two kilobytes a row, they take a
#: megabyte, and twice that when they have been read.
MAX_ENDPOINTS = 512

#: Characters of a route.  A longer path mostly carries data.
MAX_ROUTE = 256

#: Seconds without a hit after which an endpoint's hits weigh half when a full table
#: evicts rows.  Ten hits outlast a quarter of an hour of scanning; a million hits of
#: an endpoint that no longer exists outlast less than two hours.
HALF_LIFE = 300.0

#: Statuses for "no such endpoint".  Simple servers answer 501 to methods that they
#: don't know.
NOT_FOUND = frozenset((404, 405, 410, 501))

#: For each fine bucket that of Prometheus, and for each of these its lower bound.
_COARSE = coarser(LATENCY_BOUNDS)
_LOWER = (-1.0, *LATENCY_BOUNDS)

_NOT_FOUND = ("", "(not found)")
_REFUSED = ("", "(refused)")


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
        self._evicted = 0
        self._added: Durations = [*noCounts(FINE_BOUNDS), 0.0]
        self._attempts = Attempts()
        self._rows: dict[tuple[str, str], Row] = {}
        self._shared = {key: Row() for key in (OTHER, _NOT_FOUND, _REFUSED)}
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
        row.last = exchange.began
        if exchange.bytesIn:
            row.bytesIn += exchange.bytesIn
        row.bytesOut += exchange.bytesOut
        try:
            # A failure itself is no key: what it did decides.
            durations, attempts = row.outcomes[status, upstream, exchange.failure]
        except KeyError:
            durations, attempts = self._countersOf(row, exchange)
        upstreamTime = exchange.upstreamTime
        seconds = exchange.duration if status != 101 else upstreamTime
        fine = bisect_left(FINE_BOUNDS, seconds)
        row.latency[fine] += 1
        bucket = _COARSE[fine]
        durations[bucket] += 1
        durations[-1] += seconds
        if attempts is None or exchange.attempts != 1:
            if exchange.attempts:
                self._attempts.count(exchange)
        else:
            waited = upstreamTime + exchange.connectTime
            # Most take about as long as their exchange.
            if waited <= _LOWER[bucket]:
                bucket = bisect_left(LATENCY_BOUNDS, waited, 0, bucket)
            attempts[bucket] += 1
            attempts[-1] += waited
        if attempts is not None and status != 101:
            added = seconds - upstreamTime
            counts = self._added
            counts[bisect_left(FINE_BOUNDS, added, 0, fine)] += 1
            counts[-1] += added

    def _countersOf(self, row: Row, exchange: Any) -> tuple[Durations, Durations | None]:
        """
        The counters for an exchange of whose outcome the row has none yet, or that had a
        failure.
        """
        outcome = outcomeOf(exchange)
        upstream = exchange.upstreamStatus
        attempts = None
        if outcome[2] is None and upstream is not None:
            attempts = self._attempts.durationsOf(exchange.request.line.method, upstream)
        durations = row.durationsOf(outcome, attempts)
        return durations, None if exchange.failure is not None else attempts

    def _rowFor(self, method: str, path: str, status: int | None) -> Row:
        """The row for an endpoint that is not in the table; adds it if it belongs there."""
        key = self._keyFor(method, path, status)
        row = self._shared.get(key) or self._rows.get(key)
        if row is None:
            if len(self._rows) >= self.maxEndpoints:
                self._evict()
            row = self._rows[key] = Row()
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
            "added": self._added[:-1],
            "addedSeconds": self._added[-1],
            "attempts": self._attempts.snapshot(),
            "latencyBounds": list(FINE_BOUNDS),
            "addedBounds": list(FINE_BOUNDS),
            "sentBounds": list(LATENCY_BOUNDS),
        }

    def _allRows(self, running: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Row]:
        """The rows of all endpoints with hits or with exchanges under way."""
        hit = {key: row for key, row in self._shared.items() if row.hits}
        known = self._rows | hit
        return known | {key: self._shared.get(key) or Row() for key in running if key not in known}

    def _total(
        self, rows: dict[tuple[str, str], Row], running: dict[tuple[str, str], UnderWay]
    ) -> Metrics:
        # By columns, which is five times as fast as one row after the other.
        found: dict[Outcome, list[Durations]] = {}
        for row in rows.values():
            for outcome, (durations, _) in row.outcomes.items():
                found.setdefault(outcome, []).append(durations)
        total = Row(
            bytesIn=sum(row.bytesIn for row in rows.values()),
            bytesOut=sum(row.bytesOut for row in rows.values()),
            latency=sumUp(row.latency for row in rows.values()) or noCounts(FINE_BOUNDS),
            outcomes={outcome: (sumUp(each), None) for outcome, each in found.items()},
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
        hits = sum(row.hits for row in (*self._rows.values(), *self._shared.values()))
        counts = (hits, sum(each.count for each in running.values()))
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
