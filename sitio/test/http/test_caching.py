"""
Tests of L{sitio.http.caching}.
"""

from __future__ import annotations

from hypothesis import given, strategies as st
from twisted.trial.unittest import SynchronousTestCase

from sitio.http.caching import (
    BODY_FIELDS,
    MALFORMED,
    NOT_SENT_STALE,
    deltaSeconds,
    directives,
    freshness,
    isConfirmed,
    isUnchanged,
    linesOfStoring,
    mayBeSent,
    storageTerms,
    updatedLines,
)
from sitio.http.headers import Headers
from sitio.http.lines import wireForm

Fields = list[tuple[bytes, bytes]]

wire = Headers.fromWire

DATE = b"Sun, 06 Nov 1994 08:49:37 GMT"
MINUTE_LATER = b"Sun, 06 Nov 1994 08:50:37 GMT"


class FieldTests(SynchronousTestCase):
    """Values of fields."""

    def test_directives(self) -> None:
        """Directives have lower-case names and values without quotes; the first counts."""
        for value, expected in (
            (None, {}),
            (b"", {}),
            (b"no-store", {b"no-store": b""}),
            (b"Max-Age=60, PRIVATE", {b"max-age": b"60", b"private": b""}),
            (b'private="a, public, b"', {b"private": b"a, public, b"}),
            (b"max-age = 1,max-age=2", {b"max-age": b"1"}),
            (b" ,no-store,\t, a=b ,", {b"no-store": b"", b"a": b"b"}),
        ):
            self.assertEqual(dict(directives(value)), expected, value)

    def test_malformed(self) -> None:
        """A value that is no list of directives says so; what can be read in it is read."""
        for value, names in (
            (b"max-age=1;no-store", {b"max-age", b"no-store"}),
            (b"private public", {b"private", b"public"}),
            (b'"public"', {b"public"}),
            (b'a="b, public', {b"a", b"public"}),
            (b'a=b", public', {b"a", b"public"}),
            (b'public, a="', {b"a", b"public"}),
            (b"=public", {b"public"}),
            (b"public =", {b"public"}),
            (b"=", set()),
        ):
            found = set(directives(value))
            self.assertEqual(found - {MALFORMED}, names, value)
            self.assertIn(MALFORMED, found, value)

    def test_deltaSeconds(self) -> None:
        """Seconds are digits, bounded by 2^31; anything else is 0."""
        for value, seconds in (
            (b"0", 0),
            (b"60", 60),
            (b"9999999999", 9999999999),
            (b"9" * 11, 2**31),
            (b"9" * 5000, 2**31),
            (b"-1", 0),
            (b"1.5", 0),
            (b"", 0),
            (b"\xb2", 0),
            (None, 0),
        ):
            self.assertEqual(deltaSeconds(value), seconds, value)


class FreshnessTests(SynchronousTestCase):
    """For how long a response is fresh, and whether it may be sent once it is not."""

    def test_freshness(self) -> None:
        """S-maxage counts before max-age, and max-age before Expires less Date."""
        dates = [(b"Date", DATE), (b"Expires", MINUTE_LATER)]
        for value, fields, seconds in (
            (b"max-age=10, s-maxage=5", dates, 5),
            (b"max-age=10", dates, 10),
            (b"max-age=soon", dates, 0),
            (b"public", dates, 60),
            (None, [(b"Date", MINUTE_LATER), (b"Expires", DATE)], 0),
            (None, [(b"Expires", MINUTE_LATER)], 0),
            (None, [(b"Date", DATE)], 0),
            (None, [(b"Date", DATE), (b"Expires", b"0")], 0),
            (None, [], 0),
        ):
            self.assertEqual(freshness(wire(fields), directives(value)), seconds, value)

    def test_mayBeSent(self) -> None:
        """Stale-if-error of either side limits the staleness; some directives forbid any."""
        for staleness, response, request, may in (
            (-1, b"", b"", True),
            (1000, b"", b"", True),
            (-1, b"must-revalidate", b"", True),
            (0, b"must-revalidate", b"", False),
            (0, b"proxy-revalidate", b"", False),
            (0, b"s-maxage=1", b"", False),
            (10, b"stale-if-error=10", b"", True),
            (11, b"stale-if-error=10", b"", False),
            (11, b"", b"stale-if-error=10", False),
            (11, b"stale-if-error=20", b"stale-if-error=10", False),
            (1, b"stale-if-error=long", b"", False),
        ):
            self.assertEqual(
                mayBeSent(staleness, directives(response), directives(request), NOT_SENT_STALE),
                may,
                (staleness, response, request),
            )


class StorageTests(SynchronousTestCase):
    """On what terms a response is stored."""

    def test_terms(self) -> None:
        """Directives, Set-Cookie and Vary are read from all lines."""
        for fields, terms, names in (
            ([], set(), ()),
            ([(b"X", b"1")], set(), ()),
            ([(b"Cache-Control", b"Public, max-age=1")], {b"public", b"max-age"}, ()),
            ([(b"cache-control", b"private"), (b"Cache-Control", b"x=1")], {b"private", b"x"}, ()),
            ([(b"SET-COOKIE", b"a=b")], {b"set-cookie"}, ()),
            ([(b"X-Auth-Token", b"a")], {b"set-cookie"}, ()),
            ([(b"Authentication-Info", b"a")], {b"set-cookie"}, ()),
            ([(b"Content-Type", b"Text/Event-Stream")], {b"event-stream"}, ()),
            ([(b"Content-Type", b"text/html")], set(), ()),
            ([(b"Content-Range", b"bytes 0-1/2")], {b"content-range"}, ()),
            ([(b"Vary", b"B, a"), (b"vary", b"C,")], set(), (b"a", b"b", b"c")),
            ([(b"Vary", b"*")], set(), (b"*",)),
            ([(b"Content-Encoding", b"gzip")], set(), (b"accept-encoding",)),
        ):
            self.assertEqual(storageTerms(linesOfStoring(wire(fields))), (terms, names), fields)


class ConditionTests(SynchronousTestCase):
    """Conditional requests and the 304 of the upstream."""

    def test_unchanged(self) -> None:
        """A tag is compared weakly; dates count only without If-None-Match."""
        tagged = [(b"ETag", b'W/"a"'), (b"Last-Modified", DATE)]
        for request, stored, unchanged in (
            ([(b"If-None-Match", b'"a"')], tagged, True),
            ([(b"If-None-Match", b'"b", W/"a"')], tagged, True),
            ([(b"If-None-Match", b"*")], [], True),
            ([(b"If-None-Match", b'"b"')], tagged, False),
            ([(b"If-None-Match", b'"a"')], [], False),
            ([(b"If-None-Match", b'"b"'), (b"If-Modified-Since", DATE)], tagged, False),
            ([(b"If-Modified-Since", DATE)], tagged, True),
            ([(b"If-Modified-Since", DATE)], [(b"Last-Modified", MINUTE_LATER)], False),
            ([(b"If-Modified-Since", MINUTE_LATER)], [(b"Date", DATE)], True),
            ([(b"If-Modified-Since", b"yesterday")], tagged, False),
            ([], tagged, False),
        ):
            self.assertEqual(isUnchanged(wire(request), wire(stored)), unchanged, (request, stored))

    def test_confirmed(self) -> None:
        """A 304 is about the stored response if the strongest validator is the same."""
        tag, date = (b"ETag", b'"a"'), (b"Last-Modified", DATE)
        other = (b"ETag", b'"b"')
        cases: list[tuple[Fields, Fields, Fields, bool]] = [
            ([tag, date], [], [tag], True),
            ([tag, date], [], [other], False),
            ([tag, date], [(b"If-None-Match", b'"a"')], [], True),
            ([tag, date], [(b"If-Modified-Since", DATE)], [], False),
            ([date], [], [date], True),
            ([date], [(b"If-Modified-Since", DATE)], [], True),
            ([date], [(b"If-Modified-Since", MINUTE_LATER)], [], False),
            ([], [], [], False),
        ]
        for stored, request, received, confirmed in cases:
            given = (stored, request, received)
            self.assertEqual(isConfirmed(*map(wire, given)), confirmed, given)

    def test_updated(self) -> None:
        """The fields of a 304 replace the stored ones, except those it must not update."""
        stored = [(b"Age", b"9"), (b"Content-Type", b"a/b"), (b"X", b"1"), (b"Y", b"2")]
        received = [(b"content-type", b"c/d"), (b"x", b"3"), (b"Z", b"4")]
        self.assertEqual(
            updatedLines(wireForm(stored), wireForm(received), BODY_FIELDS),
            wireForm([(b"Content-Type", b"a/b"), (b"Y", b"2"), (b"x", b"3"), (b"Z", b"4")]),
        )

    @given(st.binary(max_size=40), st.binary(max_size=40))
    def test_anyBytes(self, one: bytes, other: bytes) -> None:
        """No value raises, whatever bytes it has."""
        names = (b"Date", b"Expires", b"Last-Modified", b"ETag", b"Cache-Control", b"Vary")
        # A reader lets no line end through.
        one, other = (b" ".join(each.split()) for each in (one, other))
        fields = wire([(each, one) for each in names])
        request = [(b"If-None-Match", other), (b"If-Modified-Since", other)]
        freshness(fields, directives(other))
        storageTerms(linesOfStoring(fields))
        isUnchanged(wire(request), fields)
        isUnchanged(wire(request[1:]), fields)
        isConfirmed(fields, wire(request), fields)
