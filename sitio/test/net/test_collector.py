"""
Tests of L{sitio.net.collector}.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from threading import Thread, get_ident
from types import ModuleType
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from sitio.net.collector import (
    LOOKS,
    LOOKS_BEFORE_ALL,
    MAX_TRIES,
    NEW_OBJECTS,
    TRY_SECONDS,
    Collector,
)


class Cycle:
    """An object that only the collector frees."""

    def __init__(self) -> None:
        self.itself = self


class Reactor(Clock):
    """
    A clock of one thread.

    @ivar asked: the calls from threads, to be made with C{turn}.
    """

    def __init__(self) -> None:
        Clock.__init__(self)
        self.thread = get_ident()
        self.asked: list[Callable[[], object]] = []

    def callFromThread(self, function: Callable[[], object]) -> None:
        self.asked.append(function)

    def turn(self) -> None:
        """Make these calls."""
        while self.asked:
            self.asked.pop()()

    def callLater(self, *call: Any) -> Any:  # type: ignore[override]
        assert get_ident() == self.thread, "a timer is set by another thread"
        return Clock.callLater(self, *call)


class CollectorTests(SynchronousTestCase):
    """The collector looks at few objects at a time, and frees what is garbage all the same."""

    def setUp(self) -> None:
        self.clock = Reactor()
        self.busy = False
        self.collector = Collector(self.clock, lambda: self.busy)
        self.addCleanup(gc.set_threshold, *gc.get_threshold())
        self.addCleanup(gc.callbacks.__setitem__, slice(None), list(gc.callbacks))
        self.addCleanup(gc.unfreeze)
        self.addCleanup(gc.enable)

    def test_start(self) -> None:
        """The objects that exist are not looked at, and new ones less often."""
        gc.disable()
        self.collector.start()
        self.assertTrue(gc.isenabled())
        self.assertGreater(gc.get_freeze_count(), 10_000)
        self.assertEqual(gc.get_threshold()[0], NEW_OBJECTS)

    def test_other(self) -> None:
        """A collector without C{gc.freeze} is enabled, and else stays as it is."""
        before = gc.get_threshold(), list(gc.callbacks)
        other = ModuleType("gc")
        vars(other).update(enable=gc.enable)
        self.patch(sys.modules["sitio.net.collector"], "gc", other)
        gc.disable()
        self.collector.start()
        self.assertTrue(gc.isenabled())
        self.assertEqual((gc.get_threshold(), list(gc.callbacks)), before)

    def test_bounded(self) -> None:
        """However many objects there are, each look is at a bounded number of them."""
        self.collector.start()
        seen: list[int] = []

        def began(phase: str, info: dict[str, Any]) -> None:
            if phase == "start":
                looked = range(info["generation"] + 1)
                seen.append(sum(len(gc.get_objects(generation=each)) for each in looked))

        gc.callbacks.append(began)
        kept = [[each] for each in range(20 * LOOKS * NEW_OBJECTS)]
        self.assertGreater(len(seen), 20)
        self.assertLess(max(seen), 2 * (LOOKS + 1) * NEW_OBJECTS)
        del kept

    def test_youngGarbage(self) -> None:
        """Cycles that are young when it looks are freed at once."""
        self.collector.start()
        for _ in range(10 * NEW_OBJECTS):
            Cycle()
        left = sum(type(each) is Cycle for each in gc.get_objects())
        self.assertLess(left, 2 * (LOOKS + 1) * NEW_OBJECTS)

    def grow(self) -> None:
        """Make as many objects as it takes until all are looked at."""
        kept: list[list[list[int]]] = []
        while not self.clock.asked:
            kept.append([[each] for each in range(NEW_OBJECTS)])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_anyThread(self) -> None:
        """
        Where the collector runs nothing is done to the reactor, as that may be another thread,
        or in the middle of its work.  It is asked once.
        """
        self.collector.start()
        for _ in range(2):
            thread = Thread(target=self.grow)
            thread.start()
            thread.join()
            for _ in range(2 * LOOKS * LOOKS_BEFORE_ALL):
                gc.collect(1)
            self.assertEqual(len(self.clock.asked), 1)
            self.clock.turn()
            self.assertEqual(len(self.clock.getDelayedCalls()), 1)
            self.clock.advance(TRY_SECONDS)
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def old(self) -> None:
        """Make a cycle that is no longer young when it becomes garbage."""
        cycle = Cycle()
        gc.collect()
        del cycle

    def cycles(self) -> int:
        """How many of them there are."""
        gc.unfreeze()
        return sum(type(each) is Cycle for each in gc.get_objects())

    def test_oldGarbage(self) -> None:
        """Older cycles are freed by the look at all objects, in a moment without traffic."""
        self.collector.start()
        self.old()
        self.busy = True
        self.grow()
        self.clock.turn()
        self.clock.pump([TRY_SECONDS] * (MAX_TRIES // 2))
        self.assertEqual(self.cycles(), 1)
        gc.freeze()
        self.busy = False
        self.clock.advance(TRY_SECONDS)
        self.assertEqual((self.cycles(), self.clock.getDelayedCalls()), (0, []))

    def test_alwaysBusy(self) -> None:
        """A sitio that is never idle does it after a minute, and again after as many objects."""
        self.collector.start()
        self.busy = True
        for _ in range(2):
            self.old()
            self.grow()
            self.clock.turn()
            self.clock.pump([TRY_SECONDS] * MAX_TRIES)
            self.assertEqual((self.cycles(), self.clock.getDelayedCalls()), (0, []))
            gc.freeze()
        self.assertEqual(MAX_TRIES * TRY_SECONDS, 60)

    def test_seldom(self) -> None:
        """It takes some hundred thousand objects until all are looked at."""
        self.assertGreater(LOOKS_BEFORE_ALL * LOOKS * NEW_OBJECTS, 300_000)
