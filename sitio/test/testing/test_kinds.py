"""
Tests of L{sitio.testing.Runner} with each kind of policy: what each can do, it does in the kit.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from attrs import define
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from sitio import Response, inThread, onFinish, onRequest, onResponse, onSend
from sitio.policy.kinds import Duration
from sitio.settings import Settings
from sitio.testing import Runner, connectionRefused, noResponse, request, response, runPolicy


@onSend
def stamp(exchange: Any, response: Any) -> None:
    response.headers["X-Id"] = exchange.id


class Sends:
    """A send policy without a decorator, and without C{@implementer}."""

    def responseSending(self, exchange: Any, response: Any) -> None:
        response.headers["X-Sent"] = "yes"


@onRequest(buffered=True)
def whole(exchange: Any) -> Response:
    return Response(200, body=exchange.request.body)


@define
class Wait:
    """Its options are declared, and it waits in asyncio."""

    time: Duration = 1.0

    async def requestReceived(self, exchange: Any) -> None:
        await asyncio.sleep(self.time)


class ArgumentsTests(SynchronousTestCase):
    """L{runPolicy} says what is wrong with its arguments."""

    def test_wrong(self) -> None:
        """What is no request, no response or no policy raises one sentence that shows what is."""
        run: Any = runPolicy
        for call, kind, sentence in (
            (lambda: run(stamp, response(404)), TypeError, 'write request("/x") before'),
            (lambda: run(stamp, "/x"), TypeError, 'write request("/x") before'),
            (lambda: run(stamp, request(), 404), TypeError, "answers with response(...)"),
            (lambda: run(stamp, request(), request()), TypeError, "answers with response(...)"),
            (lambda: run(stamp, request(), piece=3), TypeError, "piece"),
            (lambda: run(stamp, request(), pieces=-1), ValueError, "a number of bytes, or 0"),
            (lambda: run(Sends, request()), ValueError, "an object of it, Sends(...)"),
            (lambda: run(len, request()), ValueError, "is not a policy"),
        ):
            self.assertIn(sentence, str(self.assertRaises(kind, call)))


class KindsTests(SynchronousTestCase):
    """L{runPolicy} accepts all kinds."""

    def test_send(self) -> None:
        """Send policies see each response, whoever made it."""
        policies = ["deny:DELETE:/*", stamp, Sends()]
        asked = request(headers={"X-Request-Id": "abc"})
        denied = request(method="DELETE", headers={"X-Request-Id": "abc"})
        for each, answer, status in (
            (asked, response(200), 200),
            (asked, connectionRefused(), 502),
            (denied, response(200), 403),
        ):
            outcome = runPolicy(policies, each, answer)
            outcome.assertResponse(status, headers={"X-Id": "abc", "X-Sent": "yes"})

    def test_sendRaises(self) -> None:
        """What a send policy raises is raised in the test."""

        @onSend
        def broken(exchange: Any, response: Any) -> None:
            response.headers["X-A"] = "1"
            raise KeyError("x")

        self.assertRaises(KeyError, runPolicy, broken, request())
        outcome = runPolicy(broken, request(), raiseErrors=False)
        outcome.assertResponse(200, headers={"X-A": None})
        self.assertEqual(len(outcome.errors), 1)

    def test_buffered(self) -> None:
        """A request's body is whole, in however many pieces it arrives; its limit holds."""
        asked = request("/", "POST", body=b"hello world")
        for pieces in (None, 0, 1, 4, 100):
            runPolicy(whole, asked, pieces=pieces).assertResponse(200, text="hello world")
        small = Settings(requestBufferLimit=10)
        runPolicy(whole, asked, settings=small).assertResponse(413)

    def test_failOpen(self) -> None:
        """Each kind that fails open or closed does so, if errors are not raised."""

        def broken(*arguments: Any) -> None:
            raise KeyError("x")

        for policy, status in (
            (onRequest(broken), 500),
            (onRequest(failOpen=True)(broken), 200),
            (onResponse(broken), 200),
            (onResponse(failOpen=False)(broken), 502),
            (onResponse(buffered=True, failOpen=False)(broken), 502),
        ):
            outcome = runPolicy(policy, request(), response(text="a"), raiseErrors=False)
            self.assertEqual((outcome.status, len(outcome.errors)), (status, 1))
            self.assertRaises(KeyError, runPolicy, policy, request(), response(text="a"))

    def test_asyncio(self) -> None:
        """A coroutine awaits asyncio, Deferreds and threads; the time is the clock's."""

        @onRequest
        async def all(exchange: Any) -> Response:
            async with asyncio.timeout(60):
                one, other = await asyncio.gather(*(asyncio.sleep(20, each) for each in "ab"))
            fired: Deferred[str] = Deferred()
            fired.callback("c")
            text = one + other + await fired + await inThread(str.upper, "d")
            return Response(200, text=text)

        outcome = runPolicy(all, request())
        outcome.assertResponse(200, text="abcD")
        self.assertEqual(outcome.exchange.duration, 20)

    def test_thisExchange(self) -> None:
        """Timeout, masking and labels of one exchange hold, and a test can read them."""

        @onRequest
        def ask(exchange: Any) -> None:
            exchange.timeout = 7
            exchange.masking = False
            exchange.labels["kind"] = "report"

        with Runner([ask, "last-good:max-age=60"]) as runner:
            runner.run(request(), response(text="good")).assertResponse(200)
            outcome = runner.run(request(), noResponse())
        outcome.assertResponse(504)
        exchange = outcome.exchange
        self.assertEqual((exchange.duration, exchange.masking), (7, False))
        self.assertEqual(exchange.labels["kind"], "report")

    def test_declared(self) -> None:
        """A file and its options are a description, also with a unit; so is an object."""
        path = Path(self.mktemp() + ".py")
        path.write_text(f"from {__name__} import Wait\nmakePolicy = Wait\n", "utf-8")
        for policy, seconds in ((f"file:{path}:time=250ms", 0.25), (Wait(3.0), 3)):
            self.assertEqual(runPolicy(policy, request()).exchange.duration, seconds)
        error = self.assertRaises(ValueError, Runner, f"file:{path}:time=soon")
        self.assertIn("a duration", str(error))

    def test_leaves(self) -> None:
        """A client that leaves cancels what the policy waits for."""
        ended: list[Any] = []

        @onRequest
        async def slow(exchange: Any) -> None:
            try:
                await asyncio.sleep(10)
            except asyncio.CancelledError:
                ended.append("cancelled")
                raise

        @onFinish
        def finish(exchange: Any) -> None:
            ended.append((exchange.status, exchange.duration))

        outcome = runPolicy([slow, finish], request(), leavesAfter=2)
        self.assertEqual((outcome.status, outcome.errors, outcome.attempts), (None, [], 0))
        self.assertEqual(sorted(ended, key=str), [(499, 2), "cancelled"])

    def test_stays(self) -> None:
        """A client that would leave later than the end gets all, and nothing is left behind."""
        with Runner(Wait(1.0)) as runner:
            outcome = runner.run(request(), response(text="a"), leavesAfter=2)
            outcome.assertResponse(200, text="a")
            runner.harness.assertQuiet()

    def test_advance(self) -> None:
        """The clock is moved by the test, for policies that remember."""
        with Runner("last-good:max-age=60") as runner:
            runner.run(request(), response(text="good"))
            runner.advance(59)
            runner.run(request(), connectionRefused()).assertResponse(200, text="good")
            runner.advance(2)
            runner.run(request(), connectionRefused()).assertResponse(502)
