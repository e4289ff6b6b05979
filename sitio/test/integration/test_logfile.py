"""
Tests of the threads of L{sitio.telemetry.logfile}, on the reactor of the tests.
"""

from __future__ import annotations

from threading import Event

from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from sitio.telemetry.logfile import callInThread
from sitio.test.helpers.loopback import LIMIT_SECONDS, reactor


class ThreadTests(TestCase):
    """Threads for what takes its time."""

    timeout = LIMIT_SECONDS

    async def test_result(self) -> None:
        """What is called gets its arguments, and gives its result to the reactor's thread."""
        self.assertEqual(await callInThread(reactor, lambda a, b: a + b, 1, 2), 3)

    async def test_failure(self) -> None:
        """What it raises comes as a failure."""
        with self.assertRaises(ZeroDivisionError):
            await callInThread(reactor, lambda: 1 / 0)

    async def test_goesOn(self) -> None:
        """The reactor goes on meanwhile."""
        go = Event()
        done = callInThread(reactor, go.wait, LIMIT_SECONDS)
        turned: Deferred[None] = Deferred()
        reactor.callLater(0, turned.callback, None)
        await turned
        self.assertFalse(done.called)
        go.set()
        self.assertTrue(await done)
