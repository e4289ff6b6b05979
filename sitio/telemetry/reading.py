"""
Reads the rows of a table as the parts of a snapshot, in steps: L{Reading}.

A full table takes many turns of the reactor, in which exchanges are counted.  So each row is
copied at one moment, with the exchanges under way that it has not counted.  All sums are those
of the copies: they agree, and never fall.

Contract: pure; reads the rows, and changes nothing of them but the metrics that they keep.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container
from typing import Any

from sitio.net.turns import Steps
from sitio.telemetry.histogram import FINE_BOUNDS, noCounts
from sitio.telemetry.outcomes import Outcome
from sitio.telemetry.row import Row, sumUp
from sitio.telemetry.snapshot import EndpointMetrics, Metrics, RouteMetrics
from sitio.telemetry.underway import Key, UnderWay, isShared

#: Rows that are added up together, by columns: five times as fast as one after the other.
_TOGETHER = 8


class _Columns:
    """Lists of numbers, added up."""

    def __init__(self) -> None:
        self._lists: list[list[Any]] = []

    def add(self, numbers: list[Any]) -> None:
        """Add one, which does not change any more."""
        self._lists.append(numbers)
        if len(self._lists) == _TOGETHER:
            self._lists = [sumUp(self._lists)]

    def sum(self) -> list[Any]:
        """The sums."""
        return sumUp(self._lists)


class _Sum:
    """Rows and exchanges under way, added up."""

    def __init__(self) -> None:
        self._running = UnderWay()
        self._latency = _Columns()
        self._outcomes: defaultdict[Outcome, _Columns] = defaultdict(_Columns)
        self._bytesIn = self._bytesOut = 0

    def add(self, row: Row, running: UnderWay) -> None:
        """Add a row that does not change any more."""
        self._running.join(running)
        self._bytesIn += row.bytesIn
        self._bytesOut += row.bytesOut
        self._latency.add(row.latency)
        for outcome, (durations, _) in row.outcomes.items():
            self._outcomes[outcome].add(durations)

    def row(self) -> Steps[tuple[Row, UnderWay]]:
        """The sum."""
        latency = self._latency.sum() or noCounts(FINE_BOUNDS)
        found = Row(sum(latency), self._bytesIn, self._bytesOut, latency)
        for outcome, columns in self._outcomes.items():
            found.outcomes[outcome] = columns.sum(), None
            yield 5
        return found, self._running


class Reading:
    """
    The parts of one snapshot.

    @ivar endpoints: the metrics of each endpoint with hits or with exchanges under way; those
        in round brackets for all methods together.
    """

    def __init__(self, templates: Container[str], underWay: Container[Any]) -> None:
        """
        @param templates: the routes that are summed up by themselves.
        @param underWay: the exchanges under way, at any moment.
        """
        self.endpoints: list[EndpointMetrics] = []
        self._templates = templates
        self._underWay = underWay
        self._routes: dict[Key, _Sum] = {}
        self._shared: dict[Key, _Sum] = {}

    def reading(self, key: Key, row: Row, running: UnderWay) -> Steps[None]:
        """Read the row of an endpoint, and the exchanges of that endpoint under way."""
        running.settle(self._underWay)
        copy, told, isTold = row.copy(), row.told, row.toldHits == row.hits
        route = key if key[1] in self._templates else (key[0], "")
        self._routes.setdefault(route, _Sum()).add(copy, running)
        yield len(copy.outcomes) // 2 + 10
        if isShared(key):
            self._shared.setdefault(("", key[1]), _Sum()).add(copy, running)
            return
        if told is None or not isTold:
            told = row.told = yield from copy.metrics()
            row.toldHits = told["hits"]
        self._tell(key, running.addTo(told))

    def _tell(self, key: Key, metrics: Metrics) -> None:
        if metrics["hits"] or metrics["underWay"]:
            self.endpoints.append({"method": key[0], "route": key[1], **metrics})

    def sumUp(self) -> Steps[tuple[Metrics, list[RouteMetrics]]]:
        """
        After all rows: adds those in round brackets to the endpoints.

        @return: the total, and the sums for each method and template, or no template.
        """
        # Each sum is dropped as it is told: to drop all at once takes too long.
        for key in list(self._shared):
            row, running = yield from self._shared.pop(key).row()
            self._tell(key, running.addTo((yield from row.metrics())))
        total = _Sum()
        routes = []
        for key in sorted(self._routes):
            row, running = yield from self._routes.pop(key).row()
            total.add(row, running)
            metrics = running.addTo((yield from row.metrics()))
            route: RouteMetrics = {
                "method": key[0],
                "route": key[1],
                "hits": metrics["hits"],
                "bytesIn": metrics["bytesIn"],
                "bytesOut": metrics["bytesOut"],
                "masked": metrics["masked"],
                "durations": (yield from row.histograms()),
                "underWay": metrics["underWay"],
            }
            routes.append(route)
            yield len(row.outcomes) // 2 + 10
        row, running = yield from total.row()
        return running.addTo((yield from row.metrics())), routes
