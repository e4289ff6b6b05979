"""
Tests of L{sitio.policy.labels}.
"""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from sitio.policy.labels import MAX_LABELS, MAX_NAME, MAX_VALUE, Labels

RIGHT = [("a", ""), ("_A.b-9", "\u20ac \n"), ("a" * MAX_NAME, "b" * MAX_VALUE)]

#: Names and values that are refused, and the words of the error.
WRONG: list[tuple[Any, Any, str]] = [
    *((each, "b", "is not the name of a label") for each in
      ("", "9a", "a b", "a=", 'a"', "a\n", "\xe4", "a" * (MAX_NAME + 1), 5)),
    ("a", "b" * (MAX_VALUE + 1), "more than 64 characters"),
    ("a", 5, "is str, not int"),
    ("a", b"b", "is str, not bytes"),
    ("a", None, "is str, not NoneType"),
]  # fmt: skip


class LabelsTests(SynchronousTestCase):
    """Labels are a small mapping of text."""

    def test_right(self) -> None:
        """Labels are kept in order, can be changed and removed."""
        labels = Labels()
        labels.update(RIGHT)
        self.assertEqual(list(labels.items()), RIGHT)
        labels["a"] = "c"
        del labels["_A.b-9"]
        self.assertEqual(dict(labels), {"a": "c", RIGHT[2][0]: RIGHT[2][1]})

    def test_wrong(self) -> None:
        """What does not fit raises, and nothing is kept of it."""
        for name, value, words in WRONG:
            labels: Any = Labels()
            error = self.assertRaises((ValueError, TypeError), labels.__setitem__, name, value)
            self.assertIn(words, str(error))
            self.assertEqual(len(labels), 0)

    def test_many(self) -> None:
        """There are eight at most; those that are there can still be changed."""
        labels = Labels()
        for number in range(MAX_LABELS):
            labels[f"a{number}"] = "b"
        error = self.assertRaises(ValueError, labels.__setitem__, "a", "b")
        self.assertEqual(str(error), "an exchange has at most 8 labels")
        labels["a0"] = "c"
        self.assertEqual(labels["a0"], "c")
