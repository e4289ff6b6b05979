"""
Tests of request bodies that policies read: whole, or piece by piece.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from sitio import IRequestPolicy, IResponsePolicy, Response, Retry, onRequest, onResponse
from sitio.errors import BodyTooLong, BuffersFull, RequestTimeout
from sitio.http.request import BodyNotBuffered
from sitio.settings import Settings
from sitio.testing import Harness, request, runPolicy
from sitio.testing.network import Peer

BODY = b"0123456789"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def head(method: bytes = b"POST", *fields: bytes, version: bytes = b"1.1") -> bytes:
    """The head of a request with these lines."""
    return b"\r\n".join((method + b" /x HTTP/" + version, b"Host: h", *fields, b"", b""))


LENGTH = head(b"POST", b"Content-Length: 10")
CHUNKED = head(b"POST", b"Transfer-Encoding: chunked")
CHUNKS = b"4\r\n0123\r\n6;x=y\r\n456789\r\n0\r\n"

#: A way to send the same request: its pieces.
WAYS: dict[str, tuple[bytes, ...]] = {
    "in one read": (LENGTH + BODY,),
    "head, then body": (LENGTH, BODY),
    "in two parts": (LENGTH + BODY[:3], BODY[3:]),
    "byte by byte": (LENGTH, *(BODY[at : at + 1] for at in range(10))),
    "chunks in one read": (CHUNKED + CHUNKS + b"\r\n",),
    "chunks": (CHUNKED, CHUNKS, b"\r\n"),
    "chunks byte by byte": (CHUNKED, *(bytes((each,)) for each in CHUNKS + b"\r\n")),
    "trailers in one read": (CHUNKED + CHUNKS + b"X-T: 1\r\n\r\n",),
    "trailers": (CHUNKED, CHUNKS, b"X-T: 1\r\n", b"\r\n"),
}


class BodyCase(SynchronousTestCase):
    """A base for tests with a sidecar in memory."""

    def serve(self, *policies: Any, **settings: Any) -> Peer:
        """Make a sidecar and connect a client."""
        self.harness = Harness(policies, settings=Settings(**settings))
        self.client = self.harness.connect()
        self.seen: list[Any] = []
        return self.client

    def whole(self, **how: Any) -> Any:
        """A policy that records the bodies that it gets."""

        def policy(exchange: Any) -> None:
            self.seen.append(exchange.request.body)

        return onRequest(buffered=True, **how)(policy)

    def assertAnswered(self, status: int, body: bytes | None = None) -> bytes:
        """Check the status that the client gets; returns the body that the upstream got."""
        got = None
        if body is not None:
            upstream = self.harness.upstream(len(self.harness.upstreams) - 1)
            got = upstream.gotRequest()
            self.assertEqual(got.body, body)
            upstream.sends(OK)
        self.assertEqual(self.client.gotResponse().status, status)
        self.assertEqual(self.harness.context.buffers.held, 0)
        self.assertEqual(self.harness.context.exchanges, set())
        self.harness.assertQuiet()
        return got.body if got else b""


class BufferedTests(BodyCase):
    """A policy with C{buffered} gets the whole body, however it comes."""

    def test_ways(self) -> None:
        """The policy and the upstream get the same body, whatever the pieces are."""
        for name, pieces in WAYS.items():
            for method in (b"POST", b"PUT"):
                self.serve(self.whole())
                for each in pieces:
                    self.assertEqual(self.seen, [], name)
                    self.client.sends(each.replace(b"POST", method))
                self.assertEqual(self.seen, [BODY], name)
                self.assertAnswered(200, BODY)

    def test_trailers(self) -> None:
        """Trailers pass behind a body that no policy has replaced."""
        for replaced in (False, True):
            for name in ("trailers in one read", "trailers"):

                @onRequest(buffered=True)
                def policy(exchange: Any, replaced: bool = replaced) -> None:
                    if replaced:
                        exchange.request.body = b"mine"

                self.serve(policy)
                for each in WAYS[name]:
                    self.client.sends(each)
                got = self.harness.upstream().got()
                self.assertEqual(b"X-T: 1" in got, not replaced, name)
                self.assertEqual(b"mine" in got, replaced)

    def test_replaced(self) -> None:
        """What the policy sets goes to the upstream, with its length."""

        @onRequest(buffered=True)
        def louder(exchange: Any) -> None:
            exchange.request.body += b"!"

        for pieces in WAYS.values():
            self.serve(louder)
            for each in pieces:
                self.client.sends(each)
            self.assertAnswered(200, BODY + b"!")

    def test_none(self) -> None:
        """A request without a body has an empty one, and waits for nothing."""
        for raw in (head(b"GET"), head(b"POST", b"Content-Length: 0")):
            self.serve(self.whole(), onRequest(lambda each: self.seen.append(each.request.body)))
            self.client.sends(raw)
            self.assertEqual(self.seen, [b"", b""])
            self.assertAnswered(200, b"")

    def test_laterPolicies(self) -> None:
        """Once a policy has asked for the body, all policies after it can read it."""

        def look(exchange: Any, response: Any = None) -> None:
            self.seen.append(exchange.request.body)

        for pieces in WAYS.values():
            self.serve(self.whole(), onRequest(look), onResponse()(look))
            for each in pieces:
                self.client.sends(each)
            self.assertAnswered(200, BODY)
            self.assertEqual(self.seen, [BODY] * 3)

    def test_classes(self) -> None:
        """
        C{buffered} of a class speaks of requests, unless it also gets responses: then
        C{requestBuffered} does.
        """

        @implementer(IRequestPolicy)
        class One:
            buffered = True

            def requestReceived(self, exchange: Any) -> None:
                exchange.notes["body"] = exchange.request.body

        @implementer(IRequestPolicy, IResponsePolicy)
        class Both(One):
            statuses = ()

            def responseReceived(self, exchange: Any, response: Any) -> None:
                pass

        @implementer(IRequestPolicy, IResponsePolicy)
        class Asks(Both):
            requestBuffered = True

        asked = request(method="POST", body=BODY)
        for policy in (One(), Asks()):
            self.assertEqual(runPolicy(policy, asked).exchange.notes["body"], BODY)
        self.assertRaises(BodyNotBuffered, runPolicy, Both(), asked)


class ChosenTests(BodyCase):
    """A function in place of C{True} chooses which requests are whole."""

    def serveChoosing(self, choose: Any, **how: Any) -> None:
        """Make a sidecar with a policy that asks this function, and record the bodies of /x."""

        @onRequest(buffered=choose, **how)
        def policy(exchange: Any) -> None:
            if exchange.request.path == "/x":
                self.seen.append(exchange.request.body)

        self.serve(policy, requestBufferLimit=10)

    def test_ways(self) -> None:
        """A chosen request is whole, whatever the pieces are."""
        for name, pieces in WAYS.items():
            self.serveChoosing(lambda exchange: exchange.request.path == "/x")
            for each in pieces:
                self.client.sends(each)
            self.assertEqual(self.seen, [BODY], name)
            self.assertAnswered(200, BODY)

    def test_others(self) -> None:
        """A request that is not chosen streams: its length has no limit, and nothing waits."""
        self.serveChoosing(lambda exchange: exchange.request.path == "/x")
        self.client.sends(LENGTH.replace(b"/x", b"/y").replace(b"10", b"11"), BODY)
        self.assertTrue(self.harness.upstream().got().endswith(BODY))
        self.client.sends(b"x")
        self.harness.upstream().sends(OK)
        self.assertEqual(self.client.gotResponse().status, 200)

    def test_limit(self) -> None:
        """The limit holds for those that are chosen."""
        self.serveChoosing(lambda exchange: True)
        self.client.sends(head(b"POST", b"Content-Length: 11"))
        self.assertEqual(self.client.gotResponse().status, 413)

    def test_notChosen(self) -> None:
        """To read the body of another one raises, so it is refused."""
        self.serveChoosing(lambda exchange: False)
        self.client.sends(LENGTH + BODY)
        self.assertEqual(self.client.gotResponse().status, 500)
        self.assertEqual(len(self.flushLoggedErrors(BodyNotBuffered)), 1)

    def test_raises(self) -> None:
        """A function that fails chooses; that is logged as a failure of the policy."""
        for failOpen in (False, True):
            self.serveChoosing(lambda exchange: exchange.request.body == b"", failOpen=failOpen)
            self.client.sends(LENGTH, BODY)
            self.assertEqual(self.seen, [BODY])
            self.assertAnswered(200, BODY)
            self.assertEqual(len(self.flushLoggedErrors(BodyNotBuffered)), 1)
            self.assertEqual(self.harness.context.chain.snapshot()[0]["failed"], 1)

    def test_class(self) -> None:
        """In a class it is a method; one that gets both asks C{requestBuffered}."""

        class One:
            def __init__(self) -> None:
                self.bodies: list[bytes] = []

            def buffered(self, exchange: Any) -> bool:
                return bool(exchange.request.method == "POST")

            def requestReceived(self, exchange: Any) -> None:
                if exchange.request.method == "POST":
                    self.bodies.append(exchange.request.body)

        class Both(One):
            buffered = False  # type: ignore[assignment]

            def requestBuffered(self, exchange: Any) -> bool:
                return One.buffered(self, exchange)

            def responseReceived(self, exchange: Any, response: Response) -> None:
                pass

        for policy in (One(), Both()):
            runPolicy(policy, request("/", "PUT", body=BODY), pieces=3).assertResponse(200)
            runPolicy(policy, request("/", "POST", body=BODY), pieces=3).assertResponse(200)
            self.assertEqual(policy.bodies, [BODY])

    def test_wrong(self) -> None:
        """A function that can't be asked is refused at the start, with a sentence."""

        async def slow(exchange: Any) -> bool:
            return True

        class Both:
            def buffered(self, exchange: Any) -> bool:
                return True

            def requestReceived(self, exchange: Any) -> None:
                pass

            def responseReceived(self, exchange: Any, response: Response) -> None:
                pass

        def noParameters() -> bool:
            return True

        deaf: Any = noParameters
        asked: Any = slow
        for policy, words in (
            (onRequest(buffered=asked)(lambda exchange: None), "write def, not async def"),
            (onRequest(buffered=deaf)(lambda exchange: None), "write noParameters(exchange)"),
            (Both(), "for requests, requestBuffered(exchange)"),
        ):
            error = self.assertRaises(ValueError, Harness, policy)
            self.assertIn(words, str(error))
        choose: Any = bool
        error = self.assertRaises(TypeError, onResponse, buffered=choose)
        self.assertIn("write buffered=True", str(error))


class LimitTests(BodyCase):
    """A body that is too long gets 413, and one without room 503."""

    def test_limit(self) -> None:
        """At the limit it passes; one byte more is a 413, and no policy gets it."""
        for pieces in WAYS.values():
            for limit, status in ((10, 200), (9, 413)):
                self.serve(self.whole(), requestBufferLimit=limit)
                for each in pieces:
                    self.client.sends(each)
                self.assertAnswered(status, BODY if status == 200 else None)
                self.assertEqual(self.seen, [BODY] if status == 200 else [])
                failure = self.harness.exchanges[0].failure
                self.assertEqual(type(failure), type(None) if status == 200 else BodyTooLong)
                self.assertEqual(bool(self.harness.upstreams), status == 200)

    def test_announced(self) -> None:
        """A body that announces itself too long is refused before a byte of it comes."""
        for fields in ((), (b"Expect: 100-continue",)):
            self.serve(self.whole(), requestBufferLimit=9)
            self.client.sends(head(b"POST", b"Content-Length: 10", *fields))
            self.assertAnswered(413)

    def test_failOpen(self) -> None:
        """A policy that fails open is skipped, and the body streams, whole."""
        for name, pieces in WAYS.items():
            self.serve(self.whole(failOpen=True), requestBufferLimit=9)
            for each in pieces:
                self.client.sends(each)
            self.assertAnswered(200, BODY)
            self.assertEqual(self.seen, [], name)
            self.assertEqual(len(self.flushLoggedErrors(BodyTooLong)), 1)
            self.assertEqual(self.harness.context.chain.snapshot()[0]["failed"], 1)

    def test_total(self) -> None:
        """All that is buffered is bounded by C{bufferTotal}; beyond it is a 503."""
        for raw in (LENGTH, CHUNKED + b"a\r\n0123456789\r\n"):
            self.serve(self.whole(), bufferTotal=15)
            self.client.sends(raw)
            self.assertEqual(self.harness.context.buffers.held, 10)
            other = self.harness.connect()
            other.sends(raw)
            self.assertEqual(other.gotResponse().status, 503)
            self.assertIsInstance(self.harness.exchanges[0].failure, BuffersFull)
            self.assertEqual(self.harness.context.buffers.held, 10)
            self.client.closes()
            self.assertEqual(self.harness.context.buffers.held, 0)
            self.harness.assertQuiet()

    def test_heldUntilTheEnd(self) -> None:
        """A buffered body counts until its exchange ends."""
        self.serve(self.whole())
        self.client.sends(LENGTH, BODY)
        self.assertEqual(self.harness.context.buffers.held, 10)
        self.assertAnswered(200, BODY)

    def test_earlyRefusal(self) -> None:
        """A policy before it may refuse the request without waiting for its body."""
        self.serve(onRequest(lambda exchange: Response(401)), self.whole())
        self.client.sends(head(b"POST", b"Content-Length: 10", b"Expect: 100-continue"))
        self.assertAnswered(401)


class WaitTests(BodyCase):
    """The wait for a body is bounded, and ends with its client."""

    def test_stalls(self) -> None:
        """A body that stops gets 408; each piece restarts the time."""
        self.serve(self.whole(), stallTimeout=5.0, minBodyRate=0)
        self.client.sends(LENGTH)
        for at in range(3):
            self.harness.advance(4)
            self.client.sends(BODY[at : at + 1])
        self.harness.advance(6)
        self.assertIsInstance(self.harness.exchanges[0].failure, RequestTimeout)
        self.assertAnswered(408)

    def test_slow(self) -> None:
        """A body that comes more slowly than C{minBodyRate} gets 408."""
        self.serve(self.whole(), minBodyRate=100)
        self.client.sends(head(b"POST", b"Content-Length: 1000"))
        for _ in range(30):
            self.client.sends(b"x")
            self.harness.advance(1)
            if self.harness.exchanges:
                break
        self.assertIn("slower", str(self.harness.exchanges[0].failure))
        self.assertAnswered(408)

    def test_policyHasItsOwnTime(self) -> None:
        """When the body is there, the stall timeout has no say in how long the policy takes."""
        answer: Deferred[None] = Deferred()

        @onRequest(buffered=True)
        def slow(exchange: Any) -> Any:
            return answer

        self.serve(slow, stallTimeout=5.0)
        self.client.sends(LENGTH, BODY)
        self.harness.advance(10)
        answer.callback(None)
        self.assertAnswered(200, BODY)

    def test_clientGone(self) -> None:
        """A client that goes away ends the wait; the policy is not called."""
        self.serve(self.whole())
        self.client.sends(LENGTH, BODY[:5])
        self.client.closes()
        self.assertEqual((self.seen, self.harness.exchanges[0].status), ([], 499))
        self.assertEqual(self.harness.context.buffers.held, 0)
        self.harness.assertQuiet()

    def test_malformed(self) -> None:
        """A malformed chunk within the wait is a 400."""
        self.serve(self.whole())
        self.client.sends(CHUNKED, b"4\r\n0123\r\n", b"zz\r\n")
        self.assertAnswered(400)
        self.assertEqual(self.seen, [])


class ContinueTests(BodyCase):
    """A client that waits for 100 (Continue) gets it once (RFC 9110, section 10.1.1)."""

    EXPECTS = head(b"POST", b"Content-Length: 10", b"Expect: 100-continue")

    def test_fromSitio(self) -> None:
        """Where a policy waits for the body, sitio sends it, and the upstream's does not pass."""
        self.serve(self.whole())
        self.client.sends(self.EXPECTS)
        self.assertEqual(self.client.got(), CONTINUE)
        self.client.sends(BODY)
        upstream = self.harness.upstream()
        got = upstream.gotRequest()
        self.assertEqual((got.body, "Expect" in got.headers), (BODY, False))
        upstream.sends(CONTINUE + b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK)
        self.assertEqual(self.client.got(), b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK)

    def test_notWaiting(self) -> None:
        """A client that has sent some of its body gets none, nor does HTTP/1.0."""
        for raw in (
            self.EXPECTS + BODY[:1],
            head(b"POST", b"Content-Length: 10", b"Expect: 100-continue", version=b"1.0"),
            head(b"POST", b"Content-Length: 10", b"Expect: something"),
        ):
            self.serve(self.whole())
            self.client.sends(raw)
            self.assertEqual(self.client.got(), b"")

    def test_fromUpstream(self) -> None:
        """Without such a policy, it is the upstream that decides."""
        self.serve(onRequest(lambda exchange: None))
        self.client.sends(self.EXPECTS)
        self.assertEqual(self.client.got(), b"")
        self.harness.upstream().sends(CONTINUE)
        self.assertEqual(self.client.got(), CONTINUE)


class RetryTests(BodyCase):
    """A buffered body can be sent again."""

    def test_again(self) -> None:
        """Also one that is longer than what is kept otherwise; but only if the method allows."""
        for method, attempts in ((b"PUT", 2), (b"POST", 1)):
            self.serve(self.whole(), onResponse(503)(lambda *given: Retry()), replayLimit=5)
            self.client.sends(head(method, b"Content-Length: 10"), BODY)
            self.assertEqual(self.harness.upstream().gotRequest().body, BODY)
            self.harness.upstream().sends(
                b"HTTP/1.1 503 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            )
            self.harness.advance(0.1)
            self.assertEqual(len(self.harness.upstreams), attempts)
            self.assertAnswered(200 if attempts == 2 else 503, BODY if attempts == 2 else None)

    def test_afterTooLong(self) -> None:
        """A body that was too long for a policy that fails open is sent again as it came."""
        parts = [BODY[at : at + 1] for at in range(10)]
        for way, pieces in (
            ("announced", (head(b"PUT", b"Content-Length: 10"), BODY[:7], BODY[7:])),
            ("chunks", [head(b"PUT", b"Transfer-Encoding: chunked")]
                       + [b"1\r\n%b\r\n" % each for each in parts] + [b"0\r\n\r\n"]),
        ):  # fmt: skip
            for limit, keeps, attempts in ((4, 10, 2), (4, 9, 1), (4, 3, 1), (0, 10, 2)):
                self.serve(
                    self.whole(failOpen=True),
                    onResponse(503)(lambda *given: Retry()),
                    requestBufferLimit=limit,
                    replayLimit=keeps,
                )
                self.client.sends(*pieces)
                first = self.harness.upstream()
                self.assertEqual(first.gotRequest().body, BODY, (way, limit, keeps))
                first.sends(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                self.harness.advance(0.1)
                self.assertEqual(len(self.harness.upstreams), attempts, (way, limit, keeps))
                self.assertAnswered(200 if attempts == 2 else 503, BODY if attempts == 2 else None)
                self.assertEqual(self.seen, [])
                self.assertEqual(len(self.flushLoggedErrors(BodyTooLong)), 1)


class UnbufferedTests(BodyCase):
    """Without C{buffered} a body can be replaced, but not read."""

    def test_refused(self) -> None:
        """Reading it fails closed, however it comes, with a sentence that says what to write."""
        for name, pieces in WAYS.items():
            self.serve(onRequest(lambda exchange: self.seen.append(exchange.request.body)))
            for each in pieces:
                self.client.sends(each)
            self.assertEqual(self.client.gotResponse().status, 500, name)
            [error] = self.flushLoggedErrors(BodyNotBuffered)
            self.assertIn("@onRequest(buffered=True)", str(error.value))
            self.assertIn("addFilter", str(error.value))

    def test_set(self) -> None:
        """To set it needs no permission, and what was set can be read."""

        @onRequest
        def sets(exchange: Any) -> None:
            exchange.request.body = b"mine"
            self.seen.append((exchange.request.body, exchange.request.hasBody))

        for pieces in WAYS.values():
            self.serve(sets)
            for each in pieces:
                self.client.sends(each)
            self.assertAnswered(200, b"mine")
            self.assertEqual(self.seen, [(b"mine", True)])

    def test_hasBody(self) -> None:
        """Whether there is a body can be asked."""
        look = onRequest(lambda exchange: self.seen.append(exchange.request.hasBody))
        for pieces in (*WAYS.values(), (head(b"GET"),)):
            self.serve(look)
            for each in pieces:
                self.client.sends(each)
            self.assertEqual(self.seen, [pieces[0] != head(b"GET")])


class FilterTests(BodyCase):
    """Filters of requests."""

    def filtered(self, bodyFilter: Any, **how: Any) -> Any:
        """A policy that adds this filter."""
        return onRequest(lambda exchange: exchange.request.addFilter(bodyFilter, **how))

    def test_ways(self) -> None:
        """A filter gets each piece and the end, and the upstream gets what it returns."""
        for name, pieces in WAYS.items():
            for keepsLength in (True, False):

                def shout(data: bytes, keeps: bool = keepsLength) -> bytes:
                    self.seen.append(data)
                    return data.replace(b"9", b"N") if data or keeps else b"!"

                self.serve(self.filtered(shout, keepsLength=keepsLength))
                for each in pieces:
                    self.client.sends(each)
                self.assertAnswered(200, b"012345678N" + (b"" if keepsLength else b"!"))
                self.assertEqual((b"".join(self.seen), self.seen[-1]), (BODY, b""), name)

    def test_afterBuffered(self) -> None:
        """A filter also gets a body that another policy has asked for or set."""
        for first in (self.whole(), onRequest(lambda each: setattr(each.request, "body", BODY))):
            for raw in (LENGTH + BODY, head(b"POST")):
                self.serve(first, self.filtered(lambda data: data.replace(b"9", b"N")))
                self.client.sends(raw)
                expected = b"" if raw == head(b"POST") and self.seen == [b""] else b"012345678N"
                self.assertAnswered(200, expected)

    def test_noBody(self) -> None:
        """A request without a body calls no filter."""

        def look(data: bytes) -> bytes:
            self.seen.append(data)
            return b"!"

        self.serve(self.filtered(look))
        self.client.sends(head(b"GET"))
        self.assertAnswered(200, b"")
        self.assertEqual(self.seen, [])

    def test_fails(self) -> None:
        """
        If a filter fails, the client gets 500, and the upstream no request that looks whole;
        the failure is the policy's.
        """
        for name, pieces in WAYS.items():
            for at in (1, None):
                calls: list[bytes] = []

                def fails(data: bytes, at: Any = at, calls: list[bytes] = calls) -> bytes:
                    calls.append(data)
                    if len(calls) == at or not data:
                        raise ZeroDivisionError
                    return data

                for keepsLength in (True, False):
                    calls.clear()
                    self.serve(self.filtered(fails, keepsLength=keepsLength))
                    for each in pieces:
                        self.client.sends(each)
                    self.assertEqual(self.client.gotResponse().status, 500, name)
                    for upstream in self.harness.upstreams:
                        self.assertTrue(upstream.reset)
                        self.assertNotIn(b"0\r\n\r\n", upstream.got())
                    self.assertEqual(self.harness.context.chain.snapshot()[0]["failed"], 1)
                    self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
                    self.harness.assertQuiet()

    def test_failOpen(self) -> None:
        """A filter that fails open is skipped from then on."""

        def fails(data: bytes) -> bytes:
            raise ZeroDivisionError

        for pieces in WAYS.values():
            self.serve(self.filtered(fails, keepsLength=True, failOpen=True))
            for each in pieces:
                self.client.sends(each)
            self.assertAnswered(200, BODY)
            self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_again(self) -> None:
        """A second attempt sends what the filter has made; the filter is not called again."""

        def count(data: bytes) -> bytes:
            self.seen.append(data)
            return data.upper()

        self.serve(self.filtered(count), onResponse(503)(lambda *given: Retry()))
        self.client.sends(head(b"PUT", b"Content-Length: 2"), b"a", b"b")
        self.harness.upstream().gotRequest()
        self.harness.upstream().sends(
            b"HTTP/1.1 503 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )
        self.harness.advance(0.1)
        self.assertAnswered(200, b"AB")
        self.assertEqual(self.seen, [b"a", b"b", b""])
