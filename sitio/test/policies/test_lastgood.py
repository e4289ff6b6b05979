"""
Promises of L{sitio.policies.lastgood}.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from inspect import getclosurevars
from typing import Any

from hypothesis import given, settings as profile, strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from sitio.http import head
from sitio.http.headers import MAX_SHARED
from sitio.http.message import Response
from sitio.interfaces import ISelectivePolicy
from sitio.policies import lastgood
from sitio.policies.lastgood import (
    FORBIDDING,
    LINE_COST,
    MAX_VARIANTS,
    PERSONAL,
    RESPONSE_COST,
    WINDOW,
    LastGood,
    makePolicy,
)
from sitio.settings import Settings
from sitio.test.helpers.policies import Asked, asked, responded
from sitio.testing import (
    Runner,
    brokenOff,
    readRequests,
    readResponses,
    refused,
    request,
    reset,
    response,
    silence,
)

#: Seconds since 1970 of C{WAS}.
WAS = "Sun, 06 Nov 1994 08:49:37 GMT"
LATER = "Sun, 06 Nov 1994 09:49:37 GMT"

STALE = "sitio; fwd=stale; fwd-status=503; detail=last-good"


class LastGoodTests(SynchronousTestCase):
    """What tests of the policy have in common."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.policy = self.made()

    def made(self, **options: Any) -> LastGood:
        """A policy on the clock of this test."""
        self.policy = LastGood(seconds=self.clock.seconds, **options)
        return self.policy

    def response(self, exchange: Asked, response: Response) -> Response:
        """What the client gets, as the core asks: first by the head, then for the whole."""
        if response.status in self.policy.statuses and self.policy.isInterested(exchange, response):
            return self.policy.responseReceived(exchange, response) or response
        return response

    def keep(self, *lines: tuple[str, str], body: bytes = b"good", **request: Any) -> None:
        """Let a good response pass."""
        response = responded(200, *lines, body=body)
        self.assertIs(self.response(asked(**request), response), response)

    def failed(self, status: int = 503, **request: Any) -> Response:
        """What the client gets where the upstream fails."""
        return self.response(asked(**request), responded(status, body=b"bad"))

    def assertMasked(self, response: Response, body: bytes = b"good") -> None:
        """The response is a mask."""
        self.assertEqual((response.status, response.body), (200, body))
        self.assertIn("detail=last-good", response.headers["Cache-Status"])

    def assertNotMasked(self, response: Response) -> None:
        """The response is the failure itself."""
        self.assertEqual((response.status, response.body), (503, b"bad"))


class MaskTests(LastGoodTests):
    """The mask itself."""

    def test_interface(self) -> None:
        """It is a response policy that wants some responses whole."""
        verifyObject(ISelectivePolicy, self.policy)
        self.assertTrue(self.policy.buffered)
        for status in (200, 304, 500, 502, 503, 504):
            self.assertIn(status, self.policy.statuses)
        for status in (101, 400, 408, 429):
            self.assertNotIn(status, self.policy.statuses)

    def test_masked(self) -> None:
        """A failure is masked with the last good response, as it came, with age and origin."""
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
        """The mask is framed anew: no length is taken over."""
        self.keep()
        answer = self.failed()
        self.assertNotIn(b"content-length", [name.lower() for name, _ in answer.headers.fields])
        self.assertIsNone(answer.length)

    def test_statuses(self) -> None:
        """Each 5xx is masked, named as what it was, and nothing else is."""
        self.keep()
        for status in (500, 501, 502, 504, 599):
            self.assertIn(f"fwd-status={status};", self.failed(status).headers["Cache-Status"])
        for status in (400, 408, 429):
            self.assertEqual(self.failed(status).status, status)

    def test_nothingKept(self) -> None:
        """Without a good response the failure passes, and is not even buffered."""
        self.assertNotMasked(self.failed())
        self.assertFalse(self.policy.isInterested(asked(), responded(503)))

    def test_theLatest(self) -> None:
        """The mask is the latest good response, not the first."""
        self.keep()
        self.keep(body=b"better")
        self.assertMasked(self.failed(), b"better")

    def test_masksDoNotRefresh(self) -> None:
        """A mask that was sent is no good response: its age counts on."""
        self.keep()
        self.clock.advance(200)
        self.assertMasked(self.failed())
        self.clock.advance(101)
        self.assertNotMasked(self.failed())

    def test_anotherPolicysMask(self) -> None:
        """What stands in place of a failed attempt is not kept as good."""
        response = responded(200, body=b"good")
        response.failure = Exception("refused")
        self.response(asked(), response)
        self.assertNotMasked(self.failed())

    def test_withoutWants(self) -> None:
        """A core that doesn't ask first gets the same answers."""
        self.assertIsNone(self.policy.responseReceived(asked(), responded(200, body=b"good")))
        self.assertIsNone(self.policy.responseReceived(asked(method="PATCH"), responded(503)))
        answer = self.policy.responseReceived(asked(), responded(503))
        assert answer is not None
        self.assertMasked(answer)

    def test_notesAreLeftClean(self) -> None:
        """An exchange that has passed holds nothing of the policy's any more."""
        exchange = asked()
        self.response(exchange, responded(200))
        self.assertEqual(exchange.notes, {})

    def test_kept(self) -> None:
        """What is changed in a response after it was kept does not change the mask."""
        response = responded(200, ("X-A", "1"), body=b"good")
        self.response(asked(), response)
        response.headers["X-A"] = "2"
        response.headers.add("Via", "1.1 sitio")
        answer = self.failed()
        self.assertEqual(answer.headers["X-A"], "1")
        self.assertNotIn("Via", answer.headers)
        answer.headers["X-A"] = "3"
        self.assertEqual(self.failed().headers["X-A"], "1")

    def test_cacheStatusOfOthers(self) -> None:
        """Cache-Status lines of caches before sitio stay, its own comes last."""
        self.keep(("Cache-Status", "origin; hit"))
        self.assertEqual(self.failed().headers["Cache-Status"], f"origin; hit, {STALE}")


class MethodTests(LastGoodTests):
    """Which requests give and get masks."""

    def test_head(self) -> None:
        """HEAD gets the mask of a GET, the body with it, so that its length is announced."""
        self.keep()
        self.assertMasked(self.failed(method="HEAD"))

    def test_headKeepsNothing(self) -> None:
        """The response to HEAD has no body: it's not kept, and what was kept stays."""
        self.response(asked(method="HEAD"), responded(200, body=b""))
        self.assertNotMasked(self.failed())
        self.keep()
        self.response(asked(method="HEAD"), responded(200, body=b""))
        self.assertMasked(self.failed())

    def test_otherMethods(self) -> None:
        """Nothing but GET and HEAD is masked."""
        self.keep()
        for method in ("POST", "OPTIONS", "PROPFIND", "get"):
            self.assertNotMasked(self.failed(method=method))

    def test_unsafe(self) -> None:
        """A successful unsafe method drops all that is kept of its target (RFC 9111, 4.4)."""
        for method in ("POST", "PUT", "DELETE", "PROPPATCH"):
            for status in (200, 201, 204, 303):
                self.keep(("Vary", "Accept"), accept="a/b")
                self.response(asked(method=method), responded(status))
                self.assertNotMasked(self.failed(accept="a/b"))
        self.assertEqual(self.policy.size, 0)

    def test_safeOrFailed(self) -> None:
        """A safe method, another target or an unsafe one that fails drops nothing."""
        self.keep()
        self.response(asked(method="OPTIONS"), responded(200))
        self.response(asked("/other", method="DELETE"), responded(204))
        self.response(asked(method="DELETE"), responded(403))
        self.response(asked(method="DELETE"), responded(500))
        self.assertMasked(self.failed())

    def test_requestBody(self) -> None:
        """A GET with a body neither gives nor gets a mask: its body is no part of the key."""
        for body in (b"query", None):
            exchange = asked()
            exchange.request.body = body
            self.response(exchange, responded(200))
            self.assertNotMasked(self.failed())
        self.keep()
        exchange = asked()
        exchange.request.body = b"query"
        self.assertEqual(self.response(exchange, responded(503)).status, 503)

    def test_key(self) -> None:
        """Another target, query, host, scheme or claimed host is another page."""
        self.keep(target="/a?b=c")
        self.assertMasked(self.failed(target="/a?b=c"))
        self.assertNotMasked(self.failed(target="/a"))
        self.assertNotMasked(self.failed(target="/A?b=c"))
        self.assertNotMasked(self.failed(target="/a?b=c", X_Forwarded_Host="evil.example"))
        self.assertNotMasked(self.failed(target="/a?b=c", X_Original_URL="/admin"))
        secure = asked("/a?b=c")
        secure.secure = True
        self.assertNotMasked(self.response(secure, responded(503, body=b"bad")))
        other = asked("/a?b=c")
        other.request.headers["Host"] = "other.example"
        self.assertNotMasked(self.response(other, responded(503, body=b"bad")))
        other.request.headers["Host"] = "PHOTOS.example"
        self.assertMasked(self.response(other, responded(503, body=b"bad")))

    def test_claimedHost(self) -> None:
        """A page made for a claimed host is sent to those only who claim the same."""
        self.keep(x_forwarded_host="evil.example", body=b"poisoned")
        self.assertNotMasked(self.failed())
        self.assertMasked(self.failed(X_Forwarded_HOST="evil.example"), b"poisoned")

    def test_streamsPass(self) -> None:
        """What it has nothing to do with is not buffered."""
        for exchange, answer in (
            (asked(method="POST"), responded(200)),
            (asked(cookie="a=b"), responded(200)),
            (asked(), responded(200, ("Cache-Control", "private"))),
            (asked(), responded(404)),
            (asked(), responded(206)),
            (asked(method="HEAD"), responded(200)),
        ):
            self.assertFalse(self.policy.isInterested(exchange, answer))

    def test_tooLong(self) -> None:
        """A response announced as longer than the limit streams."""
        self.made(maxResponse=10)
        self.assertTrue(self.policy.isInterested(asked(), responded(200, body=bytes(10))))
        self.assertFalse(self.policy.isInterested(asked(), responded(200, body=bytes(11))))


class PrivacyTests(LastGoodTests):
    """No client sees what was meant for another."""

    def test_personal(self) -> None:
        """A response to a request that says who is asking is not kept."""
        for name in sorted(PERSONAL):
            request: dict[str, Any] = {name: "me"}
            self.keep(**request)
            self.assertEqual(self.policy.size, 0, name)

    def test_personalGetsNone(self) -> None:
        """A request that says who is asking gets no mask: its page may be another one."""
        self.keep()
        self.assertNotMasked(self.failed(cookie="session=me"))
        self.assertNotMasked(self.failed(Authorization="Basic bWU6"))

    def test_personalDropsNothing(self) -> None:
        """A response for one person leaves what is kept for all others alone."""
        self.keep()
        self.keep(cookie="session=me", body=b"mine")
        self.response(asked(cookie="session=me"), responded(403))
        self.assertMasked(self.failed())

    def test_public(self) -> None:
        """What says that it's public is kept and used whoever asks."""
        self.keep(("Cache-Control", "Public, max-age=0"), cookie="session=me")
        self.assertMasked(self.failed(cookie="session=you"))
        self.assertMasked(self.failed())
        self.assertMasked(self.failed(authorization="Basic eW91Og=="))

    def test_publicIsNoPartOfAWord(self) -> None:
        """Public in a quoted value or within a word is not public."""
        for said in ('private="a, public, b"', 'x="public"', "publication", "x=public"):
            self.keep(("Cache-Control", said), cookie="session=me")
            self.assertEqual(self.policy.size, 0, said)

    def test_despitePersonal(self) -> None:
        """The operator may say that a field does not make a page personal."""
        self.made(despite=frozenset(("cookie",)))
        self.keep(cookie="tracking=1")
        self.assertMasked(self.failed(cookie="tracking=2"))
        self.assertNotMasked(self.failed(authorization="Basic bWU6"))

    def test_forbidden(self) -> None:
        """Private, no-store, no-cache and Set-Cookie are not kept, whatever stands beside them."""
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
        """The operator may lift each of them, and only what is named is lifted."""
        for word in ("private", "no-store", "no-cache"):
            self.made(despite=frozenset((word,)))
            self.keep(("Cache-Control", word))
            self.assertMasked(self.failed())
            self.keep(("Cache-Control", "private, no-store, no-cache"))
            self.assertNotMasked(self.failed())

    def test_cookiesAreNeverSentAgain(self) -> None:
        """Even where a response that sets a cookie is kept, nobody gets another's session."""
        self.made(despite=frozenset(("set-cookie",)))
        self.keep(("Set-Cookie", "session=mine"), ("set-cookie", "b=c"), ("X-A", "1"))
        answer = self.failed()
        self.assertMasked(answer)
        self.assertNotIn("Set-Cookie", answer.headers)
        self.assertEqual(answer.headers["X-A"], "1")

    def test_requestNoStore(self) -> None:
        """A client that wants nothing stored is left alone, both ways."""
        self.keep(cache_control="max-age=0, no-store")
        self.assertEqual(self.policy.size, 0)
        self.keep()
        self.assertNotMasked(self.failed(cache_control="no-store"))
        self.assertMasked(self.failed(cache_control="no-cache"))


class SupersededTests(LastGoodTests):
    """A response that can't be kept, and takes the place of what was."""

    def test_answers(self) -> None:
        """An answer that says otherwise drops what was kept; one about the client doesn't."""
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
            self.response(asked(), responded(status))
            self.assertEqual(self.failed().status, 200 if masked else 503, status)

    def test_variants(self) -> None:
        """What says otherwise drops the variant it stands for, and no other."""
        self.keep(("Vary", "X"), x="2")
        size = self.policy.size
        self.keep(("Vary", "X"), x="1")
        self.response(asked(x="1"), responded(404))
        self.assertEqual(self.policy.size, size)
        self.assertNotMasked(self.failed(x="1"))
        self.assertMasked(self.failed(x="2"))

    def test_unkeepable(self) -> None:
        """A newer 200 that is private or too long drops the older one."""
        self.made(maxResponse=10)
        for answer in (
            responded(200, ("Cache-Control", "private")),
            responded(200, ("Vary", "*")),
            responded(200, body=bytes(11)),
        ):
            self.keep()
            self.response(asked(), answer)
            self.assertNotMasked(self.failed())

    def test_tooLongWithoutLength(self) -> None:
        """So does one whose length shows only when it is whole."""
        self.made(maxResponse=10)
        self.keep()
        response = responded(200, body=bytes(11))
        response.length = None
        self.response(asked(), response)
        self.assertNotMasked(self.failed())

    def test_partial(self) -> None:
        """A partial response is neither kept nor does it drop the whole one."""
        self.keep()
        self.response(asked(range="bytes=0-1"), responded(206, body=b"go"))
        self.assertMasked(self.failed())


class VaryTests(LastGoodTests):
    """Responses that depend on request fields (RFC 9111, section 4.1)."""

    def test_vary(self) -> None:
        """Each value of the field has a response of its own; another or none gets no mask."""
        self.keep(("Vary", "Accept-Language"), body=b"hello", accept_language="en")
        self.keep(("Vary", "accept-language"), body=b"ol\xe1", accept_language="pt")
        self.assertMasked(self.failed(accept_language="en"), b"hello")
        self.assertMasked(self.failed(ACCEPT_language="pt"), b"ol\xe1")
        self.assertNotMasked(self.failed(accept_language="de"))
        self.assertNotMasked(self.failed())

    def test_absent(self) -> None:
        """A response to a request without the field is for those without it, empty is not none."""
        self.keep(("Vary", "Accept-Language"))
        self.assertMasked(self.failed())
        self.assertNotMasked(self.failed(accept_language="en"))
        self.assertNotMasked(self.failed(accept_language=""))

    def test_severalNames(self) -> None:
        """All the fields named must be the same, in however many lines they are named."""
        self.keep(("Vary", "A, B"), ("Vary", "C,"), a="1", b="2", c="3")
        self.assertMasked(self.failed(c="3", b="2", a="1", d="4"))
        for name in "abc":
            request: dict[str, Any] = {"a": "1", "b": "2", "c": "3", name: "0"}
            self.assertNotMasked(self.failed(**request))

    def test_lines(self) -> None:
        """Several lines of a field are the same as one with commas (RFC 9110, section 5.3)."""
        self.keep(("Vary", "Accept"), accept="a/b, c/d")
        exchange = asked(accept="a/b")
        exchange.request.headers.add("Accept", "c/d")
        self.assertMasked(self.response(exchange, responded(503)))

    def test_star(self) -> None:
        """What varies on everything is not kept."""
        self.keep(("Vary", "Accept, *"))
        self.assertEqual(self.policy.size, 0)

    def test_replaced(self) -> None:
        """A newer variant takes the place of its own kind, the others stay."""
        for language, body in (("en", b"1"), ("pt", b"2"), ("en", b"3")):
            self.keep(("Vary", "Accept-Language"), body=body, accept_language=language)
        self.assertMasked(self.failed(accept_language="en"), b"3")
        self.assertMasked(self.failed(accept_language="pt"), b"2")

    def test_latestVary(self) -> None:
        """Where Vary itself changed, the latest response that fits is used."""
        self.keep(body=b"all")
        self.keep(("Vary", "Accept-Language"), body=b"pt", accept_language="pt")
        self.assertMasked(self.failed(accept_language="pt"), b"pt")
        self.assertNotMasked(self.failed(accept_language="en"))

    def test_encoded(self) -> None:
        """An encoded response that forgot Vary goes to those only who accept the same."""
        self.keep(("Content-Encoding", "gzip"), body=b"\x1f\x8b", accept_encoding="gzip, br")
        answer = self.failed(accept_encoding="gzip, br")
        self.assertMasked(answer, b"\x1f\x8b")
        self.assertEqual(answer.headers["Content-Encoding"], "gzip")
        self.assertNotMasked(self.failed(accept_encoding="identity"))
        self.assertNotMasked(self.failed())

    def test_plain(self) -> None:
        """A plain response is for any Accept-Encoding, unless it says otherwise."""
        self.keep()
        self.assertMasked(self.failed(accept_encoding="gzip"))
        self.keep(("Vary", "Accept-Encoding"))
        self.assertNotMasked(self.failed(accept_encoding="gzip"))

    def test_bounded(self) -> None:
        """Of one target so many variants are kept, the latest."""
        for n in range(MAX_VARIANTS + 1):
            self.keep(("Vary", "X"), x=str(n))
        self.assertNotMasked(self.failed(x="0"))
        for n in range(1, MAX_VARIANTS + 1):
            self.assertMasked(self.failed(x=str(n)))
        whole = self.policy.size
        self.made()
        self.keep(("Vary", "X"), x="0")
        self.assertEqual(whole, MAX_VARIANTS * self.policy.size)


class AgeTests(LastGoodTests):
    """For how long a response may be used."""

    def masked(self, seconds: float, *lines: tuple[str, str], **request: Any) -> bool:
        """Whether a response with these lines still masks after so many seconds."""
        self.made(maxAge=100)
        self.keep(*lines)
        self.clock.advance(seconds)
        return self.failed(**request).status == 200

    def test_maxAge(self) -> None:
        """A response is used until it's as old as the operator allows, by default 300 s."""
        self.assertTrue(self.masked(100))
        self.assertFalse(self.masked(100.5))
        self.made()
        self.keep()
        self.clock.advance(300)
        self.assertMasked(self.failed())
        self.clock.advance(0.5)
        self.assertNotMasked(self.failed())

    def test_kept(self) -> None:
        """Each good response begins its time anew, an equal one too."""
        self.made(maxAge=100)
        for body in (b"good", b"good", b"other"):
            self.keep(body=body)
            self.clock.advance(99)
            self.assertEqual(self.failed().headers["Age"], "99")

    def test_age(self) -> None:
        """The age that a response came with counts, and its line is replaced."""
        self.keep(("Age", "50"))
        self.clock.advance(10)
        self.assertEqual(self.failed().headers.getAll("Age"), ["60"])
        for nonsense in ("soon", "-1", "", "\u00b2"):
            self.keep(("Age", nonsense))
            self.assertEqual(self.failed().headers.getAll("Age"), ["0"], nonsense)
        self.keep(("Age", "9" * 5000))
        self.assertEqual(self.failed().headers["Age"], str(2**31))

    def test_staleIfError(self) -> None:
        """Stale-if-error shortens the time to so many seconds past freshness (RFC 5861)."""
        line = ("Cache-Control", "max-age=20, stale-if-error=30")
        self.assertTrue(self.masked(50, line))
        self.assertFalse(self.masked(51, line))
        self.assertTrue(self.masked(29, line, ("Age", "21")))
        self.assertFalse(self.masked(29, line, ("Age", "22")))

    def test_staleIfErrorNeverLengthens(self) -> None:
        """However long the service allows, nothing older than max-age is sent."""
        line = ("Cache-Control", "max-age=1000, stale-if-error=86400")
        self.assertTrue(self.masked(100, line))
        self.assertFalse(self.masked(101, line))

    def test_staleIfErrorWithoutFreshness(self) -> None:
        """What says nothing of its freshness is stale at once; nonsense allows nothing."""
        self.assertTrue(self.masked(30, ("Cache-Control", "stale-if-error=30")))
        self.assertFalse(self.masked(31, ("Cache-Control", "stale-if-error=30")))
        self.assertFalse(self.masked(1, ("Cache-Control", "stale-if-error=long")))

    def test_staleIfErrorOfTheRequest(self) -> None:
        """A client may shorten it as well."""
        self.assertTrue(self.masked(10, cache_control="stale-if-error=10"))
        self.assertFalse(self.masked(11, cache_control="stale-if-error=10"))
        line = ("Cache-Control", "stale-if-error=5")
        self.assertFalse(self.masked(6, line, cache_control="stale-if-error=10"))

    def test_mustRevalidate(self) -> None:
        """Where the service forbids it, nothing is sent once it's stale."""
        for word in ("must-revalidate", "proxy-revalidate", "MUST-REVALIDATE, stale-if-error=60"):
            line = ("Cache-Control", f"max-age=20, {word}")
            self.assertTrue(self.masked(19, line), word)
            self.assertFalse(self.masked(20, line), word)

    def test_sharedMaxAge(self) -> None:
        """S-maxage is the freshness that counts here, and an order to revalidate."""
        line = ("Cache-Control", "max-age=50, s-maxage=20")
        self.assertTrue(self.masked(19, line))
        self.assertFalse(self.masked(20, line))

    def test_expires(self) -> None:
        """Expires less Date is the freshness where max-age is missing."""
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
        """No date, however malformed, raises."""
        self.keep(("Date", date), ("Expires", date), ("Last-Modified", date), ("ETag", date))
        answer = self.failed(if_modified_since=date)
        self.assertIn(answer.status, (200, 304))

    def test_despite(self) -> None:
        """The operator may lift these orders."""
        for word, line in (
            ("must-revalidate", "must-revalidate"),
            ("proxy-revalidate", "max-age=0, proxy-revalidate"),
            ("s-maxage", "s-maxage=0"),
        ):
            self.keep(("Cache-Control", line))
            self.assertNotMasked(self.failed())
            self.made(despite=frozenset((word,)))
            self.keep(("Cache-Control", line))
            self.assertMasked(self.failed())

    def test_fresh(self) -> None:
        """A mask that is still fresh doesn't call itself stale."""
        self.keep(("Cache-Control", "max-age=20"))
        self.clock.advance(19)
        self.assertIn("; fwd=bypass;", self.failed().headers["Cache-Status"])
        self.clock.advance(1)
        self.assertIn("; fwd=stale;", self.failed().headers["Cache-Status"])


class ConditionalTests(LastGoodTests):
    """Conditional and range requests that are masked, and 304 responses of the upstream."""

    def test_tags(self) -> None:
        """If-None-Match gets a 304 where the kept response has one of its tags."""
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
        """A kept response without a tag matches the asterisk only."""
        self.keep()
        self.assertEqual(self.failed(if_none_match='"a"').status, 200)
        self.assertEqual(self.failed(if_none_match="*").status, 304)

    def test_dates(self) -> None:
        """If-Modified-Since gets a 304 where the kept response is not newer."""
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
        """A 304 has no body, and the fields that a 304 has (RFC 9110, section 15.4.5)."""
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
            list(answer.headers),
            [
                ("ETag", '"a"'),
                ("Content-Location", "/a"),
                ("Cache-Control", "max-age=0"),
                ("Vary", "X"),
                ("Age", "0"),
                ("Cache-Status", STALE),
            ],
        )

    def test_forTheOrigin(self) -> None:
        """If-Match and If-Unmodified-Since see the failure: only the origin may judge."""
        self.keep(("ETag", '"a"'))
        self.assertNotMasked(self.failed(if_match='"a"'))
        self.assertNotMasked(self.failed(if_unmodified_since=LATER))

    def test_range(self) -> None:
        """A range request gets the whole response."""
        self.keep()
        self.assertMasked(self.failed(range="bytes=0-1", if_range='"a"'))

    def confirm(self, *lines: tuple[str, str], **request: Any) -> bool:
        """Whether a 304 of these lines, 200 s later, lets the kept response live on."""
        self.clock.advance(200)
        response = responded(304, *lines, body=b"")
        self.assertIs(self.response(asked(**request), response), response)
        self.clock.advance(200)
        return self.failed().status == 200

    def test_confirmed(self) -> None:
        """A 304 that speaks of the kept response begins its time anew."""
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
        """The fields of a 304 replace those kept, but for those of the body and of framing."""
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
        """A 304 that says private takes the kept response away."""
        self.keep(("ETag", '"a"'))
        self.assertFalse(self.confirm(("ETag", '"a"'), ("Cache-Control", "private")))
        self.assertEqual(self.policy.size, 0)

    def test_confirmedNothing(self) -> None:
        """A 304 where nothing is kept is passed by, also beside another variant."""
        self.assertFalse(self.policy.isInterested(asked(), responded(304)))
        self.keep(("Vary", "X"), ("ETag", '"a"'), x="1")
        self.assertFalse(self.confirm(("ETag", '"a"'), x="2"))


class PartialTests(LastGoodTests):
    """Partial responses, where the operator wants them."""

    def setUp(self) -> None:
        LastGoodTests.setUp(self)
        self.made(despite=frozenset(("partial",)))
        self.response(
            asked(range="bytes=0-1"), responded(206, ("Content-Range", "bytes 0-1/4"), body=b"go")
        )

    def test_sameRange(self) -> None:
        """A partial response is sent to who asks for the same part, and nobody else."""
        answer = self.failed(range="bytes=0-1")
        self.assertEqual((answer.status, answer.body), (206, b"go"))
        self.assertEqual(answer.headers["Content-Range"], "bytes 0-1/4")
        self.assertNotMasked(self.failed())
        self.assertNotMasked(self.failed(range="bytes=1-2"))
        self.assertNotMasked(self.failed(range="bytes=0-1", if_range='"a"'))

    def test_head(self) -> None:
        """HEAD knows no ranges."""
        self.assertNotMasked(self.failed(range="bytes=0-1", method="HEAD"))


class StreamTests(LastGoodTests):
    """Responses that are collected as they pass."""

    def stream(self, *pieces: bytes, **request: Any) -> Response:
        """Let a response of unknown length pass, piece by piece; an empty one is its end."""
        response = responded(200, ("X-A", "1"))
        response.body = response.length = None
        self.assertFalse(self.policy.isInterested(asked(**request), response))
        for piece in pieces:
            for bodyFilter, keepsLength in response.filters or ():
                self.assertTrue(keepsLength)
                self.assertEqual(bodyFilter(piece), piece)
        return response

    def test_collected(self) -> None:
        """A response without a length isn't held up, and kept when it has passed."""
        self.stream(b"go", b"od", b"")
        answer = self.failed()
        self.assertMasked(answer)
        self.assertEqual(answer.headers["X-A"], "1")

    def test_brokenOff(self) -> None:
        """One that breaks off is not kept, and leaves the one before in place."""
        self.stream(b"go", b"od")
        self.assertNotMasked(self.failed())
        self.stream(b"good", b"")
        self.stream(b"be", b"tt")
        self.assertMasked(self.failed())

    def test_tooLong(self) -> None:
        """One beyond the limit passes, isn't held, and drops the one before at its end."""
        self.made(maxResponse=4)
        self.stream(b"good", b"")
        self.assertMasked(self.failed())
        self.stream(b"12345", b"6")
        self.assertMasked(self.failed())
        self.stream(b"123", b"45", b"")
        self.assertNotMasked(self.failed())

    def test_tooLongIsLetGo(self) -> None:
        """What turns out too long to be kept is not held while the rest of it passes."""
        self.made(maxResponse=4)
        response = self.stream(b"1234")
        assert response.filters is not None
        collect = response.filters[0][0]
        held = getclosurevars(collect).nonlocals["held"]
        self.assertEqual(held, b"1234")
        for piece in (b"5", b"678", b"9"):
            collect(piece)
            self.assertEqual(held, b"")

    def test_asItWas(self) -> None:
        """Fields that later policies add are not kept with it."""
        response = self.stream(b"good")
        response.headers.add("Via", "1.1 sitio")
        assert response.filters is not None
        response.filters[0][0](b"")
        self.assertNotIn("Via", self.failed().headers)

    def test_filtered(self) -> None:
        """What another policy's filter makes of a body is what is kept, be it whole already."""
        response = responded(200, body=b"good")
        response.addFilter(bytes.upper)
        self.assertFalse(self.policy.isInterested(asked(), response))
        for piece in (b"good", b""):
            for bodyFilter, _ in response.filters or ():
                piece = bodyFilter(piece)
        self.assertMasked(self.failed(), b"GOOD")

    def test_notForAll(self) -> None:
        """What is not to be kept is not collected."""
        self.assertIsNone(self.stream(b"mine", b"", cookie="session=me").filters)


class BoundTests(LastGoodTests):
    """What the policy holds is bounded."""

    def test_leastRecentlyUsed(self) -> None:
        """Beyond its bytes the policy drops what was used longest ago, masks included."""
        self.made(maxBytes=3 * (RESPONSE_COST + 3 * LINE_COST + 1000))
        for target in "/a", "/b", "/c":
            self.keep(target=target, body=bytes(900))
        self.assertMasked(self.failed(target="/a"), bytes(900))
        self.keep(target="/b", body=bytes(900))
        self.keep(target="/d", body=bytes(900))
        self.assertNotMasked(self.failed(target="/c"))
        for target in "/a", "/b", "/d":
            self.assertMasked(self.failed(target=target), bytes(900))
        self.keep(target="/a", body=b"other")
        self.keep(target="/e", body=bytes(900))
        self.assertNotMasked(self.failed(target="/b"))
        self.assertMasked(self.failed(target="/a"), b"other")

    def test_variantByVariant(self) -> None:
        """Of a target with several variants no more go than have to, the oldest first."""
        self.made(maxBytes=3 * (RESPONSE_COST + 3 * LINE_COST + 1000))
        for n in range(4):
            self.keep(("Vary", "X"), x=str(n), body=bytes(900))
        self.assertNotMasked(self.failed(x="0"))
        for n in range(1, 4):
            self.assertMasked(self.failed(x=str(n)), bytes(900))

    def test_tooLargeForAll(self) -> None:
        """A response larger than all that may be held is not held."""
        self.made(maxBytes=1000)
        self.keep()
        self.assertEqual(self.policy.size, 0)
        self.assertNotMasked(self.failed())

    def test_memory(self) -> None:
        """The counted size is at least the real one, for small responses and many lines too."""
        self.made(maxBytes=2**40)
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            for n in range(300):
                lines = [(f"X-Field-{n}-{m}", f"value {n} {m}") for m in range(n % 30)]
                self.keep(
                    ("Vary", "X"),
                    *lines,
                    target=f"/a/rather/long/target/{n}?" + "q" * n,
                    x=str(n),
                    x_forwarded_host=f"host{n}",
                    body=b"%d" % n * (n % 50),
                )
            taken = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
        self.assertLess(taken, self.policy.size)

    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["keep", "keep", "vary", "private", "fail", "delete", "confirm"]),
                st.integers(0, 3),
                st.integers(0, 12),
                st.integers(0, 600),
            ),
            max_size=60,
        )
    )
    def test_count(self, steps: list[tuple[str, int, int, int]]) -> None:
        """Whatever comes, the count is that of what is held, and within the bound."""
        policy = self.made(maxBytes=8000, despite=frozenset(("set-cookie",)))
        for step, target, value, length in steps:
            request: dict[str, Any] = {"target": f"/{target}", "x": str(value)}
            if step == "keep":
                self.keep(("ETag", '"a"'), body=bytes(length), **request)
            elif step == "vary":
                self.keep(("Vary", "X"), ("ETag", '"a"'), body=bytes(length), **request)
            elif step == "private":
                self.keep(("Cache-Control", "private"), **request)
            elif step == "fail":
                self.failed(**request)
            elif step == "delete":
                self.response(asked(method="DELETE", **request), responded(204))
            else:
                self.response(
                    asked(**request), responded(304, ("ETag", '"a"'), ("A", "b" * length))
                )
            held = [each for variants in policy._store._variants.values() for each in variants]
            self.assertEqual(policy.size, sum(each.size for each in held))
            self.assertLessEqual(policy.size, 8000)
            self.assertNotIn([], list(policy._store._variants.values()))


def wired(target: str = "/", method: str = "GET", *, body: bytes = b"", **fields: str) -> Asked:
    """As L{asked}, but read from bytes: the same once more shares its lines."""
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    head = "\r\n".join([f"{method} {target} HTTP/1.1", "Host: photos.example", *lines, "", ""])
    [request] = readRequests(head.encode() + body)
    return Asked(request)


def came(status: int, *lines: tuple[str, str], body: bytes = b"good") -> Response:
    """As L{responded}, but read from bytes."""
    length = [] if status == 304 else [("Content-Length", str(len(body)))]
    head = [f"HTTP/1.1 {status} x", *(f"{name}: {value}" for name, value in [*lines, *length])]
    [response] = readResponses("\r\n".join([*head, "", ""]).encode() + (body if length else b""))
    return response


class MarkTests(LastGoodTests):
    """What is the same once more is known by its mark, of which nobody sees more than the time."""

    def setUp(self) -> None:
        LastGoodTests.setUp(self)
        # As they are before the first request.
        for each in (head.requestHeads, head._requestLines, head._saidToUs):
            each.clear()
        for each in (head.responseHeads, head._saidToClients):
            each.clear()

    def quick(self, response: Response, exchange: Asked | None = None, **request: Any) -> bool:
        """Let a good response pass; whether it was known without being looked at as a whole."""
        exchange = exchange or wired(**request)
        if self.policy.isInterested(exchange, response):
            self.assertIs(self.policy.responseReceived(exchange, response), None)
            return False
        return not response.filters

    def learn(self, *lines: tuple[str, str], **request: Any) -> None:
        """Let a good response pass until it is known."""
        known = [self.quick(came(200, *lines), **request) for _ in range(3)]
        self.assertEqual(known, [False, False, True])

    def marked(self) -> int:
        """How many marks there are; each is that of something that is kept."""
        store = self.policy._store
        held = [each for variants in store._variants.values() for each in variants]
        marks = [(mark, each) for each in held for mark in each.marks]
        self.assertEqual(len(marks), len(store.marked))
        for mark, each in marks:
            self.assertIs(store.marked[mark], each)
        return len(marks)

    def test_known(self) -> None:
        """What came as often as twice is known, masks as ever, and HEAD is no GET."""
        self.learn()
        self.assertTrue(self.quick(came(200)))
        self.assertMasked(self.failed())
        self.assertTrue(self.quick(came(200)))
        self.response(wired(method="HEAD"), came(200))
        self.assertEqual(self.marked(), 1)

    def test_refreshed(self) -> None:
        """What is known counts as come again: its age begins anew."""
        self.learn()
        self.clock.advance(299)
        self.assertTrue(self.quick(came(200)))
        self.clock.advance(300)
        response = self.failed()
        self.assertMasked(response)
        self.assertEqual(response.headers["Age"], "300")

    def test_used(self) -> None:
        """What is known is not the first that goes for want of room, and what goes is forgotten."""
        self.made(maxBytes=3 * (RESPONSE_COST + 3 * LINE_COST + 100))
        for target in "/a", "/b", "/c":
            self.learn(target=target)
        self.assertTrue(self.quick(came(200), target="/a"))
        self.keep(target="/d")
        self.assertEqual(self.marked(), 2)
        self.assertNotMasked(self.failed(target="/b"))
        self.assertMasked(self.failed(target="/a"))
        self.assertFalse(self.quick(came(200), target="/b"))
        self.assertEqual(self.marked(), 1)

    def test_budget(self) -> None:
        """What is known is a good response that failures are weighed against."""
        self.made(maxAge=100_000, budget=600)
        self.learn()
        for _ in range(120):
            self.clock.advance(WINDOW)
            for _ in range(3):
                self.assertTrue(self.quick(came(200)))
            self.assertMasked(self.failed())
            self.assertMasked(self.failed())
        for _ in range(120):
            self.clock.advance(WINDOW)
            self.assertTrue(self.quick(came(200)))
            response = [self.failed(), self.failed()][1]
        self.assertNotMasked(response)

    def test_otherResponse(self) -> None:
        """Another body, line, status or filter is not taken for the one that is kept."""
        self.learn()
        self.assertFalse(self.quick(came(200, body=b"else")))
        self.assertMasked(self.failed(), b"else")
        self.assertEqual(self.marked(), 0)
        self.learn()
        self.assertFalse(self.quick(came(200, ("X-A", "b"))))
        self.assertEqual(self.failed().headers["X-A"], "b")
        self.assertEqual(self.marked(), 0)
        self.learn(("X-A", "c"))
        response = came(200, ("X-A", "c"))
        response.status = 404
        self.quick(response)
        self.assertNotMasked(self.failed())
        self.assertEqual(self.marked(), 0)
        self.learn()
        response = came(200)
        response.headers["X-A"] = "policy"
        self.assertFalse(self.quick(response))
        self.assertEqual(self.failed().headers["X-A"], "policy")
        self.learn()
        response = came(200)
        response.addFilter(bytes.upper, keepsLength=True)
        self.assertFalse(self.quick(response))
        self.assertEqual(len(response.filters or ()), 2)

    def test_notYetWhole(self) -> None:
        """A body that is yet to come is waited for, however often the head came."""
        self.learn()
        response = came(200)
        response.body = None
        self.assertTrue(self.policy.isInterested(wired(), response))

    def assertUnconfirmed(self, spoil: Callable[[Asked, Response], None]) -> None:
        """What is known, spoilt like this, says nothing of what is kept."""
        self.made()
        self.learn()
        self.clock.advance(200)
        exchange, response = wired(), came(200)
        self.assertTrue(self.quick(response, exchange))
        spoil(exchange, response)
        self.clock.advance(200)
        self.response(exchange, response)
        self.clock.advance(200)
        self.assertNotMasked(self.failed())

    def test_otherRequest(self) -> None:
        """A request with a body, of another scheme, target or lines is not taken for the one."""

        def noStore(exchange: Asked, response: Response) -> None:
            exchange.request.headers["Cache-Control"] = "no-store"

        def otherHost(exchange: Asked, response: Response) -> None:
            exchange.request.headers["Host"] = "other.example"

        for spoil in (
            lambda exchange, _: setattr(exchange.request, "body", b"x"),
            lambda exchange, _: setattr(exchange.request, "body", None),
            lambda exchange, _: setattr(exchange.request, "target", "/other"),
            lambda exchange, _: setattr(exchange, "secure", True),
            noStore,
            otherHost,
        ):
            self.assertUnconfirmed(spoil)

    def test_anotherPolicysMask(self) -> None:
        """What another policy has put in place of a failure, or made partial, confirms nothing."""
        self.assertUnconfirmed(lambda _, response: setattr(response, "failure", Exception()))
        self.assertUnconfirmed(lambda _, response: setattr(response, "status", 206))

    def test_severalClients(self) -> None:
        """Clients that ask with other lines are known side by side."""
        self.learn()
        known = [self.quick(came(200), accept="b") for _ in range(3)]
        self.assertEqual(known, [False, False, True])
        self.assertTrue(self.quick(came(200)))
        self.assertGreater(self.marked(), 1)
        self.keep(body=b"else")
        self.assertEqual(self.marked(), 0)
        self.assertFalse(self.quick(came(200), accept="b"))

    def test_piecemeal(self) -> None:
        """What is never whole at its head leaves one mark, however often it comes."""
        for _ in range(5):
            response = came(200)
            exchange = wired()
            response.body = None
            self.assertTrue(self.policy.isInterested(exchange, response))
            response.body = b"good"
            self.policy.responseReceived(exchange, response)
        self.assertEqual(self.marked(), 1)

    def test_variants(self) -> None:
        """Each variant has its own marks, and one that comes new makes all be looked for again."""
        for x in "1", "2":
            [self.quick(came(200, ("Vary", "X"), body=x.encode()), x=x) for _ in range(3)]
        self.assertEqual(self.marked(), 1)
        self.assertFalse(self.quick(came(200, ("Vary", "X"), body=b"1"), x="1"))
        self.assertEqual(self.marked(), 2)
        for x in "1", "2":
            self.assertTrue(self.quick(came(200, ("Vary", "X"), body=x.encode()), x=x))
            self.assertMasked(self.failed(x=x), x.encode())
        self.quick(came(200, ("Vary", "X"), body=b"3"), x="3")
        self.assertEqual(self.marked(), 0)

    def test_dropped(self) -> None:
        """Whatever removes what is kept, its marks go with it."""
        for exchange, answer in (
            (wired(), came(404)),
            (wired(), came(200, ("Cache-Control", "no-store"))),
            (wired(method="DELETE"), came(200)),
            (wired(if_none_match='"a"'), came(304, ("ETag", '"a"'), ("X-A", "b"))),
        ):
            self.made()
            self.learn(("ETag", '"a"'))
            self.assertEqual(self.marked(), 1)
            self.response(exchange, answer)
            self.assertEqual(self.marked(), 0)
            self.assertFalse(self.quick(came(200, ("ETag", '"a"'))))
            self.assertMasked(self.failed())

    def test_number(self) -> None:
        """There are only so many marks; one more, and all of them are made anew."""
        self.patch(lastgood, "MAX_MARKS", 3)
        for n in range(3):
            self.learn(target=f"/{n}")
        self.assertEqual(self.marked(), 3)
        self.learn(target="/3")
        self.assertEqual(self.marked(), 1)
        for n in range(3):
            self.assertMasked(self.failed(target=f"/{n}"))
            self.assertEqual(
                [self.quick(came(200), target=f"/{n}") for _ in range(2)], [False, True]
            )
            self.assertLessEqual(self.marked(), 3)

    def test_long(self) -> None:
        """Lines that are too long to be shared are held on to by no mark."""
        long = "x" * MAX_SHARED
        cases: list[tuple[dict[str, Any], tuple[tuple[str, str], ...]]] = [
            ({"target": "/" + long}, ()),
            ({"x": long}, ()),
            ({}, (("X-A", long),)),
        ]
        for fields, lines in cases:
            self.made()
            for _ in range(3):
                self.assertFalse(self.quick(came(200, *lines), **fields))
            self.assertEqual(self.marked(), 0)
            self.assertMasked(self.failed(**fields))

    @profile(max_examples=200, deadline=None, database=None, derandomize=True)
    @given(
        st.lists(
            st.tuples(
                st.integers(0, 12),
                st.integers(0, 13),
                st.integers(1, 4),
                st.sampled_from([0, 0, 0, 9, 200]),
            ),
            max_size=20,
        )
    )
    def runs(self, steps: list[tuple[int, int, int, int]]) -> None:
        """Show the same to two policies, one of which gets no lines that could be marked."""
        clock = Clock()
        marking, _ = both = [
            LastGood(
                seconds=clock.seconds,
                budget=100,
                maxBytes=8000,
                despite=frozenset(["partial"]),
            )
            for _ in range(2)
        ]
        self.policy = marking
        for question, answer, times, seconds in steps:
            for _ in range(times):
                clock.advance(seconds)
                self.assertEqual(
                    *(self.shows(each, each is marking, question, answer) for each in both)
                )
                self.marked()

    def shows(self, policy: LastGood, marking: bool, question: int, answer: int) -> Any:
        """Show a response to a policy; what comes of it, and all that the policy knows then."""
        exchange, response, body = self.step(question, answer)
        if not marking:
            self.assertIsNot(exchange.request.headers.fields, response.headers.fields)
        wanted = response.status in policy.statuses and policy.isInterested(exchange, response)
        self.glances += (1 if marking else -1) * (response.status == 200 and not wanted)
        sent = None
        if wanted:
            response.body = body
            sent = policy.responseReceived(exchange, response)
        for bodyFilter, _ in response.filters or ():
            for piece in body, b"":
                bodyFilter(piece)
        held = [
            (key, [(each.status, each.fields, each.body, each.since) for each in variants])
            for key, variants in policy._store._variants.items()
        ]
        budget = policy._budget
        return (
            sent and (sent.status, list(sent.headers), sent.body),
            (policy.size, held),
            (budget._began, budget._balance, budget._since),
        )

    def step(self, question: int, answer: int) -> tuple[Asked, Response, bytes]:
        """A request and a response to it, whose body may be yet to come."""
        exchange = (
            [wired, wired, wired, lambda: wired("/b"), lambda: wired(x="1"), lambda: wired(x="2")]
            + [lambda: wired(method="HEAD"), lambda: wired(method="DELETE")]
            + [lambda: wired(cookie="a"), lambda: wired(cache_control="no-store")]
            + [lambda: wired(body=b"b"), lambda: wired(range="bytes=0-1"), lambda: wired()]
        )[question]()
        exchange.secure = question == 12
        lines: list[tuple[tuple[str, str], ...]] = [
            (),
            (),
            (),
            (("Vary", "X"),),
            (("ETag", '"a"'),),
            (("Cache-Control", "private"),),
            (("Cache-Control", "public"),),
        ]
        if answer < 7:
            response = came(200, *lines[answer])
        elif answer < 11:
            response = came((503, 404, 304, 206)[answer - 7], ("ETag", '"a"'))
        else:
            response = came(200, body=b"else" if answer == 11 else b"good")
        body = response.body or b""
        if answer == 12:
            response.body = None
        elif answer == 13:
            response.addFilter(bytes.upper)
        return exchange, response, body

    def test_nothingElse(self) -> None:
        """Whatever comes, the same is kept, counted and sent as without marks."""
        self.glances = 0
        self.runs()
        self.assertGreater(self.glances, 20)


class BudgetTests(LastGoodTests):
    """The mask comes off when failures prevail for too long."""

    def setUp(self) -> None:
        LastGoodTests.setUp(self)
        self.made(maxAge=100_000, budget=600)

    def minutes(self, count: int, good: int, failed: int) -> int:
        """So many minutes with so many responses of each kind in each; how many were masked."""
        masked = 0
        for _ in range(count * 6):
            for _ in range(good):
                self.keep()
            masked += sum(self.failed().status == 200 for _ in range(failed))
            self.clock.advance(WINDOW)
        return masked

    def test_outage(self) -> None:
        """An outage is masked for as long as the budget says, and no longer."""
        self.keep()
        self.clock.advance(WINDOW)
        self.assertEqual(self.minutes(10, 0, 1), 60)
        self.assertEqual(self.minutes(100, 0, 1), 0)

    def test_flapping(self) -> None:
        """A response that gets through now and then doesn't begin the budget anew."""
        self.keep()
        self.clock.advance(WINDOW)
        self.assertEqual(self.minutes(10, 1, 9), 60 * 9)
        self.assertEqual(self.minutes(10, 1, 9), 0)

    def test_half(self) -> None:
        """As many good responses as failures are no recovery."""
        self.keep()
        self.clock.advance(WINDOW)
        self.minutes(11, 1, 1)
        self.assertEqual(self.minutes(10, 1, 1), 0)

    def test_someFailures(self) -> None:
        """Failures that good responses outweigh are masked for ever."""
        self.assertEqual(self.minutes(60, 3, 2), 360 * 2)

    def test_over(self) -> None:
        """When good responses prevail again, so does the mask."""
        self.keep()
        self.clock.advance(WINDOW)
        self.minutes(11, 0, 1)
        self.minutes(1, 2, 0)
        self.assertEqual(self.minutes(10, 0, 1), 60)
        self.assertEqual(self.minutes(1, 0, 1), 0)

    def test_confirmationsAreGood(self) -> None:
        """A 304 shows as well as a 200 that the upstream is there again."""
        self.keep(("ETag", '"a"'))
        self.clock.advance(WINDOW)
        self.minutes(11, 0, 1)
        self.response(asked(), responded(304, ("ETag", '"a"')))
        self.clock.advance(WINDOW)
        self.assertMasked(self.failed())

    def test_quiet(self) -> None:
        """Where nobody asks nothing gets better: a quiet outage ends the mask as well."""
        self.keep()
        self.clock.advance(WINDOW)
        self.assertMasked(self.failed())
        self.clock.advance(599)
        self.assertMasked(self.failed())
        self.clock.advance(1)
        self.assertNotMasked(self.failed())

    def test_onlyWhatCouldBeMasked(self) -> None:
        """Failures for which there is no mask don't use up the budget of the others."""
        self.keep()
        for _ in range(70):
            self.failed(target="/never-good")
            self.clock.advance(WINDOW)
        self.assertMasked(self.failed())

    def test_warning(self) -> None:
        """That the mask comes off is said once for each outage, with its length."""
        events: list[dict[str, Any]] = []
        self.patch(type(self.policy._budget), "log", _Log(events))
        for _ in range(2):
            self.minutes(1, 2, 0)
            self.minutes(12, 0, 1)
        self.assertEqual([each["lasted"] for each in events], [600, 600])


class _Log:
    """Notes down what is logged."""

    def __init__(self, events: list[dict[str, Any]]) -> None:
        self._events = events

    def warn(self, form: str, **fields: Any) -> None:
        self._events.append({"text": form.format(**fields), **fields})


class DescriptionTests(LastGoodTests):
    """What an operator may write."""

    def test_defaults(self) -> None:
        """Without options it works."""
        self.policy = makePolicy()
        self.keep()
        self.assertMasked(self.failed())

    def test_options(self) -> None:
        """Each option arrives where it belongs."""
        for options, answer in (
            ({"statuses": "500,502-503"}, responded(504)),
            ({"maxBytes": "1000"}, responded(503)),
            ({"maxResponse": "3"}, responded(503)),
        ):
            self.policy = makePolicy(**options)
            self.keep()
            self.assertNotEqual(self.response(asked(), answer).status, 200, options)
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
        self.assertEqual((policy._maxAge, policy._budget._budget), (7, 11))

    def test_refused(self) -> None:
        """A bad value is named in one sentence, with what is expected."""
        for options, words in (
            ({"maxAge": "soon"}, "max-age=soon: a whole number from 1 to 604800 is expected"),
            ({"maxAge": "0"}, "max-age=0: a whole number"),
            ({"maxAge": "-1"}, "max-age=-1: a whole number"),
            ({"maxAge": "1e3"}, "max-age=1e3: a whole number"),
            ({"maxAge": "604801"}, "max-age=604801: a whole number"),
            ({"budget": "9"}, "budget=9: a whole number from 10 to"),
            ({"maxBytes": "16M"}, "max-bytes=16M: a whole number"),
            ({"maxResponse": "9" * 5000}, "max-response=9+: a whole number"),
            ({"statuses": "200"}, "'200' is no error status: 404, 500-504 or 5xx"),
            ({"statuses": "503,"}, "'' is no error status"),
            (
                {"statuses": "504-502"},
                "'504-502' is no range of statuses: the lower one comes first",
            ),
            ({"personal": "a b"}, "'a b' is no field name"),
            ({"despite": "cokie"}, "despite=cokie: 'cokie' is none of .*cookie"),
        ):
            with self.assertRaisesRegex(ValueError, words):
                makePolicy(**options)

    def test_despiteAll(self) -> None:
        """Every word that forbids can be lifted."""
        for word in FORBIDDING | PERSONAL:
            makePolicy(despite=word)


class SidecarTests(SynchronousTestCase):
    """The policy within a whole sidecar."""

    def setUp(self) -> None:
        self.runner = Runner("last-good:max-age=100", settings=Settings(bufferLimit=1000))

    def test_failures(self) -> None:
        """Whatever goes wrong is masked, and the true status is known."""
        good = response(200, text="good" * 20)
        for pieces in (None, 7):
            self.runner.run(request("/"), good, pieces=pieces)
            for mishap, status in (
                (response(503, text="bad"), 503),
                (refused(), 502),
                (reset(), 502),
                (silence(), 504),
                (brokenOff(good), 502),
            ):
                outcome = self.runner.run(request("/"), mishap, pieces=pieces)
                self.assertEqual((outcome.status, outcome.text), (200, "good" * 20), mishap)
                self.assertEqual(outcome.exchange.upstreamStatus, status)
                self.assertEqual(outcome.exchange.acted, ("last-good",))
                self.assertIn(f"fwd-status={status};", outcome.headers["Cache-Status"])

    def test_head(self) -> None:
        """The mask for HEAD has no body, and the length of the one left out."""
        self.runner.run(request("/"), response(200, text="good"))
        outcome = self.runner.run(request("/", "HEAD"), refused())
        self.assertEqual((outcome.status, outcome.body), (200, b""))
        client = self.runner.harness.connect()
        self.runner.harness.refuseConnections()
        client.sends(b"HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        head = client.got().lower()
        self.assertEqual(head.count(b"\r\ncontent-length: 4\r\n"), 1, head)
        self.assertTrue(head.endswith(b"\r\n\r\n"))

    def test_conditional(self) -> None:
        """A conditional request that is masked gets a 304 without a body or a length."""
        self.runner.run(request("/"), response(200, text="good", headers={"ETag": '"a"'}))
        outcome = self.runner.run(request("/", headers={"If-None-Match": '"a"'}), refused())
        self.assertEqual((outcome.status, outcome.body, outcome.whole), (304, b"", True))

    def test_stream(self) -> None:
        """What comes in chunks reaches the client as it comes, and is kept all the same."""
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
        self.assertEqual(self.runner.run(request("/"), refused()).text, "good")

    def test_brokenStream(self) -> None:
        """What comes in chunks and breaks off is not kept."""
        harness = self.runner.harness
        client = harness.connect()
        client.sends(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        harness.acceptConnections()
        upstream = harness.upstream()
        upstream.sends(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\ngo\r\n")
        upstream.closes()
        harness.settle()
        self.assertTrue(client.reset or client.closed)
        self.assertEqual(self.runner.run(request("/"), refused()).status, 502)

    def test_overTheBufferLimit(self) -> None:
        """A response too long to be buffered passes, whole, and is not kept."""
        long = response(200, body=bytes(2000))
        outcome = self.runner.run(request("/"), long, pieces=100)
        self.assertEqual((outcome.status, outcome.body), (200, bytes(2000)))
        self.assertEqual(self.runner.run(request("/"), refused()).status, 502)

    def test_time(self) -> None:
        """The age is told by the clock of the sidecar."""
        self.runner.run(request("/"), response(200, text="good"))
        self.runner.advance(100)
        self.assertEqual(self.runner.run(request("/"), refused()).headers["Age"], "100")
        self.runner.advance(1)
        self.assertEqual(self.runner.run(request("/"), refused()).status, 502)
