"""
Tests of L{sitio.http.errorfields}; the tests of C{error-page} have the table of fields.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from sitio.http import errorfields
from sitio.http.errorfields import FAMILIES, FOR_STATUS, REPRESENTATION, isOfMessage
from sitio.http.headers import FRAMING_FIELDS


class FieldTests(SynchronousTestCase):
    """Which fields belong to the message."""

    def test_tables(self) -> None:
        """No field is in two tables, or of the message and of its representation."""
        tables = [
            getattr(errorfields, name) for name in ("MEANING", "CACHING", "ORIGIN", "TRACING")
        ]
        names = frozenset().union(*tables)
        self.assertEqual(sum(map(len, tables)), len(names))
        self.assertFalse(names & REPRESENTATION)
        self.assertFalse(names & {each.encode() for each in FRAMING_FIELDS})
        self.assertLessEqual(FOR_STATUS.keys(), REPRESENTATION)
        for name in names | REPRESENTATION:
            self.assertEqual(name, name.lower())
            self.assertEqual(name in names and name.startswith(FAMILIES), False, name)

    def test_representation(self) -> None:
        """Fields of the representation are of no message, except where the status needs them."""
        for name in REPRESENTATION:
            for status in range(400, 600):
                self.assertEqual(isOfMessage(name, status), FOR_STATUS.get(name) == status, name)
