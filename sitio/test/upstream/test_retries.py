"""
Tests of L{sitio.upstream.retries}.
"""

from __future__ import annotations

from hypothesis import given, strategies as st
from twisted.trial.unittest import SynchronousTestCase

from sitio.test.helpers.policies import upstreamResponse
from sitio.upstream.retries import (
    FIRST_PAUSE_SECONDS,
    LONGEST_PAUSE_SECONDS,
    MAX_RETRY_AFTER_SECONDS,
    Retries,
    RetrySettings,
)

#: Sun, 06 Nov 1994 08:49:37 GMT
NOW = 784111777.0


def retries(random: float = 0.0) -> Retries:
    """Retries with this random number."""
    return Retries(RetrySettings(), lambda: random, lambda: NOW)


class PauseTests(SynchronousTestCase):
    """The pauses between attempts."""

    def test_doubles(self) -> None:
        """They double with each attempt, up to the longest."""
        found = [retries().pause(each, upstreamResponse(503)) for each in range(1, 10)]
        first = FIRST_PAUSE_SECONDS
        wanted = [min(LONGEST_PAUSE_SECONDS, first * 2**each) for each in range(9)]
        self.assertEqual(found, wanted)
        self.assertIn(LONGEST_PAUSE_SECONDS, wanted)

    @given(st.floats(0, 1), st.integers(1, 10))
    def test_jitter(self, random: float, attempts: int) -> None:
        """Each is shortened by up to half."""
        pause = retries(random).pause(attempts, upstreamResponse(503))
        whole = retries().pause(attempts, upstreamResponse(503))
        assert pause is not None and whole is not None
        self.assertTrue(whole / 2 <= pause <= whole)

    def test_retryAfter(self) -> None:
        """Retry-After, in seconds or as a date, makes a pause longer and never shorter."""
        for value, pause in (
            ("3", 3),
            ("0", FIRST_PAUSE_SECONDS),
            ("Sun, 06 Nov 1994 08:49:39 GMT", 2),
            ("Sun, 06 Nov 1994 08:49:30 GMT", FIRST_PAUSE_SECONDS),
            ("soon", FIRST_PAUSE_SECONDS),
            (str(int(MAX_RETRY_AFTER_SECONDS)), MAX_RETRY_AFTER_SECONDS),
        ):
            response = upstreamResponse(503, ("Retry-After", value))
            self.assertEqual(retries().pause(1, response), pause, value)

    def test_tooLong(self) -> None:
        """A longer Retry-After means that there is no other attempt."""
        for value in ("6", "120", "9" * 5000, "Sun, 06 Nov 1994 08:49:43 GMT"):
            response = upstreamResponse(503, ("Retry-After", value))
            self.assertIsNone(retries().pause(1, response), value)
