"""
Tests of L{sitio.telemetry.upstreams}: how what processes know of upstreams adds up.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from sitio.net.turns import atOnce
from sitio.telemetry.snapshot import countersOf, mergeSidecars
from sitio.telemetry.upstreams import (
    MAX_ENDPOINTS,
    countersOfUpstreams,
    isPlain,
    mergeUpstreams,
    present,
)
from sitio.test.helpers.snapshots import upstreamEndpoint, upstreamOf, workerSnapshot


class MergeTests(SynchronousTestCase):
    """The views of two processes."""

    def test_endpoints(self) -> None:
        """Counts of one address are added; states are counted; others stay apart."""
        one = [upstreamOf("photos", upstreamEndpoint("a:1", sent=3), upstreamEndpoint("b:1"))]
        two = [upstreamOf("photos", upstreamEndpoint("a:1", "ejected", sent=4, seconds=0.5))]
        before = deepcopy((one, two))
        [photos] = mergeUpstreams(one, two)
        first, second = photos["endpoints"]
        self.assertEqual(first["states"], {"healthy": 1, "ejected": 1})
        self.assertEqual((first["sent"], first["seconds"], first["weight"]), (7, 0.5, 1))
        self.assertEqual(second, upstreamEndpoint("b:1"))
        self.assertEqual((one, two), before)

    def test_everyCount(self) -> None:
        """Each number but the weight is a sum."""
        numbers = ("outstanding", "open", "idle", "sent", "answered", "failed", "ejections")
        one = upstreamEndpoint("a:1", "healthy", **dict.fromkeys(numbers, 2))
        [upstream] = mergeUpstreams([upstreamOf("photos", one)], [upstreamOf("photos", one)])
        self.assertEqual([upstream["endpoints"][0][each] for each in numbers], [4] * 7)  # type: ignore[literal-required]

    def test_retries(self) -> None:
        """So are the retries of an upstream."""
        counts = {"retries": 5, "hedges": 2, "refused": 3}
        one: Any = {**upstreamOf("photos"), **counts}
        [upstream] = mergeUpstreams([one], [one])
        self.assertEqual({each: upstream[each] for each in counts},  # type: ignore[literal-required]
                         {each: 2 * count for each, count in counts.items()})  # fmt: skip
        self.assertEqual(countersOfUpstreams([one])[0]["retries"], 5)

    def test_upstreams(self) -> None:
        """Upstreams of different names stay apart; the problem of one is the problem."""
        one = {**upstreamOf("photos"), "judged": False}
        two = {**upstreamOf("photos"), "problem": "no endpoint"}
        found = mergeUpstreams([one], [two, upstreamOf("users")])  # type: ignore[list-item]
        self.assertEqual([each["name"] for each in found], ["photos", "users"])
        self.assertEqual((found[0]["problem"], found[0]["judged"]), ("no endpoint", True))

    def test_lastFailure(self) -> None:
        """The sentence of a process that has one is told."""
        one, two = upstreamEndpoint("a:1"), upstreamEndpoint("a:1", lastFailure="it hung")
        [upstream] = mergeUpstreams([upstreamOf("photos", one)], [upstreamOf("photos", two)])
        self.assertEqual(upstream["endpoints"][0]["lastFailure"], "it hung")

    def test_sameAddress(self) -> None:
        """An endpoint that drains and the one that came back at its address are one row."""
        twice = upstreamOf("photos", upstreamEndpoint("a:1"), upstreamEndpoint("a:1", "draining"))
        [upstream] = mergeUpstreams([twice], [])
        [endpoint] = upstream["endpoints"]
        self.assertEqual(endpoint["states"], {"healthy": 1, "draining": 1})


class EndedTests(SynchronousTestCase):
    """A process that has ended."""

    def test_counters(self) -> None:
        """Its counters stay, without a state; nothing of it is open."""
        upstream = upstreamOf("photos", upstreamEndpoint("a:1", sent=3, open=2, outstanding=1))
        [ended] = countersOfUpstreams([upstream])
        [endpoint] = ended["endpoints"]
        self.assertEqual((endpoint["sent"], endpoint["open"], endpoint["outstanding"]), (3, 0, 0))
        self.assertEqual(present([ended])[0]["endpoints"], [])

    def test_bounded(self) -> None:
        """Of many endpoints the newest are kept."""
        endpoints = [upstreamEndpoint(f"a:{number}") for number in range(MAX_ENDPOINTS + 3)]
        [ended] = countersOfUpstreams([upstreamOf("photos", *endpoints)])
        self.assertEqual(len(ended["endpoints"]), MAX_ENDPOINTS)
        self.assertEqual(ended["endpoints"][-1]["address"], f"a:{MAX_ENDPOINTS + 2}")

    def test_inSnapshot(self) -> None:
        """So it is in the snapshot of a sidecar."""
        upstreams = [upstreamOf("photos", upstreamEndpoint("a:1", sent=3))]
        ended = countersOf({**workerSnapshot(), "upstreams": upstreams})
        whole = atOnce(mergeSidecars(ended, {**workerSnapshot(), "upstreams": upstreams}))
        [endpoint] = whole["upstreams"][0]["endpoints"]
        self.assertEqual((endpoint["sent"], endpoint["states"]), (6, {"healthy": 1}))


class PlainTests(SynchronousTestCase):
    """Whether there is anything to tell."""

    def test_plain(self) -> None:
        """One endpoint that nothing judges is nothing to tell; all else is."""
        one = {**upstreamOf("photos", upstreamEndpoint("a:1")), "judged": False}
        two = {**upstreamOf("u", upstreamEndpoint("a"), upstreamEndpoint("b")), "judged": False}
        judged = upstreamOf("photos", upstreamEndpoint("a:1"))
        for upstreams, expected in (
            ([], True),
            ([one], True),
            ([two], False),
            ([judged], False),
            ([one, one], False),
        ):
            self.assertEqual(isPlain(upstreams), expected, upstreams)  # type: ignore[arg-type]
