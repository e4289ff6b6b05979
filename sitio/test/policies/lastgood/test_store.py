"""
Tests of L{sitio.policies.lastgood.store}, through the policy that uses it.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings as profile, strategies as st
from twisted.internet.task import Clock

from sitio.http import head
from sitio.http.headers import MAX_SHARED_BYTES
from sitio.http.message import Response
from sitio.policies.lastgood import store
from sitio.policies.lastgood.budget import WINDOW_SECONDS
from sitio.policies.lastgood.policy import LastGood
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
        self.make(maxBytes=3 * (RESPONSE_COST_BYTES + 3 * LINE_COST_BYTES + 1000))
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
        self.make(maxBytes=3 * (RESPONSE_COST_BYTES + 3 * LINE_COST_BYTES + 1000))
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


class FingerprintTests(LastGoodTestCase):
    """
    An equal response to an equal request is recognized by its fingerprint, and only
    saves time.
    """

    def setUp(self) -> None:
        LastGoodTestCase.setUp(self)
        # The parsers as they are before the first request.
        for each in (head.requestHeads, head._requestLines, head._requestFields):
            each.clear()
        for each in (head.responseHeads, head._responseFields):
            each.clear()

    def quick(
        self, response: Response, exchange: FakeExchange | None = None, **request: Any
    ) -> bool:
        """Let a good response pass, and return whether its fingerprint was known."""
        exchange = exchange or wired(**request)
        if self.policy.isInterested(exchange, response):
            self.assertIs(self.policy.responseReceived(exchange, response), None)
            return False
        return not response.filters

    def learn(self, *lines: tuple[str, str], **request: Any) -> None:
        """Let a good response pass until its fingerprint is known."""
        known = [self.quick(came(200, *lines), **request) for _ in range(3)]
        self.assertEqual(known, [False, False, True])

    def countFingerprints(self) -> int:
        """The number of fingerprints, each of which belongs to a stored response."""
        variants = self.policy._store._variants.values()
        stored = [each for some in variants for each in some]
        known = self.policy._store.known
        fingerprints = [(mark, each) for each in stored for mark in each.fingerprints]
        self.assertEqual(len(fingerprints), len(known))
        for fingerprint, each in fingerprints:
            self.assertIs(known[fingerprint], each)
        return len(fingerprints)

    def test_known(self) -> None:
        """
        A response is known after two that were equal; it masks as before, and HEAD is
        not GET.
        """
        self.learn()
        self.assertTrue(self.quick(came(200)))
        self.assertMasked(self.failed())
        self.assertTrue(self.quick(came(200)))
        self.response(wired(method="HEAD"), came(200))
        self.assertEqual(self.countFingerprints(), 1)

    def test_refreshed(self) -> None:
        """A response with a known fingerprint renews the stored one: its age starts again."""
        self.learn()
        self.clock.advance(299)
        self.assertTrue(self.quick(came(200)))
        self.clock.advance(300)
        response = self.failed()
        self.assertMasked(response)
        self.assertEqual(response.headers["Age"], "300")

    def test_used(self) -> None:
        """A known fingerprint counts as a use; a dropped response loses its fingerprints."""
        self.make(maxBytes=3 * (RESPONSE_COST_BYTES + 3 * LINE_COST_BYTES + 100))
        for target in "/a", "/b", "/c":
            self.learn(target=target)
        self.assertTrue(self.quick(came(200), target="/a"))
        self.keep(target="/d")
        self.assertEqual(self.countFingerprints(), 2)
        self.assertNotMasked(self.failed(target="/b"))
        self.assertMasked(self.failed(target="/a"))
        self.assertFalse(self.quick(came(200), target="/b"))
        self.assertEqual(self.countFingerprints(), 1)

    def test_budget(self) -> None:
        """A response with a known fingerprint counts as a good one for the budget."""
        self.make(maxAge=100_000, budget=600)
        self.learn()
        for _ in range(120):
            self.clock.advance(WINDOW_SECONDS)
            for _ in range(3):
                self.assertTrue(self.quick(came(200)))
            self.assertMasked(self.failed())
            self.assertMasked(self.failed())
        for _ in range(120):
            self.clock.advance(WINDOW_SECONDS)
            self.assertTrue(self.quick(came(200)))
            response = [self.failed(), self.failed()][1]
        self.assertNotMasked(response)

    def test_otherResponse(self) -> None:
        """A response with another body, field, status or filter is not taken for the stored one."""
        self.learn()
        self.assertFalse(self.quick(came(200, body=b"else")))
        self.assertMasked(self.failed(), b"else")
        self.assertEqual(self.countFingerprints(), 0)
        self.learn()
        self.assertFalse(self.quick(came(200, ("X-A", "b"))))
        self.assertEqual(self.failed().headers["X-A"], "b")
        self.assertEqual(self.countFingerprints(), 0)
        self.learn(("X-A", "c"))
        response = came(200, ("X-A", "c"))
        response.status = 404
        self.quick(response)
        self.assertNotMasked(self.failed())
        self.assertEqual(self.countFingerprints(), 0)
        self.learn()
        response = came(200)
        response.headers["X-A"] = "policy"
        self.assertFalse(self.quick(response))
        self.assertEqual(self.failed().headers["X-A"], "policy")
        self.learn()
        response = came(200)
        response.addFilter(bytes.upper, keepsLength=True)
        self.assertFalse(self.policy.isInterested(wired(), response))
        self.assertEqual(len(response.filters or ()), 1)

    def test_notYetWhole(self) -> None:
        """A response whose body is still to come is buffered, even if its head is known."""
        self.learn()
        response = came(200)
        response.body = None
        self.assertTrue(self.policy.isInterested(wired(), response))

    def assertUnconfirmed(self, spoil: Callable[[FakeExchange, Response], None]) -> None:
        """A known exchange that was changed like this does not renew the stored response."""
        self.make()
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
        """
        A request with a body, or another scheme, target or field is not taken for the
        known one.
        """

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

    def test_severalClients(self) -> None:
        """Requests with different fields have fingerprints of their own."""
        self.learn()
        known = [self.quick(came(200), accept="b") for _ in range(3)]
        self.assertEqual(known, [False, False, True])
        self.assertTrue(self.quick(came(200)))
        self.assertGreater(self.countFingerprints(), 1)
        self.keep(body=b"else")
        self.assertEqual(self.countFingerprints(), 0)
        self.assertFalse(self.quick(came(200), accept="b"))

    def test_piecemeal(self) -> None:
        """
        A response whose body always comes later leaves one fingerprint, however often
        it comes.
        """
        for _ in range(5):
            response = came(200)
            exchange = wired()
            response.body = None
            self.assertTrue(self.policy.isInterested(exchange, response))
            response.body = b"good"
            self.policy.responseReceived(exchange, response)
        self.assertEqual(self.countFingerprints(), 1)

    def test_variants(self) -> None:
        """Each variant has its own fingerprints; a new variant drops those of all others."""
        for x in "1", "2":
            [self.quick(came(200, ("Vary", "X"), body=x.encode()), x=x) for _ in range(3)]
        self.assertEqual(self.countFingerprints(), 1)
        self.assertFalse(self.quick(came(200, ("Vary", "X"), body=b"1"), x="1"))
        self.assertEqual(self.countFingerprints(), 2)
        for x in "1", "2":
            self.assertTrue(self.quick(came(200, ("Vary", "X"), body=x.encode()), x=x))
            self.assertMasked(self.failed(x=x), x.encode())
        self.quick(came(200, ("Vary", "X"), body=b"3"), x="3")
        self.assertEqual(self.countFingerprints(), 0)

    def test_dropped(self) -> None:
        """A response that is dropped, for whatever reason, loses its fingerprints."""
        for exchange, answer in (
            (wired(), came(404)),
            (wired(), came(200, ("Cache-Control", "no-store"))),
            (wired(method="DELETE"), came(200)),
            (wired(if_none_match='"a"'), came(304, ("ETag", '"a"'), ("X-A", "b"))),
        ):
            self.make()
            self.learn(("ETag", '"a"'))
            self.assertEqual(self.countFingerprints(), 1)
            # What comes next begins later.
            exchange.now = -1.0
            self.response(exchange, answer)
            self.assertEqual(self.countFingerprints(), 0)
            self.assertFalse(self.quick(came(200, ("ETag", '"a"'))))
            self.assertMasked(self.failed())

    def test_upgrade(self) -> None:
        """
        The response to an attempt to upgrade renews nothing, though it is equal: Upgrade is not
        among the lines.
        """
        self.make(maxAge=100)
        self.learn()
        self.clock.advance(60)
        exchange = wired()
        exchange.request.upgrade = b"websocket"
        self.response(exchange, came(200))
        self.clock.advance(60)
        self.assertNotMasked(self.failed())

    def test_number(self) -> None:
        """The number of fingerprints is bounded: one more drops all, which are then made again."""
        self.patch(store, "MAX_FINGERPRINTS", 3)
        for n in range(3):
            self.learn(target=f"/{n}")
        self.assertEqual(self.countFingerprints(), 3)
        self.learn(target="/3")
        self.assertEqual(self.countFingerprints(), 1)
        for n in range(3):
            self.assertMasked(self.failed(target=f"/{n}"))
            self.assertEqual(
                [self.quick(came(200), target=f"/{n}") for _ in range(2)], [False, True]
            )
            self.assertLessEqual(self.countFingerprints(), 3)

    def test_long(self) -> None:
        """Lines that are too long for the head parser to share are not kept by a fingerprint."""
        long = "x" * MAX_SHARED_BYTES
        cases: list[tuple[dict[str, Any], tuple[tuple[str, str], ...]]] = [
            ({"target": "/" + long}, ()),
            ({"x": long}, ()),
            ({}, (("X-A", long),)),
        ]
        for fields, lines in cases:
            self.make()
            for _ in range(3):
                self.assertFalse(self.quick(came(200, *lines), **fields))
            self.assertEqual(self.countFingerprints(), 0)
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
        """Pass the same exchanges to two policies, one of which never sees a fingerprint twice."""
        clock = Clock()
        marking, _ = both = [
            LastGood(
                seconds=clock.seconds,
                now=clock.seconds,
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
                self.countFingerprints()

    def shows(self, policy: LastGood, marking: bool, question: int, answer: int) -> Any:
        """Pass a response to a policy; return what is sent, and all that the policy knows then."""
        exchange, response, body = self.step(question, answer)
        if not marking:
            self.assertIsNot(exchange.request.headers.fields, response.headers.fields)
        wanted = response.status in policy.statuses and policy.isInterested(exchange, response)
        self.glances += (1 if marking else -1) * (response.status == 200 and not wanted)
        sent = None
        if wanted:
            response.body = body
            sent = policy.responseReceived(exchange, response)
        for each in response.filters or ():
            for piece in body, b"":
                each.bodyFilter(piece)
        held = [
            (key, [(each.status, each.fields, each.body, each.since) for each in variants])
            for key, variants in policy._store._variants.items()
        ]
        budget = policy._budget
        outages = [
            (endpoint, each.since, each.windowBegan, each.good, each.failed)
            for endpoint, each in budget._outages.items()
        ]
        return (
            sent and (sent.status, sent.headers.allItems(), sent.body),
            (policy.size, held),
            (outages, budget._balances, budget._windowBegan),
        )

    def step(self, question: int, answer: int) -> tuple[FakeExchange, Response, bytes]:
        """A request and a response to it, whose body may still be to come."""
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
        """Whatever is received, the same is stored, counted and sent as without fingerprints."""
        self.glances = 0
        self.runs()
        self.assertGreater(self.glances, 20)
