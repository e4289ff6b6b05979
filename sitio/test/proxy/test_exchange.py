"""
Promises of L{sitio.proxy.exchange}: one request's whole life, seen from both ends.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred, fail
from twisted.trial.unittest import SynchronousTestCase

from sitio.errors import BadResponse, SitioError
from sitio.http.message import Response, Retry
from sitio.policy.functions import onRequest, onResponse
from sitio.proxy.exchange import Exchange
from sitio.settings import Settings
from sitio.test.helpers.producers import pauseOnce
from sitio.testing import Harness, Peer

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

UPGRADE = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"


def sent(head: bytes, body: bytes = b"") -> bytes:
    """A request as the upstream gets it, from the head that the client sent."""
    own = b"X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: h\r\n\r\n"
    return head.removesuffix(b"\r\n") + own + body


def arrivesAfterThePause(peer: Peer, data: bytes) -> None:
    """What a TLS transport has read already is not kept back by a pause."""
    assert peer.paused
    protocol: Any = peer.transport.protocol
    protocol.dataReceived(data)
    peer.got()


class ExchangeCase(SynchronousTestCase):
    """A sidecar in memory, and one client."""

    def open(self, *policies: Any, via: bytes | None = None, **settings: Any) -> Peer:
        """The client of a new sidecar with these policies and settings."""
        self.sidecar = Harness(policies, settings=Settings(**settings), via=via)
        self.client = self.sidecar.connect()
        return self.client

    def answer(self, *data: bytes, number: int = 0) -> bytes:
        """What the upstream got on this connection; it sends this."""
        upstream = self.sidecar.upstream(number)
        got = upstream.got()
        upstream.sends(*data or (OK,))
        return got

    @property
    def last(self) -> Exchange:
        """The exchange that ended last."""
        return self.sidecar.exchanges[-1]


class Tunnels(ExchangeCase):
    """A 101 makes a tunnel of the two connections."""

    def test_silentAfterABacklog(self) -> None:
        """
        A tunnel in which no byte moves is kept for its own timeout, also when a
        side was slow to read before.
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
    """Policies look at a response."""

    def test_retryAfterABreak(self) -> None:
        """
        A response that broke off while a policy thought about its head, and wished
        for another attempt, leaves nothing behind: the next response is judged on
        its own.
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
        A response that breaks off while a policy thinks about its head is a failed
        attempt, and shown to the policies as one.
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
        A response that a second policy wants whole, and that stalls, is given up in
        time, though the first policy took its own time over the head.
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
    """Policies that want responses whole."""

    def test_twoPoliciesAndTooLong(self) -> None:
        """
        A response that is too long for the buffer passes unchanged, is counted once,
        and is shown to none of the policies that wanted it whole.
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
        """The same for a response that announces how long it is."""
        wants = onResponse(200, buffered=True)(lambda exchange, response: Response(500))
        self.open(("a", wants), ("b", wants), bufferLimit=10)
        self.client.sends(GET)
        self.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nall of it..")
        self.assertEqual(self.client.gotResponse().body, b"all of it..")
        self.assertEqual(self.sidecar.context.tooLong, 1)

    def test_limit(self) -> None:
        """
        A body of exactly the limit is held, one byte more passes unchanged, and
        that depends neither on framing nor on the pieces in which it comes.
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
    """What policies may make of a request."""

    def test_methodMadeUnsafe(self) -> None:
        """A request that a policy made a POST is never sent twice."""

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
        A client that asked by HEAD gets no body, though a policy has asked the
        upstream by GET: it would take it for the next response.
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
        """A policy's body goes out in place of the client's, which is read and dropped."""
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
        """The same where the policy takes its time, and the client sends in chunks."""
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
        """Request policies see who asked as the upstream will, and may say otherwise."""
        seen: list[Any] = []

        def correct(exchange: Any) -> None:
            seen.append(list(exchange.request.headers)[1:])
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
        """A Max-Forwards beyond all measure is cut to what sitio knows (section 7.6.2)."""
        self.open()
        for digits in (b"1" + b"0" * 9, b"9" * 5000):
            head = b"OPTIONS / HTTP/1.1\r\nHost: h\r\nMax-Forwards: %b\r\n\r\n"
            self.client.sends(head % digits)
            self.assertEqual(self.answer(), sent(head % b"999999999"))
            self.assertEqual(self.client.got(), OK)
        self.sidecar.assertQuiet()

    def test_noHostToForward(self) -> None:
        """Of an HTTP/1.0 request without Host nothing is told as X-Forwarded-Host."""
        self.open()
        own = b"X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: http\r\nHost: localhost\r\n\r\n"
        self.client.sends(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        self.assertEqual(self.answer(), b"GET / HTTP/1.1\r\n" + own)
        self.client.sends(b"GET / HTTP/1.0\r\nX-Forwarded-Host: a\r\n\r\n")
        self.assertEqual(
            self.answer(),
            b"GET / HTTP/1.1\r\nX-Forwarded-Host: a\r\nHost: localhost\r\n"
            b"X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: http\r\n\r\n",
        )

    def test_claimsKept(self) -> None:
        """What a client claims of itself is kept, in front, its repeats in one line."""
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
            b"GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-Host: h\r\n"
            b"X-Forwarded-Proto: https, http\r\nX-Forwarded-For: \xe9, 192.0.2.1\r\n\r\n",
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
        A body that turns out malformed while a policy decides is answered at
        once; the policy is cancelled, and that is no failure of its own.
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
        """The same while a policy looks at a response that came early."""
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
    """Mistakes of sitio's own: logged, and no client is left hanging."""

    def test_chainBreaks(self) -> None:
        """Policies that can't be run at all: the client is told 500, once."""
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
        """The same for what raises behind a Deferred."""
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
    """A response that comes while the request's body is still on its way."""

    POST = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n"

    def test_uploadKeepsItAlive(self) -> None:
        """Bytes of the request's body that move are no stall, though the response rests."""
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
        self.assertTrue(self.client.closed)
        self.assertEqual(self.last.bytesIn, 1000)
        self.sidecar.assertQuiet()


class Responses(ExchangeCase):
    """What goes to the client."""

    def test_viaOfAResponseThatIsKept(self) -> None:
        """A policy may answer with the same response each time: nothing is added to it."""
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
        """Nor is anything taken from it: a filter that failed once is tried again."""
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

    def test_headOfAFilteredResponse(self) -> None:
        """
        The length of a body that is filtered is not known, so HEAD is told none:
        GET would be told none either (RFC 9110, section 8.6).
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
    """Who made the response is known of each exchange."""

    def answeredBy(self, *policies: Any, response: bytes = OK, request: bytes = GET) -> str | None:
        """That of an exchange with these policies, which the upstream answers so."""
        self.open(*policies)
        self.client.sends(request)
        if self.sidecar.upstreams:
            self.answer(response)
        self.assertTrue(self.client.got())
        return self.last.answeredBy

    def test_upstream(self) -> None:
        """A response that policies leave as it is, or decorate, is nobody else's."""
        leaves = onResponse(200)(lambda exchange, response: None)
        self.assertIsNone(self.answeredBy(leaves))

    def test_answers(self) -> None:
        """The policy that answered made it; one that could not decide did not."""
        self.assertEqual(self.answeredBy(("door", onRequest(lambda _: Response(403)))), "door")
        self.assertIsNone(self.answeredBy(("door", onRequest(lambda _: 1 / 0))))
        self.assertEqual(self.last.status, 500)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_replaced(self) -> None:
        """Of several that put another response in its place the last one made it."""
        first = ("first", onResponse(200)(lambda *_: Response(404)))
        last = ("last", onResponse(404)(lambda *_: Response(410)))
        self.assertEqual(self.answeredBy(first, last), "last")

    def test_retried(self) -> None:
        """What was replaced in an attempt that was given up has made nothing."""
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
        """A request that turns out to be none is refused by sitio, whatever a policy made."""
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
    """Upstream connections carry one request after another."""

    def breakReused(self, request: bytes) -> bytes:
        """What reaches a fresh connection when a reused one breaks before its response."""
        self.open()
        self.client.sends(GET)
        self.answer()
        self.client.got()
        self.client.sends(request)
        self.sidecar.upstream().got()
        self.sidecar.upstream().closes()
        return self.sidecar.upstream(1).got()

    def test_upgradeSentAgain(self) -> None:
        """A WebSocket's GET finds a fresh connection as any other GET does."""
        again = self.breakReused(UPGRADE)
        self.assertIn(b"\r\nConnection: upgrade\r\nUpgrade: echo\r\n", again)
        self.client.sends(b"early")
        self.sidecar.upstream(1).sends(SWITCH + b"hello")
        self.assertEqual(self.client.got(), SWITCH + b"hello")
        self.assertEqual(self.sidecar.upstream(1).got(), b"early")
        self.sidecar.assertQuiet()


class Trailers(ExchangeCase):
    """Fields behind a body in chunks."""

    RESPONSE = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"2;ext=1\r\nok\r\n0\r\nX-Sum: 1\r\nX-Sum: 2\r\n\r\n"
    )
    PASSED = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"2\r\nok\r\n0\r\nX-Sum: 1\r\nX-Sum: 2\r\n\r\n"
    )

    def test_behindAPolicy(self) -> None:
        """Trailers pass behind a policy that leaves the response alone, whenever it does."""
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
        A response that a policy got whole goes out by its length, without trailers:
        they may speak of a body that is another by now (RFC 9110, section 6.5.1).
        """
        self.open(onResponse(200, buffered=True)(lambda exchange, response: None))
        self.client.sends(GET)
        self.answer(self.RESPONSE)
        self.assertEqual(self.client.got(), OK)


class FlowControl(ExchangeCase):
    """Whoever does not read is not written to for long."""

    def test_backlogOfInterimResponses(self) -> None:
        """
        A client that did not read what came before the response holds up the response
        from its first byte.
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
    """A body filter of which one call goes wrong."""

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
    """Policies that change the response they are shown."""

    def test_bodyOfAStream(self) -> None:
        """
        A body that is put in place of one still to come is the whole of it; the
        rest is read and dropped, so that the connection can be used again.
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
    """Functions that see, or change, a body as it passes."""

    def shout(self, *, keepsLength: bool) -> Any:
        """A policy that filters: upper case, and a mark at the end if it may."""
        self.seen: list[bytes] = []

        def filtered(data: bytes) -> bytes:
            self.seen.append(data)
            return data.upper() if data or keepsLength else b"!"

        @onResponse(200)
        def shouts(exchange: Any, response: Response) -> None:
            response.addFilter(filtered, keepsLength=keepsLength)

        return shouts

    def test_keepsLength(self) -> None:
        """A filter that keeps the length leaves the framing as it was."""
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
        """What any other filter makes of a body goes out in chunks."""
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
        """To a client of HTTP/1.0, it ends with the connection."""
        self.open(self.shout(keepsLength=False))
        self.client.sends(b"GET / HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\n\r\n")
        self.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab", b"cd")
        self.assertEqual(self.client.got(), b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nABCD!")
        self.assertTrue(self.client.closed)
        self.sidecar.assertQuiet()

    def test_whole(self) -> None:
        """A body that is there whole is filtered whole, and its length is known."""
        self.open(self.shout(keepsLength=False))
        self.client.sends(GET)
        self.answer()
        self.assertEqual(self.client.got(), b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nOK!")
        self.assertEqual(self.seen, [b"ok", b""])
        self.sidecar.assertQuiet()

    def test_fails(self) -> None:
        """
        A filter that raises, or gives what is no bytes, or not as many as it
        promised, is not called again: the response goes on without it where it keeps
        the length, and is broken off where half a change would look whole.
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
                    self.assertEqual(
                        type(self.last.failure), type(None) if keepsLength else SitioError
                    )
                    if keepsLength:
                        self.assertEqual(self.client.got(), whole)
                    else:
                        self.assertTrue(self.client.reset)
                        self.assertNotIn(b"0\r\n\r\n", self.client.got())
                    self.sidecar.assertQuiet()

    def test_failsOnWhatIsWhole(self) -> None:
        """The same for a body that is there whole."""
        for failing in (1, 2):
            fails = Fails(failing, ValueError)
            self.open(onResponse(200)(partial(fails.addTo, False)))
            self.client.sends(GET)
            self.answer()
            self.assertEqual(fails.calls, [b"ok", b""][:failing])
            self.assertTrue(self.client.reset)
            self.assertEqual(self.client.got(), b"")
            self.assertEqual(len(self.sidecar.failures), 1)
            self.sidecar.assertQuiet()
