"""
Tests of L{sitio.net.deadlines}.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from sitio.net.deadlines import MAX_LOOKS, NEVER, PERIOD_SECONDS, Deadlines


class Waiter:
    """Notes when its deadline was called, then does what it was told to."""

    def __init__(self, clock: Clock, deadline: float = NEVER) -> None:
        self.deadline = deadline
        self.called: list[float] = []
        self.then: Callable[[], None] = self.wait
        self._clock = clock

    def wait(self) -> None:
        """Wait no more."""
        self.deadline = NEVER

    def deadlinePassed(self) -> None:
        """Note it."""
        self.called.append(self._clock.seconds())
        self.then()


class SweepTests(SynchronousTestCase):
    """Deadlines are kept late by a period at most, and never early."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.sweep = Deadlines(self.clock)

    def watched(self, deadline: float = NEVER) -> Waiter:
        """A waiter that is watched."""
        waiter = Waiter(self.clock, deadline)
        self.sweep.watch(waiter)
        return waiter

    def advance(self, seconds: float) -> None:
        """Let the time pass in steps that are finer than a period."""
        step = PERIOD_SECONDS / 8
        self.clock.pump([step] * round(seconds / step))

    def test_lateByOnePeriodAtMost(self) -> None:
        """Whenever a deadline lies, it is called at it or up to a period later, once."""
        waiters = [self.watched(1 + PERIOD_SECONDS * part / 10) for part in range(20)]
        due = [each.deadline for each in waiters]
        self.advance(3)
        for waiter, deadline in zip(waiters, due):
            self.assertEqual(len(waiter.called), 1)
            self.assertTrue(
                deadline <= waiter.called[0] <= deadline + PERIOD_SECONDS, waiter.called
            )

    def test_onTheDot(self) -> None:
        """A deadline that falls on a sweep is kept by it."""
        waiter = self.watched(PERIOD_SECONDS * 2)
        self.advance(PERIOD_SECONDS * 2)
        self.assertEqual(waiter.called, [PERIOD_SECONDS * 2])

    def test_period(self) -> None:
        """The period may be another one."""
        self.sweep = Deadlines(self.clock, period=2.0)
        waiter = self.watched(0.5)
        self.clock.advance(1.9)
        self.assertEqual(waiter.called, [])
        self.clock.advance(0.1)
        self.assertEqual(waiter.called, [2.0])

    def test_many(self) -> None:
        """In one turn of the reactor it looks at a bounded number; the others come next."""
        waiters = [self.watched(0) for _ in range(2 * MAX_LOOKS + 1)]
        called: list[int] = []
        later = self.clock.callLater

        def callLater(delay: float, function: Callable[[], object]) -> IDelayedCall:
            """Note the calls so far, each time that something is left to another turn."""
            if delay == 0:
                called.append(sum(len(each.called) for each in waiters))
            return later(delay, function)

        self.patch(self.clock, "callLater", callLater)
        self.clock.advance(PERIOD_SECONDS)
        self.assertEqual(called, [0, MAX_LOOKS])
        self.assertEqual({len(each.called) for each in waiters}, {1})

    def test_forgottenWhileManyAreLeft(self) -> None:
        """When nothing is watched any more, the turns end."""
        waiters = [self.watched(0) for _ in range(2 * MAX_LOOKS)]

        def forgetAll() -> None:
            for each in waiters:
                self.sweep.forget(each)

        for each in waiters:
            each.then = forgetAll
        self.clock.advance(PERIOD_SECONDS)
        self.assertEqual(sum(len(each.called) for each in waiters), 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_never(self) -> None:
        """A thing without a deadline is left alone."""
        waiter = self.watched()
        self.advance(100)
        self.assertEqual(waiter.called, [])

    def test_movedDeadline(self) -> None:
        """A deadline is what it is when the sweep comes, not what it was when it was set."""
        waiter = self.watched(1)
        waiter.deadline = 2
        self.advance(1.5)
        self.assertEqual(waiter.called, [])
        self.advance(0.5 + PERIOD_SECONDS)
        self.assertEqual(waiter.called, [2])

    def test_calledAgain(self) -> None:
        """A thing that neither sets a deadline nor is forgotten is called each time."""
        waiter = self.watched(0)
        waiter.then = lambda: None
        self.advance(3 * PERIOD_SECONDS)
        self.assertEqual(waiter.called, [PERIOD_SECONDS, 2 * PERIOD_SECONDS, 3 * PERIOD_SECONDS])

    def test_runsWhileWatching(self) -> None:
        """There is one delayed call while something is watched, however many, else none."""
        self.assertEqual(self.clock.getDelayedCalls(), [])
        first, second = self.watched(), self.watched()
        self.sweep.watch(first)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.sweep.forget(first)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.sweep.forget(second)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_startsAgain(self) -> None:
        """What is watched after all was forgotten is looked at."""
        self.sweep.forget(self.watched())
        waiter = self.watched(0)
        self.advance(PERIOD_SECONDS)
        self.assertEqual(waiter.called, [PERIOD_SECONDS])

    def test_forgotten(self) -> None:
        """A thing that was forgotten is not called."""
        waiter = self.watched(1)
        self.watched()
        self.sweep.forget(waiter)
        self.advance(2)
        self.assertEqual(waiter.called, [])

    def test_forgetTwice(self) -> None:
        """Forgetting what isn't watched is no error, with others watched or none."""
        waiter = self.watched()
        self.sweep.forget(Waiter(self.clock))
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.sweep.forget(waiter)
        self.sweep.forget(waiter)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_lastForgetsItself(self) -> None:
        """The last thing may go when it is called; nothing is left on the clock."""
        waiter = self.watched(0)
        waiter.then = lambda: self.sweep.forget(waiter)
        self.advance(2 * PERIOD_SECONDS)
        self.assertEqual(waiter.called, [PERIOD_SECONDS])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_allForgetEachOther(self) -> None:
        """If the first called object forgets all others, these are not called."""
        waiters = [self.watched(0) for _ in range(5)]

        def forgetAll() -> None:
            for each in waiters:
                self.sweep.forget(each)

        for each in waiters:
            each.then = forgetAll
        self.advance(2 * PERIOD_SECONDS)
        self.assertEqual(sum(len(each.called) for each in waiters), 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_deadlineMovedDuringSweep(self) -> None:
        """A deadline that another late thing has moved is not kept early."""
        waiters = [self.watched(0) for _ in range(5)]

        def moveAll() -> None:
            for each in waiters:
                each.deadline = 10

        for each in waiters:
            each.then = moveAll
        self.advance(1)
        self.assertEqual(sum(len(each.called) for each in waiters), 1)

    def test_addedDuringSweep(self) -> None:
        """What begins to be watched during a sweep is looked at by the next one."""
        waiter, late = self.watched(0), Waiter(self.clock, 0)

        def replace() -> None:
            self.sweep.forget(waiter)
            self.sweep.watch(late)

        waiter.then = replace
        self.advance(PERIOD_SECONDS)
        self.assertEqual((waiter.called, late.called), ([PERIOD_SECONDS], []))
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.advance(PERIOD_SECONDS)
        self.assertEqual(late.called, [2 * PERIOD_SECONDS])

    def test_raised(self) -> None:
        """What one thing raises doesn't end the sweeps: the others are called by the next."""
        waiters = [self.watched(0) for _ in range(3)]

        def fail() -> None:
            for each in waiters:
                each.then = each.wait
            raise ZeroDivisionError

        for each in waiters:
            each.then = fail
        self.assertRaises(ZeroDivisionError, self.clock.advance, PERIOD_SECONDS)
        self.advance(PERIOD_SECONDS)
        self.assertEqual(min(len(each.called) for each in waiters), 1)
