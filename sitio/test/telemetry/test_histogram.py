"""
Promises of L{sitio.telemetry.histogram}.
"""

from __future__ import annotations

from hypothesis import given, strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from sitio.telemetry.histogram import ADDED_BOUNDS, LATENCY_BOUNDS, quantile
from sitio.telemetry.stats import Stats
from sitio.test.helpers.exchanges import ended


class BucketTests(SynchronousTestCase):
    """The bounds, and the quantiles."""

    def test_bounds(self) -> None:
        """The bounds of OpenTelemetry's HTTP conventions are among them, in ascending order."""
        theirs = {0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10}
        self.assertLessEqual(theirs, set(LATENCY_BOUNDS))
        for bounds in (LATENCY_BOUNDS, ADDED_BOUNDS):
            self.assertEqual(list(bounds), sorted(set(bounds)))

    def test_quantileOfNothing(self) -> None:
        """An empty histogram has no quantile, rather than zero."""
        self.assertIsNone(quantile(LATENCY_BOUNDS, [0] * (len(LATENCY_BOUNDS) + 1), 0.5))

    def test_quantileBetweenBounds(self) -> None:
        """Within a bucket the estimate is interpolated."""
        self.assertEqual(quantile((1.0, 2.0), (0, 4, 0), 0.5), 1.5)
        self.assertEqual(quantile((1.0, 2.0), (0, 4, 0), 1.0), 2.0)
        self.assertEqual(quantile((1.0, 2.0), (4, 0, 0), 0.25), 0.25)

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
        estimate = quantile(LATENCY_BOUNDS, counting.snapshot()["total"]["latency"], share)
        assert estimate is not None
        rank = next(n for n in range(1, len(durations) + 1) if n >= share * len(durations))
        true = sorted(durations)[rank - 1]
        high = min((bound for bound in LATENCY_BOUNDS if true <= bound), default=LATENCY_BOUNDS[-1])
        low = max((bound for bound in LATENCY_BOUNDS if bound < true), default=0.0)
        self.assertTrue(low <= estimate <= high, (low, estimate, high))
