"""
Bounds what the pages cost the clients of the sidecar, however often they are asked for.

A full table of endpoints has megabytes of metrics.  So L{PacedSidecar} takes snapshots one at
a time, for all who want one, and leaves most of the time between two of them to others.

Contract: the clock is passed in; no I/O.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer

from sitio.net.turns import REST
from sitio.telemetry.records import ExchangeLists
from sitio.telemetry.sidecar import ISidecar
from sitio.telemetry.snapshot import SidecarSnapshot

#: Seconds that this is at most, as a worker that does not answer makes a run long.
MAX_REST_SECONDS = 0.5

T = TypeVar("T")


class Paced(Generic[T]):
    """
    Runs a function once for all callers that wait, and after each run lets some time pass.

    So a caller never gets what was old when it asked, and all runs together take a quarter
    of the time at most.
    """

    def __init__(self, clock: IReactorTime, function: Callable[[], Deferred[T]]) -> None:
        self._clock = clock
        self._function = function
        self._callers: list[Deferred[T]] = []
        self._running: Deferred[T] | None = None
        self._restsUntil = float("-inf")
        self._later: IDelayedCall | None = None

    def run(self) -> Deferred[T]:
        """
        Join the run under way or the next one.

        @return: the result.  A caller that cancels it disturbs no other; the last one
            cancels the run.
        """
        caller: Deferred[T] = Deferred(self._forget)
        self._callers.append(caller)
        if self._running is None and self._later is None:
            rest = self._restsUntil - self._clock.seconds()
            if rest > 0:
                self._later = self._clock.callLater(rest, self._begin)
            else:
                self._begin()
        return caller

    def _forget(self, caller: Deferred[T]) -> None:
        self._callers.remove(caller)
        if self._callers:
            return
        if self._later is not None:
            self._later.cancel()
            self._later = None
        if self._running is not None:
            self._running.cancel()

    def _begin(self) -> None:
        self._later = None
        began = self._clock.seconds()
        self._running = maybeDeferred(self._function)
        self._running.addBoth(self._ended, began)

    def _ended(self, result: Any, began: float) -> None:
        self._running = None
        now = self._clock.seconds()
        self._restsUntil = now + min(MAX_REST_SECONDS, REST * (now - began))
        callers, self._callers = self._callers, []
        for each in callers:
            each.callback(result)


@implementer(ISidecar)
class PacedSidecar:
    """Another sidecar, whose snapshots and exchanges are L{Paced}."""

    def __init__(self, sidecar: ISidecar, clock: IReactorTime) -> None:
        self._sidecar = sidecar
        self._snapshots: Paced[SidecarSnapshot] = Paced(clock, sidecar.snapshot)
        self._exchanges: Paced[ExchangeLists] = Paced(clock, sidecar.exchanges)

    @property
    def state(self) -> str:
        """See L{ISidecar}."""
        state: str = self._sidecar.state
        return state

    def snapshot(self) -> Deferred[SidecarSnapshot]:
        """See L{ISidecar}.  Nobody changes it: others may have the same one."""
        return self._snapshots.run()

    def exchanges(self) -> Deferred[ExchangeLists]:
        """See L{ISidecar}.  Nobody changes them, as of a snapshot."""
        return self._exchanges.run()

    def warnings(self) -> list[str]:
        """See L{ISidecar}."""
        return self._sidecar.warnings()

    def drain(self) -> None:
        """See L{ISidecar}."""
        self._sidecar.drain()
