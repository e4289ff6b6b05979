"""
Decides when masking stops: L{Budget}.

Each good response that gets through renews the stored one, so a service that fails nearly
always would be masked for ever.  Hence good responses and failures are counted over windows
of L{WINDOW_SECONDS}.  When failures have prevailed for the whole budget, masking stops until
a window has more good responses than failures.
"""

from __future__ import annotations

from twisted.logger import Logger

#: Seconds over which good responses and failures are counted against each other: short
#: beside any budget, and long enough for a few requests.
WINDOW_SECONDS = 10


class Budget:
    """
    Whether failures may still be masked.

    Times are seconds on a clock that never goes back.
    """

    log = Logger()

    def __init__(self, seconds: float) -> None:
        """@param seconds: how long failures may prevail while they are masked."""
        self._seconds = seconds
        self._windowBegan = float("-inf")
        #: Good responses less failures in this window.
        self._balance = 0
        #: When failures began to prevail, or L{None}.
        self._failingSince: float | None = None
        self._warned = False

    def succeeded(self, now: float) -> None:
        """Count a response that can be stored, or that confirms a stored one."""
        if now - self._windowBegan >= WINDOW_SECONDS:
            self._startWindow(now)
        self._balance += 1

    def mayMask(self, now: float) -> bool:
        """Count a failure that could be masked, and return whether it may be."""
        if now - self._windowBegan >= WINDOW_SECONDS:
            self._startWindow(now)
        self._balance -= 1
        if self._failingSince is None:
            self._failingSince = now
        lasted = now - self._failingSince
        if lasted >= self._seconds and not self._warned:
            self._warned = True
            self.log.warn(
                "last-good stops masking: failures have prevailed for {lasted:.0f} seconds",
                lasted=lasted,
            )
        return lasted < self._seconds

    def _startWindow(self, now: float) -> None:
        # As many failures as good responses, or none of both, are no recovery.
        if self._balance > 0:
            self._failingSince = None
            self._warned = False
        self._windowBegan = now
        self._balance = 0
