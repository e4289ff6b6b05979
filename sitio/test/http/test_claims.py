"""
Tests of L{sitio.http.claims}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from sitio.http.claims import APPEND, CLAIM_FIELDS, MODES, OWN_FIELDS
from sitio.http.codec import RequestReader
from sitio.http.grammar import isToken
from sitio.http.limits import Limits

#: Fields that resemble claims, and are none: applications give them meanings of their own.
NO_CLAIMS = ("X-Forwarded-Fo", "X-Forwarded-For-", "X-Request-Id", "X-Host", "X-Client", "For")


def read(line: bytes, keepsFolded: bool = False) -> tuple[bytes, bool | str]:
    """The lines of a request with this line that pass, and whether it has claims."""
    reader = RequestReader(Limits(keepsFolded=keepsFolded))
    reader.receive(b"GET / HTTP/1.1\r\nHost: h\r\n%b\r\n\r\n" % line)
    request = reader.nextHead()
    assert request is not None
    return request.headers.lines, reader.forwarded


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
                    lines, forwarded = read(b"%b: x" % spelled)
                    self.assertIs(forwarded, isClaim, spelled)
                    self.assertEqual(lines, b"\r\nHost: h\r\n%b: x\r\n" % spelled)

    def test_folded(self) -> None:
        """A claim that only CGI and WSGI take for one is removed, unless it is to be kept."""
        for name in CLAIM_FIELDS:
            folded = name.replace(b"-", b"_")
            if folded != name:
                self.assertEqual(read(b"%b: x" % folded)[0], b"\r\nHost: h\r\n")
                self.assertIn(folded, read(b"%b: x" % folded, keepsFolded=True)[0])
