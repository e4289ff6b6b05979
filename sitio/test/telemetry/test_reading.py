"""
Tests of L{sitio.telemetry.reading}: a full table is read in small pieces, and the numbers agree.
"""

from __future__ import annotations

from random import Random
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from sitio.http.routes import Routes
from sitio.net.turns import MAX_WORK, Steps, atOnce
from sitio.telemetry.row import MAX_ADDED_OUTCOMES
from sitio.telemetry.snapshot import Snapshot
from sitio.telemetry.stats import Stats
from sitio.test.helpers.exchanges import FinishedExchange, ended


class PieceTests(SynchronousTestCase):
    """The work of a piece is bounded, whatever was counted."""

    def read(self, stats: Stats) -> list[int]:
        """The sizes of the pieces."""
        return list(stats.reading())

    def test_fullTable(self) -> None:
        """In a turn some rows of a full table are read, a few hundred outcomes at most."""
        stats = Stats(Clock())
        for number in range(512):
            for status in range(200, 232):
                stats.exchangeFinished(ended(f"/{number}", status=status, upstreamStatus=status))
        for _ in range(2):
            pieces = self.read(stats)
            self.assertGreater(sum(pieces), 512 * 16)
            # To sort the endpoints is a piece, whose turn ends with it.
            self.assertLess(sorted(pieces)[-3], MAX_WORK)
            stats.exchangeFinished(ended("/7"))

    def test_unchanged(self) -> None:
        """Rows in which nothing was counted since are not told anew."""
        stats = Stats(Clock())
        for number in range(100):
            for status in range(200, 232):
                stats.exchangeFinished(ended(f"/{number}", status=status, upstreamStatus=status))
        first, second = (sum(self.read(stats)) for _ in range(2))
        self.assertLess(second, first * 0.6)
        stats.exchangeFinished(ended("/7", status=500, upstreamStatus=503))
        told = {each["route"]: each for each in stats.snapshot()["endpoints"]}
        self.assertEqual(told["/7"]["failed"], 1)

    def test_longRow(self) -> None:
        """A row with many outcomes, as that of evicted endpoints, takes many pieces."""
        stats = Stats(Clock(), maxEndpoints=2)
        for number in range(90):
            for status in range(100 + 10 * number, 110 + 10 * number):
                stats.exchangeFinished(ended(f"/{number}", status=status, upstreamStatus=status))
        outcomes = max(len(each.outcomes) for each in stats._shared.values())
        self.assertGreater(outcomes, MAX_ADDED_OUTCOMES // 2)
        self.assertGreater(len(self.read(stats)), outcomes // 16)

    def test_manyUnderWay(self) -> None:
        """Of thousands of exchanges under way some are looked at in one piece."""
        clock = Clock()
        stats = Stats(clock)
        stats.watch({ended(f"/{each % 999}") for each in range(9999)})
        clock.advance(5)
        pieces = self.read(stats)
        self.assertGreater(len(pieces), 300)
        self.assertEqual(stats.snapshot()["total"]["underWay"], 9999)


class ConsistencyTests(SynchronousTestCase):
    """What is counted while a snapshot is made spoils no number."""

    def setUp(self) -> None:
        self.random = Random(5)
        self.clock = Clock()
        self.stats = Stats(self.clock, maxEndpoints=8, routes=Routes(["/u/{id}"]))
        self.open: set[Any] = set()
        self.stats.watch(self.open)

    def ends(self, exchange: FinishedExchange) -> None:
        """An exchange ends: it is no longer under way, and is counted."""
        self.open.discard(exchange)
        self.stats.exchangeFinished(exchange)

    def happens(self) -> None:
        """Something happens between two pieces."""
        kind = self.random.random()
        path = self.random.choice(("/u/1", "/a", "/b", f"/{self.random.randrange(40)}"))
        status = self.random.choice((200, 200, 404, 503))
        facts: Any = {"status": status, "upstreamStatus": status, "began": self.clock.seconds()}
        if kind < 0.3:
            self.ends(ended(path, bytesOut=7, **facts))
        elif kind < 0.4:
            self.open.add(ended(path, bytesOut=7, **facts))
        elif kind < 0.6:
            for each in self.open:
                each.bytesOut += 10
        elif kind < 0.7 and self.open:
            self.ends(min(self.open, key=lambda each: (each.began, each.request.path)))
        self.clock.advance(0.1)

    def checked(self, steps: Steps[Snapshot]) -> Snapshot:
        """The snapshot that these steps make, while more happens."""
        while True:
            try:
                next(steps)
            except StopIteration as end:
                snapshot: Snapshot = end.value
                break
            self.happens()
        total = snapshot["total"]
        self.assertEqual(sum(each["failed"] for each in snapshot["endpoints"]), total["failed"])
        parts: list[Any] = [snapshot["endpoints"], snapshot["routes"]]
        for name in ("hits", "bytesOut", "underWay"):
            for part in parts:
                self.assertEqual(sum(each[name] for each in part), total[name], name)
        for row in (total, *snapshot["endpoints"]):
            self.assertEqual(row["hits"], sum(row["statuses"].values()))
            self.assertEqual(row["hits"], sum(row["latency"]))
        return snapshot

    def test_sums(self) -> None:
        """
        The endpoints, and the routes, add up to the total; a row agrees with itself.  No sum
        ever falls, and after all has ended, nothing was lost or counted twice.
        """
        before: dict[Any, int] = {}
        for _ in range(150):
            for _ in range(20):
                self.happens()
            snapshot = self.checked(self.stats.reading())
            now: dict[Any, int] = {}
            for each in snapshot["routes"]:
                key = each["method"], each["route"]
                now[*key, "hits"] = each["hits"]
                now[*key, "bytes"] = each["bytesOut"]
            for name, least in before.items():
                self.assertGreaterEqual(now.get(name, 0), least, name)
            before = now
        while self.open:
            self.ends(next(iter(self.open)))
        self.assertEqual(atOnce(self.stats.reading()), self.stats.snapshot())
        self.assertEqual(self.stats.snapshot()["total"]["underWay"], 0)

    def test_endsMeanwhile(self) -> None:
        """An exchange that ends while its endpoint waits to be read counts once."""
        for path in ("/a", "/b"):
            self.ends(ended(path))
        exchange = ended("/b", bytesOut=100)
        self.open.add(exchange)
        self.clock.advance(5)
        steps, pieces = self.stats.reading(), 0
        try:
            while True:
                next(steps)
                pieces += 1
                if pieces == 2:
                    self.ends(exchange)
        except StopIteration as end:
            total = end.value["total"]
        self.assertEqual((total["hits"], total["underWay"], total["bytesOut"]), (3, 0, 100))

    def test_newEndpoints(self) -> None:
        """While a full table is read, no row is evicted; afterwards rows are evicted again."""
        for number in range(8):
            self.ends(ended(f"/{number}"))
        steps = self.stats.reading()
        while not self.stats._readings:
            next(steps)
        rows = set(self.stats._rows)
        self.ends(ended("/new"))
        self.assertEqual(set(self.stats._rows), rows)
        self.assertEqual(atOnce(steps)["total"]["hits"], 9)
        self.ends(ended("/new"))
        self.assertIn(("GET", "/new"), self.stats._rows)
        steps = self.stats.reading()
        while not self.stats._readings:
            next(steps)
        steps.close()
        self.assertEqual(self.stats._readings, 0)
