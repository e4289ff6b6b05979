"""
Promises of L{sitio.net.loglimit}: peers cause few log lines.
"""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from sitio.net.loglimit import LOG_SECONDS, LogLimit


class LogLimitTests(SynchronousTestCase):
    """One event a minute is logged."""

    def test_due(self) -> None:
        """The first is logged at once, the next after a minute, with the number skipped."""
        clock = Clock()
        limit = LogLimit(clock)
        self.assertEqual([limit.due() for _ in range(3)], [0, None, None])
        clock.advance(LOG_SECONDS - 1)
        self.assertIs(limit.due(), None)
        clock.advance(1)
        self.assertEqual([limit.due(), limit.due()], [3, None])
        clock.advance(LOG_SECONDS)
        self.assertEqual(limit.due(), 1)
        clock.advance(2 * LOG_SECONDS)
        self.assertEqual(limit.due(), 0)
