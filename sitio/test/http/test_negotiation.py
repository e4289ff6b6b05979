"""
Tests of L{sitio.http.negotiation}; the tests of C{error-page} have more of them.
"""

from __future__ import annotations

from hypothesis import given, strategies as st
from twisted.trial.unittest import SynchronousTestCase

from sitio.http.negotiation import ANY, FAMILY, NAMED, isJSON, mediaRanges, weightOf


class WeightTests(SynchronousTestCase):
    """Media ranges and their weights (RFC 9110, section 12.5.1)."""

    def test_example(self) -> None:
        """The example of the section."""
        ranges = mediaRanges(
            "text/*;q=0.3, text/plain;q=0.7, text/plain;format=flowed,"
            " text/plain;format=fixed;q=0.4, */*;q=0.5"
        )
        flowed, fixed = (frozenset((("format", each),)) for each in ("flowed", "fixed"))
        self.assertEqual(weightOf("text/plain", ranges, flowed), (1.0, NAMED))
        self.assertEqual(weightOf("text/plain", ranges), (0.7, NAMED))
        self.assertEqual(weightOf("text/html", ranges), (0.3, FAMILY))
        self.assertEqual(weightOf("image/jpeg", ranges), (0.5, ANY))
        self.assertEqual(weightOf("text/plain", ranges, fixed), (0.4, NAMED))

    def test_nothing(self) -> None:
        """A type that no range covers is not acceptable."""
        self.assertEqual(weightOf("text/html", mediaRanges("image/png")), (0.0, ANY))

    def test_parameters(self) -> None:
        """Names and values have no case, quoted values are unquoted, spaces count nothing."""
        for text in ('a/b;c="d e"', 'A/B ; C="D E" ; q=1', 'a/b;c="d\\ e"', 'a/b;q="1";c="d e"'):
            (only,) = mediaRanges(text)
            self.assertEqual((only.kind, only.weight), ("a/b", 1.0), text)
            self.assertEqual(only.parameters, {("c", "d e")}, text)

    @given(st.text(st.sampled_from('a/*;,="\\q01. '), max_size=40))
    def test_anything(self, accept: str) -> None:
        """No text raises an exception, and weights are 0 to 1."""
        for each in mediaRanges(accept):
            self.assertTrue(0 <= each.weight <= 1)

    def test_linear(self) -> None:
        """Long fields take no more than linear time."""
        for each in (",", ";", '"', '\\"', 'a/b;c="', " ", "a/b,"):
            mediaRanges(each * 20_000)

    def test_json(self) -> None:
        """Types with the suffix +json are JSON."""
        for kind in ("application/json", "text/json", "application/problem+json", "a/b+json"):
            self.assertTrue(isJSON(kind), kind)
        for kind in ("application/jsonp", "text/html", "application/json-seq", "+jsonx", "json"):
            self.assertFalse(isJSON(kind), kind)
