"""
One timer for many deadlines.

A delayed call for each wait of each connection would be made and cancelled
several times a request.  Instead a connection carries its deadline as a number,
and one sweep looks at all of them a few times a second: setting a deadline is
an assignment.  A deadline is thus kept late by up to one period, never early.
"""

from __future__ import annotations

from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime

#: A deadline that never passes.
NEVER = float("inf")

#: Seconds between sweeps.  Timeouts are whole seconds and up; a quarter of one
#: is noticed by nobody, and ten thousand connections are looked over in 1 ms.
PERIOD = 0.25


class Watched(Protocol):
    """What a sweep looks at."""

    #: Seconds on the sweep's clock, or L{NEVER}.
    deadline: float

    def deadlinePassed(self) -> None:
        """The deadline lies in the past: do something, and set another or be forgotten."""


class Deadlines:
    """
    Calls C{deadlinePassed} of what it watches once its deadline has passed.

    It runs only while something is watched, so that nothing is left on the
    clock when the last connection has gone.
    """

    def __init__(self, clock: IReactorTime, period: float = PERIOD) -> None:
        self._clock = clock
        self._period = period
        self._watched: set[Watched] = set()
        self._call: IDelayedCall | None = None

    def watch(self, thing: Watched) -> None:
        """Begin to look at this thing's deadline."""
        self._watched.add(thing)
        if self._call is None:
            self._call = self._clock.callLater(self._period, self._sweep)

    def forget(self, thing: Watched) -> None:
        """Look at it no more; a thing that isn't watched is no error."""
        self._watched.discard(thing)
        if not self._watched and self._call is not None:
            self._call.cancel()
            self._call = None

    def _sweep(self) -> None:
        # Rescheduled first: what a late thing does may empty the set, which
        # cancels the call again.
        self._call = self._clock.callLater(self._period, self._sweep)
        now = self._clock.seconds()
        for thing in [each for each in self._watched if each.deadline <= now]:
            # What another late thing did may have ended this wait.
            if thing in self._watched and thing.deadline <= now:
                thing.deadlinePassed()
