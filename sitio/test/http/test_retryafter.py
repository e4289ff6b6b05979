"""
Tests of L{sitio.http.retryafter}.
"""

from __future__ import annotations

from hypothesis import given, strategies as st
from twisted.trial.unittest import SynchronousTestCase

from sitio.http.message import Headers
from sitio.http.retryafter import retryAfter

#: Sun, 06 Nov 1994 08:49:37 GMT
NOW = 784111777.0


class RetryAfterTests(SynchronousTestCase):
    """The seconds that a response asks for."""

    def test_forms(self) -> None:
        """It is read in seconds and in each form of a date; what is malformed or past is 0."""
        for value, seconds in (
            ("0", 0),
            ("3", 3),
            ("120", 120),
            ("Sun, 06 Nov 1994 08:49:39 GMT", 2),
            ("Sunday, 06-Nov-94 08:49:39 GMT", 2),
            ("Sun Nov  6 08:49:39 1994", 2),
            ("Sun, 06 Nov 1994 08:49:37 GMT", 0),
            ("Mon, 01 Jan 1990 00:00:00 GMT", 0),
            ("soon", 0),
            ("-1", 0),
            ("1.5", 0),
            ("\u00b2", 0),
            ("", 0),
        ):
            self.assertEqual(retryAfter(Headers({"Retry-After": value}), NOW), seconds, value)
        self.assertEqual(retryAfter(Headers(), NOW), 0)

    def test_long(self) -> None:
        """However many digits there are, it is read at once."""
        self.assertEqual(retryAfter(Headers({"Retry-After": "9" * 5000}), NOW), 999_999_999)

    @given(st.text(st.characters(max_codepoint=255, blacklist_categories=["Cc"]), max_size=40))
    def test_any(self, value: str) -> None:
        """No value raises, or is negative."""
        self.assertGreaterEqual(retryAfter(Headers({"Retry-After": value}), NOW), 0)
