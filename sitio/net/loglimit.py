"""
Log lines that others can cause are few: L{LogLimit}.

Contract: the clock is passed in.
"""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime

#: Seconds between two log lines of one kind.
LOG_SECONDS = 60.0


class LogLimit:
    """Decides which events of one kind are logged: one in some seconds, at once."""

    def __init__(self, clock: IReactorTime, seconds: float = LOG_SECONDS) -> None:
        """@param seconds: between two log lines."""
        self._clock = clock
        self._seconds = seconds
        self._next = float("-inf")
        self._skipped = 0

    def due(self) -> int | None:
        """
        Decide on an event that happens now.

        @return: if it is to be logged, how many were skipped since the last one that was;
            else L{None}.
        """
        now = self._clock.seconds()
        if now < self._next:
            self._skipped += 1
            return None
        skipped, self._skipped = self._skipped, 0
        self._next = now + self._seconds
        return skipped
