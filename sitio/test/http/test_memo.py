"""
Tests of L{sitio.http.memo}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from sitio.http.memo import Memo


class Lengths(Memo[str, int]):
    """The lengths of texts; notes which it had to find out."""

    most, longest = 4, 8

    def __init__(self) -> None:
        self.found: list[str] = []

    def __missing__(self, text: str) -> int:
        self.found.append(text)
        return self.keep(text, len(text))


class MemoTests(SynchronousTestCase):
    """Results are remembered, within bounds."""

    def setUp(self) -> None:
        self.memo = Lengths()

    def test_once(self) -> None:
        """A result is found out once."""
        self.assertEqual([self.memo["abc"], self.memo["abc"]], [3, 3])
        self.assertEqual(self.memo.found, ["abc"])

    def test_most(self) -> None:
        """A full memo is emptied before it takes one more."""
        for text in ("a", "b", "c", "d"):
            self.assertEqual(self.memo[text], 1)
        self.assertEqual(len(self.memo), 4)
        self.assertEqual((self.memo["e"], dict(self.memo)), (1, {"e": 1}))

    def test_longest(self) -> None:
        """A text over the limit gets its result, and is not remembered."""
        self.assertEqual((self.memo["x" * 8], self.memo["x" * 9]), (8, 9))
        self.assertEqual(list(self.memo), ["x" * 8])
