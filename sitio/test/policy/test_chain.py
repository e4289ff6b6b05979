"""
Tests of L{sitio.policy.chain}: the order of policies, and what their answers and failures do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.task import Clock, deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from sitio import Request, Response, Retry, onFinish, onRequest, onResponse
from sitio.errors import SitioError
from sitio.http.headers import Headers
from sitio.interfaces import (
    IResponsePolicy,
    ISelectivePolicy,
)
from sitio.policy.chain import Chain
from sitio.policy.member import MAX_TRACEBACKS, TRACEBACK_INTERVAL_SECONDS
from sitio.settings import Settings
from sitio.testing import (
    Harness,
    Runner,
    connectionRefused,
    connectionReset,
    incompleteResponse,
    noResponse,
    request,
    response,
    runPolicy,
)

GET = b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Trouble(Exception):
    """The exception of failing policies."""


def trouble(*given: Any) -> Any:
    """A policy that fails at once."""
    raise Trouble("on purpose")


async def troubleLater(*given: Any) -> Any:
    """A policy that fails as a coroutine."""
    raise Trouble("on purpose")


def troubleFired(*given: Any) -> Any:
    """A policy that returns a failed Deferred."""
    return fail(Trouble("on purpose"))


def never(*given: Any) -> Any:
    """A policy that never answers."""
    return Deferred()


def counted(chain: Chain) -> list[dict[str, Any]]:
    """The counters of each policy: called, acted and failed."""
    names = ("name", "called", "acted", "failed")
    return [{name: each[name] for name in names} for each in chain.snapshot()]


def wrong(*given: Any) -> Any:
    """A policy that returns something that is not a response."""
    return "<h1>404</h1>"


def fakeBody(*given: Any) -> Any:
    """A policy whose response has a C{str} as its body."""
    return Response(200, body="text")  # type: ignore[arg-type]


def noBody(*given: Any) -> Any:
    """A policy whose response has L{None} as its body."""
    return Response.fromWire(200, "OK", [])


def impossible(*given: Any) -> Any:
    """A policy whose response has an impossible status."""
    response = Response(200)
    response.status = 42
    return response


FAILING: tuple[Callable[..., Any], ...] = (
    trouble,
    troubleLater,
    troubleFired,
    never,
    wrong,
    fakeBody,
    noBody,
    impossible,
)


def noted(calls: list[str], name: str, answer: Any = None) -> Callable[..., Any]:
    """A policy that records its name and the status of the response."""

    def policy(exchange: Any, response: Any = None) -> Any:
        calls.append(name if response is None else f"{name} {response.status}")
        return answer() if callable(answer) else answer

    return policy


class OrderTests(SynchronousTestCase):
    """Policies run in the operator's order, for requests and responses."""

    def setUp(self) -> None:
        self.calls: list[str] = []

    def asks(self, name: str, answer: Any = None) -> tuple[str, Any]:
        """A request policy."""
        return name, onRequest(noted(self.calls, name, answer))

    def judges(self, name: str, *statuses: int, answer: Any = None) -> tuple[str, Any]:
        """A response policy."""
        return name, onResponse(*statuses)(noted(self.calls, name, answer))

    def test_order(self) -> None:
        """Request policies run in order, then response policies in order."""
        policies = [
            self.asks("a"),
            self.judges("b"),
            self.asks("c"),
            self.judges("d"),
        ]
        outcome = runPolicy(policies, request(), response(200))
        self.assertEqual(self.calls, ["a", "c", "b 200", "d 200"])
        self.assertEqual((outcome.status, outcome.exchange.acted), (200, ()))

    def test_answered(self) -> None:
        """After an answer, neither later policies nor the upstream get the request."""
        policies = [
            self.asks("a"),
            self.asks("b", lambda: Response(403, text="no")),
            self.asks("c"),
            self.judges("d"),
        ]
        outcome = runPolicy(policies, request())
        self.assertEqual(self.calls, ["a", "b"])
        self.assertEqual((outcome.status, outcome.text, outcome.attempts), (403, "no", 0))
        self.assertEqual(outcome.exchange.acted, ("b",))
        self.assertIs(outcome.exchange.upstreamStatus, None)

    def test_replaced(self) -> None:
        """Only the policies after it get a replaced response."""
        policies = [
            self.judges("a"),
            self.judges("b", 404, answer=lambda: Response(200, text="b")),
            self.judges("c"),
        ]
        outcome = runPolicy(policies, request(), response(404))
        self.assertEqual(self.calls, ["a 404", "b 404", "c 200"])
        self.assertEqual((outcome.status, outcome.text), (200, "b"))
        self.assertEqual(outcome.exchange.upstreamStatus, 404)

    def test_changedStatus(self) -> None:
        """If a policy changes the status, the policies after it are chosen by the new one."""
        policies = [
            self.judges("a", 404, answer=lambda: Response(503)),
            self.judges("b", 404),
            self.judges("c", 503, answer=lambda: Response(418)),
            self.judges("d", 418),
        ]
        runPolicy(policies, request(), response(404))
        self.assertEqual(self.calls, ["a 404", "c 503", "d 418"])

    def test_changedInPlace(self) -> None:
        """The policies after it get a status, field or body that a policy changed in place."""

        def change(exchange: Any, response: Any) -> None:
            response.status = 503
            response.headers["X-A"] = "1"
            response.body += b" more"

        policies = [
            onResponse(404, buffered=True)(change),
            self.judges("b", 404),
            self.judges("c", 503),
        ]
        outcome = runPolicy(policies, request(), response(404, text="text"), pieces=1)
        self.assertEqual(self.calls, ["c 503"])
        self.assertEqual((outcome.status, outcome.text), (503, "text more"))
        self.assertEqual(outcome.headers["X-A"], "1")

    def test_sameReturned(self) -> None:
        """Returning the same response leaves it as it is, whether it is whole or streams."""
        policy = ("same", onResponse()(lambda exchange, response: response))
        for pieces in (None, 2):
            outcome = runPolicy(policy, request(), response(200, text="12345"), pieces=pieces)
            self.assertEqual((outcome.status, outcome.text), (200, "12345"))
            self.assertEqual(outcome.exchange.acted, ())

    def test_failureToo(self) -> None:
        """A failed attempt is a response with C{failure}, which stays set if it is replaced."""
        failures: list[Any] = []

        def mask(exchange: Any, response: Any) -> Response:
            failures.append(response.failure)
            return Response(200, text="masked")

        policies = [
            onResponse(502, 504)(mask),
            onResponse(200)(lambda exchange, response: failures.append(response.failure)),
        ]
        for mishap in (connectionRefused(), connectionReset(), noResponse()):
            outcome = runPolicy(policies, request(), mishap)
            self.assertEqual((outcome.status, outcome.text), (200, "masked"))
            self.assertIn(outcome.exchange.upstreamStatus, (502, 504))
            self.assertIsNotNone(outcome.exchange.failure)
        self.assertEqual(failures[0::2], failures[1::2])
        self.assertNotIn(None, failures)

    def test_uninterested(self) -> None:
        """A policy does not get responses of other statuses."""
        outcome = runPolicy(self.judges("a", 404), request(), response(200))
        self.assertEqual((self.calls, outcome.status), ([], 200))

    def test_sharedResponse(self) -> None:
        """A policy can return one response for many exchanges, each of which gets a copy."""
        constant = Response(403, text="no", headers={"X-A": "1"})

        def mark(exchange: Any, response: Any) -> None:
            response.headers.add("X-B", "2")
            response.addFilter(lambda data: data.upper(), keepsLength=True)

        for policies in (
            [onRequest(lambda exchange: constant)],
            [onResponse(500)(lambda exchange, response: constant), onResponse(403)(mark)],
            [onResponse(502)(lambda exchange, response: constant)],
        ):
            with Runner(policies) as runner:
                first = runner.run(request(), response(500))
                second = runner.run(request(), connectionRefused())
                third = runner.run(request(), response(500))
            self.assertEqual(first.headers.allItems(), third.headers.allItems())
            self.assertEqual(first.body, third.body)
            self.assertIsNot(second.status, None)
        self.assertEqual(constant.headers.allItems(), [("X-A", "1"), ("Content-Type", TEXT)])
        self.assertEqual((constant.failure, constant.filters), (None, None))


TEXT = "text/plain; charset=utf-8"


class WaitingTests(SynchronousTestCase):
    """A policy returns a response, a Deferred or a coroutine."""

    def answers(self) -> dict[str, Callable[..., Any]]:
        """A 403, a Deferred of one, and a coroutine that returns one."""
        clock = self.clock = Clock()

        async def coroutine(*given: Any) -> Response:
            return Response(403)

        async def waiting(*given: Any) -> Response:
            await deferLater(clock, 1)
            await succeed(None)
            await deferLater(clock, 1)
            return Response(403)

        return {
            "plain": lambda *given: Response(403),
            "fired": lambda *given: succeed(Response(403)),
            "unfired": lambda *given: deferLater(clock, 2, Response, 403),
            "coroutine": coroutine,
            "waiting": waiting,
        }

    def test_request(self) -> None:
        """Each kind answers a request, as soon as it has a result."""
        for name, function in self.answers().items():
            outcome = runPolicy(onRequest(function), request(), clock=self.clock)
            self.assertEqual((outcome.status, outcome.attempts), (403, 0), name)
            took = 2 if name in ("unfired", "waiting") else 0
            self.assertEqual(outcome.exchange.duration, took, name)

    def test_response(self) -> None:
        """Each kind replaces a response, whether it is whole or still streams."""
        for name, function in self.answers().items():
            for pieces in (None, 1):
                outcome = runPolicy(
                    onResponse()(function),
                    request(),
                    response(200, text="abc"),
                    clock=self.clock,
                    pieces=pieces,
                )
                self.assertEqual((outcome.status, outcome.body), (403, b""), name)

    def test_nothing(self) -> None:
        """Each kind can have L{None} as its result; then the next policy runs."""

        async def coroutine(*given: Any) -> None:
            await deferLater(clock, 1)

        clock = Clock()
        policies = [
            onRequest(lambda exchange: deferLater(clock, 1)),
            onRequest(coroutine),
            onResponse()(coroutine),
            onResponse()(lambda exchange, response: succeed(None)),
        ]
        outcome = runPolicy(policies, request(), response(200, text="abc"), clock=clock)
        self.assertEqual((outcome.text, outcome.exchange.duration), ("abc", 3))

    def test_clientLeaves(self) -> None:
        """
        When the client leaves, the Deferred of a policy is cancelled.  That is not a failure
        of the policy, and nothing is logged.
        """
        cancelled: list[str] = []

        def wait(name: str) -> Any:
            return Deferred(lambda _: cancelled.append(name))

        async def coroutine(*given: Any) -> None:
            await wait("coroutine")

        for policy, name in (
            (onRequest(lambda exchange: wait("request")), "request"),
            (onRequest(coroutine), "coroutine"),
            (onResponse()(lambda exchange, response: wait("response")), "response"),
            (onResponse()(coroutine), "coroutine"),
        ):
            harness = Harness(policy)
            client = harness.connect()
            client.sends(GET)
            for upstream in harness.upstreams:
                upstream.sends(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx")
            client.resets()
            self.assertEqual(cancelled, [name])
            cancelled.clear()
            [metrics] = harness.context.chain.snapshot()
            self.assertEqual((metrics["called"], metrics["failed"]), (1, 0))
            self.assertEqual([each.status for each in harness.exchanges], [499])
            self.assertEqual(harness.errors, [])
            harness.assertQuiet()
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_clingsToTheEnd(self) -> None:
        """
        Once the client has left, no other policy runs and nothing is collected for one,
        whatever a policy makes of being cancelled.  Only an error of its own is a failure.
        """
        post = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n"
        heads = (b"Content-Length: 9\r\n\r\nabc", b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")

        def returns(value: Any) -> Any:
            async def wait(*given: Any) -> Any:
                try:
                    await Deferred()
                except Exception:
                    return value

            return wait

        async def fails(*given: Any) -> None:
            try:
                await Deferred()
            finally:
                raise ValueError

        def clings(*given: Any) -> Any:
            return Deferred(lambda waiting: waiting.callback(None))

        for wait, failed in (
            (returns(None), 0),
            (returns(Response(418)), 0),
            (returns("nonsense"), 0),
            (clings, 0),
            (fails, 1),
        ):
            for buffered in (False, True):
                for sent, begun in ((GET, b""), (post, b""), (post, b"abc")):
                    self.leftBy(onRequest, wait, failed, buffered, sent + begun)
                for head in heads:
                    self.leftBy(onResponse, wait, failed, buffered, GET, head)

    def leftBy(
        self, kind: Any, wait: Any, failed: int, buffered: bool, sent: bytes, head: bytes = b""
    ) -> None:
        """A client leaves while a policy waits, before another one of the same kind."""
        ran: list[str] = []
        other = kind(buffered=buffered)(lambda *given: ran.append("other"))
        harness = Harness([kind()(wait), other])
        client = harness.connect()
        client.sends(sent)
        if head:
            harness.upstream(0).sends(b"HTTP/1.1 200 OK\r\n" + head)
        client.resets()
        self.assertEqual(ran, [])
        self.assertEqual(harness.context.buffers.held, 0)
        counts = [(each["called"], each["failed"]) for each in harness.context.chain.snapshot()]
        self.assertEqual(counts, [(1, failed), (0, 0)])
        self.assertEqual([each.status for each in harness.exchanges], [499])
        self.assertEqual([type(each) for each in harness.errors], [ValueError] * failed)
        self.flushLoggedErrors(ValueError)
        self.assertEqual(self.flushLoggedErrors(), [])
        harness.assertQuiet()

    def test_bodyBreaks(self) -> None:
        """It is no failure of a policy if the rest of the request is malformed."""
        harness = Harness(onRequest(never))
        client = harness.connect()
        client.sends(b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        client.sends(b"nonsense\r\n")
        self.assertEqual(client.gotResponse().status, 400)
        self.assertEqual(harness.errors, [])
        harness.assertQuiet()

    def test_ownCancellation(self) -> None:
        """A Deferred that the policy itself cancelled is a failure of the policy."""
        self.assertRaises(
            CancelledError,
            runPolicy,
            onRequest(lambda exchange: fail(CancelledError())),
            request(),
        )


class FailureTests(SynchronousTestCase):
    """
    Request policies fail closed, with a 500; response policies and observers fail open.
    Failures are counted by name.
    """

    def test_request(self) -> None:
        """If a request policy fails, in any way, the client gets a 500 without details."""
        for function in FAILING:
            with Runner([("rule", onRequest(function)), ("next", onRequest(trouble))]) as runner:
                outcome = runner.run(request(), raiseErrors=False)
                metrics = counted(runner.harness.context.chain)
            self.assertEqual((outcome.status, outcome.attempts), (500, 0), function.__name__)
            self.assertEqual(outcome.text, "500 sitio could not decide about this request.\n")
            self.assertEqual(len(outcome.errors), 1)
            self.assertEqual(
                metrics,
                [
                    {"name": "rule", "called": 1, "acted": 1, "failed": 1},
                    {"name": "next", "called": 0, "acted": 0, "failed": 0},
                ],
            )

    def test_spoiledRequest(self) -> None:
        """If a policy leaves a request that can't be sent, the client gets a 500 as well."""

        def spoil(attribute: str, value: Any) -> Any:
            return onRequest(lambda exchange: setattr(exchange.request, attribute, value))

        for attribute, value in (
            ("headers", {"X-A": "1"}),
            ("headers", None),
            ("body", "text"),
            ("target", "/a b"),
            ("method", "GET /"),
        ):
            outcome = runPolicy(spoil(attribute, value), request(), raiseErrors=False)
            self.assertEqual((outcome.status, outcome.attempts), (500, 0), attribute)
            self.assertEqual(len(outcome.errors), 1)

    def test_changedRequest(self) -> None:
        """The next policy and the upstream get the request as a policy changed it."""

        def change(exchange: Any) -> None:
            exchange.request.method = "PUT"
            exchange.request.target = "/y"
            exchange.request.body = b"other"
            exchange.request.headers["X-A"] = "1"

        seen: list[str] = []
        policies = [
            onRequest(change),
            onRequest(lambda exchange: seen.append(exchange.request.target)),
        ]
        for pieces in (None, 1):
            sent = request("/x", "PUT", body=b"mine")
            [got] = runPolicy(policies, sent, pieces=pieces).requests
            self.assertEqual((got.method, got.target, got.body), ("PUT", "/y", b"other"))
            self.assertEqual(got.headers["X-A"], "1")
        self.assertEqual(seen, ["/y", "/y"])

    def test_retryIsNoAnswer(self) -> None:
        """A request policy can't return a Retry, as there was no attempt."""
        self.assertRaises(TypeError, runPolicy, onRequest(lambda exchange: Retry()), request())

    def test_response(self) -> None:
        """If a response policy fails, in any way, the next policy gets the response."""
        for function in FAILING:
            calls: list[str] = []
            policies = [
                ("decoration", onResponse()(function)),
                ("next", onResponse()(noted(calls, "next"))),
            ]
            for pieces in (None, 2):
                with Runner(policies) as runner:
                    outcome = runner.run(
                        request(), response(200, text="abcde"), raiseErrors=False, pieces=pieces
                    )
                    metrics = counted(runner.harness.context.chain)
                self.assertEqual((outcome.status, outcome.text), (200, "abcde"), function.__name__)
                self.assertTrue(outcome.whole)
                self.assertEqual(calls.pop(), "next 200")
                self.assertEqual(outcome.exchange.acted, ())
                self.assertEqual(
                    metrics[0], {"name": "decoration", "called": 1, "acted": 0, "failed": 1}
                )

    def test_undone(self) -> None:
        """The changes of a response policy that fails are undone."""

        def meddle(exchange: Any, response: Any) -> None:
            response.status = 299
            response.reason = "Meddled"
            response.headers["Content-Type"] = "text/meddled"
            response.headers.add("X-A", "1")
            response.body = b"meddled"
            response.addFilter(lambda data: b"filtered")
            raise Trouble

        for buffered, pieces in ((True, None), (True, 1), (False, None), (False, 1)):
            outcome = runPolicy(
                [onResponse(buffered=buffered)(meddle)],
                request(),
                response(200, text="as it was"),
                pieces=pieces,
                raiseErrors=False,
            )
            self.assertEqual((outcome.status, outcome.reason), (200, "OK"))
            self.assertEqual(outcome.text, "as it was")
            self.assertEqual(outcome.headers.allItems(), [("Content-Type", TEXT)])

    def test_undoneOfOthers(self) -> None:
        """The changes of the policies before it are kept, also a response without fields."""

        def meddle(exchange: Any, response: Any) -> None:
            response.headers["X-A"] = "meddled"
            raise Trouble

        for first, left in (
            (lambda exchange, response: Response(404, body=b"ours"), []),
            (lambda exchange, response: response.headers.clear(), []),
            (lambda exchange, response: response.headers.add("X-A", "b"), [("X-A", "b")]),
            (lambda exchange, response: Response(headers={"X-A": "b"}), [("X-A", "b")]),
        ):
            policies = [onResponse(200)(first), onResponse()(meddle)]
            outcome = runPolicy(policies, request(), response(200), raiseErrors=False)
            self.assertEqual(outcome.headers.allItems(), left)
            self.assertEqual([type(each) for each in outcome.errors], [Trouble])

    def test_spoiled(self) -> None:
        """The changes that leave a response that can't be sent are undone as well."""

        def spoil(attribute: str, value: Any) -> Any:
            return onResponse(buffered=True)(
                lambda exchange, response: setattr(response, attribute, value)
            )

        for attribute, value in (
            ("status", 42),
            ("status", "200"),
            ("status", 200.5),
            ("reason", None),
            ("headers", {"X-A": "1"}),
            ("headers", None),
            ("body", "text"),
        ):
            for mishap, status in (
                (response(200, text="as it was"), 200),
                (connectionReset(), 502),
            ):
                outcome = runPolicy(spoil(attribute, value), request(), mishap, raiseErrors=False)
                self.assertEqual(outcome.status, status, attribute)
                self.assertTrue(outcome.text.startswith(("as it was", "502 ")), outcome.text)
                self.assertEqual(outcome.headers.allItems()[0], ("Content-Type", TEXT))
                self.assertEqual(len(outcome.errors), 1)

    def test_observer(self) -> None:
        """The failure of an observer affects neither the client nor the next observer."""
        calls: list[str] = []
        policies = [
            ("broken", onFinish(trouble)),
            ("next", onFinish(lambda exchange: calls.append(exchange.status))),
        ]
        with Runner(policies) as runner:
            outcome = runner.run(request(), response(204), raiseErrors=False)
            metrics = counted(runner.harness.context.chain)
        self.assertEqual((outcome.status, calls), (204, [204]))
        self.assertEqual(
            metrics,
            [
                {"name": "broken", "called": 1, "acted": 0, "failed": 1},
                {"name": "next", "called": 1, "acted": 0, "failed": 0},
            ],
        )

    def test_timeout(self) -> None:
        """A policy has a timeout, after which its Deferred is cancelled."""
        for policy, status in ((onRequest(never), 500), (onResponse()(never), 200)):
            outcome = runPolicy(
                policy, request(), settings=Settings(policyTimeout=7), raiseErrors=False
            )
            self.assertEqual((outcome.status, outcome.exchange.duration), (status, 7))

    def test_eachItsOwnTime(self) -> None:
        """Each policy has its own timeout: two slow ones may take twice as long."""
        clock = Clock()
        slow: Any = onRequest(lambda exchange: deferLater(clock, 6))
        outcome = runPolicy(
            [slow, slow], request(), settings=Settings(policyTimeout=7), clock=clock
        )
        self.assertEqual((outcome.status, outcome.exchange.duration), (200, 12))

    def test_logged(self) -> None:
        """
        The first failure is logged with the policy's name and a traceback, later ones of its
        kind at most once a minute, with their number.
        """
        clock = Clock()
        chain = Chain([("rule", onRequest(trouble))], clock=clock)
        exchange = Exchange()

        def fails(times: int) -> None:
            for _ in range(times):
                chain.requestReceived(exchange)

        events: list[Any] = []
        observer: Any = events.append
        self.patch(chain, "log", Logger(observer=observer))
        fails(3)
        clock.advance(TRACEBACK_INTERVAL_SECONDS - 1)
        fails(2)
        clock.advance(1)
        fails(2)
        self.assertEqual([each["name"] for each in events], ["rule", "rule"])
        self.assertEqual([each["unlogged"] for each in events], [0, 4])
        self.assertEqual(events[0]["log_failure"].type, Trouble)
        self.assertEqual(chain.snapshot()[0]["failed"], 7)

    def test_loggedByKind(self) -> None:
        """
        A failure does not keep another one from being logged, of another class or from another
        line; but no more than eight of a policy are logged in a minute.
        """
        clock = Clock()

        @onRequest
        def fails(exchange: Any) -> None:
            if raised[0] is None:
                raise KeyError
            raise raised[0]

        raised: list[Any] = [None]
        chain = Chain([("rule", fails)], clock=clock)

        def logged(*errors: Any) -> int:
            for each in errors:
                raised[0] = each
                chain.requestReceived(Exchange())
            return len(self.flushLoggedErrors(Exception))

        self.assertEqual(logged(None, KeyError(), None, ValueError(), KeyError()), 3)
        classes = [type(f"Trouble{number}", (Exception,), {}) for number in range(20)]
        self.assertEqual(logged(*classes), MAX_TRACEBACKS - 3)
        clock.advance(TRACEBACK_INTERVAL_SECONDS)
        self.assertEqual(logged(None, *classes), MAX_TRACEBACKS)

    def test_loggedByName(self) -> None:
        """The failures of one policy do not keep those of another from being logged."""
        clock = Clock()
        chain = Chain([("a", onFinish(trouble)), ("b", onFinish(trouble))], clock=clock)
        chain.exchangeFinished(Exchange())
        chain.exchangeFinished(Exchange())
        self.assertEqual(len(self.flushLoggedErrors(Trouble)), 2)


@define
class Exchange:
    """The part of an exchange that a chain uses."""

    request: Request = field(factory=lambda: request("/"))
    acted: tuple[str, ...] = ()
    answeredBy: str | None = None
    policyTime: float = 0.0
    duration: float | None = None
    again: bool = False
    body: bytes | None = None
    failure: SitioError | None = None
    id: str = "1-1"

    def wholeRequest(self) -> SitioError | None:
        """Its body is here."""
        return None

    def mayRetry(self) -> bool:
        """Whether another attempt is possible."""
        return self.again

    def wholeBody(self, response: Response) -> bool:
        """Set the body, if there is one."""
        response.body = self.body
        return self.body is not None


@implementer(IResponsePolicy)
@define
class Counting:
    """A response policy that records for which statuses it is asked."""

    buffered: bool = False
    asked: list[int] = field(factory=list)
    shown: list[Any] = field(factory=list)

    @property
    def statuses(self) -> Any:
        """A container that records what is looked up in it."""
        return self

    def __contains__(self, status: int) -> bool:
        self.asked.append(status)
        return status == 404

    def responseReceived(self, exchange: Any, response: Any) -> None:
        """Record the body."""
        self.shown.append(response.body)


@implementer(ISelectivePolicy)
@define
class Choosy(Counting):
    """A selective policy whose interest is that of a function."""

    wanted: Callable[[], bool] = bool

    def isInterested(self, exchange: Any, response: Any) -> bool:
        """See L{ISelectivePolicy}."""
        self.shown.append("asked")
        return self.wanted()


@implementer(ISelectivePolicy)
@define
class Wishing:
    """A selective policy that records C{name?} when asked, and its name when called."""

    name: str
    calls: list[str]
    wish: bool
    answer: Any = None
    statuses: Any = range(400, 600)
    buffered: bool = False

    def isInterested(self, exchange: Any, response: Any) -> bool:
        """See L{ISelectivePolicy}."""
        self.calls.append(self.name + "?")
        return self.wish

    def responseReceived(self, exchange: Any, response: Any) -> Any:
        """Return the answer."""
        self.calls.append(self.name)
        return self.answer


class ChainTests(SynchronousTestCase):
    """What a chain promises to an exchange."""

    def chain(self, *policies: Any) -> Chain:
        """A chain of policies with the names C{policy0}, C{policy1} and so on."""
        return Chain([(f"policy{at}", each) for at, each in enumerate(policies)], clock=Clock())

    def test_asks(self) -> None:
        """C{hasRequestPolicies} says whether there is a request policy."""
        self.assertFalse(self.chain(onResponse(404)(trouble)).hasRequestPolicies)
        self.assertTrue(self.chain(onRequest(trouble)).hasRequestPolicies)

    def test_statusesAskedOnce(self) -> None:
        """A policy is asked for its statuses once for each status that occurs."""
        policy = Counting()
        chain = self.chain(policy)
        for _ in range(3):
            self.assertTrue(chain.interested[404])
            self.assertFalse(chain.interested[200])
        self.assertEqual(policy.asked, [404, 200])

    def test_statusesBroken(self) -> None:
        """A policy whose C{statuses} raises gets no response; others do."""
        policy = Counting()
        chain = self.chain(onResponse()(noted([], "a")), policy)
        self.patch(Counting, "__contains__", trouble)
        self.assertTrue(chain.interested[404])
        chain.responseReceived(Exchange(), Response(404))
        self.assertEqual(policy.shown, [])
        self.assertEqual(len(self.flushLoggedErrors(Trouble)), 1)

    def test_atOnce(self) -> None:
        """If no policy waits, the result is not a Deferred."""

        async def coroutine(*given: Any) -> None:
            await succeed(None)

        chain = self.chain(
            onRequest(coroutine), onResponse()(coroutine), onResponse()(succeedWithNone)
        )
        response = Response(200)
        self.assertIs(chain.requestReceived(Exchange()), None)
        self.assertIs(chain.responseReceived(Exchange(), response), response)

    def test_retry(self) -> None:
        """A Retry is returned if the exchange can retry."""
        chain = self.chain(onResponse()(lambda exchange, response: Retry(2)))
        exchange = Exchange(again=True)
        self.assertEqual(chain.responseReceived(exchange, Response(503)), Retry(2))
        self.assertEqual((exchange.acted, chain.snapshot()[0]["acted"]), (("policy0",), 1))

    def test_noRetry(self) -> None:
        """If it can't, the next policy gets the response."""
        calls: list[str] = []
        chain = self.chain(
            onResponse()(lambda exchange, response: Retry(2)), onResponse()(noted(calls, "next"))
        )
        exchange = Exchange(again=False)
        response = Response(503)
        self.assertIs(chain.responseReceived(exchange, response), response)
        self.assertEqual((calls, exchange.acted), (["next 503"], ()))

    def test_wholeBody(self) -> None:
        """A buffered policy gets the whole body; the policies before it get none."""
        early, late = Counting(), Counting(buffered=True)
        chain = self.chain(early, late, early)
        chain.responseReceived(Exchange(body=b"all"), Response.fromWire(404, "", []))
        self.assertEqual((early.shown, late.shown), ([None, b"all"], [b"all"]))

    def test_tooLong(self) -> None:
        """A buffered policy does not get a response over the buffer limit."""
        late = Counting(buffered=True)
        chain = self.chain(late, onResponse()(noted([], "next")))
        response = Response.fromWire(404, "", [])
        self.assertIs(chain.responseReceived(Exchange(body=None), response), response)
        self.assertEqual((late.shown, chain.snapshot()[0]["called"]), ([], 0))

    def test_selective(self) -> None:
        """If a selective policy is not interested, the body is not buffered."""
        verifyObject(ISelectivePolicy, Choosy())
        for wanted, shown in (
            (lambda: True, ["asked", b"all"]),
            (lambda: False, ["asked"]),
            (trouble, ["asked"]),
        ):
            policy = Choosy(buffered=True, wanted=wanted)
            response = Response.fromWire(404, "", [])
            self.chain(policy).responseReceived(Exchange(body=b"all"), response)
            self.assertEqual(policy.shown, shown)
        self.assertEqual(len(self.flushLoggedErrors(Trouble)), 1)

    def test_askedOnce(self) -> None:
        """Each selective policy is asked once for each response, in order."""
        for wishes, answers in (
            ((False, False, False), ["a?", "b?", "c?"]),
            ((True, False, True), ["a?", "a", "b?", "c?", "c"]),
            ((False, True, False), ["a?", "b?", "b", "c?"]),
            ((False, True, True), ["a?", "b?", "b", "c?", "c"]),
        ):
            calls: list[str] = []
            policies = [Wishing(each, calls, wish) for each, wish in zip("abc", wishes)]
            response = Response(404)
            self.assertIs(self.chain(*policies).responseReceived(Exchange(), response), response)
            self.assertEqual(calls, answers)

    def test_askedAgain(self) -> None:
        """Only the policies after it get a replaced response."""
        for status, answers in ((503, ["a?", "b?", "b", "c?"]), (200, ["a?", "b?", "b"])):
            calls: list[str] = []
            policies = [
                Wishing("a", calls, wish=False),
                Wishing("b", calls, wish=True, answer=Response(status)),
                Wishing("c", calls, wish=False),
            ]
            result = self.chain(*policies).responseReceived(Exchange(), Response(404))
            self.assertEqual((result.status, calls), (status, answers))

    def test_askedWhileAnotherWaits(self) -> None:
        """A selective policy after a waiting policy is asked once, when the wait is over."""
        calls: list[str] = []
        answer: Deferred[None] = Deferred()
        chain = self.chain(Wishing("a", calls, True, answer), Wishing("b", calls, wish=False))
        response = Response(404)
        result = chain.responseReceived(Exchange(), response)
        self.assertEqual(calls, ["a?", "a"])
        answer.callback(None)
        self.assertIs(self.successResultOf(result), response)
        self.assertEqual(calls, ["a?", "a", "b?"])

    def test_wishBroken(self) -> None:
        """
        If C{isInterested} raises, the failure is counted and logged, and the next
        policy runs.
        """
        calls: list[str] = []
        chain = self.chain(
            Choosy(wanted=trouble), Wishing("b", calls, wish=True), Choosy(wanted=trouble)
        )
        response = Response(404)
        self.assertIs(chain.responseReceived(Exchange(), response), response)
        self.assertEqual(calls, ["b?", "b"])
        self.assertEqual(
            [(each["called"], each["failed"]) for each in chain.snapshot()],
            [(0, 1), (1, 0), (0, 1)],
        )
        self.assertEqual(len(self.flushLoggedErrors(Trouble)), 2)

    def test_noWish(self) -> None:
        """If no policy is interested, no Deferred is made, and nothing is looked up."""
        chain = self.chain(Choosy(), Choosy(buffered=True))
        response = Response.fromHead(404, "", Headers.fromLines(b"\r\nA: b\r\n", None))
        self.assertIs(chain.responseReceived(Exchange(), response), response)
        self.assertIs(response.headers._lowered, None)

    def test_policies(self) -> None:
        """C{policies} has the policies, in order."""
        first, second = onRequest(trouble), onFinish(trouble)
        chain = self.chain(first, second)
        self.assertEqual(chain.policies, [first, second])
        self.assertEqual([each["name"] for each in chain.snapshot()], ["policy0", "policy1"])

    def test_sees(self) -> None:
        """The snapshot says what each policy sees."""
        chain = self.chain(onRequest(trouble), onResponse(404)(trouble), onFinish(trouble))
        self.assertEqual(
            [each["sees"] for each in chain.snapshot()],
            ["requests", "responses", "exchanges"],
        )

    def test_seconds(self) -> None:
        """The time that a policy takes is added up, also if it fails."""
        clock = Clock()
        waits: list[Deferred[Any]] = []

        def slow(*given: Any) -> Deferred[Any]:
            waits.append(Deferred())
            return waits[-1]

        chain = Chain([("in", onRequest(slow)), ("out", onResponse(404)(slow))], clock=clock)
        exchange = Exchange()
        for name, ask in (
            ("in", lambda: chain.requestReceived(exchange)),
            ("out", lambda: chain.responseReceived(exchange, Response(404))),
        ):
            for seconds, end in ((1.0, None), (2.0, Failure(Trouble("on purpose")))):
                asked = ask()
                clock.advance(seconds)
                waits[-1].callback(end)
                self.successResultOf(asked)
            spent = {each["name"]: each["seconds"] for each in chain.snapshot()}
            self.assertEqual(spent[name], 3)
        self.assertEqual(exchange.policyTime, 6)
        self.assertEqual(len(self.flushLoggedErrors(Trouble)), 2)

    def test_secondsAreItsOwn(self) -> None:
        """No policy gets the time of another, nor that of a body or of a question."""
        clock = Clock()

        class Slow(Exchange):
            """Its body takes a while."""

            def wholeBody(self, response: Response) -> bool:
                clock.advance(100)
                return Exchange.wholeBody(self, response)

        def takes(seconds: float) -> Any:
            return lambda *given: clock.advance(seconds)

        def asked() -> bool:
            clock.advance(1000)
            return True

        policies = [
            ("a", onResponse(takes(1))),
            ("b", onResponse(buffered=True)(takes(2))),
            ("c", Choosy(wanted=asked)),
            ("d", onResponse(takes(4))),
        ]
        chain = Chain(policies, clock=clock)
        exchange = Slow(body=b"all")
        chain.responseReceived(exchange, Response.fromWire(404, "", []))
        spent = {each["name"]: each["seconds"] for each in chain.snapshot()}
        self.assertEqual(spent, {"a": 1, "b": 2, "c": 0, "d": 4})
        self.assertEqual(exchange.policyTime, 7)

    def test_changedWhileItWaits(self) -> None:
        """What a policy changes while it waits counts as if it had not waited."""
        for end, kept in ((None, 410), (Failure(Trouble("on purpose")), 404)):
            calls: list[str] = []
            answer: Deferred[Any] = Deferred()
            chain = self.chain(
                onResponse(404)(lambda *given, answer=answer: answer),
                onResponse()(noted(calls, "all")),
                onResponse(410)(noted(calls, "gone")),
            )
            response = Response(404)
            result = chain.responseReceived(Exchange(), response)
            response.status = 410
            answer.callback(end)
            self.assertIs(self.successResultOf(result), response)
            self.assertEqual(response.status, kept)
            self.assertEqual(calls, ["all 410", "gone 410"] if kept == 410 else ["all 404"])
        self.assertEqual(len(self.flushLoggedErrors(Trouble)), 1)

    def test_noPolicy(self) -> None:
        """An object that is not a policy is refused, with its name and the interfaces."""
        error = self.assertRaises(ValueError, self.chain, trouble)
        self.assertIn("policy0 is not a policy", str(error))
        self.assertIn("IRequestPolicy, IResponsePolicy, ISendPolicy, IExchangeObserver", str(error))

    def test_noWholePolicy(self) -> None:
        """An incomplete policy is refused."""

        @implementer(IResponsePolicy)
        class Careless:  # type: ignore[misc]
            statuses = (404,)

            def responseReceived(self, exchange: Any, response: Any) -> None:
                """Do nothing."""

        error = self.assertRaises(ValueError, self.chain, Careless())
        self.assertIn("policy0 is an incomplete policy", str(error))
        self.assertIn("buffered", str(error))


def succeedWithNone(*given: Any) -> Any:
    """A policy that returns a Deferred of L{None}."""
    return succeed(None)


class SharingTests(SynchronousTestCase):
    """Messages with equal heads share their lines, but not the changes of policies."""

    def test_changes(self) -> None:
        """A change for one client affects neither the next client nor the upstream."""
        turn = iter(range(100))

        def ask(exchange: Any) -> None:
            number = exchange.notes["number"] = next(turn)
            if number % 2 == 0:
                exchange.request.headers["X-Secret"] = "of one client"
                exchange.request.target = "/changed"
                exchange.request.method = "DELETE"
                del exchange.request.headers["Accept"]

        def judge(exchange: Any, response: Any) -> None:
            if exchange.notes["number"] % 2 == 0:
                response.headers["Set-Cookie"] = "of one client"
                del response.headers["X-Kept"]
                response.status = 202
                response.reason = "Changed"

        policies = [onRequest(ask), onResponse()(judge)]
        harness = Harness(policies)
        for _ in range(3):
            for changed in (True, False):
                client = harness.connect()
                client.sends(GET.replace(b"\r\n\r\n", b"\r\nAccept: b\r\n\r\n"))
                got = harness.upstream().gotRequest()
                self.assertEqual(got.method, "DELETE" if changed else "GET")
                self.assertEqual(got.target, "/changed" if changed else "/x")
                self.assertEqual("X-Secret" in got.headers, changed)
                self.assertEqual("Accept" in got.headers, not changed)
                harness.upstream().sends(
                    b"HTTP/1.1 200 OK\r\nX-Kept: a\r\nContent-Length: 2\r\n\r\nhi"
                )
                response = client.gotResponse()
                self.assertEqual(
                    (response.status, response.reason), (202, "Changed") if changed else (200, "OK")
                )
                self.assertEqual("Set-Cookie" in response.headers, changed)
                self.assertEqual("X-Kept" in response.headers, not changed)

    def test_pages(self) -> None:
        """A change of a response that another policy returns many times has no later effect."""

        def change(exchange: Any, response: Any) -> None:
            response.headers.add("X-Shown", exchange.request.target)
            del response.headers["Server"]

        with Runner(["error-page:404", ("change", onResponse(404)(change))]) as runner:
            for target in "/1", "/2":
                outcome = runner.run(request(target), response(404))
                self.assertEqual(outcome.headers.getAll("X-Shown"), [target])
                self.assertIn("Date", outcome.headers)

    def test_failed(self) -> None:
        """A change by a policy that failed has no later effect."""

        def spoil(exchange: Any, response: Any) -> None:
            response.headers["Set-Cookie"] = "of one client"
            response.headers.append(b"X-A: b\r\n")
            raise Trouble

        policies = [onResponse()(spoil)]
        with Runner(policies) as runner:
            for _ in range(3):
                outcome = runner.run(
                    request(), response(headers={"X-Kept": "a"}), raiseErrors=False
                )
                self.assertEqual(outcome.headers.allItems(), [("X-Kept", "a")])

    def test_oneForAll(self) -> None:
        """Each exchange gets its own copy of a response that a policy returns many times."""
        given = Response(404, text="no", headers={"X-A": "b"})

        def change(exchange: Any, response: Any) -> None:
            response.headers["X-A"] += exchange.request.target

        policies = [onResponse(200)(lambda exchange, response: given), onResponse(404)(change)]
        with Runner(policies) as runner:
            for target in "/1", "/2":
                self.assertEqual(
                    runner.run(request(target), response()).headers["X-A"], "b" + target
                )
        self.assertEqual(given.headers["X-A"], "b")


class RetryTests(SynchronousTestCase):
    """sitio decides whether a Retry is followed."""

    def setUp(self) -> None:
        self.policy = onResponse(502, 503)(lambda exchange, response: Retry(3))

    def test_honoured(self) -> None:
        """A GET is sent again after the wait, and policies get the new response."""
        outcome = runPolicy(
            self.policy, request(), response(503), connectionReset(), response(200, text="good")
        )
        self.assertEqual((outcome.text, outcome.attempts), ("good", 3))
        self.assertEqual(outcome.exchange.duration, 6)
        self.assertEqual(len(outcome.exchange.acted), 2)

    def test_sameAgain(self) -> None:
        """Each attempt sends the same request, with its body."""
        outcome = runPolicy(
            self.policy, request("/x", "PUT", body=b"abc"), response(503), response(200)
        )
        first, second = outcome.requests
        self.assertEqual((first.body, second.body), (b"abc", b"abc"))
        self.assertEqual(first.headers.allItems(), second.headers.allItems())

    def test_notRepeatable(self) -> None:
        """A POST that may have arrived is not sent again: the client gets the response."""
        for answer, status in ((response(503), 503), (connectionReset(), 502)):
            outcome = runPolicy(self.policy, request("/", "POST", body=b"abc"), answer)
            self.assertEqual((outcome.status, outcome.attempts), (status, 1))

    def test_neverArrived(self) -> None:
        """A POST that did not reach the upstream is sent again."""
        outcome = runPolicy(
            self.policy, request("/", "POST", body=b"abc"), connectionRefused(), response(201)
        )
        self.assertEqual((outcome.status, outcome.attempts), (201, 2))
        self.assertEqual(outcome.requests[0].body, b"abc")

    def test_brokenOff(self) -> None:
        """A buffered response that is incomplete is a failed attempt, and can be retried."""
        again = onResponse(200, 502, buffered=True)(
            lambda exchange, response: Retry() if response.failure else None
        )
        outcome = runPolicy(
            again, request(), incompleteResponse(response(text="abcd")), response(text="whole")
        )
        self.assertEqual((outcome.text, outcome.attempts), ("whole", 2))

    def test_bounded(self) -> None:
        """The number of attempts is bounded."""
        outcome = runPolicy(self.policy, request(), response(503))
        self.assertEqual((outcome.status, outcome.attempts), (503, 10))
