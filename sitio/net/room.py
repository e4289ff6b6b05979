"""
How many connections ports may have open.

  - L{Room} is that number, for one or more ports.
  - L{SpareDescriptors} keeps descriptors for a port that must answer at the limit, too.
"""

from __future__ import annotations

import os
from collections.abc import Callable

#: The limit of a L{Room} that never fills.
NO_LIMIT = 2**63


class PausingPort:
    """
    A port that pauses while there is no room.

    @ivar room: how many connections there may be; without it there is no limit.
    @ivar spare: descriptors for this port alone, or L{None}.
    """

    room: Room
    spare: SpareDescriptors | None = None

    def resume(self) -> None:
        """Go on after a pause."""
        raise NotImplementedError


class Room:
    """
    How many connections may be open at once, on all ports that have this object.

    A connection counts from when it is accepted until its descriptor is closed.

    @ivar limit: the largest number.
    @ivar taken: how many are open.
    """

    def __init__(self, limit: int, onFull: Callable[[], object] = lambda: None) -> None:
        """
        @param onFull: called each time that a port begins to wait as the limit is reached.
        """
        self.limit = limit
        self.taken = 0
        self._onFull = onFull
        self._waiting: set[PausingPort] = set()

    def take(self) -> None:
        """Count one more."""
        self.taken += 1

    def leave(self) -> None:
        """Count one less, and let ports that wait for that go on."""
        self.taken -= 1
        while self._waiting:
            self._waiting.pop().resume()

    def waitFor(self, port: PausingPort) -> None:
        """Call C{port.resume} once, when a connection has closed."""
        self._waiting.add(port)
        if self.taken >= self.limit:
            self._onFull()

    def forget(self, port: PausingPort) -> None:
        """Do not call this port."""
        self._waiting.discard(port)


class SpareDescriptors:
    """
    Descriptors that are kept open, and closed one by one when a port needs them.

    @ivar count: how many are kept.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._kept: list[int] = []

    def keep(self) -> None:
        """Open as many as there should be, or as many as the process can."""
        try:
            while len(self._kept) < self.count:
                self._kept.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        except OSError:
            pass

    def give(self) -> bool:
        """Close one, so that its number can be used; returns whether there was one."""
        if self._kept:
            os.close(self._kept.pop())
            return True
        return False

    def giveAll(self) -> None:
        """Close them all, for a moment or for ever."""
        while self._kept:
            os.close(self._kept.pop())
