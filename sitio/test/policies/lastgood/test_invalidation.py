"""
Tests of L{sitio.policies.lastgood.invalidation}, through the policy that uses it (RFC 9111,
section 4.4).
"""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from sitio import Response, Retry, onRequest, onResponse
from sitio.policies.lastgood.invalidation import MAX_CHANGED, normalTarget
from sitio.test.helpers.lastgood import LastGoodTestCase
from sitio.test.helpers.policies import FakeExchange, exchangeFor, upstreamResponse
from sitio.testing import (
    Harness,
    Runner,
    connectionRefused,
    connectionReset,
    incompleteResponse,
    noResponse,
    request,
    response,
)


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
            exchange.request.content = body
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
            ("photos.example.", True),
            ("PHOTOS.example.:443", True),
            ("photos.example:8080", False),
            ("photos.example.:8080", False),
            ("other.example", False),
            ("other.example.", False),
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

    def overtaken(
        self, answer: Any, *, target: str = "/", method: str = "GET", began: float = 1.0
    ) -> bool:
        """Whether something is stored after a GET that an unsafe request has overtaken."""
        get = exchangeFor(target, method)
        post = unsafe("POST")
        get.began, post.now = began, 2.0
        answer(get, post)
        return self.policy.size > 0

    def test_overtaken(self) -> None:
        """It began before and ends after: it may be of the time before."""

        def answer(get: FakeExchange, post: FakeExchange) -> None:
            self.response(post, upstreamResponse(204))
            self.response(get, upstreamResponse(200))

        self.assertFalse(self.overtaken(answer))
        # In the same moment: nobody knows which was the first.
        self.assertFalse(self.overtaken(answer, began=2.0))
        self.assertTrue(self.overtaken(answer, target="/other"))
        self.make()
        self.assertTrue(self.overtaken(answer, began=2.001))
        self.assertMasked(self.failed(), b"theirs")

    def test_confirmed(self) -> None:
        """A 304 to such a GET confirms nothing."""
        get, post = exchangeFor(), unsafe("POST")
        post.now = 1.0
        self.response(post, upstreamResponse(204))
        after = exchangeFor()
        after.began = 2.0
        self.response(after, upstreamResponse(200, ("ETag", '"a"')))
        self.clock.advance(200)
        self.response(get, upstreamResponse(304, ("ETag", '"a"')))
        self.clock.advance(200)
        self.assertNotMasked(self.failed())

    def test_rewritten(self) -> None:
        """The target counts as it came, and as it was sent."""
        for came, sent in (("/", "/b"), ("/b", "/"), ("/b", "/%2e/")):
            get, post = exchangeFor(came), unsafe("POST")
            get.request.target = sent
            post.now = 1.0
            self.response(post, upstreamResponse(204))
            self.response(get, upstreamResponse(200))
            self.assertEqual(self.policy.size, 0, (came, sent))

    def test_bounded(self) -> None:
        """
        The targets are bounded.  What no longer fits counts for all that began before, so that
        nothing is kept by mistake.
        """
        for n in range(MAX_CHANGED + 10):
            post = unsafe("POST", f"/{n}")
            post.now = 1.0 + n
            self.response(post, upstreamResponse(204))
        self.assertEqual(len(self.policy._unsafe._times), MAX_CHANGED)
        for target, began, kept in (
            ("/3", 4.0, False),
            ("/3", 10.5, True),
            ("/else", 10.0, False),
            ("/else", 10.5, True),
            ("/500", 500.0, False),
            ("/500", 501.5, True),
        ):
            get = exchangeFor(target)
            get.began = began
            size = self.policy.size
            self.response(get, upstreamResponse(200))
            self.assertEqual(self.policy.size > size, kept, (target, began))

    def test_whileItsBodyComes(self) -> None:
        """So it is if its head has come before, and its body comes after."""

        def buffered(get: FakeExchange, post: FakeExchange) -> None:
            response = upstreamResponse(200)
            body, response.body = response.body, None
            self.assertTrue(self.policy.isInterested(get, response))
            self.response(post, upstreamResponse(204))
            response.body = body
            self.policy.responseReceived(get, response)

        def streamed(get: FakeExchange, post: FakeExchange) -> None:
            response = upstreamResponse(200)
            response.body = response.length = None
            self.assertFalse(self.policy.isInterested(get, response))
            self.response(post, upstreamResponse(204))
            for each in response.filters or ():
                each.bodyFilter(b"theirs")
                each.bodyFilter(b"")

        self.assertFalse(self.overtaken(buffered))
        self.assertFalse(self.overtaken(streamed))

    def test_failed(self) -> None:
        """An unsafe request that fails overtakes nothing."""

        def answer(get: FakeExchange, post: FakeExchange) -> None:
            self.response(post, upstreamResponse(409))
            self.response(get, upstreamResponse(200))

        self.assertTrue(self.overtaken(answer))


class UnknownTests(SynchronousTestCase):
    """
    An unsafe request of which nobody knows whether it succeeded drops what is kept for its
    target, in a whole proxy with other policies.
    """

    def runner(self, policies: Any = "last-good") -> Runner:
        """A proxy that has a response to mask with."""
        runner = Runner(policies)
        runner.run(request("/"), response(200, text="good"))
        runner.advance(1)
        return runner

    def dropped(self, policies: Any, asked: Any, *answers: Any) -> bool:
        """Whether this request has dropped it."""
        runner = self.runner(policies)
        runner.run(asked, *answers)
        return runner.run(request("/"), connectionRefused()).status != 200

    def test_failures(self) -> None:
        """If it may have arrived, the lack of a response proves nothing."""
        whole = response(200, text="changed")
        for answer, dropped in (
            (connectionReset(), True),
            (noResponse(), True),
            (incompleteResponse(whole), True),
            (incompleteResponse(response(500, text="changed")), True),
            (connectionRefused(), False),
            (response(500), False),
            (response(503), False),
            (response(409), False),
        ):
            for policies in (["last-good"], [reads, "last-good"], ["last-good", reads]):
                for method in ("POST", "PUT", "DELETE", "PATCH"):
                    asked = request("/", method, body=b"x")
                    self.assertEqual(
                        self.dropped(policies, asked, answer), dropped, (answer, method)
                    )
                self.assertFalse(self.dropped(policies, request("/"), answer), answer)
                overrides = request("/", headers={"X-HTTP-Method-Override": "DELETE"})
                self.assertEqual(self.dropped(policies, overrides, answer), dropped, answer)

    def test_repeated(self) -> None:
        """A refusal after another attempt may be that of a request which was done before."""
        for method, dropped in (("DELETE", True), ("PUT", True), ("GET", False)):
            for first in (connectionReset(), response(503)):
                asked = request("/", method)
                answers = (first, response(409))
                self.assertEqual(self.dropped(["last-good", again], asked, *answers), dropped)

    def test_clientGone(self) -> None:
        """So it is if the client does not wait for the response."""
        good = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood"
        for method, dropped in (("POST", True), ("GET", False)):
            harness = Harness("last-good")
            for each, answer in (("GET", good), (method, b"")):
                client = harness.connect()
                client.sends(f"{each} / HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
                harness.acceptConnections()
                self.assertIn(each.encode(), harness.upstream().got())
                harness.upstream().sends(answer)
                harness.advance(1)
            client.resets()
            harness.settle()
            self.assertEqual(harness.exchanges[-1].status, 499)
            policy: Any = harness.context.chain.policies[0]
            self.assertEqual(policy.size == 0, dropped, method)

    def test_upgraded(self) -> None:
        """A switch to another protocol is a success."""
        good = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood"
        switch = b"HTTP/1.1 101 Go\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"
        for method, dropped in (("POST", True), ("GET", False)):
            harness = Harness("last-good")
            for asked, answer in (
                ("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", good),
                (
                    f"{method} / HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\n"
                    "Upgrade: x\r\nContent-Length: 0\r\n\r\n",
                    switch,
                ),
            ):
                client = harness.connect()
                client.sends(asked.encode())
                harness.acceptConnections()
                harness.upstream().sends(answer)
                harness.advance(1)
            self.assertIn(b"101", client.got())
            client.closes()
            harness.closeAll()
            harness.settle()
            policy: Any = harness.context.chain.policies[0]
            self.assertEqual(policy.size == 0, dropped, method)

    def test_neverSent(self) -> None:
        """What another policy has answered has changed nothing."""
        refuses = onRequest(buffered=True)(
            lambda exchange: Response(403) if exchange.request.body else None
        )
        asked = request("/", "POST", body=b"x")
        self.assertFalse(self.dropped([refuses, "last-good"], asked))


@onResponse(buffered=True)
def reads(exchange: Any, response: Response) -> None:
    """Waits for the whole body."""


@onResponse()
def again(exchange: Any, response: Response) -> Retry | None:
    """Asks for one more attempt."""
    return Retry() if exchange.attempts == 1 and response.status != 200 else None


class HostTests(SynchronousTestCase):
    """A request without a Host is for the configured one (RFC 9112, section 3.2)."""

    def test_withoutHost(self) -> None:
        """It shares what is kept for this host, and nothing with an empty Host."""
        old = b"GET / HTTP/1.0\r\n\r\n"
        named = b"GET / HTTP/1.1\r\nHost: Photos.example\r\n\r\n"
        empty = b"GET / HTTP/1.1\r\nHost:\r\n\r\n"
        post = b"POST / HTTP/1.0\r\nContent-Length: 0\r\n\r\n"
        good = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood"
        done = b"HTTP/1.1 204 No Content\r\n\r\n"
        bad = b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"
        for steps, masked in (
            ([(old, good), (old, bad)], True),
            ([(old, good), (empty, bad)], False),
            ([(empty, good), (old, bad)], False),
            ([(empty, good), (empty, bad)], True),
            ([(old, good), (post, done), (old, bad)], False),
            ([(empty, good), (post, done), (empty, bad)], True),
            ([(named, good), (old, bad)], True),
            ([(old, good), (named, bad)], True),
            ([(named, good), (post, done), (named, bad)], False),
        ):
            harness = Harness("last-good", host=b"photos.example")
            for sent, answer in steps:
                harness.advance(1)
                client = harness.connect()
                client.sends(sent)
                harness.acceptConnections()
                harness.upstream().sends(answer)
                harness.settle()
                got = client.got()
            self.assertEqual(b"detail=last-good" in got, masked, steps)
