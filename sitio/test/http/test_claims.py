"""
Tests of L{sitio.http.claims}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from sitio.http.claims import APPEND, CLAIM_FIELDS, MODES, OWN_FIELDS
from sitio.http.grammar import isToken
from sitio.http.head import foldedHeads, requestHeads

#: Fields that resemble claims, and are none: applications give them meanings of their own.
NO_CLAIMS = ("X-Forwarded-Fo", "X-Forwarded-For-", "X-Request-Id", "X-Host", "X-Client", "For")


class ClaimTests(SynchronousTestCase):
    """Which fields are claims, and how heads are read."""

    def test_names(self) -> None:
        """They are names of fields in lower case; sitio's own are among them."""
        for each in CLAIM_FIELDS:
            self.assertTrue(isToken(each.decode()), each)
            self.assertEqual(each, each.lower())
        self.assertEqual(OWN_FIELDS - CLAIM_FIELDS, set())
        self.assertEqual(MODES[0], APPEND)

    def test_noticed(self) -> None:
        """A head tells whether it has one, in any case; none is removed from it here."""
        for names, isClaim in ((CLAIM_FIELDS, True), ([n.encode() for n in NO_CLAIMS], False)):
            for name in names:
                for spelled in (name, name.title(), name.upper()):
                    head = requestHeads[b"GET / HTTP/1.1\r\nHost: h\r\n%b: x" % spelled]
                    self.assertIs(head.forwarded, isClaim, spelled)
                    self.assertEqual(head.lines.raw, b"Host: h\r\n%b: x\r\n" % spelled)

    def test_folded(self) -> None:
        """A claim that only CGI and WSGI take for one is removed, unless it is to be kept."""
        for name in CLAIM_FIELDS:
            folded = name.replace(b"-", b"_")
            if folded != name:
                data = b"GET / HTTP/1.1\r\nHost: h\r\n%b: x" % folded
                self.assertEqual(requestHeads[data].lines.raw, b"Host: h\r\n")
                self.assertIn(folded, foldedHeads[data].lines.raw)
