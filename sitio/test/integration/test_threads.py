"""
Tests of the threads of L{sitio.net.threads}, on the reactor of the tests.
"""

from __future__ import annotations

from threading import Event
from time import monotonic
from types import SimpleNamespace

from twisted.internet.defer import Deferred
from twisted.python.threadpool import ThreadPool
from twisted.trial.unittest import SynchronousTestCase, TestCase

from sitio.net.threads import (
    STOP_SECONDS,
    callInThread,
    limitThreadPool,
)
from sitio.test.helpers.loopback import LIMIT_SECONDS, reactor


class ThreadTests(TestCase):
    """Slow calls run in a thread."""

    timeout = LIMIT_SECONDS

    async def test_result(self) -> None:
        """The function gets its arguments, and its result comes back to the reactor's thread."""
        self.assertEqual(await callInThread(reactor, lambda a, b: a + b, 1, 2), 3)

    async def test_failure(self) -> None:
        """An exception of the function is a failure."""
        with self.assertRaises(ZeroDivisionError):
            await callInThread(reactor, lambda: 1 / 0)

    async def test_goesOn(self) -> None:
        """The reactor keeps running while the function runs."""
        go = Event()
        done = callInThread(reactor, go.wait, LIMIT_SECONDS)
        turned: Deferred[None] = Deferred()
        reactor.callLater(0, turned.callback, None)
        await turned
        self.assertFalse(done.called)
        go.set()
        self.assertTrue(await done)


class PoolTests(SynchronousTestCase):
    """The pool of a reactor, when it stops."""

    def stopped(self, seconds: float) -> float:
        """Stop a pool with calls that take so long; returns how many seconds that takes."""
        pool = ThreadPool(0, 2)
        limitThreadPool(SimpleNamespace(getThreadPool=lambda: pool))
        pool.start()
        self.done: list[int] = []
        go = Event()
        self.addCleanup(go.set)

        def call(number: int) -> None:
            go.wait(seconds)
            self.done.append(number)

        for number in range(4):
            pool.callInThread(call, number)
        since = monotonic()
        pool.stop()
        return monotonic() - since

    def test_short(self) -> None:
        """Calls that end soon are made, those included that wait for a thread."""
        self.assertLess(self.stopped(0.1), STOP_SECONDS)
        self.assertEqual(sorted(self.done), [0, 1, 2, 3])

    def test_long(self) -> None:
        """Others are not waited for, and their threads don't keep the process from ending."""
        self.assertLess(self.stopped(60), STOP_SECONDS + 1)
        self.assertEqual(self.done, [])
