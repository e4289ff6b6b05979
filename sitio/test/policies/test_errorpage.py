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
    MAX_FILE_BYTES,
    MAX_SHOWN_CHARACTERS,
    ErrorPage,
    makePolicy,
    prefersJSON,
)
from sitio.test.helpers.policies import FakeExchange, exchangeFor, upstreamResponse
from sitio.testing import connectionRefused, request, response, runPolicy

CHROME = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"


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


class PageTests(SynchronousTestCase):
    """The built-in page."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(784111777)
        self.policy = ErrorPage(frozenset((404,)), seconds=self.clock.seconds)

    def body(self, exchange: FakeExchange, response: Response) -> bytes:
        """The response that the policy returns."""
        body = self.policy.responseReceived(exchange, response).body
        assert body is not None
        return body

    def test_interface(self) -> None:
        """It is a response policy that needs no body."""
        verifyObject(IResponsePolicy, self.policy)
        self.assertFalse(self.policy.buffered)

    def test_html(self) -> None:
        """A browser gets an HTML page with title, picture, status, reason and path."""
        answer = self.policy.responseReceived(
            exchangeFor("/no.jpg?key=s3cret"), upstreamResponse(404)
        )
        self.assertEqual((answer.status, answer.reason), (404, "Not Found"))
        self.assertEqual(
            list(answer.headers),
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
        answer = self.policy.responseReceived(exchangeFor(), upstreamResponse(404))
        self.assertNotIn(b"content-length", [name.lower() for name, _ in answer.headers.fields])
        self.assertIsNone(answer.length)

    def test_dateOfNow(self) -> None:
        """Date is the time of the response, not of the start."""
        dates = []
        for seconds in (0, 0.5, 90):
            self.clock.advance(seconds)
            answer = self.policy.responseReceived(exchangeFor(), upstreamResponse(404))
            dates.append(parsedate_to_datetime(answer.headers["Date"]).timestamp())
        self.assertEqual(dates, [784111777, 784111777, 784111867])

    def test_json(self) -> None:
        """A client that prefers JSON gets status, reason and path as JSON."""
        answer = self.policy.responseReceived(
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
        """An Accept field over the limit gets HTML."""
        accept = "application/json" + "," * (MAX_ACCEPT_BYTES - 16)
        self.assertIn(b'"status"', self.body(exchangeFor(accept=accept), upstreamResponse(404)))
        self.assertIn(b"<html", self.body(exchangeFor(accept=accept + ","), upstreamResponse(404)))

    @given(st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=40))
    def test_escaped(self, path: str) -> None:
        """Any path and reason is escaped in HTML and JSON."""
        policy = ErrorPage(frozenset((404,)))
        response = upstreamResponse(404)
        response.reason = f"<b>{path}&amp;"
        shown = f"/{path}".partition("?")[0]
        html = policy.responseReceived(exchangeFor(f"/{path}"), response).body
        assert html is not None
        page = _Outline(html)
        self.assertEqual(page.texts["code"], shown)
        self.assertEqual(page.texts["title"], f"404 {response.reason}")
        self.assertNotIn("b", page.tags)
        data = policy.responseReceived(
            exchangeFor(f"/{path}", accept="application/json"), response
        ).body
        assert data is not None
        self.assertEqual(json.loads(data), {"status": 404, "error": response.reason, "path": shown})

    def test_reason(self) -> None:
        """
        The upstream's reason is sent and shown; without one the page shows the
        registered one.
        """
        response = upstreamResponse(404)
        response.reason = "Gone fishing"
        answer = self.policy.responseReceived(exchangeFor(), response)
        self.assertEqual(answer.reason, "Gone fishing")
        self.assertIn(b"<title>404 Gone fishing</title>", answer.body or b"")
        response.reason = ""
        answer = self.policy.responseReceived(exchangeFor(), response)
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
        """Fields that tell the client what to do next are kept, all lines of them."""
        kept = [
            ("Cache-Control", "max-age=60"),
            ("retry-after", "7"),
            ("WWW-Authenticate", "Basic"),
            ("WWW-Authenticate", "Bearer"),
            ("Allow", "GET"),
            ("Vary", "Origin"),
            ("Access-Control-Allow-Origin", "*"),
            ("Set-Cookie", "session=; Max-Age=0"),
        ]
        answer = self.policy.responseReceived(exchangeFor(), upstreamResponse(404, *kept))
        self.assertEqual(list(answer.headers)[-len(kept) :], kept)
        self.assertEqual(answer.headers["Vary"], "Accept, Origin")

    def test_fieldsThatGo(self) -> None:
        """Fields that describe the replaced body, or the service, are removed."""
        answer = self.policy.responseReceived(
            exchangeFor(),
            upstreamResponse(
                404,
                ("Server", "Rails"),
                ("Date", "Mon, 01 Jan 1990 00:00:00 GMT"),
                ("ETag", '"x"'),
                ("Content-Type", "text/plain"),
                ("Content-Encoding", "gzip"),
                ("X-Powered-By", "PHP/4"),
            ),
        )
        self.assertEqual(
            [name for name, _ in answer.headers],
            ["Server", "Date", "Content-Type", "Content-Security-Policy", "Vary"],
        )
        self.assertEqual(answer.headers["Server"], "Sitio")

    def test_head(self) -> None:
        """The response to HEAD has the page as its body, so that its length is announced."""
        self.assertEqual(
            self.body(exchangeFor(method="HEAD"), upstreamResponse(404, body=b"")),
            self.body(exchangeFor(), upstreamResponse(404)),
        )


class AcceptTests(SynchronousTestCase):
    """Whether a client prefers JSON (RFC 9110, section 12.5.1)."""

    def test_preferences(self) -> None:
        """The greater weight wins, then a type that is named, then HTML."""
        for accept, wanted in (
            (CHROME, False),
            ("*/*", False),
            ("text/html, application/json", False),
            ("application/json, text/html", False),
            ("application/json", True),
            ("Application/JSON", True),
            ("application/json;charset=utf-8", True),
            ("application/json, text/plain, */*", True),
            ("application/*", True),
            ("application/json;q=0.9, text/html;q=0.8", True),
            ("application/json;q=0.8, text/html;q=0.9", False),
            ("application/json;q=0.8, text/*;q=0.9", False),
            ("application/json ; q=0.8 , */* ; q=0.7", True),
            ("application/json;Q=0.1, text/html", False),
            ("application/json;q=0, */*", False),
            ("text/html;q=0, */*", True),
            ("application/json;q=0, text/html;q=0", False),
            ("application/json;q=0, */*;q=0", False),
            ("application/json;q=2, text/html;q=0.5", False),
            ("application/json;q=nan, text/html;q=0.1", False),
            ("image/png", False),
            ("application/jsonp", False),
            (",;,", False),
        ):
            self.assertEqual(prefersJSON(accept.encode()), wanted, accept)

    @given(st.binary(max_size=100))
    def test_anything(self, accept: bytes) -> None:
        """No malformed field raises an exception."""
        self.assertIn(prefersJSON(accept), (True, False))

    @given(st.integers(0, 1000), st.integers(0, 1000))
    def test_weights(self, json: int, html: int) -> None:
        """If both types are named, the one with the greater weight wins."""
        accept = f"text/html;q={html / 1000}, application/json;q={json / 1000}"
        self.assertEqual(prefersJSON(accept.encode()), json > html)


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
        answer = policy.responseReceived(
            exchangeFor(accept="application/json"), upstreamResponse(404)
        )
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
            answer = policy.responseReceived(exchangeFor(), upstreamResponse(404))
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
        self.assertEqual(
            makePolicy("404", file=self.write("a.txt", body))
            .responseReceived(exchangeFor(), upstreamResponse(404))
            .body,
            body,
        )
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
