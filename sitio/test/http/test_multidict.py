"""
Tests of L{sitio.http.multidict}, and of queries.
"""

from __future__ import annotations

from collections.abc import Mapping

from twisted.trial.unittest import SynchronousTestCase

from sitio.http.message import Request
from sitio.http.multidict import MultiDict

#: Targets and the parameters of their queries.
QUERIES = [
    ("/a", []),
    ("/a?", []),
    ("*", []),
    ("/a?b=1&c=2&b=3", [("b", "1"), ("c", "2"), ("b", "3")]),
    ("/a?b&c=&=d", [("b", ""), ("c", ""), ("", "d")]),
    ("/a?b=c+d%20e%2B", [("b", "c d e+")]),
    ("/a?%C3%A4=%E2%82%AC", [("\xe4", "\u20ac")]),
    ("/a?b=%FF%zz%", [("b", "\ufffd%zz%")]),
    ("/a?b=c?d=e=f", [("b", "c?d=e=f")]),
    ("/a?b=1;c=2", [("b", "1;c=2")]),
    ("/a?&&b=1&", [("b", "1")]),
]


class MultiDictTests(SynchronousTestCase):
    """A mapping in which a name may have several values."""

    def setUp(self) -> None:
        self.several = MultiDict([("b", "1"), ("A", "2"), ("b", "3")])

    def test_mapping(self) -> None:
        """A repeated name counts once, with its first value."""
        several = self.several
        self.assertIsInstance(several, Mapping)
        self.assertEqual((several["b"], several.get("a"), several.get("A")), ("1", None, "2"))
        self.assertEqual((list(several), len(several)), (["b", "A"], 2))
        self.assertEqual(several, {"b": "1", "A": "2"})
        self.assertEqual(("b" in several, "c" in several), (True, False))
        self.assertRaises(KeyError, lambda: several["c"])

    def test_all(self) -> None:
        """All values are there, in order, as copies."""
        several = self.several
        several.getAll("b").clear()
        several.allItems().clear()
        self.assertEqual((several.getAll("b"), several.getAll("c")), (["1", "3"], []))
        self.assertEqual(several.allItems(), [("b", "1"), ("A", "2"), ("b", "3")])

    def test_repr(self) -> None:
        """The repr has the names, and not the values, which may be secret."""
        self.assertEqual(repr(self.several), "<MultiDict b, A>")

    def test_queries(self) -> None:
        """A query is decoded as that of a form; garbage is no error."""
        for target, pairs in QUERIES:
            request = Request("GET", target)
            self.assertEqual(request.query.allItems(), pairs, target)
            self.assertEqual(request.rawQuery, target.partition("?")[2])
