"""
Tests of L{sitio.policies.lastgood.policy}.
"""

from __future__ import annotations

from inspect import getclosurevars
from typing import Any

from hypothesis import given, strategies as st
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from sitio.http.caching import PERSONAL_FIELDS
from sitio.http.message import Response
from sitio.interfaces import ISelectivePolicy
from sitio.policies.lastgood.policy import FORBIDDING, makePolicy
from sitio.policies.lastgood.store import MAX_VARIANTS
from sitio.settings import Settings
from sitio.test.helpers.lastgood import LastGoodTestCase
from sitio.test.helpers.policies import exchangeFor, upstreamResponse
from sitio.testing import (
    Runner,
    connectionRefused,
    connectionReset,
    incompleteResponse,
    noResponse,
    request,
    response,
)

#: Seconds since 1970 of C{WAS}.
WAS = "Sun, 06 Nov 1994 08:49:37 GMT"
LATER = "Sun, 06 Nov 1994 09:49:37 GMT"

STALE = "sitio; fwd=stale; fwd-status=503; detail=last-good"


class MaskTests(LastGoodTestCase):
    """The response that masks a failure."""

    def test_interface(self) -> None:
        """It is a buffered response policy that is interested in good responses and in failures."""
        verifyObject(ISelectivePolicy, self.policy)
        self.assertTrue(self.policy.buffered)
        for status in (200, 304, 500, 502, 503, 504):
            self.assertIn(status, self.policy.statuses)
        for status in (101, 400, 408, 429):
            self.assertNotIn(status, self.policy.statuses)

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
            list(answer.headers),
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
        self.assertNotIn(b"content-length", [name.lower() for name, _ in answer.headers.fields])
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


class MethodTests(LastGoodTestCase):
    """Which requests store responses, and which are masked."""

    def test_head(self) -> None:
        """HEAD gets the response to a GET with its body, so that its length is announced."""
        self.keep()
        self.assertMasked(self.failed(method="HEAD"))

    def test_headKeepsNothing(self) -> None:
        """The response to HEAD has no body: it is not stored, and drops nothing."""
        self.response(exchangeFor(method="HEAD"), upstreamResponse(200, body=b""))
        self.assertNotMasked(self.failed())
        self.keep()
        self.response(exchangeFor(method="HEAD"), upstreamResponse(200, body=b""))
        self.assertMasked(self.failed())

    def test_otherMethods(self) -> None:
        """Only GET and HEAD are masked."""
        self.keep()
        for method in ("POST", "OPTIONS", "PROPFIND", "get"):
            self.assertNotMasked(self.failed(method=method))

    def test_unsafe(self) -> None:
        """A successful unsafe method drops all stored responses of its target (RFC 9111, 4.4)."""
        for method in ("POST", "PUT", "DELETE", "PROPPATCH"):
            for status in (200, 201, 204, 303):
                self.keep(("Vary", "Accept"), accept="a/b")
                self.response(exchangeFor(method=method), upstreamResponse(status))
                self.assertNotMasked(self.failed(accept="a/b"))
        self.assertEqual(self.policy.size, 0)

    def test_safeOrFailed(self) -> None:
        """A safe method, another target, or an unsafe method that fails drops nothing."""
        self.keep()
        self.response(exchangeFor(method="OPTIONS"), upstreamResponse(200))
        self.response(exchangeFor("/other", method="DELETE"), upstreamResponse(204))
        self.response(exchangeFor(method="DELETE"), upstreamResponse(403))
        self.response(exchangeFor(method="DELETE"), upstreamResponse(500))
        self.assertMasked(self.failed())

    def test_requestBody(self) -> None:
        """A GET with a body is neither stored nor masked, as its body is not in the key."""
        for body in (b"query", None):
            exchange = exchangeFor()
            exchange.request.body = body
            self.response(exchange, upstreamResponse(200))
            self.assertNotMasked(self.failed())
        self.keep()
        exchange = exchangeFor()
        exchange.request.body = b"query"
        self.assertEqual(self.response(exchange, upstreamResponse(503)).status, 503)

    def test_key(self) -> None:
        """Another target, query, host, scheme or routing field is another key."""
        self.keep(target="/a?b=c")
        self.assertMasked(self.failed(target="/a?b=c"))
        self.assertNotMasked(self.failed(target="/a"))
        self.assertNotMasked(self.failed(target="/A?b=c"))
        self.assertNotMasked(self.failed(target="/a?b=c", X_Forwarded_Host="evil.example"))
        self.assertNotMasked(self.failed(target="/a?b=c", X_Original_URL="/admin"))
        secure = exchangeFor("/a?b=c")
        secure.secure = True
        self.assertNotMasked(self.response(secure, upstreamResponse(503, body=b"bad")))
        other = exchangeFor("/a?b=c")
        other.request.headers["Host"] = "other.example"
        self.assertNotMasked(self.response(other, upstreamResponse(503, body=b"bad")))
        other.request.headers["Host"] = "PHOTOS.example"
        self.assertMasked(self.response(other, upstreamResponse(503, body=b"bad")))

    def test_claimedHost(self) -> None:
        """A response to a request with X-Forwarded-Host masks only requests with the same one."""
        self.keep(x_forwarded_host="evil.example", body=b"poisoned")
        self.assertNotMasked(self.failed())
        self.assertMasked(self.failed(X_Forwarded_HOST="evil.example"), b"poisoned")

    def test_streamsPass(self) -> None:
        """Responses that are neither stored nor masked are not buffered."""
        for exchange, answer in (
            (exchangeFor(method="POST"), upstreamResponse(200)),
            (exchangeFor(cookie="a=b"), upstreamResponse(200)),
            (exchangeFor(), upstreamResponse(200, ("Cache-Control", "private"))),
            (exchangeFor(), upstreamResponse(404)),
            (exchangeFor(), upstreamResponse(206)),
            (exchangeFor(method="HEAD"), upstreamResponse(200)),
        ):
            self.assertFalse(self.policy.isInterested(exchange, answer))

    def test_tooLong(self) -> None:
        """A response whose announced length is over the limit streams."""
        self.make(maxResponse=10)
        self.assertTrue(
            self.policy.isInterested(exchangeFor(), upstreamResponse(200, body=bytes(10)))
        )
        self.assertFalse(
            self.policy.isInterested(exchangeFor(), upstreamResponse(200, body=bytes(11)))
        )


class PrivacyTests(LastGoodTestCase):
    """No client gets a response that was meant for another."""

    def test_personal(self) -> None:
        """A response to a request that identifies its client is not stored."""
        for name in sorted(PERSONAL_FIELDS):
            request: dict[str, Any] = {name: "me"}
            self.keep(**request)
            self.assertEqual(self.policy.size, 0, name)

    def test_personalGetsNone(self) -> None:
        """A request that identifies its client is not masked: its response may be another one."""
        self.keep()
        self.assertNotMasked(self.failed(cookie="session=me"))
        self.assertNotMasked(self.failed(Authorization="Basic bWU6"))

    def test_personalDropsNothing(self) -> None:
        """A response for one client does not drop the stored one for all others."""
        self.keep()
        self.keep(cookie="session=me", body=b"mine")
        self.response(exchangeFor(cookie="session=me"), upstreamResponse(403))
        self.assertMasked(self.failed())

    def test_public(self) -> None:
        """A public response is stored, and masks the failures of all clients."""
        self.keep(("Cache-Control", "Public, max-age=0"), cookie="session=me")
        self.assertMasked(self.failed(cookie="session=you"))
        self.assertMasked(self.failed())
        self.assertMasked(self.failed(authorization="Basic eW91Og=="))

    def test_publicIsNoPartOfAWord(self) -> None:
        """The word public in a quoted value or within another word does not count."""
        for said in ('private="a, public, b"', 'x="public"', "publication", "x=public"):
            self.keep(("Cache-Control", said), cookie="session=me")
            self.assertEqual(self.policy.size, 0, said)

    def test_despitePersonal(self) -> None:
        """With C{despite} a field does not make a request personal."""
        self.make(despite=frozenset(("cookie",)))
        self.keep(cookie="tracking=1")
        self.assertMasked(self.failed(cookie="tracking=2"))
        self.assertNotMasked(self.failed(authorization="Basic bWU6"))

    def test_forbidden(self) -> None:
        """
        Private, no-store, no-cache and Set-Cookie forbid storing, with any other
        directives.
        """
        for line in (
            ("Cache-Control", "private"),
            ("Cache-Control", "public, no-store"),
            ("cache-control", "max-age=60,NO-CACHE"),
            ("Cache-Control", 'no-cache="Set-Cookie"'),
            ("Cache-Control", 'private = "X-A"'),
            ("SET-COOKIE", "a=b"),
        ):
            self.keep(line)
            self.assertEqual(self.policy.size, 0, line)

    def test_severalLines(self) -> None:
        """Each line of Cache-Control counts."""
        self.keep(("Cache-Control", "max-age=60"), ("Cache-Control", "private"))
        self.assertEqual(self.policy.size, 0)

    def test_despiteForbidden(self) -> None:
        """C{despite} lifts each of them, and only those that it names."""
        for word in ("private", "no-store", "no-cache"):
            self.make(despite=frozenset((word,)))
            self.keep(("Cache-Control", word))
            self.assertMasked(self.failed())
            self.keep(("Cache-Control", "private, no-store, no-cache"))
            self.assertNotMasked(self.failed())

    def test_cookiesAreNeverSentAgain(self) -> None:
        """
        When a response that sets a cookie is stored, its Set-Cookie is not sent with
        the mask.
        """
        self.make(despite=frozenset(("set-cookie",)))
        self.keep(("Set-Cookie", "session=mine"), ("set-cookie", "b=c"), ("X-A", "1"))
        answer = self.failed()
        self.assertMasked(answer)
        self.assertNotIn("Set-Cookie", answer.headers)
        self.assertEqual(answer.headers["X-A"], "1")

    def test_requestNoStore(self) -> None:
        """A request with no-store is neither stored nor masked."""
        self.keep(cache_control="max-age=0, no-store")
        self.assertEqual(self.policy.size, 0)
        self.keep()
        self.assertNotMasked(self.failed(cache_control="no-store"))
        self.assertMasked(self.failed(cache_control="no-cache"))


class SupersededTests(LastGoodTestCase):
    """A newer response that is not stored drops the stored one."""

    def test_answers(self) -> None:
        """
        A status that concerns the resource drops the stored response; a status that
        concerns the client does not.
        """
        for status, masked in (
            (204, False),
            (301, False),
            (302, False),
            (401, False),
            (403, False),
            (404, False),
            (410, False),
            (451, False),
            (400, True),
            (408, True),
            (416, True),
            (429, True),
        ):
            self.keep()
            self.response(exchangeFor(), upstreamResponse(status))
            self.assertEqual(self.failed().status, 200 if masked else 503, status)

    def test_variants(self) -> None:
        """Only the variant that answers the same request is dropped."""
        self.keep(("Vary", "X"), x="2")
        size = self.policy.size
        self.keep(("Vary", "X"), x="1")
        self.response(exchangeFor(x="1"), upstreamResponse(404))
        self.assertEqual(self.policy.size, size)
        self.assertNotMasked(self.failed(x="1"))
        self.assertMasked(self.failed(x="2"))

    def test_unkeepable(self) -> None:
        """
        A newer 200 that is private, varies on all fields, or is too long drops the
        stored one.
        """
        self.make(maxResponse=10)
        for answer in (
            upstreamResponse(200, ("Cache-Control", "private")),
            upstreamResponse(200, ("Vary", "*")),
            upstreamResponse(200, body=bytes(11)),
        ):
            self.keep()
            self.response(exchangeFor(), answer)
            self.assertNotMasked(self.failed())

    def test_tooLongWithoutLength(self) -> None:
        """A newer 200 without a length that is too long drops the stored one at its end."""
        self.make(maxResponse=10)
        self.keep()
        response = upstreamResponse(200, body=bytes(11))
        response.length = None
        self.response(exchangeFor(), response)
        self.assertNotMasked(self.failed())

    def test_partial(self) -> None:
        """A partial response is not stored, and does not drop the whole one."""
        self.keep()
        self.response(exchangeFor(range="bytes=0-1"), upstreamResponse(206, body=b"go"))
        self.assertMasked(self.failed())


class VaryTests(LastGoodTestCase):
    """Responses that depend on request fields (RFC 9111, section 4.1)."""

    def test_vary(self) -> None:
        """Each value of the field has its own response; another value, or none, gets no mask."""
        self.keep(("Vary", "Accept-Language"), body=b"hello", accept_language="en")
        self.keep(("Vary", "accept-language"), body=b"ol\xe1", accept_language="pt")
        self.assertMasked(self.failed(accept_language="en"), b"hello")
        self.assertMasked(self.failed(ACCEPT_language="pt"), b"ol\xe1")
        self.assertNotMasked(self.failed(accept_language="de"))
        self.assertNotMasked(self.failed())

    def test_absent(self) -> None:
        """
        A response to a request without the field is only for those without it, not with
        an empty one.
        """
        self.keep(("Vary", "Accept-Language"))
        self.assertMasked(self.failed())
        self.assertNotMasked(self.failed(accept_language="en"))
        self.assertNotMasked(self.failed(accept_language=""))

    def test_severalNames(self) -> None:
        """All the fields that Vary names in its lines must be equal."""
        self.keep(("Vary", "A, B"), ("Vary", "C,"), a="1", b="2", c="3")
        self.assertMasked(self.failed(c="3", b="2", a="1", d="4"))
        for name in "abc":
            request: dict[str, Any] = {"a": "1", "b": "2", "c": "3", name: "0"}
            self.assertNotMasked(self.failed(**request))

    def test_lines(self) -> None:
        """Several lines of a field equal one line with commas (RFC 9110, section 5.3)."""
        self.keep(("Vary", "Accept"), accept="a/b, c/d")
        exchange = exchangeFor(accept="a/b")
        exchange.request.headers.add("Accept", "c/d")
        self.assertMasked(self.response(exchange, upstreamResponse(503)))

    def test_star(self) -> None:
        """A response that varies on all fields is not stored."""
        self.keep(("Vary", "Accept, *"))
        self.assertEqual(self.policy.size, 0)

    def test_replaced(self) -> None:
        """A newer response replaces its own variant; the others stay."""
        for language, body in (("en", b"1"), ("pt", b"2"), ("en", b"3")):
            self.keep(("Vary", "Accept-Language"), body=body, accept_language=language)
        self.assertMasked(self.failed(accept_language="en"), b"3")
        self.assertMasked(self.failed(accept_language="pt"), b"2")

    def test_latestVary(self) -> None:
        """If Vary itself changed, the latest response that matches is sent."""
        self.keep(body=b"all")
        self.keep(("Vary", "Accept-Language"), body=b"pt", accept_language="pt")
        self.assertMasked(self.failed(accept_language="pt"), b"pt")
        self.assertNotMasked(self.failed(accept_language="en"))

    def test_encoded(self) -> None:
        """An encoded response without Vary masks only requests with the same Accept-Encoding."""
        self.keep(("Content-Encoding", "gzip"), body=b"\x1f\x8b", accept_encoding="gzip, br")
        answer = self.failed(accept_encoding="gzip, br")
        self.assertMasked(answer, b"\x1f\x8b")
        self.assertEqual(answer.headers["Content-Encoding"], "gzip")
        self.assertNotMasked(self.failed(accept_encoding="identity"))
        self.assertNotMasked(self.failed())

    def test_plain(self) -> None:
        """A response without encoding masks any Accept-Encoding, unless its Vary names it."""
        self.keep()
        self.assertMasked(self.failed(accept_encoding="gzip"))
        self.keep(("Vary", "Accept-Encoding"))
        self.assertNotMasked(self.failed(accept_encoding="gzip"))

    def test_bounded(self) -> None:
        """The number of variants of one target is bounded; the oldest is dropped."""
        for n in range(MAX_VARIANTS + 1):
            self.keep(("Vary", "X"), x=str(n))
        self.assertNotMasked(self.failed(x="0"))
        for n in range(1, MAX_VARIANTS + 1):
            self.assertMasked(self.failed(x=str(n)))
        whole = self.policy.size
        self.make()
        self.keep(("Vary", "X"), x="0")
        self.assertEqual(whole, MAX_VARIANTS * self.policy.size)


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


class ConditionalTests(LastGoodTestCase):
    """Conditional and range requests, and 304 responses of the upstream."""

    def test_tags(self) -> None:
        """If-None-Match gets a 304 if the stored response has one of its tags."""
        self.keep(("ETag", 'W/"a,b"'), ("Last-Modified", WAS))
        for tags, status in (
            ('"a,b"', 304),
            ('W/"a,b"', 304),
            ('"x", W/"a,b" ,"y"', 304),
            ("*", 304),
            ('"a"', 200),
            ('"A,B"', 200),
            ("", 200),
            ("a,b", 200),
        ):
            self.assertEqual(self.failed(if_none_match=tags).status, status, tags)
        # RFC 9110, section 13.1.3: the date doesn't count beside a tag.
        answer = self.failed(if_none_match='"x"', if_modified_since=WAS)
        self.assertEqual(answer.status, 200)

    def test_tagsOfNone(self) -> None:
        """A stored response without a tag matches only the asterisk."""
        self.keep()
        self.assertEqual(self.failed(if_none_match='"a"').status, 200)
        self.assertEqual(self.failed(if_none_match="*").status, 304)

    def test_dates(self) -> None:
        """If-Modified-Since gets a 304 if the stored response is not newer."""
        self.keep(("Last-Modified", WAS))
        for since, status in (
            (WAS, 304),
            (LATER, 304),
            ("Sun, 06 Nov 1994 08:49:36 GMT", 200),
            ("yesterday", 200),
            ("", 200),
        ):
            self.assertEqual(self.failed(if_modified_since=since).status, status, since)
        self.keep(("Date", WAS))
        self.assertEqual(self.failed(if_modified_since=WAS).status, 304)
        self.keep()
        self.assertEqual(self.failed(if_modified_since=WAS).status, 200)

    def test_fieldsOf304(self) -> None:
        """A 304 has no body, and only the fields of a 304 (RFC 9110, section 15.4.5)."""
        self.keep(
            ("ETag", '"a"'),
            ("Content-Type", "text/plain"),
            ("Content-Location", "/a"),
            ("Cache-Control", "max-age=0"),
            ("Vary", "X"),
        )
        answer = self.failed(if_none_match='"a"', method="HEAD")
        self.assertEqual((answer.reason, answer.body), ("Not Modified", b""))
        self.assertEqual(
            [each for each in answer.headers if each[0] != "Date"],
            [
                ("ETag", '"a"'),
                ("Content-Location", "/a"),
                ("Cache-Control", "max-age=0"),
                ("Vary", "X"),
                ("Age", "0"),
                ("Cache-Status", STALE),
            ],
        )

    def test_date(self) -> None:
        """A response that came without a Date gets that of its arrival, and keeps its own."""
        self.keep(("Cache-Control", "max-age=0"))
        self.policy._now = lambda: 784111777.0
        self.clock.advance(7)
        self.assertEqual(self.failed().headers["Date"], "Sun, 06 Nov 1994 08:49:30 GMT")
        self.keep(("Date", "Sun, 06 Nov 1994 08:00:00 GMT"))
        self.assertEqual(self.failed().headers.getAll("Date"), ["Sun, 06 Nov 1994 08:00:00 GMT"])

    def test_forTheOrigin(self) -> None:
        """If-Match and If-Unmodified-Since get the failure: only the origin can evaluate them."""
        self.keep(("ETag", '"a"'))
        self.assertNotMasked(self.failed(if_match='"a"'))
        self.assertNotMasked(self.failed(if_unmodified_since=LATER))

    def test_range(self) -> None:
        """A range request gets the whole response."""
        self.keep()
        self.assertMasked(self.failed(range="bytes=0-1", if_range='"a"'))

    def confirm(self, *lines: tuple[str, str], **request: Any) -> bool:
        """Whether a 304 with these fields, 200 s later, renews the stored response."""
        self.clock.advance(200)
        response = upstreamResponse(304, *lines, body=b"")
        self.assertIs(self.response(exchangeFor(**request), response), response)
        self.clock.advance(200)
        return self.failed().status == 200

    def test_confirmed(self) -> None:
        """A 304 about the stored response starts its time again."""
        tagged = (("ETag", '"a"'), ("Last-Modified", WAS))
        dated = (("Last-Modified", WAS),)
        for lines, said, fields, confirmed in (
            (tagged, (("ETag", '"a"'),), {}, True),
            (tagged, (("ETag", '"b"'),), {"if_none_match": '"a"'}, False),
            (tagged, (), {"if_none_match": '"a"'}, True),
            (tagged, (), {"if_none_match": '"b"'}, False),
            (tagged, (), {"if_modified_since": WAS}, False),
            (dated, (("Last-Modified", WAS),), {}, True),
            (dated, (), {"if_modified_since": WAS}, True),
            (dated, (), {"if_modified_since": LATER}, False),
            (dated, (("ETag", '"a"'),), {"if_modified_since": WAS}, False),
            ((), (), {}, False),
            ((), (), {"if_modified_since": WAS}, False),
        ):
            self.keep(*lines)
            self.assertEqual(self.confirm(*said, **fields), confirmed, (lines, said, fields))

    def test_confirmedFields(self) -> None:
        """The fields of a 304 replace the stored ones, except those of the body and of framing."""
        self.keep(("ETag", '"a"'), ("Date", WAS), ("Age", "9"), ("Content-Type", "text/plain"))
        lines = [("ETag", '"a"'), ("Date", LATER), ("Content-Type", "image/png"), ("X-A", "1")]
        self.assertTrue(self.confirm(*lines))
        answer = self.failed()
        self.assertMasked(answer)
        self.assertEqual(
            list(answer.headers)[:-1],
            [
                ("Content-Type", "text/plain"),
                ("ETag", '"a"'),
                ("Date", LATER),
                ("X-A", "1"),
                ("Age", "200"),
            ],
        )

    def test_confirmedNoMore(self) -> None:
        """A 304 that is private drops the stored response."""
        self.keep(("ETag", '"a"'))
        self.assertFalse(self.confirm(("ETag", '"a"'), ("Cache-Control", "private")))
        self.assertEqual(self.policy.size, 0)

    def test_confirmedNothing(self) -> None:
        """A 304 without a stored response for the request has no effect."""
        self.assertFalse(self.policy.isInterested(exchangeFor(), upstreamResponse(304)))
        self.keep(("Vary", "X"), ("ETag", '"a"'), x="1")
        self.assertFalse(self.confirm(("ETag", '"a"'), x="2"))


class PartialTests(LastGoodTestCase):
    """Partial responses, with C{despite=partial}."""

    def setUp(self) -> None:
        LastGoodTestCase.setUp(self)
        self.make(despite=frozenset(("partial",)))
        self.response(
            exchangeFor(range="bytes=0-1"),
            upstreamResponse(206, ("Content-Range", "bytes 0-1/4"), body=b"go"),
        )

    def test_sameRange(self) -> None:
        """A partial response masks only requests for the same range."""
        answer = self.failed(range="bytes=0-1")
        self.assertEqual((answer.status, answer.body), (206, b"go"))
        self.assertEqual(answer.headers["Content-Range"], "bytes 0-1/4")
        self.assertNotMasked(self.failed())
        self.assertNotMasked(self.failed(range="bytes=1-2"))
        self.assertNotMasked(self.failed(range="bytes=0-1", if_range='"a"'))

    def test_head(self) -> None:
        """A partial response does not mask HEAD, which has no ranges."""
        self.assertNotMasked(self.failed(range="bytes=0-1", method="HEAD"))


class StreamTests(LastGoodTestCase):
    """Responses that are collected while they stream."""

    def stream(self, *pieces: bytes, **request: Any) -> Response:
        """Let a response of unknown length pass in pieces; an empty piece is its end."""
        response = upstreamResponse(200, ("X-A", "1"))
        response.body = response.length = None
        self.assertFalse(self.policy.isInterested(exchangeFor(**request), response))
        for piece in pieces:
            for bodyFilter, keepsLength in response.filters or ():
                self.assertTrue(keepsLength)
                self.assertEqual(bodyFilter(piece), piece)
        return response

    def test_collected(self) -> None:
        """A response of unknown length streams, and is stored at its end."""
        self.stream(b"go", b"od", b"")
        answer = self.failed()
        self.assertMasked(answer)
        self.assertEqual(answer.headers["X-A"], "1")

    def test_brokenOff(self) -> None:
        """One that breaks off is not stored, and the response stored before stays."""
        self.stream(b"go", b"od")
        self.assertNotMasked(self.failed())
        self.stream(b"good", b"")
        self.stream(b"be", b"tt")
        self.assertMasked(self.failed())

    def test_tooLong(self) -> None:
        """One over the limit streams, is not stored, and drops the stored one at its end."""
        self.make(maxResponse=4)
        self.stream(b"good", b"")
        self.assertMasked(self.failed())
        self.stream(b"12345", b"6")
        self.assertMasked(self.failed())
        self.stream(b"123", b"45", b"")
        self.assertNotMasked(self.failed())

    def test_tooLongIsLetGo(self) -> None:
        """One over the limit is dropped from memory while the rest of it streams."""
        self.make(maxResponse=4)
        response = self.stream(b"1234")
        assert response.filters is not None
        collect = response.filters[0][0]
        held = getclosurevars(collect).nonlocals["held"]
        self.assertEqual(held, b"1234")
        for piece in (b"5", b"678", b"9"):
            collect(piece)
            self.assertEqual(held, b"")

    def test_asItWas(self) -> None:
        """Fields that later policies add are not stored."""
        response = self.stream(b"good")
        response.headers.add("Via", "1.1 sitio")
        assert response.filters is not None
        response.filters[0][0](b"")
        self.assertNotIn("Via", self.failed().headers)

    def test_filtered(self) -> None:
        """The body is stored as another policy's filter changed it, even if it was here whole."""
        response = upstreamResponse(200, body=b"good")
        response.addFilter(bytes.upper)
        self.assertFalse(self.policy.isInterested(exchangeFor(), response))
        for piece in (b"good", b""):
            for bodyFilter, _ in response.filters or ():
                piece = bodyFilter(piece)
        self.assertMasked(self.failed(), b"GOOD")

    def test_notForAll(self) -> None:
        """A response that must not be stored is not collected."""
        self.assertIsNone(self.stream(b"mine", b"", cookie="session=me").filters)


class OptionTests(LastGoodTestCase):
    """The options of an operator's description."""

    def test_defaults(self) -> None:
        """All options may be missing."""
        self.policy = makePolicy()
        self.keep()
        self.assertMasked(self.failed())

    def test_options(self) -> None:
        """Each option has its effect."""
        for options, answer in (
            ({"statuses": "500,502-503"}, upstreamResponse(504)),
            ({"maxBytes": "1000"}, upstreamResponse(503)),
            ({"maxResponse": "3"}, upstreamResponse(503)),
        ):
            self.policy = makePolicy(**options)
            self.keep()
            self.assertNotEqual(self.response(exchangeFor(), answer).status, 200, options)
        self.policy = makePolicy(
            despite="Cookie,no-store, x-team", personal="x-team", statuses="4xx"
        )
        self.keep(("Cache-Control", "no-store"), cookie="a=b", x_team="blue")
        self.assertEqual(self.failed(404, cookie="b=c").status, 200)
        self.assertNotMasked(self.failed())
        self.policy = makePolicy(personal="X-Team, x-b")
        self.keep(x_team="blue")
        self.assertNotMasked(self.failed(x_team="blue"))
        policy = makePolicy(statuses="404,502-503")
        known = {each for each in range(500, 600) if each in policy.statuses}
        self.assertEqual(known, {502, 503})
        for seconds in ("10", "604800"):
            makePolicy(maxAge=seconds, budget=seconds)
        policy = makePolicy(maxAge="7", budget="11")
        self.assertEqual((policy._maxAge, policy._budget._seconds), (7, 11))

    def test_refused(self) -> None:
        """A wrong value is named in one sentence, with what is expected."""
        for options, words in (
            ({"maxAge": "soon"}, "max-age=soon: a whole number from 1 to 604800 is expected"),
            ({"maxAge": "0"}, "max-age=0: a whole number"),
            ({"maxAge": "-1"}, "max-age=-1: a whole number"),
            ({"maxAge": "1e3"}, "max-age=1e3: a whole number"),
            ({"maxAge": "604801"}, "max-age=604801: a whole number"),
            ({"budget": "9"}, "budget=9: a whole number from 10 to"),
            ({"maxBytes": "16M"}, "max-bytes=16M: a whole number"),
            ({"maxResponse": "9" * 5000}, "max-response=9+: a whole number"),
            ({"statuses": "200"}, "'200' is not an error status: write 404, 500-504 or 5xx"),
            ({"statuses": "503,"}, "'' is not an error status"),
            (
                {"statuses": "504-502"},
                "'504-502' is not a range of statuses: the lower one comes first",
            ),
            ({"personal": "a b"}, "'a b' is not a field name"),
            ({"despite": "cokie"}, "despite=cokie: 'cokie' is none of .*cookie"),
        ):
            with self.assertRaisesRegex(ValueError, words):
                makePolicy(**options)

    def test_despiteAll(self) -> None:
        """C{despite} takes every word that forbids something."""
        for word in FORBIDDING | PERSONAL_FIELDS:
            makePolicy(despite=word)


class ProxyTests(SynchronousTestCase):
    """The policy in a whole proxy."""

    def setUp(self) -> None:
        self.runner = Runner("last-good:max-age=100", settings=Settings(bufferLimit=1000))

    def test_failures(self) -> None:
        """Every kind of failure is masked, and the upstream's status is recorded."""
        good = response(200, text="good" * 20)
        for pieces in (None, 7):
            self.runner.run(request("/"), good, pieces=pieces)
            for mishap, status in (
                (response(503, text="bad"), 503),
                (connectionRefused(), 502),
                (connectionReset(), 502),
                (noResponse(), 504),
                (incompleteResponse(good), 502),
            ):
                outcome = self.runner.run(request("/"), mishap, pieces=pieces)
                self.assertEqual((outcome.status, outcome.text), (200, "good" * 20), mishap)
                self.assertEqual(outcome.exchange.upstreamStatus, status)
                self.assertEqual(outcome.exchange.acted, ("last-good",))
                self.assertIn(f"fwd-status={status};", outcome.headers["Cache-Status"])

    def test_head(self) -> None:
        """The mask for HEAD has no body, but the Content-Length of the stored one."""
        self.runner.run(request("/"), response(200, text="good"))
        outcome = self.runner.run(request("/", "HEAD"), connectionRefused())
        self.assertEqual((outcome.status, outcome.body), (200, b""))
        client = self.runner.harness.connect()
        self.runner.harness.refuseConnections()
        client.sends(b"HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        head = client.got().lower()
        self.assertEqual(head.count(b"\r\ncontent-length: 4\r\n"), 1, head)
        self.assertTrue(head.endswith(b"\r\n\r\n"))

    def test_conditional(self) -> None:
        """A conditional request that is masked gets a 304 without a body."""
        self.runner.run(request("/"), response(200, text="good", headers={"ETag": '"a"'}))
        outcome = self.runner.run(
            request("/", headers={"If-None-Match": '"a"'}), connectionRefused()
        )
        self.assertEqual((outcome.status, outcome.body, outcome.whole), (304, b"", True))

    def test_stream(self) -> None:
        """A chunked response streams to the client, and is stored nevertheless."""
        harness = self.runner.harness
        client = harness.connect()
        client.sends(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        harness.acceptConnections()
        upstream = harness.upstream()
        upstream.sends(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\ngo\r\n")
        self.assertTrue(client.got().endswith(b"2\r\ngo\r\n"))
        upstream.sends(b"2\r\nod\r\n0\r\n\r\n")
        self.assertTrue(client.got().endswith(b"2\r\nod\r\n0\r\n\r\n"))
        upstream.closes()
        self.assertEqual(self.runner.run(request("/"), connectionRefused()).text, "good")

    def test_brokenStream(self) -> None:
        """A chunked response that breaks off is not stored."""
        harness = self.runner.harness
        client = harness.connect()
        client.sends(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        harness.acceptConnections()
        upstream = harness.upstream()
        upstream.sends(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\ngo\r\n")
        upstream.closes()
        harness.settle()
        self.assertTrue(client.reset or client.closed)
        self.assertEqual(self.runner.run(request("/"), connectionRefused()).status, 502)

    def test_overTheBufferLimit(self) -> None:
        """A response over the buffer limit is sent whole, and is not stored."""
        long = response(200, body=bytes(2000))
        outcome = self.runner.run(request("/"), long, pieces=100)
        self.assertEqual((outcome.status, outcome.body), (200, bytes(2000)))
        self.assertEqual(self.runner.run(request("/"), connectionRefused()).status, 502)

    def test_time(self) -> None:
        """The age is counted with the clock of the proxy."""
        self.runner.run(request("/"), response(200, text="good"))
        self.runner.advance(100)
        self.assertEqual(self.runner.run(request("/"), connectionRefused()).headers["Age"], "100")
        self.runner.advance(1)
        self.assertEqual(self.runner.run(request("/"), connectionRefused()).status, 502)
