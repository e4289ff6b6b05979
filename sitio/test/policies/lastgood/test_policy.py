"""
Tests of L{sitio.policies.lastgood.policy}.
"""

from __future__ import annotations

from inspect import getclosurevars
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from sitio.http.caching import CREDENTIAL_FIELDS, PERSONAL_FIELDS
from sitio.http.message import Response
from sitio.policies.lastgood import mask
from sitio.policies.lastgood.lookup import MAX_LIST_BYTES, MAX_LISTS
from sitio.policies.lastgood.store import MAX_VARIANTS
from sitio.settings import Settings
from sitio.test.helpers.lastgood import LATER, STALE, WAS, LastGoodTestCase
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
            exchange.request.content = body
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
        for length, isInterested in ((10, True), (11, False)):
            response = upstreamResponse(200, body=bytes(length))
            response.body = None
            self.assertEqual(self.policy.isInterested(exchangeFor(), response), isInterested)

    def test_arrived(self) -> None:
        """
        A response that has arrived whole is stored by then, and held up no further; a policy
        that is asked once more stores the same.
        """
        for isSet in (False, True):
            self.make()
            response = upstreamResponse(200, body=b"good")
            if not isSet:
                response.arrived, response.body = b"good", None
            exchange = exchangeFor()
            self.assertFalse(self.policy.isInterested(exchange, response))
            self.assertEqual(exchange.notes, {})
            size = self.policy.size
            self.assertGreater(size, 0)
            self.assertIsNone(self.policy.responseReceived(exchange, response))
            self.assertEqual(self.policy.size, size)
            self.assertMasked(self.failed())


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
            ("Content-Range", "bytes 0-3/9"),
        ):
            self.keep(line)
            self.assertEqual(self.policy.size, 0, line)

    def test_credentials(self) -> None:
        """
        A response that hands out a credential is for one client; with C{despite} the response is
        stored, and the credential is not sent again.
        """
        for name in sorted(CREDENTIAL_FIELDS):
            for each in (name.decode(), name.decode().title()):
                for said in ("public", "max-age=60"):
                    self.make()
                    self.keep((each, "a"), ("Cache-Control", said))
                    self.assertEqual(self.policy.size, 0, each)
            self.make(despite=frozenset(("set-cookie",)))
            self.keep((name.decode().title(), "a"), ("X-A", "1"))
            answer = self.failed()
            self.assertMasked(answer)
            self.assertEqual(answer.headers["X-A"], "1")
            self.assertNotIn(name.decode(), answer.headers)

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

    def test_remembered(self) -> None:
        """
        What services say of storing is remembered for few responses, without their cookies; a
        response that says the same is judged alike.
        """
        judged = self.policy._rules._judged
        for n in range(MAX_LISTS + 8):
            for said, size in (("max-age", 1), ("private, a", 0), ("private, " + "a" * 2000, 0)):
                self.make()
                self.policy._rules._judged = judged
                for _ in range(2):
                    self.keep(("Cache-Control", f"{said}={n}"))
                    self.assertEqual(self.policy.size > 0, size > 0)
            self.assertLessEqual(len(judged), MAX_LISTS)
        self.keep(("Set-Cookie", "a=s3cret"), ("Vary", "Accept"))
        self.keep(("Vary", "Accept"))
        self.assertGreater(self.policy.size, 0)
        self.assertLessEqual(max(map(len, judged)), MAX_LIST_BYTES)
        self.assertFalse([each for each in judged if b"s3cret" in each])

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
        # Malformed, but meant.
        for said in ("NO-STORE", "max-age=0;no-store", 'x="no-store"', "a=b no-store"):
            self.assertNotMasked(self.failed(cache_control=said))

    def test_longRequest(self) -> None:
        """The directives of a long Cache-Control of a client are not parsed."""
        self.keep()
        parsed: list[bytes | None] = []

        def parse(value: bytes | None) -> dict[bytes, bytes]:
            parsed.append(value)
            return {}

        self.patch(mask, "directives", parse)
        self.assertMasked(self.failed(cache_control=", ".join(f"a{n}" for n in range(1000))))
        self.assertEqual(parsed, [None, None])


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
            [each for each in answer.headers.allItems() if each[0] != "Date"],
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
            answer.headers.allItems()[:-1],
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

    def test_outdated(self) -> None:
        """
        A 304, or the response to a HEAD, with another validator drops the older response
        (RFC 9111, sections 4.3.4 and 4.3.5).
        """
        both = (("ETag", '"a"'), ("Last-Modified", WAS))
        weak = (("ETag", 'W/"a"'),)
        dated = (("Last-Modified", LATER),)
        for lines, said, dropped in (
            (both, (("ETag", '"b"'),), True),
            (both, (("ETag", '"a"'),), False),
            (both, (("ETag", 'W/"a"'),), False),
            (weak, (("ETag", '"a"'),), False),
            (weak, (("ETag", 'W/"b"'),), True),
            (both, (("ETag", '"a"'), ("Last-Modified", LATER)), False),
            (both, (("Last-Modified", LATER),), True),
            (dated, (("Last-Modified", WAS),), False),
            (dated, (("Last-Modified", "soon"),), True),
            (both, (), False),
            ((), (("ETag", '"b"'),), False),
        ):
            for status, method in ((304, "GET"), (304, "HEAD"), (200, "HEAD")):
                self.make()
                self.keep(*lines)
                response = upstreamResponse(status, *said, body=b"")
                self.response(exchangeFor(method=method), response)
                self.assertEqual(self.policy.size == 0, dropped, (lines, said, status, method))
        for tags, dropped in (('"b"', True), ('"a"', False), ('"b", "a"', False), ("*", False)):
            self.make()
            self.keep(*both)
            self.response(exchangeFor(if_none_match=tags), upstreamResponse(304))
            self.assertEqual(self.policy.size == 0, dropped, tags)

    def test_outdatedHead(self) -> None:
        """A HEAD whose response must not be stored drops the older one as a GET does."""
        for line in (("Cache-Control", "private"), ("Set-Cookie", "a=b"), ("Vary", "*")):
            self.make()
            self.keep()
            self.response(exchangeFor(method="HEAD"), upstreamResponse(200, line))
            self.assertEqual(self.policy.size, 0, line)

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
            for each in response.filters or ():
                self.assertTrue(each.keepsLength)
                self.assertEqual(each.bodyFilter(piece), piece)
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
        """A body that another policy's filter may change is not stored."""
        for length in (4, None):
            response = upstreamResponse(200, body=b"good")
            response.addFilter(bytes.upper)
            response.length = length
            response.body = None if length is None else b"good"
            self.assertFalse(self.policy.isInterested(exchangeFor(), response))
            self.assertEqual(len(response.filters or ()), 1)
            self.assertNotMasked(self.failed())

    def test_notForAll(self) -> None:
        """A response that must not be stored is not collected."""
        self.assertIsNone(self.stream(b"mine", b"", cookie="session=me").filters)


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


class HandoverTests(LastGoodTestCase):
    """A new policy goes on with what the old one has stored."""

    def replaced(self, **options: Any) -> None:
        """Put a policy with other options in the place of this one."""
        before = self.policy
        self.make(**options)
        self.policy.takeState(before.giveState())

    def test_kept(self) -> None:
        """It masks with what was stored before; what comes now is stored as well."""
        self.keep()
        self.replaced(maxAge=50)
        self.assertMasked(self.failed())
        self.clock.advance(51)
        self.assertNotMasked(self.failed())
        self.keep()
        self.assertMasked(self.failed())

    def test_smaller(self) -> None:
        """What is over its own bound is dropped."""
        self.keep()
        self.replaced(maxBytes=1)
        self.assertEqual(self.policy.size, 0)
        self.assertNotMasked(self.failed())

    def test_otherRules(self) -> None:
        """What was stored by other rules is not sent by these."""
        self.keep()
        self.replaced(personal=frozenset(["x-user"]))
        self.assertNotMasked(self.failed())

    def test_unsafe(self) -> None:
        """What a request changes that began before is forgotten by the new one."""
        self.keep()
        before = self.policy
        self.replaced()
        before.responseReceived(exchangeFor(method="DELETE"), upstreamResponse(204))
        self.assertNotMasked(self.failed())
