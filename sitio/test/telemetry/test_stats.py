"""
Promises of L{sitio.telemetry.stats}.
"""

from __future__ import annotations

import json
from bisect import bisect_left

from twisted.internet.task import Clock
from twisted.logger import (
    Logger,
    LogLevel,
    formatEvent,
    formatEventAsClassicLogText,
)
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from sitio.http.routes import Routes
from sitio.interfaces import IExchangeObserver
from sitio.telemetry.histogram import FINE_BOUNDS, LATENCY_BOUNDS
from sitio.telemetry.snapshot import EndpointMetrics
from sitio.telemetry.stats import MAX_ROUTE, Stats
from sitio.telemetry.statsline import MAX_LISTED
from sitio.test.helpers.exchanges import FinishedExchange, ended, refused
from sitio.test.helpers.logs import LogRecorder
from sitio.test.helpers.snapshots import endpointsByName


class CountingTests(SynchronousTestCase):
    """What one exchange adds to the metrics."""

    def setUp(self) -> None:
        self.stats = Stats(Clock())

    def counted(self, *exchanges: FinishedExchange) -> dict[str, EndpointMetrics]:
        """Count these exchanges; returns the endpoints by name."""
        for exchange in exchanges:
            self.stats.exchangeFinished(exchange)
        return endpointsByName(self.stats.snapshot())

    def test_interface(self) -> None:
        """It is an exchange observer."""
        verifyObject(IExchangeObserver, self.stats)

    def test_endpoint(self) -> None:
        """An endpoint is a method and a path; the query makes no difference."""
        rows = self.counted(
            ended("/a"), ended("/a?b"), ended("/a?c=/d"), ended("/a", "POST"), ended("/a/")
        )
        self.assertEqual(
            {name: row["hits"] for name, row in rows.items()},
            {"GET /a": 3, "POST /a": 1, "GET /a/": 1},
        )

    def test_bytes(self) -> None:
        """Bytes of bodies add up for each endpoint and in all, in each direction."""
        rows = self.counted(
            ended(bytesIn=1, bytesOut=10), ended(bytesIn=2, bytesOut=20), ended("/b", bytesIn=4)
        )
        self.assertEqual((rows["GET /"]["bytesIn"], rows["GET /"]["bytesOut"]), (3, 30))
        total = self.stats.snapshot()["total"]
        self.assertEqual((total["bytesIn"], total["bytesOut"]), (7, 30))

    def test_mask(self) -> None:
        """A masked failure counts by upstream status, by sent status, and as masked."""
        row = self.counted(
            ended(status=200, upstreamStatus=500),
            ended(status=500, upstreamStatus=500),
            ended(status=404, upstreamStatus=503),
            ended(),
        )["GET /"]
        self.assertEqual(row["upstreamStatuses"], {"500": 2, "503": 1, "200": 1})
        self.assertEqual(row["statuses"], {"200": 2, "500": 1, "404": 1})
        self.assertEqual(row["masked"], {"500": 1, "503": 1})

    def test_otherChangesAreNoMask(self) -> None:
        """A response made worse, or another success, does not count as masked."""
        row = self.counted(
            ended(status=500, upstreamStatus=200),
            ended(status=204, upstreamStatus=200),
            ended(status=502, upstreamStatus=500),
        )["GET /"]
        self.assertEqual(row["masked"], {})

    def test_clientGone(self) -> None:
        """A client that left counts as 499, and by the upstream's status."""
        row = self.counted(
            ended(status=499, upstreamStatus=200),
            ended(status=499, upstreamStatus=500),
            ended(status=499, upstreamStatus=None),
        )["GET /"]
        self.assertEqual(row["statuses"], {"499": 3})
        self.assertEqual(row["upstreamStatuses"], {"200": 1, "500": 1, "499": 1})
        self.assertEqual(row["masked"], {})

    def test_answeredBySitio(self) -> None:
        """If the upstream was not asked, the sent status counts as the upstream status."""
        row = self.counted(ended(status=403, upstreamStatus=None))["GET /"]
        self.assertEqual((row["upstreamStatuses"], row["statuses"]), ({"403": 1}, {"403": 1}))

    def test_nothingSent(self) -> None:
        """An exchange without a status is counted too."""
        row = self.counted(ended(status=None, upstreamStatus=None))["GET /"]
        self.assertEqual(
            (row["hits"], row["statuses"], row["upstreamStatuses"]), (1, {"none": 1}, {"none": 1})
        )

    def test_tunnel(self) -> None:
        """A tunnel's latency is the time to its 101, not its life."""
        row = self.counted(
            ended(status=101, upstreamStatus=101, duration=7200.0, upstreamTime=0.25)
        )["GET /"]
        self.assertEqual(row["seconds"], 0.25)
        self.assertEqual(row["latency"][FINE_BOUNDS.index(0.25)], 1)
        self.assertEqual(sum(self.stats.snapshot()["added"]), 0)

    def test_readAgain(self) -> None:
        """A snapshot has all that was counted since the last one, which stays as it was."""
        stats, fresh = self.stats, Stats(Clock())
        before = stats.snapshot()
        for count, each in enumerate(
            (
                *(ended(), ended("/b"), ended(), ended(bytesIn=5, duration=3.0)),
                *(ended(status=200, upstreamStatus=500), ended("/b", status=404), ended("/c")),
                *(ended("/none", status=404, upstreamStatus=404), ended("/b", "PUT")),
            ),
            1,
        ):
            copy = json.dumps(before)
            stats.exchangeFinished(each)
            fresh.exchangeFinished(each)
            now = stats.snapshot()
            self.assertEqual(json.dumps(before), copy)
            self.assertEqual(now["total"]["hits"], count)
            before = now
        self.assertEqual(before, fresh.snapshot())

    def test_snapshotIsPlain(self) -> None:
        """A snapshot is JSON, and later exchanges do not change it."""
        self.counted(ended(status=200, upstreamStatus=500), refused())
        before = self.stats.snapshot()
        text = json.dumps(before)
        self.counted(ended(), ended("/new"), refused())
        self.assertEqual(json.dumps(before), text)
        self.assertEqual(json.loads(text), before)

    def test_orderAndTotal(self) -> None:
        """Endpoints are sorted by hits, and the total is their sum."""
        self.counted(ended("/a"), ended("/b"), ended("/b"), ended("/c", status=404), refused())
        snapshot = self.stats.snapshot()
        self.assertEqual([each["hits"] for each in snapshot["endpoints"]], [2, 1, 1, 1])
        self.assertEqual(snapshot["endpoints"][0]["route"], "/b")
        self.assertEqual(snapshot["total"]["hits"], 5)
        self.assertEqual(snapshot["total"]["statuses"], {"200": 3, "404": 1, "400": 1})

    def test_totalTellsStatusesApart(self) -> None:
        """The total names all statuses, also if each endpoint has few of them."""
        statuses = range(300, 400)
        for status in statuses:
            self.counted(ended(f"/{status}", status=status, upstreamStatus=status))
        total = self.stats.snapshot()["total"]
        self.assertEqual(total["statuses"], {str(status): 1 for status in statuses})

    def test_uptime(self) -> None:
        """A snapshot has the seconds since the start."""
        clock = Clock()
        clock.advance(1000)
        counting = Stats(clock)
        clock.advance(12.5)
        self.assertEqual(counting.snapshot()["uptime"], 12.5)


class TemplateTests(SynchronousTestCase):
    """Paths that match a template are one endpoint."""

    def stats(self, *templates: str, maxEndpoints: int = 512) -> Stats:
        return Stats(Clock(), routes=Routes(templates), maxEndpoints=maxEndpoints)

    def test_rows(self) -> None:
        """The endpoint is the template, for whatever path, and each method has its own."""
        counting = self.stats("/users/{id}", "/files/{path...}")
        for exchange in (
            ended("/users/1"),
            ended("/users/2?a=b"),
            ended("/users/2", "DELETE"),
            ended(f"/files/{MAX_ROUTE * 'a'}"),
            ended("/users"),
            ended("/users/3", status=404, upstreamStatus=404),
            ended("/users/3", "FROB", status=405, upstreamStatus=405),
            ended("/none", status=404, upstreamStatus=404),
            refused(),
        ):
            counting.exchangeFinished(exchange)
        rows = endpointsByName(counting.snapshot())
        self.assertEqual(
            {name: row["hits"] for name, row in rows.items()},
            {
                "GET /users/{id}": 3,
                "(not found)": 2,
                "DELETE /users/{id}": 1,
                "GET /files/{path...}": 1,
                "GET /users": 1,
                "(refused)": 1,
            },
        )

    def test_routes(self) -> None:
        """All other paths are one route for each method; the sums are the same."""
        counting = self.stats("/users/{id}")
        for exchange in (ended("/users/1"), ended("/a"), ended("/b"), ended("/c", "FROB")):
            counting.exchangeFinished(exchange)
        snapshot = counting.snapshot()
        self.assertEqual(
            [(each["method"], each["route"], each["hits"]) for each in snapshot["routes"]],
            [("GET", "", 2), ("GET", "/users/{id}", 1), ("_OTHER", "", 1)],
        )
        self.assertEqual(sum(each["hits"] for each in snapshot["routes"]), 4)
        self.assertEqual(snapshot["total"]["hits"], 4)

    def test_stay(self) -> None:
        """A flood of other paths evicts no template."""
        counting = self.stats("/users/{id}", maxEndpoints=64)
        counting.exchangeFinished(ended("/users/1"))
        for number in range(2_000):
            counting.exchangeFinished(ended(f"/{number}"))
        self.assertLessEqual(len(counting._rows), 64)
        self.assertEqual(endpointsByName(counting.snapshot())["GET /users/{id}"]["hits"], 1)

    def test_others(self) -> None:
        """Other templates may take their places; what was counted stays, and no sum goes back."""
        counting = self.stats("/users/{id}", "/a/{b}")
        counting.exchangeFinished(ended("/users/1"))
        counting.useRoutes(Routes(["/files/{id}"]))
        for path in ("/users/1", "/files/1", "/files/2"):
            counting.exchangeFinished(ended(path))
        routes = {each["route"]: each["hits"] for each in counting.snapshot()["routes"]}
        self.assertEqual(routes, {"/users/{id}": 1, "/files/{id}": 2, "": 1})
        counting.useRoutes(Routes())
        counting.exchangeFinished(ended("/files/3"))
        routes = {each["route"]: each["hits"] for each in counting.snapshot()["routes"]}
        self.assertEqual(routes, {"/users/{id}": 1, "/files/{id}": 2, "": 2})

    def test_limited(self) -> None:
        """Templates take three quarters of the table; the others count as (other)."""
        counting = self.stats(*(f"/{each}/{{id}}" for each in range(100)), maxEndpoints=64)
        for number in range(100):
            counting.exchangeFinished(ended(f"/{number}/1"))
        for number in range(100):
            counting.exchangeFinished(ended(f"/{number}"))
        rows = endpointsByName(counting.snapshot())
        self.assertEqual(sum(name.endswith("/{id}") for name in rows), 48)
        self.assertLessEqual(len(counting._rows), 64)
        self.assertEqual(counting.snapshot()["total"]["hits"], 200)
        routes = counting.snapshot()["routes"]
        self.assertEqual((len(routes), routes[0]["hits"]), (49, 152))

    def test_underWay(self) -> None:
        """Exchanges under way count as the template, too, and as its route."""
        clock = Clock()
        counting = Stats(clock, routes=Routes(["/users/{id}"]))
        counting.watch([ended("/users/1", bytesOut=3), ended("/users/2"), ended("/a")])
        clock.advance(2.0)
        snapshot = counting.snapshot()
        rows = endpointsByName(snapshot)
        self.assertEqual(rows["GET /users/{id}"]["underWay"], 2)
        self.assertEqual(
            [(each["route"], each["underWay"], each["bytesOut"]) for each in snapshot["routes"]],
            [("", 1, 0), ("/users/{id}", 2, 3)],
        )


class HistogramTests(SynchronousTestCase):
    """The buckets of values."""

    def test_onTheBound(self) -> None:
        """A value equal to a bound is in the bucket that ends there."""
        for index, bound in enumerate(FINE_BOUNDS):
            counting = Stats(Clock())
            counting.exchangeFinished(ended(duration=bound))
            counting.exchangeFinished(ended(duration=bound * 1.0000001))
            expected = [0] * (len(FINE_BOUNDS) + 1)
            expected[index] = expected[index + 1] = 1
            snapshot = counting.snapshot()
            self.assertEqual(snapshot["total"]["latency"], expected)
            counts = snapshot["routes"][0]["durations"]["200"]["counts"]
            first = bisect_left(LATENCY_BOUNDS, bound)
            both = {first, first + (bound in LATENCY_BOUNDS)}
            self.assertEqual({at for at, count in enumerate(counts) if count}, both)

    def test_beyond(self) -> None:
        """No value is too small or too large to be counted."""
        counting = Stats(Clock())
        counting.exchangeFinished(ended(duration=86400.0))
        counting.exchangeFinished(ended(duration=0.0, upstreamTime=0.0))
        total = counting.snapshot()["total"]
        self.assertEqual((total["latency"][0], total["latency"][-1]), (1, 1))
        self.assertEqual(total["seconds"], 86400.0)

    def test_own(self) -> None:
        """The added time is the duration without the wait for the upstream."""
        counting = Stats(Clock())
        counting.exchangeFinished(ended(duration=2.0625, upstreamTime=2.0))
        snapshot = counting.snapshot()
        self.assertEqual(snapshot["addedSeconds"], 0.0625)
        self.assertEqual(snapshot["added"].index(1), bisect_left(FINE_BOUNDS, 0.0625))

    def test_notOwn(self) -> None:
        """Failures, absent upstreams and clients that left do not count as added time."""
        counting = Stats(Clock())
        gone = Exception("the client went away")
        for exchange in (
            ended(status=499, failure=gone, duration=30.0),
            ended(status=504, upstreamStatus=504, failure=gone, duration=5.0),
            ended(status=200, upstreamStatus=None, duration=5.0),
        ):
            counting.exchangeFinished(exchange)
        snapshot = counting.snapshot()
        self.assertEqual((sum(snapshot["added"]), snapshot["addedSeconds"]), (0, 0.0))


class BoundTests(SynchronousTestCase):
    """The limits of the table of endpoints."""

    def test_manyPaths(self) -> None:
        """Any number of paths leaves no more rows than the limit, and no hit is lost."""
        counting = Stats(Clock(), maxEndpoints=64)
        for number in range(20_000):
            counting.exchangeFinished(ended(f"/users/{number}", bytesOut=3))
        snapshot = counting.snapshot()
        self.assertLessEqual(len(counting._rows), 64)
        self.assertLessEqual(len(snapshot["endpoints"]), 64 + 1)
        self.assertGreaterEqual(len(snapshot["endpoints"]), 64 * 7 // 8)
        self.assertEqual(snapshot["total"]["hits"], 20_000)
        self.assertEqual(snapshot["total"]["bytesOut"], 60_000)
        self.assertEqual(sum(snapshot["total"]["latency"]), 20_000)
        self.assertEqual(
            endpointsByName(snapshot)["(other)"]["statuses"], {"200": snapshot["evicted"]}
        )

    def test_oneRow(self) -> None:
        """Also a table of one row keeps its limit and its sums."""
        counting = Stats(Clock(), maxEndpoints=1)
        for number in range(10):
            counting.exchangeFinished(ended(f"/{number}"))
        self.assertEqual(len(counting._rows), 1)
        self.assertEqual(counting.snapshot()["total"]["hits"], 10)

    def test_busyEndpointsStay(self) -> None:
        """A flood of paths that are requested once evicts no busy endpoint."""
        counting = Stats(Clock(), maxEndpoints=64)
        for _ in range(3):
            for number in range(40):
                counting.exchangeFinished(ended(f"/real/{number}"))
        for number in range(20_000):
            counting.exchangeFinished(ended(f"/flood/{number}"))
        rows = endpointsByName(counting.snapshot())
        for number in range(40):
            self.assertEqual(rows[f"GET /real/{number}"]["hits"], 3)

    def test_newEndpointAmidAFlood(self) -> None:
        """A new endpoint gets and keeps a row during a flood."""
        counting = Stats(Clock(), maxEndpoints=64)
        for number in range(5_000):
            counting.exchangeFinished(ended(f"/flood/{number}"))
            if number >= 1_000 and number % 20 == 0:
                counting.exchangeFinished(ended("/new"))
        self.assertEqual(endpointsByName(counting.snapshot())["GET /new"]["hits"], 200)

    def test_newEndpointsAfterAFullTable(self) -> None:
        """A table full of endpoints without new hits makes room for others."""
        clock = Clock()
        counting = Stats(clock, maxEndpoints=64)
        for number in range(64):
            for _ in range(1_000):
                counting.exchangeFinished(ended(f"/old/{number}"))
        clock.advance(2 * 3600)
        for _ in range(3):
            for number in range(48):
                counting.exchangeFinished(ended(f"/new/{number}", began=clock.seconds()))
        rows = endpointsByName(counting.snapshot())
        for number in range(48):
            self.assertEqual(rows[f"GET /new/{number}"]["hits"], 3)
        self.assertEqual(counting.snapshot()["total"]["hits"], 64_000 + 144)

    def test_shortSilence(self) -> None:
        """An endpoint with ten hits survives a quarter of an hour of scanning."""
        clock = Clock()
        counting = Stats(clock, maxEndpoints=64)
        for _ in range(10):
            counting.exchangeFinished(ended("/real"))
        for number in range(900):
            clock.advance(1)
            counting.exchangeFinished(ended(f"/scan/{number}", began=clock.seconds()))
        self.assertEqual(endpointsByName(counting.snapshot())["GET /real"]["hits"], 10)

    def test_eighth(self) -> None:
        """A full table evicts several rows at once, as this takes time."""
        counting = Stats(Clock(), maxEndpoints=64)
        for number in range(65):
            counting.exchangeFinished(ended(f"/{number}"))
        self.assertEqual((len(counting._rows), counting.snapshot()["evicted"]), (57, 8))

    def test_clockSetBack(self) -> None:
        """A clock that is set back by a month does no harm."""
        clock = Clock()
        clock.advance(1e9)
        counting = Stats(clock, maxEndpoints=1)
        counting.exchangeFinished(ended("/a", began=clock.seconds()))
        clock.rightNow -= 30 * 86_400
        counting.exchangeFinished(ended("/b"))
        self.assertEqual(counting.snapshot()["total"]["hits"], 2)

    def test_scan(self) -> None:
        """An endpoint that the upstream does not know gets no row, whatever was sent instead."""
        counting = Stats(Clock())
        for number in range(1_000):
            counting.exchangeFinished(ended(f"/scan/{number}", status=404, upstreamStatus=404))
        counting.exchangeFinished(ended("/", "PUT", status=405, upstreamStatus=405))
        counting.exchangeFinished(ended("/spa", status=200, upstreamStatus=404))
        rows = endpointsByName(counting.snapshot())
        self.assertEqual(list(rows), ["(not found)"])
        self.assertEqual(rows["(not found)"]["upstreamStatuses"], {"404": 1_001, "405": 1})
        self.assertEqual(rows["(not found)"]["statuses"], {"404": 1_000, "405": 1, "200": 1})

    def test_knownEndpointGoesMissing(self) -> None:
        """An endpoint that once answered keeps its row when it answers 404."""
        counting = Stats(Clock())
        for status in (200, 404, 404):
            counting.exchangeFinished(ended("/a.png", status=status, upstreamStatus=status))
        rows = endpointsByName(counting.snapshot())
        self.assertEqual(rows["GET /a.png"]["upstreamStatuses"], {"200": 1, "404": 2})
        self.assertNotIn("(not found)", rows)

    def test_methods(self) -> None:
        """All made-up methods of a path share one row."""
        counting = Stats(Clock())
        for number in range(1_000):
            counting.exchangeFinished(ended("/a", f"M{number}"))
            counting.exchangeFinished(ended("/b", "get"))
        counting.exchangeFinished(ended("/a", "PROPFIND"))
        rows = endpointsByName(counting.snapshot())
        self.assertEqual(
            {name: row["hits"] for name, row in rows.items()},
            {"_OTHER /a": 1_000, "_OTHER /b": 1_000, "PROPFIND /a": 1},
        )

    def test_longPaths(self) -> None:
        """An overlong path is counted, but gets no row."""
        counting = Stats(Clock())
        counting.exchangeFinished(ended("/" + "a" * (MAX_ROUTE - 1)))
        counting.exchangeFinished(ended("/" + "a" * MAX_ROUTE))
        counting.exchangeFinished(ended("/" + "b" * 60_000))
        counting.exchangeFinished(ended("/short?" + "b" * 60_000))
        rows = endpointsByName(counting.snapshot())
        self.assertEqual(len(rows), 3)
        self.assertEqual(rows["(other)"]["hits"], 2)
        self.assertEqual(rows["GET /short"]["hits"], 1)

    def test_refused(self) -> None:
        """Requests that could not be read are counted together."""
        counting = Stats(Clock())
        for exchange in (refused(), refused(431), refused(505)):
            counting.exchangeFinished(exchange)
        rows = endpointsByName(counting.snapshot())
        self.assertEqual(list(rows), ["(refused)"])
        self.assertEqual(rows["(refused)"]["statuses"], {"400": 1, "431": 1, "505": 1})

    def test_namesInBracketsAreNotForClients(self) -> None:
        """A client can't add to the rows in round brackets by requesting their names."""
        counting = Stats(Clock())
        counting.exchangeFinished(ended("/(refused)"))
        counting.exchangeFinished(ended("(refused)"))
        rows = endpointsByName(counting.snapshot())
        self.assertEqual(set(rows), {"GET /(refused)", "(other)"})

    def test_statuses(self) -> None:
        """An endpoint with too many statuses has them counted by class."""
        counting = Stats(Clock())
        for status in (*range(200, 1000), 999):
            counting.exchangeFinished(ended(status=status, upstreamStatus=200))
            counting.exchangeFinished(ended(status=200, upstreamStatus=status))
        row = endpointsByName(counting.snapshot())["GET /"]
        self.assertLess(len(row["statuses"]) + len(row["upstreamStatuses"]), 100)
        self.assertIn("9xx", row["statuses"])
        self.assertEqual(sum(row["statuses"].values()), row["hits"])
        self.assertEqual(sum(row["upstreamStatuses"].values()), row["hits"])
        self.assertEqual(sum(row["masked"].values()), 501)

    def test_badArguments(self) -> None:
        """Invalid limits and intervals are refused with a sentence."""
        for interval in (-1.0, float("nan"), float("inf")):
            self.assertRaisesRegex(ValueError, "no interval", Stats, Clock(), interval)
        self.assertRaisesRegex(ValueError, "1 or more", Stats, Clock(), maxEndpoints=0)


class ServiceTests(SynchronousTestCase):
    """The line every two seconds."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.recorder = LogRecorder()
        self.stats = self.started()

    def started(self, interval: float = 2.0) -> Stats:
        """Make stats with our clock that log to C{self.recorder}."""
        counting = Stats(self.clock, interval, Logger("test", observer=self.recorder))
        counting.startService()
        return counting

    def lines(self) -> list[str]:
        """The text of the events since the last call."""
        lines = [formatEvent(event) for event in self.recorder.events]
        self.recorder.events.clear()
        return lines

    def test_firstLine(self) -> None:
        """The first line is logged after two seconds."""
        self.stats.exchangeFinished(ended())
        self.clock.advance(1.9)
        self.assertEqual(self.lines(), [])
        self.clock.advance(0.1)
        self.assertEqual(self.lines(), ["stats: 1 hit (+1): 1 x 2xx | GET / 1, 2.0 ms"])

    def test_silence(self) -> None:
        """Nothing is logged if nothing changed; later changes are."""
        self.clock.pump([2.0] * 3)
        self.assertEqual(self.lines(), [])
        self.stats.exchangeFinished(ended())
        self.clock.pump([2.0] * 5)
        self.assertEqual(len(self.lines()), 1)
        self.stats.exchangeFinished(ended())
        self.stats.exchangeFinished(ended())
        self.clock.pump([2.0] * 5)
        self.assertEqual(self.lines(), ["stats: 3 hits (+2): 3 x 2xx | GET / 3, 2.0 ms"])

    def test_interval(self) -> None:
        """The interval can be set."""
        counting = self.started(30.0)
        counting.exchangeFinished(ended())
        self.clock.pump([1.0] * 29)
        self.assertEqual(self.lines(), [])
        self.clock.advance(1.0)
        self.assertEqual(len(self.lines()), 1)

    def test_off(self) -> None:
        """An interval of 0 means no line and no delayed call; metrics are counted."""
        self.stats.stopService()
        counting = self.started(0)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        counting.exchangeFinished(ended())
        counting.stopService()
        self.assertEqual(self.lines(), [])
        self.assertEqual(counting.snapshot()["total"]["hits"], 1)

    def test_stop(self) -> None:
        """Stopping logs what is not logged yet, and leaves no delayed call."""
        self.stats.exchangeFinished(ended())
        self.clock.advance(2.0)
        self.stats.exchangeFinished(ended())
        self.lines()
        self.stats.stopService()
        self.assertEqual(self.lines(), ["stats: 2 hits (+1): 2 x 2xx | GET / 2, 2.0 ms"])
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertFalse(self.stats.running)

    def test_stopWithNothingNew(self) -> None:
        """Stopping logs nothing if the last line had everything."""
        self.stats.exchangeFinished(ended())
        self.clock.advance(2.0)
        self.lines()
        self.stats.stopService()
        self.assertEqual(self.lines(), [])

    def test_afterStop(self) -> None:
        """Exchanges after the stop are counted, and logged when the service starts again."""
        self.stats.exchangeFinished(ended())
        self.stats.stopService()
        self.lines()
        self.stats.exchangeFinished(ended())
        self.clock.pump([2.0] * 3)
        self.assertEqual(self.lines(), [])
        self.assertEqual(self.stats.snapshot()["total"]["hits"], 2)
        self.stats.startService()
        self.assertEqual(self.lines(), [])
        self.clock.advance(2.0)
        self.assertEqual(self.lines(), ["stats: 2 hits (+1): 2 x 2xx | GET / 2, 2.0 ms"])

    def test_lineThatFails(self) -> None:
        """If the line can't be made, that is logged, and stopping still works."""
        self.stats._underWay = None  # type: ignore[assignment]
        self.stats.exchangeFinished(ended())
        self.clock.advance(2.0)
        (event,) = self.recorder.events
        self.assertIs(event["log_level"], LogLevel.critical)
        self.assertIn("TypeError", event["log_failure"].getTraceback())
        self.stats.watch(())
        self.stats.stopService()
        self.assertEqual(self.lines()[1:], ["stats: 1 hit (+1): 1 x 2xx | GET / 1, 2.0 ms"])

    def test_fields(self) -> None:
        """The event has the line's content, and more, as fields."""
        for exchange in (
            ended("/a", duration=0.25),
            ended("/a", duration=0.25, status=200, upstreamStatus=500),
            ended("/b", duration=8.0, status=499, upstreamStatus=None),
        ):
            self.stats.exchangeFinished(exchange)
        self.clock.advance(2.0)
        (event,) = self.recorder.events
        self.assertIs(event["log_level"], LogLevel.info)
        self.assertEqual((event["hits"], event["new"], event["more"]), (3, 3, 0))
        self.assertEqual(event["upstreamStatuses"], {"200": 1, "500": 1, "499": 1})
        self.assertEqual(event["statuses"], {"200": 2, "499": 1})
        self.assertEqual(event["masked"], {"500": 1})
        self.assertEqual(event["endpoints"], self.stats.snapshot()["endpoints"])
        self.assertTrue(0.235 <= event["median"] <= 0.265, event["median"])
        self.assertTrue(7.5 <= event["p95"] <= 8.5, event["p95"])

    def test_latencyOfTheInterval(self) -> None:
        """Median and p95 are of the time since the last line."""
        for _ in range(100):
            self.stats.exchangeFinished(ended(duration=9.0))
        self.clock.advance(2.0)
        self.stats.exchangeFinished(ended(duration=0.001))
        self.clock.advance(2.0)
        for name in ("median", "p95"):
            self.assertLess(abs(self.recorder.events[1][name] - 0.001), 0.00006)

    def test_manyEndpoints(self) -> None:
        """The event lists a few endpoints and counts the rest."""
        for number in range(100):
            self.stats.exchangeFinished(ended(f"/{number}"))
        self.clock.advance(2.0)
        (event,) = self.recorder.events
        self.assertEqual(len(event["endpoints"]), MAX_LISTED)
        self.assertEqual(event["more"], 90)

    def test_movedFirst(self) -> None:
        """Endpoints with new hits come before busier ones without."""
        for _ in range(9):
            self.stats.exchangeFinished(ended("/busy"))
        self.clock.advance(2.0)
        self.stats.exchangeFinished(ended("/new"))
        self.clock.advance(2.0)
        self.assertEqual(
            self.lines()[1],
            "stats: 10 hits (+1): 10 x 2xx | GET /new 1, 2.0 ms | GET /busy 9, 2.0 ms",
        )

    def test_failuresFirst(self) -> None:
        """
        While every fifth request fails, each line names that endpoint and the failures,
        however many endpoints are busier.
        """
        for _ in range(20):
            for number in range(40):
                self.stats.exchangeFinished(ended(f"/photos/{number}/large.jpg"))
            for _ in range(10):
                self.stats.exchangeFinished(ended("/flaky", status=200, upstreamStatus=503))
            self.clock.advance(2.0)
        lines = self.lines()
        self.assertEqual(len(lines), 20)
        for number, line in enumerate(lines, 1):
            count = 10 * number
            self.assertIn(f": {count} x 5xx (+10) masked, {4 * count} x 2xx | ", line)
            self.assertIn(f" | GET /flaky {count} ({count} x 503 masked)", line)

    def test_braces(self) -> None:
        """Braces and percent signs in a path are shown unchanged."""
        path = "/{log_system}/{line!r}/%s/{"
        self.stats.exchangeFinished(ended(path))
        self.clock.advance(2.0)
        (event,) = self.recorder.events
        self.assertIn(path, formatEvent(event))
        self.assertIn(path, formatEventAsClassicLogText(event) or "")
