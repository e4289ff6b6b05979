"""
Tests of L{sitio.telemetry.underway}, and of snapshots with exchanges under way.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase

from sitio.net.turns import atOnce
from sitio.telemetry.snapshot import countersOf
from sitio.telemetry.stats import Stats
from sitio.telemetry.underway import LONG_SECONDS, UnderWay, byEndpoint
from sitio.test.helpers.exchanges import FinishedExchange, ended
from sitio.test.helpers.logs import LogRecorder
from sitio.test.helpers.metrics import exposed
from sitio.test.helpers.snapshots import (
    endpointsByName,
    limited,
    merged,
    mergedSidecars,
    snapshotOf,
    workerSnapshot,
)


def running(target: str = "/events", method: str = "GET", **facts: Any) -> FinishedExchange:
    """An exchange whose response has begun, at time 0."""
    return ended(target, method, **facts)


def waiting(target: str = "/poll", **facts: Any) -> FinishedExchange:
    """An exchange that waits for its response."""
    return ended(target, status=None, upstreamStatus=None, **facts)


class GroupTests(SynchronousTestCase):
    """Exchanges are grouped by endpoint, the oldest first."""

    def grouped(self, room: int, *exchanges: FinishedExchange) -> dict[str, tuple[int, int, int]]:
        """The groups at time 10, by route; C{/known} has a row."""

        def keyOf(exchange: Any) -> tuple[str, str]:
            return ("GET", exchange.request.path)

        found = atOnce(byEndpoint(exchanges, 10.0, {("GET", "/known")}, keyOf, room))
        return {key[1]: (each.count, each.bytesIn, each.bytesOut) for key, each in found.items()}

    def test_age(self) -> None:
        """Only those that have lasted for a second count."""
        self.assertEqual(
            self.grouped(
                5,
                running("/a", began=9.0),
                running("/a", began=0.0),
                running("/a", began=9.1),
                running("/b", began=10.0),
            ),
            {"/a": (2, 0, 0)},
        )

    def test_bytes(self) -> None:
        """Bytes count as soon as the status is known; from then on they never move."""
        self.assertEqual(
            self.grouped(
                5,
                running("/a", bytesIn=1, bytesOut=10),
                running("/a", bytesIn=2, bytesOut=20),
                waiting("/a", bytesIn=4),
                waiting("/b", bytesIn=4),
            ),
            {"/a": (3, 3, 30), "/b": (1, 0, 0)},
        )

    def test_room(self) -> None:
        """If there is no room for all new endpoints, the oldest exchanges have it."""
        self.assertEqual(
            self.grouped(
                1,
                running("/b", began=2.0, bytesOut=5),
                running("/a", began=1.0, bytesOut=1),
                running("/known", began=3.0, bytesOut=7),
                running("/a", began=4.0, bytesOut=2),
                running("/c", began=4.0, bytesOut=5),
            ),
            {"/a": (2, 0, 3), "/known": (1, 0, 7), "(other)": (2, 0, 0)},
        )

    def test_none(self) -> None:
        """Nothing under way is nothing."""
        self.assertEqual((self.grouped(5), UnderWay().count), ({}, 0))


class SnapshotTests(SynchronousTestCase):
    """A snapshot has what is under way, too."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.stats = Stats(self.clock)
        self.open: list[Any] = []
        self.stats.watch(self.open)
        self.clock.advance(LONG_SECONDS)

    def row(self, name: str) -> tuple[int, int, int] | None:
        """Hits, exchanges under way and bytes of an endpoint."""
        each = endpointsByName(self.stats.snapshot()).get(name)
        return None if each is None else (each["hits"], each["underWay"], each["bytesOut"])

    def test_life(self) -> None:
        """A stream has its row while it runs, and keeps it; its bytes never count twice."""
        stream = running(bytesOut=5)
        self.open.append(stream)
        self.assertEqual(self.row("GET /events"), (0, 1, 5))
        stream.bytesOut = 7
        self.assertEqual(self.row("GET /events"), (0, 1, 7))
        total = self.stats.snapshot()["total"]
        self.assertEqual((total["hits"], total["underWay"], total["bytesOut"]), (0, 1, 7))
        self.open.remove(stream)
        self.stats.exchangeFinished(stream)
        self.assertEqual(self.row("GET /events"), (1, 0, 7))
        self.assertEqual(self.stats.snapshot()["total"]["bytesOut"], 7)

    def test_rows(self) -> None:
        """Each counts in the row in which it will count when it ends."""
        self.stats.exchangeFinished(ended("/a", bytesOut=1))
        for exchange, name in (
            (running("/a"), "GET /a"),
            (running("/a", status=200, upstreamStatus=503), "GET /a"),
            (running("/new"), "GET /new"),
            (running("/gone", status=404, upstreamStatus=404), "(not found)"),
            (running("/gone", status=200, upstreamStatus=404), "(not found)"),
            (running("/" + "a" * 300), "(other)"),
            (running("/a", "FROB"), "_OTHER /a"),
            (waiting("/poll"), "GET /poll"),
            (running("/switched", status=101, upstreamStatus=101), "GET /switched"),
        ):
            self.open.clear()
            self.open.append(exchange)
            exchange.bytesOut = 3
            before = {key: each["bytesOut"] for key, each in self.rows().items()}
            self.assertEqual(self.rows()[name]["underWay"], 1, name)
            total = self.stats.snapshot()["total"]["bytesOut"]
            self.open.clear()
            if exchange.status is not None:
                self.stats.exchangeFinished(exchange)
                after = {key: each["bytesOut"] for key, each in self.rows().items()}
                self.assertEqual(before, after, name)
                self.assertEqual(self.stats.snapshot()["total"]["bytesOut"], total)

    def rows(self) -> dict[str, Any]:
        """The rows of a snapshot, by name."""
        return dict(endpointsByName(self.stats.snapshot()))

    def test_bounded(self) -> None:
        """A flood of endpoints under way does not make the table much longer."""
        self.open.extend(running(f"/{number}") for number in range(2000))
        snapshot = self.stats.snapshot()
        self.assertEqual(len(snapshot["endpoints"]), self.stats.maxEndpoints + 1)
        self.assertEqual(snapshot["total"]["underWay"], 2000)
        for number in range(self.stats.maxEndpoints):
            self.stats.exchangeFinished(ended(f"/full/{number}"))
        self.assertLess(len(self.stats.snapshot()["endpoints"]), self.stats.maxEndpoints * 1.2)

    def test_order(self) -> None:
        """The busiest come first, by hits and by what is under way."""
        for _ in range(3):
            self.stats.exchangeFinished(ended("/a"))
        self.open.extend(running() for _ in range(4))
        names = [each["route"] for each in self.stats.snapshot()["endpoints"]]
        self.assertEqual(names, ["/events", "/a"])

    def test_merged(self) -> None:
        """What is under way adds up, and ends with its process; its bytes stay."""
        self.open.extend(running(bytesOut=5) for _ in range(4))
        one, two = self.stats.snapshot(), self.stats.snapshot()
        both = merged(one, merged(two, snapshotOf([ended()])))
        self.assertEqual((both["total"]["underWay"], both["total"]["bytesOut"]), (8, 40))
        few = limited(both, 1)
        self.assertEqual(sum(each["underWay"] for each in few["endpoints"]), 8)
        whole = mergedSidecars({**workerSnapshot(1), "metrics": one}, workerSnapshot(1))
        left = countersOf({**whole, "bufferedBytes": 9})["metrics"]
        self.assertEqual((left["total"]["underWay"], left["total"]["bytesOut"]), (0, 20))
        self.assertEqual(sum(each["underWay"] for each in left["endpoints"]), 0)
        self.assertEqual(countersOf({**whole, "bufferedBytes": 9})["bufferedBytes"], 0)

    def test_metrics(self) -> None:
        """Prometheus gets the numbers."""
        self.open.extend(running(bytesOut=5) for _ in range(4))
        body, _ = exposed({**workerSnapshot(), "metrics": self.stats.snapshot()}, "")
        labels = '{http_request_method="GET",http_route=""}'
        for line in (
            f"sitio_active_requests{labels} 4.0",
            f"http_server_response_body_size_bytes_sum{labels} 20.0",
            f"http_server_response_body_size_bytes_count{labels} 0.0",
            "sitio_buffered_bytes 0.0",
        ):
            self.assertIn(f"\n{line}\n".encode(), body)


class LineTests(SynchronousTestCase):
    """The stats line has what is under way."""

    def test_line(self) -> None:
        """A line is logged when their number has changed, also without any hit."""
        clock = Clock()
        logged = LogRecorder()
        stats = Stats(clock, 2.0, Logger(observer=logged))
        streams: list[Any] = []
        stats.watch(streams)
        stats.startService()
        self.addCleanup(stats.stopService)
        streams.extend(running() for _ in range(3))
        steps = (
            (lambda: None, "stats: 0 hits (+0), 3 under way | GET /events 3 under way"),
            (lambda: None, None),
            (
                lambda: stats.exchangeFinished(ended("/a")),
                "stats: 1 hit (+1), 3 under way: 1 x 2xx | GET /a 1, 2.0 ms"
                " | GET /events 3 under way",
            ),
            (
                lambda: stats.exchangeFinished(streams.pop()),
                "stats: 2 hits (+1), 2 under way: 2 x 2xx | GET /events 1, 2.0 ms, 2 under way"
                " | GET /a 1, 2.0 ms",
            ),
            (
                streams.clear,
                "stats: 2 hits (+0): 2 x 2xx | GET /events 1, 2.0 ms | GET /a 1, 2.0 ms",
            ),
        )
        for step, line in steps:
            logged.events.clear()
            step()
            clock.advance(2)
            self.assertEqual([each["line"] for each in logged.events], [line] if line else [])
