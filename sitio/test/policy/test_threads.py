"""
Tests of L{sitio.policy.threads}.
"""

from __future__ import annotations

import sys
from contextvars import ContextVar
from threading import Event, Semaphore, current_thread
from time import monotonic
from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from sitio.policy.coroutines import started
from sitio.policy.threads import PolicyThreads, ThreadsBusy, _deferred, _threads, inThread
from sitio.testing.loop import ClockLoop

#: Seconds for each wait: much more than it takes.
LIMIT_SECONDS = 30.0

colour = ContextVar("colour", default="none")


class ThreadsTests(SynchronousTestCase):
    """Threads and waiting calls are bounded."""

    def setUp(self) -> None:
        self.threads = PolicyThreads(threads=2, waiting=3)
        self.go = Event()
        self.began = Semaphore(0)
        self.calls: list[Any] = []
        self.addCleanup(self.threads.shutdown)
        self.addCleanup(self.go.set)

    def fill(self) -> list[Any]:
        """Submit calls that run until C{self.go}, as many as may."""
        calls = [self.threads.submit(self.hold) for _ in range(5)]
        for _ in range(2):
            self.assertTrue(self.began.acquire(timeout=LIMIT_SECONDS))
        return calls

    def hold(self) -> bool:
        """Run until C{self.go}."""
        self.began.release()
        return self.go.wait(LIMIT_SECONDS)

    def test_result(self) -> None:
        """Arguments arrive, a result or an exception comes back, in the caller's context."""

        def call(a: int, *, b: int) -> tuple[int, str, bool]:
            return a - b, colour.get(), current_thread().daemon

        token = colour.set("red")
        done = self.threads.submit(call, 3, b=1)
        colour.reset(token)
        self.assertEqual(done.result(LIMIT_SECONDS), (2, "red", True))
        failed = self.threads.submit(sys.exit, 3)
        self.assertIsInstance(failed.exception(LIMIT_SECONDS), SystemExit)
        # The thread has survived.
        self.assertEqual(self.threads.submit(len, "abc").result(LIMIT_SECONDS), 3)

    def test_few(self) -> None:
        """A thread that is free takes the next call."""
        seen = set()
        for _ in range(20):
            seen.add(self.threads.submit(current_thread).result(LIMIT_SECONDS))
        self.assertLessEqual(len(seen), 2)

    def test_full(self) -> None:
        """A call beyond the limits fails at once, with one sentence; others are served."""
        calls = self.fill()
        error = self.assertRaises(ThreadsBusy, self.threads.submit, len, "abc")
        self.assertIn("2 calls run and 3 wait", str(error))
        self.go.set()
        self.assertEqual([each.result(LIMIT_SECONDS) for each in calls], [True] * 5)
        self.assertEqual(self.threads.submit(len, "abc").result(LIMIT_SECONDS), 3)

    def test_cancelled(self) -> None:
        """A call that waits and is cancelled is never made, and leaves its place."""
        calls = self.fill()
        self.assertTrue(calls[4].cancel())
        last = self.threads.submit(self.calls.append, "last")
        self.assertTrue(last.cancel())
        later = self.threads.submit(self.calls.append, "later")
        self.go.set()
        later.result(LIMIT_SECONDS)
        self.assertEqual(self.calls, ["later"])

    def test_stop(self) -> None:
        """A stop does not wait for calls that run, drops those that wait, and ends threads."""
        calls = self.fill()
        began = monotonic()
        self.threads.shutdown()
        self.assertLess(monotonic() - began, LIMIT_SECONDS / 2)
        self.assertEqual([each.cancelled() for each in calls[2:]], [True] * 3)
        error = self.assertRaises(RuntimeError, self.threads.submit, len, "abc")
        self.assertIn("sitio stops", str(error))
        self.go.set()
        for each in calls[:2]:
            each.result(LIMIT_SECONDS)


class DeferredTests(SynchronousTestCase):
    """On a reactor without asyncio the result is a Deferred."""

    def setUp(self) -> None:
        self.threads = PolicyThreads(threads=1, waiting=3)
        self.addCleanup(self.threads.shutdown)
        self.arrived = Event()
        self.passed: list[Any] = []
        self.reactor = SimpleNamespace(callFromThread=self.callFromThread)

    def callFromThread(self, call: Any) -> None:
        """Keep a call for the test."""
        self.passed.append(call)
        self.arrived.set()

    def arrive(self) -> None:
        """Make the call that comes from the thread."""
        self.assertTrue(self.arrived.wait(LIMIT_SECONDS))
        self.arrived.clear()
        self.passed.pop()()

    def test_result(self) -> None:
        """It fires in the reactor's thread, with a result or a failure."""
        result = _deferred(self.threads.submit(len, "abc"), self.reactor)
        self.assertNoResult(result)
        self.arrive()
        self.assertEqual(self.successResultOf(result), 3)
        result = _deferred(self.threads.submit(int, "abc"), self.reactor)
        self.arrive()
        self.failureResultOf(result, ValueError)

    def test_stopIteration(self) -> None:
        """A C{StopIteration} is an error, and not the end of the coroutine that awaits it."""
        result = _deferred(self.threads.submit(next, iter(())), self.reactor)
        self.arrive()
        self.failureResultOf(result, RuntimeError)

    def test_cancelled(self) -> None:
        """After it is cancelled a result is dropped."""
        go, began = Event(), Event()

        def hold() -> None:
            began.set()
            go.wait(LIMIT_SECONDS)

        result = _deferred(self.threads.submit(hold), self.reactor)
        self.assertTrue(began.wait(LIMIT_SECONDS))
        waits = _deferred(self.threads.submit(self.passed.append, "called"), self.reactor)
        for each in (waits, result):
            each.cancel()
            self.failureResultOf(each, CancelledError)
        go.set()
        self.threads.submit(len, "").result(LIMIT_SECONDS)
        for call in self.passed:
            call()


class KitTests(SynchronousTestCase):
    """In the test kit the call is made at once."""

    def test_atOnce(self) -> None:
        """The call runs in the thread of the test, with its result and its exception."""
        loop = ClockLoop(Clock())

        async def run() -> Any:
            self.assertEqual(await inThread(int, "11", base=2), 3)
            with self.assertRaises(ValueError):
                await inThread(int, "x")
            return await inThread(current_thread)

        with loop.running():
            self.assertIs(started(run()), current_thread())

    def test_stopIteration(self) -> None:
        """A C{StopIteration} is an error, as in a thread."""
        loop = ClockLoop(Clock())
        with loop.running(), self.assertRaisesRegex(RuntimeError, "raised StopIteration"):
            started(inThread(next, iter(())))

    def test_shared(self) -> None:
        """The process has one pool, without a thread until it is needed."""
        self.assertIs(_threads(), _threads())
