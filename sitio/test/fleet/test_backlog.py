"""
Promises of L{sitio.fleet.backlog}: an entry for each hit, whatever becomes of its row.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from hypothesis import given, settings, strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from sitio.fleet.backlog import MAX_BATCH, MAX_KEYS, Backlog, isFile
from sitio.telemetry.stats import Stats
from sitio.test.helpers.exchanges import ended, refused

NOW = 1_544_042_305.989


class LedgerTestCase(SynchronousTestCase):
    """Metrics that are counted here, and what is owed of them."""

    def setUp(self) -> None:
        self.stats = Stats(Clock())
        self.backlog = Backlog()

    def entries(self, most: int = MAX_BATCH) -> list[dict[str, Any]]:
        """Those of what has come since the last time."""
        self.backlog.count(self.stats.snapshot())
        return [json.loads(each) for each in self.backlog.entries(NOW, most)]

    def hit(self, target: str = "/", method: str = "GET", times: int = 1, **facts: Any) -> None:
        """So many exchanges."""
        for _ in range(times):
            self.stats.exchangeFinished(ended(target, method, **facts))


class EntryTests(LedgerTestCase):
    """What an entry says."""

    def test_all(self) -> None:
        """It has the members of the protocol, each of the type that it has there."""
        self.hit("/x.png?secret", upstreamStatus=503, status=503, duration=0.009)
        self.assertEqual(
            self.entries(),
            [
                {
                    "endpoint": "/x.png",
                    "method": "GET",
                    "response": {"status": "503", "message": "Service Unavailable"},
                    "time": 9.0,
                    "started": 1_544_042_305_980,
                    "file": True,
                }
            ],
        )

    def test_true(self) -> None:
        """The status is the true one, whatever the client was sent."""
        self.hit(upstreamStatus=500, status=200)
        self.hit(upstreamStatus=None, status=403)
        statuses = [each["response"]["status"] for each in self.entries()]
        self.assertEqual(sorted(statuses), ["403", "500"])

    def test_odd(self) -> None:
        """A status without a name has none; requests that could not be read are told as well."""
        self.hit(upstreamStatus=299, status=299)
        self.stats.exchangeFinished(refused(431))
        told = {each["endpoint"]: each["response"] for each in self.entries()}
        self.assertEqual(told["/"], {"status": "299", "message": ""})
        self.assertEqual(told["(refused)"]["status"], "431")

    def test_mean(self) -> None:
        """Hits that are told together share their mean time; those told before don't count."""
        self.hit(duration=9.0)
        self.entries()
        self.hit(duration=0.001)
        self.hit(duration=0.003)
        self.hit(duration=7.0, upstreamStatus=500, status=500)
        times = [each["time"] for each in self.entries()]
        self.assertEqual(sorted(times), [2.0, 2.0, 7000.0])

    def test_file(self) -> None:
        """A file is what a page loads: by the ending of the last part, if it is a known one."""
        for route in ("/a.png", "/x/y.css", "/b.js", "/c.PDF", "/d.tar.gz", "/e.jpg"):
            self.assertTrue(isFile(route), route)
        for route in ("/", "/users/j.doe", "/a.html", "/a.png/", "/v1.0/x", "/png", "(other)"):
            self.assertFalse(isFile(route), route)


class CountTests(LedgerTestCase):
    """Each hit is told once."""

    def test_once(self) -> None:
        """What was told is owed no more; where nothing came nothing is."""
        self.hit(times=3)
        self.assertEqual(len(self.entries()), 3)
        self.assertEqual(self.entries(), [])
        self.hit()
        self.hit("/b", "POST")
        self.assertEqual(
            sorted((each["method"], each["endpoint"]) for each in self.entries()),
            [("GET", "/"), ("POST", "/b")],
        )

    def test_batches(self) -> None:
        """What does not fit waits for the next time, and no batch is longer than it may be."""
        self.hit("/a", times=30)
        self.hit("/b", times=30)
        self.backlog.count(self.stats.snapshot())
        told = []
        while entries := self.backlog.entries(NOW, 1000):
            self.assertLessEqual(len(",".join(entries)), 1000)
            told += [json.loads(each)["endpoint"] for each in entries]
        self.assertEqual(Counter(told), {"/a": 30, "/b": 30})
        self.assertEqual(self.backlog.hits, 0)

    def test_displaced(self) -> None:
        """A hit whose endpoint lost its row is in (other) then, and not told again."""
        self.stats = Stats(Clock(), maxEndpoints=2)
        self.hit("/a", times=5)
        self.hit("/b", times=6)
        self.assertEqual(len(self.entries()), 11)
        self.hit("/c", times=7)
        told = Counter(each["endpoint"] for each in self.entries())
        self.assertEqual(told, {"/c": 7})

    def test_displacedByClass(self) -> None:
        """The same where (other) has so many statuses that it tells them by their class."""
        self.stats = Stats(Clock(), maxEndpoints=1)
        for status in range(500, 540):
            self.hit("/" + 300 * "x", status=status, upstreamStatus=status)
        self.hit("/a", times=5, status=599, upstreamStatus=599)
        self.entries()
        self.hit("/b", times=7)
        self.assertEqual(Counter(each["endpoint"] for each in self.entries()), {"/b": 7})

    @settings(max_examples=60)
    @given(
        st.lists(
            st.lists(st.tuples(st.integers(0, 9), st.sampled_from([200, 404, 500])), max_size=30),
            max_size=8,
        ),
        st.integers(1, 4),
    )
    def test_all(self, looks: list[list[tuple[int, int]]], most: int) -> None:
        """However endpoints come and go, there is an entry for each hit, with its status."""
        self.setUp()
        self.stats = Stats(Clock(), maxEndpoints=most)
        told: Counter[str] = Counter()
        came: Counter[str] = Counter()
        for look in looks:
            for path, status in look:
                self.hit(f"/{path}", status=status, upstreamStatus=status)
                came[str(status)] += 1
            entries = self.entries()
            for each in entries:
                self.assertGreaterEqual(each["time"], 0)
                told[each["response"]["status"]] += 1
        self.assertEqual(told, came)


class BoundTests(LedgerTestCase):
    """A dashboard that takes nothing for long costs no memory for it."""

    def test_hits(self) -> None:
        """Beyond what may be owed the same share of each is left out, and counted."""
        self.backlog = Backlog(100)
        self.hit("/a", times=300)
        self.hit("/b", times=100)
        told = Counter(each["endpoint"] for each in self.entries())
        self.assertEqual(told, {"/a": 75, "/b": 25})
        self.assertEqual(self.backlog.leftOut, 300)

    def test_rare(self) -> None:
        """One that is left out altogether is owed nothing."""
        self.backlog = Backlog(10)
        self.hit("/a", times=99)
        self.hit("/b")
        self.assertEqual(len(self.entries()), 9)
        self.assertEqual(self.entries(), [])
        self.assertEqual(self.backlog.leftOut, 91)

    def test_endpoints(self) -> None:
        """Endpoints that come and go while nobody takes anything end up in (other)."""
        self.stats = Stats(Clock(), maxEndpoints=8)
        for number in range(MAX_KEYS + 100):
            self.hit(f"/{number}")
            self.backlog.count(self.stats.snapshot())
        told = Counter(json.loads(each)["endpoint"] for each in self.backlog.entries(NOW, 10**9))
        self.assertEqual(told.total(), MAX_KEYS + 100)
        self.assertLessEqual(len(told), MAX_KEYS + 1)
        self.assertGreaterEqual(told["(other)"], 100)
