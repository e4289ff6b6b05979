"""
Tests of L{sitio.policies.lastgood.budget}, through the policy that uses it.
"""

from __future__ import annotations

from typing import Any

from sitio.policies.lastgood.budget import MAX_ENDPOINTS, MAX_ROUTE, WINDOW_SECONDS
from sitio.test.helpers.lastgood import LastGoodTestCase
from sitio.test.helpers.policies import exchangeFor, upstreamResponse


class BudgetTests(LastGoodTestCase):
    """Masking stops when failures prevail for too long."""

    def setUp(self) -> None:
        LastGoodTestCase.setUp(self)
        self.make(maxAge=100_000, budget=600)

    def minutes(self, count: int, good: int, failed: int) -> int:
        """Let minutes pass with so many responses of each kind in each window; count the masks."""
        masked = 0
        for _ in range(count * 6):
            for _ in range(good):
                self.keep()
            masked += sum(self.failed().status == 200 for _ in range(failed))
            self.clock.advance(WINDOW_SECONDS)
        return masked

    def test_outage(self) -> None:
        """An outage is masked for the seconds of the budget, and no longer."""
        self.keep()
        self.clock.advance(WINDOW_SECONDS)
        self.assertEqual(self.minutes(10, 0, 1), 60)
        self.assertEqual(self.minutes(100, 0, 1), 0)

    def test_flapping(self) -> None:
        """Single good responses during an outage do not restart the budget."""
        self.keep()
        self.clock.advance(WINDOW_SECONDS)
        self.assertEqual(self.minutes(10, 1, 9), 60 * 9)
        self.assertEqual(self.minutes(10, 1, 9), 0)

    def test_tie(self) -> None:
        """As many good responses as failures are no outage: masking goes on without end."""
        self.keep()
        self.clock.advance(WINDOW_SECONDS)
        self.assertEqual(self.minutes(60, 1, 1), 360)
        self.assertEqual(self.minutes(20, 1, 2), 120)

    def test_someFailures(self) -> None:
        """Failures are masked without end while there are more good responses."""
        self.assertEqual(self.minutes(60, 3, 2), 360 * 2)

    def test_over(self) -> None:
        """When good responses prevail again, masking starts again."""
        self.keep()
        self.clock.advance(WINDOW_SECONDS)
        self.minutes(11, 0, 1)
        self.minutes(1, 2, 0)
        self.assertEqual(self.minutes(10, 0, 1), 60)
        self.assertEqual(self.minutes(1, 0, 1), 0)

    def test_confirmationsAreGood(self) -> None:
        """A 304 counts as a good response, as a 200 does."""
        self.keep(("ETag", '"a"'))
        self.clock.advance(WINDOW_SECONDS)
        self.minutes(11, 0, 1)
        self.response(exchangeFor(), upstreamResponse(304, ("ETag", '"a"')))
        self.clock.advance(WINDOW_SECONDS)
        self.assertMasked(self.failed())

    def test_quiet(self) -> None:
        """Time without requests is no recovery: masking stops after a quiet outage as well."""
        self.keep()
        self.clock.advance(WINDOW_SECONDS)
        self.assertMasked(self.failed())
        self.clock.advance(599)
        self.assertMasked(self.failed())
        self.clock.advance(1)
        self.assertNotMasked(self.failed())

    def test_onlyWhatCouldBeMasked(self) -> None:
        """Failures that can't be masked do not use up the budget."""
        self.keep()
        for _ in range(70):
            self.failed(target="/never-good")
            self.clock.advance(WINDOW_SECONDS)
        self.assertMasked(self.failed())

    def logged(self) -> list[dict[str, Any]]:
        """The events that are logged from now on."""
        events: list[dict[str, Any]] = []
        self.patch(type(self.policy._budget), "log", _Log(events))
        return events

    def test_warning(self) -> None:
        """A warning is logged once for each outage when masking stops, with what prevailed."""
        events = self.logged()
        for _ in range(2):
            self.minutes(1, 2, 0)
            self.minutes(12, 1, 3)
        self.assertEqual([each["lasted"] for each in events], [600, 600])
        self.assertEqual(
            events[0]["text"],
            "last-good stops masking GET /: 181 failures and 60 good responses in 600 seconds"
            " (0 more such lines since the last)",
        )

    def test_endpoints(self) -> None:
        """An endpoint that fails is unmasked, and no other is, however rarely that is asked."""
        for target in ("/a", "/a?b", "/quiet", "/busy"):
            self.keep(target=target)
        events = self.logged()
        for _ in range(600 // WINDOW_SECONDS):
            for _ in range(50):
                self.assertMasked(self.failed(target="/a"))
            self.keep(target="/busy")
            self.clock.advance(WINDOW_SECONDS)
        for target in ("/a", "/a?b"):
            self.assertNotMasked(self.failed(target=target))
        for target in ("/busy", "/quiet"):
            self.assertMasked(self.failed(target=target))
        self.assertEqual([each["path"] for each in events], ["/a"])

    def test_oneAlone(self) -> None:
        """So it is if nothing else is asked, and if it fails by several methods."""
        for target in ("/a", "/quiet"):
            self.keep(target=target)
        for _ in range(600 // WINDOW_SECONDS):
            for method in ("GET", "HEAD"):
                self.assertMasked(self.failed(target="/a", method=method))
            self.clock.advance(WINDOW_SECONDS)
        for method in ("GET", "HEAD"):
            self.assertNotMasked(self.failed(target="/a", method=method))
        self.assertMasked(self.failed(target="/quiet"))

    def test_whole(self) -> None:
        """
        When the whole service fails, masking stops for all, even if each path is asked too
        rarely to use up a budget; a tie of paths masks on.
        """
        for fails in (3, 2):
            self.make(maxAge=100_000, budget=600)
            events = self.logged()
            for n in range(1000):
                self.keep(target=f"/{n}")
            masked = []
            for window in range(61):
                targets = [f"/{4 * window + each}" for each in range(4)]
                masked += [self.failed(target=each).status for each in targets[:fails]]
                for each in targets[fails:]:
                    self.keep(target=each)
                self.clock.advance(WINDOW_SECONDS)
            if fails == 2:
                self.assertEqual(set(masked), {200})
                continue
            # The second failure makes it an outage.
            self.assertEqual(masked.index(503), 3 * 60)
            self.assertEqual(set(masked[3 * 60 + 1 :]), {503})
            self.assertIn("paths fail and", events[0]["text"])
            for _ in range(2):
                for n in range(4):
                    self.keep(target=f"/good{n}")
                self.clock.advance(WINDOW_SECONDS)
            self.assertMasked(self.failed(target="/999"))

    def test_wholeIsLogged(self) -> None:
        """
        When all endpoints fail, the log says so, though a line about one of them came just
        before; each line is for an outage of its own.
        """
        targets = [f"/{n}" for n in range(5)]
        for target in targets:
            self.keep(target=target)
        events = self.logged()
        for _ in range(64):
            for target in targets:
                self.failed(target=target)
                self.clock.advance(1)
            self.clock.advance(WINDOW_SECONDS - 5)
        self.assertEqual(
            [each["text"] for each in events],
            [
                "last-good stops masking GET /0: 61 failures and 0 good responses in 600 seconds"
                " (0 more such lines since the last)",
                "last-good stops masking: 5 paths fail and 0 do not, after 600 seconds"
                " (0 more such lines since the last)",
            ],
        )

    def test_methods(self) -> None:
        """HEAD recovers by its own good responses."""
        self.keep()
        for _ in range(61):
            self.failed(method="HEAD")
            self.clock.advance(WINDOW_SECONDS)
        self.assertNotMasked(self.failed(method="HEAD"))
        self.clock.advance(WINDOW_SECONDS)
        self.response(exchangeFor(method="HEAD"), upstreamResponse(200))
        self.clock.advance(WINDOW_SECONDS)
        self.response(exchangeFor(method="HEAD"), upstreamResponse(200))
        self.assertMasked(self.failed(method="HEAD"))

    def test_bounded(self) -> None:
        """The table is bounded; failing endpoints beyond it count as one."""
        self.make(maxAge=100_000, maxBytes=2**30)
        budget = self.policy._budget
        events = self.logged()
        for n in range(MAX_ENDPOINTS + 50):
            budget.mayMask(("GET", f"/{n}"), 0.0)
            budget.mayMask(("GET", "/" * (MAX_ROUTE + 1 + n)), 0.0)
        self.assertLessEqual(len(budget.outages), MAX_ENDPOINTS + 1)
        self.assertLessEqual(len(budget._balances), MAX_ENDPOINTS + 1)
        for n in range(MAX_ENDPOINTS + 50):
            self.assertFalse(budget.mayMask(("GET", f"/{n}"), 600.0))
        self.assertEqual(len(events), 1)
        for n in range(MAX_ENDPOINTS + 50):
            for now in (610.0, 620.0, 630.0):
                budget.succeeded(("GET", f"/{n}"), now)
        self.assertLessEqual(set(budget.outages), {("", "(other)")})

    def test_idle(self) -> None:
        """
        An endpoint that failed, and of which nothing is left that could mask, counts no more:
        else those of an outage long ago would use up the table, and one more that fails would
        unmask others.
        """
        self.make(maxAge=300, budget=600)
        budget = self.policy._budget
        for n in range(MAX_ENDPOINTS + 50):
            budget.mayMask(("GET", f"/orders/{n}"), 0.0)
        self.assertEqual(len(budget.outages), MAX_ENDPOINTS + 1)
        budget.succeeded(("GET", "/orders/0"), 299.0)
        budget.mayMask(("GET", "/a"), 310.0)
        self.assertEqual(set(budget.outages), {("GET", "/orders/0"), ("GET", "/a")})
        for now in range(311, 911):
            self.assertTrue(budget.mayMask(("GET", "/a"), float(now)) or now >= 910)
            self.assertTrue(budget.mayMask(("GET", "/b"), float(now)) or now >= 910)
            for n in range(3):
                budget.succeeded(("GET", f"/good{n}"), float(now))
        self.assertEqual(set(budget.outages), {("GET", "/a"), ("GET", "/b")})
        self.assertFalse(budget.mayMask(("GET", "/a"), 911.0))
        self.assertTrue(budget.mayMask(("GET", "/c"), 911.0))
        for late in (1400.0, 1410.0):
            budget.succeeded(("GET", "/good"), late)
        self.assertFalse(budget.outages)

    def test_manyGood(self) -> None:
        """However many paths are good in a window, an endpoint that fails has its own row."""
        budget = self.policy._budget
        budget.mayMask(("GET", "/a"), 0.0)
        for n in range(2 * MAX_ENDPOINTS):
            budget.succeeded(("GET", f"/{n}"), 1.0)
        self.assertTrue(budget.mayMask(("GET", "/late"), 2.0))
        self.assertEqual(set(budget.outages), {("GET", "/a"), ("GET", "/late")})
        self.assertLessEqual(len(budget._balances), MAX_ENDPOINTS + 1)


class _Log:
    """Records what is logged."""

    def __init__(self, events: list[dict[str, Any]]) -> None:
        self._events = events

    def warn(self, form: str, **fields: Any) -> None:
        self._events.append({"text": form.format(**fields), **fields})
