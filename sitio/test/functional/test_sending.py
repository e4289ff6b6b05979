"""
Tests of send policies: they see the head of each response that a client gets.
"""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from sitio import Exchange, Headers, ISendPolicy, Response, SentHead, onRequest, onResponse, onSend
from sitio.settings import Settings
from sitio.testing import Harness, connectionRefused, noResponse, request, response, runPolicy

GET = b"GET /x HTTP/1.1\r\nHost: h\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@onSend
def mark(exchange: Any, response: Any) -> None:
    """Mark each response."""
    response.headers["X-Sent"] = f"{response.status} {exchange.status}"


class EveryResponseTests(SynchronousTestCase):
    """Whoever made a response, a send policy sees its head once."""

    def test_policies(self) -> None:
        """The upstream's, those of policies, and those that stand for failures."""

        def trouble(*given: Any) -> Any:
            raise ZeroDivisionError

        for status, policies, answer in (
            (200, [], response(200)),
            (404, [], response(404, text="no")),
            (204, [], response(204)),
            (304, [], response(304)),
            (401, [onRequest(lambda exchange: Response(401))], response(200)),
            (403, ["deny:*:/x"], response(200)),
            (418, [onResponse()(lambda *given: Response(418))], response(200)),
            (404, ["error-page:404"], response(404)),
            (500, [onRequest(trouble)], response(200)),
            (502, [onResponse(failOpen=False)(trouble)], response(200)),
            (502, [], connectionRefused()),
            (504, [], noResponse()),
        ):
            for order in ([mark, *policies], [*policies, mark]):
                outcome = runPolicy(order, request("/x"), answer, raiseErrors=False)
                self.assertEqual(outcome.status, status)
                self.assertEqual(outcome.headers.getAll("X-Sent"), [f"{status} {status}"])
                self.assertNotIn("mark", outcome.exchange.acted)

    def test_ownErrors(self) -> None:
        """Those of sitio itself: bad requests, long heads and bodies, slow clients."""
        for status, raw in (
            (400, b"GET / HTTP/1.1\r\n\r\n"),
            (431, b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"x" * 40000 + b"\r\n\r\n"),
            (413, b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 11\r\n\r\n"),
            (501, b"CONNECT h:1 HTTP/1.1\r\nHost: h\r\n\r\n"),
            (505, b"GET / HTTP/2.5\r\nHost: h\r\n\r\n"),
            (408, b"GET / HT"),
            (400, b"PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nz\r\n"),
        ):
            harness = Harness(mark, settings=Settings(maxBody=10))
            client = harness.connect()
            client.sends(raw)
            harness.advance(15)
            got = client.gotResponse()
            self.assertEqual((got.status, got.headers["X-Sent"]), (status, f"{status} {status}"))
            harness.assertQuiet()

    def test_refusedRequests(self) -> None:
        """
        Of a request that sitio refuses it sees what was readable: a head with too long a body
        whole, with its cookies and its id; one that is malformed as C{-}, without fields.
        """
        seen: list[Any] = []

        @onSend
        def look(exchange: Any, response: Any) -> None:
            asked = exchange.request
            seen.append((asked.method, asked.target, asked.cookies.get("a"), exchange.id))

        fields = b"Host: h\r\nCookie: a=b\r\nX-Request-Id: id-12345678\r\n"
        whole = ("PUT", "/x?y", "b", "id-12345678")
        chunks = b"Transfer-Encoding: chunked\r\n\r\nc\r\n"
        for status, raw, wanted in (
            (413, b"PUT /x?y HTTP/1.1\r\n" + fields + b"Content-Length: 11\r\n\r\n", whole),
            (413, b"PUT /x?y HTTP/1.1\r\n" + fields + chunks, whole),
            (413, b"HEAD /x?y HTTP/1.1\r\n" + fields + b"Content-Length: 11\r\n\r\n", "HEAD"),
            (400, b"PUT /x?y HTTP/1.1\r\n" + fields + b"Host: i\r\n\r\n", None),
            (431, b"PUT /x?y HTTP/1.1\r\n" + fields + b"X: y\r\n" * 99 + b"\r\n", None),
            (501, b"CONNECT h:1 HTTP/1.1\r\n" + fields + b"\r\n", None),
            (408, b"PUT /x?y HTTP/1.1\r\n" + fields, None),
        ):
            seen.clear()
            harness = Harness(look, settings=Settings(maxBody=10))
            client = harness.connect()
            client.sends(raw)
            harness.advance(15)
            got = client.gotResponse("HEAD" if wanted == "HEAD" else "GET")
            self.assertEqual(got.status, status)
            [told] = seen
            if wanted is None:
                self.assertEqual(told[:3], ("-", "-", None))
            else:
                self.assertEqual(told, whole if wanted is whole else ("HEAD", *whole[1:]))
            self.assertEqual(harness.upstreams, [])
            harness.assertQuiet()

    def test_streams(self) -> None:
        """A response that streams, at its head; interim responses are none of its business."""
        seen = []
        look = onSend(lambda exchange, response: seen.append(response.status))
        harness = Harness([look, mark])
        client = harness.connect()
        client.sends(GET)
        harness.upstream().sends(
            b"HTTP/1.1 103 Early Hints\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
        )
        self.assertEqual(seen, [200])
        harness.upstream().sends(b"ok")
        self.assertEqual(
            client.got(),
            b"HTTP/1.1 103 Early Hints\r\n\r\n"
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Sent: 200 200\r\n\r\nok",
        )
        self.assertEqual(seen, [200])

    def test_onlyTheHead(self) -> None:
        """The response itself is in C{exchange.response} when its head was sent, not before."""
        seen: list[Any] = []
        look = onSend(lambda exchange, head: seen.append((exchange.response, exchange.status)))
        outcome = runPolicy([look, "headers:set X-A b"], request(), response(text="hi"))
        self.assertEqual(seen, [(None, 200)])
        sent: Any = outcome.exchange.response
        self.assertEqual(sent.headers["X-A"], "b")

    def test_keptResponses(self) -> None:
        """A response that a policy returns many times does not gather fields."""
        mine = Response(200)
        policies = [onRequest(lambda exchange: mine), mark]
        for _ in range(2):
            outcome = runPolicy(policies, request())
            self.assertEqual(outcome.headers.getAll("X-Sent"), ["200 200"])
        self.assertEqual(list(mine.headers), [])


class RightsTests(SynchronousTestCase):
    """What a send policy may do."""

    def test_cookies(self) -> None:
        """It adds a cookie to any response; a bad cookie changes nothing."""

        @onSend
        def remember(exchange: Exchange, response: SentHead) -> None:
            response.setCookie("seen", exchange.request.query["v"], maxAge=60, secure=True)

        line = "seen=1; Max-Age=60; Path=/; Secure; SameSite=Lax"
        for policies, answer, lines in (
            ([remember], response(200), [line]),
            ([remember], response(404, headers={"Set-Cookie": "a=b"}), ["a=b", line]),
            ([remember], connectionRefused(), [line]),
            (["deny:GET:/*", remember], response(200), [line]),
        ):
            outcome = runPolicy(policies, request("/x?v=1"), answer)
            self.assertEqual(outcome.headers.getAll("Set-Cookie"), lines)
        outcome = runPolicy(remember, request("/x?v=;"), response(200), raiseErrors=False)
        outcome.assertResponse(200, headers={"Set-Cookie": None})
        [error] = outcome.errors
        self.assertIsInstance(error, ValueError)

    def test_readOnly(self) -> None:
        """It reads the head, and sets nothing but fields; an attempt is a failure of its own."""
        for name, value in (
            ("status", 500),
            ("reason", "No"),
            ("body", b"no"),
            ("length", 3),
            ("filters", []),
            ("failure", None),
            ("other", 1),
        ):

            @onSend
            def sets(exchange: Any, response: Any, name: str = name, value: Any = value) -> None:
                response.headers["X-Left"] = "1"
                setattr(response, name, value)

            policies = [sets, mark]
            error = self.assertRaises(AttributeError, runPolicy, policies, request())
            self.assertIn("only the headers", str(error))
            outcome = runPolicy(policies, request(), response(text="hi"), raiseErrors=False)
            self.assertEqual((outcome.status, outcome.reason, outcome.text), (200, "OK", "hi"))
            self.assertEqual(outcome.headers["X-Sent"], "200 200")
            self.assertNotIn("X-Left", outcome.headers)

    def test_headers(self) -> None:
        """It may replace all fields."""
        policy = onSend(
            lambda exchange, response: setattr(response, "headers", Headers({"A": "b"}))
        )
        outcome = runPolicy(policy, request(), response(headers={"C": "d"}))
        self.assertEqual(list(outcome.headers), ["A"])

    def test_fails(self) -> None:
        """Whatever it raises or returns, the head is sent as it was before."""

        def raises(exchange: Any, response: Any) -> None:
            response.headers["X-Left"] = "1"
            raise SystemExit

        def returns(exchange: Any, response: Any) -> Any:
            response.headers["X-Left"] = "1"
            return Response(500)

        async def waits() -> None:
            pass

        for function, error in (
            (raises, SystemExit),
            (returns, TypeError),
            (lambda *given: waits(), TypeError),
        ):
            outcome = runPolicy([onSend(function), mark], request(), raiseErrors=False)
            self.assertEqual((outcome.status, outcome.headers["X-Sent"]), (200, "200 200"))
            self.assertNotIn("X-Left", outcome.headers)
            self.assertEqual([type(each) for each in outcome.errors], [error])

    def test_order(self) -> None:
        """They run in the operator's order, after all response policies."""
        calls = []

        def sends(name: str) -> Any:
            return onSend(lambda exchange, response: calls.append(name))

        first = onResponse()(lambda *given: calls.append("response"))
        runPolicy([sends("a"), first, sends("b")], request())
        self.assertEqual(calls, ["response", "a", "b"])

    def test_class(self) -> None:
        """A class with the method is a send policy."""

        @implementer(ISendPolicy)
        class Sends:
            def responseSending(self, exchange: Any, response: Any) -> None:
                response.headers["X-Is"] = repr(response)

        verifyObject(ISendPolicy, Sends())
        verifyObject(ISendPolicy, mark)
        self.assertEqual(runPolicy(Sends(), request()).headers["X-Is"], "<SentHead 200>")

    def test_decorator(self) -> None:
        """With and without parentheses; not for coroutines, nor for anything else."""

        @onSend()
        def one(exchange: Any, response: Any) -> None:
            response.headers["A"] = "b"

        self.assertEqual(runPolicy(one, request()).headers["A"], "b")

        async def later(exchange: Any, response: Any) -> None:
            pass

        self.assertRaisesRegex(TypeError, "not async def", onSend, later)
        self.assertRaisesRegex(TypeError, "write @onSend above", onSend, 5)

    def test_counted(self) -> None:
        """It is counted, under its name."""
        harness = Harness(mark)
        client = harness.connect()
        client.sends(GET)
        harness.upstream().sends(OK)
        [counters] = harness.context.chain.snapshot()
        self.assertEqual(
            (counters["name"], counters["sees"], counters["called"]), ("mark", "heads", 1)
        )


class HeadersPolicyTests(SynchronousTestCase):
    """The policy C{headers} is a send policy."""

    def test_everyResponse(self) -> None:
        """It changes also what sitio itself and other policies answer."""
        for policies, answer, status in (
            (["deny:*:/x"], response(200), 403),
            ([], connectionRefused(), 502),
            ([], response(200, headers={"Server": "x"}), 200),
        ):
            policy = "headers:set X-Frame-Options DENY:remove Server"
            outcome = runPolicy([*policies, policy], request("/x"), answer)
            self.assertEqual(outcome.status, status)
            self.assertEqual(outcome.headers["X-Frame-Options"], "DENY")
            self.assertNotIn("Server", outcome.headers)
