"""
Tests of the threads of L{sitio.net.threads}, on the reactor of the tests.
"""

from __future__ import annotations

from threading import Event

from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from sitio.net.threads import callInThread
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
