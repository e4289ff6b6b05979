"""
Tests of L{sitio.net.periodic}.
"""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase

from sitio.net.periodic import Periodic


class PeriodicTests(SynchronousTestCase):
    """A function is called at a fixed interval while the service runs."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.turns: list[float] = []
        self.events: list[Any] = []
        self.result: Any = None

    def turn(self) -> Any:
        """One turn: note its time, and do as C{result} says."""
        self.turns.append(self.clock.seconds())
        if isinstance(self.result, Exception):
            raise self.result
        return self.result

    def periodic(self, now: bool = False, interval: float = 2.0) -> Periodic:
        """One that was started."""
        log = Logger(observer=cast(Any, self.events.append))
        service = Periodic(
            self.clock, interval, self.turn, log=log, whenFails="The turn failed", now=now
        )
        service.startService()
        return service

    def test_interval(self) -> None:
        """The first turn comes after one interval, and then one each interval."""
        self.periodic()
        self.clock.pump([1] * 7)
        self.assertEqual(self.turns, [2, 4, 6])

    def test_now(self) -> None:
        """With C{now}, the first turn happens at the start."""
        self.periodic(now=True)
        self.clock.pump([1] * 4)
        self.assertEqual(self.turns, [0, 2, 4])

    def test_badInterval(self) -> None:
        """An interval that is no number of seconds above 0 is refused at the start."""
        for interval in (0, -1, float("inf"), float("nan")):
            error = self.assertRaises(ValueError, self.periodic, interval=interval)
            self.assertIn("more than 0 s is needed", str(error))

    def test_stop(self) -> None:
        """After the stop there is no turn, and nothing is left on the clock."""
        service = self.periodic()
        self.clock.advance(2)
        self.successResultOf(service.stopService())
        self.clock.pump([1] * 5)
        self.assertEqual(self.turns, [2])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stopBeforeStart(self) -> None:
        """A service that was not started can be stopped."""
        service = Periodic(self.clock, 1, self.turn, log=Logger(), whenFails="")
        self.successResultOf(service.stopService())

    def test_again(self) -> None:
        """A service that was stopped can be started again."""
        service = self.periodic()
        service.stopService()
        service.startService()
        self.clock.advance(2)
        self.assertEqual(self.turns, [2])

    def test_noCatchUp(self) -> None:
        """Turns that were missed while the process stood still are not made up for."""
        self.periodic()
        self.clock.advance(11)
        self.clock.pump([0.5] * 4)
        self.assertEqual(self.turns, [11, 12])

    def test_noOverlap(self) -> None:
        """While a turn waits for its Deferred, no other begins."""
        self.periodic()
        self.result = Deferred()
        self.clock.pump([1] * 9)
        self.assertEqual(self.turns, [2])
        turn, self.result = self.result, None
        turn.callback(None)
        self.clock.pump([0.5] * 4)
        self.assertEqual(self.turns, [2, 10])

    def test_coroutine(self) -> None:
        """A turn may be a coroutine."""
        waiting: Deferred[None] = Deferred()

        async def turn() -> None:
            await waiting

        self.result = turn()
        service = self.periodic(now=True)
        stopped = service.stopService()
        self.assertNoResult(stopped)
        waiting.callback(None)
        self.successResultOf(stopped)

    def test_stopWaits(self) -> None:
        """The stop waits for the turn under way, if that fails as well."""
        for error in (None, ValueError("bad")):
            turn: Deferred[None] = Deferred()
            self.result = turn
            service = self.periodic(now=True)
            stopped = [service.stopService(), service.stopService()]
            for each in stopped:
                self.assertNoResult(each)
            turn.callback(None) if error is None else turn.errback(error)
            for each in stopped:
                self.successResultOf(each)
        self.flushLoggedErrors(ValueError)

    def test_stopWithin(self) -> None:
        """A turn may stop the service."""
        stopped: list[object] = []
        log = Logger()
        service = Periodic(
            self.clock, 2, lambda: stopped.append(service.stopService()), log=log, whenFails=""
        )
        service.startService()
        self.clock.pump([1] * 6)
        self.assertEqual(len(stopped), 1)

    def test_failure(self) -> None:
        """A turn that fails is logged with its traceback, and the next comes in time."""
        self.periodic()
        self.result = ValueError("bad")
        self.clock.advance(2)
        self.result = None
        self.clock.advance(2)
        self.assertEqual(self.turns, [2, 4])
        [event] = self.events
        self.assertEqual(event["log_format"], "The turn failed")
        self.assertEqual(event["log_failure"].getErrorMessage(), "bad")

    def test_failures(self) -> None:
        """If several turns in a row fail, only the first failure is logged."""
        self.periodic()
        for result in (ValueError("a"), ValueError("b"), None, ValueError("c")):
            self.result = result
            self.clock.advance(2)
        self.assertEqual(self.turns, [2, 4, 6, 8])
        self.assertEqual(
            [each["log_failure"].getErrorMessage() for each in self.events], ["a", "c"]
        )

    def test_lastTurn(self) -> None:
        """One more turn can be done after the stop."""
        service = self.periodic()
        service.stopService()
        self.successResultOf(service.turn())
        self.assertEqual(self.turns, [0])

    def test_turnUnderWay(self) -> None:
        """Another turn is not begun while one is under way: it is waited for."""
        turn: Deferred[None] = Deferred()
        self.result = turn
        service = self.periodic(now=True)
        other = service.turn()
        self.assertNoResult(other)
        turn.callback(None)
        self.successResultOf(other)
        self.assertEqual(self.turns, [0])

    def test_startedAgainInTurn(self) -> None:
        """A turn from before the stop holds up those after a new start."""
        turn: Deferred[None] = Deferred()
        self.result = turn
        service = self.periodic(now=True)
        service.stopService()
        service.startService()
        self.clock.pump([1] * 4)
        self.assertEqual(self.turns, [0])
        self.result = None
        turn.callback(None)
        self.clock.advance(2)
        self.assertEqual(self.turns, [0, 6])

    def test_cancel(self) -> None:
        """A turn that is cancelled ends, and is not logged; without one nothing happens."""
        service = self.periodic(now=True)
        service.cancel()
        self.result = Deferred()
        self.clock.advance(2)
        stopped = service.stopService()
        service.cancel()
        self.successResultOf(stopped)
        self.assertEqual(self.events, [])
