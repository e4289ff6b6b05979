"""
Tests of L{sitio.http.marks}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from sitio.http.marks import hasMark, lineWith, newMark
from sitio.http.message import Headers, Request


class MarkTests(SynchronousTestCase):
    """The mark of one sitio."""

    def test_form(self) -> None:
        """A mark is a pseudonym, and no two are the same (RFC 8586, section 2)."""
        marks = {newMark() for _ in range(100)}
        self.assertEqual(len(marks), 100)
        for each in marks:
            self.assertRegex(each, r"\Asitio-[0-9a-f]{16}\Z")
            self.assertEqual(lineWith(each), b"CDN-Loop: %b\r\n" % each.encode())

    def test_none(self) -> None:
        """Without a mark no line is added, and no request has it."""
        self.assertEqual(lineWith(""), b"")
        request = Request("GET", "/", Headers({"CDN-Loop": "sitio-0"}))
        self.assertFalse(hasMark(request, ""))
