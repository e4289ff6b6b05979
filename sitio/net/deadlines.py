"""
One timer for many deadlines: L{Deadlines}.

A delayed call for each wait of each connection would be made and cancelled
several times a request.  Instead, connections and exchanges each carry their
deadline as a number, and one sweep looks at all of them four times a second:
to set a deadline is an assignment.  A deadline is noticed up to one period late,
never early.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime

#: A deadline that never passes.
NEVER = float("inf")

#: Seconds between sweeps.  Timeouts are whole seconds, so a quarter of one more does
#: not matter.
PERIOD_SECONDS = 0.25

#: Deadlines that a sweep looks at in one turn of the reactor, which takes some 0.1 ms.
MAX_LOOKS = 2000


class Watched(Protocol):
    """
    Something with a deadline.

    @ivar deadline: seconds on the clock of L{Deadlines}, or L{NEVER}.
    """

    deadline: float

    def deadlinePassed(self) -> None:
        """The deadline has passed: act, and set another deadline or stop being watched."""


class Deadlines:
    """
    Calls C{deadlinePassed} of what it watches once its deadline has passed.

    The sweep runs while L{watch}ed things exist, so that nothing is left on the
    clock when the last connection has closed.
    """

    def __init__(self, clock: IReactorTime, period: float = PERIOD_SECONDS) -> None:
        self._clock = clock
        self._period = period
        self._watched: set[Watched] = set()
        self._groups: list[AbstractSet[Watched]] = [self._watched]
        self._call: IDelayedCall | None = None
        self._left: list[Watched] = []

    def watch(self, thing: Watched) -> None:
        """Begin to watch this thing's deadline."""
        self._watched.add(thing)
        if self._call is None:
            self._call = self._clock.callLater(self._period, self._sweep)

    def forget(self, thing: Watched) -> None:
        """Stop watching it; a thing that is not watched is no error."""
        self._watched.discard(thing)
        if not self._watched and self._call is not None:
            self._call.cancel()
            self._call = None

    def watchGroup(self, group: AbstractSet[Watched]) -> None:
        """
        Watch the members of this set too, which its owner adds and removes itself.

        They do not keep the sweep running: exchanges are in such a set, and end
        before their connections do.
        """
        self._groups.append(group)

    def _sweep(self) -> None:
        self._left = [each for group in self._groups for each in group]
        self._look()

    def _look(self) -> None:
        """Look at some that are left, and at the others in the next turns of the reactor."""
        some, self._left = self._left[:MAX_LOOKS], self._left[MAX_LOOKS:]
        # Rescheduled first: what a late thing does may empty the set, which
        # cancels the call again.
        if self._left:
            self._call = self._clock.callLater(0, self._look)
        else:
            self._call = self._clock.callLater(self._period, self._sweep)
        now = self._clock.seconds()
        for thing in [each for each in some if each.deadline <= now]:
            # What another late thing did may have ended this wait.
            if thing.deadline <= now and any(thing in group for group in self._groups):
                thing.deadlinePassed()
