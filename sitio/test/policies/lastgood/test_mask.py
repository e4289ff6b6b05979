"""
Tests of L{sitio.policies.lastgood.mask}, through the policy that uses it.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given, strategies as st
from zope.interface.verify import verifyObject

from sitio.interfaces import ISelectivePolicy
from sitio.test.helpers.lastgood import LATER, STALE, WAS, LastGoodTestCase
from sitio.test.helpers.policies import exchangeFor, upstreamResponse


class MaskTests(LastGoodTestCase):
    """The response that masks a failure."""

    def test_interface(self) -> None:
        """
        It is a buffered response policy that is interested in all final statuses, as another
        policy may have changed the upstream's, and in few responses.
        """
        verifyObject(ISelectivePolicy, self.policy)
        self.assertTrue(self.policy.buffered)
        for status in (200, 304, 400, 500, 502, 503, 504, 999):
            self.assertIn(status, self.policy.statuses)
        self.assertNotIn(101, self.policy.statuses)
        self.keep()
        for status in (400, 408, 429, 600):
            self.assertFalse(self.policy.isInterested(exchangeFor(), upstreamResponse(status)))

    def test_masked(self) -> None:
        """
        A failure is masked with the last good response as received, with Age and
        Cache-Status.
        """
        self.keep(("Content-Type", "text/plain"), ("Date", WAS), ("X-A", "1"), ("x-a", "2"))
        self.clock.advance(7.9)
        answer = self.failed()
        self.assertMasked(answer)
        self.assertEqual(answer.reason, "OK")
        self.assertEqual(
            answer.headers.allItems(),
            [
                ("Content-Type", "text/plain"),
                ("Date", WAS),
                ("X-A", "1"),
                ("x-a", "2"),
                ("Age", "7"),
                ("Cache-Status", STALE),
            ],
        )

    def test_noFraming(self) -> None:
        """The mask has no framing fields: its length is set when it is sent."""
        self.keep()
        answer = self.failed()
        self.assertNotIn(b"content-length", [name.lower() for name, _ in answer.headers.rawFields])
        # For HEAD, too.
        self.assertEqual(answer.length, 4)

    def test_statuses(self) -> None:
        """Each 5xx is masked, with its status in Cache-Status; nothing else is."""
        self.keep()
        for status in (500, 501, 502, 504, 599):
            self.assertIn(f"fwd-status={status};", self.failed(status).headers["Cache-Status"])
        for status in (400, 408, 429):
            self.assertEqual(self.failed(status).status, status)

    def test_nothingKept(self) -> None:
        """Without a good response the failure is sent, and is not buffered."""
        self.assertNotMasked(self.failed())
        self.assertFalse(self.policy.isInterested(exchangeFor(), upstreamResponse(503)))

    def test_theLatest(self) -> None:
        """The mask is the latest good response."""
        self.keep()
        self.keep(body=b"better")
        self.assertMasked(self.failed(), b"better")

    def test_masksDoNotRefresh(self) -> None:
        """Sending a mask does not renew the stored response: its age continues."""
        self.keep()
        self.clock.advance(200)
        self.assertMasked(self.failed())
        self.clock.advance(101)
        self.assertNotMasked(self.failed())

    def test_anotherPolicysMask(self) -> None:
        """A response that another policy put in place of a failure is not stored."""
        response = upstreamResponse(200, body=b"good")
        response.failure = Exception("refused")
        self.response(exchangeFor(), response)
        self.assertNotMasked(self.failed())

    def test_withoutIsInterested(self) -> None:
        """A caller that does not call C{isInterested} first gets the same results."""
        self.assertIsNone(
            self.policy.responseReceived(exchangeFor(), upstreamResponse(200, body=b"good"))
        )
        self.assertIsNone(
            self.policy.responseReceived(exchangeFor(method="PATCH"), upstreamResponse(503))
        )
        answer = self.policy.responseReceived(exchangeFor(), upstreamResponse(503))
        assert answer is not None
        self.assertMasked(answer)

    def test_notesAreLeftClean(self) -> None:
        """The policy leaves nothing in the notes of an exchange."""
        exchange = exchangeFor()
        self.response(exchange, upstreamResponse(200))
        self.assertEqual(exchange.notes, {})

    def test_kept(self) -> None:
        """Changes of a response after it was stored do not change the mask."""
        response = upstreamResponse(200, ("X-A", "1"), body=b"good")
        self.response(exchangeFor(), response)
        response.headers["X-A"] = "2"
        response.headers.add("Via", "1.1 sitio")
        answer = self.failed()
        self.assertEqual(answer.headers["X-A"], "1")
        self.assertNotIn("Via", answer.headers)
        answer.headers["X-A"] = "3"
        self.assertEqual(self.failed().headers["X-A"], "1")

    def test_cacheStatusOfOthers(self) -> None:
        """Cache-Status lines of other caches stay; sitio's comes last."""
        self.keep(("Cache-Status", "origin; hit"))
        self.assertEqual(self.failed().headers["Cache-Status"], f"origin; hit, {STALE}")


class AgeTests(LastGoodTestCase):
    """For how long a response masks failures."""

    def masked(self, seconds: float, *lines: tuple[str, str], **request: Any) -> bool:
        """Whether a response with these fields still masks after so many seconds."""
        self.make(maxAge=100)
        self.keep(*lines)
        self.clock.advance(seconds)
        return self.failed(**request).status == 200

    def test_maxAge(self) -> None:
        """A response masks until it is C{max-age} seconds old, by default 300."""
        self.assertTrue(self.masked(100))
        self.assertFalse(self.masked(100.5))
        self.make()
        self.keep()
        self.clock.advance(300)
        self.assertMasked(self.failed())
        self.clock.advance(0.5)
        self.assertNotMasked(self.failed())

    def test_kept(self) -> None:
        """Each good response starts the time again, also if it equals the stored one."""
        self.make(maxAge=100)
        for body in (b"good", b"good", b"other"):
            self.keep(body=body)
            self.clock.advance(99)
            self.assertEqual(self.failed().headers["Age"], "99")

    def test_age(self) -> None:
        """The Age that a response was received with is added, and replaced in the mask."""
        self.keep(("Age", "50"))
        self.clock.advance(10)
        self.assertEqual(self.failed().headers.getAll("Age"), ["60"])
        for nonsense in ("soon", "-1", "", "\u00b2"):
            self.keep(("Age", nonsense))
            self.assertEqual(self.failed().headers.getAll("Age"), ["0"], nonsense)
        self.keep(("Age", "9" * 5000))
        self.assertEqual(self.failed().headers["Age"], str(2**31))

    def test_staleIfError(self) -> None:
        """Stale-if-error shortens the time to so many seconds after freshness (RFC 5861)."""
        line = ("Cache-Control", "max-age=20, stale-if-error=30")
        self.assertTrue(self.masked(50, line))
        self.assertFalse(self.masked(51, line))
        self.assertTrue(self.masked(29, line, ("Age", "21")))
        self.assertFalse(self.masked(29, line, ("Age", "22")))

    def test_staleIfErrorNeverLengthens(self) -> None:
        """Stale-if-error never prolongs C{max-age}."""
        line = ("Cache-Control", "max-age=1000, stale-if-error=86400")
        self.assertTrue(self.masked(100, line))
        self.assertFalse(self.masked(101, line))

    def test_staleIfErrorWithoutFreshness(self) -> None:
        """A response without freshness is stale at once; a malformed stale-if-error is 0."""
        self.assertTrue(self.masked(30, ("Cache-Control", "stale-if-error=30")))
        self.assertFalse(self.masked(31, ("Cache-Control", "stale-if-error=30")))
        self.assertFalse(self.masked(1, ("Cache-Control", "stale-if-error=long")))

    def test_staleIfErrorOfTheRequest(self) -> None:
        """A client may shorten the time as well."""
        self.assertTrue(self.masked(10, cache_control="stale-if-error=10"))
        self.assertFalse(self.masked(11, cache_control="stale-if-error=10"))
        line = ("Cache-Control", "stale-if-error=5")
        self.assertFalse(self.masked(6, line, cache_control="stale-if-error=10"))

    def test_mustRevalidate(self) -> None:
        """A response with must-revalidate or proxy-revalidate is not sent once it is stale."""
        for word in ("must-revalidate", "proxy-revalidate", "MUST-REVALIDATE, stale-if-error=60"):
            line = ("Cache-Control", f"max-age=20, {word}")
            self.assertTrue(self.masked(19, line), word)
            self.assertFalse(self.masked(20, line), word)

    def test_sharedMaxAge(self) -> None:
        """S-maxage overrides max-age, and forbids to send the response once it is stale."""
        line = ("Cache-Control", "max-age=50, s-maxage=20")
        self.assertTrue(self.masked(19, line))
        self.assertFalse(self.masked(20, line))

    def test_expires(self) -> None:
        """Without max-age, freshness is Expires less Date."""
        revalidate = ("Cache-Control", "must-revalidate")
        day = "Sun, 06 Nov 1994 08:49"
        for expires, fresh in (
            (f"{day}:57 GMT", 19),
            ("Sunday, 06-Nov-94 08:49:57 GMT", 19),
            ("Sun Nov  6 08:49:57 1994", 19),
        ):
            lines = (revalidate, ("Date", WAS), ("Expires", expires))
            self.assertTrue(self.masked(fresh, *lines), expires)
            self.assertFalse(self.masked(fresh + 1, *lines), expires)
        for expires in (WAS, f"{day}:00 GMT", "0", "", "Sun, 06 Nov 99999 08:49:37 GMT"):
            lines = (revalidate, ("Date", WAS), ("Expires", expires))
            self.assertFalse(self.masked(0, *lines), expires)
        self.assertFalse(self.masked(0, revalidate, ("Expires", LATER)))

    @given(st.text(st.characters(max_codepoint=255, blacklist_categories=["Cc"]), max_size=40))
    def test_anyDate(self, date: str) -> None:
        """No malformed date raises an exception."""
        self.keep(("Date", date), ("Expires", date), ("Last-Modified", date), ("ETag", date))
        answer = self.failed(if_modified_since=date)
        self.assertIn(answer.status, (200, 304))

    def test_despite(self) -> None:
        """C{despite} lifts these directives."""
        for word, line in (
            ("must-revalidate", "must-revalidate"),
            ("proxy-revalidate", "max-age=0, proxy-revalidate"),
            ("s-maxage", "s-maxage=0"),
        ):
            self.keep(("Cache-Control", line))
            self.assertNotMasked(self.failed())
            self.make(despite=frozenset((word,)))
            self.keep(("Cache-Control", line))
            self.assertMasked(self.failed())

    def test_fresh(self) -> None:
        """Cache-Status says C{fwd=bypass} while the stored response is fresh, then C{fwd=stale}."""
        self.keep(("Cache-Control", "max-age=20"))
        self.clock.advance(19)
        self.assertIn("; fwd=bypass;", self.failed().headers["Cache-Status"])
        self.clock.advance(1)
        self.assertIn("; fwd=stale;", self.failed().headers["Cache-Status"])
