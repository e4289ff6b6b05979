"""
Tests of L{sitio.policies.lastgood.store}, through the policy that uses it.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

from hypothesis import given, strategies as st

from sitio.http.message import Response
from sitio.policies.lastgood.budget import WINDOW_SECONDS
from sitio.policies.lastgood.store import LINE_COST_BYTES, RESPONSE_COST_BYTES
from sitio.test.helpers.lastgood import LastGoodTestCase
from sitio.test.helpers.policies import FakeExchange, exchangeFor, upstreamResponse
from sitio.testing import readRequests, readResponses


class BoundTests(LastGoodTestCase):
    """The policy stores a bounded number of bytes."""

    def test_leastRecentlyUsed(self) -> None:
        """
        When the bytes are used up, the least recently used response is dropped; masking
        is a use.
        """
        self.make(maxBytes=3 * (RESPONSE_COST_BYTES + 1000))
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
        """
        Of a target with several variants only as many are dropped as needed, the oldest
        first.
        """
        self.make(maxBytes=3 * (RESPONSE_COST_BYTES + LINE_COST_BYTES + 1000))
        for n in range(4):
            self.keep(("Vary", "X"), x=str(n), body=bytes(900))
        self.assertNotMasked(self.failed(x="0"))
        for n in range(1, 4):
            self.assertMasked(self.failed(x=str(n)), bytes(900))

    def test_tooLargeForAll(self) -> None:
        """A response larger than the bound is not stored."""
        self.make(maxBytes=1000)
        self.keep()
        self.assertEqual(self.policy.size, 0)
        self.assertNotMasked(self.failed())

    def test_memory(self) -> None:
        """The counted size is at least the real one, also for small responses and many fields."""
        self.make(maxBytes=2**40)
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
        """Whatever is received, the size is that of what is stored, and within the bound."""
        policy = self.make(maxBytes=8000, despite=frozenset(("set-cookie",)))
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
                self.response(exchangeFor(method="DELETE", **request), upstreamResponse(204))
            else:
                self.response(
                    exchangeFor(**request),
                    upstreamResponse(304, ("ETag", '"a"'), ("A", "b" * length)),
                )
            held = [each for variants in policy._store._variants.values() for each in variants]
            self.assertEqual(policy.size, sum(each.size for each in held))
            self.assertLessEqual(policy.size, 8000)
            self.assertNotIn([], list(policy._store._variants.values()))


def wired(
    target: str = "/", method: str = "GET", *, body: bytes = b"", **fields: str
) -> FakeExchange:
    """As L{asked}, but parsed from bytes, so that equal requests share their lines."""
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    head = "\r\n".join([f"{method} {target} HTTP/1.1", "Host: photos.example", *lines, "", ""])
    [request] = readRequests(head.encode() + body)
    return FakeExchange(request)


def came(status: int, *lines: tuple[str, str], body: bytes = b"good") -> Response:
    """As L{responded}, but parsed from bytes."""
    length = [] if status == 304 else [("Content-Length", str(len(body)))]
    head = [f"HTTP/1.1 {status} x", *(f"{name}: {value}" for name, value in [*lines, *length])]
    [response] = readResponses("\r\n".join([*head, "", ""]).encode() + (body if length else b""))
    return response


class RenewalTests(LastGoodTestCase):
    """A good response that equals the stored one renews it."""

    def passes(
        self, response: Response, exchange: FakeExchange | None = None, **request: Any
    ) -> None:
        """Let a good response pass."""
        exchange = exchange or wired(**request)
        if self.policy.isInterested(exchange, response):
            self.assertIs(self.policy.responseReceived(exchange, response), None)

    def test_refreshed(self) -> None:
        """The age of the stored response starts again."""
        self.passes(came(200))
        self.clock.advance(299)
        self.passes(came(200))
        self.clock.advance(300)
        response = self.failed()
        self.assertMasked(response)
        self.assertEqual(response.headers["Age"], "300")

    def test_budget(self) -> None:
        """It counts as a good one for the budget."""
        self.make(maxAge=100_000, budget=600)
        self.passes(came(200))
        for _ in range(120):
            self.clock.advance(WINDOW_SECONDS)
            for _ in range(3):
                self.passes(came(200))
            self.assertMasked(self.failed())
            self.assertMasked(self.failed())
        for _ in range(120):
            self.clock.advance(WINDOW_SECONDS)
            self.passes(came(200))
            response = [self.failed(), self.failed()][1]
        self.assertNotMasked(response)

    def test_otherResponse(self) -> None:
        """A response with another body, field, status or filter is not taken for the stored one."""
        self.passes(came(200))
        self.passes(came(200, body=b"else"))
        self.assertMasked(self.failed(), b"else")
        self.passes(came(200))
        self.passes(came(200, ("X-A", "b")))
        self.assertEqual(self.failed().headers["X-A"], "b")
        self.passes(came(200, ("X-A", "c")))
        response = came(200, ("X-A", "c"))
        response.status = 404
        self.passes(response)
        self.assertNotMasked(self.failed())
        self.passes(came(200))
        response = came(200)
        response.headers["X-A"] = "policy"
        self.passes(response)
        self.assertEqual(self.failed().headers["X-A"], "policy")
        self.passes(came(200))
        response = came(200)
        response.addFilter(bytes.upper, keepsLength=True)
        self.assertFalse(self.policy.isInterested(wired(), response))
        self.assertEqual(len(response.filters or ()), 1)

    def assertUnconfirmed(self, spoil: Callable[[FakeExchange, Response], None]) -> None:
        """An exchange that was changed like this does not renew the stored response."""
        self.make()
        self.passes(came(200))
        self.clock.advance(200)
        exchange, response = wired(), came(200)
        self.passes(response, exchange)
        spoil(exchange, response)
        self.clock.advance(200)
        self.response(exchange, response)
        self.clock.advance(200)
        self.assertNotMasked(self.failed())

    def test_otherRequest(self) -> None:
        """One to a request with a body, or another scheme, target or host, renews nothing."""

        def noStore(exchange: FakeExchange, response: Response) -> None:
            exchange.request.headers["Cache-Control"] = "no-store"

        def otherHost(exchange: FakeExchange, response: Response) -> None:
            exchange.request.headers["Host"] = "other.example"

        for spoil in (
            lambda exchange, _: setattr(exchange.request, "body", b"x"),
            lambda exchange, _: setattr(exchange.request, "content", None),
            lambda exchange, _: setattr(exchange.request, "target", "/other"),
            lambda exchange, _: setattr(exchange, "secure", True),
            noStore,
            otherHost,
        ):
            self.assertUnconfirmed(spoil)

    def test_anotherPolicysMask(self) -> None:
        """
        A response that another policy put in place of a failure, or a partial one,
        renews nothing.
        """
        self.assertUnconfirmed(lambda _, response: setattr(response, "failure", Exception()))
        self.assertUnconfirmed(lambda _, response: setattr(response, "status", 206))

    def test_upgrade(self) -> None:
        """
        The response to an attempt to upgrade renews nothing, though it is equal: Upgrade is not
        among the lines.
        """
        self.make(maxAge=100)
        self.passes(came(200))
        self.clock.advance(60)
        exchange = wired()
        exchange.request.upgrade = b"websocket"
        self.response(exchange, came(200))
        self.clock.advance(60)
        self.assertNotMasked(self.failed())
