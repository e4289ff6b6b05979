"""
Tests of L{sitio.policies.errorpage}.

L{FakeExchange}, the exchange that tests of policies hand in, stands here too.
"""

from __future__ import annotations

import json
import os
from email.utils import parsedate_to_datetime
from html.parser import HTMLParser
from pathlib import Path

from hypothesis import given, strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from sitio.http.message import Response, parseStatuses
from sitio.interfaces import IResponsePolicy
from sitio.policies.errorpage import (
    MAX_ACCEPT_BYTES,
    MAX_ACCEPT_MEMBERS,
    MAX_FILE_BYTES,
    MAX_SHOWN_CHARACTERS,
    ErrorPage,
    formatFor,
    makePolicy as declared,
    negotiated,
)
from sitio.test.helpers.policies import FakeExchange, exchangeFor, fromText, upstreamResponse
from sitio.testing import connectionRefused, request, response, runPolicy
from sitio.testing.harness import Harness

#: Makes a policy of the texts of a description.
makePolicy = fromText(declared)

CHROME = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"


HTML, JSON, PROBLEM = "text/html", "application/json", "application/problem+json"

#: Accept fields, and what they want; L{None} if all is alike.
ACCEPT = (
    (CHROME, HTML),
    ("", None),
    ("*/*", None),
    ("*", None),
    ("*/*;q=0.1", None),
    ("image/png", None),
    (",;,", None),
    ("application/jsonp", None),
    ("text/html", HTML),
    ("text/*", HTML),
    ("text/html, application/json", HTML),
    ("application/json, text/html", HTML),
    ("application/json", JSON),
    ("Application/JSON", JSON),
    ("application/json;charset=utf-8", JSON),
    ("application/json, text/plain, */*", JSON),
    ("application/*", JSON),
    # Weights.
    ("application/json;q=0.9, text/html;q=0.8", JSON),
    ("application/json;q=0.8, text/html;q=0.9", HTML),
    ("application/json;q=0.8, text/*;q=0.9", HTML),
    ("application/json ; q=0.8 , */* ; q=0.7", JSON),
    ("application/json;Q=0.1, text/html", HTML),
    ("text/html;q=0.1, */*;q=0.9", JSON),
    ("application/json;q=0.001", JSON),
    # Not acceptable.
    ("application/json;q=0, */*", HTML),
    ("application/json;q=0.000, */*", HTML),
    ("text/html;q=0, */*", JSON),
    ("text/*;q=0, */*", JSON),
    ("application/json;q=0, text/html;q=0", HTML),
    ("application/json;q=0, */*;q=0", HTML),
    ("application/json;q=0, application/vnd.api+json", HTML),
    ("text/html;level=1;q=0, text/html;q=0.5, application/json;q=0.3", HTML),
    # Malformed weights: the member is left out.
    ("application/json;q=2, text/html;q=0.5", HTML),
    ("application/json;q=nan, text/html;q=0.1", HTML),
    ("application/json;q=-1, text/html;q=0.1", HTML),
    ("application/json;q=.9, text/html;q=0.1", HTML),
    ("application/json;q=0.1234, text/html;q=0.1", HTML),
    ("application/json;q=, text/html;q=0.1", HTML),
    ("application/json;q, text/html;q=0.1", HTML),
    ("application/json;q=1;q=0.1, text/html;q=0.1", HTML),
    ("text, application/json;q=0.1", JSON),
    ("text/html/x, application/json;q=0.1", JSON),
    # Parameters: a range with others is about another type.
    ("text/html;level=1;q=0.1, text/html, application/json;q=0.5", HTML),
    ("text/html, text/html;level=1;q=0.1, application/json;q=0.5", HTML),
    ("text/html;q=0.1, text/html;level=1, application/json;q=0.5", JSON),
    ("text/html;charset=utf-8;q=0.1, text/html, application/json;q=0.5", JSON),
    ("text/html;charset=UTF-8, application/json;q=0.5", HTML),
    ("text/html;level=1, application/json;q=0.5", HTML),
    ("text/html;q=0.5;level=1, application/json;q=0.6", JSON),
    ("application/json;odata=verbose", JSON),
    ("application/json;v=2;q=0.9, application/json;q=0.1, text/html;q=0.5", HTML),
    ("application/json;v=1;q=0, text/html;q=0.5, application/json", JSON),
    ('text/html;a="x, application/json", application/json;q=0.5', HTML),
    ('text/html;a="x;q=0", application/json;q=0.5', HTML),
    ('text/html;a="\\";q=0", application/json;q=0.5', HTML),
    ('application/json;a="', JSON),
    # Other types in JSON.
    (PROBLEM, PROBLEM),
    ("application/problem+json, application/json", JSON),
    ("application/problem+json, application/json;q=0.9", PROBLEM),
    ("application/problem+json;q=0.5, */*;q=0.4", PROBLEM),
    ("application/problem+json;q=0.5, */*", None),
    ("application/problem+json, text/html", HTML),
    ("application/problem+json;q=0, application/json", JSON),
    ("application/json;q=0, application/problem+json", PROBLEM),
    ("application/vnd.api+json", JSON),
    ("application/vnd.github.v3+json", JSON),
    ("application/ld+json;profile=x, text/html;q=0.5", JSON),
    ("application/hal+json;q=0.5, text/html", HTML),
    ("application/hal+json, application/problem+json;q=0.5", PROBLEM),
    ("application/geo+json, */*;q=0.1", JSON),
    ("text/json", JSON),
    ("application/x+jsonp", None),
)

#: Fields that stay: with which status, name and value.
STAY = """
    any Critical-CH Sec-CH-UA-Model
    401 Optional-WWW-Authenticate Basic realm="a"
    401 Authentication-Control auth-style=modal
    401 Docker-Distribution-Api-Version registry/2.0
    403 CF-Mitigated challenge
    429 X-Sentry-Rate-Limits 60:error:key
    any Akamai-GRN 0.1
    any Fly-Request-Id 1
    any X-Amz-Cf-Id 1
    any X-Azure-Ref 1
    any X-Vercel-Id 1
    401 WWW-Authenticate Basic realm="a"
    401 DPoP-Nonce eyJ7S_zG
    400 DPoP-Nonce eyJ7S_zG
    401 Authentication-Info nextnonce="a"
    403 Secure-Session-Challenge "a"
    407 Proxy-Authenticate Basic
    407 Proxy-Authentication-Info nextnonce="a"
    400 Replay-Nonce 6S8I
    405 Allow GET
    any Allow GET
    413 Retry-After 7
    429 Retry-After 7
    503 Retry-After 7
    429 retry-after-ms 70
    429 RateLimit "a";r=0;t=7
    429 RateLimit-Policy "a";q=9
    429 RateLimit-Limit 9
    429 RateLimit-Remaining 0
    429 RateLimit-Reset 7
    429 X-RateLimit-Limit 9
    429 X-RateLimit-Reset 7
    429 X-Rate-Limit-Remaining 0
    415 Accept application/json
    415 Accept-Encoding gzip
    415 Accept-Patch application/json-patch+json
    415 Accept-Post text/turtle
    415 Accept-Query application/sql
    400 Want-Content-Digest sha-256=1
    400 Want-Repr-Digest sha-256=1
    401 Accept-Signature a=()
    416 Content-Range bytes */47
    426 Sec-WebSocket-Version 13
    400 Sec-WebSocket-Version 13, 8
    451 Link <https://a.example>; rel="blocked-by"
    412 Tus-Resumable 1.0.0
    412 Tus-Version 1.0.0,0.2.2
    413 Tus-Max-Size 1000
    404 Tus-Extension creation
    409 Upload-Offset 70
    409 Upload-Complete ?0
    410 Upload-Expires Wed, 25 Jun 2014 16:00:00 GMT
    409 Location /uploads/7
    402 Payment-Required e30=
    400 api-supported-versions 1.0
    410 Sunset Sat, 31 Dec 2025 23:59:59 GMT
    410 Deprecation @1688169599
    423 DAV 1
    any Warning 299 - "old"
    any Cache-Control max-age=60
    any Age 30
    any Expires 0
    any Pragma no-cache
    any Vary Origin
    any Cache-Status a; hit
    any CDN-Cache-Control max-age=7
    any A-CDN-Cache-Control max-age=7
    any Surrogate-Control max-age=7
    any Surrogate-Key a b
    any Cache-Tag a
    any Set-Cookie session=; Max-Age=0
    any Clear-Site-Data "cookies"
    any Strict-Transport-Security max-age=7
    any X-Frame-Options DENY
    any X-Content-Type-Options nosniff
    any Referrer-Policy no-referrer
    any Permissions-Policy camera=()
    any Cross-Origin-Resource-Policy same-origin
    any Cross-Origin-Opener-Policy same-origin
    any Cross-Origin-Embedder-Policy require-corp
    any X-Robots-Tag noindex
    any Alt-Svc h3=":443"
    any NEL {}
    any Report-To {}
    any Reporting-Endpoints a="/r"
    any Timing-Allow-Origin *
    any Access-Control-Allow-Origin *
    any Access-Control-Allow-Credentials true
    any Access-Control-Allow-Headers X-A
    any Access-Control-Allow-Methods PUT
    any Access-Control-Expose-Headers Retry-After
    any Access-Control-Max-Age 600
    any Access-Control-Allow-Private-Network true
    any Proxy-Status a; error=connection_timeout
    any Server-Timing db;dur=53
    any Via 1.1 a
    any traceparent 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01
    any tracestate a=b
    any traceresponse 00-0af7
    any X-Request-Id 7
    any X-Correlation-Id 7
    any X-B3-TraceId 7
    any X-Amzn-Trace-Id Root=1
    any CF-Ray 7
    any grpc-status 14
"""

#: Fields that go.
GO = """
    Server Date ETag Last-Modified Accept-Ranges Trailer
    Content-Type Content-Encoding Content-Language Content-Location Content-Disposition
    Content-Range Content-MD5 Content-Digest Repr-Digest Digest Content-Security-Policy
    Content-Security-Policy-Report-Only Content-Script-Type Link Refresh SourceMap Signature
    Signature-Input Preference-Applied X-Powered-By X-AspNet-Version X-Runtime X-Debug-Token
    X-Backend-Server X-Generator X-Varnish X-Anything Origin-Trial Default-Style
"""


class _Outline(HTMLParser):
    """Parses a page: its tags, and the text in each."""

    def __init__(self, page: bytes) -> None:
        HTMLParser.__init__(self)
        self.tags: list[str] = []
        self.texts: dict[str, str] = {}
        self.feed(page.decode("utf-8"))

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        # Before the first tag there is a line end.
        if self.tags:
            self.texts[self.tags[-1]] = self.texts.get(self.tags[-1], "") + data.strip()


def answerOf(
    policy: ErrorPage, exchange: FakeExchange | None = None, response: Response | None = None
) -> Response:
    """The response that a policy returns."""
    answer = policy.responseReceived(exchange or exchangeFor(), response or upstreamResponse(404))
    assert answer is not None
    return answer


class PageTests(SynchronousTestCase):
    """The built-in page."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(784111777)
        self.policy = ErrorPage(frozenset((404,)), seconds=self.clock.seconds)

    def body(self, exchange: FakeExchange, response: Response) -> bytes:
        """The body of the response that the policy returns."""
        body = self.answer(exchange, response).body
        assert body is not None
        return body

    def answer(self, exchange: FakeExchange, response: Response) -> Response:
        """The response that the policy returns."""
        return answerOf(self.policy, exchange, response)

    def test_interface(self) -> None:
        """It is a response policy that needs no body."""
        verifyObject(IResponsePolicy, self.policy)
        self.assertFalse(self.policy.buffered)

    def test_html(self) -> None:
        """A browser gets an HTML page with title, picture, status, reason and path."""
        answer = self.answer(exchangeFor("/no.jpg?key=s3cret"), upstreamResponse(404))
        self.assertEqual((answer.status, answer.reason), (404, "Not Found"))
        self.assertEqual(
            answer.headers.allItems(),
            [
                ("Server", "Sitio"),
                ("Date", "Sun, 06 Nov 1994 08:49:37 GMT"),
                ("Content-Type", "text/html; charset=utf-8"),
                ("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'"),
                ("Vary", "Accept"),
            ],
        )
        assert answer.body is not None
        page = _Outline(answer.body)
        self.assertEqual(page.texts["title"], "404 Not Found")
        self.assertEqual(page.texts["h1"], "404 Not Found")
        self.assertEqual(page.texts["code"], "/no.jpg")
        self.assertIn("svg", page.tags)
        self.assertNotIn(b"s3cret", answer.body)

    def test_selfContained(self) -> None:
        """The page loads nothing, and its Content-Security-Policy allows its own style."""
        page = self.body(exchangeFor(), upstreamResponse(404))
        for each in (b"src=", b"href=", b"url(", b"@import", b"style=", b"<script"):
            self.assertNotIn(each, page)

    def test_noFraming(self) -> None:
        """The framing fields of the replaced response are not copied."""
        answer = self.answer(exchangeFor(), upstreamResponse(404))
        self.assertNotIn(b"content-length", [name.lower() for name, _ in answer.headers.rawFields])
        self.assertIsNone(answer.length)

    def test_dateOfNow(self) -> None:
        """Date is the time of the response, not of the start."""
        dates = []
        for seconds in (0, 0.5, 90):
            self.clock.advance(seconds)
            answer = self.answer(exchangeFor(), upstreamResponse(404))
            dates.append(parsedate_to_datetime(answer.headers["Date"]).timestamp())
        self.assertEqual(dates, [784111777, 784111777, 784111867])

    def test_json(self) -> None:
        """A client that prefers JSON gets status, reason and path as JSON."""
        answer = self.answer(
            exchangeFor('/a"b?c=d', accept="application/json"), upstreamResponse(404)
        )
        self.assertEqual(answer.headers["Content-Type"], "application/json")
        self.assertEqual(answer.headers["Vary"], "Accept")
        assert answer.body is not None
        self.assertEqual(
            json.loads(answer.body), {"status": 404, "error": "Not Found", "path": '/a"b'}
        )

    def test_acceptInSeveralLines(self) -> None:
        """Several Accept lines are one list; similar fields are ignored."""
        exchange = exchangeFor(accept="text/html;q=0.5", cookie="application/json")
        self.assertIn(b"<html", self.body(exchange, upstreamResponse(404)))
        exchange.request.headers.add("ACCEPT", "application/json")
        self.assertIn(b'"status"', self.body(exchange, upstreamResponse(404)))

    def test_acceptTooLong(self) -> None:
        """An Accept field over the limit counts as none."""
        length = "application/json;" + "a" * (MAX_ACCEPT_BYTES - 17)
        members = "application/json" + ",a/b" * (MAX_ACCEPT_MEMBERS - 1)
        for accept in (length, members):
            self.assertIn(b'"status"', self.body(exchangeFor(accept=accept), upstreamResponse(404)))
            exchange = exchangeFor(accept=accept + ",")
            self.assertIn(b"<html", self.body(exchange, upstreamResponse(404)))

    @given(st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=40))
    def test_escaped(self, path: str) -> None:
        """Any path and reason is escaped in HTML and JSON."""
        policy = ErrorPage(frozenset((404,)))
        response = upstreamResponse(404)
        response.reason = f"<b>{path}&amp;"
        shown = f"/{path}".partition("?")[0]
        html = answerOf(policy, exchangeFor(f"/{path}"), response).body
        assert html is not None
        page = _Outline(html)
        self.assertEqual(page.texts["code"], shown)
        self.assertEqual(page.texts["title"], f"404 {response.reason}")
        self.assertNotIn("b", page.tags)
        data = answerOf(policy, exchangeFor(f"/{path}", accept="application/json"), response).body
        assert data is not None
        self.assertEqual(json.loads(data), {"status": 404, "error": response.reason, "path": shown})

    def test_reason(self) -> None:
        """
        The upstream's reason is sent and shown; without one the page shows the
        registered one.
        """
        response = upstreamResponse(404)
        response.reason = "Gone fishing"
        answer = self.answer(exchangeFor(), response)
        self.assertEqual(answer.reason, "Gone fishing")
        self.assertIn(b"<title>404 Gone fishing</title>", answer.body or b"")
        response.reason = ""
        answer = self.answer(exchangeFor(), response)
        self.assertEqual(answer.reason, "")
        self.assertIn(b"<title>404 Not Found</title>", answer.body or b"")

    def test_unregisteredStatus(self) -> None:
        """An unregistered status gets a page as well."""
        response = upstreamResponse(404)
        response.status, response.reason = 499, ""
        self.assertIn(b"<title>499 Error</title>", self.body(exchangeFor(), response))

    def test_sentences(self) -> None:
        """The sentence on the page depends on the status."""
        for status, words in (
            (404, b"no such page"),
            (418, b"request could not be served"),
            (500, b"went wrong on our side"),
            (503, b"is not available"),
        ):
            self.assertIn(words, self.body(exchangeFor(), upstreamResponse(status)))

    def test_bounded(self) -> None:
        """A very long path or reason is cut on the page."""
        response = upstreamResponse(404)
        response.reason = "r" * 5000
        page = _Outline(self.body(exchangeFor("/" + "p" * 5000), response))
        self.assertEqual(page.texts["code"], "/" + "p" * (MAX_SHOWN_CHARACTERS - 1))
        self.assertEqual(page.texts["h1"], "404 " + "r" * MAX_SHOWN_CHARACTERS)

    def test_fieldsThatStay(self) -> None:
        """The fields of the message are kept: all lines of them, as they were."""
        lines = []
        for line in STAY.strip().splitlines():
            status, name, value = line.split(None, 2)
            statuses = [404, 503] if status == "any" else [int(status)]
            for each in statuses:
                response = upstreamResponse(each, (name, value), (name.lower(), "second"))
                answer = self.answer(exchangeFor(), response)
                self.assertEqual(
                    answer.headers.allItems()[-2:], [(name, value), (name.lower(), "second")], line
                )
            lines.append(name)
        self.assertGreater(len(lines), 80)

    def test_fieldsThatGo(self) -> None:
        """Fields of the replaced body, or of the service, are removed; the page has its own."""
        names = GO.split()
        fields = [(name, "theirs") for name in names]
        answer = self.answer(exchangeFor(), upstreamResponse(404, *fields))
        self.assertEqual(
            [name for name, _ in answer.headers.allItems()],
            ["Server", "Date", "Content-Type", "Content-Security-Policy", "Vary"],
        )
        self.assertNotIn("theirs", [value for _, value in answer.headers.allItems()])
        self.assertEqual(answer.headers["Server"], "Sitio")
        self.assertGreater(len(names), 30)

    def test_fieldsOfOneStatus(self) -> None:
        """Content-Range and Link mean something with one status each."""
        for name, status in (("Content-Range", 416), ("Link", 451)):
            for each in (404, 416, 451):
                answer = self.answer(exchangeFor(), upstreamResponse(each, (name, "x")))
                self.assertEqual(name in answer.headers, each == status, (name, each))

    def test_vary(self) -> None:
        """The service's Vary adds to that of the page."""
        answer = self.answer(exchangeFor(), upstreamResponse(404, ("Vary", "Origin")))
        self.assertEqual(answer.headers["Vary"], "Accept, Origin")

    def test_upgrade(self) -> None:
        """The protocols of a 426 stay."""
        response = upstreamResponse(426)
        response.upgrade = b"HTTP/2.0"
        self.assertEqual(self.answer(exchangeFor(), response).upgrade, b"HTTP/2.0")

    def test_serviceSendsJSON(self) -> None:
        """A client that takes HTML and JSON alike gets the kind that the service has chosen."""
        for accept, theirs, isJSON in (
            ("*/*", "application/json", True),
            ("*/*", "application/problem+json; charset=utf-8", True),
            ("*/*", "Application/Vnd.API+JSON", True),
            (None, "application/json", True),
            ("image/png", "application/json", True),
            ("", "application/json", True),
            ("*/*", "text/html", False),
            (None, "text/plain", False),
            (None, "application/jsonp", False),
            (CHROME, "application/json", False),
            ("text/html", "application/json", False),
            ("application/json", "text/html", True),
            ("application/json;q=0, */*", "application/json", False),
        ):
            exchange = exchangeFor(**({} if accept is None else {"accept": accept}))
            answer = self.answer(exchange, upstreamResponse(404, ("Content-Type", theirs)))
            kind = "application/json" if isJSON else "text/html; charset=utf-8"
            self.assertEqual(answer.headers["Content-Type"], kind, (accept, theirs))

    def test_problem(self) -> None:
        """A client that asks for a problem gets one (RFC 9457)."""
        answer = self.answer(
            exchangeFor("/a?b", accept="application/problem+json"), upstreamResponse(404)
        )
        self.assertEqual(answer.headers["Content-Type"], "application/problem+json")
        self.assertEqual(
            json.loads(answer.body or b""),
            {"type": "about:blank", "title": "Not Found", "status": 404, "instance": "/a"},
        )

    def test_head(self) -> None:
        """The response to HEAD has the page as its body, so that its length is announced."""
        self.assertEqual(
            self.body(exchangeFor(method="HEAD"), upstreamResponse(404, body=b"")),
            self.body(exchangeFor(), upstreamResponse(404)),
        )


class AcceptTests(SynchronousTestCase):
    """What a client prefers (RFC 9110, section 12.5.1)."""

    def test_preferences(self) -> None:
        """The greater weight wins, then a type that is named, then HTML."""
        for accept, wanted in ACCEPT:
            kind = formatFor(accept.lower().encode())
            self.assertEqual(kind and kind.decode().partition(";")[0], wanted, accept)
            answer = answerOf(ErrorPage((404,)), exchangeFor(accept=accept))
            self.assertEqual(answer.headers["Content-Type"].partition(";")[0], wanted or HTML)

    @given(st.binary(max_size=100))
    def test_anything(self, accept: bytes) -> None:
        """No malformed field raises an exception."""
        formatFor(accept.lower())

    @given(
        st.lists(
            st.one_of(
                st.sampled_from([accept.lower() for accept, _ in ACCEPT]),
                st.sampled_from(["text/html", "application/json", '"', ' a="', "image/*", "*/*"]),
            ),
            max_size=4,
        )
    )
    def test_shortcut(self, members: list[str]) -> None:
        """What is decided by the beginning of a field is what all of its members say."""
        accept = ",".join(members).encode()
        self.assertEqual(formatFor(accept), negotiated(accept), accept)

    @given(st.integers(0, 1000), st.integers(0, 1000))
    def test_weights(self, json: int, html: int) -> None:
        """If both types are named, the one with the greater weight wins."""
        accept = f"text/html;q={html / 1000}, application/json;q={json / 1000}"
        self.assertEqual(formatFor(accept.encode()) == b"application/json", json > html)


class KeepTests(SynchronousTestCase):
    """The option C{keep}, and the option C{json}."""

    def kept(self, description: str) -> list[str]:
        """The fields of a response that stay, with this description."""
        theirs = {"X-App-Code": "1", "X-App-Hint": "2", "X-Powered-By": "3", "ETag": '"a"',
                  "Content-Language": "de", "Link": "<a>"}  # fmt: skip
        outcome = runPolicy(description, request("/"), response(404, headers=theirs, text="no"))
        self.assertEqual(outcome.headers["Content-Type"], "text/html; charset=utf-8")
        return [name for name, value in outcome.headers.allItems() if theirs.get(name) == value]

    def test_names(self) -> None:
        """Fields that the operator names stay; the option may be repeated, and have commas."""
        for description, names in (
            ("error-page:404", []),
            ("error-page:404:keep=x-app-code", ["X-App-Code"]),
            ("error-page:404:keep=X-App-Code:keep=ETag", ["X-App-Code", "ETag"]),
            ("error-page:404:keep=X-App-Code, Link", ["X-App-Code", "Link"]),
            ("error-page:keep=X-App-Code:404", ["X-App-Code"]),
            ("error-page:404:keep=X-App-*", ["X-App-Code", "X-App-Hint"]),
            ("error-page:404:keep=*", ["X-App-Code", "X-App-Hint", "X-Powered-By"]),
            ("error-page:404:keep=*:keep=etag", ["X-App-Code", "X-App-Hint", "X-Powered-By"]
             + ["ETag"]),
            ("error-page:404:keep=X-None", []),
        ):  # fmt: skip
            self.assertEqual(self.kept(description), names, description)

    def test_refused(self) -> None:
        """A name that is none, or that the page has itself, is refused."""
        for name in ("a b", "X-*-Y", "X-A,", "X@"):
            with self.assertRaisesRegex(ValueError, "write the name of a field, or a prefix"):
                makePolicy("404", keep=name)
        for name in ("Content-Type", "content-encoding", "Date", "Server", "Connection", "Upgrade",
                     "Content-Length", "Transfer-Encoding", "Digest", "Signature"):  # fmt: skip
            with self.assertRaisesRegex(ValueError, f"keep={name}: the page has its own {name}"):
                makePolicy("404", keep=name)

    def test_jsonPasses(self) -> None:
        """With C{json=pass}, a response that is JSON passes as it is; others are replaced."""
        for kind, passes in (
            ("application/json", True),
            ("application/problem+json; charset=utf-8", True),
            ("text/html", False),
        ):
            theirs = response(422, body=b"theirs", headers={"Content-Type": kind, "ETag": '"a"'})
            outcome = runPolicy("error-page:4xx:json=pass", request("/"), theirs)
            self.assertEqual(outcome.body == b"theirs", passes, kind)
            self.assertEqual("ETag" in outcome.headers, passes, kind)
            self.assertEqual(outcome.exchange.acted, () if passes else ("error-page",))
            self.assertNotEqual(runPolicy("error-page:4xx", request("/"), theirs).body, b"theirs")
        with self.assertRaisesRegex(ValueError, "json=no: write replace or pass"):
            makePolicy("404", json="no")

    def test_manyNames(self) -> None:
        """What stays is remembered for few lists of names, and judged for each."""
        policy = makePolicy("4xx", keep="X-App-*")
        for n in range(100):
            for name, stays in (
                (f"X-{n}", False),
                (f"X-App-{n}", True),
                (f"X-App-{n}" * 200, True),
                ("Link", n % 2 == 1),
            ):
                status = 451 if n % 2 else 404
                theirs = upstreamResponse(status, ("Age", "1"), (name, "2"))
                for _ in range(2):
                    answer = answerOf(policy, response=theirs)
                    self.assertEqual(answer.headers.get(name), "2" if stays else None)
                    self.assertEqual(answer.headers["Age"], "1")
        for made in policy._made.values():
            self.assertLessEqual(len(made.stay), 16)
            self.assertLessEqual(max(map(len, made.stay)), 1024)


class FileTests(SynchronousTestCase):
    """A page from the operator's file."""

    def write(self, name: str, body: bytes) -> str:
        """Write a file with this name, and return its path."""
        path = os.path.join(self.mktemp(), name)
        os.mkdir(os.path.dirname(path))
        with open(path, "wb") as file:
            file.write(body)
        return path

    def test_sent(self) -> None:
        """The file is sent as it is, whatever the client accepts; it is read once."""
        path = self.write("sorry.html", "<h1>olé</h1>".encode())
        policy = makePolicy("404", file=path)
        os.remove(path)
        answer = answerOf(policy, exchangeFor(accept="application/json"), upstreamResponse(404))
        self.assertEqual(answer.body, "<h1>olé</h1>".encode())
        self.assertEqual(answer.headers["Content-Type"], "text/html; charset=utf-8")
        self.assertEqual(answer.headers["Server"], "Sitio")
        self.assertNotIn("Vary", answer.headers)
        self.assertNotIn("Content-Security-Policy", answer.headers)

    def test_types(self) -> None:
        """The type is that of the name; text that is UTF-8 is declared so."""
        for name, body, kind in (
            ("a.json", b"{}", "application/json"),
            ("a.txt", b"no", "text/plain; charset=utf-8"),
            ("a.html", b"ol\xe9", "text/html"),
        ):
            policy = makePolicy("404", file=self.write(name, body))
            answer = answerOf(policy, exchangeFor(), upstreamResponse(404))
            self.assertEqual(answer.headers["Content-Type"], kind)

    def test_unknownType(self) -> None:
        """A name without a known type, or of a compressed file, is refused."""
        for name in ("page", "page.html.gz"):
            with self.assertRaisesRegex(ValueError, f"{name}' doesn't tell its type"):
                makePolicy("404", file=name)

    def test_missing(self) -> None:
        """A missing file, or a folder, is refused with its name."""
        folder = self.mktemp() + ".html"
        with self.assertRaisesRegex(ValueError, "there is no file .* for the error page"):
            makePolicy("404", file=folder)
        os.mkdir(folder)
        with self.assertRaisesRegex(ValueError, "there is no file .* for the error page"):
            makePolicy("404", file=folder)

    def test_unreadable(self) -> None:
        """A file that can't be read is refused, with the system's reason."""
        path = self.write("a.html", b"x")

        def refuse(*args: object) -> None:
            raise PermissionError(13, "Permission denied")

        # Root may read any file, so that its mode would prove nothing.
        self.patch(Path, "is_file", refuse)
        with self.assertRaisesRegex(ValueError, "can't be read: Permission denied"):
            makePolicy("404", file=path)

    def test_tooLarge(self) -> None:
        """A file over the limit is refused."""
        body = b"x" * MAX_FILE_BYTES
        policy = makePolicy("404", file=self.write("a.txt", body))
        self.assertEqual(answerOf(policy).body, body)
        with self.assertRaisesRegex(ValueError, f"larger than {MAX_FILE_BYTES} bytes"):
            makePolicy("404", file=self.write("a.txt", body + b"x"))


class StatusTests(SynchronousTestCase):
    """The statuses of a description."""

    def test_parsed(self) -> None:
        """Numbers, ranges and classes can be combined."""
        for text, statuses in (
            ("404", {404}),
            ("404,410", {404, 410}),
            ("404, 410", {404, 410}),
            ("502-504", {502, 503, 504}),
            ("5xx,404", {404, *range(500, 600)}),
            ("503-503", {503}),
        ):
            self.assertEqual(parseStatuses(text), statuses)

    def test_refused(self) -> None:
        """A word that is not an error status is quoted, with what to write."""
        for text in (
            "",
            "200",
            "abc",
            "404,",
            "600",
            "4040",
            "404-",
            "3xx",
            "-404",
            "\u0664\u0660\u0664",
        ):
            with self.assertRaisesRegex(
                ValueError, "is not an error status: write 404, 500-504 or 5xx"
            ):
                parseStatuses(text)
        with self.assertRaisesRegex(ValueError, "'504-500' is not a range"):
            parseStatuses("504-500")

    def test_description(self) -> None:
        """Several arguments add up; a description without statuses is refused."""
        self.assertEqual(makePolicy("404", "500,502-503").statuses, {404, 500, 502, 503})
        with self.assertRaisesRegex(ValueError, "needs the statuses it replaces"):
            makePolicy()


class ProxyTests(SynchronousTestCase):
    """The policy in a whole proxy."""

    def test_upgradeRequired(self) -> None:
        """A 426 says to which protocols to upgrade, with its Connection option."""
        harness = Harness("error-page:4xx")
        client = harness.connect()
        client.sends(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        harness.upstream().sends(
            b"HTTP/1.1 426 Upgrade Required\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nContent-Length: 0\r\n\r\n"
        )
        head = client.got().partition(b"\r\n\r\n")[0].split(b"\r\n")
        for line in (b"Upgrade: websocket", b"Connection: upgrade", b"Sec-WebSocket-Version: 13"):
            self.assertIn(line, head)

    def test_replaced(self) -> None:
        """The client gets the page, with its own length, in place of the service's response."""
        theirs = response(404, text="theirs" * 1000, headers={"ETag": '"x"'})
        outcome = runPolicy("error-page:404", request("/no?a=b"), theirs)
        self.assertEqual((outcome.status, outcome.reason, outcome.whole), (404, "Not Found", True))
        self.assertEqual(outcome.headers["Server"], "Sitio")
        self.assertEqual(_Outline(outcome.body).texts["code"], "/no")
        self.assertEqual(outcome.exchange.acted, ("error-page",))

    def test_failedAttempt(self) -> None:
        """A failed attempt is replaced by a page as well."""
        outcome = runPolicy(
            "error-page:5xx",
            request("/", headers={"Accept": "application/json"}),
            connectionRefused(),
        )
        self.assertEqual((outcome.status, outcome.json()["error"]), (502, "Bad Gateway"))

    def test_others(self) -> None:
        """Other statuses are not replaced."""
        self.assertEqual(runPolicy("error-page:404", request("/"), response(410)).body, b"")
        self.assertEqual(runPolicy("error-page:404", request("/"), response(text="a")).text, "a")
