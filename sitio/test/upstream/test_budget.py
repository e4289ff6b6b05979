"""
Tests of L{sitio.upstream.budget}.
"""

from __future__ import annotations

from hypothesis import given, strategies as st
from twisted.trial.unittest import SynchronousTestCase

from sitio.upstream.budget import MINIMUM, SHARE, WINDOW_SECONDS, Budget


def request(budget: Budget, now: float) -> None:
    """Count a request as an exchange does."""
    if now >= budget.until:
        budget.turn(now)
    budget.requests += 1


class BudgetTests(SynchronousTestCase):
    """Retries in proportion to requests."""

    def test_share(self) -> None:
        """If every request fails, a fifth of them is sent again, and the minimum."""
        budget = Budget(0.0)
        spent = 0
        for _ in range(1000):
            request(budget, 0.5)
            spent += budget.spend(0.5)
        self.assertEqual(spent, 1000 * SHARE + MINIMUM * WINDOW_SECONDS)
        self.assertEqual((budget.retries, budget.refused), (spent, 1000 - spent))

    def test_minimum(self) -> None:
        """A service with few requests has retries, as many each second."""
        budget = Budget(0.0)
        self.assertTrue(all(budget.spend(float(now)) for now in range(1000)))
        budget = Budget(0.0)
        most = int(MINIMUM * WINDOW_SECONDS)
        self.assertEqual([budget.spend(0.0) for _ in range(20)], [True] * most + [False] * 10)
        # They come back one window later, and no more than these.
        self.assertFalse(budget.spend(WINDOW_SECONDS - 0.1))
        self.assertEqual(sum(budget.spend(WINDOW_SECONDS + 0.0) for _ in range(20)), most)

    def test_nothing(self) -> None:
        """Without a share and a minimum there is no retry; a fraction of one is none yet."""
        budget = Budget(0.0, share=0.0, minimum=0.0)
        request(budget, 0.0)
        self.assertFalse(budget.spend(0.0))
        budget = Budget(0.0, share=0.5, minimum=0.0)
        request(budget, 0.0)
        self.assertFalse(budget.spend(0.0))
        request(budget, 0.0)
        self.assertTrue(budget.spend(0.0))

    def test_window(self) -> None:
        """Requests count for ten seconds, also after a long pause."""
        for later, retries in ((5.0, 200), (WINDOW_SECONDS - 0.01, 200), (10.0, 0), (1e9, 0)):
            budget = Budget(0.0, minimum=0.0)
            for _ in range(1000):
                request(budget, 0.5)
            self.assertEqual(sum(budget.spend(later) for _ in range(1000)), retries, later)

    def test_noted(self) -> None:
        """A retry that is not asked for is never refused, and leaves fewer for others."""
        budget = Budget(0.0)
        for _ in range(15):
            budget.note(0.0)
        self.assertEqual((budget.retries, budget.refused), (15, 0))
        self.assertFalse(budget.spend(0.0))

    def test_clockGoesBack(self) -> None:
        """A clock that goes back gives nothing back, and takes nothing."""
        budget = Budget(1000.0)
        self.assertTrue(budget.spend(1000.0))
        request(budget, 0.0)
        self.assertEqual(sum(budget.spend(0.0) for _ in range(100)), 9)

    @given(
        st.lists(
            st.tuples(st.sampled_from((0.0, 0.01, 0.3, 1.0, 2.5, 9.0, 11.0)), st.integers(0, 40),
                      st.integers(0, 40)),
            max_size=60,
        ),
        st.sampled_from((0.0, 0.1, 0.2, 1.0)),
    )  # fmt: skip
    def test_never(self, steps: list[tuple[float, int, int]], share: float) -> None:
        """
        Whenever requests and failures come, there are never more retries than the share of all
        requests so far and of each window the minimum.
        """
        minimum = 0.5
        budget = Budget(0.0, share, minimum)
        now, requests, spent = 0.0, 0, 0
        for seconds, asked, failed in steps:
            now += seconds
            for _ in range(asked):
                request(budget, now)
            requests += asked
            spent += sum(budget.spend(now) for _ in range(failed))
            windows = now // WINDOW_SECONDS + 1
            self.assertLessEqual(spent, share * requests + minimum * WINDOW_SECONDS * windows)
            self.assertLess(len(budget._past), WINDOW_SECONDS)
