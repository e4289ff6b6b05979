"""
Tests of L{sitio.policy.pending}.
"""

from __future__ import annotations

from asyncio import CancelledError as FutureCancelled
from functools import partial
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, TimeoutError, fail, succeed
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from sitio.policy.pending import bounded, then


class ThenTests(SynchronousTestCase):
    """What goes on with a result goes on as soon as that is there."""

    def test_now(self) -> None:
        """With a result that is there it goes on at once, and no Deferred is made."""
        self.assertEqual(then(1, int.__add__, 2), 3)

    def test_later(self) -> None:
        """With a Deferred it goes on when that fires; a failure passes."""
        waited: Deferred[int] = Deferred()
        result = then(waited, int.__add__, 2)
        self.assertNoResult(result)
        waited.callback(1)
        self.assertEqual(self.successResultOf(result), 3)
        self.failureResultOf(then(fail(ValueError()), int.__add__, 2), ValueError)


class BoundedTests(SynchronousTestCase):
    """The Deferred of a policy fires in time."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.failures: list[BaseException | None] = []

    def bounded(self, answer: Deferred[Any]) -> Deferred[Any]:
        """Bound this to 30 seconds."""
        return bounded(answer, 30, self.clock, lambda: self.failures.append(Failure().value))

    def tearDown(self) -> None:
        """No timer is left."""
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_fires(self) -> None:
        """A result that comes in time passes, a failure as well."""
        self.assertEqual(self.successResultOf(self.bounded(succeed(1))), 1)
        self.failureResultOf(self.bounded(fail(SystemExit())), SystemExit)
        answer: Deferred[int] = Deferred()
        result = self.bounded(answer)
        self.clock.advance(29)
        self.assertNoResult(result)
        answer.callback(1)
        self.assertEqual(self.successResultOf(result), 1)

    def test_late(self) -> None:
        """After the time it is cancelled, and fails with C{TimeoutError}."""
        cancelled: list[Any] = []
        result = self.bounded(Deferred(cancelled.append))
        self.clock.advance(30)
        self.assertEqual(len(cancelled), 1)
        error = self.failureResultOf(result, TimeoutError).value
        self.assertEqual(str(error), "it took longer than 30 s")

    def test_answersWhenCancelled(self) -> None:
        """A result that a policy has when it is cancelled passes."""
        result = self.bounded(Deferred(lambda answer: answer.callback("short")))
        self.clock.advance(30)
        self.assertEqual(self.successResultOf(result), "short")

    def test_givenUp(self) -> None:
        """
        What is given up fails as cancelled, whatever the policy has as its result then.  Only
        an error other than that is reported.
        """
        for value, reported in (
            ("short", []),
            (None, []),
            (Failure(CancelledError()), []),
            (Failure(FutureCancelled()), []),
            (Failure(ValueError()), [ValueError]),
            (Failure(SystemExit()), [SystemExit]),
            (Failure(GeneratorExit()), [GeneratorExit]),
        ):
            result = self.bounded(Deferred(partial(Deferred.callback, result=value)))
            result.cancel()
            self.failureResultOf(result, CancelledError)
            self.assertEqual([type(each) for each in self.failures], reported, value)
            self.failures.clear()

    def test_stubborn(self) -> None:
        """It fails in time even if the policy waits on; a later result is dropped."""
        later: Deferred[int] = Deferred()

        async def run() -> int:
            try:
                await Deferred()
            except CancelledError:
                return await later
            return 0

        result = self.bounded(Deferred.fromCoroutine(run()))
        self.clock.advance(30)
        self.failureResultOf(result, TimeoutError)
        later.errback(ValueError())
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_cancellerRaises(self) -> None:
        """A canceller that raises is reported, and the Deferred fires all the same."""

        def refuse(answer: object) -> None:
            raise SystemExit

        late, given = self.bounded(Deferred(refuse)), self.bounded(Deferred(refuse))
        given.cancel()
        self.failureResultOf(given, CancelledError)
        self.clock.advance(30)
        self.failureResultOf(late, TimeoutError)
        self.assertEqual([type(each) for each in self.failures], [SystemExit, SystemExit])
