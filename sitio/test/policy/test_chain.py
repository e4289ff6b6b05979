"""
Promises of L{sitio.policy.chain}: who is called, in what order, what comes of their
answers and of their failures; and that each description gives policies or one
sentence.
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
from sitio.http.headers import FieldLines
from sitio.interfaces import (
    IResponsePolicy,
    ISelectivePolicy,
)
from sitio.policy.chain import TRACEBACK_INTERVAL_SECONDS, Chain
from sitio.settings import Settings
from sitio.testing import (
    Harness,
    Runner,
    brokenOff,
    refused,
    request,
    reset,
    response,
    runPolicy,
    silence,
)

GET = b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Trouble(Exception):
    """What policies raise in these tests."""


def trouble(*given: Any) -> Any:
    """A policy that fails at once."""
    raise Trouble("on purpose")


async def troubleLater(*given: Any) -> Any:
    """A policy that fails as a coroutine does."""
    raise Trouble("on purpose")


def troubleFired(*given: Any) -> Any:
    """A policy whose Deferred has failed."""
    return fail(Trouble("on purpose"))


def never(*given: Any) -> Any:
    """A policy that does not come to an end."""
    return Deferred()


def counted(chain: Chain) -> list[dict[str, Any]]:
    """How often each policy was called, acted and failed."""
    names = ("name", "called", "acted", "failed")
    return [{name: each[name] for name in names} for each in chain.snapshot()]


def wrong(*given: Any) -> Any:
    """A policy that answers what is no answer."""
    return "<h1>404</h1>"


def fakeBody(*given: Any) -> Any:
    """A policy whose response has text as its body."""
    return Response(200, body="text")  # type: ignore[arg-type]


def noBody(*given: Any) -> Any:
    """A policy whose response has no body at all."""
    return Response.fromWire(200, "OK", [])


def impossible(*given: Any) -> Any:
    """A policy whose response has a status that can't be sent."""
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
    """A policy that notes down its name, and what status it was shown."""

    def policy(exchange: Any, response: Any = None) -> Any:
        calls.append(name if response is None else f"{name} {response.status}")
        return answer() if callable(answer) else answer

    return policy


class OrderTests(SynchronousTestCase):
    """The operator's order holds for requests and responses alike."""

    def setUp(self) -> None:
        self.calls: list[str] = []

    def asks(self, name: str, answer: Any = None) -> tuple[str, Any]:
        """A request policy."""
        return name, onRequest(noted(self.calls, name, answer))

    def judges(self, name: str, *statuses: int, answer: Any = None) -> tuple[str, Any]:
        """A response policy."""
        return name, onResponse(*statuses)(noted(self.calls, name, answer))

    def test_order(self) -> None:
        """All are called in the order in which they were given, on the way in and back."""
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
        """A request that is answered reaches neither later policies nor the upstream."""
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
        """A replaced response is shown to the policies after it, never again to those before."""
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
        """A status that one policy puts in place interests those who want it, and only those."""
        policies = [
            self.judges("a", 404, answer=lambda: Response(503)),
            self.judges("b", 404),
            self.judges("c", 503, answer=lambda: Response(418)),
            self.judges("d", 418),
        ]
        runPolicy(policies, request(), response(404))
        self.assertEqual(self.calls, ["a 404", "c 503", "d 418"])

    def test_changedInPlace(self) -> None:
        """So does a status, a field or a body that it changes in the response it was given."""

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
        """To return the response it was given is to leave it, be it whole or streaming."""
        policy = ("same", onResponse()(lambda exchange, response: response))
        for pieces in (None, 2):
            outcome = runPolicy(policy, request(), response(200, text="12345"), pieces=pieces)
            self.assertEqual((outcome.status, outcome.text), (200, "12345"))
            self.assertEqual(outcome.exchange.acted, ())

    def test_failureToo(self) -> None:
        """A failed attempt is a response: it is shown, can be replaced, and stays a failure."""
        failures: list[Any] = []

        def mask(exchange: Any, response: Any) -> Response:
            failures.append(response.failure)
            return Response(200, text="masked")

        policies = [
            onResponse(502, 504)(mask),
            onResponse(200)(lambda exchange, response: failures.append(response.failure)),
        ]
        for mishap in (refused(), reset(), silence()):
            outcome = runPolicy(policies, request(), mishap)
            self.assertEqual((outcome.status, outcome.text), (200, "masked"))
            self.assertIn(outcome.exchange.upstreamStatus, (502, 504))
            self.assertIsNotNone(outcome.exchange.failure)
        self.assertEqual(failures[0::2], failures[1::2])
        self.assertNotIn(None, failures)

    def test_uninterested(self) -> None:
        """A response that nobody wants is not shown, and costs no list of its own twice."""
        outcome = runPolicy(self.judges("a", 404), request(), response(200))
        self.assertEqual((self.calls, outcome.status), ([], 200))

    def test_sharedResponse(self) -> None:
        """One response can be given to many exchanges: what becomes of it in each stays there."""
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
                second = runner.run(request(), refused())
                third = runner.run(request(), response(500))
            self.assertEqual(list(first.headers), list(third.headers))
            self.assertEqual(first.body, third.body)
            self.assertIsNot(second.status, None)
        self.assertEqual(list(constant.headers), [("X-A", "1"), ("Content-Type", TEXT)])
        self.assertEqual((constant.failure, constant.filters), (None, None))


TEXT = "text/plain; charset=utf-8"


class WaitingTests(SynchronousTestCase):
    """A policy answers at once, by a Deferred, or by a coroutine."""

    def answers(self) -> dict[str, Callable[..., Any]]:
        """Each way to answer a 403."""
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
        """Each answers a request, after as long as it took and no longer."""
        for name, function in self.answers().items():
            outcome = runPolicy(onRequest(function), request(), clock=self.clock)
            self.assertEqual((outcome.status, outcome.attempts), (403, 0), name)
            took = 2 if name in ("unfired", "waiting") else 0
            self.assertEqual(outcome.exchange.duration, took, name)

    def test_response(self) -> None:
        """Each replaces a response, whether it is whole by then or still streams."""
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
        """Each can also answer nothing, and the next is asked."""

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
        When the client goes away, what a policy waits for is cancelled; that is
        no failure of the policy's, and nothing is logged.
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

    def test_bodyBreaks(self) -> None:
        """Nor is it one when the rest of the request proves to be malformed meanwhile."""
        harness = Harness(onRequest(never))
        client = harness.connect()
        client.sends(b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        client.sends(b"nonsense\r\n")
        self.assertEqual(client.gotResponse().status, 400)
        self.assertEqual(harness.errors, [])
        harness.assertQuiet()

    def test_ownCancellation(self) -> None:
        """A Deferred that the policy itself has cancelled is its failure."""
        self.assertRaises(
            CancelledError,
            runPolicy,
            onRequest(lambda exchange: fail(CancelledError())),
            request(),
        )


class FailureTests(SynchronousTestCase):
    """
    A request policy that fails answers 500, a response policy or an observer
    that fails is passed over; each is counted by name.
    """

    def test_request(self) -> None:
        """However a request policy fails, nobody is let in, and no detail gets out."""
        for function in FAILING:
            with Runner([("rule", onRequest(function)), ("next", onRequest(trouble))]) as runner:
                outcome = runner.run(request(), contained=True)
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
        """A request that a policy leaves in a state that can't be sent is not let in either."""

        def spoil(attribute: str, value: Any) -> Any:
            return onRequest(lambda exchange: setattr(exchange.request, attribute, value))

        for attribute, value in (
            ("headers", {"X-A": "1"}),
            ("headers", None),
            ("body", "text"),
            ("target", "/a b"),
            ("method", "GET /"),
        ):
            outcome = runPolicy(spoil(attribute, value), request(), contained=True)
            self.assertEqual((outcome.status, outcome.attempts), (500, 0), attribute)
            self.assertEqual(len(outcome.errors), 1)

    def test_changedRequest(self) -> None:
        """What a request policy changes is what the next one and the upstream see."""

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
        """A request policy can't ask for another attempt: there was none."""
        self.assertRaises(TypeError, runPolicy, onRequest(lambda exchange: Retry()), request())

    def test_response(self) -> None:
        """However a response policy fails, the response passes and the next policy is asked."""
        for function in FAILING:
            calls: list[str] = []
            policies = [
                ("decoration", onResponse()(function)),
                ("next", onResponse()(noted(calls, "next"))),
            ]
            for pieces in (None, 2):
                with Runner(policies) as runner:
                    outcome = runner.run(
                        request(), response(200, text="abcde"), contained=True, pieces=pieces
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
        """What a response policy had done to the response before it failed is undone."""

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
                contained=True,
            )
            self.assertEqual((outcome.status, outcome.reason), (200, "OK"))
            self.assertEqual(outcome.text, "as it was")
            self.assertEqual(list(outcome.headers), [("Content-Type", TEXT)])

    def test_undoneOfOthers(self) -> None:
        """What policies before it did stands, down to a response without a single field."""

        def meddle(exchange: Any, response: Any) -> None:
            response.headers["X-A"] = "meddled"
            raise Trouble

        for first, left in (
            (lambda exchange, response: Response(404, body=b"ours"), []),
            (lambda exchange, response: response.headers.fields.clear(), []),
            (lambda exchange, response: response.headers.add("X-A", "b"), [("X-A", "b")]),
            (lambda exchange, response: Response(headers={"X-A": "b"}), [("X-A", "b")]),
        ):
            policies = [onResponse(200)(first), onResponse()(meddle)]
            outcome = runPolicy(policies, request(), response(200), contained=True)
            self.assertEqual(list(outcome.headers), left)
            self.assertEqual([type(each) for each in outcome.errors], [Trouble])

    def test_spoiled(self) -> None:
        """A response that it leaves in a state that can't be sent is undone as well."""

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
            for mishap, status in ((response(200, text="as it was"), 200), (reset(), 502)):
                outcome = runPolicy(spoil(attribute, value), request(), mishap, contained=True)
                self.assertEqual(outcome.status, status, attribute)
                self.assertTrue(outcome.text.startswith(("as it was", "502 ")), outcome.text)
                self.assertEqual(next(iter(outcome.headers)), ("Content-Type", TEXT))
                self.assertEqual(len(outcome.errors), 1)

    def test_observer(self) -> None:
        """An observer that fails keeps neither the client nor the next observer from anything."""
        calls: list[str] = []
        policies = [
            ("broken", onFinish(trouble)),
            ("next", onFinish(lambda exchange: calls.append(exchange.status))),
        ]
        with Runner(policies) as runner:
            outcome = runner.run(request(), response(204), contained=True)
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
        """A policy has so many seconds for its answer, and what it waits for is cancelled."""
        for policy, status in ((onRequest(never), 500), (onResponse()(never), 200)):
            outcome = runPolicy(
                policy, request(), settings=Settings(policyTimeout=7), contained=True
            )
            self.assertEqual((outcome.status, outcome.exchange.duration), (status, 7))

    def test_eachItsOwnTime(self) -> None:
        """The seconds are each policy's own: two slow ones may take twice as long."""
        clock = Clock()
        slow = onRequest(lambda exchange: deferLater(clock, 6))
        outcome = runPolicy(
            [slow, slow], request(), settings=Settings(policyTimeout=7), clock=clock
        )
        self.assertEqual((outcome.status, outcome.exchange.duration), (200, 12))

    def test_logged(self) -> None:
        """
        The first failure is logged with the policy's name and its traceback, the
        others not more than once a minute, with how many there were.
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

    def test_loggedByName(self) -> None:
        """A policy that fails all the time does not keep another one's failure from the log."""
        clock = Clock()
        chain = Chain([("a", onFinish(trouble)), ("b", onFinish(trouble))], clock=clock)
        chain.exchangeFinished(Exchange())
        chain.exchangeFinished(Exchange())
        self.assertEqual(len(self.flushLoggedErrors(Trouble)), 2)


@define
class Exchange:
    """As much of an exchange as a chain looks at."""

    request: Request = field(factory=lambda: request("/"))
    acted: tuple[str, ...] = ()
    answeredBy: str | None = None
    policyTime: float = 0.0
    duration: float | None = None
    again: bool = False
    body: bytes | None = None

    def mayRetry(self) -> bool:
        """Whether there may be another attempt."""
        return self.again

    def wholeBody(self, response: Response) -> Deferred[bool]:
        """Give the body, if there is one to give."""
        response.body = self.body
        return succeed(self.body is not None)


@implementer(IResponsePolicy)
@define
class Counting:
    """A response policy that counts how often it is asked for its statuses, and for what."""

    buffered: bool = False
    asked: list[int] = field(factory=list)
    shown: list[Any] = field(factory=list)

    @property
    def statuses(self) -> Any:
        """A container that notes down what it is asked."""
        return self

    def __contains__(self, status: int) -> bool:
        self.asked.append(status)
        return status == 404

    def responseReceived(self, exchange: Any, response: Any) -> None:
        """Note it down."""
        self.shown.append(response.body)


@implementer(ISelectivePolicy)
@define
class Choosy(Counting):
    """A response policy that wants what its function says."""

    wanted: Callable[[], bool] = bool

    def isInterested(self, exchange: Any, response: Any) -> bool:
        """See L{ISelectivePolicy}."""
        self.shown.append("asked")
        return self.wanted()


@implementer(ISelectivePolicy)
@define
class Wishing:
    """A selective policy that notes down C{name?} when asked, and its name when shown."""

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
        """The answer."""
        self.calls.append(self.name)
        return self.answer


class ChainTests(SynchronousTestCase):
    """What a chain promises to the exchange that asks it."""

    def chain(self, *policies: Any) -> Chain:
        """A chain of policies named by their place."""
        return Chain([(f"policy{at}", each) for at, each in enumerate(policies)], clock=Clock())

    def test_asks(self) -> None:
        """It says whether there is a request policy at all, so that none costs nothing."""
        self.assertFalse(self.chain(onResponse(404)(trouble)).hasRequestPolicies)
        self.assertTrue(self.chain(onRequest(trouble)).hasRequestPolicies)

    def test_statusesAskedOnce(self) -> None:
        """A policy is asked once for each status that occurs, and never again."""
        policy = Counting()
        chain = self.chain(policy)
        for _ in range(3):
            self.assertTrue(chain.interested[404])
            self.assertFalse(chain.interested[200])
        self.assertEqual(policy.asked, [404, 200])

    def test_statusesBroken(self) -> None:
        """A policy that can't tell its statuses is passed over; others are not."""
        policy = Counting()
        chain = self.chain(onResponse()(noted([], "a")), policy)
        self.patch(Counting, "__contains__", trouble)
        self.assertTrue(chain.interested[404])
        chain.responseReceived(Exchange(), Response(404))
        self.assertEqual(policy.shown, [])
        self.assertEqual(len(self.flushLoggedErrors(Trouble)), 1)

    def test_atOnce(self) -> None:
        """What no policy had to wait for is told at once, with no Deferred."""

        async def coroutine(*given: Any) -> None:
            await succeed(None)

        chain = self.chain(
            onRequest(coroutine), onResponse()(coroutine), onResponse()(succeedWithNone)
        )
        response = Response(200)
        self.assertIs(chain.requestReceived(Exchange()), None)
        self.assertIs(chain.responseReceived(Exchange(), response), response)

    def test_retry(self) -> None:
        """A Retry goes to the exchange where that may follow it."""
        chain = self.chain(onResponse()(lambda exchange, response: Retry(2)))
        exchange = Exchange(again=True)
        self.assertEqual(chain.responseReceived(exchange, Response(503)), Retry(2))
        self.assertEqual((exchange.acted, chain.snapshot()[0]["acted"]), (("policy0",), 1))

    def test_noRetry(self) -> None:
        """Where it may not, the response at hand goes on to the next policy."""
        calls: list[str] = []
        chain = self.chain(
            onResponse()(lambda exchange, response: Retry(2)), onResponse()(noted(calls, "next"))
        )
        exchange = Exchange(again=False)
        response = Response(503)
        self.assertIs(chain.responseReceived(exchange, response), response)
        self.assertEqual((calls, exchange.acted), (["next 503"], ()))

    def test_wholeBody(self) -> None:
        """A policy that wants bodies whole sees one; those before it see none yet."""
        early, late = Counting(), Counting(buffered=True)
        chain = self.chain(early, late, early)
        chain.responseReceived(Exchange(body=b"all"), Response.fromWire(404, "", []))
        self.assertEqual((early.shown, late.shown), ([None, b"all"], [b"all"]))

    def test_tooLong(self) -> None:
        """A body that can't be had whole passes that policy by."""
        late = Counting(buffered=True)
        chain = self.chain(late, onResponse()(noted([], "next")))
        response = Response.fromWire(404, "", [])
        self.assertIs(chain.responseReceived(Exchange(body=None), response), response)
        self.assertEqual((late.shown, chain.snapshot()[0]["called"]), ([], 0))

    def test_selective(self) -> None:
        """One that doesn't want a response is passed over before any of its body is held."""
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
        """Of each response each selective policy is asked once, in the operator's order."""
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
        """A replaced response is shown to the policies after it, never again to those before."""
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
        """One behind a policy that waits is asked when that has answered, and once."""
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
        """One that can't tell is passed over, counted and logged; those behind it are asked."""
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
        """Where none wants the response, nothing is made of it: no Headers, no Deferred."""
        chain = self.chain(Choosy(), Choosy(buffered=True))
        response = Response.fromHead(404, "", FieldLines.of([(b"A", b"b")]))
        self.assertIs(chain.responseReceived(Exchange(), response), response)
        self.assertIs(response._headers, None)

    def test_policies(self) -> None:
        """The policies and their names can be listed, in order."""
        first, second = onRequest(trouble), onFinish(trouble)
        chain = self.chain(first, second)
        self.assertEqual(chain.policies, [first, second])
        self.assertEqual([each["name"] for each in chain.snapshot()], ["policy0", "policy1"])

    def test_sees(self) -> None:
        """What each policy is shown can be listed."""
        chain = self.chain(onRequest(trouble), onResponse(404)(trouble), onFinish(trouble))
        self.assertEqual(
            [each["sees"] for each in chain.snapshot()],
            ["requests", "responses", "exchanges"],
        )

    def test_seconds(self) -> None:
        """The time that a policy takes over its answers adds up, whatever comes of them."""
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

    def test_noPolicy(self) -> None:
        """What is no policy is refused, with its name and what it might be."""
        error = self.assertRaises(ValueError, self.chain, trouble)
        self.assertIn("policy0 is not a policy", str(error))
        self.assertIn("IRequestPolicy, IResponsePolicy, IExchangeObserver", str(error))

    def test_noWholePolicy(self) -> None:
        """A policy that lacks part of what its interface asks for is refused at once."""

        @implementer(IResponsePolicy)
        class Careless:  # type: ignore[misc]
            statuses = (404,)

            def responseReceived(self, exchange: Any, response: Any) -> None:
                """Nothing."""

        error = self.assertRaises(ValueError, self.chain, Careless())
        self.assertIn("policy0 is an incomplete policy", str(error))
        self.assertIn("buffered", str(error))


def succeedWithNone(*given: Any) -> Any:
    """A policy that answers nothing by a Deferred."""
    return succeed(None)


class SharingTests(SynchronousTestCase):
    """Heads that are the same are read once; what policies make of one is its own."""

    def test_changes(self) -> None:
        """What was changed for one client is not seen by the next, nor by the upstream."""
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
        """Nor what was made of a page that another policy gives to many."""

        def change(exchange: Any, response: Any) -> None:
            response.headers.add("X-Shown", exchange.request.target)
            response.headers.fields.pop(0)

        with Runner(["error-page:404", ("change", onResponse(404)(change))]) as runner:
            for target in "/1", "/2":
                outcome = runner.run(request(target), response(404))
                self.assertEqual(outcome.headers.getAll("X-Shown"), [target])
                self.assertIn("Date", outcome.headers)

    def test_failed(self) -> None:
        """Nor is what a policy changed before it failed."""

        def spoil(exchange: Any, response: Any) -> None:
            response.headers["Set-Cookie"] = "of one client"
            response.headers.fields.append((b"X-A", b"b"))
            raise Trouble

        policies = [onResponse()(spoil)]
        with Runner(policies) as runner:
            for _ in range(3):
                outcome = runner.run(request(), response(headers={"X-Kept": "a"}), contained=True)
                self.assertEqual(list(outcome.headers), [("X-Kept", "a")])

    def test_oneForAll(self) -> None:
        """One response that a policy gives to many is each one's own as well."""
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
    """A Retry is a wish; the core alone decides."""

    def setUp(self) -> None:
        self.policy = onResponse(502, 503)(lambda exchange, response: Retry(3))

    def test_honoured(self) -> None:
        """A GET is sent again after the wait, and what comes then is shown again."""
        outcome = runPolicy(
            self.policy, request(), response(503), reset(), response(200, text="good")
        )
        self.assertEqual((outcome.text, outcome.attempts), ("good", 3))
        self.assertEqual(outcome.exchange.duration, 6)
        self.assertEqual(len(outcome.exchange.acted), 2)

    def test_sameAgain(self) -> None:
        """Each attempt sends the request as it was, its body included."""
        outcome = runPolicy(
            self.policy, request("/x", "PUT", body=b"abc"), response(503), response(200)
        )
        first, second = outcome.requests
        self.assertEqual((first.body, second.body), (b"abc", b"abc"))
        self.assertEqual(list(first.headers), list(second.headers))

    def test_notRepeatable(self) -> None:
        """A POST that may have arrived is not sent again: the response at hand goes out."""
        for answer, status in ((response(503), 503), (reset(), 502)):
            outcome = runPolicy(self.policy, request("/", "POST", body=b"abc"), answer)
            self.assertEqual((outcome.status, outcome.attempts), (status, 1))

    def test_neverArrived(self) -> None:
        """One that never left may be."""
        outcome = runPolicy(
            self.policy, request("/", "POST", body=b"abc"), refused(), response(201)
        )
        self.assertEqual((outcome.status, outcome.attempts), (201, 2))
        self.assertEqual(outcome.requests[0].body, b"abc")

    def test_brokenOff(self) -> None:
        """A response that breaks off while it is held is a failed attempt, and may be retried."""
        again = onResponse(200, 502, buffered=True)(
            lambda exchange, response: Retry() if response.failure else None
        )
        outcome = runPolicy(
            again, request(), brokenOff(response(text="abcd")), response(text="whole")
        )
        self.assertEqual((outcome.text, outcome.attempts), ("whole", 2))

    def test_bounded(self) -> None:
        """A policy that wishes for ever is not followed for ever."""
        outcome = runPolicy(self.policy, request(), response(503))
        self.assertEqual((outcome.status, outcome.attempts), (503, 10))
