"""
Promises of L{sitio.telemetry.histogram}.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import pairwise

from hypothesis import given, strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from sitio.telemetry.histogram import (
    ADDED_BOUNDS,
    CELL_BOUNDS,
    FINE_BOUNDS,
    LATENCY_BOUNDS,
    coarser,
    quantile,
    regroup,
)
from sitio.telemetry.stats import Stats
from sitio.test.helpers.exchanges import ended


class BucketTests(SynchronousTestCase):
    """The bounds, and the quantiles."""

    def test_bounds(self) -> None:
        """Prometheus gets bounds of OpenTelemetry's HTTP conventions, and 1 ms, in order."""
        theirs = {0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10}
        self.assertEqual(set(LATENCY_BOUNDS) - theirs, {0.001})
        for bounds in (LATENCY_BOUNDS, ADDED_BOUNDS):
            self.assertEqual(list(bounds), sorted(set(bounds)))

    def test_quantileOfNothing(self) -> None:
        """An empty histogram has no quantile, rather than zero."""
        self.assertIsNone(quantile(LATENCY_BOUNDS, [0] * (len(LATENCY_BOUNDS) + 1), 0.5))

    def test_fineBounds(self) -> None:
        """
        Fine bounds contain all others; their number is limited, and each bucket is narrow
        enough for a middle within 6 % of its ends.
        """
        self.assertLessEqual({*LATENCY_BOUNDS, *ADDED_BOUNDS}, set(FINE_BOUNDS))
        self.assertLess(len(FINE_BOUNDS), 200)
        widest = max(high / low for low, high in pairwise(FINE_BOUNDS))
        self.assertLess(widest, 1.06**2)

    def test_cells(self) -> None:
        """The dashboard's cells are whole fine buckets, and three to each decade from 1 ms on."""
        self.assertLessEqual(set(CELL_BOUNDS), set(FINE_BOUNDS))
        for decade in (0.001, 0.01, 0.1, 1.0):
            inIt = [each for each in CELL_BOUNDS if decade <= each < 10 * decade]
            self.assertEqual(len(inIt), 3)

    def test_regroup(self) -> None:
        """Fine counts fall into the coarser bucket that contains theirs; none is lost."""
        for bounds in (LATENCY_BOUNDS, ADDED_BOUNDS):
            for index, bound in enumerate((*FINE_BOUNDS, 1e9)):
                counts = [0] * (len(FINE_BOUNDS) + 1)
                counts[index] = 3
                expected = [0] * (len(bounds) + 1)
                expected[bisect_left(bounds, bound)] = 3
                self.assertEqual(regroup(counts, coarser(bounds)), expected, bound)

    def test_constantLatency(self) -> None:
        """
        Of durations that are all alike median, 95th and 99th percentile are the same, and
        within 6 % of the duration.
        """
        for duration in (
            *(0.0001, 0.00017, 0.0003, 0.0005, 0.0011, 0.002, 0.0034, 0.0099, 0.0126, 0.02),
            *(0.033, 0.05, 0.07, 0.11, 0.15, 0.2, 0.3, 0.42, 0.6, 0.87, 1.0, 1.5, 2.1, 3.0),
            *(4.2, 5.5, 6.6, 9.0, 12.0, 20.0, 30.0, 60.0, 100.0, 300.0, 600.0, 1800.0, 3600.0),
        ):
            counting = Stats(Clock())
            for _ in range(100):
                counting.exchangeFinished(ended(duration=duration, upstreamTime=0.0))
            snapshot = counting.snapshot()
            for counts in (snapshot["total"]["latency"], snapshot["added"]):
                shown = {quantile(FINE_BOUNDS, counts, share) for share in (0.5, 0.95, 0.99)}
                self.assertEqual(len(shown), 1, duration)
                self.assertLess(abs((shown.pop() or 0) / duration - 1), 0.06, duration)

    def test_quantileBetweenBounds(self) -> None:
        """Within a bucket the estimate is its geometric middle, whatever the share."""
        for share in (0.25, 0.5, 1.0):
            self.assertEqual(quantile((1.0, 4.0), (0, 4, 0), share), 2.0)
        self.assertEqual(quantile((1.0, 4.0), (4, 0, 0), 0.25), 1.0)
        self.assertEqual(quantile((1.0, 4.0, 9.0), (0, 1, 1, 0), 0.5), 2.0)
        self.assertEqual(quantile((1.0, 4.0, 9.0), (0, 1, 1, 0), 0.51), 6.0)

    def test_quantileInTheLastBucket(self) -> None:
        """In the last bucket the estimate is its lower bound."""
        self.assertEqual(quantile((1.0, 2.0), (0, 0, 7), 0.5), 2.0)

    @given(
        st.lists(st.floats(0, 20), min_size=1, max_size=60),
        st.floats(0, 1, exclude_min=True),
    )
    def test_quantileInTheRightBucket(self, durations: list[float], share: float) -> None:
        """The estimate lies in the same bucket as the exact quantile."""
        counting = Stats(Clock())
        for duration in durations:
            counting.exchangeFinished(ended(duration=duration))
        estimate = quantile(FINE_BOUNDS, counting.snapshot()["total"]["latency"], share)
        assert estimate is not None
        rank = next(n for n in range(1, len(durations) + 1) if n >= share * len(durations))
        true = sorted(durations)[rank - 1]
        high = min((bound for bound in FINE_BOUNDS if true <= bound), default=FINE_BOUNDS[-1])
        low = max((bound for bound in FINE_BOUNDS if bound < true), default=0.0)
        self.assertTrue(low <= estimate <= high, (low, estimate, high))
