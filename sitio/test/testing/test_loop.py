"""
Tests of L{sitio.testing.loop}, and of the test kit with policies that await asyncio.
"""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from threading import current_thread
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from sitio import Response, Retry, inThread, onRequest, onResponse
from sitio.policy.coroutines import started
from sitio.settings import Settings
from sitio.testing import Harness, Runner, request, response, runPolicy
from sitio.testing.loop import ClockLoop

try:
    import httpx
except ImportError:
    httpx = None  # type: ignore[assignment]

colour = ContextVar("colour", default="none")


class LoopTests(SynchronousTestCase):
    """The loop has all that needs no socket, and its time is the clock's."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.loop = ClockLoop(self.clock)
        self.calls: list[Any] = []

    def test_calls(self) -> None:
        """Calls and timers are made in order, at their times, in their contexts."""

        def call(name: str) -> None:
            self.calls.append((name, self.loop.time(), colour.get()))

        token = colour.set("red")
        self.loop.call_later(2, call, "later")
        colour.reset(token)
        self.loop.call_at(1, call, "at")
        self.loop.call_soon(call, "soon")
        self.loop.call_soon_threadsafe(call, "threadsafe")
        self.loop.call_soon(call, "never").cancel()
        twins = [self.loop.call_at(1, call, "twin") for _ in range(2)]
        twins[0].cancel()
        for _ in range(3):
            self.clock.advance(1)
        self.assertEqual(
            self.calls,
            [
                ("soon", 1, "none"),
                ("threadsafe", 1, "none"),
                ("at", 1, "none"),
                ("twin", 1, "none"),
                ("later", 2, "red"),
            ],
        )
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_cancelledTimer(self) -> None:
        """A timer that is cancelled leaves nothing on the clock."""
        self.loop.call_later(5, self.fail).cancel()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_running(self) -> None:
        """It is the running loop while it runs, also within another loop."""

        async def inside() -> None:
            outer = asyncio.get_running_loop()
            task = asyncio.current_task()
            with self.loop.running(), self.loop.running():
                self.assertIs(asyncio.get_running_loop(), self.loop)
                self.assertIs(asyncio.current_task(), None)
                self.assertTrue(self.loop.is_running())
            self.assertIs(asyncio.get_running_loop(), outer)
            self.assertIs(asyncio.current_task(), task)

        asyncio.run(inside())
        self.assertFalse(self.loop.is_running())

    def test_error(self) -> None:
        """The exception of a call is logged, and the next call is made."""
        self.loop.call_soon(lambda: 1 / 0)
        self.loop.call_soon(self.calls.append, 1)
        self.clock.advance(0)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(self.calls, [1])

    def test_noSockets(self) -> None:
        """What needs a socket or a process raises, and says what to do instead."""
        for call in (self.loop.create_connection, self.loop.getaddrinfo, self.loop.run_forever):
            error = self.assertRaises(NotImplementedError, call)
            self.assertIn("the test kit has no sockets", str(error))


class KitTests(SynchronousTestCase):
    """The kit runs policies that await asyncio, with its clock."""

    def test_sleep(self) -> None:
        """C{asyncio.sleep} takes time on the clock only."""

        @onRequest
        async def slow(exchange: Any) -> Response:
            await asyncio.sleep(20)
            first, second = await asyncio.gather(asyncio.sleep(3, "a"), asyncio.sleep(4, "b"))
            return Response(200, text=first + second)

        with Runner(slow) as runner:
            outcome = runner.run(request())
            self.assertEqual(outcome.text, "ab")
            self.assertEqual(runner.clock.seconds(), 24)
            runner.harness.assertQuiet()

    def test_eachKind(self) -> None:
        """Response policies too, and one after another."""

        @onRequest
        async def first(exchange: Any) -> None:
            async with asyncio.timeout(5):
                await asyncio.sleep(1)
            exchange.request.headers["X-Task"] = str(asyncio.current_task() is not None)

        @onResponse(503)
        async def second(exchange: Any, response: Response) -> Retry | None:
            await asyncio.sleep(1)
            return Retry() if exchange.attempts < 2 else None

        @onResponse()
        async def third(exchange: Any, response: Response) -> None:
            response.headers["X-Thread"] = await inThread(lambda: current_thread().name)

        outcome = runPolicy([first, second, third], request(), response(503), response(200))
        self.assertEqual((outcome.status, outcome.attempts), (200, 2))
        self.assertEqual(outcome.headers["X-Thread"], current_thread().name)
        self.assertEqual(outcome.requests[0].headers["X-Task"], "True")

    def test_future(self) -> None:
        """A policy may be a function that returns a task."""

        @onRequest
        def later(exchange: Any) -> Any:
            return asyncio.ensure_future(asyncio.sleep(1, Response(200, text="task")))

        self.assertEqual(runPolicy(later, request()).text, "task")

    def test_timeout(self) -> None:
        """The policy timeout cancels a coroutine, and the request fails closed."""
        trace: list[Any] = []

        @onRequest
        async def stuck(exchange: Any) -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                trace.append(asyncio.get_running_loop().time())
                raise

        settings = Settings(policyTimeout=5)
        outcome = runPolicy(stuck, request(), settings=settings, raiseErrors=False)
        self.assertEqual((outcome.status, trace), (500, [5.0]))

    def test_withinAnotherLoop(self) -> None:
        """
        The clock's loop runs coroutines also while another one runs that has run some, such as
        that of pytest-asyncio; after it that one does.
        """

        @onRequest
        async def slow(exchange: Any) -> None:
            loops.append(asyncio.get_running_loop())
            await asyncio.sleep(1)

        def test() -> None:
            outer = asyncio.get_running_loop()
            for _ in range(2):
                waited = started(slow(None))
                self.assertEqual(runPolicy(slow, request(), response()).exchange.duration, 1)
                waited.addErrback(lambda failure: failure.trap(CancelledError))
                waited.cancel()
                self.assertEqual([each is outer for each in loops], [True, False])
                loops.clear()

        loops: list[Any] = []
        loop = asyncio.new_event_loop()
        self.addCleanup(loop.close)

        async def run() -> None:
            test()

        loop.run_until_complete(run())

    def test_clientGone(self) -> None:
        """When the client goes away the coroutine is cancelled, whatever it waits for."""
        trace: list[Any] = []

        def waiting(wait: Any) -> Any:
            @onRequest
            async def stuck(exchange: Any) -> None:
                try:
                    await wait()
                except asyncio.CancelledError:
                    await asyncio.sleep(1)
                    trace.append(asyncio.get_running_loop().time())
                    raise

            return stuck

        for wait in (Deferred, asyncio.Event().wait, lambda: asyncio.sleep(50)):
            harness = Harness([("stuck", waiting(wait))])
            client = harness.connect()
            client.sends(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            harness.settle()
            client.resets()
            harness.advance(1)
            self.assertEqual(trace.pop(), 1)
            self.assertEqual(harness.errors, [])
            harness.assertQuiet()

    def test_httpx(self) -> None:
        """A policy with httpx is tested with a transport that answers in memory."""
        if httpx is None:
            self.skipTest("httpx is not installed")
        asked: list[str] = []

        def answer(request: Any) -> Any:
            asked.append(str(request.url))
            return httpx.Response(403)

        def guarded(**how: Any) -> Any:
            @onRequest
            async def guard(exchange: Any) -> Response | None:
                async with httpx.AsyncClient(**how) as client:
                    got = await client.get("http://auth/allowed")
                return Response(403) if got.status_code == 403 else None

            return guard

        outcome = runPolicy(guarded(transport=httpx.MockTransport(answer)), request())
        self.assertEqual((outcome.status, asked), (403, ["http://auth/allowed"]))
        error = self.assertRaises(NotImplementedError, runPolicy, guarded(), request())
        self.assertIn("httpx.MockTransport", str(error))

    def test_inLoop(self) -> None:
        """The kit works in a test that runs in a loop of its own."""

        @onRequest
        async def slow(exchange: Any) -> Response:
            await asyncio.sleep(1)
            return Response(200, text="slow")

        async def test() -> str:
            return runPolicy(slow, request()).text

        self.assertEqual(asyncio.run(test()), "slow")
