"""
Tests of L{sitio.proxy.exchange}: one request's whole life, as client and upstream see it.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred, fail
from twisted.trial.unittest import SynchronousTestCase

from sitio.errors import BadResponse, ResponseWithheld, SitioError
from sitio.http.message import Response, Retry
from sitio.policy.functions import onRequest, onResponse
from sitio.proxy.exchange import Exchange
from sitio.settings import Settings
from sitio.test.helpers.producers import pauseOnce
from sitio.testing import Harness, Peer
from sitio.testing.network import HALF_CLOSED

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

UPGRADE = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"


def sent(head: bytes, body: bytes = b"") -> bytes:
    """The request that the upstream gets for this head of the client."""
    own = b"X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: h\r\n\r\n"
    return head.removesuffix(b"\r\n") + own + body


def arrivesAfterThePause(peer: Peer, data: bytes) -> None:
    """Deliver bytes that a TLS transport had already read before it was paused."""
    assert peer.paused
    protocol: Any = peer.transport.protocol
    protocol.dataReceived(data)
    peer.got()


class ExchangeCase(SynchronousTestCase):
    """A sidecar in memory, and one client."""

    def open(self, *policies: Any, via: bytes | None = None, **settings: Any) -> Peer:
        """Connect a client to a new sidecar with these policies and settings."""
        self.sidecar = Harness(policies, settings=Settings(**settings), via=via)
        self.client = self.sidecar.connect()
        return self.client

    def answer(self, *data: bytes, number: int = 0) -> bytes:
        """Read what the upstream got on this connection, and send this."""
        upstream = self.sidecar.upstream(number)
        got = upstream.got()
        upstream.sends(*data or (OK,))
        return got

    @property
    def last(self) -> Exchange:
        """The exchange that ended last."""
        return self.sidecar.exchanges[-1]


class Tunnels(ExchangeCase):
    """A 101 turns the two connections into a tunnel."""

    def test_silentAfterABacklog(self) -> None:
        """
        An idle tunnel closes after the tunnel timeout, even if one side was slow to read
        before.
        """
        self.open()
        self.client.sends(UPGRADE)
        self.answer(SWITCH)
        self.client.stopsReading()
        self.sidecar.upstream().sends(b"x" * 10)
        self.client.resumesReading()
        self.sidecar.advance(Settings().tunnelTimeout - 1)
        self.assertEqual(self.client.got(), SWITCH + b"x" * 10)
        self.client.sends(b"still here")
        self.assertTrue(self.sidecar.upstream().got().endswith(b"still here"))


class Judging(ExchangeCase):
    """Response policies decide about a response."""

    def test_retryAfterABreak(self) -> None:
        """
        A response breaks off while a policy decides, and the policy asks for another
        attempt: the next response is judged on its own.
        """
        verdicts: list[Deferred[Any]] = [Deferred(), Deferred()]
        waiting = list(verdicts)
        self.open(onResponse(200, 503)(lambda exchange, response: waiting.pop(0)))
        self.client.sends(GET)
        self.answer(b"HTTP/1.1 503 Busy\r\nTransfer-Encoding: chunked\r\n\r\n")
        arrivesAfterThePause(self.sidecar.upstream(), b"no chunk\r\n")
        verdicts[0].callback(Retry())
        self.sidecar.settle()
        self.answer(number=1)
        verdicts[1].callback(None)
        self.assertEqual(self.client.got(), OK)
        self.assertEqual((self.last.status, self.last.attempts), (200, 2))
        self.sidecar.assertQuiet()

    def test_breakWhileJudging(self) -> None:
        """
        A response that breaks off while a policy decides is a failed attempt, which the
        policies get.
        """
        verdict: Deferred[None] = Deferred()
        seen = []

        def think(exchange: Any, response: Response) -> Any:
            seen.append((response.status, type(response.failure)))
            if response.status == 200:
                return verdict
            response.headers["X-Seen"] = "yes"
            return None

        self.open(onResponse(200, 502)(think))
        self.client.sends(GET)
        self.answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        arrivesAfterThePause(self.sidecar.upstream(), b"no chunk\r\n")
        verdict.callback(None)
        self.assertEqual(seen, [(200, type(None)), (502, BadResponse)])
        self.assertEqual(self.client.gotResponse().headers["X-Seen"], "yes")
        self.assertEqual((self.last.status, self.last.upstreamStatus), (502, 502))
        self.sidecar.assertQuiet()

    def test_stallBehindAThoughtfulPolicy(self) -> None:
        """
        The stall timeout applies while a second policy collects the body, even if the
        first policy took long.
        """
        verdict: Deferred[None] = Deferred()
        seen = []

        def whole(exchange: Any, response: Response) -> None:
            seen.append(response.status)

        self.open(
            onResponse(200)(lambda exchange, response: verdict),
            onResponse(200, 504, buffered=True)(whole),
            stallTimeout=7.0,
        )
        self.client.sends(GET)
        self.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
        verdict.callback(None)
        self.sidecar.advance(6.5)
        self.assertEqual(self.client.got(), b"")
        self.sidecar.advance(1.0)
        self.assertEqual(self.client.gotResponse().status, 504)
        self.assertEqual(seen, [504])
        self.sidecar.assertQuiet()


class Buffering(ExchangeCase):
    """Policies that need the whole body."""

    def test_twoPoliciesAndTooLong(self) -> None:
        """
        A response over the buffer limit passes unchanged, counts once, and skips all
        policies that need the whole body.
        """
        seen: list[int] = []

        def whole(exchange: Any, response: Response) -> None:
            seen.append(response.status)

        wants = onResponse(200, buffered=True)(whole)
        self.open(("a", wants), ("b", wants), bufferLimit=10)
        self.client.sends(GET)
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        self.answer(head, b"8\r\nto begin\r\n", b"9\r\n with, to\r\n", b"4\r\n end\r\n0\r\n\r\n")
        self.assertEqual(self.client.gotResponse().body, b"to begin with, to end")
        self.assertEqual((seen, self.sidecar.context.tooLong), ([], 1))
        self.sidecar.assertQuiet()

    def test_twoPoliciesAndTooLongByItsLength(self) -> None:
        """The same for a response whose Content-Length is over the limit."""
        wants = onResponse(200, buffered=True)(lambda exchange, response: Response(500))
        self.open(("a", wants), ("b", wants), bufferLimit=10)
        self.client.sends(GET)
        self.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nall of it..")
        self.assertEqual(self.client.gotResponse().body, b"all of it..")
        self.assertEqual(self.sidecar.context.tooLong, 1)

    def test_limit(self) -> None:
        """
        A body of exactly the limit is buffered; one more byte passes unchanged.  Framing
        and pieces make no difference.
        """
        shout = onResponse(200, buffered=True)(
            lambda exchange, response: Response(body=response.body.upper())
        )
        for size in (19, 20, 21):
            body = b"abcdefghijklmnopqrstu"[:size]
            framings = {
                "length": (b"Content-Length: %d\r\n\r\n" % size, body),
                "chunked": (
                    b"Transfer-Encoding: chunked\r\n\r\n",
                    b"5\r\n" + body[:5] + b"\r\n" + b"%x\r\n" % (size - 5) + body[5:],
                    b"\r\n0\r\n\r\n",
                ),
                "close": (b"Connection: close\r\n\r\n", body[:3], body[3:]),
            }
            for name, (fields, *pieces) in framings.items():
                head = b"HTTP/1.1 200 OK\r\n" + fields
                for cut in ([head, *pieces], [b"".join([head, *pieces])]):
                    self.open(shout, bufferLimit=20)
                    self.client.sends(GET)
                    self.answer(*cut)
                    if name == "close":
                        self.sidecar.upstream().closes()
                    got = self.client.gotResponse().body
                    self.assertEqual(got, body if size > 20 else body.upper(), (size, cut))
                    self.assertEqual(self.sidecar.context.tooLong, int(size > 20))
                    self.sidecar.assertQuiet()


class Requests(ExchangeCase):
    """Policies change a request."""

    def test_methodMadeUnsafe(self) -> None:
        """A request that a policy changed to POST is never sent twice."""

        def post(exchange: Any) -> None:
            exchange.request.method = "POST"

        self.open(onRequest(post))
        self.client.sends(GET)
        self.answer()
        self.client.sends(GET)
        self.sidecar.upstream().got()
        self.sidecar.upstream().closes()
        self.assertEqual(self.client.got().partition(b"okHTTP/1.1 ")[2][:3], b"502")
        self.assertEqual(self.last.attempts, 1)
        self.sidecar.assertQuiet()

    def test_methodMadeGet(self) -> None:
        """
        A HEAD request gets no body even if a policy changed it to GET for the upstream:
        the client would read the body as the next response.
        """

        def get(exchange: Any) -> None:
            exchange.request.method = "GET"

        self.open(onRequest(get))
        self.client.sends(GET.replace(b"GET", b"HEAD") * 2)
        self.assertEqual(self.answer()[:4], b"GET ")
        self.assertEqual(self.client.got(), OK.removesuffix(b"ok"))
        self.assertEqual(self.answer(OK.replace(b"Content-Length: 2", b"X: 1"))[:4], b"GET ")
        self.sidecar.upstream().closes()
        self.assertEqual(self.client.got(), b"HTTP/1.1 200 OK\r\nX: 1\r\n\r\n")
        self.sidecar.assertQuiet()

    def test_bodyReplaced(self) -> None:
        """A policy's body replaces the client's, which is read and dropped."""
        head = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n"
        body = b"0123456789"
        for own in (b"mine", b"mine, and a longer one", b""):

            def replace(exchange: Any, own: bytes = own) -> None:
                exchange.request.body = own

            length = b"%d" % len(own)
            for pieces in ([head + body], [head, body[:4], body[4:]], [head + body[:1], body[1:]]):
                self.open(onRequest(replace))
                self.client.sends(*pieces)
                self.assertEqual(self.answer(), sent(head.replace(b"10", length), own))
                self.assertEqual(self.client.got(), OK)
                self.assertEqual(self.last.bytesIn, 10)
                self.sidecar.assertQuiet()

    def test_bodyReplacedLate(self) -> None:
        """The same for a policy that decides late and a client that sends in chunks."""
        decision: Deferred[None] = Deferred()

        def replace(exchange: Any) -> Any:
            return decision.addCallback(lambda _: setattr(exchange.request, "body", b"mine"))

        head = b"PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
        self.open(onRequest(replace), replayLimit=4)
        self.client.sends(head + b"5\r\nfirst\r\n", b"6\r\nsecond\r\n")
        self.assertTrue(self.client.paused)
        decision.callback(None)
        self.client.sends(b"0\r\nTrailer: of another body\r\n\r\n")
        self.assertEqual(
            self.answer(),
            b"PUT / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 192.0.2.1\r\n"
            b"X-Forwarded-Proto: http\r\nX-Forwarded-Host: h\r\n"
            b"Content-Length: 4\r\n\r\nmine",
        )
        self.assertEqual(self.client.got(), OK)
        self.sidecar.assertQuiet()

    def test_lastWordOnForwarded(self) -> None:
        """
        Request policies see the X-Forwarded fields as the upstream gets them, and may
        change them.
        """
        seen: list[Any] = []

        def correct(exchange: Any) -> None:
            seen.append(exchange.request.headers.allItems()[1:])
            exchange.request.headers["X-Forwarded-Proto"] = "https"

        self.open(onRequest(correct))
        self.client.sends(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        self.assertEqual(
            self.answer(),
            b"GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 192.0.2.1\r\n"
            b"X-Forwarded-Proto: https\r\nX-Forwarded-Host: h\r\n\r\n",
        )
        who = ("X-Forwarded-For", "192.0.2.1")
        self.assertEqual(seen, [[who, ("X-Forwarded-Proto", "http"), ("X-Forwarded-Host", "h")]])

    def test_maxForwardsOfManyDigits(self) -> None:
        """A Max-Forwards of very many digits is cut to sitio's maximum (section 7.6.2)."""
        self.open()
        for digits in (b"1" + b"0" * 9, b"9" * 5000):
            head = b"OPTIONS / HTTP/1.1\r\nHost: h\r\nMax-Forwards: %b\r\n\r\n"
            self.client.sends(head % digits)
            self.assertEqual(self.answer(), sent(head % b"999999999"))
            self.assertEqual(self.client.got(), OK)
        self.sidecar.assertQuiet()

    def test_noHostToForward(self) -> None:
        """An HTTP/1.0 request without Host gets no X-Forwarded-Host."""
        self.open()
        own = b"X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: http\r\nHost: localhost\r\n\r\n"
        self.client.sends(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        self.assertEqual(self.answer(), b"GET / HTTP/1.1\r\n" + own)
        self.client.sends(b"GET / HTTP/1.0\r\nX-Forwarded-Host: a\r\n\r\n")
        self.assertEqual(
            self.answer(),
            b"GET / HTTP/1.1\r\n" + own,
        )

    def test_claimsKept(self) -> None:
        """
        The addresses that a client claims stay in front, repeated fields in one line; scheme
        and host are sitio's.
        """
        self.open()
        both = b"X-Forwarded-For: a\r\nVia: x\r\nx-forwarded-for: b\r\n"
        self.client.sends(b"GET / HTTP/1.1\r\nHost: h\r\n" + both + b"\r\n")
        self.assertEqual(
            self.answer(),
            b"GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: a, b, 192.0.2.1\r\nVia: x\r\n"
            b"X-Forwarded-Proto: http\r\nX-Forwarded-Host: h\r\n\r\n",
        )
        odd = b"X-Forwarded-Host: \r\nX-Forwarded-Proto: https\r\nX-Forwarded-For: \xe9\r\n"
        self.client.sends(b"GET / HTTP/1.1\r\nHost: h\r\n" + odd + b"\r\n")
        self.assertEqual(
            self.answer(),
            b"GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: \xe9, 192.0.2.1\r\n"
            b"X-Forwarded-Proto: http\r\nX-Forwarded-Host: h\r\n\r\n",
        )
        for code in [*range(32), 127]:
            peer = self.sidecar.connect()
            claim = b"X-Forwarded-For: a%cb\r\n" % code
            peer.sends(b"GET / HTTP/1.1\r\nHost: h\r\n" + claim + b"\r\n")
            if peer.got()[9:12] != b"400":
                self.answer()
                self.assertEqual(peer.got(), OK, code)

    def test_breaksWhileAPolicyThinks(self) -> None:
        """
        A body that becomes malformed while a policy decides is answered at once.  The
        policy is cancelled, which does not count as its failure.
        """
        cancelled: list[Any] = []
        self.open(onRequest(lambda exchange: Deferred(cancelled.append)))
        self.client.sends(
            b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n", b"no chunk\r\n"
        )
        self.assertEqual(self.client.gotResponse().status, 400)
        self.assertEqual(len(cancelled), 1)
        self.assertEqual(self.sidecar.errors, [])
        self.assertEqual(self.last.status, 400)
        self.sidecar.assertQuiet()

    def test_breaksWhileAResponseIsJudged(self) -> None:
        """The same while a policy decides about an early response."""
        cancelled: list[Any] = []
        self.open(onResponse(200)(lambda exchange, response: Deferred(cancelled.append)))
        self.client.sends(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
        self.answer()
        self.client.sends(b"no chunk\r\n")
        self.assertEqual(self.client.gotResponse().status, 400)
        self.assertEqual(len(cancelled), 1)
        self.assertEqual(self.sidecar.errors, [])
        self.sidecar.assertQuiet()


class Mistakes(ExchangeCase):
    """After a bug in sitio the failure is logged, and the client gets a response."""

    def test_chainBreaks(self) -> None:
        """If the policy chain itself raises, the client gets 500, once."""
        self.open(onResponse()(lambda exchange, response: None))
        calls = []

        def broken(exchange: Any, response: Response, wanting: Any) -> Any:
            calls.append(response.status)
            return fail(ZeroDivisionError())

        self.sidecar.context.chain.responseReceived = broken  # type: ignore[method-assign, assignment]
        self.client.sends(GET)
        self.answer()
        self.assertEqual(self.client.gotResponse().status, 500)
        self.assertEqual((calls, self.last.status), ([200], 500))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.sidecar.assertQuiet()

    def test_goingOnBreaks(self) -> None:
        """The same for an exception in the callback of a Deferred."""
        decision: Deferred[None] = Deferred()
        self.open(onRequest(lambda exchange: decision))
        self.client.sends(GET)

        def broken() -> Any:
            raise ZeroDivisionError

        self.patch(self.sidecar.pool, "takeIdle", broken)
        decision.callback(None)
        self.assertEqual(self.client.gotResponse().status, 500)
        self.assertEqual((self.last.status, type(self.last.failure)), (500, SitioError))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.sidecar.assertQuiet()


class BothWays(ExchangeCase):
    """A response arrives while the request's body is still being sent."""

    POST = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n"

    def test_uploadKeepsItAlive(self) -> None:
        """
        Moving bytes of the request's body restart the stall timeout, even if the response
        rests.
        """
        self.open(stallTimeout=5.0)
        self.client.sends(self.POST)
        self.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no")
        for _ in range(4):
            self.sidecar.advance(4.0)
            self.client.sends(b"x" * 250)
        self.sidecar.upstream().sends(b"k")
        self.assertEqual(
            self.client.got(),
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
        )
        self.assertIs(self.client.state, HALF_CLOSED)
        self.client.closes()
        self.assertEqual(self.last.bytesIn, 1000)
        self.sidecar.assertQuiet()


class Responses(ExchangeCase):
    """The response that the client gets."""

    def test_viaOfAResponseThatIsKept(self) -> None:
        """
        A policy may return the same response object each time: no Via is added to the
        object.
        """
        mine = Response(text="no")
        self.open(onRequest(lambda exchange: mine), via=b"s")
        for _ in range(3):
            self.client.sends(GET)
            self.assertEqual(
                self.client.got(),
                b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\n"
                b"Via: 1.1 s\r\nContent-Length: 2\r\n\r\nno",
            )
        self.assertEqual(len(mine.headers), 1)

    def test_filtersOfAResponseThatIsKept(self) -> None:
        """
        The response object also keeps its filters: a filter that failed once is called
        again.
        """
        calls = []

        def fails(data: bytes) -> bytes:
            calls.append(data)
            raise ValueError("no")

        mine = Response(text="text")
        mine.addFilter(fails, keepsLength=True)
        self.open(onRequest(lambda exchange: mine))
        for _ in range(2):
            self.client.sends(GET)
            self.assertEqual(self.client.gotResponse().body, b"text")
        self.assertEqual(calls, [b"text", b"text"])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_headOfAFilteredResponse(self) -> None:
        """
        A HEAD response has no Content-Length if a filter may change the length: GET would
        have none either (RFC 9110, section 8.6).
        """

        def append(exchange: Any, response: Response) -> None:
            response.addFilter(lambda data: data or b"<!-- end -->")

        self.open(onResponse(200)(append))
        self.client.sends(GET)
        self.answer()
        self.assertEqual(
            self.client.got(),
            b"HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\nok<!-- end -->",
        )
        self.client.sends(GET.replace(b"GET", b"HEAD"))
        self.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
        self.assertEqual(self.client.got(), b"HTTP/1.1 200 OK\r\n\r\n")


class AnsweredByTests(ExchangeCase):
    """Each exchange names the maker of its response."""

    def answeredBy(self, *policies: Any, response: bytes = OK, request: bytes = GET) -> str | None:
        """C{answeredBy} of an exchange with these policies and this response of the upstream."""
        self.open(*policies)
        self.client.sends(request)
        if self.sidecar.upstreams:
            self.answer(response)
        self.assertTrue(self.client.got())
        return self.last.answeredBy

    def test_upstream(self) -> None:
        """A response that policies leave alone or decorate keeps C{answeredBy} at L{None}."""
        leaves = onResponse(200)(lambda exchange, response: None)
        self.assertIsNone(self.answeredBy(leaves))

    def test_answers(self) -> None:
        """C{answeredBy} names the policy that answered, not a policy that failed."""
        self.assertEqual(self.answeredBy(("door", onRequest(lambda _: Response(403)))), "door")
        door: Any = onRequest(lambda _: 1 / 0)
        self.assertIsNone(self.answeredBy(("door", door)))
        self.assertEqual(self.last.status, 500)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_replaced(self) -> None:
        """If several policies replace a response, C{answeredBy} names the last of them."""
        first = ("first", onResponse(200)(lambda *_: Response(404)))
        last = ("last", onResponse(404)(lambda *_: Response(410)))
        self.assertEqual(self.answeredBy(first, last), "last")

    def test_retried(self) -> None:
        """A replacement in an earlier attempt does not count in C{answeredBy}."""
        answers = [Response(503), None]
        replaces = ("replaces", onResponse(200)(lambda *_: answers.pop(0)))
        retries = ("retries", onResponse(503)(lambda *_: Retry()))
        self.open(replaces, retries)
        self.client.sends(GET)
        self.answer()
        self.sidecar.clock.advance(0)
        self.answer()
        self.assertEqual(self.client.gotResponse().status, 200)
        self.assertEqual((self.last.acted, self.last.answeredBy), (("replaces", "retries"), None))

    def test_refused(self) -> None:
        """If sitio refuses the request, C{answeredBy} is L{None}, even after a policy acted."""
        verdict: Deferred[None] = Deferred()
        first = ("first", onResponse(200)(lambda *_: Response(404)))
        waits = ("waits", onResponse(404)(lambda *_: verdict))
        self.open(first, waits)
        self.client.sends(
            b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n"
        )
        self.answer()
        self.client.sends(b"nonsense\r\n")
        self.assertEqual(self.client.gotResponse().status, 400)
        self.assertIsNone(self.last.answeredBy)


class Reuse(ExchangeCase):
    """Upstream connections are reused."""

    def breakReused(self, request: bytes) -> bytes:
        """The bytes that a fresh connection gets when a reused one breaks before its response."""
        self.open()
        self.client.sends(GET)
        self.answer()
        self.client.got()
        self.client.sends(request)
        self.sidecar.upstream().got()
        self.sidecar.upstream().closes()
        return self.sidecar.upstream(1).got()

    def test_upgradeSentAgain(self) -> None:
        """A WebSocket's GET is repeated on a fresh connection like any other GET."""
        again = self.breakReused(UPGRADE)
        self.assertIn(b"\r\nConnection: upgrade\r\nUpgrade: echo\r\n", again)
        self.client.sends(b"early")
        self.sidecar.upstream(1).sends(SWITCH + b"hello")
        self.assertEqual(self.client.got(), SWITCH + b"hello")
        self.assertEqual(self.sidecar.upstream(1).got(), b"early")
        self.sidecar.assertQuiet()


class Trailers(ExchangeCase):
    """Trailer fields after a chunked body."""

    RESPONSE = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"2;ext=1\r\nok\r\n0\r\nX-Sum: 1\r\nX-Sum: 2\r\n\r\n"
    )
    PASSED = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"2\r\nok\r\n0\r\nX-Sum: 1\r\nX-Sum: 2\r\n\r\n"
    )

    def test_behindAPolicy(self) -> None:
        """Trailers pass if a policy leaves the response alone, at once or later."""
        for cut in ([self.RESPONSE], [self.RESPONSE[:-40], self.RESPONSE[-40:]]):
            verdict: Deferred[None] = Deferred()
            self.open(onResponse(200)(lambda exchange, response, v=verdict: v))
            self.client.sends(GET)
            self.answer(*cut)
            verdict.callback(None)
            self.assertEqual(self.client.got(), self.PASSED)
            self.sidecar.assertQuiet()

    def test_behindABuffer(self) -> None:
        """
        A buffered response is sent with a length and without trailers: they may describe
        another body (RFC 9110, section 6.5.1).
        """
        self.open(onResponse(200, buffered=True)(lambda exchange, response: None))
        self.client.sends(GET)
        self.answer(self.RESPONSE)
        self.assertEqual(self.client.got(), OK)


class FlowControl(ExchangeCase):
    """Slow readers pause their senders."""

    def test_backlogOfInterimResponses(self) -> None:
        """
        If a client has not read the interim responses, the response is paused from its
        first byte.
        """
        for final in (b"HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n", SWITCH):
            self.open()
            pauseOnce(self.client)
            self.client.stopsReading()
            self.client.sends(UPGRADE)
            self.answer(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n")
            upstream = self.sidecar.upstream()
            self.assertFalse(upstream.paused)
            upstream.sends(final)
            self.assertTrue(upstream.paused)
            self.client.resumesReading()
            self.assertFalse(upstream.paused)
            self.sidecar.assertQuiet()


@define
class Fails:
    """A body filter that fails on one call."""

    failing: int
    wrong: Any
    calls: list[bytes] = field(factory=list)

    def __call__(self, data: bytes) -> Any:
        self.calls.append(data)
        if len(self.calls) != self.failing:
            return data
        if self.wrong is ValueError:
            raise ValueError("wrong")
        return self.wrong

    def addTo(self, keepsLength: bool, exchange: Any, response: Response) -> None:
        response.addFilter(self, keepsLength=keepsLength)


class InPlace(ExchangeCase):
    """Policies that change a response in place."""

    def test_bodyOfAStream(self) -> None:
        """
        A policy may set the body of a response that is still arriving.  The rest is read
        and dropped, so that the connection is reused.
        """

        @onResponse(404)
        def fill(exchange: Any, response: Response) -> None:
            response.body = b"mine"
            response.status, response.reason = 200, "OK"

        self.open(fill)
        self.client.sends(GET)
        self.answer(b"HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\nX: y\r\n\r\nthe", b"irs")
        self.assertEqual(
            self.client.got(), b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nX: y\r\n\r\nmine"
        )
        self.sidecar.upstream().sends(b"...")
        self.client.sends(GET)
        self.assertEqual(self.answer(), sent(GET))
        self.assertEqual(self.client.got(), OK)
        self.assertEqual((self.sidecar.exchanges[0].status, self.last.status), (200, 200))
        self.assertEqual(self.sidecar.exchanges[0].upstreamStatus, 404)
        self.sidecar.assertQuiet()


class Filters(ExchangeCase):
    """Body filters."""

    def shout(self, *, keepsLength: bool) -> Any:
        """A policy with a filter: upper case, and a mark at the end if the length may change."""
        self.seen: list[bytes] = []

        def filtered(data: bytes) -> bytes:
            self.seen.append(data)
            return data.upper() if data or keepsLength else b"!"

        @onResponse(200)
        def shouts(exchange: Any, response: Response) -> None:
            response.addFilter(filtered, keepsLength=keepsLength)

        return shouts

    def test_keepsLength(self) -> None:
        """A filter that keeps the length keeps the framing."""
        for framing in (
            b"Content-Length: 4\r\n\r\nab",
            b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n",
        ):
            self.open(self.shout(keepsLength=True))
            self.client.sends(GET)
            rest = b"cd" if framing.startswith(b"Content") else b"2\r\ncd\r\n0\r\nX: y\r\n\r\n"
            self.answer(b"HTTP/1.1 200 OK\r\n" + framing, rest)
            self.assertEqual(
                self.client.got(),
                b"HTTP/1.1 200 OK\r\n" + framing.replace(b"ab", b"AB") + rest.replace(b"cd", b"CD"),
            )
            self.assertEqual(self.seen, [b"ab", b"cd", b""])
            self.assertEqual(self.last.bytesOut, 4)
            self.sidecar.assertQuiet()

    def test_changesLength(self) -> None:
        """The output of any other filter is sent in chunks."""
        self.open(self.shout(keepsLength=False))
        self.client.sends(GET)
        self.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab", b"cd")
        self.assertEqual(
            self.client.got(),
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"2\r\nAB\r\n2\r\nCD\r\n1\r\n!\r\n0\r\n\r\n",
        )
        self.assertEqual(self.last.bytesOut, 5)
        self.sidecar.assertQuiet()

    def test_changesLengthForOldClients(self) -> None:
        """For an HTTP/1.0 client, the end of the connection ends the body."""
        self.open(self.shout(keepsLength=False))
        self.client.sends(b"GET / HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\n\r\n")
        self.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab", b"cd")
        self.assertEqual(self.client.got(), b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nABCD!")
        self.assertTrue(self.client.closed)
        self.sidecar.assertQuiet()

    def test_whole(self) -> None:
        """A body that arrived with its head is filtered at once and sent with its length."""
        self.open(self.shout(keepsLength=False))
        self.client.sends(GET)
        self.answer()
        self.assertEqual(self.client.got(), b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nOK!")
        self.assertEqual(self.seen, [b"ok", b""])
        self.sidecar.assertQuiet()

    def test_fails(self) -> None:
        """
        A filter fails if it raises, returns another type than bytes, or does not keep the
        length as promised.  It is not called again.  The response continues without a
        filter that keeps the length.  For any other filter the client gets 502 if the head is
        not sent, else the response is broken off: it would look complete.
        """
        whole = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabcd"
        for failing in (1, 2, 3):
            for wrong in (ValueError, None, "xy", b"longer"):
                for keepsLength in (True, False):
                    if wrong == b"longer" and not keepsLength:
                        continue
                    fails = Fails(failing, wrong)
                    self.open(onResponse(200)(partial(fails.addTo, keepsLength)))
                    self.client.sends(GET)
                    self.answer(whole[:-2], whole[-2:])
                    self.assertEqual(fails.calls, [b"ab", b"cd", b""][:failing])
                    self.assertEqual(len(self.sidecar.failures), 1)
                    failure = ResponseWithheld if failing == 1 else SitioError
                    self.assertEqual(
                        type(self.last.failure), type(None) if keepsLength else failure
                    )
                    if keepsLength:
                        self.assertEqual(self.client.got(), whole)
                    elif failing == 1:
                        self.assertEqual(self.client.gotResponse().status, 502)
                    else:
                        self.assertTrue(self.client.reset)
                        self.assertNotIn(b"0\r\n\r\n", self.client.got())
                    self.sidecar.assertQuiet()
        self.assertEqual(len(self.flushLoggedErrors(ValueError, TypeError)), 21)

    def test_failsOnWhatIsWhole(self) -> None:
        """A body that arrived with its head is replaced by a 502."""
        for failing in (1, 2):
            fails = Fails(failing, ValueError)
            self.open(onResponse(200)(partial(fails.addTo, False)))
            self.client.sends(GET)
            self.answer()
            self.assertEqual(fails.calls, [b"ok", b""][:failing])
            self.assertEqual(self.client.gotResponse().status, 502)
            self.assertEqual(self.last.status, 502)
            self.assertEqual(len(self.sidecar.failures), 1)
            self.sidecar.assertQuiet()
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 2)
