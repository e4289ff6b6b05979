"""
Counters and latency histograms per endpoint.

L{Stats} observes exchanges, counts them for the life of the process, and logs a line
every two seconds in which something changed.  Everybody else reads the metrics as a
L{Snapshot<sitio.telemetry.snapshot.Snapshot>}, which is plain data.

An I{endpoint} is a method and a route.  The route is the template that the path matches, of
those that are configured, else the path without the query.  The table of endpoints is
bounded, whatever clients request.  Three rows in round brackets count for many endpoints:

  - B{(refused)}: requests whose method and path could not be read;
  - B{(not found)}: endpoints for which the upstream has never answered anything but
    "not found", so that a scan for vulnerabilities makes no rows;
  - B{(other)}: overlong paths, and what was counted for endpoints that were evicted.

A full table evicts an eighth of its rows: those with the fewest hits, where hits weigh
less the longer ago the last one was.  So a flood of paths that are requested once evicts
its own rows, and busy endpoints stay.  A new endpoint gets its row amid a flood, or when
old ones fall silent.  Rows of templates are never evicted.  The sums stay right throughout,
also those of each method and template, which is what Prometheus gets: rows in round brackets
are kept for each method, and shown as one.

Contract: clock and log are passed in; no I/O but the log.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from sitio.http.routes import Routes
from sitio.interfaces import IExchange, IExchangeObserver
from sitio.net.turns import Steps, atOnce, inTurns
from sitio.telemetry.attempts import METHODS, Attempts
from sitio.telemetry.histogram import FINE_BOUNDS, LATENCY_BOUNDS, coarser, noCounts
from sitio.telemetry.outcomes import outcomeOf
from sitio.telemetry.reading import Reading
from sitio.telemetry.row import Durations, Row
from sitio.telemetry.snapshot import OTHER, Snapshot, busiestFirst
from sitio.telemetry.statsline import StatsLine
from sitio.telemetry.underway import Key, UnderWay, byEndpoint, isShared

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

#: The same for a path that matches a template: there 404 is an answer of the service, as for
#: a user that does not exist.
METHOD_NOT_FOUND = frozenset((405, 501))

#: The part of the table that templates may take; what does not fit counts as C{(other)}.
TEMPLATE_SHARE = 0.75

_OTHER = OTHER[1]
_NOT_FOUND = "(not found)"
_REFUSED = "(refused)"


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
        routes: Routes | None = None,
    ) -> None:
        """
        @param interval: seconds between two lines of the log; 0 for no lines.
        @param maxEndpoints: rows of the table, not counting the three in round brackets.
        @param routes: the templates of paths that are endpoints.

        @param log: for the stats line.

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
        self._line = StatsLine(
            clock, lambda *told: inTurns(self._readingChanges(*told), clock), interval, log
        )
        self._readings = 0
        self._evicted = 0
        self._added: Durations = [*noCounts(FINE_BOUNDS), 0.0]
        self._attempts = Attempts()
        self._templates: frozenset[str] = frozenset()
        self._templateRows = 0
        self._rows: dict[Key, Row] = {}
        self._shared: dict[Key, Row] = {}
        self._underWay: Collection[Any] = ()
        self.useRoutes(routes or Routes())

    def useRoutes(self, routes: Routes) -> None:
        """
        Count by other templates from now on.  What was counted by those before stays theirs, so
        that no counter goes back.
        """
        self._routes = routes if routes.templates else None
        counted = {key[1] for key in self._rows if key[1] in self._templates}
        self._templates = frozenset(counted.union(routes.templates))
        self._templateRows = sum(key[1] in self._templates for key in self._rows)

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
        if line.received is not None:
            # What a policy has put into the target may be a secret.
            line = line.received
        row = self._rows.get(line.endpoint)
        if row is None:
            row = self._rowFor(line.method, line.path, status if upstream is None else upstream)
        row.hits += 1
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
        isOwn = key[1][:1] != "("
        table = self._rows if isOwn else self._shared
        row = table.get(key)
        if row is None:
            if isOwn:
                if len(table) >= self.maxEndpoints:
                    if self._readings:
                        # What is read stays in its place meanwhile.
                        return self._shared.setdefault((method, _OTHER), Row())
                    self._evict()
                self._templateRows += key[1] in self._templates
            row = table[key] = Row()
        return row

    def _keyFor(self, method: str, path: str, status: int | None) -> Key:
        """
        The endpoint as which an exchange counts; one in round brackets has its method.

        @param status: the upstream's, or the one that was sent; L{None} if that is unknown.
        """
        isRefused = path == "-" or method == "-"
        if method not in METHODS:
            method = "_OTHER"
        if isRefused:
            return method, _REFUSED
        template = None if self._routes is None else self._routes.match(path)
        if (method, template or path) in self._rows:
            return method, template or path
        if status in (NOT_FOUND if template is None else METHOD_NOT_FOUND):
            return method, _NOT_FOUND
        if template is not None:
            hasRoom = self._templateRows < self.maxEndpoints * TEMPLATE_SHARE
            return method, template if hasRoom else _OTHER
        if len(path) > MAX_ROUTE or path[:1] not in ("/", "*"):
            return method, _OTHER
        return method, path

    def _keyOf(self, exchange: Any) -> Key:
        line = exchange.request.receivedLine
        if line.endpoint in self._rows:
            return line.endpoint
        upstream = exchange.upstreamStatus
        status = exchange.status if upstream is None else upstream
        return self._keyFor(line.method, line.path, status)

    def _evict(self) -> None:
        """Make room: add the rows of least weight to (other), of equals the oldest first."""
        now = self._clock.seconds()

        weights = {
            key: row.hits * 0.5 ** (max(0.0, now - row.last) / HALF_LIFE)
            for key, row in self._rows.items()
            if key[1] not in self._templates
        }
        evicted: dict[Key, list[Row]] = {}
        for key in sorted(weights, key=weights.__getitem__)[: max(1, self.maxEndpoints // 8)]:
            evicted.setdefault((key[0], _OTHER), []).append(self._rows.pop(key))
            self._evicted += 1
        for key, rows in evicted.items():
            self._shared.setdefault(key, Row()).add(rows)

    # Reading.

    def snapshot(self) -> Snapshot:
        """The metrics now."""
        return atOnce(self.reading())

    def reading(self) -> Steps[Snapshot]:
        """Make a snapshot in steps, while exchanges are counted."""
        return (yield from self._read((yield from self._running())))

    def _readingChanges(self, hits: int, underWay: int) -> Steps[Snapshot | None]:
        """The same, but nothing if there are as many hits and exchanges under way."""
        running = yield from self._running()
        now = 0
        for row in (*self._rows.values(), *self._shared.values()):
            now += row.hits
            yield 2
        if (now, sum(each.count for each in running.values())) != (hits, underWay):
            return (yield from self._read(running))
        while running:
            # To drop thousands at once takes too long.
            running.popitem()
            yield 4
        return None

    def _running(self) -> Steps[dict[Key, UnderWay]]:
        """The exchanges under way, by endpoint."""
        # A full table has some more rows meanwhile.
        room = max(self.maxEndpoints - len(self._rows), self.maxEndpoints // 8)
        # To list thousands is a turn of its own.
        yield len(self._underWay) // 64
        exchanges = list(self._underWay)
        yield len(exchanges) // 64
        now = self._clock.seconds()
        return (yield from byEndpoint(exchanges, now, self._rows, self._keyOf, room))

    def _read(self, running: dict[Key, UnderWay]) -> Steps[Snapshot]:
        self._readings += 1
        try:
            reading = yield from self._readRows(running)
        finally:
            self._readings -= 1
        total, routes = yield from reading.sumUp()
        yield len(reading.endpoints)
        endpoints = yield from busiestFirst(reading.endpoints)
        return {
            "uptime": self._clock.seconds() - self._began,
            "total": total,
            "endpoints": endpoints,
            "routes": routes,
            "evicted": self._evicted,
            "added": self._added[:-1],
            "addedSeconds": self._added[-1],
            "attempts": self._attempts.snapshot(),
            "latencyBounds": list(FINE_BOUNDS),
            "addedBounds": list(FINE_BOUNDS),
            "sentBounds": list(LATENCY_BOUNDS),
        }

    def _readRows(self, running: dict[Key, UnderWay]) -> Steps[Reading]:
        reading = Reading(self._templates, self._underWay)
        for key, row in list(self._rows.items()):
            yield from reading.reading(key, row, running.pop(key, UnderWay()))
        # An exchange without a row may have got one since.  Those in round brackets come
        # last, as they count what finds no other row meanwhile.
        own = [key for key in running if not isShared(key)]
        for key in dict.fromkeys((*own, *running, *self._shared)):
            row = (self._shared if isShared(key) else self._rows).get(key) or Row()
            yield from reading.reading(key, row, running.pop(key, UnderWay()))
        return reading

    # Logging: a service.

    def startService(self) -> None:
        """Begin to log a line in each interval in which something changed."""
        Service.startService(self)
        self._line.startService()

    def stopService(self) -> Deferred[None] | None:
        """Log what is not logged yet.  Exchanges that end later are still counted."""
        Service.stopService(self)
        return self._line.stopService()
