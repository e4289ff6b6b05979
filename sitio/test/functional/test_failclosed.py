"""
Tests of policies that fail closed, and of those that fail open.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, TimeoutError, fail
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from sitio import (
    IRequestPolicy,
    IResponsePolicy,
    ISelectivePolicy,
    Response,
    Retry,
    onRequest,
    onResponse,
)
from sitio.errors import PolicyFailed, ResponseWithheld
from sitio.http.request import BodyNotBuffered
from sitio.settings import Settings
from sitio.testing import Harness, Outcome, Runner, incompleteResponse, request, response

SECRET = b"#4711 is secret"


class Unreadable:
    """Statuses that can't be read."""

    def __contains__(self, status: int) -> bool:
        raise Trouble


class Trouble(Exception):
    """What failing policies raise."""


def raises(*given: Any) -> Any:
    """Raise at once."""
    raise Trouble("on purpose")


async def raisesLater(*given: Any) -> Any:
    """Raise as a coroutine."""
    raise Trouble("on purpose")


def fails(*given: Any) -> Any:
    """Return a failed Deferred."""
    return fail(Trouble("on purpose"))


def never(*given: Any) -> Any:
    """Return a Deferred that never fires."""
    return Deferred()


def wrong(*given: Any) -> Any:
    """Return what is no response."""
    return "no"


def impossible(exchange: Any, response: Any = None) -> Any:
    """Leave, or return, what can't be sent."""
    if response is None:
        return Response(200, body="text")  # type: ignore[arg-type]
    response.headers["X-Left"] = "1"
    response.body = "text"
    return None


def escapes(*given: Any) -> Any:
    """Call C{sys.exit}."""
    raise SystemExit


#: Policies that fail, and what is logged.
FAILING: dict[Callable[..., Any], type[BaseException]] = {
    raises: Trouble,
    raisesLater: Trouble,
    fails: Trouble,
    never: TimeoutError,
    wrong: TypeError,
    impossible: TypeError,
    escapes: SystemExit,
}


class FailureCase(SynchronousTestCase):
    """A base for tests of one policy that fails."""

    def ask(
        self,
        *policies: Any,
        upstream: Any = None,
        method: str = "GET",
        pieces: int | None = None,
        **settings: Any,
    ) -> Outcome:
        """Send a request through these policies."""
        with Runner(list(policies), settings=Settings(**settings)) as runner:
            outcome = runner.run(
                request("/x", method),
                upstream or response(200, body=SECRET, headers={"X-Of": "upstream"}),
                pieces=pieces,
                raiseErrors=False,
            )
            self.counters = runner.harness.context.chain.snapshot()
            self.buffers = runner.harness.context.buffers.held
        return outcome

    def assertWithheld(self, outcome: Outcome) -> None:
        """Check that the client got 502, and nothing of the upstream's response."""
        self.assertEqual((outcome.status, outcome.whole), (502, True))
        self.assertNotIn(SECRET[:3], outcome.body)
        self.assertNotIn("X-Of", outcome.headers)
        exchange = outcome.exchange
        self.assertIsInstance(exchange.failure, ResponseWithheld)
        self.assertEqual(
            (exchange.upstreamStatus, exchange.status, exchange.answeredBy), (200, 502, None)
        )
        self.assertEqual([each["failed"] for each in self.counters][:1], [1])
        self.assertEqual(self.buffers, 0)


class ResponseTests(FailureCase):
    """Response policies fail open by default, and closed if they say so."""

    def test_table(self) -> None:
        """Whatever the failure is, with C{failOpen=False} the client gets 502."""
        for failing, error in FAILING.items():
            for buffered in (False, True):
                for failOpen in (True, False, None):
                    how = {} if failOpen is None else {"failOpen": failOpen}
                    policy = onResponse(buffered=buffered, **how)(failing)
                    outcome = self.ask(policy, policyTimeout=5.0)
                    self.assertEqual([type(each) for each in outcome.errors], [error])
                    if failOpen is False:
                        self.assertWithheld(outcome)
                        self.assertEqual(outcome.exchange.acted, (failing.__name__,))
                        self.assertIn(failing.__name__, str(outcome.exchange.failure))
                    else:
                        self.assertEqual((outcome.status, outcome.body), (200, SECRET))
                        self.assertNotIn("X-Left", outcome.headers)
                        self.assertIsNone(outcome.exchange.failure)

    def test_tooLong(self) -> None:
        """A body that is too long to be judged: announced, in chunks, or without room."""
        policy = onResponse(buffered=True, failOpen=False)(lambda exchange, response: None)
        both: list[dict[str, Any]] = [{"bufferLimit": 10}, {"bufferTotal": 10}]
        for limits in both:
            for pieces in (0, 5, None):
                if "bufferTotal" in limits and pieces == 0:
                    # What is here whole takes no room.
                    continue
                outcome = self.ask(policy, pieces=pieces, **limits)
                self.assertWithheld(outcome)
                self.assertEqual([type(each) for each in outcome.errors], [ResponseWithheld])
                self.assertIn("--buffer-limit", str(outcome.errors[0]))
                self.assertEqual(self.counters[0]["called"], 0)

    def test_laterPolicies(self) -> None:
        """Policies after it get the 502 in place of the response, as they get any failure."""
        seen = []

        @onResponse()
        def look(exchange: Any, response: Response) -> None:
            seen.append((response.status, SECRET in (response.body or b""), response.failure))

        outcome = self.ask(onResponse(failOpen=False)(raises), look, "error-page:502")
        self.assertEqual([each[:2] for each in seen], [(502, False)])
        self.assertIsInstance(seen[0][2], ResponseWithheld)
        self.assertEqual((outcome.status, outcome.exchange.acted), (502, ("raises", "error-page")))

    def test_selective(self) -> None:
        """A policy that can't tell whether it is interested gets all, if it fails closed."""
        for broken in ("isInterested", "statuses"):

            @implementer(ISelectivePolicy)
            class Choosy:
                buffered = True

                def __init__(self, failOpen: bool, broken: str = broken) -> None:
                    self.failOpen = failOpen
                    self.broken = broken

                @property
                def statuses(self) -> Any:
                    if self.broken == "statuses":
                        return Unreadable()
                    return range(100, 1000)

                def isInterested(self, exchange: Any, response: Any) -> bool:
                    if self.broken == "isInterested":
                        raise Trouble
                    return True

                def responseReceived(self, exchange: Any, response: Any) -> None:
                    response.body = b"redacted"

            for failOpen, body in ((True, SECRET), (False, b"redacted")):
                outcome = self.ask(Choosy(failOpen))
                self.assertEqual((outcome.status, outcome.body), (200, body))

    def test_retried(self) -> None:
        """A policy after it may ask for another attempt, and the response is judged again."""
        calls = []

        @onResponse(200, failOpen=False)
        def once(exchange: Any, response: Response) -> None:
            calls.append(exchange.attempts)
            if len(calls) == 1:
                raise Trouble

        outcome = self.ask(once, onResponse(502)(lambda *given: Retry()))
        self.assertEqual((outcome.status, outcome.attempts, calls), (200, 2, [1, 2]))

    def test_brokenOff(self) -> None:
        """A response that breaks off is a failed attempt, as always."""
        policy = onResponse(200, buffered=True, failOpen=False)(lambda *given: None)
        outcome = self.ask(policy, upstream=incompleteResponse(response(200, body=SECRET)))
        self.assertEqual((outcome.status, outcome.exchange.upstreamStatus), (502, 502))
        self.assertNotIn(SECRET[:5], outcome.body)


class RequestTests(FailureCase):
    """Request policies fail closed by default, and open if they say so."""

    def test_table(self) -> None:
        """Whatever the failure is, the client gets 500, unless C{failOpen} is set."""
        for failing, error in FAILING.items():
            for failOpen in (True, False, None):
                how = {} if failOpen is None else {"failOpen": failOpen}
                outcome = self.ask(onRequest(**how)(failing), policyTimeout=5.0)
                self.assertEqual([type(each) for each in outcome.errors], [error])
                if failOpen:
                    self.assertEqual((outcome.status, outcome.attempts), (200, 1))
                    self.assertIsNone(outcome.exchange.failure)
                else:
                    self.assertEqual((outcome.status, outcome.attempts), (500, 0))
                    self.assertIsInstance(outcome.exchange.failure, PolicyFailed)
                self.assertEqual(self.counters[0]["failed"], 1)

    def test_undone(self) -> None:
        """What a policy that fails open has changed is undone."""

        @onRequest(failOpen=True)
        def changes(exchange: Any) -> None:
            exchange.request.method = "PUT"
            exchange.request.target = "/y"
            exchange.request.headers["X-A"] = "b"
            exchange.request.body = b"mine"
            exchange.request.addFilter(bytes.upper)
            raise Trouble

        outcome = self.ask(changes)
        [got] = outcome.requests
        self.assertEqual((got.method, got.target, got.body), ("GET", "/x", b""))
        self.assertNotIn("X-A", got.headers)

    def test_unbuffered(self) -> None:
        """A policy that reads a body it did not ask for fails like any other."""
        for failOpen, status in ((False, 500), (True, 200)):
            policy = onRequest(failOpen=failOpen)(lambda exchange: exchange.request.body and None)
            with Runner(policy) as runner:
                sent = request(method="PUT", body=b"x")
                outcome = runner.run(sent, raiseErrors=False)
            self.assertEqual(outcome.status, status)
            self.assertEqual([type(each) for each in outcome.errors], [BodyNotBuffered])

    def test_both(self) -> None:
        """C{failOpen} of a class speaks of all that it does; each has its default without it."""

        class Both:
            statuses = range(100, 1000)
            buffered = False

            def __init__(self, fails: str) -> None:
                self.fails = fails

            def requestReceived(self, exchange: Any) -> None:
                if self.fails == "request":
                    raise Trouble

            def responseReceived(self, exchange: Any, response: Any) -> None:
                if self.fails == "response":
                    raise Trouble

        for failOpen, at, status in (
            (None, "request", 500),
            (None, "response", 200),
            (True, "request", 200),
            (True, "response", 200),
            (False, "request", 500),
            (False, "response", 502),
        ):
            policy = implementer(IRequestPolicy, IResponsePolicy)(
                type("Policy", (Both,), {} if failOpen is None else {"failOpen": failOpen})
            )(at)
            self.assertEqual(self.ask(policy).status, status, (failOpen, at))


class FilterTests(FailureCase):
    """Filters of responses."""

    def adds(self, bodyFilter: Any, **how: Any) -> Any:
        """A policy that adds this filter to all responses."""
        return onResponse()(lambda exchange, response: response.addFilter(bodyFilter, **how))

    def test_failClosed(self) -> None:
        """
        A filter that must not be skipped: 502 if its failure comes before the head is sent,
        else the response breaks off.  The failure is counted for its policy.
        """
        for how in ({}, {"keepsLength": True, "failOpen": False}):
            outcome = self.ask(self.adds(raises, **how), pieces=0)
            self.assertWithheld(outcome)
            for pieces in (5, None):
                outcome = self.ask(self.adds(raises, **how), pieces=pieces)
                self.assertEqual((outcome.status, outcome.whole), (200, False))
                self.assertNotIn(SECRET[:3], outcome.body)
                self.assertEqual(self.counters[0]["failed"], 1)

    def test_failOpen(self) -> None:
        """One that keeps the length is skipped by default, and its failure is counted too."""
        for pieces in (0, 5, None):
            outcome = self.ask(self.adds(raises, keepsLength=True), pieces=pieces)
            self.assertEqual((outcome.status, outcome.body), (200, SECRET))
            self.assertEqual(self.counters[0]["failed"], 1)

    def test_bodiless(self) -> None:
        """Filters are not called for responses that have no body: to HEAD, 204 and 304."""
        for status, method, called in (
            (200, "GET", True),
            (404, "GET", True),
            (200, "HEAD", False),
            (404, "HEAD", False),
            (204, "GET", False),
            (304, "GET", False),
        ):
            for keepsLength in (True, False):
                seen: list[bytes] = []

                def look(data: bytes, seen: list[bytes] = seen) -> bytes:
                    seen.append(data)
                    return data

                body = b"" if status in (204, 304) else SECRET
                policy = self.adds(look, keepsLength=keepsLength)
                outcome = self.ask(policy, upstream=response(status, body=body), method=method)
                self.assertEqual((outcome.status, bool(seen)), (status, called), (status, method))

    def test_madeByPolicies(self) -> None:
        """The same holds for filters of a response that a policy has made."""
        made = Response(200, body=SECRET)
        made.addFilter(raises)
        for policy in (onRequest(lambda exchange: made), onResponse()(lambda *given: made)):
            outcome = self.ask(policy)
            self.assertEqual((outcome.status, self.counters[0]["failed"]), (502, 1))
        self.assertEqual(len(made.filters or ()), 1)


class GivenUpTests(FailureCase):
    """A client that goes away is no failure of a policy."""

    def test_clientGone(self) -> None:
        """Nothing is counted when the wait of a policy that fails closed is cancelled."""
        cancelled: list[Any] = []
        policy: Any = onResponse(failOpen=False)(lambda *given: Deferred(cancelled.append))
        harness = Harness(policy)
        client = harness.connect()
        client.sends(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        harness.upstream().sends(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        client.closes()
        self.assertEqual((len(cancelled), harness.exchanges[0].status), (1, 499))
        self.assertEqual(harness.context.chain.snapshot()[0]["failed"], 0)
        self.assertEqual(self.flushLoggedErrors(CancelledError), [])
