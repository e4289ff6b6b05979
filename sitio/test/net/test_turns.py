"""
Tests of L{sitio.net.turns}: long computations leave the reactor to others.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from sitio.net.turns import (
    MAX_WORK,
    PART_BYTES,
    REST,
    Parts,
    Steps,
    atOnce,
    inTurns,
    smallest,
    writeJson,
)
from sitio.test.helpers.snapshots import workerSnapshot


class TurnTests(SynchronousTestCase):
    """A computation, in turns."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.done: list[int] = []
        self.closed = 0

    def work(self, *sizes: int, seconds: float = 0.0) -> Steps[str]:
        """Does pieces of these sizes, each in so many seconds."""
        try:
            for each in sizes:
                self.done.append(each)
                self.clock.rightNow += seconds
                yield each
            return "result"
        finally:
            self.closed += 1

    def test_short(self) -> None:
        """What fits into one turn is done at once."""
        for sizes in ((), (1,), (1, MAX_WORK - 2)):
            self.assertEqual(self.successResultOf(inTurns(self.work(*sizes), self.clock)), "result")

    def test_long(self) -> None:
        """A turn ends with the piece that reaches the limit."""
        result = inTurns(self.work(*[MAX_WORK // 2] * 5, seconds=1), self.clock)
        for done in (2, 4):
            self.assertEqual(len(self.done), done)
            self.assertNoResult(result)
            self.clock.advance(REST * 2)
        self.assertEqual(self.successResultOf(result), "result")

    def test_rest(self) -> None:
        """After a turn others have several times as long."""
        result = inTurns(self.work(MAX_WORK, 1, seconds=0.5), self.clock)
        self.clock.advance(REST * 0.49)
        self.assertEqual(len(self.done), 1)
        self.clock.advance(REST * 0.02)
        self.assertEqual(self.successResultOf(result), "result")

    def test_fails(self) -> None:
        """An exception, in the first turn or later, is a failure."""

        def failing(*sizes: int) -> Steps[None]:
            yield from sizes
            raise ZeroDivisionError

        for sizes in ((), (MAX_WORK,)):
            result = inTurns(failing(*sizes), self.clock)
            self.clock.advance(0)
            self.failureResultOf(result, ZeroDivisionError)

    def test_cancelled(self) -> None:
        """A cancelled computation ends, and leaves nothing behind."""
        result = inTurns(self.work(MAX_WORK, MAX_WORK), self.clock)
        result.cancel()
        self.failureResultOf(result, CancelledError)
        self.assertEqual((self.clock.getDelayedCalls(), self.closed), ([], 1))

    def test_cancelledWithin(self) -> None:
        """A computation that is cancelled by one of its own pieces ends with that turn."""

        def cancelling(*sizes: int) -> Steps[None]:
            try:
                yield from sizes
                result.cancel()
                yield MAX_WORK
                self.done.append(1)
            finally:
                self.closed += 1

        result = inTurns(cancelling(MAX_WORK), self.clock)
        self.clock.advance(0)
        self.failureResultOf(result, CancelledError)
        self.clock.advance(1)
        self.assertEqual((self.done, self.closed, self.clock.getDelayedCalls()), ([], 1, []))

    def test_atOnce(self) -> None:
        """Who can wait has the result without a pause."""
        self.assertEqual(atOnce(self.work(*[MAX_WORK] * 9)), "result")


class SmallestTests(SynchronousTestCase):
    """The first items of many."""

    def test_same(self) -> None:
        """They are those of a sorted list, in its order, of equals the first."""
        for count in (0, 1, 5, 1000):
            items = [(each * 7919 % 101, each) for each in range(count)]
            for most in (0, 1, 10, 2000):
                found = atOnce(smallest(iter(items), most, lambda item: item[0]))
                self.assertEqual(found, sorted(items, key=lambda item: item[0])[:most])

    def test_pieces(self) -> None:
        """Of many items some are looked at in one piece."""
        pieces = list(smallest(range(10_000), 200, lambda item: -item))
        self.assertGreater(len(pieces), 30)
        self.assertLessEqual(max(pieces), MAX_WORK)


class JSONTests(SynchronousTestCase):
    """JSON that is written in several turns."""

    def test_same(self) -> None:
        """It is what C{json.dumps} writes, whatever the value."""
        values: tuple[Any, ...] = (
            *(None, 1, "ä", "", [], {}, [[]], {"a": {}}, [1, [2, [3, [4, [5]]]]]),
            {"a": {"b": [{"c": [1, 2]}, {"d": None}], "e": 1.5}, 'q"': [], "": {}},
            {"a": [[{"b": {"c": {str(each): {"d": [each]} for each in range(100)}}}]]},
            workerSnapshot(3),
        )
        for data in values:
            for levels in (0, 2, 9):
                written = b"".join(atOnce(writeJson(data, levels=levels)))
                self.assertEqual(written.decode(), json.dumps(data))
            short = b"".join(atOnce(writeJson(data, (",", ":"))))
            self.assertEqual(short.decode(), json.dumps(data, separators=(",", ":")))

    def pieces(self, data: Any) -> Iterator[int]:
        """The bytes that are written until each pause."""
        last = 0
        written: list[bytes] = []
        steps: Any = writeJson(data)
        for each in steps:
            self.assertLessEqual(each, MAX_WORK)
            parts: Parts = steps.gi_frame.f_locals["written"]
            written = [*parts.parts, *parts._some]
            now = sum(map(len, written))
            yield now - last
            last = now

    def test_pieces(self) -> None:
        """A piece of a long document has a few KiB, whichever list or dict in it is long."""
        row = {"route": "x" * 1000, "number": 1}
        for data in (
            {"metrics": {"endpoints": [row] * 500}, "rest": 1},
            {"metrics": {"routes": [{"durations": {str(each): row for each in range(500)}}]}},
        ):
            pieces = list(self.pieces(data))
            self.assertGreater(len(pieces), 90)
            self.assertLess(max(pieces), 8 * 1024)

    def test_parts(self) -> None:
        """The parts are of some length, so that there are few."""
        parts = atOnce(writeJson([["x" * 1000] * 100] * 10))
        self.assertEqual(len(parts), 15)
        self.assertLess(max(map(len, parts)), PART_BYTES + 8 * 1024)
