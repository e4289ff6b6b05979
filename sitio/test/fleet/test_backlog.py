"""
Promises of L{sitio.fleet.backlog}: one entry for each request, also if its row is evicted.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from hypothesis import given, settings, strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from sitio.fleet.backlog import MAX_KEYS, MAX_POST_BYTES, Backlog, isFile
from sitio.telemetry.stats import Stats
from sitio.test.helpers.exchanges import ended, refused

NOW = 1_544_042_305.989


class BacklogTestCase(SynchronousTestCase):
    """Metrics, and the backlog that is made of them."""

    def setUp(self) -> None:
        self.stats = Stats(Clock())
        self.backlog = Backlog()

    def entries(self, most: int = MAX_POST_BYTES) -> list[dict[str, Any]]:
        """The entries of what was counted since the last call."""
        self.backlog.update(self.stats.snapshot())
        return [json.loads(each) for each in self.backlog.takeEntries(NOW, most)]

    def hit(self, target: str = "/", method: str = "GET", times: int = 1, **facts: Any) -> None:
        """Count so many exchanges."""
        for _ in range(times):
            self.stats.exchangeFinished(ended(target, method, **facts))


class EntryTests(BacklogTestCase):
    """What is in an entry."""

    def test_all(self) -> None:
        """An entry has the members of the protocol, with their types."""
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

    def test_upstreamStatus(self) -> None:
        """The status is the upstream's, whatever the client was sent."""
        self.hit(upstreamStatus=500, status=200)
        self.hit(upstreamStatus=None, status=403)
        statuses = [each["response"]["status"] for each in self.entries()]
        self.assertEqual(sorted(statuses), ["403", "500"])

    def test_odd(self) -> None:
        """An unknown status has no message; unreadable requests have entries too."""
        self.hit(upstreamStatus=299, status=299)
        self.stats.exchangeFinished(refused(431))
        told = {each["endpoint"]: each["response"] for each in self.entries()}
        self.assertEqual(told["/"], {"status": "299", "message": ""})
        self.assertEqual(told["(refused)"]["status"], "431")

    def test_mean(self) -> None:
        """Entries made together have their mean time; earlier requests don't count for it."""
        self.hit(duration=9.0)
        self.entries()
        self.hit(duration=0.001)
        self.hit(duration=0.003)
        self.hit(duration=7.0, upstreamStatus=500, status=500)
        times = [each["time"] for each in self.entries()]
        self.assertEqual(sorted(times), [2.0, 2.0, 7000.0])

    def test_file(self) -> None:
        """A path is a file's if the ending of its last part is a known one, but not a page's."""
        for route in ("/a.png", "/x/y.css", "/b.js", "/c.PDF", "/d.tar.gz", "/e.jpg"):
            self.assertTrue(isFile(route), route)
        for route in ("/", "/users/j.doe", "/a.html", "/a.png/", "/v1.0/x", "/png", "(other)"):
            self.assertFalse(isFile(route), route)


class CountTests(BacklogTestCase):
    """Each request has one entry."""

    def test_once(self) -> None:
        """A request whose entry was taken is removed; without requests there are no entries."""
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
        """What does not fit waits for the next batch; no batch is too long."""
        self.hit("/a", times=30)
        self.hit("/b", times=30)
        self.backlog.update(self.stats.snapshot())
        told = []
        while entries := self.backlog.takeEntries(NOW, 1000):
            self.assertLessEqual(len(",".join(entries)), 1000)
            told += [json.loads(each)["endpoint"] for each in entries]
        self.assertEqual(Counter(told), {"/a": 30, "/b": 30})
        self.assertEqual(self.backlog.hits, 0)

    def test_evicted(self) -> None:
        """When an endpoint is evicted, its requests move to (other) and are not new there."""
        self.stats = Stats(Clock(), maxEndpoints=2)
        self.hit("/a", times=5)
        self.hit("/b", times=6)
        self.assertEqual(len(self.entries()), 11)
        self.hit("/c", times=7)
        told = Counter(each["endpoint"] for each in self.entries())
        self.assertEqual(told, {"/c": 7})

    def test_evictedByClass(self) -> None:
        """The same if (other) has so many statuses that it counts them by class."""
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
        """However endpoints are evicted, there is one entry for each request, with its status."""
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


class BoundTests(BacklogTestCase):
    """A fleet dashboard that is down for long costs little memory."""

    def test_hits(self) -> None:
        """Beyond the limit the same share of each endpoint is dropped, and counted."""
        self.backlog = Backlog(100)
        self.hit("/a", times=300)
        self.hit("/b", times=100)
        told = Counter(each["endpoint"] for each in self.entries())
        self.assertEqual(told, {"/a": 75, "/b": 25})
        self.assertEqual(self.backlog.dropped, 300)

    def test_rare(self) -> None:
        """An endpoint whose requests are all dropped is forgotten."""
        self.backlog = Backlog(10)
        self.hit("/a", times=99)
        self.hit("/b")
        self.assertEqual(len(self.entries()), 9)
        self.assertEqual(self.entries(), [])
        self.assertEqual(self.backlog.dropped, 91)

    def test_endpoints(self) -> None:
        """If too many endpoints come and go during an outage, the rest is added to (other)."""
        self.stats = Stats(Clock(), maxEndpoints=8)
        for number in range(MAX_KEYS + 100):
            self.hit(f"/{number}")
            self.backlog.update(self.stats.snapshot())
        told = Counter(
            json.loads(each)["endpoint"] for each in self.backlog.takeEntries(NOW, 10**9)
        )
        self.assertEqual(told.total(), MAX_KEYS + 100)
        self.assertLessEqual(len(told), MAX_KEYS + 1)
        self.assertGreaterEqual(told["(other)"], 100)
