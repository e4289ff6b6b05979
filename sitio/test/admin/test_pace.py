"""
Tests of L{sitio.admin.pace}: what the pages cost is bounded, however often they are asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from sitio.admin.pace import (
    MAX_REST_SECONDS,
    Paced,
    PacedSidecar,
)
from sitio.net.turns import REST
from sitio.telemetry.sidecar import ISidecar
from sitio.test.helpers.snapshots import workerSnapshot


class PacedTests(SynchronousTestCase):
    """Runs are shared, and leave time between them."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.runs: list[Deferred[Any]] = []
        self.paced: Paced[Any] = Paced(self.clock, self.begin)

    def begin(self) -> Deferred[Any]:
        """One run, which a test ends."""
        self.runs.append(Deferred())
        return self.runs[-1]

    def test_shared(self) -> None:
        """All who ask within a run get its result, or its failure."""
        for result in ("it", ZeroDivisionError()):
            callers = [self.paced.run() for _ in range(5)]
            run = self.runs.pop()
            self.assertEqual(self.runs, [])
            run.errback(result) if isinstance(result, Exception) else run.callback(result)
            for each in callers:
                if isinstance(result, Exception):
                    self.failureResultOf(each, ZeroDivisionError)
                else:
                    self.assertEqual(self.successResultOf(each), result)

    def test_rest(self) -> None:
        """After a run that takes a time, there is none for a multiple of it, up to a limit."""
        for took, rest in ((0.0, 0.0), (0.01, REST * 0.01), (1.0, MAX_REST_SECONDS)):
            self.paced.run()
            self.clock.advance(took)
            self.runs.pop().callback("old")
            waiting = [self.paced.run(), self.paced.run()]
            if rest:
                self.clock.advance(rest * 0.99)
                self.assertEqual(self.runs, [])
                self.clock.advance(rest * 0.02)
            self.runs.pop().callback("new")
            self.assertEqual([self.successResultOf(each) for each in waiting], ["new", "new"])
            self.assertEqual(self.runs, [])
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_share(self) -> None:
        """A flood of callers gets a quarter of the time, and each of them a result."""
        spent = 0.0
        for _ in range(100):
            caller = self.paced.run()
            while not self.runs:
                self.clock.advance(0.001)
            self.clock.advance(0.01)
            spent += 0.01
            self.runs.pop().callback(None)
            self.successResultOf(caller)
        self.assertLess(spent / self.clock.seconds(), 0.27)

    def test_cancelled(self) -> None:
        """A caller that leaves disturbs no other; the last one cancels the run."""
        one, other = self.paced.run(), self.paced.run()
        one.cancel()
        self.failureResultOf(one, CancelledError)
        self.assertFalse(self.runs[0].called)
        other.cancel()
        self.failureResultOf(other, CancelledError)
        self.assertTrue(self.runs[0].called)
        again = self.paced.run()
        self.runs[1].callback("it")
        self.assertEqual(self.successResultOf(again), "it")

    def test_cancelledInRest(self) -> None:
        """A caller that leaves before its run leaves nothing behind."""
        self.paced.run()
        self.clock.advance(0.1)
        self.runs.pop().callback(None)
        self.failureResultOf(self._cancelled(self.paced.run()), CancelledError)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.paced.run()
        self.clock.advance(1)
        self.assertEqual(len(self.runs), 1)

    def _cancelled(self, caller: Deferred[Any]) -> Deferred[Any]:
        caller.cancel()
        return caller


class _Sidecar:
    """A sidecar that takes a tenth of a second for each answer."""

    state = "serving"

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.asked: list[str] = []

    def snapshot(self) -> Deferred[Any]:
        """Spends a tenth of a second."""
        self.asked.append("snapshot")
        self.clock.advance(0.1)
        return succeed(workerSnapshot(3))

    def exchanges(self) -> Deferred[Any]:
        """The same."""
        self.asked.append("exchanges")
        self.clock.advance(0.1)
        return succeed({"failed": [], "recent": [], "open": []})

    def drain(self) -> None:
        """Told."""
        self.asked.append("drain")


class PacedSidecarTests(SynchronousTestCase):
    """A sidecar, at a bounded pace."""

    def test_paced(self) -> None:
        """Snapshots and exchanges leave time between them; all else passes."""
        clock = Clock()
        sidecar: Any = _Sidecar(clock)
        paced = PacedSidecar(sidecar, clock)
        verifyObject(ISidecar, paced)
        calls: list[Callable[[], Deferred[Any]]] = [paced.snapshot, paced.exchanges]
        for call in calls:
            self.successResultOf(call())
            late = [call() for _ in range(10)]
            self.assertEqual(len(sidecar.asked), 1)
            clock.advance(0.3)
            self.assertEqual(len(sidecar.asked), 2)
            for each in late:
                self.successResultOf(each)
            sidecar.asked.clear()
        paced.drain()
        self.assertEqual((paced.state, sidecar.asked), ("serving", ["drain"]))
