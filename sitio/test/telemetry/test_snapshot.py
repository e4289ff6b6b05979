"""
Promises of L{sitio.telemetry.snapshot}.
"""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings, strategies as st
from twisted.internet.task import Clock
from twisted.logger import Logger, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from sitio.errors import UpstreamLost
from sitio.net.turns import MAX_WORK, Steps, atOnce
from sitio.telemetry.histogram import LATENCY_BOUNDS, coarser, regroup
from sitio.telemetry.snapshot import (
    SidecarSnapshot,
    Snapshot,
    busiestFirst,
    limitEndpoints,
    mergeSidecars,
)
from sitio.telemetry.stats import Stats
from sitio.telemetry.statsline import LINE_WIDTH, asLine, classesOf
from sitio.test.helpers.exchanges import FinishedExchange, ended, refused
from sitio.test.helpers.logs import LogRecorder
from sitio.test.helpers.metrics import report
from sitio.test.helpers.snapshots import (
    endpointsByName,
    limited,
    merged,
    snapshotOf,
    workerSnapshot,
)

# Sixteenths of a second: sums of these are exact, so any order gives the same.
_exchanges = st.lists(
    st.builds(
        ended,
        st.sampled_from(["/", "/a", "/b?c", "/b", "-"]),
        st.sampled_from(["GET", "POST", "-"]),
        status=st.sampled_from([200, 404, 499, 500, None]),
        upstreamStatus=st.sampled_from([200, 404, 500, None]),
        duration=st.integers(0, 400).map(lambda number: number / 16),
        upstreamTime=st.just(0.0),
        bytesIn=st.integers(0, 10),
        bytesOut=st.integers(0, 10),
    ),
    max_size=12,
)


class StatusTests(SynchronousTestCase):
    """Durations by upstream status."""

    def test_durations(self) -> None:
        """Each sent status has its own durations, which add up to the endpoint's."""
        told = snapshotOf(
            [
                ended(duration=0.25),
                ended(duration=0.5),
                ended(status=200, upstreamStatus=503, duration=1.0),
                ended(status=503, upstreamStatus=503, duration=2.0),
            ]
        )
        row = endpointsByName(told)["GET /"]
        [route] = told["routes"]
        self.assertEqual(
            {status: each["seconds"] for status, each in route["durations"].items()},
            {"200": 1.75, "503": 2.0},
        )
        self.assertEqual(row["upstreamSeconds"], {"200": 0.75, "503": 3.0})
        self.assertEqual(sum(route["durations"]["200"]["counts"]), 3)
        sums = [sum(each) for each in zip(*(d["counts"] for d in route["durations"].values()))]
        self.assertEqual(sums, regroup(row["latency"], coarser(LATENCY_BOUNDS)))
        self.assertEqual(row["seconds"], 3.75)

    def test_merged(self) -> None:
        """Durations of the same status are added up; others are kept."""
        one = snapshotOf([ended(duration=0.25), ended(status=404, upstreamStatus=404)])
        two = snapshotOf([ended(duration=0.5), ended(status=500, upstreamStatus=500)])
        [route] = merged(one, two)["routes"]
        durations = route["durations"]
        self.assertEqual(sorted(durations), ["200", "404", "500"])
        self.assertEqual(durations["200"]["seconds"], 0.75)


class MergeTests(SynchronousTestCase):
    """Adding up the metrics of several processes."""

    @given(_exchanges, _exchanges)
    @settings(max_examples=60)
    def test_asIfOneProcess(
        self, some: list[FinishedExchange], others: list[FinishedExchange]
    ) -> None:
        """Two merged snapshots equal that of one process with all exchanges, in any order."""
        one, two = snapshotOf(some, 3.0), snapshotOf(others, 5.0)
        whole = snapshotOf(some + others, 5.0)
        # Which exchange came first decides where a later 404 is counted.
        if "(not found)" not in endpointsByName(one) | endpointsByName(two):
            self.assertEqual(merged(one, two), whole)
        self.assertEqual(merged(one, two)["total"], whole["total"])
        self.assertEqual(merged(two, one), merged(one, two))

    @given(_exchanges, _exchanges, _exchanges)
    @settings(max_examples=60)
    def test_grouping(
        self, a: list[FinishedExchange], b: list[FinishedExchange], c: list[FinishedExchange]
    ) -> None:
        """The grouping of merges makes no difference."""
        one, two, three = snapshotOf(a), snapshotOf(b), snapshotOf(c)
        self.assertEqual(merged(merged(one, two), three), merged(one, merged(two, three)))

    def test_nothing(self) -> None:
        """An empty snapshot adds nothing."""
        one = snapshotOf([ended(), ended("/a", status=200, upstreamStatus=500), refused()])
        self.assertEqual(merged(one, snapshotOf([])), one)

    def test_unchanged(self) -> None:
        """Merging changes neither snapshot, and the result shares nothing with them."""
        one, two = snapshotOf([ended()]), snapshotOf([ended("/b")])
        before = json.dumps([one, two])
        both = merged(one, two)
        both["endpoints"][0]["statuses"]["200"] = both["endpoints"][1]["latency"][0] = 99
        both["added"][0] = both["total"]["latency"][0] = both["latencyBounds"][0] = 99
        self.assertEqual(json.dumps([one, two]), before)

    def test_differentBuckets(self) -> None:
        """Histograms with different bounds are not added up."""
        one, two = snapshotOf([]), snapshotOf([])
        two["addedBounds"] = [1.0]
        self.assertRaisesRegex(ValueError, "addedBounds", merged, one, two)


class BoundedTests(SynchronousTestCase):
    """Limiting the number of endpoints."""

    def snapshot(self, count: int) -> Snapshot:
        """A snapshot with so many endpoints, the first the busiest, and a hit in (other)."""
        exchanges = [ended(f"/{number}") for number in range(count) for _ in range(count - number)]
        return snapshotOf([*exchanges, ended("/" + "x" * 300)])

    def test_within(self) -> None:
        """Within the limit nothing changes; the rows in round brackets do not count."""
        one = self.snapshot(5)
        self.assertEqual(limited(one, 5), one)
        full = snapshotOf([ended("/a"), ended("/b"), ended("/c", status=404, upstreamStatus=404)])
        full = merged(full, snapshotOf([refused(), ended("/" + "x" * 300)]))
        self.assertEqual(limited(full, 2), full)
        self.assertEqual(
            sorted(endpointsByName(limited(full, 1))),
            ["(not found)", "(other)", "(refused)", "GET /a"],
        )

    def test_beyond(self) -> None:
        """The busiest endpoints stay; the others are added to (other) and count as evicted."""
        one = self.snapshot(5)
        before = json.dumps(one)
        less = limited(one, 2)
        self.assertEqual(json.dumps(one), before)
        self.assertEqual(
            {name: each["hits"] for name, each in endpointsByName(less).items()},
            {"GET /0": 5, "GET /1": 4, "(other)": 7},
        )
        self.assertEqual(endpointsByName(less)["(other)"]["statuses"], {"200": 7})
        self.assertEqual(less["evicted"], 3)
        self.assertEqual(less["total"], one["total"])
        self.assertEqual(limited(less, 2), less)

    def test_pieces(self) -> None:
        """Full tables are added up and limited in small pieces, whatever is in them."""

        def full(name: str) -> SidecarSnapshot:
            exchanges = [
                ended(f"/{name}{number}", status=status, upstreamStatus=status)
                for number in range(512)
                for status in (*range(200, 216), *range(500, 516))
            ]
            return {**workerSnapshot(), "metrics": snapshotOf(exchanges)}

        pieces: list[int] = []

        def counted(steps: Steps[Any]) -> Any:
            try:
                while True:
                    pieces.append(next(steps))
            except StopIteration as end:
                return end.value

        whole = counted(mergeSidecars(full("a"), full("b")))
        less = counted(limitEndpoints(whole["metrics"], 512))
        self.assertEqual((len(less["endpoints"]), less["evicted"]), (513, 512))
        self.assertGreater(sum(pieces), 2 * 512 * 32)
        self.assertLessEqual(max(pieces), 2 * MAX_WORK)


class ReportTests(SynchronousTestCase):
    """The log event that is made of two snapshots."""

    @given(st.lists(_exchanges, min_size=1, max_size=3))
    @settings(max_examples=30)
    def test_asStats(self, batches: list[list[FinishedExchange]]) -> None:
        """
        After each batch the event is the same as L{Stats} logs; only the order of equally
        busy endpoints may differ.
        """
        recorder = LogRecorder()
        clock = Clock()
        counting = Stats(clock, 1.0, log=Logger("test", observer=recorder))
        counting.startService()
        before = None
        for batch in batches:
            for exchange in batch:
                counting.exchangeFinished(exchange)
            now = counting.snapshot()
            event = report(now, before)
            before = now
            recorder.events.clear()
            clock.advance(1.0)
            self.assertEqual(bool(event), bool(recorder.events))
            for theirs in recorder.events:
                assert event is not None
                lines = [each.pop("line").partition(" | ")[0] for each in (event, theirs)]
                self.assertEqual(lines[0], lines[1])
                event["endpoints"] = atOnce(busiestFirst(event["endpoints"]))
                theirs["endpoints"] = atOnce(busiestFirst(theirs["endpoints"]))
                self.assertEqual({key: theirs[key] for key in event}, event)

    def test_movedFirst(self) -> None:
        """Endpoints with new hits come first, the busiest of them in front."""
        one = snapshotOf([ended("/a"), ended("/a"), ended("/a"), ended("/b"), ended("/c")])
        two = merged(one, snapshotOf([ended("/c"), ended("/b"), ended("/b")]))
        event = report(two, one)
        assert event is not None
        self.assertEqual([each["route"] for each in event["endpoints"]], ["/b", "/c", "/a"])
        self.assertEqual((event["hits"], event["new"]), (8, 3))

    def test_failuresFirst(self) -> None:
        """Endpoints with new failures come before busier ones; with old failures, they don't."""
        failed = ended("/bad", status=200, upstreamStatus=500)
        missing = ended("/a", status=404, upstreamStatus=404)
        one = snapshotOf([ended("/a"), ended("/b"), ended("/c"), ended("/c")])
        two = merged(one, snapshotOf([*3 * [ended("/c")], failed, ended("/b")]))
        two = merged(two, snapshotOf([ended("/a"), missing]))
        three = merged(two, snapshotOf([ended("/bad"), ended("/b"), ended("/b")]))
        for now, before, first in (
            (two, one, ["/bad", "/c"]),
            (two, None, ["/bad", "/c"]),
            (three, two, ["/b", "/bad", "/c"]),
        ):
            event = report(now, before)
            assert event is not None
            self.assertEqual([each["route"] for each in event["endpoints"]][: len(first)], first)
            self.assertEqual(event["classes"], classesOf(now["total"]["upstreamStatuses"]))
            self.assertEqual(sum(event["newClasses"].values()), event["new"])


class LineTests(SynchronousTestCase):
    """The text of the line."""

    def line(self, *exchanges: FinishedExchange) -> str:
        """The line after these exchanges."""
        recorder = LogRecorder()
        clock = Clock()
        counting = Stats(clock, log=Logger("test", observer=recorder))
        counting.startService()
        for exchange in exchanges:
            counting.exchangeFinished(exchange)
        counting.stopService()
        clock.advance(0)
        (event,) = recorder.events
        return formatEvent(event)

    def test_latencies(self) -> None:
        """A latency is an endpoint's mean, in a suitable unit."""
        for durations, text in (
            ((0.001, 0.0032), "2.1 ms"),
            ((0.00001,), "0.0 ms"),
            ((0.0094999,), "9.5 ms"),
            ((0.0096,), "10 ms"),
            ((0.25,), "250 ms"),
            ((0.9996,), "1.0 s"),
            ((90.0,), "90.0 s"),
        ):
            exchanges = [ended(duration=duration, upstreamTime=0.0) for duration in durations]
            self.assertTrue(self.line(*exchanges).endswith(f", {text}"), text)

    def test_failures(self) -> None:
        """Failures are shown by upstream status, and masks are marked."""
        masked = ended(status=200, upstreamStatus=500)
        failed = ended(status=500, upstreamStatus=500)
        missing = ended(status=404, upstreamStatus=404)
        for exchanges, text in (
            ([ended(), missing, missing], "GET / 3 (2 x 404), 2.0 ms"),
            ([failed], "GET / 1 (1 x 500), 2.0 ms"),
            (
                [failed, *2 * [ended(failure=UpstreamLost(), brokeOff=True)]],
                "GET / 3 (2 x broken off, 1 x 500), 2.0 ms",
            ),
            ([masked, masked], "GET / 2 (2 x 500 masked), 2.0 ms"),
            ([masked, failed, failed], "GET / 3 (3 x 500, 1 masked), 2.0 ms"),
            ([failed, failed, ended(status=499)], "GET / 3 (2 x 500, 1 x 499), 2.0 ms"),
            ([ended(status=499, upstreamStatus=None)], "GET / 1 (1 x 499), 2.0 ms"),
            (
                [ended(), missing, missing, failed, ended(status=503, upstreamStatus=503)],
                "GET / 5 (2 x 404, 1 x 500, ...), 2.0 ms",
            ),
        ):
            line = self.line(*exchanges)
            self.assertTrue(line.endswith(f" | {text}"), line)

    def test_classes(self) -> None:
        """The totals are by class of the upstream status, the worst first, with what is new."""
        one = ended()
        masked = ended(status=200, upstreamStatus=500)
        failed = ended(status=503, upstreamStatus=503)
        silent = ended(status=None, upstreamStatus=None)
        cut = ended(failure=UpstreamLost(), brokeOff=True)
        for exchanges, text in (
            ([one], "1 x 2xx"),
            ([one, ended(status=404, upstreamStatus=404), one], "1 x 4xx, 2 x 2xx"),
            ([one, failed], "1 x 5xx (+1), 1 x 2xx"),
            ([masked, masked], "2 x 5xx (+2) masked"),
            ([masked, failed, one], "2 x 5xx (+2), 1 masked, 1 x 2xx"),
            ([one, cut, cut], "2 x broken off (+2), 1 x 2xx"),
            ([one, silent], "1 x no response (+1), 1 x 2xx"),
            ([ended(status=499, upstreamStatus=None)], "1 x 4xx"),
            ([refused(), ended(status=204, upstreamStatus=None)], "1 x 4xx, 1 x 2xx"),
            ([ended(status=600, upstreamStatus=600)], "1 x 6xx-9xx (+1)"),
            (
                [ended(status=each, upstreamStatus=each) for each in (101, 200, 302, 404, 500)],
                "1 x 5xx (+1), 1 x 4xx, 1 x 3xx, 1 x 2xx, 1 x 1xx",
            ),
        ):
            totals, _, _ = self.line(*exchanges).partition(" | ")
            hits = f"{len(exchanges)} hit{'s' * (len(exchanges) > 1)}"
            self.assertEqual(totals, f"stats: {hits} (+{len(exchanges)}): {text}")

    def test_inBrackets(self) -> None:
        """The rows in round brackets have no method."""
        self.assertEqual(
            self.line(refused(), ended("/x", status=404, upstreamStatus=404)),
            "stats: 2 hits (+2): 2 x 4xx | (not found) 1 (1 x 404), 2.0 ms"
            " | (refused) 1 (1 x 400), 0.0 ms",
        )

    def test_and(self) -> None:
        """Endpoints that do not fit are counted at the end of the line."""
        line = self.line(*(ended(f"/photos/{number}.jpg") for number in range(9)))
        self.assertEqual(
            line,
            "stats: 9 hits (+9): 9 x 2xx | GET /photos/0.jpg 1, 2.0 ms"
            " | GET /photos/1.jpg 1, 2.0 ms | GET /photos/2.jpg 1, 2.0 ms | and 6 more",
        )

    def test_longRoute(self) -> None:
        """A long route loses its middle."""
        line = self.line(ended("/archive/" + "2018/" * 40 + "lighthouse.jpg"))
        self.assertRegex(line, r"GET /archive/[0-9/]+\.\.\.[0-9/]+lighthouse\.jpg 1,")

    def test_escapes(self) -> None:
        """Whatever a path contains, the line is printable ASCII."""
        line = self.line(ended("/\x9b2J\xe9\r\n\x00\u202e\x7f/"))
        self.assertTrue(line.isascii() and line.isprintable(), line)
        self.assertIn(r"/\x9b2J\xe9\r\n", line)

    def test_twoKinds(self) -> None:
        """An endpoint that fails in two ways is named, however many requests there were."""
        cut, failed = ended("/flaky/items", failure=UpstreamLost(), brokeOff=True), 500
        several = [ended(), ended("/flaky/items", status=failed, upstreamStatus=failed), cut]
        line = self.line(*(each for each in several for _ in range(1234)))
        self.assertIn(" | GET /flaky/items 2468 (1234 x", line)

    def test_long(self) -> None:
        """Large numbers of all classes leave room for an endpoint; the best are left out."""
        failed = ended("/" + "a" * 90, status=503, upstreamStatus=503)
        snapshot = snapshotOf([failed])
        statuses = dict.fromkeys(("none", "999", "503", "404", "301", "200", "101"), 10**7)
        total = snapshot["total"]
        total["upstreamStatuses"] = statuses
        total["hits"], total["masked"] = 7 * 10**7, {"503": 10**7}
        new = dict.fromkeys(classesOf(statuses), 10**5)
        line = asLine(total, 10**5, snapshot["endpoints"], 511, new)
        self.assertLessEqual(len(line), LINE_WIDTH)
        self.assertIn(": 10000000 x no response (+100000), ... | GET /aaa", line)
        self.assertTrue(line.endswith(" | and 511 more"), line)

    @given(
        st.lists(
            st.builds(
                ended,
                st.text(max_size=80).map(lambda text: f"/{text}"),
                st.sampled_from(["GET", "PROPPATCH", "nonsense"]),
                status=st.sampled_from([200, 404, 418, 499, 503, None]),
                upstreamStatus=st.sampled_from([200, 301, 404, 418, 503, 599, 999, None]),
                duration=st.floats(0, 1e5),
            ),
            min_size=1,
            max_size=30,
        )
    )
    def test_width(self, exchanges: list[FinishedExchange]) -> None:
        """The line is one line, fits a terminal, and accounts for every endpoint."""
        line = self.line(*exchanges)
        self.assertLessEqual(len(line), LINE_WIDTH)
        self.assertTrue(line.isascii() and line.isprintable(), line)
