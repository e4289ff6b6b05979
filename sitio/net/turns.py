"""
Long computations in turns of the reactor, so that clients are served in between.

A computation is a generator that yields after each small piece of work, and returns the
result.  What it yields is the piece's size, in microseconds or so: a number that depends on
the work alone, so that the same work takes the same turns on each machine.
See docs/decisions/0025-turns.md.

Contract: the clock is passed in; no I/O.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

#: The size of the pieces after which a turn ends.  A single piece is at most as large.
MAX_WORK = 120

#: After a turn, others have this many times as long as it took.
REST = 3

#: Characters of JSON that are one piece, and its size.
_CHARACTERS, _WRITTEN = 4096, 80

#: Characters of JSON that take as long as to begin with some.
_SHORT = 40

#: Bytes of a part of a document, and the size of the work to send one.
PART_BYTES, SENT = 64 * 1024, 50

#: Keys of the largest dict that is written as one piece.
_KEYS = 64

#: Items that are sorted as one piece.
_SORTED = 256

T = TypeVar("T")

#: A computation with a result.
Steps = Generator[int, None, T]


def inTurns(steps: Steps[T], clock: IReactorTime) -> Deferred[T]:
    """
    Do a computation: the first turn now, and each other after a rest, so that it takes a
    quarter of the time at most.

    @return: fires with the result, at once if one turn is enough.  Cancelling it ends the
        computation.
    """
    later: list[IDelayedCall] = []

    def cancelled(_: Deferred[T]) -> None:
        # Within a turn there is no call to cancel; the turn sees the cancelling at its end.
        if later and later[0].active():
            later[0].cancel()
            steps.close()

    done: Deferred[T] = Deferred(cancelled)

    def turn() -> None:
        began, work = clock.seconds(), 0
        try:
            while work < MAX_WORK:
                work += next(steps)
        except StopIteration as end:
            done.callback(end.value)
        except Exception:
            done.errback()
        else:
            if done.called:
                steps.close()
            else:
                later[:] = [clock.callLater(REST * (clock.seconds() - began), turn)]

    turn()
    return done


def atOnce(steps: Steps[T]) -> T:
    """Do a computation without a pause; returns the result."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result


def smallest(items: Iterable[T], most: int, key: Callable[[T], Any]) -> Steps[list[T]]:
    """The first items of C{sorted(items, key=key)}."""
    found: list[T] = []
    rest = iter(items)
    while some := list(islice(rest, _SORTED)):
        found = sorted([*found, *some], key=key)[:most]
        yield len(found) // 8 + len(some) // 8
    return found


def _pieces(data: Any, separators: tuple[str, str], levels: int) -> Iterator[str]:
    """What C{json.dumps} returns, in pieces."""
    if data and isinstance(data, (dict, list)) and (levels or _isLong(data)):
        comma, colon = separators
        pairs = data.items() if isinstance(data, dict) else ((None, each) for each in data)
        before = "{" if isinstance(data, dict) else "["
        for name, each in pairs:
            yield before if name is None else f"{before}{json.dumps(name)}{colon}"
            yield from _pieces(each, separators, max(0, levels - 1))
            before = comma
        yield "}" if isinstance(data, dict) else "]"
    else:
        yield json.dumps(data, separators=separators)


def _isLong(data: Any) -> bool:
    """Whether a dict has many keys, or a dict in it has."""
    return isinstance(data, dict) and any(
        len(each) > _KEYS for each in (data, *data.values()) if isinstance(each, dict)
    )


class Parts:
    """
    Bytes that are written bit by bit.  They stay in several parts: to join a megabyte would
    take longer than a turn.

    @ivar parts: what was written; complete after L{end}.
    """

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self._some: list[bytes] = []
        self._size = 0

    def add(self, data: bytes) -> None:
        """Write something short."""
        self._some.append(data)
        self._size += len(data)
        if self._size >= PART_BYTES:
            self.end()

    def end(self) -> list[bytes]:
        """Returns all parts."""
        self.parts.append(b"".join(self._some))
        self._some, self._size = [], 0
        return self.parts


def writeJson(
    data: Any, separators: tuple[str, str] = (", ", ": "), levels: int = 3
) -> Steps[list[bytes]]:
    """
    The JSON of a document, in parts.

    @param data: it must not change meanwhile.
    @param separators: as of C{json.dumps}.
    @param levels: of the document that are cut into pieces; all of a few KiB are one.
    """
    written, some, size = Parts(), list[str](), 0
    for each in _pieces(data, separators, levels):
        some.append(each)
        size += len(each) + _SHORT
        if size >= _CHARACTERS:
            written.add("".join(some).encode())
            some, size = [], 0
            yield _WRITTEN
    written.add("".join(some).encode())
    return written.end()
