"""
Tests of L{sitio.policies.lastgood.budget}, through the policy that uses it.
"""

from __future__ import annotations

from typing import Any

from sitio.policies.lastgood.budget import WINDOW_SECONDS
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

    def test_half(self) -> None:
        """As many good responses as failures do not count as a recovery."""
        self.keep()
        self.clock.advance(WINDOW_SECONDS)
        self.minutes(11, 1, 1)
        self.assertEqual(self.minutes(10, 1, 1), 0)

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

    def test_warning(self) -> None:
        """A warning is logged once for each outage when masking stops, with its length."""
        events: list[dict[str, Any]] = []
        self.patch(type(self.policy._budget), "log", _Log(events))
        for _ in range(2):
            self.minutes(1, 2, 0)
            self.minutes(12, 0, 1)
        self.assertEqual([each["lasted"] for each in events], [600, 600])


class _Log:
    """Records what is logged."""

    def __init__(self, events: list[dict[str, Any]]) -> None:
        self._events = events

    def warn(self, form: str, **fields: Any) -> None:
        self._events.append({"text": form.format(**fields), **fields})
