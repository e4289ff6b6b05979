"""
Tests of L{sitio.policies.lastgood.invalidation}, through the policy that uses it (RFC 9111,
section 4.4).
"""

from __future__ import annotations

from typing import Any

from sitio.policies.lastgood.invalidation import normalTarget
from sitio.test.helpers.lastgood import LastGoodTestCase
from sitio.test.helpers.policies import FakeExchange, exchangeFor, upstreamResponse


def unsafe(method: str = "DELETE", target: str = "/", **fields: str) -> FakeExchange:
    """An exchange for a request that may change something."""
    return exchangeFor(target, method, **fields)


class UnsafeTests(LastGoodTestCase):
    """What an unsafe method that succeeds drops."""

    def drops(self, exchange: FakeExchange, *lines: tuple[str, str], **kept: Any) -> bool:
        """Whether this request, with a 204, drops what is stored."""
        self.make()
        self.keep(**kept)
        self.assertGreater(self.policy.size, 0)
        self.response(exchange, upstreamResponse(204, *lines, body=b""))
        return self.failed(**kept).status != 200

    def test_whateverItCarries(self) -> None:
        """Nothing that the unsafe request carries keeps it from dropping its target."""
        for fields in (
            {},
            {"cache_control": "no-store"},
            {"cookie": "a=b"},
            {"authorization": "Basic bWU6"},
            {"x_token": "me"},
            {"x_forwarded_port": "8443"},
            {"x_forwarded_host": "other.example"},
            {"x_forwarded_proto": "https"},
            {"forwarded": "for=192.0.2.1;host=other.example"},
            {"x_forwarded_scheme": "https"},
            {"x_original_url": "/else"},
            {"x_http_method_override": "GET"},
            {"origin": "https://photos.example"},
            {"accept": "text/event-stream"},
            {"if_match": '"a"'},
            {"x_unheard_of": "1"},
        ):
            for method in ("POST", "PUT", "PATCH", "DELETE", "MOVE", "UNKNOWN", "get"):
                self.assertTrue(self.drops(unsafe(method, **fields)), (method, fields))
        for body in (b"x", None):
            exchange = unsafe("POST")
            exchange.request.body = body
            self.assertTrue(self.drops(exchange))
        exchange = unsafe("POST")
        exchange.secure = True
        self.assertTrue(self.drops(exchange))
        exchange = unsafe("POST")
        exchange.request.upgrade = b"websocket"
        self.assertTrue(self.drops(exchange))

    def test_overridden(self) -> None:
        """A GET that a service may take for an unsafe method drops its target, too."""
        for name in ("x_http_method_override", "x_method_override", "x_http_method"):
            for value, dropped in (
                ("DELETE", True),
                ("put ", True),
                ("GET", False),
                ("head", False),
            ):
                exchange = exchangeFor(**{name: value})
                self.assertEqual(self.drops(exchange), dropped, (name, value))
                exchange = exchangeFor()
                exchange.request.headers.add(name.upper(), value)
                self.assertEqual(self.drops(exchange), dropped, (name, value))
        self.assertTrue(self.drops(exchangeFor(method="OPTIONS", x_method_override="PUT")))

    def test_variants(self) -> None:
        """All variants are dropped: of Vary, of scheme, of keyed fields, with and without TLS."""
        self.keep(("Vary", "Accept"), accept="a/b")
        self.keep(("Vary", "Accept"), accept="c/d")
        self.keep(origin="https://a.example")
        self.keep(x_forwarded_proto="https", x_forwarded_port="443")
        self.keep(x_forwarded_host="other.example")
        self.keep(forwarded="host=other.example")
        exchange = exchangeFor()
        exchange.secure = True
        self.response(exchange, upstreamResponse(200, body=b"good"))
        self.response(unsafe(), upstreamResponse(204, body=b""))
        self.assertEqual(self.policy.size, 0)

    def test_statuses(self) -> None:
        """It succeeds with 2xx and 3xx; after a failure everything stays."""
        for status in (200, 201, 202, 204, 206, 301, 302, 303, 307, 400, 403, 404, 409, 429, 500):
            self.make()
            self.keep()
            self.response(unsafe("POST"), upstreamResponse(status))
            self.assertEqual(self.failed().status == 200, status >= 400, status)

    def test_changedStatus(self) -> None:
        """The upstream's status counts, not what another policy has made of it."""
        for real, sent, dropped in ((204, 503, True), (204, 418, True), (500, 200, False)):
            self.make()
            self.keep()
            exchange = unsafe()
            exchange.upstreamStatus = real
            exchange.asReceived = False
            self.response(exchange, upstreamResponse(sent))
            self.assertEqual(self.failed().status != 200, dropped, (real, sent))

    def test_hosts(self) -> None:
        """The target of another host stays; the default port is none."""
        for host, dropped in (
            ("photos.example", True),
            ("PHOTOS.example", True),
            ("photos.example:80", True),
            ("photos.example:443", True),
            ("photos.example:", True),
            ("photos.example:8080", False),
            ("other.example", False),
        ):
            exchange = unsafe()
            exchange.request.headers["Host"] = host
            self.assertEqual(self.drops(exchange), dropped, host)
        exchange = unsafe(x_host="photos.example")
        exchange.request.headers["Host"] = "other.example"
        self.assertTrue(self.drops(exchange))

    def test_targets(self) -> None:
        """Targets are compared after normalization (RFC 3986, section 6.2.2)."""
        for one, other, dropped in (
            ("/a-b", "/a%2Db", True),
            ("/a%2db?c=%7e", "/a-b?c=~", True),
            ("/caf%c3%a9", "/caf%C3%A9", True),
            ("/a/../b", "/b", True),
            ("/a/./b", "/a/b", True),
            ("/a/%2e%2e/b", "/b", True),
            ("/a%2Fb", "/a/b", False),
            ("/a?b", "/a", False),
            ("/a?b", "/a?c", False),
            ("/a", "/a/", False),
            ("/A", "/a", False),
            ("//a/./b", "//a/b", True),
            ("//a/b", "/b", False),
        ):
            for kept, gone in ((one, other), (other, one)):
                self.assertEqual(
                    self.drops(unsafe(target=gone), target=kept), dropped, (one, other)
                )
            self.assertEqual(normalTarget(normalTarget(one)), normalTarget(one))

    def test_locations(self) -> None:
        """What Location and Content-Location name is dropped as well, if it is of this host."""
        for location, dropped in (
            ("/album/7", True),
            ("7", True),
            ("./7", True),
            ("../album/7", True),
            ("/album/%37", True),
            ("/album/7#top", True),
            ("//photos.example/album/7", True),
            ("http://photos.example/album/7", True),
            ("https://PHOTOS.example:443/album/7", True),
            ("https://me@photos.example/album/7", True),
            ("http://photos.example:8080/album/7", False),
            ("http://other.example/album/7", False),
            ("//other.example/album/7", False),
            ("http://host/album/7", False),
            ("mailto:a@photos.example", False),
            ("/album/8", False),
            ("", False),
            ("http://[broken/album/7", False),
        ):
            for name in ("Location", "content-location"):
                exchange = unsafe("POST", "/album/new")
                dropping = self.drops(exchange, (name, location), target="/album/7")
                self.assertEqual(dropping, dropped, (name, location))

    def test_destination(self) -> None:
        """MOVE and COPY change their destination, too (RFC 4918, section 10.3)."""
        exchange = unsafe("MOVE", "/a", destination="http://photos.example/b")
        self.assertTrue(self.drops(exchange, target="/b"))

    def test_received(self) -> None:
        """Target and method count as they came, and as they were sent."""
        for came, sent, dropped in (
            (("DELETE", "/a"), ("GET", "/a"), True),
            (("GET", "/a"), ("DELETE", "/a"), True),
            (("DELETE", "/a"), ("DELETE", "/b"), True),
            (("DELETE", "/b"), ("DELETE", "/a"), True),
            (("DELETE", "/b"), ("DELETE", "/c"), False),
        ):
            exchange = exchangeFor(came[1], came[0])
            exchange.request.method, exchange.request.target = sent
            self.assertEqual(self.drops(exchange, target="/a"), dropped, (came, sent))

    def test_rewritten(self) -> None:
        """What was stored under a target that a policy has changed is found by both."""
        for target, dropped in (("/came", True), ("/sent", True), ("/else", False)):
            self.make()
            exchange = exchangeFor("/came")
            exchange.request.target = "/sent"
            self.response(exchange, upstreamResponse(200))
            self.assertGreater(self.policy.size, 0)
            self.response(unsafe(target=target), upstreamResponse(204))
            self.assertEqual(self.policy.size == 0, dropped, target)


class UnderWayTests(LastGoodTestCase):
    """A response to a GET that was under way meanwhile is not stored."""

    def overtaken(self, answer: Any, *, target: str = "/", method: str = "GET") -> bool:
        """Whether something is stored after a GET that an unsafe request has overtaken."""
        get = exchangeFor(target, method)
        post = unsafe("POST")
        post.underWay = [get, post]
        answer(get, post)
        return self.policy.size > 0

    def test_overtaken(self) -> None:
        """It began before and ends after: it may be of the time before."""

        def answer(get: FakeExchange, post: FakeExchange) -> None:
            self.response(post, upstreamResponse(204))
            self.response(get, upstreamResponse(200))

        self.assertFalse(self.overtaken(answer))
        self.assertTrue(self.overtaken(answer, target="/other"))
        self.keep()
        self.assertMasked(self.failed())

    def test_whileItsBodyComes(self) -> None:
        """So it is if its head has come before, and its body comes after."""

        def buffered(get: FakeExchange, post: FakeExchange) -> None:
            response = upstreamResponse(200)
            self.assertTrue(self.policy.isInterested(get, response))
            self.response(post, upstreamResponse(204))
            self.policy.responseReceived(get, response)

        def streamed(get: FakeExchange, post: FakeExchange) -> None:
            response = upstreamResponse(200)
            response.body = response.length = None
            self.assertFalse(self.policy.isInterested(get, response))
            self.response(post, upstreamResponse(204))
            for bodyFilter, _ in response.filters or ():
                bodyFilter(b"theirs")
                bodyFilter(b"")

        self.assertFalse(self.overtaken(buffered))
        self.assertFalse(self.overtaken(streamed))

    def test_failed(self) -> None:
        """An unsafe request that fails overtakes nothing."""

        def answer(get: FakeExchange, post: FakeExchange) -> None:
            self.response(post, upstreamResponse(409))
            self.response(get, upstreamResponse(200))

        self.assertTrue(self.overtaken(answer))
